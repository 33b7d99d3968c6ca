/* Dense layers and MATMUL: products of row-major matrices. The second matrix is packed once, in panels, for all threads;
 * then each takes blocks of rows, and of panels where rows are few. A gradient of weights, whose depth is long, reads both
 * matrices along it in stretches: a thread's rows of the first are copied, the second is read where it lies. A sum runs
 * along the depth in order, however it is cut, so bits do not depend on the number of threads. */
#include <string.h>

#include "conv_internal.h"
#include "core/simd.h"

enum {
    ROW_BLOCKS = 18,      /* register blocks of a tile of rows, at most */
    TURNED_BLOCKS = 56,   /* where the rows are columns of the first matrix */
    DEPTH = 384,          /* of a tile of a turned matrix: it stays in L2 */
    STREAM = 1 << 21,     /* floats of a result that no cache keeps for its reader */
    WORK_ALONE = 1 << 16, /* multiplications that are not worth a team */
    MANY = 12             /* products of a batch that are dealt whole */
};

/* How a product is cut; floats. */
typedef struct cut {
    int64_t nr, panels, tile, tiles, splits; /* splits: of the panels */
    int64_t packed, own;                     /* of the second matrix; of a thread */
    int64_t high;  /* between the rows of a register block of a turned first matrix */
    bool copied;   /* so are the rows of a first matrix that is not turned: theirs collide */
    bool in_place; /* the second matrix is not packed, but for columns that fill no vector */
} cut;

/* Tiles of the rows, of `most` register blocks at most, and splits of the panels: items enough for all threads, and little
 * read twice. Every split reads (of a copied matrix: copies) all of the first matrix, every tile reads all of the second. */
static void cut_items(const dt_cpu_product *p, int32_t threads, int64_t mr, int64_t most, cut *c) {
    const int64_t least = dt_ceil_div(p->rows, most * mr), blocks = dt_ceil_div(p->rows, mr);
    const int64_t want = dt_min_i64(2 * threads, blocks * c->panels);
    int64_t best = INT64_MAX;
    for (int64_t tiles = least; tiles <= dt_min_i64(blocks, dt_max_i64(least, want)); tiles++) {
        const int64_t splits = dt_max_i64(1, dt_min_i64(c->panels, dt_ceil_div(want, tiles)));
        const int64_t cost = (c->own > 0 ? 2 : 1) * splits * p->rows + tiles * p->cols;
        if (cost >= best || tiles * splits < want) continue;
        best = cost, c->tiles = tiles, c->splits = splits;
    }
    c->tile = dt_ceil_div(p->rows, c->tiles);
}

static cut cut_of(const dt_cpu_product *p, int32_t threads) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    cut c = {.nr = simd->nr, .panels = dt_ceil_div(p->cols, simd->nr), .in_place = p->turn_a && !p->turn_b};
    c.packed = c.in_place || p->kept ? 0 : dt_round_up(c.panels * c.nr * p->depth, 16);
    c.tiles = c.splits = 1;
    if (p->rows == 0) return c;
    c.high = dt_round_up(simd->mr, simd->lanes);
    c.copied = !p->turn_a && p->rows > 1 && dt_cpu_rows_collide(p->depth);
    c.own = p->turn_a || c.copied;
    cut_items(p, threads, simd->mr, p->turn_a ? TURNED_BLOCKS : ROW_BLOCKS, &c);
    if (p->turn_a) c.own = (dt_ceil_div(c.tile, simd->mr) * c.high + c.nr) * DEPTH;
    if (c.copied) c.own = c.tile * dt_cpu_pitch(DEPTH);
    return c;
}

int64_t dt_cpu_product_bytes(const dt_cpu_product *p, int32_t threads) {
    const cut c = cut_of(p, threads);
    return (c.packed + threads * c.own) * (int64_t)sizeof(float);
}

/* Rows [row0, row0 + m) of a turned first matrix from depth d on, by register blocks: own[block][depth][high]. */
DT_CPU_SIMD static void turned_rows(const dt_cpu_product *p, const cut *c, int64_t row0, int64_t m,
                                    int64_t blocks, int64_t d, int64_t depth, float *own) {
    enum { HIGH = 16 };
    for (int64_t k = 0; k < depth; k++) {
        const float *a = p->a + (d + k) * p->rows + row0;
        const bool inside = c->high == HIGH && (d + k) * p->rows + row0 + m + HIGH <= p->depth * p->rows;
        float *out = own + k * c->high;
        for (int64_t i = 0; i < blocks; i++, out += DEPTH * c->high) {
            const int64_t n = m / blocks + (i < m % blocks ? 1 : 0);
            if (inside)
                memcpy(out, a, HIGH * sizeof *out);
            else
                memcpy(out, a, (size_t)n * sizeof *out);
            a += n;
        }
    }
}

/* Columns [col, col + n) of the second matrix from depth d on, as gemm_tn reads them. */
static const float *stretch(const dt_cpu_product *p, const cut *c, const float *packed, float *own,
                            int64_t col, int64_t n, int64_t d, int64_t depth, int64_t *ld) {
    *ld = c->nr;
    if (!c->in_place) return packed + col * p->depth + d * c->nr;
    const float *at = p->b + d * p->cols + col;
    if (n % dt_cpu_simd_get()->lanes == 0) {
        *ld = p->cols;
        return at;
    }
    dt_cpu_pack_panel(own, c->nr, n, depth, at, p->cols, 1);
    return own;
}

static void pack(const dt_cpu_product *p, const cut *c, int64_t panel, float *packed) {
    const int64_t col = panel * c->nr, n = dt_min_i64(c->nr, p->cols - col);
    dt_cpu_pack_panel(packed + col * p->depth, c->nr, n, p->depth, p->b + (p->turn_b ? col * p->depth : col),
                      p->turn_b ? 1 : p->cols, p->turn_b ? p->depth : 1);
}

/* Rows [row0, row0 + m) and columns [col0, col1), where rows of the first matrix collide. */
static void copied_block(const dt_cpu_product *p, const cut *c, const float *packed, float *own, int64_t row0,
                         int64_t m, int64_t col0, int64_t col1) {
    const int64_t pitch = dt_cpu_pitch(DEPTH);
    for (int64_t d = 0; d < p->depth; d += DEPTH) {
        const int64_t depth = dt_min_i64(DEPTH, p->depth - d);
        for (int64_t i = 0; i < m; i++)
            memcpy(own + i * pitch, p->a + (row0 + i) * p->depth + d, (size_t)depth * sizeof *own);
        for (int64_t col = col0; col < col1; col += c->nr) {
            float *to = p->out + row0 * p->cols + col;
            dt_cpu_simd_get()->gemm_nn(m, dt_min_i64(c->nr, col1 - col), depth, own, pitch,
                                       packed + col * p->depth + d * c->nr,
                                       d > 0     ? to
                                       : p->bias ? p->bias + col
                                                 : NULL,
                                       d > 0 ? p->cols : 0, to, p->cols, false);
        }
    }
}

/* Rows [row0, row1) and columns [col0, col1) of the result; col0 begins a panel. */
static void block(const dt_cpu_product *p, const cut *c, const float *packed, float *own, int64_t row0,
                  int64_t row1, int64_t col0, int64_t col1) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const int64_t m = row1 - row0;
    float *out = p->out + row0 * p->cols;
    if (c->copied) {
        copied_block(p, c, packed, own, row0, m, col0, col1);
        return;
    }
    if (!p->turn_a) {
        simd->gemm_nn(m, col1 - col0, p->depth, p->a + row0 * p->depth, p->depth, packed + col0 * p->depth,
                      p->bias ? p->bias + col0 : NULL, 0, out + col0, p->cols,
                      p->rows * p->cols > STREAM && !p->res && !p->act);
        return;
    }
    const int64_t blocks = dt_ceil_div(m, simd->mr);
    for (int64_t d = 0; d < p->depth; d += DEPTH) {
        const int64_t depth = dt_min_i64(DEPTH, p->depth - d);
        turned_rows(p, c, row0, m, blocks, d, depth, own);
        for (int64_t col = col0; col < col1; col += c->nr) {
            const float *bias = p->bias ? p->bias + col : NULL;
            const int64_t n = dt_min_i64(c->nr, col1 - col);
            int64_t ld;
            const float *b = stretch(p, c, packed, own + blocks * c->high * DEPTH, col, n, d, depth, &ld);
            float *to = out + col;
            for (int64_t i = 0; i < blocks; i++) {
                const int64_t rows = m / blocks + (i < m % blocks ? 1 : 0);
                simd->gemm_tn(rows, n, depth, own + i * c->high * DEPTH, c->high, b, ld, d > 0 ? to : bias,
                              d > 0 ? p->cols : 0, to, p->cols);
                to += rows * p->cols;
            }
        }
    }
}

static void without_depth(const dt_cpu_product *p) {
    for (int64_t i = 0; i < p->rows * p->cols; i++) p->out[i] = p->bias ? p->bias[i % p->cols] : 0;
    dt_cpu_end_rows(p->out, p->res, p->cols, p->rows, p->cols, p->act);
}

/* A run. */
typedef struct work {
    const dt_cpu_product *p;
    cut c;
    float *to;           /* where the second matrix is packed */
    const float *packed; /* the same */
    float *own;
} work;

static void pack_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    pack(k->p, &k->c, item, k->to);
}

static void block_item(const void *arg, int64_t item, int32_t worker) {
    const work *k = arg;
    const dt_cpu_product *p = k->p;
    const cut *c = &k->c;
    const int64_t tile = item / c->splits, split = item % c->splits;
    const int64_t row0 = p->rows * tile / c->tiles, row1 = p->rows * (tile + 1) / c->tiles,
                  col0 = c->panels * split / c->splits * c->nr,
                  col1 = dt_min_i64(p->cols, c->panels * (split + 1) / c->splits * c->nr);
    block(p, c, k->packed, k->own + worker * c->own, row0, row1, col0, col1);
    const int64_t at = row0 * p->cols + col0;
    dt_cpu_end_rows(p->out + at, p->res ? p->res + at : NULL, p->cols, row1 - row0, col1 - col0, p->act);
}

int64_t dt_cpu_product_packed_bytes(const dt_cpu_product *p) {
    return dt_round_up(p->cols, dt_cpu_simd_get()->nr) * p->depth * (int64_t)sizeof(float);
}

void dt_cpu_product_pack(const dt_cpu_product *p, int32_t threads, float *packed) {
    const work k = {.p = p, .c = cut_of(p, threads), .to = packed};
    const dt_cpu_stage stage = {k.c.panels, pack_item, true};
    dt_cpu_share((dt_cpu_crew){threads, p->team}, &stage, 1, &k);
}

void dt_cpu_product_run(const dt_cpu_product *p, int32_t threads, void *workspace) {
    work k = {.p = p, .c = cut_of(p, threads), .to = workspace};
    if (p->depth == 0) {
        without_depth(p);
        return;
    }
    const bool packs = !k.c.in_place && !p->kept;
    k.packed = p->kept ? p->packed : k.to;
    k.own = k.to + k.c.packed;
    const dt_cpu_stage stage[] = {{packs ? k.c.panels : 0, pack_item, true},
                                  {k.c.tiles * k.c.splits, block_item, false}};
    const bool alone = p->rows * p->cols * p->depth <= WORK_ALONE;
    dt_cpu_share((dt_cpu_crew){alone ? 1 : threads, p->team}, stage, 2, &k);
}

dt_cpu_product dt_cpu_dense_product(dt_op op, int64_t n, int64_t c, int64_t k) {
    if (op == DT_OP_DENSE) return (dt_cpu_product){.rows = n, .cols = k, .depth = c, .turn_b = true};
    if (op == DT_OP_DENSE_DGRAD) return (dt_cpu_product){.rows = n, .cols = c, .depth = k};
    return (dt_cpu_product){.rows = k, .cols = c, .depth = n, .turn_a = true};
}

/* The first product of a batch; whether each is one thread's. */
static dt_cpu_product first_of(const dt_matmul_dims *d, const dt_matmul_attr *t, bool *dealt) {
    *dealt = d->batch >= MANY;
    return (dt_cpu_product){
        .rows = d->m, .cols = d->n, .depth = d->k, .turn_a = t->turn_a, .turn_b = t->turn_b};
}

int64_t dt_cpu_matmul_bytes(const dt_matmul_dims *d, const dt_matmul_attr *t, int32_t threads) {
    bool dealt;
    const dt_cpu_product p = first_of(d, t, &dealt);
    return dealt ? threads * dt_cpu_product_bytes(&p, 1) : dt_cpu_product_bytes(&p, threads);
}

/* A batch of products, each one thread's. */
typedef struct batch {
    dt_cpu_product first;
    int64_t a, b, out; /* from one to the next */
    char *workspace;
    int64_t bytes; /* of it, of a thread */
} batch;

static void dealt_item(const void *arg, int64_t item, int32_t worker) {
    const batch *k = arg;
    dt_cpu_product p = k->first;
    p.a += item * k->a, p.b += item * k->b, p.out += item * k->out;
    dt_cpu_product_run(&p, 1, k->workspace + worker * k->bytes);
}

void dt_cpu_matmul(const dt_matmul_dims *d, const dt_matmul_attr *t, const float *a, const float *b, float *y,
                   dt_cpu_crew crew, void *workspace) {
    bool dealt;
    batch k = {first_of(d, t, &dealt), d->m * d->k, d->k * d->n, d->m * d->n, workspace, 0};
    k.first.a = a, k.first.b = b, k.first.out = y, k.first.team = crew.team;
    if (dealt) {
        k.bytes = dt_cpu_product_bytes(&k.first, 1);
        const dt_cpu_stage stage = {d->batch, dealt_item, true};
        dt_cpu_share(crew, &stage, 1, &k);
        return;
    }
    for (int64_t i = 0; i < d->batch; i++) {
        dt_cpu_product p = k.first;
        p.a += i * k.a, p.b += i * k.b, p.out += i * k.out;
        dt_cpu_product_run(&p, crew.threads, workspace);
    }
}
