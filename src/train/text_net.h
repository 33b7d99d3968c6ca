/* A checkpoint's language network, ready to compute, without any data set. */
#ifndef DT_TRAIN_TEXT_NET_H
#define DT_TRAIN_TEXT_NET_H

#include "train/engine.h"
#include "train/session.h"
#include "trained.h"

typedef struct dt_text_net {
    dt_config c,
        own; /* c: one row a batch, its layers are those of the caller, or of `own`, that of the checkpoint */
    dt_trained trained;
    dt_backend *be;
    bool borrows;      /* be is another's */
    dt_engine *engine; /* with the averaged weights in place, where there are some */
} dt_text_net;

/* The checkpoint that run.resume asks for. Collective; all ranks return the same. `out` is to be closed in any case. */
dt_status dt_text_net_open(const dt_config *c, dt_comm *mpi, const dt_sink *sink, dt_text_net *out);
/* The same of a checkpoint, or the newest of a run, with its own configuration, on a backend that outlives it; no MPI is
 * needed. DT_ERR_USAGE: its task is another than to go on with texts. */
dt_status dt_text_net_open_at(const char *path, dt_backend *be, dt_text_net *out);
void dt_text_net_close(dt_text_net *n); /* accepts a zeroed one */

#endif
