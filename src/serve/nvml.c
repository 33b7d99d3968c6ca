#include "nvml.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

typedef struct memory {
    unsigned long long total, free, used;
} memory;
typedef struct rates {
    unsigned gpu, memory; /* percent */
} rates;

/* As the library declares them; 0 is success. */
static struct {
    int (*init)(void);
    int (*by_bus)(const char *bus, void **device);
    int (*memory)(void *device, memory *out);
    int (*rates)(void *device, rates *out);
} nvml;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool there;

static bool find(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    *(void **)function = found;
    return found != NULL;
}

static void open_library(void) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    there = library && find(library, "nvmlInit_v2", &nvml.init) &&
            find(library, "nvmlDeviceGetHandleByPciBusId_v2", &nvml.by_bus) &&
            find(library, "nvmlDeviceGetMemoryInfo", &nvml.memory) &&
            find(library, "nvmlDeviceGetUtilizationRates", &nvml.rates) && nvml.init() == 0;
}

bool dt_nvml_read(const char *bus, double *utilisation, int64_t *used_bytes) {
    void *device = NULL;
    memory m;
    rates r;
    pthread_once(&once, open_library);
    if (!there || nvml.by_bus(bus, &device) != 0 || nvml.memory(device, &m) != 0 ||
        nvml.rates(device, &r) != 0)
        return false;
    *utilisation = (double)r.gpu / 100;
    *used_bytes = (int64_t)m.used;
    return true;
}
