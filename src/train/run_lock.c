/* One job per run directory: flock on DIR/.lock. The lock dies with its process, so a left-over file means
 * nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "dist/signals.h"
#include "job.h"
#include "train/checkpoint.h"

enum { LOCK_PATH_MAX = 1024, OWNER_MAX = 160 };

/* "host, process 1234, job 5", as the holder wrote it; without control characters. */
static void read_owner(int fd, char owner[OWNER_MAX]) {
    ssize_t n = pread(fd, owner, OWNER_MAX - 1, 0);
    owner[n > 0 ? n : 0] = '\0';
    owner[strcspn(owner, "\n")] = '\0';
    for (char *p = owner; *p; p++)
        if ((unsigned char)*p < ' ') *p = '?';
    if (owner[0] == '\0') snprintf(owner, OWNER_MAX, "unknown");
}

static dt_status write_owner(int fd, const char *path) {
    char host[64] = "", owner[OWNER_MAX];
    const dt_job job = dt_job_here();
    gethostname(host, sizeof host - 1);
    int n = snprintf(owner, sizeof owner, "%s, process %ld%s%s\n", host, (long)getpid(),
                     job.id[0] ? ", job " : "", job.id);
    if (ftruncate(fd, 0) == 0 && pwrite(fd, owner, (size_t)n, 0) == n) return DT_OK;
    return dt_fail(DT_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}

/* Tries until the lock is free, wait_s have passed (errno EWOULDBLOCK) or a signal asks to stop (EINTR). */
static bool try_for(int fd, double wait_s) {
    const struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
    const double until_s = dt_time_s() + wait_s;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || dt_time_s() >= until_s) return false;
        if (dt_signal_pending()) {
            errno = EINTR;
            return false;
        }
        nanosleep(&pause, NULL);
    }
    return true;
}

static bool wait_for_owner(const char *out_dir, int fd, double wait_s, void (*note)(void *, const char *),
                           void *arg) {
    char owner[OWNER_MAX], text[LOCK_PATH_MAX + OWNER_MAX + 128];
    read_owner(fd, owner);
    snprintf(text, sizeof text,
             "%s is still in use (%s), perhaps by an earlier start of this job: waiting up to %.0f s for its "
             "end",
             out_dir, owner, wait_s);
    if (note) note(arg, text);
    return try_for(fd, wait_s);
}

dt_status dt_run_lock(const char *out_dir, double wait_s, void (*note)(void *arg, const char *text),
                      void *arg, int *fd) {
    *fd = -1;
    char path[LOCK_PATH_MAX], owner[OWNER_MAX];
    int n = snprintf(path, sizeof path, "%s/.lock", out_dir);
    if (n < 0 || n >= LOCK_PATH_MAX) return dt_fail(DT_ERR_IO, "%s: path too long", out_dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (lock < 0) return dt_fail(DT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    dt_status status;
    bool ours = try_for(lock, 0);
    if (!ours && errno == EWOULDBLOCK && wait_s > 0) ours = wait_for_owner(out_dir, lock, wait_s, note, arg);
    if (ours) {
        DT_TRY_GOTO(status, write_owner(lock, path), fail);
        *fd = lock;
        return DT_OK;
    }
    const int error = errno;
    read_owner(lock, owner);
    if (error == EINTR)
        status = dt_fail(DT_STOPPED, "stopped while waiting for %s (%s)", out_dir, owner);
    else if (error != EWOULDBLOCK)
        status = dt_fail(DT_ERR_IO, "%s: cannot lock: %s (the file system must support flock)", path,
                         strerror(error));
    else if (wait_s > 0)
        status = dt_fail(DT_ERR_PEER, "%s was in use by another job (%s) for %.0f s: end that process first",
                         out_dir, owner, wait_s);
    else
        status =
            dt_fail(DT_ERR_USAGE,
                    "%s is in use by another job (%s): wait for it, end it, or choose another run.out_dir",
                    out_dir, owner);
fail:
    close(lock);
    return status;
}

void dt_run_unlock(int fd) {
    if (fd >= 0) close(fd);
}
