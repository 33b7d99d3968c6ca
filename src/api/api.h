/* What the files of the public API share. A function of include/dtrain.h checks what it is given, takes what
 * it needs from the rooms below, and returns: nothing here prints or ends the process. */
#ifndef DT_API_H
#define DT_API_H

#include <pthread.h>

#include "core/backend.h"
#include "core/graph.h"
#include "core/status.h"
#include "core/types.h"
#include "dist/comm.h"
#include "dtrain.h"
#include "formats/tensors.h"

/* ---- handles ---- */

typedef enum dt_handle_kind {
    DT_HANDLE_RUN = 0,
    DT_HANDLE_TENSOR,
    DT_HANDLE_NET,
    DT_HANDLE_DATA,
    DT_HANDLE_SAMPLER,
    DT_HANDLE_FILE,
    DT_HANDLE_SERVICE,
    DT_HANDLE_SERVED,
    DT_HANDLE_REQUEST,
    DT_HANDLE_KINDS
} dt_handle_kind;

/* First member of what a handle points at. */
typedef struct dt_handle {
    dt_handle_kind kind;
} dt_handle;

/* Zeroed memory of a live handle; NULL without memory. `bytes` of a struct that starts with a dt_handle. */
void *dt_handle_new(dt_handle_kind kind, size_t bytes);
/* Whether the address is that of a live handle of this kind. Reads nothing behind it. */
bool dt_handle_is(dt_handle_kind kind, const void *handle);
/* True for the one call that ends a live handle; its memory stays until dt_handle_free. */
bool dt_handle_end(dt_handle_kind kind, const void *handle);
/* Frees the memory of an ended handle, after some more have been freed: until then its address is not given
 * to another. */
void dt_handle_free(void *handle);

/* DT_ERR_USAGE that names the argument where it is no live handle. */
dt_status dt_handle_check(dt_handle_kind kind, const void *handle, const char *function,
                          const char *argument);
#define DT_CHECK_RUN(run)     DT_TRY(dt_handle_check(DT_HANDLE_RUN, run, __func__, #run))
#define DT_CHECK_TENSOR(t)    DT_TRY(dt_handle_check(DT_HANDLE_TENSOR, t, __func__, #t))
#define DT_CHECK_NET(net)     DT_TRY(dt_handle_check(DT_HANDLE_NET, net, __func__, #net))
#define DT_CHECK_DATA(data)   DT_TRY(dt_handle_check(DT_HANDLE_DATA, data, __func__, #data))
#define DT_CHECK_SAMPLER(s)   DT_TRY(dt_handle_check(DT_HANDLE_SAMPLER, s, __func__, #s))
#define DT_CHECK_POINTER(ptr) DT_TRY((ptr) ? DT_OK : dt_fail(DT_ERR_USAGE, "%s: %s is NULL", __func__, #ptr))

/* DT_ERR_CONFIG that names function and field where x is neither 0, which is what was not set, nor from `least` to `most`.
 * Real numbers end in fp32, and must be so there, too. */
dt_status dt_check_real(const char *function, const char *field, double x, double least, double most);
dt_status dt_check_whole(const char *function, const char *field, int64_t x, int64_t least, int64_t most);
/* A status that the caller brings: with a text, if it has none. */
dt_status dt_check_brought(const char *function, dt_status status);
/* dt_error_rephrase: from the keys of a configuration to options. */
void dt_api_rephrase(char *text, size_t size);

/* ---- a run ---- */

typedef struct dt_eager dt_eager; /* bound kernels of tensor functions */

struct dt_run {
    dt_handle head;
    int32_t refs; /* one of the caller until it is closed, one of each tensor and network; under lock */
    dt_run_options options;
    dt_backend *be, *host; /* host == be where that is the CPU */
    dt_comm *mpi;          /* NULL in a world of one */
    dt_comm *comm;         /* all-reduce of tensors: NCCL's, or mpi */
    bool closed;           /* by dt_run_close: its ranks have met for that */
    bool failed;           /* a collective call failed on this rank: the others are not waited for */
    int32_t number;        /* from 1 in the process, the same on all ranks */
    int32_t n_compiled;    /* networks, in the order that all ranks have them in */
    dt_eager *eager[2];    /* of be, of host */
    pthread_mutex_t lock;  /* of all above, and of everything queued on be and host */
};

/* NCCL's communicator for this backend where every rank has a GPU and can, else that of MPI; NULL in a world of
 * one. Collective. */
dt_status dt_run_choose_comm(dt_run *run, dt_backend *be, dt_comm **out);
/* The beginning of a collective call: DT_OK where all ranks bring that, and the same text. Its first line says which
 * call it is, each of the others what ranks must agree in. Else all ranks fail alike, with the text of the first that
 * failed (as dt_comm_agree has it) or with what differs: DT_ERR_USAGE for different calls, else DT_ERR_CONFIG. A rank
 * that is `leaving` does so whatever comes out. In a world of one: `mine`. */
dt_status dt_run_meet(dt_run *run, dt_status mine, bool leaving, const char *call);
void dt_run_hold(dt_run *run);
void dt_run_drop(dt_run *run);
dt_status dt_run_make_backend(const dt_run *run, bool host, dt_backend **out);

void dt_net_hold(dt_net *net);
void dt_net_drop(dt_net *net);

/* ---- tensors ---- */

struct dt_tensor {
    dt_handle head;
    dt_run *run;    /* held, unless it is a view */
    dt_backend *be; /* where its memory is: the run's be or host, or a network's */
    dt_dtype dtype;
    dt_shape shape;
    int64_t n_elem, bytes;
    void *data;
    bool owned;  /* data is freed with it */
    dt_net *net; /* whose memory it is, held; NULL: of nobody or its own */
};

/* Elements of a shape; DT_ERR_USAGE where a dimension is negative, there are too many, or the bytes overflow. */
dt_status dt_shape_check(const char *function, dt_shape shape, dt_dtype dtype, int64_t *n_elem,
                         int64_t *bytes);
bool dt_shape_equal(dt_shape a, dt_shape b);
/* "2x3", "scalar". */
typedef struct dt_shape_text {
    char s[160];
} dt_shape_text;
dt_shape_text dt_shape_to_text(dt_shape s);
/* A tensor over memory of `be` that somebody else owns. */
dt_status dt_tensor_over(dt_run *run, dt_backend *be, dt_dtype dtype, dt_shape shape, void *data,
                         dt_tensor **out);

/* How files call a type; DT_TENSOR_TYPES: they have none such. */
extern const dt_tensor_type dt_file_type[DT_DTYPE_COUNT];

/* Zeros in host memory. */
dt_status dt_tensor_zeros_host(dt_run *run, dt_dtype dtype, dt_shape shape, dt_tensor **out);

/* Queues op over tensors of one backend of the run, whose lock is held: compiled once per operands, then
 * replayed. */
dt_status dt_eager_run(dt_run *run, dt_backend *be, dt_op op, const dt_attr *attr, int32_t n_in,
                       const dt_tensor *const *in, const dt_tensor *out);
void dt_eager_destroy(dt_eager *e); /* accepts NULL */

#endif
