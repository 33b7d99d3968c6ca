/* Reductions: many numbers become one. Sums of floats are f64. */
#include <math.h>
#include <string.h>

#include "walk.h"

typedef enum axes_where { AXES_ATTR, AXES_INPUT } axes_where;

/* Which dimensions are reduced. */
static dt_status reduced(const dt_onnx_call *c, axes_where where, bool set[DT_MAX_DIM]) {
    const dt_host_tensor *x = c->in[0];
    int64_t axes[DT_MAX_DIM];
    int32_t n;
    DT_TRY(dt_onnx_numbers(c, where == AXES_ATTR ? "axes" : NULL, where == AXES_ATTR ? -1 : 1, DT_MAX_DIM,
                           axes, &n));
    const bool all = n <= 0 && !(where == AXES_INPUT && dt_onnx_attr_int(c->node, "noop_with_empty_axes", 0));
    for (int32_t d = 0; d < DT_MAX_DIM; d++) set[d] = all && d < x->ndim;
    for (int32_t i = 0; i < n; i++) {
        int32_t axis;
        DT_TRY(dt_onnx_axis(c, axes[i], x->ndim, &axis));
        if (set[axis]) return dt_onnx_refuse(c, "axis %d is named twice", (int)axis);
        set[axis] = true;
    }
    return DT_OK;
}

static dt_status infer_reduce(const dt_onnx_call *c, axes_where where, uint32_t types) {
    const dt_host_tensor *x = c->in[0];
    const bool keep = dt_onnx_attr_int(c->node, "keepdims", 1) != 0;
    bool set[DT_MAX_DIM];
    int64_t dim[DT_MAX_DIM];
    int32_t n = 0;
    DT_TRY(dt_onnx_expect(c, 0, types));
    DT_TRY(reduced(c, where, set));
    for (int32_t d = 0; d < x->ndim; d++)
        if (!set[d] || keep) dim[n++] = set[d] ? 1 : x->dim[d];
    return dt_onnx_out(c, 0, x->type, n, dim);
}

/* ---- what a reduction does with the numbers: take each, then end with their number ---- */

typedef struct reduce_fn {
    double start; /* of no numbers too: infinite is the end of a type's range */
    double (*take)(double sum, double x);
    int64_t (*take_whole)(int64_t sum, int64_t x);
    double (*end)(double sum, double n); /* NULL: that is it */
} reduce_fn;

static double mean(double sum, double n) {
    return sum / n;
}
static double root(double sum, double n) {
    (void)n;
    return sqrt(sum);
}
static double logarithm(double sum, double n) {
    (void)n;
    return log(sum);
}

#define U(x) ((uint64_t)(x))

static int64_t wrap(uint64_t x) {
    return (int64_t)x;
}

/* X(name, start, of floats, of whole numbers, end): a so far, x the next */
#define REDUCE_LIST(X)                                                                                       \
    X(Sum, 0, a + x, wrap(U(a) + U(x)), NULL)                                                                \
    X(Mean, 0, a + x, wrap(U(a) + U(x)), mean)                                                               \
    X(Prod, 1, (a) * (x), wrap(U(a) * U(x)), NULL)                                                           \
    X(SumSquare, 0, a + x * x, wrap(U(a) + U(x) * U(x)), NULL)                                               \
    X(L1, 0, a + fabs(x), wrap(U(a) + (x < 0 ? 0 - U(x) : U(x))), NULL)                                      \
    X(L2, 0, a + x * x, wrap(U(a) + U(x) * U(x)), root)                                                      \
    X(LogSum, 0, a + x, wrap(U(a) + U(x)), logarithm)                                                        \
    X(Max, (double)-INFINITY, x > a || x != x ? x : a, x > a ? x : a, NULL)                                  \
    X(Min, (double)INFINITY, x < a || x != x ? x : a, x < a ? x : a, NULL)

/* ---- one pass over the input into sums of f64 or i64 ---- */

/* The way through the input (0) and the sums (1). */
static dt_walk reduce_walk(const dt_host_tensor *x, const bool *set) {
    dt_walk w = {.n_tensor = 2, .n = x->ndim};
    int64_t s = 1;
    dt_walk_steps(x->ndim, x->dim, w.step[0]);
    for (int32_t d = x->ndim - 1; d >= 0; d--) {
        w.dim[d] = x->dim[d];
        w.step[1][d] = set[d] ? 0 : s;
        if (!set[d]) s *= x->dim[d];
    }
    dt_walk_begin(&w);
    return w;
}

static void take_all(const dt_host_tensor *x, const bool *set, double (*take)(double, double), double *sum) {
    double v[DT_RUN];
    for (dt_walk w = reduce_walk(x, set); w.rows > 0; dt_walk_next(&w)) {
        const int64_t sx = dt_walk_step(&w, 0), ss = dt_walk_step(&w, 1);
        for (int64_t i = 0; i < w.run; i += DT_RUN) {
            const int64_t n = dt_min_i64(w.run - i, DT_RUN);
            dt_host_load_f64(x, w.at[0] + i * sx, sx, n, v);
            for (int64_t k = 0; k < n; k++) {
                double *to = &sum[w.at[1] + (i + k) * ss];
                *to = take(*to, v[k]);
            }
        }
    }
}

static void take_all_whole(const dt_host_tensor *x, const bool *set, int64_t (*take)(int64_t, int64_t),
                           int64_t flip, int64_t *sum) {
    int64_t v[DT_RUN];
    for (dt_walk w = reduce_walk(x, set); w.rows > 0; dt_walk_next(&w)) {
        const int64_t sx = dt_walk_step(&w, 0), ss = dt_walk_step(&w, 1);
        for (int64_t i = 0; i < w.run; i += DT_RUN) {
            const int64_t n = dt_min_i64(w.run - i, DT_RUN);
            dt_host_load_i64(x, w.at[0] + i * sx, sx, n, v);
            for (int64_t k = 0; k < n; k++) {
                int64_t *to = &sum[w.at[1] + (i + k) * ss];
                *to = take(*to, v[k] ^ flip);
            }
        }
    }
}

static dt_status sums(const dt_onnx_call *c, void **out) {
    return dt_onnx_scratch(
        c, dt_min_i64(dt_host_n_elem(&c->out[0]), INT64_MAX / 16) * (int64_t)sizeof(int64_t), out);
}

static dt_status run_reduce(const dt_onnx_call *c, axes_where where, const reduce_fn *fn) {
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    const int64_t n_out = dt_host_n_elem(y), n = n_out > 0 ? dt_host_n_elem(x) / n_out : 0;
    bool set[DT_MAX_DIM];
    void *room;
    DT_TRY(reduced(c, where, set));
    DT_TRY(sums(c, &room));
    if (dt_host_is(x, DT_HOST_FLOATS)) {
        double *sum = room;
        for (int64_t i = 0; i < n_out; i++) sum[i] = fn->start;
        take_all(x, set, fn->take, sum);
        for (int64_t i = 0; i < n_out; i++)
            dt_host_put_f64(y, i, fn->end ? fn->end(sum[i], (double)n) : sum[i]);
        return DT_OK;
    }
    const bool by_order = isinf(fn->start);
    const int64_t flip =
        by_order && x->type == DT_TENSOR_U64 ? INT64_MIN : 0; /* to the order of signed numbers */
    int64_t *sum = room;
    for (int64_t i = 0; i < n_out; i++)
        sum[i] = by_order ? (fn->start < 0 ? INT64_MIN : INT64_MAX) : (int64_t)fn->start;
    take_all_whole(x, set, fn->take_whole, flip, sum);
    for (int64_t i = 0; i < n_out; i++) {
        if (fn->end)
            dt_host_put_f64(y, i, trunc(fn->end((double)sum[i], (double)n)));
        else if (n == 0)
            dt_host_put_f64(y, i, x->type == DT_TENSOR_BOOL ? fn->start > 0 : fn->start);
        else
            dt_host_put_i64(y, i, sum[i] ^ flip);
    }
    return DT_OK;
}

#define DEFINE(name, start, float_expr, whole_expr, end)                                                     \
    static double take_##name(double a, double x) {                                                          \
        return float_expr;                                                                                   \
    }                                                                                                        \
    static int64_t take_whole_##name(int64_t a, int64_t x) {                                                 \
        return whole_expr;                                                                                   \
    }                                                                                                        \
    static const reduce_fn fn_##name = {start, take_##name, take_whole_##name, end};                         \
    static dt_status run_attr_##name(const dt_onnx_call *c) {                                                \
        return run_reduce(c, AXES_ATTR, &fn_##name);                                                         \
    }                                                                                                        \
    static dt_status run_input_##name(const dt_onnx_call *c) {                                               \
        return run_reduce(c, AXES_INPUT, &fn_##name);                                                        \
    }

REDUCE_LIST(DEFINE)

/* log sum e^x: about the largest, so that nothing overflows. */
static dt_status run_log_sum_exp(const dt_onnx_call *c, axes_where where) {
    const dt_host_tensor *x = c->in[0];
    const int64_t n_out = dt_host_n_elem(&c->out[0]);
    bool set[DT_MAX_DIM];
    void *largest_room, *sum_room;
    double v[DT_RUN];
    DT_TRY(reduced(c, where, set));
    DT_TRY(sums(c, &largest_room));
    DT_TRY(sums(c, &sum_room));
    double *largest = largest_room, *sum = sum_room;
    for (int64_t i = 0; i < n_out; i++) largest[i] = -(double)INFINITY;
    take_all(x, set, take_Max, largest);
    for (int64_t i = 0; i < n_out; i++)
        if (isinf(largest[i])) largest[i] = 0;
    for (dt_walk w = reduce_walk(x, set); w.rows > 0; dt_walk_next(&w)) {
        const int64_t sx = dt_walk_step(&w, 0), ss = dt_walk_step(&w, 1);
        for (int64_t i = 0; i < w.run; i += DT_RUN) {
            const int64_t n = dt_min_i64(w.run - i, DT_RUN);
            dt_host_load_f64(x, w.at[0] + i * sx, sx, n, v);
            for (int64_t k = 0; k < n; k++) {
                const int64_t to = w.at[1] + (i + k) * ss;
                sum[to] += exp(v[k] - largest[to]);
            }
        }
    }
    for (int64_t i = 0; i < n_out; i++) {
        const double y = largest[i] + log(sum[i]);
        dt_host_put_f64(&c->out[0], i, dt_host_is(x, DT_HOST_FLOATS) ? y : trunc(y));
    }
    return DT_OK;
}
static dt_status run_attr_LogSumExp(const dt_onnx_call *c) {
    return run_log_sum_exp(c, AXES_ATTR);
}
static dt_status run_input_LogSumExp(const dt_onnx_call *c) {
    return run_log_sum_exp(c, AXES_INPUT);
}

static dt_status infer_attr(const dt_onnx_call *c) {
    return infer_reduce(c, AXES_ATTR, DT_HOST_NUMBERS);
}
static dt_status infer_input(const dt_onnx_call *c) {
    return infer_reduce(c, AXES_INPUT, DT_HOST_NUMBERS);
}
static dt_status infer_bool(const dt_onnx_call *c) {
    return infer_reduce(c, AXES_INPUT, DT_HOST_NUMBERS | DT_HOST_BOOL);
}

#define ROWS(name, input_since)                                                                              \
    {"", "Reduce" #name, 1, 1, 1, 1, infer_attr, run_attr_##name, false}, {                                  \
        "", "Reduce" #name, input_since, 1, 2, 1, infer_input, run_input_##name, false                       \
    }

const dt_onnx_op dt_onnx_ops_reduce[] = {
    ROWS(Sum, 13),
    ROWS(Mean, 18),
    ROWS(Prod, 18),
    ROWS(SumSquare, 18),
    ROWS(L1, 18),
    ROWS(L2, 18),
    ROWS(LogSum, 18),
    ROWS(LogSumExp, 18),
    ROWS(Max, 18),
    ROWS(Min, 18),
    {"", "ReduceMax", 20, 1, 2, 1, infer_bool, run_input_Max, false},
    {"", "ReduceMin", 20, 1, 2, 1, infer_bool, run_input_Min, false},
    {.name = NULL},
};
