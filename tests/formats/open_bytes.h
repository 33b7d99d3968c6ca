/* What a fuzzer and the short deterministic runs of the tests do with bytes. */
#ifndef DT_TEST_OPEN_BYTES_H
#define DT_TEST_OPEN_BYTES_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "formats/tensors.h"

static inline uint8_t *put_le(uint8_t *to, uint64_t v, int n) {
    for (int i = 0; i < n; i++) *to++ = (uint8_t)(v >> 8 * i);
    return to;
}

/* A zip file as torch.save makes it: a/data.pkl with this pickle, a/data/0 with 64 bytes, 0 to 63. `room` has n + 512 bytes;
 * returns how many it takes. */
static inline size_t zip_of_pickle(const uint8_t *pickle, size_t n, uint8_t *room) {
    static const char *const name[] = {"a/data.pkl", "a/data/0"};
    uint8_t storage[64], *to = room;
    size_t offset[2];
    for (int i = 0; i < 64; i++) storage[i] = (uint8_t)i;
    const uint8_t *const data[] = {pickle, storage};
    const size_t size[] = {n, sizeof storage};
    for (int i = 0; i < 2; i++) {
        const size_t n_name = strlen(name[i]);
        offset[i] = (size_t)(to - room);
        to = put_le(put_le(put_le(to, 0x04034b50, 4), 0, 10), 0, 4); /* version, flags, method, time, crc */
        to = put_le(put_le(put_le(put_le(to, size[i], 4), size[i], 4), n_name, 2), 0, 2);
        memcpy(to, name[i], n_name), to += n_name;
        if (size[i] > 0) memcpy(to, data[i], size[i]);
        to += size[i];
    }
    const size_t directory = (size_t)(to - room);
    for (int i = 0; i < 2; i++) {
        const size_t n_name = strlen(name[i]);
        to = put_le(put_le(put_le(to, 0x02014b50, 4), 0, 8), 0, 8);
        to = put_le(put_le(put_le(to, size[i], 4), size[i], 4), n_name, 2);
        to = put_le(put_le(put_le(to, 0, 8), 0, 4), offset[i], 4);
        memcpy(to, name[i], n_name), to += n_name;
    }
    const size_t bytes = (size_t)(to - room) - directory;
    to = put_le(put_le(put_le(put_le(to, 0x06054b50, 4), 0, 4), 2, 2), 2, 2);
    to = put_le(put_le(put_le(to, bytes, 4), directory, 4), 0, 2);
    return (size_t)(to - room);
}

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
