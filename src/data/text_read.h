/* Documents out of files, in blocks that threads take apart: plain text, JSON lines, files of tokens. */
#ifndef DT_DATA_TEXT_READ_H
#define DT_DATA_TEXT_READ_H

#include "data/tokenizer.h"

enum {
    DT_TEXT_BLOCK_BYTES = 1 << 20,
    DT_TEXT_HEAD_BYTES = 1 << 16, /* of a document, that say which part of the data it is for */
    DT_TEXT_LINE_BYTES_MAX = 256 << 20,
    DT_TEXT_FEW_FILES = 100, /* fewer are each divided, more as a whole */
};

typedef enum dt_text_kind { DT_TEXT_PLAIN = 0, DT_TEXT_LINES, DT_TEXT_WORDS } dt_text_kind;

/* A part of a document, or all of it. */
typedef struct dt_text_part {
    int64_t begin, end; /* in the block */
    bool first, last;   /* the document begins, and ends, with it */
    bool val;           /* it is for validation */
} dt_text_part;

typedef struct dt_text_block {
    dt_text_kind kind;
    const char *file;  /* borrowed */
    const char *class; /* of its documents, borrowed; NULL: they have none, or say it themselves */
    uint8_t *text;     /* [n], owned */
    int64_t n, capacity;
    dt_text_part *part; /* PLAIN: owned */
    int64_t n_parts, parts_capacity;
    int64_t
        line; /* LINES: the number of the first; each ends with a line break, but for the last of a file */
    int32_t width; /* WORDS: bytes of a token */
} dt_text_block;
void dt_text_block_free(dt_text_block *b);

typedef struct dt_text_read_options {
    const char *const *input;
    int32_t n_input;
    const char *field; /* of the JSON objects; NULL: "text" of files called .jsonl or .ndjson */
    const char *label; /* the field with a document's class; NULL: they have none, or `class` says it */
    const char *const *class;    /* [n_input] of each file, which is one document; NULL: files have none */
    const char *separator;       /* a line that ends a document of plain text; NULL: a file is one */
    double val_fraction;         /* 0: no validation part */
    dt_tokenizer_kind tokenizer; /* says where documents may be cut */
} dt_text_read_options;

typedef struct dt_text_reader dt_text_reader;
/* `o` must outlive it. DT_ERR_DATA: a file cannot be opened, or is none of these. */
dt_status dt_text_reader_open(const dt_text_read_options *o, dt_text_reader **out);
void dt_text_reader_close(dt_text_reader *r); /* accepts NULL */
/* The next block; *more false where there is none. */
dt_status dt_text_reader_next(dt_text_reader *r, dt_text_block *b, bool *more);
/* Bytes of the files that were read, and of all. */
void dt_text_reader_progress(const dt_text_reader *r, int64_t *done, int64_t *total);
/* What all files are, where they are of one kind: -1 where they are not. */
int32_t dt_text_reader_kind(const dt_text_reader *r);
/* Vocabulary and end of the tokenizer that files of tokens name in their header; false: none does. DT_ERR_DATA: they
 * differ. */
dt_status dt_text_reader_ids(const dt_text_reader *r, bool *found, int64_t *n_vocab, int64_t *end);

/* A document of a block, or what of one is in it. */
typedef struct dt_text_document {
    const uint8_t *text;
    int64_t n;
    bool first, last; /* it begins, and ends, with this */
    bool val;
    const char *class; /* NULL: it has none */
} dt_text_document;
typedef dt_status dt_text_use(void *arg, const dt_text_document *d);
/* `skip`: lines of JSON that are wrong are counted in *n_skipped instead of ending it with their number: DT_ERR_DATA. */
dt_status dt_text_block_each(const dt_text_block *b, const dt_text_read_options *o, bool skip,
                             dt_text_use *use, void *arg, int64_t *n_skipped);

#endif
