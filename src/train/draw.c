/* The next token by its logits. */
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "train/generate.h"

/* Tokens by their weight, the largest on top, of equals the lowest id. */
typedef struct heap {
    const double *weight;
    int32_t *id;
    int64_t n;
} heap;

static bool goes_before(const heap *h, int32_t a, int32_t b) {
    return h->weight[a] != h->weight[b] ? h->weight[a] > h->weight[b] : a < b;
}

static void sink(heap *h, int64_t i) {
    for (int64_t k; (k = 2 * i + 1) < h->n; i = k) {
        if (k + 1 < h->n && goes_before(h, h->id[k + 1], h->id[k])) k++;
        if (!goes_before(h, h->id[k], h->id[i])) return;
        const int32_t moved = h->id[i];
        h->id[i] = h->id[k];
        h->id[k] = moved;
    }
}

static int32_t take(heap *h) {
    const int32_t top = h->id[0];
    h->id[0] = h->id[--h->n];
    sink(h, 0);
    return top;
}

static heap heap_of(const double *weight, int32_t *id, int64_t n) {
    heap h = {weight, id, n};
    for (int64_t i = 0; i < n; i++) id[i] = (int32_t)i;
    for (int64_t i = n / 2 - 1; i >= 0; i--) sink(&h, i);
    return h;
}

dt_status dt_draw_check(const dt_draw_options *o) {
    if (!(o->temperature >= 0) || o->temperature > 1e6)
        return dt_fail(DT_ERR_USAGE, "a temperature of %g: 0, which takes the likeliest token, or up to 1e6",
                       o->temperature);
    if (o->top_k < 0)
        return dt_fail(DT_ERR_USAGE, "the %lld likeliest tokens: 0 for all, or more", (long long)o->top_k);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return dt_fail(DT_ERR_USAGE, "a part of %g of all probability: more than 0, and 1 for all", o->top_p);
    return DT_OK;
}

int64_t dt_draw_bytes(int64_t n) {
    return n * (int64_t)(sizeof(double) + sizeof(int32_t));
}

/* The weight of the last of the k largest: lesser ones go. */
static void keep_top_k(double *weight, int32_t *id, int64_t n, int64_t k) {
    double least = 0;
    if (k <= 0 || k >= n) return;
    heap h = heap_of(weight, id, n);
    for (int64_t i = 0; i < k; i++) least = weight[take(&h)];
    for (int64_t i = 0; i < n; i++)
        if (weight[i] < least) weight[i] = 0;
}

static double sum_of(const double *weight, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += weight[i];
    return sum;
}

static void keep_top_p(double *weight, int32_t *id, int64_t n, double p) {
    if (!(p < 1)) return;
    const double enough = p * sum_of(weight, n);
    heap h = heap_of(weight, id, n);
    for (double before = 0; h.n > 0 && (before < enough || before == 0);) before += weight[take(&h)];
    for (int64_t i = 0; i < h.n; i++) weight[id[i]] = 0;
}

static int32_t likeliest(const float *logits, int64_t n) {
    int32_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = (int32_t)i;
    return best;
}

dt_status dt_draw_token(const dt_draw_options *o, const float *logits, int64_t n, uint64_t text,
                        uint64_t place, void *room, int32_t *out) {
    double *weight = room;
    int32_t *id = (int32_t *)(void *)(weight + n);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(logits[i]))
            return dt_fail(DT_ERR_NONFINITE,
                           "the network's logit of token %lld is not finite: weights beyond the numbers of "
                           "train.precision",
                           (long long)i);
    *out = likeliest(logits, n);
    if (!(o->temperature > 0)) return DT_OK;
    const double most = (double)logits[*out];
    for (int64_t i = 0; i < n; i++) weight[i] = exp(((double)logits[i] - most) / o->temperature);
    keep_top_k(weight, id, n, o->top_k);
    keep_top_p(weight, id, n, o->top_p);
    const dt_u32x4 r = dt_philox(dt_rng_key(o->seed, DT_RNG_TEXT, text), 0, place);
    const double u = (double)(((uint64_t)r.v[0] << 32 | r.v[1]) >> 11) * 0x1p-53, at = u * sum_of(weight, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (weight[i] <= 0) continue;
        *out = (int32_t)i; /* the last one where sums round */
        sum += weight[i];
        if (at < sum) break;
    }
    return DT_OK;
}
