/* Products in 8 and 4 bits (DT_OP_QPRODUCT): what a node of one computes with besides its operands. Activations are u8;
 * whoever has i8 adds 128 to numbers and zero point, which changes no product. */
#ifndef DT_CORE_QPRODUCT_H
#define DT_CORE_QPRODUCT_H

#include "core/graph.h"

/* A number q stands for (q - zero) * scale. */
typedef struct dt_qscale {
    float scale;
    int32_t zero;
} dt_qscale;

/* Outlives every graph with a node of it, as do the arrays. */
struct dt_qproduct {
    bool dense; /* x [..., C] gives y [..., K]; otherwise x is an image and slides under the window */
    dt_window_attr window; /* kernel, stride, dilation, pads, groups of a convolution */
    int64_t k, depth;      /* output channels; numbers of a filter: R S C/G */
    int32_t bits;          /* of a weight: 8, with activations in u8, or 4, with activations in f32 */
    const int8_t *w;       /* 8 bits: [k, depth], symmetric */
    const float *w_scale;  /* 8 bits: [k] */
    /* 4 bits: blocks of `block` numbers along the depth, block a multiple of 8; two in a byte, the first in the low
     * half */
    int32_t block;
    const uint8_t *w4;      /* [k, blocks, block / 2] */
    const float *w4_scale;  /* [k, blocks] */
    const uint8_t *w4_zero; /* [k, blocks], one in a byte; NULL: 8 */
    dt_qscale x;            /* where the node has no x_scale */
    const int32_t *bias;    /* [k] in units of x.scale * w_scale; NULL: none. Not beside x_scale */
    const float *bias_f32;  /* [k]; NULL: none */
    bool has_mid;           /* the product is u8 before the residual is added: it is rounded to `mid` */
    dt_qscale mid, res;     /* res: where the residual is u8 */
    int32_t act;            /* 1 + dt_unary, of which RELU alone; 0: none */
    dt_dtype y_type;        /* f32, or u8 with y; i32: the sums themselves */
    dt_qscale y;
};

#endif
