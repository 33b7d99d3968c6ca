/* Listens, takes bodies in within their limits, and ends: the life of a connection. What is answered stands in routes.c. */
#include "http/server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/version.h"
#include "private.h"

enum {
    THREADS = 2,
    CONNECTIONS = 1024,
    IDLE_S = 30,
    RECEIVE_S = 60,
    SWALLOWED = 4, /* times the limit is read of a body that is too large, so that its client hears why */
    QUIET_MS = 100 /* without an exchange, before the last connections are cut */
};
static const int64_t BODY_BYTES = 64 << 20, BODIES_BYTES = 1 << 30;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_ms(int64_t ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

void dt_http_exchange_hold(dt_http_exchange *x) {
    atomic_fetch_add(&x->refs, 1);
}

static void hold_exchange(void *x) {
    dt_http_exchange_hold(x);
}

static void exchange_gone(void *arg) {
    dt_http_exchange *x = arg;
    if (x->request) (void)dt_serve_cancel(x->request);
    dt_http_telling_cancel(x->telling);
    dt_http_exchange_drop(x);
}

void dt_http_exchange_drop(dt_http_exchange *x) {
    if (atomic_fetch_sub(&x->refs, 1) > 1) return;
    dt_serve_request_drop(x->request);
    dt_http_telling_free(x->telling);
    dt_infer_form_free(&x->form);
    dt_serve_model_drop(x->model);
    atomic_fetch_sub(&x->server->bodies_bytes, (int64_t)x->body_room);
    free(x->body), free(x->error), free(x);
}

static const char *header(dt_http_exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

static void turn_bad(dt_http_exchange *x, int code, const char *text) {
    if (x->bad) return;
    x->bad = code, x->bad_text = text;
    atomic_fetch_sub(&x->server->bodies_bytes, (int64_t)x->body_room);
    free(x->body);
    x->body = NULL, x->body_room = 0;
}

/* A number of a header; -1: it is none. */
static int64_t header_number(const char *text) {
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    return errno || end == text || *end || v < 0 || *text == '+' ? -1 : v;
}

/* The headers are there. */
static enum MHD_Result begin(dt_http_server *s, struct MHD_Connection *connection, void **held) {
    dt_http_exchange *x = calloc(1, sizeof *x);
    if (!x) return MHD_NO;
    x->server = s, x->connection = connection, x->json_bytes = -1, x->start_s = now_s();
    atomic_init(&x->refs, 1);
    atomic_fetch_add(&s->exchanges, 1);
    atomic_fetch_add(&s->requests, 1);
    *held = x;
    const char *length = header(x, "Content-Length"), *json = header(x, "Inference-Header-Content-Length"),
               *packed = header(x, "Content-Encoding");
    if (length && header_number(length) > s->o.body_bytes) {
        turn_bad(x, 413, "the body is larger than this server takes");
        if (header_number(length) / SWALLOWED > s->o.body_bytes)
            return dt_http_refuse(x, x->bad, "%s", x->bad_text);
    }
    if (json) {
        x->json_bytes = header_number(json);
        if (x->json_bytes < 0) turn_bad(x, 400, "Inference-Header-Content-Length is no number");
        x->pad = x->json_bytes > 0 ? (16 - (size_t)x->json_bytes % 16) % 16 : 0;
    }
    if (packed && *packed && strcasecmp(packed, "identity") != 0) {
        x->packed = strcasecmp(packed, "gzip") == 0 || strcasecmp(packed, "deflate") == 0;
        if (!x->packed) turn_bad(x, 415, "Content-Encoding: expected gzip or deflate");
    }
    return MHD_YES;
}

/* Room for n bytes more of the body, and a 0. */
static bool grow(dt_http_exchange *x, size_t n) {
    dt_http_server *s = x->server;
    const size_t need = x->pad + x->body_n + n + 1;
    if (need <= x->body_room) return true;
    size_t room = x->body_room ? 2 * x->body_room : 4096;
    const char *length = header(x, "Content-Length");
    const int64_t told = length ? header_number(length) : -1;
    if (told >= 0 && told < 1 << 20 && room < (size_t)told + x->pad + 1) room = (size_t)told + x->pad + 1;
    if (room < need) room = need;
    const int64_t more = (int64_t)(room - x->body_room);
    if (atomic_fetch_add(&s->bodies_bytes, more) + more > s->o.bodies_bytes) {
        atomic_fetch_sub(&s->bodies_bytes, more);
        turn_bad(x, 503, "too many requests are coming in at once");
        return false;
    }
    char *body = realloc(x->body, room);
    if (!body) {
        atomic_fetch_sub(&s->bodies_bytes, more);
        turn_bad(x, 503, "no memory for the body");
        return false;
    }
    x->body = body, x->body_room = room;
    return true;
}

static enum MHD_Result take(dt_http_exchange *x, const char *data, size_t n) {
    dt_http_server *s = x->server;
    if (now_s() - x->start_s > s->o.receive_s) return MHD_NO;
    if ((int64_t)(x->body_n + n) > s->o.body_bytes)
        turn_bad(x, 413, "the body is larger than this server takes");
    if (x->bad && (int64_t)(x->body_n + n) / SWALLOWED > s->o.body_bytes) return MHD_NO;
    if (!x->bad && grow(x, n)) {
        memcpy(x->body + x->pad + x->body_n, data, n);
        x->body[x->pad + x->body_n + n] = '\0';
    }
    x->body_n += n;
    return MHD_YES;
}

/* The body is complete. */
static void unpack(dt_http_exchange *x) {
    char *out;
    size_t n;
    const dt_status st =
        dt_http_unpack(x->body + x->pad, x->body_n, x->pad, (size_t)x->server->o.body_bytes, &out, &n);
    if (st != DT_OK) {
        turn_bad(x,
                 st == DT_ERR_BUSY     ? 413
                 : st == DT_ERR_MEMORY ? 503
                                       : 400,
                 st == DT_ERR_BUSY     ? "the body is larger than this server takes when it is unpacked"
                 : st == DT_ERR_MEMORY ? "no memory for the body"
                                       : "the packed body is damaged");
        return;
    }
    const size_t room = x->pad + n + 1;
    atomic_fetch_add(&x->server->bodies_bytes, (int64_t)room - (int64_t)x->body_room);
    free(x->body);
    x->body = out, x->body_n = n, x->body_room = room;
    x->packed = false;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *n,
                                  void **held) {
    (void)version;
    dt_http_exchange *x = *held;
    if (!x) return begin(arg, connection, held);
    if (*n > 0) {
        const enum MHD_Result r = take(x, data, *n);
        *n = 0;
        return r;
    }
    if (x->stage == DT_HTTP_READING && x->packed && x->body && !x->bad) unpack(x);
    if (x->bad) return dt_http_refuse(x, x->bad, "%s", x->bad_text);
    return dt_http_route(x, url, method);
}

static void on_end(void *arg, struct MHD_Connection *connection, void **held,
                   enum MHD_RequestTerminationCode why) {
    (void)connection, (void)why;
    dt_http_server *s = arg;
    dt_http_exchange *x = *held;
    *held = NULL;
    if (!x) return;
    if (!atomic_load(&x->done)) dt_http_telling_cancel(x->telling);
    dt_http_exchange_drop(x);
    atomic_fetch_sub(&s->exchanges, 1);
}

enum MHD_Result dt_http_queue(dt_http_exchange *x, int code, struct MHD_Response *r) {
    if (!r) return MHD_NO;
    if (atomic_load(&x->server->phase) == DT_HTTP_REFUSING)
        (void)MHD_add_response_header(r, "Connection", "close");
    const enum MHD_Result done = MHD_queue_response(x->connection, (unsigned)code, r);
    MHD_destroy_response(r);
    x->stage = DT_HTTP_ANSWERED;
    return done;
}

enum MHD_Result dt_http_send(dt_http_exchange *x, dt_http_answer *a) {
    if (a->text.lost) {
        free(a->text.s);
        return dt_http_refuse(x, 503, "no memory for an answer");
    }
    if (!a->text.s) dt_http_put(&a->text, "");
    struct MHD_Response *r = MHD_create_response_from_buffer(a->text.n, a->text.s, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(a->text.s);
        return MHD_NO;
    }
    (void)MHD_add_response_header(r, "Content-Type", a->type ? a->type : "application/json");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (a->code == 503) (void)MHD_add_response_header(r, "Retry-After", "1");
    if (a->allow) (void)MHD_add_response_header(r, "Allow", a->allow);
    return dt_http_queue(x, a->code, r);
}

enum MHD_Result dt_http_refuse(dt_http_exchange *x, int code, const char *format, ...) {
    char text[1024];
    dt_http_answer a = {.code = code};
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    atomic_fetch_add(&x->server->refused, 1);
    dt_http_put(&a.text, "{\"error\":");
    dt_http_put_quoted(&a.text, text);
    dt_http_put(&a.text, "}");
    if (a.text.lost) {
        free(a.text.s);
        return MHD_NO;
    }
    return dt_http_send(x, &a);
}

enum MHD_Result dt_http_refuse_status(dt_http_exchange *x, dt_status st) {
    static const struct {
        dt_status status;
        int code;
    } codes[] = {
        {DT_ERR_BUSY, 503},        {DT_ERR_TIMEOUT, 503}, {DT_STOPPED, 503},      {DT_ERR_MEMORY, 503},
        {DT_ERR_UNSUPPORTED, 501}, {DT_ERR_DEVICE, 500},  {DT_ERR_INTERNAL, 500}, {DT_ERR_IO, 500},
    };
    int code = 400;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].status == st) code = codes[i].code;
    const char *text = dt_error_text();
    return dt_http_refuse(x, code, "%s", *text ? text : dt_status_name(st));
}

/* A socket that listens, and in `url` where. */
static dt_status listen_at(const char *host, int32_t port, int *out, char url[128]) {
    char number[16], name[64];
    const struct addrinfo want = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    snprintf(number, sizeof number, "%d", port);
    const int wrong = getaddrinfo(host, number, &want, &found);
    if (wrong) return dt_fail(DT_ERR_CONFIG, "host %s: %s", host, gai_strerror(wrong));
    const int yes = 1;
    int fd = -1;
    dt_status st = DT_OK;
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) continue;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) break;
        st = dt_fail(DT_ERR_CONFIG, "cannot listen at %s, port %d: %s", host, port, strerror(errno));
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    if (fd < 0) return st != DT_OK ? st : dt_fail(DT_ERR_CONFIG, "cannot listen at %s, port %d", host, port);
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &size) != 0 ||
        getnameinfo((struct sockaddr *)&at, size, name, sizeof name, number, sizeof number,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(name, sizeof name, "%s", "?");
    snprintf(url, 128, strchr(name, ':') ? "http://[%s]:%s" : "http://%s:%s", name, number);
    *out = fd;
    return DT_OK;
}

dt_status dt_http_server_create(const dt_http_options *o, dt_http_server **out) {
    *out = NULL;
    dt_http_server *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for the server");
    s->o = *o;
    if (!s->o.host) s->o.host = "127.0.0.1";
    if (s->o.threads == 0) s->o.threads = THREADS;
    if (s->o.connections == 0) s->o.connections = CONNECTIONS;
    if (s->o.body_bytes == 0) s->o.body_bytes = BODY_BYTES;
    if (s->o.bodies_bytes == 0) s->o.bodies_bytes = BODIES_BYTES;
    if (s->o.idle_s == 0) s->o.idle_s = IDLE_S;
    if (s->o.receive_s == 0) s->o.receive_s = RECEIVE_S;
    s->listen_fd = -1, s->start_s = now_s();
    dt_status st;
    DT_TRY_GOTO(st, dt_http_models_init(&s->models, &s->o), fail);
    DT_TRY_GOTO(st,
                dt_http_watch_create(s->o.connections, (dt_http_watch_calls){hold_exchange, exchange_gone},
                                     &s->watch),
                fail);
    DT_TRY_GOTO(st, listen_at(s->o.host, s->o.port, &s->listen_fd, s->url), fail);
    /* By poll: with epoll a client's end that comes with its last bytes goes unseen until the connection is idle. */
    s->daemon = MHD_start_daemon(
        MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s,
        MHD_OPTION_LISTEN_SOCKET, s->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_end, s,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->o.connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)s->o.idle_s, MHD_OPTION_THREAD_POOL_SIZE, s->o.threads > 1 ? (unsigned)s->o.threads : 0u,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(64 << 10), MHD_OPTION_END);
    if (!s->daemon) {
        st = dt_fail(DT_ERR_IO, "the server cannot start its threads: %s", strerror(errno));
        goto fail;
    }
    *out = s;
    return DT_OK;
fail:
    dt_http_server_destroy(s);
    return st;
}

const char *dt_http_server_url(const dt_http_server *s) {
    return s->url;
}

dt_status dt_http_server_add(dt_http_server *s, const char *name, const char *path) {
    return dt_http_models_add(&s->models, name, path);
}

/* Loads all; *first is how the first failed. */
static dt_status load_all(dt_http_server *s) {
    dt_http_listed *l = NULL;
    int32_t n = 0;
    dt_status first = dt_http_models_scan(&s->models);
    char text[1024] = "";
    snprintf(text, sizeof text, "%s", first == DT_OK ? "" : dt_error_text());
    dt_status st = dt_http_models_list(&s->models, &l, &n);
    for (int32_t i = 0; st == DT_OK && i < n; i++) {
        if (i > 0 && l[i].entry == l[i - 1].entry) continue;
        const dt_status one = dt_http_models_load(&s->models, l[i].entry->name);
        if (one == DT_OK || first != DT_OK) continue;
        dt_error_context("model %s", l[i].entry->name);
        snprintf(text, sizeof text, "%s", dt_error_text());
        first = one;
    }
    dt_http_listed_free(l, n);
    if (first != DT_OK) dt_error_set(first, text);
    return first != DT_OK ? first : st;
}

dt_status dt_http_server_load(dt_http_server *s) {
    DT_TRY(load_all(s));
    int loading = DT_HTTP_LOADING;
    atomic_compare_exchange_strong(&s->phase, &loading, DT_HTTP_SERVING);
    return DT_OK;
}

void dt_http_server_reload(dt_http_server *s) {
    (void)load_all(s);
}

/* Whether nothing is under way for a while, within the time. */
static bool wait_quiet(dt_http_server *s, double until_s) {
    double quiet_s = now_s();
    for (;;) {
        const double t = now_s();
        const union MHD_DaemonInfo *i = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
        if (atomic_load(&s->exchanges) > 0) quiet_s = t;
        if (t - quiet_s > 1e-3 * QUIET_MS ||
            (i && i->num_connections == 0 && atomic_load(&s->exchanges) == 0))
            return true;
        if (t > until_s) return false;
        sleep_ms(5);
    }
}

/* Tells one that was let in and that no thread will read from. */
static void turn_away(int fd) {
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                                 "Content-Length: 33\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
                                 "{\"error\":\"the server is ending\"}\n";
    char ignored[4096];
    const struct timeval patience = {.tv_usec = 20000};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)recv(fd, ignored, sizeof ignored,
               0); /* what is unread when it is closed would cost it the answer */
    (void)send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(fd, SHUT_WR);
    (void)recv(fd, ignored, sizeof ignored, 0);
    close(fd);
}

/* No more connections; those that the kernel has already taken are turned away. */
static void close_door(dt_http_server *s) {
    enum { MOST = 256 };
    const MHD_socket fd = MHD_quiesce_daemon(s->daemon);
    if (fd < 0) return;
    for (int i = 0; i < MOST; i++) {
        const int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (one < 0) break;
        turn_away(one);
    }
    (void)shutdown(fd, SHUT_RDWR); /* closed when no thread knows its number any more */
}

void dt_http_server_drain(dt_http_server *s, int64_t grace_ms, int64_t exit_ms) {
    atomic_store(&s->phase, DT_HTTP_LEAVING);
    sleep_ms(grace_ms);
    atomic_store(&s->phase, DT_HTTP_REFUSING);
    close_door(s);
    const double until_s = exit_ms < 0 ? 1e300 : now_s() + 1e-3 * (double)exit_ms;
    if (wait_quiet(s, until_s)) return;
    dt_serve_engine_drain(s->o.engine, 0);
    (void)wait_quiet(s, now_s() + 1);
}

void dt_http_server_destroy(dt_http_server *s) {
    if (!s) return;
    if (s->daemon) {
        atomic_store(&s->phase, DT_HTTP_REFUSING);
        close_door(s);
        while (atomic_load(&s->suspended) > 0) sleep_ms(5); /* their answers come from other threads */
        MHD_stop_daemon(s->daemon);
    }
    if (s->listen_fd >= 0) close(s->listen_fd);
    dt_http_watch_destroy(s->watch);
    dt_http_models_fini(&s->models);
    free(s);
}
