/* Opening and closing what a run needs; evaluation. */
#include "train/session.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cores.h"
#include "core/op.h"
#include "core/text.h"
#include "cpu/cpu.h"
#include "data/agree.h"
#include "dist/signals.h"
#include "gpu/cuda.h"
#include "model/builder.h"
#include "model/task.h"
#include "train/ranking.h"
#include "train/stages.h"

enum { EVAL_POLL_BATCHES = 8 };
static const double EVAL_POLL_S = 0.5;  /* a signal waits no longer, or one batch */
static const double SAMPLES_MAX = 1e17; /* of a run: counted in 64 bits */

dt_status dt_session_backend(const dt_config *c, const dt_comm *mpi, dt_backend **out) {
    dt_backend_options o = {
        .local_rank = mpi ? mpi->local_rank : 0,
        .local_world = mpi ? mpi->local_world : 1,
        .threads = (int32_t)c->run.threads,
        .deterministic = c->train.deterministic,
        .tf32 = c->train.precision == DT_PRECISION_TF32,
        .share_gpu = c->dist.share_gpu,
    };
    dt_cores_unbind(o.local_world);
    bool gpu =
        c->run.device == DT_DEVICE_CUDA || (c->run.device == DT_DEVICE_AUTO && dt_cuda_device_count() > 0);
    dt_status st = gpu ? dt_backend_cuda_create(&o, out) : dt_backend_cpu_create(&o, out);
    if (st == DT_OK && c->data.decoder == DT_DECODER_NVJPEG && !(gpu && dt_cuda_jpeg())) {
        (*out)->destroy(*out);
        *out = NULL;
        return dt_fail(
            DT_ERR_CONFIG,
            gpu ? "data.decoder = \"nvjpeg\", but this dtrain was built without nvJPEG: rebuild it "
                  "where the CUDA toolkit has nvjpeg.h and libnvjpeg, or set data.decoder = \"cpu\""
                : "data.decoder = \"nvjpeg\" needs a GPU, and this run has none: set data.decoder = "
                  "\"cpu\", or run.device = \"cuda\" where there is one");
    }
    /* Asked for what this host does not have: the configuration's fault. */
    return st == DT_ERR_DEVICE && dt_cuda_device_count() == 0 ? DT_ERR_CONFIG : st;
}

dt_status dt_session_comm(const dt_config *c, dt_comm *mpi, dt_backend *be, dt_comm **out) {
    const bool explicitly = c->dist.backend == DT_COMM_NCCL;
    dt_status mine = DT_OK;
    if (explicitly && !be->info.is_gpu)
        mine = dt_fail(DT_ERR_CONFIG, "dist.backend = \"nccl\" needs GPUs; use \"auto\" or \"mpi\"");
    else if (explicitly && !dt_comm_nccl_built())
        mine = dt_comm_nccl_create(mpi, be, c->dist.timeout_s, out); /* says so */
    *out = mpi;
    DT_TRY(dt_comm_agree(mpi, mine));
    if (mpi->world == 1 || c->dist.backend == DT_COMM_MPI) return DT_OK;
    /* NCCL if every rank can; MPI works everywhere. Ranks that share a GPU are NCCL's experiment. */
    double able = be->info.is_gpu && dt_comm_nccl_built() && (explicitly || !c->dist.share_gpu);
    DT_TRY(dt_comm_sum_host(mpi, &able, 1));
    if (able < mpi->world) return DT_OK;
    dt_status st = dt_comm_nccl_create(mpi, be, c->dist.timeout_s, out);
    if (st != DT_OK) *out = mpi;
    return dt_comm_agree(mpi, st);
}

/* GPUs and CPUs train together only when asked to: a card that is missing on one host must not go
 * unnoticed. */
static dt_status count_gpus(const dt_config *c, dt_session *s) {
    const int32_t world = s->mpi->world;
    double n = s->be->info.is_gpu, lacking = s->be->info.is_gpu ? 0 : world - s->mpi->rank;
    char host[sizeof s->mpi->host];
    DT_TRY(dt_comm_sum_host(s->mpi, &n, 1));
    s->any_gpu = n > 0;
    s->mixed = n > 0 && n < world;
    if (!s->mixed || c->dist.backend == DT_COMM_MPI) return DT_OK;
    DT_TRY(dt_comm_max_host(s->mpi, &lacking, 1));
    const int32_t first = world - (int32_t)lacking;
    memcpy(host, s->mpi->host, sizeof host);
    DT_TRY(dt_comm_bcast_host(s->mpi, host, (int64_t)sizeof host, first));
    return dt_fail(
        DT_ERR_CONFIG,
        "rank %d (%s) finds no GPU, others do: mend that, or set dist.backend = \"mpi\" to let GPUs and "
        "CPUs train together",
        first, host);
}

const dt_field *dt_session_target(const dt_config *c, int32_t n_field, const dt_field *field) {
    const dt_builder fields = {.field = field, .n_field = n_field};
    return c->model.target[0] ? dt_build_field(&fields, c->model.target) : dt_build_target(&fields);
}

/* One set: it fits the configuration, and its labels the network. */
static dt_status open_set(const dt_config *c, const char *path, dt_dataset **out) {
    DT_TRY(dt_dataset_open(&c->data, path, out));
    DT_TRY(dt_data_check(&c->data, c->model.classes, path, *out));
    dt_dataset_info info;
    dt_dataset_info_get(*out, &info);
    const dt_field *target = dt_session_target(c, info.n_field, info.field);
    if (!target || !dt_task_of(&c->model)->classes || c->model.classes == 0) return DT_OK;
    if (dt_dtype_is_float(target->dtype)) return DT_OK; /* no classes: the network will say so */
    char why[96];
    dt_data_note ignored; /* whole numbers of classes are small */
    snprintf(why, sizeof why, "with model.classes = %lld expected 0 to %lld, or -1 for none",
             (long long)c->model.classes, (long long)c->model.classes - 1);
    return dt_data_check_numbers(*out, target->name, -1, (double)c->model.classes - 1, why, &ignored);
}

/* Keys for another kind of data than this are refused. */
static dt_status check_kind(const dt_config *c, const dt_session *s) {
    dt_dataset_info info;
    char left_out[DT_CONFIG_LEFT_OUT];
    dt_dataset_info_get(s->train_data ? s->train_data : s->val_data, &info);
    DT_TRY(dt_config_check_data(c, info.kind, left_out));
    if (s->mpi->rank == 0 && left_out[0])
        dt_tell(s->sink, DT_NEWS_NOTE, "not used, as the command line chose other data than %s: %s", c->path,
                left_out);
    return DT_OK;
}

/* How much text a token of the validation set stands for, where that is known. */
static dt_status count_bytes(const dt_config *c, bool train, dt_session *s) {
    dt_dataset_info info;
    dt_dataset_info_get(s->val_data, &info);
    if (info.text_bytes > 0) s->board.bytes_a_token = (double)info.text_bytes / (double)info.n_tokens;
    const dt_task_row *task = dt_task_of(&c->model);
    const int32_t k = dt_best_metric_index(task, (dt_best_metric)c->checkpoint.best_metric);
    if (!train || k < 0 || task->metric[k].need != DT_NEED_BYTES || s->board.bytes_a_token > 0) return DT_OK;
    return dt_fail(
        DT_ERR_CONFIG,
        "checkpoint.best_metric = \"eval_%s\", but %s does not say how many bytes its tokens were: "
        "choose eval_loss",
        task->metric[k].name, c->data.val);
}

dt_status dt_session_open_data(const dt_config *c, bool train, dt_session *s) {
    if (train) {
        DT_TRY(open_set(c, c->data.train, &s->train_data));
    }
    if (c->data.val[0]) {
        DT_TRY(open_set(c, c->data.val, &s->val_data));
    }
    if (s->train_data || s->val_data) DT_TRY(check_kind(c, s));
    if (s->val_data) DT_TRY(count_bytes(c, train, s));
    if (!train && !s->val_data)
        return dt_fail(DT_ERR_CONFIG, "data.val is not set: there is nothing to evaluate on");
    if (!s->train_data || !s->val_data) return DT_OK;
    dt_data_note note;
    DT_TRY(dt_data_agree(&c->data, s->train_data, s->val_data, &note));
    if (s->mpi->rank == 0 && note.text[0]) dt_tell(s->sink, DT_NEWS_WARNING, "%s", note.text);
    return DT_OK;
}

/* Hosts may have different files of one name, and ranks that count different samples would wait for each
 * other. */
static dt_status check_same_data(dt_session *s) {
    dt_dataset_info info;
    if (s->train_data) {
        dt_dataset_info_get(s->train_data, &info);
        DT_TRY(dt_comm_check_equal(s->mpi, dt_data_hash(&info), "the training set"));
        DT_TRY(dt_comm_check_equal(s->mpi, dt_data_classes_hash(s->train_data),
                                   "the list of the training set's classes"));
        DT_TRY(dt_comm_check_equal(s->mpi, dt_data_samples_hash(s->train_data),
                                   "the samples of the training set"));
    }
    if (!s->val_data) return DT_OK;
    dt_dataset_info_get(s->val_data, &info);
    DT_TRY(dt_comm_check_equal(s->mpi, dt_data_hash(&info), "the validation set"));
    DT_TRY(
        dt_comm_check_equal(s->mpi, dt_data_samples_hash(s->val_data), "the samples of the validation set"));
    return dt_comm_check_equal(s->mpi, dt_data_classes_hash(s->val_data),
                               "the list of the validation set's classes");
}

static dt_status check_length(const dt_session *s) {
    const dt_config *c = s->config;
    dt_dataset_info info;
    dt_dataset_info_get(s->train_data, &info);
    const double by_epochs = c->train.epochs * (double)info.n_samples,
                 by_steps = (double)c->train.steps * (double)c->train.global_batch;
    const bool epochs = c->train.epochs > 0 && (c->train.steps == 0 || by_epochs < by_steps);
    if ((epochs ? by_epochs : by_steps) <= SAMPLES_MAX) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "train.%s: a run of %.3g samples is longer than the %.0g that are counted",
                   epochs ? "epochs" : "steps", epochs ? by_epochs : by_steps, SAMPLES_MAX);
}

static dt_status open_engine(const dt_config *c, bool train, const dt_data_facts *facts, dt_session *s) {
    bool known = true;
    dt_dataset_info info;
    dt_dataset_info_get(train ? s->train_data : s->val_data, &info);
    if (!train) {
        dt_data_trained trained;
        dt_data_note note;
        DT_TRY(dt_comm_agree(s->mpi, dt_data_trained_facts(&c->data, &c->augment, c->model.classes,
                                                           s->val_data, facts, &trained, &note)));
        if (s->mpi->rank == 0 && note.text[0]) dt_tell(s->sink, DT_NEWS_WARNING, "%s", note.text);
        info = trained.info;
        known = trained.known;
        s->classes_xxh3 = trained.classes_xxh3;
    }
    DT_TRY(dt_comm_check_equal(s->mpi, dt_data_hash(&info), "the normalisation that the training set gives"));
    if (train) s->classes_xxh3 = dt_data_classes_hash(s->train_data);
    s->info = info;
    s->statistics_xxh3 = known ? dt_data_statistics_hash(&c->augment, &info) : 0;
    dt_division d;
    dt_upload_plan upload;
    DT_TRY(dt_division_make(c, s->mpi->rank, s->mpi->world, &d));
    dt_upload_plan_make(&c->data, dt_cuda_jpeg(), (const dt_dataset *const[]){s->train_data, s->val_data},
                        (const int64_t[]){dt_ceil_div(d.global_batch, d.n_micro_all), d.eval_rows}, &upload);
    dt_engine_options o = {.config = c,
                           .be = s->be,
                           .mpi = s->mpi,
                           .comm = s->comm,
                           .data = &info,
                           .upload = &upload,
                           .any_gpu = s->any_gpu,
                           .train = train};
    return dt_engine_create(&o, &s->engine);
}

/* NCCL reports a failed peer out of band. */
static dt_status poll_comm(void *arg) {
    dt_comm *comm = arg;
    return comm->progress(comm);
}

dt_status dt_session_watch(const dt_config *c, dt_comm *mpi, dt_comm *comm, dt_watchdog **out) {
    DT_TRY(dt_comm_agree(mpi, dt_watchdog_start(mpi, c->dist.timeout_s, out)));
    if (comm->device_memory) dt_watchdog_set_poll(*out, poll_comm, comm);
    return DT_OK;
}

static dt_loader_options loader_options(const dt_session *s, bool eval, int64_t first_step, int64_t n_steps) {
    const dt_config *c = s->config;
    const dt_division *d = dt_engine_division(s->engine);
    const dt_program *p = dt_engine_program(s->engine, eval);
    const dt_vid image = dt_graph_input(p->graph, "image");
    int32_t threads = (int32_t)c->data.workers;
    /* The CPU computes on the same cores: one thread reads ahead. A GPU leaves the cores to the loader. */
    if (threads == 0) threads = s->be->info.is_gpu ? s->be->host_threads : 1;
    return (dt_loader_options){
        .data = eval ? &c->data : &s->stage_data,
        .augment = eval ? &c->augment : &s->stage_augment,
        .dataset = eval ? s->val_data : s->train_data,
        .eval = eval,
        .source_crop = dt_graph_input(p->graph, "aug") >= 0,
        .edits = dt_graph_input(p->graph, "edit") >= 0,
        .whole_batches = s->inputs,
        .forgiving = s->inputs,
        .compressed = dt_data_device_decodes(&c->data, eval ? s->val_data : s->train_data),
        .seed = (uint64_t)c->run.seed,
        .out_h = image >= 0 ? p->graph->value[image].dim[1] : 0,
        .out_w = image >= 0 ? p->graph->value[image].dim[2] : 0,
        .batch = d->eval_rows,
        .global_batch = d->global_batch,
        .n_micro_all = d->n_micro_all,
        .rank = s->mpi->rank,
        .world = s->mpi->world,
        .first_step = first_step,
        .n_steps = n_steps,
        .threads = threads,
        .n_slots = (int32_t)c->data.prefetch + 2,
    };
}

/* The numbers of a field are from lo to hi, in both sets. */
static dt_status check_field(const dt_session *s, const char *field, double lo, double hi, const char *why) {
    const dt_dataset *const set[] = {s->train_data, s->val_data};
    for (int i = 0; i < 2; i++) {
        dt_data_note note; /* check_cast tells it */
        if (!set[i]) continue;
        DT_TRY(dt_data_check_numbers(set[i], field, lo, hi, why, &note));
    }
    return DT_OK;
}

/* What one loss takes for its target is such as it can take, in both sets. */
static dt_status check_target(const dt_session *s, const dt_graph *g, const dt_node *n) {
    const dt_value *x = &g->value[n->in[0]];
    const bool classes = n->op == DT_OP_XENT,
               labels = n->op == DT_OP_LOSS && n->attr.loss.kind == DT_LOSS_BCE;
    const dt_vid v = dt_graph_source(g, n->in[1]);
    const char *name = g->value[n->out[0]].name;
    if (v < 0) return DT_OK;
    if (classes && s->config->model.classes > 0 && strcmp(name, "loss") == 0)
        return DT_OK; /* checked when opened */
    const int64_t most = classes ? x->dim[x->ndim - 1] - 1 : 1;
    char why[160] = "expected a finite number of fp32";
    if (classes)
        snprintf(why, sizeof why, "\"%.48s\" judges %lld classes: expected 0 to %lld, or -1 for none", name,
                 (long long)most + 1, (long long)most);
    if (labels) snprintf(why, sizeof why, "\"%.48s\", a bce, takes labels from 0 to 1", name);
    const double least = classes ? -1 : labels ? 0 : -FLT_MAX;
    return check_field(s, g->value[v].name, least, classes || labels ? (double)most : FLT_MAX, why);
}

/* What an embedding reads are rows of its table, in both sets. */
static dt_status check_index(const dt_session *s, const dt_graph *g, const dt_node *n) {
    const dt_vid v = dt_graph_source(g, n->in[DT_EMBED_IN_INDEX]);
    const dt_value *w = &g->value[n->in[DT_EMBED_IN_WEIGHT]];
    const int64_t rows = w->dim[w->ndim - 2];
    char why[160];
    if (v < 0) return DT_OK;
    snprintf(why, sizeof why, "\"%.48s\" has %lld rows: expected 0 to %lld", w->name, (long long)rows,
             (long long)rows - 1);
    return check_field(s, g->value[v].name, 0, (double)(rows - 1), why);
}

/* Whole numbers that the network reads as real ones are such as fp32 holds. Of a field that takes long to read only the
 * import has told. */
static dt_status check_cast(const dt_session *s, const dt_graph *g, const dt_node *n, int64_t n_samples) {
    static const int64_t LOOKED_THROUGH_BYTES = 1 << 28;
    const dt_value *from = &g->value[n->in[0]];
    const bool whole = from->dtype == DT_DTYPE_I32 || from->dtype == DT_DTYPE_I64;
    const int64_t row_bytes = dt_value_n_elem(from) / from->dim[0] * (int64_t)dt_dtype_size(from->dtype);
    dt_data_note note;
    if (from->role != DT_ROLE_INPUT || !whole || !dt_dtype_is_float(n->attr.cast.dtype) || !s->train_data ||
        row_bytes > LOOKED_THROUGH_BYTES / dt_max_i64(n_samples, 1))
        return DT_OK;
    DT_TRY(dt_data_check_numbers(s->train_data, from->name, -INFINITY, INFINITY, "", &note));
    if (note.text[0] && s->mpi->rank == 0) dt_tell(s->sink, DT_NEWS_WARNING, "%s", note.text);
    return DT_OK;
}

static dt_status check_targets(const dt_session *s) {
    dt_dataset_info info;
    dt_graph *g;
    dt_dataset_info_get(s->train_data ? s->train_data : s->val_data, &info);
    if (s->inputs || info.channels > 0) return DT_OK; /* labels of images have been checked */
    DT_TRY(dt_engine_forward_graph(s->engine, NULL, &info, s->train_data != NULL, &g));
    dt_status st = DT_OK;
    for (dt_nid i = 0; i < g->n_node && st == DT_OK; i++)
        if (g->node[i].op == DT_OP_XENT || g->node[i].op == DT_OP_LOSS)
            st = check_target(s, g, &g->node[i]);
        else if (g->node[i].op == DT_OP_CAST)
            st = check_cast(s, g, &g->node[i], info.n_samples);
        else if (g->node[i].op == DT_OP_EMBED)
            st = check_index(s, g, &g->node[i]);
    dt_graph_destroy(g);
    return st;
}

/* Whether the scores of an evaluation are too many to be kept. */
static dt_status check_ranking(const dt_config *c, bool train, dt_session *s) {
    const dt_task_row *task = dt_task_of(&c->model);
    const int32_t k = dt_best_metric_index(task, (dt_best_metric)c->checkpoint.best_metric);
    dt_dataset_info info;
    dt_ranking r;
    if (!s->val_data || s->inputs) return DT_OK;
    dt_ranking_begin(s->engine, &r);
    dt_dataset_info_get(s->val_data, &info);
    if (r.n_label == 0 || info.n_samples <= DT_RANKING_MAX / r.n_label) return DT_OK;
    s->board.no_ranking = true;
    if (train && k >= 0 && task->metric[k].need == DT_NEED_SCORES)
        return dt_fail(
            DT_ERR_CONFIG,
            "checkpoint.best_metric = \"eval_%s\", but the %lld labels of %s in %s are more than the "
            "%lld scores that are kept for it: choose another, or a smaller set",
            task->metric[k].name, (long long)r.n_label, dt_count_text(info.n_samples, "sample").s,
            c->data.val, DT_RANKING_MAX);
    if (s->mpi->rank == 0)
        dt_tell(
            s->sink, DT_NEWS_NOTE,
            "no mean average precision: the %lld labels of %s in %s are more than the %lld scores that are "
            "kept for it",
            (long long)r.n_label, dt_count_text(info.n_samples, "sample").s, c->data.val, DT_RANKING_MAX);
    return DT_OK;
}

static dt_status check_loader(const dt_session *s, bool eval) {
    const dt_loader_options o = loader_options(s, eval, 0, 1);
    const dt_status st = dt_loader_check(&o);
    if (st != DT_OK)
        dt_error_context("data.%s = \"%s\"", eval ? "val" : "train",
                         eval ? s->config->data.val : s->config->data.train);
    return st;
}

/* What the data does not allow is said now, not at the first evaluation, or in a later stage. */
static dt_status check_loaders(dt_session *s, bool train) {
    for (int32_t k = dt_stage_count(s->config) - 1; train && k >= 0; k--) {
        dt_session_set_stage(s, k);
        DT_TRY(check_loader(s, false));
    }
    return s->val_data ? check_loader(s, true) : DT_OK;
}

void dt_session_set_stage(dt_session *s, int32_t stage) {
    dt_stage_options(s->config, stage, &s->stage_data, &s->stage_augment);
    dt_engine_set_stage(s->engine, stage);
}

static dt_status open_session(const dt_config *c, dt_comm *mpi, bool train, const dt_data_facts *facts,
                              dt_session *out) {
    mpi->timeout_s = c->dist.timeout_s;
    DT_TRY(dt_comm_agree(mpi, dt_comm_check_equal(mpi, dt_config_hash_all(c), "the configuration")));
    dt_division division;
    DT_TRY(dt_comm_agree(mpi, dt_division_make(c, mpi->rank, mpi->world, &division)));
    dt_status st = dt_comm_agree(mpi, dt_session_backend(c, mpi, &out->be));
    out->comm = mpi;
    if (st == DT_OK) st = count_gpus(c, out);
    if (st == DT_OK) st = dt_session_comm(c, mpi, out->be, &out->comm);
    if (st == DT_OK && !out->inputs) st = dt_comm_agree(mpi, dt_session_open_data(c, train, out));
    if (st == DT_OK && train) st = dt_comm_agree(mpi, check_length(out));
    if (st == DT_OK) st = dt_comm_agree(mpi, check_same_data(out));
    if (st == DT_OK) st = dt_comm_agree(mpi, open_engine(c, train, facts, out));
    if (st == DT_OK) st = dt_comm_agree(mpi, check_ranking(c, train, out));
    if (st == DT_OK) st = dt_comm_agree(mpi, check_targets(out));
    if (st == DT_OK) st = dt_comm_agree(mpi, check_loaders(out, train));
    return st == DT_OK ? dt_session_watch(c, mpi, out->comm, &out->watchdog) : st;
}

dt_status dt_session_open(const dt_config *c, dt_comm *mpi, bool train, const dt_sink *sink,
                          dt_session *out) {
    *out = (dt_session){.config = c, .board = dt_scoreboard_of(&c->model), .mpi = mpi, .sink = sink};
    const dt_status st = open_session(c, mpi, train, NULL, out);
    if (st != DT_OK) dt_session_close(out, st);
    return st;
}

dt_status dt_session_open_trained(const dt_config *c, dt_comm *mpi, const dt_data_facts *facts,
                                  dt_dataset *inputs, const dt_sink *sink, dt_session *out) {
    *out = (dt_session){.config = c,
                        .board = dt_scoreboard_of(&c->model),
                        .mpi = mpi,
                        .sink = sink,
                        .val_data = inputs,
                        .inputs = inputs != NULL};
    const dt_status st = open_session(c, mpi, false, facts, out);
    if (st != DT_OK) dt_session_close(out, st);
    return st;
}

void dt_session_close(dt_session *s, dt_status st) {
    if (s->mpi && st != DT_OK && st != DT_STOPPED) dt_comm_fail(s->mpi, st);
    dt_watchdog_stop(s->watchdog);
    dt_engine_destroy(s->engine);
    dt_dataset_close(s->train_data);
    dt_dataset_close(s->val_data);
    if (s->comm && s->comm != s->mpi) s->comm->destroy(s->comm);
    if (s->be) s->be->destroy(s->be);
    memset(s, 0, sizeof *s);
}

dt_status dt_session_same_parameters(dt_session *s) {
    uint64_t hash;
    if (s->mixed) return dt_comm_agree(s->mpi, dt_engine_take_parameters(s->engine));
    dt_status st = dt_engine_hash(s->engine, &hash);
    DT_TRY(dt_comm_agree(s->mpi, st));
    return dt_comm_check_equal(s->mpi, hash, "the parameters");
}

dt_status dt_session_loader(dt_session *s, bool eval, int64_t first_step, int64_t n_steps, dt_loader **out) {
    dt_loader_options o = loader_options(s, eval, first_step, n_steps);
    dt_loader_pin(&o, s->be);
    return dt_loader_open(&o, out);
}

double dt_session_steps_per_epoch(const dt_session *s) {
    dt_dataset_info info;
    dt_dataset_info_get(s->train_data, &info);
    return (double)info.n_samples / (double)s->config->train.global_batch;
}

int64_t dt_session_total_steps(const dt_session *s) {
    const dt_config *c = s->config;
    /* 1.1 epochs of 500 steps are 550, although 1.1 is a little more than 1.1. */
    const double steps = ceil(c->train.epochs * dt_session_steps_per_epoch(s) * (1 - 1e-12));
    const bool by_steps = c->train.steps > 0 && (c->train.epochs <= 0 || (double)c->train.steps < steps);
    return by_steps ? c->train.steps : (int64_t)steps;
}

/* All ranks learn whether one of them was asked to stop, and after how many batches to ask again. */
static dt_status agree_stop(dt_session *s, double batch_s, bool *stop, int64_t *n_batch) {
    double v[2] = {dt_signal_pending() ? 1 : 0, batch_s};
    DT_TRY(dt_comm_max_host(s->mpi, v, 2));
    *stop = v[0] > 0;
    *n_batch = v[1] * EVAL_POLL_BATCHES <= EVAL_POLL_S ? EVAL_POLL_BATCHES
               : v[1] < EVAL_POLL_S                    ? (int64_t)(EVAL_POLL_S / v[1])
                                                       : 1;
    return DT_OK;
}

/* One rank's share of the evaluation. */
static dt_status evaluate_batches(dt_session *s, int64_t step, int64_t n_batch, dt_loader *loader,
                                  dt_ranking *ranking, bool *stop, double *n_row) {
    bool more = loader != NULL;
    const double start_s = dt_time_s();
    int64_t poll_at = 0, after;
    for (int64_t i = 0; i < n_batch && !*stop; i++) {
        if (i == poll_at) {
            DT_TRY(agree_stop(s, i > 0 ? (dt_time_s() - start_s) / (double)i : EVAL_POLL_S, stop, &after));
            poll_at += after;
        }
        dt_watchdog_beat(s->watchdog, step, "evaluation");
        if (!more || *stop) continue; /* this rank has fewer batches than the others */
        dt_batch b;
        DT_TRY(dt_loader_next(loader, &b, NULL));
        int64_t fed = dt_engine_fed(s->engine);
        DT_TRY(dt_engine_feed(s->engine, &b, true));
        DT_TRY(dt_engine_eval_batch(s->engine));
        DT_TRY(dt_ranking_add(ranking, s->engine, b.n_valid));
        if (s->on_batch) DT_TRY(s->on_batch(s->on_batch_arg, s, i, &b));
        DT_TRY(dt_engine_input_wait(s->engine, fed));
        more = !b.last;
        *n_row += (double)b.n_valid;
        dt_loader_release(loader, &b);
    }
    return DT_OK;
}

/* Mean average precision, NaN where the task has none. */
static dt_status rank_scores(dt_session *s, dt_ranking *r, double *out) {
    DT_TRY(dt_ranking_average(r, s->mpi, s->watchdog, out));
    if (r->n_bare > 0 && s->mpi->rank == 0 && !s->told_bare)
        dt_tell(s->sink, DT_NEWS_NOTE,
                "no sample of %s has %lld of the %s: such a label counts 0 in the mean average precision",
                s->config->data.val, (long long)r->n_bare, dt_count_text(r->n_label, "label").s);
    s->told_bare |= r->n_bare > 0;
    return DT_OK;
}

dt_status dt_session_evaluate(dt_session *s, int64_t step, bool ema, dt_eval_result *out) {
    memset(out, 0, sizeof *out);
    dt_dataset_info info;
    dt_dataset_info_get(s->val_data, &info);
    const dt_division *d = dt_engine_division(s->engine);
    const int64_t per_rank = (info.n_samples + s->mpi->world - 1) / s->mpi->world;
    const int64_t n_batch = (per_rank + d->eval_rows - 1) / d->eval_rows;
    double metric[DT_METRIC_COUNT], n_row = 0, average_precision = NAN, start_s = dt_time_s();
    dt_loader *loader = NULL;
    dt_ranking ranking = {.n_label = 0};
    if (!s->board.no_ranking) dt_ranking_begin(s->engine, &ranking);
    dt_status st = info.n_samples > s->mpi->rank ? dt_session_loader(s, true, 0, 0, &loader) : DT_OK;
    DT_TRY_GOTO(st, dt_comm_agree(s->mpi, st), out);
    DT_TRY_GOTO(st, dt_engine_eval_begin(s->engine, ema), out);
    /* Not agreed on: the others may wait in another call. Who fails alone ends the job (dt_session_close). */
    DT_TRY_GOTO(st, evaluate_batches(s, step, n_batch, loader, &ranking, &out->interrupted, &n_row), out);
    DT_TRY_GOTO(st, dt_engine_eval_end(s->engine, metric), out);
    out->seconds = dt_time_s() - start_s;
    out->n_samples = (int64_t)metric[DT_METRIC_SAMPLES];
    DT_TRY_GOTO(st, dt_comm_sum_host(s->mpi, &n_row, 1), out);
    if (s->board.task->tokens) {
        out->n_tokens = out->n_samples;
        out->n_samples = (int64_t)n_row;
    }
    if (!out->interrupted && (int64_t)n_row != info.n_samples) {
        st = dt_fail(DT_ERR_INTERNAL, "evaluation saw %lld samples of %lld", (long long)n_row,
                     (long long)info.n_samples);
        goto out;
    }
    if (!out->interrupted) DT_TRY_GOTO(st, rank_scores(s, &ranking, &average_precision), out);
    dt_scores_of(&s->board, metric, average_precision, &out->score);
out:
    dt_ranking_free(&ranking);
    dt_loader_close(loader);
    return st;
}
