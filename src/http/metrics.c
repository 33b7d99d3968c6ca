/* The text for Prometheus: each figure under a name of dtrain's in seconds, and those that dashboards of Triton read under
 * its names in microseconds. */
#include <stdlib.h>

#include "private.h"

typedef struct row {
    const dt_http_listed *l;
    dt_serve_stats s;
    dt_serve_texts_info texts;
} row;

typedef double figure_fn(const row *r);

static double success(const row *r) {
    return (double)r->s.succeeded;
}
static double failed(const row *r) {
    return (double)r->s.failed;
}
static double refused(const row *r) {
    return (double)r->s.refused;
}
static double cancelled(const row *r) {
    return (double)r->s.cancelled;
}
static double expired(const row *r) {
    return (double)r->s.expired;
}
static double rows_done(const row *r) {
    return (double)r->s.rows;
}
static double runs(const row *r) {
    return (double)r->s.runs;
}
static double waiting(const row *r) {
    return (double)r->s.waiting;
}
static double running(const row *r) {
    return (double)r->s.running;
}
static double queue(const row *r) {
    return (double)r->s.queue_ns;
}
static double input(const row *r) {
    return (double)r->s.input_ns;
}
static double compute(const row *r) {
    return (double)r->s.compute_ns;
}
static double output(const row *r) {
    return (double)r->s.output_ns;
}
static double all(const row *r) {
    return queue(r) + input(r) + compute(r) + output(r);
}
static double p50(const row *r) {
    return r->s.latency.p50_s;
}
static double p90(const row *r) {
    return r->s.latency.p90_s;
}
static double p99(const row *r) {
    return r->s.latency.p99_s;
}
static double p999(const row *r) {
    return r->s.latency.p999_s;
}
static double weights(const row *r) {
    return (double)dt_serve_model_get_info(r->l->model)->weight_bytes;
}

static double text_tokens(const row *r) {
    return (double)r->texts.tokens;
}
static double text_steps(const row *r) {
    return (double)r->texts.steps;
}
static double texts_waiting(const row *r) {
    return (double)r->texts.waiting;
}
static double texts_running(const row *r) {
    return (double)r->texts.running;
}
static double text_bytes(const row *r) {
    return (double)r->texts.bytes;
}

/* Rows of one name stand together. */
static const struct {
    const char *name, *kind, *help, *label; /* label: besides model and version; NULL */
    figure_fn *figure;
    double unit;
} figures[] = {
    {"dtrain_requests_total", "counter", "Requests by how they ended", "result=\"success\"", success, 1},
    {"dtrain_requests_total", NULL, NULL, "result=\"failed\"", failed, 1},
    {"dtrain_requests_total", NULL, NULL, "result=\"refused\"", refused, 1},
    {"dtrain_requests_total", NULL, NULL, "result=\"cancelled\"", cancelled, 1},
    {"dtrain_requests_total", NULL, NULL, "result=\"expired\"", expired, 1},
    {"dtrain_rows_total", "counter", "Rows answered", NULL, rows_done, 1},
    {"dtrain_runs_total", "counter", "Batches run", NULL, runs, 1},
    {"dtrain_requests_waiting", "gauge", "Requests in the queue", NULL, waiting, 1},
    {"dtrain_requests_running", "gauge", "Requests that run", NULL, running, 1},
    {"dtrain_time_seconds_total", "counter", "Where requests spent their time", "part=\"queue\"", queue,
     1e-9},
    {"dtrain_time_seconds_total", NULL, NULL, "part=\"input\"", input, 1e-9},
    {"dtrain_time_seconds_total", NULL, NULL, "part=\"compute\"", compute, 1e-9},
    {"dtrain_time_seconds_total", NULL, NULL, "part=\"output\"", output, 1e-9},
    {"dtrain_latency_seconds", "gauge", "From submission to answer, since the model was loaded",
     "quantile=\"0.5\"", p50, 1},
    {"dtrain_latency_seconds", NULL, NULL, "quantile=\"0.9\"", p90, 1},
    {"dtrain_latency_seconds", NULL, NULL, "quantile=\"0.99\"", p99, 1},
    {"dtrain_latency_seconds", NULL, NULL, "quantile=\"0.999\"", p999, 1},
    {"dtrain_weight_bytes", "gauge", "Weights in memory", NULL, weights, 1},
    {"dtrain_text_tokens_total", "counter", "Tokens of texts", NULL, text_tokens, 1},
    {"dtrain_text_steps_total", "counter", "Steps of all texts together", NULL, text_steps, 1},
    {"dtrain_texts_waiting", "gauge", "Texts in the queue", NULL, texts_waiting, 1},
    {"dtrain_texts_running", "gauge", "Texts that have a place", NULL, texts_running, 1},
    {"dtrain_text_bytes", "gauge", "Weights and places of texts", NULL, text_bytes, 1},
    {"nv_inference_request_success", "counter", "Successful requests", NULL, success, 1},
    {"nv_inference_request_failure", "counter", "Failed requests", "reason=\"BACKEND\"", failed, 1},
    {"nv_inference_request_failure", NULL, NULL, "reason=\"REJECTED\"", refused, 1},
    {"nv_inference_request_failure", NULL, NULL, "reason=\"CANCELED\"", cancelled, 1},
    {"nv_inference_request_failure", NULL, NULL, "reason=\"OTHER\"", expired, 1},
    {"nv_inference_count", "counter", "Rows answered", NULL, rows_done, 1},
    {"nv_inference_exec_count", "counter", "Batches run", NULL, runs, 1},
    {"nv_inference_pending_request_count", "gauge", "Requests in the queue", NULL, waiting, 1},
    {"nv_inference_request_duration_us", "counter", "Sum of requests' times", NULL, all, 1e-3},
    {"nv_inference_queue_duration_us", "counter", "Sum of times in the queue", NULL, queue, 1e-3},
    {"nv_inference_compute_input_duration_us", "counter", "Sum of times of inputs", NULL, input, 1e-3},
    {"nv_inference_compute_infer_duration_us", "counter", "Sum of times of batches", NULL, compute, 1e-3},
    {"nv_inference_compute_output_duration_us", "counter", "Sum of times of outputs", NULL, output, 1e-3},
};
enum { N_FIGURE = sizeof figures / sizeof figures[0] };

static void put_head(dt_http_text *t, const char *name, const char *kind, const char *help) {
    dt_http_putf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void put_labels(dt_http_text *t, const dt_http_listed *l) {
    /* Names have no quotes, backslashes and ends of lines. */
    dt_http_putf(t, "model=\"%s\",version=\"%lld\"", l->entry->name, (long long)l->version);
}

static void put_number(dt_http_text *t, const char *name, const char *kind, const char *help, double value) {
    put_head(t, name, kind, help);
    dt_http_putf(t, "%s %.17g\n", name, value);
}

/* By model: its versions share it, and it outlives reloads. */
static void put_histogram(dt_http_text *t, const dt_http_listed *l, int32_t n) {
    static const char name[] = "dtrain_http_request_seconds";
    put_head(t, name, "histogram", "Inferences answered, from their first byte to the first of the answer");
    for (int32_t i = 0; i < n; i++) {
        dt_http_entry *e = l[i].entry;
        int64_t sum = 0;
        if (i > 0 && l[i - 1].entry == e) continue;
        const int64_t total = atomic_load(&e->answered);
        for (int b = 0; b < DT_HTTP_BUCKETS; b++) {
            sum += atomic_load(&e->bucket[b]);
            dt_http_putf(t, "%s_bucket{model=\"%s\",le=\"%g\"} %lld\n", name, e->name,
                         1e-6 * (double)dt_http_bucket_us[b], (long long)(sum < total ? sum : total));
        }
        dt_http_putf(t, "%s_bucket{model=\"%s\",le=\"+Inf\"} %lld\n", name, e->name, (long long)total);
        dt_http_putf(t, "%s_sum{model=\"%s\"} %.9g\n%s_count{model=\"%s\"} %lld\n", name, e->name,
                     1e-9 * (double)atomic_load(&e->answered_ns), name, e->name, (long long)total);
    }
}

static void put_batches(dt_http_text *t, const row *r, int32_t n) {
    static const char name[] = "dtrain_batch_rows";
    put_head(t, name, "histogram", "Rows that ran together");
    for (int32_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (int b = 0; b < DT_SERVE_BATCH_BUCKETS; b++) {
            sum += r[i].s.batch_runs[b];
            dt_http_putf(t, "%s_bucket{", name);
            put_labels(t, r[i].l);
            dt_http_putf(t, ",le=\"%d\"} %lld\n", 1 << b, (long long)sum);
        }
        const int64_t total = r[i].s.runs > sum ? r[i].s.runs : sum;
        dt_http_putf(t, "%s_bucket{", name);
        put_labels(t, r[i].l);
        dt_http_putf(t, ",le=\"+Inf\"} %lld\n%s_sum{", (long long)total, name);
        put_labels(t, r[i].l);
        dt_http_putf(t, "} %lld\n%s_count{", (long long)r[i].s.rows, name);
        put_labels(t, r[i].l);
        dt_http_putf(t, "} %lld\n", (long long)total);
    }
}

static void put_process(dt_http_server *s, dt_http_text *t) {
    dt_serve_resources r;
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    put_number(t, "dtrain_ready", "gauge", "1 while requests are welcome",
               atomic_load(&s->phase) == DT_HTTP_SERVING);
    put_number(t, "dtrain_http_requests_total", "counter", "Requests of any kind",
               (double)atomic_load(&s->requests));
    put_number(t, "dtrain_http_errors_total", "counter", "Requests answered with an error",
               (double)atomic_load(&s->refused));
    put_number(t, "dtrain_http_connections", "gauge", "Open connections", i ? (double)i->num_connections : 0);
    put_number(t, "dtrain_http_body_bytes", "gauge", "Memory of requests' bodies",
               (double)atomic_load(&s->bodies_bytes));
    if (dt_serve_resources_read(s->o.engine, &r) != DT_OK) return;
    put_number(t, "dtrain_resident_bytes", "gauge", "Memory of the process", (double)r.rss_bytes);
    put_number(t, "dtrain_cpu_seconds_total", "counter", "CPU time of the process", r.cpu_seconds);
    put_number(t, "dtrain_cpu_limit", "gauge", "Cores that the process may use", r.cpu_limit);
    put_number(t, "dtrain_model_bytes", "gauge", "Weights and programs of all models", (double)r.model_bytes);
    put_number(t, "nv_cpu_memory_total_bytes", "gauge", "Memory of the host", (double)r.host_total_bytes);
    if (r.device_total_bytes == 0) return;
    put_number(t, "nv_gpu_memory_total_bytes", "gauge", "Memory of the GPU", (double)r.device_total_bytes);
    put_number(t, "nv_gpu_memory_used_bytes", "gauge", "Of it in use", (double)r.device_used_bytes);
    if (r.device_utilisation >= 0)
        put_number(t, "nv_gpu_utilization", "gauge", "0 to 1", r.device_utilisation);
}

dt_status dt_http_metrics(dt_http_server *s, dt_http_text *t) {
    dt_http_listed *l = NULL;
    int32_t n = 0, n_row = 0;
    DT_TRY(dt_http_models_list(&s->models, &l, &n));
    row *r = calloc((size_t)n + 1, sizeof *r);
    for (int32_t i = 0; r && i < n; i++)
        if (l[i].model) {
            r[n_row].l = &l[i];
            dt_serve_texts_get_info(l[i].model, &r[n_row].texts);
            dt_serve_model_stats(l[i].model, &r[n_row++].s);
        }
    for (int k = 0; r && k < N_FIGURE; k++) {
        if (figures[k].kind) put_head(t, figures[k].name, figures[k].kind, figures[k].help);
        for (int32_t i = 0; i < n_row; i++) {
            dt_http_putf(t, "%s{", figures[k].name);
            put_labels(t, r[i].l);
            dt_http_putf(t, "%s%s} %.15g\n", figures[k].label ? "," : "",
                         figures[k].label ? figures[k].label : "",
                         figures[k].figure(&r[i]) * figures[k].unit);
        }
    }
    if (r) {
        put_histogram(t, l, n);
        put_batches(t, r, n_row);
        put_process(s, t);
    }
    const dt_status st = r ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for the metrics");
    free(r);
    dt_http_listed_free(l, n);
    return st;
}
