/* libFuzzer entry for evaluating an ONNX model on the host; its inputs are numbers about 0, unknown dimensions 2. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "onnx/op.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BUDGET = 1 << 20, MAX_VALUES = 16 };

static void evaluate(const dt_onnx_model *m) {
    const dt_onnx_graph *g = &m->graph;
    dt_host_tensor in[MAX_VALUES], out[MAX_VALUES];
    void *memory[MAX_VALUES] = {NULL};
    dt_onnx_eval *e = NULL;
    if (g->n_in > MAX_VALUES || g->n_out > MAX_VALUES) return;
    for (int32_t i = 0; i < g->n_in; i++) {
        in[i] = (dt_host_tensor){.type = g->in[i].type < DT_TENSOR_TYPES ? g->in[i].type : DT_TENSOR_F32,
                                 .ndim = g->in[i].ndim < 0 ? 2 : g->in[i].ndim};
        for (int32_t d = 0; d < in[i].ndim; d++)
            in[i].dim[d] = g->in[i].ndim < 0 || g->in[i].dim[d] < 0 ? 2 : g->in[i].dim[d];
        if (dt_host_elem_bytes(in[i].type) == 0 || dt_host_bytes(&in[i]) > BUDGET) goto done;
        in[i].data = memory[i] = malloc((size_t)dt_host_bytes(&in[i]) + 1);
        if (!memory[i]) goto done;
        for (int64_t k = 0, n = dt_host_n_elem(&in[i]); k < n; k++)
            if (dt_host_is(&in[i], DT_HOST_ANY)) dt_host_put_i64(&in[i], k, k % 5 - 1);
    }
    if (dt_onnx_eval_create(m, BUDGET, &e) != DT_OK || dt_onnx_eval_run(e, in, out) != DT_OK) goto done;
    for (int32_t i = 0; i < g->n_out; i++) {
        int64_t sum = 0; /* every byte is there */
        for (int64_t k = 0, n = dt_host_bytes(&out[i]); k < n; k++) sum += ((const uint8_t *)out[i].data)[k];
        if (sum < 0) abort();
    }
done:
    dt_onnx_eval_destroy(e);
    for (int32_t i = 0; i < MAX_VALUES; i++) free(memory[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    dt_onnx_model *m;
    const int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (dt_onnx_read(path, &m) == DT_OK) {
        evaluate(m);
        dt_onnx_model_free(m);
    }
    close(fd);
    return 0;
}
