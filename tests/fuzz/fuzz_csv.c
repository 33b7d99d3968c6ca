/* libFuzzer entry for a CSV file of numbers. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_csv(data, size);
    (void)ignored;
    return 0;
}
