#include "train/ranking.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

enum { GATHER_NUMBERS = 1 << 17 };

void dt_ranking_begin(const dt_engine *e, dt_ranking *out) {
    const dt_graph *g = dt_engine_program(e, true)->graph;
    const dt_vid v = dt_graph_output(g, DT_ENGINE_SCORES);
    *out = (dt_ranking){.n_label = v >= 0 ? dt_value_n_elem(&g->value[v]) / g->value[v].dim[0] : 0};
}

void dt_ranking_free(dt_ranking *r) {
    free(r->score);
    free(r->is);
    *r = (dt_ranking){.n_label = 0};
}

static dt_status reserve(dt_ranking *r, int64_t rows) {
    if (rows <= r->cap_row) return DT_OK;
    const int64_t cap = dt_max_i64(rows, r->cap_row + r->cap_row / 2);
    float *score = realloc(r->score, (size_t)(cap * r->n_label) * sizeof *score);
    if (score) r->score = score;
    uint8_t *is = score ? realloc(r->is, (size_t)(cap * r->n_label)) : NULL;
    if (is) r->is = is;
    if (!is)
        return dt_fail(DT_ERR_MEMORY,
                       "no memory for %lld scores of %s, of which mean average precision is made",
                       (long long)r->n_label, dt_count_text(cap, "row").s);
    r->cap_row = cap;
    return DT_OK;
}

dt_status dt_ranking_add(dt_ranking *r, dt_engine *e, int64_t rows) {
    const float *v;
    int64_t n;
    const int64_t at = r->n_row * r->n_label, more = rows * r->n_label;
    if (r->n_label == 0) return DT_OK;
    DT_TRY(reserve(r, r->n_row + rows));
    DT_TRY(dt_engine_output(e, DT_ENGINE_SCORES, &n, &v));
    memcpy(r->score + at, v, (size_t)more * sizeof *v);
    DT_TRY(dt_engine_output(e, DT_ENGINE_TARGETS, &n, &v));
    for (int64_t i = 0; i < more; i++) r->is[at + i] = v[i] > 0.5f; /* as core/loss.h counts them */
    r->n_row += rows;
    return DT_OK;
}

static int by_score(const void *a, const void *b) {
    const float x = ((const dt_ranked *)a)->score, y = ((const dt_ranked *)b)->score;
    return (x < y) - (x > y);
}

double dt_average_precision(dt_ranked *v, int64_t n) {
    int64_t all = 0, found = 0;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) all += v[i].is;
    if (all == 0) return 0;
    qsort(v, (size_t)n, sizeof *v, by_score);
    for (int64_t i = 0; i < n && found < all;) {
        const int64_t before = found;
        const float score = v[i].score;
        for (; i < n && v[i].score == score; i++) found += v[i].is;
        sum += (double)(found - before) * (double)found / (double)i;
    }
    return sum / (double)all;
}

/* Where this rank's rows stand among those of all. */
static dt_status place_rows(const dt_ranking *r, dt_comm *mpi, int64_t *first, int64_t *all) {
    *first = 0, *all = r->n_row;
    if (!mpi || mpi->world == 1) return DT_OK;
    double *n = calloc((size_t)mpi->world, sizeof *n);
    dt_status st = dt_comm_agree(mpi, n ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory to count rows"));
    if (st == DT_OK) {
        n[mpi->rank] = (double)r->n_row;
        st = dt_comm_sum_host(mpi, n, mpi->world);
    }
    *all = 0;
    for (int32_t i = 0; st == DT_OK && i < mpi->world; i++) {
        if (i < mpi->rank) *first += (int64_t)n[i];
        *all += (int64_t)n[i];
    }
    free(n);
    return st;
}

/* Labels that are gathered at once: scores [n, all], then whether they hold. */
typedef struct gathered {
    double *number;
    dt_ranked *one; /* [all], of one label */
    int64_t first, all, n;
} gathered;

static dt_status gather(const dt_ranking *r, dt_comm *mpi, int64_t label, gathered *g) {
    double *is = g->number + g->n * g->all;
    memset(g->number, 0, (size_t)(2 * g->n * g->all) * sizeof *g->number);
    for (int64_t i = 0; i < r->n_row; i++)
        for (int64_t k = 0; k < g->n; k++) {
            const int64_t to = k * g->all + g->first + i, from = i * r->n_label + label + k;
            g->number[to] = (double)r->score[from];
            is[to] = r->is[from];
        }
    /* Each row is of one rank, the others add 0. */
    return mpi && mpi->world > 1 ? dt_comm_sum_host(mpi, g->number, (int32_t)(2 * g->n * g->all)) : DT_OK;
}

/* Label k of those gathered; NaN where a score is. */
static double precision_of(dt_ranking *r, gathered *g, int64_t k) {
    const double *score = g->number + k * g->all, *is = score + g->n * g->all;
    bool some = false, number = true;
    for (int64_t i = 0; i < g->all; i++) {
        g->one[i] = (dt_ranked){(float)score[i], is[i] > 0};
        some |= is[i] > 0;
        number &= !isnan(score[i]);
    }
    r->n_bare += !some;
    return number ? dt_average_precision(g->one, g->all) : NAN;
}

dt_status dt_ranking_average(dt_ranking *r, dt_comm *mpi, dt_watchdog *watchdog, double *out) {
    gathered g = {.n = 0};
    double sum = 0;
    *out = NAN;
    r->n_bare = 0;
    if (r->n_label == 0) return DT_OK;
    DT_TRY(place_rows(r, mpi, &g.first, &g.all));
    if (g.all == 0) return DT_OK;
    const int64_t most = dt_min_i64(r->n_label, dt_max_i64(GATHER_NUMBERS / (2 * g.all), 1));
    g.number = malloc((size_t)(2 * most * g.all) * sizeof *g.number);
    g.one = malloc((size_t)g.all * sizeof *g.one);
    dt_status st =
        g.number && g.one && g.all <= INT32_MAX / 2
            ? DT_OK
            : dt_fail(DT_ERR_MEMORY, "no memory to gather the scores of %s", dt_count_text(g.all, "row").s);
    if (mpi && mpi->world > 1) st = dt_comm_agree(mpi, st);
    for (int64_t label = 0; label < r->n_label && st == DT_OK; label += g.n) {
        dt_watchdog_beat(watchdog, 0, "mean average precision");
        g.n = dt_min_i64(most, r->n_label - label);
        st = gather(r, mpi, label, &g);
        for (int64_t k = 0; k < g.n && st == DT_OK; k++) sum += precision_of(r, &g, k);
    }
    free(g.number);
    free(g.one);
    if (st == DT_OK) *out = sum / (double)r->n_label;
    return st;
}
