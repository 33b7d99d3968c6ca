/* Time of what runs for less than its launch takes. */
#ifndef DT_GPU_TIMING_H
#define DT_GPU_TIMING_H

#include "gpu.h"

/* Below these seconds launches hide what candidates take: they are replayed from a graph. */
#define DT_TIMING_SMALL_S 60e-6

/* Seconds of one of the runs that `enqueue` puts on the compute stream, as a graph of several replays them; negative where
 * something fails. It has run before. */
double dt_timing_captured(dt_cuda *cu, cudaEvent_t begin, cudaEvent_t end,
                          bool (*enqueue)(dt_cuda *cu, const void *arg), const void *arg);

#endif
