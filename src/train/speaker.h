/* A generator over an engine's weights. */
#ifndef DT_TRAIN_SPEAKER_H
#define DT_TRAIN_SPEAKER_H

#include "train/engine.h"
#include "train/generate.h"

typedef struct dt_speaker {
    dt_decoding *decoder;
    dt_generator *generator;
} dt_speaker;

/* g->decoder is made: g->rows texts of the context that `data` has. It computes with the engine's weights as they are at each
 * step. */
dt_status dt_speaker_open(const dt_config *c, dt_engine *e, const dt_dataset_info *data,
                          const dt_generator_options *g, dt_speaker *out);
void dt_speaker_close(dt_speaker *s); /* before the engine; accepts a zeroed one */

#endif
