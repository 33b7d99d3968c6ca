/* Patterns, the order of groups, what stands where on the axis and beside it, and fp32 in 16 bits. */
#include <math.h>

#include "core/autodiff.h"
#include "core/half.h"
#include "core/optim_group.h"
#include "core/plan.h"
#include "test_check.h"
#include "test_model.h"

static bool is_of(const char *pattern, const char *name) {
    dt_optim_groups g = {.n = 1, .group = {{.says = DT_GROUP_FROZEN, .frozen = true}}};
    snprintf(g.group[0].pattern, sizeof g.group[0].pattern, "%s", pattern);
    return dt_optim_group_of(&g, name).frozen;
}

static void test_patterns(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool is;
    } table[] = {
        {"*", "fc.weight", true},
        {"fc.weight", "fc.weight", true},
        {"fc.weight", "fc.weights", false},
        {"fc.weights", "fc.weight", false},
        {"fc.*", "fc.weight", true},
        {"fc.*", "fc2.weight", false},
        {"*.bias", "fc.bias", true},
        {"*.bias", "fc.bias.x", false},
        {"*a*b*", "xaxxbx", true},
        {"*a*b", "abab", true},
        {"*a*b", "aba", false},
        {"**", "x", true},
        {"x*", "x", true},
        {"*x", "x", true},
        {"x**y", "xy", true},
        {"FC.*", "fc.weight", false},
        {"", "x", false},
        {"l*.conv?", "l1.conv1", false},
        {"aaaa*aaaa*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (is_of(table[i].pattern, table[i].name) != table[i].is)
            fail_msg("\"%s\" and \"%s\"", table[i].pattern, table[i].name);
}

static void test_later_wins_by_key(void **state) {
    (void)state;
    const dt_optim_groups g = {
        .n = 4,
        .group = {{.pattern = "*", .says = DT_GROUP_FROZEN | DT_GROUP_LR, .frozen = true, .lr_factor = 2},
                  {.pattern = "fc.*", .says = DT_GROUP_FROZEN | DT_GROUP_DECAY, .weight_decay = 0.5},
                  {.pattern = "*.bias", .says = DT_GROUP_DECAY, .lr_factor = 9, .frozen = true},
                  {.pattern = "none", .says = DT_GROUP_LR, .lr_factor = 7}}};
    const dt_optim_group bias = dt_optim_group_of(&g, "fc.bias"), conv = dt_optim_group_of(&g, "conv.weight");
    assert_false(bias.frozen);
    assert_true(bias.lr_factor == 2 && bias.weight_decay == 0 && bias.says & DT_GROUP_DECAY);
    assert_true(dt_optim_group_of(&g, "fc.weight").weight_decay == 0.5);
    assert_true(conv.frozen && conv.lr_factor == 2 && !(conv.says & DT_GROUP_DECAY));
}

static dt_graph *resnet(dt_dtype compute, bool training) {
    dt_model_options o;
    dt_graph *g;
    check_model_options(&o, "[model]\nname = \"resnet18\"\n");
    dt_model_input in = {.batch = 2,
                         .height = 32,
                         .width = 32,
                         .channels = 3,
                         .padded_channels = 4,
                         .classes = 10,
                         .stddev = {1, 1, 1, 1}};
    check_ok(dt_model_build(&o, &in, compute, training, &g));
    dt_model_options_fini(&o);
    return g;
}

static dt_optim_groups one(const char *pattern) {
    dt_optim_groups g = {.n = 1, .group = {{.says = DT_GROUP_FROZEN, .frozen = true}}};
    snprintf(g.group[0].pattern, sizeof g.group[0].pattern, "%s", pattern);
    return g;
}

static void test_what_is_refused(void **state) {
    (void)state;
    dt_graph *g = resnet(DT_DTYPE_F32, true);
    dt_optim_groups wrong = one("layr1.*");
    CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "groups[0]", "layr1.*", "\"layer1.*\"");
    wrong = one("fc.weigth");
    CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "did you mean \"fc.weight\"");
    wrong = one("*nothing like it*");
    CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "such as \"conv1.weight\"");
    wrong = one("*");
    CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "parameters are frozen", "nothing is left");
    static const double bad[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wrong = one("*");
        wrong.group[0].says = DT_GROUP_LR, wrong.group[0].lr_factor = bad[i];
        CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "lr_factor");
        wrong.group[0].says = DT_GROUP_DECAY, wrong.group[0].weight_decay = bad[i];
        if (bad[i] != 0) CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "weight_decay");
    }
    wrong.n = DT_OPTIM_GROUPS_MAX + 1;
    CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "at most 64");
    wrong = one("");
    memset(wrong.group[0].pattern, 'x', sizeof wrong.group[0].pattern);
    CHECK_ERROR(dt_optim_groups_mark(&wrong, g), DT_ERR_CONFIG, "does not end");
    dt_graph_destroy(g);
}

/* The first layers frozen: nothing of backward is left there, and they stand beside the axis, in the type that
 * they are computed with. */
static void check_frozen(dt_dtype compute) {
    dt_graph *g = resnet(compute, true), *all = resnet(compute, true), *eval = resnet(compute, false);
    dt_optim_groups groups = one("conv1.*");
    dt_axis *a, *whole;
    static const char *const more[] = {"bn1.*", "layer1.*"};
    for (int i = 0; i < 2; i++) {
        groups.group[groups.n] = groups.group[0];
        snprintf(groups.group[groups.n++].pattern, DT_NAME_MAX, "%s", more[i]);
    }
    check_ok(dt_optim_groups_mark(&groups, g));
    check_ok(dt_autodiff(g));
    check_ok(dt_autodiff(all));
    check_ok(dt_axis_build(g, 3, 0, false, &a));
    check_ok(dt_axis_build(all, 3, 0, false, &whole));
    check_ok(dt_axis_assign(a, eval));
    assert_int_equal(a->n_segment + a->n_frozen, whole->n_segment);
    assert_int_equal(a->n_param_elem + a->n_frozen_param_elem, whole->n_param_elem);
    assert_int_equal(a->n_frozen, 15); /* 5 convolutions and their normalisations */
    int32_t n_wgrad = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        n_wgrad += n->op == DT_OP_CONV_WGRAD;
        if (n->phase != DT_PHASE_BACKWARD) continue;
        for (int32_t j = 0; j < n->n_out; j++)
            if (n->out[j] >= 0) assert_null(strstr(g->value[n->out[j]].name, "layer1"));
    }
    assert_int_equal(n_wgrad, 15);
    dt_plan plan;
    check_ok(dt_plan_build(g, 256, 0, true, &plan));
    check_ok(dt_plan_build(eval, 256, 0, true, &plan));
    float *frozen = check_alloc((size_t)a->n_frozen_elem * sizeof *frozen);
    float *master = check_alloc((size_t)whole->n_elem * sizeof *master);
    char *arena = check_alloc((size_t)a->frozen_bytes);
    int64_t bytes = 0;
    dt_axis_init(whole, 3, master);
    dt_axis_init_frozen(a, 3, frozen);
    dt_axis_pack_frozen(a, frozen, arena);
    for (int32_t i = a->n_segment; i < a->n_segment + a->n_frozen; i++) {
        const char *name = a->param[i].name;
        const dt_value *p = &g->value[dt_graph_find(g, name)], *e = &eval->value[dt_graph_find(eval, name)];
        const int32_t at = dt_axis_find(whole, name);
        assert_int_equal(dt_axis_find(a, name), i);
        assert_true(p->frozen && e->frozen);
        assert_true(p->arena == DT_ARENA_FROZEN && e->arena == DT_ARENA_FROZEN);
        assert_int_equal(p->offset_bytes, e->offset_bytes);
        assert_int_equal(p->offset_bytes, bytes);
        assert_int_equal(p->offset_bytes % 256, 0);
        bytes = dt_round_up(bytes + dt_value_bytes(p), 256);
        /* the same weights as where nothing is frozen */
        assert_memory_equal(frozen + a->segment[i].offset, master + whole->segment[at].offset,
                            (size_t)a->segment[i].n_elem * sizeof *frozen);
        for (int64_t k = 0; k < a->segment[i].n_elem; k++) {
            const void *got = arena + p->offset_bytes + k * (int64_t)dt_dtype_size(p->dtype);
            const float want = frozen[a->segment[i].offset + k];
            const float have = p->dtype == DT_DTYPE_F32   ? *(const float *)got
                               : p->dtype == DT_DTYPE_F16 ? dt_f16_to_f32(*(const uint16_t *)got)
                                                          : dt_bf16_to_f32(*(const uint16_t *)got);
            const float last = p->dtype == DT_DTYPE_F32 ? 0 : p->dtype == DT_DTYPE_F16 ? 0x1p-11f : 0x1p-8f;
            assert_true(fabsf(have - want) <= last * fabsf(want) + (last > 0 ? 0x1p-25f : 0));
        }
    }
    assert_int_equal(a->frozen_bytes, bytes);
    if (compute == DT_DTYPE_F32) assert_memory_equal(arena, frozen, (size_t)bytes);
    free(frozen), free(master), free(arena);
    dt_axis_destroy(a), dt_axis_destroy(whole);
    dt_graph_destroy(g), dt_graph_destroy(all), dt_graph_destroy(eval);
}

static void test_frozen_stand_beside_the_axis(void **state) {
    (void)state;
    check_frozen(DT_DTYPE_F32);
    check_frozen(DT_DTYPE_F16);
    check_frozen(DT_DTYPE_BF16);
}

/* State vectors of every shape, of a network whose first convolution has padded channels: no two parameters share
 * a float, and what is stored of them is without the padding and comes back. */
static void test_state_of_every_shape(void **state) {
    (void)state;
    dt_graph *g = resnet(DT_DTYPE_F32, true);
    dt_axis *a;
    check_ok(dt_autodiff(g));
    g->value[dt_graph_find(g, "conv1.weight")].matrix = 1; /* of an optimizer that takes it as such */
    check_ok(dt_axis_build(g, 3, 0, false, &a));
    assert_int_equal(a->n_state[DT_STATE_ELEMENT], a->n_elem);
    assert_true(a->n_state[DT_STATE_REST] < a->n_elem && a->segment[dt_axis_find(a, "conv1.weight")].matrix);
    for (int shape = 0; shape < DT_STATE_SHAPES; shape++) {
        const size_t bytes = (size_t)a->n_state[shape] * sizeof(float);
        float *whole = check_alloc(bytes);
        int64_t end = 0;
        for (int32_t i = 0; i < a->n_segment; i++) {
            const dt_axis_segment *s = &a->segment[i];
            const dt_axis_param *p = &a->param[i];
            int64_t dim[DT_MAX_DIM], n = 1;
            const int32_t ndim = dt_axis_state_dims(a, i, (dt_state_shape)shape, dim);
            const bool matrix = p->ndim > 1, has = shape == DT_STATE_VECTOR ? !matrix
                                                   : shape == DT_STATE_REST ? !s->matrix
                                                                            : matrix || shape == 0;
            assert_int_equal(ndim > 0, has);
            if (!has) continue;
            for (int32_t d = 0; d < ndim; d++) n *= dim[d];
            if (shape == DT_STATE_ROW) assert_int_equal(n, p->dim[0]);
            if (shape == DT_STATE_COLUMN) assert_int_equal(n, dt_axis_stored_elem(a, i) / p->dim[0]);
            if (shape == DT_STATE_COLUMN && strcmp(p->name, "conv1.weight") == 0)
                assert_true(n < s->cols); /* of 4 channels 3 */
            assert_true(s->state_at[shape] >= end);
            end = s->state_at[shape] + dt_segment_state_elem(s, (dt_state_shape)shape);
            float *stored = check_alloc((size_t)n * sizeof *stored);
            float *again = check_alloc((size_t)n * sizeof *again);
            for (int64_t k = 0; k < n; k++) stored[k] = (float)(k + 1);
            dt_axis_state_from_stored(a, i, (dt_state_shape)shape, stored, whole);
            dt_axis_state_to_stored(a, i, (dt_state_shape)shape, whole, again);
            assert_memory_equal(stored, again, (size_t)n * sizeof *stored);
            free(stored), free(again);
        }
        assert_true(end <= a->n_state[shape]);
        free(whole);
    }
    assert_true(a->n_state[DT_STATE_ROW] + a->n_state[DT_STATE_COLUMN] < a->n_elem / 50);
    dt_axis_destroy(a);
    dt_graph_destroy(g);
}

static float of_bits(uint32_t bits) {
    return dt_f32_from_bits(bits);
}

/* Every 16-bit number is its own image; between two neighbours the nearer one is taken, of equals the even. */
static void check_rounding(uint16_t (*narrow)(float), float (*wide)(uint16_t), uint32_t infinity) {
    for (uint32_t h = 0; h < infinity; h++) {
        const float x = wide((uint16_t)h), next = wide((uint16_t)(h + 1));
        for (int sign = 0; sign < 2; sign++)
            assert_int_equal(narrow(sign ? -x : x), h | (sign ? 0x8000u : 0u));
        if (h + 1 >= infinity) continue;
        const float middle = x + (next - x) / 2;
        assert_int_equal(narrow(middle), h % 2 ? h + 1 : h);
        assert_int_equal(narrow(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(narrow(nextafterf(middle, 0)), h);
    }
    assert_int_equal(narrow(INFINITY), infinity);
    assert_int_equal(narrow(of_bits(0x7f7fffff)), infinity);
    assert_int_equal(narrow(-INFINITY), infinity | 0x8000);
    assert_true(isnan(wide(narrow(NAN))));
    assert_true(isnan(wide(narrow(of_bits(0x7f800001)))));
}

static void test_rounding_to_16_bits(void **state) {
    (void)state;
    check_rounding(dt_f32_to_f16, dt_f16_to_f32, 0x7c00);
    check_rounding(dt_f32_to_bf16, dt_bf16_to_f32, 0x7f80);
    assert_int_equal(dt_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(dt_f32_to_f16(65520.0f), 0x7c00);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_later_wins_by_key),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_frozen_stand_beside_the_axis),
        cmocka_unit_test(test_state_of_every_shape),
        cmocka_unit_test(test_rounding_to_16_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
