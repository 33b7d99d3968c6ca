/* An interpreter of graphs in double: every op of core/op.h, forward, backward and fused, as plainly as its
 * definition. What passes, autodiff and whole programs are held against. Nothing shares memory except views,
 * so the result does not depend on any plan. Header only. */
#ifndef DT_TEST_GRAPH_ORACLE_H
#define DT_TEST_GRAPH_ORACLE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/edit.h"
#include "core/mix.h"
#include "core/broadcast.h"
#include "core/graph.h"
#include "core/op.h"
#include "core/qproduct.h"
#include "core/rng.h"
#include "core/step.h"
#include "op_scalar.h"
#include "test_check.h"

typedef struct oracle {
    const dt_graph *g; /* not owned */
    dt_step_params step;
    double **data; /* per value; a view shares its root's */
} oracle;

/* Zeroed memory for every value. */
static inline oracle oracle_open(const dt_graph *g, const dt_step_params *step) {
    oracle o = {.g = g, .step = *step, .data = check_alloc((size_t)g->n_value * sizeof(double *))};
    for (dt_vid v = 0; v < g->n_value; v++) {
        dt_vid root = dt_graph_root(g, v);
        o.data[v] =
            root == v ? check_alloc((size_t)dt_value_n_elem(&g->value[v]) * sizeof(double)) : o.data[root];
    }
    return o;
}

static inline void oracle_close(oracle *o) {
    for (dt_vid v = 0; v < o->g->n_value; v++)
        if (dt_graph_root(o->g, v) == v) free(o->data[v]);
    free(o->data);
}

enum { ORACLE_IN_MAX = 64 };

/* A node at work. */
typedef struct oracle_node {
    const oracle *o;
    const dt_node *n;
    const dt_attr *t;
    double *in[ORACLE_IN_MAX], *out[DT_SLOTS_OUT_MAX]; /* NULL: an empty slot */
    int64_t n_elem, c, m;                              /* of the main input: elements, last dim, rows */
} oracle_node;

static inline const dt_value *oracle_in(const oracle_node *x, int32_t i) {
    return &x->o->g->value[x->n->in[i]];
}
static inline const dt_value *oracle_out(const oracle_node *x, int32_t i) {
    return &x->o->g->value[x->n->out[i]];
}
static inline void oracle_zero(const oracle_node *x, int32_t i) {
    memset(x->out[i], 0, (size_t)dt_value_n_elem(oracle_out(x, i)) * sizeof(double));
}

/* Pixel (y, x) of the window of image n, rounded to a byte. */
static inline double oracle_bilinear(const oracle_node *node, int64_t n, double y, double x, int64_t c) {
    const dt_value *v = oracle_in(node, DT_INPUT_IMAGE);
    const double *aug = node->in[DT_INPUT_AUG] + n * 8, last_y = aug[3] - 1, last_x = aug[2] - 1;
    double sum = 0;
    y = fmin(fmax(y, 0), last_y), x = fmin(fmax(x, 0), last_x);
    for (int k = 0; k < 4; k++) {
        const double sy = fmin(floor(y) + k / 2, last_y), sx = fmin(floor(x) + k % 2, last_x);
        const double wy = k / 2 ? y - floor(y) : 1 - (y - floor(y)),
                     wx = k % 2 ? x - floor(x) : 1 - (x - floor(x));
        const int64_t row = n * v->dim[1] + (int64_t)(aug[1] + sy), col = (int64_t)(aug[0] + sx);
        sum += wy * wx * node->in[DT_INPUT_IMAGE][(row * v->dim[2] + col) * v->dim[3] + c];
    }
    return floor(sum + 0.5);
}

/* Channel c of an output pixel before anything is erased or mixed. */
static inline double oracle_pixel(const oracle_node *x, int64_t n, int64_t h, int64_t w, int64_t c) {
    const dt_value *src = oracle_in(x, DT_INPUT_IMAGE), *dst = oracle_out(x, 0);
    const int64_t n_h = dst->dim[1], n_w = dst->dim[2];
    const double *aug = x->in[DT_INPUT_AUG];
    double v;
    if (aug) {
        const int64_t col = aug[n * 8 + 4] > 0 ? n_w - 1 - w : w;
        v = oracle_bilinear(x, n, ((double)h + 0.5) * aug[n * 8 + 3] / (double)n_h - 0.5,
                            ((double)col + 0.5) * aug[n * 8 + 2] / (double)n_w - 0.5, c);
    } else {
        v = x->in[DT_INPUT_IMAGE][((n * n_h + h) * n_w + w) * src->dim[3] + c];
    }
    return (v / 255 - (double)x->t->input.mean[c]) / (double)x->t->input.stddev[c];
}

/* Of a row of mix: its fields were read as whole numbers. */
static inline dt_mix oracle_mix(const oracle_node *x, int64_t n) {
    int32_t whole[DT_MIX_INTS];
    dt_mix m;
    for (int i = 0; i < DT_MIX_INTS; i++) whole[i] = (int32_t)x->in[DT_INPUT_MIX][n * DT_MIX_INTS + i];
    memcpy(&m, whole, sizeof m);
    return m;
}

static inline double oracle_erased(const oracle_node *x, const dt_mix *m, int64_t n, int64_t h, int64_t w,
                                   int64_t c) {
    if (!dt_box_holds(&m->erase, h, w)) return oracle_pixel(x, n, h, w, c);
    if (!m->noise) return 0;
    const dt_u32x4 word = dt_philox((uint64_t)m->key[1] << 32 | m->key[0], (uint64_t)h, (uint64_t)w);
    const double u = ((double)(word.v[c / 2 * 2] >> 8) + 1) * 0x1p-24;
    const double turn = 2 * M_PI * (double)(word.v[c / 2 * 2 + 1] >> 8) * 0x1p-24;
    return sqrt(-2 * log(u)) * (c % 2 ? sin(turn) : cos(turn));
}

/* By the arithmetic that all share: torchvision's bytes are compared elsewhere. */
static inline void oracle_edit(oracle_node *x) {
    const dt_value *v = oracle_in(x, 0);
    const int64_t n_pixel = v->dim[1] * v->dim[2], n_c = v->dim[3];
    uint8_t *image = check_alloc((size_t)(n_pixel * n_c));
    for (int64_t n = 0; n < v->dim[0]; n++) {
        int32_t whole[DT_EDIT_INTS];
        dt_edit_row row;
        for (int32_t i = 0; i < DT_EDIT_INTS; i++) whole[i] = (int32_t)x->in[1][n * DT_EDIT_INTS + i];
        memcpy(&row, whole, sizeof row);
        for (int64_t i = 0; i < n_pixel * n_c; i++) image[i] = (uint8_t)x->in[0][n * n_pixel * n_c + i];
        for (int32_t k = 0; k < row.n; k++) {
            double sum = 0;
            for (int64_t p = 0; p < n_pixel; p++) sum += dt_edit_counted(image + p * n_c, (int32_t)n_c);
            for (int64_t p = 0; p < n_pixel; p++)
                dt_edit_pixel(row.edit[k], (float)(sum / (double)n_pixel), (int32_t)n_c, image + p * n_c);
        }
        for (int64_t i = 0; i < n_pixel * n_c; i++) x->out[0][n * n_pixel * n_c + i] = image[i];
    }
    free(image);
}

static inline void oracle_input(oracle_node *x) {
    const dt_value *src = oracle_in(x, DT_INPUT_IMAGE), *dst = oracle_out(x, 0);
    const int64_t n_h = dst->dim[1], n_w = dst->dim[2], n_c = dst->dim[3];
    oracle_zero(x, 0);
    for (int64_t i = 0; i < dt_value_n_elem(dst); i++) {
        const int64_t c = i % n_c, w = i / n_c % n_w, h = i / n_c / n_w % n_h, n = i / n_c / n_w / n_h;
        if (c >= src->dim[3]) continue;
        if (!x->in[DT_INPUT_MIX]) {
            x->out[0][i] = oracle_pixel(x, n, h, w, c);
            continue;
        }
        const dt_mix m = oracle_mix(x, n), theirs = oracle_mix(x, m.partner);
        const double share = dt_box_holds(&m.box, h, w) ? 0 : (double)m.share;
        x->out[0][i] = share * oracle_erased(x, &m, n, h, w, c) +
                       (1 - share) * oracle_erased(x, &theirs, m.partner, h, w, c);
    }
}

/* Where the ReLU after c * scale + shift was 0, as fp32 arithmetic decides it. */
static inline bool oracle_is_masked(double c, double scale, double shift) {
    const float product = (float)c * (float)scale;
    return !(product + (float)shift > 0);
}

/* The masked gradient and the sums of batch normalisation's backward, in place on dz. */
static inline void oracle_bn_sums(double *dz, const double *c, const double *mean, const double *invstd,
                                  const double *gamma, int64_t n_elem, int64_t n_c, double *const *out) {
    double *dgamma = out[0], *dbeta = out[1], *coef = out[2], m = (double)(n_elem / n_c);
    for (int64_t k = 0; k < n_c; k++) dgamma[k] = dbeta[k] = 0;
    for (int64_t i = 0; i < n_elem; i++) {
        int64_t k = i % n_c;
        dbeta[k] += dz[i];
        dgamma[k] += dz[i] * (c[i] - mean[k]) * invstd[k];
    }
    for (int64_t k = 0; k < n_c; k++) {
        double a = gamma[k] * invstd[k], b = -a * invstd[k] * dgamma[k] / m;
        coef[k] = a, coef[n_c + k] = b, coef[2 * n_c + k] = -a * dbeta[k] / m - b * mean[k];
    }
}

/* out = act(from * scale + shift + residual); in: scale, shift, res, res_scale, res_shift, as slots of
 * BN_APPLY and CONV follow each other. */
static inline void oracle_apply(oracle_node *x, const double *from, double *const *in, int64_t rows,
                                int64_t n_c) {
    for (int64_t i = 0; i < rows * n_c; i++) {
        const int64_t k = i % n_c;
        double y = from[i] * in[0][k] + in[1][k];
        if (in[2]) y += in[3] ? in[2][i] * in[3][k] + in[4][k] : in[2][i];
        x->out[0][i] = x->t->norm.relu && x->n->op != DT_OP_CONV ? fmax(y, 0) : y;
    }
}

/* out = act(out [+ res]), as CONV and DENSE end. */
static inline void oracle_product_end(oracle_node *x, const double *res, int32_t act, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double y = x->out[0][i] + (res ? res[i] : 0);
        x->out[0][i] = act ? op_unary((dt_unary)(act - 1), 0, y, 0, 0) : y;
    }
}

static inline void oracle_conv(oracle_node *x) {
    const dt_conv_dims d = dt_op_conv_dims(x->o->g, x->n);
    const int64_t cg = d.c / d.groups, kg = d.k / d.groups, n_image = d.n * d.h * d.w * d.c;
    const dt_op op = x->n->op;
    double *read = NULL;
    oracle_zero(x, 0);
    const bool forward = op == DT_OP_CONV, dgrad = op == DT_OP_CONV_DGRAD;
    if (forward && x->in[DT_CONV_IN_BIAS])
        for (int64_t i = 0; i < d.n * d.p * d.q * d.k; i++) x->out[0][i] = x->in[DT_CONV_IN_BIAS][i % d.k];
    const int32_t pre = forward ? DT_CONV_IN_PRE_SCALE : DT_WGRAD_IN_PRE_SCALE;
    if (!dgrad && x->in[pre]) {
        const double *scale = x->in[pre], *shift = x->in[pre + 1];
        read = check_alloc((size_t)n_image * sizeof *read);
        for (int64_t i = 0; i < n_image; i++)
            read[i] = fmax(x->in[0][i] * scale[i % d.c] + shift[i % d.c], 0);
    }
    const double *image = read ? read : x->in[0];
    for (int64_t i = 0; i < d.n * d.p * d.q * d.r * d.s; i++) {
        int64_t s = i % d.s, r = i / d.s % d.r, q = i / d.s / d.r % d.q, p = i / d.s / d.r / d.q % d.p;
        int64_t n = i / d.s / d.r / d.q / d.p;
        int64_t h = p * d.stride_h - d.pad_h + r * d.dil_h, w = q * d.stride_w - d.pad_w + s * d.dil_w;
        if (h < 0 || h >= d.h || w < 0 || w >= d.w) continue;
        for (int64_t k = 0; k < d.k; k++)
            for (int64_t c = 0; c < cg; c++) {
                int64_t xi = ((n * d.h + h) * d.w + w) * d.c + k / kg * cg + c;
                int64_t yi = ((n * d.p + p) * d.q + q) * d.k + k, wi = ((k * d.r + r) * d.s + s) * cg + c;
                if (op == DT_OP_CONV) x->out[0][yi] += image[xi] * x->in[1][wi];
                if (op == DT_OP_CONV_DGRAD) x->out[0][xi] += x->in[0][yi] * x->in[1][wi];
                if (op == DT_OP_CONV_WGRAD) x->out[0][wi] += image[xi] * x->in[1][yi];
            }
    }
    free(read);
    if (forward && x->out[DT_CONV_OUT_STATS]) {
        double *stats = x->out[DT_CONV_OUT_STATS];
        oracle_zero(x, DT_CONV_OUT_STATS);
        for (int64_t i = 0; i < d.n * d.p * d.q * d.k; i++) {
            stats[i % d.k] += x->out[0][i];
            stats[d.k + i % d.k] += x->out[0][i] * x->out[0][i];
        }
    }
    for (int64_t i = 0; dgrad && i < n_image; i++) {
        if (x->in[DT_DGRAD_IN_DX2]) x->out[0][i] += x->in[DT_DGRAD_IN_DX2][i];
        if (x->in[DT_DGRAD_IN_Y] && !(x->in[DT_DGRAD_IN_Y][i] > 0)) x->out[0][i] = 0;
    }
    if (forward && x->in[DT_CONV_IN_SCALE])
        oracle_apply(x, x->out[0], x->in + DT_CONV_IN_SCALE, d.n * d.p * d.q, d.k);
    if (forward)
        oracle_product_end(x, x->in[DT_CONV_IN_SCALE] ? NULL : x->in[DT_CONV_IN_RES], x->t->window.act,
                           d.n * d.p * d.q * d.k);
    if (dgrad && x->in[DT_DGRAD_IN_C]) {
        const double *c = x->in[DT_DGRAD_IN_C], *scale = x->in[DT_DGRAD_IN_SCALE],
                     *shift = x->in[DT_DGRAD_IN_SHIFT];
        for (int64_t i = 0; i < n_image; i++)
            if (oracle_is_masked(c[i], scale[i % d.c], shift[i % d.c])) x->out[0][i] = 0;
        oracle_bn_sums(x->out[0], c, x->in[DT_DGRAD_IN_MEAN], x->in[DT_DGRAD_IN_INVSTD],
                       x->in[DT_DGRAD_IN_GAMMA], n_image, d.c, x->out + DT_DGRAD_OUT_DGAMMA);
    }
}

static inline void oracle_dense(oracle_node *x) {
    bool forward = x->n->op == DT_OP_DENSE, wgrad = x->n->op == DT_OP_DENSE_WGRAD;
    const dt_value *other = oracle_in(x, 1);
    int64_t rows = x->m, k = wgrad ? other->dim[other->ndim - 1] : other->dim[0];
    int64_t c = wgrad ? x->c : other->dim[1];
    oracle_zero(x, 0);
    if (wgrad && x->out[DT_DENSE_WGRAD_OUT_DB]) {
        oracle_zero(x, DT_DENSE_WGRAD_OUT_DB);
        for (int64_t i = 0; i < rows * k; i++) x->out[DT_DENSE_WGRAD_OUT_DB][i % k] += x->in[1][i];
    }
    for (int64_t n = 0; n < rows; n++)
        for (int64_t j = 0; j < k; j++) {
            if (forward && x->in[DT_DENSE_IN_BIAS]) x->out[0][n * k + j] = x->in[DT_DENSE_IN_BIAS][j];
            for (int64_t i = 0; i < c; i++) {
                if (forward) x->out[0][n * k + j] += x->in[0][n * c + i] * x->in[1][j * c + i];
                if (wgrad) x->out[0][j * c + i] += x->in[0][n * c + i] * x->in[1][n * k + j];
                if (!forward && !wgrad) x->out[0][n * c + i] += x->in[0][n * k + j] * x->in[1][j * c + i];
            }
        }
    if (forward && x->out[DT_DENSE_OUT_PRE]) {
        oracle_product_end(x, x->in[DT_DENSE_IN_RES], 0, rows * k);
        memcpy(x->out[DT_DENSE_OUT_PRE], x->out[0], (size_t)(rows * k) * sizeof(double));
        oracle_product_end(x, NULL, x->t->dense.act, rows * k);
    } else if (forward) {
        oracle_product_end(x, x->in[DT_DENSE_IN_RES], x->t->dense.act, rows * k);
    } else if (!wgrad && x->t->dense.act) {
        for (int64_t i = 0; i < rows * c; i++)
            x->out[0][i] *=
                op_unary((dt_unary)(x->t->dense.act - 1), 1, x->in[DT_DENSE_DGRAD_IN_PRE][i], 0, 0);
    }
}

/* Mean and biased variance per channel. */
static inline void oracle_moments(const oracle_node *x, double *mean, double *var) {
    for (int64_t k = 0; k < x->c; k++) mean[k] = var[k] = 0;
    for (int64_t i = 0; i < x->n_elem; i++) mean[i % x->c] += x->in[0][i] / (double)x->m;
    for (int64_t i = 0; i < x->n_elem; i++)
        var[i % x->c] += pow(x->in[0][i] - mean[i % x->c], 2) / (double)x->m;
}

/* What normalises channel k: mean, invstd, scale, shift into out[0..3]. */
static inline void oracle_scale_shift(const oracle_node *x, double mean, double var, int64_t k,
                                      const double *gamma, const double *beta, double *const *out) {
    double invstd = 1 / sqrt(var + (double)x->t->norm.eps);
    out[0][k] = mean, out[1][k] = invstd;
    out[2][k] = gamma[k] * invstd, out[3][k] = beta[k] - mean * out[2][k];
}

static inline void oracle_running(const oracle_node *x, double rows, double mean, double var, double *rmean,
                                  double *rvar) {
    double momentum = (double)x->t->norm.momentum;
    *rmean += momentum * (mean - *rmean);
    *rvar += momentum * (var * rows / (rows - 1) - *rvar);
}

static inline void oracle_batchnorm(oracle_node *x) {
    double *mean = x->out[1], *var = x->out[2];
    if (x->o->g->training) {
        oracle_moments(x, mean, var);
        for (int64_t k = 0; k < x->c; k++)
            oracle_running(x, (double)x->m, mean[k], var[k], &x->in[3][k], &x->in[4][k]);
    } else {
        memcpy(mean, x->in[3], (size_t)x->c * sizeof *mean);
        memcpy(var, x->in[4], (size_t)x->c * sizeof *var);
    }
    for (int64_t k = 0; k < x->c; k++)
        oracle_scale_shift(x, mean[k], var[k], k, x->in[1], x->in[2], x->out + 1);
    for (int64_t i = 0; i < x->n_elem; i++) {
        double y = x->in[0][i] * x->out[3][i % x->c] + x->out[4][i % x->c];
        if (x->in[DT_BN_IN_RES]) y += x->in[DT_BN_IN_RES][i];
        x->out[0][i] = x->t->norm.relu ? fmax(y, 0) : y;
    }
}

static inline void oracle_bn_stats(oracle_node *x) {
    oracle_moments(x, x->out[0], x->out[0] + x->c);
}

static inline void oracle_bn_finalize(oracle_node *x) {
    const int64_t n_c = x->c;
    const double rows = x->t->norm.rows;
    for (int64_t k = 0; k < n_c; k++) {
        double mean = x->in[0][k], var = x->in[0][n_c + k];
        if (x->t->norm.stats_are_sums) mean /= rows, var = fmax(var / rows - mean * mean, 0);
        oracle_running(x, rows, mean, var, &x->in[3][k], &x->in[4][k]);
        oracle_scale_shift(x, mean, var, k, x->in[1], x->in[2], x->out);
    }
}

/* Of ranks that bring nothing. */
static inline void oracle_bn_sync(oracle_node *x) {
    const int64_t n_c = x->c;
    const dt_norm_attr *t = &x->t->norm;
    for (int64_t k = 0; k < n_c; k++) {
        double mean = x->in[0][k], square = x->in[0][n_c + k] + (t->stats_are_sums ? 0 : mean * mean);
        const double rows = t->stats_are_sums ? 1 : t->rows;
        mean *= rows / t->rows_all, square *= rows / t->rows_all;
        x->out[0][k] = mean, x->out[0][n_c + k] = fmax(square - mean * mean, 0);
    }
}

static inline void oracle_bn_sync_grad(oracle_node *x) {
    const double part = (double)x->t->norm.rows / (double)x->t->norm.rows_all;
    for (int64_t k = 0; k < 3 * x->c; k++) x->out[0][k] = x->in[0][k] * (k < x->c ? 1 : part);
}

static inline void oracle_bn_fold(oracle_node *x) {
    for (int64_t k = 0; k < x->c; k++) {
        x->out[0][k] = x->in[0][k] / sqrt(x->in[3][k] + (double)x->t->norm.eps);
        x->out[1][k] = x->in[1][k] - x->in[2][k] * x->out[0][k];
    }
}

static inline void oracle_bn_apply(oracle_node *x) {
    oracle_apply(x, x->in[DT_APPLY_IN_X], x->in + DT_APPLY_IN_SCALE, x->m, x->c);
}

/* The gradient of c's ReLU: dy + dy2, or scattered from that of the max pool. NULL where a slot is empty. */
static inline double *oracle_gradient(const oracle_node *x, const double *dy, const double *dy2,
                                      int32_t i_dyp) {
    const dt_window_attr *t = &x->t->window;
    double *dz = check_alloc((size_t)x->n_elem * sizeof *dz);
    if (dy) {
        for (int64_t i = 0; i < x->n_elem; i++) dz[i] = dy[i] + (dy2 ? dy2[i] : 0);
        return dz;
    }
    const double *dyp = x->in[i_dyp], *dyp2 = x->in[i_dyp + 1], *idx = x->in[i_dyp + 2];
    const dt_value *image = oracle_in(x, dt_op_get(x->n->op)->main), *pooled = oracle_in(x, i_dyp);
    const int64_t n_c = x->c, n_q = pooled->dim[2], n_p = pooled->dim[1];
    for (int64_t o = 0; o < dt_value_n_elem(pooled); o++) {
        const int64_t q = o / n_c % n_q, p = o / n_c / n_q % n_p, n = o / n_c / n_q / n_p;
        const int64_t h = p * t->stride[0] - t->pad_begin[0] + (int64_t)idx[o] / t->kernel[1];
        const int64_t w = q * t->stride[1] - t->pad_begin[1] + (int64_t)idx[o] % t->kernel[1];
        if (h < 0 || h >= image->dim[1] || w < 0 || w >= image->dim[2]) continue; /* a made-up position */
        dz[((n * image->dim[1] + h) * image->dim[2] + w) * n_c + o % n_c] += dyp[o] + (dyp2 ? dyp2[o] : 0);
    }
    return dz;
}

static inline void oracle_bn_reduce(oracle_node *x) {
    double *const *in = x->in,
                  *dz = oracle_gradient(x, in[DT_REDUCE_IN_DY], in[DT_REDUCE_IN_DY2], DT_REDUCE_IN_DYP);
    const double *c = in[DT_REDUCE_IN_C], *y = in[DT_REDUCE_IN_Y], *scale = in[DT_REDUCE_IN_SCALE];
    for (int64_t i = 0; i < x->n_elem; i++) {
        const int64_t k = i % x->c;
        if (y && !(y[i] > 0)) dz[i] = 0;
        if (scale && oracle_is_masked(c[i], scale[k], in[DT_REDUCE_IN_SHIFT][k])) dz[i] = 0;
    }
    oracle_bn_sums(dz, c, in[DT_REDUCE_IN_MEAN], in[DT_REDUCE_IN_INVSTD], in[DT_REDUCE_IN_GAMMA], x->n_elem,
                   x->c, x->out + DT_REDUCE_OUT_DGAMMA);
    if (x->out[DT_REDUCE_OUT_DZ]) memcpy(x->out[DT_REDUCE_OUT_DZ], dz, (size_t)x->n_elem * sizeof *dz);
    free(dz);
}

static inline void oracle_bn_dx(oracle_node *x) {
    const double *c = x->in[DT_DX_IN_C], *coef = x->in[DT_DX_IN_COEF], *scale = x->in[DT_DX_IN_SCALE];
    double *dz = oracle_gradient(x, x->in[DT_DX_IN_DY], NULL, DT_DX_IN_DYP);
    for (int64_t i = 0; i < x->n_elem; i++) {
        const int64_t k = i % x->c;
        if (scale && oracle_is_masked(c[i], scale[k], x->in[DT_DX_IN_SHIFT][k])) dz[i] = 0;
        x->out[0][i] = coef[k] * dz[i] + coef[x->c + k] * c[i] + coef[2 * x->c + k];
    }
    free(dz);
}

/* out [ka,kb] = a^T b */
static inline void oracle_product(const double *a, const double *b, int64_t m, int64_t ka, int64_t kb,
                                  double *out) {
    for (int64_t e = 0; e < ka * kb; e++) {
        out[e] = 0;
        for (int64_t i = 0; i < m; i++) out[e] += a[i * ka + e / kb] * b[i * kb + e % kb];
    }
}

static inline void oracle_gram(oracle_node *x) {
    const bool cross = x->n->op == DT_OP_GRAM_CROSS;
    oracle_product(x->in[0], x->in[cross ? 1 : 0], x->m, x->c, oracle_out(x, 0)->dim[1], x->out[0]);
    if (!x->out[1]) return;
    oracle_zero(x, 1);
    for (int64_t i = 0; i < x->n_elem; i++) x->out[1][i % x->c] += x->in[0][i];
}

static inline void oracle_bn_gram(oracle_node *x) {
    const int64_t c = x->c;
    const double m = x->t->norm.rows;
    for (int64_t k = 0; k < oracle_in(x, 2)->dim[0]; k++) {
        const double *w = x->in[2] + k * c;
        double mean = 0, var = 0, *wcov = x->out[4] + k * c;
        for (int64_t i = 0; i < c; i++) {
            wcov[i] = 0;
            for (int64_t j = 0; j < c; j++)
                wcov[i] += w[j] * (x->in[0][i * c + j] / m - x->in[1][i] * x->in[1][j] / (m * m));
            mean += w[i] * x->in[1][i] / m;
            var += w[i] * wcov[i];
        }
        oracle_running(x, m, mean, var, &x->in[5][k], &x->in[6][k]);
        oracle_scale_shift(x, mean, var, k, x->in[3], x->in[4], x->out);
    }
}

static inline void oracle_bn_mask(oracle_node *x) {
    const double *dy = x->in[DT_BN_MASK_IN_DY], *dy2 = x->in[DT_BN_MASK_IN_DY2], *y = x->in[DT_BN_MASK_IN_Y];
    double *out_dz = x->out[DT_BN_MASK_OUT_DZ];
    oracle_zero(x, DT_BN_MASK_OUT_DBETA);
    for (int64_t i = 0; i < x->n_elem; i++) {
        double dz = dy[i] + (dy2 ? dy2[i] : 0);
        if (y && !(y[i] > 0)) dz = 0;
        if (out_dz) out_dz[i] = dz;
        x->out[DT_BN_MASK_OUT_DBETA][i % x->c] += dz;
    }
}

static inline void oracle_bn_gram_grad(oracle_node *x) {
    const int64_t c = x->c;
    const double *p = x->in[0], *dbeta = x->in[1], *wcov = x->in[2], *sum = x->in[3], m = x->t->norm.rows;
    double *mv = x->out[4];
    oracle_zero(x, 4);
    for (int64_t k = 0; k < x->m; k++) {
        const double *w = x->in[4] + k * c, is = x->in[6][k], a = x->in[7][k] * is;
        double dgamma = 0;
        for (int64_t i = 0; i < c; i++) dgamma += is * w[i] * (p[k * c + i] - dbeta[k] * sum[i] / m);
        const double b = -a * is * dgamma / m, d = -a * dbeta[k] / m - b * x->in[5][k];
        x->out[0][k] = dgamma, x->out[1][k] = dbeta[k];
        for (int64_t i = 0; i < c; i++) {
            x->out[2][k * c + i] = a * (p[k * c + i] - dbeta[k] * sum[i] / m) + b * m * wcov[k * c + i];
            x->out[3][k * c + i] = a * w[i];
            mv[c * c + i] += d * w[i];
            for (int64_t j = 0; j < c; j++) mv[i * c + j] += b * w[i] * w[j];
        }
    }
}

static inline void oracle_bn_gram_dx(oracle_node *x) {
    const dt_value *dx = oracle_out(x, 0);
    const int64_t c = dx->dim[dx->ndim - 1];
    for (int64_t e = 0; e < x->m * c; e++) {
        double sum = x->in[3][c * c + e % c];
        for (int64_t k = 0; k < x->c; k++) sum += x->in[0][e / c * x->c + k] * x->in[1][k * c + e % c];
        for (int64_t j = 0; j < c; j++) sum += x->in[2][e / c * c + j] * x->in[3][j * c + e % c];
        x->out[0][e] = sum;
    }
}

static inline void oracle_eltwise(oracle_node *x) {
    const dt_op op = x->n->op;
    const double p = (double)x->t->dropout.p;
    const uint64_t key = dt_rng_key(x->o->step.seed, DT_RNG_DROPOUT, x->t->dropout.salt);
    const uint64_t hi = x->o->step.step << 24 | x->o->step.micro;
    for (int64_t i = 0; i < x->n_elem; i++) {
        double a = x->in[0][i];
        if (op == DT_OP_UNARY)
            x->out[0][i] = op_unary(x->t->unary.fn, 0, a, (double)x->t->unary.a, (double)x->t->unary.b);
        if (op == DT_OP_UNARY_BWD)
            x->out[0][i] =
                a * op_unary(x->t->unary.fn, 1, x->in[1][i], (double)x->t->unary.a, (double)x->t->unary.b);
        if (op == DT_OP_DROPOUT || op == DT_OP_DROPOUT_BWD) {
            const int64_t at = x->t->dropout.rows ? i / (x->n_elem / oracle_in(x, 0)->dim[0]) : i;
            x->out[0][i] =
                (double)dt_u01(dt_philox(key, hi, (uint64_t)at / 4).v[at % 4]) >= p ? a / (1 - p) : 0;
        }
    }
}

/* Where element i of `whole` is in v, which is repeated to its shape. */
static inline int64_t oracle_repeated(const dt_value *whole, const dt_value *v, int64_t i) {
    int64_t at = 0, step = 1;
    for (int32_t k = 1; k <= whole->ndim; k++) {
        const int64_t d = whole->dim[whole->ndim - k], index = i % d;
        i /= d;
        if (k > v->ndim || v->dim[v->ndim - k] == 1) continue;
        at += index * step;
        step *= v->dim[v->ndim - k];
    }
    return at;
}

static inline void oracle_binary(oracle_node *x) {
    const dt_value *y = oracle_out(x, 0);
    for (int64_t i = 0; i < dt_value_n_elem(y); i++) {
        const double a = x->in[0][oracle_repeated(y, oracle_in(x, 0), i)],
                     b = x->in[1][oracle_repeated(y, oracle_in(x, 1), i)];
        x->out[0][i] = op_binary(x->t->binary.fn, 0, a, b);
    }
}

static inline void oracle_binary_bwd(oracle_node *x) {
    const dt_value *dy = oracle_in(x, 0);
    oracle_zero(x, 0);
    for (int64_t i = 0; i < x->n_elem; i++) {
        double v[2] = {0, 0};
        for (int32_t k = 0; k < 2; k++)
            if (x->in[1 + k]) v[k] = x->in[1 + k][oracle_repeated(dy, oracle_in(x, 1 + k), i)];
        x->out[0][oracle_repeated(dy, oracle_out(x, 0), i)] +=
            x->in[0][i] * op_binary(x->t->binary.fn, 1 + x->t->binary.operand, v[0], v[1]);
    }
}

/* Element i of v along `axis`, and its place beside it: v as [before, axis, after]. */
static inline void oracle_copy(const dt_value *from, const double *x, int64_t x_begin, const dt_value *to,
                               double *y, int64_t y_begin, int64_t length, int32_t axis) {
    int64_t before = 1, after = 1;
    for (int32_t i = 0; i < axis; i++) before *= from->dim[i];
    for (int32_t i = axis + 1; i < from->ndim; i++) after *= from->dim[i];
    for (int64_t e = 0; e < before * length * after; e++) {
        const int64_t last = e % after, along = e / after % length, first = e / after / length;
        y[(first * to->dim[axis] + y_begin + along) * after + last] =
            x[(first * from->dim[axis] + x_begin + along) * after + last];
    }
}

static inline void oracle_concat(oracle_node *x) {
    int64_t begin = 0;
    for (int32_t i = 0; i < x->n->n_in; i++) {
        const dt_value *v = oracle_in(x, i);
        const int64_t length = v->dim[x->t->shape.axis];
        oracle_copy(v, x->in[i], 0, oracle_out(x, 0), x->out[0], begin, length, x->t->shape.axis);
        begin += length;
    }
}

static inline void oracle_slice(oracle_node *x) {
    const bool back = x->n->op == DT_OP_PAD;
    const int64_t length = (back ? oracle_in(x, 0) : oracle_out(x, 0))->dim[x->t->shape.axis];
    oracle_zero(x, 0);
    oracle_copy(oracle_in(x, 0), x->in[0], back ? 0 : x->t->shape.begin, oracle_out(x, 0), x->out[0],
                back ? x->t->shape.begin : 0, length, x->t->shape.axis);
}

static inline void oracle_transpose(oracle_node *x) {
    const dt_value *v = oracle_in(x, 0), *y = oracle_out(x, 0);
    for (int64_t i = 0; i < x->n_elem; i++) {
        int64_t index[DT_MAX_DIM] = {0}, rest = i, at = 0;
        for (int32_t k = y->ndim - 1; k >= 0; k--) {
            index[x->t->transpose.perm[k]] = rest % y->dim[k];
            rest /= y->dim[k];
        }
        for (int32_t k = 0; k < v->ndim; k++) at = at * v->dim[k] + index[k];
        x->out[0][i] = x->in[0][at];
    }
}

static inline void oracle_matmul(oracle_node *x) {
    const dt_matmul_dims d = dt_op_matmul_dims(x->o->g, x->n);
    for (int64_t e = 0; e < d.batch * d.m * d.n; e++) {
        const int64_t i = e / d.n % d.m, j = e % d.n, which = e / d.n / d.m;
        const double *a = x->in[0] + which * d.m * d.k, *b = x->in[1] + which * d.k * d.n;
        x->out[0][e] = 0;
        for (int64_t l = 0; l < d.k; l++)
            x->out[0][e] += (x->t->matmul.turn_a ? a[l * d.m + i] : a[i * d.k + l]) *
                            (x->t->matmul.turn_b ? b[j * d.k + l] : b[l * d.n + j]);
    }
}

static inline void oracle_reduce(oracle_node *x) {
    const dt_value *v = oracle_in(x, 0), *y = oracle_out(x, 0);
    const double each = (double)x->n_elem / (double)dt_value_n_elem(y);
    for (int64_t i = 0; i < dt_value_n_elem(y); i++)
        x->out[0][i] = x->t->reduce.kind == DT_REDUCE_MAX ? -INFINITY : 0;
    for (int64_t i = 0; i < x->n_elem; i++) {
        double *to = &x->out[0][oracle_repeated(v, y, i)];
        if (x->t->reduce.kind == DT_REDUCE_MAX)
            *to = fmax(*to, x->in[0][i]);
        else
            *to += x->in[0][i] / (x->t->reduce.kind == DT_REDUCE_MEAN ? each : 1);
    }
}

static inline void oracle_reduce_bwd(oracle_node *x) {
    const dt_value *dx = oracle_out(x, 0), *dy = oracle_in(x, DT_REDUCE_BWD_IN_DY);
    const int64_t n = dt_value_n_elem(dx), n_y = dt_value_n_elem(dy);
    double *ties = check_alloc((size_t)n_y * sizeof *ties);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = oracle_repeated(dx, dy, i);
        ties[at] += x->t->reduce.kind != DT_REDUCE_MAX ||
                    x->in[DT_REDUCE_BWD_IN_X][i] == x->in[DT_REDUCE_BWD_IN_Y][at];
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = oracle_repeated(dx, dy, i);
        x->out[0][i] = x->in[DT_REDUCE_BWD_IN_DY][at] / (x->t->reduce.kind == DT_REDUCE_SUM ? 1 : ties[at]);
        if (x->t->reduce.kind == DT_REDUCE_MAX &&
            x->in[DT_REDUCE_BWD_IN_X][i] != x->in[DT_REDUCE_BWD_IN_Y][at])
            x->out[0][i] = 0;
    }
    free(ties);
}

static inline void oracle_softmax(oracle_node *x) {
    for (int64_t r = 0; r < x->m; r++) {
        const double *in = x->in[0] + r * x->c;
        double sum = 0, top = in[0];
        for (int64_t i = 0; i < x->c; i++) top = fmax(top, in[i]);
        for (int64_t i = 0; i < x->c; i++) sum += exp(in[i] - top);
        for (int64_t i = 0; i < x->c; i++) {
            const double l = in[i] - top - log(sum);
            x->out[0][r * x->c + i] = x->n->op == DT_OP_SOFTMAX ? exp(l) : l;
        }
    }
}

static inline void oracle_softmax_bwd(oracle_node *x) {
    const bool plain = x->n->op == DT_OP_SOFTMAX_BWD;
    for (int64_t r = 0; r < x->m; r++) {
        const double *dy = x->in[0] + r * x->c, *y = x->in[1] + r * x->c;
        double sum = 0;
        for (int64_t i = 0; i < x->c; i++) sum += plain ? dy[i] * y[i] : dy[i];
        for (int64_t i = 0; i < x->c; i++)
            x->out[0][r * x->c + i] = plain ? y[i] * (dy[i] - sum) : dy[i] - exp(y[i]) * sum;
    }
}

/* What an attention node reads, forward or backward; packed, k and v are parts of q. */
typedef struct oracle_heads {
    dt_attention_attr at;
    int64_t b, t, s, d, q_row, kv_row;
    const double *q, *k, *v, *lengths, *q_lengths, *segments;
    int64_t k_begin, v_begin; /* in a row of k, of v */
    double scale;
} oracle_heads;

static inline oracle_heads oracle_heads_of(const oracle_node *x) {
    const bool back = x->n->op == DT_OP_ATTENTION_BWD;
    const int32_t q = back ? 1 : 0, more = back ? 6 : 3, k = x->in[q + 1] ? q + 1 : q;
    const dt_value *of_q = oracle_in(x, q), *of_k = oracle_in(x, k);
    oracle_heads h = {.at = x->t->attention,
                      .b = of_q->dim[0],
                      .t = of_q->dim[1],
                      .s = of_k->dim[1],
                      .q_row = of_q->dim[2],
                      .kv_row = of_k->dim[2],
                      .q = x->in[q],
                      .k = x->in[k],
                      .v = x->in[k == q ? q : q + 2],
                      .lengths = x->in[more],
                      .q_lengths = x->in[more + 1],
                      .segments = x->in[more + 2]};
    h.d = h.q_row / (h.at.heads + (k == q ? 2 * h.at.kv_heads : 0));
    h.k_begin = k == q ? h.at.heads * h.d : 0;
    h.v_begin = k == q ? (h.at.heads + h.at.kv_heads) * h.d : 0;
    h.scale = h.at.scale > 0 ? (double)h.at.scale : 1 / sqrt((double)h.d);
    return h;
}

static inline bool oracle_sees(const oracle_heads *h, int64_t b, int64_t t, int64_t s) {
    const double keys = h->lengths ? fmin(fmax(h->lengths[b], 0), (double)h->s) : (double)h->s;
    const double queries = h->q_lengths ? fmin(fmax(h->q_lengths[b], 0), (double)h->t) : (double)h->t;
    const double away = (double)s - ((double)t + keys - queries);
    if ((double)t >= queries || (double)s >= keys) return false;
    if (h->at.causal && away > 0) return false;
    if (h->at.window > 0 && fabs(away) >= h->at.window) return false;
    return !h->segments || h->segments[b * h->t + t] == h->segments[b * h->s + s];
}

/* Where position `at` of head `head` begins in a tensor of rows of `row`. */
static inline int64_t oracle_head_at(int64_t row, int64_t b, int64_t n, int64_t at, int64_t head, int64_t d) {
    return (b * n + at) * row + head * d;
}

static inline double oracle_score(const oracle_heads *h, int64_t b, int64_t head, int64_t t, int64_t s) {
    const double *q = h->q + oracle_head_at(h->q_row, b, h->t, t, head, h->d);
    const int64_t kv = head / (h->at.heads / h->at.kv_heads);
    const double *k = h->k + oracle_head_at(h->kv_row, b, h->s, s, kv, h->d) + h->k_begin;
    double sum = 0;
    for (int64_t i = 0; i < h->d; i++) sum += q[i] * k[i];
    return sum * h->scale;
}

/* What dropout leaves of a weight: a factor. */
static inline double oracle_keeps(const oracle_node *x, const oracle_heads *h, int64_t b, int64_t head,
                                  int64_t t, int64_t s) {
    const uint64_t key = dt_rng_key(x->o->step.seed, DT_RNG_DROPOUT, h->at.salt);
    const uint64_t hi = x->o->step.step << 24 | x->o->step.micro;
    const int64_t draw = ((b * h->at.heads + head) * h->t + t) * ((h->s + 3) / 4) + s / 4;
    const double p = (double)h->at.dropout;
    return (double)dt_u01(dt_philox(key, hi, (uint64_t)draw).v[s % 4]) >= p ? 1 / (1 - p) : 0;
}

static inline void oracle_attention(oracle_node *x) {
    const oracle_heads h = oracle_heads_of(x);
    double *w = check_alloc((size_t)h.s * sizeof *w);
    oracle_zero(x, 0);
    for (int64_t e = 0; e < h.b * h.at.heads * h.t; e++) {
        const int64_t t = e % h.t, head = e / h.t % h.at.heads, b = e / h.t / h.at.heads;
        const int64_t kv = head / (h.at.heads / h.at.kv_heads);
        double top = -INFINITY, sum = 0;
        for (int64_t s = 0; s < h.s; s++) {
            w[s] = oracle_sees(&h, b, t, s) ? oracle_score(&h, b, head, t, s) : -INFINITY;
            top = fmax(top, w[s]);
        }
        x->out[1][e] = -INFINITY;
        if (top == -INFINITY) continue;
        for (int64_t s = 0; s < h.s; s++) sum += exp(w[s] - top);
        x->out[1][e] = top + log(sum);
        for (int64_t s = 0; s < h.s; s++) {
            const double p = exp(w[s] - top) / sum * oracle_keeps(x, &h, b, head, t, s);
            const double *v = h.v + oracle_head_at(h.kv_row, b, h.s, s, kv, h.d) + h.v_begin;
            for (int64_t i = 0; i < h.d; i++)
                x->out[0][oracle_head_at(h.at.heads * h.d, b, h.t, t, head, h.d) + i] += p * v[i];
        }
    }
    free(w);
}

static inline void oracle_attention_bwd(oracle_node *x) {
    const oracle_heads h = oracle_heads_of(x);
    const double *dy = x->in[0], *y = x->in[4], *lse = x->in[5];
    double *dq = x->out[0], *dk = x->out[1] ? x->out[1] : dq, *dv = x->out[2] ? x->out[2] : dq;
    for (int32_t i = 0; i < 3; i++)
        if (x->out[i]) oracle_zero(x, i);
    for (int64_t e = 0; e < h.b * h.at.heads * h.t * h.s; e++) {
        const int64_t s = e % h.s, row = e / h.s, t = row % h.t, head = row / h.t % h.at.heads,
                      b = row / h.t / h.at.heads;
        if (!oracle_sees(&h, b, t, s) || lse[row] == -INFINITY) continue;
        const int64_t at = oracle_head_at(h.at.heads * h.d, b, h.t, t, head, h.d);
        const int64_t q_at = oracle_head_at(h.q_row, b, h.t, t, head, h.d);
        const int64_t kv_at = oracle_head_at(h.kv_row, b, h.s, s, head / (h.at.heads / h.at.kv_heads), h.d);
        const double p = exp(oracle_score(&h, b, head, t, s) - lse[row]);
        const double keeps = oracle_keeps(x, &h, b, head, t, s);
        double dp = 0, delta = 0;
        for (int64_t i = 0; i < h.d; i++) {
            dp += dy[at + i] * h.v[kv_at + h.v_begin + i] * keeps;
            delta += dy[at + i] * y[at + i];
        }
        const double ds = p * (dp - delta) * h.scale;
        for (int64_t i = 0; i < h.d; i++) {
            dq[q_at + i] += ds * h.k[kv_at + h.k_begin + i];
            dk[kv_at + h.k_begin + i] += ds * h.q[q_at + i];
            dv[kv_at + h.v_begin + i] += p * keeps * dy[at + i];
        }
    }
}

/* The group of element i that is normalised as one, of LAYERNORM, RMSNORM and GROUPNORM; *size: its elements. */
static inline int64_t oracle_norm_group(const oracle_node *x, const dt_value *v, int64_t i, int64_t *size) {
    const int64_t c = v->dim[v->ndim - 1], groups = x->t->norm.groups, of_sample = x->n_elem / v->dim[0];
    const bool grouped = x->n->op == DT_OP_GROUPNORM || x->n->op == DT_OP_GROUPNORM_BWD;
    *size = grouped ? of_sample / groups : c;
    return grouped ? i / of_sample * groups + i % c / (c / groups) : i / c;
}

static inline void oracle_norm(oracle_node *x) {
    const bool centred = x->n->op != DT_OP_RMSNORM;
    const double *gamma = x->in[DT_LN_IN_GAMMA], *beta = centred ? x->in[DT_LN_IN_BETA] : NULL;
    double *rstd = x->out[DT_LN_OUT_RSTD], *mean = centred ? x->out[DT_LN_OUT_MEAN] : NULL;
    const int64_t n_group = dt_value_n_elem(oracle_out(x, DT_LN_OUT_RSTD));
    int64_t size = 1;
    oracle_zero(x, DT_LN_OUT_RSTD);
    if (mean) oracle_zero(x, DT_LN_OUT_MEAN);
    for (int64_t i = 0; mean && i < x->n_elem; i++) {
        const int64_t k = oracle_norm_group(x, oracle_in(x, 0), i, &size);
        mean[k] += x->in[0][i] / (double)size;
    }
    for (int64_t i = 0; i < x->n_elem; i++) {
        const int64_t k = oracle_norm_group(x, oracle_in(x, 0), i, &size);
        const double v = x->in[0][i] - (mean ? mean[k] : 0);
        rstd[k] += v * v / (double)size;
    }
    for (int64_t k = 0; k < n_group; k++)
        rstd[k] = 1 / (x->t->norm.length ? fmax(sqrt(rstd[k] * (double)size), (double)x->t->norm.eps)
                                         : sqrt(rstd[k] + (double)x->t->norm.eps));
    for (int64_t i = 0; i < x->n_elem; i++) {
        const int64_t k = oracle_norm_group(x, oracle_in(x, 0), i, &size);
        x->out[0][i] = (x->in[0][i] - (mean ? mean[k] : 0)) * rstd[k] * (gamma ? gamma[i % x->c] : 1) +
                       (beta ? beta[i % x->c] : 0);
    }
}

static inline void oracle_norm_bwd(oracle_node *x) {
    const bool centred = x->n->op != DT_OP_RMSNORM_BWD;
    const double *gamma = x->in[DT_LN_BWD_IN_GAMMA], *rstd = x->in[DT_LN_BWD_IN_RSTD],
                 *mean = centred ? x->in[DT_LN_BWD_IN_MEAN] : NULL;
    double *dgamma = x->out[DT_LN_BWD_OUT_DGAMMA], *dbeta = centred ? x->out[DT_LN_BWD_OUT_DBETA] : NULL;
    const int64_t n_group = dt_value_n_elem(oracle_in(x, DT_LN_BWD_IN_RSTD));
    double *m1 = check_alloc((size_t)n_group * sizeof(double)),
           *m2 = check_alloc((size_t)n_group * sizeof(double));
    int64_t size = 1;
    if (dgamma) oracle_zero(x, DT_LN_BWD_OUT_DGAMMA);
    if (dbeta) oracle_zero(x, DT_LN_BWD_OUT_DBETA);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < x->n_elem; i++) {
            const int64_t k = oracle_norm_group(x, oracle_in(x, 0), i, &size);
            const double dy = x->in[0][i], d = dy * (gamma ? gamma[i % x->c] : 1),
                         xh = (x->in[1][i] - (mean ? mean[k] : 0)) * rstd[k];
            if (pass == 1) {
                x->out[0][i] = rstd[k] * (d - m2[k] - xh * m1[k]);
                if (x->n->op != DT_OP_GROUPNORM_BWD && x->in[dt_op_norm_dx2(x->n->op)])
                    x->out[0][i] += x->in[dt_op_norm_dx2(x->n->op)][i];
                continue;
            }
            if (!x->t->norm.length)
                m1[k] += d * xh / (double)size;
            else if (rstd[k] < (double)(float)(1 / (double)x->t->norm.eps))
                m1[k] += d * xh;
            if (centred) m2[k] += d / (double)size;
            if (dgamma) dgamma[i % x->c] += dy * xh;
            if (dbeta) dbeta[i % x->c] += dy;
        }
    free(m1), free(m2);
}

/* The table that number r of the indices is of, counted in rows. */
static inline int64_t oracle_table_at(const oracle_node *x, const dt_value *table, int64_t r) {
    if (table->ndim == 2) return 0;
    return r / (dt_value_n_elem(oracle_in(x, 1)) / table->dim[0]) * table->dim[1];
}

static inline void oracle_embed(oracle_node *x) {
    const int64_t rows = dt_value_n_elem(oracle_in(x, DT_EMBED_IN_INDEX));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < x->c; i++)
            x->out[0][r * x->c + i] =
                x->in[0][(oracle_table_at(x, oracle_in(x, 0), r) + (int64_t)x->in[1][r]) * x->c + i];
}

static inline void oracle_one_hot(oracle_node *x) {
    const int64_t rows = x->t->embed.rows;
    for (int64_t i = 0; i < x->n_elem * rows; i++) x->out[0][i] = (int64_t)x->in[0][i / rows] == i % rows;
}

static inline void oracle_embed_bwd(oracle_node *x) {
    oracle_zero(x, 0);
    for (int64_t i = 0; i < x->n_elem; i++) {
        const int64_t row = (int64_t)x->in[1][i / x->c],
                      at = oracle_table_at(x, oracle_out(x, 0), i / x->c) + row;
        if (row != x->t->embed.padding) x->out[0][at * x->c + i % x->c] += x->in[0][i];
    }
}

/* What pair i is turned by at step t of sample n. */
static inline double oracle_angle(const oracle_node *x, int64_t n, int64_t t, int64_t i, int64_t dims) {
    const double start = x->in[1] ? x->in[1][n] : 0;
    return ((double)t + start) / pow((double)x->t->rope.theta, 2 * (double)i / (double)dims);
}

static inline void oracle_rope(oracle_node *x) {
    const dt_value *v = oracle_in(x, 0);
    const int64_t steps = v->dim[1], heads = v->dim[2], dims = x->t->rope.dims > 0 ? x->t->rope.dims : x->c;
    memcpy(x->out[0], x->in[0], (size_t)x->n_elem * sizeof(double));
    for (int64_t row = 0; row < x->m; row++)
        for (int64_t i = 0; i < dims / 2; i++) {
            const int64_t a = row * x->c + (x->t->rope.interleaved ? 2 * i : i),
                          b = x->t->rope.interleaved ? a + 1 : a + dims / 2;
            double angle = oracle_angle(x, row / heads / steps, row / heads % steps, i, dims);
            if (x->n->op == DT_OP_ROPE_BWD) angle = -angle;
            x->out[0][a] = x->in[0][a] * cos(angle) - x->in[0][b] * sin(angle);
            x->out[0][b] = x->in[0][a] * sin(angle) + x->in[0][b] * cos(angle);
        }
}

static inline void oracle_position(oracle_node *x) {
    const int64_t steps = oracle_in(x, 0)->dim[1];
    for (int64_t e = 0; e < x->n_elem; e++) {
        const int64_t i = e % x->c, t = e / x->c % steps;
        const double angle = oracle_angle(x, e / x->c / steps, t, i / 2, x->c);
        x->out[0][e] = x->in[0][e] + (i % 2 ? cos(angle) : sin(angle));
    }
}

static inline void oracle_cache(oracle_node *x) {
    const dt_value *cache = oracle_in(x, DT_CACHE_IN_K_CACHE);
    const int64_t wide = cache->dim[2], steps = oracle_in(x, DT_CACHE_IN_K)->dim[1];
    for (int32_t part = 0; part < 2; part++) {
        const int32_t slot = part && x->in[DT_CACHE_IN_V] ? DT_CACHE_IN_V : DT_CACHE_IN_K;
        const int64_t row = oracle_in(x, slot)->dim[2], from = part ? x->t->cache.v_at : x->t->cache.k_at;
        for (int64_t e = 0; e < cache->dim[0] * steps * wide; e++) {
            const int64_t b = e / wide / steps, t = e / wide % steps,
                          at = (int64_t)x->in[DT_CACHE_IN_START][b] + t;
            if (t >= (int64_t)x->in[DT_CACHE_IN_COUNT][b] || at >= cache->dim[1]) continue;
            x->in[part ? DT_CACHE_IN_V_CACHE : DT_CACHE_IN_K_CACHE]
                 [(b * cache->dim[1] + at) * wide + e % wide] =
                x->in[slot][(b * steps + t) * row + from + e % wide];
        }
    }
    for (int64_t b = 0; b < cache->dim[0]; b++)
        x->out[0][b] = x->in[DT_CACHE_IN_START][b] + x->in[DT_CACHE_IN_COUNT][b];
}

/* Pools and their gradients: every element of every window. */
static inline void oracle_pool(oracle_node *x) {
    const bool max = x->n->op == DT_OP_MAXPOOL || x->n->op == DT_OP_MAXPOOL_BWD;
    const bool back = x->n->op == DT_OP_MAXPOOL_BWD || x->n->op == DT_OP_AVGPOOL_BWD;
    const dt_value *big = back ? oracle_out(x, 0) : oracle_in(x, 0);
    const dt_value *small = back ? oracle_in(x, 0) : oracle_out(x, 0);
    const dt_window_attr *t = &x->t->window;
    const double area = t->kernel[0] * t->kernel[1];
    oracle_zero(x, 0);
    for (int64_t o = 0; o < dt_value_n_elem(small); o++) {
        const int64_t c = o % small->dim[3], q = o / small->dim[3] % small->dim[2];
        const int64_t p = o / small->dim[3] / small->dim[2] % small->dim[1];
        const int64_t n = o / small->dim[3] / small->dim[2] / small->dim[1];
        bool first = true;
        for (int32_t k = 0; k < t->kernel[0] * t->kernel[1]; k++) {
            const int64_t h = p * t->stride[0] - t->pad_begin[0] + k / t->kernel[1];
            const int64_t w = q * t->stride[1] - t->pad_begin[1] + k % t->kernel[1];
            if (h < 0 || h >= big->dim[1] || w < 0 || w >= big->dim[2]) continue;
            const int64_t i = ((n * big->dim[1] + h) * big->dim[2] + w) * big->dim[3] + c;
            double v = x->in[0][back ? o : i];
            if (max && !back && x->in[DT_MAXPOOL_IN_PRE_SCALE])
                v = fmax(v * x->in[DT_MAXPOOL_IN_PRE_SCALE][c] + x->in[DT_MAXPOOL_IN_PRE_SHIFT][c], 0);
            if (back && max && (int32_t)x->in[1][o] == k) x->out[0][i] += v;
            if (back && !max) x->out[0][i] += v / area;
            if (!back && !max) x->out[0][o] += v / area;
            if (!back && max && (first || v > x->out[0][o])) {
                x->out[0][o] = v;
                x->out[1][o] = k;
                first = false;
            }
        }
    }
}

static inline void oracle_global_avgpool(oracle_node *x) {
    const bool back = x->n->op == DT_OP_GLOBAL_AVGPOOL_BWD;
    const dt_value *image = back ? oracle_out(x, 0) : oracle_in(x, 0);
    const int64_t area = image->dim[1] * image->dim[2], c = image->dim[3];
    oracle_zero(x, 0);
    for (int64_t i = 0; i < dt_value_n_elem(image); i++) {
        int64_t o = i / (area * c) * c + i % c;
        if (back)
            x->out[0][i] = x->in[0][o] / (double)area;
        else
            x->out[0][o] += x->in[0][i] / (double)area;
    }
}

/* Of Keys' kernel with a = -0.75 at `at`, the part of pixel i of n, which stands for those beyond it where it is the
 * first or the last. */
static inline double oracle_cubic(double at, int64_t i, int64_t n) {
    double sum = 0;
    for (int64_t k = -3; k < n + 3; k++) {
        const double x = fabs(at - (double)k), a = -0.75;
        if (x >= 2 || (k < 0 ? 0 : k < n ? k : n - 1) != i) continue;
        sum += x <= 1 ? (a + 2) * x * x * x - (a + 3) * x * x + 1 : a * (x * x * x - 5 * x * x + 8 * x - 4);
    }
    return sum;
}

/* The part of pixel i of n_in in pixel o of n_out, as PyTorch's documentation has it. */
static inline double oracle_part(dt_resample_mode mode, int64_t o, int64_t n_out, int64_t i, int64_t n_in) {
    const double ratio = (double)n_in / (double)n_out;
    if (mode == DT_RESAMPLE_NEAREST) return o * n_in / n_out == i;
    if (mode == DT_RESAMPLE_MEAN) {
        const int64_t first = o * n_in / n_out, last = ((o + 1) * n_in + n_out - 1) / n_out;
        return i >= first && i < last ? 1 / (double)(last - first) : 0;
    }
    if (mode == DT_RESAMPLE_BICUBIC) return oracle_cubic(((double)o + 0.5) * ratio - 0.5, i, n_in);
    const double at = mode == DT_RESAMPLE_BILINEAR ? fmax(((double)o + 0.5) * ratio - 0.5, 0)
                      : n_out > 1                  ? (double)(o * (n_in - 1)) / (double)(n_out - 1)
                                                   : 0;
    return fmax(1 - fabs(fmin(at, (double)(n_in - 1)) - (double)i), 0);
}

/* RESAMPLE, ADAPTIVE_MAXPOOL and their gradients: every pixel with every other. */
static inline void oracle_resample(oracle_node *x) {
    const dt_op op = x->n->op;
    const bool back = op == DT_OP_RESAMPLE_BWD || op == DT_OP_ADAPTIVE_MAXPOOL_BWD,
               max = op == DT_OP_ADAPTIVE_MAXPOOL || op == DT_OP_ADAPTIVE_MAXPOOL_BWD;
    const dt_value *image = back ? oracle_out(x, 0) : oracle_in(x, 0),
                   *made = back ? oracle_in(x, 0) : oracle_out(x, 0);
    const int64_t *in = image->dim, *out = made->dim, c = in[3];
    const dt_resample_mode mode = max ? DT_RESAMPLE_MEAN : x->t->resample.mode;
    oracle_zero(x, 0);
    for (int64_t e = 0; e < dt_value_n_elem(made); e++) {
        const int64_t q = e / c % out[2], p = e / c / out[2] % out[1], n = e / c / out[2] / out[1];
        bool first = true;
        for (int64_t k = 0; k < in[1] * in[2]; k++) {
            const double part = oracle_part(mode, p, out[1], k / in[2], in[1]) *
                                oracle_part(mode, q, out[2], k % in[2], in[2]);
            const int64_t i = (n * in[1] * in[2] + k) * c + e % c;
            if (part == 0) continue;
            if (!max && back) x->out[0][i] += part * x->in[0][e];
            if (!max && !back) x->out[0][e] += part * x->in[0][i];
            if (max && back && (int64_t)x->in[1][e] == k) x->out[0][i] += x->in[0][e];
            if (max && !back && (first || x->in[0][i] > x->out[0][e]))
                x->out[0][e] = x->in[0][i], x->out[1][e] = (double)k, first = false;
        }
    }
}

static inline void oracle_bias_grad(oracle_node *x) {
    oracle_zero(x, 0);
    for (int64_t i = 0; i < x->n_elem; i++) x->out[0][i % x->c] += x->in[0][i];
}

/* Adds a row's loss to the sums of the step; whether the task's sums are this loss's. */
static inline bool oracle_row_counts(const oracle_node *x, double *metrics, double loss) {
    const dt_loss_attr *t = &x->t->loss;
    metrics[DT_METRIC_LOSS] += (double)t->weight * loss;
    if (t->nth > 0) {
        metrics[DT_METRIC_LOSSES + 2 * (t->nth - 1)] += loss;
        metrics[DT_METRIC_LOSSES + 2 * (t->nth - 1) + 1] += 1;
    }
    if (t->nth > 1) return false;
    metrics[DT_METRIC_SAMPLES] += 1;
    return true;
}

static inline int32_t oracle_label(const oracle_node *x, int32_t i_valid, int64_t row) {
    const int64_t rows = x->m / oracle_in(x, 0)->dim[0]; /* of a sample */
    return x->in[i_valid] && x->in[i_valid][row / rows] == 0 ? -1 : (int32_t)x->in[1][row];
}

/* The target of class i in row n, of labels, parts and threshold. */
static inline double oracle_class_target(const oracle_node *x, int32_t i_partner, int64_t n, int32_t label,
                                         int64_t i) {
    const dt_loss_attr *a = &x->t->loss;
    const double s = (double)a->smoothing, *partner = x->in[i_partner], *parts = x->in[i_partner + 1];
    const double share = partner && partner[n] >= 0 ? parts[n] : 1;
    double t = i == label ? share : 0;
    if (partner && i == (int64_t)partner[n]) t += 1 - share;
    t = s / (double)x->c + (1 - s) * t;
    return a->binary && a->threshold > 0 ? t > (double)a->threshold : t;
}

static inline double oracle_softplus(double x) {
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static inline void oracle_xent(oracle_node *x) {
    for (int64_t n = 0; n < x->m; n++) {
        const double *logit = x->in[0] + n * x->c;
        const int32_t label = oracle_label(x, DT_XENT_IN_VALID, n);
        double sum = 0, loss = 0, top = logit[0];
        int32_t above = 0;
        for (int64_t i = 0; i < x->c; i++) top = fmax(top, logit[i]);
        for (int64_t i = 0; i < x->c; i++) sum += exp(logit[i] - top);
        for (int64_t i = 0; i < x->c; i++) {
            const double t = oracle_class_target(x, DT_XENT_IN_PARTNER, n, label, i);
            if (x->t->loss.binary)
                loss += (oracle_softplus(logit[i]) - t * logit[i]) / (double)x->c;
            else
                loss -= (logit[i] - top - log(sum)) * t;
            if (label >= 0) above += logit[i] > logit[label] || (i < label && logit[i] == logit[label]);
        }
        x->out[DT_XENT_OUT_STATS][2 * n] = top, x->out[DT_XENT_OUT_STATS][2 * n + 1] = 1 / sum;
        x->out[0][n] = label < 0 ? 0 : loss;
        if (label < 0) continue;
        if (!oracle_row_counts(x, x->in[2], loss)) continue;
        x->in[2][DT_METRIC_TOP1] += above < 1;
        x->in[2][DT_METRIC_TOP5] += above < 5;
    }
}

static inline void oracle_xent_bwd(oracle_node *x) {
    const bool binary = x->t->loss.binary;
    const double weight = (double)x->t->loss.weight * (double)x->o->step.loss_weight *
                          (double)x->o->step.loss_scale / (double)(x->m / oracle_in(x, 0)->dim[0]) /
                          (binary ? (double)x->c : 1);
    for (int64_t i = 0; i < x->n_elem; i++) {
        const int64_t n = i / x->c;
        const int32_t label = oracle_label(x, DT_XENT_BWD_IN_VALID, n);
        const double *stats = x->in[DT_XENT_BWD_IN_STATS] + n * 2,
                     p = binary ? 1 / (1 + exp(-x->in[0][i])) : exp(x->in[0][i] - stats[0]) * stats[1];
        const double t = oracle_class_target(x, DT_XENT_BWD_IN_PARTNER, n, label, i % x->c);
        x->out[0][i] = label < 0 ? 0 : weight * (p - t);
    }
}

static inline double oracle_loss_of(const dt_loss_attr *a, double x, double t, double *slope) {
    const double d = x - t, p = (double)a->param, sign = (d > 0) - (d < 0);
    switch (a->kind) {
    case DT_LOSS_VALUE:
        return *slope = 1, x;
    case DT_LOSS_MSE:
        return *slope = 2 * d, d * d;
    case DT_LOSS_L1:
        return *slope = sign, fabs(d);
    case DT_LOSS_HUBER:
        return *slope = fabs(d) < p ? d : p * sign, fabs(d) < p ? d * d / 2 : p * (fabs(d) - p / 2);
    case DT_LOSS_BCE: {
        const double yes = 1 / (1 + exp(-x));
        *slope = p * t * (yes - 1) + (1 - t) * yes;
        return p * t * oracle_softplus(-x) + (1 - t) * oracle_softplus(x);
    }
    default:
        return *slope = NAN, NAN;
    }
}

static inline void oracle_loss_op(oracle_node *x) {
    const dt_loss_attr *a = &x->t->loss;
    const int64_t rows = oracle_in(x, 0)->dim[0], n = x->n_elem / rows;
    for (int64_t r = 0; r < rows; r++) {
        double loss = 0, slope, square = 0, off = 0, y = 0, y2 = 0, right = 0, both = 0;
        x->out[0][r] = 0;
        if (x->in[DT_LOSS_IN_VALID] && x->in[DT_LOSS_IN_VALID][r] == 0) continue;
        for (int64_t i = r * n; i < (r + 1) * n; i++) {
            const double v = x->in[0][i], t = x->in[DT_LOSS_IN_TARGET] ? x->in[DT_LOSS_IN_TARGET][i] : 0;
            loss += oracle_loss_of(a, v, t, &slope) / (double)n;
            square += (v - t) * (v - t), off += fabs(v - t), y += t, y2 += t * t;
            right += (v > 0) == (t > 0.5), both += v > 0 && t > 0.5;
        }
        x->out[0][r] = loss;
        double *sum = x->in[DT_LOSS_IN_METRICS] + DT_METRIC_TASK;
        if (!oracle_row_counts(x, x->in[DT_LOSS_IN_METRICS], loss) || a->sums == DT_LOSS_SUMS_NONE) continue;
        const bool regress = a->sums == DT_LOSS_SUMS_REGRESS;
        sum[0] += (regress ? square : right) / (double)n;
        sum[1] += (regress ? off : both) / (double)n;
        sum[2] += (regress ? y : (double)n - right) / (double)n;
        sum[3] += regress ? y2 / (double)n : right == (double)n;
    }
}

static inline void oracle_loss_bwd(oracle_node *x) {
    const int64_t n = x->n_elem / oracle_in(x, 0)->dim[0];
    const double seed =
        (double)x->t->loss.weight * (double)x->o->step.loss_weight * (double)x->o->step.loss_scale;
    for (int64_t i = 0; i < x->n_elem; i++) {
        double slope = 0;
        oracle_loss_of(&x->t->loss, x->in[0][i], x->in[DT_LOSS_IN_TARGET] ? x->in[DT_LOSS_IN_TARGET][i] : 0,
                       &slope);
        x->out[0][i] =
            x->in[DT_LOSS_IN_VALID] && x->in[DT_LOSS_IN_VALID][i / n] == 0 ? 0 : seed * slope / (double)n;
    }
}

/* A row of a recurrence, one step after the other. */
typedef struct oracle_steps {
    int64_t rows, steps, units, wide; /* wide: of all gates */
    const double *w, *b, *h0, *c0, *lengths;
} oracle_steps;

static inline oracle_steps oracle_steps_of(const oracle_node *x) {
    const bool back = x->n->op == DT_OP_RECURRENT_BWD;
    const dt_value *y = back ? oracle_in(x, DT_RNN_BWD_IN_Y) : oracle_out(x, DT_RNN_OUT_Y);
    const int64_t gates = x->t->recurrent.kind == DT_LSTM ? 4 : x->t->recurrent.kind == DT_GRU ? 3 : 1;
    return (oracle_steps){.rows = y->dim[0],
                          .steps = y->dim[1],
                          .units = y->dim[2],
                          .wide = gates * y->dim[2],
                          .w = x->in[1],
                          .b = back ? NULL : x->in[DT_RNN_IN_B],
                          .h0 = x->in[back ? DT_RNN_BWD_IN_H0 : DT_RNN_IN_H0],
                          .c0 = x->in[back ? DT_RNN_BWD_IN_C0 : DT_RNN_IN_C0],
                          .lengths = x->in[back ? DT_RNN_BWD_IN_LENGTHS : DT_RNN_IN_LENGTHS]};
}

static inline int64_t oracle_end(const oracle_steps *s, int64_t row) {
    const double end = s->lengths ? s->lengths[row] : (double)s->steps;
    return end < 0 ? 0 : end > (double)s->steps ? s->steps : (int64_t)end;
}

static inline double oracle_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* h and c [H] by one step; act [gates H] and cell [H] may be NULL. */
static inline void oracle_step(const oracle_steps *s, dt_recurrent_kind kind, const double *gates, double *h,
                               double *c, double *act, double *cell) {
    const int64_t n = s->units;
    double *u = check_alloc((size_t)s->wide * sizeof *u);
    for (int64_t k = 0; k < s->wide; k++) {
        u[k] = s->b ? s->b[k] : 0;
        for (int64_t j = 0; j < n; j++) u[k] += s->w[k * n + j] * h[j];
    }
    for (int64_t j = 0; j < n; j++) {
        double a[4] = {0}, kept = 0;
        if (kind == DT_LSTM) {
            a[0] = oracle_sigmoid(gates[j] + u[j]), a[1] = oracle_sigmoid(gates[n + j] + u[n + j]);
            a[2] = tanh(gates[2 * n + j] + u[2 * n + j]),
            a[3] = oracle_sigmoid(gates[3 * n + j] + u[3 * n + j]);
            kept = c[j] = a[1] * c[j] + a[0] * a[2];
            h[j] = a[3] * tanh(c[j]);
        } else if (kind == DT_GRU) {
            a[0] = oracle_sigmoid(gates[j] + u[j]), a[1] = oracle_sigmoid(gates[n + j] + u[n + j]);
            kept = u[2 * n + j];
            a[2] = tanh(gates[2 * n + j] + a[0] * kept);
            h[j] = (1 - a[1]) * a[2] + a[1] * h[j];
        } else {
            h[j] = kind == DT_RNN_TANH ? tanh(gates[j] + u[j]) : fmax(gates[j] + u[j], 0);
        }
        for (int64_t g = 0; act && g < s->wide / n; g++) act[g * n + j] = a[g];
        if (cell) cell[j] = kept;
    }
    free(u);
}

static inline void oracle_recurrent(oracle_node *x) {
    const oracle_steps s = oracle_steps_of(x);
    const int64_t n = s.units;
    double *h = check_alloc((size_t)n * sizeof *h), *c = check_alloc((size_t)n * sizeof *c);
    for (int32_t i = 0; i <= DT_RNN_OUT_CELL; i++)
        if (x->out[i]) oracle_zero(x, i);
    for (int64_t r = 0; r < s.rows; r++) {
        for (int64_t j = 0; j < n; j++) h[j] = s.h0 ? s.h0[r * n + j] : 0, c[j] = s.c0 ? s.c0[r * n + j] : 0;
        for (int64_t i = 0, end = oracle_end(&s, r); i < end; i++) {
            const int64_t at = r * s.steps + (x->t->recurrent.reverse ? end - 1 - i : i);
            double *act = x->out[DT_RNN_OUT_ACT], *cell = x->out[DT_RNN_OUT_CELL];
            oracle_step(&s, x->t->recurrent.kind, x->in[0] + at * s.wide, h, c,
                        act ? act + at * s.wide : NULL, cell ? cell + at * n : NULL);
            memcpy(x->out[0] + at * n, h, (size_t)n * sizeof *h);
        }
        if (x->out[DT_RNN_OUT_H]) memcpy(x->out[DT_RNN_OUT_H] + r * n, h, (size_t)n * sizeof *h);
        if (x->out[DT_RNN_OUT_C]) memcpy(x->out[DT_RNN_OUT_C] + r * n, c, (size_t)n * sizeof *c);
    }
    free(h);
    free(c);
}

/* Of one unit: dh and dc become those of the step before, as far as they pass by the product; dx of the gates, du of
 * the product. */
static inline void oracle_slope(dt_recurrent_kind kind, const double *a, double cell, double h, double h_prev,
                                double c_prev, double *dh, double *dc, double *dx, double *du) {
    const double d = *dh;
    *dh = 0;
    if (kind == DT_LSTM) {
        const double tc = tanh(cell);
        *dc += d * a[3] * (1 - tc * tc);
        dx[0] = *dc * a[2] * a[0] * (1 - a[0]), dx[1] = *dc * c_prev * a[1] * (1 - a[1]);
        dx[2] = *dc * a[0] * (1 - a[2] * a[2]), dx[3] = d * tc * a[3] * (1 - a[3]);
        *dc *= a[1];
    } else if (kind == DT_GRU) {
        dx[2] = d * (1 - a[1]) * (1 - a[2] * a[2]);
        dx[0] = dx[2] * cell * a[0] * (1 - a[0]), dx[1] = d * (h_prev - a[2]) * a[1] * (1 - a[1]);
        *dh = d * a[1];
    } else {
        dx[0] = kind == DT_RNN_TANH ? d * (1 - h * h) : h > 0 ? d : 0;
    }
    for (int32_t g = 0; g < 4; g++) du[g] = kind == DT_GRU && g == 2 ? dx[2] * a[0] : dx[g];
}

static inline void oracle_recurrent_bwd(oracle_node *x) {
    const oracle_steps s = oracle_steps_of(x);
    const int64_t n = s.units, lanes = s.wide / n;
    const double *y = x->in[DT_RNN_BWD_IN_Y], *act = x->in[DT_RNN_BWD_IN_ACT],
                 *cell = x->in[DT_RNN_BWD_IN_CELL], *dy = x->in[DT_RNN_BWD_IN_DY],
                 *dh_n = x->in[DT_RNN_BWD_IN_DH], *dc_n = x->in[DT_RNN_BWD_IN_DC];
    double *dw = x->out[DT_RNN_BWD_OUT_DW], *db = x->out[DT_RNN_BWD_OUT_DB];
    double *dh = check_alloc((size_t)n * sizeof *dh), *dc = check_alloc((size_t)n * sizeof *dc),
           *du = check_alloc((size_t)s.wide * sizeof *du);
    for (int32_t i = 0; i <= DT_RNN_BWD_OUT_DC0; i++)
        if (x->out[i]) oracle_zero(x, i);
    for (int64_t r = 0; r < s.rows; r++) {
        for (int64_t j = 0; j < n; j++)
            dh[j] = dh_n ? dh_n[r * n + j] : 0, dc[j] = dc_n ? dc_n[r * n + j] : 0;
        const int64_t end = oracle_end(&s, r), step = x->t->recurrent.reverse ? -1 : 1;
        for (int64_t i = end - 1; i >= 0; i--) {
            const int64_t at = r * s.steps + (step < 0 ? end - 1 - i : i);
            const double *h_prev = i > 0 ? y + (at - step) * n : s.h0 ? s.h0 + r * n : NULL;
            const double *c_prev = i > 0  ? (cell ? cell + (at - step) * n : NULL)
                                   : s.c0 ? s.c0 + r * n
                                          : NULL;
            for (int64_t j = 0; j < n; j++) {
                double a[4] = {0}, dx[4] = {0}, d[4];
                for (int64_t g = 0; act && g < lanes; g++) a[g] = act[at * s.wide + g * n + j];
                if (dy) dh[j] += dy[at * n + j];
                oracle_slope(x->t->recurrent.kind, a, cell ? cell[at * n + j] : 0, y[at * n + j],
                             h_prev ? h_prev[j] : 0, c_prev ? c_prev[j] : 0, &dh[j], &dc[j], dx, d);
                for (int64_t g = 0; g < lanes; g++)
                    x->out[0][at * s.wide + g * n + j] = dx[g], du[g * n + j] = d[g];
            }
            for (int64_t k = 0; k < s.wide; k++) {
                for (int64_t j = 0; j < n; j++) dh[j] += du[k] * s.w[k * n + j];
                for (int64_t j = 0; dw && j < n; j++) dw[k * n + j] += h_prev ? du[k] * h_prev[j] : 0;
                if (db) db[k] += du[k];
            }
        }
        for (int64_t j = 0; x->out[DT_RNN_BWD_OUT_DH0] && j < n; j++)
            x->out[DT_RNN_BWD_OUT_DH0][r * n + j] = dh[j];
        for (int64_t j = 0; x->out[DT_RNN_BWD_OUT_DC0] && j < n; j++)
            x->out[DT_RNN_BWD_OUT_DC0][r * n + j] = dc[j];
    }
    free(dh);
    free(dc);
    free(du);
}

static inline void oracle_cast(oracle_node *x) {
    for (int64_t i = 0; i < x->n_elem; i++)
        x->out[0][i] =
            x->t->cast.dtype == DT_DTYPE_I32 ? fmin(fmax(x->in[0][i], INT32_MIN), INT32_MAX) : x->in[0][i];
}

/* The function of the case in op_cases.h. */
static inline void oracle_call(oracle_node *x) {
    for (int64_t i = 0; i < x->n_elem; i++) {
        x->out[0][i] = 2 * x->in[0][i] + x->in[1][i];
        if (x->out[1]) x->out[1][i] = (double)(i % 7);
    }
}

/* One number of 8 bits, within [low, low + 255]. */
static inline double oracle_byte(double v, double zero, double low) {
    return fmin(fmax(nearbyint(v) + zero, low), low + 255);
}

static inline void oracle_quantize(oracle_node *x) {
    const dt_quantize_attr *t = &x->t->quantize;
    const double low = t->is_signed ? -128 : 0;
    const int64_t groups = x->out[1] ? dt_value_n_elem(&x->o->g->value[x->n->out[1]]) / 2 : 1,
                  n = x->n_elem / groups;
    for (int64_t g = 0; g < groups; g++) {
        float scale = t->scale, zero = (float)t->zero;
        if (x->out[1]) {
            float least = 0, most = 0;
            for (int64_t i = g * n; i < (g + 1) * n; i++) {
                least = fminf(least, (float)x->in[0][i]);
                most = fmaxf(most, (float)x->in[0][i]);
            }
            scale = (most - least) / 255;
            zero = fminf(fmaxf(nearbyintf(-least / scale), 0), 255);
            x->out[1][2 * g] = (double)scale, x->out[1][2 * g + 1] = (double)zero;
        }
        for (int64_t i = g * n; i < (g + 1) * n; i++)
            x->out[0][i] = oracle_byte((double)((float)x->in[0][i] / scale), (double)zero, low);
    }
}

static inline void oracle_dequantize(oracle_node *x) {
    for (int64_t i = 0; i < x->n_elem; i++)
        x->out[0][i] = (x->in[0][i] - x->t->quantize.zero) * (double)x->t->quantize.scale;
}

/* Weight i of channel k. */
static inline double oracle_weight(const dt_qproduct *q, int64_t k, int64_t i) {
    if (q->bits == 8) return (double)q->w[k * q->depth + i] * (q->w_scale ? (double)q->w_scale[k] : 1);
    const int64_t blocks = dt_ceil_div(q->depth, q->block), b = k * blocks + i / q->block, at = i % q->block;
    const int v = q->w4[b * (q->block / 2) + at / 2] >> at % 2 * 4 & 15;
    return (v - (q->w4_zero ? q->w4_zero[b] : 8)) * (double)q->w4_scale[b];
}

static inline void oracle_qproduct(oracle_node *x) {
    const dt_qproduct *q = x->t->qproduct.product;
    const dt_value *in = &x->o->g->value[x->n->in[0]], *out = &x->o->g->value[x->n->out[0]];
    const int64_t m = dt_value_n_elem(out) / q->k;
    const int64_t each = x->in[1] ? m / x->o->g->value[x->n->in[1]].dim[0] : 1;
    const bool added = x->in[2] != NULL;
    for (int64_t r = 0; r < m; r++)
        for (int64_t k = 0; k < q->k; k++) {
            double sum = 0, scale = q->bits == 4 ? 1 : (double)q->x.scale,
                   zero = q->bits == 4 ? 0 : q->x.zero;
            if (x->in[1]) scale = x->in[1][r / each * 2], zero = x->in[1][r / each * 2 + 1];
            for (int64_t i = 0; i < q->depth; i++) {
                double v = zero;
                if (q->dense) {
                    v = x->in[0][r * q->depth + i];
                } else {
                    const dt_window_attr *t = &q->window;
                    const int64_t c = in->dim[3] / t->groups, tap = i / c,
                                  pixel = r % (out->dim[1] * out->dim[2]);
                    const int64_t h = pixel / out->dim[2] * t->stride[0] - t->pad_begin[0] +
                                      tap / t->kernel[1] * t->dilation[0],
                                  w = pixel % out->dim[2] * t->stride[1] - t->pad_begin[1] +
                                      tap % t->kernel[1] * t->dilation[1],
                                  n = r / (out->dim[1] * out->dim[2]),
                                  from = k / (q->k / t->groups) * c + i % c;
                    if (h >= 0 && h < in->dim[1] && w >= 0 && w < in->dim[2])
                        v = x->in[0][((n * in->dim[1] + h) * in->dim[2] + w) * in->dim[3] + from];
                }
                sum += (v - zero) * scale * oracle_weight(q, k, i);
            }
            if (q->bias) sum += q->bias[k] * scale * (double)q->w_scale[k];
            if (q->bias_f32) sum += (double)q->bias_f32[k];
            if (q->has_mid)
                sum = (oracle_byte(sum / (double)q->mid.scale, q->mid.zero, 0) - q->mid.zero) *
                      (double)q->mid.scale;
            if (added) sum += (x->in[2][r * q->k + k] - q->res.zero) * (double)q->res.scale;
            if (q->act) sum = fmax(sum, 0);
            if (q->y_type == DT_DTYPE_U8) sum = oracle_byte(sum / (double)q->y.scale, q->y.zero, 0);
            x->out[0][r * q->k + k] = sum;
        }
}

static void (*const oracle_table[DT_OP_COUNT])(oracle_node *x) = {
    [DT_OP_EDIT] = oracle_edit,
    [DT_OP_INPUT] = oracle_input,
    [DT_OP_CONV] = oracle_conv,
    [DT_OP_DENSE] = oracle_dense,
    [DT_OP_BATCHNORM] = oracle_batchnorm,
    [DT_OP_UNARY] = oracle_eltwise,
    [DT_OP_BINARY] = oracle_binary,
    [DT_OP_SOFTMAX] = oracle_softmax,
    [DT_OP_LOG_SOFTMAX] = oracle_softmax,
    [DT_OP_LAYERNORM] = oracle_norm,
    [DT_OP_RMSNORM] = oracle_norm,
    [DT_OP_GROUPNORM] = oracle_norm,
    [DT_OP_EMBED] = oracle_embed,
    [DT_OP_ONE_HOT] = oracle_one_hot,
    [DT_OP_POSITION] = oracle_position,
    [DT_OP_ROPE] = oracle_rope,
    [DT_OP_MAXPOOL] = oracle_pool,
    [DT_OP_AVGPOOL] = oracle_pool,
    [DT_OP_GLOBAL_AVGPOOL] = oracle_global_avgpool,
    [DT_OP_RESAMPLE] = oracle_resample,
    [DT_OP_ADAPTIVE_MAXPOOL] = oracle_resample,
    [DT_OP_RESAMPLE_BWD] = oracle_resample,
    [DT_OP_ADAPTIVE_MAXPOOL_BWD] = oracle_resample,
    [DT_OP_CONCAT] = oracle_concat,
    [DT_OP_SLICE] = oracle_slice,
    [DT_OP_PAD] = oracle_slice,
    [DT_OP_TRANSPOSE] = oracle_transpose,
    [DT_OP_MATMUL] = oracle_matmul,
    [DT_OP_REDUCE] = oracle_reduce,
    [DT_OP_REDUCE_BWD] = oracle_reduce_bwd,
    [DT_OP_DROPOUT] = oracle_eltwise,
    [DT_OP_ATTENTION] = oracle_attention,
    [DT_OP_RECURRENT] = oracle_recurrent,
    [DT_OP_XENT] = oracle_xent,
    [DT_OP_LOSS] = oracle_loss_op,
    [DT_OP_CAST] = oracle_cast,
    [DT_OP_CALL] = oracle_call,
    [DT_OP_QUANTIZE] = oracle_quantize,
    [DT_OP_DEQUANTIZE] = oracle_dequantize,
    [DT_OP_QPRODUCT] = oracle_qproduct,
    [DT_OP_BN_STATS] = oracle_bn_stats,
    [DT_OP_BN_FINALIZE] = oracle_bn_finalize,
    [DT_OP_BN_SYNC] = oracle_bn_sync,
    [DT_OP_BN_SYNC_GRAD] = oracle_bn_sync_grad,
    [DT_OP_BN_FOLD] = oracle_bn_fold,
    [DT_OP_BN_APPLY] = oracle_bn_apply,
    [DT_OP_CONV_DGRAD] = oracle_conv,
    [DT_OP_CONV_WGRAD] = oracle_conv,
    [DT_OP_DENSE_DGRAD] = oracle_dense,
    [DT_OP_DENSE_WGRAD] = oracle_dense,
    [DT_OP_BIAS_GRAD] = oracle_bias_grad,
    [DT_OP_BN_REDUCE] = oracle_bn_reduce,
    [DT_OP_BN_DX] = oracle_bn_dx,
    [DT_OP_GRAM] = oracle_gram,
    [DT_OP_GRAM_CROSS] = oracle_gram,
    [DT_OP_BN_GRAM] = oracle_bn_gram,
    [DT_OP_BN_MASK] = oracle_bn_mask,
    [DT_OP_BN_GRAM_GRAD] = oracle_bn_gram_grad,
    [DT_OP_BN_GRAM_DX] = oracle_bn_gram_dx,
    [DT_OP_UNARY_BWD] = oracle_eltwise,
    [DT_OP_BINARY_BWD] = oracle_binary_bwd,
    [DT_OP_SOFTMAX_BWD] = oracle_softmax_bwd,
    [DT_OP_LOG_SOFTMAX_BWD] = oracle_softmax_bwd,
    [DT_OP_LAYERNORM_BWD] = oracle_norm_bwd,
    [DT_OP_RMSNORM_BWD] = oracle_norm_bwd,
    [DT_OP_GROUPNORM_BWD] = oracle_norm_bwd,
    [DT_OP_EMBED_BWD] = oracle_embed_bwd,
    [DT_OP_ROPE_BWD] = oracle_rope,
    [DT_OP_MAXPOOL_BWD] = oracle_pool,
    [DT_OP_AVGPOOL_BWD] = oracle_pool,
    [DT_OP_GLOBAL_AVGPOOL_BWD] = oracle_global_avgpool,
    [DT_OP_DROPOUT_BWD] = oracle_eltwise,
    [DT_OP_ATTENTION_BWD] = oracle_attention_bwd,
    [DT_OP_CACHE] = oracle_cache,
    [DT_OP_RECURRENT_BWD] = oracle_recurrent_bwd,
    [DT_OP_XENT_BWD] = oracle_xent_bwd,
    [DT_OP_LOSS_BWD] = oracle_loss_bwd,
};

/* Runs nodes [0, n_node) in order. Metrics and running statistics are updated as by a program. */
static inline void oracle_run(oracle *o, int32_t n_node) {
    for (dt_nid i = 0; i < n_node; i++) {
        const dt_node *n = &o->g->node[i];
        if (dt_op_is_idle(o->g, n)) continue;
        const dt_value *main = &o->g->value[n->in[dt_op_get(n->op)->main]];
        oracle_node x = {.o = o, .n = n, .t = &n->attr, .n_elem = dt_value_n_elem(main)};
        x.c = n->op == DT_OP_BN_FINALIZE ? dt_value_n_elem(&o->g->value[n->in[DT_FINALIZE_IN_GAMMA]])
                                         : main->dim[main->ndim - 1];
        x.m = x.c > 0 ? x.n_elem / x.c : 0;
        assert_true(n->n_in <= ORACLE_IN_MAX);
        for (int32_t j = 0; j < n->n_in; j++) x.in[j] = n->in[j] >= 0 ? o->data[n->in[j]] : NULL;
        for (int32_t j = 0; j < n->n_out; j++) x.out[j] = n->out[j] >= 0 ? o->data[n->out[j]] : NULL;
        oracle_table[n->op](&x);
    }
}

/* Sum of the losses of rows, by their weights; of a sample with several rows their mean. */
static inline double oracle_loss(const oracle *o) {
    double sum = 0;
    for (int32_t k = 0; k < o->g->n_loss; k++) {
        const dt_value *v = &o->g->value[o->g->loss[k]];
        const double weight =
            (double)o->g->node[v->producer].attr.loss.weight * (double)v->dim[0] / (double)dt_value_n_elem(v);
        for (int64_t i = 0; i < dt_value_n_elem(v); i++) sum += weight * o->data[o->g->loss[k]][i];
    }
    return sum;
}

#endif
