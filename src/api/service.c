/* Networks that are served: handles around the room serve. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "data/tokenizer.h"
#include "serve/engine.h"
#include "serve/texts.h"

enum { MAX_BATCH_MOST = 65536 };
#define DAY_US (INT64_C(24) * 3600 * 1000000)

/* Memory that a caller asked for. */
typedef struct buffer {
    struct buffer *next;
    void *data;
} buffer;

/* The functions around a network. */
typedef struct around {
    struct around *next;
    dt_served_hook *before, *after;
    void *arg;
} around;

/* What a service, its networks and their requests stand on; the last of them ends it. */
typedef struct core {
    int32_t refs;
    dt_run *run; /* held */
    dt_backend *be;
    dt_serve_engine *engine; /* until the service is closed */
    buffer *buffers;
    around *arounds;
} core;

struct dt_service {
    dt_handle head;
    core *core; /* held */
};

struct dt_served {
    dt_handle head;
    int32_t refs;
    core *core; /* held */
    dt_serve_model *model;
    char *report;
};

struct dt_request {
    dt_handle head;
    int32_t refs; /* the caller's, and one until it is answered */
    core *core;   /* held */
    int32_t n_out;
    _Atomic(dt_serve_request *) r;
    atomic_int answer; /* dt_status; -1: none yet */
    dt_request_done *done;
    void *arg;
};

static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* of all counts of references, and lists of buffers */

static core *core_hold(core *c) {
    pthread_mutex_lock(&lock);
    c->refs++;
    pthread_mutex_unlock(&lock);
    return c;
}

static void core_drop(core *c) {
    pthread_mutex_lock(&lock);
    const bool last = --c->refs == 0;
    pthread_mutex_unlock(&lock);
    if (!last) return;
    for (buffer *b = c->buffers, *next; b; b = next) {
        next = b->next;
        c->be->free(c->be, DT_MEM_HOST, b->data);
        free(b);
    }
    for (around *a = c->arounds, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    if (c->be) c->be->destroy(c->be);
    dt_run_drop(c->run);
    free(c);
}

/* ---- the service ---- */

static dt_status open_core(dt_run *run, const dt_service_options *o, core *c) {
    static const char function[] = "dt_service_open";
    DT_TRY(dt_check_whole(function, "workers", o->workers, 1, 256));
    DT_TRY(dt_check_whole(function, "memory_cap_bytes", o->memory_cap_bytes, 1, INT64_MAX));
    DT_TRY(dt_check_whole(function, "queue_limit", o->queue_limit, 1, INT32_MAX));
    pthread_mutex_lock(&run->lock);
    const dt_status st = dt_run_make_backend(run, false, &c->be);
    pthread_mutex_unlock(&run->lock);
    DT_TRY(st);
    const dt_serve_engine_options e = {.be = c->be,
                                       .workers = (int32_t)o->workers,
                                       .affinity = o->affinity,
                                       .memory_cap_bytes = o->memory_cap_bytes,
                                       .queue_limit = o->queue_limit};
    return dt_serve_engine_create(&e, &c->engine);
}

dt_status dt_service_open(dt_run *run, dt_service_options options, dt_service **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    *out = NULL;
    dt_service *s = dt_handle_new(DT_HANDLE_SERVICE, sizeof *s);
    core *c = calloc(1, sizeof *c);
    dt_status st = s && c ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a service");
    if (c) {
        c->refs = 1;
        dt_run_hold(c->run = run);
        if (st == DT_OK) st = open_core(run, &options, c);
    }
    if (st == DT_OK) {
        s->core = c;
        *out = s;
        return DT_OK;
    }
    if (c) core_drop(c);
    if (s && dt_handle_end(DT_HANDLE_SERVICE, s)) dt_handle_free(s);
    return st;
}

dt_status dt_service_drain(dt_service *service, int64_t timeout_ms) {
    DT_TRY(dt_handle_check(DT_HANDLE_SERVICE, service, __func__, "service"));
    dt_serve_engine_drain(service->core->engine, timeout_ms);
    return DT_OK;
}

void dt_service_close(dt_service *service) {
    if (!dt_handle_end(DT_HANDLE_SERVICE, service)) return;
    dt_serve_engine_destroy(service->core->engine);
    core_drop(service->core);
    dt_handle_free(service);
}

static void counts_of(const dt_serve_stats *s, dt_service_counts *out) {
    *out = (dt_service_counts){.accepted = s->accepted,
                               .succeeded = s->succeeded,
                               .failed = s->failed,
                               .refused = s->refused,
                               .cancelled = s->cancelled,
                               .expired = s->expired,
                               .waiting = s->waiting,
                               .running = s->running,
                               .rows = s->rows,
                               .runs = s->runs,
                               .queue_s = 1e-9 * (double)s->queue_ns,
                               .input_s = 1e-9 * (double)s->input_ns,
                               .compute_s = 1e-9 * (double)s->compute_ns,
                               .output_s = 1e-9 * (double)s->output_ns,
                               .latency_min_s = s->latency.min_s,
                               .latency_avg_s = s->latency.avg_s,
                               .latency_max_s = s->latency.max_s,
                               .latency_p50_s = s->latency.p50_s,
                               .latency_p90_s = s->latency.p90_s,
                               .latency_p99_s = s->latency.p99_s,
                               .latency_p999_s = s->latency.p999_s};
    _Static_assert((int)DT_BATCH_BUCKETS == (int)DT_SERVE_BATCH_BUCKETS, "the same buckets");
    memcpy(out->batch_runs, s->batch_runs, sizeof out->batch_runs);
}

dt_status dt_service_stats(const dt_service *service, dt_service_counts *out) {
    DT_TRY(dt_handle_check(DT_HANDLE_SERVICE, service, __func__, "service"));
    DT_CHECK_POINTER(out);
    dt_serve_stats s;
    dt_serve_engine_stats(service->core->engine, &s);
    counts_of(&s, out);
    return DT_OK;
}

dt_status dt_service_resources(const dt_service *service, dt_service_usage *out) {
    DT_TRY(dt_handle_check(DT_HANDLE_SERVICE, service, __func__, "service"));
    DT_CHECK_POINTER(out);
    dt_serve_resources r;
    DT_TRY(dt_serve_resources_read(service->core->engine, &r));
    *out = (dt_service_usage){.rss_bytes = r.rss_bytes,
                              .host_bytes = r.host_total_bytes,
                              .memory_limit_bytes = r.memory_limit_bytes,
                              .cpu_seconds = r.cpu_seconds,
                              .cpu_limit = r.cpu_limit,
                              .device_bytes = r.device_total_bytes,
                              .device_used_bytes = r.device_used_bytes,
                              .device_utilisation = r.device_utilisation,
                              .network_bytes = r.model_bytes};
    return DT_OK;
}

dt_status dt_service_buffer(dt_service *service, int64_t bytes, void **out) {
    DT_TRY(dt_handle_check(DT_HANDLE_SERVICE, service, __func__, "service"));
    DT_CHECK_POINTER(out);
    *out = NULL;
    if (bytes < 1) return dt_fail(DT_ERR_USAGE, "dt_service_buffer: %lld bytes", (long long)bytes);
    core *c = service->core;
    buffer *b = calloc(1, sizeof *b);
    if (!b) return dt_fail(DT_ERR_MEMORY, "no memory for a buffer");
    const dt_status st = c->be->alloc(c->be, DT_MEM_HOST, bytes, &b->data);
    if (st != DT_OK) {
        free(b);
        return st;
    }
    pthread_mutex_lock(&lock);
    b->next = c->buffers;
    c->buffers = b;
    pthread_mutex_unlock(&lock);
    *out = b->data;
    return DT_OK;
}

void dt_service_buffer_free(dt_service *service, void *data) {
    if (!dt_handle_is(DT_HANDLE_SERVICE, service) || !data) return;
    core *c = service->core;
    buffer *found = NULL;
    pthread_mutex_lock(&lock);
    for (buffer **at = &c->buffers; *at && !found;)
        if ((*at)->data == data)
            found = *at, *at = found->next;
        else
            at = &(*at)->next;
    pthread_mutex_unlock(&lock);
    if (!found) return;
    c->be->free(c->be, DT_MEM_HOST, found->data);
    free(found);
}

/* ---- networks ---- */

static dt_status view(const dt_host_tensor *t, int32_t i, dt_array *out);

/* A hook of the caller's on tensors of the engine's. */
static dt_status call_hook(dt_served_hook *hook, void *arg, int32_t n, dt_host_tensor *t) {
    dt_array *array = calloc((size_t)n + 1, sizeof *array);
    dt_status st = array ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for arrays");
    for (int32_t i = 0; i < n && st == DT_OK; i++) st = view(&t[i], i, &array[i]);
    if (st == DT_OK) st = hook(arg, n, array);
    for (int32_t i = 0; i < n && array; i++) {
        const dt_array *a = &array[i];
        const bool known = a->dtype >= DT_DTYPE_F32 && a->dtype < DT_DTYPE_COUNT && a->shape.ndim >= 0 &&
                           a->shape.ndim <= DT_MAX_DIM && dt_file_type[a->dtype] != DT_TENSOR_TYPES;
        t[i].data = a->data; /* whatever else it is: who owns what must stay right */
        if (!known) {
            if (st == DT_OK)
                st = dt_fail(DT_ERR_USAGE, "array %d of a hook has no type or shape that there is", i);
            continue;
        }
        t[i].type = dt_file_type[a->dtype], t[i].ndim = a->shape.ndim;
        memcpy(t[i].dim, a->shape.dim, sizeof t[i].dim);
    }
    free(array);
    return st;
}

static dt_status before(void *arg, int32_t n, dt_host_tensor *t) {
    const around *a = arg;
    return call_hook(a->before, a->arg, n, t);
}

static dt_status after(void *arg, int32_t n, dt_host_tensor *t) {
    const around *a = arg;
    return call_hook(a->after, a->arg, n, t);
}

/* As long as the core: requests may outlive their network's handle. */
static dt_status keep_around(core *c, const dt_served_options *o, around **out) {
    around *a = malloc(sizeof *a);
    if (!a) return dt_fail(DT_ERR_MEMORY, "no memory for a network");
    *a = (around){.before = o->before, .after = o->after, .arg = o->hook_arg};
    pthread_mutex_lock(&lock);
    a->next = c->arounds;
    c->arounds = a;
    pthread_mutex_unlock(&lock);
    *out = a;
    return DT_OK;
}

dt_status dt_service_load(dt_service *service, const char *path, dt_served_options options, dt_served **out) {
    DT_TRY(dt_handle_check(DT_HANDLE_SERVICE, service, __func__, "service"));
    DT_CHECK_POINTER(path);
    DT_CHECK_POINTER(out);
    *out = NULL;
    DT_TRY(dt_check_whole(__func__, "version", options.version, 1, INT64_MAX));
    DT_TRY(dt_check_whole(__func__, "max_batch", options.max_batch, 1, MAX_BATCH_MOST));
    DT_TRY(dt_check_whole(__func__, "max_delay_us", options.max_delay_us, 1, DAY_US));
    DT_TRY(dt_check_whole(__func__, "queue_limit", options.queue_limit, 1, INT32_MAX));
    if (options.image < DT_IMAGE_AS_IS || options.image > DT_IMAGE_TRAINED)
        return dt_fail(DT_ERR_CONFIG, "dt_service_load: image = %d is none of dt_image_form",
                       (int)options.image);
    around *a = NULL;
    if (options.before || options.after) DT_TRY(keep_around(service->core, &options, &a));
    const dt_serve_model_options o = {.name = options.name,
                                      .version = options.version,
                                      .config = options.config,
                                      .level = options.level,
                                      .weights = options.weights,
                                      .max_batch = options.max_batch,
                                      .max_delay_us = options.max_delay_us,
                                      .queue_limit = options.queue_limit,
                                      .no_warm = options.no_warm,
                                      .image = options.image,
                                      .softmax = options.softmax,
                                      .labels = options.labels,
                                      .before = options.before ? before : NULL,
                                      .after = options.after ? after : NULL,
                                      .hook_arg = a};
    dt_serve_model *model;
    DT_TRY(dt_serve_load(service->core->engine, path, &o, &model));
    dt_served *s = dt_handle_new(DT_HANDLE_SERVED, sizeof *s);
    if (!s) {
        dt_serve_model_drop(model);
        return dt_fail(DT_ERR_MEMORY, "no memory for a network");
    }
    s->refs = 1;
    s->core = core_hold(service->core);
    s->model = model;
    *out = s;
    return DT_OK;
}

static dt_status check_served(const dt_served *served, const char *function) {
    return dt_handle_check(DT_HANDLE_SERVED, served, function, "served");
}

dt_status dt_served_hold(dt_served *served) {
    DT_TRY(check_served(served, __func__));
    pthread_mutex_lock(&lock);
    served->refs++;
    pthread_mutex_unlock(&lock);
    return DT_OK;
}

void dt_served_drop(dt_served *served) {
    if (!dt_handle_is(DT_HANDLE_SERVED, served)) return;
    pthread_mutex_lock(&lock);
    const bool last = --served->refs == 0 && dt_handle_end(DT_HANDLE_SERVED, served);
    pthread_mutex_unlock(&lock);
    if (!last) return;
    dt_serve_model_drop(served->model);
    core_drop(served->core);
    free(served->report);
    dt_handle_free(served);
}

dt_status dt_served_get_info(const dt_served *served, dt_served_info *out) {
    DT_TRY(check_served(served, __func__));
    DT_CHECK_POINTER(out);
    const dt_serve_model_info *m = dt_serve_model_get_info(served->model);
    *out = (dt_served_info){.name = m->name,
                            .format = m->format,
                            .path = m->path,
                            .version = m->version,
                            .max_batch = m->max_batch,
                            .batched = m->batched,
                            .one_bucket = m->one_bucket,
                            .level = m->level,
                            .weights = m->weights,
                            .n_input = m->n_in,
                            .n_output = m->n_out,
                            .level_error = m->level_error,
                            .weight_bytes = m->weight_bytes};
    return DT_OK;
}

/* DT_DTYPE_COUNT: there is none such. */
static dt_dtype dtype_of(dt_tensor_type type) {
    dt_dtype d = DT_DTYPE_F32;
    while (d < DT_DTYPE_COUNT && (dt_file_type[d] != type || type == DT_TENSOR_TYPES)) d++;
    return d;
}

static dt_status value_of(const char *function, const dt_serve_io *io, int32_t n, int32_t i,
                          dt_served_value *out) {
    if (!out) return dt_fail(DT_ERR_USAGE, "%s: out is NULL", function);
    if (i < 0 || i >= n) return dt_fail(DT_ERR_USAGE, "%s: there is no number %d, of %d", function, i, n);
    *out = (dt_served_value){.name = io[i].name, .dtype = dtype_of(io[i].type), .ndim = io[i].ndim};
    memcpy(out->dim, io[i].dim, sizeof out->dim);
    return DT_OK;
}

dt_status dt_served_input(const dt_served *served, int32_t i, dt_served_value *out) {
    DT_TRY(check_served(served, __func__));
    const dt_serve_model_info *m = dt_serve_model_get_info(served->model);
    return value_of(__func__, m->in, m->n_in, i, out);
}

dt_status dt_served_output(const dt_served *served, int32_t i, dt_served_value *out) {
    DT_TRY(check_served(served, __func__));
    const dt_serve_model_info *m = dt_serve_model_get_info(served->model);
    return value_of(__func__, m->out, m->n_out, i, out);
}

dt_status dt_served_stats(const dt_served *served, dt_service_counts *out) {
    DT_TRY(check_served(served, __func__));
    DT_CHECK_POINTER(out);
    dt_serve_stats s;
    dt_serve_model_stats(served->model, &s);
    counts_of(&s, out);
    return DT_OK;
}

/* ---- arrays ---- */

static dt_status take_array(const char *function, const char *name, const dt_array *a, dt_host_tensor *out) {
    int64_t n_elem, bytes;
    if (a->dtype < DT_DTYPE_F32 || a->dtype >= DT_DTYPE_COUNT || dt_file_type[a->dtype] == DT_TENSOR_TYPES)
        return dt_fail(DT_ERR_USAGE, "%s: input %s has no type that networks in files have", function, name);
    if (a->shape.ndim < 0 || a->shape.ndim > DT_MAX_DIM)
        return dt_fail(DT_ERR_USAGE, "%s: input %s has %d dimensions, expected 0 to %d", function, name,
                       a->shape.ndim, DT_MAX_DIM);
    DT_TRY(dt_shape_check(function, a->shape, a->dtype, &n_elem, &bytes));
    if (a->bytes != 0 && a->bytes != bytes)
        return dt_fail(DT_ERR_USAGE, "%s: input %s has %lld bytes, its shape %s says %lld", function, name,
                       (long long)a->bytes, dt_shape_to_text(a->shape).s, (long long)bytes);
    *out = (dt_host_tensor){.type = dt_file_type[a->dtype], .ndim = a->shape.ndim, .data = a->data};
    memcpy(out->dim, a->shape.dim, sizeof out->dim);
    return DT_OK;
}

/* All inputs of a call; the caller's to free. */
static dt_status take_arrays(const char *function, const dt_served *served, const dt_array *in,
                             dt_host_tensor **out) {
    const dt_serve_model_info *m = dt_serve_model_get_info(served->model);
    *out = NULL;
    if (!in) return dt_fail(DT_ERR_USAGE, "%s: in is NULL", function);
    dt_host_tensor *t = calloc((size_t)m->n_in + 1, sizeof *t);
    if (!t) return dt_fail(DT_ERR_MEMORY, "no memory for inputs");
    dt_status st = DT_OK;
    for (int32_t i = 0; i < m->n_in && st == DT_OK; i++)
        st = take_array(function, m->in[i].name, &in[i], &t[i]);
    if (st == DT_OK)
        *out = t;
    else
        free(t);
    return st;
}

static dt_status view(const dt_host_tensor *t, int32_t i, dt_array *out) {
    const dt_dtype dtype = dtype_of(t->type);
    if (dtype == DT_DTYPE_COUNT)
        return dt_fail(DT_ERR_UNSUPPORTED, "output %d is %s, of which there are no arrays", i,
                       dt_tensor_type_name(t->type));
    *out = (dt_array){.dtype = dtype, .shape.ndim = t->ndim, .data = t->data, .bytes = dt_host_bytes(t)};
    memcpy(out->shape.dim, t->dim, sizeof out->shape.dim);
    return DT_OK;
}

void dt_array_free(dt_array *array) {
    if (!array) return;
    free(array->data);
    array->data = NULL;
    array->bytes = 0;
}

const char *dt_served_label(const dt_served *served, int64_t i) {
    return dt_handle_is(DT_HANDLE_SERVED, served) ? dt_serve_label(served->model, i) : "";
}

dt_status dt_array_softmax(dt_array *array) {
    dt_host_tensor t;
    DT_CHECK_POINTER(array);
    DT_TRY(take_array(__func__, "array", array, &t));
    if (!dt_host_is(&t, DT_HOST_FLOATS) || !t.data)
        return dt_fail(DT_ERR_USAGE, "dt_array_softmax: expected floats");
    dt_serve_softmax(&t);
    return DT_OK;
}

dt_status dt_array_top_k(const dt_array *array, int64_t k, int64_t *index) {
    dt_host_tensor t;
    DT_CHECK_POINTER(array);
    DT_CHECK_POINTER(index);
    DT_TRY(take_array(__func__, "array", array, &t));
    const int64_t n = t.ndim > 0 ? t.dim[t.ndim - 1] : 1;
    if (k < 1 || k > n || !t.data)
        return dt_fail(DT_ERR_USAGE, "dt_array_top_k: the %lld largest of %lld numbers", (long long)k,
                       (long long)n);
    for (int64_t r = 0; r < dt_host_n_elem(&t) / n; r++) dt_serve_top_k(&t, r, k, index + r * k);
    return DT_OK;
}

static dt_status tokenizer_of(const dt_served *served, const char *function, const dt_tokenizer **out) {
    DT_TRY(check_served(served, function));
    *out = dt_serve_tokenizer(served->model);
    if (*out) return DT_OK;
    return dt_fail(DT_ERR_UNSUPPORTED, "%s: %s is no run with a language network, and has no tokenizer",
                   function, dt_serve_model_get_info(served->model)->name);
}

dt_status dt_served_encode(const dt_served *served, const char *text, size_t n, dt_array *tokens) {
    const dt_tokenizer *t;
    dt_coder *coder;
    dt_tokens ids = {0};
    DT_TRY(tokenizer_of(served, __func__, &t));
    DT_CHECK_POINTER(text);
    DT_CHECK_POINTER(tokens);
    DT_TRY(dt_coder_new(t, &coder));
    dt_status st = dt_coder_encode(coder, (const uint8_t *)text, (int64_t)n, &ids);
    dt_coder_free(coder);
    if (st == DT_OK && ids.n == 0) st = dt_tokens_reserve(&ids, 1);
    if (st != DT_OK) {
        free(ids.id);
        return st;
    }
    *tokens = (dt_array){.dtype = DT_DTYPE_I32,
                         .shape = DT_SHAPE(ids.n),
                         .data = ids.id,
                         .bytes = ids.n * (int64_t)sizeof *ids.id};
    return DT_OK;
}

static void put_token(const dt_tokenizer *t, int32_t id, FILE *out) {
    const uint8_t *bytes = NULL;
    const int32_t n = dt_tokenizer_bytes(t, id, &bytes);
    if (n > 0) fwrite(bytes, 1, (size_t)n, out);
}

dt_status dt_served_decode(const dt_served *served, const dt_array *tokens, char **text, size_t *n) {
    const dt_tokenizer *t;
    dt_tokenizer_info info;
    dt_host_tensor in;
    DT_TRY(tokenizer_of(served, __func__, &t));
    DT_CHECK_POINTER(tokens);
    DT_CHECK_POINTER(text);
    DT_CHECK_POINTER(n);
    DT_TRY(take_array(__func__, "tokens", tokens, &in));
    dt_tokenizer_info_get(t, &info);
    char *page = NULL;
    size_t size = 0;
    FILE *out = in.type == DT_TENSOR_I32 ? open_memstream(&page, &size) : NULL;
    if (!out) return dt_fail(DT_ERR_USAGE, "dt_served_decode: expected tokens as I32");
    dt_status st = DT_OK;
    for (int64_t i = 0; i < dt_host_n_elem(&in) && st == DT_OK; i++) {
        const int32_t id = ((const int32_t *)in.data)[i];
        if (id < 0 || id >= info.n_vocab)
            st = dt_fail(DT_ERR_USAGE, "dt_served_decode: token %d: there are 0 to %d", id, info.n_vocab - 1);
        else
            put_token(t, id, out);
    }
    if (fclose(out) != 0 && st == DT_OK) st = dt_fail(DT_ERR_MEMORY, "no memory for a text");
    if (st == DT_OK)
        *text = page, *n = size;
    else
        free(page);
    return st;
}

/* ---- requests ---- */

static void request_unref(dt_request *q) {
    pthread_mutex_lock(&lock);
    const bool last = --q->refs == 0;
    pthread_mutex_unlock(&lock);
    if (!last) return;
    dt_serve_request_drop(atomic_load(&q->r));
    core_drop(q->core);
    dt_handle_free(q);
}

static void answered(void *arg, dt_serve_request *r, dt_status status, const char *error) {
    dt_request *q = arg;
    atomic_store(&q->r, r); /* it may not have been handed over yet */
    atomic_store(&q->answer, (int)status);
    if (q->done) q->done(q->arg, q, status, error);
    request_unref(q);
}

dt_status dt_submit(dt_served *served, const dt_array *in, dt_submit_options options, dt_request **out) {
    DT_TRY(check_served(served, __func__));
    DT_CHECK_POINTER(out);
    *out = NULL;
    DT_TRY(dt_check_whole(__func__, "deadline_us", options.deadline_us, 1, INT64_MAX));
    DT_TRY(dt_check_whole(__func__, "priority", options.priority, 0, DT_SERVE_PRIORITIES - 1));
    dt_host_tensor *t;
    DT_TRY(take_arrays(__func__, served, in, &t));
    dt_request *q = dt_handle_new(DT_HANDLE_REQUEST, sizeof *q);
    if (!q) {
        free(t);
        return dt_fail(DT_ERR_MEMORY, "no memory for a request");
    }
    q->refs = 3; /* and this call's */
    q->core = core_hold(served->core);
    q->n_out = dt_serve_model_get_info(served->model)->n_out;
    q->done = options.done, q->arg = options.arg;
    atomic_init(&q->answer, -1);
    atomic_init(&q->r, NULL);
    const dt_serve_submit_options o = {
        .done = answered, .arg = q, .deadline_us = options.deadline_us, .priority = options.priority};
    dt_serve_request *r;
    *out = q; /* before it can be answered */
    const dt_status st = dt_serve_submit(served->model, t, &o, &r);
    free(t);
    if (st == DT_OK) {
        atomic_store(&q->r, r);
        request_unref(q);
        return DT_OK;
    }
    *out = NULL;
    if (dt_handle_end(DT_HANDLE_REQUEST, q)) {
        core_drop(q->core);
        dt_handle_free(q);
    }
    return st;
}

static dt_status check_request(const dt_request *request, const char *function) {
    return dt_handle_check(DT_HANDLE_REQUEST, request, function, "request");
}

dt_status dt_request_wait(dt_request *request, int64_t timeout_ms) {
    DT_TRY(check_request(request, __func__));
    return dt_serve_wait(atomic_load(&request->r), timeout_ms);
}

bool dt_request_is_answered(const dt_request *request) {
    return dt_handle_is(DT_HANDLE_REQUEST, request) && atomic_load(&request->answer) >= 0;
}

bool dt_request_cancel(dt_request *request) {
    return dt_handle_is(DT_HANDLE_REQUEST, request) && dt_serve_cancel(atomic_load(&request->r));
}

static dt_status check_answer(const dt_request *request, const char *function) {
    DT_TRY(check_request(request, function));
    const int answer = atomic_load(&request->answer);
    if (answer == DT_OK) return DT_OK;
    return dt_fail(DT_ERR_USAGE, "%s: the request %s", function,
                   answer < 0 ? "has no answer yet" : "failed, and has no results");
}

dt_status dt_request_output(const dt_request *request, int32_t i, dt_array *out) {
    DT_TRY(check_answer(request, __func__));
    DT_CHECK_POINTER(out);
    if (i < 0 || i >= request->n_out)
        return dt_fail(DT_ERR_USAGE, "dt_request_output: there is no output %d, of %d", i, request->n_out);
    return view(dt_serve_output(atomic_load(&request->r), i), i, out);
}

dt_status dt_request_times(const dt_request *request, dt_request_timing *out) {
    DT_TRY(check_answer(request, __func__));
    DT_CHECK_POINTER(out);
    dt_serve_times t;
    dt_serve_request_times(atomic_load(&request->r), &t);
    *out = (dt_request_timing){.queue_s = 1e-9 * (double)t.queue_ns,
                               .input_s = 1e-9 * (double)t.input_ns,
                               .compute_s = 1e-9 * (double)t.compute_ns,
                               .output_s = 1e-9 * (double)t.output_ns,
                               .batch = t.batch};
    return DT_OK;
}

void dt_request_drop(dt_request *request) {
    if (dt_handle_end(DT_HANDLE_REQUEST, request)) request_unref(request);
}

/* ---- in one call ---- */

/* Into the caller's memory, or new. */
static dt_status give(const dt_host_tensor *t, int32_t i, dt_array *out) {
    dt_array got;
    DT_TRY(view(t, i, &got));
    const dt_array room = *out;
    *out = got;
    out->data = room.data, out->bytes = room.data ? room.bytes : got.bytes;
    if (!room.data) out->data = malloc((size_t)dt_max_i64(got.bytes, 1));
    if (!out->data) return dt_fail(DT_ERR_MEMORY, "no memory for output %d", i);
    if (out->bytes < got.bytes)
        return dt_fail(DT_ERR_USAGE, "dt_infer: output %d, %s, takes %lld bytes, there is room for %lld", i,
                       dt_shape_to_text(got.shape).s, (long long)got.bytes, (long long)out->bytes);
    if (got.bytes > 0) memcpy(out->data, got.data, (size_t)got.bytes);
    return DT_OK;
}

static dt_status infer(dt_served *served, const dt_host_tensor *in, dt_array *out) {
    const int32_t n = dt_serve_model_get_info(served->model)->n_out;
    dt_serve_request *r;
    bool *own = calloc((size_t)n + 1, sizeof *own);
    if (!own) return dt_fail(DT_ERR_MEMORY, "no memory for outputs");
    for (int32_t i = 0; i < n; i++) own[i] = !out[i].data;
    dt_status st = dt_serve_submit(served->model, in, NULL, &r);
    if (st == DT_OK) st = dt_serve_wait(r, -1);
    for (int32_t i = 0; i < n && st == DT_OK; i++) st = give(dt_serve_output(r, i), i, &out[i]);
    for (int32_t i = 0; i < n && st != DT_OK; i++)
        if (own[i]) dt_array_free(&out[i]);
    dt_serve_request_drop(r);
    free(own);
    return st;
}

dt_status dt_infer(dt_served *served, const dt_array *in, dt_array *out) {
    DT_TRY(check_served(served, __func__));
    DT_CHECK_POINTER(out);
    dt_host_tensor *t;
    DT_TRY(take_arrays(__func__, served, in, &t));
    const dt_status st = infer(served, t, out);
    free(t);
    return st;
}

dt_status dt_served_profile(dt_served *served, const dt_array *in, int64_t runs, const char **text) {
    DT_TRY(check_served(served, __func__));
    DT_CHECK_POINTER(text);
    *text = NULL;
    dt_host_tensor *t;
    char *page = NULL;
    size_t size;
    DT_TRY(take_arrays(__func__, served, in, &t));
    FILE *out = open_memstream(&page, &size);
    dt_status st = out ? dt_serve_model_profile(served->model, t, runs, out)
                       : dt_fail(DT_ERR_MEMORY, "no memory for a text");
    if (out && fclose(out) != 0 && st == DT_OK) st = dt_fail(DT_ERR_MEMORY, "no memory for a text");
    free(t);
    if (st != DT_OK) {
        free(page);
        return st;
    }
    pthread_mutex_lock(&lock);
    free(served->report);
    *text = served->report = page;
    pthread_mutex_unlock(&lock);
    return DT_OK;
}
