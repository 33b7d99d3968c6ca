/* A CUDA backend for a test, or a skip that says so. */
#ifndef DT_TEST_GPU_TEST_H
#define DT_TEST_GPU_TEST_H

#include <stdio.h>

#include "cpu/cpu.h"
#include "gpu/cuda.h"
#include "op_cases.h"

typedef struct gpu_pair {
    dt_backend *gpu, *cpu; /* gpu NULL: there is none */
} gpu_pair;

static inline gpu_pair *gpu_the_pair(void) {
    static gpu_pair pair;
    return &pair;
}

static inline int gpu_pair_open(void **state) {
    gpu_pair *p = gpu_the_pair();
    *p = (gpu_pair){0};
    dt_backend_options o = {
        .local_world = 1, .deterministic = true, .cache_dir = getenv("DTRAIN_TEST_CACHE")};
    op_ok(dt_backend_cpu_create(&o, &p->cpu));
    if (dt_cuda_device_count() > 0) op_ok(dt_backend_cuda_create(&o, &p->gpu));
    (void)state; /* a group's would hide that of its tests */
    return 0;
}

static inline int gpu_pair_close(void **state) {
    (void)state;
    gpu_pair *p = gpu_the_pair();
    if (p->gpu) p->gpu->destroy(p->gpu);
    p->cpu->destroy(p->cpu);
    return 0;
}

#define GPU_OR_SKIP(pair)                                                                                    \
    do {                                                                                                     \
        if (!(pair)->gpu) skip();                                                                            \
    } while (0)

/* Runs the tests, or of them those that match the argument, with the pair as the state of those that have none; says so
 * when there was no GPU to run them on. */
static inline int gpu_test_run(const char *name, struct CMUnitTest *test, size_t n, int argc, char **argv) {
    for (size_t i = 0; i < n; i++)
        if (!test[i].initial_state) test[i].initial_state = gpu_the_pair();
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const int failed = _cmocka_run_group_tests(name, test, n, gpu_pair_open, gpu_pair_close);
    if (dt_cuda_device_count() == 0) puts("ALL TESTS SKIPPED: no GPU");
    return failed;
}

#define GPU_TEST_MAIN(name, tests)                                                                           \
    int main(int argc, char **argv) {                                                                        \
        return gpu_test_run(name, tests, sizeof tests / sizeof *tests, argc, argv);                          \
    }

/* Error allowed against the fp32 oracle on inputs rounded to the dtype: a few roundings of the result. */
static inline double gpu_tolerance(dt_dtype t) {
    return t == DT_DTYPE_F32 ? 1e-5 : t == DT_DTYPE_F16 ? 1.5e-3 : 1.2e-2;
}

#endif
