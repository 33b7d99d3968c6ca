/* Times by logarithmic buckets: 64 to an octave, so a quantile is within 1 % of what was measured. */
#ifndef DT_SERVE_LATENCY_H
#define DT_SERVE_LATENCY_H

#include <stdint.h>

enum { DT_LATENCY_PARTS = 64, DT_LATENCY_BUCKETS = 44 * DT_LATENCY_PARTS };

typedef struct dt_latencies {
    int64_t n, sum_ns, min_ns, max_ns;
    int64_t bucket[DT_LATENCY_BUCKETS];
} dt_latencies;

void dt_latencies_add(dt_latencies *h, int64_t ns);
/* Seconds below which part q of the times are, within [min, max]; 0 without any. */
double dt_latencies_quantile(const dt_latencies *h, double q);

#endif
