/* Attention of one query of each row, in evaluation: a step of a text over the keys and values that it has so far. A
 * head of a row is one piece of work, and reads each key and each value once. */
#include <math.h>
#include <string.h>

#include "core/scalar.h"
#include "kernels.h"
#include "kernels_attention.h"

enum { TILE = 4096 };   /* keys whose weights are kept at once */
#define LOWEST (-87.0f) /* e^x of less counts as 0 */

bool dt_cpu_attention_is_one(const dt_graph *g, const dt_node *n, const dt_attention_dims *a) {
    return n->op == DT_OP_ATTENTION && !g->training && a->t == 1 && !(a->p > 0) &&
           !dt_node_has(n, DT_ATTENTION_IN_SEGMENTS);
}

int64_t dt_cpu_attention_one_bytes(const dt_attention_dims *a) {
    return dt_round_up((dt_min_i64(a->s, TILE) + 2 * a->d) * (int64_t)sizeof(float), 64);
}

/* score[i] = q . k[i] of n keys; their largest. */
DT_CPU_SIMD static float look(float *restrict score, const float *restrict q, const float *restrict k,
                              int64_t k_row, int64_t n, int64_t d) {
    float most = -INFINITY;
    for (int64_t i = 0; i < n; i++, k += k_row) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < d; j++) sum += q[j] * k[j];
        score[i] = sum;
        most = sum > most ? sum : most;
    }
    return most;
}

/* Scores become weights against `most`; their sum. */
DT_CPU_SIMD static float soften(float *restrict score, int64_t n, float most) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        const float x = score[i] - most, w = dt_expf(x > LOWEST ? x : LOWEST);
        score[i] = x > LOWEST ? w : 0.0f;
        sum += score[i];
    }
    return sum;
}

/* y = y factor + weight v, four values at a time. */
DT_CPU_SIMD static void gather(float *restrict y, float factor, const float *restrict weight,
                               const float *restrict v, int64_t v_row, int64_t n, int64_t d) {
    int64_t i = 0;
#pragma omp simd
    for (int64_t j = 0; j < d; j++) y[j] *= factor;
    for (; i + 4 <= n; i += 4, v += 4 * v_row) {
        const float a = weight[i], b = weight[i + 1], c = weight[i + 2], e = weight[i + 3];
#pragma omp simd
        for (int64_t j = 0; j < d; j++)
            y[j] += (a * v[j] + b * v[v_row + j]) + (c * v[2 * v_row + j] + e * v[3 * v_row + j]);
    }
    for (; i < n; i++, v += v_row) {
        const float a = weight[i];
#pragma omp simd
        for (int64_t j = 0; j < d; j++) y[j] += a * v[j];
    }
}

static int64_t clamped(const int32_t *lengths, int64_t row, int64_t most) {
    return lengths ? dt_max_i64(0, dt_min_i64(lengths[row], most)) : most;
}

static void run_head(const dt_cpu_attention *plan, const dt_binding *b, int64_t row, int64_t head,
                     float *room) {
    const dt_attention_dims *a = &plan->dims;
    const int64_t kv = head / (a->heads / a->kv_heads), d = a->d;
    const float *q = (const float *)b->in[DT_ATTENTION_IN_Q] + row * a->q_row + head * d;
    const float *k = (const float *)b->in[a->packed ? DT_ATTENTION_IN_Q : DT_ATTENTION_IN_K] +
                     row * a->s * a->kv_row + a->k_at + kv * d;
    const float *v = (const float *)b->in[a->packed ? DT_ATTENTION_IN_Q : DT_ATTENTION_IN_V] +
                     row * a->s * a->kv_row + a->v_at + kv * d;
    float *scaled = room, *sum = room + d, *score = room + 2 * d, top = -INFINITY, total = 0;
    const dt_attention_span see = dt_attention_sees(a, 0, clamped(b->in[DT_ATTENTION_IN_Q_LENGTHS], row, 1),
                                                    clamped(b->in[DT_ATTENTION_IN_LENGTHS], row, a->s));
    for (int64_t j = 0; j < d; j++) scaled[j] = q[j] * a->scale, sum[j] = 0;
    for (int64_t s0 = see.begin; s0 < see.end; s0 += TILE) {
        const int64_t n = dt_min_i64(TILE, see.end - s0);
        const float most = look(score, scaled, k + s0 * a->kv_row, a->kv_row, n, d);
        const float next = most > top ? most : top, factor = top > -INFINITY ? dt_expf(top - next) : 0.0f;
        top = next;
        total = total * factor + soften(score, n, top);
        gather(sum, factor, score, v + s0 * a->kv_row, a->kv_row, n, d);
    }
    float *y = (float *)b->out[DT_ATTENTION_OUT_Y] + (row * a->heads + head) * d;
    for (int64_t j = 0; j < d; j++) y[j] = total > 0 ? sum[j] / total : 0.0f;
    ((float *)b->out[DT_ATTENTION_OUT_LSE])[row * a->heads + head] =
        total > 0 ? top + dt_logf(total) : -INFINITY;
}

typedef struct work {
    const dt_cpu_attention *plan;
    const dt_binding *b;
} work;

static void head_item(const void *arg, int64_t item, int32_t worker) {
    const work *k = arg;
    const int64_t heads = k->plan->dims.heads;
    char *room = (char *)k->b->workspace + worker * k->plan->thread_bytes;
    run_head(k->plan, k->b, item / heads, item % heads, (float *)(void *)room);
}

void dt_cpu_attention_one_run(const dt_cpu_attention *plan, const dt_binding *b) {
    const dt_attention_dims *a = &plan->dims;
    const work k = {plan, b};
    const dt_cpu_stage stage = {a->b * a->heads, head_item, false};
    const bool worth = stage.n * a->s * a->d > DT_CPU_GRAIN;
    dt_cpu_share((dt_cpu_crew){worth ? plan->threads : 1, plan->team}, &stage, 1, &k);
}
