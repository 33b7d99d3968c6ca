/* Crop windows: inside the image, distributed as torchvision's, and a function of (seed, epoch, sample)
 * alone. */
#include "data_support.h"

#include <math.h>

#include "data/augment.h"
#include "data/h5.h"

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

/* ---- edits, rectangles, mixing ---- */

enum { H = 224, W = 160 };

static dt_augment augment_of(const dt_augment_options *o) {
    dt_augment a;
    dt_augment_options all = *o;
    all.scale_min = all.scale_max = all.ratio_min = all.ratio_max = 1;
    dt_augment_init(&a, &all, 5, false, H, W);
    return a;
}

static dt_draws draw(const dt_augment *a, uint64_t epoch, uint64_t sample) {
    dt_draws d;
    dt_augment_draw(a, &(dt_draw_of){.epoch = epoch, .sample = sample, .step = sample}, H, W, &d);
    return d;
}

static const struct {
    dt_edit_kind kind;
    const char *name;
} in_policies[] = {{DT_EDIT_SHEAR_X, "shear_x"},       {DT_EDIT_SHEAR_Y, "shear_y"},
                   {DT_EDIT_SHIFT_X, "shift_x"},       {DT_EDIT_SHIFT_Y, "shift_y"},
                   {DT_EDIT_ROTATE, "rotate"},         {DT_EDIT_BRIGHTNESS, "brightness"},
                   {DT_EDIT_SATURATION, "saturation"}, {DT_EDIT_CONTRAST, "contrast"},
                   {DT_EDIT_SHARPNESS, "sharpness"},   {DT_EDIT_POSTERIZE, "posterize"},
                   {DT_EDIT_SOLARIZE, "solarize"},     {DT_EDIT_AUTOCONTRAST, "autocontrast"},
                   {DT_EDIT_EQUALIZE, "equalize"}};
enum { BINS = 31, DRAWS = 60000, N_IN_POLICIES = sizeof in_policies / sizeof in_policies[0] };

/* Every value that torchvision has, and no other, of each sign as often as is due. */
static void check_policy(const dt_augment *a, const char *policy, int64_t first_bin, int64_t bins) {
    int count[N_IN_POLICIES][2][BINS] = {{{0}}}, n = 0;
    float want[N_IN_POLICIES][2][BINS];
    dt_h5 *h;
    assert_ok(dt_h5_open(DT_TEST_DATA "/augment.h5", &h));
    for (int k = 0; k < N_IN_POLICIES; k++) {
        char name[64];
        snprintf(name, sizeof name, "policy/%s/%s", policy, in_policies[k].name);
        assert_ok(dt_h5_read(h, name, DT_DTYPE_F32, 2 * BINS, want[k]));
    }
    assert_ok(dt_h5_close(h));
    for (uint64_t i = 0; i < DRAWS; i++) {
        const dt_draws d = draw(a, i / 1000, i);
        for (int32_t e = 0; e < d.n_edit; e++, n++) {
            int k = 0, found = 0;
            while (in_policies[k].kind != d.edit[e].kind) k++;
            for (int s = 0; s < 2; s++)
                for (int64_t b = first_bin; b < first_bin + bins; b++)
                    if (d.edit[e].value == want[k][s][b]) count[k][s][b]++, found++;
            if (!found) fail_msg("%s %s: %.9g", policy, in_policies[k].name, (double)d.edit[e].value);
        }
    }
    const double each =
        (double)DRAWS * (double)(a->o.policy == DT_POLICY_RANDAUGMENT ? a->o.policy_ops : 1) / 14;
    assert_true(fabs(n / each - 13) < 0.1); /* one of 14 leaves the image as it is */
    for (int k = 0; k < N_IN_POLICIES; k++)
        for (int s = 0; s < 2; s++)
            for (int64_t b = first_bin; b < first_bin + bins; b++) {
                const double expected = each / (double)bins / 2;
                assert_true(count[k][s][b] > expected - 5 * sqrt(expected));
            }
}

static void test_policies(void **state) {
    (void)state;
    dt_augment_options o = {.policy = DT_POLICY_TRIVIALAUGMENT, .policy_bins = BINS};
    dt_augment a = augment_of(&o);
    check_policy(&a, "trivialaugment", 0, BINS);
    o.policy = DT_POLICY_RANDAUGMENT, o.policy_ops = 3;
    for (o.policy_magnitude = 0; o.policy_magnitude < BINS; o.policy_magnitude += 15) {
        a = augment_of(&o);
        check_policy(&a, "randaugment", o.policy_magnitude, 1);
    }
}

/* All four once, in each of the 24 orders as often; factors spread evenly over their ranges. */
static void test_jitter(void **state) {
    (void)state;
    const dt_augment_options o = {
        .brightness = 0.4, .contrast = 1.5, .saturation = 0.2, .hue = 0.1, .grayscale = 0.3};
    static const double from[] = {0.6, 0, 0.8, -0.1}, to[] = {1.4, 2.5, 1.2, 0.1};
    const dt_augment a = augment_of(&o);
    int order[256] = {0}, grey = 0, orders = 0;
    double sum[4] = {0}, low[4] = {9, 9, 9, 9}, high[4] = {-9, -9, -9, -9};
    for (uint64_t i = 0; i < DRAWS; i++) {
        const dt_draws d = draw(&a, 2, i);
        int code = 0, seen = 0;
        for (int k = 0; k < 4; k++) {
            const int kind = (int)d.edit[k].kind;
            const double v = (double)d.edit[k].value;
            assert_in_range(kind, 0, 3);
            seen |= 1 << kind, code = code * 4 + kind;
            sum[kind] += v, low[kind] = fmin(low[kind], v), high[kind] = fmax(high[kind], v);
        }
        assert_int_equal(seen, 15);
        order[code]++;
        grey += d.n_edit == 5;
        if (d.n_edit == 5) assert_int_equal(d.edit[4].kind, DT_EDIT_GRAYSCALE);
    }
    for (int k = 0; k < 256; k++) orders += order[k] > DRAWS / 24 - 250 && order[k] < DRAWS / 24 + 250;
    assert_int_equal(orders, 24);
    assert_true(abs(grey - 3 * DRAWS / 10) < 500);
    for (int k = 0; k < 4; k++) {
        const double range = to[k] - from[k];
        assert_true(fabs(sum[k] / DRAWS - (from[k] + to[k]) / 2) < 0.01 * range);
        assert_true(low[k] >= from[k] - 1e-6 && low[k] < from[k] + 0.01 * range);
        assert_true(high[k] <= to[k] + 1e-6 && high[k] > to[k] - 0.01 * range);
    }
}

/* Against a simulation of torchvision's definition with another generator. */
static void test_erase(void **state) {
    (void)state;
    const dt_augment_options o = {.erase = 0.25,
                                  .erase_scale_min = 0.02,
                                  .erase_scale_max = 0.33,
                                  .erase_ratio_min = 0.3,
                                  .erase_ratio_max = 3.3};
    const dt_augment a = augment_of(&o);
    double area = 0, tall = 0, y = 0, want_area = 0, want_tall = 0;
    int n = 0, m = 0;
    for (uint64_t i = 0; i < 4 * DRAWS; i++) {
        const dt_draws d = draw(&a, 7, i);
        const dt_box b = d.mix.erase;
        assert_true(d.mix.share == 1.0f && d.n_edit == 0 && !d.mix.noise);
        if (b.y1 == 0) continue;
        assert_true(b.y0 >= 0 && b.x0 >= 0 && b.y1 > b.y0 && b.x1 > b.x0 && b.y1 <= H && b.x1 <= W);
        area += (double)(b.y1 - b.y0) * (b.x1 - b.x0) / (H * W);
        tall += log((double)(b.y1 - b.y0) / (b.x1 - b.x0));
        y += (double)b.y0 / (H - (b.y1 - b.y0)), n++;
    }
    srand48(8);
    for (int i = 0; i < DRAWS; i++)
        for (int attempt = 0; attempt < 10; attempt++) {
            const double part = H * W * (0.02 + 0.31 * drand48());
            const double ratio = exp(log(0.3) + drand48() * log(11));
            const double h = rint(sqrt(part * ratio)), w = rint(sqrt(part / ratio));
            if (!(h < H && w < W)) continue;
            want_area += h * w / (H * W), want_tall += log(h / w), m++;
            break;
        }
    assert_true(abs(n - m) < 1000);
    assert_true(fabs(area / n - want_area / m) < 0.002 && fabs(tall / n - want_tall / m) < 0.02);
    assert_true(fabs(y / n - 0.5) < 0.01);
}

/* Beta(alpha, alpha) by its mean and variance, boxes by their area. */
static void test_mixing(void **state) {
    (void)state;
    static const double alphas[] = {0.2, 1, 8};
    for (int k = 0; k < 3; k++) {
        dt_augment_options o = {
            .mixup = alphas[k], .mix_prob = 0.75, .mix_switch = 0.5, .mix_each = DT_MIX_SAMPLE};
        dt_augment a = augment_of(&o);
        double sum = 0, square = 0, n = 0;
        for (uint64_t i = 0; i < DRAWS; i++) {
            const dt_draws d = draw(&a, 1, i);
            const double share = (double)d.mix.share - 0.5;
            assert_true(d.mix.box.y1 == 0 && dt_augment_share(&a, &d.mix) == d.mix.share);
            if (d.mix.share == 1.0f && alphas[k] >= 1) continue;
            sum += share, square += share * share, n++;
        }
        const double variance = 1 / (4 * (2 * alphas[k] + 1));
        if (alphas[k] >= 1) {
            assert_true(fabs(n / DRAWS - 0.75) < 0.01);
            assert_true(fabs(sum / n) < 0.005 && fabs(square / n / variance - 1) < 0.03);
        } else {
            /* what is not mixed has share 1 */
            assert_true(fabs(sum / n - 0.125) < 0.01 && fabs(square / n - (0.75 * variance + 0.0625)) < 0.01);
        }
        o.cutmix = 1;
        a = augment_of(&o);
        double cut = 0, own = 0, none = 0;
        for (uint64_t i = 0; i < DRAWS; i++) {
            const dt_draws d = draw(&a, 1, i);
            const dt_box b = d.mix.box;
            if (b.y1 == 0) {
                none++;
                continue;
            }
            const double area = (double)(b.y1 - b.y0) * (b.x1 - b.x0) / (H * W);
            assert_true(b.y0 >= 0 && b.x0 >= 0 && b.y1 <= H && b.x1 <= W && d.mix.share == 1.0f);
            assert_true(fabs((double)dt_augment_share(&a, &d.mix) - (1 - area)) < 1e-6);
            own += 1 - area, cut++;
        }
        assert_true(fabs(cut / DRAWS - 0.375) < 0.01 && fabs(none / DRAWS - 0.625) < 0.01);
        assert_true(own / cut > 0.6 && own / cut < 0.72); /* half, and what the edges cut off */
    }
}

/* Of a batch: the same for all samples of a step, whatever they are, and new in the next. */
static void test_mixing_of_batch(void **state) {
    (void)state;
    const dt_augment_options o = {.mixup = 0.8, .cutmix = 1, .mix_prob = 1, .mix_switch = 0.5};
    const dt_augment a = augment_of(&o);
    int same = 0;
    for (uint64_t step = 0; step < 1000; step++) {
        dt_draws d, other, next;
        dt_augment_draw(&a, &(dt_draw_of){.epoch = 3, .sample = 9, .step = step}, H, W, &d);
        dt_augment_draw(&a, &(dt_draw_of){.epoch = 4, .sample = 77, .step = step}, H, W, &other);
        dt_augment_draw(&a, &(dt_draw_of){.epoch = 3, .sample = 9, .step = step + 1}, H, W, &next);
        assert_memory_equal(&d.mix, &other.mix, sizeof d.mix);
        same += memcmp(&d.mix, &next.mix, sizeof d.mix) == 0;
    }
    assert_true(same < 5);
}

/* A function of seed, epoch, sample and repetition; evaluation has none of it. */
static void test_draws_repeat(void **state) {
    (void)state;
    const dt_augment_options o = {.policy = DT_POLICY_RANDAUGMENT,
                                  .policy_ops = DT_POLICY_OPS_MAX,
                                  .policy_magnitude = 9,
                                  .policy_bins = BINS,
                                  .brightness = 0.4,
                                  .contrast = 0.4,
                                  .saturation = 0.4,
                                  .hue = 0.1,
                                  .grayscale = 1,
                                  .erase = 1,
                                  .erase_scale_min = 0.02,
                                  .erase_scale_max = 0.33,
                                  .erase_ratio_min = 0.3,
                                  .erase_ratio_max = 3.3,
                                  .erase_fill = DT_ERASE_NOISE,
                                  .mixup = 0.8,
                                  .mix_prob = 1,
                                  .mix_each = DT_MIX_SAMPLE};
    const dt_augment a = augment_of(&o), b = augment_of(&o);
    int most = 0, same_epoch = 0, same_repeat = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        dt_draws d, again, epoch, repeat;
        dt_augment_draw(&a, &(dt_draw_of){.epoch = 3, .sample = i}, H, W, &d);
        dt_augment_draw(&b, &(dt_draw_of){.epoch = 3, .sample = i, .step = 9}, H, W, &again);
        dt_augment_draw(&a, &(dt_draw_of){.epoch = 4, .sample = i}, H, W, &epoch);
        dt_augment_draw(&a, &(dt_draw_of){.epoch = 3, .sample = i, .repeat = 1}, H, W, &repeat);
        assert_true(d.window.x0 == again.window.x0 && d.window.w == again.window.w &&
                    d.n_edit == again.n_edit);
        assert_memory_equal(d.edit, again.edit, sizeof d.edit);
        assert_memory_equal(&d.mix, &again.mix, sizeof d.mix);
        same_epoch += memcmp(&d.mix, &epoch.mix, sizeof d.mix) == 0;
        same_repeat += memcmp(&d.mix, &repeat.mix, sizeof d.mix) == 0;
        most = d.n_edit > most ? d.n_edit : most;
        assert_true(d.mix.noise);
    }
    assert_true(same_epoch == 0 && same_repeat == 0 && most == DT_EDITS_MAX);
    dt_augment e;
    dt_draws d;
    dt_augment_init(&e, &o, 5, true, H, W);
    dt_augment_draw(&e, &(dt_draw_of){.epoch = 3, .sample = 1}, H, W, &d);
    assert_true(d.n_edit == 0 && d.mix.share == 1.0f && d.mix.erase.y1 == 0 && d.mix.box.y1 == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_resized),
                                       cmocka_unit_test(test_fallback),
                                       cmocka_unit_test(test_pad),
                                       cmocka_unit_test(test_centre),
                                       cmocka_unit_test(test_function_of_seed_epoch_sample),
                                       cmocka_unit_test(test_policies),
                                       cmocka_unit_test(test_jitter),
                                       cmocka_unit_test(test_erase),
                                       cmocka_unit_test(test_mixing),
                                       cmocka_unit_test(test_mixing_of_batch),
                                       cmocka_unit_test(test_draws_repeat)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
