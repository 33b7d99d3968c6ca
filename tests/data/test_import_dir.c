/* What an import finds in its directory: its own shards are kept, or made again where they are damaged; what
 * is not its own is refused before any work, and stays as it is. */
#include "data_support.h"

#include <hdf5.h>

#include "data/info.h"
#include "shard.h"

enum { N = 20, SIDE = 4 };

#define FIRST "shard-00000-of-00001.h5"

/* An import of one shard into scratch/name. */
static dt_status import_into(const char *name, dt_import_result *r) {
    const char *input[] = {in_scratch("images"), in_scratch("labels")};
    dt_import_options o = {.kind = DT_IMPORT_IDX,
                           .input = input,
                           .n_input = 2,
                           .out_dir = in_scratch("%s", name),
                           .split = "train",
                           .threads = 2};
    return dt_import_run(&o, r);
}

static int prepare(void **state) {
    if (make_scratch(state) != 0) return -1;
    write_numbered_idx(in_scratch("images"), in_scratch("labels"), N, SIDE);
    return 0;
}

/* A finished import in scratch/name; the path of its shard. */
static char *make_import(const char *name) {
    dt_import_result r;
    assert_ok(import_into(name, &r));
    assert_int_equal(r.n_shards_kept, 0);
    return in_scratch("%s/" FIRST, name);
}

static void remove_index(const char *name) {
    assert_int_equal(unlink(in_scratch("%s/index.json", name)), 0);
}

static void assert_refused(const char *name, const char *file, const char *message) {
    dt_import_result r;
    size_t n, n_after;
    char *path = in_scratch("%s/%s", name, file);
    uint8_t *before = slurp(path, &n);
    assert_fails(import_into(name, &r), DT_ERR_DATA, message);
    assert_non_null(strstr(dt_error_text(), file));
    assert_non_null(strstr(dt_error_text(), "or choose another"));
    uint8_t *after = slurp(path, &n_after);
    assert_int_equal(n, n_after);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
}

static void assert_made_again(const char *name) {
    dt_import_result r;
    dt_data_verify_result v;
    assert_ok(import_into(name, &r));
    assert_int_equal(r.n_shards_kept, 0);
    assert_ok(dt_data_verify(in_scratch("%s", name), NULL, NULL, &v));
    assert_true(v.n_samples == N && v.indexed);
    assert_ok(import_into(name, &r));
    assert_int_equal(r.n_shards_kept, 1);
}

static void set_version(const char *path, int64_t version) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), attr = H5Aopen(file, "version", H5P_DEFAULT);
    assert_true(H5Awrite(attr, H5T_NATIVE_INT64, &version) >= 0);
    assert_true(H5Aclose(attr) >= 0 && H5Fclose(file) >= 0);
}

static void delete_attribute(const char *path, const char *name) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Adelete(file, name) >= 0 && H5Fclose(file) >= 0);
}

/* A shard made elsewhere, sound; one of no known origin; one of a newer version; and what is none. */
static void test_not_its_own(void **state) {
    (void)state;
    static const uint8_t pixels[N * SIDE * SIDE] = {1};
    static const int32_t labels[N] = {0};
    dt_h5 *h;
    char *path = make_import("elsewhere");
    assert_ok(dt_h5_create(path, &h));
    assert_ok(dt_h5_write(h, "images", DT_DTYPE_U8, 4, (int64_t[]){N, SIDE, SIDE, 1}, pixels));
    assert_ok(dt_h5_write(h, "labels", DT_DTYPE_I32, 1, (int64_t[]){N}, labels));
    assert_ok(dt_h5_close(h));
    assert_refused("elsewhere", FIRST, "not made by an import");
    remove_index("elsewhere");
    assert_refused("elsewhere", FIRST, "not made by an import");

    delete_attribute(make_import("no_source"), "source"); /* its checksums are all right */
    assert_refused("no_source", FIRST, "not made by an import");
    delete_attribute(make_import("no_format"), "format");
    assert_refused("no_format", FIRST, "not made by an import");

    set_version(make_import("newer"), 99);
    assert_refused("newer", FIRST, "shard version 99; this program writes version 1");

    path = make_import("text");
    write_file(path, "kept by hand", 12);
    remove_index("text");
    assert_refused("text", FIRST, "may not be a shard of this import");
    write_file(in_scratch("text/index.json"), "{", 1);
    assert_refused("text", FIRST, "may not be a shard of this import");
}

/* Files that a reader would take for shards of the set; nothing is made beside them. */
static void test_other_names(void **state) {
    (void)state;
    static const char *const names[] = {"shard-old.h5", "shard-0-of-1.h5", "shard-00001-of-00001.h5"};
    for (int i = 0; i < 3; i++) {
        char *dir = in_scratch("names%d", i), command[128];
        snprintf(command, sizeof command, "mkdir %s", dir);
        assert_int_equal(system(command), 0);
        write_file(in_scratch("names%d/%s", i, names[i]), "x", 1);
        assert_refused(strrchr(dir, '/') + 1, names[i], "is not of this import");
        assert_int_equal(access(in_scratch("names%d/" FIRST, i), F_OK), -1);
    }
}

/* Its own shards: by what they say, also where the rest is damaged; where they say nothing, by the index. */
static void test_damaged(void **state) {
    (void)state;
    char *path = make_import("no_labels");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Ldelete(file, "labels", H5P_DEFAULT) >= 0 && H5Fclose(file) >= 0);
    remove_index("no_labels");
    assert_made_again("no_labels");
    delete_attribute(path, "classes");
    remove_index("no_labels");
    assert_made_again("no_labels");

    assert_int_equal(truncate(path, 1000), 0);
    assert_made_again("no_labels");
    assert_int_equal(truncate(path, 1000), 0);
    remove_index("no_labels");
    assert_refused("no_labels", FIRST, "may not be a shard of this import");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_its_own),
        cmocka_unit_test(test_other_names),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, prepare, remove_scratch);
}
