/* The run's configuration: one plain struct, filled from TOML and command-line overrides through one table.
 *
 * The table in config.c has a row per key (name, type, field, range or choices, default, help) and is the
 * only place that knows keys: it parses, checks, prints the resolved file and writes docs/config.md. */
#ifndef DT_CORE_CONFIG_H
#define DT_CORE_CONFIG_H

#include <stdio.h>

#include "core/status.h"
#include "core/types.h"

enum { DT_CONFIG_STR_MAX = 1024, DT_CONFIG_LAYERS_MAX = 512, DT_CONFIG_MILESTONES_MAX = 16 };

typedef enum dt_device_choice { DT_DEVICE_AUTO = 0, DT_DEVICE_CPU, DT_DEVICE_CUDA } dt_device_choice;
typedef enum dt_precision {
    DT_PRECISION_FP32 = 0,
    DT_PRECISION_TF32,
    DT_PRECISION_BF16,
    DT_PRECISION_FP16
} dt_precision;
typedef enum dt_cfg_optim { DT_CFG_SGD = 0, DT_CFG_MOMENTUM, DT_CFG_NESTEROV, DT_CFG_ADAMW } dt_cfg_optim;
typedef enum dt_schedule_kind {
    DT_SCHEDULE_CONSTANT = 0,
    DT_SCHEDULE_STEP,
    DT_SCHEDULE_COSINE,
    DT_SCHEDULE_POLYNOMIAL,
    DT_SCHEDULE_LINEAR,
    DT_SCHEDULE_WSD,
    DT_SCHEDULE_WSD_SQRT
} dt_schedule_kind;
typedef enum dt_decoder { DT_DECODER_AUTO = 0, DT_DECODER_CPU, DT_DECODER_NVJPEG } dt_decoder;
typedef enum dt_crop { DT_CROP_NONE = 0, DT_CROP_PAD, DT_CROP_RANDOM_RESIZED } dt_crop;
typedef enum dt_comm_choice { DT_COMM_AUTO = 0, DT_COMM_MPI, DT_COMM_NCCL } dt_comm_choice;
typedef enum dt_capture_choice { DT_CAPTURE_OFF = 0, DT_CAPTURE_STEP } dt_capture_choice;
typedef enum dt_fusion_choice { DT_FUSION_OFF = 0, DT_FUSION_AUTO } dt_fusion_choice;
typedef enum dt_payload { DT_PAYLOAD_COMPUTE = 0, DT_PAYLOAD_FP32 } dt_payload;
typedef enum dt_save_error { DT_SAVE_ERROR_WARN = 0, DT_SAVE_ERROR_STOP } dt_save_error;
/* What an evaluation is judged by; train/checkpoint.h knows which way each is better. */
typedef enum dt_best_metric {
    DT_BEST_EVAL_TOP1 = 0,
    DT_BEST_EVAL_TOP5,
    DT_BEST_EVAL_LOSS,
    DT_BEST_COUNT
} dt_best_metric;

/* One [[model.layers]] entry. `type` names the layer; the other keys are checked against the layer's row. */
typedef struct dt_layer_config {
    char type[24]; /* conv, dense, batchnorm, relu, maxpool, avgpool, global_avgpool, flatten, dropout, add */
    char name[48]; /* "" : layer<i> */
    char from[48]; /* input: the name of an earlier layer, "input"; "" : the layer before */
    char with[48]; /* add: the other operand */
    int64_t channels;                              /* conv, dense: outputs */
    int64_t kernel, stride, pad, dilation, groups; /* pad -1: (kernel-1)*dilation/2 */
    bool bias;
    double rate;  /* dropout */
    int32_t line; /* of the config, for messages */
} dt_layer_config;

typedef struct dt_config {
    char path[DT_CONFIG_STR_MAX]; /* the file read, for messages */
    struct {
        char out_dir[DT_CONFIG_STR_MAX];
        /* "auto" | "never" | "best" | path of a checkpoint or run directory */
        char resume[DT_CONFIG_STR_MAX];
        int64_t seed;
        int64_t device;    /* dt_device_choice */
        int64_t threads;   /* CPU compute threads per rank; 0: cores / local ranks */
        int64_t log_every; /* steps between plain progress lines */
        int64_t capture;   /* dt_capture_choice */
        bool tensorboard;
    } run;
    struct {
        char name[64];   /* one of dt_model_choices */
        int64_t classes; /* 0: from the data */
        bool small_stem; /* resnet: 3x3/1 stem without max-pool, for 32 px images */
        bool zero_init_residual;
        double bn_momentum, bn_eps;
        int32_t n_layers;
        dt_layer_config *layers; /* owned */
    } model;
    struct {
        char train[DT_CONFIG_STR_MAX],
            val[DT_CONFIG_STR_MAX]; /* shard directory, shard file or "synthetic" */
        int64_t image_size;         /* H = W fed to the model; 0: as stored */
        int64_t channels;           /* of the images; 0: the data's own */
        int64_t workers;            /* loader threads per rank; 0: chosen */
        int64_t prefetch;           /* batches kept ready */
        int64_t decoder;            /* dt_decoder: of JPEG data */
        int64_t synthetic_samples;  /* "synthetic": samples per epoch */
        int64_t synthetic_channels, synthetic_classes;
        bool verify; /* check every sample's checksum while reading */
    } data;
    struct {
        int64_t crop;                                      /* dt_crop */
        int64_t pad;                                       /* DT_CROP_PAD: pixels on each side */
        double scale_min, scale_max, ratio_min, ratio_max; /* DT_CROP_RANDOM_RESIZED */
        bool flip;
        double mean[4], stddev[4]; /* n_mean entries; 0 entries: the data's own */
        int32_t n_mean, n_stddev;
        double eval_resize; /* evaluation: centre crop of image_size out of this side; 0: no resize */
    } augment;
    struct {
        int64_t global_batch;
        int64_t micro_batch; /* 0: one micro-batch per rank; else global_batch / micro_batch shards */
        int64_t steps;       /* 0: epochs decide */
        double epochs;
        int64_t precision; /* dt_precision */
        double label_smoothing;
        double clip_norm;          /* 0: off */
        double ema;                /* decay; 0: off */
        double loss_scale;         /* 0: chosen (1 in fp32/tf32/bf16, 1024 in fp16) */
        int64_t loss_scale_growth; /* steps; 0: static */
        int64_t eval_every_epochs; /* 0: only at the end */
        int64_t eval_batch;        /* 0: the micro-batch */
        bool deterministic;
        int64_t fusion;              /* dt_fusion_choice */
        int64_t max_skipped;         /* consecutive non-finite steps before giving up */
        int64_t early_stop_patience; /* evaluations without improvement that end the run; 0: off */
        double early_stop_min_delta; /* of checkpoint.best_metric */
    } train;
    struct {
        int64_t kind; /* dt_cfg_optim */
        double lr, momentum, weight_decay, beta1, beta2, eps;
        bool decay_bn_and_bias;
    } optim;
    struct {
        int64_t kind; /* dt_schedule_kind */
        double warmup_epochs;
        int64_t warmup_steps; /* > 0 wins over warmup_epochs */
        double warmup_start;  /* fraction of lr at step 0; 0: 1 / (warm-up steps + 1) */
        double final;         /* fraction of lr at the end */
        double power;         /* polynomial */
        double cooldown;      /* wsd, wsd_sqrt: fraction of the run */
        double gamma;         /* step */
        double milestones[DT_CONFIG_MILESTONES_MAX]; /* step: epochs */
        int32_t n_milestones;
    } schedule;
    struct {
        int64_t backend; /* dt_comm_choice */
        int64_t buckets; /* number of gradient buckets */
        bool overlap;
        int64_t payload; /* dt_payload */
        double timeout_s;
        bool share_gpu;
    } dist;
    struct {
        int64_t every_steps;  /* 0: by epochs only */
        double every_epochs;  /* 0: off */
        double every_minutes; /* 0: off */
        int64_t keep_last;    /* at least 2 */
        int64_t keep_every;   /* steps; such checkpoints are never deleted; 0: off */
        int64_t keep_best;    /* best evaluated ones, besides; 0: off */
        int64_t best_metric;  /* dt_best_metric */
        bool async;
        int64_t on_error; /* dt_save_error */
    } checkpoint;
} dt_config;

/* Fills the defaults; what `c` held before is not freed. */
void dt_config_init(dt_config *c);
/* Frees the layers. Harmless after a failed load, and twice. */
void dt_config_fini(dt_config *c);

/* Starts with dt_config_init: defaults, then the file, then `override` strings "section.key=value" (TOML
 * values; bare words are strings), then cross checks. Errors: DT_ERR_CONFIG with file:line:column, the key,
 * and the nearest valid name. */
dt_status dt_config_load(dt_config *c, const char *path, int n_override, const char *const *override);

/* The same from text in memory; `name` stands for the file in messages. */
dt_status dt_config_parse(dt_config *c, const char *name, const char *text, int n_override,
                          const char *const *override);

/* Writes every key with its value as TOML that dt_config_load reads back to the same struct. */
dt_status dt_config_write(const dt_config *c, FILE *out);
/* The same as text; caller frees. */
dt_status dt_config_to_text(const dt_config *c, char **out);

/* Hash of what changes the mathematics of a run: model, data, augmentation, training, optimizer, schedule,
 * seed, payload. A run and its exact resumption agree in it; output paths, threads, intervals and logging are
 * left out. */
uint64_t dt_config_hash(const dt_config *c);
/* Hash of every key: what the ranks of one job must agree in. */
uint64_t dt_config_hash_all(const dt_config *c);

/* The key table for people (`dtrain config`) and for docs/config.md. */
void dt_config_print_keys(FILE *out);
void dt_config_print_markdown(FILE *out);
/* A line per key, for programs: "optim.lr=", and behind it "|" between the values that it can have where they
 * are few. */
void dt_config_print_choices(FILE *out);

#endif
