/* Probes: every kernel of a step stands behind one while a profile is taken, which notes when it ran. Without
 * probes nothing of this is on a step's way. */
#ifndef DT_TRAIN_PROBE_H
#define DT_TRAIN_PROBE_H

#include "core/trace.h"
#include "engine_internal.h"

typedef struct dt_probes dt_probes;

/* A run of a kernel: seconds on the device's own clock, begin_s on dt_time_s'. */
typedef struct dt_probe_call {
    int32_t kernel; /* index among dt_engine_kernels */
    double begin_s, seconds;
} dt_probe_call;

/* Probes for the engine's kernels, not yet in their places. The trace (may be NULL) gets the kernels on the lane
 * of the calling thread, or of the device's streams, and the reductions. */
dt_status dt_probes_create(dt_engine *e, dt_trace *trace, dt_probes **out);
/* Puts them into their places, where kernels run one by one, or the kernels back. Between steps. */
void dt_probes_place(dt_probes *p, bool place);
/* Before and after each step with them; after it the device is idle, and the calls of the step are there, in order. */
dt_status dt_probes_begin_step(dt_probes *p);
dt_status dt_probes_end_step(dt_probes *p);
int32_t dt_probes_n_call(const dt_probes *p);
const dt_probe_call *dt_probes_calls(const dt_probes *p);
int32_t dt_probes_n_kernel(const dt_probes *p);
const dt_engine_kernel *dt_probes_kernels(const dt_probes *p);
/* What the kernel behind a probe is called. */
const char *dt_probes_label(const dt_probes *p, int32_t kernel);
/* Puts the kernels back. Accepts NULL. */
void dt_probes_destroy(dt_probes *p);

#endif
