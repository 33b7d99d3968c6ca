/* Batches for a network in a file: of arrays in .npy files, or, where the network says what it was trained on, of a data
 * set, as that network's evaluation sees it. */
#ifndef DT_TRAIN_SAMPLES_H
#define DT_TRAIN_SAMPLES_H

#include "onnx/op.h"
#include "train/config.h"

typedef struct dt_samples dt_samples;

typedef struct dt_samples_options {
    const dt_onnx_model *model; /* outlives it */
    /* A data set, or X.npy of a network with one input, or NAME=X.npy for each, separated by commas; NULL: data.train or
     * data.val of the network's configuration. */
    const char *data;
    const char *labels; /* of arrays: whole numbers, as many as rows; NULL: none */
    bool validation;    /* data NULL: data.val */
    int64_t rows;       /* of a batch, where the network leaves them open */
    int64_t most; /* samples, from all over a set, whole batches; 0: all in order, the last batch filled up */
} dt_samples_options;

/* DT_ERR_USAGE: no data, or such as the network does not read; DT_ERR_DATA. */
dt_status dt_samples_open(const dt_samples_options *o, dt_samples **out);
void dt_samples_close(dt_samples *s); /* accepts NULL */
int64_t dt_samples_batches(const dt_samples *s);
int64_t dt_samples_rows(const dt_samples *s);
/* What they are, "datasets/x/val"; and how many there are. */
const char *dt_samples_name(const dt_samples *s);
int64_t dt_samples_count(const dt_samples *s);
/* Whether both are of the same samples. */
bool dt_samples_same(const dt_samples *a, const dt_samples *b);
/* The next batch: in, [graph.n_in], until the call after; *n_valid of its rows hold samples; label, whole numbers, *n_label
 * for each row (-1: none); NULL: there are none. */
dt_status dt_samples_next(dt_samples *s, const dt_host_tensor **in, int64_t *n_valid, const int64_t **label,
                          int64_t *n_label);

#endif
