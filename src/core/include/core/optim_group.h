/* Groups of parameters, by patterns on their names: their share of the learning rate, their weight decay, and
 * whether they are trained at all. Applied in order; of each key the last group that says it counts. */
#ifndef DT_CORE_OPTIM_GROUP_H
#define DT_CORE_OPTIM_GROUP_H

#include <stdio.h>

#include "core/axis.h"
#include "core/key.h"

enum { DT_OPTIM_GROUPS_MAX = 64 };

/* What a group says. */
enum { DT_GROUP_LR = 1u << 0, DT_GROUP_DECAY = 1u << 1, DT_GROUP_FROZEN = 1u << 2, DT_GROUP_MUON = 1u << 3 };

typedef struct dt_optim_group {
    char pattern[DT_NAME_MAX]; /* "*" stands for any characters, none among them */
    uint32_t says;             /* DT_GROUP_*; of the fields below these alone count */
    double lr_factor;          /* on the learning rate; above 0 */
    double weight_decay;       /* of all parameters of the group, vectors too */
    bool muon;                 /* MATRIX optimizers step its matrices as a whole, or not */
    bool frozen;               /* keeps its values: no gradient, no optimizer state */
} dt_optim_group;

typedef struct dt_optim_groups {
    int32_t n;
    dt_optim_group group[DT_OPTIM_GROUPS_MAX];
    char file
        [DT_KEY_STRING_MAX]; /* that they were read from, for messages, with the line of each; "" or 0: none */
    int32_t line[DT_OPTIM_GROUPS_MAX];
    const struct dt_optim_groups
        *base; /* borrowed: what goes before these, and need not be of any parameter; NULL: none */
} dt_optim_groups;

/* What all groups together say of the parameter of that name; `pattern` is empty. */
dt_optim_group dt_optim_group_of(const dt_optim_groups *g, const char *name);

/* Before differentiation: marks the PARAMs that are frozen, and what is said of matrices. Errors: DT_ERR_CONFIG where a
 * pattern is of no parameter, or of no matrix where it says muon (naming what was probably meant), a number is out of range, or nothing is left to train. */
dt_status dt_optim_groups_mark(const dt_optim_groups *g, dt_graph *graph);
/* Factors and decay to the segments of the axis. */
void dt_optim_groups_apply(const dt_optim_groups *g, dt_axis *axis);

/* A [[optim.groups]] entry, for documentation. */
extern const dt_section dt_optim_group_section;
/* Reads the value of optim.groups; `name` is the file's or "command line". */
dt_status dt_optim_groups_read(dt_optim_groups *g, const dt_toml_value *v, const char *name);
/* As [[optim.groups]] tables that read back. */
void dt_optim_groups_print(const dt_optim_groups *g, FILE *out);

#endif
