/* Lanes of spans: who keeps what, and when. */
#include <pthread.h>

#include "core/trace.h"
#include "test_check.h"

static const dt_lane *lane(const dt_trace *t, const char *name, int32_t number) {
    for (const dt_lane *l = dt_trace_lanes(t); l; l = l->next)
        if (strcmp(l->name, name) == 0 && l->number == number) return l;
    fail_msg("no lane %s %d", name, number);
    return NULL;
}

static void span(const char *name, int64_t number) {
    dt_trace_end(dt_trace_begin(), name, number);
}

static void only_attached_threads_keep_and_only_when_told(void **state) {
    (void)state;
    dt_trace *t;
    check_ok(dt_trace_create(8, &t));
    span("unseen", 0);
    assert_null(dt_trace_current());
    dt_trace_attach(t, "main");
    assert_ptr_equal(dt_trace_current(), t);
    span("early", 1);
    dt_trace_keep(t, true);
    span("kept", 2);
    dt_trace_keep(t, false);
    span("late", 3);
    dt_trace_attach(NULL, "");
    dt_trace_keep(t, true);
    span("detached", 4);
    const dt_lane *l = lane(t, "main", 0);
    assert_int_equal(l->n, 1);
    assert_string_equal(l->span[0].name, "kept");
    assert_int_equal(l->span[0].number, 2);
    assert_true(l->span[0].begin_s > 0 && l->span[0].end_s >= l->span[0].begin_s);
    dt_trace_destroy(t);
}

static void what_finds_no_room_is_counted(void **state) {
    (void)state;
    dt_trace *t;
    check_ok(dt_trace_create(3, &t));
    dt_trace_keep(t, true);
    dt_trace_attach(t, "main");
    for (int i = 0; i < 5; i++) span("x", i);
    dt_trace_attach(NULL, "");
    const dt_lane *l = lane(t, "main", 0);
    assert_int_equal(l->n, 3);
    assert_int_equal(l->n_lost, 2);
    assert_int_equal(l->span[2].number, 2);
    assert_int_equal(dt_trace_lost_lanes(t), 0);
    dt_trace_destroy(t);
}

enum { THREADS = 4, SPANS = 1000 };

static void *work(void *t) {
    dt_trace_attach(t, "worker");
    for (int i = 0; i < SPANS; i++) span("x", i);
    return NULL;
}

static void each_thread_has_its_lane(void **state) {
    (void)state;
    dt_trace *t;
    pthread_t thread[THREADS];
    check_ok(dt_trace_create(SPANS, &t));
    dt_trace_keep(t, true);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&thread[i], NULL, work, t), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        const dt_lane *l = lane(t, "worker", i);
        assert_int_equal(l->n, SPANS);
        assert_int_equal(l->n_lost, 0);
        for (int k = 0; k < SPANS; k++) assert_int_equal(l->span[k].number, k);
    }
    dt_trace_destroy(t);
}

static void words_outlive_what_they_are_copied_from(void **state) {
    (void)state;
    dt_trace *t;
    char buffer[] = "conv1";
    check_ok(dt_trace_create(1, &t));
    const char *copy = dt_trace_text(t, buffer);
    buffer[0] = 'x';
    assert_string_equal(copy, "conv1");
    dt_trace_destroy(t);
    dt_trace_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_attached_threads_keep_and_only_when_told),
        cmocka_unit_test(what_finds_no_room_is_counted),
        cmocka_unit_test(each_thread_has_its_lane),
        cmocka_unit_test(words_outlive_what_they_are_copied_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
