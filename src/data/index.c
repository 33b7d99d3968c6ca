/* index.json by way of jansson. Everything read is checked: the file may be damaged or made by hand. */
#include "index.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "field_json.h"
#include "files.h"

#define INDEX_FORMAT "dtrain-dataset"

enum { INDEX_VERSION = 1, INDEX_MAX_BYTES = 256 << 20 };

bool dt_shard_name_is(const char *name) {
    size_t n = strlen(name);
    return strncmp(name, "shard-", 6) == 0 && n > 9 && strcmp(name + n - 3, ".h5") == 0;
}

void dt_shard_name(char *out, size_t n, int64_t i, int64_t n_shards) {
    snprintf(out, n, "shard-%05" PRId64 "-of-%05" PRId64 ".h5", i, n_shards);
}

bool dt_shard_name_parse(const char *name, int64_t *i, int64_t *n_shards) {
    int64_t index, count;
    int used = -1;
    if (sscanf(name, "shard-%5" SCNd64 "-of-%5" SCNd64 ".h5%n", &index, &count, &used) != 2) return false;
    if (used < 0 || name[used] || index < 0 || count < 1 || index >= count) return false;
    if (i) *i = index;
    if (n_shards) *n_shards = count;
    return true;
}

static dt_status damaged(const char *path, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s: damaged: %s (import again to write it anew)", path, what);
}

/* 16 hex digits. */
static bool read_hash(const json_t *row, const char *key, uint64_t *out) {
    const char *text = json_string_value(json_object_get(row, key));
    char *end;
    if (!text) return false;
    errno = 0;
    *out = strtoull(text, &end, 16);
    return errno == 0 && end == text + 16 && *end == 0;
}

static bool read_count(const json_t *row, const char *key, int64_t *out) {
    const json_t *value = json_object_get(row, key);
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= 0;
}

/* Of images one, of arrays one a field: inside the file, ascending and apart. */
static dt_status read_ranges(const char *path, const json_t *row, dt_index_shard *out) {
    const json_t *list = json_object_get(row, "data");
    const size_t n = list ? json_array_size(list) : 1;
    int64_t end = 0;
    if (n < 1 || n > DT_FIELDS_MAX) return damaged(path, "a shard's data ranges");
    for (size_t i = 0; i < n; i++) {
        const json_t *range = list ? json_array_get(list, i) : row;
        dt_range *r = &out->data[out->n_data++];
        if (!read_count(range, list ? "offset" : "data_offset", &r->begin) ||
            !read_count(range, list ? "bytes" : "data_bytes", &r->n_bytes) || r->begin < end ||
            r->begin > out->n_bytes || r->n_bytes > out->n_bytes - r->begin)
            return damaged(path, "a shard's data ranges");
        end = r->begin + r->n_bytes;
    }
    return DT_OK;
}

static dt_status read_shard(const char *path, const json_t *row, dt_index_shard *out) {
    const char *file = json_string_value(json_object_get(row, "file"));
    if (!file || strchr(file, '/') || strlen(file) >= sizeof out->file)
        return damaged(path, "a shard's file name");
    strcpy(out->file, file);
    if (!read_count(row, "count", &out->n_samples) || !read_count(row, "bytes", &out->n_bytes) ||
        !read_hash(row, "xxh3_64", &out->xxh3) || !read_hash(row, "structure_xxh3_64", &out->structure_xxh3))
        return damaged(path, "a shard's numbers or hashes");
    return read_ranges(path, row, out);
}

/* An array of n numbers. */
static bool are_numbers(const json_t *array, int64_t n) {
    if (!json_is_array(array) || (int64_t)json_array_size(array) != n) return false;
    for (size_t i = 0; i < (size_t)n; i++)
        if (!json_is_number(json_array_get(array, i))) return false;
    return true;
}

/* None, or one for each class. */
static dt_status read_class_names(const char *path, const json_t *array, dt_index *out) {
    const size_t n = json_array_size(array);
    if (n == 0) return DT_OK;
    if ((int64_t)n != out->n_classes) return damaged(path, "class_names are not one for each class");
    out->class_name = calloc(n, sizeof *out->class_name);
    if (!out->class_name) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(array, i));
        if (!name) return damaged(path, "class_names");
        out->class_name[i] = strdup(name);
        if (!out->class_name[i]) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    }
    return DT_OK;
}

static dt_status read_tokens(const char *path, const json_t *root, dt_index_tokens *out) {
    const json_t *tokenizer = json_object_get(root, "tokenizer"), *end = json_object_get(root, "end");
    const char *name = json_string_value(json_object_get(tokenizer, "name"));
    if (!read_count(root, "vocabulary", &out->n_vocab) || out->n_vocab < 1)
        return damaged(path, "vocabulary");
    if (!read_count(root, "documents", &out->n_documents)) return damaged(path, "documents");
    if (!json_object_get(root, "text_bytes"))
        out->text_bytes = -1;
    else if (!read_count(root, "text_bytes", &out->text_bytes))
        return damaged(path, "text_bytes");
    out->end = json_integer_value(end);
    if (!json_is_integer(end)) return damaged(path, "end");
    if (!name || !read_hash(tokenizer, "xxh3_64", &out->tokenizer_xxh3)) return damaged(path, "tokenizer");
    snprintf(out->tokenizer, sizeof out->tokenizer, "%s", name);
    return DT_OK;
}

static dt_status read_totals(const char *path, const json_t *root, dt_index *out) {
    const json_t *shape = json_object_get(root, "shape"), *fields = json_object_get(root, "fields");
    if (!read_count(root, "count", &out->n_samples)) return damaged(path, "count");
    if (fields)
        return dt_fields_from_json(fields, &out->n_fields, out->field) ? DT_OK : damaged(path, "fields");
    if (json_object_get(root, "tokenizer")) return read_tokens(path, root, &out->tokens);
    if (!read_count(root, "classes", &out->n_classes)) return damaged(path, "classes");
    if (!are_numbers(shape, 3)) return damaged(path, "shape");
    for (size_t i = 0; i < 3; i++) out->shape[i] = json_integer_value(json_array_get(shape, i));
    if (!are_numbers(json_object_get(root, "mean"), out->shape[2]) ||
        !are_numbers(json_object_get(root, "std"), out->shape[2]))
        return damaged(path, "mean or std");
    return read_class_names(path, json_object_get(root, "class_names"), out);
}

static dt_status parse(const char *path, const uint8_t *text, int64_t n, dt_index *out) {
    json_error_t error;
    json_t *root = json_loadb((const char *)text, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return dt_fail(DT_ERR_DATA, "%s:%d:%d: %s (import the data again)", path, error.line, error.column,
                       error.text);
    dt_status status = DT_OK;
    const char *format = json_string_value(json_object_get(root, "format"));
    json_t *version = json_object_get(root, "version"), *shards = json_object_get(root, "shards");
    bool mine = format && strcmp(format, INDEX_FORMAT) == 0;
    if (mine && json_integer_value(version) > INDEX_VERSION) {
        status = dt_fail(DT_ERR_DATA, "%s: written by a newer dtrain (version %lld; this program reads %d)",
                         path, (long long)json_integer_value(version), INDEX_VERSION);
        goto done;
    }
    if (!mine || json_integer_value(version) != INDEX_VERSION || json_array_size(shards) == 0) {
        status = damaged(path, "format, version or shards");
        goto done;
    }
    DT_TRY_GOTO(status, read_totals(path, root, out), done);
    out->shard = calloc(json_array_size(shards), sizeof *out->shard);
    if (!out->shard) {
        status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
        goto done;
    }
    out->n_shards = (int64_t)json_array_size(shards);
    for (int64_t i = 0; i < out->n_shards; i++)
        DT_TRY_GOTO(status, read_shard(path, json_array_get(shards, (size_t)i), &out->shard[i]), done);
done:
    json_decref(root);
    if (status != DT_OK) dt_index_free(out);
    return status;
}

dt_status dt_index_read(const char *dir, dt_index *out, bool *found) {
    char *path;
    uint8_t *text = NULL;
    int64_t n;
    *out = (dt_index){0};
    *found = false;
    if (asprintf(&path, "%s/" DT_INDEX_NAME, dir) < 0)
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", dir);
    dt_status status = DT_OK;
    if (access(path, F_OK) == 0) {
        status = dt_file_read(path, INDEX_MAX_BYTES, &text, &n);
        if (status == DT_OK) status = parse(path, text, n, out);
        *found = status == DT_OK;
    }
    free(text);
    free(path);
    return status;
}

void dt_index_free(dt_index *index) {
    for (int64_t i = 0; index->class_name && i < index->n_classes; i++) free(index->class_name[i]);
    free(index->class_name);
    free(index->shard);
    *index = (dt_index){0};
}

/* Appends an item, which may be NULL if it could not be made. The array is freed and NULL when that fails: a
 * file with a gap would be worse than none. */
static json_t *append(json_t *array, json_t *item) {
    if (json_array_append_new(array, item) == 0) return array;
    json_decref(array);
    return NULL;
}

static json_t *real_array(const double *x, int64_t n) {
    json_t *out = json_array();
    for (int64_t i = 0; i < n && out; i++) out = append(out, json_real(x[i]));
    return out;
}

static json_t *name_array(char *const *name, int64_t n) {
    json_t *out = json_array();
    for (int64_t i = 0; name && i < n && out; i++) out = append(out, json_string(name[i]));
    return out;
}

static json_t *ranges(const dt_index_shard *s) {
    json_t *out = json_array();
    for (int32_t i = 0; i < s->n_data && out; i++)
        out = append(out, json_pack("{s:I, s:I}", "offset", (json_int_t)s->data[i].begin, "bytes",
                                    (json_int_t)s->data[i].n_bytes));
    return out;
}

static json_t *shard_row(const dt_index_shard *s, bool ranged) {
    char hash[17], structure[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, s->xxh3);
    snprintf(structure, sizeof structure, "%016" PRIx64, s->structure_xxh3);
    if (ranged)
        return json_pack("{s:s, s:I, s:I, s:s, s:o, s:s}", "file", s->file, "count", (json_int_t)s->n_samples,
                         "bytes", (json_int_t)s->n_bytes, "xxh3_64", hash, "data", ranges(s),
                         "structure_xxh3_64", structure);
    return json_pack("{s:s, s:I, s:I, s:s, s:I, s:I, s:s}", "file", s->file, "count",
                     (json_int_t)s->n_samples, "bytes", (json_int_t)s->n_bytes, "xxh3_64", hash,
                     "data_offset", (json_int_t)s->data[0].begin, "data_bytes",
                     (json_int_t)s->data[0].n_bytes, "structure_xxh3_64", structure);
}

/* -1: nothing is known, and nothing said. */
static void set_known(json_t *object, const char *key, int64_t value) {
    if (value >= 0) json_object_set_new(object, key, json_integer(value));
}

static json_t *shard_rows(const dt_index *index, const dt_index_facts *facts) {
    const bool tokens = facts->tokens.n_vocab > 0;
    json_t *out = json_array();
    for (int64_t i = 0; i < index->n_shards && out; i++) {
        const dt_index_shard *s = &index->shard[i];
        json_t *row = shard_row(s, tokens || facts->n_fields > 0);
        if (tokens) set_known(row, "documents", s->n_documents);
        if (tokens) set_known(row, "text_bytes", s->text_bytes);
        out = append(out, row);
    }
    return out;
}

static json_t *image_facts(const dt_index_facts *facts) {
    return json_pack("{s:I, s:[I, I, I], s:o, s:o, s:o}", "classes", (json_int_t)facts->n_classes, "shape",
                     (json_int_t)facts->height, (json_int_t)facts->width, (json_int_t)facts->channels, "mean",
                     real_array(facts->mean, facts->channels), "std",
                     real_array(facts->stddev, facts->channels), "class_names",
                     name_array(facts->class_name, facts->n_classes));
}

static json_t *token_facts(const dt_index_tokens *t) {
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, t->tokenizer_xxh3);
    json_t *out = json_pack("{s:I, s:I, s:I, s:{s:s, s:s}}", "vocabulary", (json_int_t)t->n_vocab, "end",
                            (json_int_t)t->end, "documents", (json_int_t)t->n_documents, "tokenizer", "name",
                            t->tokenizer, "xxh3_64", hash);
    set_known(out, "text_bytes", t->text_bytes);
    return out;
}

static json_t *pack(const dt_index *index, const dt_index_facts *facts) {
    const bool arrays = facts->n_fields > 0, tokens = facts->tokens.n_vocab > 0;
    const char *kind = tokens ? "tokens" : arrays ? "arrays" : facts->jpeg ? "jpeg" : "raw";
    json_t *root = json_pack("{s:s, s:i, s:s?, s:s, s:I, s:I}", "format", INDEX_FORMAT, "version",
                             INDEX_VERSION, "split", facts->split, "kind", kind, "count",
                             (json_int_t)facts->n_samples, "skipped", (json_int_t)facts->n_skipped);
    json_t *more = tokens   ? token_facts(&facts->tokens)
                   : arrays ? json_pack("{s:o}", "fields", dt_fields_to_json(facts->n_fields, facts->field))
                            : image_facts(facts);
    const bool sound = root && more && json_object_update(root, more) == 0 &&
                       json_object_set_new(root, "shards", shard_rows(index, facts)) == 0;
    json_decref(more);
    if (sound) return root;
    json_decref(root);
    return NULL;
}

dt_status dt_index_write(const char *dir, const dt_index *index, const dt_index_facts *facts) {
    char *path = NULL;
    dt_status status = DT_OK;
    json_t *root = pack(index, facts);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text || asprintf(&path, "%s/" DT_INDEX_NAME, dir) < 0)
        status = dt_fail(DT_ERR_MEMORY,
                         "%s/" DT_INDEX_NAME ": out of memory, or a name is not UTF-8 or a number not finite",
                         dir);
    else
        status = dt_file_replace(path, text);
    free(text);
    free(path);
    return status;
}

dt_status dt_index_shard_hash(dt_index_shard *row, const char *path, const char *name) {
    snprintf(row->file, sizeof row->file, "%s", name);
    DT_TRY(dt_file_hash(path, 0, NULL, &row->xxh3, &row->n_bytes));
    return dt_file_hash(path, row->n_data, row->data, &row->structure_xxh3, &row->n_bytes);
}
