/* The watchdog thread: it ends a job that stopped moving. Not a profiler: it knows the last beat only.
 *
 * A stopped process (SIGSTOP, suspended machine) sees its own silence as a gap between two ticks: such gaps
 * restart the count, so that it is the waiting ranks that report, not the one that slept. */
#include "dist/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dist/signals.h"
#include "pacer.h"
#include "speak.h"

static const double tick_s = 0.1;
static const double stopped_gap_s = 2.0;
/* Waits of the communicator time out first: their message names the ranks that are missing. */
static const double grace_s = 3.0;
/* How long a run that was asked to stop may stand still before this rank asks whether the others still
 * live. */
static const double stop_patience_s = 5.0;

struct dt_watchdog {
    dt_comm *mpi;
    double timeout_s;
    pthread_t thread;
    pthread_mutex_t lock; /* guards quit, poll, poll_arg */
    pthread_cond_t wake;
    bool quit;
    dt_status (*poll)(void *arg);
    void *poll_arg;
    _Atomic int64_t n_beat, step;
    _Atomic(const char *) phase;
    _Atomic bool paused;
};

void dt_watchdog_beat(dt_watchdog *w, int64_t step, const char *phase) {
    if (w == NULL) return;
    atomic_store_explicit(&w->step, step, memory_order_relaxed);
    atomic_store_explicit(&w->phase, phase, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->n_beat, 1, memory_order_release);
}

void dt_watchdog_pause(dt_watchdog *w, bool paused) {
    if (w == NULL) return;
    w->mpi->patient = paused;
    atomic_store(&w->paused, paused);
    atomic_fetch_add_explicit(&w->n_beat, 1, memory_order_release); /* the count starts anew */
}

void dt_watchdog_set_poll(dt_watchdog *w, dt_status (*poll)(void *arg), void *arg) {
    if (w == NULL) return;
    pthread_mutex_lock(&w->lock);
    w->poll = poll;
    w->poll_arg = arg;
    pthread_mutex_unlock(&w->lock);
}

/* Sleeps, or returns early when asked to quit. Called with the lock held. True: quit. */
static bool rest(dt_watchdog *w, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)(seconds * 1e9);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    while (!w->quit && pthread_cond_timedwait(&w->wake, &w->lock, &until) == 0) {
    }
    return w->quit;
}

static void end_job(dt_watchdog *w, const char *cause) {
    dt_comm_speak(w->mpi, cause, "; ending the job");
    int code = dt_status_exit_code(DT_ERR_PEER);
    w->mpi->abort(w->mpi, code);
    _exit(code);
}

/* Waits for ranks that noticed first. True: quit was asked meanwhile, or the run moved on. */
static bool let_others_report(dt_watchdog *w, int64_t n_beat) {
    double delay_s = dt_pacer_report_delay_s(w->mpi->rank);
    return rest(w, delay_s) || atomic_load_explicit(&w->n_beat, memory_order_acquire) != n_beat;
}

/* Among several ranks. A launcher that sees a rank of another host die asks the rest to end, who stand in a
 * wait for it: they would neither save nor end. A rank that is only slow answers, and is waited for. */
static void look_for_lost(dt_watchdog *w, double silent_s, int64_t n_beat) {
    char silent[512], cause[768];
    if (w->mpi->all_live(w->mpi, silent, sizeof silent) || let_others_report(w, n_beat)) return;
    snprintf(cause, sizeof cause, "asked to stop, but step %lld (%s) has not ended for %.0f s: %s",
             (long long)atomic_load_explicit(&w->step, memory_order_relaxed),
             atomic_load_explicit(&w->phase, memory_order_relaxed), silent_s, silent);
    end_job(w, cause);
}

/* A rank of this host has ended and this one has not been told to. Who ended it, the launcher or the rank
 * itself, has most likely said why: first they get time to end the rest. */
static void look_after_peers(dt_watchdog *w) {
    const double patience_s = 2.0, look_s = 0.05;
    int32_t alive;
    const int32_t ended = w->mpi->ended ? w->mpi->ended(w->mpi, &alive) : -1;
    if (ended < 0) return;
    double left_s = patience_s + (alive == w->mpi->rank ? 0 : dt_pacer_report_delay_s(w->mpi->rank));
    for (; left_s > 0; left_s -= look_s) {
        if (rest(w, look_s)) return; /* the run has ended as well */
        if (dt_signal_pending()) _exit(dt_status_exit_code(DT_ERR_PEER));
    }
    char cause[64];
    snprintf(cause, sizeof cause, "the process of rank %d, on this host, has ended", (int)ended);
    end_job(w, cause);
}

static void *watch(void *arg) {
    dt_watchdog *w = arg;
    int64_t seen = -1;
    double last_tick_s = dt_time_s(), silent_s = 0, ask_at_s = stop_patience_s;
    const bool alone = w->mpi->world == 1;
    double limit_s = w->timeout_s + (alone ? 0 : grace_s);
    pthread_mutex_lock(&w->lock);
    while (!rest(w, tick_s)) {
        double now_s = dt_time_s(), gap_s = now_s - last_tick_s;
        last_tick_s = now_s;
        int64_t n_beat = atomic_load_explicit(&w->n_beat, memory_order_acquire);
        bool paused = atomic_load(&w->paused), quiet = n_beat == seen && gap_s < stopped_gap_s && !paused;
        silent_s = quiet ? silent_s + gap_s : 0;
        seen = n_beat;

        look_after_peers(w);
        if (!alone && (paused || silent_s > 0)) w->mpi->answer(w->mpi, paused);
        if (silent_s < stop_patience_s) ask_at_s = stop_patience_s;
        /* Before the first beat other ranks may not have come to where they answer. */
        if (!alone && n_beat > 0 && silent_s >= ask_at_s && dt_signal_pending()) {
            look_for_lost(w, silent_s, n_beat);
            ask_at_s = silent_s + stop_patience_s;
        }
        if (w->poll != NULL && w->poll(w->poll_arg) != DT_OK) end_job(w, dt_error_text());
        if (silent_s < limit_s || let_others_report(w, n_beat)) continue;
        const char *phase = atomic_load_explicit(&w->phase, memory_order_relaxed);
        char cause[512];
        snprintf(cause, sizeof cause, "no progress for %.0f s in step %lld (%s)%s", silent_s,
                 (long long)atomic_load_explicit(&w->step, memory_order_relaxed), phase,
                 !alone ? "" : ": if it may take that long, raise dist.timeout_s");
        end_job(w, cause);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

dt_status dt_watchdog_start(dt_comm *mpi, double timeout_s, dt_watchdog **out) {
    *out = NULL;
    if (!(timeout_s > 0))
        return dt_fail(DT_ERR_CONFIG, "watchdog: the timeout must be above 0 s, got %g", timeout_s);
    dt_watchdog *w = calloc(1, sizeof *w);
    if (w == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for the watchdog");
    w->mpi = mpi;
    w->timeout_s = timeout_s;
    atomic_init(&w->phase, "start");
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int rc = pthread_create(&w->thread, NULL, watch, w);
    if (rc != 0) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return dt_fail(DT_ERR_MEMORY, "watchdog: cannot start its thread: %s", strerror(rc));
    }
    *out = w;
    return DT_OK;
}

void dt_watchdog_stop(dt_watchdog *w) {
    if (w == NULL) return;
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
