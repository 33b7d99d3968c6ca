/* Philox against the vectors published with it, and what the rest builds on it: uniform draws, keys. */
#include "test_check.h"

/* Known answers of Random123 1.14 (philox4x32, 10 rounds). */
typedef struct known_answer {
    uint32_t counter[4], key[2], result[4];
} known_answer;

static const known_answer known_answers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static uint64_t joined(uint32_t high, uint32_t low) {
    return (uint64_t)high << 32 | low;
}

static void test_known_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof known_answers / sizeof known_answers[0]; i++) {
        const known_answer *k = &known_answers[i];
        dt_u32x4 r = dt_philox(joined(k->key[1], k->key[0]), joined(k->counter[3], k->counter[2]),
                               joined(k->counter[1], k->counter[0]));
        for (int w = 0; w < 4; w++) assert_int_equal(r.v[w], k->result[w]);
    }
}

static void test_uniform(void **state) {
    (void)state;
    enum { N = 1 << 16 };
    assert_true(dt_u01(0) == 0.0f);
    assert_true(dt_u01(0xffffffffu) < 1.0f);
    assert_true(dt_u01(0x80000000u) == 0.5f);
    double sum = 0, sum2 = 0;
    int32_t count[16] = {0};
    for (uint32_t i = 0; i < N; i++) {
        dt_u32x4 r = dt_philox(5, 9, i);
        for (int w = 0; w < 4; w++) {
            float u = dt_u01(r.v[w]);
            assert_true(u >= 0 && u < 1);
            sum += (double)u, sum2 += (double)u * (double)u;
            count[(int)(u * 16)]++;
        }
    }
    double mean = sum / (4.0 * N), variance = sum2 / (4.0 * N) - mean * mean;
    assert_true(fabs(mean - 0.5) < 4 * sqrt(1 / 12.0 / (4.0 * N)));
    assert_true(fabs(variance - 1 / 12.0) < 1e-3);
    for (int b = 0; b < 16; b++) assert_true(abs(count[b] - N / 4) < 5 * 125); /* 5 sigma of 16384 */
}

static void test_keys_differ(void **state) {
    (void)state;
    enum { N_SEED = 4, N_SALT = 8, N = N_SEED * DT_RNG_TEST * N_SALT };
    uint64_t key[N];
    int32_t n = 0;
    for (uint64_t seed = 0; seed < N_SEED; seed++)
        for (int stream = DT_RNG_INIT; stream <= DT_RNG_TEST; stream++)
            for (uint64_t salt = 0; salt < N_SALT; salt++)
                key[n++] = dt_rng_key(seed, (dt_rng_stream)stream, salt);
    assert_int_equal(n, N);
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < i; j++) assert_true(key[i] != key[j]);
    assert_true(dt_rng_key(1, DT_RNG_INIT, 0) == dt_rng_key(1, DT_RNG_INIT, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_keys_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
