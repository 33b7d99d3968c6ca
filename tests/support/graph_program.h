/* A graph brought to life for a test: axis, store and program on a backend, weights and inputs that depend
 * only on names and counters; and the same numbers for the oracle. Header only. */
#ifndef DT_TEST_GRAPH_PROGRAM_H
#define DT_TEST_GRAPH_PROGRAM_H

#include "core/autodiff.h"
#include "core/pass.h"
#include "core/program.h"
#include "cpu/cpu.h"
#include "graph_oracle.h"
#include "test_check.h"

static const dt_step_params live_step = {
    .lr = 0.1f, .loss_scale = 2.0f, .loss_weight = 0.25f, .first_micro = 1, .seed = 7, .step = 5, .micro = 3};

typedef struct live {
    dt_backend *be; /* not owned */
    const dt_axis *axis;
    dt_store *store;
    dt_program *program;
} live;

static inline dt_backend *live_backend(void) {
    dt_backend *be;
    check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 1}, &be));
    return be;
}

/* Weights of parameter i in its stored form: what a fresh run has, moved off the symmetric points (gamma 1,
 * beta 0). */
static inline void live_weights(const dt_axis *a, float *master) {
    dt_axis_init(a, 3, master);
    for (int32_t i = 0; i < a->n_segment; i++) {
        check_rng r = {.stream = 1000 + (uint64_t)i};
        for (int64_t k = 0; k < a->segment[i].n_elem; k++)
            master[a->segment[i].offset + k] += 0.2f * (float)check_uniform(&r);
    }
}

enum { LIVE_TOKENS = 3 };

/* Element i of input v: tokens, pixels, labels (one in eight -1), of classes or of tokens. */
static inline int32_t live_input(const dt_graph *g, dt_vid v, int64_t i) {
    check_rng r = {.stream = 77 + (uint64_t)v, .next = (uint64_t)i * 4};
    if (v == dt_graph_input(g, "tokens")) return (int32_t)check_below(&r, LIVE_TOKENS);
    if (v != dt_graph_input(g, "label")) return (int32_t)check_below(&r, 256);
    const dt_vid logits = dt_graph_output(g, "logits");
    return check_below(&r, 8) == 0
               ? -1
               : (int32_t)check_below(&r, logits >= 0 ? g->value[logits].dim[g->value[logits].ndim - 1]
                                                      : LIVE_TOKENS);
}

static inline void live_reset(live *l) {
    const dt_graph *g = l->program->graph;
    dt_store *s = l->store;
    memset(s->arena[DT_ARENA_MASTER], 0, (size_t)s->bytes[DT_ARENA_MASTER]);
    live_weights(l->axis, s->arena[DT_ARENA_MASTER]);
    memset(s->arena[DT_ARENA_METRIC], 0, (size_t)s->bytes[DT_ARENA_METRIC]);
    for (int32_t i = 0; i < s->n_state; i++)
        for (int64_t k = 0; k < s->state[i].n_elem; k++)
            ((float *)((char *)s->arena[DT_ARENA_STATE] + s->state[i].offset_bytes))[k] =
                s->state[i].init + 0.01f * (float)(k % 7);
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (g->value[v].role != DT_ROLE_INPUT) continue;
        for (int64_t i = 0; i < dt_value_n_elem(&g->value[v]); i++) {
            int32_t x = live_input(g, v, i);
            if (g->value[v].dtype == DT_DTYPE_U8)
                ((uint8_t *)dt_program_address(l->program, v))[i] = (uint8_t)x;
            else
                ((int32_t *)dt_program_address(l->program, v))[i] = x;
        }
    }
    *s->params = live_step;
}

/* Takes g, compiled as far as the caller wants; it must be laid on `axis`. */
static inline live live_open(dt_backend *be, const dt_axis *axis, dt_graph *g, const dt_program_options *o) {
    live l = {.be = be, .axis = axis};
    dt_store_options so = {.compute = DT_DTYPE_F32, .train = g->training};
    check_ok(dt_program_prepare(be, g, o, &l.program));
    check_ok(dt_store_create(be, axis, g, &so, &l.store));
    check_ok(dt_program_bind(l.program, l.store, o));
    live_reset(&l);
    return l;
}

static inline void live_close(live *l) {
    dt_program_destroy(l->program);
    dt_store_destroy(l->store);
}

/* Gives the oracle the numbers of live_reset. */
static inline void oracle_reset(oracle *o, const dt_axis *axis) {
    const dt_graph *g = o->g;
    float *master = check_alloc((size_t)axis->n_elem * sizeof *master);
    live_weights(axis, master);
    for (dt_vid v = 0; v < g->n_value; v++) {
        const dt_value *val = &g->value[v];
        for (int64_t i = 0; i < dt_value_n_elem(val); i++) {
            if (val->role == DT_ROLE_PARAM) o->data[v][i] = (double)master[val->axis_offset + i];
            if (val->role == DT_ROLE_METRIC) o->data[v][i] = 0;
            if (val->role == DT_ROLE_INPUT) o->data[v][i] = live_input(g, v, i);
            if (val->role == DT_ROLE_STATE)
                o->data[v][i] = (double)((val->init == DT_INIT_ONE ? 1.0f : 0.0f) + 0.01f * (float)(i % 7));
        }
    }
    free(master);
}

/* Relative distance of a value of the program to the oracle's; aliases and ids are those of one graph. */
static inline double live_distance(const live *l, const oracle *o, dt_vid v) {
    int64_t n = dt_value_n_elem(&l->program->graph->value[v]);
    const float *got = dt_program_address(l->program, v);
    double *wide = check_alloc((size_t)n * sizeof *wide);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)got[i];
    double d = check_distance(wide, o->data[v], n);
    free(wide);
    return d;
}

#endif
