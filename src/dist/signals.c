/* The stop flag. Handlers touch lock-free atomics and sigaction only: both are async-signal-safe. */
#include "dist/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { INTERRUPTS_KEPT = 2 }; /* the one after these kills */

static const int stop_signal[] = {SIGTERM, SIGINT, SIGUSR1};
enum { STOP_COUNT = sizeof stop_signal / sizeof stop_signal[0] };

static atomic_bool pending;
static atomic_int n_interrupt;

static void on_stop(int number) {
    int kept_errno = errno;
    atomic_store(&pending, true);
    if (number == SIGINT && atomic_fetch_add(&n_interrupt, 1) + 1 >= INTERRUPTS_KEPT) {
        struct sigaction normal = {.sa_handler = SIG_DFL};
        sigaction(SIGINT, &normal, NULL);
    }
    errno = kept_errno;
}

static dt_status set_action(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < STOP_COUNT; i++) sigaddset(&action.sa_mask, stop_signal[i]);
    if (sigaction(number, &action, NULL) == 0) return DT_OK;
    return dt_fail(DT_ERR_INTERNAL, "sigaction(%d): %s", number, strerror(errno));
}

dt_status dt_signal_install(void) {
    for (int i = 0; i < STOP_COUNT; i++) {
        if (stop_signal[i] == SIGINT && atomic_load(&n_interrupt) >= INTERRUPTS_KEPT) continue;
        DT_TRY(set_action(stop_signal[i], on_stop));
    }
    DT_TRY(set_action(SIGPIPE, SIG_IGN));
    return set_action(SIGXFSZ, SIG_IGN);
}

bool dt_signal_pending(void) {
    return atomic_load_explicit(&pending, memory_order_relaxed);
}
