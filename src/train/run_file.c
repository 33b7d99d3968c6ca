/* Inputs by name, one run, outputs by name. */
#include "train/run_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array_file.h"
#include "core/text.h"
#include "data/npy.h"
#include "onnx/run.h"
#include "train/network_load.h"
#include "train/session.h"

/* ---- .npy ---- */

static const struct {
    char type;
    int32_t size;
    dt_tensor_type is;
    const char *descr;
} types[] = {
    {'f', 2, DT_TENSOR_F16, "<f2"}, {'f', 4, DT_TENSOR_F32, "<f4"}, {'f', 8, DT_TENSOR_F64, "<f8"},
    {'i', 1, DT_TENSOR_I8, "|i1"},  {'i', 2, DT_TENSOR_I16, "<i2"}, {'i', 4, DT_TENSOR_I32, "<i4"},
    {'i', 8, DT_TENSOR_I64, "<i8"}, {'u', 1, DT_TENSOR_U8, "|u1"},  {'u', 2, DT_TENSOR_U16, "<u2"},
    {'u', 4, DT_TENSOR_U32, "<u4"}, {'u', 8, DT_TENSOR_U64, "<u8"}, {'b', 1, DT_TENSOR_BOOL, "|b1"},
};

/* n numbers of the file to ours: bytes in order, the last dimension side by side. */
static void put_in_order(const dt_npy *a, const uint8_t *from, uint8_t *to) {
    int64_t at[DT_MAX_DIM] = {0}, step[DT_MAX_DIM], stride = a->elem_size, off = 0;
    for (int32_t i = 0; i < a->ndim; i++) {
        const int32_t d = a->fortran ? i : a->ndim - 1 - i;
        step[d] = stride;
        stride *= a->dim[d];
    }
    for (int64_t i = 0; i < a->n_elem; i++, to += a->elem_size) {
        for (int32_t k = 0; k < a->elem_size; k++) to[k] = from[off + (a->swap ? a->elem_size - 1 - k : k)];
        for (int32_t d = a->ndim - 1; d >= 0; d--) {
            off += step[d];
            if (++at[d] < a->dim[d]) break;
            off -= step[d] * a->dim[d];
            at[d] = 0;
        }
    }
}

dt_status dt_array_file_read(const char *path, dt_host_tensor *out) {
    dt_mapped_file f;
    dt_npy a;
    dt_status st = dt_file_map(path, &f);
    if (st != DT_OK) {
        dt_error_context("%s", path);
        return st;
    }
    st = dt_npy_parse_any(path, f.byte, f.n_bytes, &a);
    if (st == DT_OK) {
        *out = (dt_host_tensor){.type = DT_TENSOR_TYPES, .ndim = a.ndim};
        memcpy(out->dim, a.dim, sizeof out->dim);
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
            if (types[i].type == a.type && types[i].size == a.elem_size) out->type = types[i].is;
        out->data = malloc((size_t)(a.n_elem * a.elem_size) + 1);
        if (!out->data)
            st = dt_fail(DT_ERR_MEMORY, "%s: no memory for %lld numbers", path, (long long)a.n_elem);
    }
    if (st == DT_OK) put_in_order(&a, f.byte + a.data_offset, out->data);
    if (dt_file_check(&f) != DT_OK) st = DT_ERR_DATA;
    dt_file_unmap(&f);
    return st;
}

static dt_status write_npy(const char *path, const dt_host_tensor *t) {
    char head[512], shape[256] = "";
    const char *descr = NULL;
    size_t used = 0;
    dt_host_tensor wide = *t;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].is == t->type) descr = types[i].descr;
    float *floats = NULL;
    const int64_t n = dt_host_n_elem(t);
    if (!descr) { /* bf16, numbers of a few bits */
        floats = malloc((size_t)n * sizeof *floats + 1);
        if (!floats) return dt_fail(DT_ERR_MEMORY, "no memory to write %s", path);
        for (int64_t i = 0; i < n; i++) floats[i] = (float)dt_host_f64(t, i);
        wide.type = DT_TENSOR_F32, wide.data = floats, descr = "<f4";
    }
    for (int32_t d = 0; d < t->ndim; d++)
        used += (size_t)snprintf(shape + used, sizeof shape - used, "%lld,%s", (long long)t->dim[d],
                                 d + 1 < t->ndim ? " " : "");
    const int len = snprintf(head + 10, sizeof head - 10,
                             "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape);
    const int whole = (int)dt_round_up(10 + len + 1, 64);
    memset(head + 10 + len, ' ', (size_t)(whole - 10 - len));
    head[whole - 1] = '\n';
    memcpy(head, "\x93NUMPY\x01\0", 8);
    head[8] = (char)((whole - 10) & 255), head[9] = (char)((whole - 10) >> 8);
    FILE *f = fopen(path, "wb");
    const size_t bytes = (size_t)dt_host_bytes(&wide);
    bool ok = f && fwrite(head, 1, (size_t)whole, f) == (size_t)whole &&
              (bytes == 0 || fwrite(wide.data, 1, bytes, f) == bytes);
    if (f) ok = fclose(f) == 0 && ok;
    free(floats);
    return ok ? DT_OK : dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
}

/* ---- names ---- */

static const char *shape_text(const dt_onnx_value_info *v, char text[256]) {
    size_t used = (size_t)snprintf(text, 256, "%s %s [", v->name,
                                   v->type == DT_TENSOR_TYPES ? "" : dt_tensor_type_name(v->type));
    for (int32_t d = 0; d < v->ndim && used < 240; d++) {
        const char *comma = d ? ", " : "", *name = v->dim_name[d];
        if (v->dim[d] >= 0)
            used += (size_t)snprintf(text + used, 256 - used, "%s%lld", comma, (long long)v->dim[d]);
        else
            used += (size_t)snprintf(text + used, 256 - used, "%s%.20s", comma, name && name[0] ? name : "?");
    }
    snprintf(text + (used < 255 ? used : 255), 256 - (used < 255 ? used : 255), "]");
    return text;
}

static dt_status fail_input(const dt_onnx_graph *g, const char *what, const char *name) {
    char *text = NULL;
    size_t size;
    FILE *list = open_memstream(&text, &size);
    if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for a message");
    for (int32_t i = 0; i < g->n_in; i++) {
        char shape[256];
        fprintf(list, "%s%s", i ? ", " : "", shape_text(&g->in[i], shape));
    }
    fclose(list);
    const dt_status st = dt_fail(DT_ERR_USAGE, "%s%s; the network reads %s", what, name, text ? text : "");
    free(text);
    return st;
}

static dt_status read_inputs(const dt_onnx_graph *g, const dt_run_file_options *o, dt_host_tensor *in) {
    for (int k = 0; k < o->n_input; k++) {
        const char *equals = strrchr(o->input[k], '='), *file = equals ? equals + 1 : o->input[k];
        const size_t n = equals ? (size_t)(equals - o->input[k]) : 0;
        int32_t at = equals || g->n_in != 1 ? g->n_in : 0;
        for (int32_t i = 0; i < g->n_in && equals; i++)
            if (strlen(g->in[i].name) == n && strncmp(g->in[i].name, o->input[k], n) == 0) at = i;
        if (at == g->n_in)
            return fail_input(g, equals ? "there is no input of " : "name the input: NAME=", o->input[k]);
        if (in[at].data) return fail_input(g, "given twice: ", g->in[at].name);
        DT_TRY(dt_array_file_read(file, &in[at]));
    }
    for (int32_t i = 0; i < g->n_in; i++)
        if (!in[i].data) return fail_input(g, "no value for ", g->in[i].name);
    return DT_OK;
}

/* A file's name: what is no letter, digit or one of ._- becomes _. */
static void file_name(const char *dir, const char *name, char path[DT_KEY_STRING_MAX + 256]) {
    int used = snprintf(path, DT_KEY_STRING_MAX + 256, "%.*s/", DT_KEY_STRING_MAX, dir);
    for (const char *c = name; *c && c - name < 200; c++)
        path[used++] = isalnum((unsigned char)*c) || strchr("._-", *c) ? *c : '_';
    snprintf(path + used, 6, ".npy");
}

/* Before anything is computed: two outputs would be one file. */
static dt_status check_names(const dt_onnx_graph *g) {
    for (int32_t i = 0; i < g->n_out; i++)
        for (int32_t k = 0; k < i; k++) {
            char a[DT_KEY_STRING_MAX + 256], b[DT_KEY_STRING_MAX + 256];
            file_name("", g->out[i].name, a);
            file_name("", g->out[k].name, b);
            if (strcmp(a, b) == 0)
                return dt_fail(
                    DT_ERR_UNSUPPORTED,
                    "outputs %s and %s would both be written as %s: leave --output out, or rename one",
                    g->out[k].name, g->out[i].name, a + 1);
        }
    return DT_OK;
}

static dt_status write_outputs(const dt_onnx_graph *g, const char *dir, const dt_host_tensor *out) {
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) return dt_fail(DT_ERR_IO, "%s: %s", dir, strerror(errno));
    for (int32_t i = 0; i < g->n_out; i++) {
        char path[DT_KEY_STRING_MAX + 256];
        file_name(dir, g->out[i].name, path);
        DT_TRY(write_npy(path, &out[i]));
    }
    return DT_OK;
}

/* ---- the run ---- */

static int by_seconds(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Times of a call of dt_onnx_run_go, or (in NULL) of its program alone. */
static dt_status measure(dt_onnx_run *r, const dt_host_tensor *in, dt_host_tensor *out, int64_t times,
                         const dt_sink *sink) {
    double *s = calloc((size_t)times, sizeof *s), sum = 0;
    dt_status st = s ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for %lld times", (long long)times);
    for (int64_t i = 0; i < times && st == DT_OK; i++) {
        const double begin = dt_time_s();
        st = in ? dt_onnx_run_go(r, in, out) : dt_onnx_run_again(r);
        sum += s[i] = dt_time_s() - begin;
    }
    if (st == DT_OK) {
        qsort(s, (size_t)times, sizeof *s, by_seconds);
        dt_tell(sink, DT_NEWS_LINE, "%lld runs%s: median %.3f ms, least %.3f, most %.3f, mean %.3f",
                (long long)times, in ? "" : " without copies", 1e3 * s[times / 2], 1e3 * s[0],
                1e3 * s[times - 1], 1e3 * sum / (double)times);
    }
    free(s);
    return st;
}

static void tell_outputs(const dt_onnx_graph *g, const dt_host_tensor *out, const dt_sink *sink) {
    for (int32_t i = 0; i < g->n_out; i++) {
        char shape[128] = "";
        size_t used = 0;
        for (int32_t d = 0; d < out[i].ndim; d++)
            used += (size_t)snprintf(shape + used, sizeof shape - used, "%s%lld", d ? "x" : "",
                                     (long long)out[i].dim[d]);
        dt_tell(sink, DT_NEWS_LINE, "%s: %s %s", g->out[i].name, out[i].ndim ? shape : "1",
                dt_tensor_type_name(out[i].type));
    }
}

static dt_status run_on(dt_backend *be, const dt_onnx_model *m, const dt_run_file_options *o,
                        const dt_onnx_run_options *how, const dt_host_tensor *in, const dt_sink *sink) {
    dt_onnx_run *r;
    dt_host_tensor *out = calloc((size_t)m->graph.n_out + 1, sizeof *out);
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory for the outputs");
    const double begin = dt_time_s();
    dt_status st = dt_onnx_run_create(be, m, in, how, &r);
    if (st != DT_OK) {
        free(out);
        return st;
    }
    const double made = dt_time_s();
    const dt_onnx_run_info *info = dt_onnx_run_get_info(r);
    st = dt_onnx_run_go(r, in, out);
    if (st == DT_OK && info->by_definition)
        dt_tell(sink, DT_NEWS_LINE,
                "%s, evaluated node by node: shapes follow from what is computed; first run %.1f ms", m->path,
                1e3 * (dt_time_s() - made));
    else if (st == DT_OK)
        dt_tell(sink, DT_NEWS_LINE, "%s on %s: %s%s%s; compiled in %.1f ms, first run %.1f ms, %s", m->path,
                be->info.name, dt_count_text(info->n_node, "kernel").s,
                info->n_call ? ", by definition " : "", info->called, 1e3 * (made - begin),
                1e3 * (dt_time_s() - made), dt_bytes_text((double)info->device_bytes).s);
    if (st == DT_OK) tell_outputs(&m->graph, out, sink);
    if (st == DT_OK && o->output) st = write_outputs(&m->graph, o->output, out);
    if (st == DT_OK && o->times > 0) st = measure(r, in, out, o->times, sink);
    if (st == DT_OK && o->times > 0 && !info->by_definition) st = measure(r, NULL, NULL, o->times, sink);
    dt_onnx_run_destroy(r);
    free(out);
    return st;
}

dt_status dt_run_file(const dt_config *c, const dt_run_file_options *o, const dt_sink *sink) {
    dt_onnx_model *m;
    dt_backend *be = NULL;
    DT_TRY(dt_network_load(o->path, o->config, &m));
    dt_host_tensor *in = calloc((size_t)m->graph.n_in + 1, sizeof *in);
    dt_status st = in ? read_inputs(&m->graph, o, in) : dt_fail(DT_ERR_MEMORY, "no memory for the inputs");
    if (st == DT_OK && o->output) st = check_names(&m->graph);
    if (st == DT_OK) st = dt_session_backend(c, NULL, &be);
    const dt_onnx_run_options how = {.plain = o->plain, .compute = dt_precision_dtype(c->train.precision)};
    if (st == DT_OK) st = run_on(be, m, o, &how, in, sink);
    if (be) be->destroy(be);
    for (int32_t i = 0; in && i < m->graph.n_in; i++) free(in[i].data);
    free(in);
    dt_onnx_model_free(m);
    return st;
}
