/* The card: which one a rank takes, its memory, streams, events and captured programs; the text of failed
 * calls. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"
#include "gpu.h"
#include "gpu/cuda.h"

dt_status dt_cuda_fail(cudaError_t err, const char *call, const char *file, int line) {
    (void)cudaGetLastError();
    const char *base = strrchr(file, '/');
    return dt_fail(err == cudaErrorMemoryAllocation ? DT_ERR_MEMORY : DT_ERR_DEVICE,
                   "CUDA: %s (%s) in %s, %s:%d", cudaGetErrorString(err), cudaGetErrorName(err), call,
                   base ? base + 1 : file, line);
}

dt_status dt_cudnn_fail(cudnnStatus_t st, const char *call, const char *file, int line) {
    char detail[256] = "";
    cudnnGetLastErrorString(detail, sizeof detail);
    const char *base = strrchr(file, '/');
    return dt_fail(DT_ERR_DEVICE, "cuDNN: %s %s in %s, %s:%d", cudnnGetErrorString(st), detail, call,
                   base ? base + 1 : file, line);
}

dt_status dt_cublas_fail(cublasStatus_t st, const char *call, const char *file, int line) {
    const char *base = strrchr(file, '/');
    return dt_fail(DT_ERR_DEVICE, "cuBLASLt: %s in %s, %s:%d", cublasLtGetStatusString(st), call,
                   base ? base + 1 : file, line);
}

dt_status dt_cuda_out_of_memory(int64_t bytes, const char *what) {
    size_t free_bytes = 0, total = 0;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&free_bytes, &total);
    return dt_fail(DT_ERR_MEMORY, "%s: %s needed, %s of %s free on the GPU", what,
                   dt_bytes_needed_text((double)bytes).s, dt_bytes_free_text((double)free_bytes).s,
                   dt_bytes_text((double)total).s);
}

int32_t dt_cuda_device_count(void) {
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
    (void)cudaGetLastError();
    return 0;
}

/* Fewer GPUs are visible than ranks are here. That is right where a launcher shows each rank a GPU of its
 * own, and wrong where they would share one: a lock on a file named after the card tells. */
static dt_status claim(int device, const dt_backend_options *o, int visible, int *lock_fd) {
    char path[128], hex[33] = "";
    struct cudaDeviceProp prop;
    DT_CUDA_TRY(cudaGetDeviceProperties(&prop, device));
    for (int i = 0; i < 16; i++) snprintf(hex + 2 * i, 3, "%02x", (unsigned char)prop.uuid.bytes[i]);
    snprintf(path, sizeof path, "/tmp/dtrain-gpu-%s.lock", hex);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return DT_OK; /* no place for a lock: believe the launcher */
    (void)fchmod(fd, 0666);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *lock_fd = fd;
        return DT_OK;
    }
    close(fd);
    return dt_fail(
        DT_ERR_CONFIG,
        "%d ranks on this host but %d GPU%s visible, and another rank has GPU %d (%s): start one rank per "
        "GPU, or set dist.share_gpu = true",
        o->local_world, visible, visible == 1 ? " is" : "s are", device, prop.name);
}

dt_status dt_cuda_pick_device(const dt_backend_options *o, int *device, int *lock_fd) {
    int n = 0;
    *lock_fd = -1;
    cudaError_t err = cudaGetDeviceCount(&n);
    if (err != cudaSuccess || n == 0) {
        (void)cudaGetLastError();
        return dt_fail(DT_ERR_DEVICE, "no usable GPU: %s (nvidia-smi shows what the driver sees)",
                       err != cudaSuccess ? cudaGetErrorString(err)
                                          : "none is visible (CUDA_VISIBLE_DEVICES)");
    }
    *device = o->local_rank % n;
    if (o->local_world > n && !o->share_gpu) DT_TRY(claim(*device, o, n, lock_fd));
    DT_CUDA_TRY(cudaSetDevice(*device));
    DT_CUDA_TRY(cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync)); /* loader threads need the cores */
    return DT_OK;
}

static dt_status mem_alloc(dt_backend *be, dt_memkind kind, int64_t bytes, void **out) {
    *out = NULL;
    if (bytes <= 0) bytes = be->align_bytes;
    if (kind == DT_MEM_HOST) {
        if (cudaHostAlloc(out, (size_t)bytes, cudaHostAllocDefault) != cudaSuccess) {
            (void)cudaGetLastError();
            return dt_fail(DT_ERR_MEMORY, "pinned host memory: %s could not be had",
                           dt_bytes_text((double)bytes).s);
        }
        memset(*out, 0, (size_t)bytes);
        return DT_OK;
    }
    if (kind == DT_MEM_COMM) {
        DT_TRY(dt_cuda_comm_alloc(bytes, out));
    } else {
        cudaError_t err = cudaMalloc(out, (size_t)bytes);
        if (err == cudaErrorMemoryAllocation) return dt_cuda_out_of_memory(bytes, "device memory");
        DT_CUDA_TRY(err);
    }
    DT_CUDA_TRY(cudaMemset(*out, 0, (size_t)bytes));
    DT_CUDA_TRY(cudaDeviceSynchronize()); /* the compute stream does not wait for the default stream */
    return DT_OK;
}

static void mem_free(dt_backend *be, dt_memkind kind, void *ptr) {
    (void)be;
    if (!ptr) return;
    if (kind == DT_MEM_HOST)
        (void)cudaFreeHost(ptr);
    else if (kind == DT_MEM_COMM)
        dt_cuda_comm_free(ptr);
    else
        (void)cudaFree(ptr);
}

static dt_status mem_copy(dt_backend *be, void *dst, const void *src, int64_t bytes, dt_stream *stream) {
    if (bytes > 0)
        DT_CUDA_TRY(cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyDefault,
                                    dt_cuda_stream(dt_cuda_of(be), stream)));
    return DT_OK;
}

static dt_status mem_fill(dt_backend *be, void *dst, int byte, int64_t bytes, dt_stream *stream) {
    if (bytes > 0)
        DT_CUDA_TRY(cudaMemsetAsync(dst, byte, (size_t)bytes, dt_cuda_stream(dt_cuda_of(be), stream)));
    return DT_OK;
}

static dt_status stream_create(dt_backend *be, dt_stream **out) {
    (void)be;
    cudaStream_t s;
    DT_CUDA_TRY(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    *out = (dt_stream *)s;
    return DT_OK;
}

static void stream_destroy(dt_backend *be, dt_stream *stream) {
    (void)be;
    if (stream) (void)cudaStreamDestroy((cudaStream_t)stream);
}

static dt_status stream_sync(dt_backend *be, dt_stream *stream) {
    DT_CUDA_TRY(cudaStreamSynchronize(dt_cuda_stream(dt_cuda_of(be), stream)));
    return DT_OK;
}

static dt_status event_create(dt_backend *be, dt_event **out) {
    (void)be;
    cudaEvent_t e;
    DT_CUDA_TRY(cudaEventCreateWithFlags(&e, cudaEventDisableTiming | cudaEventBlockingSync));
    *out = (dt_event *)e;
    return DT_OK;
}

static dt_status timer_create(dt_backend *be, dt_event **out) {
    (void)be;
    cudaEvent_t e;
    DT_CUDA_TRY(cudaEventCreateWithFlags(&e, cudaEventBlockingSync));
    *out = (dt_event *)e;
    return DT_OK;
}

static dt_status timer_elapsed(dt_backend *be, dt_event *from, dt_event *to, double *seconds) {
    (void)be;
    float ms = 0;
    DT_CUDA_TRY(cudaEventElapsedTime(&ms, (cudaEvent_t)from, (cudaEvent_t)to));
    *seconds = 1e-3 * (double)ms;
    return DT_OK;
}

static void event_destroy(dt_backend *be, dt_event *event) {
    (void)be;
    if (event) (void)cudaEventDestroy((cudaEvent_t)event);
}

static dt_status event_record(dt_backend *be, dt_event *event, dt_stream *stream) {
    DT_CUDA_TRY(cudaEventRecord((cudaEvent_t)event, dt_cuda_stream(dt_cuda_of(be), stream)));
    return DT_OK;
}

static dt_status event_wait(dt_backend *be, dt_event *event, dt_stream *stream) {
    DT_CUDA_TRY(cudaStreamWaitEvent(dt_cuda_stream(dt_cuda_of(be), stream), (cudaEvent_t)event, 0));
    return DT_OK;
}

static dt_status event_query(dt_backend *be, dt_event *event, bool *done) {
    (void)be;
    cudaError_t err = cudaEventQuery((cudaEvent_t)event);
    *done = err == cudaSuccess;
    if (err == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return DT_OK;
    }
    DT_CUDA_TRY(err);
    return DT_OK;
}

static dt_status event_sync(dt_backend *be, dt_event *event) {
    (void)be;
    DT_CUDA_TRY(cudaEventSynchronize((cudaEvent_t)event));
    return DT_OK;
}

/* Relaxed: a kernel that runs here for the first time loads its module, which stricter modes forbid. */
static dt_status capture(dt_backend *be, dt_status (*enqueue)(void *arg), void *arg, dt_capture **out) {
    dt_cuda *cu = dt_cuda_of(be);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    DT_CUDA_TRY(cudaStreamBeginCapture(cu->compute, cudaStreamCaptureModeRelaxed));
    dt_status st = enqueue(arg);
    cudaError_t err = cudaStreamEndCapture(cu->compute, &graph);
    if (st == DT_OK && err == cudaSuccess) err = cudaGraphInstantiate(&exec, graph, 0);
    if (graph) (void)cudaGraphDestroy(graph);
    if (st != DT_OK) {
        (void)cudaGetLastError();
        return st;
    }
    if (err != cudaSuccess) return dt_cuda_fail(err, "capture of the step", __FILE__, __LINE__);
    *out = (dt_capture *)exec;
    return DT_OK;
}

static dt_status replay(dt_backend *be, dt_capture *captured, dt_stream *stream) {
    DT_CUDA_TRY(cudaGraphLaunch((cudaGraphExec_t)captured, dt_cuda_stream(dt_cuda_of(be), stream)));
    return DT_OK;
}

static void capture_free(dt_backend *be, dt_capture *captured) {
    (void)be;
    if (captured) (void)cudaGraphExecDestroy((cudaGraphExec_t)captured);
}

void dt_cuda_device_table(dt_backend *be) {
    be->alloc = mem_alloc;
    be->free = mem_free;
    be->copy = mem_copy;
    be->fill = mem_fill;
    be->stream_create = stream_create;
    be->stream_destroy = stream_destroy;
    be->stream_sync = stream_sync;
    be->event_create = event_create;
    be->event_destroy = event_destroy;
    be->event_record = event_record;
    be->event_wait = event_wait;
    be->event_query = event_query;
    be->event_sync = event_sync;
    be->timer_create = timer_create;
    be->timer_elapsed = timer_elapsed;
    be->capture = capture;
    be->replay = replay;
    be->capture_free = capture_free;
}
