/* Paces a loop that polls: spins for microseconds, then yields, then sleeps longer and longer. Private to
 * src/dist. */
#ifndef DT_DIST_PACER_H
#define DT_DIST_PACER_H

#include "core/types.h"

/* How long a wait has lasted. Time during which this process was stopped (SIGSTOP, a suspended machine) does
 * not count. */
typedef struct dt_pacer {
    double last_s, waited_s;
} dt_pacer;

void dt_pacer_start(dt_pacer *p);
/* Counts the time since the last call, then returns at once, yields or sleeps, depending on how long it has
 * lasted. */
void dt_pacer_rest(dt_pacer *p);

/* How long a rank holds back a report that other ranks may make too: the lowest reports and ends the rest. */
double dt_pacer_report_delay_s(int32_t rank);

#endif
