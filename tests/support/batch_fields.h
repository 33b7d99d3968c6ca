/* The fields of image batches by their names, and batches made by hand. */
#ifndef DT_TEST_BATCH_FIELDS_H
#define DT_TEST_BATCH_FIELDS_H

#include <stdlib.h>

#include "data/jpeg_device.h"
#include "data/loader.h"

static inline uint8_t *batch_image(const dt_batch *b) {
    return dt_batch_field(b, "image");
}

static inline int32_t *batch_label(const dt_batch *b) {
    return dt_batch_field(b, "label");
}

/* Of a compressed batch. */
static inline const dt_jpeg_files *batch_files(const dt_batch *b) {
    return b->beside;
}

/* Zeroed; `field` (two of them) must outlive it. Free with batch_free. */
static inline dt_batch batch_new(dt_field *field, int64_t rows, int64_t h, int64_t w, int64_t c) {
    field[0] = (dt_field){"image", DT_DTYPE_U8, 3, {h, w, c}};
    field[1] = (dt_field){.name = "label", .dtype = DT_DTYPE_I32};
    dt_batch b = {.field = field, .n_field = 2, .rows = rows, .n_valid = rows};
    for (int32_t i = 0; i < 2; i++)
        if (!(b.data[i] = calloc((size_t)rows, (size_t)dt_field_bytes(&field[i])))) abort();
    return b;
}

static inline void batch_free(const dt_batch *b) {
    for (int32_t i = 0; i < b->n_field; i++) free(b->data[i]);
}

#endif
