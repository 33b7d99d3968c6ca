/* Whatever has a network in it becomes a model of ONNX in memory: what dtrain trained through its own export. */
#include "train/network_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/dir.h"
#include "tensorflow/network.h"
#include "train/checkpoint.h"
#include "train/convert.h"

/* Files that are gone as soon as the model maps them. */
static dt_status through_files(const char *path, const char *config, dt_onnx_model **out) {
    const char *tmp = getenv("TMPDIR");
    char dir[512], file[600], data[620], run[600];
    snprintf(dir, sizeof dir, "%s/dtrain-XXXXXX", tmp && tmp[0] && strlen(tmp) < 400 ? tmp : "/tmp");
    if (!mkdtemp(dir)) return dt_fail(DT_ERR_IO, "%s: no directory can be made there", dir);
    snprintf(file, sizeof file, "%s/network.onnx", dir);
    snprintf(data, sizeof data, "%s.data", file);
    snprintf(run, sizeof run, "%s/run", dir);
    dt_status st = DT_OK;
    const bool ours = dt_ckpt_is_at(path);
    if (!ours)
        st = dt_convert(&(dt_convert_options){.in = path, .out = run, .type = "f32", .config = config}, NULL);
    const dt_convert_options convert = {
        .in = ours ? path : run, .out = file, .type = "f32", .config = ours ? config : NULL};
    if (st == DT_OK) st = dt_convert(&convert, NULL);
    if (st == DT_OK) st = dt_onnx_read(file, out);
    char why[1024];
    snprintf(why, sizeof why, "%s", st == DT_OK ? "" : dt_error_text());
    dt_dir_remove(dir);
    if (st != DT_OK) return dt_fail(st, "%s", why);
    (*out)->path = dt_onnx_text(*out, "%s", path);
    (*out)->format = "dtrain";
    return (*out)->path ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a path");
}

dt_status dt_network_load(const char *path, const char *config, dt_onnx_model **out) {
    if (access(path, R_OK) != 0)
        return dt_fail(DT_ERR_DATA, "%s: there is no such file, or it cannot be read", path);
    if (!dt_ckpt_is_at(path) && dt_network_knows(path)) {
        if (config)
            return dt_fail(DT_ERR_USAGE,
                           "%s has a network in it: a configuration is for files of weights alone", path);
        return dt_network_read(path, out);
    }
    return through_files(path, config, out);
}
