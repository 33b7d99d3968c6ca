/* Shards of an import of text. An import that was interrupted leaves files under temporary names, which the next one
 * removes. */
#include "token_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/text.h"
#include "dataset.h"
#include "files.h"
#include "shard.h"

enum { SHARDS_MAX = 99999 };

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "import: out of memory (smaller shards need less: --shard-mib)");
}

/* As many shards as the directory has are those of this import, or they are refused. */
static dt_status count_shards(const char *dir, int64_t *n) {
    dt_names names = {0};
    *n = 0;
    if (access(dir, F_OK) != 0) return DT_OK;
    DT_TRY(dt_dir_list(dir, dt_shard_name_is, &names));
    if (names.n > 0 && !dt_shard_name_parse(names.name[0], NULL, n)) *n = names.n;
    dt_names_free(&names);
    return DT_OK;
}

static bool is_finished(const char *dir) {
    dt_index index;
    dt_token_set set;
    bool found = false;
    dt_status status = dt_index_read(dir, &index, &found);
    dt_index_free(&index);
    if (status == DT_OK && found) {
        status = dt_token_set_open(dir, &set);
        int32_t last = set.info.end;
        for (int64_t i = 0; i < set.n_shards && status == DT_OK; i++)
            status = dt_token_shard_verify(&set.shard[i], set.tokenizer, &last);
        dt_token_set_close(&set);
    }
    if (status != DT_OK) dt_error_set_text("");
    return status == DT_OK && found;
}

dt_status dt_token_writer_open(dt_token_writer *w, const char *kind, uint64_t identity) {
    dt_tokenizer_info info;
    int64_t n_there;
    dt_tokenizer_info_get(w->tokenizer, &info);
    w->width = dt_token_width(info.n_vocab);
    w->end = info.end;
    w->fresh = true;
    identity = XXH3_64bits_withSeed(w->split, strlen(w->split), identity);
    snprintf(w->origin, sizeof w->origin, "%s %016" PRIx64, kind, identity);
    w->place = (dt_import_dir){.path = w->dir, .origin = w->origin, .lock_fd = -1};
    DT_TRY(count_shards(w->dir, &n_there));
    w->place.n_shards = n_there;
    DT_TRY(dt_import_dir_open(&w->place));
    w->kept = n_there > 0 && is_finished(w->dir);
    return DT_OK;
}

void dt_token_writer_close(dt_token_writer *w) {
    dt_import_dir_close(&w->place);
    dt_index_free(&w->index);
    free(w->word);
    free(w->document);
    free(w->labels.label);
    w->labels.label = NULL;
    w->word = NULL;
    w->document = NULL;
}

static char *temporary_path(const dt_token_writer *w, int64_t i) {
    char *path;
    return asprintf(&path, "%s/" DT_TEMPORARY_PREFIX "shard-%05" PRId64, w->dir, i) < 0 ? NULL : path;
}

static dt_status flush(dt_token_writer *w) {
    static const int64_t none = 0;
    static const int32_t no_label = -1; /* a shard in which no document begins */
    const dt_token_content content = {.n_tokens = w->n_tokens,
                                      .n_documents = w->n_documents,
                                      .width = w->width,
                                      .word = w->word,
                                      .document = w->document ? w->document : &none,
                                      .tokenizer = w->tokenizer,
                                      .split = w->split,
                                      .source = w->origin,
                                      .n_classes = w->n_classes,
                                      .label = w->labels.label ? w->labels.label : &no_label,
                                      .class_names = w->class_names};
    if (w->n_shards == SHARDS_MAX)
        return dt_fail(DT_ERR_USAGE, "import: more than %d shards: make them larger (--shard-mib)",
                       SHARDS_MAX);
    if (w->n_shards == 0) unlinkat(w->place.lock_fd, DT_INDEX_NAME, 0); /* it speaks of whole sets only */
    char *path = temporary_path(w, w->n_shards);
    if (!path) return no_memory();
    const dt_status status = dt_token_shard_write(path, &content);
    if (status != DT_OK) unlink(path);
    free(path);
    w->n_shards++;
    if (w->n_documents > 0 && w->n_classes > 0) {
        w->labels.n -= w->n_documents;
        memmove(w->labels.label, w->labels.label + w->n_documents,
                (size_t)w->labels.n * sizeof *w->labels.label);
    }
    w->n_tokens = w->n_documents = 0;
    return status;
}

/* Room for n tokens, and as many documents as could begin with them. */
static dt_status reserve(dt_token_writer *w, int64_t n) {
    if (w->n_tokens + n > w->capacity) {
        const int64_t capacity = dt_max_i64(2 * w->capacity, w->n_tokens + n);
        uint8_t *grown = realloc(w->word, (size_t)(capacity * w->width));
        if (!grown) return no_memory();
        w->word = grown;
        w->capacity = capacity;
    }
    if (w->n_documents + n > w->documents_capacity) {
        const int64_t capacity =
            dt_max_i64(w->documents_capacity + w->documents_capacity / 2, w->n_documents + n);
        int64_t *grown = realloc(w->document, (size_t)capacity * sizeof *grown);
        if (!grown) return no_memory();
        w->document = grown;
        w->documents_capacity = capacity;
    }
    return DT_OK;
}

/* Appends as many as the shard takes; returns their number. */
static int64_t append(dt_token_writer *w, const int32_t *id, int64_t n) {
    int64_t i = 0;
    for (; i < n && w->n_tokens * w->width + w->n_documents * (int64_t)sizeof *w->document < w->shard_bytes;
         i++) {
        if (w->fresh) w->document[w->n_documents++] = w->n_tokens;
        w->fresh = id[i] == w->end;
        if (w->width == 2)
            ((uint16_t *)(void *)w->word)[w->n_tokens++] = (uint16_t)id[i];
        else
            ((uint32_t *)(void *)w->word)[w->n_tokens++] = (uint32_t)id[i];
    }
    return i;
}

dt_status dt_token_writer_add(dt_token_writer *w, const int32_t *id, int64_t n) {
    enum { AT_ONCE = 1 << 16 };
    for (int64_t taken; n > 0; id += taken, n -= taken) {
        const int64_t part = dt_min_i64(n, AT_ONCE);
        DT_TRY(reserve(w, part));
        taken = append(w, id, part);
        if (taken < part) DT_TRY(flush(w));
    }
    return DT_OK;
}

/* ---- the end ---- */

static int by_begin(const void *a, const void *b) {
    const dt_range *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static dt_status finish_row(const char *path, const char *name, dt_index_shard *row) {
    dt_token_shard s;
    dt_status status = dt_token_shard_open(path, &s);
    if (status == DT_OK) {
        row->n_samples = s.n_tokens;
        row->n_documents = s.n_documents;
        row->text_bytes = s.text_bytes;
        row->data[row->n_data++] = (dt_range){s.offset, s.n_tokens * s.width};
        if (s.n_documents > 0)
            row->data[row->n_data++] =
                (dt_range){s.document_offset, s.n_documents * (int64_t)sizeof(int64_t)};
        qsort(row->data, (size_t)row->n_data, sizeof *row->data, by_begin);
    }
    dt_token_shard_close(&s);
    DT_TRY(status);
    return dt_index_shard_hash(row, path, name);
}

static dt_status name_shard(dt_token_writer *w, int64_t i) {
    char name[64], *path, *temporary = temporary_path(w, i);
    dt_shard_name(name, sizeof name, i, w->n_shards);
    if (asprintf(&path, "%s/%s", w->dir, name) < 0) path = NULL;
    dt_status status = path && temporary ? DT_OK : no_memory();
    if (status == DT_OK) status = dt_file_publish(temporary, path);
    if (status == DT_OK) status = finish_row(path, name, &w->index.shard[i]);
    free(path);
    free(temporary);
    return status;
}

static dt_status write_index(dt_token_writer *w, int64_t n_skipped) {
    dt_token_set set;
    /* Opened as a training run would, which checks that all fits together. */
    dt_status status = dt_token_set_open(w->dir, &set);
    dt_index_facts facts = {.split = w->split,
                            .n_samples = set.n_tokens,
                            .n_skipped = n_skipped,
                            .tokens = {.n_documents = set.n_documents,
                                       .text_bytes = set.text_bytes,
                                       .n_vocab = set.info.n_vocab,
                                       .end = set.info.end,
                                       .tokenizer_xxh3 = set.info.xxh3}};
    snprintf(facts.tokens.tokenizer, sizeof facts.tokens.tokenizer, "%s", set.info.name);
    if (status == DT_OK) status = dt_index_write(w->dir, &w->index, &facts);
    dt_token_set_close(&set);
    return status;
}

/* What the set has, once it is there. */
static dt_status tell(const dt_token_writer *w, dt_import_result *result) {
    dt_token_set set;
    dt_index index;
    bool found;
    dt_status status = dt_token_set_open(w->dir, &set);
    if (status == DT_OK) status = dt_index_read(w->dir, &index, &found);
    if (status == DT_OK) {
        result->n_samples += set.n_tokens;
        result->n_documents += set.n_documents;
        result->text_bytes += dt_max_i64(set.text_bytes, 0);
        result->n_shards += set.n_shards;
        if (w->kept) result->n_shards_kept += set.n_shards;
        for (int64_t i = 0; i < index.n_shards; i++) result->n_bytes += index.shard[i].n_bytes;
        dt_index_free(&index);
    }
    dt_token_set_close(&set);
    return status;
}

dt_status dt_token_writer_finish(dt_token_writer *w, int64_t n_skipped, dt_import_result *result) {
    if (w->kept) return tell(w, result);
    if (w->n_tokens > 0) DT_TRY(flush(w));
    if (w->n_shards == 0)
        return dt_fail(DT_ERR_DATA, "import: no text falls to %s: nothing is written to %s", w->split,
                       w->dir);
    w->index.shard = calloc((size_t)w->n_shards, sizeof *w->index.shard);
    if (!w->index.shard) return no_memory();
    w->index.n_shards = w->n_shards;
    for (int64_t i = 0; i < w->n_shards; i++) DT_TRY(name_shard(w, i));
    DT_TRY(write_index(w, n_skipped));
    return tell(w, result);
}
