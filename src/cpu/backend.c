/* The CPU backend: the table that says which kernel computes an op, and the backend's functions around it. It
 * is the documented oracle of the GPU backend. Everything runs on the caller's thread (and OpenMP's) before
 * returning, so streams and events hold nothing. */
#include "cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/call.h"
#include "core/cores.h"
#include "kernels.h"
#include "kernels_attention.h"
#include "kernels_conv.h"
#include "quant.h"

enum { ALIGN_BYTES = 64, LABEL_MAX = 160 };
#define HUGE_PAGE_BYTES  ((int64_t)2 << 20)
#define HOST_BYTES_PER_S 10e9 /* only what is compared with what matters */

/* Weights as kernels read them, for all programs that read these: made once, where graphs say that they stay (dt_graph.fixed). */
typedef struct pack {
    struct pack *next;
    const void *weights;
    int64_t form; /* of a convolution: how its plan says that they lie; 0: of a product */
    int64_t bytes;
    float *data;
    int32_t refs;
} pack;

/* Something freed with the backend. */
typedef struct owned {
    struct owned *next;
    dt_cpu_axis *axis; /* NULL: memory only */
    pack *pack;        /* held; NULL: none */
} owned;

typedef struct cpu_backend {
    dt_backend base;
    int32_t threads;
    owned *first;
    pack *packs;
} cpu_backend;

struct dt_prep {
    owned head;
    dt_cpu_conv_plan conv; /* of a convolution */
    dt_cpu_attention attention;
    dt_cpu_qplan *qplan; /* of a QPRODUCT */
    int64_t workspace_bytes;
};

/* A bound node. */
typedef struct bound {
    owned head;
    char label[LABEL_MAX];
    dt_cpu_node node;
    dt_cpu_conv_plan conv;
    dt_cpu_attention attention;
    dt_cpu_product product; /* of DENSE and its gradients, without its operands */
    const dt_cpu_qplan *qplan;
} bound;

static cpu_backend *cpu(dt_backend *be) {
    return (cpu_backend *)be;
}

/* Zeroed memory that starts with an owned; freed with the backend, or with what the owner hangs on. */
static void *own(cpu_backend *be, size_t bytes) {
    owned *o = calloc(1, bytes);
    if (!o) return NULL;
    owned *first = be->base.owner ? *be->base.owner : be->first;
    o->next = first;
    if (be->base.owner)
        *be->base.owner = o;
    else
        be->first = o;
    return o;
}

/* ---- weights that stay ---- */

static bool stays(const dt_graph *g, dt_vid w) {
    return g->fixed && g->value[dt_graph_root(g, w)].role == DT_ROLE_PARAM;
}

static void drop_pack(cpu_backend *be, pack *p) {
    if (!p || --p->refs > 0) return;
    pack **at = &be->packs;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    be->base.kept_bytes -= p->bytes;
    be->base.free(&be->base, DT_MEM_DEVICE, p->data);
    free(p);
}

/* What others have packed of these weights, or room for it: *made. Held by `by`. */
static dt_status hold_pack(cpu_backend *be, owned *by, const void *weights, int64_t form, int64_t bytes,
                           bool *made) {
    pack *p = be->packs;
    while (p && (p->weights != weights || p->form != form || p->bytes != bytes)) p = p->next;
    *made = !p;
    if (!p) {
        p = malloc(sizeof *p);
        if (!p) return dt_fail(DT_ERR_MEMORY, "no memory for weights of %lld bytes", (long long)bytes);
        *p = (pack){.next = be->packs, .weights = weights, .form = form, .bytes = bytes};
        void *data;
        const dt_status st = be->base.alloc(&be->base, DT_MEM_DEVICE, bytes, &data);
        if (st != DT_OK) {
            free(p);
            return st;
        }
        p->data = data;
        be->packs = p;
        be->base.kept_bytes += bytes;
    }
    p->refs++;
    by->pack = p;
    return DT_OK;
}

/* ---- convolution and dense ---- */

/* The end of a convolution with a scale. */
static dt_status end_in_place(const bound *c) {
    const dt_conv_dims *dims = &c->conv.dims;
    const int64_t n_y = dims->n * dims->p * dims->q * dims->k;
    const int32_t act = c->node.attr.window.act;
    float *y = c->node.b.out[DT_CONV_OUT_Y];
    void *const *from = c->node.b.in, *in[] = {[DT_APPLY_IN_X] = y,
                                               [DT_APPLY_IN_SCALE] = from[DT_CONV_IN_SCALE],
                                               [DT_APPLY_IN_SHIFT] = from[DT_CONV_IN_SHIFT],
                                               [DT_APPLY_IN_RES] = from[DT_CONV_IN_RES],
                                               [DT_APPLY_IN_RES_SCALE] = from[DT_CONV_IN_RES_SCALE],
                                               [DT_APPLY_IN_RES_SHIFT] = from[DT_CONV_IN_RES_SHIFT]};
    dt_cpu_node d = {.op = DT_OP_BN_APPLY,
                     .attr.norm.relu = c->node.attr.window.act == DT_ACT_RELU,
                     .threads = c->node.threads,
                     .team = c->conv.team,
                     .c = dims->k};
    d.m = dims->n * dims->p * dims->q;
    d.n_elem = n_y;
    d.b = (dt_binding){.in = in, .out = c->node.b.out};
    DT_TRY(dt_cpu_bn_apply(&d, NULL));
    if (act != DT_ACT_RELU) dt_cpu_end(y, NULL, n_y, act, dt_cpu_crew_of(&d, true));
    return DT_OK;
}

/* The end of a gradient with a second one or a mask. */
static void mask_in_place(const bound *c) {
    const dt_conv_dims *dims = &c->conv.dims;
    const int64_t n = dims->n * dims->h * dims->w * dims->c;
    const float *second = c->node.b.in[DT_DGRAD_IN_DX2], *y = c->node.b.in[DT_DGRAD_IN_Y];
    float *dx = c->node.b.out[DT_DGRAD_OUT_DX];
    if (!second && !y) return;
#pragma omp parallel for schedule(static) num_threads(c->node.threads) if (n > DT_CPU_GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float sum = second ? dx[i] + second[i] : dx[i];
        dx[i] = !y || y[i] > 0 ? sum : 0;
    }
}

static dt_status run_conv(void *ctx, dt_stream *stream) {
    (void)stream;
    const bound *c = ctx;
    const dt_binding *b = &c->node.b;
    dt_cpu_conv_args a = {
        .out = b->out[0], .workspace = b->workspace, .packed = c->head.pack ? c->head.pack->data : NULL};
    const bool scaled = c->conv.kind == DT_CPU_CONV_FORWARD && b->in[DT_CONV_IN_SCALE];
    switch (c->conv.kind) {
    case DT_CPU_CONV_FORWARD:
        a.x = b->in[DT_CONV_IN_X], a.w = b->in[DT_CONV_IN_W], a.bias = b->in[DT_CONV_IN_BIAS];
        if (!scaled) a.res = b->in[DT_CONV_IN_RES], a.act = c->node.attr.window.act;
        break;
    case DT_CPU_CONV_DGRAD:
        a.dy = b->in[DT_DGRAD_IN_DY], a.w = b->in[DT_DGRAD_IN_W];
        break;
    case DT_CPU_CONV_WGRAD:
        a.x = b->in[DT_WGRAD_IN_X], a.dy = b->in[DT_WGRAD_IN_DY];
        break;
    }
    dt_cpu_conv_run(&c->conv, &a);
    if (c->conv.kind == DT_CPU_CONV_DGRAD) mask_in_place(c);
    return scaled ? end_in_place(c) : DT_OK;
}

static dt_status dense_bias_grad(const dt_cpu_node *d) {
    void *in[] = {d->b.in[DT_DENSE_WGRAD_IN_DY]}, *out[] = {d->b.out[DT_DENSE_WGRAD_OUT_DB]};
    dt_cpu_node sums = {.threads = d->threads,
                        .m = d->m,
                        .c = d->k,
                        .n_elem = d->m * d->k,
                        .b = {.in = in, .out = out, .workspace = d->b.workspace}};
    return dt_cpu_bias_grad(&sums, NULL);
}

/* What the function is of is kept beside its result. */
static dt_status end_kept(const dt_cpu_node *d, float *pre) {
    float *y = d->b.out[DT_DENSE_OUT_Y];
    const int64_t n = d->m * d->k;
    memcpy(pre, y, (size_t)n * sizeof *pre);
    dt_cpu_end(y, NULL, n, d->attr.dense.act, dt_cpu_crew_of(d, true));
    return DT_OK;
}

static dt_status dense_act_grad(const dt_cpu_node *d) {
    void *in[] = {d->b.out[0], d->b.in[DT_DENSE_DGRAD_IN_PRE]}, *out[] = {d->b.out[0]};
    dt_cpu_node back = {.op = DT_OP_UNARY_BWD,
                        .attr.unary.fn = (dt_unary)(d->attr.dense.act - 1),
                        .threads = d->threads,
                        .n_elem = d->m * d->c,
                        .b = {.in = in, .out = out}};
    return dt_cpu_unary_bwd(&back, NULL);
}

/* For dense nodes: m rows, c input features, k output features. */
static dt_status run_dense(void *ctx, dt_stream *stream) {
    (void)stream;
    const bound *c = ctx;
    const dt_cpu_node *d = &c->node;
    const bool forward = d->op == DT_OP_DENSE;
    float *pre = forward ? d->b.out[DT_DENSE_OUT_PRE] : NULL;
    if (d->few) {
        dt_cpu_dense_few(d);
        dt_cpu_end(d->b.out[0], d->b.in[DT_DENSE_IN_RES], d->m * d->k, pre ? 0 : d->attr.dense.act,
                   dt_cpu_crew_of(d, true));
        return pre ? end_kept(d, pre) : DT_OK;
    }
    dt_cpu_product p = c->product;
    p.packed = c->head.pack ? c->head.pack->data : NULL;
    p.a = d->b.in[d->op == DT_OP_DENSE_WGRAD ? 1 : 0];
    p.b = d->b.in[d->op == DT_OP_DENSE_WGRAD ? 0 : 1];
    p.bias = forward ? d->b.in[DT_DENSE_IN_BIAS] : NULL;
    p.out = d->b.out[0];
    if (forward) p.res = d->b.in[DT_DENSE_IN_RES], p.act = pre ? 0 : d->attr.dense.act;
    dt_cpu_product_run(&p, d->threads, d->b.workspace);
    if (d->op == DT_OP_DENSE_DGRAD && d->attr.dense.act) return dense_act_grad(d);
    if (d->op == DT_OP_DENSE_WGRAD && d->b.out[DT_DENSE_WGRAD_OUT_DB]) return dense_bias_grad(d);
    return pre ? end_kept(d, pre) : DT_OK;
}

static dt_cpu_product product_of(const dt_cpu_node *d) {
    dt_cpu_product p = dt_cpu_dense_product(d->op, d->m, d->c, d->k);
    p.team = d->team, p.kept = d->kept;
    return p;
}

static int64_t dense_bytes(const dt_cpu_node *d) {
    if (d->few) return 0;
    const dt_cpu_product p = product_of(d);
    return dt_max_i64(dt_cpu_product_bytes(&p, d->threads),
                      d->op == DT_OP_DENSE_WGRAD ? dt_cpu_reduce_bytes(d->m, d->k, 1) : 0);
}

static dt_status run_matmul(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_matmul(&d->matmul, &d->attr.matmul, d->b.in[DT_MATMUL_IN_A], d->b.in[DT_MATMUL_IN_B], d->b.out[0],
                  dt_cpu_crew_of(d, true), d->b.workspace);
    return DT_OK;
}

static int64_t matmul_bytes(const dt_cpu_node *d) {
    return dt_cpu_matmul_bytes(&d->matmul, &d->attr.matmul, d->threads);
}

static dt_status run_attention(void *ctx, dt_stream *stream) {
    (void)stream;
    const bound *c = ctx;
    dt_cpu_attention_run(&c->attention, &c->node.b);
    return DT_OK;
}

static dt_status run_attention_bwd(void *ctx, dt_stream *stream) {
    (void)stream;
    const bound *c = ctx;
    dt_cpu_attention_bwd_run(&c->attention, &c->node.b);
    return DT_OK;
}

static dt_status run_call(void *ctx, dt_stream *stream) {
    (void)stream;
    const bound *c = ctx;
    const dt_call *call = c->node.attr.call.call;
    return call->run(call, c->node.b.in, c->node.b.out);
}

static dt_status run_qproduct(void *ctx, dt_stream *stream) {
    (void)stream;
    const bound *c = ctx;
    (c->qplan->q->bits == 4 ? dt_cpu_q4_run : dt_cpu_qproduct_run)(c->qplan, &c->node.b);
    return DT_OK;
}

static dt_status prepare_qproduct(cpu_backend *be, const dt_graph *g, const dt_node *n, dt_prep *p) {
    int64_t bytes;
    DT_TRY(dt_cpu_qplan_bytes(g, n, &bytes));
    struct {
        owned head;
        dt_cpu_qplan plan;
    } *q = own(be, sizeof *q + (size_t)bytes);
    if (!q) return dt_fail(DT_ERR_MEMORY, "no memory for %lld bytes of packed weights", (long long)bytes);
    p->qplan = &q->plan;
    dt_cpu_qplan_make(g, n, be->threads, dt_cpu_qsimd_get(), q + 1, p->qplan);
    p->workspace_bytes = dt_cpu_qplan_workspace(p->qplan);
    return DT_OK;
}

/* ---- the lowering table ---- */

typedef enum family {
    FAMILY_PLAIN = 0,
    FAMILY_CONV,
    FAMILY_DENSE,
    FAMILY_BLOCKS,
    FAMILY_ATTENTION,
    FAMILY_CALL,
    FAMILY_QPRODUCT
} family;

/* Which operand gives n, h, w, c: the op's main one, or output 0; the other of the two gives p, q, k. */
typedef enum main_operand { MAIN_IN = 0, MAIN_OUT } main_operand;

typedef struct lowering {
    dt_status (*run)(void *ctx, dt_stream *stream);
    main_operand main;
    family family;
    dt_cpu_conv_kind conv;
    int64_t n_sum;                          /* of a column reduction: numbers kept per column */
    int64_t (*bytes)(const dt_cpu_node *d); /* of workspace; NULL: none, or what n_sum says */
} lowering;

static const lowering lowering_table[] = {
    [DT_OP_EDIT] = {.run = dt_cpu_edit},
    [DT_OP_INPUT] = {.run = dt_cpu_input, .main = MAIN_OUT},
    [DT_OP_CONV] = {.run = run_conv, .family = FAMILY_CONV, .conv = DT_CPU_CONV_FORWARD},
    [DT_OP_DENSE] = {.run = run_dense, .family = FAMILY_DENSE, .bytes = dense_bytes},
    [DT_OP_BATCHNORM] = {.run = NULL}, /* the pass split_batchnorm replaces it */
    [DT_OP_UNARY] = {.run = dt_cpu_unary},
    [DT_OP_BINARY] = {.run = dt_cpu_binary, .main = MAIN_OUT},
    [DT_OP_SOFTMAX] = {.run = dt_cpu_softmax},
    [DT_OP_LOG_SOFTMAX] = {.run = dt_cpu_softmax},
    [DT_OP_LAYERNORM] = {.run = dt_cpu_layernorm},
    [DT_OP_RMSNORM] = {.run = dt_cpu_layernorm},
    [DT_OP_GROUPNORM] = {.run = dt_cpu_groupnorm, .bytes = dt_cpu_groupnorm_bytes},
    [DT_OP_EMBED] = {.run = dt_cpu_embed, .main = MAIN_OUT},
    [DT_OP_ONE_HOT] = {.run = dt_cpu_one_hot, .main = MAIN_OUT},
    [DT_OP_POSITION] = {.run = dt_cpu_position, .bytes = dt_cpu_position_bytes},
    [DT_OP_ROPE] = {.run = dt_cpu_rope},
    [DT_OP_MAXPOOL] = {.run = dt_cpu_maxpool},
    [DT_OP_AVGPOOL] = {.run = dt_cpu_avgpool},
    [DT_OP_GLOBAL_AVGPOOL] = {.run = dt_cpu_global_avgpool},
    [DT_OP_RESAMPLE] = {.run = dt_cpu_resample, .main = MAIN_OUT},
    [DT_OP_ADAPTIVE_MAXPOOL] = {.run = dt_cpu_adaptive_maxpool, .main = MAIN_OUT},
    [DT_OP_RESHAPE] = {.run = NULL}, /* a view: nothing to run */
    [DT_OP_CONCAT] = {.run = dt_cpu_concat, .family = FAMILY_BLOCKS},
    [DT_OP_SLICE] = {.run = dt_cpu_slice, .family = FAMILY_BLOCKS},
    [DT_OP_PAD] = {.run = dt_cpu_pad, .family = FAMILY_BLOCKS},
    [DT_OP_TRANSPOSE] = {.run = dt_cpu_transpose, .main = MAIN_OUT},
    [DT_OP_MATMUL] = {.run = run_matmul, .bytes = matmul_bytes},
    [DT_OP_REDUCE] = {.run = dt_cpu_reduce, .bytes = dt_cpu_sum_bytes},
    [DT_OP_DROPOUT] = {.run = dt_cpu_dropout},
    [DT_OP_ATTENTION] = {.run = run_attention, .family = FAMILY_ATTENTION},
    [DT_OP_RECURRENT] = {.run = dt_cpu_recurrent, .bytes = dt_cpu_recurrent_bytes},
    [DT_OP_XENT] = {.run = dt_cpu_xent},
    [DT_OP_LOSS] = {.run = dt_cpu_loss},
    [DT_OP_CAST] = {.run = dt_cpu_cast},
    [DT_OP_CALL] = {.run = run_call, .family = FAMILY_CALL},
    [DT_OP_QUANTIZE] = {.run = dt_cpu_quantize, .bytes = dt_cpu_quantize_bytes},
    [DT_OP_DEQUANTIZE] = {.run = dt_cpu_dequantize},
    [DT_OP_QPRODUCT] = {.run = run_qproduct, .family = FAMILY_QPRODUCT},
    [DT_OP_BN_STATS] = {.run = dt_cpu_bn_stats, .n_sum = 2},
    [DT_OP_BN_FINALIZE] = {.run = dt_cpu_bn_finalize},
    [DT_OP_BN_FOLD] = {.run = dt_cpu_bn_fold},
    [DT_OP_BN_APPLY] = {.run = dt_cpu_bn_apply},
    [DT_OP_BN_SYNC] = {.run = dt_cpu_bn_sync, .bytes = dt_cpu_bn_sync_bytes},
    [DT_OP_BN_SYNC_GRAD] = {.run = dt_cpu_bn_sync_grad, .bytes = dt_cpu_bn_sync_bytes},
    [DT_OP_GRAM] = {.run = dt_cpu_gram},
    [DT_OP_GRAM_CROSS] = {.run = dt_cpu_gram_cross},
    [DT_OP_BN_GRAM] = {.run = dt_cpu_bn_gram},
    [DT_OP_BN_MASK] = {.run = dt_cpu_bn_mask},
    [DT_OP_BN_GRAM_GRAD] = {.run = dt_cpu_bn_gram_grad},
    [DT_OP_BN_GRAM_DX] = {.run = dt_cpu_bn_gram_dx},
    [DT_OP_CACHE] = {.run = dt_cpu_cache},
    [DT_OP_CONV_DGRAD] = {.run = run_conv, .family = FAMILY_CONV, .conv = DT_CPU_CONV_DGRAD},
    [DT_OP_CONV_WGRAD] = {.run = run_conv, .family = FAMILY_CONV, .conv = DT_CPU_CONV_WGRAD},
    [DT_OP_DENSE_DGRAD] = {.run = run_dense, .family = FAMILY_DENSE, .bytes = dense_bytes},
    [DT_OP_DENSE_WGRAD] = {.run = run_dense, .family = FAMILY_DENSE, .bytes = dense_bytes},
    [DT_OP_BIAS_GRAD] = {.run = dt_cpu_bias_grad, .n_sum = 1},
    [DT_OP_BN_REDUCE] = {.run = dt_cpu_bn_reduce, .n_sum = 2},
    [DT_OP_BN_DX] = {.run = dt_cpu_bn_dx},
    [DT_OP_UNARY_BWD] = {.run = dt_cpu_unary_bwd},
    [DT_OP_BINARY_BWD] = {.run = dt_cpu_binary_bwd, .bytes = dt_cpu_binary_bwd_bytes},
    [DT_OP_SOFTMAX_BWD] = {.run = dt_cpu_softmax_bwd},
    [DT_OP_LOG_SOFTMAX_BWD] = {.run = dt_cpu_softmax_bwd},
    [DT_OP_LAYERNORM_BWD] = {.run = dt_cpu_layernorm_bwd, .bytes = dt_cpu_layernorm_bwd_bytes},
    [DT_OP_RMSNORM_BWD] = {.run = dt_cpu_layernorm_bwd, .bytes = dt_cpu_layernorm_bwd_bytes},
    [DT_OP_GROUPNORM_BWD] = {.run = dt_cpu_groupnorm_bwd, .bytes = dt_cpu_groupnorm_bytes},
    [DT_OP_EMBED_BWD] = {.run = dt_cpu_embed_bwd, .bytes = dt_cpu_embed_bwd_bytes},
    [DT_OP_ROPE_BWD] = {.run = dt_cpu_rope},
    [DT_OP_MAXPOOL_BWD] = {.run = dt_cpu_maxpool_bwd, .main = MAIN_OUT},
    [DT_OP_AVGPOOL_BWD] = {.run = dt_cpu_avgpool_bwd, .main = MAIN_OUT},
    [DT_OP_GLOBAL_AVGPOOL_BWD] = {.run = dt_cpu_global_avgpool_bwd, .main = MAIN_OUT},
    [DT_OP_RESAMPLE_BWD] = {.run = dt_cpu_resample, .main = MAIN_OUT},
    [DT_OP_ADAPTIVE_MAXPOOL_BWD] = {.run = dt_cpu_adaptive_maxpool_bwd, .main = MAIN_OUT},
    [DT_OP_REDUCE_BWD] = {.run = dt_cpu_reduce_bwd, .main = MAIN_OUT},
    [DT_OP_DROPOUT_BWD] = {.run = dt_cpu_dropout},
    [DT_OP_ATTENTION_BWD] = {.run = run_attention_bwd, .family = FAMILY_ATTENTION},
    [DT_OP_RECURRENT_BWD] = {.run = dt_cpu_recurrent_bwd, .bytes = dt_cpu_recurrent_bytes},
    [DT_OP_XENT_BWD] = {.run = dt_cpu_xent_bwd},
    [DT_OP_LOSS_BWD] = {.run = dt_cpu_loss_bwd},
};
_Static_assert(sizeof lowering_table / sizeof lowering_table[0] == DT_OP_COUNT, "a row per op");

static int64_t dim_or_1(const dt_value *v, int32_t i) {
    return i < v->ndim ? v->dim[i] : 1;
}

/* Sizes of a node that is no convolution. */
static void node_sizes(const dt_graph *g, const dt_node *n, dt_cpu_node *d) {
    const lowering *row = &lowering_table[n->op];
    d->op = n->op;
    d->team = !g->training;
    d->attr = n->attr;
    d->n_in = n->n_in;
    const dt_value *in = &g->value[n->in[dt_op_get(n->op)->main]], *out = &g->value[n->out[0]];
    if (row->family == FAMILY_DENSE) {
        const dt_value *w = n->op == DT_OP_DENSE_WGRAD ? out : &g->value[n->in[1]];
        d->m = dt_value_n_elem(in) / in->dim[in->ndim - 1], d->c = w->dim[1], d->k = w->dim[0];
        d->few = dt_cpu_is_few(g, n);
        d->kept = n->op == DT_OP_DENSE && !d->few && stays(g, n->in[DT_DENSE_IN_W]);
        return;
    }
    const dt_value *main = row->main == MAIN_IN ? in : out, *other = row->main == MAIN_IN ? out : in;
    const dt_vid pooled = n->op == DT_OP_BN_REDUCE ? n->in[DT_REDUCE_IN_DYP]
                          : n->op == DT_OP_BN_DX   ? n->in[DT_DX_IN_DYP]
                                                   : -1;
    if (pooled >= 0) other = &g->value[pooled];
    d->n = main->dim[0], d->h = dim_or_1(main, 1), d->w = dim_or_1(main, 2);
    d->c = main->dim[main->ndim - 1];
    d->p = dim_or_1(other, 1), d->q = dim_or_1(other, 2), d->k = other->dim[other->ndim - 1];
    d->n_elem = dt_value_n_elem(main);
    d->m = d->c > 0 ? d->n_elem / d->c : 0;
    if (n->op == DT_OP_EMBED) d->rows = in->dim[in->ndim - 2], d->tables = in->ndim == 3 ? in->dim[0] : 1;
    if (n->op == DT_OP_EMBED_BWD)
        d->rows = n->attr.embed.rows, d->tables = dt_max_i64(n->attr.embed.tables, 1);
    if (n->op == DT_OP_BINARY)
        d->space =
            dt_broadcast_space(out, &g->value[n->in[DT_BINARY_IN_A]], &g->value[n->in[DT_BINARY_IN_B]]);
    if (n->op == DT_OP_BINARY_BWD) {
        const dt_value *read[2] = {NULL, NULL};
        for (int32_t i = 0; i < 2; i++)
            if (dt_node_has(n, DT_BINARY_BWD_IN_A + i)) read[i] = &g->value[n->in[DT_BINARY_BWD_IN_A + i]];
        read[n->attr.binary.operand] = out;
        d->space = dt_broadcast_space(in, read[0], read[1]);
    }
    if (n->op == DT_OP_REDUCE || n->op == DT_OP_REDUCE_BWD) d->space = dt_broadcast_space(main, other, NULL);
    if (n->op == DT_OP_TRANSPOSE) d->space = dt_broadcast_permuted(in, n->attr.transpose.perm);
    if (n->op == DT_OP_MATMUL) d->matmul = dt_op_matmul_dims(g, n);
    if (n->op == DT_OP_CACHE) d->cache = dt_op_cache_dims(g, n);
    d->from = main->dtype;
}

/* A convolution that does more than the CPU's can. */
static bool is_fused(const dt_node *n) {
    switch (n->op) {
    case DT_OP_CONV:
        return dt_node_has(n, DT_CONV_IN_PRE_SCALE) || dt_node_makes(n, DT_CONV_OUT_STATS);
    case DT_OP_CONV_DGRAD:
        return dt_node_has(n, DT_DGRAD_IN_C);
    case DT_OP_CONV_WGRAD:
        return dt_node_has(n, DT_WGRAD_IN_PRE_SCALE);
    default:
        return false;
    }
}

static bool is_computed_in(dt_slot_type type) {
    return type == DT_SLOT_T || type == DT_SLOT_FLOAT || type == DT_SLOT_WEIGHT;
}

static dt_status need_f32(const dt_graph *g, const dt_node *n, const dt_slot *slot, dt_vid v,
                          const char *how) {
    const dt_dtype is = v >= 0 ? g->value[v].dtype : DT_DTYPE_F32;
    if (is == DT_DTYPE_F32 || !is_computed_in(slot->type)) return DT_OK;
    return dt_fail(DT_ERR_UNSUPPORTED, "%s of %s %s %s in slot %s: the cpu backend computes it in f32",
                   dt_op_name(n), g->value[n->out[0]].name, how, dt_dtype_name(is), slot->name);
}

/* What is computed in is f32 in every slot; CAST has kernels for what it reads. */
static dt_status need_types(const dt_graph *g, const dt_node *n) {
    const dt_op_row *row = dt_op_get(n->op);
    for (int32_t i = 0; i < n->n_in; i++) DT_TRY(need_f32(g, n, dt_op_in(n->op, i), n->in[i], "reads"));
    for (int32_t i = 0; i < n->n_out; i++) DT_TRY(need_f32(g, n, &row->out[i], n->out[i], "makes"));
    const dt_dtype to = n->attr.cast.dtype;
    if (n->op == DT_OP_CAST && to != DT_DTYPE_F32 && to != DT_DTYPE_I32)
        return dt_fail(DT_ERR_UNSUPPORTED, "%s of %s makes %s: the cpu backend makes f32 and i32",
                       dt_op_name(n), g->value[n->out[0]].name, dt_dtype_name(to));
    return DT_OK;
}

static dt_status prepare(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep **out,
                         int64_t *workspace_bytes) {
    const dt_node *n = &g->node[node];
    const lowering *row = &lowering_table[n->op];
    const bool fused = is_fused(n);
    if (!row->run || fused)
        return dt_fail(DT_ERR_UNSUPPORTED, "the cpu backend does not compute %s of %s%s", dt_op_name(n),
                       g->value[n->out[0]].name, fused ? " with a fused neighbour" : "");
    DT_TRY(need_types(g, n));
    dt_prep *p = own(cpu(be), sizeof *p);
    if (!p) return dt_fail(DT_ERR_MEMORY, "no memory to prepare a node");
    int32_t threads = cpu(be)->threads;
    if (row->family == FAMILY_CONV) {
        dt_conv_dims dims = dt_op_conv_dims(g, n);
        DT_TRY(dt_cpu_conv_plan_make(&dims, row->conv, g->by_row, threads, &p->conv));
        p->conv.team = !g->training;
        if (n->op == DT_OP_CONV && stays(g, n->in[DT_CONV_IN_W])) dt_cpu_conv_plan_keep(&p->conv);
        p->workspace_bytes = p->conv.workspace_bytes;
    } else if (row->family == FAMILY_ATTENTION) {
        DT_TRY(dt_cpu_attention_plan(g, n, threads, &p->attention));
        p->attention.team = !g->training;
        p->workspace_bytes = p->attention.workspace_bytes;
    } else if (row->family == FAMILY_QPRODUCT) {
        DT_TRY(prepare_qproduct(cpu(be), g, n, p));
    } else if (row->family != FAMILY_CALL) {
        dt_cpu_node d = {.threads = threads};
        node_sizes(g, n, &d);
        if (n->op == DT_OP_MATMUL && (d.matmul.m | d.matmul.n | d.matmul.k) > INT32_MAX)
            return dt_fail(DT_ERR_UNSUPPORTED, "a product of %lld x %lld x %lld is too large",
                           (long long)d.matmul.m, (long long)d.matmul.k, (long long)d.matmul.n);
        if (row->family == FAMILY_DENSE && (d.m | d.c | d.k) > INT32_MAX)
            return dt_fail(DT_ERR_UNSUPPORTED, "a dense layer of %lld x %lld x %lld is too large",
                           (long long)d.m, (long long)d.c, (long long)d.k);
        if (row->bytes) p->workspace_bytes = row->bytes(&d);
        if (row->n_sum > 0) p->workspace_bytes = dt_cpu_reduce_bytes(d.m, d.c, row->n_sum);
    }
    *out = p;
    *workspace_bytes = p->workspace_bytes;
    return DT_OK;
}

/* Whether its run functions are those of this file. */
static bool takes_bound(family f) {
    return f == FAMILY_CONV || f == FAMILY_DENSE || f == FAMILY_ATTENTION || f == FAMILY_CALL ||
           f == FAMILY_QPRODUCT;
}

/* The operands as rows of bytes. */
static dt_status bind_blocks(dt_backend *be, const dt_graph *g, const dt_node *n, dt_cpu_node *d) {
    struct {
        owned head;
        dt_blocks block[];
    } *list = own(cpu(be), sizeof *list + ((size_t)n->n_in + 1) * sizeof list->block[0]);
    if (!list) return dt_fail(DT_ERR_MEMORY, "no memory to bind a node");
    for (int32_t i = 0; i < n->n_in; i++) list->block[i] = dt_op_blocks(g, n, &g->value[n->in[i]]);
    list->block[n->n_in] = dt_op_blocks(g, n, &g->value[n->out[0]]);
    d->blocks = list->block;
    return DT_OK;
}

static dt_status bind_conv(cpu_backend *be, const dt_node *n, const dt_prep *prep, bound *c) {
    const float *w = c->node.b.in[DT_CONV_IN_W];
    bool made = false;
    c->conv = prep->conv;
    c->node.attr = n->attr;
    c->node.team = prep->conv.team;
    snprintf(c->label, sizeof c->label, "%s", prep->conv.label);
    if (!c->conv.kept) return DT_OK;
    const int64_t form = 1 + (int64_t)c->conv.algo + (int64_t)c->conv.form * DT_CPU_CONV_ALGOS;
    DT_TRY(hold_pack(be, &c->head, w, form, c->conv.packed_bytes, &made));
    if (made) dt_cpu_conv_pack(&c->conv, w, c->head.pack->data);
    return DT_OK;
}

static dt_status bind_dense(cpu_backend *be, bound *c) {
    const dt_cpu_node *d = &c->node;
    bool made = false;
    c->product = product_of(d);
    if (!d->kept) return DT_OK;
    const int64_t bytes = dt_cpu_product_packed_bytes(&c->product);
    DT_TRY(hold_pack(be, &c->head, d->b.in[DT_DENSE_IN_W], 0, bytes, &made));
    c->product.b = d->b.in[DT_DENSE_IN_W];
    if (made) dt_cpu_product_pack(&c->product, d->threads, c->head.pack->data);
    return DT_OK;
}

static dt_status bind(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep *prep, const dt_binding *b,
                      dt_kernel *out) {
    const dt_node *n = &g->node[node];
    const lowering *row = &lowering_table[n->op];
    bound *c = own(cpu(be), sizeof *c);
    if (!c) return dt_fail(DT_ERR_MEMORY, "no memory to bind a node");
    c->node.b = *b;
    c->node.threads = cpu(be)->threads;
    if (row->family == FAMILY_CONV) {
        DT_TRY(bind_conv(cpu(be), n, prep, c));
    } else if (row->family == FAMILY_CALL) {
        c->node.attr = n->attr;
        snprintf(c->label, sizeof c->label, "call %s", n->attr.call.call->name);
    } else if (row->family == FAMILY_QPRODUCT) {
        const dt_conv_dims *d = &prep->qplan->dims;
        c->qplan = prep->qplan;
        snprintf(c->label, sizeof c->label, "qproduct%d %lldx%lld/%lld %lld->%lld [%s]", prep->qplan->q->bits,
                 (long long)d->r, (long long)d->s, (long long)d->stride_h, (long long)d->c, (long long)d->k,
                 prep->qplan->simd->name);
    } else {
        node_sizes(g, n, &c->node);
        if (row->family == FAMILY_BLOCKS) DT_TRY(bind_blocks(be, g, n, &c->node));
        if (row->family == FAMILY_DENSE) DT_TRY(bind_dense(cpu(be), c));
        c->attention = prep->attention;
        snprintf(c->label, sizeof c->label, "%s %s", dt_op_name(n),
                 dt_value_shape_text(
                     &g->value[row->main == MAIN_OUT ? n->out[0] : n->in[dt_op_get(n->op)->main]]));
    }
    *out = (dt_kernel){.run = row->run,
                       .ctx = takes_bound(row->family) ? (void *)c : (void *)&c->node,
                       .node = node,
                       .label = c->label};
    return DT_OK;
}

static dt_status bind_axis(dt_backend *be, dt_axis_kind kind, const dt_axis_args *args, dt_kernel *out) {
    static const char *const label[] = {
        [DT_AXIS_ACCUM] = "accumulate", [DT_AXIS_SUMSQ] = "gradient norm",
        [DT_AXIS_UPDATE] = "optimizer", [DT_AXIS_CAST] = "cast parameters",
        [DT_AXIS_SCALE] = "loss scale", [DT_AXIS_AVERAGE] = "average statistics"};
    _Static_assert(sizeof label / sizeof label[0] == DT_AXIS_KINDS, "a label per kind");
    owned *o = own(cpu(be), sizeof *o);
    if (!o) return dt_fail(DT_ERR_MEMORY, "no memory to bind a kernel");
    DT_TRY(dt_cpu_axis_create(kind, args, cpu(be)->threads, &o->axis));
    *out = (dt_kernel){.run = dt_cpu_axis_run, .ctx = o->axis, .node = -1, .label = label[kind]};
    return DT_OK;
}

/* ---- memory ---- */

static dt_status mem_alloc(dt_backend *be, dt_memkind kind, int64_t bytes, void **out) {
    (void)kind;
    int64_t align = bytes >= 2 * HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : ALIGN_BYTES;
    if (bytes < 0 || bytes > INT64_MAX - align)
        return dt_fail(DT_ERR_MEMORY, "%lld bytes cannot be allocated", (long long)bytes);
    int64_t size = dt_round_up(dt_max_i64(bytes, 1), align);
    char *p = aligned_alloc((size_t)align, (size_t)size);
    if (!p)
        return dt_fail(DT_ERR_MEMORY, "no memory for %.1f MiB: reduce train.micro_batch",
                       (double)bytes / (1024.0 * 1024.0));
    if (align == HUGE_PAGE_BYTES) (void)madvise(p, (size_t)size, MADV_HUGEPAGE); /* advice only */
        /* The threads that will use the pages touch them first. */
#pragma omp parallel for schedule(static) num_threads(cpu(be)->threads) if (size > HUGE_PAGE_BYTES)
    for (int64_t at = 0; at < size; at += HUGE_PAGE_BYTES)
        memset(p + at, 0, (size_t)dt_min_i64(HUGE_PAGE_BYTES, size - at));
    *out = p;
    return DT_OK;
}

static void mem_free(dt_backend *be, dt_memkind kind, void *ptr) {
    (void)be, (void)kind;
    free(ptr);
}

static dt_status mem_copy(dt_backend *be, void *dst, const void *src, int64_t bytes, dt_stream *stream) {
    (void)be, (void)stream;
    if (bytes > 0) memmove(dst, src, (size_t)bytes);
    return DT_OK;
}

static dt_status mem_fill(dt_backend *be, void *dst, int byte, int64_t bytes, dt_stream *stream) {
    (void)be, (void)stream;
    if (bytes > 0) memset(dst, byte, (size_t)bytes);
    return DT_OK;
}

/* ---- streams and events: all work is done when a call returns ---- */

static char token; /* what stream and event handles point at */

static dt_status stream_create(dt_backend *be, dt_stream **out) {
    (void)be;
    *out = (dt_stream *)(void *)&token;
    return DT_OK;
}

static void stream_destroy(dt_backend *be, dt_stream *stream) {
    (void)be, (void)stream;
}

static dt_status stream_sync(dt_backend *be, dt_stream *stream) {
    (void)be, (void)stream;
    return DT_OK;
}

static dt_status event_create(dt_backend *be, dt_event **out) {
    (void)be;
    *out = (dt_event *)(void *)&token;
    return DT_OK;
}

static void event_destroy(dt_backend *be, dt_event *event) {
    (void)be, (void)event;
}

static dt_status event_pass(dt_backend *be, dt_event *event, dt_stream *stream) {
    (void)be, (void)event, (void)stream;
    return DT_OK;
}

static dt_status event_sync(dt_backend *be, dt_event *event) {
    (void)be, (void)event;
    return DT_OK;
}

static dt_status event_query(dt_backend *be, dt_event *event, bool *done) {
    (void)be, (void)event;
    *done = true;
    return DT_OK;
}

/* ---- the backend ---- */

static bool supports(dt_backend *be, dt_dtype compute) {
    (void)be;
    return compute == DT_DTYPE_F32;
}

/* Slots that make a node do more than its kernel here can without passes of its own over memory: nothing is
 * saved by them. */
static bool has_poor_kernel(const dt_node *n) {
    static const struct {
        dt_op op;
        int32_t in;
    } table[] = {
        {DT_OP_CONV, DT_CONV_IN_PRE_SCALE},
        {DT_OP_CONV, DT_CONV_IN_SCALE},
        {DT_OP_CONV_WGRAD, DT_WGRAD_IN_PRE_SCALE},
        {DT_OP_CONV_DGRAD, DT_DGRAD_IN_DX2},
        {DT_OP_CONV_DGRAD, DT_DGRAD_IN_Y},
        {DT_OP_CONV_DGRAD, DT_DGRAD_IN_C},
        {DT_OP_MAXPOOL, DT_MAXPOOL_IN_PRE_SCALE},
        {DT_OP_BN_REDUCE, DT_REDUCE_IN_DYP},
        {DT_OP_BN_DX, DT_DX_IN_DYP},
        {DT_OP_DENSE_DGRAD, DT_DENSE_DGRAD_IN_PRE},
        {DT_OP_LAYERNORM_BWD, DT_LN_BWD_IN_MEAN + 1},
        {DT_OP_RMSNORM_BWD, DT_LN_BWD_IN_MEAN},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (n->op == table[i].op && dt_node_has(n, table[i].in)) return true;
    return n->op == DT_OP_GRAM || (n->op == DT_OP_CONV && dt_node_makes(n, DT_CONV_OUT_STATS)) ||
           (n->op == DT_OP_DENSE && dt_node_makes(n, DT_DENSE_OUT_PRE)) ||
           (n->op == DT_OP_DENSE_WGRAD && dt_node_makes(n, DT_DENSE_WGRAD_OUT_DB));
}

/* A pass over memory; what a convolution costs beside that is the same in all that is compared here. */
static double cost(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n) {
    (void)be;
    double bytes = 0;
    for (int32_t i = 0; i < n; i++) {
        if (has_poor_kernel(&node[i])) return INFINITY;
        bytes += dt_op_bytes(g, &node[i]);
    }
    return bytes / HOST_BYTES_PER_S;
}

static void release(dt_backend *be, void *first) {
    for (owned *o = first, *next; o; o = next) {
        next = o->next;
        dt_cpu_axis_destroy(o->axis);
        drop_pack(cpu(be), o->pack);
        free(o);
    }
}

static void destroy(dt_backend *be) {
    if (!be) return;
    release(be, cpu(be)->first);
    free(be);
}

dt_status dt_backend_cpu_create(const dt_backend_options *options, dt_backend **out) {
    cpu_backend *c = calloc(1, sizeof *c);
    if (!c) return dt_fail(DT_ERR_MEMORY, "no memory for the cpu backend");
    c->threads = dt_cpu_threads_setup(options);
    c->base = (dt_backend){.name = "cpu",
                           .align_bytes = ALIGN_BYTES,
                           .host_threads = dt_cores_share(options->local_world),
                           .release = release,
                           .alloc = mem_alloc,
                           .free = mem_free,
                           .copy = mem_copy,
                           .fill = mem_fill,
                           .stream_create = stream_create,
                           .stream_destroy = stream_destroy,
                           .stream_sync = stream_sync,
                           .event_create = event_create,
                           .event_destroy = event_destroy,
                           .event_record = event_pass,
                           .event_wait = event_pass,
                           .event_sync = event_sync,
                           .event_query = event_query,
                           .supports = supports,
                           .cost = cost,
                           .prepare = prepare,
                           .bind = bind,
                           .bind_axis = bind_axis,
                           .destroy = destroy};
    dt_cpu_host_info(&c->base.info);
    *out = &c->base;
    return DT_OK;
}
