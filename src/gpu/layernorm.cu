/* Layer and RMS normalisation of rows and their gradients. A row is a warp's, a long one a block's; its second and
 * third reading come from the cache. Sums are of a fixed order. */
#include "column_sums.cuh"

namespace {
using namespace dt;

enum { LONG_ROW = 2048, BLOCKS_PER_SM = 2 };

/* V floats of a vector by column; NULL: all `otherwise`. */
template <int V>
__device__ __forceinline__ void load_floats(const float *p, int64_t at, float otherwise, float (&out)[V]) {
    constexpr int W = V % 4 == 0 ? 4 : 1;
#pragma unroll
    for (int j = 0; j < V; j += W) {
        Pack<float, W> part;
        if (p) part = load<float, W>(p + at + j);
#pragma unroll
        for (int k = 0; k < W; k++) out[j + k] = p ? part.v[k] : otherwise;
    }
}

template <typename T, int V, int GROUP, bool CENTRED>
__global__ void __launch_bounds__(THREADS)
    norm_kernel(const T *x, const float *gamma, const float *beta, T *y, float *rstd_out, float *mean_out,
                int64_t rows, int64_t c, float eps, bool length) {
    __shared__ float smem[WARPS];
    const int64_t row = (int64_t)blockIdx.x * (THREADS / GROUP) + threadIdx.x / GROUP;
    const int64_t first = threadIdx.x % GROUP * V;
    if (row >= rows) return; /* a whole warp; never part of a block's row */
    x += row * c, y += row * c;
    float mid = 0, s1 = 0, s2 = 0;
    if (CENTRED) {
        for (int64_t i = first; i < c; i += GROUP * V) {
            const Pack<T, V> p = load<T, V>(x + i);
#pragma unroll
            for (int j = 0; j < V; j++) mid += to_float(p.v[j]);
        }
        mid = group_reduce<GROUP>(mid, plus, smem) / (float)c;
    }
    for (int64_t i = first; i < c; i += GROUP * V) {
        const Pack<T, V> p = load<T, V>(x + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float d = to_float(p.v[j]) - mid;
            s1 += d;
            s2 = fmaf(d, d, s2);
        }
    }
    s2 = group_reduce<GROUP>(s2, plus, smem) / (float)c;
    /* The mean is mid + low: what fp32 cannot hold of it would show in rows far from 0. */
    const float low = CENTRED ? group_reduce<GROUP>(s1, plus, smem) / (float)c : 0.0f;
    const float var = s2 - low * low;
    float rstd = (float)(1.0 / sqrt((double)(var < 0.0f ? 0.0f : var) + eps));
    if (length) {
        const double of = sqrt((double)s2 * (double)c);
        rstd = (float)(1.0 / (of < eps ? (double)eps : of)); /* NaN stays */
    }
    if (first == 0) {
        rstd_out[row] = rstd;
        if (CENTRED) mean_out[row] = mid + low;
    }
    for (int64_t i = first; i < c; i += GROUP * V) {
        Pack<T, V> p = load<T, V>(x + i);
        float scale[V], shift[V];
        load_floats<V>(gamma, i, 1.0f, scale);
        load_floats<V>(beta, i, 0.0f, shift);
#pragma unroll
        for (int j = 0; j < V; j++)
            p.v[j] = from_float<T>(fmaf((to_float(p.v[j]) - mid - low) * rstd, scale[j], shift[j]));
        store<T, V>(y + i, p);
    }
}

/* What a pack of a row adds to the sums of d xh and of d, d = dy * gamma. */
template <typename T, int V>
__device__ __forceinline__ void add_sums(const Pack<T, V> &p, const Pack<T, V> &q, const float *gamma,
                                         int64_t at, float mean, float rstd, float &s1, float &s2) {
    float scale[V];
    load_floats<V>(gamma, at, 1.0f, scale);
#pragma unroll
    for (int j = 0; j < V; j++) {
        const float d = to_float(p.v[j]) * scale[j];
        s1 = fmaf(d, (to_float(q.v[j]) - mean) * rstd, s1);
        s2 += d;
    }
}

/* The sums over a row, to its threads. */
template <typename T, int V, int GROUP>
__device__ float2 back_sums(const T *dy, const T *x, const float *gamma, float mean, float rstd, int64_t c,
                            float *smem) {
    float s1 = 0, s2 = 0;
    for (int64_t i = threadIdx.x % GROUP * V; i < c; i += GROUP * V)
        add_sums<T, V>(load<T, V>(dy + i), load<T, V>(x + i), gamma, i, mean, rstd, s1, s2);
    s1 = group_reduce<GROUP>(s1, plus, smem);
    return make_float2(s1, group_reduce<GROUP>(s2, plus, smem));
}

/* Of rows too long for one block's columns: first their sums, [rows, 2]. A block a row. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) row_sums_kernel(dt_gpu_layernorm_bwd_args a, float2 *sums) {
    __shared__ float smem[WARPS];
    const int64_t row = blockIdx.x;
    const float2 s = back_sums<T, V, THREADS>((const T *)a.dy + row * a.c, (const T *)a.x + row * a.c,
                                              a.gamma, a.mean ? a.mean[row] : 0.0f, a.rstd[row], a.c, smem);
    if (threadIdx.x == 0) sums[row] = s;
}

/* Packs of a row that one thread has. */
template <int V, int GROUP> constexpr int PACKS = V == 1 ? 16 : V == 4 && GROUP == THREADS ? 8 : 4;

/* Blocks take rows in turn and keep the sums of their columns; a tile (gridDim.y) has GROUP * V * PACKS of them. With
 * several tiles the rows' sums are there already: another tile may have written over dy. partial
 * [gridDim.x][2][C]; NULL: no sums. */
template <typename T, int V, int GROUP>
__global__ void __launch_bounds__(THREADS)
    norm_bwd_kernel(dt_gpu_layernorm_bwd_args a, const float2 *row_sums, float *partial) {
    constexpr int N = PACKS<V, GROUP>;
    __shared__ float smem[WARPS], joined[GROUP == WARP ? WARPS * WARP * V : 1];
    const int64_t c = a.c, tile = (int64_t)blockIdx.y * GROUP * V * N;
    const int lane = threadIdx.x % GROUP, group = threadIdx.x / GROUP;
    float dgamma[N * V], dbeta[N * V];
#pragma unroll
    for (int j = 0; j < N * V; j++) dgamma[j] = dbeta[j] = 0.0f;
    for (int64_t row = (int64_t)blockIdx.x * (THREADS / GROUP) + group; row < a.rows;
         row += (int64_t)gridDim.x * (THREADS / GROUP)) {
        const T *dy = (const T *)a.dy + row * c, *x = (const T *)a.x + row * c;
        T *dx = (T *)a.dx + row * c;
        const float mean = a.mean ? a.mean[row] : 0.0f, rstd = a.rstd[row];
        Pack<T, V> p[N], q[N]; /* both are read once */
        float s1 = 0, s2 = 0;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const int64_t i = tile + ((int64_t)k * GROUP + lane) * V;
            if (i < c) p[k] = load<T, V>(dy + i), q[k] = load<T, V>(x + i);
        }
        if (row_sums) {
            s1 = row_sums[row].x, s2 = row_sums[row].y;
        } else {
#pragma unroll
            for (int k = 0; k < N; k++) {
                const int64_t i = ((int64_t)k * GROUP + lane) * V;
                if (i < c) add_sums<T, V>(p[k], q[k], a.gamma, i, mean, rstd, s1, s2);
            }
            s1 = group_reduce<GROUP>(s1, plus, smem);
            s2 = group_reduce<GROUP>(s2, plus, smem);
        }
        const bool bounded =
            a.length && rstd >= (float)(1.0 / (double)a.eps); /* eps took its length's place */
        const float m1 = a.length ? (bounded ? 0.0f : s1) : s1 / (float)c, m2 = a.mean ? s2 / (float)c : 0.0f;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const int64_t i = tile + ((int64_t)k * GROUP + lane) * V;
            if (i >= c) continue;
            float scale[V];
            Pack<T, V> more;
            load_floats<V>(a.gamma, i, 1.0f, scale);
            if (a.dx2) more = load<T, V>((const T *)a.dx2 + row * c + i);
#pragma unroll
            for (int j = 0; j < V; j++) {
                const float d = to_float(p[k].v[j]), xh = (to_float(q[k].v[j]) - mean) * rstd;
                dgamma[k * V + j] = fmaf(d, xh, dgamma[k * V + j]);
                dbeta[k * V + j] += d;
                const float own = rstd * (d * scale[j] - m2 - xh * m1);
                p[k].v[j] = from_float<T>(a.dx2 ? own + to_float(more.v[j]) : own);
            }
            store<T, V>(dx + i, p[k]);
        }
    }
    if (!partial) return;
    partial += (int64_t)blockIdx.x * 2 * c;
#pragma unroll
    for (int k = 0; k < N; k++)
#pragma unroll
        for (int which = 0; which < 2; which++) {
            const float *own = (which ? dbeta : dgamma) + k * V;
            const int64_t at = tile + (int64_t)k * GROUP * V;
            if (GROUP == THREADS) {
                if (at + lane * V >= c) continue;
#pragma unroll
                for (int j = 0; j < V; j++) partial[which * c + at + lane * V + j] = own[j];
                continue;
            }
            __syncthreads();
#pragma unroll
            for (int j = 0; j < V; j++) joined[(group * WARP + lane) * V + j] = own[j];
            __syncthreads();
            const int column = (int)threadIdx.x;
            if (column >= WARP * V || at + column >= c) continue;
            float sum = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) sum += joined[w * WARP * V + column];
            partial[which * c + at + column] = sum;
        }
}

/* Few rows: a block for each, which keeps its numbers, so that there are loads enough under way. */
enum { FEW_THREADS = 128, FEW_ROWS = 1024, FEW_PACKS = 2 };

__device__ __forceinline__ float block_sum(float v, float *smem) {
    for (int o = WARP / 2; o > 0; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
    if (threadIdx.x % WARP == 0) smem[threadIdx.x / WARP] = v;
    __syncthreads();
    v = 0;
#pragma unroll
    for (int w = 0; w < FEW_THREADS / WARP; w++) v += smem[w];
    return v;
}

template <typename T, int V>
__global__ void __launch_bounds__(FEW_THREADS)
    norm_few_kernel(const T *x, const float *gamma, const float *beta, T *y, float *rstd_out, float *mean_out,
                    int64_t c, float eps) {
    __shared__ float smem[2][FEW_THREADS / WARP];
    const int64_t row = blockIdx.x;
    float value[FEW_PACKS][V], scale[FEW_PACKS][V], shift[FEW_PACKS][V], sum = 0, squares = 0;
#pragma unroll
    for (int u = 0; u < FEW_PACKS; u++) {
        const int64_t i = ((int64_t)u * FEW_THREADS + threadIdx.x) * V;
        if (i >= c) continue;
        const Pack<T, V> p = load<T, V>(x + row * c + i);
        load_floats<V>(gamma, i, 1.0f, scale[u]);
        load_floats<V>(beta, i, 0.0f, shift[u]);
#pragma unroll
        for (int j = 0; j < V; j++) sum += value[u][j] = to_float(p.v[j]);
    }
    const float mean = block_sum(sum, smem[0]) / (float)c;
#pragma unroll
    for (int u = 0; u < FEW_PACKS; u++)
        if (((int64_t)u * FEW_THREADS + threadIdx.x) * V < c)
#pragma unroll
            for (int j = 0; j < V; j++) squares = fmaf(value[u][j] - mean, value[u][j] - mean, squares);
    const float rstd = 1.0f / sqrtf(block_sum(squares, smem[1]) / (float)c + eps);
    if (threadIdx.x == 0) rstd_out[row] = rstd, mean_out[row] = mean;
#pragma unroll
    for (int u = 0; u < FEW_PACKS; u++) {
        const int64_t i = ((int64_t)u * FEW_THREADS + threadIdx.x) * V;
        if (i >= c) continue;
        Pack<T, V> p;
#pragma unroll
        for (int j = 0; j < V; j++)
            p.v[j] = from_float<T>(fmaf((value[u][j] - mean) * rstd, scale[u][j], shift[u][j]));
        store<T, V>(y + row * c + i, p);
    }
}

template <typename T, int V, int GROUP> void launch(const dt_gpu_layernorm_args &a, cudaStream_t s) {
    if (V > 1 && sizeof(T) == 2 && a.mean && a.rows <= FEW_ROWS && a.c <= FEW_PACKS * FEW_THREADS * V) {
        norm_few_kernel<T, V><<<(unsigned)a.rows, FEW_THREADS, 0, s>>>((const T *)a.x, a.gamma, a.beta,
                                                                       (T *)a.y, a.rstd, a.mean, a.c, a.eps);
        return;
    }
    const unsigned grid = (unsigned)ceil_div(a.rows, THREADS / GROUP);
    if (a.mean)
        norm_kernel<T, V, GROUP, true><<<grid, THREADS, 0, s>>>((const T *)a.x, a.gamma, a.beta, (T *)a.y,
                                                                a.rstd, a.mean, a.rows, a.c, a.eps, false);
    else
        norm_kernel<T, V, GROUP, false><<<grid, THREADS, 0, s>>>(
            (const T *)a.x, a.gamma, a.beta, (T *)a.y, a.rstd, nullptr, a.rows, a.c, a.eps, a.length);
}

/* Blocks of the gradient: as many as run at once, not more than there is work for. */
int64_t splits_of(const dt_gpu *gpu, int64_t rows) {
    const int64_t most = (int64_t)gpu->sm_count * BLOCKS_PER_SM;
    return rows < most ? rows : most;
}

template <typename T, int V, int GROUP>
void launch_bwd(const dt_gpu *gpu, const dt_gpu_layernorm_bwd_args &a, cudaStream_t s) {
    constexpr int64_t columns = (int64_t)GROUP * V * PACKS<V, GROUP>;
    const int64_t tiles = ceil_div(a.c, columns), most = splits_of(gpu, a.rows),
                  work = ceil_div(a.rows, THREADS / GROUP), splits = work < most ? work : most;
    const bool sums = a.dgamma || a.dbeta;
    float2 *row_sums = nullptr;
    if (tiles > 1) {
        row_sums = (float2 *)a.workspace;
        row_sums_kernel<T, V><<<(unsigned)a.rows, THREADS, 0, s>>>(a, row_sums);
    }
    float *partial = sums ? a.workspace + 2 * a.rows : nullptr;
    norm_bwd_kernel<T, V, GROUP>
        <<<dim3((unsigned)splits, (unsigned)tiles), THREADS, 0, s>>>(a, row_sums, partial);
    if (sums) launch_column_final<T>(partial, splits, a.c, a.dgamma, a.dbeta, s);
}

} // namespace

cudaError_t dt_gpu_layernorm(dt_dtype t, const dt_gpu_layernorm_args *a, cudaStream_t s) {
    const bool al = aligned16(a->x) && aligned16(a->y) && aligned16(a->gamma) && aligned16(a->beta);
    DT_WITH_TYPE(t, {
        const bool wide = al && a->c % WIDE<T> == 0;
        if (wide && a->c > LONG_ROW)
            launch<T, WIDE<T>, THREADS>(*a, s);
        else if (wide)
            launch<T, WIDE<T>, WARP>(*a, s);
        else if (a->c > LONG_ROW)
            launch<T, 1, THREADS>(*a, s);
        else
            launch<T, 1, WARP>(*a, s);
    });
    return cudaPeekAtLastError();
}

int64_t dt_gpu_layernorm_bwd_bytes(const dt_gpu *gpu, int64_t rows, int64_t c) {
    return (rows + splits_of(gpu, rows) * c) * 2 * (int64_t)sizeof(float);
}

cudaError_t dt_gpu_layernorm_bwd(const dt_gpu *gpu, dt_dtype t, const dt_gpu_layernorm_bwd_args *a,
                                 cudaStream_t s) {
    const bool al =
        aligned16(a->dy) && aligned16(a->x) && aligned16(a->dx) && aligned16(a->gamma) && aligned16(a->dx2);
    DT_WITH_TYPE(t, {
        constexpr int W = WIDE<T>;
        const bool wide = al && a->c % W == 0;
        if (wide && a->c > WARP * W * PACKS<W, WARP>)
            launch_bwd<T, W, THREADS>(gpu, *a, s);
        else if (wide)
            launch_bwd<T, W, WARP>(gpu, *a, s);
        else if (a->c > WARP * PACKS<1, WARP>)
            launch_bwd<T, 1, THREADS>(gpu, *a, s);
        else
            launch_bwd<T, 1, WARP>(gpu, *a, s);
    });
    return cudaPeekAtLastError();
}
