/* fourier.c: Fourier transforms, windows and mel filters. */
#ifndef DT_ONNX_FOURIER_H
#define DT_ONNX_FOURIER_H

#include "onnx/op.h"

dt_status dt_infer_dft(const dt_onnx_call *c);
dt_status dt_run_dft(const dt_onnx_call *c);
dt_status dt_infer_stft(const dt_onnx_call *c);
dt_status dt_run_stft(const dt_onnx_call *c);
/* HannWindow, HammingWindow, BlackmanWindow. */
dt_status dt_infer_window(const dt_onnx_call *c);
dt_status dt_run_window(const dt_onnx_call *c);
dt_status dt_infer_mel(const dt_onnx_call *c);
dt_status dt_run_mel(const dt_onnx_call *c);

#endif
