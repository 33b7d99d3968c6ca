/* The watchdog in child processes, with a communicator whose abort ends the child; and the stop signals. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "dist/signals.h"
#include "dist/watchdog.h"

static void sleep_s(double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&t, &t) != 0) {
    }
}

static void fake_abort(dt_comm *c, int code) {
    (void)c;
    _exit(code);
}

static dt_comm comm = {.name = "fake", .rank = 0, .world = 1, .host = "node3", .abort = fake_abort};

typedef struct child {
    void (*body)(void);
    pid_t pid;
    int output; /* what it writes to stderr */
} child;

static child begin_child(void (*body)(void)) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body();
        _exit(0);
    }
    close(ends[1]);
    return (child){.body = body, .pid = pid, .output = ends[0]};
}

/* Bodies that take seconds: they run beside each other, from before the first test on. */
enum { EARLY_MAX = 16 };
static child early[EARLY_MAX];
static int n_early;
static double begun_s;

/* Runs `body` in a child, if it does not run yet; its exit code (-signal when killed) and what it wrote to stderr. */
static int run_child(void (*body)(void), char *output, size_t output_bytes) {
    child c = {0};
    for (int i = 0; i < n_early; i++)
        if (early[i].body == body) c = early[i];
    if (!c.body) c = begin_child(body);
    size_t len = 0;
    ssize_t n;
    while (len + 1 < output_bytes && (n = read(c.output, output + len, output_bytes - 1 - len)) > 0)
        len += (size_t)n;
    output[len] = '\0';
    close(c.output);
    int how;
    assert_int_equal(waitpid(c.pid, &how, 0), c.pid);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
}

static dt_watchdog *start(double timeout_s) {
    dt_watchdog *w;
    if (dt_watchdog_start(&comm, timeout_s, &w) != DT_OK) _exit(99);
    return w;
}

static void body_silent(void) {
    dt_watchdog *w = start(0.5);
    dt_watchdog_beat(w, 1234, "all-reduce");
    sleep_s(10);
}

static void test_silent(void **state) {
    (void)state;
    char output[1024];
    assert_int_equal(run_child(body_silent, output, sizeof output), 6);
    assert_true(dt_time_s() - begun_s < 5);
    assert_string_equal(
        output,
        "dtrain: rank 0 (node3): no progress for 1 s in step 1234 (all-reduce): if it may take that long, "
        "raise dist.timeout_s; ending the job\n");
}

static void body_beating(void) {
    dt_watchdog *w = start(1);
    for (int i = 0; i < 25; i++) {
        dt_watchdog_beat(w, i, "forward");
        sleep_s(0.1);
    }
    dt_watchdog_pause(w, true);
    sleep_s(1.7);
    dt_watchdog_pause(w, false);
    sleep_s(0.2); /* the count starts anew after a pause */
    dt_watchdog_stop(w);
    dt_watchdog_beat(NULL, 1, "none");
    dt_watchdog_pause(NULL, true);
    dt_watchdog_stop(NULL);
}

static void test_beating_and_paused(void **state) {
    (void)state;
    char output[1024];
    assert_int_equal(run_child(body_beating, output, sizeof output), 0);
    assert_string_equal(output, "");
}

/* A process that was stopped itself does not report its own silence. */
static void body_stopped(void) {
    dt_watchdog *w = start(2.5);
    dt_watchdog_beat(w, 1, "forward");
    pid_t self = getpid();
    pid_t waker = fork();
    if (waker == 0) {
        sleep_s(4);
        kill(self, SIGCONT);
        _exit(0);
    }
    raise(SIGSTOP);
    sleep_s(0.5);
    dt_watchdog_stop(w);
}

static void test_stopped(void **state) {
    (void)state;
    char output[1024];
    assert_int_equal(run_child(body_stopped, output, sizeof output), 0);
    assert_string_equal(output, "");
}

static int32_t rank_2_ended(dt_comm *c, int32_t *lowest_alive) {
    *lowest_alive = c->rank;
    return 2;
}

static void body_peer_ended(void) {
    comm.ended = rank_2_ended;
    dt_watchdog *w = start(100);
    for (int i = 0; i < 60; i++) {
        dt_watchdog_beat(w, i, "forward");
        sleep_s(0.1);
    }
}

static void body_told_to_end(void) {
    if (dt_signal_install() != DT_OK) _exit(99);
    raise(SIGTERM);
    body_peer_ended();
}

/* Whoever tells this rank to end has seen the other end, too. */
static void test_peer_ended(void **state) {
    (void)state;
    char output[1024];
    assert_int_equal(run_child(body_peer_ended, output, sizeof output), 6);
    assert_string_equal(
        output, "dtrain: rank 0 (node3): the process of rank 2, on this host, has ended; ending the job\n");
    assert_int_equal(run_child(body_told_to_end, output, sizeof output), 6);
    assert_string_equal(output, "");
}

/* Two ranks, of which the other stands still or is only slow. */
static int n_asked;
static void no_answer(dt_comm *c, bool waits) {
    (void)c, (void)waits;
}
static bool only_slow(dt_comm *c, char *text, size_t text_bytes) {
    (void)c, (void)text, (void)text_bytes;
    n_asked++;
    return true;
}
static bool lost(dt_comm *c, char *text, size_t text_bytes) {
    (void)c;
    snprintf(text, text_bytes, "no answer from rank 1 (node4)");
    return false;
}

/* One that stands still for `seconds` in step 20, asked to stop after one of them. */
static void stand_still(bool (*all_live)(dt_comm *c, char *text, size_t text_bytes), bool beat,
                        double seconds) {
    comm.world = 2;
    comm.answer = no_answer;
    comm.all_live = all_live;
    if (dt_signal_install() != DT_OK) _exit(99);
    dt_watchdog *w = start(100);
    if (beat) dt_watchdog_beat(w, 20, "all-reduce");
    sleep_s(1);
    raise(SIGTERM);
    sleep_s(seconds - 1);
    dt_watchdog_stop(w);
}

static void body_lost(void) {
    stand_still(lost, true, 20);
}

static void body_slow(void) {
    stand_still(only_slow, true, 7.5);
    _exit(10 + n_asked);
}

static void body_starting(void) {
    stand_still(only_slow, false, 7.5);
    _exit(10 + n_asked);
}

static void body_not_asked(void) {
    comm.world = 2;
    comm.answer = no_answer;
    comm.all_live = lost;
    dt_watchdog *w = start(100);
    dt_watchdog_beat(w, 20, "all-reduce");
    sleep_s(7.5);
    dt_watchdog_stop(w);
}

static void test_stop_without_peers(void **state) {
    (void)state;
    char output[1024];
    assert_int_equal(run_child(body_lost, output, sizeof output), 6);
    assert_true(dt_time_s() - begun_s < 10);
    assert_string_equal(
        output, "dtrain: rank 0 (node3): asked to stop, but step 20 (all-reduce) has not ended for 5 s: "
                "no answer from rank 1 (node4); ending the job\n");
    assert_int_equal(run_child(body_slow, output, sizeof output), 11);
    assert_int_equal(run_child(body_starting, output, sizeof output), 10);
    assert_int_equal(run_child(body_not_asked, output, sizeof output), 0);
}

static dt_status poll_fails(void *arg) {
    return dt_fail(DT_ERR_DEVICE, "%s", (const char *)arg);
}

static void body_poll(void) {
    dt_watchdog *w = start(100);
    dt_watchdog_set_poll(w, poll_fails, "NCCL lost a peer");
    for (int i = 0; i < 50; i++) {
        dt_watchdog_beat(w, i, "forward");
        sleep_s(0.1);
    }
}

static void test_poll(void **state) {
    (void)state;
    char output[1024];
    assert_int_equal(run_child(body_poll, output, sizeof output), 6);
    assert_string_equal(output, "dtrain: rank 0 (node3): NCCL lost a peer; ending the job\n");
}

static void test_bad_timeout(void **state) {
    (void)state;
    dt_watchdog *w;
    assert_int_equal(dt_watchdog_start(&comm, 0, &w), DT_ERR_CONFIG);
    assert_null(w);
}

/* ---- signals ---- */

static void body_signals(void) {
    if (dt_signal_install() != DT_OK || dt_signal_pending()) _exit(1);
    raise(SIGPIPE);
    raise(SIGXFSZ);
    if (dt_signal_pending()) _exit(2);
    static const int harmless[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGXCPU};
    for (int i = 0; i < 20; i++) raise(harmless[i % 4]);
    if (!dt_signal_pending()) _exit(3);
    raise(SIGTERM);
    raise(SIGINT);
    raise(SIGINT);
    if (dt_signal_install() != DT_OK) _exit(4); /* it does not begin anew */
    raise(SIGINT);                              /* the third Ctrl-C kills */
    _exit(5);
}

static void body_terminations(void) {
    if (dt_signal_install() != DT_OK) _exit(1);
    for (int i = 0; i < 9; i++) raise(SIGTERM); /* one, and its echoes */
    sleep_s(0.3);
    raise(SIGTERM);
    sleep_s(0.3);
    raise(SIGTERM);
    _exit(4);
}

static void body_one_stop(int number) {
    signal(number, SIG_DFL); /* these tests may run under nohup */
    if (dt_signal_install() != DT_OK || dt_signal_pending()) _exit(1);
    raise(number);
    _exit(dt_signal_pending() ? 0 : 2);
}
static void body_hangup(void) {
    body_one_stop(SIGHUP);
}
static void body_cpu_limit(void) {
    body_one_stop(SIGXCPU);
}
static void body_user_2(void) {
    body_one_stop(SIGUSR2);
}

/* As under nohup. A launcher that ignores SIGUSR1 for its ranks while they start does not mean it. */
static void body_nohup(void) {
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        if (dt_signal_install() != DT_OK) _exit(1);
        raise(SIGHUP);
        if (dt_signal_pending()) _exit(2);
    }
    raise(SIGUSR1);
    _exit(dt_signal_pending() ? 0 : 3);
}

static void test_signals(void **state) {
    (void)state;
    char output[1024];
    assert_int_equal(run_child(body_signals, output, sizeof output), -SIGINT);
    assert_int_equal(run_child(body_terminations, output, sizeof output), -SIGTERM);
    assert_int_equal(run_child(body_hangup, output, sizeof output), 0);
    assert_int_equal(run_child(body_cpu_limit, output, sizeof output), 0);
    assert_int_equal(run_child(body_user_2, output, sizeof output), 0);
    assert_int_equal(run_child(body_nohup, output, sizeof output), 0);
}

static int begin_early(void **state) {
    (void)state;
    static void (*const body[])(void) = {body_silent,      body_beating, body_stopped, body_peer_ended,
                                         body_told_to_end, body_lost,    body_slow,    body_starting,
                                         body_not_asked,   body_poll};
    begun_s = dt_time_s();
    for (; n_early < (int)(sizeof body / sizeof body[0]); n_early++)
        early[n_early] = begin_child(body[n_early]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent),      cmocka_unit_test(test_beating_and_paused),
        cmocka_unit_test(test_stopped),     cmocka_unit_test(test_poll),
        cmocka_unit_test(test_bad_timeout), cmocka_unit_test(test_signals),
        cmocka_unit_test(test_peer_ended),  cmocka_unit_test(test_stop_without_peers),
    };
    return cmocka_run_group_tests_name("watchdog", tests, begin_early, NULL);
}
