/* Arrays in batches: the fields as they lie in the files, straight to their place. */
#include "dataset.h"

#include <stdlib.h>
#include <string.h>

typedef struct arrays_plan {
    const dt_dataset *dataset;
    bool verify;
} arrays_plan;

static dt_status open_arrays(dt_dataset *d, const dt_shard_set *set) {
    DT_TRY(dt_arrays_open_set(set, &d->arrays));
    d->info = (dt_dataset_info){
        .kind = DT_ARRAYS_KIND, .n_samples = d->arrays.n_samples, .n_field = d->arrays.n_fields};
    memcpy(d->info.field, d->arrays.field, sizeof d->info.field);
    return DT_OK;
}

static void close_arrays(dt_dataset *d) {
    dt_arrays_close(&d->arrays);
}

static void place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row) {
    *file = dt_arrays_locate(&d->arrays, sample, row)->path;
}

static dt_status plan(const dt_loader_options *o, int64_t max_rows, dt_loader_plan *out) {
    (void)max_rows;
    arrays_plan *p = malloc(sizeof *p);
    if (!p) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    *p = (arrays_plan){o->dataset, o->data->verify};
    out->state = p;
    out->n_field = o->dataset->info.n_field;
    memcpy(out->field, o->dataset->info.field, sizeof out->field);
    return DT_OK;
}

static dt_status reader_new(void *state, void **out) {
    *out = state;
    return DT_OK;
}

static void reader_free(void *reader) {
    (void)reader; /* the plan */
}

static dt_status fetch(void *reader, uint64_t epoch, int64_t sample, const dt_row *row) {
    const arrays_plan *p = reader;
    int64_t i;
    (void)epoch;
    const dt_array_shard *s = dt_arrays_locate(&p->dataset->arrays, sample, &i);
    DT_TRY(dt_array_shard_read(s, i, row->data));
    return p->verify ? dt_array_shard_check(s, i, row->data) : DT_OK;
}

const dt_data_row dt_arrays_row = {.kind = DT_ARRAYS_KIND,
                                   .open = open_arrays,
                                   .close = close_arrays,
                                   .place = place,
                                   .plan = plan,
                                   .reader_new = reader_new,
                                   .reader_free = reader_free,
                                   .fetch = fetch,
                                   .agree = dt_fields_agree};
