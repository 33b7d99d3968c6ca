#include "loss.h"

#include <math.h>
#include <string.h>

#include "numbers.h"

/* ---- Softmax ---- */

static dt_status read_softmax(const dt_onnx_call *c, int64_t *before, int64_t *n, int64_t *after) {
    const dt_host_tensor *x = c->in[0];
    const bool flat = c->version < 13;
    int32_t axis;
    /* One past the last is legal where what follows is flattened. */
    const int64_t given = dt_onnx_attr_int(c->node, "axis", flat ? 1 : -1);
    if (flat && given == x->ndim)
        axis = x->ndim;
    else
        DT_TRY(dt_onnx_axis(c, given, x->ndim, &axis));
    *before = dt_host_span(x, 0, axis);
    *n = flat ? dt_host_span(x, axis, x->ndim) : x->dim[axis];
    *after = flat ? 1 : dt_host_span(x, axis + 1, x->ndim);
    return DT_OK;
}

dt_status dt_infer_softmax(const dt_onnx_call *c) {
    int64_t before, n, after;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(read_softmax(c, &before, &n, &after));
    return dt_onnx_out_like(c, 0, 0);
}

dt_status dt_run_softmax(const dt_onnx_call *c) {
    const bool hard = strcmp(c->node->op, "Hardmax") == 0, log_of = strcmp(c->node->op, "LogSoftmax") == 0;
    int64_t before, n, after;
    double *x;
    DT_TRY(read_softmax(c, &before, &n, &after));
    DT_TRY(dt_onnx_load(c, 0, &x));
    for (int64_t b = 0; b < before; b++)
        for (int64_t a = 0; a < after; a++) {
            double *at = x + b * n * after + a, sum = 0;
            int64_t first = 0;
            for (int64_t i = 1; i < n; i++)
                if (at[i * after] > at[first * after]) first = i;
            const double most = at[first * after];
            for (int64_t i = 0; i < n && !hard; i++) sum += exp(at[i * after] - most);
            for (int64_t i = 0; i < n; i++) {
                double *v = at + i * after;
                *v = hard ? i == first : log_of ? *v - most - log(sum) : exp(*v - most) / sum;
            }
        }
    dt_host_store_f64(&c->out[0], 0, dt_host_n_elem(&c->out[0]), x);
    return DT_OK;
}

/* ---- losses: x [N, C, ...], target [N, ...], weight [C] ---- */

typedef enum reduction { NONE, MEAN, SUM } reduction;

static dt_status read_reduction(const dt_onnx_call *c, reduction *r) {
    const char *text = dt_onnx_attr_text(c->node, "reduction", "mean");
    static const char *const names[] = {[NONE] = "none", [MEAN] = "mean", [SUM] = "sum"};
    for (reduction k = NONE; k <= SUM; k++)
        if (strcmp(names[k], text) == 0) {
            *r = k;
            return DT_OK;
        }
    return dt_onnx_refuse(c, "reduction \"%s\" is unknown", text);
}

dt_status dt_infer_loss(const dt_onnx_call *c) {
    reduction r = NONE;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_INDEX));
    DT_TRY(dt_onnx_same_type(c, 0, 2));
    DT_TRY(read_reduction(c, &r));
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_rank(c, 0, 2, DT_MAX_DIM));
    int64_t dim[DT_MAX_DIM] = {x->dim[0]};
    for (int32_t d = 2; d < x->ndim; d++) dim[d - 1] = x->dim[d];
    DT_TRY(dt_onnx_shape_of(c, 1, x->ndim - 1, dim));
    DT_TRY(dt_onnx_shape_of(c, 2, 1, &x->dim[1]));
    DT_TRY(dt_onnx_out(c, 0, x->type, r == NONE ? x->ndim - 1 : 0, dim));
    return dt_onnx_out(c, 1, x->type, x->ndim, x->dim);
}

dt_status dt_run_loss(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool softmax = strcmp(c->node->op, "SoftmaxCrossEntropyLoss") == 0;
    const int64_t classes = x->dim[1], after = dt_host_span(x, 2, x->ndim);
    reduction r = NONE;
    DT_TRY(read_reduction(c, &r));
    const bool skips = dt_onnx_attr_find(c->node, "ignore_index") != NULL;
    const int64_t skip = dt_onnx_attr_int(c->node, "ignore_index", 0);
    double *in, *weight, sum = 0, all = 0;
    DT_TRY(dt_onnx_load(c, 0, &in));
    DT_TRY(dt_onnx_load(c, 2, &weight));
    for (int64_t i = 0; i < x->dim[0] * after; i++) {
        double *at = in + i / after * classes * after + i % after;
        if (softmax) {
            double most = -HUGE_VAL, total = 0;
            for (int64_t k = 0; k < classes; k++) most = fmax(most, at[k * after]);
            for (int64_t k = 0; k < classes; k++) total += exp(at[k * after] - most);
            for (int64_t k = 0; k < classes; k++) at[k * after] -= most + log(total);
        }
        const int64_t label = dt_host_i64(c->in[1], i);
        double loss = 0;
        if (!skips || label != skip) {
            if (label < 0 || label >= classes)
                return dt_onnx_refuse(c, "class %lld of %lld", (long long)label, (long long)classes);
            const double part = weight ? weight[label] : 1;
            loss = -at[label * after] * part;
            all += part;
        }
        sum += loss;
        if (r == NONE && dt_onnx_wants(c, 0)) dt_host_put_f64(&c->out[0], i, loss);
    }
    if (r != NONE && dt_onnx_wants(c, 0)) dt_host_put_f64(&c->out[0], 0, r == MEAN ? sum / all : sum);
    if (dt_onnx_wants(c, 1)) dt_host_store_f64(&c->out[1], 0, dt_host_n_elem(x), in);
    return DT_OK;
}
