/* The run lock: one holder, named to the second; gone with its process. And the job that it names. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dist/signals.h"
#include "job.h"
#include "train/checkpoint.h"

/* A child that takes the lock, says so, and holds it until killed. */
static pid_t hold_lock(const char *dir) {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd;
        if (dt_run_lock(dir, 0, NULL, NULL, &fd) != DT_OK || write(ready[1], "x", 1) != 1) _exit(1);
        pause();
        _exit(0);
    }
    char byte;
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static void test_two_lockers(void **state) {
    (void)state;
    char dir[] = "/tmp/dtrain-lock-XXXXXX", path[64], owner[64];
    int fd;
    assert_non_null(mkdtemp(dir));
    pid_t child = hold_lock(dir);
    assert_int_equal(dt_run_lock(dir, 0, NULL, NULL, &fd), DT_ERR_USAGE);
    assert_int_equal(fd, -1);
    snprintf(owner, sizeof owner, "process %ld", (long)child);
    assert_non_null(strstr(dt_error_text(), owner));
    assert_non_null(strstr(dt_error_text(), dir));

    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(dt_run_lock(dir, 0, NULL, NULL, &fd), DT_OK); /* the left-over file means nothing */
    dt_run_unlock(fd);
    assert_int_equal(dt_run_lock(dir, 0, NULL, NULL, &fd), DT_OK);
    dt_run_unlock(fd);
    snprintf(path, sizeof path, "%s/.lock", dir);
    unlink(path);
    rmdir(dir);
}

static int n_note;
static void count_note(void *arg, const char *text) {
    assert_non_null(strstr(text, arg));
    n_note++;
}

/* A second user that waits: until the holder has gone, in vain, or until a signal asks it to stop. */
static void test_waits(void **state) {
    (void)state;
    char dir[] = "/tmp/dtrain-lock-XXXXXX", path[64], owner[64];
    int fd, killer;
    assert_non_null(mkdtemp(dir));
    setenv("SLURM_JOB_ID", "17", 1);
    pid_t child = hold_lock(dir);
    unsetenv("SLURM_JOB_ID");
    snprintf(owner, sizeof owner, "process %ld, job 17)", (long)child);

    const double start_s = dt_time_s();
    n_note = 0;
    assert_int_equal(dt_run_lock(dir, 0.5, count_note, owner, &fd), DT_ERR_PEER);
    assert_true(dt_time_s() - start_s >= 0.5);
    assert_int_equal(n_note, 1);
    assert_non_null(strstr(dt_error_text(), owner));

    if ((killer = fork()) == 0) {
        usleep(400 * 1000);
        kill(child, SIGKILL);
        _exit(0);
    }
    assert_int_equal(dt_run_lock(dir, 60, NULL, NULL, &fd), DT_OK);
    assert_int_equal(waitpid(killer, NULL, 0), killer);
    assert_int_equal(waitpid(child, NULL, 0), child);
    dt_run_unlock(fd);

    child = hold_lock(dir);
    assert_int_equal(dt_signal_install(), DT_OK);
    raise(SIGTERM);
    assert_int_equal(dt_run_lock(dir, 60, NULL, NULL, &fd), DT_STOPPED);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    snprintf(path, sizeof path, "%s/.lock", dir);
    unlink(path);
    rmdir(dir);
}

/* The job as scontrol names it; what is no number is no job. */
static void test_job(void **state) {
    (void)state;
    static const struct {
        const char *id, *array, *task, *restarts, *want;
        int64_t restart;
    } rows[] = {{NULL, NULL, NULL, NULL, "", 0},
                {"12", NULL, NULL, NULL, "12", 0},
                {"12", NULL, NULL, "3", "12", 3},
                {"12", "10", "4", "1", "10_4", 1},
                {"12", "10", NULL, "-1", "12", 0},
                {"12\n", "10", "4", "1", "", 0},
                {"", "10", "4", "1", "", 0},
                {"12", "x", "4", "1e3", "12", 0},
                {"99999999999999999999", "", "", "", "", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *name[] = {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
                              "SLURM_RESTART_COUNT"};
        const char *value[] = {rows[i].id, rows[i].array, rows[i].task, rows[i].restarts};
        for (int k = 0; k < 4; k++) value[k] ? setenv(name[k], value[k], 1) : unsetenv(name[k]);
        const dt_job job = dt_job_here();
        assert_string_equal(job.id, rows[i].want);
        assert_int_equal(job.restart, rows[i].restart);
        for (int k = 0; k < 4; k++) unsetenv(name[k]);
    }
}

static void test_no_directory(void **state) {
    (void)state;
    int fd;
    assert_int_equal(dt_run_lock("/nonexistent/run", 0, NULL, NULL, &fd), DT_ERR_IO);
    assert_non_null(strstr(dt_error_text(), "/nonexistent/run"));
    dt_run_unlock(-1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_lockers), cmocka_unit_test(test_job),
                                       cmocka_unit_test(test_no_directory), cmocka_unit_test(test_waits)};
    return cmocka_run_group_tests_name("run lock", tests, NULL, NULL);
}
