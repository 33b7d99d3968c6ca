/* What the ranks must agree in about a network: its description as lines, and the state of its training. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/graph_print.h"
#include "core/key.h"
#include "core/op.h"
#include "net.h"

/* "dt_net_step of network 2 [of run 3]". */
static void name_call(const dt_net *net, const char *function, FILE *out) {
    const int32_t number = net->number > 0 ? net->number : net->run->n_compiled + 1;
    fprintf(out, "%s of network %d", function, number);
    if (net->run->number > 1) fprintf(out, " of run %d", net->run->number);
    fputc('\n', out);
}

dt_status dt_net_meet(dt_net *net, dt_status mine, const char *function, const char *more) {
    char call[DT_MEET_TEXT_MAX + 256];
    if (!net->run->mpi) return mine;
    FILE *out = fmemopen(call, sizeof call, "w");
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory for a text");
    name_call(net, function, out);
    /* A rank that has left out a call, or has loaded something else, is told here. */
    fprintf(out, "step %lld\nlr %.17g\n%s", (long long)net->step, net->lr, more);
    fclose(out);
    return dt_run_meet(net->run, mine, false, call);
}

static void print_options(const dt_net *net, FILE *out) {
    const dt_config *c = &net->config;
    const dt_net_options *o = &net->options;
    fprintf(out,
            "batch %lld\nseed %" PRIu64 "\ncompute %s\nclip_norm %.17g\nno_fusion %d\nsync_batch_norm %d\n",
            (long long)o->batch, o->seed, dt_dtype_name(o->compute), o->clip_norm, o->no_fusion,
            o->sync_batch_norm);
    for (int i = 0; i < dt_optim_section.n_row; i++) {
        fprintf(out, "optimizer.%s ", dt_optim_section.row[i].key);
        dt_key_print(&dt_optim_section.row[i], &c->optim, out);
        fputc('\n', out);
    }
    for (int32_t i = 0; i < c->groups.n; i++) {
        const dt_optim_group *g = &c->groups.group[i];
        fprintf(out,
                "group %d: pattern %s, lr_factor %.17g, weight_decay %.17g, frozen %d, muon %d, says %x\n", i,
                g->pattern, g->lr_factor, g->weight_decay, g->frozen, g->muon, g->says);
    }
}

static void print_losses(const dt_net *net, FILE *out) {
    for (int32_t i = 0; i < net->b.g->n_loss; i++)
        fprintf(out, "%s: %s of %s, weight %.17g, delta %.17g, positives %.17g, smoothing %.17g\n",
                net->loss_name[i], net->loss[i].kind, net->b.g->value[net->b.g->loss[i]].name,
                net->loss[i].weight, net->loss[i].delta, net->loss[i].positives, net->loss[i].smoothing);
}

static void print_value(const dt_value *v, FILE *out) {
    static const char *const role[DT_ROLE_COUNT] = {
        [DT_ROLE_INPUT] = "input ", [DT_ROLE_PARAM] = "parameter ", [DT_ROLE_STATE] = "statistic "};
    fprintf(out, "%s%s: %s", role[v->role] ? role[v->role] : "", v->name, dt_value_shape_text(v));
    if (v->role == DT_ROLE_PARAM) fprintf(out, ", initialised by rule %d", (int)v->init);
    fputc('\n', out);
}

static void print_node(const dt_graph *g, const dt_node *n, FILE *out) {
    char head[DT_NAME_MAX + 64];
    snprintf(head, sizeof head, "%s: %s ", g->value[n->out[0]].name, dt_op_name(n));
    fprintf(out, "%sof", head);
    for (int32_t i = 0; i < n->n_in; i++) fprintf(out, " %s", n->in[i] >= 0 ? g->value[n->in[i]].name : "-");
    fputc('\n', out);
    dt_node_print_attributes(n, true, head, out);
}

/* ---- checkpoints ---- */

static const char description_head[] = "# a network written in C\n", line_head[] = "# ";

dt_status dt_net_describe(const dt_net *net, char **text) {
    const dt_graph *g = net->b.g;
    size_t size;
    *text = NULL;
    FILE *out = open_memstream(text, &size);
    dt_status st = DT_OK;
    if (out) {
        fputs(description_head, out);
        const dt_node *loss = &g->node[g->value[g->loss[0]].producer];
        st = dt_graph_print_function(g, loss->in[0], line_head, out);
    }
    if (!out || fclose(out) != 0) st = dt_fail(DT_ERR_MEMORY, "no memory to describe the network");
    return st;
}

dt_status dt_net_check_same(const dt_net *net, const dt_ckpt *c) {
    char *text, why[DT_GRAPH_DIFFERENCE];
    const size_t head = strlen(description_head);
    /* Of a configuration, or of an earlier version. */
    if (strncmp(c->config_text, description_head, head) != 0 || !c->config_text[head]) return DT_OK;
    dt_status st = dt_net_describe(net, &text);
    if (st == DT_OK && !dt_graph_same_function(text + head, c->config_text + head, why))
        st = dt_fail(DT_ERR_CHECKPOINT, "%s is of another network than this: %s", c->path, why);
    free(text);
    return st;
}

/* ---- compiling ---- */

dt_status dt_net_meet_built(dt_net *net, dt_status mine) {
    if (!net->run->mpi) return mine;
    const dt_graph *g = net->b.g;
    char *text = NULL, why[1024];
    size_t size = 0;
    snprintf(why, sizeof why, "%s", mine != DT_OK ? dt_error_text() : "");
    FILE *out = open_memstream(&text, &size);
    if (out) {
        name_call(net, "dt_net_compile", out);
        print_options(net, out);
        print_losses(net, out);
        for (dt_vid v = 0; v < g->n_value; v++)
            if (g->value[v].role != DT_ROLE_ACT) print_value(&g->value[v], out);
        for (dt_nid i = 0; i < g->n_node; i++) {
            print_node(g, &g->node[i], out);
            print_value(&g->value[g->node[i].out[0]], out);
        }
        for (int32_t i = 0; i < g->n_output; i++)
            fprintf(out, "output %s: %s\n", g->output[i].name, g->value[g->output[i].value].name);
    }
    if (!out || fclose(out) != 0)
        mine = dt_fail(DT_ERR_MEMORY, "no memory to describe the network");
    else if (mine != DT_OK)
        dt_error_set(mine, why);
    const dt_status st = dt_run_meet(net->run, mine, false, text ? text : "");
    free(text);
    return st;
}
