/* Timing of the way from the page cache to a batch. The images are generated (source_synthetic.c), since a
 * benchmark must run anywhere; their JPEG files are as large as those of photographs of their size. */
#include "core/dir.h"
#include "data/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/text.h"
#include "data/import.h"
#include "data/upload.h"
#include "fetch.h"
#include "files.h"

enum { RAW_SIDE = 256, JPEG_H = 375, JPEG_W = 500, OUT_SIDE = 224, CLASSES = 10, BATCH = 64, SLOTS = 3 };

typedef struct bench {
    dt_data_bench_options o;
    dt_data_options data;
    dt_augment_options augment;
    char *dir;
    bool temporary;
    dt_dataset *raw, *jpeg;
} bench;

static dt_status make_set(const bench *b, const char *name, dt_import_store store, int64_t h, int64_t w,
                          dt_dataset **out) {
    char *dir;
    if (asprintf(&dir, "%s/%s", b->dir, name) < 0) return dt_fail(DT_ERR_MEMORY, "bench: out of memory");
    dt_import_options o = {.kind = DT_IMPORT_SYNTHETIC,
                           .store = store,
                           .out_dir = dir,
                           .split = "train",
                           .synthetic = {b->o.n_images, CLASSES, h, w}};
    dt_import_result ignored;
    dt_status status = dt_import_run(&o, &ignored);
    if (status == DT_OK) status = dt_dataset_open_path(dir, out);
    free(dir);
    return status;
}

/* The JPEG samples as files, in directories by class. */
static dt_status dump_files(const bench *b) {
    const char *root = b->o.dump_dir;
    dt_status status = DT_OK;
    for (int64_t i = 0; root && status == DT_OK && i < b->jpeg->info.n_samples; i++) {
        dt_sample s;
        char *dir = NULL, *path = NULL;
        dt_dataset_locate(b->jpeg, i, &s);
        uint8_t *bytes = malloc((size_t)s.n_bytes);
        if (!bytes || asprintf(&dir, "%s/%02d", root, s.label) < 0 ||
            asprintf(&path, "%s/%06lld.jpg", dir, (long long)i) < 0)
            status = dt_fail(DT_ERR_MEMORY, "bench: out of memory");
        if (status == DT_OK) status = dt_dir_create(dir);
        if (status == DT_OK) status = dt_sample_read(b->jpeg, &s, 0, s.n_bytes, bytes);
        FILE *f = status == DT_OK ? fopen(path, "we") : NULL;
        bool written = f && fwrite(bytes, 1, (size_t)s.n_bytes, f) == (size_t)s.n_bytes;
        if ((f && fclose(f) != 0) || (status == DT_OK && !written))
            status = dt_fail(DT_ERR_IO, "%s: cannot write: %s", path, dt_create_error(path, errno).s);
        free(bytes);
        free(dir);
        free(path);
    }
    return status;
}

/* One thread, without the loader around it. */
static dt_status time_fetch(const bench *b, const dt_dataset *d, const char *name, bool verify,
                            const dt_augment_options *augment, dt_data_bench_row *row) {
    dt_fetch_options o = {.dataset = d, .verify = verify, .simd = dt_simd_best()};
    dt_augment_init(&o.augment, augment, 1, false, OUT_SIDE, OUT_SIDE);
    dt_fetcher *f;
    int32_t label;
    dt_status status = DT_OK;
    uint8_t *image = malloc((size_t)OUT_SIDE * OUT_SIDE * (size_t)d->info.channels);
    if (!image) return dt_fail(DT_ERR_MEMORY, "bench: out of memory");
    DT_TRY_GOTO(status, dt_fetcher_new(&o, &f), done);
    int64_t n = 0, warm = dt_min_i64(d->info.n_samples, BATCH);
    dt_fetch_times before = {0}, after;
    double start = dt_time_s(), seconds = 0;
    for (; seconds < b->o.seconds || n == 0; n++) {
        const dt_draw_of of = {.epoch = (uint64_t)(n / d->info.n_samples),
                               .sample = (uint64_t)(n % d->info.n_samples)};
        DT_TRY_GOTO(status, dt_fetch(f, &of, image, &label, NULL), free);
        if (n == warm) {
            dt_fetcher_times(f, &before);
            start = dt_time_s();
        }
        seconds = n > warm ? dt_time_s() - start : 0;
    }
    dt_fetcher_times(f, &after);
    double images = (double)(after.n_samples - before.n_samples);
    *row = (dt_data_bench_row){.name = name,
                               .images_per_s = images / seconds,
                               .read_us = (after.read_s - before.read_s) / images * 1e6,
                               .decode_us = (after.decode_s - before.decode_s) / images * 1e6,
                               .resize_us = (after.resize_s - before.resize_s) / images * 1e6,
                               .edit_us = (after.edit_s - before.edit_s) / images * 1e6,
                               .mb_per_image = (double)(after.n_bytes - before.n_bytes) / images * 1e-6};
free:
    dt_fetcher_free(f);
done:
    free(image);
    return status;
}

/* One augmentation at a time, on images as the first row has them. */
static dt_status time_augments(const bench *b, dt_data_bench_row *rows) {
    const struct {
        const char *name;
        double brightness, contrast, saturation, hue, grayscale;
        dt_policy policy;
    } of[DT_DATA_BENCH_AUGMENTS] = {
        {"brightness 0.4", .brightness = 0.4},
        {"contrast 0.4", .contrast = 0.4},
        {"saturation 0.4", .saturation = 0.4},
        {"hue 0.1", .hue = 0.1},
        {"colour jitter, all four", 0.4, 0.4, 0.4, 0.1, .policy = DT_POLICY_NONE},
        {"grayscale 1", .grayscale = 1},
        {"grayscale 0.2", .grayscale = 0.2},
        {"randaugment, 2 of 9", .policy = DT_POLICY_RANDAUGMENT},
        {"trivialaugment", .policy = DT_POLICY_TRIVIALAUGMENT},
    };
    for (int i = 0; i < DT_DATA_BENCH_AUGMENTS; i++) {
        dt_augment_options o = b->augment;
        o.brightness = of[i].brightness, o.contrast = of[i].contrast, o.saturation = of[i].saturation;
        o.hue = of[i].hue, o.grayscale = of[i].grayscale, o.policy = of[i].policy;
        DT_TRY(time_fetch(b, b->raw, of[i].name, false, &o, &rows[i]));
    }
    return DT_OK;
}

static dt_loader_options loader_options(const bench *b, const dt_dataset *d) {
    return (dt_loader_options){.data = &b->data,
                               .augment = &b->augment,
                               .dataset = d,
                               .out_h = OUT_SIDE,
                               .out_w = OUT_SIDE,
                               .global_batch = BATCH,
                               .n_micro_all = 1,
                               .world = 1,
                               .n_steps = -1,
                               .threads = b->o.threads,
                               .n_slots = SLOTS};
}

static dt_status time_loader(const bench *b, const dt_dataset *d, const char *name, dt_data_bench_row *row) {
    dt_loader_options o = loader_options(b, d);
    dt_loader *l;
    dt_batch batch;
    DT_TRY(dt_loader_open(&o, &l));
    dt_status status = DT_OK;
    double start = 0, seconds = 0;
    int64_t n = 0;
    for (; status == DT_OK && (n < 2 * SLOTS || seconds < b->o.seconds); n++) {
        status = dt_loader_next(l, &batch, NULL);
        if (status == DT_OK) dt_loader_release(l, &batch);
        if (n == SLOTS) start = dt_time_s(); /* past what was prepared while nobody looked */
        seconds = n > SLOTS ? dt_time_s() - start : 0;
    }
    *row = (dt_data_bench_row){.name = name, .images_per_s = (double)((n - 1 - SLOTS) * BATCH) / seconds};
    dt_loader_close(l);
    return status;
}

/* Batches of files through the loader, decoded by the device: at most two under way. */
static dt_status run_device(const bench *b, dt_loader *l, dt_jpeg_decoder *d, uint8_t *image,
                            dt_stream *stream, dt_event *const done[2], double *images_per_s) {
    dt_backend *be = b->o.be;
    dt_batch batch[2];
    double start = 0, seconds = 0;
    int64_t n = 0;
    for (; n < 2 * SLOTS || seconds < b->o.seconds; n++) {
        dt_batch *now = &batch[n % 2];
        DT_TRY(dt_loader_next(l, now, NULL));
        const dt_jpeg_files *files = now->beside;
        const dt_jpeg_batch jpeg = {files->row, now->rows, files->bytes, dt_batch_field(now, "image")};
        DT_TRY(b->o.jpeg->decode(be, d, &jpeg, image, stream));
        DT_TRY(be->event_record(be, done[n % 2], stream));
        if (n > 0) {
            DT_TRY(be->event_sync(be, done[(n - 1) % 2]));
            dt_loader_release(l, &batch[(n - 1) % 2]);
        }
        if (n == SLOTS) start = dt_time_s();
        seconds = n > SLOTS ? dt_time_s() - start : 0;
    }
    *images_per_s = (double)((n - 1 - SLOTS) * BATCH) / seconds;
    return be->stream_sync(be, stream);
}

static dt_status time_device(const bench *b, const dt_dataset *data, dt_data_bench_row *row) {
    dt_backend *be = b->o.be;
    dt_loader *l = NULL;
    dt_jpeg_decoder *d = NULL;
    dt_stream *stream = NULL;
    dt_event *done[2] = {NULL, NULL};
    void *image = NULL;
    dt_jpeg_limits limits;
    *row = (dt_data_bench_row){.name = "no nvJPEG here"};
    if (!be || !b->o.jpeg) return DT_OK;
    dt_loader_options o = loader_options(b, data);
    o.compressed = true;
    o.edits = dt_augment_edits_colours(o.augment);
    dt_loader_pin(&o, be);
    dt_loader_jpeg_limits(data, BATCH, OUT_SIDE, OUT_SIDE, &limits);
    dt_status status = DT_OK;
    DT_TRY_GOTO(status, dt_loader_open(&o, &l), done);
    DT_TRY_GOTO(status, b->o.jpeg->create(be, &limits, &d), done);
    DT_TRY_GOTO(status, be->stream_create(be, &stream), done);
    for (int i = 0; i < 2; i++) DT_TRY_GOTO(status, be->event_create(be, &done[i]), done);
    int64_t bytes = BATCH * OUT_SIDE * OUT_SIDE * data->info.channels;
    DT_TRY_GOTO(status, be->alloc(be, DT_MEM_DEVICE, bytes, &image), done);
    row->name = b->o.jpeg->name(d);
    DT_TRY_GOTO(status, run_device(b, l, d, image, stream, done, &row->images_per_s), done);
done:
    if (d) b->o.jpeg->destroy(be, d);
    be->free(be, DT_MEM_DEVICE, image);
    for (int i = 0; i < 2; i++)
        if (done[i]) be->event_destroy(be, done[i]);
    if (stream) be->stream_destroy(be, stream);
    dt_loader_close(l);
    return status;
}

static void print_table(FILE *out, const dt_data_bench_row *rows, int32_t threads) {
    fprintf(out, "%-28s %10s %9s %9s %9s %9s %9s\n", "to 224 x 224, crop and flip", "images/s", "read us",
            "decode us", "resize us", "edit us", "MB/image");
    for (int i = 0; i < DT_DATA_BENCH_ROWS; i++) {
        if (rows[i].images_per_s <= 0) {
            fprintf(out, "%s\n", rows[i].name);
            continue;
        }
        fprintf(out, "%-28s %10.0f", rows[i].name, rows[i].images_per_s);
        if (rows[i].mb_per_image > 0)
            fprintf(out, " %9.1f %9.1f %9.1f %9.1f %9.3f\n", rows[i].read_us, rows[i].decode_us,
                    rows[i].resize_us, rows[i].edit_us, rows[i].mb_per_image);
        else
            fprintf(out, " %s\n", dt_count_text(threads, "thread").s);
    }
}

static dt_status run(bench *b, FILE *out, dt_data_bench_row *rows) {
    DT_TRY(make_set(b, "raw", DT_STORE_RAW, RAW_SIDE, RAW_SIDE, &b->raw));
    DT_TRY(make_set(b, "jpeg", DT_STORE_JPEG, JPEG_H, JPEG_W, &b->jpeg));
    DT_TRY(dump_files(b));
    DT_TRY(time_fetch(b, b->raw, "raw 256 x 256", false, &b->augment, &rows[0]));
    DT_TRY(time_fetch(b, b->raw, "raw 256 x 256, verified", true, &b->augment, &rows[1]));
    DT_TRY(time_fetch(b, b->jpeg, "JPEG 500 x 375", false, &b->augment, &rows[2]));
    DT_TRY(time_loader(b, b->raw, "raw, loader", &rows[3]));
    DT_TRY(time_loader(b, b->jpeg, "JPEG, loader", &rows[4]));
    DT_TRY(time_device(b, b->jpeg, &rows[5]));
    DT_TRY(time_augments(b, rows + DT_DATA_BENCH_ROWS - DT_DATA_BENCH_AUGMENTS));
    if (out) print_table(out, rows, b->o.threads);
    return DT_OK;
}

static bool any_name(const char *name) {
    return name[0] != '.';
}

/* Removes dir/raw and dir/jpeg, which hold files only. */
static void remove_sets(const char *root) {
    static const char *const sets[] = {"raw", "jpeg"};
    char path[4096];
    for (int i = 0; i < 2; i++) {
        char dir[2048];
        dt_names names;
        snprintf(dir, sizeof dir, "%s/%s", root, sets[i]);
        if (dt_dir_list(dir, any_name, &names) != DT_OK) continue;
        for (int64_t k = 0; k < names.n; k++) {
            snprintf(path, sizeof path, "%s/%s", dir, names.name[k]);
            unlink(path);
        }
        dt_names_free(&names);
        rmdir(dir);
    }
    rmdir(root);
}

dt_status dt_data_bench(const dt_data_bench_options *o, FILE *out,
                        dt_data_bench_row rows[DT_DATA_BENCH_ROWS]) {
    bench b = {.o = *o, .temporary = !o->dir};
    if (b.o.n_images <= 0) b.o.n_images = 256;
    if (b.o.seconds <= 0) b.o.seconds = 3;
    if (b.o.threads <= 0) b.o.threads = 1;
    dt_section_defaults(&dt_data_section, &b.data);
    dt_section_defaults(&dt_augment_section, &b.augment);
    b.augment.crop = DT_CROP_RANDOM_RESIZED;
    b.augment.flip = true;
    const char *tmp = getenv("TMPDIR");
    int n = o->dir ? asprintf(&b.dir, "%s", o->dir)
                   : asprintf(&b.dir, "%s/dtrain-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    dt_status status = DT_OK;
    if (n < 0)
        status = dt_fail(DT_ERR_MEMORY, "bench: out of memory");
    else if (b.temporary && !mkdtemp(b.dir))
        status = dt_fail(DT_ERR_IO, "%s: cannot create a temporary directory: %s", b.dir,
                         dt_create_error(b.dir, errno).s);
    else {
        status = run(&b, out, rows);
        dt_dataset_close(b.raw);
        dt_dataset_close(b.jpeg);
        if (b.temporary) {
            char text[1024];
            snprintf(text, sizeof text, "%s", dt_error_text()); /* clearing up must not hide the cause */
            remove_sets(b.dir);
            dt_error_set_text(text);
        }
        free(b.dir);
    }
    return status;
}
