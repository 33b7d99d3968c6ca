/* GPT-2's pattern as a scanner by hand. Its one look-ahead is \s+(?!\S): of a run of spaces all but the last, which
 * stands before the next word, unless the text ends there. */
#include "unicode.h"

#include <string.h>

enum { L = DT_CHAR_LETTER, N = DT_CHAR_NUMBER, S = DT_CHAR_SPACE, X = 4 /* not ASCII */ };

static const uint8_t byte_class[256] = {
    ['\t'] = S, ['\n'] = S,        ['\v'] = S,        ['\f'] = S,        ['\r'] = S,
    [' '] = S,  ['0' ... '9'] = N, ['A' ... 'Z'] = L, ['a' ... 'z'] = L, [0x80 ... 0xFF] = X,
};

/* Class and bytes of the character at `at` < n. */
static inline dt_char_class class_at(const uint8_t *text, int64_t at, int64_t n, int *bytes) {
    uint32_t c;
    if (byte_class[text[at]] != X) {
        *bytes = 1;
        return (dt_char_class)byte_class[text[at]];
    }
    *bytes = dt_utf8_decode(text + at, n - at, &c);
    return dt_unicode_class(c);
}

/* Where a run of the class ends that has reached `at`. */
static int64_t run_end(const uint8_t *text, int64_t at, int64_t n, dt_char_class class) {
    while (at < n) {
        int bytes = 1;
        const uint8_t quick = byte_class[text[at]];
        if (quick != (uint8_t) class && (quick != X || class_at(text, at, n, &bytes) != class)) break;
        at += bytes;
    }
    return at;
}

/* Bytes of the contraction at an apostrophe, 0 where there is none. */
static int contraction(const uint8_t *text, int64_t n) {
    if (n < 2) return 0;
    const uint8_t a = text[1], b = n > 2 ? text[2] : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* Of spaces that reach from `at` to `end`. */
static int64_t spaces_end(const uint8_t *text, int64_t at, int64_t end, int64_t n) {
    if (end == n) return end;
    int64_t last = end - 1; /* where the last of them begins */
    while ((text[last] & 0xC0) == 0x80) last--;
    return last > at ? last : end;
}

int64_t dt_piece_end(const uint8_t *text, int64_t at, int64_t n) {
    int bytes;
    if (text[at] == '\'') {
        const int length = contraction(text + at, n - at);
        if (length > 0) return at + length;
    }
    const int64_t word = at + (text[at] == ' ');
    if (word < n) {
        const dt_char_class class = class_at(text, word, n, &bytes);
        if (class != DT_CHAR_SPACE) return run_end(text, word + bytes, n, class);
    }
    class_at(text, at, n, &bytes);
    return spaces_end(text, at, run_end(text, at + bytes, n, DT_CHAR_SPACE), n);
}

/* Bytes and class of the character that ends before `at` > 0, which is no place inside one. */
static dt_char_class class_before(const uint8_t *text, int64_t at, int *bytes) {
    for (int k = 1; k <= 4 && k <= at; k++) {
        if ((text[at - k] & 0xC0) == 0x80) continue;
        const dt_char_class class = class_at(text, at - k, at, bytes);
        if (*bytes == k) return class;
        break;
    }
    *bytes = 1;
    return DT_CHAR_OTHER;
}

int64_t dt_char_cut(const uint8_t *text, int64_t n) {
    uint32_t c;
    for (int64_t at = n - 1; at >= 0 && at >= n - 3; at--) {
        if ((text[at] & 0xC0) == 0x80) continue;
        const int wanted = text[at] >= 0xF0 ? 4 : text[at] >= 0xE0 ? 3 : text[at] >= 0xC2 ? 2 : 1;
        const bool whole = dt_utf8_decode(text + at, n - at, &c) == wanted;
        return whole || wanted == 1 || at + wanted <= n ? n : at;
    }
    return n;
}

int64_t dt_piece_cut(const uint8_t *text, int64_t n) {
    int64_t at = n - 4;
    if (at <= 0) return 0;
    for (int k = 0; k < 3 && at - k >= 0; k++)
        if ((text[at - k] & 0xC0) != 0x80) {
            at -= k;
            break;
        }
    while (at > 0) {
        int before_bytes, bytes;
        const dt_char_class before = class_before(text, at, &before_bytes),
                            here = class_at(text, at, n, &bytes);
        /* Runs of letters and of numbers end with their class, words before a space. */
        if (before != here && (before == DT_CHAR_LETTER || before == DT_CHAR_NUMBER ||
                               (before == DT_CHAR_OTHER && here == DT_CHAR_SPACE)))
            return at;
        at -= before_bytes;
    }
    return 0;
}
