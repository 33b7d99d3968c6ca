/* Values on their way into the graph: parameters, constants, the two orders of dimensions. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lower.h"

void *dt_low_alloc(dt_low *w, int64_t bytes) {
    if (w->st != DT_OK) return NULL;
    dt_low_block *b = bytes >= 0 && bytes <= INT64_MAX / 2
                          ? aligned_alloc(64, sizeof *b + (size_t)dt_round_up(bytes, 64))
                          : NULL;
    if (!b) {
        w->st = dt_fail(DT_ERR_MEMORY, "no memory for %lld bytes of a model's constants", (long long)bytes);
        return NULL;
    }
    memset(b->byte, 0, (size_t)dt_round_up(bytes, 64));
    b->next = w->kept->block;
    w->kept->block = b;
    return b->byte;
}

int32_t dt_low_axis(int64_t axis, int32_t ndim) {
    return (int32_t)(axis < 0 ? axis + ndim : axis);
}

int32_t dt_low_numbers(const dt_low_node *n, const char *attr, int32_t slot, int32_t cap, int64_t *out) {
    const dt_lv *v = slot >= 0 ? dt_low_in(n, slot) : NULL;
    const int64_t *given;
    if (v && dt_low_known(v)) {
        const int64_t have = dt_host_n_elem(&v->t);
        for (int64_t i = 0; i < have && i < cap; i++) out[i] = dt_host_i64(&v->t, i);
        return have <= cap ? (int32_t)have : -1;
    }
    const int64_t have = v || !attr ? 0 : dt_onnx_attr_ints(n->node, attr, &given);
    if (have <= 0 || have > cap) return -1;
    memcpy(out, given, (size_t)have * sizeof *out);
    return (int32_t)have;
}

bool dt_low_scalar(const dt_low_node *n, int32_t slot, double otherwise, double *out) {
    const dt_lv *v = dt_low_in(n, slot);
    *out = otherwise;
    if (!v) return true;
    if (!dt_low_known(v) || dt_host_n_elem(&v->t) != 1) return false;
    *out = dt_host_f64(&v->t, 0);
    return true;
}

bool dt_low_uniform(const dt_lv *v, float *out) {
    if (!dt_low_known(v) || !dt_low_is_real(v)) return false;
    const float *x = v->t.data;
    const int64_t n = dt_host_n_elem(&v->t);
    for (int64_t i = 1; i < n; i++)
        if (x[i] != x[0]) return false;
    if (n > 0) *out = x[0];
    return n > 0;
}

/* ---- nodes ---- */

/* `name` as checkpoints take it, and short enough for what stands behind it. */
static void plain_name(const char *name, char text[DT_NAME_MAX]) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+:-/";
    enum { ROOM = 72 };
    const size_t n = strlen(name);
    int used = 0;
    if (n >= ROOM) { /* the end says more than the beginning */
        uint32_t hash = 2166136261u;
        for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
        used = snprintf(text, DT_NAME_MAX, "%08x-", hash);
        name += n - (ROOM - 10);
    }
    for (const char *c = name; *c; c++) {
        const bool parts = used == 0 || text[used - 1] == '/'; /* no empty ones, and none of dots */
        if (*c == '/' && (parts || !c[1])) continue;
        text[used++] = strchr(allowed, *c) && !(parts && *c == '.') ? *c : '_';
    }
    if (used == 0) text[used++] = '_';
    text[used] = 0;
}

/* The same, made unique. */
const char *dt_low_free_name(dt_low *w, const char *name, char text[DT_NAME_MAX]) {
    plain_name(name, text);
    const int used = (int)strlen(text);
    for (int32_t k = 2; dt_graph_find(w->g, text) >= 0; k++)
        snprintf(text + used, DT_NAME_MAX - (size_t)used, "+%d", k);
    return text;
}

dt_vid dt_low_add(dt_low *w, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                  const dt_vid *in) {
    char text[DT_NAME_MAX];
    dt_vid out = -1;
    if (w->st == DT_OK)
        w->st = dt_graph_add_node(w->g, dt_low_free_name(w, name, text), op, attr, n_in, in, &out);
    return w->st == DT_OK ? out : -1;
}

dt_vid dt_low_reshape(dt_low *w, const char *name, dt_vid v, int32_t ndim, const int64_t *dim) {
    if (w->st != DT_OK) return -1;
    const dt_value *x = &w->g->value[v];
    dt_attr t = {.reshape.ndim = ndim > 0 ? ndim : 1};
    bool same = x->ndim == t.reshape.ndim;
    for (int32_t i = 0; i < t.reshape.ndim; i++) {
        t.reshape.dim[i] = ndim > 0 ? dim[i] : 1;
        same = same && t.reshape.dim[i] == x->dim[i];
    }
    return same ? v : dt_low_add(w, name, DT_OP_RESHAPE, &t, 1, &v);
}

dt_vid dt_low_permute(dt_low *w, const char *name, dt_vid v, const int32_t *perm) {
    if (w->st != DT_OK) return -1;
    const dt_value *x = &w->g->value[v];
    dt_attr t = {.transpose.ndim = x->ndim};
    int64_t dim[DT_MAX_DIM];
    bool moves = false;
    for (int32_t i = 0, last = -1; i < x->ndim; i++) {
        t.transpose.perm[i] = perm[i];
        dim[i] = x->dim[perm[i]];
        if (dim[i] == 1) continue; /* where it stands makes no difference */
        moves = moves || perm[i] < last;
        last = perm[i];
    }
    return moves ? dt_low_add(w, name, DT_OP_TRANSPOSE, &t, 1, &v) : dt_low_reshape(w, name, v, x->ndim, dim);
}

dt_vid dt_low_slice(dt_low *w, const char *name, dt_vid v, int32_t axis, int64_t begin, int64_t length) {
    const dt_attr t = {.shape = {.axis = axis, .begin = begin, .length = length}};
    if (w->st != DT_OK) return -1;
    return begin == 0 && length == w->g->value[v].dim[axis] ? v : dt_low_add(w, name, DT_OP_SLICE, &t, 1, &v);
}

dt_vid dt_low_pad(dt_low *w, const char *name, dt_vid v, int32_t axis, int64_t begin, int64_t length) {
    const dt_attr t = {.shape = {.axis = axis, .begin = begin, .length = length}};
    if (w->st != DT_OK) return -1;
    return begin == 0 && length == w->g->value[v].dim[axis] ? v : dt_low_add(w, name, DT_OP_PAD, &t, 1, &v);
}

dt_vid dt_low_unary(dt_low *w, const char *name, dt_vid v, dt_unary fn, float a, float b) {
    return dt_low_add(w, name, DT_OP_UNARY, &(dt_attr){.unary = {.fn = fn, .a = a, .b = b}}, 1, &v);
}

dt_vid dt_low_binary(dt_low *w, const char *name, dt_vid a, dt_vid b, dt_binary fn) {
    return dt_low_add(w, name, DT_OP_BINARY, &(dt_attr){.binary.fn = fn}, 2, (dt_vid[]){a, b});
}

dt_vid dt_low_cast(dt_low *w, const char *name, dt_vid v, dt_dtype to) {
    if (w->st != DT_OK) return -1;
    return w->g->value[v].dtype == to ? v
                                      : dt_low_add(w, name, DT_OP_CAST, &(dt_attr){.cast.dtype = to}, 1, &v);
}

/* [rows, 1] of zeros, whatever the inputs are. */
static dt_vid row_zeros(dt_low *w) {
    dt_vid v = -1;
    if (w->zeros >= 0 || w->st != DT_OK) return w->zeros;
    for (int32_t i = 0; i < w->m->graph.n_in && v < 0; i++) v = w->o->in[i].value;
    if (v < 0) {
        w->st = dt_fail(DT_ERR_DATA, "it reads nothing, and a batch is asked of it");
        return -1;
    }
    const dt_value *x = &w->g->value[v];
    v = dt_low_reshape(w, "rows/flat", v, 2, (int64_t[]){w->o->rows, dt_value_n_elem(x) / w->o->rows});
    v = dt_low_slice(w, "rows/first", v, 1, 0, 1);
    v = dt_low_cast(w, "rows/real", v, w->g->compute);
    return w->zeros = dt_low_unary(w, "rows/zeros", v, DT_UNARY_CLAMP, 0, 0);
}

dt_vid dt_low_expand(dt_low *w, const char *name, dt_vid v, int32_t ndim, const int64_t *dim, bool rowwise) {
    if (w->st != DT_OK) return -1;
    const dt_value x = w->g->value[v];
    int64_t have[DT_MAX_DIM] = {1}, fill[DT_MAX_DIM] = {1}, n = 1;
    bool rows = false;
    for (int32_t i = 0; i < ndim; i++) {
        const int32_t k = i - (ndim - x.ndim);
        have[i] = k < 0 ? 1 : x.dim[k];
        fill[i] = have[i] == dim[i] ? 1 : dim[i];
        if (rowwise && i == 0 && fill[i] == w->o->rows && fill[i] != 1) rows = true, fill[i] = 1;
        n *= fill[i];
    }
    v = dt_low_reshape(w, name, v, ndim, have);
    if (n > 1) {
        const float *zeros = dt_low_alloc(w, n * (int64_t)sizeof *zeros);
        char text[DT_NAME_MAX];
        snprintf(text, sizeof text, "%.64s/zeros", name);
        v = dt_low_binary(w, name, v, dt_low_param(w, text, zeros, ndim, fill, false, false), DT_BINARY_ADD);
    }
    if (!rows || w->st != DT_OK) return v;
    int64_t of_rows[DT_MAX_DIM] = {w->o->rows};
    for (int32_t i = 1; i < ndim; i++) of_rows[i] = 1;
    const dt_vid zeros = row_zeros(w);
    return dt_low_binary(w, name, v, dt_low_reshape(w, "rows/zeros", zeros, ndim, of_rows), DT_BINARY_ADD);
}

/* ---- parameters ---- */

/* Infinities of a constant (masks) as the largest numbers of the graph's type: what is kept of a run is finite. */
static const float *finite_of(dt_low *w, const float *data, int64_t n) {
    const float most = w->g->compute == DT_DTYPE_F16    ? 65504.0f
                       : w->g->compute == DT_DTYPE_BF16 ? 0x1.FEp127f
                                                        : FLT_MAX;
    bool finite = true;
    for (int64_t i = 0; i < n && finite; i++) finite = fabsf(data[i]) <= most || isnan(data[i]);
    if (finite) return data;
    float *out = dt_low_alloc(w, n * (int64_t)sizeof *out);
    for (int64_t i = 0; out && i < n; i++)
        out[i] = isnan(data[i]) ? data[i] : fmaxf(fminf(data[i], most), -most);
    return out;
}

static dt_vid param(dt_low *w, const char *origin, const float *data, dt_dtype dtype, int32_t ndim,
                    const int64_t *dim, bool trains, bool decay) {
    char text[DT_NAME_MAX];
    dt_vid v;
    if (w->st != DT_OK) return -1;
    int64_t n = 1;
    for (int32_t i = 0; i < ndim; i++) n *= dim[i];
    trains = trains && w->o->rows > 0;
    if (data && !trains && w->o->kernels) data = finite_of(w, data, n);
    if (w->st != DT_OK) return -1;
    plain_name(origin, text);
    const size_t len = strlen(text);
    /* The same numbers in the same shape are the same parameter: tied weights. */
    for (v = 0; data && v < w->g->n_value; v++) {
        const dt_value *p = &w->g->value[v];
        bool same = p->role == DT_ROLE_PARAM && p->init_data && p->ndim == ndim && p->constant == !trains &&
                    strncmp(p->name, text, len) == 0 && (p->name[len] == 0 || p->name[len] == '+');
        for (int32_t i = 0; same && i < ndim; i++) same = p->dim[i] == dim[i];
        if (same && p->dtype == dtype &&
            (p->init_data == data || memcmp(p->init_data, data, (size_t)n * sizeof *data) == 0))
            return v;
    }
    w->st = dt_graph_add_value(w->g, dt_low_free_name(w, origin, text), DT_ROLE_PARAM, dtype,
                               ndim > 0 ? ndim : 1, ndim > 0 ? dim : (int64_t[]){1}, &v);
    if (w->st != DT_OK) return -1;
    dt_value *p = &w->g->value[v];
    p->init_data = data;
    p->init = DT_INIT_UNIFORM_FAN_IN;
    p->fan_in = ndim > 1 ? n / dim[0] : n;
    p->fan_out = ndim > 0 ? dim[0] : 1;
    p->decay = decay;
    p->constant = p->frozen = !trains;
    return v;
}

dt_vid dt_low_param(dt_low *w, const char *origin, const float *data, int32_t ndim, const int64_t *dim,
                    bool trains, bool decay) {
    return param(w, origin, data, w->g->compute, ndim, dim, trains, decay);
}

dt_vid dt_low_param_f32(dt_low *w, const char *origin, const float *data, int64_t n) {
    return param(w, origin, data, DT_DTYPE_F32, 1, &n, true, false);
}

dt_vid dt_low_state(dt_low *w, const char *origin, const float *data, int64_t n) {
    char text[DT_NAME_MAX];
    dt_vid v;
    if (w->st != DT_OK) return -1;
    w->st =
        dt_graph_add_value(w->g, dt_low_free_name(w, origin, text), DT_ROLE_STATE, DT_DTYPE_F32, 1, &n, &v);
    if (w->st != DT_OK) return -1;
    w->g->value[v].init_data = data;
    return v;
}

const float *dt_low_permuted(dt_low *w, const dt_lv *v, int32_t ndim, const int64_t *dim,
                             const int32_t *perm) {
    const int64_t n = dt_host_n_elem(&v->t);
    const float *from = v->t.data;
    int64_t stride[DT_MAX_DIM], step[DT_MAX_DIM], to[DT_MAX_DIM], at[DT_MAX_DIM] = {0};
    bool same = true;
    for (int32_t i = 0; i < ndim; i++) same = same && perm[i] == i;
    if (same) return from;
    float *out = dt_low_alloc(w, n * (int64_t)sizeof *out);
    if (!out) return NULL;
    for (int32_t i = ndim - 1; i >= 0; i--) stride[i] = i == ndim - 1 ? 1 : stride[i + 1] * dim[i + 1];
    for (int32_t i = 0; i < ndim; i++) step[i] = stride[perm[i]], to[i] = dim[perm[i]];
    int64_t off = 0;
    for (int64_t i = 0; i < n; i++) {
        out[i] = from[off];
        for (int32_t k = ndim - 1; k >= 0; k--) {
            off += step[k];
            if (++at[k] < to[k]) break;
            off -= step[k] * to[k];
            at[k] = 0;
        }
    }
    return out;
}

static const char *origin_of(const dt_lv *v) {
    return v->origin ? v->origin : v->name;
}

dt_vid dt_low_vector(dt_low *w, const dt_lv *v) {
    const int64_t n = dt_host_n_elem(&v->t);
    return dt_low_param_f32(w, origin_of(v), v->t.data, n);
}

dt_vid dt_low_whole(dt_low *w, const dt_lv *v, const float *numbers) {
    return param(w, origin_of(v), numbers, DT_DTYPE_I32, v->t.ndim, v->t.dim, false, false);
}

/* Of numbers that follow from the number of rows: those of one row, repeated. */
static dt_vid rowwise_constant(dt_low *w, dt_lv *v, bool *made) {
    const int64_t n = dt_host_n_elem(&v->t), rows = w->o->rows, wide = rows > 0 ? n / rows : 0;
    const float *x = v->t.data;
    float all;
    *made = false;
    if (!v->rowwise || rows < 1 || v->t.ndim < 1) return -1;
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, v->t.dim, sizeof dim);
    const bool uniform = dt_low_uniform(v, &all);
    for (int32_t i = 0; uniform && i < v->t.ndim; i++) dim[i] = 1;
    bool alike = v->t.dim[0] == rows;
    for (int64_t r = 1; alike && r < rows; r++)
        alike = memcmp(x, x + r * wide, (size_t)wide * sizeof *x) == 0;
    if (!uniform && !alike) return -1;
    *made = true;
    dim[0] = 1;
    const dt_vid one = dt_low_param(w, origin_of(v), x, v->t.ndim, dim, false, false);
    /* the rows last: where they stand at another dimension it is brought to the front and back */
    int32_t at = 0;
    while (at < v->t.ndim && v->t.dim[at] != rows) at++;
    if (at == v->t.ndim || at == 0) return dt_low_expand(w, v->name, one, v->t.ndim, v->t.dim, at == 0);
    int32_t perm[DT_MAX_DIM];
    int64_t front[DT_MAX_DIM];
    for (int32_t i = 0; i < v->t.ndim; i++) perm[i] = i == 0 ? at : i <= at ? i - 1 : i;
    for (int32_t i = 0; i < v->t.ndim; i++) front[i] = v->t.dim[perm[i]];
    const dt_vid wideone = dt_low_expand(w, v->name, one, v->t.ndim, front, true);
    int32_t back[DT_MAX_DIM];
    for (int32_t i = 0; i < v->t.ndim; i++) back[perm[i]] = i;
    return dt_low_permute(w, v->name, wideone, back);
}

/* Whole numbers as a parameter of i32; false: such numbers have no place there. */
static dt_vid whole_constant(dt_low *w, dt_lv *v) {
    const int64_t n = dt_host_n_elem(&v->t);
    float *x = dt_low_alloc(w, n * (int64_t)sizeof *x);
    for (int64_t i = 0; x && i < n; i++) {
        const int64_t k = dt_host_i64(&v->t, i);
        x[i] = (float)k;
        if ((int64_t)x[i] == k && k >= INT32_MIN && k <= INT32_MAX) continue;
        w->st = dt_fail(DT_ERR_UNSUPPORTED, "%s holds %lld, which a constant of a graph does not", v->name,
                        (long long)k);
        return -1;
    }
    return x ? dt_low_whole(w, v, x) : -1;
}

static dt_vid constant(dt_low *w, dt_lv *v, bool trains) {
    bool made;
    if (!dt_low_is_real(v)) return whole_constant(w, v);
    const dt_vid c = rowwise_constant(w, v, &made);
    if (made) return c;
    return dt_low_param(w, origin_of(v), v->t.data, v->t.ndim, v->t.dim, trains && v->weight && !v->rowwise,
                        v->t.ndim > 1);
}

/* ---- the two orders ---- */

bool dt_low_is_last(const dt_lv *v) {
    return (v->plain < 0 && v->last >= 0) || dt_low_decodes_last(v);
}

dt_vid dt_low_plain(dt_low *w, dt_lv *v) {
    dt_low_decode(w, v);
    if (w->st != DT_OK || v->plain >= 0) return v->plain;
    if (dt_low_known(v)) return v->plain = constant(w, v, true);
    DT_ASSERT(v->last >= 0);
    int32_t perm[DT_MAX_DIM];
    for (int32_t d = 0; d < v->t.ndim; d++) perm[d] = dt_low_place(d, v->t.ndim, true);
    return v->plain = dt_low_permute(w, v->name, v->last, perm);
}

dt_vid dt_low_last(dt_low *w, dt_lv *v) {
    dt_low_decode(w, v);
    if (w->st != DT_OK || v->last >= 0) return v->last;
    DT_ASSERT(v->t.ndim >= 3);
    int32_t perm[DT_MAX_DIM];
    for (int32_t d = 0; d < v->t.ndim; d++) perm[dt_low_place(d, v->t.ndim, true)] = d;
    if (dt_low_known(v) && dt_low_is_real(v) && !v->rowwise && v->plain < 0) {
        int64_t dim[DT_MAX_DIM];
        for (int32_t d = 0; d < v->t.ndim; d++) dim[d] = v->t.dim[perm[d]];
        const float *x = dt_low_permuted(w, v, v->t.ndim, v->t.dim, perm);
        return v->last = x ? dt_low_param(w, origin_of(v), x, v->t.ndim, dim, v->weight, true) : -1;
    }
    return v->last = dt_low_permute(w, v->name, dt_low_plain(w, v), perm);
}

/* A constant with missing dimensions in front, and its channels behind. */
static dt_vid constant_operand(dt_low *w, dt_lv *v, int32_t ndim, bool last, bool trains) {
    int64_t dim[DT_MAX_DIM] = {0}, there[DT_MAX_DIM] = {0};
    int32_t perm[DT_MAX_DIM] = {0};
    for (int32_t i = 0; i < ndim; i++) {
        const int32_t k = i - (ndim - v->t.ndim);
        dim[i] = k < 0 ? 1 : v->t.dim[k];
    }
    for (int32_t i = 0; i < ndim; i++) perm[dt_low_place(i, ndim, last)] = i;
    for (int32_t i = 0; i < ndim; i++) there[i] = dim[perm[i]];
    const float *x = dt_low_permuted(w, v, ndim, dim, perm);
    if (!x) return -1;
    /* Without the dimensions of 1 in front: a bias is a vector in every network. */
    int32_t skip = 0;
    while (skip < ndim - 1 && there[skip] == 1) skip++;
    return dt_low_param(w, origin_of(v), x, ndim - skip, there + skip, trains && v->weight, ndim - skip > 1);
}

dt_vid dt_low_operand(dt_low *w, dt_lv *v, int32_t ndim, bool last, bool trains) {
    if (w->st != DT_OK) return -1;
    if (dt_low_known(v) && dt_low_is_real(v) && !v->rowwise)
        return constant_operand(w, v, ndim, last, trains);
    if (v->t.ndim == ndim) return last ? dt_low_last(w, v) : dt_low_plain(w, v);
    const dt_vid plain = dt_low_plain(w, v);
    if (!last || v->t.ndim < 2) {
        if (!last) return plain;
        /* a vector along the last dimension of the file */
        int64_t dim[DT_MAX_DIM];
        for (int32_t i = 0; i < ndim; i++) dim[i] = i == ndim - 2 && v->t.ndim == 1 ? v->t.dim[0] : 1;
        return dt_low_reshape(w, v->name, plain, ndim, dim);
    }
    int64_t dim[DT_MAX_DIM];
    int32_t perm[DT_MAX_DIM];
    for (int32_t i = 0; i < ndim; i++) {
        const int32_t k = i - (ndim - v->t.ndim);
        dim[i] = k < 0 ? 1 : v->t.dim[k];
        perm[dt_low_place(i, ndim, true)] = i;
    }
    return dt_low_permute(w, v->name, dt_low_reshape(w, v->name, plain, ndim, dim), perm);
}

void dt_low_set(dt_low *w, dt_lv *out, dt_vid v, bool last) {
    if (w->st != DT_OK || !out) return;
    int64_t dim[DT_MAX_DIM];
    for (int32_t d = 0; d < out->t.ndim; d++) dim[dt_low_place(d, out->t.ndim, last)] = out->t.dim[d];
    v = dt_low_reshape(w, out->name, v, out->t.ndim, dim);
    if (last)
        out->last = v;
    else
        out->plain = v;
    out->ready = true;
}

void dt_low_same(dt_lv *out, const dt_lv *in) {
    const char *name = out->name;
    *out = *in;
    out->name = name;
}
