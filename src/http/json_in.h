/* JSON from outside, read once from front to back: no tree, no recursion, no memory of its own but for long texts. */
#ifndef DT_HTTP_JSON_IN_H
#define DT_HTTP_JSON_IN_H

#include "formats/tensors.h"
#include "onnx/op.h"

enum { DT_JSON_DEPTH = 100, DT_JSON_WORD = 1024 };

/* The byte at `end` may be read, and is none of a number's or a text's. */
typedef struct dt_json_in {
    const char *start, *at, *end;
} dt_json_in;

/* DT_ERR_USAGE "byte 17 of the JSON: ...". */
dt_status dt_json_fail(const dt_json_in *j, const char *format, ...) DT_MUST_CHECK DT_PRINTF(2, 3);
/* Takes `c` after white space; false: something else stands there. */
bool dt_json_take(dt_json_in *j, char c);
/* Whether nothing but white space follows. */
bool dt_json_at_end(dt_json_in *j);
dt_status dt_json_want(dt_json_in *j, char c);
/* A text of less than DT_JSON_WORD bytes, unescaped: UTF-8 without U+0000. */
dt_status dt_json_word(dt_json_in *j, char out[DT_JSON_WORD]);
/* A text of any length, as that; the caller's to free, ended by a 0. */
dt_status dt_json_long(dt_json_in *j, char **out, size_t *n);
dt_status dt_json_bool(dt_json_in *j, bool *out);
/* A whole number. */
dt_status dt_json_whole(dt_json_in *j, int64_t *out);
/* A finite number. */
dt_status dt_json_number(dt_json_in *j, double *out);
/* Any value, nested at most DT_JSON_DEPTH deep. */
dt_status dt_json_skip(dt_json_in *j);
/* Members of an object, of which '{' was taken: *more false at its end. `first` starts true. */
dt_status dt_json_member(dt_json_in *j, bool *first, char name[DT_JSON_WORD], bool *more);
/* Elements of a list, of which '[' was taken, likewise. */
dt_status dt_json_element(dt_json_in *j, bool *first, bool *more);

/* The elements of t, whose type and shape are set and whose memory is there: a list of all of them, or lists as its
 * shape nests them. Whole numbers are exact, and refused where the type cannot hold them; NaN, Infinity and -Infinity are
 * read for floats; true and false for BOOL. */
dt_status dt_json_numbers(dt_json_in *j, dt_host_tensor *t);

#endif
