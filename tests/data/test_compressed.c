/* Batches of JPEG files for a decoder elsewhere: which rows hold a file, its bytes and its window; which rows
 * hold pixels instead, the same as without; and that neither depends on the threads. */
#include "batch_fields.h"
#include "data_support.h"

#include "data/augment.h"
#include "data/order.h"
#include "data/upload.h"
#include "dataset.h"
#include "jpeg.h"
#include "jpeg_files.h"

enum { OUT = 48, SEED = 5 };

typedef struct fixture {
    test_options config;
    dt_dataset *data;
    int64_t n;
} fixture;

static fixture open_fixture(const char *name, const jpeg_kind *kind, int n_kind, int n, int64_t channels) {
    char path[256];
    fixture f = {.config = test_defaults(), .n = n};
    f.config.augment.crop = DT_CROP_RANDOM_RESIZED;
    f.config.augment.flip = true;
    f.config.augment.eval_resize = 56;
    assert_ok(jpeg_files_set(scratch, name, kind, n_kind, n, channels, path, sizeof path));
    assert_ok(dt_dataset_open(&f.config.data, path, &f.data));
    assert_true(f.data->info.jpeg && f.data->info.n_samples == n);
    return f;
}

static dt_loader_options options(const fixture *f, bool eval, bool compressed, int64_t rows,
                                 int32_t threads) {
    return (dt_loader_options){.data = &f->config.data,
                               .augment = &f->config.augment,
                               .dataset = f->data,
                               .eval = eval,
                               .compressed = compressed,
                               .seed = SEED,
                               .out_h = OUT,
                               .out_w = OUT,
                               .batch = rows,
                               .global_batch = rows,
                               .n_micro_all = 1,
                               .world = 1,
                               .n_steps = -1,
                               .threads = threads,
                               .n_slots = 3};
}

/* A row with a file: the file, its window, and where they came from. */
static void check_file(const fixture *f, const dt_loader_options *o, const dt_batch *b, int64_t row,
                       uint64_t epoch, int64_t index) {
    dt_augment augment;
    dt_sample s;
    const dt_jpeg_row *r = &batch_files(b)->row[row];
    dt_augment_init(&augment, &f->config.augment, SEED, o->eval, OUT, OUT);
    dt_dataset_locate(f->data, index, &s);
    dt_window w = dt_augment_window(&augment, epoch, (uint64_t)index, s.height, s.width);
    assert_true(r->x0 == w.x0 && r->y0 == w.y0 && r->w == w.w && r->h == w.h && r->flip == w.flip);
    assert_true(r->height == s.height && r->width == s.width && r->index == s.row);
    assert_string_equal(r->path, s.shard->path);
    assert_int_equal(r->shrink * dt_jpeg_scale(w.w, w.h, OUT, OUT), 8);
    assert_int_equal(r->n_bytes, s.n_bytes);
    uint8_t *bytes = malloc((size_t)s.n_bytes);
    assert_non_null(bytes);
    assert_ok(dt_sample_read(f->data, &s, 0, s.n_bytes, bytes));
    assert_memory_equal(bytes, batch_files(b)->bytes + r->offset, (size_t)s.n_bytes);
    free(bytes);
}

/* Two loaders of the same set, one of them compressed; returns how many rows held a file, bit per row of up
 * to 64 rows in *which. */
static int64_t compare(const fixture *f, bool eval, int64_t rows, int32_t threads, int64_t n_batches,
                       uint64_t *which) {
    dt_loader_options o = options(f, eval, true, rows, threads), p = options(f, eval, false, rows, 1);
    dt_loader *l, *m;
    dt_batch a, b;
    dt_jpeg_limits limits;
    int64_t n_files = 0, seen = 0, channels = f->data->info.channels;
    *which = 0;
    dt_loader_jpeg_limits(f->data, rows, OUT, OUT, &limits);
    assert_true(limits.rows == rows && limits.channels == channels);
    assert_ok(dt_loader_open(&o, &l));
    assert_ok(dt_loader_open(&p, &m));
    for (int64_t i = 0; i < n_batches; i++) {
        assert_ok(dt_loader_next(l, &a, NULL));
        assert_ok(dt_loader_next(m, &b, NULL));
        assert_true(a.rows == b.rows && a.n_valid == b.n_valid && a.last == b.last);
        assert_memory_equal(batch_label(&a), batch_label(&b), (size_t)a.rows * sizeof(int32_t));
        assert_true(!b.beside && a.beside);
        int64_t end = 0, pixel_bytes = 0;
        for (int64_t r = 0; r < a.rows; r++, seen++) {
            const dt_jpeg_row *row = &batch_files(&a)->row[r];
            int64_t image = OUT * OUT * channels;
            if (row->n_bytes == 0) {
                assert_memory_equal(batch_image(&a) + r * image, batch_image(&b) + r * image, (size_t)image);
                continue;
            }
            assert_true(r < a.n_valid && row->offset >= end);
            end = row->offset + row->n_bytes;
            pixel_bytes += dt_jpeg_decoded_bytes(row->height, row->width, channels);
            uint64_t t = (uint64_t)(i * rows + r), n = (uint64_t)f->n;
            check_file(f, &o, &a, r, eval ? 0 : t / n,
                       eval ? (int64_t)t : (int64_t)dt_order_sample(SEED, n, t));
            if (seen < 64) *which |= (uint64_t)1 << seen;
            n_files++;
        }
        assert_true(end <= limits.file_bytes && pixel_bytes <= limits.pixel_bytes);
        dt_loader_release(l, &a);
        dt_loader_release(m, &b);
    }
    dt_loader_close(l);
    dt_loader_close(m);
    return n_files;
}

/* Each kind goes where it should; the rest of the last evaluation batch is padding. */
static void test_kinds(void **state) {
    (void)state;
    fixture f = open_fixture("kinds", jpeg_kinds, JPEG_KINDS, JPEG_KINDS, 3);
    uint64_t which, expected = 0;
    int64_t n_plain = 0;
    for (int i = 0; i < JPEG_KINDS; i++) {
        n_plain += jpeg_kinds[i].plain;
        if (jpeg_kinds[i].plain) expected |= (uint64_t)1 << i;
    }
    assert_int_equal(compare(&f, true, JPEG_KINDS, 3, 1, &which), n_plain);
    assert_int_equal(which, expected);
    /* So that every batch holds all of the set, and all of it fits. */
    assert_int_equal(compare(&f, false, JPEG_KINDS, 3, 6, &which), 6 * n_plain);
    assert_true(compare(&f, true, 7, 2, 2, &which) <= n_plain);
    assert_true(compare(&f, false, 5, 2, 20, &which) > 20);
    dt_dataset_close(f.data);
}

/* In a set of one channel, grey files need no conversion. */
static void test_grey(void **state) {
    (void)state;
    const jpeg_kind kinds[] = {{90, 70, 1, 1, 1, false, false, false},
                               {70, 90, 3, 2, 2, false, false, true},
                               {80, 80, 1, 1, 1, true, false, false}};
    fixture f = open_fixture("grey", kinds, 3, 6, 1);
    uint64_t which;
    assert_int_equal(compare(&f, true, 6, 2, 1, &which), 4);
    assert_int_equal(which, 1 | 2 | 8 | 16);
    dt_dataset_close(f.data);
}

/* Large files among small ones: some batches cannot hold all of theirs, the same with any threads. */
static void check_do_not_fit(const char *name, const jpeg_kind *small, const jpeg_kind *large) {
    jpeg_kind kinds[16];
    for (int i = 0; i < 16; i++) kinds[i] = i == 5 ? *large : *small;
    fixture f = open_fixture(name, kinds, 16, 48, 3);
    uint64_t one, many;
    enum { ROWS = 4, BATCHES = 60 };
    int64_t n_one = compare(&f, false, ROWS, 1, BATCHES, &one),
            n_many = compare(&f, false, ROWS, 4, BATCHES, &many);
    assert_true(n_one < ROWS * BATCHES && n_one > ROWS * BATCHES / 2);
    assert_int_equal(n_one, n_many);
    assert_int_equal(one, many);
    dt_dataset_close(f.data);
}

static void test_do_not_fit(void **state) {
    (void)state;
    /* By their bytes, and by their pixels. */
    check_do_not_fit("bytes", &(jpeg_kind){200, 200, 3, 2, 2, false, false, true},
                     &(jpeg_kind){200, 200, 3, 1, 1, false, true, true});
    check_do_not_fit("pixels", &(jpeg_kind){200, 200, 3, 1, 1, false, true, true},
                     &(jpeg_kind){900, 900, 3, 2, 2, false, false, true});
}

static void overwrite(const dt_dataset *d, int64_t sample, int64_t begin, int64_t n) {
    const dt_shard *s = &d->shard[0];
    FILE *file = fopen(s->path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, s->data_offset_bytes + s->offset[sample] + begin, SEEK_SET), 0);
    for (int64_t i = 0; i < n; i++) assert_int_equal(fputc(0, file), 0);
    assert_int_equal(fclose(file), 0);
}

/* A file cut short is libjpeg's, grey from there on; one that is none ends the run with its name. */
static void test_damaged(void **state) {
    (void)state;
    fixture f = open_fixture("damaged", jpeg_kinds, 3, 3, 3);
    uint64_t which;
    int64_t n = dt_shard_sample_bytes(&f.data->shard[0], 2);
    assert_int_equal(compare(&f, true, 3, 2, 1, &which), 3);
    overwrite(f.data, 2, n / 2, n - n / 2);
    assert_int_equal(compare(&f, true, 3, 2, 1, &which), 2);
    assert_int_equal(which, 1 | 2);
    overwrite(f.data, 1, 0, 20);
    dt_loader_options o = options(&f, true, true, 3, 2);
    dt_loader *l;
    dt_batch b;
    assert_ok(dt_loader_open(&o, &l));
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA, "sample 1: not a readable JPEG");
    dt_loader_close(l);
    f.config.data.verify = true;
    for (int compressed = 0; compressed < 2; compressed++) {
        o = options(&f, true, compressed, 3, 2);
        assert_ok(dt_loader_open(&o, &l));
        assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA, "sample 1 is damaged");
        const char *path = f.data->shard[0].path, *named = strstr(dt_error_text(), path);
        assert_non_null(named);
        assert_null(strstr(named + 1, path)); /* once */
        dt_loader_close(l);
    }
    dt_dataset_close(f.data);
}

static void test_refused(void **state) {
    (void)state;
    fixture f = {.config = test_defaults()};
    dt_loader *l;
    assert_ok(dt_dataset_open(&f.config.data, "synthetic", &f.data));
    dt_loader_options o = options(&f, false, true, 4, 1);
    assert_fails(dt_loader_open(&o, &l), DT_ERR_INTERNAL, "JPEG");
    dt_dataset_close(f.data);
}

/* Evaluating small JPEG files in a training that pads would need pixels outside of them. */
static void test_padded(void **state) {
    (void)state;
    fixture f = open_fixture("padded", jpeg_kinds, 1, 1, 3);
    f.config.augment.crop = DT_CROP_PAD;
    f.config.augment.eval_resize = 0;
    dt_loader_options o = options(&f, true, false, 1, 1);
    dt_loader *l;
    assert_fails(dt_loader_open(&o, &l), DT_ERR_CONFIG, "augment.crop");
    dt_dataset_close(f.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),   cmocka_unit_test(test_grey),    cmocka_unit_test(test_do_not_fit),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_refused), cmocka_unit_test(test_padded),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
