/* How busy a GPU is, by NVIDIA's management library where there is one: it comes with the driver, and is looked for when first asked
 * for. */
#ifndef DT_SERVE_NVML_H
#define DT_SERVE_NVML_H

#include <stdbool.h>
#include <stdint.h>

/* Of the device at this address on the bus, "0000:17:00.0". False: nobody knows. */
bool dt_nvml_read(const char *bus, double *utilisation, int64_t *used_bytes);

#endif
