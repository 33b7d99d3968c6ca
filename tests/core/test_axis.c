/* The parameter axis: its order, padding, buckets, the checkpoint form of padded weights, initial weights. */
#include <stdio.h>

#include "core/autodiff.h"
#include "core/axis.h"
#include "random_graph.h"
#include "test_model.h"
#include "test_check.h"

static dt_graph *model(const char *name, int64_t padded_channels, bool training) {
    dt_model_options o;
    dt_graph *g;
    char text[64];
    snprintf(text, sizeof text, "[model]\nname = \"%s\"\n", name);
    check_model_options(&o, text);
    dt_model_input in = {.batch = 2,
                         .height = 32,
                         .width = 32,
                         .channels = 3,
                         .padded_channels = padded_channels,
                         .classes = 10,
                         .stddev = {1, 1, 1, 1}};
    check_ok(dt_model_build(&o, &in, DT_DTYPE_F32, training, &g));
    if (training) check_ok(dt_autodiff(g));
    dt_model_options_fini(&o);
    return g;
}

/* Offsets ascend in the order in which nodes finish the gradients, aligned, without overlap. */
static void check_order(const dt_graph *g, const dt_axis *a) {
    int64_t offset = 0, n_param = 0;
    int32_t s = 0;
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t k = 0; k < g->node[i].n_out; k++) {
            if (g->node[i].out[k] < 0) continue;
            const dt_value *d = &g->value[g->node[i].out[k]];
            if (d->role != DT_ROLE_GRAD) continue;
            const dt_value *p = &g->value[d->grad_of];
            assert_true(s < a->n_segment);
            assert_string_equal(a->param[s].name, p->name);
            assert_int_equal(dt_axis_find(a, p->name), s);
            assert_int_equal(a->segment[s].offset, offset);
            assert_int_equal(a->segment[s].n_elem, dt_value_n_elem(p));
            assert_int_equal(p->axis_offset, offset);
            assert_int_equal(d->axis_offset, offset);
            assert_int_equal(offset % DT_AXIS_ALIGN, 0);
            n_param += dt_value_n_elem(p);
            offset = dt_round_up(offset + dt_value_n_elem(p), DT_AXIS_ALIGN);
            s++;
        }
    assert_int_equal(s, a->n_segment);
    assert_int_equal(a->n_elem, offset);
    assert_int_equal(a->n_param_elem, n_param);
    int32_t n = 0;
    for (dt_vid v = 0; v < g->n_value; v++) n += g->value[v].role == DT_ROLE_PARAM;
    assert_int_equal(n, a->n_segment);
    assert_int_equal(dt_axis_find(a, "no such parameter"), -1);
}

/* The buckets are consecutive, cut between segments, and cover the axis. */
static void check_buckets(const dt_axis *a, int32_t asked) {
    int64_t offset = 0;
    int32_t segment = 0, most = asked < a->n_segment ? asked : a->n_segment;
    assert_in_range(a->n_bucket, 1, most < DT_BUCKETS_MAX ? most : DT_BUCKETS_MAX);
    for (int32_t b = 0; b < a->n_bucket; b++) {
        const dt_bucket *k = &a->bucket[b];
        assert_true(k->n_segment > 0);
        assert_int_equal(k->first_segment, segment);
        assert_int_equal(k->offset, offset);
        assert_int_equal(k->offset, a->segment[segment].offset);
        segment += k->n_segment, offset += k->n_elem;
    }
    assert_int_equal(segment, a->n_segment);
    assert_int_equal(offset, a->n_elem);
}

static void test_order_and_buckets(void **state) {
    (void)state;
    static const int32_t asked[] = {0, 1, 2, 3, 4, 7, 64, 1000};
    for (uint64_t seed = 0; seed < 60; seed++) {
        dt_graph *g = random_graph(0, seed, true);
        dt_axis *a;
        check_ok(dt_autodiff(g));
        check_ok(dt_axis_build(g, asked[seed % 8], 0, false, &a));
        check_order(g, a);
        check_buckets(a, asked[seed % 8] > 0 ? asked[seed % 8] : 1);
        dt_axis_destroy(a);
        dt_graph_destroy(g);
    }
    dt_axis_destroy(NULL);
}

static void test_buckets_of_resnets(void **state) {
    (void)state;
    static const char *const nets[] = {"resnet18", "resnet50"};
    for (size_t k = 0; k < sizeof nets / sizeof nets[0]; k++)
        for (int32_t n = 1; n <= 6; n++) {
            dt_graph *g = model(nets[k], 3, true);
            dt_axis *a;
            check_ok(dt_axis_build(g, n, 0, false, &a));
            check_order(g, a);
            check_buckets(a, n);
            assert_int_equal(a->n_bucket, n);
            /* The last one is small: nothing is left to hide its reduction behind. */
            int64_t mean = a->n_elem / n, largest = 0;
            if (n > 1) assert_true(a->bucket[n - 1].n_elem < mean / 2);
            for (int32_t i = 0; i < a->n_segment; i++) largest = dt_max_i64(largest, a->segment[i].n_elem);
            /* The others are equal shares, up to the parameter that does not divide. */
            for (int32_t b = 0; n > 1 && b < n - 1; b++)
                assert_true(a->bucket[b].n_elem < a->n_elem / (n - 1) + largest);
            dt_axis_destroy(a);
            dt_graph_destroy(g);
        }
}

static void test_decay_by_role(void **state) {
    (void)state;
    dt_graph *g = model("resnet18", 3, true);
    dt_axis *some, *all;
    check_ok(dt_axis_build(g, 1, 0.01f, false, &some));
    check_ok(dt_axis_build(g, 1, 0.01f, true, &all));
    for (int32_t i = 0; i < some->n_segment; i++) {
        bool weight = some->param[i].ndim > 1; /* of a convolution or a dense layer */
        assert_true(some->segment[i].decay == (weight ? 0.01f : 0.0f));
        assert_true(all->segment[i].decay == 0.01f);
    }
    dt_axis_destroy(some), dt_axis_destroy(all);
    dt_graph_destroy(g);
}

static void test_assign(void **state) {
    (void)state;
    dt_graph *g = model("resnet18", 3, true), *eval = model("resnet18", 3, false);
    dt_graph *other = model("quickstart", 3, false), *wide = model("resnet18", 4, false);
    dt_axis *a;
    check_ok(dt_axis_build(g, 3, 0, false, &a));
    check_ok(dt_axis_assign(a, eval));
    for (dt_vid v = 0; v < eval->n_value; v++) {
        const dt_value *p = &eval->value[v];
        if (p->role != DT_ROLE_PARAM) continue;
        assert_int_equal(p->axis_offset, g->value[dt_graph_find(g, p->name)].axis_offset);
    }
    CHECK_ERROR(dt_axis_assign(a, other), DT_ERR_CONFIG, "conv1.weight");
    CHECK_ERROR(dt_axis_assign(a, wide), DT_ERR_CONFIG, "conv1.weight has ",
                "size of its input"); /* another shape */
    dt_axis_destroy(a);
    dt_graph_destroy(g), dt_graph_destroy(eval), dt_graph_destroy(other), dt_graph_destroy(wide);
}

static void test_no_parameters(void **state) {
    (void)state;
    dt_graph *g;
    dt_axis *a;
    check_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    CHECK_ERROR(dt_axis_build(g, 1, 0, false, &a), DT_ERR_CONFIG, "no parameters");
    dt_graph_destroy(g);
}

static void test_stored_form_round_trip(void **state) {
    (void)state;
    dt_graph *g = model("resnet18", 4, true);
    dt_axis *a;
    check_ok(dt_axis_build(g, 2, 0, false, &a));
    float *master = check_alloc((size_t)a->n_elem * sizeof *master);
    float *back = check_alloc((size_t)a->n_elem * sizeof *back);
    float *stored = check_alloc((size_t)a->n_elem * sizeof *stored);
    const int32_t stem = dt_axis_find(a, "conv1.weight");
    dt_axis_init(a, 5, master);
    for (int64_t i = 0; i < a->n_elem; i++) back[i] = 777; /* padding channels must be overwritten by 0 */
    for (int32_t i = 0; i < a->n_segment; i++) {
        const int64_t n = dt_axis_stored_elem(a, i), c = a->param[i].dim[a->param[i].ndim - 1];
        assert_int_equal(n, i == stem ? a->segment[i].n_elem / 4 * 3 : a->segment[i].n_elem);
        assert_int_equal(a->param[i].padded_c, i == stem ? 4 : c);
        stored[n] = 555;
        dt_axis_to_stored(a, i, master, stored);
        assert_true(stored[n] == 555); /* no more than it should */
        for (int64_t k = 0; k < n; k++)
            assert_true(stored[k] == master[a->segment[i].offset + k / c * a->param[i].padded_c + k % c]);
        dt_axis_from_stored(a, i, stored, back);
        assert_memory_equal(back + a->segment[i].offset, master + a->segment[i].offset,
                            (size_t)a->segment[i].n_elem * sizeof *back);
    }
    for (int64_t k = 3; k < a->segment[stem].n_elem; k += 4)
        assert_true(back[a->segment[stem].offset + k] == 0);
    assert_int_equal(a->param[stem].dim[3], 3);
    free(master), free(back), free(stored);
    dt_axis_destroy(a);
    dt_graph_destroy(g);
}

/* Mean and standard deviation of a parameter within sampling error, and its bounds. */
static void check_distribution(const dt_axis *a, const float *master, int32_t i) {
    const dt_axis_param *p = &a->param[i];
    const float *w = master + a->segment[i].offset;
    const int64_t n = a->segment[i].n_elem;
    double sum = 0, sum2 = 0, largest = 0, stddev = 0, bound = INFINITY;
    for (int64_t k = 0; k < n; k++) {
        sum += (double)w[k], sum2 += (double)w[k] * (double)w[k];
        largest = fmax(largest, fabs((double)w[k]));
    }
    double mean = sum / (double)n, deviation = sqrt(fmax(sum2 / (double)n - mean * mean, 0));
    switch (p->init) {
    case DT_INIT_ZERO:
    case DT_INIT_ONE:
    case DT_INIT_CONSTANT:
        bound = p->init == DT_INIT_CONSTANT ? (double)p->init_std : p->init == DT_INIT_ONE;
        for (int64_t k = 0; k < n; k++) assert_true(w[k] == (float)bound);
        return;
    case DT_INIT_KAIMING_NORMAL_FAN_OUT:
        stddev = sqrt(2.0 / (double)p->fan_out);
        bound = 6 * stddev;
        break;
    case DT_INIT_NORMAL:
        stddev = (double)p->init_std;
        bound = 6 * stddev;
        break;
    case DT_INIT_XAVIER_UNIFORM:
        bound = sqrt(6 / (double)(p->fan_in + p->fan_out));
        stddev = bound / sqrt(3);
        break;
    case DT_INIT_KAIMING_UNIFORM_A5:
    case DT_INIT_UNIFORM_FAN_IN:
        bound = 1 / sqrt((double)p->fan_in);
        stddev = bound / sqrt(3);
        break;
    }
    if (!(fabs(mean) < 4.5 * stddev / sqrt((double)n))) fail_msg("%s: mean %g", p->name, mean);
    if (!(fabs(deviation / stddev - 1) < 4.5 / sqrt((double)n)))
        fail_msg("%s: standard deviation %g, expected %g", p->name, deviation, stddev);
    if (!(largest <= bound)) fail_msg("%s: |w| up to %g", p->name, largest);
}

static void check_resnet(const dt_axis *a, int64_t features) {
    /* torchvision's: fan_out = 7*7*64 of the stem, fan_in = features of fc */
    const dt_axis_param *stem = &a->param[dt_axis_find(a, "conv1.weight")];
    const dt_axis_param *fc = &a->param[dt_axis_find(a, "fc.weight")];
    assert_int_equal(stem->fan_out, 7 * 7 * 64);
    assert_int_equal(stem->init, DT_INIT_KAIMING_NORMAL_FAN_OUT);
    assert_int_equal(fc->fan_in, features);
    assert_int_equal(fc->init, DT_INIT_KAIMING_UNIFORM_A5);
    assert_int_equal(a->param[dt_axis_find(a, "fc.bias")].init, DT_INIT_UNIFORM_FAN_IN);
    assert_int_equal(a->param[dt_axis_find(a, "bn1.weight")].init, DT_INIT_ONE);
    assert_int_equal(a->param[dt_axis_find(a, "bn1.bias")].init, DT_INIT_ZERO);
}

static void test_initial_weights(void **state) {
    (void)state;
    static const char *const nets[] = {"resnet18",           "resnet50",         "convnext_tiny",
                                       "mobilenet_v3_small", "vit_tiny_patch16", "vit_b_32"};
    for (size_t k = 0; k < sizeof nets / sizeof nets[0]; k++) {
        dt_graph *g = model(nets[k], 3, true);
        dt_axis *a;
        check_ok(dt_axis_build(g, 1, 0, false, &a));
        float *master = check_alloc((size_t)a->n_elem * sizeof *master);
        dt_axis_init(a, 1, master);
        for (int32_t i = 0; i < a->n_segment; i++) {
            check_distribution(a, master, i);
            int64_t end = a->segment[i].offset + a->segment[i].n_elem;
            int64_t next = i + 1 < a->n_segment ? a->segment[i + 1].offset : a->n_elem;
            for (; end < next; end++) assert_true(master[end] == 0); /* padding stays zero */
        }
        if (k < 2) check_resnet(a, k ? 2048 : 512);
        free(master);
        dt_axis_destroy(a);
        dt_graph_destroy(g);
    }
}

/* A function of seed and name alone: padding, buckets and the other layers do not matter. */
static void test_initial_weights_depend_on_seed_and_name(void **state) {
    (void)state;
    dt_graph *g[3] = {model("resnet18", 3, true), model("resnet18", 4, true), model("quickstart", 3, true)};
    dt_axis *a[3];
    float *master[3], *stored[3];
    for (int k = 0; k < 3; k++) {
        check_ok(dt_axis_build(g[k], k + 1, 0, false, &a[k]));
        master[k] = check_alloc((size_t)a[k]->n_elem * sizeof(float));
        stored[k] = check_alloc((size_t)a[k]->n_elem * sizeof(float));
        dt_axis_init(a[k], 9, master[k]);
    }
    for (int32_t i = 0; i < a[0]->n_segment; i++) {
        int32_t j = dt_axis_find(a[1], a[0]->param[i].name);
        int64_t n = dt_axis_stored_elem(a[0], i);
        assert_int_equal(dt_axis_stored_elem(a[1], j), n);
        dt_axis_to_stored(a[0], i, master[0], stored[0]);
        dt_axis_to_stored(a[1], j, master[1], stored[1]);
        assert_memory_equal(stored[0], stored[1], (size_t)n * sizeof(float));
    }
    float *again = check_alloc((size_t)a[0]->n_elem * sizeof(float));
    dt_axis_init(a[0], 9, again);
    assert_memory_equal(again, master[0], (size_t)a[0]->n_elem * sizeof(float));
    memset(again, 0, (size_t)a[0]->n_elem * sizeof(float));
    dt_axis_init(a[0], 10, again);
    int64_t equal = 0, conv = a[0]->segment[dt_axis_find(a[0], "conv1.weight")].offset;
    for (int64_t k = 0; k < 1000; k++) equal += again[conv + k] == master[0][conv + k];
    assert_true(equal < 5); /* another seed, other weights */
    /* Two layers of one shape and one seed differ too. */
    const float *l1 = master[0] + a[0]->segment[dt_axis_find(a[0], "layer1.0.conv1.weight")].offset;
    const float *l2 = master[0] + a[0]->segment[dt_axis_find(a[0], "layer1.0.conv2.weight")].offset;
    for (int64_t k = equal = 0; k < 1000; k++) equal += l1[k] == l2[k];
    assert_true(equal < 5);
    free(again);
    for (int k = 0; k < 3; k++) {
        free(master[k]), free(stored[k]);
        dt_axis_destroy(a[k]);
        dt_graph_destroy(g[k]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_buckets),
        cmocka_unit_test(test_buckets_of_resnets),
        cmocka_unit_test(test_decay_by_role),
        cmocka_unit_test(test_assign),
        cmocka_unit_test(test_no_parameters),
        cmocka_unit_test(test_stored_form_round_trip),
        cmocka_unit_test(test_initial_weights),
        cmocka_unit_test(test_initial_weights_depend_on_seed_and_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
