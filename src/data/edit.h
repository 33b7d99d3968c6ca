/* Operations on the pixels of an image (data/augment.h): torchvision's on u8 tensors, with its roundings. */
#ifndef DT_DATA_EDIT_H
#define DT_DATA_EDIT_H

#include "core/status.h"
#include "data/augment.h"

/* Room for a copy of an image; for one thread. */
typedef struct dt_editor dt_editor;

dt_status dt_editor_new(dt_editor **out);
void dt_editor_free(dt_editor *e); /* accepts NULL */

/* In place. image: u8 [h, w, channels], channels 1 or 3; `fill`: the level of pixels from outside. */
dt_status dt_edit_image(dt_editor *e, const dt_edit *edit, int32_t n, uint8_t fill, uint8_t *image, int64_t h,
                        int64_t w, int64_t channels);

#endif
