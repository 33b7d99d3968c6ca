/* One folder into two sets: of each class its part, by the names of the files. Every image's grey level tells
 * which it is. */
#include "data_support.h"

#include <xxhash.h>

enum { CLASSES = 3, FILES = 80 };

/* Level of file i of class k; of each class the levels differ by 3, which JPEG keeps apart. */
static int level(int k, int i) {
    return (i * 3 + k) % 250;
}

static void write_one(const char *folder, int k, int i) {
    write_level(in_scratch("%s/class%d/%03d.jpg", folder, k, i), level(k, i));
}

static char *make_folder(const char *name, int first, int last) {
    for (int k = 0; k < CLASSES; k++) shell("mkdir -p %s/class%d", in_scratch("%s", name), k);
    for (int k = 0; k < CLASSES; k++)
        for (int i = first; i < last; i++) write_one(name, k, i);
    return in_scratch("%s", name);
}

static dt_import_options options(const char *const *input, const char *out, double fraction) {
    dt_import_options o = level_options(input, out);
    o.split = NULL;
    o.val_fraction = fraction;
    return o;
}

/* Which files of each class the set at out/split has: by the nearest level. */
static void find_files(const char *out, const char *split, bool has[CLASSES][FILES]) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", out, split);
    dt_dataset *d = open_set(path);
    memset(has, 0, sizeof(bool[CLASSES][FILES]));
    for (int64_t s = 0; s < d->info.n_samples; s++) {
        const int k = label_of(d, s), seen = level_of(d, s);
        int i = 0;
        while (abs(level(k, i) - seen) > 1) i++;
        assert_in_range(i, 0, FILES - 1);
        assert_false(has[k][i]);
        has[k][i] = true;
    }
    dt_dataset_close(d);
}

static void test_divided(void **state) {
    (void)state;
    bool train[CLASSES][FILES], val[CLASSES][FILES], wider[CLASSES][FILES], before[CLASSES][FILES];
    const char *input = make_folder("photos", 0, FILES);
    dt_import_result r;
    dt_import_options o = options(&input, in_scratch("two"), 0.25);
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_samples, CLASSES * FILES);
    find_files(o.out_dir, "train", train);
    find_files(o.out_dir, "val", val);
    for (int k = 0; k < CLASSES; k++) {
        uint64_t highest = 0, lowest = UINT64_MAX; /* hashes of the names: for validation, for training */
        int n = 0;
        for (int i = 0; i < FILES; i++) {
            char name[32];
            snprintf(name, sizeof name, "class%d/%03d.jpg", k, i);
            const uint64_t hash = XXH3_64bits(name, strlen(name));
            assert_int_equal(train[k][i], !val[k][i]); /* disjoint and complete */
            if (val[k][i] && hash > highest) highest = hash;
            if (!val[k][i] && hash < lowest) lowest = hash;
            n += val[k][i];
        }
        assert_int_equal(n, FILES / 4);
        assert_true(highest < lowest);
    }
    assert_int_equal(r.n_val_samples, CLASSES * FILES / 4);

    /* A larger part holds the smaller. */
    o = options(&input, in_scratch("wider"), 0.5);
    assert_ok(dt_import_run(&o, &r));
    find_files(o.out_dir, "val", wider);
    for (int k = 0; k < CLASSES; k++)
        for (int i = 0; i < FILES; i++) assert_true(wider[k][i] || !val[k][i]);

    /* Half of the files first: of those, fewer than were added change sides when the rest comes. */
    const char *half = make_folder("half", FILES / 2, FILES);
    o = options(&half, in_scratch("half_out"), 0.25);
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_val_samples, CLASSES * FILES / 8);
    find_files(o.out_dir, "val", before);
    for (int k = 0; k < CLASSES; k++) {
        int n_to_val = 0, n_to_train = 0;
        for (int i = FILES / 2; i < FILES; i++)
            n_to_val += val[k][i] && !before[k][i], n_to_train += before[k][i] && !val[k][i];
        assert_true(n_to_val == 0 || n_to_train == 0); /* the border moves one way */
        assert_in_range(n_to_val + n_to_train, 0, 5);
    }

    /* Another copy of the folder, written in another order and named otherwise. */
    for (int k = CLASSES - 1; k >= 0; k--) shell("mkdir -p %s/class%d", in_scratch("copy"), k);
    for (int k = CLASSES - 1; k >= 0; k--)
        for (int i = FILES - 1; i >= 0; i--) write_one("copy", k, i);
    char slash[300];
    snprintf(slash, sizeof slash, "%s/", in_scratch("copy"));
    const char *with_slash = slash;
    o = options(&with_slash, in_scratch("copy_out"), 0.25);
    assert_ok(dt_import_run(&o, &r));
    shell("diff -r %s %s", in_scratch("two"), o.out_dir);
}

static bool stop_in_val(void *arg, int64_t done, int64_t total) {
    (void)total;
    return done < *(int64_t *)arg;
}

static void test_resumed(void **state) {
    (void)state;
    const char *input = make_folder("again", 0, 40), *out = in_scratch("again_out");
    dt_import_result r;
    dt_import_options o = options(&input, in_scratch("again_straight"), 0.4);
    o.shard_bytes = 10 * LEVEL_SIDE * LEVEL_SIDE;
    assert_ok(dt_import_run(&o, &r));
    const int64_t n_shards = r.n_shards;
    int64_t stop_at = r.n_samples - r.n_val_samples + 12; /* in the second shard of val */
    o.out_dir = out;
    o.progress = stop_in_val;
    o.arg = &stop_at;
    assert_fails(dt_import_run(&o, &r), DT_STOPPED, "interrupted");
    o.progress = NULL;
    /* Other parts, or one set where two are, would mix with it: refused before any work, on both sides. */
    shell("cp -r %s %s && rm -r %s/train", out, in_scratch("val_only"), in_scratch("val_only"));
    dt_import_options other = options(&input, out, 0.41);
    other.shard_bytes = o.shard_bytes;
    assert_int_not_equal(dt_import_run(&other, &r), DT_OK);
    assert_non_null(strstr(dt_error_text(), "again_out/train/shard-0"));
    other.out_dir = in_scratch("val_only");
    assert_int_not_equal(dt_import_run(&other, &r), DT_OK);
    assert_non_null(strstr(dt_error_text(), "val_only/val/shard-0"));
    assert_int_equal(access(in_scratch("val_only/train/shard-00000-of-00008.h5"), F_OK), -1);
    other = level_options(&input, in_scratch("again_out/train"));
    assert_int_not_equal(dt_import_run(&other, &r), DT_OK);
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_shards == n_shards && r.n_shards_kept > 0 && r.n_shards_kept < n_shards);
    shell("diff -r %s %s", in_scratch("again_straight"), out);
}

static void test_told(void **state) {
    (void)state;
    note_list n = {""};
    const char *input = make_folder("few", 0, 4);
    dt_import_result r;
    dt_import_options o = options(&input, in_scratch("few_out"), 0.25);
    o.note = take_note;
    o.arg = &n;
    o.val_fraction = 0.1;             /* 0.4 of an image */
    for (int k = 1; k < CLASSES; k++) /* the other classes have more */
        for (int i = 4; i < 10; i++) write_one("few", k, i);
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_val_samples, CLASSES - 1);
    assert_noted(&n, "without images in val, the first: class");
    o = options(&input, in_scratch("none"), 1e-9);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA,
                 "of 24 images none falls to val with --val-fraction 1e-09: choose a larger");
    o = options(&input, in_scratch("none"), 1 - 1e-9);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "none falls to train");
    assert_int_equal(access(o.out_dir, F_OK), -1);
    for (int i = 0; i < 4; i++) {
        o.val_fraction = (double[]){-0.1, 1, 7, 0.0 / 0.0}[i];
        assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "expected a part between 0 and 1");
    }
    o.val_fraction = 0.5;
    o.split = "val";
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "leave split away");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divided), cmocka_unit_test(test_resumed),
                                       cmocka_unit_test(test_told)};
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
