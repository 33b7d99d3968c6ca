/* .npy and .npz files byte by byte, sound or not. Header only. */
#ifndef DT_TEST_NUMPY_FILES_H
#define DT_TEST_NUMPY_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

/* A .npy file of this version with this header text and these numbers; its size. out: room for 12 + header + n. */
static inline size_t numpy_files_npy(int version, const char *header, const void *numbers, size_t n,
                                     uint8_t *out) {
    const size_t length = strlen(header);
    size_t at = 8;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)version, out[7] = 0;
    for (int i = 0; i < (version == 1 ? 2 : 4); i++) out[at++] = (uint8_t)(length >> 8 * i);
    memcpy(out + at, header, length);
    if (n > 0) memcpy(out + at + length, numbers, n);
    return at + length + n;
}

typedef struct numpy_member {
    const char *name;
    const uint8_t *bytes;
    size_t n;
    bool deflate, zip64;
} numpy_member;

static inline void numpy_files_put(uint8_t **at, uint64_t x, int bytes) {
    for (int i = 0; i < bytes; i++) *(*at)++ = (uint8_t)(x >> 8 * i);
}

/* Raw deflate; its size. */
static inline size_t numpy_files_deflate(const uint8_t *bytes, size_t n, uint8_t *out, size_t room) {
    z_stream s = {
        .next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)n, .next_out = out, .avail_out = (uInt)room};
    deflateInit2(&s, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
    deflate(&s, Z_FINISH);
    deflateEnd(&s);
    return s.total_out;
}

/* A zip file of the members; its size. `at` (may be NULL) gets where each entry of the directory begins, and
 * where the directory ends. out: room for all. */
static inline size_t numpy_files_zip(const numpy_member *m, int n, uint8_t *out, size_t room, size_t *at) {
    uint8_t *to = out;
    size_t local[16], stored[16];
    bool zip64 = false;
    for (int i = 0; i < n; i++) {
        const size_t length = strlen(m[i].name);
        local[i] = (size_t)(to - out);
        numpy_files_put(&to, 0x04034B50, 4);
        numpy_files_put(&to, 20, 2), numpy_files_put(&to, 0, 2),
            numpy_files_put(&to, m[i].deflate ? 8 : 0, 2);
        numpy_files_put(&to, 0, 4);                             /* time */
        numpy_files_put(&to, 0, 8), numpy_files_put(&to, 0, 4); /* looked up in the directory */
        numpy_files_put(&to, length, 2), numpy_files_put(&to, 0, 2);
        memcpy(to, m[i].name, length), to += length;
        stored[i] = m[i].n;
        if (m[i].deflate)
            stored[i] = numpy_files_deflate(m[i].bytes, m[i].n, to, room - (size_t)(to - out));
        else if (m[i].n > 0)
            memcpy(to, m[i].bytes, m[i].n);
        to += stored[i];
    }
    const size_t directory = (size_t)(to - out);
    for (int i = 0; i < n; i++) {
        const size_t length = strlen(m[i].name);
        const uint64_t none = 0xFFFFFFFFu;
        if (at) at[i] = (size_t)(to - out);
        zip64 = zip64 || m[i].zip64;
        numpy_files_put(&to, 0x02014B50, 4), numpy_files_put(&to, 20, 2), numpy_files_put(&to, 20, 2);
        numpy_files_put(&to, 0, 2), numpy_files_put(&to, m[i].deflate ? 8 : 0, 2), numpy_files_put(&to, 0, 4);
        numpy_files_put(&to, crc32(0, m[i].bytes, (uInt)m[i].n), 4);
        numpy_files_put(&to, m[i].zip64 ? none : stored[i], 4);
        numpy_files_put(&to, m[i].zip64 ? none : m[i].n, 4);
        numpy_files_put(&to, length, 2), numpy_files_put(&to, m[i].zip64 ? 28 : 0, 2);
        numpy_files_put(&to, 0, 2), numpy_files_put(&to, 0, 2), numpy_files_put(&to, 0, 2);
        numpy_files_put(&to, 0, 4), numpy_files_put(&to, m[i].zip64 ? none : local[i], 4);
        memcpy(to, m[i].name, length), to += length;
        if (!m[i].zip64) continue;
        numpy_files_put(&to, 1, 2), numpy_files_put(&to, 24, 2);
        numpy_files_put(&to, m[i].n, 8), numpy_files_put(&to, stored[i], 8),
            numpy_files_put(&to, local[i], 8);
    }
    const size_t end = (size_t)(to - out);
    if (at) at[n] = end;
    if (zip64) {
        numpy_files_put(&to, 0x06064B50, 4), numpy_files_put(&to, 44, 8), numpy_files_put(&to, 0, 4);
        numpy_files_put(&to, 0, 8), numpy_files_put(&to, (uint64_t)n, 8),
            numpy_files_put(&to, (uint64_t)n, 8);
        numpy_files_put(&to, end - directory, 8), numpy_files_put(&to, directory, 8);
        numpy_files_put(&to, 0x07064B50, 4), numpy_files_put(&to, 0, 4), numpy_files_put(&to, end, 8);
        numpy_files_put(&to, 1, 4);
    }
    numpy_files_put(&to, 0x06054B50, 4), numpy_files_put(&to, 0, 4);
    numpy_files_put(&to, (uint64_t)n, 2), numpy_files_put(&to, (uint64_t)n, 2);
    numpy_files_put(&to, zip64 ? 0xFFFFFFFFu : end - directory, 4);
    numpy_files_put(&to, zip64 ? 0xFFFFFFFFu : directory, 4), numpy_files_put(&to, 0, 2);
    return (size_t)(to - out);
}

#endif
