/* Convolution loops for AVX-512. Compiled for that instruction set whatever the build targets; called only
 * where the processor has it. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#include <immintrin.h>
#include <stddef.h>
#include "conv_simd.h"

typedef __m512 vf;
enum { VL = 16 };
#define VL_BITS 4
#define MR      14

static inline vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
static inline void v_stream(float *p, vf v) {
    _mm512_stream_ps(p, v);
}
static inline void v_stream_end(void) {
    _mm_sfence();
}
static inline void v_copy_some(float *dst, const float *src, int64_t n) { /* n < VL */
    const __mmask16 mask = (__mmask16)((1u << n) - 1);
    _mm512_mask_storeu_ps(dst, mask, _mm512_maskz_loadu_ps(mask, src));
}
static inline vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf v_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}

#include "conv_gemm_inner.h"
#include "conv_winograd_inner.h"

const dt_cpu_simd dt_cpu_simd_avx512 = {.name = "avx512",
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
