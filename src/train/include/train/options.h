/* What a run may be told; each key is documented in its row. */
#ifndef DT_TRAIN_OPTIONS_H
#define DT_TRAIN_OPTIONS_H

#include "core/key.h"

typedef enum dt_precision {
    DT_PRECISION_FP32 = 0,
    DT_PRECISION_TF32,
    DT_PRECISION_BF16,
    DT_PRECISION_FP16
} dt_precision;
/* What is computed in. */
dt_dtype dt_precision_dtype(int64_t precision);
typedef enum dt_capture_choice { DT_CAPTURE_OFF = 0, DT_CAPTURE_STEP } dt_capture_choice;
typedef enum dt_fusion_choice { DT_FUSION_OFF = 0, DT_FUSION_AUTO } dt_fusion_choice;
typedef enum dt_recompute_choice {
    DT_RECOMPUTE_AUTO = 0, /* the first level that fits */
    DT_RECOMPUTE_LEVELS    /* from here on: 1 + dt_recompute (core/pass.h) */
} dt_recompute_choice;
typedef enum dt_save_error { DT_SAVE_ERROR_WARN = 0, DT_SAVE_ERROR_STOP } dt_save_error;
/* What an evaluation is judged by: an index in dt_metric_choices (model/task.h). */
typedef enum dt_best_metric { DT_BEST_EVAL_TOP1 = 0, DT_BEST_EVAL_TOP5, DT_BEST_EVAL_LOSS } dt_best_metric;

/* [run] */
typedef struct dt_job_options {
    char out_dir[DT_KEY_STRING_MAX];
    /* "auto" | "never" | "best" | path of a checkpoint or run directory */
    char resume[DT_KEY_STRING_MAX];
    int64_t seed;
    int64_t device;    /* dt_device */
    int64_t threads;   /* CPU compute threads per rank; 0: cores / local ranks */
    int64_t log_every; /* steps between plain progress lines */
    int64_t capture;   /* dt_capture_choice */
    bool tensorboard;
} dt_job_options;
extern const dt_section dt_run_section;

enum { DT_STAGES_MAX = 16 };

/* [train] */
typedef struct dt_train_options {
    int64_t global_batch;
    int64_t global_tokens; /* 0: global_batch says it; else that is derived */
    int64_t micro_batch;   /* 0: one micro-batch per rank; else global_batch / micro_batch shards */
    bool sync_batch_norm;  /* batch statistics are those of all ranks */
    double stage_epoch[DT_STAGES_MAX], stage_size[DT_STAGES_MAX], stage_strength[DT_STAGES_MAX];
    int32_t n_stage, n_stage_size, n_stage_strength; /* train/stages.h; 0: none */
    int64_t steps;                                   /* 0: epochs decide */
    double epochs;
    int64_t precision; /* dt_precision */
    double label_smoothing;
    double clip_norm;          /* 0: off */
    double ema;                /* decay; 0: off */
    double ema_warmup;         /* power of its warm-up; 0: none */
    double loss_scale;         /* 0: chosen (1 in fp32/tf32/bf16, 1024 in fp16) */
    int64_t loss_scale_growth; /* steps; 0: static */
    int64_t eval_every_epochs; /* 0: only at the end */
    int64_t eval_batch;        /* 0: the micro-batch */
    bool deterministic;
    int64_t fusion;              /* dt_fusion_choice */
    int64_t recompute;           /* dt_recompute_choice */
    int64_t max_skipped;         /* consecutive non-finite steps before giving up */
    int64_t early_stop_patience; /* evaluations without improvement that end the run; 0: off */
    double early_stop_min_delta; /* of checkpoint.best_metric */
    int64_t sample_every_steps;  /* 0: off */
    int64_t sample_tokens;
    char sample_prompt[DT_KEY_STRING_MAX];
} dt_train_options;
extern const dt_section dt_train_section;

typedef enum dt_export_choice { DT_EXPORT_NONE = 0, DT_EXPORT_SAFETENSORS, DT_EXPORT_ONNX } dt_export_choice;

/* [checkpoint] */
typedef struct dt_checkpoint_options {
    int64_t every_steps;  /* 0: by epochs only */
    double every_epochs;  /* 0: off */
    double every_minutes; /* 0: off */
    int64_t keep_last;    /* at least 2 */
    int64_t keep_every;   /* steps; such checkpoints are never deleted; 0: off */
    int64_t keep_best;    /* best evaluated ones, besides; 0: off */
    int64_t best_metric;  /* dt_best_metric */
    bool async;
    int64_t on_error; /* dt_save_error */
    int64_t export;   /* dt_export_choice */
} dt_checkpoint_options;
extern const dt_section dt_checkpoint_section;

#endif
