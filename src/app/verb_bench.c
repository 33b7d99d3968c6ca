/* `dtrain bench`: which measurement, with which arguments. */
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "console.h"
#include "data/bench.h"
#include "gpu/cuda.h"
#include "train/bench.h"
#include "train/session.h"
#include "verbs.h"

/* A measurement of a configured run, with its one option. */
typedef struct config_bench {
    dt_status (*run)(const dt_config *c, dt_comm *mpi, int64_t count, const dt_sink *sink);
    const char *option;
    bool config_optional;
} config_bench;

static dt_status run_config_bench(dt_app *app, const dt_args *args, const config_bench *b) {
    const char *name = args->verb->name;
    const int64_t count = dt_args_number(args, b->option);
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    dt_config c;
    dt_config_init(&c);
    dt_status st = DT_OK;
    if (args->argc > 1 || !b->config_optional) st = dt_app_config(name, args->argc, args->argv, &c);
    st = dt_comm_agree(app->mpi, st);
    if (st == DT_OK) {
        uint64_t verb = XXH3_64bits_withSeed(name, strlen(name), (XXH64_hash_t)count);
        st = dt_comm_check_equal(app->mpi, dt_config_hash_all(&c) ^ verb, "what to measure");
    }
    if (st == DT_OK) st = b->run(&c, app->mpi, count, &sink);
    dt_config_fini(&c);
    return st;
}

dt_status dt_verb_bench_step(dt_app *app, const dt_args *args) {
    return run_config_bench(app, args, &(config_bench){dt_bench_step, "steps", false});
}

dt_status dt_verb_bench_op(dt_app *app, const dt_args *args) {
    return run_config_bench(app, args, &(config_bench){dt_bench_op, "repeats", false});
}

dt_status dt_verb_bench_comm(dt_app *app, const dt_args *args) {
    return run_config_bench(app, args, &(config_bench){dt_bench_comm, "max-bytes", true});
}

dt_status dt_verb_bench_data(dt_app *app, const dt_args *args) {
    dt_data_bench_row rows[DT_DATA_BENCH_ROWS];
    dt_data_bench_options o = {.dir = dt_args_text(args, "dir"),
                               .dump_dir = dt_args_text(args, "dump-jpeg"),
                               .n_images = dt_args_number(args, "images"),
                               .seconds = (double)dt_args_number(args, "seconds"),
                               .threads = (int32_t)dt_args_number(args, "threads")};
    DT_TRY(dt_app_no_more(args));
    dt_config c;
    dt_config_init(&c);
    dt_status st = dt_cuda_device_count() > 0 ? dt_session_backend(&c, app->mpi, &o.be) : DT_OK;
    if (o.be) o.jpeg = dt_cuda_jpeg();
    if (st == DT_OK) st = dt_data_bench(&o, stdout, rows);
    if (o.be) o.be->destroy(o.be);
    dt_config_fini(&c);
    return st;
}
