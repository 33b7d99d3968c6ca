#include "formats/zip_stored.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    LOCATOR_BYTES = 20,
    END64_BYTES = 56,
    COMMENT_MAX = 65535,
    MEMBERS_MAX = 1000000
};
static const uint32_t local_mark = 0x04034b50, central_mark = 0x02014b50, end_mark = 0x06054b50,
                      locator_mark = 0x07064b50, end64_mark = 0x06064b50;

static uint16_t get16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static uint32_t get32(const uint8_t *p) {
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}
static uint64_t get64(const uint8_t *p) {
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* Where the directory is. */
typedef struct directory {
    uint64_t offset, bytes, n;
} directory;

static dt_status find_directory(const dt_mapped_file *f, directory *out) {
    const uint8_t *end = NULL, *first = f->byte;
    const int64_t least = f->n_bytes - END_BYTES - COMMENT_MAX;
    for (int64_t at = f->n_bytes - END_BYTES; at >= 0 && at >= least && !end; at--)
        if (get32(first + at) == end_mark && at + END_BYTES + get16(first + at + 20) == f->n_bytes)
            end = first + at;
    if (!end) return dt_fail(DT_ERR_DATA, "a zip file without an end: it was cut off");
    *out = (directory){get32(end + 16), get32(end + 12), get16(end + 10)};
    const int64_t at = end - first;
    if (at >= LOCATOR_BYTES && get32(end - LOCATOR_BYTES) == locator_mark) {
        const uint64_t where = get64(end - LOCATOR_BYTES + 8);
        if (where > (uint64_t)at || (uint64_t)at - where < END64_BYTES || get32(first + where) != end64_mark)
            return dt_fail(DT_ERR_DATA, "a zip file whose end leads nowhere");
        *out = (directory){get64(first + where + 48), get64(first + where + 40), get64(first + where + 32)};
    }
    if (out->n > MEMBERS_MAX) return dt_fail(DT_ERR_DATA, "a zip file of more than %d members", MEMBERS_MAX);
    if (out->offset > (uint64_t)at || out->bytes > (uint64_t)at - out->offset)
        return dt_fail(DT_ERR_DATA, "a zip file whose directory lies outside of it");
    return DT_OK;
}

/* A number of the directory that is all ones stands in the zip64 field. */
static bool widen(uint64_t *value, uint32_t narrow, const uint8_t **field, const uint8_t *end) {
    *value = narrow;
    if (narrow != UINT32_MAX) return true;
    if (!*field || end - *field < 8) return false;
    *value = get64(*field);
    *field += 8;
    return true;
}

/* The zip64 field among the extra ones; NULL: there is none. */
static const uint8_t *find_wide(const uint8_t *extra, int32_t n, const uint8_t **end) {
    while (n >= 4) {
        const int32_t bytes = get16(extra + 2);
        if (bytes > n - 4) return NULL;
        *end = extra + 4 + bytes;
        if (get16(extra) == 1) return extra + 4;
        extra += 4 + bytes, n -= 4 + bytes;
    }
    return NULL;
}

/* The member at `p`, an entry of the directory; its data end before `limit`. */
static dt_status read_entry(const dt_mapped_file *f, const uint8_t *p, uint64_t limit, dt_zip_stored *out) {
    const int32_t n_name = get16(p + 28), n_extra = get16(p + 30);
    const uint8_t *end = NULL, *wide = find_wide(p + CENTRAL_BYTES + n_name, n_extra, &end);
    uint64_t packed, size, offset;
    *out = (dt_zip_stored){.name = (const char *)p + CENTRAL_BYTES, .n_name = n_name};
    if (get16(p + 8) & 1) return dt_fail(DT_ERR_DATA, "an encrypted member of the zip file");
    out->packed = get16(p + 10) != 0;
    if (!widen(&size, get32(p + 24), &wide, end) || !widen(&packed, get32(p + 20), &wide, end) ||
        !widen(&offset, get32(p + 42), &wide, end) || (size != packed && !out->packed))
        return dt_fail(DT_ERR_DATA, "a member of the zip file without a size");
    if (offset > limit || limit - offset < LOCAL_BYTES || get32(f->byte + offset) != local_mark)
        return dt_fail(DT_ERR_DATA, "a member of the zip file that is not where the directory says");
    const uint8_t *local = f->byte + offset;
    const uint64_t head = LOCAL_BYTES + (uint64_t)get16(local + 26) + get16(local + 28);
    if (limit - offset < head || limit - offset - head < packed || get16(local + 26) != n_name ||
        memcmp(local + LOCAL_BYTES, out->name, (size_t)n_name) != 0)
        return dt_fail(DT_ERR_DATA, "a member of the zip file that is not what the directory says");
    out->data = local + head;
    out->n_bytes = (int64_t)packed;
    return DT_OK;
}

int dt_zip_stored_by_name(const void *a, const void *b) {
    const dt_zip_stored *x = a, *y = b;
    const int32_t n = x->n_name < y->n_name ? x->n_name : y->n_name;
    const int c = memcmp(x->name, y->name, (size_t)n);
    return c ? c : x->n_name - y->n_name;
}

static int by_place(const void *a, const void *b) {
    const uintptr_t p = (uintptr_t)((const dt_zip_stored *)a)->data,
                    q = (uintptr_t)((const dt_zip_stored *)b)->data;
    return (p > q) - (p < q);
}

static dt_status check_apart(int64_t n, dt_zip_stored *m) {
    qsort(m, (size_t)n, sizeof *m, by_place);
    for (int64_t i = 1; i < n; i++)
        if (m[i].data - LOCAL_BYTES - m[i].n_name < m[i - 1].data + m[i - 1].n_bytes)
            return dt_fail(DT_ERR_DATA, "members of the zip file overlap");
    qsort(m, (size_t)n, sizeof *m, dt_zip_stored_by_name);
    for (int64_t i = 1; i < n; i++)
        if (dt_zip_stored_by_name(&m[i], &m[i - 1]) == 0)
            return dt_fail(DT_ERR_DATA, "two members of the zip file have one name");
    return DT_OK;
}

dt_status dt_zip_stored_list(const dt_mapped_file *f, int64_t *n, dt_zip_stored **out) {
    directory d = {0};
    *n = 0;
    *out = NULL;
    DT_TRY(find_directory(f, &d));
    if (d.n > d.bytes / CENTRAL_BYTES) return dt_fail(DT_ERR_DATA, "a zip file whose directory is too short");
    *out = calloc((size_t)d.n + 1, sizeof **out);
    if (!*out) return dt_fail(DT_ERR_MEMORY, "no memory for the list of its members");
    const uint8_t *p = f->byte + d.offset, *end = p + d.bytes;
    for (; *n < (int64_t)d.n; ++*n) {
        if (end - p < CENTRAL_BYTES || get32(p) != central_mark)
            return dt_fail(DT_ERR_DATA, "a damaged zip directory");
        const int64_t bytes = CENTRAL_BYTES + get16(p + 28) + get16(p + 30) + get16(p + 32);
        if (end - p < bytes) return dt_fail(DT_ERR_DATA, "a damaged zip directory");
        DT_TRY(read_entry(f, p, d.offset, &(*out)[*n]));
        p += bytes;
    }
    return *n > 0 ? check_apart(*n, *out) : DT_OK;
}

const dt_zip_stored *dt_zip_stored_find(int64_t n, const dt_zip_stored *member, const char *name,
                                        size_t n_name) {
    const dt_zip_stored key = {.name = name, .n_name = (int32_t)n_name};
    return n > 0 ? bsearch(&key, member, (size_t)n, sizeof *member, dt_zip_stored_by_name) : NULL;
}
