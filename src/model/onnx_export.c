/* Values and their layouts. A layout is changed where an op needs another, once for each value, so that no transpose
 * stands inside a region of convolutions. */
#include "onnx_export_private.h"

#include <stdlib.h>
#include <string.h>

#include "core/version.h"

enum { OPSET = 17 };

void dt_onnx_set(dt_onnx_exporter *x, dt_vid v, dt_onnx_layout layout, const char *name) {
    x->view[v].name[layout] = name;
    x->view[v].first = layout;
}

const char *dt_onnx_result(const dt_onnx_exporter *x, const dt_node *n) {
    return x->g->value[n->out[0]].name;
}

dt_onnx_layout dt_onnx_prefer(const dt_onnx_exporter *x, const dt_node *n) {
    return x->view[n->in[0]].first;
}

int32_t dt_onnx_axis_in(const dt_value *v, dt_onnx_layout layout, int32_t d) {
    static const int32_t place[4] = {0, 2, 3, 1};
    return layout == DT_ONNX_CHANNELS && v->ndim == 4 ? place[d] : d;
}

const char *dt_onnx_reshape(dt_onnx_exporter *x, const char *name, const char *from, int32_t ndim,
                            const int64_t *dim, bool same_batch) {
    int64_t shape[DT_MAX_DIM];
    bool open = false;
    for (int32_t i = 0; i < ndim; i++) {
        const bool batch = dim[i] % DT_ONNX_EXPORT_ROWS == 0 && !open && !(same_batch && i > 0);
        shape[i] = !batch ? dim[i] : same_batch ? 0 : -1;
        open |= batch;
    }
    return dt_onnx_draft_op(&x->d, "Reshape", name, DT_ONNX_IN(from, dt_onnx_draft_i64s(&x->d, ndim, shape)),
                            DT_ONNX_PLAIN);
}

static const char *transposed(dt_onnx_exporter *x, const char *from, int32_t ndim, const int64_t *perm) {
    return dt_onnx_draft_op(&x->d, "Transpose", NULL, DT_ONNX_IN(from),
                            DT_ONNX_ATTR(dt_onnx_ints("perm", ndim, perm)));
}

static const char *shaped(dt_onnx_exporter *x, const char *from, int32_t ndim, const int64_t *dim) {
    return dt_onnx_draft_op(&x->d, "Reshape", NULL, DT_ONNX_IN(from, dt_onnx_draft_i64s(&x->d, ndim, dim)),
                            DT_ONNX_PLAIN);
}

/* [..., C H W] as [..., H W C]. */
static const char *rows_to_same(dt_onnx_exporter *x, const dt_value *v, const dt_onnx_view *w) {
    const int64_t c = v->dim[v->ndim - 1] / w->pixels;
    const char *from = w->name[DT_ONNX_ROWS];
    if (v->ndim == 1) {
        const char *apart = shaped(x, from, 2, (int64_t[]){c, w->pixels});
        return shaped(x, transposed(x, apart, 2, (int64_t[]){1, 0}), 1, (int64_t[]){-1});
    }
    const char *apart = shaped(x, from, 3, (int64_t[]){0, c, w->pixels});
    return shaped(x, transposed(x, apart, 3, (int64_t[]){0, 2, 1}), 2, (int64_t[]){0, v->dim[1]});
}

static const char *to_same(dt_onnx_exporter *x, const dt_value *v, const dt_onnx_view *w) {
    if (w->name[DT_ONNX_CHANNELS])
        return transposed(x, w->name[DT_ONNX_CHANNELS], 4, (int64_t[]){0, 2, 3, 1});
    if (w->name[DT_ONNX_ROWS]) return rows_to_same(x, v, w);
    if (w->name[DT_ONNX_TURNED]) return transposed(x, w->name[DT_ONNX_TURNED], 2, (int64_t[]){1, 0});
    if (w->name[DT_ONNX_COLUMN]) return shaped(x, w->name[DT_ONNX_COLUMN], 1, (int64_t[]){-1});
    dt_onnx_draft_fail(&x->d, "%s: read before it is made", v->name);
    return "";
}

const char *dt_onnx_see(dt_onnx_exporter *x, dt_vid v, dt_onnx_layout layout) {
    dt_onnx_view *w = &x->view[v];
    const dt_value *value = &x->g->value[v];
    if (w->name[layout]) return w->name[layout];
    if (!w->name[DT_ONNX_SAME]) w->name[DT_ONNX_SAME] = to_same(x, value, w);
    const char *same = w->name[DT_ONNX_SAME];
    if (layout == DT_ONNX_CHANNELS && value->ndim == 4)
        w->name[layout] = transposed(x, same, 4, (int64_t[]){0, 3, 1, 2});
    else if (layout == DT_ONNX_TURNED && value->ndim == 2)
        w->name[layout] = transposed(x, same, 2, (int64_t[]){1, 0});
    else if (layout == DT_ONNX_COLUMN && value->ndim == 1)
        w->name[layout] = shaped(x, same, 3, (int64_t[]){-1, 1, 1});
    else if (layout != DT_ONNX_SAME)
        dt_onnx_draft_fail(&x->d, "%s: of no layout that its reader has", value->name);
    return w->name[layout] ? w->name[layout] : "";
}

const char *dt_onnx_see_in(dt_onnx_exporter *x, const dt_node *n, int32_t slot, dt_onnx_layout layout) {
    return dt_node_has(n, slot) ? dt_onnx_see(x, n->in[slot], layout) : "";
}

/* ---- what goes in and out ---- */

static const dt_file_tensor *find_tensor(const dt_onnx_export *o, const char *name) {
    for (int64_t i = 0; i < o->n; i++)
        if (strcmp(o->tensor[i].name, name) == 0) return &o->tensor[i];
    return NULL;
}

/* A parameter or running statistic, as a constant in the layout of files. */
static dt_status put_weight(dt_onnx_exporter *x, dt_vid v) {
    static const dt_onnx_layout as[] = {[DT_WEIGHT_SAME] = DT_ONNX_SAME,
                                        [DT_WEIGHT_CHANNELS_LAST] = DT_ONNX_CHANNELS,
                                        [DT_WEIGHT_IMAGE_ROWS] = DT_ONNX_ROWS,
                                        [DT_WEIGHT_TRANSPOSED] = DT_ONNX_TURNED,
                                        [DT_WEIGHT_PER_CHANNEL] = DT_ONNX_COLUMN};
    const char *name = x->g->value[v].name;
    const dt_weight *w = dt_weight_find(x->o->net, name);
    const dt_file_tensor *t = find_tensor(x->o, name);
    if (!w || !t || t->type != DT_TENSOR_F32)
        return dt_fail(DT_ERR_CHECKPOINT, "%s is not there, or not in fp32", name);
    x->view[v].pixels = w->pixels;
    dt_onnx_set(x, v, as[w->layout],
                dt_onnx_draft_constant(&x->d, name, DT_TENSOR_F32, t->ndim, t->dim, t->data, true));
    return x->d.status;
}

static dt_onnx_value_info info_of(const char *name, const dt_value *v, dt_onnx_layout layout) {
    dt_onnx_value_info info = {.name = name, .ndim = v->ndim};
    info.type = v->dtype == DT_DTYPE_I32  ? DT_TENSOR_I64
                : v->dtype == DT_DTYPE_U8 ? DT_TENSOR_U8
                                          : DT_TENSOR_F32;
    for (int32_t d = 0; d < v->ndim; d++) {
        const int32_t at = dt_onnx_axis_in(v, layout, d);
        const bool batch = v->dim[d] % DT_ONNX_EXPORT_ROWS == 0;
        info.dim[at] = batch ? -1 : v->dim[d];
        info.dim_name[at] = v->dim[d] == DT_ONNX_EXPORT_ROWS ? "N" : NULL;
    }
    return info;
}

/* An image comes normalised, so that its input node has nothing left to do. */
static void put_image(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *from = &x->g->value[n->in[DT_INPUT_IMAGE]];
    dt_value image = x->g->value[n->out[0]];
    image.dim[3] = from->dim[3]; /* devices may have more channels */
    const dt_onnx_value_info info = info_of(from->name, &image, DT_ONNX_CHANNELS);
    dt_onnx_draft_input(&x->d, &info);
    dt_onnx_set(x, n->out[0], DT_ONNX_CHANNELS, from->name);
    char text[2][128] = {"", ""};
    for (int64_t c = 0; c < from->dim[3] && c < 4; c++) {
        const float number[] = {n->attr.input.mean[c], n->attr.input.stddev[c]};
        for (int i = 0; i < 2; i++)
            snprintf(text[i] + strlen(text[i]), sizeof text[i] - strlen(text[i]), "%s%.9g", c ? " " : "",
                     (double)number[i]);
    }
    dt_onnx_draft_note(&x->d, "dtrain.input", "image: (pixel / 255 - mean) / stddev by channel, N C H W");
    dt_onnx_draft_note(&x->d, "dtrain.mean", text[0]);
    dt_onnx_draft_note(&x->d, "dtrain.stddev", text[1]);
}

static void put_field(dt_onnx_exporter *x, dt_vid v) {
    const dt_value *value = &x->g->value[v];
    const dt_onnx_value_info info = info_of(value->name, value, DT_ONNX_SAME);
    dt_onnx_draft_input(&x->d, &info);
    dt_onnx_set(x, v, DT_ONNX_SAME, value->name);
}

static void put_output(dt_onnx_exporter *x, const char *name, dt_vid v) {
    char own[2 * DT_NAME_MAX];
    const dt_value *value = &x->g->value[v];
    const bool image = value->ndim == 4 && x->view[v].first == DT_ONNX_CHANNELS;
    const dt_onnx_layout layout = image ? DT_ONNX_CHANNELS : DT_ONNX_SAME;
    const dt_vid other = dt_graph_find(x->g, name);
    const char *from = dt_onnx_see(x, v, layout);
    snprintf(own, sizeof own, other >= 0 && other != v ? "%s_out" : "%s", name);
    const dt_onnx_value_info info = info_of(own, value, layout);
    if (strcmp(from, own) != 0) dt_onnx_draft_op(&x->d, "Identity", own, DT_ONNX_IN(from), DT_ONNX_PLAIN);
    dt_onnx_draft_output(&x->d, &info);
}

/* ---- the graph ---- */

/* What is asked for: the outputs, or what the first loss is computed from. */
static int32_t find_outputs(const dt_graph *g, dt_output out[DT_OUTPUTS_MAX]) {
    int32_t n = 0;
    for (int32_t i = 0; i < g->n_output && n < DT_OUTPUTS_MAX; i++) out[n++] = g->output[i];
    if (n == 0 && g->n_loss > 0) {
        out[n++] = (dt_output){.name = "logits", .value = g->node[g->value[g->loss[0]].producer].in[0]};
    }
    return n;
}

static void mark_needed(dt_onnx_exporter *x, int32_t n_out, const dt_output *out) {
    const dt_graph *g = x->g;
    for (int32_t i = 0; i < n_out; i++)
        if (g->value[out[i].value].producer >= 0) x->needed[g->value[out[i].value].producer] = true;
    for (dt_nid i = g->n_node - 1; i >= 0; i--)
        for (int32_t k = 0; x->needed[i] && k < g->node[i].n_in; k++) {
            const dt_vid v = g->node[i].in[k];
            if (v >= 0 && g->value[v].producer >= 0) x->needed[g->value[v].producer] = true;
        }
}

/* Recurrences of ONNX have the product with the input in them. */
static void mark_within(dt_onnx_exporter *x) {
    const dt_graph *g = x->g;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (n->op != DT_OP_RECURRENT || !x->needed[i]) continue;
        const dt_vid gates = n->in[DT_RNN_IN_GATES];
        const dt_nid made = dt_graph_maker(g, gates, DT_OP_DENSE);
        if (made >= 0 && dt_graph_use_count(g, gates) == 1) x->within[made] = true;
    }
}

static dt_status put_operands(dt_onnx_exporter *x, const dt_node *n) {
    for (int32_t k = 0; n->op != DT_OP_INPUT && k < n->n_in; k++) {
        if (n->in[k] < 0) continue;
        const dt_value *v = &x->g->value[n->in[k]];
        const dt_onnx_view *w = &x->view[n->in[k]];
        bool there = false;
        for (int l = 0; l < DT_ONNX_LAYOUTS; l++) there |= w->name[l] != NULL;
        if (there) continue;
        if (v->role == DT_ROLE_PARAM || v->role == DT_ROLE_STATE) DT_TRY(put_weight(x, n->in[k]));
        if (v->role == DT_ROLE_INPUT) put_field(x, n->in[k]);
    }
    return x->d.status;
}

static dt_status put_node(dt_onnx_exporter *x, dt_nid i) {
    const dt_node *n = &x->g->node[i];
    DT_TRY(put_operands(x, n));
    if (x->within[i]) return DT_OK;
    if (n->op == DT_OP_INPUT) {
        put_image(x, n);
        return x->d.status;
    }
    dt_onnx_writer *write = dt_onnx_writers[n->op];
    if (!write)
        return dt_fail(DT_ERR_CONFIG, "%s (%s): has no form in ONNX's opset %d", dt_onnx_result(x, n),
                       dt_op_name(n), OPSET);
    write(x, n);
    return x->d.status;
}

static dt_status put_graph(dt_onnx_exporter *x) {
    dt_output out[DT_OUTPUTS_MAX];
    const int32_t n_out = find_outputs(x->g, out);
    if (n_out == 0) return dt_fail(DT_ERR_CONFIG, "a network without outputs");
    mark_needed(x, n_out, out);
    mark_within(x);
    for (dt_nid i = 0; i < x->g->n_node; i++)
        if (x->needed[i]) DT_TRY(put_node(x, i));
    for (int32_t i = 0; i < n_out; i++) put_output(x, out[i].name, out[i].value);
    for (int64_t i = 0; i < x->o->n_note; i++)
        dt_onnx_draft_note(&x->d, x->o->note[i].key, x->o->note[i].value);
    return x->d.status;
}

/* Names that the draft makes up end in "_<number>": those of the graph, which may come from a model, are smaller. */
static int64_t first_number(const dt_graph *g) {
    enum { DIGITS_MAX = 15 };
    int64_t next = 0;
    for (dt_vid v = 0; v < g->n_value; v++) {
        const char *name = g->value[v].name, *tail = strrchr(name, '_');
        const size_t n = tail ? strspn(tail + 1, "0123456789") : 0;
        if (n == 0 || n > DIGITS_MAX || tail[1 + n] != '\0') continue;
        const int64_t number = strtoll(tail + 1, NULL, 10);
        next = number >= next ? number + 1 : next;
    }
    return next;
}

dt_status dt_onnx_export_graph(const dt_onnx_export *o, dt_onnx_model **out) {
    dt_onnx_exporter x = {.o = o, .g = o->graph};
    *out = NULL;
    x.view = calloc((size_t)x.g->n_value + 1, sizeof *x.view);
    x.needed = calloc((size_t)x.g->n_node + 1, sizeof *x.needed);
    x.within = calloc((size_t)x.g->n_node + 1, sizeof *x.within);
    dt_status st = x.view && x.needed && x.within ? dt_onnx_draft_create(OPSET, &x.d)
                                                  : dt_fail(DT_ERR_MEMORY, "no memory for a model");
    if (st == DT_OK) {
        x.d.n_named = first_number(x.g);
        x.d.m->producer = "dtrain";
        x.d.m->producer_version = dt_version();
        x.d.m->graph.name = "network";
        st = put_graph(&x);
        if (st != DT_OK && x.d.status == DT_OK) x.d.status = st;
        st = dt_onnx_draft_end(&x.d, out);
    }
    free(x.view), free(x.needed), free(x.within);
    return st;
}
