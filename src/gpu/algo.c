/* The algorithm table: known choices, plans, and the tuner that makes choices by timing. With
 * train.deterministic nothing is timed or remembered, for two runs must choose alike on a busy card and
 * without a cache too: the heuristic's first engine that sums in one order is taken, and no fusion that asks
 * for times is. */
#include "algo.h"

#include "timing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CANDIDATES = 10,      /* plans timed per convolution */
    FUSED_CANDIDATES = 7, /* per fused one: each is compiled now, 0.2 s of a core */
    ASKED = 16,           /* choices asked of a heuristic mode: some cannot be built */
    THREADS_MAX = 16,
    WINDOWS = 3, /* the best of so many windows counts */
    RUNS_MAX = 8 /* runs in a window */
};
static const int64_t WORKSPACE_LIMIT = (int64_t)1 << 30;
static const double WINDOW_S = 4e-4, HOPELESS = 1.5, ABSURD = 50; /* times the best so far */

struct dt_algos {
    dt_algo_cache cache;
    int32_t rules;
    bool first_only;                  /* deterministic */
    uint32_t refused_f32, refused_16; /* numerical notes */
    int32_t n, cap;
    dt_algo **algo;                    /* addresses stay valid as the table grows */
    cudnnHandle_t handle[THREADS_MAX]; /* of the building threads; plans refer to them */
};

typedef struct candidate {
    dt_algo_choice choice;
    dt_dnn_builder desc;
    cudnnBackendDescriptor_t plan;
    int64_t workspace_bytes;
} candidate;

/* Lists of engines that cuDNN's heuristics give, in the order in which they are asked. */
static const cudnnBackendHeurMode_t LISTS[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
enum { LIST_COUNT = sizeof LISTS / sizeof *LISTS };

/* What a thread does for one engine: rebuild the known choice, or build candidates for timing. */
typedef struct job {
    dt_algo *algo;
    cudnnBackendDescriptor_t graph;
    int32_t list; /* asked first; then that of the candidates */
    int32_t n;
    candidate *candidate; /* CANDIDATES of them */
} job;

typedef struct job_list {
    dt_cuda *cu;
    job *job;
    int32_t n;
    atomic_int next, next_thread;
} job_list;

static int32_t note(int32_t bit) {
    return 1 << bit;
}

dt_status dt_algos_create(dt_cuda *cu, const char *cache_dir, dt_algos **out) {
    dt_algos *e = calloc(1, sizeof *e);
    if (!e) return dt_fail(DT_ERR_MEMORY, "no memory for the algorithm table");
    e->rules = cu->tf32 ? 1 : 0;
    e->first_only = cu->deterministic;
    /* Engines that round partial sums to 16 bits are taken, as PyTorch does: without them a step of ResNet-50
     * is 1 % slower. */
    e->refused_16 = cu->deterministic ? (uint32_t)note(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) : 0;
    e->refused_f32 = e->refused_16 | (uint32_t)note(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
    if (!cu->tf32)
        e->refused_f32 |= (uint32_t)(note(CUDNN_NUMERICAL_NOTE_TENSOR_CORE) |
                                     note(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS) |
                                     note(CUDNN_NUMERICAL_NOTE_WINOGRAD) | note(CUDNN_NUMERICAL_NOTE_FFT));
    if (!cu->deterministic) dt_algo_cache_open(&e->cache, cache_dir, cu->base.info.name, cudnnGetVersion());
    *out = e;
    return DT_OK;
}

void dt_algos_destroy(dt_algos *e) {
    if (!e) return;
    for (int32_t i = 0; i < e->n; i++) {
        dt_dnn_release(&e->algo[i]->plan_desc);
        dt_dnn_release(&e->algo[i]->graph_desc);
        free(e->algo[i]);
    }
    for (int32_t i = 0; i < THREADS_MAX; i++)
        if (e->handle[i]) (void)cudnnDestroy(e->handle[i]);
    free(e->algo);
    dt_algo_cache_close(&e->cache);
    free(e);
}

static dt_algo *find(const dt_algos *e, const dt_conv_spec *spec) {
    for (int32_t i = 0; i < e->n; i++)
        if (memcmp(&e->algo[i]->spec, spec, sizeof *spec) == 0) return e->algo[i];
    return NULL;
}

const dt_algo *dt_algos_find(const dt_cuda *cu, const dt_conv_spec *spec) {
    return find(cu->algos, spec);
}

static dt_algo *add(dt_algos *e, const dt_conv_spec *spec) {
    if (e->n == e->cap) {
        int32_t cap = e->cap ? 2 * e->cap : 64;
        dt_algo **more = realloc(e->algo, (size_t)cap * sizeof *more);
        if (!more) return NULL;
        e->algo = more;
        e->cap = cap;
    }
    dt_algo *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->spec = *spec;
    const dt_algo_record *r = dt_algo_cache_find(&e->cache, spec, e->rules);
    if (r) {
        x->known = true;
        x->usable = r->usable;
        x->seconds = r->seconds;
        x->choice = r->choice;
    }
    return e->algo[e->n++] = x;
}

static void note_error(dt_algo *e, const dt_dnn_builder *b) {
    char detail[160] = "";
    cudnnGetLastErrorString(detail, sizeof detail);
    snprintf(e->error, sizeof e->error, "%s: %s %s", b->what ? b->what : "no engine",
             cudnnGetErrorString(b->st), detail);
    e->passing = e->passing || b->passing;
}

static bool build_graph(job *j, cudnnHandle_t handle) {
    dt_algo *e = j->algo;
    if (j->graph) return true;
    dt_dnn_release(&e->graph_desc);
    e->graph_desc = (dt_dnn_builder){.handle = handle};
    j->graph = dt_dnn_conv_graph(&e->graph_desc, &e->spec);
    if (!j->graph) note_error(e, &e->graph_desc);
    return j->graph != NULL;
}

static bool build_known(job *j, cudnnHandle_t handle) {
    dt_algo *e = j->algo;
    if (!build_graph(j, handle)) return false;
    e->plan_desc = (dt_dnn_builder){.handle = handle};
    e->plan = dt_dnn_plan(&e->plan_desc, j->graph, &e->choice, &e->workspace_bytes);
    if (e->plan) return true;
    note_error(e, &e->plan_desc);
    dt_dnn_release(&e->plan_desc);
    return false;
}

/* Only what a heuristic names: other engines may claim a graph and then read outside its tensors. */
static void build_candidates(const dt_algos *table, job *j, cudnnHandle_t handle) {
    dt_algo *e = j->algo;
    const dt_conv_kind kind = (dt_conv_kind)e->spec.kind;
    const bool fused = kind != DT_CONV_F && kind != DT_CONV_D && kind != DT_CONV_W;
    const int32_t n_candidate = table->first_only ? 1 : fused ? FUSED_CANDIDATES : CANDIDATES;
    uint32_t refused = e->spec.dtype == DT_DTYPE_F32 ? table->refused_f32 : table->refused_16;
    if (!build_graph(j, handle)) return;
    for (int32_t list = j->list; list < LIST_COUNT && j->n == 0; list++) {
        dt_algo_choice choice[ASKED];
        int32_t n = dt_dnn_choices(&e->graph_desc, j->graph, LISTS[list], refused, ASKED, choice);
        j->list = list;
        e->passing = e->passing || e->graph_desc.passing;
        for (int32_t i = 0; i < n && j->n < n_candidate; i++) {
            candidate *c = &j->candidate[j->n];
            *c = (candidate){.choice = choice[i], .desc = {.handle = handle}};
            c->plan = dt_dnn_plan(&c->desc, j->graph, &choice[i], &c->workspace_bytes);
            if (c->plan && c->workspace_bytes <= WORKSPACE_LIMIT) {
                j->n++;
                continue;
            }
            if (c->plan) {
                snprintf(
                    e->error, sizeof e->error,
                    "its engines want more than 1 GiB of workspace: a smaller train.micro_batch may help");
                e->passing = true; /* of this batch, not of the shape's nature */
            } else
                note_error(e, &c->desc);
            dt_dnn_release(&c->desc);
        }
    }
    if (j->n == 0 && !e->error[0]) snprintf(e->error, sizeof e->error, "no engine keeps the numerical rules");
}

static void *work(void *arg) {
    job_list *list = arg;
    cudnnHandle_t *own = &list->cu->algos->handle[atomic_fetch_add(&list->next_thread, 1)];
    if (cudaSetDevice(list->cu->device) != cudaSuccess) return NULL;
    if (!*own && cudnnCreate(own) != CUDNN_STATUS_SUCCESS) return NULL;
    for (;;) {
        int32_t i = atomic_fetch_add(&list->next, 1);
        if (i >= list->n) break;
        job *j = &list->job[i];
        if (j->algo->known && build_known(j, *own)) continue;
        j->algo->known = false; /* a stale record: choose anew */
        build_candidates(list->cu->algos, j, *own);
    }
    return NULL;
}

static int32_t thread_count(const dt_cuda *cu, int32_t n_job) {
    int32_t n = cu->base.host_threads;
    if (n > THREADS_MAX) n = THREADS_MAX;
    if (n > n_job) n = n_job;
    return n < 1 ? 1 : n;
}

static dt_status run_jobs(dt_cuda *cu, job *j, int32_t n) {
    job_list list = {.cu = cu, .job = j, .n = n};
    pthread_t thread[THREADS_MAX];
    int32_t want = thread_count(cu, n), started = 0;
    while (started < want && pthread_create(&thread[started], NULL, work, &list) == 0) started++;
    if (started == 0) work(&list);
    for (int32_t i = 0; i < started; i++) pthread_join(thread[i], NULL);
    if (atomic_load(&list.next) < n)
        return dt_fail(DT_ERR_DEVICE, "no cuDNN handle could be created: is device memory left?");
    return DT_OK;
}

/* Memory that candidates are timed on. */
typedef struct scratch {
    void *ptr[DT_UID_COUNT];
    void *workspace;
    cudaEvent_t begin, end;
} scratch;

static void scratch_free(scratch *s) {
    for (int u = 0; u < DT_UID_COUNT; u++) (void)cudaFree(s->ptr[u]);
    (void)cudaFree(s->workspace);
    if (s->begin) (void)cudaEventDestroy(s->begin);
    if (s->end) (void)cudaEventDestroy(s->end);
    *s = (scratch){0};
}

/* Room for the largest tensor of each id, filled with random numbers; false where memory does not suffice. */
static bool scratch_make(dt_cuda *cu, const job *j, int32_t n, scratch *s) {
    int64_t elems[DT_UID_COUNT] = {0}, workspace = 256;
    dt_dtype dtype = DT_DTYPE_F32;
    for (int32_t i = 0; i < n; i++) {
        if (j[i].n == 0) continue;
        uint32_t uids = dt_conv_kind_uids((dt_conv_kind)j[i].algo->spec.kind);
        dtype = (dt_dtype)j[i].algo->spec.dtype;
        for (int u = 0; u < DT_UID_COUNT; u++)
            if (uids & (1u << u))
                elems[u] = dt_max_i64(elems[u], dt_conv_uid_elems(&j[i].algo->spec, (dt_conv_uid)u));
        for (int32_t k = 0; k < j[i].n; k++)
            workspace = dt_max_i64(workspace, j[i].candidate[k].workspace_bytes);
    }
    bool ok = cudaMalloc(&s->workspace, (size_t)workspace) == cudaSuccess &&
              cudaEventCreate(&s->begin) == cudaSuccess && cudaEventCreate(&s->end) == cudaSuccess;
    for (int u = 0; u < DT_UID_COUNT && ok; u++) {
        if (!elems[u]) continue;
        dt_dtype t = dt_conv_uid_is_f32((dt_conv_uid)u) ? DT_DTYPE_F32 : dtype;
        ok =
            cudaMalloc(&s->ptr[u], (size_t)elems[u] * dt_dtype_size(t)) == cudaSuccess &&
            dt_gpu_fill_random(&cu->gpu, t, s->ptr[u], elems[u], (uint64_t)u + 1, cu->compute) == cudaSuccess;
    }
    if (!ok) {
        (void)cudaGetLastError(); /* out of memory is not sticky */
        scratch_free(s);
    }
    return ok;
}

/* Seconds of one run over n runs; negative on failure. */
static double time_runs(dt_cuda *cu, const scratch *s, cudnnBackendDescriptor_t plan,
                        cudnnBackendDescriptor_t pack, int32_t n) {
    float ms = 0;
    if (cudaEventRecord(s->begin, cu->compute) != cudaSuccess) return -1;
    for (int32_t i = 0; i < n; i++)
        if (cudnnBackendExecute(cu->dnn, plan, pack) != CUDNN_STATUS_SUCCESS) return -1;
    if (cudaEventRecord(s->end, cu->compute) != cudaSuccess || cudaEventSynchronize(s->end) != cudaSuccess ||
        cudaEventElapsedTime(&ms, s->begin, s->end) != cudaSuccess)
        return -1;
    return (double)ms * 1e-3 / n;
}

typedef struct execution {
    cudnnBackendDescriptor_t plan, pack;
} execution;

static bool execute(dt_cuda *cu, const void *arg) {
    const execution *e = arg;
    return cudnnBackendExecute(cu->dnn, e->plan, e->pack) == CUDNN_STATUS_SUCCESS;
}

static double time_candidate(dt_cuda *cu, const scratch *s, uint32_t uids, const candidate *c, double best) {
    dt_dnn_builder b = {.handle = cu->dnn};
    cudnnBackendDescriptor_t pack = dt_dnn_pack(&b, uids, s->ptr, s->workspace);
    double t =
        b.st == CUDNN_STATUS_SUCCESS ? time_runs(cu, s, c->plan, pack, 1) : -1; /* loads the kernel too */
    if (t >= 0 && t < best * ABSURD) {
        t = time_runs(cu, s, c->plan, pack, 1);
        const execution e = {c->plan, pack};
        const double captured =
            t >= 0 && t < DT_TIMING_SMALL_S ? dt_timing_captured(cu, s->begin, s->end, execute, &e) : -1;
        if (captured > 0) {
            dt_dnn_release(&b);
            return captured;
        }
        int32_t runs = t > 0 ? (int32_t)(WINDOW_S / t) : 1;
        runs = runs < 1 ? 1 : runs > RUNS_MAX ? RUNS_MAX : runs;
        int windows = t < WINDOW_S ? WINDOWS : 1; /* a long run is its own average */
        for (int w = 0; w < windows && t > 0 && t < best * HOPELESS; w++) {
            double again = time_runs(cu, s, c->plan, pack, runs);
            t = again < t ? again : t;
        }
    }
    dt_dnn_release(&b);
    return t;
}

/* The fastest candidate becomes the engine's plan; the others are dropped. */
static void choose(dt_cuda *cu, job *j, const scratch *s) {
    dt_algo *e = j->algo;
    uint32_t uids = dt_conv_kind_uids((dt_conv_kind)e->spec.kind);
    int32_t best = s ? -1 : 0;
    double best_s = 1e30;
    for (int32_t i = 0; s && i < j->n; i++) {
        double t =
            cu->first_list_fails && j->list == 0 ? -1 : time_candidate(cu, s, uids, &j->candidate[i], best_s);
        if (t > 0 && t < best_s) best = i, best_s = t;
    }
    e->known = true;
    e->usable = j->n > 0 && best >= 0;
    e->passing = !e->usable && (e->passing || j->n > 0); /* it was built, but did not run */
    e->seconds = e->usable && s ? best_s : 0;
    for (int32_t i = 0; i < j->n; i++) {
        candidate *c = &j->candidate[i];
        if (e->usable && i == best) {
            e->choice = c->choice;
            e->plan = c->plan;
            e->workspace_bytes = c->workspace_bytes;
            e->plan_desc = c->desc;
        } else {
            dt_dnn_release(&c->desc);
        }
    }
}

const dt_algo_record *dt_algos_recall(const dt_cuda *cu, const dt_conv_spec *key) {
    return dt_algo_cache_find(&cu->algos->cache, key, cu->algos->rules);
}

void dt_algos_remember(dt_cuda *cu, dt_algo_record r) {
    r.rules = cu->algos->rules;
    if (!cu->deterministic) (void)dt_algo_cache_put(&cu->algos->cache, &r);
}

void dt_algos_save(dt_cuda *cu) {
    if (!cu->deterministic && cu->local_rank == 0) dt_algo_cache_write(&cu->algos->cache);
}

static dt_status tune(dt_cuda *cu, job *j, int32_t n) {
    scratch s = {0};
    int32_t n_new = 0;
    for (int32_t i = 0; i < n; i++) n_new += j[i].algo->plan == NULL;
    if (n_new == 0) return DT_OK;
    bool timed = !cu->deterministic && scratch_make(cu, j, n, &s);
    DT_CUDNN_TRY(cudnnSetStream(cu->dnn, cu->compute));
    cu->dnn_stream = cu->compute;
    for (int32_t i = 0; i < n; i++) {
        dt_algo *e = j[i].algo;
        if (e->plan) continue;
        choose(cu, &j[i], timed ? &s : NULL);
        if (timed && !e->passing)
            dt_algos_remember(
                cu, (dt_algo_record){
                        .spec = e->spec, .usable = e->usable, .seconds = e->seconds, .choice = e->choice});
    }
    scratch_free(&s);
    DT_CUDA_TRY(cudaStreamSynchronize(cu->compute)); /* an engine that failed while running shows here */
    if (timed) dt_algos_save(cu);
    return DT_OK;
}

/* Engines of which all candidates were built but none ran ask the next list. */
static dt_status tune_again(dt_cuda *cu, job *j, int32_t n) {
    int32_t n_again = 0;
    for (int32_t i = 0; i < n; i++) {
        if (j[i].algo->usable || j[i].n == 0 || j[i].list + 1 >= LIST_COUNT) continue;
        job again = j[n_again];
        j[n_again] = (job){.algo = j[i].algo, .candidate = j[i].candidate, .list = j[i].list + 1};
        if (n_again++ < i) j[i] = again;
    }
    if (n_again == 0) return DT_OK;
    for (int32_t i = 0; i < n_again; i++) j[i].algo->known = j[i].algo->passing = false;
    DT_TRY(run_jobs(cu, j, n_again));
    return tune(cu, j, n_again);
}

dt_status dt_algos_require(dt_cuda *cu, int32_t n, const dt_conv_spec *spec, bool plans) {
    dt_status st = DT_OK;
    int32_t n_job = 0;
    job *list = calloc((size_t)(n > 0 ? n : 1), sizeof *list);
    if (!list) goto no_memory;
    for (int32_t i = 0; i < n; i++) {
        dt_algo *e = find(cu->algos, &spec[i]);
        bool is_new = e == NULL;
        if (is_new && !(e = add(cu->algos, &spec[i]))) goto no_memory;
        if (e->known && (!plans || !e->usable || e->plan)) continue;
        bool listed = false;
        for (int32_t k = 0; k < n_job && !is_new; k++) listed = listed || list[k].algo == e;
        if (listed) continue;
        list[n_job] = (job){.algo = e, .candidate = calloc(CANDIDATES, sizeof(candidate))};
        if (!list[n_job++].candidate) goto no_memory;
    }
    if (n_job > 0) {
        st = run_jobs(cu, list, n_job);
        if (st == DT_OK) st = tune(cu, list, n_job);
        if (st == DT_OK) st = tune_again(cu, list, n_job);
    }
    goto done;
no_memory:
    st = dt_fail(DT_ERR_MEMORY, "no memory to choose convolution engines");
done:
    for (int32_t i = 0; i < n_job; i++) free(list[i].candidate);
    free(list);
    return st;
}
