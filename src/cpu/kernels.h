/* Kernels of the CPU backend other than convolution and dense; used by backend.c only.
 *
 * Every kernel is a run function over a dt_cpu_node: pointers, attributes and sizes fixed at bind. A run
 * allocates nothing. Work is cut by sizes alone, never by the number of threads, and partial sums are
 * combined in a fixed order, so results are the same bits for any number of threads. All data is fp32 unless
 * said otherwise. */
#ifndef DT_CPU_KERNELS_H
#define DT_CPU_KERNELS_H

#include "core/backend.h"
#include "core/broadcast.h"
#include "core/op.h"
#include "core/simd.h"
#include "team.h"

#define DT_CPU_INLINE static inline __attribute__((always_inline))

enum {
    DT_CPU_WIDE = 256,        /* narrow rows are taken several at once, up to this many floats */
    DT_CPU_TILE = 512,        /* columns of one tile of a reduction, at most */
    DT_CPU_GRAIN = 32 * 1024, /* elements below which a piece of work is not cut further */
    DT_CPU_MAX_CHUNKS = 64    /* row chunks of a reduction, at most */
};

/* A node of the graph as the kernels see it. */
typedef struct dt_cpu_node {
    dt_op op;
    dt_attr attr;
    dt_binding b;
    int32_t threads;
    bool team;     /* how threads are had: dt_cpu_crew */
    dt_dtype from; /* of the main operand: CAST */
    int64_t n, h, w,
        c; /* dims of the main operand: the larger image of a pool, the output of INPUT; c is the last */
    int64_t p, q, k;   /* the other image: the pooled one, or the stored one of INPUT */
    int64_t m, n_elem; /* of the main operand: rows (elements / c), elements */
    dt_space space;    /* of BINARY, REDUCE and their gradients, of TRANSPOSE: operand A is what is read */
    dt_matmul_dims matmul;
    dt_cache_dims cache;
    int64_t rows, tables; /* of a table, and how many: EMBED and its gradient */
    bool few;             /* a dense layer that dense_few.c computes */
    bool kept;            /* a dense layer whose weights are packed once */
    int32_t n_in;
    const dt_blocks *blocks; /* of CONCAT and SLICE: of each input, then of the output */
} dt_cpu_node;

/* Who computes it; `worth`: it is enough work for more than one. */
static inline dt_cpu_crew dt_cpu_crew_of(const dt_cpu_node *d, bool worth) {
    return (dt_cpu_crew){worth ? d->threads : 1, d->team};
}

/* How a matrix of m rows and c columns is cut: n_chunk chunks of rows, n_tile tiles of columns. */
typedef struct dt_cpu_split {
    int64_t chunk_rows, n_chunk, tile_cols, n_tile;
} dt_cpu_split;

/* For reductions over rows: a bounded number of chunks. */
dt_cpu_split dt_cpu_split_reduce(int64_t m, int64_t c);
/* For element-wise work: rows of about DT_CPU_GRAIN elements. Both give multiples of dt_cpu_group_rows. */
int64_t dt_cpu_chunk_rows(int64_t m, int64_t c);
/* Rows taken at once so that a group has about DT_CPU_WIDE floats; 1 for wide rows. */
int64_t dt_cpu_group_rows(int64_t c);

/* Part of a matrix seen as wide rows: `group` rows of all c columns taken as one, or a tile of `cols`
 * columns. Wide row r starts at r * stride and has `width` floats, the last one `last_width`. width <=
 * DT_CPU_TILE for tiles. */
typedef struct dt_cpu_wide {
    int64_t n_row, stride, width, last_width, group, cols;
} dt_cpu_wide;
dt_cpu_wide dt_cpu_wide_make(int64_t rows, int64_t c, int64_t cols);
/* A per-column vector repeated to the width of a wide row: written to buf [DT_CPU_WIDE], or `src` itself
 * where rows are not grouped. And back: the sum of column `col` over the group. */
const float *dt_cpu_widen(float *buf, const float *src, const dt_cpu_wide *v);
double dt_cpu_fold(const float *wide, int64_t col, int64_t cols, int64_t group);

/* Column reduction in two phases. `piece` leaves the sums of rows [row0, row0 + rows) and columns [col0, col0
 * + cols) in partial[i * c], i < n_sum, pointing at column col0 of its chunk; `combine` then takes all chunks
 * of some columns, partial [n_chunk, n_sum, c], in order. The node's workspace holds dt_cpu_reduce_bytes. */
typedef void (*dt_cpu_piece_fn)(const dt_cpu_node *d, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                                double *partial);
typedef void (*dt_cpu_combine_fn)(const dt_cpu_node *d, const dt_cpu_split *s, const double *partial,
                                  int64_t col0, int64_t cols);
int64_t dt_cpu_reduce_bytes(int64_t m, int64_t c, int64_t n_sum);
void dt_cpu_reduce_columns(const dt_cpu_node *d, int64_t n_sum, dt_cpu_piece_fn piece,
                           dt_cpu_combine_fn combine);

/* norm.c */
dt_status dt_cpu_bn_stats(void *node, dt_stream *stream);
dt_status dt_cpu_bn_finalize(void *node, dt_stream *stream);
dt_status dt_cpu_bn_fold(void *node, dt_stream *stream);
dt_status dt_cpu_bn_apply(void *node, dt_stream *stream);
/* Of BN_REDUCE, however its sums were taken. */
void dt_cpu_bn_reduce_combine(const dt_cpu_node *d, const dt_cpu_split *s, const double *partial,
                              int64_t col0, int64_t cols);
/* norm_sync.c */
dt_status dt_cpu_bn_sync(void *node, dt_stream *stream);
dt_status dt_cpu_bn_sync_grad(void *node, dt_stream *stream);
int64_t dt_cpu_bn_sync_bytes(const dt_cpu_node *d); /* workspace of both */
/* norm_grad.c */
dt_status dt_cpu_bn_reduce(void *node, dt_stream *stream);
dt_status dt_cpu_bn_dx(void *node, dt_stream *stream);
/* norm_pool.c: the same from a pooled gradient. */
dt_status dt_cpu_bn_reduce_pooled(const dt_cpu_node *d);
dt_status dt_cpu_bn_dx_pooled(const dt_cpu_node *d);
dt_status dt_cpu_bias_grad(void *node, dt_stream *stream);
/* gram.c */
dt_status dt_cpu_gram(void *node, dt_stream *stream);
dt_status dt_cpu_gram_cross(void *node, dt_stream *stream);
dt_status dt_cpu_bn_gram(void *node, dt_stream *stream);
dt_status dt_cpu_bn_mask(void *node, dt_stream *stream);
dt_status dt_cpu_bn_gram_grad(void *node, dt_stream *stream);
dt_status dt_cpu_bn_gram_dx(void *node, dt_stream *stream);
/* eltwise.c */
dt_status dt_cpu_unary(void *node, dt_stream *stream);
dt_status dt_cpu_unary_bwd(void *node, dt_stream *stream);
/* y [n] = act(y + res) in place, act as CONV's; res NULL: none. */
void dt_cpu_end(float *y, const float *res, int64_t n, int32_t act, dt_cpu_crew crew);
dt_status dt_cpu_dropout(void *node, dt_stream *stream); /* and its backward: the same map */
/* binary.c */
dt_status dt_cpu_binary(void *node, dt_stream *stream);
dt_status dt_cpu_binary_bwd(void *node, dt_stream *stream);
int64_t dt_cpu_binary_bwd_bytes(const dt_cpu_node *d);
/* Workspace of sums over what `operand` of the node's space lacks. */
int64_t dt_cpu_sums_bytes(const dt_cpu_node *d, int32_t operand);
/* out = the sums of the gradient of `operand` of function fn over the node's space: BINARY_BWD's inputs. */
void dt_cpu_sums(const dt_cpu_node *d, dt_binary fn, int32_t operand);
/* cache.c */
dt_status dt_cpu_cache(void *node, dt_stream *stream);
/* dense_few.c: whether it is a dense layer of one place of each row in a decoding graph; then its run, for rows m, inputs c
 * and outputs k. */
bool dt_cpu_is_few(const dt_graph *g, const dt_node *n);
void dt_cpu_dense_few(const dt_cpu_node *d);
/* concat.c */
dt_status dt_cpu_concat(void *node, dt_stream *stream);
dt_status dt_cpu_slice(void *node, dt_stream *stream);
dt_status dt_cpu_pad(void *node, dt_stream *stream);
/* transpose.c: of values of d->item bytes */
dt_status dt_cpu_transpose(void *node, dt_stream *stream);
/* reduce.c */
dt_status dt_cpu_reduce(void *node, dt_stream *stream);
int64_t dt_cpu_sum_bytes(const dt_cpu_node *d);
dt_status dt_cpu_reduce_bwd(void *node, dt_stream *stream);
/* softmax.c: and log_softmax */
dt_status dt_cpu_softmax(void *node, dt_stream *stream);
dt_status dt_cpu_softmax_bwd(void *node, dt_stream *stream);
/* rnn.c */
dt_status dt_cpu_recurrent(void *node, dt_stream *stream);
dt_status dt_cpu_recurrent_bwd(void *node, dt_stream *stream);
int64_t dt_cpu_recurrent_bytes(const dt_cpu_node *d); /* workspace of both */
/* layernorm.c: and RMSNORM */
dt_status dt_cpu_layernorm(void *node, dt_stream *stream);
dt_status dt_cpu_layernorm_bwd(void *node, dt_stream *stream);
int64_t dt_cpu_layernorm_bwd_bytes(const dt_cpu_node *d); /* workspace */
/* groupnorm.c */
dt_status dt_cpu_groupnorm(void *node, dt_stream *stream);
dt_status dt_cpu_groupnorm_bwd(void *node, dt_stream *stream);
int64_t dt_cpu_groupnorm_bytes(const dt_cpu_node *d); /* workspace, backward too */
/* resample.c */
dt_status dt_cpu_resample(void *node, dt_stream *stream);
dt_status dt_cpu_adaptive_maxpool(void *node, dt_stream *stream);
dt_status dt_cpu_adaptive_maxpool_bwd(void *node, dt_stream *stream);

/* embed.c */
dt_status dt_cpu_embed(void *node, dt_stream *stream);
dt_status dt_cpu_one_hot(void *node, dt_stream *stream);
dt_status dt_cpu_embed_bwd(void *node, dt_stream *stream);
int64_t dt_cpu_embed_bwd_bytes(const dt_cpu_node *d); /* workspace */
/* rope.c */
dt_status dt_cpu_rope(void *node, dt_stream *stream);
dt_status dt_cpu_position(void *node, dt_stream *stream);
int64_t dt_cpu_position_bytes(const dt_cpu_node *d); /* workspace */
/* pool.c */
dt_status dt_cpu_maxpool(void *node, dt_stream *stream);
dt_status dt_cpu_maxpool_bwd(void *node, dt_stream *stream);
/* The gradient of channels [c0, c0 + n) of one pixel of the pool's input, from dyp [+ dyp2] and idx; `pixel`
 * counts over all images. Added to dx. */
void dt_cpu_maxpool_gather(const dt_cpu_node *d, const float *dyp, const float *dyp2, const uint8_t *idx,
                           int64_t pixel, int64_t c0, int64_t n, float *dx);
dt_status dt_cpu_avgpool(void *node, dt_stream *stream);
dt_status dt_cpu_avgpool_bwd(void *node, dt_stream *stream);
dt_status dt_cpu_global_avgpool(void *node, dt_stream *stream);
dt_status dt_cpu_global_avgpool_bwd(void *node, dt_stream *stream);
/* loss.c */
dt_status dt_cpu_xent(void *node, dt_stream *stream);
dt_status dt_cpu_xent_bwd(void *node, dt_stream *stream);
dt_status dt_cpu_loss(void *node, dt_stream *stream);
dt_status dt_cpu_loss_bwd(void *node, dt_stream *stream);
/* cast.c */
dt_status dt_cpu_cast(void *node, dt_stream *stream);
/* input.c */
dt_status dt_cpu_edit(void *node, dt_stream *stream);
dt_status dt_cpu_input(void *node, dt_stream *stream);

/* optim.c: a kernel over a range of the parameter axis. */
typedef struct dt_cpu_axis dt_cpu_axis;
dt_status dt_cpu_axis_create(dt_axis_kind kind, const dt_axis_args *args, int32_t threads, dt_cpu_axis **out);
void dt_cpu_axis_destroy(dt_cpu_axis *axis); /* accepts NULL */
dt_status dt_cpu_axis_run(void *axis, dt_stream *stream);

/* host.c: processor name, memory. */
void dt_cpu_host_info(dt_device_info *out);

/* threads.c: how many threads this rank computes with: its share of the host's cores, unless the options say
 * otherwise. Makes OpenMP use as many. */
int32_t dt_cpu_threads_setup(const dt_backend_options *options);

#endif
