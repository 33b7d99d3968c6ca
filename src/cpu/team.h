/* How a kernel shares its work out to the threads of a rank.
 *
 * Programs that train run on OpenMP's threads. Those that only run forward, a request at a time on hosts that do other things
 * too, run on a team of their own: the caller does whatever no thread has begun, so that none is waited for that has no core,
 * and threads without work sleep after some 50 microseconds. */
#ifndef DT_CPU_TEAM_H
#define DT_CPU_TEAM_H

#include <stdbool.h>
#include <stdint.h>

/* Item `item` of a stage, by thread `worker` of the crew, whose memory it may use. */
typedef void dt_cpu_item_fn(const void *arg, int64_t item, int32_t worker);

typedef struct dt_cpu_stage {
    int64_t n; /* items, in any order; below 2^31 */
    dt_cpu_item_fn *run;
    bool even; /* they cost the same: of OpenMP's threads each gets an equal part in a row */
} dt_cpu_stage;

typedef struct dt_cpu_crew {
    int32_t threads; /* 1: the caller alone */
    bool team;       /* not OpenMP's */
} dt_cpu_crew;

/* Items [from, to). */
typedef void dt_cpu_range_fn(const void *arg, int64_t from, int64_t to);

/* Runs the stages one after the other: a stage begins when all items of the one before are done. What is computed must not
 * depend on who does it. The team is the calling thread's own; it is made at its first use and ends with the thread. */
void dt_cpu_share(dt_cpu_crew crew, const dt_cpu_stage *stage, int32_t n_stage, const void *arg);
/* n items that cost the same, in as few pieces as the threads want. */
void dt_cpu_share_range(dt_cpu_crew crew, int64_t n, dt_cpu_range_fn *run, const void *arg);

#endif
