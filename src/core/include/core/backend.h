/* What a device offers the compiler. Two implementations: src/cpu and src/gpu.
 *
 * Life of a node: cost (asked by passes) -> prepare (chooses the algorithm, states its workspace, may
 * time candidates) -> [memory plan] -> bind (pointers fixed once) -> run, many times. run enqueues on the
 * stream it is given, never blocks on the device and allocates nothing, so a program can be captured. */
#ifndef DT_CORE_BACKEND_H
#define DT_CORE_BACKEND_H

#include "core/graph.h"
#include "core/optim.h"
#include "core/step.h"

typedef struct dt_backend dt_backend;
typedef struct dt_stream dt_stream;   /* opaque; NULL: the backend's compute stream */
typedef struct dt_event dt_event;     /* opaque */
typedef struct dt_prep dt_prep;       /* opaque: what prepare decided for a node; owned by the backend */
typedef struct dt_capture dt_capture; /* opaque: a captured program */

typedef enum dt_memkind {
    DT_MEM_DEVICE = 0, /* zero-filled; 256-byte aligned (64 on the CPU) */
    DT_MEM_HOST,       /* pinned host memory that async copies may use; zero-filled */
    DT_MEM_COMM        /* device memory fit for collectives (ncclMemAlloc) */
} dt_memkind;

/* A bound kernel: run(ctx, stream). */
typedef struct dt_kernel {
    dt_status (*run)(void *ctx, dt_stream *stream);
    void *ctx;         /* owned by the backend, freed with it */
    dt_nid node;       /* -1: an axis kernel */
    const char *label; /* what it is, for profiles: "conv 3x3/1 64->64 [engine]"; owned like ctx */
} dt_kernel;

/* Who else runs this program at the same time, each with a part of the batch. */
typedef struct dt_ranks {
    /* values += those of the others, n doubles of the device, in the order of `stream`. Every rank calls it, as
     * often and in the same order. NULL: there is nobody. */
    dt_status (*sum)(void *arg, double *values, int64_t n, dt_stream *stream);
    void *arg;
} dt_ranks;

/* Pointers of a node, given once at bind: in[slot], out[slot], NULL where a slot is empty. The arrays live as
 * long as the kernel may run. */
typedef struct dt_binding {
    void **in, **out;
    void *workspace;
    const dt_step_params *params; /* device-visible step parameters */
    const dt_ranks *ranks;        /* the backend's, as they are when it runs */
} dt_binding;

/* Kernels over a range [offset, offset + n_elem) of the parameter axis, AVERAGE of any array. */
typedef enum dt_axis_kind {
    DT_AXIS_ACCUM = 0, /* acc = (params.first_micro ? 0 : acc) + grad */
    DT_AXIS_SUMSQ,     /* norm2[0] += sum of (grad / loss_scale)^2; not finite stays not finite */
    DT_AXIS_UPDATE,    /* optimizer step, 16-bit copy, EMA */
    DT_AXIS_CAST,      /* param16 = master */
    DT_AXIS_SCALE,     /* after UPDATE: the dynamic loss scale */
    DT_AXIS_AVERAGE    /* after UPDATE: EMA alone, of `master`, which may be no parameters */
} dt_axis_kind;
enum { DT_AXIS_KINDS = DT_AXIS_AVERAGE + 1 };

/* One parameter's stretch of the axis. */
typedef struct dt_axis_segment {
    int64_t offset, n_elem;            /* padding past n_elem up to the next segment is zero and stays zero */
    float decay;                       /* weight decay of this parameter; 0 for BN parameters and biases */
    float lr_scale;                    /* factor on the learning rate */
    int64_t rows, cols;                /* of a matrix; 0: it is a vector */
    bool matrix;                       /* a MATRIX optimizer steps it as a whole */
    int64_t n_real;                    /* elements without the padding of channels; 0: there is none */
    int64_t state_at[DT_STATE_SHAPES]; /* its first float in a state vector of that shape */
} dt_axis_segment;

/* Floats of it in a state vector of that shape. */
static inline int64_t dt_segment_state_elem(const dt_axis_segment *s, dt_state_shape shape) {
    const int64_t n[DT_STATE_SHAPES] = {[DT_STATE_ELEMENT] = s->n_elem,
                                        [DT_STATE_ROW] = s->rows,
                                        [DT_STATE_COLUMN] = s->cols,
                                        [DT_STATE_VECTOR] = s->rows > 0 ? 0 : s->n_elem,
                                        [DT_STATE_REST] = s->matrix ? 0 : s->n_elem};
    return n[shape];
}

/* Dynamic loss scale (PyTorch's GradScaler): a skipped update halves params.loss_scale (not below 1) and
 * clears good_steps; growth_steps updates in a row without a skip double it (not above 2^24). Metrics
 * LOSS_SCALE and GOOD_STEPS tell the result. */

/* Update rules: core/optim.h.
 * g = grad / loss_scale * mean * clip, mean = dt_optim_mean_scale, clip = min(1, clip_norm / (norm + 1e-6)) when
 * clip_norm > 0, norm = sqrt(norm2) * mean, which is metrics GRAD_NORM.
 * When norm2 (or, without one, nothing) is not finite the whole update is skipped and metrics SKIPPED = 1;
 * params.updates counts the others. One UPDATE a step.
 * EMA: ema = d*ema + (1-d)*w with d = params.ema_decay, when ema != NULL; skipped with the update, also by
 * AVERAGE. */
typedef struct dt_axis_args {
    int64_t offset, n_elem;
    const dt_axis_segment *segment; /* host array of all segments of the axis, ascending; copied at bind */
    int32_t n_segment;
    const void *grad; /* axis base pointers (element 0 of the axis), of dtype grad_dtype */
    dt_dtype grad_dtype;
    float *acc;
    float *master;
    void *param16; /* NULL in fp32 */
    dt_dtype param16_dtype;
    float *state[DT_OPTIM_STATES_MAX]; /* of the optimizer's row; NULL where dt_optim_has_state says no */
    float *ema;                        /* NULL when unused */
    float *norm2;   /* f32 [1] sum of squares over all buckets; NULL: no clipping, no skip */
    float *metrics; /* f32 [DT_METRIC_COUNT] */
    dt_optim_options optim;
    float clip_norm;
    float sample_rows;      /* of dt_optim_mean_scale, whose `counted` is metrics SAMPLES as it then is */
    dt_step_params *params; /* UPDATE and SCALE write the device's own part */
    int32_t growth_steps;   /* SCALE */
} dt_axis_args;

typedef struct dt_device_info {
    char name[128];
    char bus[16];                    /* of a GPU: its address, "0000:17:00.0" */
    int64_t total_bytes, free_bytes; /* memory of the device (of the host for the CPU) */
    bool is_gpu;
} dt_device_info;

struct dt_backend {
    const char *name; /* "cpu" or "cuda" */
    int64_t align_bytes;
    dt_device_info info;
    int32_t host_threads; /* host threads this rank may use: its share of the cores */
    int64_t
        kept_bytes; /* memory that bound kernels hold besides what they were given: weights in other forms */
    dt_ranks ranks; /* set by who knows them; none at first */

    dt_status (*alloc)(dt_backend *be, dt_memkind kind, int64_t bytes, void **out);
    void (*free)(dt_backend *be, dt_memkind kind, void *ptr);
    /* Any direction; asynchronous on a device when the host side is DT_MEM_HOST. */
    dt_status (*copy)(dt_backend *be, void *dst, const void *src, int64_t bytes, dt_stream *stream);
    dt_status (*fill)(dt_backend *be, void *dst, int byte, int64_t bytes, dt_stream *stream);

    dt_status (*stream_create)(dt_backend *be, dt_stream **out);
    void (*stream_destroy)(dt_backend *be, dt_stream *stream);
    dt_status (*stream_sync)(dt_backend *be, dt_stream *stream); /* the host waits */
    dt_status (*event_create)(dt_backend *be, dt_event **out);
    void (*event_destroy)(dt_backend *be, dt_event *event);
    dt_status (*event_record)(dt_backend *be, dt_event *event, dt_stream *stream);
    dt_status (*event_wait)(dt_backend *be, dt_event *event, dt_stream *stream); /* stream waits for event */
    dt_status (*event_sync)(dt_backend *be, dt_event *event);                    /* the host waits */
    dt_status (*event_query)(dt_backend *be, dt_event *event, bool *done);       /* does not block */

    /* For a profile. An event that keeps the time, otherwise like any other; seconds from one to a later one,
     * both done. NULL where a kernel is done when its run returns: a clock tells. */
    dt_status (*timer_create)(dt_backend *be, dt_event **out);
    dt_status (*timer_elapsed)(dt_backend *be, dt_event *from, dt_event *to, double *seconds);
    /* Names what the calling thread enqueues from here on, until the end of it, in tools of the device's maker;
     * they nest. NULL where there are none. */
    void (*range_begin)(dt_backend *be, const char *name);
    void (*range_end)(dt_backend *be);

    bool (*supports)(dt_backend *be, dt_dtype compute); /* precision available */
    /* Seconds that these nodes take, one after the other. They are nodes of g, or such as a pass would put
     * there: with values of g. INFINITY where there is no kernel for one of them, or none worth having. */
    double (*cost)(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n);
    /* Where what prepare and bind make is hung, by who frees it with `release` before the backend; NULL: it lives as long as
     * the backend. `release` is NULL on a backend that frees nothing before its end. */
    void **owner;
    void (*release)(dt_backend *be, void *owned);
    dt_status (*prepare)(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep **out,
                         int64_t *workspace_bytes);
    dt_status (*bind)(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep *prep, const dt_binding *b,
                      dt_kernel *out);
    dt_status (*bind_axis)(dt_backend *be, dt_axis_kind kind, const dt_axis_args *args, dt_kernel *out);

    /* Records what `enqueue` puts on the compute stream (and on streams forked from it and joined again) as
     * one replayable graph. NULL on a backend that only runs lists. */
    dt_status (*capture)(dt_backend *be, dt_status (*enqueue)(void *arg), void *arg, dt_capture **out);
    dt_status (*replay)(dt_backend *be, dt_capture *capture, dt_stream *stream);
    /* Before the communicator whose reductions were captured: NCCL's ends only after them. Accepts NULL. */
    void (*capture_free)(dt_backend *be, dt_capture *capture);

    void (*destroy)(dt_backend *be);
};

typedef struct dt_backend_options {
    int32_t local_rank, local_world; /* ranks on this host; chooses the GPU and divides the cores */
    int32_t threads;       /* CPU: compute threads of this rank; 0: cores of the mask / local ranks */
    bool deterministic;    /* bit-equal runs */
    bool tf32;             /* GPU: matrix units for fp32 */
    bool share_gpu;        /* two ranks may use one GPU */
    const char *cache_dir; /* engine cache; NULL: $XDG_CACHE_HOME/dtrain or ~/.cache/dtrain */
} dt_backend_options;

#endif
