/* safetensors: what the format's own library wrote is read, what is written here is the same bytes, and every rule of
 * the format refuses a file that breaks it. */
#include "tensor_files.h"

#include <sys/stat.h>

#include "formats/safetensors.h"

static float formula(int64_t i) {
    return (float)(i % 7 - 3) / 4;
}

static void check_values(const dt_tensors *t, const char *name, dt_tensor_type type, int32_t ndim,
                         const int64_t *dim) {
    const dt_file_tensor *x = dt_tensors_find(t, name);
    assert_non_null(x);
    assert_int_equal(x->type, type);
    assert_int_equal(x->ndim, ndim);
    assert_memory_equal(x->dim, dim, (size_t)ndim * sizeof *dim);
    float *got = check_alloc((size_t)x->n_elem * sizeof *got);
    check_ok(dt_file_tensor_read(x, got));
    for (int64_t i = 0; i < x->n_elem; i++) assert_true(got[i] == formula(i));
    free(got);
}
#define DIMS(...)                                                                                            \
    (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) {                                \
        __VA_ARGS__                                                                                          \
    }

static void library_file_is_read(void **state) {
    (void)state;
    dt_tensors *t;
    float x;
    check_ok(dt_tensors_open(DT_TEST_DATA "/library.safetensors", &t));
    assert_string_equal(t->format, "safetensors");
    assert_int_equal(t->n, 9);
    assert_string_equal(dt_tensors_note(t, "format"), "pt");
    assert_null(dt_tensors_note(t, "for"));
    assert_null(dt_tensors_find(t, "conv"));
    check_values(t, "conv.weight", DT_TENSOR_F32, DIMS(2, 3, 2, 2));
    check_values(t, "fc.weight", DT_TENSOR_BF16, DIMS(3, 5));
    check_values(t, "fc.bias", DT_TENSOR_F16, DIMS(3));
    check_values(t, "double", DT_TENSOR_F64, DIMS(4));
    check_values(t, "\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87 \"a\\b\"", DT_TENSOR_F32, DIMS(5));
    assert_int_equal(dt_tensors_find(t, "scalar")->ndim, 0);
    check_ok(dt_file_tensor_read(dt_tensors_find(t, "scalar"), &x));
    assert_true(x == 0.25f);
    assert_int_equal(dt_tensors_find(t, "empty")->n_elem, 0);
    CHECK_ERROR(dt_file_tensor_read(dt_tensors_find(t, "bn.num_batches_tracked"), &x), DT_ERR_DATA,
                "bn.num_batches_tracked", "I64");
    dt_tensors_close(t);
}

static char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *bytes = check_alloc(1 << 16);
    *n = fread(bytes, 1, 1 << 16, f);
    fclose(f);
    return bytes;
}

/* The library's file, listed and written again. */
static void written_as_the_library_does(void **state) {
    (void)state;
    dt_tensors *t;
    size_t n[2];
    const char *path = in_scratch("again.safetensors");
    check_ok(dt_tensors_open(DT_TEST_DATA "/library.safetensors", &t));
    for (int64_t i = 0; i < t->n / 2; i++) { /* the order given does not matter */
        const dt_file_tensor other = t->tensor[i];
        t->tensor[i] = t->tensor[t->n - 1 - i], t->tensor[t->n - 1 - i] = other;
    }
    check_ok(dt_safetensors_write(path, t->n, t->tensor, t->n_note, t->note));
    char *bytes[2] = {slurp(DT_TEST_DATA "/library.safetensors", &n[0]), slurp(path, &n[1])};
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    free(bytes[0]), free(bytes[1]);
    dt_tensors_close(t);
}

static void writer_refuses(void **state) {
    (void)state;
    const float x[4] = {0};
    struct stat st;
    const char *path = in_scratch("refused.safetensors");
    const dt_tensor_note note = {"key", "\xff"};
    dt_file_tensor t[2] = {
        {.name = "a", .type = DT_TENSOR_F32, .ndim = 1, .dim = {4}, .n_bytes = 16, .data = x},
        {.name = "a", .type = DT_TENSOR_F16, .ndim = 1, .dim = {8}, .n_bytes = 16, .data = x}};
    CHECK_ERROR(dt_safetensors_write(path, 2, t, 0, NULL), DT_ERR_DATA, path, "two tensors are called a");
    CHECK_ERROR(dt_safetensors_write(path, 1, t, 1, &note), DT_ERR_DATA, path, "UTF-8");
    t[1].name = "__metadata__";
    CHECK_ERROR(dt_safetensors_write(path, 2, t, 0, NULL), DT_ERR_DATA, path, "__metadata__");
    t[0].n_bytes = 15;
    CHECK_ERROR(dt_safetensors_write(path, 1, t, 0, NULL), DT_ERR_DATA, path, "a: its shape");
    assert_int_equal(stat(path, &st), -1);
}

/* Headers with n_data bytes behind them, and what is said of them; NULL: nothing. */
typedef struct hostile {
    const char *header;
    size_t n_data;
    const char *says;
} hostile;

#define A(rest) "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}" rest "}"
#define B       ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":"
static const hostile hostile_table[] = {
    {"{}", 0, NULL},
    {"{ }  ", 0, NULL},
    {"{\"__metadata__\":{}}", 0, NULL},
    {A(""), 2, NULL},
    {A(B "[2,4]}"), 4, NULL},
    {"{\"a\":{\"shape\":[],\"data_offsets\":[0,2],\"dtype\":\"BF16\"}}", 2, NULL},
    {"{\"\\u00e4\\ud83d\\ude00\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, NULL},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0,9223372036854775807],\"data_offsets\":[0,0]}}", 0, NULL},
    {"{}x", 0, "something follows"},
    {"{}\n", 0, "something follows"},
    {" {}", 0, "of no format"},
    {"{", 0, "expected '\"'"},
    {"{}", 1, "the file 1 behind"},
    {A(""), 1, "beyond the file"},
    {A(""), 3, "have 2 bytes, and the file 3"},
    {A(B "[3,5]}"), 5, "b begins at byte 3"},
    {A(B "[1,3]}"), 3, "b begins at byte 1"},
    {A(B "[0,2]}"), 2, "begins at byte 0"},
    {A(B "[2,1]}"), 4, "data_offsets beyond the file, or"},
    {A(B "[2,5]}"), 5, "another number of bytes"},
    {A(",\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}"), 4, "two tensors are called a"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "there twice"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2]}}", 0, "without dtype, shape or data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2],\"x\":{}}}", 2, "and nothing else"},
    {"{\"a\":{\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "does not have"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "another number of bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-2],\"data_offsets\":[0,2]}}", 2, "whole number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2.0],\"data_offsets\":[0,2]}}", 2, "whole number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2e0],\"data_offsets\":[0,2]}}", 2, "whole number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[02],\"data_offsets\":[0,2]}}", 2, "whole number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[\"2\"],\"data_offsets\":[0,2]}}", 2, "whole number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,2]}}", 2, "2^63"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967297,2],\"data_offsets\":[0,2]}}", 2,
     "another number"},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
     "another number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "8 dimensions"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1,2]}}", 2, "expected ']'"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2,],\"data_offsets\":[0,2]}}", 2, "whole number"},
    {"{\"a\":[]}", 0, "expected '{', got '['"},
    {"{\"a\":null}", 0, "expected '{'"},
    {"{\"a\":{}}", 0, "expected '\"'"},
    {"{'a':{}}", 0, "expected '\"'"},
    {A(",") "", 2, "expected '\"'"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "expected '\"', got '1'"},
    {"{\"__metadata__\":{\"k\":{\"k\":\"v\"}}}", 0, "expected '\"', got '{'"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
    {"{\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}}", 0, "the same key"},
    {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "UTF-8"},
    {"{\"\xc0\xaf\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "UTF-8"},
    {"{\"\xed\xa0\x80\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "UTF-8"},
    {"{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "\\u without"},
    {"{\"\\udc00\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "\\u without"},
    {"{\"\\ud800\\ud800\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "\\u without"},
    {"{\"\\u12g4\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "\\u without"},
    {"{\"\\u0000\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "U+0000"},
    {"{\"\\x41\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "escape"},
    {"{\"\\u001b[2J\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "control character"},
    {"{\"\\u009b2J\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "control character"},
    {"{\"a\nb\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "control character"},
    {"{\"a\\", 0, "does not end"},
    {"{\"a", 0, "does not end"},
    {"{\"a\\u00", 0, "does not end"},
};
#undef B
#undef A

static void every_rule_is_held_to(void **state) {
    (void)state;
    const char *path = in_scratch("hostile.safetensors");
    for (size_t i = 0; i < sizeof hostile_table / sizeof hostile_table[0]; i++) {
        const hostile *h = &hostile_table[i];
        dt_tensors *t;
        put_tensors(path, h->header, strlen(h->header), h->n_data);
        const dt_status st = dt_tensors_open(path, &t);
        if ((st == DT_OK) != (h->says == NULL)) fail_msg("%s: %s", h->header, st ? dt_error_text() : "taken");
        if (h->says) {
            assert_int_equal(st, DT_ERR_DATA);
            assert_null(t);
            if (!strstr(dt_error_text(), h->says)) fail_msg("%s: %s", h->header, dt_error_text());
            assert_non_null(strstr(dt_error_text(), path));
        }
        dt_tensors_close(t);
    }
}

static void lengths_are_not_believed(void **state) {
    (void)state;
    static const struct {
        uint64_t length;
        const char *says;
    } row[] = {{3, "was cut off"},        {100000000, "was cut off"}, {100000001, "100000000"},
               {UINT64_MAX, "100000000"}, {INT64_MAX, "100000000"},   {0, "begin with '{'"},
               {1, "expected '\"'"}};
    const char *path = in_scratch("length.safetensors");
    dt_tensors *t;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        uint8_t bytes[10] = {[8] = '{', [9] = '}'};
        memcpy(bytes, &row[i].length, 8);
        put_file(path, bytes, sizeof bytes);
        CHECK_ERROR(dt_tensors_open(path, &t), DT_ERR_DATA, path, row[i].says);
    }
    put_file(path, "", 0);
    CHECK_ERROR(dt_tensors_open(path, &t), DT_ERR_DATA, path, "no regular file");
    put_file(path, "12345678", 8);
    CHECK_ERROR(dt_tensors_open(path, &t), DT_ERR_DATA, path, "of no format");
    CHECK_ERROR(dt_tensors_open(in_scratch("absent"), &t), DT_ERR_DATA, "absent", "No such file");
    CHECK_ERROR(dt_tensors_open(scratch, &t), DT_ERR_DATA, scratch, "without model.safetensors");
    CHECK_ERROR(dt_tensors_open("/dev/zero", &t), DT_ERR_DATA, "no regular file");
}

static void numbers_that_are_none(void **state) {
    (void)state;
    static const struct {
        const char *type;
        uint64_t bits;
    } row[] = {{"F32", 0x7f800000},
               {"F16", 0x7c00},
               {"BF16", 0x7fc0},
               {"F64", 0x7ff0000000000000},
               {"F64", 0x7fe0000000000000}};
    char header[128];
    dt_tensors *t;
    float x;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const int bytes = row[i].type[1] == 'F' ? 2 : atoi(row[i].type + 1) / 8;
        const char *path = in_scratch("number.safetensors");
        const uint64_t n = (uint64_t)snprintf(
            header, sizeof header, "{\"w\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,%d]}}",
            row[i].type, bytes);
        uint8_t file[256];
        memcpy(file, &n, 8);
        memcpy(file + 8, header, n);
        memcpy(file + 8 + n, &row[i].bits, (size_t)bytes);
        put_file(path, file, 8 + n + (size_t)bytes);
        check_ok(dt_tensors_open(path, &t));
        CHECK_ERROR(dt_file_tensor_read(&t->tensor[0], &x), DT_ERR_DATA, "w: element 0 is not a finite");
        dt_tensors_close(t);
    }
}

#define SHARD(name)                                                                                          \
    "{\"__metadata__\":{\"format\":\"pt\"},\"" name                                                          \
    "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
#define INDEX(map) "{\"metadata\":{\"total_size\":8.0,\"x\":[true,null,-1.5e3]},\"weight_map\":{" map "}}"

static void shards_are_one_listing(void **state) {
    (void)state;
    static const struct {
        const char *index, *says;
    } row[] = {
        {INDEX("\"a\":\"1.safetensors\",\"b\":\"2.safetensors\""), NULL},
        {INDEX("\"a\":\"1.safetensors\""), NULL},
        {"{\"weight_map\":{}} \n", NULL},
        {INDEX("\"a\":\"2.safetensors\",\"b\":\"1.safetensors\""), "the index does not place there"},
        {INDEX("\"a\":\"1.safetensors\",\"b\":\"1.safetensors\""), "holds 1 tensors, and the index places 2"},
        {INDEX("\"a\":\"1.safetensors\",\"a\":\"1.safetensors\""), "has a twice"},
        {INDEX("\"a\":\"1.safetensors\",\"a\":\"copy.safetensors\""), "two tensors are called a"},
        {INDEX("\"a\":\"../1.safetensors\""), "may be no path"},
        {INDEX("\"a\":\"/etc/passwd\""), "may be no path"},
        {INDEX("\"a\":\"..\""), "may be no path"},
        {INDEX("\"a\":\".hidden\""), "may be no path"},
        {INDEX("\"a\":\"\""), "may be no path"},
        {INDEX("\"a\":\"x\\\\1.safetensors\""), "may be no path"},
        {INDEX("\"a\":\"3.safetensors\""), "3.safetensors: No such file"},
        {INDEX("\"a\":\"model.safetensors.index.json\""), "model.safetensors.index.json: the header"},
        {INDEX("\"a\":1"), "expected '\"', got '1'"},
        {"{\"weight_map\":{},\"weight_map\":{}}", "twice"},
        {"{\"metadata\":{}}", "weight_map"},
        {"{\"metadata\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "nested"},
        {"{\"metadata\":tru", "no value of JSON"},
        {"{\"metadata\":01,\"weight_map\":{}}", "no value of JSON"},
        {"{\"weight_map\":{}}{", "something follows"},
    };
    dt_tensors *t;
    put_tensors(in_scratch("1.safetensors"), SHARD("a"), strlen(SHARD("a")), 4);
    put_tensors(in_scratch("copy.safetensors"), SHARD("a"), strlen(SHARD("a")), 4);
    put_tensors(in_scratch("2.safetensors"), SHARD("b"), strlen(SHARD("b")), 4);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        put_file(in_scratch("model.safetensors.index.json"), row[i].index, strlen(row[i].index));
        if (row[i].says) {
            CHECK_ERROR(dt_tensors_open(scratch, &t), DT_ERR_DATA, "index.json", row[i].says);
            continue;
        }
        check_ok(dt_tensors_open(i ? in_scratch("model.safetensors.index.json") : scratch, &t));
        if (i == 0) assert_true(t->n == 2 && dt_tensors_find(t, "b")->n_bytes == 4 && t->n_note == 1);
        dt_tensors_close(t);
    }
    unlink(in_scratch("model.safetensors.index.json"));
}

/* Some bytes of a sound file changed: an error with a text, or what passed every check. */
static void damage_is_survived(void **state) {
    (void)state;
    size_t n;
    int n_failed = 0;
    check_rng rng = {.stream = 77};
    char *sound = slurp(DT_TEST_DATA "/library.safetensors", &n), *bytes = check_alloc(n);
    for (int i = 0; i < 20000; i++) {
        memcpy(bytes, sound, n);
        for (int64_t k = 0; k <= check_below(&rng, 3); k++)
            bytes[check_below(&rng, 648)] ^= (char)(1 << check_below(&rng, 8));
        const dt_status st = open_bytes(
            (uint8_t *)bytes, (size_t)(check_below(&rng, 8) ? (int64_t)n : check_below(&rng, (int64_t)n)));
        if (st == DT_OK) continue;
        assert_true(st == DT_ERR_DATA && strlen(dt_error_text()) > 10);
        n_failed++;
    }
    assert_true(n_failed > 10000);
    free(sound), free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(library_file_is_read),     cmocka_unit_test(written_as_the_library_does),
        cmocka_unit_test(writer_refuses),           cmocka_unit_test(every_rule_is_held_to),
        cmocka_unit_test(lengths_are_not_believed), cmocka_unit_test(numbers_that_are_none),
        cmocka_unit_test(shards_are_one_listing),   cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
