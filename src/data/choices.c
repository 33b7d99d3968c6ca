/* Files of questions. All of a file is checked before any of it is used. */
#include "data/choices.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 20240522, HEADER = 256, START = 65535, LINE_BYTES_MAX = 64 << 20 };

typedef struct reader {
    const char *path;
    FILE *file;
    const dt_tokenizer *tokenizer;
    dt_tokenizer_info info;
    dt_coder *coder; /* NULL: ids */
    dt_choices *out;
} reader;

void dt_choices_free(dt_choices *c) {
    free(c->question);
    free(c->token.id);
    *c = (dt_choices){0};
}

/* One more question, empty so far. */
static dt_status add_question(reader *r, dt_choice **out) {
    dt_choices *c = r->out;
    if (c->n == DT_CHOICES_MAX)
        return dt_fail(DT_ERR_DATA, "%s: more than %d questions", r->path, DT_CHOICES_MAX);
    if ((c->n & (c->n - 1)) == 0) {
        dt_choice *grown = realloc(c->question, (size_t)(c->n > 0 ? 2 * c->n : 1) * sizeof *grown);
        if (!grown) return dt_fail(DT_ERR_MEMORY, "%s: out of memory for its questions", r->path);
        c->question = grown;
    }
    *out = &c->question[c->n++];
    **out = (dt_choice){.context = c->token.n};
    return DT_OK;
}

/* ---- JSON lines ---- */

static dt_status wrong_line(const reader *r, int64_t line, const char *why) {
    return dt_fail(DT_ERR_DATA, "%s:%lld: %s", r->path, (long long)line, why);
}

static dt_status encode(reader *r, const char *text, size_t n) {
    return dt_coder_encode(r->coder, (const uint8_t *)text, (int64_t)n, &r->out->token);
}

static dt_status encode_ending(reader *r, const json_t *ending) {
    const size_t n = json_string_length(ending);
    char *text = malloc(n + 2);
    if (!text) return dt_fail(DT_ERR_MEMORY, "%s: out of memory for an ending", r->path);
    text[0] = ' ';
    memcpy(text + 1, json_string_value(ending), n);
    const dt_status st = encode(r, text, n + 1);
    free(text);
    return st;
}

static dt_status take_object(reader *r, const json_t *root, int64_t line) {
    const json_t *ctx = json_object_get(root, "ctx"), *endings = json_object_get(root, "endings"),
                 *label = json_object_get(root, "label");
    const size_t n = json_array_size(endings);
    dt_choice *q;
    if (!json_is_string(ctx)) return wrong_line(r, line, "\"ctx\" is no string");
    if (n < 2 || n > DT_ENDINGS_MAX) return wrong_line(r, line, "\"endings\" is no list of 2 to 16 strings");
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(endings, i))) return wrong_line(r, line, "an ending is no string");
    if (!json_is_integer(label) || json_integer_value(label) < 0 ||
        json_integer_value(label) >= (json_int_t)n)
        return wrong_line(r, line, "\"label\" is not the number of an ending, from 0");
    DT_TRY(add_question(r, &q));
    q->n_ending = (int32_t)n;
    q->label = (int32_t)json_integer_value(label);
    DT_TRY(encode(r, json_string_value(ctx), json_string_length(ctx)));
    for (size_t i = 0; i < n; i++) {
        q->ending[i] = r->out->token.n;
        DT_TRY(encode_ending(r, json_array_get(endings, i)));
    }
    q->ending[n] = r->out->token.n;
    return DT_OK;
}

static dt_status take_line(reader *r, const char *text, size_t n, int64_t line) {
    json_error_t error;
    if (text[strspn(text, " \t\r\n")] == 0 && strlen(text) == n) return DT_OK;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!root) return wrong_line(r, line, error.text);
    const dt_status st =
        json_is_object(root) ? take_object(r, root, line) : wrong_line(r, line, "no JSON object");
    json_decref(root);
    return st;
}

static dt_status read_lines(reader *r) {
    char *text = NULL;
    size_t room = 0;
    dt_status st = DT_OK;
    if (!r->coder)
        return dt_fail(DT_ERR_DATA,
                       "%s is text, and the network's tokenizer is not known: make a .bin file of its tokens",
                       r->path);
    int64_t line = 1;
    for (ssize_t n; st == DT_OK && (n = getline(&text, &room, r->file)) > 0; line++)
        st = n > LINE_BYTES_MAX ? wrong_line(r, line, "longer than 64 MiB")
                                : take_line(r, text, (size_t)n, line);
    free(text);
    if (st == DT_OK && ferror(r->file))
        st = dt_fail(DT_ERR_DATA, "%s: cannot be read: %s", r->path, strerror(errno));
    return st;
}

/* ---- llm.c's .bin ---- */

static dt_status wrong_question(const reader *r, const char *why) {
    return dt_fail(DT_ERR_DATA, "%s: question %lld: %s", r->path, (long long)r->out->n, why);
}

/* A number of two bytes; -1 at the end. */
static int32_t next(reader *r) {
    uint8_t b[2];
    return fread(b, 1, 2, r->file) == 2 ? b[0] | b[1] << 8 : -1;
}

/* A count and so many tokens. */
static dt_status take_tokens(reader *r) {
    const int32_t n = next(r);
    if (n < 0) return wrong_question(r, "the file ends in it");
    DT_TRY(dt_tokens_reserve(&r->out->token, n));
    for (int32_t i = 0; i < n; i++) {
        const int32_t id = next(r);
        if (id < 0) return wrong_question(r, "the file ends in it");
        if (id >= r->info.n_vocab)
            return wrong_question(r, "it has a token that the network's tokenizer has not");
        r->out->token.id[r->out->token.n++] = id;
    }
    return DT_OK;
}

static dt_status take_question(reader *r) {
    dt_choice *q;
    DT_TRY(add_question(r, &q));
    const int32_t start = next(r), bytes = next(r), index = next(r), label = next(r), n = next(r);
    if (n < 0) return wrong_question(r, "the file ends in it");
    (void)bytes, (void)index;
    if (start != START) return wrong_question(r, "it does not begin where it should");
    if (n < 2 || n > DT_ENDINGS_MAX || label >= n)
        return wrong_question(r, "it has not 2 to 16 endings, one of them right");
    q->n_ending = n;
    q->label = label;
    DT_TRY(take_tokens(r));
    for (int32_t i = 0; i < n; i++) {
        q->ending[i] = r->out->token.n;
        DT_TRY(take_tokens(r));
        if (r->out->token.n == q->ending[i]) return wrong_question(r, "an ending has no tokens");
    }
    q->ending[n] = r->out->token.n;
    return DT_OK;
}

static dt_status read_words(reader *r, const uint8_t head[HEADER * 4]) {
    int32_t word[3];
    for (int i = 0; i < 3; i++)
        word[i] = (int32_t)((uint32_t)head[4 * i] | (uint32_t)head[4 * i + 1] << 8 |
                            (uint32_t)head[4 * i + 2] << 16 | (uint32_t)head[4 * i + 3] << 24);
    if (word[1] != 1)
        return dt_fail(DT_ERR_DATA, "%s: version %d of its format is not known", r->path, word[1]);
    for (int32_t i = 0; i < word[2]; i++) DT_TRY(take_question(r));
    return next(r) < 0 ? DT_OK
                       : dt_fail(DT_ERR_DATA, "%s: more is in it than its %d questions", r->path, word[2]);
}

static dt_status read_all(reader *r) {
    uint8_t head[HEADER * 4];
    const size_t n = fread(head, 1, sizeof head, r->file);
    const uint32_t magic = n < 4 ? 0
                                 : (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 |
                                       (uint32_t)head[3] << 24;
    if (magic != MAGIC) {
        rewind(r->file);
        DT_TRY(read_lines(r));
    } else if (n < sizeof head) {
        return dt_fail(DT_ERR_DATA, "%s: it ends in its header", r->path);
    } else {
        DT_TRY(read_words(r, head));
    }
    return r->out->n > 0 ? DT_OK : dt_fail(DT_ERR_DATA, "%s: no question is in it", r->path);
}

dt_status dt_choices_read(const char *path, const dt_tokenizer *tokenizer, dt_choices *out) {
    reader r = {.path = path, .tokenizer = tokenizer, .out = out};
    *out = (dt_choices){0};
    dt_tokenizer_info_get(tokenizer, &r.info);
    if (r.info.kind != DT_TOKENIZER_IDS) DT_TRY(dt_coder_new(tokenizer, &r.coder));
    r.file = fopen(path, "rb");
    const dt_status st = r.file ? read_all(&r) : dt_fail(DT_ERR_DATA, "%s: %s", path, strerror(errno));
    if (r.file) fclose(r.file);
    dt_coder_free(r.coder);
    return st;
}
