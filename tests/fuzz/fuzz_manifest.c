/* libFuzzer entry for the checkpoint manifest: the bytes as they are, and sealed with a right checksum, so
 * that the parser behind the checksum is reached. A manifest.json of any checkpoint is a good seed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "checkpoint_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char seal_begin[] = ",\n \"manifest_xxh3\": \"";
enum { SEAL_BYTES = sizeof seal_begin - 1 + 16 + sizeof "\"\n}\n" - 1 };

/* What is accepted must be written again and read back as the same. */
static void parse(const char *text, size_t bytes) {
    dt_ckpt_manifest m, back;
    char *again = NULL;
    if (dt_ckpt_manifest_parse(text, bytes, &m) == DT_OK) {
        DT_ASSERT(dt_ckpt_manifest_format(&m, &again) == DT_OK);
        DT_ASSERT(dt_ckpt_manifest_parse(again, strlen(again), &back) == DT_OK);
        DT_ASSERT(memcmp(&m.meta, &back.meta, sizeof m.meta) == 0 && m.n_tensor == back.n_tensor);
        dt_ckpt_manifest_clear(&back);
        free(again);
    }
    dt_ckpt_manifest_clear(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    parse((const char *)data, size);
    /* A seed that is sealed already loses its seal, and gets one that is right for its altered bytes. */
    size_t body =
        size > SEAL_BYTES && memcmp(data + size - SEAL_BYTES, seal_begin, sizeof seal_begin - 1) == 0
            ? size - SEAL_BYTES
            : size;
    char *text = malloc(body + SEAL_BYTES + 1);
    if (text == NULL) return 0;
    memcpy(text, data, body);
    int n = snprintf(text + body, SEAL_BYTES + 1, "%s%016llx\"\n}\n", seal_begin,
                     (unsigned long long)XXH3_64bits(text, body));
    DT_ASSERT(n == SEAL_BYTES);
    parse(text, body + SEAL_BYTES);
    free(text);
    return 0;
}
