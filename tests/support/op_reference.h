/* The ops written down once more, as plainly as possible and in double: what the CPU kernels are held against
 * where finite differences do not reach (backward ops, fused options, large shapes). No blocking, no threads,
 * no cleverness. */
#ifndef DT_TEST_OP_REFERENCE_H
#define DT_TEST_OP_REFERENCE_H

#include "op_cases.h"

/* Operands of a node: inputs as floats, outputs to be filled. */
typedef struct op_ref {
    const dt_graph *g;
    const dt_node *n;
    const dt_attr *t;
    float *in[DT_MAX_IN];
    double *out[DT_MAX_OUT];
    int64_t c, m, n_elem; /* of input 0: last dim, rows, elements */
} op_ref;

static inline const dt_value *ref_in(const op_ref *r, int32_t i) {
    return &r->g->value[r->n->in[i]];
}
static inline const dt_value *ref_out(const op_ref *r, int32_t i) {
    return &r->g->value[r->n->out[i]];
}

/* Element [a,b,c,d] of a 4-D array. */
static inline int64_t ref_at(const dt_value *v, int64_t a, int64_t b, int64_t c, int64_t d) {
    return ((a * v->dim[1] + b) * v->dim[2] + c) * v->dim[3] + d;
}

static inline double ref_bilinear(const op_ref *r, int64_t n, double y, double x, int64_t c) {
    const dt_value *v = ref_in(r, 0);
    const float *aug = r->in[1] + n * 8;
    double last_y = (double)aug[3] - 1, last_x = (double)aug[2] - 1, sum = 0;
    y = fmin(fmax(y, 0), last_y), x = fmin(fmax(x, 0), last_x);
    for (int k = 0; k < 4; k++) {
        double sy = fmin(floor(y) + k / 2, last_y), sx = fmin(floor(x) + k % 2, last_x);
        double wy = k / 2 ? y - floor(y) : 1 - (y - floor(y)), wx = k % 2 ? x - floor(x) : 1 - (x - floor(x));
        sum +=
            wy * wx *
            (double)r->in[0][ref_at(v, n, (int64_t)(aug[1] + (float)sy), (int64_t)(aug[0] + (float)sx), c)];
    }
    return floor(sum + 0.5);
}

static inline void ref_input(op_ref *r) {
    const dt_value *src = ref_in(r, 0), *dst = ref_out(r, 0);
    for (int64_t n = 0; n < dst->dim[0]; n++)
        for (int64_t h = 0; h < dst->dim[1]; h++)
            for (int64_t w = 0; w < dst->dim[2]; w++)
                for (int64_t c = 0; c < dst->dim[3]; c++) {
                    double *x = &r->out[0][ref_at(dst, n, h, w, c)];
                    *x = 0;
                    if (c >= src->dim[3]) continue;
                    double v;
                    if (r->t->source_crop) {
                        const float *aug = r->in[1] + n * 8;
                        int64_t col = aug[4] > 0 ? dst->dim[2] - 1 - w : w;
                        v = ref_bilinear(r, n, ((double)h + 0.5) * (double)aug[3] / (double)dst->dim[1] - 0.5,
                                         ((double)col + 0.5) * (double)aug[2] / (double)dst->dim[2] - 0.5, c);
                    } else {
                        v = (double)r->in[0][ref_at(src, n, h, w, c)];
                    }
                    *x = (v / 255 - (double)r->t->mean[c]) / (double)r->t->stddev[c];
                }
}

/* The result of a CONV with apply, from the plain convolution's. */
static inline void ref_conv_apply(op_ref *r) {
    const int64_t k = ref_out(r, 0)->dim[3];
    for (int64_t i = 0; i < dt_value_n_elem(ref_out(r, 0)); i++) {
        double *y = &r->out[0][i];
        *y = *y * (double)r->in[2][i % k] + (double)r->in[3][i % k];
        if (r->t->residual_scaled)
            *y += (double)r->in[4][i] * (double)r->in[5][i % k] + (double)r->in[6][i % k];
        else if (r->t->residual)
            *y += (double)r->in[4][i];
        if (r->t->relu) *y = fmax(*y, 0);
    }
}

/* Visits every (output, input, weight) triple of a convolution: all three ops are sums over them. */
static inline void ref_conv(op_ref *r) {
    dt_conv_dims d = dt_op_conv_dims(r->g, r->n);
    int64_t cg = d.c / d.groups, kg = d.k / d.groups;
    if (r->n->op == DT_OP_CONV && r->t->bias)
        for (int64_t i = 0; i < d.n * d.p * d.q * d.k; i++) r->out[0][i] = (double)r->in[2][i % d.k];
    for (int64_t n = 0; n < d.n; n++)
        for (int64_t p = 0; p < d.p; p++)
            for (int64_t q = 0; q < d.q; q++)
                for (int64_t i = 0; i < d.r * d.s; i++) {
                    int64_t h = p * d.stride_h - d.pad_h + i / d.s * d.dil_h;
                    int64_t w = q * d.stride_w - d.pad_w + i % d.s * d.dil_w;
                    if (h < 0 || h >= d.h || w < 0 || w >= d.w) continue;
                    for (int64_t k = 0; k < d.k; k++)
                        for (int64_t c = 0; c < cg; c++) {
                            int64_t x = ((n * d.h + h) * d.w + w) * d.c + k / kg * cg + c;
                            int64_t y = ((n * d.p + p) * d.q + q) * d.k + k, f = (k * d.r * d.s + i) * cg + c;
                            if (r->n->op == DT_OP_CONV)
                                r->out[0][y] += (double)r->in[0][x] * (double)r->in[1][f];
                            if (r->n->op == DT_OP_CONV_DGRAD)
                                r->out[0][x] += (double)r->in[0][y] * (double)r->in[1][f];
                            if (r->n->op == DT_OP_CONV_WGRAD)
                                r->out[0][f] += (double)r->in[0][x] * (double)r->in[1][y];
                        }
                }
    if (r->n->op == DT_OP_CONV && r->t->apply) ref_conv_apply(r);
    if (r->n->op != DT_OP_CONV_DGRAD) return;
    const float *second = r->t->second_grad ? r->in[2] : NULL;
    const float *y = r->t->mask == DT_MASK_FROM_Y ? r->in[second ? 3 : 2] : NULL;
    for (int64_t i = 0; i < d.n * d.h * d.w * d.c; i++) {
        if (second) r->out[0][i] += (double)second[i];
        if (y && !(y[i] > 0)) r->out[0][i] = 0;
    }
}

/* out [ka,kb] = a^T b */
static inline void ref_product(const float *a, const float *b, int64_t m, int64_t ka, int64_t kb,
                               double *out) {
    for (int64_t e = 0; e < ka * kb; e++)
        for (int64_t i = 0; i < m; i++) out[e] += (double)a[i * ka + e / kb] * (double)b[i * kb + e % kb];
}

static inline void ref_gram(op_ref *r) {
    ref_product(r->in[0], r->in[0], r->m, r->c, r->c, r->out[0]);
    for (int64_t i = 0; i < r->n_elem; i++) r->out[1][i % r->c] += (double)r->in[0][i];
}

static inline void ref_gram_cross(op_ref *r) {
    ref_product(r->in[0], r->in[1], r->m, r->c, ref_out(r, 0)->dim[1], r->out[0]);
    for (int64_t i = 0; r->t->stats && i < r->n_elem; i++) r->out[1][i % r->c] += (double)r->in[0][i];
}

static inline void ref_bn_gram(op_ref *r) {
    const int64_t c = r->c, n_k = ref_in(r, 2)->dim[0];
    const double m = r->t->kernel[0];
    for (int64_t k = 0; k < n_k; k++) {
        const float *w = r->in[2] + k * c;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < c; i++) {
            double dot = 0;
            for (int64_t j = 0; j < c; j++)
                dot += (double)w[j] * ((double)r->in[0][i * c + j] / m -
                                       (double)r->in[1][i] * (double)r->in[1][j] / (m * m));
            r->out[4][k * c + i] = dot;
            mean += (double)w[i] * (double)r->in[1][i] / m;
            var += dot * (double)w[i];
        }
        r->out[0][k] = mean;
        r->out[1][k] = 1 / sqrt(fmax(var, 0) + (double)r->t->eps);
        r->out[2][k] = (double)r->in[3][k] * r->out[1][k];
        r->out[3][k] = (double)r->in[4][k] - mean * r->out[2][k];
    }
}

static inline void ref_bn_mask(op_ref *r) {
    const float *y = r->in[r->t->second_grad ? 2 : 1];
    for (int64_t i = 0; i < r->n_elem; i++) {
        double dz = (double)r->in[0][i] + (r->t->second_grad ? (double)r->in[1][i] : 0);
        if (r->t->mask == DT_MASK_FROM_Y && !(y[i] > 0)) dz = 0;
        if (r->t->writes_dz) r->out[1][i] = dz;
        r->out[0][i % r->c] += dz;
    }
}

/* Through the definitions: dc = A*dz + B*c + D, dw = dc^T x, with the sums over rows written as matrices. */
static inline void ref_bn_gram_grad(op_ref *r) {
    const int64_t c = r->c, n_k = r->m;
    const float *p = r->in[0], *dbeta = r->in[1], *wcov = r->in[2], *sum = r->in[3], *w = r->in[4];
    const double m = r->t->kernel[0];
    for (int64_t k = 0; k < n_k; k++) {
        const double is = (double)r->in[6][k], a = (double)r->in[7][k] * is;
        double dgamma = 0;
        for (int64_t i = 0; i < c; i++)
            dgamma +=
                is * (double)w[k * c + i] * ((double)p[k * c + i] - (double)dbeta[k] * (double)sum[i] / m);
        const double b = -a * is * dgamma / m, d = -a * (double)dbeta[k] / m - b * (double)r->in[5][k];
        r->out[0][k] = dgamma;
        r->out[1][k] = (double)dbeta[k];
        for (int64_t i = 0; i < c; i++) {
            r->out[2][k * c + i] = a * ((double)p[k * c + i] - (double)dbeta[k] * (double)sum[i] / m) +
                                   b * m * (double)wcov[k * c + i];
            r->out[3][k * c + i] = a * (double)w[k * c + i];
            r->out[4][c * c + i] += d * (double)w[k * c + i];
            for (int64_t j = 0; j < c; j++)
                r->out[4][i * c + j] += b * (double)w[k * c + i] * (double)w[k * c + j];
        }
    }
}

static inline void ref_bn_gram_dx(op_ref *r) {
    const int64_t c = ref_out(r, 0)->dim[ref_out(r, 0)->ndim - 1];
    for (int64_t e = 0; e < r->m * c; e++) {
        const int64_t row = e / c, i = e % c;
        r->out[0][e] = (double)r->in[3][c * c + i];
        for (int64_t k = 0; k < r->c; k++)
            r->out[0][e] += (double)r->in[0][row * r->c + k] * (double)r->in[1][k * c + i];
        for (int64_t j = 0; j < c; j++)
            r->out[0][e] += (double)r->in[2][row * c + j] * (double)r->in[3][j * c + i];
    }
}

static inline void ref_dense(op_ref *r) {
    bool forward = r->n->op == DT_OP_DENSE, wgrad = r->n->op == DT_OP_DENSE_WGRAD;
    int64_t n_row = ref_in(r, 0)->dim[0], k = wgrad ? ref_in(r, 1)->dim[1] : ref_in(r, 1)->dim[0];
    int64_t c = wgrad ? r->n_elem / n_row : ref_in(r, 1)->dim[1];
    for (int64_t n = 0; n < n_row; n++)
        for (int64_t j = 0; j < k; j++) {
            if (forward && r->t->bias) r->out[0][n * k + j] = (double)r->in[2][j];
            for (int64_t i = 0; i < c; i++) {
                if (forward)
                    r->out[0][n * k + j] += (double)r->in[0][n * c + i] * (double)r->in[1][j * c + i];
                if (wgrad) r->out[0][j * c + i] += (double)r->in[0][n * c + i] * (double)r->in[1][n * k + j];
                if (!forward && !wgrad)
                    r->out[0][n * c + i] += (double)r->in[0][n * k + j] * (double)r->in[1][j * c + i];
            }
        }
}

static inline void ref_bn_stats(op_ref *r) {
    double *mean = r->out[0], *var = r->out[0] + r->c, m = (double)r->m;
    for (int64_t i = 0; i < r->n_elem; i++) mean[i % r->c] += (double)r->in[0][i] / m;
    for (int64_t i = 0; i < r->n_elem; i++) var[i % r->c] += pow((double)r->in[0][i] - mean[i % r->c], 2) / m;
}

static inline void ref_bn_finalize(op_ref *r) {
    int64_t c = r->c;
    double m = r->t->kernel[0];
    for (int64_t i = 0; i < c; i++) {
        double mean = (double)r->in[0][i], var = (double)r->in[0][c + i];
        if (r->t->stats_are_sums) mean /= m, var = fmax(var / m - mean * mean, 0);
        double invstd = 1 / sqrt(var + (double)r->t->eps), scale = (double)r->in[1][i] * invstd;
        r->out[0][i] = mean, r->out[1][i] = invstd;
        r->out[2][i] = scale, r->out[3][i] = (double)r->in[2][i] - mean * scale;
    }
}

static inline void ref_bn_fold(op_ref *r) {
    for (int64_t i = 0; i < r->c; i++) {
        r->out[0][i] = (double)r->in[0][i] / sqrt((double)r->in[3][i] + (double)r->t->eps);
        r->out[1][i] = (double)r->in[1][i] - (double)r->in[2][i] * r->out[0][i];
    }
}

static inline void ref_bn_apply(op_ref *r) {
    for (int64_t i = 0; i < r->n_elem; i++) {
        int64_t k = i % r->c;
        double y = (double)r->in[0][i] * (double)r->in[1][k] + (double)r->in[2][k];
        if (r->t->residual_scaled)
            y += (double)r->in[3][i] * (double)r->in[4][k] + (double)r->in[5][k];
        else if (r->t->residual)
            y += (double)r->in[3][i];
        r->out[0][i] = r->t->relu ? fmax(y, 0) : y;
    }
}

/* The mask as the forward's fp32 arithmetic decides it. */
static inline bool ref_masked(const float *c, const float *scale, const float *shift, int64_t i, int64_t k) {
    float y = c[i] * scale[k];
    return !(y + shift[k] > 0);
}

/* With pooled: the gradient of element i of c, from the operands after index `first`; windows in any order.
 */
static inline double ref_pooled(const op_ref *r, int64_t i, int32_t first) {
    const dt_attr *t = r->t;
    const dt_value *image = ref_in(r, 0), *pooled = ref_in(r, first);
    const int64_t c = i % r->c, w = i / r->c % image->dim[2], h = i / r->c / image->dim[2] % image->dim[1];
    const int64_t n = i / r->c / image->dim[2] / image->dim[1];
    double sum = 0;
    for (int64_t p = 0; p < pooled->dim[1]; p++)
        for (int64_t q = 0; q < pooled->dim[2]; q++) {
            const int64_t o = ref_at(pooled, n, p, q, c);
            const int32_t at = (int32_t)r->in[r->n->n_in - 1][o];
            if (p * t->stride[0] - t->pad[0] + at / t->kernel[1] != h ||
                q * t->stride[1] - t->pad[1] + at % t->kernel[1] != w)
                continue;
            sum += (double)r->in[first][o] + (t->second_grad ? (double)r->in[first + 1][o] : 0);
        }
    return sum;
}

static inline void ref_bn_reduce(op_ref *r) {
    int32_t j = r->t->pooled ? 0 : r->t->second_grad ? 2 : 1;
    const float *x = r->in[j], *mean = r->in[j + 1], *invstd = r->in[j + 2], *gamma = r->in[j + 3];
    double *dgamma = r->out[0], *dbeta = r->out[1], *coef = r->out[2], m = (double)r->m;
    for (int64_t i = 0; i < r->n_elem; i++) {
        int64_t k = i % r->c;
        double dz = r->t->pooled ? ref_pooled(r, i, 6)
                                 : (double)r->in[0][i] + (r->t->second_grad ? (double)r->in[1][i] : 0);
        if (r->t->mask == DT_MASK_FROM_Y && !(r->in[j + 4][i] > 0)) dz = 0;
        if (r->t->mask == DT_MASK_FROM_C && ref_masked(x, r->in[j + 4], r->in[j + 5], i, k)) dz = 0;
        if (r->t->writes_dz) r->out[3][i] = dz;
        dbeta[k] += dz;
        dgamma[k] += dz * ((double)x[i] - (double)mean[k]) * (double)invstd[k];
    }
    for (int64_t k = 0; k < r->c; k++) {
        double a = (double)gamma[k] * (double)invstd[k], b = -a * (double)invstd[k] * dgamma[k] / m;
        coef[k] = a, coef[r->c + k] = b, coef[2 * r->c + k] = -a * dbeta[k] / m - b * (double)mean[k];
    }
}

static inline void ref_bn_dx(op_ref *r) {
    const int32_t j = r->t->pooled ? 0 : 1;
    const float *c = r->in[j], *coef = r->in[j + 1];
    for (int64_t i = 0; i < r->n_elem; i++) {
        int64_t k = i % r->c;
        double dz = r->t->pooled ? ref_pooled(r, i, 4) : (double)r->in[0][i];
        if (r->t->mask == DT_MASK_FROM_C && ref_masked(c, r->in[j + 2], r->in[j + 3], i, k)) dz = 0;
        r->out[0][i] =
            (double)coef[k] * dz + (double)coef[r->c + k] * (double)c[i] + (double)coef[2 * r->c + k];
    }
}

static inline void ref_relu_bwd(op_ref *r) {
    for (int64_t i = 0; i < r->n_elem; i++) r->out[0][i] = r->in[1][i] > 0 ? (double)r->in[0][i] : 0;
}

static inline void ref_bias_grad(op_ref *r) {
    for (int64_t i = 0; i < r->n_elem; i++) r->out[0][i % r->c] += (double)r->in[0][i];
}

/* Pools and their gradients: visits every element of every window. */
static inline void ref_pool(op_ref *r) {
    bool max = r->n->op == DT_OP_MAXPOOL || r->n->op == DT_OP_MAXPOOL_BWD;
    bool back = r->n->op == DT_OP_MAXPOOL_BWD || r->n->op == DT_OP_AVGPOOL_BWD;
    const dt_value *large = back ? ref_out(r, 0) : ref_in(r, 0), *small = back ? ref_in(r, 0) : ref_out(r, 0);
    const dt_attr *t = r->t;
    for (int64_t o = 0; o < dt_value_n_elem(small); o++) {
        int64_t c = o % small->dim[3], q = o / small->dim[3] % small->dim[2];
        int64_t p = o / small->dim[3] / small->dim[2] % small->dim[1],
                n = o / small->dim[3] / small->dim[2] / small->dim[1];
        bool first = true;
        for (int32_t k = 0; k < t->kernel[0] * t->kernel[1]; k++) {
            int64_t h = p * t->stride[0] - t->pad[0] + k / t->kernel[1],
                    w = q * t->stride[1] - t->pad[1] + k % t->kernel[1];
            if (h < 0 || h >= large->dim[1] || w < 0 || w >= large->dim[2]) continue;
            int64_t i = ref_at(large, n, h, w, c);
            double x = (double)r->in[0][back ? o : i];
            if (t->prologue) x = fmax(x * (double)r->in[1][c] + (double)r->in[2][c], 0);
            double share = 1.0 / (t->kernel[0] * t->kernel[1]);
            if (back && max && (int32_t)r->in[1][o] == k) r->out[0][i] += x;
            if (back && !max) r->out[0][i] += x * share;
            if (!back && !max) r->out[0][o] += x * share;
            if (!back && max && (first || x > r->out[0][o])) {
                r->out[0][o] = x;
                r->out[1][o] = k;
                first = false;
            }
        }
    }
}

static inline void ref_global_avgpool(op_ref *r) {
    bool back = r->n->op == DT_OP_GLOBAL_AVGPOOL_BWD;
    const dt_value *image = back ? ref_out(r, 0) : ref_in(r, 0);
    int64_t area = image->dim[1] * image->dim[2], c = image->dim[3];
    for (int64_t i = 0; i < dt_value_n_elem(image); i++) {
        int64_t o = i / (area * c) * c + i % c;
        if (back)
            r->out[0][i] = (double)r->in[0][o] / (double)area;
        else
            r->out[0][o] += (double)r->in[0][i] / (double)area;
    }
}

static inline void ref_xent(op_ref *r) {
    double s = (double)r->t->smoothing, k = (double)r->c;
    for (int64_t n = 0; n < r->m; n++) {
        const float *x = r->in[0] + n * r->c;
        int32_t label = (int32_t)r->in[1][n];
        double sum = 0, loss = 0;
        for (int64_t i = 0; i < r->c; i++) sum += exp((double)x[i]);
        for (int64_t i = 0; i < r->c; i++) {
            double p = exp((double)x[i]) / sum;
            r->out[1][n * r->c + i] = p;
            loss -= log(p) * (s / k + (i == label ? 1 - s : 0));
        }
        r->out[0][n] = label < 0 ? 0 : loss;
    }
}

static inline void ref_xent_bwd(op_ref *r) {
    double weight = (double)op_step.loss_weight * (double)op_step.loss_scale, s = (double)r->t->smoothing;
    for (int64_t i = 0; i < r->n_elem; i++) {
        int32_t label = (int32_t)r->in[1][i / r->c];
        double target = s / (double)r->c + (i % r->c == label ? 1 - s : 0);
        r->out[0][i] = label < 0 ? 0 : weight * ((double)r->in[0][i] - target);
    }
}

typedef void (*op_ref_fn)(op_ref *r);
static const op_ref_fn op_reference_table[DT_OP_COUNT] = {
    [DT_OP_INPUT] = ref_input,
    [DT_OP_CONV] = ref_conv,
    [DT_OP_CONV_DGRAD] = ref_conv,
    [DT_OP_CONV_WGRAD] = ref_conv,
    [DT_OP_DENSE] = ref_dense,
    [DT_OP_DENSE_DGRAD] = ref_dense,
    [DT_OP_DENSE_WGRAD] = ref_dense,
    [DT_OP_BIAS_GRAD] = ref_bias_grad,
    [DT_OP_BN_STATS] = ref_bn_stats,
    [DT_OP_BN_FINALIZE] = ref_bn_finalize,
    [DT_OP_BN_FOLD] = ref_bn_fold,
    [DT_OP_BN_APPLY] = ref_bn_apply,
    [DT_OP_BN_REDUCE] = ref_bn_reduce,
    [DT_OP_BN_DX] = ref_bn_dx,
    [DT_OP_GRAM] = ref_gram,
    [DT_OP_GRAM_CROSS] = ref_gram_cross,
    [DT_OP_BN_GRAM] = ref_bn_gram,
    [DT_OP_BN_MASK] = ref_bn_mask,
    [DT_OP_BN_GRAM_GRAD] = ref_bn_gram_grad,
    [DT_OP_BN_GRAM_DX] = ref_bn_gram_dx,
    [DT_OP_RELU_BWD] = ref_relu_bwd,
    [DT_OP_MAXPOOL] = ref_pool,
    [DT_OP_MAXPOOL_BWD] = ref_pool,
    [DT_OP_AVGPOOL] = ref_pool,
    [DT_OP_AVGPOOL_BWD] = ref_pool,
    [DT_OP_GLOBAL_AVGPOOL] = ref_global_avgpool,
    [DT_OP_GLOBAL_AVGPOOL_BWD] = ref_global_avgpool,
    [DT_OP_XENT] = ref_xent,
    [DT_OP_XENT_BWD] = ref_xent_bwd,
};

#endif
