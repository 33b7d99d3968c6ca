/* Encoding. Words come back again and again, so a coder remembers those that are short and make few tokens: a word
 * that it knows costs a look at one line of memory. */
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "unicode.h"

enum { CACHE_BITS = 16, CACHED_BYTES = 15, CACHED_TOKENS = 3 };

typedef struct cached {
    uint64_t word[2]; /* up to 15 bytes, then their number; 0: empty */
    int32_t n, id[CACHED_TOKENS];
} cached;

struct dt_coder {
    const dt_tokenizer *t;
    cached *cache; /* [1 << CACHE_BITS] of bpe */
    dt_bpe_room room;
};

dt_status dt_coder_new(const dt_tokenizer *t, dt_coder **out) {
    dt_coder *c = *out = calloc(1, sizeof *c);
    if (c) c->t = t;
    if (c && t->info.kind == DT_TOKENIZER_BPE) c->cache = calloc((size_t)1 << CACHE_BITS, sizeof *c->cache);
    if (c && (c->cache || t->info.kind != DT_TOKENIZER_BPE)) return DT_OK;
    free(c);
    *out = NULL;
    return dt_fail(DT_ERR_MEMORY, "tokenizer: out of memory");
}

void dt_coder_free(dt_coder *c) {
    if (!c) return;
    dt_bpe_room_free(&c->room);
    free(c->cache);
    free(c);
}

/* ---- bpe ---- */

/* The n <= 15 bytes at `at`, of a text that ends at `end`. */
static inline void load_word(const uint8_t *at, int64_t n, const uint8_t *end, uint64_t word[2]) {
    uint8_t bytes[16];
    if (end - at >= 16) {
        memcpy(word, at, 16);
        if (n < 8) {
            word[0] &= ((uint64_t)1 << 8 * n) - 1;
            word[1] = 0;
        } else {
            word[1] &= ((uint64_t)1 << 8 * (n - 8)) - 1;
        }
    } else {
        memset(bytes, 0, sizeof bytes);
        memcpy(bytes, at, (size_t)n);
        memcpy(word, bytes, 16);
    }
    word[1] |= (uint64_t)n << 56;
}

static inline cached *cache_slot(const dt_coder *c, const uint64_t word[2]) {
    const uint64_t hash = (word[0] ^ word[1] * 0x9E3779B97F4A7C15u) * 0xC4CEB9FE1A85EC53u;
    return &c->cache[hash >> (64 - CACHE_BITS)];
}

/* There is room for n tokens. */
static dt_status encode_piece(dt_coder *c, const uint8_t *at, int64_t n, const uint8_t *end, dt_tokens *out) {
    int32_t *id = out->id + out->n;
    int64_t n_id;
    if (n == 1) {
        id[0] = c->t->byte_id[*at];
        out->n++;
        return DT_OK;
    }
    if (n > CACHED_BYTES) {
        DT_TRY(dt_bpe_encode(c->t, &c->room, at, n, id, &n_id));
        out->n += n_id;
        return DT_OK;
    }
    uint64_t word[2];
    load_word(at, n, end, word);
    cached *s = cache_slot(c, word);
    if (s->word[0] != word[0] || s->word[1] != word[1]) {
        DT_TRY(dt_bpe_encode(c->t, &c->room, at, n, id, &n_id));
        out->n += n_id;
        if (n_id > CACHED_TOKENS) return DT_OK;
        *s = (cached){.word = {word[0], word[1]}, .n = (int32_t)n_id};
        memcpy(s->id, id, (size_t)n_id * sizeof *id);
        return DT_OK;
    }
    for (int32_t i = 0; i < s->n; i++) id[i] = s->id[i];
    out->n += s->n;
    return DT_OK;
}

static dt_status encode_bpe(dt_coder *c, const uint8_t *text, int64_t n, dt_tokens *out) {
    for (int64_t at = 0, end; at < n; at = end) {
        end = dt_piece_end(text, at, n);
        const dt_status status = encode_piece(c, text + at, end - at, text + n, out);
        if (status != DT_OK) return status;
    }
    return DT_OK;
}

/* ---- byte and char ---- */

static void encode_char(const dt_tokenizer *t, const uint8_t *text, int64_t n, dt_tokens *out) {
    int32_t *id = out->id + out->n;
    for (int64_t at = 0; at < n;) {
        uint32_t c;
        const int bytes = text[at] < 0x80 || !t->char_id ? 1 : dt_utf8_decode(text + at, n - at, &c);
        if (bytes > 1 && t->char_id[c] > 0)
            *id++ = t->char_id[c];
        else
            for (int i = 0; i < bytes; i++) *id++ = text[at + i];
        at += bytes;
    }
    out->n = id - out->id;
}

dt_status dt_coder_encode(dt_coder *c, const uint8_t *text, int64_t n, dt_tokens *out) {
    if (n == 0) return DT_OK;
    DT_TRY(dt_tokens_reserve(out, n));
    switch (c->t->info.kind) {
    case DT_TOKENIZER_BPE:
        return encode_bpe(c, text, n, out);
    case DT_TOKENIZER_IDS:
        return dt_fail(DT_ERR_DATA, "there is no text behind the ids of this tokenizer");
    default:
        encode_char(c->t, text, n, out);
        return DT_OK;
    }
}
