/* BERT (Devlin et al. 2018). Names are those of Hugging Face's BertForMaskedLM and, to classify,
 * BertForSequenceClassification. */
#include "net_text.h"

#include <stdio.h>
#include <string.h>

#include "core/op.h"
#include "model/task.h"

static const dt_norm_options norm = {.eps = 1e-12};

static int64_t hidden_of(int64_t channels) {
    return 4 * channels;
}

static dt_vid unary(dt_builder *b, const char *name, dt_vid x, dt_unary f) {
    return dt_build_op(b, name, DT_OP_UNARY, &(dt_attr){.unary.fn = f}, 1, &x);
}

/* Words, which of two texts each is of (the field "token_type", else the first), and their places. */
static dt_vid embed(dt_text_net *n) {
    static const char type[] = "bert.embeddings.token_type_embeddings";
    dt_builder *b = n->b;
    const dt_vid types = dt_text_field(n, "token_type");
    const dt_embedding_options two = {.rows = 2, .channels = n->channels};
    dt_vid x = dt_build_embedding(b, "bert.embeddings.word_embeddings", n->tokens,
                                  &(dt_embedding_options){.rows = n->vocab, .channels = n->channels});
    dt_vid y = -1;
    if (types >= 0) {
        y = dt_build_embedding(b, type, types, &two);
    } else if (b->status == DT_OK) {
        b->status = dt_graph_add_value(b->g, dt_text_join(type, ".weight").s, DT_ROLE_PARAM, b->g->compute, 2,
                                       (int64_t[]){two.rows, two.channels}, &y);
        if (b->status == DT_OK) b->g->value[y].decay = true;
        y = dt_build_op(b, type, DT_OP_SLICE, &(dt_attr){.shape = {.axis = 0, .length = 1}}, 1, &y);
    }
    x = dt_build_op(b, "bert.embeddings.words", DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_ADD}, 2,
                    (dt_vid[]){x, y});
    x = dt_build_position(b, "bert.embeddings.position_embeddings", x,
                          &(dt_position_options){.rows = n->positions});
    x = dt_build_layernorm(b, "bert.embeddings.LayerNorm", x, &norm);
    return n->dropout > 0 ? dt_build_dropout(b, "bert.embeddings.dropout", x, n->dropout) : x;
}

static dt_vid block(dt_text_net *n, int64_t i, dt_vid lengths, dt_vid x) {
    static const dt_attention_names names = {
        .q = "self.query.", .k = "self.key.", .v = "self.value.", .out = "output.dense."};
    const dt_attention_options o = {.heads = n->heads, .dropout = n->dropout};
    const dt_build_attention_inputs in = {.x = x, .context = -1, .lengths = lengths, .segments = -1};
    dt_builder *b = n->b;
    char at[DT_NAME_MAX];
    snprintf(at, sizeof at, "bert.encoder.layer.%lld.", (long long)i);
    x = dt_text_residual(n, at, "add_1", x,
                         dt_build_attention(b, dt_text_join(at, "attention").s, &in, &o, &names));
    x = dt_build_layernorm(b, dt_text_join(at, "attention.output.LayerNorm").s, x, &norm);
    dt_vid y = dt_build_dense(b, dt_text_join(at, "intermediate.dense").s, x, n->hidden, true);
    y = unary(b, dt_text_join(at, "intermediate.act").s, y, DT_UNARY_GELU);
    y = dt_build_dense(b, dt_text_join(at, "output.dense").s, y, n->channels, true);
    x = dt_text_residual(n, at, "add_2", x, y);
    return dt_build_layernorm(b, dt_text_join(at, "output.LayerNorm").s, x, &norm);
}

/* A word for each place. */
static dt_vid head_of_words(dt_text_net *n, dt_vid x) {
    dt_builder *b = n->b;
    x = dt_build_dense(b, "cls.predictions.transform.dense", x, n->channels, true);
    x = unary(b, "cls.predictions.transform.act", x, DT_UNARY_GELU);
    x = dt_build_layernorm(b, "cls.predictions.transform.LayerNorm", x, &norm);
    return dt_build_tied_with(b, "cls.predictions", x, "bert.embeddings.word_embeddings", true);
}

/* A class for the whole, read off its first place. */
static dt_vid head_of_classes(dt_text_net *n, int64_t classes, dt_vid x) {
    dt_builder *b = n->b;
    const int64_t rows = b->rows;
    const dt_attr first = {.shape = {.axis = 1, .length = 1}},
                  flat = {.reshape = {.ndim = 2, .dim = {rows, n->channels}}};
    x = dt_build_op(b, "bert.pooler.first", DT_OP_SLICE, &first, 1, &x);
    x = dt_build_op(b, "bert.pooler.row", DT_OP_RESHAPE, &flat, 1, &x);
    x = dt_build_dense(b, "bert.pooler.dense", x, n->channels, true);
    x = unary(b, "bert.pooler", x, DT_UNARY_TANH);
    if (n->dropout > 0) x = dt_build_dropout(b, "dropout", x, n->dropout);
    return dt_build_dense(b, "classifier", x, classes, true);
}

dt_vid dt_net_bert(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    static const char *const tasks[] = {"masked_language", "classify", NULL}, *const none[] = {NULL};
    dt_text_net n;
    dt_text_open(&n, b, x, o, shape, hidden_of, tasks);
    const dt_vid lengths = dt_text_field(&n, "lengths");
    x = embed(&n);
    for (int64_t i = 0; i < n.blocks; i++) x = block(&n, i, lengths, x);
    x = dt_task_of(o)->classes ? head_of_classes(&n, outputs, x) : head_of_words(&n, x);
    dt_text_init(&n, 0.02, none);
    return x;
}
