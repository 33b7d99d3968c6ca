/* The progress line: rewritten in place on a terminal, a plain line every log_every steps elsewhere. */
#ifndef DT_TRAIN_METRICS_CONSOLE_H
#define DT_TRAIN_METRICS_CONSOLE_H

#include <stdio.h>

#include "train/metrics.h"

typedef struct dt_console {
    FILE *out;
    const char *samples; /* what they are: "images" */
    bool live;
    bool line_shown; /* live: the cursor stands at the end of the progress line */
    int64_t total_steps, log_every, first_step;
    double started_at, shown_at; /* dt_time_s() */
    /* Sums over steps, which restart at every shown line. */
    double loss_sum, metric_sum, time_s, n_sample, data_wait_s;
    int64_t n_finite; /* steps with a finite loss */
    int64_t n_unseen; /* notes left out since the last one shown */
    dt_train_record last;
    const dt_metric_row *metric; /* shown beside the loss; NULL: the task has none */
} dt_console;

void dt_console_init(dt_console *c, const dt_metrics_options *o);
/* Counts the step in and shows a line where one is due: live at most ten times a second. Nothing here waits
 * for a reader: what `out` does not take at once is left out. */
void dt_console_step(dt_console *c, const dt_train_record *r);
/* A line of its own above the progress line. */
void dt_console_note(dt_console *c, const char *text);
/* Leaves the last progress line standing. */
void dt_console_end(dt_console *c);

/* The progress text for `columns` characters at most; parts that do not fit are left out, the least important
 * first. Always terminated; `size` > columns. */
void dt_console_format(const dt_console *c, int columns, char *out, size_t size);

#endif
