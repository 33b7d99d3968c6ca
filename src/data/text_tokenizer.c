/* What --tokenizer names. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bpe_train.h"
#include "core/text.h"
#include "text_import.h"
#include "token_shard.h"
#include "unicode.h"

enum { N_CODE_POINTS = 0x110000 };

static dt_status unknown(const char *name) {
    return dt_fail(
        DT_ERR_USAGE,
        "--tokenizer %s: expected byte, char, bpe:N, gpt2:MERGES, ids:N or the directory of a data set whose "
        "tokenizer it is",
        name);
}

/* A number that ends at `stop`. */
static bool parse_count(const char *text, char stop, int64_t *out, const char **rest) {
    char *end;
    *out = strtoll(text, &end, 10);
    *rest = end + 1;
    return text[0] >= '0' && text[0] <= '9' && *end == stop;
}

static dt_status parse_ids(const char *name, dt_tokenizer **out) {
    int64_t n, end = -1;
    const char *rest;
    if (!parse_count(name + 4, 0, &n, &rest) &&
        (!parse_count(name + 4, ':', &n, &rest) || !parse_count(rest, 0, &end, &rest)))
        return unknown(name);
    return dt_tokenizer_ids(n, end, out);
}

/* MERGES, or MERGES,VOCAB.json. */
static dt_status read_gpt2(const char *files, dt_tokenizer **out) {
    static const char json[] = ".json";
    const char *comma = strrchr(files, ','), *vocab = comma ? comma + 1 : NULL;
    const size_t n = vocab ? strlen(vocab) : 0;
    if (n < sizeof json || strcmp(vocab + n - (sizeof json - 1), json) != 0)
        return dt_tokenizer_read(files, NULL, out);
    char *merges = strndup(files, (size_t)(comma - files));
    if (!merges) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    const dt_status status = dt_tokenizer_read(merges, vocab, out);
    free(merges);
    return status;
}

static dt_status of_set(const char *path, dt_tokenizer **out) {
    dt_token_set set;
    const dt_status status = dt_token_set_open(path, &set);
    if (status == DT_OK) {
        *out = set.tokenizer;
        set.tokenizer = NULL;
    } else {
        dt_error_context("--tokenizer %s", path);
    }
    dt_token_set_close(&set);
    return status;
}

/* ---- learnt from the text ---- */

typedef struct lesson {
    dt_bpe_trainer *trainer; /* NULL: characters are collected */
    uint8_t *seen;           /* [N_CODE_POINTS] */
    int64_t n_bytes;
} lesson;

static dt_status learn(void *arg, const dt_text_document *d) {
    lesson *l = arg;
    const uint8_t *text = d->text;
    const int64_t n = d->n;
    if (d->val) return DT_OK;
    l->n_bytes += n;
    if (l->trainer) return dt_bpe_trainer_add(l->trainer, text, n);
    for (int64_t at = 0; at < n;) {
        uint32_t c;
        at += dt_utf8_decode(text + at, n - at, &c);
        if (c < N_CODE_POINTS) l->seen[c] = 1;
    }
    return DT_OK;
}

/* Of more text than a trainer takes every k-th block. */
static dt_status read_lesson(const dt_import_options *o, const dt_text_read_options *read, lesson *l) {
    dt_text_reader *r;
    dt_text_block block = {.file = NULL};
    int64_t n_skipped = 0, done, total;
    bool more = true;
    dt_status status = dt_text_reader_open(read, &r);
    if (status == DT_OK) dt_text_reader_progress(r, &done, &total);
    const int64_t every = status == DT_OK && l->trainer ? dt_ceil_div(total, DT_BPE_TRAIN_BYTES) : 1;
    for (int64_t i = 0; status == DT_OK; i++) {
        status = dt_text_reader_next(r, &block, &more);
        if (status != DT_OK || !more || (l->trainer && l->n_bytes >= DT_BPE_TRAIN_BYTES)) break;
        if (block.kind == DT_TEXT_WORDS)
            status = dt_fail(DT_ERR_USAGE,
                             "%s: a tokenizer is learnt from text, and these are tokens (--tokenizer ids:N)",
                             block.file);
        else if (i % every == 0)
            status = dt_text_block_each(&block, read, o->skip_broken, learn, l, &n_skipped);
        if (status == DT_OK && o->progress && !o->progress(o->arg, 0, total))
            status = dt_fail(DT_STOPPED, "import interrupted; it begins anew when it is run again");
    }
    dt_text_block_free(&block);
    dt_text_reader_close(r);
    return status;
}

static dt_status learn_chars(const dt_import_options *o, dt_text_read_options *read, dt_tokenizer **out) {
    lesson l = {.seen = calloc(1, N_CODE_POINTS)};
    uint32_t *code = malloc(N_CODE_POINTS * sizeof *code);
    int64_t n = 0;
    dt_status status = l.seen && code ? DT_OK : dt_fail(DT_ERR_MEMORY, "import: out of memory");
    read->tokenizer = DT_TOKENIZER_CHAR;
    if (status == DT_OK) status = read_lesson(o, read, &l);
    for (uint32_t c = 0x80; c < N_CODE_POINTS && status == DT_OK; c++)
        if (l.seen[c]) code[n++] = c;
    if (status == DT_OK) status = dt_tokenizer_char(code, n, out);
    free(l.seen);
    free(code);
    return status;
}

static dt_status learn_bpe(const dt_import_options *o, dt_text_read_options *read, int64_t n_vocab,
                           dt_tokenizer **out) {
    lesson l = {.seen = NULL};
    dt_tokenizer_info info;
    read->tokenizer = DT_TOKENIZER_BPE;
    dt_status status = dt_bpe_trainer_new(&l.trainer);
    if (status == DT_OK) status = read_lesson(o, read, &l);
    if (status == DT_OK) status = dt_bpe_trainer_finish(l.trainer, n_vocab, out);
    dt_bpe_trainer_free(l.trainer);
    if (status != DT_OK || !o->note) return status;
    char text[160];
    dt_tokenizer_info_get(*out, &info);
    snprintf(text, sizeof text, "the text gives %s, not %lld: no other pair stands there twice",
             dt_count_text(info.n_vocab, "token").s, (long long)n_vocab);
    if (info.n_vocab < n_vocab) o->note(o->arg, text);
    return DT_OK;
}

/* Files of tokens that say whose they are. */
static dt_status of_files(const dt_text_read_options *read, dt_tokenizer **out) {
    dt_text_reader *r;
    bool found = false;
    int64_t n_vocab = 0, end = -1;
    dt_status status = dt_text_reader_open(read, &r);
    if (status == DT_OK) status = dt_text_reader_ids(r, &found, &n_vocab, &end);
    dt_text_reader_close(r);
    DT_TRY(status);
    if (found) return dt_tokenizer_ids(n_vocab, end, out);
    return dt_fail(DT_ERR_USAGE,
                   "import text: --tokenizer is missing: byte, char, bpe:N, gpt2:MERGES, or the directory of "
                   "a data set; of files of tokens also ids:N[:END]");
}

static dt_status make(const dt_import_options *o, dt_text_read_options *read, dt_tokenizer **out) {
    const char *name = o->tokenizer, *rest;
    struct stat st;
    int64_t n;
    if (!name) return of_files(read, out);
    if (strcmp(name, "byte") == 0) return dt_tokenizer_byte(out);
    if (strcmp(name, "char") == 0) return learn_chars(o, read, out);
    if (strncmp(name, "gpt2:", 5) == 0) return read_gpt2(name + 5, out);
    if (strncmp(name, "ids:", 4) == 0) return parse_ids(name, out);
    if (strncmp(name, "bpe:", 4) == 0) {
        if (!parse_count(name + 4, 0, &n, &rest)) return unknown(name);
        if (n < DT_BPE_VOCAB_MIN || n > DT_TOKENIZER_VOCAB_MAX)
            return dt_fail(DT_ERR_USAGE,
                           "--tokenizer %s: expected %d (the bytes and the end of a document) to %d tokens",
                           name, DT_BPE_VOCAB_MIN, DT_TOKENIZER_VOCAB_MAX);
        return learn_bpe(o, read, n, out);
    }
    return stat(name, &st) == 0 ? of_set(name, out) : unknown(name);
}

dt_status dt_text_tokenizer(const dt_import_options *o, dt_text_read_options *read, dt_tokenizer **out) {
    dt_tokenizer_info info;
    *out = NULL;
    DT_TRY(make(o, read, out));
    dt_tokenizer_info_get(*out, &info);
    read->tokenizer = info.kind;
    return DT_OK;
}
