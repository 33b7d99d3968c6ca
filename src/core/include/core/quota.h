/* CPU time that control groups leave to this process: a container's limit, which no affinity mask shows. */
#ifndef DT_CORE_QUOTA_H
#define DT_CORE_QUOTA_H

#include "core/types.h"

/* The tightest quota on the way from this process' group to the outermost one that can be seen, in whole
 * CPUs, rounded up; 0: none. Version 1 (cpu.cfs_quota_us) and 2 (cpu.max) of control groups, also both at
 * once. `root` stands before every path that is read, /proc/self/... included: "" outside tests. What cannot
 * be read or is no quota counts as none. */
int64_t dt_quota_cpus(const char *root);

#endif
