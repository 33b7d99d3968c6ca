/* The keyed permutation: a bijection for every n, different under different keys, and even. */
#include "data_support.h"

#include "core/rng.h"
#include "data/order.h"

static void check_bijection(uint64_t key, uint64_t n) {
    uint8_t *seen = calloc(1, n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = dt_order_at(key, n, i);
        assert_true(at < n);
        assert_int_equal(seen[at], 0);
        seen[at] = 1;
    }
    free(seen);
}

static void test_bijection(void **state) {
    (void)state;
    for (uint64_t n = 1; n <= 300; n++) check_bijection(n * 77, n);
    const uint64_t sizes[] = {1023, 1024, 1025, 60000, 65536, 65537, 1281167};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) check_bijection(5 + i, sizes[i]);
}

/* Chi-square of where sample 0 goes under 60000 keys; the 99.99 % point of n - 1 <= 16 degrees is below
 * 50. */
static void test_even(void **state) {
    (void)state;
    for (uint64_t n = 2; n <= 17; n++) {
        const uint64_t n_keys = 60000;
        for (uint64_t i = 0; i < n; i += n - 1) {
            double count[17] = {0}, chi = 0, expected = (double)n_keys / (double)n;
            for (uint64_t key = 0; key < n_keys; key++)
                count[dt_order_at(dt_rng_key(9, DT_RNG_ORDER, key), n, i)]++;
            for (uint64_t k = 0; k < n; k++) chi += (count[k] - expected) * (count[k] - expected) / expected;
            assert_true(chi < 50);
        }
    }
}

/* Neighbours in the order are far apart, and no fixed step takes one to the next. */
static void test_no_pattern(void **state) {
    (void)state;
    const uint64_t n = 100000;
    double distance = 0;
    uint64_t same_step = 0, step_before = 0;
    for (uint64_t i = 1; i < n; i++) {
        uint64_t a = dt_order_at(3, n, i - 1), b = dt_order_at(3, n, i);
        distance += a > b ? (double)(a - b) : (double)(b - a);
        uint64_t step = (b + n - a) % n;
        same_step += step == step_before;
        step_before = step;
    }
    distance /= (double)n * (double)n; /* 1/3 for independent draws */
    assert_true(distance > 0.328 && distance < 0.338);
    assert_true(same_step < 20);
}

static void test_epochs_differ(void **state) {
    (void)state;
    uint64_t same_seed = 0, same_epoch = 0;
    for (uint64_t t = 0; t < 5000; t++) {
        same_epoch += dt_order_sample(1, 5000, t) == dt_order_sample(1, 5000, t + 5000);
        same_seed += dt_order_sample(1, 5000, t) == dt_order_sample(2, 5000, t);
    }
    assert_true(same_epoch < 12 && same_seed < 12); /* one expected */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bijection), cmocka_unit_test(test_even),
                                       cmocka_unit_test(test_no_pattern),
                                       cmocka_unit_test(test_epochs_differ)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
