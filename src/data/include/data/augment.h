/* Which part of a stored image becomes the network's input: crop windows and flips.
 *
 * A window is a pure function of (seed, epoch, sample, stored size), so batches do not depend on threads
 * or ranks. Nothing here touches pixels: the loader resizes on the CPU, or the INPUT op does it on the
 * device. */
#ifndef DT_DATA_AUGMENT_H
#define DT_DATA_AUGMENT_H

#include "core/types.h"
#include "data/options.h"

/* Window of the stored image that is resized (bilinear) to the output, then mirrored when `flip`. It may
 * reach outside the image (pad-and-crop only, where it has the output's size): those pixels are 0. */
typedef struct dt_window {
    int32_t x0, y0, w, h;
    bool flip;
} dt_window;

enum { DT_AUGMENT_KEYS = 6 };

/* Plain data, filled once per loader. */
typedef struct dt_augment {
    dt_crop crop;
    bool eval, flip;
    bool padded; /* evaluation pads images smaller than the output instead of enlarging them */
    int64_t out_h, out_w, pad;
    double scale_min, scale_max, log_ratio_min, log_ratio_max;
    double eval_resize;
    uint64_t key[DT_AUGMENT_KEYS]; /* Philox keys; counter (epoch, sample) */
} dt_augment;

/* Training (eval false): as the options say. Evaluation: centre crop, no randomness. out_h x out_w is
 * the input of the network. */
void dt_augment_init(dt_augment *a, const dt_augment_options *o, uint64_t seed, bool eval, int64_t out_h,
                     int64_t out_w);

/* The window for a stored image of src_h x src_w.
 * pad: the image with `pad` zero pixels on each side, cropped at a uniform position (torchvision RandomCrop).
 * random resized: torchvision RandomResizedCrop: area uniform in scale, log aspect ratio uniform, 10 tries,
 * then the largest centred window whose ratio is in range. none and evaluation: eval_resize > 0: centre crop
 * of the output size out of the image resized so that its shorter side is eval_resize; else a centre crop
 * without resizing. Where the image is too small for that, the largest centred window of the output's aspect
 * ratio; with crop "pad" the image padded evenly with zeros. */
dt_window dt_augment_window(const dt_augment *a, uint64_t epoch, uint64_t sample, int64_t src_h,
                            int64_t src_w);

#endif
