/* Importers of IDX and CIFAR files: resumption, determinism, and inputs that are cut short, foreign or
 * damaged. */
#include "data_support.h"

#include <sys/stat.h>
#include <zlib.h>

#include "index.h"

#define SAME_BYTES                                                                                           \
    "cmp %s/shard-00000-of-00001.h5 %s/shard-00000-of-00001.h5 && cmp %s/index.json %s/index.json"

static dt_import_options idx_options(const char *const *input, const char *out) {
    return (dt_import_options){
        .kind = DT_IMPORT_IDX, .input = input, .n_input = 2, .out_dir = out, .split = "train", .threads = 2};
}

static void gzip_file(const char *from, const char *to) {
    size_t n;
    uint8_t *bytes = slurp(from, &n);
    gzFile f = gzopen(to, "wb");
    assert_int_equal(gzwrite(f, bytes, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
    free(bytes);
}

static void test_idx(void **state) {
    (void)state;
    const uint32_t n = 50, side = 4;
    char *images = in_scratch("i"), *labels = in_scratch("l"), *gz_images = in_scratch("i.gz");
    write_numbered_idx(images, labels, n, side);
    gzip_file(images, gz_images);
    const char *plain[] = {images, labels}, *packed[] = {gz_images, labels};
    dt_import_options o = idx_options(plain, in_scratch("idx1"));
    dt_import_result r;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == n && r.n_shards == 1 && r.n_classes == 10 && r.n_skipped == 0);
    /* Gzipped or not, one thread or three: the same bytes. */
    o = idx_options(packed, in_scratch("idx2"));
    o.threads = 3;
    assert_ok(dt_import_run(&o, &r));
    char command[800], *a = in_scratch("idx1"), *b = in_scratch("idx2");
    snprintf(command, sizeof command, SAME_BYTES, a, b, a, b);
    assert_int_equal(system(command), 0);
    dt_dataset *d = open_set(a);
    double sum = 0, sum_sq = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t pixel[16];
        dt_sample s;
        dt_dataset_locate(d, i, &s);
        assert_ok(dt_sample_read(d, &s, 0, 16, pixel));
        assert_true(number_of(pixel) == i && s.label == (int32_t)i % 10);
        for (int k = 0; k < 16; k++) sum += pixel[k], sum_sq += pixel[k] * pixel[k];
    }
    double mean = sum / (n * 16), variance = sum_sq / (n * 16) - mean * mean;
    assert_true(d->info.mean[0] * 255 - mean < 1e-9 && mean - d->info.mean[0] * 255 < 1e-9);
    double deviation = d->info.stddev[0] * 255;
    assert_true(deviation * deviation - variance < 1e-6 && variance - deviation * deviation < 1e-6);
    assert_string_equal(dt_dataset_class_name(d, 3), "");
    dt_dataset_close(d);
}

static void test_class_names(void **state) {
    (void)state;
    char *images = in_scratch("ci"), *labels = in_scratch("cl"), *names = in_scratch("names");
    write_numbered_idx(images, labels, 20, 4);
    const char *input[] = {images, labels};
    dt_import_options o = idx_options(input, in_scratch("named"));
    dt_import_result r;
    o.class_names = names;
    write_file(names, "a\nb\n", 4);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "2 names for 10 classes");
    write_file(names, "0\n1\n2\nthree\n4\n5\n6\n7\n8\n9\n", 24);
    assert_ok(dt_import_run(&o, &r));
    dt_dataset *d = open_set(o.out_dir);
    assert_string_equal(dt_dataset_class_name(d, 3), "three");
    assert_string_equal(dt_dataset_class_name(d, 0), "0");
    dt_dataset_close(d);
    /* as other systems write text */
    write_file(names,
               "\xEF\xBB\xBF"
               "0\r\n1\r\n2\r\nthree\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\n",
               37);
    o.out_dir = in_scratch("named_crlf");
    assert_ok(dt_import_run(&o, &r));
    d = open_set(o.out_dir);
    assert_true(d->info.n_classes == 10);
    assert_string_equal(dt_dataset_class_name(d, 0), "0");
    assert_string_equal(dt_dataset_class_name(d, 3), "three");
    assert_string_equal(dt_dataset_class_name(d, 9), "9");
    dt_dataset_close(d);
    write_file(names, "0\n1\0\n", 5);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "names: not a text file");
}

/* What index.json could not hold is refused before a shard is made. */
static void test_not_utf8(void **state) {
    (void)state;
    char *images = in_scratch("ui"), *labels = in_scratch("ul"), *names = in_scratch("latin1"), command[300];
    write_numbered_idx(images, labels, 20, 4);
    const char *input[] = {images, labels}, *folder = in_scratch("latin");
    dt_import_options o = idx_options(input, in_scratch("latin_out"));
    dt_import_result r;
    write_file(names, "0\n1\n2\ncaf\xe9\n4\n5\n6\n7\n8\n9\n", 23);
    o.class_names = names;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "latin1:4: class name \"caf\\xe9\" is not UTF-8");
    o.class_names = NULL;
    o.split = "\xff";
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "split");
    o.split = "train";
    snprintf(command, sizeof command,
             "mkdir -p %s/a && echo x >%s/a/0.jpg && cp -r %s/a %s/$(printf 'caf\\351')", folder, folder,
             folder, folder);
    assert_int_equal(system(command), 0);
    o.kind = DT_IMPORT_FOLDER;
    o.store = DT_STORE_JPEG;
    o.input = &folder;
    o.n_input = 1;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA,
                 "latin: the name of class directory \"caf\\xe9\" is not UTF-8: rename it");
    assert_int_equal(access(o.out_dir, F_OK), -1);
}

/* An index is written whole or not at all. */
static void test_index_refusals(void **state) {
    (void)state;
    static const double no_number[] = {0.0 / 0.0}, number[] = {0.5};
    static char *bad_name[] = {"a", "\xe9"}, *good_name[] = {"a", "b"};
    dt_index_shard row = {.file = "shard.h5"}, bad_row = {.file = "\xe9.h5"};
    const struct {
        char **class_name;
        const double *mean, *stddev;
        dt_index_shard *row;
    } cases[] = {{bad_name, number, number, &row},
                 {good_name, no_number, number, &row},
                 {good_name, number, no_number, &row},
                 {good_name, number, number, &bad_row},
                 {good_name, number, number, &row}};
    const size_t n = sizeof cases / sizeof cases[0];
    char *path = in_scratch(DT_INDEX_NAME);
    for (size_t i = 0; i < n; i++) {
        dt_index index = {.n_shards = 1, .shard = cases[i].row};
        dt_index_facts facts = {.split = "train",
                                .n_classes = 2,
                                .channels = 1,
                                .class_name = cases[i].class_name,
                                .mean = cases[i].mean,
                                .stddev = cases[i].stddev};
        dt_status status = dt_index_write(scratch, &index, &facts);
        if ((status == DT_OK) != (i == n - 1) || (access(path, F_OK) == 0) != (i == n - 1))
            fail_msg("case %zu: %s", i, dt_error_text());
    }
    assert_int_equal(unlink(path), 0);
}

/* An option is used or refused, and refused before anything is read. */
static void test_options_fit(void **state) {
    (void)state;
    const char *absent[] = {"absent", "absent"};
    static const struct {
        const char *name;
        bool takes_folder, takes_synthetic;
    } source[] = {[DT_IMPORT_IDX] = {"idx", false, false},
                  [DT_IMPORT_CIFAR10] = {"cifar10", false, false},
                  [DT_IMPORT_CIFAR100] = {"cifar100", false, false},
                  [DT_IMPORT_FOLDER] = {"folder", true, false},
                  [DT_IMPORT_SYNTHETIC] = {"synthetic", false, true},
                  [DT_IMPORT_NPY] = {"npy", false, false},
                  [DT_IMPORT_NPZ] = {"npz", false, false},
                  [DT_IMPORT_CSV] = {"csv", false, false},
                  [DT_IMPORT_TEXT] = {"text", false, false}};
    static const char *const option[] = {"resize", "square", "channels", "samples", "classes", "size"};
    for (int kind = 0; kind < DT_IMPORT_KIND_COUNT; kind++)
        for (int k = 0; k < 6; k++) {
            char said[128];
            dt_import_result r;
            dt_import_options o = idx_options(absent, in_scratch("never_fit"));
            o.kind = (dt_import_kind)kind;
            if (kind == DT_IMPORT_SYNTHETIC) {
                o.n_input = 0;
                o.synthetic.n_samples = o.synthetic.n_classes = o.synthetic.height = o.synthetic.width = 4;
            }
            if (k < 3 ? source[kind].takes_folder : source[kind].takes_synthetic) continue;
            if (k == 0) o.resize = 8;
            if (k == 1) o.square = true;
            if (k == 2) o.channels = 3;
            if (k == 3) o.synthetic.n_samples = 8;
            if (k == 4) o.synthetic.n_classes = 8;
            if (k == 5) o.synthetic.width = 8;
            snprintf(said, sizeof said, "import %s: option %s ", source[kind].name, option[k]);
            assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, said);
        }
    dt_import_result r;
    dt_import_options o = idx_options(absent, in_scratch("never_fit"));
    o.labels = "absent.csv";
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "import idx: option labels ");
    o.labels = NULL;
    o.val_fraction = 0.1;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "import idx: option val-fraction ");
    o.val_fraction = 0;
    o.jpeg_quality = 80;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "import idx: option quality ");
    o.store = DT_STORE_JPEG;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "absent: cannot open: No such file");
    o = idx_options(absent, in_scratch("never_fit"));
    o.kind = DT_IMPORT_SYNTHETIC;
    o.synthetic.n_samples = o.synthetic.n_classes = o.synthetic.height = o.synthetic.width = 4;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "import synthetic: takes no input");
    assert_int_equal(access(o.out_dir, F_OK), -1);
}

static void test_idx_bad(void **state) {
    (void)state;
    char *images = in_scratch("bi"), *labels = in_scratch("bl"), *bad = in_scratch("bad"),
         *gz = in_scratch("bad.gz");
    size_t n, n_gz;
    write_numbered_idx(images, labels, 500, 8);
    const char *input[] = {bad, labels}, *swapped[] = {labels, images}, *packed[] = {gz, labels};
    dt_import_options o = idx_options(input, in_scratch("never"));
    dt_import_result r;
    uint8_t *bytes = slurp(images, &n);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "bad: cannot open");
    write_file(bad, bytes, n - 1);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "bad: truncated");
    write_file(bad, bytes, 7);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "bad: truncated");
    bytes = realloc(bytes, n + 1);
    bytes[n] = 0;
    write_file(bad, bytes, n + 1);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "longer than its IDX header");
    memset(bytes + 4, 0xFF, 12); /* dims whose product overflows */
    write_file(bad, bytes, n);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "out of range");
    memset(bytes + 4, 0x7F, 4); /* 34 billion pixels that are not there */
    put_big_endian(bytes + 8, 4);
    put_big_endian(bytes + 12, 4);
    write_file(bad, bytes, n);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "truncated");
    write_file(bad, "not an idx file at all", 22);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "not an IDX file");
    o.input = swapped;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "not images");
    free(bytes);
    gzip_file(images, gz);
    bytes = slurp(gz, &n_gz);
    o.input = packed;
    write_file(gz, bytes, n_gz - 6); /* in the trailer */
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "bad.gz");
    write_file(gz, bytes, n_gz / 2);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "bad.gz: truncated");
    bytes[n_gz - 5] ^= 1; /* the stream's own checksum */
    write_file(gz, bytes, n_gz);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "bad.gz");
    free(bytes);
    o.n_input = 1;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "two files");
    assert_int_equal(access(in_scratch("never/shard-00000-of-00001.h5"), F_OK), -1);
}

static bool stop_after_two_shards(void *arg, int64_t done, int64_t total) {
    (void)arg;
    return done < total * 2 / 5;
}

static void test_resume(void **state) {
    (void)state;
    char *images = in_scratch("ri"), *labels = in_scratch("rl"), *dir = in_scratch("resumed");
    char command[800], path[300];
    write_numbered_idx(images, labels, 100, 4);
    const char *input[] = {images, labels};
    dt_import_options o = idx_options(input, dir);
    dt_import_result r;
    o.shard_bytes = 20 * 16;
    o.progress = stop_after_two_shards;
    assert_fails(dt_import_run(&o, &r), DT_STOPPED, "interrupted");
    o.progress = NULL;
    test_options c = test_defaults();
    dt_dataset *d;
    assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "not finished");
    /* A half-written shard of a killed import, and a bit flipped in a finished one. */
    write_file(in_scratch("resumed/.tmp-shard-00002-of-00005.h5"), "half", 4);
    size_t n;
    snprintf(path, sizeof path, "%s/shard-00001-of-00005.h5", dir);
    uint8_t *bytes = slurp(path, &n);
    dt_shard s;
    assert_ok(dt_shard_open(path, &s));
    bytes[s.data_offset_bytes + 33] ^= 4;
    dt_shard_close(&s);
    write_file(path, bytes, n);
    free(bytes);
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_shards == 5 && r.n_shards_kept == 1 && r.n_samples == 100);
    assert_int_equal(access(in_scratch("resumed/.tmp-shard-00002-of-00005.h5"), F_OK), -1);
    o.out_dir = in_scratch("straight");
    assert_ok(dt_import_run(&o, &r));
    snprintf(command, sizeof command, "diff -r %s %s", dir, o.out_dir);
    assert_int_equal(system(command), 0);
    /* Again: all is kept, also the index. */
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_shards_kept, 5);
    assert_int_equal(system(command), 0);
    /* A damaged index is written anew. */
    write_file(in_scratch("straight/index.json"), "{", 1);
    assert_fails(dt_dataset_open(&c.data, o.out_dir, &d), DT_ERR_DATA, "index.json");
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(system(command), 0);
    /* Other options or data in the same directory are refused, not mixed. */
    o.split = "val";
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "other options");
    o.shard_bytes = 50 * 16;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "another import of 5 shards");
}

static void write_cifar(const char *path, int64_t label_bytes, int n, int first) {
    size_t record = (size_t)label_bytes + 3072;
    uint8_t *bytes = calloc((size_t)n, record);
    for (int i = 0; i < n; i++) {
        uint8_t *r = bytes + (size_t)i * record;
        r[label_bytes - 1] = (uint8_t)((first + i) % 10);
        for (int k = 0; k < 3072; k++) r[label_bytes + k] = (uint8_t)(first + i + k / 1024 * 50 + k % 1024);
    }
    write_file(path, bytes, (size_t)n * record);
    free(bytes);
}

static void test_cifar(void **state) {
    (void)state;
    char *dir = in_scratch("cifar");
    assert_int_equal(mkdir(dir, 0777), 0);
    for (int i = 1; i <= 5; i++) write_cifar(in_scratch("cifar/data_batch_%d.bin", i), 1, 7, 7 * (i - 1));
    write_cifar(in_scratch("cifar/test_batch.bin"), 1, 4, 100);
    write_file(in_scratch("cifar/batches.meta.txt"), "c0\nc1\nc2\nc3\nc4\nc5\nc6\nc7\nc8\nc9\n\n", 31);
    const char *input = dir;
    dt_import_options o = {.kind = DT_IMPORT_CIFAR10,
                           .input = &input,
                           .n_input = 1,
                           .out_dir = in_scratch("cifar_out"),
                           .split = "train",
                           .threads = 2};
    dt_import_result r;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 35 && r.n_classes == 10);
    dt_dataset *d = open_set(o.out_dir);
    assert_string_equal(dt_dataset_class_name(d, 9), "c9");
    for (int i = 0; i < 35; i += 17) {
        uint8_t pixel[3072];
        dt_sample s;
        dt_dataset_locate(d, i, &s);
        assert_ok(dt_sample_read(d, &s, 0, 3072, pixel));
        assert_int_equal(s.label, i % 10);
        for (int k = 0; k < 3072; k++) assert_int_equal(pixel[k], (uint8_t)(i + k % 3 * 50 + k / 3));
    }
    dt_dataset_close(d);
    static const char *const test_split[] = {"val", "test"}, *const no_split[] = {"validation", "Test", ""};
    for (int i = 0; i < 2; i++) {
        o.split = test_split[i];
        o.out_dir = in_scratch("cifar_%s", o.split);
        assert_ok(dt_import_run(&o, &r));
        assert_int_equal(r.n_samples, 4);
    }
    for (int i = 0; i < 3; i++) {
        o.split = no_split[i];
        o.out_dir = in_scratch("cifar_none");
        assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "split is train, val or test");
        assert_int_equal(access(o.out_dir, F_OK), -1);
    }
    o.split = "test";
    write_file(in_scratch("cifar/batches.meta.txt"), "\nc1\nc2\nc3\nc4\nc5\nc6\nc7\nc8\nc9\nc10\n", 31);
    o.out_dir = in_scratch("cifar_nameless"); /* names that cannot be told apart are none */
    assert_ok(dt_import_run(&o, &r));
    d = open_set(o.out_dir);
    assert_string_equal(dt_dataset_class_name(d, 9), "");
    dt_dataset_close(d);
    assert_int_equal(truncate(in_scratch("cifar/test_batch.bin"), 5000), 0);
    o.out_dir = in_scratch("cifar_bad");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "test_batch.bin");
    char *hundred = in_scratch("hundred.bin");
    write_cifar(hundred, 2, 12, 0);
    input = hundred;
    o.split = "validation"; /* files are named: the split is only recorded */
    o.out_dir = in_scratch("cifar_bad");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "hundred.bin");
    o.kind = DT_IMPORT_CIFAR100;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 12 && r.n_classes == 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx),         cmocka_unit_test(test_class_names),
        cmocka_unit_test(test_not_utf8),    cmocka_unit_test(test_index_refusals),
        cmocka_unit_test(test_options_fit), cmocka_unit_test(test_idx_bad),
        cmocka_unit_test(test_resume),      cmocka_unit_test(test_cifar),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
