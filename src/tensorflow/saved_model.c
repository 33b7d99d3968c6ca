/* From a graph of TensorFlow to a draft: calls of functions are followed, handles of variables become their values, and
 * what no output needs is left out. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "graph.h"
#include "tensorflow/tensorflow.h"

enum { OPSET = 20, CALLS_MAX = 64, NAME_BYTES = 512 };

const dt_tf_op *dt_tf_op_find(const char *op) {
    for (const dt_tf_op *o = dt_tf_ops; o->op; o++)
        if (strcmp(o->op, op) == 0) return o;
    return NULL;
}

/* ---- values ---- */

const char *dt_tf_name(dt_onnx_draft *d, const dt_tf_value *v) {
    if (v->name || d->status != DT_OK) return v->name ? v->name : "";
    if (!v->constant) {
        dt_onnx_draft_fail(d, "the handle of variable \"%s\" is read as a value",
                           v->variable ? v->variable : "");
        return "";
    }
    const dt_onnx_graph *g = &d->m->graph;
    for (int32_t i = 0; i < g->n_constant; i++)
        if (strcmp(g->constant[i].name, v->title) == 0) return g->constant[i].name;
    const dt_onnx_tensor *t = v->constant;
    return dt_onnx_draft_constant(d, v->title, t->type, t->ndim, t->dim, t->data, true);
}

void dt_tf_refuse(dt_tf_call *c, const char *format, ...) {
    char reason[512];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    dt_onnx_draft_fail(c->d, "node \"%s%s\" (%s): %s", c->scope, c->node->name, c->node->op, reason);
}

/* ---- bodies ---- */

typedef struct reader {
    dt_onnx_draft d;
    dt_tf_graph graph;
    dt_tf_bundle bundle;
    const char **handle, **key; /* nodes of the main graph that are variables, and their keys */
    int32_t n_handle;
    char strange[1024]; /* nodes that are not translated */
} reader;

/* A body being followed. */
typedef struct frame {
    reader *r;
    const dt_tf_body *body;
    const char *scope;
    const dt_tf_value *arg;
    dt_tf_value **made;      /* of each node, NULL before */
    int32_t *n_made, *state; /* state 1: waits for its operands, 2: done */
    int32_t depth;
} frame;

static bool dead(const frame *f) {
    return f->r->d.status != DT_OK;
}

static void *take(reader *r, int64_t bytes) {
    void *p = r->d.status == DT_OK ? dt_onnx_alloc(r->d.m, bytes) : NULL;
    if (!p && r->d.status == DT_OK) r->d.status = dt_fail(DT_ERR_MEMORY, "no memory for a graph");
    return p;
}

/* "node:output:2" or "node:2" in its parts; the node, or -1 - i for argument i, or INT_MIN. */
static int32_t parse_ref(const frame *f, const char *ref, const char **output, int64_t *index) {
    static _Thread_local char node[NAME_BYTES], part[NAME_BYTES];
    const char *colon = strchr(ref, ':'), *last = strrchr(ref, ':');
    snprintf(node, sizeof node, "%.*s", (int)(colon ? colon - ref : (int64_t)strlen(ref)), ref);
    part[0] = 0;
    if (colon && last > colon) snprintf(part, sizeof part, "%.*s", (int)(last - colon - 1), colon + 1);
    *output = part;
    *index = last ? strtoll(last + 1, NULL, 10) : 0;
    const dt_tf_node *found = dt_tf_node_find(f->body, node);
    if (found) return (int32_t)(found - f->body->node);
    for (int32_t i = 0; i < f->body->n_arg; i++)
        if (strcmp(f->body->arg[i], node) == 0) return -1 - i;
    return INT_MIN;
}

/* A value that is there; NULL with an error. */
static const dt_tf_value *value_of(frame *f, const char *ref) {
    const char *output;
    int64_t index;
    const int32_t at = parse_ref(f, ref, &output, &index);
    if (at < 0 && at != INT_MIN) return &f->arg[-1 - at];
    if (at == INT_MIN) {
        dt_onnx_draft_fail(&f->r->d, "\"%s%s\" is not in the graph", f->scope, ref);
        return NULL;
    }
    const dt_tf_op *op = dt_tf_op_find(f->body->node[at].op);
    for (int64_t k = 0; op && k < 3 && op->result[k]; k++)
        if (strcmp(op->result[k], output) == 0) index += k;
    if (index < 0 || index >= f->n_made[at]) {
        dt_onnx_draft_fail(&f->r->d, "\"%s%s\" is no result of its node (%s)", f->scope, ref,
                           f->body->node[at].op);
        return NULL;
    }
    return &f->made[at][index];
}

static bool follow(frame *f, int32_t n, const char *const *ref, dt_tf_value *out);

static bool is_call(const char *op) {
    return strcmp(op, "PartitionedCall") == 0 || strcmp(op, "StatefulPartitionedCall") == 0;
}

static void call_function(frame *f, dt_tf_call *c, const dt_tf_value *in) {
    const char *name = dt_tf_text(f->r->d.m, c->node, "f", "");
    const dt_tf_body *body = dt_tf_function_find(&f->r->graph, name);
    if (!body || body->n_arg != c->n_in || body->n_result > DT_TF_VALUES || f->depth == CALLS_MAX) {
        dt_tf_refuse(c, "function \"%s\" %s", name,
                     !body                   ? "is not in the file"
                     : f->depth == CALLS_MAX ? "calls itself, or too deep"
                                             : "takes or gives another number of values");
        return;
    }
    const char *scope = dt_onnx_text(f->r->d.m, "%s%s/", f->scope, c->node->name);
    frame inner = {.r = f->r, .body = body, .scope = scope ? scope : "", .arg = in, .depth = f->depth + 1};
    if (follow(&inner, body->n_result, body->result, c->out)) c->n_out = body->n_result;
}

/* The key of a variable by its node in the main graph, whatever functions it was handed through. */
static const char *key_of(const reader *r, const dt_tf_node *n) {
    for (int32_t i = 0; i < r->n_handle; i++)
        if (strcmp(r->handle[i], n->name) == 0) return r->key[i];
    const char *shared = dt_tf_text(r->d.m, n, "shared_name", "");
    return dt_tf_bundle_has(&r->bundle, shared) ? shared : n->name;
}

static void read_variable(frame *f, dt_tf_call *c, const dt_tf_value *handle) {
    const char *tail = "/.ATTRIBUTES/VARIABLE_VALUE";
    dt_onnx_tensor *t = take(f->r, sizeof *t);
    if (!t) return;
    if (!handle->variable) {
        dt_tf_refuse(c, "it reads no variable");
        return;
    }
    f->r->d.status = dt_tf_bundle_get(&f->r->bundle, handle->variable, t);
    const size_t n = strlen(handle->title), n_tail = strlen(tail);
    const bool has = n > n_tail && strcmp(handle->title + n - n_tail, tail) == 0;
    c->out[0] = (dt_tf_value){
        .constant = t, .title = dt_onnx_text(f->r->d.m, "%.*s", (int)(has ? n - n_tail : n), handle->title)};
    c->n_out = 1;
}

/* All are named at the end; what follows until then is only looked through for more. */
static void note_strange(reader *r, const dt_tf_node *n) {
    const size_t at = strlen(r->strange);
    snprintf(r->strange + at, sizeof r->strange - at, "%s%s (\"%s\")", at ? ", " : "", n->op, n->name);
}

static bool reads_blocks(const char *op) {
    static const char *const list[] = {"Conv2D", "DepthwiseConv2dNative", "BatchToSpaceND"};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (strcmp(op, list[i]) == 0) return true;
    return false;
}

/* The node's results. */
static void make_node(frame *f, const dt_tf_node *n, const dt_tf_value *in, dt_tf_call *c) {
    const char *op = n->op;
    const dt_tf_op *row = dt_tf_op_find(op);
    if (is_call(op)) {
        call_function(f, c, in);
    } else if (strcmp(op, "VarHandleOp") == 0 || strcmp(op, "VariableV2") == 0) {
        const char *shared = dt_tf_text(f->r->d.m, n, "shared_name", "");
        c->out[c->n_out++] =
            (dt_tf_value){.variable = key_of(f->r, n), .title = shared[0] ? shared : n->name};
        if (op[3] == 'i') { /* its value itself */
            const dt_tf_value handle = c->out[0];
            read_variable(f, c, &handle);
        }
    } else if (strcmp(op, "ReadVariableOp") == 0) {
        read_variable(f, c, &in[0]);
    } else if (strcmp(op, "Const") == 0) {
        dt_onnx_tensor *t = take(f->r, sizeof *t);
        if (t) f->r->d.status = dt_tf_tensor(f->r->d.m, n, "value", t);
        c->out[c->n_out++] = (dt_tf_value){
            .constant = t, .title = t ? dt_onnx_text(f->r->d.m, "%s%s", f->scope, n->name) : ""};
    } else if (!row) {
        note_strange(f->r, n);
        for (; c->n_out < DT_TF_VALUES; c->n_out++) c->out[c->n_out] = (dt_tf_value){.name = n->name};
    } else if (c->n_in < row->in_min || c->n_in > (row->in_max < 0 ? DT_TF_VALUES : row->in_max)) {
        dt_tf_refuse(c, "it has %d operands", c->n_in);
    } else if (c->n_in > 0 && in[0].block[0] && !reads_blocks(op)) {
        dt_tf_refuse(c, "it reads an image in blocks, which only a convolution does");
    } else if (row->make) {
        row->make(c);
        if (row->keeps) c->out[0].channels = in[0].channels;
    } else {
        const char *name[DT_TF_VALUES];
        for (int32_t i = 0; i < c->n_in; i++) name[i] = dt_tf_name(c->d, &in[i]);
        const char *title = dt_onnx_text(f->r->d.m, "%s%s", f->scope, n->name);
        dt_tf_value *out = &c->out[c->n_out++];
        *out = (dt_tf_value){.name = dt_onnx_draft_op(c->d, row->to, title, name, c->n_in, DT_ONNX_PLAIN)};
        for (int32_t i = 0; i < c->n_in; i++) out->channels = dt_max_i64(out->channels, in[i].channels);
    }
}

static void run_node(frame *f, int32_t at) {
    const dt_tf_node *n = &f->body->node[at];
    dt_tf_value *in = take(f->r, (n->n_in + 1) * (int64_t)sizeof *in);
    for (int32_t i = 0; i < n->n_in && !dead(f); i++) {
        const dt_tf_value *v = value_of(f, n->in[i]);
        if (v) in[i] = *v;
    }
    dt_tf_call c = {.d = &f->r->d, .node = n, .scope = f->scope, .n_in = n->n_in, .in = in};
    if (!dead(f)) make_node(f, n, in, &c);
    f->made[at] = take(f->r, (c.n_out + 1) * (int64_t)sizeof **f->made);
    if (!f->made[at]) return;
    memcpy(f->made[at], c.out, (size_t)c.n_out * sizeof *c.out);
    f->n_made[at] = c.n_out;
}

/* Runs what `ref` needs, operands first; the stack is our own, for graphs are as deep as networks. A node stands on it
 * once for each that waits for it. */
static void run_for(frame *f, const char *ref, int32_t *stack) {
    const char *output;
    int64_t index, top = 0;
    const int32_t from = parse_ref(f, ref, &output, &index);
    if (from >= 0) stack[top++] = from;
    while (top > 0 && !dead(f)) {
        const int32_t at = stack[top - 1];
        const dt_tf_node *n = &f->body->node[at];
        if (f->state[at] != 0) {
            if (f->state[at] == 1) run_node(f, at); /* its operands are done */
            f->state[at] = 2, top--;
            continue;
        }
        f->state[at] = 1;
        for (int32_t i = 0; i < n->n_in; i++) {
            const int32_t k = parse_ref(f, n->in[i], &output, &index);
            if (k >= 0 && f->state[k] == 1)
                dt_onnx_draft_fail(&f->r->d, "node \"%s\" waits for itself", n->name);
            if (k >= 0 && f->state[k] == 0) stack[top++] = k;
        }
    }
}

/* Room for what run_for needs of a body. */
static int32_t *open_frame(frame *f) {
    int64_t edges = 1;
    for (int32_t i = 0; i < f->body->n_node; i++) edges += f->body->node[i].n_in;
    const int64_t nodes = f->body->n_node + 1;
    f->made = take(f->r, nodes * (int64_t)sizeof *f->made);
    f->n_made = take(f->r, nodes * (int64_t)sizeof *f->n_made);
    f->state = take(f->r, nodes * (int64_t)sizeof *f->state);
    return take(f->r, (edges + 1) * (int64_t)sizeof(int32_t));
}

static bool follow(frame *f, int32_t n, const char *const *ref, dt_tf_value *out) {
    int32_t *stack = open_frame(f);
    for (int32_t i = 0; i < n && !dead(f); i++) run_for(f, ref[i], stack);
    for (int32_t i = 0; i < n && !dead(f); i++) {
        const dt_tf_value *v = value_of(f, ref[i]);
        if (v) out[i] = *v;
    }
    return !dead(f);
}

/* ---- variables ---- */

/* Behind reads that hand a value on. */
static const dt_tf_node *behind(const dt_tf_body *b, const char *ref, int64_t *index) {
    char name[NAME_BYTES];
    const dt_tf_node *n = NULL;
    for (int hops = 0; ref && hops < 8; hops++) {
        const char *last = strrchr(ref, ':');
        snprintf(name, sizeof name, "%.*s", (int)strcspn(ref, ":"), ref);
        *index = last ? strtoll(last + 1, NULL, 10) : 0;
        n = dt_tf_node_find(b, name);
        if (!n || (strcmp(n->op, "Identity") != 0 && strcmp(n->op, "IdentityN") != 0)) break;
        ref = *index < n->n_in ? n->in[*index] : NULL;
    }
    return n;
}

/* Which argument of the function that restores the model gets which key: handles are told by it, for what they are called
 * in the graph need not be what they are called in the files. */
static dt_status find_handles(reader *r, const dt_tf_node *call, const dt_tf_body *restore) {
    const int64_t n_max = restore->n_node + 1;
    r->handle = dt_onnx_alloc(r->d.m, n_max * (int64_t)sizeof *r->handle);
    r->key = dt_onnx_alloc(r->d.m, n_max * (int64_t)sizeof *r->key);
    if (!r->handle || !r->key) return dt_fail(DT_ERR_MEMORY, "no memory for a list of variables");
    for (int32_t i = 0; i < restore->n_node; i++) {
        const dt_tf_node *n = &restore->node[i];
        int64_t index, count, skipped;
        const char **key;
        if (strcmp(n->op, "AssignVariableOp") != 0 || n->n_in != 2) continue;
        const dt_tf_node *from = behind(restore, n->in[1], &index);
        if (!from || strcmp(from->op, "RestoreV2") != 0 || from->n_in < 2) continue;
        const dt_tf_node *names = behind(restore, from->in[1], &skipped);
        if (!names || dt_tf_texts(r->d.m, names, "value", &count, &key) != DT_OK || index < 0 ||
            index >= count)
            continue;
        for (int32_t k = 0; k < restore->n_arg && k < call->n_in; k++)
            if (strcmp(restore->arg[k], n->in[0]) == 0) {
                const dt_tf_node *handle = behind(&r->graph.main, call->in[k], &skipped);
                if (handle) r->handle[r->n_handle] = handle->name, r->key[r->n_handle++] = key[index];
            }
    }
    return DT_OK;
}

static bool restores(const dt_tf_body *b) {
    for (int32_t i = 0; i < b->n_node; i++)
        if (strcmp(b->node[i].op, "RestoreV2") == 0) return true;
    return false;
}

static dt_status open_variables(reader *r, const char *dir) {
    char prefix[PATH_MAX];
    struct stat st;
    snprintf(prefix, sizeof prefix, "%s/variables/variables.index", dir);
    if (stat(prefix, &st) != 0) return DT_OK; /* a model may have none */
    prefix[strlen(prefix) - strlen(".index")] = 0;
    DT_TRY(dt_tf_bundle_open(r->d.m, prefix, &r->bundle));
    for (int32_t i = 0; i < r->graph.main.n_node; i++) {
        const dt_tf_node *n = &r->graph.main.node[i];
        const dt_tf_body *f =
            is_call(n->op) ? dt_tf_function_find(&r->graph, dt_tf_text(r->d.m, n, "f", "")) : NULL;
        if (f && restores(f)) return find_handles(r, n, f);
    }
    return DT_OK;
}

/* ---- inputs and outputs ---- */

static int by_port_name(const void *a, const void *b) {
    return strcmp(((const dt_tf_port *)a)->name, ((const dt_tf_port *)b)->name);
}

/* Of a graph without a signature: what is fed, and what nobody reads. */
static dt_status find_ports(reader *r) {
    dt_tf_graph *g = &r->graph;
    const int64_t n = g->main.n_node + 1;
    bool *read = take(r, n * (int64_t)sizeof *read);
    g->in = take(r, n * (int64_t)sizeof *g->in), g->out = take(r, n * (int64_t)sizeof *g->out);
    if (r->d.status != DT_OK) return r->d.status;
    for (int32_t i = 0; i < g->main.n_node; i++)
        for (int32_t k = 0; k < g->main.node[i].n_in; k++) {
            char name[NAME_BYTES];
            const char *ref = g->main.node[i].in[k];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(ref, ":"), ref);
            const dt_tf_node *from = dt_tf_node_find(&g->main, name);
            if (from) read[from - g->main.node] = true;
        }
    for (int32_t i = 0; i < g->main.n_node; i++) {
        const dt_tf_node *node = &g->main.node[i];
        const bool fed = strcmp(node->op, "Placeholder") == 0;
        if (!fed && (read[i] || strcmp(node->op, "NoOp") == 0 || strcmp(node->op, "Const") == 0)) continue;
        dt_tf_port *p = fed ? &g->in[g->n_in++] : &g->out[g->n_out++];
        *p = (dt_tf_port){.name = node->name, .tensor = node->name, .info = {.name = node->name, .ndim = -1}};
        if (!fed) continue;
        p->info.type = dt_tf_type(dt_tf_int(node, "dtype", 1));
        dt_tf_shape(node, "shape", &p->info);
    }
    return DT_OK;
}

/* The main graph with the inputs in place of their nodes. */
static dt_status translate(reader *r) {
    dt_tf_graph *g = &r->graph;
    frame f = {.r = r, .body = &g->main, .scope = ""};
    if (g->n_out == 0 || g->n_out > DT_TF_VALUES)
        return dt_fail(DT_ERR_DATA, "a graph of %d outputs", g->n_out);
    qsort(g->in, (size_t)g->n_in, sizeof *g->in, by_port_name); /* maps have no order of their own */
    qsort(g->out, (size_t)g->n_out, sizeof *g->out, by_port_name);
    dt_tf_value *out = take(r, g->n_out * (int64_t)sizeof *out);
    int32_t *stack = open_frame(&f);
    for (int32_t i = 0; i < g->n_in && r->d.status == DT_OK; i++) {
        const char *output;
        int64_t index;
        dt_onnx_value_info v = g->in[i].info;
        const int32_t at = parse_ref(&f, g->in[i].tensor, &output, &index);
        if (v.type == DT_TENSOR_TYPES || at < 0) {
            dt_onnx_draft_fail(&r->d, "input \"%s\" is not of numbers that are read", v.name);
            break;
        }
        if (v.ndim > 0 && v.dim[0] < 0) v.dim_name[0] = "N";
        dt_onnx_draft_input(&r->d, &v);
        f.made[at] = take(r, sizeof **f.made);
        if (!f.made[at]) break;
        *f.made[at] = (dt_tf_value){.name = r->d.m->graph.in[i].name};
        if (v.ndim > 0 && v.dim[v.ndim - 1] > 0) f.made[at]->channels = v.dim[v.ndim - 1];
        f.n_made[at] = 1, f.state[at] = 2;
    }
    for (int32_t i = 0; i < g->n_out && r->d.status == DT_OK; i++) run_for(&f, g->out[i].tensor, stack);
    for (int32_t i = 0; i < g->n_out && r->d.status == DT_OK; i++) {
        const dt_tf_value *v = value_of(&f, g->out[i].tensor);
        if (!v) break;
        const char *from = dt_tf_name(&r->d, v);
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s", g->out[i].name);
        for (int32_t k = 0; k < g->n_in; k++)
            if (strcmp(g->in[k].name, g->out[i].name) == 0)
                snprintf(name, sizeof name, "%s:out", g->out[i].name);
        dt_onnx_value_info info = g->out[i].info;
        if (strcmp(name, from) != 0)
            from = dt_onnx_draft_op(&r->d, "Identity", name, DT_ONNX_IN(from), DT_ONNX_PLAIN);
        info.name = from;
        if (info.ndim < 0) info.type = DT_TENSOR_TYPES;
        dt_onnx_draft_output(&r->d, &info);
    }
    return r->d.status;
}

/* ---- files ---- */

static bool is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The file of a SavedModel, which is a directory, and that directory; the path itself where it is a file. */
static void find_files(const char *path, char file[PATH_MAX], char dir[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (is_dir(path)) {
        snprintf(file, PATH_MAX, "%s/saved_model.pb", path);
        snprintf(dir, PATH_MAX, "%s", path);
        return;
    }
    snprintf(file, PATH_MAX, "%s", path);
    snprintf(dir, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

/* A SavedModel begins with its version, 1, and its graphs; a GraphDef with a node, which has a name and an op. */
static bool begins(const dt_mapped_file *f, bool *saved_model) {
    dt_pb r, inner;
    dt_pb_field x;
    bool more, named = false;
    if (f->n_bytes < 2) return false;
    *saved_model = f->byte[0] == 8 && f->byte[1] == 1;
    r = (dt_pb){.at = f->byte, .end = f->byte + f->n_bytes, .file = f->byte};
    if (dt_pb_step(&r, &x, &more) != DT_OK || !more) return false;
    if (*saved_model)
        return dt_pb_step(&r, &x, &more) == DT_OK && more && x.number == 2 && x.wire == DT_PB_BYTES &&
               r.at == r.end;
    if (x.number != 1 || x.wire != DT_PB_BYTES) return false;
    inner = (dt_pb){.at = x.at, .end = x.at + x.n, .file = f->byte};
    while (dt_pb_step(&inner, &x, &more) == DT_OK && more) {
        if (x.number > 7) return false;
        named =
            named || (x.number == 2 && x.wire == DT_PB_BYTES && x.n > 0 && x.at[0] >= 'A' && x.at[0] <= 'Z');
    }
    return named;
}

bool dt_saved_model_knows(const char *path) {
    char file[PATH_MAX], dir[PATH_MAX];
    dt_mapped_file f = {.byte = NULL};
    bool saved;
    find_files(path, file, dir);
    const bool known = dt_file_map(file, &f) == DT_OK && begins(&f, &saved);
    dt_file_unmap(&f);
    return known;
}

static dt_status read_files(reader *r, const char *file, const char *dir) {
    bool saved;
    dt_mapped_file *f = dt_onnx_alloc(r->d.m, sizeof *f);
    if (!f) return dt_fail(DT_ERR_MEMORY, "no memory for a file");
    DT_TRY(dt_file_map(file, f));
    r->d.m->file = f, r->d.m->n_file = 1;
    if (!begins(f, &saved)) return dt_fail(DT_ERR_DATA, "neither a SavedModel nor a GraphDef");
    DT_TRY(dt_tf_graph_read(r->d.m, f, saved, &r->graph));
    if (saved) DT_TRY(open_variables(r, dir));
    if (!saved) DT_TRY(find_ports(r));
    r->d.m->format = saved ? "SavedModel" : "GraphDef";
    const dt_status st = translate(r);
    return r->strange[0] ? dt_fail(DT_ERR_DATA, "ops that are not translated: %s", r->strange) : st;
}

dt_status dt_saved_model_read(const char *path, dt_onnx_model **out) {
    char file[PATH_MAX], dir[PATH_MAX];
    reader r = {.n_handle = 0};
    *out = NULL;
    find_files(path, file, dir);
    DT_TRY(dt_onnx_draft_create(OPSET, &r.d));
    dt_status st = read_files(&r, file, dir);
    if (st == DT_OK && !(r.d.m->path = dt_onnx_text(r.d.m, "%s", path)))
        st = dt_fail(DT_ERR_MEMORY, "no memory for a path");
    if (st != DT_OK && !strstr(dt_error_text(), path)) dt_error_context("%s", path);
    if (dt_onnx_check_files(r.d.m) != DT_OK) st = DT_ERR_DATA;
    if (st != DT_OK) r.d.status = st;
    return dt_onnx_draft_end(&r.d, out);
}
