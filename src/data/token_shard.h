/* The tokens kind: text as numbers. One shard file, and a set of them, which is one stream of tokens. Format:
 * docs/data-format.md. */
#ifndef DT_DATA_TOKEN_SHARD_H
#define DT_DATA_TOKEN_SHARD_H

#include "data/h5.h"
#include "data/tokenizer.h"
#include "files.h"

#define DT_TOKENS_KIND "tokens" /* attribute `kind` of a shard */

enum { DT_TOKEN_BLOCK = 4096 }; /* tokens of a checksum */

struct dt_shard_set;

typedef struct dt_token_shard {
    char *path;
    int fd;
    int32_t width;                   /* bytes of a token: 2 or 4 */
    int64_t n_tokens, n_documents;   /* documents that begin in it */
    int64_t text_bytes;              /* of all tokens; -1: not known */
    int64_t offset, document_offset; /* bytes in the file: of the tokens; of the documents, -1: none */
    int64_t n_vocab, end;
    int64_t *checksum; /* [ceil(n_tokens / DT_TOKEN_BLOCK)]; NULL if the shard has none */
    char *tokenizer;   /* its text; NULL if the shard has none */
    int64_t n_tokenizer;
    /* Of documents with classes; 0, NULL else. */
    int64_t n_classes;
    int32_t *label;    /* [n_documents] 0 to n_classes - 1; -1: none */
    int64_t *document; /* [n_documents] where they begin */
    char *class_names; /* separated by line breaks */
} dt_token_shard;

/* Whether the file says that it holds tokens. DT_ERR_DATA: it cannot be opened. */
dt_status dt_token_shard_is(const char *path, bool *out);
/* Anything that is not a sound shard: DT_ERR_DATA with path and reason. `s` is closed by dt_token_shard_close in any
 * case. */
dt_status dt_token_shard_open(const char *path, dt_token_shard *s);
void dt_token_shard_close(dt_token_shard *s);
/* Bytes that a reader of n tokens needs for `room`. */
int64_t dt_token_room_bytes(int64_t n);
/* Tokens [begin, begin + n), of which there are as many. `verify`: with their checksums. DT_ERR_DATA: they are damaged,
 * there are no checksums, or one of them is beyond the vocabulary. Callable from several threads, each with a room. */
dt_status dt_token_shard_read(const dt_token_shard *s, int64_t begin, int64_t n, bool verify, void *room,
                              int32_t *dst);
/* Reads all of it: checksums (where there are some), ids, that documents begin where the end tokens say, the bytes of
 * the text. `t`: its tokenizer. *last: the token before it, the end where there is none; then its own last. */
dt_status dt_token_shard_verify(const dt_token_shard *s, const dt_tokenizer *t, int32_t *last);

/* What a shard is written from; borrowed. */
typedef struct dt_token_content {
    int64_t n_tokens, n_documents;
    int32_t width;           /* dt_token_width */
    const void *word;        /* [n_tokens] of that width */
    const int64_t *document; /* [n_documents] where they begin in this shard, ascending */
    const dt_tokenizer *tokenizer;
    const char *split, *source;
    int64_t n_classes;    /* 0: none */
    const int32_t *label; /* [n_documents] */
    const char *class_names;
} dt_token_content;
/* Bytes of a token in a file: 2 or 4. */
int32_t dt_token_width(int64_t n_vocab);
/* Writes it to `path`. */
dt_status dt_token_shard_write(const char *path, const dt_token_content *content);

/* A set. */
typedef struct dt_token_set {
    char *path;
    int64_t n_shards, n_tokens, n_documents, text_bytes;
    dt_token_shard *shard;
    int64_t *first;          /* [n_shards + 1] first token of each shard */
    int64_t *first_document; /* [n_shards + 1] likewise */
    dt_tokenizer *tokenizer;
    dt_tokenizer_info info;
} dt_token_set;

dt_status dt_token_set_open_set(const struct dt_shard_set *set, dt_token_set *out);
/* A directory of shards or one file. Closed by dt_token_set_close in any case. */
dt_status dt_token_set_open(const char *path, dt_token_set *out);
void dt_token_set_close(dt_token_set *s);
/* Document i of a set with classes: its tokens [begin, end), with its end, and its label. */
void dt_token_set_document(const dt_token_set *s, int64_t i, int64_t *begin, int64_t *end, int32_t *label);
/* As dt_token_shard_read, over all shards. */
dt_status dt_token_set_read(const dt_token_set *s, int64_t begin, int64_t n, bool verify, void *room,
                            int32_t *dst);

#endif
