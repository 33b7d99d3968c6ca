/* Helpers for writing models: each adds one layer with its parameters and returns the output value. The first
 * error sticks in the builder; later calls do nothing, so a model reads as a list of layers and is checked
 * once. */
#ifndef DT_CORE_BUILDER_H
#define DT_CORE_BUILDER_H

#include "core/graph.h"
#include "core/model.h"

typedef struct dt_builder {
    dt_graph *g;
    const dt_config *config;
    dt_status status;
} dt_builder;

typedef struct dt_conv_options {
    int64_t channels, kernel, stride, pad, dilation, groups; /* dilation, groups: 0 means 1 */
    bool bias;
    dt_init init;
} dt_conv_options;

dt_vid dt_build_input(dt_builder *b, const dt_model_input *in);
/* Weight "<name>.weight" [K,R,S,C/G], bias "<name>.bias". */
dt_vid dt_build_conv(dt_builder *b, const char *name, dt_vid x, const dt_conv_options *o);
dt_vid dt_build_dense(dt_builder *b, const char *name, dt_vid x, int64_t features, bool bias);
/* "<name>.weight", ".bias", ".running_mean", ".running_var"; gamma starts at 0 if zero_gamma. */
dt_vid dt_build_batchnorm(dt_builder *b, const char *name, dt_vid x, bool zero_gamma);
/* Parameterless ops named "<name>". attr may be NULL. */
dt_vid dt_build_op(dt_builder *b, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                   const dt_vid *in);
dt_vid dt_build_relu(dt_builder *b, const char *name, dt_vid x);
dt_vid dt_build_add(dt_builder *b, const char *name, dt_vid x, dt_vid y);
dt_vid dt_build_pool(dt_builder *b, const char *name, dt_op op, dt_vid x, int64_t kernel, int64_t stride,
                     int64_t pad);
dt_vid dt_build_dropout(dt_builder *b, const char *name, dt_vid x, double rate);
/* Loss and metrics over the logits. */
void dt_build_loss(dt_builder *b, dt_vid logits);

#endif
