/* Sums down the rows of groups, out [groups, c] = scale sum over r of op of up to three operands [groups, rows, c]: a block has
 * a group and a tile of columns, as many rows as its threads give, vectors of 16 bytes, and adds in a fixed order. For groups
 * and columns enough to fill the card. */
#ifndef DT_GPU_GROUP_SUMS_CUH
#define DT_GPU_GROUP_SUMS_CUH

#include "vec.cuh"

namespace dt {

constexpr int GROUP_OPERANDS = 3, GROUP_LANES = 32, GROUP_AHEAD = 4;

/* Strides in elements; of a column 1, or 0 where it is repeated. in NULL: 0 is read. */
struct GroupSums {
    const void *in[GROUP_OPERANDS];
    int64_t group[GROUP_OPERANDS], row[GROUP_OPERANDS];
    bool column[GROUP_OPERANDS];
    void *out;
    int64_t groups, rows, c;
    float scale;
};

template <typename T, int V>
__device__ __forceinline__ Pack<T, V> group_fetch(const GroupSums &x, int k, int64_t at) {
    const T *const p = (const T *)x.in[k];
    Pack<T, V> v;
    if (p && x.column[k]) return load<T, V>(p + at);
    const T one = p ? p[at] : from_float<T>(0.0f);
#pragma unroll
    for (int j = 0; j < V; j++) v.v[j] = one;
    return v;
}

template <typename T, int V, typename Op>
__global__ void __launch_bounds__(THREADS) group_sums_kernel(Op op, GroupSums x, int lanes) {
    __shared__ float smem[THREADS * V];
    const int tx = threadIdx.x % lanes, ty = threadIdx.x / lanes, deep = THREADS / lanes;
    const int64_t first = (int64_t)blockIdx.x * lanes * V, column = first + tx * V, g = blockIdx.y;
    float sum[V];
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] = 0.0f;
    if (ty < deep && column < x.c) {
        int64_t base[GROUP_OPERANDS];
#pragma unroll
        for (int k = 0; k < GROUP_OPERANDS; k++) base[k] = g * x.group[k] + (x.column[k] ? column : 0);
#pragma unroll GROUP_AHEAD
        for (int64_t r = ty; r < x.rows; r += deep) {
            Pack<T, V> p[GROUP_OPERANDS];
#pragma unroll
            for (int k = 0; k < GROUP_OPERANDS; k++) p[k] = group_fetch<T, V>(x, k, base[k] + r * x.row[k]);
#pragma unroll
            for (int j = 0; j < V; j++)
                sum[j] += op(to_float(p[0].v[j]), to_float(p[1].v[j]), to_float(p[2].v[j]));
        }
    }
#pragma unroll
    for (int j = 0; j < V; j++) smem[threadIdx.x * V + j] = sum[j];
    __syncthreads();
    const int wide = lanes * V;
    for (int k = threadIdx.x; k < wide && first + k < x.c; k += THREADS) {
        float total = smem[k];
        for (int r = 1; r < deep; r++) total += smem[r * wide + k];
        ((T *)x.out)[g * x.c + first + k] = from_float<T>(total * x.scale);
    }
}

/* Whether the sums are of that kind: whole vectors, aligned operands, blocks for every multiprocessor. */
template <typename T> bool group_sums_take(const dt_gpu *gpu, const GroupSums &x) {
    const int64_t c_vec = x.c / WIDE<T>;
    if (x.c % WIDE<T> || x.groups > 65535 || x.groups * ceil_div(c_vec, GROUP_LANES) < gpu->sm_count)
        return false;
    for (int k = 0; k < GROUP_OPERANDS; k++)
        if (x.column[k] && (!aligned16(x.in[k]) || x.group[k] % WIDE<T> || x.row[k] % WIDE<T>)) return false;
    return true;
}

template <typename T, typename Op> void group_sums(Op op, const GroupSums &x, cudaStream_t s) {
    const int64_t c_vec = x.c / WIDE<T>;
    const int lanes = (int)(c_vec < GROUP_LANES ? c_vec : GROUP_LANES);
    const dim3 grid((unsigned)ceil_div(c_vec, lanes), (unsigned)x.groups);
    group_sums_kernel<T, WIDE<T>><<<grid, THREADS, 0, s>>>(op, x, lanes);
}

} // namespace dt

#endif
