/* Shards that are not what they should be: each is refused with DT_ERR_DATA and a message that says why; and
 * what `info` and `verify` say of sound ones. */
#include "data_support.h"

#include <hdf5.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "data/info.h"
#include "dataset.h"

enum { N = 6, SIDE = 4 };

/* A shard with one thing wrong. */
typedef struct flaw {
    const char *what, *message;
    dt_status (*make)(dt_h5 *h);
} flaw;

static const uint8_t pixels[N * SIDE * SIDE * 8] = {1};
static const int32_t labels[N] = {0, 1, 2, 0, 1, 2};

static dt_status write_attributes(dt_h5 *h, const char *format, int64_t version, int64_t count,
                                  int64_t classes) {
    DT_TRY(dt_h5_attr_set_str(h, "format", format));
    DT_TRY(dt_h5_attr_set_i64(h, "version", version));
    DT_TRY(dt_h5_attr_set_i64(h, "count", count));
    return dt_h5_attr_set_i64(h, "classes", classes);
}

static dt_status write_images(dt_h5 *h) {
    return dt_h5_write(h, "images", DT_DTYPE_U8, 4, (int64_t[]){N, SIDE, SIDE, 1}, pixels);
}

static dt_status write_labels(dt_h5 *h) {
    return dt_h5_write(h, "labels", DT_DTYPE_I32, 1, (int64_t[]){N}, labels);
}

static dt_status sound(dt_h5 *h) {
    DT_TRY(write_attributes(h, "dtrain-shard", 1, N, 3));
    DT_TRY(write_images(h));
    return write_labels(h);
}

static dt_status nothing(dt_h5 *h) {
    (void)h;
    return DT_OK;
}

static dt_status no_labels(dt_h5 *h) {
    return write_images(h);
}

static dt_status float_images(dt_h5 *h) {
    DT_TRY(write_labels(h));
    return dt_h5_write(h, "images", DT_DTYPE_F32, 4, (int64_t[]){N, SIDE, SIDE, 1}, pixels);
}

static dt_status flat_images(dt_h5 *h) {
    DT_TRY(write_labels(h));
    return dt_h5_write(h, "images", DT_DTYPE_U8, 2, (int64_t[]){N, SIDE * SIDE}, pixels);
}

static dt_status float_labels(dt_h5 *h) {
    const float values[N] = {0};
    DT_TRY(write_images(h));
    return dt_h5_write(h, "labels", DT_DTYPE_F32, 1, (int64_t[]){N}, values);
}

static dt_status few_labels(dt_h5 *h) {
    DT_TRY(write_images(h));
    return dt_h5_write(h, "labels", DT_DTYPE_I32, 1, (int64_t[]){N - 1}, labels);
}

static dt_status large_label(dt_h5 *h) {
    DT_TRY(write_attributes(h, "dtrain-shard", 1, N, 2));
    DT_TRY(write_images(h));
    return write_labels(h);
}

static dt_status negative_label(dt_h5 *h) {
    const int32_t values[N] = {0, 0, 0, -1, 0, 0};
    DT_TRY(write_images(h));
    return dt_h5_write(h, "labels", DT_DTYPE_I32, 1, (int64_t[]){N}, values);
}

static dt_status other_format(dt_h5 *h) {
    DT_TRY(write_attributes(h, "dtrain-checkpoint", 1, N, 3));
    DT_TRY(write_images(h));
    return write_labels(h);
}

static dt_status newer_version(dt_h5 *h) {
    DT_TRY(write_attributes(h, "dtrain-shard", 99, N, 3));
    DT_TRY(write_images(h));
    return write_labels(h);
}

static dt_status wrong_count(dt_h5 *h) {
    DT_TRY(write_attributes(h, "dtrain-shard", 1, N + 1, 3));
    DT_TRY(write_images(h));
    return write_labels(h);
}

static dt_status empty(dt_h5 *h) {
    DT_TRY(dt_h5_write(h, "images", DT_DTYPE_U8, 4, (int64_t[]){0, SIDE, SIDE, 1}, pixels));
    return dt_h5_write(h, "labels", DT_DTYPE_I32, 1, (int64_t[]){0}, labels);
}

static dt_status zero_height(dt_h5 *h) {
    DT_TRY(write_labels(h));
    return dt_h5_write(h, "images", DT_DTYPE_U8, 4, (int64_t[]){N, 0, SIDE, 1}, pixels);
}

static dt_status eight_channels(dt_h5 *h) {
    DT_TRY(write_labels(h));
    return dt_h5_write(h, "images", DT_DTYPE_U8, 4, (int64_t[]){N, SIDE, SIDE, 8}, pixels);
}

static dt_status short_checksums(dt_h5 *h) {
    const int64_t sums[2] = {0};
    DT_TRY(sound(h));
    return dt_h5_write(h, "checksum", DT_DTYPE_I64, 1, (int64_t[]){2}, sums);
}

static dt_status wrong_names(dt_h5 *h) {
    DT_TRY(dt_h5_attr_set_str(h, "class_names", "only one"));
    return sound(h);
}

static dt_status write_jpeg(dt_h5 *h, const int64_t *offset, int32_t height) {
    const int32_t side[2] = {height, 8};
    const int32_t label[2] = {0, 1};
    DT_TRY(dt_h5_write(h, "jpeg/bytes", DT_DTYPE_U8, 1, (int64_t[]){20}, pixels));
    DT_TRY(dt_h5_write(h, "jpeg/offsets", DT_DTYPE_I64, 1, (int64_t[]){3}, offset));
    DT_TRY(dt_h5_write(h, "jpeg/height", DT_DTYPE_I32, 1, (int64_t[]){2}, side));
    DT_TRY(dt_h5_write(h, "jpeg/width", DT_DTYPE_I32, 1, (int64_t[]){2}, side));
    return dt_h5_write(h, "labels", DT_DTYPE_I32, 1, (int64_t[]){2}, label);
}

static dt_status two_jpeg_files(dt_h5 *h) {
    return write_jpeg(h, (int64_t[]){0, 10, 20}, 8);
}
static dt_status descending_offsets(dt_h5 *h) {
    return write_jpeg(h, (int64_t[]){0, 25, 20}, 8);
}
static dt_status empty_jpeg(dt_h5 *h) {
    return write_jpeg(h, (int64_t[]){0, 20, 20}, 8);
}
static dt_status far_offsets(dt_h5 *h) {
    return write_jpeg(h, (int64_t[]){0, 10, 30}, 8);
}
static dt_status overflowing_offsets(dt_h5 *h) {
    return write_jpeg(h, (int64_t[]){0, INT64_MIN, 20}, 8);
}
static dt_status zero_jpeg_height(dt_h5 *h) {
    return write_jpeg(h, (int64_t[]){0, 10, 20}, 0);
}

static const flaw flaws[] = {
    {"nothing in it", "no dataset images", nothing},
    {"no labels", "no dataset labels", no_labels},
    {"float images", "images is not u8", float_images},
    {"flat images", "images is not u8", flat_images},
    {"float labels", "labels is of type f32", float_labels},
    {"few labels", "labels has 5 elements", few_labels},
    {"large label", "sample 2 has label 2", large_label},
    {"negative label", "sample 3 has label -1", negative_label},
    {"other format", "attribute format", other_format},
    {"newer version", "shard version 99", newer_version},
    {"wrong count", "attribute count", wrong_count},
    {"empty", "it is empty", empty},
    {"zero height", "images is out of range", zero_height},
    {"eight channels", "images is out of range", eight_channels},
    {"short checksums", "checksum has 2 elements", short_checksums},
    {"wrong names", "does not hold 3 names", wrong_names},
    {"descending offsets", "jpeg/offsets does not ascend", descending_offsets},
    {"empty JPEG", "jpeg/offsets does not ascend", empty_jpeg},
    {"far offsets", "does not span jpeg/bytes", far_offsets},
    {"overflowing offsets", "jpeg/offsets does not ascend", overflowing_offsets},
    {"zero JPEG height", "jpeg/height or jpeg/width", zero_jpeg_height},
};

static void make(const char *path, dt_status (*fill)(dt_h5 *h)) {
    dt_h5 *h;
    assert_ok(dt_h5_create(path, &h));
    assert_ok(fill(h));
    assert_ok(dt_h5_close(h));
}

static void test_flaws(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    char *path = in_scratch("flaw.h5");
    make(path, sound);
    assert_ok(dt_dataset_open(&c.data, path, &d));
    assert_int_equal(d->info.n_samples, N);
    assert_true(d->info.mean[0] == 0.5 && d->info.stddev[0] == 0.25); /* no statistics */
    dt_dataset_close(d);
    for (size_t i = 0; i < sizeof flaws / sizeof flaws[0]; i++) {
        make(path, flaws[i].make);
        assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA, flaws[i].message);
        assert_non_null(strstr(dt_error_text(), "flaw.h5"));
        assert_null(d);
    }
    assert_fails(dt_dataset_open(&c.data, in_scratch("absent"), &d), DT_ERR_DATA, "absent");
    assert_int_equal(mkdir(in_scratch("two"), 0777), 0);
    assert_fails(dt_dataset_open(&c.data, in_scratch("two"), &d), DT_ERR_DATA,
                 "two: no shard-*.h5 in this directory (make them");
    make_numbered("two/train", 3, 2, 3);
    assert_fails(dt_dataset_open(&c.data, in_scratch("two"), &d), DT_ERR_DATA,
                 "no shard-*.h5 in this directory, but train in it is a data set: name that");
    make_numbered("two/val", 3, 2, 3);
    assert_fails(dt_dataset_open(&c.data, in_scratch("two"), &d), DT_ERR_DATA,
                 ", but train, val in it are data sets: name one of them");
}

/* A shard named alone is compared with the index beside it before HDF5 parses it, as a whole set is. */
static void test_alone(void **state) {
    (void)state;
    const test_options c = test_defaults();
    dt_dataset *d;
    char *dir = make_numbered("alone", 20, 4, 10), *shard = in_scratch("alone/shard-00001-of-00002.h5");
    assert_ok(dt_dataset_open(&c.data, shard, &d));
    dt_dataset_close(d);
    FILE *f = fopen(shard, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, 40, SEEK_SET), 0);
    const int byte = fgetc(f);
    assert_true(fseek(f, 40, SEEK_SET) == 0 && fputc(byte ^ 1, f) != EOF && fclose(f) == 0);
    assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "00001-of-00002.h5: damaged: its structure");
    assert_fails(dt_dataset_open(&c.data, shard, &d), DT_ERR_DATA,
                 "00001-of-00002.h5: damaged: its structure");
    assert_ok(dt_dataset_open(&c.data, in_scratch("alone/shard-00000-of-00002.h5"), &d));
    dt_dataset_close(d);
}

static hid_t string_type(H5T_cset_t cset, size_t size) {
    hid_t type = H5Tcopy(H5T_C_S1);
    assert_true(H5Tset_size(type, size) >= 0 && H5Tset_cset(type, cset) >= 0);
    return type;
}

/* An attribute as other programs write it, in the place of one that may be there; n values, -1 for a
 * scalar. */
static void set_attribute(const char *path, const char *name, hid_t type, int n, const void *value) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t space = n < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, (hsize_t[]){(hsize_t)n}, NULL);
    if (H5Aexists(file, name) > 0) assert_true(H5Adelete(file, name) >= 0);
    hid_t attr = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(attr, type, value) >= 0);
    assert_true(H5Aclose(attr) >= 0 && H5Sclose(space) >= 0 && H5Fclose(file) >= 0);
}

static void make_with_strings(const char *path, dt_status (*fill)(dt_h5 *h), H5T_cset_t cset, bool variable) {
    char format[16] = "dtrain-shard", names[16] = "cat\ndog\nemu", *format_at = format, *names_at = names;
    hid_t type = string_type(cset, variable ? H5T_VARIABLE : sizeof format);
    make(path, fill);
    set_attribute(path, "format", type, -1, variable ? (const void *)&format_at : format);
    set_attribute(path, "class_names", type, -1, variable ? (const void *)&names_at : names);
    H5Tclose(type);
}

/* Strings count alike in either character set, of fixed or variable length. First of all tests, and files are
 * made by another process: one that has written strings can read what others cannot. */
static void test_character_sets(void **state) {
    (void)state;
    static const H5T_cset_t sets[] = {H5T_CSET_ASCII, H5T_CSET_UTF8};
    test_options c = test_defaults();
    dt_dataset *d;
    pid_t maker = fork();
    assert_true(maker >= 0);
    if (maker == 0) {
        for (int i = 0; i < 4; i++) {
            make_with_strings(in_scratch("cset%d.h5", i), sound, sets[i % 2], i / 2);
            make_with_strings(in_scratch("newer%d.h5", i), newer_version, sets[i % 2], i / 2);
        }
        _exit(0);
    }
    int made;
    assert_int_equal(waitpid(maker, &made, 0), maker);
    assert_int_equal(made, 0);
    for (int i = 0; i < 4; i++) {
        assert_fails(dt_dataset_open(&c.data, in_scratch("newer%d.h5", i), &d), DT_ERR_DATA,
                     "shard version 99");
        assert_ok(dt_dataset_open(&c.data, in_scratch("cset%d.h5", i), &d));
        assert_string_equal(dt_dataset_class_name(d, 2), "emu");
        dt_dataset_close(d);
    }
}

/* An attribute that is there but not what it should be is refused, not taken for absent. */
static void test_attributes_of_another_kind(void **state) {
    (void)state;
    static const char *const strings[] = {"format", "class_names", "source"}, *const integers[] = {
                                                                                  "version", "skipped",
                                                                                  "stats_pixels"};
    static const char *const three[] = {"cat", "dog", "emu"};
    static const double half = 100.5;
    test_options c = test_defaults();
    dt_dataset *d;
    char said[128], *path = in_scratch("kind.h5");
    hid_t type = string_type(H5T_CSET_ASCII, H5T_VARIABLE);
    for (int i = 0; i < 3; i++) {
        snprintf(said, sizeof said, "kind.h5: attribute %s is not one string", strings[i]);
        make(path, sound);
        set_attribute(path, strings[i], type, 3, three);
        assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA, said);
        set_attribute(path, strings[i], H5T_NATIVE_DOUBLE, -1, &half);
        assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA, said);
        snprintf(said, sizeof said, "kind.h5: attribute %s is not one integer", integers[i]);
        make(path, sound);
        set_attribute(path, integers[i], H5T_NATIVE_DOUBLE, -1, &half);
        assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA, said);
    }
    make(path, two_jpeg_files);
    assert_ok(dt_dataset_open(&c.data, path, &d));
    dt_dataset_close(d);
    set_attribute(path, "channels", H5T_NATIVE_DOUBLE, -1, &half);
    assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA, "attribute channels is not one integer");
    H5Tclose(type);
}

/* A dataset of n elements (a last dim of 1 each where ndim is 3) of value 0. Chunks of `chunk` rows with
 * deflate, of which the first n_chunks are written; contiguous if 0, written if n_chunks is not 0. */
static void add_zeros(const char *path, const char *name, hid_t type, int ndim, hsize_t n, hsize_t chunk,
                      int n_chunks) {
    const hsize_t dim[3] = {n, 1, 1}, chunk_dim[3] = {chunk, 1, 1};
    hid_t file = access(path, F_OK) == 0 ? H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT)
                                         : H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(ndim, dim, NULL), dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (chunk) assert_true(H5Pset_chunk(dcpl, ndim, chunk_dim) >= 0 && H5Pset_deflate(dcpl, 9) >= 0);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    const hsize_t rows = chunk ? chunk : n;
    void *zeros = n_chunks ? calloc(rows, H5Tget_size(type)) : NULL;
    hid_t memory = H5Screate_simple(1, &rows, NULL);
    for (int i = 0; i < n_chunks; i++) {
        const hsize_t start[3] = {(hsize_t)i * rows}, count[3] = {rows, 1, 1};
        assert_true(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0);
        assert_true(H5Dwrite(set, type, memory, space, H5P_DEFAULT, zeros) >= 0);
    }
    free(zeros);
    assert_true(H5Sclose(memory) >= 0 && H5Dclose(set) >= 0 && H5Pclose(dcpl) >= 0);
    assert_true(H5Sclose(space) >= 0 && H5Fclose(file) >= 0);
}

/* The number of samples is bounded by what the file can hold, before memory is asked for. */
static void test_more_than_stored(void **state) {
    (void)state;
    const hsize_t huge = (hsize_t)1 << 31, million = 1 << 20;
    test_options c = test_defaults();
    dt_dataset *d;
    char *path = in_scratch("unwritten.h5");
    add_zeros(path, "images", H5T_NATIVE_UINT8, 3, huge, million, 0);
    add_zeros(path, "labels", H5T_NATIVE_UINT8, 1, huge, million, 0);
    assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA,
                 "unwritten.h5: images has no data in the file");
    path = in_scratch("labels.h5");
    add_zeros(path, "images", H5T_NATIVE_UINT8, 3, 100, 0, 1);
    add_zeros(path, "labels", H5T_NATIVE_UINT8, 1, 100, 0, 0);
    assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA,
                 "labels.h5: labels has no data in the file");
    path = in_scratch("one_chunk.h5");
    add_zeros(path, "images", H5T_NATIVE_UINT8, 3, huge, million, 1);
    add_zeros(path, "labels", H5T_NATIVE_UINT8, 1, huge, million, 1);
    assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA,
                 "images should have 2147483648 bytes, but ");
    /* as far as deflate can go */
    path = in_scratch("zeros.h5");
    add_zeros(path, "images", H5T_NATIVE_UINT8, 3, 6 * million, million, 6);
    add_zeros(path, "labels", H5T_NATIVE_INT32, 1, 6 * million, million, 6);
    assert_ok(dt_dataset_open(&c.data, path, &d));
    assert_int_equal(d->info.n_samples, 6 * million);
    dt_dataset_close(d);
}

/* Every length from nothing to all but one byte. */
static void test_truncated(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    dt_data_verify_result v;
    char *dir = make_numbered("truncated", 40, SIDE, 1000), path[300];
    snprintf(path, sizeof path, "%s/shard-00000-of-00001.h5", dir);
    size_t n;
    uint8_t *bytes = slurp(path, &n);
    for (size_t size = 0; size<n; size += size + 203> n && size < n - 1 ? n - 1 - size : 203) {
        write_file(path, bytes, size);
        assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "bytes, but index.json says");
        assert_int_equal(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA); /* without the index */
        assert_int_equal(dt_data_verify(dir, NULL, NULL, &v), DT_ERR_DATA);
    }
    write_file(path, bytes, n);
    assert_ok(dt_data_verify(dir, NULL, NULL, &v));
    assert_true(v.n_samples == 40 && v.n_shards == 1 && v.indexed);
    free(bytes);
}

/* With an index a flipped bit outside the samples is found before HDF5 parses the file, wherever it is; one
 * in a sample is left to the sample's checksum. */
static void test_flipped_bits(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    dt_data_verify_result v;
    char *dir = make_numbered("flipped", 40, SIDE, 1000), path[300];
    snprintf(path, sizeof path, "%s/shard-00000-of-00001.h5", dir);
    assert_ok(dt_dataset_open(&c.data, dir, &d));
    size_t n, begin = (size_t)d->shard[0].data_offset_bytes, end = begin + 40 * SIDE * SIDE;
    dt_dataset_close(d);
    uint8_t *bytes = slurp(path, &n);
    assert_true(begin > 100 && end < n - 100);
    for (size_t at = 0; at < n; at += 1 + at % 5) {
        bytes[at] ^= (uint8_t)(1u << at % 8);
        write_file(path, bytes, n);
        if (at >= begin && at < end)
            assert_ok(dt_dataset_open(&c.data, dir, &d));
        else
            assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "its structure differs");
        dt_dataset_close(d);
        if (at % 16 == 0) assert_fails(dt_data_verify(dir, NULL, NULL, &v), DT_ERR_DATA, "differs from what");
        bytes[at] ^= (uint8_t)(1u << at % 8);
    }
    free(bytes);
}

static void test_missing_shard(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    char *dir = make_numbered("missing", 40, SIDE, 10), path[300];
    snprintf(path, sizeof path, "%s/shard-00002-of-00004.h5", dir);
    assert_int_equal(unlink(path), 0);
    assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "3 shard files, but index.json lists 4");
    snprintf(path, sizeof path, "%s/index.json", dir);
    assert_int_equal(unlink(path), 0);
    assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "not finished");
}

static void test_shards_that_differ(void **state) {
    (void)state;
    test_options c = test_defaults();
    dt_dataset *d;
    char command[600];
    snprintf(command, sizeof command,
             "mkdir %s && cp %s/shard-*.h5 %s/shard-a.h5 && cp %s/shard-*.h5 %s/shard-b.h5",
             in_scratch("mixed"), make_numbered("four", 10, 4, 100), in_scratch("mixed"),
             make_numbered("five", 10, 5, 100), in_scratch("mixed"));
    assert_int_equal(system(command), 0);
    assert_fails(dt_dataset_open(&c.data, in_scratch("mixed"), &d), DT_ERR_DATA, "differ from");
}

static void test_bad_index(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{\"format\": \"x\"}",
        "{\"format\": \"dtrain-dataset\", \"version\": 1, \"shards\": []}",
        "{\"format\": \"dtrain-dataset\", \"version\": 1, \"shards\": [{\"file\": \"../../etc/passwd\"}]}",
        "{\"format\": \"dtrain-dataset\", \"version\": 1, \"shards\": [{\"file\": \"a\", \"count\": -1}]}"};
    test_options c = test_defaults();
    dt_dataset *d;
    char *dir = make_numbered("index", 10, SIDE, 100), *path = in_scratch("index/index.json");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_file(path, texts[i], strlen(texts[i]));
        assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "index.json");
    }
}

/* An index that contradicts the shards, or itself, does not open. */
static void test_index_contradicts(void **state) {
    (void)state;
    static const struct {
        const char *edit, *message;
    } rows[] = {
        {"0,/\"count\": 20/s//\"count\": 21/", "says count 21, the shards say 20"},
        {"s/\"count\": 10,/\"count\": 11,/",
         "00000-of-00002.h5: index.json says count 11, the shards say 10"},
        {"s/\"classes\": 10/\"classes\": 3/", "says classes 3, the shards say 10"},
        {"/\"shape\"/{n;s/4/5/}", "says height 5, the shards say 4"},
        {"/\"shape\"/{n;n;s/4/5/}", "says width 5, the shards say 4"},
        {"/\"shape\"/{n;s/4/\"x\"/}", "damaged: shape"},
        {"/\"mean\"/{n;s/[0-9.]\\+/\"x\"/}", "damaged: mean or std"},
        {"/\"std\"/{n;s/[0-9.]\\+/null/}", "damaged: mean or std"},
        {"s/00001-of/00000-of/", "index.json"},
        {"s/\"version\": 1/\"version\": 7/", "written by a newer dtrain (version 7;"},
        {"s/\"version\": 1/\"version\": 0/", "damaged: format, version"},
    };
    test_options c = test_defaults();
    dt_dataset *d;
    dt_data_verify_result v;
    char *dir = make_numbered("contradicts", 20, 4, 10), *path = in_scratch("contradicts/index.json");
    char command[600];
    size_t n;
    uint8_t *text = slurp(path, &n);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file(path, text, n);
        snprintf(command, sizeof command, "sed -i '%s' %s", rows[i].edit, path);
        assert_int_equal(system(command), 0);
        assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, rows[i].message);
        assert_null(d);
        assert_int_equal(dt_data_verify(dir, NULL, NULL, &v), DT_ERR_DATA);
    }
    write_file(path, text, n);
    assert_ok(dt_data_verify(dir, NULL, NULL, &v));
    assert_int_equal(v.n_unchecked, 0);
    free(text);
    path = in_scratch("unchecked.h5"); /* without checksums */
    make(path, sound);
    assert_ok(dt_data_verify(path, NULL, NULL, &v));
    assert_true(v.n_samples == N && v.n_unchecked == N);
}

static void test_info(void **state) {
    (void)state;
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    assert_ok(dt_data_info_print(make_photos("info", DT_STORE_JPEG, 12, 20, 30), f));
    fclose(f);
    assert_non_null(strstr(text, "kind      JPEG"));
    assert_non_null(strstr(text, "12 in 1 shard,"));
    assert_non_null(strstr(text, "up to 20 x 30 x 3"));
    assert_non_null(strstr(text, "mean      0."));
    assert_non_null(strstr(text, "classes   4"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_character_sets), /* first */
        cmocka_unit_test(test_flaws),
        cmocka_unit_test(test_attributes_of_another_kind),
        cmocka_unit_test(test_more_than_stored),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_missing_shard),
        cmocka_unit_test(test_shards_that_differ),
        cmocka_unit_test(test_bad_index),
        cmocka_unit_test(test_index_contradicts),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_info),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
