/* A vocabulary of merges, made one after the other. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bpe.h"

enum { FIRST_TOKENS = 1024, FIRST_BYTES = 1 << 14 };

struct dt_bpe_builder {
    dt_tokenizer *t;
    int64_t n, capacity; /* tokens */
    int64_t bytes_capacity;
    int32_t *find; /* [find_mask + 1] tokens by a hash of their bytes; -1: empty */
    uint32_t find_mask;
    dt_bpe_room room;
};

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "tokenizer: out of memory");
}

/* ---- GPT-2's letters ---- */

static bool is_itself(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

enum { N_THEMSELVES = 94 + 12 + 82 };

/* How many bytes below this one are not their own letter. */
static int others_below(int byte) {
    return byte <= 32 ? byte : byte <= 126 ? 33 : byte <= 160 ? 33 + byte - 127 : byte <= 173 ? 67 : 68;
}

uint32_t dt_bpe_letter(int byte) {
    return (uint32_t)(is_itself(byte) ? byte : 256 + others_below(byte));
}

int32_t dt_bpe_byte_id(int byte) {
    return is_itself(byte) ? byte - others_below(byte) : N_THEMSELVES + others_below(byte);
}

int dt_bpe_letter_byte(uint32_t letter) {
    for (int b = 0; letter < 256 + 68 && b < 256; b++)
        if (dt_bpe_letter(b) == letter) return b;
    return -1;
}

/* ---- tokens and pairs ---- */

static void put_find(dt_bpe_builder *b, int32_t id) {
    const dt_tokenizer *t = b->t;
    const uint64_t hash = XXH3_64bits(t->bytes + t->offset[id], (size_t)(t->offset[id + 1] - t->offset[id]));
    uint32_t i = (uint32_t)hash & b->find_mask;
    while (b->find[i] >= 0) i = (i + 1) & b->find_mask;
    b->find[i] = id;
}

static void put_pair(dt_tokenizer *t, const dt_merge *m, uint32_t rank) {
    uint32_t i = dt_pair_hash(m->left, m->right) & t->mask;
    while (t->slot[i].left >= 0) i = (i + 1) & t->mask;
    t->slot[i] = (dt_pair_slot){m->left, m->right, rank, m->id};
}

/* Tables of twice the tokens or more, filled anew. */
static dt_status make_tables(dt_bpe_builder *b) {
    dt_tokenizer *t = b->t;
    const size_t size = 2 * (size_t)b->capacity;
    free(b->find);
    free(t->slot);
    b->find = malloc(size * sizeof *b->find);
    t->slot = malloc(size * sizeof *t->slot);
    if (!b->find || !t->slot) return no_memory();
    b->find_mask = t->mask = (uint32_t)size - 1;
    memset(b->find, -1, size * sizeof *b->find);
    memset(t->slot, -1, size * sizeof *t->slot);
    for (int64_t id = 0; id < b->n; id++) put_find(b, (int32_t)id);
    for (int32_t i = 0; i < t->info.n_merges; i++) put_pair(t, &t->merge[i], (uint32_t)i);
    return DT_OK;
}

/* Room for a token more of that many bytes. */
static dt_status grow(dt_bpe_builder *b, int64_t bytes) {
    dt_tokenizer *t = b->t;
    if (t->offset[b->n] + bytes > b->bytes_capacity) {
        const int64_t capacity = 2 * (t->offset[b->n] + bytes);
        uint8_t *grown = realloc(t->bytes, (size_t)capacity);
        if (!grown) return no_memory();
        t->bytes = grown;
        b->bytes_capacity = capacity;
    }
    if (b->n + 1 < b->capacity) return DT_OK; /* the end comes too */
    if (b->n + 1 >= DT_TOKENIZER_VOCAB_MAX)
        return dt_fail(DT_ERR_DATA, "more than %d tokens", DT_TOKENIZER_VOCAB_MAX);
    const size_t capacity = 2 * (size_t)b->capacity;
    int64_t *offset = realloc(t->offset, (capacity + 1) * sizeof *offset);
    if (offset) t->offset = offset;
    dt_merge *merge = realloc(t->merge, capacity * sizeof *merge);
    if (merge) t->merge = merge;
    if (!offset || !merge) return no_memory();
    b->capacity = (int64_t)capacity;
    return make_tables(b);
}

static void append(dt_bpe_builder *b, const uint8_t *bytes, int64_t n) {
    dt_tokenizer *t = b->t;
    memcpy(t->bytes + t->offset[b->n], bytes, (size_t)n);
    t->offset[b->n + 1] = t->offset[b->n] + n;
    put_find(b, (int32_t)b->n++);
}

dt_status dt_bpe_builder_new(dt_bpe_builder **out) {
    dt_bpe_builder *b = calloc(1, sizeof *b);
    dt_tokenizer *t = b ? b->t = calloc(1, sizeof *t) : NULL;
    *out = b;
    if (!t) return no_memory();
    t->info.kind = DT_TOKENIZER_BPE;
    b->capacity = FIRST_TOKENS;
    b->bytes_capacity = FIRST_BYTES;
    t->bytes = malloc(FIRST_BYTES);
    t->offset = calloc(FIRST_TOKENS + 1, sizeof *t->offset);
    t->merge = malloc(FIRST_TOKENS * sizeof *t->merge);
    if (!t->bytes || !t->offset || !t->merge) return no_memory();
    DT_TRY(make_tables(b));
    uint8_t letter[256];
    for (int byte = 0; byte < 256; byte++) {
        t->byte_id[byte] = dt_bpe_byte_id(byte);
        letter[t->byte_id[byte]] = (uint8_t)byte;
    }
    for (int id = 0; id < 256; id++) append(b, &letter[id], 1);
    return DT_OK;
}

void dt_bpe_builder_free(dt_bpe_builder *b) {
    if (!b) return;
    dt_tokenizer_close(b->t);
    dt_bpe_room_free(&b->room);
    free(b->find);
    free(b);
}

int64_t dt_bpe_builder_count(const dt_bpe_builder *b) {
    return b->n;
}

int32_t dt_bpe_builder_find(const dt_bpe_builder *b, const uint8_t *bytes, int64_t n) {
    const dt_tokenizer *t = b->t;
    for (uint32_t i = (uint32_t)XXH3_64bits(bytes, (size_t)n) & b->find_mask; b->find[i] >= 0;
         i = (i + 1) & b->find_mask) {
        const uint8_t *other;
        const int32_t id = b->find[i];
        if (dt_tokenizer_bytes(t, id, &other) == n && memcmp(other, bytes, (size_t)n) == 0) return id;
    }
    return -1;
}

dt_status dt_bpe_builder_add(dt_bpe_builder *b, int32_t left, int32_t right) {
    dt_tokenizer *t = b->t;
    const uint8_t *l, *r;
    const int64_t n_left = dt_tokenizer_bytes(t, left, NULL), n_right = dt_tokenizer_bytes(t, right, NULL),
                  n = n_left + n_right;
    if (n > DT_PIECE_BYTES_MAX)
        return dt_fail(DT_ERR_DATA, "a token of more than %d MiB", DT_PIECE_BYTES_MAX >> 20);
    DT_TRY(grow(b, n));
    dt_tokenizer_bytes(t, left, &l);
    dt_tokenizer_bytes(t, right, &r);
    uint8_t *bytes = t->bytes + t->offset[b->n];
    memcpy(bytes, l, (size_t)n_left);
    memcpy(bytes + n_left, r, (size_t)n_right);
    const int32_t twin = dt_bpe_builder_find(b, bytes, n);
    if (twin >= 0) return dt_fail(DT_ERR_DATA, "makes the token %d, which is there already", twin);
    t->offset[b->n + 1] = t->offset[b->n] + n;
    const dt_merge m = {left, right, (int32_t)b->n};
    t->merge[t->info.n_merges] = m;
    put_pair(t, &m, (uint32_t)t->info.n_merges++);
    put_find(b, (int32_t)b->n++);
    return DT_OK;
}

dt_status dt_bpe_builder_split(dt_bpe_builder *b, const uint8_t *bytes, int64_t n, dt_tokens *out) {
    DT_TRY(dt_tokens_reserve(out, n));
    int64_t n_out = 0;
    DT_TRY(dt_bpe_encode(b->t, &b->room, bytes, n, out->id + out->n, &n_out));
    out->n += n_out;
    return DT_OK;
}

dt_status dt_bpe_builder_permute(dt_bpe_builder *b, const int32_t *id) {
    dt_tokenizer *t = b->t;
    const int64_t n = b->n, total = t->offset[n];
    int64_t *offset = calloc((size_t)b->capacity + 1, sizeof *offset), at = 0;
    uint8_t *bytes = malloc((size_t)b->bytes_capacity);
    int32_t *old = malloc((size_t)(n + 1) * sizeof *old);
    dt_status status = offset && bytes && old ? DT_OK : no_memory();
    for (int64_t i = 0; i <= n && status == DT_OK; i++) old[id[i]] = (int32_t)i;
    for (int64_t i = 0; i <= n && status == DT_OK; i++) {
        const int32_t k = old[i];
        const int64_t size = k < n ? t->offset[k + 1] - t->offset[k] : 0;
        memcpy(bytes + at, t->bytes + (k < n ? t->offset[k] : total), (size_t)size);
        offset[i] = at;
        at += size;
    }
    if (status == DT_OK) {
        offset[n + 1] = at;
        for (int i = 0; i < 256; i++) t->byte_id[i] = id[t->byte_id[i]];
        for (int32_t i = 0; i < t->info.n_merges; i++) {
            dt_merge *m = &t->merge[i];
            *m = (dt_merge){id[m->left], id[m->right], id[m->id]};
        }
        t->info.end = id[n];
        for (int64_t i = 0; i <= n; i++) t->permuted = t->permuted || id[i] != i;
        free(t->offset);
        free(t->bytes);
        t->offset = offset, offset = NULL;
        t->bytes = bytes, bytes = NULL;
        memset(t->slot, -1, ((size_t)t->mask + 1) * sizeof *t->slot);
        for (int32_t i = 0; i < t->info.n_merges; i++) put_pair(t, &t->merge[i], (uint32_t)i);
    }
    free(offset);
    free(bytes);
    free(old);
    return status;
}

dt_status dt_bpe_builder_finish(dt_bpe_builder *b, dt_tokenizer **out) {
    dt_tokenizer *t = b->t;
    *out = NULL;
    if (!t->permuted) {
        t->info.end = (int32_t)b->n;
        t->offset[b->n + 1] = t->offset[b->n];
    }
    t->info.n_vocab = (int32_t)b->n + 1;
    DT_TRY(dt_tokenizer_settle(t));
    b->t = NULL;
    *out = t;
    return DT_OK;
}
