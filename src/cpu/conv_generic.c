/* Convolution loops in plain C vectors of four floats: any processor. Also picks the table to use. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "conv_simd.h"
#include "kernels_conv.h"

typedef float vf __attribute__((vector_size(16)));
enum { VL = 4 };
#define VL_BITS 2
#define MR      4

static inline vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void v_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}
static inline void v_stream(float *p, vf v) {
    v_store(p, v);
}
static inline void v_stream_end(void) {}
static inline void v_copy_some(float *dst, const float *src, int64_t n) { /* n < VL */
    for (int64_t i = 0; i < n; i++) dst[i] = src[i];
}
static inline vf v_set1(float x) {
    return (vf){x, x, x, x};
}
static inline vf v_zero(void) {
    return (vf){0};
}
static inline vf v_fma(vf a, vf b, vf c) {
    return a * b + c;
}
static inline vf v_add(vf a, vf b) {
    return a + b;
}
static inline vf v_sub(vf a, vf b) {
    return a - b;
}
static inline vf v_mul(vf a, vf b) {
    return a * b;
}

#include "conv_gemm_inner.h"
#include "conv_winograd_inner.h"

const dt_cpu_simd dt_cpu_simd_generic = {.name = "generic",
                                         .lanes = VL,
                                         .nr = NR,
                                         .mr = MR,
                                         .gather = gather,
                                         .scatter = scatter,
                                         .gemm_nn = gemm_nn,
                                         .gemm_tn = gemm_tn,
                                         .pack_turned = pack_turned,
                                         .winograd_input = winograd_input,
                                         .winograd_grad = winograd_grad,
                                         .winograd_output = winograd_output,
                                         .winograd_dw = winograd_dw,
                                         .winograd_filter = winograd_filter,
                                         .mul_add = mul_add};

const dt_cpu_simd *dt_cpu_simd_get(void) {
#if defined(__x86_64__)
    const char *most = getenv("DT_CPU_ISA");
    const bool no_avx512 = most && strcmp(most, "avx512") != 0;
    const bool no_avx2 = no_avx512 && strcmp(most, "avx2") != 0;
    if (!no_avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return &dt_cpu_simd_avx512;
    if (!no_avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &dt_cpu_simd_avx2;
#endif
    return &dt_cpu_simd_generic;
}

const char *dt_cpu_conv_isa(void) {
    return dt_cpu_simd_get()->name;
}
