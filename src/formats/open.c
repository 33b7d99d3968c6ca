/* Which format a file is of. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/safetensors.h"
#include "formats/torch.h"
#include "readers.h"

static const dt_tensor_reader reader_table[] = {
    {"safetensors", dt_safetensors_knows, dt_safetensors_read},
    {"PyTorch", dt_torch_knows, dt_torch_read},
    {"PyTorch", dt_torch_knows_old, dt_torch_read_old},
    {"ONNX", dt_onnx_knows_bytes, dt_onnx_list_tensors},
    {"safetensors", dt_safetensors_knows_index, dt_safetensors_read_index},
};
enum { N_READER = sizeof reader_table / sizeof reader_table[0] };

static size_t reader_of(const dt_mapped_file *f) {
    size_t k = 0;
    while (k < N_READER && !reader_table[k].knows(f)) k++;
    return k;
}

static dt_status read_file(dt_tensors *t, const char *path) {
    dt_mapped_file *mapped;
    DT_TRY(dt_tensors_map(t, path, &mapped));
    const dt_mapped_file f = *mapped; /* the list may move */
    const size_t k = reader_of(&f);
    if (k == N_READER)
        return dt_fail(DT_ERR_DATA, "of no format that is read here: safetensors, an index of such files, an "
                                    "ONNX model, or what torch.save writes of a state_dict");
    t->format = reader_table[k].format;
    DT_TRY(reader_table[k].read(t, path, &f));
    return dt_tensors_index(t);
}

/* What a directory of a network holds by custom. */
static dt_status find_inside(const char *dir, char path[PATH_MAX]) {
    static const char *const name[] = {"model.safetensors.index.json", "model.safetensors"};
    struct stat st;
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        const int n = snprintf(path, PATH_MAX, "%s/%s", dir, name[i]);
        if (n > 0 && n < PATH_MAX && stat(path, &st) == 0) return DT_OK;
    }
    return dt_fail(DT_ERR_DATA, "%s: a directory without model.safetensors in it", dir);
}

dt_status dt_tensors_open(const char *path, dt_tensors **out) {
    char inside[PATH_MAX];
    struct stat st;
    *out = NULL;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        DT_TRY(find_inside(path, inside));
        path = inside;
    }
    dt_tensors *t = calloc(1, sizeof *t);
    if (t) t->path = strdup(path);
    dt_status status = t && t->path ? read_file(t, path) : dt_fail(DT_ERR_MEMORY, "no memory to open it");
    if (status != DT_OK) dt_error_context("%s", path);
    if (t && dt_tensors_check(t) != DT_OK) status = DT_ERR_DATA; /* what was read may be what is missing */
    if (status == DT_OK)
        *out = t;
    else
        dt_tensors_close(t);
    return status;
}

bool dt_tensors_knows(const char *path) {
    dt_mapped_file f = {.byte = NULL};
    const bool known = dt_file_map(path, &f) == DT_OK && reader_of(&f) < N_READER;
    dt_file_unmap(&f);
    return known;
}

static bool ends_in(const char *text, const char *tail) {
    const size_t n = strlen(text), m = strlen(tail);
    return n > m && strcmp(text + n - m, tail) == 0;
}

static bool is_torch_name(const char *path) {
    return ends_in(path, ".pt") || ends_in(path, ".pth");
}

bool dt_tensors_is_name(const char *path) {
    return ends_in(path, ".safetensors") || is_torch_name(path);
}

dt_status dt_tensors_write(const char *path, int64_t n, const dt_file_tensor *tensor, int64_t n_note,
                           const dt_tensor_note *note) {
    return is_torch_name(path) ? dt_torch_write(path, n, tensor)
                               : dt_safetensors_write(path, n, tensor, n_note, note);
}
