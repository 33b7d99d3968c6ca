/* Amounts as people read them, and names that were meant. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/dir.h"
#include "core/text.h"

static void counts_take_the_plural(void **state) {
    (void)state;
    assert_string_equal(dt_count_text(1, "class").s, "1 class");
    assert_string_equal(dt_count_text(0, "class").s, "0 classes");
    assert_string_equal(dt_count_text(2, "micro-batch").s, "2 micro-batches");
    assert_string_equal(dt_count_text(3, "shard").s, "3 shards");
    assert_string_equal(dt_count_text(2, "epoch").s, "2 epochs");
    assert_string_equal(dt_count_text(1, "epoch").s, "1 epoch");
}

static void bytes_are_never_rounded_to_nothing(void **state) {
    (void)state;
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {{0, "0 bytes"},
                 {1, "1 byte"},
                 {1023, "1023 bytes"},
                 {1024, "1.00 KiB"},
                 {10 * 1024, "10.0 KiB"},
                 {1023.9 * 1024, "1.00 MiB"},
                 {1000 * 1024, "1000 KiB"},
                 {412.3 * 1048576, "412 MiB"},
                 {23.04 * 1073741824.0, "23.0 GiB"},
                 {3e15, "2.66 PiB"},
                 {-1, "unknown"},
                 {NAN, "unknown"},
                 {INFINITY, "unknown"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(dt_bytes_text(cases[i].bytes).s, cases[i].text);
}

static void needed_and_free_differ(void **state) {
    (void)state;
    for (double bytes = 1; bytes < 1e15; bytes *= 1.37) {
        const double whole = floor(bytes);
        assert_string_not_equal(dt_bytes_needed_text(whole + 1).s, dt_bytes_free_text(whole).s);
    }
    assert_string_equal(dt_bytes_needed_text(1048577).s, "1.01 MiB");
    assert_string_equal(dt_bytes_free_text(1048577).s, "1.00 MiB");
}

static void numbers_are_short(void **state) {
    (void)state;
    static const struct {
        double x;
        const char *text;
    } cases[] = {{0, "0"},
                 {7, "7"},
                 {0.4, "0.4"},
                 {0.0123, "0.012"},
                 {2.37, "2.4"},
                 {9.97, "10"},
                 {987, "987"},
                 {9999, "9999"},
                 {12345, "12.3k"},
                 {2.4e5, "240k"},
                 {1234567, "1.23M"},
                 {25557032, "25.56M"},
                 {123456789, "123M"},
                 {4.1e9, "4.10G"},
                 {NAN, "-"},
                 {INFINITY, "-"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(dt_number_text(cases[i].x).s, cases[i].text);
    assert_string_equal(dt_unit_text(1.234e10, "FLOP/s").s, "12.3 GFLOP/s");
    assert_string_equal(dt_unit_text(999.7e9, "FLOP/s").s, "1 TFLOP/s");
    assert_string_equal(dt_unit_text(12, "FLOP/s").s, "12.0 FLOP/s");
    assert_string_equal(dt_unit_text(NAN, "FLOP/s").s, "-");
}

static void decimals_say_what_counts(void **state) {
    (void)state;
    assert_string_equal(dt_decimal_text(2.004).s, "2");
    assert_string_equal(dt_decimal_text(1.1).s, "1.1");
    assert_string_equal(dt_decimal_text(90).s, "90");
    assert_string_equal(dt_decimal_text(0.25).s, "0.25");
    assert_string_equal(dt_decimal_text(0.00312).s, "0.0031");
    assert_string_equal(dt_decimal_text(0).s, "0");
    assert_string_equal(dt_decimal_text(-0.0).s, "0");
    assert_string_equal(dt_decimal_text(NAN).s, "not a number");
}

static void meant_names_are_found(void **state) {
    (void)state;
    static const char *const names[] = {"train", "eval", "predict"};
    assert_string_equal(dt_nearest_name("trian", 3, names), "train");
    assert_string_equal(dt_nearest_name("predcit", 3, names), "predict");
    assert_string_equal(dt_nearest_name("EVAL", 3, names), "eval");
    assert_null(dt_nearest_name("colour", 3, names));
}

static void errors_of_a_creation_have_a_cause(void **state) {
    (void)state;
    assert_string_equal(dt_create_error("absent/file", EACCES).s, strerror(EACCES));
    assert_string_equal(dt_create_error("file", ENOSPC).s, strerror(ENOSPC)); /* there are inodes here */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_take_the_plural),
        cmocka_unit_test(bytes_are_never_rounded_to_nothing),
        cmocka_unit_test(needed_and_free_differ),
        cmocka_unit_test(numbers_are_short),
        cmocka_unit_test(decimals_say_what_counts),
        cmocka_unit_test(meant_names_are_found),
        cmocka_unit_test(errors_of_a_creation_have_a_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
