/* Everything read is checked: the file may be damaged or made by hand. */
#include "field_json.h"

#include <string.h>

json_t *dt_fields_to_json(int32_t n, const dt_field *field) {
    json_t *out = json_array();
    for (int32_t i = 0; i < n; i++) {
        const dt_field *f = &field[i];
        json_t *shape = json_array();
        for (int32_t k = 0; k < f->ndim; k++) json_array_append_new(shape, json_integer(f->dim[k]));
        json_t *row =
            json_pack("{s:s, s:s, s:o}", "name", f->name, "dtype", dt_dtype_name(f->dtype), "shape", shape);
        if (json_array_append_new(out, row) == 0 && (int32_t)json_array_size(shape) == f->ndim) continue;
        json_decref(out); /* a list with a gap would be worse than none */
        return NULL;
    }
    return out;
}

static bool from_json(const json_t *row, dt_field *out) {
    const char *name = json_string_value(json_object_get(row, "name")),
               *dtype = json_string_value(json_object_get(row, "dtype"));
    const json_t *shape = json_object_get(row, "shape");
    const size_t n = json_array_size(shape);
    int64_t bytes;
    int kind = 0;
    while (dtype && kind < DT_DTYPE_COUNT && strcmp(dtype, dt_dtype_name((dt_dtype)kind)) != 0) kind++;
    if (!name || strlen(name) >= sizeof out->name || !dtype || kind == DT_DTYPE_COUNT ||
        kind > DT_DTYPE_F64 || !json_is_array(shape) || n >= DT_MAX_DIM)
        return false;
    *out = (dt_field){.dtype = (dt_dtype)kind, .ndim = (int32_t)n};
    strcpy(out->name, name);
    bytes = (int64_t)dt_dtype_size(out->dtype);
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(shape, i);
        out->dim[i] = json_integer_value(dim);
        if (!json_is_integer(dim) || out->dim[i] < 1 || __builtin_mul_overflow(bytes, out->dim[i], &bytes))
            return false;
    }
    return true;
}

bool dt_fields_from_json(const json_t *list, int32_t *n, dt_field *field) {
    const size_t size = json_array_size(list);
    *n = 0;
    if (size < 1 || size > DT_FIELDS_MAX) return false;
    for (; (size_t)*n < size; ++*n)
        if (!from_json(json_array_get(list, (size_t)*n), &field[*n])) return false;
    return true;
}
