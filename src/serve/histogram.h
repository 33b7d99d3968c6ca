/* Times by logarithmic buckets: 64 to an octave, so a quantile is within 1 % of what was measured. */
#ifndef DT_SERVE_HISTOGRAM_H
#define DT_SERVE_HISTOGRAM_H

#include <stdint.h>

enum { DT_HISTOGRAM_PARTS = 64, DT_HISTOGRAM_BUCKETS = 44 * DT_HISTOGRAM_PARTS };

typedef struct dt_histogram {
    int64_t n, sum_ns, min_ns, max_ns;
    int64_t bucket[DT_HISTOGRAM_BUCKETS];
} dt_histogram;

void dt_histogram_add(dt_histogram *h, int64_t ns);
/* Seconds below which part q of the times are, within [min, max]; 0 without any. */
double dt_histogram_quantile(const dt_histogram *h, double q);

#endif
