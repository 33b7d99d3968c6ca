/* The index of a SavedModel's variables, a table of LevelDB, around bytes that are to be its blocks. */
#ifndef DT_TESTS_TENSORFLOW_TABLE_H
#define DT_TESTS_TENSORFLOW_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t table_crc(const uint8_t *byte, size_t n) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= byte[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82F63B78) : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8);
}

/* Entries, no restarts, kind, checksum. Returns the bytes of the block without its trailer of 5. */
static inline size_t table_block(const uint8_t *entries, size_t n, uint8_t *out) {
    memcpy(out, entries, n);
    memset(out + n, 0, 5);
    const uint32_t crc = table_crc(out, n + 5);
    for (int i = 0; i < 4; i++) out[n + 5 + (size_t)i] = (uint8_t)(crc >> 8 * i);
    return n + 4;
}

static inline size_t table_varint(uint64_t v, uint8_t *out) {
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

/* An entry whose key, of less than 128 bytes, shares nothing with the one before. */
static inline size_t table_entry(const char *key, const uint8_t *value, size_t n_value, uint8_t *out) {
    const size_t n_key = strlen(key);
    out[0] = 0, out[1] = (uint8_t)n_key;
    const size_t n = 2 + table_varint(n_value, out + 2);
    memcpy(out + n, key, n_key);
    memcpy(out + n + n_key, value, n_value);
    return n + n_key + n_value;
}

enum { TABLE_MORE = 160 }; /* bytes of a table beyond those of its entries */

/* A block of entries at byte 0, and the index; index NULL: with `times` entries that all are that block. */
static inline size_t table_of(const uint8_t *data, size_t n_data, const uint8_t *index, size_t n_index,
                              int times, uint8_t *out) {
    uint8_t handle[20], entries[TABLE_MORE / 2];
    const size_t n_block = table_block(data, n_data, out);
    size_t n_handle = table_varint(0, handle);
    n_handle += table_varint(n_block, handle + n_handle);
    if (!index) {
        for (int i = 0; i < times; i++) n_index += table_entry("z", handle, n_handle, entries + n_index);
        index = entries;
    }
    size_t at = n_block + 5;
    const size_t n_last = table_block(index, n_index, out + at);
    uint8_t *footer = out + at + n_last + 5;
    static const uint8_t magic[8] = {0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb};
    memset(footer, 0, 40);
    size_t n = table_varint(0, footer);
    n += table_varint(0, footer + n);
    n += table_varint(at, footer + n);
    table_varint(n_last, footer + n);
    memcpy(footer + 40, magic, sizeof magic);
    return at + n_last + 5 + 48;
}

#endif
