/* Runs a small graph on any backend, every value in memory of its own: guard bands around each buffer catch
 * writes outside, poison inside catches elements not written. Header only; every function fails the running
 * cmocka test on an error. */
#ifndef DT_TEST_OP_RUN_H
#define DT_TEST_OP_RUN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "core/op.h"

enum {
    OP_GUARD_BYTES = 256,
    OP_GUARD = 0xA5,
    OP_POISON = 0xFF
}; /* four poison bytes are a NaN no kernel makes */

static const dt_step_params op_step = {.lr = 0.1f,
                                       .loss_scale = 2.0f,
                                       .loss_weight = 0.25f,
                                       .ema_decay = 0.9f,
                                       .first_micro = 1,
                                       .seed = 11,
                                       .step = 3,
                                       .micro = 1};

static inline void op_ok(dt_status st) {
    if (st != DT_OK) fail_msg("%s: %s", dt_status_name(st), dt_error_text());
}

static inline void *op_zalloc(int64_t bytes) {
    void *p = calloc(1, (size_t)(bytes > 0 ? bytes : 1));
    if (!p) fail_msg("no memory for %lld bytes", (long long)bytes);
    return p;
}

/* 16-bit floats on the host. */
static inline float op_from16(dt_dtype dtype, uint16_t bits) {
    if (dtype == DT_DTYPE_F16) {
        _Float16 h;
        memcpy(&h, &bits, sizeof h);
        return (float)h;
    }
    uint32_t wide = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return f;
}

static inline uint16_t op_to16(dt_dtype dtype, float value) {
    uint16_t bits;
    if (dtype == DT_DTYPE_F16) {
        _Float16 h = (_Float16)value;
        memcpy(&bits, &h, sizeof bits);
        return bits;
    }
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    return (uint16_t)((wide + 0x7FFFu + (wide >> 16 & 1)) >> 16);
}

typedef struct op_buffer {
    char *block; /* guard, data, guard; device memory */
    void *data;
    int64_t bytes;
} op_buffer;

typedef struct op_run {
    dt_backend *be;
    dt_graph *g; /* not owned */
    dt_step_params *params;
    op_buffer *value;     /* per value; views and in-place outputs share their input's */
    op_buffer *workspace; /* per node */
    void ***operand;      /* per node: what its binding points into */
    dt_kernel *kernel;
    int32_t n_kernel;
} op_run;

static inline void op_fill_device(dt_backend *be, void *dst, int byte, int64_t bytes) {
    op_ok(be->fill(be, dst, byte, bytes, NULL));
    op_ok(be->stream_sync(be, NULL));
}

static inline op_buffer op_buffer_make(dt_backend *be, int64_t bytes) {
    op_buffer b = {.bytes = bytes};
    op_ok(be->alloc(be, DT_MEM_DEVICE, bytes + 2 * OP_GUARD_BYTES, (void **)&b.block));
    b.data = b.block + OP_GUARD_BYTES;
    op_fill_device(be, b.block, OP_GUARD, bytes + 2 * OP_GUARD_BYTES);
    op_fill_device(be, b.data, OP_POISON, bytes);
    return b;
}

static inline bool op_is_input(const op_run *r, dt_vid v) {
    return r->g->value[v].producer < 0;
}

/* Prepares and binds every node of g. With in_place, an op that may overwrite an input does. */
static inline op_run op_run_open(dt_backend *be, dt_graph *g, const dt_step_params *step, bool in_place) {
    op_run r = {.be = be, .g = g};
    r.value = op_zalloc(g->n_value * (int64_t)sizeof *r.value);
    r.workspace = op_zalloc(g->n_node * (int64_t)sizeof *r.workspace);
    r.operand = op_zalloc(g->n_node * (int64_t)sizeof *r.operand);
    r.kernel = op_zalloc(g->n_node * (int64_t)sizeof *r.kernel);
    op_ok(be->alloc(be, DT_MEM_DEVICE, (int64_t)sizeof *step, (void **)&r.params));
    op_ok(be->copy(be, r.params, step, (int64_t)sizeof *step, NULL));
    for (dt_vid v = 0; v < g->n_value; v++) {
        dt_vid root = dt_graph_root(g, v);
        dt_nid made = g->value[v].producer;
        const dt_node *n = made >= 0 ? &g->node[made] : NULL;
        const dt_op_row *row = n ? dt_op_get(n->op) : NULL;
        if (root != v)
            r.value[v] = r.value[root];
        else if (in_place && row && row->in_place > 0 && dt_node_has(n, row->in_place - 1) &&
                 n->out[row->in_place_out] == v &&
                 dt_value_bytes(&g->value[n->in[row->in_place - 1]]) == dt_value_bytes(&g->value[v]))
            r.value[v] = r.value[dt_graph_root(g, n->in[row->in_place - 1])];
        else
            r.value[v] = op_buffer_make(be, dt_value_bytes(&g->value[v]));
    }
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        dt_prep *prep = NULL;
        int64_t workspace_bytes = 0;
        if (dt_op_is_idle(g, n)) continue;
        void **operand = r.operand[i] = op_zalloc((n->n_in + n->n_out) * (int64_t)sizeof *operand);
        dt_binding b = {.in = operand, .out = operand + n->n_in, .params = r.params};
        op_ok(be->prepare(be, g, i, &prep, &workspace_bytes));
        if (workspace_bytes > 0) r.workspace[i] = op_buffer_make(be, workspace_bytes);
        b.workspace = r.workspace[i].data;
        for (int32_t k = 0; k < n->n_in; k++) b.in[k] = n->in[k] >= 0 ? r.value[n->in[k]].data : NULL;
        for (int32_t k = 0; k < n->n_out; k++) b.out[k] = n->out[k] >= 0 ? r.value[n->out[k]].data : NULL;
        op_ok(be->bind(be, g, i, prep, &b, &r.kernel[r.n_kernel]));
        assert_non_null(r.kernel[r.n_kernel].label);
        r.n_kernel++;
    }
    return r;
}

static inline void op_run_close(op_run *r) {
    for (dt_vid v = 0; v < r->g->n_value; v++) {
        bool shared = false;
        for (dt_vid u = 0; u < v; u++) shared |= r->value[u].block == r->value[v].block;
        if (!shared) r->be->free(r->be, DT_MEM_DEVICE, r->value[v].block);
    }
    for (dt_nid i = 0; i < r->g->n_node; i++)
        if (r->workspace[i].block) r->be->free(r->be, DT_MEM_DEVICE, r->workspace[i].block);
    r->be->free(r->be, DT_MEM_DEVICE, r->params);
    free(r->value);
    free(r->workspace);
    for (dt_nid i = 0; i < r->g->n_node; i++) free(r->operand[i]);
    free(r->operand);
    free(r->kernel);
}

static inline dt_status op_run_try(op_run *r) {
    for (int32_t i = 0; i < r->n_kernel; i++) DT_TRY(r->kernel[i].run(r->kernel[i].ctx, NULL));
    return r->be->stream_sync(r->be, NULL);
}

static inline void op_run_go(op_run *r) {
    op_ok(op_run_try(r));
}

/* Raw bytes. */
static inline void op_write_bytes(op_run *r, dt_vid v, const void *src) {
    op_ok(r->be->copy(r->be, r->value[v].data, src, r->value[v].bytes, NULL));
    op_ok(r->be->stream_sync(r->be, NULL));
}

static inline void op_read_bytes(op_run *r, dt_vid v, void *dst) {
    op_ok(r->be->copy(r->be, dst, r->value[v].data, r->value[v].bytes, NULL));
    op_ok(r->be->stream_sync(r->be, NULL));
}

static inline bool op_is_16(dt_dtype t) {
    return t == DT_DTYPE_F16 || t == DT_DTYPE_BF16;
}

/* Host data of the value's type; fp32 for 16-bit floats, which are rounded. */
static inline void op_write(op_run *r, dt_vid v, const void *data) {
    const float *src = data;
    const dt_value *val = &r->g->value[v];
    if (!op_is_16(val->dtype)) {
        op_write_bytes(r, v, src);
        return;
    }
    uint16_t *half = op_zalloc(r->value[v].bytes);
    for (int64_t i = 0; i < dt_value_n_elem(val); i++) half[i] = op_to16(val->dtype, src[i]);
    op_write_bytes(r, v, half);
    free(half);
}

/* Any value as fp32; caller frees. */
static inline float *op_read(op_run *r, dt_vid v) {
    const dt_value *val = &r->g->value[v];
    int64_t n = dt_value_n_elem(val);
    float *out = op_zalloc(n * (int64_t)sizeof *out);
    char *raw = op_zalloc(r->value[v].bytes);
    op_read_bytes(r, v, raw);
    for (int64_t i = 0; i < n; i++) {
        if (val->dtype == DT_DTYPE_F32) memcpy(&out[i], raw + i * 4, 4);
        if (op_is_16(val->dtype)) {
            uint16_t bits;
            memcpy(&bits, raw + i * 2, 2);
            out[i] = op_from16(val->dtype, bits);
        }
        if (val->dtype == DT_DTYPE_U8) out[i] = (float)(uint8_t)raw[i];
        if (val->dtype == DT_DTYPE_I8) out[i] = (float)(int8_t)raw[i];
        if (val->dtype == DT_DTYPE_I32) {
            int32_t whole;
            memcpy(&whole, raw + i * 4, 4);
            out[i] = (float)whole;
        }
        if (val->dtype == DT_DTYPE_I64) {
            int64_t whole;
            memcpy(&whole, raw + i * 8, 8);
            out[i] = (float)whole;
        }
        if (val->dtype == DT_DTYPE_F64) {
            double wide;
            memcpy(&wide, raw + i * 8, 8);
            out[i] = (float)wide;
        }
    }
    free(raw);
    return out;
}

static inline void op_check_guards(op_run *r, const op_buffer *b, const char *what) {
    if (!b->block) return;
    int64_t bytes = b->bytes + 2 * OP_GUARD_BYTES;
    uint8_t *host = op_zalloc(bytes);
    op_ok(r->be->copy(r->be, host, b->block, bytes, NULL));
    op_ok(r->be->stream_sync(r->be, NULL));
    for (int64_t i = 0; i < OP_GUARD_BYTES; i++) {
        if (host[i] != OP_GUARD)
            fail_msg("byte %lld before %s was written", (long long)(OP_GUARD_BYTES - i), what);
        if (host[OP_GUARD_BYTES + b->bytes + i] != OP_GUARD)
            fail_msg("byte %lld after %s was written", (long long)i, what);
    }
    free(host);
}

/* Nothing outside any buffer was written, and every element of every result was. */
static inline void op_check_bounds(op_run *r) {
    for (dt_nid i = 0; i < r->g->n_node; i++) op_check_guards(r, &r->workspace[i], "a workspace");
    for (dt_vid v = 0; v < r->g->n_value; v++) {
        const dt_value *val = &r->g->value[v];
        op_check_guards(r, &r->value[v], val->name);
        if (op_is_input(r, v)) continue;
        const dt_op op = r->g->node[val->producer].op;
        const bool any = op == DT_OP_EDIT || op == DT_OP_QUANTIZE || op == DT_OP_QPRODUCT;
        if (any && val->dtype != DT_DTYPE_F32) continue; /* whose bytes may be any */
        int64_t size = (int64_t)dt_dtype_size(val->dtype);
        uint8_t *host = op_zalloc(r->value[v].bytes);
        op_read_bytes(r, v, host);
        for (int64_t i = 0; i < dt_value_n_elem(val); i++) {
            bool poisoned = true;
            for (int64_t k = 0; k < size; k++) poisoned &= host[i * size + k] == OP_POISON;
            if (poisoned)
                fail_msg("element %lld of %s %s was not written", (long long)i, val->name,
                         dt_value_shape_text(val));
        }
        free(host);
    }
}

/* |got - want| relative to |want|, by 2-norm and by maximum. */
typedef struct op_error {
    double norm, max;
} op_error;

static inline op_error op_compare(const float *got, const float *want, int64_t n) {
    double d2 = 0, w2 = 0, d_max = 0, w_max = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = (double)want[i], d = fabs((double)got[i] - w);
        if (isnan(got[i]) != isnan(want[i])) return (op_error){INFINITY, INFINITY};
        if (isnan(want[i]) || got[i] == want[i]) d = 0;
        if (isfinite(want[i])) w2 += w * w, w_max = fmax(w_max, fabs(w));
        d2 += d * d, d_max = fmax(d_max, d);
    }
    return (op_error){sqrt(d2) / fmax(sqrt(w2), 1e-30), d_max / fmax(w_max, 1e-30)};
}

static inline void op_expect_close(const float *got, const float *want, int64_t n, double tolerance,
                                   const char *what) {
    op_error e = op_compare(got, want, n);
    if (!(e.norm <= tolerance && e.max <= 4 * tolerance))
        fail_msg("%s: relative error %.2e by norm, %.2e by maximum, allowed %.1e", what, e.norm, e.max,
                 tolerance);
}

#endif
