/* What the tests of the public API share. They link libdtrain.so and see dtrain.h alone. */
#ifndef DT_API_TEST_H
#define DT_API_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the standard headers */
#include <cmocka.h>

#include "dtrain.h"

/* DT_OK, or the test fails with the cause. */
#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != DT_OK) fail_msg("%s: %s", #call, dt_error_text());                                     \
    } while (0)

/* The text does not speak of a configuration's keys, "train.batch" or [optim]: a program has none. */
static inline void expect_own_words(const char *text) {
    static const char *const section[] = {"run",   "model",    "data", "augment",   "train",
                                          "optim", "schedule", "dist", "checkpoint"};
    for (size_t i = 0; i < sizeof section / sizeof section[0]; i++) {
        const size_t n = strlen(section[i]);
        for (const char *at = strstr(text, section[i]); at; at = strstr(at + 1, section[i])) {
            const bool begins = at == text || strchr(" (`[\"", at[-1]);
            const bool key = at[n] == '.' && at[n + 1] >= 'a' && at[n + 1] <= 'z';
            if (begins && (key || (at > text && at[-1] == '[' && at[n] == ']')))
                fail_msg("the text speaks of a configuration: %s", text);
        }
    }
}

/* That status, and a text that holds `word`. */
#define FAILS(status, word, call)                                                                            \
    do {                                                                                                     \
        assert_int_equal((call), (status));                                                                  \
        expect_own_words(dt_error_text());                                                                   \
        if (!strstr(dt_error_text(), (word)))                                                                \
            fail_msg("%s: \"%s\" is not about %s", #call, dt_error_text(), word);                            \
    } while (0)

static inline dt_run *open_cpu(void) {
    dt_run *run;
#ifdef __SANITIZE_THREAD__ /* which does not see OpenMP's threads wait for each other */
    const int32_t threads = 1;
#else
    const int32_t threads = 2;
#endif
    OK(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU, .threads = threads}, &run));
    return run;
}

#ifdef DT_COMMAND
/* Makes a set of text below `dir`, an empty directory: nine documents of 26 letters each, as bytes, an end token behind
 * each. */
static inline void make_text(const char *dir, char set[256]) {
    char command[1024];
    snprintf(set, 256, "%s/text", dir);
    snprintf(
        command, sizeof command,
        "cd %s && for i in 1 2 3 4 5 6 7 8 9; do echo '{\"text\": \"abcdefghijklmnopqrstuvwxyz\"}'; done "
        ">text.jsonl && %s data import text text.jsonl --field text --tokenizer byte --out text >import.log",
        dir, DT_COMMAND);
    assert_int_equal(system(command), 0);
}
#endif

static inline dt_tensor *floats(dt_run *run, dt_shape shape, const float *data) {
    dt_tensor *t;
    OK(dt_tensor_from(run, DT_DTYPE_F32, shape, data, &t));
    return t;
}

static inline dt_tensor *normal(dt_run *run, dt_shape shape, uint64_t seed) {
    dt_tensor *t;
    OK(dt_tensor_randn(run, DT_DTYPE_F32, shape, seed, &t));
    return t;
}

#endif
