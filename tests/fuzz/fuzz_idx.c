/* libFuzzer entry for a pair of IDX files, laid out as fuzz_targets.h says. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_idx(data, size);
    (void)ignored;
    return 0;
}
