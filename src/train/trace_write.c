/* Every rank makes the text of its events, on rank 0's clock; rank 0 writes one after the other. */
#include "trace_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json_text.h"
#include "measure.h"
#include "core/out_file.h"

enum { CLOCK_ROUNDS = 15, CHUNK_BYTES = 1 << 20 };
static const double same_clock_s =
    0.05; /* of ranks of one host that seem so far apart: it is the barrier's doing */

static dt_status agree(dt_comm *mpi, dt_status mine) {
    return mpi ? dt_comm_agree(mpi, mine) : mine;
}

/* Seconds that this rank's clock is ahead of rank 0's: all look at theirs after a barrier, many times. Ranks of
 * one host have one clock. */
static dt_status clock_offset(dt_comm *mpi, double *out) {
    *out = 0;
    double ahead[CLOCK_ROUNDS];
    if (!mpi) return DT_OK;
    for (int i = 0; i < CLOCK_ROUNDS; i++) {
        DT_TRY(dt_comm_barrier(mpi));
        const double now = dt_time_s();
        double first = now;
        DT_TRY(dt_comm_bcast_host(mpi, &first, (int64_t)sizeof first, 0));
        ahead[i] = now - first;
    }
    *out = dt_measure_median(ahead, CLOCK_ROUNDS);
    if (strcmp(mpi->host, dt_comm_host(mpi, 0)) == 0 && fabs(*out) < same_clock_s) *out = 0;
    return DT_OK;
}

static double first_begin(const dt_trace *t) {
    double first = INFINITY;
    for (const dt_lane *l = dt_trace_lanes(t); l; l = l->next)
        for (int64_t i = 0; i < l->n; i++) first = fmin(first, l->span[i].begin_s);
    return first;
}

/* Nanoseconds as microseconds with all their digits: rounded alike, what is within another stays so. */
static void print_us(FILE *out, const char *name, int64_t ns) {
    fprintf(out, ",\"%s\":%lld.%03lld", name, (long long)(ns / 1000), (long long)(ns % 1000));
}

static void print_name(FILE *out, const char *what, int32_t pid, int32_t tid, const char *name,
                       int32_t order) {
    fprintf(out, ",\n{\"ph\":\"M\",\"name\":\"%s_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":", what, pid,
            tid);
    dt_json_text(out, name);
    fprintf(
        out,
        "}},\n{\"ph\":\"M\",\"name\":\"%s_sort_index\",\"pid\":%d,\"tid\":%d,\"args\":{\"sort_index\":%d}}",
        what, pid, tid, order);
}

static void print_lane(FILE *out, const dt_lane *l, int32_t pid, int32_t tid, double base_s) {
    char name[64];
    snprintf(name, sizeof name, l->number > 0 ? "%s %d" : "%s", l->name, l->number + 1);
    print_name(out, "thread", pid, tid, name, tid);
    for (int64_t i = 0; i < l->n; i++) {
        const dt_span *s = &l->span[i];
        const int64_t begin_ns = llround(1e9 * (s->begin_s - base_s)),
                      end_ns = llround(1e9 * (s->end_s - base_s));
        fprintf(out, ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d", pid, tid);
        print_us(out, "ts", begin_ns > 0 ? begin_ns : 0);
        print_us(out, "dur", end_ns - (begin_ns > 0 ? begin_ns : 0));
        fputs(",\"name\":", out);
        dt_json_text(out, s->name);
        if (s->number >= 0) fprintf(out, ",\"args\":{\"number\":%lld}", (long long)s->number);
        fputc('}', out);
    }
}

/* The events of this rank, each after a comma. Lanes are numbered in the order in which they were made. */
static dt_status format(const dt_trace *t, const dt_comm *mpi, double base_s, char **text, size_t *bytes) {
    char name[128];
    int32_t tid = 0;
    const int32_t rank = mpi ? mpi->rank : 0;
    FILE *out = open_memstream(text, bytes);
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory for the text of a trace");
    snprintf(name, sizeof name, mpi ? "rank %d (%s)" : "rank %d", rank, mpi ? mpi->host : "");
    print_name(out, "process", rank, 0, name, rank);
    for (const dt_lane *l = dt_trace_lanes(t); l; l = l->next) tid++;
    for (const dt_lane *l = dt_trace_lanes(t); l; l = l->next) print_lane(out, l, rank, tid--, base_s);
    const bool failed = ferror(out) != 0;
    return fclose(out) == 0 && !failed ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for the text of a trace");
}

/* The text of every rank, in their order, to rank 0's file, whose errors wait for its close. */
static dt_status gather(dt_comm *mpi, const char *text, size_t bytes, char *chunk, FILE *out) {
    if (out) fwrite(text, 1, bytes, out);
    for (int32_t from = 1; mpi && from < mpi->world; from++) {
        int64_t n = (int64_t)bytes;
        DT_TRY(dt_comm_bcast_host(mpi, &n, (int64_t)sizeof n, from));
        for (int64_t at = 0; at < n; at += CHUNK_BYTES) {
            const int64_t part = dt_min_i64(CHUNK_BYTES, n - at);
            if (mpi->rank == from) memcpy(chunk, text + at, (size_t)part);
            DT_TRY(dt_comm_bcast_host(mpi, chunk, part, from));
            if (out) fwrite(chunk, 1, (size_t)part, out);
        }
    }
    return DT_OK;
}

dt_status dt_trace_write(const dt_trace *t, dt_comm *mpi, const char *path, int64_t *n_lost) {
    const bool root = !mpi || mpi->rank == 0;
    double offset_s = 0, lost = (double)dt_trace_lost_lanes(t);
    char *text = NULL, *chunk = NULL;
    size_t bytes = 0;
    dt_out_file file = {.path = path};
    for (const dt_lane *l = dt_trace_lanes(t); l; l = l->next) lost += (double)l->n_lost;
    if (mpi) DT_TRY(dt_comm_sum_host(mpi, &lost, 1));
    *n_lost = (int64_t)lost;
    DT_TRY(clock_offset(mpi, &offset_s));
    double base_s = -(first_begin(t) - offset_s); /* on rank 0's clock; the first of all is 0 */
    if (!isfinite(base_s)) base_s = -dt_time_s();
    if (mpi) DT_TRY(dt_comm_max_host(mpi, &base_s, 1));
    dt_status st = format(t, mpi, -base_s + offset_s, &text, &bytes);
    if (st == DT_OK && !(chunk = malloc(CHUNK_BYTES))) st = dt_fail(DT_ERR_MEMORY, "no memory for a trace");
    if (st == DT_OK && root) st = dt_out_file_open(path, &file);
    st = agree(mpi, st);
    if (st == DT_OK) {
        if (root) fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", file.file);
        /* The first event is the one without a comma before it. */
        st = gather(mpi, root ? text + 1 : text, root ? bytes - 1 : bytes, chunk, file.file);
        if (root) fputs("\n]}\n", file.file);
    }
    const bool gathered = st == DT_OK;
    st = dt_out_file_close(&file, st);
    free(text), free(chunk);
    return gathered ? agree(mpi, st) : st;
}
