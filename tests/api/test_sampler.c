/* Texts of a network that a program has built and trained: learnt by heart they come back, the same for a seed, whole
 * characters, to their end; what does not go on is refused by name. */
#include "api_test.h"

enum { PLACES = 24, WORDS = 257, BATCH = 2 };

/* To be learnt; its last token is the end of a text. */
static const char song[] = "der m\xC3\xB6nch s\xC3\xA4"
                           "et";

static dt_net *make(dt_run *run, bool causal) {
    dt_net *net;
    OK(dt_net_create(
        run, (dt_net_options){.batch = BATCH, .optimizer = {.name = "adam", .lr = 0.02}, .seed = 3}, &net));
    const dt_var tokens = dt_input(net, "tokens", DT_DTYPE_I32, DT_SHAPE(PLACES)),
                 next = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE(PLACES));
    dt_var x = dt_embedding(tokens, (dt_embedding_options){.rows = WORDS, .channels = 24, .std = 0.3});
    x = dt_position(x, (dt_position_options){.std = 0.3});
    x = dt_add(x, dt_attention(dt_layernorm(x, (dt_norm_options){0}),
                               (dt_attention_options){.heads = 4, .causal = causal}));
    x = dt_add(x, dt_dense(dt_gelu(dt_dense(x, (dt_dense_options){.channels = 48})),
                           (dt_dense_options){.channels = 24}));
    x = dt_dense(x, (dt_dense_options){.channels = WORDS});
    dt_expose(x, "logits");
    dt_loss("cross_entropy", x, next, (dt_loss_options){0});
    OK(dt_net_status(net));
    return net;
}

/* After the end of a text the song, its end, and nothing. */
static void learn(dt_run *run, dt_net *net, int steps) {
    int32_t tokens[BATCH * PLACES], label[BATCH * PLACES];
    const int n = (int)strlen(song);
    for (int i = 0; i < BATCH * PLACES; i++) {
        const int t = i % PLACES;
        tokens[i] = t == 0 ? 256 : t <= n ? (uint8_t)song[t - 1] : 0;
        label[i] = t < n ? (uint8_t)song[t] : t == n ? 256 : -1;
    }
    dt_tensor *a, *b;
    OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(BATCH, PLACES), tokens, &a));
    OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(BATCH, PLACES), label, &b));
    OK(dt_net_set(net, "tokens", a));
    OK(dt_net_set(net, "label", b));
    for (int i = 0; i < steps; i++) OK(dt_net_step(net));
    dt_tensor_free(a), dt_tensor_free(b);
}

/* Up to its end, or so many tokens; how many came. */
static int go_on(dt_sampler *s, char *out, int most) {
    int32_t token = 0;
    const char *piece;
    int n = 0;
    out[0] = 0;
    while (n < most) {
        OK(dt_sampler_next(s, &token, &piece));
        strcat(out, piece);
        if (token < 0) break;
        assert_in_range(token, 0, 256);
        n++;
    }
    return n;
}

static void by_heart(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_net *net = make(run, true);
    dt_sampler *likeliest, *drawn, *again;
    char text[512], other[512];
    const char *piece;
    int32_t token;
    learn(run, net, 1);
    OK(dt_sampler_open(net, (dt_sampler_options){.likeliest = true}, &likeliest));
    OK(dt_sampler_open(net, (dt_sampler_options){.temperature = 1.5, .seed = 4}, &drawn));
    OK(dt_sampler_open(net, (dt_sampler_options){.temperature = 1.5, .seed = 4}, &again));
    FAILS(DT_ERR_USAGE, "no text was begun", dt_sampler_next(likeliest, &token, &piece));
    OK(dt_sampler_prompt(likeliest, "", 0));
    (void)go_on(likeliest, text, 100);
    assert_string_not_equal(text, song);
    learn(run, net, 150); /* the sampler sees it */
    OK(dt_sampler_prompt(likeliest, "", 0));
    assert_int_equal(go_on(likeliest, text, 100), strlen(song));
    assert_string_equal(text, song);
    OK(dt_sampler_next(likeliest, &token, &piece)); /* it stays at its end */
    assert_true(token == -1 && piece[0] == 0);
    OK(dt_sampler_prompt(drawn, "x", 1));
    OK(dt_sampler_prompt(again, "x", 1));
    (void)go_on(drawn, text, 100);
    (void)go_on(again, other, 100);
    assert_string_equal(text, other);
    /* A character comes with its last byte. */
    OK(dt_sampler_prompt(likeliest, "", 0));
    for (int i = 0; song[i]; i++) {
        const unsigned char c = (unsigned char)song[i];
        OK(dt_sampler_next(likeliest, &token, &piece));
        assert_int_equal(token, c);
        assert_int_equal(strlen(piece), c < 0x80 ? 1 : c < 0xC0 ? 2 : 0);
    }
    /* The network may go first. */
    dt_net_free(net);
    OK(dt_sampler_next(likeliest, &token, &piece));
    dt_sampler_free(likeliest), dt_sampler_free(likeliest), dt_sampler_free(drawn), dt_sampler_free(NULL);
    FAILS(DT_ERR_USAGE, "sampler", dt_sampler_next(likeliest, &token, &piece));
    dt_sampler_free(again);
    dt_run_close(run);
}

static void limits(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_net *net = make(run, true), *ahead = make(run, false);
    dt_sampler *s, *window;
    char text[4096], *long_text = text;
    const char *piece;
    int32_t token;
    memset(text, 'a', sizeof text);
    OK(dt_sampler_open(net, (dt_sampler_options){.no_stop = true}, &s));
    OK(dt_sampler_open(net, (dt_sampler_options){.no_stop = true, .window = true}, &window));
    OK(dt_sampler_prompt(s, "abc", 3));
    FAILS(DT_ERR_USAGE, "25 tokens of prompt", dt_sampler_prompt(s, long_text, PLACES + 1));
    char out[4096];
    assert_int_equal(go_on(s, out, 1000), PLACES - 3); /* as many as there is room for */
    OK(dt_sampler_prompt(window, long_text, 300));
    assert_int_equal(go_on(window, out, 100), 100);
    FAILS(DT_ERR_USAGE, "NULL", dt_sampler_prompt(s, NULL, 1));
    FAILS(DT_ERR_USAGE, "NULL", dt_sampler_next(s, NULL, &piece));
    FAILS(DT_ERR_USAGE, "NULL", dt_sampler_next(s, &token, NULL));
    dt_sampler_free(s), dt_sampler_free(window);
    FAILS(DT_ERR_UNSUPPORTED, "not causal", dt_sampler_open(ahead, (dt_sampler_options){0}, &s));
    assert_null(s);
    FAILS(DT_ERR_UNSUPPORTED, "\"words\"", dt_sampler_open(net, (dt_sampler_options){.tokens = "words"}, &s));
    FAILS(DT_ERR_UNSUPPORTED, "\"out\"", dt_sampler_open(net, (dt_sampler_options){.logits = "out"}, &s));
    FAILS(DT_ERR_DATA, "/nowhere", dt_sampler_open(net, (dt_sampler_options){.text = "/nowhere"}, &s));
    FAILS(DT_ERR_USAGE, "NULL", dt_sampler_open(NULL, (dt_sampler_options){0}, &s));
    FAILS(DT_ERR_USAGE, "NULL", dt_sampler_open(net, (dt_sampler_options){0}, NULL));
    dt_net_free(net), dt_net_free(ahead);
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_heart), cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
