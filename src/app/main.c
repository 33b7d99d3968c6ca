/* The command `dtrain`: finds the verb, starts the ranks, and is the only place that prints errors and
 * exits. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/version.h"
#include "core/text.h"
#include "dist/signals.h"
#include "verbs.h"

/* Whether the arguments after the verb ask for help. */
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
    dt_comm_tell_end(code);
    return code;
}

/* A small `ulimit -s` would become the size of every thread's stack, and checkpoints and loaders need
 * more. */
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

/* No verb: a word that is none, or one that has verbs of its own and none of them. */
static dt_status not_a_verb(const dt_verb *group, int argc, char **argv) {
    const char *name[64], *word = group ? (argc > 2 ? argv[2] : "") : argv[1];
    char list[256] = "";
    int n = 0;
    DT_ASSERT(dt_verb_count <= (int)(sizeof name / sizeof name[0]));
    for (int i = 0; i < dt_verb_count; i++) {
        const dt_verb *v = &dt_verb_table[i];
        if (group ? !dt_verb_is_below(v, group) : strchr(v->name, ' ') != NULL) continue;
        name[n++] = dt_verb_word(v);
    }
    for (int i = 0; group && i < n; i++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", name[i]);
    }
    const char *near = *word ? dt_nearest_name(word, n, name) : NULL;
    const char *before = near ? "; did you mean " : "", *meant = near ? near : "";
    if (!group)
        return dt_fail(DT_ERR_USAGE,
                       "\"%s\" is neither a verb nor a .toml file%s%s; dtrain --help lists the verbs", word,
                       before, meant);
    if (!*word)
        return dt_fail(DT_ERR_USAGE, "%s what? %s; dtrain %s --help says more", group->name, list,
                       group->name);
    return dt_fail(DT_ERR_USAGE, "%s \"%s\": expected %s%s%s; dtrain %s --help says more", group->name, word,
                   list, before, meant, group->name);
}

static bool is_config(const char *argument) {
    const size_t length = strlen(argument);
    return length >= 5 && strcmp(argument + length - 5, ".toml") == 0;
}

int main(int argc, char **argv) {
    dt_app app = {.start_s = dt_time_s()};
    give_threads_stacks();
    if (argc < 2) {
        const dt_status nothing = dt_fail(DT_ERR_USAGE, "neither a verb nor a .toml file was given");
        app.mpi = dt_comm_meet(nothing);
        if (!app.mpi || app.mpi->rank == 0) dt_help_print(stderr);
        return finish(app.mpi, nothing);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        dt_help_print(stdout);
        return finish(NULL, flush_output());
    }
    if (strcmp(argv[1], "--version") == 0) {
        const char *commit = dt_commit();
        printf("dtrain %s%s%s%s\n", dt_version(), commit[0] ? " (" : "", commit, commit[0] ? ")" : "");
        return finish(NULL, flush_output());
    }
    int shift = 0;
    const dt_verb *verb = dt_verb_find(argc, argv, &shift);
    if (!verb && is_config(argv[1])) verb = &dt_verb_table[0];
    if (verb && asks_help(argc, argv)) {
        dt_help_print_verb(verb, stdout);
        return finish(NULL, flush_output());
    }
    if (!verb || !verb->run) return finish(NULL, not_a_verb(verb, argc, argv));
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of the write, with a message */
    /* A request to stop that comes while MPI starts must not kill the run: MPI leaves these handlers
     * alone. */
    dt_status st = give_main_a_stack();
    if (st == DT_OK && verb->run == dt_verb_train) st = dt_signal_install();
    if (st == DT_OK && verb->ranks) st = dt_comm_init(&argc, &argv, &app.mpi);
    /* Ranks that were told different things would wait for each other. */
    if (app.mpi)
        st = st == DT_OK ? dt_comm_check_equal(app.mpi, (uint64_t)(verb - dt_verb_table), "the verb") : st;
    dt_args args;
    if (st == DT_OK) {
        st = dt_args_parse(verb, argc - shift, argv + shift, &args);
        if (app.mpi) st = dt_comm_agree(app.mpi, st);
    }
    if (st == DT_OK) st = verb->run(&app, &args);
    if (st == DT_OK && verb->run != dt_verb_train) st = flush_output(); /* training's result is in files */
    return finish(app.mpi, st);
}
