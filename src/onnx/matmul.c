#include "matmul.h"

#include <math.h>
#include <string.h>

#include "gemm.h"
#include "numbers.h"

/* A matrix among the last dimensions of a tensor. */
typedef struct operand {
    const dt_host_tensor *t;
    int64_t at;         /* its first element */
    int64_t row, col;   /* elements from one row, column to the next */
    const double *zero; /* subtracted; [1] or one for each row or column; NULL: 0 */
    int64_t zero_row, zero_col, zero_at;
} operand;

typedef struct job {
    operand a, b;
    int64_t m, n, k;
    dt_host_tensor *y;
    int64_t at;              /* first element of the result */
    double alpha, beta;      /* of Gemm */
    const dt_host_tensor *c; /* added, or NULL */
    int64_t c_row, c_col;
    const double *scale; /* of a quantized result; NULL: none */
    int64_t scale_row,
        scale_col; /* a's scale times b's over y's: a_scale[scale_row i] b_scale[scale_col j] */
    const double *b_scale;
    const double *y_scale, *y_zero;
    int64_t y_row;
} job;

static void pack(const operand *o, int64_t row, int64_t n_row, int64_t col, int64_t n_col, double *out,
                 int64_t ld) {
    if (o->col == 1 || n_row == 1) {
        for (int64_t r = 0; r < n_row; r++)
            dt_host_load_f64(o->t, o->at + (row + r) * o->row + col * o->col, o->col, n_col, out + r * ld);
    } else {
        double line[512];
        for (int64_t j = 0; j < n_col; j++)
            for (int64_t r = 0; r < n_row; r += 512) {
                const int64_t n = dt_min_i64(512, n_row - r);
                dt_host_load_f64(o->t, o->at + (row + r) * o->row + (col + j) * o->col, o->row, n, line);
                for (int64_t i = 0; i < n; i++) out[(r + i) * ld + j] = line[i];
            }
    }
    if (!o->zero) return;
    for (int64_t r = 0; r < n_row; r++)
        for (int64_t j = 0; j < n_col; j++)
            out[r * ld + j] -= o->zero[o->zero_at + (row + r) * o->zero_row + (col + j) * o->zero_col];
}

static void pack_a(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col, double *out,
                   int64_t ld) {
    pack(&((const job *)self)->a, row, n_row, col, n_col, out, ld);
}

static void pack_b(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col, double *out,
                   int64_t ld) {
    pack(&((const job *)self)->b, row, n_row, col, n_col, out, ld);
}

static void store(const void *self, int64_t row, int64_t col, int64_t n_col, const double *sum) {
    const job *j = self;
    double out[256], more[256];
    for (int64_t i = 0; i < n_col; i += 256) {
        const int64_t n = dt_min_i64(256, n_col - i);
        for (int64_t k = 0; k < n; k++) out[k] = j->alpha * sum[i + k];
        if (j->c) {
            dt_host_load_f64(j->c, row * j->c_row + (col + i) * j->c_col, j->c_col, n, more);
            for (int64_t k = 0; k < n; k++) out[k] += j->beta * more[k];
        }
        for (int64_t k = 0; j->scale && k < n; k++) {
            const double scale = j->scale[row * j->scale_row] * j->b_scale[(col + i + k) * j->scale_col];
            out[k] = nearbyint(out[k] * scale / j->y_scale[row * j->y_row]) + j->y_zero[row * j->y_row];
        }
        dt_host_store_f64(j->y, j->at + row * j->n + col + i, n, out);
    }
}

/* Whole numbers, which wrap. */
static dt_status run_whole(const dt_onnx_call *c, const job *j, int64_t alpha, int64_t beta) {
    void *room;
    DT_TRY(dt_onnx_scratch(c, j->n * 16, &room));
    uint64_t *sum = room;
    int64_t *line = (int64_t *)room + j->n;
    for (int64_t i = 0; i < j->m; i++) {
        memset(sum, 0, sizeof *sum * (size_t)j->n);
        for (int64_t k = 0; k < j->k; k++) {
            const uint64_t x = (uint64_t)dt_host_i64(j->a.t, j->a.at + i * j->a.row + k * j->a.col);
            dt_host_load_i64(j->b.t, j->b.at + k * j->b.row, j->b.col, j->n, line);
            for (int64_t n = 0; n < j->n; n++) sum[n] += x * (uint64_t)line[n];
        }
        if (j->c) dt_host_load_i64(j->c, i * j->c_row, j->c_col, j->n, line);
        for (int64_t n = 0; n < j->n; n++)
            line[n] = (int64_t)((uint64_t)alpha * sum[n] + (j->c ? (uint64_t)beta * (uint64_t)line[n] : 0));
        dt_host_store_i64(j->y, j->at + i * j->n, j->n, line);
    }
    dt_onnx_release(c, room);
    return DT_OK;
}

static dt_status run_job(const dt_onnx_call *c, const job *j) {
    if (dt_host_is(j->a.t, DT_HOST_WIDE)) return run_whole(c, j, (int64_t)j->alpha, (int64_t)j->beta);
    return dt_gemm_run(
        &(dt_gemm){.m = j->m, .n = j->n, .k = j->k, .self = j, .a = pack_a, .b = pack_b, .store = store});
}

/* Shapes of a product of inputs ia and ib: both with leading dimensions that broadcast. */
typedef struct shape {
    int32_t ndim; /* of a, b and the result when all have rows and columns */
    int64_t a[DT_MAX_DIM], b[DT_MAX_DIM], y[DT_MAX_DIM];
    int64_t m, n, k;
    bool vector_a, vector_b;
    bool turned_a, turned_b; /* of FusedMatMul: rows and columns change places */
} shape;

static dt_status read_shape(const dt_onnx_call *c, int32_t ia, int32_t ib, shape *s) {
    const dt_host_tensor *a = c->in[ia], *b = c->in[ib];
    DT_TRY(dt_onnx_rank(c, ia, 1, DT_MAX_DIM));
    DT_TRY(dt_onnx_rank(c, ib, 1, DT_MAX_DIM));
    *s = (shape){.vector_a = a->ndim == 1, .vector_b = b->ndim == 1};
    if (*c->node->domain) {
        s->turned_a = !s->vector_a && dt_onnx_attr_int(c->node, "transA", 0) != 0;
        s->turned_b = !s->vector_b && dt_onnx_attr_int(c->node, "transB", 0) != 0;
        if (dt_onnx_attr_int(c->node, "transBatchA", 0) != 0 ||
            dt_onnx_attr_int(c->node, "transBatchB", 0) != 0)
            return dt_onnx_refuse(c, "turned batches are not supported");
    }
    s->m = s->vector_a ? 1 : a->dim[a->ndim - (s->turned_a ? 1 : 2)];
    s->k = a->dim[a->ndim - (s->turned_a ? 2 : 1)];
    s->n = s->vector_b ? 1 : b->dim[b->ndim - (s->turned_b ? 2 : 1)];
    const int64_t kb = b->dim[s->vector_b ? 0 : b->ndim - (s->turned_b ? 1 : 2)];
    if (s->k != kb)
        return dt_onnx_refuse(c, "a product over %lld and %lld elements", (long long)s->k, (long long)kb);
    const int32_t lead_a = (int32_t)dt_max_i64(0, a->ndim - 2), lead_b = (int32_t)dt_max_i64(0, b->ndim - 2),
                  lead = (int32_t)dt_max_i64(lead_a, lead_b);
    s->ndim = lead + 2;
    for (int32_t d = 0; d < lead; d++) {
        const int64_t x = s->a[d] = d < lead - lead_a ? 1 : a->dim[d - (lead - lead_a)],
                      y = s->b[d] = d < lead - lead_b ? 1 : b->dim[d - (lead - lead_b)];
        if (x != y && x != 1 && y != 1)
            return dt_onnx_refuse(c, "%lld and %lld do not broadcast", (long long)x, (long long)y);
        s->y[d] = x == 1 ? y : x;
    }
    s->a[lead] = s->y[lead] = s->m, s->a[lead + 1] = s->k;
    s->b[lead] = s->k, s->b[lead + 1] = s->y[lead + 1] = s->n;
    return DT_OK;
}

static dt_status out_shape(const dt_onnx_call *c, const shape *s, dt_tensor_type type) {
    int64_t dim[DT_MAX_DIM];
    int32_t n = s->ndim - 2;
    memcpy(dim, s->y, sizeof dim);
    if (!s->vector_a) dim[n++] = s->m;
    if (!s->vector_b) dim[n++] = s->n;
    return dt_onnx_out(c, 0, type, n, dim);
}

/* All products; j holds what they have in common. */
static dt_status run_all(const dt_onnx_call *c, const shape *s, job *j) {
    j->m = s->m, j->n = s->n, j->k = s->k, j->y = &c->out[0];
    j->a.row = s->turned_a ? 1 : s->k, j->a.col = s->turned_a ? s->m : 1;
    j->b.row = s->turned_b ? 1 : s->n, j->b.col = s->turned_b ? s->k : 1;
    /* One matrix b for all: their rows are those of one product. */
    const int32_t lead = s->ndim - 2;
    int64_t n = 1, n_b = 1;
    for (int32_t d = 0; d < lead; d++) n *= s->y[d], n_b *= s->b[d];
    if (n_b == 1 && n > 1 && !j->a.zero && !j->scale && !s->turned_a) {
        j->m *= n;
        return run_job(c, j);
    }
    int64_t at[DT_MAX_DIM] = {0};
    for (int64_t i = 0; i < n; i++) {
        int64_t ia = 0, ib = 0;
        for (int32_t d = 0; d < lead; d++) {
            ia = ia * s->a[d] + (s->a[d] == 1 ? 0 : at[d]);
            ib = ib * s->b[d] + (s->b[d] == 1 ? 0 : at[d]);
        }
        j->a.at = ia * s->m * s->k;
        j->b.at = ib * s->k * s->n;
        if (j->a.zero_row) j->a.zero_at = ia * s->m;
        if (j->b.zero_col) j->b.zero_at = ib * s->n;
        j->at = i * s->m * s->n;
        DT_TRY(run_job(c, j));
        for (int32_t d = lead - 1; d >= 0 && ++at[d] == s->y[d]; d--) at[d] = 0;
    }
    return DT_OK;
}

dt_status dt_infer_matmul(const dt_onnx_call *c) {
    shape s;
    DT_TRY(dt_onnx_expect_all(c, 0, 1, DT_HOST_FLOATS | DT_HOST_WIDE));
    DT_TRY(read_shape(c, 0, 1, &s));
    return out_shape(c, &s, c->in[0]->type);
}

dt_status dt_run_matmul(const dt_onnx_call *c) {
    shape s;
    DT_TRY(read_shape(c, 0, 1, &s));
    job j = {.a.t = c->in[0], .b.t = c->in[1], .alpha = 1};
    if (*c->node->domain) j.alpha = (double)dt_onnx_attr_float(c->node, "alpha", 1);
    return run_all(c, &s, &j);
}

/* Zero points (or scales) of a, input i: one number, or one for each row of each matrix; of b: one for each column. */
static dt_status check_each(const dt_onnx_call *c, int32_t i, int64_t each, int64_t all, bool *many) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    const int64_t n = t ? dt_host_n_elem(t) : 1;
    *many = n != 1;
    if (n == 1 || n == each || n == all) return DT_OK;
    return dt_onnx_refuse(c, "input %d must have one number or %lld, and has %lld", i, (long long)each,
                          (long long)n);
}

/* Reads them, repeated for each matrix where they are given once. */
static dt_status read_each(const dt_onnx_call *c, int32_t i, int64_t each, int64_t all, const double **out,
                           int64_t *step) {
    double *given, *full;
    bool many;
    *out = NULL;
    DT_TRY(check_each(c, i, each, all, &many));
    DT_TRY(dt_onnx_load(c, i, &given));
    *step = many;
    *out = given;
    if (!many || !given || dt_host_n_elem(c->in[i]) == all || each == 0) return DT_OK;
    DT_TRY(dt_onnx_doubles(c, all, &full));
    for (int64_t k = 0; k < all; k++) full[k] = given[k % each];
    *out = full;
    return DT_OK;
}

static int64_t matrices(const int64_t *dim, int32_t ndim) {
    int64_t n = 1;
    for (int32_t d = 0; d < ndim - 2; d++) n *= dim[d];
    return n;
}

dt_status dt_infer_matmul_integer(const dt_onnx_call *c) {
    shape s;
    bool many;
    for (int32_t i = 0; i < 2; i++) {
        DT_TRY(dt_onnx_expect(c, i, DT_HOST_BYTES));
        DT_TRY(dt_onnx_same_type(c, i, i + 2));
    }
    DT_TRY(read_shape(c, 0, 1, &s));
    DT_TRY(check_each(c, 2, s.m, s.m * matrices(s.a, s.ndim), &many));
    DT_TRY(check_each(c, 3, s.n, s.n * matrices(s.b, s.ndim), &many));
    return out_shape(c, &s, DT_TENSOR_I32);
}

dt_status dt_run_matmul_integer(const dt_onnx_call *c) {
    shape s;
    DT_TRY(read_shape(c, 0, 1, &s));
    job j = {.a.t = c->in[0], .b.t = c->in[1], .alpha = 1};
    DT_TRY(read_each(c, 2, s.m, s.m * matrices(s.a, s.ndim), &j.a.zero, &j.a.zero_row));
    DT_TRY(read_each(c, 3, s.n, s.n * matrices(s.b, s.ndim), &j.b.zero, &j.b.zero_col));
    return run_all(c, &s, &j);
}

/* a, its scale and zero point, b with its, y's. */
dt_status dt_infer_matmul_quantized(const dt_onnx_call *c) {
    shape s;
    bool many;
    for (int32_t i = 0; i < 6; i += 3) {
        DT_TRY(dt_onnx_expect(c, i, DT_HOST_BYTES));
        DT_TRY(dt_onnx_same_type(c, i, i + 2));
    }
    DT_TRY(dt_onnx_expect(c, 7, DT_HOST_BYTES));
    DT_TRY(dt_onnx_expect_all(c, 1, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect_all(c, 4, 4, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect_all(c, 6, 6, DT_HOST_FLOATS));
    DT_TRY(read_shape(c, 0, 3, &s));
    for (int32_t i = 1; i < 8; i++) {
        if (i == 3) continue;
        const bool of_b = i == 4 || i == 5;
        const int64_t each = of_b ? s.n : s.m;
        DT_TRY(check_each(c, i, each, each * matrices(of_b ? s.b : i < 3 ? s.a : s.y, s.ndim), &many));
        if ((i == 1 || i == 4 || i > 5) && many && matrices(s.y, s.ndim) != 1)
            return dt_onnx_refuse(c, "input %d of many numbers with many matrices", i);
    }
    return out_shape(c, &s, c->in[7]->type);
}

dt_status dt_run_matmul_quantized(const dt_onnx_call *c) {
    shape s;
    int64_t step;
    DT_TRY(read_shape(c, 0, 3, &s));
    job j = {.a.t = c->in[0], .b.t = c->in[3], .alpha = 1};
    DT_TRY(read_each(c, 2, s.m, s.m * matrices(s.a, s.ndim), &j.a.zero, &j.a.zero_row));
    DT_TRY(read_each(c, 5, s.n, s.n * matrices(s.b, s.ndim), &j.b.zero, &j.b.zero_col));
    DT_TRY(read_each(c, 1, s.m, s.m, &j.scale, &j.scale_row));
    DT_TRY(read_each(c, 4, s.n, s.n, &j.b_scale, &j.scale_col));
    DT_TRY(read_each(c, 6, s.m, s.m, &j.y_scale, &j.y_row));
    DT_TRY(read_each(c, 7, s.m, s.m, &j.y_zero, &step));
    if (step != j.y_row) return dt_onnx_refuse(c, "its scale and zero point have different sizes");
    return run_all(c, &s, &j);
}

static dt_status read_gemm(const dt_onnx_call *c, job *j) {
    DT_TRY(dt_onnx_rank(c, 0, 2, 2));
    DT_TRY(dt_onnx_rank(c, 1, 2, 2));
    const dt_host_tensor *a = c->in[0], *b = c->in[1], *add = dt_onnx_in(c, 2);
    const bool ta = dt_onnx_attr_int(c->node, "transA", 0) != 0,
               tb = dt_onnx_attr_int(c->node, "transB", 0) != 0;
    *j = (job){.a.t = a, .b.t = b, .y = &c->out[0], .m = a->dim[ta], .k = a->dim[!ta], .n = b->dim[!tb]};
    if (b->dim[tb] != j->k)
        return dt_onnx_refuse(c, "a product over %lld and %lld elements", (long long)j->k,
                              (long long)b->dim[tb]);
    j->a.row = ta ? 1 : j->k, j->a.col = ta ? j->m : 1;
    j->b.row = tb ? 1 : j->n, j->b.col = tb ? j->k : 1;
    j->alpha = (double)dt_onnx_attr_float(c->node, "alpha", 1);
    j->beta = (double)dt_onnx_attr_float(c->node, "beta", 1);
    if (!add) return DT_OK;
    DT_TRY(dt_onnx_rank(c, 2, 0, 2));
    const int64_t row = add->ndim == 2 ? add->dim[0] : 1, col = add->ndim > 0 ? add->dim[add->ndim - 1] : 1;
    if ((row != 1 && row != j->m) || (col != 1 && col != j->n))
        return dt_onnx_refuse(c, "%lld x %lld numbers do not broadcast to %lld x %lld", (long long)row,
                              (long long)col, (long long)j->m, (long long)j->n);
    j->c = add;
    j->c_col = col != 1;
    j->c_row = row != 1 ? col : 0;
    return DT_OK;
}

dt_status dt_infer_gemm(const dt_onnx_call *c) {
    job j;
    DT_TRY(dt_onnx_expect_all(c, 0, 2, DT_HOST_FLOATS | DT_HOST_WIDE));
    DT_TRY(read_gemm(c, &j));
    return dt_onnx_out(c, 0, c->in[0]->type, 2, (const int64_t[]){j.m, j.n});
}

dt_status dt_run_gemm(const dt_onnx_call *c) {
    job j;
    DT_TRY(read_gemm(c, &j));
    return run_job(c, &j);
}
