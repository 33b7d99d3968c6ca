/* Arrays in batches: the fields as they lie in the files, straight to their place. */
#include "dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "numbers.h"

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

static dt_status fetch(void *reader, uint64_t epoch, int64_t sample, const dt_row *row) {
    const arrays_plan *p = reader;
    int64_t i;
    (void)epoch;
    const dt_array_shard *s = dt_arrays_locate(&p->dataset->arrays, sample, &i);
    DT_TRY(dt_array_shard_read(s, i, row->data));
    if (p->verify) DT_TRY(dt_array_shard_check(s, i, row->data));
    return dt_array_shard_finite(s, i, row->data);
}

typedef struct wanted {
    const dt_field *field;
    double least, most;
    const char *why;
    dt_data_note *note;
} wanted;

static dt_status check_block(const dt_array_shard *s, const wanted *w, int64_t begin, int64_t n,
                             const void *block) {
    const dt_field *f = w->field;
    const int64_t elem = dt_field_bytes(f) / (int64_t)dt_dtype_size(f->dtype);
    for (int64_t i = 0; i < n * elem; i++) {
        const double x = dt_number_at(f->dtype, block, i);
        if (!(x >= w->least && x <= w->most))
            return dt_fail(DT_ERR_DATA, "%s: sample %lld has %s = %.12g: %s", s->path,
                           (long long)(begin + i / elem), dt_number_place(f, i % elem).s, x, w->why);
    }
    const int64_t inexact = w->note->text[0] ? -1 : dt_numbers_find_inexact(f->dtype, block, n * elem);
    if (inexact >= 0)
        snprintf(w->note->text, sizeof w->note->text,
                 "%.300s: sample %lld has %s = %.20g: fp32, in which networks compute, holds whole numbers "
                 "beyond 2^24 "
                 "only rounded",
                 s->path, (long long)(begin + inexact / elem), dt_number_place(f, inexact % elem).s,
                 dt_number_at(f->dtype, block, inexact));
    return DT_OK;
}

static dt_status check_numbers(const dt_dataset *d, const char *name, double least, double most,
                               const char *why, dt_data_note *note) {
    enum { BLOCK_BYTES = 1 << 18 };
    const dt_arrays *a = &d->arrays;
    int32_t k = 0;
    while (k < a->n_fields && strcmp(a->field[k].name, name) != 0) k++;
    if (k == a->n_fields) return DT_OK;
    const wanted w = {&a->field[k], least, most, why, note};
    const int64_t rows = dt_max_i64(1, BLOCK_BYTES / dt_field_bytes(w.field));
    void *block = malloc((size_t)(rows * dt_field_bytes(w.field)));
    dt_status status = block ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", a->path);
    for (int64_t s = 0; s < a->n_shards && status == DT_OK; s++)
        for (int64_t i = 0, n; i < a->shard[s].n_samples && status == DT_OK; i += n) {
            n = dt_min_i64(rows, a->shard[s].n_samples - i);
            status = dt_array_shard_column(&a->shard[s], k, i, n, block);
            if (status == DT_OK) status = check_block(&a->shard[s], &w, i, n, block);
        }
    free(block);
    return status;
}

static const int64_t *checksums(const dt_dataset *d, int64_t shard, int64_t *n) {
    *n = shard < d->arrays.n_shards ? d->arrays.shard[shard].n_samples : -1;
    return *n < 0 ? NULL : d->arrays.shard[shard].checksum;
}

const dt_data_row dt_arrays_row = {.kind = DT_ARRAYS_KIND,
                                   .open = open_arrays,
                                   .close = close_arrays,
                                   .place = place,
                                   .plan = plan,
                                   .fetch = fetch,
                                   .check_numbers = check_numbers,
                                   .checksums = checksums,
                                   .agree = dt_fields_agree};
