/* libFuzzer entry for a file of questions. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_choices(data, size);
    (void)ignored;
    return 0;
}
