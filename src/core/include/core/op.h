/* The op table: one const row per op. Adding an op = one row here, one CPU kernel, one GPU kernel and one
 * case in the op test matrix.
 *
 * Letters: N batch, H W image, C in channels, K out channels, R S kernel rows/columns, P Q output image,
 * G groups, m = N*H*W. "T" is the compute dtype (f32, f16, bf16); statistics and BN parameters are f32.
 * "g" is the dtype of the gradient arena (= T). Inputs in [] are there only when the attribute in () says so.
 *
 *  INPUT        image u8 [N,Hs,Ws,Cs], (source_crop) aug i32 [N,8] -> x T [N,H,W,Cpad]
 *               x = (u8/255 - mean[c]) / stddev[c]; channels past Cs are 0. aug = {x0, y0, w, h, flip,
 * 0,0,0}: window of the source to resize (bilinear, half-pixel centres) to H x W; flip mirrors columns.
 *               attr.size = {H, W}, attr.groups = Cpad.
 *  CONV         x T [N,H,W,C], w T [K,R,S,C/G], [b f32 K (bias)], [scale f32 C, shift f32 C (prologue)]
 *               -> y T [N,P,Q,K], [stats f32 [2,K] = sum, sum of squares over m of y (stats)]
 *               With apply the further inputs and y are those of BN_APPLY on the convolution's result:
 *               scale, shift f32 K, [res T like y (residual)], [rscale, rshift f32 K (residual_scaled)].
 *               P = (H + 2 pad - dilation (R-1) - 1) / stride + 1. Cross-correlation, as PyTorch's Conv2d.
 *  DENSE        x T [N,...] seen as [N,C], w T [K,C], [b f32 K (bias)] -> y T [N,K], y = x w^T + b
 *  BATCHNORM    x T [...,C], gamma f32 C, beta f32 C, rmean f32 C, rvar f32 C, [res T like x (residual)]
 *               -> y T, mean f32 C, invstd f32 C, scale f32 C, shift f32 C
 *               y = act(x*scale + shift [+ res]), scale = gamma*invstd, shift = beta - mean*scale,
 *               invstd = 1/sqrt(var + eps), var biased; training updates
 *               rmean += momentum*(mean - rmean), rvar += momentum*(var*m/(m-1) - rvar), as PyTorch's
 *               BatchNorm2d. When graph.training is false mean and var are rmean and rvar. Never lowered:
 *               pass dt_pass_split_batchnorm turns it into the four ops below.
 *  BN_STATS     x T [...,C] -> stats f32 [2,C] = (mean, biased variance)
 *  BN_FINALIZE  stats f32 [2,C], gamma, beta, rmean, rvar (f32 C; the last two are also written)
 *               -> mean, invstd, scale, shift f32 C. m is attr.kernel[0] (rows reduced).
 *  BN_FOLD      gamma, beta, rmean, rvar -> scale, shift f32 C (evaluation)
 *  BN_APPLY     x T, scale, shift, [res T (residual)], [rscale, rshift f32 C (residual_scaled)] -> y T
 *               y = act(x*scale + shift [+ res or res*rscale + rshift]), act = relu if attr.relu
 *  GRAM         x T [...,C] -> gram f32 [C,C] = x^T x, sum f32 [C] = column sums
 *  GRAM_CROSS   dz T [...,K], x T [...,C] -> p f32 [K,C] = dz^T x, [dbeta f32 K = column sums of dz (stats)]
 *  BN_GRAM      gram, sum of x, w T [K,1,1,C], gamma, beta, rmean, rvar (f32 K; the last two also written)
 *               -> mean, invstd, scale, shift f32 K, wcov f32 [K,C]
 *               BN_FINALIZE for c = x w^T: with cov = gram/m - sum sum^T/m^2, wcov = w cov,
 *               mean_k = w_k.sum/m, var_k = wcov_k.w_k (not below 0). m is attr.kernel[0].
 *  BN_MASK      dy T, [dy2 T (second_grad)], [y T (mask FROM_Y)] -> dbeta f32 K = column sums of dz,
 *               [dz T (writes_dz)]; dz as in BN_REDUCE. mask is NONE or FROM_Y.
 *  BN_GRAM_GRAD p = dz^T x, dbeta f32 K, wcov, sum of x, w, mean, invstd, gamma
 *               -> dgamma g K, dbeta g K, dw g [K,1,1,C], wa T [K,1,1,C], mv f32 [C+1,C]
 *               With q = p - dbeta sum^T/m and A, B, D of BN_REDUCE: dgamma_k = invstd_k * w_k.q_k,
 *               dw_k = A_k q_k + m B_k wcov_k, wa_k = A_k w_k; mv is M = w^T diag(B) w and below it the
 *               row v = w^T D. m is attr.kernel[0].
 *  BN_GRAM_DX   dz T [...,K], wa T [K,1,1,C], x T [...,C], mv f32 [C+1,C] -> dx T = dz wa + x M + v
 *  RELU         x -> y = max(x, 0)
 *  ADD          a, b -> y = a + b
 *  MAXPOOL      x, [scale f32 C, shift f32 C (prologue)] -> y, idx u8 [N,P,Q,C] (position inside the
 *               window, row-major; first maximum wins). With prologue x is relu(x*scale + shift) in T.
 *  AVGPOOL      x -> y; divides by R*S, padding counts as zeros (PyTorch's default)
 *  GLOBAL_AVGPOOL x [N,H,W,C] -> y [N,C]
 *  RESHAPE      x -> y, an alias: [N,rest] where attr.size is 0 (flatten), else [N,H,W,rest]
 *  DROPOUT      x -> y = x * keep / (1-p); keep from Philox of the key of (seed, DROPOUT, salt) at
 *               ((step, micro), element/4)
 *  XENT         logits T [N,K], label i32 [N], metrics f32 -> loss f32 [N] (per sample; 0 where label < 0),
 *               prob f32 [N,K] (softmax); adds to metrics (LOSS, TOP1, TOP5, SAMPLES).
 *               loss = (1-s) * -log p[label] + s * mean_k(-log p[k]), s = smoothing (PyTorch cross_entropy).
 *               A class counts as above the label's if its logit is greater, or equal with a lower index.
 *  CONV_DGRAD   dy [N,P,Q,K], w, [bn_epilogue: c T like dx, mean, invstd, scale, shift f32 C, gamma] or
 *               [dx2 T like dx (second_grad)], [y T like dx (mask FROM_Y)]
 *               -> dx T [N,H,W,C], [bn_epilogue: dgamma g C, dbeta g C, coef f32 [3,C]]; H, W from attr.size.
 *               With bn_epilogue dx is the masked gradient dz (mask c*scale+shift > 0); with the others
 *               dx2 is added and the sum masked by y > 0.
 *  CONV_WGRAD   x T, dy T, [scale, shift f32 C (prologue)] -> dw g [K,R,S,C/G]
 *  DENSE_DGRAD  dy [N,K], w [K,C] -> dx [N,C];  DENSE_WGRAD x [N,C], dy [N,K] -> dw g [K,C]
 *  BIAS_GRAD    dy [...,K] -> db g K
 *  BN_REDUCE    dy T, [dy2 T (second_grad)], c T (the BN input), mean, invstd, gamma f32 C,
 *               [y T (mask FROM_Y)] or [scale, shift f32 C (mask FROM_C)]
 *               -> dgamma g C, dbeta g C, coef f32 [3,C], [dz T (writes_dz)]
 *               dz = (dy [+ dy2]) masked; dbeta = sum dz; dgamma = sum dz * (c-mean)*invstd;
 *               coef: dc = A*dz + B*c + D with A = gamma*invstd, B = -A*invstd*dgamma/m,
 *               D = -A*dbeta/m - B*mean   (Ioffe & Szegedy 2015, collected per channel)
 *  BN_DX        dz or dy T, c T, coef f32 [3,C], [mask FROM_C: scale, shift f32 C] -> dc T
 *               With pooled (mask FROM_C, no dz) dy is MAXPOOL_BWD(dyp [+ dyp2], idx) of the attributes'
 *               window and never in memory. Inputs of BN_REDUCE: c, mean, invstd, gamma, scale, shift, and
 *               of BN_DX: c, coef, scale, shift; then dyp T [N,P,Q,C], [dyp2 (second_grad)], idx u8.
 *  RELU_BWD     dy, y -> dx = dy where y > 0
 *  All backward ops with an image output take H, W from attr.size.
 *  MAXPOOL_BWD  dy, idx -> dx;  AVGPOOL_BWD dy -> dx;  GLOBAL_AVGPOOL_BWD dy [N,C] -> dx [N,H,W,C]
 *  DROPOUT_BWD  dy -> dx (the same draw)
 *  XENT_BWD     prob f32 [N,K], label i32 [N] -> dlogits T [N,K] = loss_weight * loss_scale * (prob -
 * target), target = (1-s)*onehot + s/K; rows with label < 0 are 0
 */
#ifndef DT_CORE_OP_H
#define DT_CORE_OP_H

#include "core/graph.h"

enum { DT_OP_VARIADIC = -1 };

typedef struct dt_op_row {
    const char *name;
    int32_t min_in, max_in, n_out_max;
    int32_t inplace_out, inplace_in; /* output may overwrite that input when it dies here; -1: never */
    bool view;                       /* moves no data: output aliases input 0 */
    /* Checks inputs and attributes and states the outputs: fills n_out, and dtype, ndim, dim of out[i]. */
    dt_status (*infer)(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out);
    /* Appends backward nodes. dout: gradient of output 0. din[i]: gradient of input i, -1 where none is
     * needed. want[i] says which inputs need one. NULL: not differentiable. */
    dt_status (*grad)(dt_graph *g, dt_nid n, dt_vid dout, const bool *want, dt_vid *din);
    /* Floating-point operations (a multiply-add is two). NULL: one per output element. */
    double (*flops)(const dt_graph *g, const dt_node *n);
} dt_op_row;

const dt_op_row *dt_op_get(dt_op op);

/* Bytes that must move: every input read once, every output written once. */
double dt_op_bytes(const dt_graph *g, const dt_node *n);
double dt_op_flops(const dt_graph *g, const dt_node *n);

/* Convolution geometry shared by kernels: all sizes in elements. */
typedef struct dt_conv_dims {
    int64_t n, h, w, c, k, r, s, p, q;
    int64_t stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
} dt_conv_dims;
/* From a CONV, CONV_DGRAD or CONV_WGRAD node. */
dt_conv_dims dt_op_conv_dims(const dt_graph *g, const dt_node *n);
/* Whether it is a product of matrices: 1x1, stride 1, no padding, one group. */
bool dt_op_conv_is_product(const dt_graph *g, const dt_node *n);

#endif
