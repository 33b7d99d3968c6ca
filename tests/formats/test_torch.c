/* state_dicts of PyTorch: what torch.save wrote is read, and a pickle gets nothing done but tensors. */
#include "tensor_files.h"

static float formula(int64_t i) {
    return (float)(i % 7 - 3) / 4;
}

static const float *numbers(const dt_tensors *t, const char *name, dt_tensor_type type, int64_t n_elem) {
    static float out[64];
    const dt_file_tensor *x = dt_tensors_find(t, name);
    assert_non_null(x);
    assert_int_equal(x->type, type);
    assert_int_equal(x->n_elem, n_elem);
    check_ok(dt_file_tensor_read(x, out));
    return out;
}

static void check_run(const char *path) {
    dt_tensors *t;
    check_ok(dt_tensors_open(path, &t));
    assert_string_equal(t->format, "PyTorch");
    assert_int_equal(t->n, 9);
    for (int k = 0; k < 2; k++) {
        const float *x = numbers(t, k ? "tied" : "conv.weight", DT_TENSOR_F32, 24);
        for (int i = 0; i < 24; i++) assert_true(x[i] == formula(i));
    }
    assert_int_equal(dt_tensors_find(t, "conv.weight")->ndim, 4);
    assert_ptr_equal(dt_tensors_find(t, "conv.weight")->data, dt_tensors_find(t, "tied")->data);
    const float *x = numbers(t, "turned", DT_TENSOR_F32, 15);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 5; k++) assert_true(x[i * 5 + k] == formula(k * 3 + i));
    x = numbers(t, "part", DT_TENSOR_F16, 3);
    for (int i = 0; i < 3; i++) assert_true(x[i] == formula(7 + i));
    x = numbers(t, "repeated", DT_TENSOR_F64, 3);
    for (int i = 0; i < 3; i++) assert_true(x[i] == formula(0));
    x = numbers(t, "bias", DT_TENSOR_BF16, 5);
    for (int i = 0; i < 5; i++) assert_true(x[i] == formula(i));
    assert_true(*numbers(t, "scalar", DT_TENSOR_F32, 1) == 0.25f);
    assert_int_equal(dt_tensors_find(t, "empty")->n_elem, 0);
    assert_int_equal(*(const int64_t *)dt_tensors_find(t, "bn.num_batches_tracked")->data, 17);
    dt_tensors_close(t);
}

static void saved_run_is_read(void **state) {
    (void)state;
    check_run(DT_TEST_DATA "/state.pt");
    check_run(DT_TEST_DATA "/state_old.pt");
}

#define HEAD    "\x80\x02}X\x01\0\0\0w" /* {"w": */
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("
#define REF(n)  "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" n "X\x03\0\0\0cpu"
#define STORE   REF("0") "K\x10tQ"
#define TAIL    "\x89}tRs."
typedef struct hostile {
    const char *pickle;
    size_t n;
    const char *says;
} hostile;
#define H(pickle, says)                                                                                      \
    { pickle, sizeof(pickle) - 1, says }

static const hostile hostile_table[] = {
    H(HEAD REBUILD STORE "K\0K\x10\x85K\x01\x85" TAIL, NULL),
    H(HEAD REBUILD STORE "K\x02K\x02K\x03\x86K\x03K\x01\x86" TAIL, NULL),
    H(HEAD REBUILD STORE "K\0K\x0f\x85K\0\x85" TAIL, NULL),
    H(HEAD REBUILD STORE "K\x01K\x10\x85K\x01\x85" TAIL, "beyond its storage"),
    H(HEAD REBUILD STORE "K\0K\x09\x85K\x02\x85" TAIL, "beyond its storage"),
    H(HEAD REBUILD STORE "K\0K\xff\x85K\0\x85" TAIL, "more strided tensors"),
    H(HEAD REBUILD STORE "K\0J\xff\xff\xff\xff\x85K\x01\x85" TAIL, "a tensor that is none"),
    H(HEAD REBUILD STORE "K\0K\x02K\x02\x86K\x01\x85" TAIL, "a tensor that is none"),
    H(HEAD REBUILD STORE "K\0K\x02\x8a\x08\0\0\0\0\0\0\0\x40\x86K\x01K\x01\x86" TAIL, "more than 2^63"),
    H(HEAD REBUILD STORE "K\0K\x03\x85\x8a\x08\0\0\0\0\0\0\0\x40\x85" TAIL, "beyond its storage"),
    H(HEAD REBUILD REF("0") "K\x11tQ"
                            "K\0K\x01\x85K\x01\x85" TAIL,
      "more numbers than the file has"),
    H(HEAD REBUILD REF("1") "K\x10tQ"
                            "K\0K\x01\x85K\x01\x85" TAIL,
      "not in the file"),
    H(HEAD REBUILD REF("0") "J\xff\xff\xff\xfftQ"
                            "K\0K\x01\x85K\x01\x85" TAIL,
      "not to a storage"),
    H(HEAD REBUILD "K\0tQK\0K\x01\x85K\x01\x85" TAIL, "not to a storage"),
    H(HEAD "cposix\nsystem\n(X\x04\0\0\0truetRs.", "posix.system, which is no part of a state_dict"),
    H(HEAD "c__builtin__\neval\n(X\x01\0\0\0"
           "1tRs.",
      "__builtin__.eval"),
    H(HEAD "c\x1b[2J\n\x07\n)Rs.", "?[2J.?"),
    H(HEAD "ctorch\nFloatStorage\n)Rs.", "a call of a type"),
    H(HEAD "K\x01)Rs.", "a call of what is no name"),
    H("\x80\x04}.", "a protocol"),
    H("\x80\x02", "it ends too soon"),
    H("\x80\x02}", "it ends too soon"),
    H("\x80\x02.", "takes what is not there"),
    H("\x80\x02(.", "takes what is not there"),
    H("\x80\x02}(K\x01u.", "a key without a value"),
    H("\x80\x02](K\x01K\x02u.", "items for what takes none"),
    H("\x80\x02t.", "no mark"),
    H("\x80\x02R.", "takes what is not there"),
    H("\x80\x02h\x05.", "was not kept"),
    H("\x80\x02}q\x05.", "out of order"),
    H("\x80\x02(q\0.", "keeps what is not there"),
    H("\x80\x02X\xff\xff\xff\x7f"
      "a.",
      "it ends too soon"),
    H("\x80\x02\x8a\x09"
      "123456789.",
      "beyond 64 bits"),
    H("\x80\x02i.", "an instruction that no state_dict needs"),
    H("\x80\x02}.", "no dictionary of tensors"),
    H("\x80\x02}q\0X\x05\0\0\0modelh\0s.", "no dictionary of tensors"),
};

static void pickles_do_nothing(void **state) {
    (void)state;
    uint8_t zip[2048];
    const char *path = in_scratch("state.pt");
    for (size_t i = 0; i < sizeof hostile_table / sizeof hostile_table[0]; i++) {
        const hostile *h = &hostile_table[i];
        dt_tensors *t;
        put_file(path, zip, zip_of_pickle((const uint8_t *)h->pickle, h->n, zip));
        const dt_status st = dt_tensors_open(path, &t);
        if ((st == DT_OK) != (h->says == NULL)) fail_msg("row %zu: %s", i, st ? dt_error_text() : "taken");
        if (h->says && !strstr(dt_error_text(), h->says)) fail_msg("row %zu: %s", i, dt_error_text());
        dt_tensors_close(t);
    }
}

/* The directory of a zip file against the file. */
static void zip_files_that_lie(void **state) {
    (void)state;
    static const struct {
        int at_end; /* so many bytes before the end, else from the beginning */
        int at, value, bytes;
        const char *says;
    } row[] = {
        {0, 0, 0x51, 1, "of no format"},
        {0, 26, 11, 2, "not what the directory says"},
        {0, 30, 'b', 1, "not what the directory says"},
        {1, 12, 3, 2, "too short"},
        {1, 12, 60000, 2, "too short"},
        {1, 10, 0x7fffffff, 4, "outside of it"},
        {1, 6, 0x7fffffff, 4, "outside of it"},
        {1, 2, 1, 2, "without an end"},
        {1, 22 + 54, 0, 1, "damaged zip directory"},
        {1, 22 + 54 - 8, 1, 1, "encrypted"},
        {1, 22 + 54 - 24, 0x7fffffff, 4, "without a size"},
        {1, 22 + 54 - 42, 7, 4, "not where the directory says"},
        {1, 22 + 54 - 42, 0, 4, "not what the directory says"},
    };
    static const char pickle[] = HEAD REBUILD STORE "K\0K\x10\x85K\x01\x85" TAIL;
    const char *path = in_scratch("lie.pt");
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        uint8_t zip[2048];
        dt_tensors *t;
        const size_t n = zip_of_pickle((const uint8_t *)pickle, sizeof pickle - 1, zip);
        put_le(zip + (row[i].at_end ? n - (size_t)row[i].at : (size_t)row[i].at), (uint64_t)row[i].value,
               row[i].bytes);
        put_file(path, zip, n);
        const dt_status st = dt_tensors_open(path, &t);
        if (st != DT_ERR_DATA || !strstr(dt_error_text(), row[i].says))
            fail_msg("row %zu: %s", i, st ? dt_error_text() : "taken");
    }
}

#define OLD_MAGIC   "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19."
#define OLD_VERSION "\x80\x02M\xe9\x03."
#define OLD_SYSTEM  "\x80\x02}X\x0d\0\0\0little_endian\x88s."
#define OLD_HEAD    OLD_MAGIC OLD_VERSION OLD_SYSTEM
#define OLD_STORE(part)                                                                                      \
    "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"                                                   \
    "0X\x03\0\0\0cpuK\x04" part "tQ"
#define OLD_PART(at, n) "X\x01\0\0\0p" at n "\x87"
#define OLD_ALL(n)      "K\0K" n "\x85K\x01\x85" TAIL
#define OLD_KEYS                                                                                             \
    "\x80\x02]X\x01\0\0\0"                                                                                   \
    "0a."
#define OLD_BYTES                                                                                            \
    "\4\0\0\0\0\0\0\0"                                                                                       \
    "\0\0\0\0"                                                                                               \
    "\0\0\x80\x3f"                                                                                           \
    "\0\0\0\x40"                                                                                             \
    "\0\0\x40\x40" /* 4: 0 1 2 3 */
#define OLD_W OLD_HEAD HEAD REBUILD

/* Files of the form before 1.6; the first number of w, -1: refused. */
static const struct {
    hostile file;
    float first;
} old_table[] = {
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") OLD_KEYS OLD_BYTES, NULL), 0},
    {H(OLD_W OLD_STORE("") OLD_ALL("\4") OLD_KEYS OLD_BYTES, NULL), 0},
    {H(OLD_W OLD_STORE(OLD_PART("K\2", "K\2")) OLD_ALL("\2") OLD_KEYS OLD_BYTES, NULL), 2},
    {H(OLD_W OLD_STORE(OLD_PART("K\2", "K\2")) OLD_ALL("\3") OLD_KEYS OLD_BYTES, "beyond its storage"), -1},
    {H(OLD_W OLD_STORE(OLD_PART("K\3", "K\2")) OLD_ALL("\1") OLD_KEYS OLD_BYTES, "a part of a storage"), -1},
    {H(OLD_W OLD_STORE(OLD_PART("K\5", "K\0")) OLD_ALL("\0") OLD_KEYS OLD_BYTES, "a part of a storage"), -1},
    {H(OLD_W OLD_STORE(OLD_PART("J\xff\xff\xff\xff", "K\1")) OLD_ALL("\1") OLD_KEYS OLD_BYTES,
       "a part of a storage"),
     -1},
    {H(OLD_W OLD_STORE("K\1") OLD_ALL("\1") OLD_KEYS OLD_BYTES, "a part of a storage"), -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\5") OLD_KEYS OLD_BYTES, "beyond its storage"), -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") OLD_KEYS "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
       "more numbers than the file has"),
     -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") OLD_KEYS "\4\0\0\0\0\0\0\0\0\0\0\0", "the file ends in"), -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") OLD_KEYS "\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
       "the file ends in"),
     -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") OLD_KEYS "\4\0\0", "it ends too soon"), -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") "\x80\x02].", "not in the file"), -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") "\x80\x02}.", "no list of storages"), -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") "\x80\x02]K\0a.", "has no key"), -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") "\x80\x02]X\1\0\0\0"
                                          "1a." OLD_BYTES,
       "of which no tensor"),
     -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4") "\x80\x02]X\1\0\0\0"
                                          "0aX\1\0\0\0"
                                          "0a." OLD_BYTES OLD_BYTES,
       "there twice"),
     -1},
    {H(OLD_W OLD_STORE("N") OLD_ALL("\4"), "it ends too soon"), -1},
    {H(OLD_HEAD HEAD "cposix\nsystem\n(X\x04\0\0\0truetRs.", "posix.system, which is no part"), -1},
    {H(OLD_MAGIC "\x80\x02K\1.", "other than 1001"), -1},
    {H(OLD_MAGIC OLD_VERSION "\x80\x02}X\x0d\0\0\0little_endian\x89s.", "other order of bytes"), -1},
    {H(OLD_MAGIC OLD_VERSION, "it ends too soon"), -1},
    {H(OLD_HEAD "\x80\x02}." OLD_KEYS, "of which no tensor"), -1},
};

static void old_files_are_read(void **state) {
    (void)state;
    const char *path = in_scratch("old.pt");
    for (size_t i = 0; i < sizeof old_table / sizeof old_table[0]; i++) {
        const hostile *h = &old_table[i].file;
        dt_tensors *t;
        put_file(path, h->pickle, h->n);
        const dt_status st = dt_tensors_open(path, &t);
        if ((st == DT_OK) != (h->says == NULL)) fail_msg("row %zu: %s", i, st ? dt_error_text() : "taken");
        if (h->says && !strstr(dt_error_text(), h->says)) fail_msg("row %zu: %s", i, dt_error_text());
        if (st == DT_OK) {
            float x[4];
            check_ok(dt_file_tensor_read(dt_tensors_find(t, "w"), x));
            assert_true(x[0] == old_table[i].first);
        }
        dt_tensors_close(t);
    }
}

/* A file may end anywhere. */
static void old_files_are_cut(void **state) {
    (void)state;
    static uint8_t bytes[1 << 15];
    FILE *f = fopen(DT_TEST_DATA "/state_old.pt", "rb");
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(n > 1000 && n < sizeof bytes);
    assert_int_equal(open_bytes(bytes, n), DT_OK);
    for (size_t cut = 0; cut < n; cut++) assert_int_equal(open_bytes(bytes, cut), DT_ERR_DATA);
}

/* The pickle is in front; the directory of a zip file, and storages, at the end. */
static void damage_one(const char *path) {
    static uint8_t sound[1 << 15], bytes[1 << 15];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(sound, 1, sizeof sound, f);
    int n_failed = 0;
    check_rng rng = {.stream = 78};
    fclose(f);
    for (int i = 0; i < 20000; i++) {
        memcpy(bytes, sound, n);
        for (int64_t k = 0; k <= check_below(&rng, 3); k++) {
            const int64_t at =
                check_below(&rng, 2) ? check_below(&rng, 1500) : (int64_t)n - 1 - check_below(&rng, 900);
            bytes[at] ^= (uint8_t)(1 << check_below(&rng, 8));
        }
        const dt_status st =
            open_bytes(bytes, check_below(&rng, 8) ? n : (size_t)check_below(&rng, (int64_t)n));
        if (st == DT_OK) continue;
        assert_true(st == DT_ERR_DATA && strlen(dt_error_text()) > 10);
        n_failed++;
    }
    assert_true(n_failed > 5000);
}

static void damage_is_survived(void **state) {
    (void)state;
    damage_one(DT_TEST_DATA "/state.pt");
    damage_one(DT_TEST_DATA "/state_old.pt");
}

/* What is written is read as it was: every type, no dimensions, no elements, and data on boundaries of 64 bytes. */
static void written_state_is_read(void **state) {
    (void)state;
    static const dt_tensor_type type[] = {DT_TENSOR_F32, DT_TENSOR_F64, DT_TENSOR_F16, DT_TENSOR_BF16,
                                          DT_TENSOR_I64, DT_TENSOR_I32, DT_TENSOR_I16, DT_TENSOR_I8,
                                          DT_TENSOR_U8,  DT_TENSOR_BOOL};
    enum { TYPES = sizeof type / sizeof type[0], MORE = 2 };
    dt_file_tensor w[TYPES + MORE] = {{.name = "scalar", .type = DT_TENSOR_F32},
                                      {.name = "empty", .type = DT_TENSOR_F32, .ndim = 2, .dim = {0, 3}}};
    uint8_t bytes[2 * 3 * 8];
    char name[TYPES][16];
    dt_tensors *t;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(5 * i % 2);
    for (int i = 0; i < TYPES; i++) {
        snprintf(name[i], sizeof name[i], "layer.%d", i);
        w[MORE + i] = (dt_file_tensor){.name = name[i], .type = type[i], .ndim = 2, .dim = {2, 3}};
    }
    for (int i = 0; i < TYPES + MORE; i++) {
        assert_true(dt_file_tensor_size(w[i].type, w[i].ndim, w[i].dim, &w[i].n_elem, &w[i].n_bytes));
        w[i].data = bytes;
    }
    const char *path = in_scratch("w.pt");
    check_ok(dt_tensors_write(path, TYPES + MORE, w, 0, NULL));
    check_ok(dt_tensors_open(path, &t));
    assert_string_equal(t->format, "PyTorch");
    assert_int_equal(t->n, TYPES + MORE);
    for (int i = 0; i < TYPES + MORE; i++) {
        const dt_file_tensor *x = dt_tensors_find(t, w[i].name);
        assert_non_null(x);
        assert_true(x->type == w[i].type && x->ndim == w[i].ndim && x->n_bytes == w[i].n_bytes);
        assert_memory_equal(x->dim, w[i].dim, sizeof x->dim);
        if (x->n_bytes > 0) assert_memory_equal(x->data, w[i].data, (size_t)x->n_bytes);
        if (x->n_bytes > 0) assert_int_equal(((const uint8_t *)x->data - t->file[0].byte) % 64, 0);
    }
    dt_tensors_close(t);
    w[1].name = "scalar";
    CHECK_ERROR(dt_tensors_write(path, 2, w, 0, NULL), DT_ERR_DATA, path, "two tensors are called scalar");
    w[1] = (dt_file_tensor){.name = "x", .type = DT_TENSOR_U64};
    CHECK_ERROR(dt_tensors_write(path, 2, w, 0, NULL), DT_ERR_DATA, path, "x is U64");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_run_is_read),     cmocka_unit_test(pickles_do_nothing),
        cmocka_unit_test(zip_files_that_lie),    cmocka_unit_test(old_files_are_read),
        cmocka_unit_test(old_files_are_cut),     cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(written_state_is_read),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
