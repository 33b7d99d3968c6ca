/* The directory at the end of the file says where members are; their own headers only how far the bytes lie
 * behind them. zlib unpacks. */
#include "zip.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "class_names.h"
#include "files.h"

enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    ENTRY_BYTES = 46,
    LOCAL_BYTES = 30,
    COMMENT_MAX = 65535,
    MEMBERS_MAX = 4096,
    DIRECTORY_MAX_BYTES = 16 << 20,
    NAME_MAX_BYTES = 255,
    STORED = 0,
    DEFLATED = 8,
    DEFLATE_RATIO_MAX = 1032,
    BLOCK_BYTES = 1 << 20,
    U16_NONE = 0xFFFF,
};
#define U32_NONE 0xFFFFFFFFu

enum {
    SIGN_LOCAL = 0x04034B50,
    SIGN_ENTRY = 0x02014B50,
    SIGN_END = 0x06054B50,
    SIGN_END64 = 0x06064B50,
    SIGN_LOCATOR = 0x07064B50,
};

static uint32_t u16(const uint8_t *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8;
}
static uint32_t u32(const uint8_t *b) {
    return u16(b) | u16(b + 2) << 16;
}
static uint64_t u64(const uint8_t *b) {
    return u32(b) | (uint64_t)u32(b + 4) << 32;
}

static dt_status wrong(const dt_zip *z, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s: not a sound zip file: %s", z->path, what);
}

/* Bytes that the directory says are there. */
static dt_status read_at(const dt_zip *z, int64_t at, int64_t n, uint8_t *dst) {
    if (at < 0 || n > z->n_bytes || at > z->n_bytes - n)
        return wrong(z, "a part of it lies outside the file");
    return dt_file_pread(z->path, z->fd, at, n, dst);
}

typedef struct directory {
    uint64_t at, n_bytes, n;
} directory;

/* The end of a file larger than 4 GiB, or with more members than fit: `at` is that of the common end. */
static dt_status read_end64(const dt_zip *z, int64_t at, directory *d) {
    uint8_t locator[LOCATOR_BYTES], end[END64_BYTES];
    if (at < LOCATOR_BYTES) return wrong(z, "its zip64 directory is missing");
    DT_TRY(read_at(z, at - LOCATOR_BYTES, LOCATOR_BYTES, locator));
    const uint64_t end_at = u64(locator + 8);
    if (u32(locator) != SIGN_LOCATOR || end_at > INT64_MAX) return wrong(z, "its zip64 directory is missing");
    DT_TRY(read_at(z, (int64_t)end_at, END64_BYTES, end));
    if (u32(end) != SIGN_END64) return wrong(z, "its zip64 directory is missing");
    *d = (directory){.n = u64(end + 32), .n_bytes = u64(end + 40), .at = u64(end + 48)};
    return DT_OK;
}

/* The end stands before a comment of up to 64 KiB, which may hold anything. */
static dt_status find_directory(const dt_zip *z, directory *d) {
    const int64_t n = dt_min_i64(z->n_bytes, END_BYTES + COMMENT_MAX), first = z->n_bytes - n;
    int64_t at = n - END_BYTES;
    if (at < 0) return wrong(z, "it is too short");
    uint8_t *tail = malloc((size_t)n);
    if (!tail) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", z->path);
    dt_status status = read_at(z, first, n, tail);
    while (status == DT_OK && at >= 0 &&
           !(u32(tail + at) == SIGN_END && at + END_BYTES + (int64_t)u16(tail + at + 20) == n))
        at--;
    const uint8_t *end = tail + at;
    if (status == DT_OK && at < 0) {
        status = wrong(z, "it has no directory at its end (cut short?)");
    } else if (status == DT_OK) {
        *d = (directory){.n = u16(end + 10), .n_bytes = u32(end + 12), .at = u32(end + 16)};
        if (u16(end + 4) != u16(end + 6) || (u16(end + 4) != 0 && u16(end + 4) != U16_NONE))
            status = wrong(z, "it is in several parts");
        else if (d->n == U16_NONE || d->n_bytes == U32_NONE || d->at == U32_NONE)
            status = read_end64(z, first + at, d);
    }
    free(tail);
    return status;
}

/* Sizes that 32 bits do not hold stand in a field of their own, in this order where they are wanted. */
static dt_status read_zip64(const dt_zip *z, const uint8_t *extra, int64_t n, uint64_t *const wanted[3]) {
    bool any = false;
    for (int i = 0; i < 3; i++) any = any || *wanted[i] == U32_NONE;
    if (!any) return DT_OK;
    for (int64_t at = 0; at + 4 <= n;) {
        const int64_t size = u16(extra + at + 2);
        int64_t used = 0;
        if (size > n - at - 4) break;
        if (u16(extra + at) != 1) {
            at += 4 + size;
            continue;
        }
        for (int i = 0; i < 3; i++) {
            if (*wanted[i] != U32_NONE) continue;
            if (used + 8 > size) return wrong(z, "a zip64 field is too short");
            *wanted[i] = u64(extra + at + 4 + used);
            used += 8;
        }
        return DT_OK;
    }
    return wrong(z, "a zip64 field is missing");
}

/* How far the bytes lie behind the member's own header. */
static dt_status find_bytes(const dt_zip *z, uint64_t at, dt_zip_member *m) {
    uint8_t local[LOCAL_BYTES];
    if (at > INT64_MAX) return wrong(z, "a member lies outside the file");
    DT_TRY(read_at(z, (int64_t)at, LOCAL_BYTES, local));
    if (u32(local) != SIGN_LOCAL) return wrong(z, "a member is not where the directory says");
    m->offset = (int64_t)at + LOCAL_BYTES + u16(local + 26) + u16(local + 28);
    if (m->offset > z->n_bytes || m->stored_bytes > z->n_bytes - m->offset)
        return wrong(z, "a member lies outside the file");
    return DT_OK;
}

static dt_status take_name(const dt_zip *z, const uint8_t *name, int64_t n, dt_zip_member *m) {
    for (int64_t i = 0; i < n; i++)
        if (name[i] < ' ' || name[i] == 0x7F || name[i] == '/' || name[i] == '\\')
            return wrong(z, "a member's name has directories or odd characters in it");
    if (n < 1 || n > NAME_MAX_BYTES || !dt_utf8_is((const char *)name, (size_t)n))
        return wrong(z, "a member's name is empty, too long or not UTF-8");
    m->name = strndup((const char *)name, (size_t)n);
    return m->name ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", z->path);
}

/* The member at `entry`, of which n bytes are there; *used: how many it takes. */
static dt_status read_entry(const dt_zip *z, const uint8_t *entry, int64_t n, dt_zip_member *m,
                            int64_t *used) {
    if (n < ENTRY_BYTES || u32(entry) != SIGN_ENTRY) return wrong(z, "its directory is damaged");
    const int64_t n_name = u16(entry + 28), n_extra = u16(entry + 30);
    const uint32_t method = u16(entry + 10);
    uint64_t stored = u32(entry + 20), bytes = u32(entry + 24), at = u32(entry + 42);
    *used = ENTRY_BYTES + n_name + n_extra + u16(entry + 32);
    if (*used > n) return wrong(z, "its directory is damaged");
    DT_TRY(take_name(z, entry + ENTRY_BYTES, n_name, m));
    if (u16(entry + 8) & 1) return dt_fail(DT_ERR_DATA, "%s: %s is encrypted", z->path, m->name);
    if (method != STORED && method != DEFLATED)
        return dt_fail(DT_ERR_DATA, "%s: %s is compressed by method %u: expected stored or deflated", z->path,
                       m->name, method);
    DT_TRY(read_zip64(z, entry + ENTRY_BYTES + n_name, n_extra, (uint64_t *const[]){&bytes, &stored, &at}));
    if (stored > (uint64_t)z->n_bytes || bytes > (uint64_t)INT64_MAX / 2 ||
        (method == STORED ? bytes != stored : bytes / DEFLATE_RATIO_MAX > stored))
        return dt_fail(DT_ERR_DATA, "%s: %s is said to be larger than its bytes can hold", z->path, m->name);
    m->deflated = method == DEFLATED;
    m->crc = u32(entry + 16);
    m->stored_bytes = (int64_t)stored;
    m->n_bytes = (int64_t)bytes;
    return find_bytes(z, at, m);
}

static int by_offset(const void *a, const void *b) {
    const dt_zip_member *const *x = a, *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* Members that share bytes would unpack to more than a file of this size can hold. */
static dt_status check_apart(const dt_zip *z) {
    const dt_zip_member **order = calloc((size_t)dt_max_i64(z->n_members, 1), sizeof(dt_zip_member *));
    dt_status status = order ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", z->path);
    for (int64_t i = 0; order && i < z->n_members; i++) order[i] = &z->member[i];
    if (order) qsort(order, (size_t)z->n_members, sizeof *order, by_offset);
    for (int64_t i = 1; i < z->n_members && status == DT_OK; i++)
        if (order[i]->offset - order[i - 1]->offset < order[i - 1]->stored_bytes)
            status = wrong(z, "its members overlap");
    free(order);
    return status;
}

static dt_status read_directory(dt_zip *z) {
    directory d = {0};
    DT_TRY(find_directory(z, &d));
    if (d.n > MEMBERS_MAX || d.n_bytes > DIRECTORY_MAX_BYTES || d.at > INT64_MAX)
        return dt_fail(DT_ERR_DATA, "%s: a zip file of more than %d members, or damaged", z->path,
                       MEMBERS_MAX);
    uint8_t *entries = malloc((size_t)d.n_bytes + 1);
    z->member = calloc((size_t)d.n + 1, sizeof *z->member);
    dt_status status = entries && z->member ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", z->path);
    if (status == DT_OK) status = read_at(z, (int64_t)d.at, (int64_t)d.n_bytes, entries);
    for (int64_t at = 0, used; status == DT_OK && z->n_members < (int64_t)d.n; at += used) {
        used = 0;
        status = read_entry(z, entries + at, (int64_t)d.n_bytes - at, &z->member[z->n_members++], &used);
    }
    free(entries);
    DT_TRY(status);
    return check_apart(z);
}

dt_status dt_zip_open(const char *path, dt_zip *out) {
    *out = (dt_zip){.fd = -1, .path = strdup(path)};
    if (!out->path) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    DT_TRY(dt_file_open(path, &out->fd, &out->n_bytes));
    return read_directory(out);
}

void dt_zip_close(dt_zip *z) {
    for (int64_t i = 0; i < z->n_members; i++) free(z->member[i].name);
    if (z->fd >= 0) close(z->fd);
    free(z->member);
    free(z->path);
    *z = (dt_zip){.fd = -1};
}

/* ---- members ---- */

typedef struct unpacker {
    const dt_zip *z;
    const dt_zip_member *m;
    uint8_t *block; /* [BLOCK_BYTES] of the file */
    uint8_t *out;
    int64_t n_out, capacity;
} unpacker;

static dt_status grow(unpacker *u) {
    const int64_t capacity = dt_min_i64(u->capacity ? 2 * u->capacity : BLOCK_BYTES, u->m->n_bytes);
    uint8_t *grown = realloc(u->out, (size_t)capacity);
    if (!grown)
        return dt_fail(DT_ERR_MEMORY, "%s: %s: out of memory (unzip the file and import its .npy files)",
                       u->z->path, u->m->name);
    u->out = grown;
    u->capacity = capacity;
    return DT_OK;
}

static dt_status damaged(const unpacker *u) {
    return dt_fail(DT_ERR_DATA, "%s: %s is damaged or cut short", u->z->path, u->m->name);
}

/* Inflates what is in `s` until it is used up; *ended: the stream says that it is complete. */
static dt_status inflate_block(unpacker *u, z_stream *s, bool *ended) {
    while (s->avail_in > 0 || s->avail_out == 0) {
        if (u->n_out == u->capacity && u->capacity < u->m->n_bytes) DT_TRY(grow(u));
        uint8_t beyond; /* a stream that is longer than the directory says must not end well */
        const bool full = u->n_out == u->m->n_bytes;
        s->next_out = full ? &beyond : u->out + u->n_out;
        const uInt room = full ? 1 : (uInt)dt_min_i64(u->capacity - u->n_out, BLOCK_BYTES);
        s->avail_out = room;
        const int code = inflate(s, Z_NO_FLUSH);
        const int64_t made = room - s->avail_out;
        if (full && made > 0) return damaged(u);
        u->n_out += made;
        *ended = code == Z_STREAM_END;
        if (*ended) return s->avail_in == 0 ? DT_OK : damaged(u);
        if (code == Z_MEM_ERROR) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", u->z->path);
        if (code == Z_BUF_ERROR) return DT_OK; /* wants more */
        if (code != Z_OK) return damaged(u);
    }
    return DT_OK;
}

static dt_status inflate_all(unpacker *u) {
    z_stream s = {.next_in = Z_NULL};
    bool ended = false;
    dt_status status = DT_OK;
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", u->z->path);
    for (int64_t at = 0; at < u->m->stored_bytes && status == DT_OK && !ended;) {
        const int64_t n = dt_min_i64(BLOCK_BYTES, u->m->stored_bytes - at);
        status = read_at(u->z, u->m->offset + at, n, u->block);
        s.next_in = u->block;
        s.avail_in = (uInt)n;
        at += n;
        if (status == DT_OK) status = inflate_block(u, &s, &ended);
        if (status == DT_OK && ended && at < u->m->stored_bytes) status = damaged(u);
    }
    inflateEnd(&s);
    return status == DT_OK && (!ended || u->n_out != u->m->n_bytes) ? damaged(u) : status;
}

static dt_status copy_all(unpacker *u) {
    while (u->n_out < u->m->n_bytes) {
        if (u->n_out == u->capacity) DT_TRY(grow(u));
        DT_TRY(read_at(u->z, u->m->offset + u->n_out, u->capacity - u->n_out, u->out + u->n_out));
        u->n_out = u->capacity;
    }
    return DT_OK;
}

dt_status dt_zip_unpack(const dt_zip *z, const dt_zip_member *m, uint8_t **out) {
    unpacker u = {.z = z, .m = m, .block = malloc(BLOCK_BYTES)};
    *out = NULL;
    dt_status status = u.block ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", z->path);
    if (status == DT_OK) status = m->deflated ? inflate_all(&u) : copy_all(&u);
    free(u.block);
    if (status == DT_OK && crc32_z(0, u.out, (size_t)u.n_out) != m->crc) status = damaged(&u);
    if (status == DT_OK)
        *out = u.out;
    else
        free(u.out);
    return status;
}

dt_status dt_zip_check(const dt_zip *z, const dt_zip_member *m) {
    uint8_t *block = malloc(BLOCK_BYTES);
    unsigned long crc = 0;
    dt_status status = block ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", z->path);
    for (int64_t at = 0; at < m->stored_bytes && status == DT_OK; at += BLOCK_BYTES) {
        const int64_t n = dt_min_i64(BLOCK_BYTES, m->stored_bytes - at);
        status = read_at(z, m->offset + at, n, block);
        if (status == DT_OK) crc = crc32_z(crc, block, (size_t)n);
    }
    free(block);
    if (status == DT_OK && crc != m->crc)
        status = dt_fail(DT_ERR_DATA, "%s: %s is damaged: its checksum differs", z->path, m->name);
    return status;
}
