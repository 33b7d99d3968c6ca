/* Files of tensors for the tests: written from a header's text, in a directory of the test's own. */
#ifndef DT_TEST_TENSOR_FILES_H
#define DT_TEST_TENSOR_FILES_H

#include "test_check.h"

#include <unistd.h>

#include "open_bytes.h"

static char scratch[] = "/tmp/dt_formats_XXXXXX";

static inline const char *in_scratch(const char *name) {
    static char path[2][4200];
    static int next;
    next = !next;
    snprintf(path[next], sizeof path[next], "%s/%s", scratch, name);
    return path[next];
}

static inline int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int remove_scratch(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

static inline void put_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A safetensors file of this header and so many bytes of data, 0, 1, 2, ... */
static inline void put_tensors(const char *path, const char *header, size_t header_bytes, size_t n_data) {
    const uint64_t length = header_bytes;
    uint8_t *bytes = check_alloc(8 + header_bytes + n_data);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < n_data; i++) bytes[8 + header_bytes + i] = (uint8_t)i;
    put_file(path, bytes, 8 + header_bytes + n_data);
    free(bytes);
}

#endif
