#include "quant/range.h"

#include <float.h>
#include <math.h>

const char *const dt_range_method_names[DT_RANGE_METHODS] = {"minmax", "percentile", "entropy"};

/* Bins pair up until `most` lies below the limit. */
static void widen(dt_histogram *h, double most) {
    if (h->limit == 0) {
        h->limit = exp2(floor(log2(most)));
        while (h->limit <= most) h->limit *= 2;
    }
    while (h->limit <= most) {
        for (int i = 0; i < DT_RANGE_BINS; i++) {
            const bool first = i < DT_RANGE_BINS / 2;
            h->negative[i] = first ? h->negative[2 * i] + h->negative[2 * i + 1] : 0;
            h->positive[i] = first ? h->positive[2 * i] + h->positive[2 * i + 1] : 0;
        }
        h->limit *= 2;
    }
}

dt_status dt_histogram_add(dt_histogram *h, int64_t n, const float *x) {
    float low = 0, high = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return dt_fail(DT_ERR_NONFINITE, "number %lld is %g", (long long)i, (double)x[i]);
        low = fminf(low, x[i]), high = fmaxf(high, x[i]);
    }
    h->low = fmin(h->low, (double)low), h->high = fmax(h->high, (double)high);
    h->n += n;
    const double most = fmax(-(double)low, (double)high);
    if (most > 0) widen(h, most);
    for (int64_t i = 0; i < n; i++) {
        if (x[i] == 0) {
            h->n_zero++;
            continue;
        }
        const int32_t bin = (int32_t)(fabs((double)x[i]) / h->limit * DT_RANGE_BINS);
        (x[i] < 0 ? h->negative : h->positive)[bin]++;
    }
    return DT_OK;
}

/* ---- percentile ---- */

/* The end of the bin beyond which no more than `over` lie. */
static double cut(const int64_t *count, double limit, int64_t over) {
    int32_t i = DT_RANGE_BINS;
    for (int64_t beyond = 0; i > 0 && beyond + count[i - 1] <= over; i--) beyond += count[i - 1];
    return limit * i / DT_RANGE_BINS;
}

/* ---- entropy ---- */

/* The divergence of the first `kept` bins and of what lies beyond, as one, from what `levels` numbers make of them. What is
 * cut off is one count there: put into the last bin, as is often done, it would be no loss where that is full. */
static double divergence(int32_t kept, const double *count, double beyond, int32_t levels, double total) {
    const double made = total - beyond + (beyond > 0);
    double sum = beyond > 0 ? beyond * log(beyond / total * made) : 0;
    for (int32_t level = 0; level < levels; level++) {
        const int32_t first = (int32_t)((int64_t)level * kept / levels),
                      last = (int32_t)((int64_t)(level + 1) * kept / levels);
        double mass = 0;
        int32_t filled = 0;
        for (int32_t i = first; i < last; i++) mass += count[i], filled += count[i] > 0;
        for (int32_t i = first; i < last; i++)
            if (count[i] > 0) sum += count[i] * log(count[i] / total * made / (mass / filled));
    }
    return sum / total;
}

int32_t dt_entropy_bins(int32_t n, const double *count, int32_t levels) {
    double total = 0, within = 0, least = DBL_MAX;
    while (n > levels && count[n - 1] == 0) n--;
    int32_t best = n;
    for (int32_t i = 0; i < n; i++) total += count[i];
    for (int32_t i = 0; i < levels && i < n; i++) within += count[i];
    for (int32_t kept = levels; kept <= n; kept++) {
        if (kept > levels) within += count[kept - 1];
        if (within == 0) continue;
        const double d = divergence(kept, count, total - within, levels, total);
        if (d <= least) least = d, best = kept;
    }
    return best;
}

static double entropy_limit(const dt_histogram *h) {
    double count[DT_RANGE_BINS];
    for (int i = 0; i < DT_RANGE_BINS; i++) count[i] = (double)(h->negative[i] + h->positive[i]);
    /* 256 numbers stand for both signs together. */
    const int32_t levels = h->low < 0 && h->high > 0 ? 128 : 256;
    return h->limit * dt_entropy_bins(DT_RANGE_BINS, count, levels) / DT_RANGE_BINS;
}

void dt_histogram_range(const dt_histogram *h, dt_range_method method, float *low, float *high) {
    double most_low = h->limit, most_high = h->limit;
    if (h->limit > 0 && method == DT_RANGE_PERCENTILE) {
        const int64_t over = h->n / 10000;
        most_low = cut(h->negative, h->limit, over), most_high = cut(h->positive, h->limit, over);
    } else if (h->limit > 0 && method == DT_RANGE_ENTROPY) {
        most_low = most_high = entropy_limit(h);
    }
    *low = (float)fmax(h->low, -most_low);
    *high = (float)fmin(h->high, most_high);
}
