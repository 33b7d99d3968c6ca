/* EXIF orientation: found in what cameras write and in nothing else, the eight turns, and importing with and
 * without them. */
#include "data_support.h"

#include <png.h>

#include "exif.h"
#include "exif_files.h"
#include "filter.h"
#include "jpeg.h"

static void test_tiff(void **state) {
    (void)state;
    enum { SIZE = 26 };
    static const struct {
        const char *bytes;
        int want;
    } cases[] = {
        {"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 6},
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0", 8},
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x03\0\0\0\0", 3}, /* as a long */
        {"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0", 1}, /* none of the eight */
        {"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0", 1},
        {"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x02\0\0\0\x06\0\0\0\0\0\0\0", 1}, /* two of them */
        {"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 1}, /* as text */
        {"II*\0\x08\0\0\0\x01\0\x13\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 1}, /* another tag */
        {"II*\0\x08\0\0\0\xFF\xFF\x13\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 1},
        {"II*\0\xFF\xFF\xFF\xFF\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 1},
        {"II*\0\x19\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 1},
        {"IM*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *exact = malloc(SIZE); /* so that a byte too far is seen by a sanitizer */
        memcpy(exact, cases[i].bytes, SIZE);
        assert_int_equal(dt_exif_orientation(exact, SIZE), cases[i].want);
        free(exact);
    }
    for (int64_t n = 0; n < 22; n++) {
        uint8_t *cut = malloc((size_t)n + 1);
        memcpy(cut, cases[0].bytes, (size_t)n);
        assert_int_equal(dt_exif_orientation(cut, n), 1);
        free(cut);
    }
}

static void test_jpeg_segments(void **state) {
    (void)state;
    uint8_t pixel[16 * 16] = {0}, *bytes, file[4096];
    int64_t n;
    assert_ok(dt_jpeg_encode(pixel, 16, 16, 1, 90, &bytes, &n));
    assert_int_equal(dt_exif_jpeg_orientation(bytes, n), 1);
    int64_t with = exif_files_add(bytes, n, 5, file);
    assert_int_equal(dt_exif_jpeg_orientation(file, with), 5);
    for (int64_t cut = 0; cut < 2 + EXIF_SEGMENT_BYTES; cut++) {
        uint8_t *exact = malloc((size_t)cut + 1);
        memcpy(exact, file, (size_t)cut);
        assert_int_equal(dt_exif_jpeg_orientation(exact, cut), 1);
        free(exact);
    }
    /* Behind another segment, and behind padding; but not where the image data begins. */
    memmove(file + 2 + 7, file + 2, (size_t)with - 2);
    memcpy(file + 2, "\xFF\xE0\0\x03J\xFF\xFF", 7);
    assert_int_equal(dt_exif_jpeg_orientation(file, with + 7), 5);
    file[3] = 0xDA;
    assert_int_equal(dt_exif_jpeg_orientation(file, with + 7), 1);
    free(bytes);
}

static void test_turns(void **state) {
    (void)state;
    static const uint8_t stored[] = {1, 2, 3, 4, 5, 6}; /* 2 x 3 */
    static const uint8_t upright[9][6] = {{0},
                                          {1, 2, 3, 4, 5, 6},
                                          {3, 2, 1, 6, 5, 4},
                                          {6, 5, 4, 3, 2, 1},
                                          {4, 5, 6, 1, 2, 3},
                                          {1, 4, 2, 5, 3, 6},
                                          {4, 1, 5, 2, 6, 3},
                                          {6, 3, 5, 2, 4, 1},
                                          {3, 6, 2, 5, 1, 4}};
    for (int32_t o = 1; o <= 8; o++) {
        uint8_t out[6], wide_in[18], wide_out[18];
        dt_turn turn = dt_turn_of(o);
        assert_int_equal(turn.transpose, o >= 5);
        dt_turn_apply(turn, stored, 2, 3, 1, out);
        assert_memory_equal(out, upright[o], 6);
        for (int i = 0; i < 18; i++) wide_in[i] = (uint8_t)(stored[i / 3] * 3 + i % 3);
        dt_turn_apply(turn, wide_in, 2, 3, 3, wide_out);
        for (int i = 0; i < 18; i++) assert_int_equal(wide_out[i], upright[o][i / 3] * 3 + i % 3);
    }
}

enum { HEIGHT = 40, WIDTH = 57, SIDE = 16 };

/* class/o.jpg and class/o.png, o from 1 to 8, all of one stored image. */
static const char *make_tilted(const char *name, uint8_t stored[HEIGHT * WIDTH * 3]) {
    uint8_t *bytes, file[1 << 15];
    int64_t n;
    char *dir = in_scratch("%s", name), command[300];
    snprintf(command, sizeof command, "mkdir -p %s/class", dir);
    assert_int_equal(system(command), 0);
    for (int k = 0; k < HEIGHT * WIDTH * 3; k++)
        stored[k] = (uint8_t)(k / 3 % WIDTH * 3 + k / 3 / WIDTH * (k % 3));
    assert_ok(dt_jpeg_encode(stored, HEIGHT, WIDTH, 3, 96, &bytes, &n));
    for (int o = 1; o <= 8; o++) {
        write_file(in_scratch("%s/class/%d.jpg", name, o), file, (size_t)exif_files_add(bytes, n, o, file));
        assert_int_equal(
            exif_files_write_png(in_scratch("%s/class/%d.png", name, o), stored, HEIGHT, WIDTH, o), 0);
    }
    free(bytes);
    return dir;
}

typedef struct notes {
    int n;
    char last[256];
} notes;

static void keep_note(void *arg, const char *text) {
    notes *kept = arg;
    kept->n++;
    snprintf(kept->last, sizeof kept->last, "%s", text);
}

static dt_import_options tilted_options(const char *const *input, const char *out, notes *kept) {
    return (dt_import_options){.kind = DT_IMPORT_FOLDER,
                               .store = DT_STORE_JPEG,
                               .input = input,
                               .n_input = 1,
                               .out_dir = out,
                               .split = "train",
                               .threads = 2,
                               .note = keep_note,
                               .arg = kept};
}

static void assert_near(const uint8_t *got, const uint8_t *want, int64_t n, int most) {
    for (int64_t i = 0; i < n; i++)
        if (abs(got[i] - want[i]) > most) fail_msg("%d at %lld, not %d", got[i], (long long)i, want[i]);
}

/* Sample i of the set is file i / 2 + 1, the JPEG before the PNG. */
static void test_import_jpeg(void **state) {
    (void)state;
    static uint8_t stored[HEIGHT * WIDTH * 3], upright[sizeof stored], file[1 << 15];
    notes kept = {0};
    dt_import_result r;
    dt_jpeg *j;
    dt_jpeg_part part;
    dt_sample s;
    int32_t h, w;
    const char *input = make_tilted("tilted", stored);
    dt_import_options o = tilted_options(&input, in_scratch("as_stored"), &kept);
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(kept.n, 1);
    assert_string_equal(kept.last,
                        "14 images are not upright by EXIF and stored as they are: --exif-rotate turns them");
    dt_dataset *d = open_set(o.out_dir);
    for (int64_t i = 0; i < 16; i++) {
        dt_dataset_locate(d, i, &s);
        assert_true(s.height == HEIGHT && s.width == WIDTH);
    }
    dt_dataset_close(d);

    o.exif_rotate = true;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "with other options");
    o.out_dir = in_scratch("turned");
    o.jpeg_quality = 96;
    kept = (notes){0};
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(kept.n, 1);
    assert_string_equal(kept.last, "14 images turned upright as EXIF says, and encoded anew");
    assert_ok(dt_jpeg_new(&j));
    d = open_set(o.out_dir);
    for (int64_t i = 0; i < 16; i++) {
        dt_turn turn = dt_turn_of((dt_orientation)(i / 2 + 1));
        dt_dataset_locate(d, i, &s);
        assert_ok(dt_sample_read(d, &s, 0, s.n_bytes, file));
        assert_int_equal(dt_exif_jpeg_orientation(file, s.n_bytes), 1); /* not turned again */
        assert_ok(dt_jpeg_begin(j, file, s.n_bytes, &h, &w));
        assert_true(h == (turn.transpose ? WIDTH : HEIGHT) && w == (turn.transpose ? HEIGHT : WIDTH));
        assert_ok(dt_jpeg_decode(j, 0, 0, w, h, w, h, 3, &part));
        dt_turn_apply(turn, stored, HEIGHT, WIDTH, 3, upright);
        assert_int_equal(part.stride, w * 3);
        assert_near(part.pixel, upright, (int64_t)h * w * 3, 12);
    }
    dt_dataset_close(d);
    dt_jpeg_free(j);
}

/* The square is cut out of the upright image, and resized as that would be. */
static void test_import_raw(void **state) {
    (void)state;
    static uint8_t stored[HEIGHT * WIDTH * 3], upright[sizeof stored];
    uint8_t pixel[SIDE * SIDE * 3], want[SIDE * SIDE * 3];
    notes kept = {0};
    dt_import_result r;
    dt_sample s;
    const char *input = make_tilted("square", stored);
    dt_import_options o = tilted_options(&input, in_scratch("square_out"), &kept);
    o.store = DT_STORE_RAW;
    o.exif_rotate = o.square = true;
    o.resize = SIDE;
    assert_ok(dt_import_run(&o, &r));
    assert_string_equal(kept.last, "14 images turned upright as EXIF says");
    dt_dataset *d = open_set(o.out_dir);
    for (int64_t i = 0; i < 16; i++) {
        dt_dataset_locate(d, i, &s);
        assert_ok(dt_sample_read(d, &s, 0, s.n_bytes, pixel));
        dt_turn turn = dt_turn_of((dt_orientation)(i / 2 + 1));
        dt_turn_apply(turn, stored, HEIGHT, WIDTH, 3, upright);
        int32_t w = turn.transpose ? HEIGHT : WIDTH, cut = (WIDTH - HEIGHT) / 2;
        assert_ok(dt_filter_resize(
            upright, w * 3, 3, dt_resize_window_axis(turn.transpose ? 0 : cut, HEIGHT, SIDE),
            dt_resize_window_axis(turn.transpose ? cut : 0, HEIGHT, SIDE), SIDE, SIDE, want));
        assert_near(pixel, want, sizeof pixel, i % 2 ? 1 : 6); /* the PNG, the JPEG */
    }
    dt_dataset_close(d);

    o = tilted_options(&input, in_scratch("square_none"), &kept);
    o.kind = DT_IMPORT_IDX;
    o.store = DT_STORE_RAW;
    o.exif_rotate = true;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "option exif-rotate is for folder only");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tiff), cmocka_unit_test(test_jpeg_segments),
                                       cmocka_unit_test(test_turns), cmocka_unit_test(test_import_jpeg),
                                       cmocka_unit_test(test_import_raw)};
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
