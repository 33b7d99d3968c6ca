/* Train, eval, inspect, config, ops, models, man, completion: thin layers over src/train and src/core. */
#include "verbs.h"

#include <string.h>

#include "console.h"
#include "core/op.h"
#include "model/model_table.h"
#include "train/bench.h"
#include "train/choose.h"
#include "train/convert.h"
#include "train/trainer.h"

dt_status dt_app_check_overrides(int n, char **override) {
    for (int i = 0; i < n; i++)
        if (!strchr(override[i], '=') || override[i][0] == '-')
            return dt_fail(DT_ERR_USAGE, "\"%s\" is not of the form section.key=value", override[i]);
    return DT_OK;
}

dt_status dt_app_config(const char *verb, int argc, char **argv, dt_config *c) {
    dt_config_init(c);
    if (argc < 2) return dt_fail(DT_ERR_USAGE, "%s needs a configuration: dtrain %s CONFIG.toml", verb, verb);
    DT_TRY(dt_app_check_overrides(argc - 2, argv + 2));
    return dt_config_load(c, argv[1], argc - 2, (const char *const *)(argv + 2));
}

dt_status dt_app_config_agreed(dt_app *app, const dt_args *args, dt_config *c) {
    return dt_comm_agree(app->mpi, dt_app_config(args->verb->name, args->argc, args->argv, c));
}

dt_status dt_app_no_more(const dt_args *args) {
    if (args->argc < 2) return DT_OK;
    return dt_fail(DT_ERR_USAGE, "%s: unknown argument \"%s\"; dtrain %s --help lists what it takes",
                   args->verb->name, args->argv[1], args->verb->name);
}

dt_status dt_verb_train(dt_app *app, const dt_args *args) {
    dt_config c;
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    dt_status st = dt_app_config_agreed(app, args, &c);
    console.log_every = c.run.log_every;
    console.live = app->mpi->rank == 0 && dt_console_is_watched();
    console.flush = true;
    if (st == DT_OK) st = dt_trainer_run(&c, app->mpi, app->start_s, &sink);
    dt_config_fini(&c);
    return st;
}

dt_status dt_verb_eval(dt_app *app, const dt_args *args) {
    dt_config c;
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    dt_status st = dt_app_config_agreed(app, args, &c);
    const char *choices = dt_args_text(args, "choices"), *report = dt_args_text(args, "report");
    dt_choose_result ignored;
    if (st == DT_OK && choices && report)
        st = dt_fail(DT_ERR_USAGE, "--report is of data.val, --choices of another file: one of them");
    if (st == DT_OK)
        st = choices ? dt_choose(&c, app->mpi, choices, &sink, &ignored)
                     : dt_trainer_eval(&c, app->mpi, report, &sink);
    dt_config_fini(&c);
    return st;
}

/* The configuration of a file, or of a network by its name. */
static dt_status inspected(const dt_args *args, dt_config *c) {
    const char *name = dt_args_text(args, "model");
    dt_config_init(c);
    if (!name && (dt_args_has(args, "input") || dt_args_has(args, "outputs")))
        return dt_fail(DT_ERR_USAGE, "--input and --outputs are for --model NAME; of a configuration set "
                                     "data.image_size and model.classes");
    if (!name) return dt_app_config(args->verb->name, args->argc, args->argv, c);
    DT_TRY(dt_app_check_overrides(args->argc - 1, args->argv + 1));
    return dt_inspect_config(name, dt_args_number(args, "input"), dt_args_number(args, "outputs"),
                             args->argc - 1, (const char *const *)(args->argv + 1), c);
}

dt_status dt_verb_inspect(dt_app *app, const dt_args *args) {
    dt_config c;
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    if (args->argc == 2 && dt_holds_weights(args->argv[1]))
        return dt_comm_agree(app->mpi, app->mpi->rank == 0 ? dt_convert_show(args->argv[1], stdout) : DT_OK);
    dt_status st = dt_comm_agree(app->mpi, inspected(args, &c));
    if (st == DT_OK) st = dt_inspect(&c, app->mpi, dt_args_has(args, "passes"), stdout, &sink);
    dt_config_fini(&c);
    return st;
}

dt_status dt_verb_config(dt_app *app, const dt_args *args) {
    (void)app;
    if (dt_args_has(args, "markdown")) {
        DT_TRY(dt_app_no_more(args));
        dt_config_print_markdown(stdout);
        return DT_OK;
    }
    if (args->argc < 2) {
        dt_config_print_keys(stdout);
        return DT_OK;
    }
    dt_config c;
    dt_status st = dt_app_config(args->verb->name, args->argc, args->argv, &c);
    if (st == DT_OK) st = dt_config_write(&c, stdout);
    dt_config_fini(&c);
    return st;
}

static dt_status print(const dt_args *args, void (*printed)(FILE *out)) {
    DT_TRY(dt_app_no_more(args));
    printed(stdout);
    return DT_OK;
}

dt_status dt_verb_ops(dt_app *app, const dt_args *args) {
    (void)app;
    return print(args, dt_op_print_all);
}

dt_status dt_verb_models(dt_app *app, const dt_args *args) {
    (void)app;
    DT_TRY(dt_app_no_more(args));
    return dt_model_print_all(stdout);
}

dt_status dt_verb_man(dt_app *app, const dt_args *args) {
    (void)app;
    return print(args, dt_help_print_man);
}

dt_status dt_verb_completion(dt_app *app, const dt_args *args) {
    (void)app;
    return print(args, dt_help_print_completion);
}
