/* What a kind of data is: a row. The loader, the session and the checks know rows, fields and nothing of what
 * stands behind them. A set's kind is told by its files; a new kind is a row in dataset.c. */
#ifndef DT_DATA_KIND_H
#define DT_DATA_KIND_H

#include "data/agree.h"
#include "data/loader.h"
#include "shard_set.h"

/* What a loader delivers of a set. */
typedef struct dt_loader_plan {
    dt_field field[DT_FIELDS_MAX]; /* of a batch; the loader adds "valid" */
    int32_t n_field;
    int64_t beside_bytes; /* memory of each slot for what is no field; 0: none */
    int64_t repeats;      /* of a sample in the order of training; below 2: each stands there once */
    bool pairs;           /* rows ask for their partners */
    void *state;          /* the kind's own, freed with free() */
} dt_loader_plan;

/* Where a row of a batch goes. */
typedef struct dt_row {
    void *data[DT_FIELDS_MAX];
    void *beside;  /* of the whole slot */
    int64_t index; /* in the batch */
    /* Of training: */
    uint64_t repeat, step;  /* how often the sample stood in the order just before; step of the run */
    int64_t partner;        /* the row that is as far from the batch's end as this from its beginning, */
    int64_t partner_sample; /* and what it holds, where the plan asks for it */
} dt_row;

/* The sample of a row of the batch, -1 where it has none. */
typedef int64_t dt_sample_of(void *arg, int64_t row);

typedef struct dt_data_row {
    const char *kind;

    /* Opening; d->path is set. */
    dt_status (*open)(dt_dataset *d, const dt_shard_set *set); /* NULL: not in files */
    /* What the options make of an opened set: fields and samples. `o` NULL: defaults. NULL: nothing. */
    dt_status (*shape)(dt_dataset *d, const dt_data_options *o);
    void (*close)(dt_dataset *d);
    void (*place)(const dt_dataset *d, int64_t sample, const char **file, int64_t *row);

    /* Loading. `check` tells what the data does not allow; `plan` follows where that succeeds. */
    dt_status (*check)(const dt_loader_options *o);
    dt_status (*plan)(const dt_loader_options *o, int64_t max_rows, dt_loader_plan *out);
    void (*begin)(void *state, void *beside, int64_t rows, dt_sample_of *sample,
                  void *arg);                         /* a batch; NULL: nothing */
    dt_status (*reader_new)(void *state, void **out); /* one for each thread; NULL: the plan serves all */
    void (*reader_free)(void *reader);                /* accepts NULL; with reader_new */
    dt_status (*fetch)(void *reader, uint64_t epoch, int64_t sample, const dt_row *row);
    void (*empty)(void *state, const dt_row *row); /* a row without a sample; zeroed where NULL */

    /* Whether sets fit: data/agree.h. */
    dt_status (*check_config)(const dt_data_options *o, int64_t classes, const char *path,
                              const dt_dataset *d);
    dt_status (*check_numbers)(const dt_dataset *d, const char *name, double least, double most,
                               const char *why, dt_data_note *note); /* NULL: they are sound */
    /* Of a shard's samples, or of its blocks; NULL where it has none. *n: how many, -1 behind the last shard. NULL: no shards. */
    const int64_t *(*checksums)(const dt_dataset *d, int64_t shard, int64_t *n);
    dt_status (*agree)(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                       dt_data_note *note);
} dt_data_row;

extern const dt_data_row dt_images_row, dt_arrays_row, dt_synthetic_row, dt_tokens_row,
    dt_input_rows_row; /* rows of arrays that are named: inputs.h */

#endif
