/* What the files of this room share. One lock, the engine's, guards all that changes but what a running batch owns. */
#ifndef DT_SERVE_PRIVATE_H
#define DT_SERVE_PRIVATE_H

#include <pthread.h>

#include "latency.h"
#include "turns.h"
#include "onnx/run.h"
#include "serve/engine.h"

enum { DT_SERVE_ERROR_MAX = 1024, DT_SERVE_PROGRAMS_MAX = 16 };

typedef enum dt_serve_state { DT_SERVE_WAITING = 0, DT_SERVE_RUNNING, DT_SERVE_ANSWERED } dt_serve_state;

struct dt_serve_request {
    dt_serve_model *model; /* held */
    dt_serve_request *next;
    int32_t refs;
    dt_serve_state state;
    dt_serve_submit_options how;
    dt_host_tensor *in, *out; /* [n_in] the caller's data, or what was made of them; [n_out] own data */
    void **made;              /* [n_in] own data of inputs, NULL where there are none; NULL: there are none */
    int64_t rows;
    int64_t submitted_ns, deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    dt_serve_times times;
    dt_status status;
    char error[DT_SERVE_ERROR_MAX];
    pthread_cond_t answered;
};

typedef struct dt_serve_texts dt_serve_texts;

typedef struct dt_serve_counts {
    dt_serve_stats sums; /* without latency */
    dt_latencies latency;
} dt_serve_counts;

/* A program for given shapes. */
typedef struct dt_serve_program {
    dt_host_tensor *in; /* [n_in] types and shapes */
    dt_onnx_run *run;
    int64_t used; /* when, by the model's count */
    int64_t bytes;
} dt_serve_program;

typedef struct dt_serve_images {
    float mean[4], stddev[4];
    bool planar; /* the network's channels come before height and width */
} dt_serve_images;

struct dt_serve_model {
    dt_serve_engine *engine;
    dt_serve_model *next;
    int32_t refs;
    dt_serve_model_options options;
    dt_serve_model_info info;
    char *name, *path;
    dt_onnx_model *m;
    dt_dtype compute;
    dt_serve_request *first[DT_SERVE_PRIORITIES], *last[DT_SERVE_PRIORITIES];
    int64_t n_waiting, rows_waiting;
    bool busy; /* a worker has a batch of it, and with that what follows */
    dt_serve_program program[DT_SERVE_PROGRAMS_MAX]; /* the first has the weights, and stays */
    int32_t n_program;
    int64_t n_used;
    dt_host_tensor *staged; /* [n_in] rows of a batch, side by side */
    int64_t *staged_bytes;  /* [n_in] room there */
    dt_host_tensor *result; /* [n_out] of a run */
    dt_serve_counts counts;
    dt_serve_texts *texts;     /* NULL: it makes none */
    const dt_serve_io *net_in; /* the network's inputs, where info.in says what requests have */
    dt_serve_images image;
    int32_t softmax; /* output; -1: none */
    char **label;    /* [n_label] */
    int64_t n_label;
};

struct dt_serve_engine {
    dt_serve_engine_options options;
    pthread_mutex_t lock;
    dt_turns device; /* held while a program is compiled or runs */
    pthread_cond_t work, idle;
    pthread_t *worker;
    int32_t n_worker;
    int32_t refs; /* the caller's, and one for each model */
    bool draining, stop;
    dt_serve_model *models;
    int64_t n_waiting, n_running, model_bytes;
    dt_serve_counts counts;
};

int64_t dt_serve_now_ns(void);

/* Whether these are such inputs. */
dt_status dt_serve_check(const dt_serve_model *m, const dt_serve_io *io, const dt_host_tensor *in);

/* hooks.c: what the options ask for around the network; what a request's inputs become, checked; and its results. */
dt_status dt_serve_hooks_open(dt_serve_model *m);
void dt_serve_hooks_close(dt_serve_model *m);
dt_status dt_serve_hooks_before(const dt_serve_model *m, dt_serve_request *r);
dt_status dt_serve_hooks_after(const dt_serve_model *m, dt_serve_request *r);

/* program.c: whether inputs of two calls have the same types and, from dimension `from` on, shapes. */
bool dt_serve_same_inputs(const dt_serve_model *m, const dt_host_tensor *a, const dt_host_tensor *b,
                          int32_t from);
/* The model's programs; only by who has made it busy. */
dt_status dt_serve_program_get(dt_serve_model *m, const dt_host_tensor *in, dt_serve_program **out);
void dt_serve_programs_free(dt_serve_model *m);
/* Fills in what the info says of batches and of the level, and compiles what is to be warm. */
dt_status dt_serve_model_probe(dt_serve_model *m);
/* Numbers for the network's inputs, of rows where batched, all other sizes being known; dt_serve_drop_inputs frees them. */
bool dt_serve_all_known(const dt_serve_model *m);
dt_status dt_serve_draw(const dt_serve_model *m, int64_t rows, dt_host_tensor **out);
void dt_serve_drop_inputs(const dt_serve_model *m, dt_host_tensor *in); /* accepts NULL */
/* Largest difference in parts of the largest number of b; infinite where only one of two is finite. */
double dt_serve_difference(const double *a, const double *b, int64_t n);
/* Rows that a run of so many has. */
int64_t dt_serve_bucket(const dt_serve_model *m, int64_t rows);

/* batch.c: runs these requests, which have the same shapes but for rows, and sets their status, results and times. */
void dt_serve_batch_run(dt_serve_model *m, dt_serve_request *const *r, int32_t n);

/* texts.c: where the file has a network that makes texts; m->texts NULL: it has none. */
dt_status dt_serve_texts_open(dt_serve_model *m);
void dt_serve_texts_close(dt_serve_model *m);
/* With the lock held. Whether there is something to do for a worker, and since when. */
bool dt_serve_texts_due(const dt_serve_model *m, int64_t *since_ns);
int64_t dt_serve_texts_waiting(const dt_serve_model *m);
/* With the lock held, which it gives up for most of its time: a token for all. */
void dt_serve_texts_turn(dt_serve_model *m);
/* With the lock held: the running ones end with their next turn. True: one that waited was ended, without the lock, and there may be
 * more. */
bool dt_serve_texts_stop(dt_serve_model *m);

/* program.c: takes so many bytes of the cap, or gives them back; false where it forbids it. */
bool dt_serve_account(dt_serve_engine *e, int64_t bytes);

/* engine.c, with the lock held: whether one more may wait beside n of the model. A refusal is counted. */
dt_status dt_serve_may_wait(dt_serve_model *m, int64_t n);
/* With the lock held: one that ran does so no more. */
void dt_serve_one_less(dt_serve_engine *e);
/* Without the lock. */
void dt_serve_count_answer(dt_serve_model *m, const dt_serve_request *r, int64_t ns);

/* A request of these inputs that nobody has accepted yet, checked; and its end. */
dt_status dt_serve_request_make(dt_serve_model *m, const dt_host_tensor *in, dt_serve_request **out);
void dt_serve_request_unmake(dt_serve_request *r);

/* With the lock held. */
void dt_serve_model_unref(dt_serve_model *m);
void dt_serve_engine_unref(dt_serve_engine *e); /* unlocks it */

#endif
