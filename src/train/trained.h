/* A trained network put to use: the checkpoint that run.resume asks for, and what it knows of its data. */
#ifndef DT_TRAIN_TRAINED_H
#define DT_TRAIN_TRAINED_H

#include "train/checkpoint.h"
#include "train/session.h"

typedef struct dt_trained {
    dt_ckpt *ckpt;
    dt_data_facts facts;
    bool has_facts; /* false: a checkpoint from before they were kept */
} dt_trained;

/* Loads and verifies it on all ranks. Collective; all return the same. To be freed in any case. */
dt_status dt_trained_load(const dt_config *c, dt_comm *mpi, const dt_sink *sink, dt_trained *out);
/* Where `of`, the checkpoint, does not say them: facts of data.train, of data.val, or of the configuration alone.
 * Not collective: ranks may differ. */
dt_status dt_trained_find_facts(const dt_config *c, const char *of, dt_trained *t);
/* The checkpoint's weights into an open session, with a note where its images are normalised otherwise.
 * Collective. */
dt_status dt_trained_apply(const dt_trained *t, dt_session *s);
void dt_trained_free(dt_trained *t);

#endif
