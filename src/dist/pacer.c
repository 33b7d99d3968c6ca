/* The pace of polling loops. Ranks and compute threads may share cores, so waiting must not take one. */
#include "pacer.h"

#include <sched.h>
#include <time.h>

static const double stopped_gap_s = 1.0;
static const double spin_s = 20e-6;
static const double report_delay_s = 2.0, stagger_s = 0.2, stagger_max_s = 2.0;

typedef struct pace_row {
    double until_s; /* of waiting */
    long sleep_ns;  /* 0: yield only */
} pace_row;

static const pace_row pace_table[] = {{2e-3, 0}, {20e-3, 20000}, {1.0, 100000}, {1e30, 1000000}};

void dt_pacer_start(dt_pacer *p) {
    p->last_s = dt_time_s();
    p->waited_s = 0;
}

void dt_pacer_rest(dt_pacer *p) {
    double now_s = dt_time_s();
    double gap_s = now_s - p->last_s;
    p->last_s = now_s;
    p->waited_s += gap_s < stopped_gap_s ? gap_s : 0;
    if (p->waited_s < spin_s) return;
    const pace_row *row = pace_table;
    while (p->waited_s > row->until_s) row++;
    if (row->sleep_ns == 0) {
        sched_yield();
    } else {
        struct timespec t = {.tv_nsec = row->sleep_ns};
        nanosleep(&t, NULL);
    }
}

double dt_pacer_report_delay_s(int32_t rank) {
    if (rank == 0) return 0;
    double stagger = stagger_s * (double)(rank - 1);
    return report_delay_s + (stagger < stagger_max_s ? stagger : stagger_max_s);
}
