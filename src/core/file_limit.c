/* SIGXFSZ, held back while a file is written. */
#include "core/file_limit.h"

#include <pthread.h>
#include <time.h>

static sigset_t only_xfsz(void) {
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGXFSZ);
    return s;
}

void dt_file_limit_begin(dt_file_limit *f) {
    const sigset_t xfsz = only_xfsz();
    sigset_t pending;
    pthread_sigmask(SIG_BLOCK, &xfsz, &f->before);
    f->was_pending = sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ);
}

void dt_file_limit_end(const dt_file_limit *f) {
    const sigset_t xfsz = only_xfsz();
    const struct timespec at_once = {0};
    /* It was sent to this thread, which takes it before it would be delivered. */
    while (!f->was_pending && sigtimedwait(&xfsz, NULL, &at_once) == SIGXFSZ) continue;
    pthread_sigmask(SIG_SETMASK, &f->before, NULL);
}
