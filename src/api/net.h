/* A network: the graph while it is built, the engine once it is compiled. */
#ifndef DT_API_NET_H
#define DT_API_NET_H

#include "api.h"
#include "model/task.h"
#include "train/engine.h"
#include "train/ranking.h"

/* What dt_net_set holds of an input until it is fed. */
typedef struct dt_net_input {
    dt_field field;
    void *data;   /* [batch] rows, memory of net->be */
    int64_t rows; /* set; 0: none yet */
    bool mixes;   /* says what becomes of rows in training; evaluation does not read it */
} dt_net_input;

typedef enum dt_net_phase {
    DT_NET_IDLE = 0,
    DT_NET_FORWARD, /* a training step was begun: outputs are there, */
    DT_NET_BACKWARD /* and gradients */
} dt_net_phase;

typedef enum dt_metrics_of { DT_METRICS_NONE = 0, DT_METRICS_STEP, DT_METRICS_EVALUATION } dt_metrics_of;

struct dt_net {
    dt_handle head;
    int32_t refs; /* one of the caller, one of each view */
    dt_run *run;  /* held */
    dt_net_options options;
    dt_config config; /* of the engine */
    dt_builder b;     /* b.g: as written, in training, for `batch` rows; b.status: the first mistake */
    char text[1024];  /* of it */
    dt_backend *be;
    dt_comm *comm;
    int32_t number;    /* among the compiled ones of its run, from 1; 0: not compiled */
    dt_engine *engine; /* NULL until compiled */
    int32_t n_input;
    dt_net_input input[DT_FIELDS_MAX];
    dt_net_phase phase;
    dt_mode mode; /* of the last forward pass */
    bool evaluating;
    bool passed;                                /* there was a forward pass */
    int64_t step;                               /* done */
    const dt_task_row *task;                    /* of the first loss; NULL: there is none yet */
    char loss_name[DT_LOSSES_MAX][DT_NAME_MAX]; /* "loss_<name>" */
    struct {
        char kind[DT_FIELD_NAME_MAX];
        double weight, delta, positives, smoothing;
    } loss[DT_LOSSES_MAX]; /* as they were asked for */
    char *report;          /* text of inspect and profile */
    uint64_t serial;       /* tells it from a network that was freed */
    int64_t n_fed;         /* batches that the engine was fed */
    double lr;
    double metric[DT_METRIC_COUNT];
    dt_metrics_of metrics_of;
    dt_ranking ranking;       /* of the evaluation under way */
    double average_precision; /* of the last one */
};

/* Of a call on a network that is not compiled: the first mistake in building it, if there is one. */
dt_status dt_net_check(const dt_net *net, const char *function);
#define DT_CHECK_BUILT(net) DT_TRY(dt_net_check(net, __func__))

/* Keeps the builder's failure, if it has one. Returns its status. */
dt_status dt_net_note(dt_net *net);
/* Notes a mistake; returns DT_NO_VAR. */
dt_var dt_net_refuse(dt_net *net, dt_status st);

/* Ends a step that was begun, without its update, and reads the results of all. */
dt_status dt_net_settle(dt_net *net);
/* The beginning of a collective call (dt_run_meet): ranks must agree in the network, its step and rate, and in `more`,
 * lines of at most DT_MEET_TEXT_MAX bytes. */
dt_status dt_net_meet(dt_net *net, dt_status mine, const char *function, const char *more);
enum { DT_MEET_TEXT_MAX = 2048 };
/* The same of one that is built and not yet compiled: in all that it is. */
dt_status dt_net_meet_built(dt_net *net, dt_status mine);
/* What a checkpoint of the network says of it: TOML comments; owned by the caller, also where it fails. */
dt_status dt_net_describe(const dt_net *net, char **text);
/* Whether the checkpoint is of such a network, as far as it says. */
dt_status dt_net_check_same(const dt_net *net, const dt_ckpt *c);
/* Within one: DT_OK where all ranks bring that. */
dt_status dt_net_all(dt_net *net, dt_status mine);
/* dt_net_step that fails on all ranks with `mine` where that is not DT_OK. */
dt_status dt_net_step_after(dt_net *net, dt_status mine);
float dt_net_loss_scale(const dt_net *net);

/* Whether what was set can be: labels are classes, numbers of rows are rows, targets of bce are from 0 to 1. DT_ERR_DATA. */
dt_status dt_net_check_rows(dt_net *net);

int32_t dt_net_world(const dt_net *net);
dt_net_input *dt_net_find_input(dt_net *net, const char *name);
/* Takes `rows` rows of the input's type; a row's memory beyond them is cleared. */
dt_status dt_net_fill(dt_net *net, dt_net_input *in, int64_t rows, const void *data);

/* The network's graph anew, for another number of rows, or without what only training has. */
dt_status dt_net_instance(const dt_graph *from, int64_t rows, bool training, dt_graph **out);

#endif
