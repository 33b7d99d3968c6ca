/* Texts that a network goes on with. */
#include <stdlib.h>
#include <string.h>

#include "core/decoding.h"
#include "data/facts.h"
#include "net.h"
#include "train/generate.h"

struct dt_sampler {
    dt_handle head;
    dt_net *net; /* held */
    dt_tokenizer *tokenizer;
    dt_decoding *decoding;
    dt_generator *generator;
    bool begun;
    int64_t n_told; /* bytes of the text */
    char *piece;    /* what the last token made whole */
};

static dt_status open_tokenizer(const char *path, dt_tokenizer **out) {
    dt_data_options options;
    dt_data_facts facts;
    dt_dataset *set;
    if (!path) return dt_tokenizer_byte(out);
    dt_section_defaults(&dt_data_section, &options);
    DT_TRY(dt_dataset_open(&options, path, &set));
    const dt_status st = dt_data_facts_of(set, &facts);
    dt_dataset_close(set);
    *out = facts.tokenizer;
    facts.tokenizer = NULL;
    dt_data_facts_free(&facts);
    if (st != DT_OK || *out) return st;
    return dt_fail(DT_ERR_DATA, "dt_sampler_open: %s is no text, and has no tokenizer", path);
}

static dt_status check_options(const dt_sampler_options *o) {
    static const char function[] = "dt_sampler_open";
    DT_TRY(dt_check_real(function, "temperature", o->temperature, 1e-6, 1e6));
    DT_TRY(dt_check_real(function, "top_p", o->top_p, 1e-9, 1));
    DT_TRY(dt_check_whole(function, "top_k", o->top_k, 1, INT32_MAX));
    return dt_check_whole(function, "seed", o->seed, 1, INT64_MAX);
}

/* The decoding programs over the engine's weights, and a generator of one text. */
static dt_status open_generator(dt_sampler *s, const dt_sampler_options *o) {
    const dt_config *c = &s->net->config;
    dt_graph *forward;
    DT_TRY(dt_net_instance(s->net->b.g, 1, false, &forward));
    const dt_decoding_options decoding = {.store = dt_engine_program(s->net->engine, true)->store,
                                          .forward = forward,
                                          .tokens = o->tokens ? o->tokens : "tokens",
                                          .output = o->logits ? o->logits : "logits",
                                          .rows = 1,
                                          .fuse = c->train.fusion != DT_FUSION_OFF,
                                          .capture = c->run.capture == DT_CAPTURE_STEP};
    const dt_status st = dt_decoding_create(&decoding, &s->decoding);
    dt_graph_destroy(forward);
    DT_TRY(st);
    const dt_generator_options generator = {.decoder = s->decoding,
                                            .tokenizer = s->tokenizer,
                                            .rows = 1,
                                            .draw = {.temperature = o->likeliest         ? 0
                                                                    : o->temperature > 0 ? o->temperature
                                                                                         : 1,
                                                     .top_k = o->top_k,
                                                     .top_p = o->top_p > 0 ? o->top_p : 1,
                                                     .seed = (uint64_t)o->seed},
                                            .no_stop = o->no_stop,
                                            .window = o->window};
    return dt_generator_new(&generator, &s->generator);
}

dt_status dt_sampler_open(dt_net *net, dt_sampler_options options, dt_sampler **out) {
    DT_CHECK_BUILT(net);
    DT_CHECK_POINTER(out);
    *out = NULL;
    DT_TRY(check_options(&options));
    DT_TRY(dt_net_compile(net));
    dt_sampler *s = dt_handle_new(DT_HANDLE_SAMPLER, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for a sampler");
    dt_net_hold(s->net = net);
    dt_status st = open_tokenizer(options.text, &s->tokenizer);
    if (st == DT_OK) st = open_generator(s, &options);
    if (st == DT_OK)
        *out = s;
    else
        dt_sampler_free(s);
    return st;
}

void dt_sampler_free(dt_sampler *s) {
    if (!dt_handle_end(DT_HANDLE_SAMPLER, s)) return;
    dt_generator_free(s->generator);
    dt_decoding_destroy(s->decoding);
    dt_tokenizer_close(s->tokenizer);
    dt_net_drop(s->net);
    free(s->piece);
    dt_handle_free(s);
}

dt_status dt_sampler_prompt(dt_sampler *sampler, const char *text, size_t n) {
    DT_CHECK_SAMPLER(sampler);
    DT_CHECK_POINTER(text);
    DT_TRY(dt_generator_begin(sampler->generator, 0, (const uint8_t *)text, (int64_t)n, DT_TEXT_ALL, 0));
    sampler->begun = true;
    sampler->n_told = 0;
    return DT_OK;
}

/* What is whole and was not told yet. */
static dt_status take_piece(dt_sampler *s, const dt_generated *g, const char **text) {
    const int64_t n = g->n_whole - s->n_told;
    char *piece = realloc(s->piece, (size_t)n + 1);
    if (!piece) return dt_fail(DT_ERR_MEMORY, "no memory for a text");
    s->piece = piece;
    if (n > 0) memcpy(piece, g->text + s->n_told, (size_t)n);
    piece[n] = 0;
    s->n_told = g->n_whole;
    *text = piece;
    return DT_OK;
}

dt_status dt_sampler_next(dt_sampler *sampler, int32_t *token, const char **text) {
    DT_CHECK_SAMPLER(sampler);
    DT_CHECK_POINTER(token);
    DT_CHECK_POINTER(text);
    dt_generated before, g;
    if (!sampler->begun)
        return dt_fail(DT_ERR_USAGE, "dt_sampler_next: no text was begun: dt_sampler_prompt");
    dt_generator_get(sampler->generator, 0, &before);
    DT_TRY(dt_generator_step(sampler->generator));
    dt_generator_get(sampler->generator, 0, &g);
    DT_TRY(take_piece(sampler, &g, text));
    *token = g.n_token > before.n_token ? g.token[g.n_prompt + g.n_token - 1] : -1;
    return DT_OK;
}
