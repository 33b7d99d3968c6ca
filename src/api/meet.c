/* Where the ranks meet: at the beginning of every collective call they compare what they are about to do. A rank that
 * has failed by itself, or is elsewhere, is told to all of them, and none of them has done anything yet. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "api.h"

enum { LINE_SHOWN_MAX = 300 /* bytes of a line in a message */ };

/* What all ranks return. */
typedef struct verdict {
    int32_t status;
    char text[2048];
} verdict;

static int shown(size_t n) {
    return (int)(n < LINE_SHOWN_MAX ? n : LINE_SHOWN_MAX);
}

/* What this rank, whose text is `mine`, has otherwise than rank 0. */
static void describe(const dt_run *run, const char *mine, const char *of_rank0, verdict *out) {
    const char *call = mine, *host = dt_comm_host(run->mpi, run->mpi->rank),
               *host0 = dt_comm_host(run->mpi, 0);
    const int32_t rank = run->mpi->rank;
    size_t n = 0, m = 0;
    bool at_call = true;
    for (;; at_call = false) {
        n = strcspn(mine, "\n"), m = strcspn(of_rank0, "\n");
        if (n != m || memcmp(mine, of_rank0, n) != 0 || !mine[n] || !of_rank0[m]) break;
        mine += n + 1, of_rank0 += m + 1;
    }
    if (n == 0) mine = "nothing more", n = strlen(mine);
    if (m == 0) of_rank0 = "nothing more", m = strlen(of_rank0);
    out->status = at_call ? DT_ERR_USAGE : DT_ERR_CONFIG;
    if (at_call)
        snprintf(
            out->text, sizeof out->text,
            "the ranks are in different calls: rank %d (%s) in %.*s, rank 0 (%s) in %.*s; all ranks make the "
            "collective calls of a run in the same order",
            rank, host, shown(n), mine, host0, shown(m), of_rank0);
    else
        snprintf(out->text, sizeof out->text,
                 "%.*s differs between ranks: rank %d (%s) has \"%.*s\", rank 0 (%s) has \"%.*s\"",
                 (int)strcspn(call, "\n"), call, rank, host, shown(n), mine, host0, shown(m), of_rank0);
}

/* All ranks learn what the first that differs has otherwise, and whether one of them is about to leave. */
static dt_status differ(dt_run *run, const char *mine, bool leaving, verdict *out) {
    dt_comm *mpi = run->mpi;
    int64_t bytes = (int64_t)strlen(mine) + 1;
    DT_TRY(dt_comm_bcast_host(mpi, &bytes, (int64_t)sizeof bytes, 0));
    char *of_rank0 = malloc((size_t)bytes);
    dt_status st = of_rank0 ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory to compare with rank 0");
    st = dt_comm_agree(mpi, st);
    if (st == DT_OK && mpi->rank == 0) memcpy(of_rank0, mine, (size_t)bytes);
    if (st == DT_OK) st = dt_comm_bcast_host(mpi, of_rank0, bytes, 0);
    if (st == DT_OK) {
        const bool differs = strcmp(mine, of_rank0) != 0;
        double first[2] = {differs ? mpi->world - mpi->rank : 0, leaving};
        st = dt_comm_max_host(mpi, first, 2);
        const int32_t other = first[0] > 0 ? mpi->world - (int32_t)first[0] : 0;
        if (st == DT_OK && other == mpi->rank) describe(run, mine, of_rank0, out);
        if (st == DT_OK) st = dt_comm_bcast_host(mpi, out, (int64_t)sizeof *out, other);
        run->failed = run->failed || first[1] > 0;
    }
    free(of_rank0);
    return st;
}

dt_status dt_run_meet(dt_run *run, dt_status mine, bool leaving, const char *call) {
    dt_comm *mpi = run->mpi;
    if (!mpi) return mine;
    if (run->failed)
        return dt_fail(DT_ERR_PEER,
                       "a collective call of this run has failed before, or a rank has left: its ranks "
                       "are no longer in step; close the run");
    /* 52 bits, which a double holds. */
    const double key = (double)(XXH3_64bits(call, strlen(call)) >> 12);
    double most[] = {mine != DT_OK, key, -key};
    char why[sizeof((verdict *)NULL)->text];
    snprintf(why, sizeof why, "%s", mine != DT_OK ? dt_error_text() : "");
    dt_status st = dt_comm_max_host(mpi, most, 3);
    if (st == DT_OK && most[0] > 0) {
        dt_error_set(mine, why);
        const dt_status all = dt_comm_agree(mpi, mine);
        if (all == DT_ERR_PEER) run->failed = true;
        return all;
    }
    if (st == DT_OK && most[1] == -most[2]) return DT_OK;
    verdict v = {.status = DT_ERR_INTERNAL};
    if (st == DT_OK) st = differ(run, call, leaving, &v);
    if (st != DT_OK) {
        run->failed = true;
        return st;
    }
    dt_error_set((dt_status)v.status, v.text);
    return (dt_status)v.status;
}
