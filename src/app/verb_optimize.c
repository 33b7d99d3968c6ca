/* dtrain optimize: what the levels make of a network. */
#include "serve/engine.h"
#include "serve_backend.h"
#include "verbs.h"

dt_status dt_verb_optimize(dt_app *app, const dt_args *args) {
    (void)app;
    dt_backend *be = NULL;
    dt_serve_engine *e = NULL;
    dt_serve_model *m = NULL;
    if (args->argc != 2)
        return dt_fail(DT_ERR_USAGE, "optimize needs a model, and nothing else: dtrain optimize MODEL");
    const int64_t rows = dt_args_number(args, "rows");
    const dt_serve_model_options o = {.config = dt_args_text(args, "config"),
                                      .level = dt_level_of(dt_args_text(args, "profile")),
                                      .max_batch = rows > 1 ? rows : 0,
                                      .no_warm = true,
                                      .no_texts = true};
    dt_status st = dt_serve_backend(args, &be);
    if (st == DT_OK) st = dt_serve_engine_create(&(dt_serve_engine_options){.be = be, .workers = 1}, &e);
    if (st == DT_OK) st = dt_serve_load(e, args->argv[1], &o, &m);
    if (st == DT_OK)
        st = dt_serve_model_optimize(m, rows, dt_args_number(args, "runs"), dt_args_has(args, "profile"),
                                     stdout);
    dt_serve_model_drop(m);
    dt_serve_engine_destroy(e);
    if (be) be->destroy(be);
    return st;
}
