/* Communicator interface: MPI or NCCL behind it. All calls are collective unless said otherwise.
 *
 * Agreement calls (agree, bcast_host, ...) work on host memory and always go through MPI; reduce calls work
 * on the memory kind the communicator was made for. */
#ifndef DT_DIST_COMM_H
#define DT_DIST_COMM_H

#include "core/backend.h"
#include "core/status.h"
#include "core/types.h"

typedef struct dt_comm dt_comm;

struct dt_comm {
    const char *name; /* "mpi" or "nccl" */
    int32_t rank, world;
    int32_t local_rank, local_world; /* among the ranks of this host (MPI_Comm_split_type) */
    bool device_memory;              /* allreduce takes device pointers and a stream */
    char host[64];

    /* In-place sum over ranks. Enqueues (NCCL) or starts (MPI); buf must stay untouched until wait. */
    dt_status (*allreduce_begin)(dt_comm *c, void *buf, int64_t n_elem, dt_dtype dtype, dt_stream *stream);
    /* values += those of the other ranks, n doubles of host memory; waits for them. Apart from reductions that are
     * under way. NULL where device_memory. */
    dt_status (*sum_now)(dt_comm *c, double *values, int64_t n);
    /* Moves pending reductions on; cheap; not collective. */
    dt_status (*progress)(dt_comm *c);
    /* Completes all begun reductions (on a device: makes `stream` wait; does not block the host). Fails with
     * DT_ERR_PEER after the timeout. */
    dt_status (*wait)(dt_comm *c, dt_stream *stream);
    /* After a failure: waits until nothing uses the buffers any more, before they are freed. NULL: nothing
     * does. */
    void (*release)(dt_comm *c);
    /* The lowest rank on this host whose process has ended, -1: none known of; `lowest_alive`: that of the
     * others, this one among them. From any thread. NULL: cannot tell. */
    int32_t (*ended)(dt_comm *c, int32_t *lowest_alive);
    /* Answers ranks that ask for a sign of life, as every wait does; `waits`: also those that ask whether
     * this rank is at a wait. From any thread. */
    void (*answer)(dt_comm *c, bool waits);
    /* Asks every rank for a sign of life, for at most a second; false: some gave none, and `text` names them.
     * From any thread. */
    bool (*all_live)(dt_comm *c, char *text, size_t text_bytes);
    /* Last resort: makes every rank end with exit code `code`. Not collective; does not return. */
    void (*abort)(dt_comm *c, int code);
    void (*destroy)(dt_comm *c);

    double timeout_s;
    bool patient; /* waits of the host go on after timeout_s while every rank is at a wait */
    void *impl;
};

/* Tasks that the launcher has started, by its environment; 1 without one, where MPI need not be started. */
int64_t dt_comm_tasks(void);

/* Starts MPI (MPI_THREAD_SERIALIZED or better) once per process; one that the program has started is taken,
 * and not ended. Without mpirun the world is one rank.
 * Refuses when SLURM_NTASKS > 1 but the MPI world is 1, unless DTRAIN_SINGLE=1, and where the launcher's
 * directory is full. A rank that does not come (stopped, its host out of reach) ends the others with a
 * message and exit code 6 after DTRAIN_START_TIMEOUT_S seconds of the environment, 300 without it; also once
 * MPI runs, when one does not come to its end (dt_comm_fini), after timeout_s. argc/argv as main's, NULL
 * where they are not at hand. Under mpirun it leaves a small process beside the first rank of each host,
 * which ends an mpirun that outlives its ranks. */
dt_status dt_comm_init(int *argc, char ***argv, dt_comm **out);
/* For a task that fails with `mine` before it has started MPI, and is about to end: where a launcher has
 * started several, they meet first. Under srun --kill-on-bad-exit the first that ends takes the others down,
 * even before their main, and the job's exit code would be that of the signal. NULL where there is nobody to
 * meet; else the communicator for dt_comm_fail. Keeps the error text; when the others do not come within 10
 * s, prints it and ends the process. */
dt_comm *dt_comm_meet(dt_status mine);
/* For a process that is about to end with this exit code: appends it, and how many ranks of the job this host has,
 * to the file that DTRAIN_ENDS names, as a line. launch/train reads there what an mpirun that does not end cannot
 * tell. Nothing without such a file, or without mpirun. */
void dt_comm_tell_end(int code);
/* MPI_Finalize, or _exit-safe abandonment after a failure. Destroys the communicator. Accepts NULL. */
void dt_comm_fini(dt_comm *mpi);

/* After a failure that the other ranks do not know of: as dt_comm_fini, but waits for nobody and leaves MPI as
 * it is, so that the launcher sees this rank end without it and ends the others. Accepts NULL. */
void dt_comm_abandon(dt_comm *mpi);

/* Host of a rank of `mpi`, the communicator of dt_comm_init; not collective. Valid as long as `mpi`. */
const char *dt_comm_host(dt_comm *mpi, int32_t rank);

/* Whether this dtrain can reduce through NCCL. */
bool dt_comm_nccl_built(void);
/* NCCL over the ranks of `mpi`; fails with DT_ERR_UNSUPPORTED where it is not built. `mpi` must outlive
 * it. */
dt_status dt_comm_nccl_create(dt_comm *mpi, dt_backend *be, double timeout_s, dt_comm **out);

/* Host-side agreement, always over MPI; `mpi` is the communicator of dt_comm_init. These wait politely (they
 * sleep, they do not spin) and fail with DT_ERR_PEER after mpi->timeout_s. */

/* All ranks return DT_OK only if all brought DT_OK. Otherwise every rank returns the status of the lowest
 * failed rank and its error text, prefixed "rank N (host): " when another rank failed. */
dt_status dt_comm_agree(dt_comm *mpi, dt_status mine);
dt_status dt_comm_bcast_host(dt_comm *mpi, void *buf, int64_t bytes, int32_t root);
dt_status dt_comm_sum_host(dt_comm *mpi, double *values, int32_t n);
dt_status dt_comm_max_host(dt_comm *mpi, double *values, int32_t n);
/* Every rank learns whether all brought the same value; DT_ERR_CONFIG naming the first rank that differs from
 * rank 0 and `what` otherwise. */
dt_status dt_comm_check_equal(dt_comm *mpi, uint64_t value, const char *what);
dt_status dt_comm_barrier(dt_comm *mpi);

/* For a rank that fails and is about to end, wherever the others are; it disturbs no other call. True when
 * every rank comes here within a second; they have then agreed as dt_comm_agree does, and may close and tear
 * down together. */
bool dt_comm_fails_together(dt_comm *mpi, dt_status mine);
/* The end of a rank that fails. Returns where all failed together, found so here or before. Otherwise prints
 * the error text with rank and host (of ranks that lost a peer the lowest first, and its abort ends the rest)
 * and ends the job with the exit code of `mine`, which is not DT_OK; does not return. */
void dt_comm_fail(dt_comm *mpi, dt_status mine);

#endif
