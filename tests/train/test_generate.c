/* The next token is drawn as defined, and a text is the same in any batch, with and without the cache; characters come
 * whole; limits are told beforehand. */
#include "engine_fixture.h"
#include "model/builder.h"
#include "speaker.h"

/* ---- draws ---- */

enum { WORDS = 40 };

/* The definition, by sorting: ids by probability, descending, of equals the lower id first. */
static void keep_plainly(const float *logits, double temperature, int64_t top_k, double top_p,
                         double kept[WORDS]) {
    int order[WORDS];
    double p[WORDS], sum = 0, before = 0;
    for (int i = 0; i < WORDS; i++) {
        p[i] = exp((double)logits[i] / temperature);
        int at = i;
        for (; at > 0 && p[order[at - 1]] < p[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    if (top_k > 0 && top_k < WORDS) {
        const double least = p[order[top_k - 1]];
        for (int i = 0; i < WORDS; i++)
            if (p[i] < least) p[i] = 0;
    }
    for (int i = 0; i < WORDS; i++) sum += p[i];
    for (int i = 0; i < WORDS; i++) {
        const bool stays = i == 0 || top_p >= 1 || before < top_p * sum;
        before += p[order[i]];
        kept[order[i]] = stays ? p[order[i]] : 0;
    }
    sum = 0;
    for (int i = 0; i < WORDS; i++) sum += kept[i];
    for (int i = 0; i < WORDS; i++) kept[i] /= sum;
}

static void test_draws_by_definition(void **state) {
    (void)state;
    static const struct {
        double temperature;
        int64_t top_k;
        double top_p;
    } rows[] = {{1, 0, 1},    {0.7, 0, 1},   {1.6, 5, 1},    {1, 1, 1},    {1, WORDS, 1}, {1, 0, 0.5},
                {1, 0, 1e-9}, {0.5, 0, 0.9}, {1.2, 12, 0.8}, {1, 3, 0.99}, {100, 7, 0.6}};
    void *room = check_alloc((size_t)dt_draw_bytes(WORDS));
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        enum { DRAWS = 20000 };
        const dt_draw_options o = {rows[k].temperature, rows[k].top_k, rows[k].top_p, 5 + k};
        float logits[WORDS];
        double want[WORDS], seen[WORDS] = {0};
        check_rng r = {.stream = 300 + k};
        for (int i = 0; i < WORDS; i++) logits[i] = 2 * (float)check_uniform(&r) + (i % 3 ? 0 : 1.5f);
        logits[7] = logits[21] = logits[30]; /* equals at the border of top_k */
        keep_plainly(logits, o.temperature, o.top_k, o.top_p, want);
        for (int n = 0; n < DRAWS; n++) {
            int32_t id, again;
            check_ok(dt_draw_token(&o, logits, WORDS, 9, (uint64_t)n, room, &id));
            check_ok(dt_draw_token(&o, logits, WORDS, 9, (uint64_t)n, room, &again));
            assert_int_equal(id, again);
            if (!(want[id] > 0)) fail_msg("row %zu: token %d was drawn, which is not kept", k, id);
            seen[id] += 1.0 / DRAWS;
        }
        for (int i = 0; i < WORDS; i++) /* five deviations */
            if (fabs(seen[i] - want[i]) > 5 * sqrt(want[i] * (1 - want[i]) / DRAWS) + 1e-9)
                fail_msg("row %zu: token %d came in %.4f of the draws, its probability is %.4f", k, i,
                         seen[i], want[i]);
    }
    free(room);
}

static void test_draws_of_equals(void **state) {
    (void)state;
    float logits[WORDS];
    void *room = check_alloc((size_t)dt_draw_bytes(WORDS));
    int32_t id;
    int differ = 0;
    for (int i = 0; i < WORDS; i++) logits[i] = i % 4 == 3 ? 2.5f : -1;
    check_ok(dt_draw_token(&(dt_draw_options){.temperature = 0, .top_p = 1}, logits, WORDS, 0, 0, room, &id));
    assert_int_equal(id, 3);
    for (uint64_t n = 0; n < 200; n++) { /* the ten largest are equal: with one of them all stay */
        const dt_draw_options o = {.temperature = 1, .top_k = 1, .top_p = 1, .seed = 1};
        check_ok(dt_draw_token(&o, logits, WORDS, 0, n, room, &id));
        assert_int_equal(id % 4, 3);
        differ += id != 3;
    }
    assert_true(differ > 100);
    logits[11] = NAN;
    CHECK_ERROR(
        dt_draw_token(&(dt_draw_options){.temperature = 0, .top_p = 1}, logits, WORDS, 0, 0, room, &id),
        DT_ERR_NONFINITE, "token 11");
    logits[11] = INFINITY;
    CHECK_ERROR(
        dt_draw_token(&(dt_draw_options){.temperature = 1, .top_p = 1}, logits, WORDS, 0, 0, room, &id),
        DT_ERR_NONFINITE, "token 11");
    free(room);
}

/* ---- texts ---- */

enum { PLACES = 48, WIDE = 16, BYTES = 257 + 3 };

static const dt_dataset_info text_info = {
    .n_samples = 512,
    .n_field = 2,
    .n_vocab = 257,
    .field = {{"tokens", DT_DTYPE_I32, 1, {PLACES}}, {"label", DT_DTYPE_I32, 1, {PLACES}}}};

static bool walks; /* no attention: no limit */

/* More words than the tokenizer has, which must never come. */
static dt_status forward(void *arg, int64_t rows, bool training, dt_graph **out) {
    dt_builder b = {.rows = rows, .field = text_info.field, .n_field = text_info.n_field};
    (void)arg;
    DT_TRY(dt_graph_create(&b.g, DT_DTYPE_F32, training));
    dt_vid x = dt_build_embedding(&b, "wte", dt_build_input_as(&b, "tokens", DT_DTYPE_I32),
                                  &(dt_embedding_options){.rows = BYTES, .channels = WIDE, .std = 0.6});
    if (walks) {
        x = dt_build_recurrent(&b, "walk", DT_LSTM,
                               &(dt_build_recurrent_inputs){.x = x, .lengths = -1, .h0 = -1, .c0 = -1},
                               &(dt_recurrent_options){.hidden = WIDE, .layers = 1}, NULL);
    } else {
        x = dt_build_position(&b, "wpe", x, &(dt_position_options){.std = 0.5});
        x = dt_build_add(&b, "sum", x,
                         dt_build_attention(&b, "look",
                                            &(dt_build_attention_inputs){
                                                .x = x, .context = -1, .lengths = -1, .segments = -1},
                                            &(dt_attention_options){.heads = 4, .causal = true}, NULL));
    }
    x = dt_build_dense(&b, "head", x, BYTES, true);
    dt_build_loss(&b, x, NULL);
    dt_build_output(&b, "logits", x);
    if (b.status != DT_OK) dt_graph_destroy(b.g);
    *out = b.g;
    return b.status;
}

static dt_tokenizer *bytes;

static void open_net(rig *r, int32_t threads) {
    memset(r, 0, sizeof *r);
    check_config(&r->c, "[model]\nname = \"resnet18\"\n[train]\nglobal_batch = 2\n");
    check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = threads}, &r->be));
    r->data = text_info, r->forward = forward;
    check_ok(rig_try_open(r, NULL, false));
}

static dt_speaker open_speaker(rig *r, const dt_generator_options *o) {
    dt_speaker s;
    dt_generator_options own = *o;
    own.tokenizer = bytes;
    if (own.draw.top_p <= 0) own.draw.top_p = 1;
    check_ok(dt_speaker_open(&r->c, r->e, &text_info, &own, &s));
    return s;
}

static void begin(dt_speaker *s, int64_t row, const char *prompt, int64_t most) {
    check_ok(
        dt_generator_begin(s->generator, row, (const uint8_t *)prompt, (int64_t)strlen(prompt), most, 0));
}

/* The row's tokens, to its end. */
static dt_generated finish(dt_speaker *s, int64_t row) {
    dt_generated g;
    while (dt_generator_goes_on(s->generator, row)) check_ok(dt_generator_step(s->generator));
    dt_generator_get(s->generator, row, &g);
    return g;
}

static void expect_same(const dt_generated *a, const dt_generated *b, const char *what) {
    if (a->n_token != b->n_token || a->n_prompt != b->n_prompt || a->end != b->end ||
        memcmp(a->token, b->token, (size_t)(a->n_prompt + a->n_token) * sizeof *a->token) != 0)
        fail_msg("%s gives another text", what);
    for (int64_t i = 0; i < a->n_token; i++) assert_in_range(a->token[a->n_prompt + i], 0, 256);
}

static const char *const prompts[] = {"", "a", "the dog", "forty bytes of a prompt that takes a chunk.."};
enum { N_PROMPT = sizeof prompts / sizeof *prompts };

static void test_same_text_in_any_batch(void **state) {
    (void)state;
    for (int net = 0; net < 2; net++) {
        walks = net == 1;
        rig one, two;
        open_net(&one, 1);
        open_net(&two, 2);
        const dt_generator_options o = {
            .rows = 1, .draw = {.temperature = 1, .seed = 3}, .no_stop = true, .window = true};
        dt_generator_options many = o, plain = o, uncached = o;
        many.rows = N_PROMPT;
        uncached.no_cache = true;
        dt_speaker alone = open_speaker(&one, &plain), batch = open_speaker(&one, &many),
                   other = open_speaker(&two, &many), slow = open_speaker(&one, &uncached);
        for (int64_t i = 0; i < N_PROMPT; i++)
            begin(&batch, i, prompts[i], 90), begin(&other, i, prompts[i], 90);
        for (int64_t i = 0; i < N_PROMPT; i++) {
            const dt_generated want = finish(&batch, i), threads = finish(&other, i);
            begin(&alone, 0, prompts[i], 90);
            begin(&slow, 0, prompts[i], 90);
            const dt_generated single = finish(&alone, 0), again = finish(&slow, 0);
            assert_int_equal(want.n_token, 90);
            assert_int_equal(want.n_prompt, dt_max_i64(1, (int64_t)strlen(prompts[i])));
            expect_same(&single, &want, "a batch");
            expect_same(&threads, &want, "another number of threads");
            expect_same(&again, &want, "no cache");
        }
        /* Another seed, another sample: another text. */
        dt_generated a, b;
        begin(&alone, 0, "a", 40);
        a = finish(&alone, 0);
        check_ok(dt_generator_begin(batch.generator, 0, (const uint8_t *)"a", 1, 40, 1));
        b = finish(&batch, 0);
        assert_true(memcmp(a.token, b.token, 41 * sizeof *a.token) != 0);
        dt_speaker_close(&alone), dt_speaker_close(&batch), dt_speaker_close(&other), dt_speaker_close(&slow);
        rig_close(&one), rig_close(&two);
    }
}

/* Rows take new texts while others go on. */
static void test_rows_come_and_go(void **state) {
    (void)state;
    walks = false;
    rig r;
    open_net(&r, 1);
    const dt_generator_options o = {.rows = 2, .draw = {.temperature = 1, .seed = 3}, .no_stop = true};
    dt_generator_options plain = o;
    plain.rows = 1;
    dt_speaker s = open_speaker(&r, &o), alone = open_speaker(&r, &plain);
    begin(&s, 0, "long", 40);
    begin(&s, 1, "short", 3);
    (void)finish(&s, 1);
    begin(&s, 1, "the next", 11);
    const dt_generated second = finish(&s, 1);
    begin(&alone, 0, "the next", 11);
    dt_generated want = finish(&alone, 0);
    expect_same(&second, &want, "a row that was used before");
    dt_generator_end(s.generator, 1);
    assert_false(dt_generator_goes_on(s.generator, 1));
    const dt_generated first = finish(&s, 0);
    begin(&alone, 0, "long", 40);
    want = finish(&alone, 0);
    expect_same(&first, &want, "a row beside one that changes");
    dt_speaker_close(&s), dt_speaker_close(&alone);
    rig_close(&r);
}

/* What is whole grows, is a beginning of the text, and ends between characters. */
static void test_characters_come_whole(void **state) {
    (void)state;
    walks = true;
    rig r;
    open_net(&r, 1);
    const dt_generator_options o = {.rows = 1, .draw = {.temperature = 1, .seed = 8}, .no_stop = true};
    dt_speaker s = open_speaker(&r, &o);
    dt_generated g;
    int64_t whole = 0, held = 0;
    begin(&s, 0, "x", 4000);
    while (dt_generator_goes_on(s.generator, 0)) {
        check_ok(dt_generator_step(s.generator));
        dt_generator_get(s.generator, 0, &g);
        assert_true(g.n_whole >= whole && g.n_whole <= g.n_text && g.n_text - g.n_whole <= 3);
        whole = g.n_whole;
        if (g.n_whole == g.n_text || g.end) continue;
        held++;
        const uint8_t lead = g.text[g.n_whole];
        const int64_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
        assert_true(lead >= 0xC2 && lead < 0xF5 && g.n_text - g.n_whole < size);
    }
    assert_true(held > 100);
    assert_true(g.n_whole == g.n_text && g.end == DT_TEXT_FULL);
    dt_speaker_close(&s);
    rig_close(&r);
}

static void test_stop(void **state) {
    (void)state;
    walks = true;
    rig r;
    open_net(&r, 1);
    /* The head's bias makes the end likely. */
    const int32_t i = dt_axis_find(dt_engine_axis(r.e), "head.bias");
    float *bias = (float *)dt_engine_program(r.e, true)->store->arena[DT_ARENA_MASTER] +
                  dt_engine_axis(r.e)->segment[i].offset;
    bias[256] = 4;
    const dt_generator_options o = {.rows = 1, .draw = {.temperature = 1, .seed = 2}};
    dt_generator_options on = o;
    on.no_stop = true;
    dt_speaker stops = open_speaker(&r, &o), goes = open_speaker(&r, &on);
    begin(&stops, 0, "abc", 1000);
    begin(&goes, 0, "abc", 1000);
    const dt_generated a = finish(&stops, 0), b = finish(&goes, 0);
    assert_true(a.end == DT_TEXT_STOPPED && a.n_token < 1000 && b.end == DT_TEXT_FULL && b.n_token == 1000);
    assert_int_equal(memcmp(a.token, b.token, (size_t)(a.n_prompt + a.n_token) * sizeof *a.token), 0);
    assert_int_equal(b.token[a.n_prompt + a.n_token], 256); /* where it stopped */
    assert_true(b.n_text < 1000);                           /* which is no text */
    dt_speaker_close(&stops), dt_speaker_close(&goes);
    rig_close(&r);
}

static void test_refused(void **state) {
    (void)state;
    walks = false;
    rig r;
    open_net(&r, 1);
    dt_generator_options o = {.rows = 1, .tokenizer = bytes, .draw = {.temperature = 1, .top_p = 1}};
    dt_speaker s = open_speaker(&r, &o), none;
    assert_int_equal(dt_generator_capacity(s.generator), PLACES);
    CHECK_ERROR(dt_generator_begin(s.generator, 0, (const uint8_t *)"abcd", 4, PLACES - 3, 0), DT_ERR_USAGE,
                "4 tokens of prompt and 45 more", "48", "window");
    check_ok(dt_generator_begin(s.generator, 0, (const uint8_t *)"abcd", 4, PLACES - 4, 0));
    CHECK_ERROR(dt_generator_begin(s.generator, 0, (const uint8_t *)"abcd", 4, INT64_MAX, 0), DT_ERR_USAGE,
                "more than the 48");
    assert_int_equal(finish(&s, 0).n_prompt, 4); /* still the one before */
    dt_speaker_close(&s);
    static const struct {
        dt_draw_options draw;
        const char *text;
    } rows[] = {{{.temperature = -1, .top_p = 1}, "temperature of -1"},
                {{.temperature = NAN, .top_p = 1}, "temperature of"},
                {{.temperature = 1, .top_k = -1, .top_p = 1}, "-1 likeliest"},
                {{.temperature = 1, .top_p = 1.5}, "1.5"},
                {{.temperature = 1, .top_p = 0}, "part of 0"},
                {{.temperature = 1, .top_p = NAN}, "part of"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        o.draw = rows[i].draw;
        CHECK_ERROR(dt_speaker_open(&r.c, r.e, &text_info, &o, &none), DT_ERR_USAGE, rows[i].text);
    }
    /* Numbers in place of text. */
    dt_tokenizer *ids;
    check_ok(dt_tokenizer_ids(50, -1, &ids));
    o = (dt_generator_options){.rows = 1, .tokenizer = ids, .draw = {.temperature = 1, .top_p = 1}};
    check_ok(dt_speaker_open(&r.c, r.e, &text_info, &o, &s));
    CHECK_ERROR(dt_generator_begin(s.generator, 0, (const uint8_t *)"3 50", 4, 1, 0), DT_ERR_DATA, "byte 2",
                "0 to 49");
    CHECK_ERROR(dt_generator_begin(s.generator, 0, (const uint8_t *)"3 x", 3, 1, 0), DT_ERR_DATA, "byte 2");
    CHECK_ERROR(dt_generator_begin(s.generator, 0, (const uint8_t *)"99999999999999999999", 20, 1, 0),
                DT_ERR_DATA, "byte 0");
    CHECK_ERROR(dt_generator_begin(s.generator, 0, (const uint8_t *)" ,", 2, 1, 0), DT_ERR_DATA,
                "empty prompt");
    begin(&s, 0, "3, 49 0", 5);
    const dt_generated g = finish(&s, 0);
    assert_true(g.n_prompt == 3 && g.token[1] == 49 && g.n_token == 5 && g.text[0] == ' ');
    dt_speaker_close(&s);
    dt_tokenizer_close(ids);
    check_ok(dt_tokenizer_ids(BYTES + 1, -1, &ids));
    o.tokenizer = ids;
    CHECK_ERROR(dt_speaker_open(&r.c, r.e, &text_info, &o, &none), DT_ERR_CONFIG, "260 tokens", "261");
    dt_tokenizer_close(ids);
    rig_close(&r);
}

static int set_up(void **state) {
    (void)state;
    return dt_tokenizer_byte(&bytes) == DT_OK ? 0 : -1;
}
static int tear_down(void **state) {
    (void)state;
    dt_tokenizer_close(bytes);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_by_definition),
        cmocka_unit_test(test_draws_of_equals),
        cmocka_unit_test(test_same_text_in_any_batch),
        cmocka_unit_test(test_rows_come_and_go),
        cmocka_unit_test(test_characters_come_whole),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
