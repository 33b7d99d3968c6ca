/* The check that every op shares: operands against the slots of its row. */
#include <stdio.h>

#include "op_row.h"

static dt_status refuse(const dt_graph *g, const dt_node *n, int32_t slot, const char *expected) {
    const dt_value *v = dt_infer_in(g, n, slot);
    return dt_fail(DT_ERR_CONFIG, "input %s, %s, is %s, expected %s", dt_op_in(n->op, slot)->name, v->name,
                   dt_value_shape_text(v), expected);
}

dt_status dt_infer_misfit(const dt_graph *g, const dt_node *n, int32_t slot) {
    const dt_value *v = dt_infer_in(g, n, slot);
    return dt_fail(DT_ERR_CONFIG, "input %s, %s, is %s: it does not fit the others",
                   dt_op_in(n->op, slot)->name, v->name, dt_value_shape_text(v));
}

static dt_status check_type(const dt_graph *g, const dt_node *n, int32_t slot) {
    static const dt_dtype type[] = {
        [DT_SLOT_F32] = DT_DTYPE_F32, [DT_SLOT_U8] = DT_DTYPE_U8, [DT_SLOT_I32] = DT_DTYPE_I32};
    const dt_slot *s = dt_op_in(n->op, slot);
    const dt_dtype is = dt_infer_in(g, n, slot)->dtype;
    if (s->type == DT_SLOT_ANY)
        return dt_dtype_is_whole_bytes(is) ? DT_OK : refuse(g, n, slot, "a type of whole bytes");
    if (s->type == DT_SLOT_FLOAT)
        return dt_dtype_is_float(is) ? DT_OK : refuse(g, n, slot, "f32, f16 or bf16");
    if (s->type == DT_SLOT_WEIGHT && !g->training && (is == DT_DTYPE_I8 || is == DT_DTYPE_I4)) return DT_OK;
    const bool of_node = s->type == DT_SLOT_T || s->type == DT_SLOT_WEIGHT;
    const dt_dtype want = !of_node ? type[s->type] : g->training ? g->compute : dt_op_type(g, n);
    return is == want ? DT_OK : refuse(g, n, slot, dt_dtype_name(want));
}

static dt_status check_shape(const dt_graph *g, const dt_node *n, int32_t slot) {
    const dt_slot *s = dt_op_in(n->op, slot);
    const dt_value *v = dt_infer_in(g, n, slot);
    if (s->rank > 0 && v->ndim != s->rank) {
        char text[32];
        snprintf(text, sizeof text, "%d dimension%s", s->rank, dt_plural(s->rank));
        return refuse(g, n, slot, s->rank == 4 ? "4 dimensions: not an image N H W C" : text);
    }
    if (s->same > 0 && dt_node_has(n, s->same - 1)) {
        const dt_value *like = dt_infer_in(g, n, s->same - 1);
        const bool typed = s->type != DT_SLOT_ANY && s->type != DT_SLOT_FLOAT;
        if ((typed || v->dtype == like->dtype) && dt_infer_same_dims(v, like)) return DT_OK;
        char text[96];
        snprintf(text, sizeof text, "%s", dt_value_shape_text(like));
        return dt_fail(DT_ERR_CONFIG, "%s is %s but %s is %s", like->name, text, v->name,
                       dt_value_shape_text(v));
    }
    if (s->len_of == 0) return DT_OK;
    const dt_value *of = dt_infer_in(g, n, s->len_of - 1);
    const int32_t d = s->len_dim < 0 ? of->ndim - 1 : s->len_dim;
    const int64_t len = of->dim[d] * (s->len_times > 0 ? s->len_times : 1);
    if (dt_value_n_elem(v) == len) return DT_OK;
    char text[48];
    snprintf(text, sizeof text, "%lld element%s", (long long)len, dt_plural(len));
    return refuse(g, n, slot, text);
}

dt_status dt_op_check(const dt_graph *g, const dt_node *n) {
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] < 0 && !dt_op_in(n->op, i)->optional)
            return dt_fail(DT_ERR_CONFIG, "input %s is missing", dt_op_in(n->op, i)->name);
    for (int32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] < 0) continue;
        for (int32_t j = 0; j < n->n_in && j < DT_SLOTS_IN_MAX; j++)
            if ((dt_op_in(n->op, i)->needs >> j & 1) && n->in[j] < 0)
                return dt_fail(DT_ERR_CONFIG, "input %s without input %s", dt_op_in(n->op, i)->name,
                               dt_op_in(n->op, j)->name);
        DT_TRY(check_type(g, n, i));
    }
    for (int32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] < 0) continue;
        if (!(dt_op_get(n->op)->flags & DT_OP_EMPTY) && dt_value_n_elem(dt_infer_in(g, n, i)) == 0)
            return refuse(g, n, i, "elements");
        DT_TRY(check_shape(g, n, i));
    }
    return DT_OK;
}
