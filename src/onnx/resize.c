#include "resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

enum { NEAREST, LINEAR, CUBIC };

/* How one axis is resized. */
typedef struct axis {
    int64_t in, out;
    double scale;
    double begin, end; /* of roi, in [0, 1] of the input */
} axis;

typedef struct resize {
    int mode;
    const char *transform, *nearest;
    bool antialias, exclude_outside;
    double cubic_a, extrapolation;
    axis axis[DT_MAX_DIM];
} resize;

/* Place of output x of an axis in the input. */
static double place_of(const resize *r, const axis *a, double x) {
    const double in = (double)a->in, out = (double)a->out, exact = a->scale * in;
    const char *t = r->transform;
    if (strcmp(t, "asymmetric") == 0) return x / a->scale;
    if (strcmp(t, "align_corners") == 0) return a->out == 1 ? 0 : x * (in - 1) / (exact - 1);
    if (strcmp(t, "pytorch_half_pixel") == 0) return a->out == 1 ? 0 : (x + 0.5) / a->scale - 0.5;
    if (strcmp(t, "tf_half_pixel_for_nn") == 0) return (x + 0.5) / a->scale;
    if (strcmp(t, "half_pixel_symmetric") == 0)
        return in / 2 * (1 - out / exact) + (x + 0.5) / a->scale - 0.5;
    if (strcmp(t, "tf_crop_and_resize") == 0)
        return a->out > 1 ? a->begin * (in - 1) + x * (a->end - a->begin) * (in - 1) / (out - 1)
                          : 0.5 * (a->begin + a->end) * (in - 1);
    return (x + 0.5) / a->scale - 0.5; /* half_pixel */
}

static int64_t nearest_of(const resize *r, double x) {
    const double low = floor(x);
    if (strcmp(r->nearest, "floor") == 0) return (int64_t)low;
    if (strcmp(r->nearest, "ceil") == 0) return (int64_t)ceil(x);
    if (x - low == 0.5) return (int64_t)(strcmp(r->nearest, "round_prefer_ceil") == 0 ? low + 1 : low);
    return (int64_t)floor(x + 0.5);
}

static double cubic(double x, double a) {
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* Weights of the input's numbers from *first on that make output x; their number. */
static int64_t weigh(const resize *r, const axis *a, int64_t x, int64_t cap, int64_t *first, double *weight) {
    const double at = place_of(r, a, (double)x);
    if (r->mode == NEAREST) {
        /* Rounded to f32, as scales are: or what lies in the middle would not. */
        *first = dt_max_i64(0, dt_min_i64(a->in - 1, nearest_of(r, (double)(float)at)));
        weight[0] = 1;
        return 1;
    }
    const double reach = r->mode == LINEAR ? 1 : 2, squeeze = r->antialias && a->scale < 1 ? a->scale : 1;
    const double low = floor(at), lowest = r->antialias ? floor(-reach / squeeze) + 1 : 1 - reach;
    const double highest = r->antialias ? ceil(reach / squeeze) : reach;
    *first = (int64_t)(low + lowest);
    const int64_t n = dt_min_i64(cap, (int64_t)(highest - lowest) + 1);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double away = (at - (low + lowest + (double)i)) * squeeze;
        weight[i] = r->mode == LINEAR ? fmax(0, 1 - fabs(away)) : cubic(away, r->cubic_a);
        if (r->exclude_outside && (*first + i < 0 || *first + i >= a->in)) weight[i] = 0;
        sum += weight[i];
    }
    for (int64_t i = 0; i < n && (r->antialias || r->exclude_outside) && sum != 0; i++) weight[i] /= sum;
    return n;
}

static int64_t window_of(const resize *r, const axis *a) {
    const double squeeze = r->antialias && a->scale < 1 ? a->scale : 1;
    return (int64_t)fmin(4 * ceil(2 / squeeze) + 4, 1e9);
}

/* One axis of x [before, in, after] into y [before, out, after]. */
static dt_status along(const dt_onnx_call *c, const resize *r, const axis *a, const double *x, int64_t before,
                       int64_t after, double *y) {
    double *weight;
    const int64_t cap = window_of(r, a);
    DT_TRY(dt_onnx_doubles(c, cap, &weight));
    const bool crop = strcmp(r->transform, "tf_crop_and_resize") == 0;
    for (int64_t o = 0; o < a->out; o++) {
        int64_t first;
        const double at = place_of(r, a, (double)o);
        const bool outside = crop && (at < 0 || at > (double)(a->in - 1));
        const int64_t n = outside ? 0 : weigh(r, a, o, cap, &first, weight);
        for (int64_t b = 0; b < before; b++) {
            double *to = y + (b * a->out + o) * after;
            for (int64_t i = 0; i < after; i++) to[i] = outside ? r->extrapolation : 0;
            for (int64_t k = 0; k < n; k++) {
                if (weight[k] == 0) continue;
                const int64_t from = dt_max_i64(0, dt_min_i64(a->in - 1, first + k));
                const double *line = x + (b * a->in + from) * after;
                for (int64_t i = 0; i < after; i++) to[i] += weight[k] * line[i];
            }
        }
    }
    dt_onnx_release(c, weight);
    return DT_OK;
}

/* All axes, one after the other. */
static dt_status run(const dt_onnx_call *c, const resize *r) {
    const dt_host_tensor *x = c->in[0];
    double *now;
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, x->dim, sizeof dim);
    DT_TRY(dt_onnx_load(c, 0, &now));
    for (int32_t d = 0; d < x->ndim; d++) {
        const axis *a = &r->axis[d];
        const bool crop = strcmp(r->transform, "tf_crop_and_resize") == 0 && (a->begin != 0 || a->end != 1);
        if (a->in == a->out && a->scale == 1 && !crop) continue;
        int64_t before = 1, after = 1, n = a->out;
        for (int32_t k = 0; k < d; k++) before *= dim[k];
        for (int32_t k = d + 1; k < x->ndim; k++) after *= dim[k];
        if (__builtin_mul_overflow(n, before, &n) || __builtin_mul_overflow(n, after, &n))
            return dt_onnx_refuse(c, "it needs too much memory");
        double *next;
        DT_TRY(dt_onnx_doubles(c, n, &next));
        DT_TRY(along(c, r, a, now, before, after, next));
        dt_onnx_release(c, now);
        now = next;
        dim[d] = a->out;
    }
    dt_host_store_f64(&c->out[0], 0, dt_host_n_elem(&c->out[0]), now);
    return DT_OK;
}

static dt_status read_mode(const dt_onnx_call *c, resize *r) {
    const char *mode = dt_onnx_attr_text(c->node, "mode", "nearest");
    if (strcmp(mode, "nearest") == 0)
        r->mode = NEAREST;
    else if (strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0)
        r->mode = LINEAR;
    else if (strcmp(mode, "cubic") == 0)
        r->mode = CUBIC;
    else
        return dt_onnx_refuse(c, "mode \"%s\" is unknown", mode);
    return DT_OK;
}

static dt_status known(const dt_onnx_call *c, const char *what, const char *word, const char *const *words) {
    for (; *words; words++)
        if (strcmp(word, *words) == 0) return DT_OK;
    return dt_onnx_refuse(c, "%s \"%s\" is unknown", what, word);
}

static dt_status set_scale(const dt_onnx_call *c, axis *a, double scale) {
    if (!(scale > 0 && scale < 1e9)) return dt_onnx_refuse(c, "a scale of %g", scale);
    const float out = floorf((float)scale * (float)a->in); /* in f32, as everybody does */
    if (out >= 0x1p40f) return dt_onnx_refuse(c, "its result is too large");
    a->scale = scale;
    a->out = (int64_t)out;
    return DT_OK;
}

static bool given(const dt_onnx_call *c, int32_t i) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    return t && dt_host_n_elem(t) > 0;
}

/* Sizes of some axes. keep: one scale for all, that of "not_larger" or "not_smaller". */
static dt_status set_sizes(const dt_onnx_call *c, resize *r, int32_t slot, int32_t n, const int32_t *axes) {
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller", NULL};
    const char *policy = dt_onnx_attr_text(c->node, "keep_aspect_ratio_policy", "stretch");
    DT_TRY(known(c, "keep_aspect_ratio_policy", policy, policies));
    const bool stretch = strcmp(policy, "stretch") == 0, larger = strcmp(policy, "not_smaller") == 0;
    double one = 0;
    for (int32_t i = 0; i < n; i++) {
        axis *a = &r->axis[axes[i]];
        const int64_t size = dt_host_i64(c->in[slot], i);
        if (size < 0 || size > (int64_t)1 << 40) return dt_onnx_refuse(c, "a size of %lld", (long long)size);
        if (a->in == 0 && size > 0) return dt_onnx_refuse(c, "an axis of no elements cannot be resized");
        a->out = size;
        a->scale = a->in > 0 && size > 0 ? (double)size / (double)a->in : 1;
        if (i == 0 || (larger ? a->scale > one : a->scale < one)) one = a->scale;
    }
    for (int32_t i = 0; i < n && !stretch; i++) {
        axis *a = &r->axis[axes[i]];
        a->scale = one;
        a->out = (int64_t)floor(one * (double)a->in + 0.5);
    }
    return DT_OK;
}

static dt_status read_resize(const dt_onnx_call *c, resize *r) {
    static const char *const transforms[] = {
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",   "align_corners",
        "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn", NULL};
    static const char *const nearests[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
    const dt_host_tensor *x = c->in[0];
    const bool old = c->version < 11; /* scales at input 1, asymmetric */
    *r = (resize){.transform = dt_onnx_attr_text(c->node, "coordinate_transformation_mode",
                                                 old ? "asymmetric" : "half_pixel"),
                  .nearest = dt_onnx_attr_text(c->node, "nearest_mode", old ? "floor" : "round_prefer_floor"),
                  .antialias = dt_onnx_attr_int(c->node, "antialias", 0) != 0,
                  .exclude_outside = dt_onnx_attr_int(c->node, "exclude_outside", 0) != 0,
                  .cubic_a = (double)dt_onnx_attr_float(c->node, "cubic_coeff_a", -0.75f),
                  .extrapolation = (double)dt_onnx_attr_float(c->node, "extrapolation_value", 0)};
    DT_TRY(read_mode(c, r));
    DT_TRY(known(c, "coordinate_transformation_mode", r->transform, transforms));
    DT_TRY(known(c, "nearest_mode", r->nearest, nearests));
    for (int32_t d = 0; d < x->ndim; d++)
        r->axis[d] = (axis){.in = x->dim[d], .out = x->dim[d], .scale = 1, .end = 1};
    int32_t axes[DT_MAX_DIM], n = x->ndim;
    const int64_t *list, n_list = dt_onnx_attr_ints(c->node, "axes", &list);
    if (n_list > x->ndim) return dt_onnx_refuse(c, "%lld axes of %d", (long long)n_list, x->ndim);
    bool seen[DT_MAX_DIM] = {false};
    for (int32_t d = 0; d < n; d++) axes[d] = d;
    if (n_list > 0) n = (int32_t)n_list;
    for (int32_t i = 0; i < n_list; i++) {
        DT_TRY(dt_onnx_axis(c, list[i], x->ndim, &axes[i]));
        if (seen[axes[i]]) return dt_onnx_refuse(c, "axis %d is named twice", axes[i]);
        seen[axes[i]] = true;
    }
    const int32_t scales = old ? 1 : 2, sizes = old ? -1 : 3;
    const bool by_size = sizes > 0 && given(c, sizes);
    const int32_t slot = by_size ? sizes : scales;
    if (!given(c, slot) && n > 0) return dt_onnx_refuse(c, "it has neither scales nor sizes");
    if (n == 0) return DT_OK;
    DT_TRY(dt_onnx_need(c, slot));
    if (dt_host_n_elem(c->in[slot]) != n)
        return dt_onnx_refuse(c, "input %d must have %d numbers, and has %lld", slot, n,
                              (long long)dt_host_n_elem(c->in[slot]));
    if (by_size) DT_TRY(set_sizes(c, r, slot, n, axes));
    for (int32_t i = 0; i < n && !by_size; i++)
        DT_TRY(set_scale(c, &r->axis[axes[i]], dt_host_f64(c->in[slot], i)));
    if (strcmp(r->transform, "tf_crop_and_resize") == 0) {
        if (old || !given(c, 1)) return dt_onnx_refuse(c, "tf_crop_and_resize needs roi");
        DT_TRY(dt_onnx_need(c, 1));
        if (dt_host_n_elem(c->in[1]) != 2 * n) return dt_onnx_refuse(c, "roi must have %d numbers", 2 * n);
        for (int32_t i = 0; i < n; i++) {
            axis *a = &r->axis[axes[i]];
            a->begin = dt_host_f64(c->in[1], i), a->end = dt_host_f64(c->in[1], n + i);
            if (!(fabs(a->begin) < 1e6 && fabs(a->end) < 1e6))
                return dt_onnx_refuse(c, "a roi out of all bounds");
        }
    }
    return DT_OK;
}

static dt_status out_of(const dt_onnx_call *c, const resize *r) {
    int64_t dim[DT_MAX_DIM];
    for (int32_t d = 0; d < c->in[0]->ndim; d++) {
        dim[d] = r->axis[d].out;
        if (r->axis[d].in == 0 && dim[d] > 0) return dt_onnx_refuse(c, "axis %d has no elements", d);
    }
    return dt_onnx_out(c, 0, c->in[0]->type, c->in[0]->ndim, dim);
}

dt_status dt_infer_resize(const dt_onnx_call *c) {
    resize r;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 2, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 3, DT_HOST_INDEX));
    DT_TRY(read_resize(c, &r));
    return out_of(c, &r);
}

dt_status dt_run_resize(const dt_onnx_call *c) {
    resize r;
    DT_TRY(read_resize(c, &r));
    return run(c, &r);
}

/* Scales: an attribute before version 9. */
static dt_status read_upsample(const dt_onnx_call *c, resize *r) {
    const dt_host_tensor *x = c->in[0];
    *r = (resize){.transform = "asymmetric", .nearest = "floor"};
    DT_TRY(read_mode(c, r));
    const dt_onnx_attr *attr = dt_onnx_attr_find(c->node, "scales");
    const bool old = c->version < 9;
    if (!old) DT_TRY(dt_onnx_need(c, 1));
    const int64_t n = !old ? dt_host_n_elem(c->in[1]) : attr && attr->kind == DT_ONNX_FLOATS ? attr->n : 0;
    if (n != x->ndim) return dt_onnx_refuse(c, "it must have %d scales, and has %lld", x->ndim, (long long)n);
    for (int32_t d = 0; d < x->ndim; d++) {
        r->axis[d] = (axis){.in = x->dim[d], .end = 1};
        DT_TRY(set_scale(c, &r->axis[d], old ? (double)attr->floats[d] : dt_host_f64(c->in[1], d)));
    }
    return DT_OK;
}

dt_status dt_infer_upsample(const dt_onnx_call *c) {
    resize r;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_FLOATS));
    DT_TRY(read_upsample(c, &r));
    return out_of(c, &r);
}

dt_status dt_run_upsample(const dt_onnx_call *c) {
    resize r;
    DT_TRY(read_upsample(c, &r));
    return run(c, &r);
}
