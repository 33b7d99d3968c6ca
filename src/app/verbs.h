/* The verbs of the command. Each gets what it was given (app/command.h) and returns a status; main prints
 * errors. */
#ifndef DT_APP_VERBS_H
#define DT_APP_VERBS_H

#include "command.h"
#include "train/config.h"
#include "dist/comm.h"

typedef struct dt_app {
    dt_comm *mpi;   /* NULL for verbs that need no ranks */
    double start_s; /* of the process */
} dt_app;

dt_verb_fn dt_verb_train, dt_verb_eval, dt_verb_predict, dt_verb_sample, dt_verb_run, dt_verb_serve,
    dt_verb_optimize, dt_verb_convert, dt_verb_quantize, dt_verb_inspect, dt_verb_config, dt_verb_data_import,
    dt_verb_data_info, dt_verb_data_show, dt_verb_data_verify, dt_verb_bench_step, dt_verb_bench_op,
    dt_verb_bench_data, dt_verb_bench_comm, dt_verb_profile, dt_verb_ops, dt_verb_models, dt_verb_man,
    dt_verb_completion;

enum { DT_PREDICT_TOP_MAX = 1000 };

/* DT_ERR_USAGE where one is not section.key=value. */
dt_status dt_app_check_overrides(int n, char **override);
/* Loads argv[1] (a TOML file) with argv[2..] as overrides; `verb` is what an error calls the command. */
dt_status dt_app_config(const char *verb, int argc, char **argv, dt_config *c);
/* The configuration on every rank, or the first rank's error. */
dt_status dt_app_config_agreed(dt_app *app, const dt_args *args, dt_config *c);
/* DT_ERR_USAGE where there are arguments left of a verb that has none. */
dt_status dt_app_no_more(const dt_args *args);

#endif
