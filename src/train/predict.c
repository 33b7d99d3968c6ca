/* Prediction in rounds: in each, every rank runs one batch, the results are summed into one table (each rank
 * fills its own part and leaves zeros in the others'), and rank 0 hands the rows on. What a batch holds
 * follows from the inputs alone, so the same numbers come out on any number of ranks. */
#include "train/predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "model/model.h"
#include "model/task.h"
#include "trained.h"

enum { ROWS_DEFAULT = 64, ROWS_MAX = 4096 };

/* State of a row in the table; absent is 0, past the last input. */
typedef enum row_state { ROW_ABSENT = 0, ROW_DONE, ROW_FAILED, ROW_NOT_FINITE } row_state;

/* [world, rows, 1 + 2 top]: state, then index and probability by rank; or [world, rows, 1 + n_value]: state, then values. */
typedef struct table {
    double *v;
    int64_t rows, width, n;
    char *errors, *others; /* [rows, DT_ROW_ERROR_BYTES] of the failed rows, packed: this rank's, another's */
} table;

typedef struct job {
    const dt_predict_options *o;
    dt_predict_result *result;
    dt_session s;
    dt_trained trained;
    dt_loader *loader;
    dt_dataset *inputs; /* the session's */
    table t;
    dt_predict_form form;
    const char *output; /* of the network */
    int32_t top;
    int64_t n_class;
    int32_t *index;
    double *probability;
    float *value; /* [form.n_value] */
} job;

bool dt_predict_top(const float *logit, int64_t n_class, int32_t n, int32_t *index, double *probability) {
    int32_t kept = 0;
    double sum = 0;
    for (int64_t i = 0; i < n_class; i++) {
        if (!isfinite(logit[i])) return false;
        if (kept == n && !(logit[i] > logit[index[kept - 1]])) continue;
        int32_t at = kept < n ? kept++ : n - 1;
        for (; at > 0 && logit[i] > logit[index[at - 1]]; at--) index[at] = index[at - 1];
        index[at] = (int32_t)i;
    }
    const double most = (double)logit[index[0]];
    for (int64_t i = 0; i < n_class; i++) sum += exp((double)logit[i] - most);
    for (int32_t k = 0; k < n; k++) probability[k] = exp((double)logit[index[k]] - most) / sum;
    return true;
}

/* Batches follow from the inputs and the configuration, not from the ranks; JPEG files are decoded by the
 * host, which alone can forgive one. */
static void adapt(dt_config *c, int32_t world, int64_t n_samples) {
    int64_t rows = c->train.eval_batch > 0    ? c->train.eval_batch
                   : c->train.micro_batch > 0 ? c->train.micro_batch
                                              : dt_min_i64(c->train.global_batch, ROWS_DEFAULT);
    rows = dt_min_i64(dt_min_i64(rows, n_samples), ROWS_MAX);
    c->train.eval_batch = c->train.micro_batch = rows;
    c->train.global_batch = rows * world;
    c->data.decoder = DT_DECODER_CPU;
    c->dist.backend = DT_COMM_MPI; /* no gradients are exchanged */
}

/* The values of one row behind its state; false where one is not finite. */
static bool take_values(const job *j, const float *x, double *v) {
    for (int64_t i = 0; i < j->form.n_value; i++) {
        if (!isfinite(x[i])) return false;
        v[i] = j->form.labels ? 1 / (1 + exp(-(double)x[i])) : (double)x[i];
    }
    return true;
}

static bool take_classes(const job *j, const float *logit, double *v) {
    if (!dt_predict_top(logit, j->n_class, j->top, j->index, j->probability)) return false;
    for (int32_t k = 0; k < j->top; k++) v[2 * k] = j->index[k], v[1 + 2 * k] = j->probability[k];
    return true;
}

/* This rank's batch into its part of the table. */
static dt_status take_rows(job *j, const dt_batch *b) {
    const float *x;
    int64_t n;
    double *v = j->t.v + j->s.mpi->rank * j->t.rows * j->t.width;
    DT_TRY(dt_engine_output(j->s.engine, j->output, &n, &x));
    for (int64_t r = 0; r < b->n_valid; r++, v += j->t.width) {
        const char *error = b->error + r * DT_ROW_ERROR_BYTES;
        if (*error) {
            memcpy(j->t.errors + j->t.n++ * DT_ROW_ERROR_BYTES, error, DT_ROW_ERROR_BYTES);
            v[0] = ROW_FAILED;
            continue;
        }
        const float *row = x + r * (j->form.classes ? j->n_class : j->form.n_value);
        const bool finite = j->form.classes ? take_classes(j, row, v + 1) : take_values(j, row, v + 1);
        v[0] = finite ? ROW_DONE : ROW_NOT_FINITE;
    }
    return DT_OK;
}

static dt_status run_batch(job *j) {
    dt_batch b;
    dt_status st = DT_OK;
    DT_TRY(dt_loader_next(j->loader, &b, NULL));
    if (b.n_valid > 0) {
        /* What a set says of its samples is not the network's business, and may be classes that it has
         * not. */
        int32_t *label = j->trained.facts.info.n_field == 0 ? dt_batch_field(&b, "label") : NULL;
        for (int64_t r = 0; label && r < b.rows; r++) label[r] = -1;
        const int64_t fed = dt_engine_fed(j->s.engine);
        DT_TRY(dt_engine_feed(j->s.engine, &b, true));
        DT_TRY(dt_engine_eval_batch(j->s.engine));
        DT_TRY(dt_engine_input_wait(j->s.engine, fed));
        st = take_rows(j, &b);
    }
    dt_loader_release(j->loader, &b);
    return st;
}

/* On rank 0. `error`: those of the failed rows, in their order. */
static dt_status hand_on(job *j, int32_t rank, int64_t first, const char *error) {
    const double *v = j->t.v + rank * j->t.rows * j->t.width;
    for (int64_t r = 0; r < j->t.rows && v[0] != ROW_ABSENT; r++, v += j->t.width) {
        dt_prediction p = {.facts = &j->trained.facts};
        dt_inputs_get(j->inputs, first + r, &p.input);
        if (v[0] == ROW_FAILED) {
            p.error = error;
            error += DT_ROW_ERROR_BYTES;
        } else if (!j->form.classes) {
            p.n_value = j->form.n_value;
            p.value = j->value;
            for (int64_t k = 0; k < j->form.n_value; k++) j->value[k] = (float)v[1 + k];
        } else {
            p.n = j->top;
            p.index = j->index;
            p.probability = j->probability;
            for (int32_t k = 0; k < j->top; k++)
                j->index[k] = (int32_t)v[1 + 2 * k], j->probability[k] = v[2 + 2 * k];
        }
        DT_TRY(j->o->row(j->o->arg, &p));
    }
    return DT_OK;
}

static dt_status check_finite(const job *j) {
    for (int64_t i = 0; i < j->s.mpi->world * j->t.rows; i++)
        if (j->t.v[i * j->t.width] == ROW_NOT_FINITE)
            return dt_fail(
                DT_ERR_NONFINITE,
                "%s: an output of the network is not finite: weights or inputs beyond the numbers of "
                "train.precision",
                j->trained.ckpt->path);
    return DT_OK;
}

/* One round: the batches [round * world, (round + 1) * world). */
static dt_status run_round(job *j, int64_t round) {
    dt_comm *mpi = j->s.mpi;
    const int64_t per_rank = j->t.rows * j->t.width, n_value = mpi->world * per_rank;
    memset(j->t.v, 0, (size_t)n_value * sizeof *j->t.v);
    j->t.n = 0;
    dt_watchdog_beat(j->s.watchdog, j->trained.ckpt->meta.step, "prediction");
    DT_TRY(run_batch(j));
    DT_TRY(dt_comm_sum_host(mpi, j->t.v, (int32_t)n_value));
    DT_TRY(check_finite(j));
    for (int32_t rank = 0; rank < mpi->world; rank++) {
        int64_t failed = 0, first = (round * mpi->world + rank) * j->t.rows;
        for (int64_t r = 0; r < j->t.rows; r++)
            failed += j->t.v[rank * per_rank + r * j->t.width] == ROW_FAILED;
        char *error = rank == mpi->rank ? j->t.errors : j->t.others;
        if (failed > 0) DT_TRY(dt_comm_bcast_host(mpi, error, failed * DT_ROW_ERROR_BYTES, rank));
        j->result->n_failed += failed;
        if (mpi->rank == 0) DT_TRY(hand_on(j, rank, first, error));
    }
    return DT_OK;
}

/* What the values are called: as the field that they were compared with. */
static void name_values(job *j, const dt_config *c) {
    const dt_data_facts *f = &j->trained.facts;
    const dt_field *target = dt_session_target(c, f->info.n_field, f->info.field);
    const bool none = !target || strcmp(dt_task_of(&c->model)->loss[0], "value") == 0;
    snprintf(j->form.name, sizeof j->form.name, "%s", none ? "output" : target->name);
}

static dt_status make_table(job *j, const dt_config *c) {
    const dt_program *p = dt_engine_program(j->s.engine, true);
    const dt_task_row *task = dt_task_of(&c->model);
    j->output = task->output;
    const dt_value *out = &p->graph->value[dt_graph_output(p->graph, j->output)];
    j->form = (dt_predict_form){.classes = task->classes, .labels = task->sums == DT_LOSS_SUMS_LABELS};
    j->n_class = out->dim[out->ndim - 1];
    j->top = (int32_t)dt_min_i64(j->o->top, j->n_class);
    j->t.rows = out->dim[0];
    if (!task->classes) {
        j->form.n_value = dt_value_n_elem(out) / out->dim[0];
        j->top = 1;
        name_values(j, c);
    }
    j->t.width = 1 + (task->classes ? 2 * (int64_t)j->top : j->form.n_value);
    const int64_t n = j->s.mpi->world * j->t.rows * j->t.width;
    if (n > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG,
                       "%lld numbers a round are too many: set train.eval_batch lower, or ask for "
                       "fewer classes",
                       (long long)n);
    j->t.v = malloc((size_t)n * sizeof *j->t.v);
    j->value = malloc((size_t)(j->form.n_value + 1) * sizeof *j->value);
    j->t.errors = malloc((size_t)j->t.rows * DT_ROW_ERROR_BYTES);
    j->t.others = malloc((size_t)j->t.rows * DT_ROW_ERROR_BYTES);
    j->index = malloc((size_t)j->top * sizeof *j->index);
    j->probability = malloc((size_t)j->top * sizeof *j->probability);
    if (j->t.v && j->value && j->t.errors && j->t.others && j->index && j->probability) return DT_OK;
    return dt_fail(DT_ERR_MEMORY, "no memory for the predictions");
}

static void tell_start(const job *j, const dt_config *asked) {
    const int64_t ignored = dt_inputs_ignored(j->inputs);
    const dt_sink *to = j->o->sink;
    if (j->s.mpi->rank != 0) return;
    dt_tell(to, DT_NEWS_NOTE, "weights of %s, step %lld", j->trained.ckpt->path,
            (long long)j->trained.ckpt->meta.step);
    if (ignored > 0)
        dt_tell(to, DT_NEWS_NOTE, "%s without .jpg or .png in the name left out",
                dt_count_text(ignored, "file").s);
    if (asked->data.decoder == DT_DECODER_NVJPEG)
        dt_tell(to, DT_NEWS_NOTE,
                "the CPU decodes, whatever data.decoder says: a GPU cannot pass over a damaged file");
}

/* Collective. */
static dt_status tell_end(const job *j) {
    const dt_dataset_info *info = &j->trained.facts.info;
    double resized = (double)dt_inputs_resized(j->inputs);
    DT_TRY(dt_comm_sum_host(j->s.mpi, &resized, 1));
    if (j->s.mpi->rank != 0) return DT_OK;
    if (resized > 0)
        dt_tell(j->o->sink, DT_NEWS_NOTE,
                "%s %s not of the training set's %lld x %lld: the centre square was resized to that",
                dt_count_text((int64_t)resized, "image").s, resized > 1 ? "were" : "was",
                (long long)info->height, (long long)info->width);
    const int64_t unlike = dt_inputs_unlike(j->inputs);
    if (unlike > 0)
        dt_tell(j->o->sink, DT_NEWS_NOTE,
                "%s in data sets %s not of the training set's %lld x %lld: seen as eval sees them, by "
                "augment.eval_resize and the centre",
                dt_count_text(unlike, "image").s, unlike > 1 ? "are" : "is", (long long)info->height,
                (long long)info->width);
    return DT_OK;
}

static dt_status predict_all(job *j, const dt_config *asked) {
    dt_dataset_info info;
    double ignored[DT_METRIC_COUNT];
    dt_comm *mpi = j->s.mpi;
    dt_status st = make_table(j, asked);
    if (st == DT_OK) st = dt_session_loader(&j->s, true, 0, 0, &j->loader);
    DT_TRY(dt_comm_agree(mpi, st));
    tell_start(j, asked);
    if (mpi->rank == 0 && j->o->begin) DT_TRY(j->o->begin(j->o->arg, &j->form));
    dt_dataset_info_get(j->inputs, &info);
    j->result->n_inputs = info.n_samples;
    const int64_t n_batch = (info.n_samples + j->t.rows - 1) / j->t.rows;
    DT_TRY(dt_engine_eval_begin(j->s.engine, false));
    for (int64_t round = 0; round * mpi->world < n_batch; round++) DT_TRY(run_round(j, round));
    DT_TRY(dt_engine_eval_end(j->s.engine, ignored));
    return tell_end(j);
}

/* Which of the data's fields the network's result follows from. */
static dt_status find_read(const dt_config *c, const dt_data_facts *f, bool reads[DT_FIELDS_MAX]) {
    const dt_model_input in = {.batch = 2,
                               .classes = c->model.classes > 0 ? c->model.classes : f->info.n_classes,
                               .field = f->info.field,
                               .n_field = f->info.n_field,
                               .n_vocab = f->info.n_vocab};
    dt_graph *g;
    DT_TRY(dt_model_build(&c->model, &in, DT_DTYPE_F32, false, &g));
    bool *from = calloc((size_t)g->n_value + 1, sizeof *from);
    const dt_vid out = dt_graph_output(g, dt_task_of(&c->model)->output);
    if (from) from[out] = true;
    for (dt_nid i = g->n_node - 1; i >= 0 && from; i--) {
        const dt_node *n = &g->node[i];
        bool any = false;
        for (int32_t k = 0; k < n->n_out; k++) any |= n->out[k] >= 0 && from[n->out[k]];
        for (int32_t k = 0; k < n->n_in && any; k++)
            if (n->in[k] >= 0) from[n->in[k]] = true;
    }
    for (int32_t i = 0; i < f->info.n_field && from; i++) {
        const dt_vid v = dt_graph_input(g, f->info.field[i].name);
        reads[i] = v >= 0 && from[v];
    }
    const dt_status st = from ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for the network");
    free(from);
    dt_graph_destroy(g);
    return st;
}

static dt_status open_arrays(job *j, const dt_config *c) {
    dt_inputs_arrays o = {.facts = &j->trained.facts,
                          .n_path = j->o->n_input,
                          .path = j->o->input,
                          .columns = j->o->columns,
                          .verify = c->data.verify};
    DT_TRY(find_read(c, o.facts, o.reads));
    return dt_inputs_open_arrays(&o, &j->inputs);
}

/* Every rank names the same inputs, found on its own host. */
static dt_status open_inputs(job *j, const dt_config *c, dt_comm *mpi) {
    const bool arrays = j->trained.facts.info.n_field > 0;
    dt_status st = DT_OK;
    if (dt_task_of(&c->model)->tokens || (j->trained.facts.info.n_vocab > 0 && !j->trained.facts.tokenizer))
        st = dt_fail(DT_ERR_USAGE, "the network says tokens: predict is for images, arrays of numbers and "
                                   "classes of text (dtrain sample "
                                   "goes on with a text)");
    else if (j->trained.facts.tokenizer && j->o->columns)
        st = dt_fail(DT_ERR_USAGE, "--x names columns, and the network was trained on text");
    else if (!arrays && j->o->columns)
        st = dt_fail(DT_ERR_USAGE, "--x names columns, and the network was trained on images");
    if (st == DT_OK)
        st = arrays ? open_arrays(j, c)
                    : dt_inputs_open(&j->trained.facts, j->o->n_input, j->o->input, &j->inputs);
    DT_TRY(dt_comm_agree(mpi, st));
    DT_TRY(dt_comm_check_equal(mpi, (uint64_t)j->o->top, "the number of classes per input"));
    return dt_comm_check_equal(mpi, dt_inputs_hash(j->inputs), "the inputs");
}

dt_status dt_predict(const dt_config *c, dt_comm *mpi, const dt_predict_options *o, dt_predict_result *out) {
    job j = {.o = o, .result = out};
    dt_config own = *c; /* its layers stay c's */
    dt_dataset_info info;
    bool opened = false;
    *out = (dt_predict_result){0};
    dt_status st;
    DT_TRY_GOTO(st, dt_trained_load(c, mpi, o->sink, &j.trained), out);
    DT_TRY_GOTO(st, dt_comm_agree(mpi, dt_trained_find_facts(c, j.trained.ckpt->path, &j.trained)), out);
    DT_TRY_GOTO(st, open_inputs(&j, c, mpi), out);
    dt_dataset_info_get(j.inputs, &info);
    adapt(&own, mpi->world, info.n_samples);
    st = dt_session_open_trained(&own, mpi, &j.trained.facts, j.inputs, o->sink, &j.s);
    opened = st == DT_OK;
    if (!opened) {
        j.inputs = NULL; /* taken over */
        goto out;
    }
    DT_TRY_GOTO(st, dt_trained_apply(&j.trained, &j.s), out);
    DT_TRY_GOTO(st, predict_all(&j, c), out);
    if (out->n_failed > 0)
        st = dt_fail(DT_ERR_DATA, "%lld of %s could not be read", (long long)out->n_failed,
                     dt_count_text(out->n_inputs, "input").s);
out:
    dt_loader_close(j.loader);
    if (opened)
        dt_session_close(&j.s, st);
    else
        dt_dataset_close(j.inputs);
    dt_trained_free(&j.trained);
    free(j.t.v), free(j.t.errors), free(j.t.others), free(j.index), free(j.probability), free(j.value);
    return st;
}
