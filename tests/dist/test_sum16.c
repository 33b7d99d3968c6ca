/* 16-bit sums against exact arithmetic: the result is the nearest value, ties to even, for all pairs
 * tried. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "comm_mpi_internal.h"

enum { PAIRS = 2000000 };

typedef struct format {
    const char *name;
    int exponent_bits, mantissa_bits;
    void (*sum)(void *in, void *inout, int *n, MPI_Datatype *type);
} format;

static const format formats[] = {{"f16", 5, 10, dt_mpi_sum_f16}, {"bf16", 8, 7, dt_mpi_sum_bf16}};

static bool is_nan(const format *f, uint16_t h) {
    uint16_t infinity = (uint16_t)(((1 << f->exponent_bits) - 1) << f->mantissa_bits);
    return (h & 0x7fff) > infinity;
}

/* By definition, from the fields. */
static double value_of(const format *f, uint16_t h) {
    int exponent = (h & 0x7fff) >> f->mantissa_bits, mantissa = h & ((1 << f->mantissa_bits) - 1);
    int bias = (1 << (f->exponent_bits - 1)) - 1;
    double sign = h & 0x8000 ? -1 : 1;
    if (exponent == (1 << f->exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - f->mantissa_bits);
    return sign * ldexp((1 << f->mantissa_bits) + mantissa, exponent - bias - f->mantissa_bits);
}

static uint16_t sum_of(const format *f, uint16_t a, uint16_t b) {
    int n = 1;
    f->sum(&a, &b, &n, NULL);
    return b;
}

/* |value| beyond the largest finite one by half a step or more rounds to infinity: the step above counts as
 * finite. */
static double distance(const format *f, uint16_t h, double exact) {
    uint16_t infinity = (uint16_t)(((1 << f->exponent_bits) - 1) << f->mantissa_bits);
    if ((h & 0x7fff) == infinity) {
        double beyond = ldexp(1, 1 << (f->exponent_bits - 1));
        return fabs((h & 0x8000 ? -beyond : beyond) - exact);
    }
    return fabs(value_of(f, h) - exact);
}

static void check_pair(const format *f, uint16_t a, uint16_t b) {
    uint16_t got = sum_of(f, a, b);
    double exact = value_of(f, a) + value_of(f, b);
    if (isnan(exact)) {
        assert_true(is_nan(f, got));
        return;
    }
    if (isinf(exact)) {
        assert_true(value_of(f, got) == exact);
        return;
    }
    assert_false(is_nan(f, got));
    double off = distance(f, got, exact);
    uint16_t up = (uint16_t)(got + 1), down = (uint16_t)(got - 1);
    bool can_up = !is_nan(f, up), can_down = (got & 0x7fff) != 0;
    if ((can_up && distance(f, up, exact) < off) || (can_down && distance(f, down, exact) < off))
        fail_msg("%s: %04x + %04x = %04x is not the nearest", f->name, a, b, got);
    bool tie = (can_up && distance(f, up, exact) == off) || (can_down && distance(f, down, exact) == off);
    if (tie && off > 0 && (got & 1)) fail_msg("%s: %04x + %04x = %04x is a tie to odd", f->name, a, b, got);
}

static void test_nearest(void **state) {
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        uint32_t x = 12345;
        for (uint32_t h = 0; h < 65536; h++) check_pair(&formats[k], (uint16_t)h, 0);
        for (int i = 0; i < PAIRS; i++) {
            x = x * 1664525u + 1013904223u;
            uint16_t a = (uint16_t)(x >> 16);
            x = x * 1664525u + 1013904223u;
            /* Every second pair of like exponents, where rounding happens. */
            uint16_t b = i % 2 ? (uint16_t)(x >> 16) : (uint16_t)(a ^ (x >> 16 & 0x83ff));
            check_pair(&formats[k], a, b);
        }
    }
}

static void test_whole_buffers(void **state) {
    (void)state;
    uint16_t a[37], b[37];
    int n = 37;
    for (int i = 0; i < n; i++) {
        a[i] = 0x3c00; /* 1.0 in f16 */
        b[i] = (uint16_t)(0x4000 + i);
    }
    b[36] = 0x7bff;
    n = 36;
    dt_mpi_sum_f16(a, b, &n, NULL);
    for (int i = 0; i < 36; i++) assert_int_equal(b[i], sum_of(&formats[0], 0x3c00, (uint16_t)(0x4000 + i)));
    assert_int_equal(b[36], 0x7bff);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nearest), cmocka_unit_test(test_whole_buffers)};
    return cmocka_run_group_tests_name("sum16", tests, NULL, NULL);
}
