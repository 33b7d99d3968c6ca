/* libFuzzer entry for text that becomes tokens and text again. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_encode(data, size);
    (void)ignored;
    return 0;
}
