/* What short keys say of parameters: who keeps its values, and factors on the learning rate by layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/op.h"
#include "engine_internal.h"

static void say(dt_optim_groups *g, const char *pattern, bool frozen) {
    dt_optim_group *group = &g->group[g->n++];
    *group = (dt_optim_group){.says = DT_GROUP_FROZEN, .frozen = frozen};
    snprintf(group->pattern, sizeof group->pattern, "%s", pattern);
}

static void spare_head(const dt_engine *e, dt_optim_groups *g) {
    for (int32_t i = 0; i < e->weights.n && g->n < DT_OPTIM_GROUPS_MAX; i++)
        if (e->weights.weight[i].head) say(g, e->weights.weight[i].name, false);
}

dt_status dt_engine_make_groups(dt_engine *e) {
    const dt_model_options *m = &e->config->model;
    const bool probe = m->freeze == DT_FREEZE_ALL_BUT_HEAD, adapters = m->lora.rank > 0;
    dt_optim_groups *base = &e->base_groups;
    memset(base, 0, sizeof *base);
    e->groups = e->config->groups;
    e->groups.base = base;
    if (probe || adapters) say(base, "*", true);
    if (adapters) {
        say(base, "*" DT_LORA_A, false);
        say(base, "*" DT_LORA_B, false);
        for (int32_t i = 0; i < m->lora.n_train; i++) say(base, m->lora.train[i], false);
    }
    if (probe || (adapters && m->init.head == DT_INIT_HEAD_NEW)) spare_head(e, base);
    for (int32_t i = 0; i < e->weights.n; i++)
        if (!probe || e->weights.weight[i].head) return DT_OK;
    return dt_fail(
        DT_ERR_CONFIG,
        "model.freeze = \"all_but_head\": the network has no last layer of its own, a dense one or a "
        "convolution that nothing else shares its weights with; say with [[optim.groups]] what is "
        "frozen");
}

/* Marks the values that hang on a parameter which is trained. */
static void mark_trained(const dt_engine *e, const dt_graph *g, bool *trained) {
    for (dt_vid v = 0; v < g->n_value; v++)
        trained[v] =
            g->value[v].role == DT_ROLE_PARAM && !dt_optim_group_of(&e->groups, g->value[v].name).frozen;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        bool any = false;
        for (int32_t k = 0; k < n->n_in; k++) any = any || (n->in[k] >= 0 && trained[n->in[k]]);
        for (int32_t k = 0; any && k < n->n_out; k++)
            if (n->out[k] >= 0) trained[n->out[k]] = true;
    }
}

dt_status dt_engine_probe(const dt_engine *e, dt_graph *g) {
    if (e->config->model.freeze != DT_FREEZE_ALL_BUT_HEAD) return DT_OK;
    bool *trained = calloc((size_t)g->n_value + 1, sizeof *trained);
    if (!trained) return dt_fail(DT_ERR_MEMORY, "no memory to look for what is frozen");
    mark_trained(e, g, trained);
    for (dt_nid i = 0; i < g->n_node; i++) {
        dt_node *n = &g->node[i];
        if (trained[n->out[0]]) continue;
        if (n->op == DT_OP_BATCHNORM) n->attr.norm.fixed = true;
        if (n->op == DT_OP_DROPOUT) n->attr.dropout.p = 0;
    }
    free(trained);
    return DT_OK;
}

void dt_engine_scale_layers(dt_engine *e) {
    const dt_optim_options *o = &e->config->optim;
    dt_axis *a = e->axis;
    const int32_t last = dt_weight_list_layers(&e->weights, e->config->model.name) - 1;
    for (int32_t i = 0; i < a->n_segment; i++) {
        const dt_weight *w = dt_weight_find(&e->weights, a->param[i].name);
        DT_ASSERT(w);
        if (o->layer_decay > 0) a->segment[i].lr_scale *= (float)pow(o->layer_decay, last - w->layer);
        if (o->head_lr_factor > 0 && w->head) a->segment[i].lr_scale *= (float)o->head_lr_factor;
    }
}
