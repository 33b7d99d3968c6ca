/* Texts by a checkpoint's network: `dtrain sample`. */
#ifndef DT_TRAIN_SAMPLE_H
#define DT_TRAIN_SAMPLE_H

#include "dist/comm.h"
#include "train/config.h"
#include "train/generate.h"
#include "train/sink.h"

typedef struct dt_sample_prompt {
    const uint8_t *text;
    int64_t n;
} dt_sample_prompt;

typedef struct dt_sample_options {
    const dt_sample_prompt *prompt; /* [n_prompt] */
    int64_t n_prompt;
    int64_t samples; /* texts of each prompt, at least 1 */
    int64_t
        tokens; /* of each text beyond its prompt; -1: as many as there is room for, at most DT_SAMPLE_TOKENS */
    int64_t batch; /* texts at once; 0: chosen. It changes no text */
    dt_draw_options draw;
    bool no_stop, window, no_cache; /* as dt_generator_options has them */
    /* After every token of text number `text` (prompt samples + sample), and at its end. Other than DT_OK ends the
     * job. */
    dt_status (*grown)(void *arg, int64_t text, const dt_generated *g);
    void *arg;
    const dt_sink *sink; /* what is worth knowing; NULL: nobody */
} dt_sample_options;

enum { DT_SAMPLE_TOKENS = 200 };

typedef struct dt_sample_result {
    int64_t n_token;
    double seconds; /* from the first prompt on */
} dt_sample_result;

/* Applies the checkpoint that run.resume asks for; needs no data set. The world is one rank. */
dt_status dt_sample(const dt_config *c, dt_comm *mpi, const dt_sample_options *o, dt_sample_result *out);

#endif
