/* libFuzzer entry for networks of Keras and TensorFlow. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tensorflow/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    dt_onnx_model *m;
    const int fd = memfd_create("network", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (dt_network_read(path, &m) == DT_OK) dt_onnx_model_free(m);
    close(fd);
    return 0;
}
