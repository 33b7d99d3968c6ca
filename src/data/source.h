/* Where an importer's samples come from: one small interface with an implementation per format. */
#ifndef DT_DATA_SOURCE_H
#define DT_DATA_SOURCE_H

#include "data/import.h"
#include "jpeg.h"

/* One sample as the source has it: pixels, or a JPEG file to be kept. */
typedef struct dt_item {
    const uint8_t *pixel; /* [height, width, channels]; NULL: JPEG */
    const uint8_t *jpeg;
    int64_t n_jpeg_bytes;
    int32_t height, width, label;
    void *owned; /* freed after use; may be NULL */
    bool tilted; /* the file's EXIF orientation is not upright */
} dt_item;

typedef struct dt_source {
    int64_t n_samples, n_classes;
    int64_t height, width, channels; /* height and width 0: they differ from sample to sample */
    int64_t sample_bytes;            /* about, as stored */
    bool all_classes;                /* n_classes is known, and not only the largest label there is */
    char *class_names;               /* newline-separated, owned by the state; NULL if none */
    const char *doubt; /* owned by the state: why these may be no classes, an error unless the user lists
                        * them; NULL if nothing speaks against them */
    uint64_t identity; /* hash of the inputs */
    void *state;
    /* Called from several threads, each with a decoder of its own. DT_ERR_DATA: this sample is damaged. */
    dt_status (*load)(const void *state, dt_jpeg *decoder, int64_t i, dt_item *out);
    /* Allocated path of sample i's own file, NULL when out of memory. The pointer is NULL where samples share
     * files. */
    char *(*path)(const void *state, int64_t i);
    /* Sample i's name, which does not depend on what else is there, and its class. NULL where they have no
     * names. */
    const char *(*name)(const void *state, int64_t i);
    int32_t (*label)(const void *state, int64_t i);
    void (*close)(void *state);
} dt_source;

dt_status dt_source_idx(const dt_import_options *o, dt_source *out);
dt_status dt_source_cifar(const dt_import_options *o, dt_source *out);
dt_status dt_source_folder(const dt_import_options *o, dt_source *out);
dt_status dt_source_synthetic(const dt_import_options *o, dt_source *out);

static inline void dt_source_close(dt_source *s) {
    if (s->close) s->close(s->state);
    *s = (dt_source){.class_names = NULL};
}

#endif
