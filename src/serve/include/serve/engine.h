/* The inference engine: models that serve requests from many threads, batched as they come.
 *
 * Every model is one of ONNX in memory (formats/onnx.h), whatever file it came from; a program is compiled for each batch
 * bucket and shape that is asked for, over one copy of the weights. Nothing here prints; there are no globals; every
 * function may be called from any thread. */
#ifndef DT_SERVE_ENGINE_H
#define DT_SERVE_ENGINE_H

#include <stdio.h>

#include "core/backend.h"
#include "onnx/op.h" /* dt_host_tensor */

typedef struct dt_serve_engine dt_serve_engine;
typedef struct dt_serve_model dt_serve_model;     /* loaded, reference counted */
typedef struct dt_serve_request dt_serve_request; /* accepted, reference counted */

extern const char *const dt_level_names[]; /* NULL-terminated, by number */

typedef struct dt_serve_engine_options {
    dt_backend *be;  /* of models that do not ask for another; borrowed */
    int32_t workers; /* threads that put batches together and run them; 0: 2. The device runs one at a time */
    const char *affinity;     /* "0-3,8" of the allowed mask; NULL: the mask */
    int64_t memory_cap_bytes; /* weights and programs of all models; 0: none */
    int64_t queue_limit;      /* requests that wait, of all models; 0: 1024 */
} dt_serve_engine_options;

/* A step of the caller's, from any thread; what it returns other than DT_OK becomes the request's answer. Before: t[i] are the request's inputs, whose data are
 * the requester's; a step that changes some points t[i] at memory of malloc, which is the request's from then on. After: t[i] are
 * the request's results, whose data are of malloc and may be replaced (and freed) so. */
typedef dt_status dt_serve_hook(void *arg, int32_t n, dt_host_tensor *t);

typedef struct dt_serve_model_options {
    const char *name; /* of the model; NULL: of the file */
    int64_t version;  /* 0: 1 */
    const char *
        config; /* of a file of weights alone: the configuration (TOML) of their network; NULL: the file says */
    dt_level level;
    dt_weights_form weights;
    int64_t max_batch;    /* rows at once; 0: 32, or 1 where the file fixes the first dimension */
    int64_t max_delay_us; /* that the oldest request may wait for mates; 0: runs with who is there */
    int64_t queue_limit;  /* of this model; 0: the engine's */
    int64_t text_rows;    /* texts that it makes at once; 0: 16, fewer where the memory cap wants it */
    bool no_texts;        /* a language network is served without its texts */
    bool no_warm;         /* programs are compiled when first asked for, not when loaded */
    dt_image_form
        image; /* the only input takes images as UINT8 N H W C, from which the network's own is made */
    const char *softmax; /* of this output, over its last dimension; NULL: of none */
    const char *labels;  /* a file with a class's name a line; NULL: those that the model's file says */
    dt_serve_hook *before,
        *after; /* around the network: before the image's bytes are looked at, after the softmax; NULL: none */
    void *hook_arg;
} dt_serve_model_options;

dt_status dt_serve_engine_create(const dt_serve_engine_options *o, dt_serve_engine **out);
/* No more requests are accepted (DT_STOPPED); waits until all accepted ones are answered, or answers those that still wait with
 * DT_STOPPED after timeout_ms (-1: any time). */
void dt_serve_engine_drain(dt_serve_engine *e, int64_t timeout_ms);
/* Drains, and frees what nobody holds any more. Accepts NULL. */
void dt_serve_engine_destroy(dt_serve_engine *e);

/* Anything with a network in it: a run or checkpoint of dtrain, ONNX, Keras, a SavedModel or GraphDef, weights of PyTorch or in
 * safetensors with a network. One reference is the caller's. DT_ERR_DATA, DT_ERR_CONFIG, DT_ERR_UNSUPPORTED with all of it;
 * DT_ERR_MEMORY beyond the cap. */
dt_status dt_serve_load(dt_serve_engine *e, const char *path, const dt_serve_model_options *o,
                        dt_serve_model **out);
void dt_serve_model_hold(dt_serve_model *m);
void dt_serve_model_drop(
    dt_serve_model *m); /* accepts NULL; the last one frees it, once its requests are answered */

/* One input or output. dim[0] is the rows' where batched. */
typedef struct dt_serve_io {
    const char *name;
    dt_tensor_type type;
    int32_t ndim;            /* -1: not told */
    int64_t dim[DT_MAX_DIM]; /* -1: any */
} dt_serve_io;

typedef struct dt_serve_model_info {
    const char *name, *format, *path; /* of the model's */
    int64_t version, max_batch;
    bool batched;    /* rows of different requests may run together */
    bool one_bucket; /* every run has max_batch rows: with fewer, results would have other bits */
    dt_level level;
    dt_weights_form weights;
    int32_t n_in, n_out;
    const dt_serve_io *in, *out;
    double
        level_error; /* largest relative difference from level none that the check at load saw; -1: none made */
    int64_t weight_bytes; /* of the device */
} dt_serve_model_info;
const dt_serve_model_info *dt_serve_model_get_info(const dt_serve_model *m);

/* The name of a class, the model's; "": it has none. */
const char *dt_serve_label(const dt_serve_model *m, int64_t i);
/* Over the last dimension, in place. */
void dt_serve_softmax(dt_host_tensor *t);
/* Places of the k largest numbers of a row, a last dimension of at least k, in descending order, of equals the first one. */
void dt_serve_top_k(const dt_host_tensor *t, int64_t row, int64_t k, int64_t *index);

typedef struct dt_serve_times {
    int64_t queue_ns, input_ns, compute_ns, output_ns; /* of a request; compute is the batch's */
    int64_t batch;                                     /* rows that ran together */
} dt_serve_times;

/* status as dt_serve_wait gives it, error "" where that is DT_OK; exactly once for each accepted request, from the thread of a worker, or
 * of who cancels or drains. */
typedef void dt_serve_done(void *arg, dt_serve_request *r, dt_status status, const char *error);

typedef struct dt_serve_submit_options {
    dt_serve_done *done; /* NULL: somebody waits */
    void *arg;
    int64_t deadline_us; /* from now; later than that it is not begun any more: DT_ERR_TIMEOUT. 0: none */
    int32_t priority;    /* 0: usual; lower first, up to DT_SERVE_PRIORITIES - 1 */
} dt_serve_submit_options;
enum { DT_SERVE_PRIORITIES = 8 };

/* in: one for each input, in the model's order, data stay until it is answered. DT_ERR_BUSY: the queue is full, nothing was
 * accepted; DT_ERR_USAGE: an input that does not fit, by name; DT_STOPPED: draining. */
dt_status dt_serve_submit(dt_serve_model *m, const dt_host_tensor *in, const dt_serve_submit_options *o,
                          dt_serve_request **out);
/* The answer; DT_ERR_TIMEOUT: none yet after timeout_ms (-1: any time), and it goes on. */
dt_status dt_serve_wait(dt_serve_request *r, int64_t timeout_ms);
/* One that has not begun is answered with DT_STOPPED; else nothing changes. Whether it was so. */
bool dt_serve_cancel(dt_serve_request *r);
/* Of one that was answered with DT_OK: output i; the request's memory. */
const dt_host_tensor *dt_serve_output(const dt_serve_request *r, int32_t i);
void dt_serve_request_times(const dt_serve_request *r, dt_serve_times *out);
void dt_serve_request_drop(dt_serve_request *r); /* accepts NULL */

/* Latencies by a histogram of logarithmic buckets: within 2 % of what was measured. */
typedef struct dt_serve_latency {
    int64_t n;
    double min_s, avg_s, max_s, p50_s, p90_s, p99_s, p999_s;
} dt_serve_latency;
enum { DT_SERVE_BATCH_BUCKETS = 16 }; /* runs of up to 2^i rows */
typedef struct dt_serve_stats {
    int64_t accepted, succeeded, failed, refused, cancelled,
        expired;        /* requests; accepted is the sum of the others but refused and what is pending */
    int64_t rows, runs; /* rows answered, batches run */
    int64_t waiting, running;                          /* requests now */
    int64_t queue_ns, input_ns, compute_ns, output_ns; /* sums over requests */
    dt_serve_latency latency;                          /* from submit to answer */
    int64_t batch_runs[DT_SERVE_BATCH_BUCKETS];
    int64_t last_ns; /* when the last was answered, CLOCK_REALTIME; 0: none was */
} dt_serve_stats;
void dt_serve_model_stats(const dt_serve_model *m, dt_serve_stats *out);
void dt_serve_engine_stats(const dt_serve_engine *e,
                           dt_serve_stats *out); /* of all its models, also gone ones */

/* Where the time of a run with these inputs goes, kernel by kernel, as a table: means over `runs` runs of a program of its own, while
 * requests wait. */
dt_status dt_serve_model_profile(dt_serve_model *m, const dt_host_tensor *in, int64_t runs, FILE *out);

/* For people: what the passes of each level did, and each level's time, memory and error on drawn numbers beside level none; with
 * `profile` also where the time at the model's level goes. DT_ERR_UNSUPPORTED: sizes are open besides the rows. */
dt_status dt_serve_model_optimize(dt_serve_model *m, int64_t rows, int64_t runs, bool profile, FILE *out);

typedef struct dt_serve_resources {
    int64_t rss_bytes, host_total_bytes, memory_limit_bytes; /* limit: of the control group; -1: none */
    double cpu_seconds, cpu_limit;                           /* of this process; cores that it may use */
    int64_t device_used_bytes,
        device_total_bytes; /* 0 without a GPU; used: of all processes where the driver tells, else model_bytes */
    double device_utilisation; /* 0 to 1; -1: not known */
    int64_t model_bytes;       /* weights and programs of all models */
} dt_serve_resources;
dt_status dt_serve_resources_read(const dt_serve_engine *e, dt_serve_resources *out);

#endif
