/* Recurrent networks of text. The language models have the names of PyTorch's word_language_model: encoder, rnn, decoder;
 * every sample begins with states of 0. */
#include "net_text.h"

#include "core/op.h"

static int64_t hidden_of(int64_t channels) {
    return channels;
}

/* U(-0.1, 0.1), whatever its shape. */
static void init_even(const dt_builder *b, const char *name) {
    const dt_vid v = b->status == DT_OK ? dt_graph_find(b->g, name) : -1;
    if (v < 0) return;
    b->g->value[v].init = DT_INIT_UNIFORM_FAN_IN;
    b->g->value[v].fan_in = 100;
}

static void init_zero(const dt_builder *b, const char *name) {
    const dt_vid v = b->status == DT_OK ? dt_graph_find(b->g, name) : -1;
    if (v >= 0) b->g->value[v].init = DT_INIT_ZERO;
}

static dt_vid dropped(const dt_text_net *n, const char *name, dt_vid x) {
    return n->dropout > 0 ? dt_build_dropout(n->b, name, x, n->dropout) : x;
}

static dt_vid language(dt_builder *b, dt_vid x, const dt_model_options *o, const void *shape,
                       dt_recurrent_kind kind) {
    static const char *const tasks[] = {"language", NULL};
    dt_text_net n;
    dt_text_open(&n, b, x, o, shape, hidden_of, tasks);
    if (b->status == DT_OK && o->tied && n.hidden != n.channels)
        b->status = dt_fail(DT_ERR_CONFIG,
                            "model.tied needs model.hidden = model.channels, and they are %lld and %lld",
                            (long long)n.hidden, (long long)n.channels);
    x = dt_build_embedding(b, "encoder", n.tokens,
                           &(dt_embedding_options){.rows = n.vocab, .channels = n.channels});
    const dt_build_recurrent_inputs in = {.x = dropped(&n, "drop", x), .lengths = -1, .h0 = -1, .c0 = -1};
    x = dt_build_recurrent(
        b, "rnn", kind, &in,
        &(dt_recurrent_options){.hidden = n.hidden, .layers = n.blocks, .dropout = n.dropout}, NULL);
    x = dropped(&n, "drop_out", x);
    x = o->tied ? dt_build_tied_with(b, "decoder", x, "encoder", true)
                : dt_build_dense(b, "decoder", x, n.vocab, true);
    init_even(b, "encoder.weight");
    init_even(b, "decoder.weight");
    init_zero(b, "decoder.bias");
    return x;
}

dt_vid dt_net_lstm_lm(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o,
                      const void *shape) {
    (void)outputs;
    return language(b, x, o, shape, DT_LSTM);
}

dt_vid dt_net_gru_lm(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    (void)outputs;
    return language(b, x, o, shape, DT_GRU);
}

/* Both ways over the text, a dense layer over where they end. */
dt_vid dt_net_lstm_classifier(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o,
                              const void *shape) {
    static const char *const tasks[] = {"classify", NULL};
    dt_text_net n;
    dt_text_open(&n, b, x, o, shape, hidden_of, tasks);
    x = dt_build_embedding(b, "embedding", n.tokens,
                           &(dt_embedding_options){.rows = n.vocab, .channels = n.channels});
    const dt_build_recurrent_inputs in = {
        .x = dropped(&n, "drop", x), .lengths = dt_text_field(&n, "lengths"), .h0 = -1, .c0 = -1};
    x = dt_build_recurrent(b, "lstm", DT_LSTM, &in,
                           &(dt_recurrent_options){.hidden = n.hidden,
                                                   .layers = n.blocks,
                                                   .dropout = n.dropout,
                                                   .bidirectional = true,
                                                   .last = true},
                           NULL);
    return dt_build_dense(b, "fc", dropped(&n, "drop_out", x), classes, true);
}
