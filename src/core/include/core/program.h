/* From a model to something that runs: the store (memory that lives as long as the run) and programs (flat
 * lists of bound kernels over it). */
#ifndef DT_CORE_PROGRAM_H
#define DT_CORE_PROGRAM_H

#include "core/axis.h"
#include "core/backend.h"
#include "core/plan.h"

/* What a store must hold besides the parameters. */
typedef struct dt_store_options {
    dt_dtype compute; /* f32: the masters are the compute copy, there is no PARAM16 */
    bool train;       /* gradients and optimizer state */
    bool accumulate;  /* fp32 ACC arena: more than one micro-batch, or an fp32 payload for 16-bit gradients */
    dt_optim_options optim; /* says which state vectors there are */
    bool ema;
} dt_store_options;

/* What weights have besides themselves, by name. */
typedef struct dt_store_vec {
    const char *name; /* of its tensors in checkpoints: "<name>/<parameter>" */
    const char *what; /* for people */
    float init;
    dt_state_shape shape;
    int64_t bytes;
    float *data; /* device */
} dt_store_vec;
enum { DT_STORE_EMA = DT_OPTIM_STATES_MAX, DT_STORE_VECS };

typedef struct dt_store {
    dt_backend *be;
    const dt_axis *axis; /* not owned */
    dt_store_options options;
    void *arena[DT_ARENA_COUNT]; /* NULL where absent */
    int64_t bytes[DT_ARENA_COUNT];
    dt_memkind kind[DT_ARENA_COUNT];
    dt_store_vec vec[DT_STORE_VECS]; /* the optimizer's by the slots of its row, then the averaged weights;
                                        data NULL where absent */
    int64_t vec_bytes;               /* of one with a float for each element */
    dt_step_params *params;          /* device */
    float *norm2;                    /* device, f32 [1] */
    int32_t n_state;                 /* running statistics, by name */
    struct dt_state_entry *state;
} dt_store;

typedef struct dt_state_entry {
    char name[DT_NAME_MAX];
    int64_t offset_bytes, n_elem;
    float init; /* 0 for means, 1 for variances */
} dt_state_entry;

/* Allocates everything but activations. STATE entries are taken from `g`. */
dt_status dt_store_create(dt_backend *be, const dt_axis *axis, const dt_graph *g, const dt_store_options *o,
                          dt_store **out);
void dt_store_destroy(dt_store *s); /* accepts NULL */
/* Bytes that dt_store_create would take. */
int64_t dt_store_bytes(const dt_axis *axis, const dt_graph *g, const dt_store_options *o);

typedef struct dt_program {
    dt_graph *graph; /* owned */
    dt_plan plan;
    dt_backend *be;
    void *owned;    /* the backend's, of this program */
    dt_prep **prep; /* the backend's choice per node */
    dt_kernel *kernel;
    int32_t n_kernel;
    void **operand;        /* what the kernels' bindings point into */
    int32_t *bucket_after; /* per kernel: number of buckets complete once it ran */
    void *act, *input;     /* owned unless act_shared */
    void *cache;           /* owned unless cache_shared; 0 at first */
    bool act_shared, cache_shared;
    dt_store *store;
} dt_program;

typedef struct dt_program_options {
    int64_t guard_bytes; /* sentinels between values, for tests */
    bool no_reuse;
    void *act; /* use this activation arena of act_bytes instead of allocating one */
    int64_t act_bytes;
    void *cache; /* use that of another program whose values of role CACHE are the same ones */
    int64_t cache_bytes;
} dt_program_options;

/* First half: prepares every node (algorithms, workspaces) and plans memory. Takes ownership of `g` on
 * success. */
dt_status dt_program_prepare(dt_backend *be, dt_graph *g, const dt_program_options *o, dt_program **out);
/* Second half: allocates and binds. */
dt_status dt_program_bind(dt_program *p, dt_store *s, const dt_program_options *o);
void dt_program_destroy(dt_program *p); /* accepts NULL; before its store */

/* Called after each kernel with the number of gradient buckets that are complete. */
typedef dt_status dt_bucket_hook(void *arg, int32_t n_complete);
/* Runs all kernels on the compute stream. hook may be NULL. */
dt_status dt_program_run(dt_program *p, dt_bucket_hook *hook, void *arg);
/* The part of them before the first of the backward nodes, and the rest. */
dt_status dt_program_run_forward(dt_program *p);
dt_status dt_program_run_backward(dt_program *p, dt_bucket_hook *hook, void *arg);

/* Address of a value of the program's graph. */
void *dt_program_address(const dt_program *p, dt_vid v);

#endif
