/* NCCL's communicator, set up over MPI. Non-blocking: every call that NCCL finishes later is polled with a
 * timeout, so a rank that died ends the wait instead of hanging it.
 *
 * A dt_stream of the CUDA backend is a cudaStream_t (src/gpu says so). Calls without a stream use one of the
 * communicator's own, forked from the compute stream and joined by wait(). */
#include <nccl.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dist/comm.h"

enum { POLL_FAST = 1000, ABORT_PATIENCE_S = 5 };

/* A communicator's life, in this order. BROKEN: it is being aborted, and nothing may use it any more. */
enum { LIVE, FAILING, BROKEN, ABORTED };

typedef struct nccl_state {
    dt_comm base;
    dt_comm *mpi;
    dt_backend *be;
    ncclComm_t comm;
    dt_stream *stream; /* for calls without one; made when first needed */
    dt_event *produced, *done;
    bool on_own_stream; /* something was put on it since the last wait */
    atomic_int phase;
    char cause[512]; /* the first failure, from BROKEN on */
} nccl_state;

static nccl_state *state_of(dt_comm *c) {
    return c->impl;
}

static dt_status nccl_fail(nccl_state *s, ncclResult_t r, const char *call) {
    const char *detail = s->comm ? ncclGetLastError(s->comm) : "";
    dt_status st =
        r == ncclRemoteError || r == ncclInternalError || r == ncclSystemError ? DT_ERR_PEER : DT_ERR_DEVICE;
    return dt_fail(st, "NCCL on rank %d (%s): %s in %s%s%s", s->base.rank, s->base.host,
                   ncclGetErrorString(r), call, detail && *detail ? ": " : "", detail ? detail : "");
}

static void nap(void) {
    const struct timespec t = {.tv_nsec = 200 * 1000};
    (void)nanosleep(&t, NULL);
}

static void *abort_comm(void *arg) {
    nccl_state *s = arg;
    (void)ncclCommAbort(s->comm);
    atomic_store(&s->phase, ABORTED);
    return NULL;
}

/* Kills what is under way on this communicator, for the reason that the error text gives; other ranks see it
 * as a remote error. In a thread of its own, because NCCL's abort first stops its kernels and then waits
 * until no captured program refers to it. */
static void kill_comm(nccl_state *s) {
    pthread_t thread;
    int phase = LIVE;
    if (!s->comm || !atomic_compare_exchange_strong(&s->phase, &phase, FAILING)) return;
    snprintf(s->cause, sizeof s->cause, "%s", dt_error_text());
    atomic_store(&s->phase, BROKEN);
    if (pthread_create(&thread, NULL, abort_comm, s) == 0)
        (void)pthread_detach(thread);
    else
        atomic_store(&s->phase, ABORTED);
}

static bool is_broken(nccl_state *s) {
    return atomic_load(&s->phase) >= BROKEN;
}

static dt_status alive(nccl_state *s) {
    return is_broken(s) ? dt_fail(DT_ERR_PEER, "%s", s->cause) : DT_OK;
}

/* Waits until NCCL has finished what `r` left in progress. */
static dt_status settle(nccl_state *s, ncclResult_t r, const char *call) {
    double end = dt_time_s() + s->base.timeout_s;
    for (int64_t i = 0; r == ncclInProgress; i++) {
        DT_TRY(alive(s));
        ncclResult_t err = ncclCommGetAsyncError(s->comm, &r);
        if (err != ncclSuccess) r = err;
        if (r != ncclInProgress) break;
        if (dt_time_s() > end) {
            dt_status late = dt_fail(
                DT_ERR_PEER, "NCCL on rank %d (%s): %s did not finish within %.0f s: another rank is missing",
                s->base.rank, s->base.host, call, s->base.timeout_s);
            kill_comm(s);
            return late;
        }
        if (i > POLL_FAST) nap();
    }
    if (r == ncclSuccess) return DT_OK;
    dt_status st = nccl_fail(s, r, call);
    kill_comm(s);
    return st;
}

static ncclDataType_t nccl_type(dt_dtype dtype) {
    static const ncclDataType_t TYPE[DT_DTYPE_COUNT] = {
        [DT_DTYPE_F32] = ncclFloat32, [DT_DTYPE_F16] = ncclFloat16, [DT_DTYPE_BF16] = ncclBfloat16,
        [DT_DTYPE_U8] = ncclUint8,    [DT_DTYPE_I32] = ncclInt32,   [DT_DTYPE_I64] = ncclInt64,
        [DT_DTYPE_F64] = ncclFloat64, [DT_DTYPE_I8] = ncclInt8,     [DT_DTYPE_BOOL] = ncclUint8,
        [DT_DTYPE_I4] = ncclUint8};
    return TYPE[dtype];
}

/* The stream to use; without one the own stream, behind what the compute stream has enqueued. */
static dt_status enter(nccl_state *s, dt_stream *stream, dt_stream **use) {
    *use = stream;
    if (stream) return DT_OK;
    if (!s->stream) {
        DT_TRY(s->be->stream_create(s->be, &s->stream));
        DT_TRY(s->be->event_create(s->be, &s->produced));
        DT_TRY(s->be->event_create(s->be, &s->done));
    }
    DT_TRY(s->be->event_record(s->be, s->produced, NULL));
    DT_TRY(s->be->event_wait(s->be, s->produced, s->stream));
    s->on_own_stream = true;
    *use = s->stream;
    return DT_OK;
}

static dt_status join(nccl_state *s) {
    if (!s->on_own_stream) return DT_OK;
    s->on_own_stream = false;
    DT_TRY(s->be->event_record(s->be, s->done, s->stream));
    return s->be->event_wait(s->be, s->done, NULL);
}

static dt_status nccl_allreduce(dt_comm *c, void *buf, int64_t n_elem, dt_dtype dtype, dt_stream *stream) {
    nccl_state *s = state_of(c);
    dt_stream *use;
    DT_TRY(alive(s));
    DT_TRY(enter(s, stream, &use));
    return settle(
        s, ncclAllReduce(buf, buf, (size_t)n_elem, nccl_type(dtype), ncclSum, s->comm, (cudaStream_t)use),
        "ncclAllReduce");
}

/* Also called by the watchdog's thread. */
static dt_status nccl_progress(dt_comm *c) {
    nccl_state *s = state_of(c);
    ncclResult_t r = ncclSuccess;
    DT_TRY(alive(s));
    ncclResult_t err = ncclCommGetAsyncError(s->comm, &r);
    if (err != ncclSuccess) r = err;
    if (r == ncclSuccess || r == ncclInProgress) return DT_OK;
    dt_status st = nccl_fail(s, r, "a collective");
    kill_comm(s);
    return st;
}

static dt_status nccl_wait(dt_comm *c, dt_stream *stream) {
    nccl_state *s = state_of(c);
    DT_TRY(nccl_progress(c));
    return stream ? DT_OK : join(s); /* on a stream of the caller, order is enough */
}

/* After an abort: waits until it is done, for kernels may still be using the buffers. */
static void nccl_release(dt_comm *c) {
    nccl_state *s = state_of(c);
    const double end = dt_time_s() + ABORT_PATIENCE_S;
    while (atomic_load(&s->phase) == BROKEN && dt_time_s() < end) nap();
}

static void nccl_abort(dt_comm *c, int code) {
    nccl_state *s = state_of(c);
    kill_comm(s);
    s->mpi->abort(s->mpi, code);
}

static void nccl_destroy(dt_comm *c) {
    nccl_state *s = state_of(c);
    nccl_release(c);
    if (s->comm && !is_broken(s) && settle(s, ncclCommFinalize(s->comm), "ncclCommFinalize") == DT_OK)
        (void)ncclCommDestroy(s->comm);
    if (atomic_load(&s->phase) == BROKEN) return; /* the thread still uses it */
    if (s->done) s->be->event_destroy(s->be, s->done);
    if (s->produced) s->be->event_destroy(s->be, s->produced);
    if (s->stream) s->be->stream_destroy(s->be, s->stream);
    free(s);
}

/* Joins the communicator. Every rank must get here, so what can fail alone is agreed on before. */
static dt_status connect_ranks(nccl_state *s) {
    ncclUniqueId id = {0};
    dt_status mine = DT_OK;
    if (s->base.rank == 0) {
        ncclResult_t r = ncclGetUniqueId(&id);
        if (r != ncclSuccess) mine = nccl_fail(s, r, "ncclGetUniqueId");
    }
    DT_TRY(dt_comm_agree(s->mpi, mine));
    DT_TRY(dt_comm_bcast_host(s->mpi, &id, (int64_t)sizeof id, 0));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    mine = settle(s, ncclCommInitRankConfig(&s->comm, s->base.world, id, s->base.rank, &config),
                  "ncclCommInitRankConfig");
    return dt_comm_agree(s->mpi, mine);
}

bool dt_comm_nccl_built(void) {
    return true;
}

dt_status dt_comm_nccl_create(dt_comm *mpi, dt_backend *be, double timeout_s, dt_comm **out) {
    *out = NULL;
    if (!be->info.is_gpu)
        return dt_fail(DT_ERR_CONFIG, "NCCL reduces GPU memory only; use dist.backend = \"mpi\"");
    nccl_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for the NCCL communicator");
    s->mpi = mpi;
    s->be = be;
    s->base = *mpi; /* rank, world, host */
    s->base.name = "nccl";
    s->base.device_memory = true;
    s->base.allreduce_begin = nccl_allreduce;
    s->base.sum_now = NULL;
    s->base.progress = nccl_progress;
    s->base.wait = nccl_wait;
    s->base.release = nccl_release;
    s->base.abort = nccl_abort;
    s->base.destroy = nccl_destroy;
    s->base.timeout_s = timeout_s;
    s->base.impl = s;
    dt_status st = connect_ranks(s);
    if (st != DT_OK) {
        kill_comm(s);
        nccl_destroy(&s->base);
        return st;
    }
    *out = &s->base;
    return DT_OK;
}
