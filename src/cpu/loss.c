/* Softmax cross-entropy with label smoothing, its metrics, and its gradient. */
#include "kernels.h"

#include <math.h>

#include "core/text.h"

/* Softmax, loss and rank of one row; *above gets how many classes stand above the label's. A NaN logit counts
 * as above, so that a broken model is never counted as right. */
static float xent_row(const float *logit, float *prob, int64_t k, int32_t label, float smoothing,
                      int64_t *above) {
    float top = -INFINITY;
    double sum = 0, total = 0;
    for (int64_t i = 0; i < k; i++) {
        top = logit[i] > top || logit[i] != logit[i] ? logit[i] : top;
        total += (double)logit[i];
    }
    for (int64_t i = 0; i < k; i++) {
        prob[i] = expf(logit[i] - top);
        sum += (double)prob[i];
    }
    float inv = (float)(1 / sum);
    for (int64_t i = 0; i < k; i++) prob[i] *= inv;
    *above = 0;
    if (label < 0) return 0;
    float mine = logit[label];
    int64_t n = 0;
    for (int64_t i = 0; i < label; i++) n += !(logit[i] < mine);
    for (int64_t i = label + 1; i < k; i++) n += !(logit[i] <= mine);
    *above = n;
    double log_sum = (double)top + log(sum); /* -log p_i = log_sum - logit_i */
    double smooth = (double)smoothing;
    double loss = (1 - smooth) * (log_sum - (double)mine);
    if (smoothing > 0) loss += smooth * (log_sum - total / (double)k);
    return (float)loss;
}

dt_status dt_cpu_xent(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *logit = d->b.in[0];
    const int32_t *label = d->b.in[1];
    float *metrics = d->b.in[2], *loss = d->b.out[0], *prob = d->b.out[1];
    int64_t k = d->c, top1 = 0, top5 = 0, samples = 0;
    double sum = 0;
    for (int64_t n = 0; n < d->m; n++)
        if (label[n] >= k)
            return dt_fail(DT_ERR_DATA, "label %d of sample %lld of the batch: the model has only %s",
                           label[n], (long long)n, dt_count_text(k, "class").s);
#pragma omp parallel for schedule(static) num_threads(d->threads)                                                      \
    reduction(+ : top1, top5, samples) if (d->n_elem > DT_CPU_GRAIN / 16)
    for (int64_t n = 0; n < d->m; n++) {
        int64_t above;
        loss[n] = xent_row(logit + n * k, prob + n * k, k, label[n], d->attr.smoothing, &above);
        if (label[n] < 0) continue;
        samples++;
        top1 += above < 1;
        top5 += above < 5;
    }
    for (int64_t n = 0; n < d->m; n++) sum += (double)loss[n];
    metrics[DT_METRIC_LOSS] += (float)sum;
    metrics[DT_METRIC_TOP1] += (float)top1;
    metrics[DT_METRIC_TOP5] += (float)top5;
    metrics[DT_METRIC_SAMPLES] += (float)samples;
    return DT_OK;
}

DT_CPU_SIMD static void xent_grad_row(float *dlogit, const float *prob, int64_t k, int32_t label,
                                      float weight, float smoothing) {
    float even = smoothing / (float)k;
    if (label < 0) weight = 0;
    for (int64_t i = 0; i < k; i++) dlogit[i] = weight == 0 ? 0 : weight * (prob[i] - even);
    if (label >= 0) dlogit[label] -= weight * (1 - smoothing);
}

dt_status dt_cpu_xent_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *prob = d->b.in[0];
    const int32_t *label = d->b.in[1];
    float *dlogit = d->b.out[0], weight = d->b.params->loss_weight * d->b.params->loss_scale;
    int64_t k = d->c;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->m; n++)
        xent_grad_row(dlogit + n * k, prob + n * k, k, label[n] < k ? label[n] : -1, weight,
                      d->attr.smoothing);
    return DT_OK;
}
