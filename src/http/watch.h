/* Tells of connections whose client went away while their request waits: nobody reads from them then. */
#ifndef DT_HTTP_WATCH_H
#define DT_HTTP_WATCH_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_http_watch dt_http_watch;

typedef struct dt_http_watch_calls {
    void (*hold)(void *what);
    void (*gone)(void *what); /* once, from the watch's thread, of something held; drops it */
} dt_http_watch_calls;

dt_status dt_http_watch_create(int32_t places, dt_http_watch_calls calls, dt_http_watch **out);
void dt_http_watch_destroy(dt_http_watch *w); /* accepts NULL */
/* A number for remove; 0, and nothing is watched, where there is no place left. */
uint64_t dt_http_watch_add(dt_http_watch *w, int fd, void *what);
/* Accepts 0, and one that was removed. */
void dt_http_watch_remove(dt_http_watch *w, uint64_t at, int fd);

#endif
