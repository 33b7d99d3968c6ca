/* A bound on a call into MPI that waits for the other ranks, and knows no timeout. Private to src/dist. */
#ifndef DT_DIST_BOUND_H
#define DT_DIST_BOUND_H

#include "core/types.h"

typedef struct dt_bound dt_bound;

/* From now on the process has limit_s until dt_bound_stop; less once a signal has asked it to stop: 30 s.
 * Then a thread says "dtrain: rank N (host): <what> after S s: <text>", or the text alone where `what` (kept,
 * not copied) is NULL, and ends the process with `code`, where no lower rank does so first. Time during which
 * the process itself stood still does not count. NULL where no thread can be had: then without bound. */
dt_bound *dt_bound_start(double limit_s, int32_t rank, int code, const char *what, const char *text);
/* Accepts NULL. */
void dt_bound_stop(dt_bound *b);

#endif
