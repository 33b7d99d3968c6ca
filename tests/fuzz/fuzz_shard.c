/* libFuzzer entry for a shard file. It is opened without an index.json, so what is found may be HDF5's own;
 * with one, no such file reaches HDF5. */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_shard(data, size);
    (void)ignored;
    return 0;
}
