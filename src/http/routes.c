/* What there is under which path. A new one is a row of the table and a function. */
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#include "page.h"
#include "private.h"

/* What stood for {m} and {v} in the path. */
typedef struct place {
    char name[256];
    int64_t version; /* 0: the newest */
} place;

typedef enum MHD_Result route_fn(dt_http_exchange *x, const place *p);

static enum MHD_Result send_json(dt_http_exchange *x, dt_http_text *t) {
    dt_http_answer a = {.code = 200, .text = *t};
    return dt_http_send(x, &a);
}

static enum MHD_Result page(dt_http_exchange *x, const place *p) {
    (void)p;
    dt_http_answer a = {.code = 200, .type = "text/html; charset=utf-8"};
    dt_http_put(&a.text, (const char *)dt_http_page);
    return dt_http_send(x, &a);
}

static enum MHD_Result metrics(dt_http_exchange *x, const place *p) {
    (void)p;
    dt_http_answer a = {.code = 200, .type = "text/plain; version=0.0.4; charset=utf-8"};
    const dt_status st = dt_http_metrics(x->server, &a.text);
    if (st == DT_OK) return dt_http_send(x, &a);
    free(a.text.s);
    return dt_http_refuse_status(x, st);
}

static enum MHD_Result live(dt_http_exchange *x, const place *p) {
    (void)p;
    dt_http_text t = {0};
    dt_http_put(&t, "{\"live\":true}");
    return send_json(x, &t);
}

static enum MHD_Result ready(dt_http_exchange *x, const place *p) {
    (void)p;
    const int phase = atomic_load(&x->server->phase);
    if (phase != DT_HTTP_SERVING)
        return dt_http_refuse(x, 503, "%s",
                              phase == DT_HTTP_LOADING ? "models are being loaded" : "the server is ending");
    dt_http_text t = {0};
    dt_http_put(&t, "{\"ready\":true}");
    return send_json(x, &t);
}

static enum MHD_Result server(dt_http_exchange *x, const place *p) {
    (void)p;
    dt_http_text t = {0};
    dt_http_describe_server(x->server, &t);
    return send_json(x, &t);
}

/* The model, or the refusal in *r. */
static dt_serve_model *hold(dt_http_exchange *x, const place *p, dt_http_entry **e, enum MHD_Result *r) {
    dt_serve_model *m = NULL;
    const dt_status st = dt_http_models_hold(&x->server->models, p->name, p->version, e, &m);
    if (st != DT_OK) *r = dt_http_refuse(x, st == DT_ERR_BUSY ? 503 : 404, "%s", dt_error_text());
    return m;
}

static enum MHD_Result model_ready(dt_http_exchange *x, const place *p) {
    enum MHD_Result r = MHD_NO;
    dt_http_entry *e;
    dt_http_text t = {0};
    dt_serve_model *m = hold(x, p, &e, &r);
    if (!m) return r;
    dt_serve_model_drop(m);
    dt_http_put(&t, "{\"name\":");
    dt_http_put_quoted(&t, p->name);
    dt_http_put(&t, ",\"ready\":true}");
    return send_json(x, &t);
}

static enum MHD_Result model_about(dt_http_exchange *x, const place *p) {
    enum MHD_Result r = MHD_NO;
    dt_http_entry *e;
    dt_http_text t = {0};
    dt_http_listed *l = NULL;
    int32_t n = 0;
    dt_serve_model *m = hold(x, p, &e, &r);
    if (!m) return r;
    const dt_status st = dt_http_models_list(&x->server->models, &l, &n);
    if (st == DT_OK) dt_http_describe_model(dt_serve_model_get_info(m), l, n, &t);
    dt_http_listed_free(l, n);
    dt_serve_model_drop(m);
    return st == DT_OK ? send_json(x, &t) : dt_http_refuse_status(x, st);
}

static enum MHD_Result model_config(dt_http_exchange *x, const place *p) {
    enum MHD_Result r = MHD_NO;
    dt_http_entry *e;
    dt_http_text t = {0};
    dt_serve_model *m = hold(x, p, &e, &r);
    if (!m) return r;
    dt_http_describe_config(dt_serve_model_get_info(m), &t);
    dt_serve_model_drop(m);
    return send_json(x, &t);
}

/* Of one model, or, without a name, of all. */
static enum MHD_Result stats(dt_http_exchange *x, const place *p) {
    dt_http_listed *l = NULL;
    int32_t n = 0, shown = 0;
    dt_http_text t = {0};
    enum MHD_Result r = MHD_NO;
    dt_http_entry *e;
    if (p->name[0]) {
        dt_serve_model *m = hold(x, p, &e, &r);
        if (!m) return r;
        dt_serve_model_drop(m);
    }
    const dt_status st = dt_http_models_list(&x->server->models, &l, &n);
    dt_http_put(&t, "{\"model_stats\":[");
    for (int32_t i = 0; st == DT_OK && i < n; i++) {
        if (!l[i].model || (p->name[0] && strcmp(p->name, l[i].entry->name) != 0) ||
            (p->version && p->version != l[i].version))
            continue;
        if (shown++) dt_http_put(&t, ",");
        dt_http_describe_stats(l[i].entry, l[i].model, &t);
    }
    dt_http_put(&t, "]}");
    dt_http_listed_free(l, n);
    if (st == DT_OK) return send_json(x, &t);
    free(t.s);
    return dt_http_refuse_status(x, st);
}

static enum MHD_Result infer(dt_http_exchange *x, const place *p) {
    return dt_http_infer(x, p->name, p->version);
}

static enum MHD_Result generate(dt_http_exchange *x, const place *p) {
    return dt_http_generate(x, p->name, p->version, false);
}

static enum MHD_Result generate_stream(dt_http_exchange *x, const place *p) {
    return dt_http_generate(x, p->name, p->version, true);
}

static enum MHD_Result repository_index(dt_http_exchange *x, const place *p) {
    (void)p;
    dt_http_listed *l = NULL;
    int32_t n = 0;
    dt_http_text t = {0};
    (void)dt_http_models_scan(&x->server->models); /* what cannot be read now has no new models */
    const dt_status st = dt_http_models_list(&x->server->models, &l, &n);
    if (st == DT_OK) dt_http_describe_index(l, n, &t);
    dt_http_listed_free(l, n);
    return st == DT_OK ? send_json(x, &t) : dt_http_refuse_status(x, st);
}

static void *work(void *arg) {
    dt_http_exchange *x = arg;
    dt_http_server *s = x->server;
    x->status =
        x->unloads ? dt_http_models_unload(&s->models, x->name) : dt_http_models_load(&s->models, x->name);
    if (x->status != DT_OK) x->error = strdup(dt_error_text());
    MHD_resume_connection(x->connection);
    atomic_fetch_sub(&s->suspended, 1);
    return NULL;
}

/* In a thread of its own: others are answered meanwhile. */
static enum MHD_Result control(dt_http_exchange *x, const place *p, bool unloads) {
    dt_http_server *s = x->server;
    pthread_t thread;
    pthread_attr_t detached;
    if (!s->o.control)
        return dt_http_refuse(x, 403, "this server does not load and unload on request (--control)");
    if (atomic_load(&s->phase) == DT_HTTP_REFUSING) return dt_http_refuse(x, 503, "the server is ending");
    snprintf(x->name, sizeof x->name, "%s", p->name);
    x->unloads = unloads;
    x->stage = DT_HTTP_WORKING;
    atomic_fetch_add(&s->suspended, 1);
    MHD_suspend_connection(x->connection);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, work, x) != 0) {
        x->status = DT_ERR_MEMORY;
        MHD_resume_connection(x->connection);
        atomic_fetch_sub(&s->suspended, 1);
    }
    pthread_attr_destroy(&detached);
    return MHD_YES;
}

static enum MHD_Result load(dt_http_exchange *x, const place *p) {
    return control(x, p, false);
}

static enum MHD_Result unload(dt_http_exchange *x, const place *p) {
    return control(x, p, true);
}

static enum MHD_Result worked(dt_http_exchange *x) {
    if (x->status != DT_OK) {
        dt_error_set_text(x->error ? x->error : "");
        if (x->status == DT_ERR_USAGE) return dt_http_refuse(x, 404, "%s", dt_error_text());
        return dt_http_refuse_status(x, x->status);
    }
    dt_http_text t = {0};
    dt_http_put(&t, "{}");
    return send_json(x, &t);
}

static enum MHD_Result unsupported(dt_http_exchange *x, const place *p) {
    (void)p;
    return dt_http_refuse(x, 501, "this server does not have that extension: GET /v2 lists what it has");
}

static const struct {
    const char *method, *path; /* the first that fits */
    route_fn *run;
} routes[] = {
    {"GET", "", page},
    {"GET", "metrics", metrics},
    {"GET", "v2", server},
    {"GET", "v2/health/live", live},
    {"GET", "v2/health/ready", ready},
    {"GET", "v2/models/stats", stats},
    {"GET", "v2/models/{m}", model_about},
    {"GET", "v2/models/{m}/versions/{v}", model_about},
    {"GET", "v2/models/{m}/ready", model_ready},
    {"GET", "v2/models/{m}/versions/{v}/ready", model_ready},
    {"GET", "v2/models/{m}/config", model_config},
    {"GET", "v2/models/{m}/versions/{v}/config", model_config},
    {"GET", "v2/models/{m}/stats", stats},
    {"GET", "v2/models/{m}/versions/{v}/stats", stats},
    {"POST", "v2/models/{m}/infer", infer},
    {"POST", "v2/models/{m}/versions/{v}/infer", infer},
    {"POST", "v2/models/{m}/generate", generate},
    {"POST", "v2/models/{m}/versions/{v}/generate", generate},
    {"POST", "v2/models/{m}/generate_stream", generate_stream},
    {"POST", "v2/models/{m}/versions/{v}/generate_stream", generate_stream},
    {"POST", "v2/repository/index", repository_index},
    {"POST", "v2/repository/models/{m}/load", load},
    {"POST", "v2/repository/models/{m}/unload", unload},
    {"GET", "v2/trace/setting", unsupported},
    {"POST", "v2/trace/setting", unsupported},
    {"GET", "v2/logging", unsupported},
    {"POST", "v2/logging", unsupported},
    {"GET", "v2/systemsharedmemory/status", unsupported},
    {"GET", "v2/cudasharedmemory/status", unsupported},
};
enum { N_ROUTE = sizeof routes / sizeof routes[0] };

/* Whether a part of the path is what the pattern's says. */
static bool part_fits(const char *pattern, size_t n_pattern, const char *part, size_t n, place *p) {
    if (n_pattern == 3 && memcmp(pattern, "{m}", 3) == 0) {
        if (n == 0 || n >= sizeof p->name) return false;
        memcpy(p->name, part, n);
        p->name[n] = '\0';
        return true;
    }
    if (n_pattern == 3 && memcmp(pattern, "{v}", 3) == 0) {
        p->version = 0;
        for (size_t i = 0; i < n; i++) {
            if (part[i] < '0' || part[i] > '9' || i == 18) return false;
            p->version = 10 * p->version + (part[i] - '0');
        }
        return p->version > 0;
    }
    return n == n_pattern && memcmp(pattern, part, n) == 0;
}

static bool fits(const char *pattern, const char *path, place *p) {
    *p = (place){0};
    for (;;) {
        const size_t n_pattern = strcspn(pattern, "/"), n = strcspn(path, "/");
        if (!part_fits(pattern, n_pattern, path, n, p)) return false;
        pattern += n_pattern, path += n;
        if (!*pattern || !*path) return *pattern == *path;
        pattern++, path++;
    }
}

enum MHD_Result dt_http_route(dt_http_exchange *x, const char *url, const char *method) {
    if (x->stage == DT_HTTP_INFERRING) return dt_http_infer_answer(x);
    if (x->stage == DT_HTTP_WORKING) return worked(x);
    if (x->stage == DT_HTTP_TELLING) return dt_http_generate_answer(x);
    char path[1024];
    const char *allow = NULL;
    if (snprintf(path, sizeof path, "%s", url + (*url == '/')) >= (int)sizeof path)
        return dt_http_refuse(x, 404, "there is no such path");
    const size_t n = strlen(path);
    if (n > 0 && path[n - 1] == '/') path[n - 1] = '\0';
    if (strcmp(method, "HEAD") == 0) method = "GET";
    for (int i = 0; i < N_ROUTE; i++) {
        place p;
        if (!fits(routes[i].path, path, &p)) continue;
        if (strcmp(routes[i].method, method) == 0) return routes[i].run(x, &p);
        allow = routes[i].method;
    }
    if (!allow) return dt_http_refuse(x, 404, "there is no path /%.200s", path);
    return dt_http_refuse(x, 405, "/%.200s takes %s alone", path, allow);
}
