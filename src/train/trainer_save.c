/* The run directory: lock, resuming, saving. */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/dir.h"
#include "core/text.h"
#include "data/agree.h"
#include "data/facts.h"
#include "job.h"
#include "train/export.h"
#include "trainer_internal.h"

static bool is_file(const char *dir, const char *name) {
    char path[DT_KEY_STRING_MAX + 64];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &s) == 0;
}

/* Whether the run in run.out_dir was begun by this very run.resume, and has gone on from there. */
static bool was_begun_so(const dt_config *c) {
    char path[DT_KEY_STRING_MAX + 32];
    dt_config before;
    snprintf(path, sizeof path, "%s/config.toml", c->run.out_dir);
    if (!is_file(c->run.out_dir, "config.toml") || dt_config_load(&before, path, 0, NULL) != DT_OK)
        return false;
    const bool same = strcmp(before.run.resume, c->run.resume) == 0;
    dt_config_fini(&before);
    return same;
}

/* Where a link such as checkpoints/best leads now: by the time that another rank looks it may lead
 * elsewhere. */
static const char *follow_link(const char *path, char target[sizeof((dt_ckpt *)0)->path]) {
    struct stat s;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--; /* a slash behind a link would stand for what it leads to */
    snprintf(target, sizeof((dt_ckpt *)0)->path, "%.*s", (int)n, path);
    if (n >= sizeof((dt_ckpt *)0)->path || lstat(target, &s) != 0 || !S_ISLNK(s.st_mode)) return path;
    char *real = realpath(target, NULL);
    if (real && strlen(real) < sizeof((dt_ckpt *)0)->path)
        strcpy(target, real);
    else
        snprintf(target, sizeof((dt_ckpt *)0)->path, "%s", path);
    free(real);
    return target;
}

/* Rank 0 chooses and verifies; *out NULL when there is nothing to resume from. */
static dt_status choose(const dt_config *c, bool must, const dt_sink *sink, dt_ckpt **out) {
    void *to = (void *)sink;
    char dir[DT_KEY_STRING_MAX + 16];
    const char *resume = c->run.resume;
    struct stat st;
    *out = NULL;
    if (strcmp(resume, "never") == 0 && !must) return DT_OK;
    if (strcmp(resume, "auto") == 0 || strcmp(resume, "never") == 0) {
        snprintf(dir, sizeof dir, "%s/checkpoints", c->run.out_dir);
        DT_TRY(dt_ckpt_load_latest(dir, dt_tell_warning, to, out));
        if (!*out && must)
            return dt_fail(DT_ERR_CHECKPOINT, "there is no checkpoint in %s; set run.resume to one", dir);
        return DT_OK;
    }
    if (!must && was_begun_so(c)) {
        snprintf(dir, sizeof dir, "%s/checkpoints", c->run.out_dir);
        DT_TRY(dt_ckpt_load_latest(dir, dt_tell_warning, to, out));
        if (*out) return DT_OK;
    }
    if (strcmp(resume, "best") == 0) {
        snprintf(dir, sizeof dir, "%s/checkpoints", c->run.out_dir);
        DT_TRY(dt_ckpt_load_best(dir, (dt_best_metric)c->checkpoint.best_metric, dt_tell_warning, to, out));
        if (*out) return DT_OK;
        return dt_fail(DT_ERR_CHECKPOINT,
                       "run.resume = \"best\", but no checkpoint in %s was evaluated with a finite result",
                       dir);
    }
    char target[sizeof((dt_ckpt *)0)->path];
    resume = follow_link(resume, target);
    if (is_file(resume, "manifest.json")) return dt_ckpt_load(resume, out);
    if (stat(resume, &st) == 0 && !S_ISDIR(st.st_mode))
        return dt_fail(DT_ERR_CHECKPOINT,
                       "run.resume = \"%s\" is a file: a checkpoint is the whole directory, step-...",
                       resume);
    snprintf(dir, sizeof dir, "%s/checkpoints", resume);
    const char *where = access(dir, R_OK) == 0 ? dir : resume;
    DT_TRY(dt_ckpt_load_latest(where, dt_tell_warning, to, out));
    if (!*out)
        return dt_fail(DT_ERR_CHECKPOINT,
                       "run.resume = \"%s\" is neither a checkpoint nor a run directory with checkpoints",
                       resume);
    return DT_OK;
}

/* One try; *gone: the run that writes there removed the checkpoint before all ranks had read it. */
static dt_status load(const dt_config *c, dt_comm *mpi, bool must, const dt_sink *sink, dt_ckpt **out,
                      bool *gone) {
    char path[sizeof((dt_ckpt *)0)->path] = "";
    *out = NULL;
    *gone = false;
    dt_status st = mpi->rank == 0 ? choose(c, must, sink, out) : DT_OK;
    DT_TRY(dt_comm_agree(mpi, st));
    if (*out) snprintf(path, sizeof path, "%s", (*out)->path);
    DT_TRY(dt_comm_bcast_host(mpi, path, (int64_t)sizeof path, 0));
    if (!path[0]) return DT_OK;
    st = dt_comm_agree(mpi, mpi->rank == 0 ? DT_OK : dt_ckpt_load(path, out));
    if (st == DT_OK) return DT_OK;
    dt_ckpt_free(*out);
    *out = NULL;
    double missing = mpi->rank == 0 && access(path, F_OK) != 0;
    if (dt_comm_max_host(mpi, &missing, 1) == DT_OK) *gone = missing > 0;
    return st;
}

dt_status dt_trainer_load(const dt_config *c, dt_comm *mpi, bool must, const dt_sink *sink, dt_ckpt **out) {
    enum { TRIES = 5 };
    bool gone = true;
    dt_status st = DT_OK;
    for (int i = 0; gone && i < TRIES; i++) st = load(c, mpi, must, sink, out, &gone);
    return st;
}

bool dt_trainer_renormalised(const dt_ckpt *k, const dt_session *s) {
    const uint64_t before = k->meta.statistics_xxh3, now = s->statistics_xxh3;
    return before && now && before != now;
}

dt_status dt_trainer_same_classes(const dt_ckpt *k, const dt_session *s) {
    const uint64_t before = k->meta.classes_xxh3, now = s->classes_xxh3;
    if (!before || !now || before == now) return DT_OK;
    return dt_fail(
        DT_ERR_CONFIG,
        "%s was written on a training set with other class names, or in another order, than %s has: its "
        "labels mean something else; %s",
        k->path, s->train_data ? s->config->data.train : "the data of this evaluation",
        s->train_data ? "start anew with another run.out_dir"
                      : "import the data with that run's classes (--class-names)");
}

dt_status dt_trainer_same_file(const dt_ckpt *k, const dt_config *c) {
    static const char key[] = "\npath_xxh3 = \"";
    const char *at = k->config_text ? strstr(k->config_text, key) : NULL;
    if (!at || !c->model.path_xxh3[0]) return DT_OK;
    at += strlen(key);
    const size_t n = strcspn(at, "\"");
    if (n == 0 || (n == strlen(c->model.path_xxh3) && strncmp(at, c->model.path_xxh3, n) == 0)) return DT_OK;
    return dt_fail(DT_ERR_CONFIG,
                   "%s was written with another file in the place of %s: its hash was %.*s and is %s; bring "
                   "it back, or start "
                   "anew with another run.out_dir",
                   k->path, c->model.path, (int)n, at, c->model.path_xxh3);
}

bool dt_trainer_averages_weights_alone(const dt_config *c, const dt_ckpt *k) {
    bool weights = false;
    for (int32_t i = 0; i < k->n_tensor && !weights; i++)
        weights = strncmp(k->tensor[i].name, "ema/", strlen("ema/")) == 0;
    return c->train.ema > 0 && weights && dt_ckpt_find(k, DT_CKPT_LOCAL_STATE) &&
           !dt_ckpt_find(k, DT_CKPT_LOCAL_EMA);
}

const char dt_trainer_weights_alone[] =
    "this checkpoint's averaged weights have no averaged batch norm statistics: those start from the current "
    "ones, "
    "and an evaluation of the average is off until about 1 / (1 - train.ema) more steps are done";

/* What the checkpoint knows of the training set; nothing where it knows none. */
static dt_data_facts facts_before(const dt_ckpt *k) {
    dt_data_facts f = {0};
    if (k->data_text && dt_data_facts_parse(k->data_text, &f) != DT_OK) dt_data_facts_free(&f);
    return f;
}

static bool has_other_samples(const dt_trainer *t, const dt_ckpt *k) {
    const uint64_t now = dt_data_samples_hash(t->session.train_data);
    dt_data_facts before = facts_before(k);
    const uint64_t then = before.samples_xxh3;
    dt_data_facts_free(&before);
    return then && now && then != now;
}

static dt_status same_samples(const dt_trainer *t, const dt_ckpt *k) {
    const dt_config *c = t->config;
    dt_data_facts before = facts_before(k);
    const dt_status fields = dt_data_same_fields(&before.info, t->session.train_data, c->data.train);
    dt_data_facts_free(&before);
    if (fields != DT_OK) dt_error_context("%s", k->path);
    DT_TRY(fields);
    if (c->data.allow_changed || !has_other_samples(t, k)) return DT_OK;
    return dt_fail(
        DT_ERR_CONFIG,
        "%s was written on a training set with other samples, or in another order, than %s holds now: start "
        "anew with another run.out_dir, or set data.allow_changed = true to train on with these",
        k->path, c->data.train);
}

/* A checkpoint continues only a run that draws the same samples. */
static dt_status check_fits(const dt_trainer *t, const dt_ckpt *k) {
    const dt_config *c = t->config;
    if (k->meta.global_batch != c->train.global_batch)
        return dt_fail(DT_ERR_CONFIG,
                       "%s was written with train.global_batch = %lld, this run has %lld: the position in "
                       "the data would not fit; "
                       "keep the batch, or start anew with run.resume = \"never\" and another run.out_dir",
                       k->path, (long long)k->meta.global_batch, (long long)c->train.global_batch);
    if (k->meta.seed != c->run.seed)
        return dt_fail(DT_ERR_CONFIG, "%s was written with run.seed = %lld, this run has %lld: keep the seed",
                       k->path, (long long)k->meta.seed, (long long)c->run.seed);
    if (k->meta.train_samples != t->n_samples)
        return dt_fail(DT_ERR_CONFIG,
                       "%s was written on a training set of %s, %s has %lld: the position in the data would "
                       "not fit; start anew with another run.out_dir",
                       k->path, dt_count_text(k->meta.train_samples, "sample").s, c->data.train,
                       (long long)t->n_samples);
    DT_TRY(dt_trainer_same_file(k, c));
    DT_TRY(dt_trainer_same_classes(k, &t->session));
    DT_TRY(same_samples(t, k));
    if (k->meta.samples != k->meta.step * k->meta.global_batch || k->meta.step < 0)
        return dt_fail(DT_ERR_CHECKPOINT, "%s: step %lld and %s do not belong together", k->path,
                       (long long)k->meta.step, dt_count_text(k->meta.samples, "sample").s);
    return DT_OK;
}

/* The next line of a text without its end; false after the last. */
static bool next_line(const char **at, char *line, size_t size) {
    if (!**at) return false;
    size_t n = strcspn(*at, "\n");
    snprintf(line, size, "%.*s", (int)(n < size ? n : size - 1), *at);
    *at += n + ((*at)[n] == '\n');
    return true;
}

/* The arrays of tables stand last, those of one kind together. */
static const char tables_head[] = "\n[[";
static const char *const table_kinds[] = {"\n[[model.layers]]", "\n[[model.losses]]", "\n[[optim.groups]]"};

/* Those of one kind within a configuration's text. */
static const char *tables_of(const char *text, const char *kind, size_t *n) {
    const char *first = strstr(text, kind), *end = first;
    while (end && strncmp(end, kind, strlen(kind)) == 0) {
        const char *next = strstr(end + 1, tables_head);
        end = next ? next : end + strlen(end);
    }
    *n = first ? (size_t)(end - first) : 0;
    return first;
}

/* A key that does not count is written as a comment. */
static void without_mark(char *line) {
    if (strncmp(line, "# ", 2) == 0) memmove(line, line + 2, strlen(line) - 1);
}

/* The line of the same section and key in the text of an older version; false where that had no such key. */
static bool find_line(const char *text, const char *section, const char *line, char *out, size_t size) {
    const size_t n_key = (size_t)(strchr(line, '=') - line) + 1;
    bool inside = false;
    while (next_line(&text, out, size)) {
        if (out[0] == '[') inside = strcmp(out, section) == 0;
        without_mark(out);
        if (inside && strncmp(out, line, n_key) == 0) return true;
    }
    return false;
}

static void tell_differences(const dt_sink *sink, const char *old, const dt_config *c) {
    char section[64] = "", was[DT_KEY_STRING_MAX], line[DT_KEY_STRING_MAX], *text;
    if (dt_config_to_text(c, &text) != DT_OK) return;
    const char *rest = text, *tables = strstr(text, tables_head);
    dt_tell(sink, DT_NEWS_LINE,
            "note: the configuration differs from the checkpoint's, and the run continues with the new one:");
    while (rest != tables && next_line(&rest, line, sizeof line)) {
        if (line[0] == '[') snprintf(section, sizeof section, "%.60s", line);
        without_mark(line);
        if (strchr(line, '=') && find_line(old, section, line, was, sizeof was) && strcmp(line, was) != 0)
            dt_tell(sink, DT_NEWS_LINE, "  %s %s, was: %s", section, line, was);
    }
    for (size_t k = 0; k < sizeof table_kinds / sizeof table_kinds[0]; k++) {
        size_t n, n_old;
        const char *now = tables_of(text, table_kinds[k], &n), *then = tables_of(old, table_kinds[k], &n_old);
        if (n != n_old || (n > 0 && memcmp(now, then, n) != 0))
            dt_tell(sink, DT_NEWS_LINE, "  the %s", table_kinds[k] + 1);
    }
    free(text);
}

static void tell_regrouped(const dt_trainer *t) {
    int32_t n_fresh, n_dropped;
    dt_engine_regrouped(t->session.engine, &n_fresh, &n_dropped);
    if (n_fresh == 0 && n_dropped == 0) return;
    dt_tell(t->sink, DT_NEWS_LINE,
            "note: %s not trained before begin%s with fresh optimizer state; %s now frozen lose%s theirs",
            dt_count_text(n_fresh, "parameter").s, n_fresh == 1 ? "s" : "",
            dt_count_text(n_dropped, "parameter").s, n_dropped == 1 ? "s" : "");
}

static dt_status resume(dt_trainer *t) {
    dt_ckpt *k = NULL;
    DT_TRY(dt_trainer_load(t->config, t->mpi, false, t->sink, &k));
    if (!k) return dt_trainer_begin(t);
    dt_status st = check_fits(t, k);
    if (st == DT_OK) st = dt_engine_load(t->session.engine, k);
    st = dt_comm_agree(t->mpi, st);
    if (st == DT_OK) {
        snprintf(t->resumed, sizeof t->resumed, "%s", k->path);
        t->step = k->meta.step;
        t->eval = k->eval;
        t->evaluation_kept = k->has_eval;
        t->skipped_in_a_row = k->meta.skipped_in_a_row;
        if (k->meta.loss_scale > 0 && t->config->train.loss_scale_growth > 0) {
            t->loss_scale = k->meta.loss_scale;
            t->good_steps = k->meta.good_steps;
        }
        if (t->root) {
            dt_tell(t->sink, DT_NEWS_LINE, "resuming %s at step %lld", k->path, (long long)k->meta.step);
            tell_regrouped(t);
            if (t->config->model.init.from[0])
                dt_tell(t->sink, DT_NEWS_LINE,
                        "note: model.init_from is not read: the run goes on with its own weights");
            if (k->eval_damaged)
                dt_tell(t->sink, DT_NEWS_LINE,
                        "note: its evaluation.json is damaged: the best evaluation and the patience begin "
                        "anew");
            if (has_other_samples(t, k))
                dt_tell(t->sink, DT_NEWS_LINE,
                        "note: %s holds other samples than the checkpoint was written on",
                        t->config->data.train);
            if (dt_trainer_renormalised(k, &t->session))
                dt_tell(t->sink, DT_NEWS_LINE,
                        "note: images are normalised with another mean and deviation than before");
            if (dt_trainer_averages_weights_alone(t->config, k))
                dt_tell(t->sink, DT_NEWS_LINE, "note: %s", dt_trainer_weights_alone);
            if (k->meta.config_hash != dt_config_hash(t->config))
                tell_differences(t->sink, k->config_text, t->config);
        }
    }
    dt_ckpt_free(k);
    return st;
}

static dt_status write_config(dt_trainer *t) {
    char path[DT_KEY_STRING_MAX + 32], temporary[sizeof path + 8];
    DT_TRY(dt_config_to_text(t->config, &t->config_text));
    snprintf(path, sizeof path, "%s/config.toml", t->config->run.out_dir);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    /* A finished run keeps the settings it was made with. */
    if (dt_trainer_is_done(t) && t->resumed_here && access(path, F_OK) == 0) return DT_OK;
    FILE *f = fopen(temporary, "w");
    bool failed = !f || fputs(t->config_text, f) == EOF;
    if (f) failed |= fclose(f) != 0;
    if (!failed && rename(temporary, path) == 0) return DT_OK;
    dt_status st = dt_fail(DT_ERR_IO, "cannot write %s: %s", path, dt_create_error(path, errno).s);
    (void)unlink(temporary);
    return st;
}

/* Whether `path` is one of the entries of `dir`, whatever links lead there. */
static bool is_within(const char *path, const char *dir) {
    char *real = realpath(path, NULL), *of_dir = realpath(dir, NULL);
    const bool within = real && of_dir && strcmp(dirname(real), of_dir) == 0;
    free(real), free(of_dir);
    return within;
}

/* Rank 0: a run that does not continue the directory's newest checkpoint must not mix with it: a later "auto"
 * would take it for its own. */
static dt_status refuse_mixing(const dt_trainer *t) {
    int64_t newest; /* -1: none */
    if (strcmp(t->config->run.resume, "auto") == 0) return DT_OK;
    dt_status st = dt_ckpt_newest_step(t->ckpt_dir, &newest);
    const int64_t reached = t->resumed_here ? t->step : -1;
    if (st == DT_OK && newest <= reached) return DT_OK;
    if (st == DT_OK && strcmp(t->config->run.resume, "best") == 0)
        return dt_fail(
            DT_ERR_CONFIG,
            "run.resume = \"best\" is step %lld, but %s goes on to step %lld, with which a run from there "
            "would mix: to train on from it set run.resume = \"%s\" and another run.out_dir",
            (long long)t->step, t->ckpt_dir, (long long)newest, t->resumed);
    return dt_fail(
        DT_ERR_CONFIG,
        "run.resume = \"%s\", but %s holds checkpoints of an earlier run: choose another run.out_dir, "
        "remove them, or set run.resume = \"auto\"",
        t->config->run.resume, t->ckpt_dir);
}

/* A job that was put back into the queue may meet ranks of its earlier start, on a host that its scheduler
 * has lost: they end when their watchdog does. */
static dt_status lock(dt_trainer *t) {
    const double reserve_s = 60;
    const double wait_s = dt_job_here().restart > 0 ? t->config->dist.timeout_s + reserve_s : 0;
    return dt_run_lock(t->config->run.out_dir, wait_s, dt_tell_warning, (void *)t->sink, &t->lock_fd);
}

/* What others get of each checkpoint. */
static dt_status choose_export(dt_trainer *t, dt_ckpt_policy *policy) {
    dt_dataset_info info;
    if (t->config->checkpoint.export == DT_EXPORT_NONE) return DT_OK;
    policy->export = dt_engine_weights(t->session.engine);
    if (t->config->checkpoint.export != DT_EXPORT_ONNX) return DT_OK;
    dt_dataset_info_get(t->session.train_data, &info);
    DT_TRY(dt_engine_eval_graph(t->session.engine, NULL, &info, DT_ONNX_EXPORT_ROWS, &t->exported));
    policy->export_graph = t->exported;
    return DT_OK;
}

static dt_status open_root(dt_trainer *t) {
    DT_TRY(dt_dir_create(t->ckpt_dir));
    DT_TRY(lock(t));
    char *data;
    DT_TRY(dt_data_facts_text(t->session.train_data, &data));
    dt_ckpt_policy policy = dt_trainer_policy(t);
    policy.data_text = data;
    dt_status st = choose_export(t, &policy);
    if (st == DT_OK) st = dt_ckpt_writer_create(&policy, &t->writer);
    free(data);
    return st;
}

dt_ckpt_policy dt_trainer_policy(const dt_trainer *t) {
    const dt_config *c = t->config;
    return (dt_ckpt_policy){.dir = t->ckpt_dir,
                            .sink = t->sink,
                            .keep_last = c->checkpoint.keep_last,
                            .keep_every = c->checkpoint.keep_every,
                            .keep_best = c->checkpoint.keep_best,
                            .task = c->model.task,
                            .best_metric = (dt_best_metric)c->checkpoint.best_metric};
}

/* The evaluations of a run belong to its directory. */
static dt_status continue_evaluations(dt_trainer *t) {
    const dt_config *c = t->config;
    const dt_best_metric metric = (dt_best_metric)c->checkpoint.best_metric;
    const bool judged = c->train.early_stop_patience > 0 && t->eval.best_step >= 0;
    if (t->resumed_here)
        t->resumed_step = t->step;
    else
        t->eval = dt_ckpt_eval_none(c->model.task, metric);
    if (t->root && t->resumed_here && judged && t->eval.metric != (int64_t)metric)
        dt_tell(t->sink, DT_NEWS_LINE,
                "note: checkpoint.best_metric was %s: the best evaluation and the patience begin anew",
                dt_metric_choices[t->eval.metric]);
    if (t->eval.metric != (int64_t)metric || t->eval.task != c->model.task) {
        const dt_ckpt_eval e = t->eval;
        t->eval = dt_ckpt_eval_none(c->model.task, metric);
        if (e.step >= 0 && e.task == c->model.task)
            dt_ckpt_eval_add(&t->eval, e.step, &e.score, metric, c->train.early_stop_min_delta);
    }
    return dt_comm_bcast_host(t->mpi, &t->eval, (int64_t)sizeof t->eval, 0);
}

/* Rank 0: what a kill may have left undone behind the checkpoint. A run that is done stays as it is, whatever
 * retention is now asked for. */
static void catch_up(dt_trainer *t) {
    const bool due = t->evaluation_kept && t->resumed_here && !dt_trainer_is_done(t);
    dt_ckpt_writer_evaluated(t->writer, &t->eval, due ? t->step : -1);
}

/* After resuming: a run that cannot go on stays as it was. */
static dt_status open_records(dt_trainer *t) {
    dt_dataset_info info;
    DT_TRY(write_config(t));
    dt_dataset_info_get(t->session.train_data, &info);
    dt_metrics_options o = {.out_dir = t->config->run.out_dir,
                            .board = t->session.board,
                            .tensorboard = t->config->run.tensorboard,
                            .resume_step = t->step,
                            .set_aside = !t->resumed_here,
                            .evaluate_again = t->evaluation_kept && dt_trainer_eval_due(t, t->step) &&
                                              t->eval.step != t->step,
                            .total_steps = t->total_steps,
                            .images = info.channels > 0,
                            .sink = t->sink};
    DT_TRY(dt_metrics_open(&o, &t->metrics));
    dt_trainer_record_start(t);
    if (t->weights.n > 0) dt_metrics_begun(t->metrics, &t->weights);
    return DT_OK;
}

dt_status dt_trainer_open_run(dt_trainer *t) {
    dt_status st;
    snprintf(t->ckpt_dir, sizeof t->ckpt_dir, "%s/checkpoints", t->config->run.out_dir);
    /* A disk may be slower than a step may take. */
    dt_watchdog_pause(t->session.watchdog, true);
    DT_TRY_GOTO(st, dt_comm_agree(t->mpi, t->root ? open_root(t) : DT_OK), out);
    DT_TRY_GOTO(st, resume(t), out);
    double here = t->root && t->resumed[0] && is_within(t->resumed, t->ckpt_dir);
    DT_TRY_GOTO(st, dt_comm_max_host(t->mpi, &here, 1), out);
    t->resumed_here = here > 0;
    DT_TRY_GOTO(st, dt_comm_agree(t->mpi, t->root ? refuse_mixing(t) : DT_OK), out);
    DT_TRY_GOTO(st, continue_evaluations(t), out);
    st = dt_comm_agree(t->mpi, t->root ? open_records(t) : DT_OK);
    if (st == DT_OK && t->root) catch_up(t);
out:
    dt_watchdog_pause(t->session.watchdog, false);
    return st;
}

static bool stops_on_error(const dt_trainer *t) {
    return t->config->checkpoint.on_error == DT_SAVE_ERROR_STOP;
}

/* The result of a finished save; failures are notes unless the user wants to stop. */
static dt_status settle(dt_trainer *t, dt_status st) {
    if (st == DT_OK || stops_on_error(t)) return st;
    dt_metrics_note(t->metrics, "%s; training goes on", dt_error_text());
    t->save_lost = true;
    return DT_OK;
}

static dt_status save_root(dt_trainer *t, int32_t n, const dt_ckpt_tensor *tensors, bool final) {
    dt_ckpt_meta meta = {
        .step = t->step,
        .samples = t->step * t->config->train.global_batch,
        .global_batch = t->config->train.global_batch,
        .n_micro_all = dt_engine_division(t->session.engine)->n_micro_all,
        .seed = t->config->run.seed,
        .loss_scale = t->loss_scale,
        .good_steps = t->good_steps,
        .skipped_in_a_row = t->skipped_in_a_row,
        .config_hash = dt_config_hash(t->config),
        .train_samples = t->n_samples,
        .classes_xxh3 = t->session.classes_xxh3,
        .statistics_xxh3 = t->session.statistics_xxh3,
    };
    snprintf(meta.optimizer, sizeof meta.optimizer, "%s", dt_optim_names[t->config->optim.kind]);
    DT_TRY(dt_engine_updates(t->session.engine, &meta.optimizer_steps));
    char earlier[1024] = "";
    dt_status before = dt_ckpt_writer_wait(t->writer);
    if (before != DT_OK && stops_on_error(t))
        snprintf(earlier, sizeof earlier, "%s", dt_error_text());
    else
        before = settle(t, before);
    t->save_lost = false;
    dt_metrics_flush(t->metrics);
    dt_status st = dt_ckpt_writer_save(t->writer, &meta, n, tensors, t->config_text);
    const bool last = final || before != DT_OK;
    if (st == DT_OK && (last || !t->config->checkpoint.async)) st = dt_ckpt_writer_wait(t->writer);
    if (before == DT_OK || st != DT_OK) return last ? st : settle(t, st);
    /* A save failed, which ends the run, but this one has what the run has learnt. */
    if (final) {
        dt_metrics_note(t->metrics, "%s; a later save went well", earlier);
        return DT_OK;
    }
    dt_error_set_text(earlier);
    dt_error_context("step %lld is saved, an earlier save failed", (long long)t->step);
    return before;
}

bool dt_trainer_save_failed(dt_trainer *t) {
    if (!t->root || !dt_ckpt_writer_failed(t->writer)) return false;
    if (stops_on_error(t)) return true;
    return settle(t, dt_ckpt_writer_wait(t->writer)) != DT_OK;
}

/* Waits for the save that was begun at this step; whether it has come to anything. */
static dt_status await_save(dt_trainer *t, bool *saved) {
    dt_watchdog_pause(t->session.watchdog, true);
    dt_status st = dt_comm_agree(t->mpi, t->root ? settle(t, dt_ckpt_writer_wait(t->writer)) : DT_OK);
    dt_watchdog_pause(t->session.watchdog, false);
    double lost = t->root && t->save_lost;
    if (st == DT_OK) st = dt_comm_max_host(t->mpi, &lost, 1);
    *saved = !(lost > 0);
    return st;
}

dt_status dt_trainer_save(dt_trainer *t, bool final) {
    int32_t n;
    const dt_ckpt_tensor *tensors;
    bool saved = false;
    dt_watchdog_beat(t->session.watchdog, t->step, "saving");
    if (t->saved_step == t->step) DT_TRY(await_save(t, &saved));
    if (saved) return DT_OK;
    DT_TRY(dt_engine_snapshot(t->session.engine, &n, &tensors));
    t->saved_step = t->step;
    t->save_asked = false;
    t->last_save_s = dt_time_s();
    /* Writing may take longer than a step may: the disk's slowness is not a stall. */
    dt_watchdog_pause(t->session.watchdog, true);
    dt_status st = dt_comm_agree(t->mpi, t->root ? save_root(t, n, tensors, final) : DT_OK);
    dt_watchdog_pause(t->session.watchdog, false);
    return st;
}
