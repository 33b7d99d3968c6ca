/* Numbers to few bits: scales, saturation, and what compensation gains. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "quant/round.h"

static void activations(void **state) {
    (void)state;
    dt_quant_u8 q = dt_quant_u8_of(0, 25.5f);
    assert_float_equal(q.scale, 0.1, 1e-7);
    assert_int_equal(q.zero, 0);
    q = dt_quant_u8_of(-1, 1.55f);
    assert_float_equal(q.scale, 0.01, 1e-8);
    assert_int_equal(q.zero, 100);
    q = dt_quant_u8_of(-4, 0);
    assert_int_equal(q.zero, 255);
    q = dt_quant_u8_of(0, 0); /* a constant of zeros */
    assert_true(q.scale == 1 && q.zero == 0);
    q = dt_quant_u8_of(-1e-44f, 1e-44f);
    assert_true(q.scale > 0 && isfinite(1 / q.scale));
    q = dt_quant_u8_of(-3.4e38f, 3.4e38f);
    assert_true(isfinite(q.scale));
    assert_in_range(q.zero, 127, 128);
}

static void a_scale_for_each_channel(void **state) {
    /* [1, 3, 4]: the second has nothing, the third reaches further below */
    const float w[12] = {1.27f, -0.635f, 0, 0.01f, 0, 0, 0, 0, 1, -2, 0.5f, 2};
    int8_t q[12];
    float scale[3];
    (void)state;
    dt_quant_i8(1, 3, 4, w, NULL, q, scale);
    assert_float_equal(scale[0], 0.01, 1e-8);
    assert_true(scale[1] == 1);
    assert_float_equal(scale[2], 2.0 / 127, 1e-8);
    const int8_t want[12] = {127, -64, 0, 1, 0, 0, 0, 0, 64, -127, 32, 127};
    for (int i = 0; i < 12; i++) assert_in_range(q[i] + 200, want[i] + 199, want[i] + 201);
    assert_int_equal(q[0], 127);
    assert_int_equal(q[9], -127); /* never -128: the sum of products stays symmetric */
    /* [2, 2, 1]: channels are the second dimension */
    const float across[4] = {1, 10, -1, 20};
    dt_quant_i8(2, 2, 1, across, NULL, q, scale);
    assert_float_equal(scale[0], 1.0 / 127, 1e-8);
    assert_float_equal(scale[1], 20.0 / 127, 1e-7);
    assert_int_equal(q[3], 127);
}

/* A bias in 32 bits that its channel's scales cannot hold makes the weights coarser instead of being cut. */
static void biases_fit(void **state) {
    const float w[2] = {1e-20f, 1}, bias[2] = {5, 0.25f}, input = 0.02f;
    float least[2], scale[2];
    double unit[2];
    int8_t q[2];
    int32_t b[2];
    (void)state;
    for (int i = 0; i < 2; i++) least[i] = dt_quant_least_scale(bias[i], input);
    dt_quant_i8(1, 2, 1, w, least, q, scale);
    for (int i = 0; i < 2; i++) unit[i] = (double)input * (double)scale[i];
    dt_quant_i32(2, bias, unit, b);
    for (int i = 0; i < 2; i++) assert_true(fabs(b[i] * unit[i] - (double)bias[i]) < 1e-4);
    assert_int_equal(q[1], 127);
    assert_float_equal(scale[1], 1.0 / 127, 1e-8);
    dt_quant_i32(1, (const float[]){3e38f}, (const double[]){1e-30}, b);
    assert_int_equal(b[0], INT32_MAX);
}

static void four_bits(void **state) {
    float x[DT_QUANT_BLOCK];
    uint8_t q[DT_QUANT_BLOCK];
    (void)state;
    for (int i = 0; i < DT_QUANT_BLOCK; i++) x[i] = 0.5f * (float)(i % 16 - 8); /* what 4 bits hold exactly */
    float scale = dt_quant_i4(x, q);
    for (int i = 0; i < DT_QUANT_BLOCK; i++) assert_true(fabsf(((float)q[i] - 8) * scale - x[i]) < 0.26f);
    assert_true(dt_f16_to_f32(dt_f32_to_f16(scale)) == scale);
    memset(x, 0, sizeof x);
    scale = dt_quant_i4(x, q);
    assert_true(scale > 0);
    for (int i = 0; i < DT_QUANT_BLOCK; i++) assert_int_equal(q[i], 8);
    for (int i = 0; i < DT_QUANT_BLOCK; i++) x[i] = 1e-30f; /* below what f16 has: nothing */
    scale = dt_quant_i4(x, q);
    assert_true(scale > 0 && q[3] == 8);
    for (int i = 0; i < DT_QUANT_BLOCK; i++) x[i] = i == 5 ? -7 : 0;
    scale = dt_quant_i4(x, q);
    assert_float_equal((q[5] - 8) * scale, -7, 0.01);
}

typedef struct halves {
    int n_block;
} halves;

static void count_block(void *arg, int64_t row, const float *x) {
    (void)row, (void)x;
    ((halves *)arg)->n_block++;
}
static void to_whole(void *arg, int64_t row, float *x) {
    (void)arg, (void)row;
    for (int i = 0; i < 3; i++) x[i] = nearbyintf(x[i]);
}

/* The error of the outputs, which is what counts, on the inputs that were seen. */
static double output_error(int k, int n_sample, const float *x, const float *a, const float *b) {
    double sum = 0;
    for (int s = 0; s < n_sample; s++)
        for (int c = 0; c < 3; c++) {
            double d = 0;
            for (int i = 0; i < k; i++)
                d += (double)x[s * k + i] * ((double)a[i * 3 + c] - (double)b[i * 3 + c]);
            sum += d * d;
        }
    return sum;
}

static void compensation_gains(void **state) {
    enum { K = 64, SAMPLES = 300 };
    static float x[SAMPLES * K], w[K * 3], plain[K * 3], made[K * 3];
    static double h[K * K];
    uint32_t seed = 3;
    (void)state;
    for (int i = 0; i < SAMPLES * K; i++) {
        seed = seed * 1664525u + 1013904223u;
        const float draw = (float)(seed >> 8) / (float)(1 << 23) - 1;
        x[i] = draw + (i % K > 0 ? 0.8f * x[i - 1] : 0); /* inputs go together */
    }
    for (int i = 0; i < K * 3; i++) {
        seed = seed * 1664525u + 1013904223u;
        w[i] = 4 * ((float)(seed >> 8) / (float)(1 << 23) - 1);
        plain[i] = nearbyintf(w[i]), made[i] = w[i];
    }
    for (int s = 0; s < SAMPLES; s++)
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) h[i * K + j] += (double)x[s * K + i] * (double)x[s * K + j];
    halves arg = {0};
    assert_int_equal(dt_quant_compensate(K, 3, made, h, count_block, to_whole, &arg), DT_OK);
    assert_int_equal(arg.n_block, K / DT_QUANT_BLOCK);
    for (int i = 0; i < K * 3; i++) assert_true(made[i] == nearbyintf(made[i]));
    const double before = output_error(K, SAMPLES, x, w, plain), after = output_error(K, SAMPLES, x, w, made);
    assert_true(after < 0.5 * before);
    /* Inputs that never came: plain rounding. */
    memset(h, 0, sizeof h);
    memcpy(made, w, sizeof made);
    assert_int_equal(dt_quant_compensate(K, 3, made, h, NULL, to_whole, &arg), DT_OK);
    assert_memory_equal(made, plain, sizeof made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations),        cmocka_unit_test(a_scale_for_each_channel),
        cmocka_unit_test(biases_fit),         cmocka_unit_test(four_bits),
        cmocka_unit_test(compensation_gains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
