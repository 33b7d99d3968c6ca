/* Planning is done for the upright image and carried back to the stored one, so that only the pixels that are
 * kept need turning. */
#include "image_file.h"

#include <stdlib.h>
#include <string.h>

#include "exif.h"
#include "filter.h"
#include "png_image.h"

typedef struct plan {
    int32_t x0, y0, w, h; /* window of the image */
    int64_t out_w, out_h;
} plan;

static plan plan_upright(const dt_image_options *o, int32_t h, int32_t w) {
    int32_t shorter = h < w ? h : w;
    plan p = {0, 0, w, h, w, h};
    if (o->resize == 0) return p;
    if (o->square) {
        p = (plan){(w - shorter) / 2, (h - shorter) / 2, shorter, shorter, o->resize, o->resize};
        return p;
    }
    if (!o->raw && shorter <= o->resize)
        return p; /* JPEG shards hold images of any size: nothing is enlarged */
    p.out_w = dt_max_i64((2 * (int64_t)w * o->resize + shorter) / (2 * (int64_t)shorter), 1);
    p.out_h = dt_max_i64((2 * (int64_t)h * o->resize + shorter) / (2 * (int64_t)shorter), 1);
    return p;
}

/* Planned for the upright image, then carried back to the stored one, whose size this is. */
static plan plan_image(const dt_image_options *o, dt_turn turn, int32_t h, int32_t w) {
    plan p = turn.transpose ? plan_upright(o, w, h) : plan_upright(o, h, w);
    if (turn.transpose) p = (plan){p.y0, p.x0, p.h, p.w, p.out_h, p.out_w};
    if (turn.mirror_x) p.x0 = w - p.x0 - p.w;
    if (turn.mirror_y) p.y0 = h - p.y0 - p.h;
    return p;
}

/* A strip a few pixels high grows by a lot. */
static dt_status check_plan(const plan *p) {
    if (p->out_w <= DT_IMAGE_PIXELS_MAX / p->out_h) return DT_OK;
    return dt_fail(DT_ERR_DATA, "resized to %lld x %lld pixels: larger than allowed (%d megapixels)",
                   (long long)p->out_w, (long long)p->out_h, DT_IMAGE_PIXELS_MAX / 1000000);
}

static bool changes(const plan *p, int32_t h, int32_t w) {
    return p->w != w || p->h != h || p->out_w != w || p->out_h != h;
}

static dt_status resize_part(const dt_image_options *o, const plan *p, const dt_jpeg_part *d,
                             uint8_t *pixel) {
    int32_t x0 = p->x0 - d->x0, y0 = p->y0 - d->y0;
    if (p->out_w != p->w || p->out_h != p->h)
        return dt_filter_resize(d->pixel, d->stride, o->channels, dt_resize_window_axis(x0, p->w, p->out_w),
                                dt_resize_window_axis(y0, p->h, p->out_h), p->out_h, p->out_w, pixel);
    size_t row_bytes = (size_t)(p->w * o->channels);
    for (int32_t y = 0; y < p->h; y++)
        memcpy(pixel + (size_t)y * row_bytes, d->pixel + (y0 + y) * d->stride + x0 * o->channels, row_bytes);
    return DT_OK;
}

/* The part of the stored image at its full scale, resized and turned upright. */
static dt_status finish_item(const dt_image_options *o, const plan *p, dt_turn turn, const dt_jpeg_part *d,
                             dt_item *out) {
    size_t n = (size_t)p->out_h * (size_t)p->out_w * (size_t)o->channels;
    bool turned = turn.transpose || turn.mirror_x || turn.mirror_y;
    uint8_t *pixel = malloc(n), *upright = turned ? malloc(n) : NULL;
    dt_status status;
    if (!pixel || (turned && !upright))
        status = dt_fail(DT_ERR_MEMORY, "out of memory for an image");
    else
        status = resize_part(o, p, d, pixel);
    if (status == DT_OK && turned) {
        dt_turn_apply(turn, pixel, p->out_h, p->out_w, o->channels, upright);
        uint8_t *swapped = pixel;
        pixel = upright, upright = swapped;
    }
    free(upright);
    if (status != DT_OK) {
        free(pixel);
        return status;
    }
    *out = (dt_item){.pixel = pixel,
                     .owned = pixel,
                     .height = (int32_t)(turn.transpose ? p->out_w : p->out_h),
                     .width = (int32_t)(turn.transpose ? p->out_h : p->out_w)};
    return DT_OK;
}

static dt_turn turn_of(const dt_image_options *o, dt_orientation orientation) {
    return o->exif_rotate ? dt_turn_of(orientation) : (dt_turn){.transpose = false};
}

static dt_status load_png(const dt_image_options *o, const uint8_t *bytes, int64_t n, dt_item *out) {
    dt_png png;
    DT_TRY(dt_png_decode(bytes, n, o->channels, &png));
    dt_turn turn = turn_of(o, png.orientation);
    plan p = plan_image(o, turn, png.height, png.width);
    dt_jpeg_part d = {png.pixel, png.width * o->channels, 0, 0, png.width, png.height, 8};
    dt_status status = check_plan(&p);
    if (status == DT_OK) status = finish_item(o, &p, turn, &d, out);
    out->tilted = png.orientation != 1;
    free(png.pixel);
    return status;
}

static dt_status load_jpeg(const dt_image_options *o, dt_jpeg *decoder, const uint8_t *bytes, int64_t n,
                           dt_item *out) {
    int32_t h, w;
    dt_jpeg_part part;
    DT_TRY(dt_jpeg_begin(decoder, bytes, n, &h, &w));
    dt_orientation orientation = dt_exif_jpeg_orientation(bytes, n);
    bool tilted = orientation != 1;
    dt_turn turn = turn_of(o, orientation);
    plan p = plan_image(o, turn, h, w);
    DT_TRY(check_plan(&p));
    if (!o->raw && !changes(&p, h, w) && !(tilted && o->exif_rotate)) {
        *out = (dt_item){.jpeg = bytes, .n_jpeg_bytes = n, .height = h, .width = w, .tilted = tilted};
        return DT_OK;
    }
    /* At full scale: the pixels are those of any other program that decodes, then resizes. */
    DT_TRY(dt_jpeg_decode(decoder, p.x0, p.y0, p.w, p.h, p.w, p.h, o->channels, &part));
    if (dt_jpeg_damaged(decoder)) return dt_fail(DT_ERR_DATA, "the JPEG data is damaged or cut short");
    DT_TRY(finish_item(o, &p, turn, &part, out));
    out->tilted = tilted;
    return DT_OK;
}

/* What a file that is no JPEG and no PNG is, by its first bytes; NULL: something else. */
static const char *foreign_kind(const uint8_t *bytes, int64_t n) {
    static const struct {
        const char *name, *magic;
        int32_t at;
    } kinds[] = {{"BMP", "BM", 0},           {"GIF", "GIF8", 0},      {"WebP", "WEBP", 8},
                 {"TIFF", "II*", 0},         {"TIFF", "MM", 0},       {"AVIF", "ftypavif", 4},
                 {"HEIC", "ftyphei", 4},     {"HEIC", "ftypmif1", 4}, {"JPEG 2000", "jP  ", 4},
                 {"JPEG XL", "\xFF\x0A", 0}, {"JPEG XL", "JXL ", 4}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        int64_t size = (int64_t)strlen(kinds[i].magic);
        if (n >= kinds[i].at + size && memcmp(bytes + kinds[i].at, kinds[i].magic, (size_t)size) == 0)
            return kinds[i].name;
    }
    return NULL;
}

dt_status dt_image_load(const dt_image_options *o, dt_jpeg *decoder, const uint8_t *bytes, int64_t n,
                        dt_item *out) {
    if (dt_png_is(bytes, n)) return load_png(o, bytes, n, out);
    if (n > 3 && bytes[0] == 0xFF && bytes[1] == 0xD8) return load_jpeg(o, decoder, bytes, n, out);
    const char *kind = foreign_kind(bytes, n);
    return dt_fail(DT_ERR_DATA, "neither a JPEG nor a PNG file%s%s%s", kind ? ", but " : "", kind ? kind : "",
                   kind ? ": convert it to PNG" : "");
}
