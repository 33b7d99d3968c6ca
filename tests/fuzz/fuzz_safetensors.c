/* libFuzzer entry for a file of tensors. */
#include "../formats/open_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = open_bytes(data, size);
    (void)ignored;
    return 0;
}
