/* dtrain serve: models over HTTP, until a signal ends it. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/server.h"
#include "serve_backend.h"
#include "verbs.h"

static void say(void *arg, const char *line) {
    FILE *out = arg;
    fprintf(out, "%s\n", line);
    fflush(out);
}

static dt_status add_model(dt_http_server *s, const char *argument) {
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument || !equals[1])
        return dt_fail(DT_ERR_USAGE, "\"%s\": expected NAME=PATH, a model and the file or run that it is in",
                       argument);
    char *name = strndup(argument, (size_t)(equals - argument));
    const dt_status st = name ? dt_http_server_add(s, name, equals + 1) : dt_fail(DT_ERR_MEMORY, "no memory");
    free(name);
    return st;
}

static dt_status port_of(const char *text, int32_t *out) {
    char *end = NULL;
    const long port = text ? strtol(text, &end, 10) : 8000;
    if (text && (end == text || *end || port < 0 || port > 65535))
        return dt_fail(DT_ERR_USAGE, "--port %s: expected a number from 0 to 65535", text);
    *out = (int32_t)port;
    return DT_OK;
}

static int choice(const char *const *names, const char *name) {
    for (int i = 0; name && names[i]; i++)
        if (strcmp(names[i], name) == 0) return i;
    return 0;
}

/* Loads what there is, says where it answers, and ends with the first SIGTERM or SIGINT; a second one ends at once. SIGHUP
 * loads all anew. */
static dt_status serve(const dt_args *args, dt_http_server *s, const sigset_t *signals) {
    if (dt_args_text(args, "model")) DT_TRY(add_model(s, dt_args_text(args, "model")));
    for (int i = 1; i < args->argc; i++) DT_TRY(add_model(s, args->argv[i]));
    DT_TRY(dt_http_server_load(s));
    printf("ready at %s\n", dt_http_server_url(s));
    fflush(stdout);
    int number = 0;
    do {
        number = sigwaitinfo(signals, NULL);
        if (number == SIGHUP) dt_http_server_reload(s);
    } while (number != SIGTERM && number != SIGINT);
    signal(SIGTERM, SIG_DFL), signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
    printf("ending: no new requests after %lld s, those that are there within %lld s\n",
           (long long)dt_args_number(args, "grace-s"), (long long)dt_args_number(args, "exit-s"));
    fflush(stdout);
    dt_http_server_drain(s, 1000 * dt_args_number(args, "grace-s"), 1000 * dt_args_number(args, "exit-s"));
    printf("ended\n");
    return DT_OK;
}

dt_status dt_verb_serve(dt_app *app, const dt_args *args) {
    (void)app;
    static const char *const forms[] = {"stored", "int8", "int4", NULL};
    dt_backend *be = NULL;
    dt_serve_engine *e = NULL;
    dt_http_server *s = NULL;
    sigset_t signals;
    int32_t port = 0;
    DT_TRY(port_of(dt_args_text(args, "port"), &port));
    if (!dt_args_text(args, "model") && !dt_args_text(args, "repository"))
        return dt_fail(DT_ERR_USAGE,
                       "serve needs a model: dtrain serve --model NAME=PATH, or --repository DIR");
    sigemptyset(&signals); /* before there are threads, which inherit it */
    sigaddset(&signals, SIGTERM), sigaddset(&signals, SIGINT), sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    dt_status st = dt_serve_backend(args, &be);
    const dt_serve_engine_options eo = {.be = be,
                                        .workers = (int32_t)dt_args_number(args, "workers"),
                                        .affinity = dt_args_text(args, "affinity"),
                                        .memory_cap_bytes = dt_args_number(args, "memory-mib") << 20,
                                        .queue_limit = dt_args_number(args, "queue")};
    if (st == DT_OK) st = dt_serve_engine_create(&eo, &e);
    const dt_http_options o = {
        .engine = e,
        .host = dt_args_text(args, "host"),
        .port = port,
        .threads = (int32_t)dt_args_number(args, "http-threads"),
        .connections = (int32_t)dt_args_number(args, "connections"),
        .body_bytes = dt_args_number(args, "body-mib") << 20,
        .idle_s = (int32_t)dt_args_number(args, "idle-s"),
        .control = dt_args_has(args, "control"),
        .repository = dt_args_text(args, "repository"),
        .all_versions =
            choice((const char *const[]){"latest", "all", NULL}, dt_args_text(args, "versions")) == 1,
        .model = {.config = dt_args_text(args, "config"),
                  .level = dt_level_of(dt_args_text(args, "level")),
                  .weights = (dt_weights_form)choice(forms, dt_args_text(args, "weights")),
                  .max_batch = dt_args_number(args, "max-batch"),
                  .max_delay_us = dt_args_number(args, "max-delay-us"),
                  .text_rows = dt_args_number(args, "texts")},
        .say = say,
        .arg = stdout,
    };
    if (st == DT_OK) st = dt_http_server_create(&o, &s);
    if (st == DT_OK) st = serve(args, s, &signals);
    dt_http_server_destroy(s);
    dt_serve_engine_destroy(e);
    if (be) be->destroy(be);
    return st;
}
