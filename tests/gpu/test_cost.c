/* What the card is said to cost decides which nodes are rewritten, and no card is needed to see that: times of
 * convolutions come from a roofline here. Counts are what ResNet-50 has been compiled to since its fusions
 * were chosen by hand; whatever is rewritten, the graph as a whole must have become cheaper. */
#include <math.h>
#include <stdio.h>

#include "core/autodiff.h"
#include "core/axis.h"
#include "core/pass.h"
#include "cost.h"
#include "graph_check.h"
#include "stand_in.h"
#include "test_model.h"

static const double BYTES_PER_S = 4.0e12, F16_FLOPS = 600e12, F32_FLOPS = 50e12;

/* A card: times vary by kind and shape, some lack. */
typedef struct card {
    dt_backend base;
    dt_cost_card cost;
    uint64_t seed;  /* 0: the roofline as it is */
    bool untimed;   /* as under train.deterministic */
    double penalty; /* of a fused convolution */
    int32_t asked;
} card;

static dt_conv_spec form(void *arg, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    dt_conv_spec forms[2];
    (void)arg;
    dt_conv_spec_forms(g, n, kind, forms);
    return forms[0];
}

static double seconds(void *arg, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    card *c = arg;
    const dt_conv_spec s = form(arg, g, n, kind);
    const dt_conv_dims *d = &s.d;
    const bool half = s.dtype != DT_DTYPE_F32;
    const double x = (double)(d->n * d->h * d->w * d->c), y = (double)(d->n * d->p * d->q * d->k);
    const double taps = (double)(d->r * d->s * d->c / d->groups);
    double t = fmax(2 * y * taps / (half ? F16_FLOPS : F32_FLOPS),
                    (half ? 2 : 4) * (x + y + (double)d->k * taps) / BYTES_PER_S);
    c->asked++;
    if (c->untimed) return -1;
    t += 3e-6;
    if (kind == DT_CONV_F_APPLY_RES || kind == DT_CONV_F_APPLY_RES2 || kind == DT_CONV_D_ADD_MASK)
        t += 2 * y / BYTES_PER_S;
    if (kind != dt_conv_plain_kind(kind)) t *= c->penalty;
    if (c->seed == 0) return t;
    const dt_u32x4 u = dt_philox(dt_rng_key(c->seed, DT_RNG_TEST, (uint64_t)kind),
                                 (uint64_t)(d->n * d->h * d->c + d->k), (uint64_t)(d->r * 8 + d->stride_h));
    return u.v[0] % 16 == 0 ? -1 : t * (0.5 + (double)(u.v[1] % 1024) / 1024);
}

static double cost(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n) {
    return dt_cost_of(&((card *)be)->cost, g, node, n);
}

static void card_open(card *c, uint64_t seed, double penalty) {
    *c = (card){.base = {.name = "card", .cost = cost}, .seed = seed, .penalty = penalty};
    c->cost = (dt_cost_card){
        .bytes_per_s = 0.85 * 4.8e12, .sm_count = 132, .seconds = seconds, .form = form, .arg = c};
}

/* ResNet of that depth, up to where devices are asked. */
static dt_graph *network(const char *text, dt_dtype compute, int64_t batch, int64_t side, bool training) {
    dt_model_options o;
    dt_axis *axis;
    dt_graph *g;
    const dt_model_input in = {.batch = batch,
                               .height = side,
                               .width = side,
                               .channels = 3,
                               .padded_channels = 4,
                               .classes = 1000,
                               .mean = {0.5f, 0.5f, 0.5f},
                               .stddev = {0.2f, 0.2f, 0.2f}};
    check_model_options(&o, text);
    check_ok(dt_model_build(&o, &in, compute, training, &g));
    check_ok(dt_pass_fuse_bn_act(g));
    if (training) {
        check_ok(dt_autodiff(g));
        check_ok(dt_axis_build(g, 1, 0, false, &axis));
        dt_axis_destroy(axis);
    }
    check_ok(dt_pass_split_batchnorm(g));
    dt_model_options_fini(&o);
    return g;
}

/* With every convolution's own time; INFINITY: one of them has none. */
static double price(card *c, const dt_graph *g) {
    double sum = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const double s = cost(&c->base, g, &g->node[i], 1);
        if (!isinf(s)) sum += s;
    }
    return sum;
}

/* Both passes that ask, each of which must pay. */
static void fuse(card *c, dt_graph *g) {
    const double plain = price(c, g);
    check_ok(dt_pass_gram_batchnorm(g, &c->base));
    graph_need_sound(g);
    const double gram = price(c, g);
    check_ok(dt_pass_fuse_for_backend(g, &c->base));
    graph_need_sound(g);
    const double fused = price(c, g);
    if (!(gram <= plain && fused <= gram))
        fail_msg("%.3f ms before, %.3f with Gram matrices, %.3f fused", plain * 1e3, gram * 1e3, fused * 1e3);
}

static const char resnet50[] = "[model]\nname = \"resnet50\"\n";

static void test_counts_of_resnet50(void **state) {
    (void)state;
    static const struct {
        dt_dtype compute;
        bool training;
        int32_t count[FUSED_COUNT];
    } cases[] = {
        {DT_DTYPE_F32, true, {0, 0, 0, 0, 4, 16, 1, 2, 0, 0}},
        {DT_DTYPE_F32, false, {0, 0, 0, 0, 4, 0, 1, 0, 0, 0}},
        {DT_DTYPE_F16, true, {38, 19, 19, 19, 3, 5, 1, 2, 28, 11}},
        {DT_DTYPE_F16, false, {0, 32, 0, 0, 4, 0, 1, 0, 0, 0}},
        {DT_DTYPE_BF16, true, {0, 0, 0, 0, 3, 5, 1, 2, 28, 11}},
        {DT_DTYPE_BF16, false, {0, 0, 0, 0, 4, 0, 1, 0, 0, 0}},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        card c;
        int32_t count[FUSED_COUNT] = {0};
        card_open(&c, 0, 1.05);
        dt_graph *g = network(resnet50, cases[k].compute, 256, 224, cases[k].training);
        fuse(&c, g);
        fused_count(g, count);
        for (int32_t f = 0; f < FUSED_COUNT; f++)
            if (count[f] != cases[k].count[f])
                fail_msg("case %zu, fusion %d: done %d times, not %d", k, f, count[f], cases[k].count[f]);
        dt_graph_destroy(g);
    }
}

/* Whatever the times. */
static void test_what_is_rewritten_pays(void **state) {
    (void)state;
    static const char *const text[] = {"[model]\nname = \"resnet18\"\n", resnet50,
                                       "[model]\nname = \"resnet50\"\nsmall_stem = true\n"};
    int32_t count[FUSED_COUNT] = {0};
    for (uint64_t seed = 1; seed <= 24; seed++) {
        card c;
        card_open(&c, seed, 0.8 + 0.1 * (double)(seed % 5));
        dt_graph *g = network(text[seed % 3], seed % 4 == 3 ? DT_DTYPE_BF16 : DT_DTYPE_F16,
                              seed % 2 ? 256 : 4, seed % 3 == 2 ? 32 : 224, seed % 6 != 5);
        fuse(&c, g);
        fused_count(g, count);
        dt_graph_destroy(g);
    }
    for (int32_t f = 0; f < FUSED_OF_ROWS; f++)
        if (count[f] == 0) fail_msg("fusion %d was never done", f);
}

/* Without times only what moves less memory is done; in fp32, where no fused convolution is, none is timed. */
static void test_without_times(void **state) {
    (void)state;
    const uint32_t timed = 1u << FUSED_STATS | 1u << FUSED_PROLOGUE | 1u << FUSED_WGRAD_PROLOGUE |
                           1u << FUSED_DGRAD_BN | 1u << FUSED_GRAM | 1u << FUSED_DGRAD_MASK;
    for (int half = 0; half < 2; half++) {
        card c;
        int32_t count[FUSED_COUNT] = {0};
        card_open(&c, 0, 1);
        c.untimed = half;
        dt_graph *g = network(resnet50, half ? DT_DTYPE_F16 : DT_DTYPE_F32, 64, 224, true);
        check_ok(dt_pass_gram_batchnorm(g, &c.base));
        check_ok(dt_pass_fuse_for_backend(g, &c.base));
        fused_count(g, count);
        for (int32_t f = 0; f < FUSED_COUNT; f++)
            assert_int_equal(count[f] > 0, f < FUSED_OF_ROWS && !(timed >> f & 1));
        assert_int_equal(c.asked > 0, half);
        dt_graph_destroy(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_of_resnet50),
        cmocka_unit_test(test_what_is_rewritten_pays),
        cmocka_unit_test(test_without_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
