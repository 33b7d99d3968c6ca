/* What a profile needs of the engine: the kernels of a step, and what those of the parameter axis move. */
#include "core/op.h"
#include "engine_internal.h"

static double arena_bytes(const dt_engine *e, dt_arena arena) {
    return (double)e->store->bytes[arena];
}

/* The sum of the gradients over micro-batches reads both and writes one. */
static double accumulate_bytes(const dt_engine *e, int32_t bucket) {
    const size_t grad = dt_dtype_size(e->store->options.compute), acc = sizeof(float);
    return (double)e->axis->bucket[bucket].n_elem * (double)(grad + 2 * acc);
}

/* Reads the gradient, reads and writes the rest. With a trust ratio that is the second pass: the first reads the
 * gradient and the weights, too, and may write the state. */
static double update_bytes(const dt_engine *e, double grad) {
    const dt_store *s = e->store;
    const double master = arena_bytes(e, DT_ARENA_MASTER);
    double state = 0;
    for (int32_t i = 0; i < DT_OPTIM_STATES_MAX; i++) state += s->vec[i].data ? (double)s->vec[i].bytes : 0;
    const double ema = s->vec[DT_STORE_EMA].data ? (double)s->vec_bytes : 0;
    const bool trust = dt_optim_get((dt_optim_kind)s->options.optim.kind)->flags & DT_OPTIM_TRUST;
    return grad + arena_bytes(e, DT_ARENA_PARAM16) + 2 * (master + state + ema) +
           (trust ? grad + master + 2 * state : 0);
}

int32_t dt_engine_kernels(dt_engine *e, dt_engine_kernel *out) {
    dt_program *p = e->program;
    const double grad = arena_bytes(e, e->accumulate ? DT_ARENA_ACC : DT_ARENA_GRAD);
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_kernel; i++, n++) {
        const dt_node *node = &p->graph->node[p->kernel[i].node];
        if (out)
            out[n] = (dt_engine_kernel){.kernel = &p->kernel[i],
                                        .node = node,
                                        .bytes = dt_op_bytes(p->graph, node),
                                        .flops = dt_op_flops(p->graph, node)};
    }
    for (int32_t b = 0; e->accumulate && b < e->axis->n_bucket; b++, n++)
        if (out) out[n] = (dt_engine_kernel){.kernel = &e->accum[b], .bytes = accumulate_bytes(e, b)};
    const dt_engine_kernel last[] = {
        {.kernel = &e->sumsq, .bytes = grad, .last = true},
        {.kernel = &e->update, .bytes = update_bytes(e, grad), .last = true},
        {.kernel = &e->average,
         .bytes = arena_bytes(e, DT_ARENA_STATE) + 2 * arena_bytes(e, DT_ARENA_EMA_STATE),
         .last = true},
        {.kernel = &e->scale, .last = true},
    };
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++) {
        if (!last[i].kernel->run) continue;
        if (out) out[n] = last[i];
        n++;
    }
    return n;
}
