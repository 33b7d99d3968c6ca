/* RECURRENT and its gradient: for each step a product through cuBLASLt and a kernel over its result, one after the
 * other on the stream; the gradient of w_hh is one product over all steps. What is kept between the ops is the op's
 * affair (core/op_rnn.c), so a kernel that keeps w_hh on the multiprocessors can take the place of the loops here. */
#include "lower.h"

#include <stdio.h>

static dt_status prepare_product(dt_cuda *cu, const dt_prep *p, const dt_blas_shape *shape,
                                 dt_blas_matmul *out) {
    DT_TRY(dt_blas_describe(cu, shape, out));
    if (p->t == DT_DTYPE_F32 && cu->tf32) {
        const cublasComputeType_t fast = CUBLAS_COMPUTE_32F_FAST_TF32;
        DT_CUBLAS_TRY(
            cublasLtMatmulDescSetAttribute(out->desc, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, &fast, sizeof fast));
    }
    return dt_blas_first(cu, out, p->label);
}

dt_status dt_lower_rnn_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    dt_rnn_prep *r = &p->rnn;
    const bool back = n->op == DT_OP_RECURRENT_BWD;
    const dt_value *y = &g->value[back ? n->in[DT_RNN_BWD_IN_Y] : n->out[DT_RNN_OUT_Y]];
    const int64_t gates = dt_recurrent_gates(n->attr.recurrent.kind), size = (int64_t)dt_dtype_size(p->t);
    r->b = y->dim[0], r->t = y->dim[1], r->h = y->dim[2], r->wide = gates * r->h;
    const int64_t states = r->b * r->h, all = states * r->t;
    snprintf(p->label, sizeof p->label, "%s%s %lldx%lldx%lld %s", dt_op_name(n),
             n->attr.recurrent.reverse ? " reverse" : "", (long long)r->b, (long long)r->t, (long long)r->h,
             dt_dtype_name(p->t));
    /* Row-major u [B,wide] = state w^T, rec [B,H] = du w and dw [wide,H] = dgates^T prev, in cuBLASLt's order. */
    const dt_blas_shape forward = {.t = p->t,
                                   .trans_a = true,
                                   .a_rows = r->h,
                                   .a_cols = r->wide,
                                   .b_rows = r->h,
                                   .b_cols = r->b,
                                   .out = DT_DTYPE_F32,
                                   .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    const dt_blas_shape backward = {.t = p->t,
                                    .a_rows = r->h,
                                    .a_cols = r->wide,
                                    .b_rows = r->wide,
                                    .b_cols = r->b,
                                    .out = DT_DTYPE_F32,
                                    .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    const dt_blas_shape weight = {.t = p->t,
                                  .trans_b = true,
                                  .a_rows = r->h,
                                  .a_cols = r->b * r->t,
                                  .b_rows = r->wide,
                                  .b_cols = r->b * r->t,
                                  .out = p->t,
                                  .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    if (all > 0) DT_TRY(prepare_product(cu, p, back ? &backward : &forward, &r->step));
    r->has_weight = back && all > 0 && dt_node_makes(n, DT_RNN_BWD_OUT_DW);
    if (r->has_weight) DT_TRY(prepare_product(cu, p, &weight, &r->weight));
    r->plan_at = dt_prep_take(p, dt_max_i64(r->step.bytes, r->weight.bytes));
    r->cell_at = dt_prep_take(p, states * (int64_t)sizeof(float));
    r->state_at = dt_prep_take(p, (back ? r->b * r->wide : states) * size); /* what the product reads */
    r->product_at = dt_prep_take(p, (back ? states : r->b * r->wide) * (int64_t)sizeof(float));
    if (!back) return DT_OK;
    r->carry_at = dt_prep_take(p, states * (int64_t)sizeof(float));
    r->prev_at = dt_prep_take(p, r->has_weight ? all * size : 0);
    r->dn_at = dt_prep_take(p, n->attr.recurrent.kind == DT_GRU ? all * size : 0);
    r->reduce_at = dt_prep_take(p, all > 0 && dt_node_makes(n, DT_RNN_BWD_OUT_DB)
                                       ? dt_gpu_reduce_bytes(&cu->gpu, p->t, r->b * r->t, r->wide)
                                       : 0);
    return DT_OK;
}

static int64_t time_of(const dt_prep *p, int64_t i) {
    return p->node.attr.recurrent.reverse ? p->rnn.t - 1 - i : i;
}

dt_status dt_lower_rnn_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_rnn_prep *r = &p->rnn;
    const dt_gpu_rnn_args a = {.kind = p->node.attr.recurrent.kind,
                               .b = r->b,
                               .t = r->t,
                               .h = r->h,
                               .gates = k->b.in[DT_RNN_IN_GATES],
                               .bias = k->b.in[DT_RNN_IN_B],
                               .h0 = k->b.in[DT_RNN_IN_H0],
                               .c0 = k->b.in[DT_RNN_IN_C0],
                               .lengths = k->b.in[DT_RNN_IN_LENGTHS],
                               .u = dt_bound_workspace(k, r->product_at),
                               .state = dt_bound_workspace(k, r->state_at),
                               .c = dt_bound_workspace(k, r->cell_at),
                               .y = k->b.out[DT_RNN_OUT_Y],
                               .h_last = k->b.out[DT_RNN_OUT_H],
                               .c_last = k->b.out[DT_RNN_OUT_C],
                               .act = k->b.out[DT_RNN_OUT_ACT],
                               .cell = k->b.out[DT_RNN_OUT_CELL]};
    const dt_blas_operands o = {.a = k->b.in[DT_RNN_IN_W],
                                .b = a.state,
                                .d = dt_bound_workspace(k, r->product_at),
                                .workspace = dt_bound_workspace(k, r->plan_at)};
    if (r->b == 0) return DT_OK;
    DT_TRY(dt_launch_status(dt_gpu_rnn_begin(p->t, &a, s), k));
    for (int64_t i = 0; i < r->t; i++) {
        DT_TRY(dt_blas_run(cu, &r->step, &o, s));
        DT_TRY(dt_launch_status(dt_gpu_rnn_step(p->t, &a, time_of(p, i), s), k));
    }
    return a.h_last || a.c_last ? dt_launch_status(dt_gpu_rnn_end(p->t, &a, s), k) : DT_OK;
}

/* dw_hh and db_hh, of all steps at once. */
static dt_status sum_weights(dt_cuda *cu, const dt_bound *k, const dt_gpu_rnn_bwd_args *a, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_rnn_prep *r = &p->rnn;
    const size_t size = dt_dtype_size(p->t);
    void *dw = k->b.out[DT_RNN_BWD_OUT_DW], *db = k->b.out[DT_RNN_BWD_OUT_DB];
    if (r->b * r->t == 0) {
        if (dw) DT_CUDA_TRY(cudaMemsetAsync(dw, 0, (size_t)(r->wide * r->h) * size, s));
        if (db) DT_CUDA_TRY(cudaMemsetAsync(db, 0, (size_t)r->wide * size, s));
        return DT_OK;
    }
    if (r->has_weight) {
        DT_TRY(dt_launch_status(dt_gpu_rnn_previous(p->t, a, s), k));
        const dt_blas_operands o = {
            .a = a->prev, .b = a->dgates, .d = dw, .workspace = dt_bound_workspace(k, r->plan_at)};
        DT_TRY(dt_blas_run(cu, &r->weight, &o, s));
    }
    return db ? dt_launch_status(dt_gpu_bias_grad(&cu->gpu, p->t, a->dgates, db, r->b * r->t, r->wide,
                                                  dt_bound_workspace(k, r->reduce_at), s),
                                 k)
              : DT_OK;
}

dt_status dt_lower_rnn_bwd_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_rnn_prep *r = &p->rnn;
    const size_t size = dt_dtype_size(p->t);
    const dt_gpu_rnn_bwd_args a = {.kind = p->node.attr.recurrent.kind,
                                   .reverse = p->node.attr.recurrent.reverse,
                                   .b = r->b,
                                   .t = r->t,
                                   .h = r->h,
                                   .y = k->b.in[DT_RNN_BWD_IN_Y],
                                   .act = k->b.in[DT_RNN_BWD_IN_ACT],
                                   .cell = k->b.in[DT_RNN_BWD_IN_CELL],
                                   .dy = k->b.in[DT_RNN_BWD_IN_DY],
                                   .dh_last = k->b.in[DT_RNN_BWD_IN_DH],
                                   .dc_last = k->b.in[DT_RNN_BWD_IN_DC],
                                   .h0 = k->b.in[DT_RNN_BWD_IN_H0],
                                   .c0 = k->b.in[DT_RNN_BWD_IN_C0],
                                   .lengths = k->b.in[DT_RNN_BWD_IN_LENGTHS],
                                   .rec = dt_bound_workspace(k, r->product_at),
                                   .carry = dt_bound_workspace(k, r->carry_at),
                                   .dc = dt_bound_workspace(k, r->cell_at),
                                   .du = dt_bound_workspace(k, r->state_at),
                                   .dn = dt_bound_workspace(k, r->dn_at),
                                   .prev = dt_bound_workspace(k, r->prev_at),
                                   .dgates = k->b.out[DT_RNN_BWD_OUT_DGATES],
                                   .dh0 = k->b.out[DT_RNN_BWD_OUT_DH0],
                                   .dc0 = k->b.out[DT_RNN_BWD_OUT_DC0]};
    const dt_blas_operands o = {
        .a = k->b.in[DT_RNN_BWD_IN_W], .b = a.du, .d = a.rec, .workspace = dt_bound_workspace(k, r->plan_at)};
    if (r->b > 0) {
        DT_TRY(dt_launch_status(dt_gpu_rnn_bwd_begin(p->t, &a, s), k));
        for (int64_t i = r->t - 1; i >= 0; i--) {
            DT_TRY(dt_launch_status(dt_gpu_rnn_bwd_step(p->t, &a, time_of(p, i), s), k));
            if (i > 0 || a.dh0) DT_TRY(dt_blas_run(cu, &r->step, &o, s));
        }
        if (a.dh0 || a.dc0) DT_TRY(dt_launch_status(dt_gpu_rnn_bwd_end(p->t, &a, s), k));
    }
    DT_TRY(sum_weights(cu, k, &a, s));
    if (a.kind != DT_GRU || r->b * r->t == 0) return DT_OK;
    /* The gradients of n's part of x and of the product differ; the sums above are of the product's. */
    DT_CUDA_TRY(cudaMemcpy2DAsync((char *)a.dgates + 2 * (size_t)r->h * size, (size_t)r->wide * size, a.dn,
                                  (size_t)r->h * size, (size_t)r->h * size, (size_t)(r->b * r->t),
                                  cudaMemcpyDeviceToDevice, s));
    return DT_OK;
}
