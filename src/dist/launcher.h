/* What started this process, mpirun or srun: what it says before MPI has started, whether it has the room to
 * start MPI, and a guard that sees to its end. Private to src/dist. */
#ifndef DT_DIST_LAUNCHER_H
#define DT_DIST_LAUNCHER_H

#include "core/status.h"
#include "core/types.h"

/* Whether a launcher that an MPI process can talk to started this one: mpirun, srun --mpi=pmix, and
 * others. */
bool dt_launcher_speaks_mpi(void);
/* Tasks that were started together with this one, 1 where none are; and its number among them. */
int64_t dt_launcher_tasks(void);
int32_t dt_launcher_rank(void);
/* A whole number of the environment; -1 where it is not set or none. */
int64_t dt_launcher_env_count(const char *name);

/* dt_comm_tell_end. */
void dt_launcher_tell_end(int code);

/* DT_ERR_USAGE where the directory that the launcher shares with its ranks has no room left: MPI would end
 * this process at its start, and mpirun would wait for ever. */
dt_status dt_launcher_check_room(void);

/* Appends which ranks of this host are stopped (SIGSTOP, a debugger), as "; rank 1 (process 4711 of this
 * host) is stopped". */
void dt_launcher_name_stopped(char *text, size_t text_bytes);

/* mpirun can outlive its ranks for ever: when its session directory is full, or when it waits for a host that
 * is gone. Forks a process that stays beside the first rank of a host, in a session of its own, and ends the
 * mpirun or orted that started the ranks when that still lives 20 s after the last of them has ended. Does
 * nothing under any other launcher. Call while the process has one thread; argv are main's, the guard's name
 * is written there. */
void dt_launcher_guard(int argc, char **argv);

#endif
