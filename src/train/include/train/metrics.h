/* What a run records: metrics.jsonl, TensorBoard events, plot; and what it tells of it to the sink. Used by rank 0
 * only.
 *
 * Nothing here may stop a training run: after dt_metrics_open, a failing disk is noted once
 * and tried again later. Records are kept in memory and written about once a second. */
#ifndef DT_TRAIN_METRICS_H
#define DT_TRAIN_METRICS_H

#include <stdio.h>

#include "core/status.h"
#include "core/types.h"
#include "train/scores.h"
#include "train/sink.h"
#include "train/weights.h"

typedef struct dt_metrics dt_metrics;

typedef struct dt_metrics_options {
    const char *out_dir; /* holds metrics.jsonl, events.out.tfevents.*, curves.svg */
    bool tensorboard;
    int64_t resume_step; /* steps already done. Records of later steps, and damaged lines, are cut from an
                            existing metrics.jsonl, so each step stands once; 0: starts a new file */
    bool set_aside;      /* an existing metrics.jsonl is of another run: renamed, as for resume_step 0 */
    bool evaluate_again; /* an evaluation of resume_step counts as missing */
    int64_t total_steps;
    bool images;         /* what samples are called */
    const dt_sink *sink; /* borrowed; NULL: nobody */
    dt_scoreboard board;
} dt_metrics_options;

typedef struct dt_train_record {
    int64_t step; /* 1-based number of the step just done */
    double epoch; /* fractional */
    dt_scores score;
    double lr, samples_per_s, grad_norm;
    double data_wait; /* fraction of the time spent waiting for data */
    double step_ms;
    bool skipped;
} dt_train_record;

typedef struct dt_eval_record {
    int64_t step;
    double epoch, lr, samples_per_s;
    int64_t n_samples, n_tokens; /* tokens: 0 where the task is of none */
    dt_scores score;
    bool ema;          /* these are of the averaged weights */
    dt_scores current; /* of the current ones, where ema */
} dt_eval_record;

/* A text that the network went on with. */
typedef struct dt_sample_record {
    int64_t step;
    const char *prompt; /* UTF-8, as are the bytes of the text */
    const char *text;
    size_t n_text;
    int64_t n_token;
} dt_sample_record;

/* A start of the run, the first or one that resumes. Strings and arrays are the caller's. */
typedef struct dt_start_record {
    int64_t step; /* steps already done */
    int64_t total_steps;
    const char *job; /* the scheduler's name for the job; "": none */
    int64_t restart; /* how often that job was started before */
    int32_t n_ranks, n_host;
    const char *const *host; /* [n_host], each once, in the order of their ranks */
    const char *version, *commit;
} dt_start_record;

/* An end that was not forced: all steps are done, or a signal asked to stop and the state was saved. */
typedef struct dt_end_record {
    int64_t step, total_steps;
    const char *job;
    int64_t restart;
    bool done;
} dt_end_record;

enum { DT_LOSS_TEXT = 24 };
/* "2.3026", "not finite"; returns `out`. */
const char *dt_loss_text(double loss, char out[DT_LOSS_TEXT]);

/* "loss 0.3211, top-1 88.10 %, top-5 99.70 %": the first n metrics; of several losses each, where n > 1. */
void dt_scores_text(const dt_scoreboard *b, const dt_scores *s, int32_t n, char *out, size_t size);

/* All strings of `o` are copied. DT_ERR_IO where out_dir cannot be written. */
dt_status dt_metrics_open(const dt_metrics_options *o, dt_metrics **out);
/* Whether the evaluation, or the sample, of resume_step is on file. */
bool dt_metrics_evaluated(const dt_metrics *m);
bool dt_metrics_sampled(const dt_metrics *m);
/* Written out at once: others read from it that the run is under way. */
void dt_metrics_start(dt_metrics *m, const dt_start_record *r);
/* Of a run that begins with weights from elsewhere: which, and which not. */
void dt_metrics_begun(dt_metrics *m, const dt_weights *w);
void dt_metrics_end(dt_metrics *m, const dt_end_record *r);
void dt_metrics_train(dt_metrics *m, const dt_train_record *r);
void dt_metrics_eval(dt_metrics *m, const dt_eval_record *r);
void dt_metrics_sample(dt_metrics *m, const dt_sample_record *r);
/* Tells a line of text (without the newline) while the run is under way: "saved checkpoint ...". */
void dt_metrics_note(dt_metrics *m, const char *fmt, ...) DT_PRINTF(2, 3);
/* Makes all records durable (fsync of metrics.jsonl); called before a checkpoint is published. */
void dt_metrics_flush(dt_metrics *m);
/* Which files a run leaves whole. */
typedef struct dt_metrics_files {
    bool records, curves;
} dt_metrics_files;

/* Writes curves.svg from metrics.jsonl (loss and the first metric over steps), closes everything; what could not be
 * written is noted. Accepts NULL. */
dt_metrics_files dt_metrics_close(dt_metrics *m);

/* The plot alone: reads a metrics.jsonl, writes an SVG. Lines that are no records are passed over; none at
 * all gives empty axes. DT_ERR_IO where the one cannot be read or the other not be written. */
dt_status dt_plot_curves(const char *metrics_path, const char *svg_path);

#endif
