/* The reducer against a communicator and a backend that only take notes: order of buckets, both ways of GPU
 * memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dist/reduce.h"

enum { LOG_MAX = 4096, AXIS = 64, N_BUCKET = 3 };

/* What was asked, in order: "begin 0+10 f32;" ... */
static char trace[LOG_MAX];
static int copies_pending; /* event queries that say "not yet" */

static float axis[AXIS];
static float extra[4];

static void note(const char *fmt, ...) DT_PRINTF(1, 2);
static void note(const char *fmt, ...) {
    size_t len = strlen(trace);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(trace + len, sizeof trace - len, fmt, ap);
    va_end(ap);
}

/* ---- a communicator of two ranks whose other rank holds the same values ---- */

static dt_status fake_begin(dt_comm *c, void *buf, int64_t n_elem, dt_dtype dtype, dt_stream *stream) {
    (void)c;
    float *values = buf;
    bool inside = values >= axis && values < axis + AXIS;
    bool is_extra = values >= extra && values < extra + 4;
    if (inside)
        note("begin %d+%d", (int)(values - axis), (int)n_elem);
    else
        note("begin %s+%d", is_extra ? "extra" : "copy", (int)n_elem);
    note("%s %s; ", stream != NULL ? " on stream" : "", dt_dtype_name(dtype));
    for (int64_t i = 0; i < n_elem; i++) values[i] *= 2;
    return DT_OK;
}
static dt_status fake_progress(dt_comm *c) {
    (void)c;
    return DT_OK;
}
static dt_status fake_wait(dt_comm *c, dt_stream *stream) {
    (void)c;
    note("wait%s; ", stream != NULL ? " on stream" : "");
    return DT_OK;
}

static dt_comm fake_comm(int32_t world, bool device_memory) {
    return (dt_comm){.name = "fake",
                     .world = world,
                     .device_memory = device_memory,
                     .allreduce_begin = fake_begin,
                     .progress = fake_progress,
                     .wait = fake_wait};
}

/* ---- a backend whose memory is the host's ---- */

static int n_alive; /* streams, events, allocations */

static dt_status fake_alloc(dt_backend *be, dt_memkind kind, int64_t bytes, void **out) {
    (void)be;
    assert_int_equal(kind, DT_MEM_HOST);
    *out = calloc(1, (size_t)bytes);
    n_alive++;
    return *out != NULL ? DT_OK : DT_ERR_MEMORY;
}
static void fake_free(dt_backend *be, dt_memkind kind, void *ptr) {
    (void)be;
    (void)kind;
    free(ptr);
    n_alive--;
}
static dt_status fake_copy(dt_backend *be, void *dst, const void *src, int64_t bytes, dt_stream *stream) {
    (void)be;
    note("copy%s; ", stream != NULL ? " on stream" : "");
    memcpy(dst, src, (size_t)bytes);
    return DT_OK;
}
static dt_status fake_stream_create(dt_backend *be, dt_stream **out) {
    (void)be;
    *out = (dt_stream *)malloc(1);
    n_alive++;
    return DT_OK;
}
static void fake_stream_destroy(dt_backend *be, dt_stream *stream) {
    (void)be;
    free(stream);
    n_alive--;
}
static dt_status fake_event_create(dt_backend *be, dt_event **out) {
    (void)be;
    *out = (dt_event *)malloc(1);
    n_alive++;
    return DT_OK;
}
static void fake_event_destroy(dt_backend *be, dt_event *event) {
    (void)be;
    free(event);
    n_alive--;
}
static dt_status fake_event_record(dt_backend *be, dt_event *event, dt_stream *stream) {
    (void)be;
    (void)event;
    note("record%s; ", stream != NULL ? " on stream" : "");
    return DT_OK;
}
static dt_status fake_event_wait(dt_backend *be, dt_event *event, dt_stream *stream) {
    (void)be;
    (void)event;
    note("%s waits; ", stream != NULL ? "stream" : "compute");
    return DT_OK;
}
static dt_status fake_event_query(dt_backend *be, dt_event *event, bool *done) {
    (void)be;
    (void)event;
    *done = copies_pending <= 0;
    copies_pending--;
    return DT_OK;
}

static dt_backend fake_backend(bool is_gpu) {
    return (dt_backend){.name = "fake",
                        .info = {.is_gpu = is_gpu},
                        .alloc = fake_alloc,
                        .free = fake_free,
                        .copy = fake_copy,
                        .stream_create = fake_stream_create,
                        .stream_destroy = fake_stream_destroy,
                        .event_create = fake_event_create,
                        .event_destroy = fake_event_destroy,
                        .event_record = fake_event_record,
                        .event_wait = fake_event_wait,
                        .event_query = fake_event_query};
}

static const dt_reduce_range bucket[N_BUCKET] = {{40, 20}, {16, 24}, {0, 10}};

static dt_reducer *open_reducer(dt_comm *comm, dt_backend *be, bool overlap) {
    dt_reducer *r;
    dt_reducer_options options = {.comm = comm,
                                  .be = be,
                                  .base = axis,
                                  .dtype = DT_DTYPE_F32,
                                  .overlap = overlap,
                                  .n_bucket = N_BUCKET,
                                  .bucket = bucket};
    for (int i = 0; i < AXIS; i++) axis[i] = (float)i;
    for (int i = 0; i < 4; i++) extra[i] = (float)(100 + i);
    copies_pending = 0;
    n_alive = 0;
    assert_int_equal(dt_reducer_create(&options, &r), DT_OK);
    assert_int_equal(dt_reducer_set_extra(r, extra, 4), DT_OK);
    trace[0] = '\0';
    return r;
}

/* Each element of the buckets and of the extra values doubled once; those between buckets untouched. */
static void check_sums(void) {
    for (int i = 0; i < AXIS; i++) {
        bool summed = i < 10 || (i >= 16 && i < 60);
        assert_true(axis[i] == (float)(summed ? 2 * i : i));
    }
    for (int i = 0; i < 4; i++) assert_true(extra[i] == (float)(2 * (100 + i)));
}

static void ready_all(dt_reducer *r, int32_t a, int32_t b, int32_t c) {
    assert_int_equal(dt_reducer_ready(r, a), DT_OK);
    assert_int_equal(dt_reducer_ready(r, b), DT_OK);
    assert_int_equal(dt_reducer_ready(r, c), DT_OK);
    assert_int_equal(dt_reducer_progress(r), DT_OK);
}

static void test_overlap(void **state) {
    (void)state;
    dt_comm comm = fake_comm(2, false);
    dt_backend be = fake_backend(false);
    dt_reducer *r = open_reducer(&comm, &be, true);
    ready_all(r, 0, 1, 2);
    assert_string_equal(trace, "begin 40+20 f32; begin 16+24 f32; begin 0+10 f32; ");
    assert_int_equal(dt_reducer_finish(r), DT_OK);
    assert_string_equal(trace, "begin 40+20 f32; begin 16+24 f32; begin 0+10 f32; begin extra+4 f32; wait; ");
    check_sums();
    dt_reducer_destroy(r);
}

/* Ready in another order: still begun in the order of the list, which all ranks share. */
static void test_order(void **state) {
    (void)state;
    dt_comm comm = fake_comm(2, false);
    dt_backend be = fake_backend(false);
    dt_reducer *r = open_reducer(&comm, &be, true);
    for (int step = 0; step < 3; step++) {
        trace[0] = '\0';
        assert_int_equal(dt_reducer_ready(r, 2), DT_OK);
        assert_string_equal(trace, "");
        assert_int_equal(dt_reducer_ready(r, 0), DT_OK);
        assert_string_equal(trace, "begin 40+20 f32; ");
        assert_int_equal(dt_reducer_ready(r, 1), DT_OK);
        assert_string_equal(trace, "begin 40+20 f32; begin 16+24 f32; begin 0+10 f32; ");
        assert_int_equal(dt_reducer_finish(r), DT_OK);
    }
    dt_reducer_destroy(r);
}

static void test_no_overlap(void **state) {
    (void)state;
    dt_comm comm = fake_comm(2, false);
    dt_backend be = fake_backend(false);
    dt_reducer *r = open_reducer(&comm, &be, false);
    ready_all(r, 0, 1, 2);
    assert_string_equal(trace, "");
    assert_int_equal(dt_reducer_finish(r), DT_OK);
    assert_string_equal(trace, "begin 40+20 f32; begin 16+24 f32; begin 0+10 f32; begin extra+4 f32; wait; ");
    check_sums();
    /* A bucket that never came is a fault of the caller, and is said. */
    assert_int_equal(dt_reducer_ready(r, 0), DT_OK);
    assert_int_equal(dt_reducer_finish(r), DT_ERR_INTERNAL);
    assert_non_null(strstr(dt_error_text(), "bucket 1"));
    dt_reducer_destroy(r);
}

static void test_device_memory(void **state) {
    (void)state;
    dt_comm comm = fake_comm(2, true);
    dt_backend be = fake_backend(true);
    dt_reducer *r = open_reducer(&comm, &be, true);
    assert_int_equal(dt_reducer_ready(r, 0), DT_OK);
    assert_string_equal(trace, "record; stream waits; begin 40+20 on stream f32; ");
    assert_int_equal(dt_reducer_ready(r, 1), DT_OK);
    assert_int_equal(dt_reducer_ready(r, 2), DT_OK);
    trace[0] = '\0';
    assert_int_equal(dt_reducer_finish(r), DT_OK);
    assert_string_equal(trace, "record; stream waits; begin extra+4 on stream f32; wait on stream; "
                               "record on stream; compute waits; ");
    check_sums();
    dt_reducer_destroy(r);
    assert_int_equal(n_alive, 0);
}

/* GPU memory, host communicator: copy out, reduce when the copy is done, copy in. */
static void test_staging(void **state) {
    (void)state;
    dt_comm comm = fake_comm(2, false);
    dt_backend be = fake_backend(true);
    dt_reducer *r = open_reducer(&comm, &be, true);
    copies_pending = 5;
    assert_int_equal(dt_reducer_ready(r, 0), DT_OK);
    assert_string_equal(trace, "record; stream waits; copy on stream; record on stream; ");
    copies_pending = 0;
    assert_int_equal(dt_reducer_progress(r), DT_OK);
    assert_non_null(strstr(trace, "begin copy+20 on stream f32; "));
    copies_pending = 5;
    assert_int_equal(dt_reducer_ready(r, 1), DT_OK);
    assert_int_equal(dt_reducer_ready(r, 2), DT_OK);
    assert_int_equal(dt_reducer_finish(r), DT_OK);
    assert_non_null(strstr(trace, "wait on stream; copy; copy; copy; copy; "));
    check_sums();
    dt_reducer_destroy(r);
    assert_int_equal(n_alive, 0);
}

static void test_alone(void **state) {
    (void)state;
    dt_comm comm = fake_comm(1, false);
    dt_backend be = fake_backend(true);
    dt_reducer *r = open_reducer(&comm, &be, true);
    ready_all(r, 0, 1, 2);
    assert_int_equal(dt_reducer_finish(r), DT_OK);
    assert_string_equal(trace, "");
    assert_int_equal(n_alive, 0);
    dt_reducer_destroy(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overlap),    cmocka_unit_test(test_order),
        cmocka_unit_test(test_no_overlap), cmocka_unit_test(test_device_memory),
        cmocka_unit_test(test_staging),    cmocka_unit_test(test_alone),
    };
    return cmocka_run_group_tests_name("reduce", tests, NULL, NULL);
}
