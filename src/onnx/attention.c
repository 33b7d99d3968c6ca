#include "attention.h"

#include <math.h>
#include <string.h>

#include "numbers.h"

/* Sizes and steps of a tensor [batch, heads, places, size], given so or as [batch, places, heads size]. */
typedef struct heads {
    int64_t batch, n, len, size;
    int64_t step_batch, step_head, step_place;
} heads;

static dt_status read_heads(const dt_onnx_call *c, int32_t i, const char *attr, heads *h) {
    const dt_host_tensor *t = c->in[i];
    DT_TRY(dt_onnx_rank(c, i, 3, 4));
    const int64_t n = dt_onnx_attr_int(c->node, attr, 0);
    if (t->ndim == 4) {
        *h = (heads){t->dim[0], t->dim[1], t->dim[2], t->dim[3], 0, 0, 0};
        h->step_place = h->size, h->step_head = h->len * h->size;
    } else {
        if (n < 1 || t->dim[2] % n != 0)
            return dt_onnx_refuse(c, "%lld numbers in %s = %lld", (long long)t->dim[2], attr, (long long)n);
        *h = (heads){t->dim[0], n, t->dim[1], t->dim[2] / n, 0, 0, 0};
        h->step_place = t->dim[2], h->step_head = h->size;
    }
    h->step_batch = h->n * h->len * h->size;
    return DT_OK;
}

typedef struct attention {
    heads q, k, v;
    int64_t past, total; /* keys before and all */
} attention;

enum { Q, K, V, MASK, PAST_KEY, PAST_VALUE, N_VALID };

static dt_status read_attention(const dt_onnx_call *c, attention *a) {
    DT_TRY(read_heads(c, Q, "q_num_heads", &a->q));
    DT_TRY(read_heads(c, K, "kv_num_heads", &a->k));
    DT_TRY(read_heads(c, V, "kv_num_heads", &a->v));
    const heads *q = &a->q, *k = &a->k, *v = &a->v;
    if (c->in[Q]->ndim != c->in[K]->ndim || c->in[Q]->ndim != c->in[V]->ndim || q->batch != k->batch ||
        q->batch != v->batch || q->size != k->size || k->n != v->n || k->len != v->len || k->n < 1 ||
        q->n % k->n != 0)
        return dt_onnx_refuse(c, "queries, keys and values do not fit together");
    const dt_host_tensor *past = dt_onnx_in(c, PAST_KEY);
    if (!past != !dt_onnx_in(c, PAST_VALUE))
        return dt_onnx_refuse(c, "one of past keys and values is missing");
    if (past && dt_onnx_in(c, N_VALID)) return dt_onnx_refuse(c, "past keys and a number of valid ones");
    DT_TRY(dt_onnx_rank(c, PAST_KEY, 4, 4));
    a->past = past ? past->dim[2] : 0;
    DT_TRY(dt_onnx_shape_of(c, PAST_KEY, 4, (const int64_t[]){k->batch, k->n, a->past, k->size}));
    DT_TRY(dt_onnx_shape_of(c, PAST_VALUE, 4, (const int64_t[]){v->batch, v->n, a->past, v->size}));
    DT_TRY(dt_onnx_shape_of(c, N_VALID, 1, (const int64_t[]){q->batch}));
    a->total = a->past + k->len;
    const dt_host_tensor *mask = dt_onnx_in(c, MASK);
    if (!mask) return DT_OK;
    const int64_t dim[] = {q->batch, q->n, q->len, a->total};
    DT_TRY(dt_onnx_rank(c, MASK, 1, 4));
    for (int32_t d = 0; d < mask->ndim; d++) {
        const int64_t want = dim[4 - mask->ndim + d], is = mask->dim[d];
        if (is != want && is != 1 && (d + 1 < mask->ndim || is > want))
            return dt_onnx_refuse(c, "dimension %d of the mask is %lld for %lld", d, (long long)is,
                                  (long long)want);
    }
    return DT_OK;
}

dt_status dt_infer_attention(const dt_onnx_call *c) {
    attention a;
    DT_TRY(dt_onnx_expect(c, Q, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, V, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, MASK, DT_HOST_NUMBERS | DT_HOST_BOOL));
    DT_TRY(dt_onnx_expect(c, N_VALID, DT_HOST_IS(DT_TENSOR_I64)));
    DT_TRY(dt_onnx_same_type(c, Q, K));
    DT_TRY(dt_onnx_same_type(c, Q, PAST_KEY));
    DT_TRY(dt_onnx_same_type(c, V, PAST_VALUE));
    DT_TRY(read_attention(c, &a));
    const dt_tensor_type type = c->in[Q]->type;
    const heads *q = &a.q, *k = &a.k, *v = &a.v;
    if (c->in[Q]->ndim == 4)
        DT_TRY(dt_onnx_out(c, 0, type, 4, (const int64_t[]){q->batch, q->n, q->len, v->size}));
    else
        DT_TRY(dt_onnx_out(c, 0, type, 3, (const int64_t[]){q->batch, q->len, q->n * v->size}));
    DT_TRY(dt_onnx_out(c, 1, type, 4, (const int64_t[]){k->batch, k->n, a.total, k->size}));
    DT_TRY(dt_onnx_out(c, 2, c->in[V]->type, 4, (const int64_t[]){v->batch, v->n, a.total, v->size}));
    return dt_onnx_out(c, 3, type, 4, (const int64_t[]){q->batch, q->n, q->len, a.total});
}

/* Past ones and new ones as [batch, heads, total, size]. */
static dt_status join(const dt_onnx_call *c, int32_t past, int32_t i, const heads *h, int64_t n_past,
                      double **out) {
    double *old, *now;
    DT_TRY(dt_onnx_load(c, past, &old));
    DT_TRY(dt_onnx_load(c, i, &now));
    const int64_t total = n_past + h->len;
    DT_TRY(dt_onnx_doubles(c, h->batch * h->n * total * h->size, out));
    for (int64_t b = 0; b < h->batch; b++)
        for (int64_t k = 0; k < h->n; k++) {
            double *to = *out + (b * h->n + k) * total * h->size;
            if (n_past * h->size > 0)
                memcpy(to, old + (b * h->n + k) * n_past * h->size, sizeof *to * (size_t)(n_past * h->size));
            for (int64_t t = 0; t < h->len; t++)
                memcpy(to + (n_past + t) * h->size,
                       now + b * h->step_batch + k * h->step_head + t * h->step_place,
                       sizeof *to * (size_t)h->size);
        }
    return DT_OK;
}

/* The mask at [batch, head, query, key]: what is added. */
static double mask_at(const dt_host_tensor *m, const double *value, const int64_t *at) {
    int64_t i = 0;
    for (int32_t d = 0; d < m->ndim; d++) {
        const int64_t k = at[4 - m->ndim + d];
        if (k >= m->dim[d] && m->dim[d] != 1) return -HUGE_VAL; /* past a mask that is shorter */
        i = i * m->dim[d] + (m->dim[d] == 1 ? 0 : k);
    }
    if (m->ndim > 0 && m->dim[m->ndim - 1] == 1 && at[3] > 0) return -HUGE_VAL;
    return m->type != DT_TENSOR_BOOL ? value[i] : value[i] != 0 ? 0 : -HUGE_VAL;
}

dt_status dt_run_attention(const dt_onnx_call *c) {
    attention a;
    DT_TRY(read_attention(c, &a));
    const heads *q = &a.q, *k = &a.k, *v = &a.v;
    double *query, *key, *value, *mask, *score;
    DT_TRY(dt_onnx_load(c, Q, &query));
    DT_TRY(dt_onnx_load(c, MASK, &mask));
    DT_TRY(join(c, PAST_KEY, K, k, a.past, &key));
    DT_TRY(join(c, PAST_VALUE, V, v, a.past, &value));
    DT_TRY(dt_onnx_doubles(c, 2 * a.total, &score));
    double *bias = score + a.total, *sum;
    DT_TRY(dt_onnx_doubles(c, v->size, &sum));
    const double cap = (double)dt_onnx_attr_float(c->node, "softcap", 0),
                 scale = (double)dt_onnx_attr_float(c->node, "scale", 0),
                 by = dt_onnx_attr_find(c->node, "scale") ? scale : 1 / sqrt((double)q->size);
    const bool causal = dt_onnx_attr_int(c->node, "is_causal", 0) != 0;
    const int64_t mode = dt_onnx_attr_int(c->node, "qk_matmul_output_mode", 0),
                  left = dt_onnx_attr_int(c->node, "left_window_size", -1),
                  right = dt_onnx_attr_int(c->node, "right_window_size", -1);
    for (int64_t b = 0; b < q->batch; b++)
        for (int64_t h = 0; h < q->n; h++)
            for (int64_t t = 0; t < q->len; t++) {
                const int64_t kv = (b * k->n + h / (q->n / k->n)) * a.total,
                              row = (b * q->n + h) * q->len + t;
                const double *at = query + b * q->step_batch + h * q->step_head + t * q->step_place;
                const int64_t valid = dt_onnx_in(c, N_VALID) ? dt_host_i64(c->in[N_VALID], b) : a.total,
                              place = t + (dt_onnx_in(c, N_VALID) ? valid - q->len : a.past);
                double most = -HUGE_VAL, all = 0, most_bias = -HUGE_VAL;
                for (int64_t j = 0; j < a.total; j++) {
                    double x = 0;
                    for (int64_t d = 0; d < q->size; d++) x += at[d] * key[(kv + j) * q->size + d];
                    x *= by;
                    if (mode == 0 && dt_onnx_wants(c, 3)) dt_host_put_f64(&c->out[3], row * a.total + j, x);
                    if (cap > 0) x = cap * tanh(x / cap);
                    if (mode == 1 && dt_onnx_wants(c, 3)) dt_host_put_f64(&c->out[3], row * a.total + j, x);
                    bias[j] = mask ? mask_at(c->in[MASK], mask, (const int64_t[]){b, h, t, j}) : 0;
                    if ((causal && j > place) || j >= valid || (left >= 0 && place - j > left) ||
                        (right >= 0 && j - place > right))
                        bias[j] = -HUGE_VAL;
                    score[j] = x + bias[j];
                    if (mode == 2 && dt_onnx_wants(c, 3))
                        dt_host_put_f64(&c->out[3], row * a.total + j, score[j]);
                    most = fmax(most, score[j]);
                    most_bias = fmax(most_bias, bias[j]);
                }
                const bool none = most_bias == -HUGE_VAL || most == -HUGE_VAL;
                for (int64_t j = 0; j < a.total; j++) all += score[j] = none ? 0 : exp(score[j] - most);
                memset(sum, 0, sizeof *sum * (size_t)v->size);
                for (int64_t j = 0; j < a.total; j++) {
                    score[j] = none ? 0 : score[j] / all;
                    for (int64_t d = 0; d < v->size; d++) sum[d] += score[j] * value[(kv + j) * v->size + d];
                }
                if (mode == 3 && dt_onnx_wants(c, 3))
                    dt_host_store_f64(&c->out[3], row * a.total, a.total, score);
                const int64_t to = c->in[Q]->ndim == 4 ? row : (b * q->len + t) * q->n + h;
                dt_host_store_f64(&c->out[0], to * v->size, v->size, sum);
            }
    if (dt_onnx_wants(c, 1)) dt_host_store_f64(&c->out[1], 0, dt_host_n_elem(&c->out[1]), key);
    if (dt_onnx_wants(c, 2)) dt_host_store_f64(&c->out[2], 0, dt_host_n_elem(&c->out[2]), value);
    return DT_OK;
}

typedef struct rotary {
    heads x;
    int64_t half; /* pairs that are turned */
} rotary;

static dt_status read_rotary(const dt_onnx_call *c, rotary *r) {
    DT_TRY(read_heads(c, 0, "num_heads", &r->x));
    const int64_t n = dt_onnx_attr_int(c->node, "rotary_embedding_dim", 0), turned = n ? n : r->x.size;
    r->half = turned / 2;
    if (turned < 0 || turned > r->x.size || turned % 2 != 0)
        return dt_onnx_refuse(c, "%lld of %lld numbers are to be turned", (long long)turned,
                              (long long)r->x.size);
    for (int32_t i = 1; i < 3; i++) {
        if (dt_onnx_in(c, 3)) {
            DT_TRY(dt_onnx_rank(c, i, 2, 2));
            DT_TRY(dt_onnx_shape_of(c, i, 2, (const int64_t[]){c->in[1]->dim[0], r->half}));
        } else {
            DT_TRY(dt_onnx_shape_of(c, i, 3, (const int64_t[]){r->x.batch, r->x.len, r->half}));
        }
    }
    return dt_onnx_shape_of(c, 3, 2, (const int64_t[]){r->x.batch, r->x.len});
}

dt_status dt_infer_rotary(const dt_onnx_call *c) {
    rotary r;
    DT_TRY(dt_onnx_expect_all(c, 0, 2, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 3, DT_HOST_IS(DT_TENSOR_I64)));
    DT_TRY(read_rotary(c, &r));
    return dt_onnx_out_like(c, 0, 0);
}

dt_status dt_run_rotary(const dt_onnx_call *c) {
    rotary r;
    double *x, *cosine, *sine;
    DT_TRY(read_rotary(c, &r));
    DT_TRY(dt_onnx_load(c, 0, &x));
    DT_TRY(dt_onnx_load(c, 1, &cosine));
    DT_TRY(dt_onnx_load(c, 2, &sine));
    const bool interleaved = dt_onnx_attr_int(c->node, "interleaved", 0) != 0;
    const int64_t apart = interleaved ? 1 : r.half, step = interleaved ? 2 : 1;
    for (int64_t b = 0; b < r.x.batch; b++)
        for (int64_t t = 0; t < r.x.len; t++) {
            int64_t at = b * r.x.len + t;
            if (dt_onnx_in(c, 3)) {
                at = dt_host_i64(c->in[3], at);
                if (at < 0 || at >= c->in[1]->dim[0])
                    return dt_onnx_refuse(c, "position %lld of %lld", (long long)at,
                                          (long long)c->in[1]->dim[0]);
            }
            for (int64_t h = 0; h < r.x.n; h++) {
                double *row = x + b * r.x.step_batch + h * r.x.step_head + t * r.x.step_place;
                for (int64_t i = 0; i < r.half; i++) {
                    double *p = row + i * step, *q = p + apart;
                    const double re = *p, im = *q, co = cosine[at * r.half + i], si = sine[at * r.half + i];
                    *p = co * re - si * im;
                    *q = si * re + co * im;
                }
            }
        }
    dt_host_store_f64(&c->out[0], 0, dt_host_n_elem(&c->out[0]), x);
    return DT_OK;
}
