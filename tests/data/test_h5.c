/* The HDF5 wrapper: round trips, offsets usable with pread, attributes, and refusals. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/h5.h"
#include "h5_other.h"

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    strcpy(dir, "/tmp/dt_h5_XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static const char *in_dir(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_sample(const char *path) {
    dt_h5 *h;
    const float weight[6] = {1, 2, 3, 4, 5, 6};
    const int32_t label[3] = {7, -1, 9};
    assert_int_equal(dt_h5_create(path, &h), DT_OK);
    assert_int_equal(dt_h5_write(h, "tensors/fc.weight", DT_DTYPE_F32, 2, (int64_t[]){2, 3}, weight), DT_OK);
    assert_int_equal(dt_h5_write(h, "labels", DT_DTYPE_I32, 1, (int64_t[]){3}, label), DT_OK);
    assert_int_equal(dt_h5_write(h, "scalar", DT_DTYPE_F64, 0, NULL, &(double){2.5}), DT_OK);
    assert_int_equal(dt_h5_write(h, "empty", DT_DTYPE_U8, 2, (int64_t[]){0, 4}, NULL), DT_OK);
    assert_int_equal(dt_h5_attr_set_i64(h, "step", 41), DT_OK);
    assert_int_equal(dt_h5_attr_set_i64(h, "step", INT64_MIN), DT_OK);
    assert_int_equal(dt_h5_attr_set_f64(h, "lr", 0.1), DT_OK);
    assert_int_equal(dt_h5_attr_set_str(h, "name", "gr\xc3\xbc\xc3\x9f"), DT_OK);
    assert_int_equal(dt_h5_close(h), DT_OK);
}

static void test_round_trip(void **state) {
    (void)state;
    dt_h5 *h;
    write_sample(in_dir("a.h5"));
    assert_int_equal(dt_h5_open(in_dir("a.h5"), &h), DT_OK);
    dt_h5_info info;
    assert_int_equal(dt_h5_info_get(h, "tensors/fc.weight", &info), DT_OK);
    assert_int_equal(info.dtype, DT_DTYPE_F32);
    assert_int_equal(info.ndim, 2);
    assert_int_equal(info.dim[1], 3);
    assert_int_equal(info.n_elem, 6);
    float weight[6] = {0};
    int fd = open(in_dir("a.h5"), O_RDONLY);
    assert_int_equal(pread(fd, weight, sizeof weight, info.offset_bytes), sizeof weight);
    close(fd);
    assert_true(weight[0] == 1 && weight[5] == 6);
    double wide[6] = {0};
    assert_int_equal(dt_h5_read(h, "tensors/fc.weight", DT_DTYPE_F64, 6, wide), DT_OK);
    assert_true(wide[4] == 5);
    int64_t label[2];
    assert_int_equal(dt_h5_read_rows(h, "labels", DT_DTYPE_I64, 1, 2, label), DT_OK);
    assert_true(label[0] == -1 && label[1] == 9);
    double scalar;
    assert_int_equal(dt_h5_read(h, "scalar", DT_DTYPE_F64, 1, &scalar), DT_OK);
    assert_true(scalar == 2.5);
    assert_int_equal(dt_h5_read(h, "empty", DT_DTYPE_U8, 0, NULL), DT_OK);
    int64_t step;
    char *name;
    assert_int_equal(dt_h5_attr_get_i64(h, "step", &step), DT_OK);
    assert_true(step == INT64_MIN);
    assert_int_equal(dt_h5_attr_get_str(h, "name", &name), DT_OK);
    assert_string_equal(name, "gr\xc3\xbc\xc3\x9f");
    free(name);
    assert_int_equal(dt_h5_close(h), DT_OK);
    assert_true(other_attr_f64(in_dir("a.h5"), "lr") == 0.1);
}

static void test_refusals(void **state) {
    (void)state;
    dt_h5 *h;
    int32_t n[8];
    int64_t step;
    write_sample(in_dir("b.h5"));
    assert_int_equal(dt_h5_open(in_dir("b.h5"), &h), DT_OK);
    assert_int_equal(dt_h5_read(h, "labels", DT_DTYPE_I32, 4, n), DT_ERR_DATA);
    assert_int_equal(dt_h5_read(h, "labels", DT_DTYPE_F32, 3, n), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "labels is of type i32"));
    assert_int_equal(dt_h5_read_rows(h, "labels", DT_DTYPE_I32, 2, 2, n), DT_ERR_DATA);
    assert_int_equal(dt_h5_read(h, "absent/x", DT_DTYPE_I32, 1, n), DT_ERR_DATA);
    assert_int_equal(dt_h5_attr_get_i64(h, "name", &step), DT_ERR_DATA);
    assert_int_equal(dt_h5_attr_get_i64(h, "absent", &step), DT_ERR_DATA);
    assert_int_equal(dt_h5_write(h, "x", DT_DTYPE_I32, 1, (int64_t[]){1}, n), DT_ERR_INTERNAL);
    assert_true(dt_h5_has(h, "tensors/fc.weight"));
    assert_false(dt_h5_has(h, "tensors"));
    assert_false(dt_h5_has(h, "tensors/nothing"));
    assert_int_equal(dt_h5_close(h), DT_OK);
    assert_int_equal(dt_h5_create(in_dir("c.h5"), &h), DT_OK);
    assert_int_equal(dt_h5_write(h, "x", DT_DTYPE_BF16, 1, (int64_t[]){1}, n), DT_ERR_INTERNAL);
    assert_int_equal(dt_h5_write(h, "x", DT_DTYPE_I32, 2, (int64_t[]){INT64_MAX, 4}, n), DT_ERR_INTERNAL);
    assert_int_equal(dt_h5_close(h), DT_OK);
    assert_int_equal(dt_h5_open(in_dir("absent.h5"), &h), DT_ERR_DATA);
    assert_null(h);
    assert_int_equal(dt_h5_create(in_dir("no/such/dir.h5"), &h), DT_ERR_IO);
    assert_non_null(strstr(dt_error_text(), "No such file"));
    assert_int_equal(dt_h5_close(NULL), DT_OK);
}

static void test_truncated(void **state) {
    (void)state;
    dt_h5 *h;
    write_sample(in_dir("t.h5"));
    for (int64_t bytes = 0; bytes < 4000; bytes += 97) {
        assert_int_equal(truncate(in_dir("t.h5"), 4000 - bytes), 0);
        assert_int_equal(dt_h5_open(in_dir("t.h5"), &h), DT_ERR_DATA);
        assert_non_null(strstr(dt_error_text(), "t.h5"));
    }
}

static void test_reserve(void **state) {
    (void)state;
    dt_h5 *h;
    int64_t offset, n = 100000;
    assert_int_equal(dt_h5_create(in_dir("r.h5"), &h), DT_OK);
    assert_int_equal(dt_h5_reserve(h, "jpeg/bytes", DT_DTYPE_U8, 1, &n, &offset), DT_OK);
    assert_int_equal(offset % 4096, 0);
    assert_int_equal(dt_h5_close(h), DT_OK);
    int fd = open(in_dir("r.h5"), O_RDWR);
    assert_int_equal(pwrite(fd, "\x2a", 1, offset + n - 1), 1);
    close(fd);
    uint8_t last = 0;
    assert_int_equal(dt_h5_open(in_dir("r.h5"), &h), DT_OK);
    assert_int_equal(dt_h5_read_rows(h, "jpeg/bytes", DT_DTYPE_U8, n - 1, 1, &last), DT_OK);
    assert_int_equal(last, 42);
    assert_int_equal(dt_h5_close(h), DT_OK);
}

static void test_chunked(void **state) {
    (void)state;
    dt_h5 *h;
    int32_t rows[12], back[4];
    for (int32_t i = 0; i < 12; i++) rows[i] = i;
    other_write_chunked(in_dir("p.h5"), "x", H5T_NATIVE_INT32, 2, (hsize_t[]){6, 2}, rows);
    assert_int_equal(dt_h5_open(in_dir("p.h5"), &h), DT_OK);
    dt_h5_info info;
    assert_int_equal(dt_h5_info_get(h, "x", &info), DT_OK);
    assert_true(info.offset_bytes == -1 && info.dim[0] == 6);
    assert_int_equal(dt_h5_read_rows(h, "x", DT_DTYPE_I32, 3, 2, back), DT_OK);
    assert_true(back[0] == 6 && back[3] == 9);
    assert_int_equal(dt_h5_close(h), DT_OK);
}

/* Links within the file are followed; what is behind a link into another file is there, but never read. */
static void test_links(void **state) {
    (void)state;
    static const char *const inside[] = {"hard", "soft"};
    static const char *const outside[] = {"out", "soft_out", "group/fc.weight", "loop", "fifo", "absent"};
    dt_h5 *h;
    dt_h5_info info;
    int32_t label[3];
    char other[128], fifo[128];
    write_sample(strcpy(other, in_dir("other.h5")));
    assert_int_equal(mkfifo(strcpy(fifo, in_dir("fifo")), 0600), 0);
    write_sample(in_dir("l.h5"));
    hid_t file = H5Fopen(in_dir("l.h5"), H5F_ACC_RDWR, H5P_DEFAULT), p = H5P_DEFAULT;
    assert_true(H5Lcreate_hard(file, "labels", file, "hard", p, p) >= 0);
    assert_true(H5Lcreate_soft("/labels", file, "soft", p, p) >= 0);
    assert_true(H5Lcreate_external(other, "labels", file, "out", p, p) >= 0);
    assert_true(H5Lcreate_soft("/out", file, "soft_out", p, p) >= 0);
    assert_true(H5Lcreate_external(other, "tensors", file, "group", p, p) >= 0);
    assert_true(H5Lcreate_external(in_dir("l.h5"), "labels", file, "loop", p, p) >= 0);
    assert_true(H5Lcreate_external(fifo, "labels", file, "fifo", p, p) >= 0);
    assert_true(H5Lcreate_external(in_dir("no_file.h5"), "labels", file, "absent", p, p) >= 0);
    assert_true(H5Fclose(file) >= 0);
    alarm(30); /* a FIFO that is opened waits for ever */
    assert_int_equal(dt_h5_open(in_dir("l.h5"), &h), DT_OK);
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        assert_true(dt_h5_has(h, inside[i]));
        assert_int_equal(dt_h5_read(h, inside[i], DT_DTYPE_I32, 3, label), DT_OK);
        assert_int_equal(label[2], 9);
    }
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        char said[192];
        snprintf(said, sizeof said, "%s/l.h5: %s is behind a link to another file", dir, outside[i]);
        assert_true(dt_h5_has(h, outside[i]));
        assert_int_equal(dt_h5_info_get(h, outside[i], &info), DT_ERR_DATA);
        assert_non_null(strstr(dt_error_text(), said));
        assert_int_equal(dt_h5_read(h, outside[i], DT_DTYPE_I32, 3, label), DT_ERR_DATA);
        assert_int_equal(dt_h5_read_rows(h, outside[i], DT_DTYPE_I32, 0, 1, label), DT_ERR_DATA);
        assert_non_null(strstr(dt_error_text(), said));
    }
    assert_int_equal(dt_h5_close(h), DT_OK);
    alarm(0);
}

static void test_equal_content_equal_bytes(void **state) {
    (void)state;
    char command[256];
    write_sample(in_dir("d1.h5"));
    sleep(1);
    write_sample(in_dir("d2.h5"));
    snprintf(command, sizeof command, "cmp %s/d1.h5 %s/d2.h5", dir, dir);
    assert_int_equal(system(command), 0);
}

static void test_full_disk(void **state) {
    (void)state;
    dt_h5 *h;
    int64_t n = 1 << 20;
    uint8_t *data = calloc(1, (size_t)n);
    if (access("/dev/full", W_OK) != 0 || symlink("/dev/full", in_dir("full.h5")) != 0) skip();
    dt_status status = dt_h5_create(in_dir("full.h5"), &h);
    if (status == DT_OK) {
        status = dt_h5_write(h, "x", DT_DTYPE_U8, 1, &n, data);
        dt_status closed = dt_h5_close(h);
        if (status == DT_OK) status = closed;
    }
    free(data);
    assert_int_equal(status, DT_ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_truncated),  cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_chunked),    cmocka_unit_test(test_links),
        cmocka_unit_test(test_full_disk),  cmocka_unit_test(test_equal_content_equal_bytes),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
