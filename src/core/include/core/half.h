/* 16-bit floats on the host. Bit arithmetic, so that every rank and compiler agrees; to 16 bits rounds to
 * nearest, ties to even. */
#ifndef DT_CORE_HALF_H
#define DT_CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float dt_f32_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t dt_f32_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float dt_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) return dt_f32_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    /* Moving the exponent field and multiplying by 2^112 is exact, for subnormals too. */
    const float f = dt_f32_from_bits(magnitude << 13) * 0x1p112f;
    return dt_f32_from_bits(sign | dt_f32_bits(f));
}

static inline uint16_t dt_f32_to_f16(float f) {
    uint32_t bits = dt_f32_bits(f);
    const uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (bits < 0x38800000u) {
        /* Subnormal: adding 0.5 makes the FPU round at 2^-24, the lowest fp16 bit. */
        const float shifted = dt_f32_from_bits(bits) + 0.5f;
        return (uint16_t)(sign | (dt_f32_bits(shifted) - dt_f32_bits(0.5f)));
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

static inline float dt_bf16_to_f32(uint16_t b) {
    return dt_f32_from_bits((uint32_t)b << 16);
}

static inline uint16_t dt_f32_to_bf16(float f) {
    const uint32_t bits = dt_f32_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
