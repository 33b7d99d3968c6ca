/* Masking: how many, of which kind, and that a draw depends on nothing but seed, epoch, sample and place. */
#include <math.h>

#include "data_support.h"
#include "mask.h"

enum { N = 1 << 16, WORDS = 50, END = 49, MASK = 50 };

static const dt_mask plain = {
    .seed = 7, .share = 0.15f, .random = 0.1f, .keep = 0.1f, .token = MASK, .n_vocab = WORDS, .end = END};
static int32_t text[N], token[N], label[N];

static void hide(const dt_mask *m, uint64_t epoch, int64_t sample, int64_t n) {
    for (int64_t i = 0; i < n; i++) token[i] = text[i] = (int32_t)(i * 7 % WORDS);
    dt_mask_tokens(m, epoch, sample, n, token, label);
}

/* Within four standard deviations. */
static void expect_share(double n, double of, double share) {
    if (!(fabs(n - of * share) < 4 * sqrt(of * share * (1 - share))))
        fail_msg("%g of %g, expected %g", n, of, share);
}

static void test_shares(void **state) {
    (void)state;
    int64_t found = 0, masked = 0, kept = 0, words = 0;
    hide(&plain, 3, 11, N);
    for (int64_t i = 0; i < N; i++) {
        words += text[i] != END;
        if (label[i] < 0) {
            assert_int_equal(token[i], text[i]);
            continue;
        }
        assert_true(label[i] == text[i] && label[i] != END && token[i] <= MASK);
        found++, masked += token[i] == MASK, kept += token[i] == text[i];
    }
    expect_share((double)found, (double)words, 0.15);
    expect_share((double)masked, (double)found, 0.8);
    expect_share((double)kept, (double)found, 0.1 + 0.1 / WORDS); /* a random one may be the same */
}

static void test_extremes(void **state) {
    (void)state;
    dt_mask all = plain;
    all.share = 1, all.random = 0, all.keep = 0, all.end = -1;
    hide(&all, 0, 0, N);
    for (int64_t i = 0; i < N; i++) assert_true(label[i] == text[i] && token[i] == MASK);
    all.keep = 1;
    hide(&all, 0, 0, N);
    for (int64_t i = 0; i < N; i++) assert_true(label[i] == text[i] && token[i] == text[i]);
}

static void test_draws_are_of_place_sample_and_epoch(void **state) {
    (void)state;
    enum { SOME = 512 };
    int32_t first[SOME];
    int same[3] = {0};
    hide(&plain, 3, 11, N);
    memcpy(first, label, sizeof first);
    hide(&plain, 3, 11, SOME); /* fewer places */
    assert_memory_equal(first, label, sizeof first);
    dt_mask other = plain;
    other.seed = 8;
    for (int k = 0; k < 3; k++) {
        hide(k == 2 ? &other : &plain, k == 0 ? 4 : 3, k == 1 ? 12 : 11, SOME);
        for (int i = 0; i < SOME; i++) same[k] += label[i] >= 0 && first[i] >= 0;
        assert_true(same[k] < SOME / 20); /* a fortieth by chance */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_draws_are_of_place_sample_and_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
