/* Products of u8 with weights of 8 bits: how they are packed and cut. A piece of work is up to DT_CPU_Q_ROWS rows of the
 * result and some of its channels. Rows are read where they lie, by a pointer for each tap of the window; outside of the
 * image stands a row of zero points. Only where channels are no multiple of four are they copied. */
#include "quant.h"

#include <omp.h>
#include <string.h>

enum { ALIGN = 64, WORK_ALONE = 1 << 17 /* multiplications that are not worth a team */ };

/* Hands out parts of one piece of memory; without one it only counts. */
typedef struct room {
    char *at;
    int64_t used;
} room;

static void *take(room *r, int64_t bytes) {
    void *p = r->at ? r->at + r->used : NULL;
    r->used += dt_round_up(bytes, ALIGN);
    return p;
}

static dt_conv_dims dims_of(const dt_graph *g, const dt_node *n) {
    const dt_qproduct *q = n->attr.qproduct.product;
    const dt_value *x = &g->value[n->in[DT_QPRODUCT_IN_X]], *y = &g->value[n->out[0]];
    if (q->dense) {
        const int64_t m = dt_value_n_elem(x) / q->depth;
        return (dt_conv_dims){.n = 1,
                              .h = 1,
                              .w = m,
                              .c = q->depth,
                              .k = q->k,
                              .r = 1,
                              .s = 1,
                              .p = 1,
                              .q = m,
                              .stride_h = 1,
                              .stride_w = 1,
                              .dil_h = 1,
                              .dil_w = 1,
                              .groups = 1};
    }
    const dt_window_attr *t = &q->window;
    return (dt_conv_dims){.n = x->dim[0],
                          .h = x->dim[1],
                          .w = x->dim[2],
                          .c = x->dim[3],
                          .k = q->k,
                          .r = t->kernel[0],
                          .s = t->kernel[1],
                          .p = y->dim[1],
                          .q = y->dim[2],
                          .stride_h = t->stride[0],
                          .stride_w = t->stride[1],
                          .pad_h = t->pad_begin[0],
                          .pad_w = t->pad_begin[1],
                          .dil_h = t->dilation[0],
                          .dil_w = t->dilation[1],
                          .groups = t->groups};
}

/* All that follows from sizes; memory out of r. */
static void lay_out(const dt_graph *g, const dt_node *n, dt_cpu_qplan *p, room *r) {
    const dt_qproduct *q = n->attr.qproduct.product;
    p->q = q;
    p->dims = dims_of(g, n);
    const dt_conv_dims *d = &p->dims;
    const int64_t c_group = d->c / d->groups, k_group = d->k / d->groups;
    p->m = d->n * d->p * d->q;
    p->rows_each =
        dt_node_has(n, DT_QPRODUCT_IN_X_SCALE) ? p->m / g->value[n->in[DT_QPRODUCT_IN_X_SCALE]].dim[0] : 0;
    p->res = dt_node_has(n, DT_QPRODUCT_IN_RES) ? g->value[n->in[DT_QPRODUCT_IN_RES]].dtype : DT_DTYPE_U8;
    p->units = dt_ceil_div(k_group, DT_CPU_Q_UNIT);
    p->scale = take(r, d->k * (int64_t)sizeof *p->scale);
    p->shift = take(r, d->k * (int64_t)sizeof *p->shift);
    if (q->bits == 4) {
        p->blocks = dt_ceil_div(q->depth, q->block);
        const int64_t n_scale = p->units * DT_CPU_Q_UNIT * p->blocks;
        p->w4 = take(r, n_scale * (q->block / 8) * (int64_t)sizeof *p->w4);
        p->w4_scale = take(r, n_scale * (int64_t)sizeof *p->w4_scale);
        if (q->w4_zero) p->w4_mid = take(r, n_scale * (int64_t)sizeof *p->w4_mid);
        return;
    }
    p->sum = take(r, d->k * (int64_t)sizeof *p->sum);
    p->base = take(r, d->k * (int64_t)sizeof *p->base);
    p->depthwise = c_group == 1 && k_group == 1 && d->groups > 1;
    if (p->depthwise) {
        p->taps = q->depth, p->step = 1;
        p->w_wide = take(r, q->depth * d->k * (int64_t)sizeof *p->w_wide);
    } else {
        p->gather = c_group % 4 != 0;
        p->taps = p->gather ? 1 : d->r * d->s;
        p->step = dt_round_up(p->gather ? q->depth : c_group, 4);
        p->w = take(r, d->groups * p->units * p->taps * p->step * DT_CPU_Q_UNIT);
    }
    p->own = p->taps * DT_CPU_Q_ROWS * (int64_t)sizeof(uint8_t *) +
             (int64_t)DT_CPU_Q_ROWS * DT_CPU_Q_WIDE * DT_CPU_Q_UNIT * (int64_t)sizeof(int32_t) +
             dt_round_up(p->depthwise ? d->k : c_group, ALIGN) +
             (p->gather ? dt_round_up(DT_CPU_Q_ROWS * p->step, ALIGN) : 0);
    p->own = dt_round_up(p->own, ALIGN);
}

dt_status dt_cpu_qplan_bytes(const dt_graph *g, const dt_node *n, int64_t *bytes) {
    const dt_qproduct *q = n->attr.qproduct.product;
    const dt_conv_dims d = dims_of(g, n);
    dt_cpu_qplan p = {.threads = 1};
    room r = {.at = NULL};
    if (d.k > INT32_MAX / 64 || q->depth > INT32_MAX / 64 || d.k * q->depth > INT64_MAX / 256 ||
        d.n * d.p * d.q > INT64_MAX / d.k / 64)
        return dt_fail(DT_ERR_UNSUPPORTED, "a product of %lld numbers for each of %lld channels is too large",
                       (long long)q->depth, (long long)d.k);
    lay_out(g, n, &p, &r);
    *bytes = r.used + ALIGN;
    return DT_OK;
}

static void pack_weights(dt_cpu_qplan *p) {
    const dt_conv_dims *d = &p->dims;
    const int64_t depth = p->q->depth, k_group = d->k / d->groups, at_tap = depth / p->taps;
    const int64_t unit_bytes = p->taps * p->step * DT_CPU_Q_UNIT;
    for (int64_t k = 0; k < d->k; k++) {
        const int8_t *w = p->q->w + k * depth;
        int32_t sum = 0;
        for (int64_t i = 0; i < depth; i++) sum += w[i];
        p->sum[k] = sum;
        if (p->depthwise) {
            for (int64_t i = 0; i < depth; i++) p->w_wide[i * d->k + k] = w[i];
            continue;
        }
        const int64_t group = k / k_group, c = k % k_group;
        int8_t *to = p->w + (group * p->units + c / DT_CPU_Q_UNIT) * unit_bytes + c % DT_CPU_Q_UNIT * 4;
        for (int64_t t = 0; t < p->taps; t++)
            for (int64_t i = 0; i < at_tap; i++)
                to[(t * p->step + i / 4 * 4) * DT_CPU_Q_UNIT + i % 4] = w[t * at_tap + i];
    }
}

static void pack_4_bits(dt_cpu_qplan *p) {
    const dt_qproduct *q = p->q;
    const int64_t steps = q->block / 8;
    for (int64_t k = 0; k < q->k; k++)
        for (int64_t b = 0; b < p->blocks; b++) {
            const uint8_t *w = q->w4 + (k * p->blocks + b) * (q->block / 2);
            const int64_t at = (k / DT_CPU_Q_UNIT * p->blocks + b) * DT_CPU_Q_UNIT + k % DT_CPU_Q_UNIT,
                          to =
                              (k / DT_CPU_Q_UNIT * p->blocks + b) * steps * DT_CPU_Q_UNIT + k % DT_CPU_Q_UNIT;
            p->w4_scale[at] = q->w4_scale[k * p->blocks + b];
            if (p->w4_mid) p->w4_mid[at] = (float)(8 - q->w4_zero[k * p->blocks + b]);
            for (int64_t s = 0; s < steps; s++)
                p->w4[to + s * DT_CPU_Q_UNIT] = (uint32_t)w[4 * s] | (uint32_t)w[4 * s + 1] << 8 |
                                                (uint32_t)w[4 * s + 2] << 16 | (uint32_t)w[4 * s + 3] << 24;
        }
}

/* The sums in units of what they are rounded to, or as they are. */
static void find_scales(dt_cpu_qplan *p) {
    const dt_qproduct *q = p->q;
    const bool rounded = q->has_mid || q->y_type == DT_DTYPE_U8;
    const float to = q->has_mid ? q->mid.scale : q->y.scale;
    for (int64_t k = 0; k < q->k; k++) {
        const float x = p->rows_each ? 1 : q->x.scale;
        if (q->bits == 8) {
            const uint32_t moved = p->rows_each ? 0 : (uint32_t)q->x.zero * (uint32_t)p->sum[k];
            p->base[k] = (int32_t)((q->bias ? (uint32_t)q->bias[k] : 0) - moved);
            p->scale[k] = q->w_scale ? x * q->w_scale[k] : 1;
            if (rounded) p->scale[k] /= to;
        }
        p->shift[k] = q->bias_f32 ? (rounded ? q->bias_f32[k] / to : q->bias_f32[k]) : 0;
    }
}

void dt_cpu_qplan_make(const dt_graph *g, const dt_node *n, int32_t threads, const dt_cpu_qsimd *simd,
                       void *memory, dt_cpu_qplan *p) {
    room r = {.at = (char *)dt_round_up((int64_t)(intptr_t)memory, ALIGN)};
    *p = (dt_cpu_qplan){.threads = threads, .simd = simd};
    lay_out(g, n, p, &r);
    if (p->q->bits == 4)
        pack_4_bits(p);
    else
        pack_weights(p);
    find_scales(p);
}

int64_t dt_cpu_qplan_workspace(const dt_cpu_qplan *p) {
    return p->q->bits == 4 ? dt_cpu_q4_workspace(p) : p->own * p->threads;
}

/* ---- a piece of work ---- */

typedef struct piece {
    int64_t row, rows;
    const uint8_t **at; /* [taps][DT_CPU_Q_ROWS] */
    int32_t *acc;       /* [DT_CPU_Q_ROWS][DT_CPU_Q_WIDE units] */
    uint8_t *outside;   /* a row of zero points */
    uint8_t *copy;      /* rows that are copied */
} piece;

enum { ACC_WIDE = DT_CPU_Q_WIDE * DT_CPU_Q_UNIT };

static piece piece_of(const dt_cpu_qplan *p, char *own, int64_t row, int64_t rows) {
    const int64_t taps = p->taps * DT_CPU_Q_ROWS * (int64_t)sizeof(uint8_t *),
                  acc = (int64_t)DT_CPU_Q_ROWS * ACC_WIDE * (int64_t)sizeof(int32_t),
                  wide = p->depthwise ? p->dims.k : p->dims.c / p->dims.groups;
    piece s = {
        .row = row, .rows = rows, .acc = (int32_t *)(void *)own, .at = (const uint8_t **)(void *)(own + acc)};
    s.outside = (uint8_t *)own + acc + taps;
    s.copy = s.outside + dt_round_up(wide, ALIGN);
    return s;
}

/* The first tap of a row of the result, perhaps outside of the image; whether all of the window is inside. */
typedef struct corner {
    int64_t h, w;
    const uint8_t *image;
    bool inside;
} corner;

static corner corner_of(const dt_cpu_qplan *p, const uint8_t *x, int64_t row) {
    const dt_conv_dims *d = &p->dims;
    const int64_t image = row / (d->p * d->q), at = row % (d->p * d->q);
    corner c = {.h = at / d->q * d->stride_h - d->pad_h, .w = at % d->q * d->stride_w - d->pad_w};
    c.image = x + image * d->h * d->w * d->c;
    c.inside =
        c.h >= 0 && c.w >= 0 && c.h + (d->r - 1) * d->dil_h < d->h && c.w + (d->s - 1) * d->dil_w < d->w;
    return c;
}

/* Where every tap of every row begins: channel c0 of its pixel. */
static void find_rows(const dt_cpu_qplan *p, const uint8_t *x, int64_t c0, const piece *s) {
    const dt_conv_dims *d = &p->dims;
    for (int64_t r = 0; r < s->rows; r++) {
        const corner k = corner_of(p, x + c0, s->row + r);
        const uint8_t **to = s->at + r;
        int64_t from = (k.h * d->w + k.w) * d->c;
        for (int64_t i = 0; i < d->r; i++, from += d->dil_h * d->w * d->c) {
            const int64_t h = k.h + i * d->dil_h;
            const bool high = k.inside || (h >= 0 && h < d->h);
            for (int64_t j = 0; j < d->s; j++, to += DT_CPU_Q_ROWS) {
                const int64_t w = k.w + j * d->dil_w;
                *to = k.inside || (high && w >= 0 && w < d->w) ? k.image + from + j * d->dil_w * d->c
                                                               : s->outside;
            }
        }
    }
}

/* A few bytes, for which a call would take longer. */
DT_CPU_INLINE void copy_few(uint8_t *to, const uint8_t *from, int64_t n) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) memcpy(to + i, from + i, 4);
    for (; i < n; i++) to[i] = from[i];
}

/* The same of rows that are copied, tap after tap. */
static void copy_rows(const dt_cpu_qplan *p, const uint8_t *x, int64_t c0, const piece *s) {
    const dt_conv_dims *d = &p->dims;
    const int64_t c = d->c / d->groups, wide = d->s * c;
    const bool whole = d->dil_w == 1 && c == d->c;
    for (int64_t r = 0; r < s->rows; r++) {
        const corner k = corner_of(p, x + c0, s->row + r);
        int64_t from = (k.h * d->w + k.w) * d->c;
        uint8_t *to = s->copy + r * p->step;
        s->at[r] = to;
        memset(to + p->step - 4, 0, 4); /* what the depth is rounded up by: weights are 0 there */
        for (int64_t i = 0; i < d->r; i++, to += wide, from += d->dil_h * d->w * d->c) {
            const int64_t h = k.h + i * d->dil_h;
            const bool high = h >= 0 && h < d->h;
            if (whole && high && k.w >= 0 && k.w + d->s <= d->w) {
                copy_few(to, k.image + from, wide);
                continue;
            }
            for (int64_t j = 0; j < d->s; j++) {
                const int64_t w = k.w + j * d->dil_w;
                copy_few(to + j * c,
                         high && w >= 0 && w < d->w ? k.image + from + j * d->dil_w * d->c : s->outside, c);
            }
        }
    }
}

/* The sums of some units of a group. */
static void sum_units(const dt_cpu_qplan *p, const piece *s, int64_t group, int64_t unit, int32_t units) {
    const int64_t unit_bytes = p->taps * p->step * DT_CPU_Q_UNIT;
    const int8_t *w = p->w + (group * p->units + unit) * unit_bytes;
    const int32_t mr = p->simd->rows[units - 1];
    const int64_t taps_each = dt_max_i64(1, DT_CPU_Q_DEPTH / p->step),
                  part = dt_min_i64(p->step, DT_CPU_Q_DEPTH);
    for (int64_t t = 0; t < p->taps; t += taps_each)
        for (int64_t off = 0; off < p->step; off += part) {
            dt_cpu_qblock b = {.taps = dt_min_i64(taps_each, p->taps - t),
                               .off = off,
                               .steps = dt_min_i64(part, p->step - off) / 4,
                               .w = w + (t * p->step + off) * DT_CPU_Q_UNIT,
                               .unit_bytes = unit_bytes,
                               .ld = ACC_WIDE,
                               .add = t > 0 || off > 0};
            for (int64_t r = 0; r < s->rows; r += mr) {
                b.row = s->at + t * DT_CPU_Q_ROWS + r;
                b.acc = s->acc + r * ACC_WIDE;
                p->simd->block(&b, (int32_t)dt_min_i64(mr, s->rows - r), units);
            }
        }
}

/* Channels [k0, k0 + n) of a row, n <= ACC_WIDE. */
DT_CPU_SIMD static void sum_depthwise(int32_t *acc, const uint8_t *const *at, const int16_t *w, int64_t taps,
                                      int64_t channels, int64_t k0, int64_t n) {
    memset(acc, 0, (size_t)n * sizeof *acc);
    for (int64_t t = 0; t < taps; t++) {
        const uint8_t *x = at[t * DT_CPU_Q_ROWS] + k0;
        const int16_t *v = w + t * channels + k0;
        for (int64_t k = 0; k < n; k++) acc[k] += (int32_t)x[k] * v[k];
    }
}

static int32_t zero_of(const dt_cpu_qplan *p, const dt_binding *b, int64_t row) {
    const float *each = b->in[DT_QPRODUCT_IN_X_SCALE];
    return p->rows_each ? (int32_t)each[row / p->rows_each * 2 + 1] : p->q->x.zero;
}

/* Panels [first, last) of DT_CPU_Q_WIDE units, counted over all groups. */
static void run_piece(const dt_cpu_qplan *p, const dt_binding *b, const piece *s, int64_t first,
                      int64_t last) {
    const dt_conv_dims *d = &p->dims;
    const uint8_t *x = b->in[DT_QPRODUCT_IN_X];
    const int64_t wide = p->simd->wide, panels = dt_ceil_div(p->units, wide), k_group = d->k / d->groups;
    const int64_t c_group = d->c / d->groups;
    memset(s->outside, zero_of(p, b, s->row), (size_t)(p->depthwise ? d->k : c_group));
    if (p->depthwise) {
        find_rows(p, x, 0, s);
        for (int64_t k = 0; k < d->k; k += ACC_WIDE) {
            const int64_t n = dt_min_i64(ACC_WIDE, d->k - k);
            for (int64_t r = 0; r < s->rows; r++)
                sum_depthwise(s->acc + r * ACC_WIDE, s->at + r, p->w_wide, p->taps, d->k, k, n);
            dt_cpu_qproduct_end(p, b, s->acc, ACC_WIDE, s->row, s->rows, k, n);
        }
        return;
    }
    for (int64_t i = first, seen = -1; i < last; i++) {
        const int64_t group = i / panels, unit = i % panels * wide;
        if (group != seen) (p->gather ? copy_rows : find_rows)(p, x, group * c_group, s);
        seen = group;
        const int64_t units = dt_min_i64(wide, p->units - unit), k = unit * DT_CPU_Q_UNIT;
        sum_units(p, s, group, unit, (int32_t)units);
        dt_cpu_qproduct_end(p, b, s->acc, ACC_WIDE, s->row, s->rows, group * k_group + k,
                            dt_min_i64(units * DT_CPU_Q_UNIT, k_group - k));
    }
}

void dt_cpu_qproduct_run(const dt_cpu_qplan *p, const dt_binding *b) {
    const dt_conv_dims *d = &p->dims;
    /* Rows outside of an image are its zero points: a piece lies in one image where each has its own. */
    const bool apart = p->rows_each && !p->q->dense;
    const int64_t span = apart ? p->rows_each : p->m;
    /* Fewer rows than a piece may have where threads would be idle otherwise. */
    const int64_t panels = p->depthwise ? 1 : d->groups * dt_ceil_div(p->units, p->simd->wide);
    int64_t high = DT_CPU_Q_ROWS;
    while (high > 12 && dt_ceil_div(p->m, high) * (p->depthwise ? 1 : panels) < 4 * p->threads) high /= 2;
    const int64_t each = dt_ceil_div(span, high), pieces = p->m / span * each;
    const int64_t splits = dt_max_i64(1, dt_min_i64(panels, dt_ceil_div(4 * p->threads, pieces)));
    const bool alone = p->m * d->k * p->q->depth < WORK_ALONE;
#pragma omp parallel for schedule(static) num_threads(p->threads) if (!alone)
    for (int64_t i = 0; i < pieces * splits; i++) {
        const int64_t at = i / splits, part = i % splits, row = at / each * span + at % each * high;
        const int64_t rows = dt_min_i64(high, (at / each + 1) * span - row);
        const piece s = piece_of(p, (char *)b->workspace + omp_get_thread_num() * p->own, row, rows);
        run_piece(p, b, &s, panels * part / splits, panels * (part + 1) / splits);
    }
}
