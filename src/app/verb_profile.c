/* `dtrain profile`: what to profile, and where the results go. */
#include <string.h>
#include <xxhash.h>

#include "console.h"
#include "train/profile.h"
#include "verbs.h"

static dt_profile_by by_of(const char *text) {
    static const char *const name[] = {
        [DT_PROFILE_BY_NODE] = "node", [DT_PROFILE_BY_LAYER] = "layer", [DT_PROFILE_BY_OP] = "op"};
    for (size_t i = 0; text && i < sizeof name / sizeof name[0]; i++)
        if (strcmp(text, name[i]) == 0) return (dt_profile_by)i;
    return DT_PROFILE_BY_NODE;
}

/* Files are rank 0's, but all must know whether there is a trace. */
static dt_status check_same(dt_app *app, const dt_config *c, const dt_profile_request *q) {
    const uint64_t part[] = {dt_config_hash_all(c), (uint64_t)q->steps, q->trace != NULL};
    return dt_comm_check_equal(app->mpi, XXH3_64bits(part, sizeof part), "what to profile");
}

dt_status dt_verb_profile(dt_app *app, const dt_args *args) {
    dt_console console = dt_console_of(stdout, stderr);
    const dt_sink sink = dt_console_sink(&console);
    const dt_profile_request q = {.steps = dt_args_number(args, "steps"),
                                  .by = by_of(dt_args_text(args, "by")),
                                  .trace = dt_args_text(args, "trace"),
                                  .json = dt_args_text(args, "json"),
                                  .out = stdout,
                                  .sink = &sink};
    dt_config c;
    dt_status st = dt_app_config_agreed(app, args, &c);
    if (st == DT_OK) st = check_same(app, &c, &q);
    if (st == DT_OK) st = dt_profile_run(&c, app->mpi, &q);
    dt_config_fini(&c);
    return st;
}
