/* What all formats share: types, sizes, the sorted listing, reading numbers. */
#include "formats/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "readers.h"

typedef struct type_row {
    const char *name;
    int32_t bits;
    bool weights; /* can be read as fp32 */
} type_row;

static const type_row type_table[DT_TENSOR_TYPES] = {
    [DT_TENSOR_BOOL] = {"BOOL", 8},
    [DT_TENSOR_F4] = {"F4", 4},
    [DT_TENSOR_F6_E2M3] = {"F6_E2M3", 6},
    [DT_TENSOR_F6_E3M2] = {"F6_E3M2", 6},
    [DT_TENSOR_U8] = {"U8", 8},
    [DT_TENSOR_I8] = {"I8", 8},
    [DT_TENSOR_F8_E5M2] = {"F8_E5M2", 8},
    [DT_TENSOR_F8_E4M3] = {"F8_E4M3", 8},
    [DT_TENSOR_F8_E8M0] = {"F8_E8M0", 8},
    [DT_TENSOR_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
    [DT_TENSOR_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [DT_TENSOR_I16] = {"I16", 16},
    [DT_TENSOR_U16] = {"U16", 16},
    [DT_TENSOR_F16] = {"F16", 16, true},
    [DT_TENSOR_BF16] = {"BF16", 16, true},
    [DT_TENSOR_I32] = {"I32", 32},
    [DT_TENSOR_U32] = {"U32", 32},
    [DT_TENSOR_F32] = {"F32", 32, true},
    [DT_TENSOR_C64] = {"C64", 64},
    [DT_TENSOR_F64] = {"F64", 64, true},
    [DT_TENSOR_I64] = {"I64", 64},
    [DT_TENSOR_U64] = {"U64", 64},
    [DT_TENSOR_I4] = {"I4", 8},
    [DT_TENSOR_U4] = {"U4", 8},
    [DT_TENSOR_I2] = {"I2", 8},
    [DT_TENSOR_U2] = {"U2", 8},
};

const char *dt_tensor_type_name(dt_tensor_type type) {
    return type_table[type].name;
}

dt_tensor_type dt_tensor_type_find(const char *name) {
    int k = 0;
    while (k < DT_SAFETENSORS_TYPES && strcmp(type_table[k].name, name) != 0) k++;
    return k < DT_SAFETENSORS_TYPES ? (dt_tensor_type)k : DT_TENSOR_TYPES;
}

bool dt_tensor_type_is_weight(dt_tensor_type type) {
    return type_table[type].weights;
}

bool dt_file_tensor_size(dt_tensor_type type, int32_t ndim, const int64_t *dim, int64_t *n_elem,
                         int64_t *n_bytes) {
    int64_t n = 1, bits;
    for (int32_t d = 0; d < ndim; d++)
        if (dim[d] < 0 || __builtin_mul_overflow(n, dim[d], &n)) return false;
    if (__builtin_mul_overflow(n, type_table[type].bits, &bits) || bits % 8 != 0) return false;
    *n_elem = n, *n_bytes = bits / 8;
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const dt_file_tensor *const *)a)->name, (*(const dt_file_tensor *const *)b)->name);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const dt_tensor_note *)a)->key, ((const dt_tensor_note *)b)->key);
}

/* Control characters: names stand in messages, and those would speak to a terminal. */
static bool speaks(const char *name) {
    for (const uint8_t *c = (const uint8_t *)name; *c; c++)
        if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0)) return true;
    return false;
}

dt_status dt_tensors_index(dt_tensors *t) {
    t->named = calloc((size_t)t->n + 1, sizeof *t->named);
    if (!t->named) return dt_fail(DT_ERR_MEMORY, "no memory for a list of %lld tensors", (long long)t->n);
    for (int64_t i = 0; i < t->n; i++) {
        t->named[i] = &t->tensor[i];
        if (speaks(t->tensor[i].name))
            return dt_fail(DT_ERR_DATA, "the name of tensor %lld has a control character in it",
                           (long long)i);
    }
    qsort(t->named, (size_t)t->n, sizeof *t->named, by_name);
    for (int64_t i = 1; i < t->n; i++)
        if (strcmp(t->named[i]->name, t->named[i - 1]->name) == 0)
            return dt_fail(DT_ERR_DATA, "two tensors are called %.200s", t->named[i]->name);
    qsort(t->note, (size_t)t->n_note, sizeof *t->note, by_key);
    for (int64_t i = 1; i < t->n_note; i++)
        if (strcmp(t->note[i].key, t->note[i - 1].key) == 0)
            return dt_fail(DT_ERR_DATA, "two notes have the same key");
    return DT_OK;
}

const dt_file_tensor *dt_tensors_find(const dt_tensors *t, const char *name) {
    const dt_file_tensor key = {.name = name}, *at = &key;
    const dt_file_tensor **found = bsearch(&at, t->named, (size_t)t->n, sizeof *t->named, by_name);
    return found ? *found : NULL;
}

const char *dt_tensors_note(const dt_tensors *t, const char *key) {
    const dt_tensor_note at = {.key = key},
                         *found = bsearch(&at, t->note, (size_t)t->n_note, sizeof *t->note, by_key);
    return found ? found->value : NULL;
}

dt_status dt_tensors_map(dt_tensors *t, const char *path, dt_mapped_file **out) {
    dt_mapped_file *file = realloc(t->file, ((size_t)t->n_file + 1) * sizeof *file);
    if (!file) return dt_fail(DT_ERR_MEMORY, "no memory to open it");
    t->file = file;
    DT_TRY(dt_file_map(path, &file[t->n_file]));
    *out = &file[t->n_file++];
    return DT_OK;
}

dt_status dt_tensors_check(const dt_tensors *t) {
    for (int32_t i = 0; i < t->n_file; i++) DT_TRY(dt_file_check(&t->file[i]));
    return DT_OK;
}

void dt_tensors_close(dt_tensors *t) {
    if (!t) return;
    for (int32_t i = 0; i < t->n_file; i++) dt_file_unmap(&t->file[i]);
    dt_text_pool_free(t->text);
    free(t->file), free(t->note), free(t->named), free(t->tensor), free(t->path);
    free(t);
}

/* n numbers at `from`, of any alignment. */
static void widen(dt_tensor_type type, const uint8_t *from, int64_t n, float *out) {
    uint16_t half;
    double wide;
    for (int64_t i = 0; type == DT_TENSOR_F64 && i < n; i++) {
        memcpy(&wide, from + 8 * i, 8);
        out[i] = (float)wide;
    }
    for (int64_t i = 0; type == DT_TENSOR_F16 && i < n; i++) {
        memcpy(&half, from + 2 * i, 2);
        out[i] = dt_f16_to_f32(half);
    }
    for (int64_t i = 0; type == DT_TENSOR_BF16 && i < n; i++) {
        memcpy(&half, from + 2 * i, 2);
        out[i] = dt_bf16_to_f32(half);
    }
    if (type == DT_TENSOR_F32) memcpy(out, from, (size_t)n * sizeof *out);
}

dt_status dt_file_tensor_read(const dt_file_tensor *t, float *out) {
    if (!dt_tensor_type_is_weight(t->type))
        return dt_fail(DT_ERR_DATA, "%.200s is of type %s: weights are F32, F64, F16 or BF16", t->name,
                       dt_tensor_type_name(t->type));
    widen(t->type, t->data, t->n_elem, out);
    for (int64_t i = 0; i < t->n_elem; i++)
        if (!isfinite(out[i]))
            return dt_fail(DT_ERR_DATA, "%.200s: element %lld is not a finite fp32 number", t->name,
                           (long long)i);
    return DT_OK;
}
