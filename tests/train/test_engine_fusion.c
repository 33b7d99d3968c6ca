/* train.fusion and what it switches: a run without fusions, one with the CPU's own, and one with batch
 * normalisation from Gram matrices forced agree in every step. */
#include "core/op.h"
#include "core/program.h"
#include "engine_fixture.h"
#include "stand_in.h"

enum { N_STEP = 6 };

/* A bottleneck block with a convolution in its skip path. */
#define MODEL                                                                                                \
    "[model]\nname = \"layers\"\n"                                                                           \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nbias = false\n"                                        \
    "[[model.layers]]\ntype = \"batchnorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"relu\"\nname = \"a\"\n"                                                      \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 4\nbias = false\n"                                        \
    "[[model.layers]]\ntype = \"batchnorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 9\nkernel = 1\nbias = false\n"                            \
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"main\"\n"                                              \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 9\nkernel = 1\nbias = false\nfrom = \"a\"\n"              \
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"skip\"\n"                                              \
    "[[model.layers]]\ntype = \"add\"\nfrom = \"main\"\nwith = \"skip\"\n"                                   \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"global_avgpool\"\n"                                                          \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 5\n"
#define CONFIG(fusion)                                                                                       \
    MODEL "[train]\nglobal_batch = 16\nmicro_batch = 8\nfusion = \"" fusion "\"\n"                           \
          "[optim]\nkind = \"nesterov\"\nweight_decay = 1e-3\n[dist]\nbuckets = 3\n"

static double gram_too(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n) {
    (void)be;
    return stand_in_price(1u << FUSED_GRAM | 1u << FUSED_DUAL | 1u << FUSED_SECOND, g, node, n);
}

/* Nodes of the training program that only a fusion makes. */
static int32_t count_fused(const rig *r) {
    const dt_graph *g = dt_engine_program(r->e, false)->graph;
    int32_t n = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *k = &g->node[i];
        n += k->op == DT_OP_BN_GRAM || (k->op == DT_OP_BN_APPLY && k->attr.norm.relu) ||
             (k->op == DT_OP_CONV && dt_node_has(k, DT_CONV_IN_RES_SCALE)) ||
             (k->op == DT_OP_BN_REDUCE && dt_node_has(k, DT_REDUCE_IN_DY2)) ||
             (k->op == DT_OP_BN_MASK && dt_node_has(k, DT_BN_MASK_IN_DY2));
    }
    return n;
}

static void test_fusion_changes_rounding_alone(void **state) {
    (void)state;
    rig off, own, gram;
    rig_open(&off, CONFIG("off"));
    rig_open(&own, CONFIG("auto"));
    rig_prepare(&gram, CONFIG("auto"));
    gram.be->cost = gram_too;
    check_ok(rig_try_open(&gram, NULL, true));
    assert_int_equal(count_fused(&off), 0);
    assert_int_equal(count_fused(&own), 3);  /* the ReLUs, the skip path's normalisation */
    assert_int_equal(count_fused(&gram), 4); /* the ReLUs, both of the block */
    for (int64_t s = 0; s < N_STEP; s++) {
        rig_step(&off, s, 0.05f);
        rig_step(&own, s, 0.05f);
        rig_step(&gram, s, 0.05f);
        const float want = off.result.metric[DT_METRIC_LOSS];
        assert_true(fabsf(own.result.metric[DT_METRIC_LOSS] - want) <= 1e-4f * fabsf(want));
        assert_true(fabsf(gram.result.metric[DT_METRIC_LOSS] - want) <= 1e-4f * fabsf(want));
    }
    double d_own = rig_distance(&off, &own), d_gram = rig_distance(&off, &gram);
    if (!(d_own < 1e-5 && d_gram < 5e-5)) fail_msg("weights are off by %.1e and %.1e", d_own, d_gram);
    rig_close(&gram);
    rig_close(&own);
    rig_close(&off);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fusion_changes_rounding_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
