/* Opening and reading one shard. HDF5 is used for the structure only: the place of the samples is resolved
 * once and worker threads pread it. Chunked or compressed shards of others are read through HDF5, one at a
 * time. */
#include "shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/text.h"
#include "recipe.h"

int64_t dt_sample_checksum(const uint8_t *bytes, int64_t n, int32_t label) {
    return (int64_t)(XXH3_64bits_withSeed(bytes, (size_t)n, (uint64_t)(int64_t)label) & 0xFFFFFFFFu);
}

static dt_status wrong(const dt_shard *s, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s: not a sound shard: %s", s->path, what);
}

/* Reads a 1-D dataset of exactly n elements into new memory. */
static dt_status read_column(const dt_shard *s, const char *name, dt_dtype dtype, int64_t n, void **out) {
    dt_h5_info info;
    DT_TRY(dt_h5_info_get(s->h, name, &info));
    if (info.ndim != 1 || info.n_elem != n)
        return dt_fail(DT_ERR_DATA, "%s: %s has %s in %s, expected %lld in 1", s->path, name,
                       dt_count_text(info.n_elem, "element").s, dt_count_text(info.ndim, "dimension").s,
                       (long long)n);
    void *data = malloc((size_t)dt_max_i64(n, 1) * dt_dtype_size(dtype));
    if (!data) return dt_fail(DT_ERR_MEMORY, "%s: %s: out of memory", s->path, name);
    dt_status status = dt_h5_read(s->h, name, dtype, n, data);
    if (status != DT_OK) {
        free(data);
        return status;
    }
    *out = data;
    return DT_OK;
}

/* What is absent leaves *out as it is; what is there must be readable. */
static dt_status optional_str(const dt_shard *s, const char *name, char **out) {
    bool there;
    DT_TRY(dt_h5_attr_has(s->h, name, &there));
    return there ? dt_h5_attr_get_str(s->h, name, out) : DT_OK;
}

static dt_status optional_i64(const dt_shard *s, const char *name, int64_t *out) {
    bool there;
    DT_TRY(dt_h5_attr_has(s->h, name, &there));
    return there ? dt_h5_attr_get_i64(s->h, name, out) : DT_OK;
}

static dt_status open_attributes(dt_shard *s) {
    char *format = NULL;
    int64_t version = 0;
    DT_TRY(optional_str(s, "format", &format));
    if (format) {
        bool mine = strcmp(format, DT_SHARD_FORMAT) == 0;
        free(format);
        if (!mine) return wrong(s, "attribute format is not \"" DT_SHARD_FORMAT "\"");
        DT_TRY(dt_h5_attr_get_i64(s->h, "version", &version));
        if (version != DT_SHARD_VERSION)
            return dt_fail(DT_ERR_DATA, "%s: shard version %lld; this program reads version %d", s->path,
                           (long long)version, DT_SHARD_VERSION);
        DT_TRY(dt_h5_attr_get_i64(s->h, "classes", &s->n_classes));
        DT_TRY(dt_h5_attr_get_i64(s->h, "count", &s->n_samples));
        if (s->n_classes < 1 || s->n_classes > INT32_MAX)
            return wrong(s, "attribute classes is out of range");
    }
    /* The rest is optional: a file made elsewhere needs images (or jpeg) and labels only. */
    DT_TRY(optional_str(s, "class_names", &s->class_names));
    DT_TRY(optional_str(s, "source", &s->source));
    DT_TRY(optional_i64(s, "skipped", &s->n_skipped));
    for (int i = 0; i < DT_RECIPE_ROWS; i++) {
        int64_t *field = dt_recipe_field(&s->recipe, i);
        DT_TRY(optional_i64(s, dt_recipe_table[i].name, field));
        if (*field < 0 || *field > dt_recipe_table[i].max)
            return dt_fail(DT_ERR_DATA, "%s: not a sound shard: attribute %s is out of range", s->path,
                           dt_recipe_table[i].name);
    }
    return optional_i64(s, "stats_pixels", &s->stats_pixels);
}

static dt_status open_raw(dt_shard *s, dt_h5_info *info) {
    DT_TRY(dt_h5_info_get(s->h, "images", info));
    if (info->dtype != DT_DTYPE_U8 || info->ndim < 3) return wrong(s, "images is not u8 [N, H, W, C]");
    if (info->ndim == 3) info->dim[3] = 1;
    s->n_samples = info->dim[0];
    s->height = info->dim[1];
    s->width = info->dim[2];
    s->channels = info->dim[3];
    if (s->height < 1 || s->width < 1 || s->height > DT_SIDE_MAX || s->width > DT_SIDE_MAX ||
        s->channels < 1 || s->channels > DT_CHANNELS_MAX ||
        s->height * s->width * s->channels > DT_SAMPLE_BYTES_MAX)
        return wrong(s, "images is out of range");
    return DT_OK;
}

static dt_status open_jpeg(dt_shard *s, dt_h5_info *info) {
    dt_h5_info offsets;
    DT_TRY(dt_h5_info_get(s->h, "jpeg/bytes", info));
    if (info->dtype != DT_DTYPE_U8 || info->ndim != 1) return wrong(s, "jpeg/bytes is not u8 [bytes]");
    DT_TRY(dt_h5_info_get(s->h, "jpeg/offsets", &offsets));
    if (offsets.ndim != 1 || offsets.n_elem < 1) return wrong(s, "jpeg/offsets is not i64 [N + 1]");
    s->n_samples = offsets.n_elem - 1;
    DT_TRY(read_column(s, "jpeg/offsets", DT_DTYPE_I64, s->n_samples + 1, (void **)&s->offset));
    if (s->offset[0] != 0 || s->offset[s->n_samples] != info->n_elem)
        return wrong(s, "jpeg/offsets does not span jpeg/bytes");
    for (int64_t i = 0; i < s->n_samples; i++) {
        int64_t n;
        if (__builtin_sub_overflow(s->offset[i + 1], s->offset[i], &n) || n < 1 || n > DT_SAMPLE_BYTES_MAX)
            return wrong(s, "jpeg/offsets does not ascend");
    }
    DT_TRY(read_column(s, "jpeg/height", DT_DTYPE_I32, s->n_samples, (void **)&s->jpeg_height));
    DT_TRY(read_column(s, "jpeg/width", DT_DTYPE_I32, s->n_samples, (void **)&s->jpeg_width));
    for (int64_t i = 0; i < s->n_samples; i++) {
        int32_t h = s->jpeg_height[i], w = s->jpeg_width[i];
        if (h < 1 || w < 1 || h > DT_SIDE_MAX || w > DT_SIDE_MAX)
            return wrong(s, "jpeg/height or jpeg/width");
        s->height = dt_max_i64(s->height, h);
        s->width = dt_max_i64(s->width, w);
    }
    s->jpeg = true;
    s->channels = 3;
    DT_TRY(optional_i64(s, "channels", &s->channels));
    if (s->channels != 1 && s->channels != 3) return wrong(s, "attribute channels is neither 1 nor 3");
    return DT_OK;
}

static dt_status open_stats(dt_shard *s) {
    int64_t stats[2 * DT_CHANNELS_MAX];
    if (s->stats_pixels == 0) return DT_OK;
    if (s->stats_pixels < 0 || s->stats_pixels > INT64_MAX / (255 * 255))
        return wrong(s, "attribute stats_pixels");
    DT_TRY(dt_h5_read(s->h, "stats", DT_DTYPE_I64, 2 * s->channels, stats));
    for (int64_t c = 0; c < s->channels; c++) {
        s->sum[c] = stats[c];
        s->sum_sq[c] = stats[s->channels + c];
        if (s->sum[c] < 0 || s->sum[c] > 255 * s->stats_pixels || s->sum_sq[c] < 0 ||
            s->sum_sq[c] > 255 * 255 * s->stats_pixels)
            return wrong(s, "stats is out of range");
    }
    return DT_OK;
}

static dt_status check_labels(const dt_shard *s) {
    int32_t limit = s->n_classes ? (int32_t)s->n_classes : INT32_MAX;
    for (int64_t i = 0; i < s->n_samples; i++)
        if (s->label[i] < 0 || s->label[i] >= limit)
            return dt_fail(DT_ERR_DATA, "%s: sample %lld has label %d, expected 0..%d", s->path, (long long)i,
                           s->label[i], limit - 1);
    return DT_OK;
}

/* Keeps a file descriptor where the data lie in one piece, else the HDF5 handle. */
static dt_status open_data(dt_shard *s, const dt_h5_info *info) {
    s->data_offset_bytes = info->offset_bytes;
    if (info->offset_bytes < 0) return DT_OK;
    struct stat st;
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) != 0)
        return dt_fail(DT_ERR_DATA, "%s: cannot open: %s", s->path, strerror(errno));
    if (info->offset_bytes > st.st_size || info->n_elem > st.st_size - info->offset_bytes)
        return wrong(s, "its samples reach past the end of the file");
    dt_h5 *h = s->h;
    s->h = NULL;
    return dt_h5_close(h);
}

dt_status dt_shard_open(const char *path, dt_shard *s) {
    dt_h5_info info;
    *s = (dt_shard){.fd = -1, .path = strdup(path), .n_samples = -1};
    if (!s->path) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    DT_TRY(dt_h5_open(path, &s->h));
    DT_TRY(open_attributes(s));
    int64_t count = s->n_samples;
    if (dt_h5_has(s->h, "jpeg/bytes"))
        DT_TRY(open_jpeg(s, &info));
    else
        DT_TRY(open_raw(s, &info));
    if (count >= 0 && count != s->n_samples) return wrong(s, "attribute count differs from the samples");
    if (s->n_samples < 1) return wrong(s, "it is empty");
    DT_TRY(read_column(s, "labels", DT_DTYPE_I32, s->n_samples, (void **)&s->label));
    DT_TRY(check_labels(s));
    if (dt_h5_has(s->h, "checksum"))
        DT_TRY(read_column(s, "checksum", DT_DTYPE_I64, s->n_samples, (void **)&s->checksum));
    DT_TRY(open_stats(s));
    return open_data(s, &info);
}

static dt_status read_origin(const dt_shard *s, int64_t *version, char **source) {
    char *format = NULL;
    DT_TRY(optional_str(s, "format", &format));
    bool mine = format && strcmp(format, DT_SHARD_FORMAT) == 0;
    free(format);
    if (!mine) return DT_OK;
    DT_TRY(dt_h5_attr_get_i64(s->h, "version", version));
    return optional_str(s, "source", source);
}

dt_status dt_shard_origin_read(const char *path, int64_t *version, char **source) {
    dt_shard s = {.fd = -1};
    *version = 0;
    *source = NULL;
    DT_TRY(dt_h5_open(path, &s.h));
    dt_status status = read_origin(&s, version, source);
    dt_shard_close(&s);
    return status;
}

void dt_shard_close(dt_shard *s) {
    if (s->fd >= 0) close(s->fd);
    dt_status ignored = dt_h5_close(s->h); /* only read from */
    (void)ignored;
    free(s->path);
    free(s->label);
    free(s->offset);
    free(s->jpeg_height);
    free(s->jpeg_width);
    free(s->checksum);
    free(s->class_names);
    free(s->source);
    *s = (dt_shard){.fd = -1};
}

int64_t dt_shard_sample_bytes(const dt_shard *s, int64_t i) {
    return s->jpeg ? s->offset[i + 1] - s->offset[i] : s->height * s->width * s->channels;
}

static dt_status read_fully(const dt_shard *s, int64_t i, int64_t at, int64_t n, uint8_t *dst) {
    while (n > 0) {
        ssize_t got = pread(s->fd, dst, (size_t)n, at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return dt_fail(DT_ERR_DATA, "%s: sample %lld: %s", s->path, (long long)i,
                           got < 0 ? strerror(errno) : "the file has become shorter");
        at += got;
        dst += got;
        n -= got;
    }
    return DT_OK;
}

/* Through HDF5: whole raw samples only, so a part is copied out of a temporary. */
static dt_status read_slow(const dt_shard *s, int64_t i, int64_t begin, int64_t n, uint8_t *dst) {
    if (s->jpeg) return dt_h5_read_rows(s->h, "jpeg/bytes", DT_DTYPE_U8, s->offset[i] + begin, n, dst);
    int64_t whole = dt_shard_sample_bytes(s, i);
    if (n == whole) return dt_h5_read_rows(s->h, "images", DT_DTYPE_U8, i, 1, dst);
    uint8_t *sample = malloc((size_t)whole);
    if (!sample) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    dt_status status = dt_h5_read_rows(s->h, "images", DT_DTYPE_U8, i, 1, sample);
    if (status == DT_OK) memcpy(dst, sample + begin, (size_t)n);
    free(sample);
    return status;
}

dt_status dt_shard_read(const dt_shard *s, int64_t i, int64_t begin, int64_t n, uint8_t *dst) {
    if (s->h) {
        dt_status status = read_slow(s, i, begin, n, dst);
        if (status != DT_OK) dt_error_context("sample %lld", (long long)i);
        return status;
    }
    int64_t at = s->jpeg ? s->offset[i] : i * dt_shard_sample_bytes(s, i);
    return read_fully(s, i, s->data_offset_bytes + at + begin, n, dst);
}

dt_status dt_shard_check(const dt_shard *s, int64_t i, const uint8_t *bytes) {
    if (!s->checksum)
        return dt_fail(DT_ERR_DATA, "%s: the shard has no checksums to verify (set data.verify = false)",
                       s->path);
    if (dt_sample_checksum(bytes, dt_shard_sample_bytes(s, i), s->label[i]) != s->checksum[i])
        return dt_fail(DT_ERR_DATA, "%s: sample %lld is damaged: its checksum differs (import it again)",
                       s->path, (long long)i);
    return DT_OK;
}
