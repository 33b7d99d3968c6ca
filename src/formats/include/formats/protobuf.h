/* The wire format of protocol buffers, read where it lies and written.
 *
 * A message is a row of fields: a number, a wire type and a value. Nothing is allocated by a length that a file says:
 * whatever is taken lies inside the message, and messages nest no deeper than 64. */
#ifndef DT_FORMATS_PROTOBUF_H
#define DT_FORMATS_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { DT_PB_DEPTH_MAX = 64 };

typedef enum dt_pb_wire {
    DT_PB_VARINT = 0,
    DT_PB_FIXED64 = 1,
    DT_PB_BYTES = 2,
    DT_PB_FIXED32 = 5 /* 3 and 4, groups, are refused */
} dt_pb_wire;

/* A message being read. */
typedef struct dt_pb {
    const uint8_t *at, *end;
    const uint8_t *file; /* offsets in errors count from here */
    int32_t depth;
} dt_pb;

typedef struct dt_pb_field {
    int32_t number;
    dt_pb_wire wire;
    uint64_t value;    /* of a varint or fixed field */
    const uint8_t *at; /* of bytes; of others, where they begin */
    int64_t n;
} dt_pb_field;

/* A message of n bytes, all of whose fields are well-formed. DT_ERR_DATA with the offset where they are not; *out is then
 * what it was. */
dt_status dt_pb_open(const uint8_t *bytes, int64_t n, dt_pb *out);
/* The message that a field is. DT_ERR_DATA where it is none, or nested too deep. */
dt_status dt_pb_enter(const dt_pb *r, const dt_pb_field *f, dt_pb *out);
/* The next field; false at the message's end, which is also where its file was cut off after the message was entered
 * (formats/mapped.h). */
bool dt_pb_next(dt_pb *r, dt_pb_field *out);
/* The same of bytes that nobody looked at before. */
dt_status dt_pb_step(dt_pb *r, dt_pb_field *out, bool *more);
/* DT_ERR_DATA where the field is of another wire type. */
dt_status dt_pb_want(const dt_pb *r, const dt_pb_field *f, dt_pb_wire wire);
/* DT_ERR_DATA "<what> at byte <offset of f>". */
dt_status dt_pb_fail(const dt_pb *r, const dt_pb_field *f, const char *what);

/* How many numbers of this wire type (not DT_PB_BYTES) a repeated field holds: one, or as many as are packed in it. */
dt_status dt_pb_count(const dt_pb *r, const dt_pb_field *f, dt_pb_wire wire, int64_t *n);
/* The next n of those numbers, after dt_pb_count() counted them, which the field then is without; fixed ones as their bits. */
void dt_pb_numbers(dt_pb_field *f, dt_pb_wire wire, int64_t n, uint64_t *out);

/* Bytes that are elsewhere while a message is written, at `at` of its own. */
typedef struct dt_pb_blob {
    size_t at;
    const void *data;
    size_t n;
} dt_pb_blob;

/* A message being written. Inner messages are written first, each with a writer of its own. */
typedef struct dt_pb_writer {
    uint8_t *byte;
    size_t n, room;
    dt_pb_blob *blob;
    size_t n_blob, blob_room, blob_bytes;
    bool failed; /* no memory */
} dt_pb_writer;

void dt_pb_put_int(dt_pb_writer *w, int32_t number, int64_t value);
void dt_pb_put_float(dt_pb_writer *w, int32_t number, float value);
void dt_pb_put_bytes(dt_pb_writer *w, int32_t number, const void *bytes, size_t n);
void dt_pb_put_text(dt_pb_writer *w, int32_t number, const char *text);
void dt_pb_put_ints(dt_pb_writer *w, int32_t number, int64_t n, const int64_t *value); /* packed */
void dt_pb_put_floats(dt_pb_writer *w, int32_t number, int64_t n, const float *value); /* packed */
/* As dt_pb_put_bytes, but the bytes stay where they are until all is written. */
void dt_pb_put_blob(dt_pb_writer *w, int32_t number, const void *bytes, size_t n);
/* Appends a message and frees it. */
void dt_pb_put_message(dt_pb_writer *w, int32_t number, dt_pb_writer *inner);
void dt_pb_writer_free(dt_pb_writer *w);

#endif
