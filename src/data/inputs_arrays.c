/* Rows that are named instead of imported, for a network that reads arrays: each becomes what the training set had,
 * of the fields that the network reads; what it only was compared with is zero. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "inputs.h"
#include "numbers.h"

typedef struct rows_plan {
    const dt_dataset *dataset;
    bool verify;
} rows_plan;

static int64_t elements_of(const dt_field *f) {
    return dt_field_bytes(f) / (int64_t)dt_dtype_size(f->dtype);
}

/* Dimensions of one do not matter. */
static bool same_shape(const dt_field *a, const dt_field *b) {
    int32_t i = 0, k = 0;
    for (;;) {
        while (i < a->ndim && a->dim[i] == 1) i++;
        while (k < b->ndim && b->dim[k] == 1) k++;
        if (i == a->ndim || k == b->ndim) return i == a->ndim && k == b->ndim;
        if (a->dim[i++] != b->dim[k++]) return false;
    }
}

/* Where the part, whose fields are these, has what the network reads. */
static dt_status map_fields(const dt_inputs_arrays *o, const char *path, const dt_field *field, int32_t n,
                            dt_inputs_part *p) {
    const dt_dataset_info *info = &o->facts->info;
    for (int32_t i = 0; i < info->n_field; i++) {
        const dt_field *want = &info->field[i];
        p->from[i] = -1;
        for (int32_t k = 0; k < n && o->reads[i]; k++)
            if (strcmp(field[k].name, want->name) == 0) p->from[i] = k;
        if (!o->reads[i]) continue;
        if (p->from[i] < 0)
            return dt_fail(DT_ERR_DATA, "%s: has no \"%s\", which the network reads", path, want->name);
        const dt_field *is = &field[p->from[i]];
        if (!same_shape(want, is))
            return dt_fail(DT_ERR_DATA, "%s: has %s, the network was trained on %s", path,
                           dt_field_text(is).s, dt_field_text(want).s);
        if (!dt_dtype_is_float(want->dtype) && dt_dtype_is_float(is->dtype))
            return dt_fail(DT_ERR_DATA, "%s: has real numbers, %s, the network was trained on whole ones, %s",
                           path, dt_field_text(is).s, dt_field_text(want).s);
    }
    return DT_OK;
}

/* ---- opening ---- */

static dt_status add_set(const dt_inputs_arrays *o, dt_inputs *in, const char *path) {
    dt_dataset *set = NULL;
    dt_inputs_part map = {.set = NULL};
    dt_status status = dt_dataset_open_path(path, &set);
    if (status == DT_OK && set->row != &dt_arrays_row)
        status =
            dt_fail(DT_ERR_DATA, "%s: holds %s, the network was trained on arrays", path, set->info.kind);
    if (status == DT_OK) status = map_fields(o, path, set->info.field, set->info.n_field, &map);
    if (status != DT_OK) {
        dt_dataset_close(set);
        return status == DT_ERR_MEMORY ? status : dt_inputs_add_failed(in, path);
    }
    DT_TRY(dt_inputs_add(in, path, set));
    memcpy(in->part[in->n - 1].from, map.from, sizeof map.from);
    return DT_OK;
}

/* The field that a file of one array is of. */
static dt_status only_field(const dt_inputs_arrays *o, const char *path, const char **name) {
    int n = 0;
    for (int32_t i = 0; i < o->facts->info.n_field; i++)
        if (o->reads[i]) *name = o->facts->info.field[i].name, n++;
    if (n == 1) return DT_OK;
    return dt_fail(
        DT_ERR_DATA,
        "%s: one array, and the network reads %d: name a data set or a .npz file that has all of them", path,
        n);
}

/* Under the name of the field that it is read as. */
static dt_status open_csv(const dt_inputs_arrays *o, const char *path, dt_array_source *table) {
    const dt_import_options options = {.kind = DT_IMPORT_CSV, .input = &path, .n_input = 1, .x = o->columns};
    const char *name = NULL;
    DT_TRY(only_field(o, path, &name));
    DT_TRY(dt_source_csv_inputs(&options, table));
    dt_field *f = &table->field[0];
    snprintf(f->name, sizeof f->name, "%s", name);
    for (int32_t i = 0; i < o->facts->info.n_field; i++) {
        const dt_field *want = &o->facts->info.field[i];
        if (o->reads[i] && !o->columns && elements_of(want) != elements_of(f))
            return dt_fail(
                DT_ERR_DATA,
                "%s: has %s, and the network reads %lld: name those in the order of training (--x a,b,c)",
                path, dt_count_text(elements_of(f), "column").s, (long long)elements_of(want));
    }
    return DT_OK;
}

static dt_status open_npy(const dt_inputs_arrays *o, const char *path, dt_array_source *table) {
    const char *name = NULL;
    char *named = NULL;
    DT_TRY(only_field(o, path, &name));
    if (asprintf(&named, "%s=%s", name, path) < 0) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    const dt_import_options options = {
        .kind = DT_IMPORT_NPY, .input = (const char *const *)&named, .n_input = 1};
    const dt_status status = dt_source_npy(&options, table);
    free(named);
    return status;
}

static dt_status open_npz(const dt_inputs_arrays *o, const char *path, dt_array_source *table) {
    const dt_import_options options = {.kind = DT_IMPORT_NPZ, .input = &path, .n_input = 1};
    (void)o;
    return dt_source_npz(&options, table);
}

static dt_status open_lines(const dt_inputs_arrays *o, const char *path, dt_array_source *table) {
    const dt_dataset_info *info = &o->facts->info;
    int32_t k = 0;
    while (k < info->n_field && strcmp(info->field[k].name, "tokens") != 0) k++;
    if (k == info->n_field) return dt_fail(DT_ERR_DATA, "%s: the network does not read tokens", path);
    return dt_source_lines(path, o->facts->tokenizer, info->field[k].dim[0], table);
}

static const struct {
    const char *extension;
    dt_status (*open)(const dt_inputs_arrays *o, const char *path, dt_array_source *table);
} table_kinds[] = {{".csv", open_csv}, {".npy", open_npy}, {".npz", open_npz}};

static bool ends_with(const char *path, const char *extension) {
    const size_t n = strlen(path), k = strlen(extension);
    return n > k && strcmp(path + n - k, extension) == 0;
}

static dt_status add_path(const dt_inputs_arrays *o, dt_inputs *in, const char *path) {
    dt_array_source table = {.state = NULL};
    dt_inputs_part map = {.set = NULL};
    size_t i = 0;
    enum { KINDS = sizeof table_kinds / sizeof table_kinds[0] };
    while (i < KINDS && !ends_with(path, table_kinds[i].extension)) i++;
    if (i == KINDS && !o->facts->tokenizer) return add_set(o, in, path);
    dt_status status =
        o->facts->tokenizer ? open_lines(o, path, &table) : table_kinds[i].open(o, path, &table);
    if (status == DT_OK) status = map_fields(o, path, table.field, table.n_fields, &map);
    if (status == DT_OK) status = dt_inputs_add(in, path, NULL);
    if (status == DT_OK) {
        dt_inputs_part *p = &in->part[in->n - 1];
        p->table = table;
        memcpy(p->from, map.from, sizeof map.from);
        return DT_OK;
    }
    dt_array_source_close(&table);
    return status == DT_ERR_MEMORY ? status : dt_inputs_add_failed(in, path);
}

dt_status dt_inputs_open_arrays(const dt_inputs_arrays *o, dt_dataset **out) {
    *out = NULL;
    dt_dataset *d = calloc(1, sizeof *d);
    if (!d || !(d->inputs = calloc(1, sizeof *d->inputs))) {
        free(d);
        return dt_fail(DT_ERR_MEMORY, "out of memory for the inputs");
    }
    dt_inputs *in = d->inputs;
    in->facts = o->facts;
    d->row = &dt_input_rows_row;
    d->info = o->facts->info;
    dt_status status = o->n_path < 1 ? dt_fail(DT_ERR_USAGE, "there are no inputs") : DT_OK;
    for (int i = 0; i < o->n_path && status == DT_OK; i++) status = add_path(o, in, o->path[i]);
    if (status == DT_OK) status = dt_inputs_number(in);
    if (status != DT_OK) {
        dt_dataset_close(d);
        return status;
    }
    d->info.n_samples = in->first[in->n];
    *out = d;
    return DT_OK;
}

/* ---- reading ---- */

static void close_rows(dt_dataset *d) {
    dt_inputs_free(d->inputs);
}

static void place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row) {
    dt_input in;
    dt_inputs_get(d, sample, &in);
    *file = in.path;
    *row = in.sample < 0 ? 0 : in.sample;
}

static dt_status plan(const dt_loader_options *o, int64_t max_rows, dt_loader_plan *out) {
    rows_plan *p = malloc(sizeof *p);
    (void)max_rows;
    if (!p) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    *p = (rows_plan){o->dataset, o->data->verify};
    out->state = p;
    out->n_field = o->dataset->info.n_field;
    memcpy(out->field, o->dataset->info.field, sizeof out->field);
    return DT_OK;
}

/* The numbers of one field of one row in the types of the training set. */
static dt_status take(const char *path, int64_t row, const dt_field *is, const void *from,
                      const dt_field *want, void *to) {
    const int64_t n = elements_of(want), bad = dt_numbers_find_bad(is->dtype, from, n);
    if (bad >= 0)
        return dt_fail(DT_ERR_DATA, "%s: row %lld: %s %s", path, (long long)row, dt_number_place(is, bad).s,
                       dt_number_why(dt_number_at(is->dtype, from, bad)).s);
    if (is->dtype == want->dtype) {
        memcpy(to, from, (size_t)dt_field_bytes(want));
        return DT_OK;
    }
    for (int64_t i = 0; i < n; i++) dt_number_set(want->dtype, to, i, dt_number_at(is->dtype, from, i));
    return DT_OK;
}

static dt_status fetch_set(const rows_plan *p, const dt_inputs_part *part, int64_t sample,
                           const dt_row *row) {
    const dt_dataset_info *info = &p->dataset->info;
    int64_t i;
    const dt_array_shard *s = dt_arrays_locate(&part->set->arrays, sample, &i);
    void *data[DT_FIELDS_MAX] = {NULL};
    dt_status status = DT_OK;
    for (int32_t k = 0; k < s->n_fields && status == DT_OK; k++)
        if (!(data[k] = malloc((size_t)dt_field_bytes(&s->field[k]))))
            status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    if (status == DT_OK) status = dt_array_shard_read(s, i, data);
    if (status == DT_OK && p->verify && s->checksum) status = dt_array_shard_check(s, i, data);
    for (int32_t k = 0; k < info->n_field && status == DT_OK; k++)
        if (part->from[k] >= 0)
            status = take(s->path, i, &s->field[part->from[k]], data[part->from[k]], &info->field[k],
                          row->data[k]);
    for (int32_t k = 0; k < DT_FIELDS_MAX; k++) free(data[k]);
    return status;
}

static dt_status fetch_table(const rows_plan *p, const dt_inputs_part *part, int64_t i, const dt_row *row) {
    const dt_dataset_info *info = &p->dataset->info;
    const dt_array_source *t = &part->table;
    for (int32_t k = 0; k < info->n_field; k++) {
        if (part->from[k] < 0) continue;
        const dt_field *is = &t->field[part->from[k]];
        void *data = malloc((size_t)dt_field_bytes(is));
        dt_status status = data ? t->load(t->state, part->from[k], &i, 1, data)
                                : dt_fail(DT_ERR_MEMORY, "%s: out of memory", part->file.path);
        if (status == DT_OK) status = take(part->file.path, i, is, data, &info->field[k], row->data[k]);
        free(data);
        DT_TRY(status);
    }
    return DT_OK;
}

static dt_status fetch(void *reader, uint64_t epoch, int64_t sample, const dt_row *row) {
    const rows_plan *p = reader;
    const dt_inputs *in = p->dataset->inputs;
    const int64_t i = dt_shard_set_find(in->first, in->n, sample);
    const dt_inputs_part *part = &in->part[i];
    (void)epoch;
    for (int32_t k = 0; k < p->dataset->info.n_field; k++)
        memset(row->data[k], 0, (size_t)dt_field_bytes(&p->dataset->info.field[k]));
    if (part->file.error) return dt_fail(DT_ERR_DATA, "%s", part->file.error);
    return part->set ? fetch_set(p, part, sample - in->first[i], row)
                     : fetch_table(p, part, sample - in->first[i], row);
}

const dt_data_row dt_input_rows_row = {.kind = DT_ARRAYS_KIND,
                                       .close = close_rows,
                                       .place = place,
                                       .plan = plan,
                                       .fetch = fetch,
                                       .agree = dt_fields_agree};
