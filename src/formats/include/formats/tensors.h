/* Files of named tensors that other programs write: what is in one, whatever its format. The file is mapped, so
 * that a listing reads no weights; whatever it says of itself is checked when it is opened. */
#ifndef DT_FORMATS_TENSORS_H
#define DT_FORMATS_TENSORS_H

#include "core/status.h"
#include "core/types.h"
#include "formats/mapped.h"

/* Types of elements that such files have, more than dtrain computes with; safetensors' own order, then what
 * only ONNX has. */
typedef enum dt_tensor_type {
    DT_TENSOR_BOOL,
    DT_TENSOR_F4,
    DT_TENSOR_F6_E2M3,
    DT_TENSOR_F6_E3M2,
    DT_TENSOR_U8,
    DT_TENSOR_I8,
    DT_TENSOR_F8_E5M2,
    DT_TENSOR_F8_E4M3,
    DT_TENSOR_F8_E8M0,
    DT_TENSOR_F8_E5M2FNUZ,
    DT_TENSOR_F8_E4M3FNUZ,
    DT_TENSOR_I16,
    DT_TENSOR_U16,
    DT_TENSOR_F16,
    DT_TENSOR_BF16,
    DT_TENSOR_I32,
    DT_TENSOR_U32,
    DT_TENSOR_F32,
    DT_TENSOR_C64, /* two f32 */
    DT_TENSOR_F64,
    DT_TENSOR_I64,
    DT_TENSOR_U64,
    DT_SAFETENSORS_TYPES,                /* those before are all that safetensors has */
    DT_TENSOR_I4 = DT_SAFETENSORS_TYPES, /* these four one in a byte */
    DT_TENSOR_U4,
    DT_TENSOR_I2,
    DT_TENSOR_U2,
    DT_TENSOR_TYPES
} dt_tensor_type;

typedef struct dt_file_tensor {
    const char *name; /* UTF-8 without control characters */
    dt_tensor_type type;
    int32_t ndim; /* 0: one element */
    int64_t dim[DT_MAX_DIM];
    int64_t n_elem, n_bytes;
    const void *data; /* in no alignment */
} dt_file_tensor;

/* A text of the file about itself. */
typedef struct dt_tensor_note {
    const char *key, *value; /* UTF-8 */
} dt_tensor_note;

typedef struct dt_tensors {
    char *path;
    const char *format; /* "safetensors" */
    int64_t n;
    dt_file_tensor *tensor;       /* in the file's order */
    const dt_file_tensor **named; /* ascending by name */
    int64_t n_note;
    dt_tensor_note *note; /* ascending by key */
    int32_t n_file;
    dt_mapped_file *file; /* where the data are */
    struct dt_text_pool *text;
} dt_tensors;

/* Opens a file, told by its content, or an index of several (model.safetensors.index.json), or a directory with the
 * one or the other. DT_ERR_DATA with path and reason: no such file, damaged, or of a format that is not read. */
dt_status dt_tensors_open(const char *path, dt_tensors **out);
/* Whether the file begins as one of a format that is read here, or as such a one that is not read any more. */
bool dt_tensors_knows(const char *path);
void dt_tensors_close(dt_tensors *t); /* accepts NULL */
/* DT_ERR_DATA where a file that it lists became shorter: for who has read tensors of it. */
dt_status dt_tensors_check(const dt_tensors *t);

/* Writes tensors in the format that the name asks for: PyTorch's where it ends in .pt or .pth, which holds no notes, else
 * safetensors. Errors as of these. */
dt_status dt_tensors_write(const char *path, int64_t n, const dt_file_tensor *tensor, int64_t n_note,
                           const dt_tensor_note *note);
/* Whether it is the name of such a file: .safetensors, .pt, .pth. */
bool dt_tensors_is_name(const char *path);

/* NULL if absent. */
const dt_file_tensor *dt_tensors_find(const dt_tensors *t, const char *name);
const char *dt_tensors_note(const dt_tensors *t, const char *key);

/* "F32", "BF16": as safetensors calls it, "I4" and "U4" too. */
const char *dt_tensor_type_name(dt_tensor_type type);
/* DT_TENSOR_TYPES where safetensors has none of that name. */
dt_tensor_type dt_tensor_type_find(const char *name);
/* Whether it is one that weights have: F32, F64, F16 or BF16. */
bool dt_tensor_type_is_weight(dt_tensor_type type);
/* Elements and bytes of this shape; false where they are more than 2^63 - 1, or no whole bytes. */
bool dt_file_tensor_size(dt_tensor_type type, int32_t ndim, const int64_t *dim, int64_t *n_elem,
                         int64_t *n_bytes);

/* Its n_elem numbers, rounded to nearest. DT_ERR_DATA with the tensor's name: of a type that no weights have, or a number is not finite or too large. */
dt_status dt_file_tensor_read(const dt_file_tensor *t, float *out);

#endif
