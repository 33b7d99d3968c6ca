/* libFuzzer entry for the body of an inference request: the first byte says how many of the others are JSON. */
#include <stdlib.h>
#include <string.h>

#include "infer_form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const dt_serve_io in[] = {{"x", DT_TENSOR_F32, 2, {-1, 3}}, {"k", DT_TENSOR_I64, 1, {-1}}},
                             out[] = {{"y", DT_TENSOR_F32, 1, {-1}}, {"z", DT_TENSOR_F16, 1, {-1}}};
    if (size == 0) return 0;
    const dt_serve_model_info m = {.name = "m",
                                   .format = "ONNX",
                                   .version = 1,
                                   .n_in = 1 + (data[0] & 1),
                                   .n_out = 2,
                                   .in = in,
                                   .out = out};
    const size_t n = size - 1;
    char *body = malloc(n + 1);
    if (!body) return 0;
    memcpy(body, data + 1, n);
    body[n] = '\0';
    dt_infer_form f;
    const int64_t json = data[0] < 128 ? -1 : (int64_t)(n * (data[0] - 128u) / 127);
    if (dt_infer_read(&m, body, n, json, &f) == DT_OK) dt_infer_form_free(&f);
    free(body);
    return 0;
}
