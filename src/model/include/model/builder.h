/* Helpers for writing models: each adds one layer with its parameters and returns the output value. The first
 * error sticks in the builder; later calls do nothing, so a model reads as a list of layers and is checked
 * once. */
#ifndef DT_MODEL_BUILDER_H
#define DT_MODEL_BUILDER_H

#include "core/graph.h" /* with dtrain.h, where the options of layers stand */

enum { DT_FIELD_LIST = DT_FIELDS_MAX * (DT_FIELD_NAME_MAX + 2) };

typedef struct dt_builder {
    dt_graph *g;
    int64_t rows;          /* of a (micro-)batch */
    const dt_field *field; /* of the data: what may be an input or a target. NULL: images with labels */
    int32_t n_field;
    int64_t n_vocab;            /* of the data's tokens; 0: they are none */
    double bn_eps, bn_momentum; /* of batch norms without their own; 0: 1e-5 and 0.1 */
    double label_smoothing;     /* of the loss of a training graph */
    bool mixed;                 /* labels of rows are mixed with others': dt_model_input */
    int64_t table_side;         /* dt_model_input */
    dt_status status;
    int32_t
        n_silent; /* nodes that dropout does not count: between images and dense layers, colours that a device edits */
} dt_builder;

/* What a model is fed. */
typedef struct dt_model_input {
    int64_t batch;           /* rows of a (micro-)batch */
    int64_t height, width;   /* of the network's input */
    int64_t channels;        /* of the stored image */
    int64_t padded_channels; /* >= channels: what the device wants, if only convolutions of one group
                                read the image */
    int64_t classes;
    int64_t table_side; /* of the images, in pixels, whose places learnt vectors are for; 0: of those fed */
    int64_t n_vocab;    /* tokens are 0 to n_vocab - 1; 0: they are none, or it is not known */
    const dt_field *field; /* of the data beside the image; NULL: a label */
    int32_t n_field;
    bool source_crop; /* the device crops from source images of src_height x src_width */
    int64_t src_height, src_width;
    bool edits;    /* the device edits colours: field "edit" */
    bool mix_rows; /* images are erased or mixed: field "mix" */
    bool mixed;    /* labels are mixed: fields "partner" and "share" */
    float mean[4], stddev[4];
    double label_smoothing; /* of the loss in training */
} dt_model_input;

typedef struct dt_dropout_options {
    double rate;
} dt_dropout_options;

/* Of a function with scalars (core/scalar.h), in its order. */
typedef struct dt_scalar_options {
    double a, b;
} dt_scalar_options;

typedef struct dt_tied_options {
    char to[64]; /* name of a layer */
} dt_tied_options;

typedef struct dt_dimension_options {
    int64_t axis; /* 0: the last one */
} dt_dimension_options;

typedef struct dt_reshape_options {
    double shape[DT_MAX_DIM - 1]; /* of a row, whole numbers; one may be -1: what remains. None: flat */
    int32_t n_shape;
} dt_reshape_options;

typedef struct dt_swap_options {
    int64_t first, second; /* dimensions; 0: the last one */
} dt_swap_options;

typedef struct dt_concat_options {
    int64_t axis; /* 0: the last one */
} dt_concat_options;

typedef struct dt_adaptive_pool_options {
    int64_t height; /* of the result; needed */
    int64_t width;  /* 0: height */
} dt_adaptive_pool_options;

typedef struct dt_eps_options {
    double eps;
} dt_eps_options;

typedef struct dt_gather_options {
    int64_t axis; /* whose rows are taken; 0: 1 */
} dt_gather_options;

typedef struct dt_one_hot_options {
    int64_t classes; /* needed */
} dt_one_hot_options;

typedef struct dt_slice_options {
    int64_t axis;   /* 0: the last one */
    int64_t begin;  /* below 0: from the end */
    int64_t length; /* 0: to the end */
} dt_slice_options;

typedef struct dt_pad_options {
    int64_t axis; /* 0: the last one */
    int64_t before, after;
} dt_pad_options;

enum { DT_SPLIT_SIZES = 8, DT_SPLIT_PARTS = 32 };
typedef struct dt_split_options {
    int64_t axis;  /* 0: the last one */
    int64_t parts; /* equal ones; 0: 2 */
    double sizes[DT_SPLIT_SIZES];
    int32_t n_sizes; /* 0: equal parts */
} dt_split_options;

/* Images, normalised, N H W C. */
dt_vid dt_build_image(dt_builder *b, const dt_model_input *in);
/* The data's field of that name, in the type that the graph computes in; single numbers as rows of one [N, 1].
 * Each may be asked for several times. */
dt_vid dt_build_input(dt_builder *b, const char *field);
/* The first field that is no target. target "": as dt_build_target has it. */
dt_vid dt_build_first_input(dt_builder *b, const char *target);
/* The same in another type: f32, or i32 of whole numbers. */
dt_vid dt_build_input_as(dt_builder *b, const char *field, dt_dtype dtype);
/* v, or a cast of it where it is of another type. */
dt_vid dt_build_as(dt_builder *b, dt_vid v, dt_dtype dtype);
/* Of images N H W C, sequences N L C, volumes N D H W C. Weight "<name>.weight" [K,R,S,C/G], [K,R,C/G], [K,T,R,S,C/G], bias
 * "<name>.bias". */
dt_vid dt_build_conv(dt_builder *b, const char *name, dt_vid x, const dt_conv2d_options *o);
/* On the last dimension of x; an image N H W C is flattened first. */
dt_vid dt_build_dense(dt_builder *b, const char *name, dt_vid x, int64_t features, bool bias);
/* "<name>.weight", ".bias", ".running_mean", ".running_var"; options NULL: all 0. */
dt_vid dt_build_batchnorm(dt_builder *b, const char *name, dt_vid x, const dt_batchnorm_options *o);
/* sequence.c. "<name>.weight", ".bias" [C]; options NULL, but of a group norm: all 0. */
dt_vid dt_build_layernorm(dt_builder *b, const char *name, dt_vid x, const dt_norm_options *o);
dt_vid dt_build_rmsnorm(dt_builder *b, const char *name, dt_vid x, const dt_norm_options *o);
dt_vid dt_build_groupnorm(dt_builder *b, const char *name, dt_vid x, const dt_norm_options *o);
/* Of whole numbers, or a field of them in whatever type it was read. "<name>.weight" [rows,channels]. */
dt_vid dt_build_embedding(dt_builder *b, const char *name, dt_vid x, const dt_embedding_options *o);
/* Of N T C; learnt: "<name>.weight" [rows,C], of which it takes the first T. options NULL: all 0. */
dt_vid dt_build_position(dt_builder *b, const char *name, dt_vid x, const dt_position_options *o);
/* Of N T C or N T H D. options NULL: all 0. */
dt_vid dt_build_rotary(dt_builder *b, const char *name, dt_vid x, const dt_rotary_options *o);
/* A dense layer without bias over the parameter "<to>.weight" [K,C], which is there already. */
dt_vid dt_build_tied(dt_builder *b, const char *name, dt_vid x, const char *to);
/* The same; `bias`: with "<name>.bias" [K]. */
dt_vid dt_build_tied_with(dt_builder *b, const char *name, dt_vid x, const char *to, bool bias);
/* The dimension of x that an option means, from 1 on; 0: the last one. -1, with an error, where there is none. */
int32_t dt_build_axis(dt_builder *b, const char *name, const char *type, dt_vid x, int64_t axis);
/* Parameterless ops named "<name>". attr may be NULL. */
dt_vid dt_build_op(dt_builder *b, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                   const dt_vid *in);
dt_vid dt_build_relu(dt_builder *b, const char *name, dt_vid x);
dt_vid dt_build_add(dt_builder *b, const char *name, dt_vid x, dt_vid y);
/* resample.c: of images N H W C. In another size. */
dt_vid dt_build_upsample(dt_builder *b, const char *name, dt_vid x, const dt_upsample_options *o);
/* PyTorch's adaptive_avg_pool2d or adaptive_max_pool2d. */
dt_vid dt_build_adaptive_pool(dt_builder *b, const char *name, dt_vid x, bool max,
                              const dt_adaptive_pool_options *o);
/* [N, C]: each channel's largest. */
dt_vid dt_build_global_maxpool(dt_builder *b, const char *name, dt_vid x);
/* Rows of the last dimension over their length, or eps where that is less: PyTorch's normalize. eps 0: 1e-12. */
dt_vid dt_build_normalize(dt_builder *b, const char *name, dt_vid x, double eps);
/* Of the rows of two values of one shape: PyTorch's cosine_similarity along the last dimension, which goes; a vector
 * keeps it. eps 0: 1e-8. */
dt_vid dt_build_cosine_similarity(dt_builder *b, const char *name, dt_vid x, dt_vid y, double eps);
/* Of what a convolution takes. pad -1: (kernel - 1) / 2. */
dt_vid dt_build_pool(dt_builder *b, const char *name, dt_op op, dt_vid x, int64_t kernel, int64_t stride,
                     int64_t pad);
/* [N, C]: each channel's mean. */
dt_vid dt_build_global_avgpool(dt_builder *b, const char *name, dt_vid x);
dt_vid dt_build_dropout(dt_builder *b, const char *name, dt_vid x, double rate);
/* Whole rows of the batch dropped in training: stochastic depth (Huang et al. 2016), as torchvision's "row". */
dt_vid dt_build_drop_path(dt_builder *b, const char *name, dt_vid x, double rate);
/* Weight "<name>.weight" [C,R,S,K/G] of x's C channels and K = o->channels, bias "<name>.bias": PyTorch's
 * ConvTranspose2d. Sides become (side - 1) stride - 2 pad + dilation (kernel - 1) + 1 + output_pad. */
dt_vid dt_build_conv_transpose(dt_builder *b, const char *name, dt_vid x, const dt_conv_transpose_options *o);
/* Over one dimension, which goes; a vector keeps it. axis 0: the last one. */
dt_vid dt_build_reduce(dt_builder *b, const char *name, dt_vid x, dt_reduce_kind kind, int64_t axis);
/* Rows in another shape. */
dt_vid dt_build_reshape(dt_builder *b, const char *name, dt_vid x, const dt_reshape_options *o);
/* Two dimensions, not that of the batch, in each other's place; 0: the last one. */
dt_vid dt_build_swap(dt_builder *b, const char *name, dt_vid x, const dt_swap_options *o);

/* moves.c. Whole numbers as i32, also where a column of them was taken as rows of one, or was made real. */
dt_vid dt_build_index(dt_builder *b, const char *name, dt_vid x);
/* Of x [N..., V, ...] the rows that index [N..., K...] names, whole numbers: [N..., K..., ...]. N... are the dimensions
 * before o->axis, and V is taken from. */
dt_vid dt_build_gather(dt_builder *b, const char *name, dt_vid x, dt_vid index, const dt_gather_options *o);
/* Whole numbers [...] as rows of zeros and a one, [..., classes]; outside of them all zeros. */
dt_vid dt_build_one_hot(dt_builder *b, const char *name, dt_vid x, const dt_one_hot_options *o);
dt_vid dt_build_slice(dt_builder *b, const char *name, dt_vid x, const dt_slice_options *o);
/* With zeros. */
dt_vid dt_build_pad(dt_builder *b, const char *name, dt_vid x, const dt_pad_options *o);
/* Returns how many parts there are, 0 with an error; they are named "<name>.0", "<name>.1", ... */
int32_t dt_build_split(dt_builder *b, const char *name, dt_vid x, const dt_split_options *o,
                       dt_vid part[DT_SPLIT_PARTS]);
/* Of one shape, along a new dimension o->axis; 0: a new last one. */
dt_vid dt_build_stack(dt_builder *b, const char *name, int32_t n, const dt_vid *in,
                      const dt_dimension_options *o);

enum { DT_RECURRENT_LAYERS = 32 };
/* What a recurrent layer reads; -1: absent. */
typedef struct dt_build_recurrent_inputs {
    dt_vid x;       /* [B,T,C] */
    dt_vid lengths; /* i32 [B]: where rows end */
    dt_vid h0, c0;  /* [B, ...] of layers * directions * hidden numbers, in PyTorch's order; c0: LSTM */
} dt_build_recurrent_inputs;
/* Sequences [B,T, directions * hidden], or [B, directions * hidden] with o->last. Parameters as PyTorch names them:
 * "<name>.weight_ih_l0" [gates * hidden, C], ".weight_hh_l0", ".bias_ih_l0", ".bias_hh_l0", "..._reverse". last (may be
 * NULL) gets the last states of all layers, shaped as h0 and c0. */
dt_vid dt_build_recurrent(dt_builder *b, const char *name, dt_recurrent_kind kind,
                          const dt_build_recurrent_inputs *in, const dt_recurrent_options *o, dt_vid last[2]);

/* Names of the two convolutions, below the layer's. */
typedef struct dt_squeeze_excite_names {
    const char *reduce, *expand;
} dt_squeeze_excite_names;
/* fc1 and fc2, conv_reduce and conv_expand. */
extern const dt_squeeze_excite_names dt_squeeze_excite_names_torchvision, dt_squeeze_excite_names_timm;
/* x [N,H,W,C] times a gate for each sample's channels: gate(expand(activation(reduce(mean of H and W)))), of two 1x1
 * convolutions with bias, of C to o->channels and back. squeeze.c. names NULL: torchvision's. */
dt_vid dt_build_squeeze_excite(dt_builder *b, const char *name, dt_vid x, const dt_squeeze_excite_options *o,
                               const dt_squeeze_excite_names *names);

/* What tells nodes that draw random numbers apart. */
uint64_t dt_build_salt(const dt_builder *b);

/* What an attention layer reads; -1: absent. */
typedef struct dt_build_attention_inputs {
    dt_vid x;       /* [B,T,C]: the queries */
    dt_vid context; /* [B,S,...]: keys and values; -1: x */
    dt_vid lengths; /* i32 [B]: where rows of the keys' sequence end, without context those of x too */
    dt_vid
        segments; /* i32 [B,T]: only equal ones see each other; without context. -1: of text whose documents are
                         isolated the field "segment" */
} dt_build_attention_inputs;
/* Names of the parameters below the layer's, up to "weight" and "bias": "c_attn." gives "<name>.c_attn.weight". */
typedef struct dt_attention_names {
    const char *qkv; /* q, k and v in one, [(heads + 2 kv_heads) head_size, C], in this order; NULL: apart */
    const char *q, *k, *v;       /* apart, and the weights of a context of other channels than x */
    const char *q_norm, *k_norm; /* of qk_norm; NULL: "q_norm.", "k_norm." */
    const char *out;             /* the last projection, to C; NULL: there is none */
    bool plain_out;              /* it has no bias even where the others have */
} dt_attention_names;
/* torch.nn.MultiheadAttention's: in_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias. */
extern const dt_attention_names dt_attention_names_torch;
/* [B,T,C]. names NULL: PyTorch's. */
dt_vid dt_build_attention(dt_builder *b, const char *name, const dt_build_attention_inputs *in,
                          const dt_attention_options *o, const dt_attention_names *names);

/* A loss. All zero: cross-entropy of classes. */
typedef struct dt_build_loss_options {
    const char *name;    /* NULL: "loss"; others are reported under theirs */
    const char *kind;    /* cross_entropy, class_bce, or a name of core/loss.h; NULL: cross_entropy */
    const char *target;  /* a field of the data; NULL: the first of label, y and target that it has */
    const dt_vid *value; /* the target itself, in place of a field; no gradient goes to it */
    double weight;       /* in the total; 0: 1 */
    double param;        /* huber: delta; bce: weight of positives; 0: 1. class_bce: threshold; 0: none */
    dt_loss_sums sums;   /* what it adds to the task's, if it is the first loss */
} dt_build_loss_options;

/* Names of the kinds, ending in NULL. */
extern const char *const dt_loss_kinds[];
/* Adds the loss of x [N, ...]: logits [N, classes] for cross_entropy and class_bce, the shape of the target for others, for
 * value what is to be small. options NULL: all 0. */
void dt_build_loss(dt_builder *b, dt_vid x, const dt_build_loss_options *o);
/* The first of label, y and target among the data's fields; NULL: none is there. */
const dt_field *dt_build_target(const dt_builder *b);
/* The names of the data's fields, "x, y"; `list` has room for DT_FIELD_LIST bytes. */
const char *dt_build_field_list(const dt_builder *b, char *list);
/* The field of that name; NULL: there is none. */
const dt_field *dt_build_field(const dt_builder *b, const char *name);
/* A value that may be read after a run, by its name. */
void dt_build_output(dt_builder *b, const char *name, dt_vid v);

#endif
