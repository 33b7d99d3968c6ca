/* Files of text for tests, and what becomes of them. */
#ifndef DT_TEST_TEXT_FILES_H
#define DT_TEST_TEXT_FILES_H

#include "data_support.h"

static inline dt_import_options text_options(const char *const *input, int32_t n, const char *tokenizer,
                                             const char *out) {
    return (dt_import_options){.kind = DT_IMPORT_TEXT,
                               .input = input,
                               .n_input = n,
                               .tokenizer = tokenizer,
                               .out_dir = out,
                               .split = "train",
                               .threads = 2};
}

/* All tokens of a set; the caller frees them. */
static inline int32_t *tokens_of(const dt_token_set *s) {
    int32_t *token = malloc((size_t)s->n_tokens * sizeof *token);
    void *room = malloc((size_t)dt_token_room_bytes(s->n_tokens));
    assert_true(token && room);
    assert_ok(dt_token_set_read(s, 0, s->n_tokens, true, room, token));
    free(room);
    return token;
}

/* The text of a set, with '|' after each document. */
static inline char *text_of(const char *path) {
    dt_token_set s;
    dt_data_verify_result v;
    assert_ok(dt_data_verify(path, NULL, NULL, &v));
    assert_ok(dt_token_set_open(path, &s));
    int32_t *token = tokens_of(&s);
    char *text = malloc((size_t)(s.text_bytes + s.n_documents + 1));
    int64_t n = 0;
    assert_non_null(text);
    for (int64_t i = 0; i < s.n_tokens; i++) {
        const uint8_t *bytes;
        const int32_t size = dt_tokenizer_bytes(s.tokenizer, token[i], &bytes);
        memcpy(text + n, bytes, (size_t)size);
        n += size;
        if (token[i] == s.info.end) text[n++] = '|';
    }
    text[n] = 0;
    assert_int_equal(n, s.text_bytes + s.n_documents);
    assert_int_equal(v.n_samples, s.n_tokens);
    free(token);
    dt_token_set_close(&s);
    return text;
}

static inline void assert_text(const char *path, const char *wanted) {
    char *text = text_of(path);
    assert_string_equal(text, wanted);
    free(text);
}

#endif
