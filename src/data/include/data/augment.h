/* What becomes of a stored image on its way to the network: crop window and flip, operations on its pixels, a
 * rectangle erased, another image mixed in.
 *
 * All of it is drawn by one function of (seed, epoch, sample, its repetition) and, for mixing, of the step: so batches
 * do not depend on threads or ranks, and go on as they were after a resume. Nothing here touches pixels: the loader
 * crops and edits on the CPU, or the INPUT op crops on the device; erasing and mixing are INPUT's. */
#ifndef DT_DATA_AUGMENT_H
#define DT_DATA_AUGMENT_H

#include "core/edit.h"
#include "core/mix.h"
#include "core/types.h"
#include "data/options.h"

/* Window of the stored image that is resized (bilinear) to the output, then mirrored when `flip`. It may
 * reach outside the image (pad-and-crop only, where it has the output's size): those pixels are 0. */
typedef struct dt_window {
    int32_t x0, y0, w, h;
    bool flip;
} dt_window;

enum {
    DT_EDITS_MAX = DT_POLICY_OPS_MAX + DT_EDIT_ROW_MAX, /* a policy's, four of the colour jitter, grey */
    DT_AUGMENT_KEYS = 14 + DT_POLICY_OPS_MAX
};

/* Which draw: a sample of an epoch, which stands there `repeat` times before; `step` of the run. */
typedef struct dt_draw_of {
    uint64_t epoch, sample, repeat, step;
} dt_draw_of;

/* All that is drawn for a sample. */
typedef struct dt_draws {
    dt_window window;
    int32_t n_edit;
    dt_edit edit[DT_EDITS_MAX]; /* in their order */
    dt_mix mix;                 /* partner 0: the loader says which row it is */
} dt_draws;

/* Plain data, filled once per loader. */
typedef struct dt_augment {
    dt_crop crop;
    bool eval, flip;
    bool padded; /* evaluation pads images smaller than the output instead of enlarging them */
    int64_t out_h, out_w, pad;
    double scale_min, scale_max, log_ratio_min, log_ratio_max;
    double eval_resize;
    dt_augment_options o; /* of the draws that are not the window's */
    uint64_t seed;
    uint64_t key[DT_AUGMENT_KEYS]; /* Philox keys; counter (epoch, sample) */
} dt_augment;

/* Training (eval false): as the options say. Evaluation: centre crop, no randomness. out_h x out_w is
 * the input of the network. */
void dt_augment_init(dt_augment *a, const dt_augment_options *o, uint64_t seed, bool eval, int64_t out_h,
                     int64_t out_w);

/* Whether images are edited, and whether rows are erased or mixed, in training. */
bool dt_augment_edits(const dt_augment_options *o);
bool dt_augment_edits_colours(const dt_augment_options *o); /* and no more than the op EDIT can */
bool dt_augment_mixes(const dt_augment_options *o);         /* images and labels */
bool dt_augment_has_mix_rows(const dt_augment_options *o);  /* mixes or erases */

/* For a stored image of src_h x src_w. The window:
 * pad: the image with `pad` zero pixels on each side, cropped at a uniform position (torchvision RandomCrop).
 * random resized: torchvision RandomResizedCrop: area uniform in scale, log aspect ratio uniform, 10 tries,
 * then the largest centred window whose ratio is in range. none and evaluation: eval_resize > 0: centre crop
 * of the output size out of the image resized so that its shorter side is eval_resize; else a centre crop
 * without resizing. Where the image is too small for that, the largest centred window of the output's aspect
 * ratio; with crop "pad" the image padded evenly with zeros.
 * Edits: the policy's (RandAugment, TrivialAugmentWide), then the colour jitter's in random order (ColorJitter), then
 * grey (RandomGrayscale). Erased: RandomErasing. Mixed: timm's Mixup, whose partner of row r is the r-th from the
 * micro-batch's end; the share is corrected where the box is cut by the image's edge. */
void dt_augment_draw(const dt_augment *a, const dt_draw_of *of, int64_t src_h, int64_t src_w, dt_draws *out);
/* The window alone. */
dt_window dt_augment_window(const dt_augment *a, uint64_t epoch, uint64_t sample, int64_t src_h,
                            int64_t src_w);
/* For people: "random_resized, flip, randaugment (2 of magnitude 9), mixup 0.2 or cutmix 1 a batch"; "" where nothing
 * is done. */
typedef struct dt_recipe_text {
    char s[512];
} dt_recipe_text;
dt_recipe_text dt_augment_text(const dt_augment_options *o);
/* Of the row's label: by the share of its pixels that are its own. */
float dt_augment_share(const dt_augment *a, const dt_mix *m);

#endif
