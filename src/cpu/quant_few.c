/* Rows of f32 with weights of 4 bits: what is read of memory is the weights, once for a few rows. */
#include <string.h>

#include "quant.h"

static int64_t padded(const dt_cpu_qplan *p) {
    return p->blocks * p->q->block;
}

int64_t dt_cpu_q4_workspace(const dt_cpu_qplan *p) {
    return p->m * (padded(p) + p->blocks) * (int64_t)sizeof(float);
}

/* Rows filled up to whole blocks, and the sums of their blocks. */
static void copy_rows(const dt_cpu_qplan *p, const float *x, float *to, float *sum) {
    const int64_t depth = p->q->depth, wide = padded(p), block = p->q->block;
    for (int64_t r = 0; r < p->m; r++) {
        memcpy(to + r * wide, x + r * depth, (size_t)depth * sizeof *to);
        memset(to + r * wide + depth, 0, (size_t)(wide - depth) * sizeof *to);
        for (int64_t b = 0; b < p->blocks; b++) {
            float s = 0;
            for (int64_t i = 0; i < block; i++) s += to[r * wide + b * block + i];
            sum[r * p->blocks + b] = s;
        }
    }
}

static dt_cpu_q4_fn *block_of(const dt_cpu_qplan *p) {
#if defined(__x86_64__)
    if (p->simd == &dt_cpu_qsimd_avx512) return dt_cpu_q4_avx512;
#else
    (void)p;
#endif
    return dt_cpu_q4_generic;
}

void dt_cpu_q4_run(const dt_cpu_qplan *p, const dt_binding *b) {
    enum { N = DT_CPU_Q_UNIT };
    const dt_qproduct *q = p->q;
    float *x = b->workspace, *sum = x + p->m * padded(p), *y = b->out[0];
    dt_cpu_q4_fn *run = block_of(p);
    copy_rows(p, b->in[DT_QPRODUCT_IN_X], x, sum);
    const int64_t per_unit = p->blocks * (q->block / 8) * N, scales = p->blocks * N;
    const int64_t items = dt_ceil_div(p->units, DT_CPU_Q4_WIDE);
#pragma omp parallel for schedule(static) num_threads(p->threads) if (p->m * q->k * q->depth > DT_CPU_GRAIN)
    for (int64_t i = 0; i < items; i++) {
        float made[DT_CPU_Q4_ROWS * DT_CPU_Q4_WIDE * N];
        const int64_t unit = i * DT_CPU_Q4_WIDE, k0 = unit * N;
        const int32_t units = (int32_t)dt_min_i64(DT_CPU_Q4_WIDE, p->units - unit);
        const int64_t n = dt_min_i64(units * N, q->k - k0);
        for (int64_t r = 0; r < p->m; r += DT_CPU_Q4_ROWS) {
            const int32_t rows = (int32_t)dt_min_i64(DT_CPU_Q4_ROWS, p->m - r);
            const dt_cpu_q4block s = {.x = x + r * padded(p),
                                      .ldx = padded(p),
                                      .depth = q->depth,
                                      .block = q->block,
                                      .blocks = p->blocks,
                                      .w = p->w4 + unit * per_unit,
                                      .scale = p->w4_scale + unit * scales,
                                      .mid = p->w4_mid ? p->w4_mid + unit * scales : NULL,
                                      .sum = sum + r * p->blocks,
                                      .y = made};
            run(&s, rows, units);
            for (int32_t a = 0; a < rows; a++)
                for (int64_t k = 0; k < n; k++) {
                    const float v = made[a * units * N + k] + p->shift[k0 + k];
                    y[(r + a) * q->k + k0 + k] = q->act && !(v > 0) ? 0 : v;
                }
        }
    }
}
