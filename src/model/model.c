/* Networks as forward graphs, and how those are shown to people. */
#include "model/model.h"

#include <string.h>

#include "core/op.h"
#include "core/text.h"
#include "model/task.h"
#include "nets.h"

/* Whether the data are of a kind that it reads: told first, as tasks and outputs follow from the network. */
static dt_status check_kind(const dt_model_row *row, const dt_model_input *in) {
    const bool tokens = row->reads == DT_READS_TOKENS, chooses = row->reads == DT_READS_FIELDS;
    if (in->n_vocab > 0 && !tokens && !chooses)
        return dt_fail(DT_ERR_CONFIG,
                       "it reads images or rows of numbers, and the data is text: dtrain models says "
                       "which networks read tokens; or set model.name = \"layers\" and write one as "
                       "[[model.layers]]");
    if (in->height > 0 && tokens)
        return dt_fail(DT_ERR_CONFIG, "it reads tokens, and the data are images: set data.train to a set "
                                      "that data import text has made");
    return DT_OK;
}

/* The value that the network of this row is given; -1: it is to choose by itself. */
static dt_vid read_input(dt_builder *b, const dt_model_row *row, const dt_model_options *o,
                         const dt_model_input *in) {
    const bool tokens = row->reads == DT_READS_TOKENS, chooses = row->reads == DT_READS_FIELDS;
    if (b->status != DT_OK) return -1;
    if (in->height > 0) return dt_build_image(b, in);
    if (tokens) return dt_build_input_as(b, "tokens", DT_DTYPE_I32);
    return chooses ? -1 : dt_build_first_input(b, o->target);
}

static dt_status build_row(const dt_model_row *row, const dt_model_options *o, const dt_model_input *in,
                           dt_dtype compute, bool training, dt_graph **out) {
    dt_graph *g;
    *out = NULL;
    DT_TRY(dt_graph_create(&g, compute, training));
    dt_builder b = {.g = g,
                    .rows = in->batch,
                    .field = in->field,
                    .n_field = in->n_field,
                    .n_vocab = in->n_vocab,
                    .bn_eps = o->bn_eps,
                    .bn_momentum = o->bn_momentum,
                    .label_smoothing = in->label_smoothing,
                    .mixed = in->mixed,
                    .table_side = in->table_side,
                    .status = check_kind(row, in)};
    int64_t outputs = b.status == DT_OK ? dt_task_outputs(&b, o, in) : 0;
    if (outputs == 0 && row->reads == DT_READS_TOKENS)
        outputs = row->outputs; /* tokens without a vocabulary */
    const dt_vid x = read_input(&b, row, o, in);
    if (b.status == DT_OK) dt_task_head(&b, o, row->build(&b, x, outputs, o, row->shape));
    if (row->build == dt_net_layers) dt_net_layers_check(&b, o);
    if (b.status == DT_OK) b.status = dt_lora_insert(&o->lora, g);
    if (b.status != DT_OK) {
        dt_error_context("model %s", row->name);
        dt_graph_destroy(g);
        return b.status;
    }
    *out = g;
    return DT_OK;
}

/* Whether channels that only pad the image reach nothing but convolutions, whose weights for them stay 0. To
 * any other layer they would be inputs of their own. Asked of the training graph, for that of evaluation too:
 * both have the same weights, but only one has dropout. */
static dt_status may_pad(const dt_model_row *row, const dt_model_options *o, const dt_model_input *plain,
                         dt_dtype compute, bool *out) {
    dt_graph *g;
    dt_vid x = -1;
    dt_model_input in = *plain;
    in.batch = dt_max_i64(in.batch, 2); /* batch statistics want more than one row */
    DT_TRY(build_row(row, o, &in, compute, true, &g));
    *out = true;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (n->op == DT_OP_INPUT) x = n->out[0];
        for (int32_t j = 0; j < n->n_in; j++)
            if (n->in[j] == x && x >= 0 && (n->op != DT_OP_CONV || j > 0 || n->attr.window.groups != 1))
                *out = false;
    }
    dt_graph_destroy(g);
    return DT_OK;
}

dt_status dt_model_build(const dt_model_options *o, const dt_model_input *in, dt_dtype compute, bool training,
                         dt_graph **out) {
    const dt_model_row *row;
    *out = NULL;
    DT_TRY(dt_model_get(o->name, &row));
    dt_model_input plain = *in;
    plain.padded_channels = in->channels;
    if (in->padded_channels != in->channels) {
        bool pads;
        DT_TRY(may_pad(row, o, &plain, compute, &pads));
        if (pads) return build_row(row, o, in, compute, training, out);
    }
    return build_row(row, o, &plain, compute, training, out);
}

static bool is_of_model(void *arg, const char *key, const char *what) {
    const dt_model_options *o = arg;
    const dt_key_row *row =
        strncmp(key, "model.", 6) == 0 ? dt_section_find(&dt_model_section, key + 6) : NULL;
    return row && dt_key_holds(row, o, what);
}

bool dt_model_takes(const dt_model_options *o, const char *key) {
    return dt_key_counts(dt_section_find(&dt_model_section, key)->only, is_of_model, (void *)(uintptr_t)o);
}

dt_vid dt_model_add_to(dt_builder *b, const dt_model_options *o, dt_vid x, int64_t outputs) {
    const dt_model_row *row;
    if (b->status != DT_OK) return -1;
    b->status = dt_model_get(o->name, &row);
    if (b->status != DT_OK) return -1;
    const dt_value *v = &b->g->value[x];
    const bool tokens = row->reads == DT_READS_TOKENS, in_file = o->path[0] != '\0',
               minimizes = strcmp(row->task, "minimize") == 0;
    if (row->input == 0 && !in_file)
        b->status = dt_fail(DT_ERR_CONFIG, "it is no network by itself");
    else if (tokens && (v->dtype != DT_DTYPE_I32 || v->ndim != 2))
        b->status = dt_fail(DT_ERR_CONFIG, "it reads tokens, i32 [rows, steps], and %s is %s", v->name,
                            dt_value_shape_text(v));
    else if (!tokens && !in_file && v->dtype != b->g->compute)
        b->status = dt_fail(DT_ERR_CONFIG, "it reads images or rows of numbers, and %s is %s", v->name,
                            dt_value_shape_text(v));
    else if (!minimizes && outputs < 1)
        b->status = dt_fail(DT_ERR_CONFIG, "%lld outputs: say how many it is to have", (long long)outputs);
    const dt_vid y = b->status == DT_OK ? row->build(b, x, outputs, o, row->shape) : -1;
    if (b->status != DT_OK) dt_error_context("model %s", row->name);
    return b->status == DT_OK ? y : -1;
}

/* Whether a node before this one, or an operand before this one, is the same parameter. */
static bool was_counted(const dt_graph *g, dt_nid id, int32_t slot) {
    const dt_vid v = g->node[id].in[slot];
    for (dt_nid i = 0; i <= id; i++)
        for (int32_t j = 0; j < (i < id ? g->node[i].n_in : slot); j++)
            if (g->node[i].in[j] == v) return true;
    return false;
}

/* Of those that no node before has. */
static int64_t node_params(const dt_graph *g, dt_nid id) {
    const dt_node *n = &g->node[id];
    int64_t sum = 0;
    for (int32_t j = 0; j < n->n_in; j++) {
        if (n->in[j] < 0 || g->value[n->in[j]].role != DT_ROLE_PARAM || was_counted(g, id, j)) continue;
        const dt_value *v = &g->value[n->in[j]];
        int64_t c = v->dim[v->ndim - 1];
        sum += dt_value_n_elem(v) / c * (v->stored_c ? v->stored_c : c);
    }
    return sum;
}

double dt_model_flops(const dt_graph *g) {
    double sum = 0;
    for (dt_nid i = 0; i < g->n_node; i++) sum += dt_op_flops(g, &g->node[i]);
    return sum / (double)dt_graph_rows(g);
}

int64_t dt_model_n_param(const dt_graph *g) {
    int64_t sum = 0;
    for (dt_nid i = 0; i < g->n_node; i++) sum += node_params(g, i);
    return sum;
}

void dt_model_print(const dt_graph *g, FILE *out) {
    fprintf(out, "%-28s %-14s %-22s %12s %12s\n", "layer", "op", "output", "parameters", "FLOP/sample");
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        const dt_value *y = &g->value[n->out[0]];
        fprintf(out, "%-28s %-14s %-22s %12lld %12s\n", y->name, dt_op_name(n), dt_value_shape_text(y),
                (long long)node_params(g, i), dt_number_text(dt_op_flops(g, n) / (double)dt_graph_rows(g)).s);
    }
    fprintf(out, "%-28s %-14s %-22s %12lld %12s\n", "total", "", "", (long long)dt_model_n_param(g),
            dt_number_text(dt_model_flops(g)).s);
}
