/* ATTENTION and its gradient: the ways there are to compute a node, best first. The last one takes every node. */
#include <stdio.h>
#include <string.h>

#include "lower.h"

static const int32_t ROWS[] = {64, 32, 16}; /* of a tile of the own kernel */

typedef struct dt_attention_way {
    const char *name;
    /* Whether it computes the node; fills what it needs of p->attention, takes workspace. */
    bool (*prepare)(dt_cuda *cu, dt_prep *p);
    dt_status (*run)(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
} dt_attention_way;

/* ---- the own kernel ---- */

static void take_delta(dt_prep *p) {
    const dt_attention_dims *a = &p->attention.dims;
    if (p->node.op == DT_OP_ATTENTION_BWD)
        p->attention.delta_at = dt_prep_take(p, a->b * a->heads * a->t * (int64_t)sizeof(float));
}

/* The largest tiles of which two blocks fit a multiprocessor, else one. */
static bool own_prepare(dt_cuda *cu, dt_prep *p) {
    const dt_attention_dims *a = &p->attention.dims;
    const bool backward = p->node.op == DT_OP_ATTENTION_BWD;
    int most = 0;
    if (cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, cu->device) != cudaSuccess)
        return false;
    for (int64_t blocks = 2; blocks > 0; blocks--)
        for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
            if (dt_gpu_attention_bytes(p->t, a->d, ROWS[i], backward) > most / blocks) continue;
            p->attention.rows = ROWS[i];
            take_delta(p);
            return true;
        }
    return false;
}

static dt_gpu_attention_args arguments(const dt_bound *k) {
    const dt_prep *p = k->prep;
    void *const *in = k->b.in, *const *out = k->b.out;
    const bool packed = p->attention.dims.packed;
    dt_gpu_attention_args a = {.dims = p->attention.dims, .rows = p->attention.rows, .params = k->b.params};
    if (p->node.op == DT_OP_ATTENTION) {
        a.q = in[DT_ATTENTION_IN_Q];
        a.k = in[packed ? DT_ATTENTION_IN_Q : DT_ATTENTION_IN_K];
        a.v = in[packed ? DT_ATTENTION_IN_Q : DT_ATTENTION_IN_V];
        a.lengths = in[DT_ATTENTION_IN_LENGTHS];
        a.q_lengths = in[DT_ATTENTION_IN_Q_LENGTHS];
        a.segments = in[DT_ATTENTION_IN_SEGMENTS];
        a.y = out[DT_ATTENTION_OUT_Y];
        a.lse = out[DT_ATTENTION_OUT_LSE];
        return a;
    }
    a.q = in[DT_ATTENTION_BWD_IN_Q];
    a.k = in[packed ? DT_ATTENTION_BWD_IN_Q : DT_ATTENTION_BWD_IN_K];
    a.v = in[packed ? DT_ATTENTION_BWD_IN_Q : DT_ATTENTION_BWD_IN_V];
    a.lengths = in[DT_ATTENTION_BWD_IN_LENGTHS];
    a.q_lengths = in[DT_ATTENTION_BWD_IN_Q_LENGTHS];
    a.segments = in[DT_ATTENTION_BWD_IN_SEGMENTS];
    a.y = in[DT_ATTENTION_BWD_IN_Y];
    a.lse = in[DT_ATTENTION_BWD_IN_LSE];
    a.dy = in[DT_ATTENTION_BWD_IN_DY];
    a.dq = out[DT_ATTENTION_BWD_OUT_DQ];
    a.dk = out[packed ? DT_ATTENTION_BWD_OUT_DQ : DT_ATTENTION_BWD_OUT_DK];
    a.dv = out[packed ? DT_ATTENTION_BWD_OUT_DQ : DT_ATTENTION_BWD_OUT_DV];
    a.delta = dt_bound_workspace(k, p->attention.delta_at);
    return a;
}

static dt_status own_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_gpu_attention_args a = arguments(k);
    return dt_launch_status(k->prep->node.op == DT_OP_ATTENTION ? dt_gpu_attention(k->prep->t, &a, s)
                                                                : dt_gpu_attention_bwd(k->prep->t, &a, s),
                            k);
}

/* ---- products in registers ---- */

static bool mma_prepare(dt_cuda *cu, dt_prep *p) {
    (void)cu;
    const bool takes = dt_gpu_attention_mma_takes(p->t, &p->attention.dims);
    (void)cudaGetLastError(); /* what it asked the card may have failed */
    if (takes) take_delta(p);
    return takes;
}

static dt_status mma_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_gpu_attention_args a = arguments(k);
    return dt_launch_status(dt_gpu_attention_mma(k->prep->t, &a, k->prep->node.op == DT_OP_ATTENTION_BWD, s),
                            k);
}

/* ---- cuDNN's ---- */

static bool dnn_prepare(dt_cuda *cu, dt_prep *p) {
    dt_attention_prep *a = &p->attention;
    const bool back = p->node.op == DT_OP_ATTENTION_BWD;
    const int32_t first = back ? DT_ATTENTION_BWD_IN_LENGTHS : DT_ATTENTION_IN_LENGTHS,
                  last = back ? DT_ATTENTION_BWD_IN_SEGMENTS : DT_ATTENTION_IN_SEGMENTS;
    for (int32_t i = first; i <= last; i++)
        if (dt_node_has(&p->node, i)) return false;
    if (dt_attention_plan_choose(cu, p->t, &a->dims, back, &a->plan) != DT_OK || !a->plan) return false;
    a->plan_at = dt_prep_take(p, dt_attention_plan_bytes(a->plan));
    return true;
}

static dt_status dnn_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    return dt_lower_execute(cu, k, dt_attention_plan_of(k->prep->attention.plan), s);
}

/* ---- lowering ---- */

static const dt_attention_way WAYS[] = {
    {"cuDNN", dnn_prepare, dnn_run},
    {"mma", mma_prepare, mma_run},
    {"own", own_prepare, own_run},
};

dt_status dt_lower_attention_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    dt_attention_prep *a = &p->attention;
    a->dims = dt_op_attention_dims(g, n);
    const int64_t longest = dt_max_i64(a->dims.t, a->dims.s);
    if (a->dims.b * a->dims.heads > INT32_MAX / longest)
        return dt_fail(DT_ERR_UNSUPPORTED, "%s: %lld heads of %lld positions are more than a grid has blocks",
                       p->label, (long long)(a->dims.b * a->dims.heads), (long long)longest);
    for (size_t i = 0; i < sizeof WAYS / sizeof WAYS[0]; i++) {
        if (!WAYS[i].prepare(cu, p)) continue;
        a->way = &WAYS[i];
        const size_t len = strlen(p->label);
        snprintf(p->label + len, sizeof p->label - len, " [%s]", a->way->name);
        return DT_OK;
    }
    return dt_fail(DT_ERR_UNSUPPORTED,
                   "%s: heads of %lld take %lld bytes of shared memory, more than a block of this card has",
                   p->label, (long long)a->dims.d,
                   (long long)dt_gpu_attention_bytes(p->t, a->dims.d, ROWS[sizeof ROWS / sizeof ROWS[0] - 1],
                                                     n->op == DT_OP_ATTENTION_BWD));
}

dt_status dt_lower_attention_bind(dt_cuda *cu, dt_bound *k) {
    const dt_attention_prep *p = &k->prep->attention;
    if (!p->plan) return DT_OK;
    const dt_gpu_attention_args a = arguments(k);
    k->pack_desc = (dt_dnn_builder){.handle = cu->dnn};
    dt_status st =
        dt_attention_plan_bind(p->plan, &a, dt_bound_workspace(k, p->plan_at), &k->pack_desc, &k->pack);
    if (st == DT_OK) return dt_lower_adopt_pack(cu, k);
    dt_error_context("%s", k->prep->label);
    dt_dnn_release(&k->pack_desc);
    return st;
}

dt_status dt_lower_attention_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    return k->prep->attention.way->run(cu, k, s);
}
