/* GPT-2's files: merges.txt, vocab.json, and .tiktoken, which has the tokens of merges.txt in their order. All may be
 * hostile. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"
#include "files.h"
#include "unicode.h"

enum { FILE_BYTES_MAX = 1 << 30 };

static dt_status wrong(const char *what, int64_t line, const char *text) {
    return dt_fail(DT_ERR_DATA, "%s:%lld: %s", what, (long long)line, text);
}

/* Bytes of what is written in letters; at most as many as its UTF-8. -1: something is no letter. */
static int64_t from_letters(const uint8_t *text, int64_t n, uint8_t *out) {
    int64_t n_out = 0;
    for (int64_t at = 0; at < n;) {
        uint32_t c;
        at += dt_utf8_decode(text + at, n - at, &c);
        const int byte = dt_bpe_letter_byte(c);
        if (byte < 0) return -1;
        out[n_out++] = (uint8_t)byte;
    }
    return n_out;
}

/* ---- merges.txt ---- */

static int32_t find_part(const dt_bpe_builder *b, const uint8_t *text, int64_t n, uint8_t *room) {
    const int64_t size = from_letters(text, n, room);
    return size > 0 ? dt_bpe_builder_find(b, room, size) : -1;
}

static dt_status add_line(const char *what, int64_t line, const uint8_t *text, int64_t n, uint8_t *room,
                          dt_bpe_builder *b) {
    const uint8_t *blank = memchr(text, ' ', (size_t)n);
    if (!blank || memchr(blank + 1, ' ', (size_t)(text + n - blank - 1)))
        return wrong(what, line, "not two tokens with a blank between");
    const int32_t left = find_part(b, text, blank - text, room),
                  right = find_part(b, blank + 1, text + n - blank - 1, room);
    if (left < 0 || right < 0)
        return wrong(what, line,
                     left < 0 ? "its first part is no letter of GPT-2's 256 and no line above it makes it"
                              : "its second part is no letter of GPT-2's 256 and no line above it makes it");
    const dt_status status = dt_bpe_builder_add(b, left, right);
    if (status != DT_OK) dt_error_context("%s:%lld", what, (long long)line);
    return status;
}

dt_status dt_bpe_merges_read(const char *what, const char *text, size_t n, int64_t first, dt_bpe_builder *b) {
    uint8_t *room = malloc(n + 1);
    if (!room) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", what);
    dt_status status = DT_OK;
    const char *at = text, *const end = text + n;
    for (int64_t line = first; at < end && status == DT_OK; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        int64_t size = stop - at;
        if (size > 0 && at[size - 1] == '\r') size--;
        const bool rest_is_empty = size == 0 && stop + 1 >= end;
        if (!rest_is_empty) status = add_line(what, line, (const uint8_t *)at, size, room, b);
        at = stop + 1;
    }
    free(room);
    return status;
}

/* ---- .tiktoken ---- */

/* Bytes of base64 with its padding; -1: it is none. */
static int64_t from_base64(const char *text, int64_t n, uint8_t *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int64_t n_out = 0;
    if (n == 0 || n % 4 != 0) return -1;
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t word = 0;
        int pad = 0;
        for (int k = 0; k < 4; k++) {
            const char c = text[i + k];
            const char *digit = c == '=' && i + 4 == n && k >= 2 ? NULL : c ? strchr(digits, c) : NULL;
            if (c == '=' && i + 4 == n && k >= 2)
                pad++;
            else if (!digit || pad > 0)
                return -1;
            word = word << 6 | (digit ? (uint32_t)(digit - digits) : 0);
        }
        for (int k = 0; k < 3 - pad; k++) out[n_out++] = (uint8_t)(word >> (16 - 8 * k));
    }
    return n_out;
}

/* A token of more than a byte is the merge of the two that the merges before it leave of it. */
static dt_status add_token(const char *what, int64_t line, const uint8_t *bytes, int64_t n, dt_tokens *parts,
                           dt_bpe_builder *b) {
    parts->n = 0;
    if (line <= 256) {
        if (n == 1 && dt_bpe_byte_id(bytes[0]) == line - 1) return DT_OK;
        return wrong(what, line, "the first 256 tokens are not the bytes in GPT-2's order");
    }
    dt_status status = dt_bpe_builder_split(b, bytes, n, parts);
    if (status == DT_OK && parts->n != 2) return wrong(what, line, "not a token made of two tokens above it");
    if (status == DT_OK) status = dt_bpe_builder_add(b, parts->id[0], parts->id[1]);
    if (status != DT_OK) dt_error_context("%s:%lld", what, (long long)line);
    return status;
}

static dt_status add_ranked(const char *what, int64_t line, const char *text, int64_t n, uint8_t *room,
                            dt_tokens *parts, dt_bpe_builder *b) {
    const char *blank = memchr(text, ' ', (size_t)n);
    char *end;
    const int64_t size = blank ? from_base64(text, blank - text, room) : -1;
    if (size < 1 || blank[1] < '0' || blank[1] > '9' || strtoll(blank + 1, &end, 10) != line - 1 ||
        end != text + n)
        return wrong(what, line, "not a token in base64, a blank, and the number of the lines above");
    return add_token(what, line, room, size, parts, b);
}

static bool is_tiktoken(const char *text, size_t n) {
    const char *stop = memchr(text, '\n', n);
    return stop && stop - text > 2 && stop[-1] == '0' && stop[-2] == ' ' && stop[-3] == '=';
}

static dt_status read_tiktoken(const char *what, const char *text, size_t n, dt_bpe_builder *b) {
    uint8_t *room = malloc(n);
    dt_tokens parts = {NULL};
    if (!room) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", what);
    dt_status status = DT_OK;
    const char *at = text, *const end = text + n;
    int64_t line = 1;
    for (; at < end && status == DT_OK; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        status = add_ranked(what, line, at, stop - at, room, &parts, b);
        at = stop + 1;
    }
    if (status == DT_OK && line <= 256)
        status = wrong(what, line, "the file ends before all bytes are tokens");
    free(parts.id);
    free(room);
    return status;
}

/* ---- vocab.json ---- */

/* id[] gets the number that each token has in the file. */
static dt_status take_ids(const char *what, json_t *root, const dt_bpe_builder *b, int64_t n, int32_t *id) {
    const char *key;
    json_t *value;
    const int64_t n_file = (int64_t)json_object_size(root);
    if (n_file != n)
        return dt_fail(DT_ERR_DATA,
                       "%s: %lld tokens, but 256 bytes, the merges and " DT_TOKENIZER_END_TEXT " are %lld",
                       what, (long long)n_file, (long long)n);
    for (int64_t i = 0; i < n; i++) id[i] = -1;
    uint8_t *taken = calloc(1, (size_t)n), *room = NULL;
    dt_status status = taken ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", what);
    json_object_foreach(root, key, value) {
        if (status != DT_OK) break;
        const int64_t size = (int64_t)strlen(key), number = json_integer_value(value);
        uint8_t *grown = realloc(room, (size_t)size + 1);
        if (!grown) {
            status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", what);
            break;
        }
        room = grown;
        int64_t token = n - 1;
        if (strcmp(key, DT_TOKENIZER_END_TEXT) != 0) {
            const int64_t n_bytes = from_letters((const uint8_t *)key, size, room);
            token = n_bytes > 0 ? dt_bpe_builder_find(b, room, n_bytes) : -1;
        }
        if (token < 0)
            status =
                dt_fail(DT_ERR_DATA, "%s: the token \"%.64s\" is no byte, and no merge makes it", what, key);
        else if (!json_is_integer(value) || number < 0 || number >= n || taken[number])
            status = dt_fail(DT_ERR_DATA, "%s: the number of \"%.64s\" is not one of 0 to %lld, each once",
                             what, key, (long long)n - 1);
        else {
            taken[number] = 1;
            id[token] = (int32_t)number;
        }
    }
    free(taken);
    free(room);
    return status;
}

static dt_status read_vocab(const char *path, dt_bpe_builder *b, int64_t n) {
    uint8_t *text;
    int64_t n_text;
    json_error_t error;
    DT_TRY(dt_file_read(path, FILE_BYTES_MAX, &text, &n_text));
    json_t *root = json_loadb((const char *)text, (size_t)n_text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!root) return dt_fail(DT_ERR_DATA, "%s:%d:%d: %s", path, error.line, error.column, error.text);
    int32_t *id = malloc((size_t)n * sizeof *id);
    dt_status status = DT_OK;
    if (!json_is_object(root))
        status = dt_fail(DT_ERR_DATA, "%s: not a JSON object of tokens and their numbers", path);
    else if (!id)
        status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    if (status == DT_OK) status = take_ids(path, root, b, n, id);
    if (status == DT_OK) status = dt_bpe_builder_permute(b, id);
    free(id);
    json_decref(root);
    return status;
}

dt_status dt_tokenizer_read(const char *merges, const char *vocab, dt_tokenizer **out) {
    static const char version[] = "#version";
    uint8_t *bytes;
    int64_t n;
    dt_bpe_builder *b = NULL;
    *out = NULL;
    DT_TRY(dt_file_read(merges, FILE_BYTES_MAX, &bytes, &n));
    const char *text = (const char *)bytes;
    dt_status status = dt_bpe_builder_new(&b);
    if (status == DT_OK && n == 0) status = dt_fail(DT_ERR_DATA, "%s: it is empty", merges);
    if (status == DT_OK && is_tiktoken(text, (size_t)n)) {
        status = read_tiktoken(merges, text, (size_t)n, b);
    } else if (status == DT_OK) {
        const char *stop = strncmp(text, version, sizeof version - 1) == 0 ? strchr(text, '\n') : NULL;
        const size_t skip = stop ? (size_t)(stop - text) + 1 : 0;
        status = dt_bpe_merges_read(merges, text + skip, (size_t)n - skip, stop ? 2 : 1, b);
    }
    free(bytes);
    if (status == DT_OK && vocab) status = read_vocab(vocab, b, dt_bpe_builder_count(b) + 1);
    if (status == DT_OK) status = dt_bpe_builder_finish(b, out);
    dt_bpe_builder_free(b);
    return status;
}
