/* Most operations are a table of 256 levels for each channel; those that look at a whole pixel go in stretches, a
 * vector of each channel at a time; those that look at other pixels read a copy. */
#include "edit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/simd.h"

enum { LEVELS = 256, STRETCH = 256 /* pixels */ };

struct dt_editor {
    uint8_t *copy;
    int64_t capacity;
};

typedef struct picture {
    uint8_t *pixel;
    int64_t h, w, channels;
} picture;

dt_status dt_editor_new(dt_editor **out) {
    *out = calloc(1, sizeof **out);
    return *out ? DT_OK : dt_fail(DT_ERR_MEMORY, "out of memory for editing images");
}

void dt_editor_free(dt_editor *e) {
    if (e) free(e->copy);
    free(e);
}

/* The picture as it is now; NULL: no memory. */
static const uint8_t *copy_of(dt_editor *e, const picture *p) {
    const int64_t n = p->h * p->w * p->channels;
    if (n > e->capacity) {
        free(e->copy);
        e->copy = malloc((size_t)n);
        e->capacity = e->copy ? n : 0;
    }
    if (e->copy) memcpy(e->copy, p->pixel, (size_t)n);
    return e->copy;
}

/* ---- tables ---- */

static void apply_table(const picture *p, const uint8_t *table, int64_t channel, int64_t step) {
    const int64_t n = p->h * p->w * p->channels;
    for (int64_t i = channel; i < n; i += step) p->pixel[i] = table[p->pixel[i]];
}

DT_CPU_SIMD static int64_t sum_of_levels(const uint8_t *pixel, int64_t n) {
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += pixel[i];
    return sum;
}

/* Of the pixels' greys, whole levels. */
DT_CPU_SIMD static int64_t sum_of_greys(const uint8_t *pixel, int64_t n) {
    int64_t sum = 0;
    for (int64_t begin = 0; begin < n; begin += STRETCH) {
        const int64_t end = dt_min_i64(begin + STRETCH, n);
        int32_t part = 0;
        for (int64_t i = begin; i < end; i++)
            part +=
                (int32_t)dt_edit_grey((float)pixel[3 * i], (float)pixel[3 * i + 1], (float)pixel[3 * i + 2]);
        sum += part;
    }
    return sum;
}

static float mean_grey(const picture *p) {
    const int64_t n = p->h * p->w;
    const int64_t sum = p->channels == 3 ? sum_of_greys(p->pixel, n) : sum_of_levels(p->pixel, n);
    return (float)((double)sum / (double)n);
}

static void blend_with(const picture *p, float other, float ratio) {
    uint8_t table[LEVELS];
    for (int i = 0; i < LEVELS; i++)
        table[i] = dt_edit_level(dt_edit_blend((float)i, other, ratio, 1.0f - ratio));
    apply_table(p, table, 0, 1);
}

static void brightness(const picture *p, float value) {
    uint8_t table[LEVELS];
    for (int i = 0; i < LEVELS; i++) table[i] = dt_edit_level((float)i * value);
    apply_table(p, table, 0, 1);
}

static void contrast(const picture *p, float value) {
    blend_with(p, mean_grey(p), value);
}

static void posterize(const picture *p, float value) {
    uint8_t table[LEVELS];
    const int bits = (int)value;
    const int mask = bits >= 8 ? 255 : ((1 << bits) - 1) << (8 - bits);
    for (int i = 0; i < LEVELS; i++) table[i] = (uint8_t)(i & mask);
    apply_table(p, table, 0, 1);
}

static void solarize(const picture *p, float value) {
    uint8_t table[LEVELS];
    for (int i = 0; i < LEVELS; i++) table[i] = (uint8_t)((float)i >= value ? 255 - i : i);
    apply_table(p, table, 0, 1);
}

static void count_levels(const picture *p, int64_t channel, int64_t count[LEVELS]) {
    const int64_t n = p->h * p->w * p->channels;
    memset(count, 0, LEVELS * sizeof *count);
    for (int64_t i = channel; i < n; i += p->channels) count[p->pixel[i]]++;
}

static void autocontrast(const picture *p, float value) {
    (void)value;
    for (int64_t c = 0; c < p->channels; c++) {
        int64_t count[LEVELS];
        int low = 0, high = LEVELS - 1;
        uint8_t table[LEVELS];
        count_levels(p, c, count);
        while (count[low] == 0) low++;
        while (count[high] == 0) high--;
        if (low == high) continue;
        const float scale = (float)(high - low) * (1.0f / 255.0f);
        for (int i = 0; i < LEVELS; i++) table[i] = dt_edit_level((float)(i - low) / scale);
        apply_table(p, table, c, p->channels);
    }
}

static void equalize(const picture *p, float value) {
    (void)value;
    for (int64_t c = 0; c < p->channels; c++) {
        int64_t count[LEVELS], below = 0;
        int high = LEVELS - 1;
        uint8_t table[LEVELS];
        count_levels(p, c, count);
        while (count[high] == 0) high--;
        const int64_t step = (p->h * p->w - count[high]) / 255;
        if (step == 0) continue;
        for (int i = 0; i < LEVELS; below += count[i], i++)
            table[i] = (uint8_t)dt_min_i64((below + step / 2) / step, 255);
        apply_table(p, table, c, p->channels);
    }
}

/* ---- pixels ---- */

DT_CPU_SIMD static void grey_pixels(uint8_t *pixel, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const uint8_t grey =
            (uint8_t)dt_edit_grey((float)pixel[3 * i], (float)pixel[3 * i + 1], (float)pixel[3 * i + 2]);
        pixel[3 * i] = pixel[3 * i + 1] = pixel[3 * i + 2] = grey;
    }
}

DT_CPU_SIMD static void saturate_pixels(uint8_t *pixel, int64_t n, float ratio) {
    const float rest = 1.0f - ratio;
    for (int64_t i = 0; i < n; i++) {
        const float r = (float)pixel[3 * i], g = (float)pixel[3 * i + 1], b = (float)pixel[3 * i + 2];
        const float grey = (float)(int32_t)dt_edit_grey(r, g, b);
        pixel[3 * i] = dt_edit_level(dt_edit_blend(r, grey, ratio, rest));
        pixel[3 * i + 1] = dt_edit_level(dt_edit_blend(g, grey, ratio, rest));
        pixel[3 * i + 2] = dt_edit_level(dt_edit_blend(b, grey, ratio, rest));
    }
}

/* A vector of each channel at a time. */
DT_CPU_SIMD static void turn_stretch(const float *restrict red, const float *restrict green,
                                     const float *restrict blue, float *restrict red_out,
                                     float *restrict green_out, float *restrict blue_out, float turn) {
    for (int i = 0; i < STRETCH; i++) {
        const float r = red[i], g = green[i], b = blue[i];
        dt_edit_turn(r, g, b, turn, &red_out[i], &green_out[i], &blue_out[i]);
    }
}

static void turn_hue(uint8_t *pixel, int64_t n, float turn) {
    float channel[3][STRETCH] = {{0}}, turned[3][STRETCH];
    for (int64_t begin = 0; begin < n; begin += STRETCH) {
        const int64_t len = dt_min_i64(STRETCH, n - begin);
        uint8_t *at = pixel + 3 * begin;
        for (int64_t i = 0; i < len; i++)
            for (int c = 0; c < 3; c++) channel[c][i] = (float)at[3 * i + c] / 255.0f;
        turn_stretch(channel[0], channel[1], channel[2], turned[0], turned[1], turned[2], turn);
        for (int64_t i = 0; i < len; i++)
            for (int c = 0; c < 3; c++) at[3 * i + c] = dt_edit_level_of_unit(turned[c][i]);
    }
}

static void saturation(const picture *p, float value) {
    if (p->channels == 3) saturate_pixels(p->pixel, p->h * p->w, value);
}

static void hue(const picture *p, float value) {
    if (p->channels == 3) turn_hue(p->pixel, p->h * p->w, value);
}

static void grayscale(const picture *p, float value) {
    (void)value;
    if (p->channels == 3) grey_pixels(p->pixel, p->h * p->w);
}

/* ---- other pixels ---- */

/* A row of n bytes between its neighbours above and below, `channels` a pixel, and those left and right. */
DT_CPU_SIMD static void sharpen_row(const uint8_t *above, const uint8_t *row, const uint8_t *below,
                                    int64_t channels, int64_t n, float rest, uint8_t *out) {
    for (int64_t i = channels; i < n - channels; i++) {
        const int64_t l = i - channels, r = i + channels;
        const int32_t sum =
            above[l] + above[i] + above[r] + row[l] + 5 * row[i] + row[r] + below[l] + below[i] + below[r];
        const float x = (float)row[i], blurred = (float)((2 * sum + 13) / 26);
        out[i] = dt_edit_level(dt_edit_plus_times(x, blurred - x, rest));
    }
}

static void sharpness(const picture *p, const uint8_t *from, float value, uint8_t fill) {
    (void)fill;
    const int64_t row = p->w * p->channels;
    if (p->w < 3) return;
    for (int64_t y = 1; y < p->h - 1; y++)
        sharpen_row(from + (y - 1) * row, from + y * row, from + (y + 1) * row, p->channels, row,
                    1.0f - value, p->pixel + y * row);
}

/* Where pixels come from: (x, y) of the centre-based grid is m applied to the output's, the nearest pixel. */
static void move(const picture *p, const uint8_t *from, const float m[6], uint8_t fill) {
    const float half_w = 0.5f * (float)p->w, half_h = 0.5f * (float)p->h;
    const float top = (1.0f - (float)p->h) * 0.5f, left = (1.0f - (float)p->w) * 0.5f;
    const float a = m[0] / half_w, b = m[1] / half_w, x0 = m[2] / half_w, d = m[3] / half_h,
                e = m[4] / half_h, y0 = m[5] / half_h;
    uint8_t *out = p->pixel;
    for (int64_t row = 0; row < p->h; row++) {
        const float y = top + (float)row;
        for (int64_t col = 0; col < p->w; col++, out += p->channels) {
            const float x = left + (float)col;
            const float sx = ((a * x + b * y + x0 + 1.0f) * (float)p->w - 1.0f) * 0.5f;
            const float sy = ((d * x + e * y + y0 + 1.0f) * (float)p->h - 1.0f) * 0.5f;
            const float nx = rintf(sx), ny = rintf(sy);
            const bool inside = nx >= 0 && ny >= 0 && nx < (float)p->w && ny < (float)p->h;
            const uint8_t *at = inside ? from + ((int64_t)ny * p->w + (int64_t)nx) * p->channels : NULL;
            for (int64_t k = 0; k < p->channels; k++) out[k] = at ? at[k] : fill;
        }
    }
}

static void shear_x(const picture *p, const uint8_t *from, float value, uint8_t fill) {
    move(p, from, (const float[]){1, value, value * 0.5f * (float)p->h, 0, 1, 0}, fill);
}

static void shear_y(const picture *p, const uint8_t *from, float value, uint8_t fill) {
    move(p, from, (const float[]){1, 0, 0, value, 1, value * 0.5f * (float)p->w}, fill);
}

static void shift_x(const picture *p, const uint8_t *from, float value, uint8_t fill) {
    move(p, from, (const float[]){1, 0, -value, 0, 1, 0}, fill);
}

static void shift_y(const picture *p, const uint8_t *from, float value, uint8_t fill) {
    move(p, from, (const float[]){1, 0, 0, 0, 1, -value}, fill);
}

static void rotate(const picture *p, const uint8_t *from, float value, uint8_t fill) {
    const double angle = (double)value * (M_PI / 180);
    const float c = (float)cos(angle), s = (float)sin(angle);
    move(p, from, (const float[]){c, -s, 0, s, c, 0}, fill);
}

static const struct {
    void (*in_place)(const picture *p, float value);
    void (*from_copy)(const picture *p, const uint8_t *from, float value, uint8_t fill);
} edit_table[DT_EDIT_COUNT] = {
    [DT_EDIT_BRIGHTNESS] = {.in_place = brightness},
    [DT_EDIT_CONTRAST] = {.in_place = contrast},
    [DT_EDIT_SATURATION] = {.in_place = saturation},
    [DT_EDIT_HUE] = {.in_place = hue},
    [DT_EDIT_GRAYSCALE] = {.in_place = grayscale},
    [DT_EDIT_SHARPNESS] = {.from_copy = sharpness},
    [DT_EDIT_POSTERIZE] = {.in_place = posterize},
    [DT_EDIT_SOLARIZE] = {.in_place = solarize},
    [DT_EDIT_AUTOCONTRAST] = {.in_place = autocontrast},
    [DT_EDIT_EQUALIZE] = {.in_place = equalize},
    [DT_EDIT_SHEAR_X] = {.from_copy = shear_x},
    [DT_EDIT_SHEAR_Y] = {.from_copy = shear_y},
    [DT_EDIT_SHIFT_X] = {.from_copy = shift_x},
    [DT_EDIT_SHIFT_Y] = {.from_copy = shift_y},
    [DT_EDIT_ROTATE] = {.from_copy = rotate},
};

dt_status dt_edit_image(dt_editor *e, const dt_edit *edit, int32_t n, uint8_t fill, uint8_t *image, int64_t h,
                        int64_t w, int64_t channels) {
    const picture p = {image, h, w, channels};
    for (int32_t i = 0; i < n; i++) {
        if (edit_table[edit[i].kind].in_place) {
            edit_table[edit[i].kind].in_place(&p, edit[i].value);
            continue;
        }
        const uint8_t *from = copy_of(e, &p);
        if (!from) return dt_fail(DT_ERR_MEMORY, "out of memory for editing images");
        edit_table[edit[i].kind].from_copy(&p, from, edit[i].value, fill);
    }
    return DT_OK;
}
