/* IDX, the format of MNIST and its kin: a big-endian header (two zero bytes, type, number of dims, dims),
 * then the elements. Gzipped or plain: zlib reads both. The header is not believed: memory grows with what
 * really comes. */
#include "source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zlib.h>

#include "shard.h"

enum {
    IDX_U8 = 0x08,
    IDX_I32 = 0x0C,
    IDX_NDIM_MAX = 4,
    GROW_BYTES = 16 << 20,
    GZ_BUFFER_BYTES = 1 << 18,
};

typedef struct idx_array {
    int32_t type, ndim;
    int64_t dim[IDX_NDIM_MAX];
    int64_t n_bytes;
    uint8_t *bytes;
} idx_array;

typedef struct idx_state {
    idx_array image, label;
    int64_t channels;
} idx_state;

static dt_status read_failed(const char *path, gzFile f, int64_t got, int64_t wanted) {
    int code;
    const char *text = gzerror(f, &code);
    if (code == Z_OK || code == Z_BUF_ERROR)
        return dt_fail(DT_ERR_DATA, "%s: truncated: %lld bytes of %lld", path, (long long)got,
                       (long long)wanted);
    return dt_fail(DT_ERR_DATA, "%s: cannot read: %s", path, text);
}

static int64_t big_endian(const uint8_t *b) {
    return (int64_t)((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
}

static dt_status read_header(const char *path, gzFile f, idx_array *a) {
    uint8_t head[4], dims[4 * IDX_NDIM_MAX];
    int got = gzread(f, head, 4);
    if (got != 4) return read_failed(path, f, got, 4);
    a->type = head[2];
    a->ndim = head[3];
    if (head[0] || head[1] || (a->type != IDX_U8 && a->type != IDX_I32) || a->ndim < 1 ||
        a->ndim > IDX_NDIM_MAX)
        return dt_fail(DT_ERR_DATA, "%s: not an IDX file of bytes or 32-bit integers with 1 to 4 dims", path);
    unsigned n = 4 * (unsigned)a->ndim;
    got = gzread(f, dims, n);
    if (got != (int)n) return read_failed(path, f, got, n);
    a->n_bytes = a->type == IDX_U8 ? 1 : 4;
    for (int32_t i = 0; i < a->ndim; i++) {
        a->dim[i] = big_endian(dims + 4 * i);
        if (a->dim[i] < 1 || __builtin_mul_overflow(a->n_bytes, a->dim[i], &a->n_bytes))
            return dt_fail(DT_ERR_DATA, "%s: dim %d of the IDX header is out of range", path, i);
    }
    return DT_OK;
}

static dt_status read_body(const char *path, gzFile f, idx_array *a) {
    int64_t got = 0, capacity = 0;
    while (got < a->n_bytes) {
        if (got == capacity) {
            capacity = dt_min_i64(capacity ? 2 * capacity : GROW_BYTES, a->n_bytes);
            uint8_t *grown = realloc(a->bytes, (size_t)capacity);
            if (!grown) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
            a->bytes = grown;
        }
        int n = gzread(f, a->bytes + got, (unsigned)dt_min_i64(capacity - got, GROW_BYTES));
        if (n <= 0) return read_failed(path, f, got, a->n_bytes);
        got += n;
    }
    uint8_t extra;
    if (gzread(f, &extra, 1) != 0)
        return dt_fail(DT_ERR_DATA, "%s: longer than its IDX header says, or its end is damaged", path);
    return DT_OK;
}

static dt_status read_idx(const char *path, idx_array *a) {
    errno = 0; /* zlib sets none where it finds no memory */
    gzFile f = gzopen(path, "rb");
    if (!f) return dt_fail(DT_ERR_DATA, "%s: cannot open: %s", path, strerror(errno ? errno : ENOMEM));
    gzbuffer(f, GZ_BUFFER_BYTES);
    dt_status status = read_header(path, f, a);
    if (status == DT_OK) status = read_body(path, f, a);
    if (gzclose_r(f) != Z_OK && status == DT_OK)
        status = dt_fail(DT_ERR_DATA, "%s: truncated: the gzip stream does not end", path);
    return status;
}

static int32_t label_at(const idx_array *a, int64_t i) {
    return a->type == IDX_U8 ? a->bytes[i] : (int32_t)big_endian(a->bytes + 4 * i);
}

static dt_status load_idx(const void *state, dt_jpeg *decoder, int64_t i, dt_item *out) {
    (void)decoder;
    const idx_state *s = state;
    int64_t h = s->image.dim[1], w = s->image.dim[2];
    *out = (dt_item){.pixel = s->image.bytes + i * h * w * s->channels,
                     .height = (int32_t)h,
                     .width = (int32_t)w,
                     .label = label_at(&s->label, i)};
    return DT_OK;
}

static void close_idx(void *state) {
    idx_state *s = state;
    free(s->image.bytes);
    free(s->label.bytes);
    free(s);
}

static dt_status check_pair(const dt_import_options *o, const idx_state *s, dt_source *out) {
    const idx_array *image = &s->image, *label = &s->label;
    if (image->type != IDX_U8 || image->ndim < 3 || image->dim[1] > DT_SIDE_MAX ||
        image->dim[2] > DT_SIDE_MAX || s->channels > DT_CHANNELS_MAX ||
        image->n_bytes / image->dim[0] > DT_SAMPLE_BYTES_MAX)
        return dt_fail(DT_ERR_DATA, "%s: not images: expected u8 [N, H, W] or [N, H, W, C]", o->input[0]);
    if (label->ndim != 1 || label->dim[0] != image->dim[0])
        return dt_fail(DT_ERR_DATA, "%s: not the labels of the %lld images in %s", o->input[1],
                       (long long)image->dim[0], o->input[0]);
    for (int64_t i = 0; i < image->dim[0]; i++) {
        int32_t value = label_at(label, i);
        if (value < 0 || value > (1 << 24))
            return dt_fail(DT_ERR_DATA, "%s: label %d of sample %lld is out of range", o->input[1], value,
                           (long long)i);
        out->n_classes = dt_max_i64(out->n_classes, (int64_t)value + 1);
    }
    return DT_OK;
}

dt_status dt_source_idx(const dt_import_options *o, dt_source *out) {
    if (o->n_input != 2)
        return dt_fail(DT_ERR_USAGE, "import idx: give two files, the images and their labels");
    idx_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "import idx: out of memory");
    *out = (dt_source){.state = s, .load = load_idx, .close = close_idx};
    DT_TRY(read_idx(o->input[0], &s->image));
    DT_TRY(read_idx(o->input[1], &s->label));
    s->channels = s->image.ndim == 4 ? s->image.dim[3] : 1;
    DT_TRY(check_pair(o, s, out));
    out->n_samples = s->image.dim[0];
    out->height = s->image.dim[1];
    out->width = s->image.dim[2];
    out->channels = s->channels;
    out->sample_bytes = out->height * out->width * out->channels;
    out->identity = XXH3_64bits(s->image.bytes, (size_t)s->image.n_bytes) ^
                    XXH3_64bits_withSeed(s->label.bytes, (size_t)s->label.n_bytes, 1);
    return DT_OK;
}
