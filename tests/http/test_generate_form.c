/* Requests for texts, the words of a model, and texts of any bytes in JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generate_form.h"
#include "model_text.h"

/* Of a copy that ends where it ends, so that a sanitizer sees who reads on. */
static dt_status read_text(const char *text, dt_generate_form *f) {
    char *body = strdup(text);
    assert_non_null(body);
    const dt_status st = dt_generate_read(body, strlen(text), f);
    free(body);
    return st;
}

static void test_all_is_read(void **state) {
    (void)state;
    dt_generate_form f;
    assert_int_equal(
        read_text("{\"text_input\":\"a\\u00e4\\n\",\"id\":\"7\",\"seed\":3,\"other\":{\"x\":[1]},"
                  "\"parameters\":{\"max_tokens\":12,\"temperature\":0.25,\"top_k\":4,\"top_p\":0.5,"
                  "\"stop\":[\"x\",\"yz\"],\"ignore_eos\":true}}",
                  &f),
        DT_OK);
    assert_string_equal(f.prompt, "a\xc3\xa4\n");
    assert_int_equal(f.n_prompt, 4);
    assert_string_equal(f.id, "7");
    assert_int_equal(f.how.max_tokens, 12);
    assert_true(f.how.draw.temperature == 0.25 && f.how.draw.top_p == 0.5);
    assert_true(f.how.draw.top_k == 4 && f.how.draw.seed == 3 && f.how.no_stop);
    assert_int_equal(f.how.n_stop, 2);
    assert_string_equal(f.how.stop[1], "yz");
    dt_generate_form_free(&f);
    assert_int_equal(read_text("{\"text_input\":\"\"}", &f), DT_OK);
    assert_int_equal(f.how.max_tokens, DT_TEXT_ALL);
    dt_generate_form_free(&f);
}

static void test_what_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "{}",
        "{\"text_input\":7}",
        "{\"text_input\":\"a\"",
        "{\"text_input\":\"a\"} x",
        "{\"text_input\":\"a\",\"text_input\":\"b\"}",
        "{\"text_input\":\"a\",\"max_tokens\":-1}",
        "{\"text_input\":\"a\",\"max_tokens\":1.5}",
        "{\"text_input\":\"a\",\"temperature\":NaN}",
        "{\"text_input\":\"a\",\"seed\":-1}",
        "{\"text_input\":\"a\",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\","
        "\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]}",
        "{\"text_input\":\"\\u0000\"}"};
    dt_generate_form f;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (read_text(bad[i], &f) != DT_ERR_USAGE) fail_msg("accepted: %s", bad[i]);
}

static void test_answers(void **state) {
    (void)state;
    const dt_serve_model_info m = {.name = "m", .version = 2};
    const dt_generate_form f = {.id = NULL};
    dt_http_text json = {0};
    const dt_serve_news news = {.token = 5};
    dt_generate_write(&f, &m, &news, "a\"\xff\0\n", 5, &json);
    assert_string_equal(json.s, "{\"model_name\":\"m\",\"model_version\":\"2\",\"text_output\":"
                                "\"a\\\"\\ufffd\\u0000\\u000a\",\"token\":5}");
    free(json.s);
}

static void test_words_of_a_model(void **state) {
    (void)state;
    dt_serve_model_options o = {.name = NULL};
    char text[] = "a,b/model.onnx,image=trained,softmax=y,labels=c.txt", bad[] = "image=none",
         other[] = "colour=1", plain[] = "a,b.onnx";
    char *words = dt_http_model_split(text);
    assert_string_equal(text, "a,b/model.onnx");
    assert_int_equal(dt_http_model_words(words, &o), DT_OK);
    assert_int_equal(o.image, DT_IMAGE_TRAINED);
    assert_string_equal(o.softmax, "y");
    assert_string_equal(o.labels, "c.txt");
    assert_string_equal(dt_http_model_split(plain), "");
    assert_int_equal(dt_http_model_words(bad, &o), DT_ERR_CONFIG);
    assert_int_equal(dt_http_model_words(other, &o), DT_ERR_CONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_read),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_words_of_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
