/* MobileNet V2 (Sandler et al. 2018) and V3 (Howard et al. 2019), with torchvision's names and initial weights. */
#include "nets.h"

/* Pool, dropout and the last layers: with `hidden` two. */
static dt_vid classify(dt_builder *b, dt_vid x, int64_t hidden, int64_t classes, double dropout) {
    x = dt_build_op(b, "avgpool", DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
    if (hidden > 0) {
        x = dt_build_dense(b, "classifier.0", x, hidden, true);
        x = dt_net_function(b, "classifier.1", x, DT_UNARY_HARDSWISH);
    }
    const char *last = hidden > 0 ? "classifier.3" : "classifier.1";
    x = dt_net_dropout(b, hidden > 0 ? "classifier.2" : "classifier.0", x, dropout);
    x = dt_build_dense(b, last, x, classes, true);
    const char *const dense[] = {"classifier.0", last};
    for (int i = 0; i < 2; i++) {
        dt_net_init(b, dense[i], "weight", DT_INIT_NORMAL, 0.01);
        dt_net_init(b, dense[i], "bias", DT_INIT_ZERO, 0);
    }
    return x;
}

dt_vid dt_net_mobilenet_v2(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o,
                           const void *shape) {
    static const dt_mbconv_stage stage[] = {
        {false, 1, 3, 1, 16, 1}, {false, 6, 3, 2, 24, 2},  {false, 6, 3, 2, 32, 3}, {false, 6, 3, 2, 64, 4},
        {false, 6, 3, 1, 96, 3}, {false, 6, 3, 2, 160, 3}, {false, 6, 3, 1, 320, 1}};
    const dt_conv2d_options stem = {.channels = 32, .kernel = 3, .stride = 2, .pad = 1},
                            wide = {.channels = 1280, .kernel = 1};
    int64_t channels = stem.channels;
    int block = 1;
    (void)shape;
    if (!dt_net_need_images(b, x)) return -1;
    x = dt_net_conv_bn(b, "features.0.0", "features.0.1", x, &stem, NULL, DT_UNARY_RELU6);
    for (int s = 0; s < DT_MBCONV_STAGES; s++)
        for (int i = 0; i < stage[s].layers; i++, block++) {
            const dt_net_name name = dt_net_join("features.%d.", block);
            const dt_mbconv part = {.name = name.s,
                                    .prefix = "conv.",
                                    .kernel = stage[s].kernel,
                                    .stride = i == 0 ? stage[s].stride : 1,
                                    .expanded = channels * stage[s].expand,
                                    .channels = stage[s].channels,
                                    .function = DT_UNARY_RELU6,
                                    .plain_projection = true};
            x = dt_net_mbconv(b, x, &part);
            channels = part.channels;
        }
    x = dt_net_conv_bn(b, "features.18.0", "features.18.1", x, &wide, NULL, DT_UNARY_RELU6);
    return classify(b, x, 0, classes, dt_net_rate(o->dropout, 0.2));
}

dt_vid dt_net_mobilenet_v3(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o,
                           const void *shape) {
    const dt_mobilenet_v3_shape *net = shape;
    const dt_batchnorm_options bn = {.eps = 1e-3, .momentum = 0.01};
    const dt_conv2d_options stem = {.channels = 16, .kernel = 3, .stride = 2, .pad = 1};
    int i = 0;
    if (!dt_net_need_images(b, x)) return -1;
    x = dt_net_conv_bn(b, "features.0.0", "features.0.1", x, &stem, &bn, DT_UNARY_HARDSWISH);
    for (; i < DT_MOBILENET_V3_BLOCKS && net->block[i].channels > 0; i++) {
        const struct dt_mobilenet_v3_block *block = &net->block[i];
        const dt_net_name name = dt_net_join("features.%d.", i + 1);
        const dt_mbconv part = {.name = name.s,
                                .prefix = "block.",
                                .kernel = block->kernel,
                                .stride = block->stride,
                                .expanded = block->expanded,
                                .channels = block->channels,
                                .squeeze = block->squeeze ? dt_net_channels(block->expanded / 4) : 0,
                                .gate = DT_GATE_HARDSIGMOID,
                                .function = block->hardswish ? DT_UNARY_HARDSWISH : DT_UNARY_RELU,
                                .bn = bn};
        x = dt_net_mbconv(b, x, &part);
    }
    const dt_net_name last[] = {dt_net_join("features.%d.0", i + 1), dt_net_join("features.%d.1", i + 1)};
    const dt_conv2d_options wide = {.channels = 6 * net->block[i - 1].channels, .kernel = 1};
    x = dt_net_conv_bn(b, last[0].s, last[1].s, x, &wide, &bn, DT_UNARY_HARDSWISH);
    return classify(b, x, net->hidden, classes, dt_net_rate(o->dropout, 0.2));
}
