/* libFuzzer entry for the configuration parser: the first line of an input is an override, the rest the
 * file. */
#include "train/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    char *file = strchr(text, '\n');
    if (file) *file++ = '\0';
    const char *override = text;
    dt_config c, back;
    if (dt_config_parse(&c, "fuzz.toml", file ? file : text, file && *text ? 1 : 0, &override) == DT_OK) {
        char *written = NULL;
        DT_ASSERT(dt_config_to_text(&c, &written) == DT_OK);
        DT_ASSERT(dt_config_parse(&back, "fuzz.toml", written, 0, NULL) == DT_OK);
        DT_ASSERT(dt_config_hash_all(&c) == dt_config_hash_all(&back));
        dt_config_fini(&back);
        free(written);
    }
    dt_config_fini(&c);
    free(text);
    return 0;
}
