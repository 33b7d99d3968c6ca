/* [run], [train] and [checkpoint]: the keys of a run. */
#include "train/options.h"

#include "core/key_rows.h"
#include "core/pass.h"
#include "model/task.h"

static const char *const device_names[] = {
    [DT_DEVICE_AUTO] = "auto", [DT_DEVICE_CPU] = "cpu", [DT_DEVICE_CUDA] = "cuda", NULL};
static const char *const capture_names[] = {[DT_CAPTURE_OFF] = "off", [DT_CAPTURE_STEP] = "step", NULL};
static const char *const precision_names[] = {[DT_PRECISION_FP32] = "fp32",
                                              [DT_PRECISION_TF32] = "tf32",
                                              [DT_PRECISION_BF16] = "bf16",
                                              [DT_PRECISION_FP16] = "fp16",
                                              NULL};

dt_dtype dt_precision_dtype(int64_t precision) {
    static const dt_dtype of[] = {
        [DT_PRECISION_FP32] = DT_DTYPE_F32,
        [DT_PRECISION_TF32] = DT_DTYPE_F32,
        [DT_PRECISION_BF16] = DT_DTYPE_BF16,
        [DT_PRECISION_FP16] = DT_DTYPE_F16,
    };
    return of[precision];
}

static const char *const fusion_names[] = {[DT_FUSION_OFF] = "off", [DT_FUSION_AUTO] = "auto", NULL};
static const char *const recompute_names[] = {[DT_RECOMPUTE_AUTO] = "auto",
                                              [DT_RECOMPUTE_LEVELS + DT_RECOMPUTE_NONE] = "none",
                                              [DT_RECOMPUTE_LEVELS + DT_RECOMPUTE_CHEAP] = "cheap",
                                              [DT_RECOMPUTE_LEVELS + DT_RECOMPUTE_BLOCKS] = "blocks",
                                              NULL};
static const char *const save_error_names[] = {
    [DT_SAVE_ERROR_WARN] = "warn", [DT_SAVE_ERROR_STOP] = "stop", NULL};
static const char *const export_names[] = {
    [DT_EXPORT_NONE] = "none", [DT_EXPORT_SAFETENSORS] = "safetensors", [DT_EXPORT_ONNX] = "onnx", NULL};

#define KEYS_OF dt_job_options
static const dt_key_row run_keys[] = {
    {STRING("out_dir", out_dir), .help = "Directory of the run: checkpoints, metrics, resolved "
                                         "configuration. Not set: runs/ and the name of the "
                                         "configuration file"},
    {STRING("resume", resume), .fallback = "auto",
     .help = "auto: continue from run.out_dir's newest usable checkpoint; never: start anew; best: "
             "run.out_dir's best "
             "evaluated checkpoint, by checkpoint.best_metric; or the path of a checkpoint or run directory "
             "to start from"},
    {INT("seed", seed, 0, 0x1p63), MATHS, .fallback = "1",
     .help = "Seed of weights, sample order, augmentation and dropout"},
    {CHOICE("device", device, device_names), .fallback = "auto",
     .help = "auto takes a GPU where there is one"},
    {INT("threads", threads, 0, 4096), .fallback = "0",
     .help = "CPU compute threads per rank; they do not change results. 0: cores, or a container's CPU quota "
             "where that is less, / ranks on the host"},
    {INT("log_every", log_every, 1, STEPS_MAX), .fallback = "50",
     .help = "Steps between progress lines where the output is not a terminal"},
    {CHOICE("capture", capture, capture_names), .fallback = "step",
     .help = "GPU: step replays the whole training step as one CUDA graph"},
    {BOOL("tensorboard", tensorboard), .fallback = "true", .help = "Write TensorBoard event files"},
};
const dt_section dt_run_section = SECTION("run", run_keys);
#undef KEYS_OF

#define KEYS_OF dt_train_options
static const dt_key_row train_keys[] = {
    {INT("global_batch", global_batch, 1, 1 << 24), MATHS, .fallback = "128",
     .only = "train.global_tokens = 0",
     .help = "Samples per optimizer step over all ranks; the number of ranks only divides it"},
    {INT("global_tokens", global_tokens, 0, 1LL << 40), LATER_MATHS, .fallback = "0", .only = "tokens",
     .help = "Of text, in place of global_batch: tokens per optimizer step over all ranks, a multiple of "
             "data.context; 0: "
             "not set"},
    {INT("micro_batch", micro_batch, 0, 1 << 24), MATHS, .fallback = "0",
     .help =
         "Samples per forward and backward pass; a step accumulates global_batch / micro_batch of them over "
         "all ranks. 0: one pass per rank"},
    {INT("steps", steps, 0, STEPS_MAX), MATHS, .fallback = "0",
     .help = "Ends the run after this many steps, where that is earlier than train.epochs; 0: epochs decide"},
    {FLOAT("epochs", epochs, 0, 1e9), MATHS, .fallback = "0.0",
     .help = "Passes over the training set; fractions are allowed. 0: steps decide"},
    {FLOATS("stage_epochs", stage_epoch, n_stage, 0, 1e9), LATER_MATHS, .fallback = "[]", .only = "images",
     .help =
         "Progressive learning: the epochs with which stages of training begin, from 0 on. []: there is one"},
    {FLOATS("stage_sizes", stage_size, n_stage_size, 1, 16384), LATER_MATHS, .fallback = "[]",
     .only = "images",
     .help = "Height and width of images in each stage, in training; evaluation has data.val_size, or "
             "data.image_size. []: as data.image_size says"},
    {FLOATS("stage_strengths", stage_strength, n_stage_strength, 0, 1000), LATER_MATHS, .fallback = "[]",
     .only = "images",
     .help = "Factor, in each stage, on the strength of augmentation: augment.policy_magnitude, the colour "
             "jitter, "
             "grayscale and erase, mixup and cutmix. []: 1"},
    {CHOICE("precision", precision, precision_names), MATHS, .fallback = "fp32",
     .help =
         "Arithmetic of forward and backward; weights are kept in fp32 throughout. The CPU computes in fp32"},
    {BOOL("sync_batch_norm", sync_batch_norm), LATER_MATHS, .fallback = "false",
     .help =
         "Batch norm's statistics, and their gradient, are those of the samples that all ranks have in this "
         "forward pass, as PyTorch's SyncBatchNorm has them: the whole batch without micro_batch. Ranks wait "
         "for each other at every batch norm. Without effect on one rank"},
    {FLOAT("label_smoothing", label_smoothing, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX,
     .fallback = "0.0",
     .only =
         "model.task = classify, language, masked_language | model.losses.kind = cross_entropy, class_bce",
     .help = "Part of the target probability spread evenly over all classes"},
    {FLOAT("clip_norm", clip_norm, 0, INFINITY), MATHS, .fallback = "0.0",
     .help = "Largest global L2 norm of the gradient; longer ones are scaled down to it. 0: off"},
    {FLOAT("ema", ema, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.0",
     .help = "Decay per step of the moving average of the weights and of batch norm's running statistics, "
             "which reaches back "
             "about 1 / (1 - ema) steps and is what evaluation then judges by (it measures the current "
             "weights, too); 0: off"},
    {FLOAT("ema_warmup", ema_warmup, 0, 1), LATER_MATHS, .fallback = "0.0", .only = "train.ema > 0",
     .help =
         "Power p of the average's warm-up: the decay of step n, from 0, is at most 1 - (1 + n)^-p, so that "
         "the first steps fade; 0.67 is usual. 0: none"},
    {FLOAT("loss_scale", loss_scale, 0, 0x1p32), MATHS, .fallback = "0.0",
     .help = "Factor on the loss against fp16 underflow; 0: chosen (1024 in fp16, else 1)"},
    {INT("loss_scale_growth", loss_scale_growth, 0, 1 << 30), MATHS, .fallback = "0",
     .help = "Dynamic loss scale: doubled after so many good steps, halved at a bad one (2000 is usual); 0: "
             "static"},
    {INT("eval_every_epochs", eval_every_epochs, 0, 1000000), .fallback = "1",
     .help = "Epochs between evaluations; 0: only at the end"},
    {INT("eval_batch", eval_batch, 0, 1 << 24), .fallback = "0",
     .help = "Samples per evaluation pass of a rank; 0: as in training"},
    {BOOL("deterministic", deterministic), MATHS, .fallback = "false",
     .help = "GPU: only algorithms whose results repeat bit for bit, chosen without timing them, which is "
             "slower. The CPU always repeats"},
    {CHOICE("fusion", fusion, fusion_names), .fallback = "auto",
     .help = "auto joins neighbouring operations where the device says it pays; off runs each alone, to "
             "look for an error"},
    {CHOICE("recompute", recompute, recompute_names), .flags = DT_KEY_LATER, .fallback = "auto",
     .help = "Activations that backward computes again instead of finding them in memory. cheap: all but "
             "results of "
             "convolutions, dense layers and attention; blocks: all but what enters a block of the network, "
             "at about "
             "a third more arithmetic; auto: none where the batch fits, else cheap, else blocks. dtrain "
             "inspect says "
             "what each needs"},
    {INT("max_skipped", max_skipped, 1, 1000000), .fallback = "10",
     .help = "Steps in a row that may be skipped for a non-finite loss or gradient before the run ends"},
    {INT("early_stop_patience", early_stop_patience, 0, 1000000), .fallback = "0",
     .help = "Ends the run, as done, after so many evaluations in a row that were no better than the best "
             "before by "
             "checkpoint.best_metric; 0: off"},
    {FLOAT("early_stop_min_delta", early_stop_min_delta, 0, 1e9), .fallback = "0.0",
     .only = "train.early_stop_patience > 0",
     .help = "By how much more than this an evaluation must be better to count as such; of an accuracy as a "
             "fraction: "
             "0.001 is a tenth of a percent"},
    {INT("sample_every_steps", sample_every_steps, 0, STEPS_MAX), .flags = DT_KEY_LATER, .fallback = "0",
     .only = "model.task = language",
     .help = "Steps between texts that the network goes on with, told on the terminal, in metrics.jsonl and "
             "to TensorBoard: "
             "by temperature 0.8, of train.ema's averaged weights where there are some. They change nothing "
             "else. 0: off"},
    {STRING("sample_prompt", sample_prompt), .flags = DT_KEY_LATER, .only = "train.sample_every_steps > 0",
     .help = "What they begin with; not set: as a document begins"},
    {INT("sample_tokens", sample_tokens, 1, 1 << 20), .flags = DT_KEY_LATER, .fallback = "48",
     .only = "train.sample_every_steps > 0",
     .help = "Tokens of each; with those of the prompt at most data.context"},
};
const dt_section dt_train_section = SECTION("train", train_keys);
#undef KEYS_OF

#define KEYS_OF dt_checkpoint_options
static const dt_key_row checkpoint_keys[] = {
    {INT("every_steps", every_steps, 0, STEPS_MAX), .fallback = "0",
     .help = "Steps between checkpoints; 0: off. The end of the run is always saved"},
    {FLOAT("every_epochs", every_epochs, 0, 1e9), .fallback = "1.0",
     .help = "Epochs between checkpoints; 0: off"},
    {FLOAT("every_minutes", every_minutes, 0, 1e6), .fallback = "0.0",
     .help = "Minutes between checkpoints; 0: off"},
    {INT("keep_last", keep_last, 2, 1000000), .fallback = "3",
     .help = "Newest checkpoints kept; at least 2, so that one damaged file does not end the run. The newest "
             "whose "
             "evaluation was finite is kept besides"},
    {INT("keep_best", keep_best, 0, 1000000), .fallback = "0",
     .help = "Best evaluated checkpoints kept besides the newest, by checkpoint.best_metric; "
             "checkpoints/best leads to "
             "the first of them. 0: off"},
    {CHOICE("best_metric", best_metric, dt_metric_choices), .fallback = "eval_top1",
     .help = "What an evaluation is judged by, that of the averaged weights with train.ema: the loss or a "
             "metric of the task, not set: its first. Losses, errors, perplexity and bits are better when "
             "lower, all "
             "others when higher; the earlier of two equals is the better"},
    {INT("keep_every", keep_every, 0, STEPS_MAX), .fallback = "0",
     .help = "Checkpoints at multiples of this many steps are never deleted; 0: off"},
    {BOOL("async", async), .fallback = "true", .help = "Write checkpoints in the background"},
    {CHOICE("on_error", on_error, save_error_names), .fallback = "warn",
     .help = "After a failed save: warn and train on, or stop"},
    {CHOICE("export", export, export_names), .flags = DT_KEY_LATER, .fallback = "none",
     .help =
         "safetensors: each checkpoint also has its weights, averaged ones where there are such, in "
         "model.safetensors, in PyTorch's layouts; onnx: the network in evaluation with them, in model.onnx"},
};
const dt_section dt_checkpoint_section = SECTION("checkpoint", checkpoint_keys);
#undef KEYS_OF
