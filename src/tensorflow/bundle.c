/* Variables of a SavedModel: an index, which is a table of LevelDB (blocks of sorted keys that share prefixes), and files of
 * their bytes. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

enum { FOOTER_BYTES = 48, TRAILER_BYTES = 5, MAGIC_BYTES = 8, KEY_MAX = 4096, ENTRIES_MAX = 1 << 22 };

typedef struct dt_tf_entry {
    const char *key;
    dt_onnx_tensor tensor; /* data NULL: of a type without numbers */
    int64_t shard, offset;
    uint32_t checksum;
} dt_tf_entry;

/* ---- CRC-32C (Castagnoli), as LevelDB masks it ---- */

static uint32_t crc32c(const uint8_t *byte, int64_t n) {
    static _Thread_local uint32_t table[256];
    static _Thread_local bool ready;
    if (!ready) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t x = i;
            for (int k = 0; k < 8; k++) x = (x >> 1) ^ (x & 1 ? UINT32_C(0x82F63B78) : 0);
            table[i] = x;
        }
        ready = true;
    }
    uint32_t crc = UINT32_MAX;
    for (int64_t i = 0; i < n; i++) crc = table[(crc ^ byte[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

static uint32_t masked(uint32_t crc) {
    return ((crc >> 15) | (crc << 17)) + UINT32_C(0xa282ead8);
}

static uint32_t little32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- the table ---- */

typedef struct span {
    const uint8_t *at, *end;
} span;

static dt_status damaged(const char *what) {
    return dt_fail(DT_ERR_DATA, "the index of its variables is damaged: %s", what);
}

static bool take_varint(span *s, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        const uint8_t b = *s->at++;
        *out |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return true;
    }
    return false;
}

/* The entries of a block, without its list of restarts. Blocks lie one behind the other: *last is where the one before ends. */
static dt_status open_block(const dt_mapped_file *f, span *handle, uint64_t *last, span *out) {
    uint64_t offset, n;
    if (!take_varint(handle, &offset) || !take_varint(handle, &n) || offset > (uint64_t)f->n_bytes ||
        n > (uint64_t)f->n_bytes - offset || (uint64_t)f->n_bytes - offset - n < TRAILER_BYTES || n < 4)
        return damaged("a block outside of it");
    if (offset < *last) return damaged("blocks that overlap");
    *last = offset + n + TRAILER_BYTES;
    const uint8_t *at = f->byte + offset, *end = at + n;
    if (end[0] != 0)
        return dt_fail(DT_ERR_DATA, "the index of its variables is compressed, which is not read");
    if (little32(end + 1) != masked(crc32c(at, (int64_t)n + 1))) return damaged("a checksum");
    const uint64_t restarts = little32(end - 4);
    if (restarts > n / 4 - 1) return damaged("restarts");
    *out = (span){at, end - 4 - 4 * restarts};
    return DT_OK;
}

/* The next entry: its key grows out of the one before. */
static dt_status next_entry(span *block, char key[KEY_MAX + 1], size_t *n_key, span *value) {
    uint64_t shared, own, n;
    if (!take_varint(block, &shared) || !take_varint(block, &own) || !take_varint(block, &n) ||
        shared > *n_key || own > KEY_MAX - shared || own > (uint64_t)(block->end - block->at) ||
        n > (uint64_t)(block->end - block->at) - own)
        return damaged("an entry");
    memcpy(key + shared, block->at, own);
    *n_key = shared + own;
    key[*n_key] = 0;
    block->at += own;
    *value = (span){block->at, block->at + n};
    block->at += n;
    return DT_OK;
}

/* BundleEntryProto. */
static dt_status read_entry(const span *value, dt_tf_entry *e) {
    enum {
        ENTRY_TYPE = 1,
        ENTRY_SHAPE,
        ENTRY_SHARD,
        ENTRY_OFFSET,
        ENTRY_SIZE,
        ENTRY_CRC,
        ENTRY_SLICES,
        SHAPE_DIM = 2
    };
    dt_pb r, shape, side;
    dt_pb_field f, size;
    dt_onnx_tensor *t = &e->tensor;
    t->type = DT_TENSOR_TYPES;
    DT_TRY(dt_pb_open(value->at, value->end - value->at, &r));
    dt_pb each = r;
    while (dt_pb_next(&each, &f)) {
        if (f.number == ENTRY_TYPE) t->type = dt_tf_type((int64_t)f.value);
        if (f.number == ENTRY_SHARD) e->shard = (int64_t)f.value;
        if (f.number == ENTRY_OFFSET) e->offset = (int64_t)f.value;
        if (f.number == ENTRY_SIZE) t->n_bytes = (int64_t)f.value;
        if (f.number == ENTRY_CRC) e->checksum = (uint32_t)f.value;
        if (f.number == ENTRY_SLICES) return dt_fail(DT_ERR_DATA, "variable %s is kept in slices", e->key);
        if (f.number != ENTRY_SHAPE || f.wire != DT_PB_BYTES) continue;
        DT_TRY(dt_pb_enter(&r, &f, &shape));
        dt_pb sides = shape;
        while (dt_pb_next(&sides, &f)) {
            if (f.number != SHAPE_DIM) continue;
            DT_TRY(dt_pb_enter(&shape, &f, &side));
            if (t->ndim == DT_MAX_DIM)
                return dt_fail(DT_ERR_DATA, "variable %s has too many dimensions", e->key);
            t->dim[t->ndim++] = 0;
            dt_pb one = side;
            while (dt_pb_next(&one, &size))
                if (size.number == 1) t->dim[t->ndim - 1] = (int64_t)size.value;
        }
    }
    return DT_OK;
}

static dt_status read_block(dt_onnx_model *m, span block, dt_tf_bundle *b, int64_t *cap) {
    char key[KEY_MAX + 1] = "";
    size_t n_key = 0;
    span value;
    while (block.at < block.end) {
        DT_TRY(next_entry(&block, key, &n_key, &value));
        if (n_key == 0 || strcmp(key, "_CHECKPOINTABLE_OBJECT_GRAPH") == 0)
            continue; /* of the file, of objects */
        if (b->n == *cap) {
            const int64_t grown = *cap ? 2 * *cap : 64;
            dt_tf_entry *list = grown <= ENTRIES_MAX ? dt_onnx_alloc(m, grown * (int64_t)sizeof *list) : NULL;
            if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for %lld variables", (long long)grown);
            if (b->n > 0) memcpy(list, b->entry, (size_t)b->n * sizeof *list);
            b->entry = list, *cap = grown;
        }
        dt_tf_entry *e = &b->entry[b->n++];
        e->key = e->tensor.name = dt_onnx_text(m, "%s", key);
        if (!e->key) return dt_fail(DT_ERR_MEMORY, "no memory for the name of a variable");
        DT_TRY(read_entry(&value, e));
    }
    return DT_OK;
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const dt_tf_entry *)a)->key, ((const dt_tf_entry *)b)->key);
}

static dt_status read_index(dt_onnx_model *m, const dt_mapped_file *f, dt_tf_bundle *b) {
    static const uint8_t magic[MAGIC_BYTES] = {0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb};
    if (f->n_bytes < FOOTER_BYTES || memcmp(f->byte + f->n_bytes - MAGIC_BYTES, magic, MAGIC_BYTES) != 0)
        return damaged("its end");
    span footer = {f->byte + f->n_bytes - FOOTER_BYTES, f->byte + f->n_bytes - MAGIC_BYTES}, index, block,
         value;
    uint64_t skipped;
    if (!take_varint(&footer, &skipped) || !take_varint(&footer, &skipped)) return damaged("its end");
    char key[KEY_MAX + 1] = "";
    size_t n_key = 0;
    int64_t cap = 0;
    uint64_t ignored = 0, last = 0;
    DT_TRY(open_block(f, &footer, &ignored, &index));
    while (index.at < index.end) {
        DT_TRY(next_entry(&index, key, &n_key, &value));
        DT_TRY(open_block(f, &value, &last, &block));
        DT_TRY(read_block(m, block, b, &cap));
    }
    if (b->n > 0) qsort(b->entry, (size_t)b->n, sizeof *b->entry, by_key);
    for (int64_t i = 1; i < b->n; i++)
        if (by_key(&b->entry[i - 1], &b->entry[i]) == 0) return damaged("two variables of one name");
    return DT_OK;
}

/* ---- files ---- */

static dt_status map_more(dt_onnx_model *m, const char *path, dt_mapped_file *out) {
    dt_mapped_file *list = dt_onnx_alloc(m, (m->n_file + 1) * (int64_t)sizeof *list);
    if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for a file");
    if (m->n_file > 0) memcpy(list, m->file, (size_t)m->n_file * sizeof *list);
    if (dt_file_map(path, out) != DT_OK) {
        dt_error_context("%s", path);
        return DT_ERR_DATA;
    }
    list[m->n_file++] = *out;
    m->file = list;
    return DT_OK;
}

dt_status dt_tf_bundle_open(dt_onnx_model *m, const char *prefix, dt_tf_bundle *out) {
    enum { SHARDS_MAX = 1024 };
    char path[PATH_MAX];
    dt_mapped_file index;
    int64_t first = 0, last = -1;
    *out = (dt_tf_bundle){.n = 0};
    snprintf(path, sizeof path, "%s.index", prefix);
    DT_TRY(map_more(m, path, &index));
    DT_TRY(read_index(m, &index, out));
    for (int64_t i = 0; i < out->n; i++) {
        first = dt_min_i64(first, out->entry[i].shard);
        last = dt_max_i64(last, out->entry[i].shard);
    }
    if (first < 0 || last >= SHARDS_MAX) return damaged("the number of a file");
    dt_mapped_file *shard = dt_onnx_alloc(m, (last + 1) * (int64_t)sizeof *shard);
    if (!shard) return dt_fail(DT_ERR_MEMORY, "no memory for a list of files");
    for (; out->n_shard <= last; out->n_shard++) {
        snprintf(path, sizeof path, "%s.data-%05d-of-%05d", prefix, out->n_shard, (int)last + 1);
        DT_TRY(map_more(m, path, &shard[out->n_shard]));
    }
    out->shard = shard;
    return DT_OK;
}

static const dt_tf_entry *find_entry(const dt_tf_bundle *b, const char *key) {
    return b->n > 0 ? bsearch(&(dt_tf_entry){.key = key}, b->entry, (size_t)b->n, sizeof *b->entry, by_key)
                    : NULL;
}

bool dt_tf_bundle_has(const dt_tf_bundle *b, const char *key) {
    return find_entry(b, key) != NULL;
}

dt_status dt_tf_bundle_get(const dt_tf_bundle *b, const char *key, dt_onnx_tensor *out) {
    const dt_tf_entry *e = find_entry(b, key);
    int64_t bytes;
    if (!e) return dt_fail(DT_ERR_DATA, "variable %s is not in its files", key);
    *out = e->tensor;
    if (out->type == DT_TENSOR_TYPES)
        return dt_fail(DT_ERR_DATA, "variable %s is not of numbers that are read", key);
    const dt_mapped_file *f = &b->shard[e->shard];
    if (!dt_file_tensor_size(out->type, out->ndim, out->dim, &out->n_elem, &bytes) || bytes != out->n_bytes ||
        e->offset < 0 || e->offset > f->n_bytes || bytes > f->n_bytes - e->offset)
        return dt_fail(DT_ERR_DATA, "variable %s does not lie in its file", key);
    out->data = f->byte + e->offset;
    if (masked(crc32c(out->data, bytes)) != e->checksum)
        return dt_fail(DT_ERR_DATA, "variable %s is damaged: its checksum is another", key);
    return DT_OK;
}
