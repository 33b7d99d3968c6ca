/* The directory of checkpoints: names, scanning, publishing by rename, retention, sweeping.
 *
 * Nothing is ever removed under its published name: a checkpoint is renamed to .tmp-* first, so a killed
 * removal leaves junk and no half checkpoint. */
#include "checkpoint_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/dir.h"
#include "core/text.h"

static const char tmp_prefix[] = ".tmp-";
static const char step_prefix[] = "step-";
enum { CREATE_TRIES = 16 };

void dt_ckpt_step_name(char name[DT_CKPT_NAME_MAX], int64_t step) {
    snprintf(name, DT_CKPT_NAME_MAX, "%s%08" PRId64, step_prefix, step);
}

/* The step of a name that dt_ckpt_step_name gives; -1 for any other. */
static int64_t step_of_name(const char *name) {
    size_t prefix = sizeof step_prefix - 1;
    if (strncmp(name, step_prefix, prefix) != 0 ||
        strspn(name + prefix, "0123456789") != strlen(name + prefix))
        return -1;
    errno = 0;
    long long step = strtoll(name + prefix, NULL, 10);
    char again[DT_CKPT_NAME_MAX];
    dt_ckpt_step_name(again, step);
    return errno == 0 && strcmp(again, name) == 0 ? step : -1;
}

static int descending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

dt_status dt_ckpt_list(const char *dir, int64_t **step, int32_t *n_step) {
    *step = NULL;
    *n_step = 0;
    DIR *d = opendir(dir);
    if (d == NULL && errno == ENOENT) return DT_OK;
    if (d == NULL) return dt_fail(DT_ERR_CHECKPOINT, "%s: cannot list: %s", dir, strerror(errno));
    dt_status status = DT_OK;
    size_t n = 0, room = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (e == NULL) break;
        int64_t s = step_of_name(e->d_name);
        if (s < 0) continue;
        if (n == room) {
            room = room ? 2 * room : 16;
            int64_t *more = room <= INT32_MAX ? realloc(*step, room * sizeof **step) : NULL;
            if (more == NULL) {
                status = dt_fail(DT_ERR_MEMORY, "%s: no memory to list it", dir);
                goto done;
            }
            *step = more;
        }
        (*step)[n++] = s;
    }
    if (errno != 0) status = dt_fail(DT_ERR_CHECKPOINT, "%s: cannot list: %s", dir, strerror(errno));
    if (n > 0) qsort(*step, n, sizeof **step, descending);
    *n_step = (int32_t)n;
done:
    closedir(d);
    if (status != DT_OK) {
        free(*step);
        *step = NULL;
        *n_step = 0;
    }
    return status;
}

/* ---- temporary directories ---- */

static void tmp_name(char name[DT_CKPT_NAME_MAX], int64_t step, int attempt) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint32_t nonce = (uint32_t)t.tv_nsec ^ (uint32_t)t.tv_sec << 12 ^ (uint32_t)attempt << 28;
    snprintf(name, DT_CKPT_NAME_MAX, "%s%08" PRId64 "-%ld-%08" PRIx32, tmp_prefix, step, (long)getpid(),
             nonce);
}

dt_status dt_ckpt_tmp_create(const char *dir, int64_t step, char name[DT_CKPT_NAME_MAX], int *lock_fd) {
    char path[DT_CKPT_PATH_MAX];
    int made = -1;
    for (int i = 0; i < CREATE_TRIES && made != 0; i++) {
        tmp_name(name, step, i);
        DT_TRY(dt_ckpt_path(path, dir, name));
        made = mkdir(path, 0777);
        if (made != 0 && errno != EEXIST) break;
    }
    if (made != 0) return dt_fail(DT_ERR_IO, "%s: cannot create: %s", path, dt_create_error(path, errno).s);
    *lock_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Where directories cannot be locked, only the run's own lock keeps a sweep away. */
    if (*lock_fd >= 0) flock(*lock_fd, LOCK_EX | LOCK_NB);
    return DT_OK;
}

/* Removes the files in an open directory. */
static void remove_files(int fd) {
    int copy = dup(fd);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (d == NULL) {
        if (copy >= 0) close(copy);
        return;
    }
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(fd, e->d_name, 0);
    closedir(d);
}

void dt_ckpt_tmp_remove(const char *dir, const char *name) {
    int parent = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        remove_files(fd);
        close(fd);
        unlinkat(parent, name, AT_REMOVEDIR);
    } else {
        unlinkat(parent, name, 0);
    }
    close(parent);
}

/* Its writer holds a lock on it for as long as it lives. */
static bool writer_lives(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return false;
    bool lives = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return lives;
}

dt_status dt_ckpt_sweep(const char *dir) {
    DIR *d = opendir(dir);
    if (d == NULL) return dt_fail(DT_ERR_IO, "%s: cannot list: %s", dir, strerror(errno));
    dt_status status = DT_OK;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char path[DT_CKPT_PATH_MAX];
        if (strncmp(e->d_name, tmp_prefix, sizeof tmp_prefix - 1) != 0) continue;
        DT_TRY_GOTO(status, dt_ckpt_path(path, dir, e->d_name), done);
        if (!writer_lives(path)) dt_ckpt_tmp_remove(dir, e->d_name);
    }
done:
    closedir(d);
    return status;
}

/* ---- publishing and retention ---- */

/* Renames the checkpoint of this step out of the way and removes it. */
static dt_status remove_step(const char *dir, int64_t step) {
    char name[DT_CKPT_NAME_MAX], doomed[DT_CKPT_NAME_MAX], from[DT_CKPT_PATH_MAX], to[DT_CKPT_PATH_MAX];
    dt_ckpt_step_name(name, step);
    tmp_name(doomed, step, 0);
    DT_TRY(dt_ckpt_path(from, dir, name));
    DT_TRY(dt_ckpt_path(to, dir, doomed));
    if (rename(from, to) != 0) {
        if (errno == ENOENT) return DT_OK; /* somebody was faster */
        return dt_fail(DT_ERR_IO, "%s: cannot remove: %s", from, strerror(errno));
    }
    dt_ckpt_tmp_remove(dir, doomed);
    return DT_OK;
}

/* Whether there is nothing in the directory that a checkpoint does not have: what is not ours stays. */
static bool is_ours(const char *path) {
    static const char *const file[] = {DT_CKPT_STATE_FILE, DT_CKPT_CONFIG_FILE, DT_CKPT_MANIFEST_FILE,
                                       DT_CKPT_EVAL_FILE};
    DIR *d = opendir(path);
    bool ours = d != NULL;
    for (struct dirent *e = d ? readdir(d) : NULL; ours && e != NULL; e = readdir(d)) {
        ours =
            strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strncmp(e->d_name, ".nfs", 4) == 0;
        for (size_t i = 0; i < sizeof file / sizeof file[0]; i++)
            ours = ours || strcmp(e->d_name, file[i]) == 0;
    }
    if (d != NULL) closedir(d);
    return ours;
}

dt_status dt_ckpt_publish(const char *dir, const char *tmp, int64_t step) {
    char name[DT_CKPT_NAME_MAX], from[DT_CKPT_PATH_MAX], to[DT_CKPT_PATH_MAX];
    dt_ckpt_step_name(name, step);
    DT_TRY(dt_ckpt_path(from, dir, tmp));
    DT_TRY(dt_ckpt_path(to, dir, name));
    if (rename(from, to) != 0) {
        if (errno != EEXIST && errno != ENOTEMPTY)
            return dt_fail(DT_ERR_IO, "%s: cannot rename it to %s: %s", from, name, strerror(errno));
        if (!is_ours(to))
            return dt_fail(DT_ERR_IO,
                           "%s: there is something of this name that is no checkpoint: move it away", to);
        /* The step was saved before, on another course of the run or damaged since. */
        if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0) {
            DT_TRY(dt_dir_sync(dir)); /* before the old one loses its files */
            dt_ckpt_tmp_remove(dir, tmp);
        } else {
            DT_TRY(remove_step(dir, step));
            if (rename(from, to) != 0)
                return dt_fail(DT_ERR_IO, "%s: cannot rename it to %s: %s", from, name, strerror(errno));
        }
    }
    return dt_dir_sync(dir);
}

/* A look that does not read the state: manifest whole, state of the right length. */
bool dt_ckpt_looks_good(const char *dir, int64_t step) {
    char name[DT_CKPT_NAME_MAX], checkpoint[DT_CKPT_PATH_MAX], path[DT_CKPT_PATH_MAX];
    struct stat st;
    char *text = NULL;
    size_t bytes = 0;
    dt_ckpt_manifest m = {0};
    dt_ckpt_step_name(name, step);
    bool good = dt_ckpt_path(checkpoint, dir, name) == DT_OK &&
                dt_ckpt_path(path, checkpoint, DT_CKPT_MANIFEST_FILE) == DT_OK &&
                dt_ckpt_file_read(path, DT_CKPT_MANIFEST_BYTES_MAX, &text, &bytes) == DT_OK &&
                dt_ckpt_manifest_parse(text, bytes, &m) == DT_OK && m.meta.step == step &&
                dt_ckpt_path(path, checkpoint, DT_CKPT_STATE_FILE) == DT_OK && lstat(path, &st) == 0 &&
                S_ISREG(st.st_mode) && st.st_size == m.state_bytes;
    dt_ckpt_manifest_clear(&m);
    free(text);
    return good;
}

dt_status dt_ckpt_newest_step(const char *dir, int64_t *newest) {
    int64_t *step;
    int32_t n_step, i = 0;
    DT_TRY(dt_ckpt_list(dir, &step, &n_step));
    while (i < n_step && !dt_ckpt_looks_good(dir, step[i])) i++;
    *newest = i < n_step ? step[i] : -1;
    free(step);
    if (i < n_step || n_step == 0) return DT_OK;
    return dt_fail(DT_ERR_CHECKPOINT, "%s: %s, of which none is whole", dir,
                   dt_count_text(n_step, "checkpoint").s);
}

/* ---- the best, and retention ---- */

/* Symbolic links are a convenience: a file system that has none keeps checkpoints all the same. */
static bool has_no_links(int error) {
    return error == EPERM || error == ENOSYS || error == EOPNOTSUPP;
}

static dt_status make_link(const char *dir, const char *path, int64_t step) {
    char name[DT_CKPT_NAME_MAX], temporary[DT_CKPT_NAME_MAX], link[DT_CKPT_PATH_MAX], now[DT_CKPT_NAME_MAX];
    dt_ckpt_step_name(name, step);
    const ssize_t n = readlink(path, now, sizeof now);
    if (n == (ssize_t)strlen(name) && memcmp(now, name, (size_t)n) == 0) return DT_OK;
    tmp_name(temporary, step, 0);
    DT_TRY(dt_ckpt_path(link, dir, temporary));
    if (symlink(name, link) != 0)
        return has_no_links(errno)
                   ? DT_OK
                   : dt_fail(DT_ERR_IO, "%s: cannot create: %s", link, dt_create_error(link, errno).s);
    if (rename(link, path) == 0) return DT_OK;
    dt_status status = dt_fail(DT_ERR_IO, "%s: cannot replace: %s", path, strerror(errno));
    (void)unlink(link);
    return status;
}

dt_status dt_ckpt_link_best(const dt_ckpt_policy *policy, int64_t newest) {
    char path[DT_CKPT_PATH_MAX];
    struct stat st;
    int64_t *step = NULL;
    int32_t n = 0;
    DT_TRY(dt_ckpt_path(path, policy->dir, DT_CKPT_BEST_LINK));
    if (policy->keep_best > 0) DT_TRY(dt_ckpt_rank(policy->dir, policy->best_metric, newest, &step, &n));
    dt_status status = DT_OK;
    if (n > 0)
        status = make_link(policy->dir, path, step[0]);
    else if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && unlink(path) != 0)
        status = dt_fail(DT_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
    free(step);
    return status;
}

static bool contains(const int64_t *step, int32_t n, int64_t wanted) {
    for (int32_t i = 0; i < n; i++)
        if (step[i] == wanted) return true;
    return false;
}

/* The newest of ranked steps, that is the newest with a finite evaluation; -1: none. */
static int64_t newest_of(const int64_t *step, int32_t n) {
    int64_t newest = -1;
    for (int32_t i = 0; i < n; i++) newest = dt_max_i64(newest, step[i]);
    return newest;
}

dt_status dt_ckpt_retain(const dt_ckpt_policy *policy, int64_t newest) {
    int64_t *step, *best;
    int32_t n_step, n_best;
    DT_TRY(dt_ckpt_rank(policy->dir, policy->best_metric, newest, &best, &n_best));
    dt_status status = dt_ckpt_list(policy->dir, &step, &n_step);
    if (status != DT_OK) {
        free(best);
        return status;
    }
    /* Newer ones may all be of a run that was lost since. */
    const int64_t last_finite = newest_of(best, n_best);
    const int32_t n_kept_best = (int32_t)dt_min_i64(n_best, policy->keep_best);
    int64_t n_good = 0;
    for (int32_t i = 0; i < n_step; i++) {
        if (step[i] > newest) continue;
        if (n_good < policy->keep_last) {
            n_good += step[i] == newest || dt_ckpt_looks_good(policy->dir, step[i]);
            continue;
        }
        if (policy->keep_every > 0 && step[i] % policy->keep_every == 0) continue;
        if (step[i] == last_finite || contains(best, n_kept_best, step[i])) continue;
        const dt_status st = remove_step(policy->dir, step[i]);
        if (st != DT_OK) status = st; /* the others all the same */
    }
    free(step);
    free(best);
    return status;
}
