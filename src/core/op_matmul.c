/* Products of matrices, a batch at once. */
#include <stdio.h>

#include "op_row.h"

dt_matmul_dims dt_op_matmul_dims(const dt_graph *g, const dt_node *n) {
    const dt_value *a = dt_infer_in(g, n, DT_MATMUL_IN_A), *b = dt_infer_in(g, n, DT_MATMUL_IN_B);
    const dt_matmul_attr *t = &n->attr.matmul;
    dt_matmul_dims d = {.batch = 1,
                        .m = a->dim[a->ndim - (t->turn_a ? 1 : 2)],
                        .k = a->dim[a->ndim - (t->turn_a ? 2 : 1)],
                        .n = b->dim[b->ndim - (t->turn_b ? 2 : 1)]};
    for (int32_t i = 0; i < a->ndim - 2; i++) d.batch *= a->dim[i];
    return d;
}

static dt_status infer_matmul(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *a = dt_infer_in(g, n, DT_MATMUL_IN_A), *b = dt_infer_in(g, n, DT_MATMUL_IN_B);
    const bool matrices = a->ndim >= 2 && a->ndim == b->ndim;
    bool fits = matrices && a->dtype == b->dtype;
    for (int32_t i = 0; fits && i < a->ndim - 2; i++) fits = a->dim[i] == b->dim[i];
    const bool batch = fits;
    if (fits) {
        const dt_matmul_dims d = dt_op_matmul_dims(g, n);
        fits = b->dim[b->ndim - (n->attr.matmul.turn_b ? 1 : 2)] == d.k;
        dt_infer_like(out, a);
        out->dim[a->ndim - 2] = d.m, out->dim[a->ndim - 1] = d.n;
    }
    if (fits) return DT_OK;
    char text[192];
    snprintf(text, sizeof text, "%s", dt_value_shape_text(a));
    return dt_fail(DT_ERR_CONFIG, "no product of %s, %s%s, and %s, %s%s: %s", a->name, text,
                   n->attr.matmul.turn_a ? " (transposed)" : "", b->name, dt_value_shape_text(b),
                   n->attr.matmul.turn_b ? " (transposed)" : "",
                   !matrices              ? "both must have the same number of dimensions, 2 or more"
                   : a->dtype != b->dtype ? "they are of two types"
                   : !batch               ? "the dimensions before the last two must be the same"
                            : "the columns of the first must be as many as the rows of the second");
}

static dt_status add_product(dt_graph *g, dt_vid of, dt_vid a, bool turn_a, dt_vid b, bool turn_b,
                             dt_vid *out) {
    const dt_attr t = {.matmul = {.turn_a = turn_a, .turn_b = turn_b}};
    return dt_grad_add_node(g, of, DT_OP_MATMUL, &t, 2, (dt_vid[]){a, b}, out);
}

/* da = dy b^T and db = a^T dy, or their transposes where the operand is read so. */
static dt_status grad_matmul(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid a = n.in[DT_MATMUL_IN_A], b = n.in[DT_MATMUL_IN_B], dy = dout[0];
    const bool turn_a = n.attr.matmul.turn_a, turn_b = n.attr.matmul.turn_b;
    if (want[DT_MATMUL_IN_A] && turn_a) DT_TRY(add_product(g, a, b, turn_b, dy, true, &din[DT_MATMUL_IN_A]));
    if (want[DT_MATMUL_IN_A] && !turn_a)
        DT_TRY(add_product(g, a, dy, false, b, !turn_b, &din[DT_MATMUL_IN_A]));
    if (want[DT_MATMUL_IN_B] && turn_b) DT_TRY(add_product(g, b, dy, true, a, turn_a, &din[DT_MATMUL_IN_B]));
    if (want[DT_MATMUL_IN_B] && !turn_b)
        DT_TRY(add_product(g, b, a, !turn_a, dy, false, &din[DT_MATMUL_IN_B]));
    return DT_OK;
}

static double matmul_flops(const dt_graph *g, const dt_node *n) {
    const dt_matmul_dims d = dt_op_matmul_dims(g, n);
    return 2.0 * (double)d.batch * (double)d.m * (double)d.n * (double)d.k;
}

const dt_op_row dt_row_matmul = {
    .name = "matmul",
    .doc =
        "y [...,M,N] = a [...,M,K] b [...,K,N] for each matrix of the leading dimensions, which are those of "
        "both; with turn_a a is [...,K,M], with turn_b b is [...,N,K].",
    .in = {FLOAT("a"), FLOAT("b")},
    .out = {FLOAT("y")},
    .attr = {A(matmul, turn_a), A(matmul, turn_b)},
    .infer = infer_matmul,
    .grad = grad_matmul,
    .flops = matmul_flops,
};
