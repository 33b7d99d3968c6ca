/* Imports of arrays, and arrays in files that others have made. */
#include "data_support.h"

#include <locale.h>
#include <math.h>

#include "arrays.h"
#include "h5_other.h"
#include "index.h"
#include "numpy_files.h"

enum { N = 40, ROOM = 1 << 20 };

static char *write_npy(const char *name, const char *descr, const char *shape, const void *numbers,
                       size_t n) {
    static uint8_t file[ROOM];
    char header[256], *path = in_scratch("%s", name);
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", descr, shape);
    write_file(path, file, numpy_files_npy(1, header, numbers, n, file));
    return path;
}

/* Row i is {i, i + 0.5, -i}, its target i % 7. */
static void write_numbered(char **x, char **y) {
    float value[N][3];
    int64_t label[N];
    for (int i = 0; i < N; i++) {
        value[i][0] = (float)i, value[i][1] = (float)i + 0.5f, value[i][2] = (float)-i;
        label[i] = i % 7;
    }
    *x = write_npy("x.npy", "<f4", "(40, 3)", value, sizeof value);
    *y = write_npy("y.npy", "<i8", "(40,)", label, sizeof label);
}

static dt_import_options options(dt_import_kind kind, const char *const *input, const char *out) {
    return (dt_import_options){
        .kind = kind, .input = input, .n_input = 1, .out_dir = out, .split = "train", .threads = 1};
}

static dt_arrays open_arrays(const char *path) {
    dt_arrays a;
    dt_data_verify_result v;
    assert_ok(dt_data_verify(path, NULL, NULL, &v));
    assert_ok(dt_arrays_open(path, &a));
    assert_true(v.n_samples == a.n_samples && v.n_shards == a.n_shards);
    return a;
}

/* Row i of the set is row `number` of the numbered arrays. */
static void check_row(const dt_arrays *a, int64_t i, int64_t number) {
    float x[3];
    int64_t y, row;
    const dt_array_shard *s = dt_arrays_locate(a, i, &row);
    assert_ok(dt_array_shard_read(s, row, (void *const[]){x, &y}));
    assert_ok(dt_array_shard_check(s, row, (void *const[]){x, &y}));
    assert_true(x[0] == (float)number && x[1] == (float)number + 0.5f && x[2] == (float)-number);
    assert_true(y == number % 7);
}

static void test_npy(void **state) {
    (void)state;
    char *x, *y, *out = in_scratch("npy");
    write_numbered(&x, &y);
    const char *input[] = {x};
    dt_import_options o = options(DT_IMPORT_NPY, input, out);
    dt_import_result r;
    o.y = y;
    o.shard_bytes = 20 * 12; /* of 800 */
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == N && r.n_shards == 4 && r.n_shards_kept == 0 && r.n_classes == 0);
    dt_arrays a = open_arrays(out);
    assert_true(a.n_fields == 2 && a.n_samples == N);
    assert_string_equal(dt_field_text(&a.field[0]).s, "x f32 [3]");
    assert_string_equal(dt_field_text(&a.field[1]).s, "y i64 []");
    for (int64_t i = 0; i < N; i++) check_row(&a, i, i);
    dt_arrays_close(&a);
    /* Again: all is there. Damaged: made anew. */
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_shards_kept, 4);
    dt_array_shard s;
    assert_ok(dt_array_shard_open(in_scratch("npy/shard-00002-of-00004.h5"), &s));
    const long long at = s.offset[1] + 9;
    dt_array_shard_close(&s);
    shell("cp -r %s %s.sound", out, out);
    shell("printf X | dd of=%s/shard-00002-of-00004.h5 bs=1 seek=%lld conv=notrunc 2>/dev/null", out, at);
    dt_data_verify_result v;
    assert_fails(dt_data_verify(out, NULL, NULL, &v), DT_ERR_DATA, "shard-00002-of-00004.h5: differs from");
    assert_ok(dt_import_run(&o, &r));
    shell("diff -r %s %s.sound", out, out);
    /* Of other names, in any number. */
    char named[2][256];
    snprintf(named[0], sizeof named[0], "tokens=%s", y);
    snprintf(named[1], sizeof named[1], "mask=%s", x);
    const char *inputs[] = {named[0], named[1]};
    o = options(DT_IMPORT_NPY, inputs, in_scratch("npy_named"));
    o.n_input = 2;
    assert_ok(dt_import_run(&o, &r));
    a = open_arrays(o.out_dir);
    assert_string_equal(dt_field_text(&a.field[0]).s, "tokens i64 []");
    assert_string_equal(dt_field_text(&a.field[1]).s, "mask f32 [3]");
    dt_arrays_close(&a);
}

/* Each row falls to one side, the same whatever else is there. */
static void test_val_fraction(void **state) {
    (void)state;
    char *x, *y;
    write_numbered(&x, &y);
    const char *input[] = {x};
    dt_import_options o = options(DT_IMPORT_NPY, input, in_scratch("parts"));
    dt_import_result r;
    bool val[N] = {false};
    o.y = y;
    o.split = NULL;
    o.val_fraction = 0.3;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == N && r.n_val_samples > 3 && r.n_val_samples < 24);
    int64_t n_seen = 0;
    for (int side = 0; side < 2; side++) {
        dt_arrays a = open_arrays(in_scratch("parts/%s", side ? "val" : "train"));
        for (int64_t i = 0, before = -1; i < a.n_samples; i++, n_seen++) {
            float value[3];
            int64_t label, row;
            const dt_array_shard *s = dt_arrays_locate(&a, i, &row);
            assert_ok(dt_array_shard_read(s, row, (void *const[]){value, &label}));
            const int64_t number = (int64_t)value[0];
            assert_true(number > before && number < N && !(side == 1 && val[number]));
            check_row(&a, i, number);
            before = number;
            if (side == 1) val[number] = true;
        }
        dt_arrays_close(&a);
    }
    assert_int_equal(n_seen, N);
    /* Of the first 30 rows alone the same ones. */
    float value[30][3] = {{0}};
    for (int i = 0; i < 30; i++) value[i][0] = (float)i;
    input[0] = write_npy("fewer.npy", "<f4", "(30, 3)", value, sizeof value);
    o = options(DT_IMPORT_NPY, input, in_scratch("fewer"));
    o.split = NULL;
    o.val_fraction = 0.3;
    assert_ok(dt_import_run(&o, &r));
    dt_arrays a = open_arrays(in_scratch("fewer/val"));
    int64_t n = 0;
    for (int64_t i = 0; i < a.n_samples; i++) {
        float row[3];
        assert_ok(dt_array_shard_read(&a.shard[0], i, (void *const[]){row}));
        assert_true(val[(int)row[0]]);
    }
    for (int i = 0; i < 30; i++) n += val[i];
    assert_true(n == a.n_samples);
    dt_arrays_close(&a);
    o.val_fraction = 1e-9;
    o.out_dir = in_scratch("none");
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA,
                 "none falls to val with --val-fraction 1e-09: choose a larger");
}

static dt_import_result import_csv(const char *text, const char *x, const char *y, const char *out) {
    char *path = in_scratch("t.csv");
    const char *input[] = {path};
    write_file(path, text, strlen(text));
    dt_import_options o = options(DT_IMPORT_CSV, input, out);
    dt_import_result r;
    o.x = x, o.y = y;
    shell("rm -rf %s", out);
    assert_ok(dt_import_run(&o, &r));
    return r;
}

/* The fields, and the numbers of each row, as text. */
static void expect_rows(const char *out, const char *fields, const char *numbers) {
    char said[400] = "", row_said[400] = "";
    dt_arrays a = open_arrays(out);
    for (int32_t k = 0; k < a.n_fields; k++)
        snprintf(said + strlen(said), sizeof said - strlen(said), "%s; ", dt_field_text(&a.field[k]).s);
    assert_string_equal(said, fields);
    for (int64_t i = 0; i < a.n_samples; i++) {
        union {
            float real[8];
            int32_t whole[8];
        } row[2];
        assert_ok(dt_array_shard_read(&a.shard[0], i, (void *const[]){&row[0], &row[1]}));
        for (int32_t k = 0; k < a.n_fields; k++)
            for (int64_t e = 0; e < dt_field_bytes(&a.field[k]) / 4; e++)
                snprintf(row_said + strlen(row_said), sizeof row_said - strlen(row_said), "%.9g ",
                         a.field[k].dtype == DT_DTYPE_I32 ? row[k].whole[e] : (double)row[k].real[e]);
        strcat(row_said, "/ ");
    }
    assert_string_equal(row_said, numbers);
    dt_arrays_close(&a);
}

static void test_csv(void **state) {
    (void)state;
    static const char table[] = "\xEF\xBB\xBF"
                                "a,\"b, c\",label\r\n1,2.5,3\r\n\r\n -1e-3 ,\".5\",0\r\n+7,1E2,-2\r\n";
    char *out = in_scratch("csv");
    const dt_import_result r = import_csv(table, NULL, NULL, out);
    assert_true(r.n_samples == 3 && r.n_classes == 0);
    expect_rows(out, "x f32 [2]; y i32 []; ", "1 2.5 3 / -0.00100000005 0.5 0 / 7 100 -2 / ");
    import_csv(table, NULL, "a", out); /* of real numbers; x is what is left */
    expect_rows(out, "x f32 [2]; y f32 []; ", "2.5 3 1 / 0.5 0 -0.00100000005 / 100 -2 7 / ");
    import_csv(table, "a", NULL, out);
    expect_rows(out, "x f32 [1]; y i32 []; ", "1 3 / -0.00100000005 0 / 7 -2 / ");
    import_csv(table, "label,a", NULL, out); /* the last column is x: no y */
    expect_rows(out, "x f32 [2]; ", "3 1 / 0 -0.00100000005 / -2 7 / ");
    import_csv("u,v,w\n1,2,3\n4,5,6\n", "w", "v,u", out);
    expect_rows(out, "x f32 [1]; y i32 [2]; ", "3 2 1 / 6 5 4 / ");
    import_csv("a,b\n1,2147483647\n1,-2147483648", NULL, NULL, out);
    expect_rows(out, "x f32 [1]; y i32 []; ", "1 2.14748365e+09 / 1 -2.14748365e+09 / ");
    import_csv("a,b\n1,2147483648\n", NULL, NULL, out); /* more than i32 holds */
    expect_rows(out, "x f32 [1]; y f32 []; ", "1 2.14748365e+09 / ");
    import_csv("a,b\n1,0.1\n3.4028234e38,16777217\n1e-60,1", NULL, NULL, out);
    expect_rows(out, "x f32 [1]; y f32 []; ", "1 0.100000001 / 3.40282347e+38 16777216 / 0 1 / ");
}

static char noted[1024];

static void keep_note(void *arg, const char *text) {
    (void)arg;
    snprintf(noted + strlen(noted), sizeof noted - strlen(noted), "%s\n", text);
}

/* Whole numbers that fp32 does not hold are told with their place, once a field. */
static void test_rounded(void **state) {
    (void)state;
    static const int64_t large[4] = {16777216, -16777217, 1, 1LL << 60};
    char *csv = in_scratch("r.csv"), *npy = write_npy("large.npy", "<i8", "(2, 2)", large, sizeof large);
    const char *input[] = {csv};
    dt_import_options o = options(DT_IMPORT_CSV, input, in_scratch("rounded"));
    dt_import_result r;
    static const char table[] = "a,\"b\nc\",y\n1,16777216,1\n2,16777217,33554434\n3,99999999,4\n";
    write_file(csv, table, strlen(table));
    o.note = keep_note;
    noted[0] = 0;
    assert_ok(dt_import_run(&o, &r));
    assert_non_null(strstr(noted, "r.csv:4: column \"b\nc\": 16777217 is rounded: fp32"));
    assert_non_null(strstr(noted, "row 1 has y = 33554434: fp32"));
    assert_null(strstr(noted, "99999999"));
    o = options(DT_IMPORT_NPY, input, in_scratch("rounded_npy"));
    input[0] = npy;
    o.note = keep_note;
    noted[0] = 0;
    assert_ok(dt_import_run(&o, &r));
    assert_non_null(strstr(noted, "row 0 has x[1] = -16777217: fp32"));
    assert_null(strstr(noted, "row 1"));
}

/* Numbers have a point, whatever the locale of the program is. */
static void test_locale(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s >/dev/null 2>&1",
             in_scratch("de_DE.UTF-8"));
    if (system(command) != 0) skip(); /* a system without the sources of locales */
    assert_int_equal(setenv("LOCPATH", scratch, 1), 0);
    assert_non_null(setlocale(LC_ALL, "de_DE.UTF-8"));
    assert_true(strtod("1.5", NULL) == 1);
    char *out = in_scratch("locale");
    import_csv("a,b\n1.5,-2.25e1\n", NULL, NULL, out);
    setlocale(LC_ALL, "C");
    expect_rows(out, "x f32 [1]; y f32 []; ", "1.5 -22.5 / ");
}

static void test_csv_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *x, *y;
        dt_status status;
        const char *said;
    } rows[] = {
        {"a,b\n1,2\n,3\n", NULL, NULL, DT_ERR_DATA, "t.csv:3: column \"a\": is empty"},
        {"a,b\n1,2\n3, \n", NULL, NULL, DT_ERR_DATA, "t.csv:3: column \"b\": is empty"},
        {"a,b\n1,NaN\n", NULL, NULL, DT_ERR_DATA, "t.csv:2: column \"b\": \"NaN\" is not a number"},
        {"a,b\ninf,1\n", NULL, NULL, DT_ERR_DATA, "t.csv:2: column \"a\": \"inf\" is not a number"},
        {"a,b\n\n\nred,1\n", NULL, NULL, DT_ERR_DATA, "t.csv:4: column \"a\": \"red\" is not a number"},
        {"a,b\n0x10,1\n", NULL, NULL, DT_ERR_DATA, "is not a number"},
        {"a,b\n1 2,1\n", NULL, NULL, DT_ERR_DATA, "is not a number"},
        {"a,b\n1e,1\n", NULL, NULL, DT_ERR_DATA, "is not a number"},
        {"a,b\n.,1\n", NULL, NULL, DT_ERR_DATA, "is not a number"},
        {"a,b\n--1,1\n", NULL, NULL, DT_ERR_DATA, "is not a number"},
        {"a,b\n\"1,5\",1\n", NULL, NULL, DT_ERR_DATA, "\"1,5\" is not a number"},
        {"a,b\n1e39,1\n", NULL, NULL, DT_ERR_DATA, "\"1e39\" is too large"},
        {"a,b\n1,2,3\n", NULL, NULL, DT_ERR_DATA, "t.csv:2: 3 values, but the first line names 2 columns"},
        {"a,b\n", NULL, NULL, DT_ERR_DATA, "no line below"},
        {"1,2\n3,4\n", NULL, NULL, DT_ERR_DATA, "t.csv:1: the first line holds numbers"},
        {"", NULL, NULL, DT_ERR_DATA, "empty"},
        {"a\n1\n", NULL, NULL, DT_ERR_DATA, "no column is left for x"},
        {"a,b\n1,2\n", "c", NULL, DT_ERR_DATA, "no column \"c\""},
        {"a,b\n1,2\n", "", NULL, DT_ERR_DATA, "no column \"\""},
        {"a,b\n1,2\n", "a", "a", DT_ERR_USAGE, "column \"a\" is named twice"},
        {"a,a\n1,2\n", "a", NULL, DT_ERR_DATA, "t.csv:1: columns 1 and 2 are both named \"a\""},
        {"y,a,b,a\n1,2,3,4\n", NULL, "y", DT_ERR_DATA, "t.csv:1: columns 2 and 4 are both named \"a\""},
        {",a,b\n0,1,2\n", NULL, NULL, DT_ERR_DATA, "t.csv:1: column 1 of 3 has no name: give it one"},
        {"a,\" \",b\n0,1,2\n", NULL, NULL, DT_ERR_DATA, "t.csv:1: column 2 of 3 has no name"},
        {"a,b,\n0,1,\n", NULL, NULL, DT_ERR_DATA,
         "t.csv:1: column 3 of 3 has no name (the line ends with a comma)"},
        {"a,b\n0,1,\n", NULL, NULL, DT_ERR_DATA, "t.csv:2: 3 values, but the first line names 2 columns"},
        {"a;b\n1;2\n", NULL, NULL, DT_ERR_DATA,
         "t.csv:1: one column, \"a;b\": columns are separated by commas"},
        {"a\tb\n1\t2\n", NULL, NULL, DT_ERR_DATA, "not by tabs"},
        {"a,b\n1,1e400\n", NULL, NULL, DT_ERR_DATA, "t.csv:2: column \"b\": \"1e400\" is too large"},
        {"a,b\n\"1,234.5\",1\n", NULL, NULL, DT_ERR_DATA,
         "t.csv:2: column \"a\": \"1,234.5\" is not a number: write it with a point, and without marks of "
         "thousands"},
        {"a,b\n1 234,1\n", NULL, NULL, DT_ERR_DATA, "\"1 234\" is not a number"},
        {"a,b\n1'234,1\n", NULL, NULL, DT_ERR_DATA, "\"1'234\" is not a number"},
        {"a,b\n1_000,1\n", NULL, NULL, DT_ERR_DATA, "\"1_000\" is not a number"},
        {"a,b\n1.2.3,1\n", NULL, NULL, DT_ERR_DATA, "is not a number"},
        {"a,b\n\"1\n\",2\n3,\"4\nx\"\n", NULL, NULL, DT_ERR_DATA,
         "t.csv:2: column \"a\": \"1?\" is not a number"},
        {"a,b\n1,\"2\n", NULL, NULL, DT_ERR_DATA, "t.csv:2: a quote is opened and never closed"},
        {"a,b\r1,2\r", NULL, NULL, DT_ERR_DATA, "t.csv:1: a carriage return that ends no line"},
        {"\xFF\xFE"
         "a,b\n1,2\n",
         NULL,
         "\xEF\xBB\xBF"
         "a",
         DT_ERR_DATA, "no column"},
    };
    char *path = in_scratch("t.csv"), *out = in_scratch("csv_refused");
    const char *input[] = {path};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dt_import_options o = options(DT_IMPORT_CSV, input, out);
        dt_import_result r;
        write_file(path, rows[i].text, strlen(rows[i].text));
        o.x = rows[i].x, o.y = rows[i].y;
        assert_fails(dt_import_run(&o, &r), rows[i].status, rows[i].said);
    }
    assert_int_equal(access(out, F_OK), -1);
}

/* Nothing is made of arrays that do not fit together or hold what is no number. */
static void test_numpy_refused(void **state) {
    (void)state;
    static uint8_t file[ROOM];
    static const float odd[6] = {0, 1, 2, 3, NAN, 5};
    char *x, *y, *out = in_scratch("numpy_refused"), *npz = in_scratch("r.npz");
    write_numbered(&x, &y);
    char *short_y = write_npy("short.npy", "<f4", "(6,)", odd, sizeof odd),
         *nan_x = write_npy("nan.npy", "<f4", "(3, 2)", odd, sizeof odd);
    const char *input[] = {x, NULL};
    dt_import_options o = options(DT_IMPORT_NPY, input, out);
    dt_import_result r;
    o.y = short_y;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "short.npy has 6 rows, but");
    static const double wide[4] = {1, -3.4028234e38, 2, 3.5e38};
    o.y = NULL;
    input[0] = write_npy("wide.npy", "<f8", "(2, 2)", wide, sizeof wide);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "wide.npy: [1, 1] is not finite, or too large for fp32");
    input[0] = nan_x;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "nan.npy: [2, 0] is not finite");
    input[1] = nan_x;
    o.n_input = 2;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "there are two arrays \"x\"");
    char named[256];
    snprintf(named, sizeof named, "checksum=%s", x);
    input[0] = named;
    o.n_input = 1;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "checksum="); /* no name, so a file of that name */
    o.n_input = 0;
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE, "give the file of x");
    static uint8_t array[200];
    const size_t n =
        numpy_files_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", odd, 8, array);
    const numpy_member members[] = {{"x.npy", array, n, true, false},
                                    {"a b.npy", array, n, false, false},
                                    {"readme.txt", array, n, false, false}};
    write_file(npz, file, numpy_files_zip(members, 3, file, sizeof file, NULL));
    input[0] = npz;
    o = options(DT_IMPORT_NPZ, input, out);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "\"a b\" is no name for a field");
    o.x = "z";
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "no array \"z\" in it: it has x, a b");
    write_file(npz, file, numpy_files_zip(members + 2, 1, file, sizeof file, NULL));
    o.x = NULL;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "readme.txt in it is no .npy file");
    write_file(npz, file, numpy_files_zip(members, 0, file, sizeof file, NULL));
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "it has none at all");
    shell("rm -rf %s", out);
    write_file(npz, file, numpy_files_zip(members, 2, file, sizeof file, NULL));
    o.x = "a b"; /* under a name of ours */
    o.y = "x";
    assert_ok(dt_import_run(&o, &r));
}

/* ---- files made elsewhere ---- */

static void write_plain(const char *path, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim,
                        const void *data, const char *fields) {
    dt_h5 *h;
    assert_ok(dt_h5_create(path, &h));
    assert_ok(dt_h5_write(h, name, dtype, ndim, dim, data));
    if (fields) assert_ok(dt_h5_attr_set_str(h, "fields", fields));
    assert_ok(dt_h5_close(h));
}

static void test_foreign(void **state) {
    (void)state;
    const uint16_t half[4] = {0x3C00, 0xC000, 0x3555, 0}, word[2] = {7, 65535};
    const double real[2] = {1.5, -2.5};
    const uint64_t wide[2] = {1, 2};
    const int8_t truth[2] = {0, 1};
    char *path = in_scratch("plain.h5");
    dt_array_shard s;
    dt_data_verify_result v;
    uint16_t row[2];
    double target;
    bool arrays;
    write_plain(path, "x", DT_DTYPE_F16, 2, (int64_t[]){2, 2}, half, NULL);
    assert_ok(dt_array_shard_is(path, &arrays));
    assert_true(arrays);
    assert_ok(dt_array_shard_open(path, &s));
    assert_true(s.n_samples == 2 && s.n_fields == 1 && s.offset[0] > 0 && !s.h && !s.checksum);
    assert_ok(dt_array_shard_read(&s, 1, (void *const[]){row}));
    assert_true(row[0] == 0x3555 && row[1] == 0);
    assert_fails(dt_array_shard_check(&s, 1, (void *const[]){row}), DT_ERR_DATA, "data.verify = false");
    dt_array_shard_close(&s);
    /* Chunked, and of types that are widened. */
    other_write_chunked(path, "y", H5T_IEEE_F64BE, 1, (hsize_t[]){2}, real);
    other_write_chunked(path, "w", H5T_STD_U16BE, 1, (hsize_t[]){2}, word);
    hid_t boolean = H5Tenum_create(H5T_NATIVE_INT8);
    assert_true(H5Tenum_insert(boolean, "FALSE", &truth[0]) >= 0 &&
                H5Tenum_insert(boolean, "TRUE", &truth[1]) >= 0);
    other_write_chunked(path, "m", boolean, 1, (hsize_t[]){2}, truth);
    other_write_chunked(path, "u", H5T_NATIVE_UINT64, 1, (hsize_t[]){2}, wide);
    assert_true(H5Tclose(boolean) >= 0);
    assert_ok(dt_array_shard_open(path, &s));
    assert_string_equal(dt_field_text(&s.field[1]).s, "y f64 []");
    assert_ok(dt_array_shard_read(&s, 1, (void *const[]){row, &target}));
    dt_array_shard_close(&s);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t text = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(text, 8);
    hid_t attr = H5Acreate2(file, "fields", text, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(attr, text, "w x\nm  ") >= 0 && H5Aclose(attr) >= 0);
    assert_true(H5Sclose(space) >= 0 && H5Tclose(text) >= 0 && H5Fclose(file) >= 0);
    int32_t number;
    uint8_t flag;
    assert_ok(dt_array_shard_open(path, &s));
    assert_true(s.n_fields == 3 && s.field[0].dtype == DT_DTYPE_I32 && s.field[2].dtype == DT_DTYPE_U8);
    assert_ok(dt_array_shard_read(&s, 1, (void *const[]){&number, row, &flag}));
    assert_true(row[0] == 0x3555 && flag == 1);
    dt_array_shard_close(&s);
    assert_ok(dt_data_verify(path, NULL, NULL, &v));
    assert_true(v.n_samples == 2 && v.n_unchecked == 2);
}

/* What no network can take is named where it stands, verified or not. */
static void test_foreign_numbers(void **state) {
    (void)state;
    const float x[2][2][3] = {{{0}}, {{1, 2, 3}, {4, INFINITY, 6}}};
    const double y[2] = {1, -1e300}, sound[2] = {1e-300, 3.4028234e38};
    const uint16_t half[2] = {0, 0x7E00};
    char *path = in_scratch("numbers.h5");
    dt_data_verify_result v;
    dt_array_shard s;
    float row[2][3];
    double target;
    write_plain(path, "x", DT_DTYPE_F32, 3, (int64_t[]){2, 2, 3}, x, NULL);
    assert_fails(dt_data_verify(path, NULL, NULL, &v), DT_ERR_DATA,
                 "numbers.h5: sample 1: x[1, 1] is infinite: take the row out");
    other_write_chunked(path, "y", H5T_NATIVE_DOUBLE, 1, (hsize_t[]){2}, y);
    assert_ok(dt_array_shard_open(path, &s));
    assert_ok(dt_array_shard_read(&s, 1, (void *const[]){row, &target}));
    row[1][1] = 5;
    assert_fails(dt_array_shard_finite(&s, 1, (void *const[]){row, &target}), DT_ERR_DATA,
                 "sample 1: y is -1e+300, too large for fp32");
    target = 0;
    assert_ok(dt_array_shard_finite(&s, 1, (void *const[]){row, &target}));
    dt_array_shard_close(&s);
    write_plain(path, "x", DT_DTYPE_F16, 1, (int64_t[]){2}, half, NULL);
    assert_fails(dt_data_verify(path, NULL, NULL, &v), DT_ERR_DATA, "sample 1: x is nan");
    write_plain(path, "x", DT_DTYPE_F64, 1, (int64_t[]){2}, sound, NULL);
    assert_ok(dt_data_verify(path, NULL, NULL, &v));
}

static void test_foreign_refused(void **state) {
    (void)state;
    const float x[4] = {0};
    const struct {
        const char *fields;
        int32_t ndim;
        int64_t dim[2];
        const char *said;
    } rows[] = {
        {"x y", 1, {4}, "no dataset y"},
        {"x x", 1, {4}, "lists a field twice"},
        {" ", 1, {4}, "lists no fields"},
        {"x ../x", 1, {4}, "name is not a word"},
        {"checksum", 1, {4}, "is not a word"},
        {NULL, 0, {0}, "x is one number"},
        {NULL, 1, {0}, "it is empty"},
        {NULL, 2, {4, 0}, "a row of it is empty"},
        {"x a b c d e f g h", 1, {4}, "no dataset a"},
    };
    char *path = in_scratch("refused.h5");
    dt_array_shard s;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_plain(path, "x", DT_DTYPE_F32, rows[i].ndim, rows[i].dim, x, rows[i].fields);
        assert_fails(dt_array_shard_open(path, &s), DT_ERR_DATA, rows[i].said);
        dt_array_shard_close(&s);
    }
    write_plain(path, "x", DT_DTYPE_F32, 1, (int64_t[]){4}, x, NULL);
    other_write_chunked(path, "y", H5T_NATIVE_FLOAT, 1, (hsize_t[]){3}, x);
    assert_fails(dt_array_shard_open(path, &s), DT_ERR_DATA, "y has 3 rows, but x has 4");
    dt_array_shard_close(&s);
    write_plain(path, "x", DT_DTYPE_F32, 1, (int64_t[]){4}, x, NULL);
    other_write_chunked(path, "y", H5T_NATIVE_UINT64, 1, (hsize_t[]){4}, (const uint64_t[4]){0});
    assert_fails(dt_array_shard_open(path, &s), DT_ERR_DATA,
                 "y is of an integer type that i64 does not hold");
    dt_array_shard_close(&s);
}

/* An index that says something else than the shards, and shards that are unlike. */
static void test_set_refused(void **state) {
    (void)state;
    char *x, *y, *out = in_scratch("contradicted");
    write_numbered(&x, &y);
    const char *input[] = {x};
    dt_import_options o = options(DT_IMPORT_NPY, input, out);
    dt_import_result r;
    dt_arrays a;
    o.y = y;
    o.shard_bytes = 400;
    assert_ok(dt_import_run(&o, &r));
    const struct {
        const char *edit, *said;
    } rows[] = {{"s/\"count\": 40/\"count\": 41/", "says count 41, the shards say 40"},
                {"s/\"count\": 20/\"count\": 19/", "says count 19, the shards say 20"},
                {"s/\"name\": \"y\"/\"name\": \"z\"/", "says z i64 [], the shards say y i64 []"},
                {"s/\"i64\"/\"i32\"/", "says y i32 [], the shards say y i64 []"},
                {"s/\"i64\"/\"i65\"/", "damaged: fields"},
                {"s/\"offset\": [0-9]*/\"offset\": 99999999/", "damaged: a shard's data ranges"}};
    shell("cp %s/index.json %s/kept", out, scratch);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        shell("sed '%s' %s/kept >%s/index.json", rows[i].edit, scratch, out);
        assert_fails(dt_arrays_open(out, &a), DT_ERR_DATA, rows[i].said);
        dt_arrays_close(&a);
    }
    shell("rm %s/index.json", out);
    o.y = NULL;
    o.out_dir = in_scratch("other");
    o.shard_bytes = 240;
    assert_ok(dt_import_run(&o, &r));
    shell("cp %s/shard-00001-of-00002.h5 %s", o.out_dir, out);
    assert_fails(dt_arrays_open(out, &a), DT_ERR_DATA, "1 field, but");
    dt_arrays_close(&a);
    /* A set of images is none of arrays, and the other way round. */
    bool arrays;
    char *images = make_numbered("images", 8, 4, 100);
    assert_ok(dt_array_shard_is(in_scratch("images/shard-00000-of-00001.h5"), &arrays));
    assert_false(arrays);
    assert_fails(dt_arrays_open(images, &a), DT_ERR_DATA, "no dataset x");
    dt_arrays_close(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_npy),
                                       cmocka_unit_test(test_val_fraction),
                                       cmocka_unit_test(test_csv),
                                       cmocka_unit_test(test_csv_refused),
                                       cmocka_unit_test(test_rounded),
                                       cmocka_unit_test(test_locale),
                                       cmocka_unit_test(test_foreign_numbers),
                                       cmocka_unit_test(test_numpy_refused),
                                       cmocka_unit_test(test_foreign),
                                       cmocka_unit_test(test_foreign_refused),
                                       cmocka_unit_test(test_set_refused)};
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
