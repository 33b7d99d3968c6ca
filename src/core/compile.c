/* The table of passes, and the loop over it. */
#include "core/compile.h"

#include <stdlib.h>
#include <string.h>

#include "core/autodiff.h"
#include "core/op.h"
#include "core/pass.h"

/* When a pass runs. */
enum {
    TRAINING = 1,  /* of training graphs alone */
    FUSION = 2,    /* where fusion is wanted */
    LOWERING = 4,  /* on the way to a program, not where only the axis is made */
    RECOMPUTE = 8, /* where activations are computed again */
    KEPT = 16,     /* where they are not */
    SYNCED = 32,   /* where ranks share their batch statistics */
    EVALUATION = 64,
    CONSTANT = 128 /* where nothing has an axis, for nothing is trained */
};

typedef struct work {
    dt_graph *g;
    const dt_compile_options *o;
    dt_axis **axis;
} work;

static dt_status fold_constants(const work *w) {
    return dt_pass_fold_constants(w->g);
}

static dt_status find_attention(const work *w) {
    return dt_pass_find_attention(w->g);
}

static dt_status fuse_bn_act(const work *w) {
    return dt_pass_fuse_bn_act(w->g);
}

static dt_status apply_groups(const work *w) {
    const dt_optim_groups *groups = w->o->axis.groups;
    return groups ? dt_optim_groups_mark(groups, w->g) : DT_OK;
}

static dt_status differentiate(const work *w) {
    return dt_autodiff(w->g);
}

/* Before the device's choices: the axis must be the same on every rank and device. */
static dt_status lay_on_axis(const work *w) {
    const dt_axis_options *a = &w->o->axis;
    if (!*w->axis && !w->g->training) return dt_axis_build_frozen(w->g, w->axis);
    if (!w->g->training || a->made) return dt_axis_assign(*w->axis, w->g);
    DT_TRY(dt_axis_build(w->g, a->n_bucket, a->weight_decay, a->decay_all, w->axis));
    if (a->groups) dt_optim_groups_apply(a->groups, *w->axis);
    return DT_OK;
}

static dt_status split_batchnorm(const work *w) {
    return dt_pass_split_batchnorm(w->g);
}

static dt_status sync_batchnorm(const work *w) {
    return dt_pass_sync_batchnorm(w->g, w->o->rows, w->o->rows_all);
}

static dt_status check(const work *w) {
    return w->o->check ? w->o->check(w->o->arg, w->g) : DT_OK;
}

static dt_status gram_batchnorm(const work *w) {
    return dt_pass_gram_batchnorm(w->g, w->o->be);
}

static dt_status ends(const work *w) {
    return dt_pass_ends(w->g, w->o->be);
}

static dt_status fuse_for_backend(const work *w) {
    return dt_pass_fuse_for_backend(w->g, w->o->be);
}

static dt_status recompute(const work *w) {
    double flops = 0;
    DT_TRY(dt_pass_recompute(w->g, w->o->recompute, &flops));
    if (w->o->recompute_flops) *w->o->recompute_flops = flops;
    return DT_OK;
}

static dt_status remove_dead(const work *w) {
    return dt_pass_remove_dead(w->g);
}

typedef struct pass_row {
    const char *name, *doc;
    dt_status (*run)(const work *w);
    uint32_t when;
} pass_row;

static const pass_row pass_table[] = {
    {"attention", "attention out of its products, softmax and transposes", find_attention,
     FUSION | EVALUATION | CONSTANT},
    {"constants", "batch norm of known statistics goes into the weights before it", fold_constants,
     FUSION | EVALUATION | CONSTANT},
    {"batchnorm relu", "batch norm takes in the sum and the ReLU behind it", fuse_bn_act, FUSION},
    {"groups", "marks the parameters that are frozen", apply_groups, TRAINING},
    {"differentiate", "appends the backward nodes of the loss", differentiate, TRAINING},
    {"axis", "lays the parameters in the order in which backward finishes their gradients", lay_on_axis, 0},
    {"split batchnorm", "statistics, their use, and the sums of backward become nodes of their own",
     split_batchnorm, LOWERING},
    {"sync batchnorm", "batch statistics become those of all ranks", sync_batchnorm,
     TRAINING | LOWERING | SYNCED},
    {"check", "refuses what can never fit the device", check, LOWERING | KEPT},
    /* First of the fusions: it replaces what the others would take apart. */
    {"gram batchnorm", "batch norm around 1x1 convolutions from Gram matrices, where that is faster",
     gram_batchnorm, LOWERING | FUSION},
    {"ends", "products end in the batch norm, the sum and the function behind them", ends,
     EVALUATION | LOWERING | FUSION},
    {"fuse", "neighbours that the device computes faster together", fuse_for_backend, LOWERING | FUSION},
    {"recompute", "backward computes again what it does not find kept", recompute,
     TRAINING | LOWERING | RECOMPUTE},
    {"check", "refuses what can never fit the device", check, LOWERING | RECOMPUTE},
    {"dead", "drops what nobody reads", remove_dead, LOWERING},
};

/* Nodes by op: what a pass took away and brought. */
static void tell(FILE *out, const pass_row *row, const dt_graph *g, int32_t *before) {
    int32_t now[DT_OP_COUNT] = {0}, n_listed = 0;
    for (dt_nid i = 0; i < g->n_node; i++) now[g->node[i].op]++;
    fprintf(out, "  %-16s %5d node%s  %s\n", row->name, g->n_node, g->n_node == 1 ? " " : "s", row->doc);
    for (int32_t op = 0; op < DT_OP_COUNT; op++) {
        if (now[op] == before[op]) continue;
        fprintf(out, "%s%+d %s", n_listed++ ? ", " : "                              ", now[op] - before[op],
                dt_op_get((dt_op)op)->name);
        before[op] = now[op];
    }
    if (n_listed) fprintf(out, "\n");
}

dt_status dt_compile(dt_graph *g, const dt_compile_options *o, dt_axis **axis, dt_program **out) {
    const work w = {g, o, axis};
    const bool training = g->training, again = training && o->recompute != DT_RECOMPUTE_NONE;
    int32_t count[DT_OP_COUNT] = {0};
    dt_status st = DT_OK;
    for (dt_nid i = 0; i < g->n_node; i++) count[g->node[i].op]++;
    if (o->tell)
        fprintf(o->tell, "\npasses of %s\n  %-16s %5d nodes  the model, forward\n",
                training ? "training" : "evaluation", "", g->n_node);
    for (size_t i = 0; i < sizeof pass_table / sizeof pass_table[0] && st == DT_OK; i++) {
        const pass_row *row = &pass_table[i];
        if ((row->when & TRAINING && !training) || (row->when & FUSION && !o->fuse) ||
            (row->when & LOWERING && !out) || (row->when & RECOMPUTE && !again) ||
            (row->when & KEPT && again) || (row->when & EVALUATION && training) ||
            (row->when & CONSTANT && *axis) || (row->when & SYNCED && o->rows_all == 0))
            continue;
        st = row->run(&w);
        if (st == DT_OK && o->tell) tell(o->tell, row, g, count);
    }
    if (st == DT_OK && out) st = dt_program_prepare(o->be, g, NULL, out);
    if (st != DT_OK || !out) dt_graph_destroy(g);
    return st;
}
