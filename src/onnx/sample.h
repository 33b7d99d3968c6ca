/* sample.c: values between an image's places, and boxes over it. */
#ifndef DT_ONNX_SAMPLE_H
#define DT_ONNX_SAMPLE_H

#include "onnx/op.h"

dt_status dt_infer_grid_sample(const dt_onnx_call *c);
dt_status dt_run_grid_sample(const dt_onnx_call *c);
dt_status dt_infer_affine_grid(const dt_onnx_call *c);
dt_status dt_run_affine_grid(const dt_onnx_call *c);
dt_status dt_infer_roi_align(const dt_onnx_call *c);
dt_status dt_run_roi_align(const dt_onnx_call *c);
dt_status dt_infer_max_roi_pool(const dt_onnx_call *c);
dt_status dt_run_max_roi_pool(const dt_onnx_call *c);
/* Its shape follows from its values: the boxes are chosen here. */
dt_status dt_infer_boxes(const dt_onnx_call *c);
dt_status dt_infer_center_crop_pad(const dt_onnx_call *c);
dt_status dt_run_center_crop_pad(const dt_onnx_call *c);
dt_status dt_infer_col2im(const dt_onnx_call *c);
dt_status dt_run_col2im(const dt_onnx_call *c);

#endif
