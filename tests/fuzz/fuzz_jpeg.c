/* libFuzzer entry for a JPEG or PNG file. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_image(data, size);
    (void)ignored;
    return 0;
}
