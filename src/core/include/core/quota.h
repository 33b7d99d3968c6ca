/* CPU time and memory that control groups leave to this process: a container's limits, which no affinity mask and no count
 * of pages shows. */
#ifndef DT_CORE_QUOTA_H
#define DT_CORE_QUOTA_H

#include "core/types.h"

/* The tightest quota on the way from this process' group to the outermost one that can be seen, in whole
 * CPUs, rounded up; 0: none. Version 1 (cpu.cfs_quota_us) and 2 (cpu.max) of control groups, also both at
 * once. `root` stands before every path that is read, /proc/self/... included: "" outside tests. What cannot
 * be read or is no quota counts as none. */
int64_t dt_quota_cpus(const char *root);
/* Likewise the tightest limit on memory in bytes (memory.limit_in_bytes, memory.max); 0: none. */
int64_t dt_quota_memory(const char *root);
/* `most` bytes, or that part (0 to 1) of the memory there is for this process, the less of the two: what a file that is not
 * trusted may ask for. */
int64_t dt_memory_part(int64_t most, double part);

#endif
