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

static dt_status check_block(const dt_array_shard *s, const dt_field *f, int64_t begin, int64_t n,
                             const void *block, int64_t classes) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t label = f->dtype == DT_DTYPE_I64   ? ((const int64_t *)block)[i]
                              : f->dtype == DT_DTYPE_I32 ? ((const int32_t *)block)[i]
                                                         : ((const uint8_t *)block)[i];
        if (label < 0 || label >= classes)
            return dt_fail(DT_ERR_DATA,
                           "%s: sample %lld has %s = %lld: with model.classes = %lld expected 0 to %lld",
                           s->path, (long long)(begin + i), f->name, (long long)label, (long long)classes,
                           (long long)classes - 1);
    }
    return DT_OK;
}

static dt_status check_labels(const dt_dataset *d, const char *name, int64_t classes) {
    enum { BLOCK = 1 << 16 };
    const dt_arrays *a = &d->arrays;
    int32_t k = 0;
    while (k < a->n_fields && strcmp(a->field[k].name, name) != 0) k++;
    const dt_field *f = &a->field[k];
    if (k == a->n_fields || f->ndim > 0 ||
        (f->dtype != DT_DTYPE_U8 && f->dtype != DT_DTYPE_I32 && f->dtype != DT_DTYPE_I64))
        return DT_OK;
    void *block = malloc((size_t)(BLOCK * dt_field_bytes(f)));
    dt_status status = block ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", a->path);
    for (int64_t s = 0; s < a->n_shards && status == DT_OK; s++)
        for (int64_t i = 0, n; i < a->shard[s].n_samples && status == DT_OK; i += n) {
            n = dt_min_i64(BLOCK, a->shard[s].n_samples - i);
            status = dt_array_shard_column(&a->shard[s], k, i, n, block);
            if (status == DT_OK) status = check_block(&a->shard[s], f, i, n, block, classes);
        }
    free(block);
    return status;
}

const dt_data_row dt_arrays_row = {.kind = DT_ARRAYS_KIND,
                                   .open = open_arrays,
                                   .close = close_arrays,
                                   .place = place,
                                   .plan = plan,
                                   .reader_new = reader_new,
                                   .reader_free = reader_free,
                                   .fetch = fetch,
                                   .check_labels = check_labels,
                                   .agree = dt_fields_agree};
