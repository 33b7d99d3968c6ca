/* The models of a server by name and version. One that is loaded anew is built beside the old one, which ends with its
 * last request. */
#ifndef DT_HTTP_MODELS_H
#define DT_HTTP_MODELS_H

#include <pthread.h>
#include <stdatomic.h>

#include "http/server.h"

/* Upper bounds in microseconds of the histogram of answers' times. */
enum { DT_HTTP_BUCKETS = 14 };
extern const int64_t dt_http_bucket_us[DT_HTTP_BUCKETS];

typedef struct dt_http_version {
    int64_t number;
    char *path;
    dt_serve_model *model;
} dt_http_version;

/* An entry stays until the server ends. */
typedef struct dt_http_entry {
    char *name, *path; /* path NULL: in the repository */
    char *words; /* what else was asked for (model_text.h); NULL: a repository's file says, if there is one */
    int32_t n_version; /* loaded, the newest last */
    dt_http_version *version;
    char *reason; /* why there is none; NULL: it was not asked for */
    _Atomic int64_t answered, answered_ns, bucket[DT_HTTP_BUCKETS]; /* with 200, from the first byte on */
} dt_http_entry;

typedef struct dt_http_models {
    pthread_mutex_t lock;    /* of what is below */
    pthread_mutex_t loading; /* held while one is loaded; before lock */
    const dt_http_options *o;
    int32_t n;
    dt_http_entry **entry;
} dt_http_models;

dt_status dt_http_models_init(dt_http_models *m, const dt_http_options *o);
void dt_http_models_fini(dt_http_models *m);
/* path: NULL: in the repository; else a path, and words behind it (model_text.h). */
dt_status dt_http_models_add(dt_http_models *m, const char *name, const char *path);
/* Adds what the repository has of new names. */
dt_status dt_http_models_scan(dt_http_models *m);
/* DT_ERR_USAGE: no such model. */
dt_status dt_http_models_load(dt_http_models *m, const char *name);
dt_status dt_http_models_unload(dt_http_models *m, const char *name);
/* version 0: the newest. A reference is the caller's. DT_ERR_USAGE: no such model or version; DT_ERR_BUSY: not loaded. */
dt_status dt_http_models_hold(dt_http_models *m, const char *name, int64_t version, dt_http_entry **entry,
                              dt_serve_model **out);

/* A line for each loaded version, and one for each model without. */
typedef struct dt_http_listed {
    dt_http_entry *entry;
    int64_t version;
    dt_serve_model *model; /* held; NULL: none loaded */
    char *reason;
} dt_http_listed;
dt_status dt_http_models_list(dt_http_models *m, dt_http_listed **out, int32_t *n);
void dt_http_listed_free(dt_http_listed *l, int32_t n);

#endif
