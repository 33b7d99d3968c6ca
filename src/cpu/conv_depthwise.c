/* Depthwise convolution (groups == C == K): every tap is a product of two channel vectors. */
#include "conv_internal.h"

#include <omp.h>
#include <string.h>

/* Parts of the images that wgrad sums up apart. */
static int64_t wgrad_parts(const dt_conv_dims *d) {
    return dt_cpu_conv_parts(d->n);
}

void dt_cpu_conv_depthwise_plan(dt_cpu_conv_plan *plan) {
    const dt_conv_dims *d = &plan->dims;
    const int64_t bytes = d->r * d->s * d->c * (int64_t)sizeof(float);
    plan->packed_bytes = plan->kind == DT_CPU_CONV_WGRAD ? 0 : bytes; /* [R*S, C] */
    plan->shared_bytes = plan->kind == DT_CPU_CONV_WGRAD ? wgrad_parts(d) * bytes : plan->kept ? 0 : bytes;
}

/* Output pixel of image row p, column q lies under tap (r, s) at input pixel (h, w); false outside the
 * image. */
static bool tap_pixel(const dt_conv_dims *d, int64_t p, int64_t q, int64_t r, int64_t s, int64_t *h,
                      int64_t *w) {
    *h = p * d->stride_h - d->pad_h + r * d->dil_h;
    *w = q * d->stride_w - d->pad_w + s * d->dil_w;
    return *h >= 0 && *h < d->h && *w >= 0 && *w < d->w;
}

static void forward_row(const dt_conv_dims *d, const dt_cpu_conv_args *args, const float *taps, int64_t image,
                        int64_t p) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    for (int64_t q = 0; q < d->q; q++) {
        float *y = args->out + ((image * d->p + p) * d->q + q) * d->c;
        if (args->bias)
            memcpy(y, args->bias, (size_t)d->c * sizeof *y);
        else
            memset(y, 0, (size_t)d->c * sizeof *y);
        for (int64_t r = 0; r < d->r; r++)
            for (int64_t s = 0; s < d->s; s++) {
                int64_t h, w;
                if (tap_pixel(d, p, q, r, s, &h, &w))
                    simd->mul_add(d->c, args->x + ((image * d->h + h) * d->w + w) * d->c,
                                  taps + (r * d->s + s) * d->c, y);
            }
    }
    const int64_t at = (image * d->p + p) * d->q * d->c, n = d->q * d->c;
    dt_cpu_end_rows(args->out + at, args->res ? args->res + at : NULL, n, 1, n, args->act);
}

static void dgrad_image(const dt_conv_dims *d, const dt_cpu_conv_args *args, const float *taps,
                        int64_t image) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    float *dx = args->out + image * d->h * d->w * d->c;
    memset(dx, 0, (size_t)(d->h * d->w * d->c) * sizeof *dx);
    for (int64_t p = 0; p < d->p; p++)
        for (int64_t q = 0; q < d->q; q++)
            for (int64_t r = 0; r < d->r; r++)
                for (int64_t s = 0; s < d->s; s++) {
                    int64_t h, w;
                    if (tap_pixel(d, p, q, r, s, &h, &w))
                        simd->mul_add(d->c, args->dy + ((image * d->p + p) * d->q + q) * d->c,
                                      taps + (r * d->s + s) * d->c, dx + (h * d->w + w) * d->c);
                }
}

static void wgrad_image(const dt_conv_dims *d, const dt_cpu_conv_args *args, int64_t image, float *sum) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    for (int64_t p = 0; p < d->p; p++)
        for (int64_t q = 0; q < d->q; q++)
            for (int64_t r = 0; r < d->r; r++)
                for (int64_t s = 0; s < d->s; s++) {
                    int64_t h, w;
                    if (tap_pixel(d, p, q, r, s, &h, &w))
                        simd->mul_add(d->c, args->dy + ((image * d->p + p) * d->q + q) * d->c,
                                      args->x + ((image * d->h + h) * d->w + w) * d->c,
                                      sum + (r * d->s + s) * d->c);
                }
}

static void wgrad_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args) {
    const dt_conv_dims *d = &plan->dims;
    const int64_t n_tap = d->r * d->s, size = n_tap * d->c, parts = wgrad_parts(d);
    float *sums = args->workspace;
#pragma omp parallel num_threads(plan->threads)
    {
#pragma omp for schedule(dynamic)
        for (int64_t p = 0; p < parts; p++) {
            memset(sums + p * size, 0, (size_t)size * sizeof *sums);
            for (int64_t image = d->n * p / parts; image < d->n * (p + 1) / parts; image++)
                wgrad_image(d, args, image, sums + p * size);
        }
        dt_cpu_conv_add_parts(sums, sums + size, size, parts - 1);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < d->c; c++)
            for (int64_t tap = 0; tap < n_tap; tap++) args->out[c * n_tap + tap] = sums[tap * d->c + c];
    }
}

/* A run. */
typedef struct work {
    const dt_cpu_conv_plan *plan;
    const dt_cpu_conv_args *args;
    const float *taps; /* [R*S, C] */
} work;

static void turn_taps(const dt_conv_dims *d, const float *w, float *taps) {
    const int64_t n_tap = d->r * d->s;
    for (int64_t c = 0; c < d->c; c++)
        for (int64_t tap = 0; tap < n_tap; tap++) taps[tap * d->c + c] = w[c * n_tap + tap];
}

void dt_cpu_conv_depthwise_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed) {
    turn_taps(&plan->dims, w, packed);
}

static void forward_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    forward_row(&k->plan->dims, k->args, k->taps, item / k->plan->dims.p, item % k->plan->dims.p);
}

static void dgrad_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    dgrad_image(&k->plan->dims, k->args, k->taps, item);
}

void dt_cpu_conv_depthwise_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args) {
    const dt_conv_dims *d = &plan->dims;
    if (plan->kind == DT_CPU_CONV_WGRAD) {
        wgrad_run(plan, args);
        return;
    }
    const work k = {plan, args, plan->kept ? args->packed : args->workspace};
    if (!plan->kept) turn_taps(d, args->w, args->workspace);
    const dt_cpu_stage stage = plan->kind == DT_CPU_CONV_FORWARD
                                   ? (dt_cpu_stage){d->n * d->p, forward_item, true}
                                   : (dt_cpu_stage){d->n, dgrad_item, true};
    dt_cpu_share(dt_cpu_conv_crew(plan), &stage, 1, &k);
}
