/* Running steps: feeding, replaying, reading metrics. Nothing here allocates or waits on the device, except
 * dt_engine_result when asked to. */
#include <string.h>

#include "engine_internal.h"

dt_status dt_engine_begin_step(dt_engine *e, bool stop, bool save) {
    dt_backend *be = e->be;
    DT_ASSERT(e->n_begun - e->n_read < ENGINE_RING);
    ring_slot *r = &e->ring[e->n_begun % ENGINE_RING];
    memset(r->begin, 0, DT_METRIC_COUNT * sizeof *r->begin);
    r->begin[DT_METRIC_STOP] = stop ? 1.0f : 0.0f;
    r->begin[DT_METRIC_SAVE] = save ? 1.0f : 0.0f;
    e->n_begun++;
    return be->copy(be, e->store->arena[DT_ARENA_METRIC], r->begin, DT_METRIC_COUNT * (int64_t)sizeof(float),
                    NULL);
}

/* Copies the fields of a batch to the network's inputs of their names, at `base` as the input arena. */
static dt_status copy_batch(dt_engine *e, bool eval, const dt_batch *b, char *base, dt_stream *stream) {
    const dt_graph *g = (eval ? e->eval : e->program)->graph;
    for (int32_t k = 0; k < e->n_input[eval]; k++) {
        const dt_value *v = &g->value[e->input[eval][k]];
        int32_t i = 0;
        if (strcmp(v->name, DT_FIELD_VALID) == 0 && !dt_batch_field(b, DT_FIELD_VALID)) {
            const int32_t *valid =
                e->valid + e->valid_rows - b->n_valid; /* as many ones as rows hold samples */
            DT_TRY(e->be->copy(e->be, base + v->offset_bytes, valid, dt_value_bytes(v), stream));
            continue;
        }
        while (i < b->n_field && strcmp(b->field[i].name, v->name) != 0) i++;
        if (i == b->n_field)
            return dt_fail(DT_ERR_DATA, "the network reads \"%s\", and the data has no field of that name",
                           v->name);
        if (b->rows * dt_field_bytes(&b->field[i]) != dt_value_bytes(v) || b->field[i].dtype != v->dtype)
            return dt_fail(DT_ERR_DATA,
                           "the network's input \"%s\" is %s, a batch has %lld bytes of %s of it", v->name,
                           dt_value_shape_text(v), (long long)(b->rows * dt_field_bytes(&b->field[i])),
                           dt_dtype_name(b->field[i].dtype));
        DT_TRY(dt_upload_field(e->upload, e->be, b, i, base + v->offset_bytes, stream));
    }
    return DT_OK;
}

dt_status dt_engine_feed(dt_engine *e, const dt_batch *b, bool eval) {
    dt_backend *be = e->be;
    const dt_program *p = eval ? e->eval : e->program;
    if (!be->info.is_gpu) return copy_batch(e, eval, b, p->input, NULL);
    staging *s = &e->stages[e->n_fed % ENGINE_STAGES];
    dt_event *filled = e->filled[e->n_fed % ENGINE_FEEDS];
    if (e->n_fed >= ENGINE_STAGES) DT_TRY(be->event_wait(be, s->taken, e->copy_stream));
    e->n_fed++;
    if (e->on_copy) DT_TRY(e->on_copy(e->on_copy_arg, false));
    DT_TRY(copy_batch(e, eval, b, s->device, e->copy_stream));
    if (e->on_copy) DT_TRY(e->on_copy(e->on_copy_arg, true));
    DT_TRY(be->event_record(be, filled, e->copy_stream));
    DT_TRY(be->event_wait(be, filled, NULL));
    DT_TRY(be->copy(be, p->input, s->device, p->plan.input_bytes, NULL));
    return be->event_record(be, s->taken, NULL);
}

dt_status dt_engine_input_wait(dt_engine *e, int64_t fed) {
    if (!e->be->info.is_gpu) return DT_OK;
    /* Where an evaluation has used the event again, it waits for that later copy: the stream keeps order. */
    return e->be->event_sync(e->be, e->filled[fed % ENGINE_FEEDS]);
}

int64_t dt_engine_fed(const dt_engine *e) {
    return e->n_fed;
}

/* After each kernel: buckets that became complete are summed over micro-batches and handed on. */
static dt_status on_kernel(void *arg, int32_t n_complete) {
    dt_engine *e = arg;
    for (; e->n_reduced < n_complete; e->n_reduced++) {
        int32_t b = e->n_reduced;
        if (e->accumulate) DT_TRY(e->accum[b].run(e->accum[b].ctx, NULL));
        if (e->reducer && e->in_last) DT_TRY(dt_reducer_ready(e->reducer, b));
    }
    return e->reducer && e->in_last ? dt_reducer_progress(e->reducer) : DT_OK;
}

/* What follows the gradients of a step. */
static dt_status enqueue_update(dt_engine *e) {
    DT_TRY(e->be->fill(e->be, e->store->norm2, 0, (int64_t)sizeof(float), NULL));
    DT_TRY(e->sumsq.run(e->sumsq.ctx, NULL));
    DT_TRY(e->update.run(e->update.ctx, NULL));
    if (e->average.run) DT_TRY(e->average.run(e->average.ctx, NULL));
    return e->scale.run ? e->scale.run(e->scale.ctx, NULL) : DT_OK;
}

static dt_status enqueue(void *arg) {
    dt_engine *e = arg;
    e->n_reduced = 0;
    DT_TRY(dt_program_run(e->program, on_kernel, e));
    if (!e->in_last) return DT_OK;
    if (e->reducer) DT_TRY(dt_reducer_finish(e->reducer));
    return enqueue_update(e);
}

static dt_status send_params(dt_engine *e, const dt_step_params *params) {
    dt_step_params *p = &e->params_ring[e->next_params];
    e->next_params = (e->next_params + 1) % e->n_params;
    *p = *params;
    return e->be->copy(e->be, e->store->params, p, DT_STEP_HOST_BYTES, NULL);
}

dt_status dt_engine_micro(dt_engine *e, const dt_step_params *params, bool last) {
    dt_backend *be = e->be;
    DT_TRY(send_params(e, params));
    e->in_last = last;
    if (e->captured[last] && !e->plain) return be->replay(be, e->captured[last], NULL);
    /* The first run is plain: libraries set themselves up in it, which a capture does not allow. */
    if (!e->warm[last] || e->plain || !be->capture || e->config->run.capture != DT_CAPTURE_STEP ||
        (e->reducer && !e->comm->device_memory)) {
        e->warm[last] = true;
        return enqueue(e);
    }
    DT_TRY(be->capture(be, enqueue, e, &e->captured[last]));
    return be->replay(be, e->captured[last], NULL);
}

dt_status dt_engine_forward(dt_engine *e, const dt_step_params *params) {
    DT_TRY(send_params(e, params));
    return dt_program_run_forward(e->program);
}

dt_status dt_engine_backward(dt_engine *e, bool last) {
    e->in_last = last;
    e->n_reduced = 0;
    DT_TRY(dt_program_run_backward(e->program, on_kernel, e));
    return last && e->reducer ? dt_reducer_finish(e->reducer) : DT_OK;
}

dt_status dt_engine_update(dt_engine *e) {
    return enqueue_update(e);
}

dt_status dt_engine_end_step(dt_engine *e, int64_t step) {
    dt_backend *be = e->be;
    ring_slot *r = &e->ring[(e->n_begun - 1) % ENGINE_RING];
    r->step = step;
    DT_TRY(be->copy(be, r->metric, e->store->arena[DT_ARENA_METRIC], DT_METRIC_COUNT * (int64_t)sizeof(float),
                    NULL));
    DT_TRY(be->copy(be, r->metric + DT_METRIC_COUNT, e->store->norm2, (int64_t)sizeof(float), NULL));
    return be->event_record(be, r->done, NULL);
}

int32_t dt_engine_pending(const dt_engine *e) {
    return (int32_t)(e->n_begun - e->n_read);
}

int32_t dt_engine_lag(const dt_engine *e) {
    return e->any_gpu ? DT_METRIC_LAG_MAX : 0;
}

dt_status dt_engine_result(dt_engine *e, dt_step_result *out) {
    DT_ASSERT(e->n_read < e->n_begun);
    ring_slot *r = &e->ring[e->n_read % ENGINE_RING];
    DT_TRY(e->be->event_sync(e->be, r->done));
    out->step = r->step;
    memcpy(out->metric, r->metric, sizeof out->metric);
    out->norm2 = r->metric[DT_METRIC_COUNT];
    e->n_read++;
    return DT_OK;
}
