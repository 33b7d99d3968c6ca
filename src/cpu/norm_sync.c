/* Batch statistics, and the sums of their gradient, of all ranks: a rank's part is weighted and added up in double. */
#include "kernels.h"

int64_t dt_cpu_bn_sync_bytes(const dt_cpu_node *d) {
    return 2 * d->c * (int64_t)sizeof(double);
}

/* Adds up the 2 C numbers that a rank has put into the node's workspace. */
static dt_status sum_ranks(const dt_cpu_node *d) {
    const dt_ranks *r = d->b.ranks;
    return r && r->sum ? r->sum(r->arg, d->b.workspace, 2 * d->c, NULL) : DT_OK;
}

dt_status dt_cpu_bn_sync(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_norm_attr *t = &d->attr.norm;
    const float *stats = d->b.in[0];
    float *all = d->b.out[0];
    double *sum = d->b.workspace;
    const double w = (t->stats_are_sums ? 1.0 : (double)t->rows) / (double)t->rows_all;
    for (int64_t i = 0; i < d->c; i++) {
        const double mean = (double)stats[i], second = (double)stats[d->c + i];
        sum[i] = w * mean;
        sum[d->c + i] = w * (t->stats_are_sums ? second : second + mean * mean);
    }
    DT_TRY(sum_ranks(d));
    for (int64_t i = 0; i < d->c; i++) {
        const double var = sum[d->c + i] - sum[i] * sum[i];
        all[i] = (float)sum[i];
        all[d->c + i] = (float)(var < 0 ? 0 : var); /* NaN stays */
    }
    return DT_OK;
}

dt_status dt_cpu_bn_sync_grad(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *coef = d->b.in[0];
    float *all = d->b.out[0];
    double *sum = d->b.workspace;
    const double w = (double)d->attr.norm.rows / (double)d->attr.norm.rows_all;
    for (int64_t i = 0; i < 2 * d->c; i++) sum[i] = w * (double)coef[d->c + i];
    DT_TRY(sum_ranks(d));
    for (int64_t i = 0; i < d->c; i++) all[i] = coef[i];
    for (int64_t i = 0; i < 2 * d->c; i++) all[d->c + i] = (float)sum[i];
    return DT_OK;
}
