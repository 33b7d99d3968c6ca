/* The built-in networks, one builder each; model.c's table names them. Private to the room. */
#ifndef DT_CORE_MODEL_NETS_H
#define DT_CORE_MODEL_NETS_H

#include "core/builder.h"

/* A network: from the input value to the logits. */
typedef dt_vid dt_net_fn(dt_builder *b, dt_vid x, int64_t classes, const int64_t *arg);

dt_net_fn dt_net_resnet;     /* arg: blocks of the four stages, then 1 for bottleneck blocks */
dt_net_fn dt_net_quickstart; /* five convolutions for 28x28 images */
dt_net_fn dt_net_layers;     /* [[model.layers]] of the configuration */

#endif
