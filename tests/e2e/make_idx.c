/* make_idx PREFIX N SEED: writes PREFIX-images.idx and PREFIX-labels.idx, N images of 16x16 in 4 classes. A
 * class is a slightly brighter quadrant under noise, and one label in 16 is wrong: a small network learns it
 * within some steps, and its loss stays well above 0. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 16, CLASSES = 4 };

static uint32_t state;

static uint32_t next_random(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 16;
}

static void put_u32(FILE *f, uint32_t v) {
    for (int shift = 24; shift >= 0; shift -= 8) fputc((int)(v >> shift & 255), f);
}

static FILE *create(const char *prefix, const char *suffix) {
    char path[4096];
    snprintf(path, sizeof path, "%s-%s.idx", prefix, suffix);
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: make_idx PREFIX N SEED\n");
        return 2;
    }
    const uint32_t n = (uint32_t)strtoul(argv[2], NULL, 10);
    state = (uint32_t)strtoul(argv[3], NULL, 10);
    FILE *images = create(argv[1], "images"), *labels = create(argv[1], "labels");
    put_u32(images, 0x00000803);
    put_u32(images, n);
    put_u32(images, SIDE);
    put_u32(images, SIDE);
    put_u32(labels, 0x00000801);
    put_u32(labels, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t label = next_random() % CLASSES;
        fputc((int)(next_random() % 16 == 0 ? (label + 1) % CLASSES : label), labels);
        for (uint32_t y = 0; y < SIDE; y++)
            for (uint32_t x = 0; x < SIDE; x++) {
                const uint32_t quadrant = y / (SIDE / 2) * 2 + x / (SIDE / 2);
                fputc((int)(next_random() % 220 + (quadrant == label ? 30 : 0)), images);
            }
    }
    return fclose(images) == 0 && fclose(labels) == 0 ? 0 : 1;
}
