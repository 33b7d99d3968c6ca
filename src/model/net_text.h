/* What networks of text share: their sizes out of a row and the keys of [model], and what they read. Private to the room. */
#ifndef DT_MODEL_NET_TEXT_H
#define DT_MODEL_NET_TEXT_H

#include "nets.h"

/* A network while it grows. */
typedef struct dt_text_net {
    dt_builder *b;
    dt_vid tokens; /* i32 [B,T] */
    int64_t vocab; /* rows of the table of words */
    int64_t blocks, channels, heads, kv_heads, hidden, positions;
    double dropout;
} dt_text_net;

/* Sizes from the row, where the keys do not give others. `hidden`: of `channels` that are set. `tasks`: names that it is for,
 * with NULL after the last. */
void dt_text_open(dt_text_net *n, dt_builder *b, dt_vid tokens, const dt_model_options *o,
                  const dt_text_shape *shape, int64_t hidden(int64_t channels), const char *const *tasks);
/* "<prefix><suffix>", cut short in no network. */
typedef struct dt_text_name {
    char s[DT_NAME_MAX];
} dt_text_name;
dt_text_name dt_text_join(const char *prefix, const char *suffix);
/* x + y, y after dropout. */
dt_vid dt_text_residual(dt_text_net *n, const char *block, const char *name, dt_vid x, dt_vid y);
/* The field of whole numbers, -1 where the data has none. */
dt_vid dt_text_field(const dt_text_net *n, const char *name);
/* All weights begin as N(0, std^2), but those whose names end with `scaled` [NULL after the last], which end the branch of
 * a block: their std is divided by sqrt(2 blocks), so that the sum of all branches does not grow (GPT-2). Biases begin at 0. */
void dt_text_init(dt_text_net *n, double std, const char *const *scaled);

#endif
