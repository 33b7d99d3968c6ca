/* libFuzzer entry for a JPEG or PNG file. With clang, from the repository's root:
 *   clang -std=gnu11 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -Isrc/core/include -Isrc/data/include \
 *     -Isrc/data -Itests/data $(pkg-config --cflags hdf5-serial) tests/fuzz/fuzz_jpeg.c src/data/*.c src/core/*.c \
 *     -x c++ src/core/toml_shim.cpp -lstdc++ $(pkg-config --libs hdf5-serial) -ljpeg -lpng -lz -ljansson -lxxhash -lm \
 *     -o fuzz_jpeg */
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_status ignored = fuzz_image(data, size);
    (void)ignored;
    return 0;
}
