/* The training loop. Decisions that concern all ranks (stop, save, give up) follow from sums that travelled
 * with the gradients, read a fixed number of steps late, so every rank decides the same at the same step
 * without extra messages. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "dist/signals.h"
#include "report.h"
#include "train/stages.h"
#include "trained.h"
#include "trainer_internal.h"

/* Whether step number `step` (steps done) is the first at or past a multiple of `every` epochs. */
static bool crosses_epochs(const dt_trainer *t, int64_t step, double every) {
    return every > 0 && floor(dt_trainer_epoch(t, step) / every + 1e-9) >
                            floor(dt_trainer_epoch(t, step - 1) / every + 1e-9);
}

bool dt_trainer_eval_due(const dt_trainer *t, int64_t step) {
    if (!t->session.val_data) return false;
    return step == t->total_steps || crosses_epochs(t, step, (double)t->config->train.eval_every_epochs);
}

static bool save_due(const dt_trainer *t, int64_t step) {
    const int64_t every = t->config->checkpoint.every_steps;
    return step == t->total_steps || t->save_asked || (every > 0 && step % every == 0) ||
           crosses_epochs(t, step, t->config->checkpoint.every_epochs);
}

static dt_step_params step_params(const dt_trainer *t, int64_t micro) {
    const dt_config *c = t->config;
    dt_step_params p = {
        .lr = (float)dt_trainer_lr(t, t->step),
        .loss_weight = (float)(1.0 / (double)c->train.global_batch),
        .ema_decay = (float)dt_schedule_ema(c->train.ema, c->train.ema_warmup, t->step),
        .seed = (uint64_t)c->run.seed,
        .step = (uint64_t)t->step,
        .micro = (uint64_t)micro,
    };
    return p;
}

/* Slots whose batch may still be on its way to the device. */
typedef struct in_flight {
    dt_batch batch[DT_FEEDS_MAX];
    int64_t fed[DT_FEEDS_MAX];
    int32_t n;
} in_flight;

/* Gives slots back, oldest first, until at most `keep` are held. */
static dt_status release_to(dt_trainer *t, dt_loader *loader, in_flight *f, int32_t keep) {
    while (f->n > keep) {
        DT_TRY(dt_engine_input_wait(t->session.engine, f->fed[0]));
        dt_loader_release(loader, &f->batch[0]);
        f->n--;
        memmove(f->batch, f->batch + 1, sizeof f->batch[0] * (size_t)f->n);
        memmove(f->fed, f->fed + 1, sizeof f->fed[0] * (size_t)f->n);
    }
    return DT_OK;
}

/* Queues one whole step. */
static dt_status run_step(dt_trainer *t, dt_loader *loader, in_flight *f) {
    dt_engine *e = t->session.engine;
    const dt_division *d = dt_engine_division(e);
    const double minutes = t->config->checkpoint.every_minutes;
    bool save = t->root && minutes > 0 && dt_time_s() - t->last_save_s > 60 * minutes;
    save |= dt_trainer_save_failed(t);
    DT_TRY(dt_engine_begin_step(e, dt_signal_pending(), save));
    for (int64_t m = 0; m < d->n_micro; m++) {
        const bool last = m == d->n_micro - 1;
        double wait_s = 0;
        dt_watchdog_beat(t->session.watchdog, t->step, "waiting for data");
        DT_TRY(release_to(t, loader, f, DT_FEEDS_MAX - 1));
        DT_TRY(dt_loader_next(loader, &f->batch[f->n], &wait_s));
        t->data_wait_s += wait_s;
        dt_watchdog_beat(t->session.watchdog, t->step,
                         last ? "forward, backward and gradient exchange" : "forward and backward");
        f->fed[f->n] = dt_engine_fed(e);
        dt_step_params p = step_params(t, f->batch[f->n].micro);
        p.first_micro = m == 0;
        DT_TRY(dt_engine_feed(e, &f->batch[f->n], false));
        f->n++;
        DT_TRY(dt_engine_micro(e, &p, last));
        if (!t->session.be->info.is_gpu) DT_TRY(release_to(t, loader, f, 0));
    }
    return dt_engine_end_step(e, t->step);
}

static const char nonfinite_advice[] =
    "lower optim.lr, lengthen the warm-up, set train.clip_norm, or use a wider train.precision";

/* Takes the result of one step: what all ranks must decide, then what rank 0 reports. */
static dt_status take_result(dt_trainer *t) {
    dt_step_result r;
    dt_watchdog_beat(t->session.watchdog, t->step, "gradient exchange and update");
    DT_TRY(dt_engine_result(t->session.engine, &r));
    if (r.metric[DT_METRIC_STOP] > 0) t->stop = true;
    if (r.metric[DT_METRIC_SAVE] > 0) t->save_asked = true;
    if (t->config->train.loss_scale_growth > 0) {
        t->loss_scale = (double)r.metric[DT_METRIC_LOSS_SCALE];
        t->good_steps = (int64_t)r.metric[DT_METRIC_GOOD_STEPS];
    }
    const bool skipped = r.metric[DT_METRIC_SKIPPED] > 0; /* the device decides on the gradient alone */
    t->skipped_in_a_row = skipped || !isfinite(r.metric[DT_METRIC_LOSS]) ? t->skipped_in_a_row + 1 : 0;
    dt_trainer_report_step(t, &r);
    if (t->skipped_in_a_row > t->config->train.max_skipped)
        return dt_fail(DT_ERR_NONFINITE,
                       "the loss or the gradient was not finite in %s in a row up to step %lld: %s; the last "
                       "checkpoint is untouched",
                       dt_count_text(t->skipped_in_a_row, "step").s, (long long)r.step + 1, nonfinite_advice);
    return DT_OK;
}

static dt_status take_results(dt_trainer *t, int32_t leave) {
    while (dt_engine_pending(t->session.engine) > leave) DT_TRY(take_result(t));
    return DT_OK;
}

/* Whether a checkpoint of this step was begun, or is what the run continues. */
static bool has_checkpoint(const dt_trainer *t) {
    return t->saved_step == t->step || t->resumed_step == t->step;
}

/* What an evaluation means for the run; rank 0 decides, so that no rounding can part the ranks. */
static dt_status judge(dt_trainer *t, const dt_eval_result *r) {
    const dt_config *c = t->config;
    dt_scores score = r->score;
    if (t->eval_lost) score.loss = NAN;
    dt_ckpt_eval_add(&t->eval, t->step, &score, (dt_best_metric)c->checkpoint.best_metric,
                     c->train.early_stop_min_delta);
    DT_TRY(dt_comm_bcast_host(t->mpi, &t->eval, (int64_t)sizeof t->eval, 0));
    if (t->root) dt_ckpt_writer_evaluated(t->writer, &t->eval, has_checkpoint(t) ? t->step : -1);
    if (dt_trainer_stops_early(t) && t->step < t->total_steps) dt_trainer_report_early_stop(t);
    return DT_OK;
}

static dt_status evaluate(dt_trainer *t) {
    dt_eval_result r, current = {.n_samples = 0};
    const bool ema = t->config->train.ema > 0;
    DT_TRY(dt_session_same_parameters(&t->session));
    DT_TRY(dt_session_evaluate(&t->session, t->step, ema, &r));
    /* Both, so that it shows when the average lags behind. */
    if (ema && !r.interrupted) DT_TRY(dt_session_evaluate(&t->session, t->step, false, &current));
    if (r.interrupted || current.interrupted) {
        t->stop = true;
        return DT_OK;
    }
    dt_trainer_report_eval(t, &r, ema ? &current : NULL);
    t->eval_lost = !isfinite(r.score.loss) || !isfinite(current.score.loss);
    return judge(t, &r);
}

/* A step that is to be kept as one of the best is saved now, where it has no checkpoint yet. */
static dt_status keep_best(dt_trainer *t) {
    const dt_ckpt_policy policy = dt_trainer_policy(t);
    if (policy.keep_best == 0 || has_checkpoint(t)) return DT_OK;
    double best = t->root && dt_ckpt_is_among_best(&policy, &t->eval);
    DT_TRY(dt_comm_max_host(t->mpi, &best, 1));
    return best > 0 ? dt_trainer_save(t, false) : DT_OK;
}

/* A run that skips updates may be on its way to ruin, and what it saves would push out good checkpoints: such
 * a save waits for the next good step. What a run ends with is kept in any case. */
static dt_status save_or_wait(dt_trainer *t, bool due) {
    const bool last = t->stop || t->step == t->total_steps;
    if (last || (due && t->skipped_in_a_row == 0)) return dt_trainer_save(t, last);
    t->save_asked |= due;
    return DT_OK;
}

/* A run that was stopped or lost between a step's checkpoint and the end of its evaluation has no record of
 * that, or not both. */
static dt_status make_up_evaluation(dt_trainer *t) {
    double missing =
        t->root && t->step > 0 && dt_trainer_eval_due(t, t->step) && !dt_metrics_evaluated(t->metrics);
    DT_TRY(dt_comm_max_host(t->mpi, &missing, 1));
    return missing > 0 ? evaluate(t) : DT_OK;
}

/* The same of a sample. */
static dt_status make_up_sample(dt_trainer *t) {
    double missing =
        t->root && t->step > 0 && dt_trainer_sample_due(t, t->step) && !dt_metrics_sampled(t->metrics);
    DT_TRY(dt_comm_max_host(t->mpi, &missing, 1));
    return missing > 0 ? dt_trainer_sample(t) : DT_OK;
}

/* The loader of the stage in which the next step is, as far as the stage goes. */
static dt_status open_loader(dt_trainer *t, dt_loader **loader) {
    const dt_config *c = t->config;
    const int32_t stage = dt_stage_at(c, t->step, t->steps_per_epoch);
    t->stage_end = dt_min_i64(t->total_steps, dt_stage_first_step(c, stage + 1, t->steps_per_epoch));
    dt_session_set_stage(&t->session, stage);
    if (t->root && c->train.n_stage > 0 && t->step < t->stage_end)
        dt_tell(t->sink, DT_NEWS_LINE, "stage %d of %d from step %lld: %s", stage + 1, c->train.n_stage,
                (long long)t->step, dt_stage_describe(c, stage).s);
    const dt_status st = dt_session_loader(&t->session, false, t->step, t->stage_end - t->step, loader);
    return dt_comm_agree(t->mpi, st);
}

static dt_status train_steps(dt_trainer *t, dt_loader **loader) {
    in_flight f = {.n = 0};
    const int32_t lag = dt_engine_lag(t->session.engine);
    DT_TRY(make_up_sample(t));
    DT_TRY(make_up_evaluation(t));
    /* No step follows, and what came from another directory is to be in this one, too. */
    const bool ends = t->step > 0 && (t->stop || dt_trainer_is_done(t));
    if (ends && !t->resumed_here) DT_TRY(dt_trainer_save(t, true));
    while (!dt_trainer_is_done(t) && !t->stop) {
        if (t->step == t->stage_end) {
            DT_TRY(release_to(t, *loader, &f, 0));
            dt_loader_close(*loader);
            *loader = NULL;
            DT_TRY(open_loader(t, loader));
        }
        DT_TRY(run_step(t, *loader, &f));
        t->step++;
        bool eval = dt_trainer_eval_due(t, t->step);
        DT_TRY(take_results(t, eval || t->step == t->total_steps ? 0 : lag));
        bool save = save_due(t, t->step), sample = dt_trainer_sample_due(t, t->step);
        if (eval || save || sample || t->stop) DT_TRY(take_results(t, 0));
        /* Saved first: what makes an evaluation fail must not cost the steps before it. */
        DT_TRY(save_or_wait(t, save));
        if (sample && !t->stop) DT_TRY(dt_trainer_sample(t));
        if (!eval || t->stop) continue;
        DT_TRY(evaluate(t));
        DT_TRY(t->stop || dt_trainer_stops_early(t) ? dt_trainer_save(t, true) : keep_best(t));
    }
    DT_TRY(release_to(t, *loader, &f, 0));
    if (t->stop) return DT_OK;
    if (t->skipped_in_a_row == 0 && t->eval_lost)
        return dt_fail(DT_ERR_NONFINITE,
                       "the run ends with weights that give a loss that is not finite in evaluation: %s",
                       nonfinite_advice);
    if (t->skipped_in_a_row == 0) return DT_OK;
    return dt_fail(DT_ERR_NONFINITE,
                   "the run ends with %lld step%s in a row whose loss or gradient was not finite, and which "
                   "changed nothing: %s",
                   (long long)t->skipped_in_a_row, dt_plural(t->skipped_in_a_row), nonfinite_advice);
}

/* The error text stays that of the run, if that has failed. */
static void close_run(dt_trainer *t, dt_status st) {
    char text[4096];
    const bool together =
        t->session.mpi && (st == DT_OK || st == DT_STOPPED || dt_comm_fails_together(t->mpi, st));
    snprintf(text, sizeof text, "%s", dt_error_text());
    dt_watchdog_pause(t->session.watchdog, true); /* a save under way may take its time */
    if (t->writer && dt_ckpt_writer_wait(t->writer) != DT_OK)
        dt_metrics_note(t->metrics, "%s", dt_error_text());
    dt_ckpt_writer_destroy(t->writer);
    dt_graph_destroy(t->exported);
    dt_trainer_record_end(t, st);
    t->written = dt_metrics_close(t->metrics);
    /* The others do not end before rank 0 has written all. */
    const dt_status met = together ? dt_comm_barrier(t->mpi) : DT_OK;
    dt_watchdog_pause(t->session.watchdog, false);
    if (st == DT_OK && met != DT_OK)
        st = met;
    else
        dt_error_set_text(text);
    dt_run_unlock(t->lock_fd);
    free(t->config_text);
    dt_weights_free(&t->weights);
    dt_trainer_close_samples(t);
    dt_session_close(&t->session, st);
}

static dt_status check_patience(const dt_trainer *t) {
    if (t->config->train.early_stop_patience == 0 || !dt_trainer_metric_is_blind(t)) return DT_OK;
    return dt_fail(
        DT_ERR_CONFIG,
        "train.early_stop_patience: checkpoint.best_metric = \"eval_top5\" decides, but there are "
        "no more than five classes and each answer is among the first five: choose \"eval_top1\" or "
        "\"eval_loss\"");
}

dt_status dt_trainer_run(const dt_config *c, dt_comm *mpi, double start_s, const dt_sink *sink) {
    dt_trainer t = {.config = c,
                    .mpi = mpi,
                    .sink = sink,
                    .root = mpi->rank == 0,
                    .lock_fd = -1,
                    .saved_step = -1,
                    .resumed_step = -1,
                    .eval = dt_ckpt_eval_none(c->model.task, (dt_best_metric)c->checkpoint.best_metric),
                    .start_s = start_s,
                    .loss_scale = c->train.loss_scale,
                    .last_save_s = start_s};
    dt_loader *loader = NULL;
    dt_status st = dt_signal_install();
    DT_TRY_GOTO(st, dt_comm_agree(mpi, st), out);
    dt_trainer_banner(&t);
    DT_TRY_GOTO(st, dt_session_open(c, mpi, true, sink, &t.session), out);
    dt_dataset_info info;
    dt_dataset_info_get(t.session.train_data, &info);
    t.n_samples = info.n_samples;
    t.n_classes = dt_max_i64(c->model.classes, info.n_classes);
    DT_TRY_GOTO(st, check_patience(&t), out);
    t.total_steps = dt_session_total_steps(&t.session);
    t.steps_per_epoch = dt_session_steps_per_epoch(&t.session);
    if (t.loss_scale <= 0) t.loss_scale = c->train.precision == DT_PRECISION_FP16 ? 1024 : 1;
    DT_TRY_GOTO(st, dt_trainer_open_run(&t), out);
    st = dt_engine_set_loss_scale(t.session.engine, (float)t.loss_scale, (int32_t)t.good_steps);
    DT_TRY_GOTO(st, dt_comm_agree(mpi, st), out);
    DT_TRY_GOTO(st, dt_trainer_open_samples(&t), out);
    dt_trainer_summary(&t);
    DT_TRY_GOTO(st, dt_session_same_parameters(&t.session), out);
    DT_TRY_GOTO(st, open_loader(&t, &loader), out);
    t.last_result_s = dt_time_s();
    st = train_steps(&t, &loader);
    if (st == DT_OK && t.stop) st = DT_STOPPED;
out:
    dt_loader_close(loader);
    close_run(&t, st);
    dt_trainer_farewell(&t, st);
    return st;
}

static bool has_average(const dt_ckpt *k) {
    bool found = false;
    for (int32_t i = 0; i < k->n_tensor && !found; i++) found = strncmp(k->tensor[i].name, "ema/", 4) == 0;
    return found;
}

/* Names of classes: the evaluation set's, else those that the checkpoint has. */
typedef struct class_names {
    const dt_dataset *set;
    const dt_data_facts *facts;
} class_names;

static const char *name_class(const void *of, int64_t i) {
    const class_names *n = of;
    const char *name = dt_dataset_class_name(n->set, i);
    return name[0] ? name : dt_data_facts_class(n->facts, i);
}

static dt_status write_report(dt_session *s, const dt_trained *t, dt_report *r, const char *dir) {
    const class_names names = {s->val_data, &t->facts};
    DT_TRY(dt_report_gather(s, r));
    dt_watchdog_pause(s->watchdog, true); /* a disk may be slow */
    const bool root = s->mpi->rank == 0;
    const dt_status st =
        dt_comm_agree(s->mpi, root ? dt_report_write(r, s->val_data, name_class, &names, dir) : DT_OK);
    dt_watchdog_pause(s->watchdog, false);
    if (root && st == DT_OK)
        dt_tell(s->sink, DT_NEWS_LINE,
                "report: classes.csv, confusion.csv, confusion.svg and mistakes.csv in %s", dir);
    return st;
}

/* Whether it is of a network in a file that no run has trained yet. All ranks return rank 0's answer. */
static dt_status is_untrained(const dt_config *c, dt_comm *mpi, bool *out) {
    char dir[DT_KEY_STRING_MAX + 16];
    int64_t step = 0;
    double yes = 0;
    snprintf(dir, sizeof dir, "%s/checkpoints", c->run.out_dir);
    if (mpi->rank == 0 && strcmp(c->model.name, "file") == 0 && strcmp(c->run.resume, "auto") == 0)
        yes = dt_ckpt_newest_step(dir, &step) == DT_OK && step < 0;
    DT_TRY(dt_comm_max_host(mpi, &yes, 1));
    *out = yes > 0;
    return DT_OK;
}

/* A score of what is no number is none. */
static dt_status check_score(const dt_eval_result *r, const char *whose) {
    char loss[DT_LOSS_TEXT];
    if (isfinite(r->score.loss)) return DT_OK;
    return dt_fail(DT_ERR_NONFINITE,
                   "%s: the loss of the evaluation is %s: weights or images beyond the numbers of "
                   "train.precision",
                   whose, dt_loss_text(r->score.loss, loss));
}

/* The weights of the file as they are. */
static dt_status evaluate_file(const dt_config *c, dt_comm *mpi, const dt_sink *sink) {
    dt_session s;
    dt_eval_result r = {0};
    char scores[512];
    int32_t n_given;
    if (c->model.init.head == DT_INIT_HEAD_NEW)
        return dt_fail(DT_ERR_CONFIG,
                       "model.init_head = \"new\" draws the last layer of %s, and no checkpoint in "
                       "run.out_dir has another: "
                       "nothing is to be evaluated",
                       c->model.path);
    DT_TRY(dt_session_open(c, mpi, false, sink, &s));
    dt_status st = dt_comm_agree(mpi, dt_engine_init(s.engine));
    if (st == DT_OK) st = dt_engine_begin_given(s.engine, &n_given);
    if (st == DT_OK && !s.val_data)
        st = dt_fail(DT_ERR_CONFIG, "data.val: is required: what is to be evaluated on");
    if (st == DT_OK) st = dt_session_evaluate(&s, 0, false, &r);
    if (st == DT_OK && mpi->rank == 0)
        dt_tell(sink, DT_NEWS_LINE, "%s, as it is: %s: %s (%s samples/s)", c->model.path,
                dt_count_text(r.n_samples, "sample").s,
                (dt_scores_text(&s.board, &r.score, DT_TASK_METRICS_MAX, scores, sizeof scores), scores),
                dt_number_text((double)r.n_samples / r.seconds).s);
    if (st == DT_OK) st = check_score(&r, c->model.path);
    dt_session_close(&s, st);
    return st;
}

dt_status dt_trainer_eval(const dt_config *c, dt_comm *mpi, const char *report, const dt_sink *sink) {
    dt_session s;
    dt_trained trained;
    dt_report verdicts = {0};
    dt_eval_result r = {0};
    char scores[512];
    if (report && !dt_task_of(&c->model)->classes)
        return dt_fail(DT_ERR_CONFIG,
                       "model.task = \"%s\": a report is of classes, and this network has none",
                       dt_task_of(&c->model)->name);
    bool untrained;
    DT_TRY(is_untrained(c, mpi, &untrained));
    if (untrained) return evaluate_file(c, mpi, sink);
    dt_status st = dt_trained_load(c, mpi, sink, &trained);
    if (st == DT_OK)
        st = dt_session_open_trained(c, mpi, trained.has_facts ? &trained.facts : NULL, NULL, sink, &s);
    if (st != DT_OK) {
        dt_trained_free(&trained);
        return st;
    }
    const dt_ckpt *ckpt = trained.ckpt;
    DT_TRY_GOTO(st, dt_trained_apply(&trained, &s), out);
    DT_TRY_GOTO(st, dt_comm_check_equal(mpi, report != NULL, "the report"), out);
    if (report) {
        DT_TRY_GOTO(st, dt_comm_agree(mpi, mpi->rank == 0 ? dt_report_place(report) : DT_OK), out);
        DT_TRY_GOTO(st, dt_comm_agree(mpi, dt_report_begin(&s, &verdicts)), out);
    }
    DT_TRY_GOTO(st, dt_session_evaluate(&s, ckpt->meta.step, c->train.ema > 0, &r), out);
    if (mpi->rank == 0)
        dt_tell(sink, DT_NEWS_LINE, "%s: step %lld, %s: %s%s (%s samples/s)", ckpt->path,
                (long long)ckpt->meta.step, dt_count_text(r.n_samples, "sample").s,
                (dt_scores_text(&s.board, &r.score, DT_TASK_METRICS_MAX, scores, sizeof scores), scores),
                c->train.ema > 0 && has_average(ckpt) ? ", averaged weights" : "",
                dt_number_text((double)r.n_samples / r.seconds).s);
    st = check_score(&r, ckpt->path);
    if (st == DT_OK && report) st = write_report(&s, &trained, &verdicts, report);
out:
    dt_report_free(&verdicts);
    dt_session_close(&s, st);
    dt_trained_free(&trained);
    return st;
}
