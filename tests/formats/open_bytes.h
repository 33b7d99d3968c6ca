/* What a fuzzer and the short deterministic runs of the tests do with bytes. */
#ifndef DT_TEST_OPEN_BYTES_H
#define DT_TEST_OPEN_BYTES_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "formats/tensors.h"

/* Opens bytes as a file of tensors, as a fuzzer does: whatever they are, it returns. */
static inline dt_status open_bytes(const uint8_t *bytes, size_t n) {
    char path[64];
    dt_tensors *t;
    const int fd = memfd_create("tensors", MFD_CLOEXEC);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n) return DT_ERR_IO;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const dt_status st = dt_tensors_open(path, &t);
    for (int64_t i = 0; st == DT_OK && i < t->n; i++) {
        float *number = malloc((size_t)t->tensor[i].n_elem * sizeof *number + 1);
        if (number && dt_file_tensor_read(&t->tensor[i], number) != DT_OK) (void)dt_error_text();
        free(number);
        if (dt_tensors_find(t, t->tensor[i].name) != &t->tensor[i]) abort();
    }
    dt_tensors_close(t);
    close(fd);
    return st;
}

#endif
