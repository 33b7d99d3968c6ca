/* The MPI communicator: start and end of MPI, and reductions of host buffers.
 *
 * Reductions are MPI_Iallreduce. In Open MPI its schedule depends on the world size, the element count and
 * the type alone, so the order of additions is fixed and every rank gets the same bits (tests/dist checks
 * both). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bound.h"
#include "comm_mpi_internal.h"
#include "dist/signals.h"
#include "launcher.h"

static const double default_timeout_s = 300.0;
/* The configuration, which has a timeout, has not been read when MPI starts. */
static const double start_timeout_s = 300.0;
static const int64_t start_timeout_max_s = 86400;
/* For tasks that fail before MPI to meet. */
static const double meet_s = 10.0;
/* How long MPI_Abort may take before the process ends itself. */
static const time_t abort_patience_s = 5;
/* Elements per MPI call: 16 MiB of floats stay in the caches between the steps of a reduction (64 MiB in one
 * call took 1.5 to 1.8 times as long). And counts are ints. */
static const int64_t call_elem_max = INT64_C(1) << 22;

static bool mpi_started; /* MPI starts once per process */

dt_mpi *dt_mpi_of(dt_comm *c) {
    DT_ASSERT(c != NULL && strcmp(c->name, "mpi") == 0);
    return c->impl;
}

/* ---- reductions ---- */

static MPI_Datatype mpi_type_of(dt_dtype dtype) {
    switch (dtype) {
    case DT_DTYPE_F32:
        return MPI_FLOAT;
    case DT_DTYPE_F64:
        return MPI_DOUBLE;
    case DT_DTYPE_I32:
        return MPI_INT32_T;
    case DT_DTYPE_F16:
    case DT_DTYPE_BF16:
        return MPI_UINT16_T;
    default:
        return MPI_DATATYPE_NULL;
    }
}

static MPI_Op mpi_sum_of(const dt_mpi *m, dt_dtype dtype) {
    if (dtype == DT_DTYPE_F16) return m->sum_f16;
    if (dtype == DT_DTYPE_BF16) return m->sum_bf16;
    return MPI_SUM;
}

static dt_status mpi_progress(dt_comm *c) {
    dt_mpi *m = dt_mpi_of(c);
    if (m->n_pending == 0) return DT_OK;
    int done[DT_MPI_PENDING_MAX], n_done = 0;
    dt_status status;
    DT_MPI_CALL(m, status, MPI_Testsome(m->n_pending, m->pending, &n_done, done, MPI_STATUSES_IGNORE));
    if (status != DT_OK) return status;
    int kept = 0;
    for (int i = 0; i < m->n_pending; i++)
        if (m->pending[i] != MPI_REQUEST_NULL) m->pending[kept++] = m->pending[i];
    m->n_pending = kept;
    return DT_OK;
}

static dt_status mpi_wait(dt_comm *c, dt_stream *stream) {
    (void)stream;
    dt_mpi *m = dt_mpi_of(c);
    if (m->n_pending == 0) return DT_OK;
    DT_TRY(dt_mpi_finish(m, m->pending, m->n_pending, "all-reduce"));
    m->n_pending = 0;
    return DT_OK;
}

static dt_status mpi_allreduce_begin(dt_comm *c, void *buf, int64_t n_elem, dt_dtype dtype,
                                     dt_stream *stream) {
    dt_mpi *m = dt_mpi_of(c);
    MPI_Datatype type = mpi_type_of(dtype);
    if (type == MPI_DATATYPE_NULL)
        return dt_fail(DT_ERR_UNSUPPORTED, "all-reduce over MPI: no sums of %s", dt_dtype_name(dtype));
    if (c->world == 1) return DT_OK;
    size_t elem_bytes = dt_dtype_size(dtype);
    for (int64_t at = 0; at < n_elem; at += call_elem_max) {
        if (m->n_pending == DT_MPI_PENDING_MAX) DT_TRY(mpi_progress(c));
        if (m->n_pending == DT_MPI_PENDING_MAX) DT_TRY(mpi_wait(c, stream));
        int n = (int)dt_min_i64(call_elem_max, n_elem - at);
        void *from = (char *)buf + (size_t)at * elem_bytes;
        dt_status status;
        DT_MPI_CALL(m, status,
                    MPI_Iallreduce(MPI_IN_PLACE, from, n, type, mpi_sum_of(m, dtype), m->reduce,
                                   &m->pending[m->n_pending]));
        if (status != DT_OK) return status;
        m->n_pending++;
    }
    return DT_OK;
}

static dt_status mpi_sum_now(dt_comm *c, double *values, int64_t n_elem) {
    dt_mpi *m = dt_mpi_of(c);
    for (int64_t at = 0; at < n_elem && c->world > 1; at += call_elem_max) {
        const int n = (int)dt_min_i64(call_elem_max, n_elem - at);
        MPI_Request req;
        dt_status status;
        DT_MPI_CALL(m, status,
                    MPI_Iallreduce(MPI_IN_PLACE, values + at, n, MPI_DOUBLE, MPI_SUM, m->step, &req));
        if (status == DT_OK) status = dt_mpi_finish(m, &req, 1, "sum over ranks within a step");
        if (status != DT_OK) return status;
    }
    return DT_OK;
}

/* ---- end ---- */

static void *abort_watch(void *arg) {
    int code = *(const int *)arg;
    struct timespec t = {.tv_sec = abort_patience_s};
    nanosleep(&t, NULL);
    _exit(code);
}

static void mpi_abort(dt_comm *c, int code) {
    dt_mpi *m = dt_mpi_of(c);
    /* Static: the watching thread may outlive this frame's use of it. */
    static int exit_code;
    exit_code = code;
    pthread_t thread;
    if (pthread_create(&thread, NULL, abort_watch, &exit_code) != 0) _exit(code);
    /* Another thread may be inside MPI, perhaps for good: then abort all the same. */
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_mutex_timedlock(&m->lock, &until);
    MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

static int32_t mpi_ended(dt_comm *c, int32_t *lowest_alive) {
    const int32_t ended = dt_peers_ended(&dt_mpi_of(c)->peers, lowest_alive);
    if (c->rank < *lowest_alive) *lowest_alive = c->rank;
    return ended;
}

static void mpi_free(dt_mpi *m) {
    dt_peers_close(&m->peers);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->calling);
    free(m->host);
    free(m->heard);
    free(m);
}

static void mpi_destroy(dt_comm *c) {
    dt_comm_fini(c);
}

void dt_comm_fini(dt_comm *mpi) {
    if (mpi == NULL) return;
    dt_mpi *m = dt_mpi_of(mpi);
    /* A rank that did not come would hang MPI_Finalize: meet first, with a timeout. */
    if (m->n_pending > 0 || m->broken || dt_comm_barrier(mpi) != DT_OK) {
        mpi_free(m);
        return;
    }
    dt_bound *bound =
        dt_bound_start(mpi->timeout_s, mpi->rank, dt_status_exit_code(DT_ERR_PEER),
                       "MPI_Finalize has not returned", "another rank, or mpirun, does not end");
    MPI_Op_free(&m->sum_f16);
    MPI_Op_free(&m->sum_bf16);
    MPI_Comm_free(&m->reduce);
    MPI_Comm_free(&m->step);
    MPI_Comm_free(&m->control);
    MPI_Comm_free(&m->roll);
    MPI_Comm_free(&m->ending);
    if (!m->foreign) MPI_Finalize();
    dt_bound_stop(bound);
    mpi_free(m);
}

void dt_comm_abandon(dt_comm *mpi) {
    if (mpi == NULL) return;
    dt_mpi_of(mpi)->broken = true;
    dt_comm_fini(mpi);
}

/* ---- start ---- */

/* A launcher started several processes, yet MPI sees one: each would train alone and all would write one
 * run. */
static dt_status check_lone_rank(void) {
    static const char *const size_of_launcher[] = {"SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    if (dt_launcher_env_count("DTRAIN_SINGLE") == 1) return DT_OK;
    for (size_t i = 0; i < sizeof size_of_launcher / sizeof size_of_launcher[0]; i++) {
        int64_t n = dt_launcher_env_count(size_of_launcher[i]);
        if (n > 1)
            return dt_fail(
                DT_ERR_USAGE,
                "%s is %lld, but MPI sees one rank: this would be %lld jobs of one rank each. Start with "
                "mpirun, or with srun --mpi=pmix; for one process on purpose set DTRAIN_SINGLE=1",
                size_of_launcher[i], (long long)n, (long long)n);
    }
    return DT_OK;
}

static dt_status check_level(int provided) {
    if (provided >= MPI_THREAD_SERIALIZED) return DT_OK;
    return dt_fail(DT_ERR_UNSUPPORTED,
                   "MPI runs here at thread level %d, dtrain needs MPI_THREAD_SERIALIZED (%d): use a build "
                   "with thread support, or ask for that level where MPI is started",
                   provided, MPI_THREAD_SERIALIZED);
}

/* Process-wide, once; *foreign: the program has done so. */
static dt_status start_mpi(int *argc, char ***argv, bool *foreign) {
    int begun = 0, ended = 0, provided = MPI_THREAD_SINGLE;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    *foreign = begun && !ended && !mpi_started;
    if (*foreign) {
        MPI_Query_thread(&provided);
        return check_level(provided);
    }
    if (mpi_started || ended) return dt_fail(DT_ERR_INTERNAL, "MPI was already started in this process");
    mpi_started = true;
    DT_TRY(dt_launcher_check_room());
    /* Start-up and MPI_Finalize wait inside MPI: let them yield the core. */
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    /* Rabenseifner's algorithm moves the least data; by default two ranks take turns and need 2.5 times as
     * long. */
    setenv("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "3", 0);
    /* Without a launcher Open MPI would start a daemon of its own, which a container may forbid. */
    if (!dt_launcher_speaks_mpi()) setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    int rc = MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided);
    if (rc != MPI_SUCCESS) return dt_fail(DT_ERR_PEER, "MPI_Init_thread failed with code %d", rc);
    return check_level(provided);
}

static dt_status dup_world(dt_mpi *m, MPI_Comm *out) {
    dt_status status;
    DT_MPI_CALL(m, status, MPI_Comm_dup(MPI_COMM_WORLD, out));
    return status;
}

/* Learns which processes the other ranks of this host are. */
static dt_status meet_peers(dt_mpi *m, MPI_Comm node) {
    const dt_peer_id own = {getpid(), m->base.rank};
    dt_peer_id *all = calloc((size_t)m->base.local_world, sizeof *all);
    dt_status status;
    if (!all) return dt_fail(DT_ERR_MEMORY, "no memory for %d ranks of this host", (int)m->base.local_world);
    DT_MPI_CALL(m, status, MPI_Allgather(&own, 2, MPI_INT64_T, all, 2, MPI_INT64_T, node));
    if (status == DT_OK) dt_peers_open(&m->peers, m->base.local_world, all);
    free(all);
    return status;
}

static dt_status find_local_ranks(dt_mpi *m) {
    MPI_Comm node = MPI_COMM_NULL;
    dt_status status;
    DT_MPI_CALL(m, status,
                MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
    if (status != DT_OK) return status;
    int rank = 0, world = 1;
    DT_MPI_CALL(m, status, MPI_Comm_rank(node, &rank));
    if (status != DT_OK) return status;
    DT_MPI_CALL(m, status, MPI_Comm_size(node, &world));
    if (status != DT_OK) return status;
    m->base.local_rank = rank;
    m->base.local_world = world;
    DT_TRY(meet_peers(m, node));
    DT_MPI_CALL(m, status, MPI_Comm_free(&node));
    return status;
}

static dt_status gather_hosts(dt_mpi *m) {
    m->host = calloc((size_t)m->base.world, sizeof *m->host);
    m->heard = calloc((size_t)m->base.world, sizeof *m->heard);
    if (m->host == NULL || m->heard == NULL)
        return dt_fail(DT_ERR_MEMORY, "no memory for the host names of %d ranks", (int)m->base.world);
    MPI_Request req;
    dt_status status;
    DT_MPI_CALL(m, status,
                MPI_Iallgather(m->base.host, DT_MPI_HOST_MAX, MPI_CHAR, m->host, DT_MPI_HOST_MAX, MPI_CHAR,
                               m->control, &req));
    if (status != DT_OK) return status;
    return dt_mpi_finish(m, &req, 1, "exchange of host names");
}

static dt_status set_up(dt_mpi *m) {
    dt_status status;
    int rank = 0, world = 1;
    DT_MPI_CALL(m, status, MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    if (status != DT_OK) return status;
    DT_MPI_CALL(m, status, MPI_Comm_rank(MPI_COMM_WORLD, &rank));
    if (status != DT_OK) return status;
    DT_MPI_CALL(m, status, MPI_Comm_size(MPI_COMM_WORLD, &world));
    if (status != DT_OK) return status;
    m->base.rank = rank;
    m->base.world = world;
    if (world == 1) DT_TRY(check_lone_rank());
    DT_TRY(dup_world(m, &m->reduce));
    DT_TRY(dup_world(m, &m->step));
    DT_TRY(dup_world(m, &m->control));
    DT_TRY(dup_world(m, &m->roll));
    DT_TRY(dup_world(m, &m->ending));
    DT_MPI_CALL(m, status, MPI_Op_create(dt_mpi_sum_f16, 1, &m->sum_f16));
    if (status != DT_OK) return status;
    DT_MPI_CALL(m, status, MPI_Op_create(dt_mpi_sum_bf16, 1, &m->sum_bf16));
    if (status != DT_OK) return status;
    DT_TRY(find_local_ranks(m));
    return gather_hosts(m);
}

const char *dt_comm_host(dt_comm *mpi, int32_t rank) {
    DT_ASSERT(rank >= 0 && rank < mpi->world);
    return dt_mpi_of(mpi)->host[rank];
}

/* dt_comm_init, with a bound that is already set. */
static dt_status init(int *argc, char ***argv, dt_comm **out) {
    *out = NULL;
    dt_mpi *m = calloc(1, sizeof *m);
    if (m == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for the communicator");
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->calling, NULL);
    m->base = (dt_comm){.name = "mpi",
                        .rank = 0,
                        .world = 1,
                        .local_rank = 0,
                        .local_world = 1,
                        .device_memory = false,
                        .allreduce_begin = mpi_allreduce_begin,
                        .sum_now = mpi_sum_now,
                        .progress = mpi_progress,
                        .wait = mpi_wait,
                        .ended = mpi_ended,
                        .answer = dt_mpi_answer,
                        .all_live = dt_mpi_lives,
                        .abort = mpi_abort,
                        .destroy = mpi_destroy,
                        .timeout_s = default_timeout_s,
                        .impl = m};
    if (gethostname(m->base.host, sizeof m->base.host - 1) != 0)
        snprintf(m->base.host, sizeof m->base.host, "?");

    dt_status status = start_mpi(argc, argv, &m->foreign);
    if (status == DT_OK) status = set_up(m);
    if (status != DT_OK) {
        int begun = 0;
        MPI_Initialized(&begun);
        /* One rank alone can end properly; among several the exit of this one ends the job. */
        if (begun && !m->foreign && status == DT_ERR_USAGE) MPI_Finalize();
        mpi_free(m);
        return status;
    }
    *out = &m->base;
    return DT_OK;
}

static dt_status start_limit_s(double *out) {
    static const char name[] = "DTRAIN_START_TIMEOUT_S";
    const char *text = getenv(name);
    *out = start_timeout_s;
    if (text == NULL || *text == '\0') return DT_OK;
    const int64_t n = dt_launcher_env_count(name);
    if (n < 1 || n > start_timeout_max_s)
        return dt_fail(DT_ERR_USAGE, "%s is \"%s\": expected whole seconds from 1 to %lld", name, text,
                       (long long)start_timeout_max_s);
    *out = (double)n;
    return DT_OK;
}

int64_t dt_comm_tasks(void) {
    return dt_launcher_tasks();
}

void dt_comm_tell_end(int code) {
    dt_launcher_tell_end(code);
}

dt_status dt_comm_init(int *argc, char ***argv, dt_comm **out) {
    *out = NULL;
    double limit_s;
    DT_TRY(start_limit_s(&limit_s));
    if (!mpi_started) dt_launcher_guard(argc ? *argc : 0, argv ? *argv : NULL);
    dt_bound *bound =
        dt_bound_start(limit_s, dt_launcher_rank(), dt_status_exit_code(DT_ERR_PEER), "MPI has not started",
                       "a rank of this job has not come. If a start may take that long, set "
                       "DTRAIN_START_TIMEOUT_S");
    const dt_status status = init(argc, argv, out);
    dt_bound_stop(bound);
    return status;
}

dt_comm *dt_comm_meet(dt_status mine) {
    static bool met;
    if (met || dt_launcher_tasks() < 2) return NULL;
    met = true;
    char text[4096];
    dt_comm *mpi = NULL;
    snprintf(text, sizeof text, "%s", dt_error_text());
    (void)dt_signal_install(); /* the SIGTERM that the first to end brings the others */
    dt_bound *bound = dt_bound_start(meet_s, dt_launcher_rank(), dt_status_exit_code(mine), NULL, text);
    /* Where no launcher speaks MPI they can but wait for each other. */
    if (mpi_started || !dt_launcher_speaks_mpi() || init(NULL, NULL, &mpi) != DT_OK) sleep(1);
    dt_bound_stop(bound);
    dt_error_set_text(text);
    return mpi;
}
