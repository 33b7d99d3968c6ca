/* Nodes without a lowering: their definition, called. */
#include <stdio.h>
#include <string.h>

#include "core/text.h"
#include "lower.h"

/* What a call is of: the node, and the values that it has. */
typedef struct called {
    const dt_onnx_op *op;
    dt_onnx_call call;
    const dt_host_tensor **in;
    dt_host_tensor *own, *out; /* of the inputs; of the results */
    int64_t **wide; /* [n_in]: room for whole numbers that the graph has as i32; NULL: they are as they are */
    int32_t *from;  /* [n_in]: its place among the inputs of the graph's node; -1: known, or absent */
    void **spare;   /* [n_out]: room for what this call does not give */
    int32_t first, n; /* results that it gives, without those that nobody wants */
    int32_t *slot;    /* [n] */
    dt_onnx_eval *eval;
} called;

/* The operand as the definition wants it. */
static void *operand(const called *d, int32_t i, void *from) {
    const int32_t *whole = from;
    if (!d->wide[i]) return from;
    const int64_t n = dt_host_n_elem(&d->own[i]);
    for (int64_t k = 0; k < n; k++) d->wide[i][k] = whole[k];
    return d->wide[i];
}

static dt_status run_called(const dt_call *c, void *const *in, void *const *out) {
    called *d = c->arg;
    for (int32_t i = 0; i < d->call.n_in; i++)
        if (d->from[i] >= 0) d->own[i].data = operand(d, i, in[d->from[i]]);
    for (int32_t i = 0; i < d->call.n_out; i++) d->out[i].data = d->spare[i];
    for (int32_t k = 0; k < d->n; k++) d->out[d->slot[k]].data = out[k];
    for (int32_t i = 0; i < d->call.n_out; i++)
        if (d->out[i].data) memset(d->out[i].data, 0, (size_t)dt_host_bytes(&d->out[i]));
    const dt_status st = d->op->run(&d->call);
    dt_onnx_eval_clear(d->eval);
    return st;
}

static dt_call_out stated(const dt_lv *v) {
    const dt_dtype t = dt_onnx_dtype(v->t.type);
    dt_call_out o = {.dtype = t, .ndim = v->t.ndim};
    memcpy(o.dim, v->t.dim, sizeof o.dim);
    if (t == DT_DTYPE_COUNT)
        o = (dt_call_out){.dtype = DT_DTYPE_U8, .ndim = 1, .dim = {dt_host_bytes(&v->t)}};
    if (o.ndim == 0) o.ndim = 1, o.dim[0] = 1;
    return o;
}

static const char *call_name(dt_low *w, const dt_low_node *n) {
    const dt_lv *x = dt_low_in(n, 0);
    const dt_onnx_node *node = n->node;
    char text[256];
    snprintf(text, sizeof text, "%.32s%s%.64s %lld%s%s '%.100s'", node->domain, node->domain[0] ? "." : "",
             node->op, (long long)n->version, x ? " of " : "", x ? dt_tensor_type_name(x->t.type) : "",
             node->name[0] ? node->name : node->out[0]);
    char *copy = dt_low_alloc(w, (int64_t)strlen(text) + 1);
    if (copy) memcpy(copy, text, strlen(text) + 1);
    return copy;
}

/* The results first to first + n - 1 of those in slot[]. */
static void add_part(dt_low *w, const dt_low_node *n, const char *name, const int32_t *slot, int32_t n_slot,
                     int32_t n_value, const dt_vid *value, const int32_t *from) {
    dt_call *c = dt_low_alloc(w, (int64_t)sizeof *c);
    called *d = dt_low_alloc(w, (int64_t)sizeof *d);
    if (!c || !d) return;
    const size_t n_in = (size_t)n->n_in + 1, n_out = (size_t)n->n_out + 1;
    d->in = dt_low_alloc(w, (int64_t)(n_in * sizeof *d->in));
    d->own = dt_low_alloc(w, (int64_t)(n_in * sizeof *d->own));
    d->from = dt_low_alloc(w, (int64_t)(n_in * sizeof *d->from));
    d->wide = dt_low_alloc(w, (int64_t)(n_in * sizeof *d->wide));
    d->out = dt_low_alloc(w, (int64_t)(n_out * sizeof *d->out));
    d->spare = dt_low_alloc(w, (int64_t)(n_out * sizeof *d->spare));
    d->slot = dt_low_alloc(w, (int64_t)(n_out * sizeof *d->slot));
    if (w->st != DT_OK) return;
    d->op = dt_onnx_op_find(n->node->domain, n->node->op, n->version);
    d->eval = w->kept->calls;
    d->n = n_slot;
    for (int32_t i = 0; i < n->n_in; i++) {
        d->from[i] = from[i];
        if (!n->in[i]) continue;
        d->own[i] = n->in[i]->t;
        d->in[i] = &d->own[i];
        if (from[i] >= 0 && n->in[i]->t.type == DT_TENSOR_I64 &&
            w->g->value[value[from[i]]].dtype == DT_DTYPE_I32)
            d->wide[i] = dt_low_alloc(w, dt_max_i64(dt_host_bytes(&n->in[i]->t), 8));
    }
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i]) d->out[i] = n->out[i]->t;
    for (int32_t k = 0; k < n_slot; k++) {
        d->slot[k] = slot[k];
        c->out[k] = stated(n->out[slot[k]]);
    }
    for (int32_t i = 0; i < n->n_out; i++) {
        bool given = !n->out[i];
        for (int32_t k = 0; k < n_slot; k++) given = given || slot[k] == i;
        if (!given) d->spare[i] = dt_low_alloc(w, dt_max_i64(dt_host_bytes(&n->out[i]->t), 1));
    }
    d->call = (dt_onnx_call){.node = n->node,
                             .version = n->version,
                             .n_in = n->n_in,
                             .n_out = n->n_out,
                             .in = d->in,
                             .out = d->out,
                             .eval = d->eval};
    *c = (dt_call){.name = name, .n_out = n_slot, .run = run_called, .arg = d, .out = {{0}}};
    for (int32_t k = 0; k < n_slot; k++) c->out[k] = stated(n->out[slot[k]]);
    if (w->st != DT_OK) return;
    dt_vid made[DT_SLOTS_OUT_MAX];
    char text[DT_NAME_MAX];
    snprintf(text, sizeof text, "%.60s/call%d", n->out[slot[0]]->name, w->counter++);
    w->st = dt_call_add(w->g, text, c, n_value, value, made);
    for (int32_t k = 0; k < n_slot && w->st == DT_OK; k++) {
        dt_lv *v = n->out[slot[k]];
        v->plain = made[k];
        v->ready = true;
    }
}

void dt_low_call(dt_low *w, const dt_low_node *n) {
    const dt_onnx_op *op = dt_onnx_op_find(n->node->domain, n->node->op, n->version);
    dt_vid *value = dt_low_alloc(w, ((int64_t)n->n_in + 1) * (int64_t)sizeof *value);
    int32_t *from = dt_low_alloc(w, ((int64_t)n->n_in + 1) * (int64_t)sizeof *from),
            *slot = dt_low_alloc(w, ((int64_t)n->n_out + 1) * (int64_t)sizeof *slot), n_value = 0, n_slot = 0;
    if (w->st != DT_OK) return;
    if (!op || !op->run) {
        w->st = dt_fail(DT_ERR_USAGE, "it goes by values that are not known before it runs");
        return;
    }
    for (int32_t i = 0; i < n->n_in; i++) {
        from[i] = -1;
        if (!n->in[i] || dt_low_known(n->in[i])) continue;
        value[n_value] = dt_low_plain(w, n->in[i]);
        from[i] = n_value++;
    }
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i]) slot[n_slot++] = i;
    const char *name = call_name(w, n);
    for (int32_t k = 0; k < n_slot && w->st == DT_OK; k += DT_SLOTS_OUT_MAX)
        add_part(w, n, name, slot + k, (int32_t)dt_min_i64(n_slot - k, DT_SLOTS_OUT_MAX), n_value, value,
                 from);
}
