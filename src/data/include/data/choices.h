/* Questions with several endings, of which one is right: a file of JSON lines,
 *     {"ctx": "A man sits down. He", "endings": ["sings.", "flies away.", ...], "label": 0}
 * other keys are passed over, and each ending is taken with a space before it; or the .bin file that llm.c makes of HellaSwag, of tokens. */
#ifndef DT_DATA_CHOICES_H
#define DT_DATA_CHOICES_H

#include "data/tokenizer.h"

enum { DT_ENDINGS_MAX = 16, DT_CHOICES_MAX = 1 << 24 };

/* Tokens of all questions stand one after the other: a context, then its endings. */
typedef struct dt_choice {
    int64_t context; /* where its context begins */
    int64_t ending
        [DT_ENDINGS_MAX +
         1]; /* where each ending begins, and where the last one ends; ending[0] is where the context ends */
    int32_t n_ending, label; /* label: the right one */
} dt_choice;

typedef struct dt_choices {
    int64_t n;
    dt_choice *question; /* [n], owned */
    dt_tokens token;     /* owned */
} dt_choices;

/* DT_ERR_DATA with file and line, or question. `out` is to be freed in any case. */
dt_status dt_choices_read(const char *path, const dt_tokenizer *tokenizer, dt_choices *out);
void dt_choices_free(dt_choices *c); /* accepts a zeroed one */

#endif
