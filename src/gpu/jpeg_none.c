/* A build without nvJPEG: the device decodes no JPEG, the loader does. */
#include "gpu/cuda.h"

const dt_jpeg_device *dt_cuda_jpeg(void) {
    return NULL;
}
