/* How many bytes of device memory a run takes, and what to say where there are fewer. */
#include <math.h>

#include "core/text.h"
#include "engine_internal.h"

/* What the batches take, were micro-batches and batches of evaluation larger by these factors. */
static double batch_bytes(const dt_engine *e, double train, double eval) {
    const dt_plan *v = &e->eval->plan;
    const double input_v = eval * (double)v->input_bytes;
    double act = eval * (double)v->act_bytes, inputs = input_v, input = input_v; /* input: the largest */
    for (int32_t k = 0; e->train && k < e->n_staged; k++) {
        const dt_plan *t = &e->staged[k].program->plan;
        act = fmax(act, train * (double)t->act_bytes);
        inputs += train * (double)t->input_bytes;
        input = fmax(input, train * (double)t->input_bytes);
    }
    if (!e->train) train = 0;
    return act + inputs + (e->be->info.is_gpu ? ENGINE_STAGES * input : 0.0) +
           fmax(train, eval) * (double)dt_upload_bytes(&e->upload_plan);
}

/* Else evaluation's batches follow the micro-batches. */
static bool eval_is_apart(const dt_engine *e) {
    return !e->train || e->config->train.eval_batch > 0;
}

/* What is left for batches; free memory was read before this engine took its share. */
static double batches_left(const dt_engine *e) {
    const double fixed = (double)e->device_bytes - batch_bytes(e, 1, 1);
    return 0.97 * ((double)e->be->info.free_bytes - fixed);
}

/* Rows of a micro-batch or of a batch of evaluation, or of both, that fit; what does not grow takes `other`
 * times what it takes now. */
static int64_t largest(const dt_engine *e, bool micro, bool eval, double other) {
    const double now = (double)(micro ? e->division.rows : e->division.eval_rows), left = batches_left(e);
    int64_t fits = 0, above = (int64_t)1 << 40;
    while (above - fits > 1) {
        const int64_t rows = fits + (above - fits) / 2;
        const double f = (double)rows / now;
        *(batch_bytes(e, micro ? f : other, eval ? f : other) <= left ? &fits : &above) = rows;
    }
    return fits;
}

int64_t dt_engine_largest_rows(const dt_engine *e) {
    return largest(e, e->train, !eval_is_apart(e) || !e->train, 1);
}

static dt_status too_large(dt_engine *e, double need_bytes, bool eval, int64_t largest_rows) {
    const dt_text need = dt_bytes_needed_text(need_bytes),
                  left = dt_bytes_free_text((double)e->be->info.free_bytes);
    const char *device = e->be->info.name;
    e->too_large = true;
    if (largest_rows < 1)
        return dt_fail(DT_ERR_CONFIG,
                       "this run needs %s, but %s are free on %s: not even one sample at a time fits", need.s,
                       left.s, device);
    if (eval)
        return dt_fail(DT_ERR_CONFIG,
                       "this run needs %s, but %s are free on %s: the largest batch of "
                       "evaluation that fits is about %lld (now %lld); set train.eval_batch to no more",
                       need.s, left.s, device, (long long)largest_rows, (long long)e->division.eval_rows);
    return dt_fail(
        DT_ERR_CONFIG,
        "this run needs %s, but %s are free on %s: the largest micro-batch that fits is about "
        "%lld (now %lld); set train.micro_batch to a divisor of train.global_batch that is not larger%s",
        need.s, left.s, device, (long long)largest_rows, (long long)e->division.rows,
        e->recompute == DT_RECOMPUTE_BLOCKS ? "" : ", or train.recompute = \"auto\"");
}

dt_status dt_engine_refuse_hopeless(dt_engine *e, dt_graph *g) {
    dt_plan plan;
    if (e->plan_only) return DT_OK;
    DT_TRY(dt_plan_build(g, e->be->align_bytes, 0, true, &plan));
    const double free_bytes = (double)e->be->info.free_bytes, need_bytes = (double)plan.act_bytes;
    if (free_bytes <= 0 || need_bytes <= 1.5 * free_bytes) return DT_OK;
    const bool eval = !g->training && eval_is_apart(e);
    const int64_t rows = eval ? e->division.eval_rows : e->division.rows;
    return too_large(e, need_bytes, eval, (int64_t)((double)rows * free_bytes / need_bytes));
}

dt_status dt_engine_check_memory(dt_engine *e, const dt_store_options *o) {
    e->store_bytes = dt_store_bytes(e->axis, e->eval->graph, o);
    e->device_bytes = e->store_bytes + (int64_t)batch_bytes(e, 1, 1) +
                      (e->train && e->config->train.ema > 0 ? e->axis->n_elem * 4 : 0);
    const int64_t free_bytes = e->be->info.free_bytes;
    e->too_large = free_bytes > 0 && e->device_bytes > free_bytes;
    if (e->plan_only || !e->too_large) return DT_OK;
    const int64_t eval_rows = eval_is_apart(e) ? largest(e, false, true, 1) : 0;
    if (eval_rows > 0 || !e->train) return too_large(e, (double)e->device_bytes, true, eval_rows);
    return too_large(e, (double)e->device_bytes, false, largest(e, true, !eval_is_apart(e), 0));
}
