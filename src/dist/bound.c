#include "bound.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dist/signals.h"
#include "launcher.h"
#include "pacer.h"
#include "speak.h"

static const double asked_to_stop_s = 30;
static const double stopped_gap_s = 2.0;
enum { LOOK_MS = 100 };

struct dt_bound {
    double limit_s;
    dt_comm who; /* rank and host only */
    int code;
    const char *what; /* NULL: the text is all */
    char text[4096];
    pthread_t thread;
    int quit; /* eventfd */
};

/* The time there is, which a signal may shorten. */
static double limit_now_s(double limit_s) {
    return dt_signal_pending() && asked_to_stop_s < limit_s ? asked_to_stop_s : limit_s;
}

/* False: not needed any more. */
static bool wait_for(dt_bound *b, double limit_s, bool *asked) {
    double last_s = dt_time_s(), waited_s = 0;
    while (waited_s < limit_now_s(limit_s)) {
        struct pollfd quit = {.fd = b->quit, .events = POLLIN};
        if (poll(&quit, 1, LOOK_MS) == 1) return false;
        const double now_s = dt_time_s(), gap_s = now_s - last_s;
        last_s = now_s;
        if (gap_s < stopped_gap_s) waited_s += gap_s;
    }
    *asked = dt_signal_pending();
    return true;
}

static void *watch(void *arg) {
    dt_bound *b = arg;
    char words[sizeof b->text + 128];
    bool asked, told;
    if (!wait_for(b, b->limit_s, &asked)) return NULL;
    const double waited_s = limit_now_s(b->limit_s);
    if (!wait_for(b, dt_pacer_report_delay_s(b->who.rank), &told)) return NULL;
    if (b->what) {
        snprintf(words, sizeof words, "%s after %g s%s: %s", b->what, waited_s,
                 waited_s < b->limit_s ? ", while asked to stop" : "", b->text);
    } else {
        snprintf(words, sizeof words, "%s", b->text);
    }
    /* Asked to end while it held its words back: a lower rank has said them. */
    if (asked || !told) {
        dt_launcher_name_stopped(words, sizeof words);
        dt_comm_speak(&b->who, words, "");
    }
    _exit(b->code);
}

dt_bound *dt_bound_start(double limit_s, int32_t rank, int code, const char *what, const char *text) {
    dt_bound *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    *b = (dt_bound){.limit_s = limit_s, .who.rank = rank, .code = code, .what = what};
    if (gethostname(b->who.host, sizeof b->who.host - 1) != 0) snprintf(b->who.host, sizeof b->who.host, "?");
    snprintf(b->text, sizeof b->text, "%s", text);
    b->quit = eventfd(0, EFD_CLOEXEC);
    if (b->quit >= 0 && pthread_create(&b->thread, NULL, watch, b) == 0) return b;
    if (b->quit >= 0) close(b->quit);
    free(b);
    return NULL;
}

void dt_bound_stop(dt_bound *b) {
    if (!b) return;
    (void)eventfd_write(b->quit, 1);
    pthread_join(b->thread, NULL);
    close(b->quit);
    free(b);
}
