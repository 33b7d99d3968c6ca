/* libFuzzer entry for SavedModels: a first byte of 0 or 1, then saved_model.pb as it is, or the entries of a table of
 * variables; the other files are those of tests/golden. A first byte of 2: the table's own index too, behind the length of
 * the entries. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>

#include "../tensorflow/table.h"
#include "tensorflow/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];

static void put(const char *name, const void *bytes, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) abort();
}

static void copy(const char *name) {
    static char bytes[1 << 20];
    char from[512];
    snprintf(from, sizeof from, DT_GOLDEN_SAVED "/%s", name);
    FILE *f = fopen(from, "rb");
    if (!f) abort();
    put(name, bytes, fread(bytes, 1, sizeof bytes, f));
    fclose(f);
}

static void copy_all(void) {
    copy("saved_model.pb");
    copy("variables/variables.index");
    copy("variables/variables.data-00000-of-00001");
}

static void begin(void) {
    char path[128];
    snprintf(dir, sizeof dir, "/dev/shm/dt_fuzz_%d", (int)getpid());
    snprintf(path, sizeof path, "%s/variables", dir);
    if (mkdir(dir, 0700) != 0 || mkdir(path, 0700) != 0) abort();
    copy_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int last = -1;
    dt_onnx_model *m;
    if (size < 4 || data[0] > 2) return 0;
    if (last < 0) begin();
    if (last != data[0] && last >= 0) copy_all();
    last = data[0];
    if (last == 0) {
        put("saved_model.pb", data + 1, size - 1);
    } else {
        uint8_t *table = malloc(size + TABLE_MORE);
        size_t n_entries = last == 1 ? size - 1 : ((size_t)data[1] | (size_t)data[2] << 8) % (size - 2);
        if (!table) return 0;
        const size_t n =
            last == 1 ? table_of(data + 1, n_entries, NULL, 0, 1, table)
                      : table_of(data + 3, n_entries, data + 3 + n_entries, size - 3 - n_entries, 0, table);
        put("variables/variables.index", table, n);
        free(table);
    }
    if (dt_network_read(dir, &m) == DT_OK) dt_onnx_model_free(m);
    return 0;
}
