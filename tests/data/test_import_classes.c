/* Which label a class gets: by its name, never by the place it happens to stand at. Every image's grey level
 * tells its class. */
#include "data_support.h"

#include "index.h"
#include "shard.h"

enum { PER_CLASS = 3, STEP = 40 };

/* A folder with these directories, in it images of the level of their place among cat, dog, hen, owl. */
static const char *const animal[] = {"cat", "dog", "hen", "owl"};

static char *make_animals(const char *name, const char *which) {
    for (int k = 0; k < 4; k++) {
        if (!strstr(which, animal[k])) continue;
        shell("mkdir -p %s/%s", in_scratch("%s", name), animal[k]);
        for (int i = 0; i < PER_CLASS; i++)
            write_level(in_scratch("%s/%s/%d.jpg", name, animal[k], i), STEP * k);
    }
    return in_scratch("%s", name);
}

/* Every image has the label whose name is its animal's. */
static void check_labels(const char *path, int64_t n_samples) {
    dt_dataset *d = open_set(path);
    assert_int_equal(d->info.n_samples, n_samples);
    for (int64_t i = 0; i < n_samples; i++)
        assert_string_equal(dt_dataset_class_name(d, label_of(d, i)),
                            animal[(level_of(d, i) + STEP / 2) / STEP]);
    dt_dataset_close(d);
}

static char *write_names(const char *text) {
    char *path = in_scratch("names.txt");
    write_file(path, text, strlen(text));
    return path;
}

static void test_matched(void **state) {
    (void)state;
    static const char *const order[] = {"cat\ndog\nhen\nowl\n", "owl\nhen\ndog\ncat\n",
                                        "hen\r\nowl\r\ncat\r\ndog"};
    const char *input = make_animals("three", "cat dog owl");
    for (int i = 0; i < 3; i++) {
        note_list n = {""};
        dt_import_result r;
        dt_import_options o = level_options(&input, in_scratch("matched%d", i));
        o.class_names = write_names(order[i]);
        o.note = take_note;
        o.arg = &n;
        assert_ok(dt_import_run(&o, &r));
        assert_int_equal(r.n_classes, 4);
        assert_noted(&n, "1 of the 4 classes in ");
        assert_noted(&n, "names.txt is not here: hen");
        check_labels(o.out_dir, 3 * PER_CLASS);
        dt_dataset *d = open_set(o.out_dir); /* the order is the list's */
        assert_memory_equal(dt_dataset_class_name(d, 0), order[i], 3);
        dt_dataset_close(d);
    }
    /* Another order is another import. */
    dt_import_result r;
    dt_import_options o = level_options(&input, in_scratch("matched0"));
    o.class_names = write_names(order[1]);
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "or with other options");
    /* The classes of a data set are a list, too. */
    o.class_names = in_scratch("matched1");
    o.out_dir = in_scratch("matched_set");
    assert_ok(dt_import_run(&o, &r));
    check_labels(o.out_dir, 3 * PER_CLASS);
    shell("cmp %s/shard-00000-of-00001.h5 %s/shard-00000-of-00001.h5", o.out_dir, in_scratch("matched1"));
    o.class_names = make_numbered("nameless", 10, LEVEL_SIDE, 1000);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "nameless: this data set has no class names");
}

/* Shards of a version that gave the list's names to the directories by their places are not kept. */
static void test_not_by_place(void **state) {
    (void)state;
    static const char by_place[] = "folder f49481bfc30d52db"; /* what it called this very import */
    static const uint8_t png[] = {
        0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0x00, 0x00, 0x00, 0x0D, 0x49, 0x48, 0x44, 0x52, 0x00,
        0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3A, 0x7E, 0x9B, 0x55, 0x00,
        0x00, 0x00, 0x0A, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9C, 0x63, 0x68, 0x00, 0x00, 0x00, 0x82, 0x00, 0x81,
        0x77, 0xCD, 0x72, 0xB6, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4E, 0x44, 0xAE, 0x42, 0x60, 0x82};
    const char *input = in_scratch("tiny");
    dt_import_options o = level_options(&input, in_scratch("tiny_out"));
    dt_import_result r;
    int64_t version;
    char *source;
    shell("mkdir -p %s/cat %s/dog", input, input);
    write_file(in_scratch("tiny/cat/a.png"), png, sizeof png);
    write_file(in_scratch("tiny/dog/a.png"), png, sizeof png);
    o.class_names = write_names("dog\ncat\n");
    assert_ok(dt_import_run(&o, &r));
    assert_ok(dt_shard_origin_read(in_scratch("tiny_out/shard-00000-of-00001.h5"), &version, &source));
    assert_string_not_equal(source, by_place);
    free(source);
}

static void test_list_refused(void **state) {
    (void)state;
    static const struct {
        const char *names, *error;
    } cases[] = {
        {"cat\ndog\n", "few/owl: class \"owl\" is not in "},
        {"owl\nowls\n", "few/cat: class \"cat\" is not in "},
        {"owl\nowls\n", "names.txt (nor 1 other)"},
        {"cat\nDog \nowl\n", "; it has \"Dog \": add it there"},
        {"cat\ndog\nowl\ncat\n", "names.txt:4: class \"cat\" is on line 1 already"},
        {"cat\n\ndog\nowl\n", "names.txt:2: an empty line"},
        {"cat\n \t\ndog\nowl\n", "names.txt:2: an empty line"},
        {"cat\ndog\rhen\nowl\n", "names.txt:2: a carriage return that ends no line"},
        {"cat\nd\xFFg\nowl\n", "names.txt:2: class name \"d\\xffg\" is not UTF-8"},
        {"\n\n", "names.txt: empty"},
        {"", "names.txt: empty"},
    };
    const char *input = make_animals("few", "cat dog owl");
    dt_import_options o = level_options(&input, in_scratch("few_out"));
    dt_import_result r;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        o.class_names = write_names(cases[i].names);
        assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, cases[i].error);
    }
    o.class_names = in_scratch("absent.txt");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "absent.txt: cannot open");
    assert_int_equal(access(o.out_dir, F_OK), -1);
    /* One name in two spellings of Unicode. */
    shell("mv %s/owl %s/$(printf 'u\\314\\210')", input, input);
    o.class_names = write_names("cat\ndog\n\xC3\xBC\n");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "NFC and NFD");
}

/* Where the data has numbers only, the list says what they mean, and has to have as many. */
static void test_numbers(void **state) {
    (void)state;
    const char *images = in_scratch("i"), *labels = in_scratch("l");
    write_numbered_idx(images, labels, 20, 4);
    const char *input[] = {images, labels};
    note_list n = {""};
    dt_import_options o = {.kind = DT_IMPORT_IDX,
                           .input = input,
                           .n_input = 2,
                           .out_dir = in_scratch("idx"),
                           .split = "train",
                           .note = take_note,
                           .arg = &n};
    dt_import_result r;
    o.class_names = write_names("a\nb\nc\nd\ne\nf\ng\nh\ni\n");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "names.txt: 9 names for 10 classes");
    o.class_names = write_names("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n");
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_classes, 11);
    assert_noted(&n, "the classes from \"k\" on have no samples");
    o = (dt_import_options){.kind = DT_IMPORT_SYNTHETIC,
                            .out_dir = in_scratch("syn"),
                            .split = "train",
                            .class_names = o.class_names,
                            .synthetic = {8, 10, 8, 8}};
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "names.txt: 11 names for 10 classes");
    /* Directories called by numbers: told, because they are not their labels. */
    for (int i = 0; i < 11; i++) {
        shell("mkdir -p %s/%d", in_scratch("digits"), i);
        write_level(in_scratch("digits/%d/a.jpg", i), 20 * i);
    }
    const char *digits = in_scratch("digits");
    o = level_options(&digits, in_scratch("digits_out"));
    o.note = take_note;
    o.arg = &n;
    assert_ok(dt_import_run(&o, &r));
    assert_noted(&n, "class \"10\" has label 2");
}

/* CIFAR's own names are matched as well. */
static void test_cifar(void **state) {
    (void)state;
    enum { RECORD = 3073, N = 10 };
    static const char own[] = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    static uint8_t record[N][RECORD];
    const char *input = in_scratch("cifar");
    note_list n = {""};
    shell("mkdir -p %s", input);
    for (int i = 0; i < N; i++) memset(record[i], 20 * i, RECORD), record[i][0] = (uint8_t)i;
    write_file(in_scratch("cifar/test_batch.bin"), record, sizeof record);
    write_file(in_scratch("cifar/batches.meta.txt"), own, sizeof own - 1);
    dt_import_options o = {.kind = DT_IMPORT_CIFAR10,
                           .input = &input,
                           .n_input = 1,
                           .split = "test",
                           .out_dir = in_scratch("cifar_out"),
                           .note = take_note,
                           .arg = &n};
    dt_import_result r;
    o.class_names = write_names("truck\nship\nhorse\nfrog\ndog\ndeer\ncat\nbird\nautomobile\nairplane\n");
    assert_ok(dt_import_run(&o, &r));
    dt_dataset *d = open_set(o.out_dir);
    for (int i = 0; i < N; i++) {
        dt_sample s;
        uint8_t pixel[3072];
        dt_dataset_locate(d, i, &s);
        assert_ok(dt_sample_read(d, &s, 0, s.n_bytes, pixel));
        assert_int_equal(pixel[0], 20 * i);
        assert_int_equal(s.label, N - 1 - i);
    }
    dt_dataset_close(d);
    o.out_dir = in_scratch("cifar_no");
    o.class_names = write_names("lorry\nship\nhorse\nfrog\ndog\ndeer\ncat\nbird\nautomobile\nairplane\n");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "class \"truck\" is not in ");
    /* A file of names that cannot be used is told, not taken. */
    o.class_names = NULL;
    write_file(in_scratch("cifar/batches.meta.txt"), "a\nb\na\n", 6);
    assert_ok(dt_import_run(&o, &r));
    assert_noted(&n, "imported without class names: ");
    assert_noted(&n, "batches.meta.txt:3: class \"a\" is on line 1 already");
}

/* A folder that holds the parts of a data set, not its classes. */
static void test_level(void **state) {
    (void)state;
    const char *input = in_scratch("high");
    char said[600];
    dt_import_result r;
    make_animals("high/train", "cat dog hen owl");
    make_animals("high/Val", "cat dog owl");
    shell("mkdir -p %s/test %s/annotations && cp %s/Val/cat/0.jpg %s/test && echo x >%s/annotations/a.txt",
          input, input, input, input, input);
    dt_import_options o = level_options(&input, in_scratch("sets/train"));
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA,
                 "high: its directories are called like the parts of a data set");
    assert_non_null(strstr(dt_error_text(), "train holds directories itself (cat, dog, hen, ...)"));
    snprintf(said, sizeof said,
             "\n  dtrain data import folder %s/train --split train --out %s/train"
             "\n  dtrain data import folder %s/Val --split val --class-names %s/train --out %s/Val\n",
             input, in_scratch("sets"), input, in_scratch("sets"), in_scratch("sets"));
    assert_non_null(strstr(dt_error_text(), said));
    assert_null(strstr(dt_error_text(), "/test"));
    o.val_fraction = 0.5;
    o.split = NULL;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "parts of a data set");
    assert_int_equal(access(in_scratch("sets"), F_OK), -1);
    /* The commands do what they say. */
    const char *part = in_scratch("high/train");
    o = level_options(&part, in_scratch("sets/train"));
    assert_ok(dt_import_run(&o, &r));
    part = in_scratch("high/Val");
    o = level_options(&part, in_scratch("sets/Val"));
    o.class_names = in_scratch("sets/train");
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_classes, 4);
    check_labels(o.out_dir, 3 * PER_CLASS);
    /* Two levels. */
    const char *outer = in_scratch("outer");
    shell("mkdir %s && mv %s %s/photos", outer, input, outer);
    o = level_options(&outer, in_scratch("outer_out"));
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "outer/photos instead");
    /* Who names them says that they are classes. */
    const char *photos = in_scratch("outer/photos");
    o = level_options(&photos, in_scratch("named_out"));
    o.class_names = write_names("train\nVal\ntest\nannotations\n");
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_classes, 4);
    /* Vehicles. */
    const char *vehicles = in_scratch("vehicles");
    shell("mkdir -p %s/train/steam %s/bus && cp %s/train/cat/0.jpg %s/train/steam && cp %s/train/cat/0.jpg "
          "%s/bus",
          vehicles, vehicles, photos, vehicles, photos, vehicles);
    o = level_options(&vehicles, in_scratch("vehicles_out"));
    assert_ok(dt_import_run(&o, &r));
    /* Images that no directory names a class for are told. */
    note_list n = {""};
    shell("cp %s/bus/0.jpg %s/loose.jpg", vehicles, vehicles);
    o.note = take_note;
    o.arg = &n;
    assert_ok(dt_import_run(&o, &r));
    assert_noted(&n, "1 image beside the class directories left out, the first: ");
    assert_noted(&n, "vehicles/loose.jpg");
    shell("rm -r %s/bus %s/train", vehicles, vehicles);
    o.out_dir = in_scratch("flat_out");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "need a list of their labels: --labels FILE.csv");
}

/* Shards within the folder would be a class the next time. */
static void test_within(void **state) {
    (void)state;
    const char *input = make_animals("within", "cat dog"), *beside = in_scratch("within2/new/deep");
    dt_import_result r;
    dt_import_options o = level_options(&input, in_scratch("within/shards/deep"));
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "shards/deep lies in ");
    o.out_dir = input;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "choose an output directory outside of it");
    o.out_dir = beside;
    assert_ok(dt_import_run(&o, &r));
}

/* ---- sets ---- */

/* A shard of one sample with these class names, NULL: none. */
static void write_shard(const char *dir, int64_t i, int64_t n, const char *names) {
    char name[64];
    const uint8_t pixel[4] = {1, 2, 3, 4};
    const int32_t label = 1;
    const int64_t sum = 10, sum_sq = 30;
    dt_shard_name(name, sizeof name, i, n);
    dt_shard_content c = {.n_samples = 1,
                          .n_classes = 2,
                          .height = 2,
                          .width = 2,
                          .channels = 1,
                          .bytes = pixel,
                          .label = &label,
                          .split = "train",
                          .class_names = names,
                          .source = "test",
                          .stats_pixels = 4,
                          .sum = &sum,
                          .sum_sq = &sum_sq};
    assert_ok(dt_shard_write(dir, name, &c));
}

static void test_shards_agree(void **state) {
    (void)state;
    static const char *const second[] = {"a\nb", "b\na", NULL};
    test_options c = test_defaults();
    dt_dataset *d;
    for (int i = 0; i < 3; i++) {
        char *dir = in_scratch("agree%d", i);
        shell("mkdir %s", dir);
        write_shard(dir, 0, 2, "a\nb");
        write_shard(dir, 1, 2, second[i]);
        if (i == 0) {
            assert_ok(dt_dataset_open(&c.data, dir, &d));
            dt_dataset_close(d);
        } else {
            assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA,
                         "shard-00001-of-00002.h5: class names differ from those of ");
        }
    }
}

static void test_index_agrees(void **state) {
    (void)state;
    const char *input = make_animals("indexed", "cat dog"), *out = in_scratch("indexed_out");
    dt_import_options o = level_options(&input, out);
    dt_import_result r;
    test_options c = test_defaults();
    dt_dataset *d;
    assert_ok(dt_import_run(&o, &r));
    shell("sed -i 's/\"cat\"/\"cow\"/' %s/index.json", out);
    assert_fails(dt_dataset_open(&c.data, out, &d), DT_ERR_DATA,
                 "index.json says class 0 is \"cow\", the shards say \"cat\"");
    shell("sed -i '/\"cow\"/d' %s/index.json", out);
    assert_fails(dt_dataset_open(&c.data, out, &d), DT_ERR_DATA, "class_names are not one for each class");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matched),      cmocka_unit_test(test_not_by_place),
        cmocka_unit_test(test_list_refused), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_cifar),        cmocka_unit_test(test_level),
        cmocka_unit_test(test_within),       cmocka_unit_test(test_shards_agree),
        cmocka_unit_test(test_index_agrees),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
