/* dtrain run: a network in a file, on arrays in files. */
#include <stdlib.h>
#include <string.h>

#include "console.h"
#include "train/run_file.h"
#include "verbs.h"

static bool is_key(const char *argument) {
    const char *dot = strchr(argument, '.'), *equals = strchr(argument, '=');
    return dot && equals && dot < equals && strcmp(argument + strlen(argument) - 4, ".npy") != 0;
}

dt_status dt_verb_run(dt_app *app, const dt_args *args) {
    (void)app;
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    if (args->argc < 2)
        return dt_fail(DT_ERR_USAGE, "run needs a network: dtrain run MODEL --input NAME=x.npy --output DIR");
    const char **input = calloc((size_t)args->argc + 1, sizeof *input),
               **key = calloc((size_t)args->argc + 1, sizeof *key);
    int n_input = 0, n_key = 0;
    if (!input || !key) {
        free(input), free(key);
        return dt_fail(DT_ERR_MEMORY, "no memory for the arguments");
    }
    if (dt_args_text(args, "input")) input[n_input++] = dt_args_text(args, "input");
    for (int i = 2; i < args->argc; i++) {
        if (is_key(args->argv[i]))
            key[n_key++] = args->argv[i];
        else
            input[n_input++] = args->argv[i];
    }
    dt_config c; /* no data are read, but a configuration has some */
    dt_status st =
        dt_config_parse(&c, "command line", "[data]\ntrain = \".\"\n[train]\nsteps = 1\n", n_key, key);
    const dt_run_file_options o = {.path = args->argv[1],
                                   .config = dt_args_text(args, "config"),
                                   .n_input = n_input,
                                   .input = input,
                                   .output = dt_args_text(args, "output"),
                                   .times = dt_args_has(args, "times") ? dt_args_number(args, "times") : 0,
                                   .plain = dt_args_has(args, "plain")};
    if (st == DT_OK) st = dt_run_file(&c, &o, &sink);
    dt_config_fini(&c);
    free(input), free(key);
    return st;
}
