/* What the checkpoint tests share: a temporary directory, tensors that depend on the step, bytes of files. */
#ifndef DT_TEST_CHECKPOINT_FIXTURE_H
#define DT_TEST_CHECKPOINT_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "train/checkpoint.h"

enum { FIX_TENSORS = 3, FIX_PATH_MAX = 600 };

typedef struct fixture {
    char root[256];
    char dir[300]; /* root/checkpoints */
    dt_ckpt_tensor tensor[FIX_TENSORS];
    int note_count;
    char note[2048];
} fixture;

static const char fix_config[] = "[run]\nname = \"Prüfung\" # quotes, \"umlauts\", \\ and tabs\t\n";

static inline float fix_value(int64_t step, int tensor, int64_t i) {
    return (float)((step * 31 + tensor * 7 + i) % 1013) * 0.37f - 100.0f;
}

static inline int64_t fix_count(const dt_ckpt_tensor *t) {
    int64_t n = 1;
    for (int32_t d = 0; d < t->ndim; d++) n *= t->dim[d];
    return n;
}

static inline dt_ckpt_meta fix_meta(int64_t step) {
    return (dt_ckpt_meta){.step = step,
                          .samples = step * 128,
                          .global_batch = 128,
                          .n_micro_all = 4,
                          .seed = -42,
                          .loss_scale = 1.0 / 3.0,
                          .good_steps = 7,
                          .optimizer_steps = step - 1,
                          .skipped_in_a_row = 2,
                          .config_hash = UINT64_C(0xfedcba9876543210),
                          .optimizer = "momentum"};
}

/* Tensors of 0, 2 and 4 dims; the largest has 3 * 5 * 7 * scale elements. */
static inline void fix_open(fixture *f, int64_t scale) {
    memset(f, 0, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->root, sizeof f->root, "%s/dtrain-ckpt-XXXXXX",
             tmp != NULL && strlen(tmp) < 200 ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->dir, sizeof f->dir, "%s/checkpoints", f->root);
    f->tensor[0] = (dt_ckpt_tensor){"param/layer1.0.conv1.weight", 4, {3, 5, 7, scale}, NULL};
    f->tensor[1] = (dt_ckpt_tensor){"mom1/fc.weight", 2, {10, 3}, NULL};
    f->tensor[2] = (dt_ckpt_tensor){"state/scale", 0, {0}, NULL};
    for (int t = 0; t < FIX_TENSORS; t++) {
        f->tensor[t].data = malloc((size_t)fix_count(&f->tensor[t]) * sizeof(float));
        assert_non_null(f->tensor[t].data);
    }
}

static inline int fix_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void fix_remove(const char *path) {
    nftw(path, fix_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fix_close(fixture *f) {
    for (int t = 0; t < FIX_TENSORS; t++) free(f->tensor[t].data);
    fix_remove(f->root);
}

static inline void fix_fill(fixture *f, int64_t step) {
    for (int t = 0; t < FIX_TENSORS; t++)
        for (int64_t i = 0; i < fix_count(&f->tensor[t]); i++) f->tensor[t].data[i] = fix_value(step, t, i);
}

static inline dt_ckpt_writer *fix_writer(const fixture *f, int64_t keep_last, int64_t keep_every) {
    dt_ckpt_writer *w;
    dt_ckpt_policy policy = {.dir = f->dir, .keep_last = keep_last, .keep_every = keep_every};
    assert_int_equal(dt_ckpt_writer_create(&policy, &w), DT_OK);
    return w;
}

/* Saves and waits. */
static inline dt_status fix_save(fixture *f, dt_ckpt_writer *w, int64_t step) {
    dt_ckpt_meta meta = fix_meta(step);
    fix_fill(f, step);
    DT_TRY(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f->tensor, fix_config));
    return dt_ckpt_writer_wait(w);
}

static inline void fix_save_ok(fixture *f, dt_ckpt_writer *w, int64_t step) {
    dt_status status = fix_save(f, w, step);
    if (status != DT_OK) print_error("%s\n", dt_error_text());
    assert_int_equal(status, DT_OK);
}

/* True when every byte is that of `step`. */
static inline bool fix_is_step(const fixture *f, const dt_ckpt *c, int64_t step) {
    dt_ckpt_meta want = fix_meta(step);
    if (c == NULL || c->n_tensor != FIX_TENSORS || memcmp(&c->meta, &want, sizeof want) != 0) return false;
    if (strcmp(c->config_text, fix_config) != 0) return false;
    for (int t = 0; t < FIX_TENSORS; t++) {
        const dt_ckpt_tensor *a = &f->tensor[t], *b = dt_ckpt_find(c, a->name);
        if (b == NULL || a->ndim != b->ndim || fix_count(a) != fix_count(b)) return false;
        for (int32_t d = 0; d < a->ndim; d++)
            if (a->dim[d] != b->dim[d]) return false;
        for (int64_t i = 0; i < fix_count(a); i++)
            if (b->data[i] != fix_value(step, t, i)) return false;
    }
    return true;
}

static inline void fix_note(void *arg, const char *text) {
    fixture *f = arg;
    f->note_count++;
    snprintf(f->note, sizeof f->note, "%s", text);
}

static inline void fix_step_path(const fixture *f, int64_t step, const char *file, char out[FIX_PATH_MAX]) {
    snprintf(out, FIX_PATH_MAX, "%s/step-%08lld%s%s", f->dir, (long long)step, *file ? "/" : "", file);
}

static inline bool fix_has_step(const fixture *f, int64_t step) {
    char path[FIX_PATH_MAX];
    fix_step_path(f, step, "", path);
    return access(path, F_OK) == 0;
}

static inline char *fix_read(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    data[*bytes] = '\0';
    fclose(file);
    return data;
}

static inline void fix_write(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Entries of the directory whose name starts with `prefix`. */
static inline int fix_count_entries(const char *dir, const char *prefix) {
    int n = 0;
    DIR *d = opendir(dir);
    if (d == NULL) return 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}

#endif
