/* The NCCL communicator against an NCCL that takes notes and fails when told to: what a healthy machine never
 * shows. Its functions stand in for the library's, which is not called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <nccl.h>

#include "dist/comm.h"

static dt_comm *mpi;
static float grad[64];

/* ---- NCCL ---- */

static struct ncclComm { int unused; } the_comm;
static char trace[1024];
static int in_progress;      /* questions that are answered with "in progress" */
static ncclResult_t outcome; /* after them */
static atomic_bool captured; /* a captured program refers to the communicator: it does not end */
static atomic_bool abort_called;

static void note(const char *what) {
    strncat(trace, what, sizeof trace - strlen(trace) - 1);
}
static void nap_ms(long ms) {
    const struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    memset(id, 0, sizeof *id);
    return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int world, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    (void)id;
    assert_int_equal(world, 1);
    assert_int_equal(rank, 0);
    assert_int_equal(config->blocking, 0);
    *comm = &the_comm;
    note("init ");
    return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *result) {
    assert_false(atomic_load(&abort_called));
    assert_ptr_equal(comm, &the_comm);
    *result = in_progress > 0 ? ncclInProgress : outcome;
    if (in_progress > 0) in_progress--;
    return ncclSuccess;
}
const char *ncclGetErrorString(ncclResult_t result) {
    return result == ncclRemoteError ? "remote error" : "some error";
}
const char *ncclGetLastError(ncclComm_t comm) {
    (void)comm;
    return "socket closed";
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    (void)comm;
    atomic_store(&abort_called, true);
    while (atomic_load(&captured)) nap_ms(1);
    return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void *in, void *out, size_t n, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
    (void)comm;
    assert_ptr_equal(in, out);
    assert_int_equal(n, 64);
    assert_int_equal(type, ncclFloat32);
    assert_int_equal(op, ncclSum);
    assert_non_null(stream);
    note("reduce ");
    return ncclInProgress;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    (void)comm;
    assert_false(atomic_load(&captured));
    note("finalize ");
    return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    (void)comm;
    note("destroy ");
    return ncclSuccess;
}

/* ---- a backend with one stream ---- */

static dt_status stream_create(dt_backend *be, dt_stream **out) {
    (void)be;
    *out = (dt_stream *)grad;
    return DT_OK;
}
static void stream_destroy(dt_backend *be, dt_stream *stream) {
    (void)be;
    (void)stream;
}
static dt_status event_create(dt_backend *be, dt_event **out) {
    (void)be;
    *out = (dt_event *)grad;
    return DT_OK;
}
static void event_destroy(dt_backend *be, dt_event *event) {
    (void)be;
    (void)event;
}
static dt_status event_record(dt_backend *be, dt_event *event, dt_stream *stream) {
    (void)be;
    (void)event;
    (void)stream;
    return DT_OK;
}

static dt_backend gpu = {.name = "fake",
                         .info.is_gpu = true,
                         .stream_create = stream_create,
                         .stream_destroy = stream_destroy,
                         .event_create = event_create,
                         .event_destroy = event_destroy,
                         .event_record = event_record,
                         .event_wait = event_record};

/* ---- tests ---- */

static dt_comm *open_comm(double timeout_s) {
    dt_comm *c;
    trace[0] = '\0';
    in_progress = 3;
    outcome = ncclSuccess;
    atomic_store(&captured, false);
    atomic_store(&abort_called, false);
    assert_int_equal(dt_comm_nccl_create(mpi, &gpu, timeout_s, &c), DT_OK);
    return c;
}

static dt_status reduce(dt_comm *c) {
    return c->allreduce_begin(c, grad, 64, DT_DTYPE_F32, NULL);
}

static void test_life(void **state) {
    (void)state;
    dt_comm *c = open_comm(5);
    for (int i = 0; i < 2; i++) {
        in_progress = 2000;
        assert_int_equal(reduce(c), DT_OK);
        assert_int_equal(in_progress, 0);
        assert_int_equal(c->wait(c, NULL), DT_OK);
    }
    c->release(c);
    c->destroy(c);
    assert_string_equal(trace, "init reduce reduce finalize destroy ");
}

/* What failed first is told to all who ask, whatever the error text was in between. */
static void expect_dead(dt_comm *c, const char *cause) {
    for (int i = 0; i < 2; i++) {
        dt_error_set_text("something else");
        assert_int_equal(i == 0 ? c->progress(c) : reduce(c), DT_ERR_PEER);
        assert_non_null(strstr(dt_error_text(), cause));
        assert_non_null(strstr(dt_error_text(), "rank 0"));
        assert_non_null(strstr(dt_error_text(), mpi->host));
    }
}

static void test_failed_peer(void **state) {
    (void)state;
    dt_comm *c = open_comm(5);
    assert_int_equal(reduce(c), DT_OK);
    atomic_store(&captured, true);
    outcome = ncclRemoteError;
    double start_s = dt_time_s();
    assert_int_equal(c->progress(c), DT_ERR_PEER); /* and does not wait for the captured program */
    expect_dead(c, "remote error in a collective: socket closed");
    assert_true(dt_time_s() - start_s < 1);
    atomic_store(&captured, false);
    c->release(c);
    assert_true(atomic_load(&abort_called));
    c->destroy(c);
    assert_string_equal(trace, "init reduce ");
}

static void test_captured_program_that_stays(void **state) {
    (void)state;
    dt_comm *c = open_comm(5);
    atomic_store(&captured, true);
    outcome = ncclRemoteError;
    assert_int_equal(c->progress(c), DT_ERR_PEER);
    double start_s = dt_time_s();
    c->destroy(c); /* gives up waiting */
    assert_true(dt_time_s() - start_s > 1 && dt_time_s() - start_s < 20);
    atomic_store(&captured, false);
}

static void test_timeout(void **state) {
    (void)state;
    dt_comm *c = open_comm(0.3);
    in_progress = 1000000000;
    double start_s = dt_time_s();
    assert_int_equal(reduce(c), DT_ERR_PEER);
    assert_true(dt_time_s() - start_s < 5);
    expect_dead(c, "did not finish within");
    c->destroy(c);
    assert_true(atomic_load(&abort_called));
}

static void test_failed_start(void **state) {
    (void)state;
    dt_comm *c = (dt_comm *)grad;
    in_progress = 1;
    outcome = ncclSystemError;
    atomic_store(&captured, false);
    atomic_store(&abort_called, false);
    assert_int_equal(dt_comm_nccl_create(mpi, &gpu, 5, &c), DT_ERR_PEER);
    assert_null(c);
    assert_non_null(strstr(dt_error_text(), "ncclCommInitRankConfig: socket closed"));
    assert_true(atomic_load(&abort_called));
    dt_backend cpu = {.name = "fake"};
    assert_int_equal(dt_comm_nccl_create(mpi, &cpu, 5, &c), DT_ERR_CONFIG);
    assert_null(c);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_failed_peer),
        cmocka_unit_test(test_captured_program_that_stays),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_failed_start),
    };
    if (dt_comm_init(&argc, &argv, &mpi) != DT_OK) {
        fprintf(stderr, "%s\n", dt_error_text());
        return 1;
    }
    int failed = cmocka_run_group_tests_name("nccl_faults", tests, NULL, NULL);
    dt_comm_fini(mpi);
    return failed;
}
