/* Results of the evaluation program on their way to the host. */
#include <string.h>

#include "core/half.h"
#include "engine_internal.h"

void dt_engine_to_f32(dt_dtype dtype, const void *src, int64_t n, float *dst) {
    const uint16_t *half = src;
    if (dtype == DT_DTYPE_F32) memcpy(dst, src, (size_t)n * sizeof *dst);
    for (int64_t i = 0; dtype != DT_DTYPE_F32 && i < n; i++)
        dst[i] = dtype == DT_DTYPE_F16 ? dt_f16_to_f32(half[i]) : dt_bf16_to_f32(half[i]);
}

static dt_status reserve(dt_engine *e, int64_t bytes) {
    if (bytes <= e->output_bytes) return DT_OK;
    if (e->output) e->be->free(e->be, DT_MEM_HOST, e->output);
    e->output = NULL;
    e->output_bytes = 0;
    DT_TRY(e->be->alloc(e->be, DT_MEM_HOST, bytes, &e->output));
    e->output_bytes = bytes;
    return DT_OK;
}

dt_status dt_engine_output(dt_engine *e, const char *name, int64_t *n_elem, const float **out) {
    const dt_program *p = e->eval;
    const dt_vid id = dt_graph_output(p->graph, name);
    if (id < 0) return dt_fail(DT_ERR_INTERNAL, "the evaluation program has no output \"%s\"", name);
    const dt_value *v = &p->graph->value[id], *root = &p->graph->value[dt_graph_root(p->graph, id)];
    if (root->role == DT_ROLE_ACT && root->last < p->graph->n_node)
        return dt_fail(DT_ERR_INTERNAL, "the value \"%s\" does not outlive the evaluation program", name);
    if (v->dtype != DT_DTYPE_F32 && v->dtype != DT_DTYPE_F16 && v->dtype != DT_DTYPE_BF16)
        return dt_fail(DT_ERR_INTERNAL, "the value \"%s\" holds no real numbers", name);
    const int64_t n = dt_value_n_elem(v), bytes = dt_value_bytes(v), at = dt_round_up(bytes, 64);
    const bool plain = v->dtype == DT_DTYPE_F32;
    DT_TRY(reserve(e, plain ? bytes : at + n * (int64_t)sizeof(float)));
    DT_TRY(e->be->copy(e->be, e->output, dt_program_address(p, id), bytes, NULL));
    DT_TRY(e->be->stream_sync(e->be, NULL));
    float *f = plain ? e->output : (float *)(void *)((char *)e->output + at);
    if (!plain) dt_engine_to_f32(v->dtype, e->output, n, f);
    *n_elem = n;
    *out = f;
    return DT_OK;
}
