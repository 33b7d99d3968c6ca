/* The checkpoint writer: a snapshot taken by the caller, and one thread that writes it out.
 *
 * Only the snapshot (copy and check for non-finite values) blocks the caller. A save that fails removes what
 * it wrote and leaves its cause for dt_ckpt_writer_wait; the run goes on. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include "checkpoint_internal.h"
#include "core/dir.h"
#include "core/file_limit.h"
#include "core/text.h"
#include "train/export.h"

/* Beyond the tensors: HDF5's header, groups and alignment, the manifest. */
static const int64_t spare_bytes = 1 << 20, spare_bytes_per_tensor = 8192;
static const int64_t keep_last_min = 2; /* the newest may turn out damaged */
enum { SNAPSHOT_BLOCK = 16384 /* elements copied, then checked while in cache */ };

struct dt_ckpt_writer {
    dt_ckpt_policy policy; /* dir and data_text owned */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows up to the job */
    pthread_cond_t changed;
    bool quit, busy;
    bool save;         /* of the job: write the manifest's checkpoint */
    int64_t evaluated; /* of the job: this step was evaluated; -1: none was */
    dt_status result;  /* first failure not yet handed over */
    char *result_text;
    dt_ckpt_eval eval; /* to be written with what is saved or evaluated next */

    /* The job: the caller's while not busy, the thread's while busy. */
    dt_ckpt_manifest manifest;
    dt_ckpt_eval manifest_eval; /* when it was taken */
    int64_t unsaved;            /* step of a failed save: what is there of it is not this run's; -1: none */
    float *data;                /* all tensors one after another, in the manifest's order */
    int64_t data_room;
};

/* ---- writing, in the thread ---- */

static dt_status check_space(const dt_ckpt_writer *w) {
    struct statvfs fs;
    if (statvfs(w->policy.dir, &fs) != 0)
        return dt_fail(DT_ERR_IO, "%s: cannot ask for free space: %s", w->policy.dir, strerror(errno));
    if (fs.f_blocks == 0) return DT_OK; /* the file system does not tell */
    int64_t needed = spare_bytes + w->manifest.n_tensor * spare_bytes_per_tensor;
    for (int32_t i = 0; w->policy.export && i < w->policy.export->n; i++)
        needed += w->policy.export->weight[i].n_elem * (int64_t)sizeof(float);
    for (int32_t i = 0; i < w->manifest.n_tensor; i++)
        needed += w->manifest.tensor[i].n_elem * (int64_t)sizeof(float);
    double free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
    if (free_bytes >= (double)needed) return DT_OK;
    return dt_fail(DT_ERR_IO, "%s: a checkpoint needs %s, only %s are free", w->policy.dir,
                   dt_bytes_needed_text((double)needed).s, dt_bytes_free_text(free_bytes).s);
}

/* Everything but the tensors' data: HDF5 lays the file out, we fill it (no lock held, errors in plain
 * words). */
static dt_status lay_out(dt_ckpt_writer *w, dt_h5 *h) {
    for (int32_t i = 0; i < w->manifest.n_tensor; i++) {
        dt_ckpt_entry *e = &w->manifest.tensor[i];
        DT_TRY(dt_h5_reserve(h, e->name, DT_DTYPE_F32, e->ndim, e->dim, &e->offset_bytes));
    }
    return dt_ckpt_meta_store(h, &w->manifest.meta);
}

static dt_status create_state(dt_ckpt_writer *w, const char *path) {
    dt_h5 *h;
    DT_TRY(dt_h5_create(path, &h));
    dt_status status = lay_out(w, h);
    if (status == DT_OK) return dt_h5_close(h);
    char text[2048];
    snprintf(text, sizeof text, "%s", dt_error_text());
    if (dt_h5_close(h) != DT_OK) dt_error_set_text(text); /* the first failure is the cause */
    return status;
}

static dt_status fill_state(dt_ckpt_writer *w, const char *path) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return dt_fail(DT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    dt_status status = DT_OK;
    const float *data = w->data;
    for (int32_t i = 0; i < w->manifest.n_tensor && status == DT_OK; i++) {
        dt_ckpt_entry *e = &w->manifest.tensor[i];
        int64_t bytes = e->n_elem * (int64_t)sizeof(float);
        e->xxh3 = XXH3_64bits(data, (size_t)bytes);
        status = dt_ckpt_file_put(fd, path, data, bytes, e->offset_bytes);
        data += e->n_elem;
    }
    if (status == DT_OK && fsync(fd) != 0)
        status = dt_fail(DT_ERR_IO, "%s: fsync: %s", path, strerror(errno));
    if (close(fd) != 0 && status == DT_OK)
        status = dt_fail(DT_ERR_IO, "%s: close: %s", path, strerror(errno));
    return status;
}

static dt_status write_state(dt_ckpt_writer *w, const char *tmp_path) {
    char path[DT_CKPT_PATH_MAX];
    DT_TRY(dt_ckpt_path(path, tmp_path, DT_CKPT_STATE_FILE));
    DT_TRY(create_state(w, path));
    DT_TRY(fill_state(w, path));
    return dt_ckpt_file_hash(path, -1, &w->manifest.state_bytes, &w->manifest.state_xxh3);
}

/* The weights for others, out of the job's own numbers. */
static dt_status write_export(const dt_ckpt_writer *w, const char *tmp_path) {
    const dt_ckpt_manifest *m = &w->manifest;
    char path[DT_CKPT_PATH_MAX];
    if (!w->policy.export) return DT_OK;
    DT_TRY(dt_ckpt_path(path, tmp_path, w->policy.export_graph ? DT_CKPT_ONNX_FILE : DT_CKPT_EXPORT_FILE));
    dt_ckpt_tensor *tensor = calloc((size_t)m->n_tensor + 1, sizeof *tensor);
    if (!tensor) return dt_fail(DT_ERR_MEMORY, "no memory for a list of tensors");
    float *data = w->data;
    for (int32_t i = 0; i < m->n_tensor; data += m->tensor[i++].n_elem) {
        tensor[i] = (dt_ckpt_tensor){.name = m->tensor[i].name, .ndim = m->tensor[i].ndim, .data = data};
        memcpy(tensor[i].dim, m->tensor[i].dim, sizeof tensor[i].dim);
    }
    const dt_export x = {.net = w->policy.export,
                         .graph = w->policy.export_graph,
                         .n = m->n_tensor,
                         .tensor = tensor,
                         .type = DT_TENSOR_F32,
                         .config_text = m->config_text,
                         .data_text = m->data_text,
                         .step = m->meta.step};
    const dt_status status = dt_export_write(path, &x);
    free(tensor);
    return status;
}

static dt_status write_texts(const dt_ckpt_writer *w, const char *tmp_path) {
    char path[DT_CKPT_PATH_MAX], *manifest;
    DT_TRY(dt_ckpt_path(path, tmp_path, DT_CKPT_CONFIG_FILE));
    DT_TRY(dt_ckpt_file_write(path, w->manifest.config_text, strlen(w->manifest.config_text)));
    DT_TRY(dt_ckpt_path(path, tmp_path, DT_CKPT_MANIFEST_FILE));
    DT_TRY(dt_ckpt_manifest_format(&w->manifest, &manifest));
    dt_status status = dt_ckpt_file_write(path, manifest, strlen(manifest));
    free(manifest);
    return status;
}

static dt_status write_and_publish(dt_ckpt_writer *w) {
    char name[DT_CKPT_NAME_MAX], tmp_path[DT_CKPT_PATH_MAX];
    const int64_t step = w->manifest.meta.step;
    int lock_fd = -1;
    DT_TRY(check_space(w));
    DT_TRY(dt_ckpt_tmp_create(w->policy.dir, step, name, &lock_fd));
    dt_status status;
    DT_TRY_GOTO(status, dt_ckpt_path(tmp_path, w->policy.dir, name), done);
    DT_TRY_GOTO(status, write_state(w, tmp_path), done);
    DT_TRY_GOTO(status, write_export(w, tmp_path), done);
    DT_TRY_GOTO(status, dt_ckpt_eval_write(tmp_path, &w->manifest_eval), done);
    DT_TRY_GOTO(status, write_texts(w, tmp_path), done);
    DT_TRY_GOTO(status, dt_dir_sync(tmp_path), done);
    DT_TRY_GOTO(status, dt_ckpt_publish(w->policy.dir, name, step), done);
done:
    if (status != DT_OK) dt_ckpt_tmp_remove(w->policy.dir, name);
    if (lock_fd >= 0) close(lock_fd);
    return status;
}

static void not_saved(int64_t step) {
    dt_error_context("checkpoint of step %" PRId64 " not saved", step);
}

/* Failures are not the save's: nothing is lost, and the next save tries again. */
static void keep_order(const dt_ckpt_writer *w, int64_t step) {
    if (dt_ckpt_link_best(&w->policy, step) != DT_OK) /* first: it must not lead to one that is removed */
        dt_tell(w->policy.sink, DT_NEWS_WARNING,
                "step %" PRId64 " is saved, but no link leads to the best: %s", step, dt_error_text());
    if (dt_ckpt_retain(&w->policy, step) != DT_OK)
        dt_tell(w->policy.sink, DT_NEWS_WARNING, "step %" PRId64 " is saved, but old checkpoints stay: %s",
                step, dt_error_text());
}

static dt_status write_checkpoint(dt_ckpt_writer *w) {
    const int64_t step = w->manifest.meta.step;
    dt_status status = write_and_publish(w);
    w->unsaved = status == DT_OK ? -1 : step;
    if (status != DT_OK) {
        not_saved(step);
        return status == DT_ERR_MEMORY ? status : DT_ERR_IO;
    }
    keep_order(w, step);
    return DT_OK;
}

static void record_evaluation(dt_ckpt_writer *w, int64_t step, const dt_ckpt_eval *e) {
    char name[DT_CKPT_NAME_MAX], path[DT_CKPT_PATH_MAX];
    if (step == w->unsaved) return;
    dt_ckpt_step_name(name, step);
    dt_status status = dt_ckpt_path(path, w->policy.dir, name);
    if (status == DT_OK) status = dt_ckpt_eval_write(path, e);
    if (status == DT_OK)
        keep_order(w, step);
    else
        dt_tell(w->policy.sink, DT_NEWS_WARNING,
                "the checkpoint of step %" PRId64 " counts as not evaluated: %s", step, dt_error_text());
}

static void *write_jobs(void *arg) {
    dt_ckpt_writer *w = arg;
    dt_file_limit limit;
    dt_file_limit_begin(&limit);
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->busy && !w->quit) pthread_cond_wait(&w->changed, &w->lock);
        if (!w->busy) break;
        const bool save = w->save;
        const int64_t evaluated = save ? -1 : w->evaluated; /* of what is being saved: after that */
        const dt_ckpt_eval eval = w->eval;
        w->save = false;
        if (!save) w->evaluated = -1;
        pthread_mutex_unlock(&w->lock);
        dt_status status = save ? write_checkpoint(w) : DT_OK;
        if (evaluated >= 0) record_evaluation(w, evaluated, &eval);
        pthread_mutex_lock(&w->lock);
        if (status != DT_OK && w->result == DT_OK) {
            w->result = status;
            w->result_text = strdup(dt_error_text());
        }
        w->busy = w->save || w->evaluated >= 0;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    dt_file_limit_end(&limit);
    return NULL;
}

/* ---- the caller's side ---- */

/* Hands the result over; the lock is held and no save is in flight. */
static dt_status take_result(dt_ckpt_writer *w) {
    dt_status status = w->result;
    if (status != DT_OK) dt_error_set_text(w->result_text != NULL ? w->result_text : "checkpoint not saved");
    free(w->result_text);
    w->result_text = NULL;
    w->result = DT_OK;
    return status;
}

static void await_idle(dt_ckpt_writer *w) {
    while (w->busy) pthread_cond_wait(&w->changed, &w->lock);
}

dt_status dt_ckpt_writer_wait(dt_ckpt_writer *w) {
    pthread_mutex_lock(&w->lock);
    await_idle(w);
    dt_status status = take_result(w);
    pthread_mutex_unlock(&w->lock);
    return status;
}

bool dt_ckpt_writer_failed(dt_ckpt_writer *w) {
    pthread_mutex_lock(&w->lock);
    bool failed = !w->busy && w->result != DT_OK;
    pthread_mutex_unlock(&w->lock);
    return failed;
}

/* Names, shapes and texts of the job. */
static dt_status describe_job(dt_ckpt_manifest *m, const dt_ckpt_meta *meta, int32_t n_tensor,
                              const dt_ckpt_tensor *tensor, const char *config_text, int64_t *n_elem) {
    *n_elem = 0;
    m->meta = *meta;
    m->config_text = strdup(config_text);
    m->tensor = calloc((size_t)n_tensor + 1, sizeof *m->tensor);
    if (m->config_text == NULL || m->tensor == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    for (int32_t i = 0; i < n_tensor; i++) {
        dt_ckpt_entry *e = &m->tensor[i];
        e->ndim = tensor[i].ndim;
        e->n_elem = dt_ckpt_count_elements(e->ndim, tensor[i].dim);
        if (e->n_elem == 0 || !dt_ckpt_name_ok(tensor[i].name))
            return dt_fail(DT_ERR_INTERNAL, "tensor \"%s\" has a name or shape that cannot be stored",
                           tensor[i].name);
        memcpy(e->dim, tensor[i].dim, sizeof e->dim);
        e->name = strdup(tensor[i].name);
        if (e->name == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
        m->n_tensor = i + 1;
        if (__builtin_add_overflow(*n_elem, e->n_elem, n_elem) ||
            *n_elem > INT64_MAX / (int64_t)sizeof(float))
            return dt_fail(DT_ERR_INTERNAL, "more tensors than memory can hold");
    }
    return DT_OK;
}

static dt_status make_room(dt_ckpt_writer *w, int64_t n_elem) {
    if (n_elem <= w->data_room) return DT_OK;
    free(w->data);
    w->data_room = 0;
    w->data = malloc((size_t)n_elem * sizeof(float));
    if (w->data == NULL)
        return dt_fail(DT_ERR_MEMORY, "no memory for its copy of %s", dt_bytes_text((double)n_elem * 4).s);
    w->data_room = n_elem;
    return DT_OK;
}

/* Copies block by block and checks each block while it is in the cache. */
static dt_status copy_finite(float *dst, const dt_ckpt_tensor *t, int64_t n_elem) {
    for (int64_t at = 0; at < n_elem; at += SNAPSHOT_BLOCK) {
        int64_t n = dt_min_i64(SNAPSHOT_BLOCK, n_elem - at);
        memcpy(dst + at, t->data + at, (size_t)n * sizeof(float));
        int64_t bad = dt_ckpt_find_nonfinite(dst + at, n);
        if (bad >= 0)
            return dt_fail(DT_ERR_NONFINITE, "%s: element %" PRId64 " is %s", t->name, at + bad,
                           isnan(dst[at + bad]) ? "not a number" : "infinite");
    }
    return DT_OK;
}

/* Makes the job out of the caller's tensors; no save is in flight. */
static dt_status take_snapshot(dt_ckpt_writer *w, const dt_ckpt_meta *meta, int32_t n_tensor,
                               const dt_ckpt_tensor *tensor, const char *config_text) {
    int64_t n_elem;
    dt_ckpt_manifest_clear(&w->manifest);
    DT_TRY(describe_job(&w->manifest, meta, n_tensor, tensor, config_text, &n_elem));
    if (w->policy.data_text && !(w->manifest.data_text = strdup(w->policy.data_text)))
        return dt_fail(DT_ERR_MEMORY, "out of memory");
    DT_TRY(make_room(w, n_elem));
    float *dst = w->data;
    for (int32_t i = 0; i < n_tensor; i++) {
        DT_TRY(copy_finite(dst, &tensor[i], w->manifest.tensor[i].n_elem));
        dst += w->manifest.tensor[i].n_elem;
    }
    return DT_OK;
}

dt_status dt_ckpt_writer_save(dt_ckpt_writer *w, const dt_ckpt_meta *meta, int32_t n_tensor,
                              const dt_ckpt_tensor *tensor, const char *config_text) {
    pthread_mutex_lock(&w->lock);
    await_idle(w);
    w->manifest_eval = w->eval;
    pthread_mutex_unlock(&w->lock);
    dt_status status = take_snapshot(w, meta, n_tensor, tensor, config_text);
    if (status != DT_OK) {
        not_saved(meta->step);
        return status;
    }
    pthread_mutex_lock(&w->lock);
    w->busy = w->save = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return DT_OK;
}

void dt_ckpt_writer_evaluated(dt_ckpt_writer *w, const dt_ckpt_eval *e, int64_t step) {
    pthread_mutex_lock(&w->lock);
    while (w->evaluated >= 0) pthread_cond_wait(&w->changed, &w->lock); /* that of another step */
    w->eval = *e;
    if (step >= 0) {
        w->evaluated = step;
        w->busy = true;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
}

dt_status dt_ckpt_writer_create(const dt_ckpt_policy *policy, dt_ckpt_writer **out) {
    *out = NULL;
    if (policy->keep_last < keep_last_min)
        return dt_fail(DT_ERR_CONFIG, "checkpoint.keep_last must be at least %" PRId64 ", got %" PRId64,
                       keep_last_min, policy->keep_last);
    if (strlen(policy->dir) >= DT_CKPT_PATH_MAX)
        return dt_fail(DT_ERR_IO, "checkpoint directory \"%s\": path too long", policy->dir);
    DT_TRY(dt_dir_create(policy->dir));
    DT_TRY(dt_ckpt_sweep(policy->dir));
    dt_ckpt_writer *w = calloc(1, sizeof *w);
    char *dir = strdup(policy->dir), *data = policy->data_text ? strdup(policy->data_text) : NULL;
    if (w == NULL || dir == NULL || (policy->data_text && !data)) {
        free(w);
        free(dir);
        free(data);
        return dt_fail(DT_ERR_MEMORY, "no memory for the checkpoint writer");
    }
    w->policy = *policy;
    w->policy.dir = dir;
    w->eval = w->manifest_eval = dt_ckpt_eval_none(policy->task, policy->best_metric);
    w->evaluated = w->unsaved = -1;
    w->policy.data_text = data;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    int rc = pthread_create(&w->thread, NULL, write_jobs, w);
    if (rc != 0) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        free(dir);
        free(data);
        free(w);
        return dt_fail(DT_ERR_MEMORY, "cannot start the checkpoint thread: %s", strerror(rc));
    }
    *out = w;
    return DT_OK;
}

void dt_ckpt_writer_destroy(dt_ckpt_writer *w) {
    if (w == NULL) return;
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    dt_ckpt_manifest_clear(&w->manifest);
    free(w->result_text);
    free(w->data);
    free((char *)w->policy.dir);
    free((char *)w->policy.data_text);
    free(w);
}
