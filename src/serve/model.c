/* Loading: the file as a model of ONNX, what it takes and gives, and whether its rows are apart. */
#include <stdio.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"
#include "train/network_load.h"

enum { MAX_BATCH = 32, MAX_BATCH_MOST = 65536 };
#define DELAY_MOST_US (INT64_C(24) * 3600 * 1000000)

static dt_status copy_io(const dt_onnx_value_info *from, int32_t n, const dt_serve_io **out) {
    dt_serve_io *io = calloc((size_t)n + 1, sizeof *io);
    if (!io) return dt_fail(DT_ERR_MEMORY, "no memory for a model");
    for (int32_t i = 0; i < n; i++) {
        io[i] = (dt_serve_io){.name = from[i].name, .type = from[i].type, .ndim = from[i].ndim};
        for (int32_t d = 0; d < from[i].ndim; d++) io[i].dim[d] = from[i].dim[d];
    }
    *out = io;
    return DT_OK;
}

/* The first dimension of all inputs and outputs is open, and nowhere under another name. */
static bool has_rows(const dt_onnx_graph *g) {
    const char *name = NULL;
    for (int32_t i = 0; i < g->n_in + g->n_out; i++) {
        const dt_onnx_value_info *v = i < g->n_in ? &g->in[i] : &g->out[i - g->n_in];
        if (v->ndim < 1 || v->dim[0] >= 0) return false;
        const char *own = v->dim_name[0];
        if (!own || !own[0]) continue;
        if (name && i < g->n_in && strcmp(own, name) != 0) return false;
        if (i < g->n_in) name = own;
    }
    return g->n_in > 0;
}

/* "resnet50" of "models/resnet50.onnx". */
static char *name_of(const char *path) {
    const char *end = path + strlen(path);
    while (end > path && end[-1] == '/') end--;
    const char *from = end;
    while (from > path && from[-1] != '/') from--;
    const char *dot = end;
    for (const char *at = from + 1; at < end; at++)
        if (*at == '.') dot = at;
    return strndup(from, (size_t)(dot - from));
}

static dt_status fill(dt_serve_model *m, const dt_serve_model_options *o) {
    const dt_onnx_graph *g = &m->m->graph;
    dt_serve_model_info *info = &m->info;
    m->name = o->name ? strdup(o->name) : name_of(m->path);
    if (!m->name) return dt_fail(DT_ERR_MEMORY, "no memory for a name");
    *info = (dt_serve_model_info){.name = m->name,
                                  .format = m->m->format,
                                  .path = m->path,
                                  .version = o->version > 0 ? o->version : 1,
                                  .level = o->level == DT_LEVEL_DEFAULT ? DT_LEVEL_BASIC : o->level,
                                  .weights = o->weights,
                                  .n_in = g->n_in,
                                  .n_out = g->n_out,
                                  .level_error = -1};
    if (o->weights != DT_WEIGHTS_AS_STORED)
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "%s: weights are computed with as the file has them: make a file of them in 8 or 4 "
                       "bits first, dtrain quantize",
                       m->name);
    DT_TRY(copy_io(g->in, g->n_in, &info->in));
    DT_TRY(copy_io(g->in, g->n_in, &m->net_in));
    DT_TRY(copy_io(g->out, g->n_out, &info->out));
    info->batched = has_rows(g);
    info->max_batch = !info->batched ? 1 : o->max_batch > 0 ? o->max_batch : MAX_BATCH;
    for (int32_t i = 0; i < g->n_constant; i++) info->weight_bytes += g->constant[i].n_bytes;
    m->staged = calloc((size_t)g->n_in + 1, sizeof *m->staged);
    m->staged_bytes = calloc((size_t)g->n_in + 1, sizeof *m->staged_bytes);
    m->result = calloc((size_t)g->n_out + 1, sizeof *m->result);
    if (!m->staged || !m->staged_bytes || !m->result) return dt_fail(DT_ERR_MEMORY, "no memory for a model");
    dt_backend *be = m->engine->options.be;
    m->compute =
        info->level >= DT_LEVEL_AGGRESSIVE && be->supports(be, DT_DTYPE_F16) ? DT_DTYPE_F16 : DT_DTYPE_F32;
    return DT_OK;
}

static void model_free(dt_serve_model *m) {
    dt_serve_texts_close(m);
    dt_turns_take(&m->engine->device);
    dt_serve_programs_free(m);
    dt_turns_give(&m->engine->device);
    for (int32_t i = 0; m->staged && i < m->info.n_in; i++) free(m->staged[i].data);
    dt_serve_hooks_close(m);
    free((void *)(uintptr_t)m->info.in), free((void *)(uintptr_t)m->net_in),
        free((void *)(uintptr_t)m->info.out);
    free(m->staged), free(m->staged_bytes), free(m->result);
    dt_onnx_model_free(m->m);
    free(m->name), free(m->path);
    free(m);
    malloc_trim(0); /* what a model took goes back to the system */
}

dt_status dt_serve_load(dt_serve_engine *e, const char *path, const dt_serve_model_options *o,
                        dt_serve_model **out) {
    *out = NULL;
    static const dt_serve_model_options none = {.version = 0};
    if (!o) o = &none;
    if (o->max_batch < 0 || o->max_batch > MAX_BATCH_MOST || o->max_delay_us < 0 ||
        o->max_delay_us > DELAY_MOST_US || o->queue_limit < 0 || o->text_rows < 0 ||
        o->level < DT_LEVEL_DEFAULT || o->level > DT_LEVEL_EXTREME)
        return dt_fail(DT_ERR_USAGE,
                       "a model has batches of 1 to %d rows, a delay of 0 to a day, a queue limit and texts "
                       "at once of no "
                       "less than 0, "
                       "and a level from none to extreme",
                       MAX_BATCH_MOST);
    dt_serve_model *m = calloc(1, sizeof *m);
    if (!m) return dt_fail(DT_ERR_MEMORY, "no memory for a model");
    m->engine = e;
    m->options = *o;
    m->refs = 1;
    m->path = strdup(path);
    dt_status st =
        m->path ? dt_network_load(path, o->config, &m->m) : dt_fail(DT_ERR_MEMORY, "no memory for a path");
    if (st == DT_OK) st = dt_onnx_check_ops(m->m);
    if (st == DT_OK) st = fill(m, o);
    if (st == DT_OK) st = dt_serve_model_probe(m);
    if (st == DT_OK) st = dt_serve_hooks_open(m);
    if (st == DT_OK && !o->no_texts) st = dt_serve_texts_open(m);
    m->options.name = m->options.config = m->options.softmax = m->options.labels = NULL;
    pthread_mutex_lock(&e->lock);
    if (st == DT_OK && e->draining) st = dt_fail(DT_STOPPED, "the engine is ending and takes no more models");
    if (st == DT_OK) {
        m->next = e->models;
        e->models = m;
        e->refs++;
        *out = m;
    }
    pthread_mutex_unlock(&e->lock);
    if (st != DT_OK) model_free(m);
    return st;
}

const dt_serve_model_info *dt_serve_model_get_info(const dt_serve_model *m) {
    return &m->info;
}

void dt_serve_model_hold(dt_serve_model *m) {
    pthread_mutex_lock(&m->engine->lock);
    m->refs++;
    pthread_mutex_unlock(&m->engine->lock);
}

/* With the engine's lock, and a reference to the engine besides the model's. */
void dt_serve_model_unref(dt_serve_model *m) {
    dt_serve_engine *e = m->engine;
    if (--m->refs > 0) return;
    dt_serve_model **at = &e->models;
    while (*at != m) at = &(*at)->next;
    *at = m->next;
    pthread_mutex_unlock(&e->lock);
    model_free(m);
    pthread_mutex_lock(&e->lock);
    e->refs--;
}

void dt_serve_model_drop(dt_serve_model *m) {
    if (!m) return;
    dt_serve_engine *e = m->engine;
    pthread_mutex_lock(&e->lock);
    e->refs++;
    dt_serve_model_unref(m);
    dt_serve_engine_unref(e);
}
