/* CONV, CONV_DGRAD and CONV_WGRAD: a cuDNN plan, with what the plan does not do done by own kernels around
 * it.
 *
 * A fused node runs cuDNN's fused engine where there is one (fp16) and otherwise the plain convolution
 * between our passes: the result is the same, so a pass may fuse freely and only time decides. */
#include <stdio.h>
#include <stdlib.h>

#include "gram.h"
#include "lower.h"

/* Vectors of C floats that the fused dgrad needs besides the node's own. */
enum { VEC_BETA = 0, VEC_DGAMMA, VEC_DBETA, VEC_EQ_DY, VEC_EQ_X, VEC_EQ_BIAS, VEC_COUNT };

/* All convolutions of the graph as they stand, so that their plans are built together, in threads. */
static dt_status require_graph(dt_cuda *cu, const dt_graph *g, const dt_node *mine, dt_conv_kind my_kind,
                               const dt_algo **out) {
    enum { FORMS = 2 };
    dt_conv_spec spec = dt_conv_spec_of(cu, g, mine, my_kind);
    *out = dt_algos_find(cu, &spec);
    if (*out && (*out)->known && ((*out)->plan || !(*out)->usable)) return DT_OK;
    int32_t n = 0;
    dt_conv_spec *all = calloc((size_t)(g->n_node + 1) * FORMS, sizeof *all);
    if (!all) return dt_fail(DT_ERR_MEMORY, "no memory to list the graph's convolutions");
    n += dt_conv_spec_forms(g, mine, my_kind, all + n);
    for (int32_t i = 0; i < g->n_node; i++) {
        const dt_node *node = &g->node[i];
        if (node->op != DT_OP_CONV && node->op != DT_OP_CONV_DGRAD && node->op != DT_OP_CONV_WGRAD) continue;
        dt_conv_kind kind = dt_conv_kind_of(node);
        if (!dt_conv_fusable(cu, g, node)) kind = dt_conv_plain_kind(kind);
        n += dt_conv_spec_forms(g, node, kind, all + n);
    }
    dt_status st = dt_algos_require(cu, n, all, true);
    free(all);
    spec = dt_conv_spec_of(cu, g, mine, my_kind);
    *out = dt_algos_find(cu, &spec);
    return st;
}

/* A 1x1 convolution that ends in a normalisation may be faster as a product of cuBLASLt. */
static dt_status try_blas(dt_cuda *cu, const dt_graph *g, const dt_node *n, const dt_conv_dims *d,
                          dt_prep *p) {
    dt_conv_prep *c = &p->conv;
    if (n->op != DT_OP_CONV || !dt_node_has(n, DT_CONV_IN_SCALE) || dt_node_has(n, DT_CONV_IN_RES_SCALE) ||
        !dt_op_conv_is_product(g, n) ||
        (n->attr.window.act != DT_ACT_NONE && n->attr.window.act != DT_ACT_RELU))
        return DT_OK;
    const double algo_s = c->own_end || c->algo->seconds <= 0 ? 1e30 : c->algo->seconds;
    return dt_blas_apply_choose(cu, p->t, d->n * d->p * d->q, d->c, d->k, n->attr.window.act == DT_ACT_RELU,
                                dt_node_has(n, DT_CONV_IN_RES), algo_s, &c->blas);
}

/* Seconds of a pass of ours over the result, and over a residual. */
static double pass_s(const dt_graph *g, const dt_node *n) {
    const double launch_s = 1.5e-6, bytes_per_s = 3.5e12;
    const double y = (double)dt_value_bytes(&g->value[n->out[0]]);
    return launch_s + y * (dt_node_has(n, DT_CONV_IN_RES) ? 3 : 2) / bytes_per_s;
}

/* Of evaluation, ending in a bias: the fastest of cuDNN's fused engine, cuDNN's plain one with a pass of ours, and, of 1x1,
 * a product of cuBLASLt. */
static dt_status choose_end(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    dt_conv_prep *c = &p->conv;
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    const bool biased = dt_node_has(n, DT_CONV_IN_BIAS), residual = dt_node_has(n, DT_CONV_IN_RES);
    const int32_t act = n->attr.window.act;
    if (g->training || cu->deterministic || dt_node_has(n, DT_CONV_IN_SCALE) ||
        (!biased && !residual && !act) || dt_conv_pre_slot(n) >= 0 || dt_node_makes(n, DT_CONV_OUT_STATS) ||
        (biased && g->value[n->in[DT_CONV_IN_BIAS]].dtype != p->t))
        return DT_OK;
    const dt_conv_spec plain_spec = dt_conv_spec_of(cu, g, n, DT_CONV_F);
    const dt_algo *plain = dt_algos_find(cu, &plain_spec);
    const bool fused = dt_conv_ends_in_bias((dt_conv_kind)c->algo->spec.kind);
    double best =
        c->algo->usable && c->algo->seconds > 0 ? c->algo->seconds + (fused ? 0 : pass_s(g, n)) : 1e30;
    if (fused && plain && plain->known && plain->usable && plain->seconds > 0 &&
        plain->seconds + pass_s(g, n) < best) {
        DT_TRY(require_graph(cu, g, n, DT_CONV_F, &c->algo));
        best = plain->seconds + pass_s(g, n);
    }
    if (!dt_op_conv_is_product(g, n)) return DT_OK;
    c->own_act = !dt_blas_ends_in(act);
    const dt_blas_end_shape shape = {.t = p->t,
                                     .rows = d.n * d.p * d.q,
                                     .c = d.c,
                                     .k = d.k,
                                     .act = c->own_act ? DT_ACT_NONE : act,
                                     .bias = biased,
                                     .residual = residual};
    DT_TRY(dt_blas_end_choose(cu, &shape, &c->end));
    const double s = c->end.seconds + (c->own_act ? pass_s(g, n) : 0);
    if (c->end.use && s >= best && !cu->take_candidate) c->end.use = false;
    return DT_OK;
}

dt_status dt_lower_conv_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    dt_conv_prep *c = &p->conv;
    dt_conv_kind kind = dt_conv_kind_of(n), plain = dt_conv_plain_kind(kind);
    DT_TRY(require_graph(cu, g, n, dt_conv_fusable(cu, g, n) ? kind : plain, &c->algo));
    if (!c->algo->usable && c->algo->spec.kind != (int32_t)plain)
        DT_TRY(require_graph(cu, g, n, plain, &c->algo));
    if (kind != plain || n->op == DT_OP_CONV) DT_TRY(choose_end(cu, g, n, p));
    const dt_conv_spec spec = c->algo->spec;
    dt_conv_spec_text(&spec, p->label, sizeof p->label - 16);
    if (!c->algo->usable)
        return dt_fail(DT_ERR_UNSUPPORTED, "cuDNN has no engine for %s: %s", p->label,
                       c->algo->error[0] ? c->algo->error : "known from the algorithm cache");
    bool fused = spec.kind != (int32_t)plain;
    const dt_conv_dims *d = &spec.d;
    const bool forward = n->op == DT_OP_CONV, dgrad = n->op == DT_OP_CONV_DGRAD;
    const bool sums = dgrad && dt_node_has(n, DT_DGRAD_IN_C),
               stats = forward && dt_node_makes(n, DT_CONV_OUT_STATS);
    int64_t x_elem = d->n * d->h * d->w * d->c, y_rows = d->n * d->p * d->q;
    c->i_pre = dt_conv_pre_slot(n);
    c->own_prologue = c->i_pre >= 0 && !fused;
    c->own_stats = stats && !fused;
    c->own_epilogue = sums && !fused;
    c->bias_is_t = forward && dt_node_has(n, DT_CONV_IN_BIAS) && p->t != DT_DTYPE_F32 &&
                   g->value[n->in[DT_CONV_IN_BIAS]].dtype == p->t;
    c->own_end = forward && !fused && !c->end.use &&
                 (n->attr.window.act || dt_node_has(n, DT_CONV_IN_SCALE) || dt_node_has(n, DT_CONV_IN_BIAS) ||
                  dt_node_has(n, DT_CONV_IN_RES));
    c->own_mask = dgrad && (dt_node_has(n, DT_DGRAD_IN_DX2) || dt_node_has(n, DT_DGRAD_IN_Y)) && !fused;
    DT_TRY(try_blas(cu, g, n, d, p));
    c->plan_at = dt_prep_take(p, c->blas.use  ? c->blas.bytes
                                 : c->end.use ? c->end.matmul.bytes
                                              : c->algo->workspace_bytes);
    c->t_at = c->f32_at = c->reduce_at = c->fold_at = -1;
    if (d->c != dt_op_conv_dims(g, n).c)
        c->fold_at = dt_prep_take(p, dt_conv_uid_elems(&spec, DT_UID_W) * (int64_t)dt_dtype_size(p->t));
    if (c->i_pre >= 0)
        c->t_at = dt_prep_take(p, (c->own_prologue ? x_elem : 2 * d->c) * (int64_t)dt_dtype_size(p->t));
    if (sums && fused) c->f32_at = dt_prep_take(p, VEC_COUNT * d->c * (int64_t)sizeof(float));
    if (spec.kind == DT_CONV_SBR_STATS && !stats)
        c->f32_at = dt_prep_take(p, 2 * d->k * (int64_t)sizeof(float));
    if (c->own_stats) c->reduce_at = dt_prep_take(p, dt_gpu_reduce_bytes(&cu->gpu, p->t, y_rows, d->k));
    if (c->own_epilogue)
        c->reduce_at = dt_prep_take(p, dt_gpu_reduce_bytes(&cu->gpu, p->t, d->n * d->h * d->w, d->c));
    if (c->own_mask) {
        c->reduce_at = dt_prep_take(p, dt_gpu_bn_mask_bytes(&cu->gpu, d->n * d->h * d->w, d->c));
        c->f32_at = dt_prep_take(p, d->c * (int64_t)sizeof(float));
    }
    size_t used = 0;
    while (p->label[used]) used++;
    if (c->blas.use || c->end.use)
        snprintf(p->label + used, sizeof p->label - used, " [cublaslt]");
    else
        snprintf(p->label + used, sizeof p->label - used, " [%lld]", (long long)c->algo->choice.engine);
    return DT_OK;
}

static void forward_pointers(const dt_bound *k, void **ptr) {
    const dt_conv_prep *c = &k->prep->conv;
    const dt_conv_dims *d = &c->algo->spec.d;
    void *const *in = k->b.in;
    float *stats = k->b.out[DT_CONV_OUT_STATS];
    if (!stats) stats = dt_bound_workspace(k, c->f32_at);
    ptr[DT_UID_X] = c->own_prologue ? dt_bound_workspace(k, c->t_at) : in[DT_CONV_IN_X];
    ptr[DT_UID_W] = in[DT_CONV_IN_W];
    ptr[DT_UID_Y] = k->b.out[DT_CONV_OUT_Y];
    ptr[DT_UID_SUM] = stats;
    ptr[DT_UID_SQSUM] = stats + d->k;
    ptr[DT_UID_KSCALE] = in[DT_CONV_IN_SCALE];
    ptr[DT_UID_KSHIFT] = in[DT_CONV_IN_SHIFT];
    ptr[DT_UID_RES] = in[DT_CONV_IN_RES];
    ptr[DT_UID_BIAS] = in[DT_CONV_IN_BIAS];
    ptr[DT_UID_RSCALE] = in[DT_CONV_IN_RES_SCALE];
    ptr[DT_UID_RSHIFT] = in[DT_CONV_IN_RES_SHIFT];
}

static void dgrad_pointers(const dt_bound *k, void **ptr) {
    const dt_conv_prep *c = &k->prep->conv;
    const int64_t n = c->algo->spec.d.c;
    float *vec = dt_bound_workspace(k, c->f32_at);
    ptr[DT_UID_X] = k->b.out[0];
    ptr[DT_UID_W] = k->b.in[DT_DGRAD_IN_W];
    ptr[DT_UID_Y] = k->b.in[DT_DGRAD_IN_DY];
    ptr[DT_UID_DX2] = k->b.in[DT_DGRAD_IN_DX2];
    ptr[DT_UID_MASK] = k->b.in[DT_DGRAD_IN_Y];
    if (!k->b.in[DT_DGRAD_IN_C]) return;
    ptr[DT_UID_C] = k->b.in[DT_DGRAD_IN_C];
    ptr[DT_UID_MEAN] = k->b.in[DT_DGRAD_IN_MEAN];
    ptr[DT_UID_INVSTD] = k->b.in[DT_DGRAD_IN_INVSTD];
    ptr[DT_UID_GAMMA] = k->b.in[DT_DGRAD_IN_GAMMA];
    ptr[DT_UID_BETA] = vec + VEC_BETA * n;
    ptr[DT_UID_DGAMMA] = vec + VEC_DGAMMA * n;
    ptr[DT_UID_DBETA] = vec + VEC_DBETA * n;
    ptr[DT_UID_EQ_DY] = vec + VEC_EQ_DY * n;
    ptr[DT_UID_EQ_X] = vec + VEC_EQ_X * n;
    ptr[DT_UID_EQ_BIAS] = vec + VEC_EQ_BIAS * n;
}

static void wgrad_pointers(const dt_bound *k, void **ptr) {
    const dt_conv_prep *c = &k->prep->conv;
    ptr[DT_UID_X] = c->own_prologue ? dt_bound_workspace(k, c->t_at) : k->b.in[DT_WGRAD_IN_X];
    ptr[DT_UID_W] = k->b.out[0];
    ptr[DT_UID_Y] = k->b.in[DT_WGRAD_IN_DY];
}

static void release_pack(void *ptr) {
    dt_dnn_release(ptr);
}

dt_status dt_lower_adopt_pack(dt_cuda *cu, dt_bound *k) {
    return dt_cuda_adopt(cu, &k->pack_desc, release_pack);
}

dt_status dt_lower_conv_bind(dt_cuda *cu, dt_bound *k) {
    const dt_conv_prep *c = &k->prep->conv;
    void *ptr[DT_UID_COUNT] = {0};
    if (c->blas.use || c->end.use) return DT_OK;
    if (k->prep->node.op == DT_OP_CONV)
        forward_pointers(k, ptr);
    else if (k->prep->node.op == DT_OP_CONV_DGRAD)
        dgrad_pointers(k, ptr);
    else
        wgrad_pointers(k, ptr);
    if (c->i_pre >= 0 && !c->own_prologue) {
        char *vectors = dt_bound_workspace(k, c->t_at);
        ptr[DT_UID_SCALE] = vectors;
        ptr[DT_UID_SHIFT] = vectors + c->algo->spec.d.c * (int64_t)dt_dtype_size(k->prep->t);
    }
    if (c->fold_at >= 0) ptr[DT_UID_W] = dt_bound_workspace(k, c->fold_at);
    uint32_t uids = dt_conv_kind_uids((dt_conv_kind)c->algo->spec.kind);
    for (int u = 0; u < DT_UID_COUNT; u++)
        if ((uids & (1u << u)) && ((uintptr_t)ptr[u] & 15))
            return dt_fail(DT_ERR_INTERNAL, "%s: a tensor is not aligned to 16 bytes", k->prep->label);
    k->pack_desc = (dt_dnn_builder){.handle = cu->dnn};
    k->pack = dt_dnn_pack(&k->pack_desc, uids, ptr, dt_bound_workspace(k, c->plan_at));
    if (k->pack_desc.st != CUDNN_STATUS_SUCCESS) DT_CUDNN_TRY(k->pack_desc.st);
    return dt_lower_adopt_pack(cu, k);
}

/* Lays the weight out for a folded convolution, or the folded weight's gradient back. */
static dt_status fold(const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_conv_dims *d = &p->conv.algo->spec.d;
    if (p->conv.fold_at < 0) return DT_OK;
    const bool inverse = p->node.op == DT_OP_CONV_WGRAD;
    void *folded = dt_bound_workspace(k, p->conv.fold_at);
    return dt_launch_status(
        dt_gpu_fold_weight(p->t, inverse ? folded : k->b.in[DT_CONV_IN_W], inverse ? k->b.out[0] : folded,
                           d->k * d->r, p->node.attr.window.kernel[1], (int32_t)d->c / 2, (int32_t)d->s,
                           p->node.attr.window.pad_begin[1] % 2, inverse, s),
        k);
}

dt_status dt_lower_execute(dt_cuda *cu, const dt_bound *k, cudnnBackendDescriptor_t plan, cudaStream_t s) {
    if (cu->dnn_stream != s) {
        DT_CUDNN_TRY(cudnnSetStream(cu->dnn, s));
        cu->dnn_stream = s;
    }
    cudnnStatus_t st = cudnnBackendExecute(cu->dnn, plan, k->pack);
    if (st != CUDNN_STATUS_SUCCESS) {
        dt_status failed = dt_cudnn_fail(st, "cudnnBackendExecute", __FILE__, __LINE__);
        dt_error_context("%s", k->prep->label);
        return failed;
    }
    return DT_OK;
}

/* Makes what the plan reads in place of x: scale and shift in T, or relu(x * scale + shift) itself. */
static dt_status prologue(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_conv_prep *c = &k->prep->conv;
    const dt_conv_dims *d = &c->algo->spec.d;
    if (c->i_pre < 0) return DT_OK;
    const float *scale = k->b.in[c->i_pre], *shift = k->b.in[c->i_pre + 1];
    void *out = dt_bound_workspace(k, c->t_at);
    if (!c->own_prologue)
        return dt_launch_status(dt_gpu_cast_vectors(k->prep->t, scale, shift, out, d->c, s), k);
    const dt_gpu_bn_apply_args a = {.x = k->b.in[0],
                                    .scale = scale,
                                    .shift = shift,
                                    .y = out,
                                    .rows = d->n * d->h * d->w,
                                    .c = d->c,
                                    .relu = true};
    return dt_launch_status(dt_gpu_bn_apply(&cu->gpu, k->prep->t, &a, s), k);
}

/* What a plain convolution does not do of the node's end, in place. */
static dt_status end(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_conv_dims *d = &k->prep->conv.algo->spec.d;
    const dt_conv_prep *c = &k->prep->conv;
    const int32_t act = k->prep->node.attr.window.act;
    void *const *in = k->b.in;
    const bool applied = in[DT_CONV_IN_SCALE] != NULL;
    if (!applied || (act != DT_ACT_NONE && act != DT_ACT_RELU)) {
        const dt_gpu_end_args e = {.y = k->b.out[0],
                                   .scale = in[DT_CONV_IN_SCALE],
                                   .shift = applied        ? in[DT_CONV_IN_SHIFT]
                                            : c->bias_is_t ? NULL
                                                           : in[DT_CONV_IN_BIAS],
                                   .bias = c->bias_is_t ? in[DT_CONV_IN_BIAS] : NULL,
                                   .res = in[DT_CONV_IN_RES],
                                   .rscale = in[DT_CONV_IN_RES_SCALE],
                                   .rshift = in[DT_CONV_IN_RES_SHIFT],
                                   .rows = d->n * d->p * d->q,
                                   .c = d->k,
                                   .act = act};
        return dt_launch_status(dt_gpu_end(&cu->gpu, k->prep->t, &e, s), k);
    }
    const dt_gpu_bn_apply_args a = {.x = k->b.out[0],
                                    .scale = in[DT_CONV_IN_SCALE],
                                    .shift = in[DT_CONV_IN_SHIFT],
                                    .res = in[DT_CONV_IN_RES],
                                    .rscale = in[DT_CONV_IN_RES_SCALE],
                                    .rshift = in[DT_CONV_IN_RES_SHIFT],
                                    .y = k->b.out[0],
                                    .rows = d->n * d->p * d->q,
                                    .c = d->k,
                                    .relu = act == DT_ACT_RELU};
    return dt_launch_status(dt_gpu_bn_apply(&cu->gpu, k->prep->t, &a, s), k);
}

dt_status dt_lower_conv_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_conv_prep *c = &k->prep->conv;
    const dt_conv_dims *d = &c->algo->spec.d;
    const int64_t rows = d->n * d->p * d->q;
    void *const *in = k->b.in;
    if (c->blas.use)
        return dt_blas_apply_run(cu, &c->blas, in[DT_CONV_IN_X], in[DT_CONV_IN_W], in[DT_CONV_IN_SCALE],
                                 in[DT_CONV_IN_SHIFT], in[DT_CONV_IN_RES], k->b.out[DT_CONV_OUT_Y],
                                 dt_bound_workspace(k, c->plan_at), s);
    if (c->end.use) {
        const dt_blas_operands o = {.a = in[DT_CONV_IN_W],
                                    .b = in[DT_CONV_IN_X],
                                    .c = in[DT_CONV_IN_RES],
                                    .d = k->b.out[DT_CONV_OUT_Y],
                                    .vector = in[DT_CONV_IN_BIAS],
                                    .workspace = dt_bound_workspace(k, c->plan_at)};
        DT_TRY(dt_blas_run(cu, &c->end.matmul, &o, s));
        const dt_gpu_end_args e = {.y = o.d, .rows = rows, .c = d->k, .act = k->prep->node.attr.window.act};
        return c->own_act ? dt_launch_status(dt_gpu_end(&cu->gpu, k->prep->t, &e, s), k) : DT_OK;
    }
    DT_TRY(prologue(cu, k, s));
    DT_TRY(fold(k, s));
    DT_TRY(dt_lower_execute(cu, k, k->prep->conv.algo->plan, s));
    if (c->own_end) DT_TRY(end(cu, k, s));
    if (c->own_stats)
        DT_TRY(
            dt_launch_status(dt_gpu_bn_stats(&cu->gpu, k->prep->t, k->b.out[0], k->b.out[DT_CONV_OUT_STATS],
                                             true, rows, d->k, dt_bound_workspace(k, c->reduce_at), s),
                             k));
    return DT_OK;
}

/* The second gradient and the mask after a plain gradient, in place; the sums go nowhere. */
static dt_status mask(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_conv_prep *c = &k->prep->conv;
    const dt_conv_dims *d = &c->algo->spec.d;
    const dt_gpu_bn_mask_args a = {.dy = k->b.out[0],
                                   .dy2 = k->b.in[DT_DGRAD_IN_DX2],
                                   .y = k->b.in[DT_DGRAD_IN_Y],
                                   .dz = k->b.out[0],
                                   .dbeta = dt_bound_workspace(k, c->f32_at),
                                   .workspace = dt_bound_workspace(k, c->reduce_at),
                                   .rows = d->n * d->h * d->w,
                                   .c = d->c};
    return dt_launch_status(dt_gpu_bn_mask(&cu->gpu, k->prep->t, &a, s), k);
}

dt_status dt_lower_dgrad_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_conv_prep *c = &k->prep->conv;
    const dt_conv_dims *d = &c->algo->spec.d;
    DT_TRY(fold(k, s));
    if (c->own_mask) {
        DT_TRY(dt_lower_execute(cu, k, k->prep->conv.algo->plan, s));
        return mask(cu, k, s);
    }
    void *const *in = k->b.in, *const *out = k->b.out;
    if (!in[DT_DGRAD_IN_C]) return dt_lower_execute(cu, k, k->prep->conv.algo->plan, s);
    const int64_t rows = d->n * d->h * d->w;
    const float *mean = in[DT_DGRAD_IN_MEAN], *invstd = in[DT_DGRAD_IN_INVSTD],
                *gamma = in[DT_DGRAD_IN_GAMMA];
    const float *scale = in[DT_DGRAD_IN_SCALE], *shift = in[DT_DGRAD_IN_SHIFT];
    if (c->own_epilogue) {
        const dt_gpu_bn_reduce_args a = {.dy = out[DT_DGRAD_OUT_DX],
                                         .c_in = in[DT_DGRAD_IN_C],
                                         .mean = mean,
                                         .invstd = invstd,
                                         .gamma = gamma,
                                         .scale = scale,
                                         .shift = shift,
                                         .dgamma = out[DT_DGRAD_OUT_DGAMMA],
                                         .dbeta = out[DT_DGRAD_OUT_DBETA],
                                         .coef = out[DT_DGRAD_OUT_COEF],
                                         .dz = out[DT_DGRAD_OUT_DX],
                                         .workspace = dt_bound_workspace(k, c->reduce_at),
                                         .rows = rows,
                                         .c = d->c};
        DT_TRY(dt_lower_execute(cu, k, k->prep->conv.algo->plan, s));
        return dt_launch_status(dt_gpu_bn_reduce(&cu->gpu, k->prep->t, &a, s), k);
    }
    float *vec = dt_bound_workspace(k, c->f32_at);
    DT_TRY(dt_launch_status(dt_gpu_bn_beta(mean, scale, shift, vec + VEC_BETA * d->c, d->c, s), k));
    DT_TRY(dt_lower_execute(cu, k, k->prep->conv.algo->plan, s));
    return dt_launch_status(dt_gpu_bn_coef(k->prep->t, vec + VEC_DGAMMA * d->c, vec + VEC_DBETA * d->c, mean,
                                           invstd, gamma, out[DT_DGRAD_OUT_DGAMMA], out[DT_DGRAD_OUT_DBETA],
                                           out[DT_DGRAD_OUT_COEF], rows, d->c, s),
                            k);
}

dt_status dt_lower_wgrad_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    DT_TRY(prologue(cu, k, s));
    DT_TRY(dt_lower_execute(cu, k, k->prep->conv.algo->plan, s));
    return fold(k, s);
}
