#include "infer_form.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

static const struct {
    dt_tensor_type type;
    const char *name;
} types[] = {
    {DT_TENSOR_BOOL, "BOOL"},  {DT_TENSOR_U8, "UINT8"}, {DT_TENSOR_U16, "UINT16"}, {DT_TENSOR_U32, "UINT32"},
    {DT_TENSOR_U64, "UINT64"}, {DT_TENSOR_I8, "INT8"},  {DT_TENSOR_I16, "INT16"},  {DT_TENSOR_I32, "INT32"},
    {DT_TENSOR_I64, "INT64"},  {DT_TENSOR_F16, "FP16"}, {DT_TENSOR_BF16, "BF16"},  {DT_TENSOR_F32, "FP32"},
    {DT_TENSOR_F64, "FP64"},
};
enum { N_TYPE = sizeof types / sizeof types[0], CLASSES_MAX = 1024 };

const char *dt_infer_type_name(dt_tensor_type type) {
    for (int i = 0; i < N_TYPE; i++)
        if (types[i].type == type) return types[i].name;
    return NULL;
}

static bool has_json(dt_tensor_type type) {
    return type != DT_TENSOR_F16 && type != DT_TENSOR_BF16;
}

/* What is known of a tensor of the request while it is read. */
typedef struct entry {
    char name[DT_JSON_WORD];
    bool has_name, has_type, has_shape, has_data, binary, has_binary;
    int64_t binary_bytes, classes;
    dt_host_tensor t;
    const char *data; /* where its JSON stands, before type and shape; NULL: it was read */
    void *own;        /* its elements, until the form has them */
} entry;

typedef struct reading {
    const dt_serve_model_info *m;
    dt_json_in j;
    const char *binary, *binary_end; /* what follows the JSON, and is not taken yet */
    dt_infer_form *form;
    bool all_binary;
    int32_t n_done;
} reading;

static int32_t find(const dt_serve_io *io, int32_t n, const char *name) {
    for (int32_t i = 0; i < n; i++)
        if (strcmp(io[i].name, name) == 0) return i;
    return -1;
}

/* Elements; -1: no memory could have so many. */
static int64_t count(const dt_host_tensor *t) {
    int64_t n = dt_host_elem_bytes(t->type);
    for (int32_t i = 0; i < t->ndim; i++)
        if (t->dim[i] == 0) return 0;
    for (int32_t i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(n, t->dim[i], &n)) return -1;
    return n / dt_host_elem_bytes(t->type);
}

static dt_status make_room(int64_t bytes, void **out) {
    *out = malloc((size_t)(bytes > 0 ? bytes : 1));
    return *out ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for an input of %lld bytes", (long long)bytes);
}

/* Data that stand in the body, or a copy where they are not aligned. */
static dt_status take_bytes(dt_infer_form *f, int32_t i, dt_host_tensor *t, const char *at, int64_t bytes) {
    if ((uintptr_t)at % (size_t)dt_host_elem_bytes(t->type) == 0) {
        t->data = (void *)(uintptr_t)at; /* the engine only reads inputs */
        return DT_OK;
    }
    DT_TRY(make_room(bytes, &f->owned[i]));
    memcpy(f->owned[i], at, (size_t)bytes);
    t->data = f->owned[i];
    return DT_OK;
}

static dt_status read_shape(dt_json_in *j, dt_host_tensor *t) {
    bool first = true, more;
    t->ndim = 0;
    DT_TRY(dt_json_want(j, '['));
    for (;;) {
        DT_TRY(dt_json_element(j, &first, &more));
        if (!more) return DT_OK;
        if (t->ndim == DT_MAX_DIM) return dt_json_fail(j, "a shape of more than %d dimensions", DT_MAX_DIM);
        int64_t *dim = &t->dim[t->ndim++];
        DT_TRY(dt_json_whole(j, dim));
        if (*dim < 0) return dt_json_fail(j, "a dimension of %lld", (long long)*dim);
    }
}

static dt_status read_type(dt_json_in *j, dt_tensor_type *type) {
    char name[DT_JSON_WORD];
    DT_TRY(dt_json_word(j, name));
    for (int i = 0; i < N_TYPE; i++)
        if (strcmp(types[i].name, name) == 0) return *type = types[i].type, DT_OK;
    return dt_json_fail(j, strcmp(name, "BYTES") == 0 ? "BYTES: no model here has texts"
                                                      : "no datatype that there is");
}

/* parameters of an input or output. */
static dt_status read_parameters(dt_json_in *j, entry *e) {
    char name[DT_JSON_WORD];
    bool first = true, more;
    DT_TRY(dt_json_want(j, '{'));
    for (;;) {
        DT_TRY(dt_json_member(j, &first, name, &more));
        if (!more) return DT_OK;
        if (strcmp(name, "binary_data_size") == 0) {
            DT_TRY(dt_json_whole(j, &e->binary_bytes));
            if (e->binary_bytes < 0) return dt_json_fail(j, "binary_data_size below 0");
        } else if (strcmp(name, "binary_data") == 0) {
            DT_TRY(dt_json_bool(j, &e->binary));
            e->has_binary = true;
        } else if (strcmp(name, "classification") == 0) {
            DT_TRY(dt_json_whole(j, &e->classes));
            if (e->classes < 0 || e->classes > CLASSES_MAX)
                return dt_json_fail(j, "classification %lld: 0 to %d", (long long)e->classes, CLASSES_MAX);
        } else if (strncmp(name, "shared_memory", 13) == 0) {
            return dt_json_fail(j, "shared memory is not supported");
        } else {
            DT_TRY(dt_json_skip(j));
        }
    }
}

static dt_status read_data(reading *r, entry *e) {
    const int64_t n = count(&e->t);
    if (!has_json(e->t.type))
        return dt_json_fail(&r->j, "%s has no form in JSON: send it as binary data",
                            dt_infer_type_name(e->t.type));
    if (n < 0 || n > r->j.end - r->j.start) /* a character each, at least */
        return dt_json_fail(&r->j, "fewer elements than the shape says");
    DT_TRY(make_room(n * dt_host_elem_bytes(e->t.type), &e->own));
    e->t.data = e->own;
    return dt_json_numbers(&r->j, &e->t);
}

/* One that the model has, complete, once. */
static dt_status finish_input(reading *r, entry *e) {
    dt_infer_form *f = r->form;
    dt_json_in *j = &r->j;
    if (!e->has_name || !e->has_type || !e->has_shape)
        return dt_json_fail(j, "an input without %s",
                            !e->has_name   ? "name"
                            : !e->has_type ? "datatype"
                                           : "shape");
    const int32_t i = find(r->m->in, r->m->n_in, e->name);
    if (i < 0) return dt_json_fail(j, "the model has no input \"%.64s\"", e->name);
    if (f->in[i].data) return dt_json_fail(j, "input \"%.64s\" is there twice", e->name);
    const dt_serve_io *io = &r->m->in[i];
    if (io->type != e->t.type)
        return dt_json_fail(j, "input \"%.64s\" is %s, the model's is %s", e->name,
                            dt_infer_type_name(e->t.type),
                            dt_infer_type_name(io->type) ? dt_infer_type_name(io->type) : "of another type");
    if (e->binary_bytes >= 0) {
        const int64_t n = count(&e->t), bytes = n < 0 ? -1 : n * dt_host_elem_bytes(e->t.type);
        if (e->has_data) return dt_json_fail(j, "input \"%.64s\" has data and binary data", e->name);
        if (e->binary_bytes != bytes)
            return dt_json_fail(j, "input \"%.64s\" has %lld bytes of binary data, its shape says %lld",
                                e->name, (long long)e->binary_bytes, (long long)bytes);
        if (bytes > r->binary_end - r->binary)
            return dt_json_fail(j, "input \"%.64s\" has %lld bytes of binary data, the body has %lld more",
                                e->name, (long long)bytes, (long long)(r->binary_end - r->binary));
        DT_TRY(take_bytes(f, i, &e->t, r->binary, bytes));
        r->binary += bytes;
    } else {
        if (!e->has_data) return dt_json_fail(j, "input \"%.64s\" has no data", e->name);
        if (e->data) {
            const char *behind = j->at;
            j->at = e->data;
            DT_TRY(read_data(r, e));
            j->at = behind;
        }
        f->owned[i] = e->own, e->own = NULL;
    }
    f->in[i] = e->t;
    r->n_done++;
    return DT_OK;
}

static dt_status read_input(reading *r, entry *e) {
    char name[DT_JSON_WORD];
    dt_json_in *j = &r->j;
    bool first = true, more;
    *e = (entry){.binary_bytes = -1};
    DT_TRY(dt_json_want(j, '{'));
    for (;;) {
        DT_TRY(dt_json_member(j, &first, name, &more));
        if (!more) return finish_input(r, e);
        if (strcmp(name, "name") == 0) {
            DT_TRY(dt_json_word(j, e->name));
            e->has_name = true;
        } else if (strcmp(name, "shape") == 0) {
            if (e->has_shape) return dt_json_fail(j, "an input with shape twice");
            DT_TRY(read_shape(j, &e->t));
            e->has_shape = true;
        } else if (strcmp(name, "datatype") == 0) {
            if (e->has_type) return dt_json_fail(j, "an input with datatype twice");
            DT_TRY(read_type(j, &e->t.type));
            e->has_type = true;
        } else if (strcmp(name, "parameters") == 0) {
            DT_TRY(read_parameters(j, e));
        } else if (strcmp(name, "data") == 0) {
            if (e->has_data) return dt_json_fail(j, "an input with data twice");
            e->has_data = true;
            if (e->has_type && e->has_shape) {
                DT_TRY(read_data(r, e));
            } else {
                e->data = j->at;
                DT_TRY(dt_json_skip(j));
            }
        } else {
            DT_TRY(dt_json_skip(j));
        }
    }
}

static dt_status read_output(reading *r, entry *e) {
    char name[DT_JSON_WORD];
    dt_json_in *j = &r->j;
    bool first = true, more;
    *e = (entry){.binary_bytes = -1};
    DT_TRY(dt_json_want(j, '{'));
    for (;;) {
        DT_TRY(dt_json_member(j, &first, name, &more));
        if (!more) break;
        if (strcmp(name, "name") == 0) {
            DT_TRY(dt_json_word(j, e->name));
            e->has_name = true;
        } else if (strcmp(name, "parameters") == 0) {
            DT_TRY(read_parameters(j, e));
        } else {
            DT_TRY(dt_json_skip(j));
        }
    }
    const int32_t i = e->has_name ? find(r->m->out, r->m->n_out, e->name) : -1;
    if (i < 0) return dt_json_fail(j, "the model has no output \"%.64s\"", e->name);
    for (int32_t k = 0; k < r->form->n_out; k++)
        if (r->form->out[k].index == i) return dt_json_fail(j, "output \"%.64s\" is there twice", e->name);
    r->form->out[r->form->n_out++] =
        (dt_infer_output){.index = i, .binary = e->binary, .told = e->has_binary, .classes = e->classes};
    return DT_OK;
}

typedef dt_status read_one(reading *r, entry *e);

static dt_status read_list(reading *r, entry *e, read_one *one) {
    bool first = true, more;
    DT_TRY(dt_json_want(&r->j, '['));
    for (;;) {
        DT_TRY(dt_json_element(&r->j, &first, &more));
        if (!more) return DT_OK;
        DT_TRY(one(r, e));
    }
}

static dt_status read_request_parameters(reading *r) {
    char name[DT_JSON_WORD];
    dt_json_in *j = &r->j;
    dt_infer_form *f = r->form;
    bool first = true, more;
    DT_TRY(dt_json_want(j, '{'));
    for (;;) {
        int64_t v = 0;
        DT_TRY(dt_json_member(j, &first, name, &more));
        if (!more) return DT_OK;
        if (strcmp(name, "priority") == 0) {
            DT_TRY(dt_json_whole(j, &v));
            if (v < 0 || v >= DT_SERVE_PRIORITIES)
                return dt_json_fail(j, "priority %lld: expected 0 to %d", (long long)v,
                                    DT_SERVE_PRIORITIES - 1);
            f->priority = (int32_t)v;
        } else if (strcmp(name, "timeout") == 0) {
            DT_TRY(dt_json_whole(j, &v));
            if (v < 0) return dt_json_fail(j, "timeout %lld: expected microseconds", (long long)v);
            f->timeout_us = v;
        } else if (strcmp(name, "binary_data_output") == 0) {
            DT_TRY(dt_json_bool(j, &r->all_binary));
        } else if (strcmp(name, "allow_nan") == 0) {
            DT_TRY(dt_json_bool(j, &f->plain_nan));
        } else if (strncmp(name, "sequence_", 9) == 0) {
            return dt_json_fail(j, "sequences are not supported");
        } else {
            DT_TRY(dt_json_skip(j));
        }
    }
}

static dt_status read_json(reading *r, entry *e) {
    char name[DT_JSON_WORD];
    dt_json_in *j = &r->j;
    bool first = true, more, asked = false;
    DT_TRY(dt_json_want(j, '{'));
    for (;;) {
        DT_TRY(dt_json_member(j, &first, name, &more));
        if (!more) break;
        if (strcmp(name, "id") == 0) {
            DT_TRY(dt_json_word(j, name));
            free(r->form->id);
            r->form->id = strdup(name);
            if (!r->form->id) return dt_fail(DT_ERR_MEMORY, "no memory for a request's id");
        } else if (strcmp(name, "inputs") == 0) {
            DT_TRY(read_list(r, e, read_input));
        } else if (strcmp(name, "outputs") == 0) {
            DT_TRY(read_list(r, e, read_output));
            asked = r->form->n_out > 0;
        } else if (strcmp(name, "parameters") == 0) {
            DT_TRY(read_request_parameters(r));
        } else {
            DT_TRY(dt_json_skip(j));
        }
    }
    if (!dt_json_at_end(j)) return dt_json_fail(j, "something behind its end");
    if (r->binary != r->binary_end)
        return dt_fail(DT_ERR_USAGE, "%lld bytes of binary data belong to no input",
                       (long long)(r->binary_end - r->binary));
    for (int32_t i = 0; !asked && i < r->m->n_out; i++)
        r->form->out[r->form->n_out++] = (dt_infer_output){.index = i};
    for (int32_t i = 0; i < r->form->n_out; i++)
        if (!r->form->out[i].told) r->form->out[i].binary = r->all_binary;
    return DT_OK;
}

/* The whole body is the only input's data; what its shape leaves open follows from their number. */
static dt_status read_raw(reading *r, const char *body, size_t n) {
    const dt_serve_model_info *m = r->m;
    if (m->n_in != 1)
        return dt_fail(DT_ERR_USAGE, "raw binary data are for models with one input, this one has %d",
                       m->n_in);
    const dt_serve_io *io = &m->in[0];
    dt_host_tensor t = {.type = io->type, .ndim = io->ndim};
    int64_t known = dt_host_elem_bytes(io->type);
    int32_t open = -1;
    if (io->ndim < 0 || known == 0)
        return dt_fail(DT_ERR_USAGE, "raw binary data need an input of known shape");
    for (int32_t i = 0; i < io->ndim; i++) {
        t.dim[i] = io->dim[i];
        if (io->dim[i] >= 0) {
            if (__builtin_mul_overflow(known, io->dim[i], &known)) known = 0;
        } else if (open >= 0) {
            return dt_fail(DT_ERR_USAGE, "raw binary data: the shape leaves more than one dimension open");
        } else {
            open = i;
        }
    }
    if (open >= 0 && known > 0 && n > 0 && (int64_t)n % known == 0)
        t.dim[open] = (int64_t)n / known;
    else if (open >= 0 || (int64_t)n != known)
        return dt_fail(DT_ERR_USAGE, "raw binary data of %zu bytes do not fit input \"%s\"", n, io->name);
    DT_TRY(take_bytes(r->form, 0, &t, body, (int64_t)n));
    r->form->in[0] = t;
    r->n_done = 1;
    for (int32_t i = 0; i < m->n_out; i++)
        r->form->out[r->form->n_out++] = (dt_infer_output){.index = i, .binary = true};
    return DT_OK;
}

static dt_status check_all(const reading *r) {
    for (int32_t i = 0; i < r->m->n_in; i++)
        if (!r->form->in[i].data)
            return dt_fail(DT_ERR_USAGE, "input \"%s\" is missing: the model has %s, the request %d",
                           r->m->in[i].name, dt_count_text(r->m->n_in, "input").s, r->n_done);
    for (int32_t i = 0; i < r->form->n_out; i++) {
        const dt_serve_io *io = &r->m->out[r->form->out[i].index];
        if (!r->form->out[i].binary && !r->form->out[i].classes && !has_json(io->type))
            return dt_fail(DT_ERR_USAGE, "output \"%s\" has no form in JSON: ask for it as binary data",
                           io->name);
    }
    return DT_OK;
}

dt_status dt_infer_read(const dt_serve_model_info *m, const char *body, size_t n, int64_t json_bytes,
                        dt_infer_form *out) {
    const size_t json = json_bytes < 0 ? n : (size_t)json_bytes;
    *out = (dt_infer_form){.n_in = m->n_in};
    if (json > n)
        return dt_fail(DT_ERR_USAGE, "Inference-Header-Content-Length: %lld, the body has %zu bytes",
                       (long long)json_bytes, n);
    const size_t n_in = (size_t)m->n_in + 1, n_out = (size_t)m->n_out + 1;
    out->in = calloc(n_in, sizeof *out->in);
    out->owned = calloc(n_in, sizeof *out->owned);
    out->out = calloc(n_out, sizeof *out->out);
    entry *e = calloc(1, sizeof *e);
    reading r = {
        .m = m, .j = {body, body, body + json}, .binary = body + json, .binary_end = body + n, .form = out};
    dt_status st =
        out->in && out->owned && out->out && e ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a request");
    if (st == DT_OK) st = json_bytes == 0 ? read_raw(&r, body, n) : read_json(&r, e);
    if (st == DT_OK) st = check_all(&r);
    if (e) free(e->own);
    free(e);
    if (st != DT_OK) dt_infer_form_free(out);
    return st;
}

void dt_infer_form_free(dt_infer_form *f) {
    for (int32_t i = 0; f->owned && i < f->n_in; i++) free(f->owned[i]);
    free(f->in), free(f->owned), free(f->out), free(f->id);
    *f = (dt_infer_form){0};
}

static void put_float(dt_http_text *t, double v, bool single, bool plain_nan) {
    if (!isfinite(v)) {
        dt_http_put(t, !plain_nan ? "null" : isnan(v) ? "NaN" : v < 0 ? "-Infinity" : "Infinity");
    } else {
        dt_http_putf(t, single ? "%.9g" : "%.17g", v);
    }
}

static void put_data(dt_http_text *json, const dt_host_tensor *t, bool plain_nan) {
    const int64_t n = dt_host_n_elem(t);
    for (int64_t i = 0; i < n && !json->lost; i++) {
        if (i) dt_http_put(json, ",");
        if (t->type == DT_TENSOR_BOOL)
            dt_http_put(json, ((const uint8_t *)t->data)[i] ? "true" : "false");
        else if (t->type == DT_TENSOR_U64)
            dt_http_putf(json, "%llu", (unsigned long long)((const uint64_t *)t->data)[i]);
        else if (dt_host_is(t, DT_HOST_FLOATS))
            put_float(json, dt_host_f64(t, i), t->type == DT_TENSOR_F32, plain_nan);
        else
            dt_http_put_whole(json, dt_host_i64(t, i));
    }
}

dt_status dt_infer_write(const dt_infer_form *f, const dt_serve_model_info *m,
                         const dt_host_tensor *const *out, const dt_http_text *classes, dt_http_text *json) {
    dt_http_put(json, "{\"model_name\":");
    dt_http_put_quoted(json, m->name);
    dt_http_putf(json, ",\"model_version\":\"%lld\"", (long long)m->version);
    if (f->id) {
        dt_http_put(json, ",\"id\":");
        dt_http_put_quoted(json, f->id);
    }
    dt_http_put(json, ",\"outputs\":[");
    for (int32_t k = 0; k < f->n_out; k++) {
        const dt_serve_io *io = &m->out[f->out[k].index];
        const dt_host_tensor *t = out[k];
        const dt_infer_output *o = &f->out[k];
        const char *type = o->classes ? "BYTES" : dt_infer_type_name(t->type);
        if (!type)
            return dt_fail(DT_ERR_UNSUPPORTED, "output \"%s\" is of a type that answers do not have",
                           io->name);
        dt_http_put(json, k ? ",{\"name\":" : "{\"name\":");
        dt_http_put_quoted(json, io->name);
        dt_http_putf(json, ",\"datatype\":\"%s\",\"shape\":[", type);
        for (int32_t i = 0; i < t->ndim; i++)
            dt_http_putf(
                json, i ? ",%lld" : "%lld",
                (long long)(o->classes && i == t->ndim - 1 ? dt_infer_class_count(o, t) : t->dim[i]));
        if (o->binary) {
            dt_http_putf(json, "],\"parameters\":{\"binary_data_size\":%lld}}",
                         (long long)(o->classes ? (int64_t)classes[k].n : dt_host_bytes(t)));
        } else {
            dt_http_put(json, "],\"data\":[");
            if (o->classes)
                dt_http_put(json, classes[k].s ? classes[k].s : "");
            else
                put_data(json, t, f->plain_nan);
            dt_http_put(json, "]}");
        }
    }
    dt_http_put(json, "]}");
    return json->lost ? dt_fail(DT_ERR_MEMORY, "no memory for an answer") : DT_OK;
}
