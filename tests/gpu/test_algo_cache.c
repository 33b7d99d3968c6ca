/* The algorithm cache's file: what is written is read back; damage, another card and nonsense are ignored. Needs
 * no GPU. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "algo_cache.h"

static const char CARD[] = "Test Card 80GB";
enum { VERSION = 91900 };

static char dir[256];

static int set_up(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%.200s/dtrain-cache-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            char path[600];
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            unlink(path);
        }
    if (d) closedir(d);
    return rmdir(dir);
}

static dt_algo_record record(int64_t k, int32_t rules) {
    dt_algo_record r = {.spec = {.kind = DT_CONV_D_BN,
                                 .dtype = DT_DTYPE_F16,
                                 .d = {.n = 256,
                                       .h = 56,
                                       .w = 55,
                                       .c = 64,
                                       .k = k,
                                       .r = 3,
                                       .s = 1,
                                       .p = 28,
                                       .q = 27,
                                       .stride_h = 2,
                                       .stride_w = 1,
                                       .pad_h = 1,
                                       .pad_w = 0,
                                       .dil_h = 1,
                                       .dil_w = 3,
                                       .groups = 2}},
                        .rules = rules,
                        .usable = true,
                        .seconds = 1.25e-4,
                        .choice = {.engine = 37, .n_knob = 2, .knob = {12, 24}, .value = {-1, 7}}};
    return r;
}

static void write_two(dt_algo_cache *c) {
    dt_algo_cache_open(c, dir, CARD, VERSION);
    dt_algo_record a = record(64, 0), b = record(128, 3);
    b.usable = false;
    b.choice.n_knob = 0;
    assert_true(dt_algo_cache_put(c, &a));
    assert_true(dt_algo_cache_put(c, &b));
    dt_algo_cache_write(c);
}

static void test_reads_what_it_wrote(void **state) {
    (void)state;
    dt_algo_cache c;
    write_two(&c);
    dt_algo_cache_close(&c);
    dt_algo_cache_open(&c, dir, CARD, VERSION);
    assert_int_equal(c.n, 2);
    dt_algo_record want = record(64, 0);
    const dt_algo_record *got = dt_algo_cache_find(&c, &want.spec, 0);
    assert_non_null(got);
    assert_memory_equal(&got->spec, &want.spec, sizeof want.spec);
    assert_true(got->usable);
    assert_true(got->seconds > 1.249e-4 && got->seconds < 1.251e-4);
    assert_int_equal(got->choice.engine, 37);
    assert_int_equal(got->choice.n_knob, 2);
    assert_int_equal(got->choice.knob[1], 24);
    assert_int_equal(got->choice.value[0], -1);
    assert_null(dt_algo_cache_find(&c, &want.spec, 1)); /* other rules, other choice */
    want = record(128, 3);
    got = dt_algo_cache_find(&c, &want.spec, 3);
    assert_non_null(got);
    assert_false(got->usable);
    dt_algo_cache_close(&c);
}

static void test_replaces(void **state) {
    (void)state;
    dt_algo_cache c;
    write_two(&c);
    dt_algo_record again = record(64, 0);
    again.choice.engine = 5;
    assert_true(dt_algo_cache_put(&c, &again));
    assert_int_equal(c.n, 2);
    assert_int_equal(dt_algo_cache_find(&c, &again.spec, 0)->choice.engine, 5);
    dt_algo_cache_close(&c);
}

/* Two processes that start at once both keep what they learnt. */
static void test_writers_add_up(void **state) {
    (void)state;
    dt_algo_cache a, b, c;
    const dt_algo_record of_a = record(72, 0), of_b = record(80, 1);
    write_two(&c);
    dt_algo_cache_close(&c);
    dt_algo_cache_open(&a, dir, CARD, VERSION);
    dt_algo_cache_open(&b, dir, CARD, VERSION);
    assert_true(dt_algo_cache_put(&a, &of_a));
    assert_true(dt_algo_cache_put(&b, &of_b));
    dt_algo_cache_write(&a);
    dt_algo_cache_write(&b);
    assert_int_equal(b.n, 3);
    dt_algo_cache_open(&c, dir, CARD, VERSION);
    assert_int_equal(c.n, 4);
    assert_non_null(dt_algo_cache_find(&c, &of_a.spec, 0));
    assert_non_null(dt_algo_cache_find(&c, &of_b.spec, 1));
    dt_algo_cache_close(&a), dt_algo_cache_close(&b), dt_algo_cache_close(&c);
}

static void test_foreign_files_are_ignored(void **state) {
    (void)state;
    dt_algo_cache c, other;
    write_two(&c);
    dt_algo_cache_open(&other, dir, CARD, VERSION + 1);
    assert_int_equal(other.n, 0);
    /* A file of another card under this card's name. */
    dt_algo_cache_open(&other, dir, "Test_Card_80GB", VERSION);
    assert_string_equal(other.path, c.path);
    assert_int_equal(other.n, 0);
    dt_algo_cache_close(&c);
}

/* Flips every byte in turn, and cuts the file at every length: never more records than a whole file gives. */
static void test_damage_is_ignored(void **state) {
    (void)state;
    dt_algo_cache c;
    char text[4096];
    write_two(&c);
    FILE *f = fopen(c.path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    assert_true(n > 100 && n < sizeof text);
    for (size_t i = 0; i < 2 * n; i++) {
        f = fopen(c.path, "w");
        assert_non_null(f);
        char keep = text[i % n];
        if (i < n) text[i] = (char)(text[i] ^ 1);
        fwrite(text, 1, i < n ? n : i - n, f);
        if (i < n) text[i] = keep;
        fclose(f);
        dt_algo_cache back;
        dt_algo_cache_open(&back, dir, CARD, VERSION);
        bool checksum_tail = (i < n ? i : i - n) + 1 >= n; /* the last newline does not count */
        if (!checksum_tail && back.n != 0) fail_msg("damage at byte %zu went unseen", i % n);
        dt_algo_cache_close(&back);
    }
    dt_algo_cache_close(&c);
}

/* The words of a cuBLASLt algorithm use all bits. */
static void test_products(void **state) {
    (void)state;
    dt_algo_cache c;
    dt_algo_record want = {.spec = {.kind = DT_BLAS_APPLY_RES_RELU,
                                    .dtype = DT_DTYPE_BF16,
                                    .d = {.n = 802816, .c = 64, .k = 256}},
                           .usable = true,
                           .seconds = 0,
                           .choice = {.engine = 2, .n_knob = DT_KNOB_MAX}};
    for (int i = 0; i < DT_KNOB_MAX; i++) want.choice.value[i] = i % 2 ? INT64_MIN + i : INT64_MAX - i;
    dt_algo_cache_open(&c, dir, CARD, VERSION);
    assert_true(dt_algo_cache_put(&c, &want));
    dt_algo_cache_write(&c);
    dt_algo_cache_close(&c);
    dt_algo_cache_open(&c, dir, CARD, VERSION);
    const dt_algo_record *got = dt_algo_cache_find(&c, &want.spec, 0);
    assert_non_null(got);
    assert_int_equal(got->choice.engine, 2);
    assert_int_equal(got->choice.n_knob, DT_KNOB_MAX);
    assert_memory_equal(got->choice.value, want.choice.value, sizeof want.choice.value);
    dt_algo_cache_close(&c);
}

/* A file whose checksum is right, but one line is not. */
static void test_nonsense_is_ignored(void **state) {
    (void)state;
    static const char HEAD[] = "dtrain engines 3\nTest Card 80GB, cuDNN 91900\n";
    static const char SPEC[] = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
    const struct {
        int kind, dtype;
        const char *rest; /* rules, nanoseconds, usable, engine, knobs */
        int32_t n;
    } line[] = {
        {DT_CACHE_KIND_COUNT - 1, DT_DTYPE_F16, "0 9 1 2 1 3 4", 1},
        {DT_CACHE_KIND_COUNT, DT_DTYPE_F16, "0 9 1 2 1 3 4", 0},
        {-1, DT_DTYPE_F16, "0 9 1 2 1 3 4", 0},
        {0, DT_DTYPE_COUNT, "0 9 1 2 1 3 4", 0},
        {0, -1, "0 9 1 2 1 3 4", 0},
        {0, DT_DTYPE_F16, "0 9 1 2 0", 1},
        {0, DT_DTYPE_F16, "0 9 1 2 -1", 0},
        {0, DT_DTYPE_F16, "0 9 1 2 2 3 4", 0},
        {0, DT_DTYPE_F16, "0 9 1 2 1000000 3 4", 0},
        {0, DT_DTYPE_F16, "0 -9 1 2 0", 0},
        {0, DT_DTYPE_F16, "0 9223372036854775807 1 2 0", 0},
        {0, DT_DTYPE_F16, "0 9 1", 0},
    };
    for (size_t i = 0; i < sizeof line / sizeof line[0]; i++) {
        dt_algo_cache c;
        char text[512];
        dt_algo_cache_open(&c, dir, CARD, VERSION);
        const int n = snprintf(text, sizeof text, "%s%d %d %s %s\n", HEAD, line[i].kind, line[i].dtype, SPEC,
                               line[i].rest);
        FILE *f = fopen(c.path, "w");
        assert_non_null(f);
        fprintf(f, "%send %016llx\n", text, (unsigned long long)XXH3_64bits(text, (size_t)n));
        assert_int_equal(fclose(f), 0);
        dt_algo_cache_close(&c);
        dt_algo_cache_open(&c, dir, CARD, VERSION);
        if (c.n != line[i].n) fail_msg("line %zu gave %d records instead of %d", i, c.n, line[i].n);
        dt_algo_cache_close(&c);
    }
}

static void test_no_place_is_no_error(void **state) {
    (void)state;
    dt_algo_cache c;
    dt_algo_cache_open(&c, "/proc/no-such-place", CARD, VERSION);
    dt_algo_record a = record(64, 0);
    assert_true(dt_algo_cache_put(&c, &a));
    dt_algo_cache_write(&c);
    assert_non_null(dt_algo_cache_find(&c, &a.spec, 0));
    dt_algo_cache_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_what_it_wrote, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_replaces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writers_add_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_foreign_files_are_ignored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage_is_ignored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_products, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense_is_ignored, set_up, tear_down),
        cmocka_unit_test(test_no_place_is_no_error),
    };
    return cmocka_run_group_tests_name("algorithm cache", tests, NULL, NULL);
}
