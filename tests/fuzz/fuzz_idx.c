/* libFuzzer entry for a pair of IDX files (layout: fuzz_idx in fuzz_targets.h). With clang, from the
 * repository's root: cmake -S . -B build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
 * -DDT_FUZZ=ON cmake --build build-fuzz --target fuzz_idx && build-fuzz/tests/fuzz_idx */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_idx(data, size);
    (void)ignored;
    return 0;
}
