#include "formats/protobuf.h"

#include <stdlib.h>
#include <string.h>

enum { VARINT_BYTES_MAX = 10, WIRE_BITS = 3, NUMBER_MAX = (1 << 29) - 1 };

static dt_status fail_at(const dt_pb *r, const uint8_t *at, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s at byte %lld", what, (long long)(at - r->file));
}

dt_status dt_pb_fail(const dt_pb *r, const dt_pb_field *f, const char *what) {
    return fail_at(r, f->at, what);
}

/* The byte after a varint; NULL where it has no end before `end`, or has more than 64 bits. */
static const uint8_t *get_varint(const uint8_t *at, const uint8_t *end, uint64_t *out) {
    uint64_t value = 0;
    for (int i = 0; i < VARINT_BYTES_MAX && at < end; i++, at++) {
        if (i == VARINT_BYTES_MAX - 1 && *at > 1) return NULL;
        value |= (uint64_t)(*at & 0x7f) << 7 * i;
        if (*at < 0x80) {
            *out = value;
            return at + 1;
        }
    }
    return NULL;
}

static uint64_t get_fixed(const uint8_t *at, int n) {
    uint64_t value = 0;
    for (int i = 0; i < n; i++) value |= (uint64_t)at[i] << 8 * i;
    return value;
}

dt_status dt_pb_step(dt_pb *r, dt_pb_field *out, bool *more) {
    uint64_t tag, length;
    *more = r->at < r->end;
    *out = (dt_pb_field){0};
    if (!*more) return DT_OK;
    const uint8_t *start = r->at, *at = get_varint(start, r->end, &tag);
    if (!at) return fail_at(r, start, "a number of more than 10 bytes, or cut off,");
    if (tag >> WIRE_BITS == 0 || tag >> WIRE_BITS > NUMBER_MAX)
        return fail_at(r, start, "a field without a number");
    out->number = (int32_t)(tag >> WIRE_BITS);
    out->wire = (dt_pb_wire)(tag & 7);
    out->at = at;
    switch (out->wire) {
    case DT_PB_VARINT:
        at = get_varint(at, r->end, &out->value);
        if (!at) return fail_at(r, start, "a number of more than 10 bytes, or cut off,");
        break;
    case DT_PB_FIXED64:
    case DT_PB_FIXED32: {
        const int n = out->wire == DT_PB_FIXED64 ? 8 : 4;
        if (r->end - at < n) return fail_at(r, start, "a number that is cut off");
        out->value = get_fixed(at, n);
        at += n;
        break;
    }
    case DT_PB_BYTES:
        at = get_varint(at, r->end, &length);
        if (!at || length > (uint64_t)(r->end - at))
            return fail_at(r, start, "a length that goes beyond what it lies in");
        out->at = at;
        at += length;
        break;
    default:
        return fail_at(r, start, "a group, or what is no field,");
    }
    out->n = at - out->at;
    r->at = at;
    return DT_OK;
}

dt_status dt_pb_want(const dt_pb *r, const dt_pb_field *f, dt_pb_wire wire) {
    return f->wire == wire ? DT_OK : dt_pb_fail(r, f, "a field of another kind than its number has");
}

static dt_status check_fields(dt_pb r) {
    dt_pb_field f;
    bool more = true;
    while (more) DT_TRY(dt_pb_step(&r, &f, &more));
    return DT_OK;
}

dt_status dt_pb_open(const uint8_t *bytes, int64_t n, dt_pb *out) {
    const dt_pb whole = {.at = bytes, .end = bytes + n, .file = bytes};
    DT_TRY(check_fields(whole));
    *out = whole;
    return DT_OK;
}

dt_status dt_pb_enter(const dt_pb *r, const dt_pb_field *f, dt_pb *out) {
    DT_TRY(dt_pb_want(r, f, DT_PB_BYTES));
    if (r->depth >= DT_PB_DEPTH_MAX) return dt_pb_fail(r, f, "messages nested deeper than 64");
    const dt_pb inner = {.at = f->at, .end = f->at + f->n, .file = r->file, .depth = r->depth + 1};
    DT_TRY(check_fields(inner));
    *out = inner;
    return DT_OK;
}

bool dt_pb_next(dt_pb *r, dt_pb_field *out) {
    bool more;
    return dt_pb_step(r, out, &more) == DT_OK && more;
}

static int fixed_bytes(dt_pb_wire wire) {
    return wire == DT_PB_FIXED64 ? 8 : 4;
}

dt_status dt_pb_count(const dt_pb *r, const dt_pb_field *f, dt_pb_wire wire, int64_t *n) {
    uint64_t ignored;
    *n = 1;
    if (f->wire == wire) return DT_OK;
    DT_TRY(dt_pb_want(r, f, DT_PB_BYTES));
    if (wire != DT_PB_VARINT) {
        *n = f->n / fixed_bytes(wire);
        return f->n % fixed_bytes(wire) == 0 ? DT_OK : dt_pb_fail(r, f, "packed numbers that are cut off");
    }
    *n = 0;
    for (const uint8_t *at = f->at, *end = at + f->n; at < end; ++*n) {
        at = get_varint(at, end, &ignored);
        if (!at) return dt_pb_fail(r, f, "packed numbers of more than 10 bytes, or cut off,");
    }
    return DT_OK;
}

void dt_pb_numbers(dt_pb_field *f, dt_pb_wire wire, int64_t n, uint64_t *out) {
    if (f->wire == wire) {
        *out = f->value;
        return;
    }
    const uint8_t *at = f->at, *end = at + f->n;
    for (int64_t i = 0; i < n; i++) {
        if (wire == DT_PB_VARINT) {
            at = get_varint(at, end, &out[i]);
        } else {
            out[i] = get_fixed(at, fixed_bytes(wire));
            at += fixed_bytes(wire);
        }
    }
    f->at = at;
    f->n = end - at;
}

/* Room for n more bytes, which the caller fills; NULL: there is none. */
static uint8_t *take(dt_pb_writer *w, size_t n) {
    if (w->room - w->n < n && !w->failed) {
        const size_t room = 2 * w->room > w->n + n ? 2 * w->room : w->n + n + 64;
        uint8_t *byte = realloc(w->byte, room);
        if (byte)
            w->byte = byte, w->room = room;
        else
            w->failed = true;
    }
    if (w->failed) return NULL;
    w->n += n;
    return w->byte + w->n - n;
}

static size_t encode(uint64_t value, uint8_t out[VARINT_BYTES_MAX]) {
    size_t n = 0;
    for (; value >= 0x80; value >>= 7) out[n++] = (uint8_t)(value | 0x80);
    out[n++] = (uint8_t)value;
    return n;
}

static void put_varint(dt_pb_writer *w, uint64_t value) {
    uint8_t byte[VARINT_BYTES_MAX];
    const size_t n = encode(value, byte);
    uint8_t *to = take(w, n);
    if (to) memcpy(to, byte, n);
}

static void put_tag(dt_pb_writer *w, int32_t number, dt_pb_wire wire) {
    put_varint(w, (uint64_t)number << WIRE_BITS | wire);
}

static void put_raw(dt_pb_writer *w, const void *bytes, size_t n) {
    uint8_t *to = take(w, n);
    if (to && n > 0) memcpy(to, bytes, n);
}

static void put_fixed32(dt_pb_writer *w, float value) {
    uint32_t bits;
    uint8_t *to = take(w, sizeof bits);
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; to && i < 4; i++) to[i] = (uint8_t)(bits >> 8 * i);
}

void dt_pb_put_int(dt_pb_writer *w, int32_t number, int64_t value) {
    put_tag(w, number, DT_PB_VARINT);
    put_varint(w, (uint64_t)value);
}

void dt_pb_put_float(dt_pb_writer *w, int32_t number, float value) {
    put_tag(w, number, DT_PB_FIXED32);
    put_fixed32(w, value);
}

void dt_pb_put_bytes(dt_pb_writer *w, int32_t number, const void *bytes, size_t n) {
    put_tag(w, number, DT_PB_BYTES);
    put_varint(w, n);
    put_raw(w, bytes, n);
}

void dt_pb_put_text(dt_pb_writer *w, int32_t number, const char *text) {
    dt_pb_put_bytes(w, number, text, strlen(text));
}

void dt_pb_put_ints(dt_pb_writer *w, int32_t number, int64_t n, const int64_t *value) {
    uint8_t byte[VARINT_BYTES_MAX];
    size_t bytes = 0;
    for (int64_t i = 0; i < n; i++) bytes += encode((uint64_t)value[i], byte);
    put_tag(w, number, DT_PB_BYTES);
    put_varint(w, bytes);
    for (int64_t i = 0; i < n; i++) put_varint(w, (uint64_t)value[i]);
}

void dt_pb_put_floats(dt_pb_writer *w, int32_t number, int64_t n, const float *value) {
    put_tag(w, number, DT_PB_BYTES);
    put_varint(w, 4 * (uint64_t)n);
    for (int64_t i = 0; i < n; i++) put_fixed32(w, value[i]);
}

static void add_blob(dt_pb_writer *w, dt_pb_blob blob) {
    if (w->n_blob == w->blob_room && !w->failed) {
        const size_t room = w->blob_room ? 2 * w->blob_room : 16;
        dt_pb_blob *more = realloc(w->blob, room * sizeof *more);
        if (more)
            w->blob = more, w->blob_room = room;
        else
            w->failed = true;
    }
    if (w->failed) return;
    w->blob[w->n_blob++] = blob;
    w->blob_bytes += blob.n;
}

void dt_pb_put_blob(dt_pb_writer *w, int32_t number, const void *bytes, size_t n) {
    put_tag(w, number, DT_PB_BYTES);
    put_varint(w, n);
    add_blob(w, (dt_pb_blob){w->n, bytes, n});
}

void dt_pb_put_message(dt_pb_writer *w, int32_t number, dt_pb_writer *inner) {
    put_tag(w, number, DT_PB_BYTES);
    put_varint(w, inner->n + inner->blob_bytes);
    const size_t start = w->n;
    put_raw(w, inner->byte, inner->n);
    for (size_t i = 0; i < inner->n_blob; i++)
        add_blob(w, (dt_pb_blob){start + inner->blob[i].at, inner->blob[i].data, inner->blob[i].n});
    w->failed |= inner->failed;
    dt_pb_writer_free(inner);
}

void dt_pb_writer_free(dt_pb_writer *w) {
    free(w->byte), free(w->blob);
    *w = (dt_pb_writer){0};
}
