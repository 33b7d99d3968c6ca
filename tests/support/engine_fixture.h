/* Engines on the CPU fed with made-up batches: sample t of a run is a function of t alone, dealt to virtual
 * micro-batches as the loader deals (data/loader.h). Also several ranks in one process, a thread each, with a
 * communicator that sums in rank order. Header only. */
#ifndef DT_TEST_ENGINE_FIXTURE_H
#define DT_TEST_ENGINE_FIXTURE_H

#include <pthread.h>
#include <stdio.h>

#include "batch_fields.h"
#include "cpu/cpu.h"
#include "test_config.h"
#include "train/engine.h"

typedef struct rig rig;
/* Samples first, first + stride, ... below end; rows past the last are padding. */
typedef dt_batch rig_batch_fn(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end);

/* The forward graph of that many rows. */
typedef dt_status rig_forward_fn(void *arg, int64_t rows, bool training, dt_graph **out);

struct rig {
    dt_config c;
    dt_backend *be;
    dt_dataset_info data;
    dt_engine *e;
    dt_step_result result;   /* of the last step */
    dt_field field[2];       /* of its batches */
    float loss_weight;       /* 0: 1 / global batch */
    rig_batch_fn *batch;     /* NULL: images */
    rig_forward_fn *forward; /* NULL: the configured model */
};

static const dt_dataset_info rig_data = {.n_samples = 512,
                                         .height = 8,
                                         .width = 8,
                                         .channels = 2,
                                         .n_classes = 5,
                                         .mean = {0.5, 0.45},
                                         .stddev = {0.3, 0.28}};

/* A residual network without normalisation: micro-batches add up to the batch. */
#define RIG_PLAIN_MODEL                                                                                      \
    "[model]\nname = \"layers\"\n"                                                                           \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\n"                                                      \
    "[[model.layers]]\ntype = \"relu\"\nname = \"a\"\n"                                                      \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\n"                                                      \
    "[[model.layers]]\ntype = \"add\"\nwith = \"a\"\n"                                                       \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"maxpool\"\n"                                                                 \
    "[[model.layers]]\ntype = \"flatten\"\n"                                                                 \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 5\n"

/* With normalisation and dropout. */
#define RIG_FULL_MODEL                                                                                       \
    "[model]\nname = \"layers\"\n"                                                                           \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nbias = false\n"                                        \
    "[[model.layers]]\ntype = \"batchnorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"relu\"\nname = \"a\"\n"                                                      \
    "[[model.layers]]\ntype = \"conv\"\nchannels = 6\nbias = false\n"                                        \
    "[[model.layers]]\ntype = \"batchnorm\"\n"                                                               \
    "[[model.layers]]\ntype = \"add\"\nwith = \"a\"\n"                                                       \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"global_avgpool\"\n"                                                          \
    "[[model.layers]]\ntype = \"dropout\"\nrate = 0.2\n"                                                     \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 5\n"

/* Everything but the engine. */
static inline void rig_prepare(rig *r, const char *config) {
    memset(r, 0, sizeof *r);
    check_config(&r->c, config);
    r->data = rig_data;
    check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 1}, &r->be));
}

static inline dt_status rig_try_open(rig *r, dt_comm *comm, bool train) {
    dt_engine_options o = {.config = &r->c,
                           .be = r->be,
                           .mpi = comm,
                           .comm = comm,
                           .data = &r->data,
                           .train = train,
                           .forward = r->forward};
    DT_TRY(dt_engine_create(&o, &r->e));
    DT_TRY(
        dt_engine_set_loss_scale(r->e, r->c.train.loss_scale > 0 ? (float)r->c.train.loss_scale : 1.0f, 0));
    return dt_engine_init(r->e);
}

static inline void rig_open(rig *r, const char *config) {
    rig_prepare(r, config);
    check_ok(rig_try_open(r, NULL, true));
}

static inline void rig_close(rig *r) {
    dt_engine_destroy(r->e);
    r->be->destroy(r->be);
    dt_config_fini(&r->c);
}

/* Pixels and label of sample t. */
static inline int32_t rig_sample(const rig *r, int64_t t, uint8_t *pixels) {
    check_rng rng = {.stream = 50000 + (uint64_t)t};
    int32_t label = (int32_t)check_below(&rng, r->data.n_classes);
    int64_t n = r->data.height * r->data.width * r->data.channels;
    for (int64_t i = 0; i < n; i++) /* some signal: classes differ in brightness */
        pixels[i] = (uint8_t)(check_below(&rng, 160) + label * 18);
    return label;
}

static inline dt_batch rig_batch(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end) {
    int64_t bytes = r->data.height * r->data.width * r->data.channels;
    dt_batch b = batch_new(r->field, rows, r->data.height, r->data.width, r->data.channels);
    b.n_valid = 0;
    for (int64_t i = 0; i < rows; i++) {
        bool real = first + i * stride < end;
        batch_label(&b)[i] = real ? rig_sample(r, first + i * stride, batch_image(&b) + i * bytes) : -1;
        b.n_valid += real;
    }
    return b;
}

static inline void rig_batch_free(dt_batch *b) {
    batch_free(b);
}

/* What the trainer sends: step from 0. */
static inline dt_step_params rig_params(const rig *r, int64_t step, float lr, int64_t micro, bool first) {
    const dt_config *c = &r->c;
    return (dt_step_params){.lr = lr,
                            .loss_weight = r->loss_weight != 0 ? r->loss_weight
                                                               : (float)(1.0 / (double)c->train.global_batch),
                            .ema_decay = (float)c->train.ema,
                            .first_micro = first,
                            .seed = (uint64_t)c->run.seed,
                            .step = (uint64_t)step,
                            .micro = (uint64_t)micro};
}

/* Step number `step` of rank `rank` of `world`; all its micro-batches. */
static inline dt_status rig_try_step(rig *r, int32_t rank, int32_t world, int64_t step, float lr) {
    const dt_division *d = dt_engine_division(r->e);
    const int64_t start = step * d->global_batch;
    DT_TRY(dt_engine_begin_step(r->e, false, false));
    for (int64_t m = 0; m < d->n_micro; m++) {
        const int64_t micro = rank + m * world;
        dt_batch b = (r->batch ? r->batch : rig_batch)(r, d->rows, start + micro, d->n_micro_all,
                                                       start + d->global_batch);
        dt_step_params p = rig_params(r, step, lr, micro, m == 0);
        dt_status st = dt_engine_feed(r->e, &b, false);
        rig_batch_free(&b);
        DT_TRY(st);
        DT_TRY(dt_engine_micro(r->e, &p, m == d->n_micro - 1));
    }
    DT_TRY(dt_engine_end_step(r->e, step));
    DT_TRY(dt_engine_result(r->e, &r->result));
    return r->result.step == step ? DT_OK : dt_fail(DT_ERR_INTERNAL, "no result of the step");
}

static inline void rig_step(rig *r, int64_t step, float lr) {
    check_ok(rig_try_step(r, 0, 1, step, lr));
}

static inline float *rig_arena(const rig *r, dt_arena arena) {
    return dt_engine_program(r->e, false)->store->arena[arena];
}

static inline int64_t rig_arena_bytes(const rig *r, dt_arena arena) {
    return dt_engine_program(r->e, false)->store->bytes[arena];
}

/* The optimizer's state vector in that slot, or the averages (DT_STORE_EMA); NULL where absent. */
static inline float *rig_vec(const rig *r, int32_t slot) {
    return dt_engine_program(r->e, false)->store->vec[slot].data;
}

static inline size_t rig_vec_bytes(const rig *r) {
    return (size_t)dt_engine_program(r->e, false)->store->vec_bytes;
}

static inline uint64_t rig_hash(const rig *r) {
    uint64_t hash;
    check_ok(dt_engine_hash(r->e, &hash));
    return hash;
}

/* Distance of two engines' weights, relative to the first's. */
static inline double rig_distance(const rig *a, const rig *b) {
    int64_t n = dt_engine_axis(a->e)->n_elem;
    double *wide[2] = {check_alloc((size_t)n * sizeof(double)), check_alloc((size_t)n * sizeof(double))};
    for (int64_t i = 0; i < n; i++) {
        wide[0][i] = (double)rig_arena(a, DT_ARENA_MASTER)[i];
        wide[1][i] = (double)rig_arena(b, DT_ARENA_MASTER)[i];
    }
    double d = check_distance(wide[1], wide[0], n);
    free(wide[0]), free(wide[1]);
    return d;
}

/* A copy of a snapshot as a checkpoint in memory. */
static inline dt_ckpt rig_copy(int32_t n_tensor, const dt_ckpt_tensor *from) {
    dt_ckpt c = {.path = "memory", .n_tensor = n_tensor};
    c.tensor = check_alloc((size_t)c.n_tensor * sizeof *c.tensor);
    for (int32_t i = 0; i < c.n_tensor; i++) {
        dt_ckpt_tensor *t = &c.tensor[i];
        int64_t n = 1;
        *t = from[i];
        for (int32_t d = 0; d < t->ndim; d++) n *= t->dim[d];
        t->name = strdup(from[i].name);
        t->data = check_alloc((size_t)n * sizeof *t->data);
        memcpy(t->data, from[i].data, (size_t)n * sizeof *t->data);
    }
    return c;
}

/* What of a checkpoint's meta data concerns the engine. */
static inline void rig_meta(rig *r, dt_ckpt_meta *meta) {
    check_ok(dt_engine_updates(r->e, &meta->optimizer_steps));
    snprintf(meta->optimizer, sizeof meta->optimizer, "%s", dt_optim_names[r->c.optim.kind]);
}

static inline dt_ckpt rig_checkpoint(rig *r) {
    int32_t n;
    const dt_ckpt_tensor *tensor;
    check_ok(dt_engine_snapshot(r->e, &n, &tensor));
    dt_ckpt c = rig_copy(n, tensor);
    rig_meta(r, &c.meta);
    return c;
}

static inline void rig_checkpoint_free(dt_ckpt *c) {
    for (int32_t i = 0; i < c->n_tensor; i++) {
        free((void *)(uintptr_t)c->tensor[i].name);
        free(c->tensor[i].data);
    }
    free(c->tensor);
}

/* Ranks as threads. */
enum { CREW_MAX = 4, CREW_RANGES_MAX = 80 };

typedef struct crew_range {
    float *data;
    int64_t n_elem;
} crew_range;

typedef struct crew {
    pthread_barrier_t barrier;
    int32_t world;
    dt_comm comm[CREW_MAX];
    crew_range range[CREW_MAX][CREW_RANGES_MAX];
    int32_t n_range[CREW_MAX];
    double *sum[CREW_MAX];
    int64_t n_sums; /* of rank 0 */
} crew;

static inline dt_status crew_begin(dt_comm *c, void *buf, int64_t n_elem, dt_dtype dtype, dt_stream *stream) {
    crew *w = c->impl;
    (void)stream;
    if (dtype != DT_DTYPE_F32 || w->n_range[c->rank] == CREW_RANGES_MAX)
        return dt_fail(DT_ERR_INTERNAL, "not a reduction of these tests");
    w->range[c->rank][w->n_range[c->rank]++] = (crew_range){buf, n_elem};
    return DT_OK;
}

static inline dt_status crew_progress(dt_comm *c) {
    (void)c;
    return DT_OK;
}

static inline dt_status crew_wait(dt_comm *c, dt_stream *stream) {
    crew *w = c->impl;
    (void)stream;
    pthread_barrier_wait(&w->barrier);
    for (int32_t k = 0; c->rank == 0 && k < w->n_range[0]; k++)
        for (int64_t i = 0; i < w->range[0][k].n_elem; i++) {
            float sum = w->range[0][k].data[i];
            for (int32_t r = 1; r < w->world; r++) sum += w->range[r][k].data[i];
            for (int32_t r = 0; r < w->world; r++) w->range[r][k].data[i] = sum;
        }
    pthread_barrier_wait(&w->barrier);
    w->n_range[c->rank] = 0;
    return DT_OK;
}

static inline dt_status crew_sum_now(dt_comm *c, double *values, int64_t n) {
    crew *w = c->impl;
    w->sum[c->rank] = values;
    pthread_barrier_wait(&w->barrier);
    for (int64_t i = 0; c->rank == 0 && i < n; i++) {
        double sum = 0;
        for (int32_t r = 0; r < w->world; r++) sum += w->sum[r][i];
        for (int32_t r = 0; r < w->world; r++) w->sum[r][i] = sum;
    }
    w->n_sums += c->rank == 0;
    pthread_barrier_wait(&w->barrier);
    return DT_OK;
}

/* What every rank does: from `load` (NULL: fresh weights), steps [first, end), then a snapshot. */
typedef struct crew_work {
    const char *config;
    const dt_dataset_info *data; /* NULL: images */
    rig_batch_fn *batch;
    rig_forward_fn *forward;
    const dt_ckpt *load;
    int64_t first, end;
    float lr;
} crew_work;

typedef struct crew_member {
    crew *w;
    const crew_work *work;
    int32_t rank, n_tensor;
    rig *r;
    const dt_ckpt_tensor *tensor; /* of rank 0 */
} crew_member;

static inline void *crew_run(void *arg) {
    crew_member *m = arg;
    dt_status st = m->work->load ? dt_engine_load(m->r->e, m->work->load) : DT_OK;
    for (int64_t s = m->work->first; st == DT_OK && s < m->work->end; s++)
        st = rig_try_step(m->r, m->rank, m->w->world, s, m->work->lr);
    if (st == DT_OK) st = dt_engine_snapshot(m->r->e, &m->n_tensor, &m->tensor);
    if (st != DT_OK) { /* the other ranks wait for this one: there is no way on */
        fprintf(stderr, "rank %d: %s\n", m->rank, dt_error_text());
        exit(1);
    }
    return NULL;
}

/* Opens r[rank] on `world` ranks and works; the caller closes them, before w goes. Returns the snapshot. */
static inline dt_ckpt crew_train(crew *w, int32_t world, const crew_work *work, rig *r) {
    pthread_t thread[CREW_MAX];
    crew_member member[CREW_MAX];
    memset(w, 0, sizeof *w);
    w->world = world;
    assert_int_equal(pthread_barrier_init(&w->barrier, NULL, (unsigned)world), 0);
    for (int32_t k = 0; k < world; k++) {
        w->comm[k] = (dt_comm){.name = "threads",
                               .rank = k,
                               .world = world,
                               .local_rank = k,
                               .local_world = world,
                               .allreduce_begin = crew_begin,
                               .sum_now = crew_sum_now,
                               .progress = crew_progress,
                               .wait = crew_wait,
                               .impl = w};
        rig_prepare(&r[k], work->config);
        if (work->data) r[k].data = *work->data, r[k].batch = work->batch;
        r[k].forward = work->forward;
        check_ok(rig_try_open(&r[k], &w->comm[k], true));
        member[k] = (crew_member){.w = w, .work = work, .rank = k, .r = &r[k]};
    }
    for (int32_t k = 0; k < world; k++)
        assert_int_equal(pthread_create(&thread[k], NULL, crew_run, &member[k]), 0);
    for (int32_t k = 0; k < world; k++) pthread_join(thread[k], NULL);
    dt_ckpt c = rig_copy(member[0].n_tensor, member[0].tensor);
    rig_meta(&r[0], &c.meta);
    return c;
}

#endif
