/* One job per run directory: flock on DIR/.lock. The lock dies with its process, so a left-over file means
 * nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "train/checkpoint.h"

enum { LOCK_PATH_MAX = 1024, OWNER_MAX = 160 };

/* "host pid 1234", as the holder wrote it; without control characters. */
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
    gethostname(host, sizeof host - 1);
    int n = snprintf(owner, sizeof owner, "%s, process %ld\n", host, (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, owner, (size_t)n, 0) == n) return DT_OK;
    return dt_fail(DT_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}

dt_status dt_run_lock(const char *out_dir, int *fd) {
    *fd = -1;
    char path[LOCK_PATH_MAX], owner[OWNER_MAX];
    int n = snprintf(path, sizeof path, "%s/.lock", out_dir);
    if (n < 0 || n >= LOCK_PATH_MAX) return dt_fail(DT_ERR_IO, "%s: path too long", out_dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (lock < 0) return dt_fail(DT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    dt_status status;
    if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
        DT_TRY_GOTO(status, write_owner(lock, path), fail);
        *fd = lock;
        return DT_OK;
    }
    if (errno == EWOULDBLOCK) {
        read_owner(lock, owner);
        status =
            dt_fail(DT_ERR_USAGE,
                    "%s is in use by another job (%s): wait for it, end it, or choose another run.out_dir",
                    out_dir, owner);
    } else {
        status = dt_fail(DT_ERR_IO, "%s: cannot lock: %s (the file system must support flock)", path,
                         strerror(errno));
    }
fail:
    close(lock);
    return status;
}

void dt_run_unlock(int fd) {
    if (fd >= 0) close(fd);
}
