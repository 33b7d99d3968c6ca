/* Dense layers: a 1x1 convolution over images of one pixel. */
#include "conv_internal.h"

static dt_cpu_conv_plan dense_plan(int64_t n, int64_t c, int64_t k, dt_cpu_conv_kind kind, int32_t threads) {
    dt_cpu_conv_plan plan = {.dims = {.n = n,
                                      .h = 1,
                                      .w = 1,
                                      .c = c,
                                      .k = k,
                                      .r = 1,
                                      .s = 1,
                                      .p = 1,
                                      .q = 1,
                                      .stride_h = 1,
                                      .stride_w = 1,
                                      .dil_h = 1,
                                      .dil_w = 1,
                                      .groups = 1},
                             .kind = kind,
                             .algo = DT_CPU_CONV_ALGO_GEMM,
                             .threads = threads};
    dt_cpu_conv_gemm_plan(&plan);
    plan.shared_bytes = dt_i64_round_up(plan.shared_bytes, 64);
    plan.thread_bytes = dt_i64_round_up(plan.thread_bytes, 64);
    plan.workspace_bytes = plan.shared_bytes + threads * plan.thread_bytes;
    return plan;
}

int64_t dt_cpu_dense_workspace_bytes(int64_t n, int64_t c, int64_t k, int32_t threads) {
    int64_t most = 0;
    for (int kind = DT_CPU_CONV_FORWARD; kind <= DT_CPU_CONV_WGRAD; kind++)
        most = dt_i64_max(most, dense_plan(n, c, k, (dt_cpu_conv_kind)kind, threads).workspace_bytes);
    return most;
}

void dt_cpu_dense_forward(int64_t n, int64_t c, int64_t k, const float *x, const float *w, const float *bias,
                          float *y, void *workspace, int32_t threads) {
    const dt_cpu_conv_plan plan = dense_plan(n, c, k, DT_CPU_CONV_FORWARD, threads);
    dt_cpu_conv_gemm_run(&plan,
                         &(dt_cpu_conv_args){.x = x, .w = w, .bias = bias, .out = y, .workspace = workspace});
}

void dt_cpu_dense_dgrad(int64_t n, int64_t c, int64_t k, const float *dy, const float *w, float *dx,
                        void *workspace, int32_t threads) {
    const dt_cpu_conv_plan plan = dense_plan(n, c, k, DT_CPU_CONV_DGRAD, threads);
    dt_cpu_conv_gemm_run(&plan, &(dt_cpu_conv_args){.dy = dy, .w = w, .out = dx, .workspace = workspace});
}

void dt_cpu_dense_wgrad(int64_t n, int64_t c, int64_t k, const float *x, const float *dy, float *dw,
                        void *workspace, int32_t threads) {
    const dt_cpu_conv_plan plan = dense_plan(n, c, k, DT_CPU_CONV_WGRAD, threads);
    dt_cpu_conv_gemm_wgrad(&plan, &(dt_cpu_conv_args){.x = x, .dy = dy, .out = dw, .workspace = workspace});
}
