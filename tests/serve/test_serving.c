/* The inference engine: batches, queues, deadlines, ends; each accepted request gets one answer, its own. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "formats/onnx_draft.h"
#include "latency.h"
#include "serve/engine.h"

enum { IN = 37, OUT = 11, ROWS = 16 };

static dt_backend *cpu;
static char file[64], fixed[64], joined[64], images[64], small_images[64];

static void ok(dt_status st) {
    if (st != DT_OK) fail_msg("%s", dt_error_text());
}

static void fill(float *x, int64_t n, uint32_t seed) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
}

/* relu(x w + b), of a batch that is open or of `rows`; `over_rows`: with the rows' mean, which ties them together. */
static void write_dense(const char *path, int64_t rows, bool over_rows) {
    dt_onnx_model *m;
    dt_onnx_draft draft, *d = &draft;
    ok(dt_onnx_draft_create(17, d));
    static float w[IN * OUT], b[OUT];
    fill(w, IN * OUT, 1), fill(b, OUT, 2);
    dt_onnx_draft_input(
        d, &(dt_onnx_value_info){.name = "x", .type = DT_TENSOR_F32, .ndim = 2, .dim = {rows, IN}});
    const char *wn = dt_onnx_draft_constant(d, "w", DT_TENSOR_F32, 2, (int64_t[]){IN, OUT}, w, false);
    const char *bn = dt_onnx_draft_constant(d, "b", DT_TENSOR_F32, 1, (int64_t[]){OUT}, b, false);
    const char *y = dt_onnx_draft_op(d, "Gemm", NULL, DT_ONNX_IN("x", wn, bn), DT_ONNX_PLAIN);
    if (over_rows) {
        const char *mean = dt_onnx_draft_op(d, "ReduceMean", NULL, DT_ONNX_IN(y),
                                            DT_ONNX_ATTR(dt_onnx_ints("axes", 1, (int64_t[]){0})));
        y = dt_onnx_draft_op(d, "Sub", NULL, DT_ONNX_IN(y, mean), DT_ONNX_PLAIN);
    }
    y = dt_onnx_draft_op(d, "Relu", "y", DT_ONNX_IN(y), DT_ONNX_PLAIN);
    dt_onnx_draft_output(
        d, &(dt_onnx_value_info){.name = y, .type = DT_TENSOR_F32, .ndim = 2, .dim = {rows, OUT}});
    ok(dt_onnx_draft_end(d, &m));
    ok(dt_onnx_write(m, path));
    dt_onnx_model_free(m);
}

static void write_images(const char *path, int64_t side) {
    enum { C = 3, K = 32 }; /* so many that all ways of convolving are there */
    dt_onnx_model *m;
    dt_onnx_draft draft, *d = &draft;
    ok(dt_onnx_draft_create(17, d));
    static float w[K * C * 9], v[K * K * 9], u[K * OUT];
    fill(w, K * C * 9, 3), fill(v, K * K * 9, 4), fill(u, K * OUT, 5);
    dt_onnx_draft_input(
        d, &(dt_onnx_value_info){.name = "x", .type = DT_TENSOR_F32, .ndim = 4, .dim = {-1, C, side, side}});
    const dt_onnx_attr pads = dt_onnx_ints("pads", 4, (int64_t[]){1, 1, 1, 1});
    const char *x = dt_onnx_draft_op(
        d, "Conv", NULL,
        DT_ONNX_IN("x", dt_onnx_draft_constant(d, "w", DT_TENSOR_F32, 4, (int64_t[]){K, C, 3, 3}, w, false)),
        DT_ONNX_ATTR(pads));
    x = dt_onnx_draft_op(d, "Relu", NULL, DT_ONNX_IN(x), DT_ONNX_PLAIN);
    x = dt_onnx_draft_op(
        d, "Conv", NULL,
        DT_ONNX_IN(x, dt_onnx_draft_constant(d, "v", DT_TENSOR_F32, 4, (int64_t[]){K, K, 3, 3}, v, false)),
        DT_ONNX_ATTR(pads));
    x = dt_onnx_draft_op(d, "GlobalAveragePool", NULL, DT_ONNX_IN(x), DT_ONNX_PLAIN);
    x = dt_onnx_draft_op(d, "Flatten", NULL, DT_ONNX_IN(x), DT_ONNX_PLAIN);
    x = dt_onnx_draft_op(
        d, "MatMul", "y",
        DT_ONNX_IN(x, dt_onnx_draft_constant(d, "u", DT_TENSOR_F32, 2, (int64_t[]){K, OUT}, u, false)),
        DT_ONNX_PLAIN);
    dt_onnx_draft_output(
        d, &(dt_onnx_value_info){.name = x, .type = DT_TENSOR_F32, .ndim = 2, .dim = {-1, OUT}});
    ok(dt_onnx_draft_end(d, &m));
    ok(dt_onnx_write(m, path));
    dt_onnx_model_free(m);
}

static int set_up(void **state) {
    (void)state;
    snprintf(file, sizeof file, "/tmp/dt_serving_%ld.onnx", (long)getpid());
    snprintf(fixed, sizeof fixed, "/tmp/dt_serving_%ld_fixed.onnx", (long)getpid());
    snprintf(joined, sizeof joined, "/tmp/dt_serving_%ld_joined.onnx", (long)getpid());
    snprintf(images, sizeof images, "/tmp/dt_serving_%ld_images.onnx", (long)getpid());
    snprintf(small_images, sizeof small_images, "/tmp/dt_serving_%ld_small.onnx", (long)getpid());
    write_dense(file, -1, false);
    write_dense(fixed, 3, false);
    write_dense(joined, -1, true);
    write_images(images, 13);
    write_images(small_images, 7);
#ifdef __SANITIZE_THREAD__ /* which does not see OpenMP's threads wait for each other */
    const int32_t threads = 1;
#else
    const int32_t threads = 2;
#endif
    const dt_backend_options o = {.local_world = 1, .threads = threads};
    return dt_backend_cpu_create(&o, &cpu) == DT_OK ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    cpu->destroy(cpu);
    unlink(file), unlink(fixed), unlink(joined), unlink(images), unlink(small_images);
    return 0;
}

static dt_serve_engine *engine(int32_t workers) {
    dt_serve_engine *e;
    ok(dt_serve_engine_create(&(dt_serve_engine_options){.be = cpu, .workers = workers}, &e));
    return e;
}

static dt_host_tensor rows_of(float *x, int64_t n) {
    return (dt_host_tensor){.type = DT_TENSOR_F32, .ndim = 2, .dim = {n, IN}, .data = x};
}

/* One request, by itself. */
static void infer(dt_serve_model *m, float *x, int64_t n, float *y) {
    const dt_host_tensor in = rows_of(x, n);
    dt_serve_request *r;
    ok(dt_serve_submit(m, &in, NULL, &r));
    ok(dt_serve_wait(r, -1));
    const dt_host_tensor *out = dt_serve_output(r, 0);
    assert_int_equal(out->dim[0], n);
    memcpy(y, out->data, (size_t)(n * OUT) * sizeof *y);
    dt_serve_request_drop(r);
}

static void test_answers_are_right(void **state) {
    (void)state;
    dt_serve_engine *e = engine(1);
    dt_serve_model *m;
    ok(dt_serve_load(e, file, &(dt_serve_model_options){.max_batch = ROWS}, &m));
    const dt_serve_model_info *info = dt_serve_model_get_info(m);
    assert_true(info->batched);
    assert_int_equal(info->max_batch, ROWS);
    assert_int_equal(info->n_in, 1);
    assert_string_equal(info->in[0].name, "x");
    static float x[5 * IN], y[5 * OUT], w[IN * OUT], b[OUT];
    fill(x, 5 * IN, 9), fill(w, IN * OUT, 1), fill(b, OUT, 2);
    infer(m, x, 5, y);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < OUT; j++) {
            double s = b[j];
            for (int k = 0; k < IN; k++) s += (double)x[i * IN + k] * w[k * OUT + j];
            assert_true(s > 0 ? (double)y[i * OUT + j] - s < 1e-5 && s - (double)y[i * OUT + j] < 1e-5
                              : y[i * OUT + j] == 0);
        }
    dt_serve_model_drop(m);
    dt_serve_engine_destroy(e);
}

typedef struct client {
    dt_serve_model *m;
    const float *x, *want; /* [ROWS] rows */
    uint32_t seed;
    int wrong;
} client;

static void *ask(void *arg) {
    client *c = arg;
    for (int i = 0; i < 200; i++) {
        c->seed = c->seed * 1664525u + 1013904223u;
        const int64_t at = c->seed >> 28, n = 1 + (c->seed >> 20) % 4;
        if (at + n > ROWS) continue;
        float x[4 * IN];
        memcpy(x, c->x + at * IN, (size_t)(n * IN) * sizeof *x);
        const dt_host_tensor in = rows_of(x, n);
        dt_serve_request *r;
        if (dt_serve_submit(c->m, &in, NULL, &r) != DT_OK || dt_serve_wait(r, -1) != DT_OK ||
            memcmp(dt_serve_output(r, 0)->data, c->want + at * OUT, (size_t)(n * OUT) * sizeof(float)) != 0)
            c->wrong++;
        dt_serve_request_drop(r);
    }
    return NULL;
}

static void test_mates_change_no_bit(void **state) {
    (void)state;
    enum { CLIENTS = 6 };
    dt_serve_engine *e = engine(3);
    static float x[ROWS * IN], want[ROWS * OUT];
    fill(x, ROWS * IN, 7);
    for (dt_level level = DT_LEVEL_NONE; level <= DT_LEVEL_BASIC; level++) {
        dt_serve_model *m;
        ok(dt_serve_load(e, file,
                         &(dt_serve_model_options){.max_batch = 8, .max_delay_us = 300, .level = level}, &m));
        for (int64_t i = 0; i < ROWS; i++) infer(m, x + i * IN, 1, want + i * OUT);
        client c[CLIENTS];
        pthread_t t[CLIENTS];
        for (uint32_t i = 0; i < CLIENTS; i++) {
            c[i] = (client){.m = m, .x = x, .want = want, .seed = i + 1};
            assert_int_equal(pthread_create(&t[i], NULL, ask, &c[i]), 0);
        }
        for (int i = 0; i < CLIENTS; i++) {
            pthread_join(t[i], NULL);
            assert_int_equal(c[i].wrong, 0);
        }
        dt_serve_stats s;
        dt_serve_model_stats(m, &s);
        assert_int_equal(s.accepted, s.succeeded);
        assert_int_equal(s.latency.n, s.succeeded);
        assert_true(s.runs < s.accepted); /* some ran together */
        assert_true(s.latency.p50_s <= s.latency.p99_s && s.latency.p99_s <= s.latency.max_s);
        int64_t runs = 0;
        for (int i = 0; i < DT_SERVE_BATCH_BUCKETS; i++) runs += s.batch_runs[i];
        assert_int_equal(runs, s.runs);
        dt_serve_model_drop(m);
    }
    dt_serve_engine_destroy(e);
}

/* Convolutions too have the bits that they have alone, in every bucket; also where the fastest way for one image is not that
 * for several. */
static void check_images(dt_serve_engine *e, const char *path, int64_t side) {
    enum { SIZE = 3 * 13 * 13 };
    dt_serve_model *m;
    ok(dt_serve_load(e, path, &(dt_serve_model_options){.max_batch = 8}, &m));
    assert_false(dt_serve_model_get_info(m)->one_bucket);
    static float x[8 * SIZE], one[8 * OUT];
    fill(x, 8 * SIZE, 3);
    for (int64_t n = 1; n <= 8; n++) {
        const dt_host_tensor in = {.type = DT_TENSOR_F32, .ndim = 4, .dim = {n, 3, side, side}, .data = x};
        dt_serve_request *r;
        ok(dt_serve_submit(m, &in, NULL, &r));
        ok(dt_serve_wait(r, -1));
        const float *y = dt_serve_output(r, 0)->data;
        if (n == 1) memcpy(one, y, OUT * sizeof *y);
        assert_memory_equal(y, one, OUT * sizeof *y);
        dt_serve_request_drop(r);
    }
    dt_serve_model_drop(m);
}

static void test_images_change_no_bit(void **state) {
    (void)state;
    dt_serve_engine *e = engine(1);
    check_images(e, images, 13);
    check_images(e, small_images, 7);
    dt_serve_engine_destroy(e);
}

/* Rows that are tied together, or of a fixed number, run as they come. */
static void test_rows_that_are_tied(void **state) {
    (void)state;
    dt_serve_engine *e = engine(2);
    dt_serve_model *m;
    static float x[3 * IN], y[3 * OUT];
    fill(x, 3 * IN, 5);
    ok(dt_serve_load(e, joined, NULL, &m));
    assert_false(dt_serve_model_get_info(m)->batched);
    infer(m, x, 3, y);
    infer(m, x, 2, y);
    dt_serve_model_drop(m);
    ok(dt_serve_load(e, fixed, NULL, &m));
    assert_false(dt_serve_model_get_info(m)->batched);
    infer(m, x, 3, y);
    const dt_host_tensor in = rows_of(x, 2);
    dt_serve_request *r;
    assert_int_equal(dt_serve_submit(m, &in, NULL, &r), DT_ERR_USAGE);
    assert_non_null(strstr(dt_error_text(), "input x has 2 in dimension 0"));
    dt_serve_model_drop(m);
    dt_serve_engine_destroy(e);
}

static void test_what_does_not_fit_is_refused(void **state) {
    (void)state;
    dt_serve_engine *e = engine(1);
    dt_serve_model *m;
    dt_serve_request *r;
    static float x[9 * IN];
    ok(dt_serve_load(e, file, &(dt_serve_model_options){.max_batch = 8}, &m));
    dt_host_tensor in = rows_of(x, 9);
    assert_int_equal(dt_serve_submit(m, &in, NULL, &r), DT_ERR_USAGE);
    in = rows_of(x, 0);
    assert_int_equal(dt_serve_submit(m, &in, NULL, &r), DT_ERR_USAGE);
    in = rows_of(x, -1);
    assert_int_equal(dt_serve_submit(m, &in, NULL, &r), DT_ERR_USAGE);
    in = rows_of(NULL, 1);
    assert_int_equal(dt_serve_submit(m, &in, NULL, &r), DT_ERR_USAGE);
    in = rows_of(x, 1), in.dim[1]--;
    assert_int_equal(dt_serve_submit(m, &in, NULL, &r), DT_ERR_USAGE);
    in = rows_of(x, 1), in.type = DT_TENSOR_F64;
    assert_int_equal(dt_serve_submit(m, &in, NULL, &r), DT_ERR_USAGE);
    assert_null(r);
    dt_serve_model *none;
    assert_int_equal(dt_serve_load(e, "/nowhere.onnx", NULL, &none), DT_ERR_DATA);
    assert_int_equal(dt_serve_load(e, "/etc/hostname", NULL, &none) == DT_OK, 0);
    assert_null(none);
    dt_serve_stats s;
    dt_serve_model_stats(m, &s);
    assert_int_equal(s.accepted + s.refused, 0);
    dt_serve_model_drop(m);
    dt_serve_engine_destroy(e);
}

typedef struct seen {
    atomic_int n, status;
} seen;

static void note(void *arg, dt_serve_request *r, dt_status status, const char *error) {
    seen *s = arg;
    (void)r, (void)error;
    atomic_store(&s->status, (int)status);
    atomic_fetch_add(&s->n, 1);
}

static void test_deadlines_cancels_and_full_queues(void **state) {
    (void)state;
    dt_serve_engine *e = engine(1);
    dt_serve_model *m;
    static float x[IN];
    ok(dt_serve_load(e, file,
                     &(dt_serve_model_options){.max_batch = 8, .max_delay_us = 60000, .queue_limit = 2}, &m));
    const dt_host_tensor in = rows_of(x, 1);
    seen late = {0}, gone = {0};
    dt_serve_request *a, *b, *c;
    ok(dt_serve_submit(m, &in, &(dt_serve_submit_options){.done = note, .arg = &late, .deadline_us = 1000},
                       &a));
    ok(dt_serve_submit(m, &in, &(dt_serve_submit_options){.done = note, .arg = &gone}, &b));
    assert_int_equal(dt_serve_submit(m, &in, NULL, &c), DT_ERR_BUSY);
    assert_int_equal(dt_serve_wait(b, 1), DT_ERR_TIMEOUT);
    assert_true(dt_serve_cancel(b));
    assert_false(dt_serve_cancel(b));
    assert_int_equal(dt_serve_wait(b, -1), DT_STOPPED);
    assert_int_equal(dt_serve_wait(a, -1), DT_ERR_TIMEOUT);
    assert_int_equal(atomic_load(&late.n), 1);
    assert_int_equal(atomic_load(&late.status), DT_ERR_TIMEOUT);
    assert_int_equal(atomic_load(&gone.n), 1);
    dt_serve_stats s;
    dt_serve_model_stats(m, &s);
    assert_int_equal(s.expired, 1);
    assert_int_equal(s.cancelled, 1);
    assert_int_equal(s.refused, 1);
    dt_serve_request_drop(a), dt_serve_request_drop(b);
    dt_serve_model_drop(m);
    dt_serve_engine_destroy(e);
}

static void test_an_end_answers_all(void **state) {
    (void)state;
    enum { N = 40 };
    static float x[IN];
    const dt_host_tensor in = rows_of(x, 1);
    for (int at_once = 0; at_once < 2; at_once++) {
        dt_serve_engine *e = engine(2);
        dt_serve_model *m;
        seen s = {0};
        ok(dt_serve_load(e, file, &(dt_serve_model_options){.max_batch = 4, .max_delay_us = 10000000}, &m));
        dt_serve_request *r[N];
        for (int i = 0; i < N; i++)
            ok(dt_serve_submit(m, &in, &(dt_serve_submit_options){.done = note, .arg = &s}, &r[i]));
        dt_serve_engine_drain(e, at_once ? 0 : -1);
        assert_int_equal(atomic_load(&s.n), N);
        for (int i = 0; i < N; i++) {
            const dt_status st = dt_serve_wait(r[i], 0);
            assert_true(st == DT_OK || (at_once && st == DT_STOPPED));
            dt_serve_request_drop(r[i]);
        }
        assert_int_equal(dt_serve_submit(m, &in, NULL, &r[0]), DT_STOPPED);
        dt_serve_engine_destroy(e); /* before its model */
        dt_serve_model_drop(m);
    }
}

static int64_t resident(dt_serve_engine *e) {
    dt_serve_resources r;
    ok(dt_serve_resources_read(e, &r));
    return r.rss_bytes;
}

static void test_memory_stays(void **state) {
    (void)state;
    dt_serve_engine *e = engine(2);
    static float x[IN], y[OUT];
    int64_t before = 0;
    for (int i = 0; i < 120; i++) {
        dt_serve_model *m;
        ok(dt_serve_load(e, images, NULL, &m));
        dt_serve_model_drop(m);
        ok(dt_serve_load(e, file, NULL, &m));
        infer(m, x, 1, y);
        dt_serve_model_drop(m);
        if (i == 19) before = resident(e);
    }
    assert_true(resident(e) < before + before / 50 + (1 << 20));
    dt_serve_stats s;
    dt_serve_engine_stats(e, &s);
    assert_int_equal(s.succeeded, 120);
    dt_serve_engine_destroy(e);
}

static void test_memory_cap(void **state) {
    (void)state;
    dt_serve_engine *e;
    dt_serve_model *m;
    ok(dt_serve_engine_create(&(dt_serve_engine_options){.be = cpu, .memory_cap_bytes = 1000}, &e));
    assert_int_equal(dt_serve_load(e, file, NULL, &m), DT_ERR_MEMORY);
    dt_serve_engine_destroy(e);
    assert_int_equal(dt_serve_engine_create(&(dt_serve_engine_options){.be = cpu, .affinity = "x"}, &e),
                     DT_ERR_USAGE);
    assert_int_equal(dt_serve_engine_create(&(dt_serve_engine_options){.be = cpu, .affinity = "1023"}, &e),
                     DT_ERR_USAGE);
    ok(dt_serve_engine_create(&(dt_serve_engine_options){.be = cpu, .affinity = "0-1023"}, &e));
    dt_serve_engine_destroy(e);
}

static void test_histogram(void **state) {
    (void)state;
    static dt_latencies h;
    for (int64_t i = 1; i <= 100000; i++) dt_latencies_add(&h, i * 1000);
    const double q[] = {0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < 4; i++) {
        const double want = q[i] * 0.1, got = dt_latencies_quantile(&h, q[i]);
        assert_true(got > 0.99 * want && got < 1.01 * want);
    }
    assert_true(dt_latencies_quantile(&h, 1) <= 0.1);
    dt_latencies_add(&h, INT64_MAX);
    dt_latencies_add(&h, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_right),
        cmocka_unit_test(test_mates_change_no_bit),
        cmocka_unit_test(test_images_change_no_bit),
        cmocka_unit_test(test_rows_that_are_tied),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_deadlines_cancels_and_full_queues),
        cmocka_unit_test(test_an_end_answers_all),
        cmocka_unit_test(test_memory_stays),
        cmocka_unit_test(test_memory_cap),
        cmocka_unit_test(test_histogram),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
