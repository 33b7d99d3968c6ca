/* Rows of what networks are made of: convolutions, products, attention, resampling, signals, losses. */
#include <math.h>
#include <string.h>

#include "attention.h"
#include "contrib.h"
#include "conv.h"
#include "loss.h"
#include "matmul.h"
#include "numbers.h"
#include "resize.h"
#include "sample.h"
#include "fourier.h"

/* ---- Dropout: passes its input, or drops what the seed says ---- */

/* The Mersenne Twister (MT19937, 32 bits), which ONNX's reference draws from. */
enum { MT_N = 624, MT_M = 397 };
typedef struct twister {
    uint32_t state[MT_N];
    int32_t at;
} twister;

static void twister_seed(twister *t, uint32_t seed) {
    t->state[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++)
        t->state[i] = 1812433253u * (t->state[i - 1] ^ t->state[i - 1] >> 30) + i;
    t->at = MT_N;
}

static uint32_t twister_next(twister *t) {
    if (t->at == MT_N) {
        for (int32_t i = 0; i < MT_N; i++) {
            const uint32_t y = (t->state[i] & 0x80000000u) | (t->state[(i + 1) % MT_N] & 0x7fffffffu);
            t->state[i] = t->state[(i + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        t->at = 0;
    }
    uint32_t y = t->state[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* In [0, 1), of 53 bits. */
static double twister_uniform(twister *t) {
    const double high = twister_next(t) >> 5, low = twister_next(t) >> 6;
    return (high * 0x1p26 + low) * 0x1p-53;
}

static dt_status infer_dropout(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 2, DT_HOST_BOOL));
    DT_TRY(dt_onnx_one(c, 1));
    DT_TRY(dt_onnx_one(c, 2));
    DT_TRY(dt_onnx_out_like(c, 0, 0));
    return dt_onnx_out(c, 1, c->version < 10 ? x->type : DT_TENSOR_BOOL, x->ndim, x->dim);
}

static dt_status run_dropout(const dt_onnx_call *c) {
    const int64_t n = dt_host_n_elem(c->in[0]);
    const double ratio = dt_onnx_scalar(c, 1, 0.5);
    if (dt_onnx_scalar(c, 2, 0) != 0 && ratio != 0) {
        const int64_t seed = dt_onnx_attr_int(c->node, "seed", -1);
        if (seed < 0 || seed > UINT32_MAX)
            return dt_onnx_refuse(c,
                                  "it is set to train without a seed: what it drops is drawn anew each time");
        if (!(ratio > 0 && ratio < 1)) return dt_onnx_refuse(c, "it drops %g of its input", ratio);
        twister t;
        twister_seed(&t, (uint32_t)seed);
        for (int64_t i = 0; i < n; i++) {
            const bool kept = twister_uniform(&t) >= ratio;
            if (dt_onnx_wants(c, 0))
                dt_host_put_f64(&c->out[0], i, kept ? dt_host_f64(c->in[0], i) / (1 - ratio) : 0);
            if (dt_onnx_wants(c, 1)) dt_host_put_i64(&c->out[1], i, kept);
        }
        return DT_OK;
    }
    if (dt_onnx_wants(c, 0)) memcpy(c->out[0].data, c->in[0]->data, (size_t)dt_host_bytes(c->in[0]));
    for (int64_t i = 0; dt_onnx_wants(c, 1) && i < n; i++) dt_host_put_i64(&c->out[1], i, 1);
    return DT_OK;
}

/* ---- Det ---- */

static dt_status infer_det(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_rank(c, 0, 2, DT_MAX_DIM));
    if (x->dim[x->ndim - 1] != x->dim[x->ndim - 2]) return dt_onnx_refuse(c, "its matrices are not square");
    return dt_onnx_out(c, 0, x->type, x->ndim - 2, x->dim);
}

static dt_status run_det(const dt_onnx_call *c) {
    const int64_t n = c->in[0]->dim[c->in[0]->ndim - 1];
    double *m;
    DT_TRY(dt_onnx_load(c, 0, &m));
    for (int64_t i = 0; i < dt_host_n_elem(&c->out[0]); i++, m += n * n) {
        double det = 1;
        for (int64_t k = 0; k < n && det != 0; k++) {
            int64_t best = k;
            for (int64_t r = k + 1; r < n; r++)
                if (fabs(m[r * n + k]) > fabs(m[best * n + k])) best = r;
            if (best != k) det = -det;
            for (int64_t j = k; j < n && best != k; j++) {
                const double x = m[k * n + j];
                m[k * n + j] = m[best * n + j];
                m[best * n + j] = x;
            }
            det *= m[k * n + k];
            for (int64_t r = k + 1; r < n && det != 0; r++)
                for (int64_t j = n - 1; j >= k; j--)
                    m[r * n + j] -= m[r * n + k] / m[k * n + k] * m[k * n + j];
        }
        dt_host_put_f64(&c->out[0], i, det);
    }
    return DT_OK;
}

#define ROW(name, since, in_min, in_max, out_max, infer, run)                                                \
    { "", name, since, in_min, in_max, out_max, infer, run, false }

#define MICROSOFT(name, in_min, in_max, out_max, infer, run)                                                 \
    { "com.microsoft", name, 1, in_min, in_max, out_max, infer, run, false }

const dt_onnx_op dt_onnx_ops_network[] = {
    ROW("Conv", 1, 2, 3, 1, dt_infer_conv, dt_run_conv),
    ROW("ConvTranspose", 1, 2, 3, 1, dt_infer_conv_transpose, dt_run_conv_transpose),
    ROW("ConvInteger", 10, 2, 4, 1, dt_infer_conv_integer, dt_run_conv_integer),
    ROW("QLinearConv", 10, 8, 9, 1, dt_infer_conv_quantized, dt_run_conv_quantized),
    ROW("DeformConv", 19, 3, 5, 1, dt_infer_conv_deform, dt_run_conv_deform),
    ROW("Gemm", 7, 3, 3, 1, dt_infer_gemm, dt_run_gemm),
    ROW("Gemm", 11, 2, 3, 1, dt_infer_gemm, dt_run_gemm),
    ROW("MatMul", 1, 2, 2, 1, dt_infer_matmul, dt_run_matmul),
    ROW("MatMulInteger", 10, 2, 4, 1, dt_infer_matmul_integer, dt_run_matmul_integer),
    ROW("QLinearMatMul", 10, 8, 8, 1, dt_infer_matmul_quantized, dt_run_matmul_quantized),
    ROW("Attention", 23, 3, 7, 4, dt_infer_attention, dt_run_attention),
    ROW("RotaryEmbedding", 23, 3, 4, 1, dt_infer_rotary, dt_run_rotary),
    ROW("Softmax", 1, 1, 1, 1, dt_infer_softmax, dt_run_softmax),
    ROW("LogSoftmax", 1, 1, 1, 1, dt_infer_softmax, dt_run_softmax),
    ROW("Hardmax", 1, 1, 1, 1, dt_infer_softmax, dt_run_softmax),
    ROW("Dropout", 7, 1, 1, 2, infer_dropout, run_dropout),
    ROW("Dropout", 12, 1, 3, 2, infer_dropout, run_dropout),
    ROW("Resize", 10, 2, 2, 1, dt_infer_resize, dt_run_resize),
    ROW("Resize", 11, 1, 4, 1, dt_infer_resize, dt_run_resize),
    ROW("Upsample", 7, 1, 1, 1, dt_infer_upsample, dt_run_upsample),
    ROW("Upsample", 9, 2, 2, 1, dt_infer_upsample, dt_run_upsample),
    ROW("GridSample", 16, 2, 2, 1, dt_infer_grid_sample, dt_run_grid_sample),
    ROW("AffineGrid", 20, 2, 2, 1, dt_infer_affine_grid, dt_run_affine_grid),
    ROW("RoiAlign", 10, 3, 3, 1, dt_infer_roi_align, dt_run_roi_align),
    ROW("NonMaxSuppression", 10, 2, 5, 1, dt_infer_boxes, NULL),
    ROW("CenterCropPad", 18, 2, 2, 1, dt_infer_center_crop_pad, dt_run_center_crop_pad),
    ROW("Col2Im", 18, 3, 3, 1, dt_infer_col2im, dt_run_col2im),
    ROW("DFT", 17, 1, 3, 1, dt_infer_dft, dt_run_dft),
    ROW("STFT", 17, 2, 4, 1, dt_infer_stft, dt_run_stft),
    ROW("HannWindow", 17, 1, 1, 1, dt_infer_window, dt_run_window),
    ROW("HammingWindow", 17, 1, 1, 1, dt_infer_window, dt_run_window),
    ROW("BlackmanWindow", 17, 1, 1, 1, dt_infer_window, dt_run_window),
    ROW("MelWeightMatrix", 17, 5, 5, 1, dt_infer_mel, dt_run_mel),
    ROW("NegativeLogLikelihoodLoss", 12, 2, 3, 1, dt_infer_loss, dt_run_loss),
    ROW("SoftmaxCrossEntropyLoss", 12, 2, 3, 2, dt_infer_loss, dt_run_loss),
    ROW("Det", 11, 1, 1, 1, infer_det, run_det),
    MICROSOFT("QLinearAdd", 7, 8, 1, dt_infer_quantized_pair, dt_run_quantized_pair),
    MICROSOFT("QLinearMul", 7, 8, 1, dt_infer_quantized_pair, dt_run_quantized_pair),
    MICROSOFT("QLinearGlobalAveragePool", 5, 5, 1, dt_infer_quantized_average, dt_run_quantized_average),
    MICROSOFT("QGemm", 6, 9, 1, dt_infer_quantized_gemm, dt_run_quantized_gemm),
    MICROSOFT("MatMulIntegerToFloat", 4, 7, 1, dt_infer_matmul_to_float, dt_run_matmul_to_float),
    MICROSOFT("DynamicQuantizeMatMul", 3, 5, 1, dt_infer_matmul_to_float, dt_run_matmul_to_float),
    MICROSOFT("MatMulNBits", 3, 6, 1, dt_infer_matmul_bits, dt_run_matmul_bits),
    MICROSOFT("FusedMatMul", 2, 2, 1, dt_infer_matmul, dt_run_matmul),
    MICROSOFT("FusedConv", 2, 4, 1, dt_infer_conv_fused, dt_run_conv_fused),
    MICROSOFT("SkipLayerNormalization", 3, 5, 4, dt_infer_skip_norm, dt_run_skip_norm),
    MICROSOFT("SkipSimplifiedLayerNormalization", 3, 4, 4, dt_infer_skip_norm, dt_run_skip_norm),
    MICROSOFT("Gelu", 1, 1, 1, dt_infer_gelu, dt_run_gelu),
    MICROSOFT("BiasGelu", 2, 2, 1, dt_infer_gelu, dt_run_gelu),
    MICROSOFT("FastGelu", 1, 2, 1, dt_infer_gelu, dt_run_gelu),
    MICROSOFT("QuickGelu", 1, 1, 1, dt_infer_gelu, dt_run_gelu),
    {.name = NULL},
};
