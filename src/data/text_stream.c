/* zlib and zstd behind one call. Both formats may have several parts, one after the other. */
#include "text_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "files.h"

enum { INPUT_BYTES = 1 << 18 };

struct dt_text_stream {
    char *path;
    int fd;
    int64_t done;
    uint8_t in[INPUT_BYTES];
    size_t at, n; /* of `in` */
    bool end;     /* of the file */
    bool inside;  /* of a packed part */
    z_stream *gzip;
    ZSTD_DStream *zstd;
};

static dt_status damaged(const dt_text_stream *s, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s: %s data is damaged: %s", s->path, s->gzip ? "gzip" : "zstd", what);
}

/* More of the file, once all that was there is used. */
static dt_status fill(dt_text_stream *s) {
    if (s->at < s->n || s->end) return DT_OK;
    ssize_t got;
    do got = read(s->fd, s->in, INPUT_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0) return dt_fail(DT_ERR_DATA, "%s: cannot read: %s", s->path, strerror(errno));
    s->at = 0;
    s->n = (size_t)got;
    s->end = got == 0;
    s->done += got;
    return DT_OK;
}

static dt_status open_gzip(dt_text_stream *s) {
    s->gzip = calloc(1, sizeof *s->gzip);
    if (s->gzip && inflateInit2(s->gzip, 15 + 16) == Z_OK) return DT_OK;
    free(s->gzip);
    s->gzip = NULL;
    return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
}

static dt_status open_kind(dt_text_stream *s, bool unpack) {
    static const uint8_t gzip[] = {0x1F, 0x8B}, zstd[] = {0x28, 0xB5, 0x2F, 0xFD};
    int64_t n_bytes;
    DT_TRY(dt_file_open(s->path, &s->fd, &n_bytes));
    DT_TRY(fill(s));
    if (!unpack) return DT_OK;
    if (s->n >= sizeof gzip && memcmp(s->in, gzip, sizeof gzip) == 0) return open_gzip(s);
    if (s->n < sizeof zstd || memcmp(s->in, zstd, sizeof zstd) != 0) return DT_OK;
    s->zstd = ZSTD_createDStream();
    return s->zstd ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
}

dt_status dt_text_stream_open(const char *path, bool unpack, dt_text_stream **out) {
    dt_text_stream *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    }
    s->fd = -1;
    const dt_status status = open_kind(s, unpack);
    if (status == DT_OK)
        *out = s;
    else
        dt_text_stream_close(s);
    return status;
}

void dt_text_stream_close(dt_text_stream *s) {
    if (!s) return;
    if (s->gzip) inflateEnd(s->gzip);
    free(s->gzip);
    ZSTD_freeDStream(s->zstd);
    if (s->fd >= 0) close(s->fd);
    free(s->path);
    free(s);
}

/* Some bytes, at least one where there are any. */
static dt_status read_gzip(dt_text_stream *s, uint8_t *dst, int64_t n, int64_t *got) {
    z_stream *z = s->gzip;
    z->next_in = s->in + s->at;
    z->avail_in = (uInt)(s->n - s->at);
    z->next_out = dst;
    z->avail_out = (uInt)dt_min_i64(n, INPUT_BYTES);
    const uInt room = z->avail_out;
    if (!s->inside && inflateReset(z) != Z_OK) return damaged(s, "it cannot begin");
    s->inside = true;
    const int code = inflate(z, Z_NO_FLUSH);
    s->at = s->n - z->avail_in;
    *got = room - z->avail_out;
    if (code == Z_STREAM_END) s->inside = false;
    if (code == Z_MEM_ERROR) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
        return damaged(s, z->msg ? z->msg : "not what the format allows");
    return DT_OK;
}

static dt_status read_zstd(dt_text_stream *s, uint8_t *dst, int64_t n, int64_t *got) {
    ZSTD_inBuffer in = {s->in, s->n, s->at};
    ZSTD_outBuffer out = {dst, (size_t)n, 0};
    const size_t left = ZSTD_decompressStream(s->zstd, &out, &in);
    s->at = in.pos;
    *got = (int64_t)out.pos;
    if (ZSTD_isError(left)) return damaged(s, ZSTD_getErrorName(left));
    s->inside = left != 0;
    return DT_OK;
}

static dt_status read_some(dt_text_stream *s, uint8_t *dst, int64_t n, int64_t *got) {
    *got = 0;
    DT_TRY(fill(s));
    if (!s->gzip && !s->zstd) {
        *got = dt_min_i64(n, (int64_t)(s->n - s->at));
        memcpy(dst, s->in + s->at, (size_t)*got);
        s->at += (size_t)*got;
        return DT_OK;
    }
    if (s->end && !s->inside) return DT_OK;
    DT_TRY(s->gzip ? read_gzip(s, dst, n, got) : read_zstd(s, dst, n, got));
    if (*got == 0 && s->end && s->inside) return damaged(s, "it is cut short");
    return DT_OK;
}

dt_status dt_text_stream_read(dt_text_stream *s, uint8_t *dst, int64_t n, int64_t *got) {
    int64_t part;
    *got = 0;
    while (*got < n) {
        DT_TRY(read_some(s, dst + *got, n - *got, &part));
        *got += part;
        if (part == 0 && s->end) break;
    }
    return DT_OK;
}

int64_t dt_text_stream_done(const dt_text_stream *s) {
    return s->done;
}
