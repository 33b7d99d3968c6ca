/* What the loader delivers, laid out in a sheet; what INPUT would make of it is done here on levels. */
#include "data/show.h"

#include <errno.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "core/dir.h"
#include "data/agree.h"
#include "data/augment.h"

enum { GAP = 2 /* pixels */, PAPER = 255 };

/* The batch and what its images are normalised by. */
typedef struct sheet {
    const dt_batch *batch;
    dt_image_input in;
    int64_t per_row, height, width; /* of the picture: images in a row, pixels */
} sheet;

static dt_mix mix_of(const sheet *s, int64_t row) {
    dt_mix m = {.partner = (int32_t)row, .share = 1};
    const int32_t *all = dt_batch_field(s->batch, "mix");
    if (all) memcpy(&m, all + row * DT_MIX_INTS, sizeof m);
    return m;
}

/* A level of one image, erased where it is. */
static double level_of(const sheet *s, int64_t row, const dt_mix *m, int64_t y, int64_t x, int64_t c) {
    const uint8_t *image = dt_batch_field(s->batch, "image");
    if (!dt_box_holds(&m->erase, y, x))
        return image[((row * s->in.height + y) * s->in.width + x) * s->in.channels + c];
    const double noise = m->noise ? (double)dt_mix_noise(m->key, y, x, (int32_t)c) : 0;
    return 255 * ((double)s->in.mean[c] + noise * (double)s->in.stddev[c]);
}

static void draw_image(const sheet *s, int64_t row, uint8_t *picture) {
    const dt_mix m = mix_of(s, row), theirs = mix_of(s, m.partner);
    const int64_t top = row / s->per_row * (s->in.height + GAP),
                  left = row % s->per_row * (s->in.width + GAP);
    for (int64_t y = 0; y < s->in.height; y++)
        for (int64_t x = 0; x < s->in.width; x++)
            for (int64_t c = 0; c < s->in.channels; c++) {
                const double share = dt_box_holds(&m.box, y, x) ? 0 : (double)m.share;
                double v = share * level_of(s, row, &m, y, x, c);
                if (share != 1) v += (1 - share) * level_of(s, m.partner, &theirs, y, x, c);
                picture[((top + y) * s->width + left + x) * s->in.channels + c] =
                    (uint8_t)fmin(fmax(rint(v), 0), 255);
            }
}

static dt_status write_png(const sheet *s, const uint8_t *picture, const char *path) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)s->width,
                       .height = (png_uint_32)s->height,
                       .format = s->in.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
    FILE *f = fopen(path, "wbe");
    if (!f) return dt_fail(DT_ERR_IO, "%s: cannot be written: %s", path, dt_create_error(path, errno).s);
    const bool drawn = png_image_write_to_stdio(&image, f, 0, picture, 0, NULL) != 0;
    const int error = errno;
    if (fclose(f) == 0 && drawn) return DT_OK;
    return dt_fail(DT_ERR_IO, "%s: cannot be written: %s", path,
                   drawn              ? strerror(errno)
                   : image.message[0] ? image.message
                                      : strerror(error));
}

static dt_status draw(const dt_batch *b, const dt_image_input *in, const char *path) {
    sheet s = {.batch = b, .in = *in, .per_row = (int64_t)ceil(sqrt((double)b->rows))};
    const int64_t rows = (b->rows + s.per_row - 1) / s.per_row;
    s.width = s.per_row * (in->width + GAP) - GAP;
    s.height = rows * (in->height + GAP) - GAP;
    const size_t n = (size_t)(s.width * s.height * in->channels);
    uint8_t *picture = malloc(n);
    if (!picture)
        return dt_fail(DT_ERR_MEMORY, "out of memory for a picture of %lld x %lld", (long long)s.width,
                       (long long)s.height);
    memset(picture, PAPER, n);
    for (int64_t i = 0; i < b->rows; i++) draw_image(&s, i, picture);
    const dt_status status = write_png(&s, picture, path);
    free(picture);
    return status;
}

static dt_status show(const dt_data_options *o, const dt_augment_options *augment, const dt_dataset *d,
                      uint64_t seed, int64_t n, const char *path) {
    dt_dataset_info info;
    dt_image_input in;
    dt_loader *l;
    dt_batch b;
    dt_dataset_info_get(d, &info);
    if (info.channels != 1 && info.channels != 3)
        return dt_fail(DT_ERR_CONFIG, "%s: a picture is of images of 1 or 3 channels", o->train);
    DT_TRY(dt_data_image_input(o, augment, 0, &info, true, false, &in));
    const dt_loader_options lo = {.data = o,
                                  .augment = augment,
                                  .dataset = d,
                                  .out_h = in.height,
                                  .out_w = in.width,
                                  .seed = seed,
                                  .global_batch = n,
                                  .n_micro_all = 1,
                                  .world = 1,
                                  .n_steps = 1,
                                  .threads = 1,
                                  .n_slots = 2};
    DT_TRY(dt_loader_open(&lo, &l));
    dt_status status = dt_loader_next(l, &b, NULL);
    if (status == DT_OK) status = draw(&b, &in, path);
    dt_loader_close(l);
    return status;
}

dt_status dt_data_show(const dt_data_options *o, const dt_augment_options *augment, uint64_t seed, int64_t n,
                       const char *path) {
    dt_dataset *d;
    if (n < 1 || n > DT_SHOW_SAMPLES_MAX)
        return dt_fail(DT_ERR_USAGE, "a picture shows 1 to %d samples", DT_SHOW_SAMPLES_MAX);
    DT_TRY(dt_dataset_open(o, o->train, &d));
    const dt_status status = show(o, augment, d, seed, n, path);
    dt_dataset_close(d);
    return status;
}
