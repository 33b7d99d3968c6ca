/* The course of an import of text, as import.c has that of images. */
#ifndef DT_DATA_TEXT_IMPORT_H
#define DT_DATA_TEXT_IMPORT_H

#include "data/import.h"
#include "data/tokenizer.h"
#include "text_classes.h"
#include "text_read.h"

/* Options that are not for text have been refused. */
dt_status dt_import_text(const dt_import_options *o, const char *kind, dt_import_result *out);

/* text_tokenizer.c: the tokenizer that o->tokenizer names, learnt from what is for training where it says so. */
dt_status dt_text_tokenizer(const dt_import_options *o, dt_text_read_options *read, dt_tokenizer **out);

/* text_threads.c: reads all blocks and encodes them in threads; they come back in their order, with the tokens for
 * training and for validation, an end after each document, and with classes the labels of those that begin. */
typedef struct dt_text_part_of {
    dt_tokens tokens;
    dt_text_labels labels;
} dt_text_part_of;
typedef dt_status dt_text_take(void *arg, const dt_text_part_of part[2]);
/* Called by the thread that calls this. *n_skipped: lines that were left out. */
dt_status dt_text_encode_all(const dt_import_options *o, const dt_text_read_options *read,
                             const dt_tokenizer *t, const dt_class_names *classes, dt_text_take *take,
                             void *arg, int64_t *n_skipped);

#endif
