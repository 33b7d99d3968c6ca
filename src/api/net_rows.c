/* The numbers that a program has set, before a network takes them: on a rank of its own, so that all ranks learn it. */
#include <math.h>
#include <stdio.h>

#include "core/op.h"
#include "net.h"

/* What numbers of an input may be, and who reads them. */
typedef struct range {
    double least, most;
    char of[DT_NAME_MAX + 64];
} range;

/* False: any. */
static bool range_of(const dt_graph *g, const dt_node *n, dt_vid *input, range *out) {
    if (n->op == DT_OP_XENT && dt_node_has(n, DT_XENT_IN_LABEL)) {
        const dt_value *x = &g->value[n->in[0]];
        *input = dt_graph_source(g, n->in[DT_XENT_IN_LABEL]);
        *out = (range){.least = -INFINITY, .most = (double)(x->dim[x->ndim - 1] - 1)};
        snprintf(out->of, sizeof out->of, "of cross_entropy, whose classes are 0 to %.0f (less than 0: none)",
                 out->most);
    } else if (n->op == DT_OP_EMBED) {
        const dt_value *w = &g->value[n->in[DT_EMBED_IN_WEIGHT]];
        *input = dt_graph_source(g, n->in[DT_EMBED_IN_INDEX]);
        *out = (range){.most = (double)(w->dim[w->ndim - 2] - 1)};
        snprintf(out->of, sizeof out->of, "of \"%s\", whose rows are 0 to %.0f", w->name, out->most);
    } else if (n->op == DT_OP_LOSS && n->attr.loss.kind == DT_LOSS_BCE && dt_node_has(n, DT_LOSS_IN_TARGET)) {
        *input = dt_graph_source(g, n->in[DT_LOSS_IN_TARGET]);
        *out = (range){.most = 1, .of = "of bce, whose targets are from 0 to 1"};
    } else {
        return false;
    }
    return *input >= 0;
}

/* NaN of types that are not looked at. */
static double number_at(const dt_net_input *in, int64_t i) {
    switch (in->field.dtype) {
    case DT_DTYPE_I32:
        return ((const int32_t *)in->data)[i];
    case DT_DTYPE_I64:
        return (double)((const int64_t *)in->data)[i];
    case DT_DTYPE_F32:
        return (double)((const float *)in->data)[i];
    case DT_DTYPE_F64:
        return ((const double *)in->data)[i];
    case DT_DTYPE_U8:
        return ((const uint8_t *)in->data)[i];
    default:
        return NAN;
    }
}

/* Of labels and tokens, which are many: at the speed of memory. */
static bool are_within(const int32_t *x, int64_t n, double least, double most) {
    bool all = true;
    const int32_t lo = least < INT32_MIN ? INT32_MIN : (int32_t)least, hi = (int32_t)most;
    for (int64_t i = 0; i < n; i++) all &= x[i] >= lo && x[i] <= hi;
    return all;
}

static dt_status check_input(const dt_net_input *in, const range *r) {
    const int64_t row = dt_field_bytes(&in->field) / (int64_t)dt_dtype_size(in->field.dtype),
                  n = in->rows * row;
    if (in->field.dtype == DT_DTYPE_I32 && are_within(in->data, n, r->least, r->most)) return DT_OK;
    for (int64_t i = 0; i < n; i++) {
        const double x = number_at(in, i);
        if (x < r->least || x > r->most)
            return dt_fail(DT_ERR_DATA, "the input \"%s\" has %.9g in row %lld: that is none %s",
                           in->field.name, x, (long long)(i / row), r->of);
    }
    return DT_OK;
}

dt_status dt_net_check_rows(dt_net *net) {
    const dt_graph *g = net->b.g;
    for (dt_nid i = 0; i < g->n_node; i++) {
        dt_vid v;
        range r;
        if (!range_of(g, &g->node[i], &v, &r)) continue;
        const dt_net_input *in = dt_net_find_input(net, g->value[v].name);
        if (in) DT_TRY(check_input(in, &r));
    }
    return DT_OK;
}
