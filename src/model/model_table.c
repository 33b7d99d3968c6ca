/* The table of models. */
#include "model/model_table.h"

#include <string.h>

#include "core/text.h"
#include "model/model.h"
#include "nets.h"

#define RESNET(bottleneck_, groups_, width_, ...)                                                            \
    dt_net_resnet, &(const dt_resnet_shape) {                                                                \
        .bottleneck = bottleneck_, .groups = groups_, .group_width = width_, .blocks = { __VA_ARGS__ }       \
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
#define TEXT            DT_READS_TOKENS, "language"
#define BASIC(...)      RESNET(false, 1, 64, __VA_ARGS__)
#define BOTTLENECK(...) RESNET(true, 1, 64, __VA_ARGS__)
#define CONVNEXT(width_, drop_path_, ...)                                                                    \
    dt_net_convnext, &(const dt_convnext_shape) {                                                            \
        .width = width_, .drop_path = drop_path_, .blocks = { __VA_ARGS__ }                                  \
    }
#define VIT(patch_, layers_, heads_, width_, ...)                                                            \
    dt_net_vit, &(const dt_vit_shape) {                                                                      \
        .patch = patch_, .layers = layers_, .heads = heads_, .width = width_, __VA_ARGS__                    \
    }
#define TINY(patch, ...)  VIT(patch, 12, 3, 192, .timm = true, __VA_ARGS__)
#define SMALL(patch, ...) VIT(patch, 12, 6, 384, .timm = true, __VA_ARGS__)
#define BASE(patch, ...)  VIT(patch, 12, 12, 768, .timm = true, __VA_ARGS__)
#define LARGE(patch, ...) VIT(patch, 24, 16, 1024, .timm = true, __VA_ARGS__)

/* Stages: fused, expansion, kernel, stride, channels, layers. */
#define EFFICIENTNET(width_, depth_, dropout_, ...)                                                          \
    dt_net_efficientnet, &(const dt_efficientnet_shape) {                                                    \
        .stem = 32, .width = width_, .depth = depth_, .dropout = dropout_,                                   \
        .stage = {{false, 1, 3, 1, 16, 1}, {false, 6, 3, 2, 24, 2},  {false, 6, 5, 2, 40, 2},                \
                  {false, 6, 3, 2, 80, 3}, {false, 6, 5, 1, 112, 3}, {false, 6, 5, 2, 192, 4},               \
                  {false, 6, 3, 1, 320, 1}},                                                                 \
        __VA_ARGS__                                                                                          \
    }
#define SLOW_NORM .bn_eps = 1e-3, .bn_momentum = 0.01
#define EFFICIENTNET_V2(stem_, dropout_, ...)                                                                \
    dt_net_efficientnet, &(const dt_efficientnet_shape) {                                                    \
        .stem = stem_, .last = 1280, .width = 1, .depth = 1, .dropout = dropout_, .bn_eps = 1e-3, .stage = { \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
static const dt_mobilenet_v3_shape mobilenet_v3_small = {.hidden = 1024,
                                                         .block = {{3, 16, 16, true, false, 2},
                                                                   {3, 72, 24, false, false, 2},
                                                                   {3, 88, 24, false, false, 1},
                                                                   {5, 96, 40, true, true, 2},
                                                                   {5, 240, 40, true, true, 1},
                                                                   {5, 240, 40, true, true, 1},
                                                                   {5, 120, 48, true, true, 1},
                                                                   {5, 144, 48, true, true, 1},
                                                                   {5, 288, 96, true, true, 2},
                                                                   {5, 576, 96, true, true, 1},
                                                                   {5, 576, 96, true, true, 1}}},
                                   mobilenet_v3_large = {.hidden = 1280,
                                                         .block = {{3, 16, 16, false, false, 1},
                                                                   {3, 64, 24, false, false, 2},
                                                                   {3, 72, 24, false, false, 1},
                                                                   {5, 72, 40, true, false, 2},
                                                                   {5, 120, 40, true, false, 1},
                                                                   {5, 120, 40, true, false, 1},
                                                                   {3, 240, 80, false, true, 2},
                                                                   {3, 200, 80, false, true, 1},
                                                                   {3, 184, 80, false, true, 1},
                                                                   {3, 184, 80, false, true, 1},
                                                                   {3, 480, 112, true, true, 1},
                                                                   {3, 672, 112, true, true, 1},
                                                                   {5, 672, 160, true, true, 2},
                                                                   {5, 960, 160, true, true, 1},
                                                                   {5, 960, 160, true, true, 1}}};

static const dt_widths mlp_widths = {{512, 512}}, autoencoder_widths = {{512, 128, 32}},
                       conv_autoencoder_widths = {{32, 64}};

/* What a row of images has in common; and of a network of torchvision's, at 224 pixels or another size. */
#define IMAGES                  DT_READS_IMAGES, "classify"
#define TORCHVISION(name, side) IMAGES, "torchvision " name, side, 3, 1000
#define TV(name)                TORCHVISION(name, 224)
#define TIMM(name)              IMAGES, "timm " name, 224, 3, 1000
/* Patches that timm has no name for. */
#define TIMM_CLASS IMAGES, "timm VisionTransformer", 224, 3, 1000

/* name, builder and shape, what it reads and for which task, reference, input, depth, outputs */
#define MODELS(M)                                                                                            \
    M("quickstart", dt_net_quickstart, NULL, IMAGES, "dtrain's own", 28, 1, 10)                              \
    M("resnet18", BASIC(2, 2, 2, 2), TV("resnet18"))                                                         \
    M("resnet34", BASIC(3, 4, 6, 3), TV("resnet34"))                                                         \
    M("resnet50", BOTTLENECK(3, 4, 6, 3), TV("resnet50"))                                                    \
    M("resnet101", BOTTLENECK(3, 4, 23, 3), TV("resnet101"))                                                 \
    M("resnet152", BOTTLENECK(3, 8, 36, 3), TV("resnet152"))                                                 \
    M("resnext50_32x4d", RESNET(true, 32, 4, 3, 4, 6, 3), TV("resnext50_32x4d"))                             \
    M("resnext101_32x8d", RESNET(true, 32, 8, 3, 4, 23, 3), TV("resnext101_32x8d"))                          \
    M("wide_resnet50_2", RESNET(true, 1, 128, 3, 4, 6, 3), TV("wide_resnet50_2"))                            \
    M("wide_resnet101_2", RESNET(true, 1, 128, 3, 4, 23, 3), TV("wide_resnet101_2"))                         \
    M("mobilenet_v2", dt_net_mobilenet_v2, NULL, TV("mobilenet_v2"))                                         \
    M("mobilenet_v3_small", dt_net_mobilenet_v3, &mobilenet_v3_small, TV("mobilenet_v3_small"))              \
    M("mobilenet_v3_large", dt_net_mobilenet_v3, &mobilenet_v3_large, TV("mobilenet_v3_large"))              \
    M("efficientnet_b0", EFFICIENTNET(1.0, 1.0, 0.2, ), TV("efficientnet_b0"))                               \
    M("efficientnet_b1", EFFICIENTNET(1.0, 1.1, 0.2, ), TORCHVISION("efficientnet_b1", 240))                 \
    M("efficientnet_b2", EFFICIENTNET(1.1, 1.2, 0.3, ), TORCHVISION("efficientnet_b2", 288))                 \
    M("efficientnet_b3", EFFICIENTNET(1.2, 1.4, 0.3, ), TORCHVISION("efficientnet_b3", 300))                 \
    M("efficientnet_b4", EFFICIENTNET(1.4, 1.8, 0.4, ), TORCHVISION("efficientnet_b4", 380))                 \
    M("efficientnet_b5", EFFICIENTNET(1.6, 2.2, 0.4, SLOW_NORM), TORCHVISION("efficientnet_b5", 456))        \
    M("efficientnet_b6", EFFICIENTNET(1.8, 2.6, 0.5, SLOW_NORM), TORCHVISION("efficientnet_b6", 528))        \
    M("efficientnet_b7", EFFICIENTNET(2.0, 3.1, 0.5, SLOW_NORM), TORCHVISION("efficientnet_b7", 600))        \
    M("efficientnet_v2_s",                                                                                   \
      EFFICIENTNET_V2(24, 0.2, {true, 1, 3, 1, 24, 2}, {true, 4, 3, 2, 48, 4}, {true, 4, 3, 2, 64, 4},       \
                      {false, 4, 3, 2, 128, 6}, {false, 6, 3, 1, 160, 9}, {false, 6, 3, 2, 256, 15}),        \
      TORCHVISION("efficientnet_v2_s", 384))                                                                 \
    M("efficientnet_v2_m",                                                                                   \
      EFFICIENTNET_V2(24, 0.3, {true, 1, 3, 1, 24, 3}, {true, 4, 3, 2, 48, 5}, {true, 4, 3, 2, 80, 5},       \
                      {false, 4, 3, 2, 160, 7}, {false, 6, 3, 1, 176, 14}, {false, 6, 3, 2, 304, 18},        \
                      {false, 6, 3, 1, 512, 5}),                                                             \
      TORCHVISION("efficientnet_v2_m", 480))                                                                 \
    M("efficientnet_v2_l",                                                                                   \
      EFFICIENTNET_V2(32, 0.4, {true, 1, 3, 1, 32, 4}, {true, 4, 3, 2, 64, 7}, {true, 4, 3, 2, 96, 7},       \
                      {false, 4, 3, 2, 192, 10}, {false, 6, 3, 1, 224, 19}, {false, 6, 3, 2, 384, 25},       \
                      {false, 6, 3, 1, 640, 7}),                                                             \
      TORCHVISION("efficientnet_v2_l", 480))                                                                 \
    M("convnext_tiny", CONVNEXT(96, 0.1, 3, 3, 9, 3), TV("convnext_tiny"))                                   \
    M("convnext_small", CONVNEXT(96, 0.4, 3, 3, 27, 3), TV("convnext_small"))                                \
    M("convnext_base", CONVNEXT(128, 0.5, 3, 3, 27, 3), TV("convnext_base"))                                 \
    M("convnext_large", CONVNEXT(192, 0.5, 3, 3, 27, 3), TV("convnext_large"))                               \
    M("vit_b_16", VIT(16, 12, 12, 768, ), TV("vit_b_16"))                                                    \
    M("vit_b_32", VIT(32, 12, 12, 768, ), TV("vit_b_32"))                                                    \
    M("vit_l_16", VIT(16, 24, 16, 1024, ), TV("vit_l_16"))                                                   \
    M("vit_l_32", VIT(32, 24, 16, 1024, ), TV("vit_l_32"))                                                   \
    M("vit_h_14", VIT(14, 32, 16, 1280, ), TV("vit_h_14"))                                                   \
    M("vit_tiny_patch8", TINY(8, ), TIMM_CLASS)                                                              \
    M("vit_tiny_patch14", TINY(14, ), TIMM_CLASS)                                                            \
    M("vit_tiny_patch16", TINY(16, ), TIMM("vit_tiny_patch16_224"))                                          \
    M("vit_tiny_patch32", TINY(32, ), TIMM_CLASS)                                                            \
    M("vit_small_patch8", SMALL(8, ), TIMM("vit_small_patch8_224"))                                          \
    M("vit_small_patch14", SMALL(14, ), TIMM_CLASS)                                                          \
    M("vit_small_patch16", SMALL(16, ), TIMM("vit_small_patch16_224"))                                       \
    M("vit_small_patch32", SMALL(32, ), TIMM("vit_small_patch32_224"))                                       \
    M("vit_base_patch8", BASE(8, ), TIMM("vit_base_patch8_224"))                                             \
    M("vit_base_patch14", BASE(14, ), TIMM_CLASS)                                                            \
    M("vit_base_patch16", BASE(16, ), TIMM("vit_base_patch16_224"))                                          \
    M("vit_base_patch32", BASE(32, ), TIMM("vit_base_patch32_224"))                                          \
    M("vit_large_patch8", LARGE(8, ), TIMM_CLASS)                                                            \
    M("vit_large_patch14", LARGE(14, ), TIMM("vit_large_patch14_224"))                                       \
    M("vit_large_patch16", LARGE(16, ), TIMM("vit_large_patch16_224"))                                       \
    M("vit_large_patch32", LARGE(32, ), TIMM("vit_large_patch32_224"))                                       \
    M("deit_tiny", TINY(16, ), TIMM("deit_tiny_patch16_224"))                                                \
    M("deit_small", SMALL(16, ), TIMM("deit_small_patch16_224"))                                             \
    M("deit_base", BASE(16, ), TIMM("deit_base_patch16_224"))                                                \
    M("deit_tiny_distilled", TINY(16, .distilled = true), TIMM("deit_tiny_distilled_patch16_224"))           \
    M("deit_small_distilled", SMALL(16, .distilled = true), TIMM("deit_small_distilled_patch16_224"))        \
    M("deit_base_distilled", BASE(16, .distilled = true), TIMM("deit_base_distilled_patch16_224"))           \
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
    M("mlp", dt_net_mlp, &mlp_widths, DT_READS_ROWS, "classify", "torchvision MLP", 28, 1, 10)               \
    M("autoencoder", dt_net_autoencoder, &autoencoder_widths, DT_READS_ROWS, "minimize", "torch Sequential", \
      28, 1, 1)                                                                                              \
    M("conv_autoencoder", dt_net_conv_autoencoder, &conv_autoencoder_widths, DT_READS_IMAGES, "minimize",    \
      "torch Sequential", 28, 1, 1)                                                                          \
    M("file", dt_net_file, NULL, DT_READS_FIELDS, "classify", "the file's", 0, 0, 0)                         \
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
