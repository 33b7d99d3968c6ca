/* A network in a file, run on arrays in files: `dtrain run`. */
#ifndef DT_TRAIN_RUN_FILE_H
#define DT_TRAIN_RUN_FILE_H

#include "train/config.h"
#include "train/sink.h"

typedef struct dt_run_file_options {
    const char *path, *config; /* as of dt_network_load() */
    int n_input;
    const char *const *input; /* "NAME=FILE.npy"; of a network with one input also "FILE.npy" */
    const char *output;       /* a directory, made where it is not there; NULL: nothing is written */
    int64_t times;            /* above 0: so many runs are measured after the first */
    bool plain;               /* without fusions */
} dt_run_file_options;

/* Runs it once, on c->run.device with c->run.threads in c->train.precision, writes its outputs as NAME.npy, and tells what it did. Errors:
 * DT_ERR_USAGE (inputs), DT_ERR_DATA (files), DT_ERR_UNSUPPORTED (what the device has no kernel for), DT_ERR_IO. */
dt_status dt_run_file(const dt_config *c, const dt_run_file_options *o, const dt_sink *sink);

#endif
