/* Graph-to-graph passes. Each leaves a valid graph that computes the same function. Those that are given a
 * device do what makes it faster: they propose nodes for nodes, and take what it says costs less. */
#ifndef DT_CORE_PASS_H
#define DT_CORE_PASS_H

#include "core/backend.h"
#include "core/graph.h"

/* BATCHNORM + RELU, and BATCHNORM + ADD + RELU, into one BATCHNORM. Before autodiff. */
dt_status dt_pass_fuse_bn_act(dt_graph *g);

/* BATCHNORM into BN_STATS + BN_FINALIZE + BN_APPLY (training) or BN_FOLD + BN_APPLY. After autodiff. */
dt_status dt_pass_split_batchnorm(dt_graph *g);

/* Batch statistics, and the sums of their gradient, over all ranks of a communicator, of whose rows_all rows of the
 * micro-step this graph has `rows`: BN_SYNC behind BN_STATS, BN_SYNC_GRAD behind BN_REDUCE where its coefficients
 * are read. After split, before every fusion. */
dt_status dt_pass_sync_batchnorm(dt_graph *g, int64_t rows, int64_t rows_all);

/* Batch normalisation of a 1x1 convolution from Gram matrices: with c = x
 * w^T, the statistics of c follow from x^T x, so that the convolution can end in the normalisation, and its
 * gradients from dz^T x, so that neither c nor its gradient is ever in memory. After split, before
 * fuse_for_backend. */
dt_status dt_pass_gram_batchnorm(dt_graph *g, dt_backend *be);

/* Neighbours become one node: statistics with the convolution before them, a normalisation with what reads
 * it, a sum with the reduction of its gradient... After split. */
dt_status dt_pass_fuse_for_backend(dt_graph *g, dt_backend *be);

/* What backward reads of forward and is computed again instead of kept. */
typedef enum dt_recompute {
    DT_RECOMPUTE_NONE = 0,
    DT_RECOMPUTE_CHEAP, /* all but products: normalisations, activations, views, embeddings */
    DT_RECOMPUTE_BLOCKS /* all but what enters a block; blocks are found */
} dt_recompute;
extern const char *const dt_recompute_names[];

/* Copies nodes of forward into backward (level above NONE). Same results, for the copies draw the same random numbers.
 * *extra_flops: those of the copies. After fuse_for_backend. */
dt_status dt_pass_recompute(dt_graph *g, dt_recompute level, double *extra_flops);

/* Of a graph of which nothing is ever trained: batch norm by known statistics goes into the weights of the product before
 * it, and biases of 16-bit products become 16-bit. New parameters, so before the axis; sums in double, rounded once. */
dt_status dt_pass_fold_constants(dt_graph *g);

/* Of such a graph: softmax(q k^T) v out of products, whatever transposes, reshapes and slices lie around them, becomes
 * ATTENTION; three dense layers of one input before it become one, windows side by side a dense layer, and transposes that
 * undo each other go. */
dt_status dt_pass_find_attention(dt_graph *g);

/* Of a graph that is not trained: what the result of CONV or DENSE passes at once, batch norm, a sum or a function
 * without scalars, becomes the product's end where the device says that this is faster. After split. */
dt_status dt_pass_ends(dt_graph *g, dt_backend *be);

/* Drops nodes whose results nobody reads. */
dt_status dt_pass_remove_dead(dt_graph *g);

#endif
