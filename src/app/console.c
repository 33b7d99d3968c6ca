/* Numbers of the progress line are means over the steps since it was last shown. */
#include "console.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/text.h"

enum { COLUMNS_DEFAULT = 80, COLUMNS_MAX = 240, PART_MAX = 64, BAR_MAX = 30, BAR_MIN = 10 };
static const double redraw_every_s = 0.1;

typedef enum part_kind {
    PART_EPOCH = 0,
    PART_STEP,
    PART_LOSS,
    PART_METRIC,
    PART_LR,
    PART_SPEED,
    PART_ETA,
    PART_WAIT,
    PART_COUNT
} part_kind;

/* The order in which parts give way on a narrow terminal. */
static const part_kind drop_order[] = {PART_WAIT, PART_LR,     PART_SPEED, PART_EPOCH,
                                       PART_ETA,  PART_METRIC, PART_STEP};

dt_console dt_console_of(FILE *out, FILE *err) {
    return (dt_console){.out = out, .err = err, .log_every = 1};
}

/* A new run; what it shows does not depend on the one before. */
static void start(dt_console *c, const dt_metrics_options *run) {
    const dt_task_row *task = run->board.task;
    const double now = dt_time_s();
    *c = (dt_console){.metric = task && task->n_metric > 0 ? &task->metric[0] : NULL,
                      .out = c->out,
                      .err = c->err,
                      .samples = run->images ? "images" : "samples",
                      .live = c->live,
                      .flush = c->flush,
                      .total_steps = run->total_steps,
                      .log_every = c->log_every > 0 ? c->log_every : 1,
                      .first_step = run->resume_step,
                      .started_at = now,
                      .shown_at = now - 1};
}

static void format_duration(double s, char out[24]) {
    if (!(s >= 0) || s > 3.6e8) {
        strcpy(out, "-");
        return;
    }
    long long t = (long long)(s + 0.5);
    if (t >= 360000)
        snprintf(out, 24, "%lldd%lldh", t / 86400, t / 3600 % 24);
    else if (t >= 3600)
        snprintf(out, 24, "%lld:%02lld:%02lld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, 24, "%lld:%02lld", t / 60, t % 60);
}

static void format_metric(const dt_console *c, bool labels, char out[PART_MAX]) {
    const dt_metric_row *m = c->metric;
    const double value = c->metric_sum / (double)c->n_finite;
    out[0] = '\0';
    if (!m) return;
    if (m->percent)
        snprintf(out, PART_MAX, labels ? "%s %.2f%%" : "%s %.1f%%", labels ? m->line : m->part, 100 * value);
    else
        snprintf(out, PART_MAX, labels ? "%s %.4g" : "%s %.3g", labels ? m->line : m->part, value);
}

static void format_parts(const dt_console *c, bool labels, char part[PART_COUNT][PART_MAX]) {
    const dt_train_record *r = &c->last;
    double n_finite = (double)c->n_finite;
    double epochs = r->step > 0 ? r->epoch * (double)c->total_steps / (double)r->step : 0;
    char eta[24], epoch[24];
    double done = (double)(r->step - c->first_step);
    double elapsed_s = dt_time_s() - c->started_at;
    format_duration(done > 0 ? elapsed_s / done * (double)(c->total_steps - r->step) : NAN, eta);
    const dt_text speed = dt_number_text(c->time_s > 0 ? c->n_sample / c->time_s : 0);

    /* As many decimals on both sides. Of a run below a tenth of an epoch two digits are told. */
    const dt_text last_epoch = dt_decimal_text(epochs);
    const bool little = epochs > 0 && epochs < 0.095;
    snprintf(epoch, sizeof epoch, little ? "%.2g" : "%.2f", r->epoch);
    snprintf(part[PART_EPOCH], PART_MAX, "%s %s/%s", labels ? "epoch" : "ep", epoch, last_epoch.s);
    snprintf(part[PART_STEP], PART_MAX, labels ? "step %lld/%lld" : "%lld/%lld", (long long)r->step,
             (long long)c->total_steps);
    if (n_finite > 0) {
        double loss = c->loss_sum / n_finite;
        snprintf(part[PART_LOSS], PART_MAX, fabs(loss) < 10 ? "loss %.4f" : "loss %.4g", loss);
        format_metric(c, labels, part[PART_METRIC]);
    } else {
        strcpy(part[PART_LOSS], "loss not finite");
        part[PART_METRIC][0] = '\0';
    }
    snprintf(part[PART_LR], PART_MAX, "lr %.3g", r->lr);
    snprintf(part[PART_SPEED], PART_MAX, labels ? "%s %s/s" : "%s/s", speed.s, c->samples);
    snprintf(part[PART_ETA], PART_MAX, "ETA %s", eta);
    snprintf(part[PART_WAIT], PART_MAX, labels ? "data wait %.0f%%" : "wait %.0f%%",
             c->time_s > 0 ? 100 * c->data_wait_s / c->time_s : 0);
}

static int joined_length(char part[PART_COUNT][PART_MAX], int separator) {
    int n = 0;
    for (int i = 0; i < PART_COUNT; i++)
        if (part[i][0]) n += (int)strlen(part[i]) + (n > 0 ? separator : 0);
    return n;
}

static void join(char part[PART_COUNT][PART_MAX], const char *separator, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < PART_COUNT && used < size; i++) {
        if (!part[i][0]) continue;
        int n = snprintf(out + used, size - used, "%s%s", used > 0 ? separator : "", part[i]);
        if (n > 0) used += (size_t)n;
    }
}

void dt_console_format(const dt_console *c, int columns, char *out, size_t size) {
    char part[PART_COUNT][PART_MAX];
    format_parts(c, true, part);
    int n = joined_length(part, 2);
    if (n <= columns) {
        int bar = columns - n - 3 < BAR_MAX ? columns - n - 3 : BAR_MAX;
        size_t used = 0;
        if (c->live && bar >= BAR_MIN && c->total_steps > 0) {
            int64_t filled = dt_min_i64(c->last.step * bar / c->total_steps, bar);
            out[used++] = '[';
            for (int i = 0; i < bar; i++) out[used++] = i < filled ? '=' : i == filled ? '>' : ' ';
            out[used++] = ']';
            out[used++] = ' ';
        }
        join(part, "  ", out + used, size - used);
        return;
    }
    format_parts(c, false, part);
    for (size_t i = 0; i < sizeof drop_order / sizeof drop_order[0]; i++) {
        if (joined_length(part, 1) <= columns) break;
        part[drop_order[i]][0] = '\0';
    }
    join(part, joined_length(part, 2) <= columns ? "  " : " ", out, size);
    if (columns >= 0 && strlen(out) > (size_t)columns) out[columns] = '\0';
}

/* Whether a line can be written at once. A terminal that was halted, or a pipe that nobody reads, must not
 * halt the training: its lines are left out. */
static bool takes_lines(const dt_console *c) {
    struct pollfd p = {.fd = fileno(c->out), .events = POLLOUT};
    return p.fd < 0 || poll(&p, 1, 0) != 0;
}

static int terminal_columns(FILE *out) {
    struct winsize w;
    if (ioctl(fileno(out), TIOCGWINSZ, &w) != 0 || w.ws_col == 0) return COLUMNS_DEFAULT;
    return w.ws_col < COLUMNS_MAX ? w.ws_col : COLUMNS_MAX;
}

static void draw(dt_console *c) {
    char line[COLUMNS_MAX + 1];
    /* The last column stays free: some terminals wrap once it is written. */
    dt_console_format(c, terminal_columns(c->out) - 1, line, sizeof line);
    fprintf(c->out, "\r%s\x1b[K", line);
    fflush(c->out);
    c->line_shown = true;
}

/* Counts the step in and shows a line where one is due: live at most ten times a second. */
static void step(dt_console *c, const dt_train_record *r) {
    c->last = *r;
    const double metric = c->metric ? r->score.metric[0] : 0;
    if (isfinite(r->score.loss) && isfinite(metric)) {
        c->loss_sum += r->score.loss;
        c->metric_sum += metric;
        c->n_finite++;
    }
    const double time_s = 1e-3 * r->step_ms; /* not the mean of the rates: results may come in bunches */
    if (isfinite(r->samples_per_s) && isfinite(r->data_wait) && isfinite(time_s)) {
        c->time_s += time_s;
        c->n_sample += r->samples_per_s * time_s;
        c->data_wait_s += r->data_wait * time_s;
    }

    double now = dt_time_s();
    bool last = r->step == c->total_steps;
    if (c->live) {
        if ((now - c->shown_at < redraw_every_s && !last) || !takes_lines(c)) return;
        draw(c);
    } else {
        if ((r->step % c->log_every != 0 && !last) || !takes_lines(c)) return;
        char line[COLUMNS_MAX + 1];
        dt_console_format(c, COLUMNS_MAX, line, sizeof line);
        fprintf(c->out, "%s\n", line);
        fflush(c->out);
    }
    c->shown_at = now;
    c->n_finite = 0;
    c->loss_sum = c->metric_sum = c->time_s = c->n_sample = c->data_wait_s = 0;
}

/* A line of its own above the progress line. */
static void note(dt_console *c, const char *text) {
    if (!takes_lines(c)) {
        c->n_unseen++;
        return;
    }
    const char *clear = c->line_shown ? "\r\x1b[K" : "";
    if (c->n_unseen > 0)
        fprintf(c->out, "%snote: nobody read what was written: missing here: %s\n", clear,
                dt_count_text(c->n_unseen, "message").s);
    fprintf(c->out, "%s%s\n", c->n_unseen > 0 ? "" : clear, text);
    c->n_unseen = 0;
    fflush(c->out);
    c->line_shown = false;
    /* The progress line comes back with the next step that may draw. */
    c->shown_at = 0;
}

/* Leaves the last progress line standing. */
static void end(dt_console *c) {
    if (c->line_shown) fputc('\n', c->out);
    fflush(c->out);
    c->line_shown = false;
}

static void tell(void *arg, const dt_news *n) {
    dt_console *c = arg;
    switch (n->kind) {
    case DT_NEWS_LINE:
        fprintf(c->out, "%s\n", n->text);
        if (c->flush) fflush(c->out);
        break;
    case DT_NEWS_NOTE:
    case DT_NEWS_EVALUATION:
        note(c, n->text);
        break;
    case DT_NEWS_WARNING:
        fprintf(c->err, "dtrain: %s\n", n->text);
        break;
    case DT_NEWS_START:
        start(c, n->run);
        break;
    case DT_NEWS_STEP:
        step(c, n->step);
        break;
    case DT_NEWS_END:
        end(c);
        break;
    }
}

dt_sink dt_console_sink(dt_console *c) {
    return (dt_sink){.tell = tell, .arg = c};
}

/* mpirun gives every rank a pseudo-terminal, whatever its own output is, so where a launcher started the rank, the
 * launcher's output is what counts. */
bool dt_console_is_watched(void) {
    if (!isatty(STDOUT_FILENO)) return false;
    if (!getenv("OMPI_COMM_WORLD_RANK")) return true;
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return false;
    bool terminal = isatty(fd) != 0;
    struct winsize size;
    /* The rank's own terminal has no size yet. */
    if (terminal && ioctl(fd, TIOCGWINSZ, &size) == 0) ioctl(STDOUT_FILENO, TIOCSWINSZ, &size);
    close(fd);
    return terminal;
}
