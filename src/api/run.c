/* Runs: a device and the other ranks. MPI is the process' and is shared by its runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "core/cores.h"
#include "cpu/cpu.h"
#include "gpu/cuda.h"

static const double default_timeout_s = 300;
enum { THREADS_MAX = 4096 };

/* MPI starts and ends once in a process. */
static struct {
    pthread_mutex_t lock;
    dt_comm *mpi;
    int32_t users, n_run;
    int32_t n_open; /* of the users those that were not closed */
} process = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* With the process, where the ranks have met to close all runs and handles of one are left: they need no MPI any more. */
static void mpi_end(void) {
    if (process.mpi && process.n_open == 0) dt_comm_fini(process.mpi);
    process.mpi = NULL;
}

static dt_status mpi_hold(double timeout_s, dt_comm **out, int32_t *number) {
    dt_status st = DT_OK;
    *out = NULL;
    *number = 1;
    if (dt_comm_tasks() < 2) return DT_OK;
    pthread_mutex_lock(&process.lock);
    if (!process.mpi) {
        st = dt_comm_init(NULL, NULL, &process.mpi);
        if (st == DT_OK) (void)atexit(mpi_end); /* else it ends with its last user alone */
    }
    if (st == DT_OK) {
        process.users++;
        process.n_open++;
        *number = ++process.n_run;
        process.mpi->timeout_s = timeout_s;
        *out = process.mpi;
    }
    pthread_mutex_unlock(&process.lock);
    return st == DT_ERR_INTERNAL ? dt_fail(DT_ERR_USAGE, "MPI has ended with the last run of this process: "
                                                         "open all runs before the last one is closed")
                                 : st;
}

static bool is_last(const dt_run *run) {
    pthread_mutex_lock(&process.lock);
    const bool last = run->mpi && process.users == 1;
    pthread_mutex_unlock(&process.lock);
    return last;
}

static void mpi_drop(dt_comm *mpi, bool failed) {
    if (!mpi) return;
    pthread_mutex_lock(&process.lock);
    if (--process.users == 0) {
        process.mpi = NULL;
        if (failed)
            dt_comm_abandon(mpi);
        else
            dt_comm_fini(mpi);
    }
    pthread_mutex_unlock(&process.lock);
}

dt_status dt_run_make_backend(const dt_run *run, bool host, dt_backend **out) {
    const dt_run_options *o = &run->options;
    const dt_backend_options b = {.local_rank = run->mpi ? run->mpi->local_rank : 0,
                                  .local_world = run->mpi ? run->mpi->local_world : 1,
                                  .threads = o->threads,
                                  .deterministic = o->deterministic,
                                  .tf32 = o->tf32,
                                  .share_gpu = o->share_gpu};
    const bool gpu =
        !host && (o->device == DT_DEVICE_CUDA || (o->device == DT_DEVICE_AUTO && dt_cuda_device_count() > 0));
    return gpu ? dt_backend_cuda_create(&b, out) : dt_backend_cpu_create(&b, out);
}

dt_status dt_run_choose_comm(dt_run *run, dt_backend *be, dt_comm **out) {
    *out = run->mpi;
    if (!run->mpi) return DT_OK;
    double able = be->info.is_gpu && dt_comm_nccl_built() && !run->options.share_gpu;
    DT_TRY(dt_comm_sum_host(run->mpi, &able, 1));
    if (able < run->mpi->world) return DT_OK;
    const dt_status st = dt_comm_nccl_create(run->mpi, be, run->mpi->timeout_s, out);
    if (st != DT_OK) *out = run->mpi;
    return dt_comm_agree(run->mpi, st);
}

static dt_status open_devices(dt_run *run) {
    DT_TRY(dt_run_make_backend(run, false, &run->be));
    if (!run->be->info.is_gpu)
        run->host = run->be;
    else
        DT_TRY(dt_run_make_backend(run, true, &run->host));
    return DT_OK;
}

/* A rank that is elsewhere would wait for this one. */
static void leave(dt_run *run) {
    char call[64];
    if (!run->mpi || run->failed) return;
    snprintf(call, sizeof call, "the end of run %d (dt_run_close)", run->number);
    run->failed = dt_run_meet(run, DT_OK, true, call) != DT_OK;
}

/* With its ranks, or never open. */
static void closed(const dt_run *run) {
    if (!run->mpi || run->failed) return;
    pthread_mutex_lock(&process.lock);
    process.n_open--;
    pthread_mutex_unlock(&process.lock);
}

static void tear_down(dt_run *run) {
    if (!run->closed) { /* it could not be opened */
        if (is_last(run)) leave(run);
        closed(run);
    }
    for (int i = 0; i < 2; i++) dt_eager_destroy(run->eager[i]);
    if (run->comm && run->comm != run->mpi) run->comm->destroy(run->comm);
    if (run->host && run->host != run->be) run->host->destroy(run->host);
    if (run->be) run->be->destroy(run->be);
    mpi_drop(run->mpi, run->failed);
    pthread_mutex_destroy(&run->lock);
    dt_handle_free(run);
}

static dt_status check_options(const dt_run_options *o) {
    if (o->device < DT_DEVICE_AUTO || o->device > DT_DEVICE_CUDA)
        return dt_fail(DT_ERR_USAGE, "dt_run_open: device is %d, none of dt_device", (int)o->device);
    const bool fit = dt_check_whole("dt_run_open", "threads", o->threads, 1, THREADS_MAX) == DT_OK &&
                     dt_check_real("dt_run_open", "timeout_s", o->timeout_s, 1e-3, 1e9) == DT_OK;
    return fit ? DT_OK : DT_ERR_USAGE;
}

dt_status dt_run_open(dt_run_options options, dt_run **out) {
    DT_CHECK_POINTER(out);
    *out = NULL;
    dt_error_rephrase(dt_api_rephrase);
    dt_run *run = dt_handle_new(DT_HANDLE_RUN, sizeof *run);
    if (!run) return dt_fail(DT_ERR_MEMORY, "no memory for a run");
    run->refs = 1;
    pthread_mutex_init(&run->lock, NULL);
    /* What one rank cannot take, all learn: they would wait for it as MPI starts. */
    dt_status bad = check_options(&options), st = bad;
    char why[512];
    snprintf(why, sizeof why, "%s", bad != DT_OK ? dt_error_text() : "");
    if (bad == DT_OK || dt_comm_tasks() > 1) {
        const double timeout_s =
            bad == DT_OK && options.timeout_s > 0 ? options.timeout_s : default_timeout_s;
        run->options = options;
        st = mpi_hold(timeout_s, &run->mpi, &run->number);
    }
    if (st == DT_OK) {
        if (bad != DT_OK) dt_error_set(bad, why);
        if (bad == DT_OK) dt_cores_unbind(run->mpi ? run->mpi->local_world : 1);
        st = dt_run_meet(run, bad == DT_OK ? open_devices(run) : bad, false, "dt_run_open");
        if (st == DT_OK) st = dt_run_choose_comm(run, run->be, &run->comm);
    }
    if (st == DT_OK) {
        *out = run;
        return DT_OK;
    }
    snprintf(why, sizeof why, "%s", dt_error_text());
    dt_handle_end(DT_HANDLE_RUN, run);
    tear_down(run);
    dt_error_set(st, why);
    return st;
}

void dt_run_hold(dt_run *run) {
    pthread_mutex_lock(&run->lock);
    run->refs++;
    pthread_mutex_unlock(&run->lock);
}

void dt_run_drop(dt_run *run) {
    pthread_mutex_lock(&run->lock);
    const bool last = --run->refs == 0;
    pthread_mutex_unlock(&run->lock);
    if (last) tear_down(run);
}

void dt_run_close(dt_run *run) {
    if (!dt_handle_end(DT_HANDLE_RUN, run)) return;
    run->closed = true;
    leave(run);
    closed(run);
    dt_run_drop(run);
}

dt_status dt_run_get_info(const dt_run *run, dt_run_info *out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    const dt_device_info *d = &run->be->info;
    *out = (dt_run_info){.rank = run->mpi ? run->mpi->rank : 0,
                         .world = run->mpi ? run->mpi->world : 1,
                         .threads = run->options.threads > 0 ? run->options.threads : run->be->host_threads,
                         .is_gpu = d->is_gpu,
                         .memory_bytes = d->total_bytes,
                         .free_bytes = d->free_bytes};
    memcpy(out->device, d->name, sizeof out->device);
    return DT_OK;
}

/* Remembers that this rank left a collective call early. */
static dt_status note(dt_run *run, dt_status st) {
    if (st != DT_OK) run->failed = true;
    return st;
}

static dt_status own_tensor(const dt_run *run, const dt_tensor *t, const char *function) {
    return t->run == run ? DT_OK : dt_fail(DT_ERR_USAGE, "%s: the tensor is of another run", function);
}

static dt_status all_reduce(dt_run *run, dt_tensor *t) {
    if (t->n_elem == 0) return DT_OK;
    if (t->be->info.is_gpu == run->comm->device_memory) {
        DT_TRY(run->comm->allreduce_begin(run->comm, t->data, t->n_elem, t->dtype, NULL));
        return run->comm->wait(run->comm, NULL);
    }
    /* Memory that the communicator does not take, by way of the host. */
    void *host = NULL;
    DT_TRY(t->be->alloc(t->be, DT_MEM_HOST, t->bytes, &host));
    dt_status st = t->be->copy(t->be, host, t->data, t->bytes, NULL);
    if (st == DT_OK) st = t->be->stream_sync(t->be, NULL);
    if (st == DT_OK) st = run->mpi->allreduce_begin(run->mpi, host, t->n_elem, t->dtype, NULL);
    if (st == DT_OK) st = run->mpi->wait(run->mpi, NULL);
    if (st == DT_OK) st = t->be->copy(t->be, t->data, host, t->bytes, NULL);
    if (st == DT_OK) st = t->be->stream_sync(t->be, NULL);
    if (st == DT_OK) t->be->free(t->be, DT_MEM_HOST, host); /* else MPI may still use it */
    return st;
}

/* The beginning of a call on tensors of all ranks. */
static dt_status meet(dt_run *run, const dt_tensor *t, dt_status mine, const char *function, int32_t root) {
    char call[256];
    snprintf(call, sizeof call, "%s\n%s %s\nroot %d", function,
             mine == DT_OK ? dt_shape_to_text(t->shape).s : "", mine == DT_OK ? dt_dtype_name(t->dtype) : "",
             root);
    return dt_run_meet(run, mine, false, call);
}

static dt_status check_reduce(const dt_run *run, const dt_tensor *t) {
    static const char function[] = "dt_run_all_reduce";
    DT_TRY(dt_handle_check(DT_HANDLE_TENSOR, t, function, "t"));
    DT_TRY(own_tensor(run, t, function));
    if (t->dtype != DT_DTYPE_F32 && t->dtype != DT_DTYPE_F16 && t->dtype != DT_DTYPE_BF16 &&
        t->dtype != DT_DTYPE_F64 && t->dtype != DT_DTYPE_I32)
        return dt_fail(DT_ERR_UNSUPPORTED, "%s: no sums of %s", function, dt_dtype_name(t->dtype));
    return DT_OK;
}

dt_status dt_run_all_reduce(dt_run *run, dt_tensor *t) {
    DT_CHECK_RUN(run);
    const dt_status mine = check_reduce(run, t);
    if (!run->mpi) return mine;
    pthread_mutex_lock(&run->lock);
    dt_status st = meet(run, t, mine, __func__, 0);
    if (st == DT_OK) st = note(run, all_reduce(run, t));
    pthread_mutex_unlock(&run->lock);
    return st;
}

static dt_status check_broadcast(const dt_run *run, const dt_tensor *t, int32_t root) {
    static const char function[] = "dt_run_broadcast";
    DT_TRY(dt_handle_check(DT_HANDLE_TENSOR, t, function, "t"));
    DT_TRY(own_tensor(run, t, function));
    if (root < 0 || root >= (run->mpi ? run->mpi->world : 1))
        return dt_fail(DT_ERR_USAGE, "%s: there is no rank %d", function, root);
    return DT_OK;
}

static dt_status broadcast(dt_run *run, dt_tensor *t, int32_t root) {
    if (!t->be->info.is_gpu) return dt_comm_bcast_host(run->mpi, t->data, t->bytes, root);
    void *host = NULL;
    dt_status st = t->be->alloc(t->be, DT_MEM_HOST, t->bytes, &host);
    if (st == DT_OK) st = t->be->copy(t->be, host, t->data, t->bytes, NULL);
    if (st == DT_OK) st = t->be->stream_sync(t->be, NULL);
    if (st == DT_OK) st = dt_comm_bcast_host(run->mpi, host, t->bytes, root);
    if (st == DT_OK) st = t->be->copy(t->be, t->data, host, t->bytes, NULL);
    if (st == DT_OK) st = t->be->stream_sync(t->be, NULL);
    if (host) t->be->free(t->be, DT_MEM_HOST, host);
    return st;
}

dt_status dt_run_broadcast(dt_run *run, dt_tensor *t, int32_t root) {
    DT_CHECK_RUN(run);
    const dt_status mine = check_broadcast(run, t, root);
    if (!run->mpi) return mine;
    pthread_mutex_lock(&run->lock);
    dt_status st = meet(run, t, mine, __func__, root);
    if (st == DT_OK && t->bytes > 0) st = note(run, broadcast(run, t, root));
    pthread_mutex_unlock(&run->lock);
    return st;
}

dt_status dt_run_agree(dt_run *run, dt_status mine) {
    DT_CHECK_RUN(run);
    mine = dt_check_brought(__func__, mine);
    pthread_mutex_lock(&run->lock);
    const dt_status st = dt_run_meet(run, mine, false, "dt_run_agree");
    pthread_mutex_unlock(&run->lock);
    return st;
}
