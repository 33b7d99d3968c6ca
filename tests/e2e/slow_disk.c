/* A slow disk, for LD_PRELOAD: fsync, and opening a checkpoint's state for reading, take DT_SLOW_MS. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void be_slow(void) {
    const char *text = getenv("DT_SLOW_MS");
    const long ms = text ? atol(text) : 0;
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

int fsync(int fd) {
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    be_slow();
    return real(fd);
}

int open(const char *path, int flags, ...) {
    int (*real)(const char *, int, ...);
    va_list list;
    va_start(list, flags);
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    *(void **)&real = dlsym(RTLD_NEXT, "open");
    if ((flags & O_ACCMODE) == O_RDONLY && strstr(path, "/state.h5")) be_slow();
    return real(path, flags, mode);
}
