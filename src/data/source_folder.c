/* A folder of image files. What a file is follows from its first bytes, not from its name. Decoding, resizing
 * and (for JPEG shards) keeping of files that need no change happen per sample.
 */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "filter.h"
#include "folder.h"
#include "png_image.h"
#include "shard.h"

typedef struct folder_state {
    dt_folder folder;
    int64_t resize, channels;
    bool square, raw;
} folder_state;

static char *path_of(const void *state, int64_t i) {
    const folder_state *s = state;
    char *path;
    return asprintf(&path, "%s/%s", s->folder.root, s->folder.file[i].name) < 0 ? NULL : path;
}

typedef struct plan {
    int32_t x0, y0, w, h; /* window of the stored image */
    int32_t out_w, out_h;
} plan;

static plan plan_image(const folder_state *s, int32_t h, int32_t w) {
    int32_t shorter = h < w ? h : w;
    plan p = {0, 0, w, h, w, h};
    if (s->resize == 0) return p;
    if (s->square) {
        p = (plan){(w - shorter) / 2, (h - shorter) / 2,  shorter,
                   shorter,           (int32_t)s->resize, (int32_t)s->resize};
        return p;
    }
    if (!s->raw && shorter <= s->resize)
        return p; /* JPEG shards hold images of any size: nothing is enlarged */
    p.out_w = (int32_t)dt_max_i64((2 * (int64_t)w * s->resize + shorter) / (2 * (int64_t)shorter), 1);
    p.out_h = (int32_t)dt_max_i64((2 * (int64_t)h * s->resize + shorter) / (2 * (int64_t)shorter), 1);
    return p;
}

static bool changes(const plan *p, int32_t h, int32_t w) {
    return p->w != w || p->h != h || p->out_w != w || p->out_h != h;
}

static dt_status resize_item(const folder_state *s, const plan *p, const dt_jpeg_part *d, dt_item *out) {
    size_t n = (size_t)p->out_h * (size_t)p->out_w * (size_t)s->channels;
    uint8_t *pixel = malloc(n);
    if (!pixel) return dt_fail(DT_ERR_MEMORY, "out of memory for an image");
    double scale = d->scale_num / 8.0;
    dt_resize_axis x = {p->x0 * scale - d->x0, p->w * scale / p->out_w, 0, d->w - 1};
    dt_resize_axis y = {p->y0 * scale - d->y0, p->h * scale / p->out_h, 0, d->h - 1};
    dt_status status = dt_filter_resize(d->pixel, d->stride, s->channels, x, y, p->out_h, p->out_w, pixel);
    if (status != DT_OK) {
        free(pixel);
        return status;
    }
    *out = (dt_item){.pixel = pixel, .owned = pixel, .height = p->out_h, .width = p->out_w};
    return DT_OK;
}

static dt_status load_png(const folder_state *s, const uint8_t *bytes, int64_t n, dt_item *out) {
    uint8_t *pixel;
    int32_t h, w;
    DT_TRY(dt_png_decode(bytes, n, s->channels, &pixel, &h, &w));
    plan p = plan_image(s, h, w);
    if (!changes(&p, h, w)) {
        *out = (dt_item){.pixel = pixel, .owned = pixel, .height = h, .width = w};
        return DT_OK;
    }
    dt_jpeg_part d = {pixel, w * s->channels, 0, 0, w, h, 8};
    if (p.w != w || p.h != h) { /* the filter must not reach outside the square */
        d.pixel += p.y0 * d.stride + p.x0 * s->channels;
        d.x0 = p.x0, d.y0 = p.y0, d.w = p.w, d.h = p.h;
    }
    dt_status status = resize_item(s, &p, &d, out);
    free(pixel);
    return status;
}

static dt_status load_jpeg(const folder_state *s, dt_jpeg *decoder, const uint8_t *bytes, int64_t n,
                           dt_item *out) {
    int32_t h, w;
    dt_jpeg_part part;
    DT_TRY(dt_jpeg_begin(decoder, bytes, n, &h, &w));
    plan p = plan_image(s, h, w);
    if (!s->raw && !changes(&p, h, w)) {
        *out = (dt_item){.jpeg = bytes, .n_jpeg_bytes = n, .height = h, .width = w};
        return DT_OK;
    }
    /* Twice the size that is wanted leaves the filter something to average. */
    bool same = p.out_w == p.w && p.out_h == p.h;
    DT_TRY(dt_jpeg_decode(decoder, p.x0, p.y0, p.w, p.h, same ? p.w : 2 * p.out_w, same ? p.h : 2 * p.out_h,
                          s->channels, &part));
    if (dt_jpeg_damaged(decoder)) return dt_fail(DT_ERR_DATA, "the JPEG data is damaged or cut short");
    return resize_item(s, &p, &part, out);
}

static dt_status load_folder(const void *state, dt_jpeg *decoder, int64_t i, dt_item *out) {
    const folder_state *s = state;
    uint8_t *bytes = NULL;
    int64_t n;
    dt_status status;
    char *path = path_of(s, i);
    if (!path) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->folder.root);
    DT_TRY_GOTO(status, dt_file_read(path, DT_SAMPLE_BYTES_MAX, &bytes, &n), done);
    if (dt_png_is(bytes, n))
        status = load_png(s, bytes, n, out);
    else if (n > 3 && bytes[0] == 0xFF && bytes[1] == 0xD8)
        status = load_jpeg(s, decoder, bytes, n, out);
    else
        status = dt_fail(DT_ERR_DATA, "neither a JPEG nor a PNG file");
    if (status != DT_OK)
        dt_error_context("%s", path);
    else if (out->jpeg) {
        out->owned = bytes;
        bytes = NULL;
    }
    out->label = s->folder.file[i].class;
done:
    free(bytes);
    free(path);
    return status;
}

static void close_folder(void *state) {
    folder_state *s = state;
    dt_folder_free(&s->folder);
    free(s);
}

static const char *name_of(const void *state, int64_t i) {
    const folder_state *s = state;
    return s->folder.file[i].name;
}

static int32_t label_of(const void *state, int64_t i) {
    const folder_state *s = state;
    return s->folder.file[i].class;
}

/* Raw shards hold one size: that of the resize option, or that of the first image; where broken ones are left
 * out, of the first that loads. */
static dt_status find_shape(const folder_state *s, bool skip_broken, dt_source *out) {
    dt_jpeg *decoder;
    dt_item item = {0};
    if (s->square) {
        out->height = out->width = s->resize;
        return DT_OK;
    }
    DT_TRY(dt_jpeg_new(&decoder));
    dt_status status = load_folder(s, decoder, 0, &item);
    for (int64_t i = 1; skip_broken && status == DT_ERR_DATA && i < s->folder.n_files; i++)
        status = load_folder(s, decoder, i, &item);
    if (skip_broken && status == DT_ERR_DATA)
        dt_error_context("%s: none of the %lld images can be read, the last", s->folder.root,
                         (long long)s->folder.n_files);
    out->height = item.height;
    out->width = item.width;
    free(item.owned);
    dt_jpeg_free(decoder);
    return status;
}

dt_status dt_source_folder(const dt_import_options *o, dt_source *out) {
    if (o->n_input != 1) return dt_fail(DT_ERR_USAGE, "import folder: give one directory");
    if (o->resize < 0 || o->resize > DT_IMPORT_SIDE_MAX)
        return dt_fail(DT_ERR_USAGE, "import folder: resize is 1 to %d pixels", DT_IMPORT_SIDE_MAX);
    if (o->square && !o->resize) return dt_fail(DT_ERR_USAGE, "import folder: square needs resize");
    folder_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "import folder: out of memory");
    *out = (dt_source){.state = s,
                       .load = load_folder,
                       .path = path_of,
                       .name = name_of,
                       .label = label_of,
                       .close = close_folder};
    s->resize = o->resize;
    s->square = o->square;
    s->raw = o->store == DT_STORE_RAW;
    s->channels = o->channels ? o->channels : 3;
    if (s->channels != 1 && s->channels != 3)
        return dt_fail(DT_ERR_USAGE, "import folder: channels is 1 or 3");
    DT_TRY(o->labels ? dt_folder_by_list(o, &s->folder) : dt_folder_by_directory(o, &s->folder));
    out->identity = s->folder.identity;
    out->n_samples = s->folder.n_files;
    out->n_classes = s->folder.classes.n;
    out->class_names = s->folder.class_names;
    out->doubt = s->folder.doubt;
    out->channels = s->channels;
    out->sample_bytes = s->folder.n_bytes / out->n_samples;
    if (s->raw) {
        DT_TRY(find_shape(s, o->skip_broken, out));
        out->sample_bytes = out->height * out->width * out->channels;
    } else if (s->resize)
        out->sample_bytes = dt_min_i64(out->sample_bytes, s->resize * s->resize / 2);
    return DT_OK;
}
