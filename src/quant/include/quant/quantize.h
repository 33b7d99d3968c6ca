/* A network in few bits. Written are ONNX's own nodes (and com.microsoft's MatMulNBits for 4 bits), so that the result is a
 * model as any other; how fast it runs is the affair of who runs it. */
#ifndef DT_QUANT_QUANTIZE_H
#define DT_QUANT_QUANTIZE_H

#include "core/backend.h"
#include "onnx/op.h"
#include "quant/range.h"

typedef enum dt_quant_form {
    DT_QUANT_STATIC, /* weights i8 per output channel, activations u8 per tensor, biases i32: QuantizeLinear and
                        DequantizeLinear around convolutions and products, and what lies between them */
    DT_QUANT_INT8, /* weights alone, i8 per output channel, behind a DequantizeLinear; tables of embeddings by row */
    DT_QUANT_INT4, /* weights of products alone, 4 bits with a scale for 32: MatMulNBits; others, and the last product, as
                        INT8 */
    DT_QUANT_FORMS
} dt_quant_form;
extern const char *const dt_quant_form_names[DT_QUANT_FORMS];

typedef struct dt_quant_options {
    dt_quant_form form;
    dt_range_method method; /* static */
    bool
        compensate; /* INT4: rounding that makes good for what it does wrong, by the inputs that are observed */
    /* Nodes that stay as they are: patterns for their names, in which "*" stands for any characters, and "first" and "last" for the first and the
     * last that would be quantised, separated by commas; NULL: none. */
    const char *keep;
} dt_quant_options;

typedef struct dt_quant dt_quant;

/* What became of the network. */
typedef struct dt_quant_info {
    int32_t n_node;    /* products and convolutions with constant weights */
    int32_t n_done;    /* of which in few bits */
    int32_t n_4_bits;  /* of these in 4 */
    int32_t n_between; /* static: others that stay in 8 bits */
    int32_t n_tensor;  /* activations that were observed */
    int64_t n_row;     /* observed: batches */
} dt_quant_info;

/* Constants computed, batch norms folded into the convolutions before them. `m` outlives it. DT_ERR_UNSUPPORTED: opset
 * below 11, quantised already, nothing to quantise; DT_ERR_DATA. */
dt_status dt_quant_create(const dt_onnx_model *m, const dt_quant_options *o, dt_quant **out);
void dt_quant_destroy(dt_quant *q); /* accepts NULL */
/* Whether dt_quant_observe must be called before dt_quant_finish. */
bool dt_quant_needs_data(const dt_quant *q);
/* A batch through the network as it was; all batches are of the same shapes. in: as of dt_onnx_run_create, with data.
 * DT_ERR_NONFINITE where a tensor that is to be quantised is not finite, with its name. */
dt_status dt_quant_observe(dt_quant *q, dt_backend *be, const dt_host_tensor *in);
/* The quantised network, which ends before q does. DT_ERR_USAGE where data are needed and none were seen. Once. */
dt_status dt_quant_finish(dt_quant *q, dt_onnx_model **out);
const dt_quant_info *dt_quant_get_info(const dt_quant *q);

#endif
