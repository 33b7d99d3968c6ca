/* The live handles of the process: a set of addresses, so that one that was freed, or never was one, is told
 * without reading behind it. */
#include "api.h"

#include <stdint.h>
#include <stdlib.h>

/* Freed handles whose memory is kept for a while. */
enum { KEPT = 256, FIRST_CAP = 64 };

static const char *const kind_name[DT_HANDLE_KINDS] = {"run",      "tensor",         "network",
                                                       "data set", "sampler",        "network in a file",
                                                       "service",  "served network", "request"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const dt_handle **live; /* open addressing; NULL: free. cap is a power of two */
static size_t cap, n_live;
static void *kept[KEPT];
static size_t next_kept;

static size_t slot_of(const void *handle) {
    return (size_t)((uint64_t)(uintptr_t)handle * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (cap - 1);
}

/* The slot that holds the handle, or the free one where it would go. cap > 0. */
static size_t find(const void *handle) {
    size_t i = slot_of(handle);
    while (live[i] && (const void *)live[i] != handle) i = (i + 1) & (cap - 1);
    return i;
}

/* At least twice as many slots as handles. */
static bool reserve(void) {
    if (2 * (n_live + 1) <= cap) return true;
    const dt_handle **old = live;
    const size_t old_cap = cap;
    const dt_handle **bigger = calloc(old_cap ? 2 * old_cap : FIRST_CAP, sizeof *bigger);
    if (!bigger) return false;
    live = bigger;
    cap = old_cap ? 2 * old_cap : FIRST_CAP;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i]) live[find(old[i])] = old[i];
    free(old);
    return true;
}

void *dt_handle_new(dt_handle_kind kind, size_t bytes) {
    dt_handle *h = calloc(1, bytes);
    if (!h) return NULL;
    h->kind = kind;
    pthread_mutex_lock(&lock);
    const bool room = reserve();
    if (room) live[find(h)] = h, n_live++;
    pthread_mutex_unlock(&lock);
    if (room) return h;
    free(h);
    return NULL;
}

bool dt_handle_is(dt_handle_kind kind, const void *handle) {
    if (!handle) return false;
    pthread_mutex_lock(&lock);
    const dt_handle *h = cap ? live[find(handle)] : NULL;
    const bool is = h && h->kind == kind;
    pthread_mutex_unlock(&lock);
    return is;
}

bool dt_handle_end(dt_handle_kind kind, const void *handle) {
    if (!handle) return false;
    pthread_mutex_lock(&lock);
    size_t i = cap ? find(handle) : 0;
    const bool is = cap && live[i] && live[i]->kind == kind;
    if (is) {
        live[i] = NULL;
        n_live--;
        /* Those behind it, up to the next free slot, may have been pushed past it. */
        for (i = (i + 1) & (cap - 1); live[i]; i = (i + 1) & (cap - 1)) {
            const dt_handle *h = live[i];
            live[i] = NULL;
            live[find(h)] = h;
        }
    }
    pthread_mutex_unlock(&lock);
    return is;
}

void dt_handle_free(void *handle) {
    pthread_mutex_lock(&lock);
    void *old = kept[next_kept];
    kept[next_kept] = handle;
    next_kept = (next_kept + 1) % KEPT;
    pthread_mutex_unlock(&lock);
    free(old);
}

dt_status dt_handle_check(dt_handle_kind kind, const void *handle, const char *function,
                          const char *argument) {
    if (dt_handle_is(kind, handle)) return DT_OK;
    if (!handle) return dt_fail(DT_ERR_USAGE, "%s: %s is NULL", function, argument);
    return dt_fail(DT_ERR_USAGE, "%s: %s is no %s, or one that was freed", function, argument,
                   kind_name[kind]);
}
