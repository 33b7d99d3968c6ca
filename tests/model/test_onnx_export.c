/* Built-in networks as ONNX models: what is written is read, computes what the network computes, and trains on as it
 * was.
 *
 *     test_onnx_export                      the small ones, by the plain evaluator
 *     test_onnx_export DIRECTORY [--whole] [NAME...]  every network, or these: NAME.onnx with its inputs and outputs, for
 *                                           bench/check_export.py; the largest with few of their blocks, or whole */
#include <stdio.h>
#include <unistd.h>

#include "core/compile.h"
#include "cpu/cpu.h"
#include "model/model_table.h"
#include "model/onnx_export.h"
#include "onnx/op.h"
#include "test_model.h"

static const double tolerance = 1e-5; /* of outputs, relative to the largest */

enum { ROWS = 2, STEPS = 24, VOCAB = 500, CLASSES = 10, FIELDS = DT_TOKEN_FIELDS };

/* A network with weights and inputs. */
typedef struct network {
    const dt_model_row *row;
    dt_model_options options;
    dt_model_input in;
    dt_field field[FIELDS];
    dt_backend *be;
    dt_axis *axis;
    dt_program *program;
    dt_store *store;
    dt_weight_list weights;
    int64_t n_tensor;
    dt_file_tensor *tensor;
} network;

/* A number in [-1, 1) of a stream that is quick: networks have many weights. */
static float number(check_rng *r) {
    r->stream = r->stream * 6364136223846793005u + 1442695040888963407u;
    return (float)(r->stream >> 40) / 8388608 - 1;
}

static dt_graph *graph_of(network *n, int64_t rows, bool training) {
    dt_graph *g;
    n->in.batch = rows;
    check_ok(dt_model_build(&n->options, &n->in, DT_DTYPE_F32, training, &g));
    return g;
}

/* Matrices of variance 1 / fan_in; of vectors weights near 1, others near 0; variances positive. */
static void fill_weight(check_rng *r, const char *name, int64_t n, int64_t first, float *out) {
    const size_t length = strlen(name);
    const bool scale = (length >= 6 && strcmp(name + length - 6, "weight") == 0) || strstr(name, "_var");
    const float factor = n > first ? (float)sqrt(3.0 * (double)first / (double)n) : 0.2f;
    for (int64_t i = 0; i < n; i++) out[i] = factor * number(r) + (n == first && scale ? 1 : 0);
}

static float *state_of(const network *n, int32_t k) {
    return (float *)((char *)n->store->arena[DT_ARENA_STATE] + n->store->state[k].offset_bytes);
}

static void fill_weights(network *n) {
    check_rng r = {.stream = 7};
    float *master = n->store->arena[DT_ARENA_MASTER];
    for (int32_t k = 0; k < n->axis->n_segment; k++)
        fill_weight(&r, n->axis->param[k].name, n->axis->segment[k].n_elem, n->axis->param[k].dim[0],
                    master + n->axis->segment[k].offset);
    for (int32_t k = 0; k < n->store->n_state; k++)
        fill_weight(&r, n->store->state[k].name, n->store->state[k].n_elem, n->store->state[k].n_elem,
                    state_of(n, k));
}

/* The weights as files have them. */
static void list_tensors(network *n) {
    n->tensor = check_alloc((size_t)n->weights.n * sizeof *n->tensor);
    for (int32_t i = 0; i < n->weights.n; i++) {
        const dt_weight *w = &n->weights.weight[i];
        const int32_t k = w->state ? -1 : dt_axis_find(n->axis, w->name);
        const float *from =
            w->state ? NULL : (const float *)n->store->arena[DT_ARENA_MASTER] + n->axis->segment[k].offset;
        for (int32_t s = 0; w->state && s < n->store->n_state; s++)
            if (strcmp(n->store->state[s].name, w->name) == 0) from = state_of(n, s);
        float *data = check_alloc((size_t)w->n_elem * sizeof *data);
        dt_file_tensor *t = &n->tensor[n->n_tensor++];
        *t = (dt_file_tensor){.name = w->name, .type = DT_TENSOR_F32, .data = data};
        t->ndim = dt_weight_file_dims(w, t->dim);
        assert_true(dt_file_tensor_size(t->type, t->ndim, t->dim, &t->n_elem, &t->n_bytes));
        dt_weight_to_file(w, from, data);
    }
}

/* `side`: of an image. */
static void open_network(network *n, const char *name, int64_t side, const char *keys) {
    char text[512];
    check_ok(dt_model_get(name, &n->row));
    snprintf(text, sizeof text, "[model]\nname = \"%s\"\ntask = \"%s\"\n%s", name, n->row->task, keys);
    check_model_options(&n->options, text);
    n->in = dt_model_published(n->row, n->field);
    if (n->in.n_field > 0) {
        dt_model_token_fields(&dt_task_table[dt_task_named(n->row->task)], STEPS, n->field);
        n->in.n_vocab = VOCAB;
    } else {
        n->in.height = n->in.width = side;
    }
    if (n->in.classes > CLASSES) n->in.classes = CLASSES;
    for (int i = 0; i < 4; i++) n->in.mean[i] = 0.5f, n->in.stddev[i] = 0.25f;
    check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 2}, &n->be));
    const dt_compile_options c = {.be = n->be, .fuse = true, .axis = {.n_bucket = 1}};
    dt_graph *training = graph_of(n, ROWS, true);
    check_ok(dt_weight_list_make(training, &n->weights));
    dt_weight_list_settle(&n->weights, name);
    check_ok(dt_compile(training, &c, &n->axis, NULL));
    check_ok(dt_compile(graph_of(n, ROWS, false), &c, &n->axis, &n->program));
    check_ok(dt_store_create(n->be, n->axis, n->program->graph, &(dt_store_options){.compute = DT_DTYPE_F32},
                             &n->store));
    check_ok(dt_program_bind(n->program, n->store, NULL));
    fill_weights(n);
    list_tensors(n);
}

static void close_network(network *n) {
    for (int64_t i = 0; i < n->n_tensor; i++) free((void *)(uintptr_t)n->tensor[i].data);
    free(n->tensor);
    dt_weight_list_free(&n->weights);
    dt_program_destroy(n->program);
    dt_store_destroy(n->store);
    dt_axis_destroy(n->axis);
    n->be->destroy(n->be);
    dt_model_options_fini(&n->options);
}

static dt_onnx_model *export_network(network *n) {
    dt_onnx_model *m;
    dt_graph *g = graph_of(n, DT_ONNX_EXPORT_ROWS, false);
    const dt_tensor_note note = {"network", n->row->name};
    const dt_onnx_export o = {
        .graph = g, .net = &n->weights, .n = n->n_tensor, .tensor = n->tensor, .n_note = 1, .note = &note};
    check_ok(dt_onnx_export_graph(&o, &m));
    dt_graph_destroy(g);
    return m;
}

/* An input of the model, of the network's rows, and the same in the network. */
static dt_host_tensor feed(network *n, const dt_onnx_value_info *info, check_rng *r) {
    dt_host_tensor t = {.type = info->type, .ndim = info->ndim};
    for (int32_t d = 0; d < t.ndim; d++) t.dim[d] = info->dim[d] < 0 ? ROWS : info->dim[d];
    const int64_t count = dt_host_n_elem(&t);
    const dt_vid v = dt_graph_input(n->program->graph, info->name);
    assert_true(v >= 0);
    assert_int_equal(dt_value_n_elem(&n->program->graph->value[v]), count);
    void *own = dt_program_address(n->program, v);
    t.data = check_alloc((size_t)dt_host_bytes(&t));
    for (int64_t i = 0; i < count; i++) {
        if (strcmp(info->name, "image") == 0) { /* N H W C there, N C H W here */
            const int64_t c = i % t.dim[1], at = i / t.dim[1], area = t.dim[2] * t.dim[3];
            const uint8_t pixel = (uint8_t)check_u32(r);
            ((uint8_t *)own)[i] = pixel;
            ((float *)t.data)[(at / area * t.dim[1] + c) * area + at % area] =
                ((float)pixel / 255 - n->in.mean[c]) / n->in.stddev[c];
        } else if (t.type == DT_TENSOR_I64) {
            ((int64_t *)t.data)[i] = ((int32_t *)own)[i] = (int32_t)check_below(r, VOCAB);
        } else {
            ((float *)t.data)[i] = ((float *)own)[i] = number(r);
        }
    }
    return t;
}

/* Output number `at` of the last run, in the model's order: images are N C H W. The caller frees it. */
static float *result(const network *n, int32_t at, int64_t *count) {
    const dt_graph *g = n->program->graph;
    const dt_value *v = &g->value[g->output[at].value];
    const float *own = dt_program_address(n->program, g->output[at].value);
    *count = dt_value_n_elem(v);
    float *y = check_alloc((size_t)*count * sizeof *y);
    const int64_t c = v->ndim == 4 ? v->dim[3] : 1, area = v->ndim == 4 ? v->dim[1] * v->dim[2] : 1;
    for (int64_t i = 0; i < *count; i++) {
        const int64_t pixel = i / c;
        y[(pixel / area * c + i % c) * area + pixel % area] = own[i];
    }
    return y;
}

static double largest_error(const float *got, const float *want, int64_t n) {
    double most = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        error = fmax(error, isfinite(got[i]) ? fabs((double)got[i] - (double)want[i]) : INFINITY);
    }
    return error / fmax(most, 1e-30);
}

/* ---- the small ones ---- */

static void check_network(const char *name, int64_t side, const char *keys) {
    network n = {.row = NULL};
    dt_host_tensor in[4], out[4];
    dt_onnx_model *m, *again;
    dt_onnx_eval *eval;
    check_rng r = {.stream = 11};
    char path[] = "/tmp/dt_export_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    open_network(&n, name, side, keys);
    m = export_network(&n);
    check_ok(dt_onnx_write(m, path));
    check_ok(dt_onnx_read(path, &again));
    unlink(path);
    check_ok(dt_onnx_check_ops(again));
    for (int32_t i = 0; i < again->graph.n_constant;
         i++) { /* weights have the names and numbers of checkpoints */
        const dt_onnx_tensor *t = &again->graph.constant[i];
        for (int64_t k = 0; k < n.n_tensor; k++)
            if (strcmp(t->name, n.tensor[k].name) == 0)
                assert_memory_equal(t->data, n.tensor[k].data, (size_t)t->n_bytes);
    }
    assert_true(again->graph.n_in <= 4 && again->graph.n_out <= 4);
    for (int32_t i = 0; i < again->graph.n_in; i++) in[i] = feed(&n, &again->graph.in[i], &r);
    check_ok(dt_program_run(n.program, NULL, NULL));
    check_ok(dt_onnx_eval_create(again, (int64_t)4 << 30, &eval));
    check_ok(dt_onnx_eval_run(eval, in, out));
    for (int32_t i = 0; i < again->graph.n_out; i++) {
        int64_t count;
        float *want = result(&n, i, &count);
        assert_int_equal(dt_host_n_elem(&out[i]), count);
        const double error = largest_error(out[i].data, want, count);
        print_message("%s: %d nodes, largest error %.2g\n", name, again->graph.n_node, error);
        assert_true(error < tolerance);
        free(want);
    }
    for (int32_t i = 0; i < again->graph.n_in; i++) free(in[i].data);
    dt_onnx_eval_destroy(eval);
    dt_onnx_model_free(m), dt_onnx_model_free(again);
    close_network(&n);
}

static void networks_are_the_same(void **state) {
    (void)state;
    static const struct {
        const char *name, *keys;
        int64_t side;
    } row[] = {{"quickstart", "", 28},
               {"mlp", "", 28},
               {"autoencoder", "", 28},
               {"conv_autoencoder", "", 28},
               {"resnet18", "", 32},
               {"mobilenet_v3_small", "", 32},
               {"efficientnet_b0", "", 32},
               {"convnext_tiny", "", 32},
               {"vit_tiny_patch16", "", 32},
               {"deit_tiny_distilled", "", 32},
               {"gpt2", "blocks = 2\n", 0},
               {"llama_15m", "", 0},
               {"smollm_135m", "blocks = 2\n", 0},
               {"bert_tiny", "", 0},
               {"lstm_lm", "", 0},
               {"gru_lm", "", 0},
               {"lstm_classifier", "", 0}};
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++)
        check_network(row[k].name, row[k].side, row[k].keys);
}

/* ---- all, as files ---- */

static void put_raw(const char *dir, const char *name, const char *what, const char *value, const void *data,
                    int64_t bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s.%s.%s", dir, name, what, value);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, (size_t)bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

/* Sizes at which a network is quick to compute, and its largest have fewer blocks, unless they are to be whole. */
static void put_network(const char *dir, const dt_model_row *row, bool whole) {
    enum { MUCH = 400000000 };
    network n = {.row = NULL};
    char path[512];
    check_rng r = {.stream = 11};
    dt_field field[FIELDS];
    dt_model_options o;
    dt_graph *g;
    dt_section_defaults(&dt_model_section, &o);
    o.task = dt_task_named(row->task);
    snprintf(o.name, sizeof o.name, "%s", row->name);
    const dt_model_input in = dt_model_published(row, field);
    check_ok(dt_model_build(&o, &in, DT_DTYPE_F32, false, &g));
    const bool large = !whole && dt_model_n_param(g) > MUCH;
    dt_graph_destroy(g);
    const bool patch14 = strstr(row->name, "14") != NULL;
    open_network(&n, row->name, row->input == 28 ? 28 : patch14 ? 56 : 64, large ? "blocks = 6\n" : "");
    dt_onnx_model *m = export_network(&n);
    snprintf(path, sizeof path, "%s/%s.onnx", dir, row->name);
    check_ok(dt_onnx_write(m, path));
    for (int32_t i = 0; i < m->graph.n_in; i++) {
        dt_host_tensor t = feed(&n, &m->graph.in[i], &r);
        put_raw(dir, row->name, "in", m->graph.in[i].name, t.data, dt_host_bytes(&t));
        free(t.data);
    }
    check_ok(dt_program_run(n.program, NULL, NULL));
    for (int32_t i = 0; i < m->graph.n_out; i++) {
        int64_t count;
        float *y = result(&n, i, &count);
        put_raw(dir, row->name, "out", m->graph.out[i].name, y, count * (int64_t)sizeof *y);
        free(y);
    }
    printf("%s%s\n", row->name, large ? " (6 blocks)" : "");
    dt_onnx_model_free(m);
    close_network(&n);
}

int main(int argc, char **argv) {
    const bool whole = argc > 2 && strcmp(argv[2], "--whole") == 0;
    for (int i = 0; argc > 1 && i < dt_model_count; i++) {
        bool named = argc == 2 + whole;
        for (int k = 2 + whole; k < argc; k++) named |= strcmp(argv[k], dt_model_table[i].name) == 0;
        if (named && dt_model_table[i].input > 0) put_network(argv[1], &dt_model_table[i], whole);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(networks_are_the_same)};
    return argc > 1 ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}
