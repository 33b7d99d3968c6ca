/* index.json of a directory of shards: which files belong to it, their sizes and hashes, and the totals for
 * people. It is written last, so its presence says that the import was finished. */
#ifndef DT_DATA_INDEX_H
#define DT_DATA_INDEX_H

#include "core/field.h"
#include "core/status.h"
#include "files.h"

#define DT_INDEX_NAME "index.json"

typedef struct dt_index_shard {
    char file[64];
    int64_t n_samples, n_bytes;
    uint64_t xxh3; /* of the whole file */
    int32_t n_data;
    dt_range data[DT_FIELDS_MAX];    /* where the samples lie; they have checksums of their own */
    uint64_t structure_xxh3;         /* of all bytes outside these ranges */
    int64_t n_documents, text_bytes; /* of tokens, as written: documents that begin in it; -1: not known */
} dt_index_shard;

/* What the index says of a set of tokens, whose count is that of its tokens. */
typedef struct dt_index_tokens {
    int64_t n_documents, text_bytes; /* -1: not known */
    int64_t n_vocab;                 /* 0: it is no set of tokens */
    int64_t end;
    uint64_t tokenizer_xxh3;
    char tokenizer[64]; /* its name, for people */
} dt_index_tokens;

typedef struct dt_index {
    int64_t n_shards;
    dt_index_shard *shard; /* owned, in the order of the files' names */
    /* Of the whole set, as read; a writer is given dt_index_facts. */
    int64_t n_samples;
    int32_t n_fields; /* of arrays; 0: images or tokens */
    dt_field field[DT_FIELDS_MAX];
    dt_index_tokens tokens;
    int64_t n_classes, shape[3]; /* of images: [H, W, C] */
    char **class_name;           /* [n_classes], owned; NULL: none */
} dt_index;

/* Facts of the whole set that index.json states besides the shards. */
typedef struct dt_index_facts {
    const char *split;
    int64_t n_samples, n_skipped;
    int32_t n_fields; /* of arrays, that have no more facts; 0: images or tokens */
    const dt_field *field;
    dt_index_tokens tokens; /* that have no more facts */
    bool jpeg;
    int64_t n_classes, height, width, channels;
    const double *mean, *stddev; /* [channels] */
    char *const *class_name;     /* [n_classes] or NULL */
} dt_index_facts;

/* DT_ERR_DATA when damaged. `found` false (and DT_OK) when the directory has none. */
dt_status dt_index_read(const char *dir, dt_index *out, bool *found);
void dt_index_free(dt_index *index);
dt_status dt_index_write(const char *dir, const dt_index *index, const dt_index_facts *facts);

/* Whether a file of this name belongs to the set that its directory holds: shard-*.h5. */
bool dt_shard_name_is(const char *name);
/* "shard-00003-of-00016.h5" */
void dt_shard_name(char *out, size_t n, int64_t i, int64_t n_shards);
/* Whether it has that form; i and n_shards may be NULL. */
bool dt_shard_name_parse(const char *name, int64_t *i, int64_t *n_shards);

/* Name, size and hashes of the shard at path, whose data ranges stand in the row. */
dt_status dt_index_shard_hash(dt_index_shard *row, const char *path, const char *name);

#endif
