/* The loader's promises: which samples are where, independent of threads and ranks; errors; shutdown. */
#include "batch_fields.h"
#include "data_support.h"

#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "data/order.h"
#include "edit.h"
#include "dataset.h"
#include "h5_other.h"

enum { N = 103, SIDE = 4, SEED = 11, DEADLOCK_S = 120 };

typedef struct fixture {
    test_options config;
    dt_dataset *data;
} fixture;

static fixture open_fixture(const char *path) {
    fixture f = {.config = test_defaults()};
    assert_ok(dt_dataset_open(&f.config.data, path, &f.data));
    return f;
}

static dt_loader_options train_options(const fixture *f, int64_t global_batch, int64_t n_micro_all,
                                       int32_t rank, int32_t world, int32_t threads) {
    dt_dataset_info info;
    dt_dataset_info_get(f->data, &info);
    return (dt_loader_options){.data = &f->config.data,
                               .augment = &f->config.augment,
                               .dataset = f->data,
                               .seed = SEED,
                               .out_h = info.height,
                               .out_w = info.width,
                               .global_batch = global_batch,
                               .n_micro_all = n_micro_all,
                               .rank = rank,
                               .world = world,
                               .n_steps = -1,
                               .threads = threads,
                               .n_slots = 3};
}

/* A global batch is dealt to shards by counter: row r of shard m of step s is counter s*B + m + r*M, for any
 * world and any number of threads, with B not divisible by M and epochs that end inside a batch. */
static void test_partition(void **state) {
    (void)state;
    fixture f = open_fixture(make_numbered("partition", N, SIDE, 20));
    assert_int_equal(f.data->n_shards, 6);
    const int64_t global_batch = 19, n_micro_all = 5, n_steps = 17;
    for (int32_t world = 1; world <= 5; world++)
        for (int32_t threads = 1; threads <= 8; threads += 7) {
            int64_t n_seen = 0;
            for (int32_t rank = 0; rank < world; rank++) {
                dt_loader_options o = train_options(&f, global_batch, n_micro_all, rank, world, threads);
                o.n_steps = n_steps;
                dt_loader *l;
                assert_ok(dt_loader_open(&o, &l));
                for (int64_t s = 0; s < n_steps; s++)
                    for (int64_t m = rank, i = 0; m < n_micro_all; m += world, i++) {
                        dt_batch b;
                        assert_ok(dt_loader_next(l, &b, NULL));
                        assert_true(b.step == s && b.micro == m);
                        assert_true(b.rows == (global_batch - m + n_micro_all - 1) / n_micro_all);
                        assert_true(b.rows == dt_loader_rows(&o, i) && b.n_valid == b.rows);
                        assert_null(dt_batch_field(&b, "aug"));
                        for (int64_t r = 0; r < b.rows; r++) {
                            uint64_t t = (uint64_t)(s * global_batch + m + r * n_micro_all);
                            int64_t number = number_of(batch_image(&b) + r * SIDE * SIDE);
                            assert_int_equal(number, dt_order_sample(SEED, N, t));
                            assert_int_equal(batch_label(&b)[r], number % 10);
                            assert_int_equal(batch_image(&b)[r * SIDE * SIDE + 9],
                                             (uint8_t)(number * 31 + 63));
                            n_seen++;
                        }
                        dt_loader_release(l, &b);
                    }
                dt_batch none;
                assert_fails(dt_loader_next(l, &none, NULL), DT_ERR_INTERNAL, "last");
                dt_loader_close(l);
            }
            assert_int_equal(n_seen, global_batch * n_steps);
        }
    dt_dataset_close(f.data);
}

static void test_resume(void **state) {
    (void)state;
    fixture f = open_fixture(make_numbered("resume", N, SIDE, 1000));
    for (int64_t first = 0; first < 30; first += 7) {
        dt_loader_options o = train_options(&f, 32, 2, 1, 2, 2);
        o.first_step = first;
        dt_loader *l;
        dt_batch b;
        assert_ok(dt_loader_open(&o, &l));
        assert_ok(dt_loader_next(l, &b, NULL));
        assert_int_equal(b.step, first);
        for (int64_t r = 0; r < b.rows; r++)
            assert_int_equal(number_of(batch_image(&b) + r * SIDE * SIDE),
                             dt_order_sample(SEED, N, (uint64_t)(first * 32 + 1 + 2 * r)));
        dt_loader_close(l);
    }
    dt_dataset_close(f.data);
}

static void test_eval_once(void **state) {
    (void)state;
    fixture f = open_fixture(make_numbered("eval", N, SIDE, 30));
    for (int32_t world = 1; world <= 5; world++)
        for (int64_t batch = 1; batch <= 40; batch += 13) {
            int seen[N] = {0};
            int64_t n_batches = -1;
            for (int32_t rank = 0; rank < world; rank++) {
                dt_loader_options o = train_options(&f, 0, 0, rank, world, 3);
                o.eval = true;
                o.batch = batch;
                dt_loader *l;
                dt_batch b = {.last = false};
                int64_t n = 0;
                assert_ok(dt_loader_open(&o, &l));
                for (; !b.last; n++) {
                    assert_ok(dt_loader_next(l, &b, NULL));
                    assert_int_equal(b.rows, batch);
                    for (int64_t r = 0; r < b.rows; r++) {
                        int64_t number = number_of(batch_image(&b) + r * SIDE * SIDE);
                        assert_int_equal(batch_label(&b)[r], r < b.n_valid ? number % 10 : -1);
                        if (r >= b.n_valid) continue;
                        assert_int_equal(number % world, rank);
                        seen[number]++;
                    }
                    dt_loader_release(l, &b);
                }
                dt_loader_close(l);
                if (n_batches < 0) n_batches = n;
                assert_int_equal(n, n_batches); /* no rank waits alone in a collective */
            }
            for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
        }
    dt_dataset_close(f.data);
}

/* Bytes of the first batches, all ranks in order of (step, shard). */
static uint8_t *global_bytes(const fixture *f, int64_t side, int32_t world, int32_t threads, int64_t n_steps,
                             size_t *n) {
    const int64_t global_batch = 12, n_micro_all = 4;
    int64_t row_bytes = side * side * f->data->info.channels;
    *n = (size_t)(n_steps * global_batch * row_bytes);
    uint8_t *out = calloc(1, *n);
    for (int32_t rank = 0; rank < world; rank++) {
        dt_loader_options o = train_options(f, global_batch, n_micro_all, rank, world, threads);
        o.out_h = o.out_w = side;
        o.n_steps = n_steps;
        dt_loader *l;
        assert_ok(dt_loader_open(&o, &l));
        for (int64_t i = 0; i < n_steps * ((n_micro_all - rank + world - 1) / world); i++) {
            dt_batch b;
            assert_ok(dt_loader_next(l, &b, NULL));
            memcpy(out + (b.step * global_batch + b.micro * 3) * row_bytes, batch_image(&b),
                   (size_t)(3 * row_bytes));
            dt_loader_release(l, &b);
        }
        dt_loader_close(l);
    }
    return out;
}

static void check_same_bytes(const char *path) {
    fixture f = open_fixture(path);
    f.config.augment.crop = DT_CROP_RANDOM_RESIZED;
    f.config.augment.flip = true;
    size_t n, n_other;
    uint8_t *one = global_bytes(&f, 24, 1, 1, 5, &n);
    for (int32_t world = 1; world <= 4; world++) {
        f.config.data.verify = world > 2; /* reads all of a sample instead of the window's rows */
        uint8_t *other = global_bytes(&f, 24, world, 8, 5, &n_other);
        assert_int_equal(n, n_other);
        assert_memory_equal(one, other, n);
        free(other);
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += one[i];
    assert_true(sum > 20 * n); /* not black */
    free(one);
    dt_dataset_close(f.data);
}

static void test_augmented_bytes(void **state) {
    (void)state;
    check_same_bytes(make_photos("photos_raw", DT_STORE_RAW, 40, 48, 48));
    check_same_bytes(make_photos("photos_jpeg", DT_STORE_JPEG, 40, 60, 80));
    check_same_bytes("synthetic");
}

/* What a device makes of the stored images and the windows' numbers is what the loader makes itself, within
 * one level: bilinear by its definition, rounded half up. */
static void test_source_crop(void **state) {
    (void)state;
    enum { STORED = 40, OUT = 24, BATCH = 16, C = 3 };
    fixture f = open_fixture(make_photos("source_crop", DT_STORE_RAW, 30, STORED, STORED));
    f.config.augment.crop = DT_CROP_RANDOM_RESIZED;
    f.config.augment.flip = true;
    f.config.data.image_size = OUT;
    dt_loader_options device = train_options(&f, BATCH, 1, 0, 1, 2), host = device;
    device.source_crop = true;
    host.out_h = host.out_w = OUT;
    dt_loader *ld, *lh;
    assert_ok(dt_loader_open(&device, &ld));
    assert_ok(dt_loader_open(&host, &lh));
    int64_t n_off = 0, n = 0;
    for (int step = 0; step < 8; step++) {
        dt_batch d, h;
        assert_ok(dt_loader_next(ld, &d, NULL));
        assert_ok(dt_loader_next(lh, &h, NULL));
        assert_memory_equal(batch_label(&d), batch_label(&h), BATCH * sizeof *batch_label(&d));
        for (int64_t k = 0; k < BATCH * OUT * OUT * C; k++, n++) {
            int64_t c = k % C, x = k / C % OUT, y = k / C / OUT % OUT, row = k / C / OUT / OUT;
            const int32_t *aug = (int32_t *)dt_batch_field(&d, "aug") + 8 * row;
            const uint8_t *image = batch_image(&d) + row * STORED * STORED * C;
            double sx =
                fmin(fmax(((double)(aug[4] ? OUT - 1 - x : x) + 0.5) * aug[2] / OUT - 0.5, 0), aug[2] - 1);
            double sy = fmin(fmax(((double)y + 0.5) * aug[3] / OUT - 0.5, 0), aug[3] - 1);
            int64_t x0 = (int64_t)sx, y0 = (int64_t)sy, x1 = dt_min_i64(x0 + 1, aug[2] - 1),
                    y1 = dt_min_i64(y0 + 1, aug[3] - 1);
            double fx = sx - (double)x0, fy = sy - (double)y0, v = 0;
            const int64_t at[4][2] = {{y0, x0}, {y0, x1}, {y1, x0}, {y1, x1}};
            const double weight[4] = {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx};
            for (int i = 0; i < 4; i++)
                v += weight[i] * image[((aug[1] + at[i][0]) * STORED + aug[0] + at[i][1]) * C + c];
            int off = abs((int)floor(v + 0.5) - batch_image(&h)[k]);
            assert_true(off <= 1);
            n_off += off;
        }
        dt_loader_release(ld, &d);
        dt_loader_release(lh, &h);
    }
    assert_true(n_off * 20 < n);
    dt_loader_close(ld);
    dt_loader_close(lh);
    f.config.augment.crop = DT_CROP_PAD;
    assert_fails(dt_loader_open(&device, &ld), DT_ERR_INTERNAL, "pad crops");
    dt_dataset_close(f.data);
}

/* What "mix", "partner" and "share" say of every row, on any number of ranks and threads, and after a resume; and every
 * sample three times in a row. */
static void test_mixed(void **state) {
    (void)state;
    enum { GLOBAL = 20, MICRO = 4, STEPS = 60, TIMES = 3 };
    static dt_mix want[STEPS][GLOBAL];
    fixture f = open_fixture(make_numbered("mixed", N, SIDE, 1000));
    dt_augment_options *o = &f.config.augment;
    o->mixup = 0.4, o->cutmix = 1, o->mix_prob = 1, o->mix_switch = 0.5, o->repeats = TIMES;
    o->erase = 0.5, o->erase_scale_min = 0.02, o->erase_scale_max = 0.33, o->erase_ratio_min = 0.3,
    o->erase_ratio_max = 3.3;
    for (int each = 0; each < 2; each++)
        for (int32_t world = 1; world <= MICRO; world++)
            for (int32_t rank = 0; rank < world; rank++)
                for (int64_t first = 0; first < STEPS; first += 40) {
                    dt_loader_options lo = train_options(&f, GLOBAL, MICRO, rank, world, world);
                    dt_loader *l;
                    o->mix_each = each;
                    lo.first_step = first, lo.n_steps = STEPS - first;
                    assert_ok(dt_loader_open(&lo, &l));
                    for (int64_t s = first; s < STEPS; s++)
                        for (int64_t m = rank; m < MICRO; m += world) {
                            dt_batch b;
                            assert_ok(dt_loader_next(l, &b, NULL));
                            const int32_t *partner = dt_batch_field(&b, "partner");
                            const float *share = dt_batch_field(&b, "share");
                            for (int64_t r = 0; r < b.rows; r++) {
                                const int64_t at = m + r * MICRO;
                                const uint64_t t = (uint64_t)(s * GLOBAL + at);
                                uint64_t repeat;
                                dt_mix mix;
                                memcpy(&mix, (int32_t *)dt_batch_field(&b, "mix") + r * DT_MIX_INTS,
                                       sizeof mix);
                                assert_int_equal(number_of(batch_image(&b) + r * SIDE * SIDE),
                                                 dt_order_repeated(SEED, N, TIMES, t, &repeat));
                                assert_int_equal(repeat, t % N % TIMES);
                                assert_int_equal(mix.partner, b.rows - 1 - r);
                                assert_int_equal(partner[r], batch_label(&b)[b.rows - 1 - r]);
                                assert_true(share[r] >= 0 && share[r] <= 1);
                                assert_true(mix.box.y1 > 0 ? mix.share == 1.0f : share[r] == mix.share);
                                if (world == 1 && first == 0) want[s][at] = mix;
                                assert_memory_equal(&mix, &want[s][at], sizeof mix);
                                if (!each) assert_memory_equal(&mix.box, &want[s][0].box, sizeof mix.box);
                            }
                            dt_loader_release(l, &b);
                        }
                    dt_loader_close(l);
                }
    dt_loader_options eval = train_options(&f, GLOBAL, 1, 0, 1, 1);
    dt_loader *l;
    dt_batch b;
    eval.eval = true, eval.batch = 4;
    assert_ok(dt_loader_open(&eval, &l));
    assert_ok(dt_loader_next(l, &b, NULL));
    assert_true(!dt_batch_field(&b, "mix") && !dt_batch_field(&b, "partner") && !dt_batch_field(&b, "share"));
    dt_loader_close(l);
    dt_dataset_close(f.data);
}

/* Edited by the loader's threads as by hand; not where a device has the pixels. */
static void test_edited(void **state) {
    (void)state;
    enum { STORED = 40, BATCH = 16, C = 3, BYTES = STORED * STORED * C };
    fixture f = open_fixture(make_photos("edited", DT_STORE_RAW, 30, STORED, STORED));
    dt_loader_options o = train_options(&f, BATCH, 1, 0, 1, 2);
    dt_loader *plain, *edited, *none;
    dt_augment_options more = f.config.augment;
    dt_editor *e;
    more.policy = DT_POLICY_RANDAUGMENT, more.policy_ops = 2, more.policy_magnitude = 9,
    more.policy_bins = 31;
    more.hue = 0.1, more.grayscale = 0.3, more.fill = 100;
    assert_ok(dt_editor_new(&e));
    assert_ok(dt_loader_open(&o, &plain));
    o.augment = &more;
    assert_ok(dt_loader_open(&o, &edited));
    dt_augment a;
    dt_augment_init(&a, &more, SEED, false, STORED, STORED);
    for (uint64_t step = 0; step < 4; step++) {
        dt_batch p, b;
        assert_ok(dt_loader_next(plain, &p, NULL));
        assert_ok(dt_loader_next(edited, &b, NULL));
        for (uint64_t r = 0; r < BATCH; r++) {
            const uint64_t t = step * BATCH + r;
            const dt_draw_of of = {t / 30, dt_order_sample(SEED, 30, t), 0, step};
            uint8_t *image = batch_image(&p) + r * BYTES;
            dt_draws d;
            dt_augment_draw(&a, &of, STORED, STORED, &d);
            assert_ok(dt_edit_image(e, d.edit, d.n_edit, 100, image, STORED, STORED, C));
            assert_memory_equal(image, batch_image(&b) + r * BYTES, BYTES);
        }
        dt_loader_release(plain, &p);
        dt_loader_release(edited, &b);
    }
    dt_loader_close(plain);
    dt_loader_close(edited);
    dt_editor_free(e);
    o.source_crop = true;
    assert_fails(dt_loader_open(&o, &none), DT_ERR_INTERNAL, "does not edit");
    dt_dataset_close(f.data);
}

/* For a device: images as they were, with rows that say what becomes of their colours. */
static void test_edits_of_a_device(void **state) {
    (void)state;
    enum { STORED = 24, BATCH = 8, C = 3, BYTES = STORED * STORED * C };
    fixture f = open_fixture(make_photos("device_edits", DT_STORE_RAW, 20, STORED, STORED));
    dt_loader_options o = train_options(&f, BATCH, 1, 0, 1, 2);
    dt_loader *edited, *rows, *none;
    dt_augment_options more = f.config.augment;
    dt_editor *e;
    int64_t n_edit = 0;
    more.brightness = more.contrast = more.saturation = 0.4, more.hue = 0.1, more.grayscale = 0.3;
    o.augment = &more;
    assert_ok(dt_editor_new(&e));
    assert_ok(dt_loader_open(&o, &edited));
    o.edits = true;
    assert_ok(dt_loader_open(&o, &rows));
    for (int step = 0; step < 5; step++) {
        dt_batch b, r;
        assert_ok(dt_loader_next(edited, &b, NULL));
        assert_ok(dt_loader_next(rows, &r, NULL));
        const dt_edit_row *row = dt_batch_field(&r, "edit");
        assert_true(row && !dt_batch_field(&b, "edit"));
        for (int64_t i = 0; i < BATCH; i++) {
            uint8_t *image = batch_image(&r) + i * BYTES;
            assert_memory_not_equal(image, batch_image(&b) + i * BYTES, BYTES);
            assert_ok(dt_edit_image(e, row[i].edit, row[i].n, 0, image, STORED, STORED, C));
            assert_memory_equal(image, batch_image(&b) + i * BYTES, BYTES);
            n_edit += row[i].n;
        }
        dt_loader_release(edited, &b);
        dt_loader_release(rows, &r);
    }
    assert_true(n_edit > 4 * 40 && n_edit < 5 * 40);
    dt_loader_close(edited);
    dt_loader_close(rows);
    dt_editor_free(e);
    more.policy = DT_POLICY_TRIVIALAUGMENT, more.policy_bins = 31;
    assert_fails(dt_loader_open(&o, &none), DT_ERR_INTERNAL, "no more than colours");
    dt_dataset_close(f.data);
}

static void test_early_close(void **state) {
    (void)state;
    fixture f = open_fixture(make_numbered("close", N, SIDE, 1000));
    alarm(DEADLOCK_S);
    for (int32_t threads = 1; threads <= 8; threads++)
        for (int held = 0; held <= 3; held++) {
            dt_loader_options o = train_options(&f, 32, 1, 0, 1, threads);
            dt_loader *l;
            dt_batch b;
            assert_ok(dt_loader_open(&o, &l));
            for (int i = 0; i < held; i++) assert_ok(dt_loader_next(l, &b, NULL));
            if (held == 3) assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_INTERNAL, "slots");
            dt_loader_close(l);
        }
    alarm(0);
    dt_loader_close(NULL);
    dt_dataset_close(f.data);
}

static int64_t n_allocated;

static dt_status count_alloc(void *arg, int64_t bytes, void **out) {
    if (n_allocated == *(int64_t *)arg) return dt_fail(DT_ERR_MEMORY, "no more pinned memory");
    n_allocated++;
    *out = malloc((size_t)bytes);
    return DT_OK;
}

static void count_free(void *arg, void *ptr) {
    (void)arg;
    n_allocated--;
    free(ptr);
}

static void test_slot_memory(void **state) {
    (void)state;
    fixture f = open_fixture("synthetic");
    int64_t limit = 3;
    dt_loader_options o = train_options(&f, 8, 1, 0, 1, 2);
    o.alloc = count_alloc;
    o.free = count_free;
    o.alloc_arg = &limit;
    dt_loader *l;
    assert_ok(dt_loader_open(&o, &l));
    assert_int_equal(n_allocated, 3);
    dt_loader_close(l);
    assert_int_equal(n_allocated, 0);
    limit = 2;
    assert_fails(dt_loader_open(&o, &l), DT_ERR_MEMORY, "pinned");
    assert_null(l);
    assert_int_equal(n_allocated, 0);
    dt_dataset_close(f.data);
}

/* A flipped bit in one sample is found when that sample's batch is asked for, not before, and named. */
static void test_damaged_sample(void **state) {
    (void)state;
    char *dir = make_numbered("damaged", N, SIDE, 1000);
    fixture f = open_fixture(dir);
    const int64_t bad = 57;
    int64_t offset = f.data->shard[0].data_offset_bytes + bad * SIDE * SIDE + 7;
    FILE *file = fopen(f.data->shard[0].path, "r+b");
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    fputc(byte ^ 16, file);
    fclose(file);
    f.config.data.verify = true;
    dt_loader_options o = train_options(&f, 4, 1, 0, 1, 4);
    int64_t bad_step = 0;
    for (uint64_t t = 0; t < N; t++)
        if (dt_order_sample(SEED, N, t) == (uint64_t)bad) bad_step = (int64_t)t / 4;
    dt_loader *l;
    dt_batch b;
    assert_ok(dt_loader_open(&o, &l));
    for (int64_t s = 0; s < bad_step; s++) {
        assert_ok(dt_loader_next(l, &b, NULL));
        dt_loader_release(l, &b);
    }
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA, "sample 57 is damaged");
    assert_non_null(strstr(dt_error_text(), f.data->shard[0].path));
    assert_int_equal(dt_loader_next(l, &b, NULL), DT_ERR_DATA);
    dt_loader_close(l);
    f.config.data.verify = false;
    o.first_step = bad_step;
    assert_ok(dt_loader_open(&o, &l));
    assert_ok(dt_loader_next(l, &b, NULL));
    dt_loader_close(l);
    dt_dataset_close(f.data);
}

static void test_file_becomes_shorter(void **state) {
    (void)state;
    fixture f = open_fixture(make_numbered("shorter", N, SIDE, 1000));
    assert_int_equal(truncate(f.data->shard[0].path, f.data->shard[0].data_offset_bytes + 100), 0);
    dt_loader_options o = train_options(&f, N, 1, 0, 1, 2);
    dt_loader *l;
    dt_batch b;
    assert_ok(dt_loader_open(&o, &l));
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA, "shorter");
    dt_loader_close(l);
    dt_dataset_close(f.data);
}

static void test_refused_options(void **state) {
    (void)state;
    fixture f = open_fixture("synthetic");
    dt_loader *l;
    dt_loader_options o = train_options(&f, 3, 4, 0, 4, 1); /* a shard without a sample */
    assert_fails(dt_loader_open(&o, &l), DT_ERR_CONFIG, "global_batch = 3");
    o = train_options(&f, 8, 2, 0, 4, 1); /* a rank without a shard */
    assert_fails(dt_loader_open(&o, &l), DT_ERR_CONFIG, "4 ranks");
    o = train_options(&f, 8, 1, 0, 1, 1);
    f.config.augment.crop = DT_CROP_PAD;
    o.out_h = o.out_w = 64;
    assert_fails(dt_loader_open(&o, &l), DT_ERR_CONFIG, "augment.pad");
    dt_dataset_close(f.data);
}

/* Shards of others, in chunks: the same batches, read through HDF5. */
static void test_chunked(void **state) {
    (void)state;
    fixture f = open_fixture(make_numbered("plain", N, SIDE, 1000));
    uint8_t *image = malloc(N * SIDE * SIDE);
    int32_t label[N];
    for (int64_t i = 0; i < N; i++) {
        assert_ok(dt_shard_read(&f.data->shard[0], i, 0, SIDE * SIDE, image + i * SIDE * SIDE));
        label[i] = f.data->shard[0].label[i];
    }
    const char *path = in_scratch("chunked.h5");
    other_write_chunked(path, "images", H5T_NATIVE_UINT8, 4, (hsize_t[]){N, SIDE, SIDE, 1}, image);
    other_write_chunked(path, "labels", H5T_NATIVE_INT32, 1, (hsize_t[]){N}, label);
    fixture g = open_fixture(in_scratch("chunked.h5"));
    assert_non_null(g.data->shard[0].h);
    assert_int_equal(g.data->info.n_classes, 10);
    f.config.augment.crop = g.config.augment.crop = DT_CROP_RANDOM_RESIZED;
    size_t n;
    uint8_t *a = global_bytes(&f, 6, 1, 1, 10, &n), *b = global_bytes(&g, 6, 2, 4, 10, &n);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
    free(image);
    dt_dataset_close(f.data);
    dt_dataset_close(g.data);
}

/* Labels of others: of every integer type that i64 holds; u64 is refused. */
static void test_label_types(void **state) {
    (void)state;
    const uint8_t image[2 * 4] = {0}, narrow[2] = {3, 4};
    const int16_t middle[2] = {3, 4};
    const int64_t wide[2] = {3, 4};
    const uint64_t widest[2] = {3, 4};
    const struct {
        const char *file;
        hid_t type;
        const void *label;
    } rows[] = {{"narrow.h5", H5T_NATIVE_UINT8, narrow},
                {"wide.h5", H5T_NATIVE_INT64, wide},
                {"middle.h5", H5T_NATIVE_INT16, middle},
                {"widest.h5", H5T_NATIVE_UINT64, widest}};
    for (int i = 0; i < 4; i++) {
        test_options c = test_defaults();
        dt_dataset *d;
        const char *path = in_scratch("%s", rows[i].file);
        other_write_chunked(path, "images", H5T_NATIVE_UINT8, 4, (hsize_t[]){2, 2, 2, 1}, image);
        other_write_chunked(path, "labels", rows[i].type, 1, (hsize_t[]){2}, rows[i].label);
        if (i == 3) {
            assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA,
                         "labels is of an integer type that i64");
            continue;
        }
        assert_ok(dt_dataset_open(&c.data, path, &d));
        assert_true(d->shard[0].label[0] == 3 && d->info.n_classes == 5);
        dt_dataset_close(d);
    }
}

/* Two sets keep a descriptor per shard open: the second must not count on what the first has taken. */
static void test_many_shards(void **state) {
    (void)state;
    enum { SHARDS = 160 };
    struct rlimit before, low;
    char *dir = make_numbered("many", SHARDS, SIDE, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = 64, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    fixture a = open_fixture(dir), b = open_fixture(dir);
    assert_int_equal(a.data->n_shards + b.data->n_shards, 2 * SHARDS);
    dt_dataset_close(a.data), dt_dataset_close(b.data);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* What the data does not allow is known without a loader. */
static void test_check(void **state) {
    (void)state;
    fixture f = {.config = test_defaults()};
    assert_ok(dt_dataset_open(&f.config.data, make_photos("check", DT_STORE_JPEG, 4, 20, 20), &f.data));
    dt_loader_options o = train_options(&f, 2, 1, 0, 1, 1);
    o.out_h = o.out_w = 16;
    assert_ok(dt_loader_check(&o));
    f.config.augment.crop = DT_CROP_PAD;
    f.config.augment.pad = 2;
    for (int eval = 0; eval < 2; eval++) {
        o.eval = eval, o.batch = 2;
        assert_fails(dt_loader_check(&o), DT_ERR_CONFIG, "these are JPEG");
    }
    dt_dataset_close(f.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partition),       cmocka_unit_test(test_resume),
        cmocka_unit_test(test_eval_once),       cmocka_unit_test(test_augmented_bytes),
        cmocka_unit_test(test_source_crop),     cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_edited),          cmocka_unit_test(test_edits_of_a_device),
        cmocka_unit_test(test_early_close),     cmocka_unit_test(test_slot_memory),
        cmocka_unit_test(test_damaged_sample),  cmocka_unit_test(test_file_becomes_shorter),
        cmocka_unit_test(test_refused_options), cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_label_types),     cmocka_unit_test(test_many_shards),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
