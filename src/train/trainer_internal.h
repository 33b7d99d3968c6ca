/* The trainer's state, shared by trainer.c (the loop), trainer_save.c (checkpoints, resuming) and
 * trainer_report.c. */
#ifndef DT_TRAIN_TRAINER_INTERNAL_H
#define DT_TRAIN_TRAINER_INTERNAL_H

#include "speaker.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/session.h"
#include "train/trainer.h"
#include "train/weights.h"

typedef struct dt_trainer {
    const dt_config *config;
    dt_comm *mpi;
    const dt_sink *sink; /* borrowed */
    dt_session session;
    bool root;              /* rank 0: writes everything */
    int lock_fd;            /* of the run directory; -1: none */
    dt_metrics *metrics;    /* root */
    dt_ckpt_writer *writer; /* root */
    dt_graph *exported;     /* root: what the writer makes ONNX models of; NULL: it makes none */
    char ckpt_dir[DT_KEY_STRING_MAX + 16];
    char resumed[sizeof((dt_ckpt *)0)->path]; /* the checkpoint that the run started from; "": none */
    bool resumed_here;                        /* it is one of this run directory */
    bool evaluation_kept;                     /* and keeps what evaluation found, if it was evaluated */
    char *config_text;                        /* root: the resolved configuration */
    dt_weights weights;                       /* root: what model.init_from gave */

    int64_t n_samples;                    /* of the training set */
    int64_t n_classes;                    /* that the network tells apart */
    int64_t step, total_steps, stage_end; /* stage_end: the first step that is not of the stage that is on */
    double steps_per_epoch;
    int64_t skipped_in_a_row;
    double loss_scale;
    int64_t good_steps;    /* of the dynamic loss scale */
    int64_t saved_step;    /* of the last save that was begun; -1: none */
    bool save_lost;        /* rank 0: it failed, and that was forgiven */
    bool eval_lost;        /* the last evaluation's loss was not finite */
    dt_ckpt_eval eval;     /* equal on all ranks */
    int64_t resumed_step;  /* of `resumed`, where that is of this run directory; else -1 */
    bool stop, save_asked; /* agreed by all ranks */
    double start_s, last_save_s, last_result_s;
    double data_wait_s; /* since the last result */
    bool first_reported, unlabelled_told;
    dt_speaker speaker;       /* root, where train.sample_every_steps asks for it */
    dt_data_facts facts;      /* of the training set, for its tokenizer */
    dt_metrics_files written; /* root, when all is closed */
} dt_trainer;

/* Epochs done after `step` steps, fractional. */
static inline double dt_trainer_epoch(const dt_trainer *t, int64_t step) {
    return (double)step * (double)t->config->train.global_batch / (double)t->n_samples;
}
/* Whether train.early_stop_patience is at its end. */
static inline bool dt_trainer_stops_early(const dt_trainer *t) {
    const int64_t patience = t->config->train.early_stop_patience;
    return patience > 0 && t->eval.worse >= patience;
}
/* Whether checkpoint.best_metric is the same for every evaluation. */
static inline bool dt_trainer_metric_is_blind(const dt_trainer *t) {
    return t->config->checkpoint.best_metric == DT_BEST_EVAL_TOP5 && t->n_classes <= 5;
}
/* Whether no step is to follow, for one reason or the other. */
static inline bool dt_trainer_is_done(const dt_trainer *t) {
    return t->step >= t->total_steps || dt_trainer_stops_early(t);
}
/* Whether an evaluation follows step number `step` (steps done). */
bool dt_trainer_eval_due(const dt_trainer *t, int64_t step);
/* The checkpoints that run.out_dir is to keep. */
dt_ckpt_policy dt_trainer_policy(const dt_trainer *t);
/* Learning rate of a step, counted from 0. */
static inline double dt_trainer_lr(const dt_trainer *t, int64_t step) {
    return dt_schedule_lr(&t->config->schedule, t->config->optim.lr, step, t->total_steps,
                          t->steps_per_epoch);
}

/* trainer_save.c */
/* Whether images are normalised with another mean and deviation than when `k` was written, as far as both are
 * known. */
bool dt_trainer_renormalised(const dt_ckpt *k, const dt_session *s);
/* DT_ERR_CONFIG: the checkpoint is of a run whose labels mean something else than those of the session's
 * data. */
dt_status dt_trainer_same_classes(const dt_ckpt *k, const dt_session *s);
/* Whether the network's file is the one that the checkpoint was written with. */
dt_status dt_trainer_same_file(const dt_ckpt *k, const dt_config *c);
/* Whether train.ema wants averaged statistics and `k`, with averaged weights, is of a version that had
 * none. */
bool dt_trainer_averages_weights_alone(const dt_config *c, const dt_ckpt *k);
/* What to say then. */
extern const char dt_trainer_weights_alone[];
/* Opens or creates the run directory: lock, resume, metrics, checkpoint writer. */
dt_status dt_trainer_open_run(dt_trainer *t);
/* Starts a save of the state after `step`, unless there is one; `final` waits for it. A failed save that is
 * not the final one is noted and, unless checkpoint.on_error is "stop", forgiven. Collective. */
dt_status dt_trainer_save(dt_trainer *t, bool final);
/* Looks for a background save that has failed. Where the user wants to go on, it is noted; true: he does not,
 * and all ranks should come to dt_trainer_save, which ends the run with the cause. Cheap; not collective. */
bool dt_trainer_save_failed(dt_trainer *t);
/* Loads the checkpoint that run.resume asks for, and warns of those that it passed over. NULL when
 * there is none, which is an error if there must be one. Collective. */
dt_status dt_trainer_load(const dt_config *c, dt_comm *mpi, bool must, const dt_sink *sink, dt_ckpt **out);

/* trainer_begin.c */
/* The weights of a run that continues no checkpoint. Collective. */
dt_status dt_trainer_begin(dt_trainer *t);

/* trainer_sample.c */
/* Whether a sample follows step number `step` (steps done). */
bool dt_trainer_sample_due(const dt_trainer *t, int64_t step);
/* What samples are made with, and whether they can be made at all. Collective. */
dt_status dt_trainer_open_samples(dt_trainer *t);
void dt_trainer_close_samples(dt_trainer *t);
/* Rank 0 tells and records a text, the others wait. Collective, between steps whose results have been taken. */
dt_status dt_trainer_sample(dt_trainer *t);

/* trainer_terminal.c */
/* Whether nohup was put before mpirun, which replaces it by handlers of its own: a closed terminal ends the
 * run. */
bool dt_trainer_nohup_in_vain(void);

/* trainer_report.c */
/* Which job on which hosts this is; before anything can go wrong. */
void dt_trainer_banner(const dt_trainer *t);
/* The same as a record; and how the run ended, when it did so by itself. */
void dt_trainer_record_start(const dt_trainer *t);
void dt_trainer_record_end(const dt_trainer *t, dt_status st);
void dt_trainer_summary(const dt_trainer *t);
/* How the run ended and what there is to look at; after everything is closed. */
void dt_trainer_farewell(const dt_trainer *t, dt_status st);
/* Why the patience is at its end. */
void dt_trainer_report_early_stop(const dt_trainer *t);
void dt_trainer_report_step(dt_trainer *t, const dt_step_result *r);
/* `current`: of the current weights where `r` is of the averaged ones, else NULL. */
void dt_trainer_report_eval(dt_trainer *t, const dt_eval_result *r, const dt_eval_result *current);

#endif
