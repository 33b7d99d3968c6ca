/* What evaluation says of a checkpoint: evaluation.json, which is better, and the order of all. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint_internal.h"
#include "core/dir.h"

static const char format_name[] = "dtrain-evaluation", checksum_name[] = "xxh3";
enum { FORMAT_VERSION = 1, FILE_BYTES_MAX = 16 << 10 };

static const char *metric_name(int64_t metric) {
    return dt_metric_choices[metric] + strlen("eval_");
}

static bool is_higher_better(int64_t metric) {
    const dt_metric_row *row = dt_metric_find(metric_name(metric));
    return row && row->higher_is_better;
}

/* The metric so that more is better; -INFINITY where the evaluation was not finite, or of another task. */
static double merit(const dt_ckpt_eval *e, dt_best_metric metric) {
    const int32_t i = dt_best_metric_index(&dt_task_table[e->task], metric);
    const double value = metric == DT_BEST_EVAL_LOSS ? e->score.loss : i >= 0 ? e->score.metric[i] : NAN;
    if (e->step < 0 || !isfinite(e->score.loss) || !isfinite(value)) return -INFINITY;
    return is_higher_better((int64_t)metric) ? value : -value;
}

dt_ckpt_eval dt_ckpt_eval_none(int64_t task, dt_best_metric metric) {
    dt_ckpt_eval e = {.step = -1, .task = task, .metric = (int64_t)metric, .best = NAN, .best_step = -1};
    e.score.loss = NAN;
    for (int i = 0; i < DT_TASK_METRICS_MAX; i++) e.score.metric[i] = NAN;
    return e;
}

void dt_ckpt_eval_add(dt_ckpt_eval *e, int64_t step, const dt_scores *score, dt_best_metric metric,
                      double min_delta) {
    const bool repeated = e->step == step, higher = is_higher_better((int64_t)metric);
    if (e->metric != (int64_t)metric) *e = dt_ckpt_eval_none(e->task, metric);
    e->score = *score;
    if (!isfinite(score->loss)) e->score.loss = NAN;
    if (repeated && e->step == step) return;
    e->step = step;
    const double now = merit(e, metric), best = higher ? e->best : -e->best;
    const bool better = e->best_step < 0 ? isfinite(now) : now > best + min_delta;
    e->worse = better ? 0 : e->worse + 1;
    if (!better) return;
    e->best = higher ? now : -now;
    e->best_step = step;
}

/* ---- evaluation.json ---- */

/* JSON knows no NaN. */
static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static dt_status format(const dt_ckpt_eval *e, char **text) {
    const dt_task_row *task = &dt_task_table[e->task];
    json_t *root = json_pack("{s:s, s:i, s:I, s:o}", "format", format_name, "version", FORMAT_VERSION, "step",
                             (json_int_t)e->step, "loss", number(e->score.loss));
    for (int32_t i = 0; i < task->n_metric; i++)
        json_object_set_new(root, task->metric[i].name, number(e->score.metric[i]));
    json_t *rest =
        json_pack("{s:s, s:o, s:I, s:I}", "metric", dt_metric_choices[e->metric], "best", number(e->best),
                  "best_step", (json_int_t)e->best_step, "worse", (json_int_t)e->worse);
    const bool good = root && rest && json_object_update(root, rest) == 0;
    json_decref(rest);
    if (!good) {
        json_decref(root);
        return dt_fail(DT_ERR_MEMORY, "no memory for " DT_CKPT_EVAL_FILE);
    }
    dt_status status = dt_ckpt_json_format(root, checksum_name, text);
    json_decref(root);
    return status;
}

static bool get_number(const json_t *v, double *out) {
    *out = json_is_real(v) ? json_real_value(v) : NAN;
    return json_is_real(v) || json_is_null(v);
}

/* The task of those metrics that the record has, and no others besides the n_known members. It has the first; later
 * ones may be younger than the record. */
static bool find_task(const json_t *root, size_t n_known, dt_ckpt_eval *e) {
    for (e->task = 0; dt_task_choices[e->task]; e->task++) {
        const dt_task_row *task = &dt_task_table[e->task];
        size_t n = n_known;
        bool has = true;
        for (int32_t i = 0; has && i < task->n_metric; i++) {
            const json_t *v = json_object_get(root, task->metric[i].name);
            e->score.metric[i] = NAN;
            n += v != NULL;
            has = v ? get_number(v, &e->score.metric[i]) : i > 0;
        }
        if (has && json_object_size(root) == n) return true;
    }
    return false;
}

static dt_status parse(const char *text, size_t bytes, dt_ckpt_eval *e) {
    enum { N_KNOWN = 9 };
    json_t *root, *loss, *best;
    const char *name, *metric, *xxh3;
    int version;
    json_int_t step, best_step, worse;
    DT_TRY(dt_ckpt_json_parse(text, bytes, checksum_name, &root));
    bool good = json_unpack(root, "{s:s, s:i, s:I, s:o, s:s, s:o, s:I, s:I, s:s}", "format", &name, "version",
                            &version, "step", &step, "loss", &loss, "metric", &metric, "best", &best,
                            "best_step", &best_step, "worse", &worse, checksum_name, &xxh3) == 0 &&
                strcmp(name, format_name) == 0 && version == FORMAT_VERSION && step >= -1 &&
                best_step >= -1 && best_step <= step && worse >= 0 && get_number(loss, &e->score.loss) &&
                get_number(best, &e->best) && isfinite(e->best) == (best_step >= 0) &&
                find_task(root, N_KNOWN, e);
    e->metric = -1;
    for (int64_t m = 0; good && dt_metric_choices[m]; m++)
        if (strcmp(metric, dt_metric_choices[m]) == 0) e->metric = m;
    if (good) e->step = step, e->best_step = best_step, e->worse = worse;
    good = good && e->metric >= 0;
    json_decref(root);
    return good ? DT_OK
                : dt_fail(DT_ERR_CHECKPOINT, "not the record of an evaluation that this dtrain knows");
}

dt_status dt_ckpt_eval_read(const char *checkpoint, dt_ckpt_eval *e, bool *found) {
    char path[DT_CKPT_PATH_MAX], *text;
    size_t bytes;
    *e = dt_ckpt_eval_none(0, DT_BEST_EVAL_TOP1);
    *found = false;
    DT_TRY(dt_ckpt_path(path, checkpoint, DT_CKPT_EVAL_FILE));
    if (access(path, F_OK) != 0 && errno == ENOENT) return DT_OK;
    *found = true;
    DT_TRY(dt_ckpt_file_read(path, FILE_BYTES_MAX, &text, &bytes));
    dt_status status = parse(text, bytes, e);
    free(text);
    if (status == DT_OK) return DT_OK;
    *e = dt_ckpt_eval_none(0, DT_BEST_EVAL_TOP1);
    dt_error_context("%s", path);
    return status;
}

static bool same_number(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

static bool same(const dt_ckpt_eval *a, const dt_ckpt_eval *b) {
    bool equal = a->step == b->step && a->task == b->task && same_number(a->score.loss, b->score.loss) &&
                 a->metric == b->metric && same_number(a->best, b->best) && a->best_step == b->best_step &&
                 a->worse == b->worse;
    for (int32_t i = 0; equal && i < dt_task_table[a->task].n_metric; i++)
        equal = same_number(a->score.metric[i], b->score.metric[i]);
    return equal;
}

dt_status dt_ckpt_eval_write(const char *checkpoint, const dt_ckpt_eval *e) {
    char path[DT_CKPT_PATH_MAX], temporary[DT_CKPT_PATH_MAX], *text;
    dt_ckpt_eval before;
    bool found;
    if (dt_ckpt_eval_read(checkpoint, &before, &found) == DT_OK && found && same(&before, e)) return DT_OK;
    DT_TRY(dt_ckpt_path(path, checkpoint, DT_CKPT_EVAL_FILE));
    DT_TRY(dt_ckpt_path(temporary, checkpoint, DT_CKPT_EVAL_FILE ".tmp"));
    (void)unlink(temporary); /* of a writer that was killed */
    DT_TRY(format(e, &text));
    dt_status status = dt_ckpt_file_write(temporary, text, strlen(text));
    free(text);
    if (status == DT_OK && rename(temporary, path) != 0)
        status = dt_fail(DT_ERR_IO, "%s: cannot replace: %s", path, strerror(errno));
    if (status == DT_OK) return dt_dir_sync(checkpoint);
    (void)unlink(temporary);
    return status;
}

/* ---- the order of all ---- */

typedef struct ranked {
    int64_t step;
    double merit;
} ranked;

static int best_first(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->merit != y->merit) return x->merit < y->merit ? 1 : -1;
    return (x->step > y->step) - (x->step < y->step);
}

/* Merit of the step's own evaluation; -INFINITY where it has none. */
static double merit_of_step(const char *dir, int64_t step, dt_best_metric metric) {
    char name[DT_CKPT_NAME_MAX], checkpoint[DT_CKPT_PATH_MAX];
    dt_ckpt_eval e;
    bool found;
    dt_ckpt_step_name(name, step);
    if (dt_ckpt_path(checkpoint, dir, name) != DT_OK || dt_ckpt_eval_read(checkpoint, &e, &found) != DT_OK ||
        e.step != step)
        return -INFINITY;
    return merit(&e, metric);
}

dt_status dt_ckpt_rank(const char *dir, dt_best_metric metric, int64_t newest, int64_t **step,
                       int32_t *n_step) {
    int32_t n_all, n = 0;
    DT_TRY(dt_ckpt_list(dir, step, &n_all));
    ranked *r = calloc((size_t)n_all + 1, sizeof *r);
    *n_step = 0;
    if (r == NULL) {
        free(*step);
        *step = NULL;
        return dt_fail(DT_ERR_MEMORY, "%s: no memory to rank its checkpoints", dir);
    }
    for (int32_t i = 0; i < n_all; i++) {
        if ((*step)[i] > newest) continue;
        r[n] = (ranked){(*step)[i], merit_of_step(dir, (*step)[i], metric)};
        n += isfinite(r[n].merit) && dt_ckpt_looks_good(dir, r[n].step);
    }
    qsort(r, (size_t)n, sizeof *r, best_first);
    for (int32_t i = 0; i < n; i++) (*step)[i] = r[i].step;
    *n_step = n;
    free(r);
    return DT_OK;
}

bool dt_ckpt_is_among_best(const dt_ckpt_policy *policy, const dt_ckpt_eval *e) {
    int64_t *step;
    int32_t n;
    const double own = merit(e, policy->best_metric);
    if (policy->keep_best <= 0 || !isfinite(own)) return false;
    if (dt_ckpt_rank(policy->dir, policy->best_metric, e->step - 1, &step, &n) != DT_OK) return true;
    const bool room = n < policy->keep_best;
    const bool better =
        !room && own > merit_of_step(policy->dir, step[policy->keep_best - 1], policy->best_metric);
    free(step);
    return room || better;
}
