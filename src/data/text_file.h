/* What an input of text is, by its content and its name. */
#ifndef DT_DATA_TEXT_FILE_H
#define DT_DATA_TEXT_FILE_H

#include "text_read.h"

typedef struct dt_text_file {
    dt_text_kind kind;
    int64_t n_bytes; /* of the file */
    int64_t n_text;  /* PLAIN: of its text, where that was asked for and is not the file itself: counted */
    /* WORDS */
    int64_t offset, n_tokens;
    int32_t width;
    int64_t n_vocab, end; /* of the tokenizer that the header names; 0: none */
} dt_text_file;

/* DT_ERR_DATA with the path. `field`: as in dt_text_read_options. */
dt_status dt_text_file_look(const char *path, const char *field, dt_text_file *out);
/* Bytes of what is in a packed file, which is read for it. */
dt_status dt_text_file_count(const char *path, int64_t *n);

#endif
