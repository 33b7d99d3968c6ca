/* Status codes and the error text that travels with them.
 *
 * Every fallible function returns dt_status. The cause is written once, where it is known, with dt_fail();
 * callers may add one line of context with dt_error_context(). The text is per thread. Only src/app prints
 * it and exits. Asserts (DT_ASSERT) are for our own bugs, never for input. */
#ifndef DT_CORE_STATUS_H
#define DT_CORE_STATUS_H

#define DTRAIN_TYPES_ONLY
#include "dtrain.h" /* dt_status */
#undef DTRAIN_TYPES_ONLY

#ifdef __cplusplus
extern "C" {
#endif

#define DT_MUST_CHECK                 __attribute__((warn_unused_result))
#define DT_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))

/* Sets this thread's error text to the formatted cause and returns `status` (so `return dt_fail(...)`). */
dt_status dt_fail(dt_status status, const char *fmt, ...) DT_MUST_CHECK DT_PRINTF(2, 3);

/* Puts "context: " in front of this thread's error text. Call once per layer that knows more. */
void dt_error_context(const char *fmt, ...) DT_PRINTF(1, 2);

/* This thread's error text; "" if none. Valid until the next dt_fail/dt_error_* on this thread. */
const char *dt_error_text(void);

/* Replaces this thread's error text; worker threads hand their text to the thread that reports it. */
void dt_error_set_text(const char *text);

/* The same of a failure that comes from elsewhere, with its status. */
void dt_error_set(dt_status status, const char *text);

/* Whether this thread's text tells of such a failure: a status that a caller brings by itself has none. */
bool dt_error_is_of(dt_status status);

/* From here on every text goes through `rephrase`, which changes it in its `size` bytes: a program in C does not know the
 * words of a configuration. */
void dt_error_rephrase(void (*rephrase)(char *text, size_t size));

/* Process exit code of a status: 0 done, 2 usage/configuration, 3 data, 4 no usable checkpoint,
 * 5 not finite, 6 peer lost, 7 GPU failed, 85 stopped and saved, 1 anything else. */
int dt_status_exit_code(dt_status status);

/* Short name, e.g. "data". */
const char *dt_status_name(dt_status status);

/* Returns the status of a failed expression to the caller. */
#define DT_TRY(expr)                                                                                         \
    do {                                                                                                     \
        dt_status dt_try_status_ = (expr);                                                                   \
        if (dt_try_status_ != DT_OK) return dt_try_status_;                                                  \
    } while (0)

/* Stores the status in `var` and jumps to the one clean-up label of the function. */
#define DT_TRY_GOTO(var, expr, label)                                                                        \
    do {                                                                                                     \
        (var) = (expr);                                                                                      \
        if ((var) != DT_OK) goto label;                                                                      \
    } while (0)

/* Prints file, line and expression, then aborts. Never compiled out. */
__attribute__((noreturn)) void dt_assert_fail(const char *expr, const char *file, int line);
#define DT_ASSERT(expr) ((expr) ? (void)0 : dt_assert_fail(#expr, __FILE__, __LINE__))

#ifdef __cplusplus
}
#endif
#endif
