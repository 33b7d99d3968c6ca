#include "train/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/version.h"
#include "model/lora.h"

/* The file's tensors while they are put together; names and data owned. */
typedef struct draft {
    int64_t n;
    dt_file_tensor *tensor;
} draft;

bool dt_names_onnx(const char *path) {
    const size_t n = strlen(path), tail = strlen(".onnx");
    return n > tail && strcmp(path + n - tail, ".onnx") == 0;
}

static const dt_ckpt_tensor *find(const dt_export *x, const char *group, const char *name) {
    const size_t n = strlen(group);
    for (int32_t i = 0; i < x->n; i++)
        if (strncmp(x->tensor[i].name, group, n) == 0 && strcmp(x->tensor[i].name + n, name) == 0)
            return &x->tensor[i];
    return NULL;
}

dt_status dt_export_narrow(dt_tensor_type type, const char *name, int64_t n, float *data) {
    uint16_t *to = (uint16_t *)(void *)data;
    for (int64_t i = 0; type != DT_TENSOR_F32 && i < n; i++) {
        const uint16_t half = type == DT_TENSOR_F16 ? dt_f32_to_f16(data[i]) : dt_f32_to_bf16(data[i]);
        if (!isfinite(type == DT_TENSOR_F16 ? dt_f16_to_f32(half) : dt_bf16_to_f32(half)))
            return dt_fail(DT_ERR_CONFIG, "%s: element %lld is %g, too large for %s", name, (long long)i,
                           (double)data[i], dt_tensor_type_name(type));
        to[i] = half;
    }
    return DT_OK;
}

static dt_status add(draft *d, const char *name, dt_tensor_type type, int32_t ndim, const int64_t *dim,
                     void *data) {
    dt_file_tensor *t = &d->tensor[d->n++];
    *t = (dt_file_tensor){.name = strdup(name), .type = type, .ndim = ndim, .data = data};
    memcpy(t->dim, dim, (size_t)ndim * sizeof *dim);
    if (!t->name || !data) return dt_fail(DT_ERR_MEMORY, "no memory for %s", name);
    DT_ASSERT(dt_file_tensor_size(type, ndim, dim, &t->n_elem, &t->n_bytes));
    return DT_OK;
}

/* The tensor of the weight; NULL: it is not there, or of another shape. */
static const dt_ckpt_tensor *tensor_of(const dt_export *x, const dt_weight *w) {
    const dt_ckpt_tensor *t = find(x, "ema/", w->name);
    if (!t) t = find(x, w->state ? "state/" : "param/", w->name);
    const bool same =
        t && t->ndim == w->ndim && memcmp(t->dim, w->dim, (size_t)w->ndim * sizeof *w->dim) == 0;
    return same ? t : NULL;
}

/* The adapter's matrix whose name ends in `tail` beside a weight; NULL: it has none. */
static const dt_ckpt_tensor *adapter_of(const dt_export *x, const dt_weight *w, const char *tail) {
    char name[2 * DT_NAME_MAX];
    const size_t n = strlen(w->name), own = strlen("weight");
    const bool ends = n >= own && strcmp(w->name + n - own, "weight") == 0;
    snprintf(name, sizeof name, "%.*s%s", (int)(ends ? n - own : n), w->name, tail);
    const dt_weight *found = dt_weight_find(x->net, name);
    return found ? tensor_of(x, found) : NULL;
}

/* The weight's numbers, in `room` with its adapter in them where that is asked for. */
static dt_status merged(const dt_export *x, const dt_weight *w, const dt_ckpt_tensor *t, float **room,
                        const float **out) {
    const dt_ckpt_tensor *a = x->merge ? adapter_of(x, w, DT_LORA_A) : NULL,
                         *b = a ? adapter_of(x, w, DT_LORA_B) : NULL;
    *room = NULL;
    *out = t->data;
    if (!b) return DT_OK;
    *room = malloc((size_t)w->n_elem * sizeof **room);
    if (!*room) return dt_fail(DT_ERR_MEMORY, "no memory for %s", w->name);
    memcpy(*room, t->data, (size_t)w->n_elem * sizeof **room);
    dt_lora_merge(x->factor, w->dim[0], w->dim[1], a->dim[0], a->data, b->data, *room);
    *out = *room;
    return DT_OK;
}

static dt_status add_weight(const dt_export *x, const dt_weight *w, draft *d) {
    int64_t dim[DT_MAX_DIM];
    const dt_ckpt_tensor *t = tensor_of(x, w);
    if (!t)
        return dt_fail(DT_ERR_CHECKPOINT, "%s is not there, or of another shape than the network's", w->name);
    float *room;
    const float *own;
    float *data = malloc((size_t)w->n_elem * sizeof *data);
    const dt_tensor_type type = w->state ? DT_TENSOR_F32 : x->type;
    const int32_t ndim = dt_weight_file_dims(w, dim);
    DT_TRY(add(d, w->name, type, ndim, dim, data));
    DT_TRY(merged(x, w, t, &room, &own));
    dt_weight_to_file(w, own, data);
    free(room);
    return dt_export_narrow(type, w->name, w->n_elem, data);
}

/* PyTorch's batch norm counts its batches, and a strict load wants the count. */
static dt_status add_count(const dt_export *x, const dt_weight *w, draft *d) {
    static const char var[] = "running_var";
    char name[DT_NAME_MAX + 32];
    const size_t n = strlen(w->name), tail = strlen(var);
    if (!w->state || n < tail || strcmp(w->name + n - tail, var) != 0) return DT_OK;
    snprintf(name, sizeof name, "%.*snum_batches_tracked", (int)(n - tail), w->name);
    int64_t *count = malloc(sizeof *count);
    if (count) *count = x->step;
    return add(d, name, DT_TENSOR_I64, 0, NULL, count);
}

static dt_status gather(const dt_export *x, draft *d) {
    for (int32_t i = 0; i < x->net->n; i++) {
        if (x->merge && x->net->weight[i].adapter) continue;
        DT_TRY(add_weight(x, &x->net->weight[i], d));
        DT_TRY(add_count(x, &x->net->weight[i], d));
    }
    return DT_OK;
}

static dt_status write_model(const char *path, const dt_export *x, const draft *d, int64_t n_note,
                             const dt_tensor_note *note) {
    dt_onnx_model *m;
    const dt_onnx_export o = {
        .graph = x->graph, .net = x->net, .n = d->n, .tensor = d->tensor, .n_note = n_note, .note = note};
    if (x->type != DT_TENSOR_F32) return dt_fail(DT_ERR_USAGE, "%s: ONNX models are written in f32", path);
    dt_status st = dt_onnx_export_graph(&o, &m);
    if (st != DT_OK) {
        dt_error_context("%s", path);
        return st;
    }
    st = dt_onnx_write(m, path);
    dt_onnx_model_free(m);
    return st;
}

dt_status dt_export_write(const char *path, const dt_export *x) {
    draft d = {.tensor = calloc(2 * (size_t)x->net->n + 1, sizeof *d.tensor)};
    char step[32];
    snprintf(step, sizeof step, "%lld", (long long)x->step);
    const dt_tensor_note note[] = {{"format", "pt"}, /* what its readers in Python ask for */
                                   {"dtrain.version", dt_version()},
                                   {DT_EXPORT_STEP, step},
                                   {DT_EXPORT_CONFIG, x->config_text},
                                   {DT_EXPORT_DATA, x->data_text}};
    const int64_t n_note = (int64_t)(sizeof note / sizeof note[0]) - (x->data_text ? 0 : 1);
    dt_status st = d.tensor ? gather(x, &d) : dt_fail(DT_ERR_MEMORY, "no memory for a list of tensors");
    if (st == DT_OK)
        st = x->graph ? write_model(path, x, &d, n_note - 1, note + 1)
                      : dt_tensors_write(path, d.n, d.tensor, n_note, note);
    for (int64_t i = 0; i < d.n; i++) {
        free((char *)(uintptr_t)d.tensor[i].name);
        free((void *)(uintptr_t)d.tensor[i].data);
    }
    free(d.tensor);
    return st;
}
