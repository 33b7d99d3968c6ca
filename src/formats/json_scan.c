#include "json_scan.h"

#include <stdio.h>
#include <string.h>

#include "core/text.h"

dt_status dt_json_scan_fail(const dt_json_scan *s, const char *what) {
    return dt_fail(DT_ERR_DATA, "byte %lld of the header: %s", (long long)(s->at - s->start), what);
}

static void skip_space(dt_json_scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) s->at++;
}

bool dt_json_scan_take(dt_json_scan *s, char c) {
    skip_space(s);
    if (s->at == s->end || *s->at != (uint8_t)c) return false;
    s->at++;
    return true;
}

bool dt_json_scan_at_end(dt_json_scan *s) {
    skip_space(s);
    return s->at == s->end;
}

dt_status dt_json_scan_want(dt_json_scan *s, char c) {
    char what[64];
    if (dt_json_scan_take(s, c)) return DT_OK;
    if (s->at == s->end)
        snprintf(what, sizeof what, "expected '%c', but it ends", c);
    else if (*s->at > 0x20 && *s->at < 0x7f)
        snprintf(what, sizeof what, "expected '%c', got '%c'", c, *s->at);
    else
        snprintf(what, sizeof what, "expected '%c', got byte 0x%02x", c, *s->at);
    return dt_json_scan_fail(s, what);
}

/* Four hexadecimal digits after \u; -1 where there are none. */
static int32_t hex4(dt_json_scan *s) {
    int32_t v = 0;
    if (s->end - s->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const int c = *s->at++;
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return -1;
        v = v << 4 | digit;
    }
    return v;
}

static char *put_utf8(char *to, int32_t c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* What follows a backslash. */
static dt_status unescape(dt_json_scan *s, char **to) {
    static const char from[] = "\"\\/bfnrt", as[] = "\"\\/\b\f\n\r\t";
    const char c = s->at < s->end ? (char)*s->at++ : '\0';
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        *(*to)++ = as[known - from];
        return DT_OK;
    }
    if (c != 'u') return dt_json_scan_fail(s, "an escape that JSON does not have");
    int32_t code = hex4(s);
    if (code >= 0xd800 && code < 0xdc00) {
        const bool pair = s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u';
        s->at += pair ? 2 : 0;
        const int32_t low = pair ? hex4(s) : -1;
        code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : -1;
    } else if (code >= 0xdc00 && code < 0xe000) {
        code = -1;
    }
    if (code < 0) return dt_json_scan_fail(s, "\\u without the digits of a character");
    if (code == 0) return dt_json_scan_fail(s, "U+0000 in a text");
    *to = put_utf8(*to, code);
    return DT_OK;
}

/* Bytes of the UTF-8 character that begins here, 0 where there is none before the end. */
static int utf8_bytes(const dt_json_scan *s) {
    char c[5] = {0};
    const size_t left = (size_t)(s->end - s->at);
    memcpy(c, s->at, left < 4 ? left : 4);
    return dt_utf8_bytes(c);
}

dt_status dt_json_scan_text(dt_json_scan *s, const char **out) {
    DT_TRY(dt_json_scan_want(s, '"'));
    const uint8_t *close = s->at;
    while (close < s->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= s->end) return dt_json_scan_fail(s, "a text that does not end");
    char *to =
        dt_text_pool_take(s->pool, (size_t)(close - s->at) + 1); /* escapes are longer than what they mean */
    if (!to) return dt_fail(DT_ERR_MEMORY, "no memory for the texts of the header");
    *out = to;
    while (*s->at != '"') {
        if (*s->at < 0x20) return dt_json_scan_fail(s, "a control character in a text");
        if (*s->at == '\\') {
            s->at++;
            DT_TRY(unescape(s, &to));
            continue;
        }
        const int n = utf8_bytes(s);
        if (n == 0) return dt_json_scan_fail(s, "a text that is not UTF-8");
        memcpy(to, s->at, (size_t)n);
        to += n, s->at += n;
    }
    *to = '\0';
    s->at++;
    return DT_OK;
}

dt_status dt_json_scan_count(dt_json_scan *s, int64_t *out) {
    skip_space(s);
    const uint8_t *first = s->at;
    int64_t v = 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->at - '0', &v))
            return dt_json_scan_fail(s, "a number beyond 2^63 - 1");
    const bool more = s->at < s->end && strchr("+-.eE", *s->at) && *s->at;
    if (s->at == first || more || (*first == '0' && s->at - first > 1))
        return dt_json_scan_fail(s, "expected a whole number from 0 on");
    *out = v;
    return DT_OK;
}

enum { DEPTH_MAX = 32 };

static dt_status skip_value(dt_json_scan *s, int depth);

/* Behind '{' or '['. */
static dt_status skip_items(dt_json_scan *s, bool object, int depth) {
    const char *ignored, close = object ? '}' : ']';
    if (depth == DEPTH_MAX) return dt_json_scan_fail(s, "values nested more than 32 deep");
    if (dt_json_scan_take(s, close)) return DT_OK;
    do {
        if (object) {
            DT_TRY(dt_json_scan_text(s, &ignored));
            DT_TRY(dt_json_scan_want(s, ':'));
        }
        DT_TRY(skip_value(s, depth + 1));
    } while (dt_json_scan_take(s, ','));
    return dt_json_scan_want(s, close);
}

static void skip_digits(dt_json_scan *s) {
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
}

static dt_status skip_number(dt_json_scan *s) {
    const uint8_t *first;
    if (s->at < s->end && *s->at == '-') s->at++;
    first = s->at;
    skip_digits(s);
    if (s->at == first || (*first == '0' && s->at - first > 1))
        return dt_json_scan_fail(s, "no value of JSON");
    if (s->at < s->end && *s->at == '.') {
        first = ++s->at;
        skip_digits(s);
        if (s->at == first) return dt_json_scan_fail(s, "a number that ends in a point");
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) s->at++;
        first = s->at;
        skip_digits(s);
        if (s->at == first) return dt_json_scan_fail(s, "a number without the digits of its exponent");
    }
    return DT_OK;
}

static dt_status skip_value(dt_json_scan *s, int depth) {
    static const char *const word[] = {"true", "false", "null"};
    const char *ignored;
    if (dt_json_scan_take(s, '{')) return skip_items(s, true, depth);
    if (dt_json_scan_take(s, '[')) return skip_items(s, false, depth);
    if (s->at < s->end && *s->at == '"') return dt_json_scan_text(s, &ignored);
    for (size_t i = 0; i < sizeof word / sizeof word[0]; i++) {
        const size_t n = strlen(word[i]);
        if ((size_t)(s->end - s->at) < n || memcmp(s->at, word[i], n) != 0) continue;
        s->at += n;
        return DT_OK;
    }
    return skip_number(s);
}

dt_status dt_json_scan_skip(dt_json_scan *s) {
    return skip_value(s, 0);
}
