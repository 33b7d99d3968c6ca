/* What the trainer tells: the summary at the start, each step, each evaluation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/model.h"
#include "core/schedule.h"
#include "core/text.h"
#include "core/version.h"
#include "job.h"
#include "trainer_internal.h"

static const char *const precision_name[] = {"fp32", "tf32", "bf16", "fp16"};

/* What is allowed and hardly meant. */
static void tell_notes(const dt_trainer *t) {
    const dt_config *c = t->config;
    const double warmup = dt_schedule_warmup(&c->schedule, t->steps_per_epoch);
    if (dt_trainer_is_done(t)) return;
    if (warmup >= (double)t->total_steps)
        dt_tell(t->sink, DT_NEWS_LINE,
                "note    the warm-up takes %s, the run has %lld: optim.lr is never reached",
                dt_count_text((int64_t)ceil(warmup), "step").s, (long long)t->total_steps);
    if (t->steps_per_epoch < 1)
        dt_tell(t->sink, DT_NEWS_LINE,
                "note    a batch is larger than the training set: a step sees each sample %s times",
                dt_decimal_text(1 / t->steps_per_epoch).s);
    if (c->checkpoint.keep_best > 0 && !t->session.val_data)
        dt_tell(t->sink, DT_NEWS_LINE,
                "note    checkpoint.keep_best has nothing to judge by: data.val is not set");
    if (c->checkpoint.keep_best > 0 && t->session.val_data && dt_trainer_metric_is_blind(t))
        dt_tell(
            t->sink, DT_NEWS_LINE,
            "note    checkpoint.keep_best keeps the first: by checkpoint.best_metric = \"eval_top5\" all are "
            "equal with no more than five classes");
    const double reach = c->train.ema > 0 && c->train.ema_warmup == 0 ? 1 / (1 - c->train.ema) : 0;
    if (reach > (double)t->total_steps)
        dt_tell(t->sink, DT_NEWS_LINE,
                "note    train.ema = %g: the average reaches back about %.0f steps, the run has only %lld: "
                "the initial "
                "weights stay in it; lower train.ema, set train.ema_warmup, or train longer",
                c->train.ema, reach, (long long)t->total_steps);
    if (c->left_out[0])
        dt_tell(t->sink, DT_NEWS_LINE, "note    not used, as the command line chose otherwise than %s: %s",
                c->path, c->left_out);
    if (dt_trainer_nohup_in_vain())
        dt_tell(
            t->sink, DT_NEWS_LINE,
            "note    mpirun does not heed nohup and ends this run when the terminal closes: start it with "
            "nohup launch/train, or setsid mpirun");
}

/* The host of rank r, if no rank before it is there, too; else NULL. */
static const char *new_host(const dt_trainer *t, int32_t r) {
    const char *host = dt_comm_host(t->mpi, r);
    for (int32_t i = 0; i < r; i++)
        if (strcmp(dt_comm_host(t->mpi, i), host) == 0) return NULL;
    return host;
}

void dt_trainer_banner(const dt_trainer *t) {
    enum { HOSTS_SHOWN = 16 };
    if (!t->root) return;
    const dt_job job = dt_job_here();
    const char *commit = dt_commit();
    char date[40] = "";
    const time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local)) strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S %z", &local);
    char text[8192];
    size_t n = 0;
#define ADD(...)                                                                                             \
    if (n < sizeof text) n += (size_t)snprintf(text + n, sizeof text - n, __VA_ARGS__)
    if (job.id[0]) ADD("%s, restart %lld, ", job.id, (long long)job.restart);
    ADD("%d rank%s on ", t->mpi->world, dt_plural(t->mpi->world));
    int32_t n_host = 0;
    for (int32_t r = 0; r < t->mpi->world; r++) {
        const char *host = new_host(t, r);
        if (host && n_host++ < HOSTS_SHOWN) ADD("%s%s", n_host > 1 ? ", " : "", host);
    }
    if (n_host > HOSTS_SHOWN) ADD(" and %d more", n_host - HOSTS_SHOWN);
#undef ADD
    dt_tell(t->sink, DT_NEWS_LINE, "job     %s; %s; dtrain %s%s%s%s", text, date, dt_version(),
            commit[0] ? " (" : "", commit, commit[0] ? ")" : "");
}

void dt_trainer_record_start(const dt_trainer *t) {
    const dt_job job = dt_job_here();
    int32_t n_host = 0;
    const char **host = calloc((size_t)t->mpi->world, sizeof *host);
    for (int32_t r = 0; host && r < t->mpi->world; r++) {
        host[n_host] = new_host(t, r);
        if (host[n_host]) n_host++;
    }
    const dt_start_record rec = {.step = t->step,
                                 .total_steps = t->total_steps,
                                 .job = job.id,
                                 .restart = job.restart,
                                 .n_ranks = t->mpi->world,
                                 .n_host = n_host,
                                 .host = host,
                                 .version = dt_version(),
                                 .commit = dt_commit()};
    dt_metrics_start(t->metrics, &rec);
    free(host);
}

void dt_trainer_record_end(const dt_trainer *t, dt_status st) {
    if (st != DT_OK && st != DT_STOPPED) return;
    const dt_job job = dt_job_here();
    const dt_end_record rec = {.step = t->step,
                               .total_steps = t->total_steps,
                               .job = job.id,
                               .restart = job.restart,
                               .done = st == DT_OK};
    dt_metrics_end(t->metrics, &rec);
}

void dt_trainer_summary(const dt_trainer *t) {
    if (!t->root) return;
    const dt_config *c = t->config;
    const dt_session *s = &t->session;
    const dt_division *d = dt_engine_division(s->engine);
    const dt_program *p = dt_engine_program(s->engine, false);
    const dt_axis *axis = dt_engine_axis(s->engine);
    const int threads = c->run.threads > 0 ? (int)c->run.threads : s->be->host_threads;
    dt_dataset_info info;
    dt_dataset_info_get(s->train_data, &info);
    dt_tell(t->sink, DT_NEWS_LINE, "dtrain  %s on %s, %s%s (%s, %s a rank, communication: %s)", c->model.name,
            dt_count_text(t->mpi->world, "rank").s, s->be->info.name,
            s->mixed ? " here, elsewhere GPUs and CPUs" : "", precision_name[c->train.precision],
            dt_count_text(threads, "thread").s, s->comm->name);
    dt_tell(t->sink, DT_NEWS_LINE, "data    %s: %s, %s", c->data.train,
            dt_count_text(info.n_samples, "sample").s, dt_dataset_describe(&info).s);
    dt_tell(t->sink, DT_NEWS_LINE, "batch   %lld = %s of %lld%s%s", (long long)d->global_batch,
            dt_count_text(d->n_micro_all, "micro-batch").s, (long long)(d->global_batch / d->n_micro_all),
            info.n_vocab > 0 ? ", " : "",
            info.n_vocab > 0 ? dt_count_text(d->global_batch * c->data.context, "token").s : "");
    const dt_text frozen = dt_number_text((double)axis->n_frozen_param_elem);
    dt_tell(t->sink, DT_NEWS_LINE,
            "model   %s parameter%s in %s%s%s; activations %s (%s without reuse); %smemory %s",
            dt_number_text((double)axis->n_param_elem).s, dt_plural(axis->n_param_elem),
            dt_count_text(axis->n_bucket, "bucket").s, axis->n_frozen ? " and frozen " : "",
            axis->n_frozen ? frozen.s : "", dt_bytes_text((double)p->plan.act_bytes).s,
            dt_bytes_text((double)p->plan.naive_bytes).s, s->be->info.is_gpu ? "device " : "",
            dt_bytes_text((double)dt_engine_device_bytes(s->engine)).s);
    double more;
    const dt_recompute level = dt_engine_recompute(s->engine, &more);
    if (level != DT_RECOMPUTE_NONE)
        dt_tell(t->sink, DT_NEWS_LINE, "memory  recompute %s%s: %.3g %% more arithmetic",
                dt_recompute_names[level],
                c->train.recompute == DT_RECOMPUTE_AUTO ? ", for the batch does not fit without" : "",
                100 * more);
    const dt_text epochs = dt_decimal_text(dt_trainer_epoch(t, t->total_steps));
    if (!dt_trainer_is_done(t))
        dt_tell(t->sink, DT_NEWS_LINE, "run     steps %lld to %lld (%s epoch%s), in %s", (long long)t->step,
                (long long)t->total_steps, epochs.s, strcmp(epochs.s, "1") == 0 ? "" : "s", c->run.out_dir);
    else if (t->step < t->total_steps)
        dt_tell(t->sink, DT_NEWS_LINE,
                "run     finished at step %lld by train.early_stop_patience = %lld, in %s: raise that to go "
                "on, or choose "
                "another run.out_dir",
                (long long)t->step, (long long)c->train.early_stop_patience, c->run.out_dir);
    else
        dt_tell(t->sink, DT_NEWS_LINE,
                "run     finished at step %lld, in %s: raise train.epochs or train.steps to go on, or choose "
                "another run.out_dir",
                (long long)t->step, c->run.out_dir);
    tell_notes(t);
}

void dt_trainer_farewell(const dt_trainer *t, dt_status st) {
    const char *dir = t->config->run.out_dir;
    if (!t->root) return;
    if (st == DT_STOPPED && t->lock_fd < 0)
        dt_tell(t->sink, DT_NEWS_LINE, "%s; the same command continues", dt_error_text());
    else if (st == DT_STOPPED)
        dt_tell(t->sink, DT_NEWS_LINE,
                "stopped and saved after step %lld of %lld; the same command%s continues", (long long)t->step,
                (long long)t->total_steps,
                strcmp(t->config->run.resume, "never") == 0 ? " with run.resume=auto" : "");
    if (st != DT_OK || t->saved_step < 0) return; /* nothing was left to do */
    const char *curves = t->written.curves ? "curves in " : "", *file = *curves ? "/curves.svg, " : "";
    dt_tell(t->sink, DT_NEWS_LINE, "done: %s%s%s%srecords in %s/metrics.jsonl, weights in %s/checkpoints",
            curves, *curves ? dir : "", file, t->written.records ? "" : "some ", dir, dir);
}

void dt_trainer_report_step(dt_trainer *t, const dt_step_result *r) {
    const double now_s = dt_time_s(), span_s = now_s - t->last_result_s;
    dt_train_record rec = {
        .step = r->step + 1,
        .epoch = dt_trainer_epoch(t, r->step + 1),
        .lr = dt_trainer_lr(t, r->step),
        .samples_per_s = (double)t->config->train.global_batch / span_s,
        .grad_norm = (double)r->metric[DT_METRIC_GRAD_NORM],
        .data_wait = t->data_wait_s / span_s,
        .step_ms = 1e3 * span_s,
        .skipped = r->metric[DT_METRIC_SKIPPED] > 0,
    };
    dt_scores_of_step(&t->session.board, r->metric, &rec.score);
    t->last_result_s = now_s;
    t->data_wait_s = 0;
    if (!t->root) return;
    if (!t->first_reported) {
        dt_metrics_note(t->metrics, "first step done %.2f s after the start", now_s - t->start_s);
        t->first_reported = true;
    }
    if (r->metric[DT_METRIC_SAMPLES] == 0 && !t->unlabelled_told) {
        t->unlabelled_told = true;
        dt_tell(t->sink, DT_NEWS_WARNING, "step %lld has no label to learn from: all are -1 (told once)",
                (long long)r->step + 1);
    }
    dt_metrics_train(t->metrics, &rec);
}

void dt_trainer_report_early_stop(const dt_trainer *t) {
    const dt_ckpt_eval *e = &t->eval;
    const char *metric = dt_metric_choices[e->metric];
    const long long worse = (long long)e->worse;
    if (e->best_step < 0)
        dt_metrics_note(t->metrics, "stopping early at step %lld: no finite %s in %lld evaluation%s",
                        (long long)t->step, metric, worse, dt_plural(worse));
    else
        dt_metrics_note(
            t->metrics,
            "stopping early at step %lld: no better %s than the %.6g of step %lld in %lld evaluation%s",
            (long long)t->step, metric, e->best, (long long)e->best_step, worse, dt_plural(worse));
}

void dt_trainer_report_eval(dt_trainer *t, const dt_eval_result *r, const dt_eval_result *current) {
    t->last_result_s = dt_time_s();
    t->data_wait_s = 0;
    if (!t->root) return;
    dt_eval_record rec = {
        .step = t->step,
        .epoch = dt_trainer_epoch(t, t->step),
        .score = r->score,
        .lr = dt_trainer_lr(t, dt_max_i64(t->step - 1, 0)),
        .samples_per_s = (double)r->n_samples / r->seconds,
        .n_samples = r->n_samples,
        .n_tokens = r->n_tokens,
        .ema = current != NULL,
        .current = current ? current->score : (dt_scores){.loss = 0},
    };
    dt_metrics_eval(t->metrics, &rec);
}
