/* Low-rank adapters against PyTorch over ten steps (golden/lora.txt, by golden/make_lora.py), what they leave alone, and
 * merging; the other short ways of saying what is trained: model.freeze, optim.layer_decay, optim.head_lr_factor. */
#include "engine_fixture.h"

#include <unistd.h>

#include "train/export.h"
#include "train/weights.h"

enum { STEPS = 10, BATCH = 16 };

#define NETWORK                                                                                              \
    "[model]\nname = \"layers\"\n"                                                                           \
    "[[model.layers]]\ntype = \"reshape\"\nshape = [8, 16]\n"                                                \
    "[[model.layers]]\ntype = \"attention\"\nname = \"attn\"\nheads = 2\n"                                   \
    "[[model.layers]]\ntype = \"reshape\"\n"                                                                 \
    "[[model.layers]]\ntype = \"dense\"\nname = \"one\"\nchannels = 24\n"                                    \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"dense\"\nname = \"fc\"\nchannels = 5\n"                                      \
    "[train]\nglobal_batch = 16\n"                                                                           \
    "[optim]\nkind = \"adamw\"\nlr = 0.01\nweight_decay = 0.1\n"
#define LORA "[lora]\nrank = 3\nalpha = 6.0\ntrain = \"fc.*\"\n"

/* In the order of make_lora.py. */
static const struct {
    const char *name;
    int32_t ndim;
    int64_t dim[2];
} row[] = {
    {"attn.in_proj_weight", 2, {48, 16}},
    {"attn.in_proj_bias", 1, {48}},
    {"attn.out_proj.weight", 2, {16, 16}},
    {"attn.out_proj.bias", 1, {16}},
    {"one.weight", 2, {24, 128}},
    {"one.bias", 1, {24}},
    {"fc.weight", 2, {5, 24}},
    {"fc.bias", 1, {5}},
    {"attn.in_proj_lora_A.weight", 2, {3, 16}},
    {"attn.in_proj_lora_B.weight", 2, {48, 3}},
    {"attn.out_proj.lora_A.weight", 2, {3, 16}},
    {"attn.out_proj.lora_B.weight", 2, {16, 3}},
    {"one.lora_A.weight", 2, {3, 128}},
    {"one.lora_B.weight", 2, {24, 3}},
};
enum { N_ROW = sizeof row / sizeof row[0], N_BASE = 8 };

typedef struct start {
    dt_ckpt_tensor tensor[N_ROW];
    char name[N_ROW][64];
} start;

static void start_make(start *s, int n) {
    for (int64_t k = 0; k < n; k++) {
        dt_ckpt_tensor *t = &s->tensor[k];
        int64_t n_elem = 1;
        snprintf(s->name[k], sizeof s->name[k], "param/%s", row[k].name);
        *t = (dt_ckpt_tensor){.name = s->name[k], .ndim = row[k].ndim};
        memcpy(t->dim, row[k].dim, sizeof row[k].dim);
        for (int32_t d = 0; d < t->ndim; d++) n_elem *= t->dim[d];
        t->data = check_alloc((size_t)n_elem * sizeof *t->data);
        for (int64_t i = 0; i < n_elem; i++)
            t->data[i] =
                (float)((double)((i * 13 + 7 * k) % 41 - 20) / (20 * sqrt((double)t->dim[t->ndim - 1])));
    }
}

static void start_free(start *s, int n) {
    for (int k = 0; k < n; k++) free(s->tensor[k].data);
}

static dt_batch formula_batch(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end) {
    dt_batch b = batch_new(r->field, rows, 8, 8, 2);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t t = first + i * stride;
        assert_true(t < end);
        for (int64_t k = 0; k < 128; k++) batch_image(&b)[i * 128 + k] = (uint8_t)((t * 31 + k * 7) % 251);
        batch_label(&b)[i] = (int32_t)(t % 5);
    }
    b.n_valid = rows;
    return b;
}

static void near(const char *what, double got, double want, double size) {
    if (!(fabs(got - want) <= 2e-5 * size)) fail_msg("%s: %.9g, PyTorch has %.9g", what, got, want);
}

static void steps_are_pytorchs(void **state) {
    (void)state;
    rig r;
    start s;
    char name[96];
    double a, b;
    FILE *golden = fopen(DT_TEST_DATA "/lora.txt", "r");
    assert_non_null(golden);
    rig_open(&r, NETWORK LORA);
    r.batch = formula_batch;
    start_make(&s, N_ROW);
    check_ok(dt_engine_begin_with(r.e, N_ROW, s.tensor));
    for (int64_t step = 0; step < STEPS; step++) {
        rig_step(&r, step, 0.01f);
        assert_int_equal(fscanf(golden, "%95s %lf %lf", name, &a, &b), 3);
        near("loss", (double)r.result.metric[DT_METRIC_LOSS] / BATCH, a, 1);
    }
    dt_ckpt c = rig_checkpoint(&r);
    for (int k = 0; k < N_ROW; k++) {
        assert_int_equal(fscanf(golden, "%95s %lf %lf", name, &a, &b), 3);
        assert_string_equal(name, row[k].name);
        const dt_ckpt_tensor *t = dt_ckpt_find(&c, s.name[k]);
        const int64_t n = t->dim[0] * (t->ndim > 1 ? t->dim[1] : 1);
        double sum = 0, square = 0;
        for (int64_t i = 0; i < n; i++) sum += (double)t->data[i], square += pow((double)t->data[i], 2);
        near(name, square, b, b);
        near(name, sum, a, sqrt(b * (double)n));
        const bool trained = strstr(name, "lora") || strncmp(name, "fc", 2) == 0;
        assert_int_equal(memcmp(t->data, s.tensor[k].data, (size_t)n * sizeof(float)) == 0, !trained);
    }
    rig_checkpoint_free(&c);
    start_free(&s, N_ROW);
    fclose(golden);
    rig_close(&r);
}

/* Before the first step a network with adapters is the one without. */
static void begins_as_it_was(void **state) {
    (void)state;
    double with[DT_METRIC_COUNT], without[DT_METRIC_COUNT];
    static const char *const text[] = {NETWORK, NETWORK LORA,
                                       NETWORK LORA "targets = [\"attn.*\"]\ndropout = 0.5\n"};
    start s;
    start_make(&s, N_BASE);
    for (int i = 0; i < 3; i++) {
        rig r;
        rig_open(&r, text[i]);
        check_ok(dt_engine_begin_with(r.e, N_BASE, s.tensor));
        dt_batch b = formula_batch(&r, BATCH, 0, 1, BATCH);
        check_ok(dt_engine_feed(r.e, &b, true));
        check_ok(dt_engine_eval_lone(r.e, i ? with : without));
        rig_batch_free(&b);
        if (i) assert_true(with[DT_METRIC_LOSS] == without[DT_METRIC_LOSS]);
        if (i == 2) assert_int_equal(dt_engine_axis(r.e)->n_segment, 4 + 2);
        rig_close(&r);
    }
    start_free(&s, N_BASE);
}

/* A file of the merged weights gives the same network without adapters. */
static void merged_gives_the_same(void **state) {
    (void)state;
    char path[] = "/tmp/dt_lora_XXXXXX";
    const int fd = mkstemp(path);
    double adapted[DT_METRIC_COUNT], plain[DT_METRIC_COUNT];
    dt_init_options init = {.strict = true};
    dt_weights w;
    rig r, p;
    start s;
    assert_true(fd >= 0);
    close(fd);
    start_make(&s, N_ROW);
    rig_open(&r, NETWORK LORA);
    rig_open(&p, NETWORK);
    check_ok(dt_engine_begin_with(r.e, N_ROW, s.tensor));
    dt_ckpt c = rig_checkpoint(&r);
    const dt_export x = {.net = dt_engine_weights(r.e),
                         .n = c.n_tensor,
                         .tensor = c.tensor,
                         .type = DT_TENSOR_F32,
                         .config_text = "",
                         .merge = true,
                         .factor = 2};
    check_ok(dt_export_write(path, &x));
    snprintf(init.from, sizeof init.from, "%s", path);
    check_ok(dt_weights_read(dt_engine_weights(p.e), &init, &w));
    assert_int_equal(w.n, N_BASE);
    check_ok(dt_engine_begin_with(p.e, w.n, w.tensor));
    dt_batch b = formula_batch(&r, BATCH, 0, 1, BATCH);
    check_ok(dt_engine_feed(r.e, &b, true));
    check_ok(dt_engine_eval_lone(r.e, adapted));
    check_ok(dt_engine_feed(p.e, &b, true));
    check_ok(dt_engine_eval_lone(p.e, plain));
    assert_true(fabs(adapted[DT_METRIC_LOSS] - plain[DT_METRIC_LOSS]) < 1e-5 * adapted[DT_METRIC_LOSS]);
    /* A network with adapters takes the weights of one without; its adapters are drawn. */
    dt_weights_free(&w);
    check_ok(dt_weights_read(dt_engine_weights(r.e), &init, &w));
    assert_true(w.n == N_BASE && w.n_fresh == N_ROW - N_BASE);
    dt_weights_free(&w);
    rig_batch_free(&b);
    rig_checkpoint_free(&c);
    start_free(&s, N_ROW);
    rig_close(&r), rig_close(&p);
    unlink(path);
}

static void targets_that_are_none(void **state) {
    (void)state;
    rig r;
    rig_prepare(&r, NETWORK "[lora]\nrank = 3\ntrain = [\"fc.*\", \"gone.*\"]\n");
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "lora.train: \"gone.*\"", "no parameter");
    rig_close(&r);
    rig_prepare(&r, NETWORK "[lora]\nrank = 17\n");
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "lora.rank = 17", "at most 16");
    rig_close(&r);
    rig_prepare(&r, NETWORK LORA "targets = [\"attn.*\", \"two.*\"]\n");
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "lora.targets: \"two.*\"", "one.weight");
    rig_close(&r);
}

static const dt_axis_segment *segment_of(const rig *r, const char *name) {
    const dt_axis *a = dt_engine_axis(r->e);
    const int32_t i = dt_axis_find(a, name);
    assert_true(i >= 0 && i < a->n_segment);
    return &a->segment[i];
}

/* BEiT's: the head 1, the last block the factor, and so on down; groups and the head's factor multiply it. */
static void rates_by_layers(void **state) {
    (void)state;
    rig r;
    rig_open(&r, RIG_FULL_MODEL "[optim]\nlayer_decay = 0.5\nhead_lr_factor = 10.0\n"
                                "[[optim.groups]]\npattern = \"layer4.*\"\nlr_factor = 3.0\n");
    static const struct {
        const char *name;
        double factor;
    } want[] = {{"layer10.weight", 10 * 0.5},
                {"layer5.bias", 0.25},
                {"layer4.weight", 3 * 0.125},
                {"layer2.weight", 0.0625},
                {"layer1.weight", 0.03125}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const float got = segment_of(&r, want[i].name)->lr_scale;
        if (fabs((double)got - want[i].factor) > 1e-7) fail_msg("%s: %g", want[i].name, (double)got);
    }
    rig_close(&r);
}

/* The names of networks, and the layers that timm and BEiT give them. */
static void layers_of_networks(void **state) {
    (void)state;
    static const struct {
        const char *model, *name[12];
        int32_t layer[12];
    } net[] = {
        {"vit_b_16",
         {"class_token", "conv_proj.weight", "encoder.pos_embedding",
          "encoder.layers.encoder_layer_0.ln_1.weight", "encoder.layers.encoder_layer_0.mlp.0.weight",
          "encoder.layers.encoder_layer_1.ln_1.weight", "encoder.ln.weight", "heads.head.weight"},
         {0, 0, 0, 1, 1, 2, 3, 3}},
        {"vit_tiny",
         {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight",
          "blocks.10.norm1.weight", "norm.weight", "head.weight"},
         {0, 0, 0, 1, 2, 3, 3}},
        {"gpt2",
         {"transformer.wte.weight", "transformer.wpe.weight", "transformer.h.0.ln_1.weight",
          "transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.weight"},
         {0, 0, 1, 2, 3}},
        {"bert_base",
         {"bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.weight",
          "bert.encoder.layer.11.output.dense.bias", "bert.pooler.dense.weight", "classifier.weight"},
         {0, 1, 2, 3, 3}},
        {"convnext_tiny",
         {"features.0.0.weight", "features.0.1.weight", "features.1.0.layer_scale",
          "features.1.1.block.0.weight", "features.2.0.weight", "features.2.1.weight",
          "features.3.0.layer_scale", "classifier.0.weight", "classifier.2.weight"},
         {0, 0, 1, 2, 3, 3, 3, 4, 4}},
        {"resnet18",
         {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.1.conv1.weight",
          "layer2.0.downsample.0.weight", "fc.weight"},
         {0, 0, 1, 2, 3, 4}},
    };
    for (size_t i = 0; i < sizeof net / sizeof net[0]; i++) {
        dt_weight weight[12] = {{.state = false}};
        dt_weight_list list = {.weight = weight};
        while (list.n < 12 && net[i].name[list.n]) {
            snprintf(weight[list.n].name, DT_NAME_MAX, "%s", net[i].name[list.n]);
            list.n++;
        }
        assert_int_equal(dt_weight_list_layers(&list, net[i].model), net[i].layer[list.n - 1] + 1);
        for (int32_t k = 0; k < list.n; k++)
            if (weight[k].layer != net[i].layer[k])
                fail_msg("%s, %s: layer %d, not %d", net[i].model, weight[k].name, weight[k].layer,
                         net[i].layer[k]);
    }
}

/* A linear probe: the last layer alone learns, statistics stay, and training sees what evaluation sees. */
static void all_but_the_head(void **state) {
    (void)state;
    rig r;
    double eval[DT_METRIC_COUNT];
    rig_prepare(&r, RIG_FULL_MODEL "[train]\nglobal_batch = 16\n");
    r.c.model.freeze = DT_FREEZE_ALL_BUT_HEAD;
    check_ok(rig_try_open(&r, NULL, true));
    const dt_axis *a = dt_engine_axis(r.e);
    assert_int_equal(a->n_segment, 2);
    segment_of(&r, "layer10.weight"), segment_of(&r, "layer10.bias");
    const dt_ckpt before = rig_checkpoint(&r);
    dt_batch b = rig_batch(&r, 16, 0, 1, 16);
    check_ok(dt_engine_feed(r.e, &b, true));
    check_ok(dt_engine_eval_lone(r.e, eval));
    rig_batch_free(&b);
    rig_step(&r, 0, 0.1f);
    assert_true(fabs((double)r.result.metric[DT_METRIC_LOSS] - eval[DT_METRIC_LOSS]) <
                1e-5 * eval[DT_METRIC_LOSS]);
    dt_ckpt after = rig_checkpoint(&r), first = before;
    for (int32_t i = 0; i < after.n_tensor; i++) {
        const dt_ckpt_tensor *x = &after.tensor[i], *y = dt_ckpt_find(&before, x->name);
        int64_t n = 1;
        for (int32_t d = 0; d < x->ndim; d++) n *= x->dim[d];
        const bool learns = strstr(x->name, "layer10") || strncmp(x->name, "mom", 3) == 0;
        if ((memcmp(x->data, y->data, (size_t)n * sizeof(float)) != 0) != learns) fail_msg("%s", x->name);
    }
    rig_checkpoint_free(&after), rig_checkpoint_free(&first);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_pytorchs),    cmocka_unit_test(begins_as_it_was),
        cmocka_unit_test(merged_gives_the_same), cmocka_unit_test(targets_that_are_none),
        cmocka_unit_test(rates_by_layers),       cmocka_unit_test(layers_of_networks),
        cmocka_unit_test(all_but_the_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
