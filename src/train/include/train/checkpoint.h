/* Coordinated checkpoints: one directory per step, DIR/step-00001234/, holding state.h5 and manifest.json.
 *
 * Every tensor is whole and named, so a checkpoint depends neither on the world size nor on the backend.
 * Rank 0 writes. Protocol: free space is checked; DIR/.tmp-<step>-<nonce>/ is written; each file fsynced; the
 * manifest (with length and XXH3 of state.h5 and of every tensor) written last and fsynced; the directory
 * fsynced, renamed, its parent fsynced. Loading verifies length and hash before HDF5 sees the file. What
 * evaluation found stands beside the manifest, in a file that may be replaced and may be missing. */
#ifndef DT_TRAIN_CHECKPOINT_H
#define DT_TRAIN_CHECKPOINT_H

#include "train/config.h"
#include "core/status.h"
#include "core/types.h"
#include "model/weight.h"
#include "train/scores.h"
#include "train/sink.h"

/* Each rank's own running statistics, and averaged ones; absent where there are none. */
#define DT_CKPT_LOCAL_STATE "local_state"
#define DT_CKPT_LOCAL_EMA   "local_ema"

typedef struct dt_ckpt_tensor {
    const char *name; /* "param/layer1.0.conv1.weight", "mom1/...", "ema/...", "state/bn1.running_mean" */
    int32_t ndim;
    int64_t dim[DT_MAX_DIM];
    float *data; /* fp32, host */
} dt_ckpt_tensor;

/* The rest of the state. Stored in the manifest and as attributes. */
typedef struct dt_ckpt_meta {
    int64_t step;    /* steps done: the next to run */
    int64_t samples; /* global samples consumed: the loader's whole state */
    int64_t global_batch, n_micro_all, seed;
    double loss_scale;
    int64_t good_steps;       /* dynamic loss scale: steps since the last change */
    int64_t optimizer_steps;  /* updates not skipped */
    int64_t skipped_in_a_row; /* steps up to this one whose loss or gradient was not finite */
    uint64_t config_hash;
    int64_t train_samples;    /* samples of the training set: the position in the data depends on it */
    uint64_t classes_xxh3;    /* of the training set's class names; 0: it has none */
    uint64_t statistics_xxh3; /* of the mean and deviation that images are normalised with */
    char optimizer[24];       /* whose state it holds; "": of a version that did not say */
} dt_ckpt_meta;

/* The last evaluation of the run so far, and the best. Of the averaged weights, where those are evaluated.
 * Stored beside the manifest as evaluation.json, which is replaced when a checkpoint that is there already
 * gets evaluated. */
typedef struct dt_ckpt_eval {
    int64_t step;      /* its weights'; -1: none yet. A checkpoint of that step is an evaluated one */
    int64_t task;      /* whose metrics they are: of dt_task_choices */
    dt_scores score;   /* loss NaN: not finite, whatever weights were evaluated */
    int64_t metric;    /* dt_best_metric that `best` is of */
    double best;       /* better by more than the least difference than all before; NaN: none yet */
    int64_t best_step; /* -1: none yet */
    int64_t worse;     /* evaluations since, none of them better */
} dt_ckpt_eval;

/* Before the first evaluation. */
dt_ckpt_eval dt_ckpt_eval_none(int64_t task, dt_best_metric metric);
/* Takes the evaluation of `step` into account; one of e->step is a repetition and not counted twice. Where
 * e->metric is another, best and count begin anew with this evaluation. */
void dt_ckpt_eval_add(dt_ckpt_eval *e, int64_t step, const dt_scores *score, dt_best_metric metric,
                      double min_delta);
/* Where the metric stands among the task's; -1: it is the loss, or another task's. */
int32_t dt_best_metric_index(const dt_task_row *task, dt_best_metric metric);
/* Whether the task can be judged by it. */
bool dt_best_metric_fits(const dt_task_row *task, dt_best_metric metric);
/* The task's first, eval_loss where it has none. */
dt_best_metric dt_best_metric_first(const dt_task_row *task);

typedef struct dt_ckpt_policy {
    const char *dir;    /* <out_dir>/checkpoints; created */
    int64_t keep_last;  /* >= 2; the newest with a finite evaluation stays besides */
    int64_t keep_every; /* steps; 0: off */
    int64_t keep_best;  /* 0: off */
    int64_t task;       /* of dt_task_choices */
    dt_best_metric best_metric;
    const dt_sink *sink;   /* borrowed; hears what went wrong beside a save, from the thread. NULL: nobody */
    const char *data_text; /* of every save: a JSON object that says what the run is fed; NULL: none */
    const dt_weight_list
        *export; /* borrowed: each checkpoint has these in model.safetensors, too; NULL: none has */
    const dt_graph *export_graph; /* borrowed; of dt_export: in model.onnx instead; NULL: not */
} dt_ckpt_policy;

typedef struct dt_ckpt_writer dt_ckpt_writer; /* one thread, at most one save in flight */

dt_status dt_ckpt_writer_create(const dt_ckpt_policy *policy, dt_ckpt_writer **out);
/* Starts a save: copies the tensors into the writer's own buffers (reused between saves), then writes in the
 * thread. Waits first for a save in flight. Refuses non-finite tensors (DT_ERR_NONFINITE). The config text is
 * stored as config.toml in the checkpoint and in the manifest. */
dt_status dt_ckpt_writer_save(dt_ckpt_writer *w, const dt_ckpt_meta *meta, int32_t n_tensor,
                              const dt_ckpt_tensor *tensor, const char *config_text);
/* The evaluation that saves from here on carry (dt_ckpt_eval_none before the first call). With step >= 0 it
 * is also written into the checkpoint of that step, in the thread and after a save in flight, and the
 * retention policy applied. That this fails is a warning to the sink: the checkpoint counts as not
 * evaluated. */
void dt_ckpt_writer_evaluated(dt_ckpt_writer *w, const dt_ckpt_eval *e, int64_t step);
/* Waits for the save in flight and returns its result (once; DT_OK if none since the last call). */
dt_status dt_ckpt_writer_wait(dt_ckpt_writer *w);
/* Whether a save has failed whose result was not yet handed over: dt_ckpt_writer_wait then gives it. Does not
 * wait. */
bool dt_ckpt_writer_failed(dt_ckpt_writer *w);
void dt_ckpt_writer_destroy(dt_ckpt_writer *w); /* waits; accepts NULL */

/* A verified checkpoint, fully in host memory. */
typedef struct dt_ckpt {
    char path[1024];
    dt_ckpt_meta meta;
    int32_t n_tensor;
    dt_ckpt_tensor *tensor; /* name and data owned */
    char *config_text;
    dt_ckpt_eval eval;
    bool has_eval;     /* false: of a version that kept none */
    bool eval_damaged; /* it had one: eval is dt_ckpt_eval_none */
    char *data_text;   /* as in the policy; NULL: written without, or before there was one */
} dt_ckpt;

/* Loads a checkpoint directory (one that holds manifest.json). DT_ERR_CHECKPOINT says what is wrong and
 * where. */
dt_status dt_ckpt_load(const char *path, dt_ckpt **out);
/* DT_ERR_CHECKPOINT where it has low-rank adapters that a network without them, of rank 0, would not read. */
dt_status dt_ckpt_check_adapters(const dt_ckpt *c, int64_t rank);
/* Newest usable checkpoint below `dir`: tries them newest first; each refused one is reported through `note`
 * (may be NULL). *out = NULL and DT_OK when there is none at all; DT_ERR_CHECKPOINT when all are damaged. */
dt_status dt_ckpt_load_latest(const char *dir, void (*note)(void *arg, const char *text), void *arg,
                              dt_ckpt **out);
/* Whether the path is that of a checkpoint or of a run. */
bool dt_ckpt_is_at(const char *path);
/* A checkpoint, or the newest of a run: DT_ERR_CHECKPOINT where it has none. */
dt_status dt_ckpt_load_at(const char *path, dt_ckpt **out);
/* Best usable checkpoint below `dir` among those with a finite evaluation, otherwise as dt_ckpt_load_latest.
 * *out = NULL and DT_OK when none is evaluated. */
dt_status dt_ckpt_load_best(const char *dir, dt_best_metric metric, void (*note)(void *arg, const char *text),
                            void *arg, dt_ckpt **out);
/* Whether a checkpoint with this evaluation would be one of the policy's best now. */
bool dt_ckpt_is_among_best(const dt_ckpt_policy *policy, const dt_ckpt_eval *e);
/* Step of the newest checkpoint below `dir` that looks whole by its manifest and lengths; its data are not
 * read. -1 and DT_OK when there is none at all; DT_ERR_CHECKPOINT when none looks whole. */
dt_status dt_ckpt_newest_step(const char *dir, int64_t *step);
void dt_ckpt_free(dt_ckpt *c);
/* NULL if absent. */
const dt_ckpt_tensor *dt_ckpt_find(const dt_ckpt *c, const char *name);

/* Exclusive lock of a run directory (flock on DIR/.lock, holding host, pid and job). Second user:
 * DT_ERR_USAGE naming the first. With wait_s > 0 the second waits that long first, for a holder that a
 * scheduler has given up, and `note` (may be NULL) is told: DT_ERR_PEER naming the holder when that was in
 * vain, DT_STOPPED when a signal asked to stop. The descriptor is released by dt_run_unlock or by process
 * exit. */
dt_status dt_run_lock(const char *out_dir, double wait_s, void (*note)(void *arg, const char *text),
                      void *arg, int *fd);
void dt_run_unlock(int fd);

#endif
