/* The CPU backend. */
#ifndef DT_CPU_CPU_H
#define DT_CPU_CPU_H

#include "core/backend.h"

/* Destroyed by out->destroy. Errors: DT_ERR_MEMORY. */
dt_status dt_backend_cpu_create(const dt_backend_options *options, dt_backend **out);

#endif
