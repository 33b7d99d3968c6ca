/* `dtrain bench`: which measurement, with which arguments. */
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "data/bench.h"
#include "train/bench.h"
#include "train/session.h"
#include "verbs.h"

/* A measurement of a configured run, with its one option. */
typedef struct config_bench {
    const char *verb;
    dt_status (*run)(const dt_config *c, dt_comm *mpi, int64_t count);
    const char *option;
    int64_t fallback, max;
    bool config_optional;
} config_bench;

static dt_status run_config_bench(dt_app *app, int argc, char **argv, const config_bench *b) {
    dt_config c;
    int64_t count;
    dt_config_init(&c);
    dt_status st = dt_app_count(&argc, argv, b->option, b->fallback, b->max, &count);
    if (st == DT_OK && (argc > 1 || !b->config_optional)) st = dt_app_config(b->verb, argc, argv, &c);
    st = dt_comm_agree(app->mpi, st);
    if (st == DT_OK) {
        uint64_t verb = XXH3_64bits_withSeed(b->verb, strlen(b->verb), (XXH64_hash_t)count);
        st = dt_comm_check_equal(app->mpi, dt_config_hash_all(&c) ^ verb, "what to measure");
    }
    if (st == DT_OK) st = b->run(&c, app->mpi, count);
    dt_config_fini(&c);
    return st;
}

static dt_status bench_step(dt_app *app, int argc, char **argv) {
    const config_bench b = {"bench step", dt_bench_step, "steps", 10, 1000000, false};
    return run_config_bench(app, argc, argv, &b);
}

static dt_status bench_op(dt_app *app, int argc, char **argv) {
    const config_bench b = {"bench op", dt_bench_op, "repeats", 5, 1000000, false};
    return run_config_bench(app, argc, argv, &b);
}

static dt_status bench_comm(dt_app *app, int argc, char **argv) {
    const config_bench b = {"bench comm", dt_bench_comm, "max-bytes", 64 << 20, 1ll << 34, true};
    return run_config_bench(app, argc, argv, &b);
}

static dt_status bench_data(dt_app *app, int argc, char **argv) {
    int64_t threads, images, seconds;
    dt_data_bench_row rows[DT_DATA_BENCH_ROWS];
    DT_TRY(dt_app_count(&argc, argv, "threads", 1, 1024, &threads));
    DT_TRY(dt_app_count(&argc, argv, "images", 256, 1 << 20, &images));
    DT_TRY(dt_app_count(&argc, argv, "seconds", 3, 3600, &seconds));
    dt_data_bench_options o = {.n_images = images, .seconds = (double)seconds, .threads = (int32_t)threads};
    DT_TRY(dt_app_option(&argc, argv, "dir", &o.dir));
    DT_TRY(dt_app_option(&argc, argv, "dump-jpeg", &o.dump_dir));
    if (argc > 1) return dt_fail(DT_ERR_USAGE, "bench data: unknown argument \"%s\"", argv[1]);
    dt_config c;
    dt_config_init(&c);
    dt_status st = dt_cuda_device_count() > 0 ? dt_session_backend(&c, app->mpi, &o.be) : DT_OK;
    if (st == DT_OK) st = dt_data_bench(&o, stdout, rows);
    if (o.be) o.be->destroy(o.be);
    dt_config_fini(&c);
    return st;
}

typedef struct bench_row {
    const char *name;
    dt_verb_fn *run;
    const char *usage;
} bench_row;

static const bench_row bench_table[] = {
    {"step", bench_step, "step CONFIG.toml [--steps N] [section.key=value ...]"},
    {"op", bench_op, "op CONFIG.toml [--repeats N] [section.key=value ...]"},
    {"data", bench_data, "data [--seconds N] [--threads N] [--images N] [--dir DIR] [--dump-jpeg DIR]"},
    {"comm", bench_comm, "comm [CONFIG.toml] [--max-bytes N]"},
};

void dt_usage_bench(FILE *out) {
    for (size_t i = 0; i < sizeof bench_table / sizeof bench_table[0]; i++)
        fprintf(out, "  dtrain bench %s\n", bench_table[i].usage);
}

dt_status dt_verb_bench(dt_app *app, int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof bench_table / sizeof bench_table[0]; i++)
        if (strcmp(bench_table[i].name, argv[1]) == 0) return bench_table[i].run(app, argc - 1, argv + 1);
    char usage[512] = "";
    for (size_t i = 0; i < sizeof bench_table / sizeof bench_table[0]; i++) {
        strncat(usage, "\n  dtrain bench ", sizeof usage - strlen(usage) - 1);
        strncat(usage, bench_table[i].usage, sizeof usage - strlen(usage) - 1);
    }
    return dt_fail(DT_ERR_USAGE, "bench what?%s", usage);
}
