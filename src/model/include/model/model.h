/* Models: C builders that describe a network as a forward graph. */
#ifndef DT_MODEL_MODEL_H
#define DT_MODEL_MODEL_H

#include <stdio.h>

#include "model/options.h"

/* Builds the forward graph of the model o->name for this input, ending in XENT, with fused BN activations. */
dt_status dt_model_build(const dt_model_options *o, const dt_model_input *in, dt_dtype compute, bool training,
                         dt_graph **out);

/* Whether the network o->name has use for this key of [model]. */
bool dt_model_takes(const dt_model_options *o, const char *key);
/* Adds the network o->name alone to a graph that grows, from x [N, ...] on; returns what it gives, or -1 with an error
 * that sticks in the builder. */
dt_vid dt_model_add_to(dt_builder *b, const dt_model_options *o, dt_vid x, int64_t outputs);

/* Layer by layer: output shape, parameters, FLOPs (forward, one sample); totals at the end. */
void dt_model_print(const dt_graph *forward, FILE *out);
/* Forward FLOPs of one sample, and the number of trained parameters. */
double dt_model_flops(const dt_graph *forward);
int64_t dt_model_n_param(const dt_graph *forward);

#endif
