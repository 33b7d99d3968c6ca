/* Generated images with the look of photographs to a JPEG encoder: value noise in octaves, each class with a
 * tint of its own. For benchmarks, where real photographs may not be at hand. */
#include "source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "shard.h"

enum { CHANNELS = 3, OCTAVES = 7, FIRST_CELL = 128 };

/* Contrast by octave (cells of 128, 64, ... 2 pixels): falls like that of photographs, and puts a 500 x 375
 * image at quality 90 near 90 kB. */
static const float amplitude[OCTAVES] = {80, 48, 34, 30, 28, 30, 70};

typedef struct synthetic_state {
    int64_t n_classes, height, width;
} synthetic_state;

/* Uniform in -0.5..0.5 at a lattice point. */
static float lattice(uint64_t sample, uint64_t octave, int64_t x, int64_t y) {
    uint64_t h = sample * 0x9E3779B97F4A7C15u ^ octave << 56 ^ (uint64_t)y << 28 ^ (uint64_t)x;
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
    return (float)(h >> 40) * (1.0f / 16777216.0f) - 0.5f;
}

static float smooth(float t) {
    return t * t * (3 - 2 * t);
}

static void add_octave(float *plane, int64_t h, int64_t w, uint64_t sample, uint64_t octave, float contrast) {
    int64_t cell = FIRST_CELL >> (octave % OCTAVES);
    for (int64_t y = 0; y < h; y++) {
        int64_t cy = y / cell;
        float fy = smooth((float)(y % cell) / (float)cell);
        for (int64_t cx = 0; cx * cell < w; cx++) {
            float a = lattice(sample, octave, cx, cy), b = lattice(sample, octave, cx + 1, cy);
            float c = lattice(sample, octave, cx, cy + 1), d = lattice(sample, octave, cx + 1, cy + 1);
            float left = (a + (c - a) * fy) * contrast, right = (b + (d - b) * fy) * contrast;
            int64_t end = dt_min_i64((cx + 1) * cell, w);
            for (int64_t x = cx * cell; x < end; x++)
                plane[y * w + x] += left + (right - left) * smooth((float)(x % cell) / (float)cell);
        }
    }
}

static dt_status load_synthetic(const void *state, dt_jpeg *decoder, int64_t i, dt_item *out) {
    (void)decoder;
    const synthetic_state *s = state;
    int64_t n = s->height * s->width;
    uint64_t sample = (uint64_t)i;
    dt_u32x4 word = dt_philox(2, 0, sample);
    int32_t label = (int32_t)(word.v[0] % (uint64_t)s->n_classes);
    float *plane = malloc((size_t)(CHANNELS * n) * sizeof *plane); /* luma, then two colour differences */
    uint8_t *pixel = malloc((size_t)(CHANNELS * n));
    if (!plane || !pixel) {
        free(plane);
        free(pixel);
        return dt_fail(DT_ERR_MEMORY, "import synthetic: out of memory");
    }
    double hue = 2 * 3.14159265358979 * label / (double)s->n_classes;
    float base[CHANNELS] = {96 + 64 * dt_u01(word.v[1]), 24 * (float)cos(hue), 24 * (float)sin(hue)};
    for (int64_t k = 0; k < CHANNELS * n; k++) plane[k] = base[k / n];
    for (uint64_t octave = 0; octave < OCTAVES; octave++)
        add_octave(plane, s->height, s->width, sample, octave, amplitude[octave]);
    for (uint64_t c = 1; c < CHANNELS; c++) /* colours vary less, and at larger scales */
        for (uint64_t octave = 0; octave < OCTAVES - 2; octave++)
            add_octave(plane + c * (uint64_t)n, s->height, s->width, sample, octave + c * OCTAVES,
                       0.3f * amplitude[octave]);
    for (int64_t k = 0; k < n; k++) {
        float y = plane[k], u = plane[n + k], v = plane[2 * n + k];
        const float rgb[CHANNELS] = {y + v, y - 0.5f * (u + v), y + u};
        for (int c = 0; c < CHANNELS; c++)
            pixel[CHANNELS * k + c] = (uint8_t)fminf(fmaxf(rgb[c] + 0.5f, 0), 255);
    }
    free(plane);
    *out = (dt_item){.pixel = pixel,
                     .owned = pixel,
                     .height = (int32_t)s->height,
                     .width = (int32_t)s->width,
                     .label = label};
    return DT_OK;
}

dt_status dt_source_synthetic(const dt_import_options *o, dt_source *out) {
    int64_t h = o->synthetic.height, w = o->synthetic.width;
    if (o->synthetic.n_samples < 1 || o->synthetic.n_classes < 1 || o->synthetic.n_classes > 1 << 20 ||
        h < 1 || w < 1 || h > 8192 || w > 8192)
        return dt_fail(DT_ERR_USAGE, "import synthetic: samples, classes, height or width out of range");
    synthetic_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "import synthetic: out of memory");
    *s = (synthetic_state){o->synthetic.n_classes, h, w};
    *out = (dt_source){.state = s,
                       .load = load_synthetic,
                       .close = free,
                       .n_samples = o->synthetic.n_samples,
                       .n_classes = o->synthetic.n_classes,
                       .all_classes = true,
                       .height = h,
                       .width = w,
                       .channels = CHANNELS,
                       .sample_bytes = o->store == DT_STORE_RAW ? h * w * CHANNELS : h * w / 2};
    return DT_OK;
}
