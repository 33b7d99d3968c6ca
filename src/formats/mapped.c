#include "formats/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 16384 };

/* What a handler of signals may look at: a place is taken while `begin` is not 0, and `end` is set before. */
typedef struct place {
    _Atomic uintptr_t begin, end;
    atomic_bool lost; /* some of it could not be read */
    int fd;           /* -1: none is left for it */
    char *path;
} place;

static place table[FILES_MAX];
static atomic_int n_used; /* places beyond were never taken */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before; /* who handled the signal */

static place *place_of(uintptr_t at) {
    const int n = atomic_load(&n_used);
    for (int i = 0; i < n; i++) {
        const uintptr_t begin = atomic_load(&table[i].begin);
        if (begin && at >= begin && at < atomic_load(&table[i].end)) return &table[i];
    }
    return NULL;
}

/* What cannot be read of a file of ours becomes zeros; another's signal is passed on. */
static void on_lost(int number, siginfo_t *info, void *context) {
    const int error = errno;
    const uintptr_t at = (uintptr_t)info->si_addr;
    place *p = place_of(at);
    if (p) {
        const uintptr_t page = at & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
        void *zeros = mmap((void *)page, atomic_load(&p->end) - page, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        errno = error;
        if (zeros != MAP_FAILED) {
            atomic_store(&p->lost, true);
            return;
        }
    }
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        sigaction(SIGBUS, &before, NULL); /* it comes again */
}

/* Another part of the program may have set its own meanwhile, which comes next then. */
static void handle(void) {
    struct sigaction now, ours = {.sa_sigaction = on_lost, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, NULL, &now) != 0 || ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_lost))
        return;
    before = now;
    sigaction(SIGBUS, &ours, NULL);
}

static dt_status note(const dt_mapped_file *f, int fd, const char *path) {
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < FILES_MAX && table[i].begin) i++;
    char *own = i < FILES_MAX ? strdup(path) : NULL;
    if (own) {
        place *p = &table[i];
        p->path = own;
        p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        atomic_store(&p->lost, false);
        atomic_store(&p->end, (uintptr_t)f->byte + (uintptr_t)f->n_bytes);
        atomic_store(&p->begin, (uintptr_t)f->byte);
        if (i >= n_used) atomic_store(&n_used, i + 1);
        handle();
    }
    pthread_mutex_unlock(&lock);
    return own ? DT_OK
               : dt_fail(DT_ERR_MEMORY, i < FILES_MAX ? "no memory to map it" : "more than %d files are open",
                         FILES_MAX);
}

dt_status dt_file_map_open(int fd, const char *path, dt_mapped_file *out) {
    struct stat st;
    *out = (dt_mapped_file){.byte = NULL};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
        return dt_fail(DT_ERR_DATA, "no regular file with anything in it");
    void *byte = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (byte == MAP_FAILED) return dt_fail(DT_ERR_IO, "cannot be mapped: %s", strerror(errno));
    const dt_mapped_file f = {byte, (int64_t)st.st_size};
    const dt_status status = note(&f, fd, path);
    if (status == DT_OK)
        *out = f;
    else
        munmap(byte, (size_t)st.st_size);
    return status;
}

dt_status dt_file_map(const char *path, dt_mapped_file *out) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return dt_fail(DT_ERR_DATA, "%s", strerror(errno));
    const dt_status status = dt_file_map_open(fd, path, out);
    close(fd);
    return status;
}

void dt_file_unmap(const dt_mapped_file *f) {
    if (!f->byte) return;
    pthread_mutex_lock(&lock);
    place *p = place_of((uintptr_t)f->byte);
    if (p) {
        atomic_store(&p->begin, 0);
        if (p->fd >= 0) close(p->fd);
        free(p->path);
    }
    pthread_mutex_unlock(&lock);
    munmap((void *)(uintptr_t)f->byte, (size_t)f->n_bytes);
}

/* With the lock. */
static dt_status check(const place *p) {
    struct stat st;
    const long long was = (long long)(p->end - p->begin);
    const bool told = p->fd >= 0 && fstat(p->fd, &st) == 0;
    if (told && st.st_size < was)
        return dt_fail(DT_ERR_DATA, "%s: it became shorter while it was read: %lld bytes of %lld", p->path,
                       (long long)st.st_size, was);
    return p->lost ? dt_fail(DT_ERR_DATA, "%s: a part of it could not be read", p->path) : DT_OK;
}

dt_status dt_file_check(const dt_mapped_file *f) {
    pthread_mutex_lock(&lock);
    const place *p = f->byte ? place_of((uintptr_t)f->byte) : NULL;
    const dt_status status = p ? check(p) : DT_OK;
    pthread_mutex_unlock(&lock);
    return status;
}

dt_status dt_files_check(void) {
    dt_status status = DT_OK;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < n_used && status == DT_OK; i++)
        if (table[i].begin) status = check(&table[i]);
    pthread_mutex_unlock(&lock);
    return status;
}
