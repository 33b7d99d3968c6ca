/* Importing directories of images: what counts as one, sizes, and broken files. */
#include "data_support.h"

#include <png.h>

#include "jpeg.h"

/* Directories cat and dog with JPEGs of different sizes, one PNG, one broken JPEG; a text file beside
 * them. */
static char *make_folder(const char *name, bool broken) {
    char *dir = in_scratch("%s", name), command[400];
    snprintf(command, sizeof command, "mkdir -p %s/cat %s/dog", dir, dir);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < 6; i++) {
        int h = 40 + 3 * i, w = 70 - 2 * i;
        uint8_t *pixel = malloc((size_t)(h * w * 3)), *bytes;
        int64_t n;
        for (int k = 0; k < h * w * 3; k++) pixel[k] = (uint8_t)(40 * i + k % 3 * 9);
        assert_ok(dt_jpeg_encode(pixel, h, w, 3, 92, &bytes, &n));
        size_t size = broken && i == 3 ? (size_t)n - 12 : (size_t)n;
        write_file(in_scratch("%s/%s/%d.jpg", name, i % 2 ? "dog" : "cat", i), bytes, size);
        free(bytes);
        free(pixel);
    }
    png_image image = {.version = PNG_IMAGE_VERSION, .width = 50, .height = 50, .format = PNG_FORMAT_GRAY};
    uint8_t grey[50 * 50];
    memset(grey, 77, sizeof grey);
    assert_true(png_image_write_to_file(&image, in_scratch("%s/cat/9.PNG", name), 0, grey, 0, NULL));
    write_file(in_scratch("%s/readme.txt", name), "x", 1);
    write_file(in_scratch("%s/dog/notes.txt", name), "x", 1);
    return dir;
}

static dt_import_options folder_options(const char *const *input, dt_import_store store, const char *out) {
    return (dt_import_options){.kind = DT_IMPORT_FOLDER,
                               .store = store,
                               .input = input,
                               .n_input = 1,
                               .out_dir = out,
                               .split = "train",
                               .threads = 3};
}

static void test_folder(void **state) {
    (void)state;
    const char *input = make_folder("folder", false);
    dt_import_options o = folder_options(&input, DT_STORE_JPEG, in_scratch("folder_jpeg"));
    dt_import_result r;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 7 && r.n_classes == 2);
    dt_dataset *d = open_set(o.out_dir);
    assert_string_equal(dt_dataset_class_name(d, 0), "cat");
    assert_string_equal(dt_dataset_class_name(d, 1), "dog");
    assert_true(d->info.jpeg && d->info.height == 55 && d->info.width == 70);
    dt_sample s;
    dt_dataset_locate(d, 0, &s);
    assert_true(s.label == 0 && s.height == 40 && s.width == 70);
    size_t n; /* the file's own bytes */
    uint8_t *file = slurp(in_scratch("folder/cat/0.jpg"), &n), *stored = malloc(n);
    assert_int_equal(s.n_bytes, n);
    assert_ok(dt_sample_read(d, &s, 0, s.n_bytes, stored));
    assert_memory_equal(file, stored, n);
    free(file);
    free(stored);
    dt_dataset_close(d);

    o = folder_options(&input, DT_STORE_RAW, in_scratch("folder_raw"));
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "folder/cat/2.jpg: 46 x 66 pixels, others 40 x 70");
    o.resize = 24;
    o.square = true;
    assert_ok(dt_import_run(&o, &r));
    d = open_set(o.out_dir);
    assert_true(!d->info.jpeg && d->info.height == 24 && d->info.width == 24 && d->info.channels == 3);
    uint8_t pixel[24 * 24 * 3];
    dt_dataset_locate(d, 4, &s); /* dog/1 */
    assert_int_equal(s.label, 1);
    assert_ok(dt_sample_read(d, &s, 0, s.n_bytes, pixel));
    for (int k = 0; k < 24 * 24 * 3; k++) assert_in_range(pixel[k], 40 + k % 3 * 9 - 3, 40 + k % 3 * 9 + 3);
    dt_dataset_close(d);

    o = folder_options(&input, DT_STORE_JPEG, in_scratch("folder_short"));
    o.resize = 32;
    assert_ok(dt_import_run(&o, &r));
    d = open_set(o.out_dir);
    dt_dataset_locate(d, 0, &s);
    assert_true(s.height == 32 && s.width == 56);
    dt_dataset_close(d);
}

static void count_note(void *arg, const char *text) {
    if (strstr(text, "broken/dog/3.jpg: ")) ++*(int *)arg;
}

static void count_empty(void *arg, const char *text) {
    if (strstr(text, "3 classes without .jpg or .png files, the first: ") && strstr(text, "empty/a"))
        ++*(int *)arg;
}

static void test_folder_broken(void **state) {
    (void)state;
    const char *input = make_folder("broken", true);
    for (int store = DT_STORE_RAW; store <= DT_STORE_JPEG; store++) {
        dt_import_options o =
            folder_options(&input, (dt_import_store)store, in_scratch("broken_out%d", store));
        dt_import_result r;
        int notes = 0;
        o.resize = store == DT_STORE_RAW ? 16 : 0;
        o.square = store == DT_STORE_RAW;
        assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "broken/dog/3.jpg: the JPEG data is damaged or");
        o.skip_broken = true;
        o.note = count_note;
        o.arg = &notes;
        assert_ok(dt_import_run(&o, &r));
        assert_true(r.n_samples == 6 && r.n_skipped == 1);
        assert_int_equal(notes, 1);
        dt_dataset *d = open_set(o.out_dir);
        dt_sample s;
        dt_dataset_locate(d, 5, &s);
        assert_int_equal(s.label, 1);
        dt_dataset_close(d);
    }
    char *empty = in_scratch("empty/a");
    char command[300];
    snprintf(command, sizeof command, "mkdir -p %s", empty);
    assert_int_equal(system(command), 0);
    input = in_scratch("empty");
    dt_import_options o = folder_options(&input, DT_STORE_JPEG, in_scratch("empty_out"));
    dt_import_result r;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "no images");
    snprintf(command, sizeof command, "cd %s && mkdir b c d && cp %s/cat/0.jpg b", input,
             in_scratch("broken"));
    assert_int_equal(system(command), 0);
    int without = 0;
    o.note = count_empty;
    o.arg = &without;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_classes == 4 && r.n_samples == 1 && without == 1);
    input = in_scratch("absent");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "absent");
}

static void count_skipped(void *arg, const char *text) {
    /* notes.txt beside them is told once, too */
    if (strstr(text, "skipped: ") ||
        strstr(text, "1 file without .jpg or .png in the name left out, the first"))
        ++*(int *)arg;
}

/* Directories within those of classes count for the class; every file that is left out is named. */
static void test_folder_deep(void **state) {
    (void)state;
    const char *input = make_folder("deep", false);
    dt_import_options o = folder_options(&input, DT_STORE_JPEG, in_scratch("deep_out"));
    dt_import_result r;
    char command[600];
    int notes = 0;
    snprintf(command, sizeof command,
             "cd %s && mkdir -p dog/more/most cat/.hidden && mv dog/3.jpg dog/more/most/a.jpg && "
             "cp cat/0.jpg cat/.hidden/ && mkdir dog/dir.jpg && for i in 1 2 3 4 5; do echo x "
             ">dog/more/$i.png; done",
             input);
    assert_int_equal(system(command), 0);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "deep/dog/more/1.png: neither");
    o.skip_broken = true;
    o.note = count_skipped;
    o.arg = &notes;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 7 && r.n_skipped == 5 && r.n_classes == 2);
    assert_int_equal(notes, 6);
    dt_dataset *d = open_set(o.out_dir);
    dt_sample s;
    dt_dataset_locate(d, 6, &s);
    assert_true(s.label == 1 && s.height == 49 && s.width == 64); /* a.jpg, after 1.jpg and 5.jpg */
    dt_dataset_close(d);
    snprintf(command, sizeof command, "ln -s .. %s/dog/more/up", input);
    assert_int_equal(system(command), 0);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "deep/dog/more/up/: a link to a directory above it");
    snprintf(command, sizeof command, "cd %s/dog/more && rm up && mkdir -p $(printf 'd/%%.0s' $(seq 40))",
             input);
    assert_int_equal(system(command), 0);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "d/: more than 32 directories deep");
}

/* The first image that loads gives raw shards their size, where broken ones are left out. */
static void test_folder_first_broken(void **state) {
    (void)state;
    const char *input = make_folder("first", false);
    dt_import_options o = folder_options(&input, DT_STORE_RAW, in_scratch("first_out"));
    dt_import_result r;
    char command[500];
    snprintf(command, sizeof command,
             "rm %s/cat/[49]* %s/dog/* && cp %s/cat/2.jpg %s/dog && echo x >%s/cat/0.jpg", input, input,
             input, input, input);
    assert_int_equal(system(command), 0);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "first/cat/0.jpg: neither a JPEG nor a PNG file");
    o.skip_broken = true;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 2 && r.n_skipped == 1);
    dt_dataset *d = open_set(o.out_dir);
    assert_true(!d->info.jpeg && d->info.height == 46 && d->info.width == 66);
    dt_dataset_close(d);
    snprintf(command, sizeof command, "cd %s && cp cat/0.jpg cat/2.jpg && cp cat/0.jpg dog/2.jpg", input);
    assert_int_equal(system(command), 0);
    o.out_dir = in_scratch("first_none");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "first: of 3 images none can be read");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "first/dog/2.jpg: neither a JPEG");
}

/* A progressive file with a sound header and one scan over and over, which only decoding finds. */
static void test_folder_scans(void **state) {
    (void)state;
    const int n_scans = 3000;
    const uint8_t pixel[16 * 16] = {0};
    char *dir = in_scratch("scans"), command[300];
    snprintf(command, sizeof command, "mkdir -p %s/a", dir);
    assert_int_equal(system(command), 0);
    uint8_t *bytes;
    int64_t n, at = 2;
    assert_ok(dt_jpeg_encode(pixel, 16, 16, 1, 90, &bytes, &n));
    for (; bytes[at + 1] != 0xDA; at += 2 + bytes[at + 2] * 256 + bytes[at + 3])
        if (bytes[at + 1] == 0xC0) bytes[at + 1] = 0xC2; /* baseline to progressive */
    bytes[at + 8] = 0;                                   /* the scan has the first coefficient only */
    FILE *f = fopen(in_scratch("scans/a/many.jpg"), "wb");
    assert_non_null(f);
    fwrite(bytes, 1, (size_t)at, f);
    for (int i = 0; i < n_scans; i++) fwrite(bytes + at, 1, (size_t)(n - 2 - at), f);
    fwrite(bytes + n - 2, 1, 2, f);
    assert_int_equal(fclose(f), 0);
    free(bytes);
    const char *input = dir;
    dt_import_options o = folder_options(&input, DT_STORE_JPEG, in_scratch("scans_out"));
    dt_import_result r;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "scans/a/many.jpg: not a readable JPEG: more than");
}

/* Where all images that would be measured are left out, another is: the same with any number of threads. */
static void test_folder_measured(void **state) {
    (void)state;
    enum { IMAGES = 10, SIDE = 24, LEVEL = 50 };
    const char *input = in_scratch("measured");
    char command[800];
    snprintf(command, sizeof command, "mkdir -p %s/a", input);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < IMAGES; i++) {
        uint8_t pixel[SIDE * SIDE * 3], *bytes;
        int64_t n;
        memset(pixel, LEVEL + 10 * i, sizeof pixel);
        assert_ok(dt_jpeg_encode(pixel, SIDE, SIDE, 3, 95, &bytes, &n));
        write_file(in_scratch("measured/a/%d.jpg", i), bytes, i % 8 ? (size_t)n : (size_t)n - 12);
        free(bytes);
    }
    char *one = in_scratch("measured_1"), *three = in_scratch("measured_3");
    for (int threads = 1; threads <= 3; threads += 2) {
        dt_import_options o = folder_options(&input, DT_STORE_JPEG, threads == 1 ? one : three);
        dt_import_result r;
        o.skip_broken = true;
        o.threads = threads;
        assert_ok(dt_import_run(&o, &r));
        assert_true(r.n_samples == IMAGES - 2 && r.n_skipped == 2);
    }
    dt_dataset *d = open_set(one);
    assert_int_equal(d->shard[0].stats_pixels, SIDE * SIDE);
    assert_true(d->has_stats);
    for (int c = 0; c < 3; c++) assert_float_equal(d->info.mean[c] * 255, LEVEL + 10, 1);
    dt_dataset_close(d);
    snprintf(command, sizeof command, "diff -r %s %s", one, three);
    assert_int_equal(system(command), 0);
}

typedef struct foreign_notes {
    int n_left_out, n_skipped;
} foreign_notes;

static void count_foreign(void *arg, const char *text) {
    foreign_notes *notes = arg;
    notes->n_left_out +=
        strstr(text, "3 files without .jpg or .png in the name left out (2 of them of other image "
                     "formats: convert them to JPEG or PNG), the first: ") != NULL;
    notes->n_skipped += strstr(text, "but WebP: convert it to PNG") != NULL;
}

/* Images of other formats are named as such, by their names or by their first bytes; JPEG under its rarer
 * names is taken. */
static void test_folder_foreign(void **state) {
    (void)state;
    const char *input = in_scratch("foreign");
    uint8_t pixel[8 * 8] = {0}, *bytes;
    char command[300];
    int64_t n;
    foreign_notes notes = {0};
    snprintf(command, sizeof command, "mkdir -p %s/a && cd %s/a && touch x.bmp y.WebP z.txt", input, input);
    assert_int_equal(system(command), 0);
    dt_import_options o = folder_options(&input, DT_STORE_JPEG, in_scratch("foreign_out"));
    dt_import_result r;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "convert images of other formats to JPEG or PNG");
    assert_ok(dt_jpeg_encode(pixel, 8, 8, 1, 90, &bytes, &n));
    write_file(in_scratch("foreign/a/1.jfif"), bytes, (size_t)n);
    write_file(in_scratch("foreign/a/2.JPE"), bytes, (size_t)n);
    free(bytes);
    write_file(in_scratch("foreign/a/3.jpg"), "RIFF\x10\0\0\0WEBPVP8 ", 16);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA,
                 "3.jpg: neither a JPEG nor a PNG file, but WebP: convert");
    o.skip_broken = true;
    o.note = count_foreign;
    o.arg = &notes;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 2 && notes.n_left_out == 1 && notes.n_skipped == 1);
}

/* A strip of one row would become 8192 of them. */
static void test_folder_strip(void **state) {
    (void)state;
    enum { LENGTH = 60000 };
    static uint8_t grey[LENGTH];
    const char *input = in_scratch("strip");
    char command[300];
    snprintf(command, sizeof command, "mkdir -p %s/a", input);
    assert_int_equal(system(command), 0);
    png_image image = {.version = PNG_IMAGE_VERSION, .width = LENGTH, .height = 1, .format = PNG_FORMAT_GRAY};
    assert_true(png_image_write_to_file(&image, in_scratch("strip/a/1.png"), 0, grey, 0, NULL));
    dt_import_options o = folder_options(&input, DT_STORE_RAW, in_scratch("strip_out"));
    dt_import_result r;
    o.resize = DT_IMPORT_SIDE_MAX;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA,
                 "strip/a/1.png: resized to 491520000 x 8192 pixels: larger than allowed");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder),         cmocka_unit_test(test_folder_broken),
        cmocka_unit_test(test_folder_deep),    cmocka_unit_test(test_folder_first_broken),
        cmocka_unit_test(test_folder_scans),   cmocka_unit_test(test_folder_measured),
        cmocka_unit_test(test_folder_foreign), cmocka_unit_test(test_folder_strip),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
