/* Requests wait with their model, by priority and then in the order in which they came; workers take as many as fit together. */
#include "serve/engine.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "private.h"

enum { WORKERS = 2, WORKERS_MAX = 256, QUEUE_LIMIT = 1024 };

const char *const dt_level_names[] = {"default", "none", "basic", "aggressive", "extreme", NULL};

int64_t dt_serve_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void cond_init(pthread_cond_t *c) {
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(c, &a);
    pthread_condattr_destroy(&a);
}

/* Until `until` (of dt_serve_now_ns), INT64_MAX: any time. False when that has come. */
static bool cond_wait(pthread_cond_t *c, pthread_mutex_t *lock, int64_t until) {
    if (until == INT64_MAX) return pthread_cond_wait(c, lock) == 0;
    const struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    return pthread_cond_timedwait(c, lock, &t) != ETIMEDOUT;
}

static int64_t time_from_now(int64_t ms) {
    if (ms < 0) return INT64_MAX;
    const int64_t now = dt_serve_now_ns();
    return ms > (INT64_MAX - now) / 1000000 ? INT64_MAX : now + ms * 1000000;
}

/* ---- requests ---- */

void dt_serve_request_unmake(dt_serve_request *r) {
    for (int32_t i = 0; r->out && i < r->model->info.n_out; i++) free(r->out[i].data);
    for (int32_t i = 0; r->made && i < r->model->info.n_in; i++) free(r->made[i]);
    free(r->made), free(r->in), free(r->out);
    pthread_cond_destroy(&r->answered);
    free(r);
}

/* With the lock held, which the end of a model gives up for a moment. */
static void request_unref(dt_serve_request *r) {
    dt_serve_model *m = r->model;
    if (--r->refs > 0) return;
    dt_serve_request_unmake(r);
    dt_serve_model_unref(m);
}

static void count_answer(dt_serve_counts *c, const dt_serve_request *r, int64_t ns, int64_t clock_ns) {
    dt_serve_stats *s = &c->sums;
    if (r->status == DT_OK) {
        s->succeeded++;
        s->rows += r->rows;
        s->queue_ns += r->times.queue_ns;
        s->input_ns += r->times.input_ns;
        s->compute_ns += r->times.compute_ns;
        s->output_ns += r->times.output_ns;
        dt_latencies_add(&c->latency, ns);
    } else if (r->status == DT_ERR_TIMEOUT) {
        s->expired++;
    } else if (r->status == DT_STOPPED) {
        s->cancelled++;
    } else {
        s->failed++;
    }
    s->last_ns = clock_ns;
}

void dt_serve_count_answer(dt_serve_model *m, const dt_serve_request *r, int64_t ns) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    const int64_t clock_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    pthread_mutex_lock(&m->engine->lock);
    count_answer(&m->counts, r, ns, clock_ns);
    count_answer(&m->engine->counts, r, ns, clock_ns);
    pthread_mutex_unlock(&m->engine->lock);
}

void dt_serve_one_less(dt_serve_engine *e) {
    e->n_running--;
    if (e->n_running == 0 && e->n_waiting == 0) pthread_cond_broadcast(&e->idle);
}

/* Takes the engine's reference of it; status and error are set. Called without the lock. */
static void answer(dt_serve_request *r) {
    dt_serve_engine *e = r->model->engine;
    dt_serve_count_answer(r->model, r, dt_serve_now_ns() - r->submitted_ns);
    /* Before the state says so: who waits may free what the callback uses. */
    if (r->how.done) r->how.done(r->how.arg, r, r->status, r->error);
    pthread_mutex_lock(&e->lock);
    r->state = DT_SERVE_ANSWERED;
    pthread_cond_broadcast(&r->answered);
    dt_serve_one_less(e);
    e->refs++;
    request_unref(r);
    dt_serve_engine_unref(e);
}

static void answer_with(dt_serve_request *r, dt_status st, const char *why) {
    r->status = st;
    snprintf(r->error, sizeof r->error, "%s", why);
    answer(r);
}

/* Out of its queue; the lock is held. It counts as running from here. */
static void unlink_request(dt_serve_model *m, dt_serve_request *r, dt_serve_request *before) {
    const int32_t p = r->how.priority;
    *(before ? &before->next : &m->first[p]) = r->next;
    if (m->last[p] == r) m->last[p] = before;
    r->next = NULL;
    r->state = DT_SERVE_RUNNING;
    m->n_waiting--, m->rows_waiting -= r->rows;
    m->engine->n_waiting--, m->engine->n_running++;
}

/* ---- workers ---- */

static dt_serve_request *head(const dt_serve_model *m) {
    for (int32_t p = 0; p < DT_SERVE_PRIORITIES; p++)
        if (m->first[p]) return m->first[p];
    return NULL;
}

static int64_t oldest_ns(const dt_serve_model *m) {
    int64_t ns = INT64_MAX;
    for (int32_t p = 0; p < DT_SERVE_PRIORITIES; p++)
        if (m->first[p]) ns = dt_min_i64(ns, m->first[p]->submitted_ns);
    return ns;
}

/* When a batch of the model is due. */
static int64_t due_ns(const dt_serve_model *m) {
    const bool full = !m->info.batched || m->rows_waiting >= m->info.max_batch;
    if (full || m->options.max_delay_us == 0 || m->engine->draining) return 0;
    return oldest_ns(m) + m->options.max_delay_us * 1000;
}

/* What is to be done next: the most urgent request, of those the oldest, or texts whose turn it is, which are as urgent as usual
 * requests. *wake: when there may be something. */
static dt_serve_model *pick(dt_serve_engine *e, int64_t *wake, bool *texts) {
    const int64_t now = dt_serve_now_ns();
    dt_serve_model *best = NULL, *text = NULL;
    int64_t since = INT64_MAX, one;
    *wake = INT64_MAX;
    for (dt_serve_model *m = e->models; m; m = m->next) {
        const dt_serve_request *h = head(m);
        if (dt_serve_texts_due(m, &one) && one < since) text = m, since = one;
        if (!h || m->busy) continue;
        const int64_t due = due_ns(m);
        if (due > now) {
            *wake = dt_min_i64(*wake, due);
            continue;
        }
        const dt_serve_request *b = best ? head(best) : NULL;
        if (!b || h->how.priority < b->how.priority ||
            (h->how.priority == b->how.priority && h->submitted_ns < b->submitted_ns))
            best = m;
    }
    const dt_serve_request *b = best ? head(best) : NULL;
    *texts = text && (!b || b->how.priority > 0 || since < b->submitted_ns);
    return *texts ? text : best;
}

/* Requests that run together, and such whose time is over. */
typedef struct batch {
    dt_serve_request **run, **late;
    int32_t n_run, n_late;
    int64_t rows;
} batch;

static void take_batch(dt_serve_model *m, batch *b) {
    const int64_t now = dt_serve_now_ns();
    for (int32_t p = 0; p < DT_SERVE_PRIORITIES; p++) {
        dt_serve_request *before = NULL;
        for (dt_serve_request *r = m->first[p], *next; r; r = next) {
            next = r->next;
            if (r->deadline_ns > 0 && now > r->deadline_ns) {
                unlink_request(m, r, before);
                b->late[b->n_late++] = r;
                continue;
            }
            const bool fits = b->n_run == 0 || (m->info.batched && b->rows + r->rows <= m->info.max_batch &&
                                                dt_serve_same_inputs(m, b->run[0]->in, r->in, 1));
            if (!fits) {
                before = r;
                continue;
            }
            unlink_request(m, r, before);
            b->run[b->n_run++] = r;
            b->rows += r->rows;
        }
    }
}

static int32_t bucket_index(int64_t rows) {
    int32_t i = 0;
    while (i + 1 < DT_SERVE_BATCH_BUCKETS && (INT64_C(1) << i) < rows) i++;
    return i;
}

/* With the lock held, which it gives up for most of its time. */
static void serve(dt_serve_engine *e, dt_serve_model *m) {
    const size_t n = (size_t)m->n_waiting;
    batch b = {.run = calloc(n, sizeof *b.run), .late = calloc(n, sizeof *b.late)};
    if (!b.run || !b.late) { /* one at a time goes without memory */
        dt_serve_request *r = head(m);
        unlink_request(m, r, NULL);
        pthread_mutex_unlock(&e->lock);
        answer_with(r, DT_ERR_MEMORY, "no memory for a batch");
        pthread_mutex_lock(&e->lock);
        free(b.run), free(b.late);
        return;
    }
    take_batch(m, &b);
    m->busy = true;
    m->refs++;
    if (b.n_run > 0) {
        m->counts.sums.runs++, e->counts.sums.runs++;
        m->counts.sums.batch_runs[bucket_index(b.rows)]++, e->counts.sums.batch_runs[bucket_index(b.rows)]++;
    }
    pthread_mutex_unlock(&e->lock);
    for (int32_t i = 0; i < b.n_late; i++)
        answer_with(b.late[i], DT_ERR_TIMEOUT, "its deadline passed before its turn came");
    if (b.n_run > 0) dt_serve_batch_run(m, b.run, b.n_run);
    pthread_mutex_lock(&e->lock);
    m->busy = false;
    if (m->n_waiting > 0) pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
    for (int32_t i = 0; i < b.n_run; i++) answer(b.run[i]);
    free(b.run), free(b.late);
    pthread_mutex_lock(&e->lock);
    dt_serve_model_unref(m);
}

static void *work(void *arg) {
    dt_serve_engine *e = arg;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        int64_t wake;
        bool texts;
        dt_serve_model *m = pick(e, &wake, &texts);
        if (m && texts) {
            dt_serve_texts_turn(m);
        } else if (m) {
            serve(e, m);
        } else {
            if (e->stop) break;
            cond_wait(&e->work, &e->lock, wake);
        }
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ---- the engine ---- */

/* "0-3,8": of the processors that this thread may run on. */
static dt_status read_affinity(const char *text, cpu_set_t *out) {
    cpu_set_t mine;
    CPU_ZERO(out);
    sched_getaffinity(0, sizeof mine, &mine);
    for (const char *at = text; *at;) {
        char *end;
        if (!isdigit((unsigned char)*at))
            return dt_fail(DT_ERR_USAGE, "\"%s\" is no list of processors as 0-3,8", text);
        const long first = strtol(at, &end, 10);
        long last = first;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        if ((*end && *end != ',') || first > last || last >= CPU_SETSIZE)
            return dt_fail(DT_ERR_USAGE, "\"%s\" is no list of processors as 0-3,8", text);
        for (long i = first; i <= last; i++)
            if (CPU_ISSET((size_t)i, &mine)) CPU_SET((size_t)i, out);
        at = *end ? end + 1 : end;
    }
    if (CPU_COUNT(out) == 0)
        return dt_fail(DT_ERR_USAGE, "of the processors %s this process may run on none", text);
    return DT_OK;
}

dt_status dt_serve_engine_create(const dt_serve_engine_options *o, dt_serve_engine **out) {
    *out = NULL;
    if (o->workers < 0 || o->workers > WORKERS_MAX || o->queue_limit < 0 || o->memory_cap_bytes < 0)
        return dt_fail(DT_ERR_USAGE,
                       "an engine has 1 to %d workers, a queue limit and a memory cap of no less than 0",
                       WORKERS_MAX);
    cpu_set_t set;
    if (o->affinity) DT_TRY(read_affinity(o->affinity, &set));
    dt_serve_engine *e = calloc(1, sizeof *e);
    if (!e) return dt_fail(DT_ERR_MEMORY, "no memory for an engine");
    e->options = *o;
    e->options.affinity = NULL;
    if (e->options.queue_limit == 0) e->options.queue_limit = QUEUE_LIMIT;
    if (e->options.workers == 0) e->options.workers = WORKERS;
    e->refs = 1;
    pthread_mutex_init(&e->lock, NULL);
    dt_turns_init(&e->device);
    cond_init(&e->work), cond_init(&e->idle);
    e->worker = calloc((size_t)e->options.workers, sizeof *e->worker);
    for (int32_t i = 0; e->worker && i < e->options.workers; i++) {
        if (pthread_create(&e->worker[i], NULL, work, e) != 0) break;
        if (o->affinity) pthread_setaffinity_np(e->worker[i], sizeof set, &set);
        e->n_worker++;
    }
    if (e->n_worker == 0) {
        dt_serve_engine_destroy(e);
        return dt_fail(DT_ERR_MEMORY, "no thread could be started");
    }
    *out = e;
    return DT_OK;
}

void dt_serve_engine_drain(dt_serve_engine *e, int64_t timeout_ms) {
    const int64_t until = time_from_now(timeout_ms);
    pthread_mutex_lock(&e->lock);
    e->draining = true;
    pthread_cond_broadcast(&e->work);
    while (e->n_waiting + e->n_running > 0 && cond_wait(&e->idle, &e->lock, until)) {
    }
    const bool late = e->n_waiting + e->n_running > 0;
    for (dt_serve_model *m = late ? e->models : NULL; m;) m = dt_serve_texts_stop(m) ? e->models : m->next;
    while (e->n_waiting > 0) {
        dt_serve_request *r = NULL;
        for (dt_serve_model *m = e->models; m && !r; m = m->next)
            if ((r = head(m))) unlink_request(m, r, NULL);
        pthread_mutex_unlock(&e->lock);
        answer_with(r, DT_STOPPED, "the engine ended before its turn came");
        pthread_mutex_lock(&e->lock);
    }
    while (e->n_running > 0) cond_wait(&e->idle, &e->lock, INT64_MAX);
    pthread_mutex_unlock(&e->lock);
}

void dt_serve_engine_destroy(dt_serve_engine *e) {
    if (!e) return;
    dt_serve_engine_drain(e, -1);
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->work);
    pthread_mutex_unlock(&e->lock);
    for (int32_t i = 0; i < e->n_worker; i++) pthread_join(e->worker[i], NULL);
    pthread_mutex_lock(&e->lock);
    e->n_worker = 0;
    dt_serve_engine_unref(e);
}

void dt_serve_engine_unref(dt_serve_engine *e) {
    const bool last = --e->refs == 0;
    pthread_mutex_unlock(&e->lock);
    if (!last) return;
    pthread_cond_destroy(&e->work), pthread_cond_destroy(&e->idle);
    pthread_mutex_destroy(&e->lock), dt_turns_fini(&e->device);
    free(e->worker);
    free(e);
}

/* ---- what callers do with requests ---- */

static int64_t rows_of(const dt_serve_model *m, const dt_host_tensor *in) {
    return m->info.batched ? in[0].dim[0] : 1;
}

static dt_status check_input(const dt_serve_model *m, const dt_serve_io *io, const dt_host_tensor *t,
                             int64_t rows) {
    if (io->type != DT_TENSOR_TYPES && t->type != io->type)
        return dt_fail(DT_ERR_USAGE, "input %s is %s, the model takes %s", io->name,
                       dt_tensor_type_name(t->type), dt_tensor_type_name(io->type));
    if (io->ndim >= 0 && t->ndim != io->ndim)
        return dt_fail(DT_ERR_USAGE, "input %s has %d dimensions, the model takes %d", io->name, t->ndim,
                       io->ndim);
    for (int32_t d = 0; d < t->ndim; d++)
        if (t->dim[d] < 0 || (io->ndim >= 0 && io->dim[d] >= 0 && t->dim[d] != io->dim[d]))
            return dt_fail(DT_ERR_USAGE, "input %s has %lld in dimension %d, the model takes %lld", io->name,
                           (long long)t->dim[d], d, (long long)(io->ndim >= 0 ? io->dim[d] : 0));
    if (m->info.batched && (t->dim[0] != rows || rows < 1))
        return dt_fail(DT_ERR_USAGE,
                       "input %s has %lld rows, the first one has %lld: each has as many, one at least",
                       io->name, (long long)t->dim[0], (long long)rows);
    if (!t->data && dt_host_n_elem(t) > 0) return dt_fail(DT_ERR_USAGE, "input %s has no data", io->name);
    return DT_OK;
}

dt_status dt_serve_check(const dt_serve_model *m, const dt_serve_io *io, const dt_host_tensor *in) {
    const int64_t rows = rows_of(m, in);
    for (int32_t i = 0; i < m->info.n_in; i++) DT_TRY(check_input(m, &io[i], &in[i], rows));
    if (m->info.batched && rows > m->info.max_batch)
        return dt_fail(DT_ERR_USAGE, "%lld rows at once, the model takes up to %lld", (long long)rows,
                       (long long)m->info.max_batch);
    return DT_OK;
}

dt_status dt_serve_may_wait(dt_serve_model *m, int64_t n) {
    dt_serve_engine *e = m->engine;
    const int64_t limit = m->options.queue_limit > 0 ? m->options.queue_limit : e->options.queue_limit;
    if (!e->draining && n < limit && e->n_waiting < e->options.queue_limit) return DT_OK;
    m->counts.sums.refused++, e->counts.sums.refused++;
    if (e->draining) return dt_fail(DT_STOPPED, "the engine is ending and takes no more requests");
    return dt_fail(DT_ERR_BUSY, "%lld requests wait already, no more may: later again",
                   (long long)(n >= limit ? n : e->n_waiting));
}

dt_status dt_serve_request_make(dt_serve_model *m, const dt_host_tensor *in, dt_serve_request **out) {
    dt_serve_request *r = calloc(1, sizeof *r);
    if (!r) return dt_fail(DT_ERR_MEMORY, "no memory for a request");
    r->model = m;
    cond_init(&r->answered);
    r->in = calloc((size_t)m->info.n_in + 1, sizeof *r->in);
    r->out = calloc((size_t)m->info.n_out + 1, sizeof *r->out);
    dt_status st = r->in && r->out ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a request");
    if (st == DT_OK) memcpy(r->in, in, (size_t)m->info.n_in * sizeof *in);
    if (st == DT_OK) st = dt_serve_hooks_before(m, r);
    if (st == DT_OK) {
        r->rows = rows_of(m, r->in);
        *out = r;
    } else {
        dt_serve_request_unmake(r);
    }
    return st;
}

dt_status dt_serve_submit(dt_serve_model *m, const dt_host_tensor *in, const dt_serve_submit_options *o,
                          dt_serve_request **out) {
    dt_serve_engine *e = m->engine;
    *out = NULL;
    const dt_serve_submit_options how = o ? *o : (dt_serve_submit_options){.priority = 0};
    if (how.priority < 0 || how.priority >= DT_SERVE_PRIORITIES || how.deadline_us < 0)
        return dt_fail(DT_ERR_USAGE, "a priority is 0 to %d, a deadline no less than 0",
                       DT_SERVE_PRIORITIES - 1);
    dt_serve_request *r;
    DT_TRY(dt_serve_request_make(m, in, &r));
    r->how = how;
    const int64_t rows = r->rows;
    r->submitted_ns = dt_serve_now_ns();
    if (how.deadline_us > 0)
        r->deadline_ns = r->submitted_ns + dt_min_i64(how.deadline_us, INT64_MAX / 4000) * 1000;
    pthread_mutex_lock(&e->lock);
    const dt_status st = dt_serve_may_wait(m, m->n_waiting);
    if (st != DT_OK) {
        pthread_mutex_unlock(&e->lock);
        dt_serve_request_unmake(r);
        return st;
    }
    r->refs = 2;
    m->refs++;
    *(m->last[how.priority] ? &m->last[how.priority]->next : &m->first[how.priority]) = r;
    m->last[how.priority] = r;
    m->n_waiting++, m->rows_waiting += rows, e->n_waiting++;
    m->counts.sums.accepted++, e->counts.sums.accepted++;
    pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
    *out = r;
    return DT_OK;
}

dt_status dt_serve_wait(dt_serve_request *r, int64_t timeout_ms) {
    dt_serve_engine *e = r->model->engine;
    const int64_t until = time_from_now(timeout_ms);
    pthread_mutex_lock(&e->lock);
    while (r->state != DT_SERVE_ANSWERED && cond_wait(&r->answered, &e->lock, until)) {
    }
    const bool answered = r->state == DT_SERVE_ANSWERED;
    pthread_mutex_unlock(&e->lock);
    if (!answered) return dt_fail(DT_ERR_TIMEOUT, "no answer yet after %lld ms", (long long)timeout_ms);
    return r->status == DT_OK ? DT_OK : dt_fail(r->status, "%s", r->error);
}

bool dt_serve_cancel(dt_serve_request *r) {
    dt_serve_model *m = r->model;
    dt_serve_engine *e = m->engine;
    pthread_mutex_lock(&e->lock);
    const bool waits = r->state == DT_SERVE_WAITING;
    if (waits) {
        dt_serve_request *before = NULL;
        for (dt_serve_request *at = m->first[r->how.priority]; at != r; at = at->next) before = at;
        unlink_request(m, r, before);
    }
    pthread_mutex_unlock(&e->lock);
    if (waits) answer_with(r, DT_STOPPED, "it was cancelled");
    return waits;
}

const dt_host_tensor *dt_serve_output(const dt_serve_request *r, int32_t i) {
    return i >= 0 && i < r->model->info.n_out ? &r->out[i] : NULL;
}

void dt_serve_request_times(const dt_serve_request *r, dt_serve_times *out) {
    *out = r->times;
}

void dt_serve_request_drop(dt_serve_request *r) {
    if (!r) return;
    dt_serve_engine *e = r->model->engine;
    pthread_mutex_lock(&e->lock);
    e->refs++;
    request_unref(r);
    dt_serve_engine_unref(e);
}

/* ---- statistics ---- */

static void stats_of(const dt_serve_counts *c, dt_serve_stats *out) {
    const dt_latencies *h = &c->latency;
    *out = c->sums;
    out->latency = (dt_serve_latency){.n = h->n,
                                      .min_s = (double)h->min_ns * 1e-9,
                                      .avg_s = h->n > 0 ? (double)h->sum_ns * 1e-9 / (double)h->n : 0,
                                      .max_s = (double)h->max_ns * 1e-9,
                                      .p50_s = dt_latencies_quantile(h, 0.5),
                                      .p90_s = dt_latencies_quantile(h, 0.9),
                                      .p99_s = dt_latencies_quantile(h, 0.99),
                                      .p999_s = dt_latencies_quantile(h, 0.999)};
}

void dt_serve_model_stats(const dt_serve_model *m, dt_serve_stats *out) {
    dt_serve_engine *e = m->engine;
    pthread_mutex_lock(&e->lock);
    stats_of(&m->counts, out);
    const dt_serve_stats *s = &m->counts.sums;
    out->waiting = m->n_waiting + dt_serve_texts_waiting(m);
    out->running = s->accepted - s->succeeded - s->failed - s->cancelled - s->expired - out->waiting;
    pthread_mutex_unlock(&e->lock);
}

void dt_serve_engine_stats(const dt_serve_engine *engine, dt_serve_stats *out) {
    dt_serve_engine *e = (dt_serve_engine *)(uintptr_t)engine; /* its lock */
    pthread_mutex_lock(&e->lock);
    stats_of(&e->counts, out);
    out->waiting = e->n_waiting;
    out->running = e->n_running;
    pthread_mutex_unlock(&e->lock);
}
