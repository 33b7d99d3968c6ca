/* model.safetensors.index.json: {"metadata": ..., "weight_map": {tensor: file beside the index}}. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_scan.h"
#include "readers.h"

enum { INDEX_BYTES_MAX = 64 << 20, SHARDS_MAX = 4096, SHARD_NAME_MAX = 255 };

typedef struct pair {
    const char *name, *file;
} pair;

typedef struct pairs {
    int64_t n, room;
    pair *pair;
} pairs;

bool dt_safetensors_knows_index(const dt_mapped_file *f) {
    int64_t i = 0;
    while (i < f->n_bytes && strchr(" \t\r\n", f->byte[i]) && f->byte[i]) i++;
    return i < f->n_bytes && f->byte[i] == '{';
}

/* The name of a file beside the index, and no way out of its directory. */
static bool is_plain_name(const char *name) {
    return name[0] && name[0] != '.' && strlen(name) <= SHARD_NAME_MAX && !strchr(name, '/') &&
           !strchr(name, '\\');
}

static dt_status read_map(dt_json_scan *s, pairs *out) {
    DT_TRY(dt_json_scan_want(s, '{'));
    if (dt_json_scan_take(s, '}')) return DT_OK;
    do {
        pair p;
        DT_TRY(dt_json_scan_text(s, &p.name));
        DT_TRY(dt_json_scan_want(s, ':'));
        DT_TRY(dt_json_scan_text(s, &p.file));
        if (!is_plain_name(p.file))
            return dt_json_scan_fail(
                s, "the name of a file in weight_map may be no path and begin with no point");
        if (out->n == out->room) {
            const int64_t room = out->room ? 2 * out->room : 256;
            pair *more = realloc(out->pair, (size_t)room * sizeof *more);
            if (!more) return dt_fail(DT_ERR_MEMORY, "no memory for the list of its tensors");
            out->pair = more, out->room = room;
        }
        out->pair[out->n++] = p;
    } while (dt_json_scan_take(s, ','));
    return dt_json_scan_want(s, '}');
}

static dt_status read_index(dt_json_scan *s, pairs *out) {
    bool mapped = false;
    DT_TRY(dt_json_scan_want(s, '{'));
    do {
        const char *key;
        DT_TRY(dt_json_scan_text(s, &key));
        DT_TRY(dt_json_scan_want(s, ':'));
        const bool is_map = strcmp(key, "weight_map") == 0;
        if (is_map && mapped) return dt_json_scan_fail(s, "weight_map is there twice");
        mapped = mapped || is_map;
        DT_TRY(is_map ? read_map(s, out) : dt_json_scan_skip(s));
    } while (dt_json_scan_take(s, ','));
    DT_TRY(dt_json_scan_want(s, '}'));
    if (!dt_json_scan_at_end(s)) return dt_json_scan_fail(s, "something follows the JSON");
    return mapped
               ? DT_OK
               : dt_json_scan_fail(s, "an index has weight_map, the file of each tensor, and this has none");
}

static int by_file_and_name(const void *a, const void *b) {
    const pair *x = a, *y = b;
    const int c = strcmp(x->file, y->file);
    return c ? c : strcmp(x->name, y->name);
}

/* The shard of p[0] to p[n - 1]: it holds these tensors and no others. */
static dt_status read_shard(dt_tensors *t, const char *index, const pair *p, int64_t n) {
    char path[PATH_MAX];
    const char *slash = strrchr(index, '/');
    const int64_t first = t->n, n_note = t->n_note;
    dt_mapped_file *mapped;
    const int length =
        snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - index) + 1 : 0, index, p[0].file);
    if (length < 0 || length >= (int)sizeof path) return dt_fail(DT_ERR_DATA, "a path that is too long");
    DT_TRY(dt_tensors_map(t, path, &mapped));
    const dt_mapped_file f = *mapped;
    DT_TRY(dt_safetensors_read(t, path, &f));
    if (n_note > 0) t->n_note = n_note; /* each says the same */
    for (int64_t i = first; i < t->n; i++) {
        const pair key = {t->tensor[i].name, p[0].file};
        if (!bsearch(&key, p, (size_t)n, sizeof *p, by_file_and_name))
            return dt_fail(DT_ERR_DATA, "holds %.200s, which the index does not place there", key.name);
    }
    if (t->n - first == n) return DT_OK;
    return dt_fail(DT_ERR_DATA, "holds %lld tensors, and the index places %lld there",
                   (long long)(t->n - first), (long long)n);
}

static dt_status read_shards(dt_tensors *t, const char *path, pairs *all) {
    if (all->n > 0) qsort(all->pair, (size_t)all->n, sizeof *all->pair, by_file_and_name);
    int32_t n_shard = 0;
    for (int64_t i = 0, next; i < all->n; i = next) {
        for (next = i + 1; next < all->n && strcmp(all->pair[next].file, all->pair[i].file) == 0; next++)
            if (strcmp(all->pair[next].name, all->pair[next - 1].name) == 0)
                return dt_fail(DT_ERR_DATA, "weight_map has %.200s twice", all->pair[next].name);
        if (++n_shard > SHARDS_MAX) return dt_fail(DT_ERR_DATA, "an index of more than %d files", SHARDS_MAX);
        const dt_status st = read_shard(t, path, &all->pair[i], next - i);
        if (st != DT_OK) {
            dt_error_context("%s", all->pair[i].file);
            return st;
        }
    }
    return DT_OK;
}

dt_status dt_safetensors_read_index(dt_tensors *t, const char *path, const dt_mapped_file *f) {
    dt_json_scan s = {f->byte, f->byte, f->byte + f->n_bytes, &t->text};
    pairs all = {0};
    if (f->n_bytes > INDEX_BYTES_MAX) return dt_fail(DT_ERR_DATA, "an index of more than 64 MiB");
    dt_status st = read_index(&s, &all);
    if (st == DT_OK) st = read_shards(t, path, &all);
    free(all.pair);
    return st;
}
