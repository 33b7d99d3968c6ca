/* The communicator under mpirun: `comm_ranks CASE` on every rank. A failed check prints and ends all ranks.
 *
 * The fault cases (kill, stop, silent, apart, stray, together, finalize) end in the way that faults.sh
 * expects. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dist/comm.h"
#include "dist/watchdog.h"

static dt_comm *comm;

static void check(bool ok, const char *what, int line) {
    if (ok) return;
    fprintf(stderr, "comm_ranks: rank %d: line %d: %s does not hold (last error: %s)\n", (int)comm->rank,
            line, what, dt_error_text());
    comm->abort(comm, 1);
}
#define CHECK(expr)    check((expr), #expr, __LINE__)
#define CHECK_OK(expr) check((expr) == DT_OK, #expr, __LINE__)

static void sleep_s(double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&t, NULL);
}

static uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* ---- sums ---- */

/* Small whole numbers: every dtype holds them and their sums exactly. */
static int value_of(int rank, int64_t i) {
    return (int)((i * 7 + rank * 3) % 11) - 5;
}

static uint16_t f16_of(int v) {
    if (v == 0) return 0;
    int exponent = (int)floor(log2(abs(v)));
    int mantissa = (int)((abs(v) / exp2(exponent) - 1) * 1024);
    return (uint16_t)((v < 0 ? 0x8000 : 0) | (exponent + 15) << 10 | mantissa);
}

static uint16_t bf16_of(int v) {
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void store(void *buf, dt_dtype dtype, int64_t i, int v) {
    switch (dtype) {
    case DT_DTYPE_F32:
        ((float *)buf)[i] = (float)v;
        break;
    case DT_DTYPE_F64:
        ((double *)buf)[i] = v;
        break;
    case DT_DTYPE_I32:
        ((int32_t *)buf)[i] = v;
        break;
    case DT_DTYPE_F16:
        ((uint16_t *)buf)[i] = f16_of(v);
        break;
    default:
        ((uint16_t *)buf)[i] = bf16_of(v);
        break;
    }
}

/* Sums every dtype at this size, all at once, between guards that must survive. */
static void sums_of_size(int64_t n) {
    static const dt_dtype dtype[] = {DT_DTYPE_F32, DT_DTYPE_F64, DT_DTYPE_I32, DT_DTYPE_F16, DT_DTYPE_BF16};
    enum { COUNT = sizeof dtype / sizeof dtype[0] };
    void *buf[COUNT];
    for (int d = 0; d < COUNT; d++) {
        buf[d] = malloc((size_t)(n + 1) * dt_dtype_size(dtype[d]));
        CHECK(buf[d] != NULL);
        for (int64_t i = 0; i <= n; i++) store(buf[d], dtype[d], i, value_of(comm->rank, i));
        CHECK_OK(comm->allreduce_begin(comm, buf[d], n, dtype[d], NULL));
        CHECK_OK(comm->progress(comm));
    }
    CHECK_OK(comm->wait(comm, NULL));
    for (int d = 0; d < COUNT; d++) {
        for (int64_t i = 0; i <= n; i++) {
            int sum = 0;
            for (int r = 0; r < comm->world; r++) sum += value_of(r, i);
            int32_t want[2];
            store(want, dtype[d], 0, i < n ? sum : value_of(comm->rank, i));
            CHECK(memcmp((char *)buf[d] + (size_t)i * dt_dtype_size(dtype[d]), want,
                         dt_dtype_size(dtype[d])) == 0);
        }
        free(buf[d]);
    }
}

static void case_sums(void) {
    static const int64_t size[] = {0, 1, 2, 3, 7, 127, 1023, 4096, 16385, 65537, 300001, (1 << 22) + 5};
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) sums_of_size(size[i]);
    uint8_t byte = 1;
    CHECK(comm->allreduce_begin(comm, &byte, 1, DT_DTYPE_U8, NULL) == DT_ERR_UNSUPPORTED);
}

/* More requests than may be pending, of uneven sizes, driven by progress alone and then waited for. */
static void case_overlap(void) {
    enum { COUNT = 150 };
    float *buf[COUNT];
    for (int b = 0; b < COUNT; b++) {
        int64_t n = 1 + (b * 977) % 20000;
        buf[b] = malloc((size_t)n * sizeof(float));
        CHECK(buf[b] != NULL);
        for (int64_t i = 0; i < n; i++) buf[b][i] = (float)(value_of(comm->rank, i) + b);
        CHECK_OK(comm->allreduce_begin(comm, buf[b], n, DT_DTYPE_F32, NULL));
        CHECK_OK(comm->progress(comm));
        /* Agreement meanwhile must not disturb the reductions. */
        if (b % 50 == 49) CHECK_OK(dt_comm_agree(comm, DT_OK));
    }
    CHECK_OK(comm->wait(comm, NULL));
    for (int b = 0; b < COUNT; b++) {
        int64_t n = 1 + (b * 977) % 20000;
        for (int64_t i = 0; i < n; i++) {
            int sum = 0;
            for (int r = 0; r < comm->world; r++) sum += value_of(r, i) + b;
            CHECK(buf[b][i] == (float)sum);
        }
        free(buf[b]);
    }
}

/* ---- determinism ---- */

static uint64_t bits_hash(const void *data, size_t bytes) {
    const unsigned char *p = data;
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

/* Values whose sum depends on the order of additions. */
static uint64_t reduce_awkward(int64_t n, dt_dtype dtype, uint64_t trial) {
    size_t bytes = (size_t)n * dt_dtype_size(dtype);
    void *buf = malloc(bytes);
    CHECK(buf != NULL);
    for (int64_t i = 0; i < n; i++) {
        uint64_t u = mix((uint64_t)(i * 64 + comm->rank));
        float f = ((float)(u >> 40) - 8388608.0f) * exp2f((float)((int)(u % 13) - 6));
        if (dtype == DT_DTYPE_F32) {
            ((float *)buf)[i] = f;
        } else {
            uint32_t bits;
            memcpy(&bits, &f, sizeof bits);
            ((uint16_t *)buf)[i] = (uint16_t)(bits >> 16);
        }
    }
    sleep_s((double)(mix(trial * 64 + (uint64_t)comm->rank) % 4) * 1e-3);
    CHECK_OK(comm->allreduce_begin(comm, buf, n, dtype, NULL));
    while (mix(trial++) % 3 != 0) CHECK_OK(comm->progress(comm));
    sleep_s((double)(mix(trial * 32 + (uint64_t)comm->rank) % 3) * 1e-3);
    CHECK_OK(comm->wait(comm, NULL));
    uint64_t h = bits_hash(buf, bytes);
    free(buf);
    return h;
}

static void case_determinism(void) {
    static const int64_t size[] = {1, 5, 1000, 16384, 100003};
    for (size_t s = 0; s < sizeof size / sizeof size[0]; s++) {
        for (int b = 0; b < 2; b++) {
            dt_dtype dtype = b ? DT_DTYPE_BF16 : DT_DTYPE_F32;
            uint64_t first = reduce_awkward(size[s], dtype, 0);
            for (uint64_t trial = 1; trial < 25; trial++)
                CHECK(reduce_awkward(size[s], dtype, trial) == first);
            CHECK_OK(dt_comm_check_equal(comm, first, "bits of the sum"));
        }
    }
}

/* ---- agreement ---- */

static void expect_text(const char *want) {
    if (strcmp(dt_error_text(), want) != 0) {
        fprintf(stderr, "comm_ranks: rank %d: got \"%s\", want \"%s\"\n", (int)comm->rank, dt_error_text(),
                want);
        comm->abort(comm, 1);
    }
}

static void case_agree(void) {
    char want[256];
    bool many = comm->world > 1;
    CHECK_OK(dt_comm_agree(comm, DT_OK));

    dt_status mine = DT_OK;
    if (many && comm->rank >= 1) mine = dt_fail(DT_ERR_DATA, "shard %d is truncated", (int)comm->rank);
    CHECK(dt_comm_agree(comm, mine) == (many ? DT_ERR_DATA : DT_OK));
    if (many) {
        snprintf(want, sizeof want, "%s%s%sshard 1 is truncated", comm->rank == 1 ? "" : "rank 1 (",
                 comm->rank == 1 ? "" : comm->host, comm->rank == 1 ? "" : "): ");
        expect_text(want);
    }

    CHECK(dt_comm_agree(comm, dt_fail(DT_ERR_CONFIG, "no such file")) == DT_ERR_CONFIG);
    expect_text("no such file");

    CHECK(dt_comm_agree(comm, dt_fail(DT_ERR_IO, "text of rank %d", (int)comm->rank)) == DT_ERR_IO);
    snprintf(want, sizeof want, "rank 0 (%s): text of rank 0", comm->host);
    expect_text(comm->rank == 0 ? "text of rank 0" : want);

    CHECK_OK(dt_comm_check_equal(comm, 42, "the configuration"));
    dt_status differs = dt_comm_check_equal(comm, comm->rank == comm->world - 1 ? 1 : 0, "the configuration");
    CHECK(differs == (many ? DT_ERR_CONFIG : DT_OK));
    snprintf(want, sizeof want, "rank %d (%s)", (int)comm->world - 1, comm->host);
    if (many)
        CHECK(strstr(dt_error_text(), want) != NULL && strstr(dt_error_text(), "the configuration") != NULL);

    double sum[2] = {comm->rank, 0.5}, max[2] = {comm->rank, -comm->rank};
    CHECK_OK(dt_comm_sum_host(comm, sum, 2));
    CHECK_OK(dt_comm_max_host(comm, max, 2));
    CHECK(sum[0] == comm->world * (comm->world - 1) / 2.0 && sum[1] == 0.5 * comm->world);
    CHECK(max[0] == comm->world - 1 && max[1] == 0);

    char text[100001];
    for (int root = 0; root < comm->world; root++) {
        memset(text, comm->rank == root ? 'a' + root : 0, sizeof text);
        CHECK_OK(dt_comm_bcast_host(comm, text, (int64_t)sizeof text, root));
        for (size_t i = 0; i < sizeof text; i++) CHECK(text[i] == 'a' + root);
    }
}

/* Nobody leaves before the last has come, and waiting costs little of a core. */
static void case_barrier(void) {
    CHECK_OK(dt_comm_barrier(comm));
    double start_s = dt_time_s();
    struct timespec cpu0, cpu1;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu0);
    if (comm->rank == comm->world - 1) sleep_s(1.0);
    CHECK_OK(dt_comm_barrier(comm));
    CHECK(comm->world == 1 || dt_time_s() - start_s > 0.9);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu1);
    double cpu_s = (double)(cpu1.tv_sec - cpu0.tv_sec) + 1e-9 * (double)(cpu1.tv_nsec - cpu0.tv_nsec);
    CHECK(cpu_s < 0.4);
    CHECK(comm->local_world == comm->world && comm->local_rank == comm->rank);
}

/* ---- faults ---- */

/* Ends this process as the command does. */
static void end(dt_status status) {
    dt_comm_fail(comm, status);
    if (comm->rank == 0) fprintf(stderr, "dtrain: %s\n", dt_error_text());
    dt_comm_fini(comm);
    exit(dt_status_exit_code(status));
}

/* Reduces for ever. At the tenth step the last rank does what `fault` says. */
static void train_until(void (*fault)(void), dt_watchdog *w) {
    enum { N = 100000 };
    static float grad[N];
    for (int64_t step = 0;; step++) {
        dt_watchdog_beat(w, step, "backward");
        if (step == 10 && comm->rank == comm->world - 1) fault();
        for (int i = 0; i < N; i++) grad[i] = 1;
        dt_watchdog_beat(w, step, "all-reduce");
        dt_status status = comm->allreduce_begin(comm, grad, N, DT_DTYPE_F32, NULL);
        if (status == DT_OK) status = comm->wait(comm, NULL);
        if (status != DT_OK) end(status);
    }
}

static void kill_self(void) {
    raise(SIGKILL);
}
static void stop_self(void) {
    raise(SIGSTOP);
}

static void case_kill(void) {
    train_until(kill_self, NULL);
}

static void case_stop(void) {
    dt_watchdog *w;
    CHECK_OK(dt_watchdog_start(comm, 2.0, &w));
    train_until(stop_self, w);
}

/* No watchdog: the wait itself gives up and names who is missing. */
static void case_silent(void) {
    comm->timeout_s = 1.0;
    train_until(stop_self, NULL);
}

/* Ranks that wait in different calls. */
static void case_apart(void) {
    comm->timeout_s = 1.0;
    float value = 1;
    if (comm->rank == 0) CHECK_OK(comm->allreduce_begin(comm, &value, 1, DT_DTYPE_F32, NULL));
    dt_status status = comm->rank == 0 ? comm->wait(comm, NULL) : dt_comm_barrier(comm);
    end(status);
}

/* An error that only one rank sees: it ends all, once. */
static void stray_error(void) {
    end(dt_fail(DT_ERR_DATA, "the disk is on fire"));
}
static void case_stray(void) {
    train_until(stray_error, NULL);
}

/* One rank's error that all agreed on: they end together, properly. */
static void case_together(void) {
    dt_status mine = comm->rank == 1 ? dt_fail(DT_ERR_DATA, "no such shard") : DT_OK;
    end(dt_comm_agree(comm, mine));
}

/* A rank that stops after the last meeting: the others stand in MPI_Finalize. */
static void case_finalize(void) {
    comm->timeout_s = 1.0;
    if (comm->rank != 2) return;
    CHECK_OK(dt_comm_barrier(comm));
    raise(SIGSTOP);
}

/* Rate and start-up, for people. */
static void case_rate(void) {
    enum { N = 11 << 20 };
    float *grad = calloc(N, sizeof *grad);
    CHECK(grad != NULL);
    for (int trial = 0; trial < 8; trial++) {
        CHECK_OK(dt_comm_barrier(comm));
        double start_s = dt_time_s();
        CHECK_OK(comm->allreduce_begin(comm, grad, N, DT_DTYPE_F32, NULL));
        CHECK_OK(comm->wait(comm, NULL));
        if (comm->rank == 0)
            printf("all-reduce of %d MiB: %.1f ms\n", N >> 18, 1e3 * (dt_time_s() - start_s));
    }
    free(grad);
}

typedef struct case_row {
    const char *name;
    void (*run)(void);
} case_row;

static const case_row case_table[] = {
    {"sums", case_sums},         {"overlap", case_overlap},   {"determinism", case_determinism},
    {"agree", case_agree},       {"barrier", case_barrier},   {"kill", case_kill},
    {"stop", case_stop},         {"silent", case_silent},     {"apart", case_apart},
    {"stray", case_stray},       {"together", case_together}, {"rate", case_rate},
    {"finalize", case_finalize},
};

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (dt_comm_init(&argc, &argv, &comm) != DT_OK) {
        fprintf(stderr, "comm_ranks: %s\n", dt_error_text());
        return dt_status_exit_code(DT_ERR_USAGE);
    }
    for (size_t i = 0; i < sizeof case_table / sizeof case_table[0]; i++) {
        if (strcmp(case_table[i].name, name) != 0) continue;
        case_table[i].run();
        if (comm->rank == 0) printf("comm_ranks: %s: %d ranks: passed\n", name, (int)comm->world);
        dt_comm_fini(comm);
        return 0;
    }
    if (comm->rank == 0) fprintf(stderr, "comm_ranks: no case \"%s\"\n", name);
    dt_comm_fini(comm);
    return 2;
}
