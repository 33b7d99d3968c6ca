/* Crop windows: inside the image, distributed as torchvision's, and a function of (seed, epoch, sample)
 * alone. */
#include "data_support.h"

#include <math.h>

#include "data/augment.h"

static dt_augment make(dt_crop crop, bool eval, int64_t out) {
    test_options c = test_defaults();
    c.augment.crop = crop;
    c.augment.flip = true;
    c.augment.pad = 4;
    dt_augment a;
    dt_augment_init(&a, &c.augment, 77, eval, out, out);
    return a;
}

/* Area fraction and log ratio of the accepted tries, against a simulation of the definition with another
 * generator. 500 x 375, so that wide windows are rejected as often as they should be. */
static void test_random_resized(void **state) {
    (void)state;
    enum { DRAWS = 200000, H = 375, W = 500 };
    dt_augment a = make(DT_CROP_RANDOM_RESIZED, false, 224);
    double area = 0, log_ratio = 0, x = 0, y = 0, flips = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        dt_window w = dt_augment_window(&a, i / 1000, i % 1000, H, W);
        assert_true(w.x0 >= 0 && w.y0 >= 0 && w.w > 0 && w.h > 0 && w.x0 + w.w <= W && w.y0 + w.h <= H);
        area += (double)w.w * w.h / (H * W);
        log_ratio += log((double)w.w / w.h);
        if (w.w < W) x += (double)w.x0 / (W - w.w);
        if (w.h < H) y += (double)w.y0 / (H - w.h);
        flips += w.flip;
    }
    double expected_area = 0, expected_ratio = 0;
    srand48(5);
    for (int i = 0; i < DRAWS; i++) {
        double w = 0, h = 0;
        for (int attempt = 0; attempt < 10; attempt++) {
            double target = H * W * (0.08 + 0.92 * drand48());
            double ratio = exp(log(3.0 / 4) + drand48() * log(16.0 / 9));
            w = rint(sqrt(target * ratio)), h = rint(sqrt(target / ratio));
            if (w <= W && h <= H) break;
            w = W, h = H; /* 4:3 itself is in range: the fallback is the whole image */
        }
        expected_area += w * h / (H * W);
        expected_ratio += log(w / h);
    }
    assert_true(fabs(area - expected_area) / DRAWS < 0.003);
    assert_true(fabs(log_ratio - expected_ratio) / DRAWS < 0.003);
    assert_true(fabs(x / DRAWS - 0.5) < 0.005 && fabs(y / DRAWS - 0.5) < 0.005);
    assert_true(fabs(flips / DRAWS - 0.5) < 0.005);
}

/* A strip fits no window: the fallback is the largest centred one of an allowed ratio. */
static void test_fallback(void **state) {
    (void)state;
    dt_augment a = make(DT_CROP_RANDOM_RESIZED, false, 8);
    dt_window w = dt_augment_window(&a, 0, 0, 30, 3000);
    assert_true(w.h == 30 && w.w == 40 && w.y0 == 0 && w.x0 == (3000 - 40) / 2);
    w = dt_augment_window(&a, 0, 0, 3000, 30);
    assert_true(w.w == 30 && w.h == 40 && w.x0 == 0 && w.y0 == (3000 - 40) / 2);
}

static void test_pad(void **state) {
    (void)state;
    int count_x[9] = {0}, count_y[9] = {0};
    dt_augment a = make(DT_CROP_PAD, false, 32);
    for (uint64_t i = 0; i < 90000; i++) {
        dt_window w = dt_augment_window(&a, 3, i, 32, 32);
        assert_true(w.w == 32 && w.h == 32 && abs(w.x0) <= 4 && abs(w.y0) <= 4);
        count_x[w.x0 + 4]++;
        count_y[w.y0 + 4]++;
    }
    for (int i = 0; i < 9; i++) assert_true(abs(count_x[i] - 10000) < 500 && abs(count_y[i] - 10000) < 500);
}

static void check_window(dt_window w, int x0, int y0, int width, int height) {
    assert_true(w.x0 == x0 && w.y0 == y0 && w.w == width && w.h == height && !w.flip);
}

static void test_centre(void **state) {
    (void)state;
    dt_augment a = make(DT_CROP_RANDOM_RESIZED, true, 224);
    check_window(dt_augment_window(&a, 0, 0, 256, 256), 16, 16, 224, 224); /* not resized */
    check_window(dt_augment_window(&a, 0, 0, 100, 200), 50, 0, 100, 100);  /* too small: the largest square */
    a.eval_resize = 256;
    check_window(dt_augment_window(&a, 0, 0, 512, 1024), 288, 32, 448, 448);
    check_window(dt_augment_window(&a, 0, 0, 128, 128), 8, 8, 112, 112);
    a.eval_resize = 128; /* less than the crop: all there is */
    check_window(dt_augment_window(&a, 0, 0, 256, 256), 0, 0, 256, 256);
}

static void test_function_of_seed_epoch_sample(void **state) {
    (void)state;
    dt_augment a = make(DT_CROP_RANDOM_RESIZED, false, 224), b = a;
    int same_epoch = 0, same_sample = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        dt_window w = dt_augment_window(&a, 5, i, 256, 256), again = dt_augment_window(&b, 5, i, 256, 256);
        assert_memory_equal(&w, &again, sizeof w);
        dt_window other = dt_augment_window(&a, 6, i, 256, 256),
                  next = dt_augment_window(&a, 5, i + 1, 256, 256);
        same_epoch += w.x0 == other.x0 && w.w == other.w && w.h == other.h;
        same_sample += w.x0 == next.x0 && w.w == next.w && w.h == next.h;
    }
    assert_true(same_epoch < 5 && same_sample < 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_resized), cmocka_unit_test(test_fallback),
                                       cmocka_unit_test(test_pad), cmocka_unit_test(test_centre),
                                       cmocka_unit_test(test_function_of_seed_epoch_sample)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
