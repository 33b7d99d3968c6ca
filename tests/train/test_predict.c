/* What predictions and reports are made of: 16-bit numbers made wide, the largest classes, the tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#include "core/text.h"
#include "engine_internal.h"
#include "report.h"
#include "train/predict.h"

static void test_halves(void **state) {
    (void)state;
    static const uint16_t f16[] = {0x3c00, 0xc000, 0x0001, 0x8001, 0x03ff, 0x0400,
                                   0x7bff, 0x8000, 0x7c00, 0xfc00, 0x3555};
    static const float want[] = {1,     -2,    0x1p-24f, -0x1p-24f, 0x1.ff8p-15f, 0x1p-14f,
                                 65504, -0.0f, INFINITY, -INFINITY, 0x1.554p-2f};
    static const uint16_t bf16[] = {0x3f80, 0xc000, 0x0001, 0x7f80};
    static const float want_bf16[] = {1, -2, 0x1p-133f, INFINITY};
    enum { N = sizeof f16 / sizeof f16[0] };
    float out[N];
    dt_engine_to_f32(DT_DTYPE_F16, f16, N, out);
    assert_memory_equal(out, want, sizeof want);
    dt_engine_to_f32(DT_DTYPE_BF16, bf16, 4, out);
    assert_memory_equal(out, want_bf16, sizeof want_bf16);
    dt_engine_to_f32(DT_DTYPE_F16, (uint16_t[]){0x7e00}, 1, out);
    assert_true(isnan(out[0]));
    for (uint32_t h = 0; h < 0x7c00;
         h++) { /* every number lies between its neighbours, half a step apart at most */
        const uint16_t pair[] = {(uint16_t)h, (uint16_t)(h + 1)};
        dt_engine_to_f32(DT_DTYPE_F16, pair, 2, out);
        assert_true(out[0] < out[1] &&
                    (h == 0x7bff || out[1] - out[0] <= fmaxf(out[1] * 0x1p-10f, 0x1p-24f)));
    }
}

static void test_top(void **state) {
    (void)state;
    const float logit[] = {1, 3, -2, 3, 0};
    int32_t index[5];
    double p[5], sum = 0, want = 2 * exp(3) + exp(1) + 1 + exp(-2);
    for (int32_t n = 1; n <= 5; n++) {
        static const int32_t order[] = {1, 3, 0, 4, 2};
        assert_true(dt_predict_top(logit, 5, n, index, p));
        assert_memory_equal(index, order, (size_t)n * sizeof *order);
    }
    for (int i = 0; i < 5; i++) sum += p[i];
    assert_true(fabs(sum - 1) < 1e-12 && fabs(p[0] - exp(3) / want) < 1e-12 && p[0] == p[1]);
    assert_true(dt_predict_top((float[]){3e38f, -3e38f}, 2, 2, index, p));
    assert_true(p[0] == 1 && p[1] == 0);
    assert_false(dt_predict_top((float[]){1, NAN, 2}, 3, 1, index, p));
    assert_false(dt_predict_top((float[]){1, 2, INFINITY}, 3, 1, index, p));
}

static void test_utf8(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int bytes;
    } row[] = {
        {"a", 1},        {"\xc3\xa9", 2},     {"\xe2\x82\xac", 3}, {"\xf0\x9f\x98\x80", 4}, {"\x80", 0},
        {"\xc0\x80", 0}, {"\xe0\x80\x80", 0}, {"\xed\xa0\x80", 0}, {"\xf4\x90\x80\x80", 0}, {"\xe2\x82", 0},
        {"\xff", 0},     {"\xf0\x9f", 0}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        assert_int_equal(dt_utf8_bytes(row[i].text), row[i].bytes);
}

static const char *name_of(const void *of, int64_t i) {
    (void)of;
    return i == 1 ? "one, \"two\"" : "";
}

static void expect_file(const char *dir, const char *file, const char *want) {
    char path[256], text[4096];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    assert_string_equal(text, want);
}

static void test_report(void **state) {
    (void)state;
    char dir[] = "/tmp/dt_report_XXXXXX", command[128];
    assert_non_null(mkdtemp(dir));
    dt_config c;
    dt_dataset *d;
    dt_config_init(&c);
    c.data.image_size = 8;
    assert_int_equal(dt_dataset_open(&c.data, "synthetic", &d), DT_OK);
    dt_verdict verdict[] = {{0, 0, 0.5f}, {1, 0, 0.25f}, {2, 1, 0.75f}, {1, 1, 1}, {1, 0, 0.75f}};
    dt_report r = {.n_sample = 5, .n_class = 3, .verdict = verdict};
    assert_int_equal(dt_report_write(&r, d, name_of, NULL, dir), DT_OK);
    expect_file(dir, "classes.csv",
                "class,name,samples,right,accuracy,predicted\n0,,1,1,1,3\n"
                "1,\"one, \"\"two\"\"\",3,1,0.333333,2\n2,,1,0,0,0\n");
    expect_file(dir, "confusion.csv",
                "label,label_name,predicted,predicted_name,samples\n0,,0,,1\n1,\"one, \"\"two\"\"\",0,,2\n"
                "1,\"one, \"\"two\"\"\",1,\"one, \"\"two\"\"\",1\n2,,1,\"one, \"\"two\"\"\",1\n");
    expect_file(dir, "mistakes.csv",
                "sample,shard,row,label,label_name,predicted,predicted_name,probability\n"
                "2,,2,2,,1,\"one, \"\"two\"\"\",0.7500\n4,,4,1,\"one, \"\"two\"\"\",0,,0.7500\n"
                "1,,1,1,\"one, \"\"two\"\"\",0,,0.2500\n");
    verdict[0].predicted = -1;
    assert_int_equal(dt_report_write(&r, d, name_of, NULL, dir), DT_ERR_NONFINITE);
    verdict[0].label = -1;
    assert_int_equal(dt_report_write(&r, d, name_of, NULL, dir), DT_ERR_INTERNAL);
    dt_dataset_close(d);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_halves), cmocka_unit_test(test_top),
                                       cmocka_unit_test(test_utf8), cmocka_unit_test(test_report)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
