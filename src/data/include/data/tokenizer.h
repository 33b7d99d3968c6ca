/* Tokenizers: text into numbers and back. Every one gives back the bytes that it was given, whatever they are, and
 * has one token more, which stands for the end of a document and is no text.
 *
 * byte  a token a byte: 0 to 255
 * char  the same, and one for each of a list of characters beyond ASCII; other characters stay bytes
 * bpe   words are cut out by GPT-2's pattern (unicode.h), then pairs are merged in the order in which they were learnt.
 *       Ids are those of GPT-2's files: its 256 letters, the merges in their order, the end. A byte that belongs to no
 *       character counts as a character that is neither letter, number nor space
 * ids   no text: numbers of a tokenizer that is not known */
#ifndef DT_DATA_TOKENIZER_H
#define DT_DATA_TOKENIZER_H

#include "core/status.h"
#include "core/types.h"

typedef enum dt_tokenizer_kind {
    DT_TOKENIZER_BYTE = 0,
    DT_TOKENIZER_CHAR,
    DT_TOKENIZER_BPE,
    DT_TOKENIZER_IDS
} dt_tokenizer_kind;

#define DT_TOKENIZER_END_TEXT "<|endoftext|>" /* what the end is called in vocabularies */

enum {
    DT_TOKENIZER_VOCAB_MAX = 1 << 24,
    DT_PIECE_BYTES_MAX = 16 << 20, /* of one word */
};

typedef struct dt_tokenizer dt_tokenizer; /* immutable, shared by threads */

typedef struct dt_tokenizer_info {
    dt_tokenizer_kind kind;
    int32_t n_vocab;  /* ids are 0 to n_vocab - 1 */
    int32_t end;      /* the id of the end of a document; ids: -1 where there is none */
    int32_t n_merges; /* bpe */
    uint64_t xxh3;    /* of dt_tokenizer_text: what tells tokenizers apart */
    char name[48];    /* "bpe, 4096 tokens" */
} dt_tokenizer_info;

dt_status dt_tokenizer_byte(dt_tokenizer **out);
/* `code`: [n] ascending code points from 0x80 on, no surrogates. */
dt_status dt_tokenizer_char(const uint32_t *code, int64_t n, dt_tokenizer **out);
/* `end` -1: none. */
dt_status dt_tokenizer_ids(int64_t n_vocab, int64_t end, dt_tokenizer **out);
/* GPT-2's files: `merges` is merges.txt (vocab.bpe), or a .tiktoken file; `vocab` vocab.json (encoder.json), which
 * says the ids, or NULL: they are in the order of the merges. DT_ERR_DATA with file and line. */
dt_status dt_tokenizer_read(const char *merges, const char *vocab, dt_tokenizer **out);
/* The tokenizer as a JSON object, without a line break at its end; caller frees. */
dt_status dt_tokenizer_text(const dt_tokenizer *t, char **out);
/* `what`: stands in front of errors, which are DT_ERR_DATA. */
dt_status dt_tokenizer_parse(const char *what, const char *text, size_t n, dt_tokenizer **out);
void dt_tokenizer_close(dt_tokenizer *t); /* accepts NULL */

void dt_tokenizer_info_get(const dt_tokenizer *t, dt_tokenizer_info *out);
/* The bytes of a token, 0 of the end and of ids; `bytes` may be NULL. 0 <= id < n_vocab. */
int32_t dt_tokenizer_bytes(const dt_tokenizer *t, int32_t id, const uint8_t **bytes);

typedef struct dt_tokens {
    int32_t *id; /* owned: free() */
    int64_t n, capacity;
} dt_tokens;
/* Room for n more. */
dt_status dt_tokens_reserve(dt_tokens *t, int64_t n);

/* One thread's memory of words that it has met. */
typedef struct dt_coder dt_coder;
/* `t` must outlive it. */
dt_status dt_coder_new(const dt_tokenizer *t, dt_coder **out);
void dt_coder_free(dt_coder *c); /* accepts NULL */
/* Appends the tokens of a whole document, without its end. DT_ERR_DATA: a word of more than DT_PIECE_BYTES_MAX, or ids,
 * which have no text. */
dt_status dt_coder_encode(dt_coder *c, const uint8_t *text, int64_t n, dt_tokens *out);
/* Where a document may be cut so that its parts, encoded apart by a tokenizer of this kind, give the tokens of the whole:
 * the last such place in its first n bytes, 0 where there is none. */
int64_t dt_tokenizer_cut(dt_tokenizer_kind kind, const uint8_t *text, int64_t n);

#endif
