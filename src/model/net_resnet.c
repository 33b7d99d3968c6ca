/* ResNet (He et al. 2015), version 1.5: the stride of a bottleneck sits in its 3x3 convolution, which may be of groups
 * (ResNeXt, Xie et al. 2016) or wider (Zagoruyko and Komodakis 2016). Names and
 * initialisation are torchvision's, so weights can be exchanged. */
#include <stdio.h>

#include "nets.h"

typedef struct block_spec {
    int64_t width, stride; /* of stages: 64 to 512 */
    int64_t inner, groups; /* of a bottleneck's middle convolution */
    bool bottleneck, downsample;
    bool zero; /* the last batch norm starts at 0 */
} block_spec;

static dt_vid conv_bn(dt_builder *b, const char *block, const char *conv, const char *bn, dt_vid x,
                      int64_t channels, int64_t kernel, int64_t stride, int64_t groups, bool zero_gamma) {
    char name[DT_NAME_MAX];
    dt_conv2d_options o = {.channels = channels,
                           .kernel = kernel,
                           .stride = stride,
                           .pad = kernel / 2,
                           .groups = groups,
                           .no_bias = true};
    snprintf(name, sizeof name, "%s%s", block, conv);
    dt_vid y = dt_build_conv(b, name, x, &o);
    dt_net_init_conv(b, name);
    snprintf(name, sizeof name, "%s%s", block, bn);
    return dt_build_batchnorm(b, name, y, &(dt_batchnorm_options){.zero_gamma = zero_gamma});
}

static dt_vid relu(dt_builder *b, const char *block, const char *suffix, dt_vid x) {
    char name[DT_NAME_MAX];
    snprintf(name, sizeof name, "%s%s", block, suffix);
    return dt_build_relu(b, name, x);
}

/* conv-bn-relu, conv-bn (basic) or conv-bn-relu, conv-bn-relu, conv-bn (bottleneck), plus the skip path, then
 * relu. */
static dt_vid residual_block(dt_builder *b, const char *block, dt_vid x, const block_spec *s) {
    char name[DT_NAME_MAX];
    dt_vid y, skip = x;
    if (s->bottleneck) {
        y = relu(b, block, "relu1", conv_bn(b, block, "conv1", "bn1", x, s->inner, 1, 1, 1, false));
        y = relu(b, block, "relu2",
                 conv_bn(b, block, "conv2", "bn2", y, s->inner, 3, s->stride, s->groups, false));
        y = conv_bn(b, block, "conv3", "bn3", y, s->width * 4, 1, 1, 1, s->zero);
    } else {
        y = relu(b, block, "relu1", conv_bn(b, block, "conv1", "bn1", x, s->width, 3, s->stride, 1, false));
        y = conv_bn(b, block, "conv2", "bn2", y, s->width, 3, 1, 1, s->zero);
    }
    if (s->downsample)
        skip = conv_bn(b, block, "downsample.0", "downsample.1", x, s->width * (s->bottleneck ? 4 : 1), 1,
                       s->stride, 1, false);
    snprintf(name, sizeof name, "%sadd", block);
    return relu(b, block, "relu", dt_build_add(b, name, y, skip));
}

dt_vid dt_net_resnet(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o, const void *shape) {
    const dt_resnet_shape *net = shape;
    const int64_t groups = net->groups > 0 ? net->groups : 1,
                  group_width = net->group_width > 0 ? net->group_width : 64;
    const bool small = o->small_stem, bottleneck = net->bottleneck;
    x = conv_bn(b, "", "conv1", "bn1", x, 64, small ? 3 : 7, small ? 1 : 2, 1, false);
    x = dt_build_relu(b, "relu", x);
    if (!small) x = dt_build_pool(b, "maxpool", DT_OP_MAXPOOL, x, 3, 2, 1);
    int64_t channels = 64;
    for (int stage = 0; stage < 4; stage++) {
        for (int32_t i = 0; i < net->blocks[stage]; i++) {
            block_spec s = {.width = 64ll << stage,
                            .inner = (group_width << stage) * groups,
                            .groups = groups,
                            .stride = stage > 0 && i == 0 ? 2 : 1,
                            .bottleneck = bottleneck,
                            .zero = o->zero_init_residual};
            int64_t out = s.width * (bottleneck ? 4 : 1);
            s.downsample = s.stride != 1 || channels != out;
            char block[DT_NAME_MAX];
            snprintf(block, sizeof block, "layer%d.%d.", stage + 1, i);
            x = residual_block(b, block, x, &s);
            channels = out;
        }
    }
    x = dt_build_op(b, "avgpool", DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
    return dt_build_dense(b, "fc", x, classes, true);
}
