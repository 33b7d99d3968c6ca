/* Dense layers and MATMUL: OpenBLAS matrix products, row-major. OpenBLAS itself cuts a product by the number of threads,
 * and its bits follow from how it is cut; so it is called for blocks whose sizes do not depend on that
 * number, by as many threads as there are, with one thread each. */
#include <cblas.h>

#include <math.h>
#include <omp.h>

#include "core/types.h"
#include "kernels_conv.h"

enum {
    BLOCKS_MAX = 12,             /* most numbers of threads divide it */
    BLOCK_UNIT = 128,            /* a block is a multiple of it wide: each packs the other matrix again */
    BLOCK_WORK = 2 * 1024 * 1024 /* multiplications of a block, at least */
};

/* out [rows,cols] = beta * out + op(a) op(b) over `depth`. The longer side of out is cut. */
typedef struct product {
    bool turn_a, turn_b;
    int64_t rows, cols, depth;
    const float *a, *b;
    float beta, *out;
} product;

static void product_block(const product *p, int64_t row0, int64_t rows, int64_t col0, int64_t cols) {
    const int64_t lda = p->turn_a ? p->rows : p->depth, ldb = p->turn_b ? p->depth : p->cols;
    cblas_sgemm(CblasRowMajor, p->turn_a ? CblasTrans : CblasNoTrans, p->turn_b ? CblasTrans : CblasNoTrans,
                (blasint)rows, (blasint)cols, (blasint)p->depth, 1.0f, p->a + row0 * (p->turn_a ? 1 : lda),
                (blasint)lda, p->b + col0 * (p->turn_b ? ldb : 1), (blasint)ldb, p->beta,
                p->out + row0 * p->cols + col0, (blasint)p->cols);
}

static void product_run(const product *p) {
    const int64_t side = dt_max_i64(p->rows, p->cols);
    const double work = (double)p->rows * (double)p->cols * (double)p->depth / BLOCK_WORK;
    const int64_t blocks = (int64_t)fmax(1, fmin(BLOCKS_MAX, work));
    const int64_t block = dt_round_up((side + blocks - 1) / blocks, BLOCK_UNIT);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1); /* what OpenBLAS takes, outside a team too */
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (block < side)
    for (int64_t at = 0; at < side; at += block) {
        const int64_t n = dt_min_i64(block, side - at);
        if (p->rows > p->cols)
            product_block(p, at, n, 0, p->cols);
        else
            product_block(p, 0, p->rows, at, n);
    }
    omp_set_num_threads(threads);
}

void dt_cpu_dense_forward(int64_t n, int64_t c, int64_t k, const float *x, const float *w, const float *bias,
                          float *y) {
    for (int64_t i = 0; bias && i < n * k; i++) y[i] = bias[i % k];
    product_run(&(product){.turn_b = true,
                           .rows = n,
                           .cols = k,
                           .depth = c,
                           .a = x,
                           .b = w,
                           .beta = bias ? 1.0f : 0.0f,
                           .out = y});
}

void dt_cpu_dense_dgrad(int64_t n, int64_t c, int64_t k, const float *dy, const float *w, float *dx) {
    product_run(&(product){.rows = n, .cols = c, .depth = k, .a = dy, .b = w, .out = dx});
}

void dt_cpu_dense_wgrad(int64_t n, int64_t c, int64_t k, const float *x, const float *dy, float *dw) {
    product_run(&(product){.turn_a = true, .rows = k, .cols = c, .depth = n, .a = dy, .b = x, .out = dw});
}

/* Matrices are cut like those of a dense layer, or not at all, by their sizes and number alone. */
void dt_cpu_matmul(const dt_matmul_dims *d, const dt_matmul_attr *t, const float *a, const float *b,
                   float *y) {
    const int64_t n_a = d->m * d->k, n_b = d->k * d->n, n_y = d->m * d->n;
    const product first = {.turn_a = t->turn_a,
                           .turn_b = t->turn_b,
                           .rows = d->m,
                           .cols = d->n,
                           .depth = d->k,
                           .a = a,
                           .b = b,
                           .out = y};
    if (d->batch < BLOCKS_MAX) {
        for (int64_t i = 0; i < d->batch; i++) {
            product p = first;
            p.a += i * n_a, p.b += i * n_b, p.out += i * n_y;
            product_run(&p);
        }
        return;
    }
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < d->batch; i++) {
        product p = first;
        p.a += i * n_a, p.b += i * n_b, p.out += i * n_y;
        product_block(&p, 0, d->m, 0, d->n);
    }
    omp_set_num_threads(threads);
}
