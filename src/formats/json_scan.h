/* A scanner of JSON for headers that may be 100 MB and of which the shape is known: it builds no tree, does not
 * recurse, and asks for memory for texts alone. Exactly RFC 8259, apart from what the functions say. */
#ifndef DT_FORMATS_JSON_SCAN_H
#define DT_FORMATS_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "text_pool.h"

typedef struct dt_json_scan {
    const uint8_t *start, *at, *end;
    dt_text_pool **pool; /* of the texts */
} dt_json_scan;

/* Takes `c` after white space; false where something else stands there. */
bool dt_json_scan_take(dt_json_scan *s, char c);
/* The same, else an error that says what stands there instead. */
dt_status dt_json_scan_want(dt_json_scan *s, char c);
/* Whether nothing but white space follows. */
bool dt_json_scan_at_end(dt_json_scan *s);
/* A string, unescaped and '\0'-terminated, in the pool. UTF-8, without U+0000. */
dt_status dt_json_scan_text(dt_json_scan *s, const char **out);
/* A whole number from 0 to 2^63 - 1, without sign, point or exponent. */
dt_status dt_json_scan_count(dt_json_scan *s, int64_t *out);
/* Any value, whose objects and lists are nested at most 32 deep. */
dt_status dt_json_scan_skip(dt_json_scan *s);
/* An error with the place: "byte 17 of the header: ...". */
dt_status dt_json_scan_fail(const dt_json_scan *s, const char *what);

#endif
