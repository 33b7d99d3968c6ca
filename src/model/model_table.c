/* The table of models. */
#include "model/model_table.h"

#include <string.h>

#include "core/text.h"
#include "model/model.h"
#include "nets.h"

#define RESNET(bottleneck_, ...)                                                                             \
    dt_net_resnet, &(const dt_resnet_shape) {                                                                \
        .blocks = {__VA_ARGS__}, .bottleneck = bottleneck_                                                   \
    }
/* Of text. */
#define SHAPE(...)                                                                                           \
    &(const dt_text_shape) {                                                                                 \
        __VA_ARGS__                                                                                          \
    }
#define HEADS_OF_64(blocks_, channels_)                                                                      \
    SHAPE(.blocks = blocks_, .channels = channels_, .heads = channels_ / 64)
#define GPT2(M, name, blocks, channels)                                                                      \
    M(name, dt_net_gpt2, HEADS_OF_64(blocks, channels), TEXT, "transformers GPT2LMHeadModel", 1024, 50257,   \
      50257)
#define LLAMA(M, name, context, vocab, ...)                                                                  \
    M(name, dt_net_llama, SHAPE(__VA_ARGS__, .theta = 1e4), TEXT, "transformers LlamaForCausalLM", context,  \
      vocab, vocab)
#define BERT(M, name, blocks, channels)                                                                      \
    M(name, dt_net_bert, HEADS_OF_64(blocks, channels), DT_READS_TOKENS, "masked_language",                  \
      "transformers BertForMaskedLM", 512, 30522, 30522)
#define TEXT DT_READS_TOKENS, "language"
/* What a row of images has in common. */
#define IMAGES DT_READS_IMAGES, "classify"

/* name, builder and shape, what it reads and for which task, reference, input, depth, outputs */
#define MODELS(M)                                                                                            \
    M("quickstart", dt_net_quickstart, NULL, IMAGES, "dtrain's own", 28, 1, 10)                              \
    M("resnet18", RESNET(false, 2, 2, 2, 2), IMAGES, "torchvision resnet18", 224, 3, 1000)                   \
    M("resnet34", RESNET(false, 3, 4, 6, 3), IMAGES, "torchvision resnet34", 224, 3, 1000)                   \
    M("resnet50", RESNET(true, 3, 4, 6, 3), IMAGES, "torchvision resnet50", 224, 3, 1000)                    \
    GPT2(M, "gpt2", 12, 768)                                                                                 \
    GPT2(M, "gpt2_medium", 24, 1024)                                                                         \
    GPT2(M, "gpt2_large", 36, 1280)                                                                          \
    GPT2(M, "gpt2_xl", 48, 1600)                                                                             \
    LLAMA(M, "llama_15m", 256, 32000, .blocks = 6, .channels = 288, .heads = 6)                              \
    LLAMA(M, "llama_42m", 1024, 32000, .blocks = 8, .channels = 512, .heads = 8)                             \
    LLAMA(M, "llama_110m", 1024, 32000, .blocks = 12, .channels = 768, .heads = 12)                          \
    LLAMA(M, "smollm_135m", 2048, 49152, .blocks = 30, .channels = 576, .heads = 9, .kv_heads = 3)           \
    LLAMA(M, "smollm_360m", 2048, 49152, .blocks = 32, .channels = 960, .heads = 15, .kv_heads = 5)          \
    LLAMA(M, "tinyllama_1b", 2048, 32000, .blocks = 22, .channels = 2048, .heads = 32, .kv_heads = 4,        \
          .hidden = 5632, .untied = true)                                                                    \
    BERT(M, "bert_tiny", 2, 128)                                                                             \
    BERT(M, "bert_mini", 4, 256)                                                                             \
    BERT(M, "bert_small", 4, 512)                                                                            \
    BERT(M, "bert_base", 12, 768)                                                                            \
    BERT(M, "bert_large", 24, 1024)                                                                          \
    M("lstm_lm", dt_net_lstm_lm, SHAPE(.blocks = 2, .channels = 200), TEXT,                                  \
      "PyTorch examples word_language_model", 35, 33278, 33278)                                              \
    M("gru_lm", dt_net_gru_lm, SHAPE(.blocks = 2, .channels = 200), TEXT,                                    \
      "PyTorch examples word_language_model", 35, 33278, 33278)                                              \
    M("lstm_classifier", dt_net_lstm_classifier, SHAPE(.blocks = 1, .channels = 128), DT_READS_TOKENS,       \
      "classify", "torch.nn Embedding, LSTM, Linear", 256, 10000, 2)                                         \
    M("layers", dt_net_layers, NULL, DT_READS_FIELDS, "classify", "[[model.layers]]", 0, 0, 0)

#define ROW(...)        {__VA_ARGS__},
#define NAME(name, ...) name,
const dt_model_row dt_model_table[] = {MODELS(ROW)};
const char *const dt_model_choices[] = {MODELS(NAME) NULL};
enum { N_MODEL = sizeof dt_model_table / sizeof dt_model_table[0] };
const int dt_model_count = N_MODEL;

const dt_model_row *dt_model_find(const char *name) {
    for (int i = 0; i < N_MODEL; i++)
        if (strcmp(dt_model_table[i].name, name) == 0) return &dt_model_table[i];
    return NULL;
}

dt_status dt_model_get(const char *name, const dt_model_row **out) {
    const char *near = dt_nearest_name(name, N_MODEL, dt_model_choices);
    *out = dt_model_find(name);
    if (*out) return DT_OK;
    return near ? dt_fail(DT_ERR_CONFIG, "there is no model \"%.64s\"; did you mean \"%s\"?", name, near)
                : dt_fail(DT_ERR_CONFIG, "there is no model \"%.64s\"; dtrain models lists all", name);
}

void dt_model_token_fields(const dt_task_row *task, int64_t steps, dt_field out[DT_TOKEN_FIELDS]) {
    out[0] = (dt_field){.name = "tokens", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {steps}};
    out[1] = (dt_field){.name = "label", .dtype = DT_DTYPE_I32, .ndim = task->tokens ? 1 : 0, .dim = {steps}};
}

dt_model_input dt_model_published(const dt_model_row *row, dt_field field[DT_TOKEN_FIELDS]) {
    dt_model_input in = {.batch = 1, .stddev = {1, 1, 1, 1}};
    if (row->reads == DT_READS_TOKENS) {
        const dt_task_row *task = &dt_task_table[dt_task_named(row->task)];
        dt_model_token_fields(task, row->input, field);
        in.field = field;
        in.n_field = DT_TOKEN_FIELDS;
        in.n_vocab = row->depth;
        in.classes = row->outputs;
        return in;
    }
    in.height = in.width = row->input;
    in.channels = in.padded_channels = row->depth;
    in.classes = row->outputs;
    return in;
}

static dt_status print_row(const dt_model_row *row, FILE *out) {
    dt_field field[DT_TOKEN_FIELDS];
    const dt_model_input in = dt_model_published(row, field);
    dt_model_options o;
    dt_graph *g;
    char input[48];
    dt_section_defaults(&dt_model_section, &o);
    o.task = dt_task_named(row->task);
    snprintf(o.name, sizeof o.name, "%s", row->name);
    if (row->reads != DT_READS_TOKENS)
        snprintf(input, sizeof input, "%lldx%lldx%lld", (long long)row->input, (long long)row->input,
                 (long long)row->depth);
    else
        snprintf(input, sizeof input, "%lld tokens", (long long)row->input);
    DT_TRY(dt_model_build(&o, &in, DT_DTYPE_F32, false, &g));
    fprintf(out, "%-20s %-12s %8lld %12lld %12s   %s\n", row->name, input, (long long)row->outputs,
            (long long)dt_model_n_param(g), dt_number_text(dt_model_flops(g)).s, row->reference);
    dt_graph_destroy(g);
    return DT_OK;
}

dt_status dt_model_print_all(FILE *out) {
    fprintf(out, "%-20s %-12s %8s %12s %12s   %s\n", "model", "input", "outputs", "parameters", "FLOP/sample",
            "reference");
    for (int i = 0; i < N_MODEL; i++)
        if (dt_model_table[i].input > 0) DT_TRY(print_row(&dt_model_table[i], out));
    return DT_OK;
}
