/* The order of samples: a keyed permutation of 0..n-1 that is computed, not stored.
 *
 * A Feistel network over the next power of two with cycle walking (Black and Rogaway, "Ciphers with arbitrary
 * finite domains", 2002): position i is mapped until it falls below n, at most two rounds through on average.
 * So the state of a shuffled pass over any number of samples is one integer. */
#ifndef DT_DATA_ORDER_H
#define DT_DATA_ORDER_H

#include <stdint.h>

/* Element i (< n) of the permutation of 0..n-1 under `key`. n >= 1. */
uint64_t dt_order_at(uint64_t key, uint64_t n, uint64_t i);

/* The training sample at global counter t: sample dt_order_at(key of (seed, t / n), n, t % n). */
uint64_t dt_order_sample(uint64_t seed, uint64_t n, uint64_t t);
/* The same where every sample stands `times` in a row (DeiT's repeated augmentation): the first n of that order are an
 * epoch. *repeat: how often the sample stood there just before, 0 to times - 1. times >= 1. */
uint64_t dt_order_repeated(uint64_t seed, uint64_t n, uint64_t times, uint64_t t, uint64_t *repeat);

#endif
