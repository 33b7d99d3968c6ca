/* What the files of the MPI communicator share: its state, checked calls and the polite wait. Private to
 * src/dist.
 *
 * MPI runs at MPI_THREAD_SERIALIZED: every MPI call is made under `lock`, which is never held while
 * sleeping. */
#ifndef DT_DIST_COMM_MPI_INTERNAL_H
#define DT_DIST_COMM_MPI_INTERNAL_H

#include <mpi.h>
#include <pthread.h>

#include "dist/comm.h"
#include "pacer.h"
#include "peers.h"

enum { DT_MPI_PENDING_MAX = 64, DT_MPI_HOST_MAX = 64 };

typedef struct dt_mpi {
    dt_comm base;
    MPI_Comm reduce;  /* gradient reductions: their order must not depend on agreement calls */
    MPI_Comm step;    /* sums within a step: so must theirs */
    MPI_Comm control; /* agreement and broadcasts */
    MPI_Comm roll;    /* roll call of ranks after a timeout */
    MPI_Comm ending;  /* agreement of failing ranks, while others may be in any other call */
    MPI_Op sum_f16, sum_bf16;
    MPI_Request pending[DT_MPI_PENDING_MAX];
    int n_pending;
    char (*host)[DT_MPI_HOST_MAX]; /* [world] */
    bool *heard;                   /* [world], of the roll call under way */
    dt_peers peers;                /* of this host */
    pthread_mutex_t lock;
    pthread_mutex_t calling; /* the roll */
    bool foreign;            /* MPI was started, and will be ended, by the program */
    bool broken;             /* a call failed or timed out: MPI_Finalize could hang */
    bool alone;              /* this rank fails, and the others did not come to agree on it */
} dt_mpi;

/* The MPI communicator behind `c`; asserts that it is one. */
dt_mpi *dt_mpi_of(dt_comm *c);

/* DT_ERR_PEER with MPI's own text when rc is not MPI_SUCCESS. */
dt_status dt_mpi_check(dt_mpi *m, int rc, const char *call);
/* Completes all n requests; `phase` names the wait in the error text. Fails with DT_ERR_PEER after
 * base.timeout_s, unless base.patient and every rank waits, too. */
dt_status dt_mpi_finish(dt_mpi *m, MPI_Request *req, int n, const char *phase);

/* The same without a roll call: false when they did not complete in time. */
bool dt_mpi_finish_within(dt_mpi *m, MPI_Request *req, int n, double seconds, dt_status *status);

/* Answers ranks that ask whether this one is alive and, if it `waits`, those that ask for that. Call with the
 * lock held. */
void dt_mpi_roll_answer(dt_mpi *m, bool waits);
/* dt_comm's answer and all_live. */
void dt_mpi_answer(dt_comm *c, bool waits);
bool dt_mpi_lives(dt_comm *c, char *text, size_t text_bytes);

/* MPI_User_function's: element-wise sums of 16-bit floats, added in fp32, rounded to nearest even. */
void dt_mpi_sum_f16(void *in, void *inout, int *n, MPI_Datatype *type);
void dt_mpi_sum_bf16(void *in, void *inout, int *n, MPI_Datatype *type);

/* Runs an expression that is an MPI call under the lock, and checks it. */
#define DT_MPI_CALL(m, status, call)                                                                         \
    do {                                                                                                     \
        pthread_mutex_lock(&(m)->lock);                                                                      \
        int dt_mpi_rc_ = (call);                                                                             \
        pthread_mutex_unlock(&(m)->lock);                                                                    \
        (status) = dt_mpi_check((m), dt_mpi_rc_, #call);                                                     \
    } while (0)

#endif
