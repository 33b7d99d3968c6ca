/* `dtrain profile`: a configured run's engine and loader, profiled; the table, and files of it. */
#include <string.h>

#include "core/text.h"
#include "measure.h"
#include "core/out_file.h"
#include "trace_write.h"
#include "train/profile.h"
#include "train/session.h"

enum { SPANS_PER_LANE = 1 << 17 };

typedef struct run {
    dt_session s;
    dt_loader *loader;
    dt_step_result result;
    /* Batches whose memory may still be read, the oldest first. */
    dt_batch held[DT_FEEDS_MAX];
    int64_t fed[DT_FEEDS_MAX];
    int32_t n_held;
} run;

static dt_status release_to(run *r, int32_t keep) {
    while (r->n_held > keep) {
        DT_TRY(dt_engine_input_wait(r->s.engine, r->fed[0]));
        dt_loader_release(r->loader, &r->held[0]);
        r->n_held--;
        memmove(r->held, r->held + 1, sizeof r->held[0] * (size_t)r->n_held);
        memmove(r->fed, r->fed + 1, sizeof r->fed[0] * (size_t)r->n_held);
    }
    return DT_OK;
}

/* A batch into the engine. */
static dt_status feed(run *r, int64_t *micro, double *wait_s) {
    dt_engine *e = r->s.engine;
    double waited_s = 0;
    DT_TRY(release_to(r, DT_FEEDS_MAX - 1));
    double begin_s = dt_trace_begin();
    DT_TRY(dt_loader_next(r->loader, &r->held[r->n_held], &waited_s));
    dt_trace_end(begin_s, "wait for a batch", -1);
    *wait_s += waited_s;
    dt_batch *b = &r->held[r->n_held];
    *micro = b->micro;
    r->fed[r->n_held++] = dt_engine_fed(e);
    begin_s = dt_trace_begin();
    DT_TRY(dt_engine_feed(e, b, false));
    dt_trace_end(begin_s, "feed", *micro);
    return DT_OK;
}

/* The trainer's step, without what it decides and reports. */
static dt_status step(void *arg, int64_t number, double *wait_s) {
    run *r = arg;
    dt_engine *e = r->s.engine;
    const dt_division *d = dt_engine_division(e);
    dt_step_params p = dt_measure_params(r->s.config, number);
    DT_TRY(dt_engine_begin_step(e, false, false));
    for (int64_t m = 0; m < d->n_micro; m++) {
        int64_t micro;
        DT_TRY(feed(r, &micro, wait_s));
        p.first_micro = m == 0;
        p.micro = (uint64_t)micro;
        DT_TRY(dt_engine_micro(e, &p, m == d->n_micro - 1));
        if (!r->s.be->info.is_gpu) DT_TRY(release_to(r, 0));
    }
    DT_TRY(dt_engine_end_step(e, number));
    while (dt_engine_pending(e) > dt_engine_lag(e)) DT_TRY(dt_engine_result(e, &r->result));
    return DT_OK;
}

static dt_status take_profile(run *r, const dt_profile_request *q, dt_trace *trace, dt_profile *p) {
    const int64_t n = dt_profile_n_steps(q->steps);
    dt_engine *e = r->s.engine;
    DT_TRY(dt_engine_init(e));
    DT_TRY(dt_engine_set_loss_scale(e, r->s.config->train.precision == DT_PRECISION_FP16 ? 1024 : 1, 0));
    DT_TRY(dt_comm_agree(r->s.mpi, dt_session_loader(&r->s, false, 0, n, &r->loader)));
    const dt_profile_options o = {
        .steps = q->steps, .step = step, .arg = r, .trace = trace, .watchdog = r->s.watchdog};
    DT_TRY(dt_profile_engine(e, &o, p));
    return release_to(r, 0);
}

static dt_status write_json(const dt_profile *p, const char *path) {
    dt_out_file f;
    DT_TRY(dt_out_file_open(path, &f));
    dt_profile_print_json(p, f.file);
    return dt_out_file_close(&f, DT_OK);
}

/* What rank 0 has to say. */
static dt_status report(const dt_profile *by_node, const dt_profile_request *q) {
    dt_profile p;
    DT_TRY(dt_profile_group(by_node, q->by, &p));
    dt_profile_print(&p, q->out);
    const dt_status st = q->json ? write_json(&p, q->json) : DT_OK;
    dt_profile_free(&p);
    return st;
}

/* Rank 0's places for files, before anything takes time. */
static dt_status try_files(const dt_profile_request *q) {
    if (q->trace && q->json && strcmp(q->trace, q->json) == 0)
        return dt_fail(DT_ERR_USAGE, "--trace and --json name the same file, %s", q->json);
    DT_TRY(q->trace ? dt_out_file_try(q->trace) : DT_OK);
    return q->json ? dt_out_file_try(q->json) : DT_OK;
}

static dt_status write_all(run *r, const dt_profile_request *q, const dt_trace *trace, const dt_profile *p) {
    dt_comm *mpi = r->s.mpi;
    int64_t n_lost = 0;
    dt_watchdog_pause(r->s.watchdog, true); /* a disk may be slow */
    dt_status st = dt_comm_agree(mpi, mpi->rank == 0 ? report(p, q) : DT_OK);
    if (st == DT_OK && trace) st = dt_trace_write(trace, mpi, q->trace, &n_lost);
    dt_watchdog_pause(r->s.watchdog, false);
    if (st == DT_OK && trace && mpi->rank == 0) {
        fprintf(q->out, "\ntrace: %s, for ui.perfetto.dev or chrome://tracing\n", q->trace);
        if (n_lost > 0)
            fprintf(q->out, "%s of it found no room: fewer --steps leave it whole\n",
                    dt_count_text(n_lost, "span").s);
    }
    return st;
}

dt_status dt_profile_run(const dt_config *c, dt_comm *mpi, const dt_profile_request *q) {
    run r = {.n_held = 0};
    dt_profile p = {.n_row = 0};
    dt_trace *trace = NULL;
    mpi->timeout_s = c->dist.timeout_s;
    DT_TRY(dt_comm_agree(mpi, mpi->rank == 0 ? try_files(q) : DT_OK));
    DT_TRY(dt_session_open(c, mpi, true, q->sink, &r.s));
    dt_status st = q->trace ? dt_trace_create(SPANS_PER_LANE, &trace) : DT_OK;
    DT_TRY_GOTO(st, dt_comm_agree(mpi, st), out);
    if (trace) dt_trace_attach(trace, "main");
    DT_TRY_GOTO(st, take_profile(&r, q, trace, &p), out);
    dt_loader_close(r.loader); /* its threads have their lanes in the trace */
    r.loader = NULL;
    dt_trace_attach(NULL, "");
    st = write_all(&r, q, trace, &p);
out:
    dt_loader_close(r.loader);
    dt_trace_attach(NULL, "");
    dt_profile_free(&p);
    dt_session_close(&r.s, st);
    dt_trace_destroy(trace);
    return st;
}
