/* Weights from files: found by name, turned into dtrain's layouts, and one message for all that does not fit. */
#include "engine_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include "formats/safetensors.h"
#include "train/weights.h"

#define MODEL                                                                                                \
    "[model]\nname = \"layers\"\n"                                                                           \
    "[[model.layers]]\ntype = \"conv\"\nname = \"conv\"\nchannels = 6\n"                                     \
    "[[model.layers]]\ntype = \"batchnorm\"\nname = \"bn\"\n"                                                \
    "[[model.layers]]\ntype = \"maxpool\"\n"                                                                 \
    "[[model.layers]]\ntype = \"flatten\"\n"                                                                 \
    "[[model.layers]]\ntype = \"dense\"\nname = \"wide\"\nchannels = 7\n"                                    \
    "[[model.layers]]\ntype = \"dense\"\nname = \"fc\"\nchannels = 5\n"                                      \
    "[train]\nglobal_batch = 16\nema = 0.5\n"

/* The network's tensors as PyTorch has them: [K,C,R,S], and the image in a row as C H W. */
static const struct {
    const char *name;
    int32_t ndim;
    int64_t dim[4];
} file_row[] = {
    {"conv.weight", 4, {6, 2, 3, 3}},
    {"conv.bias", 1, {6}},
    {"bn.weight", 1, {6}},
    {"bn.bias", 1, {6}},
    {"bn.running_mean", 1, {6}},
    {"bn.running_var", 1, {6}},
    {"wide.weight", 2, {7, 96}},
    {"wide.bias", 1, {7}},
    {"fc.weight", 2, {5, 7}},
    {"fc.bias", 1, {5}},
};
enum { N_FILE = sizeof file_row / sizeof file_row[0] };

/* Element i of tensor k. */
static float formula(int64_t k, int64_t i) {
    return (float)((7 * k + i) % 41 - 20) / 16;
}

typedef struct draft {
    int64_t n;
    dt_file_tensor tensor[N_FILE + 2];
    char name[N_FILE + 2][64];
} draft;

static void draft_add(draft *d, const char *prefix, const char *name, int32_t ndim, const int64_t *dim,
                      int64_t k) {
    dt_file_tensor *t = &d->tensor[d->n];
    snprintf(d->name[d->n], sizeof d->name[0], "%s%s", prefix, name);
    *t = (dt_file_tensor){.name = d->name[d->n++], .type = DT_TENSOR_F32, .ndim = ndim};
    memcpy(t->dim, dim, (size_t)ndim * sizeof *dim);
    assert_true(dt_file_tensor_size(t->type, ndim, t->dim, &t->n_elem, &t->n_bytes));
    float *data = check_alloc((size_t)t->n_bytes);
    for (int64_t i = 0; i < t->n_elem; i++) data[i] = formula(k, i);
    t->data = data;
}

static void draft_make(draft *d, const char *prefix) {
    d->n = 0;
    for (int64_t k = 0; k < N_FILE; k++)
        draft_add(d, prefix, file_row[k].name, file_row[k].ndim, file_row[k].dim, k);
}

static char path[] = "/tmp/dt_weights_XXXXXX";

static void draft_write(draft *d) {
    check_ok(dt_safetensors_write(path, d->n, d->tensor, 0, NULL));
    for (int64_t i = 0; i < d->n; i++) free((void *)(uintptr_t)d->tensor[i].data);
}

static dt_init_options from_file(void) {
    dt_init_options o = {.strict = true};
    snprintf(o.from, sizeof o.from, "%s", path);
    return o;
}

static const dt_ckpt_tensor *tensor_of(const dt_weights *w, const char *name) {
    for (int32_t i = 0; i < w->n; i++)
        if (strcmp(w->tensor[i].name, name) == 0) return &w->tensor[i];
    fail_msg("%s was not taken", name);
    return NULL;
}

/* Every element where dtrain has it. */
static void check_all(const dt_weights *w) {
    assert_int_equal(w->n, N_FILE);
    const float *conv = tensor_of(w, "param/conv.weight")->data,
                *wide = tensor_of(w, "param/wide.weight")->data, *fc = tensor_of(w, "param/fc.weight")->data,
                *var = tensor_of(w, "state/bn.running_var")->data;
    for (int64_t k = 0; k < 6; k++)
        for (int64_t c = 0; c < 2; c++)
            for (int64_t rs = 0; rs < 9; rs++)
                assert_true(conv[(k * 9 + rs) * 2 + c] == formula(0, (k * 2 + c) * 9 + rs));
    for (int64_t k = 0; k < 7; k++)
        for (int64_t c = 0; c < 6; c++)
            for (int64_t hw = 0; hw < 16; hw++)
                assert_true(wide[(k * 16 + hw) * 6 + c] == formula(6, (k * 6 + c) * 16 + hw));
    for (int64_t i = 0; i < 35; i++) assert_true(fc[i] == formula(8, i));
    for (int64_t i = 0; i < 6; i++) assert_true(var[i] == formula(5, i));
}

static dt_weights read_ok(const rig *r, const dt_init_options *o) {
    dt_weights w;
    check_ok(dt_weights_read(dt_engine_weights(r->e), o, &w));
    return w;
}

static void names_and_layouts(void **state) {
    (void)state;
    rig r;
    rig_open(&r, MODEL);
    dt_init_options o = from_file();
    static const struct {
        const char *prefix, *taken_off, *rename[2];
    } row[] = {{"", "", {"", ""}},
               {"module.", "module.", {"", ""}},
               {"module._orig_mod.", "module._orig_mod.", {"", ""}},
               {"model.", "model.", {"", ""}},
               {"net.7.", "", {"net.7.*", "*"}},
               {"net.7.", "", {"net.7.", ""}},
               {"a.", "", {"a.*", "module.*"}}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        draft d;
        draft_make(&d, row[i].prefix);
        draft_write(&d);
        o.n_rename = row[i].rename[0][0] != '\0';
        for (int k = 0; k < 2; k++) snprintf(o.rename[0][k], DT_NAME_MAX, "%s", row[i].rename[k]);
        dt_weights w = read_ok(&r, &o);
        check_all(&w);
        if (i + 1 < sizeof row / sizeof row[0]) assert_string_equal(w.taken_off, row[i].taken_off);
        assert_true(w.n_fresh == 0 && w.n_ignored == 0);
        dt_weights_free(&w);
    }
    rig_close(&r);
}

static void shapes_that_mean_the_same(void **state) {
    (void)state;
    rig r;
    rig_open(&r, MODEL);
    dt_init_options o = from_file();
    draft d;
    draft_make(&d, "");
    d.tensor[8].dim[0] = 7, d.tensor[8].dim[1] = 5; /* fc.weight as [in, out] */
    d.tensor[7].ndim = 2, d.tensor[7].dim[0] = 1, d.tensor[7].dim[1] = 7;
    draft_write(&d);
    dt_weights w = read_ok(&r, &o);
    assert_int_equal(w.n_transposed, 1);
    const float *fc = tensor_of(&w, "param/fc.weight")->data;
    for (int64_t k = 0; k < 5; k++)
        for (int64_t c = 0; c < 7; c++) assert_true(fc[k * 7 + c] == formula(8, c * 5 + k));
    dt_weights_free(&w);
    rig_close(&r);
}

/* Matrices that files of the network turn; a square one lies as the others do. */
static void square_ones_lie_as_the_others(void **state) {
    (void)state;
    dt_weight own[2] = {
        {.name = "wide.weight", .ndim = 2, .dim = {6, 2}, .n_elem = 12, .layout = DT_WEIGHT_TRANSPOSED},
        {.name = "square.weight", .ndim = 2, .dim = {3, 3}, .n_elem = 9, .layout = DT_WEIGHT_TRANSPOSED}};
    const dt_weight_list net = {.n = 2, .weight = own};
    const dt_init_options o = from_file();
    for (int here = 0; here < 2; here++) {
        draft d = {.n = 0};
        dt_weights w;
        draft_add(&d, "", "wide.weight", 2, here ? (int64_t[]){6, 2} : (int64_t[]){2, 6}, 0);
        draft_add(&d, "", "square.weight", 2, (int64_t[]){3, 3}, 1);
        draft_write(&d);
        check_ok(dt_weights_read(&net, &o, &w));
        const float *square = tensor_of(&w, "param/square.weight")->data;
        for (int64_t i = 0; i < 3; i++)
            for (int64_t k = 0; k < 3; k++)
                assert_true(square[i * 3 + k] == formula(1, here ? i * 3 + k : k * 3 + i));
        dt_weights_free(&w);
    }
}

static void one_message_for_all(void **state) {
    (void)state;
    rig r;
    dt_weights w;
    rig_open(&r, MODEL);
    dt_init_options o = from_file();
    draft d;
    draft_make(&d, "");
    draft_add(&d, "", "extra.weight", 1, (int64_t[]){3}, 30);
    draft_add(&d, "", "bn.num_batches_tracked", 0, NULL, 31);
    d.tensor[9].dim[0] = 1000, d.tensor[9].n_elem = 1000, d.tensor[9].n_bytes = 4000;
    free((void *)(uintptr_t)d.tensor[9].data);
    d.tensor[9].data = check_alloc(4000);
    d.tensor[1].name = "conv.bia";
    draft_write(&d);
    CHECK_ERROR(dt_weights_read(dt_engine_weights(r.e), &o, &w), DT_ERR_CONFIG, path,
                "of another shape (1): fc.bias [1000] instead of [5]", "missing (1): conv.bias",
                "not of this network (2): conv.bia, extra.weight; for other classes",
                "model.init_strict = false");
    dt_weights_free(&w);
    o.strict = false;
    CHECK_ERROR(dt_weights_read(dt_engine_weights(r.e), &o, &w), DT_ERR_CONFIG, "of another shape (1)");
    dt_weights_free(&w);
    o.head = DT_INIT_HEAD_NEW;
    w = read_ok(&r, &o);
    assert_true(w.n == N_FILE - 3 && w.n_fresh == 3 && w.n_ignored == 2);
    assert_string_equal(w.fresh[0], "conv.bias");
    assert_string_equal(w.fresh[1], "fc.weight");
    assert_string_equal(w.ignored[0], "conv.bia");
    dt_weights_free(&w);
    o.strict = true;
    CHECK_ERROR(dt_weights_read(dt_engine_weights(r.e), &o, &w), DT_ERR_CONFIG, "missing (1): conv.bias");
    dt_weights_free(&w);
    o.n_rename = 1;
    strcpy(o.rename[0][0], "*"), strcpy(o.rename[0][1], "x.*");
    CHECK_ERROR(dt_weights_read(dt_engine_weights(r.e), &o, &w), DT_ERR_CONFIG, "none of its 12 tensors",
                "x.bn.bias", "conv.weight");
    dt_weights_free(&w);
    strcpy(o.rename[0][1], "x");
    CHECK_ERROR(dt_weights_read(dt_engine_weights(r.e), &o, &w), DT_ERR_CONFIG, "would both be x");
    dt_weights_free(&w);
    rig_close(&r);
}

/* The weights of the run are the file's, its averages too; what is frozen as well. */
static void runs_begin_with_them(void **state) {
    (void)state;
    static const char *const groups[] = {"", "[[optim.groups]]\npattern = \"conv.*\"\nfrozen = true\n"};
    for (size_t i = 0; i < 2; i++) {
        char text[2048];
        rig r;
        const dt_init_options o = from_file();
        draft d;
        draft_make(&d, "");
        draft_write(&d);
        snprintf(text, sizeof text, "%s%s", MODEL, groups[i]);
        rig_open(&r, text);
        dt_weights w = read_ok(&r, &o);
        check_ok(dt_engine_begin_with(r.e, w.n, w.tensor));
        dt_ckpt c = rig_checkpoint(&r);
        for (int32_t k = 0; k < w.n; k++) {
            char average[128];
            const dt_ckpt_tensor *own = dt_ckpt_find(&c, w.tensor[k].name);
            int64_t n = 1;
            for (int32_t b = 0; b < own->ndim; b++) n *= own->dim[b];
            assert_memory_equal(own->data, w.tensor[k].data, (size_t)n * sizeof(float));
            snprintf(average, sizeof average, "ema/%s", strchr(w.tensor[k].name, '/') + 1);
            const dt_ckpt_tensor *ema = dt_ckpt_find(&c, average);
            assert_true(ema || (i == 1 && strstr(average, "conv")));
            if (ema) assert_memory_equal(ema->data, w.tensor[k].data, (size_t)n * sizeof(float));
        }
        rig_checkpoint_free(&c);
        dt_weights_free(&w);
        rig_close(&r);
    }
}

static void head_is_the_last_layer(void **state) {
    (void)state;
    rig r;
    rig_open(&r, MODEL);
    const dt_weight_list *list = dt_engine_weights(r.e);
    assert_int_equal(list->n, N_FILE);
    for (int32_t i = 0; i < list->n; i++)
        assert_int_equal(list->weight[i].head, strncmp(list->weight[i].name, "fc.", 3) == 0);
    rig_close(&r);
}

/* A table of positions for other images, beside PyTorch's interpolate of these nine places. */
static void positions_of_other_images(void **state) {
    (void)state;
    static const float place[9] = {1, -2, 0.5F, 0.25F, 3, -1, 2, 0, -0.5F};
    static const double want[16] = {
        1.2987889647483826,  -1.4550230503082275, -1.6648173928260803, 0.8205972909927368,
        0.24188238382339478, 1.319838523864746,   0.9237261414527893,  -0.6609905958175659,
        0.6783464550971985,  2.2458035945892334,  1.4074872136116028,  -1.2324577569961548,
        2.293636977672577,   0.6555619239807129,  -0.5621636509895325, -0.4819680452346802};
    enum { C = 192 };
    rig r;
    rig_open(&r, "[model]\nname = \"vit_tiny_patch16\"\npatch = 2\n[train]\nglobal_batch = 16\n");
    dt_init_options o = from_file();
    o.strict = false;
    for (int64_t rows = 10; rows >= 9; rows--) {
        draft d = {.n = 0};
        draft_add(&d, "", "pos_embed", 3, (int64_t[]){1, rows, C}, 0);
        float *table = (float *)(uintptr_t)d.tensor[0].data;
        for (int64_t i = 0; i < rows * C; i++)
            table[i] = i < C ? (float)i : place[i / C - 1] * (float)(1 + i % C);
        draft_write(&d);
        dt_weights w;
        const dt_status st = dt_weights_read(dt_engine_weights(r.e), &o, &w);
        if (rows == 9) { /* eight places are no square */
            CHECK_ERROR(st, DT_ERR_CONFIG, "of another shape (1): pos_embed [1,9,192] instead of [1,17,192]");
        } else {
            check_ok(st);
            assert_true(w.grid[0][0] == 3 && w.grid[0][1] == 3 && w.grid[1][0] == 4 && w.grid[1][1] == 4);
            const float *own = tensor_of(&w, "param/pos_embed")->data;
            for (int64_t i = 0; i < C; i++) assert_true(own[i] == (float)i);
            for (int64_t i = 0; i < 16 * C; i++) {
                const double v = want[i / C] * (double)(1 + i % C);
                assert_true(fabs((double)own[C + i] - v) <= 2e-6 * (double)(1 + i % C));
            }
        }
        dt_weights_free(&w);
    }
    rig_close(&r);
}

static int make_file(void **state) {
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_layouts),
        cmocka_unit_test(shapes_that_mean_the_same),
        cmocka_unit_test(square_ones_lie_as_the_others),
        cmocka_unit_test(one_message_for_all),
        cmocka_unit_test(runs_begin_with_them),
        cmocka_unit_test(head_is_the_last_layer),
        cmocka_unit_test(positions_of_other_images),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
