/* Windows that slide over the spatial dimensions of [N, C, ...]: those of convolutions and of pooling. */
#ifndef DT_ONNX_WINDOW_H
#define DT_ONNX_WINDOW_H

#include "onnx/op.h"

enum { DT_MAX_SPACE = DT_MAX_DIM - 2 };

typedef struct dt_window {
    int32_t nd; /* spatial dimensions */
    int64_t in[DT_MAX_SPACE], out[DT_MAX_SPACE];
    int64_t kernel[DT_MAX_SPACE], stride[DT_MAX_SPACE], dilation[DT_MAX_SPACE];
    int64_t pad[DT_MAX_SPACE], pad_end[DT_MAX_SPACE];
    int64_t n_in, n_out, n_kernel; /* products */
} dt_window;

/* Numbers of a list attribute, one for each of nd dimensions and within [lo, 2^30]; `otherwise` where there is none. */
dt_status dt_onnx_space(const dt_onnx_call *c, const char *attr, int32_t nd, int64_t lo, int64_t otherwise,
                        int64_t *out);
/* Reads kernel_shape (or takes `kernel`), strides, dilations, pads and auto_pad of a node whose input 0 is [N, C, ...],
 * and computes the output's dimensions. `ceil`: rounded up, but no window begins behind the input. */
dt_status dt_window_read(const dt_onnx_call *c, const int64_t *kernel, bool ceil, dt_window *w);
/* The next place of a block of nd dimensions in row-major order; false after the last. */
bool dt_next(int32_t nd, const int64_t *dim, int64_t *at);
/* Coordinates of a place in row-major order. */
void dt_place(int32_t nd, const int64_t *dim, int64_t index, int64_t *at);

#endif
