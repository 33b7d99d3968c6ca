/* The loader: a ring of slots filled by worker threads, several of them on one batch.
 *
 * Work is handed out as tickets, runs of rows of consecutive batches, under one mutex. A ticket can be taken
 * when its batch's slot has been given back, so tickets are served in order and at most n_slots batches are
 * under way. Which samples a batch holds follows from its number alone (see data/loader.h); an error is kept
 * in the slot of its batch and surfaces when the consumer gets there, so a run sees the same batches up to it
 * every time. */
#include "data/loader.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/trace.h"
#include "data/order.h"
#include "dataset.h"

enum {
    TICKETS_PER_THREAD = 4, /* of one batch: evens out slow samples */
    SLOT_ALIGN_BYTES = 4096,
    ERROR_TEXT_BYTES = 1024,
};

typedef struct slot {
    uint8_t *memory; /* the fields, what lies beside them, errors */
    int64_t batch;   /* being filled or full; -1: free */
    int64_t rows_left;
    int64_t error_row; /* lowest row that failed; -1: none */
    dt_status status;
    char error[ERROR_TEXT_BYTES];
} slot;

typedef struct ticket {
    int64_t batch, row0, row1;
} ticket;

struct dt_loader {
    dt_loader_options o;
    const dt_data_row *row;
    dt_loader_plan plan;
    int64_t n_samples;
    int64_t n_micro;   /* train: micro-batches of this rank */
    int64_t n_batches; /* -1: without end */
    int64_t max_rows, ticket_rows;
    int64_t offset[DT_FIELDS_MAX]; /* of each field in a slot */
    int64_t beside_offset, error_offset, slot_bytes;
    slot *slots;
    pthread_t *threads;
    int32_t n_started;
    pthread_mutex_t mutex;
    pthread_cond_t work, filled;
    ticket next; /* the ticket to be handed out */
    int64_t next_delivery;
    atomic_bool stop;
    dt_trace *trace; /* of the thread that opened it; NULL: none */
};

/* ---- which samples are where ---- */

int64_t dt_loader_rows(const dt_loader_options *o, int64_t i) {
    if (o->eval) return o->batch;
    int64_t m = o->rank + i * o->world;
    return (o->global_batch - m + o->n_micro_all - 1) / o->n_micro_all;
}

static int64_t batch_rows(const dt_loader *l, int64_t batch) {
    return dt_loader_rows(&l->o, l->o.eval ? 0 : batch % l->n_micro);
}

/* The sample of a row of a batch, or -1 where an evaluation batch is padded. */
static int64_t sample_of(const dt_loader *l, int64_t batch, int64_t row, uint64_t *epoch, uint64_t *repeat) {
    int64_t n = l->n_samples;
    *epoch = *repeat = 0;
    if (l->o.eval) {
        int64_t i = l->o.whole_batches ? (batch * l->o.world + l->o.rank) * l->o.batch + row
                                       : (batch * l->o.batch + row) * l->o.world + l->o.rank;
        return i < n ? i : -1;
    }
    int64_t step = l->o.first_step + batch / l->n_micro;
    int64_t m = l->o.rank + batch % l->n_micro * l->o.world;
    int64_t t = step * l->o.global_batch + m + row * l->o.n_micro_all;
    *epoch = (uint64_t)(t / n);
    return (int64_t)dt_order_repeated(l->o.seed, (uint64_t)n, (uint64_t)dt_max_i64(l->plan.repeats, 1),
                                      (uint64_t)t, repeat);
}

/* ---- workers ---- */

typedef struct filling {
    const dt_loader *loader;
    int64_t batch;
} filling;

static slot *slot_of(dt_loader *l, int64_t batch) {
    return &l->slots[batch % l->o.n_slots];
}

static int64_t sample_of_slot(void *arg, int64_t row) {
    const filling *f = arg;
    uint64_t epoch, repeat;
    return sample_of(f->loader, f->batch, row, &epoch, &repeat);
}

static void begin_batch(dt_loader *l, slot *s) {
    filling f = {l, s->batch};
    s->rows_left = batch_rows(l, s->batch);
    s->error_row = -1;
    s->status = DT_OK;
    if (l->row->begin)
        l->row->begin(l->plan.state, s->memory + l->beside_offset, s->rows_left, sample_of_slot, &f);
}

/* Waits for a ticket; false when the loader stops or there is nothing left. Under the mutex. */
static bool take_ticket(dt_loader *l, ticket *out) {
    for (;;) {
        if (atomic_load(&l->stop) || (l->n_batches >= 0 && l->next.batch >= l->n_batches)) return false;
        slot *s = slot_of(l, l->next.batch);
        if (s->batch < 0) {
            s->batch = l->next.batch;
            begin_batch(l, s);
        }
        if (s->batch == l->next.batch) break;
        const double begin_s = dt_trace_begin();
        pthread_cond_wait(&l->work, &l->mutex);
        dt_trace_end(begin_s, "wait for a free slot", l->next.batch);
    }
    int64_t rows = batch_rows(l, l->next.batch);
    *out = l->next;
    out->row1 = dt_min_i64(out->row0 + l->ticket_rows, rows);
    l->next.row0 = out->row1;
    if (out->row1 == rows) l->next = (ticket){.batch = out->batch + 1};
    return true;
}

/* The last field is the loader's own. */
static int32_t *valid_of(const dt_loader *l, uint8_t *memory) {
    return (int32_t *)(void *)(memory + l->offset[l->plan.n_field - 1]);
}

static void fill_empty(const dt_loader *l, const dt_row *row) {
    if (l->row->empty)
        l->row->empty(l->plan.state, row);
    else
        for (int32_t i = 0; i < l->plan.n_field - 1; i++)
            memset(row->data[i], 0, (size_t)dt_field_bytes(&l->plan.field[i]));
}

static dt_status fill_row(dt_loader *l, void *reader, uint8_t *memory, int64_t batch, int64_t row) {
    dt_row to = {.beside = memory + l->beside_offset, .index = row};
    for (int32_t i = 0; i < l->plan.n_field; i++)
        to.data[i] = memory + l->offset[i] + row * dt_field_bytes(&l->plan.field[i]);
    uint64_t epoch;
    const int64_t sample = sample_of(l, batch, row, &epoch, &to.repeat);
    if (!l->o.eval) to.step = (uint64_t)(l->o.first_step + batch / l->n_micro);
    if (l->plan.pairs) {
        uint64_t ignored[2];
        to.partner = batch_rows(l, batch) - 1 - row;
        to.partner_sample = sample_of(l, batch, to.partner, &ignored[0], &ignored[1]);
    }
    char *error = l->o.forgiving ? (char *)memory + l->error_offset + row * DT_ROW_ERROR_BYTES : NULL;
    const dt_status status = sample >= 0 ? l->row->fetch(reader, epoch, sample, &to) : DT_OK;
    const bool failed = status == DT_ERR_DATA && error;
    if (error) snprintf(error, DT_ROW_ERROR_BYTES, "%s", failed ? dt_error_text() : "");
    if (sample < 0 || failed) fill_empty(l, &to);
    valid_of(l, memory)[row] = sample >= 0 && !failed;
    return failed ? DT_OK : status;
}

static void *work(void *arg) {
    dt_loader *l = arg;
    void *reader = l->plan.state;
    ticket t;
    dt_trace_attach(l->trace, "loader");
    dt_status created = DT_OK;
    if (l->row->reader_new) created = l->row->reader_new(l->plan.state, &reader);
    pthread_mutex_lock(&l->mutex);
    while (take_ticket(l, &t)) {
        slot *s = slot_of(l, t.batch);
        uint8_t *memory = s->memory;
        pthread_mutex_unlock(&l->mutex);
        dt_status status = created;
        int64_t row = t.row0;
        const double begin_s = dt_trace_begin();
        while (status == DT_OK && row < t.row1 && !atomic_load_explicit(&l->stop, memory_order_relaxed)) {
            status = fill_row(l, reader, memory, t.batch, row);
            if (status == DT_OK) row++;
        }
        dt_trace_end(begin_s, "fill batch", t.batch);
        pthread_mutex_lock(&l->mutex);
        if (status != DT_OK && (s->error_row < 0 || row < s->error_row)) {
            s->error_row = row;
            s->status = status;
            snprintf(s->error, sizeof s->error, "%s", dt_error_text());
        }
        s->rows_left -= t.row1 - t.row0;
        if (s->rows_left == 0) pthread_cond_broadcast(&l->filled);
    }
    pthread_mutex_unlock(&l->mutex);
    if (l->row->reader_new) l->row->reader_free(reader);
    return NULL;
}

/* ---- opening and closing ---- */

static dt_status check_options(const dt_loader_options *o) {
    if (o->world < 1 || o->rank < 0 || o->rank >= o->world || o->threads < 1 || o->n_slots < 2)
        return dt_fail(DT_ERR_INTERNAL, "loader: rank, world, threads or slots out of range");
    if (o->eval && o->batch < 1) return dt_fail(DT_ERR_CONFIG, "loader: the evaluation batch is empty");
    if (!o->eval && (o->n_micro_all < o->world || o->global_batch < o->n_micro_all || o->first_step < 0))
        return dt_fail(DT_ERR_CONFIG,
                       "train.global_batch = %lld cannot be dealt to %lld micro-batches on %d ranks: each "
                       "needs a sample",
                       (long long)o->global_batch, (long long)o->n_micro_all, o->world);
    if ((o->forgiving || o->whole_batches) && !o->eval)
        return dt_fail(DT_ERR_INTERNAL, "loader: only evaluation forgives, or deals whole batches");
    return DT_OK;
}

dt_status dt_loader_check(const dt_loader_options *o) {
    DT_TRY(check_options(o));
    return o->dataset->row->check ? o->dataset->row->check(o) : DT_OK;
}

static void plan_batches(dt_loader *l) {
    const dt_loader_options *o = &l->o;
    if (o->eval) {
        /* Of any rank: all run as many batches. */
        const int64_t all = (l->n_samples + o->batch - 1) / o->batch;
        const int64_t most = (l->n_samples + o->world - 1) / o->world;
        l->n_batches = o->whole_batches ? (all + o->world - 1) / o->world : (most + o->batch - 1) / o->batch;
        l->max_rows = o->batch;
    } else {
        l->n_micro = (o->n_micro_all - o->rank + o->world - 1) / o->world;
        l->n_batches = o->n_steps < 0 ? -1 : o->n_steps * l->n_micro;
        l->max_rows = dt_loader_rows(o, 0);
    }
    int64_t share = (int64_t)o->threads * TICKETS_PER_THREAD;
    l->ticket_rows = dt_max_i64(1, l->max_rows / share);
}

/* Lays a slot out; "valid", which says whether a row holds a sample, comes last. */
static dt_status place_fields(dt_loader *l) {
    dt_loader_plan *p = &l->plan;
    DT_TRY(l->row->plan(&l->o, l->max_rows, p));
    DT_ASSERT(p->n_field < DT_FIELDS_MAX);
    p->field[p->n_field++] = (dt_field){.name = "valid", .dtype = DT_DTYPE_I32};
    for (int32_t i = 0; i < p->n_field; i++) {
        int64_t bytes;
        if (__builtin_mul_overflow(dt_field_bytes(&p->field[i]), l->max_rows, &bytes) ||
            bytes > INT64_MAX / 4 || l->max_rows > INT32_MAX)
            return dt_fail(DT_ERR_CONFIG, "loader: a batch of %lld rows is too large",
                           (long long)l->max_rows);
        l->offset[i] = l->slot_bytes;
        l->slot_bytes += dt_round_up(bytes, 64);
    }
    l->beside_offset = dt_round_up(l->slot_bytes, SLOT_ALIGN_BYTES);
    l->error_offset = l->beside_offset + dt_round_up(p->beside_bytes, SLOT_ALIGN_BYTES);
    l->slot_bytes = l->error_offset;
    if (l->o.forgiving) l->slot_bytes += dt_round_up(l->max_rows * DT_ROW_ERROR_BYTES, SLOT_ALIGN_BYTES);
    return DT_OK;
}

static dt_status allocate_slots(dt_loader *l) {
    DT_TRY(place_fields(l));
    l->slots = calloc((size_t)l->o.n_slots, sizeof *l->slots);
    if (!l->slots) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    for (int32_t i = 0; i < l->o.n_slots; i++) {
        l->slots[i].batch = -1;
        void *memory = NULL;
        if (l->o.alloc)
            DT_TRY(l->o.alloc(l->o.alloc_arg, l->slot_bytes, &memory));
        else
            memory = aligned_alloc(SLOT_ALIGN_BYTES, (size_t)l->slot_bytes);
        if (!memory)
            return dt_fail(DT_ERR_MEMORY, "loader: out of memory for %d slots of %lld bytes", l->o.n_slots,
                           (long long)l->slot_bytes);
        l->slots[i].memory = memory;
    }
    return DT_OK;
}

static dt_status start_threads(dt_loader *l) {
    sigset_t all, before;
    l->threads = calloc((size_t)l->o.threads, sizeof *l->threads);
    if (!l->threads) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    /* Signals are for the main thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (l->n_started < l->o.threads && error == 0) {
        error = pthread_create(&l->threads[l->n_started], NULL, work, l);
        if (error == 0) l->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) return dt_fail(DT_ERR_MEMORY, "loader: cannot start a thread: %s", strerror(error));
    return DT_OK;
}

static dt_status alloc_pinned(void *arg, int64_t bytes, void **out) {
    dt_backend *be = arg;
    return be->alloc(be, DT_MEM_HOST, bytes, out);
}

static void free_pinned(void *arg, void *ptr) {
    dt_backend *be = arg;
    be->free(be, DT_MEM_HOST, ptr);
}

void dt_loader_pin(dt_loader_options *o, dt_backend *be) {
    o->alloc = alloc_pinned;
    o->free = free_pinned;
    o->alloc_arg = be;
}

dt_status dt_loader_open(const dt_loader_options *o, dt_loader **out) {
    *out = NULL;
    dt_loader *l = calloc(1, sizeof *l);
    if (!l) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    dt_status status = DT_OK;
    l->o = *o;
    l->trace = dt_trace_current();
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->filled, NULL);
    l->row = o->dataset->row;
    l->n_samples = o->dataset->info.n_samples;
    DT_TRY_GOTO(status, dt_loader_check(o), done);
    plan_batches(l);
    DT_TRY_GOTO(status, allocate_slots(l), done);
    DT_TRY_GOTO(status, start_threads(l), done);
done:
    if (status != DT_OK) {
        dt_loader_close(l);
        return status;
    }
    *out = l;
    return DT_OK;
}

void dt_loader_close(dt_loader *l) {
    if (!l) return;
    pthread_mutex_lock(&l->mutex);
    atomic_store(&l->stop, true);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (int32_t i = 0; i < l->n_started; i++) pthread_join(l->threads[i], NULL);
    for (int32_t i = 0; l->slots && i < l->o.n_slots; i++) {
        if (l->o.alloc && l->slots[i].memory)
            l->o.free(l->o.alloc_arg, l->slots[i].memory);
        else
            free(l->slots[i].memory);
    }
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->filled);
    pthread_mutex_destroy(&l->mutex);
    free(l->threads);
    free(l->slots);
    free(l->plan.state);
    free(l);
}

/* ---- the consumer ---- */

static void describe(const dt_loader *l, const slot *s, dt_batch *out) {
    int64_t batch = s->batch, rows = batch_rows(l, batch);
    *out = (dt_batch){.field = l->plan.field,
                      .n_field = l->plan.n_field,
                      .rows = rows,
                      .n_valid = rows,
                      .slot = (int32_t)(batch % l->o.n_slots)};
    for (int32_t i = 0; i < l->plan.n_field; i++) out->data[i] = s->memory + l->offset[i];
    if (l->plan.beside_bytes > 0) out->beside = s->memory + l->beside_offset;
    if (l->o.forgiving) out->error = (const char *)(s->memory + l->error_offset);
    if (l->o.eval) {
        int64_t own = (l->n_samples - l->o.rank + l->o.world - 1) / l->o.world;
        int64_t left = own - batch * rows;
        if (l->o.whole_batches) left = l->n_samples - (batch * l->o.world + l->o.rank) * rows;
        out->n_valid = dt_min_i64(dt_max_i64(left, 0), rows);
        out->last = batch == l->n_batches - 1;
        return;
    }
    out->step = l->o.first_step + batch / l->n_micro;
    out->micro = l->o.rank + batch % l->n_micro * l->o.world;
}

void *dt_batch_field(const dt_batch *b, const char *name) {
    for (int32_t i = 0; i < b->n_field; i++)
        if (strcmp(b->field[i].name, name) == 0) return b->data[i];
    return NULL;
}

dt_status dt_loader_next(dt_loader *l, dt_batch *out, double *wait_s) {
    double t = dt_time_s();
    dt_status status = DT_OK;
    pthread_mutex_lock(&l->mutex);
    if (l->n_batches >= 0 && l->next_delivery >= l->n_batches)
        status = dt_fail(DT_ERR_INTERNAL, "loader: no batch follows the last one");
    else {
        slot *s = slot_of(l, l->next_delivery);
        if (s->batch >= 0 && s->batch < l->next_delivery)
            status = dt_fail(DT_ERR_INTERNAL, "loader: all slots are held by the consumer");
        while (status == DT_OK && (s->batch != l->next_delivery || s->rows_left > 0))
            pthread_cond_wait(&l->filled, &l->mutex);
        if (status == DT_OK && s->status != DT_OK) {
            dt_error_set_text(s->error);
            status = s->status;
        }
        if (status == DT_OK) {
            describe(l, s, out);
            l->next_delivery++;
        }
    }
    pthread_mutex_unlock(&l->mutex);
    if (wait_s) *wait_s = dt_time_s() - t;
    return status;
}

void dt_loader_release(dt_loader *l, const dt_batch *b) {
    pthread_mutex_lock(&l->mutex);
    l->slots[b->slot].batch = -1;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
}
