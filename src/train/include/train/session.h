/* A session: everything a run needs opened in the right order, each stage agreed by all ranks, so that a
 * failure on one rank ends all of them with that rank's message. */
#ifndef DT_TRAIN_SESSION_H
#define DT_TRAIN_SESSION_H

#include "train/config.h"
#include "data/facts.h"
#include "data/loader.h"
#include "dist/comm.h"
#include "dist/watchdog.h"
#include "train/engine.h"
#include "train/scores.h"
#include "train/sink.h"

typedef struct dt_session dt_session;

/* Sees every batch of an evaluation right after it has run; `batch` counts this rank's own from 0. */
typedef dt_status dt_session_batch_fn(void *arg, dt_session *s, int64_t batch, const dt_batch *b);

struct dt_session {
    const dt_config *config; /* borrowed */
    dt_scoreboard board;
    dt_comm *mpi;        /* borrowed */
    const dt_sink *sink; /* borrowed; hears notes about the data. NULL: nobody */
    dt_backend *be;
    dt_comm *comm;                          /* gradients: NCCL, or mpi itself */
    dt_dataset *train_data, *val_data;      /* NULL where not opened or not configured */
    uint64_t classes_xxh3, statistics_xxh3; /* as in dt_ckpt_meta; 0 where those of training are not known */
    dt_dataset_info info;                   /* of what the engine's network is made for */
    dt_engine *engine;
    dt_data_options stage_data; /* of the stage that is on: what its loader reads */
    dt_augment_options stage_augment;
    dt_watchdog *watchdog;
    bool any_gpu;                  /* some rank computes on a GPU */
    bool mixed;                    /* and some rank does not */
    bool told_bare;                /* that some labels are of no sample */
    bool inputs;                   /* val_data is dt_inputs_open's: read in whole batches, forgivingly */
    dt_session_batch_fn *on_batch; /* NULL: nobody looks */
    void *on_batch_arg;
};

/* Opens device, communicator, data and engine. `train` false: validation data and evaluation only. */
dt_status dt_session_open(const dt_config *c, dt_comm *mpi, bool train, const dt_sink *sink, dt_session *out);
/* For the weights of a checkpoint, evaluation only. `facts` of the data they were trained on, NULL: those of
 * data.train, as far as it can be opened. `inputs` (data/inputs.h; taken over in any case): what they are
 * applied to, NULL: data.val. */
dt_status dt_session_open_trained(const dt_config *c, dt_comm *mpi, const dt_data_facts *facts,
                                  dt_dataset *inputs, const dt_sink *sink, dt_session *out);
/* `st`: how the run went. A rank that failed alone speaks and ends the job here (dt_comm_fail). */
void dt_session_close(dt_session *s, dt_status st);

/* The field that the network is trained to tell, NULL where there is none. */
const dt_field *dt_session_target(const dt_config *c, int32_t n_field, const dt_field *field);
/* Opens the data of the configuration that can be had into `s`, train_data too where `train`, and checks that
 * they fit each other and the configuration. */
dt_status dt_session_open_data(const dt_config *c, bool train, dt_session *s);

/* Backend by run.device: the GPU where one is usable, else the CPU; an explicit choice that cannot be had is
 * an error. */
dt_status dt_session_backend(const dt_config *c, const dt_comm *mpi, dt_backend **out);

/* What reduces gradients, by dist.backend: NCCL where every rank has a GPU of its own, else `mpi` itself.
 * Collective; all ranks return the same. *out is `mpi` on failure; the caller destroys any other. */
dt_status dt_session_comm(const dt_config *c, dt_comm *mpi, dt_backend *be, dt_comm **out);
/* Starts what ends the job when a peer of `comm` is lost or nothing moves for dist.timeout_s. Collective. */
dt_status dt_session_watch(const dt_config *c, dt_comm *mpi, dt_comm *comm, dt_watchdog **out);

/* Verifies by hash that all ranks hold the same weights. Where CPUs and GPUs train together, whose updates
 * round differently, all take rank 0's instead. Collective, between steps. */
dt_status dt_session_same_parameters(dt_session *s);

/* Training goes on in another stage (train/stages.h): its loaders and the engine. No loader may be open. */
void dt_session_set_stage(dt_session *s, int32_t stage);

/* Loader over the session's data. train: from `first_step`; eval: once through the validation set. */
dt_status dt_session_loader(dt_session *s, bool eval, int64_t first_step, int64_t n_steps, dt_loader **out);

/* Evaluates the validation set; every sample counts once whatever the world size. */
typedef struct dt_eval_result {
    dt_scores score;             /* of those that have a target */
    int64_t n_samples, n_tokens; /* such, or all and such tokens where the task is of tokens; 0 tokens else */
    double seconds;
    bool interrupted; /* a signal came: the figures are not complete */
} dt_eval_result;
/* step: of the weights, for the watchdog's message. */
dt_status dt_session_evaluate(dt_session *s, int64_t step, bool ema, dt_eval_result *out);

/* Steps of the whole run, rounded up, and of an epoch. */
int64_t dt_session_total_steps(const dt_session *s);
double dt_session_steps_per_epoch(const dt_session *s);

#endif
