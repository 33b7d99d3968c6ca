/* The trainer: runs a configuration from its first or resumed step to the end. */
#ifndef DT_TRAIN_TRAINER_H
#define DT_TRAIN_TRAINER_H

#include "train/config.h"
#include "dist/comm.h"
#include "train/sink.h"

/* Trains. All ranks call it and return the same status: DT_OK, DT_STOPPED after a signal (state saved), or
 * an error whose text is on every rank. `start_s`: dt_time_s at process start, for the time to the first
 * step. sink (may be NULL) hears what there is to tell. */
dt_status dt_trainer_run(const dt_config *c, dt_comm *mpi, double start_s, const dt_sink *sink);

/* Evaluates a checkpoint (run.resume, or the newest of run.out_dir) on the validation data and tells the
 * result. `report`: a directory for what train/report.h says, NULL: none. */
dt_status dt_trainer_eval(const dt_config *c, dt_comm *mpi, const char *report, const dt_sink *sink);

#endif
