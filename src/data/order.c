/* Keyed permutation by an alternating Feistel network with cycle walking. */
#include "data/order.h"

#include "core/rng.h"

enum {
    FEISTEL_ROUNDS = 8,
    DOMAIN_BITS_MIN = 8, /* narrower halves cannot reach every permutation evenly */
};

/* 64-bit finaliser of MurmurHash3: every input bit changes every output bit with probability near one
 * half. */
static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xFF51AFD7ED558CCDu;
    x ^= x >> 33;
    x *= 0xC4CEB9FE1A85EC53u;
    return x ^ x >> 33;
}

uint64_t dt_order_at(uint64_t key, uint64_t n, uint64_t i) {
    if (n < 2) return 0;
    unsigned bits = 64 - (unsigned)__builtin_clzll(n - 1);
    if (bits < DOMAIN_BITS_MIN) bits = DOMAIN_BITS_MIN;
    unsigned low_bits = bits / 2;
    uint64_t low_mask = ((uint64_t)1 << low_bits) - 1, high_mask = ((uint64_t)1 << (bits - low_bits)) - 1;
    uint64_t x = i;
    do {
        uint64_t low = x & low_mask, high = x >> low_bits;
        for (uint64_t round = 0; round < FEISTEL_ROUNDS; round += 2) {
            low ^= mix(high ^ mix(key + round)) & low_mask;
            high ^= mix(low ^ mix(key + round + 1)) & high_mask;
        }
        x = high << low_bits | low;
    } while (x >= n);
    return x;
}

uint64_t dt_order_sample(uint64_t seed, uint64_t n, uint64_t t) {
    return dt_order_at(dt_rng_key(seed, DT_RNG_ORDER, t / n), n, t % n);
}

uint64_t dt_order_repeated(uint64_t seed, uint64_t n, uint64_t times, uint64_t t, uint64_t *repeat) {
    *repeat = t % n % times;
    return dt_order_at(dt_rng_key(seed, DT_RNG_ORDER, t / n), n, t % n / times);
}
