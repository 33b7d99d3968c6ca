/* A text: its connection is suspended until there is news, which comes from the engine's threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

/* What of the text waits to be sent. The exchange is held until the text has ended. */
struct dt_http_telling {
    pthread_mutex_t lock;
    dt_generate_form form;
    dt_serve_text *text;
    bool stream, suspended, begun, ended;
    dt_http_text out; /* events, or the text */
    size_t sent;      /* of them */
    dt_serve_news last;
};

void dt_http_telling_free(struct dt_http_telling *t) {
    if (!t) return;
    dt_serve_text_drop(t->text);
    dt_generate_form_free(&t->form);
    pthread_mutex_destroy(&t->lock);
    free(t->out.s), free(t);
}

void dt_http_telling_cancel(struct dt_http_telling *t) {
    if (t && t->text) dt_serve_text_cancel(t->text);
}

static void put_event(const dt_http_exchange *x, const dt_serve_news *news) {
    struct dt_http_telling *t = x->telling;
    dt_http_put(&t->out, "data: ");
    if (news->status == DT_OK) {
        dt_generate_write(&t->form, dt_serve_model_get_info(x->model), news, news->piece,
                          (size_t)news->n_piece, &t->out);
    } else {
        dt_http_put(&t->out, "{\"error\":");
        dt_http_put_quoted(&t->out, news->error);
        dt_http_put(&t->out, "}");
    }
    dt_http_put(&t->out, "\n\n");
}

static void put_piece(struct dt_http_telling *t, const dt_serve_news *news) {
    if (news->n_piece == 0 || !dt_http_room(&t->out, (size_t)news->n_piece)) return;
    memcpy(t->out.s + t->out.n, news->piece, (size_t)news->n_piece);
    t->out.n += (size_t)news->n_piece;
}

static void told(void *arg, const dt_serve_news *news) {
    dt_http_exchange *x = arg;
    dt_http_server *s = x->server;
    struct dt_http_telling *t = x->telling;
    pthread_mutex_lock(&t->lock);
    const bool fails_first = news->status != DT_OK && !t->begun;
    t->begun = true;
    if (t->stream && !fails_first)
        put_event(x, news);
    else
        put_piece(t, news);
    if (news->ended) {
        t->ended = true;
        t->last = *news;
        x->status = t->stream && !fails_first ? DT_OK : news->status;
        if (news->status != DT_OK) x->error = strdup(news->error);
        atomic_store(&x->done, true);
        dt_http_watch_remove(s->watch, atomic_load(&x->watched), dt_http_socket_of(x));
    }
    const bool resumes = t->suspended && (t->stream || t->ended);
    if (resumes) {
        t->suspended = false;
        MHD_resume_connection(x->connection);
        atomic_fetch_sub(&s->suspended, 1);
    }
    pthread_mutex_unlock(&t->lock);
    if (news->ended) dt_http_exchange_drop(x);
}

/* With the lock held. */
static void suspend(dt_http_exchange *x) {
    x->telling->suspended = true;
    atomic_fetch_add(&x->server->suspended, 1);
    MHD_suspend_connection(x->connection);
}

enum MHD_Result dt_http_generate(dt_http_exchange *x, const char *name, int64_t version, bool stream) {
    dt_http_server *s = x->server;
    if (atomic_load(&s->phase) == DT_HTTP_REFUSING) return dt_http_refuse(x, 503, "the server is ending");
    const dt_status st = dt_http_models_hold(&s->models, name, version, &x->entry, &x->model);
    if (st != DT_OK) return dt_http_refuse(x, st == DT_ERR_BUSY ? 503 : 404, "%s", dt_error_text());
    struct dt_http_telling *t = calloc(1, sizeof *t);
    if (!t) return dt_http_refuse(x, 503, "no memory for a text");
    pthread_mutex_init(&t->lock, NULL);
    x->telling = t;
    t->stream = stream;
    const dt_status read = dt_generate_read(x->body ? x->body + x->pad : "", x->body_n, &t->form);
    if (read != DT_OK) return dt_http_refuse_status(x, read);
    x->stage = DT_HTTP_TELLING;
    t->form.how.told = told, t->form.how.arg = x;
    dt_http_exchange_hold(x);
    suspend(x);
    /* The connection is this thread's: it goes no further before this returns. */
    const dt_status sent =
        dt_serve_text_submit(x->model, t->form.prompt, (int64_t)t->form.n_prompt, &t->form.how, &t->text);
    if (sent != DT_OK) {
        told(x, &(dt_serve_news){.token = -1, .ended = true, .status = sent, .error = dt_error_text()});
        return MHD_YES;
    }
    const int fd = dt_http_socket_of(x);
    const uint64_t watched = dt_http_watch_add(s->watch, fd, x);
    atomic_store(&x->watched, watched);
    if (atomic_load(&x->done)) dt_http_watch_remove(s->watch, watched, fd);
    return MHD_YES;
}

/* ---- answers ---- */

static ssize_t read_events(void *arg, uint64_t position, char *to, size_t room) {
    dt_http_exchange *x = arg;
    struct dt_http_telling *t = x->telling;
    (void)position;
    pthread_mutex_lock(&t->lock);
    const size_t n = t->out.n - t->sent < room ? t->out.n - t->sent : room;
    ssize_t given = (ssize_t)n;
    if (n > 0) {
        memcpy(to, t->out.s + t->sent, n);
        t->sent += n;
        if (t->sent == t->out.n) t->sent = t->out.n = 0;
    } else if (t->out.lost) {
        given = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (t->ended) {
        given = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        suspend(x);
    }
    pthread_mutex_unlock(&t->lock);
    return given;
}

static void free_reader(void *arg) {
    dt_http_exchange_drop(arg);
}

static enum MHD_Result answer_stream(dt_http_exchange *x) {
    enum { BLOCK = 4096 };
    dt_http_exchange_hold(x);
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_events, x, free_reader);
    if (!r) {
        dt_http_exchange_drop(x);
        return MHD_NO;
    }
    (void)MHD_add_response_header(r, "Content-Type", "text/event-stream; charset=utf-8");
    (void)MHD_add_response_header(r, "Cache-Control", "no-cache");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    return dt_http_queue(x, 200, r);
}

enum MHD_Result dt_http_generate_answer(dt_http_exchange *x) {
    struct dt_http_telling *t = x->telling;
    pthread_mutex_lock(&t->lock);
    const bool failed = t->ended && x->status != DT_OK;
    pthread_mutex_unlock(&t->lock);
    if (failed) {
        dt_error_set_text(x->error ? x->error : "");
        return dt_http_refuse_status(x, x->status);
    }
    dt_http_count_answer(x);
    if (t->stream) return answer_stream(x);
    dt_http_answer a = {.code = 200};
    t->last.token = -1;
    dt_generate_write(&t->form, dt_serve_model_get_info(x->model), &t->last, t->out.s ? t->out.s : "",
                      t->out.n, &a.text);
    a.text.lost = a.text.lost || t->out.lost;
    return dt_http_send(x, &a);
}
