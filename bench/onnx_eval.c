/* Evaluates ONNX models on the host. Each line of standard input is "MODEL FOLDER": FOLDER/in_K holds the graph's input K,
 * FOLDER/out_K is written; each is a line "F32 2 3" (type, dimensions) and then the numbers. Answers with a line each:
 * "ok SECONDS" or the reason. bench/onnx_sweep.py makes the files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/op.h"

static dt_status read_tensor(const char *folder, int32_t k, dt_host_tensor *t) {
    char path[4096], line[512], name[32];
    snprintf(path, sizeof path, "%s/in_%d", folder, k);
    FILE *f = fopen(path, "rb");
    if (!f) return dt_fail(DT_ERR_DATA, "%s: cannot be read", path);
    int at = 0, more;
    bool whole = false;
    *t = (dt_host_tensor){.type = DT_TENSOR_TYPES};
    if (fgets(line, sizeof line, f) && sscanf(line, "%31s%n", name, &at) == 1) {
        for (int type = 0; type < DT_TENSOR_TYPES; type++)
            if (strcmp(dt_tensor_type_name((dt_tensor_type)type), name) == 0) t->type = (dt_tensor_type)type;
        long long dim;
        while (t->ndim < DT_MAX_DIM && sscanf(line + at, "%lld%n", &dim, &more) == 1) {
            t->dim[t->ndim++] = dim;
            at += more;
        }
        const int64_t bytes = t->type < DT_TENSOR_TYPES ? dt_host_bytes(t) : 0;
        t->data = aligned_alloc(64, (size_t)dt_round_up(bytes + 1, 64));
        if (t->data && fread(t->data, 1, (size_t)bytes, f) == (size_t)bytes) whole = true;
    }
    fclose(f);
    return whole ? DT_OK : dt_fail(DT_ERR_DATA, "%s: damaged", path);
}

static dt_status write_tensor(const char *folder, int32_t k, const dt_host_tensor *t) {
    char path[4096];
    snprintf(path, sizeof path, "%s/out_%d", folder, k);
    FILE *f = fopen(path, "wb");
    if (!f) return dt_fail(DT_ERR_DATA, "%s: cannot be written", path);
    fprintf(f, "%s", dt_tensor_type_name(t->type));
    for (int32_t d = 0; d < t->ndim; d++) fprintf(f, " %lld", (long long)t->dim[d]);
    fputc('\n', f);
    const size_t bytes = (size_t)dt_host_bytes(t);
    const bool written = fwrite(t->data, 1, bytes, f) == bytes;
    if (fclose(f) != 0 || !written) return dt_fail(DT_ERR_DATA, "%s: cannot be written", path);
    return DT_OK;
}

static dt_status run(const char *path, const char *folder, double *seconds) {
    dt_onnx_model *m = NULL;
    dt_onnx_eval *e = NULL;
    dt_host_tensor *in = NULL, *out = NULL;
    dt_status status;
    DT_TRY_GOTO(status, dt_onnx_read(path, &m), end);
    in = calloc((size_t)m->graph.n_in + 1, sizeof *in);
    out = calloc((size_t)m->graph.n_out + 1, sizeof *out);
    if (!in || !out) abort();
    DT_TRY_GOTO(status, dt_onnx_check_ops(m), end);
    DT_TRY_GOTO(status, dt_onnx_eval_create(m, (int64_t)16 << 30, &e), end);
    for (int32_t i = 0; i < m->graph.n_in; i++) DT_TRY_GOTO(status, read_tensor(folder, i, &in[i]), end);
    const double start = dt_time_s();
    DT_TRY_GOTO(status, dt_onnx_eval_run(e, in, out), end);
    *seconds = dt_time_s() - start;
    for (int32_t i = 0; i < m->graph.n_out; i++) DT_TRY_GOTO(status, write_tensor(folder, i, &out[i]), end);
end:
    for (int32_t i = 0; in && i < m->graph.n_in; i++) free(in[i].data);
    free(in);
    free(out);
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
    return status;
}

int main(void) {
    char line[8192], path[4096], folder[4096];
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%4095s %4095s", path, folder) != 2) return 2;
        double seconds = 0;
        if (run(path, folder, &seconds) == DT_OK)
            printf("ok %.3f\n", seconds);
        else
            printf("%s\n", dt_error_text());
        fflush(stdout);
    }
    return 0;
}
