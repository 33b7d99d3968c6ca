/* The quickstart network: five 3x3 convolutions with batch normalisation, 22 MFLOP forward at 28x28. */
#include <stdio.h>

#include "nets.h"

dt_vid dt_net_quickstart(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o,
                         const void *shape) {
    static const struct {
        int64_t channels, stride;
    } layer[] = {{32, 1}, {32, 2}, {64, 1}, {64, 2}, {128, 1}};
    (void)o, (void)shape;
    for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++) {
        char name[DT_NAME_MAX];
        dt_conv2d_options conv = {
            .channels = layer[i].channels, .kernel = 3, .stride = layer[i].stride, .pad = 1, .no_bias = true};
        snprintf(name, sizeof name, "conv%zu", i + 1);
        x = dt_build_conv(b, name, x, &conv);
        snprintf(name, sizeof name, "bn%zu", i + 1);
        x = dt_build_batchnorm(b, name, x, NULL);
        snprintf(name, sizeof name, "relu%zu", i + 1);
        x = dt_build_relu(b, name, x);
    }
    x = dt_build_op(b, "avgpool", DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
    return dt_build_dense(b, "fc", x, classes, true);
}
