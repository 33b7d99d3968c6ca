/* Store and programs: where the compiler's decisions become memory and bound kernels. */
#include "core/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/call.h"
#include "core/op.h"

typedef struct arena_row {
    dt_arena arena;
    const char *what;
    dt_memkind kind;
} arena_row;

/* Arenas of a store; activations and input slots belong to programs. */
static const arena_row store_arenas[] = {
    {DT_ARENA_MASTER, "parameters", DT_MEM_DEVICE},
    {DT_ARENA_PARAM16, "16-bit parameters", DT_MEM_DEVICE},
    {DT_ARENA_FROZEN, "frozen parameters", DT_MEM_DEVICE},
    {DT_ARENA_GRAD, "gradients", DT_MEM_COMM},
    {DT_ARENA_ACC, "summed gradients", DT_MEM_COMM},
    {DT_ARENA_STATE, "running statistics", DT_MEM_DEVICE},
    {DT_ARENA_EMA_STATE, "averaged running statistics", DT_MEM_DEVICE},
    {DT_ARENA_METRIC, "metrics", DT_MEM_DEVICE},
};

static int64_t state_bytes(const dt_graph *g) {
    int64_t bytes = 0;
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_STATE) bytes += dt_state_bytes(&g->value[v]);
    return bytes;
}

static int64_t arena_bytes(dt_arena arena, const dt_axis *axis, const dt_graph *g,
                           const dt_store_options *o) {
    const int64_t fp32 = axis->n_elem * 4, compute = axis->n_elem * (int64_t)dt_dtype_size(o->compute);
    switch (arena) {
    case DT_ARENA_MASTER:
        return fp32;
    case DT_ARENA_PARAM16:
        return o->compute == DT_DTYPE_F32 ? 0 : compute;
    case DT_ARENA_FROZEN:
        return axis->frozen_bytes;
    case DT_ARENA_GRAD:
        return o->train ? compute : 0;
    case DT_ARENA_ACC:
        return o->train && o->accumulate ? fp32 : 0;
    case DT_ARENA_STATE:
        return state_bytes(g);
    case DT_ARENA_EMA_STATE:
        return o->train && o->ema ? state_bytes(g) : 0;
    case DT_ARENA_METRIC:
        return DT_METRIC_COUNT * (int64_t)sizeof(float);
    default:
        return 0;
    }
}

/* Vector i as these options want it; without a name where they do not. */
static dt_store_vec vec_of(const dt_axis *axis, const dt_store_options *o, int32_t i) {
    if (!o->train) return (dt_store_vec){0};
    if (i == DT_STORE_EMA)
        return o->ema
                   ? (dt_store_vec){.name = "ema", .what = "averaged parameters", .bytes = axis->n_elem * 4}
                   : (dt_store_vec){0};
    if (!dt_optim_has_state(&o->optim, i)) return (dt_store_vec){0};
    const dt_optim_state_row *row = &dt_optim_get((dt_optim_kind)o->optim.kind)->state[i];
    return (dt_store_vec){.name = row->name,
                          .what = "optimizer state",
                          .init = row->init,
                          .shape = row->shape,
                          .bytes = axis->n_state[row->shape] * 4};
}

int64_t dt_store_bytes(const dt_axis *axis, const dt_graph *g, const dt_store_options *o) {
    int64_t bytes = 0;
    for (size_t i = 0; i < sizeof store_arenas / sizeof store_arenas[0]; i++)
        bytes += arena_bytes(store_arenas[i].arena, axis, g, o);
    for (int32_t i = 0; i < DT_STORE_VECS; i++) bytes += vec_of(axis, o, i).bytes;
    return bytes;
}

static dt_status collect_state(dt_store *s, const dt_graph *g) {
    int32_t n = 0;
    for (dt_vid v = 0; v < g->n_value; v++) n += g->value[v].role == DT_ROLE_STATE;
    s->state = calloc((size_t)n + 1, sizeof *s->state);
    if (!s->state) return dt_fail(DT_ERR_MEMORY, "no memory for %d states", n);
    int64_t offset = 0;
    for (dt_vid v = 0; v < g->n_value; v++) {
        const dt_value *val = &g->value[v];
        if (val->role != DT_ROLE_STATE) continue;
        dt_state_entry *e = &s->state[s->n_state++];
        memcpy(e->name, val->name, sizeof e->name);
        e->offset_bytes = offset;
        e->n_elem = dt_value_n_elem(val);
        e->init = val->init == DT_INIT_ONE ? 1.0f : 0.0f;
        offset += dt_state_bytes(val);
    }
    return DT_OK;
}

dt_status dt_store_create(dt_backend *be, const dt_axis *axis, const dt_graph *g, const dt_store_options *o,
                          dt_store **out) {
    dt_store *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for the store");
    s->be = be;
    s->axis = axis;
    s->options = *o;
    dt_status st = collect_state(s, g);
    for (size_t i = 0; st == DT_OK && i < sizeof store_arenas / sizeof store_arenas[0]; i++) {
        const arena_row *row = &store_arenas[i];
        s->kind[row->arena] = row->kind;
        s->bytes[row->arena] = arena_bytes(row->arena, axis, g, o);
        if (s->bytes[row->arena] == 0) continue;
        st = be->alloc(be, row->kind, s->bytes[row->arena], &s->arena[row->arena]);
        if (st != DT_OK) dt_error_context("memory for %s", row->what);
    }
    s->vec_bytes = axis->n_elem * (int64_t)sizeof(float);
    for (int32_t i = 0; st == DT_OK && i < DT_STORE_VECS; i++) {
        s->vec[i] = vec_of(axis, o, i);
        if (s->vec[i].bytes == 0) continue;
        st = be->alloc(be, DT_MEM_DEVICE, s->vec[i].bytes, (void **)&s->vec[i].data);
        if (st != DT_OK) dt_error_context("memory for %s", s->vec[i].what);
    }
    if (st == DT_OK) st = be->alloc(be, DT_MEM_DEVICE, (int64_t)sizeof *s->params, (void **)&s->params);
    if (st == DT_OK) st = be->alloc(be, DT_MEM_DEVICE, (int64_t)sizeof *s->norm2, (void **)&s->norm2);
    if (st != DT_OK) {
        dt_store_destroy(s);
        return st;
    }
    *out = s;
    return DT_OK;
}

void dt_store_destroy(dt_store *s) {
    if (!s) return;
    for (int a = 0; a < DT_ARENA_COUNT; a++)
        if (s->arena[a]) s->be->free(s->be, s->kind[a], s->arena[a]);
    for (int32_t i = 0; i < DT_STORE_VECS; i++)
        if (s->vec[i].data) s->be->free(s->be, DT_MEM_DEVICE, s->vec[i].data);
    if (s->params) s->be->free(s->be, DT_MEM_DEVICE, s->params);
    if (s->norm2) s->be->free(s->be, DT_MEM_DEVICE, s->norm2);
    free(s->state);
    free(s);
}

dt_status dt_program_prepare(dt_backend *be, dt_graph *g, const dt_program_options *o, dt_program **out) {
    const dt_program_options none = {0};
    if (!o) o = &none;
    DT_TRY(dt_call_check(be, g));
    dt_program *p = calloc(1, sizeof *p);
    if (!p) return dt_fail(DT_ERR_MEMORY, "no memory for a program");
    dt_status st = DT_OK;
    p->be = be;
    be->owner = be->release ? &p->owned : NULL;
    p->prep = calloc((size_t)g->n_node + 1, sizeof(dt_prep *));
    p->kernel = calloc((size_t)g->n_node + 1, sizeof *p->kernel);
    p->bucket_after = calloc((size_t)g->n_node + 1, sizeof *p->bucket_after);
    if (!p->prep || !p->kernel || !p->bucket_after) {
        st = dt_fail(DT_ERR_MEMORY, "no memory for a program of %d nodes", g->n_node);
        goto fail;
    }
    for (dt_nid i = 0; i < g->n_node; i++) {
        dt_node *n = &g->node[i];
        if (dt_op_is_idle(g, n)) continue;
        st = be->prepare(be, g, i, &p->prep[i], &n->workspace_bytes);
        if (st != DT_OK) {
            dt_error_context("%s %s", dt_op_name(n), g->value[n->out[0]].name);
            goto fail;
        }
        if (n->workspace_bytes <= 0) continue;
        char name[DT_NAME_MAX];
        dt_vid ws;
        snprintf(name, sizeof name, "workspace/%d", i);
        DT_TRY_GOTO(st, dt_graph_add_value(g, name, DT_ROLE_ACT, DT_DTYPE_U8, 1, &n->workspace_bytes, &ws),
                    fail);
        g->value[ws].producer = i;
        g->node[i].workspace = ws;
    }
    DT_TRY_GOTO(st, dt_plan_build(g, be->align_bytes, o->guard_bytes, !o->no_reuse, &p->plan), fail);
    p->graph = g;
    be->owner = NULL;
    *out = p;
    return DT_OK;
fail:
    be->owner = NULL;
    if (be->release) be->release(be, p->owned);
    free(p->prep), free(p->kernel), free(p->bucket_after), free(p);
    return st;
}

void *dt_program_address(const dt_program *p, dt_vid id) {
    const dt_value *v = &p->graph->value[id];
    void *base = v->arena == DT_ARENA_ACT     ? p->act
                 : v->arena == DT_ARENA_INPUT ? p->input
                 : v->arena == DT_ARENA_CACHE ? p->cache
                                              : p->store->arena[v->arena];
    if (!base && dt_value_n_elem(v) == 0) return (void *)(uintptr_t)p; /* nobody looks there */
    DT_ASSERT(base != NULL);
    return (char *)base + v->offset_bytes;
}

/* After which kernel each prefix of the buckets is complete. */
static void mark_buckets(dt_program *p, const dt_axis *axis) {
    const dt_graph *g = p->graph;
    int32_t done = -1, last[DT_BUCKETS_MAX];
    for (int32_t b = 0; b < axis->n_bucket; b++) {
        for (dt_vid v = 0; v < g->n_value; v++) {
            const dt_value *d = &g->value[v];
            if (d->role == DT_ROLE_GRAD && d->axis_offset >= axis->bucket[b].offset &&
                d->axis_offset < axis->bucket[b].offset + axis->bucket[b].n_elem && d->producer > done)
                done = d->producer;
        }
        last[b] = done;
    }
    for (int32_t k = 0; k < p->n_kernel; k++)
        for (int32_t b = 0; b < axis->n_bucket; b++)
            if (last[b] <= p->kernel[k].node) p->bucket_after[k] = b + 1;
}

dt_status dt_program_bind(dt_program *p, dt_store *s, const dt_program_options *o) {
    const dt_program_options none = {0};
    if (!o) o = &none;
    dt_backend *be = s->be;
    dt_graph *g = p->graph;
    p->store = s;
    if (o->act && o->act_bytes >= p->plan.act_bytes) {
        p->act = o->act;
        p->act_shared = true;
    } else if (p->plan.act_bytes > 0) {
        dt_status st = be->alloc(be, DT_MEM_DEVICE, p->plan.act_bytes, &p->act);
        if (st != DT_OK) {
            dt_error_context("memory for activations");
            return st;
        }
    }
    if (p->plan.input_bytes > 0) DT_TRY(be->alloc(be, DT_MEM_DEVICE, p->plan.input_bytes, &p->input));
    if (o->cache && o->cache_bytes == p->plan.cache_bytes) {
        p->cache = o->cache;
        p->cache_shared = true;
    } else if (p->plan.cache_bytes > 0) {
        dt_status st = be->alloc(be, DT_MEM_DEVICE, p->plan.cache_bytes, &p->cache);
        if (st != DT_OK) {
            dt_error_context("memory for keys, values and states");
            return st;
        }
    }
    size_t n_operand = 1;
    for (dt_nid i = 0; i < g->n_node; i++) n_operand += (size_t)(g->node[i].n_in + g->node[i].n_out);
    void **operand = p->operand = calloc(n_operand, sizeof *operand);
    if (!operand) return dt_fail(DT_ERR_MEMORY, "no memory for the operands of %d nodes", g->n_node);
    p->n_kernel = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (dt_op_is_idle(g, n)) continue;
        dt_binding b = {.params = s->params, .ranks = &be->ranks};
        b.in = operand, operand += n->n_in;
        b.out = operand, operand += n->n_out;
        for (int32_t j = 0; j < n->n_in; j++)
            b.in[j] = n->in[j] >= 0 ? dt_program_address(p, n->in[j]) : NULL;
        for (int32_t j = 0; j < n->n_out; j++)
            b.out[j] = n->out[j] >= 0 ? dt_program_address(p, n->out[j]) : NULL;
        if (n->workspace >= 0) b.workspace = dt_program_address(p, n->workspace);
        dt_kernel *k = &p->kernel[p->n_kernel];
        be->owner = be->release ? &p->owned : NULL;
        dt_status st = be->bind(be, g, i, p->prep[i], &b, k);
        be->owner = NULL;
        if (st != DT_OK) {
            dt_error_context("%s %s", dt_op_name(n), g->value[n->out[0]].name);
            return st;
        }
        k->node = i;
        p->n_kernel++;
    }
    if (g->training) mark_buckets(p, s->axis);
    return DT_OK;
}

void dt_program_destroy(dt_program *p) {
    if (!p) return;
    if (p->store) {
        dt_backend *be = p->store->be;
        if (p->act && !p->act_shared) be->free(be, DT_MEM_DEVICE, p->act);
        if (p->input) be->free(be, DT_MEM_DEVICE, p->input);
        if (p->cache && !p->cache_shared) be->free(be, DT_MEM_DEVICE, p->cache);
    }
    dt_graph_destroy(p->graph);
    if (p->be->release) p->be->release(p->be, p->owned);
    free(p->prep), free(p->kernel), free(p->operand), free(p->bucket_after), free(p);
}

static dt_status run_part(dt_program *p, int32_t from, int32_t to, dt_bucket_hook *hook, void *arg) {
    int32_t complete = 0;
    for (int32_t k = from; k < to; k++) {
        dt_status st = p->kernel[k].run(p->kernel[k].ctx, NULL);
        if (st != DT_OK) {
            dt_error_context("%s", p->kernel[k].label ? p->kernel[k].label : "kernel");
            return st;
        }
        if (!hook) continue;
        if (p->bucket_after[k] > complete) complete = p->bucket_after[k];
        DT_TRY(hook(arg, complete));
    }
    return DT_OK;
}

static int32_t n_forward(const dt_program *p) {
    int32_t k = 0;
    while (k < p->n_kernel && p->graph->node[p->kernel[k].node].phase == DT_PHASE_FORWARD) k++;
    return k;
}

dt_status dt_program_run(dt_program *p, dt_bucket_hook *hook, void *arg) {
    return run_part(p, 0, p->n_kernel, hook, arg);
}

dt_status dt_program_run_forward(dt_program *p) {
    return run_part(p, 0, n_forward(p), NULL, NULL);
}

dt_status dt_program_run_backward(dt_program *p, dt_bucket_hook *hook, void *arg) {
    return run_part(p, n_forward(p), p->n_kernel, hook, arg);
}
