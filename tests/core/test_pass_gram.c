/* Batch normalisation from Gram matrices leaves the function as it was: the graph before and after, run by
 * the oracle in double, and by the CPU backend in fp32; and the gradients it gives are those of the loss. */
#include <stdio.h>

#include "graph_check.h"
#include "graph_program.h"
#include "random_graph.h"
#include "stand_in.h"
#include "test_model.h"

enum { N_RANDOM = 60, N_BLOCKS = 12 };

/* Bottleneck blocks: the first with a convolution of stride 1 in its skip path, the second of stride 2, the
 * third with the identity. */
static const char bottlenecks[] =
    "[model]\nname = \"layers\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 5\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\nname = \"stem\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 3\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 7\nkernel = 1\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"main1\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 7\nkernel = 1\nbias = false\nfrom = \"stem\"\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"skip1\"\n"
    "[[model.layers]]\ntype = \"add\"\nfrom = \"main1\"\nwith = \"skip1\"\n"
    "[[model.layers]]\ntype = \"relu\"\nname = \"block1\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 4\nstride = 2\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 8\nkernel = 1\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"main2\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 8\nkernel = 1\nstride = 2\nbias = false\nfrom = "
    "\"block1\"\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"skip2\"\n"
    "[[model.layers]]\ntype = \"add\"\nfrom = \"main2\"\nwith = \"skip2\"\n"
    "[[model.layers]]\ntype = \"relu\"\nname = \"block2\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 3\nkernel = 1\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 8\nkernel = 1\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"add\"\nwith = \"block2\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "[[model.layers]]\ntype = \"global_avgpool\"\n"
    "[[model.layers]]\ntype = \"dense\"\nchannels = 3\n";

enum {
    GRAM_ALONE = 1u << FUSED_GRAM,
    /* A convolution that makes statistics, or normalises what it reads, is no site. */
    ALL = ((1u << FUSED_COUNT) - 1) & ~(1u << FUSED_PROLOGUE | 1u << FUSED_WGRAD_PROLOGUE)
};

/* A differentiated and split network on an axis; seed 0: the bottlenecks. */
static dt_graph *network(const dt_model_options *c, uint64_t seed, const dt_model_input *in, dt_axis **axis) {
    dt_graph *g;
    if (seed > 0)
        g = random_graph(0, seed, true);
    else
        check_ok(dt_model_build(c, in, DT_DTYPE_F32, true, &g));
    check_ok(dt_pass_fuse_bn_act(g));
    check_ok(dt_autodiff(g));
    check_ok(dt_axis_build(g, 1, 0, false, axis));
    check_ok(dt_pass_split_batchnorm(g));
    return g;
}

static dt_model_input input_of(uint64_t seed) {
    check_rng r = {.stream = 500 + seed};
    return (dt_model_input){.batch = 2 + check_below(&r, 3),
                            .height = 5 + check_below(&r, 5),
                            .width = 5 + check_below(&r, 5),
                            .channels = 2,
                            .padded_channels = 2,
                            .classes = 3,
                            .mean = {0.5f, 0.4f},
                            .stddev = {0.3f, 0.2f}};
}

/* What a program leaves behind. */
static bool is_result(const dt_graph *g, dt_vid v) {
    const dt_role role = g->value[v].role;
    return v == dt_graph_output(g, "logits") || role == DT_ROLE_METRIC || role == DT_ROLE_STATE ||
           role == DT_ROLE_GRAD;
}

static void need_same_function(const dt_graph *before, const dt_graph *after, const dt_axis *axis,
                               uint64_t seed) {
    oracle a = oracle_open(before, &live_step), b = oracle_open(after, &live_step);
    oracle_reset(&a, axis);
    oracle_reset(&b, axis);
    oracle_run(&a, before->n_node);
    oracle_run(&b, after->n_node);
    for (dt_vid v = 0; v < before->n_value; v++) {
        if (!is_result(before, v)) continue;
        double d2 = 0, x2 = 0;
        for (int64_t i = 0; i < dt_value_n_elem(&before->value[v]); i++)
            d2 += pow(a.data[v][i] - b.data[v][i], 2), x2 += a.data[v][i] * a.data[v][i];
        if (!(sqrt(d2) <= 1e-8 * sqrt(x2) + 1e-10))
            fail_msg("network %llu: %s is off by %.2e of %.2e", (unsigned long long)seed,
                     before->value[v].name, sqrt(d2), sqrt(x2));
    }
    oracle_close(&a);
    oracle_close(&b);
}

static void test_random_networks_keep_their_function(void **state) {
    (void)state;
    dt_model_options c;
    int32_t n_site = 0, n_scaled = 0, n_second = 0, n_masked = 0, n_sums = 0, n_network = 0;
    check_model_options(&c, bottlenecks);
    for (uint64_t seed = 0; seed < N_RANDOM; seed++) {
        dt_model_input in = input_of(seed);
        stand_in be = stand_in_that(seed % 2 ? GRAM_ALONE : ALL);
        dt_axis *axis;
        dt_graph *before = network(&c, seed, &in, &axis), *after;
        after = graph_clone(before);
        check_ok(dt_pass_gram_batchnorm(after, &be.base));
        graph_need_sound(after);
        need_same_function(before, after, axis, seed);
        int32_t n = graph_count(after, DT_OP_BN_GRAM);
        assert_int_equal(n, graph_count(after, DT_OP_GRAM));
        assert_int_equal(n, graph_count(after, DT_OP_BN_GRAM_GRAD));
        assert_int_equal(graph_count(after, DT_OP_BN_FINALIZE) + n, graph_count(before, DT_OP_BN_FINALIZE));
        for (dt_nid i = 0; i < after->n_node; i++) {
            const dt_node *k = &after->node[i];
            n_scaled += k->op == DT_OP_CONV && dt_node_has(k, DT_CONV_IN_RES_SCALE);
            n_second += k->op == DT_OP_BN_MASK && dt_node_has(k, DT_BN_MASK_IN_DY2);
            n_masked += k->op == DT_OP_CONV_DGRAD && dt_node_has(k, DT_DGRAD_IN_Y);
            n_sums += k->op == DT_OP_GRAM_CROSS && dt_node_makes(k, DT_CROSS_OUT_DBETA);
        }
        n_site += n, n_network += n > 0;
        check_ok(dt_pass_fuse_for_backend(after, &be.base));
        check_ok(dt_pass_remove_dead(after));
        graph_need_sound(after);
        need_same_function(before, after, axis, seed);
        dt_graph_destroy(before), dt_graph_destroy(after);
        dt_axis_destroy(axis);
    }
    assert_true(n_network > N_RANDOM / 6 && n_site > n_network && n_scaled > 0);
    assert_true(n_second > 0 && n_masked > 0 && n_sums > n_masked);
    dt_model_options_fini(&c);
}

/* Both normalisations of the first block, that of the second's main path (which takes the skip path's in),
 * and the third's. */
static void test_sites_of_the_bottlenecks(void **state) {
    (void)state;
    dt_model_options c;
    dt_axis *axis;
    check_model_options(&c, bottlenecks);
    dt_model_input in = input_of(0);
    stand_in refuses = stand_in_that(0), be = stand_in_that(ALL);
    dt_graph *g = network(&c, 0, &in, &axis);
    const int32_t n_node = g->n_node;
    check_ok(dt_pass_gram_batchnorm(g, &refuses.base));
    assert_int_equal(g->n_node, n_node);
    assert_int_equal(graph_count(g, DT_OP_GRAM), 0);
    check_ok(dt_pass_gram_batchnorm(g, &be.base));
    check_ok(dt_pass_fuse_for_backend(g, &be.base));
    check_ok(dt_pass_remove_dead(g));
    assert_int_equal(graph_count(g, DT_OP_BN_GRAM), 4);
    assert_int_equal(graph_count(g, DT_OP_BN_GRAM_DX), 4);
    int32_t n_relu = 0, n_plain = 0, n_scaled = 0, n_masked = 0, n_sums = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        n_masked +=
            n->op == DT_OP_CONV_DGRAD && dt_node_has(n, DT_DGRAD_IN_Y) && dt_node_has(n, DT_DGRAD_IN_DX2);
        n_sums += n->op == DT_OP_GRAM_CROSS && dt_node_makes(n, DT_CROSS_OUT_DBETA);
        if (n->op != DT_OP_CONV || !dt_node_has(n, DT_CONV_IN_SCALE)) continue;
        n_relu += n->attr.window.act == DT_ACT_RELU, n_plain += n->attr.window.act == DT_ACT_NONE,
            n_scaled += dt_node_has(n, DT_CONV_IN_RES_SCALE);
        assert_int_equal(n->phase, DT_PHASE_FORWARD);
    }
    assert_int_equal(n_relu, 3);
    assert_int_equal(n_plain, 1);
    assert_int_equal(n_scaled, 1);
    /* The first block's output feeds two paths, but the second's goes to another normalisation's gradient. */
    assert_int_equal(n_masked, 1);
    assert_int_equal(n_sums, n_masked + 2); /* and of those without a mask of their own */
    dt_graph_destroy(g);
    dt_axis_destroy(axis);
    dt_model_options_fini(&c);
}

/* A program of g on the CPU backend, run once. */
static live run_live(dt_backend *be, const dt_axis *axis, dt_graph *g) {
    live l = live_open(be, axis, g, NULL);
    check_ok(dt_program_run(l.program, NULL, NULL));
    return l;
}

static void test_cpu_agrees_with_the_unfused_program(void **state) {
    (void)state;
    dt_model_options c;
    check_model_options(&c, bottlenecks);
    dt_backend *be = live_backend();
    stand_in wants = stand_in_that(ALL);
    for (uint64_t seed = 0; seed < N_BLOCKS; seed++) {
        dt_model_input in = input_of(seed);
        dt_axis *axis;
        dt_graph *exact = network(&c, 0, &in, &axis), *before, *after;
        before = graph_clone(exact);
        after = graph_clone(exact);
        check_ok(dt_pass_gram_batchnorm(after, &wants.base));
        check_ok(dt_pass_remove_dead(after));
        oracle o = oracle_open(exact, &live_step);
        oracle_reset(&o, axis);
        oracle_run(&o, exact->n_node);
        live a = run_live(be, axis, before), b = run_live(be, axis, after);
        for (dt_vid v = 0; v < exact->n_value; v++) {
            if (!is_result(exact, v)) continue;
            double plain = live_distance(&a, &o, v), gram = live_distance(&b, &o, v);
            if (!(gram <= fmax(1e-5, 4 * plain)))
                fail_msg("shape %llu: %s is off by %.2e, unfused by %.2e", (unsigned long long)seed,
                         exact->value[v].name, gram, plain);
        }
        oracle_close(&o);
        dt_graph_destroy(exact);
        live_close(&a), live_close(&b);
        dt_axis_destroy(axis);
    }
    be->destroy(be);
    dt_model_options_fini(&c);
}

/* Loss of the network with one weight moved, by the oracle. */
static double loss_at(const dt_graph *g, const dt_axis *axis, dt_vid w, int64_t i, double step, oracle *o) {
    *o = oracle_open(g, &live_step);
    oracle_reset(o, axis);
    o->data[w][i] += step;
    oracle_run(o, g->n_node);
    return oracle_loss(o) * (double)live_step.loss_weight * (double)live_step.loss_scale;
}

static void test_gradients_are_those_of_the_loss(void **state) {
    (void)state;
    dt_model_options c;
    dt_axis *axis;
    const double step = 1e-6;
    check_model_options(&c, bottlenecks);
    dt_model_input in = input_of(3);
    stand_in be = stand_in_that(ALL);
    dt_graph *g = network(&c, 0, &in, &axis);
    int32_t n_checked = 0;
    check_ok(dt_pass_gram_batchnorm(g, &be.base));
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (g->value[v].role != DT_ROLE_GRAD) continue;
        const dt_vid w = g->value[v].grad_of;
        for (int64_t i = 0; i < dt_value_n_elem(&g->value[w]); i += 5, n_checked++) {
            oracle o;
            double up = loss_at(g, axis, w, i, step, &o), got = o.data[v][i];
            oracle_close(&o);
            double down = loss_at(g, axis, w, i, -step, &o);
            oracle_close(&o);
            double want = (up - down) / (2 * step);
            if (!(fabs(got - want) <= 1e-4 * fabs(want) + 2e-5))
                fail_msg("%s, element %lld: gradient %.8g, differences %.8g", g->value[w].name, (long long)i,
                         got, want);
        }
    }
    assert_true(n_checked > 100);
    dt_graph_destroy(g);
    dt_axis_destroy(axis);
    dt_model_options_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_networks_keep_their_function),
        cmocka_unit_test(test_sites_of_the_bottlenecks),
        cmocka_unit_test(test_cpu_agrees_with_the_unfused_program),
        cmocka_unit_test(test_gradients_are_those_of_the_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
