/* Times the CPU convolutions layer by layer: ms and GFLOP/s of forward, dgrad and wgrad (minimum of some
 * runs), and their sum over the convolutions of one training step. Usage: cpu_conv [threads] [runs]
 * [resnet18|quickstart] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels_conv.h"

typedef struct layer {
    const char *net;
    int64_t n, h, c, k, r, stride, times;
} layer;

static const layer layer_table[] = {
    {"resnet18", 128, 32, 3, 64, 3, 1, 1},    {"resnet18", 128, 32, 64, 64, 3, 1, 4},
    {"resnet18", 128, 32, 64, 128, 3, 2, 1},  {"resnet18", 128, 32, 64, 128, 1, 2, 1},
    {"resnet18", 128, 16, 128, 128, 3, 1, 3}, {"resnet18", 128, 16, 128, 256, 3, 2, 1},
    {"resnet18", 128, 16, 128, 256, 1, 2, 1}, {"resnet18", 128, 8, 256, 256, 3, 1, 3},
    {"resnet18", 128, 8, 256, 512, 3, 2, 1},  {"resnet18", 128, 8, 256, 512, 1, 2, 1},
    {"resnet18", 128, 4, 512, 512, 3, 1, 3},  {"quickstart", 128, 28, 1, 32, 3, 1, 1},
    {"quickstart", 128, 28, 32, 32, 3, 2, 1}, {"quickstart", 128, 14, 32, 64, 3, 1, 1},
    {"quickstart", 128, 14, 64, 64, 3, 2, 1}, {"quickstart", 128, 7, 64, 128, 3, 1, 1},
};

static const char *const kind_name[] = {"fwd", "dgrad", "wgrad"};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Memory in huge pages, as the backend's arenas. */
static float *arena(int64_t n_elem) {
    const size_t page = 2 << 20, bytes = ((size_t)n_elem * sizeof(float) + page) / page * page;
    float *v = aligned_alloc(page, bytes);
    if (!v) return NULL;
    (void)madvise(v, bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < bytes / sizeof *v; i++) v[i] = (float)(i * 2654435761u % 1000) * 1e-3f - 0.5f;
    return v;
}

/* Minimum seconds of one convolution; negative: no memory or no plan. */
static double time_conv(const dt_conv_dims *d, dt_cpu_conv_kind kind, int32_t threads, int runs,
                        int64_t *workspace) {
    const int64_t nx = d->n * d->h * d->w * d->c, nw = d->k * d->r * d->s * d->c,
                  ny = d->n * d->p * d->q * d->k;
    const int64_t n_out[] = {ny, nx, nw};
    dt_cpu_conv_plan plan;
    if (dt_cpu_conv_plan_make(d, kind, false, threads, &plan) != DT_OK) return -1;
    *workspace = plan.workspace_bytes;
    float *x = arena(nx), *w = arena(nw), *dy = arena(ny), *out = arena(n_out[kind]);
    float *work = arena(plan.workspace_bytes / (int64_t)sizeof(float) + 1);
    double best = -1;
    for (int i = 0; x && w && dy && out && work && i <= runs; i++) {
        const double start = now();
        dt_cpu_conv_run(&plan, &(dt_cpu_conv_args){.x = x, .w = w, .dy = dy, .out = out, .workspace = work});
        const double took = now() - start;
        if (i && (best < 0 || took < best)) best = took;
    }
    free(x);
    free(w);
    free(dy);
    free(out);
    free(work);
    return best;
}

int main(int argc, char **argv) {
    const int32_t threads = argc > 1 ? atoi(argv[1]) : 2;
    const int runs = argc > 2 ? atoi(argv[2]) : 5;
    double sum[2][3] = {{0}};
    if (threads < 1 || runs < 1) {
        fprintf(stderr, "usage: cpu_conv [threads] [runs] [resnet18|quickstart]\n");
        return 2;
    }
    printf("isa %s, %d threads\n", dt_cpu_conv_isa(), threads);
    for (size_t i = 0; i < sizeof layer_table / sizeof *layer_table; i++) {
        const layer *l = &layer_table[i];
        if (argc > 3 && strcmp(argv[3], l->net) != 0) continue;
        dt_conv_dims d = {.n = l->n,
                          .h = l->h,
                          .w = l->h,
                          .c = l->c,
                          .k = l->k,
                          .r = l->r,
                          .s = l->r,
                          .groups = 1,
                          .stride_h = l->stride,
                          .stride_w = l->stride,
                          .pad_h = l->r / 2,
                          .pad_w = l->r / 2,
                          .dil_h = 1,
                          .dil_w = 1};
        d.p = d.q = (l->h + 2 * d.pad_h - l->r) / l->stride + 1;
        const double flops = 2.0 * (double)(d.n * d.p * d.q * d.k * d.c * d.r * d.s);
        printf("%-10s %3ldx%-3ld %ldx%ld/%ld %3ld->%-3ld x%ld |", l->net, (long)l->h, (long)l->h, (long)l->r,
               (long)l->r, (long)l->stride, (long)l->c, (long)l->k, (long)l->times);
        for (int kind = 0; kind < 3; kind++) {
            int64_t workspace = 0;
            const double took = time_conv(&d, (dt_cpu_conv_kind)kind, threads, runs, &workspace);
            if (took < 0) {
                fprintf(stderr, "no memory or no plan\n");
                return 1;
            }
            const bool needed = l->c > 3 || kind != DT_CPU_CONV_DGRAD; /* no gradient of the image */
            sum[strcmp(l->net, "resnet18") == 0][kind] += needed ? took * (double)l->times : 0;
            printf(" %s %7.2f ms %4.0f GFLOP/s %5.1f MB |", kind_name[kind], took * 1e3, flops / took * 1e-9,
                   (double)workspace * 1e-6);
        }
        printf("\n");
        fflush(stdout);
    }
    for (int net = 0; net < 2; net++) {
        if (sum[net][0] > 0)
            printf("%s: fwd %.1f dgrad %.1f wgrad %.1f, together %.1f ms a step\n",
                   net ? "resnet18" : "quickstart", sum[net][0] * 1e3, sum[net][1] * 1e3, sum[net][2] * 1e3,
                   (sum[net][0] + sum[net][1] + sum[net][2]) * 1e3);
    }
    return 0;
}
