/* A convolution node as the algorithm table knows it: its kind, and the forms in which it may run. Knows no
 * CUDA. */
#ifndef DT_GPU_CONV_SPEC_H
#define DT_GPU_CONV_SPEC_H

#include "algo_cache.h"

/* The kind that runs the node as it stands. */
dt_conv_kind dt_conv_kind_of(const dt_node *n);
/* The plain convolution of a fused one. */
dt_conv_kind dt_conv_plain_kind(dt_conv_kind kind);
/* Where its prologue's scale stands, with the shift after it; -1: it has none. */
int32_t dt_conv_pre_slot(const dt_node *n);
bool dt_conv_has_bias(const dt_node *n);
/* One of the kinds of evaluation, with a bias in T. */
bool dt_conv_ends_in_bias(dt_conv_kind kind);
/* The forms there are; returns how many: as it is, and with columns folded in pairs into the channels. */
int32_t dt_conv_spec_forms(const dt_graph *g, const dt_node *n, dt_conv_kind kind, dt_conv_spec out[2]);
/* cuDNN's fused training patterns for the node whose input has, in the form chosen, c channels: 16-bit floats,
 * whole groups, channels by eight. */
bool dt_conv_spec_fusable(const dt_graph *g, const dt_node *n, int64_t c);

#endif
