/* Histograms that grow, and the three ways to a range. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/range.h"

static void add(dt_histogram *h, int64_t n, const float *x) {
    assert_int_equal(dt_histogram_add(h, n, x), DT_OK);
}

static void expect_range(const dt_histogram *h, dt_range_method method, double low, double high,
                         double within) {
    float a, b;
    dt_histogram_range(h, method, &a, &b);
    assert_float_equal(a, low, within);
    assert_float_equal(b, high, within);
}

static void all_that_was_seen(void **state) {
    dt_histogram h = {.limit = 0};
    (void)state;
    add(&h, 3, (const float[]){-0.5f, 0.25f, 1});
    expect_range(&h, DT_RANGE_MINMAX, -0.5, 1, 0);
    add(&h, 2, (const float[]){6, -0.125f});
    expect_range(&h, DT_RANGE_MINMAX, -0.5, 6, 0);
    assert_int_equal(h.n, 5);
}

/* Zero is always within: it is what is padded with, and what a Relu leaves. */
static void zero_is_within(void **state) {
    dt_histogram above = {.limit = 0}, below = {.limit = 0}, none = {.limit = 0}, zeros = {.limit = 0};
    (void)state;
    add(&above, 2, (const float[]){3, 5});
    add(&below, 2, (const float[]){-3, -5});
    add(&zeros, 3, (const float[]){0, -0.0f, 0});
    for (int m = 0; m < DT_RANGE_METHODS; m++) {
        expect_range(&above, (dt_range_method)m, 0, 5, 0.01);
        expect_range(&below, (dt_range_method)m, -5, 0, 0.01);
        expect_range(&none, (dt_range_method)m, 0, 0, 0);
        expect_range(&zeros, (dt_range_method)m, 0, 0, 0);
    }
    assert_int_equal(zeros.n_zero, 3);
}

/* However far the numbers of one batch are from those of the one before, the counts are as if the limit had been known. */
static void grows_in_one_pass(void **state) {
    static dt_histogram grown, known;
    (void)state;
    for (int i = 0; i < 4000; i++) add(&grown, 1, &(float){0.01f * (float)(i % 100 - 50)});
    add(&grown, 1, &(float){700});
    add(&known, 1, &(float){700});
    for (int i = 0; i < 4000; i++) add(&known, 1, &(float){0.01f * (float)(i % 100 - 50)});
    assert_true(grown.limit == 1024 && known.limit == 1024);
    assert_memory_equal(grown.positive, known.positive, sizeof grown.positive);
    assert_memory_equal(grown.negative, known.negative, sizeof grown.negative);
    int64_t n = grown.n_zero;
    for (int i = 0; i < DT_RANGE_BINS; i++) n += grown.positive[i] + grown.negative[i];
    assert_int_equal(n, 4001);
}

static void percentile_leaves_out_the_last(void **state) {
    static dt_histogram h;
    (void)state;
    for (int i = 0; i < 99995; i++) add(&h, 1, &(float){(float)(i % 1000) / 1000});
    for (int i = 0; i < 5; i++) add(&h, 1, &(float){50});
    expect_range(&h, DT_RANGE_MINMAX, 0, 50, 0);
    expect_range(&h, DT_RANGE_PERCENTILE, 0, 1, 64.0 / DT_RANGE_BINS);
    for (int i = 0; i < 20; i++) add(&h, 1, &(float){50}); /* more than one in 10,000 */
    expect_range(&h, DT_RANGE_PERCENTILE, 0, 50, 0.05);
}

/* Of 256 levels for bins that are as many nothing is lost; a tail of single counts beyond a full body is not worth what the
 * body loses; a body that reaches to the end is kept whole. */
static void entropy_of_known_histograms(void **state) {
    double count[DT_RANGE_BINS] = {0};
    (void)state;
    for (int i = 0; i < 256; i++) count[i] = 10 + i % 7;
    assert_int_equal(dt_entropy_bins(DT_RANGE_BINS, count, 256), 256);
    memset(count, 0, sizeof count);
    for (int i = 0; i < 300; i++) count[i] = i % 2 ? 100000 : 10;
    count[2000] = 1;
    const int32_t kept = dt_entropy_bins(DT_RANGE_BINS, count, 256);
    assert_in_range(kept, 256, 400);
    for (int i = 0; i < DT_RANGE_BINS; i++) count[i] = 1000;
    assert_int_equal(dt_entropy_bins(DT_RANGE_BINS, count, 128), DT_RANGE_BINS);
    memset(count, 0, sizeof count);
    assert_in_range(dt_entropy_bins(DT_RANGE_BINS, count, 128), 1, DT_RANGE_BINS);
}

/* Most numbers are one, as the background of images is: the others are not cut off for it. */
static void entropy_keeps_what_is_beyond_a_spike(void **state) {
    static dt_histogram h;
    float low, high;
    (void)state;
    for (int i = 0; i < 50000; i++) add(&h, 1, &(float){-0.8f});
    for (int i = 0; i < 50000; i++) add(&h, 1, &(float){-0.8f + 2.8f * (float)(i % 251) / 250});
    dt_histogram_range(&h, DT_RANGE_ENTROPY, &low, &high);
    assert_true(high > 1.9f && low <= -0.79f);
}

static void refuses_what_is_no_number(void **state) {
    const float bad[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    for (int i = 0; i < 3; i++) {
        dt_histogram h = {.limit = 0};
        const float x[] = {1, bad[i], 2};
        assert_int_equal(dt_histogram_add(&h, 3, x), DT_ERR_NONFINITE);
        assert_non_null(strstr(dt_error_text(), "number 1 is"));
    }
}

static void holds_extremes(void **state) {
    dt_histogram h = {.limit = 0};
    (void)state;
    add(&h, 4, (const float[]){3.4e38f, -3.4e38f, 1e-45f, -1e-45f});
    add(&h, 0, NULL);
    for (int m = 0; m < DT_RANGE_METHODS; m++) {
        float low, high;
        dt_histogram_range(&h, (dt_range_method)m, &low, &high);
        assert_true(isfinite(low) && isfinite(high) && low <= 0 && high >= 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_was_seen),           cmocka_unit_test(zero_is_within),
        cmocka_unit_test(grows_in_one_pass),           cmocka_unit_test(percentile_leaves_out_the_last),
        cmocka_unit_test(entropy_of_known_histograms), cmocka_unit_test(entropy_keeps_what_is_beyond_a_spike),
        cmocka_unit_test(refuses_what_is_no_number),   cmocka_unit_test(holds_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
