/* Where the news of a run go: lines and notes to standard output, warnings to standard error, and the progress line:
 * rewritten in place on a terminal, a plain line every log_every steps elsewhere. */
#ifndef DT_APP_CONSOLE_H
#define DT_APP_CONSOLE_H

#include <stdio.h>

#include "train/metrics.h"

typedef struct dt_console {
    FILE *out, *err;     /* not owned */
    const char *samples; /* what they are: "images" */
    bool live;           /* `out` is a terminal: one line rewritten */
    bool flush;          /* lines are written out at once */
    bool line_shown;     /* live: the cursor stands at the end of the progress line */
    int64_t total_steps, log_every, first_step;
    double started_at, shown_at; /* dt_time_s() */
    /* Sums over steps, which restart at every shown line. */
    double loss_sum, metric_sum, time_s, n_sample, data_wait_s;
    int64_t n_finite; /* steps with a finite loss */
    int64_t n_unseen; /* notes left out since the last one shown */
    dt_train_record last;
    const dt_metric_row *metric; /* shown beside the loss; NULL: the task has none */
} dt_console;

/* Lines to `out`, warnings to `err`; no progress line before a run starts. */
dt_console dt_console_of(FILE *out, FILE *err);
/* Prints to the console, which must stay where it is. Nothing about steps waits for a reader: what `out` does not
 * take at once is left out. */
dt_sink dt_console_sink(dt_console *c);
/* Whether standard output ends at a terminal, looking through mpirun. */
bool dt_console_is_watched(void);

/* The progress text for `columns` characters at most; parts that do not fit are left out, the least important
 * first. Always terminated; `size` > columns. */
void dt_console_format(const dt_console *c, int columns, char *out, size_t size);

#endif
