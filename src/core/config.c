/* The configuration's key table: the only place that knows the keys of the sections.
 * Reading is in config_read.c, cross checks in config_check.c, [[model.layers]] in config_layers.c, writing
 * and documentation in config_write.c. A new key is a field of dt_config and a row here. */
#include "config_table.h"
#include "core/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const device_names[] = {
    [DT_DEVICE_AUTO] = "auto", [DT_DEVICE_CPU] = "cpu", [DT_DEVICE_CUDA] = "cuda", NULL};
static const char *const precision_names[] = {[DT_PRECISION_FP32] = "fp32",
                                              [DT_PRECISION_TF32] = "tf32",
                                              [DT_PRECISION_BF16] = "bf16",
                                              [DT_PRECISION_FP16] = "fp16",
                                              NULL};
static const char *const optim_names[] = {[DT_CFG_SGD] = "sgd",
                                          [DT_CFG_MOMENTUM] = "momentum",
                                          [DT_CFG_NESTEROV] = "nesterov",
                                          [DT_CFG_ADAMW] = "adamw",
                                          NULL};
static const char *const schedule_names[] = {
    [DT_SCHEDULE_CONSTANT] = "constant", [DT_SCHEDULE_STEP] = "step",
    [DT_SCHEDULE_COSINE] = "cosine",     [DT_SCHEDULE_POLYNOMIAL] = "polynomial",
    [DT_SCHEDULE_LINEAR] = "linear",     [DT_SCHEDULE_WSD] = "wsd",
    [DT_SCHEDULE_WSD_SQRT] = "wsd_sqrt", NULL};
static const char *const crop_names[] = {
    [DT_CROP_NONE] = "none", [DT_CROP_PAD] = "pad", [DT_CROP_RANDOM_RESIZED] = "random_resized", NULL};
static const char *const decoder_names[] = {
    [DT_DECODER_AUTO] = "auto", [DT_DECODER_CPU] = "cpu", [DT_DECODER_NVJPEG] = "nvjpeg", NULL};
static const char *const comm_names[] = {
    [DT_COMM_AUTO] = "auto", [DT_COMM_MPI] = "mpi", [DT_COMM_NCCL] = "nccl", NULL};
static const char *const capture_names[] = {[DT_CAPTURE_OFF] = "off", [DT_CAPTURE_STEP] = "step", NULL};
static const char *const fusion_names[] = {[DT_FUSION_OFF] = "off", [DT_FUSION_AUTO] = "auto", NULL};
static const char *const payload_names[] = {
    [DT_PAYLOAD_COMPUTE] = "compute", [DT_PAYLOAD_FP32] = "fp32", NULL};
static const char *const best_metric_names[] = {[DT_BEST_EVAL_TOP1] = "eval_top1",
                                                [DT_BEST_EVAL_TOP5] = "eval_top5",
                                                [DT_BEST_EVAL_LOSS] = "eval_loss",
                                                NULL};
static const char *const save_error_names[] = {
    [DT_SAVE_ERROR_WARN] = "warn", [DT_SAVE_ERROR_STOP] = "stop", NULL};

#define KEY(name, kind_, field)                                                                              \
    .key = name, .kind = kind_, .offset = offsetof(dt_config, field), .size = sizeof(((dt_config *)0)->field)
#define BOOL(name, field)              KEY(name, DT_KEY_BOOL, field)
#define CHOICE(name, field, names)     KEY(name, DT_KEY_CHOICE, field), .choices = names
#define STRING(name, field)            KEY(name, DT_KEY_STRING, field)
#define INT(name, field, min_, max_)   KEY(name, DT_KEY_INT, field), .min = min_, .max = max_
#define FLOAT(name, field, min_, max_) KEY(name, DT_KEY_FLOAT, field), .min = min_, .max = max_
#define FLOATS(name, field, count, min_, max_)                                                               \
    .key = name, .kind = DT_KEY_FLOATS, .offset = offsetof(dt_config, field),                                \
    .size = sizeof(((dt_config *)0)->field) / sizeof(double), .count_offset = offsetof(dt_config, count),    \
    .min = min_, .max = max_
#define MATHS     .flags = DT_KEY_MATHS
#define STEPS_MAX 1e12

/* Sections stand together, in the order in which they are written and documented. */
const dt_key_row dt_key_table[] = {
    {STRING("run.out_dir", run.out_dir), .help = "Directory of the run: checkpoints, metrics, resolved "
                                                 "configuration. Not set: runs/ and the name of the "
                                                 "configuration file"},
    {STRING("run.resume", run.resume), .fallback = "auto",
     .help = "auto: continue from run.out_dir's newest usable checkpoint; never: start anew; best: "
             "run.out_dir's best "
             "evaluated checkpoint, by checkpoint.best_metric; or the path of a checkpoint or run directory "
             "to start from"},
    {INT("run.seed", run.seed, 0, 0x1p63), MATHS, .fallback = "1",
     .help = "Seed of weights, sample order, augmentation and dropout"},
    {CHOICE("run.device", run.device, device_names), .fallback = "auto",
     .help = "auto takes a GPU where there is one"},
    {INT("run.threads", run.threads, 0, 4096), .fallback = "0",
     .help = "CPU compute threads per rank; they do not change results. 0: cores, or a container's CPU quota "
             "where that is less, / ranks on the host"},
    {INT("run.log_every", run.log_every, 1, STEPS_MAX), .fallback = "50",
     .help = "Steps between progress lines where the output is not a terminal"},
    {CHOICE("run.capture", run.capture, capture_names), .fallback = "step",
     .help = "GPU: step replays the whole training step as one CUDA graph"},
    {BOOL("run.tensorboard", run.tensorboard), .fallback = "true", .help = "Write TensorBoard event files"},

    {STRING("model.name", model.name), MATHS, .choices = dt_model_choices, .fallback = "resnet18",
     .help = "Built-in model, or layers for the [[model.layers]] of this file"},
    {INT("model.classes", model.classes, 0, 1 << 20), MATHS, .fallback = "0",
     .help = "Outputs of the classifier; 0: as many as the data has classes"},
    {BOOL("model.small_stem", model.small_stem), MATHS, .fallback = "false",
     .help = "ResNet: 3x3 stem with stride 1 and no max-pool, for images of about 32 pixels"},
    {BOOL("model.zero_init_residual", model.zero_init_residual), MATHS, .fallback = "true",
     .help = "ResNet: the last batch-norm of each block starts with weight 0, so that blocks start as "
             "identities"},
    {FLOAT("model.bn_momentum", model.bn_momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "0.1", .help = "Weight of the new batch in the running statistics of batch-norm"},
    {FLOAT("model.bn_eps", model.bn_eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-5",
     .help = "Added to the variance in batch-norm"},

    {STRING("data.train", data.train), .flags = DT_KEY_REQUIRED | DT_KEY_MATHS,
     .help = "Training set: directory of shards, one shard file, or synthetic"},
    {STRING("data.val", data.val), .fallback = "",
     .help = "Evaluation set: directory of shards, one shard file, or synthetic; empty: no evaluation"},
    {INT("data.image_size", data.image_size, 0, 16384), MATHS, .fallback = "0",
     .help = "Height and width fed to the model, in pixels; 0: as stored"},
    {INT("data.channels", data.channels, 0, 4), .fallback = "0",
     .help = "Channels of the images; data with another number is refused. 0: as many as the data has"},
    {INT("data.workers", data.workers, 0, 1024), .fallback = "0",
     .help = "Loader threads per rank; 0: on a CPU one, on a GPU as run.threads"},
    {INT("data.prefetch", data.prefetch, 1, 256), .fallback = "4", .help = "Batches kept ready"},
    {CHOICE("data.decoder", data.decoder, decoder_names), .fallback = "auto",
     .help = "What decodes JPEG data: cpu: the loader threads, by libjpeg-turbo; nvjpeg: the GPU, by nvJPEG, "
             "with its hardware decoder where there is one (files that it does not take go to the loader "
             "threads); auto: cpu, whose pixels are the same on every machine"},
    {INT("data.synthetic_samples", data.synthetic_samples, 1, 1e12), MATHS, .fallback = "10240",
     .help = "synthetic: samples per epoch"},
    {INT("data.synthetic_channels", data.synthetic_channels, 1, 4), MATHS, .fallback = "3",
     .help = "synthetic: channels per image, where data.channels is 0"},
    {INT("data.synthetic_classes", data.synthetic_classes, 2, 1 << 20), MATHS, .fallback = "10",
     .help = "synthetic: classes"},
    {BOOL("data.verify", data.verify), .fallback = "true",
     .help = "Check every sample's checksum while reading"},

    {CHOICE("augment.crop", augment.crop, crop_names), MATHS, .fallback = "none",
     .help =
         "Training crop: pad (add augment.pad pixels on each side, crop at random) or random_resized (random "
         "area and aspect ratio, resized to data.image_size)"},
    {INT("augment.pad", augment.pad, 0, 1024), MATHS, .fallback = "4",
     .help = "crop = pad: pixels added on each side"},
    {FLOAT("augment.scale_min", augment.scale_min, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "0.08", .help = "crop = random_resized: smallest area, as a fraction of the image"},
    {FLOAT("augment.scale_max", augment.scale_max, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "1.0", .help = "crop = random_resized: largest area, as a fraction of the image"},
    {FLOAT("augment.ratio_min", augment.ratio_min, 0, 100), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "0.75", .help = "crop = random_resized: smallest width / height"},
    {FLOAT("augment.ratio_max", augment.ratio_max, 0, 100), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "1.3333333333333333", .help = "crop = random_resized: largest width / height"},
    {BOOL("augment.flip", augment.flip), MATHS, .fallback = "false",
     .help = "Mirror training images left to right, every second one at random"},
    {FLOATS("augment.mean", augment.mean, augment.n_mean, -INFINITY, INFINITY), MATHS, .fallback = "[]",
     .help = "Subtracted per channel, for pixels in 0 to 1; []: the data's own mean"},
    {FLOATS("augment.std", augment.stddev, augment.n_stddev, 0, INFINITY),
     .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "[]",
     .help = "Divides per channel after the mean is subtracted; []: the data's own standard deviation"},
    {FLOAT("augment.eval_resize", augment.eval_resize, 0, 16384), MATHS, .fallback = "0.0",
     .help = "The shorter side is resized to this many pixels before the centre crop, in evaluation, and in "
             "training where crop = none; 0: no resize"},

    {INT("train.global_batch", train.global_batch, 1, 1 << 24), MATHS, .fallback = "128",
     .help = "Samples per optimizer step over all ranks; the number of ranks only divides it"},
    {INT("train.micro_batch", train.micro_batch, 0, 1 << 24), MATHS, .fallback = "0",
     .help =
         "Samples per forward and backward pass; a step accumulates global_batch / micro_batch of them over "
         "all ranks. 0: one pass per rank"},
    {INT("train.steps", train.steps, 0, STEPS_MAX), MATHS, .fallback = "0",
     .help = "Ends the run after this many steps, where that is earlier than train.epochs; 0: epochs decide"},
    {FLOAT("train.epochs", train.epochs, 0, 1e9), MATHS, .fallback = "0.0",
     .help = "Passes over the training set; fractions are allowed. 0: steps decide"},
    {CHOICE("train.precision", train.precision, precision_names), MATHS, .fallback = "fp32",
     .help =
         "Arithmetic of forward and backward; weights are kept in fp32 throughout. The CPU computes in fp32"},
    {FLOAT("train.label_smoothing", train.label_smoothing, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX,
     .fallback = "0.0", .help = "Part of the target probability spread evenly over all classes"},
    {FLOAT("train.clip_norm", train.clip_norm, 0, INFINITY), MATHS, .fallback = "0.0",
     .help = "Largest global L2 norm of the gradient; longer ones are scaled down to it. 0: off"},
    {FLOAT("train.ema", train.ema, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.0",
     .help = "Decay per step of the moving average of the weights and of batch norm's running statistics, "
             "which reaches back "
             "about 1 / (1 - ema) steps and is what evaluation then judges by (it measures the current "
             "weights, too); 0: off"},
    {FLOAT("train.loss_scale", train.loss_scale, 0, 0x1p32), MATHS, .fallback = "0.0",
     .help = "Factor on the loss against fp16 underflow; 0: chosen (1024 in fp16, else 1)"},
    {INT("train.loss_scale_growth", train.loss_scale_growth, 0, 1 << 30), MATHS, .fallback = "0",
     .help = "Dynamic loss scale: doubled after so many good steps, halved at a bad one (2000 is usual); 0: "
             "static"},
    {INT("train.eval_every_epochs", train.eval_every_epochs, 0, 1000000), .fallback = "1",
     .help = "Epochs between evaluations; 0: only at the end"},
    {INT("train.eval_batch", train.eval_batch, 0, 1 << 24), .fallback = "0",
     .help = "Samples per evaluation pass of a rank; 0: as in training"},
    {BOOL("train.deterministic", train.deterministic), MATHS, .fallback = "false",
     .help = "GPU: only algorithms whose results repeat bit for bit, chosen without timing them, which is "
             "slower. The CPU always repeats"},
    {CHOICE("train.fusion", train.fusion, fusion_names), .fallback = "auto",
     .help = "auto joins neighbouring operations where the device says it pays; off runs each alone, to "
             "look for an error"},
    {INT("train.max_skipped", train.max_skipped, 1, 1000000), .fallback = "10",
     .help = "Steps in a row that may be skipped for a non-finite loss or gradient before the run ends"},
    {INT("train.early_stop_patience", train.early_stop_patience, 0, 1000000), .fallback = "0",
     .help = "Ends the run, as done, after so many evaluations in a row that were no better than the best "
             "before by "
             "checkpoint.best_metric; 0: off"},
    {FLOAT("train.early_stop_min_delta", train.early_stop_min_delta, 0, 1e9), .fallback = "0.0",
     .help = "By how much more than this an evaluation must be better to count as such; of an accuracy as a "
             "fraction: "
             "0.001 is a tenth of a percent"},

    {CHOICE("optim.kind", optim.kind, optim_names), MATHS, .fallback = "momentum", .help = "Optimizer"},
    {FLOAT("optim.lr", optim.lr, 0, 1e6), MATHS, .fallback = "0.1",
     .help = "Peak learning rate, for the whole global batch; the schedule scales it"},
    {FLOAT("optim.momentum", optim.momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX,
     .fallback = "0.9", .help = "momentum, nesterov: decay of the velocity"},
    {FLOAT("optim.weight_decay", optim.weight_decay, 0, 1e6), MATHS, .fallback = "1e-4",
     .help = "Weight decay; adamw: decoupled, else added to the gradient"},
    {FLOAT("optim.beta1", optim.beta1, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.9",
     .help = "adamw: decay of the first moment"},
    {FLOAT("optim.beta2", optim.beta2, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.999",
     .help = "adamw: decay of the second moment"},
    {FLOAT("optim.eps", optim.eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-8",
     .help = "adamw: added to the root of the second moment"},
    {BOOL("optim.decay_bn_and_bias", optim.decay_bn_and_bias), MATHS, .fallback = "false",
     .help = "Weight decay on batch-norm parameters and biases too"},

    {CHOICE("schedule.kind", schedule.kind, schedule_names), MATHS, .fallback = "cosine",
     .help = "How the learning rate goes from optim.lr to its end; wsd and wsd_sqrt hold it until the last "
             "schedule.cooldown of the run, whose fall is linear or steep at first (1 - sqrt)"},
    {FLOAT("schedule.warmup_epochs", schedule.warmup_epochs, 0, 1e9), MATHS, .fallback = "0.0",
     .help = "Epochs of linear rise to optim.lr at the start"},
    {INT("schedule.warmup_steps", schedule.warmup_steps, 0, STEPS_MAX), MATHS, .fallback = "0",
     .help = "The same in steps; where above 0 it wins over warmup_epochs"},
    {FLOAT("schedule.warmup_start", schedule.warmup_start, 0, 1), MATHS, .fallback = "0.0",
     .help = "Fraction of optim.lr that the first step has; 0: 1 / (steps of the warm-up + 1), so that every "
             "step adds as much and none has rate 0"},
    {FLOAT("schedule.final", schedule.final, 0, 1), MATHS, .fallback = "0.0",
     .help = "cosine, polynomial, linear, wsd, wsd_sqrt: fraction of optim.lr at the end"},
    {FLOAT("schedule.power", schedule.power, 0, 100), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "2.0", .help = "polynomial: exponent"},
    {FLOAT("schedule.cooldown", schedule.cooldown, 0, 1), MATHS, .fallback = "0.2",
     .help = "wsd, wsd_sqrt: fraction of the run, at its end, in which the learning rate falls"},
    {FLOAT("schedule.gamma", schedule.gamma, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "0.1", .help = "step: factor on the learning rate at each milestone"},
    {FLOATS("schedule.milestones", schedule.milestones, schedule.n_milestones, 0, 1e9),
     .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "[]",
     .help = "step: epochs after which the learning rate drops, ascending"},

    {CHOICE("dist.backend", dist.backend, comm_names), .fallback = "auto",
     .help = "Gradient reduction between ranks; auto: NCCL between GPUs, else MPI. With mpi GPUs and CPUs "
             "may train together"},
    {INT("dist.buckets", dist.buckets, 1, 64), .fallback = "3",
     .help = "Pieces in which gradients are reduced, each as soon as backward has completed it"},
    {BOOL("dist.overlap", dist.overlap), .fallback = "true",
     .help = "Reduce gradients while backward still runs"},
    {CHOICE("dist.payload", dist.payload, payload_names), MATHS, .fallback = "compute",
     .help = "Gradients on the wire: in the precision of the computation, or always fp32"},
    {FLOAT("dist.timeout_s", dist.timeout_s, 0, 86400), .flags = DT_KEY_OPEN_MIN, .fallback = "300.0",
     .help = "Seconds without progress after which a rank counts as lost; MPI's own start is not watched"},
    {BOOL("dist.share_gpu", dist.share_gpu), .fallback = "false",
     .help =
         "Let several ranks use one GPU (for tests); through MPI, or with dist.backend = \"nccl\" through "
         "NCCL 2.30 or later, which wants NCCL_MULTI_RANK_GPU_ENABLE=1"},

    {INT("checkpoint.every_steps", checkpoint.every_steps, 0, STEPS_MAX), .fallback = "0",
     .help = "Steps between checkpoints; 0: off. The end of the run is always saved"},
    {FLOAT("checkpoint.every_epochs", checkpoint.every_epochs, 0, 1e9), .fallback = "1.0",
     .help = "Epochs between checkpoints; 0: off"},
    {FLOAT("checkpoint.every_minutes", checkpoint.every_minutes, 0, 1e6), .fallback = "0.0",
     .help = "Minutes between checkpoints; 0: off"},
    {INT("checkpoint.keep_last", checkpoint.keep_last, 2, 1000000), .fallback = "3",
     .help = "Newest checkpoints kept; at least 2, so that one damaged file does not end the run. The newest "
             "whose "
             "evaluation was finite is kept besides"},
    {INT("checkpoint.keep_best", checkpoint.keep_best, 0, 1000000), .fallback = "0",
     .help = "Best evaluated checkpoints kept besides the newest, by checkpoint.best_metric; "
             "checkpoints/best leads to "
             "the first of them. 0: off"},
    {CHOICE("checkpoint.best_metric", checkpoint.best_metric, best_metric_names), .fallback = "eval_top1",
     .help = "What an evaluation is judged by, that of the averaged weights with train.ema: the accuracies "
             "are better "
             "when higher, the loss when lower; the earlier of two equals is the better"},
    {INT("checkpoint.keep_every", checkpoint.keep_every, 0, STEPS_MAX), .fallback = "0",
     .help = "Checkpoints at multiples of this many steps are never deleted; 0: off"},
    {BOOL("checkpoint.async", checkpoint.async), .fallback = "true",
     .help = "Write checkpoints in the background"},
    {CHOICE("checkpoint.on_error", checkpoint.on_error, save_error_names), .fallback = "warn",
     .help = "After a failed save: warn and train on, or stop"},
};
const int dt_key_count = (int)(sizeof dt_key_table / sizeof dt_key_table[0]);

void dt_config_init(dt_config *c) {
    *c = (dt_config){0};
    for (int i = 0; i < dt_key_count; i++) dt_key_set_default(&dt_key_table[i], c);
}

void dt_config_fini(dt_config *c) {
    free(c->model.layers);
    c->model.layers = NULL;
    c->model.n_layers = 0;
}
