/* Mean average precision against scikit-learn 1.8's average_precision_score, with ties and a label that nothing has. How
 * ranks share the rows: tests/api/ranks.c. */
#include <math.h>

#include "test_check.h"
#include "train/ranking.h"

enum { ROWS = 60, LABELS = 5 };

/* average_precision_score(y[:, k], score[:, k]) with
 *   i, k = arange(60)[:, None], arange(5)[None]
 *   score = (i * (37 + 6 * k) + k * 11) % (7 + 8 * k) / 4
 *   y = ((i * 13 + k * 5) % (3 + 2 * k) == 0) & (k < 4) */
static const double sklearn[LABELS] = {0.34346434459293557, 0.22883597883597884, 0.16698671698671699,
                                       0.090946054976126178, 0};
static const double sklearn_macro = 0.1660466190783515;

static float score_of(int64_t i, int64_t k) {
    return (float)((i * (37 + 6 * k) + k * 11) % (7 + 8 * k)) / 4;
}

static bool holds(int64_t i, int64_t k) {
    return (i * 13 + k * 5) % (3 + 2 * k) == 0 && k < 4;
}

static void need(double got, double want) {
    if (!(fabs(got - want) <= 1e-15)) fail_msg("%.17g, scikit-learn's %.17g", got, want);
}

/* In any order of the rows. */
static void test_one_label(void **state) {
    (void)state;
    dt_ranked v[ROWS] = {{0.1f, 0}, {0.4f, 0}, {0.35f, 1}, {0.8f, 1}};
    need(dt_average_precision(v, 4), 0.83333333333333337);
    static const int64_t strides[] = {1, 7, 13, 59}; /* none has a divisor with ROWS */
    for (int64_t k = 0; k < LABELS; k++)
        for (size_t s = 0; s < sizeof strides / sizeof strides[0]; s++) {
            for (int64_t i = 0; i < ROWS; i++) {
                const int64_t at = i * strides[s] % ROWS;
                v[i] = (dt_ranked){score_of(at, k), holds(at, k)};
            }
            need(dt_average_precision(v, ROWS), sklearn[k]);
        }
    need(dt_average_precision(v, 0), 0);
    for (int i = 0; i < ROWS; i++) v[i] = (dt_ranked){1, i % 4 == 0}; /* all alike: the share that has it */
    need(dt_average_precision(v, ROWS), 0.25);
    for (int i = 0; i < ROWS; i++) v[i] = (dt_ranked){i < 9 ? INFINITY : -INFINITY, i < 9};
    need(dt_average_precision(v, ROWS), 1);
}

static void test_mean_over_labels(void **state) {
    (void)state;
    static float score[ROWS * LABELS];
    static uint8_t is[ROWS * LABELS];
    dt_ranking r = {.n_label = LABELS, .n_row = ROWS, .score = score, .is = is};
    double mean;
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t k = 0; k < LABELS; k++) {
            score[i * LABELS + k] = score_of(i, k);
            is[i * LABELS + k] = holds(i, k);
        }
    check_ok(dt_ranking_average(&r, NULL, NULL, &mean));
    need(mean, sklearn_macro);
    assert_int_equal(r.n_bare, 1);
    score[7] = NAN; /* a broken network has none */
    check_ok(dt_ranking_average(&r, NULL, NULL, &mean));
    assert_true(isnan(mean));
    r.n_row = 0;
    check_ok(dt_ranking_average(&r, NULL, NULL, &mean));
    assert_true(isnan(mean));
    r = (dt_ranking){.n_label = 0};
    check_ok(dt_ranking_average(&r, NULL, NULL, &mean));
    assert_true(isnan(mean));
}

/* More rows than labels are gathered at once. */
static void test_many_rows(void **state) {
    (void)state;
    enum { MANY = 100003 };
    dt_ranking r = {.n_label = 2, .n_row = MANY};
    double mean, want = 0;
    int64_t found = 0;
    r.score = check_alloc(MANY * 2 * sizeof *r.score);
    r.is = check_alloc(MANY * 2);
    for (int64_t i = 0; i < MANY; i++) {
        r.score[2 * i] = (float)(MANY - i), r.is[2 * i] = i % 3 == 0;
        r.score[2 * i + 1] = (float)(i * 7919 % MANY), r.is[2 * i + 1] = true;
    }
    for (int64_t i = 0; i < MANY; i++)
        if (i % 3 == 0) want += (double)++found / (double)(i + 1);
    check_ok(dt_ranking_average(&r, NULL, NULL, &mean));
    if (!(fabs(mean - (want / (double)found + 1) / 2) < 1e-12)) fail_msg("%.17g", mean);
    dt_ranking_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_label),
        cmocka_unit_test(test_mean_over_labels),
        cmocka_unit_test(test_many_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
