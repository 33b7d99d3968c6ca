/* UTF-8 that may be damaged, and the classes of characters that tokenizers tell apart. */
#ifndef DT_DATA_UNICODE_H
#define DT_DATA_UNICODE_H

#include <stdint.h>

#include "core/types.h"

typedef enum dt_char_class {
    DT_CHAR_OTHER = 0, /* also a byte that belongs to no character */
    DT_CHAR_LETTER,    /* L */
    DT_CHAR_NUMBER,    /* N */
    DT_CHAR_SPACE      /* White_Space */
} dt_char_class;

/* unicode_table.c: of code point c < dt_unicode_end two bits of a block of 128; those above are of no class. */
extern const uint32_t dt_unicode_end;
extern const uint8_t dt_unicode_index[];
extern const uint8_t dt_unicode_block[][32];

static inline dt_char_class dt_unicode_class(uint32_t c) {
    if (c >= dt_unicode_end) return DT_CHAR_OTHER;
    return (dt_char_class)(dt_unicode_block[dt_unicode_index[c >> 7]][c >> 2 & 31] >> (c & 3) * 2 & 3);
}

/* Bytes of the character that begins at s (n >= 1 bytes), and its code point. A byte that begins none, by RFC 3629
 * (no surrogates, nothing overlong or beyond U+10FFFF), is 1 byte long and has a code point above all others. */
static inline int dt_utf8_decode(const uint8_t *s, int64_t n, uint32_t *c) {
    const uint8_t b = s[0];
    *c = b;
    if (b < 0x80) return 1;
    *c = UINT32_MAX;
    if (b < 0xC2 || n < 2 || (s[1] & 0xC0) != 0x80) return 1;
    if (b < 0xE0) {
        *c = (uint32_t)(b & 0x1F) << 6 | (s[1] & 0x3F);
        return 2;
    }
    if (n < 3 || (s[2] & 0xC0) != 0x80) return 1;
    if (b < 0xF0) {
        const uint32_t x = (uint32_t)(b & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
        if (x < 0x800 || (x >= 0xD800 && x < 0xE000)) return 1;
        *c = x;
        return 3;
    }
    if (b > 0xF4 || n < 4 || (s[3] & 0xC0) != 0x80) return 1;
    const uint32_t x = (uint32_t)(b & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 |
                       (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3F);
    if (x < 0x10000 || x > 0x10FFFF) return 1;
    *c = x;
    return 4;
}

/* Writes the character in UTF-8; its bytes. */
static inline int dt_utf8_encode(uint32_t c, uint8_t out[4]) {
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    const int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3F));
    out[0] = (uint8_t)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

/* The pieces that words are cut into before pairs are merged: GPT-2's pattern
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * The end of the piece that begins at `at` < n; the text ends at n. */
int64_t dt_piece_end(const uint8_t *text, int64_t at, int64_t n);

/* The last place in the text, at most n - 4, where a piece ends whatever stands around it: both sides can be cut
 * into pieces apart. 0: there is none. */
int64_t dt_piece_cut(const uint8_t *text, int64_t n);

/* The last place, at most n, that is not inside a character. */
int64_t dt_char_cut(const uint8_t *text, int64_t n);

#endif
