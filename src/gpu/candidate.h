/* Where ways to compute a product are timed, a test takes each in turn instead of the fastest. */
#ifndef DT_GPU_CANDIDATE_H
#define DT_GPU_CANDIDATE_H

#include "core/backend.h"

/* From now on, of every shape that is new, the nth of cuBLASLt's candidates, or of cuDNN's for attention, counted from 1; where
 * there are fewer, what there is without the library. */
void dt_cuda_take_candidate(dt_backend *be, int32_t nth);
/* From now on, of every convolution that is new, the engines of cuDNN's first list count as not running. */
void dt_cuda_fail_first_list(dt_backend *be);

#endif
