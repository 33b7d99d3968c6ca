/* Requests as clients, and those who mean no good, write them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "infer_form.h"

#define MODEL(n_in_, n_out_)                                                                                 \
    {                                                                                                        \
        .name = "m", .format = "ONNX", .version = 3, .batched = true, .n_in = n_in_, .n_out = n_out_,        \
        .in = ios, .out = outs                                                                               \
    }
static const dt_serve_io ios[] = {
    {"x", DT_TENSOR_F32, 2, {-1, 3}}, {"k", DT_TENSOR_I64, 1, {-1}}, {"b", DT_TENSOR_BOOL, 1, {-1}},
    {"h", DT_TENSOR_F16, 1, {-1}},    {"u", DT_TENSOR_U64, 1, {-1}}, {"c", DT_TENSOR_I8, 1, {-1}},
    {"d", DT_TENSOR_F64, 1, {-1}},
};
static const dt_serve_io outs[] = {{"y", DT_TENSOR_F32, 2, {-1, 3}}, {"z", DT_TENSOR_F16, 1, {-1}}};
static const dt_serve_model_info one = MODEL(1, 1);

/* Reads a copy that ends where it ends, so that a sanitizer sees who reads on. */
static dt_status read_bytes(const dt_serve_model_info *m, const char *text, size_t n, int64_t json,
                            dt_infer_form *f, char **body) {
    *body = malloc(n + 1);
    assert_non_null(*body);
    memcpy(*body, text, n);
    (*body)[n] = '\0';
    return dt_infer_read(m, *body, n, json, f);
}

static void refused(const dt_serve_model_info *m, const char *text, const char *why) {
    dt_infer_form f;
    char *body;
    if (read_bytes(m, text, strlen(text), -1, &f, &body) != DT_ERR_USAGE) fail_msg("accepted: %s", text);
    if (!strstr(dt_error_text(), why)) fail_msg("%s\n  says: %s\n  want: %s", text, dt_error_text(), why);
    free(body);
}

/* The only input of type `type`, given as `data`. */
static dt_status read_data(int input, const char *shape, const char *data, dt_infer_form *f) {
    char text[4096];
    const dt_serve_model_info m = {
        .name = "m", .format = "ONNX", .n_in = 1, .n_out = 1, .in = &ios[input], .out = outs};
    snprintf(text, sizeof text,
             "{\"inputs\":[{\"name\":\"%s\",\"shape\":%s,\"datatype\":\"%s\",\"data\":%s}]}", ios[input].name,
             shape, dt_infer_type_name(ios[input].type), data);
    char *body;
    const dt_status st = read_bytes(&m, text, strlen(text), -1, f, &body);
    free(body); /* numbers of JSON are the form's own */
    return st;
}

static void bad_data(int input, const char *shape, const char *data) {
    dt_infer_form f;
    if (read_data(input, shape, data, &f) != DT_ERR_USAGE) fail_msg("accepted: %s as %s", data, shape);
}

static void test_json(void **state) {
    (void)state;
    static const char text[] = " {\"id\":\"a\\u00e9\\ud83d\\ude00\\n\",\"unknown\":{\"x\":[1,{\"y\":null}]},"
                               "\"parameters\":{\"priority\":2,"
                               "\"timeout\":5000,\"other\":[]},\"inputs\":[{\"data\":[[1,-2.5,3e2],[0.1,NaN,-"
                               "Infinity]],\"datatype\":\"FP32\","
                               "\"shape\":[2,3],\"name\":\"x\"}],\"outputs\":[{\"name\":\"y\",\"parameters\":"
                               "{\"binary_data\":true}}]} ";
    dt_infer_form f;
    char *body;
    assert_int_equal(read_bytes(&one, text, sizeof text - 1, -1, &f, &body), DT_OK);
    assert_string_equal(f.id, "a\xc3\xa9\xf0\x9f\x98\x80\n");
    assert_int_equal(f.priority, 2);
    assert_int_equal(f.timeout_us, 5000);
    assert_int_equal(f.n_out, 1);
    assert_true(f.out[0].binary);
    const float *x = f.in[0].data;
    assert_true(x[0] == 1 && x[1] == -2.5f && x[2] == 300 && x[3] == 0.1f && isnan(x[4]) &&
                x[5] == -INFINITY);
    dt_infer_form_free(&f);
    free(body);
}

static void test_numbers(void **state) {
    (void)state;
    dt_infer_form f;
    assert_int_equal(read_data(1, "[4]", "[9223372036854775807,-9223372036854775808,1.50e1,0]", &f), DT_OK);
    const int64_t *k = f.in[0].data;
    assert_true(k[0] == INT64_MAX && k[1] == INT64_MIN && k[2] == 15 && k[3] == 0);
    dt_infer_form_free(&f);
    assert_int_equal(read_data(4, "[2]", "[18446744073709551615,0e999999999999]", &f), DT_OK);
    assert_true(((const uint64_t *)f.in[0].data)[0] == UINT64_MAX);
    dt_infer_form_free(&f);
    assert_int_equal(read_data(2, "[4]", "[true,false,1,0]", &f), DT_OK);
    assert_memory_equal(f.in[0].data, "\1\0\1\0", 4);
    dt_infer_form_free(&f);
    static const char *const doubles[] = {"0.1",
                                          "123456789012345678901234567890",
                                          "1.7976931348623157e308",
                                          "4.9e-324",
                                          "1e-400",
                                          "0.00000000000000000000000000000000012345678901234567",
                                          "9007199254740993",
                                          "1e23",
                                          "-8.5e-22",
                                          "2.2250738585072011e-308"};
    for (size_t i = 0; i < sizeof doubles / sizeof doubles[0]; i++) {
        char data[128];
        snprintf(data, sizeof data, "[%s]", doubles[i]);
        assert_int_equal(read_data(6, "[1]", data, &f), DT_OK);
        const double want = strtod(doubles[i], NULL);
        assert_memory_equal(f.in[0].data, &want, sizeof want);
        dt_infer_form_free(&f);
    }
    static const char *const none[] = {"[1.5]",  "[1e30]", "[9223372036854775808]",
                                       "[NaN]",  "[01]",   "[+1]",
                                       "[.5]",   "[1.]",   "[1e]",
                                       "[-]",    "[true]", "[\"1\"]",
                                       "[1,]",   "[,1]",   "[1 2]",
                                       "[0x1]",  "1",      "{}",
                                       "[null]", "[]",     "[1,2]"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) bad_data(1, "[1]", none[i]);
    bad_data(5, "[1]", "[128]");
    bad_data(5, "[1]", "[-129]");
    bad_data(4, "[1]", "[-1]");
    bad_data(2, "[1]", "[2]");
    bad_data(0, "[1]", "[1e39]");
    bad_data(6, "[1]", "[1e309]");
    bad_data(6, "[1]", "[-NaN]");
    bad_data(3, "[1]", "[1]"); /* FP16 has no JSON */
}

static void test_nesting(void **state) {
    (void)state;
    dt_infer_form f;
    assert_int_equal(read_data(0, "[2,3]", "[1,2,3,4,5,6]", &f), DT_OK);
    dt_infer_form_free(&f);
    assert_int_equal(read_data(0, "[1,1,3]", "[[[1,2,3]]]", &f), DT_OK);
    dt_infer_form_free(&f);
    assert_int_equal(read_data(0, "[0,3]", "[]", &f), DT_OK);
    dt_infer_form_free(&f);
    static const char *const bad[] = {"[[1,2,3],4,5,6]",     "[1,2,3,[4,5,6]]",
                                      "[[1,2],[3,4],[5,6]]", "[[1,2,3,4],[5,6]]",
                                      "[[[1,2,3],[4,5,6]]]", "[[1,2,3],[4,5,6],[]]",
                                      "[[1,2,3]]",           "[[1,2,3],[4,5,6]",
                                      "[[1,2,3],[4,5,6]]]",  "[[],[]]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) bad_data(0, "[2,3]", bad[i]);
    bad_data(0, "[9223372036854775807,9223372036854775807]", "[1]");
    bad_data(0, "[1000000000]", "[1]");
    bad_data(0, "[-1,3]", "[1,2,3]");
    bad_data(0, "[1,1,1,1,1,1,1,1,3]", "[1,2,3]");
    bad_data(0, "[99999999999999999999]", "[1]");
}

static void test_refusals(void **state) {
    (void)state;
    char *deep = malloc(20001);
    memset(deep, '[', 20000), deep[20000] = '\0';
    char text[20100];
    snprintf(text, sizeof text, "{\"other\":%s", deep);
    refused(&one, text, "nested more than 100 deep");
    snprintf(text, sizeof text,
             "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":%s", deep);
    refused(&one, text, "wants a number");
    memset(deep, 'n', 20000);
    snprintf(text, sizeof text, "{\"id\":\"%s\"}", deep);
    refused(&one, text, "more than 1023 bytes");
    free(deep);
    refused(&one, "", "it ends");
    refused(&one, "[]", "expected '{'");
    refused(&one, "{}", "input \"x\" is missing");
    refused(&one, "{} {}", "behind its end");
    refused(&one, "{\"a\" 1}", "expected ':'");
    refused(&one, "{\"a\\u0000\":1}", "escape");
    refused(&one, "{\"a\\ud800\":1}", "escape");
    refused(&one, "{\"a\xff\":1}", "a byte that no text has");
    refused(&one, "{\"inputs\":[{\"name\":\"q\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
            "no input \"q\"");
    refused(&one, "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]}]}",
            "is INT8, the model's is FP32");
    refused(&one, "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"a\"]}]}",
            "BYTES");
    refused(&one, "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\"}]}", "has no data");
    refused(&one, "{\"inputs\":[{\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}", "without name");
    refused(&one, "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"data\":[1]}]}", "without shape");
    refused(&one, "{\"parameters\":{\"priority\":8}}", "priority 8");
    refused(&one, "{\"parameters\":{\"timeout\":-1}}", "timeout -1");
    refused(&one, "{\"outputs\":[{\"name\":\"w\"}]}", "no output \"w\"");
    refused(&one, "{\"outputs\":[{\"name\":\"y\"},{\"name\":\"y\"}]}", "twice");
    static const char x[] = "{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}";
    snprintf(text, sizeof text, "{\"inputs\":[%s,%s]}", x, x);
    refused(&one, text, "twice");
    const dt_serve_model_info two = MODEL(1, 2);
    snprintf(text, sizeof text, "{\"inputs\":[%s]}", x);
    refused(&two, text, "output \"z\" has no form in JSON");
}

static const char binary_head[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":"
    "12}}],"
    "\"outputs\":[{\"name\":\"y\"}],\"parameters\":{\"binary_data_output\":true}}";

static void test_binary(void **state) {
    (void)state;
    enum { HEAD = sizeof binary_head - 1 };
    char text[HEAD + 13] = "";
    const float x[3] = {1, 2, 3};
    dt_infer_form f;
    char *body;
    memcpy(text, binary_head, HEAD);
    memcpy(text + HEAD, x, sizeof x);
    assert_int_equal(read_bytes(&one, text, HEAD + 12, HEAD, &f, &body), DT_OK);
    assert_memory_equal(f.in[0].data, x, sizeof x);
    assert_true(f.out[0].binary);
    dt_infer_form_free(&f), free(body);
    /* Too much, too little, and a header that says more JSON than there is. */
    assert_int_equal(read_bytes(&one, text, HEAD + 13, HEAD, &f, &body), DT_ERR_USAGE), free(body);
    assert_int_equal(read_bytes(&one, text, HEAD + 11, HEAD, &f, &body), DT_ERR_USAGE), free(body);
    assert_int_equal(read_bytes(&one, text, HEAD + 12, HEAD + 13, &f, &body), DT_ERR_USAGE), free(body);
    assert_int_equal(read_bytes(&one, text, HEAD + 12, -1, &f, &body), DT_ERR_USAGE), free(body);
    /* The body is the tensor. */
    assert_int_equal(read_bytes(&one, (const char *)x, sizeof x, 0, &f, &body), DT_OK);
    assert_int_equal(f.in[0].dim[0], 1);
    assert_true(f.out[0].binary);
    dt_infer_form_free(&f), free(body);
    assert_int_equal(read_bytes(&one, (const char *)x, 11, 0, &f, &body), DT_ERR_USAGE), free(body);
    assert_int_equal(read_bytes(&one, (const char *)x, 0, 0, &f, &body), DT_ERR_USAGE), free(body);
    const dt_serve_model_info two = MODEL(2, 1);
    assert_int_equal(read_bytes(&two, (const char *)x, sizeof x, 0, &f, &body), DT_ERR_USAGE), free(body);
}

/* Every beginning of a request is refused, none is read beyond. */
static void test_cut(void **state) {
    (void)state;
    static const char json[] = "{\"id\":\"\\u00e9\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":"
                               "\"FP32\",\"data\":[[1.5e0,true,NaN]]}]}";
    for (size_t n = 0; n < sizeof json - 1; n++) {
        dt_infer_form f;
        char *body;
        assert_int_equal(read_bytes(&one, json, n, -1, &f, &body), DT_ERR_USAGE), free(body);
    }
    for (size_t n = 0; n < sizeof binary_head - 1; n++) {
        dt_infer_form f;
        char *body;
        assert_int_equal(read_bytes(&one, binary_head, n, (int64_t)n + (n == 0 ? 1 : 0), &f, &body),
                         DT_ERR_USAGE),
            free(body);
    }
}

static void test_answer(void **state) {
    (void)state;
    float y[3] = {0.1f, NAN, -INFINITY};
    const dt_host_tensor t = {.type = DT_TENSOR_F32, .ndim = 2, .dim = {1, 3}, .data = y}, *out[] = {&t};
    dt_infer_output o = {0};
    char id[] = "q\"\x01";
    dt_infer_form f = {.id = id, .n_out = 1, .out = &o};
    dt_http_text json = {0};
    assert_int_equal(dt_infer_write(&f, &one, out, NULL, &json), DT_OK);
    assert_string_equal(
        json.s,
        "{\"model_name\":\"m\",\"model_version\":\"3\",\"id\":\"q\\\"\\u0001\",\"outputs\":[{\"name\":\"y\","
        "\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":[0.100000001,null,null]}]}");
    f.plain_nan = true, f.id = NULL, json.n = 0;
    assert_int_equal(dt_infer_write(&f, &one, out, NULL, &json), DT_OK);
    assert_non_null(strstr(json.s, "[0.100000001,NaN,-Infinity]"));
    o.binary = true, json.n = 0;
    assert_int_equal(dt_infer_write(&f, &one, out, NULL, &json), DT_OK);
    assert_non_null(strstr(json.s, "\"shape\":[1,3],\"parameters\":{\"binary_data_size\":12}}"));
    free(json.s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),     cmocka_unit_test(test_numbers), cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_binary),  cmocka_unit_test(test_cut),
        cmocka_unit_test(test_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
