/* Texts that a served language network goes on with. They are told side by side, a token each at a time; one joins and
 * leaves between two tokens, and is the same text in any company. */
#ifndef DT_SERVE_TEXTS_H
#define DT_SERVE_TEXTS_H

#include "serve/engine.h"
#include "train/generate.h"

typedef struct dt_serve_text dt_serve_text; /* accepted, reference counted */

/* What became of a text since the last news; pointers are valid during the call. */
typedef struct dt_serve_news {
    const char *piece; /* [n_piece] what came: whole characters, nothing of what may begin a stop text */
    int64_t n_piece;
    int32_t token; /* the one that came; -1: none, the text has ended */
    bool ended;    /* there is no more */
    /* Where it ended: */
    dt_status status;   /* as of dt_serve_done */
    const char *error;  /* "" where that is DT_OK */
    const char *reason; /* "length", "stop" */
    int64_t n_prompt, n_token;
} dt_serve_news;
/* After each token, and once, for each accepted text, with `ended`; from the thread of a worker, or, ended alone, of who cancels
 * or drains. */
typedef void dt_serve_told(void *arg, const dt_serve_news *news);

enum { DT_SERVE_STOPS_MAX = 16 };
typedef struct dt_serve_text_options {
    int64_t max_tokens; /* DT_TEXT_ALL: as many as there is room for, at most DT_SERVE_TOKENS */
    dt_draw_options draw;
    bool no_stop;                         /* goes on past the end of a document */
    const char *stop[DT_SERVE_STOPS_MAX]; /* [n_stop] the text ends before the first of these; copied */
    int32_t n_stop;
    dt_serve_told *told;
    void *arg;
} dt_serve_text_options;
enum { DT_SERVE_TOKENS = 200 };

/* DT_ERR_UNSUPPORTED: no language network of dtrain with its tokenizer; DT_ERR_BUSY: the queue is full; DT_ERR_USAGE: an option out of
 * its range; DT_STOPPED: draining. Nothing was accepted then. A prompt that does not fit is told as the text's end. */
dt_status dt_serve_text_submit(dt_serve_model *m, const char *prompt, int64_t n_prompt,
                               const dt_serve_text_options *o, dt_serve_text **out);
/* It ends before its next token with DT_STOPPED, unless it has ended. */
void dt_serve_text_cancel(dt_serve_text *t);
void dt_serve_text_drop(dt_serve_text *t); /* accepts NULL */

/* The tokenizer of its texts, the model's; NULL: it makes none. */
const dt_tokenizer *dt_serve_tokenizer(const dt_serve_model *m);

typedef struct dt_serve_texts_info {
    int64_t rows;             /* texts at once; 0: the model makes none */
    int64_t capacity;         /* tokens of a text with its prompt; INT64_MAX: any */
    int64_t bytes;            /* weights, and what all rows keep */
    int64_t waiting, running; /* now */
    int64_t tokens, steps;    /* told so far; steps of all rows together */
} dt_serve_texts_info;
void dt_serve_texts_get_info(const dt_serve_model *m, dt_serve_texts_info *out);

#endif
