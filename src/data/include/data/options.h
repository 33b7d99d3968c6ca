/* What data sets, their loading and augmentation may be told; each key is documented in its row. */
#ifndef DT_DATA_OPTIONS_H
#define DT_DATA_OPTIONS_H

#include "core/key.h"

typedef enum dt_decoder { DT_DECODER_AUTO = 0, DT_DECODER_CPU, DT_DECODER_NVJPEG } dt_decoder;
typedef enum dt_documents { DT_DOCUMENTS_JOINED = 0, DT_DOCUMENTS_ISOLATED } dt_documents;
typedef enum dt_crop { DT_CROP_NONE = 0, DT_CROP_PAD, DT_CROP_RANDOM_RESIZED } dt_crop;
typedef enum dt_policy { DT_POLICY_NONE = 0, DT_POLICY_RANDAUGMENT, DT_POLICY_TRIVIALAUGMENT } dt_policy;
typedef enum dt_erase_fill { DT_ERASE_MEAN = 0, DT_ERASE_NOISE } dt_erase_fill;
typedef enum dt_mix_each { DT_MIX_BATCH = 0, DT_MIX_SAMPLE } dt_mix_each;
enum { DT_POLICY_OPS_MAX = 8 };

/* [data] */
typedef struct dt_data_options {
    char train[DT_KEY_STRING_MAX], val[DT_KEY_STRING_MAX]; /* shard directory, shard file or "synthetic" */
    int64_t image_size;                                    /* H = W fed to the model; 0: as stored */
    int64_t val_size;                                      /* the same in evaluation; 0: as in training */
    int64_t channels;                                      /* of the images; 0: the data's own */
    int64_t workers;                                       /* loader threads per rank; 0: chosen */
    int64_t prefetch;                                      /* batches kept ready */
    int64_t decoder;                                       /* dt_decoder: of JPEG data */
    int64_t synthetic_samples;                             /* "synthetic": samples per epoch */
    int64_t synthetic_channels, synthetic_classes;
    char synthetic_fields[DT_KEY_STRING_MAX]; /* "": images */
    bool allow_changed;                       /* resume on other samples */
    int64_t context;                          /* tokens of a sample */
    int64_t documents;                        /* dt_documents */
    bool masked;                              /* no key: tokens are hidden, as the task has it */
    bool stream; /* no key: classes of documents are left aside, as the task has it */
    double mask_share, mask_random, mask_keep;
    int64_t mask_token; /* -1: the one after the vocabulary */
    bool verify;        /* check every sample's checksum while reading */
} dt_data_options;
extern const dt_section dt_data_section;

/* [augment] */
typedef struct dt_augment_options {
    int64_t crop;                                      /* dt_crop */
    int64_t pad;                                       /* DT_CROP_PAD: pixels on each side */
    double scale_min, scale_max, ratio_min, ratio_max; /* DT_CROP_RANDOM_RESIZED */
    bool flip;
    double mean[4], stddev[4]; /* n_mean entries; 0 entries: the data's own */
    int32_t n_mean, n_stddev;
    double eval_resize; /* evaluation: centre crop of image_size out of this side; 0: no resize */
    int64_t policy;     /* dt_policy */
    int64_t policy_ops, policy_magnitude, policy_bins, fill;
    double brightness, contrast, saturation, hue; /* 0: as it is */
    double grayscale, erase;                      /* probabilities */
    double erase_scale_min, erase_scale_max, erase_ratio_min, erase_ratio_max;
    int64_t erase_fill;   /* dt_erase_fill */
    double mixup, cutmix; /* of the Beta distribution; 0: off */
    double mix_prob, mix_switch;
    int64_t mix_each; /* dt_mix_each */
    int64_t repeats;
} dt_augment_options;
extern const dt_section dt_augment_section;

#endif
