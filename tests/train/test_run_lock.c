/* The run lock: one holder, named to the second; gone with its process. */
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

#include "train/checkpoint.h"

/* A child that takes the lock, says so, and holds it until killed. */
static pid_t hold_lock(const char *dir) {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd;
        if (dt_run_lock(dir, &fd) != DT_OK || write(ready[1], "x", 1) != 1) _exit(1);
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
    assert_int_equal(dt_run_lock(dir, &fd), DT_ERR_USAGE);
    assert_int_equal(fd, -1);
    snprintf(owner, sizeof owner, "process %ld", (long)child);
    assert_non_null(strstr(dt_error_text(), owner));
    assert_non_null(strstr(dt_error_text(), dir));

    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(dt_run_lock(dir, &fd), DT_OK); /* the left-over file means nothing */
    dt_run_unlock(fd);
    assert_int_equal(dt_run_lock(dir, &fd), DT_OK);
    dt_run_unlock(fd);
    snprintf(path, sizeof path, "%s/.lock", dir);
    unlink(path);
    rmdir(dir);
}

static void test_no_directory(void **state) {
    (void)state;
    int fd;
    assert_int_equal(dt_run_lock("/nonexistent/run", &fd), DT_ERR_IO);
    assert_non_null(strstr(dt_error_text(), "/nonexistent/run"));
    dt_run_unlock(-1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_lockers),
                                       cmocka_unit_test(test_no_directory)};
    return cmocka_run_group_tests_name("run lock", tests, NULL, NULL);
}
