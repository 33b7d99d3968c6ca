#include "tensorflow/network.h"

#include <sys/stat.h>

#include "tensorflow/tensorflow.h"

static const struct {
    bool (*knows)(const char *path);
    dt_status (*read)(const char *path, dt_onnx_model **out);
} reader_table[] = {
    {dt_onnx_knows, dt_onnx_read},
    {dt_keras_knows, dt_keras_read},
    {dt_saved_model_knows, dt_saved_model_read},
};
enum { N_READER = sizeof reader_table / sizeof reader_table[0] };

static int reader_of(const char *path) {
    int i = 0;
    while (i < N_READER && !reader_table[i].knows(path)) i++;
    return i;
}

bool dt_network_knows(const char *path) {
    return reader_of(path) < N_READER;
}

dt_status dt_network_read(const char *path, dt_onnx_model **out) {
    const int i = reader_of(path);
    dt_mapped_file f = {.byte = NULL};
    if (i < N_READER) return reader_table[i].read(path, out);
    *out = NULL;
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return dt_fail(DT_ERR_DATA, "%s: a directory without saved_model.pb in it", path);
    if (dt_file_map(path, &f) != DT_OK) {
        dt_error_context("%s", path);
        return DT_ERR_DATA;
    }
    dt_file_unmap(&f);
    return dt_fail(
        DT_ERR_DATA, "%s: %s", path,
        dt_tensors_knows(path)
            ? "it has weights, but no network: begin one of that kind with them (model.init_from)"
            : "no network that is read here: ONNX, Keras (.keras, .h5), a SavedModel, a frozen GraphDef; or "
              "it is damaged");
}

dt_status dt_network_tensors(const char *path, dt_tensors **out) {
    dt_onnx_model *m;
    if (dt_onnx_knows(path) || !dt_network_knows(path)) return dt_tensors_open(path, out);
    DT_TRY(dt_network_read(path, &m));
    return dt_tensors_of_model(m, out);
}
