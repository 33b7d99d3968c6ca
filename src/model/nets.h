/* The built-in networks, one builder for each family; model_table.c has their rows. Private to the room. */
#ifndef DT_MODEL_NETS_H
#define DT_MODEL_NETS_H

#include "model/model_table.h"

typedef struct dt_resnet_shape {
    int32_t blocks[4]; /* of each stage */
    bool bottleneck;
    int64_t groups, group_width; /* of a bottleneck's middle convolution: ResNeXt; 0: 1 of 64 */
} dt_resnet_shape;

/* Of text (net_text.h): published sizes. */
typedef struct dt_text_shape {
    int32_t blocks, channels; /* of recurrent networks: layers, width of the embedding */
    int32_t heads, kv_heads;  /* kv_heads 0: heads */
    int32_t hidden;           /* 0: as the family has it */
    bool untied;              /* the head has a weight of its own */
    double theta;             /* of rotary places */
} dt_text_shape;

enum { DT_MBCONV_STAGES = 7 };
/* Inverted residual blocks (Sandler et al. 2018): `layers` of one width, of which the first has the stride. */
typedef struct dt_mbconv_stage {
    bool fused; /* one full convolution in place of expansion and depthwise one */
    int16_t expand, kernel, stride, channels, layers;
} dt_mbconv_stage;

typedef struct dt_efficientnet_shape {
    dt_mbconv_stage stage[DT_MBCONV_STAGES];
    int64_t stem, last; /* channels of the first and the last convolution; last 0: 4 times the last stage's */
    double width, depth; /* factors of channels and layers */
    double dropout;
    double bn_eps, bn_momentum; /* 0: the usual ones */
} dt_efficientnet_shape;

enum { DT_MOBILENET_V3_BLOCKS = 15 };
typedef struct dt_mobilenet_v3_shape {
    struct dt_mobilenet_v3_block {
        int16_t kernel, expanded, channels;
        bool squeeze, hardswish;
        int16_t stride;
    } block[DT_MOBILENET_V3_BLOCKS];
    int64_t hidden; /* of the classifier */
} dt_mobilenet_v3_shape;

typedef struct dt_convnext_shape {
    int32_t blocks[4];
    int64_t width; /* of the first stage; each has twice that of the one before */
    double drop_path;
} dt_convnext_shape;

typedef struct dt_vit_shape {
    int64_t patch, layers, heads, width;
    bool timm;      /* its names and initial weights; else torchvision's */
    bool distilled; /* a second token with a head of its own; the result is the mean of both */
} dt_vit_shape;

typedef struct dt_widths {
    int16_t width[DT_WIDTHS_MAX];
} dt_widths;

dt_net_fn dt_net_resnet;       /* shape: dt_resnet_shape */
dt_net_fn dt_net_efficientnet; /* dt_efficientnet_shape */
dt_net_fn dt_net_mobilenet_v2;
dt_net_fn dt_net_mobilenet_v3;                                     /* dt_mobilenet_v3_shape */
dt_net_fn dt_net_convnext;                                         /* dt_convnext_shape */
dt_net_fn dt_net_vit;                                              /* dt_vit_shape */
dt_net_fn dt_net_mlp, dt_net_autoencoder, dt_net_conv_autoencoder; /* dt_widths */
dt_net_fn dt_net_quickstart;                                       /* five convolutions for 28x28 images */
dt_net_fn dt_net_gpt2, dt_net_llama, dt_net_bert, dt_net_lstm_lm, dt_net_gru_lm,
    dt_net_lstm_classifier; /* shape: dt_text_shape */
dt_net_fn dt_net_file;      /* the network of model.path */
dt_net_fn dt_net_layers;    /* [[model.layers]] of the configuration */
/* Of those, with the losses: each layer reaches one. The first that does not sticks an error. */
void dt_net_layers_check(dt_builder *b, const dt_model_options *o);

/* ---- what networks are written with: net_parts.c ---- */

typedef struct dt_net_name {
    char s[DT_NAME_MAX];
} dt_net_name;
/* Parts of a name put together; .s of it. */
dt_net_name dt_net_join(const char *format, ...) DT_PRINTF(1, 2);

enum { DT_NET_LINEAR = -1 }; /* no function */
/* A convolution without bias, the batch norm on it and a function of dt_unary, or none. The nodes of functions are
 * called "<norm>.act". Begins as torchvision's. */
dt_vid dt_net_conv_bn(dt_builder *b, const char *conv, const char *norm, dt_vid x, const dt_conv2d_options *o,
                      const dt_batchnorm_options *bn, int function);
dt_vid dt_net_function(dt_builder *b, const char *name, dt_vid x, dt_unary function);
/* A parameter of the network itself. */
dt_vid dt_net_param(dt_builder *b, const char *name, int32_t ndim, const int64_t *dim, dt_init init,
                    double std);
/* How a parameter "<layer>.<what>" begins. */
void dt_net_init(dt_builder *b, const char *layer, const char *what, dt_init init, double std);
/* How all begin that are there: filters and matrices N(0, std^2), biases at 0. */
void dt_net_init_normal(dt_builder *b, double std);
/* Kaiming's normal of PyTorch's fan out, which does not divide by groups. Biases at 0. */
void dt_net_init_conv(dt_builder *b, const char *layer);
/* The rate of a key, or the reference's where it is not set. */
double dt_net_rate(double key, double reference);
/* Nothing, or dropout, or whole rows dropped, of rate > 0. */
dt_vid dt_net_dropout(dt_builder *b, const char *name, dt_vid x, double rate);
dt_vid dt_net_drop_path(dt_builder *b, const char *name, dt_vid x, double rate);
/* [N, H, W, C] as [N, H W, C], and back. */
dt_vid dt_net_places(dt_builder *b, const char *name, dt_vid x);
dt_vid dt_net_image(dt_builder *b, const char *name, dt_vid x, int64_t height, int64_t width);
/* Whether x is images; else an error sticks. */
bool dt_net_need_images(dt_builder *b, dt_vid x);

/* One inverted residual block, "<prefix>0.0.weight" and so on. */
typedef struct dt_mbconv {
    const char *name, *prefix; /* "features.1.0.", "block." below it */
    int64_t kernel, stride, expanded, channels;
    int64_t squeeze; /* channels of the squeeze and excite; 0: none */
    int64_t squeeze_function, gate;
    dt_unary function;
    bool fused;
    bool plain_projection; /* its convolution and norm are modules of their own, as MobileNet V2 names them */
    dt_batchnorm_options bn;
    double drop_path;
} dt_mbconv;
dt_vid dt_net_mbconv(dt_builder *b, dt_vid x, const dt_mbconv *o);
/* The nearest multiple of 8 that is not below nine tenths. */
int64_t dt_net_channels(double channels);

#endif
