/* The engine: a compiled run. It owns the programs, the memory and the axis kernels, and runs micro-batches;
 * it decides nothing per step. The trainer feeds it and reads the metrics.
 *
 * Compiling: model graph -> passes (core/compile.h) -> plan -> bound kernels, once. Training
 * replays `micro` (forward, backward, accumulate) and `last` (the same, then reduction and update). */
#ifndef DT_TRAIN_ENGINE_H
#define DT_TRAIN_ENGINE_H

#include <stdio.h>

#include "core/backend.h"
#include "train/config.h"
#include "core/pass.h"
#include "core/program.h"
#include "data/loader.h"
#include "data/upload.h"
#include "dist/comm.h"
#include "dist/reduce.h"
#include "model/weight.h"
#include "train/checkpoint.h"

enum {
    DT_METRIC_LAG_MAX = 2,
    DT_FEEDS_MAX = 2 /* batches whose host memory may still be read: earlier ones must be waited for */
};

typedef struct dt_engine_options {
    const dt_config *config;
    dt_backend *be; /* borrowed */
    dt_comm *mpi;   /* borrowed; world, rank, agreement */
    dt_comm *comm;  /* gradients; may be mpi itself; NULL: no reduction (inspection, benchmarks) */
    /* The forward graph for that many rows, which the engine takes; NULL: the configured model for `data`. */
    dt_status (*forward)(void *arg, int64_t rows, bool training, dt_graph **out);
    void *forward_arg;
    const dt_dataset_info *data;
    const dt_upload_plan *upload; /* how batches get to the device; NULL: all is copied */
    bool any_gpu;                 /* some rank computes on a GPU: all lay the input out as it does */
    bool train;                   /* false: evaluation only */
    bool plan_only;               /* to be looked at: nothing is allocated, nothing can run */
    FILE *tell;                   /* what each pass of the compilation did (core/compile.h); NULL: nobody */
} dt_engine_options;

/* How the samples of a step are divided. */
typedef struct dt_division {
    int64_t global_batch;
    int64_t n_micro_all; /* micro-batches of a step over all ranks */
    int64_t n_micro;     /* of this rank */
    int64_t rows;        /* of this rank's micro-batches */
    int64_t eval_rows;
} dt_division;

typedef struct dt_step_result {
    int64_t step;
    float metric[DT_METRIC_COUNT]; /* summed over ranks */
    float norm2;
} dt_step_result;

typedef struct dt_engine dt_engine;

/* DT_ERR_CONFIG when the batch cannot be divided, with the fix. */
dt_status dt_division_make(const dt_config *c, int32_t rank, int32_t world, dt_division *out);

/* Compiles and allocates. Out of memory: DT_ERR_CONFIG that says the need, the free amount and the largest
 * batch that fits, before anything is allocated where the device tells. */
dt_status dt_engine_create(const dt_engine_options *o, dt_engine **out);
void dt_engine_destroy(dt_engine *e); /* accepts NULL */

/* Fresh weights, optimizer state and statistics from the seed. */
dt_status dt_engine_init(dt_engine *e);
/* The network's weights, by name and layout. */
const dt_weight_list *dt_engine_weights(const dt_engine *e);
/* The n of rank 0 instead of those of dt_engine_init, averages too: "param/..." and "state/..." of dt_engine_weights,
 * in their shapes. Collective; the other ranks' n are 0. */
dt_status dt_engine_begin_with(dt_engine *e, int32_t n, const dt_ckpt_tensor *tensor);
/* The same of those that the network's graph brings with it (dt_value.init_data), *n of them; nothing where it has none.
 * Collective. */
dt_status dt_engine_begin_given(dt_engine *e, int32_t *n);
/* Weights, optimizer state, averages and statistics of a checkpoint. A missing or misshapen tensor is
 * DT_ERR_CHECKPOINT; averages, of weights or of statistics, that are missing altogether start from what is
 * current. */
dt_status dt_engine_load(dt_engine *e, const dt_ckpt *c);
/* Brings the whole state to the host. Collective: statistics of all ranks are gathered. The tensors belong to
 * the engine and stay valid until the next call. */
dt_status dt_engine_snapshot(dt_engine *e, int32_t *n, const dt_ckpt_tensor **tensors);
/* Loss scale from here on; waits for the device. Before the first step. */
dt_status dt_engine_set_loss_scale(dt_engine *e, float scale, int32_t good_steps);
/* Updates that were not skipped, the loaded checkpoint's included; waits for the device. */
dt_status dt_engine_updates(dt_engine *e, int64_t *out);
/* Hash of the fp32 weights; equal on all ranks of a healthy run. */
dt_status dt_engine_hash(dt_engine *e, uint64_t *out);
/* Replaces the fp32 weights by rank 0's. Collective, between steps. */
dt_status dt_engine_take_parameters(dt_engine *e);

/* Goes on with another stage's program (train/stages.h); the first is on at first. Between steps. */
void dt_engine_set_stage(dt_engine *e, int32_t stage);
/* The training program of a stage, to be looked at. */
const dt_program *dt_engine_stage_program(const dt_engine *e, int32_t stage);

/* Begins a step: clears the metrics; stop and save ask all ranks to stop or save. */
dt_status dt_engine_begin_step(dt_engine *e, bool stop, bool save);
/* Feeds a batch: on the CPU it is copied on return, on a device the copy is queued. */
dt_status dt_engine_feed(dt_engine *e, const dt_batch *b, bool eval);
/* Batches fed so far; the number of a batch is this before its feed. */
int64_t dt_engine_fed(const dt_engine *e);
/* Waits until batch number `fed` has left its host memory, so that its slot may be released. At most
 * DT_FEEDS_MAX batches may be unreleased when another is fed. */
dt_status dt_engine_input_wait(dt_engine *e, int64_t fed);
/* Enqueues one micro-batch; with `last` also reduction and update. */
dt_status dt_engine_micro(dt_engine *e, const dt_step_params *params, bool last);
/* The same in three parts, for who looks at outputs and gradients between them; `last` of the backward one. */
dt_status dt_engine_forward(dt_engine *e, const dt_step_params *params);
dt_status dt_engine_backward(dt_engine *e, bool last);
dt_status dt_engine_update(dt_engine *e);
/* Ends a step: its metrics travel to the host. */
dt_status dt_engine_end_step(dt_engine *e, int64_t step);
/* Waits for the result of the oldest pending step. */
dt_status dt_engine_result(dt_engine *e, dt_step_result *out);
/* The sums of this rank so far, DT_METRIC_COUNT of them, between the parts of a step. Waits for the device. */
dt_status dt_engine_sums(dt_engine *e, double *metric);
/* Steps begun whose results have not been read. */
int32_t dt_engine_pending(const dt_engine *e);
/* How many steps late results are read: 0 on the CPU. */
int32_t dt_engine_lag(const dt_engine *e);

/* Evaluation: begin (takes the mean of the running statistics over ranks; when `ema`, puts the averaged
 * weights in place and with them the averaged statistics, a moving average over the same steps with the same
 * decay: the current ones belong to other activations), feed and run batches, end (gives metrics summed over
 * ranks and restores). Collective. */
dt_status dt_engine_eval_begin(dt_engine *e, bool ema);
dt_status dt_engine_eval_batch(dt_engine *e);
dt_status dt_engine_eval_end(dt_engine *e, double *metric); /* DT_METRIC_COUNT doubles */
/* Runs a batch that was fed, outside of an evaluation: with this rank's own statistics, and the sums are its own.
 * Not collective. Between steps. */
dt_status dt_engine_eval_lone(dt_engine *e, double *metric);

/* What the evaluation program keeps where its first loss is one of labels (DT_LOSS_SUMS_LABELS): the scores and which
 * labels hold, both [rows, ...]. */
#define DT_ENGINE_SCORES  "loss/scores"
#define DT_ENGINE_TARGETS "loss/targets"
/* An output of the evaluation program by its name, as the batch just run left it: *n_elem elements in fp32,
 * which belong to the engine and stay until the next call. Waits for the device. DT_ERR_INTERNAL where there is
 * no such output. */
dt_status dt_engine_output(dt_engine *e, const char *name, int64_t *n_elem, const float **out);

/* For people and benchmarks. */
const dt_division *dt_engine_division(const dt_engine *e);
const dt_program *dt_engine_program(const dt_engine *e, bool eval);
const dt_axis *dt_engine_axis(const dt_engine *e);
/* Parameters whose optimizer state the last dt_engine_load began anew, since they were frozen before, and whose
 * state it dropped, since they are frozen now. */
void dt_engine_regrouped(const dt_engine *e, int32_t *n_fresh, int32_t *n_dropped);
/* What backward computes again, and what part of the rest's FLOPs that is (`more`). */
dt_recompute dt_engine_recompute(const dt_engine *e, double *more);
int64_t dt_engine_device_bytes(const dt_engine *e);
/* Of these, what parameters, optimizer and statistics take. */
int64_t dt_engine_store_bytes(const dt_engine *e);
/* Of an element of the gradients that ranks exchange. */
int64_t dt_engine_payload_bytes(const dt_engine *e);
/* Largest rows per micro-batch that fit the device's free memory by this plan's slope (per batch of
 * evaluation where nothing is trained); train.eval_batch, if set, stays. */
int64_t dt_engine_largest_rows(const dt_engine *e);
dt_status dt_engine_sync(dt_engine *e);
/* The forward graph of a model for a micro-batch (or a batch of evaluation), as the engine compiles it; `model` NULL:
 * the configured one. The caller destroys it. */
dt_status dt_engine_forward_graph(const dt_engine *e, const dt_model_options *model,
                                  const dt_dataset_info *data, bool training, dt_graph **out);
/* The same of evaluation, with so many rows. */
dt_status dt_engine_eval_graph(const dt_engine *e, const dt_model_options *model, const dt_dataset_info *data,
                               int64_t rows, dt_graph **out);

#endif
