/* The element-wise functions against double over all they may meet: tails, infinities, NaN. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>

#include "op_scalar.h"

/* What follows reads one element at a time. */
static float value_of(dt_unary f, float x, float a, float b) {
    switch (f) {
#define CASE(NAME, name, of, scalars, value, gradient)                                                       \
    case DT_UNARY_##NAME:                                                                                    \
        return value;
        DT_UNARY_LIST(CASE)
#undef CASE
    default:
        return NAN;
    }
}

static float gradient_of(dt_unary f, float x, float a, float b) {
    const float y = x, g = 1;
    switch (f) {
#define CASE(NAME, name, of, scalars, value, gradient)                                                       \
    case DT_UNARY_##NAME:                                                                                    \
        return gradient;
        DT_UNARY_LIST(CASE)
#undef CASE
    default:
        return NAN;
    }
}

static const struct {
    float a, b;
} scalars[] = {
#define ROW(NAME, kind, kind_v, a_, b_, value, slope) [DT_UNARY_##NAME] = {a_, b_},
    OP_UNARY_LIST(ROW)
#undef ROW
};

/* Where a function of large x is a result of its own: a power of x, or the reciprocal of a power. */
static bool grows(dt_unary f) {
    return f == DT_UNARY_SQUARE || f == DT_UNARY_RECIPROCAL || f == DT_UNARY_LOG || f == DT_UNARY_SQRT ||
           f == DT_UNARY_EXP;
}

static void expect_near(dt_unary f, int which, float x, float got) {
    const double want = op_unary(f, which, (double)x, (double)scalars[f].a, (double)scalars[f].b);
    if (isnan(got) ? isnan(want) : got == (float)want) return;
    /* A derivative near 0 is a difference; a tail is e to an argument of the order of x^2 or x^3, rounded. */
    const double size = fabs((double)x), tail = which ? 0 : pow(size, 3) / 8;
    const double allowed = 5e-7 * (1 + tail) * fabs(want) + (which ? 5e-7 : 1e-36);
    if (!(fabs((double)got - want) <= allowed))
        fail_msg("%s, %s of %.9g: %.9g, not %.9g", dt_unary_table[f].name, which ? "derivative" : "value",
                 (double)x, (double)got, want);
}

static void test_against_double(void **state) {
    (void)state;
    for (int f = 0; f < DT_UNARY_COUNT; f++)
        for (int i = -40000; i <= 40000; i++) {
            const float x = (float)i * (i % 7 ? 2.5e-4f : 2.6e-3f);
            if (x <= 0 && (f == DT_UNARY_LOG || f == DT_UNARY_SQRT || f == DT_UNARY_RECIPROCAL)) continue;
            expect_near((dt_unary)f, 0, x, value_of((dt_unary)f, x, scalars[f].a, scalars[f].b));
            if (dt_unary_table[f].of_y && fabsf(x) > 1) continue; /* of y: no y of most */
            expect_near((dt_unary)f, 1, x, gradient_of((dt_unary)f, x, scalars[f].a, scalars[f].b));
        }
}

static void test_extremes(void **state) {
    static const float large[] = {50, 87, 88.7f, 89, 104, 128, 1e3f, 1e10f, 1e20f, 1e30f, 3e38f};
    (void)state;
    for (int f = 0; f < DT_UNARY_COUNT; f++) {
        const float a = scalars[f].a, b = scalars[f].b;
        if (!isnan(value_of((dt_unary)f, NAN, a, b))) fail_msg("%s loses NaN", dt_unary_table[f].name);
        for (size_t i = 0; i < sizeof large / sizeof large[0] && !grows((dt_unary)f); i++)
            for (int sign = -1; sign < 2; sign += 2) {
                const float x = (float)sign * large[i], y = value_of((dt_unary)f, x, a, b);
                const float slope = gradient_of((dt_unary)f, dt_unary_table[f].of_y ? y : x, a, b);
                const double want = op_unary((dt_unary)f, 0, (double)x, (double)a, (double)b);
                if (!isfinite(y) || fabs((double)y - want) > 1e-6 * fabs(want) + 1e-30)
                    fail_msg("%s(%g) is %g, not %g", dt_unary_table[f].name, (double)x, (double)y, want);
                if (!isfinite(slope) || fabsf(slope) > 2)
                    fail_msg("the slope of %s at %g is %g", dt_unary_table[f].name, (double)x, (double)slope);
            }
    }
    assert_true(dt_expf(88.7f) < INFINITY && dt_expf(89) == INFINITY && dt_expf(INFINITY) == INFINITY);
    assert_true(dt_expf(-87.5f) > 0 && dt_expf(-200) == 0 && dt_expf(-INFINITY) == 0 && dt_expf(0) == 1);
    assert_true(dt_logf(0) == -INFINITY && dt_logf(INFINITY) == INFINITY && isnan(dt_logf(-1)) &&
                dt_logf(1) == 0);
    assert_true(fabsf(dt_logf(1e-42f) - logf(1e-42f)) < 1e-5f);
    assert_true(signbit(value_of(DT_UNARY_RELU, -0.0f, 0, 0)) &&
                !signbit(gradient_of(DT_UNARY_RELU, -1, 0, 0)));
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(dt_unary_table[DT_UNARY_LEAKY_RELU].name, "leaky_relu");
    assert_string_equal(dt_unary_table[DT_UNARY_CLAMP].param[1].name, "hi");
    assert_string_equal(dt_binary_table[DT_BINARY_MUL].grad_name, "mul_bwd");
    assert_true(dt_unary_table[DT_UNARY_RELU].of_y && !dt_unary_table[DT_UNARY_GELU].of_y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
