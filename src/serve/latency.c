#include "latency.h"

#include "core/types.h"

/* Numbers below DT_LATENCY_PARTS have a bucket each; of others the highest bit and the six behind it count. */
static int32_t bucket_of(int64_t ns) {
    if (ns < DT_LATENCY_PARTS) return (int32_t)dt_max_i64(ns, 0);
    const int32_t high = 63 - __builtin_clzll((unsigned long long)ns);
    const int32_t part = (int32_t)(ns >> (high - 6)) & (DT_LATENCY_PARTS - 1);
    const int32_t i = (high - 5) * DT_LATENCY_PARTS + part;
    return i < DT_LATENCY_BUCKETS ? i : DT_LATENCY_BUCKETS - 1;
}

/* The middle of a bucket, ns. */
static double middle(int32_t i) {
    const int32_t octave = i / DT_LATENCY_PARTS, part = i % DT_LATENCY_PARTS;
    if (octave == 0) return part;
    return ((double)(DT_LATENCY_PARTS + part) + 0.5) * (double)(INT64_C(1) << (octave - 1));
}

void dt_latencies_add(dt_latencies *h, int64_t ns) {
    if (h->n == 0 || ns < h->min_ns) h->min_ns = ns;
    if (h->n == 0 || ns > h->max_ns) h->max_ns = ns;
    h->n++;
    h->sum_ns += ns;
    h->bucket[bucket_of(ns)]++;
}

double dt_latencies_quantile(const dt_latencies *h, double q) {
    int64_t below = 0;
    double ns = 0;
    for (int32_t i = 0; i < DT_LATENCY_BUCKETS && h->n > 0; i++) {
        below += h->bucket[i];
        if ((double)below < q * (double)h->n || below == 0) continue;
        ns = middle(i);
        break;
    }
    if (ns < (double)h->min_ns) ns = (double)h->min_ns;
    if (ns > (double)h->max_ns) ns = (double)h->max_ns;
    return ns * 1e-9;
}
