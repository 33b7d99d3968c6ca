/* Tensors: memory of a backend with a shape, and what is computed with them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "core/half.h"
#include "core/rng.h"

/* ---- shapes ---- */

dt_shape_text dt_shape_to_text(dt_shape s) {
    dt_shape_text t = {"scalar"};
    size_t n = 0;
    for (int32_t i = 0; i < s.ndim && i < DT_MAX_DIM && n < sizeof t.s; i++)
        n += (size_t)snprintf(t.s + n, sizeof t.s - n, "%s%lld", i ? "x" : "", (long long)s.dim[i]);
    return t;
}

bool dt_shape_equal(dt_shape a, dt_shape b) {
    return a.ndim == b.ndim && memcmp(a.dim, b.dim, (size_t)a.ndim * sizeof *a.dim) == 0;
}

dt_status dt_shape_check(const char *function, dt_shape shape, dt_dtype dtype, int64_t *n_elem,
                         int64_t *bytes) {
    if (dtype < 0 || dtype >= DT_DTYPE_COUNT)
        return dt_fail(DT_ERR_USAGE, "%s: %d is no dt_dtype", function, (int)dtype);
    if (!dt_dtype_is_whole_bytes(dtype))
        return dt_fail(DT_ERR_UNSUPPORTED, "%s: no tensors of %s, which is packed", function,
                       dt_dtype_name(dtype));
    if (shape.ndim < 0 || shape.ndim > DT_MAX_DIM)
        return dt_fail(DT_ERR_USAGE, "%s: a shape of %d dimensions; 0 to %d are possible", function,
                       shape.ndim, DT_MAX_DIM);
    int64_t n = (int64_t)dt_dtype_size(dtype);
    bool none = false, overflow = false;
    for (int32_t i = 0; i < shape.ndim; i++) {
        if (shape.dim[i] < 0)
            return dt_fail(DT_ERR_USAGE, "%s: dimension %d of %s is negative", function, i,
                           dt_shape_to_text(shape).s);
        none |= shape.dim[i] == 0;
        overflow |= __builtin_mul_overflow(n, shape.dim[i], &n);
    }
    if (overflow && !none)
        return dt_fail(DT_ERR_MEMORY, "%s: a tensor of %s is more than can be counted", function,
                       dt_shape_to_text(shape).s);
    *bytes = none ? 0 : n;
    *n_elem = *bytes / (int64_t)dt_dtype_size(dtype);
    return DT_OK;
}

/* ---- making and freeing ---- */

dt_status dt_tensor_over(dt_run *run, dt_backend *be, dt_dtype dtype, dt_shape shape, void *data,
                         dt_tensor **out) {
    int64_t n_elem, bytes;
    DT_TRY(dt_shape_check("dt_tensor", shape, dtype, &n_elem, &bytes));
    dt_tensor *t = dt_handle_new(DT_HANDLE_TENSOR, sizeof *t);
    if (!t) return dt_fail(DT_ERR_MEMORY, "no memory for a tensor");
    for (int32_t i = shape.ndim; i < DT_MAX_DIM; i++) shape.dim[i] = 0;
    t->run = run;
    t->be = be;
    t->dtype = dtype;
    t->shape = shape;
    t->n_elem = n_elem;
    t->bytes = bytes;
    t->data = data;
    dt_run_hold(run);
    *out = t;
    return DT_OK;
}

static void destroy(dt_tensor *t) {
    dt_run *run = t->run;
    if (t->owned) {
        pthread_mutex_lock(&run->lock);
        t->be->free(t->be, DT_MEM_DEVICE, t->data);
        pthread_mutex_unlock(&run->lock);
    }
    dt_net *net = t->net;
    dt_handle_free(t);
    if (net) dt_net_drop(net);
    dt_run_drop(run);
}

void dt_tensor_free(dt_tensor *t) {
    if (dt_handle_end(DT_HANDLE_TENSOR, t)) destroy(t);
}

static dt_status make(dt_run *run, dt_backend *be, dt_dtype dtype, dt_shape shape, dt_tensor **out) {
    dt_tensor *t;
    DT_TRY(dt_tensor_over(run, be, dtype, shape, NULL, &t));
    pthread_mutex_lock(&run->lock);
    const dt_status st = be->alloc(be, DT_MEM_DEVICE, t->bytes, &t->data);
    pthread_mutex_unlock(&run->lock);
    if (st == DT_OK) {
        t->owned = true;
        *out = t;
        return DT_OK;
    }
    dt_error_context("a tensor of %s %s", dt_shape_to_text(shape).s, dt_dtype_name(dtype));
    dt_tensor_free(t);
    return st;
}

/* The tensor that a result goes to: *out, which must fit, or a new one (*made). */
static dt_status result(const char *function, dt_run *run, dt_backend *be, dt_dtype dtype, dt_shape shape,
                        dt_tensor **out, bool *made) {
    int64_t n_elem, bytes;
    if (!out) return dt_fail(DT_ERR_USAGE, "%s: out is NULL", function);
    DT_TRY(dt_shape_check(function, shape, dtype, &n_elem, &bytes));
    *made = !*out;
    if (*made) return make(run, be, dtype, shape, out);
    const dt_tensor *t = *out;
    DT_TRY(dt_handle_check(DT_HANDLE_TENSOR, t, function, "*out"));
    if (t->run != run || t->be != be)
        return dt_fail(DT_ERR_USAGE, "%s: *out lies in the memory of another device or run", function);
    if (t->dtype != dtype || !dt_shape_equal(t->shape, shape))
        return dt_fail(DT_ERR_USAGE,
                       "%s: *out is %s %s, and the result %s %s: start with *out = NULL to get one", function,
                       dt_shape_to_text(t->shape).s, dt_dtype_name(t->dtype), dt_shape_to_text(shape).s,
                       dt_dtype_name(dtype));
    return DT_OK;
}

/* Ends a result that could not be computed. */
static dt_status finish(dt_status st, dt_tensor **out, bool made) {
    if (st == DT_OK || !made) return st;
    dt_tensor_free(*out);
    *out = NULL;
    return st;
}

/* ---- to and from the host ---- */

/* Host memory `data` to or from the tensor. */
static dt_status move(const dt_tensor *t, void *data, bool to_host) {
    dt_run *run = t->run;
    dt_backend *be = t->be;
    pthread_mutex_lock(&run->lock);
    dt_status st = be->copy(be, to_host ? data : t->data, to_host ? t->data : data, t->bytes, NULL);
    if (st == DT_OK) st = be->stream_sync(be, NULL);
    pthread_mutex_unlock(&run->lock);
    return st;
}

static dt_status check_bytes(const char *function, const dt_tensor *t, const void *data, int64_t bytes) {
    if (bytes != t->bytes)
        return dt_fail(DT_ERR_USAGE, "%s: %lld bytes for a tensor of %s %s, which has %lld", function,
                       (long long)bytes, dt_shape_to_text(t->shape).s, dt_dtype_name(t->dtype),
                       (long long)t->bytes);
    if (!data && bytes > 0) return dt_fail(DT_ERR_USAGE, "%s: data is NULL", function);
    return DT_OK;
}

dt_status dt_tensor_read(const dt_tensor *t, void *data, int64_t bytes) {
    DT_CHECK_TENSOR(t);
    DT_TRY(check_bytes(__func__, t, data, bytes));
    return move(t, data, true);
}

dt_status dt_tensor_write(dt_tensor *t, const void *data, int64_t bytes) {
    DT_CHECK_TENSOR(t);
    DT_TRY(check_bytes(__func__, t, data, bytes));
    return move(t, (void *)(uintptr_t)data, false);
}

/* A new tensor of the run's device, from host memory that is freed here. */
static dt_status make_from(dt_run *run, dt_dtype dtype, dt_shape shape, void *host, dt_tensor **out) {
    dt_status st = make(run, run->be, dtype, shape, out);
    if (st == DT_OK) st = finish(move(*out, host, false), out, true);
    free(host);
    return st;
}

dt_status dt_tensor_zeros(dt_run *run, dt_dtype dtype, dt_shape shape, dt_tensor **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    *out = NULL;
    int64_t n_elem, bytes;
    DT_TRY(dt_shape_check(__func__, shape, dtype, &n_elem, &bytes));
    return make(run, run->be, dtype, shape, out); /* backends give zeros */
}

dt_status dt_tensor_from(dt_run *run, dt_dtype dtype, dt_shape shape, const void *data, dt_tensor **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    *out = NULL;
    int64_t n_elem, bytes;
    DT_TRY(dt_shape_check(__func__, shape, dtype, &n_elem, &bytes));
    if (bytes > 0) DT_CHECK_POINTER(data);
    DT_TRY(make(run, run->be, dtype, shape, out));
    return finish(move(*out, (void *)(uintptr_t)data, false), out, true);
}

dt_status dt_tensor_wrap(dt_run *run, dt_dtype dtype, dt_shape shape, void *data, dt_tensor **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    *out = NULL;
    int64_t n_elem, bytes;
    DT_TRY(dt_shape_check(__func__, shape, dtype, &n_elem, &bytes));
    if (bytes > 0) DT_CHECK_POINTER(data);
    if ((uintptr_t)data % dt_dtype_size(dtype))
        return dt_fail(DT_ERR_USAGE, "dt_tensor_wrap: data is not aligned for %s", dt_dtype_name(dtype));
    return dt_tensor_over(run, run->host, dtype, shape, data, out);
}

dt_status dt_tensor_zeros_host(dt_run *run, dt_dtype dtype, dt_shape shape, dt_tensor **out) {
    int64_t n_elem, bytes;
    *out = NULL;
    DT_TRY(dt_shape_check("dt_tensor", shape, dtype, &n_elem, &bytes));
    DT_TRY(make(run, run->host, dtype, shape, out));
    memset((*out)->data, 0, (size_t)bytes);
    return DT_OK;
}

/* `value` at element i of host memory, rounded to the type. */
static void put(void *host, dt_dtype dtype, int64_t i, double value) {
    switch (dtype) {
    case DT_DTYPE_F32:
        ((float *)host)[i] = (float)value;
        break;
    case DT_DTYPE_F16:
        ((uint16_t *)host)[i] = dt_f32_to_f16((float)value);
        break;
    case DT_DTYPE_BF16:
        ((uint16_t *)host)[i] = dt_f32_to_bf16((float)value);
        break;
    case DT_DTYPE_F64:
        ((double *)host)[i] = value;
        break;
    case DT_DTYPE_U8:
        ((uint8_t *)host)[i] = (uint8_t)value;
        break;
    case DT_DTYPE_I8:
        ((int8_t *)host)[i] = (int8_t)value;
        break;
    case DT_DTYPE_BOOL:
        ((uint8_t *)host)[i] = value != 0;
        break;
    case DT_DTYPE_I32:
        ((int32_t *)host)[i] = (int32_t)value;
        break;
    case DT_DTYPE_I64:
        ((int64_t *)host)[i] = (int64_t)value;
        break;
    default:
        break;
    }
}

/* Least and greatest value of the integer types; 0, 0 of the others. */
static void range_of(dt_dtype dtype, double *least, double *greatest) {
    *least = dtype == DT_DTYPE_I8    ? -128
             : dtype == DT_DTYPE_I32 ? -0x1p31
             : dtype == DT_DTYPE_I64 ? -0x1p63
                                     : 0;
    *greatest = dtype == DT_DTYPE_U8     ? 255
                : dtype == DT_DTYPE_I8   ? 127
                : dtype == DT_DTYPE_BOOL ? 1
                : dtype == DT_DTYPE_I32  ? 0x1p31 - 1
                : dtype == DT_DTYPE_I64  ? nextafter(0x1p63, 0)
                                         : 0;
}

dt_status dt_tensor_full(dt_run *run, dt_dtype dtype, dt_shape shape, double value, dt_tensor **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    *out = NULL;
    int64_t n_elem, bytes;
    double least, greatest;
    DT_TRY(dt_shape_check(__func__, shape, dtype, &n_elem, &bytes));
    range_of(dtype, &least, &greatest);
    if (greatest > 0 && !(value >= least && value <= greatest))
        return dt_fail(DT_ERR_USAGE, "dt_tensor_full: %g is no value of %s", value, dt_dtype_name(dtype));
    void *host = malloc((size_t)bytes + 1);
    if (!host)
        return dt_fail(DT_ERR_MEMORY, "dt_tensor_full: no memory for a tensor of %s",
                       dt_shape_to_text(shape).s);
    for (int64_t i = 0; i < n_elem; i++) put(host, dtype, i, greatest > 0 ? rint(value) : value);
    return make_from(run, dtype, shape, host, out);
}

dt_status dt_tensor_ones(dt_run *run, dt_dtype dtype, dt_shape shape, dt_tensor **out) {
    return dt_tensor_full(run, dtype, shape, 1, out);
}

/* Box-Muller of one Philox draw a pair. */
static double normal(uint64_t key, int64_t i) {
    const dt_u32x4 w = dt_philox(key, 0, (uint64_t)i / 2);
    const double u = ((double)w.v[0] + 1) * 0x1p-32, angle = 2 * 3.14159265358979323846 * 0x1p-32 * w.v[1];
    return sqrt(-2 * log(u)) * (i % 2 ? sin(angle) : cos(angle));
}

dt_status dt_tensor_randn(dt_run *run, dt_dtype dtype, dt_shape shape, uint64_t seed, dt_tensor **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    *out = NULL;
    int64_t n_elem, bytes;
    DT_TRY(dt_shape_check(__func__, shape, dtype, &n_elem, &bytes));
    if (dtype != DT_DTYPE_F32 && dtype != DT_DTYPE_F64 && dtype != DT_DTYPE_F16 && dtype != DT_DTYPE_BF16)
        return dt_fail(DT_ERR_USAGE, "dt_tensor_randn: %s holds no real numbers", dt_dtype_name(dtype));
    void *host = malloc((size_t)bytes + 1);
    if (!host)
        return dt_fail(DT_ERR_MEMORY, "dt_tensor_randn: no memory for a tensor of %s",
                       dt_shape_to_text(shape).s);
    const uint64_t key = dt_rng_key(seed, DT_RNG_TENSOR, 0);
    for (int64_t i = 0; i < n_elem; i++) put(host, dtype, i, normal(key, i));
    return make_from(run, dtype, shape, host, out);
}

/* ---- questions ---- */

dt_shape dt_tensor_shape(const dt_tensor *t) {
    return dt_handle_is(DT_HANDLE_TENSOR, t) ? t->shape : (dt_shape){0};
}
dt_dtype dt_tensor_dtype(const dt_tensor *t) {
    return dt_handle_is(DT_HANDLE_TENSOR, t) ? t->dtype : DT_DTYPE_COUNT;
}
int64_t dt_tensor_n_elem(const dt_tensor *t) {
    return dt_handle_is(DT_HANDLE_TENSOR, t) ? t->n_elem : 0;
}
bool dt_tensor_is_host(const dt_tensor *t) {
    return dt_handle_is(DT_HANDLE_TENSOR, t) && !t->be->info.is_gpu;
}

void *dt_tensor_data(const dt_tensor *t) {
    if (dt_handle_check(DT_HANDLE_TENSOR, t, __func__, "t") != DT_OK) return NULL;
    pthread_mutex_lock(&t->run->lock);
    const dt_status st = t->be->stream_sync(t->be, NULL);
    pthread_mutex_unlock(&t->run->lock);
    return st == DT_OK ? t->data : NULL;
}

/* ---- copies ---- */

/* The elements of t, as they stand, in `shape` and in memory of `be`. */
static dt_status copy_to(const char *function, const dt_tensor *t, dt_backend *be, dt_shape shape,
                         dt_tensor **out) {
    dt_run *run = t->run;
    bool made = false;
    DT_TRY(result(function, run, be, t->dtype, shape, out, &made));
    pthread_mutex_lock(&run->lock);
    /* Between host and device the device's backend copies. */
    dt_backend *by = t->be->info.is_gpu ? t->be : be;
    dt_status st = by->copy(by, (*out)->data, t->data, t->bytes, NULL);
    if (st == DT_OK && t->be != be) st = by->stream_sync(by, NULL);
    pthread_mutex_unlock(&run->lock);
    return finish(st, out, made);
}

/* Where results of t belong: a network's own memory is the run's device, too. */
static dt_backend *place_of(const dt_tensor *t) {
    return t->be->info.is_gpu ? t->run->be : t->run->host;
}

dt_status dt_tensor_copy(const dt_tensor *t, dt_tensor **out) {
    DT_CHECK_TENSOR(t);
    return copy_to(__func__, t, place_of(t), t->shape, out);
}
dt_status dt_tensor_to_host(const dt_tensor *t, dt_tensor **out) {
    DT_CHECK_TENSOR(t);
    return copy_to(__func__, t, t->run->host, t->shape, out);
}
dt_status dt_tensor_to_device(const dt_tensor *t, dt_tensor **out) {
    DT_CHECK_TENSOR(t);
    return copy_to(__func__, t, t->run->be, t->shape, out);
}

dt_status dt_tensor_reshape(const dt_tensor *t, dt_shape shape, dt_tensor **out) {
    DT_CHECK_TENSOR(t);
    int64_t n_elem, bytes;
    DT_TRY(dt_shape_check(__func__, shape, t->dtype, &n_elem, &bytes));
    if (n_elem != t->n_elem)
        return dt_fail(DT_ERR_USAGE, "dt_tensor_reshape: %s has %lld elements, %s has %lld",
                       dt_shape_to_text(t->shape).s, (long long)t->n_elem, dt_shape_to_text(shape).s,
                       (long long)n_elem);
    return copy_to(__func__, t, place_of(t), shape, out);
}

/* ---- arithmetic ---- */

static dt_status check_pair(const char *function, const dt_tensor *a, const dt_tensor *b) {
    DT_TRY(dt_handle_check(DT_HANDLE_TENSOR, a, function, "a"));
    DT_TRY(dt_handle_check(DT_HANDLE_TENSOR, b, function, "b"));
    if (a->run != b->run || place_of(a) != place_of(b))
        return dt_fail(DT_ERR_USAGE, "%s: a and b lie in the memory of different devices or runs", function);
    if (a->dtype != b->dtype)
        return dt_fail(DT_ERR_USAGE, "%s: a is %s, b is %s", function, dt_dtype_name(a->dtype),
                       dt_dtype_name(b->dtype));
    const bool float16 = a->dtype == DT_DTYPE_F16 || a->dtype == DT_DTYPE_BF16;
    if ((a->dtype != DT_DTYPE_F32 && !float16) || !a->be->supports(a->be, a->dtype))
        return dt_fail(DT_ERR_UNSUPPORTED, "%s: %s does not compute in %s", function, a->be->info.name,
                       dt_dtype_name(a->dtype));
    return DT_OK;
}

static dt_status elementwise(const char *function, dt_binary f, const dt_tensor *a, const dt_tensor *b,
                             dt_tensor **out) {
    DT_TRY(check_pair(function, a, b));
    if (!dt_shape_equal(a->shape, b->shape))
        return dt_fail(DT_ERR_USAGE, "%s: a is %s, b is %s", function, dt_shape_to_text(a->shape).s,
                       dt_shape_to_text(b->shape).s);
    dt_run *run = a->run;
    dt_backend *be = place_of(a);
    bool made = false;
    DT_TRY(result(function, run, be, a->dtype, a->shape, out, &made));
    if (a->n_elem == 0) return DT_OK;
    pthread_mutex_lock(&run->lock);
    const dt_status st =
        dt_eager_run(run, be, DT_OP_BINARY, &(dt_attr){.binary.fn = f}, 2, (const dt_tensor *[]){a, b}, *out);
    pthread_mutex_unlock(&run->lock);
    return finish(st, out, made);
}

dt_status dt_tensor_add(const dt_tensor *a, const dt_tensor *b, dt_tensor **out) {
    return elementwise(__func__, DT_BINARY_ADD, a, b, out);
}

dt_status dt_tensor_multiply(const dt_tensor *a, const dt_tensor *b, dt_tensor **out) {
    return elementwise(__func__, DT_BINARY_MUL, a, b, out);
}

/* A matrix within a tensor, for an op: element `first` on. */
static dt_tensor matrix(const dt_tensor *t, int64_t first, int64_t rows, int64_t columns) {
    dt_tensor m = *t;
    m.shape = DT_SHAPE(rows, columns);
    m.n_elem = rows * columns;
    m.bytes = m.n_elem * (int64_t)dt_dtype_size(t->dtype);
    m.data = (char *)t->data + first * (int64_t)dt_dtype_size(t->dtype);
    return m;
}

dt_status dt_tensor_matmul(const dt_tensor *a, const dt_tensor *b, dt_tensor **out) {
    DT_TRY(check_pair(__func__, a, b));
    const dt_shape *sa = &a->shape, *sb = &b->shape;
    const bool flat = sb->ndim == 2; /* all rows of a with one matrix */
    if (sa->ndim < 2 || sb->ndim < 2 || sa->dim[sa->ndim - 1] != sb->dim[sb->ndim - 2] ||
        (!flat &&
         (sa->ndim != sb->ndim || memcmp(sa->dim, sb->dim, (size_t)(sa->ndim - 2) * sizeof *sa->dim) != 0)))
        return dt_fail(DT_ERR_USAGE,
                       "dt_tensor_matmul: a is %s, b is %s: expected [..., M, K] and [K, N], or the same "
                       "dimensions in front of both",
                       dt_shape_to_text(*sa).s, dt_shape_to_text(*sb).s);
    dt_shape shape = *sa;
    shape.dim[sa->ndim - 1] = sb->dim[sb->ndim - 1];
    if (out && *out && (*out == a || *out == b))
        return dt_fail(DT_ERR_USAGE, "dt_tensor_matmul: *out is an operand");
    dt_run *run = a->run;
    dt_backend *be = place_of(a);
    bool made = false;
    DT_TRY(result(__func__, run, be, a->dtype, shape, out, &made));
    const int64_t k = sb->dim[sb->ndim - 2], n = sb->dim[sb->ndim - 1];
    if ((*out)->n_elem == 0) return DT_OK;
    dt_status st = DT_OK;
    pthread_mutex_lock(&run->lock);
    if (k == 0) { /* a sum of nothing */
        st = be->fill(be, (*out)->data, 0, (*out)->bytes, NULL);
    } else {
        const int64_t m = flat ? a->n_elem / k : sa->dim[sa->ndim - 2], batch = a->n_elem / (m * k);
        for (int64_t i = 0; i < batch && st == DT_OK; i++) {
            const dt_tensor ma = matrix(a, i * m * k, m, k), mb = matrix(b, i * k * n, k, n),
                            mc = matrix(*out, i * m * n, m, n);
            st = dt_eager_run(run, be, DT_OP_DENSE_DGRAD, NULL, 2, (const dt_tensor *[]){&ma, &mb}, &mc);
        }
    }
    pthread_mutex_unlock(&run->lock);
    return finish(st, out, made);
}

/* ---- by the host ---- */

/* Dimension i of the result is dimension order[i] of t; `from` and `to` are their memory, elements of `size` bytes. */
static void permute(const dt_tensor *t, const int32_t *order, const char *from, const dt_tensor *out,
                    char *to) {
    const size_t size = dt_dtype_size(t->dtype);
    int64_t stride[DT_MAX_DIM], step[DT_MAX_DIM], at[DT_MAX_DIM] = {0}, source = 0;
    for (int32_t d = t->shape.ndim - 1, last = d; d >= 0; d--)
        stride[d] = d == last ? 1 : stride[d + 1] * t->shape.dim[d + 1];
    for (int32_t d = 0; d < out->shape.ndim; d++) step[d] = stride[order[d]];
    for (int64_t i = 0; i < out->n_elem; i++) {
        memcpy(to + (size_t)i * size, from + (size_t)source * size, size);
        for (int32_t d = out->shape.ndim - 1; d >= 0; d--) { /* the next index, as an odometer */
            source += step[d];
            if (++at[d] < out->shape.dim[d]) break;
            source -= at[d] * step[d];
            at[d] = 0;
        }
    }
}

/* On the CPU in place; of a device's tensors by way of the host. */
static dt_status transpose(const dt_tensor *t, const int32_t *order, const dt_tensor *out) {
    if (!out->be->info.is_gpu) {
        permute(t, order, t->data, out, out->data);
        return DT_OK;
    }
    char *from = malloc((size_t)t->bytes + 1), *to = malloc((size_t)t->bytes + 1);
    dt_status st = from && to
                       ? move(t, from, true)
                       : dt_fail(DT_ERR_MEMORY, "dt_tensor_transpose: no memory for a copy of the tensor");
    if (st == DT_OK) permute(t, order, from, out, to);
    if (st == DT_OK) st = move(out, to, false);
    free(from), free(to);
    return st;
}

dt_status dt_tensor_transpose(const dt_tensor *t, const int32_t *order, dt_tensor **out) {
    DT_CHECK_TENSOR(t);
    const int32_t ndim = t->shape.ndim;
    int32_t by[DT_MAX_DIM];
    uint32_t seen = 0;
    if (!order && ndim < 2)
        return dt_fail(DT_ERR_USAGE, "dt_tensor_transpose: a tensor of %d dimension%s has no two to change",
                       ndim, dt_plural(ndim));
    dt_shape shape = {.ndim = ndim};
    for (int32_t i = 0; i < ndim; i++) {
        by[i] = order ? order[i] : i < ndim - 2 ? i : 2 * ndim - 3 - i;
        if (by[i] < 0 || by[i] >= ndim || seen >> by[i] & 1)
            return dt_fail(DT_ERR_USAGE,
                           "dt_tensor_transpose: order must name each of %d dimensions once; entry %d is %d",
                           ndim, i, by[i]);
        seen |= 1u << by[i];
        shape.dim[i] = t->shape.dim[by[i]];
    }
    if (out && *out == t && t) return dt_fail(DT_ERR_USAGE, "dt_tensor_transpose: *out is the operand");
    bool made = false;
    DT_TRY(result(__func__, t->run, place_of(t), t->dtype, shape, out, &made));
    return finish(transpose(t, by, *out), out, made);
}
