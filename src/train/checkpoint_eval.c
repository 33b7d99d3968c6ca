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

typedef struct metric_row {
    const char *name;
    size_t offset;
    bool higher; /* is better */
} metric_row;

static const metric_row metric_table[DT_BEST_COUNT] = {
    [DT_BEST_EVAL_TOP1] = {"eval_top1", offsetof(dt_ckpt_eval, top1), true},
    [DT_BEST_EVAL_TOP5] = {"eval_top5", offsetof(dt_ckpt_eval, top5), true},
    [DT_BEST_EVAL_LOSS] = {"eval_loss", offsetof(dt_ckpt_eval, loss), false},
};

const char *dt_best_metric_name(dt_best_metric metric) {
    return metric_table[metric].name;
}

/* The metric so that more is better; -INFINITY where the evaluation was not finite. */
static double merit(const dt_ckpt_eval *e, dt_best_metric metric) {
    double value;
    memcpy(&value, (const char *)e + metric_table[metric].offset, sizeof value);
    if (e->step < 0 || !isfinite(e->loss) || !isfinite(value)) return -INFINITY;
    return metric_table[metric].higher ? value : -value;
}

dt_ckpt_eval dt_ckpt_eval_none(dt_best_metric metric) {
    return (dt_ckpt_eval){.step = -1,
                          .loss = NAN,
                          .top1 = NAN,
                          .top5 = NAN,
                          .metric = (int64_t)metric,
                          .best = NAN,
                          .best_step = -1};
}

void dt_ckpt_eval_add(dt_ckpt_eval *e, int64_t step, double loss, double top1, double top5,
                      dt_best_metric metric, double min_delta) {
    const bool repeated = e->step == step;
    if (e->metric != (int64_t)metric) *e = dt_ckpt_eval_none(metric);
    e->loss = isfinite(loss) ? loss : NAN;
    e->top1 = top1;
    e->top5 = top5;
    if (repeated && e->step == step) return;
    e->step = step;
    const double now = merit(e, metric), best = metric_table[metric].higher ? e->best : -e->best;
    const bool better = e->best_step < 0 ? isfinite(now) : now > best + min_delta;
    e->worse = better ? 0 : e->worse + 1;
    if (!better) return;
    e->best = metric_table[metric].higher ? now : -now;
    e->best_step = step;
}

/* ---- evaluation.json ---- */

/* JSON knows no NaN. */
static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static dt_status format(const dt_ckpt_eval *e, char **text) {
    json_t *root =
        json_pack("{s:s, s:i, s:I, s:o, s:o, s:o, s:s, s:o, s:I, s:I}", "format", format_name, "version",
                  FORMAT_VERSION, "step", (json_int_t)e->step, "loss", number(e->loss), "top1",
                  number(e->top1), "top5", number(e->top5), "metric", metric_table[e->metric].name, "best",
                  number(e->best), "best_step", (json_int_t)e->best_step, "worse", (json_int_t)e->worse);
    if (root == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for " DT_CKPT_EVAL_FILE);
    dt_status status = dt_ckpt_json_format(root, checksum_name, text);
    json_decref(root);
    return status;
}

static bool get_number(const json_t *v, double *out) {
    *out = json_is_real(v) ? json_real_value(v) : NAN;
    return json_is_real(v) || json_is_null(v);
}

static dt_status parse(const char *text, size_t bytes, dt_ckpt_eval *e) {
    json_t *root, *loss, *top1, *top5, *best;
    const char *name, *metric, *xxh3;
    int version;
    json_int_t step, best_step, worse;
    DT_TRY(dt_ckpt_json_parse(text, bytes, checksum_name, &root));
    bool good = json_unpack(root, "{s:s, s:i, s:I, s:o, s:o, s:o, s:s, s:o, s:I, s:I, s:s !}", "format",
                            &name, "version", &version, "step", &step, "loss", &loss, "top1", &top1, "top5",
                            &top5, "metric", &metric, "best", &best, "best_step", &best_step, "worse", &worse,
                            checksum_name, &xxh3) == 0 &&
                strcmp(name, format_name) == 0 && version == FORMAT_VERSION && step >= -1 &&
                best_step >= -1 && best_step <= step && worse >= 0 && get_number(loss, &e->loss) &&
                get_number(top1, &e->top1) && get_number(top5, &e->top5) && get_number(best, &e->best) &&
                isfinite(e->best) == (best_step >= 0);
    e->metric = -1;
    for (int m = 0; good && m < DT_BEST_COUNT; m++)
        if (strcmp(metric, metric_table[m].name) == 0) e->metric = m;
    if (good) e->step = step, e->best_step = best_step, e->worse = worse;
    good = good && e->metric >= 0;
    json_decref(root);
    return good ? DT_OK
                : dt_fail(DT_ERR_CHECKPOINT, "not the record of an evaluation that this dtrain knows");
}

dt_status dt_ckpt_eval_read(const char *checkpoint, dt_ckpt_eval *e, bool *found) {
    char path[DT_CKPT_PATH_MAX], *text;
    size_t bytes;
    *e = dt_ckpt_eval_none(DT_BEST_EVAL_TOP1);
    *found = false;
    DT_TRY(dt_ckpt_path(path, checkpoint, DT_CKPT_EVAL_FILE));
    if (access(path, F_OK) != 0 && errno == ENOENT) return DT_OK;
    *found = true;
    DT_TRY(dt_ckpt_file_read(path, FILE_BYTES_MAX, &text, &bytes));
    dt_status status = parse(text, bytes, e);
    free(text);
    if (status == DT_OK) return DT_OK;
    *e = dt_ckpt_eval_none(DT_BEST_EVAL_TOP1);
    dt_error_context("%s", path);
    return status;
}

static bool same_number(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

static bool same(const dt_ckpt_eval *a, const dt_ckpt_eval *b) {
    return a->step == b->step && same_number(a->loss, b->loss) && same_number(a->top1, b->top1) &&
           same_number(a->top5, b->top5) && a->metric == b->metric && same_number(a->best, b->best) &&
           a->best_step == b->best_step && a->worse == b->worse;
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
