/* Networks of dense layers, and autoencoders: encoders of falling width with their mirror image, whose result is how far
 * they miss what they read. Widths are model.widths's, or those that their row says. */
#include "nets.h"

/* The widths of the key, or of the row; returns how many. */
static int32_t widths(const dt_model_options *o, const dt_widths *net, int64_t out[DT_WIDTHS_MAX]) {
    int32_t n = o->n_width;
    for (int32_t i = 0; i < n; i++) out[i] = (int64_t)o->widths[i];
    for (; o->n_width == 0 && n < DT_WIDTHS_MAX && net->width[n] > 0; n++) out[n] = net->width[n];
    return n;
}

static dt_vid flat(dt_builder *b, const char *name, dt_vid x) {
    if (b->status != DT_OK || b->g->value[x].ndim == 2) return x;
    return dt_build_op(b, name, DT_OP_RESHAPE, NULL, 1, &x);
}

/* torchvision's MLP: dense layers with relu and dropout between. */
dt_vid dt_net_mlp(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    int64_t width[DT_WIDTHS_MAX];
    const int32_t n = widths(o, shape, width);
    x = flat(b, "flat", x);
    for (int32_t i = 0; i < n; i++) {
        x = dt_build_dense(b, dt_net_join("%d", 3 * i).s, x, width[i], true);
        x = dt_build_relu(b, dt_net_join("%d", 3 * i + 1).s, x);
        x = dt_net_dropout(b, dt_net_join("%d", 3 * i + 2).s, x, dt_net_rate(o->dropout, 0));
    }
    return dt_build_dense(b, dt_net_join("%d", 3 * n).s, x, outputs, true);
}

/* Mean of the squares of x - y over a row, [N, 1]. */
static dt_vid distance(dt_builder *b, dt_vid x, dt_vid y) {
    x = dt_build_op(b, "error", DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_SUB}, 2, (dt_vid[]){x, y});
    x = dt_net_function(b, "square", x, DT_UNARY_SQUARE);
    return dt_build_reduce(b, "mean", flat(b, "numbers", x), DT_REDUCE_MEAN, 1);
}

/* Layer i of a stack of layers with relu between them. */
static dt_vid stacked(dt_builder *b, const char *stack, int32_t i, bool last, dt_vid y) {
    return last ? y : dt_build_relu(b, dt_net_join("%s.%d", stack, 2 * i + 1).s, y);
}

dt_vid dt_net_autoencoder(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o,
                          const void *shape) {
    int64_t width[DT_WIDTHS_MAX];
    const int32_t n = widths(o, shape, width);
    (void)outputs;
    x = flat(b, "flat", x);
    if (b->status != DT_OK) return -1;
    const int64_t numbers = b->g->value[x].dim[1];
    dt_vid y = x;
    for (int32_t i = 0; i < n; i++)
        y = stacked(b, "encoder", i, i == n - 1,
                    dt_build_dense(b, dt_net_join("encoder.%d", 2 * i).s, y, width[i], true));
    dt_build_output(b, "code", y);
    for (int32_t i = 0; i < n; i++)
        y = stacked(b, "decoder", i, i == n - 1,
                    dt_build_dense(b, dt_net_join("decoder.%d", 2 * i).s, y,
                                   i < n - 1 ? width[n - 2 - i] : numbers, true));
    dt_build_output(b, "reconstruction", y);
    return distance(b, y, x);
}

dt_vid dt_net_conv_autoencoder(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o,
                               const void *shape) {
    int64_t width[DT_WIDTHS_MAX];
    const int32_t n = widths(o, shape, width);
    (void)outputs;
    if (!dt_net_need_images(b, x)) return -1;
    const dt_value image = b->g->value[x];
    if (image.dim[1] % (1 << n) || image.dim[2] % (1 << n)) {
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "images of %lldx%lld cannot be halved %d times: another data.image_size, or fewer "
                    "widths in model.widths",
                    (long long)image.dim[1], (long long)image.dim[2], n);
        return -1;
    }
    dt_vid y = x;
    for (int32_t i = 0; i < n; i++) {
        const dt_conv2d_options half = {.channels = width[i], .kernel = 3, .stride = 2, .pad = 1};
        const dt_net_name name = dt_net_join("encoder.%d", 2 * i);
        y = dt_build_conv(b, name.s, y, &half);
        dt_net_init(b, name.s, "weight", DT_INIT_KAIMING_UNIFORM_A5, 0);
        y = stacked(b, "encoder", i, i == n - 1, y);
    }
    dt_build_output(b, "code", y);
    for (int32_t i = 0; i < n; i++) {
        const dt_conv_transpose_options twice = {.channels = i < n - 1 ? width[n - 2 - i] : image.dim[3],
                                                 .kernel = 3,
                                                 .stride = 2,
                                                 .pad = 1,
                                                 .output_pad = 1};
        y = stacked(b, "decoder", i, i == n - 1,
                    dt_build_conv_transpose(b, dt_net_join("decoder.%d", 2 * i).s, y, &twice));
    }
    dt_build_output(b, "reconstruction", y);
    return distance(b, y, x);
}
