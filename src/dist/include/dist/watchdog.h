/* The watchdog: one thread per rank that ends the job when it stops moving.
 *
 * The trainer calls dt_watchdog_beat() at each phase. When no beat came for timeout_s (and, among
 * several ranks, 3 s more: the communicator's own timeout names the missing ranks), the thread prints one
 * message (rank, host, step, phase, seconds) and ends the whole job through comm->abort with exit code 6;
 * if that does not return, _exit. Where the run was asked to stop and stands still for 5 s, the thread asks
 * the other ranks for a sign of life, again every 5 s, and ends the job so when one gives none. Pausing is
 * for long work on files: the thread then aborts for a failed poll alone and gives signs of life, and this
 * rank's waits for others last as long as those give some. */
#ifndef DT_DIST_WATCHDOG_H
#define DT_DIST_WATCHDOG_H

#include "dist/comm.h"

typedef struct dt_watchdog dt_watchdog;

dt_status dt_watchdog_start(dt_comm *mpi, double timeout_s, dt_watchdog **out);
/* `phase` must be a string literal. Async-signal-safe, lock-free. Accepts NULL. */
void dt_watchdog_beat(dt_watchdog *w, int64_t step, const char *phase);
void dt_watchdog_pause(dt_watchdog *w, bool paused);
/* Polled by the thread every 100 ms, e.g. ncclCommGetAsyncError; not DT_OK ends the job. */
void dt_watchdog_set_poll(dt_watchdog *w, dt_status (*poll)(void *arg), void *arg);
void dt_watchdog_stop(dt_watchdog *w); /* joins; accepts NULL */

#endif
