#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/run.h"
#include "plan.h"

const char *const dt_quant_form_names[DT_QUANT_FORMS] = {"static", "int8", "int4"};

dt_status dt_quant_create(const dt_onnx_model *m, const dt_quant_options *o, dt_quant **out) {
    dt_quant *q = calloc(1, sizeof *q);
    *out = NULL;
    if (!q) return dt_fail(DT_ERR_MEMORY, "no memory for a quantisation");
    q->o = *o;
    q->o.compensate = o->compensate && o->form == DT_QUANT_INT4;
    dt_status st = dt_qgraph_create(m, &q->g);
    if (st == DT_OK) st = dt_quant_plan(q);
    if (st == DT_OK)
        *out = q;
    else
        dt_quant_destroy(q);
    return st;
}

void dt_quant_destroy(dt_quant *q) {
    if (!q) return;
    dt_onnx_run_destroy(q->run);
    dt_onnx_model_free(q->watched);
    for (int32_t v = 0; q->tensor && v < q->n_tensor; v++) free(q->tensor[v].seen), free(q->tensor[v].square);
    free(q->tensor), free(q->role), free(q->seen), free(q->result);
    dt_qgraph_free(&q->g);
    free(q);
}

bool dt_quant_needs_data(const dt_quant *q) {
    return q->n_seen > 0;
}

const dt_quant_info *dt_quant_get_info(const dt_quant *q) {
    return &q->info;
}

/* ---- observing ---- */

static int32_t input_of(const dt_quant *q, int32_t value) {
    const dt_onnx_graph *g = &q->g.m->graph;
    for (int32_t i = 0; i < g->n_in; i++)
        if (strcmp(g->in[i].name, q->g.value[value].name) == 0) return i;
    return -1;
}

/* The network with all that is observed as its outputs. */
static dt_status watch(dt_quant *q, dt_backend *be, const dt_host_tensor *in) {
    dt_qwriter w;
    dt_status st = dt_qwriter_begin(&q->g, false, &w);
    for (int32_t i = 0; i < q->g.n_node && st == DT_OK; i++)
        if (!q->g.node[i].gone) dt_qwriter_copy(&w, &q->g.node[i], NULL);
    for (int32_t i = 0; i < q->n_seen && st == DT_OK; i++) {
        const dt_onnx_value_info info = {
            .name = q->g.value[q->seen[i]].name, .type = DT_TENSOR_TYPES, .ndim = -1};
        if (input_of(q, q->seen[i]) < 0) dt_onnx_draft_output(&w.d, &info);
    }
    st = dt_qwriter_end(&w, st, false, &q->watched);
    q->result = calloc((size_t)q->n_seen + 1, sizeof *q->result);
    if (st == DT_OK && !q->result) st = dt_fail(DT_ERR_MEMORY, "no memory to observe a network");
    if (st == DT_OK && q->watched->graph.n_out > 0)
        st = dt_onnx_run_create(be, q->watched, in, &(dt_onnx_run_options){.plain = true}, &q->run);
    return st;
}

static void add_squares(dt_quant_tensor *t, int64_t rows, const float *x) {
    for (int64_t r = 0; r < rows; r++, x += t->k)
        for (int64_t i = 0; i < t->k; i++) {
            const double a = (double)x[i];
            double *to = t->square + i * t->k;
            if (a == 0) continue;
            for (int64_t j = 0; j < t->k; j++) to[j] += a * (double)x[j];
        }
}

static dt_status see(dt_quant *q, int32_t value, const dt_host_tensor *h) {
    dt_quant_tensor *t = &q->tensor[value];
    const char *name = q->g.value[value].name;
    const int64_t n = dt_host_n_elem(h);
    if (h->type != DT_TENSOR_F32)
        return dt_fail(DT_ERR_UNSUPPORTED, "'%s' is %s; quantised are networks of F32", name,
                       dt_tensor_type_name(h->type));
    const float *x = h->data;
    if (t->seen) {
        const dt_status st = dt_histogram_add(t->seen, n, x);
        if (st != DT_OK) dt_error_context("'%s'", name);
        DT_TRY(st);
    }
    if (!t->square) return DT_OK;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return dt_fail(DT_ERR_NONFINITE, "'%s': number %lld is %g", name, (long long)i, (double)x[i]);
    if (n % t->k != 0) return dt_fail(DT_ERR_DATA, "'%s' is not of rows of %lld", name, (long long)t->k);
    add_squares(t, n / t->k, x);
    return DT_OK;
}

dt_status dt_quant_observe(dt_quant *q, dt_backend *be, const dt_host_tensor *in) {
    if (q->n_seen == 0) return DT_OK;
    if (!q->watched) DT_TRY(watch(q, be, in));
    if (q->run) DT_TRY(dt_onnx_run_go(q->run, in, q->result));
    for (int32_t i = 0, k = 0; i < q->n_seen; i++) {
        const int32_t at = input_of(q, q->seen[i]);
        DT_TRY(see(q, q->seen[i], at >= 0 ? &in[at] : &q->result[k++]));
    }
    q->info.n_row++;
    return DT_OK;
}

/* ---- the end ---- */

/* Ranges to scales, in the order of the nodes, so that what is passed on is known before. */
static void set_scales(dt_quant *q) {
    for (int32_t i = 0; i < q->n_seen; i++) {
        dt_quant_tensor *t = &q->tensor[q->seen[i]];
        float low, high;
        if (!t->seen) continue;
        dt_histogram_range(t->seen, q->o.method, &low, &high);
        t->to = dt_quant_u8_of(low, high);
    }
    for (int32_t i = 0; i < q->g.n_node; i++) {
        const dt_qnode *n = &q->g.node[i];
        if (q->role[i] == DT_QROLE_PASSED) q->tensor[n->out[0]].to = q->tensor[n->in[0]].to;
    }
}

dt_status dt_quant_finish(dt_quant *q, dt_onnx_model **out) {
    *out = NULL;
    if (q->n_seen > 0 && q->info.n_row == 0)
        return dt_fail(DT_ERR_USAGE,
                       "%s is quantised by what its tensors hold, and no data were seen: --data",
                       q->g.m->path);
    dt_onnx_run_destroy(q->run);
    q->run = NULL;
    set_scales(q);
    DT_TRY(q->o.form == DT_QUANT_STATIC ? dt_quant_write_static(q, out) : dt_quant_write_weights(q, out));
    (*out)->path = q->g.m->path;
    (*out)->format = "ONNX";
    return DT_OK;
}
