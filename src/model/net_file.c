/* A network in a file: its inputs are the data's fields, its weights begin as the file has them. */
#include <stdlib.h>
#include <string.h>

#include "core/op.h"
#include "nets.h"
#include "onnx/build.h"
#include "tensorflow/network.h"

typedef struct file_net {
    dt_builder *b;
    const dt_model_options *o;
    const dt_onnx_graph *graph;
    dt_onnx_bound *in;
    dt_vid image;
    bool image_taken;
    dt_vid only; /* what its first input reads, where a program says so; -1 */
} file_net;

static void drop_model(void *m) {
    dt_onnx_model_free(m);
}

static bool is_whole(dt_tensor_type t) {
    return t == DT_TENSOR_I32 || t == DT_TENSOR_I64;
}

static bool is_float(dt_tensor_type t) {
    return t == DT_TENSOR_F32 || t == DT_TENSOR_F16 || t == DT_TENSOR_BF16 || t == DT_TENSOR_F64;
}

/* What the file fixes of an input, but for the batch, is so. */
static void check_dims(file_net *n, const dt_onnx_value_info *info, const dt_host_tensor *t,
                       const char *what) {
    for (int32_t d = 1; d < t->ndim && info->ndim == t->ndim && n->b->status == DT_OK; d++)
        if (info->dim[d] >= 0 && info->dim[d] != t->dim[d])
            n->b->status = dt_fail(DT_ERR_CONFIG, "its input %s has %lld in dimension %d, and %s gives %lld",
                                   info->name, (long long)info->dim[d], d, what, (long long)t->dim[d]);
    if (n->b->status == DT_OK && info->ndim >= 0 && info->ndim != t->ndim)
        n->b->status = dt_fail(DT_ERR_CONFIG, "its input %s has %d dimensions, and %s gives %d", info->name,
                               info->ndim, what, t->ndim);
}

/* The images, N H W C, of which the file may want N C H W. */
static void bind_image(file_net *n, const dt_onnx_value_info *info, dt_onnx_bound *in) {
    const dt_graph *g = n->b->g;
    const dt_value *x = &g->value[n->image];
    const dt_nid maker = dt_graph_maker(g, n->image, DT_OP_INPUT);
    const int64_t channels = maker >= 0 ? g->value[g->node[maker].in[DT_INPUT_IMAGE]].dim[3] : x->dim[3];
    const bool last = info->ndim == 4 && info->dim[3] == channels && info->dim[1] != channels;
    in->value = n->image;
    in->channels_last = !last;
    in->t = (dt_host_tensor){
        .type = DT_TENSOR_F32, .ndim = 4, .dim = {x->dim[0], channels, x->dim[1], x->dim[2]}};
    if (last) in->t.dim[1] = x->dim[1], in->t.dim[2] = x->dim[2], in->t.dim[3] = channels;
    if (last && x->dim[3] != channels)
        n->b->status = dt_fail(DT_ERR_CONFIG,
                               "its images have channels last, which a device that pads them cannot feed");
    n->image_taken = true;
    check_dims(n, info, &in->t, "data.train");
}

static void bind_value(file_net *n, const dt_onnx_value_info *info, dt_vid v, const char *what,
                       dt_onnx_bound *in) {
    const dt_value *x = &n->b->g->value[v];
    const bool whole = x->dtype == DT_DTYPE_I32;
    if (whole != is_whole(info->type))
        n->b->status = dt_fail(DT_ERR_CONFIG, "its input %s is %s, and %s is %s", info->name,
                               dt_tensor_type_name(info->type), what, dt_value_shape_text(x));
    in->value = v;
    in->t = (dt_host_tensor){.type = whole ? info->type : DT_TENSOR_F32, .ndim = x->ndim};
    memcpy(in->t.dim, x->dim, sizeof in->t.dim);
    if (x->ndim == 1 && info->ndim == 2) in->t.ndim = 2, in->t.dim[1] = 1; /* a number a row */
    if (x->ndim == 2 && x->dim[1] == 1 && info->ndim == 1) in->t.ndim = 1;
    if (n->b->status == DT_OK) check_dims(n, info, &in->t, what);
}

static void bind_field(file_net *n, const dt_onnx_value_info *info, const char *field, dt_onnx_bound *in) {
    const dt_vid v =
        is_whole(info->type) ? dt_build_input_as(n->b, field, DT_DTYPE_I32) : dt_build_input(n->b, field);
    if (v >= 0) bind_value(n, info, v, field, in);
}

/* What packed text has none of: every place counts, all are of one segment, and places count from 0. */
static bool bind_companion(file_net *n, const dt_onnx_value_info *info, dt_onnx_bound *in) {
    const bool mask = strstr(info->name, "mask") != NULL,
               segments = strstr(info->name, "type_ids") != NULL || strstr(info->name, "segment") != NULL,
               places = strstr(info->name, "position_ids") != NULL;
    const dt_field *tokens = dt_build_field(n->b, "tokens");
    if (!tokens || !is_whole(info->type) || !(mask || segments || places) || tokens->ndim != 1 ||
        info->ndim != 2)
        return false;
    const int64_t rows = n->b->rows, steps = tokens->dim[0];
    int64_t *x = malloc((size_t)(rows * steps) * sizeof *x);
    if (!x || dt_graph_own(n->b->g, x, free) != DT_OK) {
        n->b->status = dt_fail(DT_ERR_MEMORY, "no memory for input %s", info->name);
        return true;
    }
    for (int64_t i = 0; i < rows * steps; i++) {
        const int64_t v = mask ? 1 : places ? i % steps : 0;
        if (info->type == DT_TENSOR_I64)
            x[i] = v;
        else
            ((int32_t *)x)[i] = (int32_t)v;
    }
    in->t = (dt_host_tensor){.type = info->type, .ndim = 2, .dim = {rows, steps}, .data = x};
    return true;
}

/* The field that an input of another name means: the tokens, or of arrays the first that is no target. */
static void bind_unnamed(file_net *n, const dt_onnx_value_info *info, dt_onnx_bound *in, int32_t n_unnamed) {
    dt_builder *b = n->b;
    char list[DT_FIELD_LIST];
    if (bind_companion(n, info, in)) return;
    if (is_whole(info->type) && dt_build_field(b, "tokens")) {
        bind_field(n, info, "tokens", in);
        return;
    }
    const dt_vid first = n_unnamed == 1 ? dt_build_first_input(b, n->o->target) : -1;
    if (first < 0) {
        if (b->status == DT_OK)
            b->status = dt_fail(
                DT_ERR_CONFIG,
                "its input %s is called as no field of the data, which has %s; name the fields as the file "
                "does",
                info->name, dt_build_field_list(b, list));
        return;
    }
    /* the name of what it was made of */
    dt_vid v = first;
    while (b->g->value[v].producer >= 0) v = b->g->node[b->g->value[v].producer].in[0];
    char name[DT_NAME_MAX];
    memcpy(name, b->g->value[v].name, sizeof name);
    bind_field(n, info, name, in);
}

static void bind_inputs(file_net *n) {
    int32_t n_unnamed = 0;
    for (int32_t i = 0; i < n->graph->n_in; i++) {
        n->in[i] = (dt_onnx_bound){.value = -1};
        n_unnamed += !dt_build_field(n->b, n->graph->in[i].name);
    }
    for (int32_t i = 0; i < n->graph->n_in && n->b->status == DT_OK; i++) {
        const dt_onnx_value_info *info = &n->graph->in[i];
        if (i == 0 && n->only >= 0)
            bind_value(n, info, n->only, "what it is given", &n->in[i]);
        else if (n->image >= 0 && !n->image_taken && is_float(info->type))
            bind_image(n, info, &n->in[i]);
        else if (n->image < 0 && dt_build_field(n->b, info->name))
            bind_field(n, info, info->name, &n->in[i]);
        else if (n->image < 0)
            bind_unnamed(n, info, &n->in[i], n_unnamed);
        else
            n->b->status = dt_fail(
                DT_ERR_CONFIG, "it reads %s besides the images, which the data does not have", info->name);
    }
}

/* Told where a file of one row may be why it does not fit. */
static void explain_batch(const file_net *n) {
    for (int32_t i = 0; i < n->graph->n_in; i++)
        if (n->graph->in[i].ndim > 0 && n->graph->in[i].dim[0] == 1 && n->b->rows != 1) {
            dt_error_context("the file is made for batches of 1, and this one is of %lld: export it with a "
                             "batch without a "
                             "fixed size (PyTorch: dynamic_axes or dynamic_shapes of torch.onnx.export)",
                             (long long)n->b->rows);
            return;
        }
}

static dt_vid take_output(file_net *n, const dt_onnx_made *made, int64_t outputs) {
    dt_builder *b = n->b;
    const dt_task_row *task = dt_task_of(n->o);
    const int32_t ndim = made->t.ndim;
    if (made->value < 0 || ndim < 1 || made->t.dim[0] != b->rows) {
        b->status = dt_fail(DT_ERR_CONFIG, "its output %s does not have a row for each of the batch",
                            n->graph->out[0].name);
        explain_batch(n);
        return -1;
    }
    const int64_t wide = dt_host_n_elem(&made->t) / b->rows, last = ndim > 1 ? made->t.dim[ndim - 1] : 1;
    if (task->tokens ? last < outputs : wide != outputs) {
        b->status = dt_fail(DT_ERR_CONFIG,
                            "it gives %lld numbers a %s, and the data wants %lld: model.init_head = \"new\" "
                            "draws its last layer anew, of as many",
                            (long long)(task->tokens ? last : wide), task->tokens ? "place" : "row",
                            (long long)outputs);
        return -1;
    }
    dt_vid v = made->value;
    if (b->g->value[v].dtype != b->g->compute) {
        b->status = dt_fail(DT_ERR_CONFIG, "its output %s is %s, not numbers of a loss",
                            n->graph->out[0].name, dt_tensor_type_name(made->t.type));
        return -1;
    }
    if (!task->classes || ndim == 2) return v;
    const dt_attr t = {.reshape = {.ndim = 2, .dim = {b->rows, wide}}};
    return dt_build_op(b, "output/rows", DT_OP_RESHAPE, &t, 1, &v);
}

dt_vid dt_net_file(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    dt_onnx_model *m;
    const bool image = x >= 0 && b->g->value[x].ndim == 4;
    file_net n = {.b = b, .o = o, .image = image ? x : -1, .only = x >= 0 && !image ? x : -1};
    (void)shape;
    if (!o->path[0]) b->status = dt_fail(DT_ERR_CONFIG, "set model.path to the file that holds the network");
    if (b->status == DT_OK) b->status = dt_network_read(o->path, &m);
    if (b->status != DT_OK) return -1;
    b->status = dt_graph_own(b->g, m, drop_model);
    if (b->status != DT_OK) return -1;
    n.graph = &m->graph;
    n.in = calloc((size_t)m->graph.n_in + 1, sizeof *n.in);
    bool *needs = calloc((size_t)m->graph.n_in + 1, sizeof *needs);
    if (!n.in || !needs) b->status = dt_fail(DT_ERR_MEMORY, "no memory for the inputs of %s", o->path);
    if (b->status == DT_OK && m->graph.n_out < 1)
        b->status = dt_fail(DT_ERR_DATA, "%s: it has no output", o->path);
    if (b->status == DT_OK) {
        bind_inputs(&n);
        if (b->status != DT_OK) dt_error_context("%s", o->path);
    }
    dt_onnx_made made;
    if (b->status == DT_OK) {
        const dt_onnx_build_options build = {.model = m,
                                             .in = n.in,
                                             .rows = b->rows,
                                             .outputs = o->init.head == DT_INIT_HEAD_NEW ? outputs : 0,
                                             .logits = dt_task_of(o)->classes || dt_task_of(o)->tokens,
                                             .kernels = true,
                                             .n_out = 1};
        b->status = dt_onnx_build(&build, b->g, &made, needs);
        if (b->status == DT_ERR_USAGE || b->status == DT_ERR_DATA) b->status = DT_ERR_CONFIG;
        if (b->status != DT_OK) explain_batch(&n);
    }
    const dt_vid y = b->status == DT_OK ? take_output(&n, &made, outputs) : -1;
    free(n.in), free(needs);
    return y;
}
