/* libjpeg-turbo behind jpeg.h. Its fatal errors arrive by longjmp: no function here holds anything that would
 * be lost by one. Speed: the scales 1/2, 1/4 and 1/8 have SIMD transforms, columns and rows outside the
 * window are not transformed, and rows below it are not even entropy-decoded. */
#include "jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "grey.h"

enum { END_SEARCH_BYTES = 64 };

struct dt_jpeg {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    char text[JMSG_LENGTH_MAX];
    int64_t warnings;
    bool damaged, created;
    uint8_t *pixel;
    int64_t capacity;
    uint8_t *row; /* CMYK */
    int64_t row_capacity;
};

static void on_error(j_common_ptr common) {
    dt_jpeg *j = common->client_data;
    common->err->format_message(common, j->text);
    longjmp(j->escape, 1);
}

static void on_message(j_common_ptr common, int level) {
    dt_jpeg *j = common->client_data;
    if (level >= 0) return; /* a trace */
    j->warnings++;
    switch (common->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        j->damaged = true;
        break;
    default:
        break;
    }
}

static void on_output(j_common_ptr common) {
    (void)common;
}

static void on_progress(j_common_ptr common) {
    dt_jpeg *j = common->client_data;
    if (j->d.input_scan_number <= DT_JPEG_SCANS_MAX) return;
    snprintf(j->text, sizeof j->text, "more than %d scans", DT_JPEG_SCANS_MAX);
    longjmp(j->escape, 1);
}

dt_status dt_jpeg_new(dt_jpeg **out) {
    dt_jpeg *j = *out = calloc(1, sizeof *j);
    if (!j) return dt_fail(DT_ERR_MEMORY, "out of memory for a JPEG decoder");
    j->d.err = jpeg_std_error(&j->error);
    j->error.error_exit = on_error;
    j->error.emit_message = on_message;
    j->error.output_message = on_output;
    j->d.client_data = j;
    if (setjmp(j->escape)) {
        dt_status status = dt_fail(DT_ERR_MEMORY, "JPEG decoder: %s", j->text);
        dt_jpeg_free(j);
        *out = NULL;
        return status;
    }
    jpeg_create_decompress(&j->d);
    j->created = true;
    j->progress.progress_monitor = on_progress;
    j->d.progress = &j->progress;
    return DT_OK;
}

void dt_jpeg_free(dt_jpeg *j) {
    if (!j) return;
    if (j->created) jpeg_destroy_decompress(&j->d);
    free(j->pixel);
    free(j->row);
    free(j);
}

int64_t dt_jpeg_warnings(const dt_jpeg *j) {
    return j->warnings;
}

bool dt_jpeg_damaged(const dt_jpeg *j) {
    return j->damaged;
}

static dt_status unreadable(dt_jpeg *j) {
    jpeg_abort_decompress(&j->d);
    return dt_fail(DT_ERR_DATA, "not a readable JPEG: %s", j->text);
}

dt_status dt_jpeg_begin(dt_jpeg *j, const uint8_t *bytes, int64_t n, int32_t *height, int32_t *width) {
    j->damaged = false;
    if (setjmp(j->escape)) return unreadable(j);
    jpeg_abort_decompress(&j->d);
    /* jpeg_skip_scanlines looks at these also where this image has none, and finds the freed ones of the
     * last. */
    j->d.cconvert = NULL;
    j->d.cquantize = NULL;
    jpeg_mem_src(&j->d, bytes, (unsigned long)n);
    jpeg_read_header(&j->d, TRUE);
    if (j->d.data_precision != 8) { /* newer versions of the library go on */
        snprintf(j->text, sizeof j->text, "data precision %d", j->d.data_precision);
        return unreadable(j);
    }
    uint64_t pixels = (uint64_t)j->d.image_width * j->d.image_height;
    if (pixels > DT_IMAGE_PIXELS_MAX) {
        jpeg_abort_decompress(&j->d);
        return dt_fail(DT_ERR_DATA, "JPEG of %u x %u pixels: larger than allowed (%d megapixels)",
                       j->d.image_width, j->d.image_height, DT_IMAGE_PIXELS_MAX / 1000000);
    }
    *height = (int32_t)j->d.image_height;
    *width = (int32_t)j->d.image_width;
    return DT_OK;
}

/* Some writers put a few bytes of padding behind the end marker. */
static bool ends_well(const uint8_t *bytes, int64_t n) {
    for (int64_t i = n - 2; i >= 0 && i >= n - END_SEARCH_BYTES; i--)
        if (bytes[i] == 0xff && bytes[i + 1] == JPEG_EOI) return true;
    return false;
}

bool dt_jpeg_is_plain(const dt_jpeg *j, const uint8_t *bytes, int64_t n, int64_t channels) {
    const struct jpeg_decompress_struct *d = &j->d;
    if (d->progressive_mode || d->arith_code || d->data_precision != 8 ||
        d->comps_in_scan != d->num_components || !ends_well(bytes, n))
        return false;
    const jpeg_component_info *c = d->comp_info;
    /* Grey files in a colour set are few; not every decoder writes all three channels of them. */
    if (d->num_components == 1) return channels == 1 && c[0].h_samp_factor == 1 && c[0].v_samp_factor == 1;
    if (d->num_components != 3 || d->jpeg_color_space != JCS_YCbCr) return false;
    for (int i = 1; i < 3; i++)
        if (c[i].h_samp_factor != 1 || c[i].v_samp_factor != 1) return false;
    return c[0].h_samp_factor <= 2 && c[0].v_samp_factor <= c[0].h_samp_factor;
}

static bool grow(uint8_t **buffer, int64_t *capacity, int64_t n) {
    if (n <= *capacity) return true;
    free(*buffer);
    *buffer = malloc((size_t)n);
    *capacity = *buffer ? n : 0;
    return *buffer != NULL;
}

/* CMYK files hold inverted inks, as Adobe's programs began it: also those without the marker that says so. */
static void cmyk_to(const uint8_t *ink, int64_t n, int64_t channels, uint8_t *dst) {
    for (int64_t i = 0; i < n; i++, ink += 4, dst += channels) {
        unsigned rgb[3];
        for (int c = 0; c < 3; c++) rgb[c] = ((unsigned)ink[c] * ink[3] + 127) / 255;
        if (channels == 3)
            for (int c = 0; c < 3; c++) dst[c] = (uint8_t)rgb[c];
        else
            dst[0] = dt_grey(rgb[0], rgb[1], rgb[2]);
    }
}

int32_t dt_jpeg_scale(int32_t w, int32_t h, int64_t min_w, int64_t min_h) {
    int32_t scale = 8;
    while (scale > 1 && (int64_t)w * (scale / 2) >= min_w * 8 && (int64_t)h * (scale / 2) >= min_h * 8)
        scale /= 2;
    return scale;
}

static void set_format(dt_jpeg *j, int64_t channels, int32_t scale) {
    struct jpeg_decompress_struct *d = &j->d;
    bool cmyk = d->jpeg_color_space == JCS_CMYK || d->jpeg_color_space == JCS_YCCK;
    bool plain_rgb = d->jpeg_color_space == JCS_RGB;
    d->scale_num = (unsigned)scale;
    d->scale_denom = 8;
    d->dct_method = JDCT_ISLOW;
    d->do_fancy_upsampling = TRUE; /* chroma interpolated, the library's default */
    /* RGB stored without a luma channel cannot be turned to grey by the library's older versions. */
    d->out_color_space = cmyk ? JCS_CMYK : channels == 1 && !plain_rgb ? JCS_GRAYSCALE : JCS_RGB;
}

dt_status dt_jpeg_decode(dt_jpeg *j, int32_t x0, int32_t y0, int32_t w, int32_t h, int64_t min_w,
                         int64_t min_h, int64_t channels, dt_jpeg_part *out) {
    struct jpeg_decompress_struct *d = &j->d;
    if (setjmp(j->escape)) return unreadable(j);
    int32_t scale = dt_jpeg_scale(w, h, min_w, min_h);
    set_format(j, channels, scale);
    jpeg_start_decompress(d);
    /* The window's place in the scaled image, rounded outwards. */
    JDIMENSION left = (JDIMENSION)((int64_t)x0 * scale / 8), top = (JDIMENSION)((int64_t)y0 * scale / 8);
    JDIMENSION right = (JDIMENSION)(((int64_t)(x0 + w) * scale + 7) / 8);
    JDIMENSION bottom = (JDIMENSION)(((int64_t)(y0 + h) * scale + 7) / 8);
    if (right > d->output_width) right = d->output_width;
    if (bottom > d->output_height) bottom = d->output_height;
    /* Chroma is interpolated, but not across the edges of the blocks that are transformed: where the window
     * ends with one, the next is needed too. */
    left -= left > 0;
    right += right < d->output_width;
    JDIMENSION width = right - left;
    if (width < d->output_width) jpeg_crop_scanline(d, &left, &width);
    *out = (dt_jpeg_part){.stride = (int64_t)d->output_width * channels,
                          .x0 = (int32_t)left,
                          .y0 = (int32_t)top,
                          .w = (int32_t)d->output_width,
                          .h = (int32_t)(bottom - top),
                          .scale_num = scale};
    bool convert = d->out_color_components != channels;
    if (!grow(&j->pixel, &j->capacity, out->stride * out->h) ||
        (convert && !grow(&j->row, &j->row_capacity, (int64_t)d->output_width * d->out_color_components))) {
        jpeg_abort_decompress(d);
        return dt_fail(DT_ERR_MEMORY, "out of memory for a JPEG of %d x %d pixels", out->w, out->h);
    }
    if (top > 0) jpeg_skip_scanlines(d, top);
    while (d->output_scanline < bottom) {
        uint8_t *dst = j->pixel + (int64_t)(d->output_scanline - top) * out->stride;
        uint8_t *row[2] = {convert ? j->row : dst, dst + out->stride};
        JDIMENSION n = jpeg_read_scanlines(d, row, convert || d->output_scanline + 1 >= bottom ? 1 : 2);
        if (n == 0) break; /* a suspended source: memory never suspends */
        if (convert && d->out_color_space == JCS_CMYK)
            cmyk_to(j->row, out->w, channels, dst);
        else if (convert)
            dt_grey_row(j->row, out->w, dst);
    }
    out->pixel = j->pixel;
    jpeg_abort_decompress(d);
    return DT_OK;
}

typedef struct encoder {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr error;
    jmp_buf escape;
    char text[JMSG_LENGTH_MAX];
    unsigned char *bytes;
    unsigned long n_bytes;
} encoder;

static void on_encode_error(j_common_ptr common) {
    encoder *e = common->client_data;
    common->err->format_message(common, e->text);
    longjmp(e->escape, 1);
}

/* `e` belongs to the caller, since what setjmp's function holds itself is lost by the jump. */
static dt_status encode(encoder *e, const uint8_t *pixel, int64_t h, int64_t w, int64_t channels,
                        int quality) {
    e->c.err = jpeg_std_error(&e->error);
    e->error.error_exit = on_encode_error;
    e->error.output_message = on_output;
    e->c.client_data = e;
    if (setjmp(e->escape)) {
        if (e->bytes) e->c.dest->term_destination(&e->c); /* tells where the buffer is that it grew to */
        jpeg_destroy_compress(&e->c);
        return dt_fail(e->error.msg_code == JERR_OUT_OF_MEMORY ? DT_ERR_MEMORY : DT_ERR_DATA,
                       "cannot encode as JPEG: %s", e->text);
    }
    jpeg_create_compress(&e->c);
    jpeg_mem_dest(&e->c, &e->bytes, &e->n_bytes);
    e->c.image_width = (JDIMENSION)w;
    e->c.image_height = (JDIMENSION)h;
    e->c.input_components = (int)channels;
    e->c.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&e->c);
    jpeg_set_quality(&e->c, quality, TRUE);
    if (channels == 3 && quality >= 95) e->c.comp_info[0].h_samp_factor = e->c.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&e->c, TRUE);
    while (e->c.next_scanline < e->c.image_height) {
        /* libjpeg only reads the row; its types do not say so. */
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixel + (int64_t)e->c.next_scanline * w * channels);
        jpeg_write_scanlines(&e->c, &row, 1);
    }
    jpeg_finish_compress(&e->c);
    jpeg_destroy_compress(&e->c);
    return DT_OK;
}

dt_status dt_jpeg_encode(const uint8_t *pixel, int64_t h, int64_t w, int64_t channels, int quality,
                         uint8_t **out, int64_t *n_bytes) {
    encoder e = {.bytes = NULL};
    dt_status status = encode(&e, pixel, h, w, channels, quality);
    if (status != DT_OK) {
        free(e.bytes);
        return status;
    }
    *out = e.bytes;
    *n_bytes = (int64_t)e.n_bytes;
    return DT_OK;
}
