/* Train, eval, inspect, config: thin layers over src/train and src/core. And the arguments of all verbs. */
#include "verbs.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "train/bench.h"
#include "train/trainer.h"

dt_status dt_app_option(int *argc, char **argv, const char *name, const char **out) {
    *out = NULL;
    size_t len = strlen(name);
    for (int i = 1; i < *argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, name, len) != 0) continue;
        int n;
        if (argv[i][2 + len] == '=')
            *out = argv[i] + 3 + len, n = 1;
        else if (argv[i][2 + len] != 0)
            continue;
        else if (i + 1 < *argc && strncmp(argv[i + 1], "--", 2) != 0)
            *out = argv[i + 1], n = 2;
        else
            return dt_fail(DT_ERR_USAGE, "--%s needs a value: --%s VALUE", name, name);
        memmove(argv + i, argv + i + n, (size_t)(*argc - i - n) * sizeof *argv);
        *argc -= n;
        return DT_OK;
    }
    return DT_OK;
}

bool dt_app_flag(int *argc, char **argv, const char *name) {
    for (int i = 1; i < *argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, name) != 0) continue;
        memmove(argv + i, argv + i + 1, (size_t)(*argc - i - 1) * sizeof *argv);
        (*argc)--;
        return true;
    }
    return false;
}

dt_status dt_app_count(int *argc, char **argv, const char *name, int64_t fallback, int64_t max,
                       int64_t *out) {
    const char *text;
    *out = fallback;
    DT_TRY(dt_app_option(argc, argv, name, &text));
    if (!text) return DT_OK;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || end == text || v < 1 || v > max)
        return dt_fail(DT_ERR_USAGE, "--%s %s: expected a whole number from 1 to %lld", name, text,
                       (long long)max);
    *out = v;
    return DT_OK;
}

dt_status dt_app_config(const char *verb, int argc, char **argv, dt_config *c) {
    dt_config_init(c);
    if (argc < 2) return dt_fail(DT_ERR_USAGE, "%s needs a configuration: dtrain %s CONFIG.toml", verb, verb);
    for (int i = 2; i < argc; i++)
        if (!strchr(argv[i], '=') || argv[i][0] == '-')
            return dt_fail(DT_ERR_USAGE, "\"%s\" is not of the form section.key=value", argv[i]);
    return dt_config_load(c, argv[1], argc - 2, (const char *const *)(argv + 2));
}

dt_status dt_app_config_agreed(dt_app *app, int argc, char **argv, dt_config *c) {
    return dt_comm_agree(app->mpi, dt_app_config(argv[0], argc, argv, c));
}

dt_status dt_verb_train(dt_app *app, int argc, char **argv) {
    dt_config c;
    dt_status st = dt_app_config_agreed(app, argc, argv, &c);
    if (st == DT_OK) st = dt_trainer_run(&c, app->mpi, app->start_s);
    dt_config_fini(&c);
    return st;
}

void dt_usage_eval(FILE *out) {
    fprintf(out,
            "  --report DIR   writes classes.csv, confusion.csv, confusion.svg and mistakes.csv there\n");
}

dt_status dt_verb_eval(dt_app *app, int argc, char **argv) {
    dt_config c;
    const char *report;
    dt_status st = dt_comm_agree(app->mpi, dt_app_option(&argc, argv, "report", &report));
    if (st == DT_OK) st = dt_app_config_agreed(app, argc, argv, &c);
    if (st != DT_OK) return st;
    st = dt_trainer_eval(&c, app->mpi, report);
    dt_config_fini(&c);
    return st;
}

void dt_usage_inspect(FILE *out) {
    fprintf(out, "  --passes       also tells what each pass of the compilation did to the graph\n");
}

dt_status dt_verb_inspect(dt_app *app, int argc, char **argv) {
    dt_config c;
    const bool passes = dt_app_flag(&argc, argv, "passes");
    dt_status st = dt_app_config_agreed(app, argc, argv, &c);
    if (st == DT_OK) st = dt_inspect(&c, app->mpi, passes, stdout);
    dt_config_fini(&c);
    return st;
}

dt_status dt_verb_config(dt_app *app, int argc, char **argv) {
    (void)app;
    if (argc < 2) {
        dt_config_print_keys(stdout);
        return DT_OK;
    }
    if (strcmp(argv[1], "--markdown") == 0 && argc == 2) {
        dt_config_print_markdown(stdout);
        return DT_OK;
    }
    dt_config c;
    dt_status st = dt_app_config(argv[0], argc, argv, &c);
    if (st == DT_OK) st = dt_config_write(&c, stdout);
    dt_config_fini(&c);
    return st;
}
