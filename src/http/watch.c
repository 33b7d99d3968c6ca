#include "watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct place {
    void *what; /* NULL: free */
    uint32_t turn, next;
} place;

struct dt_http_watch {
    pthread_mutex_t lock;
    dt_http_watch_calls calls;
    place *place; /* [1...] */
    uint32_t n, free;
    int epoll, stop;
    pthread_t thread;
};

/* Under the lock. */
static place *place_of(const dt_http_watch *w, uint64_t at) {
    const uint64_t slot = at >> 32;
    if (slot == 0 || slot > w->n) return NULL;
    place *p = &w->place[slot];
    return p->turn == (uint32_t)at && p->what ? p : NULL;
}

static void *run(void *arg) {
    dt_http_watch *w = arg;
    for (;;) {
        struct epoll_event e;
        const int n = epoll_wait(w->epoll, &e, 1, -1);
        if (n < 0 && errno != EINTR) return NULL;
        if (n < 1) continue;
        if (e.data.u64 == 0) return NULL;
        pthread_mutex_lock(&w->lock);
        const place *p = place_of(w, e.data.u64);
        void *what = p ? p->what : NULL;
        if (what) w->calls.hold(what);
        pthread_mutex_unlock(&w->lock);
        if (what) w->calls.gone(what);
    }
}

dt_status dt_http_watch_create(int32_t places, dt_http_watch_calls calls, dt_http_watch **out) {
    dt_http_watch *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return dt_fail(DT_ERR_MEMORY, "no memory for the server");
    w->n = (uint32_t)places;
    w->place = calloc((size_t)places + 1, sizeof *w->place);
    w->calls = calls;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->stop = eventfd(0, EFD_CLOEXEC);
    for (uint32_t i = 1; w->place && i <= w->n; i++) w->place[i].next = i < w->n ? i + 1 : 0;
    w->free = w->n > 0;
    pthread_mutex_init(&w->lock, NULL);
    struct epoll_event e = {.events = EPOLLIN};
    if (!w->place || w->epoll < 0 || w->stop < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->stop, &e) != 0 ||
        pthread_create(&w->thread, NULL, run, w) != 0) {
        dt_status st = dt_fail(DT_ERR_IO, "clients cannot be watched: %s", strerror(errno));
        if (w->epoll >= 0) close(w->epoll);
        if (w->stop >= 0) close(w->stop);
        pthread_mutex_destroy(&w->lock);
        free(w->place), free(w);
        return st;
    }
    *out = w;
    return DT_OK;
}

void dt_http_watch_destroy(dt_http_watch *w) {
    if (!w) return;
    const uint64_t one = 1;
    while (write(w->stop, &one, sizeof one) < 0 && errno == EINTR) continue;
    pthread_join(w->thread, NULL);
    close(w->epoll), close(w->stop);
    pthread_mutex_destroy(&w->lock);
    free(w->place), free(w);
}

uint64_t dt_http_watch_add(dt_http_watch *w, int fd, void *what) {
    uint64_t at = 0;
    pthread_mutex_lock(&w->lock);
    if (w->free) {
        place *p = &w->place[w->free];
        at = (uint64_t)w->free << 32 | ++p->turn;
        w->free = p->next;
        p->what = what;
        struct epoll_event e = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = at};
        (void)epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &e);
    }
    pthread_mutex_unlock(&w->lock);
    return at;
}

void dt_http_watch_remove(dt_http_watch *w, uint64_t at, int fd) {
    pthread_mutex_lock(&w->lock);
    place *p = place_of(w, at);
    if (p) {
        (void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, fd, NULL);
        p->what = NULL;
        p->next = w->free;
        w->free = (uint32_t)(p - w->place);
    }
    pthread_mutex_unlock(&w->lock);
}
