/* Teams of threads: every item once, stages in order, whoever calls and however late threads come. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "team.h"
#include "test_check.h"

enum { ITEMS = 3000, THREADS = 5, CALLERS = 3, TIMES = 200 };

typedef struct board {
    _Atomic int32_t first[ITEMS], second[ITEMS];
    _Atomic int64_t n_first;
    int64_t items;
    _Atomic bool early, beyond;
} board;

static void first_item(const void *arg, int64_t item, int32_t worker) {
    board *b = *(board *const *)arg;
    if (worker < 0 || worker >= THREADS || item < 0 || item >= b->items) {
        atomic_store(&b->beyond, true);
        return;
    }
    atomic_fetch_add(&b->first[item], 1);
    atomic_fetch_add(&b->n_first, 1);
}

/* Reads what other items of the stage before made. */
static void second_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    board *b = *(board *const *)arg;
    if (atomic_load(&b->n_first) != b->items) atomic_store(&b->early, true);
    atomic_fetch_add(&b->second[item], 1);
}

static void range_items(const void *arg, int64_t from, int64_t to) {
    board *b = *(board *const *)arg;
    for (int64_t i = from; i < to; i++) atomic_fetch_add(&b->first[i], 1);
}

static bool all_once(const board *b, bool range) {
    for (int64_t i = 0; i < ITEMS; i++) {
        const int32_t want = i < b->items ? 1 : 0;
        if (atomic_load(&b->first[i]) != want || (!range && atomic_load(&b->second[i]) != want)) return false;
    }
    return !atomic_load(&b->early) && !atomic_load(&b->beyond);
}

static void *call(void *team) {
    static const int64_t sizes[] = {0, 1, 2, 4, 5, 17, ITEMS};
    const dt_cpu_crew crew = {THREADS, *(const bool *)team};
    bool good = true;
    board *b = malloc(sizeof *b);
    for (int32_t i = 0; b && good && i < TIMES; i++) {
        *b = (board){.items = sizes[(size_t)i % (sizeof sizes / sizeof *sizes)]};
        const dt_cpu_stage stage[] = {{b->items, first_item, i % 2}, {b->items, second_item, false}};
        dt_cpu_share(crew, stage, 2, &b);
        good = all_once(b, false);
        *b = (board){.items = b->items};
        dt_cpu_share_range(crew, b->items, range_items, &b);
        good = good && all_once(b, true);
    }
    free(b);
    return good ? team : NULL;
}

static void test_every_item_once(void **state) {
    (void)state;
    bool team = true, openmp = false;
    pthread_t caller[CALLERS];
    assert_non_null(call(&team));
    assert_non_null(call(&openmp));
    for (int i = 0; i < CALLERS; i++) assert_int_equal(pthread_create(&caller[i], NULL, call, &team), 0);
    for (int i = 0; i < CALLERS; i++) {
        void *good;
        assert_int_equal(pthread_join(caller[i], &good), 0);
        assert_non_null(good);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_item_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
