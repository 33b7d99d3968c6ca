/* The lowering table and the ops that are one launch of an own kernel. */
#include "lower.h"

#include "cost.h"

#include <stdio.h>
#include <string.h>

dt_status dt_launch_status(cudaError_t err, const dt_bound *k) {
    return err == cudaSuccess ? DT_OK : dt_cuda_fail(err, k->prep->label, __FILE__, __LINE__);
}

static void *in(const dt_bound *k, int32_t i) {
    return k->b.in[i];
}

static dt_status run_edit(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const int64_t *dim = k->prep->in_dim;
    (void)cu;
    return dt_launch_status(
        dt_gpu_edit(in(k, 0), in(k, 1), k->b.out[0], dim[0], dim[1] * dim[2], (int32_t)dim[3], s), k);
}

static dt_status run_input(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    const int64_t *src = p->in_dim, *dst = p->out_dim;
    dt_gpu_input_args a = {.image = in(k, 0),
                           .aug = in(k, DT_INPUT_AUG),
                           .mix = in(k, DT_INPUT_MIX),
                           .x = k->b.out[0],
                           .n = (int32_t)src[0],
                           .hs = (int32_t)src[1],
                           .ws = (int32_t)src[2],
                           .cs = (int32_t)src[3],
                           .h = (int32_t)dst[1],
                           .w = (int32_t)dst[2],
                           .cpad = (int32_t)dst[3]};
    memcpy(a.mean, p->node.attr.input.mean, sizeof a.mean);
    memcpy(a.stddev, p->node.attr.input.stddev, sizeof a.stddev);
    return dt_launch_status(dt_gpu_input(p->t, &a, s), k);
}

static dt_status run_unary(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_unary_attr *t = &k->prep->node.attr.unary;
    return dt_launch_status(
        dt_gpu_unary(&cu->gpu, k->prep->t, t->fn, t->a, t->b, in(k, 0), k->b.out[0], k->prep->n_elem, s), k);
}

static dt_status run_unary_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_unary_attr *t = &k->prep->node.attr.unary;
    return dt_launch_status(dt_gpu_unary_bwd(&cu->gpu, k->prep->t, t->fn, t->a, t->b, in(k, 0), in(k, 1),
                                             k->b.out[0], k->prep->n_elem, s),
                            k);
}

static dt_status prepare_binary(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu;
    p->binary.space = dt_broadcast_space(&g->value[n->out[0]], &g->value[n->in[DT_BINARY_IN_A]],
                                         &g->value[n->in[DT_BINARY_IN_B]]);
    return DT_OK;
}

static dt_status run_binary(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_binary_args a = {.function = k->prep->node.attr.binary.fn,
                                  .a = in(k, DT_BINARY_IN_A),
                                  .b = in(k, DT_BINARY_IN_B),
                                  .out = k->b.out[0],
                                  .space = k->prep->binary.space};
    return dt_launch_status(dt_gpu_binary(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status prepare_binary_bwd(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    const dt_value *read[2] = {NULL, NULL};
    for (int32_t i = 0; i < 2; i++)
        if (dt_node_has(n, DT_BINARY_BWD_IN_A + i)) read[i] = &g->value[n->in[DT_BINARY_BWD_IN_A + i]];
    read[n->attr.binary.operand] = &g->value[n->out[0]];
    p->binary.space = dt_broadcast_space(&g->value[n->in[DT_BINARY_BWD_IN_DY]], read[0], read[1]);
    (void)dt_prep_take(p, dt_gpu_binary_bwd_bytes(&cu->gpu, &p->binary.space, n->attr.binary.operand));
    return DT_OK;
}

static dt_status run_binary_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_binary_args a = {.function = k->prep->node.attr.binary.fn,
                                  .dy = in(k, DT_BINARY_BWD_IN_DY),
                                  .a = in(k, DT_BINARY_BWD_IN_A),
                                  .b = in(k, DT_BINARY_BWD_IN_B),
                                  .out = k->b.out[0],
                                  .space = k->prep->binary.space,
                                  .operand = k->prep->node.attr.binary.operand,
                                  .scale = 1.0f,
                                  .workspace = k->b.workspace};
    return dt_launch_status(dt_gpu_binary_bwd(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status prepare_transpose(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu;
    p->binary.space = dt_broadcast_permuted(&g->value[n->in[0]], n->attr.transpose.perm);
    p->binary.item = (int32_t)dt_dtype_size(g->value[n->in[0]].dtype);
    return DT_OK;
}

static dt_status run_transpose(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    return dt_launch_status(
        dt_gpu_transpose(&cu->gpu, p->binary.item, in(k, 0), k->b.out[0], &p->binary.space, s), k);
}

/* REDUCE and its gradient: over the space of x, whose operand A is the result. */
static dt_status prepare_reduction(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    const dt_value *in0 = &g->value[n->in[0]], *out0 = &g->value[n->out[0]];
    const bool back = n->op == DT_OP_REDUCE_BWD;
    p->binary.space = dt_broadcast_space(back ? out0 : in0, back ? in0 : out0, NULL);
    if (!back) (void)dt_prep_take(p, dt_gpu_binary_bwd_bytes(&cu->gpu, &p->binary.space, 0));
    return DT_OK;
}

static dt_status run_reduction(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_reduce_kind kind = p->node.attr.reduce.kind;
    if (kind == DT_REDUCE_MAX)
        return dt_launch_status(dt_gpu_max(p->t, in(k, 0), k->b.out[0], &p->binary.space, s), k);
    int64_t n_y = 1; /* a sum is the gradient of repeating */
    for (int32_t i = 0; i < DT_MAX_DIM; i++) n_y *= p->out_dim[i];
    const dt_gpu_binary_args a = {.function = DT_BINARY_ADD,
                                  .dy = in(k, 0),
                                  .out = k->b.out[0],
                                  .space = p->binary.space,
                                  .scale = kind == DT_REDUCE_MEAN ? (float)n_y / (float)p->n_elem : 1.0f,
                                  .workspace = k->b.workspace};
    return dt_launch_status(dt_gpu_binary_bwd(&cu->gpu, p->t, &a, s), k);
}

static dt_status run_reduction_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_reduce_kind kind = p->node.attr.reduce.kind;
    if (kind == DT_REDUCE_MAX)
        return dt_launch_status(dt_gpu_max_bwd(p->t, in(k, DT_REDUCE_BWD_IN_DY), in(k, DT_REDUCE_BWD_IN_X),
                                               in(k, DT_REDUCE_BWD_IN_Y), k->b.out[0], &p->binary.space, s),
                                k);
    const double n = (double)dt_space_n_elem(&p->binary.space) / (double)p->n_elem;
    return dt_launch_status(dt_gpu_repeat(&cu->gpu, p->t, in(k, DT_REDUCE_BWD_IN_DY), k->b.out[0],
                                          &p->binary.space, kind == DT_REDUCE_MEAN ? (float)(1 / n) : 1.0f,
                                          s),
                            k);
}

static dt_status run_softmax(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    return dt_launch_status(
        dt_gpu_softmax(p->t, in(k, 0), k->b.out[0], p->rows, p->c, p->node.op == DT_OP_LOG_SOFTMAX, s), k);
}

static dt_status run_softmax_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    return dt_launch_status(dt_gpu_softmax_bwd(p->t, in(k, 0), in(k, 1), k->b.out[0], p->rows, p->c,
                                               p->node.op == DT_OP_LOG_SOFTMAX_BWD, s),
                            k);
}

/* LAYERNORM and RMSNORM, which has no beta and no mean. */
static dt_status run_layernorm(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    const bool centred = p->node.op == DT_OP_LAYERNORM;
    const dt_gpu_layernorm_args a = {.x = in(k, DT_LN_IN_X),
                                     .gamma = in(k, DT_LN_IN_GAMMA),
                                     .beta = centred ? in(k, DT_LN_IN_BETA) : NULL,
                                     .y = k->b.out[DT_LN_OUT_Y],
                                     .rstd = k->b.out[DT_LN_OUT_RSTD],
                                     .mean = centred ? k->b.out[DT_LN_OUT_MEAN] : NULL,
                                     .rows = p->rows,
                                     .c = p->c,
                                     .eps = p->node.attr.norm.eps,
                                     .length = p->node.attr.norm.length};
    return dt_launch_status(dt_gpu_layernorm(p->t, &a, s), k);
}

static dt_status prepare_layernorm_bwd(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)g, (void)n;
    (void)dt_prep_take(p, dt_gpu_layernorm_bwd_bytes(&cu->gpu, p->rows, p->c));
    return DT_OK;
}

static dt_status run_layernorm_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const bool centred = p->node.op == DT_OP_LAYERNORM_BWD;
    const dt_gpu_layernorm_bwd_args a = {.dy = in(k, DT_LN_BWD_IN_DY),
                                         .x = in(k, DT_LN_BWD_IN_X),
                                         .rstd = in(k, DT_LN_BWD_IN_RSTD),
                                         .mean = centred ? in(k, DT_LN_BWD_IN_MEAN) : NULL,
                                         .gamma = in(k, DT_LN_BWD_IN_GAMMA),
                                         .dx2 = in(k, dt_op_norm_dx2(p->node.op)),
                                         .dx = k->b.out[DT_LN_BWD_OUT_DX],
                                         .dgamma = k->b.out[DT_LN_BWD_OUT_DGAMMA],
                                         .dbeta = centred ? k->b.out[DT_LN_BWD_OUT_DBETA] : NULL,
                                         .workspace = k->b.workspace,
                                         .rows = p->rows,
                                         .c = p->c,
                                         .eps = p->node.attr.norm.eps,
                                         .length = p->node.attr.norm.length};
    return dt_launch_status(dt_gpu_layernorm_bwd(&cu->gpu, p->t, &a, s), k);
}

static dt_status run_groupnorm(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    const dt_gpu_groupnorm_args a = {.x = in(k, DT_LN_IN_X),
                                     .gamma = in(k, DT_LN_IN_GAMMA),
                                     .beta = in(k, DT_LN_IN_BETA),
                                     .y = k->b.out[DT_LN_OUT_Y],
                                     .rstd = k->b.out[DT_LN_OUT_RSTD],
                                     .mean = k->b.out[DT_LN_OUT_MEAN],
                                     .n = p->in_dim[0],
                                     .positions = p->rows / p->in_dim[0],
                                     .c = p->c,
                                     .groups = p->node.attr.norm.groups,
                                     .eps = p->node.attr.norm.eps};
    return dt_launch_status(dt_gpu_groupnorm(p->t, &a, s), k);
}

static dt_status prepare_groupnorm_bwd(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu, (void)g, (void)n;
    (void)dt_prep_take(p, dt_gpu_groupnorm_bwd_bytes(p->rows, p->c));
    return DT_OK;
}

static dt_status run_groupnorm_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    const dt_gpu_groupnorm_bwd_args a = {.dy = in(k, DT_LN_BWD_IN_DY),
                                         .x = in(k, DT_LN_BWD_IN_X),
                                         .rstd = in(k, DT_LN_BWD_IN_RSTD),
                                         .mean = in(k, DT_LN_BWD_IN_MEAN),
                                         .gamma = in(k, DT_LN_BWD_IN_GAMMA),
                                         .dx = k->b.out[DT_LN_BWD_OUT_DX],
                                         .dgamma = k->b.out[DT_LN_BWD_OUT_DGAMMA],
                                         .dbeta = k->b.out[DT_LN_BWD_OUT_DBETA],
                                         .workspace = k->b.workspace,
                                         .n = p->in_dim[0],
                                         .positions = p->rows / p->in_dim[0],
                                         .c = p->c,
                                         .groups = p->node.attr.norm.groups};
    return dt_launch_status(dt_gpu_groupnorm_bwd(p->t, &a, s), k);
}

/* The main operand is the table, of the gradient dy. */
static dt_status prepare_embed(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu;
    const dt_value *table = &g->value[n->op == DT_OP_EMBED ? n->in[DT_EMBED_IN_WEIGHT] : n->out[0]];
    p->embed.rows = table->dim[table->ndim - 2];
    p->embed.tables = table->ndim == 3 ? table->dim[0] : 1;
    p->embed.per_table = dt_value_n_elem(&g->value[n->in[1]]) / p->embed.tables;
    return DT_OK;
}

static dt_gpu_embed_args embed_args(const dt_bound *k, int32_t from) {
    const dt_prep *p = k->prep;
    return (dt_gpu_embed_args){.from = in(k, from),
                               .index = in(k, 1),
                               .to = k->b.out[0],
                               .tables = p->embed.tables,
                               .per_table = p->embed.per_table,
                               .rows = p->embed.rows,
                               .c = p->c,
                               .padding = p->node.attr.embed.padding};
}

static dt_status run_embed(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_embed_args a = embed_args(k, DT_EMBED_IN_WEIGHT);
    return dt_launch_status(dt_gpu_embed(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status run_embed_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_gpu_embed_args a = embed_args(k, 0);
    return dt_launch_status(dt_gpu_embed_bwd(k->prep->t, &a, s), k);
}

static dt_status run_one_hot(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    return dt_launch_status(
        dt_gpu_one_hot(&cu->gpu, p->t, in(k, 0), k->b.out[0], p->n_elem, p->node.attr.embed.rows, s), k);
}

static dt_status prepare_cache(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu;
    p->cache = dt_op_cache_dims(g, n);
    return DT_OK;
}

static dt_status run_cache(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_gpu_cache_args a = {.dims = p->cache,
                                 .k = in(k, DT_CACHE_IN_K),
                                 .v = in(k, DT_CACHE_IN_V),
                                 .k_cache = in(k, DT_CACHE_IN_K_CACHE),
                                 .v_cache = in(k, DT_CACHE_IN_V_CACHE),
                                 .start = in(k, DT_CACHE_IN_START),
                                 .count = in(k, DT_CACHE_IN_COUNT),
                                 .lengths = k->b.out[0],
                                 .k_at = p->node.attr.cache.k_at,
                                 .v_at = p->node.attr.cache.v_at};
    return dt_launch_status(dt_gpu_cache(&cu->gpu, p->t, &a, s), k);
}

/* POSITION, and ROPE with its gradient. */
static dt_status run_rope(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const bool adds = p->node.op == DT_OP_POSITION;
    const dt_gpu_rope_args a = {.x = in(k, 0),
                                .start = in(k, 1),
                                .y = k->b.out[0],
                                .n = p->in_dim[0],
                                .steps = p->in_dim[1],
                                .heads = adds ? 1 : p->in_dim[2],
                                .c = p->c,
                                .back = p->node.op == DT_OP_ROPE_BWD};
    const dt_rope_attr *t = &p->node.attr.rope;
    return dt_launch_status(
        adds ? dt_gpu_position(&cu->gpu, p->t, &a, t, s) : dt_gpu_rope(&cu->gpu, p->t, &a, t, s), k);
}

/* RESHAPE is an alias; where a program gives it memory of its own, the bytes are copied. */
static dt_status run_reshape(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    if (in(k, 0) == k->b.out[0]) return DT_OK;
    size_t bytes = (size_t)k->prep->n_elem * dt_dtype_size(k->prep->t);
    return dt_launch_status(cudaMemcpyAsync(k->b.out[0], in(k, 0), bytes, cudaMemcpyDeviceToDevice, s), k);
}

static dt_status prepare_blocks(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    dt_blocks *b = NULL;
    DT_TRY(dt_cuda_own(cu, ((size_t)n->n_in + 1) * sizeof *b, (void **)&b));
    for (int32_t i = 0; i < n->n_in; i++) b[i] = dt_op_blocks(g, n, &g->value[n->in[i]]);
    b[n->n_in] = dt_op_blocks(g, n, &g->value[n->out[0]]);
    p->blocks.block = b;
    return DT_OK;
}

/* `rows` stretches of `bytes`, the next one a pitch later. */
static cudaError_t copy_rows(void *dst, int64_t dst_pitch, const void *src, int64_t src_pitch, int64_t bytes,
                             int64_t rows, cudaStream_t s) {
    if (rows * bytes == 0) return cudaSuccess;
    if (rows == 1 || (dst_pitch == bytes && src_pitch == bytes))
        return cudaMemcpyAsync(dst, src, (size_t)(rows * bytes), cudaMemcpyDeviceToDevice, s);
    return cudaMemcpy2DAsync(dst, (size_t)dst_pitch, src, (size_t)src_pitch, (size_t)bytes, (size_t)rows,
                             cudaMemcpyDeviceToDevice, s);
}

static dt_status run_concat(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_blocks *b = k->prep->blocks.block, *y = &b[k->prep->node.n_in];
    char *to = k->b.out[0];
    for (int32_t i = 0; i < k->prep->node.n_in; i++) {
        DT_TRY(dt_launch_status(copy_rows(to, y->bytes, in(k, i), b[i].bytes, b[i].bytes, y->rows, s), k));
        to += b[i].bytes;
    }
    return DT_OK;
}

static dt_status run_slice(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_blocks *x = &k->prep->blocks.block[0], *y = x + 1;
    return dt_launch_status(
        copy_rows(k->b.out[0], y->bytes, (char *)in(k, 0) + x->begin, x->bytes, y->bytes, y->rows, s), k);
}

static dt_status run_pad(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_blocks *x = &k->prep->blocks.block[0], *y = x + 1;
    DT_TRY(dt_launch_status(cudaMemsetAsync(k->b.out[0], 0, (size_t)(y->rows * y->bytes), s), k));
    return dt_launch_status(
        copy_rows((char *)k->b.out[0] + y->begin, y->bytes, in(k, 0), x->bytes, x->bytes, x->rows, s), k);
}

static dt_status run_dropout(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_dropout_attr *a = &k->prep->node.attr.dropout;
    return dt_launch_status(dt_gpu_dropout(&cu->gpu, k->prep->t, in(k, 0), k->b.out[0], k->prep->n_elem,
                                           a->rows ? k->prep->n_elem / k->prep->in_dim[0] : 0, a->p, a->salt,
                                           k->b.params, s),
                            k);
}

/* Pools: in_dim is the image forward and the pooled image backward. */
static dt_gpu_pool_args pool_args(const dt_bound *k, const int64_t *image, const int64_t *pooled) {
    const dt_window_attr *a = &k->prep->node.attr.window;
    return (dt_gpu_pool_args){.in = in(k, 0),
                              .out = k->b.out[0],
                              .n = (int32_t)image[0],
                              .h = (int32_t)image[1],
                              .w = (int32_t)image[2],
                              .c = (int32_t)image[3],
                              .p = (int32_t)pooled[1],
                              .q = (int32_t)pooled[2],
                              .kr = a->kernel[0],
                              .ks = a->kernel[1],
                              .sr = a->stride[0],
                              .ss = a->stride[1],
                              .pr = a->pad_begin[0],
                              .ps = a->pad_begin[1]};
}

static dt_status run_maxpool(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    dt_gpu_pool_args a = pool_args(k, k->prep->in_dim, k->prep->out_dim);
    a.idx_out = k->b.out[DT_MAXPOOL_OUT_IDX];
    a.scale = in(k, DT_MAXPOOL_IN_PRE_SCALE);
    a.shift = in(k, DT_MAXPOOL_IN_PRE_SHIFT);
    return dt_launch_status(dt_gpu_maxpool(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status run_maxpool_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    dt_gpu_pool_args a = pool_args(k, k->prep->out_dim, k->prep->in_dim);
    a.idx = in(k, 1);
    return dt_launch_status(dt_gpu_maxpool_bwd(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status run_avgpool(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_pool_args a = pool_args(k, k->prep->in_dim, k->prep->out_dim);
    return dt_launch_status(dt_gpu_avgpool(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status run_avgpool_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_pool_args a = pool_args(k, k->prep->out_dim, k->prep->in_dim);
    return dt_launch_status(dt_gpu_avgpool_bwd(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status run_global(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const int64_t *x = k->prep->in_dim;
    return dt_launch_status(
        dt_gpu_global_avgpool(&cu->gpu, k->prep->t, in(k, 0), k->b.out[0], x[0], x[1] * x[2], x[3], s), k);
}

static dt_status run_global_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const int64_t *x = k->prep->out_dim;
    return dt_launch_status(
        dt_gpu_global_avgpool_bwd(&cu->gpu, k->prep->t, in(k, 0), k->b.out[0], x[0], x[1] * x[2], x[3], s),
        k);
}

/* RESAMPLE, ADAPTIVE_MAXPOOL and their gradients. */
static dt_gpu_resample_args resample_args(const dt_bound *k, dt_resample_mode mode) {
    const int64_t *from = k->prep->in_dim, *to = k->prep->out_dim;
    return (dt_gpu_resample_args){.from = in(k, 0),
                                  .to = k->b.out[0],
                                  .n = to[0],
                                  .c = to[3],
                                  .h = (int32_t)to[1],
                                  .w = (int32_t)to[2],
                                  .p = (int32_t)from[1],
                                  .q = (int32_t)from[2],
                                  .mode = mode};
}

static dt_status run_resample(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_node *n = &k->prep->node;
    const dt_gpu_resample_args a = resample_args(k, n->attr.resample.mode);
    return dt_launch_status(dt_gpu_resample(&cu->gpu, k->prep->t, &a, n->op == DT_OP_RESAMPLE_BWD, s), k);
}

static dt_status run_adaptive_maxpool(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const bool back = k->prep->node.op == DT_OP_ADAPTIVE_MAXPOOL_BWD;
    dt_gpu_resample_args a = resample_args(k, DT_RESAMPLE_MEAN);
    a.idx = back ? in(k, 1) : NULL;
    a.idx_out = back ? NULL : k->b.out[DT_MAXPOOL_OUT_IDX];
    return dt_launch_status(dt_gpu_adaptive_maxpool(&cu->gpu, k->prep->t, &a, back, s), k);
}

enum { XENT_ROW_FLOATS = 4 };

static dt_status prepare_xent(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu, (void)g, (void)n;
    (void)dt_prep_take(p, p->rows * XENT_ROW_FLOATS * (int64_t)sizeof(float));
    return DT_OK;
}

static dt_gpu_xent_args xent_args(const dt_bound *k, int32_t i_valid) {
    const dt_prep *p = k->prep;
    return (dt_gpu_xent_args){.logits = in(k, 0),
                              .label = in(k, DT_XENT_IN_LABEL),
                              .valid = in(k, i_valid),
                              .rows = p->rows,
                              .rows_of_sample = p->rows / p->in_dim[0],
                              .k = p->c,
                              .attr = p->node.attr.loss};
}

static dt_status run_xent(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    dt_gpu_xent_args a = xent_args(k, DT_XENT_IN_VALID);
    a.partner = in(k, DT_XENT_IN_PARTNER), a.share = in(k, DT_XENT_IN_SHARE);
    a.loss = k->b.out[DT_XENT_OUT_LOSS], a.stats = k->b.out[DT_XENT_OUT_STATS];
    return dt_launch_status(dt_gpu_xent(k->prep->t, &a, in(k, DT_XENT_IN_METRICS), k->b.workspace, s), k);
}

static dt_status run_xent_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    dt_gpu_xent_args a = xent_args(k, DT_XENT_BWD_IN_VALID);
    a.partner = in(k, DT_XENT_BWD_IN_PARTNER), a.share = in(k, DT_XENT_BWD_IN_SHARE);
    a.stats = in(k, DT_XENT_BWD_IN_STATS);
    return dt_launch_status(dt_gpu_xent_bwd(k->prep->t, &a, k->b.out[0], k->b.params, s), k);
}

/* Of LOSS and LOSS_BWD: elements of a row. */
static int64_t row_elems(const dt_prep *p) {
    return p->n_elem / p->in_dim[0];
}

static dt_status prepare_loss(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu, (void)g, (void)n;
    (void)dt_prep_take(p, p->in_dim[0] * DT_GPU_LOSS_STATS * (int64_t)sizeof(float));
    return DT_OK;
}

static dt_status run_loss(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    return dt_launch_status(dt_gpu_loss(p->t, in(k, DT_LOSS_IN_X), in(k, DT_LOSS_IN_TARGET),
                                        in(k, DT_LOSS_IN_VALID), in(k, DT_LOSS_IN_METRICS), k->b.out[0],
                                        p->in_dim[0], row_elems(p), &p->node.attr.loss, k->b.workspace, s),
                            k);
}

static dt_status run_loss_bwd(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    return dt_launch_status(dt_gpu_loss_bwd(&cu->gpu, p->t, in(k, DT_LOSS_IN_X), in(k, DT_LOSS_IN_TARGET),
                                            in(k, DT_LOSS_IN_VALID), k->b.out[0], p->in_dim[0], row_elems(p),
                                            &p->node.attr.loss, k->b.params, s),
                            k);
}

static dt_status prepare_cast(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu;
    p->t = g->value[n->in[0]].dtype; /* not what the graph computes in */
    return DT_OK;
}

static dt_status run_cast(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    return dt_launch_status(
        dt_gpu_cast_values(&cu->gpu, p->t, in(k, 0), p->node.attr.cast.dtype, k->b.out[0], p->n_elem, s), k);
}

/* Column reductions over the main operand. */
static dt_status prepare_reduce(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)g, (void)n;
    (void)dt_prep_take(p, dt_gpu_reduce_bytes(&cu->gpu, p->t, p->rows, p->c));
    return DT_OK;
}

static dt_status run_bn_stats(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    return dt_launch_status(
        dt_gpu_bn_stats(&cu->gpu, p->t, in(k, 0), k->b.out[0], false, p->rows, p->c, k->b.workspace, s), k);
}

static dt_status run_bias_grad(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    return dt_launch_status(
        dt_gpu_bias_grad(&cu->gpu, p->t, in(k, 0), k->b.out[0], p->rows, p->c, k->b.workspace, s), k);
}

static dt_status run_bn_finalize(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_norm_attr *t = &k->prep->node.attr.norm;
    const dt_gpu_bn_finalize_args a = {.stats = in(k, DT_FINALIZE_IN_STATS),
                                       .gamma = in(k, DT_FINALIZE_IN_GAMMA),
                                       .beta = in(k, DT_FINALIZE_IN_BETA),
                                       .rmean = in(k, DT_FINALIZE_IN_RMEAN),
                                       .rvar = in(k, DT_FINALIZE_IN_RVAR),
                                       .mean = k->b.out[DT_FINALIZE_OUT_MEAN],
                                       .invstd = k->b.out[DT_FINALIZE_OUT_INVSTD],
                                       .scale = k->b.out[DT_FINALIZE_OUT_SCALE],
                                       .shift = k->b.out[DT_FINALIZE_OUT_SHIFT],
                                       .c = k->prep->out_dim[0],
                                       .rows = t->rows,
                                       .eps = t->eps,
                                       .momentum = t->momentum,
                                       .stats_are_sums = t->stats_are_sums};
    return dt_launch_status(dt_gpu_bn_finalize(&a, s), k);
}

static dt_status prepare_bn_sync(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu, (void)g, (void)n;
    (void)dt_prep_take(p, 2 * p->c * (int64_t)sizeof(double));
    return DT_OK;
}

static dt_status run_bn_sync(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_norm_attr *t = &k->prep->node.attr.norm;
    const dt_ranks *ranks = k->b.ranks;
    const dt_gpu_bn_sync_args a = {.in = in(k, 0),
                                   .out = k->b.out[0],
                                   .sum = k->b.workspace,
                                   .weight =
                                       (t->stats_are_sums ? 1.0 : (double)t->rows) / (double)t->rows_all,
                                   .c = k->prep->c,
                                   .grad = k->prep->node.op == DT_OP_BN_SYNC_GRAD,
                                   .stats_are_sums = t->stats_are_sums};
    (void)cu;
    DT_TRY(dt_launch_status(dt_gpu_bn_sync_part(&a, s), k));
    if (ranks && ranks->sum) DT_TRY(ranks->sum(ranks->arg, a.sum, 2 * a.c, (dt_stream *)s));
    return dt_launch_status(dt_gpu_bn_sync_all(&a, s), k);
}

static dt_status run_bn_fold(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    return dt_launch_status(dt_gpu_bn_fold(in(k, 0), in(k, 1), in(k, 2), in(k, 3), k->b.out[0], k->b.out[1],
                                           k->prep->out_dim[0], k->prep->node.attr.norm.eps, s),
                            k);
}

static dt_status run_bn_apply(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_bn_apply_args a = {.x = in(k, DT_APPLY_IN_X),
                                    .scale = in(k, DT_APPLY_IN_SCALE),
                                    .shift = in(k, DT_APPLY_IN_SHIFT),
                                    .res = in(k, DT_APPLY_IN_RES),
                                    .rscale = in(k, DT_APPLY_IN_RES_SCALE),
                                    .rshift = in(k, DT_APPLY_IN_RES_SHIFT),
                                    .y = k->b.out[0],
                                    .rows = k->prep->rows,
                                    .c = k->prep->c,
                                    .relu = k->prep->node.attr.norm.relu};
    return dt_launch_status(dt_gpu_bn_apply(&cu->gpu, k->prep->t, &a, s), k);
}

/* Of BN_REDUCE and BN_DX: a pooled gradient is gathered from windows of one shape only. */
static dt_status need_gather(const dt_node *n, int32_t dyp, dt_prep *p) {
    if (!dt_node_has(n, dyp)) return DT_OK;
    if (!dt_pool_gathers(&n->attr.window))
        return dt_fail(DT_ERR_UNSUPPORTED, "%s: gradients are gathered only from pools of 3x3/2, padding 1",
                       p->label);
    const size_t len = strlen(p->label);
    snprintf(p->label + len, sizeof p->label - len, " from the pool");
    return DT_OK;
}

static dt_status prepare_bn_reduce(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    DT_TRY(need_gather(n, DT_REDUCE_IN_DYP, p));
    return prepare_reduce(cu, g, n, p);
}

static dt_status prepare_bn_dx(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    (void)cu, (void)g;
    return need_gather(n, DT_DX_IN_DYP, p);
}

/* What a gradient is gathered from, dyp, dyp2, idx being slots in a row; nothing where dyp is empty. The
 * pooled image follows from the window. */
static dt_gpu_pooled pooled_args(const dt_bound *k, int32_t dyp) {
    const int64_t *c = k->prep->in_dim;
    if (!in(k, dyp)) return (dt_gpu_pooled){0};
    return (dt_gpu_pooled){.dy = in(k, dyp),
                           .dy2 = in(k, dyp + 1),
                           .idx = in(k, dyp + 2),
                           .n = (int32_t)c[0],
                           .h = (int32_t)c[1],
                           .w = (int32_t)c[2],
                           .p = (int32_t)(c[1] + 1) / 2,
                           .q = (int32_t)(c[2] + 1) / 2};
}

static dt_status run_bn_reduce(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_bn_reduce_args a = {.dy = in(k, DT_REDUCE_IN_DY),
                                     .dy2 = in(k, DT_REDUCE_IN_DY2),
                                     .c_in = in(k, DT_REDUCE_IN_C),
                                     .mean = in(k, DT_REDUCE_IN_MEAN),
                                     .invstd = in(k, DT_REDUCE_IN_INVSTD),
                                     .gamma = in(k, DT_REDUCE_IN_GAMMA),
                                     .y = in(k, DT_REDUCE_IN_Y),
                                     .scale = in(k, DT_REDUCE_IN_SCALE),
                                     .shift = in(k, DT_REDUCE_IN_SHIFT),
                                     .dgamma = k->b.out[DT_REDUCE_OUT_DGAMMA],
                                     .dbeta = k->b.out[DT_REDUCE_OUT_DBETA],
                                     .coef = k->b.out[DT_REDUCE_OUT_COEF],
                                     .dz = k->b.out[DT_REDUCE_OUT_DZ],
                                     .workspace = k->b.workspace,
                                     .rows = k->prep->rows,
                                     .c = k->prep->c,
                                     .pooled = pooled_args(k, DT_REDUCE_IN_DYP)};
    return dt_launch_status(dt_gpu_bn_reduce(&cu->gpu, k->prep->t, &a, s), k);
}

static dt_status run_bn_dx(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_gpu_bn_dx_args a = {.dy = in(k, DT_DX_IN_DY),
                                 .c_in = in(k, DT_DX_IN_C),
                                 .coef = in(k, DT_DX_IN_COEF),
                                 .scale = in(k, DT_DX_IN_SCALE),
                                 .shift = in(k, DT_DX_IN_SHIFT),
                                 .dc = k->b.out[0],
                                 .rows = k->prep->rows,
                                 .c = k->prep->c,
                                 .pooled = pooled_args(k, DT_DX_IN_DYP)};
    return dt_launch_status(dt_gpu_bn_dx(&cu->gpu, k->prep->t, &a, s), k);
}

/* BATCHNORM has no row: it is split before lowering. */
static const dt_lower_row TABLE[] = {
    [DT_OP_EDIT] = {"edit", NULL, NULL, run_edit},
    [DT_OP_INPUT] = {"input", NULL, NULL, run_input},
    [DT_OP_CONV] = {"conv", dt_lower_conv_prepare, dt_lower_conv_bind, dt_lower_conv_run},
    [DT_OP_DENSE] = {"dense", dt_lower_dense_prepare, NULL, dt_lower_dense_run},
    [DT_OP_UNARY] = {"unary", NULL, NULL, run_unary},
    [DT_OP_BINARY] = {"binary", prepare_binary, NULL, run_binary},
    [DT_OP_SOFTMAX] = {"softmax", NULL, NULL, run_softmax},
    [DT_OP_LOG_SOFTMAX] = {"log_softmax", NULL, NULL, run_softmax},
    [DT_OP_LAYERNORM] = {"layernorm", NULL, NULL, run_layernorm},
    [DT_OP_RMSNORM] = {"rmsnorm", NULL, NULL, run_layernorm},
    [DT_OP_GROUPNORM] = {"groupnorm", NULL, NULL, run_groupnorm},
    [DT_OP_EMBED] = {"embed", prepare_embed, NULL, run_embed},
    [DT_OP_ONE_HOT] = {"one_hot", NULL, NULL, run_one_hot},
    [DT_OP_POSITION] = {"position", NULL, NULL, run_rope},
    [DT_OP_ROPE] = {"rope", NULL, NULL, run_rope},
    [DT_OP_MAXPOOL] = {"maxpool", NULL, NULL, run_maxpool},
    [DT_OP_AVGPOOL] = {"avgpool", NULL, NULL, run_avgpool},
    [DT_OP_GLOBAL_AVGPOOL] = {"global_avgpool", NULL, NULL, run_global},
    [DT_OP_RESAMPLE] = {"resample", NULL, NULL, run_resample},
    [DT_OP_ADAPTIVE_MAXPOOL] = {"adaptive_maxpool", NULL, NULL, run_adaptive_maxpool},
    [DT_OP_RESHAPE] = {"reshape", NULL, NULL, run_reshape},
    [DT_OP_CONCAT] = {"concat", prepare_blocks, NULL, run_concat},
    [DT_OP_SLICE] = {"slice", prepare_blocks, NULL, run_slice},
    [DT_OP_PAD] = {"pad", prepare_blocks, NULL, run_pad},
    [DT_OP_TRANSPOSE] = {"transpose", prepare_transpose, NULL, run_transpose},
    [DT_OP_MATMUL] = {"matmul", dt_lower_matmul_prepare, NULL, dt_lower_matmul_run},
    [DT_OP_REDUCE] = {"reduce", prepare_reduction, NULL, run_reduction},
    [DT_OP_DROPOUT] = {"dropout", NULL, NULL, run_dropout},
    [DT_OP_RECURRENT] = {"recurrent", dt_lower_rnn_prepare, NULL, dt_lower_rnn_run},
    [DT_OP_ATTENTION] = {"attention", dt_lower_attention_prepare, dt_lower_attention_bind,
                         dt_lower_attention_run},
    [DT_OP_XENT] = {"xent", prepare_xent, NULL, run_xent},
    [DT_OP_LOSS] = {"loss", prepare_loss, NULL, run_loss},
    [DT_OP_CAST] = {"cast", prepare_cast, NULL, run_cast},
    [DT_OP_CALL] = {"call", NULL, NULL, NULL},         /* a function of the host */
    [DT_OP_QUANTIZE] = {"quantize", NULL, NULL, NULL}, /* the CPU's */
    [DT_OP_DEQUANTIZE] = {"dequantize", NULL, NULL, NULL},
    [DT_OP_QPRODUCT] = {"qproduct", NULL, NULL, NULL},
    [DT_OP_BN_STATS] = {"bn_stats", prepare_reduce, NULL, run_bn_stats},
    [DT_OP_BN_FINALIZE] = {"bn_finalize", NULL, NULL, run_bn_finalize},
    [DT_OP_BN_FOLD] = {"bn_fold", NULL, NULL, run_bn_fold},
    [DT_OP_BN_APPLY] = {"bn_apply", NULL, NULL, run_bn_apply},
    [DT_OP_BN_SYNC] = {"bn_sync", prepare_bn_sync, NULL, run_bn_sync},
    [DT_OP_BN_SYNC_GRAD] = {"bn_sync_grad", prepare_bn_sync, NULL, run_bn_sync},
    [DT_OP_GRAM] = {"gram", dt_lower_gram_prepare, NULL, dt_lower_gram_run},
    [DT_OP_GRAM_CROSS] = {"gram_cross", dt_lower_gram_prepare, NULL, dt_lower_gram_run},
    [DT_OP_BN_GRAM] = {"bn_gram", dt_lower_gram_prepare, NULL, dt_lower_bn_gram_run},
    [DT_OP_BN_MASK] = {"bn_mask", dt_lower_gram_prepare, NULL, dt_lower_bn_mask_run},
    [DT_OP_BN_GRAM_GRAD] = {"bn_gram_grad", dt_lower_gram_prepare, NULL, dt_lower_bn_gram_grad_run},
    [DT_OP_BN_GRAM_DX] = {"bn_gram_dx", dt_lower_gram_prepare, NULL, dt_lower_bn_gram_dx_run},
    [DT_OP_CACHE] = {"cache", prepare_cache, NULL, run_cache},
    [DT_OP_CONV_DGRAD] = {"conv_dgrad", dt_lower_conv_prepare, dt_lower_conv_bind, dt_lower_dgrad_run},
    [DT_OP_CONV_WGRAD] = {"conv_wgrad", dt_lower_conv_prepare, dt_lower_conv_bind, dt_lower_wgrad_run},
    [DT_OP_DENSE_DGRAD] = {"dense_dgrad", dt_lower_dense_prepare, NULL, dt_lower_dense_run},
    [DT_OP_DENSE_WGRAD] = {"dense_wgrad", dt_lower_dense_prepare, NULL, dt_lower_dense_run},
    [DT_OP_BIAS_GRAD] = {"bias_grad", prepare_reduce, NULL, run_bias_grad},
    [DT_OP_BN_REDUCE] = {"bn_reduce", prepare_bn_reduce, NULL, run_bn_reduce},
    [DT_OP_BN_DX] = {"bn_dx", prepare_bn_dx, NULL, run_bn_dx},
    [DT_OP_UNARY_BWD] = {"unary_bwd", NULL, NULL, run_unary_bwd},
    [DT_OP_BINARY_BWD] = {"binary_bwd", prepare_binary_bwd, NULL, run_binary_bwd},
    [DT_OP_SOFTMAX_BWD] = {"softmax_bwd", NULL, NULL, run_softmax_bwd},
    [DT_OP_LOG_SOFTMAX_BWD] = {"log_softmax_bwd", NULL, NULL, run_softmax_bwd},
    [DT_OP_LAYERNORM_BWD] = {"layernorm_bwd", prepare_layernorm_bwd, NULL, run_layernorm_bwd},
    [DT_OP_RMSNORM_BWD] = {"rmsnorm_bwd", prepare_layernorm_bwd, NULL, run_layernorm_bwd},
    [DT_OP_GROUPNORM_BWD] = {"groupnorm_bwd", prepare_groupnorm_bwd, NULL, run_groupnorm_bwd},
    [DT_OP_EMBED_BWD] = {"embed_bwd", prepare_embed, NULL, run_embed_bwd},
    [DT_OP_ROPE_BWD] = {"rope_bwd", NULL, NULL, run_rope},
    [DT_OP_MAXPOOL_BWD] = {"maxpool_bwd", NULL, NULL, run_maxpool_bwd},
    [DT_OP_AVGPOOL_BWD] = {"avgpool_bwd", NULL, NULL, run_avgpool_bwd},
    [DT_OP_GLOBAL_AVGPOOL_BWD] = {"global_avgpool_bwd", NULL, NULL, run_global_bwd},
    [DT_OP_RESAMPLE_BWD] = {"resample_bwd", NULL, NULL, run_resample},
    [DT_OP_ADAPTIVE_MAXPOOL_BWD] = {"adaptive_maxpool_bwd", NULL, NULL, run_adaptive_maxpool},
    [DT_OP_REDUCE_BWD] = {"reduce_bwd", prepare_reduction, NULL, run_reduction_bwd},
    [DT_OP_DROPOUT_BWD] = {"dropout_bwd", NULL, NULL, run_dropout},
    [DT_OP_RECURRENT_BWD] = {"recurrent_bwd", dt_lower_rnn_prepare, NULL, dt_lower_rnn_bwd_run},
    [DT_OP_ATTENTION_BWD] = {"attention_bwd", dt_lower_attention_prepare, dt_lower_attention_bind,
                             dt_lower_attention_run},
    [DT_OP_XENT_BWD] = {"xent_bwd", NULL, NULL, run_xent_bwd},
    [DT_OP_LOSS_BWD] = {"loss_bwd", NULL, NULL, run_loss_bwd},
};
_Static_assert(sizeof TABLE / sizeof *TABLE == DT_OP_COUNT, "a row for each op");

const dt_lower_row *dt_lower_get(dt_op op) {
    return op >= 0 && op < DT_OP_COUNT && TABLE[op].run ? &TABLE[op] : NULL;
}
