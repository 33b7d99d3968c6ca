/* 16-bit floats as fp32, exactly. */
#ifndef DT_CORE_HALF_H
#define DT_CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float dt_float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float dt_bf16_to_f32(uint16_t h) {
    return dt_float_of_bits((uint32_t)h << 16);
}

/* Exponent and mantissa moved into fp32's places, which is exact for subnormals too once scaled. */
static inline float dt_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) return dt_float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    const float size = dt_float_of_bits(rest << 13) * 0x1p112f;
    return sign ? -size : size;
}

#endif
