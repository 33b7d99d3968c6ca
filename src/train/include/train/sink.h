/* What a run tells: all of it goes to one function of the caller's, and nothing is printed here. Without one it
 * is silent. */
#ifndef DT_TRAIN_SINK_H
#define DT_TRAIN_SINK_H

#include "core/status.h"

struct dt_metrics_options;
struct dt_train_record;
struct dt_eval_record;

typedef enum dt_news_kind {
    DT_NEWS_LINE = 0,   /* text: what is being done and with what, and results */
    DT_NEWS_NOTE,       /* text: the same while steps follow each other */
    DT_NEWS_WARNING,    /* text: what may not be as it was meant, or went wrong and is survived */
    DT_NEWS_START,      /* run: steps follow */
    DT_NEWS_STEP,       /* step: one is done */
    DT_NEWS_EVALUATION, /* eval, and the same as text */
    DT_NEWS_END,        /* no step follows; perhaps lines and notes */
} dt_news_kind;

typedef struct dt_news {
    dt_news_kind kind;
    const char *text; /* without the end of the line; NULL where the kind has none */
    /* As the kind says; else NULL. Theirs are valid during the call. */
    const struct dt_metrics_options *run;
    const struct dt_train_record *step;
    const struct dt_eval_record *eval;
} dt_news;

typedef struct dt_sink {
    /* Called on rank 0; with warnings also from the thread that writes checkpoints. */
    void (*tell)(void *arg, const dt_news *news);
    void *arg;
} dt_sink;

/* Hands the news on; sink, and its function, may be NULL. */
void dt_sink_tell(const dt_sink *sink, const dt_news *news);
/* News that are text alone. */
void dt_tell(const dt_sink *sink, dt_news_kind kind, const char *fmt, ...) DT_PRINTF(3, 4);
/* The text as a warning; arg: the sink, a const dt_sink *. For those who want such a function. */
void dt_tell_warning(void *arg, const char *text);

#endif
