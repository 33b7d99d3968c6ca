/* Ops over tensors: a graph of one node, prepared and bound once per op, shapes and addresses, then replayed.
 * A backend keeps what it bound until it ends, so this one is its own and begins anew when it has bound
 * much. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "api.h"
#include "core/op.h"

enum { ENTRIES = 1024, OPERANDS = 3 };

typedef struct entry {
    uint64_t key; /* 0: free */
    dt_graph *graph;
    dt_kernel kernel;
    void *in[OPERANDS], *out[1];
    void *workspace;
} entry;

struct dt_eager {
    dt_backend *be; /* its own */
    dt_step_params *params;
    entry entry[ENTRIES]; /* open addressing */
    int32_t n;
};

/* Forgets every kernel, and the backend with them. */
static void forget(dt_eager *e) {
    if (!e->be) return;
    (void)e->be->stream_sync(e->be, NULL);
    for (int i = 0; i < ENTRIES; i++) {
        dt_graph_destroy(e->entry[i].graph);
        if (e->entry[i].workspace) e->be->free(e->be, DT_MEM_DEVICE, e->entry[i].workspace);
    }
    if (e->params) e->be->free(e->be, DT_MEM_DEVICE, e->params);
    e->be->destroy(e->be);
    memset(e, 0, sizeof *e);
}

void dt_eager_destroy(dt_eager *e) {
    if (!e) return;
    forget(e);
    free(e);
}

static dt_status begin(dt_run *run, dt_backend *be, dt_eager **out) {
    dt_eager **at = &run->eager[be == run->host];
    if (!*at) *at = calloc(1, sizeof **at);
    if (!*at) return dt_fail(DT_ERR_MEMORY, "no memory for the kernels of tensors");
    if ((*at)->n > ENTRIES / 2) forget(*at);
    if (!(*at)->be) DT_TRY(dt_run_make_backend(run, be == run->host, &(*at)->be));
    *out = *at;
    if (!(*out)->params)
        return (*out)->be->alloc((*out)->be, DT_MEM_DEVICE, (int64_t)sizeof *(*out)->params,
                                 (void **)&(*out)->params);
    return DT_OK;
}

static uint64_t key_of(dt_op op, const dt_attr *attr, int32_t n_in, const dt_tensor *const *in,
                       const dt_tensor *out) {
    const dt_attr own = dt_op_attr(op, attr);
    uint64_t key = XXH3_64bits_withSeed(&own, sizeof own, (uint64_t)op + 1);
    for (int32_t i = 0; i <= n_in; i++) {
        const dt_tensor *t = i < n_in ? in[i] : out;
        const uint64_t part[] = {(uint64_t)(uintptr_t)t->data, (uint64_t)t->dtype, (uint64_t)t->shape.ndim};
        key = XXH3_64bits_withSeed(part, sizeof part, key);
        key = XXH3_64bits_withSeed(t->shape.dim, (size_t)t->shape.ndim * sizeof *t->shape.dim, key);
    }
    return key ? key : 1;
}

static dt_status compile(dt_eager *e, entry *x, dt_op op, const dt_attr *attr, int32_t n_in,
                         const dt_tensor *const *in, const dt_tensor *out) {
    static const char *const name[] = {"a", "b", "c"};
    dt_vid id[OPERANDS], result;
    dt_prep *prep = NULL;
    int64_t workspace_bytes = 0;
    DT_TRY(dt_graph_create(&x->graph, in[0]->dtype, true));
    for (int32_t i = 0; i < n_in; i++) {
        DT_TRY(dt_graph_add_value(x->graph, name[i], DT_ROLE_INPUT, in[i]->dtype, in[i]->shape.ndim,
                                  in[i]->shape.dim, &id[i]));
        x->in[i] = in[i]->data;
    }
    x->out[0] = out->data;
    DT_TRY(dt_graph_add_node(x->graph, "result", op, attr, n_in, id, &result));
    DT_TRY(e->be->prepare(e->be, x->graph, 0, &prep, &workspace_bytes));
    if (workspace_bytes > 0) DT_TRY(e->be->alloc(e->be, DT_MEM_DEVICE, workspace_bytes, &x->workspace));
    const dt_binding b = {.in = x->in, .out = x->out, .workspace = x->workspace, .params = e->params};
    return e->be->bind(e->be, x->graph, 0, prep, &b, &x->kernel);
}

dt_status dt_eager_run(dt_run *run, dt_backend *be, dt_op op, const dt_attr *attr, int32_t n_in,
                       const dt_tensor *const *in, const dt_tensor *out) {
    static const dt_attr none;
    dt_eager *e = NULL;
    DT_ASSERT(n_in <= OPERANDS);
    DT_TRY(begin(run, be, &e));
    if (!attr) attr = &none;
    const uint64_t key = key_of(op, attr, n_in, in, out);
    size_t i = (size_t)key % ENTRIES;
    while (e->entry[i].key && e->entry[i].key != key) i = (i + 1) % ENTRIES;
    entry *x = &e->entry[i];
    if (!x->key) {
        const dt_status st = compile(e, x, op, attr, n_in, in, out);
        if (st != DT_OK) {
            dt_graph_destroy(x->graph);
            if (x->workspace) e->be->free(e->be, DT_MEM_DEVICE, x->workspace);
            memset(x, 0, sizeof *x);
            return st;
        }
        x->key = key;
        e->n++;
    }
    /* Its backend's stream and the run's are two: what one queued the other must see done. */
    DT_TRY(be->stream_sync(be, NULL));
    DT_TRY(x->kernel.run(x->kernel.ctx, NULL));
    return e->be->stream_sync(e->be, NULL);
}
