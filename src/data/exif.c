/* JPEG markers down to EXIF's segment, and in it TIFF's first directory down to the one tag. */
#include "exif.h"

#include <string.h>

enum {
    UPRIGHT = 1,
    ORIENTATION_TAG = 0x0112,
    ORIENTATION_MAX = 8,
    TYPE_SHORT = 3,
    TYPE_LONG = 4,
    ENTRY_BYTES = 12,
    MARKER_SOI = 0xD8,
    MARKER_EOI = 0xD9,
    MARKER_SOS = 0xDA,
    MARKER_APP1 = 0xE1,
};

/* An unsigned number of 2 or 4 bytes at `at`, which is inside. */
static uint32_t number(const uint8_t *at, int bytes, bool little) {
    uint32_t x = 0;
    for (int i = 0; i < bytes; i++) x = x << 8 | at[little ? bytes - 1 - i : i];
    return x;
}

dt_orientation dt_exif_orientation(const uint8_t *tiff, int64_t n) {
    if (n < 10) return UPRIGHT;
    bool little = memcmp(tiff, "II*\0", 4) == 0;
    if (!little && memcmp(tiff, "MM\0*", 4) != 0) return UPRIGHT;
    int64_t at = number(tiff + 4, 4, little);
    if (at > n - 2) return UPRIGHT;
    int64_t n_entries = number(tiff + at, 2, little);
    at += 2;
    for (int64_t i = 0; i < n_entries && at + ENTRY_BYTES <= n; i++, at += ENTRY_BYTES) {
        const uint8_t *entry = tiff + at;
        if (number(entry, 2, little) != ORIENTATION_TAG) continue;
        uint32_t type = number(entry + 2, 2, little), count = number(entry + 4, 4, little);
        if (count != 1 || (type != TYPE_SHORT && type != TYPE_LONG)) return UPRIGHT;
        uint32_t value = number(entry + 8, type == TYPE_SHORT ? 2 : 4, little);
        return value >= UPRIGHT && value <= ORIENTATION_MAX ? (dt_orientation)value : UPRIGHT;
    }
    return UPRIGHT;
}

dt_orientation dt_exif_jpeg_orientation(const uint8_t *file, int64_t n) {
    static const char name[6] = "Exif\0";
    int64_t at = 2; /* past the start marker */
    while (at + 4 <= n && file[at] == 0xFF) {
        uint8_t marker = file[at + 1];
        if (marker == 0xFF) { /* padding */
            at++;
            continue;
        }
        if (marker == MARKER_SOI || marker == MARKER_EOI || marker == MARKER_SOS) break;
        int64_t size = number(file + at + 2, 2, false), end = at + 2 + size;
        if (size < 2 || end > n) break;
        if (marker == MARKER_APP1 && size >= 2 + (int64_t)sizeof name &&
            memcmp(file + at + 4, name, sizeof name) == 0)
            return dt_exif_orientation(file + at + 4 + sizeof name, end - at - 4 - (int64_t)sizeof name);
        at = end;
    }
    return UPRIGHT;
}

dt_turn dt_turn_of(dt_orientation orientation) {
    static const dt_turn turn[ORIENTATION_MAX + 1] = {
        [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
        [5] = {true, false, false}, [6] = {true, false, true}, [7] = {true, true, true},
        [8] = {true, true, false}};
    return turn[orientation];
}

void dt_turn_apply(dt_turn turn, const uint8_t *src, int64_t h, int64_t w, int64_t channels, uint8_t *dst) {
    int64_t out_h = turn.transpose ? w : h, out_w = turn.transpose ? h : w;
    for (int64_t y = 0; y < out_h; y++)
        for (int64_t x = 0; x < out_w; x++, dst += channels) {
            int64_t sy = turn.transpose ? x : y, sx = turn.transpose ? y : x;
            if (turn.mirror_y) sy = h - 1 - sy;
            if (turn.mirror_x) sx = w - 1 - sx;
            memcpy(dst, src + (sy * w + sx) * channels, (size_t)channels);
        }
}
