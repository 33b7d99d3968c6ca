/* PNG of every kind against the levels that Pillow gives (convert("RGB") and convert("L")) and OpenCV, which
 * are written down here; only 16-bit grey, which Pillow clips instead of scaling, is as in OpenCV. */
#include "data_support.h"

#include <png.h>

#include "png_image.h"

enum { FILE_BYTES_MAX = 1 << 16 };

typedef struct memory {
    uint8_t bytes[FILE_BYTES_MAX];
    size_t n;
} memory;

static void append(png_structp png, png_bytep bytes, size_t n) {
    memory *m = png_get_io_ptr(png);
    assert_true(m->n + n <= FILE_BYTES_MAX);
    memcpy(m->bytes + m->n, bytes, n);
    m->n += n;
}

static void flush(png_structp png) {
    (void)png;
}

typedef enum extra { PLAIN = 0, GAMMA, SRGB, PROFILE, TRANSPARENT, BACKGROUND } extra;

typedef struct png_kind {
    const char *name;
    int32_t width, depth, type;
    extra extra;
    const char *row;           /* as stored */
    const uint8_t *rgb, *grey; /* [width * 3], [width]; rgb NULL: grey three times */
} png_kind;

/* Red, green and a blue; the transparent colour or entries among them. */
static const png_color palette[] = {{255, 0, 0}, {0, 255, 0}, {10, 20, 200}, {1, 2, 3}};

static void write_extra(png_structp png, png_infop info, const png_kind *k) {
    static const png_byte alpha[] = {0, 128};
    static const png_byte profile[132] = {0, 0, 0, 132, [36] = 'a', 'c', 's', 'p'};
    png_color_16 colour = {.red = 255, .gray = 64};
    switch (k->extra) {
    case PLAIN:
        break;
    case GAMMA:
        png_set_gAMA_fixed(png, info, 100000);
        png_set_cHRM_fixed(png, info, 31270, 32900, 70000, 30000, 20000, 70000, 15000, 6000);
        break;
    case SRGB:
        png_set_sRGB(png, info, PNG_sRGB_INTENT_PERCEPTUAL);
        break;
    case PROFILE: { /* of no sense to libpng, which would warn */
        png_unknown_chunk chunk = {.name = "iCCP",
                                   .data = (png_bytep)(uintptr_t)profile,
                                   .size = sizeof profile,
                                   .location = PNG_HAVE_IHDR};
        png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_ALWAYS, (png_const_bytep) "iCCP", 1);
        png_set_unknown_chunks(png, info, &chunk, 1);
        break;
    }
    case TRANSPARENT:
        png_set_tRNS(png, info, alpha, k->type == PNG_COLOR_TYPE_PALETTE ? 2 : 0, &colour);
        break;
    case BACKGROUND:
        png_set_bKGD(png, info, &colour);
        break;
    }
}

/* `height` rows one after the other. */
static void write_png(memory *m, const png_kind *k, const uint8_t *rows, int32_t height, int interlace) {
    m->n = 0;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, m, append, flush);
    png_set_IHDR(png, info, (png_uint_32)k->width, (png_uint_32)height, k->depth, k->type, interlace,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (k->type == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, k->depth == 1 ? 2 : (int)(sizeof palette / sizeof palette[0]));
    write_extra(png, info, k);
    png_write_info(png, info);
    size_t row_bytes = png_get_rowbytes(png, info);
    for (int passes = png_set_interlace_handling(png); passes > 0; passes--)
        for (int32_t y = 0; y < height; y++) png_write_row(png, rows + (size_t)y * row_bytes);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
}

static const uint8_t ramp[] = {0, 16, 64, 128, 192, 255};
static const uint8_t levels_1[] = {255, 0, 255, 255, 0, 0}, levels_2[] = {0, 85, 170, 255},
                     levels_4[] = {0, 17, 119, 255};
static const uint8_t colours[] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 200, 30, 100, 100, 101, 255, 255, 254},
                     colours_grey[] = {76, 150, 29, 124, 100, 255};
static const uint8_t deep[] = {0,   18, 255, 16,  18, 255, 64,  18, 255,
                               128, 18, 255, 192, 18, 255, 255, 18, 255},
                     deep_grey[] = {40, 44, 59, 78, 97, 116};
static const uint8_t entries[] = {255, 0, 0, 0, 255, 0, 10, 20, 200, 1, 2, 3},
                     entries_grey[] = {76, 150, 38, 2};
static const uint8_t veiled[] = {10, 100, 200}, veiled_rgb[] = {255, 0, 0, 0, 255, 0, 0, 0, 255},
                     veiled_grey[] = {76, 150, 29};

#define RAMP_8 "\0\x10\x40\x80\xC0\xFF"
#define RAMP_16                                                                                              \
    "\0\0\x10\xFF\x40\x80\x80\0\xC0\x7F\xFF\xFF" /* upper bytes as in RAMP_8, lower ones all over */
#define COLOURS_8 "\xFF\0\0\0\xFF\0\0\0\xFF\x0A\xC8\x1E\x64\x64\x65\xFF\xFF\xFE"
#define DEEP(v)   v "\x12\x34\xFF\x7F"

static const png_kind kinds[] = {
    {"grey, 8 bits", 6, 8, PNG_COLOR_TYPE_GRAY, PLAIN, RAMP_8, NULL, ramp},
    {"grey, gamma 1", 6, 8, PNG_COLOR_TYPE_GRAY, GAMMA, RAMP_8, NULL, ramp},
    {"grey, one transparent", 6, 8, PNG_COLOR_TYPE_GRAY, TRANSPARENT, RAMP_8, NULL, ramp},
    {"grey, 16 bits", 6, 16, PNG_COLOR_TYPE_GRAY, PLAIN, RAMP_16, NULL, ramp},
    {"grey, 16 bits, gamma 1", 6, 16, PNG_COLOR_TYPE_GRAY, GAMMA, RAMP_16, NULL, ramp},
    {"grey, 16 bits, sRGB", 6, 16, PNG_COLOR_TYPE_GRAY, SRGB, RAMP_16, NULL, ramp},
    {"grey, 1 bit", 6, 1, PNG_COLOR_TYPE_GRAY, PLAIN, "\xB0", NULL, levels_1},
    {"grey, 2 bits", 4, 2, PNG_COLOR_TYPE_GRAY, PLAIN, "\x1B", NULL, levels_2},
    {"grey, 4 bits", 4, 4, PNG_COLOR_TYPE_GRAY, PLAIN, "\x01\x7F", NULL, levels_4},
    {"grey and alpha", 3, 8, PNG_COLOR_TYPE_GRAY_ALPHA, PLAIN, "\x0A\0\x64\x80\xC8\xFF", NULL, veiled},
    {"grey and alpha, 16 bits", 3, 16, PNG_COLOR_TYPE_GRAY_ALPHA, PLAIN,
     "\x0A\xFF\0\0\x64\x80\x80\0\xC8\x01\xFF\xFF", NULL, veiled},
    {"colour", 6, 8, PNG_COLOR_TYPE_RGB, PLAIN, COLOURS_8, colours, colours_grey},
    {"colour, gamma 1 and primaries", 6, 8, PNG_COLOR_TYPE_RGB, GAMMA, COLOURS_8, colours, colours_grey},
    {"colour, sRGB", 6, 8, PNG_COLOR_TYPE_RGB, SRGB, COLOURS_8, colours, colours_grey},
    {"colour, a profile", 6, 8, PNG_COLOR_TYPE_RGB, PROFILE, COLOURS_8, colours, colours_grey},
    {"colour, red transparent", 6, 8, PNG_COLOR_TYPE_RGB, TRANSPARENT, COLOURS_8, colours, colours_grey},
    {"colour, 16 bits", 6, 16, PNG_COLOR_TYPE_RGB, PLAIN,
     DEEP("\0\0") DEEP("\x10\xFF") DEEP("\x40\x80") DEEP("\x80\0") DEEP("\xC0\x7F") DEEP("\xFF\xFF"), deep,
     deep_grey},
    {"colour and alpha", 3, 8, PNG_COLOR_TYPE_RGB_ALPHA, PLAIN, "\xFF\0\0\0\0\xFF\0\x80\0\0\xFF\xFF",
     veiled_rgb, veiled_grey},
    {"colour and alpha, a background", 3, 8, PNG_COLOR_TYPE_RGB_ALPHA, BACKGROUND,
     "\xFF\0\0\0\0\xFF\0\x80\0\0\xFF\xFF", veiled_rgb, veiled_grey},
    {"palette", 4, 8, PNG_COLOR_TYPE_PALETTE, PLAIN, "\0\1\2\3", entries, entries_grey},
    {"palette, some transparent", 4, 8, PNG_COLOR_TYPE_PALETTE, TRANSPARENT, "\0\1\2\3", entries,
     entries_grey},
    {"palette, 2 bits", 4, 2, PNG_COLOR_TYPE_PALETTE, PLAIN, "\x1B", entries, entries_grey},
    {"palette, 1 bit", 2, 1, PNG_COLOR_TYPE_PALETTE, PLAIN, "\x40", entries, entries_grey},
};

static void test_levels(void **state) {
    (void)state;
    static memory m;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const png_kind *k = &kinds[i];
        write_png(&m, k, (const uint8_t *)k->row, 1, PNG_INTERLACE_NONE);
        for (int64_t channels = 1; channels <= 3; channels += 2) {
            dt_png png;
            assert_ok(dt_png_decode(m.bytes, (int64_t)m.n, channels, &png));
            assert_true(png.height == 1 && png.width == k->width && png.orientation == 1);
            for (int64_t x = 0; x < k->width * channels; x++) {
                int want = channels == 3 && k->rgb ? k->rgb[x] : k->grey[x / channels];
                if (png.pixel[x] != want)
                    fail_msg("%s, %d channels: %d at %d, not %d", k->name, (int)channels, png.pixel[x],
                             (int)x, want);
            }
            free(png.pixel);
        }
    }
}

/* Interlaced files hold the same pixels, at every size of the passes. */
static void test_interlaced(void **state) {
    (void)state;
    enum { SIDE_MAX = 11 };
    static memory m;
    uint8_t pixel[SIDE_MAX * SIDE_MAX * 6];
    srand48(5);
    for (size_t i = 0; i < sizeof pixel; i++) pixel[i] = (uint8_t)(lrand48() >> 7);
    for (int32_t side = 1; side <= SIDE_MAX; side++)
        for (int depth = 8; depth <= 16; depth += 8) {
            const png_kind kind = {.width = side, .depth = depth, .type = PNG_COLOR_TYPE_RGB};
            dt_png png;
            write_png(&m, &kind, pixel, side, PNG_INTERLACE_ADAM7);
            assert_ok(dt_png_decode(m.bytes, (int64_t)m.n, 3, &png));
            assert_true(png.height == side && png.width == side);
            for (int32_t k = 0; k < side * side * 3; k++)
                assert_int_equal(png.pixel[k], pixel[k * depth / 8]);
            free(png.pixel);
        }
}

/* Every cut and every size claimed ends with an error that says so. */
static void test_damaged(void **state) {
    (void)state;
    static memory m;
    dt_png png;
    const png_kind *k = &kinds[0];
    write_png(&m, k, (const uint8_t *)k->row, 1, PNG_INTERLACE_NONE);
    for (size_t n = 8; n < m.n; n++)
        assert_fails(dt_png_decode(m.bytes, (int64_t)n, 3, &png), DT_ERR_DATA, "not a readable PNG");
    const png_kind wide = {.width = 100000, .depth = 1, .type = PNG_COLOR_TYPE_GRAY};
    uint8_t *rows = calloc(1000, 12500);
    assert_non_null(rows);
    write_png(&m, &wide, rows, 1000, PNG_INTERLACE_NONE);
    free(rows);
    assert_fails(dt_png_decode(m.bytes, (int64_t)m.n, 1, &png), DT_ERR_DATA,
                 "PNG of 100000 x 1000 pixels: larger than allowed");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels), cmocka_unit_test(test_interlaced),
                                       cmocka_unit_test(test_damaged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
