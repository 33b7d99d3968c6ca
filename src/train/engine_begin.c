/* Weights that a network brings with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"
#include "formats/mapped.h"

static void free_tensors(int32_t n, dt_ckpt_tensor *tensor) {
    for (int32_t i = 0; i < n; i++) free((char *)(uintptr_t)tensor[i].name);
    free(tensor);
}

/* Those that its evaluation graph begins with; their numbers stay the graph's. */
static dt_status list_given(const dt_engine *e, int32_t *n, dt_ckpt_tensor **out) {
    const dt_graph *g = e->eval->graph;
    dt_ckpt_tensor *tensor = calloc((size_t)g->n_value + 1, sizeof *tensor);
    *n = 0, *out = tensor;
    if (!tensor) return dt_fail(DT_ERR_MEMORY, "no memory for the weights");
    for (dt_vid v = 0; v < g->n_value; v++) {
        const dt_value *p = &g->value[v];
        char *name = NULL;
        if (!p->init_data || (p->role != DT_ROLE_PARAM && p->role != DT_ROLE_STATE)) continue;
        if (asprintf(&name, "%s/%s", p->role == DT_ROLE_STATE ? "state" : "param", p->name) < 0)
            return dt_fail(DT_ERR_MEMORY, "no memory for the weights");
        dt_ckpt_tensor *t = &tensor[(*n)++];
        *t = (dt_ckpt_tensor){.name = name, .ndim = p->ndim, .data = (float *)(uintptr_t)p->init_data};
        memcpy(t->dim, p->dim, sizeof t->dim);
        if (p->stored_c) t->dim[p->ndim - 1] = p->stored_c;
    }
    return DT_OK;
}

dt_status dt_engine_begin_given(dt_engine *e, int32_t *n) {
    dt_ckpt_tensor *tensor;
    dt_status st = list_given(e, n, &tensor);
    if (e->mpi) st = dt_comm_agree(e->mpi, st);
    if (st == DT_OK && *n > 0) {
        st = dt_engine_begin_with(e, *n, tensor);
        if (st == DT_OK) st = dt_files_check(); /* they lie in the network's file */
        if (e->mpi) st = dt_comm_agree(e->mpi, st);
    }
    free_tensors(*n, tensor);
    return st;
}
