/* Squeeze and excite (Hu et al. 2017). */
#include <stdio.h>

#include "model/builder.h"

const dt_squeeze_excite_names dt_squeeze_excite_names_torchvision = {"fc1", "fc2"},
                              dt_squeeze_excite_names_timm = {"conv_reduce", "conv_expand"};

static const dt_unary activations[] = {[DT_SQUEEZE_RELU] = DT_UNARY_RELU,
                                       [DT_SQUEEZE_SILU] = DT_UNARY_SILU,
                                       [DT_SQUEEZE_HARDSWISH] = DT_UNARY_HARDSWISH,
                                       [DT_SQUEEZE_GELU] = DT_UNARY_GELU},
                      gates[] = {
                          [DT_GATE_SIGMOID] = DT_UNARY_SIGMOID, [DT_GATE_HARDSIGMOID] = DT_UNARY_HARDSIGMOID};

dt_vid dt_build_squeeze_excite(dt_builder *b, const char *name, dt_vid x, const dt_squeeze_excite_options *o,
                               const dt_squeeze_excite_names *names) {
    if (b->status != DT_OK) return -1;
    if (!names) names = &dt_squeeze_excite_names_torchvision;
    const dt_value v = b->g->value[x];
    char part[DT_NAME_MAX];
    if (v.ndim != 4) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (squeeze_excite): its input is %s, not an image N H W C", name,
                            dt_value_shape_text(&v));
        return -1;
    }
#define PART(suffix) (snprintf(part, sizeof part, "%s.%s", name, suffix), part)
#define FUNCTION(f)                                                                                          \
    &(dt_attr) {                                                                                             \
        .unary.fn = (f)                                                                                      \
    }
    const dt_attr image = {.reshape = {.ndim = 4, .dim = {v.dim[0], 1, 1, v.dim[3]}}};
    const dt_conv2d_options reduce = {.channels = o->channels, .kernel = 1},
                            expand = {.channels = v.dim[3], .kernel = 1};
    dt_vid y = dt_build_op(b, PART("avgpool"), DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
    y = dt_build_op(b, PART("pooled"), DT_OP_RESHAPE, &image, 1, &y);
    y = dt_build_conv(b, PART(names->reduce), y, &reduce);
    y = dt_build_op(b, PART("activation"), DT_OP_UNARY, FUNCTION(activations[o->activation]), 1, &y);
    y = dt_build_conv(b, PART(names->expand), y, &expand);
    y = dt_build_op(b, PART("scale_activation"), DT_OP_UNARY, FUNCTION(gates[o->gate]), 1, &y);
#undef FUNCTION
#undef PART
    return dt_build_op(b, name, DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_MUL}, 2, (dt_vid[]){x, y});
}
