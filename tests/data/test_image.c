/* Pixels: resizing against its definition and across instruction sets, JPEG windows against whole decodes,
 * PNG, and images that lie or are damaged. */
#include "data_support.h"

#include <inttypes.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <jpeglib.h>
#include <png.h>

#include "fetch.h"
#include "filter.h"
#include "jpeg.h"
#include "png_image.h"

static uint8_t *noise(int64_t n) {
    uint8_t *out = malloc((size_t)n);
    for (int64_t i = 0; i < n; i++) out[i] = (uint8_t)(lrand48() >> 7);
    return out;
}

/* Smooth enough that JPEG changes it little. */
static uint8_t *gradient(int64_t h, int64_t w, int64_t channels) {
    uint8_t *out = malloc((size_t)(h * w * channels));
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            for (int64_t c = 0; c < channels; c++)
                out[(y * w + x) * channels + c] =
                    (uint8_t)(128 + 60 * sin(0.11 * (double)x + (double)c) + 60 * cos(0.07 * (double)y));
    return out;
}

/* Bilinear by its definition, in double. */
static double bilinear(const uint8_t *src, int64_t stride, int64_t channels, const dt_window *w,
                       int64_t out_h, int64_t out_w, int64_t oy, int64_t ox, int64_t c) {
    if (w->flip) ox = out_w - 1 - ox;
    double x = fmin(fmax(((double)ox + 0.5) * w->w / (double)out_w - 0.5, 0), w->w - 1);
    double y = fmin(fmax(((double)oy + 0.5) * w->h / (double)out_h - 0.5, 0), w->h - 1);
    int64_t x0 = (int64_t)x, y0 = (int64_t)y, x1 = dt_min_i64(x0 + 1, w->w - 1),
            y1 = dt_min_i64(y0 + 1, w->h - 1);
    double fx = x - (double)x0, fy = y - (double)y0;
    const uint8_t *at = src + w->y0 * stride + w->x0 * channels + c;
    double top = at[y0 * stride + x0 * channels] * (1 - fx) + at[y0 * stride + x1 * channels] * fx;
    double bottom = at[y1 * stride + x0 * channels] * (1 - fx) + at[y1 * stride + x1 * channels] * fx;
    return top * (1 - fy) + bottom * fy;
}

static void test_resize(void **state) {
    (void)state;
    enum { H = 48, W = 57, OUT_MAX = 64 };
    dt_resizer *r[3];
    int n_simd = (int)dt_simd_best() + 1;
    srand48(1);
    for (int i = 0; i < n_simd; i++) assert_ok(dt_resizer_new((dt_simd)i, &r[i]));
    for (int round = 0; round < 3000; round++) {
        int64_t channels = 1 + round % 4, out_h = 1 + lrand48() % OUT_MAX, out_w = 1 + lrand48() % OUT_MAX;
        dt_window w = {
            .w = 1 + (int32_t)(lrand48() % W), .h = 1 + (int32_t)(lrand48() % H), .flip = round & 8};
        w.x0 = (int32_t)(lrand48() % (W - w.w + 1));
        w.y0 = (int32_t)(lrand48() % (H - w.h + 1));
        uint8_t *src = noise(H * W * channels), *out[3] = {NULL};
        size_t n = (size_t)(out_h * out_w * channels);
        for (int i = 0; i < n_simd; i++) {
            out[i] = malloc(n);
            assert_ok(dt_resize(r[i], src, W * channels, channels, dt_resize_window_axis(w.x0, w.w, out_w),
                                dt_resize_window_axis(w.y0, w.h, out_h), w.flip, out_h, out_w, out[i]));
            assert_memory_equal(out[0], out[i], n);
        }
        for (int64_t k = 0; k < (int64_t)n; k++) {
            double exact = bilinear(src, W * channels, channels, &w, out_h, out_w, k / channels / out_w,
                                    k / channels % out_w, k % channels);
            assert_true(fabs(out[0][k] - exact) < 0.53); /* half a level, and the fixed point */
        }
        for (int i = 0; i < n_simd; i++) free(out[i]);
        free(src);
    }
    for (int i = 0; i < n_simd; i++) dt_resizer_free(r[i]);
}

static void test_copy_pads_with_zero(void **state) {
    (void)state;
    enum { H = 5, W = 6, OUT_H = 7, OUT_W = 4 };
    srand48(2);
    uint8_t *src = noise(H * W * 2), out[OUT_H * OUT_W * 2];
    for (int32_t y0 = -8; y0 < 8; y0++)
        for (int32_t x0 = -8; x0 < 8; x0++)
            for (int flip = 0; flip < 2; flip++) {
                memset(out, 0xEE, sizeof out);
                dt_resize_copy(src, H, W, 2, x0, y0, flip, OUT_H, OUT_W, out);
                for (int y = 0; y < OUT_H; y++)
                    for (int x = 0; x < OUT_W; x++) {
                        int sx = x0 + (flip ? OUT_W - 1 - x : x), sy = y0 + y;
                        bool inside = sx >= 0 && sx < W && sy >= 0 && sy < H;
                        for (int c = 0; c < 2; c++)
                            assert_int_equal(out[(y * OUT_W + x) * 2 + c],
                                             inside ? src[(sy * W + sx) * 2 + c] : 0);
                    }
            }
    free(src);
}

/* An enlargement equals plain bilinear; a reduction keeps the mean and flattens what is finer than a
 * pixel. */
static void test_filter(void **state) {
    (void)state;
    enum { SIDE = 64, BIG = 100, SMALL = 16 };
    uint8_t *src = gradient(SIDE, SIDE, 3), big[BIG * BIG * 3], small[SMALL * SMALL];
    dt_window whole = {0, 0, SIDE, SIDE, false};
    assert_ok(dt_filter_resize(src, SIDE * 3, 3, dt_resize_window_axis(0, SIDE, BIG),
                               dt_resize_window_axis(0, SIDE, BIG), BIG, BIG, big));
    for (int k = 0; k < BIG * BIG * 3; k++)
        assert_true(fabs(big[k] - bilinear(src, SIDE * 3, 3, &whole, BIG, BIG, k / 3 / BIG, k / 3 % BIG,
                                           k % 3)) < 0.51);
    free(src);
    uint8_t *checks = malloc(SIDE * SIDE);
    for (int k = 0; k < SIDE * SIDE; k++) checks[k] = (k + 1) / 2 % 2 ? 200 : 100;
    assert_ok(dt_filter_resize(checks, SIDE, 1, dt_resize_window_axis(0, SIDE, SMALL),
                               dt_resize_window_axis(0, SIDE, SMALL), SMALL, SMALL, small));
    for (int k = 0; k < SMALL * SMALL; k++) assert_in_range(small[k], 140, 160); /* the edges see less */
    free(checks);
}

/* A JPEG file of `kind`. */
typedef struct sampling {
    int h, v, channels, quality;
    bool progressive, arithmetic;
} sampling;

static void encode_sampled(const sampling *kind, const uint8_t *pixel, int64_t height, int64_t width,
                           unsigned char **bytes, unsigned long *n) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr error;
    c.err = jpeg_std_error(&error);
    jpeg_create_compress(&c);
    *bytes = NULL;
    *n = 0;
    jpeg_mem_dest(&c, bytes, n);
    c.image_width = (JDIMENSION)width;
    c.image_height = (JDIMENSION)height;
    c.input_components = kind->channels;
    c.in_color_space = kind->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, kind->quality, TRUE);
    c.comp_info[0].h_samp_factor = kind->h;
    c.comp_info[0].v_samp_factor = kind->v;
    if (kind->progressive) jpeg_simple_progression(&c);
    c.arith_code = kind->arithmetic;
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixel + (int64_t)c.next_scanline * width * kind->channels);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
}

/* What libjpeg-turbo makes of the whole file with nothing set but the scale and the number of channels. */
static uint8_t *decode_by_default(const unsigned char *bytes, unsigned long n, int scale, int channels,
                                  int32_t *height, int32_t *width) {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr error;
    d.err = jpeg_std_error(&error);
    jpeg_create_decompress(&d);
    jpeg_mem_src(&d, bytes, n);
    assert_int_equal(jpeg_read_header(&d, TRUE), JPEG_HEADER_OK);
    d.scale_num = (unsigned)scale;
    d.scale_denom = 8;
    d.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&d);
    *height = (int32_t)d.output_height;
    *width = (int32_t)d.output_width;
    uint8_t *pixel = malloc((size_t)*height * (size_t)*width * (size_t)channels);
    while (d.output_scanline < d.output_height) {
        JSAMPROW row = pixel + (size_t)d.output_scanline * (size_t)*width * (size_t)channels;
        jpeg_read_scanlines(&d, &row, 1);
    }
    jpeg_finish_decompress(&d);
    jpeg_destroy_decompress(&d);
    return pixel;
}

/* Every window of a JPEG holds the pixels of the whole image by the library's defaults at the same scale,
 * whatever was decoded before. */
static void test_jpeg_window(void **state) {
    (void)state;
    static const sampling kinds[] = {
        {2, 2, 3, 85, false, false}, {2, 1, 3, 85, false, false}, {1, 2, 3, 85, false, false},
        {1, 1, 3, 96, false, false}, {4, 1, 3, 85, false, false}, {1, 1, 1, 85, false, false},
        {2, 2, 3, 85, true, false},  {2, 1, 3, 85, true, false},  {2, 2, 3, 85, false, true}};
    dt_jpeg *j;
    dt_jpeg_part part;
    int32_t h, w;
    srand48(3);
    assert_ok(dt_jpeg_new(&j));
    for (size_t image = 0; image < 3 * sizeof kinds / sizeof kinds[0]; image++) {
        const sampling *kind = &kinds[image / 3];
        int64_t height = 40 + lrand48() % 60, width = 40 + lrand48() % 60;
        uint8_t *pixel = noise(height * width * kind->channels), *whole[2][4];
        int32_t whole_w[4];
        unsigned char *bytes;
        unsigned long n;
        encode_sampled(kind, pixel, height, width, &bytes, &n);
        for (int i = 0; i < 8; i++)
            whole[i / 4][i % 4] = decode_by_default(bytes, n, 1 << i % 4, i < 4 ? 3 : 1, &h, &whole_w[i % 4]);
        for (int round = 0; round < 200; round++) {
            int32_t ww = 8 + (int32_t)(lrand48() % (width - 7)), wh = 8 + (int32_t)(lrand48() % (height - 7));
            int32_t x0 = (int32_t)(lrand48() % (width - ww + 1)),
                    y0 = (int32_t)(lrand48() % (height - wh + 1));
            int32_t i = (int32_t)(lrand48() % 4), scale = 1 << i, channels = lrand48() % 4 ? 3 : 1;
            assert_ok(dt_jpeg_begin(j, bytes, (int64_t)n, &h, &w));
            assert_true(h == height && w == width);
            assert_ok(dt_jpeg_decode(j, x0, y0, ww, wh, ww * scale / 8, wh * scale / 8, channels, &part));
            assert_true(part.scale_num == scale);
            int32_t left = x0 * scale / 8, right = ((x0 + ww) * scale + 7) / 8;
            assert_true(part.x0 <= left && part.x0 + part.w >= right);
            for (int32_t y = 0; y < part.h; y++)
                assert_memory_equal(part.pixel + y * part.stride + (left - part.x0) * channels,
                                    whole[channels == 1][i] +
                                        ((int64_t)(y + part.y0) * whole_w[i] + left) * channels,
                                    (size_t)(right - left) * (size_t)channels);
        }
        for (int i = 0; i < 8; i++) free(whole[i / 4][i % 4]);
        free(bytes);
        free(pixel);
    }
    assert_int_equal(dt_jpeg_warnings(j), 0);
    dt_jpeg_free(j);
}

/* Red and blue squares of three pixels in 4:2:0, where chroma that is repeated is most wrong: the levels of
 * Pillow and OpenCV. */
static void test_jpeg_chroma(void **state) {
    (void)state;
    enum { SIDE = 24, SHOWN = 8 };
    static const uint8_t row_5[SHOWN * 3] = {54,  0,  181, 65,  0,  158, 90, 0, 119, 168, 26, 138,
                                             187, 19, 97,  174, 20, 114, 79, 0, 138, 69,  0,  156};
    static const uint8_t grey_5[SHOWN] = {30, 27, 27, 81, 78, 77, 30, 30};
    uint8_t pixel[SIDE * SIDE * 3] = {0}, *bytes;
    int64_t n;
    int32_t h, w;
    dt_jpeg *j;
    dt_jpeg_part part;
    for (int k = 0; k < SIDE * SIDE; k++) pixel[k * 3 + (k % SIDE / 3 + k / SIDE / 3) % 2 * 2] = 255;
    assert_ok(dt_jpeg_encode(pixel, SIDE, SIDE, 3, 90, &bytes, &n));
    assert_ok(dt_jpeg_new(&j));
    assert_ok(dt_jpeg_begin(j, bytes, n, &h, &w));
    assert_ok(dt_jpeg_decode(j, 0, 0, w, h, w, h, 3, &part));
    for (int i = 0; i < SHOWN * 3; i++) assert_int_equal(part.pixel[5 * part.stride + i], row_5[i]);
    assert_ok(dt_jpeg_begin(j, bytes, n, &h, &w));
    assert_ok(dt_jpeg_decode(j, 0, 0, w, h, w, h, 1, &part));
    for (int i = 0; i < SHOWN; i++) assert_int_equal(part.pixel[5 * part.stride + i], grey_5[i]);
    dt_jpeg_free(j);
    free(bytes);
}

/* Through the whole way, window, scaled decode and resize give nearly what the original resized gives. */
static void test_jpeg_fetch(void **state) {
    (void)state;
    char *dir = in_scratch("jpeg"), *class_dir = in_scratch("jpeg_files/a"), command[600];
    enum { H = 300, W = 400, OUT = 64 };
    uint8_t *pixel = gradient(H, W, 3), *bytes, image[OUT * OUT * 3];
    int64_t n;
    assert_ok(dt_jpeg_encode(pixel, H, W, 3, 95, &bytes, &n));
    snprintf(command, sizeof command, "mkdir -p %s", class_dir);
    assert_int_equal(system(command), 0);
    write_file(in_scratch("jpeg_files/a/1.jpg"), bytes, (size_t)n);
    const char *input = in_scratch("jpeg_files");
    dt_import_options o = {.kind = DT_IMPORT_FOLDER,
                           .store = DT_STORE_JPEG,
                           .input = &input,
                           .n_input = 1,
                           .out_dir = dir,
                           .split = "x"};
    dt_import_result result;
    assert_ok(dt_import_run(&o, &result));
    test_options c = test_defaults();
    c.augment.crop = DT_CROP_RANDOM_RESIZED;
    c.augment.flip = true;
    dt_fetch_options f = {.simd = dt_simd_best()};
    dt_dataset *d;
    dt_fetcher *fetcher;
    assert_ok(dt_dataset_open(&c.data, dir, &d));
    assert_true(d->info.jpeg && d->info.height == H && d->info.width == W);
    f.dataset = d;
    dt_augment_init(&f.augment, &c.augment, 4, false, OUT, OUT);
    assert_ok(dt_fetcher_new(&f, &fetcher));
    for (uint64_t epoch = 0; epoch < 200; epoch++) {
        int32_t label;
        assert_ok(dt_fetch(fetcher, &(dt_draw_of){.epoch = epoch}, image, &label, NULL));
        dt_window w = dt_augment_window(&f.augment, epoch, 0, H, W);
        for (int k = 0; k < OUT * OUT * 3; k++) {
            double exact = bilinear(pixel, W * 3, 3, &w, OUT, OUT, k / 3 / OUT, k / 3 % OUT, k % 3);
            assert_true(fabs(image[k] - exact) < 10);
        }
    }
    dt_fetcher_free(fetcher);
    dt_dataset_close(d);
    free(bytes);
    free(pixel);
}

/* CMYK as Adobe's programs write it, with and without their marker, RGB without a transform, and
 * progressive. */
typedef struct odd_jpeg {
    J_COLOR_SPACE space, stored;
    int components;
    bool progressive, no_marker;
} odd_jpeg;

static void encode_odd(const odd_jpeg *kind, const uint8_t *pixel, int side, unsigned char **bytes,
                       unsigned long *n) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr error;
    c.err = jpeg_std_error(&error);
    jpeg_create_compress(&c);
    *bytes = NULL;
    *n = 0;
    jpeg_mem_dest(&c, bytes, n);
    c.image_width = c.image_height = (JDIMENSION)side;
    c.input_components = kind->components;
    c.in_color_space = kind->space;
    jpeg_set_defaults(&c);
    jpeg_set_colorspace(&c, kind->stored);
    jpeg_set_quality(&c, 98, TRUE);
    if (kind->no_marker) c.write_Adobe_marker = FALSE;
    if (kind->progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    uint8_t *copy = malloc((size_t)(side * side * kind->components));
    memcpy(copy, pixel, (size_t)(side * side * kind->components));
    for (int y = 0; y < side; y++) {
        JSAMPROW row = copy + y * side * kind->components;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(copy);
}

static void test_jpeg_colours(void **state) {
    (void)state;
    enum { SIDE = 32 };
    static const odd_jpeg kinds[] = {
        {JCS_CMYK, JCS_CMYK, 4, false, false}, {JCS_CMYK, JCS_YCCK, 4, false, false},
        {JCS_CMYK, JCS_CMYK, 4, false, true},  {JCS_RGB, JCS_RGB, 3, false, false},
        {JCS_RGB, JCS_YCbCr, 3, true, false},  {JCS_GRAYSCALE, JCS_GRAYSCALE, 1, false, false}};
    dt_jpeg *j;
    assert_ok(dt_jpeg_new(&j));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int64_t channels = 1; channels <= 3; channels += 2) {
            uint8_t pixel[SIDE * SIDE * 4];
            for (int k = 0; k < SIDE * SIDE; k++) {
                const uint8_t ink[4] = {200, 150, 100, 240}; /* Adobe: 255 is no ink */
                memcpy(pixel + k * kinds[i].components, ink, (size_t)kinds[i].components);
            }
            unsigned char *bytes;
            unsigned long n;
            int32_t h, w;
            dt_jpeg_part part;
            encode_odd(&kinds[i], pixel, SIDE, &bytes, &n);
            assert_ok(dt_jpeg_begin(j, bytes, (int64_t)n, &h, &w));
            assert_ok(dt_jpeg_decode(j, 3, 5, 20, 20, 20, 20, channels, &part));
            int r = 200, g = 150, b = 100;
            if (kinds[i].components == 4) r = r * 240 / 255, g = g * 240 / 255, b = b * 240 / 255;
            if (kinds[i].components == 1) g = b = r;
            const int grey = (299 * r + 587 * g + 114 * b) / 1000, rgb[3] = {r, g, b};
            for (int c = 0; c < channels; c++) {
                int wanted = channels == 1 ? grey : rgb[c];
                assert_in_range(part.pixel[10 * part.stride + 10 * channels + c] + 4, wanted, wanted + 8);
            }
            free(bytes);
        }
    dt_jpeg_free(j);
}

static void test_jpeg_bad(void **state) {
    (void)state;
    enum { SIDE = 64 };
    dt_jpeg *j;
    dt_jpeg_part part;
    int32_t h, w;
    int64_t n;
    uint8_t *pixel = noise(SIDE * SIDE * 3), *bytes;
    assert_ok(dt_jpeg_new(&j));
    assert_ok(dt_jpeg_encode(pixel, SIDE, SIDE, 3, 90, &bytes, &n));
    assert_fails(dt_jpeg_begin(j, (const uint8_t *)"hello world", 11, &h, &w), DT_ERR_DATA,
                 "not a readable JPEG");
    assert_fails(dt_jpeg_begin(j, bytes, 2, &h, &w), DT_ERR_DATA, "JPEG");
    /* Cut in the middle: what there is comes out, and is reported as damaged. */
    assert_ok(dt_jpeg_begin(j, bytes, n / 2, &h, &w));
    assert_ok(dt_jpeg_decode(j, 0, 0, w, h, w, h, 3, &part));
    assert_true(dt_jpeg_damaged(j) && dt_jpeg_warnings(j) > 0);
    /* 65,500 x 65,500 in the frame header; then 12 bits. */
    int64_t frame = 0;
    while (bytes[frame] != 0xFF || bytes[frame + 1] != 0xC0) frame++;
    memcpy(bytes + frame + 5, "\xFF\xDC\xFF\xDC", 4);
    assert_fails(dt_jpeg_begin(j, bytes, n, &h, &w), DT_ERR_DATA, "larger than allowed (67 megapixels)");
    memcpy(bytes + frame + 4, "\x0C\0\x40\0\x40", 5);
    assert_fails(dt_jpeg_begin(j, bytes, n, &h, &w), DT_ERR_DATA, "precision 12");
    free(bytes);
    /* The decoder is as good as new. */
    assert_ok(dt_jpeg_encode(pixel, SIDE, SIDE, 3, 90, &bytes, &n));
    assert_ok(dt_jpeg_begin(j, bytes, n, &h, &w));
    assert_ok(dt_jpeg_decode(j, 0, 0, w, h, w, h, 3, &part));
    assert_false(dt_jpeg_damaged(j));
    free(bytes);
    free(pixel);
    dt_jpeg_free(j);
}

static void test_png(void **state) {
    (void)state;
    enum { H = 9, W = 7 };
    png_image image = {.version = PNG_IMAGE_VERSION, .width = W, .height = H, .format = PNG_FORMAT_RGBA};
    uint8_t *pixel = noise(H * W * 4), file[4096];
    png_alloc_size_t n = sizeof file;
    dt_png out;
    assert_true(png_image_write_to_memory(&image, file, &n, 0, pixel, 0, NULL));
    assert_true(dt_png_is(file, (int64_t)n));
    assert_ok(dt_png_decode(file, (int64_t)n, 3, &out));
    assert_true(out.height == H && out.width == W);
    for (int k = 0; k < H * W * 3; k++)
        assert_int_equal(out.pixel[k], pixel[k / 3 * 4 + k % 3]); /* alpha is dropped */
    free(out.pixel);
    assert_fails(dt_png_decode(file, (int64_t)n - 20, 3, &out), DT_ERR_DATA, "PNG");
    file[40] ^= 0x55;
    assert_fails(dt_png_decode(file, (int64_t)n, 3, &out), DT_ERR_DATA, "PNG");
    free(pixel);
}

/* The buffer for the file grows until memory ends: an error, and nothing is freed twice. */
static void test_jpeg_no_memory(void **state) {
    (void)state;
    enum { SIDE = 2000, KIB = 1024, SPARE = 3 * KIB * KIB };
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its shadow needs the address space */
#endif
    uint8_t *pixel = noise(SIDE * SIDE * 3), *bytes;
    int64_t n, pages = 0;
    const pid_t child = fork();
    if (child == 0) {
        FILE *f = fopen("/proc/self/statm", "r");
        if (!f || fscanf(f, "%" SCNd64, &pages) != 1) _exit(2);
        const rlim_t most = (rlim_t)(pages * sysconf(_SC_PAGESIZE) + SPARE);
        if (setrlimit(RLIMIT_AS, &(struct rlimit){.rlim_cur = most, .rlim_max = most}) != 0) _exit(3);
        _exit(dt_jpeg_encode(pixel, SIDE, SIDE, 3, 100, &bytes, &n) == DT_ERR_MEMORY ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    free(pixel);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jpeg_no_memory), /* before there is memory to reuse */
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_copy_pads_with_zero),
        cmocka_unit_test(test_filter),
        cmocka_unit_test(test_jpeg_window),
        cmocka_unit_test(test_jpeg_chroma),
        cmocka_unit_test(test_jpeg_fetch),
        cmocka_unit_test(test_jpeg_colours),
        cmocka_unit_test(test_jpeg_bad),
        cmocka_unit_test(test_png),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
