/* The engine's parts, shared by engine_*.c. */
#ifndef DT_TRAIN_ENGINE_INTERNAL_H
#define DT_TRAIN_ENGINE_INTERNAL_H

#include "core/pass.h"
#include "dist/sums.h"
#include "train/engine.h"

enum { ENGINE_RING = DT_METRIC_LAG_MAX + 2, ENGINE_STAGES = 2, ENGINE_FEEDS = DT_FEEDS_MAX + 1 };

/* Device-side copy of a batch on its way in: filled by the copy stream while the step before computes. */
typedef struct staging {
    char *device;    /* input_bytes */
    dt_event *taken; /* compute stream: it was copied into the input arena */
} staging;

/* Pinned host side of one step in flight. */
typedef struct ring_slot {
    float *metric; /* pinned f32 [DT_METRIC_COUNT], then norm2 */
    float *begin;  /* pinned f32 [DT_METRIC_COUNT]: what the metrics start from */
    dt_event *done;
    int64_t step;
} ring_slot;

/* Training in one stage (train/stages.h). */
typedef struct staged {
    dt_program *program;
    dt_vid input[DT_FIELDS_MAX];
    int32_t n_input;
    dt_capture *captured[2];
    bool warm[2];
} staged;

struct dt_engine {
    const dt_config *config;
    dt_backend *be;
    dt_comm *mpi, *comm;
    dt_status (*make_forward)(void *arg, int64_t rows, bool training, dt_graph **out);
    void *forward_arg;
    dt_division division;
    bool train, any_gpu, plan_only;
    dt_weight_list weights;
    dt_optim_groups base_groups, groups; /* what short keys say, and the configuration's groups over it */
    dt_axis *axis;
    dt_store *store;
    dt_program *program, *eval; /* program: of the stage that is on, as are input[0], captured and warm */
    staged staged[DT_STAGES_MAX];
    int32_t n_staged, stage;        /* those that are compiled; the one that is on, or is being compiled */
    dt_vid input[2][DT_FIELDS_MAX]; /* what each reads: of training, of evaluation */
    int32_t n_input[2];
    dt_reducer *reducer; /* NULL in a world of one */
    dt_sums *sums;       /* of batch statistics; NULL where ranks have their own */
    bool accumulate;
    dt_kernel accum[DT_BUCKETS_MAX], sumsq, update, average, scale, cast; /* average: of the statistics */
    bool in_last;      /* the micro-batch being enqueued ends the step */
    int32_t n_reduced; /* buckets handed to the reducer in this replay */
    int64_t device_bytes, store_bytes;
    dt_recompute recompute;
    double recompute_flops; /* of a micro-batch */
    bool too_large;         /* the last compilation did not fit */

    dt_upload_plan upload_plan;
    dt_upload *upload; /* NULL: all is copied */
    dt_stream *copy_stream;
    staging stages[ENGINE_STAGES];
    /* copy stream: the batch has left its host memory; one per batch in flight */
    dt_event *filled[ENGINE_FEEDS];
    int64_t n_fed;
    int32_t
        *valid; /* pinned: valid_rows ones, then as many zeros: a batch's field "valid" where it has none */
    int64_t valid_rows;
    dt_step_params *params_ring; /* pinned, one per micro-batch in flight */
    int32_t n_params, next_params;
    ring_slot ring[ENGINE_RING];
    int64_t n_begun, n_read;                    /* steps */
    dt_capture *captured[2];                    /* micro, last; NULL: run the list */
    bool warm[2];                               /* ran once outside of a capture */
    bool plain;                                 /* run the list even so: a profile looks at each kernel */
    dt_status (*on_copy)(void *arg, bool done); /* for a profile: a batch is about to take, or has taken, its
                                                   way by the copy stream; NULL: nobody asks */
    void *on_copy_arg;

    float *host;   /* pinned scratch for transfers, of the axis or of the frozen parameters */
    float *frozen; /* frozen parameters in fp32, where the device has them in 16 bits; else NULL */
    int32_t n_state_fresh, n_state_dropped; /* parameters, by the last load */
    float *host_state;                      /* running statistics of all ranks [world, state elements] */
    float *state_saved; /* pinned: this rank's own, while evaluation uses the mean over ranks */
    void *master_saved; /* device: weights while evaluation uses the EMA */
    int64_t n_state_elem;
    bool eval_ema;
    double eval_metric[DT_METRIC_COUNT]; /* of the evaluation under way, as far as it was taken from the
                                            device */
    int64_t eval_rows_left;              /* before it is taken again: fp32 counts exactly to 2^24 */
    void *output; /* pinned: a value fetched from the evaluation program, and behind it the same in fp32 */
    int64_t output_bytes;
    int32_t n_tensor;
    dt_ckpt_tensor *tensor; /* snapshot */
};

/* engine_memory.c */
/* Before kernels are chosen, which takes seconds and memory on a device: a graph whose activations cannot fit
 * even if fusions saved a third of them. The plan made here is made anew later. */
dt_status dt_engine_refuse_hopeless(dt_engine *e, dt_graph *g);
/* Sets device_bytes; an error that names the largest batch that fits where that is more than is free. */
dt_status dt_engine_check_memory(dt_engine *e, const dt_store_options *o);

/* engine_groups.c; after the weights are listed */
/* Fills e->groups. */
dt_status dt_engine_make_groups(dt_engine *e);
/* model.freeze: the training graph as evaluation has it, up to where something is trained. */
dt_status dt_engine_probe(const dt_engine *e, dt_graph *training);
/* Factors on the learning rate by layers to the axis. */
void dt_engine_scale_layers(dt_engine *e);

/* engine_output.c */
/* n elements of f32, f16 or bf16, exactly. */
void dt_engine_to_f32(dt_dtype dtype, const void *src, int64_t n, float *dst);

/* engine_profile.c: for profile.c. */
typedef struct dt_engine_kernel {
    dt_kernel *kernel;   /* in its place: what stands there is run */
    const dt_node *node; /* NULL: a kernel of the parameter axis */
    double bytes, flops; /* that a run must move and do, as far as is known */
    bool last;           /* runs once a step, after the exchange of gradients */
} dt_engine_kernel;
/* Every kernel that a training step may run, in the order of a step; returns how many. out NULL: only that. */
int32_t dt_engine_kernels(dt_engine *e, dt_engine_kernel *out);

/* engine_state.c */
dt_status dt_engine_state_setup(dt_engine *e);
void dt_engine_state_teardown(dt_engine *e);

#endif
