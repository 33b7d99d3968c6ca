/* The CAST op. */
#include "core/half.h"
#include "kernels.h"

static float to_float(dt_dtype from, const void *x, int64_t i) {
    switch (from) {
    case DT_DTYPE_U8:
    case DT_DTYPE_BOOL:
        return (float)((const uint8_t *)x)[i];
    case DT_DTYPE_I8:
        return (float)((const int8_t *)x)[i];
    case DT_DTYPE_I32:
        return (float)((const int32_t *)x)[i];
    case DT_DTYPE_I64:
        return (float)((const int64_t *)x)[i];
    case DT_DTYPE_F64:
        return (float)((const double *)x)[i];
    case DT_DTYPE_F16:
        return dt_f16_to_f32(((const uint16_t *)x)[i]);
    case DT_DTYPE_BF16:
        return dt_bf16_to_f32(((const uint16_t *)x)[i]);
    default:
        return ((const float *)x)[i];
    }
}

static int32_t to_whole(dt_dtype from, const void *x, int64_t i) {
    const int64_t v = from == DT_DTYPE_U8 || from == DT_DTYPE_BOOL ? ((const uint8_t *)x)[i]
                      : from == DT_DTYPE_I8                        ? ((const int8_t *)x)[i]
                      : from == DT_DTYPE_I32                       ? ((const int32_t *)x)[i]
                                                                   : ((const int64_t *)x)[i];
    return (int32_t)dt_max_i64(dt_min_i64(v, INT32_MAX), INT32_MIN);
}

static void cast_some(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    const bool whole = d->attr.cast.dtype == DT_DTYPE_I32;
    for (int64_t i = from; i < to; i++) {
        if (whole)
            ((int32_t *)d->b.out[0])[i] = to_whole(d->from, d->b.in[0], i);
        else
            ((float *)d->b.out[0])[i] = to_float(d->from, d->b.in[0], i);
    }
}

dt_status dt_cpu_cast(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), d->n_elem, cast_some, d);
    return DT_OK;
}
