/* Teams of threads. Each thread has a range of the items of the stage that runs, [from, to) in one word: it takes from its
 * front and, when that is empty, from the back of others', the caller's too. An item that was taken keeps its stage from
 * ending; a thread that comes late finds empty ranges, or those of a later stage, of which it takes just as well. */
#include "team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPIN_NS = 50 * 1000, LOOK_EVERY = 16 /* spins between looks at the clock */ };

typedef struct range {
    _Alignas(64) _Atomic uint64_t items; /* from, and to above it */
} range;

typedef struct team {
    struct team *next; /* of the calling thread's, of another size */
    int32_t threads;
    _Atomic int32_t refs; /* the owner, and its threads */
    _Atomic bool ended;
    dt_cpu_item_fn *run;
    const void *arg;
    _Alignas(64) _Atomic uint32_t turn; /* counts stages: threads sleep on it */
    _Atomic int32_t sleepers;
    _Alignas(64) _Atomic uint32_t left; /* items that are not done: the caller sleeps on it */
    _Atomic bool waits;
    range range[];
} team;

typedef struct member {
    team *t;
    int32_t number;
} member;

static void futex_wait(_Atomic uint32_t *at, uint32_t is) {
    (void)syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, is, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *at, int32_t n) {
    (void)syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static int64_t now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* False where *at still is `is` after the time that is worth waiting awake. */
static bool spin_until_other(const _Atomic uint32_t *at, uint32_t is) {
    const int64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < LOOK_EVERY; i++) {
            if (atomic_load_explicit(at, memory_order_acquire) != is) return true;
            relax();
        }
    } while (now_ns() < end);
    return false;
}

static uint64_t items(int64_t from, int64_t to) {
    return (uint64_t)from | (uint64_t)to << 32;
}

/* An item of the thread's own range, or of another's. */
static bool take(team *t, int32_t worker, int64_t *item) {
    for (int32_t i = 0; i < t->threads; i++) {
        _Atomic uint64_t *at = &t->range[(worker + i) % t->threads].items;
        uint64_t now = atomic_load_explicit(at, memory_order_acquire);
        for (;;) {
            const int64_t from = (int64_t)(now & UINT32_MAX), to = (int64_t)(now >> 32);
            if (from >= to) break;
            const uint64_t rest = i == 0 ? items(from + 1, to) : items(from, to - 1);
            if (!atomic_compare_exchange_weak_explicit(at, &now, rest, memory_order_acq_rel,
                                                       memory_order_acquire))
                continue;
            *item = i == 0 ? from : to - 1;
            return true;
        }
    }
    return false;
}

static void work(team *t, int32_t worker) {
    int64_t item;
    while (take(t, worker, &item)) {
        t->run(t->arg, item, worker);
        if (atomic_fetch_sub(&t->left, 1) == 1 && atomic_load(&t->waits)) futex_wake(&t->left, 1);
    }
}

static void unref(team *t) {
    if (atomic_fetch_sub(&t->refs, 1) == 1) free(t);
}

static void *stay(void *arg) {
    member *m = arg;
    team *t = m->t;
    const int32_t number = m->number;
    free(m);
    while (!atomic_load(&t->ended)) {
        const uint32_t turn = atomic_load(&t->turn);
        work(t, number);
        if (atomic_load(&t->ended) || spin_until_other(&t->turn, turn)) continue;
        atomic_fetch_add(&t->sleepers, 1);
        while (atomic_load(&t->turn) == turn) futex_wait(&t->turn, turn);
        atomic_fetch_sub(&t->sleepers, 1);
    }
    unref(t);
    return NULL;
}

/* ---- the calling thread's teams ---- */

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;

static void end_all(void *first) {
    for (team *t = first, *next; t; t = next) {
        next = t->next;
        atomic_store(&t->ended, true);
        atomic_fetch_add(&t->turn, 1);
        futex_wake(&t->turn, INT_MAX);
        unref(t);
    }
}

static void make_key(void) {
    has_key = pthread_key_create(&key, end_all) == 0;
}

/* A thread that cannot be had is done without. */
static void begin_member(team *t, int32_t number) {
    member *m = malloc(sizeof *m);
    pthread_attr_t detached;
    pthread_t thread;
    if (!m) return;
    *m = (member){t, number};
    atomic_fetch_add(&t->refs, 1);
    bool begun = pthread_attr_init(&detached) == 0;
    if (begun) {
        begun = pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) == 0 &&
                pthread_create(&thread, &detached, stay, m) == 0;
        (void)pthread_attr_destroy(&detached);
    }
    if (begun) return;
    atomic_fetch_sub(&t->refs, 1);
    free(m);
}

/* NULL where there is no memory. */
static team *team_of(int32_t threads) {
    (void)pthread_once(&once, make_key);
    if (!has_key) return NULL;
    team *first = pthread_getspecific(key);
    for (team *t = first; t; t = t->next)
        if (t->threads == threads) return t;
    const size_t bytes = sizeof(team) + (size_t)threads * sizeof(range);
    team *t = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!t) return NULL;
    t->next = first, t->threads = threads, t->run = NULL, t->arg = NULL;
    atomic_init(&t->refs, 1), atomic_init(&t->ended, false), atomic_init(&t->turn, 0);
    atomic_init(&t->sleepers, 0), atomic_init(&t->left, 0), atomic_init(&t->waits, false);
    for (int32_t i = 0; i < threads; i++) atomic_init(&t->range[i].items, 0);
    if (pthread_setspecific(key, t) != 0) {
        free(t);
        return NULL;
    }
    for (int32_t i = 1; i < threads; i++) begin_member(t, i);
    return t;
}

static void wait_for_rest(team *t) {
    for (;;) {
        const uint32_t left = atomic_load(&t->left);
        if (left == 0) return;
        if (spin_until_other(&t->left, left)) continue;
        atomic_store(&t->waits, true);
        if (atomic_load(&t->left) == left) futex_wait(&t->left, left);
        atomic_store(&t->waits, false);
    }
}

static void run_stage(team *t, const dt_cpu_stage *s, const void *arg) {
    t->run = s->run, t->arg = arg;
    atomic_store(&t->left, (uint32_t)s->n);
    for (int32_t i = 0; i < t->threads; i++)
        atomic_store_explicit(&t->range[i].items, items(s->n * i / t->threads, s->n * (i + 1) / t->threads),
                              memory_order_release);
    atomic_fetch_add(&t->turn, 1);
    if (atomic_load(&t->sleepers) > 0)
        futex_wake(&t->turn, s->n < t->threads ? (int32_t)s->n - 1 : t->threads - 1);
    work(t, 0);
    wait_for_rest(t);
}

/* ---- stages ---- */

static void run_openmp(int32_t threads, const dt_cpu_stage *stage, int32_t n_stage, const void *arg) {
#pragma omp parallel num_threads(threads)
    for (int32_t s = 0; s < n_stage; s++) {
        if (stage[s].even) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < stage[s].n; i++) stage[s].run(arg, i, omp_get_thread_num());
        } else {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < stage[s].n; i++) stage[s].run(arg, i, omp_get_thread_num());
        }
    }
}

void dt_cpu_share(dt_cpu_crew crew, const dt_cpu_stage *stage, int32_t n_stage, const void *arg) {
    if (crew.threads > 1 && !crew.team) {
        run_openmp(crew.threads, stage, n_stage, arg);
        return;
    }
    team *t = crew.threads > 1 ? team_of(crew.threads) : NULL;
    for (int32_t s = 0; s < n_stage; s++) {
        if (t && stage[s].n > 1)
            run_stage(t, &stage[s], arg);
        else
            for (int64_t i = 0; i < stage[s].n; i++) stage[s].run(arg, i, 0);
    }
}

enum { PIECES = 6 }; /* of a thread of a team: what others may take from it */

typedef struct pieces {
    int64_t n, count;
    dt_cpu_range_fn *run;
    const void *arg;
} pieces;

static void piece_item(const void *arg, int64_t item, int32_t worker) {
    (void)worker;
    const pieces *p = arg;
    p->run(p->arg, p->n * item / p->count, p->n * (item + 1) / p->count);
}

void dt_cpu_share_range(dt_cpu_crew crew, int64_t n, dt_cpu_range_fn *run, const void *arg) {
    const int64_t wanted = crew.threads == 1 ? 1 : crew.team ? crew.threads * PIECES : crew.threads;
    const pieces p = {n, wanted < n ? wanted : n, run, arg};
    const dt_cpu_stage stage = {p.count, piece_item, true};
    dt_cpu_share(crew, &stage, 1, &p);
}
