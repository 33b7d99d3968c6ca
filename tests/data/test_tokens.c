/* Tokens through the loader: every token once, in the order that the sample's number says, whatever the shards, ranks and
 * threads; documents apart where they are to be; sets that do not fit together; shards that are damaged or made by
 * others. */
#include "text_files.h"

#include "data/agree.h"
#include "data/order.h"

enum { T = 7, SEED = 9, N_LINES = 30 };

static void write_lines(const char *path, int n) {
    FILE *f = fopen(path, "w");
    for (int i = 0; i < n; i++) {
        fprintf(f, "{\"text\": \"");
        for (int k = 0; k <= i % 13; k++) fprintf(f, "%c", 'a' + (i + k) % 26);
        fprintf(f, "\"}\n");
    }
    fclose(f);
}

/* Documents of 1 to 13 letters, in shards of some tokens. */
static char *make_tokens(const char *name, const char *tokenizer, int64_t shard_bytes) {
    char *path = in_scratch("%s.jsonl", name), *out = in_scratch("%s", name);
    const char *input[] = {path};
    dt_import_options o = text_options(input, 1, tokenizer, out);
    dt_import_result r;
    write_lines(path, N_LINES);
    o.shard_bytes = shard_bytes;
    assert_ok(dt_import_run(&o, &r));
    return out;
}

static test_options small_context(bool isolated) {
    test_options c = test_defaults();
    c.data.context = T;
    c.data.documents = isolated ? DT_DOCUMENTS_ISOLATED : DT_DOCUMENTS_JOINED;
    c.data.verify = true;
    return c;
}

static dt_loader_options options(const test_options *c, const dt_dataset *d, bool eval) {
    return (dt_loader_options){.data = &c->data,
                               .augment = &c->augment,
                               .dataset = d,
                               .eval = eval,
                               .seed = SEED,
                               .batch = 5,
                               .global_batch = 8,
                               .n_micro_all = 3,
                               .world = 1,
                               .n_steps = 12,
                               .threads = 1,
                               .n_slots = 3};
}

static void check_row(const dt_batch *b, int64_t row, int64_t sample, const int32_t *all, int64_t n,
                      int32_t end, bool isolated) {
    const int32_t *tokens = dt_batch_field(b, "tokens"), *label = dt_batch_field(b, "label"),
                  *segment = dt_batch_field(b, "segment");
    int32_t document = 0;
    assert_true((segment != NULL) == isolated);
    for (int64_t i = 0; i < T; i++) {
        const int64_t at = sample * T + i;
        const int32_t token = at < n ? all[at] : end;
        assert_int_equal(tokens[row * T + i], token);
        const bool predicted = at + 1 < n && !(isolated && token == end);
        assert_int_equal(label[row * T + i], predicted ? all[at + 1] : -1);
        if (isolated) assert_int_equal(segment[row * T + i], document);
        document += token == end;
    }
}

static void test_order(void **state) {
    (void)state;
    for (int isolated = 0; isolated < 2; isolated++) {
        test_options c = small_context(isolated);
        dt_dataset *d;
        assert_ok(dt_dataset_open(&c.data, make_tokens(isolated ? "isolated" : "joined", "byte", 150), &d));
        assert_true(d->tokens.n_shards > 3 && d->info.n_documents == N_LINES && d->info.n_vocab == 257);
        const int64_t n = d->info.n_tokens, n_samples = d->info.n_samples;
        assert_int_equal(n_samples, (n - 1 + T - 1) / T);
        int32_t *all = tokens_of(&d->tokens);
        for (int32_t world = 1; world <= 3; world++)
            for (int32_t rank = 0; rank < world; rank++) {
                dt_loader_options o = options(&c, d, false);
                dt_loader *l;
                o.world = world, o.rank = rank, o.threads = 1 + rank;
                assert_ok(dt_loader_open(&o, &l));
                for (int64_t step = 0; step < o.n_steps; step++)
                    for (int64_t m = rank; m < o.n_micro_all; m += world) {
                        dt_batch b;
                        assert_ok(dt_loader_next(l, &b, NULL));
                        for (int64_t r = 0; r < b.rows; r++)
                            check_row(&b, r,
                                      (int64_t)dt_order_sample(SEED, (uint64_t)n_samples,
                                                               (uint64_t)(8 * step + m + 3 * r)),
                                      all, n, 256, isolated);
                        dt_loader_release(l, &b);
                    }
                dt_loader_close(l);
                /* Gone on with in the middle: the same rows. */
                o.first_step = 5, o.n_steps = 1;
                assert_ok(dt_loader_open(&o, &l));
                dt_batch b;
                assert_ok(dt_loader_next(l, &b, NULL));
                check_row(&b, 0,
                          (int64_t)dt_order_sample(SEED, (uint64_t)n_samples, (uint64_t)(8 * 5 + rank)), all,
                          n, 256, isolated);
                dt_loader_close(l);
            }
        free(all);
        dt_dataset_close(d);
    }
}

/* In order; every token but the first is predicted once. */
static void test_eval(void **state) {
    (void)state;
    test_options c = small_context(false);
    dt_dataset *d;
    dt_loader *l;
    dt_batch b = {.last = false};
    int64_t n_labels = 0;
    assert_ok(dt_dataset_open(&c.data, make_tokens("eval", "bpe:270", 150), &d));
    int32_t *all = tokens_of(&d->tokens);
    dt_loader_options o = options(&c, d, true);
    assert_ok(dt_loader_open(&o, &l));
    for (int64_t i = 0; !b.last; i++) {
        assert_ok(dt_loader_next(l, &b, NULL));
        const int32_t *label = dt_batch_field(&b, "label"), *tokens = dt_batch_field(&b, "tokens"),
                      *valid = dt_batch_field(&b, "valid");
        for (int64_t r = 0; r < b.n_valid; r++)
            check_row(&b, r, i * b.rows + r, all, d->info.n_tokens, (int32_t)d->info.end_token, false);
        for (int64_t k = 0; k < b.rows * T; k++) {
            n_labels += label[k] >= 0;
            if (k >= b.n_valid * T) assert_true(label[k] == -1 && tokens[k] == 0 && valid[k / T] == 0);
        }
        dt_loader_release(l, &b);
    }
    assert_int_equal(n_labels, d->info.n_tokens - 1);
    dt_loader_close(l);
    free(all);
    dt_dataset_close(d);
}

static void test_agree(void **state) {
    (void)state;
    test_options c = small_context(false);
    dt_dataset *a, *b, *other;
    dt_data_note note;
    dt_data_facts f;
    dt_data_trained trained;
    strcpy(c.data.train, "A");
    strcpy(c.data.val, "B");
    assert_ok(dt_dataset_open(&c.data, make_tokens("a", "bpe:280", 0), &a));
    assert_ok(dt_dataset_open(&c.data, in_scratch("a"), &b));
    assert_ok(dt_dataset_open(&c.data, make_tokens("other", "bpe:279", 0), &other));
    assert_ok(dt_data_agree(&c.data, a, b, &note));
    assert_fails(dt_data_agree(&c.data, a, other, &note), DT_ERR_DATA,
                 "A (bpe, 280 tokens) and B (bpe, 279 tokens) were made by different tokenizers");
    assert_true(dt_data_hash(&a->info) == dt_data_hash(&b->info) &&
                dt_data_hash(&a->info) != dt_data_hash(&other->info));
    assert_string_equal(dt_dataset_describe(&a->info).s, "tokens i32 [7], label i32 [7], vocabulary of 280");
    /* The tokenizer goes with what was trained. */
    dt_tokenizer_info info;
    assert_ok(dt_data_facts_of(a, &f));
    assert_non_null(f.tokenizer);
    dt_tokenizer_info_get(f.tokenizer, &info);
    assert_true(info.xxh3 == a->info.tokenizer_xxh3 && f.info.n_vocab == 280 && f.info.end_token == 279);
    assert_ok(dt_data_trained_facts(&c.data, &c.augment, 0, b, &f, &trained, &note));
    assert_fails(dt_data_trained_facts(&c.data, &c.augment, 0, other, &f, &trained, &note), DT_ERR_DATA,
                 "the network was trained on text of another tokenizer");
    dt_data_facts_free(&f);
    assert_fails(
        dt_data_facts_parse(
            "{\"kind\":\"tokens\",\"fields\":[{\"name\":\"tokens\",\"dtype\":\"i32\",\"shape\":[7]}]}", &f),
        DT_ERR_DATA, "\"tokenizer\"");
    dt_data_facts_free(&f);
    c.data.documents = DT_DOCUMENTS_ISOLATED;
    dt_dataset *isolated;
    assert_ok(dt_dataset_open(&c.data, in_scratch("a"), &isolated));
    assert_true(dt_data_hash(&a->info) != dt_data_hash(&isolated->info));
    dt_dataset_close(isolated);
    dt_dataset_close(a);
    dt_dataset_close(b);
    dt_dataset_close(other);
}

/* ---- shards ---- */

static void flip(const char *path, int64_t at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    const int byte = fgetc(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    fputc(byte ^ 1, f);
    assert_int_equal(fclose(f), 0);
}

static void test_damaged(void **state) {
    (void)state;
    test_options c = small_context(false);
    dt_dataset *d;
    dt_loader *l;
    dt_batch b;
    dt_data_verify_result v;
    char *dir = make_tokens("damaged", "byte", 150);
    assert_ok(dt_dataset_open(&c.data, dir, &d));
    const dt_token_shard *s = &d->tokens.shard[1];
    flip(s->path, s->offset + 3);
    dt_loader_options o = options(&c, d, true);
    o.batch = d->info.n_samples;
    assert_ok(dt_loader_open(&o, &l));
    assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA, "are damaged: their checksum differs");
    assert_non_null(strstr(dt_error_text(), s->path));
    dt_loader_close(l);
    assert_fails(dt_data_verify(dir, NULL, NULL, &v), DT_ERR_DATA, "differs from what index.json says");
    flip(s->path, s->offset + 3);
    /* Documents that begin elsewhere: outside of the structure, found by reading all. */
    assert_ok(dt_data_verify(dir, NULL, NULL, &v));
    flip(s->path, s->document_offset + 8);
    assert_fails(dt_data_verify(s->path, NULL, NULL, &v), DT_ERR_DATA,
                 "documents do not begin after the ends");
    flip(s->path, s->document_offset + 8);
    dt_dataset_close(d);
    shell("sed -i 's/\"text_bytes\": [0-9]*/\"text_bytes\": 1/' %s/index.json", dir);
    assert_fails(dt_dataset_open(&c.data, dir, &d), DT_ERR_DATA, "says text_bytes 1, the shards say");
    shell("sed -i 's/\"vocabulary\": 257/\"vocabulary\": 258/' %s/index.json", dir);
    assert_int_not_equal(dt_dataset_open(&c.data, dir, &d), DT_OK);
    shell("rm %s/index.json", dir);
    assert_ok(dt_dataset_open(&c.data, dir, &d));
    dt_dataset_close(d);
    /* A shard of another tokenizer among them. */
    dt_token_set set;
    make_tokens("stranger", "bpe:300", 150);
    shell("cp %s/shard-00001-of-*.h5 %s", in_scratch("stranger"),
          in_scratch("damaged/$(cd %s; ls | sed -n 2p)", dir));
    assert_fails(dt_token_set_open(dir, &set), DT_ERR_DATA, "its tokenizer is not that of");
    dt_token_set_close(&set);
}

/* As h5py writes them: no checksums, no tokenizer. */
static void test_foreign(void **state) {
    (void)state;
    test_options c = small_context(false);
    dt_dataset *d;
    dt_loader *l;
    dt_batch b;
    uint32_t wide[40];
    uint16_t narrow[40];
    char *path = in_scratch("foreign.h5");
    for (int i = 0; i < 40; i++) wide[i] = narrow[i] = (uint16_t)(i % 10);
    for (int width = 2; width <= 4; width += 2) {
        dt_h5 *h;
        assert_ok(dt_h5_create(path, &h));
        assert_ok(dt_h5_attr_set_str(h, "kind", "tokens"));
        assert_ok(dt_h5_attr_set_i64(h, "vocabulary", 10));
        assert_ok(dt_h5_words_write(h, "tokens", width, 40, width == 2 ? (void *)narrow : (void *)wide));
        assert_ok(dt_h5_close(h));
        c.data.verify = true;
        assert_ok(dt_dataset_open(&c.data, path, &d));
        assert_true(d->info.end_token == -1 && d->info.text_bytes == -1 && d->info.n_samples == 6);
        dt_loader_options o = options(&c, d, true);
        assert_ok(dt_loader_open(&o, &l));
        assert_fails(dt_loader_next(l, &b, NULL), DT_ERR_DATA,
                     "no checksums to verify (set data.verify = false)");
        dt_loader_close(l);
        c.data.verify = false;
        assert_ok(dt_loader_open(&o, &l));
        assert_ok(dt_loader_next(l, &b, NULL));
        assert_int_equal(((int32_t *)dt_batch_field(&b, "label"))[T + 1], 9);
        dt_loader_close(l);
        dt_dataset_close(d);
        c.data.documents = DT_DOCUMENTS_ISOLATED;
        assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_CONFIG, "no token of");
        c.data.documents = DT_DOCUMENTS_JOINED;
    }
    static const struct {
        int64_t vocabulary, end, count;
        const char *error;
    } row[] = {{9, -1, 40, "token 9 is 9: expected 0 to 8"},
               {0, -1, 40, "out of range"},
               {10, 10, 40, "out of range"},
               {10, -2, 40, "out of range"},
               {10, -1, 39, "attribute count differs"}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        dt_h5 *h;
        assert_ok(dt_h5_create(path, &h));
        assert_ok(dt_h5_attr_set_str(h, "kind", "tokens"));
        assert_ok(dt_h5_attr_set_i64(h, "vocabulary", row[i].vocabulary));
        assert_ok(dt_h5_attr_set_i64(h, "end", row[i].end));
        assert_ok(dt_h5_attr_set_i64(h, "count", row[i].count));
        assert_ok(dt_h5_words_write(h, "tokens", 2, 40, narrow));
        assert_ok(dt_h5_close(h));
        dt_status status = dt_dataset_open(&c.data, path, &d);
        if (status == DT_OK) {
            dt_loader_options o = options(&c, d, true);
            assert_ok(dt_loader_open(&o, &l));
            status = dt_loader_next(l, &b, NULL);
            dt_loader_close(l);
            dt_dataset_close(d);
        }
        assert_fails(status, DT_ERR_DATA, row[i].error);
    }
    dt_h5 *h;
    const int64_t n = 40;
    int32_t signed_ids[40] = {0};
    assert_ok(dt_h5_create(path, &h));
    assert_ok(dt_h5_attr_set_str(h, "kind", "tokens"));
    assert_ok(dt_h5_attr_set_i64(h, "vocabulary", 10));
    assert_ok(dt_h5_write(h, "tokens", DT_DTYPE_I32, 1, &n, signed_ids));
    assert_ok(dt_h5_close(h));
    assert_fails(dt_dataset_open(&c.data, path, &d), DT_ERR_DATA, "is not one dimension of u16 or u32");
}

static void test_info(void **state) {
    (void)state;
    char *dir = make_tokens("info", "byte", 150), text[4096] = "";
    FILE *f = fmemopen(text, sizeof text - 1, "w");
    assert_ok(dt_data_info_print(dir, f));
    fclose(f);
    static const char *const parts[] = {"kind      tokens, u16\n", "documents 30\n",
                                        "tokenizer byte, 257 tokens, end 256, ", " bytes a token\n",
                                        "begins    a | bc | cde | "};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strstr(text, parts[i])) fail_msg("%s is not in %s", parts[i], text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),   cmocka_unit_test(test_eval),    cmocka_unit_test(test_agree),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_foreign), cmocka_unit_test(test_info),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
