/* Waiting on MPI without burning a core, and the roll call that names silent ranks when a wait fails.
 *
 * Ranks may share cores, so a wait spins for microseconds only, then yields, then sleeps. Open MPI moves
 * messages only inside MPI calls: each look at the requests is also what drives them. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "comm_mpi_internal.h"

/* Whether a rank waits (for others, or for a disk) is one question, whether it lives another. */
enum { TAG_WAITS = 1, TAG_LIVES, TAG_ANSWER, SILENT_NAMED_MAX = 8 };

static const double roll_call_s = 1.0;
static const double answer_every_s = 10e-3;

dt_status dt_mpi_check(dt_mpi *m, int rc, const char *call) {
    if (rc == MPI_SUCCESS) return DT_OK;
    m->broken = true;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int len = 0;
    pthread_mutex_lock(&m->lock);
    MPI_Error_string(rc, text, &len);
    pthread_mutex_unlock(&m->lock);
    return dt_fail(DT_ERR_PEER, "%.*s failed: %s", (int)strcspn(call, "("), call, text);
}

bool dt_mpi_finish_within(dt_mpi *m, MPI_Request *req, int n, double seconds, dt_status *status) {
    dt_pacer pacer;
    dt_pacer_start(&pacer);
    double answer_s = 0;
    for (;;) {
        int done = 0;
        pthread_mutex_lock(&m->lock);
        int rc = MPI_Testall(n, req, &done, MPI_STATUSES_IGNORE);
        if (rc == MPI_SUCCESS && !done && pacer.waited_s - answer_s > answer_every_s) {
            dt_mpi_roll_answer(m, true);
            answer_s = pacer.waited_s;
        }
        pthread_mutex_unlock(&m->lock);
        *status = dt_mpi_check(m, rc, "MPI_Testall");
        if (done || *status != DT_OK) return true;
        if (pacer.waited_s > seconds) return false;
        dt_pacer_rest(&pacer);
    }
}

/* Zero bytes: fits every transport's eager path, so the request needs no further care. */
static void roll_send(dt_mpi *m, int rank, int tag) {
    MPI_Request req;
    if (MPI_Isend(NULL, 0, MPI_BYTE, rank, tag, m->roll, &req) == MPI_SUCCESS) MPI_Request_free(&req);
}

/* True and the sender's rank when a message with the tag was there. */
static bool roll_take(dt_mpi *m, int tag, int *rank) {
    int there = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, tag, m->roll, &there, &status) != MPI_SUCCESS || !there) return false;
    *rank = status.MPI_SOURCE;
    return MPI_Recv(NULL, 0, MPI_BYTE, *rank, tag, m->roll, MPI_STATUS_IGNORE) == MPI_SUCCESS;
}

void dt_mpi_roll_answer(dt_mpi *m, bool waits) {
    int rank;
    while (roll_take(m, TAG_LIVES, &rank)) roll_send(m, rank, TAG_ANSWER);
    while (waits && roll_take(m, TAG_WAITS, &rank)) roll_send(m, rank, TAG_ANSWER);
}

void dt_mpi_answer(dt_comm *c, bool waits) {
    dt_mpi *m = dt_mpi_of(c);
    if (pthread_mutex_trylock(&m->lock) != 0) return; /* inside MPI: the next time */
    dt_mpi_roll_answer(m, waits);
    pthread_mutex_unlock(&m->lock);
}

/* No call takes as long; one that does not come back, as after a lost connection, must not hold the watchdog,
 * too. */
static bool lock_for_roll(dt_mpi *m) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)roll_call_s;
    return pthread_mutex_timedlock(&m->lock, &until) == 0;
}

static bool is_silent(const dt_mpi *m, const bool *heard, int rank) {
    return rank != m->base.rank && !heard[rank];
}

static bool call_roll(dt_mpi *m, int question, char *text, size_t text_bytes) {
    int world = m->base.world;
    bool *heard = m->heard;
    memset(heard, 0, (size_t)world * sizeof *heard);
    snprintf(text, text_bytes, "a call of MPI does not come back");
    if (!lock_for_roll(m)) return false;
    for (int r = 0; r < world; r++)
        if (r != m->base.rank) roll_send(m, r, question);
    pthread_mutex_unlock(&m->lock);

    int n_silent = world - 1;
    dt_pacer pacer;
    for (dt_pacer_start(&pacer); n_silent > 0 && pacer.waited_s < roll_call_s; dt_pacer_rest(&pacer)) {
        int rank;
        if (!lock_for_roll(m)) return false;
        dt_mpi_roll_answer(m, question == TAG_WAITS);
        while (roll_take(m, TAG_ANSWER, &rank)) {
            n_silent -= is_silent(m, heard, rank);
            heard[rank] = true;
        }
        pthread_mutex_unlock(&m->lock);
    }
    if (n_silent == 0) {
        snprintf(text, text_bytes, "all ranks are alive, but wait in different calls");
        return true;
    }
    size_t len = (size_t)snprintf(text, text_bytes, "no answer from");
    int named = 0;
    for (int r = 0; r < world && named < SILENT_NAMED_MAX && len < text_bytes; r++) {
        if (!is_silent(m, heard, r)) continue;
        len += (size_t)snprintf(text + len, text_bytes - len, "%s rank %d (%s)", named ? "," : "", r,
                                m->host[r]);
        named++;
    }
    if (n_silent > named && len < text_bytes)
        snprintf(text + len, text_bytes - len, " and %d more", n_silent - named);
    return false;
}

/* False, and who gave no answer within a second, if one did not. Of calls by two threads each would take the
 * other's answers: one at a time. */
static bool roll_call(dt_mpi *m, int question, char *text, size_t text_bytes) {
    pthread_mutex_lock(&m->calling);
    const bool all = call_roll(m, question, text, text_bytes);
    pthread_mutex_unlock(&m->calling);
    return all;
}

dt_status dt_mpi_finish(dt_mpi *m, MPI_Request *req, int n, const char *phase) {
    dt_status status;
    char silent[512];
    do {
        if (dt_mpi_finish_within(m, req, n, m->base.timeout_s, &status)) {
            if (status != DT_OK) dt_error_context("%s", phase);
            return status;
        }
    } while (roll_call(m, TAG_WAITS, silent, sizeof silent) && m->base.patient);
    m->broken = true;
    return dt_fail(DT_ERR_PEER, "%s did not complete within %g s: %s", phase, m->base.timeout_s, silent);
}

bool dt_mpi_lives(dt_comm *c, char *text, size_t text_bytes) {
    return roll_call(dt_mpi_of(c), TAG_LIVES, text, text_bytes);
}
