/* What several networks are written with. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nets.h"

dt_net_name dt_net_join(const char *format, ...) {
    dt_net_name out;
    va_list list;
    va_start(list, format);
    vsnprintf(out.s, sizeof out.s, format, list);
    va_end(list);
    return out;
}

dt_vid dt_net_function(dt_builder *b, const char *name, dt_vid x, dt_unary function) {
    return dt_build_op(b, name, DT_OP_UNARY, &(dt_attr){.unary.fn = function}, 1, &x);
}

dt_vid dt_net_param(dt_builder *b, const char *name, int32_t ndim, const int64_t *dim, dt_init init,
                    double std) {
    dt_vid v = -1;
    if (b->status != DT_OK) return -1;
    b->status = dt_graph_add_value(b->g, name, DT_ROLE_PARAM, b->g->compute, ndim, dim, &v);
    if (b->status != DT_OK) return -1;
    b->g->value[v].init = init;
    b->g->value[v].init_std = (float)std;
    return v;
}

void dt_net_init(dt_builder *b, const char *layer, const char *what, dt_init init, double std) {
    const dt_vid v = b->status == DT_OK ? dt_graph_find(b->g, dt_net_join("%s.%s", layer, what).s) : -1;
    if (v < 0) return;
    b->g->value[v].init = init;
    b->g->value[v].init_std = (float)std;
}

void dt_net_init_normal(dt_builder *b, double std) {
    for (dt_vid v = 0; b->status == DT_OK && v < b->g->n_value; v++) {
        dt_value *p = &b->g->value[v];
        if (p->role != DT_ROLE_PARAM) continue;
        if (p->init == DT_INIT_UNIFORM_FAN_IN) p->init = DT_INIT_ZERO;
        if (!p->decay) continue;
        p->init = DT_INIT_NORMAL;
        p->init_std = (float)std;
    }
}

void dt_net_init_conv(dt_builder *b, const char *layer) {
    const dt_vid v = b->status == DT_OK ? dt_graph_find(b->g, dt_net_join("%s.weight", layer).s) : -1;
    if (v < 0) return;
    dt_value *w = &b->g->value[v];
    w->init = DT_INIT_KAIMING_NORMAL_FAN_OUT;
    w->fan_out = w->dim[0] * w->dim[1] * w->dim[2];
    dt_net_init(b, layer, "bias", DT_INIT_ZERO, 0);
}

dt_vid dt_net_conv_bn(dt_builder *b, const char *conv, const char *norm, dt_vid x, const dt_conv2d_options *o,
                      const dt_batchnorm_options *bn, int function) {
    dt_conv2d_options plain = *o;
    plain.no_bias = true;
    x = dt_build_conv(b, conv, x, &plain);
    dt_net_init_conv(b, conv);
    x = dt_build_batchnorm(b, norm, x, bn);
    return function == DT_NET_LINEAR
               ? x
               : dt_net_function(b, dt_net_join("%s.act", norm).s, x, (dt_unary)function);
}

double dt_net_rate(double key, double reference) {
    return key >= 0 ? key : reference;
}

dt_vid dt_net_dropout(dt_builder *b, const char *name, dt_vid x, double rate) {
    return rate > 0 ? dt_build_dropout(b, name, x, rate) : x;
}

dt_vid dt_net_drop_path(dt_builder *b, const char *name, dt_vid x, double rate) {
    return rate > 0 ? dt_build_drop_path(b, name, x, rate) : x;
}

dt_vid dt_net_places(dt_builder *b, const char *name, dt_vid x) {
    if (b->status != DT_OK) return -1;
    const dt_value *v = &b->g->value[x];
    const dt_attr t = {.reshape = {.ndim = 3, .dim = {v->dim[0], v->dim[1] * v->dim[2], v->dim[3]}}};
    return dt_build_op(b, name, DT_OP_RESHAPE, &t, 1, &x);
}

dt_vid dt_net_image(dt_builder *b, const char *name, dt_vid x, int64_t height, int64_t width) {
    if (b->status != DT_OK) return -1;
    const dt_value *v = &b->g->value[x];
    const dt_attr t = {.reshape = {.ndim = 4, .dim = {v->dim[0], height, width, v->dim[2]}}};
    return dt_build_op(b, name, DT_OP_RESHAPE, &t, 1, &x);
}

bool dt_net_need_images(dt_builder *b, dt_vid x) {
    if (b->status == DT_OK && b->g->value[x].ndim != 4)
        b->status = dt_fail(DT_ERR_CONFIG, "it reads images, [N, H, W, C], and %s is %s", b->g->value[x].name,
                            dt_value_shape_text(&b->g->value[x]));
    return b->status == DT_OK;
}

int64_t dt_net_channels(double channels) {
    int64_t n = (int64_t)(channels + 4) / 8 * 8;
    if (n < 8) n = 8;
    return (double)n < 0.9 * channels ? n + 8 : n;
}

dt_vid dt_net_mbconv(dt_builder *b, dt_vid x, const dt_mbconv *o) {
    if (b->status != DT_OK) return -1;
    const int64_t in = b->g->value[x].dim[3];
    const bool expands = o->expanded != in, residual = o->stride == 1 && in == o->channels;
    int part = 0;
#define PART(suffix) dt_net_join("%s%s%d%s", o->name, o->prefix, part, suffix).s
    dt_vid y = x;
    if (o->fused) {
        const dt_conv2d_options full = {.channels = expands ? o->expanded : o->channels,
                                        .kernel = o->kernel,
                                        .stride = o->stride,
                                        .pad = o->kernel / 2};
        y = dt_net_conv_bn(b, PART(".0"), PART(".1"), y, &full, &o->bn, (int)o->function);
        part++;
    } else {
        const dt_conv2d_options wide = {.channels = o->expanded, .kernel = 1},
                                depth = {.channels = o->expanded,
                                         .kernel = o->kernel,
                                         .stride = o->stride,
                                         .pad = o->kernel / 2,
                                         .groups = o->expanded};
        if (expands)
            y = dt_net_conv_bn(b, PART(".0"), PART(".1"), y, &wide, &o->bn, (int)o->function), part++;
        y = dt_net_conv_bn(b, PART(".0"), PART(".1"), y, &depth, &o->bn, (int)o->function);
        part++;
    }
    if (o->squeeze > 0) {
        const dt_squeeze_excite_options squeeze = {
            .channels = o->squeeze, .activation = o->squeeze_function, .gate = o->gate};
        y = dt_build_squeeze_excite(b, PART(""), y, &squeeze, NULL);
        dt_net_init_conv(b, PART(".fc1"));
        dt_net_init_conv(b, PART(".fc2"));
        part++;
    }
    const dt_conv2d_options narrow = {.channels = o->channels, .kernel = 1};
    const dt_net_name after = dt_net_join("%s%s%d", o->name, o->prefix, part + 1);
    if (o->plain_projection)
        y = dt_net_conv_bn(b, PART(""), after.s, y, &narrow, &o->bn, DT_NET_LINEAR);
    else if (!o->fused || expands)
        y = dt_net_conv_bn(b, PART(".0"), PART(".1"), y, &narrow, &o->bn, DT_NET_LINEAR);
#undef PART
    if (!residual) return y;
    y = dt_net_drop_path(b, dt_net_join("%sdrop_path", o->name).s, y, o->drop_path);
    return dt_build_add(b, dt_net_join("%sadd", o->name).s, y, x);
}
