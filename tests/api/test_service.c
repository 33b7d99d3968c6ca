/* Networks that are served by a program. */
#include "api_test.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { ROW = 3 * 17 * 19, OUT = 5, ROWS = 6 };
#define IMAGES DT_SOURCE_DIR "/tests/golden/onnx/nets/images/model.onnx"

static dt_run *run;
static dt_service *service;
static dt_served *served;
static float x[ROWS * ROW], want[ROWS * OUT];

static dt_array rows_of(float *data, int64_t n) {
    return (dt_array){.dtype = DT_DTYPE_F32, .shape = DT_SHAPE(n, 3, 17, 19), .data = data};
}

static int set_up(void **state) {
    (void)state;
    for (int i = 0; i < ROWS * ROW; i++) x[i] = (float)(i * 37 % 101) / 50 - 1;
    run = open_cpu();
    OK(dt_service_open(run, (dt_service_options){.workers = 2}, &service));
    OK(dt_service_load(service, IMAGES, (dt_served_options){.max_batch = 8}, &served));
    for (int i = 0; i < ROWS; i++) {
        const dt_array in = rows_of(x + i * ROW, 1);
        dt_array out = {.data = want + i * OUT, .bytes = OUT * (int64_t)sizeof(float)};
        OK(dt_infer(served, &in, &out));
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    dt_served_drop(served);
    dt_service_close(service);
    dt_run_close(run);
    return 0;
}

static dt_status halve(void *arg, int32_t n, dt_array *a) {
    atomic_fetch_add((atomic_int *)arg, 1);
    if (n != 1 || a->dtype != DT_DTYPE_F32) return DT_ERR_USAGE;
    float *made = malloc((size_t)a->bytes);
    for (int64_t i = 0; i < a->bytes / 4; i++) made[i] = ((const float *)a->data)[i] / 2;
    a->data = made;
    return DT_OK;
}

static dt_status negate(void *arg, int32_t n, dt_array *a) {
    (void)arg, (void)n;
    float *y = a->data;
    for (int64_t i = 0; i < a->bytes / 4; i++) y[i] = -y[i];
    return y[0] > 1e30f ? DT_ERR_DATA : DT_OK;
}

/* Halved before and negated behind, it is what the network says of halves. */
static void test_functions_around(void **state) {
    (void)state;
    static float half[ROW];
    atomic_int calls = 0;
    dt_served *around;
    float y[OUT], got[OUT];
    for (int i = 0; i < ROW; i++) half[i] = x[i] / 2;
    dt_array in = rows_of(half, 1), out = {.data = y, .bytes = sizeof y};
    OK(dt_infer(served, &in, &out));
    OK(dt_service_load(service, IMAGES,
                       (dt_served_options){.before = halve, .after = negate, .hook_arg = &calls}, &around));
    in = rows_of(x, 1), out = (dt_array){.data = got, .bytes = sizeof got};
    OK(dt_infer(around, &in, &out));
    assert_int_equal(atomic_load(&calls), 1);
    for (int i = 0; i < OUT; i++) assert_true(got[i] == -y[i]);
    dt_served_drop(around);
}

/* Bytes are what their numbers are; a softmax sums to one; the largest come first. */
static void test_images_and_classes(void **state) {
    (void)state;
    static uint8_t bytes[ROW];
    static float numbers[ROW];
    const int h = 17, w = 19;
    float y[OUT], plain[OUT];
    int64_t best[3];
    dt_served *images;
    for (int p = 0; p < h * w; p++)
        for (int c = 0; c < 3; c++) {
            const int v = (p * 31 + c * 77) % 256;
            bytes[p * 3 + c] = (uint8_t)v;
            numbers[c * h * w + p] = (float)v / 255;
        }
    dt_array in = rows_of(numbers, 1), out = {.data = plain, .bytes = sizeof plain};
    OK(dt_infer(served, &in, &out));
    OK(dt_array_softmax(&out));
    OK(dt_service_load(service, IMAGES, (dt_served_options){.image = DT_IMAGE_UNIT, .softmax = "y"},
                       &images));
    in = (dt_array){.dtype = DT_DTYPE_U8, .shape = DT_SHAPE(1, h, w, 3), .data = bytes};
    out = (dt_array){.data = y, .bytes = sizeof y};
    OK(dt_infer(images, &in, &out));
    float sum = 0;
    for (int i = 0; i < OUT; i++) assert_true(y[i] == plain[i]), sum += y[i];
    assert_true(fabsf(sum - 1) < 1e-5f);
    OK(dt_array_top_k(&out, 3, best));
    for (int k = 1; k < 3; k++) assert_true(y[best[k - 1]] >= y[best[k]]);
    for (int i = 0; i < OUT; i++) assert_true(y[best[0]] >= y[i]);
    FAILS(DT_ERR_USAGE, "largest", dt_array_top_k(&out, OUT + 1, best));
    assert_string_equal(dt_served_label(images, 0), "");
    in = rows_of(numbers, 1);
    FAILS(DT_ERR_USAGE, "input x", dt_infer(images, &in, &out));
    dt_array tokens;
    char *text;
    size_t n;
    FAILS(DT_ERR_UNSUPPORTED, "tokenizer", dt_served_encode(images, "a", 1, &tokens));
    FAILS(DT_ERR_UNSUPPORTED, "tokenizer", dt_served_decode(images, &in, &text, &n));
    dt_served_drop(images);
    FAILS(DT_ERR_USAGE, "softmax",
          dt_service_load(service, IMAGES, (dt_served_options){.softmax = "z"}, &images));
}

static void test_what_is_served(void **state) {
    (void)state;
    dt_served_info info;
    dt_served_value v;
    OK(dt_served_get_info(served, &info));
    assert_string_equal(info.format, "ONNX");
    assert_string_equal(info.path, IMAGES);
    assert_true(info.batched && info.max_batch == 8 && info.n_input == 1 && info.n_output == 1);
    assert_int_equal(info.level, DT_LEVEL_BASIC);
    assert_true(info.weight_bytes > 0);
    OK(dt_served_input(served, 0, &v));
    assert_string_equal(v.name, "x");
    assert_true(v.dtype == DT_DTYPE_F32 && v.ndim == 4 && v.dim[0] == -1 && v.dim[1] == 3);
    OK(dt_served_output(served, 0, &v));
    assert_string_equal(v.name, "y");
    FAILS(DT_ERR_USAGE, "1", dt_served_output(served, 1, &v));
    FAILS(DT_ERR_USAGE, "-1", dt_served_input(served, -1, &v));
}

/* The bits of rows alone; the numbers of the same file run by itself. */
static void test_answers(void **state) {
    (void)state;
    const dt_array in = rows_of(x, ROWS);
    dt_array out = {.data = NULL};
    OK(dt_infer(served, &in, &out));
    assert_int_equal(out.bytes, sizeof want);
    assert_int_equal(out.shape.dim[0], ROWS);
    assert_memory_equal(out.data, want, sizeof want);
    dt_array_free(&out);
    assert_null(out.data);
    dt_netfile *file;
    dt_tensor *tx, *ty;
    float y[ROWS * OUT];
    OK(dt_netfile_open(run, IMAGES, &file));
    OK(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(ROWS, 3, 17, 19), x, &tx));
    OK(dt_netfile_run(file, &tx, &ty));
    OK(dt_tensor_read(ty, y, sizeof y));
    for (int i = 0; i < ROWS * OUT; i++) assert_true(fabsf(y[i] - want[i]) < 1e-5f);
    dt_tensor_free(tx), dt_tensor_free(ty), dt_netfile_free(file);
}

static void test_what_does_not_fit(void **state) {
    (void)state;
    float y[OUT];
    dt_array in = rows_of(x, 1), out = {.data = y, .bytes = sizeof y - 1};
    FAILS(DT_ERR_USAGE, "room for 19", dt_infer(served, &in, &out));
    assert_ptr_equal(out.data, y);
    out.bytes = sizeof y;
    in.shape.dim[1] = 2;
    FAILS(DT_ERR_USAGE, "input x has 2", dt_infer(served, &in, &out));
    in = rows_of(x, 1), in.bytes = 3;
    FAILS(DT_ERR_USAGE, "3 bytes", dt_infer(served, &in, &out));
    in = rows_of(x, 1), in.dtype = DT_DTYPE_I4;
    FAILS(DT_ERR_USAGE, "input x", dt_infer(served, &in, &out));
    in = rows_of(x, 1), in.shape.ndim = 9;
    FAILS(DT_ERR_USAGE, "9 dimensions", dt_infer(served, &in, &out));
    in = rows_of(x, 9);
    FAILS(DT_ERR_USAGE, "9 rows", dt_infer(served, &in, &out));
    in = rows_of(NULL, 1);
    FAILS(DT_ERR_USAGE, "no data", dt_infer(served, &in, &out));
    FAILS(DT_ERR_USAGE, "in is NULL", dt_infer(served, NULL, &out));
    FAILS(DT_ERR_USAGE, "out is NULL", dt_infer(served, &in, NULL));
    dt_served *none;
    FAILS(DT_ERR_DATA, "gone.onnx", dt_service_load(service, "gone.onnx", (dt_served_options){0}, &none));
    assert_null(none);
    FAILS(DT_ERR_UNSUPPORTED, "8 or 4",
          dt_service_load(service, IMAGES, (dt_served_options){.weights = DT_WEIGHTS_INT4}, &none));
    dt_service *other;
    FAILS(DT_ERR_USAGE, "processors", dt_service_open(run, (dt_service_options){.affinity = "x"}, &other));
    assert_null(other);
}

/* ---- from many threads ---- */

static void *ask(void *arg) {
    atomic_int *wrong = arg;
    for (int i = 0; i < 100; i++) {
        const dt_array in = rows_of(x + i % ROWS * ROW, 1);
        dt_request *r;
        dt_array y;
        if (dt_submit(served, &in, (dt_submit_options){.priority = i % 8}, &r) != DT_OK ||
            dt_request_wait(r, -1) != DT_OK || !dt_request_is_answered(r) ||
            dt_request_output(r, 0, &y) != DT_OK ||
            memcmp(y.data, want + i % ROWS * OUT, OUT * sizeof(float)) != 0)
            atomic_fetch_add(wrong, 1);
        dt_request_drop(r);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    enum { THREADS = 5 };
    pthread_t t[THREADS];
    atomic_int wrong = 0;
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&t[i], NULL, ask, &wrong), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    dt_service_counts s, all;
    OK(dt_served_stats(served, &s));
    OK(dt_service_stats(service, &all));
    assert_int_equal(s.accepted, s.succeeded + s.failed);
    assert_int_equal(all.accepted, s.accepted);
    assert_true(s.runs <= s.rows && s.waiting == 0 && s.running == 0);
    assert_true(s.latency_min_s <= s.latency_p50_s && s.latency_p50_s <= s.latency_p999_s);
    assert_true(s.compute_s > 0);
}

typedef struct heard {
    atomic_int n;
    dt_status status;
    float y[OUT];
    bool drop;
} heard;

static void hear(void *arg, dt_request *request, dt_status status, const char *error) {
    heard *h = arg;
    dt_array y;
    if (status == DT_OK && error[0] == 0 && dt_request_output(request, 0, &y) == DT_OK)
        memcpy(h->y, y.data, sizeof h->y);
    h->status = status;
    if (h->drop) dt_request_drop(request);
    atomic_fetch_add(&h->n, 1);
}

static void test_callbacks(void **state) {
    (void)state;
    const dt_array in = rows_of(x, 1);
    for (int i = 0; i < 200; i++) {
        heard h = {.status = DT_ERR_INTERNAL, .drop = i % 2 == 1};
        dt_request *r;
        OK(dt_submit(served, &in, (dt_submit_options){.done = hear, .arg = &h}, &r));
        for (int k = 0; k < 100000 && atomic_load(&h.n) == 0; k++) usleep(100);
        assert_int_equal(atomic_load(&h.n), 1);
        assert_int_equal(h.status, DT_OK);
        assert_memory_equal(h.y, want, sizeof h.y);
        if (!h.drop) dt_request_drop(r);
        dt_request_drop(r);
        assert_false(dt_request_is_answered(r));
        FAILS(DT_ERR_USAGE, "request", dt_request_wait(r, 0));
    }
}

static void test_waiting_and_giving_up(void **state) {
    (void)state;
    const dt_array in = rows_of(x, 1);
    dt_served *slow;
    dt_request *a, *b, *c;
    dt_array y;
    dt_request_timing t;
    OK(dt_service_load(
        service, IMAGES,
        (dt_served_options){.max_batch = 8, .max_delay_us = 100000, .queue_limit = 2, .name = "slow"},
        &slow));
    OK(dt_submit(slow, &in, (dt_submit_options){.deadline_us = 1000}, &a));
    OK(dt_submit(slow, &in, (dt_submit_options){0}, &b));
    FAILS(DT_ERR_BUSY, "2 requests", dt_submit(slow, &in, (dt_submit_options){0}, &c));
    assert_null(c);
    FAILS(DT_ERR_USAGE, "no answer yet", dt_request_output(b, 0, &y));
    FAILS(DT_ERR_CONFIG, "priority", dt_submit(slow, &in, (dt_submit_options){.priority = 8}, &c));
    FAILS(DT_ERR_TIMEOUT, "1 ms", dt_request_wait(b, 1));
    assert_false(dt_request_is_answered(b));
    assert_true(dt_request_cancel(b));
    assert_false(dt_request_cancel(b));
    FAILS(DT_STOPPED, "cancelled", dt_request_wait(b, -1));
    FAILS(DT_ERR_TIMEOUT, "deadline", dt_request_wait(a, -1));
    assert_true(dt_request_is_answered(a));
    FAILS(DT_ERR_USAGE, "failed", dt_request_times(a, &t));
    dt_request_drop(a), dt_request_drop(b);
    OK(dt_submit(slow, &in, (dt_submit_options){0}, &a));
    dt_served_drop(slow); /* its request goes on */
    OK(dt_request_wait(a, -1));
    OK(dt_request_times(a, &t));
    assert_true(t.batch == 1 && t.queue_s > 0 && t.compute_s > 0);
    OK(dt_request_output(a, 0, &y));
    assert_memory_equal(y.data, want, OUT * sizeof(float));
    FAILS(DT_ERR_USAGE, "served", dt_submit(slow, &in, (dt_submit_options){0}, &b));
    dt_request_drop(a);
}

static void test_holders(void **state) {
    (void)state;
    dt_served *m;
    dt_served_info info;
    OK(dt_service_load(service, IMAGES, (dt_served_options){.name = "held", .no_warm = true}, &m));
    OK(dt_served_hold(m));
    dt_served_drop(m);
    OK(dt_served_get_info(m, &info));
    assert_string_equal(info.name, "held");
    dt_served_drop(m);
    FAILS(DT_ERR_USAGE, "served", dt_served_get_info(m, &info));
    FAILS(DT_ERR_USAGE, "served", dt_served_hold(m));
    dt_served_drop(m);
    dt_served_drop(NULL);
}

/* In any order: what is still held stays. */
static void test_ends(void **state) {
    (void)state;
    dt_service *s;
    dt_served *m;
    dt_request *r;
    dt_array y = {.data = NULL};
    void *data, *more;
    dt_run *own = open_cpu();
    OK(dt_service_open(own, (dt_service_options){0}, &s));
    dt_run_close(own);
    OK(dt_service_load(s, IMAGES, (dt_served_options){0}, &m));
    OK(dt_service_buffer(s, ROW * (int64_t)sizeof(float), &data));
    OK(dt_service_buffer(s, 64, &more));
    dt_service_buffer_free(s, more);
    dt_service_buffer_free(s, x); /* none of its own */
    FAILS(DT_ERR_USAGE, "0 bytes", dt_service_buffer(s, 0, &more));
    memcpy(data, x, ROW * sizeof(float));
    const dt_array in = rows_of(data, 1);
    OK(dt_submit(m, &in, (dt_submit_options){0}, &r));
    OK(dt_service_drain(s, -1));
    FAILS(DT_STOPPED, "ending", dt_infer(m, &in, &y));
    dt_service_close(s);
    dt_service_close(s);
    FAILS(DT_ERR_USAGE, "service", dt_service_drain(s, 0));
    dt_served_drop(m);
    OK(dt_request_wait(r, 0));
    OK(dt_request_output(r, 0, &y));
    assert_memory_equal(y.data, want, OUT * sizeof(float));
    dt_request_drop(r);
}

static void test_profile_and_resources(void **state) {
    (void)state;
    const dt_array in = rows_of(x, 2);
    const char *text;
    OK(dt_served_profile(served, &in, 3, &text));
    assert_non_null(strstr(text, "conv"));
    assert_non_null(strstr(text, "ms a run"));
    FAILS(DT_ERR_USAGE, "0 runs", dt_served_profile(served, &in, 0, &text));
    assert_null(text);
    dt_service_usage u;
    OK(dt_service_resources(service, &u));
    assert_true(u.rss_bytes > 0 && u.cpu_seconds > 0 && u.cpu_limit >= 1 && u.network_bytes > 0);
    assert_true(u.device_bytes == 0 && u.device_used_bytes == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_served),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_waiting_and_giving_up),
        cmocka_unit_test(test_holders),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_profile_and_resources),
        cmocka_unit_test(test_functions_around),
        cmocka_unit_test(test_images_and_classes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
