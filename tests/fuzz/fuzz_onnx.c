/* libFuzzer entry for an ONNX model, as a model and as a file of tensors. */
#include "../formats/open_bytes.h"
#include "formats/onnx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    dt_onnx_model *m;
    dt_status ignored = open_bytes(data, size);
    const int fd = memfd_create("model", MFD_CLOEXEC);
    (void)ignored;
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (dt_onnx_read(path, &m) == DT_OK) {
        int64_t sum = 0;
        for (int32_t i = 0; i < m->graph.n_constant; i++)
            for (int64_t k = 0; k < m->graph.constant[i].n_bytes; k++)
                sum += ((const uint8_t *)m->graph.constant[i].data)[k];
        if (sum < 0) abort();
        dt_onnx_model_free(m);
    }
    close(fd);
    return 0;
}
