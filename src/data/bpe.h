/* What tokenizer.c, bpe.c and their kin share. */
#ifndef DT_DATA_BPE_H
#define DT_DATA_BPE_H

#include "data/tokenizer.h"

/* A merge: its rank is its place in the list. */
typedef struct dt_merge {
    int32_t left, right, id; /* two tokens, and the token of both */
} dt_merge;

typedef struct dt_pair_slot {
    int32_t left, right; /* left -1: empty */
    uint32_t rank;
    int32_t id;
} dt_pair_slot;

struct dt_tokenizer {
    dt_tokenizer_info info;
    /* What tokens are in bytes: those of id are bytes[offset[id]] up to bytes[offset[id + 1]]. NULL: ids. */
    uint8_t *bytes;
    int64_t *offset;
    int32_t *char_id; /* char: [0x110000], 0: none */
    /* bpe */
    int32_t byte_id[256];
    dt_merge *merge;    /* [info.n_merges] */
    dt_pair_slot *slot; /* [mask + 1] */
    uint32_t mask;
    bool permuted; /* ids are not in the order of the merges */
};

#define DT_BPE_NO_RANK UINT32_MAX

static inline uint32_t dt_pair_hash(int32_t left, int32_t right) {
    return (uint32_t)(((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u >> 32);
}

/* The merge of two tokens, NULL where there is none. */
static inline const dt_pair_slot *dt_pair_find(const dt_tokenizer *t, int32_t left, int32_t right) {
    for (uint32_t i = dt_pair_hash(left, right);; i++) {
        const dt_pair_slot *s = &t->slot[i & t->mask];
        if (s->left == left && s->right == right) return s;
        if (s->left < 0) return NULL;
    }
}

/* GPT-2's letters: byte b is written as the character dt_bpe_letter[b] and has the id dt_bpe_byte_id[b], which is the
 * place of that character among all 256. */
uint32_t dt_bpe_letter(int byte);
int32_t dt_bpe_byte_id(int byte);
/* The byte of a letter, -1 where it is none. */
int dt_bpe_letter_byte(uint32_t letter);

/* bpe_build.c: a tokenizer that grows by a merge at a time. */
typedef struct dt_bpe_builder dt_bpe_builder;
dt_status dt_bpe_builder_new(dt_bpe_builder **out);
void dt_bpe_builder_free(dt_bpe_builder *b); /* accepts NULL */
/* Tokens so far. */
int64_t dt_bpe_builder_count(const dt_bpe_builder *b);
/* The token of these bytes, -1 where there is none. */
int32_t dt_bpe_builder_find(const dt_bpe_builder *b, const uint8_t *bytes, int64_t n);
/* Adds the merge of two tokens; its id is the number of tokens so far. DT_ERR_DATA, without a place: it makes a token
 * that is there. */
dt_status dt_bpe_builder_add(dt_bpe_builder *b, int32_t left, int32_t right);
/* The tokenizer so far, which the builder goes on to own: to split the bytes of the next token. */
dt_status dt_bpe_builder_split(dt_bpe_builder *b, const uint8_t *bytes, int64_t n, dt_tokens *out);
/* Gives every token another id, [256 + merges + 1] by their order, the end last; a permutation. */
dt_status dt_bpe_builder_permute(dt_bpe_builder *b, const int32_t *id);
/* Appends the end and hands the tokenizer over; the builder is empty then. */
dt_status dt_bpe_builder_finish(dt_bpe_builder *b, dt_tokenizer **out);

/* Merges as text, one a line, each two tokens in GPT-2's letters with a blank between. DT_ERR_DATA with `what` and the
 * line. `first`: the number of the first line. */
dt_status dt_bpe_merges_read(const char *what, const char *text, size_t n, int64_t first, dt_bpe_builder *b);

/* tokenizer.c: completes info (name, hash). */
dt_status dt_tokenizer_settle(dt_tokenizer *t);

/* bpe.c: the tokens of one word: `room` is of the coder or the builder. */
typedef struct dt_bpe_room {
    int32_t *id, *prev, *next; /* [capacity] */
    uint32_t *rank;
    uint64_t *heap; /* [3 * capacity] */
    int64_t capacity;
} dt_bpe_room;
void dt_bpe_room_free(dt_bpe_room *r);
/* Writes at most n tokens to out; their number. */
dt_status dt_bpe_encode(const dt_tokenizer *t, dt_bpe_room *r, const uint8_t *piece, int64_t n, int32_t *out,
                        int64_t *n_out);

#endif
