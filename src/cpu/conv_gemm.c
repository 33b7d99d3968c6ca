/* Convolution as a matrix product: forward, gradients of the input and of the weights, any geometry.
 *
 * Forward is y[m,K] = windows[m, R*S*C] w^T; a cache-sized tile of the window matrix is gathered at a time.
 * The gradient of the input splits the image by (row, column) modulo the stride: every class of pixels sees a
 * fixed set of taps and is itself a stride-1 forward product over dy. The gradient of the weights is dy^T
 * windows. */
#include "conv_internal.h"

#include <omp.h>
#include <string.h>

enum {
    TILE_BYTES = 256 * 1024, /* gathered windows of one block */
    TILE_ROWS_MAX = 252,
    TAPS_MAX = 64, /* of an axis of a kernel of which the taps are looked at */
    WGRAD_ROWS_MAX = 1024,
    SHARE_COLS = 32,                     /* wgrad: columns that make a share worth taking */
    SUM_BYTES = 1200 * 1024,             /* wgrad: sums that stay in L2 */
    PARTIAL_BYTES_MAX = 64 * 1024 * 1024 /* wgrad: sums of the parts */
};

/* One stride-1-like product of a forward or dgrad convolution. */
typedef struct part {
    dt_cpu_gather g;
    int64_t rows, depth;
    dt_cpu_scatter to;
    int64_t r_last, s_last, r_step, s_step; /* dgrad: tap t is weight row r_last - t*r_step */
    int64_t r_first, s_first;               /* forward: the taps before see nothing of any image */
} part;

static int64_t gcd(int64_t a, int64_t b) {
    return b ? gcd(b, a % b) : a;
}

/* Taps of one axis that reach output positions congruent to `residue` (position + pad, modulo stride). */
static void axis_taps(int64_t residue, int64_t size, int64_t taps, int64_t stride, int64_t pad, int64_t dil,
                      int64_t *first, int64_t *count, int64_t *n_tap, int64_t *tap_last, int64_t *tap_step,
                      int64_t *off, int64_t *src_dil) {
    *first = ((residue - pad) % stride + stride) % stride;
    *count = *first < size ? dt_ceil_div(size - *first, stride) : 0;
    *tap_step = stride / gcd(stride, dil);
    *src_dil = *tap_step * dil / stride;
    *n_tap = 0;
    *tap_last = 0;
    for (int64_t t = 0; t < taps; t++)
        if (t * dil % stride == residue) {
            *tap_last = t;
            ++*n_tap;
        }
    *off = (*first + pad - *tap_last * dil) / stride; /* exact: the residues agree */
}

/* Of an axis the taps that see a pixel for any output: all but where images are smaller than the kernel. */
static void seeing_taps(int64_t size, int64_t n_out, int64_t taps, int64_t stride, int64_t pad, int64_t dil,
                        int64_t *first, int64_t *count) {
    int64_t last = 0;
    *first = -1;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t i = 0; i < n_out; i++) {
            const int64_t at = i * stride - pad + t * dil;
            if (at < 0 || at >= size) continue;
            if (*first < 0) *first = t;
            last = t;
            break;
        }
    if (*first < 0) *first = 0;
    *count = last + 1 - *first;
}

static int64_t part_count(const dt_cpu_conv_plan *plan) {
    return plan->kind == DT_CPU_CONV_FORWARD ? 1 : plan->dims.stride_h * plan->dims.stride_w;
}

static part part_get(const dt_cpu_conv_plan *plan, int64_t index) {
    const dt_conv_dims *d = &plan->dims;
    part t = {.to = {.step_h = 1, .step_w = 1}};
    if (plan->kind != DT_CPU_CONV_DGRAD) {
        t.g = (dt_cpu_gather){.src_h = d->h,
                              .src_w = d->w,
                              .src_c = d->c,
                              .c = d->c / d->groups,
                              .out_h = d->p,
                              .out_w = d->q,
                              .stride_h = d->stride_h,
                              .stride_w = d->stride_w,
                              .off_h = -d->pad_h,
                              .off_w = -d->pad_w,
                              .dil_h = d->dil_h,
                              .dil_w = d->dil_w,
                              .taps_h = d->r,
                              .taps_w = d->s};
        if (plan->kept && d->r < TAPS_MAX && d->s < TAPS_MAX) {
            seeing_taps(d->h, d->p, d->r, d->stride_h, d->pad_h, d->dil_h, &t.r_first, &t.g.taps_h);
            seeing_taps(d->w, d->q, d->s, d->stride_w, d->pad_w, d->dil_w, &t.s_first, &t.g.taps_w);
            t.g.off_h += t.r_first * d->dil_h, t.g.off_w += t.s_first * d->dil_w;
        }
    } else {
        t.g = (dt_cpu_gather){
            .src_h = d->p, .src_w = d->q, .src_c = d->k, .c = d->k / d->groups, .stride_h = 1, .stride_w = 1};
        t.to = (dt_cpu_scatter){
            .dst_h = d->h, .dst_w = d->w, .dst_c = d->c, .step_h = d->stride_h, .step_w = d->stride_w};
        axis_taps(index / d->stride_w, d->h, d->r, d->stride_h, d->pad_h, d->dil_h, &t.to.h0, &t.g.out_h,
                  &t.g.taps_h, &t.r_last, &t.r_step, &t.g.off_h, &t.g.dil_h);
        axis_taps(index % d->stride_w, d->w, d->s, d->stride_w, d->pad_w, d->dil_w, &t.to.w0, &t.g.out_w,
                  &t.g.taps_w, &t.s_last, &t.s_step, &t.g.off_w, &t.g.dil_w);
    }
    t.to.out_h = t.g.out_h;
    t.to.out_w = t.g.out_w;
    t.rows = d->n * t.g.out_h * t.g.out_w;
    t.depth = t.g.taps_h * t.g.taps_w * t.g.c;
    return t;
}

/* The windows are the source itself: 1x1, stride 1, no padding. */
static bool gather_is_identity(const dt_cpu_gather *g) {
    return g->taps_h == 1 && g->taps_w == 1 && g->stride_h == 1 && g->stride_w == 1 && g->off_h == 0 &&
           g->off_w == 0 && g->out_h == g->src_h && g->out_w == g->src_w;
}

void dt_cpu_pack_panel(float *dst, int64_t nr, int64_t n, int64_t n_row, const float *src, int64_t step_row,
                       int64_t step_col) {
    if (step_col == 1) {
        for (int64_t i = 0; i < n_row; i++) {
            memcpy(dst + i * nr, src + i * step_row, (size_t)n * sizeof *dst);
            if (n < nr) memset(dst + i * nr + n, 0, (size_t)(nr - n) * sizeof *dst);
        }
        return;
    }
    dt_cpu_simd_get()->pack_turned(n, n_row, src, step_col, dst);
}

/* Packs panel `index` of group `group`. */
static void part_pack(const dt_cpu_conv_plan *plan, const part *t, const float *w, int64_t group,
                      int64_t index, int64_t nr, float *dst) {
    const dt_conv_dims *d = &plan->dims;
    const int64_t cg = d->c / d->groups, kg = d->k / d->groups, row = d->r * d->s * cg;
    const float *wg = w + group * kg * row;
    if (plan->kind == DT_CPU_CONV_FORWARD) {
        const float *from = wg + index * nr * row + (t->r_first * d->s + t->s_first) * cg;
        const int64_t n = dt_min_i64(nr, kg - index * nr), line = t->g.taps_w * cg;
        const bool whole = t->g.taps_w == d->s; /* taps of all rows stand side by side */
        for (int64_t th = 0; th < (whole ? 1 : t->g.taps_h); th++)
            dt_cpu_pack_panel(dst + th * line * nr, nr, n, whole ? t->depth : line, from + th * d->s * cg, 1,
                              row);
        return;
    }
    for (int64_t th = 0; th < t->g.taps_h; th++)
        for (int64_t tw = 0; tw < t->g.taps_w; tw++) {
            const int64_t tap = (t->r_last - th * t->r_step) * d->s + (t->s_last - tw * t->s_step);
            dt_cpu_pack_panel(dst + (th * t->g.taps_w + tw) * kg * nr, nr, dt_min_i64(nr, cg - index * nr),
                              kg, wg + tap * cg + index * nr, row, 1);
        }
}

static int64_t out_channels(const dt_cpu_conv_plan *plan) {
    return plan->kind == DT_CPU_CONV_DGRAD ? plan->dims.c : plan->dims.k;
}

/* Parts of the rows that wgrad sums up apart: from the sizes alone, or the bits of dw would depend on the
 * number of threads. Where dw has many columns the threads share those. */
static int64_t wgrad_parts(const dt_conv_dims *d) {
    const int64_t cols = d->r * d->s * (d->c / d->groups), rows = d->n * d->p * d->q;
    const int64_t fit = 1 + PARTIAL_BYTES_MAX / (d->k * cols * (int64_t)sizeof(float));
    const int64_t wanted = DT_CPU_CONV_PARTS / dt_ceil_div(cols, SHARE_COLS);
    return dt_cpu_conv_parts(dt_min_i64(dt_min_i64(wanted, fit), rows / WGRAD_ROWS_MAX));
}

/* How threads share the gradient of the weights: an item is one part of the rows, `cols` columns and
 * `channels` rows of dw. The items past the first few cost more reading, so there are more of them only where
 * that evens the threads' loads out. */
typedef struct wgrad_grid {
    int64_t parts, across, down; /* items: their product */
    int64_t cols, channels;
} wgrad_grid;

static wgrad_grid wgrad_grid_make(const dt_cpu_conv_plan *plan, int64_t nr) {
    const dt_conv_dims *d = &plan->dims;
    const int64_t cols = d->r * d->s * (d->c / d->groups), panels = dt_ceil_div(cols, nr);
    const int64_t unit = d->groups > 1 ? d->k / d->groups : 16, units = dt_ceil_div(d->k, unit);
    wgrad_grid best = {.parts = wgrad_parts(d)};
    double best_cost = 0;
    for (int64_t down = 1; down <= dt_min_i64(units, plan->threads); down++)
        for (int64_t across = 1; across <= dt_min_i64(panels, plan->threads); across++) {
            const int64_t wide = dt_ceil_div(panels, across), high = dt_ceil_div(units, down);
            const int64_t rounds = dt_ceil_div(best.parts * across * down, plan->threads);
            const double cost = (double)(rounds * wide * high);
            if (best_cost > 0 && cost > best_cost * 0.97) continue;
            best_cost = cost;
            best.cols = dt_min_i64(cols, wide * nr);
            best.channels = dt_min_i64(d->k, high * unit);
        }
    best.across = dt_ceil_div(cols, best.cols);
    best.down = dt_ceil_div(d->k, best.channels);
    return best;
}

/* Columns of dw summed up at a time, so that the sums stay in a thread's cache. */
static int64_t wgrad_chunk(const dt_cpu_conv_plan *plan, int64_t nr, const wgrad_grid *grid) {
    const int64_t high = dt_min_i64(grid->channels, plan->dims.k / plan->dims.groups);
    const int64_t chunks = dt_ceil_div(grid->cols * high * (int64_t)sizeof(float), SUM_BYTES);
    return dt_min_i64(grid->cols, dt_round_up(dt_ceil_div(grid->cols, chunks), nr));
}

void dt_cpu_conv_gemm_plan(dt_cpu_conv_plan *plan) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const dt_conv_dims *d = &plan->dims;
    const int64_t fl = (int64_t)sizeof(float);
    if (plan->kind == DT_CPU_CONV_WGRAD) {
        const wgrad_grid grid = wgrad_grid_make(plan, simd->nr);
        const int64_t pitch = dt_cpu_pitch(wgrad_chunk(plan, simd->nr, &grid));
        plan->tile = dt_max_i64(32, dt_min_i64(WGRAD_ROWS_MAX, TILE_BYTES / (pitch * fl)));
        plan->thread_bytes = plan->tile * pitch * fl;
        plan->shared_bytes = (grid.parts - 1) * d->k * d->r * d->s * (d->c / d->groups) * fl;
        return;
    }
    int64_t depth = 0, rows = 0;
    for (int64_t i = 0; i < part_count(plan); i++) {
        const part t = part_get(plan, i);
        depth = dt_max_i64(depth, t.depth);
        rows = dt_max_i64(rows, t.rows);
    }
    const int64_t n = out_channels(plan) / d->groups;
    plan->tile = TILE_BYTES / (dt_cpu_pitch(depth) * fl);
    plan->tile = dt_min_i64(plan->tile, dt_ceil_div(rows, 4 * plan->threads));
    plan->tile = dt_round_up(dt_max_i64(1, dt_min_i64(plan->tile, TILE_ROWS_MAX)), simd->mr);
    plan->thread_bytes = plan->tile * (dt_cpu_pitch(depth) + n) * fl;
    plan->packed_bytes = d->groups * dt_round_up(n, simd->nr) *
                         (d->r * d->s * (plan->kind == DT_CPU_CONV_FORWARD ? d->c : d->k) / d->groups) * fl;
    plan->form = 0;
    if (plan->kept) {
        const part t = part_get(plan, 0);
        plan->packed_bytes = d->groups * dt_round_up(n, simd->nr) * t.depth * fl;
        if (t.g.taps_h < d->r || t.g.taps_w < d->s)
            plan->form =
                (int32_t)(1 + ((t.r_first * TAPS_MAX + t.s_first) * TAPS_MAX + t.g.taps_h) * TAPS_MAX +
                          t.g.taps_w);
    }
    plan->shared_bytes = plan->kept ? 0 : plan->packed_bytes;
}

/* What FORWARD ends in, of rows of the output from element `at` on. */
static void end_block(const dt_cpu_conv_args *args, int64_t at, int64_t ld, int64_t rows, int64_t cols) {
    dt_cpu_end_rows(args->out + at, args->res ? args->res + at : NULL, ld, rows, cols, args->act);
}

/* Columns [col0, col1) of rows [row0, row0 + n_row) of one group. */
static void part_block(const dt_cpu_conv_plan *plan, const part *t, const dt_cpu_conv_args *args,
                       const float *packed, int64_t group, int64_t row0, int64_t n_row, int64_t col0,
                       int64_t col1, float *scratch) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const dt_conv_dims *d = &plan->dims;
    const int64_t channels = out_channels(plan), n = channels / d->groups;
    const bool strided = t->to.step_h != 1 || t->to.step_w != 1;
    float *out = args->out + group * n + col0;
    if (t->depth == 0) {
        simd->scatter(&t->to, NULL, row0, n_row, col1 - col0, out, 0);
        end_block(args, row0 * channels + group * n + col0, channels, n_row, col1 - col0);
        return;
    }
    dt_cpu_gather g = t->g;
    g.c0 = group * g.c;
    const float *src = plan->kind == DT_CPU_CONV_DGRAD ? args->dy : args->x;
    const int64_t pitch = dt_cpu_pitch(t->depth);
    const float *a = src + row0 * g.src_c + g.c0;
    int64_t lda = g.src_c;
    if (!gather_is_identity(&g) || dt_cpu_rows_collide(lda)) {
        simd->gather(&g, src, row0, n_row, 0, t->depth, scratch, pitch);
        a = scratch;
        lda = pitch;
    }
    float *tile = scratch + plan->tile * pitch;
    const float *bias = args->bias ? args->bias + group * n + col0 : NULL;
    simd->gemm_nn(n_row, col1 - col0, t->depth, a, lda, packed + col0 * t->depth, bias, 0,
                  strided ? tile : out + row0 * channels, strided ? n : channels, false);
    if (strided) simd->scatter(&t->to, tile, row0, n_row, col1 - col0, out, n);
    end_block(args, row0 * channels + group * n + col0, channels, n_row, col1 - col0);
}

/* A run, and how its work is cut. */
typedef struct work {
    const dt_cpu_conv_plan *plan;
    const dt_cpu_conv_args *args;
    const float *w;
    float *to;           /* where weights are packed: part by part, [group][panel][depth][nr] */
    const float *packed; /* the same */
    int64_t panels, tiles, per, splits;
} work;

static int64_t panels_of(const dt_cpu_conv_plan *plan) {
    return dt_ceil_div(out_channels(plan) / plan->dims.groups, dt_cpu_simd_get()->nr);
}

static void pack_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    const int64_t nr = dt_cpu_simd_get()->nr, groups = k->plan->dims.groups;
    float *to = k->to;
    for (int64_t i = 0; i < part_count(k->plan); i++) {
        const part t = part_get(k->plan, i);
        part_pack(k->plan, &t, k->w, item / k->panels, item % k->panels, nr, to + item * nr * t.depth);
        to += groups * k->panels * nr * t.depth;
    }
}

void dt_cpu_conv_gemm_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed) {
    const work k = {.plan = plan, .w = w, .to = packed, .panels = panels_of(plan)};
    const dt_cpu_stage stage = {plan->dims.groups * k.panels, pack_item, true};
    dt_cpu_share(dt_cpu_conv_crew(plan), &stage, 1, &k);
}

/* All parts of one stretch of the images in turn: they read the same source. */
static void run_item(const void *arg, int64_t item, int32_t worker) {
    const work *k = arg;
    const dt_cpu_conv_plan *plan = k->plan;
    const dt_conv_dims *d = &plan->dims;
    const int64_t nr = dt_cpu_simd_get()->nr, n = out_channels(plan) / d->groups;
    const int64_t split = item % k->splits, group = item / k->splits % d->groups,
                  tile = item / k->splits / d->groups;
    char *own = (char *)k->args->workspace + plan->shared_bytes + worker * plan->thread_bytes;
    const float *packed = k->packed;
    for (int64_t i = 0; i < part_count(plan); i++) {
        const part t = part_get(plan, i);
        const int64_t group_size = k->panels * nr * t.depth;
        const int64_t row0 = t.rows * tile / k->tiles, row1 = t.rows * (tile + 1) / k->tiles;
        if (row0 < row1)
            part_block(plan, &t, k->args, packed + group * group_size, group, row0, row1 - row0,
                       split * k->per * nr, dt_min_i64(n, (split + 1) * k->per * nr), (float *)(void *)own);
        packed += d->groups * group_size;
    }
}

void dt_cpu_conv_gemm_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args) {
    const dt_conv_dims *d = &plan->dims;
    work k = {.plan = plan, .args = args, .w = args->w};
    int64_t rows = 0;
    for (int64_t i = 0; i < part_count(plan); i++) rows = dt_max_i64(rows, part_get(plan, i).rows);
    k.panels = panels_of(plan);
    k.tiles = dt_ceil_div(rows, plan->tile);
    /* few rows: share the columns too */
    const int64_t want = k.tiles >= 2 * plan->threads ? 1 : 2 * plan->threads / k.tiles;
    k.per = dt_ceil_div(k.panels, dt_min_i64(want, k.panels));
    k.splits = dt_ceil_div(k.panels, k.per);
    k.to = args->workspace;
    k.packed = plan->kept ? args->packed : k.to;
    const dt_cpu_stage stage[] = {{plan->kept ? 0 : d->groups * k.panels, pack_item, true},
                                  {k.tiles * d->groups * k.splits, run_item, false}};
    dt_cpu_share(dt_cpu_conv_crew(plan), stage, 2, &k);
}

/* Columns [col0, col1) and rows [k0, k1) of dw [K, cols], summed over rows [row0, row1) of the windows. */
static void wgrad_share(const dt_cpu_conv_plan *plan, const part *t, const dt_cpu_conv_args *args,
                        int64_t col0, int64_t col1, int64_t k0, int64_t k1, int64_t row0, int64_t row1,
                        float *scratch, float *dw) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const dt_conv_dims *d = &plan->dims;
    const int64_t kg = d->k / d->groups, cols = t->depth, pitch = dt_cpu_pitch(col1 - col0);
    for (int64_t group = k0 / kg; group * kg < k1; group++) {
        const int64_t lo = dt_max_i64(k0, group * kg), hi = dt_min_i64(k1, (group + 1) * kg);
        dt_cpu_gather g = t->g;
        g.c0 = group * g.c;
        float *to = dw + lo * cols + col0;
        const bool direct = gather_is_identity(&g) && (col1 - col0) % simd->lanes == 0;
        for (int64_t row = row0; row < row1 || row == row0; row += plan->tile) {
            const int64_t n_row = dt_max_i64(0, dt_min_i64(plan->tile, row1 - row));
            const float *b = args->x + row * g.src_c + g.c0 + col0;
            if (!direct) {
                simd->gather(&g, args->x, row, n_row, col0, col1, scratch, pitch);
                b = scratch;
            }
            simd->gemm_tn(hi - lo, col1 - col0, n_row, args->dy + row * d->k + lo, d->k, b,
                          direct ? g.src_c : pitch, row == row0 ? NULL : to, cols, to, cols);
        }
    }
}

void dt_cpu_conv_gemm_wgrad(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args) {
    const dt_cpu_simd *simd = dt_cpu_simd_get();
    const dt_conv_dims *d = &plan->dims;
    const part t = part_get(plan, 0);
    const int64_t size = d->k * t.depth;
    const wgrad_grid grid = wgrad_grid_make(plan, simd->nr);
    const int64_t chunk = wgrad_chunk(plan, simd->nr, &grid);
    float *partial = args->workspace;
#pragma omp parallel num_threads(plan->threads)
    {
        char *own = (char *)args->workspace + plan->shared_bytes + omp_get_thread_num() * plan->thread_bytes;
#pragma omp for collapse(3) schedule(static, 1)
        for (int64_t p = 0; p < grid.parts; p++)
            for (int64_t i = 0; i < grid.down; i++)
                for (int64_t j = 0; j < grid.across; j++) {
                    const int64_t col1 = dt_min_i64((j + 1) * grid.cols, t.depth);
                    const int64_t k0 = i * grid.channels, k1 = dt_min_i64(k0 + grid.channels, d->k);
                    for (int64_t c = j * grid.cols; c < col1; c += chunk)
                        wgrad_share(plan, &t, args, c, dt_min_i64(c + chunk, col1), k0, k1,
                                    t.rows * p / grid.parts, t.rows * (p + 1) / grid.parts,
                                    (float *)(void *)own, p ? partial + (p - 1) * size : args->out);
                }
        dt_cpu_conv_add_parts(args->out, partial, size, grid.parts - 1);
    }
}
