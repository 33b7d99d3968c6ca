/* Words are counted once, as lists of tokens. Each pair knows how often it stands there and in which words, so that a
 * merge looks at these alone; a heap has the pairs by their counts, which may be stale and are then put right. */
#include "bpe_train.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bpe.h"
#include "unicode.h"

enum { FIRST_SLOTS = 1 << 16 };

typedef struct word {
    int64_t begin; /* of its bytes, then of its tokens */
    int64_t count;
    int32_t n;
} word;

typedef struct pair {
    int32_t left, right;
    int64_t count;
    int32_t *in; /* [n_in] words that it may stand in */
    int32_t n_in, capacity;
} pair;

typedef struct ranked {
    int64_t count;
    int32_t pair;
} ranked;

struct dt_bpe_trainer {
    word *word;
    int64_t n_words, words_capacity;
    uint8_t *bytes;
    int64_t n_bytes, bytes_capacity;
    int32_t *token; /* [n_bytes] */
    int32_t *slot;  /* [mask + 1] words by hash, then pairs; -1: empty */
    uint64_t mask;
    pair *pair;
    int64_t n_pairs, pairs_capacity;
    ranked *heap;
    int64_t n_heap, heap_capacity;
    dt_bpe_builder *builder;
};

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "out of memory for learning a tokenizer");
}

/* Room for one more of `size` bytes. */
static bool grow(void **array, int64_t n, int64_t *capacity, size_t size) {
    if (n < *capacity) return true;
    const int64_t wanted = *capacity ? 2 * *capacity : 1024;
    void *grown = realloc(*array, (size_t)wanted * size);
    if (!grown) return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

static bool new_slots(dt_bpe_trainer *t, uint64_t n) {
    free(t->slot);
    t->slot = malloc((size_t)n * sizeof *t->slot);
    if (!t->slot) return false;
    memset(t->slot, -1, (size_t)n * sizeof *t->slot);
    t->mask = n - 1;
    return true;
}

dt_status dt_bpe_trainer_new(dt_bpe_trainer **out) {
    dt_bpe_trainer *t = *out = calloc(1, sizeof *t);
    return t && new_slots(t, FIRST_SLOTS) ? DT_OK : no_memory();
}

void dt_bpe_trainer_free(dt_bpe_trainer *t) {
    if (!t) return;
    for (int64_t i = 0; i < t->n_pairs; i++) free(t->pair[i].in);
    dt_bpe_builder_free(t->builder);
    free(t->word);
    free(t->bytes);
    free(t->token);
    free(t->slot);
    free(t->pair);
    free(t->heap);
    free(t);
}

/* ---- counting words ---- */

static bool rehash_words(dt_bpe_trainer *t) {
    if (!new_slots(t, 2 * (t->mask + 1))) return false;
    for (int64_t i = 0; i < t->n_words; i++) {
        uint64_t at = XXH3_64bits(t->bytes + t->word[i].begin, (size_t)t->word[i].n) & t->mask;
        while (t->slot[at] >= 0) at = (at + 1) & t->mask;
        t->slot[at] = (int32_t)i;
    }
    return true;
}

static dt_status add_word(dt_bpe_trainer *t, const uint8_t *text, int64_t n) {
    uint64_t at = XXH3_64bits(text, (size_t)n) & t->mask;
    for (; t->slot[at] >= 0; at = (at + 1) & t->mask) {
        word *w = &t->word[t->slot[at]];
        if (w->n == n && memcmp(t->bytes + w->begin, text, (size_t)n) == 0) {
            w->count++;
            return DT_OK;
        }
    }
    if (t->n_bytes + n > t->bytes_capacity) {
        const int64_t capacity = 2 * (t->n_bytes + n);
        uint8_t *grown = realloc(t->bytes, (size_t)capacity);
        if (!grown) return no_memory();
        t->bytes = grown;
        t->bytes_capacity = capacity;
    }
    if (t->n_words == INT32_MAX || !grow((void **)&t->word, t->n_words, &t->words_capacity, sizeof *t->word))
        return no_memory();
    memcpy(t->bytes + t->n_bytes, text, (size_t)n);
    t->slot[at] = (int32_t)t->n_words;
    t->word[t->n_words++] = (word){t->n_bytes, 1, (int32_t)n};
    t->n_bytes += n;
    return 2 * (uint64_t)t->n_words <= t->mask || rehash_words(t) ? DT_OK : no_memory();
}

dt_status dt_bpe_trainer_add(dt_bpe_trainer *t, const uint8_t *text, int64_t n) {
    for (int64_t at = 0, end; at < n; at = end) {
        end = dt_piece_end(text, at, n);
        for (int64_t part = at, size; part < end; part += size) {
            size = dt_min_i64(end - part, DT_BPE_TRAIN_PIECE_BYTES);
            if (size > 1) DT_TRY(add_word(t, text + part, size)); /* one byte has no pair */
        }
    }
    return DT_OK;
}

/* ---- pairs ---- */

static bool rehash_pairs(dt_bpe_trainer *t) {
    if (!new_slots(t, 2 * (t->mask + 1))) return false;
    for (int64_t i = 0; i < t->n_pairs; i++) {
        uint64_t at = dt_pair_hash(t->pair[i].left, t->pair[i].right) & t->mask;
        while (t->slot[at] >= 0) at = (at + 1) & t->mask;
        t->slot[at] = (int32_t)i;
    }
    return true;
}

/* The pair, made where it is new; -1 when out of memory. */
static int32_t find_pair(dt_bpe_trainer *t, int32_t left, int32_t right) {
    uint64_t at = dt_pair_hash(left, right) & t->mask;
    for (; t->slot[at] >= 0; at = (at + 1) & t->mask) {
        const pair *p = &t->pair[t->slot[at]];
        if (p->left == left && p->right == right) return t->slot[at];
    }
    if (t->n_pairs == INT32_MAX || !grow((void **)&t->pair, t->n_pairs, &t->pairs_capacity, sizeof *t->pair))
        return -1;
    const int32_t i = (int32_t)t->n_pairs++;
    t->slot[at] = i;
    t->pair[i] = (pair){.left = left, .right = right};
    return 2 * (uint64_t)t->n_pairs <= t->mask || rehash_pairs(t) ? i : -1;
}

/* `by` more of the pair in word w, or fewer. */
static dt_status count_pair(dt_bpe_trainer *t, int32_t left, int32_t right, int64_t by, int32_t w) {
    const int32_t i = find_pair(t, left, right);
    if (i < 0) return no_memory();
    pair *p = &t->pair[i];
    p->count += by;
    if (by < 0 || (p->n_in > 0 && p->in[p->n_in - 1] == w)) return DT_OK;
    if (p->n_in == p->capacity) {
        const int32_t capacity = p->capacity ? 2 * p->capacity : 2;
        int32_t *grown = realloc(p->in, (size_t)capacity * sizeof *grown);
        if (!grown) return no_memory();
        p->in = grown;
        p->capacity = capacity;
    }
    p->in[p->n_in++] = w;
    return DT_OK;
}

/* Whether a comes before b. */
static bool is_before(const dt_bpe_trainer *t, const ranked *a, const ranked *b) {
    if (a->count != b->count) return a->count > b->count;
    const pair *p = &t->pair[a->pair], *q = &t->pair[b->pair];
    return p->left != q->left ? p->left < q->left : p->right < q->right;
}

static dt_status heap_push(dt_bpe_trainer *t, int32_t i) {
    const ranked entry = {t->pair[i].count, i};
    if (entry.count < 2) return DT_OK;
    if (!grow((void **)&t->heap, t->n_heap, &t->heap_capacity, sizeof *t->heap)) return no_memory();
    int64_t at = t->n_heap++;
    for (; at > 0 && is_before(t, &entry, &t->heap[(at - 1) / 2]); at = (at - 1) / 2)
        t->heap[at] = t->heap[(at - 1) / 2];
    t->heap[at] = entry;
    return DT_OK;
}

static ranked heap_pop(dt_bpe_trainer *t) {
    const ranked top = t->heap[0], last = t->heap[--t->n_heap];
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < t->n_heap; at = child) {
        if (child + 1 < t->n_heap && is_before(t, &t->heap[child + 1], &t->heap[child])) child++;
        if (!is_before(t, &t->heap[child], &last)) break;
        t->heap[at] = t->heap[child];
    }
    t->heap[at] = last;
    return top;
}

/* ---- merging ---- */

/* Words become tokens, and pairs are counted. */
static dt_status begin(dt_bpe_trainer *t) {
    free(t->slot);
    t->slot = NULL;
    t->token = malloc((size_t)dt_max_i64(t->n_bytes, 1) * sizeof *t->token);
    if (!t->token || !new_slots(t, FIRST_SLOTS)) return no_memory();
    for (int64_t i = 0; i < t->n_bytes; i++) t->token[i] = dt_bpe_byte_id(t->bytes[i]);
    free(t->bytes);
    t->bytes = NULL;
    for (int64_t i = 0; i < t->n_words; i++) {
        const word *w = &t->word[i];
        const int32_t *token = t->token + w->begin;
        for (int32_t k = 0; k + 1 < w->n; k++)
            DT_TRY(count_pair(t, token[k], token[k + 1], w->count, (int32_t)i));
    }
    for (int64_t i = 0; i < t->n_pairs; i++) DT_TRY(heap_push(t, (int32_t)i));
    return DT_OK;
}

static dt_status merge_in_word(dt_bpe_trainer *t, int32_t at, int32_t left, int32_t right, int32_t id) {
    word *w = &t->word[at];
    int32_t *token = t->token + w->begin, n = 0;
    for (int32_t i = 0; i < w->n; i++) {
        if (i + 1 == w->n || token[i] != left || token[i + 1] != right) {
            token[n++] = token[i];
            continue;
        }
        if (n > 0) {
            DT_TRY(count_pair(t, token[n - 1], left, -w->count, at));
            DT_TRY(count_pair(t, token[n - 1], id, w->count, at));
        }
        if (i + 2 < w->n) {
            DT_TRY(count_pair(t, right, token[i + 2], -w->count, at));
            DT_TRY(count_pair(t, id, token[i + 2], w->count, at));
        }
        token[n++] = id;
        i++;
    }
    w->n = n;
    return DT_OK;
}

static dt_status merge(dt_bpe_trainer *t, int32_t at) {
    const int32_t left = t->pair[at].left, right = t->pair[at].right,
                  id = (int32_t)dt_bpe_builder_count(t->builder), n_in = t->pair[at].n_in;
    int32_t *in = t->pair[at].in;
    t->pair[at].in = NULL; /* what is appended meanwhile belongs to no place that is left */
    t->pair[at].n_in = t->pair[at].capacity = 0;
    dt_status status = dt_bpe_builder_add(t->builder, left, right);
    const int64_t n_before = t->n_pairs;
    if (status == DT_ERR_DATA) { /* the same bytes are a token by another merge */
        dt_error_set_text("");
        status = DT_OK;
    } else {
        for (int32_t i = 0; i < n_in && status == DT_OK; i++)
            status = merge_in_word(t, in[i], left, right, id);
        for (int64_t i = n_before; i < t->n_pairs && status == DT_OK; i++) status = heap_push(t, (int32_t)i);
    }
    t->pair[at].count = 0;
    free(in);
    return status;
}

dt_status dt_bpe_trainer_finish(dt_bpe_trainer *t, int64_t n_vocab, dt_tokenizer **out) {
    *out = NULL;
    if (n_vocab < DT_BPE_VOCAB_MIN || n_vocab > DT_TOKENIZER_VOCAB_MAX)
        return dt_fail(DT_ERR_USAGE,
                       "bpe:%lld: expected %d (the bytes and the end of a document) to %d tokens",
                       (long long)n_vocab, DT_BPE_VOCAB_MIN, DT_TOKENIZER_VOCAB_MAX);
    DT_TRY(dt_bpe_builder_new(&t->builder));
    DT_TRY(begin(t));
    while (t->n_heap > 0 && dt_bpe_builder_count(t->builder) + 1 < n_vocab) {
        const ranked top = heap_pop(t);
        if (t->pair[top.pair].count != top.count)
            DT_TRY(heap_push(t, top.pair)); /* it was stale */
        else
            DT_TRY(merge(t, top.pair));
    }
    return dt_bpe_builder_finish(t->builder, out);
}
