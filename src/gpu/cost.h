/* What nodes cost on a card: the timed algorithm of a convolution; of others the passes over memory that they
 * make, and the products of matrices in them. Knows no CUDA: the card is told in a few numbers and a function. */
#ifndef DT_GPU_COST_H
#define DT_GPU_COST_H

#include "conv_spec.h"

typedef struct dt_cost_card {
    double bytes_per_s; /* that our kernels reach of its memory */
    int32_t sm_count;
    bool epilogues; /* products of training may end in more than a bias: not under train.deterministic */
    /* Seconds of the node as a convolution of that kind, in its faster form; negative where it cannot run or
     * was not timed. */
    double (*seconds)(void *arg, const dt_graph *g, const dt_node *n, dt_conv_kind kind);
    /* That form, as far as is known. */
    dt_conv_spec (*form)(void *arg, const dt_graph *g, const dt_node *n, dt_conv_kind kind);
    void *arg;
} dt_cost_card;

/* Seconds of n nodes, one after the other; INFINITY where one of them has no kernel, or a fused one no time
 * to compare. Nodes need not stand in g, but their values do. */
double dt_cost_of(const dt_cost_card *card, const dt_graph *g, const dt_node *node, int32_t n);

/* Whether BN_REDUCE and BN_DX can gather their gradient from a max pool of these attributes. */
bool dt_pool_gathers(const dt_window_attr *t);

#endif
