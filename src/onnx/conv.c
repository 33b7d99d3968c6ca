#include "conv.h"

#include <math.h>
#include <string.h>

#include "gemm.h"
#include "numbers.h"
#include "window.h"

/* One image and group: result [m, places] = weights [m, c kernel] times what each place sees [c kernel, places]. */
typedef struct job {
    const dt_host_tensor *x, *w;
    dt_host_tensor *y;
    dt_window at;
    int64_t c, m; /* channels of a group in and out */
    int64_t n, g; /* image, group */
    int64_t group;
    bool transposed;
    const double *bias;   /* [group m] or NULL */
    double x_zero;        /* subtracted from each number of x */
    const double *w_zero; /* [1 or group m] or NULL */
    bool w_zero_each;
    const double *y_scale; /* [1 or group m]: what a sum is multiplied by; NULL: 1 */
    bool y_scale_each;
    double y_zero;               /* of a quantized result */
    const double *offset, *mask; /* of a deformed one */
    int64_t offset_group;
} job;

static void pack_weights(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col,
                         double *out, int64_t ld) {
    const job *j = self;
    const int64_t k = j->at.n_kernel;
    for (int64_t r = 0; r < n_row; r++) {
        const int64_t m = j->g * j->m + row + r;
        double *to = out + r * ld;
        if (!j->transposed) dt_host_load_f64(j->w, m * j->c * k + col, 1, n_col, to);
        for (int64_t i = 0; j->transposed && i < n_col;) { /* [group c, m, kernel] */
            const int64_t at = col + i, channel = at / k, run = dt_min_i64(n_col - i, k - at % k);
            dt_host_load_f64(j->w, ((j->g * j->c + channel) * j->m + row + r) * k + at % k, 1, run, to + i);
            i += run;
        }
        const double zero = j->w_zero ? j->w_zero[j->w_zero_each ? m : 0] : 0;
        for (int64_t i = 0; zero != 0 && i < n_col; i++) to[i] -= zero;
    }
}

/* What output places [place, place + n) of one row along the last dimension see of element `kernel` there. */
static void see_row(const job *j, int64_t start, int64_t place, int64_t kernel, int64_t n, double *out) {
    const dt_window *w = &j->at;
    const int32_t d = w->nd - 1;
    const int64_t s = w->stride[d], first = place * s - w->pad[d] + kernel * w->dilation[d];
    int64_t lo = first < 0 ? dt_min_i64(n, (-first + s - 1) / s) : 0,
            hi = w->in[d] - first <= 0 ? lo : dt_min_i64(n, (w->in[d] - 1 - first) / s + 1);
    if (hi < lo) hi = lo;
    memset(out, 0, sizeof *out * (size_t)n);
    if (hi > lo) dt_host_load_f64(j->x, start + first + lo * s, s, hi - lo, out + lo);
    for (int64_t i = lo; j->x_zero != 0 && i < hi; i++) out[i] -= j->x_zero;
}

/* The same of a transposed one: an output place sees what, spread by the stride, has reached it. */
static void see_row_transposed(const job *j, int64_t start, int64_t place, int64_t kernel, int64_t n,
                               double *out) {
    const dt_window *w = &j->at;
    const int32_t d = w->nd - 1;
    const int64_t s = w->stride[d], first = place + w->pad[d] - kernel * w->dilation[d];
    memset(out, 0, sizeof *out * (size_t)n);
    /* Places i with (first + i) divisible by s, 0 <= (first + i) / s < in. */
    const int64_t skip = first <= 0 ? -first : (s - first % s) % s;
    if (skip >= n) return;
    const int64_t from = (first + skip) / s, count = dt_min_i64(w->in[d] - from, (n - skip - 1) / s + 1);
    for (int64_t i = 0; i < count; i++) dt_host_load_f64(j->x, start + from + i, 1, 1, out + skip + i * s);
}

static void pack_places(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col, double *out,
                        int64_t ld) {
    const job *j = self;
    const dt_window *w = &j->at;
    const int32_t last = w->nd - 1;
    for (int64_t r = 0; r < n_row; r++) {
        const int64_t channel = (row + r) / w->n_kernel;
        int64_t kernel[DT_MAX_SPACE], place[DT_MAX_SPACE];
        dt_place(w->nd, w->kernel, (row + r) % w->n_kernel, kernel);
        dt_place(w->nd, w->out, col, place);
        const int64_t base = ((j->n * j->group + j->g) * j->c + channel) * w->n_in;
        for (int64_t i = 0; i < n_col;) {
            const int64_t run = dt_min_i64(n_col - i, w->out[last] - place[last]);
            double *to = out + r * ld + i;
            int64_t start = 0;
            bool inside = true;
            for (int32_t d = 0; d < last; d++) {
                int64_t at;
                if (j->transposed) {
                    at = place[d] + w->pad[d] - kernel[d] * w->dilation[d];
                    inside = inside && at >= 0 && at % w->stride[d] == 0;
                    at /= w->stride[d];
                } else {
                    at = place[d] * w->stride[d] - w->pad[d] + kernel[d] * w->dilation[d];
                }
                inside = inside && at >= 0 && at < w->in[d];
                start = start * w->in[d] + at;
            }
            if (!inside)
                memset(to, 0, sizeof *to * (size_t)run);
            else
                (j->transposed ? see_row_transposed : see_row)(j, base + start * w->in[last], place[last],
                                                               kernel[last], run, to);
            i += run;
            place[last] += run - 1;
            dt_next(w->nd, w->out, place);
        }
    }
}

static void store(const void *self, int64_t row, int64_t col, int64_t n_col, const double *sum) {
    const job *j = self;
    const int64_t m = j->g * j->m + row, start = (j->n * j->group * j->m + m) * j->at.n_out + col;
    const double bias = j->bias ? j->bias[m] : 0;
    double out[256];
    for (int64_t i = 0; i < n_col; i += 256) {
        const int64_t n = dt_min_i64(256, n_col - i);
        for (int64_t k = 0; k < n; k++) out[k] = sum[i + k] + bias;
        if (j->y_scale) {
            const double scale = j->y_scale[j->y_scale_each ? m : 0];
            for (int64_t k = 0; k < n; k++) out[k] = nearbyint(out[k] * scale) + j->y_zero;
        }
        dt_host_store_f64(j->y, start + i, n, out);
    }
}

static dt_status run_job(const dt_onnx_call *c, job *j, dt_gemm_pack *see) {
    const dt_gemm g = {.m = j->m,
                       .n = j->at.n_out,
                       .k = j->c * j->at.n_kernel,
                       .self = j,
                       .a = pack_weights,
                       .b = see,
                       .store = store};
    for (j->n = 0; j->n < c->in[0]->dim[0]; j->n++)
        for (j->g = 0; j->g < j->group; j->g++) DT_TRY(dt_gemm_run(&g));
    return DT_OK;
}

/* x [N, C, ...] and w [M, C / group, ...] at inputs 0 and `w_at`, or [C, M / group, ...]. */
static dt_status read_job(const dt_onnx_call *c, int32_t w_at, bool transposed, job *j) {
    const dt_host_tensor *x = c->in[0], *w = c->in[w_at];
    *j = (job){.x = x, .w = w, .y = &c->out[0], .transposed = transposed};
    DT_TRY(dt_onnx_rank(c, 0, 3, DT_MAX_DIM));
    DT_TRY(dt_onnx_rank(c, w_at, x->ndim, x->ndim));
    j->group = dt_onnx_attr_int(c->node, "group", 1);
    if (j->group < 1 || x->dim[1] % j->group != 0)
        return dt_onnx_refuse(c, "%lld channels in %lld groups", (long long)x->dim[1], (long long)j->group);
    j->c = x->dim[1] / j->group;
    if (transposed) {
        if (w->dim[0] != x->dim[1])
            return dt_onnx_refuse(c, "weights of %lld channels for an input of %lld", (long long)w->dim[0],
                                  (long long)x->dim[1]);
        j->m = w->dim[1];
    } else {
        if (w->dim[1] != j->c || w->dim[0] % j->group != 0)
            return dt_onnx_refuse(c, "weights of %lld x %lld channels for an input of %lld in %lld groups",
                                  (long long)w->dim[0], (long long)w->dim[1], (long long)x->dim[1],
                                  (long long)j->group);
        j->m = w->dim[0] / j->group;
    }
    return DT_OK;
}

static dt_status read_bias(const dt_onnx_call *c, int32_t i, const job *j) {
    const int64_t m = j->group * j->m;
    return dt_onnx_shape_of(c, i, 1, &m);
}

static dt_status out_of(const dt_onnx_call *c, const job *j, dt_tensor_type type) {
    int64_t m, dim[DT_MAX_DIM] = {c->in[0]->dim[0]};
    if (__builtin_mul_overflow(j->group, j->m, &m)) return dt_onnx_refuse(c, "too many groups");
    dim[1] = m;
    memcpy(dim + 2, j->at.out, sizeof *dim * (size_t)j->at.nd);
    return dt_onnx_out(c, 0, type, c->in[0]->ndim, dim);
}

static dt_status read_conv(const dt_onnx_call *c, int32_t w_at, job *j) {
    DT_TRY(read_job(c, w_at, false, j));
    return dt_window_read(c, c->in[w_at]->dim + 2, false, &j->at);
}

dt_status dt_infer_conv(const dt_onnx_call *c) {
    job j;
    DT_TRY(dt_onnx_expect_all(c, 0, 2, DT_HOST_FLOATS));
    DT_TRY(read_conv(c, 1, &j));
    DT_TRY(read_bias(c, 2, &j));
    return out_of(c, &j, c->in[0]->type);
}

dt_status dt_run_conv(const dt_onnx_call *c) {
    job j;
    double *bias;
    DT_TRY(read_conv(c, 1, &j));
    DT_TRY(dt_onnx_load(c, 2, &bias));
    j.bias = bias;
    return run_job(c, &j, pack_places);
}

/* A zero point or scale: one number, or one for each output channel. */
static dt_status read_each(const dt_onnx_call *c, int32_t i, const job *j, bool *each) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    const int64_t n = t ? dt_host_n_elem(t) : 1;
    *each = n != 1;
    if (n == 1 || (t->ndim == 1 && n == j->group * j->m)) return DT_OK;
    return dt_onnx_refuse(c, "input %d must have one number or %lld, and has %lld", i,
                          (long long)(j->group * j->m), (long long)n);
}

dt_status dt_infer_conv_integer(const dt_onnx_call *c) {
    job j;
    bool each;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_BYTES));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_BYTES));
    DT_TRY(dt_onnx_same_type(c, 0, 2));
    DT_TRY(dt_onnx_same_type(c, 1, 3));
    DT_TRY(read_conv(c, 1, &j));
    DT_TRY(dt_onnx_one(c, 2));
    DT_TRY(read_each(c, 3, &j, &each));
    return out_of(c, &j, DT_TENSOR_I32);
}

dt_status dt_run_conv_integer(const dt_onnx_call *c) {
    job j;
    double *w_zero;
    DT_TRY(read_conv(c, 1, &j));
    j.x_zero = dt_onnx_in(c, 2) ? dt_host_f64(dt_onnx_in(c, 2), 0) : 0;
    DT_TRY(read_each(c, 3, &j, &j.w_zero_each));
    DT_TRY(dt_onnx_load(c, 3, &w_zero));
    j.w_zero = w_zero;
    return run_job(c, &j, pack_places);
}

/* x, its scale and zero point, w with its, y's, and a bias in i32 of scale x_scale w_scale. */
dt_status dt_infer_conv_quantized(const dt_onnx_call *c) {
    job j;
    bool each;
    static const int8_t one[] = {1, 2, 6, 7}, pair[][2] = {{0, 2}, {3, 5}};
    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++) {
        DT_TRY(dt_onnx_expect(c, pair[i][0], DT_HOST_BYTES));
        DT_TRY(dt_onnx_same_type(c, pair[i][0], pair[i][1]));
    }
    DT_TRY(dt_onnx_expect(c, 7, DT_HOST_BYTES));
    DT_TRY(dt_onnx_expect(c, 8, DT_HOST_IS(DT_TENSOR_I32)));
    DT_TRY(read_conv(c, 3, &j));
    for (size_t i = 0; i < sizeof one; i++) DT_TRY(dt_onnx_one(c, one[i]));
    DT_TRY(read_each(c, 4, &j, &each));
    DT_TRY(read_each(c, 5, &j, &each));
    DT_TRY(read_bias(c, 8, &j));
    return out_of(c, &j, c->in[7]->type);
}

dt_status dt_run_conv_quantized(const dt_onnx_call *c) {
    job j;
    double *w_zero, *scale, *bias;
    DT_TRY(read_conv(c, 3, &j));
    j.x_zero = dt_host_f64(c->in[2], 0);
    j.y_zero = dt_host_f64(c->in[7], 0);
    DT_TRY(read_each(c, 5, &j, &j.w_zero_each));
    DT_TRY(read_each(c, 4, &j, &j.y_scale_each));
    DT_TRY(dt_onnx_load(c, 5, &w_zero));
    DT_TRY(dt_onnx_load(c, 4, &scale));
    DT_TRY(dt_onnx_load(c, 8, &bias));
    const double ratio = dt_host_f64(c->in[1], 0) / dt_host_f64(c->in[6], 0);
    for (int64_t i = 0; i < dt_host_n_elem(c->in[4]); i++) scale[i] *= ratio;
    j.w_zero = w_zero, j.y_scale = scale, j.bias = bias;
    return run_job(c, &j, pack_places);
}

static dt_status read_transposed(const dt_onnx_call *c, job *j) {
    DT_TRY(read_job(c, 1, true, j));
    dt_window *w = &j->at;
    const dt_host_tensor *x = c->in[0];
    w->nd = x->ndim - 2;
    int64_t pads[2 * DT_MAX_SPACE], more[DT_MAX_SPACE], asked[DT_MAX_SPACE];
    const bool ask = dt_onnx_attr_find(c->node, "output_shape") != NULL;
    const int64_t *list, n_list = dt_onnx_attr_ints(c->node, "output_shape", &list);
    /* Some files give all dimensions. */
    if (n_list == x->ndim)
        for (int32_t d = 0; d < w->nd; d++) asked[d] = list[2 + d];
    else
        DT_TRY(dt_onnx_space(c, "output_shape", w->nd, 0, 0, asked));
    DT_TRY(dt_onnx_space(c, "strides", w->nd, 1, 1, w->stride));
    DT_TRY(dt_onnx_space(c, "dilations", w->nd, 1, 1, w->dilation));
    DT_TRY(dt_onnx_space(c, "output_padding", w->nd, 0, 0, more));
    DT_TRY(dt_onnx_space(c, "pads", 2 * w->nd, 0, 0, pads));
    int64_t given[DT_MAX_SPACE];
    DT_TRY(dt_onnx_space(c, "kernel_shape", w->nd, 1, 1, given));
    const bool has_kernel = dt_onnx_attr_find(c->node, "kernel_shape") != NULL;
    const char *automatic = dt_onnx_attr_text(c->node, "auto_pad", "NOTSET");
    const bool upper = strcmp(automatic, "SAME_UPPER") == 0, same = upper || !strcmp(automatic, "SAME_LOWER"),
               valid = strcmp(automatic, "VALID") == 0;
    w->n_in = w->n_out = w->n_kernel = 1;
    for (int32_t d = 0; d < w->nd; d++) {
        w->in[d] = x->dim[2 + d];
        w->kernel[d] = c->in[1]->dim[2 + d];
        if (w->kernel[d] < 1 || w->kernel[d] > 1 << 30 || (has_kernel && given[d] != w->kernel[d]))
            return dt_onnx_refuse(c, "a kernel of %lld", (long long)w->kernel[d]);
        int64_t full; /* without pads */
        if (__builtin_mul_overflow(w->stride[d], w->in[d] - 1, &full) || full > (int64_t)1 << 61)
            return dt_onnx_refuse(c, "its result is too large");
        full += more[d] + (w->kernel[d] - 1) * w->dilation[d] + 1;
        if (ask || same) {
            w->out[d] = ask ? asked[d] : w->in[d] * w->stride[d];
            const int64_t pad = dt_max_i64(0, full - w->out[d]);
            w->pad[d] = upper ? pad / 2 : pad - pad / 2;
            w->pad_end[d] = pad - w->pad[d];
        } else {
            if (!valid) w->pad[d] = pads[d], w->pad_end[d] = pads[w->nd + d];
            w->out[d] = full - w->pad[d] - w->pad_end[d];
        }
        if (w->out[d] < 0)
            return dt_onnx_refuse(c, "dimension %d of its result would be %lld", d + 2, (long long)w->out[d]);
        if (__builtin_mul_overflow(w->n_out, w->out[d], &w->n_out) ||
            __builtin_mul_overflow(w->n_in, w->in[d], &w->n_in) ||
            __builtin_mul_overflow(w->n_kernel, w->kernel[d], &w->n_kernel))
            return dt_onnx_refuse(c, "its result is too large");
    }
    return DT_OK;
}

dt_status dt_infer_conv_transpose(const dt_onnx_call *c) {
    job j;
    DT_TRY(dt_onnx_expect_all(c, 0, 2, DT_HOST_FLOATS));
    DT_TRY(read_transposed(c, &j));
    DT_TRY(read_bias(c, 2, &j));
    return out_of(c, &j, c->in[0]->type);
}

dt_status dt_run_conv_transpose(const dt_onnx_call *c) {
    job j;
    double *bias;
    DT_TRY(read_transposed(c, &j));
    DT_TRY(dt_onnx_load(c, 2, &bias));
    j.bias = bias;
    return run_job(c, &j, pack_places);
}

static dt_status read_deform(const dt_onnx_call *c, job *j) {
    DT_TRY(read_conv(c, 1, j));
    DT_TRY(dt_onnx_rank(c, 0, 4, 4));
    const dt_window *w = &j->at;
    j->offset_group = dt_onnx_attr_int(c->node, "offset_group", 1);
    if (j->offset_group < 1 || c->in[0]->dim[1] % j->offset_group != 0)
        return dt_onnx_refuse(c, "%lld channels in %lld offset groups", (long long)c->in[0]->dim[1],
                              (long long)j->offset_group);
    const int64_t n = j->offset_group * w->n_kernel,
                  offset[] = {c->in[0]->dim[0], 2 * n, w->out[0], w->out[1]},
                  mask[] = {c->in[0]->dim[0], n, w->out[0], w->out[1]};
    DT_TRY(dt_onnx_shape_of(c, 2, 4, offset));
    return dt_onnx_shape_of(c, 4, 4, mask);
}

/* Element (y, x) of a plane between its numbers; 0 outside. */
static double between(const dt_host_tensor *t, int64_t base, const int64_t *dim, double y, double x) {
    if (!(y > -1 && y < (double)dim[0] && x > -1 && x < (double)dim[1])) return 0;
    const int64_t y0 = (int64_t)floor(y), x0 = (int64_t)floor(x);
    double sum = 0;
    for (int64_t a = 0; a < 2; a++)
        for (int64_t b = 0; b < 2; b++) {
            const int64_t i = y0 + a, k = x0 + b;
            if (i < 0 || i >= dim[0] || k < 0 || k >= dim[1]) continue;
            const double part = (1 - fabs(y - (double)i)) * (1 - fabs(x - (double)k));
            sum += part * dt_host_f64(t, base + i * dim[1] + k);
        }
    return sum;
}

static void pack_deformed(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col,
                          double *out, int64_t ld) {
    const job *j = self;
    const dt_window *w = &j->at;
    for (int64_t r = 0; r < n_row; r++) {
        const int64_t channel = j->g * j->c + (row + r) / w->n_kernel, kernel = (row + r) % w->n_kernel;
        const int64_t ky = kernel / w->kernel[1], kx = kernel % w->kernel[1];
        const int64_t og = channel / (j->group * j->c / j->offset_group);
        const int64_t at = ((j->n * j->offset_group + og) * w->n_kernel + kernel) * w->n_out;
        const double *dy = j->offset + 2 * at, *dx = dy + w->n_out;
        const int64_t base = (j->n * j->group * j->c + channel) * w->n_in;
        for (int64_t i = 0; i < n_col; i++) {
            const int64_t p = col + i;
            const double y = (double)(p / w->out[1] * w->stride[0] - w->pad[0] + ky * w->dilation[0]) + dy[p],
                         x = (double)(p % w->out[1] * w->stride[1] - w->pad[1] + kx * w->dilation[1]) + dx[p];
            out[r * ld + i] = between(j->x, base, w->in, y, x) * (j->mask ? j->mask[at + p] : 1);
        }
    }
}

dt_status dt_infer_conv_deform(const dt_onnx_call *c) {
    job j;
    DT_TRY(dt_onnx_expect_all(c, 0, 4, DT_HOST_FLOATS));
    DT_TRY(read_deform(c, &j));
    DT_TRY(read_bias(c, 3, &j));
    return out_of(c, &j, c->in[0]->type);
}

dt_status dt_run_conv_deform(const dt_onnx_call *c) {
    job j;
    double *bias, *offset, *mask;
    DT_TRY(read_deform(c, &j));
    DT_TRY(dt_onnx_load(c, 2, &offset));
    DT_TRY(dt_onnx_load(c, 3, &bias));
    DT_TRY(dt_onnx_load(c, 4, &mask));
    j.bias = bias, j.offset = offset, j.mask = mask;
    return run_job(c, &j, pack_deformed);
}
