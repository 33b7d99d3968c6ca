/* Batch statistics, and the sums of their gradient, of all ranks: what a rank adds to the sum over ranks, and what is
 * made of that sum. In double, as on the CPU. */
#include "vec.cuh"

namespace {
using namespace dt;

/* GRAD: coef [3,C], of which the last two rows are summed; else stats [2,C], (mean, variance) or sums. */
template <bool GRAD> __global__ void part_kernel(dt_gpu_bn_sync_args a) {
    const int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= a.c) return;
    double first = a.in[(GRAD ? a.c : 0) + c], second = a.in[(GRAD ? 2 : 1) * a.c + c];
    if (!GRAD && !a.stats_are_sums) second += first * first;
    a.sum[c] = a.weight * first;
    a.sum[a.c + c] = a.weight * second;
}

template <bool GRAD> __global__ void all_kernel(dt_gpu_bn_sync_args a) {
    const int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= a.c) return;
    const double first = a.sum[c], second = a.sum[a.c + c];
    if (GRAD) {
        a.out[c] = a.in[c];
        a.out[a.c + c] = (float)first;
        a.out[2 * a.c + c] = (float)second;
        return;
    }
    const double var = second - first * first;
    a.out[c] = (float)first;
    a.out[a.c + c] = (float)(var < 0 ? 0 : var); /* NaN stays */
}

unsigned blocks(const dt_gpu_bn_sync_args *a) {
    return (unsigned)ceil_div(a->c, THREADS);
}

} // namespace

cudaError_t dt_gpu_bn_sync_part(const dt_gpu_bn_sync_args *a, cudaStream_t s) {
    if (a->grad)
        part_kernel<true><<<blocks(a), THREADS, 0, s>>>(*a);
    else
        part_kernel<false><<<blocks(a), THREADS, 0, s>>>(*a);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_bn_sync_all(const dt_gpu_bn_sync_args *a, cudaStream_t s) {
    if (a->grad)
        all_kernel<true><<<blocks(a), THREADS, 0, s>>>(*a);
    else
        all_kernel<false><<<blocks(a), THREADS, 0, s>>>(*a);
    return cudaPeekAtLastError();
}
