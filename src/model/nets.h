/* The built-in networks, one builder for each family; model_table.c has their rows. Private to the room. */
#ifndef DT_MODEL_NETS_H
#define DT_MODEL_NETS_H

#include "model/model_table.h"

typedef struct dt_resnet_shape {
    int32_t blocks[4]; /* of each stage */
    bool bottleneck;
} dt_resnet_shape;

/* Of text (net_text.h): published sizes. */
typedef struct dt_text_shape {
    int32_t blocks, channels; /* of recurrent networks: layers, width of the embedding */
    int32_t heads, kv_heads;  /* kv_heads 0: heads */
    int32_t hidden;           /* 0: as the family has it */
    bool untied;              /* the head has a weight of its own */
    double theta;             /* of rotary places */
} dt_text_shape;

dt_net_fn dt_net_resnet;     /* shape: dt_resnet_shape */
dt_net_fn dt_net_quickstart; /* five convolutions for 28x28 images */
dt_net_fn dt_net_gpt2, dt_net_llama, dt_net_bert, dt_net_lstm_lm, dt_net_gru_lm,
    dt_net_lstm_classifier; /* shape: dt_text_shape */
dt_net_fn dt_net_layers;    /* [[model.layers]] of the configuration */
/* Of those, with the losses: each layer reaches one. The first that does not sticks an error. */
void dt_net_layers_check(dt_builder *b, const dt_model_options *o);

#endif
