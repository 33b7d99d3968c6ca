/* CIFAR-10 and CIFAR-100 in their binary versions: records of one label byte (CIFAR-100: coarse, then fine)
 * and 3 x 32 x 32 bytes, plane after plane. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/text.h"
#include "class_names.h"
#include "files.h"

enum { SIDE = 32, CHANNELS = 3, PLANE = SIDE * SIDE, FILES_MAX = 64, FILE_MAX_BYTES = 1 << 30 };

typedef struct cifar_kind {
    int64_t label_bytes, n_classes;
    const char *train[6], *test[2]; /* NULL-terminated */
    const char *names;              /* file of class names beside the data */
} cifar_kind;

static const cifar_kind cifar10 = {1,
                                   10,
                                   {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                    "data_batch_4.bin", "data_batch_5.bin", NULL},
                                   {"test_batch.bin", NULL},
                                   "batches.meta.txt"};
static const cifar_kind cifar100 = {2, 100, {"train.bin", NULL}, {"test.bin", NULL}, "fine_label_names.txt"};

typedef struct cifar_state {
    const cifar_kind *kind;
    int32_t n_files;
    uint8_t *file[FILES_MAX];
    int64_t first[FILES_MAX + 1]; /* sample each file begins with */
    char *class_names;
} cifar_state;

static int64_t record_bytes(const cifar_kind *kind) {
    return kind->label_bytes + CHANNELS * PLANE;
}

static dt_status load_cifar(const void *state, dt_jpeg *decoder, int64_t i, dt_item *out) {
    (void)decoder;
    const cifar_state *s = state;
    int32_t file = 0;
    while (i >= s->first[file + 1]) file++;
    const uint8_t *record = s->file[file] + (i - s->first[file]) * record_bytes(s->kind);
    const uint8_t *plane = record + s->kind->label_bytes;
    uint8_t *pixel = malloc(CHANNELS * PLANE);
    if (!pixel) return dt_fail(DT_ERR_MEMORY, "import cifar: out of memory");
    for (int p = 0; p < PLANE; p++)
        for (int c = 0; c < CHANNELS; c++) pixel[p * CHANNELS + c] = plane[c * PLANE + p];
    *out = (dt_item){.pixel = pixel,
                     .owned = pixel,
                     .height = SIDE,
                     .width = SIDE,
                     .label = record[s->kind->label_bytes - 1]};
    return DT_OK;
}

static void close_cifar(void *state) {
    cifar_state *s = state;
    for (int32_t i = 0; i < s->n_files; i++) free(s->file[i]);
    free(s->class_names);
    free(s);
}

static dt_status add_file(cifar_state *s, const char *path, dt_source *out) {
    int64_t n, record = record_bytes(s->kind);
    if (s->n_files == FILES_MAX) return dt_fail(DT_ERR_USAGE, "import cifar: more than %d files", FILES_MAX);
    DT_TRY(dt_file_read(path, FILE_MAX_BYTES, &s->file[s->n_files], &n));
    s->n_files++;
    if (n == 0 || n % record)
        return dt_fail(DT_ERR_DATA,
                       "%s: %lld bytes is not a number of %lld-byte CIFAR-%lld records (truncated?)", path,
                       (long long)n, (long long)record, (long long)s->kind->n_classes);
    const uint8_t *bytes = s->file[s->n_files - 1];
    for (int64_t i = 0; i < n / record; i++) {
        int32_t label = bytes[i * record + s->kind->label_bytes - 1];
        if (label >= s->kind->n_classes)
            return dt_fail(DT_ERR_DATA, "%s: record %lld has label %d: damaged, or not CIFAR-%lld", path,
                           (long long)i, label, (long long)s->kind->n_classes);
    }
    s->first[s->n_files] = s->first[s->n_files - 1] + n / record;
    out->identity = XXH3_64bits_withSeed(bytes, (size_t)n, out->identity);
    return DT_OK;
}

/* Names from the file that comes with the data, where it has one for each class. */
static dt_status take_names(cifar_state *s, const char *dir, const dt_import_options *o) {
    char *path, text[1024];
    dt_class_names names;
    if (asprintf(&path, "%s/%s", dir, s->kind->names) < 0)
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", dir);
    if (access(path, F_OK) != 0) {
        free(path);
        return DT_OK;
    }
    dt_status status = dt_class_names_read(path, &names);
    if (status == DT_OK && names.n != s->kind->n_classes)
        status = dt_fail(DT_ERR_DATA, "%s: %s for %s", path, dt_count_text(names.n, "name").s,
                         dt_count_text(s->kind->n_classes, "class").s);
    if (status == DT_OK) {
        s->class_names = names.text;
        names.text = NULL;
    } else if (status == DT_ERR_DATA) {
        snprintf(text, sizeof text, "imported without class names: %s", dt_error_text());
        if (o->note) o->note(o->arg, text);
        dt_error_set_text("");
        status = DT_OK;
    }
    dt_class_names_close(&names);
    free(path);
    return status;
}

static dt_status add_directory(cifar_state *s, const dt_import_options *o, bool test, dt_source *out) {
    const char *dir = o->input[0];
    const char *const *name = test ? s->kind->test : s->kind->train;
    for (; *name; name++) {
        char *path;
        if (asprintf(&path, "%s/%s", dir, *name) < 0) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", dir);
        dt_status status = add_file(s, path, out);
        free(path);
        DT_TRY(status);
    }
    return take_names(s, dir, o);
}

dt_status dt_source_cifar(const dt_import_options *o, dt_source *out) {
    struct stat st;
    cifar_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "import cifar: out of memory");
    s->kind = o->kind == DT_IMPORT_CIFAR10 ? &cifar10 : &cifar100;
    *out = (dt_source){.state = s,
                       .load = load_cifar,
                       .close = close_cifar,
                       .n_classes = s->kind->n_classes,
                       .all_classes = true,
                       .height = SIDE,
                       .width = SIDE,
                       .channels = CHANNELS,
                       .sample_bytes = CHANNELS * PLANE};
    if (o->n_input < 1) return dt_fail(DT_ERR_USAGE, "import cifar: give the directory or the binary files");
    if (o->n_input == 1 && stat(o->input[0], &st) == 0 && S_ISDIR(st.st_mode)) {
        bool test = strcmp(o->split, "test") == 0 || strcmp(o->split, "val") == 0;
        if (!test && strcmp(o->split, "train") != 0) /* a guess would store the wrong files */
            return dt_fail(DT_ERR_USAGE,
                           "import cifar: split \"%s\" of a directory: split is train, val or test",
                           o->split);
        DT_TRY(add_directory(s, o, test, out));
    } else
        for (int32_t i = 0; i < o->n_input; i++) DT_TRY(add_file(s, o->input[i], out));
    out->n_samples = s->first[s->n_files];
    out->class_names = s->class_names;
    return DT_OK;
}
