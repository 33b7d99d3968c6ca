/* ConvNeXt (Liu et al. 2022), with torchvision's names and initial weights. */
#include "nets.h"

static const dt_norm_options norm = {.eps = 1e-6};

/* A depthwise convolution, and for each place a norm and two dense layers; what they give is scaled by channel. */
static dt_vid block(dt_builder *b, const char *name, dt_vid x, double drop_path) {
    if (b->status != DT_OK) return -1;
    const dt_value in = b->g->value[x];
    const int64_t c = in.dim[3];
#define PART(suffix) dt_net_join("%s%s", name, suffix).s
    dt_vid y = dt_build_conv(b, PART("block.0"), x,
                             &(dt_conv2d_options){.channels = c, .kernel = 7, .pad = 3, .groups = c});
    y = dt_net_places(b, PART("block.1"), y);
    y = dt_build_layernorm(b, PART("block.2"), y, &norm);
    y = dt_build_dense(b, PART("block.3"), y, 4 * c, true);
    y = dt_net_function(b, PART("block.4"), y, DT_UNARY_GELU);
    y = dt_build_dense(b, PART("block.5"), y, c, true);
    const dt_vid scale = dt_net_param(b, PART("layer_scale"), 1, &c, DT_INIT_CONSTANT, 1e-6);
    y = dt_build_op(b, PART("scaled"), DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_MUL}, 2,
                    (dt_vid[]){y, scale});
    y = dt_net_image(b, PART("block.6"), y, in.dim[1], in.dim[2]);
    y = dt_net_drop_path(b, PART("drop_path"), y, drop_path);
    return dt_build_add(b, PART("add"), y, x);
#undef PART
}

dt_vid dt_net_convnext(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o,
                       const void *shape) {
    const dt_convnext_shape *net = shape;
    const double drop_path = dt_net_rate(o->drop_path, net->drop_path);
    int32_t n_block = 0, nth = 0;
    if (!dt_net_need_images(b, x)) return -1;
    for (int s = 0; s < 4; s++) n_block += net->blocks[s];
    for (int s = 0; s < 4; s++) {
        const int64_t width = net->width << s;
        const dt_net_name first = dt_net_join("features.%d.0", 2 * s),
                          second = dt_net_join("features.%d.1", 2 * s);
        const dt_conv2d_options down = {.channels = width, .kernel = s ? 2 : 4, .stride = s ? 2 : 4};
        if (s > 0) x = dt_build_layernorm(b, first.s, x, &norm);
        x = dt_build_conv(b, s > 0 ? second.s : first.s, x, &down);
        if (s == 0) x = dt_build_layernorm(b, second.s, x, &norm);
        for (int32_t i = 0; i < net->blocks[s]; i++, nth++)
            x = block(b, dt_net_join("features.%d.%d.", 2 * s + 1, i).s, x, drop_path * nth / (n_block - 1));
    }
    x = dt_build_op(b, "avgpool", DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
    x = dt_build_layernorm(b, "classifier.0", x, &norm);
    x = dt_build_dense(b, "classifier.2", x, classes, true);
    dt_net_init_normal(b, 0.02);
    return x;
}
