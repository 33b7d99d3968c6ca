/* Random networks: images pass through convolutions, normalisation, pools, element-wise ops, residual blocks
 * and views, with values read many times, chains that could run in place, and values nobody reads. A function
 * of the seed alone; the training and the evaluation graph of one seed are the same network. Header only. */
#ifndef DT_TEST_RANDOM_GRAPH_H
#define DT_TEST_RANDOM_GRAPH_H

#include <stdio.h>

#include "model/builder.h"
#include "test_check.h"

enum { RANDOM_VALUES_MAX = 64 };

typedef struct random_net {
    dt_builder b;
    check_rng rng;
    dt_vid value[RANDOM_VALUES_MAX]; /* images that later ops may read */
    int32_t n_value, n_name;
    bool read[RANDOM_VALUES_MAX];
} random_net;

static inline const char *random_name(random_net *r, char *text) {
    snprintf(text, DT_NAME_MAX, "v%d", r->n_name++);
    return text;
}

static inline void random_keep(random_net *r, dt_vid v) {
    check_ok(r->b.status);
    if (r->n_value < RANDOM_VALUES_MAX) r->value[r->n_value++] = v;
}

/* An image of the shape of v, perhaps v itself. */
static inline dt_vid random_like(random_net *r, dt_vid v) {
    const dt_value *a = &r->b.g->value[v];
    for (int32_t i = 0, at = (int32_t)check_below(&r->rng, r->n_value); i < r->n_value; i++) {
        int32_t k = (at + i) % r->n_value;
        const dt_value *b = &r->b.g->value[r->value[k]];
        if (memcmp(a->dim, b->dim, sizeof a->dim) != 0) continue;
        r->read[k] = true;
        return r->value[k];
    }
    return v;
}

static inline dt_vid random_conv(random_net *r, dt_vid x, int64_t channels, int64_t stride) {
    char name[DT_NAME_MAX];
    int64_t c = r->b.g->value[x].dim[3];
    dt_conv2d_options o = {.channels = channels,
                           .kernel = check_below(&r->rng, 2) ? 3 : 1,
                           .stride = stride,
                           .groups = check_below(&r->rng, 4) == 0 && channels % c == 0 ? c : 1,
                           .no_bias = check_below(&r->rng, 2) == 0};
    o.pad = o.kernel / 2;
    return dt_build_conv(&r->b, random_name(r, name), x, &o);
}

/* Flattened and back: two views of the same bytes. */
static inline dt_vid random_views(random_net *r, dt_vid x) {
    char name[DT_NAME_MAX];
    const dt_value *image = &r->b.g->value[x];
    dt_attr t = {.reshape = {.ndim = 4, .dim = {image->dim[0], image->dim[1], image->dim[2], -1}}};
    dt_vid flat = dt_build_op(&r->b, random_name(r, name), DT_OP_RESHAPE, NULL, 1, &x);
    return dt_build_op(&r->b, random_name(r, name), DT_OP_RESHAPE, &t, 1, &flat);
}

static inline dt_vid random_residual(random_net *r, dt_vid x) {
    char name[DT_NAME_MAX];
    dt_vid y = random_conv(r, x, r->b.g->value[x].dim[3], 1);
    y = dt_build_batchnorm(&r->b, random_name(r, name), y, NULL);
    if (check_below(&r->rng, 2)) {
        y = dt_build_relu(&r->b, random_name(r, name), y);
        y = dt_build_batchnorm(&r->b, random_name(r, name), random_conv(r, y, r->b.g->value[x].dim[3], 1),
                               false);
    }
    dt_vid skip = x;
    if (check_below(&r->rng, 3) == 0)
        skip = dt_build_batchnorm(&r->b, random_name(r, name), random_conv(r, x, r->b.g->value[x].dim[3], 1),
                                  false);
    y = check_below(&r->rng, 2) ? dt_build_add(&r->b, random_name(r, name), y, skip)
                                : dt_build_add(&r->b, random_name(r, name), skip, y);
    return dt_build_relu(&r->b, random_name(r, name), y);
}

static inline void random_op(random_net *r) {
    char name[DT_NAME_MAX];
    /* Recent values more often, so that chains grow. */
    int32_t at = r->n_value - 1 - (int32_t)(check_below(&r->rng, r->n_value) * check_below(&r->rng, 2));
    dt_vid x = r->value[at];
    const int64_t side = r->b.g->value[x].dim[1], channels = 1 + check_below(&r->rng, 6);
    dt_op pool = check_below(&r->rng, 2) ? DT_OP_MAXPOOL : DT_OP_AVGPOOL;
    const bool was_read = r->read[at];
    r->read[at] = true;
    switch (check_below(&r->rng, 10)) {
    case 0:
        x = dt_build_relu(&r->b, random_name(r, name), x);
        break;
    case 1:
        x = dt_build_add(&r->b, random_name(r, name), x, random_like(r, x));
        break;
    case 2:
        x = random_conv(r, x, channels, side > 3 && check_below(&r->rng, 4) == 0 ? 2 : 1);
        break;
    case 3:
        x = dt_build_batchnorm(&r->b, random_name(r, name), x, NULL);
        break;
    case 4:
        if (side > 3)
            x = dt_build_pool(&r->b, random_name(r, name), pool, x, 2, 2, 0);
        else
            x = dt_build_pool(&r->b, random_name(r, name), pool, x, 3, 1, 1);
        break;
    case 5:
        x = dt_build_dropout(&r->b, random_name(r, name), x, 0.3);
        break;
    case 6:
        x = random_views(r, x);
        break;
    case 7:
    case 8:
        x = random_residual(r, x);
        break;
    default: /* read by nobody, and without parameters, so that the model stays trainable */
        r->read[at] = was_read;
        dt_build_relu(&r->b, random_name(r, name),
                      dt_build_pool(&r->b, random_name(r, name), pool, x, 3, 1, 1));
        return;
    }
    random_keep(r, x);
}

/* Logits: the sum of a dense layer over every image that nobody has read. */
static inline dt_vid random_head(random_net *r, int64_t classes) {
    char name[DT_NAME_MAX];
    dt_vid logits = -1;
    for (int32_t i = 0; i < r->n_value; i++) {
        if (r->read[i]) continue;
        dt_op view = check_below(&r->rng, 2) ? DT_OP_RESHAPE : DT_OP_GLOBAL_AVGPOOL;
        dt_vid y = dt_build_op(&r->b, random_name(r, name), view, NULL, 1, &r->value[i]);
        if (check_below(&r->rng, 3) == 0)
            y = dt_build_relu(&r->b, random_name(r, name),
                              dt_build_dense(&r->b, random_name(r, name), y, 5, true));
        y = dt_build_dense(&r->b, random_name(r, name), y, classes, check_below(&r->rng, 2));
        logits = logits < 0 ? y : dt_build_add(&r->b, random_name(r, name), logits, y);
    }
    return logits;
}

/* Ends a network in logits and their cross-entropy. */
static inline void random_classify(dt_builder *b, dt_vid logits) {
    dt_build_loss(b, logits, NULL);
    dt_build_output(b, "logits", logits);
}

/* The forward graph of network number `seed`. */
static inline dt_graph *random_graph(double label_smoothing, uint64_t seed, bool training) {
    random_net r = {.rng = {.stream = seed << 8 | 1}};
    check_ok(dt_graph_create(&r.b.g, DT_DTYPE_F32, training));
    r.b.label_smoothing = label_smoothing;
    dt_model_input in = {.batch = 2 + check_below(&r.rng, 2),
                         .height = 4 + check_below(&r.rng, 5),
                         .channels = 1 + check_below(&r.rng, 3),
                         .classes = 3 + check_below(&r.rng, 3),
                         .mean = {0.4f, 0.5f, 0.6f},
                         .stddev = {0.2f, 0.25f, 0.3f}};
    in.width = in.height, in.padded_channels = in.channels;
    random_keep(&r, dt_build_image(&r.b, &in));
    random_keep(&r, random_conv(&r, r.value[0], 2 + check_below(&r.rng, 5), 1));
    r.read[0] = true;
    for (int64_t n = 3 + check_below(&r.rng, 12); n > 0; n--) random_op(&r);
    random_classify(&r.b, random_head(&r, in.classes));
    /* Often another loss, which reads an input of its own, and an output in the middle. */
    if (check_below(&r.rng, 3) > 0)
        dt_build_loss(&r.b, r.value[check_below(&r.rng, r.n_value - 1) + 1],
                      &(dt_build_loss_options){.name = "size", .kind = "value", .weight = 0.05});
    if (check_below(&r.rng, 2))
        dt_build_output(&r.b, "middle", r.value[check_below(&r.rng, r.n_value - 1) + 1]);
    check_ok(r.b.status);
    check_ok(dt_graph_validate(r.b.g));
    return r.b.g;
}

#endif
