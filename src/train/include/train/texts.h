/* A trained language network that goes on with several texts at once, for who serves them. */
#ifndef DT_TRAIN_TEXTS_H
#define DT_TRAIN_TEXTS_H

#include "core/backend.h"
#include "train/generate.h"

typedef struct dt_texts dt_texts;

/* A run or checkpoint of dtrain whose network was trained to go on with texts. Any other: *out NULL and DT_OK. */
dt_status dt_texts_open(const char *path, dt_backend *be, int64_t rows, dt_texts **out);
void dt_texts_close(dt_texts *t); /* accepts NULL */
dt_generator *dt_texts_generator(dt_texts *t);
const dt_tokenizer *dt_texts_tokenizer(const dt_texts *t);
/* Weights, and what `rows` texts keep. */
int64_t dt_texts_bytes(const dt_texts *t);

#endif
