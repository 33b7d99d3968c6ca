#include "generate_form.h"

#include <stdlib.h>
#include <string.h>

static dt_status add_stop(dt_json_in *j, dt_serve_text_options *o) {
    char *text = NULL;
    size_t n;
    if (o->n_stop == DT_SERVE_STOPS_MAX)
        return dt_json_fail(j, "more than %d stop texts", DT_SERVE_STOPS_MAX);
    DT_TRY(dt_json_long(j, &text, &n));
    o->stop[o->n_stop++] = text;
    return DT_OK;
}

/* A text, or a list of them. */
static dt_status read_stop(dt_json_in *j, void *to) {
    bool first = true, more;
    if (!dt_json_take(j, '[')) return add_stop(j, to);
    for (;;) {
        DT_TRY(dt_json_element(j, &first, &more));
        if (!more) return DT_OK;
        DT_TRY(add_stop(j, to));
    }
}

static dt_status read_max(dt_json_in *j, void *to) {
    dt_serve_text_options *o = to;
    DT_TRY(dt_json_whole(j, &o->max_tokens));
    return o->max_tokens >= 0 ? DT_OK : dt_json_fail(j, "max_tokens below 0");
}

static dt_status read_temperature(dt_json_in *j, void *to) {
    return dt_json_number(j, &((dt_serve_text_options *)to)->draw.temperature);
}

static dt_status read_top_p(dt_json_in *j, void *to) {
    return dt_json_number(j, &((dt_serve_text_options *)to)->draw.top_p);
}

static dt_status read_top_k(dt_json_in *j, void *to) {
    return dt_json_whole(j, &((dt_serve_text_options *)to)->draw.top_k);
}

static dt_status read_seed(dt_json_in *j, void *to) {
    int64_t seed;
    DT_TRY(dt_json_whole(j, &seed));
    if (seed < 0) return dt_json_fail(j, "a seed below 0");
    ((dt_serve_text_options *)to)->draw.seed = (uint64_t)seed;
    return DT_OK;
}

static dt_status read_no_stop(dt_json_in *j, void *to) {
    return dt_json_bool(j, &((dt_serve_text_options *)to)->no_stop);
}

/* Of a request, or in its "parameters". */
static const struct {
    const char *name;
    dt_status (*read)(dt_json_in *j, void *to);
} parameters[] = {
    {"max_tokens", read_max},  {"temperature", read_temperature},
    {"top_p", read_top_p},     {"top_k", read_top_k},
    {"seed", read_seed},       {"stop", read_stop},
    {"stop_words", read_stop}, {"ignore_eos", read_no_stop},
};
enum { N_PARAMETER = sizeof parameters / sizeof parameters[0] };

/* What is not known is passed over, as in all requests. */
static dt_status read_parameter(dt_json_in *j, const char *name, dt_serve_text_options *o) {
    for (int i = 0; i < N_PARAMETER; i++)
        if (strcmp(parameters[i].name, name) == 0) return parameters[i].read(j, o);
    return dt_json_skip(j);
}

static dt_status read_parameters(dt_json_in *j, dt_serve_text_options *o) {
    char name[DT_JSON_WORD];
    bool first = true, more;
    DT_TRY(dt_json_want(j, '{'));
    for (;;) {
        DT_TRY(dt_json_member(j, &first, name, &more));
        if (!more) return DT_OK;
        DT_TRY(read_parameter(j, name, o));
    }
}

static dt_status read_once(dt_json_in *j, const char *what, char **out, size_t *n) {
    if (*out) return dt_json_fail(j, "%s twice", what);
    return dt_json_long(j, out, n);
}

static dt_status read_body(dt_json_in *j, dt_generate_form *f) {
    char name[DT_JSON_WORD];
    bool first = true, more;
    size_t n;
    DT_TRY(dt_json_want(j, '{'));
    for (;;) {
        DT_TRY(dt_json_member(j, &first, name, &more));
        if (!more) break;
        if (strcmp(name, "text_input") == 0)
            DT_TRY(read_once(j, name, &f->prompt, &f->n_prompt));
        else if (strcmp(name, "id") == 0)
            DT_TRY(read_once(j, name, &f->id, &n));
        else if (strcmp(name, "parameters") == 0)
            DT_TRY(read_parameters(j, &f->how));
        else
            DT_TRY(read_parameter(j, name, &f->how));
    }
    if (!dt_json_at_end(j)) return dt_json_fail(j, "something behind its end");
    return f->prompt ? DT_OK : dt_json_fail(j, "no \"text_input\", the text to go on with");
}

dt_status dt_generate_read(const char *body, size_t n, dt_generate_form *out) {
    dt_json_in j = {body, body, body + n};
    *out =
        (dt_generate_form){.how = {.max_tokens = DT_TEXT_ALL,
                                   .draw = {.temperature = 0.8, .top_p = 1}}}; /* as dtrain sample has it */
    const dt_status st = read_body(&j, out);
    if (st != DT_OK) dt_generate_form_free(out);
    return st;
}

void dt_generate_form_free(dt_generate_form *f) {
    for (int32_t i = 0; i < f->how.n_stop; i++) free((void *)(uintptr_t)f->how.stop[i]);
    free(f->id), free(f->prompt);
    *f = (dt_generate_form){.id = NULL};
}

void dt_generate_write(const dt_generate_form *f, const dt_serve_model_info *m, const dt_serve_news *news,
                       const char *piece, size_t n, dt_http_text *json) {
    dt_http_put(json, "{");
    if (f->id) {
        dt_http_put(json, "\"id\":");
        dt_http_put_quoted(json, f->id);
        dt_http_put(json, ",");
    }
    dt_http_put(json, "\"model_name\":");
    dt_http_put_quoted(json, m->name);
    dt_http_putf(json, ",\"model_version\":\"%lld\",\"text_output\":", (long long)m->version);
    dt_http_put_quoted_bytes(json, piece, n);
    if (news->token >= 0) dt_http_putf(json, ",\"token\":%d", news->token);
    if (news->ended)
        dt_http_putf(json, ",\"finish_reason\":\"%s\",\"prompt_tokens\":%lld,\"tokens\":%lld", news->reason,
                     (long long)news->n_prompt, (long long)news->n_token);
    dt_http_put(json, "}");
}
