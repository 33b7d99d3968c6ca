/* Attention over tiles of keys: no more of the scores is ever in memory than a tile of KEYS x QUERIES a thread.
 *
 * A tile is kept transposed, scores[key][query]. So k is the left operand of the product as it lies in memory, v the
 * right one of the next, only the queries of a block are packed, and the softmax runs along vectors of
 * queries. A block of queries forward, and a chunk of keys of one key head backward, is one thread's. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "conv_simd.h"
#include "core/rng.h"
#include "kernels.h"
#include "kernels_attention.h"

enum {
    QUERIES = 64,     /* of a block: a multiple of every instruction set's panel */
    KEYS = 128,       /* of a tile */
    CHUNK_MIN = 256,  /* keys of a chunk at least, */
    CHUNK_MAX = 4096, /* and at most: their sums stay near the processor */
    CHUNKS = 64       /* pieces of work that are enough for any machine */
};
#define LOWEST (-87.0f) /* e^x of less would be no normal number: it counts as 0 */

/* What a block of queries may see. */
typedef struct block {
    int64_t t0, n;            /* first query, how many there are */
    int64_t begin, end;       /* keys that any of them sees */
    int64_t all_from, all_to; /* keys that all of them see, but for segments */
    int32_t from[QUERIES], to[QUERIES], segment[QUERIES];
    int32_t segment_min, segment_max;
} block;

/* One thread's memory. */
typedef struct scratch {
    float *q_turned, *q_panel;   /* scale q: [panel][D][nr], and backward [panel][n][nr] */
    float *dy_turned, *dy_panel; /* dy likewise */
    float *score, *slope, *keep; /* [KEYS][QUERIES]: weights, their gradients, what dropout leaves */
    float *sum;                  /* [QUERIES][wide]: y or dq */
    float *k_wide, *v_wide;      /* [KEYS][wide] where D is not whole vectors */
    float *top, *total, *factor; /* [QUERIES] */
    float *dk, *dv;              /* backward: [chunk_keys][wide] */
    block seen;
} scratch;

/* D in whole vectors. */
static int64_t wide_of(const dt_attention_dims *a) {
    return dt_round_up(a->d, dt_cpu_simd_get()->lanes);
}

/* Takes n floats from *at; NULL where `at` only counts. */
static float *take(char *base, int64_t *at, int64_t n) {
    char *p = base ? base + *at : NULL;
    *at += dt_round_up(n * (int64_t)sizeof(float), 64);
    return (float *)(void *)p;
}

/* Lays a thread's memory out from base on, which may be NULL; returns its bytes. */
static int64_t scratch_make(const dt_cpu_attention *plan, bool backward, char *base, scratch *s) {
    const dt_attention_dims *a = &plan->dims;
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const int64_t wide = wide_of(a), panels = dt_round_up(wide, simd->nr), tile = KEYS * QUERIES;
    const bool ragged = wide != a->d;
    int64_t at = 0;
    s->q_turned = take(base, &at, QUERIES * a->d);
    s->score = take(base, &at, tile);
    s->sum = take(base, &at, QUERIES * wide);
    s->top = take(base, &at, QUERIES);
    s->total = take(base, &at, QUERIES);
    s->factor = take(base, &at, QUERIES);
    s->keep = a->p > 0 ? take(base, &at, tile) : NULL;
    s->k_wide = ragged && backward ? take(base, &at, KEYS * wide) : NULL;
    s->v_wide = ragged && !backward ? take(base, &at, KEYS * wide) : NULL;
    if (backward) {
        s->q_panel = take(base, &at, QUERIES * panels);
        s->dy_turned = take(base, &at, QUERIES * a->d);
        s->dy_panel = take(base, &at, QUERIES * panels);
        s->slope = take(base, &at, tile);
        s->dk = take(base, &at, plan->chunk_keys * wide);
        s->dv = take(base, &at, plan->chunk_keys * wide);
    }
    return at;
}

dt_status dt_cpu_attention_plan(const dt_graph *g, const dt_node *n, int32_t threads, dt_cpu_attention *out) {
    const bool backward = n->op == DT_OP_ATTENTION_BWD;
    dt_cpu_attention p = {.dims = dt_op_attention_dims(g, n), .threads = threads};
    const dt_attention_dims *a = &p.dims;
    const double chunks = CHUNKS + (double)a->s / CHUNK_MAX; /* at most */
    if (a->t > INT32_MAX / 2 || a->s > INT32_MAX / 2 ||
        chunks * (double)a->b * (double)a->t * (double)a->heads * (double)a->d > 1e17)
        return dt_fail(DT_ERR_UNSUPPORTED, "attention of %lld x %lld queries and %lld keys is too large",
                       (long long)a->b, (long long)a->t, (long long)a->s);
    const int64_t heads = a->b * a->kv_heads, most = dt_ceil_div(a->s, CHUNK_MIN);
    const int64_t wanted = dt_max_i64(dt_ceil_div(CHUNKS, heads), dt_ceil_div(a->s, CHUNK_MAX));
    p.chunk_keys = dt_round_up(dt_ceil_div(a->s, dt_min_i64(wanted, most)), KEYS);
    p.n_chunk = dt_ceil_div(a->s, p.chunk_keys);
    scratch s;
    p.one = dt_cpu_attention_is_one(g, n, a);
    p.thread_bytes = p.one ? dt_cpu_attention_one_bytes(a) : scratch_make(&p, backward, NULL, &s);
    p.shared_bytes = backward && p.n_chunk > 1
                         ? dt_round_up(p.n_chunk * a->b * a->t * a->heads * a->d * (int64_t)sizeof(float), 64)
                         : 0;
    p.workspace_bytes = p.shared_bytes + threads * p.thread_bytes;
    *out = p;
    return DT_OK;
}

/* ---- packing ---- */

typedef float four __attribute__((vector_size(16)));
typedef int32_t four_i __attribute__((vector_size(16)));

/* out[j * out_row + i] = x[i * x_row + j] * scale of 4 x 4. */
DT_CPU_INLINE void turn_4x4(float *out, int64_t out_row, const float *x, int64_t x_row, float scale) {
    four r[4];
    for (int i = 0; i < 4; i++) {
        memcpy(&r[i], x + i * x_row, sizeof r[i]);
        r[i] *= scale;
    }
    const four_i low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, begin = {0, 1, 4, 5}, end = {2, 3, 6, 7};
    const four a = __builtin_shuffle(r[0], r[1], low), b = __builtin_shuffle(r[2], r[3], low);
    const four c = __builtin_shuffle(r[0], r[1], high), d = __builtin_shuffle(r[2], r[3], high);
    const four t[4] = {__builtin_shuffle(a, b, begin), __builtin_shuffle(a, b, end),
                       __builtin_shuffle(c, d, begin), __builtin_shuffle(c, d, end)};
    for (int i = 0; i < 4; i++) memcpy(out + i * out_row, &t[i], sizeof t[i]);
}

/* n rows of x times scale as panels of nr rows, turned: out[panel][d][nr]; rows past n are 0. */
DT_CPU_SIMD static void pack_turned(float *out, int64_t nr, const float *x, int64_t x_row, int64_t n,
                                    int64_t d, float scale) {
    for (int64_t i0 = 0; i0 < n; i0 += nr, out += nr * d)
        for (int64_t i = 0; i < nr; i += 4) {
            const float *row = x + (i0 + i) * x_row;
            const int64_t left = n - i0 - i;
            int64_t j = 0;
            if (left >= 4)
                for (; j + 4 <= d; j += 4) turn_4x4(out + j * nr + i, nr, row + j, x_row, scale);
            for (; j < d; j++)
                for (int64_t e = 0; e < 4; e++)
                    out[j * nr + i + e] = e < left ? row[e * x_row + j] * scale : 0.0f;
        }
}

/* The same as panels of nr columns: out[panel][n][nr]; columns past d are 0. */
DT_CPU_SIMD static void pack_panels(float *out, int64_t nr, const float *x, int64_t x_row, int64_t n,
                                    int64_t d, float scale) {
    for (int64_t j0 = 0; j0 < d; j0 += nr) {
        const int64_t cols = dt_min_i64(nr, d - j0);
        for (int64_t i = 0; i < n; i++, out += nr) {
            for (int64_t j = 0; j < cols; j++) out[j] = x[i * x_row + j0 + j] * scale;
            for (int64_t j = cols; j < nr; j++) out[j] = 0;
        }
    }
}

/* n rows of d floats, those between d and `wide` 0. */
static const float *widened(float *out, int64_t wide, const float *x, int64_t x_row, int64_t n, int64_t d) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(out + i * wide, x + i * x_row, (size_t)d * sizeof *out);
        memset(out + i * wide + d, 0, (size_t)(wide - d) * sizeof *out);
    }
    return out;
}

/* ---- who sees whom ---- */

static int64_t clamped(const int32_t *lengths, int64_t row, int64_t most) {
    return lengths ? dt_max_i64(0, dt_min_i64(lengths[row], most)) : most;
}

/* What the operands say besides the sizes. */
typedef struct masks {
    const int32_t *lengths, *q_lengths, *segments; /* NULL: none */
} masks;

static void block_make(const dt_attention_dims *a, const masks *m, int64_t row, int64_t t0, block *k) {
    const int64_t n_q = clamped(m->q_lengths, row, a->t), n_k = clamped(m->lengths, row, a->s);
    k->t0 = t0;
    k->n = dt_max_i64(0, dt_min_i64(QUERIES, n_q - t0));
    k->begin = k->all_to = a->s;
    k->end = k->all_from = 0;
    for (int64_t i = 0; i < k->n; i++) {
        const dt_attention_span s = dt_attention_sees(a, t0 + i, n_q, n_k);
        k->from[i] = (int32_t)s.begin, k->to[i] = (int32_t)s.end;
        k->all_from = dt_max_i64(k->all_from, s.begin), k->all_to = dt_min_i64(k->all_to, s.end);
        if (s.end == s.begin) continue;
        k->begin = dt_min_i64(k->begin, s.begin), k->end = dt_max_i64(k->end, s.end);
    }
    for (int64_t i = k->n; i < QUERIES; i++) k->from[i] = k->to[i] = k->segment[i] = 0;
    if (!m->segments) return;
    const int32_t *segment = m->segments + row * a->s + t0;
    memcpy(k->segment, segment, (size_t)k->n * sizeof *segment);
    k->segment_min = k->segment_max = segment[0];
    for (int64_t i = 1; i < k->n; i++) {
        k->segment_min = segment[i] < k->segment_min ? segment[i] : k->segment_min;
        k->segment_max = segment[i] > k->segment_max ? segment[i] : k->segment_max;
    }
}

typedef enum tile_kind { TILE_SKIPPED, TILE_MASKED, TILE_SEEN } tile_kind;

/* segments: of the row's keys, or NULL. */
static tile_kind tile_look(const block *k, const int32_t *segments, int64_t s0, int64_t n) {
    const bool spans = s0 >= k->all_from && s0 + n <= k->all_to;
    if (!segments) return spans ? TILE_SEEN : TILE_MASKED;
    int32_t lowest = segments[s0], highest = segments[s0];
    for (int64_t s = s0 + 1; s < s0 + n; s++) {
        lowest = segments[s] < lowest ? segments[s] : lowest;
        highest = segments[s] > highest ? segments[s] : highest;
    }
    if (lowest > k->segment_max || highest < k->segment_min) return TILE_SKIPPED;
    const bool one = lowest == highest && k->segment_min == k->segment_max;
    return spans && one ? TILE_SEEN : TILE_MASKED;
}

/* Scores of the unseen become -infinity. */
DT_CPU_SIMD static void mask_tile(float *restrict score, const block *k, const int32_t *segments, int64_t s0,
                                  int64_t n) {
    for (int64_t s = 0; s < n; s++, score += QUERIES) {
        const int32_t at = (int32_t)(s0 + s), segment = segments ? segments[at] : 0;
        if (segments) {
#pragma omp simd
            for (int i = 0; i < QUERIES; i++)
                score[i] =
                    at >= k->from[i] && at < k->to[i] && segment == k->segment[i] ? score[i] : -INFINITY;
        } else {
#pragma omp simd
            for (int i = 0; i < QUERIES; i++)
                score[i] = at >= k->from[i] && at < k->to[i] ? score[i] : -INFINITY;
        }
    }
}

/* ---- the tile's arithmetic ---- */

/* exp(x) of x <= 0, and 0 of what is too small. */
DT_CPU_INLINE float weight_of(float x) {
    const float e = dt_expf(x > LOWEST ? x : LOWEST);
    return x > LOWEST ? e : 0.0f;
}

/* Scores become weights against the largest score so far; `total` their sum, `factor` what earlier sums are
 * worth now. */
DT_CPU_SIMD static void soften(float *restrict score, int64_t n, float *restrict top, float *restrict total,
                               float *restrict factor) {
    float most[QUERIES], sum[QUERIES];
    for (int i = 0; i < QUERIES; i++) most[i] = top[i];
    for (int64_t s = 0; s < n; s++)
#pragma omp simd
        for (int i = 0; i < QUERIES; i++) {
            const float x = score[s * QUERIES + i];
            most[i] = x > most[i] ? x : most[i];
        }
#pragma omp simd
    for (int i = 0; i < QUERIES; i++) {
        factor[i] = most[i] > top[i] ? weight_of(top[i] - most[i]) : 1.0f;
        top[i] = most[i];
        most[i] = most[i] == -INFINITY ? 0.0f : most[i]; /* nobody seen yet */
        sum[i] = 0;
    }
    for (int64_t s = 0; s < n; s++)
#pragma omp simd
        for (int i = 0; i < QUERIES; i++) {
            const float w = weight_of(score[s * QUERIES + i] - most[i]);
            score[s * QUERIES + i] = w;
            sum[i] += w;
        }
#pragma omp simd
    for (int i = 0; i < QUERIES; i++) total[i] = total[i] * factor[i] + sum[i];
}

DT_CPU_SIMD static void scale_rows(float *x, int64_t n, int64_t cols, const float *factor) {
    for (int64_t i = 0; i < n; i++) {
        const float f = factor[i];
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) x[i * cols + j] *= f;
    }
}

/* 0 or 1 / (1 - p) for each weight of the tile; s0 is a multiple of 4. */
DT_CPU_SIMD static void draw_tile(const dt_attention_dims *a, const dt_step_params *step, int64_t row,
                                  int64_t head, const block *k, int64_t s0, int64_t n, float *restrict keep) {
    const uint64_t key = dt_rng_key(step->seed, DT_RNG_DROPOUT, a->salt), hi = step->step << 24 | step->micro;
    const float p = a->p, kept = 1.0f / (1.0f - p);
    const uint64_t next = (uint64_t)(a->s + 3) / 4;
    for (int64_t s = 0; s < n; s += 4) {
        const uint64_t first = dt_attention_draw(a, row, head, k->t0, s0 + s);
#pragma omp simd
        for (int i = 0; i < QUERIES; i++) {
            const dt_u32x4 r = dt_philox(key, hi, first + (uint64_t)i * next);
            for (int e = 0; e < 4; e++) keep[(s + e) * QUERIES + i] = dt_u01(r.v[e]) >= p ? kept : 0.0f;
        }
    }
}

DT_CPU_SIMD static void multiply(float *restrict x, const float *restrict by, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= by[i];
}

/* Scores become weights, slopes (dy v^T) the gradients of the scores. lse: +infinity where nobody is seen. */
DT_CPU_SIMD static void differ(float *restrict score, float *restrict slope, const float *restrict keep,
                               int64_t n, const float *restrict lse, const float *restrict delta) {
    for (int64_t s = 0; s < n; s++, score += QUERIES, slope += QUERIES) {
        if (!keep) {
#pragma omp simd
            for (int i = 0; i < QUERIES; i++) {
                const float w = weight_of(score[i] - lse[i]);
                score[i] = w;
                slope[i] = w * (slope[i] - delta[i]);
            }
            continue;
        }
#pragma omp simd
        for (int i = 0; i < QUERIES; i++) {
            const float w = weight_of(score[i] - lse[i]);
            score[i] = w * keep[i];
            slope[i] = w * (slope[i] * keep[i] - delta[i]);
        }
        keep += QUERIES;
    }
}

DT_CPU_SIMD static float dot(const float *x, const float *y, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

DT_CPU_SIMD static void scaled(float *out, const float *x, int64_t n, float by) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = x[i] * by;
}

/* ---- forward ---- */

typedef struct forward {
    const dt_cpu_attention *plan;
    void *workspace;
    const float *q, *k, *v;
    float *y, *lse;
    masks masks;
    const dt_step_params *step;
} forward;

static void forward_block(const forward *f, int64_t row, int64_t head, int64_t t0, scratch *s) {
    const dt_attention_dims *a = &f->plan->dims;
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const int64_t kv = head / (a->heads / a->kv_heads), wide = wide_of(a);
    const float *q = f->q + (row * a->t + t0) * a->q_row + head * a->d;
    const float *k = f->k + row * a->s * a->kv_row + a->k_at + kv * a->d;
    const float *v = f->v + row * a->s * a->kv_row + a->v_at + kv * a->d;
    const int32_t *segments = f->masks.segments ? f->masks.segments + row * a->s : NULL;
    block *see = &s->seen;
    block_make(a, &f->masks, row, t0, see);
    pack_turned(s->q_turned, simd->nr, q, a->q_row, see->n, a->d, a->scale);
    for (int i = 0; i < QUERIES; i++) s->top[i] = -INFINITY, s->total[i] = 0;
    bool any = false;
    for (int64_t s0 = see->begin / 4 * 4; s0 < see->end; s0 += KEYS) {
        const int64_t n = dt_min_i64(KEYS, see->end - s0);
        const tile_kind kind = tile_look(see, segments, s0, n);
        if (kind == TILE_SKIPPED) continue;
        simd->gemm_nn(n, dt_round_up(see->n, simd->lanes), a->d, k + s0 * a->kv_row, a->kv_row, s->q_turned,
                      NULL, 0, s->score, QUERIES, false);
        if (kind == TILE_MASKED) mask_tile(s->score, see, segments, s0, n);
        soften(s->score, n, s->top, s->total, s->factor);
        if (any) scale_rows(s->sum, see->n, wide, s->factor);
        if (s->keep) {
            draw_tile(a, f->step, row, head, see, s0, n, s->keep);
            multiply(s->score, s->keep, n * QUERIES);
        }
        const float *from = v + s0 * a->kv_row;
        if (s->v_wide) from = widened(s->v_wide, wide, from, a->kv_row, n, a->d);
        simd->gemm_tn(see->n, wide, n, s->score, QUERIES, from, s->v_wide ? wide : a->kv_row,
                      any ? s->sum : NULL, wide, s->sum, wide);
        any = true;
    }
    float *y = f->y + (row * a->t + t0) * a->heads * a->d + head * a->d;
    float *lse = f->lse + (row * a->heads + head) * a->t + t0;
    for (int64_t i = 0; i < dt_min_i64(QUERIES, a->t - t0); i++, y += a->heads * a->d) {
        const float total = i < see->n ? s->total[i] : 0;
        lse[i] = total > 0 ? s->top[i] + dt_logf(total) : -INFINITY;
        if (total > 0)
            scaled(y, s->sum + i * wide, a->d, 1.0f / total);
        else
            memset(y, 0, (size_t)a->d * sizeof *y);
    }
}

/* A block of queries of a head of a row. */
static void forward_item(const void *arg, int64_t item, int32_t worker) {
    const forward *f = arg;
    const dt_attention_dims *a = &f->plan->dims;
    const int64_t blocks = dt_ceil_div(a->t, QUERIES);
    scratch s;
    scratch_make(f->plan, false, (char *)f->workspace + worker * f->plan->thread_bytes, &s);
    forward_block(f, item / blocks / a->heads, item / blocks % a->heads, item % blocks * QUERIES, &s);
}

void dt_cpu_attention_run(const dt_cpu_attention *plan, const dt_binding *b) {
    const dt_attention_dims *a = &plan->dims;
    if (plan->one) {
        dt_cpu_attention_one_run(plan, b);
        return;
    }
    const forward f = {.plan = plan,
                       .workspace = b->workspace,
                       .q = b->in[DT_ATTENTION_IN_Q],
                       .k = b->in[a->packed ? DT_ATTENTION_IN_Q : DT_ATTENTION_IN_K],
                       .v = b->in[a->packed ? DT_ATTENTION_IN_Q : DT_ATTENTION_IN_V],
                       .y = b->out[DT_ATTENTION_OUT_Y],
                       .lse = b->out[DT_ATTENTION_OUT_LSE],
                       .masks = {b->in[DT_ATTENTION_IN_LENGTHS], b->in[DT_ATTENTION_IN_Q_LENGTHS],
                                 b->in[DT_ATTENTION_IN_SEGMENTS]},
                       .step = b->params};
    const dt_cpu_stage stage = {a->b * a->heads * dt_ceil_div(a->t, QUERIES), forward_item, false};
    dt_cpu_share((dt_cpu_crew){plan->threads, plan->team}, &stage, 1, &f);
}

/* ---- backward ---- */

typedef struct backward {
    const dt_cpu_attention *plan;
    const float *dy, *q, *k, *v, *y, *lse;
    float *dq, *dk, *dv;
    float *part; /* dq by chunk of keys, [chunk][B,T,heads D]; NULL: there is one */
    masks masks;
    const dt_step_params *step;
} backward;

/* One block of queries and the chunk of keys [c0, c1): adds to dk and dv, leaves scale dq in s->sum; whether
 * there was any. */
static bool backward_block(const backward *f, int64_t row, int64_t head, int64_t t0, int64_t c0, int64_t c1,
                           scratch *s) {
    const dt_attention_dims *a = &f->plan->dims;
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const int64_t kv = head / (a->heads / a->kv_heads), wide = wide_of(a), y_row = a->heads * a->d;
    const int64_t nr = simd->nr;
    const float *q = f->q + (row * a->t + t0) * a->q_row + head * a->d;
    const float *k = f->k + row * a->s * a->kv_row + a->k_at + kv * a->d;
    const float *v = f->v + row * a->s * a->kv_row + a->v_at + kv * a->d;
    const float *dy = f->dy + (row * a->t + t0) * y_row + head * a->d;
    const float *y = f->y + (row * a->t + t0) * y_row + head * a->d;
    const float *lse = f->lse + (row * a->heads + head) * a->t + t0;
    const int32_t *segments = f->masks.segments ? f->masks.segments + row * a->s : NULL;
    block *see = &s->seen;
    block_make(a, &f->masks, row, t0, see);
    const int64_t begin = dt_max_i64(see->begin / 4 * 4, c0), end = dt_min_i64(see->end, c1);
    if (begin >= end) return false;
    pack_turned(s->q_turned, nr, q, a->q_row, see->n, a->d, a->scale);
    pack_turned(s->dy_turned, nr, dy, y_row, see->n, a->d, 1);
    pack_panels(s->q_panel, nr, q, a->q_row, see->n, a->d, a->scale);
    pack_panels(s->dy_panel, nr, dy, y_row, see->n, a->d, 1);
    for (int64_t i = 0; i < QUERIES; i++) {
        const bool seen = i < see->n && lse[i] > -INFINITY;
        s->top[i] = seen ? lse[i] : INFINITY;
        s->factor[i] = seen ? dot(dy + i * y_row, y + i * y_row, a->d) : 0;
    }
    bool any = false;
    for (int64_t s0 = begin; s0 < end; s0 += KEYS) {
        const int64_t n = dt_min_i64(KEYS, end - s0), cols = dt_round_up(see->n, simd->lanes);
        const tile_kind kind = tile_look(see, segments, s0, n);
        if (kind == TILE_SKIPPED) continue;
        const float *k_tile = k + s0 * a->kv_row;
        float *dk = s->dk + (s0 - c0) * wide, *dv = s->dv + (s0 - c0) * wide;
        simd->gemm_nn(n, cols, a->d, k_tile, a->kv_row, s->q_turned, NULL, 0, s->score, QUERIES, false);
        simd->gemm_nn(n, cols, a->d, v + s0 * a->kv_row, a->kv_row, s->dy_turned, NULL, 0, s->slope, QUERIES,
                      false);
        if (kind == TILE_MASKED) mask_tile(s->score, see, segments, s0, n);
        if (s->keep) draw_tile(a, f->step, row, head, see, s0, n, s->keep);
        differ(s->score, s->slope, s->keep, n, s->top, s->factor);
        simd->gemm_nn(n, wide, see->n, s->score, QUERIES, s->dy_panel, dv, wide, dv, wide, false);
        simd->gemm_nn(n, wide, see->n, s->slope, QUERIES, s->q_panel, dk, wide, dk, wide, false);
        if (s->k_wide) k_tile = widened(s->k_wide, wide, k_tile, a->kv_row, n, a->d);
        simd->gemm_tn(see->n, wide, n, s->slope, QUERIES, k_tile, s->k_wide ? wide : a->kv_row,
                      any ? s->sum : NULL, wide, s->sum, wide);
        any = true;
    }
    return any;
}

/* dq, dk and dv as far as one chunk of the keys of one key head makes them. */
static void backward_chunk(const backward *f, int64_t row, int64_t kv, int64_t chunk, scratch *s) {
    const dt_attention_dims *a = &f->plan->dims;
    const int64_t c0 = chunk * f->plan->chunk_keys, c1 = dt_min_i64(a->s, c0 + f->plan->chunk_keys);
    const int64_t wide = wide_of(a), shared = a->heads / a->kv_heads;
    const int64_t dq_row = f->part ? a->heads * a->d : a->q_row;
    memset(s->dk, 0, (size_t)((c1 - c0) * wide) * sizeof *s->dk);
    memset(s->dv, 0, (size_t)((c1 - c0) * wide) * sizeof *s->dv);
    for (int64_t head = kv * shared; head < (kv + 1) * shared; head++)
        for (int64_t t0 = 0; t0 < a->t; t0 += QUERIES) {
            const bool any = backward_block(f, row, head, t0, c0, c1, s);
            float *dq = (f->part ? f->part + chunk * a->b * a->t * dq_row : f->dq) +
                        (row * a->t + t0) * dq_row + head * a->d;
            for (int64_t i = 0; i < dt_min_i64(QUERIES, a->t - t0); i++, dq += dq_row) {
                if (any && i < s->seen.n)
                    scaled(dq, s->sum + i * wide, a->d, a->scale);
                else
                    memset(dq, 0, (size_t)a->d * sizeof *dq);
            }
        }
    for (int64_t i = c0; i < c1; i++) {
        const int64_t at = (row * a->s + i) * a->kv_row + kv * a->d;
        memcpy(f->dk + at + a->k_at, s->dk + (i - c0) * wide, (size_t)a->d * sizeof(float));
        memcpy(f->dv + at + a->v_at, s->dv + (i - c0) * wide, (size_t)a->d * sizeof(float));
    }
}

/* Row t of dq from those of the chunks. */
static void add_chunks(const backward *f, int64_t row) {
    const dt_attention_dims *a = &f->plan->dims;
    const int64_t n = a->heads * a->d;
    float *dq = f->dq + row * a->q_row;
    for (int64_t i = 0; i < n; i++) dq[i] = f->part[row * n + i];
    for (int64_t c = 1; c < f->plan->n_chunk; c++)
        for (int64_t i = 0; i < n; i++) dq[i] += f->part[(c * a->b * a->t + row) * n + i];
}

void dt_cpu_attention_bwd_run(const dt_cpu_attention *plan, const dt_binding *b) {
    const dt_attention_dims *a = &plan->dims;
    const bool packed = a->packed;
    const backward f = {.plan = plan,
                        .dy = b->in[DT_ATTENTION_BWD_IN_DY],
                        .q = b->in[DT_ATTENTION_BWD_IN_Q],
                        .k = b->in[packed ? DT_ATTENTION_BWD_IN_Q : DT_ATTENTION_BWD_IN_K],
                        .v = b->in[packed ? DT_ATTENTION_BWD_IN_Q : DT_ATTENTION_BWD_IN_V],
                        .y = b->in[DT_ATTENTION_BWD_IN_Y],
                        .lse = b->in[DT_ATTENTION_BWD_IN_LSE],
                        .dq = b->out[DT_ATTENTION_BWD_OUT_DQ],
                        .dk = b->out[packed ? DT_ATTENTION_BWD_OUT_DQ : DT_ATTENTION_BWD_OUT_DK],
                        .dv = b->out[packed ? DT_ATTENTION_BWD_OUT_DQ : DT_ATTENTION_BWD_OUT_DV],
                        .part = plan->n_chunk > 1 ? b->workspace : NULL,
                        .masks = {b->in[DT_ATTENTION_BWD_IN_LENGTHS], b->in[DT_ATTENTION_BWD_IN_Q_LENGTHS],
                                  b->in[DT_ATTENTION_BWD_IN_SEGMENTS]},
                        .step = b->params};
#pragma omp parallel num_threads(plan->threads)
    {
        scratch s;
        scratch_make(plan, true,
                     (char *)b->workspace + plan->shared_bytes + omp_get_thread_num() * plan->thread_bytes,
                     &s);
#pragma omp for collapse(3) schedule(dynamic)
        for (int64_t row = 0; row < a->b; row++)
            for (int64_t kv = 0; kv < a->kv_heads; kv++)
                for (int64_t chunk = 0; chunk < plan->n_chunk; chunk++)
                    backward_chunk(&f, row, kv, chunk, &s);
        if (f.part) {
#pragma omp for schedule(static)
            for (int64_t row = 0; row < a->b * a->t; row++) add_chunks(&f, row);
        }
    }
}
