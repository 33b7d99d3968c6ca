/* 3x3 convolutions of stride 1 by Winograd's F(4x4,3x3): a quarter of the multiplications.
 *
 * A tile of 4x4 outputs and its 6x6 inputs become 36 products per pair of channels, so each of the 36 values
 * is one matrix product over tiles and channels. Two ways to order the work: "fused", where each thread takes
 * blocks of tiles from input to output inside its L2 cache, and "phased", for many channels, where all
 * threads first transform a chunk of tiles, then share the 36 products, then transform back: the weights are
 * read once per chunk. */
#include "conv_internal.h"

#include <omp.h>
#include <string.h>

enum {
    VALUES = 36,
    TILE = 4,
    FUSED_INPUT_BYTES = 600 * 1024, /* transformed inputs of one fused block */
    FUSED_SUM_BYTES = 1300 * 1024,  /* wgrad: sums that a thread keeps in its L2 */
    FUSED_TILES_MIN = 28,
    FUSED_TILES_MAX = 112,
    PHASED_TILES = 128,
    PASS_BYTES = 10 * 1024 * 1024, /* phased: transformed weights, or sums of wgrad, at a time */
    PART_TILES = 256               /* wgrad: tiles of a part, at least, times `across` of wgrad_grid */
};

/* The gradient of the weights: parts of the tiles that are summed up apart, and shares of the output
 * channels, a whole number of vectors each, whose sums fit into a thread's cache. `across` 0: phased, all
 * threads on one part after the other. The result depends on the parts alone, and they on sizes alone. */
typedef struct wgrad_grid {
    int64_t parts, across;
} wgrad_grid;

/* Sizes of one convolution as the algorithm sees it: src -> dst images and channels. */
typedef struct layout {
    int64_t src_h, src_w, src_c, dst_h, dst_w, dst_c, pad_h, pad_w;
    int64_t tiles_h, tiles_w, tiles; /* over the images of the batch */
    int64_t nr, panels, panel_size;  /* weights: 36 steps of [panels][src_c][nr] */
    int64_t weight_step, sum_step;   /* sums of wgrad: 36 steps of [dst_c of a thread or pass][src_c] */
    int64_t pitch, step;             /* transformed src: [36] steps of [tile][pitch] */
    int64_t out_pitch, out_step;     /* products: the same */
    int64_t cut;                     /* channels of dst taken at a time: all, unless phased */
    wgrad_grid grid;                 /* wgrad */
    bool phased;
    const dt_cpu_simd *simd;
} layout;

bool dt_cpu_conv_winograd_applies(const dt_conv_dims *d) {
    return d->r == 3 && d->s == 3 && d->stride_h == 1 && d->stride_w == 1 && d->dil_h == 1 && d->dil_w == 1 &&
           d->groups == 1 && d->pad_h <= 2 && d->pad_w <= 2 && d->c % 16 == 0 && d->k % 16 == 0;
}

/* Floats between the 36 values: an odd number of cache lines, or all of them fall on the same sets. */
static int64_t value_step(int64_t n) {
    return dt_cpu_pitch(n);
}

static int64_t floats_bytes(int64_t n) {
    return n * (int64_t)sizeof(float);
}

/* Everything but what follows from the number of tiles in a block. */
static layout layout_sizes(const dt_cpu_conv_plan *plan) {
    const dt_conv_dims *d = &plan->dims;
    layout l = {.src_h = d->h,
                .src_w = d->w,
                .src_c = d->c,
                .dst_h = d->p,
                .dst_w = d->q,
                .dst_c = d->k,
                .pad_h = d->pad_h,
                .pad_w = d->pad_w};
    if (plan->kind == DT_CPU_CONV_DGRAD)
        l = (layout){.src_h = d->p,
                     .src_w = d->q,
                     .src_c = d->k,
                     .dst_h = d->h,
                     .dst_w = d->w,
                     .dst_c = d->c,
                     .pad_h = 2 - d->pad_h,
                     .pad_w = 2 - d->pad_w};
    l.tiles_h = dt_ceil_div(l.dst_h, TILE);
    l.tiles_w = dt_ceil_div(l.dst_w, TILE);
    l.tiles = d->n * l.tiles_h * l.tiles_w;
    l.simd = dt_cpu_simd_get();
    l.nr = l.simd->nr;
    l.panel_size = l.src_c * l.nr;
    l.pitch = dt_cpu_pitch(l.src_c);
    return l;
}

static wgrad_grid wgrad_grid_make(const dt_cpu_conv_plan *plan, int64_t tiles) {
    const int64_t k = plan->dims.k, sums = floats_bytes(VALUES * k * plan->dims.c);
    int64_t least = 1; /* the fewest shares whose sums fit */
    while (least * 16 <= k && (k % (least * 16) || sums / least > FUSED_SUM_BYTES)) least++;
    wgrad_grid best = {.parts = 1};
    if (least * 16 > k) return best;
    best.parts = dt_cpu_conv_parts(dt_min_i64(DT_CPU_CONV_PARTS / least, tiles / (PART_TILES * least)));
    /* Work per thread, in units of all of it. Measured: phased costs more where one share is all, and some
     * for its barriers; and every share transforms the input again. */
    double best_cost = (least == 1 ? 1.4 : plan->threads > 1 ? 1.15 : 1.0) / plan->threads;
    for (int64_t across = least; across * 16 <= k; across++) {
        if (k % (across * 16)) continue;
        const int64_t items = best.parts * across, rounds = dt_ceil_div(items, plan->threads);
        const double cost = (double)rounds / (double)items * (1 + 12.0 * (double)(across - 1) / (double)k);
        if (cost >= best_cost) continue;
        best_cost = cost;
        best.across = across;
    }
    return best;
}

static layout layout_get(const dt_cpu_conv_plan *plan) {
    layout l = layout_sizes(plan);
    const bool wgrad = plan->kind == DT_CPU_CONV_WGRAD;
    if (wgrad) l.grid = wgrad_grid_make(plan, l.tiles);
    l.phased =
        wgrad ? l.grid.across == 0 : floats_bytes(VALUES * FUSED_TILES_MIN * l.pitch) > FUSED_INPUT_BYTES;
    l.cut = l.dst_c;
    if (l.phased && !plan->kept) {
        const int64_t most = PASS_BYTES / floats_bytes(VALUES * l.src_c) / l.nr * l.nr;
        l.cut = dt_min_i64(l.dst_c, dt_max_i64(l.nr, most));
    }
    const int64_t columns = wgrad && !l.phased ? l.dst_c / l.grid.across : l.cut;
    l.panels = dt_ceil_div(l.cut, l.nr);
    l.weight_step = value_step(l.panels * l.panel_size);
    l.sum_step = value_step(columns * l.src_c);
    l.step = value_step(plan->tile * l.pitch);
    l.out_pitch = wgrad || l.phased ? dt_cpu_pitch(columns) : l.nr;
    l.out_step = value_step(plan->tile * l.out_pitch);
    return l;
}

void dt_cpu_conv_winograd_plan(dt_cpu_conv_plan *plan) {
    layout l = layout_get(plan);
    const int64_t zeros = dt_max_i64(l.src_c, l.dst_c);
    const bool wgrad = plan->kind == DT_CPU_CONV_WGRAD;
    const int64_t workers = wgrad ? l.grid.parts : plan->threads;
    if (l.phased) {
        plan->tile = dt_min_i64(PHASED_TILES, l.tiles);
    } else { /* as many tiles as fit, in blocks of equal size, the same number for each thread or part */
        const int64_t row = floats_bytes(VALUES * (wgrad ? l.pitch + l.out_pitch : l.pitch));
        const int64_t most =
            dt_max_i64(FUSED_TILES_MIN, dt_min_i64(FUSED_TILES_MAX, FUSED_INPUT_BYTES / row));
        const int64_t blocks = dt_round_up(dt_ceil_div(l.tiles, most), workers);
        plan->tile = dt_ceil_div(l.tiles, blocks);
    }
    l = layout_get(plan);
    const int64_t values = VALUES * (l.step + l.out_step);
    const int64_t weights = wgrad || plan->kept ? 0 : VALUES * l.weight_step;
    const int64_t sums = wgrad ? VALUES * l.sum_step : 0;
    const int64_t parts = wgrad ? (l.grid.parts - 1) * 9 * l.src_c * l.dst_c : 0;
    plan->packed_bytes = wgrad ? 0 : floats_bytes(VALUES * l.weight_step);
    plan->shared_bytes = floats_bytes(zeros + weights + (l.phased ? values + sums : parts));
    plan->thread_bytes = l.phased ? 0 : floats_bytes(values + sums);
}

/* Addresses of a side x side window of an image [h, w, c]; `zeros` stands for pixels outside. */
static void window_pixels(const float *image, int64_t h, int64_t w, int64_t c, int64_t h0, int64_t w0,
                          int64_t side, const float *zeros, const float **pixel) {
    for (int64_t i = 0; i < side; i++) {
        const bool row_in = h0 + i >= 0 && h0 + i < h;
        for (int64_t j = 0; j < side; j++) {
            const bool in = row_in && w0 + j >= 0 && w0 + j < w;
            pixel[i * side + j] = in ? image + ((h0 + i) * w + w0 + j) * c : zeros;
        }
    }
}

/* Position of a tile: image, and the output pixel of its corner. */
static void tile_place(const layout *l, int64_t tile, int64_t *image, int64_t *h, int64_t *w) {
    *image = tile / (l->tiles_h * l->tiles_w);
    *h = tile / l->tiles_w % l->tiles_h * TILE;
    *w = tile % l->tiles_w * TILE;
}

static void transform_input(const layout *l, const float *src, const float *zeros, int64_t tile, float *dst) {
    const float *pixel[VALUES];
    int64_t image, h, w;
    tile_place(l, tile, &image, &h, &w);
    window_pixels(src + image * l->src_h * l->src_w * l->src_c, l->src_h, l->src_w, l->src_c, h - l->pad_h,
                  w - l->pad_w, TILE + 2, zeros, pixel);
    l->simd->winograd_input(pixel, l->src_c, dst, l->step);
}

/* Channels [k0, k0 + n) of dy. */
static void transform_grad(const layout *l, const float *dy, const float *zeros, int64_t tile, int64_t k0,
                           int64_t n, float *dst) {
    const float *pixel[TILE * TILE];
    int64_t image, h, w;
    tile_place(l, tile, &image, &h, &w);
    window_pixels(dy + image * l->dst_h * l->dst_w * l->dst_c + k0, l->dst_h, l->dst_w, l->dst_c, h, w, TILE,
                  zeros, pixel);
    l->simd->winograd_grad(pixel, n, dst, l->out_step);
}

/* Channels [c0, c0 + n) of one output tile. */
static void transform_output(const layout *l, const float *values, int64_t tile, int64_t c0, int64_t n,
                             const dt_cpu_conv_args *args) {
    int64_t image, h, w;
    tile_place(l, tile, &image, &h, &w);
    const int64_t at = ((image * l->dst_h + h) * l->dst_w + w) * l->dst_c + c0, line = l->dst_w * l->dst_c;
    const int64_t rows = dt_min_i64(TILE, l->dst_h - h), cols = dt_min_i64(TILE, l->dst_w - w);
    l->simd->winograd_output(values, l->out_step, n, args->bias ? args->bias + c0 : NULL, args->out + at,
                             line, l->dst_c, rows, cols);
    for (int64_t i = 0; i < rows; i++)
        dt_cpu_end_rows(args->out + at + i * line, args->res ? args->res + at + i * line : NULL, l->dst_c,
                        cols, n, args->act);
}

/* Weights of output panel `panel` and 16 source channels from c0, transformed; `weights` starts at panel
 * `first`. */
static void transform_filter(const dt_cpu_conv_plan *plan, const layout *l, const float *w, int64_t panel,
                             int64_t first, int64_t c0, float *weights) {
    const int64_t c = plan->dims.c, width = dt_min_i64(l->nr, l->dst_c - panel * l->nr);
    float *dst = weights + (panel - first) * l->panel_size + c0 * l->nr;
    for (int64_t at = 0; at < width; at += l->simd->lanes, dst += l->simd->lanes) {
        const int64_t o = panel * l->nr + at;  /* first of the output channels of this vector */
        if (plan->kind == DT_CPU_CONV_DGRAD) { /* w [source][tap][output] */
            l->simd->winograd_filter(w + c0 * 9 * c + o, c, 9 * c, true, 16, dst, l->weight_step);
            continue;
        }
        float turned[9 * 16 * 16]; /* [tap][source][output] out of w [output][tap][source] */
        for (int64_t i = 0; i < l->simd->lanes; i++)
            for (int64_t tap = 0; tap < 9; tap++) {
                const float *from = w + ((o + i) * 9 + tap) * c + c0;
                __builtin_prefetch(from + 32); /* for the calls to come: too far apart for the hardware */
                for (int64_t j = 0; j < 16; j++) turned[(tap * 16 + j) * l->simd->lanes + i] = from[j];
            }
        l->simd->winograd_filter(turned, 16 * l->simd->lanes, l->simd->lanes, false, 16, dst, l->weight_step);
    }
}

/* Tiles [t0, t1) from input to output, in the memory of one thread. */
static void fused_block(const layout *l, const dt_cpu_conv_args *args, const float *src, const float *zeros,
                        const float *weights, int64_t t0, int64_t t1, float *values) {
    float *products = values + VALUES * l->step;
    for (int64_t t = t0; t < t1; t++) transform_input(l, src, zeros, t, values + (t - t0) * l->pitch);
    for (int64_t panel = 0; panel < l->panels; panel++) {
        const int64_t c0 = panel * l->nr, n = dt_min_i64(l->nr, l->dst_c - c0);
        for (int64_t v = 0; v < VALUES; v++)
            l->simd->gemm_nn(t1 - t0, n, l->src_c, values + v * l->step, l->pitch,
                             weights + v * l->weight_step + panel * l->panel_size, NULL, 0,
                             products + v * l->out_step, l->out_pitch, false);
        for (int64_t t = t0; t < t1; t++)
            transform_output(l, products + (t - t0) * l->out_pitch, t, c0, n, args);
    }
}

/* Columns of one of the 36 products a work item takes, so that there are a few items for each thread. */
static int64_t columns_per_item(const dt_cpu_conv_plan *plan, int64_t columns, int64_t unit) {
    const int64_t items = dt_ceil_div(4 * plan->threads, VALUES);
    return dt_round_up(dt_ceil_div(columns, items), unit);
}

/* What runs at once: output channels [c0, c0 + n), of which the weights are there, of tiles [t0, t1). */
typedef struct work {
    const dt_cpu_conv_plan *plan;
    const layout *l;
    const dt_cpu_conv_args *args;
    const float *src, *zeros, *w;
    float *to;            /* where weights go */
    const float *weights; /* the same */
    float *values;        /* phased: transformed inputs, then products */
    int64_t c0, n, t0, t1, per;
} work;

static void filter_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    const int64_t cuts = k->l->src_c / 16, first = k->c0 / k->l->nr;
    transform_filter(k->plan, k->l, k->w, first + item / cuts, first, item % cuts * 16, k->to);
}

static void fused_item(const void *arg, int64_t item, int32_t worker) {
    const work *k = arg;
    const int64_t t0 = item * k->plan->tile;
    char *own = (char *)k->args->workspace + k->plan->shared_bytes + worker * k->plan->thread_bytes;
    fused_block(k->l, k->args, k->src, k->zeros, k->weights, t0, dt_min_i64(t0 + k->plan->tile, k->l->tiles),
                (float *)(void *)own);
}

static void input_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    transform_input(k->l, k->src, k->zeros, k->t0 + item, k->values + item * k->l->pitch);
}

static void product_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    const layout *l = k->l;
    const int64_t cuts = dt_ceil_div(k->n, k->per), v = item / cuts, c = item % cuts * k->per;
    l->simd->gemm_nn(k->t1 - k->t0, dt_min_i64(k->per, k->n - c), l->src_c, k->values + v * l->step, l->pitch,
                     k->weights + v * l->weight_step + c * l->src_c, NULL, 0,
                     k->values + VALUES * l->step + v * l->out_step + c, l->out_pitch, false);
}

static void output_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const work *k = arg;
    transform_output(k->l, k->values + VALUES * k->l->step + item * k->l->out_pitch, k->t0 + item, k->c0,
                     k->n, k->args);
}

static dt_cpu_stage filter_stage(const layout *l, int64_t n) {
    return (dt_cpu_stage){dt_ceil_div(n, l->nr) * (l->src_c / 16), filter_item, true};
}

void dt_cpu_conv_winograd_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed) {
    const layout l = layout_get(plan);
    const work k = {.plan = plan, .l = &l, .w = w, .to = packed};
    const dt_cpu_stage stage = filter_stage(&l, l.dst_c);
    dt_cpu_share(dt_cpu_conv_crew(plan), &stage, 1, &k);
}

void dt_cpu_conv_winograd_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args) {
    const layout l = layout_get(plan);
    float *zeros = args->workspace;
    work k = {.plan = plan,
              .l = &l,
              .args = args,
              .src = plan->kind == DT_CPU_CONV_DGRAD ? args->dy : args->x,
              .zeros = zeros,
              .w = args->w,
              .to = zeros + dt_max_i64(l.src_c, l.dst_c)};
    k.weights = plan->kept ? args->packed : k.to;
    k.values = k.to + (plan->kept ? 0 : VALUES * l.weight_step);
    memset(zeros, 0, (size_t)floats_bytes(dt_max_i64(l.src_c, l.dst_c)));
    for (k.c0 = 0; k.c0 < l.dst_c; k.c0 += l.cut) {
        k.n = dt_min_i64(l.cut, l.dst_c - k.c0);
        k.per = columns_per_item(plan, k.n, l.nr);
        dt_cpu_stage filter = filter_stage(&l, k.n);
        if (plan->kept) filter.n = 0;
        if (!l.phased) {
            const dt_cpu_stage stage[] = {filter, {dt_ceil_div(l.tiles, plan->tile), fused_item, false}};
            dt_cpu_share(dt_cpu_conv_crew(plan), stage, 2, &k);
        }
        for (k.t0 = 0; l.phased && k.t0 < l.tiles; k.t0 = k.t1, filter.n = 0) {
            k.t1 = dt_min_i64(k.t0 + plan->tile, l.tiles);
            const bool inputs = k.c0 == 0 || l.tiles > plan->tile; /* else there from the channels before */
            const dt_cpu_stage stage[] = {filter,
                                          {inputs ? k.t1 - k.t0 : 0, input_item, true},
                                          {VALUES * dt_ceil_div(k.n, k.per), product_item, false},
                                          {k.t1 - k.t0, output_item, true}};
            dt_cpu_share(dt_cpu_conv_crew(plan), stage, 4, &k);
        }
    }
}

/* Output channels [k0, k0 + n) of dw from tiles [t0, t1), in the memory of one thread. */
static void fused_wgrad(const dt_cpu_conv_plan *plan, const layout *l, const dt_cpu_conv_args *args,
                        const float *zeros, int64_t k0, int64_t n, int64_t t0, int64_t t1, float *values,
                        float *dw) {
    float *grads = values + VALUES * l->step, *sums = grads + VALUES * l->out_step;
    for (int64_t t = t0; t < t1; t += plan->tile) {
        const int64_t end = dt_min_i64(t + plan->tile, t1);
        for (int64_t i = t; i < end; i++) {
            transform_input(l, args->x, zeros, i, values + (i - t) * l->pitch);
            transform_grad(l, args->dy, zeros, i, k0, n, grads + (i - t) * l->out_pitch);
        }
        for (int64_t v = 0; v < VALUES; v++) {
            float *sum = sums + v * l->sum_step;
            l->simd->gemm_tn(n, l->src_c, end - t, grads + v * l->out_step, l->out_pitch,
                             values + v * l->step, l->pitch, t > t0 ? sum : NULL, l->src_c, sum, l->src_c);
        }
    }
    for (int64_t k = 0; k < n; k++)
        l->simd->winograd_dw(sums + k * l->src_c, l->sum_step, l->src_c, dw + (k0 + k) * 9 * l->src_c, false);
}

static void wgrad_fused_team(const dt_cpu_conv_plan *plan, const layout *l, const dt_cpu_conv_args *args,
                             const float *zeros, float *partial) {
    float *own = (float *)(void *)((char *)args->workspace + plan->shared_bytes +
                                   omp_get_thread_num() * plan->thread_bytes);
    const int64_t n = l->dst_c / l->grid.across, parts = l->grid.parts, size = l->dst_c * 9 * l->src_c;
#pragma omp for collapse(2) schedule(dynamic)
    for (int64_t p = 0; p < parts; p++)
        for (int64_t k0 = 0; k0 < l->dst_c; k0 += n)
            fused_wgrad(plan, l, args, zeros, k0, n, l->tiles * p / parts, l->tiles * (p + 1) / parts, own,
                        p ? partial + (p - 1) * size : args->out);
    dt_cpu_conv_add_parts(args->out, partial, size, parts - 1);
}

/* Brings what the product walks over in strides into L2 as one stream. */
static void fetch_floats(const float *v, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(v + i, 0, 2);
}

/* All threads of a team: output channels [k0, k0 + n), part `p` of the tiles. */
static void wgrad_phased_pass(const dt_cpu_conv_plan *plan, const layout *l, const dt_cpu_conv_args *args,
                              const float *zeros, int64_t k0, int64_t n, int64_t p, float *values) {
    float *grads = values + VALUES * l->step, *sums = grads + VALUES * l->out_step;
    const int64_t per = columns_per_item(plan, n, 16);
    const int64_t first = l->tiles * p / l->grid.parts, last = l->tiles * (p + 1) / l->grid.parts;
    for (int64_t t0 = first; t0 < last; t0 += plan->tile) {
        const int64_t t1 = dt_min_i64(t0 + plan->tile, last);
        const bool inputs = k0 == 0 || last - first > plan->tile; /* else there from the pass before */
#pragma omp for schedule(static)
        for (int64_t t = t0; t < t1; t++) {
            if (inputs) transform_input(l, args->x, zeros, t, values + (t - t0) * l->pitch);
            transform_grad(l, args->dy, zeros, t, k0, n, grads + (t - t0) * l->out_pitch);
        }
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t v = 0; v < VALUES; v++)
            for (int64_t k = 0; k < n; k += per) {
                float *sum = sums + v * l->sum_step + k * l->src_c;
                const int64_t rows = dt_min_i64(per, n - k);
                fetch_floats(values + v * l->step, (t1 - t0) * l->pitch);
                fetch_floats(grads + v * l->out_step, (t1 - t0) * l->out_pitch);
                if (t0 > first) fetch_floats(sum, rows * l->src_c);
                l->simd->gemm_tn(rows, l->src_c, t1 - t0, grads + v * l->out_step + k, l->out_pitch,
                                 values + v * l->step, l->pitch, t0 > first ? sum : NULL, l->src_c, sum,
                                 l->src_c);
            }
    }
#pragma omp for schedule(static)
    for (int64_t k = 0; k < n; k++)
        l->simd->winograd_dw(sums + k * l->src_c, l->sum_step, l->src_c, args->out + (k0 + k) * 9 * l->src_c,
                             p > 0);
}

void dt_cpu_conv_winograd_wgrad(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args) {
    const layout l = layout_get(plan);
    float *zeros = args->workspace;
    const int64_t n_zero = dt_max_i64(l.src_c, l.dst_c);
    memset(zeros, 0, (size_t)floats_bytes(n_zero));
#pragma omp parallel num_threads(plan->threads)
    {
        if (!l.phased) wgrad_fused_team(plan, &l, args, zeros, zeros + n_zero);
        for (int64_t p = 0; l.phased && p < l.grid.parts; p++)
            for (int64_t k0 = 0; k0 < l.dst_c; k0 += l.cut)
                wgrad_phased_pass(plan, &l, args, zeros, k0, dt_min_i64(l.cut, l.dst_c - k0), p,
                                  zeros + n_zero);
    }
}
