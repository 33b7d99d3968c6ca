/* A device that has some fused kernels and no others, and to which every node costs the same: whatever it can
 * do that makes a list shorter is taken. Header only. */
#ifndef DT_TEST_STAND_IN_H
#define DT_TEST_STAND_IN_H

#include <math.h>

#include "core/backend.h"
#include "core/op.h"
#include "test_check.h"

/* What a node may do beside its op. */
enum {
    FUSED_STATS,                     /* CONV: statistics of its result */
    FUSED_PROLOGUE,                  /* CONV: normalises what it reads */
    FUSED_WGRAD_PROLOGUE,            /* CONV_WGRAD: likewise */
    FUSED_DGRAD_BN,                  /* CONV_DGRAD: the sums of BN_REDUCE */
    FUSED_DUAL,                      /* BN_APPLY, or a CONV that ends as one: normalises the residual too */
    FUSED_SECOND,                    /* BN_REDUCE, BN_DX, BN_MASK: add two gradients */
    FUSED_POOL_PROLOGUE,             /* MAXPOOL: normalises what it reads */
    FUSED_POOL_BN,                   /* BN_REDUCE, BN_DX: gather their gradient from a pool */
    FUSED_GRAM,                      /* nodes of batch norm from Gram matrices */
    FUSED_DGRAD_MASK,                /* CONV_DGRAD: adds another gradient and masks */
    FUSED_OF_ROWS,                   /* from here on of transformers */
    FUSED_DENSE_SUM = FUSED_OF_ROWS, /* DENSE: adds a residual */
    FUSED_DENSE_ACT,                 /* DENSE, DENSE_DGRAD: a function and its gradient */
    FUSED_BIAS_GRAD,                 /* DENSE_WGRAD: the gradient of the bias */
    FUSED_NORM_SUM,                  /* LAYERNORM_BWD, RMSNORM_BWD: add another gradient */
    FUSED_COUNT
};

/* Bits of those that n does. */
static inline uint32_t fused_in(const dt_node *n) {
    const struct {
        dt_op op;
        int32_t in, what; /* in -1: the op alone */
    } table[] = {
        {DT_OP_CONV, DT_CONV_IN_PRE_SCALE, FUSED_PROLOGUE},
        {DT_OP_CONV, DT_CONV_IN_SCALE, FUSED_GRAM},
        {DT_OP_CONV, DT_CONV_IN_RES_SCALE, FUSED_DUAL},
        {DT_OP_CONV_WGRAD, DT_WGRAD_IN_PRE_SCALE, FUSED_WGRAD_PROLOGUE},
        {DT_OP_CONV_DGRAD, DT_DGRAD_IN_C, FUSED_DGRAD_BN},
        {DT_OP_CONV_DGRAD, DT_DGRAD_IN_DX2, FUSED_DGRAD_MASK},
        {DT_OP_BN_APPLY, DT_APPLY_IN_RES_SCALE, FUSED_DUAL},
        {DT_OP_BN_REDUCE, DT_REDUCE_IN_DY2, FUSED_SECOND},
        {DT_OP_BN_REDUCE, DT_REDUCE_IN_DYP2, FUSED_SECOND},
        {DT_OP_BN_REDUCE, DT_REDUCE_IN_DYP, FUSED_POOL_BN},
        {DT_OP_BN_DX, DT_DX_IN_DYP, FUSED_POOL_BN},
        {DT_OP_BN_MASK, DT_BN_MASK_IN_DY2, FUSED_SECOND},
        {DT_OP_MAXPOOL, DT_MAXPOOL_IN_PRE_SCALE, FUSED_POOL_PROLOGUE},
        {DT_OP_GRAM, -1, FUSED_GRAM},
        {DT_OP_DENSE, DT_DENSE_IN_RES, FUSED_DENSE_SUM},
        {DT_OP_DENSE_DGRAD, DT_DENSE_DGRAD_IN_PRE, FUSED_DENSE_ACT},
        {DT_OP_LAYERNORM_BWD, DT_LN_BWD_IN_MEAN + 1, FUSED_NORM_SUM},
        {DT_OP_RMSNORM_BWD, DT_LN_BWD_IN_MEAN, FUSED_NORM_SUM},
    };
    uint32_t bits = 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (n->op == table[i].op && (table[i].in < 0 || dt_node_has(n, table[i].in)))
            bits |= 1u << table[i].what;
    if (n->op == DT_OP_CONV && dt_node_makes(n, DT_CONV_OUT_STATS)) bits |= 1u << FUSED_STATS;
    if (n->op == DT_OP_DENSE && n->attr.dense.act) bits |= 1u << FUSED_DENSE_ACT;
    if (n->op == DT_OP_DENSE_WGRAD && dt_node_makes(n, DT_DENSE_WGRAD_OUT_DB)) bits |= 1u << FUSED_BIAS_GRAD;
    return bits;
}

/* How many nodes of g do each. */
static inline void fused_count(const dt_graph *g, int32_t count[FUSED_COUNT]) {
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t f = 0; f < FUSED_COUNT; f++) count[f] += (fused_in(&g->node[i]) & 1u << f) != 0;
}

/* Nodes that come must fit their op and have values of g. */
static inline double stand_in_price(uint32_t can, const dt_graph *g, const dt_node *node, int32_t n) {
    assert_true(n > 0);
    for (int32_t i = 0; i < n; i++) {
        dt_value outs[DT_SLOTS_OUT_MAX] = {0};
        if (fused_in(&node[i]) & ~can) return INFINITY;
        for (int32_t k = 0; k < node[i].n_in; k++) assert_in_range(node[i].in[k] + 1, 0, g->n_value);
        check_ok(dt_op_get(node[i].op)->infer(g, &node[i], outs));
    }
    return n;
}

typedef struct stand_in {
    dt_backend base;
    uint32_t can; /* bits */
} stand_in;

static inline double stand_in_cost(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n) {
    return stand_in_price(((const stand_in *)be)->can, g, node, n);
}

static inline stand_in stand_in_that(uint32_t can) {
    return (stand_in){.base = {.name = "stand-in", .cost = stand_in_cost}, .can = can};
}

#endif
