/* Layers: from options to the builder's calls. */
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "core/mix.h"
#include "core/op.h"
#include "model/layer.h"
#include "model/model.h"
#include "model/model_table.h"
#include "net.h"

/* Of this thread: the network that grew last, and the one that was refused last. */
static _Thread_local struct { dt_net *grown, *refused; } thread_net;

dt_status dt_net_note(dt_net *net) {
    if (net->b.status == DT_OK) {
        thread_net.grown = net;
        return DT_OK;
    }
    thread_net.refused = net;
    if (!net->text[0]) snprintf(net->text, sizeof net->text, "%s", dt_error_text());
    return net->b.status;
}

dt_var dt_net_refuse(dt_net *net, dt_status st) {
    if (net->b.status == DT_OK) net->b.status = st;
    dt_net_note(net);
    return DT_NO_VAR;
}

/* A mistake in what a call was given beside its operand x, which may be of no network: then it is one of the network that
 * grows here. */
static void refuse_here(dt_var x, dt_status st) {
    dt_net *net = dt_handle_is(DT_HANDLE_NET, x.net) ? x.net : thread_net.grown;
    if (dt_handle_is(DT_HANDLE_NET, net) && !net->engine) dt_net_refuse(net, st);
}

/* A call whose operands are of no network. They come of a mistake that was noted, or the call is one itself, and then
 * it is one of the network that grows here. */
static void blame(const char *layer) {
    if (dt_handle_is(DT_HANDLE_NET, thread_net.refused) && thread_net.refused->b.status != DT_OK) return;
    refuse_here(DT_NO_VAR, dt_fail(DT_ERR_USAGE, "%s: its operand is no value of a network", layer));
}

/* The network that a layer on x grows; NULL where there is none, or it takes no more, and then that is noted. */
static dt_net *net_of(dt_var x, const char *layer) {
    if (!dt_handle_is(DT_HANDLE_NET, x.net)) {
        blame(layer);
        return NULL;
    }
    if (x.net->b.status != DT_OK) return NULL;
    if (x.net->engine)
        dt_net_refuse(x.net, dt_fail(DT_ERR_USAGE, "%s: the network is compiled and cannot grow", layer));
    else if (x.id < 0 || x.id >= x.net->b.g->n_value)
        dt_net_refuse(x.net, dt_fail(DT_ERR_USAGE, "%s: its operand is no value", layer));
    return x.net->b.status == DT_OK ? x.net : NULL;
}

static dt_var made(dt_net *net, dt_vid id) {
    return dt_net_note(net) == DT_OK ? DT_LITERAL(dt_var){net, id} : DT_NO_VAR;
}

/* Whether parameters of a layer of that name can be saved. */
static bool can_be_saved(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+:-/";
    const size_t n = strlen(name);
    return strspn(name, allowed) == n && name[0] != '/' && name[0] != '.' && name[n - 1] != '/' &&
           !strstr(name, "//") && !strstr(name, "/.");
}

/* Whether a check went well; else its failure is noted. */
static bool holds(dt_net *net, dt_status st) {
    if (st != DT_OK) dt_net_refuse(net, st);
    return st == DT_OK;
}

/* The name given, or the next of its kind; false where it cannot be one. */
static bool name_of(dt_net *net, const char *given, const char *kind, char text[DT_NAME_MAX]) {
    enum { ROOM = 16 }; /* for ".running_mean" */
    _Static_assert((int)DT_MAX_NAME == DT_NAME_MAX - ROOM - 1, "as the header says");
    if (given && (strlen(given) == 0 || strlen(given) > DT_MAX_NAME)) {
        dt_net_refuse(net, dt_fail(DT_ERR_CONFIG, "%s: a name of %zu characters: 1 to %d are possible", kind,
                                   strlen(given), DT_MAX_NAME));
    } else if (given && !can_be_saved(given)) {
        dt_net_refuse(
            net, dt_fail(DT_ERR_CONFIG,
                         "%s: the name \"%s\" is not of letters, digits and _+:- with single . or / between",
                         kind, given));
    } else if (given) {
        snprintf(text, DT_NAME_MAX, "%s", given);
    } else {
        char weight[DT_NAME_MAX + ROOM];
        int32_t i = 1;
        do {
            snprintf(text, DT_NAME_MAX, "%s%d", kind, i++);
            snprintf(weight, sizeof weight, "%s.weight", text);
        } while (dt_graph_find(net->b.g, text) >= 0 || dt_graph_find(net->b.g, weight) >= 0);
    }
    return net->b.status == DT_OK;
}

/* ---- inputs ---- */

_Static_assert((int)DT_MAX_INPUTS == DT_FIELDS_MAX && (int)DT_MAX_OUTPUTS == DT_OUTPUTS_MAX &&
                   (int)DT_MAX_LOSSES == DT_LOSSES_MAX && (int)DT_MAX_FIELD_NAME == DT_FIELD_NAME_MAX - 1,
               "as the header says");

static dt_vid add_input(dt_net *net, const char *name, dt_dtype dtype, dt_shape row) {
    const int64_t batch = net->options.batch;
    int64_t n_elem, bytes;
    dt_vid id = -1;
    if (!name || !name[0] || strlen(name) > DT_MAX_FIELD_NAME) {
        dt_net_refuse(
            net, dt_fail(DT_ERR_USAGE, "an input needs a name of 1 to %d characters", DT_MAX_FIELD_NAME));
        return -1;
    }
    dt_status st = dt_shape_check(name, row, dtype, &n_elem, &bytes);
    if (st == DT_OK && (row.ndim == DT_MAX_DIM || n_elem == 0))
        st = dt_fail(DT_ERR_USAGE, "input \"%s\": a row of shape %s", name, dt_shape_to_text(row).s);
    if (st == DT_OK && net->n_input == DT_MAX_INPUTS)
        st = dt_fail(DT_ERR_USAGE, "input \"%s\": a network has at most %d", name, DT_MAX_INPUTS);
    if (st == DT_OK && bytes > INT64_MAX / batch)
        st = dt_fail(DT_ERR_MEMORY, "input \"%s\": a batch of it is more than can be counted", name);
    if (st != DT_OK) {
        dt_net_refuse(net, st);
        return -1;
    }
    dt_net_input *in = &net->input[net->n_input];
    int64_t dim[DT_MAX_DIM] = {batch};
    memcpy(dim + 1, row.dim, (size_t)row.ndim * sizeof *dim);
    net->b.status = dt_graph_add_value(net->b.g, name, DT_ROLE_INPUT, dtype, row.ndim + 1, dim, &id);
    if (dt_net_note(net) != DT_OK) return -1;
    snprintf(in->field.name, sizeof in->field.name, "%s", name);
    in->field.dtype = dtype;
    in->field.ndim = row.ndim;
    memcpy(in->field.dim, row.dim, sizeof in->field.dim);
    net->n_input++;
    return id;
}

dt_var dt_input(dt_net *net, const char *name, dt_dtype dtype, dt_shape row) {
    if (!net_of(DT_LITERAL(dt_var){net, 0}, __func__)) return DT_NO_VAR;
    const dt_vid v = add_input(net, name, dtype, row);
    const bool whole = dtype == DT_DTYPE_I32 || dtype == DT_DTYPE_I64;
    return made(net, whole ? v : dt_build_as(&net->b, v, net->b.g->compute));
}

static dt_status check_image(const dt_image_options *o) {
    const int32_t most = (int32_t)(sizeof o->mean / sizeof o->mean[0]);
    bool any = false;
    if (o->channels < 1 || o->channels > most || o->height < 1 || o->width < 1 || o->height > INT32_MAX ||
        o->width > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG,
                       "dt_image_input: height, width and channels make an image of %lld x %lld x %lld",
                       (long long)o->height, (long long)o->width, (long long)o->channels);
    for (int32_t c = 0; c < most; c++) {
        const double mean = (double)o->mean[c], stddev = (double)o->stddev[c];
        if (c >= o->channels && (mean != 0 || stddev != 0))
            return dt_fail(DT_ERR_CONFIG, "dt_image_input: mean or stddev of channel %d, of %d", c,
                           (int)o->channels);
        DT_TRY(dt_check_real("dt_image_input", "mean", mean, -1e6, 1e6));
        DT_TRY(dt_check_real("dt_image_input", "stddev", stddev, 1e-6, 1e6));
        any = any || mean != 0 || stddev != 0;
    }
    for (int32_t c = 0; any && c < o->channels; c++)
        if (o->stddev[c] == 0)
            return dt_fail(DT_ERR_CONFIG,
                           "dt_image_input: stddev of channel %d is 0, while others or means are set", c);
    return DT_OK;
}

/* The inputs that say how rows are erased and mixed, as the loader names them; returns the one that the image needs. */
static dt_vid add_mix(dt_net *net, const char *name, bool mixed) {
    if (strcmp(name, "image") != 0) {
        dt_net_refuse(net, dt_fail(DT_ERR_USAGE,
                                   "dt_image_input: erased and mixed are for the input \"image\", not \"%s\"",
                                   name));
        return -1;
    }
    const int32_t first = net->n_input;
    const dt_vid mix = add_input(net, "mix", DT_DTYPE_I32, DT_SHAPE(DT_MIX_INTS));
    if (mixed) add_input(net, "partner", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    if (mixed) add_input(net, "share", DT_DTYPE_F32, DT_SHAPE_SCALAR);
    for (int32_t i = first; i < net->n_input; i++) net->input[i].mixes = true;
    net->b.mixed = mixed;
    return mix;
}

dt_var dt_image_input(dt_net *net, const char *name, dt_image_options o) {
    if (!net_of(DT_LITERAL(dt_var){net, 0}, __func__)) return DT_NO_VAR;
    if (!holds(net, check_image(&o))) return DT_NO_VAR;
    const dt_vid image = add_input(net, name, DT_DTYPE_U8, DT_SHAPE(o.height, o.width, o.channels));
    if (image < 0) return DT_NO_VAR;
    dt_attr t = {.input.size = {(int32_t)o.height, (int32_t)o.width}, .input.padded_c = (int32_t)o.channels};
    for (int32_t c = 0; c < o.channels; c++) {
        t.input.stddev[c] = o.stddev[c] > 0 ? o.stddev[c] : 0.5f;
        t.input.mean[c] = o.stddev[c] > 0 ? o.mean[c] : 0.5f;
    }
    char scaled[DT_NAME_MAX];
    snprintf(scaled, sizeof scaled, "%s/scaled", name);
    const dt_vid mix = o.erased || o.mixed ? add_mix(net, name, o.mixed) : -1;
    if ((o.erased || o.mixed) && mix < 0) return DT_NO_VAR;
    return made(net, dt_build_op(&net->b, scaled, DT_OP_INPUT, &t, 3, (dt_vid[]){image, -1, mix}));
}

/* ---- layers ---- */

/* A layer of the table; options NULL: it has none. */
static dt_var layer(dt_net *net, const char *type, const char *kind, const char *given, int32_t n_in,
                    const dt_vid *in, const void *options) {
    char name[DT_NAME_MAX];
    if (!name_of(net, given, kind, name)) return DT_NO_VAR;
    return made(net, dt_layer_build(&net->b, dt_layer_find(type), name, in, n_in, options));
}

/* A convolution over `sides` sides of the rows. */
static dt_var conv(dt_var x, const char *kind, int32_t sides, const dt_conv2d_options *o) {
    dt_net *net = net_of(x, kind);
    const dt_value *v = net ? &net->b.g->value[x.id] : NULL;
    if (net && v->ndim - 2 != sides)
        return dt_net_refuse(
            net, dt_fail(DT_ERR_CONFIG, "dt_%s: its input is %s, expected rows of %d dimensions%s", kind,
                         dt_value_shape_text(v), sides + 1, sides == 2 ? ": not an image" : ""));
    return net ? layer(net, "conv", kind, o->name, 1, &x.id, o) : DT_NO_VAR;
}
dt_var dt_conv1d(dt_var x, dt_conv1d_options o) {
    return conv(x, "conv1d", 1, &o);
}
dt_var dt_conv2d(dt_var x, dt_conv2d_options o) {
    return conv(x, "conv2d", 2, &o);
}
dt_var dt_conv3d(dt_var x, dt_conv3d_options o) {
    return conv(x, "conv3d", 3, &o);
}
dt_var dt_conv2d_transpose(dt_var x, dt_conv_transpose_options o) {
    dt_net *net = net_of(x, __func__);
    return net ? layer(net, "conv_transpose", "conv_transpose", o.name, 1, &x.id, &o) : DT_NO_VAR;
}
dt_var dt_dense(dt_var x, dt_dense_options o) {
    dt_net *net = net_of(x, __func__);
    return net ? layer(net, "dense", "dense", o.name, 1, &x.id, &o) : DT_NO_VAR;
}
dt_var dt_batchnorm(dt_var x, dt_batchnorm_options o) {
    dt_net *net = net_of(x, __func__);
    if (net && (!holds(net, dt_check_real(__func__, "eps", o.eps, 1e-30, 1)) ||
                !holds(net, dt_check_real(__func__, "momentum", o.momentum, 1e-30, 1))))
        return DT_NO_VAR;
    return net ? layer(net, "batchnorm", "batchnorm", o.name, 1, &x.id, &o) : DT_NO_VAR;
}

/* A norm of rows, which takes some of the options. */
static dt_var norm(dt_var x, const char *type, bool has_bias, const dt_norm_options *o) {
    dt_net *net = net_of(x, type);
    if (net && (o->groups != 0 || (o->no_bias && !has_bias)))
        return dt_net_refuse(net, dt_fail(DT_ERR_CONFIG, "dt_%s: %s would be ignored", type,
                                          o->groups != 0 ? "groups" : "no_bias"));
    return net ? layer(net, type, type, o->name, 1, &x.id, o) : DT_NO_VAR;
}
dt_var dt_layernorm(dt_var x, dt_norm_options o) {
    return norm(x, "layernorm", true, &o);
}
dt_var dt_rmsnorm(dt_var x, dt_norm_options o) {
    return norm(x, "rmsnorm", false, &o);
}
dt_var dt_groupnorm(dt_var x, dt_norm_options o) {
    dt_net *net = net_of(x, __func__);
    return net ? layer(net, "groupnorm", "groupnorm", o.name, 1, &x.id, &o) : DT_NO_VAR;
}
dt_var dt_embedding(dt_var x, dt_embedding_options o) {
    dt_net *net = net_of(x, __func__);
    return net ? layer(net, "embedding", "embedding", o.name, 1, &x.id, &o) : DT_NO_VAR;
}
dt_var dt_position(dt_var x, dt_position_options o) {
    dt_net *net = net_of(x, __func__);
    return net ? layer(net, "position", "position", o.name, 1, &x.id, &o) : DT_NO_VAR;
}
dt_var dt_rotary(dt_var x, dt_rotary_options o) {
    dt_net *net = net_of(x, __func__);
    return net ? layer(net, "rotary", "rotary", NULL, 1, &x.id, &o) : DT_NO_VAR;
}
dt_var dt_squeeze_excite(dt_var x, dt_squeeze_excite_options o) {
    dt_net *net = net_of(x, __func__);
    return net ? layer(net, "squeeze_excite", "squeeze_excite", o.name, 1, &x.id, &o) : DT_NO_VAR;
}
dt_var dt_tied(dt_var x, const char *to) {
    dt_net *net = net_of(x, __func__);
    dt_tied_options o = {""};
    if (!net) return DT_NO_VAR;
    if (!to || strlen(to) >= sizeof o.to)
        return dt_net_refuse(net,
                             dt_fail(DT_ERR_USAGE, "dt_tied: no layer is named \"%.80s\"", to ? to : ""));
    snprintf(o.to, sizeof o.to, "%s", to);
    return layer(net, "tied", "tied", NULL, 1, &x.id, &o);
}

/* A layer without parameters. */
static dt_var plain(dt_var x, const char *type, const void *options) {
    dt_net *net = net_of(x, type);
    return net ? layer(net, type, type, NULL, 1, &x.id, options) : DT_NO_VAR;
}

dt_var dt_maxpool(dt_var x, dt_pool_options o) {
    return plain(x, "maxpool", &o);
}
dt_var dt_avgpool(dt_var x, dt_pool_options o) {
    return plain(x, "avgpool", &o);
}
dt_var dt_global_avgpool(dt_var x) {
    return plain(x, "global_avgpool", NULL);
}
dt_var dt_global_maxpool(dt_var x) {
    return plain(x, "global_maxpool", NULL);
}
dt_var dt_adaptive_avgpool(dt_var x, int64_t height, int64_t width) {
    return plain(x, "adaptive_avgpool", &(dt_adaptive_pool_options){height, width});
}
dt_var dt_adaptive_maxpool(dt_var x, int64_t height, int64_t width) {
    return plain(x, "adaptive_maxpool", &(dt_adaptive_pool_options){height, width});
}
dt_var dt_upsample(dt_var x, dt_upsample_options o) {
    return plain(x, "upsample", &o);
}
dt_var dt_normalize(dt_var x, double eps) {
    return plain(x, "normalize", &(dt_eps_options){eps});
}
dt_var dt_flatten(dt_var x) {
    return plain(x, "flatten", NULL);
}
dt_var dt_softmax(dt_var x) {
    return plain(x, "softmax", NULL);
}
dt_var dt_log_softmax(dt_var x) {
    return plain(x, "log_softmax", NULL);
}
dt_var dt_dropout(dt_var x, double rate) {
    return plain(x, "dropout", &(dt_dropout_options){.rate = rate});
}

dt_var dt_drop_path(dt_var x, double rate) {
    return plain(x, "drop_path", &(dt_dropout_options){.rate = rate});
}

/* ---- functions of core/scalar.h, each under its name ---- */

#undef DT_SCALARS_0
#undef DT_SCALARS_1
#undef DT_SCALARS_2
#define DT_SCALARS_0                             PLAIN
#define DT_SCALARS_1(name, value)                WITH_1
#define DT_SCALARS_2(name, value, name2, value2) WITH_2
#define PLAIN(name)                                                                                          \
    dt_var dt_##name(dt_var x) {                                                                             \
        return plain(x, #name, NULL);                                                                        \
    }
#define WITH_1(name)                                                                                         \
    dt_var dt_##name(dt_var x, double a) {                                                                   \
        return plain(x, #name, &(dt_scalar_options){.a = a});                                                \
    }
/* Of dt_clamp, the only one of two. */
#define WITH_2(name)                                                                                         \
    dt_var dt_##name(dt_var x, double a, double b) {                                                         \
        dt_net *net = net_of(x, #name);                                                                      \
        if (net && a > b)                                                                                    \
            return dt_net_refuse(net, dt_fail(DT_ERR_CONFIG, "dt_" #name ": lo is %g, above hi, %g", a, b)); \
        return plain(x, #name, &(dt_scalar_options){.a = a, .b = b});                                        \
    }
#define DEFINE_AS(kind, name)                                  kind(name)
#define DEFINE_UNARY(NAME, name, of, scalars, value, gradient) DEFINE_AS(scalars, name)
DT_UNARY_LIST(DEFINE_UNARY)

/* Whether both are values of one network. */
static dt_net *net_of_both(dt_var a, dt_var b, const char *layer) {
    const bool has_a = dt_handle_is(DT_HANDLE_NET, a.net), has_b = dt_handle_is(DT_HANDLE_NET, b.net);
    dt_net *net = net_of(has_a || !has_b ? a : b, layer);
    if (!net) return NULL;
    if (a.net == b.net) return net_of(b, layer);
    dt_net_refuse(
        net, has_a && has_b
                 ? dt_fail(DT_ERR_USAGE, "%s: its operands are of different networks", layer)
                 : dt_fail(DT_ERR_USAGE, "%s: operand %d is no value of a network", layer, has_a ? 2 : 1));
    return NULL;
}

static dt_var binary(dt_var a, dt_var b, const char *type, dt_binary f) {
    char name[DT_NAME_MAX];
    dt_net *net = net_of_both(a, b, type);
    if (!net || !name_of(net, NULL, type, name)) return DT_NO_VAR;
    return made(
        net, dt_build_op(&net->b, name, DT_OP_BINARY, &(dt_attr){.binary.fn = f}, 2, (dt_vid[]){a.id, b.id}));
}
#define DEFINE_BINARY(NAME, name, value, rx, gx, ry, gy)                                                     \
    dt_var dt_##name(dt_var a, dt_var b) {                                                                   \
        return binary(a, b, #name, DT_BINARY_##NAME);                                                        \
    }
DT_BINARY_LIST(DEFINE_BINARY)

/* A layer of many values; `more`: it has a dimension more than they. */
static dt_var of_many(const char *type, const dt_var *x, int32_t n, int32_t dimension, int32_t more) {
    dt_vid in[DT_LAYER_IN_MAX];
    char name[32];
    snprintf(name, sizeof name, "dt_%s", type);
    _Static_assert((int)DT_MAX_CONCAT == DT_LAYER_IN_MAX, "as the header says");
    if (!x || n < 1 || n > DT_MAX_CONCAT) {
        refuse_here(
            x && n > 0 ? x[0] : DT_NO_VAR,
            x ? dt_fail(DT_ERR_USAGE, "%s: n is %d: 2 to %d values are possible", name, n, DT_MAX_CONCAT)
              : dt_fail(DT_ERR_USAGE, "%s: x is NULL", name));
        return DT_NO_VAR;
    }
    dt_net *net = net_of(x[0], name);
    if (!net) return DT_NO_VAR;
    const int32_t ndim = net->b.g->value[x[0].id].ndim - 1 + more;
    if (dimension < -1 || dimension >= ndim)
        return dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "%s: dimension %d of %d", name, dimension, ndim));
    for (int32_t i = 0; i < n; i++) {
        if (!net_of_both(x[0], x[i], name)) return DT_NO_VAR;
        in[i] = x[i].id;
    }
    return layer(net, type, type, NULL, n, in, &(dt_dimension_options){.axis = dimension + 1});
}

dt_var dt_concat(const dt_var *x, int32_t n, int32_t dimension) {
    return of_many("concat", x, n, dimension, 0);
}
dt_var dt_stack(const dt_var *x, int32_t n, int32_t dimension) {
    return of_many("stack", x, n, dimension, 1);
}

/* A dimension of the rows as an axis of layers, whose 0 is the last; -1 with an error. */
static int64_t axis_of(dt_net *net, dt_var x, int32_t dimension, const char *layer) {
    const int32_t ndim = net->b.g->value[x.id].ndim - 1;
    if (dimension >= -1 && dimension < ndim) return dimension + 1;
    dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "dt_%s: dimension %d of %d", layer, dimension, ndim));
    return -1;
}

#define DEFINE_REDUCE(name)                                                                                  \
    dt_var dt_##name(dt_var x, int32_t dimension) {                                                          \
        dt_net *net = net_of(x, #name);                                                                      \
        const int64_t axis = net ? axis_of(net, x, dimension, #name) : -1;                                   \
        return axis < 0 ? DT_NO_VAR : plain(x, #name, &(dt_dimension_options){.axis = axis});                \
    }
DEFINE_REDUCE(mean)
DEFINE_REDUCE(sum)
DEFINE_REDUCE(amax)

dt_var dt_reshape(dt_var x, dt_shape row) {
    dt_net *net = net_of(x, __func__);
    dt_reshape_options o = {.n_shape = row.ndim};
    if (!net) return DT_NO_VAR;
    if (row.ndim < 1 || row.ndim > DT_MAX_DIM - 1)
        return dt_net_refuse(net,
                             dt_fail(DT_ERR_USAGE, "dt_reshape: %d dimensions of a row: 1 to %d are possible",
                                     row.ndim, DT_MAX_DIM - 1));
    for (int32_t i = 0; i < row.ndim; i++) o.shape[i] = (double)row.dim[i];
    return plain(x, "reshape", &o);
}

dt_var dt_transpose(dt_var x, int32_t first, int32_t second) {
    dt_net *net = net_of(x, __func__);
    if (!net) return DT_NO_VAR;
    const int64_t one = axis_of(net, x, first, "transpose"),
                  other = one < 0 ? -1 : axis_of(net, x, second, "transpose");
    return other < 0 ? DT_NO_VAR : plain(x, "transpose", &(dt_swap_options){.first = one, .second = other});
}

void dt_split(dt_var x, int32_t dimension, int32_t n, const int64_t *sizes, dt_var *out) {
    dt_net *net = net_of(x, __func__);
    dt_split_options o = {.parts = n};
    dt_vid part[DT_SPLIT_PARTS];
    char name[DT_NAME_MAX];
    for (int32_t i = 0; out && i < n; i++) out[i] = DT_NO_VAR;
    if (!net) return;
    const int32_t most = sizes ? DT_SPLIT_SIZES : DT_SPLIT_PARTS;
    if (!out || n < 1 || n > most) {
        dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "dt_split: %d parts%s: 1 to %d are possible", n,
                                   out ? "" : " of NULL", most));
        return;
    }
    o.axis = axis_of(net, x, dimension, "split");
    for (int32_t i = 0; sizes && i < n; i++) o.sizes[o.n_sizes++] = (double)sizes[i];
    if (o.axis < 0 || !name_of(net, NULL, "split", name)) return;
    const int32_t made_n = dt_build_split(&net->b, name, x.id, &o, part);
    dt_net_note(net);
    for (int32_t i = 0; i < made_n; i++) out[i] = DT_LITERAL(dt_var){net, part[i]};
}

/* A layer along a dimension whose options start with the axis. */
static dt_var along(dt_var x, const char *type, int32_t dimension, int64_t *axis, const void *options) {
    dt_net *net = net_of(x, type);
    *axis = net ? axis_of(net, x, dimension, type) : -1;
    return *axis < 0 ? DT_NO_VAR : plain(x, type, options);
}

dt_var dt_slice(dt_var x, int32_t dimension, int64_t begin, int64_t length) {
    dt_slice_options o = {.begin = begin, .length = length};
    return along(x, "slice", dimension, &o.axis, &o);
}
dt_var dt_pad(dt_var x, int32_t dimension, int64_t before, int64_t after) {
    dt_pad_options o = {.before = before, .after = after};
    return along(x, "pad", dimension, &o.axis, &o);
}

dt_var dt_gather(dt_var x, dt_var numbers, int32_t dimension) {
    dt_net *net = net_of_both(x, numbers, "gather");
    if (!net) return DT_NO_VAR;
    if (dimension < 0) {
        const dt_status st = dt_fail(DT_ERR_USAGE, "dt_gather: dimension %d", dimension);
        return dt_net_refuse(net, st);
    }
    return layer(net, "gather", "gather", NULL, 2, (dt_vid[]){x.id, numbers.id},
                 &(dt_gather_options){.axis = (int64_t)dimension + 1});
}
dt_var dt_one_hot(dt_var x, int64_t classes) {
    return plain(x, "one_hot", &(dt_one_hot_options){.classes = classes});
}

dt_var dt_matmul(dt_var a, dt_var b) {
    dt_net *net = net_of_both(a, b, "matmul");
    return net ? layer(net, "matmul", "matmul", NULL, 2, (dt_vid[]){a.id, b.id}, NULL) : DT_NO_VAR;
}

dt_var dt_cosine_similarity(dt_var a, dt_var b, double eps) {
    static const char type[] = "cosine_similarity";
    dt_net *net = net_of_both(a, b, type);
    return net ? layer(net, type, type, NULL, 2, (dt_vid[]){a.id, b.id}, &(dt_eps_options){eps}) : DT_NO_VAR;
}

/* ---- recurrences ---- */

/* The value among `net`'s, -1 where it is absent; false where it is another network's. */
static bool take_var(dt_net *net, dt_var v, dt_var x, const char *layer, dt_vid *out) {
    *out = v.net ? v.id : -1;
    return !v.net || net_of_both(x, v, layer) == net;
}

/* Name and options of a layer whose operands have names of their own. */
static bool settle(dt_net *net, const char *type, const char *asked, char name[DT_NAME_MAX], void *options) {
    char what[DT_NAME_MAX + 16];
    if (!name_of(net, asked, type, name)) return false;
    snprintf(what, sizeof what, "%s (%s)", name, type);
    net->b.status = dt_section_settle(dt_layer_find(type)->keys, what, options);
    if (net->b.status == DT_OK) net->b.status = dt_layer_check_options(dt_layer_find(type), what, options);
    return true;
}

/* Whole numbers, as ops read them. */
static void as_i32(dt_net *net, dt_vid *v) {
    if (net->b.status == DT_OK && *v >= 0) *v = dt_build_as(&net->b, *v, DT_DTYPE_I32);
}

dt_var dt_recurrent(const char *type, dt_var x, dt_var lengths, dt_recurrent_states begin,
                    dt_recurrent_states *end, dt_recurrent_options o) {
    static const char *const types[] = {"lstm", "gru", "rnn"};
    static const dt_recurrent_kind kinds[] = {DT_LSTM, DT_GRU, DT_RNN_TANH};
    char name[DT_NAME_MAX];
    int32_t i = 0;
    if (end) *end = DT_LITERAL(dt_recurrent_states){DT_NO_VAR, DT_NO_VAR};
    dt_net *net = net_of(x, __func__);
    if (!net) return DT_NO_VAR;
    while (i < 3 && (!type || strcmp(type, types[i]) != 0)) i++;
    if (i == 3)
        return dt_net_refuse(net, dt_fail(DT_ERR_CONFIG, "dt_recurrent: \"%s\" is none of lstm, gru and rnn",
                                          type ? type : "(NULL)"));
    dt_build_recurrent_inputs in = {.x = x.id};
    dt_vid state[2] = {-1, -1};
    if (!take_var(net, lengths, x, type, &in.lengths) || !take_var(net, begin.h, x, type, &in.h0) ||
        !take_var(net, begin.c, x, type, &in.c0) || !settle(net, type, o.name, name, &o))
        return DT_NO_VAR;
    if (net->b.status == DT_OK && o.function != 0 && i != 2)
        return dt_net_refuse(
            net, dt_fail(DT_ERR_CONFIG, "%s (%s): function would be ignored: it is of rnn", name, type));
    as_i32(net, &in.lengths);
    const dt_recurrent_kind kind = i == 2 && o.function == DT_RNN_FUNCTION_RELU ? DT_RNN_RELU : kinds[i];
    const dt_var y = made(net, dt_build_recurrent(&net->b, name, kind, &in, &o, end ? state : NULL));
    if (y.net && end) end->h = DT_LITERAL(dt_var){net, state[0]};
    if (y.net && end && kind == DT_LSTM) end->c = DT_LITERAL(dt_var){net, state[1]};
    return y;
}

#define DEFINE_RECURRENT(type)                                                                               \
    dt_var dt_##type(dt_var x, dt_recurrent_options o) {                                                     \
        return dt_recurrent(#type, x, DT_NO_VAR, DT_LITERAL(dt_recurrent_states){DT_NO_VAR, DT_NO_VAR},      \
                            NULL, o);                                                                        \
    }
DEFINE_RECURRENT(lstm)
DEFINE_RECURRENT(gru)
DEFINE_RECURRENT(rnn)

dt_var dt_attention_of(dt_var x, dt_attention_inputs inputs, dt_attention_options o) {
    static const char type[] = "attention";
    char name[DT_NAME_MAX];
    dt_net *net = net_of(x, __func__);
    if (!net) return DT_NO_VAR;
    dt_build_attention_inputs in = {.x = x.id};
    if (!take_var(net, inputs.context, x, type, &in.context) ||
        !take_var(net, inputs.lengths, x, type, &in.lengths) ||
        !take_var(net, inputs.segments, x, type, &in.segments) || !settle(net, type, o.name, name, &o))
        return DT_NO_VAR;
    as_i32(net, &in.lengths);
    as_i32(net, &in.segments);
    return made(net, dt_build_attention(&net->b, name, &in, &o, NULL));
}

dt_var dt_attention(dt_var x, dt_attention_options o) {
    return dt_attention_of(x, DT_LITERAL(dt_attention_inputs){DT_NO_VAR, DT_NO_VAR, DT_NO_VAR}, o);
}

/* 0: as the network was published; -1: nothing is dropped. */
static dt_status take_rate(const char *field, double rate, double *out) {
    if (rate != -1) DT_TRY(dt_check_real("dt_model", field, rate, FLT_MIN, 1 - FLT_EPSILON));
    if (rate != 0) *out = rate == -1 ? 0 : rate;
    return DT_OK;
}

/* The keys of [model] that the options stand for. */
static dt_status take_model(const dt_model_row *model, const dt_model_add_options *o, dt_model_options *out) {
    const struct {
        const char *key;
        bool set;
    } keys[] = {{"dropout", o->dropout != 0},  {"drop_path", o->drop_path != 0},
                {"small_stem", o->small_stem}, {"pool", o->mean_pool},
                {"patch", o->patch != 0},      {"widths", o->widths[0] != 0}};
    dt_section_defaults(&dt_model_section, out);
    snprintf(out->name, sizeof out->name, "%s", model->name);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i].set && !dt_model_takes(out, keys[i].key))
            return dt_fail(DT_ERR_CONFIG, "dt_model: %s has no %s", out->name, keys[i].key);
    DT_TRY(take_rate("dropout", o->dropout, &out->dropout));
    DT_TRY(take_rate("drop_path", o->drop_path, &out->drop_path));
    if (model->reads != DT_READS_TOKENS && o->vocab != 0)
        return dt_fail(DT_ERR_CONFIG, "dt_model: %s has no vocab", out->name);
    DT_TRY(dt_check_whole("dt_model", "vocab", o->vocab, 1, 1 << 24));
    if (model->reads == DT_READS_TOKENS) {
        out->task = dt_task_named(o->vocab > 0 ? "classify" : model->task);
        out->vocab = o->vocab > 0 ? o->vocab : dt_task_of(out)->classes ? 0 : o->outputs;
    }
    const bool in_file = strcmp(out->name, "file") == 0;
    if (in_file != (o->path && o->path[0]))
        return dt_fail(DT_ERR_CONFIG,
                       in_file ? "dt_model: set path to the file that holds the network"
                               : "dt_model: path is of \"file\", not of %s",
                       out->name);
    if (o->new_head && !in_file)
        return dt_fail(DT_ERR_CONFIG, "dt_model: new_head is of \"file\": all of %s is drawn", out->name);
    if (in_file && snprintf(out->path, sizeof out->path, "%s", o->path) >= (int)sizeof out->path)
        return dt_fail(DT_ERR_CONFIG, "dt_model: path is longer than %d characters", DT_KEY_STRING_MAX - 1);
    if (o->new_head) out->init.head = DT_INIT_HEAD_NEW;
    out->small_stem = o->small_stem;
    out->pool = o->mean_pool ? DT_POOL_MEAN : DT_POOL_TOKEN;
    out->patch = o->patch;
    DT_TRY(dt_check_whole("dt_model", "patch", o->patch, 1, 1 << 10));
    _Static_assert(sizeof o->widths / sizeof o->widths[0] == DT_WIDTHS_MAX, "as the header says");
    for (int i = 0; i < DT_WIDTHS_MAX; i++) {
        if (o->widths[i] == 0) continue;
        if (out->n_width < i) return dt_fail(DT_ERR_CONFIG, "dt_model: widths[%d] stands behind one of 0", i);
        DT_TRY(dt_check_whole("dt_model", "widths", o->widths[i], 1, 1 << 20));
        out->widths[out->n_width++] = (double)o->widths[i];
    }
    return dt_check_whole("dt_model", "outputs", o->outputs, 1, 1 << 24);
}

dt_var dt_model(const char *name, dt_var x, dt_model_add_options options) {
    const dt_model_row *row;
    dt_model_options o;
    dt_net *net = net_of(x, __func__);
    if (!net) return DT_NO_VAR;
    if (!holds(net, dt_model_get(name ? name : "", &row)) || !holds(net, take_model(row, &options, &o)))
        return DT_NO_VAR;
    return made(net, dt_model_add_to(&net->b, &o, x.id, options.outputs));
}

dt_shape dt_var_shape(dt_var x) {
    dt_shape s = {0};
    if (!dt_handle_is(DT_HANDLE_NET, x.net) || x.id < 0 || x.id >= x.net->b.g->n_value) return s;
    const dt_value *v = &x.net->b.g->value[x.id];
    s.ndim = v->ndim - 1;
    memcpy(s.dim, v->dim + 1, (size_t)s.ndim * sizeof *s.dim);
    return s;
}

void dt_expose(dt_var x, const char *name) {
    dt_net *net = net_of(x, __func__);
    if (!net) return;
    if (!name || !name[0] || strlen(name) > DT_MAX_FIELD_NAME)
        dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "dt_expose: an output needs a name of 1 to %d characters",
                                   DT_MAX_FIELD_NAME));
    else
        net->b.status = dt_graph_add_output(net->b.g, name, x.id);
    dt_net_note(net);
}

/* ---- losses ---- */

static void add_loss(dt_net *net, const char *kind, dt_var x, dt_var target, const dt_loss_options *o) {
    const int32_t nth = net->b.g->n_loss;
    const bool first = nth == 0;
    char *name = net->loss_name[nth];
    dt_build_loss_options t = {.kind = kind,
                               .weight = o->weight,
                               .param = strcmp(kind, "huber") == 0 ? o->delta
                                        : strcmp(kind, "bce") == 0 ? o->positives
                                                                   : 0,
                               .value = target.net ? &target.id : NULL};
    if (first) {
        net->task = dt_task_of_loss(kind);
        t.sums = net->task->sums;
    }
    snprintf(name, DT_NAME_MAX, "loss_%s", o->name ? o->name : kind);
    t.name = first ? "loss" : name;
    net->b.label_smoothing = o->smoothing;
    snprintf(net->loss[nth].kind, sizeof net->loss[nth].kind, "%s", kind);
    net->loss[nth].weight = o->weight, net->loss[nth].delta = o->delta;
    net->loss[nth].positives = o->positives, net->loss[nth].smoothing = o->smoothing;
    dt_build_loss(&net->b, x.id, &t);
    dt_net_note(net);
}

/* Options of another kind of loss would be ignored. */
static dt_status check_loss(const char *kind, const dt_loss_options *o) {
    const struct {
        const char *field, *kind;
        double value, most;
    } number[] = {{"weight", kind, o->weight, 1e6},
                  {"delta", "huber", o->delta, 1e6},
                  {"positives", "bce", o->positives, 1e6},
                  {"smoothing", "cross_entropy", o->smoothing, 1 - 1e-6}};
    for (size_t i = 0; i < sizeof number / sizeof number[0]; i++) {
        DT_TRY(dt_check_real("dt_loss", number[i].field, number[i].value, 1e-6, number[i].most));
        if (number[i].value != 0 && strcmp(number[i].kind, kind) != 0)
            return dt_fail(DT_ERR_CONFIG, "dt_loss: %s is of \"%s\", and this is \"%s\"", number[i].field,
                           number[i].kind, kind);
    }
    return DT_OK;
}

void dt_loss(const char *kind, dt_var x, dt_var target, dt_loss_options o) {
    const bool alone = kind && strcmp(kind, "value") == 0;
    const bool no_target = !alone && !dt_handle_is(DT_HANDLE_NET, target.net);
    dt_net *net = alone || no_target ? net_of(x, __func__) : net_of_both(x, target, __func__);
    if (!net) return;
    if (no_target)
        dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "dt_loss: the target is no value of a network"));
    else if (!kind || !dt_task_of_loss(kind))
        dt_net_refuse(net,
                      dt_fail(DT_ERR_CONFIG, "dt_loss: no loss is named \"%.60s\"", kind ? kind : "(NULL)"));
    else if (alone && target.net)
        dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "dt_loss: \"value\" has no target: give DT_NO_VAR"));
    else if (net->b.g->n_loss == DT_MAX_LOSSES)
        dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "dt_loss: a network has at most %d losses", DT_MAX_LOSSES));
    else if (o.name && (!o.name[0] || strlen(o.name) > DT_MAX_FIELD_NAME))
        dt_net_refuse(net, dt_fail(DT_ERR_USAGE, "dt_loss: a loss needs a name of 1 to %d characters",
                                   DT_MAX_FIELD_NAME));
    else if (holds(net, check_loss(kind, &o)))
        add_loss(net, kind, x, target, &o);
}
