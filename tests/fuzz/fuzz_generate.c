/* libFuzzer entry for the body of a request for a text. */
#include <stdlib.h>
#include <string.h>

#include "generate_form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dt_generate_form f;
    char *body = malloc(size + 1);
    if (!body) return 0;
    memcpy(body, data, size);
    body[size] = '\0';
    if (dt_generate_read(body, size, &f) == DT_OK) dt_generate_form_free(&f);
    free(body);
    return 0;
}
