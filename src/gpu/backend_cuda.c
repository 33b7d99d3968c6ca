/* The CUDA backend: its life, what it owns, and the node entries of the backend table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cores.h"
#include "gpu/cuda.h"
#include "lower.h"

dt_status dt_cuda_adopt(dt_cuda *cu, void *ptr, void (*release)(void *ptr)) {
    dt_owned *o = malloc(sizeof *o);
    if (!o) {
        release(ptr);
        return dt_fail(DT_ERR_MEMORY, "no host memory for the GPU backend");
    }
    *o = (dt_owned){.next = cu->owned, .release = release, .ptr = ptr};
    cu->owned = o;
    return DT_OK;
}

dt_status dt_cuda_own(dt_cuda *cu, size_t bytes, void **out) {
    void *ptr = calloc(1, bytes);
    if (!ptr) return dt_fail(DT_ERR_MEMORY, "no host memory for the GPU backend (%zu bytes)", bytes);
    DT_TRY(dt_cuda_adopt(cu, ptr, free));
    *out = ptr;
    return DT_OK;
}

static void release_device(void *ptr) {
    (void)cudaFree(ptr);
}

dt_status dt_cuda_own_device(dt_cuda *cu, int64_t bytes, void **out) {
    void *ptr = NULL;
    cudaError_t err = cudaMalloc(&ptr, (size_t)bytes);
    if (err == cudaErrorMemoryAllocation) return dt_cuda_out_of_memory(bytes, "the GPU backend's own tables");
    DT_CUDA_TRY(err);
    DT_TRY(dt_cuda_adopt(cu, ptr, release_device));
    *out = ptr;
    return DT_OK;
}

static void copy_dims(int64_t to[DT_MAX_DIM], const dt_value *v) {
    for (int32_t i = 0; i < DT_MAX_DIM; i++) to[i] = i < v->ndim ? v->dim[i] : 1;
}

static dt_status prepare(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep **out,
                         int64_t *workspace_bytes) {
    dt_cuda *cu = dt_cuda_of(be);
    const dt_node *n = &g->node[node];
    const dt_lower_row *row = dt_lower_get(n->op);
    if (!row) return dt_fail(DT_ERR_INTERNAL, "the GPU backend has no kernel for %s", dt_op_get(n->op)->name);
    for (int32_t i = 0; i < n->n_in; i++) {
        const dt_slot *slot = dt_op_in(n->op, i);
        const dt_value *v = n->in[i] >= 0 ? &g->value[n->in[i]] : NULL;
        if (v && slot->type == DT_SLOT_WEIGHT && v->dtype != dt_op_type(g, n))
            return dt_fail(DT_ERR_UNSUPPORTED, "%s of %s reads %s in slot %s: the GPU computes it in %s",
                           dt_op_name(n), g->value[n->out[0]].name, dt_dtype_name(v->dtype), slot->name,
                           dt_dtype_name(dt_op_type(g, n)));
    }
    dt_prep *p = NULL;
    DT_TRY(dt_cuda_own(cu, sizeof *p, (void **)&p));
    const dt_value *main = &g->value[n->in[dt_op_get(n->op)->main]];
    p->row = row;
    p->node = *n;
    p->t = dt_op_type(g, n);
    p->n_elem = dt_value_n_elem(main);
    p->c = main->dim[main->ndim - 1];
    p->rows = p->c > 0 ? p->n_elem / p->c : 0;
    copy_dims(p->in_dim, main);
    copy_dims(p->out_dim, &g->value[n->out[0]]);
    snprintf(p->label, sizeof p->label, "%s %lldx%lld %s", dt_op_name(n), (long long)p->rows, (long long)p->c,
             dt_dtype_name(p->t));
    if (row->prepare) DT_TRY(row->prepare(cu, g, n, p));
    *out = p;
    *workspace_bytes = p->workspace_bytes;
    return DT_OK;
}

static dt_status run(void *ctx, dt_stream *stream) {
    const dt_bound *k = ctx;
    return k->prep->row->run(k->cu, k, dt_cuda_stream(k->cu, stream));
}

static dt_status bind(dt_backend *be, const dt_graph *g, dt_nid node, dt_prep *prep, const dt_binding *b,
                      dt_kernel *out) {
    (void)g;
    dt_cuda *cu = dt_cuda_of(be);
    dt_bound *k = NULL;
    DT_TRY(dt_cuda_own(cu, sizeof *k, (void **)&k));
    k->cu = cu;
    k->prep = prep;
    k->b = *b;
    if (prep->row->bind) DT_TRY(prep->row->bind(cu, k));
    *out = (dt_kernel){.run = run, .ctx = k, .node = node, .label = prep->label};
    return DT_OK;
}

static bool supports(dt_backend *be, dt_dtype compute) {
    (void)be;
    return compute == DT_DTYPE_F32 || compute == DT_DTYPE_F16 || compute == DT_DTYPE_BF16;
}

static void destroy(dt_backend *be) {
    dt_cuda *cu = dt_cuda_of(be);
    if (cu->compute) (void)cudaStreamSynchronize(cu->compute);
    while (cu->owned) {
        dt_owned *o = cu->owned;
        cu->owned = o->next;
        o->release(o->ptr);
        free(o);
    }
    dt_algos_destroy(cu->algos);
    if (cu->dnn) (void)cudnnDestroy(cu->dnn);
    if (cu->blas) (void)cublasLtDestroy(cu->blas);
    if (cu->compute) (void)cudaStreamDestroy(cu->compute);
    if (cu->lock_fd >= 0) (void)close(cu->lock_fd);
    free(cu);
}

/* Name, memory and multiprocessors; refuses a card for which this build has no machine code. */
static dt_status read_card(dt_cuda *cu) {
    struct cudaDeviceProp prop;
    size_t free_bytes = 0, total = 0;
    DT_CUDA_TRY(cudaGetDeviceProperties(&prop, cu->device));
    snprintf(cu->base.info.name, sizeof cu->base.info.name, "%.100s", prop.name);
    DT_CUDA_TRY(cudaDeviceGetPCIBusId(cu->base.info.bus, (int)sizeof cu->base.info.bus, cu->device));
    cu->gpu.sm_count = prop.multiProcessorCount;
    if (!dt_gpu_has_code()) {
        (void)cudaGetLastError();
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "this build has no code for %s (compute capability %d.%d): rebuild with "
                       "-DCMAKE_CUDA_ARCHITECTURES=%d%d",
                       prop.name, prop.major, prop.minor, prop.major, prop.minor);
    }
    cudaError_t err = cudaMemGetInfo(&free_bytes, &total);
    DT_CUDA_TRY(err);
    cu->base.info.free_bytes = (int64_t)free_bytes;
    cu->base.info.total_bytes = (int64_t)total;
    cu->base.info.is_gpu = true;
    return DT_OK;
}

static dt_status open_libraries(dt_cuda *cu, const dt_backend_options *o) {
    DT_CUDA_TRY(cudaStreamCreateWithFlags(&cu->compute, cudaStreamNonBlocking));
    DT_CUDNN_TRY(cudnnCreate(&cu->dnn));
    DT_CUDNN_TRY(cudnnSetStream(cu->dnn, cu->compute));
    cu->dnn_stream = cu->compute;
    DT_CUBLAS_TRY(cublasLtCreate(&cu->blas));
    return dt_algos_create(cu, o->cache_dir, &cu->algos);
}

dt_status dt_backend_cuda_create(const dt_backend_options *o, dt_backend **out) {
    *out = NULL;
    dt_cuda *cu = calloc(1, sizeof *cu);
    if (!cu) return dt_fail(DT_ERR_MEMORY, "no host memory for the GPU backend");
    cu->lock_fd = -1;
    dt_backend *be = &cu->base;
    be->name = "cuda";
    be->align_bytes = 256;
    dt_cuda_device_table(be);
    dt_cuda_range_table(be);
    be->supports = supports;
    be->cost = dt_cuda_cost;
    be->prepare = prepare;
    be->bind = bind;
    be->bind_axis = dt_cuda_bind_axis;
    be->destroy = destroy;
    cu->local_rank = o->local_rank;
    cu->local_world = o->local_world > 0 ? o->local_world : 1;
    be->host_threads = o->threads > 0 ? o->threads : dt_cores_share(cu->local_world);
    cu->deterministic = o->deterministic;
    cu->tf32 = o->tf32;
    dt_status st = dt_cuda_pick_device(o, &cu->device, &cu->lock_fd);
    if (st == DT_OK) st = read_card(cu);
    if (st == DT_OK) st = open_libraries(cu, o);
    if (st != DT_OK) {
        destroy(be);
        return st;
    }
    *out = be;
    return DT_OK;
}
