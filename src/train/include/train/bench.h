/* Measurements of a configured run, for people: `dtrain bench ...` and `dtrain inspect`. Nothing here is a
 * test. The measurements are lines to the sink. */
#ifndef DT_TRAIN_BENCH_H
#define DT_TRAIN_BENCH_H

#include "train/config.h"
#include "dist/comm.h"
#include "train/sink.h"

/* Training steps of the configuration on one batch that stays where it is (no loader): median of windows,
 * samples/s, FLOP/s, memory; one JSON line at the end. */
dt_status dt_bench_step(const dt_config *c, dt_comm *mpi, int64_t steps, const dt_sink *sink);

/* Every kernel of the training program, and the optimizer, alone: time, GB/s against the bytes that must
 * move, FLOP/s. */
dt_status dt_bench_op(const dt_config *c, dt_comm *mpi, int64_t repeats, const dt_sink *sink);

/* All-reduce by size, in the columns of nccl-tests, of the reduction in place: bytes, elements, time,
 * algorithm and bus bandwidth, elements that came out wrong. DT_ERR_USAGE with one rank, or below 1024 bytes;
 * DT_ERR_DEVICE after a wrong element. */
dt_status dt_bench_comm(const dt_config *c, dt_comm *mpi, int64_t max_bytes, const dt_sink *sink);

/* The model layer by layer, memory plan, buckets, largest batch; runs and allocates nothing. Sizes that the
 * configuration gives need no data (data.image_size and model.classes, of text data.context; else the training
 * set must be there); where this device lacks train.precision the plan is that of fp32. passes: also what
 * each pass of the compilation did (core/compile.h). Collective. */
dt_status dt_inspect(const dt_config *c, dt_comm *mpi, bool passes, FILE *out, const dt_sink *sink);
/* The configuration that inspects a built-in network by its name, without data: `input` pixels or steps, `outputs`
 * classes (0: as published), then `override` as for dt_config_load. *out is to be ended by dt_config_fini in any case.
 * Errors: DT_ERR_CONFIG, DT_ERR_USAGE. */
dt_status dt_inspect_config(const char *name, int64_t input, int64_t outputs, int n_override,
                            const char *const *override, dt_config *out);

#endif
