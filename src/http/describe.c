/* JSON about the server and its models. */
#include <ctype.h>
#include <string.h>

#include "core/version.h"
#include "private.h"

void dt_http_describe_server(dt_http_server *s, dt_http_text *t) {
    dt_http_put(t, "{\"name\":\"dtrain\",\"version\":");
    dt_http_put_quoted(t, dt_version());
    dt_http_put(
        t, ",\"extensions\":[\"binary_tensor_data\",\"model_repository\",\"schedule_policy\",\"statistics\","
           "\"model_configuration\",\"generate\",\"classification\"]");
    dt_http_putf(t, ",\"control\":%s,\"phase\":%d}", s->o.control ? "true" : "false", atomic_load(&s->phase));
}

/* "dtrain_onnx": the project, and the first word of the format. */
static void put_platform(dt_http_text *t, const char *format) {
    char word[32];
    size_t n = 0;
    for (; n + 1 < sizeof word && isalnum((unsigned char)format[n]); n++)
        word[n] = (char)tolower((unsigned char)format[n]);
    word[n] = '\0';
    dt_http_putf(t, "\"platform\":\"dtrain_%s\"", word);
}

static void put_shape(dt_http_text *t, const dt_serve_io *io, int32_t from) {
    dt_http_put(t, "[");
    for (int32_t i = from; i < io->ndim; i++)
        dt_http_putf(t, i > from ? ",%lld" : "%lld", (long long)io->dim[i]);
    dt_http_put(t, "]");
}

/* Inputs or outputs. In a configuration types have a prefix, and the batch is no dimension. */
typedef struct io_form {
    const char *type_key, *type_prefix, *no_type, *shape_key;
} io_form;
static const io_form metadata_form = {"datatype", "", "UNKNOWN", "shape"};
static const io_form config_form = {"data_type", "TYPE_", "INVALID", "dims"};

static void put_ios(dt_http_text *t, const io_form *f, const char *key, const dt_serve_io *io, int32_t n,
                    int32_t from) {
    dt_http_putf(t, ",\"%s\":[", key);
    for (int32_t i = 0; i < n; i++) {
        const char *type = dt_infer_type_name(io[i].type);
        dt_http_put(t, i ? ",{\"name\":" : "{\"name\":");
        dt_http_put_quoted(t, io[i].name);
        dt_http_putf(t, ",\"%s\":\"%s%s\",\"%s\":", f->type_key, f->type_prefix, type ? type : f->no_type,
                     f->shape_key);
        put_shape(t, &io[i], from);
        dt_http_put(t, "}");
    }
    dt_http_put(t, "]");
}

void dt_http_describe_model(const dt_serve_model_info *m, const dt_http_listed *all, int32_t n,
                            dt_http_text *t) {
    const char *comma = "";
    dt_http_put(t, "{\"name\":");
    dt_http_put_quoted(t, m->name);
    dt_http_put(t, ",\"versions\":[");
    for (int32_t i = 0; i < n; i++) {
        if (!all[i].model || strcmp(all[i].entry->name, m->name) != 0) continue;
        dt_http_putf(t, "%s\"%lld\"", comma, (long long)all[i].version);
        comma = ",";
    }
    dt_http_put(t, "],");
    put_platform(t, m->format);
    put_ios(t, &metadata_form, "inputs", m->in, m->n_in, 0);
    put_ios(t, &metadata_form, "outputs", m->out, m->n_out, 0);
    dt_http_put(t, "}");
}

void dt_http_describe_config(const dt_serve_model_info *m, dt_http_text *t) {
    dt_http_put(t, "{\"name\":");
    dt_http_put_quoted(t, m->name);
    dt_http_put(t, ",");
    put_platform(t, m->format);
    dt_http_putf(t, ",\"backend\":\"dtrain\",\"max_batch_size\":%lld",
                 (long long)(m->batched ? m->max_batch : 0));
    put_ios(t, &config_form, "input", m->in, m->n_in, m->batched ? 1 : 0);
    put_ios(t, &config_form, "output", m->out, m->n_out, m->batched ? 1 : 0);
    if (m->batched) dt_http_put(t, ",\"dynamic_batching\":{}");
    dt_http_put(t, ",\"parameters\":{");
    dt_http_putf(t, "\"level\":{\"string_value\":\"%s\"},\"level_error\":{\"string_value\":\"%g\"},",
                 dt_level_names[m->level], m->level_error);
    dt_http_putf(t, "\"weight_bytes\":{\"string_value\":\"%lld\"}}}", (long long)m->weight_bytes);
}

static void put_duration(dt_http_text *t, const char *key, int64_t count, int64_t ns) {
    dt_http_putf(t, "%s\"%s\":{\"count\":%lld,\"ns\":%lld}", strcmp(key, "success") == 0 ? "" : ",", key,
                 (long long)count, (long long)ns);
}

void dt_http_describe_stats(const dt_http_entry *e, const dt_serve_model *m, dt_http_text *t) {
    dt_serve_stats s;
    const dt_serve_model_info *info = dt_serve_model_get_info(m);
    dt_serve_model_stats(m, &s);
    dt_http_put(t, "{\"name\":");
    dt_http_put_quoted(t, e->name);
    dt_http_putf(
        t, ",\"version\":\"%lld\",\"last_inference\":%lld,\"inference_count\":%lld,\"execution_count\":%lld",
        (long long)info->version, (long long)(s.last_ns / 1000000), (long long)s.rows, (long long)s.runs);
    dt_http_put(t, ",\"inference_stats\":{");
    put_duration(t, "success", s.succeeded, s.queue_ns + s.input_ns + s.compute_ns + s.output_ns);
    put_duration(t, "fail", s.failed + s.refused + s.cancelled + s.expired, 0);
    put_duration(t, "queue", s.succeeded, s.queue_ns);
    put_duration(t, "compute_input", s.succeeded, s.input_ns);
    put_duration(t, "compute_infer", s.succeeded, s.compute_ns);
    put_duration(t, "compute_output", s.succeeded, s.output_ns);
    put_duration(t, "cache_hit", 0, 0);
    put_duration(t, "cache_miss", 0, 0);
    dt_http_put(t, "},\"batch_stats\":[],\"memory_usage\":[],\"dtrain\":{");
    dt_http_putf(t,
                 "\"accepted\":%lld,\"succeeded\":%lld,\"failed\":%lld,\"refused\":%lld,\"cancelled\":%lld,"
                 "\"expired\":%lld,",
                 (long long)s.accepted, (long long)s.succeeded, (long long)s.failed, (long long)s.refused,
                 (long long)s.cancelled, (long long)s.expired);
    dt_http_putf(t,
                 "\"waiting\":%lld,\"running\":%lld,\"max_batch\":%lld,\"weight_bytes\":%lld,\"level\":\"%"
                 "s\",\"runs_of_rows_up_to\":{",
                 (long long)s.waiting, (long long)s.running, (long long)info->max_batch,
                 (long long)info->weight_bytes, dt_level_names[info->level]);
    const char *comma = "";
    for (int i = 0; i < DT_SERVE_BATCH_BUCKETS; i++) {
        if (s.batch_runs[i] == 0) continue;
        dt_http_putf(t, "%s\"%d\":%lld", comma, 1 << i, (long long)s.batch_runs[i]);
        comma = ",";
    }
    dt_http_putf(t,
                 "},\"latency_s\":{\"min\":%.9g,\"avg\":%.9g,\"max\":%.9g,\"p50\":%.9g,\"p90\":%.9g,\"p99\":%"
                 ".9g,\"p99.9\":%.9g}}}",
                 s.latency.min_s, s.latency.avg_s, s.latency.max_s, s.latency.p50_s, s.latency.p90_s,
                 s.latency.p99_s, s.latency.p999_s);
}

void dt_http_describe_index(const dt_http_listed *l, int32_t n, dt_http_text *t) {
    dt_http_put(t, "[");
    for (int32_t i = 0; i < n; i++) {
        dt_http_put(t, i ? ",{\"name\":" : "{\"name\":");
        dt_http_put_quoted(t, l[i].entry->name);
        if (l[i].model) dt_http_putf(t, ",\"version\":\"%lld\"", (long long)l[i].version);
        dt_http_putf(t, ",\"state\":\"%s\",\"reason\":", l[i].model ? "READY" : "UNAVAILABLE");
        dt_http_put_quoted(t, l[i].reason ? l[i].reason : "");
        dt_http_put(t, "}");
    }
    dt_http_put(t, "]");
}
