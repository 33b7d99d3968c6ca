/* What the convolution algorithms share: each fills its part of a plan and runs it. Private to conv*.c. */
#ifndef DT_CPU_CONV_INTERNAL_H
#define DT_CPU_CONV_INTERNAL_H

#include "conv_simd.h"
#include "kernels_conv.h"

/* Floats between rows of a scratch matrix of n columns: whole cache lines, an odd number of them, so that
 * equal columns of neighbouring rows do not fall on the same cache set. */
static inline int64_t dt_cpu_pitch(int64_t n) {
    return (dt_ceil_div(n, 16) | 1) * 16;
}

/* Whether equal columns of rows this many floats apart fall on one cache set: a register block of such rows drives
 * itself out of L1. */
static inline bool dt_cpu_rows_collide(int64_t ld) {
    return ld % 1024 == 0;
}

static inline dt_cpu_crew dt_cpu_conv_crew(const dt_cpu_conv_plan *plan) {
    return (dt_cpu_crew){plan->threads, plan->team};
}

/* A gradient of weights is a sum over pixels, taken in parts: first each part, then their sum in order. How
 * many there are follows from the sizes of the convolution and never from the number of threads, so that the
 * result is the same bits for any number. dt_cpu_conv_parts: at most `most`, at least 1, and a number that
 * most numbers of threads divide evenly. */
enum { DT_CPU_CONV_PARTS = 48 };
int64_t dt_cpu_conv_parts(int64_t most);
/* out[i] += parts 0, 1, ... in order, each [size], by all threads of the team that calls it. */
void dt_cpu_conv_add_parts(float *out, const float *part, int64_t size, int64_t n_part);

/* conv_gemm.c: columns [0, n) of a panel of width nr, n_row rows, as gemm_nn reads it: dst[i*nr + j] = src[i*step_row +
 * j*step_col]; one of the steps is 1. */
void dt_cpu_pack_panel(float *dst, int64_t nr, int64_t n, int64_t n_row, const float *src, int64_t step_row,
                       int64_t step_col);

/* Each sets tile, packed_bytes, shared_bytes and thread_bytes; dims, kind, algo, threads and kept are set. */
void dt_cpu_conv_gemm_plan(dt_cpu_conv_plan *plan);
void dt_cpu_conv_gemm_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed);
void dt_cpu_conv_gemm_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args);
void dt_cpu_conv_gemm_wgrad(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args);

bool dt_cpu_conv_winograd_applies(const dt_conv_dims *dims);
void dt_cpu_conv_winograd_plan(dt_cpu_conv_plan *plan);
void dt_cpu_conv_winograd_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed);
void dt_cpu_conv_winograd_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args);
void dt_cpu_conv_winograd_wgrad(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args);

void dt_cpu_conv_depthwise_plan(dt_cpu_conv_plan *plan);
void dt_cpu_conv_depthwise_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed);
void dt_cpu_conv_depthwise_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args);

#endif
