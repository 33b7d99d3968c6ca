#include "window.h"

#include <string.h>

#include "numbers.h"

dt_status dt_onnx_space(const dt_onnx_call *c, const char *attr, int32_t nd, int64_t lo, int64_t otherwise,
                        int64_t *out) {
    const int64_t *given, n = dt_onnx_attr_ints(c->node, attr, &given);
    if (n != 0 && n != nd)
        return dt_onnx_refuse(c, "%s has %lld numbers, and must have %d", attr, (long long)n, nd);
    for (int32_t d = 0; d < nd; d++) {
        out[d] = n ? given[d] : otherwise;
        if (out[d] < lo || out[d] > 1 << 30)
            return dt_onnx_refuse(c, "%s has %lld, which is not in [%lld, 2^30]", attr, (long long)out[d],
                                  (long long)lo);
    }
    return DT_OK;
}

dt_status dt_window_read(const dt_onnx_call *c, const int64_t *kernel, bool ceil, dt_window *w) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_rank(c, 0, 3, DT_MAX_DIM));
    *w = (dt_window){.nd = x->ndim - 2, .n_in = 1, .n_out = 1, .n_kernel = 1};
    if (!kernel || dt_onnx_attr_find(c->node, "kernel_shape")) {
        if (!dt_onnx_attr_find(c->node, "kernel_shape")) return dt_onnx_refuse(c, "it has no kernel_shape");
        DT_TRY(dt_onnx_space(c, "kernel_shape", w->nd, 1, 1, w->kernel));
    }
    for (int32_t d = 0; kernel && d < w->nd; d++) {
        if (w->kernel[d] && w->kernel[d] != kernel[d])
            return dt_onnx_refuse(c, "kernel_shape has %lld where the weights have %lld",
                                  (long long)w->kernel[d], (long long)kernel[d]);
        w->kernel[d] = kernel[d];
        if (kernel[d] < 1 || kernel[d] > 1 << 30)
            return dt_onnx_refuse(c, "a kernel of %lld", (long long)kernel[d]);
    }
    DT_TRY(dt_onnx_space(c, "strides", w->nd, 1, 1, w->stride));
    DT_TRY(dt_onnx_space(c, "dilations", w->nd, 1, 1, w->dilation));
    int64_t pads[2 * DT_MAX_SPACE];
    DT_TRY(dt_onnx_space(c, "pads", 2 * w->nd, 0, 0, pads));
    const char *automatic = dt_onnx_attr_text(c->node, "auto_pad", "NOTSET");
    const bool upper = strcmp(automatic, "SAME_UPPER") == 0, same = upper || !strcmp(automatic, "SAME_LOWER"),
               valid = strcmp(automatic, "VALID") == 0;
    if (!same && !valid && *automatic && strcmp(automatic, "NOTSET") != 0)
        return dt_onnx_refuse(c, "auto_pad \"%s\" is unknown", automatic);
    for (int32_t d = 0; d < w->nd; d++) {
        const int64_t in = w->in[d] = x->dim[2 + d], s = w->stride[d],
                      reach = (w->kernel[d] - 1) * w->dilation[d] + 1;
        if (same) {
            w->out[d] = (in + s - 1) / s;
            const int64_t pad = dt_max_i64(0, (w->out[d] - 1) * s + reach - in);
            w->pad[d] = upper ? pad / 2 : pad - pad / 2;
            w->pad_end[d] = pad - w->pad[d];
        } else {
            if (!valid) w->pad[d] = pads[d], w->pad_end[d] = pads[w->nd + d];
            const int64_t room = in + w->pad[d] + w->pad_end[d] - reach;
            if (room < 0)
                return dt_onnx_refuse(c,
                                      "a window of %lld does not fit into dimension %d of %lld with its pads",
                                      (long long)reach, d + 2, (long long)in);
            w->out[d] = (ceil ? (room + s - 1) / s : room / s) + 1;
            if (ceil && (w->out[d] - 1) * s >= in + w->pad[d]) w->out[d]--;
        }
        if (__builtin_mul_overflow(w->n_kernel, w->kernel[d], &w->n_kernel) || w->n_kernel > (int64_t)1 << 40)
            return dt_onnx_refuse(c, "its kernel is too large");
        /* The result's size is checked where it is announced. */
        if (__builtin_mul_overflow(w->n_out, w->out[d], &w->n_out) ||
            __builtin_mul_overflow(w->n_in, w->in[d], &w->n_in))
            return dt_onnx_refuse(c, "its result is too large");
    }
    return DT_OK;
}

bool dt_next(int32_t nd, const int64_t *dim, int64_t *at) {
    for (int32_t d = nd - 1; d >= 0; d--) {
        if (++at[d] < dim[d]) return true;
        at[d] = 0;
    }
    return false;
}

void dt_place(int32_t nd, const int64_t *dim, int64_t index, int64_t *at) {
    for (int32_t d = nd - 1; d >= 0; d--) {
        at[d] = index % dim[d];
        index /= dim[d];
    }
}
