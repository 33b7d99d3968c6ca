/* Convolution loops for AVX2. Compiled for that instruction set whatever the build targets; called only
 * where the processor has it. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#include <stddef.h>
#include "conv_simd.h"

typedef __m256 vf;
enum { VL = 8 };
#define VL_BITS 3
#define MR      6

static inline vf v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
static inline void v_stream(float *p, vf v) {
    _mm256_stream_ps(p, v);
}
static inline void v_stream_end(void) {
    _mm_sfence();
}
static inline void v_copy_some(float *dst, const float *src, int64_t n) { /* n < VL */
    static const int32_t ones[2 * VL] = {-1, -1, -1, -1, -1, -1, -1, -1};
    const __m256i mask = _mm256_loadu_si256((const __m256i *)(const void *)(ones + VL - n));
    _mm256_maskstore_ps(dst, mask, _mm256_maskload_ps(src, mask));
}
static inline vf v_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf v_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}

#include "conv_gemm_inner.h"
#include "conv_winograd_inner.h"

const dt_cpu_simd dt_cpu_simd_avx2 = {.name = "avx2",
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
#endif
