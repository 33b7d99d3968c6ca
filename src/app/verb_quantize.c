/* dtrain quantize: a network in few bits. */
#include "console.h"
#include "train/quantize.h"
#include "verbs.h"

enum { SAMPLES = 512 };

static const char *text_or(const dt_args *args, const char *name, const char *otherwise) {
    return dt_args_has(args, name) ? dt_args_text(args, name) : otherwise;
}

dt_status dt_verb_quantize(dt_app *app, const dt_args *args) {
    (void)app;
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    if (args->argc < 3)
        return dt_fail(DT_ERR_USAGE,
                       "quantize needs what to read and what to write: dtrain quantize MODEL OUT.onnx");
    DT_TRY(dt_app_check_overrides(args->argc - 3, args->argv + 3));
    const dt_quantize_options o = {.in = args->argv[1],
                                   .config = dt_args_text(args, "config"),
                                   .out = args->argv[2],
                                   .form = text_or(args, "form", "static"),
                                   .method = text_or(args, "method", "minmax"),
                                   .data = dt_args_text(args, "data"),
                                   .samples = dt_args_has(args, "samples") ? dt_args_number(args, "samples")
                                                                           : SAMPLES,
                                   .keep = dt_args_text(args, "keep"),
                                   .compensate = dt_args_has(args, "compensate"),
                                   .report = dt_args_has(args, "report"),
                                   .val = dt_args_text(args, "val"),
                                   .labels = dt_args_text(args, "labels")};
    if (!o.report && (o.val || o.labels)) return dt_fail(DT_ERR_USAGE, "--val and --labels are of --report");
    dt_config c; /* no data are read by it, but a configuration has some */
    dt_status st = dt_config_parse(&c, "command line", "[data]\ntrain = \".\"\n[train]\nsteps = 1\n",
                                   args->argc - 3, (const char *const *)(args->argv + 3));
    if (st == DT_OK) st = dt_quantize(&c, &o, &sink);
    dt_config_fini(&c);
    return st;
}
