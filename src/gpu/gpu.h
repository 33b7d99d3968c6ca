/* The CUDA backend's own state and the checks around every library call. Private to src/gpu.
 *
 * A dt_stream of this backend is a cudaStream_t and a dt_event a cudaEvent_t, cast; NULL is the compute
 * stream. One thread drives a backend; only engine building uses threads of its own. */
#ifndef DT_GPU_GPU_H
#define DT_GPU_GPU_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "core/backend.h"
#include "core/op.h"
#include "kernels.h"

typedef struct dt_algos dt_algos;                   /* algo.h */
typedef struct dt_gram_choice dt_gram_choice;       /* gram_blas.c */
typedef struct dt_apply_choice dt_apply_choice;     /* conv_blas.c */
typedef struct dt_dense_choice dt_dense_choice;     /* dense_blas.c */
typedef struct dt_end_choice dt_end_choice;         /* blas_end.c */
typedef struct dt_attention_plan dt_attention_plan; /* attention_dnn.c */

typedef struct dt_owned {
    struct dt_owned *next;
    void (*release)(void *ptr);
    void *ptr;
} dt_owned;

typedef struct dt_cuda {
    dt_backend base; /* first: a dt_backend * is a dt_cuda * */
    int device;
    int lock_fd; /* claims a GPU that several ranks could pick; -1: none */
    int32_t local_rank, local_world;
    bool deterministic, tf32;
    dt_gpu gpu; /* what launchers need to know of the card */
    cudaStream_t compute;
    cudnnHandle_t dnn;
    cudaStream_t dnn_stream; /* the stream dnn is set to */
    cublasLtHandle_t blas;
    dt_algos *algos;
    dt_gram_choice *gram_choice;       /* made so far */
    dt_apply_choice *apply_choice;     /* made so far */
    dt_dense_choice *dense_choice;     /* made so far */
    dt_end_choice *end_choice;         /* made so far */
    dt_attention_plan *attention_plan; /* made so far */
    int32_t take_candidate;            /* candidate.h; 0: the fastest */
    bool first_list_fails;             /* candidate.h */
    dt_owned *owned;                   /* preps, bound kernels, captures: freed with the backend */
} dt_cuda;

static inline dt_cuda *dt_cuda_of(dt_backend *be) {
    return (dt_cuda *)be;
}
static inline cudaStream_t dt_cuda_stream(const dt_cuda *cu, dt_stream *stream) {
    return stream ? (cudaStream_t)stream : cu->compute;
}

/* Allocates zeroed host memory that the backend frees. */
dt_status dt_cuda_own(dt_cuda *cu, size_t bytes, void **out);
/* Hands `ptr` to the backend; on failure it is released at once. */
dt_status dt_cuda_adopt(dt_cuda *cu, void *ptr, void (*release)(void *ptr));
/* Device memory that the backend frees. */
dt_status dt_cuda_own_device(dt_cuda *cu, int64_t bytes, void **out);

/* device.c */
dt_status dt_cuda_pick_device(const dt_backend_options *o, int *device, int *lock_fd);
void dt_cuda_device_table(dt_backend *be); /* memory, stream, event and capture entries of the table */
dt_status dt_cuda_out_of_memory(int64_t bytes, const char *what);

/* range_*.c: names of ranges for NVIDIA's tools, where the build has NVTX. */
void dt_cuda_range_table(dt_backend *be);

/* comm_mem_*.c: memory fit for collectives. */
dt_status dt_cuda_comm_alloc(int64_t bytes, void **out);
void dt_cuda_comm_free(void *ptr);

/* Text of a failed call; always returns DT_ERR_DEVICE (DT_ERR_MEMORY for an allocation). */
dt_status dt_cuda_fail(cudaError_t err, const char *call, const char *file, int line);
dt_status dt_cudnn_fail(cudnnStatus_t st, const char *call, const char *file, int line);
dt_status dt_cublas_fail(cublasStatus_t st, const char *call, const char *file, int line);

#define DT_CUDA_TRY(call)                                                                                    \
    do {                                                                                                     \
        cudaError_t dt_cuda_err_ = (call);                                                                   \
        if (dt_cuda_err_ != cudaSuccess) return dt_cuda_fail(dt_cuda_err_, #call, __FILE__, __LINE__);       \
    } while (0)
#define DT_CUDNN_TRY(call)                                                                                   \
    do {                                                                                                     \
        cudnnStatus_t dt_cudnn_st_ = (call);                                                                 \
        if (dt_cudnn_st_ != CUDNN_STATUS_SUCCESS)                                                            \
            return dt_cudnn_fail(dt_cudnn_st_, #call, __FILE__, __LINE__);                                   \
    } while (0)
#define DT_CUBLAS_TRY(call)                                                                                  \
    do {                                                                                                     \
        cublasStatus_t dt_cublas_st_ = (call);                                                               \
        if (dt_cublas_st_ != CUBLAS_STATUS_SUCCESS)                                                          \
            return dt_cublas_fail(dt_cublas_st_, #call, __FILE__, __LINE__);                                 \
    } while (0)

#endif
