/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). A draw is a pure function of (key, counter), so there is no generator state to save or share and
 * the CPU and the GPU draw the same numbers. Included by C, C++ and CUDA sources. */
#ifndef DT_CORE_RNG_H
#define DT_CORE_RNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define DT_HOST_DEVICE __host__ __device__
#else
#define DT_HOST_DEVICE
#endif

typedef struct dt_u32x4 {
    uint32_t v[4];
} dt_u32x4;

/* Four 32-bit words for `key` (64 bits) and `counter` (128 bits: hi, lo). */
DT_HOST_DEVICE static inline dt_u32x4 dt_philox(uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter_lo, c1 = (uint32_t)(counter_lo >> 32);
    uint32_t c2 = (uint32_t)counter_hi, c3 = (uint32_t)(counter_hi >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n1 = (uint32_t)p1;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1, n3 = (uint32_t)p0;
        c0 = n0, c1 = n1, c2 = n2, c3 = n3;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    dt_u32x4 out = {{c0, c1, c2, c3}};
    return out;
}

/* Uniform in [0, 1): the top 24 bits, exact in fp32. */
DT_HOST_DEVICE static inline float dt_u01(uint32_t word) {
    return (float)(word >> 8) * (1.0f / 16777216.0f);
}

/* One key per purpose, so that no two streams of one run overlap. */
typedef enum dt_rng_stream {
    DT_RNG_INIT = 1, /* counter: (parameter name hash, element / 4) */
    DT_RNG_ORDER,    /* keyed permutation of the samples of an epoch */
    DT_RNG_AUGMENT,  /* counter: (epoch, sample) */
    DT_RNG_DROPOUT,  /* counter: (step and micro-step, element / 4), key salted by the node */
    DT_RNG_TEST,
    DT_RNG_TENSOR, /* dt_tensor_randn; counter: (0, pair) */
    DT_RNG_MASK,   /* counter: (sample, place), key salted by the epoch */
    DT_RNG_TEXT,   /* the next token; counter: (0, place), key salted by the prompt */
    DT_RNG_MIX     /* counter: (step, 0), or (epoch, sample) */
} dt_rng_stream;

/* The key of a stream of the run with this seed; `salt` tells apart users of one stream (0 if only one). */
DT_HOST_DEVICE static inline uint64_t dt_rng_key(uint64_t seed, dt_rng_stream stream, uint64_t salt) {
    dt_u32x4 w = dt_philox(seed, (uint64_t)stream, salt);
    return (uint64_t)w.v[1] << 32 | w.v[0];
}

#endif
