/* Compiling a run: from the configuration to bound programs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/compile.h"
#include "core/op.h"
#include "model/model.h"
#include "data/agree.h"
#include "data/augment.h"
#include "engine_internal.h"
#include "train/stages.h"

dt_status dt_division_make(const dt_config *c, int32_t rank, int32_t world, dt_division *out) {
    const int64_t batch = c->train.global_batch, micro = c->train.micro_batch;
    memset(out, 0, sizeof *out);
    out->global_batch = batch;
    out->n_micro_all = micro > 0 ? batch / micro : world;
    if (micro > 0 && batch % micro)
        return dt_fail(DT_ERR_CONFIG,
                       "train.micro_batch = %lld does not divide train.global_batch = %lld: choose a divisor",
                       (long long)micro, (long long)batch);
    if (batch < world)
        return dt_fail(
            DT_ERR_CONFIG,
            "train.global_batch = %lld is less than the number of ranks, %d: raise it, or start fewer ranks",
            (long long)batch, world);
    if (out->n_micro_all < world)
        return dt_fail(
            DT_ERR_CONFIG,
            "train.global_batch = %lld in micro-batches of %lld gives work to %lld of %d ranks: set "
            "train.micro_batch to a divisor of at most %lld, or start fewer ranks",
            (long long)batch, (long long)micro, (long long)out->n_micro_all, world,
            (long long)(batch / world));
    if (c->train.sync_batch_norm && out->n_micro_all % world != 0)
        return dt_fail(
            DT_ERR_CONFIG,
            "train.sync_batch_norm: the %lld micro-batches of a step do not go evenly into %d ranks, which "
            "wait "
            "for each other at every batch norm: choose train.micro_batch so that train.global_batch / "
            "train.micro_batch is a multiple of %d, or another number of ranks",
            (long long)out->n_micro_all, world, world);
    out->n_micro = out->n_micro_all / world + (rank < out->n_micro_all % world ? 1 : 0);
    out->rows = batch / out->n_micro_all + (rank < batch % out->n_micro_all ? 1 : 0);
    out->eval_rows =
        c->train.eval_batch > 0 ? c->train.eval_batch : (batch + out->n_micro_all - 1) / out->n_micro_all;
    return DT_OK;
}

/* What the model is fed, from the configuration and the data. */
static dt_status model_input(const dt_engine *e, const dt_dataset_info *d, int64_t rows, bool training,
                             dt_model_input *in) {
    const dt_config *c = e->config;
    *in = (dt_model_input){
        .batch = rows, .classes = c->model.classes, .label_smoothing = c->train.label_smoothing};
    if (d->channels == 0) {
        in->field = d->field;
        in->n_field = d->n_field;
        in->n_vocab = d->n_vocab;
        if (in->classes == 0) in->classes = d->n_classes;
        return DT_OK;
    }
    dt_image_input image;
    dt_data_options data = c->data;
    dt_augment_options augment = c->augment;
    if (training) dt_stage_options(c, e->stage, &data, &augment);
    DT_TRY(dt_data_image_input(&data, &augment, c->model.classes, d, training, e->be->info.is_gpu, &image));
    in->height = image.height;
    in->width = image.width;
    in->table_side = c->data.image_size;
    in->channels = image.channels;
    in->padded_channels = e->any_gpu ? dt_round_up(image.channels, 4) : image.channels;
    in->classes = image.classes;
    in->source_crop = image.source_crop;
    in->edits = image.edits;
    in->mix_rows = training && dt_augment_has_mix_rows(&augment);
    in->mixed = training && dt_augment_mixes(&augment);
    in->src_height = image.src_height;
    in->src_width = image.src_width;
    memcpy(in->mean, image.mean, sizeof in->mean);
    memcpy(in->stddev, image.stddev, sizeof in->stddev);
    return DT_OK;
}

static dt_status build_graph(const dt_engine *e, const dt_model_options *model, const dt_dataset_info *data,
                             int64_t rows, bool training, dt_graph **out) {
    dt_model_input in;
    if (e->make_forward) return e->make_forward(e->forward_arg, rows, training, out);
    DT_TRY(model_input(e, data, rows, training, &in));
    return dt_model_build(model ? model : &e->config->model, &in,
                          dt_precision_dtype(e->config->train.precision), training, out);
}

dt_status dt_engine_eval_graph(const dt_engine *e, const dt_model_options *model, const dt_dataset_info *data,
                               int64_t rows, dt_graph **out) {
    return build_graph(e, model, data, rows, false, out);
}

dt_status dt_engine_forward_graph(const dt_engine *e, const dt_model_options *model,
                                  const dt_dataset_info *data, bool training, dt_graph **out) {
    int64_t rows = training ? e->division.rows : e->division.eval_rows;
    /* Evaluation takes names and shapes from the training graph, and must not fail where its micro-batch of
     * this many ranks would be too small for batch statistics. */
    if (training && !e->train) rows = dt_max_i64(rows, 2);
    return build_graph(e, model, data, rows, training, out);
}

static dt_status refuse_hopeless(void *arg, dt_graph *g) {
    return dt_engine_refuse_hopeless(arg, g);
}

/* An optimizer of matrices that has none would be another optimizer. */
static dt_status need_matrix(const dt_engine *e) {
    const dt_axis *a = e->axis;
    if (!e->train || !(dt_optim_get((dt_optim_kind)e->config->optim.kind)->flags & DT_OPTIM_MATRIX))
        return DT_OK;
    for (int32_t i = 0; i < a->n_segment; i++)
        if (a->segment[i].matrix) return DT_OK;
    return dt_fail(
        DT_ERR_CONFIG,
        "optim.kind = \"%s\": the network has no hidden matrix that is trained, a dense layer whose result "
        "is no output. Convolutions take part where [[optim.groups]] says so, e.g. pattern = "
        "\"layer*.weight\", muon = true",
        dt_optim_names[e->config->optim.kind]);
}

/* What is made of the scores of a whole evaluation needs them behind it. */
static dt_status keep_scores(dt_graph *g) {
    const dt_node *n = g->n_loss > 0 ? &g->node[g->value[g->loss[0]].producer] : NULL;
    if (!n || n->op != DT_OP_LOSS || n->attr.loss.sums != DT_LOSS_SUMS_LABELS) return DT_OK;
    DT_TRY(dt_graph_keep(g, DT_ENGINE_SCORES, n->in[DT_LOSS_IN_X]));
    return dt_graph_keep(g, DT_ENGINE_TARGETS, n->in[DT_LOSS_IN_TARGET]);
}

/* Whether batch statistics are those of all ranks. */
static bool syncs(const dt_engine *e) {
    return e->config->train.sync_batch_norm && e->train && e->comm && e->comm->world > 1;
}

/* The programs of the stages behind the first, on its axis. */
static dt_status compile_stages(dt_engine *e, const dt_dataset_info *data, const dt_compile_options *first) {
    dt_compile_options o = *first;
    o.axis.made = true;
    o.recompute_flops = NULL;
    const int32_t n = e->train && !e->make_forward ? dt_stage_count(e->config) : 1;
    for (e->stage = 1; e->stage < n; e->stage++) {
        dt_graph *g;
        DT_TRY(dt_engine_forward_graph(e, NULL, data, true, &g));
        const dt_status st = dt_engine_probe(e, g);
        if (st != DT_OK) dt_graph_destroy(g);
        DT_TRY(st);
        DT_TRY(dt_compile(g, &o, &e->axis, &e->staged[e->stage].program));
        e->n_staged++;
    }
    e->stage = 0;
    return DT_OK;
}

/* The programs, prepared but without memory. */
static dt_status compile(dt_engine *e, const dt_dataset_info *data, FILE *tell) {
    const dt_config *c = e->config;
    const dt_compile_options o = {.be = e->be,
                                  .fuse = c->train.fusion != DT_FUSION_OFF,
                                  .axis = {.n_bucket = (int32_t)c->dist.buckets,
                                           .weight_decay = (float)c->optim.weight_decay,
                                           .decay_all = c->optim.decay_bn_and_bias,
                                           /* Evaluation has all of them on the axis. */
                                           .groups = e->train ? &e->groups : NULL},
                                  .rows = e->division.rows,
                                  .rows_all = syncs(e) ? e->division.global_batch / e->division.n_micro : 0,
                                  .recompute = e->recompute,
                                  .recompute_flops = &e->recompute_flops,
                                  .check = refuse_hopeless,
                                  .arg = e,
                                  .tell = tell};
    dt_graph *g;
    e->stage = 0;
    /* The axis needs the training graph even where only evaluation runs. */
    DT_TRY(dt_engine_forward_graph(e, NULL, data, true, &g));
    dt_status st = dt_weight_list_make(g, &e->weights);
    if (st == DT_OK) st = dt_engine_make_groups(e);
    if (st == DT_OK) st = dt_engine_probe(e, g);
    if (st != DT_OK) dt_graph_destroy(g);
    DT_TRY(st);
    dt_weight_list_settle(&e->weights, c->model.name);
    DT_TRY(dt_compile(g, &o, &e->axis, e->train ? &e->program : NULL));
    e->staged[0].program = e->program;
    e->n_staged = 1;
    dt_engine_scale_layers(e);
    DT_TRY(need_matrix(e));
    DT_TRY(compile_stages(e, data, &o));
    DT_TRY(dt_engine_forward_graph(e, NULL, data, false, &g));
    const dt_status kept = keep_scores(g);
    if (kept != DT_OK) {
        dt_graph_destroy(g);
        return kept;
    }
    return dt_compile(g, &o, &e->axis, &e->eval);
}

static void forget_programs(dt_engine *e) {
    dt_program_destroy(e->eval);
    for (int32_t k = 0; k < e->n_staged; k++) dt_program_destroy(e->staged[k].program);
    dt_axis_destroy(e->axis);
    dt_weight_list_free(&e->weights);
    e->eval = e->program = NULL;
    memset(e->staged, 0, sizeof e->staged);
    e->n_staged = 0;
    e->axis = NULL;
}

/* At the level of recomputation that is chosen, or the first that fits. */
static dt_status compile_to_fit(dt_engine *e, const dt_engine_options *o, const dt_store_options *so) {
    const int64_t choice = e->config->train.recompute;
    if (choice != DT_RECOMPUTE_AUTO) e->recompute = (dt_recompute)(choice - DT_RECOMPUTE_LEVELS);
    for (;;) {
        char *told = NULL; /* of the level that is taken alone */
        size_t size;
        FILE *tell = o->tell ? open_memstream(&told, &size) : NULL;
        dt_status st = compile(e, o->data, tell);
        if (st == DT_OK) st = dt_engine_check_memory(e, so);
        const bool last =
            !e->too_large || !e->train || choice != DT_RECOMPUTE_AUTO || e->recompute == DT_RECOMPUTE_BLOCKS;
        if (tell) fclose(tell);
        if (told && last) fputs(told, o->tell);
        free(told);
        if (last) return st;
        forget_programs(e);
        e->recompute++;
        e->too_large = false;
    }
}

/* Rows that the first loss has of each sample, any of which may have no target; 0: there is no loss. */
static float sample_rows(const dt_graph *g) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if ((n->op != DT_OP_XENT && n->op != DT_OP_LOSS) || n->attr.loss.nth > 1) continue;
        const dt_value *loss = &g->value[n->out[0]];
        return (float)(dt_value_n_elem(loss) / loss->dim[0]);
    }
    return 0;
}

static dt_axis_args axis_args(const dt_engine *e, int64_t offset, int64_t n_elem, bool summed) {
    const dt_store *s = e->store;
    const dt_config *c = e->config;
    const bool acc = summed && e->accumulate;
    dt_axis_args a = {
        .offset = offset,
        .n_elem = n_elem,
        .segment = e->axis->segment,
        .n_segment = e->axis->n_segment,
        .grad = s->arena[acc ? DT_ARENA_ACC : DT_ARENA_GRAD],
        .grad_dtype = acc ? DT_DTYPE_F32 : s->options.compute,
        .acc = s->arena[DT_ARENA_ACC],
        .master = s->arena[DT_ARENA_MASTER],
        .param16 = s->arena[DT_ARENA_PARAM16],
        .param16_dtype = s->options.compute,
        .ema = s->vec[DT_STORE_EMA].data,
        .norm2 = s->norm2,
        .metrics = s->arena[DT_ARENA_METRIC],
        .optim = c->optim,
        .clip_norm = (float)c->train.clip_norm,
        .sample_rows = e->train ? sample_rows(e->program->graph) : 0,
        .params = s->params,
        .growth_steps = (int32_t)c->train.loss_scale_growth,
    };
    for (int32_t i = 0; i < DT_OPTIM_STATES_MAX; i++) a.state[i] = s->vec[i].data;
    return a;
}

static dt_status bind_axis_kernels(dt_engine *e) {
    dt_backend *be = e->be;
    dt_axis_args all = axis_args(e, 0, e->axis->n_elem, true);
    if (e->store->arena[DT_ARENA_PARAM16]) DT_TRY(be->bind_axis(be, DT_AXIS_CAST, &all, &e->cast));
    if (!e->train) return DT_OK;
    DT_TRY(be->bind_axis(be, DT_AXIS_SUMSQ, &all, &e->sumsq));
    DT_TRY(be->bind_axis(be, DT_AXIS_UPDATE, &all, &e->update));
    if (e->store->arena[DT_ARENA_EMA_STATE]) {
        dt_axis_args state = axis_args(e, 0, e->store->bytes[DT_ARENA_STATE] / (int64_t)sizeof(float), true);
        state.segment = NULL, state.n_segment = 0;
        state.master = e->store->arena[DT_ARENA_STATE], state.ema = e->store->arena[DT_ARENA_EMA_STATE];
        state.param16 = NULL;
        DT_TRY(be->bind_axis(be, DT_AXIS_AVERAGE, &state, &e->average));
    }
    if (all.growth_steps > 0) DT_TRY(be->bind_axis(be, DT_AXIS_SCALE, &all, &e->scale));
    for (int32_t b = 0; e->accumulate && b < e->axis->n_bucket; b++) {
        dt_axis_args part = axis_args(e, e->axis->bucket[b].offset, e->axis->bucket[b].n_elem, false);
        DT_TRY(be->bind_axis(be, DT_AXIS_ACCUM, &part, &e->accum[b]));
    }
    return DT_OK;
}

static dt_status create_reducer(dt_engine *e) {
    if (!e->comm || e->comm->world == 1) return DT_OK;
    dt_reduce_range range[DT_BUCKETS_MAX];
    for (int32_t b = 0; b < e->axis->n_bucket; b++)
        range[b] = (dt_reduce_range){e->axis->bucket[b].offset, e->axis->bucket[b].n_elem};
    dt_reducer_options o = {
        .comm = e->comm,
        .be = e->be,
        .base = e->store->arena[e->accumulate ? DT_ARENA_ACC : DT_ARENA_GRAD],
        .dtype = e->accumulate ? DT_DTYPE_F32 : e->store->options.compute,
        .overlap = e->config->dist.overlap,
        .n_bucket = e->axis->n_bucket,
        .bucket = range,
    };
    DT_TRY(dt_reducer_create(&o, &e->reducer));
    return dt_reducer_set_extra(e->reducer, e->store->arena[DT_ARENA_METRIC], DT_METRIC_SUMMED);
}

/* What BN_SYNC and its gradient call. */
static dt_status create_sums(dt_engine *e) {
    const dt_graph *g = e->program->graph;
    int64_t n_max = 0;
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_BN_SYNC || g->node[i].op == DT_OP_BN_SYNC_GRAD)
            n_max = dt_max_i64(n_max, 2 * g->value[g->node[i].out[0]].dim[1]);
    if (n_max == 0) return DT_OK;
    DT_TRY(dt_sums_create(e->comm, e->be, n_max, &e->sums));
    e->be->ranks = (dt_ranks){dt_sums_run, e->sums};
    return DT_OK;
}

/* Pinned rings and, on a device, the staging of inputs. */
static dt_status create_rings(dt_engine *e) {
    dt_backend *be = e->be;
    const int64_t slot_bytes = (DT_METRIC_COUNT + 1) * (int64_t)sizeof(float);
    for (int i = 0; i < ENGINE_RING; i++) {
        DT_TRY(be->alloc(be, DT_MEM_HOST, slot_bytes, (void **)&e->ring[i].metric));
        DT_TRY(be->alloc(be, DT_MEM_HOST, slot_bytes, (void **)&e->ring[i].begin));
        DT_TRY(be->event_create(be, &e->ring[i].done));
    }
    e->n_params = (int32_t)(e->division.n_micro * ENGINE_RING);
    DT_TRY(
        be->alloc(be, DT_MEM_HOST, e->n_params * (int64_t)sizeof *e->params_ring, (void **)&e->params_ring));
    e->valid_rows = dt_max_i64(e->division.rows, e->division.eval_rows);
    DT_TRY(be->alloc(be, DT_MEM_HOST, 2 * e->valid_rows * (int64_t)sizeof *e->valid, (void **)&e->valid));
    for (int64_t i = 0; i < 2 * e->valid_rows; i++) e->valid[i] = i < e->valid_rows;
    if (!be->info.is_gpu) return DT_OK;
    int64_t bytes = e->eval->plan.input_bytes;
    for (int32_t k = 0; e->train && k < e->n_staged; k++)
        bytes = dt_max_i64(bytes, e->staged[k].program->plan.input_bytes);
    DT_TRY(be->stream_create(be, &e->copy_stream));
    for (int i = 0; i < ENGINE_STAGES; i++) {
        DT_TRY(be->alloc(be, DT_MEM_DEVICE, bytes, (void **)&e->stages[i].device));
        DT_TRY(be->event_create(be, &e->stages[i].taken));
    }
    for (int i = 0; i < ENGINE_FEEDS; i++) DT_TRY(be->event_create(be, &e->filled[i]));
    return dt_upload_create(&e->upload_plan, be, &e->upload);
}

static dt_status list_inputs(const dt_program *p, dt_vid *input, int32_t *n) {
    const dt_graph *g = p->graph;
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (g->value[v].role != DT_ROLE_INPUT) continue;
        if (*n == DT_FIELDS_MAX)
            return dt_fail(DT_ERR_CONFIG, "the network has more than %d inputs", DT_FIELDS_MAX);
        input[(*n)++] = v;
    }
    return DT_OK;
}

/* One arena, of the program that needs the largest one, serves all: they never run at once. */
static dt_status bind_programs(dt_engine *e) {
    dt_program *all[DT_STAGES_MAX + 1] = {e->eval}, *largest = e->eval;
    int32_t n = 1;
    DT_TRY(list_inputs(e->eval, e->input[1], &e->n_input[1]));
    for (int32_t k = 0; e->train && k < e->n_staged; k++) {
        staged *s = &e->staged[k];
        DT_TRY(list_inputs(s->program, s->input, &s->n_input));
        all[n++] = s->program;
    }
    for (int32_t i = 1; i < n; i++)
        if (all[i]->plan.act_bytes >= largest->plan.act_bytes) largest = all[i];
    DT_TRY(dt_program_bind(largest, e->store, NULL));
    const dt_program_options share = {.act = largest->act, .act_bytes = largest->plan.act_bytes};
    for (int32_t i = 0; i < n; i++)
        if (all[i] != largest) DT_TRY(dt_program_bind(all[i], e->store, &share));
    if (e->train) dt_engine_set_stage(e, 0);
    return DT_OK;
}

void dt_engine_set_stage(dt_engine *e, int32_t stage) {
    staged *from = &e->staged[e->stage], *to = &e->staged[stage];
    DT_ASSERT(stage >= 0 && stage < e->n_staged);
    memcpy(from->captured, e->captured, sizeof from->captured);
    memcpy(from->warm, e->warm, sizeof from->warm);
    e->stage = stage;
    e->program = to->program;
    memcpy(e->input[0], to->input, sizeof to->input);
    e->n_input[0] = to->n_input;
    memcpy(e->captured, to->captured, sizeof to->captured);
    memcpy(e->warm, to->warm, sizeof to->warm);
}

const dt_program *dt_engine_stage_program(const dt_engine *e, int32_t stage) {
    return e->staged[stage].program;
}

dt_status dt_engine_create(const dt_engine_options *o, dt_engine **out) {
    const dt_config *c = o->config;
    dt_store_options so = {
        .compute = dt_precision_dtype(c->train.precision),
        .train = o->train,
        .optim = c->optim,
        .ema = c->train.ema > 0,
    };
    dt_status st = DT_OK;
    dt_engine *e = calloc(1, sizeof *e);
    if (!e) return dt_fail(DT_ERR_MEMORY, "no memory for the engine");
    e->config = c;
    e->be = o->be;
    e->mpi = o->mpi;
    e->comm = o->comm;
    e->make_forward = o->forward;
    e->forward_arg = o->forward_arg;
    e->train = o->train;
    e->plan_only = o->plan_only;
    e->any_gpu = o->any_gpu || o->be->info.is_gpu;
    if (o->upload) e->upload_plan = *o->upload;
    DT_TRY_GOTO(st, dt_division_make(c, o->mpi ? o->mpi->rank : 0, o->mpi ? o->mpi->world : 1, &e->division),
                fail);
    if (!o->be->supports(o->be, so.compute)) {
        st = dt_fail(DT_ERR_CONFIG, "train.precision: %s is not available on %s; use \"fp32\"",
                     dt_dtype_name(so.compute), o->be->info.name);
        goto fail;
    }
    /* Ranks may differ in the number of micro-batches, so all accumulate if one does. */
    so.accumulate = so.train && (e->division.n_micro_all > (o->mpi ? o->mpi->world : 1) ||
                                 (c->dist.payload == DT_PAYLOAD_FP32 && so.compute != DT_DTYPE_F32));
    e->accumulate = so.accumulate;
    DT_TRY_GOTO(st, compile_to_fit(e, o, &so), fail);
    *out = e;
    if (e->plan_only) return DT_OK;
    DT_TRY_GOTO(st, dt_store_create(e->be, e->axis, e->eval->graph, &so, &e->store), fail);
    DT_TRY_GOTO(st, bind_programs(e), fail);
    DT_TRY_GOTO(st, bind_axis_kernels(e), fail);
    DT_TRY_GOTO(st, create_rings(e), fail);
    DT_TRY_GOTO(st, dt_engine_state_setup(e), fail);
    if (e->train) DT_TRY_GOTO(st, create_reducer(e), fail);
    if (syncs(e)) DT_TRY_GOTO(st, create_sums(e), fail);
    return DT_OK;
fail:
    *out = NULL;
    dt_engine_destroy(e);
    return st;
}

void dt_engine_destroy(dt_engine *e) {
    if (!e) return;
    dt_backend *be = e->be;
    if (e->n_staged > 0) memcpy(e->staged[e->stage].captured, e->captured, sizeof e->captured);
    for (int32_t k = 0; k < e->n_staged; k++)
        for (int i = 0; i < 2; i++)
            if (e->staged[k].captured[i]) be->capture_free(be, e->staged[k].captured[i]);
    dt_reducer_destroy(e->reducer);
    if (e->sums) be->ranks = (dt_ranks){0};
    dt_sums_destroy(e->sums);
    dt_engine_state_teardown(e);
    dt_upload_destroy(e->upload, be);
    for (int i = 0; i < ENGINE_STAGES; i++) {
        if (e->stages[i].device) be->free(be, DT_MEM_DEVICE, e->stages[i].device);
        if (e->stages[i].taken) be->event_destroy(be, e->stages[i].taken);
    }
    for (int i = 0; i < ENGINE_FEEDS; i++)
        if (e->filled[i]) be->event_destroy(be, e->filled[i]);
    if (e->copy_stream) be->stream_destroy(be, e->copy_stream);
    if (e->params_ring) be->free(be, DT_MEM_HOST, e->params_ring);
    if (e->valid) be->free(be, DT_MEM_HOST, e->valid);
    if (e->output) be->free(be, DT_MEM_HOST, e->output);
    for (int i = 0; i < ENGINE_RING; i++) {
        if (e->ring[i].metric) be->free(be, DT_MEM_HOST, e->ring[i].metric);
        if (e->ring[i].begin) be->free(be, DT_MEM_HOST, e->ring[i].begin);
        if (e->ring[i].done) be->event_destroy(be, e->ring[i].done);
    }
    forget_programs(e);
    dt_store_destroy(e->store);
    free(e);
}

const dt_division *dt_engine_division(const dt_engine *e) {
    return &e->division;
}
const dt_program *dt_engine_program(const dt_engine *e, bool eval) {
    return eval ? e->eval : e->program;
}
const dt_weight_list *dt_engine_weights(const dt_engine *e) {
    return &e->weights;
}
const dt_axis *dt_engine_axis(const dt_engine *e) {
    return e->axis;
}
dt_recompute dt_engine_recompute(const dt_engine *e, double *more) {
    const dt_graph *g = e->train ? e->program->graph : e->eval->graph;
    double flops = 0;
    for (dt_nid i = 0; i < g->n_node; i++) flops += dt_op_flops(g, &g->node[i]);
    *more = e->recompute_flops / fmax(flops - e->recompute_flops, 1);
    return e->recompute;
}
int64_t dt_engine_device_bytes(const dt_engine *e) {
    return e->device_bytes;
}
int64_t dt_engine_payload_bytes(const dt_engine *e) {
    return (int64_t)dt_dtype_size(e->accumulate ? DT_DTYPE_F32
                                                : dt_precision_dtype(e->config->train.precision));
}
int64_t dt_engine_store_bytes(const dt_engine *e) {
    return e->store_bytes;
}
dt_status dt_engine_sync(dt_engine *e) {
    return e->be->stream_sync(e->be, NULL);
}
