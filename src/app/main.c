/* The command `dtrain`: finds the verb, starts the ranks, and is the only place that prints errors and exits.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/version.h"
#include "dist/signals.h"
#include "verbs.h"

typedef struct verb_row {
    const char *name;
    dt_verb_fn *run;
    bool ranks; /* starts MPI */
    const char *usage, *help;
    dt_usage_fn *more; /* its verbs; NULL without */
} verb_row;

static const verb_row verb_table[] = {
    {"train", dt_verb_train, true, "CONFIG.toml [section.key=value ...]", "train (the verb may be left out)",
     NULL},
    {"eval", dt_verb_eval, true, "CONFIG.toml [--report DIR] [section.key=value ...]",
     "evaluate the newest or the named checkpoint", dt_usage_eval},
    {"predict", dt_verb_predict, true, "CONFIG.toml INPUT... [section.key=value ...]",
     "classes of images, with the newest or the named checkpoint", dt_usage_predict},
    {"inspect", dt_verb_inspect, true, "CONFIG.toml [--passes] [section.key=value ...]",
     "model, memory plan, buckets; trains nothing", dt_usage_inspect},
    {"data", dt_verb_data, false, "import|info|verify ...", "make, show and check data sets", dt_usage_data},
    {"bench", dt_verb_bench, true, "step|op|comm|data ...", "measure", dt_usage_bench},
    {"config", dt_verb_config, false, "[CONFIG.toml ...]",
     "every key; with a file: the resolved configuration", NULL},
};
enum { N_VERB = sizeof verb_table / sizeof verb_table[0] };

static void print_help(FILE *out) {
    fprintf(out, "dtrain %s: trains neural networks on one or many ranks\n\n", dt_version());
    fprintf(out, "  dtrain CONFIG.toml [section.key=value ...]     the same under mpirun -np N\n\n");
    for (int i = 0; i < N_VERB; i++)
        fprintf(out, "  dtrain %-8s %-50s %s\n", verb_table[i].name, verb_table[i].usage, verb_table[i].help);
    fprintf(out, "  dtrain --help | --version\n\n");
    fprintf(
        out,
        "exit codes: 0 done, 2 usage or configuration, 3 data, 4 no usable checkpoint, 5 loss not finite,\n"
        "            6 a rank lost or stuck, 7 a GPU failed, 85 stopped by a signal and saved, 1 anything "
        "else\n");
}

static void print_verb_help(const verb_row *v) {
    printf("usage: dtrain %s %s\n%s\n", v->name, v->usage, v->help);
    if (v->more) v->more(stdout);
}

/* Whether the arguments after the first ask for help. */
static bool asks_help(int argc, char **argv) {
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

/* What a verb printed is its result: it must have been written. */
static dt_status flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return DT_OK;
    return dt_fail(DT_ERR_IO, "the output could not be written: %s", strerror(errno));
}

/* Ends with the code of `st`. When all ranks failed together the first one speaks; when only this one failed
 * it has spoken and taken the others down, who would wait for it. */
static int finish(dt_comm *mpi, dt_status st) {
    const int code = dt_status_exit_code(st);
    const bool failed = st != DT_OK && st != DT_STOPPED;
    if (failed && !mpi) mpi = dt_comm_meet(st);
    if (failed && mpi) {
        (void)dt_signal_install(); /* the SIGTERM that the first to end brings the others */
        dt_comm_fail(mpi, st);
    }
    fflush(stdout);
    if (failed && (!mpi || mpi->rank == 0)) fprintf(stderr, "dtrain: %s\n", dt_error_text());
    dt_comm_fini(mpi);
    return code;
}

/* A small `ulimit -s` would become the size of every thread's stack, and checkpoints and loaders need more.
 */
static void give_threads_stacks(void) {
    const size_t enough = 2 << 20;
    size_t bytes;
    pthread_attr_t a;
    if (pthread_getattr_default_np(&a) != 0) return;
    if (pthread_attr_getstacksize(&a, &bytes) == 0 && bytes < enough &&
        pthread_attr_setstacksize(&a, enough) == 0)
        (void)pthread_setattr_default_np(&a);
    (void)pthread_attr_destroy(&a);
}

/* The kernel grows the main thread's stack up to the limit of the moment, and keeps room for 128 MiB. */
static dt_status give_main_a_stack(void) {
    const rlim_t usual = 8 << 20, enough = 512 << 10;
    struct rlimit l;
    if (getrlimit(RLIMIT_STACK, &l) != 0 || l.rlim_cur >= usual) return DT_OK;
    l.rlim_cur = usual;
    if (l.rlim_max < usual && geteuid() == 0) l.rlim_max = usual;
    if (setrlimit(RLIMIT_STACK, &l) == 0) return DT_OK;
    if (getrlimit(RLIMIT_STACK, &l) != 0) return DT_OK;
    l.rlim_cur = l.rlim_max;
    (void)setrlimit(RLIMIT_STACK, &l);
    if (l.rlim_max >= enough) return DT_OK;
    return dt_fail(
        DT_ERR_USAGE,
        "the stack is limited to %llu kB for good, dtrain needs %llu kB: raise the hard limit (ulimit -Hs)",
        (unsigned long long)l.rlim_max >> 10, (unsigned long long)enough >> 10);
}

static const verb_row *find_verb(const char *name) {
    for (int i = 0; i < N_VERB; i++)
        if (strcmp(verb_table[i].name, name) == 0) return &verb_table[i];
    return NULL;
}

int main(int argc, char **argv) {
    dt_app app = {.start_s = dt_time_s()};
    give_threads_stacks();
    if (argc < 2) {
        const dt_status nothing = dt_fail(DT_ERR_USAGE, "neither a verb nor a .toml file was given");
        app.mpi = dt_comm_meet(nothing);
        if (!app.mpi || app.mpi->rank == 0) print_help(stderr);
        return finish(app.mpi, nothing);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return finish(NULL, flush_output());
    }
    if (strcmp(argv[1], "--version") == 0) {
        const char *commit = dt_commit();
        printf("dtrain %s%s%s%s\n", dt_version(), commit[0] ? " (" : "", commit, commit[0] ? ")" : "");
        return finish(NULL, flush_output());
    }
    const verb_row *verb = find_verb(argv[1]);
    int shift = verb ? 1 : 0;
    if (!verb) {
        size_t len = strlen(argv[1]);
        if (len < 5 || strcmp(argv[1] + len - 5, ".toml") != 0)
            return finish(NULL,
                          dt_fail(DT_ERR_USAGE,
                                  "\"%s\" is neither a verb nor a .toml file; dtrain --help lists the verbs",
                                  argv[1]));
        verb = find_verb("train");
    }
    if (asks_help(argc, argv)) {
        print_verb_help(verb);
        return finish(NULL, flush_output());
    }
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of the write, with a message */
    /* A request to stop that comes while MPI starts must not kill the run: MPI leaves these handlers alone.
     */
    dt_status st = give_main_a_stack();
    if (st == DT_OK && verb->run == dt_verb_train) st = dt_signal_install();
    if (st == DT_OK && verb->ranks) st = dt_comm_init(&argc, &argv, &app.mpi);
    /* Ranks that were told different things would wait for each other. */
    if (app.mpi)
        st = st == DT_OK ? dt_comm_check_equal(app.mpi, (uint64_t)(verb - verb_table), "the verb") : st;
    if (st == DT_OK) st = verb->run(&app, argc - shift, argv + shift);
    if (st == DT_OK && verb->run != dt_verb_train) st = flush_output(); /* training's result is in files */
    return finish(app.mpi, st);
}
