/* What threads and streams did when, for a profile.
 *
 * A thread that is attached to a trace keeps spans in a lane of its own, whose memory is there beforehand; for
 * all others a span is one look at a thread's own pointer. Threads that are started for another one attach
 * themselves to its trace. Reading is for after the threads have ended or stopped keeping. */
#ifndef DT_CORE_TRACE_H
#define DT_CORE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "core/types.h"

typedef struct dt_trace dt_trace;

typedef struct dt_span {
    const char *name;      /* must outlive the trace */
    int64_t number;        /* of the step, batch, sample or bucket; -1: none */
    double begin_s, end_s; /* dt_time_s */
} dt_span;

/* The spans of one thread or stream. */
typedef struct dt_lane {
    struct dt_lane *next;
    dt_trace *trace;
    const char *name; /* must outlive the trace */
    int32_t number;   /* among those of its name, from 0 */
    int64_t n, room;
    int64_t n_lost; /* for want of room */
    dt_span span[];
} dt_lane;

/* Keeps nothing until dt_trace_keep. room: spans of each lane. */
dt_status dt_trace_create(int64_t room, dt_trace **out);
void dt_trace_destroy(dt_trace *t); /* accepts NULL; no thread may be attached any more */
/* Whether spans that end from now on are kept. */
void dt_trace_keep(dt_trace *t, bool keep);
/* A lane that is no thread's; one thread at a time adds to it. DT_ERR_MEMORY. */
dt_status dt_trace_lane(dt_trace *t, const char *name, dt_lane **out);
/* The latest first. */
const dt_lane *dt_trace_lanes(const dt_trace *t);
/* Lanes that there was no memory for. */
int64_t dt_trace_lost_lanes(const dt_trace *t);
/* A copy of `words` that lives as long as the trace; NULL: no memory. */
const char *dt_trace_text(dt_trace *t, const char *words);
void dt_lane_add(dt_lane *l, const dt_span *span);

/* The calling thread's spans go to a new lane of `t`; NULL: nowhere any more. Without memory for the lane
 * they are not kept, and the trace counts it as lost. */
void dt_trace_attach(dt_trace *t, const char *name);
/* The trace of the calling thread; NULL: none. */
dt_trace *dt_trace_current(void);

extern _Thread_local dt_lane *dt_trace_thread; /* of the calling thread; read it through what follows */

/* When a span begins, for dt_trace_end. */
static inline double dt_trace_begin(void) {
    return dt_trace_thread ? dt_time_s() : 0;
}
static inline void dt_trace_end(double begin_s, const char *name, int64_t number) {
    if (dt_trace_thread) dt_lane_add(dt_trace_thread, &(dt_span){name, number, begin_s, dt_time_s()});
}

#endif
