#include "sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "window.h"

/* ---- GridSample ---- */

typedef struct grid {
    int mode; /* taps along an axis: 1, 2 or 4 */
    bool align, border, reflect;
} grid;

static dt_status read_grid(const dt_onnx_call *c, grid *g) {
    const char *mode = dt_onnx_attr_text(c->node, "mode", "linear"),
               *padding = dt_onnx_attr_text(c->node, "padding_mode", "zeros");
    *g = (grid){.align = dt_onnx_attr_int(c->node, "align_corners", 0) != 0,
                .border = strcmp(padding, "border") == 0,
                .reflect = strcmp(padding, "reflection") == 0};
    if (!g->border && !g->reflect && strcmp(padding, "zeros") != 0)
        return dt_onnx_refuse(c, "padding_mode \"%s\" is unknown", padding);
    if (strcmp(mode, "nearest") == 0)
        g->mode = 1;
    else if (strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0)
        g->mode = 2;
    else if (strcmp(mode, "cubic") == 0 || strcmp(mode, "bicubic") == 0)
        g->mode = 4;
    else
        return dt_onnx_refuse(c, "mode \"%s\" is unknown", mode);
    return DT_OK;
}

/* x [N, C, ...], places [N, ..., spatial dimensions] -> [N, C, ...]. */
dt_status dt_infer_grid_sample(const dt_onnx_call *c) {
    grid g;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS | DT_HOST_BOOL));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_FLOATS));
    DT_TRY(read_grid(c, &g));
    const dt_host_tensor *x = c->in[0], *p = c->in[1];
    DT_TRY(dt_onnx_rank(c, 0, 3, DT_MAX_DIM));
    DT_TRY(dt_onnx_rank(c, 1, x->ndim, x->ndim));
    if (p->dim[0] != x->dim[0] || p->dim[x->ndim - 1] != x->ndim - 2)
        return dt_onnx_refuse(
            c, "a grid of %lld images and %lld coordinates for %lld images of %d dimensions",
            (long long)p->dim[0], (long long)p->dim[x->ndim - 1], (long long)x->dim[0], x->ndim - 2);
    int64_t dim[DT_MAX_DIM] = {x->dim[0], x->dim[1]};
    for (int32_t d = 2; d < x->ndim; d++) dim[d] = p->dim[d - 1];
    return dt_onnx_out(c, 0, x->type, x->ndim, dim);
}

static double reflect(double x, double lo, double hi) {
    const double range = hi - lo;
    if ((x >= lo && x <= hi) || !isfinite(x)) return x;
    if (range <= 0) return lo;
    const double away = x < lo ? lo - x : x - hi, turns = floor(away / range), rest = away - turns * range;
    return (fmod(turns, 2) == 0) == (x < lo) ? lo + rest : hi - rest;
}

static double cubic(double x) {
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* Places along an axis of n elements that value x in [-1, 1] reads, with their weights. */
static void taps(const grid *g, double x, int64_t n, int64_t *at, double *weight) {
    const double size = (double)n, lo = g->align ? 0 : -0.5, hi = g->align ? size - 1 : size - 0.5;
    x = g->align ? (x + 1) / 2 * (size - 1) : ((x + 1) * size - 1) / 2;
    if (g->mode == 1) x = nearbyint(x);
    if (g->mode != 4 && (x < lo || x > hi)) { /* of a cubic one each tap by itself */
        if (g->border) x = fmin(fmax(x, 0), size - 1);
        if (g->reflect) x = reflect(x, lo, hi);
    }
    if (!(fabs(x) < 0x1p50)) x = -0x1p50; /* outside, as what is no number */
    const double low = floor(x);
    for (int k = 0; k < g->mode; k++) {
        double i = low + (g->mode == 4 ? k - 1 : k);
        weight[k] = g->mode == 1 ? 1 : g->mode == 2 ? 1 - fabs(x - i) : cubic(x - i);
        if (g->border) i = fmin(fmax(i, 0), size - 1);
        if (g->reflect) i = fmin(fmax(trunc(reflect(i, lo, hi)), 0), size - 1);
        at[k] = (int64_t)i;
        if (at[k] < 0 || at[k] >= n) at[k] = -1, weight[k] = 0;
    }
}

dt_status dt_run_grid_sample(const dt_onnx_call *c) {
    grid g;
    DT_TRY(read_grid(c, &g));
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    const int32_t nd = x->ndim - 2;
    const int64_t n_in = dt_host_span(x, 2, x->ndim), n_out = dt_host_span(y, 2, y->ndim),
                  channels = x->dim[1];
    double *from, *place;
    DT_TRY(dt_onnx_load(c, 0, &from));
    DT_TRY(dt_onnx_load(c, 1, &place));
    for (int64_t n = 0; n < x->dim[0]; n++)
        for (int64_t o = 0; o < n_out; o++) {
            int64_t at[DT_MAX_SPACE][4], tap[DT_MAX_SPACE] = {0}, all[DT_MAX_SPACE];
            double weight[DT_MAX_SPACE][4];
            for (int32_t d = 0; d < nd; d++) {
                all[d] = g.mode;
                taps(&g, place[(n * n_out + o) * nd + nd - 1 - d], x->dim[2 + d], at[d], weight[d]);
            }
            for (int64_t k = 0; k < channels; k++) {
                double sum = 0;
                do {
                    double w = 1;
                    int64_t i = 0;
                    for (int32_t d = 0; d < nd; d++) {
                        w *= weight[d][tap[d]];
                        i = i * x->dim[2 + d] + at[d][tap[d]];
                    }
                    if (w != 0) sum += w * from[(n * channels + k) * n_in + i];
                } while (dt_next(nd, all, tap));
                dt_host_put_f64(y, (n * channels + k) * n_out + o, sum);
            }
        }
    return DT_OK;
}

/* ---- AffineGrid ---- */

/* theta [N, D, D + 1], size [N, C, ...] -> [N, ..., D]. */
dt_status dt_infer_affine_grid(const dt_onnx_call *c) {
    int64_t size[DT_MAX_DIM], dim[DT_MAX_DIM];
    int32_t n;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_numbers(c, "size", 1, DT_MAX_DIM, size, &n));
    if (n != 4 && n != 5) return dt_onnx_refuse(c, "size must have 4 or 5 numbers, and has %d", n);
    const int64_t theta[] = {size[0], n - 2, n - 1};
    DT_TRY(dt_onnx_shape_of(c, 0, 3, theta));
    dim[0] = size[0];
    for (int32_t d = 2; d < n; d++) {
        if (size[d] < 0) return dt_onnx_refuse(c, "a size of %lld", (long long)size[d]);
        dim[d - 1] = size[d];
    }
    dim[n - 1] = n - 2;
    return dt_onnx_out(c, 0, c->in[0]->type, n, dim);
}

dt_status dt_run_affine_grid(const dt_onnx_call *c) {
    const bool align = dt_onnx_attr_int(c->node, "align_corners", 0) != 0;
    dt_host_tensor *y = &c->out[0];
    const int32_t nd = y->ndim - 2;
    double *theta;
    DT_TRY(dt_onnx_load(c, 0, &theta));
    const int64_t n_out = dt_host_span(y, 1, y->ndim - 1);
    for (int64_t n = 0; n < y->dim[0]; n++)
        for (int64_t o = 0; o < n_out; o++) {
            int64_t at[DT_MAX_DIM];
            double place[DT_MAX_DIM];
            dt_place(nd, y->dim + 1, o, at);
            for (int32_t d = 0; d < nd; d++) { /* x first */
                const double size = (double)y->dim[nd - d], i = (double)at[nd - 1 - d];
                place[d] = !align ? (2 * i + 1) / size - 1 : size > 1 ? 2 * i / (size - 1) - 1 : 0;
            }
            place[nd] = 1;
            for (int32_t r = 0; r < nd; r++) {
                double sum = 0;
                for (int32_t k = 0; k <= nd; k++) sum += theta[(n * nd + r) * (nd + 1) + k] * place[k];
                dt_host_put_f64(y, (n * n_out + o) * nd + r, sum);
            }
        }
    return DT_OK;
}

/* ---- RoiAlign, MaxRoiPool ---- */

/* x [N, C, H, W], boxes [R, 4] (x1 y1 x2 y2), images [R] -> [R, C, h, w]. */
dt_status dt_infer_roi_align(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect_all(c, 0, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 2, DT_HOST_INDEX));
    DT_TRY(dt_onnx_rank(c, 0, 4, 4));
    DT_TRY(dt_onnx_rank(c, 1, 2, 2));
    const int64_t boxes[] = {c->in[1]->dim[0], 4}, h = dt_onnx_attr_int(c->node, "output_height", 1),
                  w = dt_onnx_attr_int(c->node, "output_width", 1);
    DT_TRY(dt_onnx_shape_of(c, 1, 2, boxes));
    DT_TRY(dt_onnx_shape_of(c, 2, 1, boxes));
    if (h < 1 || w < 1) return dt_onnx_refuse(c, "a result of %lld x %lld", (long long)h, (long long)w);
    return dt_onnx_out(c, 0, c->in[0]->type, 4, (const int64_t[]){boxes[0], c->in[0]->dim[1], h, w});
}

typedef struct corner {
    int64_t at[4];
    double weight[4];
} corner;

static corner between(double y, double x, int64_t h, int64_t w) {
    corner r = {0};
    if (!(y >= -1 && y <= (double)h && x >= -1 && x <= (double)w)) return r;
    y = fmax(y, 0), x = fmax(x, 0);
    int64_t y0 = (int64_t)y, x0 = (int64_t)x, y1 = y0 + 1, x1 = x0 + 1;
    if (y0 >= h - 1) y0 = y1 = h - 1, y = (double)y0;
    if (x0 >= w - 1) x0 = x1 = w - 1, x = (double)x0;
    const double ly = y - (double)y0, lx = x - (double)x0;
    return (corner){.at = {y0 * w + x0, y0 * w + x1, y1 * w + x0, y1 * w + x1},
                    .weight = {(1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx}};
}

dt_status dt_run_roi_align(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    const char *mode = dt_onnx_attr_text(c->node, "mode", "avg"),
               *transform = dt_onnx_attr_text(c->node, "coordinate_transformation_mode",
                                              c->version < 16 ? "output_half_pixel" : "half_pixel");
    const bool half = strcmp(transform, "half_pixel") == 0, max = strcmp(mode, "max") == 0;
    if (!max && strcmp(mode, "avg") != 0) return dt_onnx_refuse(c, "mode \"%s\" is unknown", mode);
    if (!half && strcmp(transform, "output_half_pixel") != 0)
        return dt_onnx_refuse(c, "coordinate_transformation_mode \"%s\" is unknown", transform);
    const double scale = (double)dt_onnx_attr_float(c->node, "spatial_scale", 1), offset = half ? 0.5 : 0;
    const int64_t ratio = dt_onnx_attr_int(c->node, "sampling_ratio", 0), h = x->dim[2], w = x->dim[3],
                  ph = y->dim[2], pw = y->dim[3];
    double *from, *box;
    DT_TRY(dt_onnx_load(c, 0, &from));
    DT_TRY(dt_onnx_load(c, 1, &box));
    if (h == 0 || w == 0) return dt_onnx_refuse(c, "an image of no elements");
    for (int64_t r = 0; r < y->dim[0]; r++, box += 4) {
        const int64_t image = dt_host_i64(c->in[2], r);
        if (image < 0 || image >= x->dim[0])
            return dt_onnx_refuse(c, "box %lld is of image %lld of %lld", (long long)r, (long long)image,
                                  (long long)x->dim[0]);
        const double left = box[0] * scale - offset, top = box[1] * scale - offset;
        double wide = box[2] * scale - offset - left, high = box[3] * scale - offset - top;
        if (!half) wide = fmax(wide, 1), high = fmax(high, 1);
        const double bin_h = high / (double)ph, bin_w = wide / (double)pw;
        const double ask_h = ratio > 0 ? (double)ratio : ceil(bin_h),
                     ask_w = ratio > 0 ? (double)ratio : ceil(bin_w);
        if (!(ask_h < 1e4 && ask_w < 1e4))
            return dt_onnx_refuse(c, "box %lld is out of all bounds", (long long)r);
        const int64_t gh = (int64_t)fmax(ask_h, 0), gw = (int64_t)fmax(ask_w, 0);
        for (int64_t o = 0; o < ph * pw; o++)
            for (int64_t k = 0; k < x->dim[1]; k++) {
                const double *plane = from + (image * x->dim[1] + k) * h * w;
                double sum = 0, most = -HUGE_VAL;
                for (int64_t i = 0; i < gh * gw; i++) {
                    const double py = top + (double)(o / pw) * bin_h +
                                      ((double)(i / gw) + 0.5) * bin_h / (double)gh,
                                 px = left + (double)(o % pw) * bin_w +
                                      ((double)(i % gw) + 0.5) * bin_w / (double)gw;
                    const corner at = between(py, px, h, w);
                    double value = 0;
                    for (int q = 0; q < 4; q++) {
                        const double v = at.weight[q] * plane[at.at[q]];
                        value += v;
                        most = fmax(most, v);
                    }
                    sum += value;
                }
                const double n = (double)dt_max_i64(1, gh * gw);
                dt_host_put_f64(y, (r * x->dim[1] + k) * ph * pw + o,
                                !max          ? sum / n
                                : gh * gw > 0 ? most
                                              : 0);
            }
    }
    return DT_OK;
}

/* x [N, C, H, W], boxes [R, 5] (image x1 y1 x2 y2) -> [R, C, h, w]. */
dt_status dt_infer_max_roi_pool(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect_all(c, 0, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_rank(c, 0, 4, 4));
    DT_TRY(dt_onnx_rank(c, 1, 2, 2));
    const int64_t boxes[] = {c->in[1]->dim[0], 5};
    int64_t size[2];
    DT_TRY(dt_onnx_shape_of(c, 1, 2, boxes));
    DT_TRY(dt_onnx_space(c, "pooled_shape", 2, 1, 0, size));
    return dt_onnx_out(c, 0, c->in[0]->type, 4,
                       (const int64_t[]){boxes[0], c->in[0]->dim[1], size[0], size[1]});
}

dt_status dt_run_max_roi_pool(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    const double scale = (double)dt_onnx_attr_float(c->node, "spatial_scale", 1);
    const int64_t h = x->dim[2], w = x->dim[3], ph = y->dim[2], pw = y->dim[3];
    double *from, *box;
    DT_TRY(dt_onnx_load(c, 0, &from));
    DT_TRY(dt_onnx_load(c, 1, &box));
    for (int64_t r = 0; r < y->dim[0]; r++, box += 5) {
        if (!(box[0] >= 0 && box[0] < (double)x->dim[0]))
            return dt_onnx_refuse(c, "box %lld is of image %g of %lld", (long long)r, box[0],
                                  (long long)x->dim[0]);
        double edge[4];
        for (int i = 0; i < 4; i++) {
            edge[i] = round(box[1 + i] * scale);
            if (!(fabs(edge[i]) < 1e9))
                return dt_onnx_refuse(c, "box %lld is out of all bounds", (long long)r);
        }
        const double wide = fmax(edge[2] - edge[0] + 1, 1), high = fmax(edge[3] - edge[1] + 1, 1);
        for (int64_t o = 0; o < ph * pw; o++) {
            const double i = (double)(o / pw), j = (double)(o % pw), bh = high / (double)ph,
                         bw = wide / (double)pw;
            const int64_t y0 = (int64_t)fmin(fmax(floor(i * bh) + edge[1], 0), (double)h),
                          y1 = (int64_t)fmin(fmax(ceil((i + 1) * bh) + edge[1], 0), (double)h),
                          x0 = (int64_t)fmin(fmax(floor(j * bw) + edge[0], 0), (double)w),
                          x1 = (int64_t)fmin(fmax(ceil((j + 1) * bw) + edge[0], 0), (double)w);
            for (int64_t k = 0; k < x->dim[1]; k++) {
                const double *plane = from + ((int64_t)box[0] * x->dim[1] + k) * h * w;
                double most = y1 > y0 && x1 > x0 ? -HUGE_VAL : 0;
                for (int64_t a = y0; a < y1; a++)
                    for (int64_t b = x0; b < x1; b++) most = fmax(most, plane[a * w + b]);
                dt_host_put_f64(y, (r * x->dim[1] + k) * ph * pw + o, most);
            }
        }
    }
    return DT_OK;
}

/* ---- NonMaxSuppression ---- */

typedef struct box {
    double y0, x0, y1, x1;
} box;

static box box_of(const double *b, bool center) {
    if (center) return (box){b[1] - b[3] / 2, b[0] - b[2] / 2, b[1] + b[3] / 2, b[0] + b[2] / 2};
    return (box){fmin(b[0], b[2]), fmin(b[1], b[3]), fmax(b[0], b[2]), fmax(b[1], b[3])};
}

static bool overlap(const double *p, const double *q, bool center, double most) {
    const box a = box_of(p, center), b = box_of(q, center);
    const double h = fmin(a.y1, b.y1) - fmax(a.y0, b.y0), w = fmin(a.x1, b.x1) - fmax(a.x0, b.x0);
    if (!(h > 0 && w > 0)) return false;
    const double area_a = (a.y1 - a.y0) * (a.x1 - a.x0), area_b = (b.y1 - b.y0) * (b.x1 - b.x0), both = h * w,
                 either = area_a + area_b - both;
    return area_a > 0 && area_b > 0 && either > 0 && both / either > most;
}

typedef struct candidate {
    double score;
    int64_t i;
} candidate;

static int better(const void *pa, const void *pb) {
    const candidate *a = pa, *b = pb;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->i < b->i ? -1 : 1;
}

/* boxes [N, B, 4], scores [N, classes, B] -> [chosen, 3]: image, class, box. */
dt_status dt_infer_boxes(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect_all(c, 0, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 2, DT_HOST_INDEX));
    DT_TRY(dt_onnx_expect(c, 3, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 4, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_rank(c, 0, 3, 3));
    DT_TRY(dt_onnx_rank(c, 1, 3, 3));
    const int64_t n = c->in[0]->dim[0], n_box = c->in[0]->dim[1], classes = c->in[1]->dim[1];
    DT_TRY(dt_onnx_shape_of(c, 0, 3, (const int64_t[]){n, n_box, 4}));
    DT_TRY(dt_onnx_shape_of(c, 1, 3, (const int64_t[]){n, classes, n_box}));
    for (int32_t i = 0; i < c->n_in; i++) {
        if (i >= 2) DT_TRY(dt_onnx_one(c, i));
        if (dt_onnx_in(c, i)) DT_TRY(dt_onnx_need(c, i));
    }
    const int64_t most = dt_onnx_in(c, 2) ? dt_min_i64(n_box, dt_max_i64(0, dt_host_i64(c->in[2], 0))) : 0;
    const double iou = dt_onnx_scalar(c, 3, 0), least = dt_onnx_scalar(c, 4, 0);
    const bool center = dt_onnx_attr_int(c->node, "center_point_box", 0) != 0,
               filter = dt_onnx_in(c, 4) != NULL;
    double *place, *score;
    void *p, *out;
    int64_t rows, bytes, count = 0;
    if (__builtin_mul_overflow(n * classes, most, &rows) || __builtin_mul_overflow(rows, 24, &bytes))
        return dt_onnx_refuse(c, "its result is too large");
    DT_TRY(dt_onnx_load(c, 0, &place));
    DT_TRY(dt_onnx_load(c, 1, &score));
    DT_TRY(dt_onnx_scratch(c, n_box * (int64_t)sizeof(candidate), &p));
    DT_TRY(dt_onnx_scratch(c, bytes, &out));
    candidate *pool = p;
    int64_t *chosen = out;
    for (int64_t i = 0; i < n * classes; i++) {
        const double *boxes = place + i / classes * n_box * 4;
        int64_t n_pool = 0, first = count;
        for (int64_t b = 0; b < n_box; b++)
            if (!filter || score[i * n_box + b] > least)
                pool[n_pool++] = (candidate){score[i * n_box + b], b};
        qsort(pool, (size_t)n_pool, sizeof *pool, better);
        for (int64_t b = 0; b < n_pool && count - first < most; b++) {
            bool keep = true;
            for (int64_t k = first; k < count && keep; k++)
                keep = !overlap(boxes + 4 * pool[b].i, boxes + 4 * chosen[3 * k + 2], center, iou);
            if (!keep) continue;
            chosen[3 * count] = i / classes, chosen[3 * count + 1] = i % classes;
            chosen[3 * count++ + 2] = pool[b].i;
        }
    }
    DT_TRY(dt_onnx_out(c, 0, DT_TENSOR_I64, 2, (const int64_t[]){count, 3}));
    c->out[0].data = out;
    return DT_OK;
}

/* ---- CenterCropPad, Col2Im ---- */

dt_status dt_infer_center_crop_pad(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t size[DT_MAX_DIM], dim[DT_MAX_DIM];
    int32_t n;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS | DT_HOST_BOOL));
    DT_TRY(dt_onnx_numbers(c, "shape", 1, DT_MAX_DIM, size, &n));
    memcpy(dim, x->dim, sizeof dim);
    const int64_t *axes, n_axes = dt_onnx_attr_ints(c->node, "axes", &axes);
    if (n != (dt_onnx_attr_find(c->node, "axes") ? n_axes : x->ndim))
        return dt_onnx_refuse(c, "its shape has %d numbers", n);
    for (int32_t i = 0; i < n; i++) {
        int32_t d = i;
        if (n_axes > 0) DT_TRY(dt_onnx_axis(c, axes[i], x->ndim, &d));
        if (size[i] < 0) return dt_onnx_refuse(c, "a size of %lld", (long long)size[i]);
        dim[d] = size[i];
    }
    return dt_onnx_out(c, 0, x->type, x->ndim, dim);
}

dt_status dt_run_center_crop_pad(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    int64_t from[DT_MAX_DIM], to[DT_MAX_DIM], part[DT_MAX_DIM], at[DT_MAX_DIM] = {0};
    for (int32_t d = 0; d < x->ndim; d++) {
        part[d] = dt_min_i64(x->dim[d], y->dim[d]);
        if (part[d] == 0) return DT_OK;
        from[d] = (x->dim[d] - part[d]) / 2;
        to[d] = (y->dim[d] - part[d]) / 2;
    }
    const int64_t size = dt_host_elem_bytes(x->type);
    do {
        int64_t i = 0, o = 0;
        for (int32_t d = 0; d < x->ndim; d++) {
            i = i * x->dim[d] + from[d] + at[d];
            o = o * y->dim[d] + to[d] + at[d];
        }
        memcpy((char *)y->data + o * size, (const char *)x->data + i * size, (size_t)size);
    } while (dt_next(x->ndim, part, at));
    return DT_OK;
}

/* x [N, C blocks' elements, blocks], image shape, block shape -> [N, C, ...]. */
static dt_status read_col2im(const dt_onnx_call *c, dt_window *w, int64_t *channels) {
    int32_t n, n_block;
    *w = (dt_window){.n_in = 1, .n_out = 1, .n_kernel = 1};
    DT_TRY(dt_onnx_rank(c, 0, 3, 3));
    DT_TRY(dt_onnx_numbers(c, "image_shape", 1, DT_MAX_SPACE, w->in, &n));
    DT_TRY(dt_onnx_numbers(c, "block_shape", 2, DT_MAX_SPACE, w->kernel, &n_block));
    if (n < 1 || n != n_block)
        return dt_onnx_refuse(c, "an image of %d dimensions, blocks of %d", n, n_block);
    w->nd = n;
    int64_t pads[2 * DT_MAX_SPACE];
    DT_TRY(dt_onnx_space(c, "strides", n, 1, 1, w->stride));
    DT_TRY(dt_onnx_space(c, "dilations", n, 1, 1, w->dilation));
    DT_TRY(dt_onnx_space(c, "pads", 2 * n, 0, 0, pads));
    for (int32_t d = 0; d < n; d++) {
        if (w->in[d] < 1 || w->in[d] > 1 << 30 || w->kernel[d] < 1 || w->kernel[d] > 1 << 30)
            return dt_onnx_refuse(c, "an image of %lld, blocks of %lld elements", (long long)w->in[d],
                                  (long long)w->kernel[d]);
        w->pad[d] = pads[d], w->pad_end[d] = pads[n + d];
        const int64_t room = w->in[d] + pads[d] + pads[n + d] - (w->kernel[d] - 1) * w->dilation[d] - 1;
        w->out[d] = room < 0 ? 0 : room / w->stride[d] + 1;
        if (__builtin_mul_overflow(w->n_in, w->in[d], &w->n_in) ||
            __builtin_mul_overflow(w->n_out, w->out[d], &w->n_out) ||
            __builtin_mul_overflow(w->n_kernel, w->kernel[d], &w->n_kernel))
            return dt_onnx_refuse(c, "its sizes overflow");
    }
    const dt_host_tensor *x = c->in[0];
    if (x->dim[1] % w->n_kernel != 0 || x->dim[2] != w->n_out)
        return dt_onnx_refuse(c, "%lld x %lld numbers for blocks of %lld at %lld places",
                              (long long)x->dim[1], (long long)x->dim[2], (long long)w->n_kernel,
                              (long long)w->n_out);
    *channels = x->dim[1] / w->n_kernel;
    return DT_OK;
}

dt_status dt_infer_col2im(const dt_onnx_call *c) {
    dt_window w;
    int64_t dim[DT_MAX_DIM] = {0};
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(read_col2im(c, &w, &dim[1]));
    dim[0] = c->in[0]->dim[0];
    memcpy(dim + 2, w.in, sizeof *dim * (size_t)w.nd);
    return dt_onnx_out(c, 0, c->in[0]->type, w.nd + 2, dim);
}

dt_status dt_run_col2im(const dt_onnx_call *c) {
    dt_window w;
    int64_t channels;
    DT_TRY(read_col2im(c, &w, &channels));
    double *x, *y;
    DT_TRY(dt_onnx_load(c, 0, &x));
    DT_TRY(dt_onnx_doubles(c, dt_host_n_elem(&c->out[0]), &y));
    for (int64_t i = 0; i < c->in[0]->dim[0] * channels; i++)
        for (int64_t k = 0; k < w.n_kernel; k++) {
            int64_t kernel[DT_MAX_SPACE], place[DT_MAX_SPACE];
            dt_place(w.nd, w.kernel, k, kernel);
            for (int64_t o = 0; o < w.n_out; o++) {
                int64_t to = 0;
                bool inside = true;
                dt_place(w.nd, w.out, o, place);
                for (int32_t d = 0; d < w.nd; d++) {
                    const int64_t at = place[d] * w.stride[d] - w.pad[d] + kernel[d] * w.dilation[d];
                    inside = inside && at >= 0 && at < w.in[d];
                    to = to * w.in[d] + at;
                }
                if (inside) y[i * w.n_in + to] += x[(i * w.n_kernel + k) * w.n_out + o];
            }
        }
    dt_host_store_f64(&c->out[0], 0, dt_host_n_elem(&c->out[0]), y);
    return DT_OK;
}
