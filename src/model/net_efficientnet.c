/* EfficientNet (Tan and Le 2019) and its second version (2021), with torchvision's names and initial weights. */
#include <math.h>

#include "nets.h"

dt_vid dt_net_efficientnet(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o,
                           const void *shape) {
    const dt_efficientnet_shape *net = shape;
    const dt_batchnorm_options bn = {.eps = net->bn_eps, .momentum = net->bn_momentum};
    const double drop_path = dt_net_rate(o->drop_path, 0.2);
    int32_t n_stage = 0, n_block = 0, block = 0, layers[DT_MBCONV_STAGES];
    if (!dt_net_need_images(b, x)) return -1;
    for (; n_stage < DT_MBCONV_STAGES && net->stage[n_stage].layers > 0; n_stage++)
        n_block += layers[n_stage] = (int32_t)ceil(net->stage[n_stage].layers * net->depth);
    const dt_conv2d_options stem = {
        .channels = dt_net_channels((double)net->stem * net->width), .kernel = 3, .stride = 2, .pad = 1};
    x = dt_net_conv_bn(b, "features.0.0", "features.0.1", x, &stem, &bn, DT_UNARY_SILU);
    int64_t channels = stem.channels;
    for (int32_t s = 0; s < n_stage; s++)
        for (int32_t i = 0; i < layers[s]; i++, block++) {
            const dt_mbconv_stage *stage = &net->stage[s];
            const dt_net_name name = dt_net_join("features.%d.%d.", s + 1, i);
            const dt_mbconv part = {.name = name.s,
                                    .prefix = "block.",
                                    .kernel = stage->kernel,
                                    .stride = i == 0 ? stage->stride : 1,
                                    .expanded = channels * stage->expand,
                                    .channels = dt_net_channels(stage->channels * net->width),
                                    .squeeze = stage->fused ? 0 : channels / 4,
                                    .squeeze_function = DT_SQUEEZE_SILU,
                                    .function = DT_UNARY_SILU,
                                    .fused = stage->fused,
                                    .bn = bn,
                                    .drop_path = drop_path * block / n_block};
            x = dt_net_mbconv(b, x, &part);
            channels = part.channels;
        }
    const dt_net_name last[] = {dt_net_join("features.%d.0", n_stage + 1),
                                dt_net_join("features.%d.1", n_stage + 1)};
    const dt_conv2d_options wide = {.channels = net->last > 0 ? net->last : 4 * channels, .kernel = 1};
    x = dt_net_conv_bn(b, last[0].s, last[1].s, x, &wide, &bn, DT_UNARY_SILU);
    x = dt_build_op(b, "avgpool", DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
    x = dt_net_dropout(b, "classifier.0", x, dt_net_rate(o->dropout, net->dropout));
    x = dt_build_dense(b, "classifier.1", x, classes, true);
    dt_net_init(b, "classifier.1", "bias", DT_INIT_ZERO, 0);
    /* uniform within 1 / sqrt(classes): PyTorch's default with the fan out in place of the fan in */
    if (b->status == DT_OK) {
        dt_value *w = &b->g->value[dt_graph_find(b->g, "classifier.1.weight")];
        w->init = DT_INIT_KAIMING_UNIFORM_A5;
        w->fan_in = classes;
    }
    return x;
}
