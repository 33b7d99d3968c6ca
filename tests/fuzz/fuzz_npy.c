/* libFuzzer entry for a .npy file. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_npy(data, size);
    (void)ignored;
    return 0;
}
