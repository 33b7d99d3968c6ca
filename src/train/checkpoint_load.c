/* Loading: nothing reaches HDF5 or memory sizes before length and hash of the file match a manifest that is
 * whole. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "checkpoint_internal.h"
#include "model/lora.h"

void dt_ckpt_free(dt_ckpt *c) {
    if (c == NULL) return;
    for (int32_t i = 0; c->tensor != NULL && i < c->n_tensor; i++) {
        free((char *)c->tensor[i].name);
        free(c->tensor[i].data);
    }
    free(c->tensor);
    free(c->config_text);
    free(c->data_text);
    free(c);
}

const dt_ckpt_tensor *dt_ckpt_find(const dt_ckpt *c, const char *name) {
    for (int32_t i = 0; i < c->n_tensor; i++)
        if (strcmp(c->tensor[i].name, name) == 0) return &c->tensor[i];
    return NULL;
}

static dt_status load_manifest(const char *dir, dt_ckpt_manifest *m) {
    char path[DT_CKPT_PATH_MAX];
    char *text = NULL;
    size_t bytes = 0;
    struct stat st;
    DT_TRY(dt_ckpt_path(path, dir, DT_CKPT_MANIFEST_FILE));
    if (stat(dir, &st) != 0) return dt_fail(DT_ERR_CHECKPOINT, "%s: %s", dir, strerror(errno));
    if (lstat(path, &st) != 0 && errno == ENOENT)
        return dt_fail(DT_ERR_CHECKPOINT,
                       "%s holds no %s: not a checkpoint (one is called like step-00001234)", dir,
                       DT_CKPT_MANIFEST_FILE);
    DT_TRY(dt_ckpt_file_read(path, DT_CKPT_MANIFEST_BYTES_MAX, &text, &bytes));
    dt_status status = dt_ckpt_manifest_parse(text, bytes, m);
    if (status != DT_OK) dt_error_context("%s", path);
    free(text);
    return status;
}

/* config.toml is a copy for people; one that differs from the manifest's text means that files were mixed. */
static dt_status check_config(const char *dir, const dt_ckpt_manifest *m) {
    char path[DT_CKPT_PATH_MAX];
    char *text = NULL;
    size_t bytes = 0, want = strlen(m->config_text);
    DT_TRY(dt_ckpt_path(path, dir, DT_CKPT_CONFIG_FILE));
    DT_TRY(dt_ckpt_file_read(path, want + 1, &text, &bytes));
    bool same = bytes == want && memcmp(text, m->config_text, want) == 0;
    free(text);
    return same ? DT_OK
                : dt_fail(DT_ERR_CHECKPOINT, "%s: damaged or altered: it differs from the manifest's copy",
                          path);
}

static dt_status check_state(const char *path, const dt_ckpt_manifest *m) {
    int64_t bytes;
    uint64_t xxh3;
    DT_TRY(dt_ckpt_file_hash(path, m->state_bytes, &bytes, &xxh3));
    if (xxh3 == m->state_xxh3) return DT_OK;
    return dt_fail(DT_ERR_CHECKPOINT,
                   "%s: damaged: its checksum is %016" PRIx64 ", the manifest says %016" PRIx64, path, xxh3,
                   m->state_xxh3);
}

static dt_status load_tensor(dt_h5 *h, const char *path, const dt_ckpt_entry *e, dt_ckpt_tensor *t) {
    dt_h5_info info;
    DT_TRY(dt_h5_info_get(h, e->name, &info));
    bool same = info.dtype == DT_DTYPE_F32 && info.ndim == e->ndim && info.n_elem == e->n_elem;
    for (int32_t i = 0; same && i < e->ndim; i++) same = info.dim[i] == e->dim[i];
    if (!same)
        return dt_fail(DT_ERR_CHECKPOINT, "%s: %s has another type or shape than the manifest says", path,
                       e->name);
    size_t bytes = (size_t)e->n_elem * sizeof(float);
    t->name = strdup(e->name);
    t->data = malloc(bytes);
    if (t->name == NULL || t->data == NULL)
        return dt_fail(DT_ERR_MEMORY, "%s: no memory for %s (%zu bytes)", path, e->name, bytes);
    t->ndim = e->ndim;
    memcpy(t->dim, e->dim, sizeof t->dim);
    DT_TRY(dt_h5_read(h, e->name, DT_DTYPE_F32, e->n_elem, t->data));
    if (XXH3_64bits(t->data, bytes) != e->xxh3)
        return dt_fail(DT_ERR_CHECKPOINT, "%s: %s is damaged: its checksum differs", path, e->name);
    int64_t bad = dt_ckpt_find_nonfinite(t->data, e->n_elem);
    if (bad >= 0)
        return dt_fail(DT_ERR_CHECKPOINT, "%s: %s: element %" PRId64 " is not finite", path, e->name, bad);
    return DT_OK;
}

static dt_status load_state(const char *path, const dt_ckpt_manifest *m, dt_ckpt *c) {
    dt_h5 *h;
    c->tensor = calloc((size_t)m->n_tensor + 1, sizeof *c->tensor);
    if (c->tensor == NULL) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its tensors", path);
    c->n_tensor = m->n_tensor;
    DT_TRY(dt_h5_open(path, &h));
    dt_status status = DT_OK;
    for (int32_t i = 0; i < m->n_tensor && status == DT_OK; i++)
        status = load_tensor(h, path, &m->tensor[i], &c->tensor[i]);
    /* Reading is done: whatever close says, the tensors are checked. But it must not replace their error's
     * text. */
    char text[2048];
    snprintf(text, sizeof text, "%s", dt_error_text());
    if (dt_h5_close(h) != DT_OK) dt_error_set_text(text);
    return status;
}

dt_status dt_ckpt_load(const char *path, dt_ckpt **out) {
    *out = NULL;
    dt_ckpt_manifest m = {0};
    char state_path[DT_CKPT_PATH_MAX];
    dt_ckpt *c = calloc(1, sizeof *c);
    if (c == NULL) return dt_fail(DT_ERR_MEMORY, "%s: no memory to load it", path);
    dt_status status;
    DT_TRY_GOTO(status, dt_ckpt_path(state_path, path, DT_CKPT_STATE_FILE), done);
    DT_TRY_GOTO(status, load_manifest(path, &m), done);
    DT_TRY_GOTO(status, check_config(path, &m), done);
    DT_TRY_GOTO(status, check_state(state_path, &m), done);
    DT_TRY_GOTO(status, load_state(state_path, &m, c), done);
    snprintf(c->path, sizeof c->path, "%s", path);
    c->meta = m.meta;
    c->config_text = m.config_text;
    m.config_text = NULL;
    c->eval_damaged = dt_ckpt_eval_read(path, &c->eval, &c->has_eval) != DT_OK;
    c->data_text = m.data_text;
    m.data_text = NULL;
done:
    dt_ckpt_manifest_clear(&m);
    if (status == DT_OK) {
        *out = c;
        return DT_OK;
    }
    dt_ckpt_free(c);
    return status == DT_ERR_MEMORY ? status : DT_ERR_CHECKPOINT;
}

static dt_status load_step(const char *dir, int64_t step, dt_ckpt **out) {
    char name[DT_CKPT_NAME_MAX], path[DT_CKPT_PATH_MAX];
    dt_ckpt_step_name(name, step);
    DT_TRY(dt_ckpt_path(path, dir, name));
    DT_TRY(dt_ckpt_load(path, out));
    if ((*out)->meta.step == step) return DT_OK;
    dt_status status = dt_fail(DT_ERR_CHECKPOINT, "%s: holds step %" PRId64 ", not that of its name", path,
                               (*out)->meta.step);
    dt_ckpt_free(*out);
    *out = NULL;
    return status;
}

/* The first usable of `step`, which is freed. */
static dt_status load_first(const char *dir, int64_t *step, int32_t n_step,
                            void (*note)(void *arg, const char *text), void *arg, dt_ckpt **out) {
    dt_status status = DT_OK;
    for (int32_t i = 0; i < n_step; i++) {
        status = load_step(dir, step[i], out);
        if (status == DT_OK || status == DT_ERR_MEMORY) break;
        if (note != NULL) note(arg, dt_error_text());
    }
    free(step);
    if (status == DT_OK || status == DT_ERR_MEMORY) return status;
    dt_error_context("%s: none of %d checkpoint%s is usable; the last one tried", dir, (int)n_step,
                     dt_plural(n_step));
    return DT_ERR_CHECKPOINT;
}

dt_status dt_ckpt_load_latest(const char *dir, void (*note)(void *arg, const char *text), void *arg,
                              dt_ckpt **out) {
    int64_t *step;
    int32_t n_step;
    *out = NULL;
    DT_TRY(dt_ckpt_list(dir, &step, &n_step));
    return load_first(dir, step, n_step, note, arg, out);
}

static bool is_within(const char *dir, const char *name) {
    char path[DT_CKPT_PATH_MAX];
    struct stat st;
    return dt_ckpt_path(path, dir, name) == DT_OK && stat(path, &st) == 0;
}

bool dt_ckpt_is_at(const char *path) {
    return is_within(path, DT_CKPT_MANIFEST_FILE) || is_within(path, DT_CKPT_DIR);
}

dt_status dt_ckpt_load_at(const char *path, dt_ckpt **out) {
    char dir[DT_CKPT_PATH_MAX];
    if (is_within(path, DT_CKPT_MANIFEST_FILE)) return dt_ckpt_load(path, out);
    DT_TRY(dt_ckpt_path(dir, path, DT_CKPT_DIR));
    DT_TRY(dt_ckpt_load_latest(dir, NULL, NULL, out));
    return *out ? DT_OK : dt_fail(DT_ERR_CHECKPOINT, "%s: a run without a checkpoint", path);
}

dt_status dt_ckpt_load_best(const char *dir, dt_best_metric metric, void (*note)(void *arg, const char *text),
                            void *arg, dt_ckpt **out) {
    int64_t *step;
    int32_t n_step;
    *out = NULL;
    DT_TRY(dt_ckpt_rank(dir, metric, INT64_MAX, &step, &n_step));
    return load_first(dir, step, n_step, note, arg, out);
}

dt_status dt_ckpt_check_adapters(const dt_ckpt *c, int64_t rank) {
    for (int32_t i = 0; i < c->n_tensor && rank == 0; i++)
        if (strncmp(c->tensor[i].name, "param/", 6) == 0 && dt_lora_is_adapter(c->tensor[i].name))
            return dt_fail(DT_ERR_CHECKPOINT,
                           "%s has low-rank adapters (%s), and lora.rank is 0 here, which would leave them "
                           "out: set [lora] "
                           "as it was trained with, or merge them, dtrain convert --merge",
                           c->path, c->tensor[i].name + 6);
    return DT_OK;
}
