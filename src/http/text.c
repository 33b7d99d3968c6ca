#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

bool dt_http_room(dt_http_text *t, size_t n) {
    if (t->lost || n > SIZE_MAX / 4 - t->n) {
        t->lost = true;
        return false;
    }
    if (t->room - t->n > n) return true;
    size_t room = t->room ? 2 * t->room : 512;
    while (room - t->n <= n) room *= 2;
    char *s = realloc(t->s, room);
    if (!s) {
        t->lost = true;
        return false;
    }
    t->s = s, t->room = room;
    return true;
}

void dt_http_put(dt_http_text *t, const char *s) {
    const size_t n = strlen(s);
    if (!dt_http_room(t, n)) return;
    memcpy(t->s + t->n, s, n + 1);
    t->n += n;
}

void dt_http_putf(dt_http_text *t, const char *format, ...) {
    va_list a;
    va_start(a, format);
    const int n = vsnprintf(NULL, 0, format, a);
    va_end(a);
    if (n < 0 || !dt_http_room(t, (size_t)n)) return;
    va_start(a, format);
    vsnprintf(t->s + t->n, (size_t)n + 1, format, a);
    va_end(a);
    t->n += (size_t)n;
}

/* A character of `size` bytes, 0 of what is none, as JSON has it. */
static void put_character(dt_http_text *t, const char *s, int size, const char *none) {
    char piece[8];
    if (size == 0) {
        dt_http_put(t, none);
        return;
    }
    memcpy(piece, s, (size_t)size), piece[size] = '\0';
    if (*s == '"' || *s == '\\')
        snprintf(piece, sizeof piece, "\\%c", *s);
    else if ((unsigned char)*s < 0x20 || *s == 0x7f)
        snprintf(piece, sizeof piece, "\\u%04x", (unsigned)*s);
    dt_http_put(t, piece);
}

void dt_http_put_quoted(dt_http_text *t, const char *s) {
    dt_http_put(t, "\"");
    for (int n; *s; s += n > 0 ? n : 1) put_character(t, s, n = dt_utf8_bytes(s), "?");
    dt_http_put(t, "\"");
}

void dt_http_put_quoted_bytes(dt_http_text *t, const char *s, size_t n) {
    dt_http_put(t, "\"");
    for (size_t i = 0; i < n;) {
        char four[5] = {0};
        memcpy(four, s + i, n - i < 4 ? n - i : 4);
        const int size = four[0] ? dt_utf8_bytes(four) : 1;
        put_character(t, four, size, "\\ufffd");
        i += size > 0 ? (size_t)size : 1;
    }
    dt_http_put(t, "\"");
}

void dt_http_put_whole(dt_http_text *t, int64_t value) {
    char digits[24], *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0) *--at = '-';
    const size_t n = (size_t)(digits + sizeof digits - at);
    if (!dt_http_room(t, n)) return;
    memcpy(t->s + t->n, at, n);
    t->s[t->n += n] = '\0';
}
