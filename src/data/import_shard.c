/* Loading and writing one shard. Samples are handed to threads one at a time and put at the place of their
 * number, and the sums for mean and deviation are integers, so the bytes do not depend on the number of
 * threads. */
#include "import_shard.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shard.h"

enum {
    STATS_EVERY = 8, /* JPEG shards: the first image and every eighth of the source are decoded at full size
                      * for mean and deviation */
    PROGRESS_MS = 100,
    ERROR_TEXT_BYTES = 1024,
};

typedef struct build {
    const dt_shard_job *job;
    int64_t n, raw_bytes; /* samples; bytes of a raw one */
    uint8_t *raw;         /* [n * raw_bytes] */
    uint8_t **jpeg;       /* [n] */
    int64_t *jpeg_bytes;  /* [n] */
    int32_t *label, *height, *width;
    bool *skipped;
    int64_t sum[DT_CHANNELS_MAX], sum_sq[DT_CHANNELS_MAX], stats_pixels;
    pthread_mutex_t mutex;
    pthread_cond_t changed, told;
    int64_t next, done, n_skipped, n_tilted;
    int32_t n_running;
    bool stop;
    int64_t error_sample; /* lowest that failed; -1: none */
    dt_status status;
    char error[ERROR_TEXT_BYTES];
    char note[ERROR_TEXT_BYTES]; /* of a sample that was skipped; "" when told */
} build;

typedef struct sums {
    int64_t sum[DT_CHANNELS_MAX], sum_sq[DT_CHANNELS_MAX], pixels;
    int64_t n_tilted;
} sums;

static void add_pixels(sums *s, const uint8_t *pixel, int64_t n_pixels, int64_t channels) {
    for (int64_t c = 0; c < channels; c++) {
        uint64_t sum = 0, sum_sq = 0;
        for (int64_t i = c; i < n_pixels * channels; i += channels) {
            sum += pixel[i];
            sum_sq += (uint64_t)pixel[i] * pixel[i];
        }
        s->sum[c] += (int64_t)sum;
        s->sum_sq[c] += (int64_t)sum_sq;
    }
    s->pixels += n_pixels;
}

/* Raw: copies the pixels to their place. */
static dt_status take_raw(build *b, int64_t i, const dt_item *item, sums *s) {
    const dt_source *source = b->job->source;
    if (item->height != source->height || item->width != source->width)
        return dt_fail(
            DT_ERR_USAGE,
            "%d x %d pixels, others %lld x %lld: raw shards hold one size (resize to a square, or keep JPEG)",
            item->height, item->width, (long long)source->height, (long long)source->width);
    memcpy(b->raw + i * b->raw_bytes, item->pixel, (size_t)b->raw_bytes);
    add_pixels(s, item->pixel, source->height * source->width, source->channels);
    return DT_OK;
}

static int32_t quality_of(const dt_import_options *o) {
    return o->jpeg_quality ? o->jpeg_quality : DT_IMPORT_QUALITY;
}

/* JPEG: encodes, or checks that all of the file can be decoded. */
static dt_status take_jpeg(build *b, dt_jpeg *decoder, int64_t i, dt_item *item, sums *s) {
    const dt_source *source = b->job->source;
    const dt_import_options *o = b->job->o;
    int64_t channels = source->channels;
    bool measured = (b->job->begin + i) % STATS_EVERY == 0 || i == 0;
    if (item->pixel) {
        DT_TRY(dt_jpeg_encode(item->pixel, item->height, item->width, channels, quality_of(o), &b->jpeg[i],
                              &b->jpeg_bytes[i]));
        if (measured) add_pixels(s, item->pixel, (int64_t)item->height * item->width, channels);
        return DT_OK;
    }
    int32_t h, w;
    dt_jpeg_part part;
    DT_TRY(dt_jpeg_begin(decoder, item->jpeg, item->n_jpeg_bytes, &h, &w));
    DT_TRY(dt_jpeg_decode(decoder, 0, 0, w, h, measured ? w : 1, measured ? h : 1, channels, &part));
    if (dt_jpeg_damaged(decoder)) return dt_fail(DT_ERR_DATA, "the JPEG data is damaged or cut short");
    if (measured) add_pixels(s, part.pixel, (int64_t)part.h * part.w, channels);
    b->jpeg[i] = item->owned;
    b->jpeg_bytes[i] = item->n_jpeg_bytes;
    item->owned = NULL;
    return DT_OK;
}

/* Puts the sample's file in front of the error, or its number where samples share files. */
static void name_sample(const dt_source *source, int64_t sample) {
    char *path = source->path ? source->path(source->state, sample) : NULL;
    if (path)
        dt_error_context("%s", path);
    else
        dt_error_context("sample %lld", (long long)sample);
    free(path);
}

/* Sample i of the shard, as the source counts. */
static int64_t source_sample(const dt_shard_job *job, int64_t i) {
    return job->sample ? job->sample[job->begin + i] : job->begin + i;
}

static dt_status take(build *b, dt_jpeg *decoder, int64_t i, sums *s) {
    dt_item item = {0};
    const dt_source *source = b->job->source;
    const int64_t sample = source_sample(b->job, i);
    DT_TRY(source->load(source->state, decoder, sample, &item));
    dt_status status =
        b->job->o->store == DT_STORE_RAW ? take_raw(b, i, &item, s) : take_jpeg(b, decoder, i, &item, s);
    if (status != DT_OK) name_sample(source, sample); /* load has done so itself */
    s->n_tilted += status == DT_OK && item.tilted;
    b->label[i] = b->job->label_map ? b->job->label_map[item.label] : item.label;
    b->height[i] = item.height;
    b->width[i] = item.width;
    free(item.owned);
    return status;
}

/* Under the mutex. */
static void record(build *b, int64_t i, dt_status status) {
    if (status == DT_ERR_DATA && b->job->o->skip_broken) {
        b->skipped[i] = true;
        b->n_skipped++;
        while (b->note[0]) pthread_cond_wait(&b->told, &b->mutex);
        snprintf(b->note, sizeof b->note, "skipped: %s", dt_error_text());
        pthread_cond_signal(&b->changed);
    } else if (b->error_sample < 0 || i < b->error_sample) {
        b->error_sample = i;
        b->status = status;
        snprintf(b->error, sizeof b->error, "%s", dt_error_text());
        b->stop = true;
    }
}

static void *work(void *arg) {
    build *b = arg;
    sums s = {0};
    dt_jpeg *decoder = NULL;
    dt_status created = dt_jpeg_new(&decoder);
    pthread_mutex_lock(&b->mutex);
    while (!b->stop && b->next < b->n) {
        int64_t i = b->next++;
        pthread_mutex_unlock(&b->mutex);
        dt_status status = created == DT_OK ? take(b, decoder, i, &s) : created;
        pthread_mutex_lock(&b->mutex);
        if (status != DT_OK) record(b, i, status);
        b->done++;
    }
    for (int c = 0; c < DT_CHANNELS_MAX; c++) {
        b->sum[c] += s.sum[c];
        b->sum_sq[c] += s.sum_sq[c];
    }
    b->stats_pixels += s.pixels;
    b->n_tilted += s.n_tilted;
    b->n_running--;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    dt_jpeg_free(decoder);
    return NULL;
}

/* Tells of progress until the threads are through. Under the mutex; not while calling out. */
static void watch(build *b) {
    const dt_import_options *o = b->job->o;
    while (b->n_running > 0 || b->note[0]) {
        if (!b->note[0]) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += PROGRESS_MS * 1000000L;
            until.tv_sec += until.tv_nsec / 1000000000L;
            until.tv_nsec %= 1000000000L;
            pthread_cond_timedwait(&b->changed, &b->mutex, &until);
        }
        char note[ERROR_TEXT_BYTES];
        memcpy(note, b->note, sizeof note);
        b->note[0] = 0;
        pthread_cond_broadcast(&b->told);
        int64_t done = b->job->before + b->job->begin + b->done;
        pthread_mutex_unlock(&b->mutex);
        if (note[0] && o->note) o->note(o->arg, note);
        /* The end of the shard is told by the caller, when it is on disk. */
        bool over = done == b->job->before + b->job->end;
        bool go_on = over || !o->progress || o->progress(o->arg, done, b->job->source->n_samples);
        pthread_mutex_lock(&b->mutex);
        if (go_on || b->stop) continue;
        b->stop = true;
        b->error_sample = 0;
        b->status = DT_STOPPED;
        snprintf(b->error, sizeof b->error, "import interrupted; run it again to go on");
    }
}

static dt_status load_all(build *b) {
    sigset_t all, before;
    int32_t n = (int32_t)dt_min_i64(b->job->threads, b->n);
    pthread_t *thread = calloc((size_t)n, sizeof *thread);
    if (!thread) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    int error = 0;
    int32_t started = 0;
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&b->mutex);
    for (; started < n && error == 0; started++) {
        error = pthread_create(&thread[started], NULL, work, b);
        if (error) break;
        b->n_running++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) b->stop = true;
    watch(b);
    pthread_mutex_unlock(&b->mutex);
    for (int32_t i = 0; i < started; i++) pthread_join(thread[i], NULL);
    free(thread);
    if (error) return dt_fail(DT_ERR_MEMORY, "import: cannot start a thread: %s", strerror(error));
    if (b->status != DT_OK) dt_error_set_text(b->error);
    return b->status;
}

/* Closes the gaps of skipped samples; the number of those left. */
static int64_t close_gaps(build *b) {
    int64_t n = 0;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->skipped[i]) continue;
        if (n != i) {
            b->label[n] = b->label[i];
            b->height[n] = b->height[i];
            b->width[n] = b->width[i];
            if (b->raw) memmove(b->raw + n * b->raw_bytes, b->raw + i * b->raw_bytes, (size_t)b->raw_bytes);
            if (b->jpeg) {
                b->jpeg[n] = b->jpeg[i];
                b->jpeg[i] = NULL;
                b->jpeg_bytes[n] = b->jpeg_bytes[i];
            }
        }
        n++;
    }
    return n;
}

/* Packs the JPEG files into one pool and frees them one by one. */
static dt_status pack(build *b, int64_t n, uint8_t **pool, int64_t **offset) {
    int64_t at = 0, total = 0;
    for (int64_t i = 0; i < n; i++) total += b->jpeg_bytes[i];
    *pool = malloc((size_t)total);
    *offset = malloc((size_t)(n + 1) * sizeof **offset);
    if (!*pool || !*offset)
        return dt_fail(DT_ERR_MEMORY, "import: out of memory for a shard (give a smaller size)");
    for (int64_t i = 0; i < n; i++) {
        (*offset)[i] = at;
        memcpy(*pool + at, b->jpeg[i], (size_t)b->jpeg_bytes[i]);
        at += b->jpeg_bytes[i];
        free(b->jpeg[i]);
        b->jpeg[i] = NULL;
    }
    (*offset)[n] = at;
    return DT_OK;
}

/* The first JPEG file that is left, where all that should have been measured were broken: a shard without
 * statistics would leave its set without. */
static dt_status measure_first(build *b) {
    sums s = {0};
    int32_t h, w;
    dt_jpeg_part part;
    dt_jpeg *decoder;
    int64_t channels = b->job->source->channels;
    DT_TRY(dt_jpeg_new(&decoder));
    dt_status status = dt_jpeg_begin(decoder, b->jpeg[0], b->jpeg_bytes[0], &h, &w);
    if (status == DT_OK) status = dt_jpeg_decode(decoder, 0, 0, w, h, w, h, channels, &part);
    if (status == DT_OK) {
        add_pixels(&s, part.pixel, (int64_t)part.h * part.w, channels);
        memcpy(b->sum, s.sum, sizeof b->sum);
        memcpy(b->sum_sq, s.sum_sq, sizeof b->sum_sq);
        b->stats_pixels = s.pixels;
    }
    dt_jpeg_free(decoder);
    return status;
}

static dt_status write_shard(build *b) {
    const dt_shard_job *job = b->job;
    uint8_t *pool = NULL;
    int64_t *offset = NULL;
    int64_t n = close_gaps(b);
    if (n == 0)
        return dt_fail(DT_ERR_DATA,
                       "%s/%s: every sample of this shard is broken: larger shards (--shard-mib) hold good "
                       "ones too",
                       job->dir, job->name);
    dt_status status = DT_OK;
    if (b->jpeg && b->stats_pixels == 0) DT_TRY_GOTO(status, measure_first(b), done);
    if (b->jpeg) DT_TRY_GOTO(status, pack(b, n, &pool, &offset), done);
    dt_shard_content content = {.jpeg = b->jpeg != NULL,
                                .n_samples = n,
                                .n_skipped = b->n_skipped,
                                .n_classes = job->n_classes,
                                .height = job->source->height,
                                .width = job->source->width,
                                .channels = job->source->channels,
                                .bytes = b->jpeg ? pool : b->raw,
                                .offset = offset,
                                .jpeg_height = b->height,
                                .jpeg_width = b->width,
                                .label = b->label,
                                .split = job->split,
                                .class_names = job->class_names,
                                .source = job->origin,
                                .recipe = {.resize = job->o->resize,
                                           .square = job->o->square,
                                           .exif_rotate = job->o->exif_rotate,
                                           .quality = b->jpeg ? quality_of(job->o) : 0},
                                .stats_pixels = b->stats_pixels,
                                .sum = b->sum,
                                .sum_sq = b->sum_sq};
    status = dt_shard_write(job->dir, job->name, &content);
done:
    free(pool);
    free(offset);
    return status;
}

static dt_status allocate(build *b) {
    size_t n = (size_t)b->n;
    b->label = calloc(n, sizeof *b->label);
    b->height = calloc(n, sizeof *b->height);
    b->width = calloc(n, sizeof *b->width);
    b->skipped = calloc(n, sizeof *b->skipped);
    bool ok = b->label && b->height && b->width && b->skipped;
    if (b->job->o->store == DT_STORE_RAW) {
        b->raw_bytes = b->job->source->height * b->job->source->width * b->job->source->channels;
        b->raw = malloc(n * (size_t)b->raw_bytes);
        ok = ok && b->raw;
    } else {
        b->jpeg = calloc(n, sizeof *b->jpeg);
        b->jpeg_bytes = calloc(n, sizeof *b->jpeg_bytes);
        ok = ok && b->jpeg && b->jpeg_bytes;
    }
    return ok ? DT_OK
              : dt_fail(DT_ERR_MEMORY, "import: out of memory for a shard of %lld samples", (long long)b->n);
}

dt_status dt_import_shard(const dt_shard_job *job, int64_t *n_tilted) {
    build b = {.job = job, .n = job->end - job->begin, .error_sample = -1};
    pthread_mutex_init(&b.mutex, NULL);
    pthread_cond_init(&b.changed, NULL);
    pthread_cond_init(&b.told, NULL);
    dt_status status = allocate(&b);
    if (status == DT_OK) status = load_all(&b);
    if (status == DT_OK) status = write_shard(&b);
    *n_tilted = b.n_tilted;
    for (int64_t i = 0; b.jpeg && i < b.n; i++) free(b.jpeg[i]);
    free(b.jpeg);
    free(b.jpeg_bytes);
    free(b.raw);
    free(b.label);
    free(b.height);
    free(b.width);
    free(b.skipped);
    pthread_cond_destroy(&b.changed);
    pthread_cond_destroy(&b.told);
    pthread_mutex_destroy(&b.mutex);
    return status;
}
