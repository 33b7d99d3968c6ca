/* A backend and a file of golden values for a test program, which names the file: #define GOLDEN_FILE "name.h5" before.
 * Header only. */
#ifndef DT_TEST_GOLDEN_FILE_H
#define DT_TEST_GOLDEN_FILE_H

#include <stdio.h>

#include "cpu/cpu.h"
#include "data/h5.h"
#include "op_run.h"

static dt_backend *be;
static dt_h5 *golden;

static int golden_open(void **state) {
    (void)state;
    op_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 2}, &be));
    op_ok(dt_h5_open(DT_TEST_DATA "/" GOLDEN_FILE, &golden));
    return 0;
}

static int golden_close(void **state) {
    (void)state;
    be->destroy(be);
    op_ok(dt_h5_close(golden));
    return 0;
}

/* "<group>/<what><item>" */
static const char *in_group(const char *group, const char *what, const char *item) {
    static char text[256];
    snprintf(text, sizeof text, "%s/%s%s", group, what, item);
    return text;
}

#endif
