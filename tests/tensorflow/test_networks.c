/* Files of Keras and TensorFlow (golden/make_keras.py wrote them): what their networks make of an input, whether evaluated
 * node by node or compiled, and that a damaged file is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "data/h5.h"
#include "onnx/run.h"
#include "table.h"
#include "tensorflow/network.h"

#define FOLDER DT_TEST_DATA "/keras/"

static void ok(dt_status st) {
    if (st != DT_OK) fail_msg("%s: %s", dt_status_name(st), dt_error_text());
}

enum { MOST = 4 };

/* The input of that name; in graphs that lost their names the nth. */
static void read_input(dt_h5 *h, const dt_onnx_value_info *info, int32_t nth, dt_host_tensor *t) {
    char path[256];
    dt_h5_info i;
    snprintf(path, sizeof path, "in/%s", info->name);
    if (!dt_h5_has(h, path)) {
        char **name;
        int64_t n;
        ok(dt_h5_list(h, "in", &n, &name));
        assert_true(nth < n);
        snprintf(path, sizeof path, "in/%s", name[nth]);
        dt_h5_list_free(n, name);
    }
    ok(dt_h5_info_get(h, path, &i));
    const bool whole = info->type == DT_TENSOR_I32;
    *t = (dt_host_tensor){.type = whole ? DT_TENSOR_I32 : DT_TENSOR_F32, .ndim = i.ndim};
    memcpy(t->dim, i.dim, sizeof t->dim);
    t->data = malloc((size_t)i.n_elem * 4);
    ok(dt_h5_read(h, path, whole ? DT_DTYPE_I32 : DT_DTYPE_F32, i.n_elem, t->data));
}

static void compare(dt_h5 *h, int32_t nth, const dt_host_tensor *got, const char *file) {
    char path[32];
    dt_h5_info i;
    snprintf(path, sizeof path, "out%d", nth);
    ok(dt_h5_info_get(h, path, &i));
    assert_int_equal(got->type, DT_TENSOR_F32);
    assert_int_equal(dt_host_n_elem(got), i.n_elem);
    float *want = malloc((size_t)i.n_elem * sizeof *want), largest = 0, error = 0;
    ok(dt_h5_read(h, path, DT_DTYPE_F32, i.n_elem, want));
    for (int64_t k = 0; k < i.n_elem; k++) {
        largest = fmaxf(largest, fabsf(want[k]));
        error = fmaxf(error, fabsf(((const float *)got->data)[k] - want[k]));
    }
    free(want);
    if (!(error <= 1e-6f * largest)) fail_msg("%s: output %d is off by %g of %g", file, nth, error, largest);
}

static void check(const char *file, const char *data) {
    char path[512];
    dt_onnx_model *m;
    dt_onnx_eval *e;
    dt_onnx_run *r;
    dt_backend *be;
    dt_h5 *h;
    dt_host_tensor in[MOST], out[MOST];
    snprintf(path, sizeof path, FOLDER "%s", file);
    assert_true(dt_network_knows(path));
    ok(dt_network_read(path, &m));
    snprintf(path, sizeof path, FOLDER "%s.data.h5", data);
    ok(dt_h5_open(path, &h));
    assert_true(m->graph.n_in <= MOST && m->graph.n_out <= MOST);
    for (int32_t i = 0; i < m->graph.n_in; i++) read_input(h, &m->graph.in[i], i, &in[i]);
    ok(dt_onnx_eval_create(m, INT64_C(1) << 30, &e));
    ok(dt_onnx_eval_run(e, in, out));
    for (int32_t i = 0; i < m->graph.n_out; i++) compare(h, i, &out[i], file);
    dt_onnx_eval_destroy(e);
    ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 1}, &be));
    ok(dt_onnx_run_create(be, m, in, NULL, &r));
    ok(dt_onnx_run_go(r, in, out));
    for (int32_t i = 0; i < m->graph.n_out; i++) compare(h, i, &out[i], file);
    dt_onnx_run_destroy(r);
    be->destroy(be);
    for (int32_t i = 0; i < m->graph.n_in; i++) free(in[i].data);
    ok(dt_h5_close(h));
    dt_onnx_model_free(m);
}

static void windows(void **state) {
    (void)state;
    check("windows.keras", "windows");
    check("windows.h5", "windows");
    check("windows.saved", "windows");
}

static void nested(void **state) {
    (void)state;
    check("nested.keras", "nested");
    check("nested.h5", "nested");
    check("nested.saved", "nested");
    check("nested.pb", "nested");
}

static void sequence(void **state) {
    (void)state;
    check("sequence.keras", "sequence");
    check("sequence.h5", "sequence");
}

/* Weights by the names that they have in Keras. */
static void tensors(void **state) {
    (void)state;
    dt_tensors *t;
    ok(dt_network_tensors(FOLDER "windows.keras", &t));
    const dt_file_tensor *kernel = dt_tensors_find(t, "conv2d/kernel");
    assert_non_null(kernel);
    assert_int_equal(kernel->ndim, 4);
    assert_int_equal(kernel->dim[0], 6);
    assert_non_null(dt_tensors_find(t, "batch_normalization/moving_mean"));
    dt_tensors_close(t);
    ok(dt_network_tensors(FOLDER "windows.saved", &t));
    assert_non_null(dt_tensors_find(t, "conv2d/kernel_1"));
    dt_tensors_close(t);
}

static void no_network(void **state) {
    (void)state;
    dt_onnx_model *m;
    assert_int_equal(dt_network_read(DT_TEST_DATA "/library.safetensors", &m), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "weights, but no network"));
    assert_int_equal(dt_network_read(DT_TEST_DATA, &m), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "without saved_model.pb"));
}

/* ---- damaged files ---- */

typedef struct bytes {
    uint8_t *at;
    size_t n;
} bytes;

static bytes load(const char *file) {
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, FOLDER "%s", file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    bytes b = {malloc((size_t)st.st_size), (size_t)st.st_size};
    assert_int_equal(fread(b.at, 1, b.n, f), b.n);
    fclose(f);
    return b;
}

/* The status of the file with these bytes; its text is not empty. */
static dt_status read_bytes(const char *path, const uint8_t *at, size_t n) {
    dt_onnx_model *m;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(at, 1, n, f), n);
    fclose(f);
    const dt_status st = dt_network_read(path, &m);
    if (st == DT_OK)
        dt_onnx_model_free(m);
    else
        assert_true(strlen(dt_error_text()) > 10);
    return st;
}

static void damaged(void **state) {
    (void)state;
    static const char *const file[] = {"nested.keras", "nested.h5", "nested.pb"};
    char path[] = "/tmp/dt_network_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t k = 0; k < sizeof file / sizeof file[0]; k++) {
        bytes b = load(file[k]);
        uint32_t seed = 1;
        for (size_t n = 1; n < b.n; n += b.n / 37 + 1) assert_int_not_equal(read_bytes(path, b.at, n), DT_OK);
        for (int i = 0; i < 200; i++) { /* anything may be the answer, but there is one */
            seed = seed * 1664525u + 1013904223u;
            uint8_t *at = &b.at[seed % b.n], was = *at;
            *at = (uint8_t)(seed >> 24);
            (void)read_bytes(path, b.at, b.n);
            *at = was;
        }
        free(b.at);
    }
    unlink(path);
}

/* A configuration that is edited, in an archive whose members are stored: texts of equal length. */
static void refused(void **state) {
    (void)state;
    static const struct {
        const char *file, *was, *is, *text;
    } row[] = {
        {"nested.keras", "\"class_name\": \"Softmax\"", "\"class_name\": \"Lambda3\"",
         "Lambda3 (\"softmax\")"},
        {"nested.keras", "\"keras_history\": [\"p\"", "\"keras_history\": [\"z\"", "no layer makes"},
        {"windows.keras", "\"strides\": [2, 2]", "\"strides\": [2, {]", "no JSON"},
        {"windows.keras", "\"activation\": \"silu\"", "\"activation\": \"salu\"",
         "\"salu\" is not translated"},
        {"sequence.keras", "\"stateful\": false", "\"stateful\": true ", "stateful"},
        {"sequence.keras", "\"num_heads\": 2", "\"num_heads\": 3",
         NULL}, /* the kernel says how many there are */
    };
    char path[] = "/tmp/dt_network_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        bytes b = load(row[k].file);
        int found = 0;
        for (size_t i = 0; i + strlen(row[k].was) < b.n; i++)
            if (memcmp(b.at + i, row[k].was, strlen(row[k].was)) == 0) {
                assert_int_equal(strlen(row[k].was), strlen(row[k].is));
                memcpy(b.at + i, row[k].is, strlen(row[k].is));
                found++;
            }
        if (found == 0) fail_msg("%s has no %s", row[k].file, row[k].was);
        const dt_status st = read_bytes(path, b.at, b.n);
        if (row[k].text && (st != DT_ERR_DATA || !strstr(dt_error_text(), row[k].text)))
            fail_msg("%s instead of %s: %s", row[k].is, row[k].was, st == DT_OK ? "read" : dt_error_text());
        if (!row[k].text) assert_int_equal(st, DT_OK);
        free(b.at);
    }
    unlink(path);
}

/* ---- SavedModels ---- */

static const char *const saved_part[] = {"saved_model.pb", "variables/variables.index",
                                         "variables/variables.data-00000-of-00001"};

static void write_part(const char *dir, int i, const uint8_t *at, size_t n) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, saved_part[i]);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(at, 1, n, f), n);
    fclose(f);
}

/* A copy of nested.saved. */
static void copy_saved(char *dir) {
    char path[256];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/variables", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "nested.saved/%s", saved_part[i]);
        bytes b = load(path);
        write_part(dir, i, b.at, b.n);
        free(b.at);
    }
}

static void remove_saved(const char *dir) {
    char path[256];
    for (int i = 3; i-- > 0;) {
        snprintf(path, sizeof path, "%s/%s", dir, saved_part[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/variables", dir);
    rmdir(path);
    rmdir(dir);
}

static void check_refused(const char *dir, const char *text) {
    dt_onnx_model *m;
    assert_int_equal(dt_network_read(dir, &m), DT_ERR_DATA);
    if (!strstr(dt_error_text(), text)) fail_msg("%s instead of: %s", dt_error_text(), text);
}

/* A variable that changed is told by its checksum. */
static void changed_variable(void **state) {
    (void)state;
    char dir[] = "/tmp/dt_saved_XXXXXX";
    copy_saved(dir);
    dt_onnx_model *m;
    ok(dt_network_read(dir, &m));
    dt_onnx_model_free(m);
    bytes b = load("nested.saved/variables/variables.data-00000-of-00001");
    for (size_t k = 0; k < b.n; k += 4) b.at[k] ^= 1;
    write_part(dir, 2, b.at, b.n);
    free(b.at);
    check_refused(dir, "checksum");
    remove_saved(dir);
}

/* Tables of variables that are well-formed but cannot be. */
static void impossible_tables(void **state) {
    (void)state;
    static const uint8_t below[] = {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
                         plain[] = {0x08, 0x01};
    static const uint8_t beyond[] = {0, 1, 3, 'z', 0, 0xff, 0x7f};
    char dir[] = "/tmp/dt_saved_XXXXXX";
    uint8_t entries[128], table[128 + TABLE_MORE];
    copy_saved(dir);
    size_t n = table_entry("v", below, sizeof below, entries);
    write_part(dir, 1, table, table_of(entries, n, NULL, 0, 1, table));
    check_refused(dir, "the number of a file");
    n = table_entry("v", plain, sizeof plain, entries);
    write_part(dir, 1, table, table_of(entries, n, NULL, 0, 2, table));
    check_refused(dir, "blocks that overlap");
    n += table_entry("v", plain, sizeof plain, entries + n);
    write_part(dir, 1, table, table_of(entries, n, NULL, 0, 1, table));
    check_refused(dir, "two variables of one name");
    write_part(dir, 1, table, table_of(entries, n, beyond, sizeof beyond, 0, table));
    check_refused(dir, "a block outside of it");
    remove_saved(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows), cmocka_unit_test(nested),           cmocka_unit_test(sequence),
        cmocka_unit_test(tensors), cmocka_unit_test(no_network),       cmocka_unit_test(damaged),
        cmocka_unit_test(refused), cmocka_unit_test(changed_variable), cmocka_unit_test(impossible_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
