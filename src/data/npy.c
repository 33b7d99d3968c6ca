/* The header's grammar, and the table of NumPy's types. */
#include "data/npy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/text.h"

static const struct {
    char type;
    int32_t size;
    dt_dtype dtype;
} types[] = {
    {'f', 2, DT_DTYPE_F16}, {'f', 4, DT_DTYPE_F32}, {'f', 8, DT_DTYPE_F64}, {'i', 1, DT_DTYPE_I32},
    {'i', 2, DT_DTYPE_I32}, {'i', 4, DT_DTYPE_I32}, {'i', 8, DT_DTYPE_I64}, {'u', 1, DT_DTYPE_U8},
    {'u', 2, DT_DTYPE_I32}, {'u', 4, DT_DTYPE_I64}, {'u', 8, DT_DTYPE_I64}, {'b', 1, DT_DTYPE_U8},
};

/* ---- the header ---- */

typedef struct reader {
    const char *path, *at, *end;
} reader;

static dt_status wrong(const reader *r, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s: not a sound .npy file: %s", r->path, what);
}

static void skip_blanks(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n')) r->at++;
}

static bool next_is(reader *r, char c) {
    skip_blanks(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool word_is(reader *r, const char *word) {
    const size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}

/* A quoted string without escapes. */
static dt_status read_string(reader *r, char *out, size_t n) {
    size_t at = 0;
    const char quote = next_is(r, '\'') ? '\'' : next_is(r, '"') ? '"' : 0;
    if (!quote) return wrong(r, "its header is not a dictionary of descr, fortran_order and shape");
    while (r->at < r->end && *r->at != quote) {
        if (*r->at < ' ' || *r->at > '~' || *r->at == '\\' || at + 1 == n)
            return wrong(r, "a string in its header is too long or has odd characters");
        out[at++] = *r->at++;
    }
    if (r->at == r->end) return wrong(r, "a string in its header does not end");
    r->at++;
    out[at] = 0;
    return DT_OK;
}

static dt_status read_type(reader *r, dt_npy *a) {
    char text[32];
    skip_blanks(r);
    if (r->at < r->end && *r->at == '[')
        return dt_fail(DT_ERR_DATA,
                       "%s: an array of structures: save each of its columns as an array of numbers",
                       r->path);
    DT_TRY(read_string(r, text, sizeof text));
    const bool little = text[0] == '<', big = text[0] == '>', native = text[0] == '|' || text[0] == '=';
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (!(little || big || native) || text[1] != types[i].type || text[2] != '0' + types[i].size ||
            text[3])
            continue;
        a->type = types[i].type;
        a->elem_size = types[i].size;
        a->dtype = types[i].dtype;
        a->swap = a->elem_size > 1 && (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? big : little);
        return DT_OK;
    }
    if (strchr(text, 'O'))
        return dt_fail(DT_ERR_DATA,
                       "%s: an array of Python objects, which only running code could read: save numbers "
                       "(x.astype(\"float32\"))",
                       r->path);
    return dt_fail(DT_ERR_DATA,
                   "%s: numbers of type \"%s\": expected f2, f4, f8, i1 to i8, u1 to u8 or b1 (save it as "
                   "x.astype(\"float32\"))",
                   r->path, text);
}

static dt_status read_order(reader *r, dt_npy *a) {
    skip_blanks(r);
    a->fortran = word_is(r, "True");
    return a->fortran || word_is(r, "False") ? DT_OK : wrong(r, "fortran_order is neither True nor False");
}

static dt_status read_dim(reader *r, int64_t *out) {
    const char *begin = r->at;
    *out = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *r->at++ - '0', out))
            return wrong(r, "its shape is out of range");
    if (r->at == begin) return wrong(r, "its shape is not a tuple of whole numbers");
    if (r->at < r->end && *r->at == 'L') r->at++; /* by Python 2 */
    return DT_OK;
}

static dt_status read_shape(reader *r, dt_npy *a) {
    if (!next_is(r, '(')) return wrong(r, "its shape is not a tuple of whole numbers");
    for (bool more = true; !next_is(r, ')'); more = next_is(r, ',')) {
        if (!more) return wrong(r, "its shape is not a tuple of whole numbers");
        if (a->ndim == DT_MAX_DIM)
            return dt_fail(DT_ERR_DATA, "%s: has more than %d dimensions", r->path, DT_MAX_DIM);
        DT_TRY(read_dim(r, &a->dim[a->ndim++]));
    }
    return DT_OK;
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and blanks up to the end. */
static dt_status read_dictionary(reader *r, dt_npy *a) {
    static const struct {
        const char *key;
        dt_status (*read)(reader *r, dt_npy *a);
    } rows[] = {{"descr", read_type}, {"fortran_order", read_order}, {"shape", read_shape}};
    enum { ROWS = sizeof rows / sizeof rows[0] };
    bool seen[ROWS] = {false};
    if (!next_is(r, '{')) return wrong(r, "its header is not a dictionary");
    for (bool more = true; !next_is(r, '}'); more = next_is(r, ',')) {
        char key[32];
        int i = 0;
        if (!more) return wrong(r, "its header is not a dictionary of descr, fortran_order and shape");
        DT_TRY(read_string(r, key, sizeof key));
        while (i < ROWS && strcmp(key, rows[i].key) != 0) i++;
        if (i == ROWS || seen[i] || !next_is(r, ':'))
            return wrong(r, "its header has other keys than descr, fortran_order and shape");
        seen[i] = true;
        DT_TRY(rows[i].read(r, a));
    }
    for (int i = 0; i < ROWS; i++)
        if (!seen[i]) return wrong(r, "its header lacks descr, fortran_order or shape");
    skip_blanks(r);
    return r->at == r->end ? DT_OK : wrong(r, "there is more behind the dictionary of its header");
}

/* Where the dictionary lies. */
static dt_status find_header(reader *r, const uint8_t *head, int64_t n_head, dt_npy *a) {
    static const uint8_t magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    if (n_head < 10 || memcmp(head, magic, sizeof magic) != 0)
        return wrong(r, "it does not begin with NumPy's magic number");
    const int major = head[6];
    if (major < 1 || major > 3 || head[7] != 0)
        return dt_fail(DT_ERR_DATA, "%s: .npy version %d.%d; this program reads 1.0, 2.0 and 3.0", r->path,
                       major, head[7]);
    int64_t n = head[8] | head[9] << 8, begin = 10;
    if (major > 1) {
        if (n_head < 12) return wrong(r, "it ends in its header");
        n |= (int64_t)head[10] << 16 | (int64_t)head[11] << 24;
        begin = 12;
    }
    if (n > DT_NPY_HEAD_MAX - begin) return wrong(r, "its header is longer than that of any array");
    if (n > n_head - begin) return wrong(r, "it ends in its header");
    r->at = (const char *)head + begin;
    r->end = r->at + n;
    a->data_offset = begin + n;
    return DT_OK;
}

static dt_status check_size(const reader *r, int64_t n_bytes, dt_npy *a) {
    int64_t bytes;
    a->row_elem = 1;
    for (int32_t i = 1; i < a->ndim; i++)
        if (__builtin_mul_overflow(a->row_elem, a->dim[i], &a->row_elem))
            return wrong(r, "its shape is out of range");
    if (__builtin_mul_overflow(a->row_elem, a->ndim > 0 ? a->dim[0] : 1, &a->n_elem) ||
        __builtin_mul_overflow(a->n_elem, (int64_t)sizeof(int64_t), &bytes)) /* of the widest dtype */
        return wrong(r, "its shape is out of range");
    bytes = a->n_elem * a->elem_size;
    const int64_t there = n_bytes - a->data_offset;
    if (there < bytes)
        return dt_fail(DT_ERR_DATA, "%s: truncated: %lld bytes of numbers of %lld", r->path, (long long)there,
                       (long long)bytes);
    return there == bytes ? DT_OK : wrong(r, "it is longer than its header says");
}

dt_status dt_npy_parse_any(const char *path, const uint8_t *head, int64_t n_bytes, dt_npy *out) {
    reader r = {.path = path};
    *out = (dt_npy){0};
    DT_TRY(find_header(&r, head, dt_min_i64(n_bytes, DT_NPY_HEAD_MAX), out));
    DT_TRY(read_dictionary(&r, out));
    return check_size(&r, n_bytes, out);
}

dt_status dt_npy_parse(const char *path, const uint8_t *head, int64_t n_bytes, dt_npy *out) {
    DT_TRY(dt_npy_parse_any(path, head, n_bytes, out));
    if (out->ndim == 0)
        return dt_fail(DT_ERR_DATA, "%s: one number, not an array: expected a first dimension of samples",
                       path);
    return out->n_elem > 0 ? DT_OK : dt_fail(DT_ERR_DATA, "%s: an array without numbers in it", path);
}

/* ---- the numbers ---- */

static uint64_t load(const dt_npy *a, const uint8_t *at) {
    uint16_t h;
    uint32_t w;
    uint64_t q;
    switch (a->elem_size) {
    case 1:
        return *at;
    case 2:
        memcpy(&h, at, sizeof h);
        return a->swap ? __builtin_bswap16(h) : h;
    case 4:
        memcpy(&w, at, sizeof w);
        return a->swap ? __builtin_bswap32(w) : w;
    default:
        memcpy(&q, at, sizeof q);
        return a->swap ? __builtin_bswap64(q) : q;
    }
}

/* Neither an exponent of all ones, infinite or not a number, nor beyond fp32: networks compute in that at most. */
static bool is_finite(uint64_t bits, int32_t size) {
    double d;
    memcpy(&d, &bits, sizeof d);
    if (size == 8) return isfinite((float)d);
    static const uint64_t exponent[] = {[2] = 0x7C00, [4] = 0x7F800000};
    return (bits & exponent[size]) != exponent[size];
}

static int64_t sign_extend(uint64_t bits, int32_t size) {
    const int shift = 64 - 8 * size;
    return (int64_t)(bits << shift) >> shift;
}

int64_t dt_npy_convert(const dt_npy *a, const uint8_t *src, int64_t n, void *dst) {
    const size_t size = dt_dtype_size(a->dtype);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = load(a, src + i * a->elem_size);
        if (a->type == 'f'   ? !is_finite(bits, a->elem_size)
            : a->type == 'b' ? bits > 1
                             : a->type == 'u' && a->elem_size == 8 && bits > INT64_MAX)
            return i;
        if (a->type == 'i') bits = (uint64_t)sign_extend(bits, a->elem_size);
        uint8_t *to = (uint8_t *)dst + (size_t)i * size;
        const uint32_t w = (uint32_t)bits;
        const uint16_t h = (uint16_t)bits;
        switch (size) {
        case 1:
            *to = (uint8_t)bits;
            break;
        case 2:
            memcpy(to, &h, sizeof h);
            break;
        case 4:
            memcpy(to, &w, sizeof w);
            break;
        default:
            memcpy(to, &bits, sizeof bits);
        }
    }
    return -1;
}
