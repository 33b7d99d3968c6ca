/* Launchers of the own CUDA kernels: memory-bound work, fp32 accumulation, no atomics (deterministic).
 *
 * A launcher picks 16-byte vectors where the channel count and the pointers allow it, one element otherwise.
 * Letters as in core/op.h; rows = elements / C. All return the launch's error. */
#ifndef DT_GPU_KERNELS_H
#define DT_GPU_KERNELS_H

#include <cuda_runtime_api.h>

#include "core/attention.h"
#include "core/backend.h"
#include "core/broadcast.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dt_gpu {
    int32_t sm_count;
} dt_gpu;

/* pointwise.cu: whether this build's machine code runs on the current card. */
bool dt_gpu_has_code(void);

/* input.cu */
typedef struct dt_gpu_input_args {
    const uint8_t *image; /* [N,Hs,Ws,Cs] */
    const int32_t *aug;   /* [N,8]; NULL: no crop, resize or flip */
    const int32_t *mix;   /* [N,DT_MIX_INTS], core/mix.h; NULL: nothing is erased or mixed */
    void *x;              /* T [N,H,W,Cpad] */
    int32_t n, hs, ws, cs, h, w, cpad;
    float mean[4], stddev[4];
} dt_gpu_input_args;
cudaError_t dt_gpu_input(dt_dtype t, const dt_gpu_input_args *a, cudaStream_t s);

/* edit.cu: image, out u8 [n, n_pixel, channels], channels 1 or 3; edits: dt_edit_row [n], core/edit.h. */
cudaError_t dt_gpu_edit(const uint8_t *image, const void *edits, uint8_t *out, int64_t n, int64_t n_pixel,
                        int32_t channels, cudaStream_t s);

/* jpeg_crop.cu: what of a decoded file becomes which row of the batch; the terms of data/jpeg_device.h. */
typedef struct dt_gpu_crop {
    const uint8_t *image; /* [Hs,Ws,C] */
    int32_t row, hs, ws, x0, y0, w, h, shrink;
    bool flip;
} dt_gpu_crop;
/* crop [n] on the device; out: u8 [rows, out_h, out_w, C]. */
cudaError_t dt_gpu_jpeg_crop(const dt_gpu_crop *crop, int32_t n, int32_t out_h, int32_t out_w,
                             int32_t channels, uint8_t *out, cudaStream_t s);

/* bn.cu */
typedef struct dt_gpu_bn_apply_args {
    const void *x, *res; /* res NULL: none */
    const float *scale, *shift;
    const float *rscale, *rshift; /* NULL: res is added as it is */
    void *y;
    int64_t rows, c;
    bool relu;
} dt_gpu_bn_apply_args;
cudaError_t dt_gpu_bn_apply(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_apply_args *a, cudaStream_t s);

/* A gradient of the BN output [N,H,W,C] that is gathered from that of its max pool [N,P,Q,C], windows of 3x3,
 * stride 2, padding 1. */
typedef struct dt_gpu_pooled {
    const void *dy, *dy2; /* dy2 NULL: none */
    const uint8_t *idx;   /* NULL: the gradient is not pooled */
    int32_t n, h, w, p, q;
} dt_gpu_pooled;

typedef struct dt_gpu_bn_dx_args {
    const void *dy, *c_in;      /* c_in: the BN input; dy NULL: pooled */
    const float *coef;          /* [3,C] */
    const float *scale, *shift; /* NULL: dy is masked already */
    void *dc;
    int64_t rows, c;
    dt_gpu_pooled pooled; /* needs scale and shift */
} dt_gpu_bn_dx_args;
cudaError_t dt_gpu_bn_dx(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_dx_args *a, cudaStream_t s);

typedef struct dt_gpu_bn_finalize_args {
    const float *stats, *gamma, *beta;
    float *rmean, *rvar;
    float *mean, *invstd, *scale, *shift;
    int64_t c;
    double rows;
    float eps, momentum;
    bool stats_are_sums;
} dt_gpu_bn_finalize_args;
cudaError_t dt_gpu_bn_finalize(const dt_gpu_bn_finalize_args *a, cudaStream_t s);
cudaError_t dt_gpu_bn_fold(const float *gamma, const float *beta, const float *rmean, const float *rvar,
                           float *scale, float *shift, int64_t c, float eps, cudaStream_t s);

/* bn_sync.cu: BN_SYNC and BN_SYNC_GRAD, before and after the sum over ranks. */
typedef struct dt_gpu_bn_sync_args {
    const float *in; /* [2,C], of a gradient [3,C] */
    float *out;
    double *sum;   /* [2,C] */
    double weight; /* of this rank */
    int64_t c;
    bool grad, stats_are_sums;
} dt_gpu_bn_sync_args;
cudaError_t dt_gpu_bn_sync_part(const dt_gpu_bn_sync_args *a, cudaStream_t s);
cudaError_t dt_gpu_bn_sync_all(const dt_gpu_bn_sync_args *a, cudaStream_t s);

/* bn_reduce.cu: column reductions in two stages; the second adds the partial sums in a fixed order. */
int64_t dt_gpu_reduce_bytes(const dt_gpu *gpu, dt_dtype t, int64_t rows, int64_t c); /* workspace */
/* stats [2,C]: (mean, biased variance), or (sum, sum of squares) when sums. */
cudaError_t dt_gpu_bn_stats(const dt_gpu *gpu, dt_dtype t, const void *x, float *stats, bool sums,
                            int64_t rows, int64_t c, float *workspace, cudaStream_t s);
/* db T [C] = column sums of dy. */
cudaError_t dt_gpu_bias_grad(const dt_gpu *gpu, dt_dtype t, const void *dy, void *db, int64_t rows, int64_t c,
                             float *workspace, cudaStream_t s);
typedef struct dt_gpu_bn_reduce_args {
    const void *dy, *dy2, *c_in, *y; /* dy2, y NULL: absent; dy NULL: pooled */
    const float *mean, *invstd, *gamma;
    const float *scale, *shift; /* not NULL: mask c*scale+shift > 0 */
    void *dgamma, *dbeta;       /* T [C] */
    float *coef;                /* [3,C] */
    void *dz;                   /* NULL: not written; may be dy */
    float *workspace;
    int64_t rows, c;
    dt_gpu_pooled pooled; /* needs scale and shift */
} dt_gpu_bn_reduce_args;
cudaError_t dt_gpu_bn_reduce(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_reduce_args *a, cudaStream_t s);
/* Around cuDNN's fused dgrad: beta = shift + mean*scale before; dgamma, dbeta in T and coef after. */
cudaError_t dt_gpu_bn_beta(const float *mean, const float *scale, const float *shift, float *beta, int64_t c,
                           cudaStream_t s);
cudaError_t dt_gpu_bn_coef(dt_dtype t, const float *dgamma32, const float *dbeta32, const float *mean,
                           const float *invstd, const float *gamma, void *dgamma, void *dbeta, float *coef,
                           int64_t rows, int64_t c, cudaStream_t s);

/* unary.cu: n elements. v: x or y, whichever the gradient is made of. */
cudaError_t dt_gpu_unary(const dt_gpu *gpu, dt_dtype t, dt_unary f, float a, float b, const void *x, void *y,
                         int64_t n, cudaStream_t s);
cudaError_t dt_gpu_unary_bwd(const dt_gpu *gpu, dt_dtype t, dt_unary f, float a, float b, const void *dy,
                             const void *v, void *dx, int64_t n, cudaStream_t s);

/* binary.cu */
typedef struct dt_gpu_binary_args {
    dt_binary function;
    const void *dy, *a, *b; /* dy: BINARY_BWD; of that one a and b may be NULL where it does not read them */
    void *out;
    dt_space space;
    int32_t operand;  /* BINARY_BWD */
    float scale;      /* BINARY_BWD: of what is summed */
    float *workspace; /* BINARY_BWD: dt_gpu_binary_bwd_bytes */
} dt_gpu_binary_args;
cudaError_t dt_gpu_binary(const dt_gpu *gpu, dt_dtype t, const dt_gpu_binary_args *a, cudaStream_t s);
cudaError_t dt_gpu_binary_bwd(const dt_gpu *gpu, dt_dtype t, const dt_gpu_binary_args *a, cudaStream_t s);
int64_t dt_gpu_binary_bwd_bytes(const dt_gpu *gpu, const dt_space *space, int32_t operand);

/* space.cu. Space: FULL is x's shape, A what its dimensions are brought to. */
/* y in FULL's order, x read by A's strides; item: bytes of an element, 1, 2, 4 or 8. */
cudaError_t dt_gpu_transpose(const dt_gpu *gpu, int32_t item, const void *x, void *y, const dt_space *space,
                             cudaStream_t s);
/* x [FULL] = scale * y [A], repeated. */
cudaError_t dt_gpu_repeat(const dt_gpu *gpu, dt_dtype t, const void *y, void *x, const dt_space *space,
                          float scale, cudaStream_t s);
/* y [A] = the largest of x [FULL], a NaN if there is one; and its gradient, shared by equals. */
cudaError_t dt_gpu_max(dt_dtype t, const void *x, void *y, const dt_space *space, cudaStream_t s);
cudaError_t dt_gpu_max_bwd(dt_dtype t, const void *dy, const void *x, const void *y, void *dx,
                           const dt_space *space, cudaStream_t s);

/* softmax.cu: rows of c; y may be x, dx may be dy. */
cudaError_t dt_gpu_softmax(dt_dtype t, const void *x, void *y, int64_t rows, int64_t c, bool logarithm,
                           cudaStream_t s);
cudaError_t dt_gpu_softmax_bwd(dt_dtype t, const void *dy, const void *y, void *dx, int64_t rows, int64_t c,
                               bool logarithm, cudaStream_t s);

/* layernorm.cu: rows of c. */
typedef struct dt_gpu_layernorm_args {
    const void *x;
    const float *gamma, *beta; /* NULL: absent */
    void *y;                   /* may be x */
    float *rstd, *mean;        /* [rows]; mean NULL: RMSNORM */
    int64_t rows, c;
    float eps;
    bool length; /* RMSNORM: by the length of rows */
} dt_gpu_layernorm_args;
cudaError_t dt_gpu_layernorm(dt_dtype t, const dt_gpu_layernorm_args *a, cudaStream_t s);
typedef struct dt_gpu_layernorm_bwd_args {
    const void *dy, *x;
    const float *rstd, *mean, *gamma; /* mean NULL: RMSNORM */
    const void *dx2;                  /* added to dx; NULL: nothing */
    void *dx;                         /* may be dy */
    void *dgamma, *dbeta;             /* T [C]; NULL: not wanted */
    float *workspace;                 /* dt_gpu_layernorm_bwd_bytes */
    int64_t rows, c;
    float eps;   /* of length */
    bool length; /* RMSNORM: by the length of rows */
} dt_gpu_layernorm_bwd_args;
int64_t dt_gpu_layernorm_bwd_bytes(const dt_gpu *gpu, int64_t rows, int64_t c);
cudaError_t dt_gpu_layernorm_bwd(const dt_gpu *gpu, dt_dtype t, const dt_gpu_layernorm_bwd_args *a,
                                 cudaStream_t s);

/* groupnorm.cu: n samples of `positions` x c. */
typedef struct dt_gpu_groupnorm_args {
    const void *x;
    const float *gamma, *beta; /* NULL: absent */
    void *y;                   /* may be x */
    float *rstd, *mean;        /* [n, groups] */
    int64_t n, positions, c, groups;
    float eps;
} dt_gpu_groupnorm_args;
cudaError_t dt_gpu_groupnorm(dt_dtype t, const dt_gpu_groupnorm_args *a, cudaStream_t s);
typedef struct dt_gpu_groupnorm_bwd_args {
    const void *dy, *x;
    const float *rstd, *mean, *gamma;
    void *dx, *dgamma, *dbeta; /* as above */
    float *workspace;          /* dt_gpu_groupnorm_bwd_bytes */
    int64_t n, positions, c, groups;
} dt_gpu_groupnorm_bwd_args;
int64_t dt_gpu_groupnorm_bwd_bytes(int64_t rows, int64_t c);
cudaError_t dt_gpu_groupnorm_bwd(dt_dtype t, const dt_gpu_groupnorm_bwd_args *a, cudaStream_t s);

/* resample.cu: from n x p x q x c to n x h x w x c; back: what is read is the gradient of the result. */
typedef struct dt_gpu_resample_args {
    const void *from;
    const int32_t *idx; /* of the maximum: of the gradient */
    void *to;
    int32_t *idx_out;
    int64_t n, c;
    int32_t h, w, p, q;
    dt_resample_mode mode;
} dt_gpu_resample_args;
cudaError_t dt_gpu_resample(const dt_gpu *gpu, dt_dtype t, const dt_gpu_resample_args *a, bool back,
                            cudaStream_t s);
cudaError_t dt_gpu_adaptive_maxpool(const dt_gpu *gpu, dt_dtype t, const dt_gpu_resample_args *a, bool back,
                                    cudaStream_t s);

/* embed.cu: `tables` tables of rows x c, each with per_table indices; one outside it gives zeros, and nothing to the
 * gradient. The gradient searches a table's indices once for each value among them: their square in comparisons at worst.
 */
typedef struct dt_gpu_embed_args {
    const void *from; /* the tables; of the gradient dy */
    const int32_t *index;
    void *to;
    int64_t tables, per_table, rows, c;
    int32_t padding; /* of the gradient */
} dt_gpu_embed_args;
cudaError_t dt_gpu_embed(const dt_gpu *gpu, dt_dtype t, const dt_gpu_embed_args *a, cudaStream_t s);
cudaError_t dt_gpu_embed_bwd(dt_dtype t, const dt_gpu_embed_args *a, cudaStream_t s);
/* y [m, rows] */
cudaError_t dt_gpu_one_hot(const dt_gpu *gpu, dt_dtype t, const int32_t *index, void *y, int64_t m,
                           int64_t rows, cudaStream_t s);

/* cache.cu: rows of k and v to the caches, as core/op_cache.c says; v NULL: k holds them too. */
typedef struct dt_gpu_cache_args {
    dt_cache_dims dims;
    const void *k, *v;
    void *k_cache, *v_cache;
    const int32_t *start, *count;
    int32_t *lengths;
    int64_t k_at, v_at;
} dt_gpu_cache_args;
cudaError_t dt_gpu_cache(const dt_gpu *gpu, dt_dtype t, const dt_gpu_cache_args *a, cudaStream_t s);

/* attention.cu: operands as core/op.h has them. rows: of a tile, 64, 32 or 16. b * heads * max(t, s) < 2^31. */
typedef struct dt_gpu_attention_args {
    dt_attention_dims dims;
    const void *q, *k, *v;
    const int32_t *lengths, *q_lengths, *segments; /* NULL: none */
    void *y;                                       /* read by the gradient */
    float *lse;
    const void *dy; /* the gradient's, from here on */
    void *dq, *dk, *dv;
    float *delta; /* [B,heads,T] */
    const dt_step_params *params;
    int32_t rows;
} dt_gpu_attention_args;
cudaError_t dt_gpu_attention(dt_dtype t, const dt_gpu_attention_args *a, cudaStream_t s);
cudaError_t dt_gpu_attention_bwd(dt_dtype t, const dt_gpu_attention_args *a, cudaStream_t s);
/* attention_mma.cu: the same of 16-bit types. takes: whether these kernels do, of heads like that on this card. */
bool dt_gpu_attention_mma_takes(dt_dtype t, const dt_attention_dims *a);
cudaError_t dt_gpu_attention_mma(dt_dtype t, const dt_gpu_attention_args *a, bool back, cudaStream_t s);
/* Shared memory of a block, at most. */
int64_t dt_gpu_attention_bytes(dt_dtype t, int64_t d, int32_t rows, bool backward);

/* rope.cu: n samples of `steps`, of `heads` (POSITION: 1) x c. */
typedef struct dt_gpu_rope_args {
    const void *x;
    const int32_t *start; /* [n]; NULL: all 0 */
    void *y;              /* may be x */
    int64_t n, steps, heads, c;
    bool back; /* turns back */
} dt_gpu_rope_args;
cudaError_t dt_gpu_rope(const dt_gpu *gpu, dt_dtype t, const dt_gpu_rope_args *a, const dt_rope_attr *attr,
                        cudaStream_t s);
cudaError_t dt_gpu_position(const dt_gpu *gpu, dt_dtype t, const dt_gpu_rope_args *a,
                            const dt_rope_attr *attr, cudaStream_t s);

/* end.cu: the end of a product, in place: y T [rows,C] = act(y * scale + shift + bias + res * rscale + rshift). NULL: not
 * there, but rscale goes with rshift. act: as CONV's. */
typedef struct dt_gpu_end_args {
    void *y;
    const void *res, *bias; /* bias T [C] */
    const float *scale, *shift, *rscale, *rshift;
    int64_t rows, c;
    int32_t act;
} dt_gpu_end_args;
cudaError_t dt_gpu_end(const dt_gpu *gpu, dt_dtype t, const dt_gpu_end_args *a, cudaStream_t s);

/* pointwise.cu */
/* y = x * keep / (1-p), the draw of core/op.h; also its backward. row_elem: elements of a row where whole rows
 * are dropped, else 0. */
cudaError_t dt_gpu_dropout(const dt_gpu *gpu, dt_dtype t, const void *x, void *y, int64_t n, int64_t row_elem,
                           float p, uint64_t salt, const dt_step_params *params, cudaStream_t s);
/* Two f32 vectors of n elements to T, into out and out + n. `b` may be NULL. */
cudaError_t dt_gpu_cast_vectors(dt_dtype t, const float *a, const float *b, void *out, int64_t n,
                                cudaStream_t s);
/* A weight [KR,S,C] to [KR,S2,2,C] with `odd` zero taps in front and zeros behind; inverse: back. */
cudaError_t dt_gpu_fold_weight(dt_dtype t, const void *in, void *out, int64_t kr, int32_t s, int32_t c,
                               int32_t s2, int32_t odd, bool inverse, cudaStream_t stream);
/* Uniform in [-1, 1): data to time engines on. */
cudaError_t dt_gpu_fill_random(const dt_gpu *gpu, dt_dtype t, void *x, int64_t n, uint64_t seed,
                               cudaStream_t s);

/* conv_blas.cu: folded T [K,C] = scale[k] * w[k,:], NULL: not made, and bias T [K] = shift. C by eight in 16
 * bits, by four in 32; w and folded aligned to 16 bytes. */
cudaError_t dt_gpu_fold_apply(dt_dtype t, const void *w, const float *scale, const float *shift, int64_t k,
                              int64_t c, void *folded, void *bias, cudaStream_t s);

/* pool.cu */
typedef struct dt_gpu_pool_args {
    const void *in;             /* x forward, dy backward */
    const uint8_t *idx;         /* MAXPOOL_BWD */
    const float *scale, *shift; /* MAXPOOL: x is relu(in*scale + shift); NULL: in */
    void *out;
    uint8_t *idx_out;               /* MAXPOOL */
    int32_t n, h, w, c, p, q;       /* H W the image, P Q the pooled image */
    int32_t kr, ks, sr, ss, pr, ps; /* kernel, stride, pad: rows, columns */
} dt_gpu_pool_args;
cudaError_t dt_gpu_maxpool(const dt_gpu *gpu, dt_dtype t, const dt_gpu_pool_args *a, cudaStream_t s);
cudaError_t dt_gpu_maxpool_bwd(const dt_gpu *gpu, dt_dtype t, const dt_gpu_pool_args *a, cudaStream_t s);
cudaError_t dt_gpu_avgpool(const dt_gpu *gpu, dt_dtype t, const dt_gpu_pool_args *a, cudaStream_t s);
cudaError_t dt_gpu_avgpool_bwd(const dt_gpu *gpu, dt_dtype t, const dt_gpu_pool_args *a, cudaStream_t s);
/* x [N,HW,C] -> y [N,C], and back. */
cudaError_t dt_gpu_global_avgpool(const dt_gpu *gpu, dt_dtype t, const void *x, void *y, int64_t n,
                                  int64_t hw, int64_t c, cudaStream_t s);
cudaError_t dt_gpu_global_avgpool_bwd(const dt_gpu *gpu, dt_dtype t, const void *dy, void *dx, int64_t n,
                                      int64_t hw, int64_t c, cudaStream_t s);

/* rnn.cu: RECURRENT, T [B,T,...] as there. NULL: absent. */
typedef struct dt_gpu_rnn_args {
    dt_recurrent_kind kind;
    int64_t b, t, h;
    const void *gates, *h0, *c0;
    const float *bias, *u; /* u [B,GH]: state w^T */
    const int32_t *lengths;
    void *state; /* T [B,H]: h so far */
    float *c;    /* [B,H] */
    void *y, *h_last, *c_last, *act;
    float *cell;
} dt_gpu_rnn_args;
cudaError_t dt_gpu_rnn_begin(dt_dtype t, const dt_gpu_rnn_args *a, cudaStream_t s); /* state and c */
cudaError_t dt_gpu_rnn_step(dt_dtype t, const dt_gpu_rnn_args *a, int64_t step, cudaStream_t s);
cudaError_t dt_gpu_rnn_end(dt_dtype t, const dt_gpu_rnn_args *a, cudaStream_t s); /* h_last and c_last */
typedef struct dt_gpu_rnn_bwd_args {
    dt_recurrent_kind kind;
    bool reverse;
    int64_t b, t, h;
    const void *y, *act, *dy, *dh_last, *dc_last, *h0, *c0;
    const float *cell;
    const int32_t *lengths;
    float *rec, *carry, *dc; /* [B,H]: du w of the step after, what else comes from there */
    void *du;                /* T [B,GH] */
    void *dn;                /* T [B,T,H], of a GRU: dgates of n; dgates has du there */
    void *prev;              /* T [B,T,H] */
    void *dgates, *dh0, *dc0;
} dt_gpu_rnn_bwd_args;
cudaError_t dt_gpu_rnn_bwd_begin(dt_dtype t, const dt_gpu_rnn_bwd_args *a, cudaStream_t s);
cudaError_t dt_gpu_rnn_bwd_step(dt_dtype t, const dt_gpu_rnn_bwd_args *a, int64_t step, cudaStream_t s);
cudaError_t dt_gpu_rnn_bwd_end(dt_dtype t, const dt_gpu_rnn_bwd_args *a, cudaStream_t s);
cudaError_t dt_gpu_rnn_previous(dt_dtype t, const dt_gpu_rnn_bwd_args *a,
                                cudaStream_t s); /* prev: h before */

/* xent.cu */
typedef struct dt_gpu_xent_args {
    const void *logits;           /* [rows, k] */
    const int32_t *label, *valid; /* [rows]; [rows / rows_of_sample], NULL: all are */
    const int32_t *partner;       /* [rows]; NULL: none has one */
    const float *share;           /* [rows]; with partner */
    float *loss;                  /* [rows]; not of the gradient */
    float *stats;                 /* [rows, 2] */
    int64_t rows, rows_of_sample, k;
    dt_loss_attr attr;
} dt_gpu_xent_args;
/* workspace: 4 floats a row. */
cudaError_t dt_gpu_xent(dt_dtype t, const dt_gpu_xent_args *a, float *metrics, float *workspace,
                        cudaStream_t s);
cudaError_t dt_gpu_xent_bwd(dt_dtype t, const dt_gpu_xent_args *a, void *dlogits,
                            const dt_step_params *params, cudaStream_t s);

/* loss.cu. x [n, len]; target, valid: NULL where absent; workspace: n * DT_GPU_LOSS_STATS floats. */
enum { DT_GPU_LOSS_STATS = 2 + DT_LOSS_SUMS_MAX };
cudaError_t dt_gpu_loss(dt_dtype t, const void *x, const float *target, const int32_t *valid, float *metrics,
                        float *loss, int64_t n, int64_t len, const dt_loss_attr *a, float *workspace,
                        cudaStream_t s);
cudaError_t dt_gpu_loss_bwd(const dt_gpu *gpu, dt_dtype t, const void *x, const float *target,
                            const int32_t *valid, void *dx, int64_t n, int64_t len, const dt_loss_attr *a,
                            const dt_step_params *params, cudaStream_t s);
/* Adds row_stats [n, n_stat], of each row its loss, whether it counts and the task's sums, to the metrics. */
cudaError_t dt_gpu_loss_sums(const float *row_stats, float *metrics, int64_t n, int32_t n_stat,
                             const dt_loss_attr *a, cudaStream_t s);
/* To f32, f16, bf16, or i32 (from whole numbers). */
cudaError_t dt_gpu_cast_values(const dt_gpu *gpu, dt_dtype from, const void *x, dt_dtype to, void *y,
                               int64_t n, cudaStream_t s);

/* axis.cu. A chunk is a stretch of one segment: one block's work. */
typedef struct dt_gpu_axis_chunk {
    int64_t first;
    int32_t n_elem, segment;
    float decay, lr_scale;
} dt_gpu_axis_chunk;
typedef struct dt_gpu_axis_segment {
    int32_t first_chunk, n_chunk;
    float decay, lr_scale;
    /* FACTORED: as in dt_axis_segment, and where its mean squares begin */
    int64_t offset, n_elem, rows, cols, n_real, row_at, column_at, vector_at;
    int64_t rest_at; /* MATRIX: of the rest, where its second vector begins */
} dt_gpu_axis_segment;
/* What begins an update and all its blocks then read. */
typedef struct dt_gpu_axis_step {
    dt_optim_factors factors;
    float ema_decay;
    int32_t skip;
} dt_gpu_axis_step;
/* Of UPDATE, on the device. */
typedef struct dt_gpu_axis_plan {
    dt_gpu_axis_chunk *chunk;
    dt_gpu_axis_segment *segment;
    int32_t n_chunk, n_segment;
    dt_gpu_axis_step *step;
    double *square;  /* TRUST: by chunk, of the weights and of the direction */
    float *ratio;    /* TRUST: by segment */
    float *inv_mean; /* FACTORED: by segment, 1 / mean of its rows' mean squares */
} dt_gpu_axis_plan;
enum { DT_GPU_AXIS_CHUNK = 2048, DT_GPU_SUMSQ_BLOCKS = 1024 };
cudaError_t dt_gpu_axis_accum(const dt_gpu *gpu, const dt_axis_args *a, cudaStream_t s);
cudaError_t dt_gpu_axis_cast(const dt_gpu *gpu, const dt_axis_args *a, cudaStream_t s);
cudaError_t dt_gpu_axis_average(const dt_gpu *gpu, const dt_axis_args *a, cudaStream_t s);
cudaError_t dt_gpu_axis_scale(const dt_axis_args *a, cudaStream_t s);
cudaError_t dt_gpu_axis_sumsq(const dt_gpu *gpu, const dt_axis_args *a, float *partial, cudaStream_t s);
/* Of a MATRIX optimizer it leaves out the matrices. */
cudaError_t dt_gpu_axis_update(const dt_axis_args *a, const dt_gpu_axis_plan *plan, cudaStream_t s);

/* A matrix between: before its products the velocity, and u with its sum of squares by block in `square`; then x = u
 * of norm 1; after them the weights, averages and 16-bit copy from o. All skip what `step` skips. */
typedef struct dt_gpu_matrix {
    int64_t offset, n_elem;
    float decay, lr_scale, scale; /* scale: on the rate */
} dt_gpu_matrix;
enum { DT_GPU_MATRIX_BLOCKS = 512 };
cudaError_t dt_gpu_matrix_before(const dt_gpu *gpu, const dt_axis_args *a, const dt_gpu_axis_step *step,
                                 const dt_gpu_matrix *m, float *x, double *square, cudaStream_t s);
cudaError_t dt_gpu_matrix_after(const dt_gpu *gpu, const dt_axis_args *a, const dt_gpu_axis_step *step,
                                const dt_gpu_matrix *m, const float *o, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
