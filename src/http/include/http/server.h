/* Serves the models of an engine over HTTP: KServe's protocol V2 (the Open Inference Protocol) with the extension for
 * binary tensors, statistics, metrics for Prometheus, a repository of models, and a page for people. */
#ifndef DT_HTTP_SERVER_H
#define DT_HTTP_SERVER_H

#include "serve/engine.h"

typedef struct dt_http_server dt_http_server;

typedef struct dt_http_options {
    dt_serve_engine *engine;      /* borrowed */
    const char *host;             /* a name or an address; NULL: 127.0.0.1 */
    int32_t port;                 /* 0: any that is free */
    int32_t threads;              /* that read and write; 0: 2 */
    int32_t connections;          /* at once; 0: 1024 */
    int64_t body_bytes;           /* of a request, unpacked; 0: 64 MiB */
    int64_t bodies_bytes;         /* of all requests at once; 0: 1 GiB */
    int32_t idle_s;               /* a connection without a sign of life; 0: 30 */
    int32_t receive_s;            /* for one request to come in; 0: 60 */
    bool control;                 /* clients may load and unload */
    const char *repository;       /* DIR/MODEL/VERSION/file; NULL: none */
    bool all_versions;            /* of the repository; else the newest of each model */
    dt_serve_model_options model; /* of all models; name and version are set here */
    /* What happens, a line each, from any thread. */
    void (*say)(void *arg, const char *line);
    void *arg;
} dt_http_options;

/* Listens and answers from here on, not ready before its models are loaded. DT_ERR_CONFIG: host or port. */
dt_status dt_http_server_create(const dt_http_options *o, dt_http_server **out);
/* "http://127.0.0.1:8000"; the server's. */
const char *dt_http_server_url(const dt_http_server *s);
/* A model of a file or directory, as version 1. DT_ERR_CONFIG: a name twice, or none that a path may have. */
dt_status dt_http_server_add(dt_http_server *s, const char *name, const char *path);
/* Loads all that was added or is in the repository, and is ready then. Of several failures the first. */
dt_status dt_http_server_load(dt_http_server *s);
/* Builds all anew beside what serves; what fails stays as it was, and is told. */
void dt_http_server_reload(dt_http_server *s);
/* Not ready from here on; accepts requests for grace_ms more, then refuses, and waits exit_ms (-1: any time) for those that
 * were accepted. */
void dt_http_server_drain(dt_http_server *s, int64_t grace_ms, int64_t exit_ms);
/* Accepts NULL. */
void dt_http_server_destroy(dt_http_server *s);

#endif
