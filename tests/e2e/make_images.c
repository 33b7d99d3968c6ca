/* make_images DIR N SEED: writes DIR/<class>/<i>.<kind>, N images in 4 classes named like animals, in turn
 * JPEG files of 40 to 71 pixels (every second one in grey) and PNG files. A class is a brighter quadrant
 * under noise, as of make_idx. `square SIDE` as last arguments: PNG files of that size alone. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdbool.h>
#include <sys/stat.h>

#include <jpeglib.h>
#include <png.h>

enum { CLASSES = 4, SIDE_MAX = 256 };
static const char *const class_name[CLASSES] = {"cat", "dog", "hen", "owl"};

static uint32_t state;

static uint32_t next_random(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 16;
}

static void draw(uint8_t *pixel, uint32_t h, uint32_t w, uint32_t label) {
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++) {
            const uint32_t quadrant = (y >= h / 2 ? 2u : 0u) + (x >= w / 2 ? 1u : 0u);
            for (int c = 0; c < 3; c++)
                *pixel++ = (uint8_t)(next_random() % 200 + (quadrant == label ? 50 : 0));
        }
}

static void write_jpeg(const char *path, uint8_t *pixel, uint32_t h, uint32_t w, bool grey) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr error;
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        exit(1);
    }
    c.err = jpeg_std_error(&error);
    jpeg_create_compress(&c);
    jpeg_stdio_dest(&c, f);
    c.image_width = w;
    c.image_height = h;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    if (grey) jpeg_set_colorspace(&c, JCS_GRAYSCALE);
    jpeg_set_quality(&c, 85, TRUE);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < h) {
        JSAMPROW row = pixel + (size_t)c.next_scanline * w * 3;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    if (fclose(f) != 0) exit(1);
}

static void write_png(const char *path, const uint8_t *pixel, uint32_t h, uint32_t w) {
    png_image image = {.version = PNG_IMAGE_VERSION, .width = w, .height = h, .format = PNG_FORMAT_RGB};
    if (!png_image_write_to_file(&image, path, 0, pixel, 0, NULL)) {
        fprintf(stderr, "%s: %s\n", path, image.message);
        exit(1);
    }
}

int main(int argc, char **argv) {
    static uint8_t pixel[SIDE_MAX * SIDE_MAX * 3];
    char path[4096];
    if (argc != 4 && !(argc == 6 && strcmp(argv[4], "square") == 0)) {
        fprintf(stderr, "usage: make_images DIR N SEED [square SIDE]\n");
        return 2;
    }
    const uint32_t n = (uint32_t)strtoul(argv[2], NULL, 10);
    const uint32_t side = argc == 6 ? (uint32_t)strtoul(argv[5], NULL, 10) % SIDE_MAX : 0;
    state = (uint32_t)strtoul(argv[3], NULL, 10);
    mkdir(argv[1], 0777);
    for (uint32_t i = 0; i < CLASSES; i++) {
        snprintf(path, sizeof path, "%s/%s", argv[1], class_name[i]);
        mkdir(path, 0777);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t label = next_random() % CLASSES;
        const uint32_t h = side ? side : 40 + next_random() % 32, w = side ? side : 40 + next_random() % 32;
        const bool png = side || i % 4 == 3;
        draw(pixel, h, w, label);
        snprintf(path, sizeof path, "%s/%s/%04" PRIu32 ".%s", argv[1], class_name[label], i,
                 png ? "png" : "jpg");
        if (png)
            write_png(path, pixel, h, w);
        else
            write_jpeg(path, pixel, h, w, i % 2);
    }
    return 0;
}
