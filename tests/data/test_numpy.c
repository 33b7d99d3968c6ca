/* NumPy's files: every type and order as NumPy writes them (golden/numpy.npz), and what is refused. */
#include "data_support.h"

#include "arrays.h"
#include "data/npy.h"
#include "numpy_files.h"
#include "zip.h"

enum { ROOM = 1 << 16 };

/* Half precision, of small whole numbers. */
static double from_half(uint16_t h) {
    const int exponent = h >> 10 & 31;
    double x = exponent ? 1024 + (h & 1023) : h & 1023;
    for (int e = exponent ? exponent : 1; e < 25; e++) x /= 2;
    for (int e = 25; e < exponent; e++) x *= 2;
    return h & 0x8000 ? -x : x;
}

static double number_at(dt_dtype dtype, const void *at) {
    switch (dtype) {
    case DT_DTYPE_F16:
        return from_half(*(const uint16_t *)at);
    case DT_DTYPE_F32:
        return (double)*(const float *)at;
    case DT_DTYPE_F64:
        return *(const double *)at;
    case DT_DTYPE_U8:
        return *(const uint8_t *)at;
    case DT_DTYPE_I32:
        return *(const int32_t *)at;
    default:
        return (double)*(const int64_t *)at;
    }
}

static double golden_value(char type, int64_t i) {
    return (double)(type == 'b' ? i % 2 : 7 * i % 50 - (type == 'u' ? 0 : 20));
}

/* Through the import, which puts Fortran order right too. */
static void check_imported(const char *file, const char *key, char type) {
    char *out = in_scratch("golden_out");
    const char *input[] = {file};
    dt_import_options o = {
        .kind = DT_IMPORT_NPZ, .input = input, .n_input = 1, .out_dir = out, .split = "train", .x = key};
    dt_import_result r;
    dt_arrays a;
    int64_t at = 0;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_samples == 6 && r.n_shards == 1);
    assert_ok(dt_arrays_open(out, &a));
    const dt_field *f = &a.field[0];
    const int64_t size = (int64_t)dt_dtype_size(f->dtype), n = dt_field_bytes(f) / size;
    uint8_t *row = malloc((size_t)(n * size));
    for (int64_t i = 0; i < 6; i++) {
        assert_ok(dt_array_shard_read(&a.shard[0], i, (void *const[]){row}));
        assert_ok(dt_array_shard_check(&a.shard[0], i, (void *const[]){row}));
        for (int64_t k = 0; k < n; k++, at++)
            if (number_at(f->dtype, row + k * size) != golden_value(type, at))
                fail_msg("%s: element %lld is %g", key, (long long)at, number_at(f->dtype, row + k * size));
    }
    free(row);
    dt_arrays_close(&a);
    shell("rm -r %s", out);
}

static void test_golden(void **state) {
    (void)state;
    static const struct {
        const char *type;
        dt_dtype dtype;
    } rows[] = {{"f2", DT_DTYPE_F16}, {"f4", DT_DTYPE_F32}, {"f8", DT_DTYPE_F64}, {"i1", DT_DTYPE_I32},
                {"i2", DT_DTYPE_I32}, {"i4", DT_DTYPE_I32}, {"i8", DT_DTYPE_I64}, {"u1", DT_DTYPE_U8},
                {"u2", DT_DTYPE_I32}, {"u4", DT_DTYPE_I64}, {"u8", DT_DTYPE_I64}, {"b1", DT_DTYPE_U8}};
    static const char file[] = DT_TEST_DATA "/numpy.npz";
    dt_zip z;
    assert_ok(dt_zip_open(file, &z));
    assert_int_equal(z.n_members, 60);
    for (int64_t i = 0; i < z.n_members; i++) {
        const dt_zip_member *m = &z.member[i];
        uint8_t *bytes;
        dt_npy npy;
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)strlen(m->name) - 4, m->name);
        assert_ok(dt_zip_unpack(&z, m, &bytes));
        assert_ok(dt_npy_parse(m->name, bytes, m->n_bytes, &npy));
        assert_true(npy.dtype == rows[i / 5].dtype && strncmp(m->name, rows[i / 5].type, 2) == 0);
        assert_true(npy.dim[0] == 6 && npy.fortran == (m->name[6] == 'F'));
        assert_true(npy.ndim == (m->name[8] == 'v' ? 1 : m->name[8] == 'm' ? 2 : 4));
        free(bytes);
        check_imported(file, key, npy.type);
    }
    dt_zip_close(&z);
}

static dt_status parse(int version, const char *header, size_t n_numbers, dt_npy *out) {
    static const uint8_t numbers[4096];
    uint8_t file[ROOM];
    const size_t n = numpy_files_npy(version, header, numbers, n_numbers, file);
    uint8_t *exact = malloc(n); /* so that a sanitizer sees what is read beyond */
    memcpy(exact, file, n);
    const dt_status status = dt_npy_parse("a.npy", exact, (int64_t)n, out);
    free(exact);
    return status;
}

static void test_headers(void **state) {
    (void)state;
    dt_npy a;
    assert_ok(parse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }      \n", 48, &a));
    assert_true(a.ndim == 2 && a.dim[0] == 3 && a.dim[1] == 4 && a.row_elem == 4 && !a.fortran && !a.swap);
    assert_ok(parse(2, "{\"shape\":(2L,),\"descr\":\">i8\",\"fortran_order\":True}", 16, &a));
    assert_true(a.ndim == 1 && a.dim[0] == 2 && a.fortran && a.swap && a.dtype == DT_DTYPE_I64);
    assert_ok(parse(3, "{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,5)}", 5, &a));
    assert_true(a.ndim == 8 && a.row_elem == 5);
}

#define HEADER(descr, shape) "{'descr': " descr ", 'fortran_order': False, 'shape': " shape ", }\n"

static void test_refused(void **state) {
    (void)state;
    static const struct {
        int version;
        const char *header;
        size_t n;
        const char *said;
    } rows[] = {
        {1, HEADER("'|O'", "(2,)"), 16, "Python objects, which only running code could read"},
        {1, HEADER("[('a', '<f4'), ('b', '<i4')]", "(2,)"), 16, "an array of structures"},
        {1, HEADER("'<c8'", "(2,)"), 16, "numbers of type \"<c8\""},
        {1, HEADER("'<U5'", "(2,)"), 40, "numbers of type \"<U5\""},
        {1, HEADER("'<f16'", "(2,)"), 32, "numbers of type \"<f16\""},
        {1, HEADER("'f4'", "(2,)"), 8, "numbers of type \"f4\""},
        {1, HEADER("'<f4'", "()"), 4, "one number, not an array"},
        {1, HEADER("'<f4'", "(0, 3)"), 0, "without numbers"},
        {1, HEADER("'<f4'", "(2,)"), 7, "truncated: 7 bytes of numbers of 8"},
        {1, HEADER("'<f4'", "(2,)"), 9, "longer than its header says"},
        {1, HEADER("'<f4'", "(-2,)"), 8, "not a tuple of whole numbers"},
        {1, HEADER("'<f4'", "(2 3)"), 8, "not a tuple"},
        {1, HEADER("'<f4'", "[2]"), 8, "not a tuple"},
        {1, HEADER("'<f4'", "(1e3,)"), 8, "not a tuple"},
        {1, HEADER("'<f4'", "(9223372036854775808,)"), 8, "its shape is out of range"},
        {1, HEADER("'<f4'", "(4294967296, 4294967296)"), 8, "its shape is out of range"},
        {1, HEADER("'<f4'", "(0, 4294967296, 4294967296)"), 8, "its shape is out of range"},
        {1, HEADER("'<f4'", "(2305843009213693952,)"), 8, "its shape is out of range"},
        {1, HEADER("'<f4'", "(1,1,1,1,1,1,1,1,1)"), 4, "more than 8 dimensions"},
        {1, HEADER("'<f4\\x00'", "(2,)"), 8, "odd characters"},
        {1, HEADER("__import__('os').system('true')", "(2,)"), 8, "not a dictionary of descr"},
        {1, "{'descr': '<f4', 'shape': (2,), }\n", 8, "lacks descr, fortran_order or shape"},
        {1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8, "other keys"},
        {1, "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", 8, "neither True nor False"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", 8, "other keys"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + {}", 8, "more behind the dictionary"},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8, "not a dictionary"},
        {1, "{'descr': '<f4", 8, "a string in its header does not end"},
        {1, "", 8, "not a dictionary"},
        {4, HEADER("'<f4'", "(2,)"), 8, ".npy version 4.0"},
        {0, HEADER("'<f4'", "(2,)"), 8, ".npy version 0.0"},
    };
    dt_npy a;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_fails(parse(rows[i].version, rows[i].header, rows[i].n, &a), DT_ERR_DATA, rows[i].said);
    assert_fails(dt_npy_parse("a.npy", (const uint8_t *)"PK\3\4aaaaaaaaa", 13, &a), DT_ERR_DATA,
                 "magic number");
    assert_fails(dt_npy_parse("a.npy", (const uint8_t *)"\x93NUMPY\1\0", 8, &a), DT_ERR_DATA, "magic number");
    assert_fails(dt_npy_parse("a.npy", (const uint8_t *)"\x93NUMPY\1\0\x76\0{'", 12, &a), DT_ERR_DATA,
                 "it ends in its header");
    assert_fails(dt_npy_parse("a.npy", (const uint8_t *)"\x93NUMPY\2\0\xFF\xFF\xFF\xFF{", 13, &a),
                 DT_ERR_DATA, "longer than that of any array");
}

/* The first number that has no place, by its index. */
static void test_convert(void **state) {
    (void)state;
    static const double reals[] = {1, -2, 0.0 / 0.0, 3}, infinite[] = {1.0 / 0.0};
    static const uint64_t wide[] = {INT64_MAX, (uint64_t)INT64_MAX + 1};
    static const uint8_t truth[] = {0, 1, 2}, minus[] = {0xFF, 0xFE};
    double real[4];
    int64_t whole[2];
    int32_t number[2];
    uint8_t byte[3];
    const dt_npy f8 = {.type = 'f', .elem_size = 8, .dtype = DT_DTYPE_F64},
                 u8 = {.type = 'u', .elem_size = 8, .dtype = DT_DTYPE_I64},
                 b1 = {.type = 'b', .elem_size = 1, .dtype = DT_DTYPE_U8},
                 i1 = {.type = 'i', .elem_size = 1, .dtype = DT_DTYPE_I32},
                 i2 = {.type = 'i', .elem_size = 2, .dtype = DT_DTYPE_I32, .swap = true};
    assert_int_equal(dt_npy_convert(&f8, (const uint8_t *)reals, 4, real), 2);
    assert_int_equal(dt_npy_convert(&f8, (const uint8_t *)infinite, 1, real), 0);
    assert_int_equal(dt_npy_convert(&f8, (const uint8_t *)reals, 2, real), -1);
    assert_true(real[0] == 1 && real[1] == -2);
    assert_int_equal(dt_npy_convert(&u8, (const uint8_t *)wide, 2, whole), 1);
    assert_true(whole[0] == INT64_MAX);
    assert_int_equal(dt_npy_convert(&b1, truth, 3, byte), 2);
    assert_int_equal(dt_npy_convert(&i1, minus, 2, number), -1);
    assert_true(number[0] == -1 && number[1] == -2);
    assert_int_equal(dt_npy_convert(&i2, minus, 1, number), -1);
    assert_int_equal(number[0], -2);
}

/* ---- zip ---- */

static const uint8_t text[] =
    "some text that is repeated, some text that is repeated, some text that is repeated";

static dt_status open_zip(const uint8_t *bytes, size_t n, dt_zip *z) {
    char *path = in_scratch("a.zip");
    write_file(path, bytes, n);
    return dt_zip_open(path, z);
}

static void test_zip(void **state) {
    (void)state;
    static uint8_t file[ROOM];
    const numpy_member member[] = {{"plain", text, sizeof text, false, false},
                                   {"packed", text, sizeof text, true, false},
                                   {"large", text, sizeof text, true, true},
                                   {"larger", text, sizeof text, false, true},
                                   {"empty", text, 0, false, false}};
    dt_zip z;
    size_t n = numpy_files_zip(member, 5, file, sizeof file, NULL);
    for (int comment = 0; comment < 2; comment++) {
        if (comment) file[n - 2] = 40, memset(file + n, 'P', 40), n += 40;
        assert_ok(open_zip(file, n, &z));
        assert_int_equal(z.n_members, 5);
        for (int i = 0; i < 5; i++) {
            uint8_t *bytes;
            assert_string_equal(z.member[i].name, member[i].name);
            assert_true(z.member[i].n_bytes == (int64_t)member[i].n);
            assert_ok(dt_zip_unpack(&z, &z.member[i], &bytes));
            if (member[i].n > 0) assert_memory_equal(bytes, text, sizeof text);
            free(bytes);
            if (!member[i].deflate) assert_ok(dt_zip_check(&z, &z.member[i]));
        }
        dt_zip_close(&z);
    }
}

/* One byte of a sound file changed: at `offset` from the first entry of the directory (`entry`) or the file's
 * end. */
static void test_zip_refused(void **state) {
    (void)state;
    static const struct {
        bool entry;
        int offset, n;
        uint8_t byte[4];
        const char *said;
    } rows[] = {
        {true, 0, 1, {'X'}, "its directory is damaged"},
        {true, 8, 1, {1}, "is encrypted"},
        {true, 10, 1, {12}, "compressed by method 12"},
        {true, 10, 1, {0}, "larger than its bytes can hold"},             /* stored, but of another size */
        {true, 24, 4, {0, 0, 0, 0x70}, "larger than its bytes can hold"}, /* a bomb */
        {true, 20, 4, {0, 0, 1, 0}, "larger than its bytes can hold"},
        {true, 28, 2, {0, 0xFF}, "its directory is damaged"},
        {true, 28, 2, {0, 0}, "a member's name is empty"},
        {true, 42, 4, {1, 0, 0, 0}, "not where the directory says"},
        {true, 42, 4, {0xF0, 0xFF, 0xFF, 0x7F}, "lies outside the file"},
        {true, 46, 1, {'/'}, "directories or odd characters"},
        {true, 46, 1, {'\\'}, "directories or odd characters"},
        {true, 46, 1, {0}, "directories or odd characters"},
        {true, 46, 1, {0xFF}, "not UTF-8"},
        {false, -22, 1, {'X'}, "no directory at its end"},
        {false, -18, 1, {1}, "in several parts"},
        {false, -12, 2, {0xFF, 0xFE}, "more than 4096 members"},
        {false, -12, 2, {3, 0}, "its directory is damaged"},
        {false, -6, 4, {0xFF, 0xFF, 0xFF, 0x7F}, "lies outside the file"},
        {false, -6, 4, {0xFF, 0xFF, 0xFF, 0xFF}, "zip64 directory is missing"},
        {false, -2, 1, {7}, "no directory at its end"},
    };
    static uint8_t file[ROOM];
    const numpy_member member[] = {{"packed", text, sizeof text, true, false},
                                   {"b", text, sizeof text, false, false}};
    dt_zip z;
    size_t at[3];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t n = numpy_files_zip(member, 2, file, sizeof file, at);
        memcpy(file + (rows[i].entry ? at[0] : n) + rows[i].offset, rows[i].byte, (size_t)rows[i].n);
        assert_fails(open_zip(file, n, &z), DT_ERR_DATA, rows[i].said);
        dt_zip_close(&z);
    }
    const size_t n = numpy_files_zip(member, 2, file, sizeof file, at);
    for (size_t cut = 1; cut < n; cut++) {
        assert_fails(open_zip(file, n - cut, &z), DT_ERR_DATA, "not a sound zip file");
        dt_zip_close(&z);
    }
    /* Two entries of one member's bytes. */
    memcpy(file + at[1] + 42, file + at[0] + 42, 4);
    assert_fails(open_zip(file, n, &z), DT_ERR_DATA, "its members overlap");
    dt_zip_close(&z);
}

/* Bytes of the members are only read when they are wanted. */
static void test_zip_damaged(void **state) {
    (void)state;
    static uint8_t file[ROOM];
    const numpy_member member[] = {{"packed", text, sizeof text, true, false},
                                   {"b", text, sizeof text, false, false}};
    size_t at[3];
    const size_t n = numpy_files_zip(member, 2, file, sizeof file, at);
    dt_zip z;
    assert_ok(open_zip(file, n, &z));
    for (int k = 0; k < 2; k++) {
        const dt_zip_member *m = &z.member[k];
        const int64_t end =
            m->offset + m->stored_bytes - (k == 0); /* the last bits of deflate mean nothing */
        for (int64_t i = m->offset; i < end; i++) {
            uint8_t *bytes;
            file[i] ^= 0x10;
            write_file(in_scratch("a.zip"), file, n); /* as it is read on, not opened anew */
            assert_fails(dt_zip_unpack(&z, m, &bytes), DT_ERR_DATA, "is damaged");
            if (k == 1) assert_fails(dt_zip_check(&z, m), DT_ERR_DATA, "checksum differs");
            file[i] ^= 0x10;
        }
    }
    dt_zip_close(&z);
    /* One that unpacks to more, and to less, than the directory says. */
    for (int more = -1; more <= 1; more += 2) {
        uint8_t *bytes;
        const uint8_t size = (uint8_t)((int)sizeof text - more);
        memcpy(file + at[0] + 24, &size, 1);
        assert_ok(open_zip(file, n, &z));
        assert_fails(dt_zip_unpack(&z, &z.member[0], &bytes), DT_ERR_DATA, "damaged or cut short");
        dt_zip_close(&z);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),     cmocka_unit_test(test_headers),
                                       cmocka_unit_test(test_refused),    cmocka_unit_test(test_convert),
                                       cmocka_unit_test(test_zip),        cmocka_unit_test(test_zip_refused),
                                       cmocka_unit_test(test_zip_damaged)};
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
