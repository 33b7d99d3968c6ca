/* Elements that move or are brought together along dimensions: TRANSPOSE, the repeating of a reduction's gradient,
 * and maxima. A maximum is a block's, whose threads read in turn. */
#include "block.cuh"
#include "space.cuh"

namespace {
using namespace dt;

enum { TILE = 32, TILE_ROWS = THREADS / TILE };

/* A tile of the two dimensions whose neighbours stand in a row in y (the last) and in x (`across`). */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    tile_kernel(const T *x, T *y, dt_space s, int across, int64_t n_c, int64_t n_r) {
    __shared__ T tile[TILE][TILE + 1];
    const int last = s.n - 1, tx = threadIdx.x % TILE, ty = threadIdx.x / TILE;
    const int64_t c0 = blockIdx.x % n_c * TILE, r0 = blockIdx.x / n_c % n_r * TILE;
    int64_t rest = blockIdx.x / n_c / n_r, from = 0, to = 0;
    for (int i = last - 1; i >= 0; i--) {
        if (i == across) continue;
        const int64_t here = rest % s.dim[i];
        rest /= s.dim[i];
        from += here * s.stride[DT_SPACE_A][i], to += here * s.stride[DT_SPACE_FULL][i];
    }
    for (int i = ty; i < TILE; i += TILE_ROWS) /* a row of x: neighbours along `across` */
        if (r0 + tx < s.dim[across] && c0 + i < s.dim[last])
            tile[i][tx] =
                x[from + (r0 + tx) * s.stride[DT_SPACE_A][across] + (c0 + i) * s.stride[DT_SPACE_A][last]];
    __syncthreads();
    for (int i = ty; i < TILE; i += TILE_ROWS)
        if (c0 + tx < s.dim[last] && r0 + i < s.dim[across])
            y[to + (r0 + i) * s.stride[DT_SPACE_FULL][across] + c0 + tx] = tile[tx][i];
}

template <typename T>
__global__ void __launch_bounds__(THREADS) permute_kernel(const T *x, T *y, int64_t n, dt_space s) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride)
        y[i] = x[Offsets<int64_t>(s, i).at[DT_SPACE_A]];
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    repeat_kernel(const T *y, T *x, int64_t n, float scale, dt_space s) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride)
        x[i] = from_float<T>(to_float(y[Offsets<int64_t>(s, i).at[DT_SPACE_A]]) * scale);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    max_kernel(const T *x, T *y, int64_t n_taken, dt_space kept, dt_space taken) {
    __shared__ float smem[WARPS];
    x += Offsets<int64_t>(kept, blockIdx.x).at[DT_SPACE_FULL];
    float top = -INFINITY;
    for (int64_t i = threadIdx.x; i < n_taken; i += THREADS)
        top = larger(to_float(x[Offsets<int64_t>(taken, i).at[DT_SPACE_FULL]]), top);
    top = block_reduce(top, larger, smem);
    if (threadIdx.x == 0) y[blockIdx.x] = from_float<T>(top);
}

template <typename T>
__global__ void __launch_bounds__(THREADS) max_bwd_kernel(const T *dy, const T *x, const T *y, T *dx,
                                                          int64_t n_taken, dt_space kept, dt_space taken) {
    __shared__ float smem[WARPS];
    const int64_t base = Offsets<int64_t>(kept, blockIdx.x).at[DT_SPACE_FULL];
    const float top = to_float(y[blockIdx.x]), g = to_float(dy[blockIdx.x]);
    float ties = 0;
    for (int64_t i = threadIdx.x; i < n_taken; i += THREADS)
        ties += to_float(x[base + Offsets<int64_t>(taken, i).at[DT_SPACE_FULL]]) == top ? 1.0f : 0.0f;
    ties = block_reduce(ties, plus, smem);
    for (int64_t i = threadIdx.x; i < n_taken; i += THREADS) {
        const int64_t at = base + Offsets<int64_t>(taken, i).at[DT_SPACE_FULL];
        dx[at] = from_float<T>(to_float(x[at]) == top ? g / ties : 0.0f);
    }
}

template <typename T>
cudaError_t transpose(const dt_gpu *gpu, const void *x, void *y, const dt_space *s, cudaStream_t stream) {
    const int64_t n = product(*s);
    int across = -1;
    for (int i = 0; i < s->n - 1; i++)
        if (s->stride[DT_SPACE_A][i] == 1) across = i;
    if (across < 0 || s->dim[across] < TILE / 4 || s->dim[s->n - 1] < TILE / 4) {
        permute_kernel<<<grid_for(gpu, n, 1), THREADS, 0, stream>>>((const T *)x, (T *)y, n, *s);
        return cudaPeekAtLastError();
    }
    const int64_t n_c = ceil_div(s->dim[s->n - 1], TILE), n_r = ceil_div(s->dim[across], TILE);
    const int64_t grid = n / s->dim[s->n - 1] / s->dim[across] * n_c * n_r;
    if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;
    tile_kernel<<<(unsigned)grid, THREADS, 0, stream>>>((const T *)x, (T *)y, *s, across, n_c, n_r);
    return cudaPeekAtLastError();
}

} // namespace

cudaError_t dt_gpu_transpose(const dt_gpu *gpu, int32_t item, const void *x, void *y, const dt_space *space,
                             cudaStream_t s) {
    switch (item) {
    case 1:
        return transpose<uint8_t>(gpu, x, y, space, s);
    case 2:
        return transpose<uint16_t>(gpu, x, y, space, s);
    case 4:
        return transpose<uint32_t>(gpu, x, y, space, s);
    case 8:
        return transpose<uint64_t>(gpu, x, y, space, s);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t dt_gpu_repeat(const dt_gpu *gpu, dt_dtype t, const void *y, void *x, const dt_space *space,
                          float scale, cudaStream_t s) {
    const int64_t n = product(*space);
    DT_WITH_TYPE(
        t, repeat_kernel<<<grid_for(gpu, n, 1), THREADS, 0, s>>>((const T *)y, (T *)x, n, scale, *space));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_max(dt_dtype t, const void *x, void *y, const dt_space *space, cudaStream_t s) {
    dt_space kept, taken;
    dt_broadcast_split(space, DT_SPACE_A, &kept, &taken);
    DT_WITH_TYPE(t, max_kernel<<<(unsigned)product(kept), THREADS, 0, s>>>((const T *)x, (T *)y,
                                                                           product(taken), kept, taken));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_max_bwd(dt_dtype t, const void *dy, const void *x, const void *y, void *dx,
                           const dt_space *space, cudaStream_t s) {
    dt_space kept, taken;
    dt_broadcast_split(space, DT_SPACE_A, &kept, &taken);
    DT_WITH_TYPE(t, max_bwd_kernel<<<(unsigned)product(kept), THREADS, 0, s>>>(
                        (const T *)dy, (const T *)x, (const T *)y, (T *)dx, product(taken), kept, taken));
    return cudaPeekAtLastError();
}
