/* Compiles a model as a graph of constants, and runs it. */
#include "onnx/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "core/call.h"
#include "core/compile.h"
#include "core/op.h"
#include "core/quota.h"
#include "onnx/build.h"

#define BUDGET dt_memory_part((int64_t)16 << 30, 0.5)

struct dt_onnx_run {
    dt_backend *be;
    const dt_onnx_model *m;
    dt_onnx_bound *in;    /* [n_in] */
    void **baked;         /* [n_in]: values from which shapes follow; NULL: none do */
    bool *needs;          /* [n_in]: of a build */
    dt_onnx_made *made;   /* [n_out] */
    void **host;          /* [n_out]: results, as the graph has them */
    dt_host_tensor *file; /* [n_out]: results in the file's types, where that is another */
    dt_vid *input;        /* [n_in]: of the program; -1 */
    dt_vid *output;       /* [n_out]: likewise */
    dt_axis *axis;
    dt_store *store;
    bool borrowed;   /* the store is options.share's */
    uint64_t hash;   /* of the weights */
    int64_t n_state; /* floats of running statistics */
    dt_program *program;
    dt_onnx_run_options options;
    dt_capture *captured; /* the program; NULL: not yet */
    bool warm;            /* it ran once */
    dt_onnx_eval *eval;   /* by definition */
    dt_onnx_run_info info;
};

static dt_status check_input(const dt_onnx_value_info *want, const dt_host_tensor *t) {
    if (want->type != DT_TENSOR_TYPES && want->type != t->type)
        return dt_fail(DT_ERR_USAGE, "input '%s' is %s, the model takes %s", want->name,
                       dt_tensor_type_name(t->type), dt_tensor_type_name(want->type));
    if (want->ndim < 0) return DT_OK;
    if (t->ndim != want->ndim)
        return dt_fail(DT_ERR_USAGE, "input '%s' has %d dimensions, the model takes %d", want->name, t->ndim,
                       want->ndim);
    for (int32_t d = 0; d < t->ndim; d++)
        if (want->dim[d] >= 0 && want->dim[d] != t->dim[d])
            return dt_fail(DT_ERR_USAGE, "input '%s' has %lld in dimension %d, the model takes %lld",
                           want->name, (long long)t->dim[d], d, (long long)want->dim[d]);
    return DT_OK;
}

/* Dimensions of one name are the same in all inputs. */
static dt_status check_names(const dt_onnx_graph *g, const dt_host_tensor *in) {
    for (int32_t i = 0; i < g->n_in; i++)
        for (int32_t d = 0; d < g->in[i].ndim; d++) {
            const char *name = g->in[i].dim[d] < 0 ? g->in[i].dim_name[d] : NULL;
            for (int32_t k = 0; name && name[0] && k < i; k++)
                for (int32_t e = 0; e < g->in[k].ndim; e++) {
                    const char *other = g->in[k].dim[e] < 0 ? g->in[k].dim_name[e] : NULL;
                    if (!other || strcmp(name, other) != 0 || in[i].dim[d] == in[k].dim[e]) continue;
                    return dt_fail(DT_ERR_USAGE, "%s is %lld in input '%s' and %lld in input '%s'", name,
                                   (long long)in[k].dim[e], g->in[k].name, (long long)in[i].dim[d],
                                   g->in[i].name);
                }
        }
    return DT_OK;
}

/* ---- building ---- */

/* The inputs as values of the graph, but for those whose values are known. */
static dt_status add_inputs(dt_onnx_run *r, dt_graph *g) {
    for (int32_t i = 0; i < r->m->graph.n_in; i++) {
        dt_onnx_bound *b = &r->in[i];
        b->value = -1;
        if (b->t.data) continue;
        const dt_dtype type = dt_onnx_dtype(b->t.type);
        const int64_t bytes = dt_host_bytes(&b->t), one = 1;
        char name[DT_NAME_MAX];
        snprintf(name, sizeof name, "in%d", i);
        if (type == DT_DTYPE_COUNT)
            DT_TRY(dt_graph_add_value(g, name, DT_ROLE_INPUT, DT_DTYPE_U8, 1, &bytes, &b->value));
        else
            DT_TRY(dt_graph_add_value(g, name, DT_ROLE_INPUT, type, b->t.ndim > 0 ? b->t.ndim : 1,
                                      b->t.ndim > 0 ? b->t.dim : &one, &b->value));
    }
    return DT_OK;
}

/* Results leave in fp32. */
static dt_status widen(dt_graph *g, const char *name, dt_vid *v) {
    if (*v < 0 || g->compute == DT_DTYPE_F32 || g->value[*v].dtype != g->compute) return DT_OK;
    const dt_attr to = {.cast.dtype = DT_DTYPE_F32};
    char cast[DT_NAME_MAX];
    const dt_vid from = *v;
    snprintf(cast, sizeof cast, "%s/f32", name);
    return dt_graph_add_node(g, cast, DT_OP_CAST, &to, 1, &from, v);
}

/* Whether the device has products of 8 and 4 bits, and they are asked for. */
static dt_status can_quantise(dt_onnx_run *r, dt_graph *g, bool *out) {
    dt_node product;
    DT_TRY(dt_graph_blank_node(g, DT_OP_QPRODUCT, NULL, DT_PHASE_FORWARD, &product));
    *out = !r->options.plain && g->compute == DT_DTYPE_F32 && isfinite(r->be->cost(r->be, g, &product, 1));
    return DT_OK;
}

static dt_status build(dt_onnx_run *r, dt_graph **out) {
    dt_onnx_build_options o = {.model = r->m,
                               .in = r->in,
                               .kernels = r->be->info.is_gpu,
                               .exact = r->options.by_row,
                               .budget = BUDGET};
    dt_graph *g;
    *out = NULL;
    DT_TRY(dt_graph_create(&g, r->options.compute, false));
    g->by_row = r->options.by_row;
    g->fixed = true;
    dt_status st = can_quantise(r, g, &o.quantised);
    if (st == DT_OK) st = add_inputs(r, g);
    if (st == DT_OK) st = dt_onnx_build(&o, g, r->made, r->needs);
    for (int32_t i = 0; i < r->m->graph.n_out && st == DT_OK; i++) {
        char name[DT_FIELD_NAME_MAX];
        snprintf(name, sizeof name, "out%d", i);
        st = widen(g, name, &r->made[i].value);
        if (st == DT_OK && r->made[i].value >= 0) st = dt_graph_keep(g, name, r->made[i].value);
    }
    if (st == DT_OK)
        *out = g;
    else
        dt_graph_destroy(g);
    return st;
}

/* Of the inputs that are needed the values become known. *more: there were such. */
static dt_status bake(dt_onnx_run *r, const dt_host_tensor *in, bool *more) {
    *more = false;
    for (int32_t i = 0; i < r->m->graph.n_in; i++) {
        if (!r->needs[i] || r->in[i].t.data) continue;
        const bool real = dt_onnx_dtype(in[i].type) == DT_DTYPE_F32 || in[i].type == DT_TENSOR_F64;
        if (r->be->info.is_gpu && real)
            return dt_fail(
                DT_ERR_UNSUPPORTED,
                "shapes follow from the values of input '%s', which only the host could compute with: "
                "run.device = \"cpu\"",
                r->m->graph.in[i].name);
        const int64_t bytes = dt_host_bytes(&in[i]);
        r->baked[i] = malloc((size_t)dt_max_i64(bytes, 1));
        if (!r->baked[i])
            return dt_fail(DT_ERR_MEMORY, "no memory for an input of %lld bytes", (long long)bytes);
        if (bytes > 0) memcpy(r->baked[i], in[i].data, (size_t)bytes);
        r->in[i].t.data = r->baked[i];
        *more = true;
    }
    return DT_OK;
}

static bool all_baked(const dt_onnx_run *r) {
    for (int32_t i = 0; i < r->m->graph.n_in; i++)
        if (!r->in[i].t.data) return false;
    return true;
}

/* ---- compiling ---- */

/* The file's numbers as the store has them. */
typedef struct numbers {
    float *state; /* [n_state floats], by their offsets */
    void *packed; /* [frozen_bytes] */
    int64_t n_state;
    uint64_t hash; /* of both */
} numbers;

static dt_status gather(const dt_onnx_run *r, numbers *n) {
    const dt_axis *a = r->axis;
    const dt_graph *g = r->program->graph;
    dt_status st = DT_OK;
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_STATE) n->n_state += dt_value_n_elem(&g->value[v]);
    float *floats = calloc((size_t)a->n_frozen_elem + 1, sizeof *floats);
    n->packed = calloc((size_t)a->frozen_bytes + 1, 1);
    n->state = calloc((size_t)n->n_state + 1, sizeof *n->state);
    if (!floats || !n->packed || !n->state) st = dt_fail(DT_ERR_MEMORY, "no memory for the weights");
    int64_t at = 0;
    for (dt_vid v = 0; v < g->n_value && st == DT_OK; v++) {
        const dt_value *p = &g->value[v];
        const size_t bytes = (size_t)dt_value_n_elem(p) * sizeof *floats;
        const int32_t i = p->role == DT_ROLE_PARAM && p->init_data ? dt_axis_find(a, p->name) : -1;
        if (i >= 0) memcpy(floats + a->segment[i].offset, p->init_data, bytes);
        if (p->role != DT_ROLE_STATE) continue;
        if (p->init_data) memcpy(n->state + at, p->init_data, bytes);
        at += dt_value_n_elem(p);
    }
    if (st == DT_OK) {
        dt_axis_pack_frozen(a, floats, n->packed);
        n->hash = XXH3_64bits(n->packed, (size_t)a->frozen_bytes) ^
                  XXH3_64bits_withSeed(n->state, (size_t)n->n_state * sizeof *n->state, 1);
    }
    free(floats);
    return st;
}

static dt_status fill_store(dt_onnx_run *r, const numbers *n) {
    const dt_graph *g = r->program->graph;
    dt_store *s = r->store;
    dt_status st = DT_OK;
    if (r->axis->frozen_bytes > 0)
        st = r->be->copy(r->be, s->arena[DT_ARENA_FROZEN], n->packed, r->axis->frozen_bytes, NULL);
    int64_t at = 0;
    for (dt_vid v = 0; v < g->n_value && st == DT_OK; v++) {
        if (g->value[v].role != DT_ROLE_STATE) continue;
        for (int32_t i = 0; i < s->n_state && st == DT_OK; i++)
            if (strcmp(s->state[i].name, g->value[v].name) == 0)
                st = r->be->copy(r->be, (char *)s->arena[DT_ARENA_STATE] + s->state[i].offset_bytes,
                                 n->state + at, s->state[i].n_elem * (int64_t)sizeof(float), NULL);
        at += dt_value_n_elem(&g->value[v]);
    }
    return st == DT_OK ? r->be->stream_sync(r->be, NULL) : st;
}

/* The other's weights, where they lie the same way and are the same, else an own store. */
static dt_status take_store(dt_onnx_run *r, const dt_store_options *o) {
    numbers n = {.hash = 0};
    const dt_onnx_run *share = r->options.share;
    dt_status st = gather(r, &n);
    r->hash = n.hash;
    if (st == DT_OK && share && share->store && share->hash == r->hash &&
        share->options.compute == r->options.compute && share->axis->frozen_bytes == r->axis->frozen_bytes &&
        share->n_state == n.n_state) {
        r->store = share->store;
        r->borrowed = true;
    } else if (st == DT_OK) {
        st = dt_store_create(r->be, r->axis, r->program->graph, o, &r->store);
        if (st == DT_OK) st = fill_store(r, &n);
    }
    r->n_state = n.n_state;
    free(n.state), free(n.packed);
    return st;
}

/* "Erf 13 of F32 'node'": the op alone. */
static void list_called(dt_onnx_run *r, const dt_graph *g) {
    char *list = r->info.called;
    for (dt_nid i = 0; i < g->n_node; i++) {
        if (g->node[i].op != DT_OP_CALL) continue;
        const char *name = g->node[i].attr.call.call->name;
        const int n = (int)strcspn(name, " ");
        const size_t used = strlen(list);
        bool there = false;
        for (const char *at = list; *at && !there; at += strcspn(at, ","), at += strspn(at, ", "))
            there = strncmp(at, name, (size_t)n) == 0 && (at[n] == ',' || at[n] == 0);
        if (!there && used + (size_t)n + 3 < sizeof r->info.called)
            snprintf(list + used, sizeof r->info.called - used, "%s%.*s", used ? ", " : "", n, name);
    }
}

static dt_status compile(dt_onnx_run *r, dt_graph *g) {
    const dt_compile_options o = {.be = r->be, .fuse = !r->options.plain, .tell = r->options.tell};
    const dt_store_options so = {.compute = r->options.compute};
    for (int32_t i = 0; i < r->m->graph.n_in; i++) r->input[i] = r->in[i].value;
    DT_TRY(dt_compile(g, &o, &r->axis, &r->program));
    g = r->program->graph;
    for (dt_nid i = 0; i < g->n_node; i++) {
        r->info.n_node += !dt_op_is_idle(g, &g->node[i]);
        r->info.n_call += g->node[i].op == DT_OP_CALL;
    }
    for (int32_t i = 0; i < r->m->graph.n_out; i++) {
        char name[DT_FIELD_NAME_MAX];
        snprintf(name, sizeof name, "out%d", i);
        r->output[i] = dt_graph_output(g, name);
    }
    list_called(r, g);
    r->info.device_bytes =
        dt_store_bytes(r->axis, g, &so) + r->program->plan.act_bytes + r->program->plan.input_bytes;
    DT_TRY(take_store(r, &so));
    const dt_program *other = r->borrowed ? r->options.share->program : NULL;
    const bool fits = other && other->plan.act_bytes >= r->program->plan.act_bytes;
    const dt_program_options po = {.act = fits ? other->act : NULL,
                                   .act_bytes = fits ? other->plan.act_bytes : 0};
    if (r->borrowed)
        r->info.device_bytes = (fits ? 0 : r->program->plan.act_bytes) + r->program->plan.input_bytes;
    const int64_t kept = r->be->kept_bytes;
    DT_TRY(dt_program_bind(r->program, r->store, &po));
    r->info.device_bytes += r->be->kept_bytes - kept;
    return DT_OK;
}

/* Room for the results, and in the file's types. */
static dt_status make_room(dt_onnx_run *r) {
    for (int32_t i = 0; i < r->m->graph.n_out; i++) {
        const dt_onnx_made *m = &r->made[i];
        const int64_t bytes = dt_host_bytes(&m->t);
        r->file[i] = m->t;
        r->host[i] = malloc((size_t)dt_max_i64(bytes, 1));
        if (!r->host[i])
            return dt_fail(DT_ERR_MEMORY, "no memory for an output of %lld bytes", (long long)bytes);
        if (m->file == m->t.type) continue;
        r->file[i].type = m->file;
        r->file[i].data = calloc(1, (size_t)dt_max_i64(dt_host_bytes(&r->file[i]), 1));
        if (!r->file[i].data)
            return dt_fail(DT_ERR_MEMORY, "no memory for an output of %lld bytes", (long long)bytes);
    }
    return DT_OK;
}

static dt_status set_up(dt_onnx_run *r, const dt_host_tensor *in) {
    dt_graph *g = NULL;
    for (;;) {
        bool more;
        dt_status st = build(r, &g);
        if (st == DT_OK) break;
        if (st != DT_ERR_USAGE) return st;
        char why[1024];
        snprintf(why, sizeof why, "%s", dt_error_text());
        DT_TRY(bake(r, in, &more));
        if (!more && !all_baked(r)) return dt_fail(DT_ERR_DATA, "%s", why);
        if (!all_baked(r)) continue;
        if (r->be->info.is_gpu) return dt_fail(DT_ERR_UNSUPPORTED, "%s: run.device = \"cpu\"", why);
        r->info.by_definition = true;
        return dt_onnx_eval_create(r->m, BUDGET, &r->eval);
    }
    DT_TRY(compile(r, g));
    return make_room(r);
}

dt_status dt_onnx_run_create(dt_backend *be, const dt_onnx_model *m, const dt_host_tensor *in,
                             const dt_onnx_run_options *o, dt_onnx_run **out) {
    const size_t n_in = (size_t)m->graph.n_in + 1, n_out = (size_t)m->graph.n_out + 1;
    dt_onnx_run *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return dt_fail(DT_ERR_MEMORY, "no memory for a model");
    r->be = be, r->m = m;
    if (o) r->options = *o;
    r->in = calloc(n_in, sizeof *r->in);
    r->baked = calloc(n_in, sizeof *r->baked);
    r->needs = calloc(n_in, sizeof *r->needs);
    r->input = calloc(n_in, sizeof *r->input);
    r->made = calloc(n_out, sizeof *r->made);
    r->output = calloc(n_out, sizeof *r->output);
    r->host = calloc(n_out, sizeof *r->host);
    r->file = calloc(n_out, sizeof *r->file);
    dt_status st = r->in && r->baked && r->needs && r->input && r->output && r->made && r->host && r->file
                       ? DT_OK
                       : dt_fail(DT_ERR_MEMORY, "no memory for a model");
    for (int32_t i = 0; i < m->graph.n_in && st == DT_OK; i++) {
        st = check_input(&m->graph.in[i], &in[i]);
        r->in[i] = (dt_onnx_bound){.t = in[i], .value = -1};
        r->in[i].t.data = NULL;
    }
    if (st == DT_OK) st = check_names(&m->graph, in);
    if (st == DT_OK && !be->supports(be, r->options.compute))
        st = dt_fail(DT_ERR_UNSUPPORTED, "%s does not compute in %s", be->info.name,
                     dt_dtype_name(r->options.compute));
    if (st == DT_OK) st = set_up(r, in);
    if (st == DT_OK) st = dt_onnx_check_files(m);
    if (st == DT_OK)
        *out = r;
    else
        dt_onnx_run_destroy(r);
    return st;
}

void dt_onnx_run_destroy(dt_onnx_run *r) {
    if (!r) return;
    if (r->captured) r->be->capture_free(r->be, r->captured);
    dt_program_destroy(r->program);
    if (!r->borrowed) dt_store_destroy(r->store);
    dt_axis_destroy(r->axis);
    dt_onnx_eval_destroy(r->eval);
    for (int32_t i = 0; r->baked && i < r->m->graph.n_in; i++) free(r->baked[i]);
    for (int32_t i = 0; r->host && i < r->m->graph.n_out; i++) free(r->host[i]);
    for (int32_t i = 0; r->file && r->made && i < r->m->graph.n_out; i++)
        if (r->file[i].type != r->made[i].t.type) free(r->file[i].data);
    free(r->in), free(r->baked), free(r->needs), free(r->input), free(r->output), free(r->made),
        free(r->host), free(r->file);
    free(r);
}

const dt_onnx_run_info *dt_onnx_run_get_info(const dt_onnx_run *r) {
    return &r->info;
}

/* ---- running ---- */

static dt_status feed(dt_onnx_run *r, int32_t i, const dt_host_tensor *t) {
    const dt_onnx_bound *b = &r->in[i];
    const char *name = r->m->graph.in[i].name;
    bool same = t->type == b->t.type && t->ndim == b->t.ndim;
    for (int32_t d = 0; same && d < t->ndim; d++) same = t->dim[d] == b->t.dim[d];
    if (!same)
        return dt_fail(DT_ERR_USAGE, "input '%s' is of another type or shape than this run was made for",
                       name);
    const int64_t bytes = dt_host_bytes(t);
    if (b->t.data) {
        if (bytes == 0 || memcmp(b->t.data, t->data, (size_t)bytes) == 0) return DT_OK;
        return dt_fail(DT_ERR_USAGE, "shapes follow from the values of input '%s', and these are others",
                       name);
    }
    if (bytes == 0 || r->input[i] < 0) return DT_OK;
    const dt_value *v = &r->program->graph->value[r->input[i]];
    void *to = (char *)r->program->input + v->offset_bytes;
    if (t->type != DT_TENSOR_F16 && t->type != DT_TENSOR_BF16)
        return r->be->copy(r->be, to, t->data, bytes, NULL);
    const int64_t n = dt_host_n_elem(t);
    float *wide = malloc((size_t)n * sizeof *wide);
    if (!wide) return dt_fail(DT_ERR_MEMORY, "no memory for input '%s'", name);
    for (int64_t k = 0; k < n; k++) wide[k] = (float)dt_host_f64(t, k);
    dt_status st = r->be->copy(r->be, to, wide, n * (int64_t)sizeof *wide, NULL);
    if (st == DT_OK) st = r->be->stream_sync(r->be, NULL);
    free(wide);
    return st;
}

static dt_status fetch(dt_onnx_run *r, int32_t i, dt_host_tensor *out) {
    const dt_onnx_made *m = &r->made[i];
    const int64_t n = dt_host_n_elem(&m->t), bytes = dt_host_bytes(&m->t);
    dt_host_tensor have = m->t;
    have.data = m->value >= 0 ? r->host[i] : m->t.data;
    if (m->value >= 0 && bytes > 0)
        DT_TRY(r->be->copy(r->be, r->host[i], dt_program_address(r->program, r->output[i]), bytes, NULL));
    DT_TRY(r->be->stream_sync(r->be, NULL));
    *out = have;
    if (m->file == m->t.type) return DT_OK;
    for (int64_t k = 0; k < n; k++) dt_host_put_f64(&r->file[i], k, dt_host_f64(&have, k));
    *out = r->file[i];
    return DT_OK;
}

static dt_status enqueue(void *arg) {
    return dt_program_run(arg, NULL, NULL);
}

static dt_status run(dt_onnx_run *r) {
    dt_backend *be = r->be;
    if (r->captured) return be->replay(be, r->captured, NULL);
    /* The first run is plain: libraries set themselves up in it, which a capture does not allow. */
    if (!r->warm || r->options.plain || !be->capture) {
        r->warm = true;
        return enqueue(r->program);
    }
    DT_TRY(be->capture(be, enqueue, r->program, &r->captured));
    return be->replay(be, r->captured, NULL);
}

dt_status dt_onnx_run_go(dt_onnx_run *r, const dt_host_tensor *in, dt_host_tensor *out) {
    if (r->info.by_definition) {
        DT_TRY(dt_onnx_eval_run(r->eval, in, out));
        return dt_onnx_check_files(r->m);
    }
    for (int32_t i = 0; i < r->m->graph.n_in; i++) DT_TRY(feed(r, i, &in[i]));
    DT_TRY(run(r));
    for (int32_t i = 0; i < r->m->graph.n_out; i++) DT_TRY(fetch(r, i, &out[i]));
    return r->info.n_call > 0 ? dt_onnx_check_files(r->m) : DT_OK; /* only calls read them still */
}

dt_status dt_onnx_run_again(dt_onnx_run *r) {
    DT_ASSERT(r->program);
    DT_TRY(run(r));
    return r->be->stream_sync(r->be, NULL);
}

/* ---- profiling ---- */

/* Events that keep the time; NULL where a kernel is done when its run returns. */
typedef struct timer {
    dt_event *from, *to;
} timer;

static dt_status time_kernel(dt_backend *be, const dt_kernel *k, const timer *t, double *sum) {
    if (!t->from) {
        const double begin = dt_time_s();
        DT_TRY(k->run(k->ctx, NULL));
        *sum += dt_time_s() - begin;
        return DT_OK;
    }
    double seconds;
    DT_TRY(be->event_record(be, t->from, NULL));
    DT_TRY(k->run(k->ctx, NULL));
    DT_TRY(be->event_record(be, t->to, NULL));
    DT_TRY(be->event_sync(be, t->to));
    DT_TRY(be->timer_elapsed(be, t->from, t->to, &seconds));
    *sum += seconds;
    return DT_OK;
}

dt_status dt_onnx_run_profile(dt_onnx_run *r, int64_t times, dt_onnx_kernel_time **out, int32_t *n) {
    dt_backend *be = r->be;
    const dt_program *p = r->program;
    timer t = {NULL, NULL};
    *out = NULL, *n = 0;
    if (!p) return DT_OK;
    dt_onnx_kernel_time *row = calloc((size_t)p->n_kernel + 1, sizeof *row);
    if (!row) return dt_fail(DT_ERR_MEMORY, "no memory for a profile");
    dt_status st = DT_OK;
    if (be->timer_create) st = be->timer_create(be, &t.from);
    if (be->timer_create && st == DT_OK) st = be->timer_create(be, &t.to);
    for (int64_t i = 0; i < times && st == DT_OK; i++)
        for (int32_t k = 0; k < p->n_kernel && st == DT_OK; k++)
            st = time_kernel(be, &p->kernel[k], &t, &row[k].seconds);
    for (int32_t k = 0; k < p->n_kernel && st == DT_OK; k++) {
        const dt_node *node = &p->graph->node[p->kernel[k].node];
        row[k].name = p->graph->value[node->out[0]].name;
        row[k].label = p->kernel[k].label ? p->kernel[k].label : dt_op_name(node);
        row[k].seconds /= (double)times;
    }
    if (t.from) be->event_destroy(be, t.from);
    if (t.to) be->event_destroy(be, t.to);
    if (st == DT_OK)
        *out = row, *n = p->n_kernel;
    else
        free(row);
    return st;
}
