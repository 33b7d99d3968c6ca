/* Questions with several endings: both forms of a file give the same tokens, and a damaged one is refused whole. */
#include "data/choices.h"
#include "data_support.h"

static dt_tokenizer *bytes;

static const char lines[] =
    "{\"ctx\": \"A cat\", \"endings\": [\"barks.\", \"purrs.\", \"\"], \"label\": 1, \"ind\": 4}\n"
    "\n"
    "{\"label\": 0, \"ctx\": \"\", \"endings\": [\"\\u00e9\", \"b\"]}";

static void put_word(FILE *f, int32_t w) {
    fputc(w & 255, f);
    fputc(w >> 8, f);
}
static void put_text(FILE *f, const char *text) {
    put_word(f, (int32_t)strlen(text));
    for (; *text; text++) put_word(f, (uint8_t)*text);
}

/* As llm.c writes the same. */
static const char *words_file(int32_t n, int32_t label, int32_t token) {
    char *path = in_scratch("choices.bin");
    FILE *f = fopen(path, "wb");
    const int32_t head[256] = {20240522, 1, n, 64};
    fwrite(head, 1, sizeof head, f);
    const char *const text[2][4] = {{"A cat", " barks.", " purrs.", " "}, {"", " \xC3\xA9", " b", NULL}};
    for (int32_t i = 0; i < 2; i++) {
        const int32_t n_ending = i == 0 ? 3 : 2;
        for (int k = 0; k < 5; k++)
            put_word(f, (const int32_t[]){65535, 64, i, i == 0 ? label : 0, n_ending}[k]);
        for (int k = 0; k <= n_ending; k++) put_text(f, text[i][k]);
    }
    if (token >= 0) put_word(f, token);
    fclose(f);
    return path;
}

static const char *lines_file(const char *text) {
    char *path = in_scratch("choices.jsonl");
    write_file(path, (const uint8_t *)text, strlen(text));
    return path;
}

static void expect_text(const dt_choices *c, int64_t from, int64_t to, const char *want) {
    assert_int_equal(to - from, strlen(want));
    for (int64_t i = from; i < to; i++) assert_int_equal(c->token.id[i], (uint8_t)want[i - from]);
}

static void test_both_forms(void **state) {
    (void)state;
    for (int form = 0; form < 2; form++) {
        dt_choices c;
        assert_ok(dt_choices_read(form ? words_file(2, 1, -1) : lines_file(lines), bytes, &c));
        assert_int_equal(c.n, 2);
        const dt_choice *a = &c.question[0], *b = &c.question[1];
        assert_true(a->n_ending == 3 && a->label == 1 && b->n_ending == 2 && b->label == 0);
        expect_text(&c, a->context, a->ending[0], "A cat");
        expect_text(&c, a->ending[0], a->ending[1], " barks.");
        expect_text(&c, a->ending[1], a->ending[2], " purrs.");
        expect_text(&c, a->ending[2], a->ending[3], " ");
        expect_text(&c, b->context, b->ending[0], "");
        expect_text(&c, b->ending[0], b->ending[1], " \xC3\xA9");
        expect_text(&c, b->ending[1], b->ending[2], " b");
        dt_choices_free(&c);
    }
}

static void refused(const char *path, const dt_tokenizer *t, const char *text) {
    dt_choices c;
    assert_int_equal(dt_choices_read(path, t, &c), DT_ERR_DATA);
    if (!strstr(dt_error_text(), text)) fail_msg("\"%s\" does not say \"%s\"", dt_error_text(), text);
    dt_choices_free(&c);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *lines, *text;
    } rows[] = {{"", "no question"},
                {"\n \n", "no question"},
                {"{\"ctx\": \"a\"", ":1: "},
                {"[1]\n", ":1: no JSON object"},
                {"\n{\"ctx\": 3, \"endings\": [\"a\", \"b\"], \"label\": 0}", ":2: \"ctx\""},
                {"{\"ctx\": \"a\", \"endings\": [\"a\"], \"label\": 0}", "2 to 16"},
                {"{\"ctx\": \"a\", \"endings\": \"ab\", \"label\": 0}", "2 to 16"},
                {"{\"ctx\": \"a\", \"endings\": [\"a\", 4], \"label\": 0}", "an ending is no string"},
                {"{\"ctx\": \"a\", \"endings\": [\"a\", \"b\"], \"label\": 2}", "\"label\""},
                {"{\"ctx\": \"a\", \"endings\": [\"a\", \"b\"], \"label\": -1}", "\"label\""},
                {"{\"ctx\": \"a\", \"endings\": [\"a\", \"b\"], \"label\": \"1\"}", "\"label\""},
                {"{\"ctx\": \"a\", \"endings\": [\"a\", \"b\"]}", "\"label\""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused(lines_file(rows[i].lines), bytes, rows[i].text);
    refused("/nowhere/at.all", bytes, "/nowhere/at.all: No such file");
    refused(words_file(3, 1, -1), bytes, "question 3: the file ends in it");
    refused(words_file(1, 1, -1), bytes, "more is in it than its 1 questions");
    refused(words_file(2, 1, 7), bytes, "more is in it");
    refused(words_file(2, 3, -1), bytes, "question 1: it has not 2 to 16 endings");
    refused(words_file(0, 0, -1), bytes, "more is in it");
    dt_tokenizer *few;
    assert_ok(dt_tokenizer_ids(100, -1, &few));
    refused(words_file(2, 1, -1), few, "question 1: it has a token that");
    refused(lines_file(lines), few, "tokenizer is not known");
    dt_tokenizer_close(few);
}

static int set_up(void **state) {
    (void)state;
    return make_scratch(state) == 0 && dt_tokenizer_byte(&bytes) == DT_OK ? 0 : -1;
}
static int tear_down(void **state) {
    dt_tokenizer_close(bytes);
    return remove_scratch(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_both_forms), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
