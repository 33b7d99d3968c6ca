/* Erased and mixed images and the losses of mixed labels against torchvision and timm (tests/golden/make_augment.py). */
#include "op_cases.h"
#include "test_check.h"

#include "cpu/cpu.h"
#include "data/h5.h"

static dt_backend *be;
static dt_h5 *golden;

static int setup(void **state) {
    (void)state;
    op_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 2}, &be));
    op_ok(dt_h5_open(DT_TEST_DATA "/augment.h5", &golden));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    op_ok(dt_h5_close(golden));
    be->destroy(be);
    return 0;
}

static void *load(const char *name, dt_h5_info *info) {
    dt_h5_info own;
    if (!info) info = &own;
    op_ok(dt_h5_info_get(golden, name, info));
    void *data = op_zalloc(info->n_elem * (int64_t)dt_dtype_size(info->dtype));
    op_ok(dt_h5_read(golden, name, info->dtype, info->n_elem, data));
    return data;
}

static dt_vid add(dt_graph *g, const char *name, dt_role role, dt_dtype type, int32_t ndim,
                  const int64_t *dim) {
    dt_vid v;
    op_ok(dt_graph_add_value(g, name, role, type, ndim, dim, &v));
    return v;
}

static void expect(op_run *r, dt_vid v, const char *name) {
    dt_h5_info info;
    float *want = load(name, &info), *got = op_read(r, v);
    assert_int_equal(dt_value_n_elem(&r->g->value[v]), info.n_elem);
    op_expect_close(got, want, info.n_elem, 1e-5, name);
    free(want), free(got);
}

static void check_images(const char *name, float share, dt_box box) {
    enum { N = 5, H = 6, W = 7 };
    dt_graph *g = NULL;
    dt_vid out;
    dt_mix mix[N];
    const dt_attr attr = {.input.size = {H, W}, .input.padded_c = 3, OP_NORMAL};
    for (int32_t i = 0; i < N; i++) mix[i] = (dt_mix){.partner = N - 1 - i, .share = share, .box = box};
    mix[1].erase = (dt_box){1, 2, 4, 6};
    mix[3].erase = (dt_box){0, 0, 2, 5};
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    const dt_vid image = add(g, "image", DT_ROLE_INPUT, DT_DTYPE_U8, 4, (int64_t[]){N, H, W, 3}),
                 rows = add(g, "mix", DT_ROLE_INPUT, DT_DTYPE_I32, 2, (int64_t[]){N, DT_MIX_INTS});
    op_ok(dt_graph_add_node(g, "input", DT_OP_INPUT, &attr, 3, (dt_vid[]){image, -1, rows}, &out));
    op_run r = op_run_open(be, g, &op_step, false);
    uint8_t *pixel = load("mixed/image", NULL);
    op_write_bytes(&r, image, pixel);
    op_write_bytes(&r, rows, mix);
    op_run_go(&r);
    expect(&r, out, name);
    free(pixel);
    op_run_close(&r);
    dt_graph_destroy(g);
}

static void test_images(void **state) {
    (void)state;
    check_images("mixed/mixup", 0.3f, (dt_box){0, 0, 0, 0});
    check_images("mixed/cutmix", 1, (dt_box){2, 3, 5, 7});
}

/* Rows are mixed with those as far from the end; the gradient is that of the sum. */
static void check_loss(const char *name) {
    enum { N = 6, K = 9 };
    char path[96];
    dt_graph *g = NULL;
    dt_vid out, din[DT_SLOTS_IN_MAX];
    dt_h5_info info;
    bool want[DT_SLOTS_IN_MAX] = {true};
    snprintf(path, sizeof path, "loss/%s/told", name);
    float *told = load(path, NULL), *logit = load("loss/logits", &info), shares[N];
    int32_t *label = load("loss/label", NULL), partner[N];
    for (int i = 0; i < N; i++) partner[i] = label[N - 1 - i], shares[i] = told[0];
    const dt_attr attr = {
        .loss = {.weight = 1, .smoothing = told[1], .binary = told[2] > 0, .threshold = told[3]}};
    assert_true(info.dim[0] == N && info.dim[1] == K);
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    const dt_vid in[] = {add(g, "logits", DT_ROLE_INPUT, DT_DTYPE_F32, 2, (int64_t[]){N, K}),
                         add(g, "label", DT_ROLE_INPUT, DT_DTYPE_I32, 1, (int64_t[]){N}),
                         add(g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1, (int64_t[]){DT_METRIC_COUNT}),
                         -1,
                         add(g, "partner", DT_ROLE_INPUT, DT_DTYPE_I32, 1, (int64_t[]){N}),
                         add(g, "share", DT_ROLE_INPUT, DT_DTYPE_F32, 1, (int64_t[]){N})};
    op_ok(dt_graph_add_node(g, "loss", DT_OP_XENT, &attr, 6, in, &out));
    for (int k = 0; k < DT_SLOTS_IN_MAX; k++) din[k] = -1;
    op_ok(dt_op_get(DT_OP_XENT)->grad(g, 0, (dt_vid[]){-1, -1}, want, din));
    const dt_step_params step = {.loss_weight = 1, .loss_scale = 1};
    op_run r = op_run_open(be, g, &step, false);
    op_write(&r, in[0], logit);
    op_write_bytes(&r, in[1], label);
    op_write_bytes(&r, in[4], partner);
    op_write(&r, in[5], shares);
    op_run_go(&r);
    snprintf(path, sizeof path, "loss/%s/rows", name);
    expect(&r, out, path);
    snprintf(path, sizeof path, "loss/%s/grad", name);
    expect(&r, din[0], path);
    free(told), free(logit), free(label);
    op_run_close(&r);
    dt_graph_destroy(g);
}

static void test_losses(void **state) {
    (void)state;
    static const char *const names[] = {"cross_entropy", "cross_entropy_smooth", "bce", "bce_alone",
                                        "bce_threshold"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check_loss(names[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_images), cmocka_unit_test(test_losses)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
