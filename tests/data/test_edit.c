/* Operations on pixels against torchvision's (tests/golden/make_augment.py), byte for byte. */
#include "data_support.h"

#include "data/h5.h"
#include "edit.h"

static const char *const kind_names[DT_EDIT_COUNT] = {[DT_EDIT_BRIGHTNESS] = "brightness",
                                                      [DT_EDIT_CONTRAST] = "contrast",
                                                      [DT_EDIT_SATURATION] = "saturation",
                                                      [DT_EDIT_HUE] = "hue",
                                                      [DT_EDIT_GRAYSCALE] = "grayscale",
                                                      [DT_EDIT_SHARPNESS] = "sharpness",
                                                      [DT_EDIT_POSTERIZE] = "posterize",
                                                      [DT_EDIT_SOLARIZE] = "solarize",
                                                      [DT_EDIT_AUTOCONTRAST] = "autocontrast",
                                                      [DT_EDIT_EQUALIZE] = "equalize",
                                                      [DT_EDIT_SHEAR_X] = "shear_x",
                                                      [DT_EDIT_SHEAR_Y] = "shear_y",
                                                      [DT_EDIT_SHIFT_X] = "shift_x",
                                                      [DT_EDIT_SHIFT_Y] = "shift_y",
                                                      [DT_EDIT_ROTATE] = "rotate"};

static void *load(dt_h5 *h, const char *name, dt_h5_info *info) {
    dt_h5_info own;
    if (!info) info = &own;
    assert_ok(dt_h5_info_get(h, name, info));
    void *data = malloc((size_t)info->n_elem * dt_dtype_size(info->dtype));
    assert_non_null(data);
    assert_ok(dt_h5_read(h, name, info->dtype, info->n_elem, data));
    return data;
}

static void expect_same(const uint8_t *got, const uint8_t *want, int64_t n, const char *name) {
    for (int64_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s: byte %lld is %d, expected %d", name, (long long)i, got[i], want[i]);
}

static int check_image(dt_h5 *h, const char *image) {
    char name[128];
    dt_h5_info info;
    dt_editor *e;
    int n = 0;
    assert_ok(dt_editor_new(&e));
    for (int kind = 0; kind < DT_EDIT_COUNT; kind++)
        for (int i = 0;; i++, n++) {
            snprintf(name, sizeof name, "edit/%s/%s/%d", image, kind_names[kind], i);
            if (!dt_h5_has(h, name)) break;
            uint8_t *want = load(h, name, NULL);
            snprintf(name, sizeof name, "value/%s/%s/%d", image, kind_names[kind], i);
            float *value = load(h, name, NULL);
            snprintf(name, sizeof name, "image/%s", image);
            uint8_t *pixel = load(h, name, &info);
            const dt_edit edit = {(dt_edit_kind)kind, value[0]};
            assert_ok(
                dt_edit_image(e, &edit, 1, (uint8_t)value[1], pixel, info.dim[0], info.dim[1], info.dim[2]));
            snprintf(name, sizeof name, "%s of %s by %g", kind_names[kind], image, (double)value[0]);
            expect_same(pixel, want, info.n_elem, name);
            free(want), free(value), free(pixel);
        }
    dt_editor_free(e);
    return n;
}

static void test_golden(void **state) {
    (void)state;
    dt_h5 *h;
    assert_ok(dt_h5_open(DT_TEST_DATA "/augment.h5", &h));
    assert_int_equal(check_image(h, "colour"), 39);
    static const char *const others[] = {"grey", "dull", "flat"};
    for (int i = 0; i < 3; i++) assert_int_equal(check_image(h, others[i]), DT_EDIT_COUNT);
    assert_ok(dt_h5_close(h));
}

/* One after the other is the same as each alone; and a small image after a large one. */
static void test_sequence(void **state) {
    (void)state;
    enum { SIDE = 19 };
    static const dt_edit edit[] = {
        {DT_EDIT_ROTATE, 20}, {DT_EDIT_CONTRAST, 1.4f}, {DT_EDIT_SHARPNESS, 1.7f}, {DT_EDIT_HUE, 0.3f}};
    uint8_t at_once[SIDE * SIDE * 3], apart[SIDE * SIDE * 3];
    dt_editor *e, *other;
    assert_ok(dt_editor_new(&e));
    assert_ok(dt_editor_new(&other));
    for (int32_t side = SIDE; side > 0; side -= 6) {
        const size_t n = (size_t)side * (size_t)side * 3;
        for (size_t i = 0; i < n; i++) at_once[i] = apart[i] = (uint8_t)(i * 37 ^ i >> 3);
        assert_ok(dt_edit_image(e, edit, 4, 9, at_once, side, side, 3));
        for (int i = 0; i < 4; i++) assert_ok(dt_edit_image(other, &edit[i], 1, 9, apart, side, side, 3));
        assert_memory_equal(at_once, apart, n);
    }
    dt_editor_free(e);
    dt_editor_free(other);
}

/* Every operation on images of one row, one column, one pixel. */
static void test_small(void **state) {
    (void)state;
    static const int64_t sides[][2] = {{1, 1}, {1, 9}, {9, 1}, {2, 2}, {3, 3}};
    dt_editor *e;
    assert_ok(dt_editor_new(&e));
    for (size_t s = 0; s < sizeof sides / sizeof sides[0]; s++)
        for (int64_t channels = 1; channels <= 3; channels += 2)
            for (int kind = 0; kind < DT_EDIT_COUNT; kind++) {
                const int64_t n = sides[s][0] * sides[s][1] * channels;
                uint8_t *pixel = malloc((size_t)n);
                assert_non_null(pixel);
                for (int64_t i = 0; i < n; i++) pixel[i] = (uint8_t)(i * 91);
                const dt_edit edit = {(dt_edit_kind)kind, kind == DT_EDIT_HUE ? 0.5f : 0.7f};
                assert_ok(dt_edit_image(e, &edit, 1, 0, pixel, sides[s][0], sides[s][1], channels));
                free(pixel);
            }
    dt_editor_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_sequence),
                                       cmocka_unit_test(test_small)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
