/* A build without nvJPEG: the device decodes no JPEG, the loader does. */
#include "gpu.h"

void dt_cuda_jpeg_table(dt_backend *be) {
    (void)be;
}
