/* Each text has a row of the decoder from its prompt to its end: its keys and values, or states. A step is a token for every
 * row; between two of them texts that have ended leave their rows to those that wait. */
#include "serve/texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"
#include "train/texts.h"

enum { ROWS = 16, ROWS_MAX = 4096, STOP_BYTES_MAX = 256, TOKENS_MAX = 1 << 20 };

struct dt_serve_text {
    dt_serve_model *model; /* held */
    dt_serve_text *next;
    int32_t refs;
    bool waits, cancelled;
    dt_serve_text_options how;
    char *prompt;
    int64_t n_prompt;
    int64_t n_told; /* bytes */
    int64_t submitted_ns;
    int64_t prompt_tokens, tokens;
};

struct dt_serve_texts {
    dt_texts *net;
    int64_t rows, bytes;
    dt_serve_text **row; /* [rows] NULL: free */
    dt_serve_text *first, *last;
    int64_t n_waiting, n_running, tokens, steps;
    int64_t since_ns; /* when it had its last turn, or something to do again */
    bool busy;        /* a worker has its turn, and with it rows and generator */
    bool stopping;    /* all are to end */
};

/* ---- open and close ---- */

dt_status dt_serve_texts_open(dt_serve_model *m) {
    int64_t rows = m->options.text_rows > 0 ? m->options.text_rows : ROWS;
    if (rows > ROWS_MAX)
        return dt_fail(DT_ERR_USAGE, "%lld texts at once: at most %d", (long long)rows, ROWS_MAX);
    dt_serve_texts *t = calloc(1, sizeof *t);
    if (!t) return dt_fail(DT_ERR_MEMORY, "no memory for texts");
    dt_turns_take(&m->engine->device);
    dt_status st = DT_OK;
    for (;; rows /= 2) {
        st = dt_texts_open(m->path, m->engine->options.be, rows, &t->net);
        if (st != DT_OK || !t->net) break;
        t->bytes = dt_texts_bytes(t->net);
        if (dt_serve_account(m->engine, t->bytes)) break;
        dt_texts_close(t->net);
        t->net = NULL;
        if (rows > 1 && m->options.text_rows == 0) continue;
        st = dt_fail(DT_ERR_MEMORY, "%s: %lld texts at once take %lld bytes: beyond the memory cap of %lld",
                     m->info.name, (long long)rows, (long long)t->bytes,
                     (long long)m->engine->options.memory_cap_bytes);
        break;
    }
    dt_turns_give(&m->engine->device);
    t->rows = rows;
    if (st == DT_OK && t->net) {
        t->row = calloc((size_t)rows, sizeof *t->row);
        if (!t->row) st = dt_fail(DT_ERR_MEMORY, "no memory for texts");
        m->texts = t;
    }
    if (st == DT_OK && t->net) return DT_OK;
    m->texts = t->net ? t : NULL;
    if (m->texts)
        dt_serve_texts_close(m);
    else
        free(t);
    return st;
}

void dt_serve_texts_close(dt_serve_model *m) {
    dt_serve_texts *t = m->texts;
    if (!t) return;
    dt_turns_take(&m->engine->device);
    dt_texts_close(t->net);
    dt_turns_give(&m->engine->device);
    (void)dt_serve_account(m->engine, -t->bytes);
    free(t->row), free(t);
    m->texts = NULL;
}

/* ---- texts ---- */

/* With the lock held, as dt_serve_model_unref. */
static void unref(dt_serve_text *t) {
    dt_serve_model *m = t->model;
    if (--t->refs > 0) return;
    for (int32_t i = 0; i < t->how.n_stop; i++) free((void *)(uintptr_t)t->how.stop[i]);
    free(t->prompt), free(t);
    dt_serve_model_unref(m);
}

/* It is in no row and no queue any more. Takes the engine's reference of it; without the lock. */
static void end(dt_serve_text *t, dt_serve_news *news) {
    dt_serve_engine *e = t->model->engine;
    news->ended = true;
    news->token = -1;
    news->n_prompt = t->prompt_tokens, news->n_token = t->tokens;
    if (!news->error) news->error = "";
    const dt_serve_request as = {.status = news->status}; /* counted as one of no rows */
    dt_serve_count_answer(t->model, &as, dt_serve_now_ns() - t->submitted_ns);
    t->how.told(t->how.arg, news);
    pthread_mutex_lock(&e->lock);
    t->model->texts->n_running--;
    dt_serve_one_less(e);
    e->refs++;
    unref(t);
    dt_serve_engine_unref(e);
}

static void end_with(dt_serve_text *t, dt_status st, const char *why) {
    end(t, &(dt_serve_news){.status = st, .error = why});
}

/* Out of the queue; with the lock held. It counts as running from here. */
static void unqueue(dt_serve_text *t) {
    dt_serve_texts *s = t->model->texts;
    dt_serve_text *before = NULL;
    for (dt_serve_text *at = s->first; at != t; at = at->next) before = at;
    *(before ? &before->next : &s->first) = t->next;
    if (s->last == t) s->last = before;
    t->next = NULL, t->waits = false;
    s->n_waiting--, s->n_running++;
    t->model->engine->n_waiting--, t->model->engine->n_running++;
}

static dt_status copy(const char *prompt, int64_t n, const dt_serve_text_options *o, dt_serve_text *t) {
    t->how = *o;
    t->how.n_stop = 0;
    t->prompt = malloc((size_t)n + 1);
    if (!t->prompt) return dt_fail(DT_ERR_MEMORY, "no memory for a text");
    memcpy(t->prompt, prompt, (size_t)n);
    t->n_prompt = n;
    for (int32_t i = 0; i < o->n_stop; i++) {
        char *stop = strdup(o->stop[i]);
        if (!stop) return dt_fail(DT_ERR_MEMORY, "no memory for a text");
        t->how.stop[t->how.n_stop++] = stop;
    }
    return DT_OK;
}

static dt_status check_options(const dt_serve_model *m, const dt_serve_text_options *o) {
    if (!m->texts)
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "%s does not go on with texts: that is for runs of dtrain with a language network",
                       m->info.name);
    DT_TRY(dt_draw_check(&o->draw));
    if (o->max_tokens < DT_TEXT_ALL || o->max_tokens > TOKENS_MAX)
        return dt_fail(DT_ERR_USAGE, "%lld tokens: 0 to %d", (long long)o->max_tokens, TOKENS_MAX);
    if (o->n_stop < 0 || o->n_stop > DT_SERVE_STOPS_MAX)
        return dt_fail(DT_ERR_USAGE, "%d stop texts: at most %d", o->n_stop, DT_SERVE_STOPS_MAX);
    for (int32_t i = 0; i < o->n_stop; i++)
        if (!o->stop[i][0] || strlen(o->stop[i]) > STOP_BYTES_MAX)
            return dt_fail(DT_ERR_USAGE, "a stop text has 1 to %d bytes", STOP_BYTES_MAX);
    return DT_OK;
}

dt_status dt_serve_text_submit(dt_serve_model *m, const char *prompt, int64_t n_prompt,
                               const dt_serve_text_options *o, dt_serve_text **out) {
    dt_serve_engine *e = m->engine;
    *out = NULL;
    DT_TRY(check_options(m, o));
    dt_serve_text *t = calloc(1, sizeof *t);
    dt_status st = t ? copy(prompt, n_prompt, o, t) : dt_fail(DT_ERR_MEMORY, "no memory for a text");
    pthread_mutex_lock(&e->lock);
    dt_serve_texts *s = m->texts;
    if (t) t->model = m, t->refs = 1, m->refs++;
    if (st == DT_OK) st = dt_serve_may_wait(m, s->n_waiting);
    if (st != DT_OK) {
        e->refs++;
        if (t) unref(t);
        dt_serve_engine_unref(e);
        return st;
    }
    t->refs++, t->waits = true;
    t->submitted_ns = dt_serve_now_ns();
    *(s->last ? &s->last->next : &s->first) = t;
    s->last = t;
    if (s->n_waiting + s->n_running == 0) s->since_ns = t->submitted_ns;
    s->n_waiting++, e->n_waiting++;
    m->counts.sums.accepted++, e->counts.sums.accepted++;
    pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
    *out = t;
    return DT_OK;
}

void dt_serve_text_cancel(dt_serve_text *t) {
    dt_serve_engine *e = t->model->engine;
    pthread_mutex_lock(&e->lock);
    const bool waited = t->waits;
    t->cancelled = true;
    if (waited) unqueue(t);
    pthread_mutex_unlock(&e->lock);
    if (waited) end_with(t, DT_STOPPED, "it was cancelled");
}

void dt_serve_text_drop(dt_serve_text *t) {
    if (!t) return;
    dt_serve_engine *e = t->model->engine;
    pthread_mutex_lock(&e->lock);
    e->refs++;
    unref(t);
    dt_serve_engine_unref(e);
}

/* ---- a turn ---- */

/* The first place where a stop text begins, or n; *held: bytes before n that may begin one whose rest is still to come. */
static int64_t find_stop(const dt_serve_text_options *o, const uint8_t *text, int64_t from, int64_t n,
                         int64_t *held) {
    int64_t first = n;
    *held = 0;
    for (int32_t i = 0; i < o->n_stop; i++) {
        const int64_t m = (int64_t)strlen(o->stop[i]);
        for (int64_t at = from; at < first; at++) {
            const int64_t there = dt_min_i64(m, n - at);
            if (memcmp(text + at, o->stop[i], (size_t)there) != 0) continue;
            if (there == m)
                first = at;
            else
                *held = dt_max_i64(*held, n - at);
            break;
        }
    }
    return first;
}

/* What the row's text has grown by, and how it ended, if it has; whether a token came. */
static bool tell(dt_serve_texts *s, int64_t row, dt_status step, const char *why) {
    static const char *const reason[] = {
        [DT_TEXT_GOES_ON] = "", [DT_TEXT_FULL] = "length", [DT_TEXT_STOPPED] = "stop", [DT_TEXT_FAILED] = ""};
    dt_serve_text *t = s->row[row];
    dt_generator *g = dt_texts_generator(s->net);
    dt_generated now;
    dt_generator_get(g, row, &now);
    const bool came = now.n_token > t->tokens;
    t->prompt_tokens = now.n_prompt, t->tokens = now.n_token;
    int64_t held;
    const int64_t stop = find_stop(&t->how, now.text, t->n_told, now.n_whole, &held);
    const bool stopped = stop < now.n_whole, ends = now.end != DT_TEXT_GOES_ON || stopped;
    const int64_t until = stopped ? stop : ends ? now.n_text : now.n_whole - held;
    dt_serve_news news = {.piece = (const char *)now.text + t->n_told,
                          .n_piece = dt_max_i64(until - t->n_told, 0),
                          .token = came ? now.token[now.n_prompt + now.n_token - 1] : -1};
    if (!now.text) news.piece = "";
    t->n_told += news.n_piece;
    if (came) {
        t->how.told(t->how.arg, &news);
        news.piece = "", news.n_piece = 0;
    }
    if (!ends) return came;
    const bool failed = now.end == DT_TEXT_FAILED && !stopped;
    news.status = failed ? step : DT_OK, news.error = failed ? why : "";
    news.reason = stopped ? "stop" : reason[now.end];
    s->row[row] = NULL;
    end(t, &news); /* the piece is the generator's, so the row is given up behind it */
    dt_generator_end(g, row);
    return came;
}

static void leave(dt_serve_texts *s, int64_t row, dt_status st, const char *why) {
    dt_serve_text *t = s->row[row];
    dt_generator_end(dt_texts_generator(s->net), row);
    s->row[row] = NULL;
    end_with(t, st, why);
}

/* Free rows for those that wait, and the rows of cancelled ones. */
static void join(dt_serve_model *m, dt_serve_text **joined) {
    dt_serve_engine *e = m->engine;
    dt_serve_texts *s = m->texts;
    for (int64_t r = 0; r < s->rows; r++) {
        pthread_mutex_lock(&e->lock);
        const bool gone = s->row[r] && (s->row[r]->cancelled || s->stopping);
        const char *why = s->stopping ? "the engine ended before the text did" : "it was cancelled";
        pthread_mutex_unlock(&e->lock);
        if (gone) leave(s, r, DT_STOPPED, why);
    }
    pthread_mutex_lock(&e->lock);
    for (int64_t r = 0; r < s->rows; r++) {
        joined[r] = NULL;
        if (s->row[r] || !s->first) continue;
        joined[r] = s->row[r] = s->first;
        unqueue(s->first);
    }
    pthread_mutex_unlock(&e->lock);
}

static dt_status begin(dt_serve_texts *s, int64_t row) {
    const dt_serve_text *t = s->row[row];
    const uint8_t *prompt = (const uint8_t *)t->prompt;
    dt_generator *g = dt_texts_generator(s->net);
    dt_generated now;
    DT_TRY(dt_generator_begin(g, row, prompt, t->n_prompt, t->how.max_tokens, 0));
    if (t->how.max_tokens < 0) { /* there is a limit, and how many there is room for is known now */
        dt_generator_get(g, row, &now);
        const int64_t room = dt_generator_capacity(g) - now.n_prompt;
        DT_TRY(dt_generator_begin(g, row, prompt, t->n_prompt, dt_min_i64(room, DT_SERVE_TOKENS), 0));
    }
    dt_generator_set_draw(g, row, &t->how.draw, t->how.no_stop);
    return DT_OK;
}

bool dt_serve_texts_due(const dt_serve_model *m, int64_t *since_ns) {
    const dt_serve_texts *s = m->texts;
    if (!s || s->busy || s->n_waiting + s->n_running == 0) return false;
    *since_ns = s->since_ns;
    return true;
}

int64_t dt_serve_texts_waiting(const dt_serve_model *m) {
    return m->texts ? m->texts->n_waiting : 0;
}

void dt_serve_texts_turn(dt_serve_model *m) {
    dt_serve_engine *e = m->engine;
    dt_serve_texts *s = m->texts;
    s->busy = true;
    m->refs++;
    pthread_mutex_unlock(&e->lock);
    dt_serve_text **joined = calloc((size_t)s->rows, sizeof *joined);
    char why[DT_SERVE_ERROR_MAX] = "";
    dt_status step = joined ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for texts");
    if (joined) join(m, joined);
    for (int64_t r = 0; joined && r < s->rows; r++) {
        if (!joined[r]) continue;
        dt_turns_take(&e->device);
        const dt_status st = begin(s, r);
        dt_turns_give(&e->device);
        if (st == DT_OK) continue;
        snprintf(why, sizeof why, "%s", dt_error_text());
        leave(s, r, st, why);
    }
    dt_turns_take(&e->device);
    if (step == DT_OK) step = dt_generator_step(dt_texts_generator(s->net));
    dt_turns_give(&e->device);
    if (step != DT_OK) snprintf(why, sizeof why, "%s", dt_error_text());
    int64_t came = 0;
    for (int64_t r = 0; r < s->rows; r++) {
        if (!s->row[r]) continue;
        if (step != DT_OK && step != DT_ERR_NONFINITE) { /* nobody knows what the rows hold */
            leave(s, r, step, why);
            continue;
        }
        came += tell(s, r, step, why);
    }
    free(joined);
    pthread_mutex_lock(&e->lock);
    s->busy = false;
    s->since_ns = dt_serve_now_ns();
    s->steps++, s->tokens += came;
    dt_serve_model_unref(m);
}

bool dt_serve_texts_stop(dt_serve_model *m) {
    dt_serve_engine *e = m->engine;
    dt_serve_texts *s = m->texts;
    if (s) s->stopping = true;
    dt_serve_text *t = s ? s->first : NULL;
    if (!t) return false;
    unqueue(t);
    pthread_mutex_unlock(&e->lock);
    end_with(t, DT_STOPPED, "the engine ended before its turn came");
    pthread_mutex_lock(&e->lock);
    return true;
}

const dt_tokenizer *dt_serve_tokenizer(const dt_serve_model *m) {
    return m->texts ? dt_texts_tokenizer(m->texts->net) : NULL;
}

void dt_serve_texts_get_info(const dt_serve_model *m, dt_serve_texts_info *out) {
    dt_serve_engine *e = m->engine;
    const dt_serve_texts *s = m->texts;
    *out = (dt_serve_texts_info){.rows = 0};
    if (!s) return;
    pthread_mutex_lock(&e->lock);
    *out = (dt_serve_texts_info){.rows = s->rows,
                                 .capacity = dt_generator_capacity(dt_texts_generator(s->net)),
                                 .bytes = s->bytes,
                                 .waiting = s->n_waiting,
                                 .running = s->n_running,
                                 .tokens = s->tokens,
                                 .steps = s->steps};
    pthread_mutex_unlock(&e->lock);
}
