/* Lanes of spans. */
#include "core/trace.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct text {
    struct text *next;
    char s[];
} text;

struct dt_trace {
    int64_t room;
    atomic_bool keep;
    pthread_mutex_t lock; /* guards what follows */
    dt_lane *lane;
    text *text;
    int64_t n_lost_lanes;
};

_Thread_local dt_lane *dt_trace_thread;

dt_status dt_trace_create(int64_t room, dt_trace **out) {
    dt_trace *t = *out = calloc(1, sizeof *t);
    if (!t) return dt_fail(DT_ERR_MEMORY, "no memory for a trace");
    t->room = room;
    pthread_mutex_init(&t->lock, NULL);
    return DT_OK;
}

void dt_trace_destroy(dt_trace *t) {
    if (!t) return;
    for (dt_lane *l = t->lane, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    for (text *x = t->text, *next; x; x = next) {
        next = x->next;
        free(x);
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void dt_trace_keep(dt_trace *t, bool keep) {
    atomic_store(&t->keep, keep);
}

dt_status dt_trace_lane(dt_trace *t, const char *name, dt_lane **out) {
    const size_t bytes = sizeof(dt_lane) + (size_t)t->room * sizeof(dt_span);
    dt_lane *l = *out = malloc(bytes);
    pthread_mutex_lock(&t->lock);
    if (l) {
        *l = (dt_lane){.next = t->lane, .trace = t, .name = name, .room = t->room};
        for (const dt_lane *k = t->lane; k; k = k->next) l->number += strcmp(k->name, name) == 0;
        t->lane = l;
    } else {
        t->n_lost_lanes++;
    }
    pthread_mutex_unlock(&t->lock);
    return l ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for %zu bytes of a trace", bytes);
}

const dt_lane *dt_trace_lanes(const dt_trace *t) {
    return t->lane;
}

int64_t dt_trace_lost_lanes(const dt_trace *t) {
    return t->n_lost_lanes;
}

const char *dt_trace_text(dt_trace *t, const char *words) {
    const size_t n = strlen(words) + 1;
    text *x = malloc(sizeof *x + n);
    if (!x) return NULL;
    memcpy(x->s, words, n);
    pthread_mutex_lock(&t->lock);
    x->next = t->text;
    t->text = x;
    pthread_mutex_unlock(&t->lock);
    return x->s;
}

void dt_lane_add(dt_lane *l, const dt_span *span) {
    if (!atomic_load_explicit(&l->trace->keep, memory_order_relaxed)) return;
    if (l->n == l->room)
        l->n_lost++;
    else
        l->span[l->n++] = *span;
}

void dt_trace_attach(dt_trace *t, const char *name) {
    dt_trace_thread = NULL;
    if (t && dt_trace_lane(t, name, &dt_trace_thread) != DT_OK) dt_trace_thread = NULL;
}

dt_trace *dt_trace_current(void) {
    return dt_trace_thread ? dt_trace_thread->trace : NULL;
}
