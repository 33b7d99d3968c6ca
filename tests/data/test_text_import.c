/* Imports of text: which documents they find, in whatever files; what they refuse; equal bytes from any number of
 * threads. */
#include "text_files.h"

#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

#include "text_file.h"

static void import_one(const char *name, const char *text, const char *field, const char *separator,
                       const char *out) {
    char *path = in_scratch("%s", name);
    const char *input[] = {path};
    dt_import_result r;
    dt_import_options o = text_options(input, 1, "byte", out);
    o.field = field;
    o.separator = separator;
    write_file(path, text, strlen(text));
    shell("rm -rf %s", out);
    assert_ok(dt_import_run(&o, &r));
}

static void test_documents(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *field, *separator, *documents;
    } row[] = {
        {"a.txt", "Hello\r\n\xFF\n", NULL, NULL, "Hello\r\n\xFF\n|"},
        {"a.txt", "one\n---\ntwo\r\n---\r\nthree ---\n----\n---", NULL, "---",
         "one\n|two\r\n|three ---\n----\n|"},
        {"a.txt", "---\n---\none\n---\n\n---\n", NULL, "---", "one\n|\n|"},
        {"a.txt", "one", NULL, "one two", "one|"},
        {"a.jsonl",
         "{\"text\": \"one\"}\n{\"text\": \"t\\u00e9\\u0000\\n\", \"id\": 1}\r\n\n{\"text\": "
         "\"\"}\n{\"text\":\"3\"}",
         NULL, NULL, "one|t\xC3\xA9"},
        {"a.txt", "{\"body\": \"one\"}\n{\"body\": \"two\"}\n", "body", NULL, "one|two|"},
        {"a.ndjson", "{\"text\": \"<|endoftext|>\"}", NULL, NULL, "<|endoftext|>|"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char *out = in_scratch("documents"), *text;
        import_one(row[i].name, row[i].text, row[i].field, row[i].separator, out);
        text = text_of(out);
        assert_string_equal(text, row[i].documents);
        free(text);
    }
}

/* Where a document begins in a block means nothing for the part that it falls to. */
static void check_parts(const char *path, const char *wanted, const char *out) {
    const char *input[] = {path};
    dt_import_options o = text_options(input, 1, "byte", out);
    dt_import_result r;
    char *part[2];
    o.separator = "<<<>>>";
    o.val_fraction = 0.5;
    o.split = NULL;
    shell("rm -rf %s", out);
    assert_ok(dt_import_run(&o, &r));
    for (int k = 0; k < 2; k++) part[k] = text_of(in_scratch("blocks/%s", k ? "val" : "train"));
    const char *at[2] = {part[0], part[1]};
    for (const char *document = wanted; *document;) {
        const size_t n = strcspn(document, "|");
        const double place = (double)XXH3_64bits(document, n < 65536 ? n : 65536) * 0x1p-64;
        const bool val = place < 0.5;
        assert_memory_equal(at[val], document, n + 1);
        at[val] += n + 1;
        document += n + 1;
    }
    for (int k = 0; k < 2; k++) {
        assert_true(!*at[k] && at[k] > part[k]);
        free(part[k]);
    }
}

/* Documents longer and shorter than a block, in packed files of several parts: the same as one by one. */
static void test_blocks(void **state) {
    (void)state;
    enum { N = 60, MAX = 3 << 20 };
    static const char separator[] = "<<<>>>\n";
    uint64_t random = 12345;
    char *text = malloc((size_t)N * 250000 + 2 * MAX), *wanted = malloc((size_t)N * 250000 + 2 * MAX);
    size_t n = 0, n_wanted = 0;
    for (int d = 0; d < N; d++) {
        const size_t size = d == 7 ? MAX : d % 3 ? (size_t)((d + 20) * 3001) : (size_t)d + 1;
        for (size_t i = 0; i < size; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            const char c = "etaoin \n<>"[(random >> 33) % 10];
            text[n++] = wanted[n_wanted++] = c;
        }
        text[n++] = wanted[n_wanted++] = '\n';
        wanted[n_wanted++] = '|';
        memcpy(text + n, separator, sizeof separator - 1);
        n += sizeof separator - 1;
    }
    wanted[n_wanted] = 0;
    char *plain = in_scratch("blocks.txt"), *gzip = in_scratch("blocks.gz"), *zstd = in_scratch("blocks.zst"),
         *out = in_scratch("blocks");
    write_file(plain, text, n);
    for (int part = 0; part < 2; part++) {
        gzFile f = gzopen(gzip, part ? "ab" : "wb");
        assert_int_equal(gzwrite(f, text + (part ? n / 2 : 0), (unsigned)(part ? n - n / 2 : n / 2)),
                         part ? n - n / 2 : n / 2);
        assert_int_equal(gzclose(f), Z_OK);
    }
    const size_t room = ZSTD_compressBound(n);
    char *packed = malloc(2 * room);
    ZSTD_CCtx *z = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    const size_t first = ZSTD_compress2(z, packed, room, text, n / 3),
                 second = ZSTD_compress2(z, packed + first, room, text + n / 3, n - n / 3);
    ZSTD_freeCCtx(z);
    write_file(zstd, packed, first + second);
    static const char *const tokenizer[] = {"byte", "char", "bpe:300"};
    for (int i = 0; i < 9; i++) {
        const char *input[] = {i % 3 == 0 ? plain : i % 3 == 1 ? gzip : zstd};
        dt_import_options o = text_options(input, 1, tokenizer[i / 3], out);
        dt_import_result r;
        o.separator = "<<<>>>";
        o.shard_bytes = 1 << 20;
        o.threads = 1 + i % 3;
        shell("rm -rf %s", out);
        assert_ok(dt_import_run(&o, &r));
        assert_true(r.n_documents == N && r.n_shards >= 4);
        assert_text(out, wanted);
    }
    check_parts(plain, wanted, out);
    /* Damaged and cut short. */
    packed[first / 2] ^= 0x55;
    write_file(zstd, packed, first + second);
    write_file(in_scratch("cut.zst"), packed + first, second - 3);
    shell("head -c 100000 %s > %s", gzip, in_scratch("cut.gz"));
    const char *const wrong[] = {zstd, in_scratch("cut.zst"), in_scratch("cut.gz")};
    for (int i = 0; i < 3; i++) {
        dt_import_options o = text_options(&wrong[i], 1, "byte", in_scratch("never"));
        dt_import_result r;
        assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "data is damaged");
        assert_non_null(strstr(dt_error_text(), wrong[i]));
    }
    shell("(cat %s; echo rest) > %s", gzip, in_scratch("more.gz"));
    const char *more[] = {in_scratch("more.gz")};
    dt_import_options o = text_options(more, 1, "byte", in_scratch("never"));
    dt_import_result r;
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "gzip data is damaged");
    free(packed);
    free(text);
    free(wanted);
}

/* Few files are divided near their ends, documents by how they begin: the same text falls to the same side. */
static void test_val(void **state) {
    (void)state;
    char *out = in_scratch("val"), text[400] = "", wanted[2][4096] = {"", ""}, *found[2];
    char *path[2] = {in_scratch("a.txt"), in_scratch("b.txt")};
    const char *input[] = {path[0], path[1]};
    dt_import_result r;
    dt_import_options o = text_options(input, 2, "bpe:280", out);
    o.val_fraction = 0.25;
    o.split = NULL;
    for (int i = 0; i < 20; i++) sprintf(text + strlen(text), "line %02d abc\n", i);
    write_file(path[0], text, strlen(text));
    write_file(path[1], "1\n2\n3\n4", 7);
    assert_ok(dt_import_run(&o, &r));
    snprintf(wanted[0], sizeof wanted[0], "%.*s|1\n2\n3\n|", 15 * 12, text);
    snprintf(wanted[1], sizeof wanted[1], "%s|4|", text + 15 * 12);
    assert_text(in_scratch("val/train"), wanted[0]);
    assert_text(in_scratch("val/val"), wanted[1]);
    shell("rm -rf %s", out);
    FILE *f = fopen(path[0], "w");
    for (int i = 0; i < 400; i++) fprintf(f, "{\"text\": \"document %d\"}\n", i % 200);
    fclose(f);
    o.n_input = 1;
    o.field = "text";
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_val_samples > 0 && r.n_documents == 400);
    for (int k = 0; k < 2; k++) found[k] = text_of(in_scratch("val/%s", k ? "val" : "train"));
    int n_val = 0;
    for (int i = 0; i < 200; i++) {
        char one[32], two[40];
        snprintf(one, sizeof one, "document %d|", i);
        const bool val = strstr(found[1], one) != NULL;
        const char *at = strstr(found[val], one);
        assert_non_null(at);
        assert_null(strstr(found[!val], one));
        snprintf(two, sizeof two, "%s", one);
        assert_non_null(strstr(at + 1, two)); /* its twin */
        n_val += val;
    }
    assert_in_range(n_val, 30, 70);
    free(found[0]);
    free(found[1]);
    shell("rm -rf %s", out);
    write_file(path[0], "{\"text\": \"alone\"}", 17);
    assert_fails(dt_import_run(&o, &r), DT_ERR_DATA, "no text falls to val");
}

static void test_same_bytes(void **state) {
    (void)state;
    const char *input[] = {DT_TEST_DATA "/tokens_text.txt", DT_TEST_DATA "/tokens_cases.txt"};
    note_list notes = {""};
    dt_import_result r;
    for (int threads = 1; threads <= 5; threads += 2) {
        dt_import_options o = text_options(input, 2, "bpe:400", in_scratch("threads%d", threads));
        o.threads = threads;
        o.shard_bytes = 9000;
        assert_ok(dt_import_run(&o, &r));
        assert_true(r.n_shards > 3 && r.n_shards_kept == 0);
        shell("cmp %s/index.json %s/index.json", in_scratch("threads1"), in_scratch("threads%d", threads));
    }
    dt_import_options o = text_options(input, 2, "bpe:400", in_scratch("threads5"));
    o.shard_bytes = 9000;
    o.note = take_note;
    o.arg = &notes;
    assert_ok(dt_import_run(&o, &r));
    assert_noted(&notes, "is finished already: kept");
    assert_true(r.n_shards_kept == r.n_shards && r.n_shards > 3);
    o.tokenizer = "bpe:399";
    assert_fails(dt_import_run(&o, &r), DT_ERR_USAGE,
                 "was imported from something else or with other options");
    /* Not finished: begun anew. */
    o.tokenizer = "bpe:400";
    shell("rm %s/index.json; touch %s/.tmp-shard-00000", in_scratch("threads5"), in_scratch("threads5"));
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_shards_kept, 0);
    shell("diff -r %s %s", in_scratch("threads1"), in_scratch("threads5"));
}

/* ---- files of tokens ---- */

static void put_header(FILE *f, int32_t magic, int32_t version, int32_t n) {
    int32_t head[256] = {magic, version, n};
    assert_int_equal(fwrite(head, 1, sizeof head, f), sizeof head);
}

static void write_words(const char *path, int32_t magic, int32_t version, int32_t said, int32_t n,
                        int width) {
    FILE *f = fopen(path, "wb");
    if (magic) put_header(f, magic, version, said);
    for (int32_t i = 0; i < n; i++) {
        const uint32_t id = i % 10 == 0 ? 50256 : (uint32_t)(i * 7);
        fwrite(&id, 1, (size_t)width, f); /* little-endian */
    }
    fclose(f);
}

static void check_words(const char *path, const char *tokenizer, int32_t n, int64_t n_vocab,
                        int64_t n_documents) {
    const char *input[] = {path, path};
    char *out = in_scratch("words");
    dt_import_options o = text_options(input, 2, tokenizer, out);
    dt_import_result r;
    dt_token_set s;
    shell("rm -rf %s", out);
    assert_ok(dt_import_run(&o, &r));
    assert_ok(dt_token_set_open(out, &s));
    assert_true(s.n_tokens == 2 * n && s.info.n_vocab == n_vocab && s.n_documents == n_documents &&
                s.text_bytes == -1);
    int32_t *token = tokens_of(&s);
    for (int32_t i = 0; i < 2 * n; i++) assert_int_equal(token[i], i % n % 10 == 0 ? 50256 : i % n * 7);
    free(token);
    dt_data_verify_result v;
    assert_ok(dt_data_verify(out, NULL, NULL, &v));
    dt_token_set_close(&s);
}

static void test_words(void **state) {
    (void)state;
    char *path = in_scratch("words.bin");
    write_words(path, 20240520, 1, 1000, 1000, 2);
    check_words(path, NULL, 1000, 50257, 201); /* ends stand before the documents */
    write_words(path, 20240801, 7, 1000, 1000, 4);
    check_words(path, NULL, 1000, 128256, 1);
    check_words(path, "ids:60000:50256", 1000, 60000, 201);
    write_words(path, 0, 0, 0, 1000, 2);
    check_words(path, "ids:50257:50256", 1000, 50257, 201);
    check_words(path, "ids:70000", 1000, 70000, 1);
    /* A first token that is gzip's magic. */
    write_file(path, "\x1F\x8B\x01\x00", 4);
    const char *input[] = {path};
    dt_import_options o = text_options(input, 1, "ids:50257", in_scratch("magic"));
    dt_import_result r;
    assert_ok(dt_import_run(&o, &r));
    assert_int_equal(r.n_samples, 2);
}

static void refuse(const char *name, const char *text, size_t n, dt_import_options o, dt_status status,
                   const char *error) {
    char *path = in_scratch("%s", name);
    const char *input[] = {path};
    dt_import_result r;
    write_file(path, text, n);
    o.kind = DT_IMPORT_TEXT;
    o.input = input;
    o.n_input = 1;
    o.out_dir = in_scratch("refused");
    if (o.val_fraction == 0) o.split = "train";
    assert_fails(dt_import_run(&o, &r), status, error);
    assert_int_equal(system("test ! -e refused/index.json"), 0);
}

static void test_refused(void **state) {
    (void)state;
#define BYTE .tokenizer = "byte"
    static const char lines[] = "{\"text\": \"a\"}\n{\"text\": \"b\"\n";
    static const struct {
        const char *name, *text;
        dt_import_options o;
        dt_status status;
        const char *error;
    } row[] = {
        {"a.txt", "text", {.tokenizer = NULL}, DT_ERR_USAGE, "--tokenizer is missing"},
        {"a.txt", "text", {.tokenizer = "words"}, DT_ERR_USAGE, "--tokenizer words: expected byte"},
        {"a.txt", "text", {.tokenizer = "bpe:"}, DT_ERR_USAGE, "--tokenizer bpe:: expected byte"},
        {"a.txt", "text", {.tokenizer = "bpe:256"}, DT_ERR_USAGE, "expected 257"},
        {"a.txt", "text", {.tokenizer = "bpe:99999999999999999999"}, DT_ERR_USAGE, "expected 257"},
        {"a.txt", "text", {.tokenizer = "ids:100"}, DT_ERR_DATA, "a.txt: there is no text behind the ids"},
        {"a.txt", "text", {.tokenizer = "ids:100:100"}, DT_ERR_USAGE, "100 is the end"},
        {"a.txt", "text", {.tokenizer = "gpt2:nowhere"}, DT_ERR_DATA, "nowhere"},
        {"a.txt", "text", {.tokenizer = "/tmp"}, DT_ERR_DATA, "--tokenizer /tmp"},
        {"a.txt", "text", {BYTE, .separator = ""}, DT_ERR_USAGE, "--separator"},
        {"a.txt", "text", {BYTE, .x = "x"}, DT_ERR_USAGE, "option x is for npy"},
        {"a.txt", "", {BYTE}, DT_ERR_DATA, "it is empty"},
        {"a.txt", "\xFF\xFEt\0", {BYTE}, DT_ERR_DATA, "UTF-16"},
        {"a.jsonl", lines, {BYTE}, DT_ERR_DATA, "a.jsonl:2: not JSON"},
        {"a.jsonl",
         "\n\n{\"body\": 1}\n",
         {BYTE},
         DT_ERR_DATA,
         "a.jsonl:3: no object with a string \"text\""},
        {"a.jsonl", "{\"text\": \"\xFF\"}\n", {BYTE}, DT_ERR_DATA, "a.jsonl:1: not JSON"},
        {"a.jsonl", "{\"text\": \"\\ud800\"}\n", {BYTE}, DT_ERR_DATA, "a.jsonl:1: not JSON"},
        {"a.jsonl", "[\"text\"]\n", {BYTE}, DT_ERR_DATA, "a.jsonl:1: no object"},
        {"a.bin", "abc", {.tokenizer = "ids:99"}, DT_ERR_DATA, "3 bytes, which are no tokens"},
        {"a.bin", "ab", {.tokenizer = "ids:99"}, DT_ERR_DATA, "a.bin: has the token 25185"},
        {"a.bin", "ab", {.tokenizer = NULL}, DT_ERR_USAGE, "--tokenizer is missing"},
        {"a.bin", "ab", {.tokenizer = "bpe:300"}, DT_ERR_USAGE, "is learnt from text"},
        {"a.bin",
         "ab",
         {.tokenizer = "ids:99", .val_fraction = 0.5},
         DT_ERR_USAGE,
         "files of tokens are not divided"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        refuse(row[i].name, row[i].text, strlen(row[i].text), row[i].o, row[i].status, row[i].error);
    char *path = in_scratch("wrong.bin");
    dt_text_file f;
    write_words(path, 20240520, 2, 10, 10, 2);
    assert_fails(dt_text_file_look(path, NULL, &f), DT_ERR_DATA, "of version 2: version 1");
    write_words(path, 20240520, 1, 11, 10, 2);
    assert_fails(dt_text_file_look(path, NULL, &f), DT_ERR_DATA, "its header says 11 tokens");
    write_words(path, 20240801, 7, 10, 10, 2);
    assert_fails(dt_text_file_look(path, NULL, &f), DT_ERR_DATA, "its header says 10 tokens");
    write_words(path, 20240520, 1, -1, 0, 2);
    assert_fails(dt_text_file_look(path, NULL, &f), DT_ERR_DATA, "its header says -1 tokens");
    write_words(path, 20240522, 1, 10, 10, 2);
    assert_fails(dt_text_file_look(path, NULL, &f), DT_ERR_DATA, "questions with choices");
    /* Broken lines may be left out. */
    char *input_path = in_scratch("a.jsonl");
    const char *input[] = {input_path};
    dt_import_options o = text_options(input, 1, "byte", in_scratch("skipped"));
    dt_import_result r;
    write_file(input_path, lines, sizeof lines - 1);
    o.skip_broken = true;
    assert_ok(dt_import_run(&o, &r));
    assert_true(r.n_skipped == 1 && r.n_documents == 1);
    assert_text(in_scratch("skipped"), "a|");
}

/* A set can be made with the tokenizer of another. */
static void test_borrowed(void **state) {
    (void)state;
    const char *input[] = {DT_TEST_DATA "/tokens_text.txt"};
    dt_import_result r;
    dt_token_set a, b;
    dt_import_options o = text_options(input, 1, "bpe:300", in_scratch("lender"));
    assert_ok(dt_import_run(&o, &r));
    input[0] = DT_TEST_DATA "/tokens_cases.txt";
    o.tokenizer = in_scratch("lender");
    o.out_dir = in_scratch("borrower");
    assert_ok(dt_import_run(&o, &r));
    assert_ok(dt_token_set_open(in_scratch("lender"), &a));
    assert_ok(dt_token_set_open(in_scratch("borrower"), &b));
    assert_true(a.info.xxh3 == b.info.xxh3 && a.info.n_vocab == 300);
    dt_token_set_close(&a);
    dt_token_set_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),  cmocka_unit_test(test_blocks), cmocka_unit_test(test_val),
        cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_words),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_borrowed),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
