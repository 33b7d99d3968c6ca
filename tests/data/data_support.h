/* What the tests of the data room share: a scratch directory, small data sets whose pixels tell the sample's
 * number, and options that need no file. */
#ifndef DT_TEST_DATA_SUPPORT_H
#define DT_TEST_DATA_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/import.h"
#include "data/info.h"
#include "data/loader.h"
#include "dataset.h"
#include "jpeg.h"

enum { LEVEL_SIDE = 8 };

#define assert_ok(expr)                                                                                      \
    do {                                                                                                     \
        dt_status status_of_expr = (expr);                                                                   \
        if (status_of_expr != DT_OK) fail_msg("%s: %s", #expr, dt_error_text());                             \
    } while (0)

/* The expression fails with this status, and the error text holds `part`. */
#define assert_fails(expr, status, part)                                                                     \
    do {                                                                                                     \
        assert_int_equal((expr), (status));                                                                  \
        if (!strstr(dt_error_text(), (part))) fail_msg("\"%s\" is not in: %s", (part), dt_error_text());     \
    } while (0)

static char scratch[64];

static inline int make_scratch(void **state) {
    (void)state;
    strcpy(scratch, "/tmp/dt_data_XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int remove_scratch(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

/* A path in the scratch directory; valid for the next 63 calls. */
static inline char *in_scratch(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline char *in_scratch(const char *fmt, ...) {
    static char path[64][256];
    static int turn;
    char *out = path[turn++ % 64];
    int n = snprintf(out, 256, "%s/", scratch);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(out + n, 256 - (size_t)n, fmt, ap);
    va_end(ap);
    return out;
}

/* What data sets are opened and loaded with. */
typedef struct test_options {
    dt_data_options data;
    dt_augment_options augment;
} test_options;

static inline test_options test_defaults(void) {
    test_options c;
    memset(&c, 0, sizeof c);
    c.augment.scale_min = 0.08;
    c.augment.scale_max = 1;
    c.augment.ratio_min = 3.0 / 4;
    c.augment.ratio_max = 4.0 / 3;
    c.data.synthetic_samples = 100;
    c.data.synthetic_channels = 3;
    c.data.synthetic_classes = 10;
    return c;
}

static inline void write_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline uint8_t *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

static inline void put_big_endian(uint8_t *at, uint32_t x) {
    at[0] = (uint8_t)(x >> 24), at[1] = (uint8_t)(x >> 16), at[2] = (uint8_t)(x >> 8), at[3] = (uint8_t)x;
}

/* IDX files of n images of side x side: the first four pixels are the sample's number, its label is number
 * % 10. */
static inline void write_numbered_idx(const char *images, const char *labels, uint32_t n, uint32_t side) {
    size_t bytes = 16 + (size_t)n * side * side;
    uint8_t *image = calloc(1, bytes), *label = calloc(1, 8 + n);
    memcpy(image, "\0\0\x08\x03", 4);
    put_big_endian(image + 4, n);
    put_big_endian(image + 8, side);
    put_big_endian(image + 12, side);
    memcpy(label, "\0\0\x08\x01", 4);
    put_big_endian(label + 4, n);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *pixel = image + 16 + (size_t)i * side * side;
        for (uint32_t k = 4; k < side * side; k++) pixel[k] = (uint8_t)(i * 31 + k * 7);
        put_big_endian(pixel, i);
        label[8 + i] = (uint8_t)(i % 10);
    }
    write_file(images, image, bytes);
    write_file(labels, label, 8 + n);
    free(image);
    free(label);
}

static inline int64_t number_of(const uint8_t *pixel) {
    return (int64_t)pixel[0] << 24 | (int64_t)pixel[1] << 16 | (int64_t)pixel[2] << 8 | pixel[3];
}

/* A set of n numbered raw images, about `per_shard` in a shard, in scratch/name. */
static inline char *make_numbered(const char *name, uint32_t n, uint32_t side, int64_t per_shard) {
    char *images = in_scratch("%s.images", name), *labels = in_scratch("%s.labels", name);
    write_numbered_idx(images, labels, n, side);
    const char *input[] = {images, labels};
    char *dir = in_scratch("%s", name);
    dt_import_options o = {.kind = DT_IMPORT_IDX,
                           .input = input,
                           .n_input = 2,
                           .out_dir = dir,
                           .split = "train",
                           .shard_bytes = per_shard * side * side,
                           .threads = 2};
    dt_import_result result;
    assert_ok(dt_import_run(&o, &result));
    assert_int_equal(result.n_samples, n);
    return dir;
}

/* A set of generated images. */
static inline char *make_photos(const char *name, dt_import_store store, int64_t n, int64_t height,
                                int64_t width) {
    char *dir = in_scratch("%s", name);
    dt_import_options o = {.kind = DT_IMPORT_SYNTHETIC,
                           .store = store,
                           .out_dir = dir,
                           .split = "train",
                           .threads = 2,
                           .synthetic = {n, 4, height, width}};
    dt_import_result result;
    assert_ok(dt_import_run(&o, &result));
    return dir;
}

/* A small image of one grey level, by which it is known again. */
static inline void write_level(const char *path, int level) {
    uint8_t pixel[LEVEL_SIDE * LEVEL_SIDE], *bytes;
    int64_t n;
    memset(pixel, level, sizeof pixel);
    assert_ok(dt_jpeg_encode(pixel, LEVEL_SIDE, LEVEL_SIDE, 1, 95, &bytes, &n));
    write_file(path, bytes, (size_t)n);
    free(bytes);
}

static inline int level_of(const dt_dataset *d, int64_t sample) {
    uint8_t pixel[LEVEL_SIDE * LEVEL_SIDE];
    dt_sample s;
    dt_dataset_locate(d, sample, &s);
    assert_int_equal(s.n_bytes, sizeof pixel);
    assert_ok(dt_sample_read(d, &s, 0, s.n_bytes, pixel));
    return pixel[0];
}

static inline int32_t label_of(const dt_dataset *d, int64_t sample) {
    dt_sample s;
    dt_dataset_locate(d, sample, &s);
    return s.label;
}

static inline void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void shell(const char *fmt, ...) {
    char command[1200];
    va_list ap;
    va_start(ap, fmt);
    assert_true(vsnprintf(command, sizeof command, fmt, ap) < (int)sizeof command);
    va_end(ap);
    assert_int_equal(system(command), 0);
}

/* A raw import of a folder of such images. */
static inline dt_import_options level_options(const char *const *input, const char *out) {
    return (dt_import_options){.kind = DT_IMPORT_FOLDER,
                               .input = input,
                               .n_input = 1,
                               .out_dir = out,
                               .split = "train",
                               .channels = 1,
                               .threads = 2};
}

/* Collects notes, a line each. */
typedef struct note_list {
    char text[4096];
} note_list;

static inline void take_note(void *arg, const char *text) {
    note_list *n = arg;
    size_t at = strlen(n->text);
    snprintf(n->text + at, sizeof n->text - at, "%s\n", text);
}

#define assert_noted(n, part)                                                                                \
    do {                                                                                                     \
        if (!strstr((n)->text, (part))) fail_msg("\"%s\" is not in: %s", (part), (n)->text);                 \
    } while (0)

/* A set that is sound. */
static inline dt_dataset *open_set(const char *path) {
    test_options c = test_defaults();
    dt_dataset *d;
    dt_data_verify_result v;
    assert_ok(dt_data_verify(path, NULL, NULL, &v));
    assert_ok(dt_dataset_open(&c.data, path, &d));
    assert_int_equal(v.n_samples, d->info.n_samples);
    return d;
}

#endif
