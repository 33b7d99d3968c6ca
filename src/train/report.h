/* An evaluation class by class: which are taken for which, and the mistakes that the network is surest of.
 * `dtrain eval --report`. */
#ifndef DT_TRAIN_REPORT_H
#define DT_TRAIN_REPORT_H

#include "train/session.h"

/* Of one sample. */
typedef struct dt_verdict {
    int32_t label, predicted; /* -1: the sample was not seen */
    float probability;        /* of `predicted` */
} dt_verdict;

typedef struct dt_report {
    int64_t n_sample, n_class;
    dt_verdict *verdict; /* [n_sample]; this rank's alone until dt_report_gather */
} dt_report;

/* Rank 0, before the work: creates `dir` and checks that files may be written there. */
dt_status dt_report_place(const char *dir);
/* Watches the session's evaluations from here on; a sample's last verdict counts. Freed by dt_report_free in
 * any case. */
dt_status dt_report_begin(dt_session *s, dt_report *r);
/* Brings all verdicts to every rank. Collective. */
dt_status dt_report_gather(dt_session *s, dt_report *r);
/* Rank 0: writes into `dir`:
 *   classes.csv    a line per class: samples, right ones, accuracy, how often it was predicted
 *   confusion.csv  a line per pair (label, predicted) that occurs, with its number: the matrix without its
 * zeros confusion.svg  the matrix, where there are many classes of those with most mistakes mistakes.csv
 * wrong answers by falling probability, at most DT_MISTAKES_MAX: sample, shard, row, classes `name(of,
 * class)`: "" where a class has none. */
enum { DT_MISTAKES_MAX = 1000 };
dt_status dt_report_write(const dt_report *r, const dt_dataset *d,
                          const char *(*name)(const void *of, int64_t i), const void *of, const char *dir);
void dt_report_free(dt_report *r);

/* confusion.svg; `count` [n_shown, n_shown] by label and prediction, `class` [n_shown] of n_class.
 * report_plot.c */
void dt_report_draw(FILE *out, int64_t n_shown, const int64_t *class, const int64_t *count, int64_t n_class,
                    const char *(*name)(const void *of, int64_t i), const void *of);

#endif
