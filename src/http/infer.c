/* An inference: submitted with the connection suspended, answered from the engine's memory when it resumes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "private.h"

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int dt_http_socket_of(dt_http_exchange *x) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return i ? i->connect_fd : -1;
}

static void on_done(void *arg, dt_serve_request *r, dt_status status, const char *error) {
    dt_http_exchange *x = arg;
    dt_http_server *s = x->server;
    (void)r;
    x->status = status;
    if (status != DT_OK && error) x->error = strdup(error);
    /* Who submitted it looks at `done` once it is watched, so one of the two ends the watch. */
    atomic_store(&x->done, true);
    dt_http_watch_remove(s->watch, atomic_load(&x->watched), dt_http_socket_of(x));
    MHD_resume_connection(x->connection); /* x may end from here on */
    atomic_fetch_sub(&s->suspended, 1);
}

static enum MHD_Result submit(dt_http_exchange *x) {
    dt_http_server *s = x->server;
    const dt_serve_submit_options o = {
        .done = on_done, .arg = x, .deadline_us = x->form.timeout_us, .priority = x->form.priority};
    x->stage = DT_HTTP_INFERRING;
    atomic_fetch_add(&s->suspended, 1);
    MHD_suspend_connection(x->connection);
    /* The connection is this thread's: it goes no further before this returns, done or not. */
    const dt_status st = dt_serve_submit(x->model, x->form.in, &o, &x->request);
    if (st != DT_OK) {
        on_done(x, NULL, st, dt_error_text());
        return MHD_YES;
    }
    const uint64_t watched = dt_http_watch_add(s->watch, dt_http_socket_of(x), x);
    atomic_store(&x->watched, watched);
    if (atomic_load(&x->done)) dt_http_watch_remove(s->watch, watched, dt_http_socket_of(x));
    return MHD_YES;
}

enum MHD_Result dt_http_infer(dt_http_exchange *x, const char *name, int64_t version) {
    dt_http_server *s = x->server;
    if (atomic_load(&s->phase) == DT_HTTP_REFUSING) return dt_http_refuse(x, 503, "the server is ending");
    const dt_status st = dt_http_models_hold(&s->models, name, version, &x->entry, &x->model);
    if (st != DT_OK) return dt_http_refuse(x, st == DT_ERR_BUSY ? 503 : 404, "%s", dt_error_text());
    const dt_serve_model_info *m = dt_serve_model_get_info(x->model);
    const char *body = x->body ? x->body + x->pad : "";
    const dt_status read = dt_infer_read(m, body, x->body_n, x->json_bytes, &x->form);
    if (read != DT_OK) return dt_http_refuse_status(x, read);
    return submit(x);
}

/* What an answer's bytes belong to. */
typedef struct kept {
    dt_http_exchange *x;
    char *json;
    dt_http_text *classes; /* [n_out] */
} kept;

static void free_classes(dt_http_text *t, int32_t n) {
    for (int32_t i = 0; t && i < n; i++) free(t[i].s);
    free(t);
}

static void free_kept(void *arg) {
    kept *k = arg;
    free(k->json);
    free_classes(k->classes, k->x->form.n_out);
    dt_http_exchange_drop(k->x);
    free(k);
}

/* The JSON, and the tensors that stand behind it. Takes its text and the classes. */
static struct MHD_Response *respond(dt_http_exchange *x, const dt_host_tensor *const *out,
                                    dt_http_text *classes, dt_http_text *json, bool binary) {
    struct MHD_IoVec *piece = calloc((size_t)x->form.n_out + 1, sizeof *piece);
    kept *k = malloc(sizeof *k);
    struct MHD_Response *r = NULL;
    unsigned n = 0;
    if (piece && k) {
        piece[n++] = (struct MHD_IoVec){json->s, json->n};
        for (int32_t i = 0; i < x->form.n_out; i++) {
            const bool texts = x->form.out[i].classes > 0;
            const int64_t bytes = texts ? (int64_t)classes[i].n : dt_host_bytes(out[i]);
            if (x->form.out[i].binary && bytes > 0)
                piece[n++] = (struct MHD_IoVec){texts ? classes[i].s : out[i]->data, (size_t)bytes};
        }
        *k = (kept){x, json->s, classes};
        dt_http_exchange_hold(x);
        r = MHD_create_response_from_iovec(piece, n, free_kept, k);
        if (!r) dt_http_exchange_drop(x);
    }
    if (r) {
        char length[24];
        snprintf(length, sizeof length, "%zu", json->n);
        (void)MHD_add_response_header(r, "Content-Type",
                                      binary ? "application/octet-stream" : "application/json");
        if (binary) (void)MHD_add_response_header(r, "Inference-Header-Content-Length", length);
    } else {
        free_classes(classes, x->form.n_out);
        free(k), free(json->s);
    }
    free(piece);
    return r;
}

void dt_http_count_answer(dt_http_exchange *x) {
    const int64_t ns = (int64_t)(1e9 * (now_s() - x->start_s));
    dt_http_entry *e = x->entry;
    atomic_fetch_add(&e->answered, 1);
    atomic_fetch_add(&e->answered_ns, ns);
    for (int i = 0; i < DT_HTTP_BUCKETS; i++)
        if (ns <= 1000 * dt_http_bucket_us[i]) {
            atomic_fetch_add(&e->bucket[i], 1);
            break;
        }
}

enum MHD_Result dt_http_infer_answer(dt_http_exchange *x) {
    if (x->status != DT_OK) {
        dt_error_set_text(x->error ? x->error : "");
        return dt_http_refuse_status(x, x->status);
    }
    const dt_serve_model_info *m = dt_serve_model_get_info(x->model);
    const dt_host_tensor **out = calloc((size_t)x->form.n_out + 1, sizeof *out);
    dt_http_text *classes = calloc((size_t)x->form.n_out + 1, sizeof *classes);
    dt_http_text json = {0};
    bool binary = false;
    for (int32_t i = 0; out && i < x->form.n_out; i++) {
        out[i] = dt_serve_output(x->request, x->form.out[i].index);
        binary = binary || x->form.out[i].binary;
    }
    dt_status st = out && classes ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for an answer");
    for (int32_t i = 0; st == DT_OK && i < x->form.n_out; i++)
        if (x->form.out[i].classes) st = dt_infer_classes(&x->form.out[i], x->model, out[i], &classes[i]);
    if (st == DT_OK) st = dt_infer_write(&x->form, m, out, classes, &json);
    if (st != DT_OK) {
        free_classes(classes, x->form.n_out);
        free(out), free(json.s);
        return dt_http_refuse_status(x, st);
    }
    struct MHD_Response *r = respond(x, out, classes, &json, binary);
    free(out);
    if (!r) return MHD_NO;
    dt_serve_times t;
    char timing[128];
    dt_serve_request_times(x->request, &t);
    snprintf(timing, sizeof timing,
             "queue;dur=%.3f, input;dur=%.3f, compute;dur=%.3f, output;dur=%.3f, batch;desc=%lld",
             1e-6 * (double)t.queue_ns, 1e-6 * (double)t.input_ns, 1e-6 * (double)t.compute_ns,
             1e-6 * (double)t.output_ns, (long long)t.batch);
    (void)MHD_add_response_header(r, "Server-Timing", timing);
    dt_http_count_answer(x);
    return dt_http_queue(x, 200, r);
}
