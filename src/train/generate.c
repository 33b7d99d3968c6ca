/* Texts in the rows of a decoder. What a text is made of is kept whole, so that a window, or a run without the cache,
 * may read any part of it again. */
#include "train/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct text {
    dt_tokens tokens; /* prompt and what was drawn */
    int64_t n_prompt, most;
    int64_t from, read; /* the decoder's row holds tokens [from, read) */
    uint64_t salt;
    dt_draw_options draw;
    bool no_stop;
    uint8_t *bytes; /* of what was drawn */
    int64_t n_bytes, cap_bytes;
    dt_text_end end;
    bool there;
} text;

struct dt_generator {
    dt_generator_options o;
    dt_tokenizer_info info;
    dt_coder *coder; /* NULL: ids */
    text *text;      /* [rows] */
    const int32_t **token;
    int64_t *n;    /* [rows] of a step */
    int64_t words; /* that may be drawn */
    void *room;
};

const char *const dt_text_end_names[] = {[DT_TEXT_GOES_ON] = "",
                                         [DT_TEXT_FULL] = "tokens",
                                         [DT_TEXT_STOPPED] = "stop",
                                         [DT_TEXT_FAILED] = "failed"};

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "out of memory for texts");
}

static dt_status check(const dt_generator_options *o, const dt_tokenizer_info *info) {
    const int64_t words = dt_decoding_words(o->decoder);
    DT_TRY(dt_draw_check(&o->draw));
    DT_ASSERT(o->most_read % DT_DECODING_CHUNK == 0 && (o->most_read == 0 || !o->no_cache));
    if (words < info->n_vocab)
        return dt_fail(DT_ERR_CONFIG, "the network tells %lld tokens apart, its tokenizer has %d",
                       (long long)words, info->n_vocab);
    return DT_OK;
}

dt_status dt_generator_new(const dt_generator_options *o, dt_generator **out) {
    dt_generator *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return no_memory();
    g->o = *o;
    dt_tokenizer_info_get(o->tokenizer, &g->info);
    g->words = g->info.n_vocab;
    dt_status st = check(o, &g->info);
    if (st == DT_OK && g->info.kind != DT_TOKENIZER_IDS) st = dt_coder_new(o->tokenizer, &g->coder);
    g->text = calloc((size_t)o->rows, sizeof *g->text);
    g->token = calloc((size_t)o->rows, sizeof *g->token);
    g->n = calloc((size_t)o->rows, sizeof *g->n);
    g->room = malloc((size_t)dt_draw_bytes(g->words));
    if (st == DT_OK && (!g->text || !g->token || !g->n || !g->room)) st = no_memory();
    if (st == DT_OK)
        *out = g;
    else
        dt_generator_free(g);
    return st;
}

static void text_free(text *t) {
    free(t->tokens.id);
    free(t->bytes);
    *t = (text){.there = false};
}

void dt_generator_free(dt_generator *g) {
    if (!g) return;
    for (int64_t r = 0; g->text && r < g->o.rows; r++) text_free(&g->text[r]);
    dt_coder_free(g->coder);
    free(g->text);
    free(g->token);
    free(g->n);
    free(g->room);
    free(g);
}

int64_t dt_generator_capacity(const dt_generator *g) {
    return dt_decoding_capacity(g->o.decoder);
}

/* ---- prompts ---- */

/* "12 7,300" */
static dt_status read_numbers(const dt_generator *g, const uint8_t *prompt, int64_t n, dt_tokens *out) {
    for (int64_t i = 0; i < n;) {
        int64_t id = 0;
        const int64_t begin = i;
        if (prompt[i] == ' ' || prompt[i] == ',' || prompt[i] == '\t' || prompt[i] == '\n') {
            i++;
            continue;
        }
        for (; i < n && prompt[i] >= '0' && prompt[i] <= '9' && id < g->info.n_vocab; i++)
            id = id * 10 + (prompt[i] - '0');
        if (i == begin || id >= g->info.n_vocab)
            return dt_fail(
                DT_ERR_DATA,
                "byte %lld of the prompt: the network knows no text, only tokens by their numbers, 0 to %d",
                (long long)begin, g->info.n_vocab - 1);
        DT_TRY(dt_tokens_reserve(out, 1));
        out->id[out->n++] = (int32_t)id;
    }
    return DT_OK;
}

static dt_status encode(const dt_generator *g, const uint8_t *prompt, int64_t n, dt_tokens *out) {
    DT_TRY(g->coder ? dt_coder_encode(g->coder, prompt, n, out) : read_numbers(g, prompt, n, out));
    if (out->n > 0) return DT_OK;
    if (g->info.end < 0)
        return dt_fail(DT_ERR_DATA, "an empty prompt: the tokenizer has no token that begins a document");
    DT_TRY(dt_tokens_reserve(out, 1));
    out->id[out->n++] = g->info.end;
    return DT_OK;
}

static dt_status check_length(const dt_generator *g, const dt_tokens *t, int64_t most) {
    const int64_t capacity = dt_generator_capacity(g);
    if (g->o.window || (t->n <= capacity && most <= capacity - t->n)) return DT_OK;
    return dt_fail(
        DT_ERR_USAGE,
        "%lld tokens of prompt and %lld more are more than the %lld that the network sees at once: "
        "ask for fewer, or for a window, in which it goes on from the last half of them",
        (long long)t->n, (long long)most, (long long)capacity);
}

/* FNV-1a over the tokens. */
static uint64_t hash(const dt_tokens *t, uint64_t sample) {
    uint64_t h = 14695981039346656037ull ^ sample * 0x9E3779B97F4A7C15ull;
    for (int64_t i = 0; i < t->n; i++)
        for (int k = 0; k < 4; k++) h = (h ^ ((uint32_t)t->id[i] >> 8 * k & 0xff)) * 1099511628211ull;
    return h;
}

dt_status dt_generator_begin(dt_generator *g, int64_t row, const uint8_t *prompt, int64_t n, int64_t most,
                             uint64_t sample) {
    dt_tokens tokens = {0};
    dt_status st = encode(g, prompt, n, &tokens);
    if (most < 0) most = g->o.window ? INT64_MAX : dt_max_i64(dt_generator_capacity(g) - tokens.n, 0);
    if (st == DT_OK) st = check_length(g, &tokens, most);
    if (st == DT_OK) st = dt_decoding_reset(g->o.decoder, row);
    if (st != DT_OK) {
        free(tokens.id);
        return st;
    }
    text_free(&g->text[row]);
    g->text[row] = (text){.tokens = tokens,
                          .n_prompt = tokens.n,
                          .most = most,
                          .salt = hash(&tokens, sample),
                          .draw = g->o.draw,
                          .no_stop = g->o.no_stop,
                          .end = most > 0 ? DT_TEXT_GOES_ON : DT_TEXT_FULL,
                          .there = true};
    return DT_OK;
}

void dt_generator_set_draw(dt_generator *g, int64_t row, const dt_draw_options *draw, bool no_stop) {
    g->text[row].draw = *draw;
    g->text[row].no_stop = no_stop;
}

/* ---- steps ---- */

bool dt_generator_goes_on(const dt_generator *g, int64_t row) {
    return g->text[row].there && g->text[row].end == DT_TEXT_GOES_ON;
}

/* What the row has to read before its next token is known. */
static dt_status prepare(dt_generator *g, int64_t row) {
    text *t = &g->text[row];
    const int64_t capacity = dt_generator_capacity(g);
    const bool full = t->tokens.n - t->from > capacity;
    g->n[row] = 0;
    g->token[row] = NULL;
    if (!dt_generator_goes_on(g, row)) return DT_OK;
    if (full) t->from = t->tokens.n - dt_max_i64(capacity / 2, 1);
    if (full || g->o.no_cache) {
        DT_TRY(dt_decoding_reset(g->o.decoder, row));
        t->read = t->from;
    }
    g->token[row] = t->tokens.id + t->read;
    g->n[row] = t->tokens.n - t->read;
    if (g->o.most_read > 0) g->n[row] = dt_min_i64(g->n[row], g->o.most_read);
    t->read += g->n[row];
    return DT_OK;
}

static dt_status add_bytes(text *t, const uint8_t *bytes, int64_t n) {
    if (t->n_bytes + n > t->cap_bytes) {
        const int64_t capacity = 2 * (t->n_bytes + n) + 64;
        uint8_t *grown = realloc(t->bytes, (size_t)capacity);
        if (!grown) return no_memory();
        t->bytes = grown;
        t->cap_bytes = capacity;
    }
    if (n > 0) memcpy(t->bytes + t->n_bytes, bytes, (size_t)n);
    t->n_bytes += n;
    return DT_OK;
}

/* The token's text; of a tokenizer of ids its number. */
static dt_status add_token(dt_generator *g, text *t, int32_t id) {
    const uint8_t *bytes;
    char number[16];
    DT_TRY(dt_tokens_reserve(&t->tokens, 1));
    t->tokens.id[t->tokens.n++] = id;
    if (g->coder) {
        const int32_t n = dt_tokenizer_bytes(g->o.tokenizer, id, &bytes);
        return add_bytes(t, bytes, n);
    }
    const int n = snprintf(number, sizeof number, " %d", id);
    return add_bytes(t, (const uint8_t *)number, n);
}

static dt_status draw(dt_generator *g, int64_t row, const float *logits) {
    text *t = &g->text[row];
    int32_t id;
    DT_TRY(dt_draw_token(&t->draw, logits, g->words, t->salt, (uint64_t)t->tokens.n, g->room, &id));
    if (id == g->info.end && !t->no_stop) {
        t->end = DT_TEXT_STOPPED;
        return DT_OK;
    }
    DT_TRY(add_token(g, t, id));
    if (t->tokens.n - t->n_prompt == t->most) t->end = DT_TEXT_FULL;
    return DT_OK;
}

dt_status dt_generator_step(dt_generator *g) {
    const int64_t words = dt_decoding_words(g->o.decoder);
    const float *logits;
    for (int64_t r = 0; r < g->o.rows; r++) DT_TRY(prepare(g, r));
    DT_TRY(dt_decoding_read(g->o.decoder, g->token, g->n, &logits));
    dt_status first = DT_OK;
    for (int64_t r = 0; r < g->o.rows; r++) {
        if (g->n[r] == 0 || g->text[r].read < g->text[r].tokens.n) continue;
        const dt_status st = draw(g, r, logits + r * words);
        if (st != DT_OK) g->text[r].end = DT_TEXT_FAILED;
        if (first == DT_OK) first = st;
    }
    return first;
}

void dt_generator_end(dt_generator *g, int64_t row) {
    text_free(&g->text[row]);
}

/* Bytes at the end that begin a character and lack the rest of it. */
static int64_t unfinished(const uint8_t *b, int64_t n) {
    for (int64_t back = 1; back <= 3 && back <= n; back++) {
        const uint8_t c = b[n - back];
        if ((c & 0xC0) == 0x80) continue;
        const int64_t size = c >= 0xC2 && c < 0xE0   ? 2
                             : c >= 0xE0 && c < 0xF0 ? 3
                             : c >= 0xF0 && c < 0xF5 ? 4
                                                     : 1;
        return size > back ? back : 0;
    }
    return 0;
}

void dt_generator_get(const dt_generator *g, int64_t row, dt_generated *out) {
    const text *t = &g->text[row];
    *out = (dt_generated){.token = t->tokens.id,
                          .n_prompt = t->n_prompt,
                          .n_token = t->tokens.n - t->n_prompt,
                          .text = t->bytes,
                          .n_text = t->n_bytes,
                          .n_whole =
                              t->n_bytes - (t->end == DT_TEXT_GOES_ON ? unfinished(t->bytes, t->n_bytes) : 0),
                          .end = t->end};
}
