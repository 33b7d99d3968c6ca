/* Kernels over the parameter axis: what bind leaves on the device (chunks of the segments, partial sums) and
 * the launch. */
#include <stdlib.h>

#include "axis_muon.h"
#include "lower.h"

typedef struct axis_bound {
    dt_cuda *cu;
    dt_axis_kind kind;
    dt_axis_args args; /* args.segment is not kept */
    dt_gpu_axis_plan plan;
    dt_muon *muon;  /* UPDATE of a MATRIX optimizer */
    float *partial; /* device */
} axis_bound;

static const char *const LABEL[] = {
    [DT_AXIS_ACCUM] = "axis accumulate", [DT_AXIS_SUMSQ] = "axis sum of squares",
    [DT_AXIS_UPDATE] = "axis update",    [DT_AXIS_CAST] = "axis cast",
    [DT_AXIS_SCALE] = "axis loss scale", [DT_AXIS_AVERAGE] = "axis average"};
_Static_assert(sizeof LABEL / sizeof LABEL[0] == DT_AXIS_KINDS, "a label per kind");

static dt_status run(void *ctx, dt_stream *stream) {
    const axis_bound *k = ctx;
    cudaStream_t s = dt_cuda_stream(k->cu, stream);
    cudaError_t err = cudaErrorInvalidValue;
    switch (k->kind) {
    case DT_AXIS_ACCUM:
        err = dt_gpu_axis_accum(&k->cu->gpu, &k->args, s);
        break;
    case DT_AXIS_SUMSQ:
        err = dt_gpu_axis_sumsq(&k->cu->gpu, &k->args, k->partial, s);
        break;
    case DT_AXIS_UPDATE:
        err = dt_gpu_axis_update(&k->args, &k->plan, s);
        if (err == cudaSuccess && k->muon) return dt_muon_run(k->muon, &k->args, k->plan.step, s);
        break;
    case DT_AXIS_CAST:
        err = dt_gpu_axis_cast(&k->cu->gpu, &k->args, s);
        break;
    case DT_AXIS_SCALE:
        err = dt_gpu_axis_scale(&k->args, s);
        break;
    case DT_AXIS_AVERAGE:
        err = dt_gpu_axis_average(&k->cu->gpu, &k->args, s);
        break;
    }
    return err == cudaSuccess ? DT_OK : dt_cuda_fail(err, LABEL[k->kind], __FILE__, __LINE__);
}

/* Cuts the segments within the range into chunks; counts them where `chunk` is NULL. */
static int32_t cut(const dt_axis_args *a, dt_gpu_axis_chunk *chunk, dt_gpu_axis_segment *segment) {
    const bool whole = dt_optim_get((dt_optim_kind)a->optim.kind)->flags & DT_OPTIM_MATRIX;
    int32_t n = 0;
    for (int32_t i = 0; i < a->n_segment; i++) {
        const dt_axis_segment *s = &a->segment[i];
        const int32_t first = n;
        int64_t end = dt_min_i64(s->offset + s->n_elem, a->offset + a->n_elem);
        if (whole && s->matrix) end = 0; /* axis_muon.c */
        for (int64_t at = dt_max_i64(s->offset, a->offset); at < end; at += DT_GPU_AXIS_CHUNK, n++)
            if (chunk)
                chunk[n] = (dt_gpu_axis_chunk){.first = at,
                                               .n_elem = (int32_t)dt_min_i64(DT_GPU_AXIS_CHUNK, end - at),
                                               .segment = i,
                                               .decay = s->decay,
                                               .lr_scale = s->lr_scale};
        if (segment)
            segment[i] = (dt_gpu_axis_segment){.first_chunk = first,
                                               .n_chunk = n - first,
                                               .decay = s->decay,
                                               .lr_scale = s->lr_scale,
                                               .offset = s->offset,
                                               .n_elem = s->n_elem,
                                               .rows = s->rows,
                                               .cols = s->cols,
                                               .n_real = s->n_real > 0 ? s->n_real : s->n_elem,
                                               .row_at = s->state_at[DT_STATE_ROW],
                                               .column_at = s->state_at[DT_STATE_COLUMN],
                                               .vector_at = s->state_at[DT_STATE_VECTOR],
                                               .rest_at = s->state_at[DT_STATE_REST]};
    }
    return n;
}

/* A copy on the device that lives as long as the backend. */
static dt_status upload(dt_cuda *cu, const void *host, size_t bytes, void **out) {
    DT_TRY(dt_cuda_own_device(cu, (int64_t)bytes, out));
    cudaError_t err = cudaMemcpy(*out, host, bytes, cudaMemcpyHostToDevice);
    return err == cudaSuccess ? DT_OK : dt_cuda_fail(err, "cudaMemcpy", __FILE__, __LINE__);
}

static dt_status make_plan(dt_cuda *cu, const dt_axis_args *a, dt_gpu_axis_plan *p) {
    DT_TRY(dt_cuda_own_device(cu, (int64_t)sizeof *p->step, (void **)&p->step));
    p->n_segment = a->n_segment;
    p->n_chunk = cut(a, NULL, NULL);
    if (p->n_chunk == 0) return DT_OK;
    const size_t n_chunk = (size_t)p->n_chunk, n_segment = (size_t)p->n_segment;
    dt_status st = DT_OK;
    dt_gpu_axis_chunk *chunk = malloc(n_chunk * sizeof *chunk);
    dt_gpu_axis_segment *segment = malloc(n_segment * sizeof *segment);
    if (!chunk || !segment)
        st = dt_fail(DT_ERR_MEMORY, "no memory for the optimizer's %d chunks", p->n_chunk);
    else
        cut(a, chunk, segment);
    if (st == DT_OK) st = upload(cu, chunk, n_chunk * sizeof *chunk, (void **)&p->chunk);
    if (st == DT_OK) st = upload(cu, segment, n_segment * sizeof *segment, (void **)&p->segment);
    free(chunk), free(segment);
    if (st != DT_OK || !(dt_optim_get((dt_optim_kind)a->optim.kind)->flags & DT_OPTIM_TRUST)) return st;
    DT_TRY(dt_cuda_own_device(cu, (int64_t)(2 * n_chunk * sizeof *p->square), (void **)&p->square));
    DT_TRY(dt_cuda_own_device(cu, (int64_t)(n_segment * sizeof *p->inv_mean), (void **)&p->inv_mean));
    return dt_cuda_own_device(cu, (int64_t)(n_segment * sizeof *p->ratio), (void **)&p->ratio);
}

/* Vectors of four elements are used from `offset` on. */
static dt_status check_alignment(const dt_axis_args *a) {
    bool ok = a->offset % 4 == 0;
    for (int32_t i = 0; i < a->n_segment; i++) ok = ok && a->segment[i].offset % 4 == 0;
    const void *const p[] = {a->grad, a->acc, a->master, a->param16, a->ema};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) ok = ok && ((uintptr_t)p[i] & 15) == 0;
    for (int i = 0; i < DT_OPTIM_STATES_MAX; i++) ok = ok && ((uintptr_t)a->state[i] & 15) == 0;
    return ok ? DT_OK : dt_fail(DT_ERR_INTERNAL, "the parameter axis is not aligned to 16 bytes");
}

dt_status dt_cuda_bind_axis(dt_backend *be, dt_axis_kind kind, const dt_axis_args *args, dt_kernel *out) {
    dt_cuda *cu = dt_cuda_of(be);
    axis_bound *k = NULL;
    if (kind != DT_AXIS_AVERAGE) DT_TRY(check_alignment(args));
    DT_TRY(dt_cuda_own(cu, sizeof *k, (void **)&k));
    k->cu = cu;
    k->kind = kind;
    k->args = *args;
    k->args.segment = NULL;
    if (kind == DT_AXIS_UPDATE) DT_TRY(make_plan(cu, args, &k->plan));
    if (kind == DT_AXIS_UPDATE && dt_optim_get((dt_optim_kind)args->optim.kind)->flags & DT_OPTIM_MATRIX)
        DT_TRY(dt_muon_bind(cu, args, &k->muon));
    if (kind == DT_AXIS_SUMSQ)
        DT_TRY(dt_cuda_own_device(cu, DT_GPU_SUMSQ_BLOCKS * (int64_t)sizeof(float), (void **)&k->partial));
    *out = (dt_kernel){.run = run, .ctx = k, .node = -1, .label = LABEL[kind]};
    return DT_OK;
}
