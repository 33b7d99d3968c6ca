#include "serve_backend.h"

#include <stdio.h>
#include <string.h>

#include "train/session.h"

dt_status dt_serve_backend(const dt_args *args, dt_backend **be) {
    char device[64], threads[64];
    const char *key[2];
    int n = 0;
    dt_config c; /* no data are read, but a configuration has some */
    if (dt_args_text(args, "device")) {
        snprintf(device, sizeof device, "run.device=%s", dt_args_text(args, "device"));
        key[n++] = device;
    }
    if (dt_args_has(args, "threads")) {
        snprintf(threads, sizeof threads, "run.threads=%lld", (long long)dt_args_number(args, "threads"));
        key[n++] = threads;
    }
    dt_status st = dt_config_parse(&c, "command line", "[data]\ntrain = \".\"\n[train]\nsteps = 1\n", n, key);
    if (st == DT_OK) st = dt_session_backend(&c, NULL, be);
    dt_config_fini(&c);
    return st;
}

dt_level dt_level_of(const char *name) {
    for (int i = 0; name && dt_level_names[i]; i++)
        if (strcmp(dt_level_names[i], name) == 0) return (dt_level)i;
    return DT_LEVEL_DEFAULT;
}
