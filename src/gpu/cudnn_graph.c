/* Operation graphs, engine choices and plans through cuDNN's backend API. Attribute names and the order in
 * which descriptors must be finalized are those of cudnn_graph.h; the fused patterns are those of cuDNN's
 * developer guide ("ConvBNfprop", "ConvBNwgrad", "DgradDreluBNBwdWeight"). */
#include "cudnn_graph.h"

#include <stdio.h>
#include <string.h>

enum { N_DIM = 4, FIRST_VIRTUAL = 100, ALIGN_BYTES = 16, HEUR_MAX = 32 };

#define BIT(uid)   (1u << (uid))
#define CONV_BITS  (BIT(DT_UID_X) | BIT(DT_UID_W) | BIT(DT_UID_Y))
#define SBR_BITS   (BIT(DT_UID_SCALE) | BIT(DT_UID_SHIFT))
#define APPLY_BITS (BIT(DT_UID_KSCALE) | BIT(DT_UID_KSHIFT))
#define RES2_BITS  (BIT(DT_UID_RES) | BIT(DT_UID_RSCALE) | BIT(DT_UID_RSHIFT))
#define STATS_BITS (BIT(DT_UID_SUM) | BIT(DT_UID_SQSUM))
#define BN_BITS                                                                                              \
    (BIT(DT_UID_C) | BIT(DT_UID_MEAN) | BIT(DT_UID_INVSTD) | BIT(DT_UID_GAMMA) | BIT(DT_UID_BETA) |          \
     BIT(DT_UID_DGAMMA) | BIT(DT_UID_DBETA) | BIT(DT_UID_EQ_DY) | BIT(DT_UID_EQ_X) | BIT(DT_UID_EQ_BIAS))

static const struct {
    const char *name;
    uint32_t uids;
} KIND[DT_CONV_KIND_COUNT] = {
    [DT_CONV_F] = {"fprop", CONV_BITS},
    [DT_CONV_F_STATS] = {"fprop+stats", CONV_BITS | STATS_BITS},
    [DT_CONV_SBR_STATS] = {"sbr+fprop+stats", CONV_BITS | SBR_BITS | STATS_BITS},
    [DT_CONV_D] = {"dgrad", CONV_BITS},
    [DT_CONV_D_BN] = {"dgrad+drelu+bn", CONV_BITS | BN_BITS},
    [DT_CONV_W] = {"wgrad", CONV_BITS},
    [DT_CONV_SBR_W] = {"sbr+wgrad", CONV_BITS | SBR_BITS},
    [DT_CONV_F_APPLY] = {"fprop+bn", CONV_BITS | APPLY_BITS},
    [DT_CONV_F_APPLY_RES] = {"fprop+bn+add+relu", CONV_BITS | APPLY_BITS | BIT(DT_UID_RES)},
    [DT_CONV_F_APPLY_RES2] = {"fprop+bn+bn+add+relu", CONV_BITS | APPLY_BITS | RES2_BITS},
    [DT_CONV_D_ADD_MASK] = {"dgrad+add+drelu", CONV_BITS | BIT(DT_UID_DX2) | BIT(DT_UID_MASK)},
    [DT_CONV_F_BIAS] = {"fprop+bias", CONV_BITS | BIT(DT_UID_BIAS)},
    [DT_CONV_F_BIAS_RELU] = {"fprop+bias+relu", CONV_BITS | BIT(DT_UID_BIAS)},
    [DT_CONV_F_BIAS_RES] = {"fprop+add+bias", CONV_BITS | BIT(DT_UID_RES) | BIT(DT_UID_BIAS)},
    [DT_CONV_F_BIAS_RES_RELU] = {"fprop+add+bias+relu", CONV_BITS | BIT(DT_UID_RES) | BIT(DT_UID_BIAS)},
};

/* The tensors of a convolution by id: image-like, weight, or a vector of C or K channels. */
typedef enum uid_shape { SHAPE_X, SHAPE_W, SHAPE_Y, SHAPE_C, SHAPE_K } uid_shape;
static const struct {
    uid_shape shape;
    bool f32;
} UID[DT_UID_COUNT] = {
    [DT_UID_X] = {SHAPE_X, false},     [DT_UID_W] = {SHAPE_W, false},      [DT_UID_Y] = {SHAPE_Y, false},
    [DT_UID_SCALE] = {SHAPE_C, false}, [DT_UID_SHIFT] = {SHAPE_C, false},  [DT_UID_SUM] = {SHAPE_K, true},
    [DT_UID_SQSUM] = {SHAPE_K, true},  [DT_UID_C] = {SHAPE_X, false},      [DT_UID_MEAN] = {SHAPE_C, true},
    [DT_UID_INVSTD] = {SHAPE_C, true}, [DT_UID_GAMMA] = {SHAPE_C, true},   [DT_UID_BETA] = {SHAPE_C, true},
    [DT_UID_DGAMMA] = {SHAPE_C, true}, [DT_UID_DBETA] = {SHAPE_C, true},   [DT_UID_EQ_DY] = {SHAPE_C, true},
    [DT_UID_EQ_X] = {SHAPE_C, true},   [DT_UID_EQ_BIAS] = {SHAPE_C, true}, [DT_UID_KSCALE] = {SHAPE_K, true},
    [DT_UID_KSHIFT] = {SHAPE_K, true}, [DT_UID_RES] = {SHAPE_Y, false},    [DT_UID_RSCALE] = {SHAPE_K, true},
    [DT_UID_RSHIFT] = {SHAPE_K, true}, [DT_UID_DX2] = {SHAPE_X, false},    [DT_UID_MASK] = {SHAPE_X, false},
    [DT_UID_BIAS] = {SHAPE_K, false},
};

void dt_conv_spec_text(const dt_conv_spec *spec, char *out, size_t size) {
    const dt_conv_dims *d = &spec->d;
    int n =
        snprintf(out, size, "%s %lldx%lld/%lld %lld->%lld %lldx%lld n%lld %s", KIND[spec->kind].name,
                 (long long)d->r, (long long)d->s, (long long)d->stride_h, (long long)d->c, (long long)d->k,
                 (long long)d->h, (long long)d->w, (long long)d->n, dt_dtype_name((dt_dtype)spec->dtype));
    if (d->groups > 1 && n > 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, " g%lld", (long long)d->groups);
}

uint32_t dt_conv_kind_uids(dt_conv_kind kind) {
    return KIND[kind].uids;
}

bool dt_conv_uid_is_f32(dt_conv_uid uid) {
    return UID[uid].f32;
}

/* N C H W order, as cuDNN counts dimensions whatever the layout. */
static void uid_dims(const dt_conv_spec *spec, dt_conv_uid uid, int64_t dim[N_DIM]) {
    const dt_conv_dims *d = &spec->d;
    const int64_t all[][N_DIM] = {
        [SHAPE_X] = {d->n, d->c, d->h, d->w}, [SHAPE_W] = {d->k, d->c / d->groups, d->r, d->s},
        [SHAPE_Y] = {d->n, d->k, d->p, d->q}, [SHAPE_C] = {1, d->c, 1, 1},
        [SHAPE_K] = {1, d->k, 1, 1},
    };
    memcpy(dim, all[UID[uid].shape], sizeof all[0]);
}

int64_t dt_conv_uid_elems(const dt_conv_spec *spec, dt_conv_uid uid) {
    int64_t dim[N_DIM];
    uid_dims(spec, uid, dim);
    return dim[0] * dim[1] * dim[2] * dim[3];
}

/* Whether a failure says nothing of the graph. */
static bool is_passing(cudnnStatus_t st) {
    switch ((int)st) {
    case CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED:
    case CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER:
    case CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDART:
    case CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE:
    case CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED:
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
        return true;
    default:
        return false;
    }
}

static void fail(dt_dnn_builder *b, cudnnStatus_t st, const char *what) {
    if (b->st != CUDNN_STATUS_SUCCESS || st == CUDNN_STATUS_SUCCESS) return;
    b->st = st;
    b->passing = b->passing || is_passing(st);
    b->what = what;
}

cudnnBackendDescriptor_t dt_dnn_make(dt_dnn_builder *b, cudnnBackendDescriptorType_t type) {
    if (b->st != CUDNN_STATUS_SUCCESS) return NULL;
    if (b->n_desc == DT_DESC_MAX) {
        fail(b, CUDNN_STATUS_INTERNAL_ERROR, "too many descriptors");
        return NULL;
    }
    cudnnBackendDescriptor_t desc = NULL;
    fail(b, cudnnBackendCreateDescriptor(type, &desc), "cudnnBackendCreateDescriptor");
    if (desc) b->desc[b->n_desc++] = desc;
    return desc;
}

void dt_dnn_set(dt_dnn_builder *b, cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *value) {
    if (b->st == CUDNN_STATUS_SUCCESS)
        fail(b, cudnnBackendSetAttribute(desc, name, type, n, value), "cudnnBackendSetAttribute");
}

void dt_dnn_finalize(dt_dnn_builder *b, cudnnBackendDescriptor_t desc, const char *what) {
    if (b->st == CUDNN_STATUS_SUCCESS) fail(b, cudnnBackendFinalize(desc), what);
}

void dt_dnn_release(dt_dnn_builder *b) {
    while (b->n_desc > 0) (void)cudnnBackendDestroyDescriptor(b->desc[--b->n_desc]);
}

static void set_desc(dt_dnn_builder *b, cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                     cudnnBackendDescriptor_t value) {
    dt_dnn_set(b, desc, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static cudnnDataType_t data_type(dt_dtype dtype) {
    return dtype == DT_DTYPE_F16    ? CUDNN_DATA_HALF
           : dtype == DT_DTYPE_BF16 ? CUDNN_DATA_BFLOAT16
                                    : CUDNN_DATA_FLOAT;
}

/* Packed, channels innermost. */
static cudnnBackendDescriptor_t tensor(dt_dnn_builder *b, int64_t uid, cudnnDataType_t type,
                                       const int64_t dim[N_DIM], bool is_virtual) {
    cudnnBackendDescriptor_t t = dt_dnn_make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const int64_t stride[N_DIM] = {dim[1] * dim[2] * dim[3], 1, dim[1] * dim[3], dim[1]}, align = ALIGN_BYTES;
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, N_DIM, dim);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, N_DIM, stride);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    dt_dnn_finalize(b, t, "tensor");
    return t;
}

typedef struct graph_ops {
    dt_dnn_builder *b;
    const dt_conv_spec *spec;
    int64_t next_virtual;
    int32_t n_op;
    cudnnBackendDescriptor_t op[8];
} graph_ops;

static cudnnBackendDescriptor_t real(graph_ops *g, dt_conv_uid uid) {
    int64_t dim[N_DIM];
    uid_dims(g->spec, uid, dim);
    cudnnDataType_t type = UID[uid].f32 ? CUDNN_DATA_FLOAT : data_type((dt_dtype)g->spec->dtype);
    return tensor(g->b, (int64_t)uid + 1, type, dim, false);
}

/* An intermediate of the shape of `like`, in fp32. */
static cudnnBackendDescriptor_t intermediate(graph_ops *g, dt_conv_uid like) {
    int64_t dim[N_DIM];
    uid_dims(g->spec, like, dim);
    return tensor(g->b, FIRST_VIRTUAL + g->next_virtual++, CUDNN_DATA_FLOAT, dim, true);
}

static void push(graph_ops *g, cudnnBackendDescriptor_t op, const char *what) {
    dt_dnn_finalize(g->b, op, what);
    g->op[g->n_op++] = op;
}

/* y = mode(x, operand); operand NULL: unary. For RELU_BWD x is the gradient and operand the forward input. */
static void pointwise(graph_ops *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                      cudnnBackendDescriptor_t operand, cudnnBackendDescriptor_t y) {
    dt_dnn_builder *b = g->b;
    cudnnDataType_t prec = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t pw = dt_dnn_make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dt_dnn_set(b, pw, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    dt_dnn_set(b, pw, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &prec);
    dt_dnn_finalize(b, pw, "pointwise");
    cudnnBackendDescriptor_t op = dt_dnn_make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_desc(b, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pw);
    if (mode == CUDNN_POINTWISE_RELU_BWD) {
        set_desc(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, operand);
        set_desc(b, op, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, x);
        set_desc(b, op, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, y);
    } else {
        set_desc(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
        set_desc(b, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
        if (operand) set_desc(b, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, operand);
    }
    push(g, op, "pointwise operation");
}

/* Padding behind the image: as before it, unless that does not make the output (folded columns, padding of its
 * own behind); then what the last window needs. */
static int64_t post_pad(int64_t in, int64_t kernel, int64_t out, int64_t stride, int64_t pad,
                        int64_t dilation) {
    int64_t span = dilation * (kernel - 1) + 1;
    const int64_t post = (out - 1) * stride + span - in - pad;
    if ((in + 2 * pad - span) / stride + 1 == out) return pad;
    return stride > 1 && post < 0 ? 0 : post; /* rows that no window reaches */
}

static cudnnBackendDescriptor_t conv_desc(graph_ops *g) {
    dt_dnn_builder *b = g->b;
    const dt_conv_dims *d = &g->spec->d;
    cudnnDataType_t comp = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t n_spatial = 2, dilation[2] = {d->dil_h, d->dil_w}, stride[2] = {d->stride_h, d->stride_w},
                  pad[2] = {d->pad_h, d->pad_w},
                  post[2] = {post_pad(d->h, d->r, d->p, d->stride_h, d->pad_h, d->dil_h),
                             post_pad(d->w, d->s, d->q, d->stride_w, d->pad_w, d->dil_w)};
    cudnnBackendDescriptor_t c = dt_dnn_make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    dt_dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &comp);
    dt_dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dt_dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &n_spatial);
    dt_dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    dt_dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, post);
    dt_dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    dt_dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    dt_dnn_finalize(b, c, "convolution");
    return c;
}

/* The three convolutions differ in the names of their attributes only. */
static const struct conv_attrs {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t conv, x, w, y, alpha, beta;
} FPROP = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
  DGRAD = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
  WGRAD = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};

static void convolution(graph_ops *g, const struct conv_attrs *a, cudnnBackendDescriptor_t x,
                        cudnnBackendDescriptor_t w, cudnnBackendDescriptor_t y) {
    const float alpha = 1.0f, beta = 0.0f;
    cudnnBackendDescriptor_t conv = conv_desc(g), op = dt_dnn_make(g->b, a->type);
    set_desc(g->b, op, a->conv, conv);
    set_desc(g->b, op, a->x, x);
    set_desc(g->b, op, a->w, w);
    set_desc(g->b, op, a->y, y);
    dt_dnn_set(g->b, op, a->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    dt_dnn_set(g->b, op, a->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    push(g, op, "convolution operation");
}

static void gen_stats(graph_ops *g, cudnnBackendDescriptor_t y) {
    dt_dnn_builder *b = g->b;
    cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
    cudnnDataType_t prec = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t sum = real(g, DT_UID_SUM), sqsum = real(g, DT_UID_SQSUM);
    cudnnBackendDescriptor_t op = dt_dnn_make(b, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
    set_desc(b, op, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, y);
    dt_dnn_set(b, op, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode);
    dt_dnn_set(b, op, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &prec);
    set_desc(b, op, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, sum);
    set_desc(b, op, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, sqsum);
    push(g, op, "statistics operation");
}

/* relu(x * scale + shift) */
static cudnnBackendDescriptor_t scale_bias_relu(graph_ops *g, cudnnBackendDescriptor_t x) {
    cudnnBackendDescriptor_t scaled = intermediate(g, DT_UID_X), shifted = intermediate(g, DT_UID_X),
                             y = intermediate(g, DT_UID_X);
    pointwise(g, CUDNN_POINTWISE_MUL, x, real(g, DT_UID_SCALE), scaled);
    pointwise(g, CUDNN_POINTWISE_ADD, scaled, real(g, DT_UID_SHIFT), shifted);
    pointwise(g, CUDNN_POINTWISE_RELU_FWD, shifted, NULL, y);
    return y;
}

/* dz = dx where ((c - mean) * invstd) * gamma + beta > 0; sums of the BN gradient over dz. */
static void dgrad_bn(graph_ops *g) {
    dt_dnn_builder *b = g->b;
    cudnnBackendDescriptor_t dx = intermediate(g, DT_UID_X), c = real(g, DT_UID_C),
                             mean = real(g, DT_UID_MEAN), invstd = real(g, DT_UID_INVSTD),
                             gamma = real(g, DT_UID_GAMMA), dz = real(g, DT_UID_X);
    convolution(g, &DGRAD, dx, real(g, DT_UID_W), real(g, DT_UID_Y));
    cudnnBackendDescriptor_t centred = intermediate(g, DT_UID_X), normal = intermediate(g, DT_UID_X),
                             scaled = intermediate(g, DT_UID_X), bn = intermediate(g, DT_UID_X);
    pointwise(g, CUDNN_POINTWISE_SUB, c, mean, centred);
    pointwise(g, CUDNN_POINTWISE_MUL, centred, invstd, normal);
    pointwise(g, CUDNN_POINTWISE_MUL, normal, gamma, scaled);
    pointwise(g, CUDNN_POINTWISE_ADD, scaled, real(g, DT_UID_BETA), bn);
    pointwise(g, CUDNN_POINTWISE_RELU_BWD, dx, bn, dz);
    cudnnDataType_t prec = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t op = dt_dnn_make(b, CUDNN_BACKEND_OPERATION_BN_BWD_WEIGHTS_DESCRIPTOR);
    dt_dnn_set(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &prec);
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_X_DESC, c);
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DY_DESC, dz);
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_MEAN_DESC, mean);
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_INVSTD_DESC, invstd);
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_BN_SCALE_DESC, gamma);
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DBN_SCALE_DESC, real(g, DT_UID_DGAMMA));
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DBN_BIAS_DESC, real(g, DT_UID_DBETA));
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_DY_SCALE_DESC, real(g, DT_UID_EQ_DY));
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_X_SCALE_DESC, real(g, DT_UID_EQ_X));
    set_desc(b, op, CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_BIAS, real(g, DT_UID_EQ_BIAS));
    push(g, op, "BN gradient operation");
}

/* A second gradient is added, and a ReLU whose result is in memory masks the sum. */
static void dgrad_add_mask(graph_ops *g) {
    cudnnBackendDescriptor_t dx = intermediate(g, DT_UID_X), sum = intermediate(g, DT_UID_X);
    convolution(g, &DGRAD, dx, real(g, DT_UID_W), real(g, DT_UID_Y));
    pointwise(g, CUDNN_POINTWISE_ADD, dx, real(g, DT_UID_DX2), sum);
    pointwise(g, CUDNN_POINTWISE_RELU_BWD, sum, real(g, DT_UID_MASK), real(g, DT_UID_X));
}

/* v * scale + shift per output channel */
static cudnnBackendDescriptor_t scale_shift(graph_ops *g, cudnnBackendDescriptor_t v, dt_conv_uid scale,
                                            dt_conv_uid shift, cudnnBackendDescriptor_t out) {
    cudnnBackendDescriptor_t scaled = intermediate(g, DT_UID_Y);
    if (!out) out = intermediate(g, DT_UID_Y);
    pointwise(g, CUDNN_POINTWISE_MUL, v, real(g, scale), scaled);
    pointwise(g, CUDNN_POINTWISE_ADD, scaled, real(g, shift), out);
    return out;
}

/* A convolution that ends in BN_APPLY. */
static void conv_apply(graph_ops *g) {
    const dt_conv_kind kind = (dt_conv_kind)g->spec->kind;
    cudnnBackendDescriptor_t c = intermediate(g, DT_UID_Y), y = real(g, DT_UID_Y);
    convolution(g, &FPROP, real(g, DT_UID_X), real(g, DT_UID_W), c);
    if (kind == DT_CONV_F_APPLY) {
        scale_shift(g, c, DT_UID_KSCALE, DT_UID_KSHIFT, y);
        return;
    }
    cudnnBackendDescriptor_t bn = scale_shift(g, c, DT_UID_KSCALE, DT_UID_KSHIFT, NULL),
                             res = real(g, DT_UID_RES), sum = intermediate(g, DT_UID_Y);
    if (kind == DT_CONV_F_APPLY_RES2) res = scale_shift(g, res, DT_UID_RSCALE, DT_UID_RSHIFT, NULL);
    pointwise(g, CUDNN_POINTWISE_ADD, bn, res, sum);
    pointwise(g, CUDNN_POINTWISE_RELU_FWD, sum, NULL, y);
}

/* A convolution that ends in a sum, a bias and a ReLU, in the order of cuDNN's own pattern. */
static void conv_bias(graph_ops *g) {
    const dt_conv_kind kind = (dt_conv_kind)g->spec->kind;
    const bool sum = kind == DT_CONV_F_BIAS_RES || kind == DT_CONV_F_BIAS_RES_RELU,
               relu = kind == DT_CONV_F_BIAS_RELU || kind == DT_CONV_F_BIAS_RES_RELU;
    cudnnBackendDescriptor_t v = intermediate(g, DT_UID_Y), y = real(g, DT_UID_Y);
    convolution(g, &FPROP, real(g, DT_UID_X), real(g, DT_UID_W), v);
    if (sum) {
        cudnnBackendDescriptor_t added = intermediate(g, DT_UID_Y);
        pointwise(g, CUDNN_POINTWISE_ADD, v, real(g, DT_UID_RES), added);
        v = added;
    }
    cudnnBackendDescriptor_t biased = relu ? intermediate(g, DT_UID_Y) : y;
    pointwise(g, CUDNN_POINTWISE_ADD, v, real(g, DT_UID_BIAS), biased);
    if (relu) pointwise(g, CUDNN_POINTWISE_RELU_FWD, biased, NULL, y);
}

cudnnBackendDescriptor_t dt_dnn_conv_graph(dt_dnn_builder *b, const dt_conv_spec *spec) {
    graph_ops g = {.b = b, .spec = spec};
    cudnnBackendDescriptor_t x, y;
    switch ((dt_conv_kind)spec->kind) {
    case DT_CONV_F:
    case DT_CONV_F_STATS:
    case DT_CONV_SBR_STATS:
        x = real(&g, DT_UID_X);
        y = real(&g, DT_UID_Y);
        if (spec->kind == DT_CONV_SBR_STATS) x = scale_bias_relu(&g, x);
        convolution(&g, &FPROP, x, real(&g, DT_UID_W), y);
        if (spec->kind != DT_CONV_F) gen_stats(&g, y);
        break;
    case DT_CONV_D:
        convolution(&g, &DGRAD, real(&g, DT_UID_X), real(&g, DT_UID_W), real(&g, DT_UID_Y));
        break;
    case DT_CONV_D_BN:
        dgrad_bn(&g);
        break;
    case DT_CONV_D_ADD_MASK:
        dgrad_add_mask(&g);
        break;
    case DT_CONV_W:
    case DT_CONV_SBR_W:
        x = real(&g, DT_UID_X);
        if (spec->kind == DT_CONV_SBR_W) x = scale_bias_relu(&g, x);
        convolution(&g, &WGRAD, x, real(&g, DT_UID_W), real(&g, DT_UID_Y));
        break;
    case DT_CONV_F_APPLY:
    case DT_CONV_F_APPLY_RES:
    case DT_CONV_F_APPLY_RES2:
        conv_apply(&g);
        break;
    case DT_CONV_F_BIAS:
    case DT_CONV_F_BIAS_RELU:
    case DT_CONV_F_BIAS_RES:
    case DT_CONV_F_BIAS_RES_RELU:
        conv_bias(&g);
        break;
    case DT_CONV_KIND_COUNT:
        return NULL;
    }
    return dt_dnn_graph(b, g.n_op, g.op);
}

cudnnBackendDescriptor_t dt_dnn_graph(dt_dnn_builder *b, int32_t n_op, const cudnnBackendDescriptor_t *op) {
    cudnnBackendDescriptor_t graph = dt_dnn_make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dt_dnn_set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n_op, op);
    dt_dnn_set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->handle);
    dt_dnn_finalize(b, graph, "operation graph");
    return b->st == CUDNN_STATUS_SUCCESS ? graph : NULL;
}

cudnnBackendDescriptor_t dt_dnn_plan(dt_dnn_builder *b, cudnnBackendDescriptor_t graph,
                                     const dt_algo_choice *c, int64_t *workspace_bytes) {
    cudnnBackendDescriptor_t engine = dt_dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob[DT_KNOB_MAX];
    set_desc(b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    dt_dnn_set(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &c->engine);
    dt_dnn_finalize(b, engine, "engine");
    for (int32_t i = 0; i < c->n_knob; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)c->knob[i];
        knob[i] = dt_dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        dt_dnn_set(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        dt_dnn_set(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &c->value[i]);
        dt_dnn_finalize(b, knob[i], "knob");
    }
    cudnnBackendDescriptor_t cfg = dt_dnn_make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set_desc(b, cfg, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (c->n_knob > 0)
        dt_dnn_set(b, cfg, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, c->n_knob, knob);
    dt_dnn_finalize(b, cfg, "engine configuration");
    cudnnBackendDescriptor_t plan = dt_dnn_make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_desc(b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, cfg);
    dt_dnn_set(b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->handle);
    dt_dnn_finalize(b, plan, "execution plan");
    if (b->st != CUDNN_STATUS_SUCCESS) return NULL;
    int64_t n = 0;
    fail(b,
         cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                  workspace_bytes),
         "workspace size");
    return b->st == CUDNN_STATUS_SUCCESS ? plan : NULL;
}

/* Reads engine, knobs and notes of a configuration; false where it must not be used. */
static bool read_choice(dt_dnn_builder *b, cudnnBackendDescriptor_t cfg, uint32_t refused,
                        dt_algo_choice *out) {
    cudnnBackendDescriptor_t engine = dt_dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob[DT_KNOB_MAX];
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0, n_knob = 0, n_note = 0;
    if (b->st != CUDNN_STATUS_SUCCESS) return false;
    cudnnStatus_t st = cudnnBackendGetAttribute(cfg, CUDNN_ATTR_ENGINECFG_ENGINE,
                                                CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine);
    if (st == CUDNN_STATUS_SUCCESS)
        st = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n,
                                      &out->engine);
    if (st == CUDNN_STATUS_SUCCESS)
        st = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                      CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n_note, note);
    if (st != CUDNN_STATUS_SUCCESS) return false;
    for (int64_t i = 0; i < n_note && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
        if (refused & BIT(note[i])) return false;
    for (int32_t i = 0; i < DT_KNOB_MAX; i++) knob[i] = dt_dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    if (b->st != CUDNN_STATUS_SUCCESS) return false;
    st = cudnnBackendGetAttribute(cfg, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                  DT_KNOB_MAX, &n_knob, knob);
    if (st != CUDNN_STATUS_SUCCESS || n_knob > DT_KNOB_MAX) return false;
    out->n_knob = (int32_t)n_knob;
    for (int32_t i = 0; i < out->n_knob; i++) {
        cudnnBackendKnobType_t type;
        st = cudnnBackendGetAttribute(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &n,
                                      &type);
        if (st == CUDNN_STATUS_SUCCESS)
            st = cudnnBackendGetAttribute(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &n,
                                          &out->value[i]);
        if (st != CUDNN_STATUS_SUCCESS) return false;
        out->knob[i] = (int32_t)type;
    }
    return true;
}

int32_t dt_dnn_choices(dt_dnn_builder *b, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                       uint32_t refused_notes, int32_t max, dt_algo_choice *out) {
    dt_dnn_builder own = {.handle = b->handle, .st = b->st}; /* these descriptors are needed here only */
    cudnnBackendDescriptor_t heur = dt_dnn_make(&own, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), cfg[HEUR_MAX];
    set_desc(&own, heur, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    dt_dnn_set(&own, heur, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    dt_dnn_finalize(&own, heur, "engine heuristic");
    for (int32_t i = 0; i < HEUR_MAX; i++) cfg[i] = dt_dnn_make(&own, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t n_cfg = 0;
    if (own.st == CUDNN_STATUS_SUCCESS)
        fail(&own,
             cudnnBackendGetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                      HEUR_MAX, &n_cfg, cfg),
             "engine heuristic");
    int32_t n = 0;
    for (int64_t i = 0; own.st == CUDNN_STATUS_SUCCESS && i < n_cfg && i < HEUR_MAX && n < max; i++) {
        dt_dnn_builder scratch = {.handle = b->handle};
        if (read_choice(&scratch, cfg[i], refused_notes, &out[n])) n++;
        dt_dnn_release(&scratch);
    }
    b->passing = b->passing || own.passing;
    dt_dnn_release(&own);
    return n;
}

cudnnBackendDescriptor_t dt_dnn_pack(dt_dnn_builder *b, uint32_t uids, void *const *ptr, void *workspace) {
    int64_t uid[DT_UID_COUNT], n = 0;
    void *data[DT_UID_COUNT];
    for (int32_t u = 0; u < DT_UID_COUNT; u++) {
        if (!(uids & BIT(u))) continue;
        uid[n] = u + 1;
        data[n++] = ptr[u];
    }
    return dt_dnn_pack_of(b, n, uid, data, workspace);
}

cudnnBackendDescriptor_t dt_dnn_pack_of(dt_dnn_builder *b, int64_t n, const int64_t *uid, void *const *data,
                                        void *workspace) {
    cudnnBackendDescriptor_t pack = dt_dnn_make(b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    dt_dnn_set(b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uid);
    dt_dnn_set(b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, data);
    dt_dnn_set(b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    dt_dnn_finalize(b, pack, "variant pack");
    return pack;
}
