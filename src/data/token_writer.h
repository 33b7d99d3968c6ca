/* A stream of tokens that becomes the shards of a set: each is written when it is full, and all get their names once it
 * is known how many they are. */
#ifndef DT_DATA_TOKEN_WRITER_H
#define DT_DATA_TOKEN_WRITER_H

#include "data/import.h"
#include "data/tokenizer.h"
#include "import_dir.h"
#include "index.h"
#include "text_classes.h"

typedef struct dt_token_writer {
    /* Borrowed. */
    const dt_tokenizer *tokenizer;
    const char *split;
    const char *dir;
    int64_t shard_bytes;
    int64_t n_classes;       /* 0: none */
    const char *class_names; /* separated by line breaks */
    /* Its own. */
    dt_text_labels
        labels; /* of documents that begin in this shard, then of those that follow; added before their tokens */
    dt_import_dir place;
    char origin[64];
    int32_t width;
    int64_t end;
    uint8_t *word; /* [n_tokens] of this shard */
    int64_t n_tokens, capacity;
    int64_t *document;
    int64_t n_documents, documents_capacity;
    bool fresh; /* the next token begins a document */
    int64_t n_shards;
    dt_index index;
    bool kept; /* the directory has this very set */
} dt_token_writer;

/* Takes the directory. `identity`: hash of all that decides what is written. Where this very import was finished there
 * before, w->kept says so, and nothing is to be written. Closed by dt_token_writer_close in any case. */
dt_status dt_token_writer_open(dt_token_writer *w, const char *kind, uint64_t identity);
/* Appends; the end of the tokenizer ends a document. */
dt_status dt_token_writer_add(dt_token_writer *w, const int32_t *id, int64_t n);
/* Writes what is left, names the shards and writes the index; adds to the result. DT_ERR_DATA: there are no tokens. */
dt_status dt_token_writer_finish(dt_token_writer *w, int64_t n_skipped, dt_import_result *result);
void dt_token_writer_close(dt_token_writer *w);

#endif
