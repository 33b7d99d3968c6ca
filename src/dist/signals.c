/* The stop flag. Handlers touch lock-free atomics, the clock and sigaction only: all are
 * async-signal-safe. */
#include "dist/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

typedef struct stop_signal {
    int number;
    int64_t echo_ns;     /* those that follow sooner are the same request */
    bool kills;          /* the one after KEPT requests */
    bool may_be_ignored; /* by who started this process */
} stop_signal;

enum { KEPT = 2 };

/* SIGUSR1 is ignored by what starts ranks, lest an early one kills them, and SIGINT by shells for jobs in the
 * background: neither means that nobody may stop the run. A cluster's batch system may warn by SIGUSR2, and
 * by SIGXCPU every second from the soft limit of CPU time on. */
static const stop_signal stop_table[] = {
    {.number = SIGTERM, .kills = true, .echo_ns = 200000000},
    {.number = SIGINT, .kills = true},
    {.number = SIGHUP, .may_be_ignored = true},
    {.number = SIGUSR1},
    {.number = SIGUSR2},
    {.number = SIGXCPU},
};
enum { N_STOP = sizeof stop_table / sizeof stop_table[0] };

static atomic_bool pending;
static atomic_int n_heard[N_STOP];
static _Atomic int64_t heard_ns[N_STOP]; /* the last; 0: none */
static bool installed, ignored[N_STOP];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* A request, or the echo of one. */
static bool is_new(int i, int64_t at_ns) {
    const int64_t before_ns = atomic_exchange(&heard_ns[i], at_ns);
    return before_ns == 0 || at_ns - before_ns >= stop_table[i].echo_ns;
}

static void on_stop(int number) {
    const int kept_errno = errno;
    atomic_store(&pending, true);
    for (int i = 0; i < N_STOP; i++) {
        if (stop_table[i].number != number || !stop_table[i].kills || !is_new(i, now_ns())) continue;
        if (atomic_fetch_add(&n_heard[i], 1) + 1 < KEPT) continue;
        struct sigaction normal = {.sa_handler = SIG_DFL};
        sigaction(number, &normal, NULL);
    }
    errno = kept_errno;
}

static dt_status set_action(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < N_STOP; i++) sigaddset(&action.sa_mask, stop_table[i].number);
    if (sigaction(number, &action, NULL) == 0) return DT_OK;
    return dt_fail(DT_ERR_INTERNAL, "sigaction(%d): %s", number, strerror(errno));
}

static bool is_ignored(int number) {
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

dt_status dt_signal_install(void) {
    for (int i = 0; i < N_STOP; i++) {
        const stop_signal *s = &stop_table[i];
        if (!installed) ignored[i] = s->may_be_ignored && is_ignored(s->number);
        if (atomic_load(&n_heard[i]) >= KEPT) continue;
        DT_TRY(set_action(s->number, ignored[i] ? SIG_IGN : on_stop));
    }
    installed = true;
    DT_TRY(set_action(SIGPIPE, SIG_IGN));
    return set_action(SIGXFSZ, SIG_IGN);
}

bool dt_signal_pending(void) {
    return atomic_load_explicit(&pending, memory_order_relaxed);
}
