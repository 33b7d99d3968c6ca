/* An odd disk, for LD_PRELOAD: fsync takes DT_SLOW_MS, opening a checkpoint's state for reading
 * DT_SLOW_OPEN_MS; of directories the first DT_DIR_SYNC_FAILS fsyncs fail with DT_DIR_SYNC_ERRNO; while there
 * is a file DT_STALL, reads of rank 1 stand still. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void be_slow(const char *variable) {
    const char *text = getenv(variable);
    const long ms = text ? atol(text) : 0;
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

int fsync(int fd) {
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    be_slow("DT_SLOW_MS");
    const char *fails = getenv("DT_DIR_SYNC_FAILS"), *number = getenv("DT_DIR_SYNC_ERRNO");
    static int failed;
    struct stat st;
    if (fails && number && failed < atoi(fails) && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        failed++;
        errno = atoi(number);
        return -1;
    }
    return real(fd);
}

ssize_t pread(int fd, void *to, size_t n, off_t at) {
    ssize_t (*real)(int, void *, size_t, off_t);
    *(void **)&real = dlsym(RTLD_NEXT, "pread");
    const char *stall = getenv("DT_STALL"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    const struct timespec look = {.tv_nsec = 50 * 1000000};
    while (stall && rank && strcmp(rank, "1") == 0 && access(stall, F_OK) == 0) nanosleep(&look, NULL);
    return real(fd, to, n, at);
}

int open(const char *path, int flags, ...) {
    int (*real)(const char *, int, ...);
    va_list list;
    va_start(list, flags);
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    *(void **)&real = dlsym(RTLD_NEXT, "open");
    if ((flags & O_ACCMODE) == O_RDONLY && strstr(path, "/state.h5")) be_slow("DT_SLOW_OPEN_MS");
    return real(path, flags, mode);
}
