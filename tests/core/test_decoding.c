/* A network that goes on place by place says at each what it says of the whole text at once, for every kind of layer that
 * looks back; texts of a batch do not touch each other; what cannot go on is refused by name. */
#include "core/compile.h"
#include "core/decoding.h"
#include "graph_program.h"
#include "model/builder.h"

enum { ROWS = 3, PLACES = 45, WORDS = 23, WIDE = 24 };

typedef struct net {
    const char *name;
    dt_attention_options attention; /* heads 0: none */
    bool learnt, waves, turned; /* positions: a table, waves that are added, pairs turned before the head */
    int64_t rows;               /* of the table; 0: the places */
    int recurrent;              /* 1 + kind; 0: none */
    int64_t layers;
    bool segments, sliced, twice; /* twice: two blocks of attention */
} net;

static const net nets[] = {
    {"packed", {.heads = 4, .causal = true}, .learnt = true, .twice = true},
    {"a longer table", {.heads = 3, .causal = true}, .learnt = true, .rows = PLACES + 9},
    {"grouped queries", {.heads = 4, .kv_heads = 2, .causal = true}, .waves = true, .twice = true},
    {"one key head", {.heads = 6, .kv_heads = 1, .causal = true, .no_bias = true}, .learnt = true},
    {"window", {.heads = 2, .causal = true, .window = 7}, .learnt = true, .twice = true},
    {"rotary", {.heads = 4, .causal = true, .rotary = true}, .twice = true},
    {"rotary, grouped, normed, windowed",
     {.heads = 4,
      .kv_heads = 2,
      .head_size = 10,
      .causal = true,
      .rotary = true,
      .qk_norm = true,
      .window = 11},
     .twice = true},
    {"normed", {.heads = 3, .causal = true, .qk_norm = true}, .learnt = true},
    {"odd heads", {.heads = 2, .head_size = 5, .causal = true}, .turned = true},
    {"documents", {.heads = 4, .causal = true}, .learnt = true, .segments = true},
    {"lstm", .recurrent = 1 + DT_LSTM, .layers = 2},
    {"gru", .recurrent = 1 + DT_GRU, .layers = 1},
    {"rnn", .recurrent = 1 + DT_RNN_TANH, .layers = 3},
    {"rnn of ReLU", .recurrent = 1 + DT_RNN_RELU, .layers = 1},
    {"lstm and attention",
     {.heads = 4, .causal = true, .rotary = true},
     .recurrent = 1 + DT_LSTM,
     .layers = 1,
     .sliced = true},
};
enum { N_NET = sizeof nets / sizeof *nets };

static const dt_field fields[] = {{"tokens", DT_DTYPE_I32, 1, {PLACES}},
                                  {"label", DT_DTYPE_I32, 1, {PLACES}},
                                  {"segment", DT_DTYPE_I32, 1, {PLACES}}};

static dt_vid block(dt_builder *b, const net *n, const char *name, dt_vid x) {
    char part[64];
    const dt_build_attention_inputs in = {
        .x = dt_build_layernorm(b, (snprintf(part, sizeof part, "%s.ln", name), part), x, NULL),
        .context = -1,
        .lengths = -1,
        .segments = n->segments ? dt_build_input_as(b, "segment", DT_DTYPE_I32) : -1};
    snprintf(part, sizeof part, "%s.attention", name);
    const dt_vid y = dt_build_attention(b, part, &in, &n->attention, NULL);
    snprintf(part, sizeof part, "%s.sum", name);
    return dt_build_add(b, part, x, y);
}

/* For evaluation the head begins with two thirds of what it reads, where the row says so. */
static dt_graph *build(const net *n, int64_t rows, bool training) {
    dt_builder b = {.rows = rows, .field = fields, .n_field = 3};
    check_ok(dt_graph_create(&b.g, DT_DTYPE_F32, training));
    dt_vid x = dt_build_embedding(&b, "wte", dt_build_input_as(&b, "tokens", DT_DTYPE_I32),
                                  &(dt_embedding_options){.rows = WORDS, .channels = WIDE, .std = 0.5});
    if (n->learnt || n->waves)
        x = dt_build_position(
            &b, "wpe", x,
            &(dt_position_options){
                .kind = n->waves ? DT_POSITION_SINUSOIDAL : DT_POSITION_LEARNT, .rows = n->rows, .std = 0.5});
    if (n->recurrent)
        x = dt_build_recurrent(&b, "walk", (dt_recurrent_kind)(n->recurrent - 1),
                               &(dt_build_recurrent_inputs){.x = x, .lengths = -1, .h0 = -1, .c0 = -1},
                               &(dt_recurrent_options){.hidden = WIDE, .layers = n->layers}, NULL);
    if (n->attention.heads) x = block(&b, n, "first", x);
    if (n->twice) x = block(&b, n, "second", x);
    if (n->turned) x = dt_build_rotary(&b, "turn", x, &(dt_rotary_options){.heads = 3});
    if (n->sliced)
        x = dt_build_op(&b, "part", DT_OP_SLICE, &(dt_attr){.shape = {.axis = 2, .begin = 4, .length = 16}},
                        1, &x);
    x = dt_build_rmsnorm(&b, "norm", x, NULL);
    x = dt_build_dense(&b, "head", x, WORDS, true);
    dt_build_loss(&b, x, NULL);
    dt_build_output(&b, "logits", x);
    check_ok(b.status);
    return b.g;
}

typedef struct rig {
    dt_backend *be;
    dt_axis *axis;
    live whole; /* rows x PLACES at once */
    dt_graph *forward;
} rig;

static rig rig_open(const net *n, int32_t threads) {
    rig r = {0};
    check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = threads}, &r.be));
    const dt_compile_options c = {.be = r.be, .axis = {.n_bucket = 1}};
    check_ok(dt_compile(build(n, ROWS, true), &c, &r.axis, NULL));
    dt_graph *g = build(n, ROWS, false);
    check_ok(dt_axis_assign(r.axis, g));
    r.whole = live_open(r.be, r.axis, g, NULL);
    r.forward = build(n, 1, false);
    return r;
}

static void rig_close(rig *r) {
    live_close(&r->whole);
    dt_graph_destroy(r->forward);
    dt_axis_destroy(r->axis);
    r->be->destroy(r->be);
}

static dt_decoding *decoder(const rig *r, int64_t rows, int64_t capacity) {
    dt_decoding *d;
    const dt_decoding_options o = {.store = r->whole.store,
                                   .forward = r->forward,
                                   .tokens = "tokens",
                                   .output = "logits",
                                   .rows = rows,
                                   .capacity = capacity,
                                   .fuse = true};
    check_ok(dt_decoding_create(&o, &d));
    return d;
}

static int32_t token_at(int64_t row, int64_t t) {
    return (int32_t)((row * 31 + t * t * 7 + t) % WORDS);
}

/* Logits of the whole text, [ROWS, PLACES, WORDS]. */
static const float *run_whole(rig *r) {
    dt_program *p = r->whole.program;
    int32_t *tokens = dt_program_address(p, dt_graph_input(p->graph, "tokens"));
    const dt_vid segment = dt_graph_input(p->graph, "segment"), label = dt_graph_input(p->graph, "label");
    for (int64_t i = 0; i < ROWS * PLACES; i++) tokens[i] = token_at(i / PLACES, i % PLACES);
    memset(dt_program_address(p, label), 0, ROWS * PLACES * sizeof(int32_t));
    if (segment >= 0) memset(dt_program_address(p, segment), 0, ROWS * PLACES * sizeof(int32_t));
    check_ok(dt_program_run(p, NULL, NULL));
    return dt_program_address(p, dt_graph_output(p->graph, "logits"));
}

static double distance(const float *got, const float *want) {
    double a[WORDS], b[WORDS];
    for (int i = 0; i < WORDS; i++) a[i] = (double)got[i], b[i] = (double)want[i];
    return check_distance(a, b, WORDS);
}

static void expect(const net *n, const float *logits, const float *whole, int64_t row, int64_t place,
                   const char *how) {
    const double d = distance(logits + row * WORDS, whole + (row * PLACES + place) * WORDS);
    if (!(d < 1e-5))
        fail_msg("%s, %s: place %lld of text %lld is off by %.2g", n->name, how, (long long)place,
                 (long long)row, d);
}

/* Reads places [from, to) of every row. */
static const float *read_to(dt_decoding *d, int64_t rows, const int64_t *from, const int64_t *to) {
    int32_t token[ROWS][PLACES + 1];
    const int32_t *at[ROWS];
    int64_t n[ROWS];
    const float *logits;
    for (int64_t r = 0; r < rows; r++) {
        n[r] = to[r] - from[r];
        for (int64_t t = from[r]; t < to[r]; t++) token[r][t - from[r]] = token_at(r, t);
        at[r] = token[r];
    }
    check_ok(dt_decoding_read(d, at, n, &logits));
    return logits;
}

static void test_every_place(void **state) {
    (void)state;
    for (int i = 0; i < N_NET; i++) {
        rig r = rig_open(&nets[i], 1);
        const float *whole = run_whole(&r);
        dt_decoding *d = decoder(&r, ROWS, 0);
        assert_int_equal(dt_decoding_words(d), WORDS);
        assert_true(dt_decoding_capacity(d) == (nets[i].attention.heads ? PLACES : INT64_MAX));
        for (int64_t t = 0; t < PLACES; t++) {
            const float *y = read_to(d, ROWS, (int64_t[]){t, t, t}, (int64_t[]){t + 1, t + 1, t + 1});
            for (int64_t k = 0; k < ROWS; k++) expect(&nets[i], y, whole, k, t, "one by one");
        }
        /* Prompts of every length, of each row another; then one, then the rest. */
        for (int64_t t = 1; t < PLACES; t++) {
            const int64_t zero[] = {0, 0, 0}, first[] = {t, t * 7 % PLACES, t * 3 % PLACES},
                          last[] = {PLACES, PLACES, PLACES};
            int64_t next[ROWS];
            for (int64_t k = 0; k < ROWS; k++)
                check_ok(dt_decoding_reset(d, k)), next[k] = first[k] + (first[k] < PLACES);
            const float *y = read_to(d, ROWS, zero, first);
            for (int64_t k = 0; k < ROWS; k++)
                if (first[k] > 0) expect(&nets[i], y, whole, k, first[k] - 1, "a prompt");
            y = read_to(d, ROWS, first, next);
            for (int64_t k = 0; k < ROWS; k++)
                if (next[k] > first[k]) expect(&nets[i], y, whole, k, next[k] - 1, "one after it");
            y = read_to(d, ROWS, next, last);
            for (int64_t k = 0; k < ROWS; k++)
                if (next[k] < PLACES) expect(&nets[i], y, whole, k, PLACES - 1, "the rest");
        }
        dt_decoding_destroy(d);
        rig_close(&r);
    }
}

/* The same bits alone as in company, on one thread as on two. */
static void test_rows_are_apart(void **state) {
    (void)state;
    for (int i = 0; i < N_NET; i++) {
        static const int64_t zero[ROWS], first[] = {33, 1, 14}, then[] = {34, 5, 14}, last[] = {40, 6, 15};
        rig r = rig_open(&nets[i], 1), two = rig_open(&nets[i], 2);
        float kept[3][ROWS][WORDS];
        dt_decoding *d = decoder(&r, ROWS, 0), *also = decoder(&two, ROWS, 0);
        const int64_t *const stop[] = {zero, first, then, last};
        for (int k = 0; k < 3; k++) {
            memcpy(kept[k], read_to(d, ROWS, stop[k], stop[k + 1]), sizeof kept[k]);
            const float *y = read_to(also, ROWS, stop[k], stop[k + 1]);
            if (memcmp(y, kept[k], sizeof kept[k]) != 0)
                fail_msg("%s: two threads give other bits", nets[i].name);
        }
        dt_decoding_destroy(d);
        dt_decoding_destroy(also);
        for (int64_t row = 0; row < ROWS; row++) {
            dt_decoding *alone = decoder(&r, 1, 0);
            for (int k = 0; k < 3; k++) {
                int32_t token[PLACES];
                const int64_t n = stop[k + 1][row] - stop[k][row];
                const float *y;
                for (int64_t t = 0; t < n; t++) token[t] = token_at(row, stop[k][row] + t);
                check_ok(dt_decoding_read(alone, (const int32_t *const[]){token}, &n, &y));
                if (n > 0 && memcmp(y, kept[k][row], sizeof kept[k][row]) != 0)
                    fail_msg("%s: text %lld alone gives other bits", nets[i].name, (long long)row);
            }
            dt_decoding_destroy(alone);
        }
        rig_close(&r);
        rig_close(&two);
    }
}

/* A row that is begun anew forgets, and leaves the others alone. */
static void test_reset(void **state) {
    (void)state;
    for (int i = 0; i < N_NET; i++) {
        rig r = rig_open(&nets[i], 1);
        dt_decoding *d = decoder(&r, ROWS, 0);
        float kept[ROWS][WORDS];
        const int64_t zero[ROWS] = {0}, some[] = {9, 9, 9}, more[] = {9, 12, 9};
        (void)read_to(d, ROWS, zero, some);
        memcpy(kept, read_to(d, ROWS, some, more), sizeof kept);
        for (int64_t k = 0; k < ROWS; k++) check_ok(dt_decoding_reset(d, k));
        (void)read_to(d, ROWS, zero, some);
        check_ok(dt_decoding_reset(d, 0));
        assert_int_equal(dt_decoding_length(d, 0), 0);
        assert_int_equal(dt_decoding_length(d, 1), 9);
        const float *y = read_to(d, ROWS, (int64_t[]){0, 9, 9}, (int64_t[]){4, 12, 9});
        if (memcmp(y + WORDS, kept[1], sizeof kept[1]) != 0)
            fail_msg("%s: a row felt the other's end", nets[i].name);
        check_ok(dt_decoding_reset(d, 2));
        memcpy(kept, y, sizeof kept);
        const int32_t *at[ROWS];
        int32_t token[4];
        for (int64_t t = 0; t < 4; t++) token[t] = token_at(0, t);
        for (int k = 0; k < ROWS; k++) at[k] = token;
        check_ok(dt_decoding_read(d, at, (int64_t[]){0, 0, 4}, &y));
        if (memcmp(y + 2 * WORDS, kept[0], sizeof kept[0]) != 0)
            fail_msg("%s: a row remembers", nets[i].name);
        dt_decoding_destroy(d);
        rig_close(&r);
    }
}

static void test_limits(void **state) {
    (void)state;
    rig r = rig_open(&nets[0], 1);
    dt_decoding *d = decoder(&r, 1, 0), *none;
    int32_t token[PLACES + 1] = {0};
    const int32_t *at[] = {token};
    const float *y;
    CHECK_ERROR(dt_decoding_read(d, at, (int64_t[]){PLACES + 1}, &y), DT_ERR_USAGE, "text 0", "46",
                "room for 45");
    token[2] = WORDS;
    CHECK_ERROR(dt_decoding_read(d, at, (int64_t[]){3}, &y), DT_ERR_DATA, "token 23", "0 to 22");
    token[2] = -1;
    CHECK_ERROR(dt_decoding_read(d, at, (int64_t[]){3}, &y), DT_ERR_DATA, "token -1");
    assert_int_equal(dt_decoding_length(d, 0), 0);
    check_ok(dt_decoding_read(d, at, (int64_t[]){2}, &y));
    CHECK_ERROR(dt_decoding_read(d, at, (int64_t[]){PLACES - 1}, &y), DT_ERR_USAGE, "44");
    dt_decoding_destroy(d);
    dt_decoding_options o = {.store = r.whole.store,
                             .forward = r.forward,
                             .tokens = "tokens",
                             .output = "logits",
                             .rows = 1,
                             .capacity = PLACES + 1};
    CHECK_ERROR(dt_decoding_create(&o, &none), DT_ERR_CONFIG, "46", "45");
    assert_null(none);
    rig_close(&r);
}

static dt_vid join_places(dt_builder *b, dt_vid x) {
    return dt_build_reduce(b, "mean", x, DT_REDUCE_MEAN, 1);
}
static dt_vid both_ways(dt_builder *b, dt_vid x) {
    return dt_build_recurrent(b, "walk", DT_GRU,
                              &(dt_build_recurrent_inputs){.x = x, .lengths = -1, .h0 = -1, .c0 = -1},
                              &(dt_recurrent_options){.hidden = 8, .layers = 1, .bidirectional = true}, NULL);
}
static dt_vid last_state(dt_builder *b, dt_vid x) {
    return dt_build_recurrent(b, "walk", DT_GRU,
                              &(dt_build_recurrent_inputs){.x = x, .lengths = -1, .h0 = -1, .c0 = -1},
                              &(dt_recurrent_options){.hidden = 8, .layers = 1, .last = true}, NULL);
}
static dt_vid sees_all(dt_builder *b, dt_vid x) {
    return dt_build_attention(
        b, "look", &(dt_build_attention_inputs){.x = x, .context = -1, .lengths = -1, .segments = -1},
        &(dt_attention_options){.heads = 2}, NULL);
}
static dt_vid turned_about(dt_builder *b, dt_vid x) {
    const dt_attr t = {.transpose = {.ndim = 3, .perm = {0, 2, 1}}};
    x = dt_build_op(b, "turn", DT_OP_TRANSPOSE, &t, 1, &x);
    return dt_build_op(b, "back", DT_OP_TRANSPOSE, &t, 1, &x);
}
static dt_vid other_field(dt_builder *b, dt_vid x) {
    return dt_build_add(b, "sum", x,
                        dt_build_embedding(b, "more", dt_build_input_as(b, "segment", DT_DTYPE_I32),
                                           &(dt_embedding_options){.rows = 4, .channels = 8}));
}
static dt_vid grouped(dt_builder *b, dt_vid x) {
    return dt_build_groupnorm(b, "norm", x, &(dt_norm_options){.groups = 2});
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        dt_vid (*build)(dt_builder *b, dt_vid x);
        const char *what, *why;
    } rows[] = {{join_places, "mean", ""},
                {both_ways, "walk", "backwards"},
                {last_state, "walk", "not numbers for each place"},
                {sees_all, "look", "not causal"},
                {turned_about, "turn", "turns the places"},
                {other_field, "segment", "reads the field"},
                {grouped, "norm", "looks along the text"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        dt_builder b = {.rows = 2, .field = fields, .n_field = 3};
        dt_graph *out;
        check_ok(dt_graph_create(&b.g, DT_DTYPE_F32, false));
        dt_vid x = dt_build_embedding(&b, "wte", dt_build_input_as(&b, "tokens", DT_DTYPE_I32),
                                      &(dt_embedding_options){.rows = WORDS, .channels = 8});
        x = rows[i].build(&b, x);
        dt_build_output(&b, "logits", x);
        check_ok(b.status);
        CHECK_ERROR(dt_decode_graph(b.g, &(dt_decode_options){"tokens", "logits", 2, 1, 9}, NULL, &out),
                    DT_ERR_UNSUPPORTED, rows[i].what, rows[i].why);
        assert_null(out);
        dt_graph_destroy(b.g);
    }
}

/* Nothing is computed of places but the last that nobody asks for. */
static void test_last_place_alone(void **state) {
    (void)state;
    dt_graph *g = build(&nets[0], 2, false), *out;
    check_ok(dt_decode_graph(g, &(dt_decode_options){"tokens", "logits", 2, 8, PLACES}, NULL, &out));
    check_ok(dt_graph_validate(out));
    const dt_value *head = &out->value[dt_graph_find(out, "head")],
                   *norm = &out->value[dt_graph_find(out, "norm")];
    assert_true(head->dim[1] == 1 && norm->dim[1] == 1);
    assert_true(out->value[dt_graph_find(out, "second.sum")].dim[1] == 8);
    assert_int_equal(dt_graph_find(out, "loss"), -1);
    dt_graph_destroy(out);
    dt_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_place), cmocka_unit_test(test_rows_are_apart),
        cmocka_unit_test(test_reset),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_last_place_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
