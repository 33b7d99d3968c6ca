#include "show_model.h"

#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "onnx/op.h"

static void show_values(FILE *out, const char *what, int32_t n, const dt_onnx_value_info *v) {
    for (int32_t i = 0; i < n; i++) {
        fprintf(out, "%-8s %-40s %-5s ", what, v[i].name,
                v[i].type < DT_TENSOR_TYPES ? dt_tensor_type_name(v[i].type) : "?");
        if (v[i].ndim <= 0) fputs(v[i].ndim < 0 ? "of a shape that it does not say" : "-", out);
        for (int32_t d = 0; d < v[i].ndim; d++) {
            if (d > 0) fputc('x', out);
            if (v[i].dim[d] >= 0)
                fprintf(out, "%lld", (long long)v[i].dim[d]);
            else
                fputs(v[i].dim_name[d] ? v[i].dim_name[d] : "?", out);
        }
        fputc('\n', out);
    }
}

/* An op, and how many nodes are of it. */
typedef struct counted {
    const char *domain, *op;
    int64_t n;
} counted;

static int by_op(const void *a, const void *b) {
    const counted *x = a, *y = b;
    const int c = strcmp(x->op, y->op);
    return c ? c : strcmp(x->domain, y->domain);
}

static int by_count(const void *a, const void *b) {
    const counted *x = a, *y = b;
    return x->n != y->n ? (y->n > x->n) - (y->n < x->n) : by_op(a, b);
}

static dt_status show_ops(FILE *out, const dt_onnx_graph *g) {
    counted *list = calloc((size_t)g->n_node + 1, sizeof *list);
    int32_t n = 0;
    if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for a list of ops");
    for (int32_t i = 0; i < g->n_node; i++) list[i] = (counted){g->node[i].domain, g->node[i].op, 1};
    qsort(list, (size_t)g->n_node, sizeof *list, by_op);
    for (int32_t i = 0; i < g->n_node; i++) {
        if (n > 0 && by_op(&list[n - 1], &list[i]) == 0)
            list[n - 1].n++;
        else
            list[n++] = list[i];
    }
    qsort(list, (size_t)n, sizeof *list, by_count);
    fputs(dt_count_text(g->n_node, "node").s, out);
    for (int32_t i = 0; i < n; i++)
        fprintf(out, "%s%s%s%s %lld", i ? ", " : ": ", list[i].domain, *list[i].domain ? "." : "", list[i].op,
                (long long)list[i].n);
    fputc('\n', out);
    free(list);
    return DT_OK;
}

dt_status dt_show_model(const dt_onnx_model *m, FILE *out) {
    if (m->ir_version > 0) fprintf(out, "IR %lld, ", (long long)m->ir_version);
    fprintf(out, "opset");
    for (int32_t i = 0; i < m->n_opset; i++)
        fprintf(out, "%s %s%s%lld", i ? "," : "", m->opset[i].domain, *m->opset[i].domain ? " " : "",
                (long long)m->opset[i].version);
    if (*m->producer) fprintf(out, ", by %s %s", m->producer, m->producer_version);
    fputc('\n', out);
    show_values(out, "input", m->graph.n_in, m->graph.in);
    show_values(out, "output", m->graph.n_out, m->graph.out);
    DT_TRY(show_ops(out, &m->graph));
    if (dt_onnx_check_ops(m) != DT_OK) fprintf(out, "%s\n", dt_error_text());
    return DT_OK;
}
