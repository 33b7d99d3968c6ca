/* The fusions of a transformer's blocks keep the function: graphs before and after are run by the oracle in double, and the
 * fused ones by the CPU backend, whose answers about fusions a test replaces. */
#include <stdio.h>

#include "same_function.h"
#include "test_model.h"

enum {
    SUM = 1u << FUSED_DENSE_SUM,
    ACT = 1u << FUSED_DENSE_ACT,
    BIAS = 1u << FUSED_BIAS_GRAD,
    NORM = 1u << FUSED_NORM_SUM
};

/* A block; %s: the norm's layer, then the function's, then what else reads its input. */
static const char block[] =
    "[model]\nname = \"layers\"\n"
    "[[model.layers]]\ntype = \"dense\"\nchannels = 24\nname = \"in\"\n"
    "[[model.layers]]\ntype = \"%s\"\n"
    "[[model.layers]]\ntype = \"dense\"\nchannels = 40\nname = \"wide\"\n"
    "[[model.layers]]\ntype = \"%s\"\n"
    "[[model.layers]]\ntype = \"dense\"\nchannels = 24\nname = \"out\"\n"
    "[[model.layers]]\ntype = \"add\"\nfrom = \"out\"\nwith = \"in\"\nname = \"sum\"\n"
    "%s"
    "[[model.layers]]\ntype = \"dense\"\nchannels = 3\n";

static const dt_model_input small_input = {.batch = 3,
                                           .height = 3,
                                           .width = 2,
                                           .channels = 2,
                                           .padded_channels = 2,
                                           .classes = 3,
                                           .mean = {0.5f, 0.4f},
                                           .stddev = {0.3f, 0.2f}};

static dt_graph *network(const char *norm, const char *function, const char *more, dt_axis **axis) {
    char text[2048];
    dt_model_options c;
    dt_graph *g;
    snprintf(text, sizeof text, block, norm, function, more);
    check_model_options(&c, text);
    check_ok(dt_model_build(&c, &small_input, DT_DTYPE_F32, true, &g));
    check_ok(dt_autodiff(g));
    check_ok(dt_axis_build(g, 1, 0, false, axis));
    dt_model_options_fini(&c);
    return g;
}

static void test_block_fusions_keep_the_function(void **state) {
    (void)state;
    static const char *const norms[] = {"layernorm", "rmsnorm"};
    dt_backend *be = live_backend();
    for (uint32_t k = 0; k < 32; k++) {
        const uint32_t set = (k & 1 ? SUM : 0) | (k & 2 ? ACT : 0) | (k & 4 ? BIAS : 0) | (k & 8 ? NORM : 0);
        dt_axis *axis;
        char what[80];
        dt_graph *g = network(norms[k >> 4], "gelu_tanh", "", &axis), *f = same_fused(g, be, set);
        snprintf(what, sizeof what, "fusions 0x%x, %s", set, norms[k >> 4]);
        assert_int_equal(graph_count(f, DT_OP_UNARY), set & ACT ? 0 : 1);
        assert_int_equal(graph_count(f, DT_OP_UNARY_BWD), set & ACT ? 0 : 1);
        assert_int_equal(graph_count(f, DT_OP_BIAS_GRAD), set & BIAS ? 0 : 4);
        assert_int_equal(graph_count(f, DT_OP_BINARY), (set & SUM ? 0 : 1) + (set & NORM ? 0 : 1));
        need_same(be, g, f, axis, what);
    }
    be->destroy(be);
}

/* A gradient that is made of the result, and a result that somebody else reads. */
static void test_others_are_kept(void **state) {
    (void)state;
    static const char second[] =
        "[[model.layers]]\ntype = \"dense\"\nchannels = 24\nfrom = \"wide\"\nname = \"late\"\n"
        "[[model.layers]]\ntype = \"add\"\nfrom = \"late\"\nwith = \"sum\"\n";
    dt_backend *be = live_backend();
    dt_axis *axis;
    dt_graph *g = network("layernorm", "relu", "", &axis), *f = same_fused(g, be, ACT);
    assert_int_equal(graph_count(f, DT_OP_UNARY), 1);
    assert_int_equal(graph_count(f, DT_OP_UNARY_BWD), 1);
    need_same(be, g, f, axis, "relu");
    g = network("layernorm", "gelu_tanh", second, &axis), f = same_fused(g, be, SUM | ACT | BIAS | NORM);
    assert_int_equal(graph_count(f, DT_OP_UNARY), 1);
    need_same(be, g, f, axis, "other readers");
    be->destroy(be);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_fusions_keep_the_function),
        cmocka_unit_test(test_others_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
