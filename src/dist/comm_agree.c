/* Agreement between ranks on host values. Every call is a non-blocking collective, waited for politely. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm_mpi_internal.h"
#include "dist/signals.h"
#include "speak.h"

enum { TEXT_MAX = 4096 };

static const int64_t bcast_bytes_max = INT64_C(1) << 22; /* per call */

static dt_status no_memory(const char *phase) {
    return dt_fail(DT_ERR_MEMORY, "no memory for the %s", phase);
}

/* n values of 8 bytes. They travel, as those of bcast, in memory that is not freed when a wait fails: MPI
 * writes there even after a wait that was given up, as soon as the late rank has come. */
static dt_status reduce(dt_mpi *m, MPI_Comm comm, void *values, int n, MPI_Datatype type, MPI_Op op,
                        const char *phase) {
    if (m->base.world == 1) return DT_OK;
    const size_t bytes = (size_t)n * 8;
    MPI_Request req;
    dt_status status;
    void *held = malloc(bytes);
    if (held == NULL) return no_memory(phase);
    memcpy(held, values, bytes);
    DT_MPI_CALL(m, status, MPI_Iallreduce(MPI_IN_PLACE, held, n, type, op, comm, &req));
    if (status == DT_OK) status = dt_mpi_finish(m, &req, 1, phase);
    if (status != DT_OK) return status;
    memcpy(values, held, bytes);
    free(held);
    return DT_OK;
}

static dt_status bcast(dt_mpi *m, MPI_Comm comm, void *buf, int64_t bytes, int root, const char *phase) {
    if (m->base.world == 1 || bytes == 0) return DT_OK;
    void *held = malloc((size_t)dt_min_i64(bcast_bytes_max, bytes));
    if (held == NULL) return no_memory(phase);
    for (int64_t at = 0; at < bytes; at += bcast_bytes_max) {
        const int64_t n = dt_min_i64(bcast_bytes_max, bytes - at);
        MPI_Request req;
        dt_status status;
        memcpy(held, (char *)buf + at, (size_t)n);
        DT_MPI_CALL(m, status, MPI_Ibcast(held, (int)n, MPI_BYTE, root, comm, &req));
        if (status == DT_OK) status = dt_mpi_finish(m, &req, 1, phase);
        if (status != DT_OK) return status;
        memcpy((char *)buf + at, held, (size_t)n);
    }
    free(held);
    return DT_OK;
}

/* FNV-1a, kept non-negative so that its negation exists. */
static int64_t text_hash(const char *text) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++) h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return (int64_t)(h >> 2);
}

static dt_status agree(dt_mpi *m, MPI_Comm comm, dt_status mine) {
    int rank = m->base.rank;
    if (m->base.world == 1) return mine;
    struct {
        int32_t status;
        char text[TEXT_MAX];
    } verdict = {.status = mine};
    if (mine != DT_OK) strncpy(verdict.text, dt_error_text(), sizeof verdict.text - 1);
    /* Minima: lowest failed rank; least hash; minus the greatest hash. Ranks that are well bring hash 0. */
    int64_t hash = mine == DT_OK ? 0 : text_hash(verdict.text);
    int64_t least[3] = {mine == DT_OK ? INT_MAX : rank, hash, -hash};
    DT_TRY(reduce(m, comm, least, 3, MPI_INT64_T, MPI_MIN, "agreement"));
    if (least[0] == INT_MAX) return DT_OK;
    int failed = (int)least[0];
    bool all_same = least[1] == -least[2];
    DT_TRY(bcast(m, comm, &verdict, (int64_t)sizeof verdict, failed, "agreement"));
    if (failed == rank || all_same)
        dt_error_set((dt_status)verdict.status, verdict.text);
    else
        return dt_fail((dt_status)verdict.status, "rank %d (%s): %s", failed, m->host[failed], verdict.text);
    return (dt_status)verdict.status;
}

dt_status dt_comm_agree(dt_comm *mpi, dt_status mine) {
    dt_mpi *m = dt_mpi_of(mpi);
    return agree(m, m->control, mine);
}

dt_status dt_comm_bcast_host(dt_comm *mpi, void *buf, int64_t bytes, int32_t root) {
    dt_mpi *m = dt_mpi_of(mpi);
    return bcast(m, m->control, buf, bytes, root, "broadcast");
}

dt_status dt_comm_sum_host(dt_comm *mpi, double *values, int32_t n) {
    dt_mpi *m = dt_mpi_of(mpi);
    return reduce(m, m->control, values, n, MPI_DOUBLE, MPI_SUM, "sum over ranks");
}

dt_status dt_comm_max_host(dt_comm *mpi, double *values, int32_t n) {
    dt_mpi *m = dt_mpi_of(mpi);
    return reduce(m, m->control, values, n, MPI_DOUBLE, MPI_MAX, "maximum over ranks");
}

dt_status dt_comm_check_equal(dt_comm *mpi, uint64_t value, const char *what) {
    dt_mpi *m = dt_mpi_of(mpi);
    if (mpi->world == 1) return DT_OK;
    uint64_t of_rank0 = value;
    DT_TRY(bcast(m, m->control, &of_rank0, (int64_t)sizeof of_rank0, 0, what));
    int64_t first = value == of_rank0 ? INT_MAX : mpi->rank;
    DT_TRY(reduce(m, m->control, &first, 1, MPI_INT64_T, MPI_MIN, what));
    if (first == INT_MAX) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s differs between ranks: rank %d (%s) does not have what rank 0 (%s) has",
                   what, (int)first, m->host[first], m->host[0]);
}

dt_status dt_comm_barrier(dt_comm *mpi) {
    dt_mpi *m = dt_mpi_of(mpi);
    if (mpi->world == 1) return DT_OK;
    MPI_Request req;
    dt_status status;
    DT_MPI_CALL(m, status, MPI_Ibarrier(m->control, &req));
    if (status != DT_OK) return status;
    return dt_mpi_finish(m, &req, 1, "barrier");
}

/* True when every rank has come within the time. */
static bool all_come(dt_mpi *m, double patience_s) {
    MPI_Request req;
    dt_status status;
    DT_MPI_CALL(m, status, MPI_Ibarrier(m->ending, &req));
    return status == DT_OK && dt_mpi_finish_within(m, &req, 1, patience_s, &status) && status == DT_OK;
}

/* The lowest rank reports and ends the others; one that is told to end while it holds its report back has
 * nothing to add. */
static void let_lower_report(const dt_comm *mpi, dt_status mine) {
    const struct timespec look = {.tv_nsec = 50 * 1000 * 1000};
    const bool told = dt_signal_pending();
    for (double left_s = dt_pacer_report_delay_s(mpi->rank); left_s > 0; left_s -= 0.05) {
        nanosleep(&look, NULL);
        if (!told && dt_signal_pending()) _exit(dt_status_exit_code(mine));
    }
}

/* Whether all ranks came and agreed; the error text is then what they agreed on, else it stays. */
static bool meet(dt_mpi *m, dt_status mine) {
    const double patience_s = 1;
    char text[TEXT_MAX];
    if (m->alone) return false;
    strncpy(text, dt_error_text(), sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const bool was_broken = m->broken;
    m->broken = false;
    const bool came = all_come(m, patience_s) && agree(m, m->ending, mine) != DT_OK && !m->broken;
    m->broken = was_broken || !came;
    m->alone = !came;
    if (!came) dt_error_set_text(text);
    return came;
}

bool dt_comm_fails_together(dt_comm *mpi, dt_status mine) {
    dt_mpi *m = dt_mpi_of(mpi);
    return mpi->world == 1 || (meet(m, mine) && !m->broken);
}

void dt_comm_fail(dt_comm *mpi, dt_status mine) {
    dt_mpi *m = dt_mpi_of(mpi);
    if (mpi->world == 1) return;
    const bool came = meet(m, mine);
    if (came && !m->broken) return;
    if (came || mine == DT_ERR_PEER) let_lower_report(mpi, mine);
    fflush(stdout);
    if (!came || mpi->rank == 0) dt_comm_speak(mpi, dt_error_text(), "");
    mpi->abort(mpi, dt_status_exit_code(mine));
}
