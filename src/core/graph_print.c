#include "core/graph_print.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/call.h"
#include "core/op.h"

/* ---- attributes ---- */

static void print_number(const dt_attr_row *row, const uint8_t *at, FILE *out) {
    const size_t size = row->size / row->count;
    int64_t i64 = 0;
    int32_t i32 = 0;
    float f;
    if (strcmp(row->type, "call") == 0) {
        const dt_call *call;
        memcpy(&call, at, sizeof call);
        fputs(call->name, out); /* the address is another one in each process */
    } else if (strcmp(row->type, "f32") == 0) {
        memcpy(&f, at, sizeof f);
        fprintf(out, "%.9g", (double)f);
    } else if (size == sizeof i32) {
        memcpy(&i32, at, sizeof i32);
        if (strcmp(row->type, "type") == 0)
            fputs(dt_dtype_name((dt_dtype)i32), out);
        else
            fprintf(out, "%" PRId32, i32);
    } else {
        memcpy(&i64, at, size);
        fprintf(out, "%" PRId64, i64);
    }
}

void dt_node_print_attributes(const dt_node *n, bool training, const char *head, FILE *out) {
    for (const dt_attr_row *row = dt_op_get(n->op)->attr; row->name; row++) {
        /* of a shape the first dimension follows from the others, and may be the batch */
        const bool shape = n->op == DT_OP_RESHAPE && row->count > 1;
        if (row->learns && !training) continue;
        fprintf(out, "%s%s", head, row->name);
        for (int32_t i = shape && !training; i < row->count; i++) {
            fputc(' ', out);
            print_number(row, n->attr.bytes + row->offset + i * (row->size / row->count), out);
        }
        fputc('\n', out);
    }
}

/* ---- functions ---- */

/* Values on the way to one of them. */
typedef struct way {
    const dt_graph *g;
    bool *on;
    int32_t *number; /* of what an op made, from 1 */
} way;

/* Dropout is the identity. */
static dt_vid seen_through(const dt_graph *g, dt_vid v) {
    while (v >= 0 && g->value[v].producer >= 0 && g->node[g->value[v].producer].op == DT_OP_DROPOUT)
        v = g->node[g->value[v].producer].in[0];
    return v;
}

static void mark(way *w, dt_vid of) {
    const dt_graph *g = w->g;
    w->on[seen_through(g, of)] = true;
    for (dt_nid i = g->n_node - 1; i >= 0; i--) {
        const dt_node *n = &g->node[i];
        bool any = false;
        for (int32_t k = 0; k < n->n_out; k++) any |= n->out[k] >= 0 && w->on[n->out[k]];
        for (int32_t k = 0; any && k < n->n_in; k++)
            if (n->in[k] >= 0) w->on[seen_through(g, n->in[k])] = true;
    }
}

static void print_node(way *w, const dt_node *n, const char *prefix, FILE *out) {
    char head[DT_NAME_MAX + 64];
    const char *name = w->g->value[n->out[0]].name;
    fprintf(out, "%s%s\t%s of", prefix, name, dt_op_name(n));
    for (int32_t k = 0; k < n->n_in; k++) {
        const dt_vid v = n->in[k] >= 0 ? seen_through(w->g, n->in[k]) : -1;
        if (v >= 0 && w->number[v] > 0)
            fprintf(out, " %d", w->number[v]);
        else
            fprintf(out, " %s", v >= 0 ? w->g->value[v].name : "-");
    }
    fputc('\n', out);
    snprintf(head, sizeof head, "%s%s\t%s ", prefix, name, dt_op_name(n));
    dt_node_print_attributes(n, false, head, out);
}

dt_status dt_graph_print_function(const dt_graph *g, dt_vid of, const char *prefix, FILE *out) {
    const size_t n = (size_t)g->n_value + 1;
    way w = {.g = g, .on = calloc(n, sizeof *w.on), .number = calloc(n, sizeof *w.number)};
    int32_t count = 0;
    const dt_status st = w.on && w.number ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory to describe a network");
    if (st == DT_OK) mark(&w, of);
    for (dt_nid i = 0; i < g->n_node && st == DT_OK; i++) {
        const dt_node *node = &g->node[i];
        bool any = false;
        for (int32_t k = 0; k < node->n_out; k++) any |= node->out[k] >= 0 && w.on[node->out[k]];
        if (!any || node->op == DT_OP_DROPOUT) continue;
        for (int32_t k = 0; k < node->n_out; k++)
            if (node->out[k] >= 0) w.number[node->out[k]] = ++count;
        print_node(&w, node, prefix, out);
    }
    free(w.on);
    free(w.number);
    return st;
}

/* The end of the line, and where its comparison begins: behind the name. */
static size_t line_of(const char *text, const char **compared) {
    const size_t n = strcspn(text, "\n"), name = strcspn(text, "\t\n");
    *compared = text + name + (text[name] == '\t');
    return n;
}

static int shown(size_t n) {
    return (int)(n < 300 ? n : 300);
}

bool dt_graph_same_function(const char *mine, const char *theirs, char why[DT_GRAPH_DIFFERENCE]) {
    for (;;) {
        const char *a, *b;
        const size_t n = line_of(mine, &a), m = line_of(theirs, &b);
        const int len_a = (int)(mine + n - a), len_b = (int)(theirs + m - b);
        if (len_a != len_b || memcmp(a, b, (size_t)len_a) != 0) {
            const bool some = n > 0, other = m > 0; /* else one of them has ended */
            const char *named = some ? mine : theirs;
            named += strspn(named, "# ");
            snprintf(why, DT_GRAPH_DIFFERENCE, "\"%.*s\" is \"%.*s\" here and \"%.*s\" there",
                     shown(strcspn(named, "\t\n")), named, shown(some ? (size_t)len_a : 4), some ? a : "none",
                     shown(other ? (size_t)len_b : 4), other ? b : "none");
            return false;
        }
        if (n == 0) return true;
        mine += n + (mine[n] == '\n'), theirs += m + (theirs[m] == '\n');
    }
}
