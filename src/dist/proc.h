/* Processes of this host, as /proc shows them. Private to src/dist. */
#ifndef DT_DIST_PROC_H
#define DT_DIST_PROC_H

#include <sys/types.h>

#include "core/types.h"

typedef struct dt_proc {
    pid_t pid, parent;
    char state;     /* 'T' stopped, 'Z' ended and not waited for */
    uint64_t start; /* in clock ticks since the host's; tells a process from a later one of the same number */
    char name[16];  /* of the program, as the kernel cuts it */
} dt_proc;

/* False when there is no such process. */
bool dt_proc_read(pid_t pid, dt_proc *out);
/* The children of a process, at most `max` of them; 0 where /proc cannot be read. Ended ones among them. */
int dt_proc_children(pid_t parent, dt_proc *out, int max);
/* Whether it runs this very program: no namesake in another namespace. */
bool dt_proc_is_this_program(pid_t pid);
/* Where in the kernel its first thread waits, as the kernel calls it; "" when it runs, or the kernel does not
 * tell. */
void dt_proc_waits(pid_t pid, char *name, size_t name_bytes);
/* The value of a variable in the environment that a process was started with; false when it has none, or it
 * cannot be read. */
bool dt_proc_env(pid_t pid, const char *name, char *value, size_t value_bytes);

#endif
