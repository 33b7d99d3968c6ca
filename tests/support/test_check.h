/* What the tests of the compiler and of the engine share: checks that print the cause, numbers that depend on
 * nothing but a counter. Header only; every function fails the running cmocka test on an error. */
#ifndef DT_TEST_CHECK_H
#define DT_TEST_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "core/status.h"

static inline void check_ok(dt_status st) {
    if (st != DT_OK) fail_msg("%s: %s", dt_status_name(st), dt_error_text());
}

/* The status, and that the error text holds every one of the strings up to NULL. */
static inline void check_error(dt_status got, dt_status want, const char *const *texts) {
    if (got != want) fail_msg("status %s, expected %s", dt_status_name(got), dt_status_name(want));
    for (; *texts; texts++)
        if (!strstr(dt_error_text(), *texts)) fail_msg("\"%s\" does not say \"%s\"", dt_error_text(), *texts);
}
#define CHECK_ERROR(got, want, ...) check_error(got, want, (const char *const[]){__VA_ARGS__, NULL})

/* Zeroed. */
static inline void *check_alloc(size_t bytes) {
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p) fail_msg("no memory for %zu bytes", bytes);
    return p;
}

/* |got - want| relative to the 2-norm of want; both in units of the whole array. */
static inline double check_distance(const double *got, const double *want, int64_t n) {
    double d2 = 0, w2 = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(got[i]) || !isfinite(want[i])) return INFINITY;
        d2 += (got[i] - want[i]) * (got[i] - want[i]), w2 += want[i] * want[i];
    }
    return d2 == 0 ? 0 : sqrt(d2 / fmax(w2, 1e-300));
}

/* A stream of test numbers. */
typedef struct check_rng {
    uint64_t stream, next;
} check_rng;

static inline uint32_t check_u32(check_rng *r) {
    uint64_t i = r->next++;
    return dt_philox(dt_rng_key(2024, DT_RNG_TEST, r->stream), 0, i / 4).v[i % 4];
}
/* 0 .. n-1 */
static inline int64_t check_below(check_rng *r, int64_t n) {
    return (int64_t)(check_u32(r) % (uint32_t)n);
}
/* Uniform in [-1, 1). */
static inline double check_uniform(check_rng *r) {
    return 2 * (double)dt_u01(check_u32(r)) - 1;
}

#endif
