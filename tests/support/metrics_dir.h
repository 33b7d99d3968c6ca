/* A temporary run directory and a console in memory, for the tests of metrics. Include after cmocka.h. */
#ifndef DT_TESTS_METRICS_DIR_H
#define DT_TESTS_METRICS_DIR_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "console.h"

typedef struct metrics_dir {
    char path[64];
    FILE *console;
    char *console_text;
    size_t console_size;
    dt_console shown; /* what prints to `console` */
    dt_sink sink;
} metrics_dir;

static inline void metrics_dir_join(const metrics_dir *d, const char *name, char out[384]) {
    snprintf(out, 384, "%s/%s", d->path, name);
}

static inline int metrics_dir_make(void **state) {
    metrics_dir *d = calloc(1, sizeof *d);
    assert_non_null(d);
    strcpy(d->path, "/tmp/dt_metrics_XXXXXX");
    assert_non_null(mkdtemp(d->path));
    d->console = open_memstream(&d->console_text, &d->console_size);
    assert_non_null(d->console);
    *state = d;
    return 0;
}

static inline int metrics_dir_remove(void **state) {
    metrics_dir *d = *state;
    DIR *dir = opendir(d->path);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[384];
        metrics_dir_join(d, e->d_name, path);
        unlink(path);
    }
    closedir(dir);
    rmdir(d->path);
    fclose(d->console);
    free(d->console_text);
    free(d);
    return 0;
}

/* The console as a sink; `live`: as a terminal. */
static inline const dt_sink *metrics_dir_sink(metrics_dir *d, bool live, int64_t log_every) {
    d->shown = dt_console_of(d->console, d->console);
    d->shown.live = live;
    d->shown.log_every = log_every;
    d->sink = dt_console_sink(&d->shown);
    return &d->sink;
}

/* What went to the console so far. */
static inline const char *metrics_dir_console(metrics_dir *d) {
    fflush(d->console);
    return d->console_text;
}

static inline void metrics_dir_write(const metrics_dir *d, const char *name, const char *text) {
    char path[384];
    metrics_dir_join(d, name, path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

/* The file's bytes and a terminator; caller frees. */
static inline char *metrics_dir_load(const metrics_dir *d, const char *name, size_t *size) {
    char path[384];
    metrics_dir_join(d, name, path);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *size, f), *size);
    text[*size] = '\0';
    fclose(f);
    return text;
}

static inline char *metrics_dir_read(const metrics_dir *d, const char *name) {
    size_t size = 0;
    return metrics_dir_load(d, name, &size);
}

static inline bool metrics_dir_has(const metrics_dir *d, const char *name) {
    char path[384];
    metrics_dir_join(d, name, path);
    return access(path, F_OK) == 0;
}

#endif
