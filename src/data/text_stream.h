/* The bytes of a file, unpacked where it is gzip or zstd, one piece after the other: nothing is believed of how many come. */
#ifndef DT_DATA_TEXT_STREAM_H
#define DT_DATA_TEXT_STREAM_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_text_stream dt_text_stream;
/* `unpack`: where it is packed. DT_ERR_DATA with the path. */
dt_status dt_text_stream_open(const char *path, bool unpack, dt_text_stream **out);
void dt_text_stream_close(dt_text_stream *s); /* accepts NULL */
/* The next n bytes; *got is less only at the end. DT_ERR_DATA: they are damaged or cut short. */
dt_status dt_text_stream_read(dt_text_stream *s, uint8_t *dst, int64_t n, int64_t *got);
/* Bytes of the file that were read so far. */
int64_t dt_text_stream_done(const dt_text_stream *s);

#endif
