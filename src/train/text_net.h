/* A checkpoint's language network, ready to compute, without any data set. */
#ifndef DT_TRAIN_TEXT_NET_H
#define DT_TRAIN_TEXT_NET_H

#include "train/engine.h"
#include "train/session.h"
#include "trained.h"

typedef struct dt_text_net {
    dt_config c; /* one row a batch; its layers stay the caller's */
    dt_trained trained;
    dt_backend *be;
    dt_engine *engine; /* with the averaged weights in place, where there are some */
} dt_text_net;

/* The checkpoint that run.resume asks for. Collective; all ranks return the same. `out` is to be closed in any case. */
dt_status dt_text_net_open(const dt_config *c, dt_comm *mpi, const dt_sink *sink, dt_text_net *out);
void dt_text_net_close(dt_text_net *n); /* accepts a zeroed one */

#endif
