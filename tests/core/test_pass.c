/* Passes leave a valid graph of the same function: graphs before and after are run by the oracle in double
 * and compared in logits, metrics, running statistics and every gradient. Backends are stand-ins that say yes
 * to chosen fusions, so each fusion is tested here even where no CPU kernel does it. */
#include <stdio.h>

#include "graph_check.h"
#include "graph_program.h"
#include "random_graph.h"
#include "stand_in.h"
#include "test_model.h"

enum { N_RANDOM = 40 };

/* Bottleneck blocks with and without a convolution in the skip path: every fusion has its place. */
static const char resnet_like[] =
    "[model]\nname = \"layers\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 4\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\nname = \"stem\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 3\nkernel = 1\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nstride = 2\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"main1\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nkernel = 1\nstride = 2\nbias = false\nfrom = \"stem\"\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"skip1\"\n"
    "[[model.layers]]\ntype = \"add\"\nfrom = \"main1\"\nwith = \"skip1\"\n"
    "[[model.layers]]\ntype = \"relu\"\nname = \"block1\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"add\"\nwith = \"block1\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "[[model.layers]]\ntype = \"global_avgpool\"\n"
    "[[model.layers]]\ntype = \"dense\"\nchannels = 3\n";

static const dt_model_input small_input = {.batch = 3,
                                           .height = 7,
                                           .width = 7,
                                           .channels = 2,
                                           .padded_channels = 2,
                                           .classes = 3,
                                           .mean = {0.5f, 0.4f},
                                           .stddev = {0.3f, 0.2f}};

/* Equal up to rounding in double: relative to the value, or to 1 where it should vanish. */
static void need_same_value(const oracle *a, const oracle *b, dt_vid va, dt_vid vb, const char *what) {
    const double *x = a->data[va], *y = b->data[vb];
    double d2 = 0, x2 = 0;
    for (int64_t i = 0; i < dt_value_n_elem(&a->g->value[va]); i++)
        d2 += (x[i] - y[i]) * (x[i] - y[i]), x2 += x[i] * x[i];
    if (!(sqrt(d2) <= 1e-8 * sqrt(x2) + 1e-10))
        fail_msg("%s: %s is off by %.2e of %.2e", what, a->g->value[va].name, sqrt(d2), sqrt(x2));
}

/* Same results; ids of `after` are those of `before`, except of logits and loss. */
static void need_same_function(const dt_graph *before, const dt_graph *after, const dt_axis *axis,
                               const char *what) {
    oracle a = oracle_open(before, &live_step), b = oracle_open(after, &live_step);
    oracle_reset(&a, axis);
    oracle_reset(&b, axis);
    oracle_run(&a, before->n_node);
    oracle_run(&b, after->n_node);
    need_same_value(&a, &b, dt_graph_output(before, "logits"), dt_graph_output(after, "logits"), what);
    need_same_value(&a, &b, before->loss[0], after->loss[0], what);
    for (dt_vid v = 0; v < before->n_value; v++) {
        dt_role role = before->value[v].role;
        if (role == DT_ROLE_METRIC || role == DT_ROLE_STATE || role == DT_ROLE_GRAD)
            need_same_value(&a, &b, v, v, what);
    }
    oracle_close(&a);
    oracle_close(&b);
}

/* An axis for graphs of this seed (0: the residual network), from a differentiated copy. */
static dt_graph *network(const dt_model_options *c, uint64_t seed, bool training) {
    dt_graph *g;
    if (seed > 0) return random_graph(0, seed, training);
    check_ok(dt_model_build(c, &small_input, DT_DTYPE_F32, training, &g));
    return g;
}

static dt_axis *axis_of(const dt_model_options *c, uint64_t seed, dt_graph *assign) {
    dt_axis *axis;
    dt_graph *g = network(c, seed, true);
    check_ok(dt_autodiff(g));
    check_ok(dt_axis_build(g, 1, 0, false, &axis));
    check_ok(dt_axis_assign(axis, assign));
    dt_graph_destroy(g);
    return axis;
}

static void test_fuse_bn_act_keeps_the_function(void **state) {
    (void)state;
    dt_model_options c;
    check_model_options(&c, resnet_like);
    int32_t n_fused = 0, n_residual = 0;
    for (uint64_t seed = 1; seed <= N_RANDOM; seed++) {
        dt_graph *before = network(&c, seed, seed % 3 != 0), *after;
        dt_axis *axis = axis_of(&c, seed, before);
        after = graph_clone(before);
        check_ok(dt_pass_fuse_bn_act(after));
        graph_need_sound(after);
        need_same_function(before, after, axis, "fuse_bn_act");
        for (dt_nid i = 0; i < after->n_node; i++) {
            const dt_node *n = &after->node[i];
            n_fused += n->op == DT_OP_BATCHNORM && n->attr.norm.relu;
            n_residual += n->op == DT_OP_BATCHNORM && dt_node_has(n, DT_BN_IN_RES);
        }
        assert_int_equal(graph_count(after, DT_OP_BATCHNORM), graph_count(before, DT_OP_BATCHNORM));
        dt_graph_destroy(before), dt_graph_destroy(after);
        dt_axis_destroy(axis);
    }
    assert_true(n_fused > N_RANDOM / 2 && n_residual > N_RANDOM / 4 && n_fused > n_residual);
    dt_model_options_fini(&c);
}

/* A network by hand: x, batch normalisation n of it, and what `rest` builds upon them. */
typedef dt_vid build_rest(dt_builder *b, dt_vid x, dt_vid n);

static dt_graph *by_hand(build_rest *rest) {
    dt_builder b = {0};
    check_ok(dt_graph_create(&b.g, DT_DTYPE_F32, true));
    dt_conv2d_options o = {.channels = 4, .kernel = 1, .stride = 1, .no_bias = true};
    dt_vid x = dt_build_conv(&b, "x", dt_build_image(&b, &small_input), &o);
    random_classify(&b, dt_build_dense(&b, "fc", rest(&b, x, dt_build_batchnorm(&b, "n", x, NULL)), 3, true));
    check_ok(b.status);
    check_ok(dt_pass_fuse_bn_act(b.g));
    graph_need_sound(b.g);
    return b.g;
}

static dt_vid rest_plain(dt_builder *b, dt_vid x, dt_vid n) {
    (void)x;
    return dt_build_relu(b, "r", n);
}
static dt_vid rest_second_reader(dt_builder *b, dt_vid x, dt_vid n) {
    (void)x;
    return dt_build_add(b, "s", dt_build_relu(b, "r", n), n);
}
static dt_vid rest_residual(dt_builder *b, dt_vid x, dt_vid n) {
    return dt_build_relu(b, "r", dt_build_add(b, "s", n, x));
}
static dt_vid rest_residual_swapped(dt_builder *b, dt_vid x, dt_vid n) {
    return dt_build_relu(b, "r", dt_build_add(b, "s", x, n));
}
static dt_vid rest_residual_too_late(dt_builder *b, dt_vid x, dt_vid n) {
    dt_vid later = dt_build_relu(b, "later", x);
    return dt_build_relu(b, "r", dt_build_add(b, "s", n, later));
}
static dt_vid rest_sum_read_twice(dt_builder *b, dt_vid x, dt_vid n) {
    dt_vid s = dt_build_add(b, "s", n, x);
    return dt_build_add(b, "t", dt_build_relu(b, "r", s), s);
}
static dt_vid rest_twice_itself(dt_builder *b, dt_vid x, dt_vid n) {
    (void)x;
    return dt_build_relu(b, "r", dt_build_add(b, "s", n, n));
}
static dt_vid rest_view(dt_builder *b, dt_vid x, dt_vid n) {
    (void)x;
    dt_vid r = dt_build_relu(b, "r", n);
    return dt_build_op(b, "flat", DT_OP_RESHAPE, NULL, 1, &r);
}

static void test_fuse_bn_act_cases(void **state) {
    (void)state;
    static const struct {
        build_rest *rest;
        bool relu, residual;
        int32_t n_relu, n_add;
    } cases[] = {
        {rest_plain, true, false, 0, 0},
        {rest_second_reader, false, false, 1, 1},
        {rest_residual, true, true, 0, 0},
        {rest_residual_swapped, true, true, 0, 0},
        {rest_residual_too_late, false, false, 2, 1},
        {rest_sum_read_twice, false, false, 1, 2},
        {rest_twice_itself, false, false, 1, 1},
        {rest_view, true, false, 0, 0},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        dt_graph *g = by_hand(cases[k].rest);
        const dt_node *n = &g->node[g->value[dt_graph_find(g, "n")].producer];
        assert_int_equal(n->attr.norm.relu, cases[k].relu);
        assert_int_equal(dt_node_has(n, DT_BN_IN_RES), cases[k].residual);
        assert_int_equal(graph_count(g, DT_OP_UNARY), cases[k].n_relu);
        assert_int_equal(graph_count(g, DT_OP_BINARY), cases[k].n_add);
        dt_vid flat = dt_graph_find(g, "flat");
        if (flat >= 0) assert_int_equal(dt_graph_root(g, flat), dt_graph_find(g, "n"));
        dt_graph_destroy(g);
    }
}

/* Differentiated (training) or forward only, before split. */
static dt_graph *differentiated(const dt_model_options *c, uint64_t seed, bool training, dt_axis **axis) {
    dt_graph *g = network(c, seed, training);
    if (seed == 0 || seed & 1) check_ok(dt_pass_fuse_bn_act(g));
    if (training) {
        check_ok(dt_autodiff(g));
        check_ok(dt_axis_build(g, 1, 0, false, axis));
    } else {
        *axis = axis_of(c, seed, g);
    }
    return g;
}

static void test_split_batchnorm_keeps_the_function(void **state) {
    (void)state;
    dt_model_options c;
    check_model_options(&c, resnet_like);
    for (uint64_t seed = 0; seed < N_RANDOM; seed++) {
        const bool training = seed % 3 != 1;
        dt_axis *axis;
        dt_graph *before = differentiated(&c, seed, training, &axis), *after;
        const int32_t n_bn = graph_count(before, DT_OP_BATCHNORM);
        after = graph_clone(before);
        check_ok(dt_pass_split_batchnorm(after));
        graph_need_sound(after);
        need_same_function(before, after, axis, "split_batchnorm");
        assert_int_equal(graph_count(after, DT_OP_BATCHNORM), 0);
        assert_int_equal(graph_count(after, DT_OP_BN_APPLY), n_bn);
        assert_int_equal(graph_count(after, DT_OP_BN_STATS), training ? n_bn : 0);
        assert_int_equal(graph_count(after, DT_OP_BN_FINALIZE), training ? n_bn : 0);
        assert_int_equal(graph_count(after, DT_OP_BN_FOLD), training ? 0 : n_bn);
        dt_graph_destroy(before), dt_graph_destroy(after);
        dt_axis_destroy(axis);
    }
    dt_model_options_fini(&c);
}

enum {
    STATS = 1u << FUSED_STATS,
    PROLOGUE = 1u << FUSED_PROLOGUE,
    WGRAD = 1u << FUSED_WGRAD_PROLOGUE,
    DGRAD = 1u << FUSED_DGRAD_BN,
    DUAL = 1u << FUSED_DUAL,
    SECOND = 1u << FUSED_SECOND,
    ALL = (1u << FUSED_POOL_PROLOGUE) - 1 /* those after are tested in files of their own */
};

/* Fuses networks for a backend that `can`; counts by training (0) and evaluation (1). */
static void fuse_networks(const dt_model_options *c, uint32_t can, int32_t count[2][FUSED_COUNT]) {
    memset(count, 0, 2 * sizeof count[0]);
    stand_in be = stand_in_that(can);
    for (uint64_t seed = 0; seed < N_RANDOM; seed++) {
        const bool training = seed % 4 != 3;
        char what[64];
        dt_axis *axis;
        dt_graph *before = differentiated(c, seed, training, &axis), *after;
        check_ok(dt_pass_split_batchnorm(before));
        after = graph_clone(before);
        check_ok(dt_pass_fuse_for_backend(after, &be.base));
        graph_need_sound(after);
        snprintf(what, sizeof what, "fusions 0x%x of network %llu", can, (unsigned long long)seed);
        need_same_function(before, after, axis, what);
        fused_count(after, count[!training]);
        check_ok(dt_pass_remove_dead(after));
        graph_need_sound(after);
        need_same_function(before, after, axis, what);
        dt_graph_destroy(before), dt_graph_destroy(after);
        dt_axis_destroy(axis);
    }
}

static void test_each_fusion_keeps_the_function(void **state) {
    (void)state;
    static const struct {
        uint32_t can, training, evaluation; /* fusions that must occur, and no others */
    } cases[] = {
        {0, 0, 0},
        {STATS, STATS, 0},
        {PROLOGUE, 0, PROLOGUE}, /* in training the weight gradient needs the normalised input too */
        {WGRAD, 0, 0},
        {PROLOGUE | WGRAD, PROLOGUE | WGRAD, PROLOGUE},
        {DGRAD, DGRAD, 0},
        {DUAL, DUAL, DUAL},
        {SECOND, SECOND, 0},
        {ALL, ALL, PROLOGUE | DUAL},
    };
    dt_model_options c;
    check_model_options(&c, resnet_like);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        int32_t count[2][FUSED_COUNT];
        fuse_networks(&c, cases[k].can, count);
        for (int e = 0; e < 2; e++)
            for (int f = 0; f < FUSED_COUNT; f++) {
                bool expected = ((e ? cases[k].evaluation : cases[k].training) >> f & 1) != 0;
                if ((count[e][f] > 0) != expected)
                    fail_msg("a backend that can 0x%x: fusion %d was done %d times in %s", cases[k].can, f,
                             count[e][f], e ? "evaluation" : "training");
            }
    }
    dt_model_options_fini(&c);
}

/* What the residual network gives exactly: three blocks' worth of sites, each taken once. */
static void test_fusions_of_the_residual_network(void **state) {
    (void)state;
    dt_model_options c;
    dt_axis *axis;
    check_model_options(&c, resnet_like);
    stand_in be = stand_in_that(ALL);
    dt_graph *g = differentiated(&c, 0, true, &axis);
    check_ok(dt_pass_split_batchnorm(g));
    check_ok(dt_pass_fuse_for_backend(g, &be.base));
    check_ok(dt_pass_remove_dead(g));
    int32_t count[FUSED_COUNT] = {0};
    fused_count(g, count);
    assert_int_equal(count[FUSED_STATS], 6); /* every normalisation follows a convolution */
    /* The stem feeds two convolutions, which both take it in; so do the inner relus of the two blocks. */
    assert_int_equal(count[FUSED_PROLOGUE], 4);
    assert_int_equal(count[FUSED_WGRAD_PROLOGUE], 4);
    assert_int_equal(count[FUSED_DGRAD_BN], 2); /* the stem's gradient is a sum of two */
    assert_int_equal(count[FUSED_DUAL], 1);
    assert_int_equal(count[FUSED_SECOND], 1); /* block1: from the block after and its skip path */
    assert_int_equal(graph_count(g, DT_OP_BN_STATS), 0);
    assert_int_equal(graph_count(g, DT_OP_BN_APPLY), 2);
    dt_graph_destroy(g);
    dt_axis_destroy(axis);
    dt_model_options_fini(&c);
}

static void test_remove_dead(void **state) {
    (void)state;
    dt_model_options c;
    check_model_options(&c, resnet_like);
    int32_t n_removed = 0;
    for (uint64_t seed = 0; seed < N_RANDOM; seed++) {
        dt_axis *axis;
        dt_graph *before = differentiated(&c, seed, seed % 4 != 3, &axis), *after;
        check_ok(dt_pass_split_batchnorm(before));
        after = graph_clone(before);
        check_ok(dt_pass_remove_dead(after));
        graph_need_sound(after);
        need_same_function(before, after, axis, "remove_dead");
        for (dt_nid i = 0; i < after->n_node; i++) { /* nothing dead is left */
            const dt_node *n = &after->node[i];
            bool needed = dt_op_get(n->op)->flags & DT_OP_SEED || n->op == DT_OP_BN_FINALIZE;
            for (int32_t k = 0; k < n->n_out; k++)
                needed |= n->out[k] >= 0 && (dt_graph_is_kept(after, n->out[k]) ||
                                             after->value[n->out[k]].role == DT_ROLE_GRAD ||
                                             dt_graph_use_count(after, n->out[k]) > 0);
            if (!needed) fail_msg("%s is dead", after->value[n->out[0]].name);
        }
        n_removed += before->n_node - after->n_node;
        const int32_t n_node = after->n_node;
        check_ok(dt_pass_remove_dead(after));
        assert_int_equal(after->n_node, n_node);
        dt_graph_destroy(before), dt_graph_destroy(after);
        dt_axis_destroy(axis);
    }
    assert_true(n_removed > N_RANDOM / 4);
    dt_model_options_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fuse_bn_act_keeps_the_function),
        cmocka_unit_test(test_fuse_bn_act_cases),
        cmocka_unit_test(test_split_batchnorm_keeps_the_function),
        cmocka_unit_test(test_each_fusion_keeps_the_function),
        cmocka_unit_test(test_fusions_of_the_residual_network),
        cmocka_unit_test(test_remove_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
