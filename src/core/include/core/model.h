/* Models: C builders that describe a network as a forward graph. */
#ifndef DT_CORE_MODEL_H
#define DT_CORE_MODEL_H

#include <stdio.h>

#include "core/config.h"
#include "core/graph.h"

typedef struct dt_model_input {
    int64_t batch;           /* rows of a (micro-)batch */
    int64_t height, width;   /* of the network's input */
    int64_t channels;        /* of the stored image */
    int64_t padded_channels; /* >= channels: what the device wants, if only convolutions of one group
                                read the image */
    int64_t classes;
    bool source_crop; /* the device crops from source images of src_height x src_width */
    int64_t src_height, src_width;
    float mean[4], stddev[4];
} dt_model_input;

/* Builds the forward graph of c->model.name for this input, ending in XENT, with fused BN activations. */
dt_status dt_model_build(const dt_config *c, const dt_model_input *in, dt_dtype compute, bool training,
                         dt_graph **out);

/* Names of the models, ending in NULL: the choices of model.name. */
extern const char *const dt_model_choices[];

/* Layer by layer: output shape, parameters, FLOPs (forward, one sample); totals at the end. */
void dt_model_print(const dt_graph *forward, FILE *out);
/* Forward FLOPs of one sample, and the number of trained parameters. */
double dt_model_flops(const dt_graph *forward);
int64_t dt_model_n_param(const dt_graph *forward);

#endif
