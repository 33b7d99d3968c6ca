/* What the verbs that serve networks share. */
#ifndef DT_APP_SERVE_BACKEND_H
#define DT_APP_SERVE_BACKEND_H

#include "command.h"
#include "serve/engine.h"

/* By --device and --threads. */
dt_status dt_serve_backend(const dt_args *args, dt_backend **be);
/* NULL: the default. */
dt_level dt_level_of(const char *name);

#endif
