/* Blocks of text through threads: one reads and takes the results in their order, the others encode. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/cores.h"
#include "text_import.h"

enum { ERROR_TEXT_BYTES = 1024, THREADS_MAX = 256 };

typedef enum job_state { FREE = 0, FILLED, DONE } job_state;

typedef struct job {
    job_state state;
    dt_text_block block;
    dt_text_part_of part[2]; /* for training, for validation */
    int64_t n_skipped;
    dt_status status;
    char error[ERROR_TEXT_BYTES];
} job;

typedef struct crew {
    const dt_import_options *o;
    const dt_text_read_options *read;
    const dt_tokenizer *tokenizer;
    const dt_class_names *classes; /* NULL: none */
    dt_tokenizer_info info;
    pthread_mutex_t mutex;
    pthread_cond_t filled, done;
    job *job;             /* [n_jobs] a ring */
    int64_t n_jobs, next; /* next: to be encoded */
    int64_t n_filled, n_taken;
    bool stop;
} crew;

/* What a thread encodes with. */
typedef struct hand {
    const crew *crew;
    dt_coder *coder;
    dt_text_part_of *part; /* [2] of the job */
} hand;

static dt_status use(void *arg, const dt_text_document *d) {
    const hand *h = arg;
    const dt_class_names *classes = h->crew->classes;
    dt_tokens *out = &h->part[d->val].tokens;
    DT_TRY(dt_coder_encode(h->coder, d->text, d->n, out));
    if (classes && d->first) DT_TRY(dt_text_labels_add_class(&h->part[d->val].labels, classes, d->class));
    if (!d->last) return DT_OK;
    DT_TRY(dt_tokens_reserve(out, 1));
    out->id[out->n++] = h->crew->info.end;
    return DT_OK;
}

static dt_status use_words(const crew *c, const dt_text_block *b, dt_tokens *out) {
    const int64_t n = b->n / b->width;
    DT_TRY(dt_tokens_reserve(out, n));
    for (int64_t i = 0; i < n; i++) {
        uint16_t narrow;
        uint32_t id;
        memcpy(&narrow, b->text + i * b->width, sizeof narrow);
        id = narrow;
        if (b->width == 4) memcpy(&id, b->text + 4 * i, sizeof id);
        if (id >= (uint32_t)c->info.n_vocab)
            return dt_fail(DT_ERR_DATA, "%s: has the token %u: the tokenizer (%s) knows 0 to %d", b->file, id,
                           c->info.name, c->info.n_vocab - 1);
        out->id[out->n++] = (int32_t)id;
    }
    return DT_OK;
}

static void encode(const crew *c, hand *h, job *j) {
    for (int k = 0; k < 2; k++) j->part[k].tokens.n = j->part[k].labels.n = 0;
    j->n_skipped = 0;
    h->part = j->part;
    j->status = j->block.kind == DT_TEXT_WORDS
                    ? use_words(c, &j->block, &j->part[0].tokens)
                    : dt_text_block_each(&j->block, c->read, c->o->skip_broken, use, h, &j->n_skipped);
    if (j->status != DT_OK) strncpy(j->error, dt_error_text(), sizeof j->error - 1);
}

static void *work(void *arg) {
    crew *c = arg;
    hand h = {.crew = c};
    const dt_status created = dt_coder_new(c->tokenizer, &h.coder);
    pthread_mutex_lock(&c->mutex);
    for (;;) {
        while (!c->stop && c->next == c->n_filled) pthread_cond_wait(&c->filled, &c->mutex);
        if (c->stop) break;
        job *j = &c->job[c->next++ % c->n_jobs];
        pthread_mutex_unlock(&c->mutex);
        if (created == DT_OK) {
            encode(c, &h, j);
        } else {
            j->status = created;
            strcpy(j->error, "import: out of memory");
        }
        pthread_mutex_lock(&c->mutex);
        j->state = DONE;
        pthread_cond_signal(&c->done);
    }
    pthread_mutex_unlock(&c->mutex);
    dt_coder_free(h.coder);
    return NULL;
}

/* Waits for the oldest job. */
static job *wait_for(crew *c) {
    job *j = &c->job[c->n_taken % c->n_jobs];
    pthread_mutex_lock(&c->mutex);
    while (j->state != DONE) pthread_cond_wait(&c->done, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
    return j;
}

static dt_status take_job(crew *c, dt_text_take *take, void *arg, int64_t *n_skipped) {
    job *j = wait_for(c);
    if (j->status != DT_OK) {
        dt_error_set_text(j->error);
        return j->status;
    }
    *n_skipped += j->n_skipped;
    const dt_status status = take(arg, j->part);
    j->state = FREE;
    c->n_taken++;
    return status;
}

static dt_status fill_job(crew *c, dt_text_reader *r, bool *more) {
    job *j = &c->job[c->n_filled % c->n_jobs];
    DT_TRY(dt_text_reader_next(r, &j->block, more));
    if (!*more) return DT_OK;
    pthread_mutex_lock(&c->mutex);
    j->state = FILLED;
    c->n_filled++;
    pthread_cond_signal(&c->filled);
    pthread_mutex_unlock(&c->mutex);
    return DT_OK;
}

/* Reads ahead as far as the ring goes. */
static dt_status run(crew *c, dt_text_take *take, void *arg, int64_t *n_skipped) {
    dt_text_reader *r;
    bool more = true;
    dt_status status = dt_text_reader_open(c->read, &r);
    while (status == DT_OK && (more || c->n_taken < c->n_filled)) {
        if (more && c->n_filled - c->n_taken < c->n_jobs) {
            status = fill_job(c, r, &more);
            continue;
        }
        int64_t done, total;
        status = take_job(c, take, arg, n_skipped);
        dt_text_reader_progress(r, &done, &total);
        if (status == DT_OK && c->o->progress &&
            !c->o->progress(c->o->arg, dt_min_i64(done, total - 1), total))
            status = dt_fail(DT_STOPPED, "import interrupted; it begins anew when it is run again");
    }
    dt_text_reader_close(r);
    return status;
}

dt_status dt_text_encode_all(const dt_import_options *o, const dt_text_read_options *read,
                             const dt_tokenizer *t, const dt_class_names *classes, dt_text_take *take,
                             void *arg, int64_t *n_skipped) {
    const int32_t n = (int32_t)dt_min_i64(o->threads ? o->threads : dt_cores_share(1), THREADS_MAX);
    pthread_t thread[THREADS_MAX];
    sigset_t all, before;
    crew c = {.o = o, .read = read, .tokenizer = t, .classes = classes, .n_jobs = 2 * n + 2};
    *n_skipped = 0;
    dt_tokenizer_info_get(t, &c.info);
    c.job = calloc((size_t)c.n_jobs, sizeof *c.job);
    if (!c.job) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    pthread_mutex_init(&c.mutex, NULL);
    pthread_cond_init(&c.filled, NULL);
    pthread_cond_init(&c.done, NULL);
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int32_t started = 0;
    int error = 0;
    while (started < n && error == 0) {
        error = pthread_create(&thread[started], NULL, work, &c);
        if (error == 0) started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    dt_status status = error ? dt_fail(DT_ERR_MEMORY, "import: cannot start a thread: %s", strerror(error))
                             : run(&c, take, arg, n_skipped);
    pthread_mutex_lock(&c.mutex);
    c.stop = true;
    pthread_cond_broadcast(&c.filled);
    pthread_mutex_unlock(&c.mutex);
    for (int32_t i = 0; i < started; i++) pthread_join(thread[i], NULL);
    for (int64_t i = 0; i < c.n_jobs; i++) {
        dt_text_block_free(&c.job[i].block);
        for (int k = 0; k < 2; k++) {
            free(c.job[i].part[k].tokens.id);
            free(c.job[i].part[k].labels.label);
        }
    }
    free(c.job);
    pthread_cond_destroy(&c.filled);
    pthread_cond_destroy(&c.done);
    pthread_mutex_destroy(&c.mutex);
    return status;
}
