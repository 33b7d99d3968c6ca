#include "json_in.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

dt_status dt_json_fail(const dt_json_in *j, const char *format, ...) {
    char text[256];
    va_list a;
    va_start(a, format);
    vsnprintf(text, sizeof text, format, a);
    va_end(a);
    return dt_fail(DT_ERR_USAGE, "byte %lld of the JSON: %s", (long long)(j->at - j->start), text);
}

static void skip_space(dt_json_in *j) {
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t')) j->at++;
}

bool dt_json_take(dt_json_in *j, char c) {
    skip_space(j);
    if (j->at >= j->end || *j->at != c) return false;
    j->at++;
    return true;
}

bool dt_json_at_end(dt_json_in *j) {
    skip_space(j);
    return j->at >= j->end;
}

dt_status dt_json_want(dt_json_in *j, char c) {
    if (dt_json_take(j, c)) return DT_OK;
    return j->at >= j->end ? dt_json_fail(j, "it ends, expected '%c'", c)
                           : dt_json_fail(j, "expected '%c'", c);
}

static bool take_word(dt_json_in *j, const char *word) {
    const size_t n = strlen(word);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n) != 0) return false;
    j->at += n;
    return true;
}

static int hex4(const dt_json_in *j) {
    int v = 0;
    if (j->end - j->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const char c = j->at[i];
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0) return -1;
        v = 16 * v + d;
    }
    return v;
}

/* The number behind "\u", or of two such that make one character; -1: none. */
static int32_t escaped(dt_json_in *j) {
    const int a = hex4(j);
    if (a < 0 || (a >= 0xdc00 && a < 0xe000)) return -1;
    j->at += 4;
    if (a < 0xd800 || a >= 0xe000) return a;
    if (j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u') return -1;
    j->at += 2;
    const int b = hex4(j);
    if (b < 0xdc00 || b >= 0xe000) return -1;
    j->at += 4;
    return 0x10000 + ((a - 0xd800) << 10) + (b - 0xdc00);
}

static int put_utf8(int32_t c, char *out) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)),
               out[2] = (char)(0x80 | (c & 63)), 3;
    return out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63)),
           out[2] = (char)(0x80 | (c >> 6 & 63)), out[3] = (char)(0x80 | (c & 63)), 4;
}

/* One character of a text into `out`; *n 0 at its end. */
static dt_status character(dt_json_in *j, char out[4], int *n) {
    static const char named[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    *n = 0;
    if (j->at >= j->end) return dt_json_fail(j, "a text that does not end");
    if (*j->at == '"') return j->at++, DT_OK;
    if (*j->at != '\\') {
        *n = (unsigned char)*j->at < 0x20 ? 0 : dt_utf8_bytes(j->at);
        if (*n == 0 || *n > j->end - j->at) return dt_json_fail(j, "a byte that no text has");
        memcpy(out, j->at, (size_t)*n);
        j->at += *n;
        return DT_OK;
    }
    j->at++;
    const char *found = j->at < j->end && *j->at ? strchr(named, *j->at) : NULL;
    if (found) {
        out[0] = meant[found - named], *n = 1;
        j->at++;
        return DT_OK;
    }
    int32_t c = -1;
    if (j->at < j->end && *j->at == 'u') j->at++, c = escaped(j);
    if (c <= 0) return dt_json_fail(j, "no escape that a text may have");
    *n = put_utf8(c, out);
    return DT_OK;
}

/* out NULL: passed over. *n_used: bytes of it; NULL. */
static dt_status text(dt_json_in *j, char *out, size_t room, size_t *n_used) {
    char piece[4];
    size_t used = 0;
    int n;
    DT_TRY(dt_json_want(j, '"'));
    for (;;) {
        DT_TRY(character(j, piece, &n));
        if (n == 0) break;
        if (!out) continue;
        if (used + (size_t)n >= room) return dt_json_fail(j, "a name of more than %zu bytes", room - 1);
        memcpy(out + used, piece, (size_t)n);
        used += (size_t)n;
    }
    if (out) out[used] = '\0';
    if (n_used) *n_used = used;
    return DT_OK;
}

dt_status dt_json_word(dt_json_in *j, char out[DT_JSON_WORD]) {
    return text(j, out, DT_JSON_WORD, NULL);
}

dt_status dt_json_long(dt_json_in *j, char **out, size_t *n) {
    const dt_json_in begin = *j;
    *out = NULL;
    DT_TRY(text(j, NULL, 0, NULL));
    const size_t room = (size_t)(j->at - begin.at) + 1; /* escapes are longer than what they mean */
    char *s = malloc(room);
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for a text");
    *j = begin;
    const dt_status st = text(j, s, room, n);
    if (st == DT_OK)
        *out = s;
    else
        free(s);
    return st;
}

dt_status dt_json_bool(dt_json_in *j, bool *out) {
    skip_space(j);
    if (take_word(j, "true")) return *out = true, DT_OK;
    if (take_word(j, "false")) return *out = false, DT_OK;
    return dt_json_fail(j, "expected true or false");
}

/* A number as its sign, the first of its digits, and the power of ten to take them by. */
typedef struct number {
    bool negative, special; /* special: none of these, value has it */
    uint64_t digits;
    int64_t power;
    bool full, cut; /* there were more digits; not all of them 0 */
    double value;
    const char *from;
} number;

/* One digit more, as long as they fit into 64 bits. */
static void add_digit(number *x, char c, bool fraction) {
    uint64_t more;
    if (!x->full && !__builtin_mul_overflow(x->digits, 10, &more) &&
        !__builtin_add_overflow(more, (uint64_t)(c - '0'), &more)) {
        x->digits = more;
        x->power -= fraction;
        return;
    }
    x->full = true;
    x->cut = x->cut || c != '0';
    x->power += !fraction;
}

static dt_status read_number(dt_json_in *j, number *x) {
    const char *at = j->at;
    *x = (number){.from = at};
    if (*at == '-') x->negative = true, at++;
    if (*at == 'N' || *at == 'I') {
        j->at = at;
        const bool nan = !x->negative && take_word(j, "NaN");
        if (!nan && !take_word(j, "Infinity")) return dt_json_fail(j, "no number");
        x->special = true;
        x->value = nan ? (double)NAN : x->negative ? -(double)INFINITY : (double)INFINITY;
        return DT_OK;
    }
    const char *first = at;
    for (; *at >= '0' && *at <= '9'; at++) add_digit(x, *at, false);
    if (at == first || (*first == '0' && at > first + 1)) return dt_json_fail(j, "no number");
    if (*at == '.') {
        const char *point = ++at;
        for (; *at >= '0' && *at <= '9'; at++) add_digit(x, *at, true);
        if (at == point) return dt_json_fail(j, "no number");
    }
    if (*at == 'e' || *at == 'E') {
        int64_t e = 0;
        at++;
        const bool below = *at == '-';
        if (*at == '-' || *at == '+') at++;
        const char *power = at;
        for (; *at >= '0' && *at <= '9'; at++)
            if (e < INT32_MAX) e = 10 * e + (*at - '0');
        if (at == power) return dt_json_fail(j, "no number");
        x->power += below ? -e : e;
    }
    if (at > j->end) return dt_json_fail(j, "it ends in a number");
    j->at = at;
    return DT_OK;
}

static dt_status as_double(dt_json_in *j, const number *x, double *out) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (x->special) return *out = x->value, DT_OK;
    if (!x->cut && x->digits < UINT64_C(1) << 53 && x->power >= -22 && x->power <= 22) {
        const double d = (double)x->digits; /* exact, and so is the power: one rounding */
        *out = x->power < 0 ? d / tens[-x->power] : d * tens[x->power];
        if (x->negative) *out = -*out;
        return DT_OK;
    }
    *out = strtod_l(x->from, NULL, dt_plain_locale()); /* the byte behind the JSON ends it */
    return isfinite(*out) ? DT_OK : dt_json_fail(j, "a number that is too large");
}

/* Bounds of whole types. */
static void bounds(dt_tensor_type type, int64_t *low, uint64_t *high) {
    const int bits = 8 * (int)dt_host_elem_bytes(type);
    const bool is_signed = (DT_HOST_IS(type) & DT_HOST_SIGNED) != 0;
    *high = is_signed ? (UINT64_C(1) << (bits - 1)) - 1 : UINT64_MAX >> (64 - bits);
    *low = is_signed ? -(int64_t)*high - 1 : 0;
}

/* The number as one of 64 bits, two's complement; refused outside of the bounds. */
static dt_status as_whole(dt_json_in *j, const number *x, int64_t low, uint64_t high, int64_t *out) {
    uint64_t size = x->digits;
    int64_t power = x->power;
    bool fits = !x->special && !x->cut;
    for (; fits && size && power > 0; power--) fits = !__builtin_mul_overflow(size, 10, &size);
    for (; fits && size && power < 0; power++, size /= 10) fits = size % 10 == 0;
    const uint64_t limit = x->negative ? 0 - (uint64_t)low : high;
    if (!fits || size > limit) return dt_json_fail(j, "no whole number that its type can hold");
    *out = (int64_t)(x->negative ? 0 - size : size);
    return DT_OK;
}

dt_status dt_json_whole(dt_json_in *j, int64_t *out) {
    number x;
    skip_space(j);
    if (j->at >= j->end) return dt_json_fail(j, "it ends, expected a number");
    DT_TRY(read_number(j, &x));
    return as_whole(j, &x, INT64_MIN, INT64_MAX, out);
}

dt_status dt_json_number(dt_json_in *j, double *out) {
    number x;
    skip_space(j);
    if (j->at >= j->end) return dt_json_fail(j, "it ends, expected a number");
    DT_TRY(read_number(j, &x));
    DT_TRY(as_double(j, &x, out));
    return isfinite(*out) ? DT_OK : dt_json_fail(j, "expected a finite number");
}

dt_status dt_json_member(dt_json_in *j, bool *first, char name[DT_JSON_WORD], bool *more) {
    *more = !dt_json_take(j, '}');
    if (!*more) return DT_OK;
    if (!*first) DT_TRY(dt_json_want(j, ','));
    *first = false;
    DT_TRY(dt_json_word(j, name));
    return dt_json_want(j, ':');
}

dt_status dt_json_element(dt_json_in *j, bool *first, bool *more) {
    *more = !dt_json_take(j, ']');
    if (!*more) return DT_OK;
    if (!*first) DT_TRY(dt_json_want(j, ','));
    *first = false;
    return DT_OK;
}

dt_status dt_json_skip(dt_json_in *j) {
    char closes[DT_JSON_DEPTH]; /* of what is open */
    int depth = 0;
    bool ignored;
    number x;
    for (;;) {
        bool opened = false;
        skip_space(j);
        if (j->at >= j->end) return dt_json_fail(j, "it ends in a value");
        if (*j->at == '{' || *j->at == '[') {
            if (depth == DT_JSON_DEPTH) return dt_json_fail(j, "nested more than %d deep", DT_JSON_DEPTH);
            closes[depth++] = *j->at++ == '{' ? '}' : ']';
            opened = true;
        } else if (*j->at == '"') {
            DT_TRY(text(j, NULL, 0, NULL));
        } else if (*j->at == 't' || *j->at == 'f') {
            DT_TRY(dt_json_bool(j, &ignored));
        } else if (!take_word(j, "null")) {
            DT_TRY(read_number(j, &x));
        }
        for (;;) { /* what ends here, and what comes next */
            if (depth == 0) return DT_OK;
            const char close = closes[depth - 1];
            if (dt_json_take(j, close)) {
                depth--, opened = false;
                continue;
            }
            if (!opened) DT_TRY(dt_json_want(j, ','));
            if (close == '}') {
                DT_TRY(text(j, NULL, 0, NULL));
                DT_TRY(dt_json_want(j, ':'));
            }
            break;
        }
    }
}

static dt_status element(dt_json_in *j, dt_host_tensor *t, int64_t i, int64_t low, uint64_t high) {
    number x;
    if (t->type == DT_TENSOR_BOOL) {
        bool b = false;
        int64_t v = 0;
        if (*j->at == 't' || *j->at == 'f') {
            DT_TRY(dt_json_bool(j, &b));
        } else {
            DT_TRY(read_number(j, &x));
            DT_TRY(as_whole(j, &x, 0, 1, &v));
            b = v == 1;
        }
        ((uint8_t *)t->data)[i] = b;
        return DT_OK;
    }
    DT_TRY(read_number(j, &x));
    if (t->type == DT_TENSOR_F32 || t->type == DT_TENSOR_F64) {
        double v = 0;
        DT_TRY(as_double(j, &x, &v));
        if (t->type == DT_TENSOR_F64)
            ((double *)t->data)[i] = v;
        else
            ((float *)t->data)[i] = (float)v;
        if (t->type == DT_TENSOR_F32 && isfinite(v) && !isfinite(((float *)t->data)[i]))
            return dt_json_fail(j, "a number that is too large");
        return DT_OK;
    }
    int64_t v = 0;
    DT_TRY(as_whole(j, &x, low, high, &v));
    dt_host_put_i64(t, i, v);
    return DT_OK;
}

dt_status dt_json_numbers(dt_json_in *j, dt_host_tensor *t) {
    const int64_t n = dt_host_n_elem(t);
    int64_t count[DT_MAX_DIM + 1] = {0}; /* elements so far, by depth */
    int64_t i = 0, low = 0;
    uint64_t high = 0;
    int depth = 0, leaf = 0; /* leaf: where numbers stand; 0: not known */
    const int deepest = t->ndim > 1 ? t->ndim : 1;
    if (t->type != DT_TENSOR_F32 && t->type != DT_TENSOR_F64) bounds(t->type, &low, &high);
    DT_TRY(dt_json_want(j, '['));
    depth = 1;
    for (bool fresh = true; depth > 0;) { /* fresh: behind an opening bracket */
        if (dt_json_take(j, ']')) {
            if (depth > 1 && count[depth] != t->dim[depth - 1])
                return dt_json_fail(j, "a list of %lld, the shape says %lld", (long long)count[depth],
                                    (long long)t->dim[depth - 1]);
            if (depth == 1 && leaf > 1 && count[1] != t->dim[0])
                return dt_json_fail(j, "a list of %lld, the shape says %lld", (long long)count[1],
                                    (long long)t->dim[0]);
            count[depth--] = 0, fresh = false;
            if (depth > 0) count[depth]++;
            continue;
        }
        if (!fresh) DT_TRY(dt_json_want(j, ','));
        if (dt_json_take(j, '[')) {
            if (depth == deepest || leaf == depth)
                return dt_json_fail(j, "a list where the shape, or what stood before, wants a number");
            depth++, fresh = true;
            continue;
        }
        if (j->at >= j->end) return dt_json_fail(j, "it ends in data");
        if (leaf == 0) {
            if (depth != 1 && depth != deepest)
                return dt_json_fail(j, "a number where the shape wants a list");
            leaf = depth;
        }
        if (leaf != depth) return dt_json_fail(j, "a number where a list stood before");
        if (i >= n) return dt_json_fail(j, "more than the %lld elements of the shape", (long long)n);
        DT_TRY(element(j, t, i, low, high));
        i++, count[depth]++, fresh = false;
    }
    return i == n ? DT_OK : dt_json_fail(j, "%lld elements, the shape says %lld", (long long)i, (long long)n);
}
