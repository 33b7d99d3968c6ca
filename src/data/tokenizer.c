/* What tokenizers are and how they are kept; tokenizer_coder.c encodes with them. */
#include "data/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bpe.h"
#include "core/text.h"
#include "unicode.h"

enum { N_CODE_POINTS = 0x110000 };

static const char *const kind_names[] = {[DT_TOKENIZER_BYTE] = "byte",
                                         [DT_TOKENIZER_CHAR] = "char",
                                         [DT_TOKENIZER_BPE] = "bpe",
                                         [DT_TOKENIZER_IDS] = "ids"};

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "tokenizer: out of memory");
}

dt_status dt_tokens_reserve(dt_tokens *t, int64_t n) {
    if (t->n + n <= t->capacity) return DT_OK;
    const int64_t capacity = dt_max_i64(t->n + n, 2 * t->capacity);
    int32_t *grown = realloc(t->id, (size_t)capacity * sizeof *grown);
    if (!grown) return dt_fail(DT_ERR_MEMORY, "out of memory for %lld tokens", (long long)capacity);
    t->id = grown;
    t->capacity = capacity;
    return DT_OK;
}

void dt_tokenizer_close(dt_tokenizer *t) {
    if (!t) return;
    free(t->bytes);
    free(t->offset);
    free(t->char_id);
    free(t->merge);
    free(t->slot);
    free(t);
}

void dt_tokenizer_info_get(const dt_tokenizer *t, dt_tokenizer_info *out) {
    *out = t->info;
}

int32_t dt_tokenizer_bytes(const dt_tokenizer *t, int32_t id, const uint8_t **bytes) {
    if (bytes) *bytes = t->bytes ? t->bytes + t->offset[id] : NULL;
    return t->bytes ? (int32_t)(t->offset[id + 1] - t->offset[id]) : 0;
}

int64_t dt_tokenizer_cut(dt_tokenizer_kind kind, const uint8_t *text, int64_t n) {
    switch (kind) {
    case DT_TOKENIZER_BPE:
        return dt_piece_cut(text, n);
    case DT_TOKENIZER_CHAR:
        return dt_char_cut(text, n);
    default:
        return n;
    }
}

dt_status dt_tokenizer_settle(dt_tokenizer *t) {
    char *text;
    DT_TRY(dt_tokenizer_text(t, &text));
    t->info.xxh3 = XXH3_64bits(text, strlen(text));
    free(text);
    snprintf(t->info.name, sizeof t->info.name, "%s, %s", kind_names[t->info.kind],
             dt_count_text(t->info.n_vocab, "token").s);
    return DT_OK;
}

/* Hands it out, or closes it. */
static dt_status hand_out(dt_tokenizer *t, dt_status status, dt_tokenizer **out) {
    if (status == DT_OK) status = dt_tokenizer_settle(t);
    *out = status == DT_OK ? t : NULL;
    if (status != DT_OK) dt_tokenizer_close(t);
    return status;
}

dt_status dt_tokenizer_ids(int64_t n_vocab, int64_t end, dt_tokenizer **out) {
    *out = NULL;
    if (n_vocab < 1 || n_vocab > DT_TOKENIZER_VOCAB_MAX || end < -1 || end >= n_vocab)
        return dt_fail(DT_ERR_USAGE,
                       "a tokenizer of %lld ids, of which %lld is the end: expected 1 to %d, and one of them",
                       (long long)n_vocab, (long long)end, DT_TOKENIZER_VOCAB_MAX);
    dt_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return no_memory();
    t->info = (dt_tokenizer_info){.kind = DT_TOKENIZER_IDS, .n_vocab = (int32_t)n_vocab, .end = (int32_t)end};
    return hand_out(t, DT_OK, out);
}

dt_status dt_tokenizer_byte(dt_tokenizer **out) {
    return dt_tokenizer_char(NULL, 0, out);
}

dt_status dt_tokenizer_char(const uint32_t *code, int64_t n, dt_tokenizer **out) {
    *out = NULL;
    dt_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return no_memory();
    t->info = (dt_tokenizer_info){.kind = code ? DT_TOKENIZER_CHAR : DT_TOKENIZER_BYTE,
                                  .n_vocab = (int32_t)(257 + n),
                                  .end = (int32_t)(256 + n)};
    t->bytes = malloc((size_t)(256 + 4 * n));
    t->offset = malloc((size_t)(258 + n) * sizeof *t->offset);
    t->char_id = code ? calloc(N_CODE_POINTS, sizeof *t->char_id) : NULL;
    if (!t->bytes || !t->offset || (code && !t->char_id)) return hand_out(t, no_memory(), out);
    int64_t at = 0;
    for (int64_t id = 0; id < 256 + n; id++) {
        t->offset[id] = at;
        if (id < 256) {
            t->bytes[at++] = (uint8_t)id;
            continue;
        }
        const uint32_t c = code[id - 256];
        if (c < 0x80 || c >= N_CODE_POINTS || (c >= 0xD800 && c < 0xE000) ||
            (id > 256 && c <= code[id - 257]))
            return hand_out(t, dt_fail(DT_ERR_DATA, "the characters are not ascending ones beyond ASCII"),
                            out);
        at += dt_utf8_encode(c, t->bytes + at);
        t->char_id[c] = (int32_t)id;
    }
    t->offset[256 + n] = t->offset[257 + n] = at;
    return hand_out(t, DT_OK, out);
}

/* ---- as text ---- */

/* The characters of a char tokenizer are the end of its bytes. */
static json_t *char_object(const dt_tokenizer *t) {
    return json_pack("{s:s, s:s%}", "kind", kind_names[t->info.kind], "characters",
                     (const char *)t->bytes + 256, (size_t)(t->offset[t->info.end] - 256));
}

static void put_letters(const dt_tokenizer *t, int32_t id, FILE *f) {
    const uint8_t *bytes;
    uint8_t letter[4];
    const int32_t n = dt_tokenizer_bytes(t, id, &bytes);
    for (int32_t i = 0; i < n; i++) {
        const int size = dt_utf8_encode(dt_bpe_letter(bytes[i]), letter);
        fwrite(letter, 1, (size_t)size, f);
    }
}

/* As merges.txt has them; NULL when out of memory. */
static char *merges_text(const dt_tokenizer *t, size_t *n) {
    char *text = NULL;
    FILE *f = open_memstream(&text, n);
    if (!f) return NULL;
    for (int32_t i = 0; i < t->info.n_merges; i++) {
        put_letters(t, t->merge[i].left, f);
        fputc(' ', f);
        put_letters(t, t->merge[i].right, f);
        fputc('\n', f);
    }
    const bool failed = ferror(f) != 0;
    if (fclose(f) == 0 && !failed) return text;
    free(text);
    return NULL;
}

/* The numbers of the 256 letters, the merges and the end. */
static json_t *ids_array(const dt_tokenizer *t) {
    int32_t byte[256];
    json_t *out = json_array();
    for (int i = 0; i < 256; i++) byte[dt_bpe_byte_id(i)] = t->byte_id[i];
    for (int i = 0; i < 256; i++) json_array_append_new(out, json_integer(byte[i]));
    for (int32_t i = 0; i < t->info.n_merges; i++) json_array_append_new(out, json_integer(t->merge[i].id));
    json_array_append_new(out, json_integer(t->info.end));
    return out;
}

static json_t *bpe_object(const dt_tokenizer *t) {
    size_t n = 0;
    char *merges = merges_text(t, &n);
    json_t *out =
        merges ? json_pack("{s:s, s:s%}", "kind", kind_names[t->info.kind], "merges", merges, n) : NULL;
    if (out && t->permuted) json_object_set_new(out, "ids", ids_array(t));
    free(merges);
    return out;
}

dt_status dt_tokenizer_text(const dt_tokenizer *t, char **out) {
    json_t *root = t->info.kind == DT_TOKENIZER_BPE    ? bpe_object(t)
                   : t->info.kind == DT_TOKENIZER_CHAR ? char_object(t)
                   : t->info.kind == DT_TOKENIZER_IDS
                       ? json_pack("{s:s, s:i, s:i}", "kind", kind_names[t->info.kind], "vocabulary",
                                   t->info.n_vocab, "end", t->info.end)
                       : json_pack("{s:s}", "kind", kind_names[t->info.kind]);
    *out = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return *out ? DT_OK : no_memory();
}

static dt_status wrong(const char *what, const char *key) {
    return dt_fail(DT_ERR_DATA, "%s: the tokenizer's \"%s\" is missing or damaged", what, key);
}

static dt_status parse_char(const char *what, const json_t *root, dt_tokenizer **out) {
    const json_t *value = json_object_get(root, "characters");
    const uint8_t *text = (const uint8_t *)json_string_value(value);
    const int64_t size = (int64_t)json_string_length(value);
    if (!text) return wrong(what, "characters");
    uint32_t *code = malloc((size_t)(size + 1) * sizeof *code);
    int64_t n = 0;
    if (!code) return no_memory();
    for (int64_t at = 0; at < size;) at += dt_utf8_decode(text + at, size - at, &code[n++]);
    const dt_status status = dt_tokenizer_char(code, n, out);
    free(code);
    if (status != DT_OK) dt_error_context("%s", what);
    return status;
}

static dt_status permute(const char *what, const json_t *list, dt_bpe_builder *b) {
    const int64_t n = dt_bpe_builder_count(b) + 1;
    int32_t *id = malloc((size_t)n * sizeof *id);
    uint8_t *taken = calloc(1, (size_t)n);
    dt_status status = id && taken ? DT_OK : no_memory();
    if (status == DT_OK && (int64_t)json_array_size(list) != n) status = wrong(what, "ids");
    for (int64_t i = 0; i < n && status == DT_OK; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        const int64_t number = json_integer_value(value);
        if (!json_is_integer(value) || number < 0 || number >= n || taken[number]) {
            status = wrong(what, "ids");
            break;
        }
        taken[number] = 1;
        id[i] = (int32_t)number;
    }
    if (status == DT_OK) status = dt_bpe_builder_permute(b, id);
    free(id);
    free(taken);
    return status;
}

static dt_status parse_bpe(const char *what, const json_t *root, dt_tokenizer **out) {
    const json_t *value = json_object_get(root, "merges"), *ids = json_object_get(root, "ids");
    const char *text = json_string_value(value);
    dt_bpe_builder *b;
    if (!text) return wrong(what, "merges");
    dt_status status = dt_bpe_builder_new(&b);
    if (status == DT_OK) status = dt_bpe_merges_read(what, text, json_string_length(value), 1, b);
    if (status == DT_OK && ids) status = permute(what, ids, b);
    if (status == DT_OK) status = dt_bpe_builder_finish(b, out);
    dt_bpe_builder_free(b);
    return status;
}

static dt_status parse_ids(const char *what, const json_t *root, dt_tokenizer **out) {
    const json_t *n = json_object_get(root, "vocabulary"), *end = json_object_get(root, "end");
    if (!json_is_integer(n) || !json_is_integer(end)) return wrong(what, "vocabulary");
    const dt_status status = dt_tokenizer_ids(json_integer_value(n), json_integer_value(end), out);
    return status == DT_ERR_USAGE ? wrong(what, "vocabulary") : status;
}

dt_status dt_tokenizer_parse(const char *what, const char *text, size_t n, dt_tokenizer **out) {
    json_error_t error;
    *out = NULL;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!root) return dt_fail(DT_ERR_DATA, "%s: the tokenizer is damaged: %s", what, error.text);
    const char *kind = json_string_value(json_object_get(root, "kind"));
    int k = 0;
    while (kind && k < 4 && strcmp(kind, kind_names[k]) != 0) k++;
    dt_status status = !kind || k == 4          ? wrong(what, "kind")
                       : k == DT_TOKENIZER_BYTE ? dt_tokenizer_byte(out)
                       : k == DT_TOKENIZER_CHAR ? parse_char(what, root, out)
                       : k == DT_TOKENIZER_BPE  ? parse_bpe(what, root, out)
                                                : parse_ids(what, root, out);
    json_decref(root);
    return status;
}
