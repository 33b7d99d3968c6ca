/* Functions of two numbers and of more, broadcast. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "walk.h"

/* ---- what computes them: floats as f64, whole numbers as i64; u64 where signs matter ---- */

typedef struct binary_fn {
    double (*of_floats)(double a, double b);
    int64_t (*of_whole)(int64_t a, int64_t b);
    int64_t (*of_u64)(int64_t a, int64_t b); /* NULL: as of_whole */
} binary_fn;

/* What models before opset 7 say: b's dimensions are those of a from `axis` on; a PRelu's slopes are of its channels. */
static dt_status old_broadcast(const dt_onnx_call *c, const dt_host_tensor **b, dt_host_tensor *room) {
    const dt_host_tensor *a = c->in[0];
    const bool slopes = strcmp(c->node->op, "PRelu") == 0;
    if (c->version >= 7 || (*b)->ndim == 0) return DT_OK;
    if (slopes ? dt_host_n_elem(*b) == 1 : dt_onnx_attr_int(c->node, "broadcast", 0) == 0) return DT_OK;
    int32_t axis;
    DT_TRY(dt_onnx_axis(c, slopes ? 1 : dt_onnx_attr_int(c->node, "axis", a->ndim - (*b)->ndim), a->ndim,
                        &axis));
    if (axis + (*b)->ndim > a->ndim)
        return dt_onnx_refuse(c, "axis %d leaves no room for %d dimensions", (int)axis, (int)(*b)->ndim);
    *room = **b;
    room->ndim = a->ndim - axis;
    for (int32_t d = (*b)->ndim; d < room->ndim; d++) room->dim[d] = 1;
    *b = room;
    return DT_OK;
}

/* y = a op b, y of the shape they broadcast to. y's type may be another one. */
static void compute(const binary_fn *fn, const dt_host_tensor *a, const dt_host_tensor *b,
                    dt_host_tensor *y) {
    const bool floats = dt_host_is(a, DT_HOST_FLOATS) || dt_host_is(b, DT_HOST_FLOATS);
    int64_t (*whole)(int64_t, int64_t) = a->type == DT_TENSOR_U64 && fn->of_u64 ? fn->of_u64 : fn->of_whole;
    const bool cut = floats && dt_host_is(y, DT_HOST_INTS);
    const dt_host_tensor *const operand[] = {NULL, a, b};
    union {
        double f[DT_RUN];
        int64_t i[DT_RUN];
    } p, q;
    for (dt_walk w = dt_walk_broadcast(y->ndim, y->dim, 3, operand); w.rows > 0; dt_walk_next(&w)) {
        const int64_t sa = dt_walk_step(&w, 1), sb = dt_walk_step(&w, 2);
        for (int64_t i = 0; i < w.run; i += DT_RUN) {
            const int64_t n = dt_min_i64(w.run - i, DT_RUN);
            if (floats) {
                dt_host_load_f64(a, w.at[1] + i * sa, sa, n, p.f);
                dt_host_load_f64(b, w.at[2] + i * sb, sb, n, q.f);
                for (int64_t k = 0; k < n; k++) p.f[k] = fn->of_floats(p.f[k], q.f[k]);
                for (int64_t k = 0; k < n && cut; k++) p.f[k] = trunc(p.f[k]);
                dt_host_store_f64(y, w.at[0] + i, n, p.f);
            } else {
                dt_host_load_i64(a, w.at[1] + i * sa, sa, n, p.i);
                dt_host_load_i64(b, w.at[2] + i * sb, sb, n, q.i);
                for (int64_t k = 0; k < n; k++) p.i[k] = whole(p.i[k], q.i[k]);
                dt_host_store_i64(y, w.at[0] + i, n, p.i);
            }
        }
    }
}

static dt_status infer_two(const dt_onnx_call *c, uint32_t types, dt_tensor_type made) {
    const dt_host_tensor *a = c->in[0], *b = c->in[1];
    dt_host_tensor room;
    DT_TRY(dt_onnx_expect(c, 0, types));
    if (a->type != b->type)
        return dt_onnx_refuse(c, "its inputs are %s and %s", dt_tensor_type_name(a->type),
                              dt_tensor_type_name(b->type));
    DT_TRY(old_broadcast(c, &b, &room));
    int32_t ndim;
    int64_t dim[DT_MAX_DIM];
    DT_TRY(dt_onnx_broadcast(c, a, b, &ndim, dim));
    return dt_onnx_out(c, 0, made, ndim, dim);
}

static dt_status infer_number(const dt_onnx_call *c) {
    return infer_two(c, DT_HOST_NUMBERS, c->in[0]->type);
}
static dt_status infer_whole(const dt_onnx_call *c) {
    return infer_two(c, DT_HOST_INTS, c->in[0]->type);
}
static dt_status infer_bool(const dt_onnx_call *c) {
    return infer_two(c, DT_HOST_BOOL, DT_TENSOR_BOOL);
}
static dt_status infer_compare(const dt_onnx_call *c) {
    return infer_two(c, DT_HOST_NUMBERS, DT_TENSOR_BOOL);
}
static dt_status infer_equal(const dt_onnx_call *c) {
    return infer_two(c, DT_HOST_NUMBERS | DT_HOST_BOOL, DT_TENSOR_BOOL);
}

static dt_status run_two(const dt_onnx_call *c, const binary_fn *fn) {
    const dt_host_tensor *b = c->in[1];
    dt_host_tensor room;
    DT_TRY(old_broadcast(c, &b, &room));
    compute(fn, c->in[0], b, &c->out[0]);
    return DT_OK;
}

/* ---- functions ---- */

static int64_t of_u64(uint64_t x) {
    return (int64_t)x;
}

/* Whole numbers wrap; what has no result (x / 0) is 0, for elements that a Where passes over. */
static int64_t quotient(int64_t a, int64_t b) {
    return b == 0 ? 0 : b == -1 ? of_u64(0 - (uint64_t)a) : a / b;
}
static int64_t quotient_u64(int64_t a, int64_t b) {
    return b == 0 ? 0 : of_u64((uint64_t)a / (uint64_t)b);
}
static int64_t remainder_of(int64_t a, int64_t b) { /* with a's sign */
    return b == 0 || b == -1 ? 0 : a % b;
}
static int64_t remainder_u64(int64_t a, int64_t b) {
    return b == 0 ? 0 : of_u64((uint64_t)a % (uint64_t)b);
}
static int64_t modulo(int64_t a, int64_t b) { /* with b's sign */
    const int64_t r = remainder_of(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static double modulo_f(double a, double b) {
    const double r = fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static int64_t power(int64_t a, int64_t b) {
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
    uint64_t y = 1;
    for (uint64_t x = (uint64_t)a, n = (uint64_t)b; n > 0; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return of_u64(y);
}
static int64_t power_u64(int64_t a, int64_t b) {
    uint64_t y = 1;
    for (uint64_t x = (uint64_t)a, n = (uint64_t)b; n > 0; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return of_u64(y);
}

/* By a number below 0, or more than there are bits: all bits are gone, the sign's copies stay. */
static int64_t shift_left(int64_t a, int64_t b) {
    return b < 0 || b > 63 ? 0 : of_u64((uint64_t)a << b);
}
static int64_t shift_right(int64_t a, int64_t b) {
    return b < 0 || b > 63 ? -(a < 0) : a >> b;
}
static int64_t shift_right_u64(int64_t a, int64_t b) {
    return b < 0 || b > 63 ? 0 : of_u64((uint64_t)a >> b);
}

static double larger(double a, double b) { /* NaN stays */
    return a > b || a != a ? a : b;
}
static double smaller(double a, double b) {
    return a < b || a != a ? a : b;
}

#define U(x) ((uint64_t)(x))

/* X(name, since, infer, of floats, of whole numbers, of u64) */
#define BINARY_LIST(X)                                                                                       \
    X(Add, 1, number, a + b, of_u64(U(a) + U(b)), of_u64(U(a) + U(b)))                                       \
    X(Sub, 1, number, a - b, of_u64(U(a) - U(b)), of_u64(U(a) - U(b)))                                       \
    X(Mul, 1, number, a *b, of_u64(U(a) * U(b)), of_u64(U(a) * U(b)))                                        \
    X(Div, 1, number, a / b, quotient(a, b), quotient_u64(a, b))                                             \
    X(Equal, 1, equal, a == b, a == b, a == b)                                                               \
    X(Greater, 1, compare, a > b, a > b, U(a) > U(b))                                                        \
    X(GreaterOrEqual, 12, compare, a >= b, a >= b, U(a) >= U(b))                                             \
    X(Less, 1, compare, a < b, a < b, U(a) < U(b))                                                           \
    X(LessOrEqual, 12, compare, a <= b, a <= b, U(a) <= U(b))                                                \
    X(And, 1, bool, 0, (a & b), (a & b))                                                                     \
    X(Or, 1, bool, 0, (a | b), (a | b))                                                                      \
    X(Xor, 1, bool, 0, (a ^ b), (a ^ b))                                                                     \
    X(BitwiseAnd, 18, whole, 0, (a & b), (a & b))                                                            \
    X(BitwiseOr, 18, whole, 0, (a | b), (a | b))                                                             \
    X(BitwiseXor, 18, whole, 0, (a ^ b), (a ^ b))                                                            \
    X(Pow, 1, power, pow(a, b), power(a, b), power_u64(a, b))                                                \
    X(PRelu, 1, prelu, a < 0 ? a * b : a, a < 0 ? of_u64(U(a) * U(b)) : a, a)

/* X(name, of floats, of whole numbers, of u64): not ops themselves. */
#define PART_LIST(X)                                                                                         \
    X(larger, larger(a, b), a > b ? a : b, U(a) > U(b) ? a : b)                                              \
    X(smaller, smaller(a, b), a < b ? a : b, U(a) < U(b) ? a : b)                                            \
    X(remainder, fmod(a, b), remainder_of(a, b), remainder_u64(a, b))                                        \
    X(modulo, modulo_f(a, b), modulo(a, b), remainder_u64(a, b))                                             \
    X(left, 0, shift_left(a, b), shift_left(a, b))                                                           \
    X(right, 0, shift_right(a, b), shift_right_u64(a, b))

#define FUNCTIONS(name, float_expr, whole_expr, u64_expr)                                                    \
    static double float_##name(double a, double b) {                                                         \
        (void)a, (void)b;                                                                                    \
        return float_expr;                                                                                   \
    }                                                                                                        \
    static int64_t whole_##name(int64_t a, int64_t b) {                                                      \
        (void)b;                                                                                             \
        return whole_expr;                                                                                   \
    }                                                                                                        \
    static int64_t u64_##name(int64_t a, int64_t b) {                                                        \
        (void)b;                                                                                             \
        return u64_expr;                                                                                     \
    }                                                                                                        \
    static const binary_fn fn_##name = {float_##name, whole_##name, u64_##name};

#define DEFINE(name, since, infer, float_expr, whole_expr, u64_expr)                                         \
    FUNCTIONS(name, float_expr, whole_expr, u64_expr)                                                        \
    static dt_status run_##name(const dt_onnx_call *c) {                                                     \
        return run_two(c, &fn_##name);                                                                       \
    }

BINARY_LIST(DEFINE)
PART_LIST(FUNCTIONS)

/* The exponent may be of another type. */
static dt_status infer_power(const dt_onnx_call *c) {
    const dt_host_tensor *b = c->in[1];
    dt_host_tensor room;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_NUMBERS));
    DT_TRY(old_broadcast(c, &b, &room));
    int32_t ndim;
    int64_t dim[DT_MAX_DIM];
    DT_TRY(dt_onnx_broadcast(c, c->in[0], b, &ndim, dim));
    return dt_onnx_out(c, 0, c->in[0]->type, ndim, dim);
}

static dt_status infer_prelu(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(infer_number(c));
    if (c->n_out > 0 &&
        (c->out[0].ndim != x->ndim || memcmp(c->out[0].dim, x->dim, (size_t)x->ndim * sizeof *x->dim) != 0))
        return dt_onnx_refuse(c, "its slope does not broadcast to its input");
    return DT_OK;
}

static dt_status run_mod(const dt_onnx_call *c) {
    return run_two(c, dt_onnx_attr_int(c->node, "fmod", 0) ? &fn_remainder : &fn_modulo);
}

static dt_status infer_shift(const dt_onnx_call *c) {
    const char *way = dt_onnx_attr_text(c->node, "direction", "");
    if (strcmp(way, "LEFT") != 0 && strcmp(way, "RIGHT") != 0)
        return dt_onnx_refuse(c, "direction is '%s' instead of LEFT or RIGHT", way);
    return infer_two(c, DT_HOST_INTS, c->in[0]->type);
}
static dt_status run_shift(const dt_onnx_call *c) {
    return run_two(c,
                   strcmp(dt_onnx_attr_text(c->node, "direction", ""), "LEFT") == 0 ? &fn_left : &fn_right);
}

/* ---- of any number of inputs ---- */

static dt_status infer_many(const dt_onnx_call *c) {
    const dt_host_tensor *first = c->in[0];
    dt_host_tensor all = *first;
    for (int32_t i = 0; i < c->n_in; i++) {
        if (!c->in[i]) return dt_onnx_refuse(c, "input %d is missing", (int)i);
        DT_TRY(dt_onnx_expect(c, i, DT_HOST_NUMBERS));
        if (c->in[i]->type != first->type)
            return dt_onnx_refuse(c, "its inputs are %s and %s", dt_tensor_type_name(first->type),
                                  dt_tensor_type_name(c->in[i]->type));
        DT_TRY(dt_onnx_broadcast(c, &all, c->in[i], &all.ndim, all.dim));
    }
    return dt_onnx_out(c, 0, first->type, all.ndim, all.dim);
}

static dt_status run_many(const dt_onnx_call *c, const binary_fn *fn) {
    dt_host_tensor *y = &c->out[0];
    const dt_host_tensor *const operand[] = {NULL, c->in[0]};
    dt_walk_copy(dt_walk_broadcast(y->ndim, y->dim, 2, operand), y, c->in[0]);
    for (int32_t i = 1; i < c->n_in; i++) compute(fn, y, c->in[i], y);
    return DT_OK;
}
static dt_status run_max(const dt_onnx_call *c) {
    return run_many(c, &fn_larger);
}
static dt_status run_min(const dt_onnx_call *c) {
    return run_many(c, &fn_smaller);
}
static dt_status run_sum(const dt_onnx_call *c) {
    return run_many(c, &fn_Add);
}
static dt_status run_mean(const dt_onnx_call *c) {
    DT_TRY(run_sum(c));
    dt_host_tensor n = {.type = DT_TENSOR_I64, .data = &(int64_t){c->n_in}};
    compute(&fn_Div, &c->out[0], &n, &c->out[0]);
    return DT_OK;
}

/* ---- Clip ---- */

static dt_status infer_clip_attr(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    return dt_onnx_out_like(c, 0, 0);
}

static void copy_all(const dt_host_tensor *from, dt_host_tensor *to) {
    memcpy(to->data, from->data, (size_t)dt_host_bytes(from));
}

static dt_status run_clip_attr(const dt_onnx_call *c) {
    float low = dt_onnx_attr_float(c->node, "min", -FLT_MAX),
          high = dt_onnx_attr_float(c->node, "max", FLT_MAX);
    const dt_host_tensor at_least = {.type = DT_TENSOR_F32, .data = &low};
    const dt_host_tensor at_most = {.type = DT_TENSOR_F32, .data = &high};
    copy_all(c->in[0], &c->out[0]);
    if (low > -FLT_MAX) compute(&fn_larger, &c->out[0], &at_least, &c->out[0]);
    if (high < FLT_MAX) compute(&fn_smaller, &c->out[0], &at_most, &c->out[0]);
    return DT_OK;
}

static dt_status infer_clip(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    for (int32_t i = 1; i < 3; i++) {
        const dt_host_tensor *t = dt_onnx_in(c, i);
        if (t && (t->type != c->in[0]->type || dt_host_n_elem(t) != 1))
            return dt_onnx_refuse(c, "its input %d is not one number of the type of what is clipped", (int)i);
    }
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_clip(const dt_onnx_call *c) {
    copy_all(c->in[0], &c->out[0]);
    for (int32_t i = 1; i < 3; i++) {
        if (!dt_onnx_in(c, i)) continue;
        dt_host_tensor limit = *c->in[i];
        limit.ndim = 0;
        compute(i == 1 ? &fn_larger : &fn_smaller, &c->out[0], &limit, &c->out[0]);
    }
    return DT_OK;
}

/* ---- Where ---- */

static dt_status infer_where(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_BOOL));
    if (c->in[1]->type != c->in[2]->type)
        return dt_onnx_refuse(c, "it chooses between %s and %s", dt_tensor_type_name(c->in[1]->type),
                              dt_tensor_type_name(c->in[2]->type));
    dt_host_tensor all = {.ndim = 0};
    for (int32_t i = 0; i < 3; i++) DT_TRY(dt_onnx_broadcast(c, &all, c->in[i], &all.ndim, all.dim));
    return dt_onnx_out(c, 0, c->in[1]->type, all.ndim, all.dim);
}

static dt_status run_where(const dt_onnx_call *c) {
    dt_host_tensor *y = &c->out[0];
    const dt_host_tensor *const operand[] = {NULL, c->in[0], c->in[1], c->in[2]};
    const size_t bytes = (size_t)dt_host_elem_bytes(y->type);
    for (dt_walk w = dt_walk_broadcast(y->ndim, y->dim, 4, operand); w.rows > 0; dt_walk_next(&w)) {
        const uint8_t *chosen = (const uint8_t *)c->in[0]->data + w.at[1];
        for (int64_t i = 0; i < w.run; i++) {
            const int32_t k = chosen[i * dt_walk_step(&w, 1)] ? 2 : 3;
            memcpy((char *)y->data + (size_t)(w.at[0] + i) * bytes,
                   (const char *)c->in[k - 1]->data + (size_t)(w.at[k] + i * dt_walk_step(&w, k)) * bytes,
                   bytes);
        }
    }
    return DT_OK;
}

#define ROW(name, since, infer, ...) {"", #name, since, 2, 2, 1, infer_##infer, run_##name, false},

const dt_onnx_op dt_onnx_ops_binary[] = {
    BINARY_LIST(ROW){"", "BitShift", 11, 2, 2, 1, infer_shift, run_shift, false},
    {"", "Mod", 10, 2, 2, 1, infer_number, run_mod, false},
    {"", "Max", 1, 1, -1, 1, infer_many, run_max, false},
    {"", "Min", 1, 1, -1, 1, infer_many, run_min, false},
    {"", "Sum", 1, 1, -1, 1, infer_many, run_sum, false},
    {"", "Mean", 1, 1, -1, 1, infer_many, run_mean, false},
    {"", "Clip", 6, 1, 1, 1, infer_clip_attr, run_clip_attr, false},
    {"", "Clip", 11, 1, 3, 1, infer_clip, run_clip, false},
    {"", "Where", 9, 3, 3, 1, infer_where, run_where, false},
    {.name = NULL},
};
