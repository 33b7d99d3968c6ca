/* dtrain convert: weights from one kind of file to another. */
#include "console.h"
#include "train/convert.h"
#include "verbs.h"

dt_status dt_verb_convert(dt_app *app, const dt_args *args) {
    (void)app;
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    if (args->argc < 3)
        return dt_fail(DT_ERR_USAGE, "convert needs what to read and what to write: dtrain convert IN OUT");
    DT_TRY(dt_app_check_overrides(args->argc - 3, args->argv + 3));
    const dt_convert_options o = {.in = args->argv[1],
                                  .out = args->argv[2],
                                  .type = dt_args_has(args, "dtype") ? dt_args_text(args, "dtype") : "f32",
                                  .config = dt_args_text(args, "config"),
                                  .n_override = args->argc - 3,
                                  .override = (const char *const *)(args->argv + 3),
                                  .merge = dt_args_has(args, "merge")};
    return dt_convert(&o, &sink);
}
