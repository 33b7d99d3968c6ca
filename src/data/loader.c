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
#include "fetch.h"

enum {
    TICKETS_PER_THREAD = 4, /* of one batch: evens out slow samples */
    SLOT_ALIGN_BYTES = 4096,
    ERROR_TEXT_BYTES = 1024,
};

/* Fields of images. */
enum { IMAGE, LABEL, AUG };

typedef struct slot {
    uint8_t *memory; /* the fields, jpeg, bytes, error */
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
    dt_dataset_info info;
    dt_fetch_options fetch;
    int64_t n_micro;   /* train: micro-batches of this rank */
    int64_t n_batches; /* -1: without end */
    int64_t max_rows, ticket_rows;
    dt_field field[DT_FIELDS_MAX];
    int64_t offset[DT_FIELDS_MAX]; /* of each field in a slot */
    int32_t n_field;
    int64_t jpeg_offset, bytes_offset, error_offset, slot_bytes;
    dt_jpeg_limits jpeg; /* compressed */
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
static int64_t sample_of(const dt_loader *l, int64_t batch, int64_t row, uint64_t *epoch) {
    int64_t n = l->info.n_samples;
    *epoch = 0;
    if (l->o.eval) {
        int64_t i = l->o.whole_batches ? (batch * l->o.world + l->o.rank) * l->o.batch + row
                                       : (batch * l->o.batch + row) * l->o.world + l->o.rank;
        return i < n ? i : -1;
    }
    int64_t step = l->o.first_step + batch / l->n_micro;
    int64_t m = l->o.rank + batch % l->n_micro * l->o.world;
    int64_t t = step * l->o.global_batch + m + row * l->o.n_micro_all;
    *epoch = (uint64_t)(t / n);
    return (int64_t)dt_order_sample(l->o.seed, (uint64_t)n, (uint64_t)t);
}

/* ---- workers ---- */

static slot *slot_of(dt_loader *l, int64_t batch) {
    return &l->slots[batch % l->o.n_slots];
}

static dt_jpeg_row *jpeg_rows(const dt_loader *l, const slot *s) {
    return l->o.compressed ? (dt_jpeg_row *)(void *)(s->memory + l->jpeg_offset) : NULL;
}

/* Places for the files of a batch, in the order of rows: who reads first must not decide what fits. */
static void place_files(const dt_loader *l, const slot *s) {
    dt_jpeg_row *row = jpeg_rows(l, s);
    int64_t file_bytes = 0, pixel_bytes = 0, rows = batch_rows(l, s->batch);
    for (int64_t i = 0; row && i < rows; i++) {
        dt_sample sample;
        uint64_t epoch;
        int64_t index = sample_of(l, s->batch, i, &epoch);
        row[i] = (dt_jpeg_row){.offset = file_bytes};
        if (index < 0) continue;
        dt_dataset_locate(l->o.dataset, index, &sample);
        int64_t pixels = dt_jpeg_decoded_bytes(sample.height, sample.width, l->info.channels);
        if (sample.n_bytes > l->jpeg.file_bytes - file_bytes || pixels > l->jpeg.pixel_bytes - pixel_bytes)
            continue;
        row[i].n_bytes = sample.n_bytes;
        file_bytes += sample.n_bytes;
        pixel_bytes += pixels;
    }
}

/* Waits for a ticket; false when the loader stops or there is nothing left. Under the mutex. */
static bool take_ticket(dt_loader *l, ticket *out) {
    for (;;) {
        if (atomic_load(&l->stop) || (l->n_batches >= 0 && l->next.batch >= l->n_batches)) return false;
        slot *s = slot_of(l, l->next.batch);
        if (s->batch < 0) {
            s->batch = l->next.batch;
            s->rows_left = batch_rows(l, l->next.batch);
            s->error_row = -1;
            s->status = DT_OK;
            place_files(l, s);
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

/* NULL where there is no such field. */
static void *row_of(const dt_loader *l, uint8_t *memory, int32_t field, int64_t row) {
    if (field >= l->n_field) return NULL;
    return memory + l->offset[field] + row * dt_field_bytes(&l->field[field]);
}

/* A row without a sample: black, and of no class. It has a window too, so that a device need not look at
 * labels. */
static void fill_empty(const dt_loader *l, uint8_t *image, int32_t *label, int32_t *aug) {
    memset(image, 0, (size_t)dt_field_bytes(&l->field[IMAGE]));
    *label = -1;
    const int32_t numbers[8] = {0, 0, (int32_t)l->info.width, (int32_t)l->info.height, 0, 0, 0, 0};
    if (aug) memcpy(aug, numbers, sizeof numbers);
}

static dt_status fill_row(dt_loader *l, dt_fetcher *f, uint8_t *memory, int64_t batch, int64_t row) {
    uint8_t *image = row_of(l, memory, IMAGE, row);
    int32_t *label = row_of(l, memory, LABEL, row), *aug = row_of(l, memory, AUG, row);
    uint64_t epoch;
    int64_t sample = sample_of(l, batch, row, &epoch);
    if (sample >= 0 && l->o.compressed) {
        dt_jpeg_row *jpeg = (dt_jpeg_row *)(void *)(memory + l->jpeg_offset) + row;
        return dt_fetch_file(f, epoch, sample, image, label, memory + l->bytes_offset + jpeg->offset, jpeg);
    }
    char *error = l->o.forgiving ? (char *)memory + l->error_offset + row * DT_ROW_ERROR_BYTES : NULL;
    dt_status status = sample >= 0 ? dt_fetch(f, epoch, sample, image, label, aug) : DT_OK;
    const bool failed = status == DT_ERR_DATA && error;
    if (error) snprintf(error, DT_ROW_ERROR_BYTES, "%s", failed ? dt_error_text() : "");
    if (sample < 0 || failed) fill_empty(l, image, label, aug);
    return failed ? DT_OK : status;
}

static void *work(void *arg) {
    dt_loader *l = arg;
    dt_fetcher *f = NULL;
    ticket t;
    dt_trace_attach(l->trace, "loader");
    dt_status created = dt_fetcher_new(&l->fetch, &f);
    pthread_mutex_lock(&l->mutex);
    while (take_ticket(l, &t)) {
        slot *s = slot_of(l, t.batch);
        uint8_t *memory = s->memory;
        pthread_mutex_unlock(&l->mutex);
        dt_status status = created;
        int64_t row = t.row0;
        const double begin_s = dt_trace_begin();
        while (status == DT_OK && row < t.row1 && !atomic_load_explicit(&l->stop, memory_order_relaxed)) {
            status = fill_row(l, f, memory, t.batch, row);
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
    dt_fetcher_free(f);
    return NULL;
}

/* ---- opening and closing ---- */

static dt_status check_options(const dt_loader_options *o, const dt_dataset_info *info) {
    if (o->world < 1 || o->rank < 0 || o->rank >= o->world || o->threads < 1 || o->n_slots < 2)
        return dt_fail(DT_ERR_INTERNAL, "loader: rank, world, threads or slots out of range");
    if (o->out_h < 1 || o->out_w < 1 || o->out_h > DT_SIDE_MAX || o->out_w > DT_SIDE_MAX)
        return dt_fail(DT_ERR_CONFIG, "loader: image size %lld x %lld out of range", (long long)o->out_h,
                       (long long)o->out_w);
    if (o->eval && o->batch < 1) return dt_fail(DT_ERR_CONFIG, "loader: the evaluation batch is empty");
    if (!o->eval && (o->n_micro_all < o->world || o->global_batch < o->n_micro_all || o->first_step < 0))
        return dt_fail(DT_ERR_CONFIG,
                       "train.global_batch = %lld cannot be dealt to %lld micro-batches on %d ranks: each "
                       "needs a sample",
                       (long long)o->global_batch, (long long)o->n_micro_all, o->world);
    if ((o->forgiving || o->whole_batches) && (!o->eval || o->compressed))
        return dt_fail(DT_ERR_INTERNAL, "loader: only evaluation from the host's decoder forgives");
    if (o->source_crop && info->jpeg)
        return dt_fail(DT_ERR_INTERNAL, "loader: JPEG data cannot be cropped on the device");
    if (o->compressed && !info->jpeg)
        return dt_fail(DT_ERR_INTERNAL, "loader: only JPEG data can be delivered compressed");
    if (o->source_crop && (o->out_h != info->height || o->out_w != info->width))
        return dt_fail(DT_ERR_INTERNAL, "loader: source_crop delivers the stored size");
    return DT_OK;
}

static dt_status check_augment(const dt_augment *a, const dt_dataset_info *info, bool source_crop) {
    if (a->crop != DT_CROP_PAD && !(a->padded && info->jpeg)) return DT_OK;
    if (source_crop)
        return dt_fail(DT_ERR_INTERNAL, "loader: pad crops leave the image, a device cannot make them");
    if (info->jpeg)
        return dt_fail(DT_ERR_CONFIG,
                       "augment.crop = \"pad\" needs images of one size (raw shards); these are JPEG");
    if (a->pad < 0 || info->height + 2 * a->pad < a->out_h || info->width + 2 * a->pad < a->out_w)
        return dt_fail(DT_ERR_CONFIG,
                       "augment.pad = %lld: %lld x %lld images are too small for crops of %lld x %lld",
                       (long long)a->pad, (long long)info->height, (long long)info->width,
                       (long long)a->out_h, (long long)a->out_w);
    return DT_OK;
}

/* What is to be done with each sample. */
static dt_fetch_options fetch_options(const dt_loader_options *o) {
    /* With source_crop the device makes image_size out of the stored image. */
    const int64_t side = o->source_crop ? o->data->image_size : 0;
    dt_fetch_options f = {.dataset = o->dataset,
                          .source_crop = o->source_crop,
                          .verify = o->data->verify,
                          .simd = dt_simd_best()};
    dt_augment_init(&f.augment, o->augment, o->seed, o->eval, side ? side : o->out_h, side ? side : o->out_w);
    return f;
}

dt_status dt_loader_check(const dt_loader_options *o) {
    dt_dataset_info info;
    dt_dataset_info_get(o->dataset, &info);
    DT_TRY(check_options(o, &info));
    const dt_fetch_options f = fetch_options(o);
    return check_augment(&f.augment, &info, o->source_crop);
}

static void plan_batches(dt_loader *l) {
    const dt_loader_options *o = &l->o;
    if (o->eval) {
        /* Of any rank: all run as many batches. */
        const int64_t all = (l->info.n_samples + o->batch - 1) / o->batch;
        const int64_t most = (l->info.n_samples + o->world - 1) / o->world;
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

/* For `rows` files: a quarter more than average, and room for a few large ones where there are few rows. */
static int64_t capacity(int64_t rows, int64_t mean, int64_t largest) {
    int64_t n = rows * mean;
    return dt_min_i64(n + n / 4 + dt_min_i64(largest, 4 * mean), rows * largest);
}

void dt_loader_jpeg_limits(const dt_dataset *d, int64_t rows, int64_t out_h, int64_t out_w,
                           dt_jpeg_limits *out) {
    int64_t file = 0, pixel = 0, largest_file = 0, largest_pixel = 0, n = d->info.n_samples;
    for (int64_t i = 0; i < d->n_shards; i++) {
        const dt_shard *s = &d->shard[i];
        for (int64_t k = 0; s->jpeg && k < s->n_samples; k++) {
            int64_t bytes = dt_shard_sample_bytes(s, k);
            int64_t pixels = dt_jpeg_decoded_bytes(s->jpeg_height[k], s->jpeg_width[k], s->channels);
            pixels =
                dt_min_i64(pixels, DT_SAMPLE_BYTES_MAX); /* as the header claims: larger ones are refused */
            file += bytes;
            pixel += pixels;
            largest_file = dt_max_i64(largest_file, bytes);
            largest_pixel = dt_max_i64(largest_pixel, pixels);
        }
    }
    *out = (dt_jpeg_limits){.rows = rows,
                            .out_h = out_h,
                            .out_w = out_w,
                            .channels = d->info.channels,
                            .file_bytes = capacity(rows, file / n + 1, largest_file),
                            .pixel_bytes = capacity(rows, pixel / n + 1, largest_pixel)};
}

static void place_jpeg(dt_loader *l) {
    const dt_loader_options *o = &l->o;
    l->jpeg_offset = l->slot_bytes;
    if (!o->compressed) return;
    int64_t rows = o->eval ? o->batch : (o->global_batch + o->n_micro_all - 1) / o->n_micro_all;
    dt_loader_jpeg_limits(o->dataset, rows, o->out_h, o->out_w, &l->jpeg);
    l->bytes_offset =
        l->jpeg_offset + dt_round_up((int64_t)sizeof(dt_jpeg_row) * l->max_rows, SLOT_ALIGN_BYTES);
    l->slot_bytes = l->bytes_offset + dt_round_up(l->jpeg.file_bytes, SLOT_ALIGN_BYTES);
}

static dt_status place_fields(dt_loader *l) {
    l->field[IMAGE] = (dt_field){"image", DT_DTYPE_U8, 3, {l->o.out_h, l->o.out_w, l->info.channels}};
    l->field[LABEL] = (dt_field){.name = "label", .dtype = DT_DTYPE_I32};
    l->field[AUG] = (dt_field){"aug", DT_DTYPE_I32, 1, {8}};
    l->n_field = l->o.source_crop ? AUG + 1 : LABEL + 1;
    for (int32_t i = 0; i < l->n_field; i++) {
        int64_t bytes;
        if (__builtin_mul_overflow(dt_field_bytes(&l->field[i]), l->max_rows, &bytes) ||
            bytes > INT64_MAX / 4 || l->max_rows > INT32_MAX)
            return dt_fail(DT_ERR_CONFIG, "loader: a batch of %lld rows is too large",
                           (long long)l->max_rows);
        l->offset[i] = l->slot_bytes;
        l->slot_bytes += dt_round_up(bytes, 64);
    }
    l->slot_bytes = dt_round_up(l->slot_bytes, SLOT_ALIGN_BYTES);
    return DT_OK;
}

static dt_status allocate_slots(dt_loader *l) {
    DT_TRY(place_fields(l));
    place_jpeg(l);
    l->error_offset = l->slot_bytes;
    if (l->o.forgiving) l->slot_bytes += dt_round_up(l->max_rows * DT_ROW_ERROR_BYTES, SLOT_ALIGN_BYTES);
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
    dt_dataset_info_get(o->dataset, &l->info);
    DT_TRY_GOTO(status, dt_loader_check(o), done);
    l->fetch = fetch_options(o);
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
    free(l);
}

/* ---- the consumer ---- */

static void describe(const dt_loader *l, const slot *s, dt_batch *out) {
    int64_t batch = s->batch, rows = batch_rows(l, batch);
    *out = (dt_batch){.field = l->field,
                      .n_field = l->n_field,
                      .rows = rows,
                      .n_valid = rows,
                      .slot = (int32_t)(batch % l->o.n_slots)};
    for (int32_t i = 0; i < l->n_field; i++) out->data[i] = s->memory + l->offset[i];
    if ((out->jpeg = jpeg_rows(l, s))) out->bytes = s->memory + l->bytes_offset;
    if (l->o.forgiving) out->error = (const char *)(s->memory + l->error_offset);
    if (l->o.eval) {
        int64_t own = (l->info.n_samples - l->o.rank + l->o.world - 1) / l->o.world;
        int64_t left = own - batch * rows;
        if (l->o.whole_batches) left = l->info.n_samples - (batch * l->o.world + l->o.rank) * rows;
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
