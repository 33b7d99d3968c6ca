/* Products in 8 and 4 bits (core/qproduct.h) on the CPU; private to quant*.c and backend.c.
 *
 * Weights are packed once, when a node is prepared: units of 16 output channels, in each four numbers of the depth of one
 * channel beside those of the next: [group][unit][tap][C/G / 4][16][4]. The integer loops (quant_avx512.c, quant_avx2.c,
 * quant_generic.c) leave sums in 32 bits, and one plain function ends them, so that every instruction set gives the same
 * bits. */
#ifndef DT_CPU_QUANT_H
#define DT_CPU_QUANT_H

#include "core/qproduct.h"
#include "kernels.h"

enum {
    DT_CPU_Q_UNIT = 16,  /* channels of a unit */
    DT_CPU_Q_WIDE = 4,   /* units side by side, at most */
    DT_CPU_Q_ROWS = 48,  /* rows of one piece of work: a multiple of every block's */
    DT_CPU_Q_DEPTH = 512 /* bytes of a channel's depth for which the weights of such a panel stay in L1 */
};

/* One register block: rows x units. row[t * DT_CPU_Q_ROWS + r]: where tap t of row r begins. */
typedef struct dt_cpu_qblock {
    const uint8_t *const *row;
    int64_t taps, off, steps; /* per tap, from byte off on, so many times four */
    const int8_t *w;          /* of the first unit, at that depth; taps follow one another */
    int64_t unit_bytes;       /* from a unit to the next */
    int32_t *acc;             /* [rows][ld] */
    int64_t ld;
    bool add; /* to what is there */
} dt_cpu_qblock;

typedef struct dt_cpu_qsimd {
    const char *name;
    int32_t wide;                /* units side by side, at most */
    int32_t rows[DT_CPU_Q_WIDE]; /* of a block of so many + 1 units */
    void (*block)(const dt_cpu_qblock *b, int32_t rows, int32_t units);
} dt_cpu_qsimd;

extern const dt_cpu_qsimd dt_cpu_qsimd_generic;
#if defined(__x86_64__)
extern const dt_cpu_qsimd dt_cpu_qsimd_avx2, dt_cpu_qsimd_avxvnni, dt_cpu_qsimd_avx512;
#endif
/* The widest this processor runs; DT_CPU_ISA in the environment (avx512, avxvnni, avx2, generic) asks for less. */
const dt_cpu_qsimd *dt_cpu_qsimd_get(void);

/* Eight numbers of 4 bits of each of 16 channels are a unit's step. Adds to y [rows][ld] of up to DT_CPU_Q4_ROWS rows the
 * products with `units` units, one block of the depth after the other. */
enum { DT_CPU_Q4_ROWS = 4, DT_CPU_Q4_WIDE = 2 };
typedef struct dt_cpu_q4block {
    const float *x; /* [rows][ldx] */
    int64_t ldx, depth, block, blocks;
    const uint32_t *w;        /* [unit][blocks][block / 8][16] */
    const float *scale, *mid; /* [unit][blocks][16]; mid: what every number stands too low; NULL: nothing */
    const float *sum;         /* [rows][blocks]: of x, where there is mid */
    float *y;                 /* [rows][units * 16] */
} dt_cpu_q4block;
typedef void dt_cpu_q4_fn(const dt_cpu_q4block *b, int32_t rows, int32_t units);
dt_cpu_q4_fn dt_cpu_q4_generic;
#if defined(__x86_64__)
dt_cpu_q4_fn dt_cpu_q4_avx512;
#endif

typedef struct dt_cpu_qplan {
    const dt_qproduct *q;
    dt_conv_dims dims; /* of a dense product: an image of one row */
    int64_t m;         /* rows of the result */
    int64_t rows_each; /* that share a scale of the node's x_scale; 0: it has none */
    dt_dtype res;      /* of what is added */
    bool gather;       /* rows are copied: their channels are no multiple of four */
    bool depthwise;
    int64_t taps, step; /* places of a row, bytes of each, a multiple of four */
    int64_t units;      /* of a group */
    int64_t own;        /* bytes of a thread's workspace */
    int32_t threads;
    const dt_cpu_qsimd *simd;
    int8_t *w;
    int16_t *w_wide;      /* depthwise: [taps][k] */
    int32_t *sum, *base;  /* [k]: of the weights; what is added to the sums: bias - zero * sum */
    float *scale, *shift; /* [k]: the sums in units of the result, or of the middle */
    uint32_t *w4;         /* 4 bits, as dt_cpu_q4block */
    float *w4_scale, *w4_mid;
    int64_t blocks;
} dt_cpu_qplan;

/* Bytes that a plan keeps; the node's shape rule has passed. */
dt_status dt_cpu_qplan_bytes(const dt_graph *g, const dt_node *n, int64_t *bytes);
/* Fills it in; `room` has those bytes, aligned to 64. */
void dt_cpu_qplan_make(const dt_graph *g, const dt_node *n, int32_t threads, const dt_cpu_qsimd *simd,
                       void *room, dt_cpu_qplan *p);
int64_t dt_cpu_qplan_workspace(const dt_cpu_qplan *p);
void dt_cpu_qproduct_run(const dt_cpu_qplan *p, const dt_binding *b);
/* quant_few.c: weights of 4 bits. */
void dt_cpu_q4_run(const dt_cpu_qplan *p, const dt_binding *b);
int64_t dt_cpu_q4_workspace(const dt_cpu_qplan *p);

/* quant_ends.c: rows [row, row + rows) and channels [k0, k0 + n) of the result, from their sums acc [rows][ld]. */
void dt_cpu_qproduct_end(const dt_cpu_qplan *p, const dt_binding *b, const int32_t *acc, int64_t ld,
                         int64_t row, int64_t rows, int64_t k0, int64_t n);
dt_status dt_cpu_quantize(void *node, dt_stream *stream);
dt_status dt_cpu_dequantize(void *node, dt_stream *stream);
int64_t dt_cpu_quantize_bytes(const dt_cpu_node *d); /* workspace */

#endif
