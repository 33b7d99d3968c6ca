/* DENSE and its gradients: one product each (dense_blas.c). */
#include <stdio.h>

#include "lower.h"

static dt_dense_form form_of(const dt_graph *g, const dt_node *n) {
    const dt_value *first = &g->value[n->in[0]], *second = &g->value[n->in[1]];
    const int64_t last = first->dim[first->ndim - 1], rows = dt_value_n_elem(first) / last;
    dt_dense_form f = {.op = n->op, .t = dt_op_type(g, n), .n = rows};
    if (n->op == DT_OP_DENSE_WGRAD) {
        f.c = last, f.k = second->dim[second->ndim - 1];
        f.db = dt_node_makes(n, DT_DENSE_WGRAD_OUT_DB);
        return f;
    }
    const bool forward = n->op == DT_OP_DENSE;
    f.c = second->dim[1], f.k = second->dim[0], f.act = n->attr.dense.act;
    f.bias = forward && dt_node_has(n, DT_DENSE_IN_BIAS);
    f.bias_f32 = f.bias && g->value[n->in[DT_DENSE_IN_BIAS]].dtype == DT_DTYPE_F32;
    f.res = forward && dt_node_has(n, DT_DENSE_IN_RES);
    f.pre = forward ? dt_node_makes(n, DT_DENSE_OUT_PRE) : dt_node_has(n, DT_DENSE_DGRAD_IN_PRE);
    return f;
}

dt_status dt_lower_dense_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    const dt_dense_form f = form_of(g, n);
    snprintf(p->label, sizeof p->label, "%s %lldx%lld->%lld %s", p->row->name, (long long)f.n, (long long)f.c,
             (long long)f.k, dt_dtype_name(f.t));
    DT_TRY(dt_dense_choose(cu, &f, p->label, &p->dense));
    (void)dt_prep_take(p, p->dense.bytes);
    return DT_OK;
}

dt_status dt_lower_dense_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_dense_form *f = &k->prep->dense.form;
    void *const *in = k->b.in, *const *out = k->b.out;
    const bool forward = f->op == DT_OP_DENSE;
    const dt_dense_operands o = {.first = in[0],
                                 .second = in[1],
                                 .bias = f->bias ? in[DT_DENSE_IN_BIAS] : NULL,
                                 .res = f->res ? in[DT_DENSE_IN_RES] : NULL,
                                 .pre = !f->pre   ? NULL
                                        : forward ? out[DT_DENSE_OUT_PRE]
                                                  : in[DT_DENSE_DGRAD_IN_PRE],
                                 .out = out[0],
                                 .db = f->db ? out[DT_DENSE_WGRAD_OUT_DB] : NULL,
                                 .workspace = k->b.workspace};
    const dt_status st = dt_dense_run(cu, &k->prep->dense, &o, s);
    if (st != DT_OK) dt_error_context("%s", k->prep->label);
    return st;
}
