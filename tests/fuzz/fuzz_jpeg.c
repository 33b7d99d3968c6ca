/* libFuzzer entry for a JPEG or PNG file. With clang, from the repository's root:
 *   cmake -S . -B build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DDT_CUDA=OFF \
 *     -DDT_WERROR=OFF -DDT_SANITIZE=fuzzer-no-link,address,undefined
 *   cmake --build build-fuzz --target dt_data
 *   clang -g -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -Isrc/core/include -Isrc/data/include -Isrc/data \
 *     -Itests/data $(pkg-config --cflags hdf5-serial) tests/fuzz/fuzz_jpeg.c build-fuzz/src/data/libdt_data.a \
 *     build-fuzz/src/core/libdt_core.a $(pkg-config --libs hdf5-serial libxxhash jansson libjpeg libpng zlib) \
 *     -lstdc++ -lm -o fuzz_jpeg */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_image(data, size);
    (void)ignored;
    return 0;
}
