/* [data] and [augment]: the keys of the data sets, their loading and what is made of the images. */
#include "data/options.h"

#include "core/key_rows.h"

static const char *const crop_names[] = {
    [DT_CROP_NONE] = "none", [DT_CROP_PAD] = "pad", [DT_CROP_RANDOM_RESIZED] = "random_resized", NULL};
static const char *const decoder_names[] = {
    [DT_DECODER_AUTO] = "auto", [DT_DECODER_CPU] = "cpu", [DT_DECODER_NVJPEG] = "nvjpeg", NULL};

static const char *const policy_names[] = {[DT_POLICY_NONE] = "none",
                                           [DT_POLICY_RANDAUGMENT] = "randaugment",
                                           [DT_POLICY_TRIVIALAUGMENT] = "trivialaugment",
                                           NULL};
static const char *const erase_fill_names[] = {[DT_ERASE_MEAN] = "mean", [DT_ERASE_NOISE] = "noise", NULL};
static const char *const mix_each_names[] = {[DT_MIX_BATCH] = "batch", [DT_MIX_SAMPLE] = "sample", NULL};

static const char *const document_names[] = {
    [DT_DOCUMENTS_JOINED] = "joined", [DT_DOCUMENTS_ISOLATED] = "isolated", NULL};

#define MASKED  "model.task = masked_language"
#define KEYS_OF dt_data_options
static const dt_key_row data_keys[] = {
    {STRING("train", train), .flags = DT_KEY_REQUIRED | DT_KEY_MATHS,
     .help = "Training set: directory of shards, one shard file, or synthetic"},
    {STRING("val", val), .fallback = "",
     .help = "Evaluation set: directory of shards, one shard file, or synthetic; empty: no evaluation"},
    {INT("image_size", image_size, 0, 16384), MATHS, .fallback = "0", .only = "images",
     .help = "Height and width fed to the model, in pixels; 0: as stored"},
    {INT("val_size", val_size, 0, 16384), .flags = DT_KEY_LATER, .fallback = "0", .only = "images",
     .help =
         "The same in evaluation, where it is to be another, such as more pixels than in training; 0: as in "
         "training. Networks whose weights depend on the size cannot have it, but vision transformers can, "
         "whose "
         "positions are interpolated (bicubic). With augment.crop = pad smaller images are padded to it; "
         "augment.eval_resize enlarges them"},
    {INT("channels", channels, 0, 4), .fallback = "0", .only = "images",
     .help = "Channels of the images; data with another number is refused. 0: as many as the data has"},
    {INT("workers", workers, 0, 1024), .fallback = "0",
     .help = "Loader threads per rank; 0: on a CPU one, on a GPU as run.threads"},
    {INT("prefetch", prefetch, 1, 256), .fallback = "4", .help = "Batches kept ready"},
    {CHOICE("decoder", decoder, decoder_names), .fallback = "auto", .only = "images",
     .help = "What decodes JPEG data: cpu: the loader threads, by libjpeg-turbo; nvjpeg: the GPU, by nvJPEG, "
             "with its hardware decoder where there is one (files that it does not take go to the loader "
             "threads); auto: cpu, whose pixels are the same on every machine"},
    {INT("synthetic_samples", synthetic_samples, 1, 1e12), MATHS, .fallback = "10240",
     .only = "data.train = synthetic | data.val = synthetic", .help = "Samples per epoch"},
    {INT("synthetic_channels", synthetic_channels, 1, 4), MATHS, .fallback = "3",
     .only = "images & data.train = synthetic | images & data.val = synthetic",
     .help = "Channels per image, where data.channels is 0"},
    {INT("synthetic_classes", synthetic_classes, 2, 1 << 20), MATHS, .fallback = "10",
     .only = "data.train = synthetic | data.val = synthetic",
     .help = "Classes, and the number below which the whole numbers of synthetic_fields lie"},
    {STRING("synthetic_fields", synthetic_fields), LATER_MATHS, .fallback = "",
     .only = "data.train = synthetic | data.val = synthetic",
     .help = "Instead of images the fields x:f32[13] y:i32 and so on, each with a name, a type "
             "(f32, f16, "
             "f64, u8, i32, i64) and the shape of a row"},
    {BOOL("allow_changed", allow_changed), .flags = DT_KEY_LATER, .fallback = "false",
     .help = "Let a run continue although its training set holds other samples now than its checkpoint says"},
    {INT("context", context, 1, 1 << 24), LATER_MATHS, .fallback = "1024", .only = "tokens",
     .help = "Tokens of a sample: the text is cut into pieces of this length"},
    {CHOICE("documents", documents, document_names), LATER_MATHS, .fallback = "joined", .only = "tokens",
     .help =
         "joined: a sample may reach over the end of a document; isolated: nothing is learnt of one "
         "document for another: its first token is not predicted, and attention sees the tokens of its own "
         "document alone (field segment). Recurrent layers and positions go on over its end"},
    {FLOAT("mask_share", mask_share, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "0.15", .only = MASKED,
     .help = "Part of the tokens that are to be found, drawn anew in each epoch; in evaluation always "
             "the same ones. Ends of documents are none of them"},
    {FLOAT("mask_random", mask_random, 0, 1), LATER_MATHS, .fallback = "0.1", .only = MASKED,
     .help = "Part of these in whose place stands any token"},
    {FLOAT("mask_keep", mask_keep, 0, 1), LATER_MATHS, .fallback = "0.1", .only = MASKED,
     .help = "Part of these that stand there as they are; in place of all others stands the mask"},
    {INT("mask_token", mask_token, -1, (1 << 24) - 1), LATER_MATHS, .fallback = "-1", .only = MASKED,
     .help = "The mask; -1: the number after the tokenizer's last, which the vocabulary gets besides"},
    {BOOL("verify", verify), .fallback = "true", .help = "Check every sample's checksum while reading"},
};
const dt_section dt_data_section = SECTION("data", data_keys);
#undef KEYS_OF

#define KEYS_OF dt_augment_options
static const dt_key_row augment_keys[] = {
    {CHOICE("crop", crop, crop_names), MATHS, .fallback = "none", .only = "images",
     .help =
         "Training crop: pad (add augment.pad pixels on each side, crop at random) or random_resized (random "
         "area and aspect ratio, resized to data.image_size)"},
    {INT("pad", pad, 0, 1024), MATHS, .fallback = "4", .only = "images & augment.crop = pad",
     .help = "Pixels added on each side"},
    {FLOAT("scale_min", scale_min, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "0.08",
     .only = "images & augment.crop = random_resized", .help = "Smallest area, as a fraction of the image"},
    {FLOAT("scale_max", scale_max, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1.0",
     .only = "images & augment.crop = random_resized", .help = "Largest area, as a fraction of the image"},
    {FLOAT("ratio_min", ratio_min, 0, 100), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "0.75",
     .only = "images & augment.crop = random_resized", .help = "Smallest width / height"},
    {FLOAT("ratio_max", ratio_max, 0, 100), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "1.3333333333333333", .only = "images & augment.crop = random_resized",
     .help = "Largest width / height"},
    {BOOL("flip", flip), MATHS, .fallback = "false", .only = "images",
     .help = "Mirror training images left to right, every second one at random"},
    {FLOATS("mean", mean, n_mean, -INFINITY, INFINITY), MATHS, .fallback = "[]", .only = "images",
     .help = "Subtracted per channel, for pixels in 0 to 1; []: the data's own mean"},
    {FLOATS("std", stddev, n_stddev, 0, INFINITY), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "[]",
     .only = "images",
     .help = "Divides per channel after the mean is subtracted; []: the data's own standard deviation"},
    {FLOAT("eval_resize", eval_resize, 0, 16384), MATHS, .fallback = "0.0", .only = "images",
     .help = "The shorter side is resized to this many pixels before the centre crop, in evaluation, and in "
             "training where crop = none; 0: no resize"},
    {CHOICE("policy", policy, policy_names), LATER_MATHS, .fallback = "none", .only = "images",
     .help =
         "Operations drawn from a list, after crop and flip: randaugment: augment.policy_ops of them, each "
         "with "
         "augment.policy_magnitude; trivialaugment: one, with any magnitude (TrivialAugmentWide). The "
         "lists are torchvision's"},
    {INT("policy_ops", policy_ops, 1, DT_POLICY_OPS_MAX), LATER_MATHS, .fallback = "2",
     .only = "images & augment.policy = randaugment", .help = "Operations on each image"},
    {INT("policy_magnitude", policy_magnitude, 0, 255), LATER_MATHS, .fallback = "9",
     .only = "images & augment.policy = randaugment",
     .help = "How strong they are, below augment.policy_bins"},
    {INT("policy_bins", policy_bins, 2, 256), LATER_MATHS, .fallback = "31",
     .only = "images & augment.policy = randaugment, trivialaugment", .help = "Steps from none to strongest"},
    {INT("fill", fill, 0, 255), LATER_MATHS, .fallback = "0",
     .only = "images & augment.policy = randaugment, trivialaugment",
     .help = "Level of pixels that shearing, shifting and turning bring in from outside"},
    {FLOAT("brightness", brightness, 0, 100), LATER_MATHS, .fallback = "0.0", .only = "images",
     .help = "Colour jitter, in random order: a factor drawn evenly between 1 - this, not below 0, and 1 + "
             "this"},
    {FLOAT("contrast", contrast, 0, 100), LATER_MATHS, .fallback = "0.0", .only = "images",
     .help = "The same, away from the image's mean grey"},
    {FLOAT("saturation", saturation, 0, 100), LATER_MATHS, .fallback = "0.0", .only = "images",
     .help = "The same, away from each pixel's grey; images of one channel stay as they are"},
    {FLOAT("hue", hue, 0, 0.5), LATER_MATHS, .fallback = "0.0", .only = "images",
     .help = "Colour jitter: the hue is turned by a part of the circle drawn evenly between -this and this; "
             "images of one channel stay as they are"},
    {FLOAT("grayscale", grayscale, 0, 1), LATER_MATHS, .fallback = "0.0", .only = "images",
     .help = "Probability of an image becoming grey, in all its channels"},
    {FLOAT("erase", erase, 0, 1), LATER_MATHS, .fallback = "0.0", .only = "images",
     .help = "Probability of a random rectangle being erased, after normalising (RandomErasing)"},
    {FLOAT("erase_scale_min", erase_scale_min, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "0.02", .only = "images & augment.erase > 0",
     .help = "Its smallest area, as a fraction of the image"},
    {FLOAT("erase_scale_max", erase_scale_max, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "0.33", .only = "images & augment.erase > 0",
     .help = "Its largest area, as a fraction of the image"},
    {FLOAT("erase_ratio_min", erase_ratio_min, 0, 100),
     .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN, .fallback = "0.3",
     .only = "images & augment.erase > 0", .help = "Its smallest height / width"},
    {FLOAT("erase_ratio_max", erase_ratio_max, 0, 100),
     .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN, .fallback = "3.3",
     .only = "images & augment.erase > 0", .help = "Its largest height / width"},
    {CHOICE("erase_fill", erase_fill, erase_fill_names), LATER_MATHS, .fallback = "mean",
     .only = "images & augment.erase > 0",
     .help = "What it holds: mean: 0 after normalising; noise: normal random numbers"},
    {FLOAT("mixup", mixup, 0, 1000), LATER_MATHS, .fallback = "0.0", .only = "images & model.task = classify",
     .help =
         "Images and labels become lambda of themselves and 1 - lambda of another of their micro-batch, its "
         "row r and the r-th from its end, with lambda of Beta(this, this); 0: off"},
    {FLOAT("cutmix", cutmix, 0, 1000), LATER_MATHS, .fallback = "0.0",
     .only = "images & model.task = classify",
     .help = "A rectangle of 1 - lambda of the image comes from that other one, with lambda of Beta(this, "
             "this), and labels are mixed by area; 0: off"},
    {FLOAT("mix_prob", mix_prob, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "1.0", .only = "augment.mixup > 0 | augment.cutmix > 0",
     .help = "Probability of mixing at all"},
    {FLOAT("mix_switch", mix_switch, 0, 1), LATER_MATHS, .fallback = "0.5",
     .only = "augment.mixup > 0 & augment.cutmix > 0",
     .help = "Probability of cutmix, where it is not mixup"},
    {CHOICE("mix_each", mix_each, mix_each_names), LATER_MATHS, .fallback = "batch",
     .only = "augment.mixup > 0 | augment.cutmix > 0",
     .help = "What mixup, cutmix, lambda and rectangle are drawn for: a global batch, or each sample"},
    {INT("repeats", repeats, 1, 64), LATER_MATHS, .fallback = "1", .only = "images",
     .help = "How often a sample stands in the order of an epoch, one after the other, each time augmented "
             "anew: an epoch is as many steps, over that part of the samples (repeated augmentation)"},
};
const dt_section dt_augment_section = SECTION("augment", augment_keys);
#undef KEYS_OF
