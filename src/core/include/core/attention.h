/* Attention's sizes and its rule of who sees whom, read by C and by CUDA. Letters: B rows, T queries, S keys, D
 * elements of a head. */
#ifndef DT_CORE_ATTENTION_H
#define DT_CORE_ATTENTION_H

#include <stdbool.h>

#include "core/scalar.h"

/* Of an ATTENTION node or its gradient. Query head h of position t of row b starts at q + (b T + t) q_row + h D;
 * it reads key head h / (heads / kv_heads), whose position s starts at k + (b S + s) kv_row + k_at + head D, and
 * the values likewise from v_at. Packed, q, k and v are one tensor and so are their gradients. */
typedef struct dt_attention_dims {
    int64_t b, t, s, heads, kv_heads, d;
    int64_t q_row, kv_row, k_at, v_at;
    int64_t window; /* 0: none */
    float scale;    /* of the scores */
    float p;        /* of dropout */
    uint64_t salt;
    bool causal, packed;
} dt_attention_dims;

/* Sizes of a CACHE node: b rows of t new places, s places of `wide` numbers in a cache; in a row of k and of v so many
 * numbers. */
typedef struct dt_cache_dims {
    int64_t b, t, s, wide, k_row, v_row;
} dt_cache_dims;

/* The keys that a query sees, [begin, end), but for documents. */
typedef struct dt_attention_span {
    int64_t begin, end;
} dt_attention_span;

/* n_q, n_k: the queries and keys that the row has (T and S, or its lengths). The last query stands at the last
 * key, so that one query after a cache of keys sees them all. */
DT_SCALAR dt_attention_span dt_attention_sees(const dt_attention_dims *a, int64_t t, int64_t n_q,
                                              int64_t n_k) {
    const int64_t at = t + n_k - n_q, before = at - a->window + 1;
    int64_t end = a->causal ? at + 1 : a->window > 0 ? at + a->window : n_k;
    const int64_t begin = a->window > 0 && before > 0 ? before : 0;
    end = end < n_k ? end : n_k;
    dt_attention_span span = {begin, end};
    if (t >= n_q || end <= begin) span.begin = span.end = 0;
    return span;
}

/* Dropout of one weight: word s % 4 of the draw of this number; u01 >= p keeps it. */
DT_SCALAR uint64_t dt_attention_draw(const dt_attention_dims *a, int64_t b, int64_t head, int64_t t,
                                     int64_t s) {
    return (uint64_t)(((b * a->heads + head) * a->t + t) * ((a->s + 3) / 4) + s / 4);
}

#endif
