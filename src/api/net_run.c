/* Networks at work: inputs, passes, views, metrics. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/op.h"
#include "net.h"

/* ---- inputs ---- */

dt_net_input *dt_net_find_input(dt_net *net, const char *name) {
    for (int32_t i = 0; i < net->n_input; i++)
        if (strcmp(net->input[i].field.name, name) == 0) return &net->input[i];
    return NULL;
}

static bool is_class(const dt_net *net, const dt_field *f) {
    const dt_graph *g = net->b.g;
    const dt_vid v = dt_graph_input(g, f->name);
    bool read = false;
    for (dt_nid i = 0; i < g->n_node && f->dtype == DT_DTYPE_I32; i++)
        read |= g->node[i].op == DT_OP_XENT && dt_node_has(&g->node[i], DT_XENT_IN_LABEL) &&
                g->node[i].in[DT_XENT_IN_LABEL] == v;
    return read;
}

/* Elements that stand for no row: class -1, which losses leave out, else 0. */
static void clear_rows(const dt_net *net, dt_net_input *in, int64_t from, int64_t to) {
    const int64_t bytes = dt_field_bytes(&in->field);
    memset((char *)in->data + from * bytes, is_class(net, &in->field) ? 0xff : 0,
           (size_t)((to - from) * bytes));
}

/* Waits until what was set before has left its memory. */
static dt_status wait_input(dt_net *net) {
    return net->n_fed > 0 ? dt_engine_input_wait(net->engine, net->n_fed - 1) : DT_OK;
}

dt_status dt_net_fill(dt_net *net, dt_net_input *in, int64_t rows, const void *data) {
    DT_TRY(wait_input(net));
    memcpy(in->data, data, (size_t)(rows * dt_field_bytes(&in->field)));
    in->rows = rows;
    clear_rows(net, in, rows, net->options.batch);
    return DT_OK;
}

dt_status dt_net_set(dt_net *net, const char *input, const dt_tensor *rows) {
    DT_CHECK_BUILT(net);
    DT_CHECK_POINTER(input);
    DT_CHECK_TENSOR(rows);
    dt_net_input *in = dt_net_find_input(net, input);
    if (!in) return dt_fail(DT_ERR_USAGE, "dt_net_set: the network has no input \"%s\"", input);
    const dt_field *f = &in->field;
    const int64_t batch = net->options.batch;
    dt_shape want = {.ndim = f->ndim + 1, .dim = {batch}};
    memcpy(want.dim + 1, f->dim, (size_t)f->ndim * sizeof *f->dim);
    if (rows->shape.ndim >= 1 && rows->shape.dim[0] >= 1 && rows->shape.dim[0] <= batch)
        want.dim[0] = rows->shape.dim[0];
    if (rows->dtype != f->dtype || !dt_shape_equal(want, rows->shape))
        return dt_fail(DT_ERR_USAGE, "dt_net_set: \"%s\" takes %s %s, or fewer rows; the tensor is %s %s",
                       input, dt_shape_to_text(want).s, dt_dtype_name(f->dtype),
                       dt_shape_to_text(rows->shape).s, dt_dtype_name(rows->dtype));
    DT_TRY(dt_net_compile(net));
    DT_TRY(wait_input(net));
    DT_TRY(dt_tensor_read(rows, in->data, rows->bytes));
    in->rows = rows->shape.dim[0];
    clear_rows(net, in, in->rows, batch);
    return DT_OK;
}

static dt_status feed(dt_net *net, dt_mode mode) {
    dt_field field[DT_FIELDS_MAX];
    dt_batch b = {.field = field, .rows = net->options.batch, .n_field = net->n_input};
    int64_t rows = 0;
    for (int32_t i = 0; i < net->n_input; i++) {
        dt_net_input *in = &net->input[i];
        if (in->rows == 0 && mode == DT_TRAINING)
            return dt_fail(DT_ERR_USAGE, "the input \"%s\" was not set", in->field.name);
        if (in->rows == 0) clear_rows(net, in, 0, net->options.batch);
        if (in->rows > 0 && rows > 0 && in->rows != rows)
            return dt_fail(DT_ERR_USAGE, "the input \"%s\" has %lld rows, another has %lld", in->field.name,
                           (long long)in->rows, (long long)rows);
        if (in->rows > 0) rows = in->rows;
        field[i] = in->field;
        b.data[i] = in->data;
    }
    if (mode == DT_TRAINING && rows != net->options.batch)
        return dt_fail(DT_ERR_USAGE, "training takes batches of %lld rows, the inputs have %lld",
                       (long long)net->options.batch, (long long)rows);
    b.n_valid = rows;
    DT_TRY(dt_net_check_rows(net));
    net->n_fed = dt_engine_fed(net->engine);
    DT_TRY(dt_engine_feed(net->engine, &b, mode == DT_EVALUATION));
    net->n_fed++;
    return DT_OK;
}

/* ---- passes ---- */

/* Reads the results of steps but for the newest `keep`. */
static dt_status take_results(dt_net *net, int32_t keep) {
    while (dt_engine_pending(net->engine) > keep) {
        dt_step_result r;
        DT_TRY(dt_engine_result(net->engine, &r));
        for (int i = 0; i < DT_METRIC_COUNT; i++) net->metric[i] = (double)r.metric[i];
    }
    return DT_OK;
}

dt_status dt_net_settle(dt_net *net) {
    if (net->phase != DT_NET_IDLE) {
        DT_TRY(dt_engine_end_step(net->engine, -1)); /* without its update */
        net->phase = DT_NET_IDLE;
    }
    return take_results(net, 0);
}

static dt_step_params step_params(const dt_net *net) {
    const dt_config *c = &net->config;
    return (dt_step_params){.lr = (float)net->lr,
                            .loss_weight = (float)(1.0 / (double)c->train.global_batch),
                            .first_micro = 1,
                            .seed = (uint64_t)c->run.seed,
                            .step = (uint64_t)net->step,
                            .micro = net->run->mpi ? (uint64_t)net->run->mpi->rank : 0};
}

/* Feeds a step with the inputs as they are set. */
static dt_status prepare(dt_net *net) {
    if (net->evaluating)
        return dt_fail(DT_ERR_USAGE, "a step between dt_net_begin_evaluation and dt_net_end_evaluation");
    DT_TRY(dt_net_settle(net));
    return feed(net, DT_TRAINING);
}

/* Begins the step that was fed. */
static dt_status begin(dt_net *net) {
    DT_TRY(dt_engine_begin_step(net->engine, false, false));
    net->mode = DT_TRAINING;
    net->passed = true;
    net->metrics_of = DT_METRICS_STEP;
    return DT_OK;
}

/* Ends the step whose update was queued. */
static dt_status end(dt_net *net) {
    DT_TRY(dt_engine_end_step(net->engine, net->step));
    net->step++;
    net->phase = DT_NET_IDLE;
    return take_results(net, dt_engine_lag(net->engine));
}

static dt_status forward_evaluation(dt_net *net) {
    DT_TRY(dt_net_compile(net));
    DT_TRY(dt_net_settle(net));
    DT_TRY(feed(net, DT_EVALUATION));
    net->mode = DT_EVALUATION;
    net->passed = true;
    int64_t rows = 0;
    for (int32_t i = 0; i < net->n_input; i++) rows = dt_max_i64(rows, net->input[i].rows);
    if (net->evaluating) {
        DT_TRY(dt_engine_eval_batch(net->engine));
        return dt_ranking_add(&net->ranking, net->engine, rows);
    }
    net->metrics_of = DT_METRICS_EVALUATION;
    dt_ranking lone;
    dt_ranking_begin(net->engine, &lone);
    dt_status st = dt_engine_eval_lone(net->engine, net->metric);
    if (st == DT_OK) st = dt_ranking_add(&lone, net->engine, rows);
    if (st == DT_OK) st = dt_ranking_average(&lone, NULL, NULL, &net->average_precision);
    dt_ranking_free(&lone);
    return st;
}

dt_status dt_net_forward(dt_net *net, dt_mode mode) {
    DT_CHECK_NET(net);
    if (mode == DT_EVALUATION) return forward_evaluation(net);
    if (mode != DT_TRAINING) return dt_fail(DT_ERR_USAGE, "dt_net_forward: %d is no dt_mode", (int)mode);
    DT_TRY(dt_net_compile(net));
    DT_TRY(prepare(net));
    DT_TRY(begin(net));
    const dt_step_params p = step_params(net);
    net->phase = DT_NET_FORWARD;
    return dt_engine_forward(net->engine, &p);
}

/* Remembers that this rank left a collective call early. */
static dt_status note(dt_net *net, dt_status st) {
    if (st != DT_OK && net->run->mpi) net->run->failed = true;
    return st;
}

dt_status dt_net_backward(dt_net *net) {
    DT_CHECK_BUILT(net);
    const dt_status mine =
        net->phase == DT_NET_FORWARD
            ? DT_OK
            : dt_fail(DT_ERR_USAGE, "dt_net_backward: there was no forward pass in training before it");
    DT_TRY(dt_net_meet(net, mine, __func__, ""));
    DT_TRY(note(net, dt_engine_backward(net->engine, true)));
    net->phase = DT_NET_BACKWARD;
    return DT_OK;
}

dt_status dt_net_update(dt_net *net) {
    DT_CHECK_BUILT(net);
    const dt_status mine = net->phase == DT_NET_BACKWARD
                               ? DT_OK
                               : dt_fail(DT_ERR_USAGE, "dt_net_update: there was no backward pass before it");
    DT_TRY(dt_net_meet(net, mine, __func__, ""));
    DT_TRY(note(net, dt_engine_update(net->engine)));
    return note(net, end(net));
}

dt_status dt_net_step_after(dt_net *net, dt_status mine) {
    DT_TRY(dt_net_compile(net));
    if (mine == DT_OK) mine = prepare(net);
    DT_TRY(dt_net_meet(net, mine, "dt_net_step", ""));
    DT_TRY(note(net, begin(net)));
    const dt_step_params p = step_params(net);
    DT_TRY(note(net, dt_engine_micro(net->engine, &p, true)));
    return note(net, end(net));
}

dt_status dt_net_step(dt_net *net) {
    DT_CHECK_NET(net);
    return dt_net_step_after(net, DT_OK);
}

dt_status dt_net_begin_evaluation(dt_net *net) {
    DT_CHECK_NET(net);
    DT_TRY(dt_net_compile(net));
    const dt_status mine = net->evaluating
                               ? dt_fail(DT_ERR_USAGE, "dt_net_begin_evaluation: there is one already")
                               : dt_net_settle(net);
    DT_TRY(dt_net_meet(net, mine, __func__, ""));
    DT_TRY(note(net, dt_engine_eval_begin(net->engine, false)));
    dt_ranking_begin(net->engine, &net->ranking);
    net->evaluating = true;
    return DT_OK;
}

dt_status dt_net_end_evaluation(dt_net *net) {
    DT_CHECK_BUILT(net);
    const dt_status mine =
        net->evaluating ? DT_OK : dt_fail(DT_ERR_USAGE, "dt_net_end_evaluation: there is none");
    DT_TRY(dt_net_meet(net, mine, __func__, ""));
    net->evaluating = false;
    net->metrics_of = DT_METRICS_EVALUATION;
    dt_status st = dt_engine_eval_end(net->engine, net->metric);
    if (st == DT_OK) st = dt_ranking_average(&net->ranking, net->run->mpi, NULL, &net->average_precision);
    dt_ranking_free(&net->ranking);
    return note(net, st);
}

/* ---- metrics ---- */

/* The sums that a metric is made of. */
static double step_value(const double *sum, double rows) {
    return *sum + 0 * rows;
}
static double mean_value(const double *sum, double rows) {
    return *sum / rows;
}

typedef struct metric_row {
    const char *name;
    dt_metric sum;
    double (*value)(const double *sum, double rows); /* NULL: the total loss, or the task's */
    bool step_only;                                  /* the update's */
    const dt_metric_row *of_task;
    bool of_evaluation; /* alone */
} metric_row;

static const metric_row metric_table[] = {
    {"loss", DT_METRIC_LOSS, NULL, false, NULL, false},
    {"rows", DT_METRIC_SAMPLES, step_value, false, NULL, false},
    {"grad_norm", DT_METRIC_GRAD_NORM, step_value, true, NULL, false},
    {"skipped", DT_METRIC_SKIPPED, step_value, true, NULL, false},
};

/* The metric of that name: the network's own, its task's, one of several losses. */
static dt_status find_metric(const dt_net *net, const char *name, metric_row *out) {
    for (size_t i = 0; i < sizeof metric_table / sizeof metric_table[0]; i++)
        if (strcmp(metric_table[i].name, name) == 0) {
            *out = metric_table[i];
            return DT_OK;
        }
    for (int32_t i = 0; net->task && i < net->task->n_metric; i++)
        if (strcmp(net->task->metric[i].name, name) == 0) {
            *out = (metric_row){.name = name, .of_task = &net->task->metric[i]};
            out->of_evaluation = net->task->metric[i].need == DT_NEED_SCORES;
            return DT_OK;
        }
    for (int32_t i = 0; net->b.g->n_loss > 1 && i < net->b.g->n_loss; i++)
        if (strcmp(net->loss_name[i], name) == 0) {
            *out =
                (metric_row){.name = name, .sum = (dt_metric)(DT_METRIC_LOSSES + 2 * i), .value = mean_value};
            return DT_OK;
        }
    return dt_fail(DT_ERR_USAGE, "dt_net_metric: no metric is named \"%s\"", name);
}

dt_status dt_net_metric(dt_net *net, const char *name, double *out) {
    metric_row row = {.name = NULL};
    DT_CHECK_BUILT(net);
    DT_CHECK_POINTER(name);
    DT_CHECK_POINTER(out);
    *out = NAN;
    DT_TRY(find_metric(net, name, &row));
    if (net->metrics_of == DT_METRICS_NONE || (row.step_only && net->metrics_of != DT_METRICS_STEP) ||
        (row.of_evaluation && net->metrics_of != DT_METRICS_EVALUATION))
        return dt_fail(DT_ERR_USAGE, "dt_net_metric: there is no \"%s\"%s", name,
                       row.of_evaluation ? " but of an evaluation" : " yet");
    if (net->metrics_of == DT_METRICS_STEP) {
        if (net->phase == DT_NET_IDLE)
            DT_TRY(take_results(net, 0));
        else
            DT_TRY(dt_engine_sums(net->engine, net->metric)); /* so far */
    }
    if (row.of_task) {
        const dt_metric_extra more = {.average_precision = net->average_precision};
        if (net->metric[DT_METRIC_SAMPLES] > 0)
            *out = dt_metric_value(row.of_task, net->metric, net->b.g->n_loss > 1, &more);
        return DT_OK;
    }
    if (!row.value) {
        double weight[DT_LOSSES_MAX];
        const dt_graph *g = net->b.g;
        for (int32_t i = 0; i < g->n_loss; i++)
            weight[i] = (double)g->node[g->value[g->loss[i]].producer].attr.loss.weight;
        if (net->metric[DT_METRIC_SAMPLES] > 0)
            *out = dt_loss_total(net->metric, g->n_loss > 1 ? g->n_loss : 0, weight);
        return DT_OK;
    }
    /* Rows of one of several losses stand behind its sum. */
    const bool own = row.sum >= DT_METRIC_LOSSES && row.sum < DT_METRIC_STOP;
    *out = row.value(&net->metric[row.sum], net->metric[own ? (int)row.sum + 1 : DT_METRIC_SAMPLES]);
    return DT_OK;
}

dt_status dt_net_set_lr(dt_net *net, double lr) {
    DT_CHECK_BUILT(net);
    if (!(lr >= 0) || isinf(lr)) return dt_fail(DT_ERR_CONFIG, "dt_net_set_lr: lr is %g", lr);
    net->lr = lr;
    return DT_OK;
}

/* ---- views ---- */

static dt_status view(dt_net *net, dt_dtype dtype, int32_t ndim, const int64_t *dim, void *data,
                      dt_tensor **out) {
    dt_shape shape = {.ndim = ndim};
    memcpy(shape.dim, dim, (size_t)ndim * sizeof *dim);
    DT_TRY(dt_engine_sync(net->engine));
    DT_TRY(dt_tensor_over(net->run, net->be, dtype, shape, data, out));
    dt_net_hold((*out)->net = net);
    return DT_OK;
}

dt_status dt_net_output(dt_net *net, const char *name, dt_tensor **out) {
    DT_CHECK_BUILT(net);
    DT_CHECK_POINTER(name);
    DT_CHECK_POINTER(out);
    *out = NULL;
    if (!net->passed) return dt_fail(DT_ERR_USAGE, "dt_net_output: there was no forward pass yet");
    const dt_program *p = dt_engine_program(net->engine, net->mode == DT_EVALUATION);
    const dt_vid id = dt_graph_output(p->graph, name);
    if (id < 0)
        return dt_fail(DT_ERR_USAGE,
                       "dt_net_output: the network has no output \"%s\": name one with dt_expose", name);
    const dt_value *v = &p->graph->value[id];
    return view(net, v->dtype, v->ndim, v->dim, dt_program_address(p, id), out);
}

/* Parameter `name` in the arena that holds such values of its axis. */
static dt_status axis_view(dt_net *net, const char *name, dt_arena arena, dt_dtype dtype, dt_tensor **out) {
    const dt_axis *axis = dt_engine_axis(net->engine);
    const int32_t i = dt_axis_find(axis, name);
    if (i < 0) return dt_fail(DT_ERR_USAGE, "the network has no parameter \"%s\"", name);
    const dt_axis_param *param = &axis->param[i];
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, param->dim, sizeof dim);
    if (param->ndim > 0) dim[param->ndim - 1] = param->padded_c;
    const bool frozen = i >= axis->n_segment;
    if (frozen && arena == DT_ARENA_GRAD)
        return dt_fail(DT_ERR_USAGE, "parameter \"%s\" is frozen: it has no gradient", name);
    char *base = dt_engine_program(net->engine, false)->store->arena[frozen ? DT_ARENA_FROZEN : arena];
    if (frozen) return view(net, param->dtype, param->ndim, dim, base + param->frozen_at, out);
    return view(net, dtype, param->ndim, dim, base + axis->segment[i].offset * (int64_t)dt_dtype_size(dtype),
                out);
}

dt_status dt_net_parameter(dt_net *net, const char *name, dt_tensor **out) {
    DT_CHECK_NET(net);
    DT_CHECK_POINTER(name);
    DT_CHECK_POINTER(out);
    *out = NULL;
    DT_TRY(dt_net_compile(net));
    return axis_view(net, name, DT_ARENA_MASTER, DT_DTYPE_F32, out);
}

dt_status dt_net_gradient(dt_net *net, const char *name, dt_tensor **out) {
    DT_CHECK_BUILT(net);
    DT_CHECK_POINTER(name);
    DT_CHECK_POINTER(out);
    *out = NULL;
    if (net->phase == DT_NET_FORWARD || (net->phase == DT_NET_IDLE && net->step == 0))
        return dt_fail(DT_ERR_USAGE, "dt_net_gradient: there was no backward pass yet");
    return axis_view(net, name, DT_ARENA_GRAD, net->options.compute, out);
}

int32_t dt_net_n_parameter(dt_net *net) {
    if (dt_handle_check(DT_HANDLE_NET, net, __func__, "net") != DT_OK) return 0;
    int32_t n = 0;
    for (dt_vid v = 0; v < net->b.g->n_value; v++) n += net->b.g->value[v].role == DT_ROLE_PARAM;
    return n;
}

const char *dt_net_parameter_name(dt_net *net, int32_t i) {
    if (dt_handle_check(DT_HANDLE_NET, net, __func__, "net") != DT_OK) return NULL;
    for (dt_vid v = 0; v < net->b.g->n_value; v++)
        if (net->b.g->value[v].role == DT_ROLE_PARAM && i-- == 0) return net->b.g->value[v].name;
    return NULL;
}
