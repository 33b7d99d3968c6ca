/* Recurrences: one product with w_hh a step, whose panels are packed once for all steps, and the cell over its result
 * while that is in cache. A piece of a step is up to ROWS rows of one panel of hidden units with all their gates, so
 * the sums of a number are the same for any number of threads; a thread keeps its panels for all steps. */
#include <omp.h>
#include <string.h>

#include "conv_internal.h"
#include "core/scalar.h"
#include "kernels.h"
#include "kernels_conv.h"

enum {
    ROWS = 64,
    AHEAD =
        4, /* rows whose memory is asked for in advance: a step's rows lie far apart, so no stream is foreseen, and
                   in the same sets of a cache, so no more than a few stay */
    LINE = 16 /* floats */
};

/* Sizes, and where things are in the workspace (floats). */
typedef struct shape {
    int64_t b, t, h, gates, wide;   /* wide: gates h */
    int64_t nr, panels, row_blocks; /* units of a panel */
    int64_t pitch;                  /* between rows of what a product reads */
    int64_t state_at, cell_at, tile_at,
        tile; /* two states, cells, a tile for each thread; packed weights come first */
    int64_t carry_at, dn_at, prev_at, product_at, bias_at, end; /* backward */
} shape;

/* The gradient of w_hh. */
static dt_cpu_product weight_product(const shape *s) {
    return dt_cpu_dense_product(DT_OP_DENSE_WGRAD, s->b * s->t, s->h, s->wide);
}

static shape shape_of(const dt_cpu_node *d) {
    const bool back = d->op == DT_OP_RECURRENT_BWD;
    shape s = {.b = d->n, .t = d->h, .gates = dt_recurrent_gates(d->attr.recurrent.kind)};
    s.h = back ? d->c : d->c / s.gates;
    s.wide = s.gates * s.h;
    s.nr = dt_cpu_simd_get()->nr;
    s.panels = dt_ceil_div(s.h, s.nr);
    s.row_blocks = dt_ceil_div(s.b, ROWS);
    s.pitch = dt_cpu_pitch(back ? s.wide : s.h);
    s.tile = ROWS * s.nr * (back ? 1 : s.gates);
    s.state_at = s.panels * s.nr * s.wide;
    s.cell_at = s.state_at + 2 * s.b * s.pitch;
    s.tile_at = dt_round_up(s.cell_at + s.b * s.h, 16);
    s.carry_at = s.tile_at + d->threads * s.tile;
    s.dn_at = s.carry_at + (back ? s.b * s.h : 0);
    s.prev_at = dt_round_up(s.dn_at + (back && d->attr.recurrent.kind == DT_GRU ? s.b * s.t * s.h : 0), 16);
    s.product_at = dt_round_up(s.prev_at + (back ? s.b * s.t * s.h : 0), 16);
    const dt_cpu_product product = weight_product(&s);
    s.bias_at =
        s.product_at + (back ? dt_cpu_product_bytes(&product, d->threads) / (int64_t)sizeof(float) : 0);
    const bool sums = back && s.b * s.t > 0;
    s.end = s.bias_at + (sums ? dt_cpu_reduce_bytes(s.b * s.t, s.wide, 1) / (int64_t)sizeof(float) + 1 : 0);
    return s;
}

int64_t dt_cpu_recurrent_bytes(const dt_cpu_node *d) {
    return shape_of(d).end * (int64_t)sizeof(float);
}

/* The i-th step in the order of the recurrence. */
static int64_t time_of(const dt_cpu_node *d, int64_t i) {
    return d->attr.recurrent.reverse ? d->h - 1 - i : i;
}

/* Whether row r is at step t behind its end. */
static bool is_past(const int32_t *lengths, int64_t r, int64_t t) {
    return lengths && t >= lengths[r];
}

/* Asks for n numbers of each gate; p NULL: there are none. */
DT_CPU_INLINE void ask(const float *p, int64_t gates, int64_t step, int64_t n) {
    for (int64_t g = 0; p && g < gates; g++)
        for (int64_t j = 0; j < n; j += LINE) __builtin_prefetch(p + g * step + j);
}

/* The same to be written. */
DT_CPU_INLINE void ask_to_write(float *p, int64_t gates, int64_t step, int64_t n) {
    for (int64_t g = 0; p && g < gates; g++)
        for (int64_t j = 0; j < n; j += LINE) __builtin_prefetch(p + g * step + j, 1);
}

/* ---- forward: n units of a row. x, u: what the gates are made of; gates `xg`, `ug`, `ag` floats apart ---- */

typedef struct cell {
    dt_recurrent_kind kind;
    int64_t n, xg, ug, ag;
    const float *x, *u, *h_prev;
    float *act, *cell, *c, *h; /* cell NULL: not kept. c: the state of an LSTM, renewed */
} cell;

DT_CPU_SIMD static void lstm_cell(const cell *a) {
    const int64_t xg = a->xg, ug = a->ug, ag = a->ag, n = a->n;
    const float *x = a->x, *u = a->u;
    float *act = a->act, *c = a->c, *h = a->h;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const float i = dt_sigmoidf(x[j] + u[j]), f = dt_sigmoidf(x[xg + j] + u[ug + j]);
        const float g = dt_tanhf(x[2 * xg + j] + u[2 * ug + j]),
                    o = dt_sigmoidf(x[3 * xg + j] + u[3 * ug + j]);
        const float next = f * c[j] + i * g;
        act[j] = i, act[ag + j] = f, act[2 * ag + j] = g, act[3 * ag + j] = o;
        c[j] = next;
        h[j] = o * dt_tanhf(next);
    }
    if (a->cell) memcpy(a->cell, c, (size_t)n * sizeof *c);
}

DT_CPU_SIMD static void gru_cell(const cell *a) {
    const int64_t xg = a->xg, ug = a->ug, ag = a->ag, n = a->n;
    const float *x = a->x, *u = a->u, *h_prev = a->h_prev;
    float *act = a->act, *h = a->h;
    if (a->cell) memcpy(a->cell, u + 2 * ug, (size_t)n * sizeof *u);
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const float r = dt_sigmoidf(x[j] + u[j]), z = dt_sigmoidf(x[xg + j] + u[ug + j]);
        const float m = dt_tanhf(x[2 * xg + j] + r * u[2 * ug + j]);
        act[j] = r, act[ag + j] = z, act[2 * ag + j] = m;
        h[j] = m + z * (h_prev[j] - m);
    }
}

DT_CPU_SIMD static void rnn_cell(const cell *a) {
    const int64_t n = a->n;
    const float *x = a->x, *u = a->u;
    float *h = a->h;
    if (a->kind == DT_RNN_TANH) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) h[j] = dt_tanhf(x[j] + u[j]);
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) h[j] = x[j] + u[j] < 0 ? 0 : x[j] + u[j]; /* NaN stays */
    }
}

static void run_cell(const cell *a) {
    if (a->kind == DT_LSTM)
        lstm_cell(a);
    else if (a->kind == DT_GRU)
        gru_cell(a);
    else
        rnn_cell(a);
}

static float *optional(float *p, int64_t at) {
    return p ? p + at : NULL;
}

/* A row whose end is before this step: its state stays. */
static void forward_past(const dt_cpu_node *d, const shape *s, int64_t at, int64_t j0, int64_t n,
                         const float *state, float *next) {
    float *act = d->b.out[DT_RNN_OUT_ACT], *kept = d->b.out[DT_RNN_OUT_CELL], *y = d->b.out[DT_RNN_OUT_Y];
    const size_t bytes = (size_t)n * sizeof(float);
    memcpy(next, state, bytes);
    memset(y + at * s->h + j0, 0, bytes);
    if (kept) memset(kept + at * s->h + j0, 0, bytes);
    for (int64_t g = 0; act && g < s->gates; g++) memset(act + at * s->wide + g * s->h + j0, 0, bytes);
}

/* Step i of rows [row0, row1) and the units of one panel. */
static void forward_piece(const dt_cpu_node *d, const shape *s, int64_t i, int64_t row0, int64_t row1,
                          int64_t panel) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    float *w = d->b.workspace, *tile = w + s->tile_at + omp_get_thread_num() * s->tile;
    const float *x = d->b.in[DT_RNN_IN_GATES], *bias = d->b.in[DT_RNN_IN_B];
    float *act = d->b.out[DT_RNN_OUT_ACT], *kept = d->b.out[DT_RNN_OUT_CELL], *y = d->b.out[DT_RNN_OUT_Y];
    const int32_t *lengths = d->b.in[DT_RNN_IN_LENGTHS];
    const float *state = w + s->state_at + i % 2 * s->b * s->pitch;
    float *next = w + s->state_at + (i + 1) % 2 * s->b * s->pitch;
    const int64_t t = time_of(d, i), j0 = panel * s->nr, n = dt_min_i64(s->nr, s->h - j0);
    for (int64_t g = 0; g < s->gates; g++)
        simd->gemm_nn(row1 - row0, n, s->h, state + row0 * s->pitch, s->pitch,
                      w + (panel * s->gates + g) * s->nr * s->h, bias ? bias + g * s->h + j0 : NULL, 0,
                      tile + g * s->nr, s->gates * s->nr, false);
    for (int64_t r = row0; r < row1; r++) {
        const int64_t at = r * s->t + t, here = r * s->pitch + j0;
        float *u = tile + (r - row0) * s->gates * s->nr;
        if (r + AHEAD < row1) {
            const int64_t then = at + AHEAD * s->t;
            ask(x + then * s->wide + j0, s->gates, s->h, n);
            ask_to_write(optional(act, then * s->wide + j0), s->gates, s->h, n);
            ask_to_write(optional(kept, then * s->h + j0), 1, 0, n);
            ask_to_write(y + then * s->h + j0, 1, 0, n);
        }
        if (is_past(lengths, r, t)) {
            forward_past(d, s, at, j0, n, state + here, next + here);
            continue;
        }
        const cell a = {.kind = d->attr.recurrent.kind,
                        .n = n,
                        .xg = s->h,
                        .ug = s->nr,
                        .ag = act ? s->h : s->nr,
                        .x = x + at * s->wide + j0,
                        .u = u,
                        .h_prev = state + here,
                        .act = act ? act + at * s->wide + j0 : u,
                        .cell = optional(kept, at * s->h + j0),
                        .c = w + s->cell_at + r * s->h + j0,
                        .h = next + here};
        run_cell(&a);
        memcpy(y + at * s->h + j0, next + here, (size_t)n * sizeof *y);
    }
}

/* rows x n from src (NULL: zeros) with one step between rows to dst with another. */
static void copy_rows(float *dst, int64_t dst_step, const float *src, int64_t src_step, int64_t rows,
                      int64_t n) {
    for (int64_t r = 0; r < rows; r++) {
        if (src)
            memcpy(dst + r * dst_step, src + r * src_step, (size_t)n * sizeof *dst);
        else
            memset(dst + r * dst_step, 0, (size_t)n * sizeof *dst);
    }
}

dt_status dt_cpu_recurrent(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const shape s = shape_of(d);
    float *w = d->b.workspace, *h = d->b.out[DT_RNN_OUT_H], *c = d->b.out[DT_RNN_OUT_C];
    const float *w_hh = d->b.in[DT_RNN_IN_W];
    copy_rows(w + s.state_at, s.pitch, d->b.in[DT_RNN_IN_H0], s.h, s.b, s.h);
    copy_rows(w + s.cell_at, s.h, d->b.in[DT_RNN_IN_C0], s.h, s.b, s.h);
#pragma omp parallel num_threads(d->threads) if (s.t * s.b * s.wide > DT_CPU_GRAIN)
    {
#pragma omp for collapse(2) schedule(static)
        for (int64_t p = 0; p < s.panels; p++)
            for (int64_t g = 0; g < s.gates; g++)
                dt_cpu_pack_panel(w + (p * s.gates + g) * s.nr * s.h, s.nr, dt_min_i64(s.nr, s.h - p * s.nr),
                                  s.h, w_hh + (g * s.h + p * s.nr) * s.h, 1, s.h);
        for (int64_t i = 0; i < s.t; i++)
#pragma omp for collapse(2) schedule(static)
            for (int64_t p = 0; p < s.panels; p++)
                for (int64_t r = 0; r < s.row_blocks; r++)
                    forward_piece(d, &s, i, s.b * r / s.row_blocks, s.b * (r + 1) / s.row_blocks, p);
    }
    if (h) copy_rows(h, s.h, w + s.state_at + s.t % 2 * s.b * s.pitch, s.pitch, s.b, s.h);
    if (c) copy_rows(c, s.h, w + s.cell_at, s.h, s.b, s.h);
    return DT_OK;
}

/* ---- backward: n units of a row ---- */

typedef struct slope {
    dt_recurrent_kind kind;
    int64_t n, ag, dg;                  /* floats between gates of act and dgates, and of what goes on */
    const float *dh;                    /* of this step's h, all together */
    const float *act, *cell, *prev, *y; /* prev: c, of a GRU h, of the step before; NULL: 0 */
    float *dc, *carry;  /* goes on to the step before: c's gradient, and h's but for the product */
    float *dgates, *du; /* of x's part and of the product's */
    float *dn;          /* GRU: x's part of n; dgates has the product's for now */
} slope;

DT_CPU_SIMD static void lstm_slope(const slope *a) {
    const int64_t ag = a->ag, dg = a->dg, n = a->n;
    const float *act = a->act, *kept = a->cell, *prev = a->prev, *dh = a->dh;
    float *dgates = a->dgates, *du = a->du, *dc = a->dc;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const float i = act[j], f = act[ag + j], g = act[2 * ag + j], o = act[3 * ag + j],
                    tc = dt_tanhf(kept[j]);
        const float d = dc[j] + dh[j] * o * (1 - tc * tc);
        const float di = d * g * i * (1 - i), df = d * prev[j] * f * (1 - f), dm = d * i * (1 - g * g),
                    dout = dh[j] * tc * o * (1 - o);
        dgates[j] = di, dgates[ag + j] = df, dgates[2 * ag + j] = dm, dgates[3 * ag + j] = dout;
        du[j] = di, du[dg + j] = df, du[2 * dg + j] = dm, du[3 * dg + j] = dout;
        dc[j] = d * f;
    }
    memset(a->carry, 0, (size_t)n * sizeof *a->carry);
}

DT_CPU_SIMD static void gru_slope(const slope *a) {
    const int64_t ag = a->ag, dg = a->dg, n = a->n;
    const float *act = a->act, *kept = a->cell, *prev = a->prev, *dh = a->dh;
    float *dgates = a->dgates, *du = a->du, *dn = a->dn, *carry = a->carry;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        const float r = act[j], z = act[ag + j], m = act[2 * ag + j], d = dh[j];
        const float dm = d * (1 - z) * (1 - m * m), dr = dm * kept[j] * r * (1 - r),
                    dz = d * (prev[j] - m) * z * (1 - z);
        dgates[j] = dr, dgates[ag + j] = dz, dgates[2 * ag + j] = dm * r;
        du[j] = dr, du[dg + j] = dz, du[2 * dg + j] = dm * r;
        dn[j] = dm;
        carry[j] = d * z;
    }
}

DT_CPU_SIMD static void rnn_slope(const slope *a) {
    const int64_t n = a->n;
    const float *y = a->y, *dh = a->dh;
    float *dgates = a->dgates, *du = a->du;
    if (a->kind == DT_RNN_TANH) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) dgates[j] = du[j] = dh[j] * (1 - y[j] * y[j]);
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) dgates[j] = du[j] = y[j] > 0 ? dh[j] : 0;
    }
    memset(a->carry, 0, (size_t)n * sizeof *a->carry);
}

static void run_slope(const slope *a) {
    if (a->kind == DT_LSTM)
        lstm_slope(a);
    else if (a->kind == DT_GRU)
        gru_slope(a);
    else
        rnn_slope(a);
}

DT_CPU_SIMD static void add_to(float *y, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] += x[j];
}

/* A row's h or c before step t: of y [B,T,H], or its first one; NULL: zeros. */
static const float *before(const dt_cpu_node *d, const shape *s, const float *y, const float *first,
                           int64_t r, int64_t t) {
    const int64_t from = d->attr.recurrent.reverse ? t + 1 : t - 1;
    const bool inside = from >= 0 && from < s->t && !is_past(d->b.in[DT_RNN_BWD_IN_LENGTHS], r, from);
    return inside ? y + (r * s->t + from) * s->h : first ? first + r * s->h : NULL;
}

/* Step i, or with i = -1 the gradient of h0 alone, of rows [row0, row1) and the units of one panel. du of step i + 1
 * is read, that of step i written. */
static void backward_piece(const dt_cpu_node *d, const shape *s, int64_t i, int64_t row0, int64_t row1,
                           int64_t panel) {
    static const float zeros[64]; /* a panel or more */
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    float *w = d->b.workspace, *tile = w + s->tile_at + omp_get_thread_num() * s->tile;
    const float *y = d->b.in[DT_RNN_BWD_IN_Y], *act = d->b.in[DT_RNN_BWD_IN_ACT],
                *dy = d->b.in[DT_RNN_BWD_IN_DY], *cells = d->b.in[DT_RNN_BWD_IN_CELL];
    const int32_t *lengths = d->b.in[DT_RNN_BWD_IN_LENGTHS];
    float *dgates = d->b.out[DT_RNN_BWD_OUT_DGATES];
    const float *du_after = w + s->state_at + (i + 2) % 2 * s->b * s->pitch;
    float *du = w + s->state_at + (i + 3) % 2 * s->b * s->pitch, *carry = w + s->carry_at,
          *dc = w + s->cell_at;
    const int64_t t = i < 0 ? 0 : time_of(d, i), j0 = panel * s->nr, n = dt_min_i64(s->nr, s->h - j0);
    const bool lstm = d->attr.recurrent.kind == DT_LSTM;
    if (i + 1 < s->t)
        simd->gemm_nn(row1 - row0, n, s->wide, du_after + row0 * s->pitch, s->pitch,
                      w + panel * s->nr * s->wide, carry + row0 * s->h + j0, s->h, tile, s->nr, false);
    else
        copy_rows(tile, s->nr, carry + row0 * s->h + j0, s->h, row1 - row0, n);
    for (int64_t r = row0; r < row1; r++) {
        const int64_t at = r * s->t + t, here = r * s->h + j0;
        float *dh = tile + (r - row0) * s->nr;
        if (r + AHEAD < row1) {
            const int64_t then = at + AHEAD * s->t;
            ask(act ? act + then * s->wide + j0 : NULL, s->gates, s->h, n);
            ask_to_write(dgates + then * s->wide + j0, s->gates, s->h, n);
            ask(cells ? cells + then * s->h + j0 : NULL, 1, 0, n);
            ask(dy ? dy + then * s->h + j0 : NULL, 1, 0, n);
        }
        if (i < 0 || is_past(lengths, r, t)) { /* h is that of the step before */
            memcpy(carry + here, dh, (size_t)n * sizeof *dh);
            for (int64_t g = 0; i >= 0 && g < s->gates; g++) {
                memset(du + r * s->pitch + g * s->h + j0, 0, (size_t)n * sizeof *du);
                memset(dgates + at * s->wide + g * s->h + j0, 0, (size_t)n * sizeof *dgates);
            }
            if (i >= 0 && d->attr.recurrent.kind == DT_GRU)
                memset(w + s->dn_at + at * s->h + j0, 0, (size_t)n * sizeof *w);
            continue;
        }
        if (dy) add_to(dh, dy + at * s->h + j0, n);
        const float *prev =
            before(d, s, lstm ? cells : y, d->b.in[lstm ? DT_RNN_BWD_IN_C0 : DT_RNN_BWD_IN_H0], r, t);
        const slope a = {.kind = d->attr.recurrent.kind,
                         .n = n,
                         .ag = s->h,
                         .dg = s->h,
                         .dh = dh,
                         .act = act ? act + at * s->wide + j0 : NULL,
                         .cell = cells ? cells + at * s->h + j0 : NULL,
                         .prev = prev ? prev + j0 : zeros,
                         .y = y + at * s->h + j0,
                         .dc = dc + here,
                         .carry = carry + here,
                         .dgates = dgates + at * s->wide + j0,
                         .du = du + r * s->pitch + j0,
                         .dn = w + s->dn_at + at * s->h + j0};
        run_slope(&a);
    }
}

/* The gradients of w_hh and b_hh: of all steps at once. */
static void sum_weights(const dt_cpu_node *d, const shape *s) {
    float *w = d->b.workspace, *prev = w + s->prev_at, *dw = d->b.out[DT_RNN_BWD_OUT_DW],
          *db = d->b.out[DT_RNN_BWD_OUT_DB];
    void *dgates = d->b.out[DT_RNN_BWD_OUT_DGATES];
    const int64_t rows = s->b * s->t;
    if (dw && rows > 0) {
#pragma omp parallel for schedule(static) num_threads(d->threads) if (rows * s->h > DT_CPU_GRAIN)
        for (int64_t at = 0; at < rows; at++)
            copy_rows(prev + at * s->h, s->h,
                      before(d, s, d->b.in[DT_RNN_BWD_IN_Y], d->b.in[DT_RNN_BWD_IN_H0], at / s->t, at % s->t),
                      s->h, 1, s->h);
        dt_cpu_product p = weight_product(s);
        p.a = dgates, p.b = prev, p.out = dw;
        dt_cpu_product_run(&p, d->threads, w + s->product_at);
    } else if (dw) {
        memset(dw, 0, (size_t)(s->wide * s->h) * sizeof *dw);
    }
    if (db && rows > 0) {
        const dt_cpu_node sums = {
            .threads = d->threads,
            .m = rows,
            .c = s->wide,
            .n_elem = rows * s->wide,
            .b = {.in = &dgates, .out = d->b.out + DT_RNN_BWD_OUT_DB, .workspace = w + s->bias_at}};
        (void)dt_cpu_bias_grad((void *)(uintptr_t)&sums, NULL);
    } else if (db) {
        memset(db, 0, (size_t)s->wide * sizeof *db);
    }
}

dt_status dt_cpu_recurrent_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const shape s = shape_of(d);
    const float *w_hh = d->b.in[DT_RNN_BWD_IN_W];
    float *w = d->b.workspace, *dgates = d->b.out[DT_RNN_BWD_OUT_DGATES], *dh0 = d->b.out[DT_RNN_BWD_OUT_DH0],
          *dc0 = d->b.out[DT_RNN_BWD_OUT_DC0];
    copy_rows(w + s.carry_at, s.h, d->b.in[DT_RNN_BWD_IN_DH], s.h, s.b, s.h);
    copy_rows(w + s.cell_at, s.h, d->b.in[DT_RNN_BWD_IN_DC], s.h, s.b, s.h);
#pragma omp parallel num_threads(d->threads) if (s.t * s.b * s.wide > DT_CPU_GRAIN)
    {
#pragma omp for schedule(static)
        for (int64_t p = 0; p < s.panels; p++)
            dt_cpu_pack_panel(w + p * s.nr * s.wide, s.nr, dt_min_i64(s.nr, s.h - p * s.nr), s.wide,
                              w_hh + p * s.nr, s.h, 1);
        for (int64_t i = s.t - 1; i >= (dh0 ? -1 : 0); i--)
#pragma omp for collapse(2) schedule(static)
            for (int64_t p = 0; p < s.panels; p++)
                for (int64_t r = 0; r < s.row_blocks; r++)
                    backward_piece(d, &s, i, s.b * r / s.row_blocks, s.b * (r + 1) / s.row_blocks, p);
    }
    if (dh0) copy_rows(dh0, s.h, w + s.carry_at, s.h, s.b, s.h);
    if (dc0) copy_rows(dc0, s.h, w + s.cell_at, s.h, s.b, s.h);
    sum_weights(d, &s);
    if (d->attr.recurrent.kind == DT_GRU)
        copy_rows(dgates + 2 * s.h, s.wide, w + s.dn_at, s.h, s.b * s.t, s.h);
    return DT_OK;
}
