/* Thousands of damaged configurations, the same in every run: each is refused with a place, or accepted and
 * then written and read back to the same text. Meant to run under sanitizers as well;
 * tests/fuzz/fuzz_config.c is the open-ended search. */
#include "train/config.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MUTANTS = 6000, TEXT_MAX = 8192 };

static const char seed_text[] =
    "[run]\nseed = 3\ndevice = \"auto\"\n[model]\nname = \"layers\"\n[data]\ntrain = 'a'\nval = \"b\"\n"
    "[train]\nepochs = 1.5\nglobal_batch = 64\nmicro_batch = 16\n[optim]\nkind = \"adamw\"\nlr = 1e-3 # "
    "peak\n"
    "[augment]\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n[schedule]\nkind = \"step\"\n"
    "milestones = [0.5, 1]\n[[model.layers]]\ntype = \"conv\"\nname = \"c\"\nchannels = 4\n[[model.layers]]\n"
    "type = \"add\"\nwith = \"c\"\n[[model.layers]]\ntype = \"add\"\nwith = "
    "[\"input\"]\n[[model.layers]]\ntype = \"flatten\"\n[[model.layers]]\ntype = \"dense\"\n"
    "channels = 10\n";

static const char *const tokens[] = {
    "[",     "]",       "{",       "}",          "[[",    "]]",
    "=",     "\"",      "'",       "\"\"\"",     ".",     ",",
    "\n",    "#",       "\\u0000", "\\",         "nan",   "inf",
    "-1",    "0",       "1e999",   "true",       "0x7f",  "1_000",
    "lr",    "optim",   "\xff",    "\xc3\xa9",   "\x01",  "9999999999999999999",
    "type",  "conv",    "[data]",  "a.b.c=1",    "[[a]]", "channels",
    "input", "[1,[2]]", "{x={}}",  "1979-05-27", "\r\n",  "\t",
};

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static size_t below(uint64_t *x, size_t n) {
    return n ? (size_t)(next_random(x) % n) : 0;
}

static void insert(char *text, size_t at, const char *what, size_t n) {
    size_t size = strlen(text);
    if (size + n >= TEXT_MAX) return;
    memmove(text + at + n, text + at, size - at + 1);
    memcpy(text + at, what, n);
}

static void mutate(char *text, uint64_t *x) {
    size_t size = strlen(text), at = below(x, size), n = 1 + below(x, 24);
    char piece[32];
    switch (below(x, 5)) {
    case 0: {
        const char *token = tokens[below(x, sizeof tokens / sizeof tokens[0])];
        insert(text, at, token, strlen(token));
        break;
    }
    case 1:
        if (size > 0) text[at] = (char)(1 + below(x, 255));
        break;
    case 2: /* delete */
        if (n > size - at) n = size - at;
        memmove(text + at, text + at + n, size - at - n + 1);
        break;
    case 3: /* repeat a piece elsewhere */
        if (n > size - at) n = size - at;
        memcpy(piece, text + at, n);
        insert(text, below(x, size), piece, n);
        break;
    default: /* another digit */
        while (text[at] && !isdigit((unsigned char)text[at])) at++;
        if (text[at]) text[at] = (char)('0' + below(x, 10));
        break;
    }
}

static void check_accepted(const dt_config *c, const char *mutant) {
    char *text = NULL, *again = NULL;
    dt_config back;
    assert_int_equal(dt_config_to_text(c, &text), DT_OK);
    if (dt_config_parse(&back, c->path, text, 0, NULL) != DT_OK)
        fail_msg("%s\naccepted, but its text is not: %s", mutant, dt_error_text());
    assert_int_equal(dt_config_to_text(&back, &again), DT_OK);
    assert_string_equal(text, again);
    free(text);
    free(again);
    dt_config_fini(&back);
}

static void check_refused(dt_status status, const char *mutant) {
    int line = 0, column = 0;
    assert_int_equal(status, DT_ERR_CONFIG);
    if (sscanf(dt_error_text(), "m.toml:%d:%d: ", &line, &column) != 2 || line < 1 || column < 1)
        fail_msg("%s\nrefused without a place: %s", mutant, dt_error_text());
}

static void mutants_are_refused_or_read_back(void **state) {
    (void)state;
    uint64_t x = 0x9e3779b97f4a7c15u;
    int n_accepted = 0;
    for (int i = 0; i < MUTANTS; i++) {
        char text[TEXT_MAX];
        strcpy(text, seed_text);
        for (size_t n = 1 + below(&x, 4); n > 0; n--) mutate(text, &x);
        dt_config c;
        dt_status status = dt_config_parse(&c, "m.toml", text, 0, NULL);
        if (status == DT_OK) {
            check_accepted(&c, text);
            n_accepted++;
        } else {
            check_refused(status, text);
        }
        dt_config_fini(&c);
    }
    /* Both outcomes are exercised. */
    assert_in_range(n_accepted, MUTANTS / 50, MUTANTS / 2);
}

static void override_mutants_are_survived(void **state) {
    (void)state;
    uint64_t x = 88172645463325252u;
    static const char *const seeds[] = {"optim.lr=0.1", "augment.mean=0.1,0.2", "run.out_dir=a b",
                                        "train.steps=3", "model.layers=[{type='dense', channels=3}]"};
    for (int i = 0; i < MUTANTS / 2; i++) {
        char text[TEXT_MAX];
        strcpy(text, seeds[below(&x, sizeof seeds / sizeof seeds[0])]);
        for (size_t n = 1 + below(&x, 3); n > 0; n--) mutate(text, &x);
        const char *override = text;
        dt_config c;
        if (dt_config_parse(&c, "m.toml", seed_text, 1, &override) == DT_OK) check_accepted(&c, text);
        dt_config_fini(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutants_are_refused_or_read_back),
        cmocka_unit_test(override_mutants_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
