/* Element-wise functions of two variables with broadcasting, and their gradients: that of a repeated operand
 * is a sum, cut into chunks that are added in order. */
#include "core/scalar.h"
#include "group_sums.cuh"
#include "map.cuh"
#include "space.cuh"

namespace {
using namespace dt;

enum { TILE = 32, DEEP = THREADS / TILE, STEPS = 16, CHUNKS_MAX = 1024 };

#define FUNCTION(NAME, name, value, rx, gx, ry, gy)                                                          \
    struct name##_value {                                                                                    \
        __device__ float operator()(float x, float y) const { return value; }                                \
        __device__ float operator()(float, float x, float y) const { return value; }                         \
    };                                                                                                       \
    struct name##_x {                                                                                        \
        __device__ float operator()(float g, float x, float y) const {                                       \
            (void)x, (void)y;                                                                                \
            return gx;                                                                                       \
        }                                                                                                    \
    };                                                                                                       \
    struct name##_y {                                                                                        \
        __device__ float operator()(float g, float x, float y) const {                                       \
            (void)x, (void)y;                                                                                \
            return gy;                                                                                       \
        }                                                                                                    \
    };
DT_BINARY_LIST(FUNCTION)
#undef FUNCTION

/* V neighbours of an operand: itself in a row, one repeated, or nothing (0). */
template <typename T, int V> __device__ __forceinline__ Pack<T, V> fetch(const T *p, bool in_a_row) {
    Pack<T, V> v;
    if (p && in_a_row) return load<T, V>(p);
    const T one = p ? *p : from_float<T>(0.0f);
#pragma unroll
    for (int j = 0; j < V; j++) v.v[j] = one;
    return v;
}

/* out = op(dy, a, b), element by element of the space; any of the three may be NULL. */
template <typename T, int V, typename I, typename Op>
__global__ void __launch_bounds__(THREADS)
    repeat_kernel(Op op, const T *dy, const T *a, const T *b, T *out, I n_vec, dt_space s) {
    const I stride = (I)gridDim.x * THREADS;
    const int last = s.n - 1;
    for (I i = (I)blockIdx.x * THREADS + threadIdx.x; i < n_vec; i += stride) {
        const Offsets<I> off(s, i * V);
        Pack<T, V> g = fetch<T, V>(dy ? dy + i * V : nullptr, true),
                   p = fetch<T, V>(a ? a + off.at[DT_SPACE_A] : nullptr, s.stride[DT_SPACE_A][last] != 0),
                   q = fetch<T, V>(b ? b + off.at[DT_SPACE_B] : nullptr, s.stride[DT_SPACE_B][last] != 0);
#pragma unroll
        for (int j = 0; j < V; j++)
            p.v[j] = from_float<T>(op(to_float(g.v[j]), to_float(p.v[j]), to_float(q.v[j])));
        store<T, V>(out + i * V, p);
    }
}

/* How a gradient is cut. Where the gradient's own last dimension is that of the space, a block sums TILE
 * neighbours; else it sums one element. */
struct Cut {
    dt_space kept, summed;
    int64_t n_kept, n_summed, side, n_tile, n_task, n_chunk, chunk;
    bool rows;
};

Cut cut_of(const dt_gpu *gpu, const dt_space *space, int32_t operand) {
    Cut c = {};
    const int32_t own = DT_SPACE_A + operand;
    dt_broadcast_split(space, own, &c.kept, &c.summed);
    c.n_kept = product(c.kept), c.n_summed = product(c.summed);
    c.rows = space->stride[own][space->n - 1] > 0;
    c.side = c.rows ? c.kept.dim[c.kept.n - 1] : 1;
    c.n_tile = ceil_div(c.side, TILE);
    c.n_task = c.n_kept / c.side * c.n_tile;
    const int64_t want = ceil_div((int64_t)gpu->sm_count * 8, c.n_task),
                  most = ceil_div(c.n_summed, (int64_t)(c.rows ? DEEP : THREADS) * STEPS);
    c.n_chunk = want < most ? want : most;
    if (c.n_chunk > CHUNKS_MAX) c.n_chunk = CHUNKS_MAX;
    if (c.n_chunk < 1) c.n_chunk = 1;
    c.chunk = ceil_div(c.n_summed, c.n_chunk);
    return c;
}

/* One term: the element of dy at kept + summed. */
template <typename T, typename Op>
__device__ __forceinline__ float term(Op op, const T *dy, const T *a, const T *b, const Offsets<int64_t> &k,
                                      const Offsets<int64_t> &r) {
    return op(to_float(dy[k.at[0] + r.at[0]]), a ? to_float(a[k.at[1] + r.at[1]]) : 0.0f,
              b ? to_float(b[k.at[2] + r.at[2]]) : 0.0f);
}

/* Blocks: task, chunk. partial [n_chunk, n_kept], or out where there is one chunk. */
template <typename T, typename Op>
__global__ void __launch_bounds__(THREADS)
    sum_kernel(Op op, const T *dy, const T *a, const T *b, T *out, float *partial, float scale, Cut c) {
    __shared__ float smem[THREADS];
    const int64_t task = blockIdx.x, chunk = blockIdx.y;
    const int tx = c.rows ? threadIdx.x % TILE : 0, ty = c.rows ? threadIdx.x / TILE : threadIdx.x;
    const int deep = c.rows ? DEEP : THREADS;
    const int64_t col = task % c.n_tile * TILE + tx, k = task / c.n_tile * c.side + col;
    const int64_t end = (chunk + 1) * c.chunk < c.n_summed ? (chunk + 1) * c.chunk : c.n_summed;
    float sum = 0;
    if (col < c.side) {
        const Offsets<int64_t> at(c.kept, k);
        for (int64_t r = chunk * c.chunk + ty; r < end; r += deep)
            sum += term(op, dy, a, b, at, Offsets<int64_t>(c.summed, r));
    }
    smem[threadIdx.x] = sum;
    for (int half = deep / 2; half > 0; half /= 2) {
        __syncthreads();
        if (ty < half) smem[threadIdx.x] += smem[threadIdx.x + half * (THREADS / deep)];
    }
    if (ty > 0 || col >= c.side) return;
    if (c.n_chunk > 1)
        partial[chunk * c.n_kept + k] = smem[threadIdx.x];
    else
        out[k] = from_float<T>(smem[threadIdx.x] * scale);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    combine_kernel(const float *partial, T *out, int64_t n_kept, int64_t n_chunk, float scale) {
    const int64_t k = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (k >= n_kept) return;
    float sum = 0;
    for (int64_t i = 0; i < n_chunk; i++) sum += partial[i * n_kept + k];
    out[k] = from_float<T>(sum * scale);
}

/* The sums of a gradient as sums down the rows of groups; false where they are of another kind. */
template <typename T>
bool as_groups(const dt_gpu *gpu, const dt_gpu_binary_args *x, const Cut &c, GroupSums *out) {
    const dt_space &kept = c.kept, &summed = c.summed;
    const void *const in[GROUP_OPERANDS] = {x->dy, x->a, x->b};
    if (!c.rows || summed.n != 1 || kept.n > 2) return false;
    *out = {};
    out->out = x->out, out->scale = x->scale;
    out->groups = kept.n == 2 ? kept.dim[0] : 1, out->rows = summed.dim[0], out->c = c.side;
    for (int k = 0; k < GROUP_OPERANDS; k++) {
        out->in[k] = in[k];
        if (!in[k]) continue;
        out->group[k] = kept.n == 2 ? kept.stride[k][0] : 0;
        out->row[k] = summed.stride[k][0];
        out->column[k] = kept.stride[k][kept.n - 1] != 0;
    }
    return group_sums_take<T>(gpu, *out);
}

template <typename T, int V, typename Op>
void launch_repeat(const dt_gpu *gpu, Op op, const dt_gpu_binary_args *x, cudaStream_t s) {
    const int64_t n = product(x->space) / V;
    const unsigned grid = grid_for(gpu, n, 1);
    const T *dy = (const T *)x->dy, *a = (const T *)x->a, *b = (const T *)x->b;
    if (n * V <= (int64_t)UINT32_MAX / 2)
        repeat_kernel<T, V, uint32_t>
            <<<grid, THREADS, 0, s>>>(op, dy, a, b, (T *)x->out, (uint32_t)n, x->space);
    else
        repeat_kernel<T, V, int64_t><<<grid, THREADS, 0, s>>>(op, dy, a, b, (T *)x->out, n, x->space);
}

template <typename Op>
cudaError_t repeat(const dt_gpu *gpu, dt_dtype t, Op op, const dt_gpu_binary_args *x, cudaStream_t s) {
    const bool al = aligned16(x->dy) && aligned16(x->a) && aligned16(x->b) && aligned16(x->out);
    DT_WITH_TYPE(t, {
        if (al && x->space.dim[x->space.n - 1] % WIDE<T> == 0)
            launch_repeat<T, WIDE<T>>(gpu, op, x, s);
        else
            launch_repeat<T, 1>(gpu, op, x, s);
    });
    return cudaPeekAtLastError();
}

template <typename Op>
cudaError_t gradient(const dt_gpu *gpu, dt_dtype t, Op op, const dt_gpu_binary_args *x, cudaStream_t s) {
    const Cut c = cut_of(gpu, &x->space, x->operand);
    if (c.n_summed == 1) return repeat(gpu, t, op, x, s);
    const dim3 grid((unsigned)c.n_task, (unsigned)c.n_chunk);
    DT_WITH_TYPE(t, {
        GroupSums sums;
        if (as_groups<T>(gpu, x, c, &sums)) {
            group_sums<T>(op, sums, s);
            return cudaPeekAtLastError();
        }
        sum_kernel<T><<<grid, THREADS, 0, s>>>(op, (const T *)x->dy, (const T *)x->a, (const T *)x->b,
                                               (T *)x->out, x->workspace, x->scale, c);
        if (c.n_chunk > 1)
            combine_kernel<T><<<(unsigned)ceil_div(c.n_kept, THREADS), THREADS, 0, s>>>(
                x->workspace, (T *)x->out, c.n_kept, c.n_chunk, x->scale);
    });
    return cudaPeekAtLastError();
}

/* Both operands as they are: the plain map. */
template <typename Op>
cudaError_t value(const dt_gpu *gpu, dt_dtype t, Op op, const dt_gpu_binary_args *x, cudaStream_t s) {
    const dt_space *p = &x->space;
    if (p->n == 1 && p->stride[DT_SPACE_A][0] && p->stride[DT_SPACE_B][0])
        return map(gpu, t, op, x->a, x->b, x->out, p->dim[0], s);
    return repeat(gpu, t, op, x, s);
}

} // namespace

int64_t dt_gpu_binary_bwd_bytes(const dt_gpu *gpu, const dt_space *space, int32_t operand) {
    const Cut c = cut_of(gpu, space, operand);
    return c.n_summed > 1 && c.n_chunk > 1 ? c.n_chunk * c.n_kept * (int64_t)sizeof(float) : 0;
}

cudaError_t dt_gpu_binary(const dt_gpu *gpu, dt_dtype t, const dt_gpu_binary_args *a, cudaStream_t s) {
    switch (a->function) {
#define CASE(NAME, name, value_, rx, gx, ry, gy)                                                             \
    case DT_BINARY_##NAME:                                                                                   \
        return value(gpu, t, name##_value{}, a, s);
        DT_BINARY_LIST(CASE)
#undef CASE
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t dt_gpu_binary_bwd(const dt_gpu *gpu, dt_dtype t, const dt_gpu_binary_args *a, cudaStream_t s) {
    switch (a->function) {
#define CASE(NAME, name, value_, rx, gx, ry, gy)                                                             \
    case DT_BINARY_##NAME:                                                                                   \
        return a->operand == 0 ? gradient(gpu, t, name##_x{}, a, s) : gradient(gpu, t, name##_y{}, a, s);
        DT_BINARY_LIST(CASE)
#undef CASE
    default:
        return cudaErrorInvalidValue;
    }
}
