/* What the files of the server share: the server, an exchange (a request and its answer), and the routes. */
#ifndef DT_HTTP_PRIVATE_H
#define DT_HTTP_PRIVATE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/server.h"
#include "generate_form.h"
#include "infer_form.h"
#include "models.h"
#include "watch.h"

typedef enum dt_http_phase {
    DT_HTTP_LOADING, /* not ready yet */
    DT_HTTP_SERVING,
    DT_HTTP_LEAVING, /* not ready any more, still accepts */
    DT_HTTP_REFUSING
} dt_http_phase;

struct dt_http_server {
    dt_http_options o;
    dt_http_models models;
    struct MHD_Daemon *daemon;
    dt_http_watch *watch;
    char url[128];
    int listen_fd; /* -1: none */
    double start_s;
    _Atomic int phase;
    _Atomic int64_t exchanges, suspended, bodies_bytes; /* now */
    _Atomic int64_t requests, refused;                  /* of HTTP, since the start */
};

typedef enum dt_http_stage {
    DT_HTTP_READING,
    DT_HTTP_INFERRING,
    DT_HTTP_WORKING,
    DT_HTTP_TELLING,
    DT_HTTP_ANSWERED
} dt_http_stage;

typedef struct dt_http_answer {
    int code;
    const char *type;
    dt_http_text text;
    const char *allow; /* of 405 */
} dt_http_answer;

/* Held by its connection, and by who else looks at it. */
typedef struct dt_http_exchange {
    dt_http_server *server;
    struct MHD_Connection *connection;
    _Atomic int refs;
    dt_http_stage stage;
    double start_s;
    /* The body as it comes: `pad` bytes in front put what follows the JSON where tensors may stand. */
    char *body;
    size_t body_n, body_room, pad;
    int64_t json_bytes; /* -1: all */
    bool packed;        /* gzip or deflate */
    int bad;            /* 413, 415, ...: how it will be answered; 0 */
    const char *bad_text;
    /* An inference. */
    dt_serve_model *model;
    dt_http_entry *entry;
    dt_infer_form form;
    dt_serve_request *request;
    struct dt_http_telling *telling; /* of a text; NULL */
    _Atomic uint64_t watched;
    _Atomic bool done;
    /* What came of it, or of a load: */
    dt_status status;
    char *error;
    char name[256];
    bool unloads;
} dt_http_exchange;

void dt_http_exchange_hold(dt_http_exchange *x);
void dt_http_exchange_drop(dt_http_exchange *x);

/* Answers with JSON {"error": ...}. */
enum MHD_Result dt_http_refuse(dt_http_exchange *x, int code, const char *format, ...) DT_PRINTF(3, 4);
/* The same of a status and the thread's error text. */
enum MHD_Result dt_http_refuse_status(dt_http_exchange *x, dt_status st);
/* Sends it; the text is taken. */
enum MHD_Result dt_http_send(dt_http_exchange *x, dt_http_answer *a);
enum MHD_Result dt_http_queue(dt_http_exchange *x, int code, struct MHD_Response *r);

/* routes.c: the request is complete. */
enum MHD_Result dt_http_route(dt_http_exchange *x, const char *url, const char *method);
/* infer.c */
enum MHD_Result dt_http_infer(dt_http_exchange *x, const char *name, int64_t version);
enum MHD_Result dt_http_infer_answer(dt_http_exchange *x);
int dt_http_socket_of(dt_http_exchange *x);
void dt_http_count_answer(dt_http_exchange *x);
/* generate.c */
enum MHD_Result dt_http_generate(dt_http_exchange *x, const char *name, int64_t version, bool stream);
enum MHD_Result dt_http_generate_answer(dt_http_exchange *x);
void dt_http_telling_cancel(struct dt_http_telling *t); /* accepts NULL, and what has ended */
void dt_http_telling_free(struct dt_http_telling *t);   /* accepts NULL */
/* describe.c: JSON about the server and its models, and metrics.c: the text for Prometheus. */
void dt_http_describe_server(dt_http_server *s, dt_http_text *t);
void dt_http_describe_model(const dt_serve_model_info *m, const dt_http_listed *all, int32_t n,
                            dt_http_text *t);
void dt_http_describe_config(const dt_serve_model_info *m, dt_http_text *t);
void dt_http_describe_stats(const dt_http_entry *e, const dt_serve_model *m, dt_http_text *t);
void dt_http_describe_index(const dt_http_listed *l, int32_t n, dt_http_text *t);
dt_status dt_http_metrics(dt_http_server *s, dt_http_text *t);

/* unpack.c: *out has *n bytes and a 0 behind them, `pad` bytes free in front. DT_ERR_DATA: damaged; DT_ERR_BUSY: more than limit. */
dt_status dt_http_unpack(const char *in, size_t n_in, size_t pad, size_t limit, char **out, size_t *n);

#endif
