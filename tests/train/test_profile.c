/* Profiles: what the table holds of every kernel, that the engine is as it was afterwards, and the trace as
 * its readers see it. */
#include <jansson.h>
#include <unistd.h>

#include "core/op.h"
#include "engine_fixture.h"
#include "json_text.h"
#include "core/out_file.h"
#include "trace_write.h"
#include "train/profile.h"

static const char config[] = "[train]\nglobal_batch = 24\nmicro_batch = 8\nema = 0.9\n"
                             "[optim]\nkind = \"momentum\"\nlr = 0.05\n" RIG_FULL_MODEL;
enum { N_MICRO = 3, STEPS = 4 };

static dt_status step(void *arg, int64_t number, double *wait_s) {
    *wait_s = 0.25; /* pretended */
    const double begin_s = dt_trace_begin();
    const dt_status st = rig_try_step(arg, 0, 1, number, 0.05f);
    dt_trace_end(begin_s, "rig \"step\"\n", number);
    return st;
}

static void take(rig *r, dt_trace *trace, dt_profile *p) {
    const dt_profile_options o = {.steps = STEPS, .step = step, .arg = r, .trace = trace};
    check_ok(dt_profile_engine(r->e, &o, p));
}

static const dt_profile_row *row(const dt_profile *p, const char *name) {
    for (int32_t i = 0; i < p->n_row; i++)
        if (strcmp(p->row[i].name, name) == 0) return &p->row[i];
    fail_msg("no row %s", name);
    return NULL;
}

static void every_kernel_is_told_with_its_work(void **state) {
    (void)state;
    rig r;
    dt_profile p;
    rig_open(&r, config);
    take(&r, NULL, &p);
    const dt_program *program = dt_engine_program(r.e, false);
    const dt_graph *g = program->graph;
    int32_t n_node = 0;
    for (int32_t i = 0; i < program->n_kernel; i++) {
        const dt_node *n = &g->node[program->kernel[i].node];
        const dt_profile_row *x = row(&p, g->value[n->out[0]].name);
        const dt_profile_phase phase =
            n->phase == DT_PHASE_FORWARD ? DT_PROFILE_FORWARD : DT_PROFILE_BACKWARD;
        assert_string_equal(x->op, dt_op_get(n->op)->name);
        assert_string_equal(x->label, program->kernel[i].label);
        assert_int_equal(x->n_call, N_MICRO);
        assert_true(x->bytes == N_MICRO * dt_op_bytes(g, n) && x->flops == N_MICRO * dt_op_flops(g, n));
        assert_true(x->seconds > 0 && x->phase_s[phase] == x->seconds);
        n_node++;
    }
    assert_int_equal(row(&p, "accumulate")->n_call, N_MICRO * dt_engine_axis(r.e)->n_bucket);
    assert_int_equal(row(&p, "optimizer")->n_call, 1);
    assert_int_equal(row(&p, "average statistics")->n_call, 1);
    assert_true(row(&p, "optimizer")->phase_s[DT_PROFILE_UPDATE] > 0);
    assert_true(row(&p, "gradient norm")->bytes == 4.0 * (double)dt_engine_axis(r.e)->n_elem);
    assert_int_equal(p.n_row, n_node + 4);
    for (int32_t i = 1; i < p.n_row; i++) assert_true(p.row[i - 1].seconds >= p.row[i].seconds);
    dt_profile_free(&p);
    rig_close(&r);
}

/* Each step's kernels and gaps lie within it, so their medians do. */
static void parts_do_not_exceed_the_step(void **state) {
    (void)state;
    rig r;
    dt_profile p;
    rig_open(&r, config);
    take(&r, NULL, &p);
    double phases_s = 0;
    for (int k = 0; k < DT_PROFILE_PHASES; k++) {
        assert_true(p.phase_s[k] > 0 && p.phase_s[k] <= p.kernel_s);
        phases_s += p.phase_s[k];
    }
    assert_true(p.kernel_s > 0 && p.kernel_s < p.profiled_step_s);
    assert_true(phases_s < STEPS * p.kernel_s);
    assert_true(p.gap_s > 0 && p.gap_s < p.profiled_step_s);
    assert_true(p.exchange_s >= 0 && p.exchange_s < p.profiled_step_s);
    assert_true(p.step_s > 0 && p.wait_s == 0.25);
    assert_true(p.copy_bytes_per_s > 1e6 && p.product_flops_per_s > 1e6);
    assert_int_equal(p.n_step, STEPS);
    assert_int_equal(p.n_micro, N_MICRO);
    dt_profile_free(&p);
    rig_close(&r);
}

static void a_profiled_engine_trains_the_same_and_goes_on(void **state) {
    (void)state;
    rig a, b;
    dt_profile p;
    rig_open(&a, config);
    rig_open(&b, config);
    take(&a, NULL, &p);
    const int64_t n = dt_profile_n_steps(STEPS);
    for (int64_t s = 0; s < n; s++) rig_step(&b, s, 0.05f);
    assert_true(rig_hash(&a) == rig_hash(&b));
    rig_step(&a, n, 0.05f);
    rig_step(&b, n, 0.05f);
    assert_true(rig_hash(&a) == rig_hash(&b));
    dt_profile_free(&p);
    rig_close(&a), rig_close(&b);
}

static void layers_and_ops_hold_all_of_their_nodes(void **state) {
    (void)state;
    rig r;
    dt_profile p, group;
    rig_open(&r, config);
    take(&r, NULL, &p);
    /* A gradient counts to the layer that makes it, not to the value that it is the gradient of. */
    static const struct {
        const char *name, *layer;
    } belongs[] = {{"layer4", "layer4"},
                   {"grad/layer4.weight", "layer4"},
                   {"grad/layer2", "layer4"},
                   {"layer2:stats", "layer2"},
                   {"grad/layer2.weight", "layer2"},
                   {"grad/layer1", "layer2"},
                   {"grad/layer5", "layer8"},
                   {"grad/layer8", "layer9"},
                   {"grad/layer9", "layer10"},
                   {"grad/layer10.bias", "layer10"},
                   {"grad/layer10", "loss"},
                   {"optimizer", "(parameters)"}};
    for (size_t k = 0; k < sizeof belongs / sizeof belongs[0]; k++)
        assert_string_equal(row(&p, belongs[k].name)->layer, belongs[k].layer);
    for (dt_profile_by by = DT_PROFILE_BY_NODE; by <= DT_PROFILE_BY_OP; by++) {
        double seconds = 0, bytes = 0, flops = 0, want[3] = {0};
        int32_t n_call = 0;
        check_ok(dt_profile_group(&p, by, &group));
        assert_true(by == DT_PROFILE_BY_NODE ? group.n_row == p.n_row : group.n_row < p.n_row);
        for (int32_t i = 0; i < group.n_row; i++) {
            const dt_profile_row *x = &group.row[i];
            double phases = 0;
            for (int k = 0; k < DT_PROFILE_PHASES; k++) phases += x->phase_s[k];
            assert_true(fabs(phases - x->seconds) <= 1e-9 * x->seconds);
            if (i > 0) assert_true(group.row[i - 1].seconds >= x->seconds);
            seconds += x->seconds, bytes += x->bytes, flops += x->flops, n_call += x->n_call;
        }
        for (int32_t i = 0; i < p.n_row; i++) {
            want[0] += p.row[i].seconds, want[1] += p.row[i].bytes, want[2] += p.row[i].flops;
            n_call -= p.row[i].n_call;
        }
        assert_true(fabs(seconds - want[0]) <= 1e-9 * want[0]);
        assert_true(bytes == want[1] && flops == want[2] && n_call == 0);
        dt_profile_free(&group);
    }
    dt_profile_free(&p);
    rig_close(&r);
}

static json_t *load(FILE *f) {
    json_error_t error;
    rewind(f);
    json_t *j = json_loadf(f, 0, &error);
    if (!j) fail_msg("line %d: %s", error.line, error.text);
    fclose(f);
    return j;
}

static double number(const json_t *j, const char *name) {
    const json_t *x = json_object_get(j, name);
    if (!json_is_number(x)) fail_msg("%s is no number", name);
    return json_number_value(x);
}

static void the_table_is_json_too(void **state) {
    (void)state;
    rig r;
    dt_profile p;
    rig_open(&r, config);
    take(&r, NULL, &p);
    snprintf(p.model, sizeof p.model, "a \"b\"\\\x01\xff\xc3\xa4");
    p.wait_s = NAN;
    FILE *f = tmpfile();
    assert_non_null(f);
    dt_profile_print_json(&p, f);
    json_t *j = load(f);
    assert_string_equal(json_string_value(json_object_get(j, "model")), "a \"b\"\\\x01\xef\xbf\xbd\xc3\xa4");
    assert_true(json_is_null(json_object_get(j, "wait_s")));
    const json_t *rows = json_object_get(j, "rows_by_time");
    assert_int_equal(json_array_size(rows), p.n_row);
    for (int32_t i = 0; i < p.n_row; i++) {
        const json_t *x = json_array_get(rows, (size_t)i);
        assert_string_equal(json_string_value(json_object_get(x, "name")), p.row[i].name);
        assert_true(fabs(number(x, "seconds") - p.row[i].seconds) <= 1e-6 * p.row[i].seconds);
        assert_true(fabs(number(x, "share") * p.step_s - p.row[i].seconds) <= 1e-6 * p.row[i].seconds);
        assert_true(number(x, "bytes") == p.row[i].bytes && number(x, "calls") == p.row[i].n_call);
    }
    json_decref(j);
    dt_profile_free(&p);
    rig_close(&r);
}

/* Of one thread: begins in order, and each ends before what it stands within. */
typedef struct event {
    double begin, end;
} event;

static int by_begin(const void *a, const void *b) {
    const event *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end < y->end) - (x->end > y->end);
}

static void check_nesting(event *e, size_t n) {
    event open[64];
    size_t depth = 0;
    qsort(e, n, sizeof *e, by_begin);
    for (size_t i = 0; i < n; i++) {
        while (depth > 0 && open[depth - 1].end <= e[i].begin + 1e-6) depth--;
        if (depth > 0 && e[i].end > open[depth - 1].end + 1e-6)
            fail_msg("[%f, %f] overlaps [%f, %f]", e[i].begin, e[i].end, open[depth - 1].begin,
                     open[depth - 1].end);
        assert_true(depth < sizeof open / sizeof open[0]);
        open[depth++] = e[i];
    }
}

static void the_trace_is_one_that_its_readers_take(void **state) {
    (void)state;
    rig r;
    dt_profile p;
    dt_trace *t;
    int64_t n_lost;
    char path[] = "/tmp/dtrain-trace.XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    check_ok(dt_trace_create(1 << 14, &t));
    dt_trace_attach(t, "main");
    rig_open(&r, config);
    take(&r, t, &p);
    dt_trace_attach(NULL, "");
    const int32_t n_kernel = dt_engine_program(r.e, false)->n_kernel;
    check_ok(dt_trace_write(t, NULL, path, &n_lost));
    assert_int_equal(n_lost, 0);
    json_t *j = load(fopen(path, "rb"));
    const json_t *events = json_object_get(j, "traceEvents");
    const size_t n = json_array_size(events);
    event *e = check_alloc(n * sizeof *e);
    size_t n_event = 0, n_step = 0, n_named = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(events, i);
        const char *kind = json_string_value(json_object_get(x, "ph")),
                   *name = json_string_value(json_object_get(x, "name"));
        assert_non_null(kind);
        assert_non_null(name);
        assert_true(json_is_integer(json_object_get(x, "pid")) && json_is_integer(json_object_get(x, "tid")));
        n_named += strcmp(name, "process_name") == 0 || strcmp(name, "thread_name") == 0;
        if (strcmp(kind, "X") != 0) continue;
        const double begin = number(x, "ts"), length = number(x, "dur");
        assert_true(begin >= 0 && length >= 0);
        e[n_event++] = (event){begin, begin + length};
        n_step += strcmp(name, "rig \"step\"\n") == 0;
    }
    check_nesting(e, n_event);
    assert_int_equal(n_step, STEPS);
    assert_int_equal(n_named, 2);
    /* A step within a step, and every kernel. */
    const int32_t n_axis = N_MICRO * dt_engine_axis(r.e)->n_bucket + 3;
    assert_int_equal(n_event, STEPS * (2 + N_MICRO * n_kernel + n_axis));
    free(e);
    json_decref(j);
    unlink(path);
    dt_trace_destroy(t);
    dt_profile_free(&p);
    rig_close(&r);
}

static dt_status fail_third(void *arg, int64_t number, double *wait_s) {
    if (number == 4) return dt_fail(DT_ERR_DATA, "no third step");
    return step(arg, number, wait_s);
}

/* Whatever fails on the way, the kernels are back in their places. */
static void a_step_that_fails_ends_the_profile(void **state) {
    (void)state;
    rig a, b;
    dt_profile p;
    rig_open(&a, config);
    rig_open(&b, config);
    for (int64_t fails_at = 0; fails_at < 2; fails_at++) {
        const dt_profile_options o = {.steps = fails_at == 0 ? STEPS : 1, .step = fail_third, .arg = &a};
        CHECK_ERROR(dt_profile_engine(a.e, &o, &p), DT_ERR_DATA, "no third step");
        dt_profile_free(&p);
        for (int64_t s = 0; s < 4; s++) rig_step(&b, s, 0.05f);
        assert_true(rig_hash(&a) == rig_hash(&b));
    }
    rig_step(&a, 5, 0.05f);
    rig_step(&b, 5, 0.05f);
    assert_true(rig_hash(&a) == rig_hash(&b));
    const dt_profile_options none = {.steps = 0, .step = step, .arg = &a};
    CHECK_ERROR(dt_profile_engine(a.e, &none, &p), DT_ERR_INTERNAL, "at least one step");
    dt_profile_free(&p);
    rig_close(&a), rig_close(&b);
}

static void a_file_is_there_whole_or_not_at_all(void **state) {
    (void)state;
    dt_out_file f;
    char path[] = "/tmp/dtrain-out.XXXXXX", text[16] = "";
    const int fd = mkstemp(path);
    assert_int_equal(write(fd, "old", 3), 3);
    close(fd);
    check_ok(dt_out_file_try(path));
    check_ok(dt_out_file_open(path, &f));
    fputs("half", f.file);
    CHECK_ERROR(dt_out_file_close(&f, dt_fail(DT_ERR_DATA, "lost")), DT_ERR_DATA, "lost");
    FILE *in = fopen(path, "rb");
    assert_non_null(fgets(text, sizeof text, in));
    fclose(in);
    assert_string_equal(text, "old");
    check_ok(dt_out_file_open(path, &f));
    fputs("new", f.file);
    check_ok(dt_out_file_close(&f, DT_OK));
    in = fopen(path, "rb");
    assert_non_null(fgets(text, sizeof text, in));
    fclose(in);
    assert_string_equal(text, "new");
    unlink(path);
    CHECK_ERROR(dt_out_file_try("/dev/null"), DT_ERR_USAGE, "/dev/null", "no regular file");
    CHECK_ERROR(dt_out_file_try("/tmp"), DT_ERR_USAGE, "/tmp");
    CHECK_ERROR(dt_out_file_try(""), DT_ERR_USAGE, "\"\"");
    CHECK_ERROR(dt_out_file_try("/nowhere/at/all"), DT_ERR_IO, "/nowhere/at/all", "No such file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_is_told_with_its_work),
        cmocka_unit_test(parts_do_not_exceed_the_step),
        cmocka_unit_test(a_profiled_engine_trains_the_same_and_goes_on),
        cmocka_unit_test(layers_and_ops_hold_all_of_their_nodes),
        cmocka_unit_test(the_table_is_json_too),
        cmocka_unit_test(the_trace_is_one_that_its_readers_take),
        cmocka_unit_test(a_step_that_fails_ends_the_profile),
        cmocka_unit_test(a_file_is_there_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
