/* Sums of fp16 and bf16 buffers as MPI operations. Bit arithmetic, so that every rank and compiler agrees. */
#include <string.h>

#include "comm_mpi_internal.h"

static float float_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_from_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) return float_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    /* Moving the exponent field and multiplying by 2^112 is exact, for subnormals too. */
    float f = float_from_bits(magnitude << 13) * 0x1p112f;
    return float_from_bits(sign | bits_from_float(f));
}

static uint16_t f16_from_float(float f) {
    uint32_t bits = bits_from_float(f);
    uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (bits < 0x38800000u) {
        /* Subnormal: adding 0.5 makes the FPU round at 2^-24, the lowest fp16 bit. */
        float shifted = float_from_bits(bits) + 0.5f;
        return (uint16_t)(sign | (bits_from_float(shifted) - bits_from_float(0.5f)));
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

static float float_from_bf16(uint16_t b) {
    return float_from_bits((uint32_t)b << 16);
}

static uint16_t bf16_from_float(float f) {
    uint32_t bits = bits_from_float(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void dt_mpi_sum_f16(void *in, void *inout, int *n, MPI_Datatype *type) {
    (void)type;
    const uint16_t *a = in;
    uint16_t *b = inout;
    for (int i = 0; i < *n; i++) b[i] = f16_from_float(float_from_f16(a[i]) + float_from_f16(b[i]));
}

void dt_mpi_sum_bf16(void *in, void *inout, int *n, MPI_Datatype *type) {
    (void)type;
    const uint16_t *a = in;
    uint16_t *b = inout;
    for (int i = 0; i < *n; i++) b[i] = bf16_from_float(float_from_bf16(a[i]) + float_from_bf16(b[i]));
}
