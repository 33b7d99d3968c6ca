/* metrics.jsonl, and the hand-out of each record to sink and TensorBoard. Formats and cuts; buffering is
 * in metrics_append.c. */
#include "train/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "core/dir.h"
#include "core/text.h"
#include "metrics_append.h"
#include "tfevents.h"

enum { PATH_BYTES = 4096 };

/* What a file of records holds up to the step to resume at. */
typedef struct history {
    bool exists;
    int64_t n_steps;
    bool evaluated; /* the evaluation of that step */
    bool sampled;   /* its sample */
    bool cut;       /* more was there, and is left out */
} history;

struct dt_metrics {
    dt_append jsonl;
    dt_tfevents *events; /* NULL: off */
    const dt_sink *sink;
    dt_scoreboard board;
    bool failed; /* a write failure was noted */
    history kept;
    char jsonl_path[PATH_BYTES], svg_path[PATH_BYTES];
};

/* Digits that tell any two float32 values apart, with some to spare for means. */
static const size_t json_flags = JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER;

static dt_status join_path(char out[PATH_BYTES], const char *dir, const char *name) {
    int n = snprintf(out, PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_BYTES) return dt_fail(DT_ERR_IO, "%.60s...: path too long", dir);
    return DT_OK;
}

/* A whole line that is a record of a step up to resume_step. */
static bool keeps_line(const char *line, size_t size, const dt_metrics_options *o, history *kept) {
    if (size == 0 || line[size - 1] != '\n') return false;
    json_t *record = json_loadb(line, size, 0, NULL);
    const json_t *step = json_object_get(record, "step");
    const char *kind = json_string_value(json_object_get(record, "kind"));
    bool keeps = kind && json_is_integer(step) && json_integer_value(step) <= o->resume_step;
    if (keeps && strcmp(kind, "train") == 0) kept->n_steps++;
    if (keeps && strcmp(kind, "eval") == 0 && json_integer_value(step) == o->resume_step) {
        /* One that was lost is made again. */
        keeps = json_is_number(json_object_get(record, "loss")) && !o->evaluate_again;
        kept->evaluated |= keeps;
    }
    kept->sampled |= keeps && strcmp(kind, "sample") == 0 && json_integer_value(step) == o->resume_step;
    json_decref(record);
    return keeps;
}

/* Copies the lines to keep. */
static dt_status copy_kept(FILE *in, FILE *out, const char *path, const dt_metrics_options *o,
                           history *kept) {
    char *line = NULL;
    size_t room = 0;
    dt_status status = DT_OK;
    for (ssize_t n = getline(&line, &room, in); n > 0; n = getline(&line, &room, in)) {
        if (!keeps_line(line, (size_t)n, o, kept))
            kept->cut = true;
        else if (fwrite(line, 1, (size_t)n, out) != (size_t)n)
            break;
    }
    free(line);
    if (ferror(in)) status = dt_fail(DT_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (ferror(out) || fflush(out) != 0 || fsync(fileno(out)) != 0)
        status = dt_fail(DT_ERR_IO, "%s.tmp: cannot be written: %s", path, strerror(errno));
    return status;
}

/* The old file stands until the shortened copy has replaced it. */
static dt_status cut_records(const char *path, const dt_metrics_options *o, history *kept) {
    dt_status status = DT_OK;
    FILE *out = NULL;
    char copy[PATH_BYTES + 24];
    snprintf(copy, sizeof copy, "%s.tmp", path);
    FILE *in = fopen(path, "rb");
    if (!in && errno == ENOENT) return DT_OK;
    if (!in) return dt_fail(DT_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (o->resume_step <= 0 || o->set_aside) {
        fclose(in);
        /* Starting anew beside old records: they are somebody's results. */
        snprintf(copy, sizeof copy, "%s.old", path);
        for (int i = 1; access(copy, F_OK) == 0; i++) snprintf(copy, sizeof copy, "%s.old.%d", path, i);
        if (rename(path, copy) != 0)
            return dt_fail(DT_ERR_IO, "%s: cannot be renamed: %s", path, strerror(errno));
        return DT_OK;
    }
    kept->exists = true;
    out = fopen(copy, "wb");
    if (!out) {
        status = dt_fail(DT_ERR_IO, "%s: cannot be opened: %s", copy, dt_create_error(copy, errno).s);
        goto done;
    }
    DT_TRY_GOTO(status, copy_kept(in, out, path, o, kept), done);
    if (kept->cut && rename(copy, path) != 0)
        status = dt_fail(DT_ERR_IO, "%s: cannot be replaced: %s", path, strerror(errno));
done:
    fclose(in);
    if (out) fclose(out);
    if (out && (!kept->cut || status != DT_OK)) unlink(copy);
    return status;
}

dt_status dt_metrics_open(const dt_metrics_options *o, dt_metrics **out) {
    *out = NULL;
    dt_status status = DT_OK;
    dt_metrics *m = calloc(1, sizeof *m);
    if (!m) return dt_fail(DT_ERR_MEMORY, "out of memory for the metrics");
    m->jsonl.fd = -1;
    m->sink = o->sink;
    m->board = o->board;
    DT_TRY_GOTO(status, join_path(m->jsonl_path, o->out_dir, "metrics.jsonl"), done);
    DT_TRY_GOTO(status, join_path(m->svg_path, o->out_dir, "curves.svg"), done);
    DT_TRY_GOTO(status, cut_records(m->jsonl_path, o, &m->kept), done);
    DT_TRY_GOTO(status, dt_append_open(&m->jsonl, m->jsonl_path, false), done);
    dt_sink_tell(m->sink, &(dt_news){.kind = DT_NEWS_START, .run = o});
    int64_t first_step = o->resume_step > 0 ? o->resume_step + 1 : 0;
    if (o->tensorboard) DT_TRY_GOTO(status, dt_tfevents_open(o->out_dir, first_step, &m->events), done);
    if (m->kept.exists && m->kept.n_steps < o->resume_step)
        dt_metrics_note(m, "note: %s lacks the records of %lld of the %lld steps before", m->jsonl_path,
                        (long long)(o->resume_step - m->kept.n_steps), (long long)o->resume_step);
done:
    if (status == DT_OK) {
        *out = m;
    } else {
        dt_append_close(&m->jsonl);
        free(m);
    }
    return status;
}

/* Says a write failure once; the run goes on. */
static void note_failure(dt_metrics *m, dt_status status, const char *what) {
    if (status == DT_OK || m->failed) return;
    m->failed = true;
    dt_metrics_note(m, "warning: %s: %s (training goes on; records may be missing)", what, dt_error_text());
}

/* JSON knows neither NaN nor infinity. */
static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

/* Takes the record. */
static void append_json(dt_metrics *m, json_t *record) {
    dt_status status = DT_OK;
    char *line = record ? json_dumps(record, json_flags) : NULL;
    json_decref(record);
    if (line) {
        size_t n = strlen(line);
        line[n] = '\n'; /* in the place of the terminator: the file has lines, not strings */
        status = dt_append_record(&m->jsonl, line, n + 1);
        free(line);
    } else {
        status = dt_fail(DT_ERR_MEMORY, "out of memory for a record");
        m->jsonl.lost = true;
    }
    note_failure(m, status, "metrics.jsonl");
}

/* The date and time now, in UTC, as ISO 8601 has it. */
static const char *date_now(char out[32]) {
    const time_t now = time(NULL);
    struct tm utc;
    out[0] = '\0';
    if (gmtime_r(&now, &utc)) strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return out;
}

void dt_metrics_start(dt_metrics *m, const dt_start_record *r) {
    if (!m) return;
    char date[32];
    json_t *hosts = json_array();
    for (int32_t i = 0; i < r->n_host; i++) json_array_append_new(hosts, json_string(r->host[i]));
    append_json(m, json_pack("{s:s, s:I, s:I, s:s, s:I, s:i, s:o, s:s, s:s, s:s}", "kind", "start", "step",
                             (json_int_t)r->step, "total_steps", (json_int_t)r->total_steps, "job", r->job,
                             "restart", (json_int_t)r->restart, "ranks", (int)r->n_ranks, "hosts", hosts,
                             "date", date_now(date), "version", r->version, "commit", r->commit));
    note_failure(m, dt_append_flush(&m->jsonl, false), "metrics.jsonl");
}

void dt_metrics_begun(dt_metrics *m, const dt_weights *w) {
    if (!m) return;
    json_t *fresh = json_array(), *ignored = json_array();
    for (int32_t i = 0; i < w->n_fresh; i++) json_array_append_new(fresh, json_string(w->fresh[i]));
    for (int32_t i = 0; i < w->n_ignored; i++) json_array_append_new(ignored, json_string(w->ignored[i]));
    append_json(m, json_pack("{s:s, s:i, s:s, s:s, s:i, s:b, s:o, s:o}", "kind", "weights", "step", 0, "from",
                             w->path, "format", w->kind, "taken", (int)w->n, "averaged", (int)w->averaged,
                             "drawn", fresh, "not_taken", ignored));
}

void dt_metrics_end(dt_metrics *m, const dt_end_record *r) {
    if (!m) return;
    char date[32];
    append_json(m,
                json_pack("{s:s, s:I, s:I, s:s, s:s, s:I, s:s}", "kind", "end", "step", (json_int_t)r->step,
                          "total_steps", (json_int_t)r->total_steps, "status", r->done ? "done" : "stopped",
                          "job", r->job, "restart", (json_int_t)r->restart, "date", date_now(date)));
}

/* All scores into the record, under their names with `prefix`. */
static void put_scores(json_t *record, const dt_metrics *m, const dt_scores *s, bool in_training,
                       const char *prefix) {
    double value;
    const char *name;
    for (int32_t i = 0; (name = dt_score_at(&m->board, s, in_training, i, &value)) != NULL; i++) {
        char key[2 * DT_SCORE_NAME_MAX];
        snprintf(key, sizeof key, "%s%s", prefix, name);
        json_object_set_new(record, key, number(value));
    }
}

enum { SCALARS_MAX = 2 * (1 + DT_TASK_METRICS_MAX + DT_LOSSES_MAX) + 8, TAG_MAX = 2 * DT_SCORE_NAME_MAX };

/* What a record is in TensorBoard. */
typedef struct scalars {
    dt_tfscalar at[SCALARS_MAX];
    char tag[SCALARS_MAX][TAG_MAX];
    int n;
} scalars;

static void add_scalar(scalars *s, const char *section, const char *name, double value) {
    snprintf(s->tag[s->n], TAG_MAX, "%s%s", section, name);
    s->at[s->n] = (dt_tfscalar){s->tag[s->n], value};
    s->n++;
}

static void add_scores(scalars *s, const dt_metrics *m, const dt_scores *scores, bool in_training,
                       const char *section) {
    double value;
    const char *name;
    for (int32_t i = 0; (name = dt_score_at(&m->board, scores, in_training, i, &value)) != NULL; i++)
        add_scalar(s, section, name, value);
}

void dt_metrics_train(dt_metrics *m, const dt_train_record *r) {
    if (!m) return;
    json_t *record =
        json_pack("{s:s, s:I, s:o}", "kind", "train", "step", (json_int_t)r->step, "epoch", number(r->epoch));
    put_scores(record, m, &r->score, true, "");
    json_t *rest =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "lr", number(r->lr), "grad_norm", number(r->grad_norm),
                  "samples_per_s", number(r->samples_per_s), "step_ms", number(r->step_ms), "data_wait",
                  number(r->data_wait), "skipped", (int)r->skipped);
    json_object_update(record, rest);
    json_decref(rest);
    append_json(m, record);
    if (m->events) {
        scalars s = {.n = 0};
        add_scores(&s, m, &r->score, true, "train/");
        add_scalar(&s, "train/", "lr", r->lr);
        add_scalar(&s, "train/", "grad_norm", r->grad_norm);
        add_scalar(&s, "train/", "epoch", r->epoch);
        add_scalar(&s, "speed/", "samples_per_s", r->samples_per_s);
        add_scalar(&s, "speed/", "data_wait", r->data_wait);
        note_failure(m, dt_tfevents_write(m->events, r->step, s.n, s.at), "TensorBoard events");
    }
    dt_sink_tell(m->sink, &(dt_news){.kind = DT_NEWS_STEP, .step = r});
}

const char *dt_loss_text(double loss, char out[DT_LOSS_TEXT]) {
    snprintf(out, DT_LOSS_TEXT, isfinite(loss) ? "%.4f" : "not finite", loss);
    return out;
}

bool dt_metrics_evaluated(const dt_metrics *m) {
    return m->kept.evaluated;
}

bool dt_metrics_sampled(const dt_metrics *m) {
    return m->kept.sampled;
}

void dt_scores_text(const dt_scoreboard *b, const dt_scores *s, int32_t n, char *out, size_t size) {
    char loss[DT_LOSS_TEXT], value[DT_METRIC_TEXT];
    size_t used = (size_t)snprintf(out, size, "loss %s", dt_loss_text(s->loss, loss));
    for (int32_t i = 0; i < b->task->n_metric && i < n && used < size; i++)
        if (dt_scoreboard_has(b, i))
            used += (size_t)snprintf(out + used, size - used, ", %s %s", b->task->metric[i].label,
                                     dt_metric_text(&b->task->metric[i], s->metric[i], value));
    for (int32_t i = 0; i < b->n_own && n > 1 && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, ", %s %s", b->own[i], dt_loss_text(s->own[i], loss));
}

void dt_metrics_eval(dt_metrics *m, const dt_eval_record *r) {
    if (!m) return;
    json_t *record =
        json_pack("{s:s, s:I, s:o}", "kind", "eval", "step", (json_int_t)r->step, "epoch", number(r->epoch));
    put_scores(record, m, &r->score, false, "");
    json_t *rest =
        json_pack("{s:o, s:o, s:I, s:b}", "lr", number(r->lr), "samples_per_s", number(r->samples_per_s),
                  "n_samples", (json_int_t)r->n_samples, "ema", (int)r->ema);
    json_object_update(record, rest);
    json_decref(rest);
    if (r->n_tokens > 0) json_object_set_new(record, "n_tokens", json_integer((json_int_t)r->n_tokens));
    if (r->ema) put_scores(record, m, &r->current, false, "current_");
    append_json(m, record);
    if (m->events) {
        scalars s = {.n = 0};
        add_scores(&s, m, &r->score, false, "eval/");
        if (r->ema) add_scores(&s, m, &r->current, false, "eval/current_");
        note_failure(m, dt_tfevents_write(m->events, r->step, s.n, s.at), "TensorBoard events");
    }
    char scores[512], current[512] = "", text[1280];
    dt_scores_text(&m->board, &r->score, DT_TASK_METRICS_MAX, scores, sizeof scores);
    if (r->ema) {
        const size_t used =
            (size_t)snprintf(current, sizeof current, ", averaged weights; current weights: ");
        dt_scores_text(&m->board, &r->current, 1, current + used, sizeof current - used);
    }
    snprintf(text, sizeof text, "evaluation at step %lld, epoch %s: %s%s (%s)", (long long)r->step,
             dt_decimal_text(r->epoch).s, scores, current,
             r->n_tokens > 0 ? dt_count_text(r->n_tokens, "token").s
                             : dt_count_text(r->n_samples, "sample").s);
    dt_sink_tell(m->sink, &(dt_news){.kind = DT_NEWS_EVALUATION, .text = text, .eval = r});
}

/* One line whatever the text is: what would steer a terminal is shown as an escape. */
static char *one_line(const dt_sample_record *r) {
    char *line = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&line, &n);
    if (!f) return NULL;
    fprintf(f, "sample at step %lld: ", (long long)r->step);
    for (int part = 0; part < 2; part++) {
        const char *text = part ? r->text : r->prompt;
        const size_t size = part ? r->n_text : strlen(r->prompt);
        for (size_t i = 0; i < size; i++) {
            const unsigned char c = (unsigned char)text[i];
            if (c == '\n')
                fputs("\\n", f);
            else if (c < 0x20 || c == 0x7f)
                fprintf(f, "\\x%02x", c);
            else
                fputc(c, f);
        }
    }
    if (fclose(f) == 0) return line;
    free(line);
    return NULL;
}

void dt_metrics_sample(dt_metrics *m, const dt_sample_record *r) {
    if (!m) return;
    append_json(m, json_pack("{s:s, s:I, s:s, s:s%, s:I}", "kind", "sample", "step", (json_int_t)r->step,
                             "prompt", r->prompt, "text", r->text, r->n_text, "n_tokens",
                             (json_int_t)r->n_token));
    if (m->events) {
        const size_t n_prompt = strlen(r->prompt);
        char *whole = malloc(n_prompt + r->n_text + 1);
        if (whole) {
            memcpy(whole, r->prompt, n_prompt);
            memcpy(whole + n_prompt, r->text, r->n_text);
            note_failure(m, dt_tfevents_text(m->events, r->step, "sample", whole, n_prompt + r->n_text),
                         "TensorBoard events");
        }
        free(whole);
    }
    char *line = one_line(r);
    if (line) dt_tell(m->sink, DT_NEWS_NOTE, "%s", line);
    free(line);
}

void dt_metrics_note(dt_metrics *m, const char *fmt, ...) {
    if (!m) return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    dt_tell(m->sink, DT_NEWS_NOTE, "%s", text);
}

void dt_metrics_flush(dt_metrics *m) {
    if (!m) return;
    note_failure(m, dt_append_flush(&m->jsonl, true), "metrics.jsonl");
    if (m->events) note_failure(m, dt_tfevents_flush(m->events, false), "TensorBoard events");
}

dt_metrics_files dt_metrics_close(dt_metrics *m) {
    dt_metrics_files written = {.records = false};
    if (!m) return written;
    dt_sink_tell(m->sink, &(dt_news){.kind = DT_NEWS_END});
    dt_metrics_flush(m);
    written.records = m->jsonl.used == 0 && !m->jsonl.lost;
    dt_append_close(&m->jsonl);
    written.curves = dt_plot_curves(m->jsonl_path, m->svg_path) == DT_OK;
    if (!written.curves) dt_metrics_note(m, "warning: there is no plot: %s", dt_error_text());
    dt_tfevents_close(m->events);
    free(m);
    return written;
}
