/* libFuzzer entry for a state_dict of PyTorch: a zip file and the form before 1.6 as they are, all else as the pickle
 * within a zip file. */
#include "../formats/open_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *zip = malloc(size + 512);
    const bool whole = size > 3 && (memcmp(data, "PK", 2) == 0 || memcmp(data, "\x80\x02\x8a\n", 4) == 0);
    if (!zip) return 0;
    const size_t n = whole ? size : zip_of_pickle(data, size, zip);
    dt_status ignored = open_bytes(whole ? data : zip, n);
    (void)ignored;
    free(zip);
    return 0;
}
