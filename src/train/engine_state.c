/* The engine's state on its way to and from the host: initial weights, checkpoints, evaluation's averages. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/text.h"
#include "engine_internal.h"

/* What of the axis a checkpoint holds, by name: the weights, then the store's vectors. */
typedef struct part {
    const char *name; /* NULL: absent */
    float *data;      /* device */
    float init;       /* of a vector */
    dt_state_shape shape;
    int64_t bytes;
} part;
enum { PART_WEIGHTS = 0, PART_EMA = 1 + DT_STORE_EMA, N_PARTS = 1 + DT_STORE_VECS };

static const char weights_name[] = "param";

static part part_of(const dt_store *s, int32_t k) {
    if (k == PART_WEIGHTS)
        return (part){weights_name, s->arena[DT_ARENA_MASTER], 0, DT_STATE_ELEMENT, s->vec_bytes};
    const dt_store_vec *v = &s->vec[k - 1];
    return (part){v->data ? v->name : NULL, v->data, v->init, v->shape, v->bytes};
}

/* Running statistics, current and averaged like the weights that they belong to: the mean over ranks by name,
 * for every world, and each rank's own, so that a resumed run is bit-exact. */
typedef struct state_row {
    dt_arena arena;
    const char *name, *local;
} state_row;

static const state_row state_table[] = {
    {DT_ARENA_STATE, "state", DT_CKPT_LOCAL_STATE},
    {DT_ARENA_EMA_STATE, "ema", DT_CKPT_LOCAL_EMA},
};
enum { N_STATE = sizeof state_table / sizeof state_table[0] };

/* Parameters of the part: the weights of frozen ones, too. */
static int32_t n_param_of(const dt_engine *e, int32_t k) {
    return e->axis->n_segment + (k == PART_WEIGHTS ? e->axis->n_frozen : 0);
}

static int32_t world_of(const dt_engine *e) {
    return e->mpi ? e->mpi->world : 1;
}
static int32_t rank_of(const dt_engine *e) {
    return e->mpi ? e->mpi->rank : 0;
}

/* group: "" for none. */
static dt_status add_tensor(dt_engine *e, const char *group, const char *name, int32_t ndim,
                            const int64_t *dim) {
    dt_ckpt_tensor *t = &e->tensor[e->n_tensor++];
    const size_t size = strlen(group) + 1 + strlen(name) + 1;
    char *full = malloc(size);
    int64_t n = 1;
    for (int32_t d = 0; d < ndim; d++) t->dim[d] = dim[d], n *= dim[d];
    t->ndim = ndim;
    t->data = malloc((size_t)n * sizeof *t->data);
    t->name = full;
    if (!full || !t->data) return dt_fail(DT_ERR_MEMORY, "no memory for the snapshot of %s", name);
    snprintf(full, size, "%s%s%s", group, *group ? "/" : "", name);
    return DT_OK;
}

/* The snapshot's tensors: made once, filled at each save. Only rank 0 keeps them. */
static dt_status create_tensors(dt_engine *e) {
    const dt_store *s = e->store;
    size_t n =
        (size_t)(e->axis->n_segment + e->axis->n_frozen) * N_PARTS + (size_t)(s->n_state + 1) * N_STATE;
    e->tensor = calloc(n, sizeof *e->tensor);
    if (!e->tensor) return dt_fail(DT_ERR_MEMORY, "no memory for %zu tensors", n);
    for (int32_t k = 0; k < N_PARTS; k++)
        for (int32_t i = 0; part_of(s, k).name && i < n_param_of(e, k); i++) {
            const dt_axis_param *p = &e->axis->param[i];
            int64_t dim[DT_MAX_DIM];
            const int32_t ndim = dt_axis_state_dims(e->axis, i, part_of(s, k).shape, dim);
            if (ndim > 0) DT_TRY(add_tensor(e, part_of(s, k).name, p->name, ndim, dim));
        }
    for (size_t k = 0; k < N_STATE; k++) {
        if (!s->arena[state_table[k].arena]) continue;
        for (int32_t i = 0; i < s->n_state; i++)
            DT_TRY(add_tensor(e, state_table[k].name, s->state[i].name, 1, &s->state[i].n_elem));
        DT_TRY(add_tensor(e, "", state_table[k].local, 2, (int64_t[]){world_of(e), e->n_state_elem}));
    }
    return DT_OK;
}

/* Whether what is frozen is computed with in another type than fp32. */
static bool packs_frozen(const dt_engine *e) {
    const dt_axis *a = e->axis;
    for (int32_t i = a->n_segment; i < a->n_segment + a->n_frozen; i++)
        if (a->param[i].dtype != DT_DTYPE_F32) return true;
    return false;
}

dt_status dt_engine_state_setup(dt_engine *e) {
    dt_backend *be = e->be;
    e->n_state_elem = e->store->bytes[DT_ARENA_STATE] / (int64_t)sizeof(float);
    const int64_t frozen_bytes = e->axis->n_frozen_elem * (int64_t)sizeof(float);
    DT_TRY(be->alloc(be, DT_MEM_HOST, dt_max_i64(e->store->bytes[DT_ARENA_MASTER], frozen_bytes),
                     (void **)&e->host));
    if (e->axis->n_frozen > 0 && packs_frozen(e)) {
        e->frozen = calloc((size_t)e->axis->n_frozen_elem, sizeof *e->frozen);
        if (!e->frozen)
            return dt_fail(DT_ERR_MEMORY, "no memory for %s that are frozen",
                           dt_count_text(e->axis->n_frozen, "parameter").s);
    }
    if (e->n_state_elem > 0) {
        DT_TRY(be->alloc(be, DT_MEM_HOST, world_of(e) * e->n_state_elem * (int64_t)sizeof(float),
                         (void **)&e->host_state));
        DT_TRY(
            be->alloc(be, DT_MEM_HOST, e->n_state_elem * (int64_t)sizeof(float), (void **)&e->state_saved));
    }
    if (e->store->vec[DT_STORE_EMA].data)
        DT_TRY(be->alloc(be, DT_MEM_DEVICE, e->store->bytes[DT_ARENA_MASTER], &e->master_saved));
    return e->train && rank_of(e) == 0 ? create_tensors(e) : DT_OK;
}

void dt_engine_state_teardown(dt_engine *e) {
    dt_backend *be = e->be;
    if (e->host) be->free(be, DT_MEM_HOST, e->host);
    free(e->frozen);
    if (e->host_state) be->free(be, DT_MEM_HOST, e->host_state);
    if (e->state_saved) be->free(be, DT_MEM_HOST, e->state_saved);
    if (e->master_saved) be->free(be, DT_MEM_DEVICE, e->master_saved);
    for (int32_t i = 0; i < e->n_tensor; i++) {
        free((void *)(uintptr_t)e->tensor[i].name);
        free(e->tensor[i].data);
    }
    free(e->tensor);
}

/* Blocking copies between the host and the device. */
static dt_status copy_now(dt_engine *e, void *dst, const void *src, int64_t bytes) {
    DT_TRY(e->be->copy(e->be, dst, src, bytes, NULL));
    return e->be->stream_sync(e->be, NULL);
}

static dt_status to_device(dt_engine *e, dt_arena arena, const void *src) {
    return copy_now(e, e->store->arena[arena], src, e->store->bytes[arena]);
}

static dt_status to_host(dt_engine *e, dt_arena arena, void *dst) {
    return copy_now(e, dst, e->store->arena[arena], e->store->bytes[arena]);
}

/* Where frozen parameters are put together before send_frozen: fp32, zeroed. */
static float *clear_frozen(dt_engine *e) {
    float *to = e->frozen ? e->frozen : e->host;
    memset(to, 0, (size_t)e->axis->n_frozen_elem * sizeof *to);
    return to;
}

static dt_status send_frozen(dt_engine *e) {
    if (e->axis->n_frozen == 0) return DT_OK;
    if (e->frozen) {
        memset(e->host, 0, (size_t)e->axis->frozen_bytes);
        dt_axis_pack_frozen(e->axis, e->frozen, e->host);
    }
    return to_device(e, DT_ARENA_FROZEN, e->host);
}

/* In fp32, exactly; may be in e->host. */
static dt_status frozen_values(dt_engine *e, float **out) {
    *out = e->frozen ? e->frozen : e->host;
    return e->frozen || e->axis->n_frozen == 0 ? DT_OK : to_host(e, DT_ARENA_FROZEN, e->host);
}

static dt_status refresh_compute_copy(dt_engine *e) {
    return e->cast.run ? e->cast.run(e->cast.ctx, NULL) : DT_OK;
}

static void fresh_state(const dt_store *s, float *host) {
    for (int32_t i = 0; i < s->n_state; i++)
        for (int64_t k = 0; k < s->state[i].n_elem; k++)
            host[s->state[i].offset_bytes / (int64_t)sizeof(float) + k] = s->state[i].init;
}

/* The device's count of updates. */
static dt_status set_updates(dt_engine *e, int64_t updates) {
    e->params_ring[0].updates = updates; /* nothing is in flight */
    return copy_now(e, &e->store->params->updates, &e->params_ring[0].updates, (int64_t)sizeof updates);
}

dt_status dt_engine_updates(dt_engine *e, int64_t *out) {
    DT_TRY(copy_now(e, &e->params_ring[0].updates, &e->store->params->updates, (int64_t)sizeof *out));
    *out = e->params_ring[0].updates;
    return DT_OK;
}

/* A vector before the first update; the padding between parameters is zero. */
static void fresh_vec(const dt_axis *a, const part *p, float *host) {
    memset(host, 0, (size_t)p->bytes);
    for (int32_t i = 0; p->init != 0 && i < a->n_segment; i++)
        for (int64_t k = 0; k < dt_segment_state_elem(&a->segment[i], p->shape); k++)
            host[a->segment[i].state_at[p->shape] + k] = p->init;
}

dt_status dt_engine_init(dt_engine *e) {
    dt_store *s = e->store;
    for (int32_t k = PART_WEIGHTS + 1; k < PART_EMA; k++) {
        const part p = part_of(s, k);
        if (!p.name) continue;
        fresh_vec(e->axis, &p, e->host);
        DT_TRY(copy_now(e, p.data, e->host, p.bytes));
    }
    dt_axis_init_frozen(e->axis, (uint64_t)e->config->run.seed, clear_frozen(e));
    DT_TRY(send_frozen(e));
    memset(e->host, 0, (size_t)s->bytes[DT_ARENA_MASTER]);
    dt_axis_init(e->axis, (uint64_t)e->config->run.seed, e->host);
    DT_TRY(to_device(e, DT_ARENA_MASTER, e->host));
    if (part_of(s, PART_EMA).name) DT_TRY(copy_now(e, part_of(s, PART_EMA).data, e->host, s->vec_bytes));
    if (e->n_state_elem > 0) {
        memset(e->host_state, 0, (size_t)s->bytes[DT_ARENA_STATE]);
        fresh_state(s, e->host_state);
        for (size_t k = 0; k < N_STATE; k++)
            if (s->arena[state_table[k].arena]) DT_TRY(to_device(e, state_table[k].arena, e->host_state));
    }
    DT_TRY(set_updates(e, 0));
    return refresh_compute_copy(e);
}

/* Rank 0's running statistic of that name in host_state; -1: there is none. */
static int32_t find_state(const dt_store *s, const char *name) {
    for (int32_t i = 0; i < s->n_state; i++)
        if (strcmp(s->state[i].name, name) == 0) return i;
    return -1;
}

/* The tensors whose names begin so into the engine's arrays on the host: `trained` and `frozen` of parameters, or
 * host_state. */
static dt_status put_tensors(dt_engine *e, int32_t n, const dt_ckpt_tensor *tensor, float *trained,
                             float *frozen) {
    const dt_store *s = e->store;
    for (int32_t k = 0; k < n; k++) {
        const char *name = strchr(tensor[k].name, '/') + 1;
        const bool state = strncmp(tensor[k].name, "state/", strlen("state/")) == 0;
        const int32_t i = state ? find_state(s, name) : dt_axis_find(e->axis, name);
        if (i < 0) return dt_fail(DT_ERR_INTERNAL, "no weight is called %s", tensor[k].name);
        if (state && e->n_state_elem > 0)
            memcpy(e->host_state + s->state[i].offset_bytes / (int64_t)sizeof(float), tensor[k].data,
                   (size_t)s->state[i].n_elem * sizeof(float));
        if (!state && i < e->axis->n_segment && trained)
            dt_axis_from_stored(e->axis, i, tensor[k].data, trained);
        if (!state && i >= e->axis->n_segment && frozen)
            dt_axis_from_stored(e->axis, i, tensor[k].data, frozen);
    }
    return DT_OK;
}

/* Rank 0's numbers with the tensors among them; trained and frozen ones go one after the other through the same
 * scratch. */
static dt_status begin_root(dt_engine *e, int32_t n, const dt_ckpt_tensor *tensor) {
    float *frozen;
    if (e->axis->n_frozen > 0) {
        DT_TRY(frozen_values(e, &frozen));
        DT_TRY(put_tensors(e, n, tensor, NULL, frozen));
        DT_TRY(send_frozen(e));
    }
    DT_TRY(to_host(e, DT_ARENA_MASTER, e->host));
    if (e->n_state_elem > 0) DT_TRY(to_host(e, DT_ARENA_STATE, e->host_state));
    DT_TRY(put_tensors(e, n, tensor, e->host, NULL));
    return to_device(e, DT_ARENA_MASTER, e->host);
}

dt_status dt_engine_begin_with(dt_engine *e, int32_t n, const dt_ckpt_tensor *tensor) {
    const dt_store *s = e->store;
    const dt_status mine = rank_of(e) == 0 ? begin_root(e, n, tensor) : DT_OK;
    DT_TRY(e->mpi ? dt_comm_agree(e->mpi, mine) : mine);
    DT_TRY(e->mpi ? dt_engine_take_parameters(e) : refresh_compute_copy(e));
    if (e->n_state_elem > 0) {
        if (e->mpi) DT_TRY(dt_comm_bcast_host(e->mpi, e->host_state, s->bytes[DT_ARENA_STATE], 0));
        for (size_t k = 0; k < N_STATE; k++)
            if (s->arena[state_table[k].arena]) DT_TRY(to_device(e, state_table[k].arena, e->host_state));
    }
    const part ema = part_of(s, PART_EMA);
    return ema.name ? copy_now(e, ema.data, s->arena[DT_ARENA_MASTER], s->vec_bytes) : DT_OK;
}

static bool same_dims(const dt_ckpt_tensor *t, int32_t ndim, const int64_t *dim) {
    return t->ndim == ndim && memcmp(t->dim, dim, (size_t)ndim * sizeof *dim) == 0;
}

typedef struct shape_text {
    char s[24 * DT_MAX_DIM];
} shape_text;

/* "64x3" */
static shape_text dims_text(int32_t ndim, const int64_t *dim) {
    shape_text out = {""};
    for (int32_t i = 0; i < ndim; i++) {
        const size_t used = strlen(out.s);
        snprintf(out.s + used, sizeof out.s - used, "%s%lld", i ? "x" : "", (long long)dim[i]);
    }
    return out;
}

static dt_status find_tensor(const dt_ckpt *c, const char *group, const char *name, int32_t ndim,
                             const int64_t *dim, const dt_ckpt_tensor **out) {
    char full[DT_NAME_MAX + 16];
    snprintf(full, sizeof full, "%s/%s", group, name);
    *out = dt_ckpt_find(c, full);
    if (!*out)
        return dt_fail(
            DT_ERR_CHECKPOINT,
            "%s has no tensor %s: it is of another model or optimizer; set those it was written with, or "
            "start anew with another run.out_dir",
            c->path, full);
    if (!same_dims(*out, ndim, dim))
        return dt_fail(DT_ERR_CHECKPOINT,
                       "%s: tensor %s has another shape than the model's, %s instead of %s: it is of another "
                       "model, or of "
                       "data of another width",
                       c->path, full, dims_text((*out)->ndim, (*out)->dim).s, dims_text(ndim, dim).s);
    return DT_OK;
}

/* Whether the checkpoint has the tensor `name` of this part of the state. */
static bool has_tensor(const dt_ckpt *c, const char *group, const char *name) {
    char full[DT_NAME_MAX + 16];
    snprintf(full, sizeof full, "%s/%s", group, name);
    return dt_ckpt_find(c, full) != NULL;
}

/* Whether it has this part of any parameter. */
static bool holds(const dt_engine *e, const dt_ckpt *c, const char *group) {
    for (int32_t i = 0; i < e->axis->n_segment + e->axis->n_frozen; i++)
        if (has_tensor(c, group, e->axis->param[i].name)) return true;
    return false;
}

/* The optimizer that left the checkpoint; earlier versions did not say, but had only these. */
static const char *optimizer_of(const dt_engine *e, const dt_ckpt *c) {
    if (c->meta.optimizer[0]) return c->meta.optimizer;
    return holds(e, c, "mom2") ? "adamw" : holds(e, c, "mom1") ? "momentum" : "sgd";
}

/* Whether parameter i was trained there: one that was frozen has its weights and nothing else of what there is of
 * the others. */
static bool was_trained(const dt_engine *e, const dt_ckpt *c, int32_t i) {
    const dt_optim_kind kind = dt_optim_find(optimizer_of(e, c));
    bool others = false;
    for (int32_t k = -1; k < DT_OPTIM_STATES_MAX; k++) {
        const char *group = k < 0 ? "ema" : kind < DT_OPTIM_COUNT ? dt_optim_get(kind)->state[k].name : NULL;
        if (!group) continue;
        if (has_tensor(c, group, e->axis->param[i].name)) return true;
        others = others || holds(e, c, group);
    }
    return !others;
}

static dt_status load_param(const dt_engine *e, const dt_ckpt *c, const char *group, dt_state_shape shape,
                            int32_t i, float *array) {
    const dt_ckpt_tensor *t;
    int64_t dim[DT_MAX_DIM];
    const int32_t ndim = dt_axis_state_dims(e->axis, i, shape, dim);
    if (ndim == 0) return DT_OK;
    DT_TRY(find_tensor(c, group, e->axis->param[i].name, ndim, dim, &t));
    dt_axis_state_from_stored(e->axis, i, shape, t->data, array);
    return DT_OK;
}

static dt_status load_frozen(dt_engine *e, const dt_ckpt *c) {
    float *to = clear_frozen(e);
    for (int32_t i = e->axis->n_segment; i < e->axis->n_segment + e->axis->n_frozen; i++)
        DT_TRY(load_param(e, c, weights_name, DT_STATE_ELEMENT, i, to));
    return send_frozen(e);
}

/* A part of the state of those that are trained. What the checkpoint has of some parameters but not of one was
 * not trained before: its optimizer state starts anew, its average from the weights. */
static dt_status load_part(dt_engine *e, const dt_ckpt *c, const part *p, bool averaged, bool optimizer) {
    const char *group = averaged ? "ema" : p->name;
    const bool held = holds(e, c, group);
    if (optimizer)
        fresh_vec(e->axis, p, e->host);
    else
        memset(e->host, 0, (size_t)p->bytes);
    for (int32_t i = 0; i < e->axis->n_segment; i++) {
        const bool anew = held && !was_trained(e, c, i);
        if (optimizer && anew) continue;
        const bool from_weights = averaged && (anew || !held);
        DT_TRY(load_param(e, c, from_weights ? weights_name : group, p->shape, i, e->host));
    }
    return copy_now(e, p->data, e->host, p->bytes);
}

/* Of an optimizer that has state. */
static void count_regrouped(dt_engine *e, const dt_ckpt *c) {
    bool any = false;
    e->n_state_fresh = e->n_state_dropped = 0;
    for (int32_t k = PART_WEIGHTS + 1; k < PART_EMA; k++) any = any || part_of(e->store, k).name;
    for (int32_t i = 0; any && i < e->axis->n_segment + e->axis->n_frozen; i++) {
        const bool has = was_trained(e, c, i);
        e->n_state_fresh += i < e->axis->n_segment && !has;
        e->n_state_dropped += i >= e->axis->n_segment && has;
    }
}

void dt_engine_regrouped(const dt_engine *e, int32_t *n_fresh, int32_t *n_dropped) {
    *n_fresh = e->n_state_fresh, *n_dropped = e->n_state_dropped;
}

/* The row's statistics to `arena`. */
static dt_status load_state(dt_engine *e, const dt_ckpt *c, const state_row *row, dt_arena arena) {
    dt_store *s = e->store;
    const dt_ckpt_tensor *local = dt_ckpt_find(c, row->local), *t;
    memset(e->host_state, 0, (size_t)s->bytes[DT_ARENA_STATE]);
    for (int32_t i = 0; i < s->n_state; i++) {
        DT_TRY(find_tensor(c, row->name, s->state[i].name, 1, &s->state[i].n_elem, &t));
        memcpy(e->host_state + s->state[i].offset_bytes / (int64_t)sizeof(float), t->data,
               (size_t)s->state[i].n_elem * sizeof(float));
    }
    /* Same division of the work: each rank continues with its own statistics, bit for bit. */
    if (local && same_dims(local, 2, (int64_t[]){world_of(e), e->n_state_elem}))
        memcpy(e->host_state, local->data + rank_of(e) * e->n_state_elem,
               (size_t)e->n_state_elem * sizeof(float));
    return to_device(e, arena, e->host_state);
}

/* As with the weights: evaluation alone holds the averaged ones where those count, and an average that the
 * checkpoint lacks starts from what is current. Lacking is all or nothing. */
static dt_status load_states(dt_engine *e, const dt_ckpt *c) {
    const dt_store *s = e->store;
    const state_row *current = &state_table[0], *averaged = &state_table[1];
    if (e->n_state_elem == 0) return DT_OK;
    bool has = dt_ckpt_find(c, averaged->local) != NULL;
    for (int32_t i = 0; i < s->n_state; i++) has = has || has_tensor(c, averaged->name, s->state[i].name);
    const state_row *average_from = has ? averaged : current;
    if (s->arena[averaged->arena]) DT_TRY(load_state(e, c, average_from, averaged->arena));
    const bool only_average = !e->train && e->config->train.ema > 0;
    return load_state(e, c, only_average ? average_from : current, current->arena);
}

static dt_status check_optimizer(const dt_engine *e, const dt_ckpt *c) {
    const char *name = optimizer_of(e, c);
    const dt_optim_kind kind = dt_optim_find(name);
    if (!e->train || (kind != DT_OPTIM_COUNT && dt_optim_continues(&e->config->optim, kind))) return DT_OK;
    return dt_fail(DT_ERR_CHECKPOINT,
                   "%s holds the state of optim.kind = \"%s\", which another optimizer cannot continue; set "
                   "that, or start anew with another run.out_dir",
                   c->path, name);
}

dt_status dt_engine_load(dt_engine *e, const dt_ckpt *c) {
    dt_store *s = e->store;
    DT_TRY(dt_ckpt_check_adapters(c, e->config->model.lora.rank));
    DT_TRY(check_optimizer(e, c));
    for (int32_t k = 0; k < N_PARTS; k++) {
        const part p = part_of(s, k);
        if (!p.name) continue;
        /* Evaluation alone holds one set of weights: the averaged ones where those count. */
        const bool averaged = k == PART_EMA || (k == PART_WEIGHTS && !e->train && e->config->train.ema > 0);
        DT_TRY(load_part(e, c, &p, averaged, k != PART_WEIGHTS && k != PART_EMA));
    }
    DT_TRY(load_frozen(e, c));
    count_regrouped(e, c);
    DT_TRY(load_states(e, c));
    DT_TRY(set_updates(e, c->meta.optimizer_steps));
    return refresh_compute_copy(e);
}

/* host_state: row r holds rank r's statistics, on every rank. */
static dt_status gather_state(dt_engine *e, dt_arena arena) {
    if (e->n_state_elem == 0) return DT_OK;
    float *own = e->host_state + rank_of(e) * e->n_state_elem;
    if (world_of(e) == 1) return to_host(e, arena, own);
    memset(e->host_state, 0, (size_t)(world_of(e) * e->n_state_elem) * sizeof(float));
    DT_TRY(to_host(e, arena, own));
    /* The other rows are zero: the sum is the concatenation, exactly. */
    DT_TRY(e->mpi->allreduce_begin(e->mpi, e->host_state, world_of(e) * e->n_state_elem, DT_DTYPE_F32, NULL));
    return e->mpi->wait(e->mpi, NULL);
}

/* Mean over ranks of statistic k, summed in rank order. */
static float mean_state(const dt_engine *e, int64_t k) {
    double sum = 0;
    for (int32_t r = 0; r < world_of(e); r++) sum += (double)e->host_state[r * e->n_state_elem + k];
    return (float)(sum / world_of(e));
}

dt_status dt_engine_snapshot(dt_engine *e, int32_t *n, const dt_ckpt_tensor **tensors) {
    const dt_store *s = e->store;
    const bool root = rank_of(e) == 0;
    *n = e->n_tensor;
    *tensors = e->tensor;
    int32_t next = 0; /* the tensors are in the order of create_tensors */
    for (int32_t k = 0; root && k < N_PARTS; k++) {
        const part p = part_of(s, k);
        if (!p.name) continue;
        DT_TRY(copy_now(e, e->host, p.data, p.bytes));
        for (int32_t i = 0; i < e->axis->n_segment; i++)
            if (dt_segment_state_elem(&e->axis->segment[i], p.shape) > 0)
                dt_axis_state_to_stored(e->axis, i, p.shape, e->host, e->tensor[next++].data);
        if (k != PART_WEIGHTS || e->axis->n_frozen == 0) continue;
        float *frozen;
        DT_TRY(frozen_values(e, &frozen));
        for (int32_t i = e->axis->n_segment; i < n_param_of(e, k); i++)
            dt_axis_to_stored(e->axis, i, frozen, e->tensor[next++].data);
    }
    for (size_t k = 0; k < N_STATE; k++) {
        if (!s->arena[state_table[k].arena]) continue;
        DT_TRY(gather_state(e, state_table[k].arena));
        if (!root) continue;
        for (int32_t i = 0; i < s->n_state; i++, next++) {
            const int64_t first = s->state[i].offset_bytes / (int64_t)sizeof(float);
            for (int64_t j = 0; j < s->state[i].n_elem; j++)
                e->tensor[next].data[j] = mean_state(e, first + j);
        }
        memcpy(e->tensor[next++].data, e->host_state,
               (size_t)(world_of(e) * e->n_state_elem) * sizeof(float));
    }
    return DT_OK;
}

dt_status dt_engine_set_loss_scale(dt_engine *e, float scale, int32_t good_steps) {
    dt_step_params *p = &e->params_ring[0], *device = e->store->params; /* nothing is in flight */
    p->loss_scale = scale;
    p->good_steps = good_steps;
    DT_TRY(copy_now(e, &device->loss_scale, &p->loss_scale, (int64_t)sizeof p->loss_scale));
    return copy_now(e, &device->good_steps, &p->good_steps, (int64_t)sizeof p->good_steps);
}

dt_status dt_engine_hash(dt_engine *e, uint64_t *out) {
    DT_TRY(to_host(e, DT_ARENA_MASTER, e->host));
    *out = XXH3_64bits(e->host, (size_t)e->store->bytes[DT_ARENA_MASTER]);
    if (e->axis->n_frozen == 0) return DT_OK;
    float *frozen;
    DT_TRY(frozen_values(e, &frozen));
    *out = XXH3_64bits_withSeed(frozen, (size_t)e->axis->n_frozen_elem * sizeof *frozen, *out);
    return DT_OK;
}

dt_status dt_engine_take_parameters(dt_engine *e) {
    DT_TRY(dt_comm_agree(e->mpi, to_host(e, DT_ARENA_MASTER, e->host)));
    DT_TRY(dt_comm_bcast_host(e->mpi, e->host, e->store->bytes[DT_ARENA_MASTER], 0));
    DT_TRY(to_device(e, DT_ARENA_MASTER, e->host));
    if (e->axis->n_frozen > 0) {
        float *frozen;
        DT_TRY(dt_comm_agree(e->mpi, frozen_values(e, &frozen)));
        DT_TRY(dt_comm_bcast_host(e->mpi, frozen, e->axis->n_frozen_elem * (int64_t)sizeof *frozen, 0));
        DT_TRY(send_frozen(e));
    }
    return refresh_compute_copy(e);
}

enum { EVAL_ROWS_MAX = 1 << 22 };

/* Adds what the device has counted, which starts anew. */
static dt_status take_eval_metrics(dt_engine *e) {
    float *host = e->ring[0].begin; /* no step is in flight during evaluation */
    DT_TRY(to_host(e, DT_ARENA_METRIC, host));
    for (int i = 0; i < DT_METRIC_COUNT; i++) e->eval_metric[i] += (double)host[i];
    e->eval_rows_left = EVAL_ROWS_MAX;
    return e->be->fill(e->be, e->store->arena[DT_ARENA_METRIC], 0, e->store->bytes[DT_ARENA_METRIC], NULL);
}

dt_status dt_engine_eval_batch(dt_engine *e) {
    DT_TRY(dt_program_run(e->eval, NULL, NULL));
    e->eval_rows_left -= e->division.eval_rows;
    return e->eval_rows_left > 0 ? DT_OK : take_eval_metrics(e);
}

dt_status dt_engine_eval_begin(dt_engine *e, bool ema) {
    dt_backend *be = e->be;
    dt_store *s = e->store;
    e->eval_ema = ema && s->vec[DT_STORE_EMA].data;
    DT_TRY(gather_state(e, e->eval_ema ? DT_ARENA_EMA_STATE : DT_ARENA_STATE));
    if (e->n_state_elem > 0) {
        DT_TRY(to_host(e, DT_ARENA_STATE, e->state_saved));
        for (int64_t k = 0; k < e->n_state_elem; k++) e->host_state[k] = mean_state(e, k);
        DT_TRY(to_device(e, DT_ARENA_STATE, e->host_state));
    }
    if (e->eval_ema) {
        DT_TRY(be->copy(be, e->master_saved, s->arena[DT_ARENA_MASTER], s->bytes[DT_ARENA_MASTER], NULL));
        DT_TRY(be->copy(be, s->arena[DT_ARENA_MASTER], s->vec[DT_STORE_EMA].data, s->vec_bytes, NULL));
        DT_TRY(refresh_compute_copy(e));
    }
    memset(e->eval_metric, 0, sizeof e->eval_metric);
    e->eval_rows_left = EVAL_ROWS_MAX;
    return be->fill(be, s->arena[DT_ARENA_METRIC], 0, s->bytes[DT_ARENA_METRIC], NULL);
}

dt_status dt_engine_eval_end(dt_engine *e, double *metric) {
    dt_backend *be = e->be;
    dt_store *s = e->store;
    DT_TRY(take_eval_metrics(e));
    memcpy(metric, e->eval_metric, sizeof e->eval_metric);
    if (e->n_state_elem > 0) DT_TRY(to_device(e, DT_ARENA_STATE, e->state_saved));
    if (e->eval_ema) {
        DT_TRY(be->copy(be, s->arena[DT_ARENA_MASTER], e->master_saved, s->bytes[DT_ARENA_MASTER], NULL));
        DT_TRY(refresh_compute_copy(e));
    }
    return e->mpi ? dt_comm_sum_host(e->mpi, metric, DT_METRIC_COUNT) : DT_OK;
}

dt_status dt_engine_eval_lone(dt_engine *e, double *metric) {
    dt_store *s = e->store;
    DT_TRY(e->be->fill(e->be, s->arena[DT_ARENA_METRIC], 0, s->bytes[DT_ARENA_METRIC], NULL));
    DT_TRY(dt_program_run(e->eval, NULL, NULL));
    memset(e->eval_metric, 0, sizeof e->eval_metric);
    DT_TRY(take_eval_metrics(e));
    memcpy(metric, e->eval_metric, sizeof e->eval_metric);
    return DT_OK;
}

dt_status dt_engine_sums(dt_engine *e, double *metric) {
    float host[DT_METRIC_COUNT];
    DT_TRY(to_host(e, DT_ARENA_METRIC, host));
    for (int i = 0; i < DT_METRIC_COUNT; i++) metric[i] = (double)host[i];
    return DT_OK;
}
