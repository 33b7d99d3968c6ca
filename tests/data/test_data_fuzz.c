/* Deterministic mutations of sound inputs, so that every run of the suite feeds the parsers some thousand
 * damaged files: they end with an error and a message, or with data that passed every check. */
#include "data_support.h"

#include "data/info.h"
#include "exif_files.h"
#include "fuzz_targets.h"
#include "numpy_files.h"
#include "unicode.h"

#include <zstd.h>

static uint64_t random_state = 88172645463325252u;

static uint64_t random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Flips, overwrites, or cuts; in the first `head` bytes more often, where the structure is. */
static size_t mutate(uint8_t *bytes, size_t n, size_t head) {
    uint64_t count = 1 + random_word() % 4;
    for (uint64_t i = 0; i < count; i++) {
        size_t at = random_word() % (random_word() % 4 && head < n ? head : n);
        switch (random_word() % 4) {
        case 0:
            bytes[at] ^= (uint8_t)(1u << random_word() % 8);
            break;
        case 1:
            bytes[at] = (uint8_t)random_word();
            break;
        case 2:
            bytes[at] = random_word() % 2 ? 0xFF : 0;
            break;
        default:
            if (random_word() % 8 == 0) n = 1 + random_word() % n;
            if (at >= n) at = n - 1;
            bytes[at] = (uint8_t)(bytes[at] + 1);
        }
    }
    return n;
}

static void run(const uint8_t *seed, size_t n, size_t head, int rounds,
                dt_status (*target)(const uint8_t *, size_t)) {
    int n_failed = 0;
    assert_ok(target(seed, n));
    for (int i = 0; i < rounds; i++) {
        uint8_t *bytes = malloc(n);
        memcpy(bytes, seed, n);
        size_t size = mutate(bytes, n, head);
        dt_error_set_text("");
        dt_status status = target(bytes, size);
        if (status != DT_OK) {
            n_failed++;
            assert_true(status == DT_ERR_DATA || status == DT_ERR_MEMORY);
            assert_true(strlen(dt_error_text()) > 10);
        }
        free(bytes);
    }
    assert_true(n_failed > rounds / 20); /* the mutations reach the structure */
}

/* A shard as it is used, with its index: damage of the structure is found before HDF5 sees it, damage of a
 * sample by its checksum. */
static char *shard_dir;

static dt_status open_and_read(const uint8_t *bytes, size_t n) {
    char path[300];
    test_options c = test_defaults();
    dt_dataset *d;
    dt_data_verify_result result;
    snprintf(path, sizeof path, "%s/shard-00000-of-00001.h5", shard_dir);
    write_file(path, bytes, n);
    dt_status opened = dt_dataset_open(&c.data, shard_dir, &d),
              verified = dt_data_verify(shard_dir, NULL, NULL, &result);
    dt_dataset_close(d);
    assert_true(opened == DT_OK || verified != DT_OK);
    return verified;
}

static void run_shard(const char *name) {
    size_t n;
    shard_dir = in_scratch("%s", name);
    uint8_t *seed = slurp(in_scratch("%s/shard-00000-of-00001.h5", name), &n);
    run(seed, n, 4096, 500, open_and_read);
    free(seed);
}

static void test_raw_shard(void **state) {
    (void)state;
    run_shard("raw");
}

static void test_jpeg_shard(void **state) {
    (void)state;
    run_shard("jpeg");
}

static void test_idx(void **state) {
    (void)state;
    size_t n_image, n_label;
    uint8_t *image = slurp(in_scratch("raw.images"), &n_image),
            *label = slurp(in_scratch("raw.labels"), &n_label);
    uint8_t *seed = malloc(1 + n_image + n_label);
    seed[0] = (uint8_t)n_label;
    memcpy(seed + 1, label, n_label);
    memcpy(seed + 1 + n_label, image, n_image);
    run(seed, 1 + n_image + n_label, 1 + n_label + 16, 3000, fuzz_idx);
    free(seed);
    free(label);
    free(image);
}

static void test_jpeg(void **state) {
    (void)state;
    uint8_t pixel[40 * 33 * 3], *bytes, file[8192];
    int64_t n;
    for (size_t i = 0; i < sizeof pixel; i++) pixel[i] = (uint8_t)(i * i >> 5);
    assert_ok(dt_jpeg_encode(pixel, 40, 33, 3, 90, &bytes, &n));
    n = exif_files_add(bytes, n, 6, file);
    run(file, (size_t)n, 640, 5000, fuzz_image);
    free(bytes);
}

static void test_png(void **state) {
    (void)state;
    uint8_t pixel[20 * 33 * 3];
    size_t n;
    const char *path = in_scratch("fuzz.png");
    for (size_t i = 0; i < sizeof pixel; i++) pixel[i] = (uint8_t)(i * i >> 5);
    assert_int_equal(exif_files_write_png(path, pixel, 20, 33, 8), 0);
    uint8_t *bytes = slurp(path, &n);
    run(bytes, n, 120, 5000, fuzz_image);
    free(bytes);
}

/* Whatever the bytes are, the orientation is one of the eight. */
static void test_exif(void **state) {
    (void)state;
    for (int i = 0; i < 100000; i++) {
        uint8_t *tiff = malloc(EXIF_TIFF_BYTES);
        exif_files_tiff(1 + i % 8, tiff);
        size_t n = mutate(tiff, EXIF_TIFF_BYTES, EXIF_TIFF_BYTES);
        dt_orientation orientation = dt_exif_orientation(tiff, (int64_t)n);
        assert_in_range(orientation, 1, 8);
        free(tiff);
    }
}

static void test_index(void **state) {
    (void)state;
    size_t n;
    uint8_t *seed = slurp(in_scratch("raw/" DT_INDEX_NAME), &n);
    run(seed, n, n, 3000, fuzz_index);
    free(seed);
}

static void test_labels(void **state) {
    (void)state;
    static const char seed[] =
        "\xEF\xBB\xBF"
        "file,\"note\",label\r\na/1.jpg,,cat\r\n\"b,\"\"2\"\".jpg\",\"two\r\nlines\",dog\r\n"
        "\r\n./a//3.jpg,x,caf\xC3\xA9\r\n4.png,y,cat\n5.png,\"\",cat";
    run((const uint8_t *)seed, sizeof seed - 1, sizeof seed - 1, 5000, fuzz_labels);
}

static void test_names(void **state) {
    (void)state;
    static const char seed[] = "\xEF\xBB\xBF"
                               "cat\r\ndog\r\nDog\r\n a\ncaf\xC3\xA9\n\n";
    run((const uint8_t *)seed, sizeof seed - 1, sizeof seed - 1, 5000, fuzz_names);
}

static const char header[] =
    "{'descr': '<f4', 'fortran_order': True, 'shape': (5, 2, 3), }                    \n";

static size_t make_npy(uint8_t *out) {
    float number[30];
    for (int i = 0; i < 30; i++) number[i] = (float)i / 7;
    return numpy_files_npy(1, header, number, sizeof number, out);
}

static void test_npy(void **state) {
    (void)state;
    uint8_t seed[512];
    const size_t n = make_npy(seed);
    run(seed, n, n - 120, 5000, fuzz_npy);
}

static void test_npz(void **state) {
    (void)state;
    uint8_t array[512], seed[4096];
    const size_t n = make_npy(array);
    const numpy_member member[] = {{"x.npy", array, n, true, true}, {"y.npy", array, n, false, false}};
    const size_t size = numpy_files_zip(member, 2, seed, sizeof seed, NULL);
    run(seed, size, size, 5000, fuzz_npz);
}

static void test_csv(void **state) {
    (void)state;
    static const char seed[] = "\xEF\xBB\xBF"
                               "a,\"b\",y\r\n1,-2.5e3,3\r\n\r\n\".5\", +7 ,4\n1,1,1\n";
    run((const uint8_t *)seed, sizeof seed - 1, sizeof seed - 1, 5000, fuzz_csv);
}

static dt_status open_and_read_arrays(const uint8_t *bytes, size_t n) {
    dt_data_verify_result result;
    dt_arrays a;
    write_file(in_scratch("arrays/shard-00000-of-00001.h5"), bytes, n);
    const dt_status opened = dt_arrays_open(in_scratch("arrays"), &a);
    dt_arrays_close(&a);
    const dt_status verified = dt_data_verify(in_scratch("arrays"), NULL, NULL, &result);
    assert_true(opened == DT_OK || verified != DT_OK);
    return verified;
}

static void test_arrays(void **state) {
    (void)state;
    size_t n;
    uint8_t array[512];
    char *path = in_scratch("fuzz.npy");
    const char *input[] = {path};
    dt_import_options o = {.kind = DT_IMPORT_NPY,
                           .input = input,
                           .n_input = 1,
                           .out_dir = in_scratch("arrays"),
                           .split = "train",
                           .y = path};
    dt_import_result r;
    write_file(path, array, make_npy(array));
    assert_ok(dt_import_run(&o, &r));
    uint8_t *seed = slurp(in_scratch("arrays/shard-00000-of-00001.h5"), &n);
    run(seed, n, 4096, 500, open_and_read_arrays);
    free(seed);
    seed = slurp(in_scratch("arrays/" DT_INDEX_NAME), &n);
    run(seed, n, n, 3000, fuzz_index);
    free(seed);
}

/* ---- text ---- */

static const char merges[] = "#version: 0.2\nt h\nth e\n\xC4\xA0 the\r\na b\nab c\n\xC3\xA5 \xC5\x83\n";

static void test_merges(void **state) {
    (void)state;
    uint8_t seed[8192] = {0};
    const char *path = in_scratch("merges.txt");
    dt_tokenizer *t;
    memcpy(seed + 1, merges, sizeof merges - 1);
    run(seed, sizeof merges, sizeof merges, 3000, fuzz_merges);
    /* With vocab.json, whose length is four times the first byte. */
    write_file(path, "a b\n", 4);
    assert_ok(dt_tokenizer_read(path, NULL, &t));
    size_t n = 1;
    for (int id = 0; id < 258; id++) {
        const uint8_t *bytes;
        uint8_t letter[4];
        n += (size_t)sprintf((char *)seed + n, "%s\"", id ? "," : "{");
        if (id == 257) n += (size_t)sprintf((char *)seed + n, DT_TOKENIZER_END_TEXT);
        for (int32_t k = 0; k < dt_tokenizer_bytes(t, id, &bytes); k++) {
            const int size = dt_utf8_encode(dt_bpe_letter(bytes[k]), letter);
            if (letter[0] == '"' || letter[0] == '\\') seed[n++] = '\\';
            memcpy(seed + n, letter, (size_t)size);
            n += (size_t)size;
        }
        n += (size_t)sprintf((char *)seed + n, "\":%d", 257 - id);
    }
    seed[n++] = '}';
    dt_tokenizer_close(t);
    char *vocab = in_scratch("vocab.json");
    write_file(vocab, seed + 1, n - 1);
    assert_ok(dt_tokenizer_read(path, vocab, &t));
    dt_tokenizer_close(t);
    for (int i = 0; i < 3000; i++) {
        uint8_t *bytes = malloc(n);
        memcpy(bytes, seed + 1, n - 1);
        write_file(vocab, bytes, mutate(bytes, n - 1, n - 1));
        if (dt_tokenizer_read(path, vocab, &t) == DT_OK) dt_tokenizer_close(t);
        free(bytes);
    }
    /* .tiktoken: the bytes in GPT-2's order, and a token of two. */
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    n = 1;
    for (int id = 0; id < 256; id++) {
        int byte = 0;
        while (dt_bpe_byte_id(byte) != id) byte++;
        n += (size_t)sprintf((char *)seed + n, "%c%c== %d\n", digits[byte >> 2], digits[(byte & 3) << 4], id);
    }
    n += (size_t)sprintf((char *)seed + n, "YWI= 256\nYWJj 257\n");
    seed[0] = 0;
    run(seed, n, n, 3000, fuzz_merges);
}

static void test_encode(void **state) {
    (void)state;
    static const char seed[] =
        "the the 12's\r\n \xC3\xA9\xE3\x80\x80\xE5\xAD\xA6 aaaa  \xFF\xE2\x82 the\xC2\xA0";
    for (int i = 0; i < 5000; i++) {
        uint8_t bytes[sizeof seed - 1];
        memcpy(bytes, seed, sizeof bytes);
        assert_ok(fuzz_encode(bytes, mutate(bytes, sizeof bytes, sizeof bytes)));
    }
}

static void test_text(void **state) {
    (void)state;
    uint8_t seed[4096] = {3}, packed[4096];
    static const char lines[] =
        "{\"text\": \"one\\n\\u00e9\"}\n{\"id\": [1, {}], \"text\": \"two\"}\r\n\n{\"text\": \"\"}\n";
    memcpy(seed + 1, lines, sizeof lines - 1);
    run(seed, sizeof lines, sizeof lines, 5000, fuzz_text);
    char *path = in_scratch("fuzz.gz");
    gzFile f = gzopen(path, "wb");
    gzwrite(f, lines, sizeof lines - 1);
    gzclose(f);
    size_t n;
    uint8_t *gzip = slurp(path, &n);
    memcpy(seed + 1, gzip, n);
    run(seed, n + 1, n + 1, 5000, fuzz_text);
    free(gzip);
    ZSTD_CCtx *z = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    n = ZSTD_compress2(z, packed, sizeof packed, lines, sizeof lines - 1);
    ZSTD_freeCCtx(z);
    memcpy(seed + 1, packed, n);
    run(seed, n + 1, n + 1, 5000, fuzz_text);
    const int32_t head[256] = {20240520, 1, 50};
    seed[0] = 0;
    memcpy(seed + 1, head, sizeof head);
    run(seed, 1 + sizeof head + 100, 16, 2000, fuzz_text);
}

static void test_choices(void **state) {
    (void)state;
    static const char lines[] = "{\"ctx\": \"ab\\u00e9\", \"endings\": [\"c\", \"d\"], \"label\": 1}\n\n"
                                "{\"label\": 0, \"ctx\": \"\", \"endings\": [\"x\", \"\", \"z\"]}\n";
    run((const uint8_t *)lines, sizeof lines - 1, sizeof lines - 1, 5000, fuzz_choices);
    uint8_t seed[1100] = {0};
    const int32_t head[] = {20240522, 1, 2, 40};
    const uint16_t words[] = {65535, 20,    0,  1, 2, 2, 97, 98, 1,  99, 2,  100,
                              101,   65535, 20, 1, 0, 2, 0,  1,  99, 1,  100};
    memcpy(seed, head, sizeof head);
    memcpy(seed + 1024, words, sizeof words);
    assert_ok(fuzz_choices(seed, 1024 + sizeof words));
    run(seed, 1024 + sizeof words, 16, 2000, fuzz_choices);
    for (int i = 0; i < 3000; i++) { /* what is behind the header */
        uint8_t bytes[sizeof seed];
        memcpy(bytes, seed, sizeof bytes);
        const size_t n = mutate(bytes + 1024, sizeof words, sizeof words);
        dt_status ignored = fuzz_choices(bytes, 1024 + n);
        (void)ignored;
    }
}

static dt_status open_and_read_tokens(const uint8_t *bytes, size_t n) {
    dt_data_verify_result result;
    dt_token_set s;
    write_file(in_scratch("tokens/shard-00000-of-00001.h5"), bytes, n);
    const dt_status opened = dt_token_set_open(in_scratch("tokens"), &s);
    dt_token_set_close(&s);
    const dt_status verified = dt_data_verify(in_scratch("tokens"), NULL, NULL, &result);
    assert_true(opened == DT_OK || verified != DT_OK);
    return verified;
}

static void test_tokens(void **state) {
    (void)state;
    size_t n;
    char *path = in_scratch("fuzz.txt");
    const char *input[] = {path};
    dt_import_options o = {.kind = DT_IMPORT_TEXT,
                           .input = input,
                           .n_input = 1,
                           .out_dir = in_scratch("tokens"),
                           .split = "train",
                           .tokenizer = "bpe:260",
                           .separator = "--"};
    dt_import_result r;
    write_file(path, "the the one\n--\nthe two two\n", 27);
    assert_ok(dt_import_run(&o, &r));
    uint8_t *seed = slurp(in_scratch("tokens/shard-00000-of-00001.h5"), &n);
    run(seed, n, 4096, 500, open_and_read_tokens);
    free(seed);
    seed = slurp(in_scratch("tokens/" DT_INDEX_NAME), &n);
    run(seed, n, n, 3000, fuzz_index);
    free(seed);
}

static int prepare(void **state) {
    if (make_scratch(state) != 0) return -1;
    make_numbered("raw", 20, 4, 1000);
    make_photos("jpeg", DT_STORE_JPEG, 6, 24, 20);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx),    cmocka_unit_test(test_jpeg),      cmocka_unit_test(test_png),
        cmocka_unit_test(test_exif),   cmocka_unit_test(test_raw_shard), cmocka_unit_test(test_jpeg_shard),
        cmocka_unit_test(test_index),  cmocka_unit_test(test_labels),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_npy),    cmocka_unit_test(test_npz),       cmocka_unit_test(test_csv),
        cmocka_unit_test(test_arrays), cmocka_unit_test(test_merges),    cmocka_unit_test(test_encode),
        cmocka_unit_test(test_text),   cmocka_unit_test(test_choices),   cmocka_unit_test(test_tokens)};
    return cmocka_run_group_tests(tests, prepare, remove_scratch);
}
