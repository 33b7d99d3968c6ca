/* What a text's places leave behind for those after them: their keys and values, written where attention reads them. */
#include "op_row.h"

dt_cache_dims dt_op_cache_dims(const dt_graph *g, const dt_node *n) {
    const dt_value *cache = dt_infer_in(g, n, DT_CACHE_IN_K_CACHE), *k = dt_infer_in(g, n, DT_CACHE_IN_K);
    const dt_value *v = dt_node_has(n, DT_CACHE_IN_V) ? dt_infer_in(g, n, DT_CACHE_IN_V) : k;
    return (dt_cache_dims){.b = cache->dim[0],
                           .t = k->dim[1],
                           .s = cache->dim[1],
                           .wide = cache->dim[2],
                           .k_row = k->dim[2],
                           .v_row = v->dim[2]};
}

static dt_status infer_cache(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_cache_attr *t = &n->attr.cache;
    const dt_cache_dims d = dt_op_cache_dims(g, n);
    const bool packed = !dt_node_has(n, DT_CACHE_IN_V);
    if (dt_infer_in(g, n, DT_CACHE_IN_K)->dim[0] != d.b || t->k_at < 0 || t->k_at + d.wide > d.k_row)
        return dt_infer_misfit(g, n, DT_CACHE_IN_K);
    if (t->v_at < 0 || t->v_at + d.wide > d.v_row ||
        (!packed && dt_infer_in(g, n, DT_CACHE_IN_V)->dim[1] != d.t) ||
        (!packed && dt_infer_in(g, n, DT_CACHE_IN_V)->dim[0] != d.b))
        return dt_infer_misfit(g, n, packed ? DT_CACHE_IN_K : DT_CACHE_IN_V);
    DT_INFER_SET(&out[0], DT_DTYPE_I32, d.b);
    return DT_OK;
}

const dt_op_row dt_row_cache = {
    .name = "cache",
    .doc = "Of each row of k [N,T,X], and of v, the first count places go to its caches [N,S,C] as places "
           "start, start + 1, "
           "..., as far as there are such: columns k_at to k_at + C of k, v_at to v_at + C of v, or of k "
           "where there is no v. "
           "lengths = start + count.",
    .in = {T("k_cache", .rank = 3, .updated = true),
           T("v_cache", .rank = 3, .updated = true, SAME(DT_CACHE_IN_K_CACHE)),
           T("k", .rank = 3),
           T("v", .rank = 3, OPT),
           {.name = "start", .type = DT_SLOT_I32, .rank = 1, LEN(DT_CACHE_IN_K_CACHE, 0)},
           {.name = "count", .type = DT_SLOT_I32, .rank = 1, LEN(DT_CACHE_IN_K_CACHE, 0)}},
    .out = {{.name = "lengths", .type = DT_SLOT_I32}},
    .flags = DT_OP_EFFECT | DT_OP_INTERNAL,
    .main = DT_CACHE_IN_K,
    .attr = {A(cache, k_at), A(cache, v_at)},
    .infer = infer_cache,
};
