#include "samples.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array_file.h"
#include "data/agree.h"
#include "data/facts.h"
#include "train/export.h"
#include "train/session.h"

enum { PATH_BYTES = 2 * DT_KEY_STRING_MAX };

struct dt_samples {
    const dt_onnx_graph *g;
    char name[PATH_BYTES];
    int64_t rows, n, n_batch, at;
    dt_host_tensor *in; /* [n_in]: a batch */
    int64_t *label;     /* [rows * n_label] */
    int64_t n_label;
    /* arrays */
    dt_host_tensor *array; /* [n_in]; all NULL: it is a set */
    dt_host_tensor labels;
    /* a set */
    bool configured;
    dt_config config;
    dt_data_facts facts;
    dt_dataset *set;
    dt_loader *loader;
    dt_image_input image;
    char target[DT_FIELD_NAME_MAX];
};

/* ---- a batch ---- */

/* Rows of the network: of its first fixed dimension, else as many as wanted. */
static int64_t rows_of(const dt_onnx_graph *g, int64_t otherwise) {
    for (int32_t i = 0; i < g->n_in; i++)
        if (g->in[i].ndim > 0 && g->in[i].dim[0] > 0) return g->in[i].dim[0];
    return otherwise;
}

/* Input i of rows of this shape. */
static dt_status take_room(dt_samples *s, int32_t i, dt_tensor_type type, int32_t ndim, const int64_t *dim) {
    dt_host_tensor *t = &s->in[i];
    if (ndim >= DT_MAX_DIM) return dt_fail(DT_ERR_DATA, "%s: too many dimensions", s->name);
    *t = (dt_host_tensor){.type = type, .ndim = ndim + 1, .dim = {s->rows}};
    memcpy(t->dim + 1, dim, (size_t)ndim * sizeof *dim);
    t->data = calloc(1, (size_t)dt_host_bytes(t) + 1);
    return t->data ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a batch of %s", s->g->in[i].name);
}

static dt_status take_labels(dt_samples *s, int64_t n_label) {
    s->n_label = n_label;
    s->label = calloc((size_t)(s->rows * n_label) + 1, sizeof *s->label);
    return s->label ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for labels");
}

/* ---- arrays ---- */

/* "NAME=X.npy,OTHER=Y.npy". */
static dt_status read_arrays(dt_samples *s, const char *list) {
    while (*list) {
        char part[PATH_BYTES];
        const size_t n = strcspn(list, ",");
        snprintf(part, sizeof part, "%.*s", (int)n, list);
        list += n + (list[n] == ',');
        char *equals = strchr(part, '=');
        if (equals) *equals = '\0';
        int32_t at = equals || s->g->n_in != 1 ? s->g->n_in : 0;
        for (int32_t i = 0; i < s->g->n_in && equals; i++)
            if (strcmp(s->g->in[i].name, part) == 0) at = i;
        if (at == s->g->n_in)
            return dt_fail(DT_ERR_USAGE,
                           "%s: which of the network's %d inputs is it? NAME=FILE.npy, and NAME as "
                           "dtrain inspect shows it",
                           part, (int)s->g->n_in);
        if (s->array[at].data) return dt_fail(DT_ERR_USAGE, "input %s is given twice", s->g->in[at].name);
        DT_TRY(dt_array_file_read(equals ? equals + 1 : part, &s->array[at]));
    }
    for (int32_t i = 0; i < s->g->n_in; i++)
        if (!s->array[i].data) return dt_fail(DT_ERR_USAGE, "no array for input %s", s->g->in[i].name);
    return DT_OK;
}

static dt_status open_arrays(dt_samples *s, const dt_samples_options *o) {
    DT_TRY(read_arrays(s, o->data));
    for (int32_t i = 0; i < s->g->n_in; i++) {
        const dt_host_tensor *a = &s->array[i];
        if (a->ndim == 0 || (i > 0 && a->dim[0] != s->n))
            return dt_fail(DT_ERR_USAGE, "%s: arrays of as many rows are wanted", o->data);
        s->n = a->dim[0];
    }
    if (s->n == 0) return dt_fail(DT_ERR_USAGE, "%s has no rows", o->data);
    if (s->rows > s->n && rows_of(s->g, 0) == 0) s->rows = s->n;
    for (int32_t i = 0; i < s->g->n_in; i++)
        DT_TRY(take_room(s, i, s->array[i].type, s->array[i].ndim - 1, s->array[i].dim + 1));
    if (!o->labels) return DT_OK;
    DT_TRY(dt_array_file_read(o->labels, &s->labels));
    const int64_t n = dt_host_n_elem(&s->labels);
    if (!dt_host_is(&s->labels, DT_HOST_INTS) || n == 0 || n % s->n != 0)
        return dt_fail(DT_ERR_USAGE, "%s: whole numbers for %lld rows are wanted", o->labels,
                       (long long)s->n);
    return take_labels(s, n / s->n);
}

static void next_of_arrays(dt_samples *s, int64_t first, int64_t n) {
    for (int32_t i = 0; i < s->g->n_in; i++) {
        const int64_t row = dt_host_bytes(&s->in[i]) / s->rows;
        memset(s->in[i].data, 0, (size_t)(row * s->rows));
        memcpy(s->in[i].data, (const char *)s->array[i].data + first * row, (size_t)(n * row));
    }
    for (int64_t k = 0; k < s->rows * s->n_label; k++) s->label[k] = -1;
    if (s->n_label > 0) dt_host_load_i64(&s->labels, first * s->n_label, 1, n * s->n_label, s->label);
}

/* ---- a set ---- */

static dt_status read_notes(dt_samples *s, const dt_onnx_model *m) {
    const char *config = NULL, *data = NULL;
    for (int32_t i = 0; i < m->n_note; i++) {
        if (strcmp(m->note[i].key, DT_EXPORT_CONFIG) == 0) config = m->note[i].value;
        if (strcmp(m->note[i].key, DT_EXPORT_DATA) == 0) data = m->note[i].value;
    }
    if (!config || !data)
        return dt_fail(DT_ERR_USAGE,
                       "%s does not say what it was trained on, so that a data set cannot be read for it: "
                       "NAME=X.npy for each of its inputs, as the network reads them",
                       m->path);
    DT_TRY(dt_config_parse(&s->config, m->path, config, 0, NULL));
    s->configured = true;
    return dt_data_facts_parse(data, &s->facts);
}

static dt_tensor_type type_of(const dt_field *f, const dt_onnx_value_info *in) {
    if (in->type != DT_TENSOR_TYPES) return in->type;
    return f->dtype == DT_DTYPE_I32 ? DT_TENSOR_I64 : DT_TENSOR_F32;
}

static dt_status open_fields(dt_samples *s, const dt_dataset_info *info) {
    for (int32_t i = 0; i < s->g->n_in; i++) {
        const dt_onnx_value_info *in = &s->g->in[i];
        if (info->height > 0) {
            const int64_t dim[] = {s->image.channels, s->image.height, s->image.width};
            if (strcmp(in->name, "image") != 0 || (in->type != DT_TENSOR_F32 && in->type != DT_TENSOR_TYPES))
                return dt_fail(DT_ERR_USAGE, "%s: images for input %s", s->name, in->name);
            DT_TRY(take_room(s, i, DT_TENSOR_F32, 3, dim));
            continue;
        }
        const dt_field *f = NULL;
        for (int32_t k = 0; k < info->n_field; k++)
            if (strcmp(info->field[k].name, in->name) == 0) f = &info->field[k];
        if (!f) return dt_fail(DT_ERR_USAGE, "%s has no field for input %s", s->name, in->name);
        DT_TRY(take_room(s, i, type_of(f, in), f->ndim, f->dim));
    }
    return DT_OK;
}

static dt_status open_labels(dt_samples *s, const dt_dataset_info *info) {
    const dt_field *target = dt_session_target(&s->config, info->n_field, info->field);
    if (info->n_field > 0 && (!target || dt_dtype_is_float(target->dtype))) return DT_OK;
    int64_t n = 1;
    for (int32_t d = 0; target && d < target->ndim; d++) n *= target->dim[d];
    snprintf(s->target, sizeof s->target, "%s", target ? target->name : "label");
    return take_labels(s, n);
}

/* Every so manyth sample, so that they are from all over the set: a prime, against sets in which classes take turns. */
static int64_t stride_of(int64_t n, int64_t most) {
    for (int64_t k = most > 0 ? n / most : 1; k > 1; k--) {
        bool prime = true;
        for (int64_t d = 2; d * d <= k && prime; d++) prime = k % d != 0;
        if (prime) return k;
    }
    return 1;
}

static dt_status open_set(dt_samples *s, const dt_samples_options *o) {
    dt_dataset_info own;
    dt_data_trained trained;
    dt_data_note note;
    dt_config *c = &s->config;
    c->data.decoder = DT_DECODER_CPU;
    DT_TRY(dt_dataset_open(&c->data, s->name, &s->set));
    DT_TRY(dt_data_check(&c->data, c->model.classes, s->name, s->set));
    DT_TRY(
        dt_data_trained_facts(&c->data, &c->augment, c->model.classes, s->set, &s->facts, &trained, &note));
    if (s->facts.info.height == 0) DT_TRY(dt_data_same_fields(&s->facts.info, s->set, s->name));
    dt_dataset_info_get(s->set, &own);
    if (own.n_samples == 0) return dt_fail(DT_ERR_USAGE, "%s has no samples", s->name);
    if (own.height > 0)
        DT_TRY(dt_data_image_input(&c->data, &c->augment, c->model.classes, &trained.info, false, false,
                                   &s->image));
    const int64_t stride = stride_of(own.n_samples, o->most);
    s->n = (own.n_samples + stride - 1) / stride;
    DT_TRY(open_fields(s, &own));
    DT_TRY(open_labels(s, &own));
    const dt_loader_options lo = {.data = &c->data,
                                  .augment = &c->augment,
                                  .dataset = s->set,
                                  .eval = true,
                                  .out_h = s->image.height,
                                  .out_w = s->image.width,
                                  .seed = (uint64_t)c->run.seed,
                                  .batch = s->rows,
                                  .world = (int32_t)stride,
                                  .threads = 1,
                                  .n_slots = 3};
    return dt_loader_open(&lo, &s->loader);
}

/* (pixel / 255 - mean) / stddev, N C H W. */
static void put_images(dt_samples *s, const uint8_t *from, float *to) {
    const int64_t c = s->image.channels, n = s->image.height * s->image.width;
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t i = 0; i < n; i++)
                *to++ = ((float)from[(r * n + i) * c + k] / 255 - s->image.mean[k]) / s->image.stddev[k];
}

static dt_tensor_type host_type(dt_dtype t) {
    return t == DT_DTYPE_F32 ? DT_TENSOR_F32 : t == DT_DTYPE_I32 ? DT_TENSOR_I32 : DT_TENSOR_U8;
}

static dt_status put_field(dt_samples *s, int32_t i, const dt_batch *b) {
    const char *name = s->g->in[i].name;
    void *data = dt_batch_field(b, name);
    dt_host_tensor from = s->in[i];
    if (!data) return dt_fail(DT_ERR_DATA, "%s has no field %s", s->name, name);
    if (s->image.height > 0) {
        put_images(s, data, s->in[i].data);
        return DT_OK;
    }
    for (int32_t k = 0; k < b->n_field; k++)
        if (strcmp(b->field[k].name, name) == 0) from.type = host_type(b->field[k].dtype);
    from.data = data;
    const int64_t n = dt_host_n_elem(&from);
    if (from.type == DT_TENSOR_F32)
        for (int64_t k = 0; k < n; k++) dt_host_put_f64(&s->in[i], k, dt_host_f64(&from, k));
    else
        for (int64_t k = 0; k < n; k++) dt_host_put_i64(&s->in[i], k, dt_host_i64(&from, k));
    return DT_OK;
}

static dt_status next_of_set(dt_samples *s, int64_t *n_valid) {
    dt_batch b;
    dt_status st = DT_OK;
    DT_TRY(dt_loader_next(s->loader, &b, NULL));
    for (int32_t i = 0; i < s->g->n_in && st == DT_OK; i++) st = put_field(s, i, &b);
    const int32_t *label = s->label ? dt_batch_field(&b, s->target) : NULL;
    for (int64_t k = 0; k < s->rows * s->n_label; k++) s->label[k] = label ? label[k] : -1;
    *n_valid = b.n_valid;
    dt_loader_release(s->loader, &b);
    return st;
}

/* ---- both ---- */

static bool are_arrays(const char *data) {
    const size_t n = strlen(data);
    return n > 4 && strcmp(data + n - 4, ".npy") == 0;
}

static dt_status open_samples(dt_samples *s, const dt_samples_options *o) {
    const size_t n_in = (size_t)s->g->n_in + 1;
    s->in = calloc(n_in, sizeof *s->in);
    s->array = calloc(n_in, sizeof *s->array);
    if (!s->in || !s->array) return dt_fail(DT_ERR_MEMORY, "no memory for samples");
    const bool arrays = o->data && are_arrays(o->data);
    if (!arrays) DT_TRY(read_notes(s, o->model));
    const char *own = arrays ? "" : o->validation ? s->config.data.val : s->config.data.train;
    snprintf(s->name, sizeof s->name, "%s", o->data ? o->data : own);
    if (!s->name[0])
        return dt_fail(DT_ERR_USAGE, "data.val of the run is not set: --val DATASET says what to compare on");
    if (!arrays && o->labels)
        return dt_fail(DT_ERR_USAGE, "--labels is of arrays; the data set %s has its own", s->name);
    DT_TRY(arrays ? open_arrays(s, o) : open_set(s, o));
    if (o->most > 0 && s->n > o->most) s->n = dt_max_i64(o->most, s->rows);
    s->n_batch = (s->n + s->rows - 1) / s->rows;
    if (o->most > 0 && s->n >= s->rows) s->n_batch = s->n / s->rows;
    return DT_OK;
}

dt_status dt_samples_open(const dt_samples_options *o, dt_samples **out) {
    dt_samples *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for samples");
    s->g = &o->model->graph;
    s->rows = rows_of(s->g, o->rows);
    const dt_status st = open_samples(s, o);
    if (st == DT_OK)
        *out = s;
    else
        dt_samples_close(s);
    return st;
}

void dt_samples_close(dt_samples *s) {
    if (!s) return;
    dt_loader_close(s->loader);
    dt_dataset_close(s->set);
    for (int32_t i = 0; s->in && i < s->g->n_in; i++) free(s->in[i].data);
    for (int32_t i = 0; s->array && i < s->g->n_in; i++) free(s->array[i].data);
    free(s->in), free(s->array), free(s->label), free(s->labels.data);
    dt_data_facts_free(&s->facts);
    if (s->configured) dt_config_fini(&s->config);
    free(s);
}

int64_t dt_samples_batches(const dt_samples *s) {
    return s->n_batch;
}
int64_t dt_samples_rows(const dt_samples *s) {
    return s->rows;
}
int64_t dt_samples_count(const dt_samples *s) {
    return s->n;
}
const char *dt_samples_name(const dt_samples *s) {
    return s->name;
}

bool dt_samples_same(const dt_samples *a, const dt_samples *b) {
    char one[PATH_MAX], other[PATH_MAX];
    if (strcmp(a->name, b->name) == 0) return true;
    if (realpath(a->name, one) && realpath(b->name, other) && strcmp(one, other) == 0) return true;
    return a->set && b->set && dt_data_samples_hash(a->set) != 0 &&
           dt_data_samples_hash(a->set) == dt_data_samples_hash(b->set);
}

dt_status dt_samples_next(dt_samples *s, const dt_host_tensor **in, int64_t *n_valid, const int64_t **label,
                          int64_t *n_label) {
    if (s->at == s->n_batch) return dt_fail(DT_ERR_INTERNAL, "%s: there are no more samples", s->name);
    const int64_t first = s->at++ * s->rows;
    if (s->loader) {
        DT_TRY(next_of_set(s, n_valid));
    } else {
        *n_valid = dt_min_i64(s->rows, s->n - first);
        next_of_arrays(s, first, *n_valid);
    }
    *in = s->in, *label = s->label, *n_label = s->n_label;
    return DT_OK;
}
