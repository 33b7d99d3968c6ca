/* A text that grows: answers are written into one. Memory that runs out is remembered, and asked for at the end. */
#ifndef DT_HTTP_TEXT_H
#define DT_HTTP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct dt_http_text {
    char *s; /* the owner's to free */
    size_t n, room;
    bool lost; /* no memory: what is there is not all */
} dt_http_text;

/* Room for n bytes more; false: none. */
bool dt_http_room(dt_http_text *t, size_t n);
void dt_http_put(dt_http_text *t, const char *s);
void dt_http_putf(dt_http_text *t, const char *format, ...) DT_PRINTF(2, 3);
/* In quotes, escaped for JSON; bytes that are not UTF-8 become "?". */
void dt_http_put_quoted(dt_http_text *t, const char *s);
/* The same of n bytes, whatever they are; what is not UTF-8 becomes U+FFFD. */
void dt_http_put_quoted_bytes(dt_http_text *t, const char *s, size_t n);
void dt_http_put_whole(dt_http_text *t, int64_t value);

#endif
