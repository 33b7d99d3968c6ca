/* The verbs of the command. Each gets its own arguments (argv[0] is the verb) and returns a status; main
 * prints errors. */
#ifndef DT_APP_VERBS_H
#define DT_APP_VERBS_H

#include <stdio.h>

#include "core/config.h"
#include "dist/comm.h"

typedef struct dt_app {
    dt_comm *mpi;   /* NULL for verbs that need no ranks */
    double start_s; /* of the process */
} dt_app;

typedef dt_status dt_verb_fn(dt_app *app, int argc, char **argv);
dt_verb_fn dt_verb_train, dt_verb_eval, dt_verb_predict, dt_verb_inspect, dt_verb_config, dt_verb_data,
    dt_verb_bench;

/* The arguments of verbs that have verbs of their own. */
typedef void dt_usage_fn(FILE *out);
dt_usage_fn dt_usage_data, dt_usage_bench, dt_usage_predict, dt_usage_eval, dt_usage_inspect;

/* Loads argv[1] (a TOML file) with argv[2..] as overrides; `verb` is what an error calls the command. */
dt_status dt_app_config(const char *verb, int argc, char **argv, dt_config *c);
/* The configuration on every rank, or the first rank's error. */
dt_status dt_app_config_agreed(dt_app *app, int argc, char **argv, dt_config *c);
/* Value of option --name VALUE or --name=VALUE taken out of argv; NULL if it is not there. A VALUE of its own
 * that starts with -- is a missing value, an error. */
dt_status dt_app_option(int *argc, char **argv, const char *name, const char **out);
/* Whether --name is there; takes it out of argv. */
bool dt_app_flag(int *argc, char **argv, const char *name);
/* Whole number from 1 to max of an option; `fallback` where it is absent. */
dt_status dt_app_count(int *argc, char **argv, const char *name, int64_t fallback, int64_t max, int64_t *out);

#endif
