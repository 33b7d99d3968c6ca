/* What readers of formats share: each fills a listing of a mapped file. Private to src/formats. */
#ifndef DT_FORMATS_READERS_H
#define DT_FORMATS_READERS_H

#include "formats/tensors.h"
#include "text_pool.h"

/* Maps a file, which stays so as long as t. */
dt_status dt_tensors_map(dt_tensors *t, const char *path, dt_mapped_file **out);
/* Sorts names and notes of a listing that is complete, and checks them. */
dt_status dt_tensors_index(dt_tensors *t);

/* A reader: whether the bytes look like its format, and appending what they hold to t. Errors say what is wrong where,
 * and the caller the path. */
typedef struct dt_tensor_reader {
    const char *format;
    bool (*knows)(const dt_mapped_file *f);
    dt_status (*read)(dt_tensors *t, const char *path, const dt_mapped_file *f);
} dt_tensor_reader;

bool dt_safetensors_knows(const dt_mapped_file *f);
dt_status dt_safetensors_read(dt_tensors *t, const char *path, const dt_mapped_file *f);
bool dt_safetensors_knows_index(const dt_mapped_file *f);
dt_status dt_safetensors_read_index(dt_tensors *t, const char *path, const dt_mapped_file *f);

bool dt_torch_knows(const dt_mapped_file *f);
dt_status dt_torch_read(dt_tensors *t, const char *path, const dt_mapped_file *f);
bool dt_torch_knows_old(const dt_mapped_file *f);
dt_status dt_torch_read_old(dt_tensors *t, const char *path, const dt_mapped_file *f);

/* A model whose initializers are listed; onnx_read.c and onnx_list.c. */
bool dt_onnx_knows_bytes(const dt_mapped_file *f);
dt_status dt_onnx_list_tensors(dt_tensors *t, const char *path, const dt_mapped_file *f);

#endif
