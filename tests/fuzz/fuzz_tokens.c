/* libFuzzer entry for a shard of tokens. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_tokens(data, size);
    (void)ignored;
    return 0;
}
