/* libFuzzer entry for a state_dict of PyTorch: a zip file as it is, all else as the pickle within one. */
#include "../formats/open_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *zip = malloc(size + 512);
    const bool whole = size > 2 && data[0] == 'P' && data[1] == 'K';
    if (!zip) return 0;
    const size_t n = whole ? size : zip_of_pickle(data, size, zip);
    dt_status ignored = open_bytes(whole ? data : zip, n);
    (void)ignored;
    free(zip);
    return 0;
}
