/* Attention out of the products, transposes and reshapes that other programs write for it.
 *
 * A value that is made by transposes, reshapes, slices and scales is a view of another one: the numbers of the last are
 * those of the first, at strides. Queries, keys and values of two products around a softmax are recognised by their strides
 * in what they are views of, whatever moves lie between; the moves are then read by nobody. A dense layer whose rows are
 * permuted is taken before the permutation. */
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "pass_fuse.h"

enum { PARTS = 3 * DT_MAX_DIM, HEAD_MAX = 128 /* every device has kernels to here */ };

/* A value as strided numbers of root: its dimension i is part[begin[i]] to part[begin[i + 1]], outermost first; parts of
 * size 1 are left out. */
typedef struct view {
    dt_vid root;
    int32_t ndim, begin[DT_MAX_DIM + 1];
    struct part {
        int64_t size, stride;
    } part[PARTS];
    int64_t offset;
    double scale;
    int32_t n_move; /* transposes on the way */
} view;

static void view_root(const dt_graph *g, dt_vid v, view *out) {
    const dt_value *p = &g->value[v];
    int64_t stride[DT_MAX_DIM + 1];
    int32_t n = 0;
    *out = (view){.root = v, .ndim = p->ndim, .scale = 1};
    stride[p->ndim] = 1;
    for (int32_t i = p->ndim - 1; i >= 0; i--) stride[i] = stride[i + 1] * p->dim[i];
    for (int32_t i = 0; i < p->ndim; i++) {
        out->begin[i] = n;
        if (p->dim[i] > 1) out->part[n++] = (struct part){p->dim[i], stride[i + 1]};
    }
    out->begin[p->ndim] = n;
}

/* The same numbers in another shape; false where a dimension would need parts of two strides in one. */
static bool view_reshape(const dt_value *to, view *v) {
    view out = *v;
    int32_t n = 0, from = 0;
    const int32_t n_from = v->begin[v->ndim];
    struct part left = {1, 0};
    out.ndim = to->ndim;
    for (int32_t i = 0; i < to->ndim; i++) {
        int64_t want = to->dim[i];
        out.begin[i] = n;
        while (want > 1) {
            if (left.size == 1) {
                if (from == n_from) return false;
                left = v->part[from++];
            }
            if (n == PARTS) return false;
            if (want % left.size == 0) {
                out.part[n++] = left;
                want /= left.size;
                left.size = 1;
            } else if (left.size % want == 0) {
                const int64_t inner = left.size / want;
                out.part[n++] = (struct part){want, left.stride * inner};
                left.size = inner;
                want = 1;
            } else {
                return false;
            }
        }
    }
    out.begin[to->ndim] = n;
    *v = out;
    return true;
}

static void view_permute(const dt_transpose_attr *t, view *v) {
    view out = *v;
    int32_t n = 0;
    for (int32_t i = 0; i < v->ndim; i++) {
        out.begin[i] = n;
        for (int32_t k = v->begin[t->perm[i]]; k < v->begin[t->perm[i] + 1]; k++) out.part[n++] = v->part[k];
    }
    out.begin[v->ndim] = n;
    out.n_move++;
    *v = out;
}

static bool view_slice(const dt_shape_attr *t, view *v) {
    const int32_t first = v->begin[t->axis], end = v->begin[t->axis + 1];
    int64_t inner = 1;
    if (first == end) return t->begin == 0 && t->length == 1;
    for (int32_t k = first + 1; k < end; k++) inner *= v->part[k].size;
    if (t->begin % inner || t->length % inner) return false;
    v->offset += t->begin / inner * v->part[first].stride;
    v->part[first].size = t->length / inner;
    if (v->part[first].size > 1) return true;
    for (int32_t k = first; k + 1 < v->begin[v->ndim]; k++) v->part[k] = v->part[k + 1];
    for (int32_t i = t->axis + 1; i <= v->ndim; i++) v->begin[i]--;
    return true;
}

/* v through moves (and, if scaled, products with a number) as far as they go. */
static void view_of(const dt_graph *g, dt_vid v, bool scaled, view *out) {
    const dt_nid id = g->value[v].producer;
    const dt_node *n = id >= 0 ? &g->node[id] : NULL;
    bool ok = n && (n->op == DT_OP_RESHAPE || n->op == DT_OP_TRANSPOSE || n->op == DT_OP_SLICE ||
                    (scaled && n->op == DT_OP_UNARY && n->attr.unary.fn == DT_UNARY_SCALE));
    if (ok) {
        view_of(g, n->in[0], scaled, out);
        if (n->op == DT_OP_RESHAPE) ok = view_reshape(&g->value[v], out);
        if (n->op == DT_OP_TRANSPOSE) view_permute(&n->attr.transpose, out);
        if (n->op == DT_OP_SLICE) ok = view_slice(&n->attr.shape, out);
        if (n->op == DT_OP_UNARY) out->scale *= (double)n->attr.unary.a;
    }
    if (!ok) view_root(g, v, out);
}

/* Whether parts [from, end) are n numbers side by side. */
static bool is_row(const view *v, int32_t from, int32_t end, int64_t n) {
    int64_t at = 1;
    for (int32_t k = end - 1; k >= from; k--) {
        if (v->part[k].stride != at) return false;
        at *= v->part[k].size;
    }
    return at == n;
}

/* ---- new nodes: at the end of the list, which is put in order when all is done ---- */

static dt_status add(dt_graph *g, dt_vid named, dt_op op, const dt_attr *attr, int32_t n_in, const dt_vid *in,
                     dt_vid *out) {
    char name[DT_NAME_MAX];
    for (int32_t k = 1;; k++) {
        snprintf(name, sizeof name, "%.*s:a%d", DT_NAME_MAX - 16, g->value[named].name, k);
        if (dt_graph_find(g, name) < 0) break;
    }
    return dt_graph_add_node(g, name, op, attr, n_in, in, out);
}

static dt_status add_reshape(dt_graph *g, dt_vid v, int32_t ndim, const int64_t *dim, dt_vid *out) {
    dt_attr t = {.reshape.ndim = ndim};
    bool same = g->value[v].ndim == ndim;
    for (int32_t i = 0; i < ndim; i++) {
        t.reshape.dim[i] = dim[i];
        same = same && g->value[v].dim[i] == dim[i];
    }
    *out = v;
    return same ? DT_OK : add(g, v, DT_OP_RESHAPE, &t, 1, &v, out);
}

static dt_status add_transpose(dt_graph *g, dt_vid v, int32_t ndim, const int32_t *perm, dt_vid *out) {
    dt_attr t = {.transpose.ndim = ndim};
    for (int32_t i = 0; i < ndim; i++) t.transpose.perm[i] = perm[i];
    return add(g, v, DT_OP_TRANSPOSE, &t, 1, &v, out);
}

/* Nodes in an order in which each comes after what it reads, otherwise as they stood. */
static void visit(dt_graph *g, dt_nid i, bool *done, dt_node *list, int32_t *n) {
    if (done[i]) return;
    done[i] = true;
    for (int32_t k = 0; k < g->node[i].n_in; k++) {
        const dt_vid v = g->node[i].in[k];
        if (v >= 0 && g->value[v].producer >= 0) visit(g, g->value[v].producer, done, list, n);
    }
    list[(*n)++] = g->node[i];
}

static dt_status put_in_order(dt_graph *g) {
    dt_graph_compact(g);
    bool *done = calloc((size_t)g->n_node + 1, sizeof *done);
    dt_node *list = calloc((size_t)g->n_node + 1, sizeof *list);
    int32_t n = 0;
    if (done && list)
        for (dt_nid i = 0; i < g->n_node; i++) visit(g, i, done, list, &n);
    const bool ok = done && list;
    if (ok) memcpy(g->node, list, (size_t)n * sizeof *list);
    free(done), free(list);
    dt_graph_compact(g);
    return ok ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a pass");
}

/* ---- dense layers of permuted rows ---- */

/* y = dense(permuted x): the permutation comes after it. *done: it was one. */
static dt_status lift(dt_graph *g, dt_nid id, bool *done) {
    const dt_node n = g->node[id];
    view v;
    *done = false;
    if (n.op != DT_OP_DENSE || n.attr.dense.act || dt_node_has(&n, DT_DENSE_IN_RES)) return DT_OK;
    view_of(g, n.in[DT_DENSE_IN_X], false, &v);
    const dt_vid y = n.out[0];
    const int64_t c = g->value[n.in[DT_DENSE_IN_W]].dim[1];
    const int32_t n_row = v.begin[v.ndim - 1];
    if (v.n_move == 0 || v.offset || n_row == 0 || n_row + 1 > DT_MAX_DIM ||
        !is_row(&v, n_row, v.begin[v.ndim], c) || dt_graph_is_kept(g, y))
        return DT_OK;
    /* rows in the order of the root: those of larger strides first */
    int32_t place[DT_MAX_DIM] = {0}, perm[DT_MAX_DIM];
    int64_t dim[DT_MAX_DIM];
    for (int32_t i = 0; i < n_row; i++) {
        for (int32_t j = 0; j < n_row; j++) place[i] += v.part[j].stride > v.part[i].stride;
        dim[place[i]] = v.part[i].size;
        perm[i] = place[i];
    }
    int64_t stride = c;
    for (int32_t at = n_row - 1; at >= 0; at--) {
        int32_t i = 0;
        while (i < n_row && place[i] != at) i++;
        if (i == n_row || v.part[i].stride != stride) return DT_OK;
        stride *= v.part[i].size;
    }
    if (stride != dt_value_n_elem(&g->value[v.root])) return DT_OK;
    dt_vid x, z, turned, in[3] = {-1, n.in[DT_DENSE_IN_W], n.in[DT_DENSE_IN_BIAS]};
    dim[n_row] = c, perm[n_row] = n_row;
    DT_TRY(add_reshape(g, v.root, n_row + 1, dim, &x));
    in[0] = x;
    DT_TRY(add(g, y, DT_OP_DENSE, NULL, 3, in, &z));
    DT_TRY(add_transpose(g, z, n_row + 1, perm, &turned));
    const dt_value shape = g->value[y];
    DT_TRY(add_reshape(g, turned, shape.ndim, shape.dim, &turned));
    dt_graph_remove_node(g, id);
    dt_pass_replace_uses(g, y, turned);
    g->value[y].producer = -1;
    *done = true;
    return DT_OK;
}

/* ---- attention ---- */

/* An operand [B,heads,places,D] of a product as it lies in its root. */
typedef struct rows {
    view v;
    int64_t b, heads, places, d; /* sizes */
    int64_t row;                 /* numbers from one place to the next */
} rows;

/* The matrices of v are [places,D], or [D,places] if turned. */
static bool find_rows(const dt_graph *g, dt_vid value, bool turned, rows *r) {
    view_of(g, value, true, &r->v);
    const view *v = &r->v;
    if (v->ndim < 3) return false;
    const int32_t i_place = v->ndim - (turned ? 1 : 2), i_d = v->ndim - (turned ? 2 : 1),
                  n_batch = v->begin[v->ndim - 2];
    const int32_t at = v->begin[i_place], at_d = v->begin[i_d];
    if (v->begin[i_place + 1] != at + 1 || v->begin[i_d + 1] != at_d + 1 || v->part[at_d].stride != 1 ||
        n_batch > 2)
        return false;
    r->places = v->part[at].size, r->row = v->part[at].stride;
    r->d = v->part[at_d].size;
    r->b = r->heads = 1;
    for (int32_t k = 0; k < n_batch; k++) {
        const bool is_head = v->part[k].stride == r->d && v->part[k].size * r->d <= r->row;
        if (is_head ? r->heads > 1 || k + 1 < n_batch : r->b > 1 || v->part[k].stride != r->places * r->row)
            return false;
        *(is_head ? &r->heads : &r->b) = v->part[k].size;
    }
    return v->offset % r->d == 0 && v->offset + r->heads * r->d <= r->row &&
           dt_value_n_elem(&g->value[v->root]) == r->b * r->places * r->row;
}

/* The rows of an operand; a dense layer between is taken before its rows are permuted. */
static dt_status need_rows(dt_graph *g, dt_vid value, bool turned, rows *r, bool *found) {
    *found = find_rows(g, value, turned, r);
    const dt_nid id = *found ? -1 : dt_graph_maker(g, r->v.root, DT_OP_DENSE);
    bool lifted = false;
    if (id >= 0) DT_TRY(lift(g, id, &lifted));
    if (lifted) *found = find_rows(g, value, turned, r);
    return DT_OK;
}

/* [B,places,heads D] of an operand. */
static dt_status operand(dt_graph *g, const rows *r, dt_vid *out) {
    DT_TRY(add_reshape(g, r->v.root, 3, (int64_t[]){r->b, r->places, r->row}, out));
    const dt_attr t = {.shape = {.axis = 2, .begin = r->v.offset, .length = r->heads * r->d}};
    return t.shape.length == r->row ? DT_OK : add(g, *out, DT_OP_SLICE, &t, 1, out, out);
}

/* One dense layer in place of three of one input and of known weights; *out -1: they are not. */
static dt_status pack_dense(dt_graph *g, const rows *const part[3], dt_vid *out) {
    const dt_node *n[3];
    int64_t width[3], c = 0, total = 0;
    *out = -1;
    for (int32_t i = 0; i < 3; i++) {
        const dt_nid id = dt_graph_maker(g, part[i]->v.root, DT_OP_DENSE);
        n[i] = id >= 0 ? &g->node[id] : NULL;
        if (!n[i] || n[i]->in[DT_DENSE_IN_X] != n[0]->in[DT_DENSE_IN_X] || n[i]->attr.dense.act ||
            dt_node_has(n[i], DT_DENSE_IN_RES) || part[i]->row != part[i]->heads * part[i]->d ||
            dt_node_has(n[i], DT_DENSE_IN_BIAS) != dt_node_has(n[0], DT_DENSE_IN_BIAS))
            return DT_OK;
        const dt_value *w = &g->value[n[i]->in[DT_DENSE_IN_W]];
        if (!dt_pass_known(g, n[i]->in[DT_DENSE_IN_W]) ||
            (dt_node_has(n[i], DT_DENSE_IN_BIAS) && !dt_pass_known(g, n[i]->in[DT_DENSE_IN_BIAS])))
            return DT_OK;
        width[i] = w->dim[0], c = w->dim[1], total += w->dim[0];
    }
    const dt_vid x = n[0]->in[DT_DENSE_IN_X], w0 = n[0]->in[DT_DENSE_IN_W], b0 = n[0]->in[DT_DENSE_IN_BIAS];
    float *w = malloc((size_t)(total * c) * sizeof *w), *b = malloc((size_t)total * sizeof *b);
    if (!w || !b) {
        free(w), free(b);
        return dt_fail(DT_ERR_MEMORY, "no memory for packed weights");
    }
    for (int32_t i = 0, at = 0; i < 3; at += (int32_t)width[i++]) {
        memcpy(w + at * c, dt_pass_known(g, n[i]->in[DT_DENSE_IN_W]), (size_t)(width[i] * c) * sizeof *w);
        if (b0 >= 0)
            memcpy(b + at, dt_pass_known(g, n[i]->in[DT_DENSE_IN_BIAS]), (size_t)width[i] * sizeof *b);
    }
    dt_vid in[3] = {x, -1, -1};
    const dt_dtype t = g->value[w0].dtype;
    dt_status st = dt_pass_add_constant(g, w0, "qkv", t, 2, (int64_t[]){total, c}, w, &in[1]);
    if (st == DT_OK && b0 >= 0) {
        st = dt_pass_add_constant(g, b0, "qkv", g->value[b0].dtype, 1, &total, b, &in[2]);
    } else {
        free(b);
    }
    DT_TRY(st);
    return add(g, part[0]->v.root, DT_OP_DENSE, NULL, 3, in, out);
}

/* What is added to scores: nothing, or, for every row and head alike, what hides later keys from each query. */
static bool read_mask(const dt_graph *g, dt_vid v, int64_t t, int64_t s, bool *causal) {
    const float *m = dt_pass_known(g, v), hidden = -1e4f;
    const dt_value *p = &g->value[v];
    bool zero = m != NULL,
         triangle = m && p->ndim >= 2 && p->dim[p->ndim - 1] == s && p->dim[p->ndim - 2] == t;
    for (int64_t i = 0; m && i < dt_value_n_elem(p); i++) {
        zero = zero && m[i] == 0;
        if (triangle) triangle = i % s > i / s % t + (s - t) ? m[i] <= hidden : m[i] == 0;
    }
    *causal = *causal || (triangle && !zero);
    return zero || triangle;
}

/* The node that makes v for one reader alone, if it is of this op. */
static dt_node *only_maker(dt_graph *g, dt_vid v, dt_op op) {
    return dt_graph_use_count(g, v) == 1 ? dt_pass_maker(g, v, op) : NULL;
}

/* softmax(q k^T [scaled] [masked]) v, where i is the product with v. */
static dt_status match(dt_graph *g, dt_nid i) {
    const dt_node last = g->node[i];
    dt_node *soft = only_maker(g, last.in[DT_MATMUL_IN_A], DT_OP_SOFTMAX);
    if (!soft || last.attr.matmul.turn_a) return DT_OK;
    double scale = 1;
    bool causal = false;
    dt_vid v = soft->in[0];
    const dt_value scores = g->value[v];
    const int64_t t = scores.dim[scores.ndim - 2], s = scores.dim[scores.ndim - 1];
    if (scores.ndim < 3) return DT_OK;
    dt_node *sum = only_maker(g, v, DT_OP_BINARY), *scaled;
    if (sum && sum->attr.binary.fn == DT_BINARY_ADD) {
        const int32_t mask = dt_pass_known(g, sum->in[1]) ? 1 : 0;
        if (!read_mask(g, sum->in[mask], t, s, &causal)) return DT_OK;
        v = sum->in[1 - mask];
    }
    while ((scaled = only_maker(g, v, DT_OP_UNARY)) && scaled->attr.unary.fn == DT_UNARY_SCALE)
        scale *= (double)scaled->attr.unary.a, v = scaled->in[0];
    const dt_node *first = only_maker(g, v, DT_OP_MATMUL);
    if (!first) return DT_OK;
    const bool turn_q = first->attr.matmul.turn_a, turn_k = !first->attr.matmul.turn_b;
    const dt_vid in_q = first->in[DT_MATMUL_IN_A], in_k = first->in[DT_MATMUL_IN_B];
    rows q, k, w;
    bool found;
    DT_TRY(need_rows(g, in_q, turn_q, &q, &found));
    if (found) DT_TRY(need_rows(g, in_k, turn_k, &k, &found));
    if (found) DT_TRY(need_rows(g, last.in[DT_MATMUL_IN_B], last.attr.matmul.turn_b, &w, &found));
    if (found) found = find_rows(g, in_q, turn_q, &q) && find_rows(g, in_k, turn_k, &k); /* as they lie now */
    if (!found || q.b != k.b || q.b != w.b || q.heads != k.heads || q.heads != w.heads || q.d != k.d ||
        q.d != w.d || k.places != w.places || q.places != t || k.places != s || w.v.scale != 1)
        return DT_OK;
    scale *= q.v.scale * k.v.scale;
    if (!(scale > 0 && isfinite(scale)) || q.d > HEAD_MAX) return DT_OK;
    const dt_attr attr = {.attention = {.heads = (int32_t)q.heads,
                                        .kv_heads = (int32_t)q.heads,
                                        .causal = causal,
                                        .scale = (float)scale}};
    const int64_t wide = q.heads * q.d;
    dt_vid in[3] = {-1, -1, -1}, y;
    int32_t n_in = 1;
    if (q.v.root == k.v.root && q.v.root == w.v.root && q.row == 3 * wide && q.v.offset == 0 &&
        k.v.offset == wide && w.v.offset == 2 * wide) {
        DT_TRY(add_reshape(g, q.v.root, 3, (int64_t[]){q.b, t, q.row}, &in[0]));
    } else {
        const rows *const part[3] = {&q, &k, &w};
        if (t == s) DT_TRY(pack_dense(g, part, &in[0]));
        if (in[0] >= 0) {
            DT_TRY(add_reshape(g, in[0], 3, (int64_t[]){q.b, t, 3 * wide}, &in[0]));
        } else {
            n_in = 3;
            for (int32_t p = 0; p < 3; p++) DT_TRY(operand(g, part[p], &in[p]));
        }
    }
    const dt_vid old = last.out[0];
    const dt_value shape = g->value[old];
    DT_TRY(add(g, old, DT_OP_ATTENTION, &attr, n_in, in, &y));
    DT_TRY(add_reshape(g, y, 4, (int64_t[]){q.b, t, q.heads, q.d}, &y));
    DT_TRY(add_transpose(g, y, 4, (int32_t[]){0, 2, 1, 3}, &y));
    DT_TRY(add_reshape(g, y, shape.ndim, shape.dim, &y));
    dt_graph_remove_node(g, i);
    dt_pass_replace_uses(g, old, y);
    g->value[old].producer = -1;
    return DT_OK;
}

/* A transpose after which all numbers lie as they did in the root of its view; several in a row become one. */
static dt_status join_transposes(dt_graph *g, dt_nid i) {
    const dt_vid y = g->node[i].out[0];
    view v;
    view_of(g, y, false, &v);
    const int32_t n = v.begin[v.ndim];
    const int64_t n_elem = dt_value_n_elem(&g->value[v.root]);
    if (v.root == y || v.offset || dt_graph_is_kept(g, y)) return DT_OK;
    const dt_value shape = g->value[y];
    dt_vid now = v.root;
    if (!is_row(&v, 0, n, n_elem)) {
        int32_t perm[PARTS] = {0};
        int64_t dim[PARTS], stride = 1;
        if (v.n_move < 2 || n > DT_MAX_DIM) return DT_OK;
        for (int32_t k = 0; k < n; k++) {
            for (int32_t j = 0; j < n; j++) perm[k] += v.part[j].stride > v.part[k].stride;
            dim[perm[k]] = v.part[k].size;
            stride *= v.part[k].size;
        }
        if (stride != n_elem) return DT_OK;
        DT_TRY(add_reshape(g, now, n, dim, &now));
        DT_TRY(add_transpose(g, now, n, perm, &now));
    }
    DT_TRY(add_reshape(g, now, shape.ndim, shape.dim, &now));
    dt_graph_remove_node(g, i);
    dt_pass_replace_uses(g, y, now);
    g->value[y].producer = -1;
    return DT_OK;
}

/* A dense layer whose result takes another shape, rows alone, has that shape itself: what stands behind it sees it. */
static dt_status reshape_before_dense(dt_graph *g, dt_nid i) {
    const dt_vid y = g->node[i].out[0], v = g->node[i].in[0];
    const dt_node *dense = only_maker(g, v, DT_OP_DENSE);
    const dt_value shape = g->value[y];
    if (!dense || shape.ndim < 1 || dense->attr.dense.act || dt_node_has(dense, DT_DENSE_IN_RES) ||
        shape.dim[shape.ndim - 1] != g->value[v].dim[g->value[v].ndim - 1] || dt_graph_is_kept(g, y))
        return DT_OK;
    const dt_nid id = g->value[v].producer;
    int64_t dim[DT_MAX_DIM];
    for (int32_t k = 0; k < shape.ndim; k++) dim[k] = shape.dim[k];
    dt_vid in[3] = {dense->in[DT_DENSE_IN_X], dense->in[DT_DENSE_IN_W], dense->in[DT_DENSE_IN_BIAS]}, now;
    dim[shape.ndim - 1] = g->value[in[1]].dim[1];
    DT_TRY(add_reshape(g, in[0], shape.ndim, dim, &in[0]));
    DT_TRY(add(g, v, DT_OP_DENSE, NULL, 3, in, &now));
    dt_graph_remove_node(g, i);
    dt_graph_remove_node(g, id);
    dt_pass_replace_uses(g, y, now);
    g->value[y].producer = g->value[v].producer = -1;
    return DT_OK;
}

/* A convolution of windows side by side is a dense layer of them; libraries are slow at a few channels. */
static dt_status patches(dt_graph *g, dt_nid i) {
    const dt_node n = g->node[i];
    const dt_window_attr *t = &n.attr.window;
    const dt_conv_dims d = dt_op_conv_dims(g, &n);
    enum { FEW = 8 };
    bool side_by_side =
        d.groups == 1 && d.c <= FEW && d.r * d.s > 1 && d.h == d.p * d.r && d.w == d.q * d.s && !t->act;
    for (int32_t k = 0; k < 2; k++)
        side_by_side = side_by_side && t->stride[k] == t->kernel[k] && t->pad_begin[k] == 0 &&
                       t->pad_end[k] == 0 && t->dilation[k] <= 1;
    for (int32_t k = DT_CONV_IN_PRE_SCALE; k < n.n_in; k++) side_by_side = side_by_side && n.in[k] < 0;
    const dt_vid y = n.out[0], w = n.in[DT_CONV_IN_W];
    const float *numbers = dt_pass_known(g, w);
    if (!side_by_side || !numbers || dt_node_makes(&n, DT_CONV_OUT_STATS) || dt_graph_is_kept(g, y) ||
        g->value[w].stored_c)
        return DT_OK;
    const int64_t wide = d.r * d.s * d.c;
    float *copy = malloc((size_t)(d.k * wide) * sizeof *copy);
    if (!copy) return dt_fail(DT_ERR_MEMORY, "no memory for weights of patches");
    memcpy(copy, numbers, (size_t)(d.k * wide) * sizeof *copy);
    dt_vid in[3] = {-1, -1, n.in[DT_CONV_IN_BIAS]}, now;
    DT_TRY(dt_pass_add_constant(g, w, "patches", g->value[w].dtype, 2, (int64_t[]){d.k, wide}, copy, &in[1]));
    DT_TRY(add_reshape(g, n.in[DT_CONV_IN_X], 6, (int64_t[]){d.n, d.p, d.r, d.q, d.s, d.c}, &now));
    DT_TRY(add_transpose(g, now, 6, (int32_t[]){0, 1, 3, 2, 4, 5}, &now));
    DT_TRY(add_reshape(g, now, 4, (int64_t[]){d.n, d.p, d.q, wide}, &in[0]));
    DT_TRY(add(g, y, DT_OP_DENSE, NULL, 3, in, &now));
    dt_graph_remove_node(g, i);
    dt_pass_replace_uses(g, y, now);
    g->value[y].producer = -1;
    return DT_OK;
}

/* Of the nodes that are there now and of this op. */
static dt_status each(dt_graph *g, dt_op op, dt_status (*change)(dt_graph *g, dt_nid i)) {
    for (dt_nid i = 0, n = g->n_node; i < n; i++)
        if (g->node[i].op == op) DT_TRY(change(g, i));
    return put_in_order(g);
}

static dt_status lift_narrow(dt_graph *g, dt_nid i) {
    const dt_value *w = &g->value[g->node[i].in[DT_DENSE_IN_W]];
    bool done;
    return w->dim[0] <= w->dim[1] ? lift(g, i, &done) : DT_OK;
}

dt_status dt_pass_find_attention(dt_graph *g) {
    DT_TRY(each(g, DT_OP_CONV, patches));
    DT_TRY(each(g, DT_OP_MATMUL, match));
    DT_TRY(each(g, DT_OP_DENSE, lift_narrow));
    DT_TRY(each(g, DT_OP_TRANSPOSE, join_transposes));
    DT_TRY(each(g, DT_OP_RESHAPE, reshape_before_dense));
    DT_TRY(dt_pass_remove_dead(g));
    return dt_graph_validate(g);
}
