/* What backward computes again is what forward computed: gradients, metrics and running statistics of the graph with
 * and without the pass are the same bits; only memory is less. */
#include <stdio.h>

#include "core/op.h"
#include "graph_check.h"
#include "graph_program.h"
#include "random_graph.h"
#include "test_model.h"

enum { N_RANDOM = 60 };

/* Lowered up to the pass; takes the graph. */
static dt_graph *lowered(dt_graph *g, dt_backend *be, dt_axis **axis) {
    check_ok(dt_pass_fuse_bn_act(g));
    check_ok(dt_autodiff(g));
    check_ok(dt_axis_build(g, 1, 0, false, axis));
    check_ok(dt_pass_split_batchnorm(g));
    check_ok(dt_pass_fuse_for_backend(g, be));
    return g;
}

static dt_graph *model(const char *text, const dt_model_input *in) {
    dt_model_options o;
    dt_graph *g;
    check_model_options(&o, text);
    check_ok(dt_model_build(&o, in, DT_DTYPE_F32, true, &g));
    dt_model_options_fini(&o);
    return g;
}

#define BLOCK(from, to)                                                                                      \
    "[[model.layers]]\ntype = \"layernorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"attention\"\nheads = 2\ncausal = true\ndropout = 0.2\n"                      \
    "[[model.layers]]\ntype = \"dropout\"\nrate = 0.2\n"                                                     \
    "[[model.layers]]\ntype = \"add\"\nwith = \"" from "\"\nname = \"half" to "\"\n"                         \
    "[[model.layers]]\ntype = \"layernorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 128\n"                                                   \
    "[[model.layers]]\ntype = \"gelu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 32\n"                                                    \
    "[[model.layers]]\ntype = \"add\"\nwith = \"half" to "\"\nname = \"" to "\"\n"

/* Six blocks with dropout, and a layer that walks over the places. */
static dt_graph *language(void) {
    static const dt_field fields[] = {{.name = "tokens", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {16}},
                                      {.name = "label", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {16}}};
    const dt_model_input in = {.batch = 4, .field = fields, .n_field = 2, .n_vocab = LIVE_TOKENS};
    return model("[model]\nname = \"layers\"\ntask = \"language\"\n"
                 "[[model.layers]]\ntype = \"embedding\"\nrows = 3\nchannels = 32\nname = \"words\"\n"
                 "[[model.layers]]\ntype = \"position\"\nname = \"x0\"\n" BLOCK("x0", "x1") BLOCK("x1", "x2")
                     BLOCK("x2", "x3") BLOCK("x3", "x4") BLOCK("x4", "x5")
                         BLOCK("x5", "x6") "[[model.layers]]\ntype = \"lstm\"\nhidden = 32\n"
                                           "[[model.layers]]\ntype = \"tied\"\nto = \"words\"\n",
                 &in);
}

/* Many small images: activations are most of the memory. */
static dt_graph *resnet(void) {
    const dt_model_input in = {.batch = 2,
                               .height = 32,
                               .width = 32,
                               .channels = 3,
                               .padded_channels = 3,
                               .classes = 3,
                               .mean = {0.5f, 0.4f, 0.5f},
                               .stddev = {0.3f, 0.2f, 0.3f}};
    return model("[model]\nname = \"resnet50\"\nsmall_stem = true\n", &in);
}

static void need_same_bits(const live *a, const live *b, dt_arena arena) {
    assert_int_equal(a->store->bytes[arena], b->store->bytes[arena]);
    if (a->store->bytes[arena] > 0)
        assert_memory_equal(a->store->arena[arena], b->store->arena[arena], (size_t)a->store->bytes[arena]);
}

/* Takes g. Returns the bytes of its plan; *without: of that without the pass. */
static int64_t check_level(dt_graph *g, dt_recompute level, dt_backend *be, int64_t *without, double *flops) {
    dt_axis *axis;
    dt_graph *before = lowered(g, be, &axis), *after = graph_clone(before);
    check_ok(dt_pass_recompute(after, level, flops));
    graph_need_sound(after);
    check_ok(dt_pass_remove_dead(before));
    check_ok(dt_pass_remove_dead(after));
    graph_need_sound(after);
    live a = live_open(be, axis, before, NULL), b = live_open(be, axis, after, NULL);
    check_ok(dt_program_run(a.program, NULL, NULL));
    check_ok(dt_program_run(b.program, NULL, NULL));
    need_same_bits(&a, &b, DT_ARENA_GRAD);
    need_same_bits(&a, &b, DT_ARENA_STATE);
    need_same_bits(&a, &b, DT_ARENA_METRIC);
    const int64_t bytes = b.program->plan.act_bytes;
    *without = a.program->plan.act_bytes;
    live_close(&a), live_close(&b);
    dt_axis_destroy(axis);
    return bytes;
}

static void test_random_networks(void **state) {
    dt_backend *be = *state;
    int32_t n_less = 0;
    for (uint64_t seed = 1; seed <= N_RANDOM; seed++)
        for (dt_recompute level = DT_RECOMPUTE_CHEAP; level <= DT_RECOMPUTE_BLOCKS; level++) {
            double flops;
            int64_t without;
            n_less += check_level(random_graph(0, seed, true), level, be, &without, &flops) < without;
        }
    assert_true(n_less > 0);
}

/* By how much, so that a level that keeps everything is seen. */
static void test_networks_take_less(void **state) {
    dt_backend *be = *state;
    static dt_graph *(*const network[])(void) = {language, resnet};
    static const double at_most[][2] = {{0.8, 0.6}, {0.75, 0.55}};
    for (size_t k = 0; k < sizeof network / sizeof network[0]; k++)
        for (int level = DT_RECOMPUTE_CHEAP; level <= DT_RECOMPUTE_BLOCKS; level++) {
            int64_t without;
            double flops, all = 0;
            dt_graph *g = network[k]();
            for (dt_nid i = 0; i < g->n_node; i++) all += dt_op_flops(g, &g->node[i]);
            const int64_t with = check_level(g, (dt_recompute)level, be, &without, &flops);
            const double part = (double)with / (double)without;
            if (part > at_most[k][level - 1])
                fail_msg("network %zu, %s: %.2f of the memory", k, dt_recompute_names[level], part);
            /* Cheap is cheap, and blocks run forward once more at most. */
            if (flops > (level == DT_RECOMPUTE_CHEAP ? 0.1 : 1.0) * all)
                fail_msg("network %zu, %s: %.2f of forward again", k, dt_recompute_names[level], flops / all);
        }
}

static int open_backend(void **state) {
    *state = live_backend();
    return 0;
}

static int close_backend(void **state) {
    dt_backend *be = *state;
    be->destroy(be);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_networks),
        cmocka_unit_test(test_networks_take_less),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
