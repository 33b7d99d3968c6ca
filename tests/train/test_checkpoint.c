/* Checkpoints when nothing breaks: round trip, retention, the latest one, refusals before writing. */
#include "checkpoint_fixture.h"

#include "data/h5.h"
#include "h5_other.h"

static void test_round_trip(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 100);
    dt_ckpt_writer *w = fix_writer(&f, 2, 0);
    fix_save_ok(&f, w, 1234);
    dt_ckpt_writer_destroy(w);

    char path[FIX_PATH_MAX];
    fix_step_path(&f, 1234, "", path);
    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load(path, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 1234));
    assert_string_equal(c->path, path);
    assert_null(dt_ckpt_find(c, "param/other"));
    dt_ckpt_free(c);

    size_t bytes;
    fix_step_path(&f, 1234, "config.toml", path);
    char *config = fix_read(path, &bytes);
    assert_string_equal(config, fix_config);
    free(config);
    fix_close(&f);
}

/* state.h5 alone tells what it is. */
static void test_state_file(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 4);
    dt_ckpt_writer *w = fix_writer(&f, 2, 0);
    fix_save_ok(&f, w, 5);
    dt_ckpt_writer_destroy(w);

    char path[FIX_PATH_MAX], *hash;
    int64_t samples;
    float fc[30];
    dt_h5 *h;
    dt_h5_info info;
    fix_step_path(&f, 5, "state.h5", path);
    assert_int_equal(dt_h5_open(path, &h), DT_OK);
    assert_int_equal(dt_h5_info_get(h, "mom1/fc.weight", &info), DT_OK);
    assert_true(info.dtype == DT_DTYPE_F32 && info.ndim == 2 && info.dim[0] == 10 && info.dim[1] == 3);
    assert_int_equal(dt_h5_read(h, "mom1/fc.weight", DT_DTYPE_F32, 30, fc), DT_OK);
    assert_memory_equal(fc, f.tensor[1].data, sizeof fc);
    assert_int_equal(dt_h5_attr_get_i64(h, "samples", &samples), DT_OK);
    assert_int_equal(samples, 5 * 128);
    assert_int_equal(dt_h5_attr_get_str(h, "config_hash", &hash), DT_OK);
    assert_string_equal(hash, "fedcba9876543210");
    free(hash);
    assert_int_equal(dt_h5_close(h), DT_OK);
    assert_true(other_attr_f64(path, "loss_scale") == 1.0 / 3.0);
    fix_close(&f);
}

/* The caller may change its tensors as soon as save returns. */
static void test_snapshot(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 20000);
    dt_ckpt_writer *w = fix_writer(&f, 2, 0);
    for (int64_t step = 1; step <= 3; step++) {
        dt_ckpt_meta meta = fix_meta(step);
        fix_fill(&f, step);
        assert_int_equal(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f.tensor, fix_config), DT_OK);
        fix_fill(&f, 99);
    }
    assert_int_equal(dt_ckpt_writer_wait(w), DT_OK);
    assert_false(dt_ckpt_writer_failed(w));
    dt_ckpt_writer_destroy(w);
    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load_latest(f.dir, NULL, NULL, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 3));
    dt_ckpt_free(c);
    fix_close(&f);
}

static void test_retention(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = fix_writer(&f, 2, 100);
    for (int64_t step = 25; step <= 275; step += 25) fix_save_ok(&f, w, step);
    static const int64_t kept[] = {100, 200, 250, 275};
    assert_int_equal(fix_count_entries(f.dir, "step-"), 4);
    for (size_t i = 0; i < 4; i++) assert_true(fix_has_step(&f, kept[i]));
    assert_int_equal(fix_count_entries(f.dir, ".tmp-"), 0);

    /* A damaged one does not count as one of the newest good. */
    char path[FIX_PATH_MAX];
    fix_step_path(&f, 275, "state.h5", path);
    assert_int_equal(truncate(path, 100), 0);
    fix_save_ok(&f, w, 300);
    assert_true(fix_has_step(&f, 250) && fix_has_step(&f, 300));

    /* Steps beyond the one saved belong to another course of the run. */
    fix_save_ok(&f, w, 220);
    assert_true(fix_has_step(&f, 300) && fix_has_step(&f, 250) && fix_has_step(&f, 220) &&
                fix_has_step(&f, 200));
    dt_ckpt_writer_destroy(w);
    fix_close(&f);
}

/* A step saved twice: the second replaces the first, damaged or not. */
static void test_same_step(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = fix_writer(&f, 2, 0);
    fix_save_ok(&f, w, 10);
    char path[FIX_PATH_MAX];
    fix_step_path(&f, 10, "manifest.json", path);
    assert_int_equal(unlink(path), 0);
    fix_save_ok(&f, w, 10);
    dt_ckpt_writer_destroy(w);
    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load_latest(f.dir, NULL, NULL, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 10));
    dt_ckpt_free(c);
    assert_int_equal(fix_count_entries(f.dir, "."), 2); /* "." and ".." */
    fix_close(&f);
}

static int64_t newest_step(const fixture *f) {
    int64_t step;
    assert_int_equal(dt_ckpt_newest_step(f->dir, &step), DT_OK);
    return step;
}

static void test_latest(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load_latest(f.dir, fix_note, &f, &c), DT_OK);
    assert_null(c);
    assert_int_equal(newest_step(&f), -1);
    dt_ckpt_writer *w = fix_writer(&f, 4, 0);
    assert_int_equal(dt_ckpt_load_latest(f.dir, fix_note, &f, &c), DT_OK);
    assert_null(c);
    assert_int_equal(f.note_count, 0);

    /* Beyond eight digits the order is that of numbers; what is not a step's name is passed over. */
    fix_save_ok(&f, w, 99999999);
    fix_save_ok(&f, w, 100000000);
    dt_ckpt_writer_destroy(w);
    static const char *const other[] = {"step-", "step-7", "step-00000001x", "step-000000200000000", "best"};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        char path[FIX_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", f.dir, other[i]);
        assert_int_equal(mkdir(path, 0777), 0);
    }
    assert_int_equal(dt_ckpt_load_latest(f.dir, fix_note, &f, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 100000000));
    assert_int_equal(newest_step(&f), 100000000);
    assert_int_equal(f.note_count, 0);
    dt_ckpt_free(c);
    fix_close(&f);
}

static void test_fallback(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 50);
    dt_ckpt_writer *w = fix_writer(&f, 3, 0);
    for (int64_t step = 1; step <= 3; step++) fix_save_ok(&f, w, step);
    dt_ckpt_writer_destroy(w);
    char path[FIX_PATH_MAX], renamed[FIX_PATH_MAX];
    size_t bytes;
    fix_step_path(&f, 3, "state.h5", path);
    char *data = fix_read(path, &bytes);
    data[bytes / 2] ^= 4;
    fix_write(path, data, bytes);
    free(data);
    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load_latest(f.dir, fix_note, &f, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 2));
    dt_ckpt_free(c);
    assert_int_equal(f.note_count, 1);
    assert_non_null(strstr(f.note, "step-00000003/state.h5"));
    assert_non_null(strstr(f.note, "checksum"));
    assert_int_equal(newest_step(&f), 3); /* by its looks */
    fix_step_path(&f, 3, "state.h5", path);
    assert_int_equal(truncate(path, 10), 0);
    assert_int_equal(newest_step(&f), 2);

    /* One that was renamed by hand is not what its name says. */
    fix_step_path(&f, 2, "", path);
    fix_step_path(&f, 7, "", renamed);
    assert_int_equal(rename(path, renamed), 0);
    assert_int_equal(dt_ckpt_load_latest(f.dir, fix_note, &f, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 1));
    assert_int_equal(newest_step(&f), 1);
    dt_ckpt_free(c);

    fix_step_path(&f, 1, "manifest.json", path);
    assert_int_equal(truncate(path, 10), 0);
    f.note_count = 0;
    assert_int_equal(dt_ckpt_load_latest(f.dir, fix_note, &f, &c), DT_ERR_CHECKPOINT);
    assert_null(c);
    assert_int_equal(f.note_count, 3);
    assert_non_null(strstr(dt_error_text(), "none of 3 checkpoints is usable"));
    int64_t step;
    assert_int_equal(dt_ckpt_newest_step(f.dir, &step), DT_ERR_CHECKPOINT);
    fix_close(&f);
}

static void test_nonfinite(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1000);
    dt_ckpt_writer *w = fix_writer(&f, 2, 0);
    fix_save_ok(&f, w, 1);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int t = 0; t < FIX_TENSORS; t++) {
        for (size_t b = 0; b < 3; b++) {
            fix_fill(&f, 2);
            f.tensor[t].data[fix_count(&f.tensor[t]) - 1] = bad[b];
            dt_ckpt_meta meta = fix_meta(2);
            assert_int_equal(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f.tensor, fix_config),
                             DT_ERR_NONFINITE);
            assert_non_null(strstr(dt_error_text(), f.tensor[t].name));
            assert_int_equal(dt_ckpt_writer_wait(w), DT_OK);
        }
    }
    /* A meta value that JSON cannot hold: the failure shows at wait, once, and the next save works. */
    fix_fill(&f, 2);
    dt_ckpt_meta meta = fix_meta(2);
    meta.loss_scale = NAN;
    assert_false(dt_ckpt_writer_failed(w));
    assert_int_equal(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f.tensor, fix_config), DT_OK);
    while (!dt_ckpt_writer_failed(w)) usleep(1000);
    assert_int_equal(dt_ckpt_writer_wait(w), DT_ERR_IO);
    assert_false(dt_ckpt_writer_failed(w));
    assert_non_null(strstr(dt_error_text(), "loss_scale"));
    assert_int_equal(dt_ckpt_writer_wait(w), DT_OK);
    assert_false(fix_has_step(&f, 2));
    assert_int_equal(fix_count_entries(f.dir, ".tmp-"), 0);
    fix_save_ok(&f, w, 3);
    assert_true(fix_has_step(&f, 1));
    dt_ckpt_writer_destroy(w);
    fix_close(&f);
}

static void test_refused_jobs(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w;
    dt_ckpt_policy one = {.dir = f.dir, .keep_last = 1};
    assert_int_equal(dt_ckpt_writer_create(&one, &w), DT_ERR_CONFIG);
    assert_null(w);

    w = fix_writer(&f, 2, 0);
    static const char *const bad[] = {"", "/abs", "a//b", "a/", "../x", "a/../b", ".", "a b", "a\nb"};
    dt_ckpt_meta meta = fix_meta(1);
    fix_fill(&f, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        f.tensor[1].name = bad[i];
        assert_int_equal(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f.tensor, fix_config), DT_ERR_INTERNAL);
    }
    f.tensor[1].name = "ok";
    f.tensor[1].dim[0] = INT64_MAX / 2;
    assert_int_equal(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f.tensor, fix_config), DT_ERR_INTERNAL);
    f.tensor[1].dim[0] = 10;
    fix_save_ok(&f, w, 1);
    dt_ckpt_writer_destroy(w);
    fix_close(&f);
}

/* .tmp-* of a dead writer goes, that of a living one stays. */
static void test_sweep(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer_destroy(fix_writer(&f, 2, 0));
    char dead[FIX_PATH_MAX], alive[FIX_PATH_MAX], file[FIX_PATH_MAX];
    snprintf(dead, sizeof dead, "%s/.tmp-00000007-1-dead", f.dir);
    snprintf(alive, sizeof alive, "%s/.tmp-00000008-1-beef", f.dir);
    assert_int_equal(mkdir(dead, 0777) + mkdir(alive, 0777), 0);
    snprintf(file, sizeof file, "%.500s/state.h5", dead);
    fix_write(file, "half", 4);
    int fd = open(alive, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    dt_ckpt_writer_destroy(fix_writer(&f, 2, 0));
    assert_int_not_equal(access(dead, F_OK), 0);
    assert_int_equal(access(alive, F_OK), 0);
    close(fd);
    dt_ckpt_writer_destroy(fix_writer(&f, 2, 0));
    assert_int_not_equal(access(alive, F_OK), 0);
    fix_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_state_file),
        cmocka_unit_test(test_snapshot),     cmocka_unit_test(test_retention),
        cmocka_unit_test(test_same_step),    cmocka_unit_test(test_latest),
        cmocka_unit_test(test_fallback),     cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_refused_jobs), cmocka_unit_test(test_sweep),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
