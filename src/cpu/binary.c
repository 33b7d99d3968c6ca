/* Element-wise functions of two variables with broadcasting, and their gradients: those of a repeated operand
 * are sums, cut by sizes alone and added in a fixed order. */
#include "kernels.h"

#include "core/scalar.h"

enum { PIECE = 512 }; /* elements at once */

typedef void (*map_fn)(float *out, const float *g, const float *p, const float *q, int64_t n);

#define MAP(NAME, name, value, rx, gx, ry, gy)                                                               \
    DT_CPU_SIMD static void map_##name(float *out, const float *g, const float *p, const float *q,           \
                                       int64_t n) {                                                          \
        (void)g;                                                                                             \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                \
            const float x = p[i], y = q[i];                                                                  \
            out[i] = value;                                                                                  \
        }                                                                                                    \
    }
DT_BINARY_LIST(MAP)
#undef MAP

/* An operand that the gradient does not read may be anything: dy stands in for it. */
#define GRADIENT(name, suffix, gradient)                                                                     \
    DT_CPU_SIMD static void map_##name##suffix(float *out, const float *dy, const float *p, const float *q,  \
                                               int64_t n) {                                                  \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                \
            const float g = dy[i], x = p[i], y = q[i];                                                       \
            (void)x, (void)y;                                                                                \
            out[i] = gradient;                                                                               \
        }                                                                                                    \
    }
#define MAP(NAME, name, value, rx, gx, ry, gy) GRADIENT(name, _x, gx) GRADIENT(name, _y, gy)
DT_BINARY_LIST(MAP)
#undef MAP

#define ROW(NAME, name, value, rx, gx, ry, gy)                                                               \
    [DT_BINARY_##NAME] = {map_##name, map_##name##_x, map_##name##_y},
static const map_fn map_table[DT_BINARY_COUNT][3] = {DT_BINARY_LIST(ROW)};
#undef ROW

DT_CPU_SIMD static void add_to(double *sum, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += (double)x[i];
}

/* Eight sums side by side, then added in order. */
static double sum_of(const float *x, int64_t n) {
    enum { LANES = 8 };
    double lane[LANES] = {0}, sum = 0;
    for (int64_t i = 0; i + LANES <= n; i += LANES)
        for (int64_t k = 0; k < LANES; k++) lane[k] += (double)x[i + k];
    for (int64_t k = 0; k < LANES; k++) sum += lane[k];
    for (int64_t i = n - n % LANES; i < n; i++) sum += (double)x[i];
    return sum;
}

/* n elements of operand k from element `at` of the space on: where they stand in a row themselves, else
 * brought together in buf [PIECE]. `base` is added to where they are. */
static const float *gather(const dt_space *s, int32_t k, const float *src, int64_t base, int64_t at,
                           int64_t n, float *buf) {
    const int32_t last = s->n - 1;
    int64_t off[DT_SPACE_OPERANDS], done = 0;
    while (done < n) {
        const int64_t run = dt_min_i64(n - done, s->dim[last] - (at + done) % s->dim[last]);
        dt_space_offsets(s, at + done, off);
        const float *from = src + base + off[k];
        const int64_t step = s->stride[k][last];
        if (run == n && step == 1) return from;
        for (int64_t i = 0; i < run; i++) buf[done + i] = from[i * step];
        done += run;
    }
    return buf;
}

static void run_piece(const dt_cpu_node *d, int64_t at, int64_t n) {
    float p[PIECE], q[PIECE];
    const float *x = gather(&d->space, DT_SPACE_A, d->b.in[DT_BINARY_IN_A], 0, at, n, p);
    const float *y = gather(&d->space, DT_SPACE_B, d->b.in[DT_BINARY_IN_B], 0, at, n, q);
    map_table[d->attr.binary.fn][0]((float *)d->b.out[0] + at, NULL, x, y, n);
}

/* Pieces [from, to). */
static void run_pieces(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    const bool plain = d->space.n == 1 && d->space.stride[DT_SPACE_A][0] && d->space.stride[DT_SPACE_B][0];
    const int64_t begin = from * PIECE, end = dt_min_i64(to * PIECE, d->n_elem);
    const float *a = d->b.in[DT_BINARY_IN_A], *b = d->b.in[DT_BINARY_IN_B];
    if (plain)
        map_table[d->attr.binary.fn][0]((float *)d->b.out[0] + begin, NULL, a + begin, b + begin,
                                        end - begin);
    else
        for (int64_t at = begin; at < end; at += PIECE) run_piece(d, at, dt_min_i64(PIECE, end - at));
}

dt_status dt_cpu_binary(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), dt_ceil_div(d->n_elem, PIECE), run_pieces,
                       d);
    return DT_OK;
}

/* How a gradient is cut: n_task stretches of its elements, each summed in n_chunk chunks. Where the elements
 * of a task stand in a row in dy, a task is up to PIECE of them; else it is one, and its terms stand in a row. */
typedef struct cut {
    dt_space kept, summed;
    int64_t n_kept, n_summed;
    bool rows; /* the last dimension is one of the gradient's */
    int64_t tile, n_tile, n_task, n_chunk, chunk;
} cut;

static cut cut_of(const dt_cpu_node *d, int32_t operand) {
    cut c = {0};
    const int32_t own = DT_SPACE_A + operand;
    dt_broadcast_split(&d->space, own, &c.kept, &c.summed);
    c.n_kept = dt_space_n_elem(&c.kept), c.n_summed = dt_space_n_elem(&c.summed);
    c.rows = d->space.stride[own][d->space.n - 1] > 0;
    const int64_t side = c.rows ? c.kept.dim[c.kept.n - 1] : 1;
    c.tile = dt_min_i64(side, PIECE);
    c.n_tile = dt_ceil_div(side, c.tile);
    c.n_task = c.n_kept / side * c.n_tile;
    c.n_chunk = 1;
    if (c.n_task < DT_CPU_MAX_CHUNKS)
        c.n_chunk = dt_min_i64(DT_CPU_MAX_CHUNKS, dt_ceil_div(c.n_summed * c.tile + 1, DT_CPU_GRAIN));
    c.chunk = dt_ceil_div(c.n_summed, c.n_chunk);
    return c;
}

int64_t dt_cpu_sums_bytes(const dt_cpu_node *d, int32_t operand) {
    const cut c = cut_of(d, operand);
    return c.n_chunk > 1 ? c.n_chunk * c.n_kept * (int64_t)sizeof(double) : 0;
}

int64_t dt_cpu_binary_bwd_bytes(const dt_cpu_node *d) {
    return dt_cpu_sums_bytes(d, d->attr.binary.operand);
}

/* What is summed: map of these; a and b NULL where it does not read them. */
typedef struct sums {
    map_fn map;
    const float *dy, *a, *b;
} sums;

/* The terms of n neighbours in dy, `off` being where the first one is in each operand; `walk` is the space
 * they are neighbours in, `at` the first one's place there. */
static const float *terms(const sums *d, const dt_space *walk, const int64_t *off, int64_t at, int64_t n,
                          float *out) {
    float g[PIECE], p[PIECE], q[PIECE];
    const float *dy = d->dy, *a = d->a, *b = d->b;
    dy = gather(walk, DT_SPACE_FULL, dy, off[DT_SPACE_FULL], at, n, g);
    a = a ? gather(walk, DT_SPACE_A, a, off[DT_SPACE_A], at, n, p) : dy;
    b = b ? gather(walk, DT_SPACE_B, b, off[DT_SPACE_B], at, n, q) : dy;
    d->map(out, dy, a, b, n);
    return out;
}

/* Chunk `chunk` of task `task` into sum [tile]; returns how many elements. */
static int64_t sum_task(const sums *d, const cut *c, int64_t task, int64_t chunk, int64_t *first,
                        double *sum) {
    float row[PIECE];
    int64_t off[DT_SPACE_OPERANDS];
    const int64_t side = c->rows ? c->kept.dim[c->kept.n - 1] : 1, col = task % c->n_tile * c->tile;
    const int64_t n = dt_min_i64(c->tile, side - col), from = chunk * c->chunk,
                  to = dt_min_i64(from + c->chunk, c->n_summed);
    *first = task / c->n_tile * side + col;
    for (int64_t i = 0; i < n; i++) sum[i] = 0;
    if (c->rows) {
        for (int64_t r = from; r < to; r++) {
            dt_space_offsets(&c->summed, r, off);
            add_to(sum, terms(d, &c->kept, off, *first, n, row), n);
        }
        return n;
    }
    dt_space_offsets(&c->kept, *first, off);
    for (int64_t r = from; r < to; r += PIECE) {
        const int64_t length = dt_min_i64(PIECE, to - r);
        sum[0] += sum_of(terms(d, &c->summed, off, r, length, row), length);
    }
    return 1;
}

/* Nothing is repeated: one pass. */
typedef struct plain {
    const dt_cpu_node *d;
    const sums *s;
} plain;

static void plain_pieces(const void *arg, int64_t from, int64_t to) {
    static const int64_t start[DT_SPACE_OPERANDS];
    const plain *p = arg;
    const int64_t n = p->d->n_elem;
    for (int64_t at = from * PIECE; at < dt_min_i64(to * PIECE, n); at += PIECE)
        (void)terms(p->s, &p->d->space, start, at, dt_min_i64(PIECE, n - at), (float *)p->d->b.out[0] + at);
}

static void run_plain(const dt_cpu_node *d, const sums *s) {
    const plain p = {d, s};
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), dt_ceil_div(d->n_elem, PIECE),
                       plain_pieces, &p);
}

typedef struct tasks {
    const sums *s;
    const cut *c;
    float *out;
    double *partial;
} tasks;

static void run_tasks(const void *arg, int64_t from, int64_t to) {
    const tasks *t = arg;
    const cut *c = t->c;
    for (int64_t i = from; i < to; i++) {
        double sum[PIECE];
        int64_t first;
        const int64_t n = sum_task(t->s, c, i / c->n_chunk, i % c->n_chunk, &first, sum);
        for (int64_t k = 0; k < n; k++)
            if (c->n_chunk > 1)
                t->partial[i % c->n_chunk * c->n_kept + first + k] = sum[k];
            else
                t->out[first + k] = (float)sum[k];
    }
}

void dt_cpu_sums(const dt_cpu_node *d, dt_binary fn, int32_t operand) {
    const sums s = {map_table[fn][1 + operand], d->b.in[DT_BINARY_BWD_IN_DY],
                    d->n_in > DT_BINARY_BWD_IN_A ? d->b.in[DT_BINARY_BWD_IN_A] : NULL,
                    d->n_in > DT_BINARY_BWD_IN_B ? d->b.in[DT_BINARY_BWD_IN_B] : NULL};
    const cut c = cut_of(d, operand);
    float *out = d->b.out[0];
    double *partial = d->b.workspace;
    if (c.n_summed == 1) {
        run_plain(d, &s);
        return;
    }
    const tasks t = {&s, &c, out, partial};
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), c.n_task * c.n_chunk, run_tasks, &t);
    for (int64_t k = 0; c.n_chunk > 1 && k < c.n_kept; k++) {
        double sum = 0;
        for (int64_t i = 0; i < c.n_chunk; i++) sum += partial[i * c.n_kept + k];
        out[k] = (float)sum;
    }
}

dt_status dt_cpu_binary_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_sums(d, d->attr.binary.fn, d->attr.binary.operand);
    return DT_OK;
}
