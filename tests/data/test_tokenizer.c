/* Tokenizers against the ids that others give (golden/make_tokens.py), on all of Unicode and on bytes that are no
 * UTF-8; what they give back; how they are kept; and the files that they come from. */
#include "data_support.h"

#include <xxhash.h>

#include "bpe.h"
#include "bpe_train.h"
#include "data/tokenizer.h"
#include "unicode.h"

static dt_tokenizer *golden_tokenizer(void) {
    dt_tokenizer *t;
    assert_ok(dt_tokenizer_read(DT_TEST_DATA "/tokens_merges.txt", NULL, &t));
    return t;
}

static void check_back(const dt_tokenizer *t, const dt_tokens *ids, const uint8_t *text, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 0; i < ids->n; i++) {
        const uint8_t *bytes;
        const int32_t size = dt_tokenizer_bytes(t, ids->id[i], &bytes);
        assert_true(size > 0 && size <= n - at);
        assert_memory_equal(bytes, text + at, (size_t)size);
        at += size;
    }
    assert_int_equal(at, n);
}

static int from_hex(const char *hex, size_t n, uint8_t *out) {
    for (size_t i = 0; i + 1 < n; i += 2) {
        unsigned byte;
        assert_int_equal(sscanf(hex + i, "%2x", &byte), 1);
        out[i / 2] = (uint8_t)byte;
    }
    return (int)(n / 2);
}

static void test_golden(void **state) {
    (void)state;
    size_t n;
    dt_tokenizer *t = golden_tokenizer();
    dt_coder *c;
    dt_tokens ids = {NULL};
    char *file = (char *)slurp(DT_TEST_DATA "/tokens_cases.txt", &n), *rest = file;
    int n_cases = 0;
    file[n] = 0;
    strsep(&rest, "\n");
    assert_ok(dt_coder_new(t, &c));
    for (char *line; (line = strsep(&rest, "\n")) && *line; n_cases++) {
        uint8_t *text = malloc(strlen(line)); /* as large as it is, so that a read past its end is seen */
        const char *hex = strsep(&line, " ");
        const int size = from_hex(hex, strlen(hex), text);
        uint8_t *exact = malloc((size_t)size);
        memcpy(exact, text, (size_t)size);
        ids.n = 0;
        assert_ok(dt_coder_encode(c, exact, size, &ids));
        for (int64_t i = 0; i < ids.n; i++) {
            const char *number = strsep(&line, " ");
            if (!number || atoi(number) != ids.id[i]) fail_msg("token %d of %s", (int)i, hex);
        }
        assert_null(line);
        check_back(t, &ids, exact, size);
        free(exact);
        free(text);
    }
    assert_true(n_cases > 140);
    dt_coder_free(c);
    dt_tokenizer_close(t);
    free(ids.id);
    free(file);
}

/* Every character in every context that the pattern knows: one hash of all ids. */
static void test_all_of_unicode(void **state) {
    (void)state;
    static const char *const parts[] = {"a", "b ", "1", " ", "", "  ", "'s", "\n", "\n\n"};
    size_t n_file;
    dt_tokenizer *t = golden_tokenizer();
    dt_coder *c;
    dt_tokens ids = {NULL};
    XXH3_state_t *hash = XXH3_createState();
    char wanted[17] = "";
    uint8_t *file = slurp(DT_TEST_DATA "/tokens_cases.txt", &n_file);
    memcpy(wanted, file, 16);
    XXH3_64bits_reset(hash);
    assert_ok(dt_coder_new(t, &c));
    for (uint32_t code = 0; code < 0x110000; code++) {
        if (code >= 0xD800 && code < 0xE000) continue;
        uint8_t text[64], letter[4];
        const int n_letter = dt_utf8_encode(code, letter);
        int64_t n = 0;
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            memcpy(text + n, parts[i], strlen(parts[i]));
            n += (int64_t)strlen(parts[i]);
            if (i + 1 == sizeof parts / sizeof parts[0]) break;
            memcpy(text + n, letter, (size_t)n_letter);
            n += n_letter;
        }
        ids.n = 0;
        assert_ok(dt_coder_encode(c, text, n, &ids));
        XXH3_64bits_update(hash, ids.id, (size_t)ids.n * sizeof *ids.id);
    }
    assert_true(XXH3_64bits_digest(hash) == strtoull(wanted, NULL, 16));
    XXH3_freeState(hash);
    dt_coder_free(c);
    dt_tokenizer_close(t);
    free(ids.id);
    free(file);
}

static uint64_t random_state = 88172645463325252u;
static uint64_t random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Bytes of few kinds, so that what is close to UTF-8 comes often. */
static int64_t random_text(uint8_t *text, int64_t max) {
    static const char *const parts[] = {
        "a",    "the",      " ",        "  ",           "\n",           "'",    "'re", "7", "!",
        "\xFF", "\xE2\x82", "\xC2\xA0", "\xE3\x80\x80", "\xE5\xAD\xA6", "\x80", "\xC3"};
    int64_t n = 0;
    const int64_t wanted = 1 + (int64_t)(random_word() % (uint64_t)(max - 4));
    while (n < wanted) {
        const char *part = parts[random_word() % (sizeof parts / sizeof parts[0])];
        memcpy(text + n, part, strlen(part));
        n += (int64_t)strlen(part);
    }
    return n;
}

/* Any bytes come back, also where a document is encoded in parts, which changes nothing. */
static void check_round_trip(dt_tokenizer *t) {
    dt_coder *c;
    dt_tokens whole = {NULL}, parts = {NULL};
    uint8_t text[512];
    int n_cut = 0;
    dt_tokenizer_info info;
    dt_tokenizer_info_get(t, &info);
    assert_ok(dt_coder_new(t, &c));
    for (int round = 0; round < 20000; round++) {
        int64_t n = random_text(text, 60 + round % 400);
        if (round % 4 == 0)
            for (int64_t i = 0; i < n; i++) text[i] = (uint8_t)random_word();
        whole.n = parts.n = 0;
        assert_ok(dt_coder_encode(c, text, n, &whole));
        check_back(t, &whole, text, n);
        const int64_t cut = dt_tokenizer_cut(info.kind, text, n);
        assert_in_range(cut, 0, n);
        n_cut += cut > 0 && (cut < n || info.kind == DT_TOKENIZER_BYTE);
        assert_ok(dt_coder_encode(c, text, cut, &parts));
        assert_ok(dt_coder_encode(c, text + cut, n - cut, &parts));
        assert_int_equal(parts.n, whole.n);
        assert_memory_equal(parts.id, whole.id, (size_t)whole.n * sizeof *whole.id);
        for (int64_t i = 0; i < whole.n; i++) assert_true(whole.id[i] >= 0 && whole.id[i] < info.end);
    }
    dt_coder_free(c);
    free(whole.id);
    free(parts.id);
    assert_true(n_cut > 2000);
}

static void test_round_trip(void **state) {
    (void)state;
    static const uint32_t code[] = {0xE9, 0x3000, 0x5B66, 0x1F642};
    dt_tokenizer *t[3];
    t[0] = golden_tokenizer();
    assert_ok(dt_tokenizer_byte(&t[1]));
    assert_ok(dt_tokenizer_char(code, 4, &t[2]));
    for (int i = 0; i < 3; i++) {
        check_round_trip(t[i]);
        dt_tokenizer_close(t[i]);
    }
}

/* A megabyte of one class, on which merging pairs one by one would take hours. */
static void test_attacks(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    static const char *const unit[] = {"t",        "the",          "1", "!", " ", "\n", "'", "\xFF",
                                       "\xC2\xA0", "\xE5\xAD\xA6", "ht"};
    dt_tokenizer *t = golden_tokenizer();
    dt_coder *c;
    dt_tokens ids = {NULL};
    uint8_t *text = malloc(N + 4);
    assert_ok(dt_coder_new(t, &c));
    for (size_t i = 0; i < sizeof unit / sizeof unit[0]; i++) {
        int64_t n = 0;
        for (const int64_t size = (int64_t)strlen(unit[i]); n < N; n += size)
            memcpy(text + n, unit[i], (size_t)size);
        ids.n = 0;
        const double begin_s = dt_time_s();
        assert_ok(dt_coder_encode(c, text, n, &ids));
        assert_true(dt_time_s() - begin_s < 60);
        check_back(t, &ids, text, n);
    }
    free(text);
    text = malloc(DT_PIECE_BYTES_MAX + 1);
    memset(text, 'a', DT_PIECE_BYTES_MAX + 1);
    assert_fails(dt_coder_encode(c, text, DT_PIECE_BYTES_MAX + 1, &ids), DT_ERR_DATA,
                 "a word of more than 16 MiB");
    dt_coder_free(c);
    dt_tokenizer_close(t);
    free(ids.id);
    free(text);
}

/* Long words by the heap as short ones by looking at all pairs. */
static void test_long_words(void **state) {
    (void)state;
    dt_tokenizer *t = golden_tokenizer();
    dt_bpe_room room = {NULL};
    for (int round = 0; round < 3000; round++) {
        uint8_t text[64 + 200];
        int32_t id[64 + 200], again[64 + 200];
        int64_t n = 64, n_id, n_again;
        for (int64_t i = 0; i < n; i++) text[i] = (uint8_t)("theraning "[random_word() % 10]);
        assert_ok(dt_bpe_encode(t, &room, text, n, id, &n_id));
        /* What no merge crosses: a byte that stands in none. */
        text[n] = 0;
        memcpy(text + n + 1, text, 64);
        assert_ok(dt_bpe_encode(t, &room, text, 2 * n + 1, again, &n_again));
        assert_int_equal(n_again, 2 * n_id + 1);
        assert_memory_equal(again, id, (size_t)n_id * sizeof *id);
        assert_memory_equal(again + n_id + 1, id, (size_t)n_id * sizeof *id);
    }
    dt_bpe_room_free(&room);
    dt_tokenizer_close(t);
}

/* The merges that another trainer learns of the same text. */
static void test_training(void **state) {
    (void)state;
    size_t n;
    dt_tokenizer *golden = golden_tokenizer(), *own, *small;
    dt_tokenizer_info a, b;
    dt_bpe_trainer *trainer;
    uint8_t *text = slurp(DT_TEST_DATA "/tokens_text.txt", &n);
    dt_tokenizer_info_get(golden, &a);
    for (int parts = 0; parts < 2; parts++) { /* in one piece and in two */
        assert_ok(dt_bpe_trainer_new(&trainer));
        const int64_t cut = parts ? dt_piece_cut(text, (int64_t)n / 2) : 0;
        assert_ok(dt_bpe_trainer_add(trainer, text, cut));
        assert_ok(dt_bpe_trainer_add(trainer, text + cut, (int64_t)n - cut));
        assert_ok(dt_bpe_trainer_finish(trainer, a.n_vocab, &own));
        dt_bpe_trainer_free(trainer);
        dt_tokenizer_info_get(own, &b);
        assert_true(a.xxh3 == b.xxh3 && a.n_vocab == b.n_vocab);
        dt_tokenizer_close(own);
    }
    assert_ok(dt_bpe_trainer_new(&trainer));
    assert_ok(dt_bpe_trainer_add(trainer, (const uint8_t *)"ab ab cd", 8));
    assert_ok(dt_bpe_trainer_finish(trainer, 5000, &small));
    dt_tokenizer_info_get(small, &b);
    assert_int_equal(b.n_vocab, 258); /* "ab" alone stands there twice as it is */
    assert_string_equal(b.name, "bpe, 258 tokens");
    dt_bpe_trainer_free(trainer);
    assert_ok(dt_bpe_trainer_new(&trainer));
    assert_fails(dt_bpe_trainer_finish(trainer, 256, &own), DT_ERR_USAGE, "expected 257");
    dt_bpe_trainer_free(trainer);
    dt_tokenizer_close(small);
    dt_tokenizer_close(golden);
    free(text);
}

/* ---- as they are kept ---- */

static void check_kept(dt_tokenizer *t) {
    char *text, *again;
    dt_tokenizer *other;
    dt_tokenizer_info a, b;
    assert_ok(dt_tokenizer_text(t, &text));
    assert_ok(dt_tokenizer_parse("kept", text, strlen(text), &other));
    assert_ok(dt_tokenizer_text(other, &again));
    assert_string_equal(text, again);
    dt_tokenizer_info_get(t, &a);
    dt_tokenizer_info_get(other, &b);
    assert_memory_equal(&a, &b, sizeof a);
    for (int32_t id = 0; id < a.n_vocab; id++) {
        const uint8_t *x, *y;
        const int32_t n = dt_tokenizer_bytes(t, id, &x);
        assert_int_equal(n, dt_tokenizer_bytes(other, id, &y));
        if (n > 0) assert_memory_equal(x, y, (size_t)n);
    }
    free(text);
    free(again);
    dt_tokenizer_close(other);
    dt_tokenizer_close(t);
}

/* vocab.json of the golden tokenizer with ids in the order that `id` tells. */
static void write_vocab(const char *path, const dt_tokenizer *t, int32_t id_of(int32_t, int32_t)) {
    dt_tokenizer_info info;
    dt_tokenizer_info_get(t, &info);
    FILE *f = fopen(path, "wb");
    for (int32_t i = 0; i < info.n_vocab; i++) {
        const uint8_t *bytes;
        const int32_t n = dt_tokenizer_bytes(t, i, &bytes);
        fprintf(f, "%s\"", i ? ", " : "{");
        if (i == info.end) fputs(DT_TOKENIZER_END_TEXT, f);
        for (int32_t k = 0; k < n; k++) {
            uint8_t letter[4];
            const int size = dt_utf8_encode(dt_bpe_letter(bytes[k]), letter);
            if (letter[0] == '"' || letter[0] == '\\') fputc('\\', f);
            fwrite(letter, 1, (size_t)size, f);
        }
        fprintf(f, "\": %d", id_of(i, info.n_vocab));
    }
    fputs("}\n", f);
    fclose(f);
}

static int32_t same(int32_t id, int32_t n) {
    (void)n;
    return id;
}
static int32_t backwards(int32_t id, int32_t n) {
    return n - 1 - id;
}
static int32_t twice(int32_t id, int32_t n) {
    (void)n;
    return id > 3 ? id : 3;
}

static void test_kept(void **state) {
    (void)state;
    static const uint32_t code[] = {0x80, 0xE9, 0xFFFF, 0x10FFFF};
    dt_tokenizer *t, *golden = golden_tokenizer();
    dt_tokenizer_info a, b;
    dt_coder *c;
    dt_tokens ids = {NULL}, other = {NULL};
    char *path = in_scratch("vocab.json");
    assert_ok(dt_tokenizer_byte(&t));
    check_kept(t);
    assert_ok(dt_tokenizer_char(code, 4, &t));
    check_kept(t);
    assert_ok(dt_tokenizer_ids(70000, 5, &t));
    check_kept(t);
    write_vocab(path, golden, same);
    assert_ok(dt_tokenizer_read(DT_TEST_DATA "/tokens_merges.txt", path, &t));
    dt_tokenizer_info_get(golden, &a);
    dt_tokenizer_info_get(t, &b);
    assert_true(a.xxh3 == b.xxh3);
    dt_tokenizer_close(t);
    write_vocab(path, golden, backwards);
    assert_ok(dt_tokenizer_read(DT_TEST_DATA "/tokens_merges.txt", path, &t));
    dt_tokenizer_info_get(t, &b);
    assert_true(a.xxh3 != b.xxh3 && b.end == 0);
    const char *text = "the network learns a größer 学";
    assert_ok(dt_coder_new(golden, &c));
    assert_ok(dt_coder_encode(c, (const uint8_t *)text, (int64_t)strlen(text), &ids));
    dt_coder_free(c);
    assert_ok(dt_coder_new(t, &c));
    assert_ok(dt_coder_encode(c, (const uint8_t *)text, (int64_t)strlen(text), &other));
    dt_coder_free(c);
    assert_int_equal(ids.n, other.n);
    for (int64_t i = 0; i < ids.n; i++) assert_int_equal(other.id[i], a.n_vocab - 1 - ids.id[i]);
    check_kept(t);
    write_vocab(path, golden, twice);
    assert_fails(dt_tokenizer_read(DT_TEST_DATA "/tokens_merges.txt", path, &t), DT_ERR_DATA, "each once");
    check_kept(golden);
    free(ids.id);
    free(other.id);
}

/* ---- files that are wrong ---- */

static void refuse(const char *text, const char *error) {
    dt_tokenizer *t;
    char *path = in_scratch("wrong.txt");
    write_file(path, text, strlen(text));
    assert_fails(dt_tokenizer_read(path, NULL, &t), DT_ERR_DATA, error);
    assert_null(t);
}

static void test_wrong_files(void **state) {
    (void)state;
    static const char *const text[] = {"",
                                       "{}",
                                       "{\"kind\":\"x\"}",
                                       "{\"kind\":\"char\"}",
                                       "{\"kind\":\"char\",\"characters\":\"a\"}",
                                       "{\"kind\":\"char\",\"characters\":\"\xC3\xA9\xC3\xA9\"}",
                                       "{\"kind\":\"bpe\"}",
                                       "{\"kind\":\"bpe\",\"merges\":\"a b\\nc\"}",
                                       "{\"kind\":\"bpe\",\"merges\":\"\",\"ids\":[1]}",
                                       "{\"kind\":\"ids\",\"vocabulary\":5}",
                                       "{\"kind\":\"ids\",\"vocabulary\":5,\"end\":5}",
                                       "{\"kind\":\"ids\",\"vocabulary\":99999999999,\"end\":5}"};
    dt_tokenizer *t;
    refuse("", "it is empty");
    refuse("#version: 0.2\nt h\nth  e\n", "wrong.txt:3: not two tokens");
    refuse("t h\nth\n", "wrong.txt:2: not two tokens");
    refuse("t h\nthe e\n", "wrong.txt:2: its first part");
    refuse("t h\nth en\n", "wrong.txt:2: its second part");
    refuse("t h\nt \n", "wrong.txt:2: its second part");
    refuse("t h\n\nh e\n", "wrong.txt:2: not two tokens");
    refuse("t \xE5\xAD\xA6\n", "wrong.txt:1: its second part");
    refuse("t \xFF\n", "wrong.txt:1: its second part");
    refuse("a b\nb c\na bc\nab c\n", "wrong.txt:4: makes the token 258");
    refuse("IQ== 0\nIg== 1\nIw== 3\n", "wrong.txt:3: not a token in base64");
    refuse("IQ== 0\nIg== 1\nJA== 2\n", "wrong.txt:3: the first 256");
    refuse("IQ== 0\nIg== 1\nI=== 2\n", "wrong.txt:3: not a token in base64");
    refuse("IQ== 0\nIg== 1\n", "the file ends before");
    assert_fails(dt_tokenizer_read(in_scratch("nowhere"), NULL, &t), DT_ERR_DATA, "nowhere");
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        assert_fails(dt_tokenizer_parse("index", text[i], strlen(text[i]), &t), DT_ERR_DATA, "index");
    char *vocab = in_scratch("wrong.json");
    static const char *const list[] = {"", "[]", "{\"a\": 1}", "{\"a\": 1", "{\"\xE5\xAD\xA6\": 1}"};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        write_file(vocab, list[i], strlen(list[i]));
        assert_fails(dt_tokenizer_read(DT_TEST_DATA "/tokens_merges.txt", vocab, &t), DT_ERR_DATA,
                     "wrong.json");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_all_of_unicode),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_long_words), cmocka_unit_test(test_training),
        cmocka_unit_test(test_kept),       cmocka_unit_test(test_wrong_files),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
