/* Merging the pairs of a word: always the pair of the lowest rank, the leftmost of equals. Short words by looking at
 * all pairs again, long ones by a heap, so that no text takes quadratic time. */
#include "bpe.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_BYTES = 64 };

void dt_bpe_room_free(dt_bpe_room *r) {
    free(r->id);
    free(r->prev);
    free(r->next);
    free(r->rank);
    free(r->heap);
    *r = (dt_bpe_room){.id = NULL};
}

static uint32_t rank_of(const dt_tokenizer *t, int32_t left, int32_t right) {
    const dt_pair_slot *s = dt_pair_find(t, left, right);
    return s ? s->rank : DT_BPE_NO_RANK;
}

static int64_t encode_short(const dt_tokenizer *t, const uint8_t *piece, int64_t n, int32_t *id) {
    uint32_t rank[SHORT_BYTES];
    for (int64_t i = 0; i < n; i++) id[i] = t->byte_id[piece[i]];
    for (int64_t i = 0; i + 1 < n; i++) rank[i] = rank_of(t, id[i], id[i + 1]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == DT_BPE_NO_RANK) break;
        id[best] = t->merge[rank[best]].id;
        n--;
        memmove(id + best + 1, id + best + 2, (size_t)(n - best - 1) * sizeof *id);
        memmove(rank + best, rank + best + 1, (size_t)(n - best - 1) * sizeof *rank);
        if (best > 0) rank[best - 1] = rank_of(t, id[best - 1], id[best]);
        if (best + 1 < n) rank[best] = rank_of(t, id[best], id[best + 1]);
    }
    return n;
}

/* ---- long words ---- */

static dt_status make_room(dt_bpe_room *r, int64_t n) {
    if (n <= r->capacity) return DT_OK;
    dt_bpe_room_free(r);
    const size_t size = (size_t)n;
    r->id = malloc(size * sizeof *r->id);
    r->prev = malloc(size * sizeof *r->prev);
    r->next = malloc(size * sizeof *r->next);
    r->rank = malloc(size * sizeof *r->rank);
    r->heap = malloc(3 * size * sizeof *r->heap);
    r->capacity = n;
    if (r->id && r->prev && r->next && r->rank && r->heap) return DT_OK;
    dt_bpe_room_free(r);
    return dt_fail(DT_ERR_MEMORY, "tokenizer: out of memory for a word of %lld bytes", (long long)n);
}

/* A heap entry is (rank, place): the smallest is the pair to be merged. */
static void heap_push(uint64_t *heap, int64_t *n, uint64_t entry) {
    int64_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > entry; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = entry;
}

static uint64_t heap_pop(uint64_t *heap, int64_t *n) {
    const uint64_t top = heap[0], last = heap[--*n];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* The pair that begins at `at` is another one now. */
static void renew(const dt_tokenizer *t, dt_bpe_room *r, int64_t at, int64_t *n_heap) {
    const int32_t next = r->next[at];
    r->rank[at] = next < 0 ? DT_BPE_NO_RANK : rank_of(t, r->id[at], r->id[next]);
    if (r->rank[at] != DT_BPE_NO_RANK) heap_push(r->heap, n_heap, (uint64_t)r->rank[at] << 32 | (uint64_t)at);
}

static int64_t encode_long(const dt_tokenizer *t, dt_bpe_room *r, const uint8_t *piece, int64_t n,
                           int32_t *out) {
    int64_t n_heap = 0, n_out = 0;
    for (int64_t i = 0; i < n; i++) {
        r->id[i] = t->byte_id[piece[i]];
        r->prev[i] = (int32_t)i - 1;
        r->next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (int64_t i = 0; i < n; i++) renew(t, r, i, &n_heap);
    while (n_heap > 0) {
        const uint64_t top = heap_pop(r->heap, &n_heap);
        const uint32_t rank = (uint32_t)(top >> 32);
        const int64_t at = (int64_t)(top & UINT32_MAX);
        if (r->rank[at] != rank) continue; /* a pair that is no more */
        const int32_t gone = r->next[at], next = r->next[gone];
        r->id[at] = t->merge[rank].id;
        r->next[at] = next;
        r->rank[gone] = DT_BPE_NO_RANK;
        if (next >= 0) r->prev[next] = (int32_t)at;
        renew(t, r, at, &n_heap);
        if (r->prev[at] >= 0) renew(t, r, r->prev[at], &n_heap);
    }
    for (int64_t i = 0; i >= 0; i = r->next[i]) out[n_out++] = r->id[i];
    return n_out;
}

dt_status dt_bpe_encode(const dt_tokenizer *t, dt_bpe_room *r, const uint8_t *piece, int64_t n, int32_t *out,
                        int64_t *n_out) {
    if (n <= SHORT_BYTES) {
        *n_out = encode_short(t, piece, n, out);
        return DT_OK;
    }
    if (n > DT_PIECE_BYTES_MAX)
        return dt_fail(DT_ERR_DATA, "a word of more than %d MiB", DT_PIECE_BYTES_MAX >> 20);
    DT_TRY(make_room(r, n));
    *n_out = encode_long(t, r, piece, n, out);
    return DT_OK;
}
