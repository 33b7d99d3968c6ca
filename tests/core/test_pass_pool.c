/* The fusions around a max pool keep the function: graphs before and after are run by the oracle in double,
 * and the fused ones by the CPU backend, whose answers about fusions a test replaces. */
#include <stdio.h>

#include "same_function.h"
#include "test_model.h"

enum { PROLOGUE = 1u << FUSED_POOL_PROLOGUE, BN = 1u << FUSED_POOL_BN, SECOND = 1u << FUSED_SECOND };

/* A stem whose pool feeds two convolutions; %s: the pool's window. */
static const char stem[] =
    "[model]\nname = \"layers\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 5\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\n"
    "[[model.layers]]\ntype = \"relu\"\nname = \"stem\"\n"
    "[[model.layers]]\ntype = \"maxpool\"\n%s\nname = \"pool\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 4\nbias = false\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"main\"\n"
    "[[model.layers]]\ntype = \"conv\"\nchannels = 4\nkernel = 1\nbias = false\nfrom = \"pool\"\n"
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"skip\"\n"
    "[[model.layers]]\ntype = \"add\"\nfrom = \"main\"\nwith = \"skip\"\n"
    "[[model.layers]]\ntype = \"relu\"\n"
    "%s"
    "[[model.layers]]\ntype = \"global_avgpool\"\n"
    "[[model.layers]]\ntype = \"dense\"\nchannels = 3\n";

static const char *const windows[] = {"kernel = 3\nstride = 2\npad = 1", "kernel = 2\nstride = 2\npad = 0",
                                      "kernel = 3\nstride = 1\npad = 1", "kernel = 3\nstride = 3\npad = 0"};
enum { N_WINDOW = sizeof windows / sizeof windows[0] };

static const dt_model_input small_input = {.batch = 3,
                                           .height = 9,
                                           .width = 8,
                                           .channels = 2,
                                           .padded_channels = 2,
                                           .classes = 3,
                                           .mean = {0.5f, 0.4f},
                                           .stddev = {0.3f, 0.2f}};

/* The network of a window, differentiated if training, split. */
static dt_graph *network(const char *window, const char *extra, bool training, dt_axis **axis) {
    char text[2048];
    dt_model_options c;
    dt_graph *g, *trained;
    snprintf(text, sizeof text, stem, window, extra);
    check_model_options(&c, text);
    check_ok(dt_model_build(&c, &small_input, DT_DTYPE_F32, true, &trained));
    check_ok(dt_pass_fuse_bn_act(trained));
    check_ok(dt_autodiff(trained));
    check_ok(dt_axis_build(trained, 1, 0, false, axis));
    if (training) {
        g = trained;
    } else {
        check_ok(dt_model_build(&c, &small_input, DT_DTYPE_F32, false, &g));
        check_ok(dt_pass_fuse_bn_act(g));
        check_ok(dt_axis_assign(*axis, g));
        dt_graph_destroy(trained);
    }
    check_ok(dt_pass_split_batchnorm(g));
    dt_model_options_fini(&c);
    return g;
}

static void test_pool_fusions_keep_the_function(void **state) {
    (void)state;
    static const uint32_t sets[] = {0, PROLOGUE, BN, SECOND, BN | SECOND, PROLOGUE | BN | SECOND};
    dt_backend *be = live_backend();
    for (size_t k = 0; k < N_WINDOW * sizeof sets / sizeof sets[0]; k++)
        for (int training = 0; training < 2; training++) {
            const uint32_t set = sets[k / N_WINDOW];
            dt_axis *axis;
            char what[160];
            dt_graph *g = network(windows[k % N_WINDOW], "", training, &axis), *f = same_fused(g, be, set);
            snprintf(what, sizeof what, "fusions 0x%x, %s", set, training ? "training" : "evaluation");
            const bool bn = training && set & BN;
            assert_int_equal(graph_count(f, DT_OP_BN_APPLY),
                             graph_count(g, DT_OP_BN_APPLY) - (set & PROLOGUE ? 1 : 0));
            assert_int_equal(graph_count(f, DT_OP_MAXPOOL_BWD), training && !bn ? 1 : 0);
            assert_int_equal(graph_count(f, DT_OP_BINARY), training && !(bn && set & SECOND) ? 1 : 0);
            need_same(be, g, f, axis, what);
        }
    be->destroy(be);
}

/* Where something else reads the image between, or its gradient, it stays. */
static void test_other_readers_are_kept(void **state) {
    (void)state;
    static const char second[] =
        "name = \"end\"\n"
        "[[model.layers]]\ntype = \"conv\"\nchannels = 4\nstride = 2\nfrom = \"stem\"\n"
        "name = \"late\"\n"
        "[[model.layers]]\ntype = \"add\"\nfrom = \"late\"\nwith = \"end\"\n";
    dt_backend *be = live_backend();
    dt_axis *axis;
    dt_graph *g = network(windows[0], second, true, &axis), *f = same_fused(g, be, PROLOGUE | BN | SECOND);
    assert_int_equal(graph_count(f, DT_OP_BN_APPLY), graph_count(g, DT_OP_BN_APPLY));
    assert_int_equal(graph_count(f, DT_OP_MAXPOOL_BWD), 1);
    need_same(be, g, f, axis, "a second reader");
    be->destroy(be);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_fusions_keep_the_function),
        cmocka_unit_test(test_other_readers_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
