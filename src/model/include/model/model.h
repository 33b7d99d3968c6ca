/* Models: C builders that describe a network as a forward graph. */
#ifndef DT_MODEL_MODEL_H
#define DT_MODEL_MODEL_H

#include <stdio.h>

#include "model/options.h"

/* Builds the forward graph of the model o->name for this input, ending in XENT, with fused BN activations. */
dt_status dt_model_build(const dt_model_options *o, const dt_model_input *in, dt_dtype compute, bool training,
                         dt_graph **out);

/* Layer by layer: output shape, parameters, FLOPs (forward, one sample); totals at the end. */
void dt_model_print(const dt_graph *forward, FILE *out);
/* Forward FLOPs of one sample, and the number of trained parameters. */
double dt_model_flops(const dt_graph *forward);
int64_t dt_model_n_param(const dt_graph *forward);

#endif
