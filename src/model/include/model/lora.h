/* Low-rank adapters (Hu et al. 2021): beside a dense layer's weight W, which keeps its values, stand A [rank, in] and
 * B [out, rank], and the layer gives x W' + (alpha / rank) (x A') B'. B begins at 0, so that the network begins as it
 * was. */
#ifndef DT_MODEL_LORA_H
#define DT_MODEL_LORA_H

#include "core/graph.h"
#include "core/key.h"

enum { DT_LORA_NAMES_MAX = 32 };

/* [lora]; each key is documented in its row. */
typedef struct dt_lora_options {
    int64_t rank; /* 0: there are none */
    double alpha; /* 0: as rank */
    double dropout;
    char targets[DT_LORA_NAMES_MAX][DT_NAME_MAX], train[DT_LORA_NAMES_MAX][DT_NAME_MAX];
    int32_t n_targets, n_train;
} dt_lora_options;
extern const dt_section dt_lora_section;

/* What the adapters' names end in, behind the weight's without its "weight": "fc.weight" has "fc.lora_A.weight". */
#define DT_LORA_A "lora_A.weight"
#define DT_LORA_B "lora_B.weight"

/* Whether a parameter of that name is an adapter's. */
bool dt_lora_is_adapter(const char *name);
/* alpha / rank */
double dt_lora_factor(const dt_lora_options *o);

/* Puts adapters beside the weights of dense layers and projections that o->targets names, without targets beside all but
 * those of the last layer; also where a layer has some rows of a weight. The graph is a forward one that no pass has
 * changed. DT_ERR_CONFIG where a target names none. */
dt_status dt_lora_insert(const dt_lora_options *o, dt_graph *forward);

/* weight [out, in] += factor B A: the adapter's part of it, in fp32 rounded once. */
void dt_lora_merge(double factor, int64_t out, int64_t in, int64_t rank, const float *a, const float *b,
                   float *weight);

#endif
