/* Error text per thread: the cause in the middle, context added in front. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_TEXT_MAX = 4096 };

static _Thread_local char error_text[ERROR_TEXT_MAX];
static _Thread_local dt_status error_status; /* of the last failure with a text */
static void (*_Atomic rephrase_text)(char *text, size_t size);

typedef struct status_row {
    const char *name;
    int exit_code;
} status_row;

static const status_row status_table[] = {
    [DT_OK] = {"ok", 0},
    [DT_ERR_USAGE] = {"usage", 2},
    [DT_ERR_CONFIG] = {"configuration", 2},
    [DT_ERR_DATA] = {"data", 3},
    [DT_ERR_CHECKPOINT] = {"checkpoint", 4},
    [DT_ERR_NONFINITE] = {"not finite", 5},
    [DT_ERR_PEER] = {"peer", 6},
    [DT_ERR_MEMORY] = {"memory", 1},
    [DT_ERR_DEVICE] = {"device", 7},
    [DT_ERR_IO] = {"file", 1},
    [DT_ERR_UNSUPPORTED] = {"unsupported", 2},
    [DT_ERR_INTERNAL] = {"internal", 1},
    [DT_STOPPED] = {"stopped", 85},
    [DT_ERR_BUSY] = {"busy", 1},
    [DT_ERR_TIMEOUT] = {"timeout", 1},
};
_Static_assert(sizeof status_table / sizeof status_table[0] == DT_STATUS_COUNT, "a row per status");

dt_status dt_fail(dt_status status, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(error_text, sizeof error_text, fmt, ap);
    va_end(ap);
    error_status = status;
    void (*rephrase)(char *, size_t) = rephrase_text;
    if (rephrase) rephrase(error_text, sizeof error_text);
    return status;
}

void dt_error_rephrase(void (*rephrase)(char *text, size_t size)) {
    rephrase_text = rephrase;
}

void dt_error_context(const char *fmt, ...) {
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text) return;
    snprintf(text + n, sizeof text - (size_t)n, ": %s", error_text);
    memcpy(error_text, text, sizeof error_text);
}

const char *dt_error_text(void) {
    return error_text;
}

void dt_error_set_text(const char *text) {
    snprintf(error_text, sizeof error_text, "%s", text);
}

void dt_error_set(dt_status status, const char *text) {
    dt_error_set_text(text);
    error_status = status;
}

bool dt_error_is_of(dt_status status) {
    return error_status == status && error_text[0];
}

int dt_status_exit_code(dt_status status) {
    return status_table[status].exit_code;
}

const char *dt_status_name(dt_status status) {
    const bool known = (uint32_t)status < sizeof status_table / sizeof status_table[0];
    return known && status_table[status].name ? status_table[status].name : "?";
}

void dt_assert_fail(const char *expr, const char *file, int line) {
    fprintf(stderr, "dtrain: internal error: %s does not hold (%s:%d)\n", expr, file, line);
    abort();
}
