/* Rows with bodies: If, Loop, Scan. Shapes follow from values, so infer evaluates. */
#include <string.h>

#include "numbers.h"

static dt_status body_of(const dt_onnx_call *c, const char *attr, const dt_onnx_graph **out) {
    const dt_onnx_attr *a = dt_onnx_attr_find(c->node, attr);
    if (!a || a->kind != DT_ONNX_GRAPH) return dt_onnx_refuse(c, "it has no %s", attr);
    *out = a->g;
    return DT_OK;
}

static dt_status tensors(const dt_onnx_call *c, int64_t n, dt_host_tensor **out) {
    void *p;
    DT_TRY(dt_onnx_scratch(c, (n + 1) * (int64_t)sizeof **out, &p));
    *out = p;
    return DT_OK;
}

/* Output i of the node is t, whose memory becomes the node's. */
static dt_status hand_out(const dt_onnx_call *c, int32_t i, const dt_host_tensor *t) {
    DT_TRY(dt_onnx_out(c, i, t->type, t->ndim, t->dim));
    if (dt_onnx_wants(c, i)) c->out[i].data = t->data;
    return DT_OK;
}

static dt_status copy_of(const dt_onnx_call *c, const dt_host_tensor *t, dt_host_tensor *out) {
    *out = *t;
    DT_TRY(dt_onnx_scratch(c, dt_host_bytes(t), &out->data));
    memcpy(out->data, t->data, (size_t)dt_host_bytes(t));
    return DT_OK;
}

static dt_status all_known(const dt_onnx_call *c) {
    for (int32_t i = 0; i < c->n_in; i++)
        if (c->in[i]) DT_TRY(dt_onnx_need(c, i));
    return DT_OK;
}

/* One bool of a condition. */
static dt_status read_condition(const dt_onnx_call *c, const dt_host_tensor *t, bool *out) {
    if (t->type != DT_TENSOR_BOOL || dt_host_n_elem(t) != 1)
        return dt_onnx_refuse(c, "its condition is not one bool");
    *out = dt_host_i64(t, 0) != 0;
    return DT_OK;
}

/* ---- If ---- */

static dt_status infer_if(const dt_onnx_call *c) {
    bool is = false;
    const dt_onnx_graph *body = NULL;
    dt_host_tensor *out;
    DT_TRY(all_known(c));
    DT_TRY(read_condition(c, c->in[0], &is));
    DT_TRY(body_of(c, is ? "then_branch" : "else_branch", &body));
    if (body->n_out < c->n_out) return dt_onnx_refuse(c, "its body has too few outputs");
    DT_TRY(tensors(c, body->n_out, &out));
    DT_TRY(dt_onnx_eval_body(c, body, 0, NULL, body->n_out, out));
    for (int32_t i = 0; i < c->n_out; i++) DT_TRY(hand_out(c, i, &out[i]));
    return DT_OK;
}

/* ---- what bodies give, one below the other ---- */

typedef struct stack {
    dt_host_tensor one; /* type and shape of each */
    int64_t n, cap;
    void *data;
} stack;

static dt_status push(const dt_onnx_call *c, stack *s, const dt_host_tensor *t) {
    if (s->n == 0) {
        s->one = *t;
    } else {
        bool same = t->type == s->one.type && t->ndim == s->one.ndim;
        for (int32_t d = 0; same && d < t->ndim; d++) same = t->dim[d] == s->one.dim[d];
        if (!same) return dt_onnx_refuse(c, "its body gives results of different shapes");
    }
    const int64_t bytes = dt_host_bytes(t);
    if (s->n == s->cap) {
        const int64_t cap = s->cap ? 2 * s->cap : 4;
        int64_t room;
        void *more;
        if (__builtin_mul_overflow(cap, bytes, &room)) return dt_onnx_refuse(c, "it needs too much memory");
        DT_TRY(dt_onnx_scratch(c, room, &more));
        if (s->data) memcpy(more, s->data, (size_t)(s->n * bytes));
        dt_onnx_release(c, s->data);
        s->data = more, s->cap = cap;
    }
    memcpy((char *)s->data + s->n++ * bytes, t->data, (size_t)bytes);
    return DT_OK;
}

/* Without any result its shape is what the body says of it, as far as it does. */
static void describe(stack *s, const dt_onnx_value_info *v) {
    if (s->n > 0) return;
    s->one = (dt_host_tensor){.type = v->type < DT_TENSOR_TYPES ? v->type : DT_TENSOR_F32};
    s->one.ndim = (int32_t)dt_min_i64(DT_MAX_DIM - 1, v->ndim < 0 ? 0 : v->ndim);
    for (int32_t d = 0; d < s->one.ndim; d++) s->one.dim[d] = v->dim[d] < 0 ? 0 : v->dim[d];
}

/* Output i: the stack's results along `axis` of it, last first where `back`. */
static dt_status hand_out_stack(const dt_onnx_call *c, int32_t i, const stack *s, int64_t axis, bool back) {
    const dt_host_tensor *one = &s->one;
    int32_t at;
    if (one->ndim >= DT_MAX_DIM) return dt_onnx_refuse(c, "a result of more than %d dimensions", DT_MAX_DIM);
    DT_TRY(dt_onnx_axis(c, axis, one->ndim + 1, &at));
    dt_host_tensor t = {.type = one->type, .ndim = one->ndim + 1};
    for (int32_t d = 0; d < t.ndim; d++) t.dim[d] = d < at ? one->dim[d] : d == at ? s->n : one->dim[d - 1];
    DT_TRY(dt_onnx_out(c, i, t.type, t.ndim, t.dim));
    if (!dt_onnx_wants(c, i)) return DT_OK;
    DT_TRY(dt_onnx_scratch(c, dt_host_bytes(&t), &t.data));
    const int64_t run = dt_host_span(one, at, one->ndim) * dt_host_elem_bytes(t.type),
                  runs = dt_host_span(one, 0, at);
    for (int64_t k = 0; k < s->n; k++)
        for (int64_t r = 0; r < runs && run > 0; r++)
            memcpy((char *)t.data + (r * s->n + (back ? s->n - 1 - k : k)) * run,
                   (const char *)s->data + (k * runs + r) * run, (size_t)run);
    c->out[i].data = t.data;
    return DT_OK;
}

static dt_status stacks(const dt_onnx_call *c, int64_t n, stack **out) {
    void *p;
    DT_TRY(dt_onnx_scratch(c, (n + 1) * (int64_t)sizeof **out, &p));
    *out = p;
    return DT_OK;
}

/* ---- Loop: most, condition, states ---- */

static dt_status infer_loop(const dt_onnx_call *c) {
    const dt_onnx_graph *body = NULL;
    DT_TRY(all_known(c));
    DT_TRY(body_of(c, "body", &body));
    const int32_t n = c->n_in > 2 ? c->n_in - 2 : 0, n_scan = body->n_out - 1 - n;
    if (n_scan < 0 || body->n_in != n + 2 || c->n_out > n + n_scan)
        return dt_onnx_refuse(c, "its body has %d inputs and %d outputs for %d states", body->n_in,
                              body->n_out, n);
    bool goes_on = true;
    if (dt_onnx_in(c, 1)) DT_TRY(read_condition(c, c->in[1], &goes_on));
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_INTS));
    DT_TRY(dt_onnx_one(c, 0));
    const int64_t most = dt_onnx_in(c, 0) ? dt_host_i64(c->in[0], 0) : INT64_MAX;
    dt_host_tensor *in, *out;
    stack *scan;
    DT_TRY(tensors(c, body->n_in, &in));
    DT_TRY(tensors(c, body->n_out, &out));
    DT_TRY(stacks(c, n_scan, &scan));
    int64_t i = 0;
    uint8_t condition = 1;
    in[0] = (dt_host_tensor){.type = DT_TENSOR_I64, .data = &i};
    in[1] = (dt_host_tensor){.type = DT_TENSOR_BOOL, .data = &condition};
    for (int32_t k = 0; k < n; k++) {
        if (!c->in[2 + k]) return dt_onnx_refuse(c, "state %d is missing", k);
        DT_TRY(copy_of(c, c->in[2 + k], &in[2 + k]));
    }
    for (; goes_on && i < most; i++) {
        DT_TRY(dt_onnx_eval_body(c, body, body->n_in, in, body->n_out, out));
        DT_TRY(read_condition(c, &out[0], &goes_on));
        dt_onnx_release(c, out[0].data);
        for (int32_t k = 0; k < n; k++) {
            dt_onnx_release(c, in[2 + k].data);
            in[2 + k] = out[1 + k];
        }
        for (int32_t k = 0; k < n_scan; k++) {
            DT_TRY(push(c, &scan[k], &out[1 + n + k]));
            dt_onnx_release(c, out[1 + n + k].data);
        }
    }
    for (int32_t k = 0; k < c->n_out; k++) {
        if (k < n) {
            DT_TRY(hand_out(c, k, &in[2 + k]));
        } else {
            describe(&scan[k - n], &body->out[1 + k]);
            DT_TRY(hand_out_stack(c, k, &scan[k - n], 0, false));
        }
    }
    return DT_OK;
}

/* ---- Scan: states, then tensors that are read one place after the other ---- */

typedef struct scan {
    const dt_onnx_graph *body;
    int32_t n_state, n_in, n_out; /* states, and what is read and written by places */
} scan;

/* Element k of a list attribute, 0 where there is none. */
static int64_t listed(const dt_onnx_call *c, const char *attr, int32_t k) {
    const int64_t *list, n = dt_onnx_attr_ints(c->node, attr, &list);
    return k < n ? list[k] : 0;
}

static dt_status read_scan(const dt_onnx_call *c, int32_t first, scan *s) {
    DT_TRY(all_known(c));
    DT_TRY(body_of(c, "body", &s->body));
    const int64_t n_in = dt_onnx_attr_int(c->node, "num_scan_inputs", 0);
    if (n_in < 1 || n_in > c->n_in - first)
        return dt_onnx_refuse(c, "num_scan_inputs is %lld", (long long)n_in);
    s->n_in = (int32_t)n_in;
    s->n_state = c->n_in - first - s->n_in;
    s->n_out = s->body->n_out - s->n_state;
    if (s->n_out < 0 || s->body->n_in != s->n_state + s->n_in || c->n_out > s->body->n_out)
        return dt_onnx_refuse(c, "its body has %d inputs and %d outputs for %d states", s->body->n_in,
                              s->body->n_out, s->n_state);
    for (int32_t i = first; i < c->n_in; i++)
        if (!c->in[i]) return dt_onnx_refuse(c, "input %d is missing", i);
    return DT_OK;
}

/* Place `at` of axis `axis` of t, copied. */
static dt_status slice(const dt_onnx_call *c, const dt_host_tensor *t, int32_t axis, int64_t at,
                       dt_host_tensor *out) {
    *out = (dt_host_tensor){.type = t->type, .ndim = t->ndim - 1};
    for (int32_t d = 0; d < out->ndim; d++) out->dim[d] = t->dim[d < axis ? d : d + 1];
    DT_TRY(dt_onnx_scratch(c, dt_host_bytes(out), &out->data));
    const int64_t run = dt_host_span(t, axis + 1, t->ndim) * dt_host_elem_bytes(t->type);
    for (int64_t r = 0; r < dt_host_span(t, 0, axis) && run > 0; r++)
        memcpy((char *)out->data + r * run, (const char *)t->data + (r * t->dim[axis] + at) * run,
               (size_t)run);
    return DT_OK;
}

/* Runs the body over `steps` places of `read`; state: replaced by what it becomes. axes, back: of `read`. */
static dt_status go(const dt_onnx_call *c, const scan *s, int64_t steps, dt_host_tensor *state,
                    const dt_host_tensor *read, const int32_t *axes, const bool *back, stack *written) {
    dt_host_tensor *in, *out;
    DT_TRY(tensors(c, s->body->n_in, &in));
    DT_TRY(tensors(c, s->body->n_out, &out));
    for (int64_t t = 0; t < steps; t++) {
        memcpy(in, state, sizeof *in * (size_t)s->n_state);
        for (int32_t k = 0; k < s->n_in; k++)
            DT_TRY(slice(c, &read[k], axes[k], back[k] ? steps - 1 - t : t, &in[s->n_state + k]));
        DT_TRY(dt_onnx_eval_body(c, s->body, s->body->n_in, in, s->body->n_out, out));
        for (int32_t k = 0; k < s->body->n_in; k++) dt_onnx_release(c, in[k].data);
        memcpy(state, out, sizeof *out * (size_t)s->n_state);
        for (int32_t k = 0; k < s->n_out; k++) {
            DT_TRY(push(c, &written[k], &out[s->n_state + k]));
            dt_onnx_release(c, out[s->n_state + k].data);
        }
    }
    return DT_OK;
}

typedef struct reads {
    dt_host_tensor *tensor;
    int32_t *axis;
    bool *back;
} reads;

static dt_status room_for(const dt_onnx_call *c, int32_t n, reads *r) {
    void *axis, *back;
    DT_TRY(tensors(c, n, &r->tensor));
    DT_TRY(dt_onnx_scratch(c, n * (int64_t)sizeof *r->axis, &axis));
    DT_TRY(dt_onnx_scratch(c, n * (int64_t)sizeof *r->back, &back));
    r->axis = axis, r->back = back;
    return DT_OK;
}

static dt_status infer_scan(const dt_onnx_call *c) {
    scan s = {0};
    reads r = {0};
    dt_host_tensor *state;
    stack *written;
    int64_t steps = -1;
    DT_TRY(read_scan(c, 0, &s));
    DT_TRY(tensors(c, s.n_state, &state));
    DT_TRY(stacks(c, s.n_out, &written));
    DT_TRY(room_for(c, s.n_in, &r));
    for (int32_t k = 0; k < s.n_state; k++) DT_TRY(copy_of(c, c->in[k], &state[k]));
    for (int32_t k = 0; k < s.n_in; k++) {
        const dt_host_tensor *t = c->in[s.n_state + k];
        DT_TRY(dt_onnx_axis(c, listed(c, "scan_input_axes", k), t->ndim, &r.axis[k]));
        r.tensor[k] = *t;
        r.back[k] = listed(c, "scan_input_directions", k) != 0;
        if (steps >= 0 && t->dim[r.axis[k]] != steps)
            return dt_onnx_refuse(c, "%lld and %lld places are to be read", (long long)steps,
                                  (long long)t->dim[r.axis[k]]);
        steps = t->dim[r.axis[k]];
    }
    DT_TRY(go(c, &s, steps, state, r.tensor, r.axis, r.back, written));
    for (int32_t k = 0; k < c->n_out; k++) {
        const int32_t w = k - s.n_state;
        if (w < 0) {
            DT_TRY(hand_out(c, k, &state[k]));
            continue;
        }
        describe(&written[w], &s.body->out[k]);
        DT_TRY(hand_out_stack(c, k, &written[w], listed(c, "scan_output_axes", w),
                              listed(c, "scan_output_directions", w) != 0));
    }
    return DT_OK;
}

/* Version 8: a dimension of batches before all, whose lengths (input 0) may differ. */
static dt_status infer_scan_batches(const dt_onnx_call *c) {
    scan s = {0};
    reads r = {0};
    dt_host_tensor *state;
    stack *all, *written;
    DT_TRY(read_scan(c, 1, &s));
    if (c->in[0]) return dt_onnx_refuse(c, "sequence_lens of version 8 are not supported");
    DT_TRY(tensors(c, s.n_state, &state));
    DT_TRY(stacks(c, s.body->n_out, &all));
    DT_TRY(stacks(c, s.n_out, &written));
    DT_TRY(room_for(c, s.n_in, &r));
    const dt_host_tensor *first = c->in[1 + s.n_state];
    for (int32_t k = 0; k < s.n_state + s.n_in; k++) {
        const bool read = k >= s.n_state;
        DT_TRY(dt_onnx_rank(c, 1 + k, read ? 2 : 1, DT_MAX_DIM));
        if (c->in[1 + k]->dim[0] != first->dim[0] || (read && c->in[1 + k]->dim[1] != first->dim[1]))
            return dt_onnx_refuse(c, "input %d has another number of batches or places", 1 + k);
    }
    for (int64_t b = 0; b < first->dim[0]; b++) {
        for (int32_t k = 0; k < s.n_state; k++) DT_TRY(slice(c, c->in[1 + k], 0, b, &state[k]));
        for (int32_t k = 0; k < s.n_in; k++) {
            DT_TRY(slice(c, c->in[1 + s.n_state + k], 0, b, &r.tensor[k]));
            r.back[k] = listed(c, "directions", k) != 0;
        }
        for (int32_t k = 0; k < s.n_out; k++) written[k].n = 0;
        DT_TRY(go(c, &s, first->dim[1], state, r.tensor, r.axis, r.back, written));
        for (int32_t k = 0; k < s.n_state; k++) DT_TRY(push(c, &all[k], &state[k]));
        for (int32_t k = 0; k < s.n_out; k++) {
            describe(&written[k], &s.body->out[s.n_state + k]);
            if (written[k].one.ndim >= DT_MAX_DIM) return dt_onnx_refuse(c, "too many dimensions");
            dt_host_tensor t = {
                .type = written[k].one.type, .ndim = written[k].one.ndim + 1, .data = written[k].data};
            t.dim[0] = written[k].n;
            memcpy(t.dim + 1, written[k].one.dim, sizeof *t.dim * (size_t)written[k].one.ndim);
            DT_TRY(push(c, &all[s.n_state + k], &t));
        }
    }
    for (int32_t k = 0; k < c->n_out; k++) {
        describe(&all[k], &s.body->out[k]);
        DT_TRY(hand_out_stack(c, k, &all[k], 0, false));
    }
    return DT_OK;
}

#define ROW(name, since, in_min, infer)                                                                      \
    { "", name, since, in_min, -1, -1, infer, NULL, false }

const dt_onnx_op dt_onnx_ops_control[] = {
    ROW("If", 1, 1, infer_if),
    ROW("Loop", 1, 0, infer_loop),
    ROW("Scan", 8, 0, infer_scan_batches),
    ROW("Scan", 9, 1, infer_scan),
    {.name = NULL},
};
