/* Tokens hidden for a network to find: BERT's masking. */
#ifndef DT_DATA_MASK_H
#define DT_DATA_MASK_H

#include "core/types.h"
#include "data/options.h"

typedef struct dt_mask {
    uint64_t seed;
    float share;        /* of the places that are to be found */
    float random, keep; /* of those another token, the same; the others the mask */
    int32_t token;      /* the mask */
    int32_t n_vocab;    /* other tokens are 0 to n_vocab - 1 */
    int32_t end;        /* stands where it is; -1: none does */
} dt_mask;

/* The first n of a sample's tokens: those that are to be found go to `label`, all other places of which get -1. A draw is a
 * function of seed, epoch, sample and place. */
void dt_mask_tokens(const dt_mask *m, uint64_t epoch, int64_t sample, int64_t n, int32_t *token,
                    int32_t *label);

#endif
