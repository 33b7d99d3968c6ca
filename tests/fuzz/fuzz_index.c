/* libFuzzer entry for the index.json of a data set. One of any data set is a good seed. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_index(data, size);
    (void)ignored;
    return 0;
}
