/* Convolution plans: chooses the algorithm of a convolution and sends runs to it. */
#include "conv_internal.h"

#include <stdio.h>
#include <string.h>

static bool always_applies(const dt_conv_dims *d) {
    return d->groups > 0;
}
static bool depthwise_applies(const dt_conv_dims *d) {
    return d->groups == d->c && d->k == d->c && d->c > 1;
}

static const struct {
    const char *name;
    bool (*applies)(const dt_conv_dims *dims);
    void (*plan)(dt_cpu_conv_plan *plan);
    void (*pack)(const dt_cpu_conv_plan *plan, const float *w, float *packed);
    void (*run[3])(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args); /* by kind */
} algo_table[] = {
    [DT_CPU_CONV_ALGO_GEMM] = {"gemm",
                               always_applies,
                               dt_cpu_conv_gemm_plan,
                               dt_cpu_conv_gemm_pack,
                               {dt_cpu_conv_gemm_run, dt_cpu_conv_gemm_run, dt_cpu_conv_gemm_wgrad}},
    [DT_CPU_CONV_ALGO_WINOGRAD] = {"winograd",
                                   dt_cpu_conv_winograd_applies,
                                   dt_cpu_conv_winograd_plan,
                                   dt_cpu_conv_winograd_pack,
                                   {dt_cpu_conv_winograd_run, dt_cpu_conv_winograd_run,
                                    dt_cpu_conv_winograd_wgrad}},
    [DT_CPU_CONV_ALGO_DEPTHWISE] = {"depthwise",
                                    depthwise_applies,
                                    dt_cpu_conv_depthwise_plan,
                                    dt_cpu_conv_depthwise_pack,
                                    {dt_cpu_conv_depthwise_run, dt_cpu_conv_depthwise_run,
                                     dt_cpu_conv_depthwise_run}},
};

static const char *const kind_name[] = {"conv", "conv dgrad", "conv wgrad"};

/* Bytes of a tensor of these dims stay far from overflow, so that sums of a few of them do too. */
static bool size_fits(int64_t a, int64_t b, int64_t c, int64_t d) {
    int64_t n;
    return a > 0 && b > 0 && c > 0 && d > 0 && !__builtin_mul_overflow(a, b, &n) &&
           !__builtin_mul_overflow(n, c, &n) && !__builtin_mul_overflow(n, d, &n) && n < INT64_MAX / 4096;
}

static bool dims_fit(const dt_conv_dims *d) {
    return d->groups > 0 && d->c % d->groups == 0 && d->k % d->groups == 0 &&
           size_fits(d->n, d->h, d->w, d->c) && size_fits(d->n, d->p, d->q, d->k) &&
           size_fits(d->k, d->r, d->s, d->c);
}

static void fill_in(dt_cpu_conv_plan *plan) {
    algo_table[plan->algo].plan(plan);
    plan->shared_bytes = dt_round_up(plan->shared_bytes, 64);
    plan->thread_bytes = dt_round_up(plan->thread_bytes, 64);
    plan->workspace_bytes = plan->shared_bytes + plan->thread_bytes * plan->threads;
}

dt_status dt_cpu_conv_plan_algo(const dt_conv_dims *dims, dt_cpu_conv_kind kind, dt_cpu_conv_algo algo,
                                int32_t threads, dt_cpu_conv_plan *out) {
    const dt_conv_dims *d = dims;
    if (threads < 1 || !dims_fit(d))
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "convolution %ldx%ldx%ldx%ld -> %ld channels is too large for the CPU", (long)d->n,
                       (long)d->h, (long)d->w, (long)d->c, (long)d->k);
    if (!algo_table[algo].applies(d))
        return dt_fail(DT_ERR_UNSUPPORTED, "this convolution algorithm does not fit the convolution");
    memset(out, 0, sizeof *out);
    out->dims = *dims;
    out->kind = kind;
    out->algo = algo;
    out->threads = threads;
    fill_in(out);
    snprintf(out->label, sizeof out->label, "%s %ldx%ld/%ld %ld->%ld [%s]", kind_name[kind], (long)d->r,
             (long)d->s, (long)d->stride_h, (long)d->c, (long)d->k, algo_table[algo].name);
    return DT_OK;
}

/* Not where 4x4 tiles hang far over a tiny image, or are so few that the transformed weights cost more. */
static bool winograd_pays(const dt_conv_dims *d, dt_cpu_conv_kind kind, int64_t images) {
    const int64_t h = kind == DT_CPU_CONV_DGRAD ? d->h : d->p, w = kind == DT_CPU_CONV_DGRAD ? d->w : d->q;
    const int64_t covered = dt_round_up(h, 4) * dt_round_up(w, 4);
    return 5 * h * w >= 2 * covered && images * covered >= 8 * 16;
}

dt_status dt_cpu_conv_plan_make(const dt_conv_dims *dims, dt_cpu_conv_kind kind, bool by_row, int32_t threads,
                                dt_cpu_conv_plan *out) {
    dt_cpu_conv_algo algo = DT_CPU_CONV_ALGO_GEMM;
    if (dims_fit(dims)) {
        if (dt_cpu_conv_winograd_applies(dims) && winograd_pays(dims, kind, by_row ? 1 : dims->n))
            algo = DT_CPU_CONV_ALGO_WINOGRAD;
        if (depthwise_applies(dims)) algo = DT_CPU_CONV_ALGO_DEPTHWISE;
    }
    return dt_cpu_conv_plan_algo(dims, kind, algo, threads, out);
}

void dt_cpu_conv_plan_keep(dt_cpu_conv_plan *plan) {
    plan->kept = plan->kind == DT_CPU_CONV_FORWARD;
    fill_in(plan);
}

void dt_cpu_conv_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed) {
    algo_table[plan->algo].pack(plan, w, packed);
}

void dt_cpu_conv_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args) {
    algo_table[plan->algo].run[plan->kind](plan, args);
}
