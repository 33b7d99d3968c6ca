/* Losses, their sums and their gradients: softmax cross-entropy with label smoothing, and those of
 * core/loss.h. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "core/scalar.h"
#include "core/text.h"

/* Adds a node's sums to the step's: the total, its own among several. Whether it is the loss whose rows
 * count. */
static bool add_loss(const dt_loss_attr *t, float *metrics, double sum, double rows) {
    metrics[DT_METRIC_LOSS] += (float)((double)t->weight * sum);
    if (t->nth > 0) {
        float *own = metrics + DT_METRIC_LOSSES + 2 * (t->nth - 1);
        own[0] += (float)sum;
        own[1] += (float)rows;
    }
    if (t->nth > 1) return false;
    metrics[DT_METRIC_SAMPLES] += (float)rows;
    return true;
}

/* What a row of logits gives besides its probabilities. */
typedef struct xent_sums {
    float top;    /* the largest; NaN if one is */
    double sum;   /* of exp(logit - top) */
    double total; /* of the logits */
    int64_t
        above; /* classes that stand above the label's; a NaN logit does, so that a broken model is never right */
} xent_sums;

/* Of a sample with one row: image classification, whose bits stay. */
static xent_sums sums_of_sample(const float *logit, int64_t k, int32_t label) {
    xent_sums s = {.top = -INFINITY};
    for (int64_t i = 0; i < k; i++) {
        s.top = logit[i] > s.top || logit[i] != logit[i] ? logit[i] : s.top;
        s.total += (double)logit[i];
    }
    for (int64_t i = 0; i < k; i++) s.sum += (double)expf(logit[i] - s.top);
    if (label < 0) return s;
    for (int64_t i = 0; i < label; i++) s.above += !(logit[i] < logit[label]);
    for (int64_t i = label + 1; i < k; i++) s.above += !(logit[i] <= logit[label]);
    return s;
}

enum { PIECE = 512 }; /* of a row: summed in fp32, the pieces in double */

/* Of a long row, one of many: in vectors. */
DT_CPU_SIMD static xent_sums sums_of_row(const float *logit, int64_t k, int32_t label) {
    xent_sums s = {0};
    float top = -INFINITY;
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < k; i++) top = logit[i] > top ? logit[i] : top;
    for (int64_t at = 0; at < k; at += PIECE) {
        const int64_t end = dt_min_i64(at + PIECE, k);
        float sum = 0, total = 0;
#pragma omp simd reduction(+ : sum, total)
        for (int64_t i = at; i < end; i++) {
            sum += dt_expf(logit[i] - top);
            total += logit[i];
        }
        s.sum += (double)sum, s.total += (double)total;
    }
    s.top = isnan(s.total) ? NAN : top;
    if (label < 0) return s;
    const float mine = logit[label];
    int32_t above = 0;
#pragma omp simd reduction(+ : above)
    for (int64_t i = 0; i < label; i++) above += !(logit[i] < mine);
#pragma omp simd reduction(+ : above)
    for (int64_t i = label + 1; i < k; i++) above += !(logit[i] <= mine);
    s.above = above;
    return s;
}

/* -log p of the label, of its partner too, smoothed. */
static float xent_loss(const xent_sums *s, const float *logit, const dt_loss_target *t, float share,
                       int64_t k, float smoothing) {
    const double log_sum = (double)s->top + log(s->sum); /* -log p_i = log_sum - logit_i */
    const double smooth = (double)smoothing;
    double mine = (double)logit[t->label];
    if (t->partner >= 0) mine = (double)share * mine + (1 - (double)share) * (double)logit[t->partner];
    double loss = (1 - smooth) * (log_sum - mine);
    if (smoothing > 0) loss += smooth * (log_sum - s->total / (double)k);
    return (float)loss;
}

/* -1: none. Of a sample with several rows valid stands for all. */
static int32_t label_of(const dt_cpu_node *d, const int32_t *label, const int32_t *valid, int64_t row) {
    return valid && valid[row / (d->m / d->n)] == 0 ? -1 : label[row];
}

/* The mean of the classes' logistic losses. */
static float binary_loss(const float *logit, const dt_loss_target *t, int64_t k) {
    double sum = 0;
    for (int64_t i = 0; i < k; i++)
        sum += (double)dt_loss_value(DT_LOSS_BCE, logit[i], dt_loss_target_at(t, i), 1.0f);
    return (float)(sum / (double)k);
}

/* The target of a row whose label is y >= 0. */
static dt_loss_target target_of(const dt_cpu_node *d, const int32_t *partner, const float *share, int64_t row,
                                int32_t y) {
    const dt_loss_attr *a = &d->attr.loss;
    const int32_t other = partner && partner[row] < d->c ? partner[row] : -1;
    return dt_loss_target_of(y, other, other >= 0 ? share[row] : 1.0f, a->smoothing,
                             a->binary ? a->threshold : 0.0f, d->c);
}

static bool has_one_row(const dt_cpu_node *d) {
    return d->m == d->n;
}

dt_status dt_cpu_xent(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *logit = d->b.in[0];
    const int32_t *label = d->b.in[DT_XENT_IN_LABEL], *valid = d->b.in[DT_XENT_IN_VALID];
    const int32_t *partner = d->b.in[DT_XENT_IN_PARTNER];
    const float *share = d->b.in[DT_XENT_IN_SHARE];
    float *metrics = d->b.in[DT_XENT_IN_METRICS], *loss = d->b.out[DT_XENT_OUT_LOSS],
          *stats = d->b.out[DT_XENT_OUT_STATS];
    int64_t k = d->c, top1 = 0, top5 = 0, samples = 0;
    double sum = 0;
    for (int64_t n = 0; n < d->m; n++)
        if (label_of(d, label, valid, n) >= k || (partner && partner[n] >= k))
            return dt_fail(DT_ERR_DATA, "label %d of %s %lld of the batch: the model has only %s",
                           partner && label[n] < k ? partner[n] : label[n],
                           has_one_row(d) ? "sample" : "place", (long long)n, dt_count_text(k, "class").s);
#pragma omp parallel for schedule(static) num_threads(d->threads)                                                      \
    reduction(+ : top1, top5, samples) if (d->n_elem > DT_CPU_GRAIN / 16)
    for (int64_t n = 0; n < d->m; n++) {
        const int32_t y = label_of(d, label, valid, n);
        const float *row = logit + n * k;
        const xent_sums s = has_one_row(d) ? sums_of_sample(row, k, y) : sums_of_row(row, k, y);
        stats[2 * n] = s.top, stats[2 * n + 1] = (float)(1 / s.sum);
        loss[n] = 0;
        if (y < 0) continue;
        const dt_loss_target t = target_of(d, partner, share, n, y);
        loss[n] = d->attr.loss.binary
                      ? binary_loss(row, &t, k)
                      : xent_loss(&s, row, &t, share ? share[n] : 1, k, d->attr.loss.smoothing);
        samples++;
        top1 += s.above < 1;
        top5 += s.above < 5;
    }
    for (int64_t n = 0; n < d->m; n++) sum += (double)loss[n];
    if (add_loss(&d->attr.loss, metrics, sum, (double)samples)) {
        metrics[DT_METRIC_TOP1] += (float)top1;
        metrics[DT_METRIC_TOP5] += (float)top5;
    }
    return DT_OK;
}

/* The gradient of a row's loss. */
static float seed_of(const dt_cpu_node *d) {
    return d->attr.loss.weight * d->b.params->loss_weight * d->b.params->loss_scale;
}

/* The gradient of a row, which may lie where the logits do; label below 0: none. */
static void grad_of_sample(float *dlogit, const float *logit, const float *stats, int64_t k,
                           const dt_loss_target *t, float weight) {
    if (t->label < 0) weight = 0;
    for (int64_t i = 0; i < k; i++)
        dlogit[i] = weight == 0 ? 0 : weight * (expf(logit[i] - stats[0]) * stats[1] - t->even);
    if (t->label >= 0) dlogit[t->label] -= weight * t->own;
    if (t->partner >= 0) dlogit[t->partner] -= weight * t->other;
}

static void grad_of_binary(float *dlogit, const float *logit, const float *stats, int64_t k,
                           const dt_loss_target *t, float weight) {
    (void)stats;
    weight = t->label < 0 ? 0 : weight / (float)k;
    for (int64_t i = 0; i < k; i++)
        dlogit[i] =
            weight == 0 ? 0 : weight * dt_loss_slope(DT_LOSS_BCE, logit[i], dt_loss_target_at(t, i), 1.0f);
}

DT_CPU_SIMD static void grad_of_row(float *dlogit, const float *logit, const float *stats, int64_t k,
                                    const dt_loss_target *t, float weight) {
    const float even = t->even, top = stats[0], inv = stats[1];
    if (t->label < 0 || weight == 0) {
        memset(dlogit, 0, (size_t)k * sizeof *dlogit);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < k; i++) dlogit[i] = weight * (dt_expf(logit[i] - top) * inv - even);
    dlogit[t->label] -= weight * t->own;
    if (t->partner >= 0) dlogit[t->partner] -= weight * t->other;
}

dt_status dt_cpu_xent_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *logit = d->b.in[DT_XENT_BWD_IN_LOGITS], *stats = d->b.in[DT_XENT_BWD_IN_STATS];
    const int32_t *label = d->b.in[DT_XENT_BWD_IN_LABEL], *valid = d->b.in[DT_XENT_BWD_IN_VALID],
                  *partner = d->b.in[DT_XENT_BWD_IN_PARTNER];
    const float *share = d->b.in[DT_XENT_BWD_IN_SHARE];
    void (*const grad)(float *, const float *, const float *, int64_t, const dt_loss_target *, float) =
        d->attr.loss.binary ? grad_of_binary
        : has_one_row(d)    ? grad_of_sample
                            : grad_of_row;
    float *dlogit = d->b.out[0], weight = seed_of(d) / (float)(d->m / d->n);
    int64_t k = d->c;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->m; n++) {
        const int32_t own = label_of(d, label, valid, n), y = own < k ? own : -1;
        const dt_loss_target t = target_of(d, partner, share, n, y);
        grad(dlogit + n * k, logit + n * k, stats + 2 * n, k, &t, weight);
    }
    return DT_OK;
}

/* Sums of a stretch of rows: their losses, how many count, the task's. */
typedef struct row_sums {
    double loss, rows, task[DT_LOSS_SUMS_MAX];
} row_sums;

static void add_rows(const dt_cpu_node *d, int64_t row0, int64_t rows, row_sums *out) {
    const float *x = d->b.in[DT_LOSS_IN_X], *target = d->b.in[DT_LOSS_IN_TARGET];
    const int32_t *valid = d->b.in[DT_LOSS_IN_VALID];
    const dt_loss_attr *t = &d->attr.loss;
    const int64_t n = d->n_elem / d->n;
    float *loss = d->b.out[0];
    for (int64_t r = row0; r < row0 + rows; r++) {
        dt_loss_real task[DT_LOSS_SUMS_MAX] = {0};
        double sum = 0;
        loss[r] = 0;
        if (valid && valid[r] == 0) continue;
        for (int64_t i = r * n; i < (r + 1) * n; i++) {
            const float y = target ? target[i] : 0;
            sum += (double)dt_loss_value((int32_t)t->kind, x[i], y, t->param);
            dt_loss_add_sums((int32_t)t->sums, x[i], y, task);
        }
        dt_loss_end_sums((int32_t)t->sums, n, task);
        loss[r] = (float)(sum / (double)n);
        out->loss += sum / (double)n;
        out->rows++;
        for (int i = 0; i < DT_LOSS_SUMS_MAX; i++) out->task[i] += task[i];
    }
}

dt_status dt_cpu_loss(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    float *metrics = d->b.in[DT_LOSS_IN_METRICS];
    row_sums part[DT_CPU_MAX_CHUNKS] = {{0}}, all = {0};
    const int64_t chunk = dt_ceil_div(d->n, DT_CPU_MAX_CHUNKS), n_chunk = dt_ceil_div(d->n, chunk);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t c = 0; c < n_chunk; c++)
        add_rows(d, c * chunk, dt_min_i64(chunk, d->n - c * chunk), &part[c]);
    for (int64_t c = 0; c < n_chunk; c++) {
        all.loss += part[c].loss;
        all.rows += part[c].rows;
        for (int i = 0; i < DT_LOSS_SUMS_MAX; i++) all.task[i] += part[c].task[i];
    }
    if (add_loss(&d->attr.loss, metrics, all.loss, all.rows) && d->attr.loss.sums != DT_LOSS_SUMS_NONE)
        for (int i = 0; i < DT_LOSS_SUMS_MAX; i++) metrics[DT_METRIC_TASK + i] += (float)all.task[i];
    return DT_OK;
}

dt_status dt_cpu_loss_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *x = d->b.in[DT_LOSS_IN_X], *target = d->b.in[DT_LOSS_IN_TARGET];
    const int32_t *valid = d->b.in[DT_LOSS_IN_VALID];
    const dt_loss_attr *t = &d->attr.loss;
    const int64_t n = d->n_elem / d->n;
    const float seed = seed_of(d) / (float)n;
    float *dx = d->b.out[0];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t r = 0; r < d->n; r++)
        for (int64_t i = r * n; i < (r + 1) * n; i++)
            dx[i] = valid && valid[r] == 0
                        ? 0
                        : seed * dt_loss_slope((int32_t)t->kind, x[i], target ? target[i] : 0, t->param);
    return DT_OK;
}
