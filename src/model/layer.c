/* The table of layer types. A new one is a row here: its keys, and a function over the builder's, or for an op
 * without parameters the op alone. */
#include "model/layer.h"

#include <string.h>

#include "core/key_rows.h"
#include "core/op.h"
#include "core/text.h"

/* Keys that several types have. */
#define CHANNELS          INT("channels", channels, 1, 1 << 20), .flags = DT_KEY_REQUIRED, .help = "Outputs"
#define KERNEL(fallback_) INT("kernel", kernel, 1, 1024), .fallback = fallback_, .help = KERNEL_HELP
#define STRIDE(fallback_) INT("stride", stride, 1, 1024), .fallback = fallback_, .help = STRIDE_HELP
#define PAD(fallback_)    INT("pad", pad, -1, 1024), .fallback = fallback_, .help = PAD_HELP
#define BIAS              BOOL("bias", no_bias), .flags = DT_KEY_NEGATED, .fallback = "true", .help = "Add a learnt bias"
#define KERNEL_HELP       "Sides of the window"
#define STRIDE_HELP       "Step of the window; pooling: not set, the kernel"
#define PAD_HELP                                                                                             \
    "Padding on each side; -1: (kernel - 1) * dilation / 2, which keeps the size at stride 1 where the "     \
    "kernel is odd"

/* KEYS_OF's section. */
#define LAYER_SECTION(type, rows)                                                                            \
    static const dt_section type##_section = SECTION(#type, rows);                                           \
    _Static_assert(sizeof(KEYS_OF) <= DT_LAYER_OPTIONS_BYTES, "an entry holds the options of any type")

#define KEYS_OF dt_conv2d_options
static const dt_key_row conv_keys[] = {
    {CHANNELS},
    {KERNEL("3")},
    {STRIDE("1")},
    {PAD("-1")},
    {INT("dilation", dilation, 1, 1024), .fallback = "1", .help = "Distance between the taps of the window"},
    {INT("groups", groups, 1, 1 << 20), .fallback = "1",
     .help = "Channel groups convolved apart; divides the channels in and out"},
    {BIAS},
};
LAYER_SECTION(conv, conv_keys);
#undef KEYS_OF

#define KEYS_OF dt_dense_options
static const dt_key_row dense_keys[] = {{CHANNELS}, {BIAS}};
LAYER_SECTION(dense, dense_keys);
#undef KEYS_OF

#define KEYS_OF dt_pool_options
static const dt_key_row pool_keys[] = {{KERNEL("2")}, {STRIDE(NULL)}, {PAD("0")}};
LAYER_SECTION(pool, pool_keys);
#undef KEYS_OF

#define KEYS_OF dt_upsample_options
static const char *const upsample_modes[] = {"nearest", "bilinear", "bicubic", NULL};
static const dt_key_row upsample_keys[] = {
    {INT("scale", scale, 1, 1024), .fallback = "2", .only = "height = 0",
     .help = "By how much height and width grow"},
    {INT("height", height, 0, 1 << 20), .fallback = "0",
     .help = "Of the result, in place of scale; 0: by scale"},
    {INT("width", width, 0, 1 << 20), .fallback = "0", .only = "height > 0",
     .help = "Of the result; 0: as the height"},
    {CHOICE("mode", mode, upsample_modes), .fallback = "nearest",
     .help = "The nearest pixel, or between the nearest four or sixteen"},
    {BOOL("align_corners", align_corners), .fallback = "false", .only = "mode = bilinear",
     .help = "Corner pixels lie on corner pixels"},
};
LAYER_SECTION(upsample, upsample_keys);
#undef KEYS_OF

#define KEYS_OF dt_adaptive_pool_options
static const dt_key_row adaptive_pool_keys[] = {
    {INT("height", height, 1, 1 << 20), .flags = DT_KEY_REQUIRED, .help = "Of the result"},
    {INT("width", width, 0, 1 << 20), .fallback = "0", .help = "Of the result; 0: as the height"},
};
LAYER_SECTION(adaptive_pool, adaptive_pool_keys);
#undef KEYS_OF

#define KEYS_OF dt_eps_options
#define LENGTH(fallback_)                                                                                    \
    FLOAT("eps", eps, 0, 1), .flags = DT_KEY_OPEN_MIN, .fallback = fallback_, .help = "The least length"
static const dt_key_row normalize_keys[] = {{LENGTH("1e-12")}};
LAYER_SECTION(normalize, normalize_keys);
static const dt_key_row cosine_similarity_keys[] = {{LENGTH("1e-8")}};
LAYER_SECTION(cosine_similarity, cosine_similarity_keys);
#undef KEYS_OF

#define KEYS_OF dt_squeeze_excite_options
static const char *const squeeze_functions[] = {"relu", "silu", "hardswish", "gelu", NULL};
static const char *const gate_functions[] = {"sigmoid", "hardsigmoid", NULL};
static const dt_key_row squeeze_excite_keys[] = {
    {INT("channels", channels, 1, 1 << 20), .flags = DT_KEY_REQUIRED,
     .help = "Channels between the two convolutions"},
    {CHOICE("activation", activation, squeeze_functions), .fallback = "relu",
     .help = "The function between the convolutions"},
    {CHOICE("gate", gate, gate_functions), .fallback = "sigmoid", .help = "The function of the gate"},
};
LAYER_SECTION(squeeze_excite, squeeze_excite_keys);
#undef KEYS_OF

#define KEYS_OF dt_dropout_options
static const dt_key_row dropout_keys[] = {
    {FLOAT("rate", rate, 0, 1), .flags = DT_KEY_OPEN_MAX, .fallback = "0.5",
     .help = "Part of the values dropped in training"},
};
LAYER_SECTION(dropout, dropout_keys);
#undef KEYS_OF

#define KEYS_OF dt_scalar_options
static const dt_key_row leaky_relu_keys[] = {
    {FLOAT("alpha", a, 0, 1e6), .flags = DT_KEY_OPEN_MIN, .fallback = "0.01", .help = "Slope below 0"},
};
LAYER_SECTION(leaky_relu, leaky_relu_keys);
static const dt_key_row elu_keys[] = {
    {FLOAT("alpha", a, 0, 1e6), .flags = DT_KEY_OPEN_MIN, .fallback = "1",
     .help = "What it falls to below 0"},
};
LAYER_SECTION(elu, elu_keys);
static const dt_key_row clamp_keys[] = {
    {FLOAT("lo", a, -1e30, 1e30), .fallback = "0", .help = "The least value"},
    {FLOAT("hi", b, -1e30, 1e30), .fallback = "1", .help = "The largest value"},
};
LAYER_SECTION(clamp, clamp_keys);
static const dt_key_row scale_keys[] = {
    {FLOAT("factor", a, -1e30, 1e30), .fallback = "1", .help = "What each number is multiplied by"},
};
LAYER_SECTION(scale, scale_keys);
#undef KEYS_OF

#define KEYS_OF dt_conv_transpose_options
static const dt_key_row conv_transpose_keys[] = {
    {CHANNELS},
    {KERNEL("2")},
    {INT("stride", stride, 1, 1024), .fallback = "2", .help = "How far apart the inputs lie in the output"},
    {INT("pad", pad, 0, 1024), .fallback = "0", .help = "Taken off each side of the output"},
    {INT("output_pad", output_pad, 0, 1024), .fallback = "0",
     .help =
         "Added below and to the right: which of the sizes that a convolution makes this one of is meant"},
    {INT("dilation", dilation, 1, 1024), .fallback = "1", .help = "Distance between the taps of the window"},
    {INT("groups", groups, 1, 1 << 20), .fallback = "1", .help = "Channel groups convolved apart"},
    {BIAS},
};
LAYER_SECTION(conv_transpose, conv_transpose_keys);
#undef KEYS_OF

#define AXIS(name_, field)                                                                                   \
    INT(name_, field, 0, DT_MAX_DIM - 1), .fallback = "0", .help = "Dimension, from 1 on; 0: the last"
#define KEYS_OF dt_dimension_options
static const dt_key_row reduce_keys[] = {{AXIS("axis", axis)}};
LAYER_SECTION(reduce, reduce_keys);
#undef KEYS_OF

#define KEYS_OF dt_reshape_options
static const dt_key_row reshape_keys[] = {
    {FLOATS("shape", shape, n_shape, -1, 0x1p53), .fallback = "[]",
     .help = "Of a sample: whole numbers, one of them may be -1: what remains; not set: flat"},
};
LAYER_SECTION(reshape, reshape_keys);
#undef KEYS_OF

#define KEYS_OF dt_swap_options
static const dt_key_row transpose_keys[] = {{AXIS("first", first)}, {AXIS("second", second)}};
LAYER_SECTION(transpose, transpose_keys);
#undef KEYS_OF

#define KEYS_OF dt_gather_options
static const dt_key_row gather_keys[] = {
    {INT("axis", axis, 1, DT_MAX_DIM - 1), .fallback = "1",
     .help = "Dimension whose rows are taken, from 1 on"},
};
LAYER_SECTION(gather, gather_keys);
#undef KEYS_OF

#define KEYS_OF dt_one_hot_options
static const dt_key_row one_hot_keys[] = {
    {INT("classes", classes, 1, INT32_MAX), .flags = DT_KEY_REQUIRED, .help = "How many numbers there are"},
};
LAYER_SECTION(one_hot, one_hot_keys);
#undef KEYS_OF

#define KEYS_OF dt_slice_options
static const dt_key_row slice_keys[] = {
    {AXIS("axis", axis)},
    {INT("begin", begin, -0x1p31, 0x1p31), .fallback = "0", .help = "The first taken; below 0: from the end"},
    {INT("length", length, 0, 0x1p31), .fallback = "0", .help = "How many; 0: to the end"},
};
LAYER_SECTION(slice, slice_keys);
#undef KEYS_OF

#define KEYS_OF dt_pad_options
static const dt_key_row pad_keys[] = {
    {AXIS("axis", axis)},
    {INT("before", before, 0, 0x1p31), .fallback = "0", .help = "Zeros put before"},
    {INT("after", after, 0, 0x1p31), .fallback = "0", .help = "Zeros put behind"},
};
LAYER_SECTION(pad, pad_keys);
#undef KEYS_OF

#define KEYS_OF dt_split_options
static const dt_key_row split_keys[] = {
    {AXIS("axis", axis)},
    {INT("parts", parts, 1, DT_SPLIT_PARTS), .fallback = "2", .only = "sizes = []",
     .help = "How many equal parts"},
    {FLOATS("sizes", sizes, n_sizes, 1, 0x1p31), .fallback = "[]",
     .help = "Of the parts, whole numbers, in place of equal ones"},
};
LAYER_SECTION(split, split_keys);
#undef KEYS_OF

#define KEYS_OF dt_dimension_options
static const dt_key_row stack_keys[] = {
    {INT("axis", axis, 0, DT_MAX_DIM - 1), .fallback = "0",
     .help = "The new dimension, from 1 on; 0: the last"},
};
LAYER_SECTION(stack, stack_keys);
#undef KEYS_OF

#define KEYS_OF dt_concat_options
static const dt_key_row concat_keys[] = {
    {INT("axis", axis, 0, DT_MAX_DIM - 1), .fallback = "0", .help = "Dimension, from 1 on; 0: the last"},
};
LAYER_SECTION(concat, concat_keys);
#undef KEYS_OF

#define KEYS_OF dt_recurrent_options
#define RECURRENT_KEYS                                                                                       \
    {INT("hidden", hidden, 1, 1 << 20), .flags = DT_KEY_REQUIRED,                                            \
     .help = "Units of a layer, in each direction"},                                                         \
        {INT("layers", layers, 1, DT_RECURRENT_LAYERS), .fallback = "1",                                     \
         .help = "Layers, one on the other"},                                                                \
        {FLOAT("dropout", dropout, 0, 1), .flags = DT_KEY_OPEN_MAX, .fallback = "0", .only = "layers > 1",   \
         .help = "Part of what a layer gives to the next dropped in training"},                              \
        {BOOL("bidirectional", bidirectional), .fallback = "false",                                          \
         .help = "From the end to the beginning too; both results side by side"},                            \
        {BIAS}, {                                                                                            \
        BOOL("last", last), .fallback = "false",                                                             \
                            .help = "Give the last state of the top layer in place of the sequence"          \
    }
static const dt_key_row recurrent_keys[] = {RECURRENT_KEYS};
LAYER_SECTION(recurrent, recurrent_keys);
static const char *const rnn_functions[] = {"tanh", "relu", NULL};
static const dt_key_row rnn_keys[] = {
    RECURRENT_KEYS,
    {CHOICE("nonlinearity", function, rnn_functions), .fallback = "tanh", .help = "The function of a step"},
};
LAYER_SECTION(rnn, rnn_keys);
#undef KEYS_OF

#define KEYS_OF dt_norm_options
#define EPS(fallback_)                                                                                       \
    FLOAT("eps", eps, 0, 1), .flags = DT_KEY_OPEN_MIN, .fallback = fallback_, .help = "Added to the variance"
#define SCALE BOOL("scale", no_scale), .flags = DT_KEY_NEGATED, .fallback = "true", .help = "A learnt factor"
static const dt_key_row layernorm_keys[] = {{EPS("1e-5")}, {SCALE}, {BIAS}};
LAYER_SECTION(layernorm, layernorm_keys);
static const dt_key_row rmsnorm_keys[] = {{EPS("1e-6")}, {SCALE}};
LAYER_SECTION(rmsnorm, rmsnorm_keys);
static const dt_key_row groupnorm_keys[] = {
    {INT("groups", groups, -1, 1 << 20), .flags = DT_KEY_REQUIRED,
     .help = "Groups of channels; -1: each channel is one, which is instance normalisation"},
    {EPS("1e-5")},
    {SCALE},
    {BIAS},
};
LAYER_SECTION(groupnorm, groupnorm_keys);
#undef KEYS_OF

#define STD(fallback_)                                                                                       \
    FLOAT("std", std, 0, 1e6), .flags = DT_KEY_OPEN_MIN, .fallback = fallback_,                              \
                               .help = "Standard deviation of initial weights"
#define THETA                                                                                                \
    FLOAT("theta", theta, 0, 1e12), .flags = DT_KEY_OPEN_MIN, .fallback = "10000",                           \
                                    .help = "Base of the wave lengths"

#define KEYS_OF dt_embedding_options
static const dt_key_row embedding_keys[] = {
    {INT("rows", rows, 1, INT32_MAX), .flags = DT_KEY_REQUIRED,
     .help = "Rows of the table: how many numbers there are, of tokens the size of the vocabulary"},
    {CHANNELS},
    {BOOL("padded", padded), .fallback = "false", .help = "The row `padding` begins at 0 and learns nothing"},
    {INT("padding", padding, 0, INT32_MAX), .fallback = "0", .only = "padded = true",
     .help = "The number of padding"},
    {STD("1")},
};
LAYER_SECTION(embedding, embedding_keys);
#undef KEYS_OF

static const char *const position_kinds[] = {"learnt", "sinusoidal", NULL};
#define KEYS_OF dt_position_options
static const dt_key_row position_keys[] = {
    {CHOICE("kind", kind, position_kinds), .fallback = "learnt",
     .help = "A learnt vector for each step, or waves of growing length"},
    {INT("rows", rows, 0, INT32_MAX), .fallback = "0", .only = "kind = learnt",
     .help = "Positions that there are; 0: the steps of the input"},
    {STD("0.02"), .only = "kind = learnt"},
    {THETA, .only = "kind = sinusoidal"},
};
LAYER_SECTION(position, position_keys);
#undef KEYS_OF

#define KEYS_OF dt_rotary_options
static const dt_key_row rotary_keys[] = {
    {INT("heads", heads, 1, 1 << 20), .fallback = "1", .help = "Heads that the channels are"},
    {INT("dims", dims, 0, DT_ROPE_DIMS_MAX), .fallback = "0",
     .help = "Numbers of each head that are rotated; 0: all"},
    {THETA},
    {BOOL("interleaved", interleaved), .fallback = "false",
     .help = "Pairs are neighbours; else one is of a head's first half and one of its second"},
};
LAYER_SECTION(rotary, rotary_keys);
#undef KEYS_OF

#define KEYS_OF dt_tied_options
static const dt_key_row tied_keys[] = {
    {STRING("to", to), .flags = DT_KEY_REQUIRED, .help = "Name of an embedding or dense layer before"},
};
LAYER_SECTION(tied, tied_keys);
#undef KEYS_OF

#define KEYS_OF dt_attention_options
static const dt_key_row attention_keys[] = {
    {INT("heads", heads, 1, 1 << 12), .flags = DT_KEY_REQUIRED, .help = "Heads of the queries"},
    {INT("kv_heads", kv_heads, 0, 1 << 12), .fallback = "0",
     .help = "Heads of keys and values, each for several queries'; 0: as many as heads"},
    {INT("head_size", head_size, 0, 1 << 12), .fallback = "0",
     .help = "Numbers of a head; 0: channels / heads"},
    {BOOL("causal", causal), .fallback = "false", .help = "A step does not see those after it"},
    {INT("window", window, 0, INT32_MAX), .fallback = "0",
     .help = "A step sees steps less than so many away, itself too; 0: all"},
    {FLOAT("dropout", dropout, 0, 1), .flags = DT_KEY_OPEN_MAX, .fallback = "0",
     .help = "Part of the weights dropped in training"},
    {BOOL("rotary", rotary), .fallback = "false",
     .help = "Turn queries and keys by their place, as rotary does"},
    {THETA, .only = "rotary = true"},
    {BOOL("qk_norm", qk_norm), .fallback = "false", .help = "RMS norm of each head's queries and keys"},
    {BIAS},
};
LAYER_SECTION(attention, attention_keys);
#undef KEYS_OF

/* Its eps and momentum are the model's; a program in C may set its own. */
static const dt_section batchnorm_section = {.name = "batchnorm", .size = sizeof(dt_batchnorm_options)};

static dt_vid build_conv(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    (void)n_in;
    return dt_build_conv(b, name, in[0], o);
}

static dt_vid build_dense(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    const dt_dense_options *dense = o;
    (void)n_in;
    return dt_build_dense(b, name, in[0], dense->channels, !dense->no_bias);
}

static dt_vid build_batchnorm(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                              const void *o) {
    (void)n_in;
    return dt_build_batchnorm(b, name, in[0], o);
}

#define BUILD_OF(type)                                                                                       \
    static dt_vid build_##type(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,              \
                               const void *o) {                                                              \
        (void)n_in;                                                                                          \
        return dt_build_##type(b, name, in[0], o);                                                           \
    }
BUILD_OF(layernorm)
BUILD_OF(rmsnorm)
BUILD_OF(groupnorm)
BUILD_OF(embedding)
BUILD_OF(position)
BUILD_OF(rotary)
BUILD_OF(upsample)
BUILD_OF(one_hot)
BUILD_OF(slice)
BUILD_OF(pad)

static dt_vid build_squeeze_excite(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                   const void *o) {
    (void)n_in;
    return dt_build_squeeze_excite(b, name, in[0], o, NULL);
}

static dt_vid build_tied(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    const dt_tied_options *tied = o;
    (void)n_in;
    return dt_build_tied(b, name, in[0], tied->to);
}

static void resolve_pool(void *options) {
    dt_pool_options *o = options;
    if (o->stride == 0) o->stride = o->kernel;
}

static dt_vid build_maxpool(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    const dt_pool_options *pool = o;
    (void)n_in;
    return dt_build_pool(b, name, DT_OP_MAXPOOL, in[0], pool->kernel, pool->stride, pool->pad);
}

static dt_vid build_avgpool(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    const dt_pool_options *pool = o;
    (void)n_in;
    return dt_build_pool(b, name, DT_OP_AVGPOOL, in[0], pool->kernel, pool->stride, pool->pad);
}

static dt_vid build_adaptive_avgpool(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                     const void *o) {
    (void)n_in;
    return dt_build_adaptive_pool(b, name, in[0], false, o);
}

static dt_vid build_adaptive_maxpool(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                     const void *o) {
    (void)n_in;
    return dt_build_adaptive_pool(b, name, in[0], true, o);
}

static dt_vid build_global_avgpool(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                   const void *o) {
    (void)n_in, (void)o;
    return dt_build_global_avgpool(b, name, in[0]);
}

static dt_vid build_global_maxpool(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                   const void *o) {
    (void)n_in, (void)o;
    return dt_build_global_maxpool(b, name, in[0]);
}

static dt_vid build_normalize(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                              const void *o) {
    const dt_eps_options *eps = o;
    (void)n_in;
    return dt_build_normalize(b, name, in[0], eps->eps);
}

static dt_vid build_cosine_similarity(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                      const void *o) {
    const dt_eps_options *eps = o;
    (void)n_in;
    return dt_build_cosine_similarity(b, name, in[0], in[1], eps->eps);
}

static dt_vid build_dropout(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    const dt_dropout_options *dropout = o;
    (void)n_in;
    return dt_build_dropout(b, name, in[0], dropout->rate);
}

static dt_vid build_drop_path(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                              const void *o) {
    const dt_dropout_options *dropout = o;
    (void)n_in;
    return dt_build_drop_path(b, name, in[0], dropout->rate);
}

static dt_vid build_conv_transpose(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                   const void *o) {
    (void)n_in;
    return dt_build_conv_transpose(b, name, in[0], o);
}

static dt_vid build_reshape(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    (void)n_in;
    return dt_build_reshape(b, name, in[0], o);
}

static dt_vid build_transpose(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                              const void *o) {
    (void)n_in;
    return dt_build_swap(b, name, in[0], o);
}

#define BUILD_REDUCE(function, KIND)                                                                         \
    static dt_vid function(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) { \
        const dt_dimension_options *axis = o;                                                                \
        (void)n_in;                                                                                          \
        return dt_build_reduce(b, name, in[0], DT_REDUCE_##KIND, axis->axis);                                \
    }
BUILD_REDUCE(build_mean, MEAN)
BUILD_REDUCE(build_sum, SUM)
BUILD_REDUCE(build_amax, MAX)

static dt_vid build_unary(dt_builder *b, const char *name, dt_vid x, dt_unary f, const void *o) {
    const dt_scalar_options *scalar = o;
    const dt_attr t = {.unary.fn = f, .unary.a = (float)scalar->a, .unary.b = (float)scalar->b};
    return dt_build_op(b, name, DT_OP_UNARY, &t, 1, &x);
}

#define BUILD_UNARY(function, NAME)                                                                          \
    static dt_vid function(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) { \
        (void)n_in;                                                                                          \
        return build_unary(b, name, in[0], DT_UNARY_##NAME, o);                                              \
    }
BUILD_UNARY(build_leaky_relu, LEAKY_RELU)
BUILD_UNARY(build_elu, ELU)
BUILD_UNARY(build_clamp, CLAMP)
BUILD_UNARY(build_scale, SCALE)

static dt_vid build_add(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    (void)n_in, (void)o;
    return dt_build_add(b, name, in[0], in[1]);
}

static dt_vid build_concat(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    const dt_concat_options *concat = o;
    const int32_t last = b->g->value[in[0]].ndim - 1;
    const dt_attr t = {.shape.axis = concat->axis > 0 ? (int32_t)concat->axis : last};
    return dt_build_op(b, name, DT_OP_CONCAT, &t, n_in, in);
}

static dt_vid build_stack(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    return dt_build_stack(b, name, n_in, in, o);
}

static dt_vid build_gather(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    (void)n_in;
    return dt_build_gather(b, name, in[0], in[1], o);
}

static dt_vid build_split(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    dt_vid part[DT_SPLIT_PARTS];
    (void)n_in;
    return dt_build_split(b, name, in[0], o, part) > 0 ? part[0] : -1;
}

/* The whole numbers that v was made of; -1: none. */
static dt_vid whole_source(const dt_graph *g, dt_vid v) {
    for (dt_nid made; (made = g->value[v].producer) >= 0; v = g->node[made].in[0])
        if (g->node[made].op != DT_OP_CAST && g->node[made].op != DT_OP_RESHAPE) return -1;
    return dt_dtype_is_float(g->value[v].dtype) ? -1 : v;
}

/* The sequence; then lengths, if that is whole numbers; then the states to begin with. */
static dt_vid build_recurrent(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                              dt_recurrent_kind kind, const void *o) {
    dt_vid states[2] = {-1, -1};
    dt_build_recurrent_inputs from = {.x = in[0], .lengths = -1};
    int32_t n_state = 0;
    for (int32_t i = 1; i < n_in; i++) {
        const dt_vid whole = whole_source(b->g, in[i]);
        if (whole >= 0 && i == 1) {
            from.lengths = dt_build_as(b, whole, DT_DTYPE_I32);
        } else if (whole < 0 && n_state < 2) {
            states[n_state++] = in[i];
        } else {
            b->status = dt_fail(DT_ERR_CONFIG,
                                "%s (%s): lengths, of whole numbers, come first, then at most two states",
                                name, dt_recurrent_names[kind][0]);
            return -1;
        }
    }
    from.h0 = states[0], from.c0 = states[1];
    return dt_build_recurrent(b, name, kind, &from, o, NULL);
}

static dt_vid build_lstm(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    return build_recurrent(b, name, in, n_in, DT_LSTM, o);
}

static dt_vid build_gru(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    return build_recurrent(b, name, in, n_in, DT_GRU, o);
}

static dt_vid build_rnn(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in, const void *o) {
    const dt_recurrent_options *rnn = o;
    return build_recurrent(b, name, in, n_in,
                           rnn->function == DT_RNN_FUNCTION_RELU ? DT_RNN_RELU : DT_RNN_TANH, o);
}

/* The sequence; then, in any order, lengths (a whole number a row), segments (one a step) and a sequence to attend to. */
static dt_vid build_attention(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                              const void *o) {
    dt_build_attention_inputs from = {.x = in[0], .context = -1, .lengths = -1, .segments = -1};
    for (int32_t i = 1; i < n_in && b->status == DT_OK; i++) {
        const dt_vid whole = whole_source(b->g, in[i]);
        dt_vid *to = whole < 0 ? &from.context : b->g->value[whole].ndim > 1 ? &from.segments : &from.lengths;
        if (*to >= 0)
            b->status =
                dt_fail(DT_ERR_CONFIG,
                        "%s (attention): %s and %s: one sequence, one of lengths and one of segments at "
                        "most",
                        name, b->g->value[*to].name, b->g->value[in[i]].name);
        else
            *to = whole < 0 ? in[i] : dt_build_as(b, whole, DT_DTYPE_I32);
    }
    return dt_build_attention(b, name, &from, o, NULL);
}

#define UNARY(NAME)                                                                                          \
    .op = DT_OP_UNARY, .attr = &(const dt_attr) {                                                            \
        .unary.fn = DT_UNARY_##NAME                                                                          \
    }
#define BINARY(NAME)                                                                                         \
    .op = DT_OP_BINARY, .attr = &(const dt_attr) {                                                           \
        .binary.fn = DT_BINARY_##NAME                                                                        \
    }
#define ONE_INPUT  .min_in = 1, .max_in = 1
#define TWO_INPUTS .min_in = 2, .max_in = 2

const dt_layer_row dt_layer_table[] = {
    {"conv", &conv_section, ONE_INPUT, .build = build_conv,
     .help = "Convolution of images, of sequences (1-D) or of volumes (3-D), whichever its input is"},
    {"conv_transpose", &conv_transpose_section, ONE_INPUT, .build = build_conv_transpose,
     .help = "Transposed 2-D convolution, which makes images larger"},
    {"dense", &dense_section, ONE_INPUT, .build = build_dense,
     .help = "Fully connected layer; an image is taken as flat"},
    {"batchnorm", &batchnorm_section, ONE_INPUT, .build = build_batchnorm,
     .help = "Batch normalisation with learnt scale and shift"},
    {"layernorm", &layernorm_section, ONE_INPUT, .build = build_layernorm,
     .help = "Each row of channels with mean 0 and variance 1, scaled and shifted"},
    {"rmsnorm", &rmsnorm_section, ONE_INPUT, .build = build_rmsnorm,
     .help = "Each row of channels over its root mean square, scaled"},
    {"groupnorm", &groupnorm_section, ONE_INPUT, .build = build_groupnorm,
     .help = "Groups of channels of each sample with mean 0 and variance 1, scaled and shifted"},
    {"embedding", &embedding_section, ONE_INPUT, .build = build_embedding,
     .help = "Whole numbers, such as tokens, to rows of a learnt table"},
    {"position", &position_section, ONE_INPUT, .build = build_position,
     .help = "Adds to each step of a sequence what says its place"},
    {"rotary", &rotary_section, ONE_INPUT, .build = build_rotary,
     .help = "Turns pairs of channels of each step by its place"},
    {"tied", &tied_section, ONE_INPUT, .build = build_tied,
     .help = "Fully connected layer that shares the weight of another, without bias"},
    {"squeeze_excite", &squeeze_excite_section, ONE_INPUT, .build = build_squeeze_excite,
     .help = "Channels times gates that are made of all channels' means"},
    {"relu", NULL, ONE_INPUT, UNARY(RELU), .help = "max(x, 0)"},
    {"relu6", NULL, ONE_INPUT, UNARY(RELU6), .help = "min(max(x, 0), 6)"},
    {"leaky_relu", &leaky_relu_section, ONE_INPUT, .build = build_leaky_relu, .help = "x, below 0 alpha x"},
    {"elu", &elu_section, ONE_INPUT, .build = build_elu, .help = "x, below 0 alpha (exp(x) - 1)"},
    {"selu", NULL, ONE_INPUT, UNARY(SELU), .help = "elu scaled so that layers keep mean 0 and variance 1"},
    {"sigmoid", NULL, ONE_INPUT, UNARY(SIGMOID), .help = "1 / (1 + exp(-x))"},
    {"tanh", NULL, ONE_INPUT, UNARY(TANH), .help = "Hyperbolic tangent"},
    {"softplus", NULL, ONE_INPUT, UNARY(SOFTPLUS), .help = "log(1 + exp(x))"},
    {"silu", NULL, ONE_INPUT, UNARY(SILU), .help = "x sigmoid(x), also called swish"},
    {"mish", NULL, ONE_INPUT, UNARY(MISH), .help = "x tanh(softplus(x))"},
    {"hardswish", NULL, ONE_INPUT, UNARY(HARDSWISH), .help = "x min(max(x + 3, 0), 6) / 6"},
    {"hardsigmoid", NULL, ONE_INPUT, UNARY(HARDSIGMOID), .help = "min(max(x + 3, 0), 6) / 6"},
    {"gelu", NULL, ONE_INPUT, UNARY(GELU), .help = "x times the normal distribution at x"},
    {"gelu_tanh", NULL, ONE_INPUT, UNARY(GELU_TANH), .help = "gelu approximated by tanh"},
    {"exp", NULL, ONE_INPUT, UNARY(EXP), .help = "Exponential"},
    {"log", NULL, ONE_INPUT, UNARY(LOG), .help = "Natural logarithm"},
    {"sqrt", NULL, ONE_INPUT, UNARY(SQRT), .help = "Square root"},
    {"neg", NULL, ONE_INPUT, UNARY(NEG), .help = "-x"},
    {"abs", NULL, ONE_INPUT, UNARY(ABS), .help = "Absolute value"},
    {"clamp", &clamp_section, ONE_INPUT, .build = build_clamp, .help = "min(max(x, lo), hi)"},
    {"square", NULL, ONE_INPUT, UNARY(SQUARE), .help = "x x"},
    {"reciprocal", NULL, ONE_INPUT, UNARY(RECIPROCAL), .help = "1 / x"},
    {"scale", &scale_section, ONE_INPUT, .build = build_scale, .help = "factor x"},
    {"softmax", NULL, ONE_INPUT, .op = DT_OP_SOFTMAX,
     .help = "exp(x) over its sum along the last dimension; the loss takes its input without it"},
    {"log_softmax", NULL, ONE_INPUT, .op = DT_OP_LOG_SOFTMAX, .help = "Logarithm of softmax"},
    {"maxpool", &pool_section, ONE_INPUT, .resolve = resolve_pool, .build = build_maxpool,
     .help = "Largest value of each window, of what a convolution takes"},
    {"avgpool", &pool_section, ONE_INPUT, .resolve = resolve_pool, .build = build_avgpool,
     .help = "Mean of each window, with what is padded counted as 0"},
    {"global_avgpool", NULL, ONE_INPUT, .build = build_global_avgpool,
     .help = "Mean over all positions; the result is flat"},
    {"global_maxpool", NULL, ONE_INPUT, .build = build_global_maxpool,
     .help = "The largest of all positions; the result is flat"},
    {"adaptive_avgpool", &adaptive_pool_section, ONE_INPUT, .build = build_adaptive_avgpool,
     .help = "Means of the parts of an image that make one of the size asked for"},
    {"adaptive_maxpool", &adaptive_pool_section, ONE_INPUT, .build = build_adaptive_maxpool,
     .help = "Largest values of these parts"},
    {"upsample", &upsample_section, ONE_INPUT, .build = build_upsample,
     .help = "An image in another size, larger or smaller"},
    {"normalize", &normalize_section, ONE_INPUT, .build = build_normalize,
     .help = "Rows of channels over their length"},
    {"cosine_similarity", &cosine_similarity_section, TWO_INPUTS, .build = build_cosine_similarity,
     .help = "The cosine between the rows of channels of two layers' outputs"},
    {"flatten", NULL, ONE_INPUT, .op = DT_OP_RESHAPE, .help = "Height, width and channels as one dimension"},
    {"dropout", &dropout_section, ONE_INPUT, .build = build_dropout,
     .help = "Sets values to 0 at random in training and scales the rest"},
    {"drop_path", &dropout_section, ONE_INPUT, .build = build_drop_path,
     .help = "Drops whole samples at random in training and scales the rest: stochastic depth of a branch"},
    {"add", NULL, TWO_INPUTS, .build = build_add,
     .help = "Sum of two layers' outputs of the same shape: a residual connection"},
    {"sub", NULL, TWO_INPUTS, BINARY(SUB),
     .help = "Difference; of this and the next four a dimension of 1 is repeated"},
    {"mul", NULL, TWO_INPUTS, BINARY(MUL), .help = "Product"},
    {"div", NULL, TWO_INPUTS, BINARY(DIV), .help = "Quotient"},
    {"min", NULL, TWO_INPUTS, BINARY(MIN), .help = "The smaller one"},
    {"max", NULL, TWO_INPUTS, BINARY(MAX), .help = "The larger one"},
    {"lstm", &recurrent_section, .min_in = 1, .max_in = 4, .build = build_lstm,
     .help = "Long short-term memory over a sequence; with names its rows' lengths (whole numbers), then the "
             "states to "
             "begin with"},
    {"gru", &recurrent_section, .min_in = 1, .max_in = 3, .build = build_gru,
     .help = "Gated recurrent units over a sequence; with as for lstm"},
    {"rnn", &rnn_section, .min_in = 1, .max_in = 3, .build = build_rnn,
     .help = "A simple recurrence over a sequence; with as for lstm"},
    {"attention", &attention_section, .min_in = 1, .max_in = 4, .build = build_attention,
     .help = "Multi-head attention over a sequence; with names another sequence to attend to, its rows' "
             "lengths (a "
             "whole number each), documents (a whole number a step: equal ones see each other)"},
    {"matmul", NULL, TWO_INPUTS, .op = DT_OP_MATMUL,
     .help = "Product of the matrices that the last two dimensions are"},
    {"mean", &reduce_section, ONE_INPUT, .build = build_mean, .help = "Mean over a dimension, which goes"},
    {"sum", &reduce_section, ONE_INPUT, .build = build_sum, .help = "Sum over a dimension, which goes"},
    {"amax", &reduce_section, ONE_INPUT, .build = build_amax,
     .help = "Largest value along a dimension, which goes"},
    {"reshape", &reshape_section, ONE_INPUT, .build = build_reshape,
     .help = "The same numbers of a sample in another shape, the last dimension first"},
    {"transpose", &transpose_section, ONE_INPUT, .build = build_transpose,
     .help = "Two dimensions in each other's place"},
    {"concat", &concat_section, .min_in = 2, .max_in = DT_LAYER_IN_MAX, .build = build_concat,
     .help = "Outputs of layers one after the other along a dimension"},
    {"stack", &stack_section, .min_in = 2, .max_in = DT_LAYER_IN_MAX, .build = build_stack,
     .help = "Outputs of layers, of one shape, side by side along a new dimension"},
    {"split", &split_section, ONE_INPUT, .build = build_split, .parts = true,
     .help = "Parts of a dimension; layers read those of a split s as s.0, s.1, ..."},
    {"slice", &slice_section, ONE_INPUT, .build = build_slice, .help = "A piece of a dimension"},
    {"pad", &pad_section, ONE_INPUT, .build = build_pad, .help = "Zeros before and behind along a dimension"},
    {"gather", &gather_section, TWO_INPUTS, .build = build_gather,
     .help = "Of each sample the rows whose numbers with names, in their order"},
    {"one_hot", &one_hot_section, ONE_INPUT, .build = build_one_hot,
     .help = "Whole numbers as rows of zeros with a one at their place; others give zeros"},
};
const int dt_layer_count = (int)(sizeof dt_layer_table / sizeof dt_layer_table[0]);

const dt_layer_row *dt_layer_find(const char *type) {
    for (int i = 0; i < dt_layer_count; i++)
        if (strcmp(dt_layer_table[i].type, type) == 0) return &dt_layer_table[i];
    return NULL;
}

void dt_layer_defaults(const dt_layer_row *row, void *options) {
    if (row->keys) dt_section_defaults(row->keys, options);
}

dt_status dt_layer_check_options(const dt_layer_row *row, const char *what, const void *options) {
    const dt_key_row *key = row->keys ? dt_section_ignored(row->keys, options) : NULL;
    char text[128];
    if (!key) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s: %s would be ignored: it is for %s alone", what, key->key,
                   dt_key_only_text(key->only, "", text, sizeof text));
}

dt_vid dt_layer_build(dt_builder *b, const dt_layer_row *row, const char *name, const dt_vid *in,
                      int32_t n_in, const void *options) {
    _Alignas(max_align_t) unsigned char own[DT_LAYER_OPTIONS_BYTES];
    char what[DT_NAME_MAX + 32];
    if (b->status != DT_OK) return -1;
    snprintf(what, sizeof what, "%s (%s)", name, row->type);
    if (n_in < row->min_in || n_in > row->max_in) {
        const bool few = n_in < row->min_in;
        b->status = dt_fail(DT_ERR_CONFIG, "%s: %s, expected %s%d", what, dt_count_text(n_in, "input").s,
                            row->min_in == row->max_in ? ""
                            : few                      ? "at least "
                                                       : "at most ",
                            few ? row->min_in : row->max_in);
        return -1;
    }
    for (int32_t i = 0; i < n_in; i++)
        if (in[i] < 0 || in[i] >= b->g->n_value) {
            b->status = dt_fail(DT_ERR_CONFIG, "%s: input %d does not exist", what, i);
            return -1;
        }
    if (!row->build) return dt_build_op(b, name, row->op, row->attr, n_in, in);
    if (row->keys) {
        if (options)
            memcpy(own, options, row->keys->size);
        else
            dt_layer_defaults(row, own);
        b->status = dt_section_settle(row->keys, what, own);
        if (b->status == DT_OK) b->status = dt_layer_check_options(row, what, own);
        if (row->resolve) row->resolve(own);
    }
    return b->status == DT_OK ? row->build(b, name, in, n_in, own) : -1;
}
