/* Tokens of one file, read where they lie. */
#include "token_shard.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/text.h"
#include "shard.h"

enum { TOKENIZER_BYTES_MAX = 1 << 30 };

static dt_status wrong(const dt_token_shard *s, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s: not a sound file of tokens: %s", s->path, what);
}

/* ---- opening ---- */

dt_status dt_token_shard_is(const char *path, bool *out) {
    dt_h5 *h;
    char *kind = NULL;
    *out = false;
    DT_TRY(dt_h5_open(path, &h));
    dt_status status = dt_h5_attr_has(h, "kind", out);
    if (status == DT_OK && *out) status = dt_h5_attr_get_str(h, "kind", &kind);
    *out = kind && strcmp(kind, DT_TOKENS_KIND) == 0;
    free(kind);
    const dt_status closed = dt_h5_close(h);
    return status == DT_OK ? closed : status;
}

/* What an attribute says, `otherwise` where it is absent. */
static dt_status optional(dt_h5 *h, const char *name, int64_t otherwise, int64_t *out) {
    bool there;
    *out = otherwise;
    DT_TRY(dt_h5_attr_has(h, name, &there));
    return there ? dt_h5_attr_get_i64(h, name, out) : DT_OK;
}

static dt_status open_attributes(dt_h5 *h, dt_token_shard *s) {
    int64_t version, count;
    DT_TRY(optional(h, "version", DT_SHARD_VERSION, &version));
    if (version != DT_SHARD_VERSION)
        return dt_fail(DT_ERR_DATA, "%s: shard version %lld; this program reads version %d", s->path,
                       (long long)version, DT_SHARD_VERSION);
    DT_TRY(optional(h, "count", s->n_tokens, &count));
    DT_TRY(optional(h, "end", -1, &s->end));
    DT_TRY(optional(h, "text_bytes", -1, &s->text_bytes));
    DT_TRY(dt_h5_attr_get_i64(h, "vocabulary", &s->n_vocab));
    if (count != s->n_tokens) return wrong(s, "attribute count differs from the tokens");
    if (s->n_vocab < 1 || s->n_vocab > DT_TOKENIZER_VOCAB_MAX || s->end < -1 || s->end >= s->n_vocab)
        return wrong(s, "attributes vocabulary or end are out of range");
    return s->text_bytes >= -1 ? DT_OK : wrong(s, "attribute text_bytes is out of range");
}

static dt_status open_i64(dt_h5 *h, dt_token_shard *s, const char *name, dt_h5_info *info) {
    DT_TRY(dt_h5_info_get(h, name, info));
    if (info->ndim == 1 && info->dtype == DT_DTYPE_I64) return DT_OK;
    return dt_fail(DT_ERR_DATA, "%s: %s is not one dimension of i64", s->path, name);
}

static dt_status open_checksums(dt_h5 *h, dt_token_shard *s) {
    dt_h5_info info;
    if (!dt_h5_has(h, "checksum")) return DT_OK;
    DT_TRY(open_i64(h, s, "checksum", &info));
    if (info.n_elem != dt_ceil_div(s->n_tokens, DT_TOKEN_BLOCK))
        return wrong(s, "checksum is not one for each block of 4096 tokens");
    s->checksum = malloc((size_t)info.n_elem * sizeof *s->checksum);
    if (!s->checksum) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    return dt_h5_read(h, "checksum", DT_DTYPE_I64, info.n_elem, s->checksum);
}

static dt_status open_documents(dt_h5 *h, dt_token_shard *s) {
    dt_h5_info info;
    s->document_offset = -1;
    if (!dt_h5_has(h, "documents")) return DT_OK;
    DT_TRY(open_i64(h, s, "documents", &info));
    if (info.n_elem > s->n_tokens || (info.n_elem > 0 && info.offset_bytes < 0))
        return wrong(s, "documents are more than tokens, or not in one piece");
    s->n_documents = info.n_elem;
    s->document_offset = dt_max_i64(info.offset_bytes, 0);
    return DT_OK;
}

static dt_status open_tokenizer(dt_h5 *h, dt_token_shard *s) {
    dt_h5_info info;
    if (!dt_h5_has(h, "tokenizer")) return DT_OK;
    DT_TRY(dt_h5_info_get(h, "tokenizer", &info));
    if (info.ndim != 1 || info.dtype != DT_DTYPE_U8 || info.n_elem > TOKENIZER_BYTES_MAX)
        return wrong(s, "tokenizer is no text in u8");
    s->tokenizer = malloc((size_t)info.n_elem + 1);
    if (!s->tokenizer) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    s->n_tokenizer = info.n_elem;
    return dt_h5_read(h, "tokenizer", DT_DTYPE_U8, info.n_elem, s->tokenizer);
}

/* Where documents begin, and what each is. */
static dt_status open_labels(dt_h5 *h, dt_token_shard *s) {
    dt_h5_info info;
    if (!dt_h5_has(h, "label")) return DT_OK;
    DT_TRY(dt_h5_info_get(h, "label", &info));
    DT_TRY(dt_h5_attr_get_i64(h, "classes", &s->n_classes));
    DT_TRY(dt_h5_attr_get_str(h, "class_names", &s->class_names));
    if (info.ndim != 1 || info.dtype != DT_DTYPE_I32 || s->document_offset < 0 ||
        info.n_elem != s->n_documents)
        return wrong(s, "label is not one i32 for each document");
    if (s->n_classes < 1 || s->n_classes > INT32_MAX) return wrong(s, "attribute classes is out of range");
    const int64_t n = s->n_documents;
    s->label = malloc((size_t)(n + 1) * sizeof *s->label);
    s->document = malloc((size_t)(n + 1) * sizeof *s->document);
    if (!s->label || !s->document) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    if (n > 0) DT_TRY(dt_h5_read(h, "label", DT_DTYPE_I32, n, s->label));
    if (n > 0) DT_TRY(dt_h5_read(h, "documents", DT_DTYPE_I64, n, s->document));
    for (int64_t i = 0; i < n; i++) {
        if (s->label[i] < -1 || s->label[i] >= s->n_classes) return wrong(s, "label is out of range");
        if (s->document[i] < (i ? s->document[i - 1] + 1 : 0) || s->document[i] >= s->n_tokens)
            return wrong(s, "documents do not ascend");
    }
    return DT_OK;
}

static dt_status open_all(dt_h5 *h, dt_token_shard *s) {
    int64_t n_bytes;
    DT_TRY(dt_h5_words_get(h, "tokens", &s->width, &s->n_tokens, &s->offset));
    if (s->n_tokens < 1) return wrong(s, "it is empty");
    DT_TRY(open_attributes(h, s));
    DT_TRY(open_checksums(h, s));
    DT_TRY(open_documents(h, s));
    DT_TRY(open_labels(h, s));
    DT_TRY(open_tokenizer(h, s));
    DT_TRY(dt_file_open(s->path, &s->fd, &n_bytes));
    if (s->offset > n_bytes || s->n_tokens > (n_bytes - s->offset) / s->width ||
        (s->document_offset >= 0 &&
         (s->document_offset > n_bytes || s->n_documents > (n_bytes - s->document_offset) / 8)))
        return wrong(s, "it reaches past the end of the file");
    return DT_OK;
}

dt_status dt_token_shard_open(const char *path, dt_token_shard *s) {
    dt_h5 *h;
    *s = (dt_token_shard){.fd = -1, .path = strdup(path)};
    if (!s->path) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    DT_TRY(dt_h5_open(path, &h));
    const dt_status status = open_all(h, s), closed = dt_h5_close(h);
    return status == DT_OK ? closed : status;
}

void dt_token_shard_close(dt_token_shard *s) {
    if (s->fd >= 0) close(s->fd);
    free(s->path);
    free(s->checksum);
    free(s->tokenizer);
    free(s->label);
    free(s->document);
    free(s->class_names);
    *s = (dt_token_shard){.fd = -1};
}

/* ---- reading ---- */

int64_t dt_token_room_bytes(int64_t n) {
    return (n + 2 * DT_TOKEN_BLOCK) * (int64_t)sizeof(uint32_t);
}

/* Low 32 bits of XXH3-64 of a block's bytes, seeded with its number. */
static int64_t checksum_of(const void *bytes, int64_t n, int64_t block) {
    return (int64_t)(XXH3_64bits_withSeed(bytes, (size_t)n, (uint64_t)block) & 0xFFFFFFFFu);
}

/* `room` holds tokens [begin, begin + n) of whole blocks. */
static dt_status check_blocks(const dt_token_shard *s, int64_t begin, int64_t n, const uint8_t *room) {
    if (!s->checksum)
        return dt_fail(DT_ERR_DATA, "%s: the file has no checksums to verify (set data.verify = false)",
                       s->path);
    for (int64_t at = 0; at < n; at += DT_TOKEN_BLOCK) {
        const int64_t block = (begin + at) / DT_TOKEN_BLOCK;
        if (checksum_of(room + at * s->width, dt_min_i64(n - at, DT_TOKEN_BLOCK) * s->width, block) !=
            s->checksum[block])
            return dt_fail(DT_ERR_DATA,
                           "%s: tokens %lld to %lld are damaged: their checksum differs (import it again)",
                           s->path, (long long)(begin + at),
                           (long long)(begin + at + dt_min_i64(n - at, DT_TOKEN_BLOCK) - 1));
    }
    return DT_OK;
}

dt_status dt_token_shard_read(const dt_token_shard *s, int64_t begin, int64_t n, bool verify, void *room,
                              int32_t *dst) {
    const int64_t first = verify ? begin / DT_TOKEN_BLOCK * DT_TOKEN_BLOCK : begin,
                  last = verify ? dt_min_i64(dt_round_up(begin + n, DT_TOKEN_BLOCK), s->n_tokens) : begin + n;
    DT_TRY(dt_file_pread(s->path, s->fd, s->offset + first * s->width, (last - first) * s->width, room));
    if (verify) DT_TRY(check_blocks(s, first, last - first, room));
    uint32_t largest = 0;
    if (s->width == 2) {
        const uint16_t *from = (const uint16_t *)room + (begin - first);
        for (int64_t i = 0; i < n; i++) {
            dst[i] = from[i];
            largest = from[i] > largest ? from[i] : largest;
        }
    } else {
        const uint32_t *from = (const uint32_t *)room + (begin - first);
        for (int64_t i = 0; i < n; i++) {
            dst[i] = (int32_t)from[i];
            largest = from[i] > largest ? from[i] : largest;
        }
    }
    if ((int64_t)largest < s->n_vocab) return DT_OK;
    int64_t at = 0;
    while ((int64_t)(uint32_t)dst[at] < s->n_vocab) at++;
    return dt_fail(DT_ERR_DATA, "%s: token %lld is %u: expected 0 to %lld", s->path, (long long)(begin + at),
                   (uint32_t)dst[at], (long long)s->n_vocab - 1);
}

/* Where documents begin, as the file has it, a block at a time. */
typedef struct starts {
    const dt_token_shard *s;
    int64_t at, filled; /* of all; of the block */
    int64_t block[512];
} starts;

/* The next of them, n_tokens after the last. */
static dt_status next_start(starts *w, int64_t *out) {
    const int64_t size = sizeof w->block / sizeof w->block[0], in = w->at % size;
    *out = w->s->n_tokens;
    if (w->at >= w->s->n_documents) return DT_OK;
    if (in == 0)
        DT_TRY(dt_file_pread(w->s->path, w->s->fd, w->s->document_offset + 8 * w->at,
                             8 * dt_min_i64(size, w->s->n_documents - w->at), w->block));
    *out = w->block[in];
    w->at++;
    return DT_OK;
}

dt_status dt_token_shard_verify(const dt_token_shard *s, const dt_tokenizer *t, int32_t *last) {
    int32_t token[DT_TOKEN_BLOCK];
    void *room = malloc((size_t)dt_token_room_bytes(DT_TOKEN_BLOCK));
    starts w = {.s = s};
    int64_t bytes = 0, start = 0;
    dt_status status = room ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    if (status == DT_OK) status = next_start(&w, &start);
    const bool documents = s->document_offset >= 0 && s->end >= 0;
    for (int64_t at = 0; at < s->n_tokens && status == DT_OK; at += DT_TOKEN_BLOCK) {
        const int64_t n = dt_min_i64(DT_TOKEN_BLOCK, s->n_tokens - at);
        status = dt_token_shard_read(s, at, n, s->checksum != NULL, room, token);
        for (int64_t i = 0; i < n && status == DT_OK; i++) {
            bytes += dt_tokenizer_bytes(t, token[i], NULL);
            if (documents && (*last == s->end) != (start == at + i))
                status = dt_fail(DT_ERR_DATA, "%s: token %lld: documents do not begin after the ends",
                                 s->path, (long long)(at + i));
            if (documents && start == at + i && status == DT_OK) status = next_start(&w, &start);
            *last = token[i];
        }
    }
    free(room);
    if (status == DT_OK && s->text_bytes >= 0 && bytes != s->text_bytes)
        status = dt_fail(DT_ERR_DATA, "%s: its tokens are %lld bytes of text, it says %lld", s->path,
                         (long long)bytes, (long long)s->text_bytes);
    return status;
}

/* ---- writing ---- */

int32_t dt_token_width(int64_t n_vocab) {
    return n_vocab <= 1 << 16 ? 2 : 4;
}

static dt_status write_words(dt_h5 *h, const dt_token_content *k) {
    const int64_t n = k->n_tokens, n_blocks = dt_ceil_div(n, DT_TOKEN_BLOCK);
    int64_t *checksum = malloc((size_t)n_blocks * sizeof *checksum);
    if (!checksum) return dt_fail(DT_ERR_MEMORY, "out of memory for checksums");
    for (int64_t b = 0; b < n_blocks; b++)
        checksum[b] = checksum_of((const uint8_t *)k->word + b * DT_TOKEN_BLOCK * k->width,
                                  dt_min_i64(DT_TOKEN_BLOCK, n - b * DT_TOKEN_BLOCK) * k->width, b);
    dt_status status = dt_h5_words_write(h, "tokens", k->width, n, k->word);
    if (status == DT_OK) status = dt_h5_write(h, "checksum", DT_DTYPE_I64, 1, &n_blocks, checksum);
    free(checksum);
    return status;
}

static int64_t text_bytes_of(const dt_token_content *k) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < k->n_tokens; i++) {
        const uint32_t id = k->width == 2 ? ((const uint16_t *)k->word)[i] : ((const uint32_t *)k->word)[i];
        bytes += dt_tokenizer_bytes(k->tokenizer, (int32_t)id, NULL);
    }
    return bytes;
}

static dt_status write_tokenizer(dt_h5 *h, const dt_tokenizer *t) {
    char *text;
    DT_TRY(dt_tokenizer_text(t, &text));
    const int64_t n = (int64_t)strlen(text);
    const dt_status status = dt_h5_write(h, "tokenizer", DT_DTYPE_U8, 1, &n, text);
    free(text);
    return status;
}

static dt_status write_all(dt_h5 *h, const dt_token_content *k) {
    dt_tokenizer_info info;
    dt_tokenizer_info_get(k->tokenizer, &info);
    DT_TRY(dt_h5_attr_set_str(h, "format", DT_SHARD_FORMAT));
    DT_TRY(dt_h5_attr_set_i64(h, "version", DT_SHARD_VERSION));
    DT_TRY(dt_h5_attr_set_str(h, "kind", DT_TOKENS_KIND));
    DT_TRY(dt_h5_attr_set_str(h, "split", k->split));
    DT_TRY(dt_h5_attr_set_i64(h, "count", k->n_tokens));
    DT_TRY(dt_h5_attr_set_i64(h, "vocabulary", info.n_vocab));
    DT_TRY(dt_h5_attr_set_i64(h, "end", info.end));
    if (info.kind != DT_TOKENIZER_IDS) DT_TRY(dt_h5_attr_set_i64(h, "text_bytes", text_bytes_of(k)));
    DT_TRY(dt_h5_attr_set_str(h, "source", k->source));
    DT_TRY(write_words(h, k));
    DT_TRY(dt_h5_write(h, "documents", DT_DTYPE_I64, 1, &k->n_documents, k->document));
    if (k->n_classes > 0) {
        DT_TRY(dt_h5_attr_set_i64(h, "classes", k->n_classes));
        DT_TRY(dt_h5_attr_set_str(h, "class_names", k->class_names));
        DT_TRY(dt_h5_write(h, "label", DT_DTYPE_I32, 1, &k->n_documents, k->label));
    }
    return write_tokenizer(h, k->tokenizer);
}

dt_status dt_token_shard_write(const char *path, const dt_token_content *content) {
    dt_h5 *h;
    DT_TRY(dt_h5_create(path, &h));
    const dt_status status = write_all(h, content), closed = dt_h5_close(h);
    return status == DT_OK ? closed : status;
}
