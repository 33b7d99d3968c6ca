/* Autodiff on whole small models: every element of every parameter's gradient against central differences of
 * the loss in double, and the program on the CPU against the same. The differences see only forward ops, so
 * a wrong rule, a missed contribution and a wrong backward kernel all show. */
#include <stdio.h>

#include "graph_check.h"
#include "graph_program.h"
#include "random_graph.h"
#include "test_model.h"

static const double STEP = 1e-5; /* of the central difference */

/* Allowed distance of a gradient from the differences: relative to the gradient, plus so much an element
 * where the true gradient vanishes (a bias before batch normalisation). */
typedef struct tolerance {
    double relative, absolute;
} tolerance;

static const tolerance rules_allowed = {3e-6, 1e-9};   /* backward rules in double */
static const tolerance program_allowed = {2e-4, 2e-6}; /* the fp32 program */

static void need_close(const double *got, const double *want, int64_t n, tolerance t, const char *what,
                       const char *name) {
    double d2 = 0, w2 = 0;
    for (int64_t i = 0; i < n; i++) d2 += (got[i] - want[i]) * (got[i] - want[i]), w2 += want[i] * want[i];
    if (!(sqrt(d2) <= t.relative * sqrt(w2) + t.absolute * sqrt((double)n)))
        fail_msg("%s: the gradient of %s is off by %.2e of %.2e", what, name, sqrt(d2), sqrt(w2));
}

/* dloss/dparam by central differences on the forward graph, for the loss as the program scales it. */
static void numeric_gradient(oracle *o, dt_vid param, double *out) {
    const double scale = (double)live_step.loss_weight * (double)live_step.loss_scale;
    for (int64_t i = 0; i < dt_value_n_elem(&o->g->value[param]); i++) {
        double *w = &o->data[param][i], kept = *w, loss[2];
        for (int side = 0; side < 2; side++) {
            *w = kept + (side ? STEP : -STEP);
            oracle_run(o, o->g->n_node);
            loss[side] = oracle_loss(o);
        }
        *w = kept;
        out[i] = scale * (loss[1] - loss[0]) / (2 * STEP);
    }
}

static dt_vid gradient_of(const dt_graph *g, dt_vid param) {
    dt_vid found = -1;
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_GRAD && g->value[v].grad_of == param) {
            assert_int_equal(found, -1);
            found = v;
        }
    return found;
}

/* Takes the forward graph. */
static void check_gradients(dt_graph *forward, const char *what) {
    dt_graph *g = graph_clone(forward);
    dt_axis *axis;
    int32_t n_forward = forward->n_node, n_param = 0;
    check_ok(dt_autodiff(g));
    check_ok(dt_graph_validate(g));
    check_ok(dt_axis_build(g, 2, 0, false, &axis));
    for (dt_vid v = 0; v < forward->n_value; v++) forward->value[v].axis_offset = g->value[v].axis_offset;
    for (dt_nid i = 0; i < g->n_node; i++)
        assert_int_equal(g->node[i].phase, i < n_forward ? DT_PHASE_FORWARD : DT_PHASE_BACKWARD);

    oracle numeric = oracle_open(forward, &live_step), rules = oracle_open(g, &live_step);
    oracle_reset(&numeric, axis);
    oracle_reset(&rules, axis);
    oracle_run(&rules, g->n_node);

    dt_graph *compiled = graph_clone(g);
    dt_backend *be = live_backend();
    check_ok(dt_pass_split_batchnorm(compiled));
    check_ok(dt_pass_fuse_for_backend(compiled, be));
    check_ok(dt_pass_remove_dead(compiled));
    live l = live_open(be, axis, compiled, NULL);
    check_ok(dt_program_run(l.program, NULL, NULL));

    for (dt_vid v = 0; v < forward->n_value; v++) {
        const dt_value *p = &forward->value[v];
        if (p->role != DT_ROLE_PARAM) continue;
        int64_t n = dt_value_n_elem(p);
        double *want = check_alloc((size_t)n * sizeof *want), *got = check_alloc((size_t)n * sizeof *got);
        dt_vid d = gradient_of(g, v);
        assert_true(d >= 0);
        assert_int_equal(g->value[d].axis_offset, g->value[v].axis_offset);
        numeric_gradient(&numeric, v, want);
        need_close(rules.data[d], want, n, rules_allowed, what, p->name);
        const float *program = (const float *)l.store->arena[DT_ARENA_GRAD] + p->axis_offset;
        for (int64_t i = 0; i < n; i++) got[i] = (double)program[i];
        need_close(got, want, n, program_allowed, what, p->name);
        free(want), free(got);
        n_param++;
    }
    assert_int_equal(n_param, axis->n_segment);
    live_close(&l);
    be->destroy(be);
    oracle_close(&numeric);
    oracle_close(&rules);
    dt_graph_destroy(g);
    dt_graph_destroy(forward);
    dt_axis_destroy(axis);
}

static void check_model(const char *layers, int64_t side, int64_t channels) {
    char text[4096];
    dt_model_options c;
    dt_graph *g;
    snprintf(text, sizeof text, "[model]\nname = \"layers\"\n%s", layers);
    check_model_options(&c, text);
    dt_model_input in = {.batch = 4,
                         .height = side,
                         .width = side,
                         .channels = channels,
                         .padded_channels = channels,
                         .classes = 3,
                         .mean = {0.5f, 0.4f, 0.3f},
                         .stddev = {0.25f, 0.3f, 0.2f},
                         .label_smoothing = 0.1};
    check_ok(dt_model_build(&c, &in, DT_DTYPE_F32, true, &g));
    check_gradients(g, layers);
    dt_model_options_fini(&c);
}

#define LAYER(type, rest) "[[model.layers]]\ntype = \"" type "\"\n" rest

static void test_mlp(void **state) {
    (void)state;
    check_model(LAYER("flatten", "") LAYER("dense", "channels = 9\n") LAYER("relu", "")
                    LAYER("dense", "channels = 7\nbias = false\n") LAYER("batchnorm", "") LAYER("relu", "")
                        LAYER("dropout", "rate = 0.4\n") LAYER("dense", "channels = 3\n"),
                4, 2);
}

static void test_conv_net_with_residual(void **state) {
    (void)state;
    check_model(LAYER("conv", "channels = 6\nbias = false\n") LAYER("batchnorm", "")
                    LAYER("relu", "name = \"a\"\n") LAYER("conv", "channels = 6\n") LAYER("batchnorm", "")
                        LAYER("relu", "") LAYER("conv", "channels = 6\ngroups = 2\n")
                            LAYER("batchnorm", "name = \"b\"\n") LAYER("add", "with = \"a\"\n")
                                LAYER("relu", "") LAYER("global_avgpool", "")
                                    LAYER("dense", "channels = 3\n"),
                6, 3);
}

static void test_downsample_and_pools(void **state) {
    (void)state;
    check_model(
        LAYER("conv", "channels = 4\nkernel = 3\nstride = 2\n") LAYER("batchnorm", "") LAYER("relu", "")
            LAYER("maxpool", "kernel = 3\nstride = 1\npad = 1\nname = \"p\"\n")
                LAYER("conv", "channels = 6\nkernel = 3\nstride = 2\n") LAYER("batchnorm", "name = \"m\"\n")
                    LAYER("conv", "channels = 6\nkernel = 1\nstride = 2\npad = 0\nfrom = \"p\"\n")
                        LAYER("batchnorm", "name = \"s\"\n") LAYER("add", "from = \"m\"\nwith = \"s\"\n")
                            LAYER("relu", "") LAYER("avgpool", "kernel = 2\n") LAYER("flatten", "")
                                LAYER("dense", "channels = 3\n"),
        9, 1);
}

/* One value read by four layers, twice by one of them, and summed again. */
static void test_values_with_many_readers(void **state) {
    (void)state;
    check_model(LAYER("conv", "channels = 4\nname = \"c\"\n") LAYER("relu", "name = \"r\"\n")
                    LAYER("add", "from = \"r\"\nwith = \"r\"\nname = \"twice\"\n")
                        LAYER("conv", "channels = 4\nfrom = \"r\"\ndilation = 2\nname = \"d\"\n")
                            LAYER("add", "with = \"r\"\n") LAYER("add", "with = \"twice\"\n")
                                LAYER("add", "with = \"c\"\n") LAYER("relu", "")
                                    LAYER("batchnorm", "name = \"n\"\n") LAYER("relu", "name = \"e\"\n")
                                        LAYER("add", "from = \"n\"\nwith = \"e\"\n") LAYER("flatten", "")
                                            LAYER("dense", "channels = 3\n"),
                5, 2);
}

/* One weight used by two convolutions: its gradient is the sum. */
static void test_shared_weight(void **state) {
    (void)state;
    dt_builder b = {0};
    check_ok(dt_graph_create(&b.g, DT_DTYPE_F32, true));
    dt_model_input in = {.batch = 3,
                         .height = 5,
                         .width = 5,
                         .channels = 2,
                         .padded_channels = 2,
                         .mean = {0.5f, 0.5f},
                         .stddev = {0.3f, 0.3f}};
    dt_conv2d_options o = {.channels = 2, .kernel = 3, .stride = 1, .pad = 1, .no_bias = true};
    dt_vid y = dt_build_conv(&b, "shared", dt_build_image(&b, &in), &o);
    y = dt_build_relu(&b, "r", y);
    dt_attr t = b.g->node[b.g->value[dt_graph_find(b.g, "shared")].producer].attr;
    y = dt_build_op(&b, "again", DT_OP_CONV, &t, 2, (dt_vid[]){y, dt_graph_find(b.g, "shared.weight")});
    y = dt_build_op(&b, "third", DT_OP_CONV, &t, 2, (dt_vid[]){y, dt_graph_find(b.g, "shared.weight")});
    random_classify(&b, dt_build_dense(&b, "fc", y, 3, true));
    check_ok(b.status);
    check_gradients(b.g, "a shared weight");
}

static dt_vid add_param(dt_builder *b, const char *name, int32_t ndim, const int64_t *dim) {
    dt_vid v;
    check_ok(dt_graph_add_value(b->g, name, DT_ROLE_PARAM, DT_DTYPE_F32, ndim, dim, &v));
    b->g->value[v].init = DT_INIT_KAIMING_UNIFORM_A5;
    b->g->value[v].fan_in = 4;
    return v;
}

/* Tokens of a small language model whose table is also its head, with labels at every place; `more` adds what is
 * between. */
static dt_vid begin_tokens(dt_builder *b, dt_vid *table) {
    dt_vid tokens;
    check_ok(dt_graph_create(&b->g, DT_DTYPE_F32, true));
    check_ok(dt_graph_add_value(b->g, "tokens", DT_ROLE_INPUT, DT_DTYPE_I32, 2, (int64_t[]){3, 5}, &tokens));
    *table = add_param(b, "wte.weight", 2, (int64_t[]){LIVE_TOKENS, 6});
    const dt_attr t = {.embed.padding = -1};
    return dt_build_op(b, "wte", DT_OP_EMBED, &t, 2, (dt_vid[]){*table, tokens});
}

static void end_tokens(dt_builder *b, dt_vid x, dt_vid table) {
    dt_vid label, metrics;
    const dt_vid logits = dt_build_op(b, "head", DT_OP_DENSE, NULL, 2, (dt_vid[]){x, table});
    check_ok(dt_graph_add_value(b->g, "label", DT_ROLE_INPUT, DT_DTYPE_I32, 2, (int64_t[]){3, 5}, &label));
    check_ok(dt_graph_add_value(b->g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1,
                                (int64_t[]){DT_METRIC_COUNT}, &metrics));
    const dt_attr t = {.loss.weight = 1};
    const dt_vid loss = dt_build_op(b, "loss", DT_OP_XENT, &t, 3, (dt_vid[]){logits, label, metrics});
    check_ok(b->status);
    check_ok(dt_graph_add_loss(b->g, loss));
}

static void test_tied_weight(void **state) {
    (void)state;
    dt_builder b = {0};
    dt_vid table;
    const dt_vid x = begin_tokens(&b, &table);
    const dt_attr norm = {.norm.eps = 1e-5f};
    const int64_t c = 6;
    dt_vid y = dt_build_op(&b, "fc", DT_OP_DENSE, NULL, 2,
                           (dt_vid[]){x, add_param(&b, "fc.weight", 2, (int64_t[]){6, 6})});
    y = dt_build_op(&b, "ln", DT_OP_LAYERNORM, &norm, 3,
                    (dt_vid[]){dt_build_add(&b, "sum", x, y), add_param(&b, "ln.weight", 1, &c),
                               add_param(&b, "ln.bias", 1, &c)});
    end_tokens(&b, y, table);
    check_gradients(b.g, "a tied weight");
}

/* Frozen, a table has no gradient from either use; the gradient of the logits lies where they do. */
static void test_frozen_tied_weight(void **state) {
    (void)state;
    for (int frozen = 0; frozen < 2; frozen++) {
        dt_builder b = {0};
        dt_vid table;
        dt_plan plan;
        const dt_vid x = begin_tokens(&b, &table), w = add_param(&b, "fc.weight", 2, (int64_t[]){6, 6});
        end_tokens(&b, dt_build_op(&b, "fc", DT_OP_DENSE, NULL, 2, (dt_vid[]){x, w}), table);
        b.g->value[table].frozen = frozen;
        check_ok(dt_autodiff(b.g));
        check_ok(dt_graph_validate(b.g));
        assert_int_equal(graph_count(b.g, DT_OP_EMBED_BWD), 1 - frozen);
        assert_int_equal(graph_count(b.g, DT_OP_DENSE_WGRAD), 2 - frozen);
        assert_int_equal(gradient_of(b.g, table) >= 0, !frozen);
        assert_true(gradient_of(b.g, w) >= 0);
        check_ok(dt_plan_build(b.g, 64, 0, true, &plan));
        const dt_value *logits = &b.g->value[dt_graph_find(b.g, "head")],
                       *back = &b.g->value[b.g->node[dt_graph_reader(b.g, dt_graph_find(b.g, "head"),
                                                                     DT_OP_XENT_BWD, DT_XENT_BWD_IN_LOGITS)]
                                               .out[0]];
        assert_int_equal(logits->arena, DT_ARENA_ACT);
        assert_int_equal(back->offset_bytes, logits->offset_bytes);
        dt_graph_destroy(b.g);
    }
}

/* Parameters whose gradient is a view, or the same value as another's. */
static void test_gradients_that_are_views(void **state) {
    (void)state;
    dt_builder b = {0};
    dt_vid table;
    const dt_vid x = begin_tokens(&b, &table);
    const dt_attr row = {.reshape = {.ndim = 2, .dim = {5, 6}}},
                  heads = {.reshape = {.ndim = 4, .dim = {3, 5, 2, 3}}},
                  back = {.reshape = {.ndim = 3, .dim = {3, 5, 6}}},
                  rope = {.rope = {.theta = 100, .dims = 2}}, add = {.binary.fn = DT_BINARY_ADD};
    const dt_vid flat = add_param(&b, "flat", 1, (int64_t[]){30}),
                 full = add_param(&b, "full", 3, (int64_t[]){3, 5, 6}),
                 same = add_param(&b, "same", 3, (int64_t[]){3, 5, 6});
    dt_vid y = dt_build_op(&b, "both", DT_OP_BINARY, &add, 2, (dt_vid[]){full, same});
    y = dt_build_op(&b, "x", DT_OP_BINARY, &add, 2, (dt_vid[]){y, x});
    y = dt_build_op(&b, "x2", DT_OP_BINARY, &add, 2,
                    (dt_vid[]){y, dt_build_op(&b, "row", DT_OP_RESHAPE, &row, 1, &flat)});
    y = dt_build_op(&b, "heads", DT_OP_RESHAPE, &heads, 1, &y);
    y = dt_build_op(&b, "turned", DT_OP_ROPE, &rope, 1, &y);
    end_tokens(&b, dt_build_op(&b, "joined", DT_OP_RESHAPE, &back, 1, &y), table);
    check_gradients(b.g, "gradients that are views");
}

static void test_random_networks(void **state) {
    (void)state;
    for (uint64_t seed = 500; seed < 516; seed++) {
        char what[32];
        dt_graph *g = random_graph(0.05, seed, true);
        if (seed & 1) check_ok(dt_pass_fuse_bn_act(g));
        snprintf(what, sizeof what, "random network %llu", (unsigned long long)seed);
        check_gradients(g, what);
    }
}

static void test_parameter_without_influence(void **state) {
    (void)state;
    static const dt_field fields[] = {{.name = "x", .dtype = DT_DTYPE_F32, .ndim = 1, .dim = {4}},
                                      {.name = "label", .dtype = DT_DTYPE_I32}};
    dt_graph *g;
    check_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    dt_builder b = {.g = g, .rows = 2, .field = fields, .n_field = 2};
    const dt_vid x = dt_build_input(&b, "x");
    dt_build_dense(&b, "unused", x, 8, true);
    dt_build_loss(&b, dt_build_dense(&b, "fc", x, 3, true), NULL);
    check_ok(b.status);
    CHECK_ERROR(dt_autodiff(g), DT_ERR_CONFIG, "unused.weight", "does not depend");
    dt_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlp),
        cmocka_unit_test(test_conv_net_with_residual),
        cmocka_unit_test(test_downsample_and_pools),
        cmocka_unit_test(test_values_with_many_readers),
        cmocka_unit_test(test_shared_weight),
        cmocka_unit_test(test_tied_weight),
        cmocka_unit_test(test_frozen_tied_weight),
        cmocka_unit_test(test_gradients_that_are_views),
        cmocka_unit_test(test_random_networks),
        cmocka_unit_test(test_parameter_without_influence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
