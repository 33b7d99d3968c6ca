/* Networks in files, run as they are. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "onnx/run.h"
#include "train/network_load.h"

struct dt_netfile {
    dt_handle head;
    dt_run *run; /* held */
    dt_onnx_model *model;
    dt_onnx_run *compiled; /* for the shapes of the last call; NULL: there was none */
    dt_host_tensor *in, *out;
};

dt_status dt_netfile_open(dt_run *run, const char *path, dt_netfile **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(path);
    DT_CHECK_POINTER(out);
    *out = NULL;
    dt_onnx_model *m;
    DT_TRY(dt_network_load(path, NULL, &m));
    dt_netfile *f = dt_handle_new(DT_HANDLE_FILE, sizeof *f);
    if (!f) {
        dt_onnx_model_free(m);
        return dt_fail(DT_ERR_MEMORY, "no memory for a network");
    }
    f->model = m;
    dt_run_hold(f->run = run);
    f->in = calloc((size_t)m->graph.n_in + 1, sizeof *f->in);
    f->out = calloc((size_t)m->graph.n_out + 1, sizeof *f->out);
    const dt_status st =
        f->in && f->out ? dt_onnx_check_ops(m) : dt_fail(DT_ERR_MEMORY, "no memory for a network");
    if (st == DT_OK)
        *out = f;
    else
        dt_netfile_free(f);
    return st;
}

static void drop_inputs(dt_netfile *f) {
    for (int32_t i = 0; f->in && i < f->model->graph.n_in; i++) {
        free(f->in[i].data);
        f->in[i].data = NULL;
    }
}

void dt_netfile_free(dt_netfile *file) {
    if (!dt_handle_end(DT_HANDLE_FILE, file)) return;
    pthread_mutex_lock(&file->run->lock);
    dt_onnx_run_destroy(file->compiled);
    pthread_mutex_unlock(&file->run->lock);
    drop_inputs(file);
    free(file->in), free(file->out);
    dt_onnx_model_free(file->model);
    dt_run_drop(file->run);
    dt_handle_free(file);
}

const char *dt_netfile_input(const dt_netfile *file, int32_t i) {
    if (!dt_handle_is(DT_HANDLE_FILE, file)) return NULL;
    return i >= 0 && i < file->model->graph.n_in ? file->model->graph.in[i].name : NULL;
}

const char *dt_netfile_output(const dt_netfile *file, int32_t i) {
    if (!dt_handle_is(DT_HANDLE_FILE, file)) return NULL;
    return i >= 0 && i < file->model->graph.n_out ? file->model->graph.out[i].name : NULL;
}

const dt_tensor_type dt_file_type[DT_DTYPE_COUNT] = {
    [DT_DTYPE_F32] = DT_TENSOR_F32, [DT_DTYPE_F16] = DT_TENSOR_F16, [DT_DTYPE_BF16] = DT_TENSOR_BF16,
    [DT_DTYPE_U8] = DT_TENSOR_U8,   [DT_DTYPE_I32] = DT_TENSOR_I32, [DT_DTYPE_I64] = DT_TENSOR_I64,
    [DT_DTYPE_F64] = DT_TENSOR_F64, [DT_DTYPE_I8] = DT_TENSOR_I8,   [DT_DTYPE_BOOL] = DT_TENSOR_BOOL,
    [DT_DTYPE_I4] = DT_TENSOR_TYPES};

static dt_status take_inputs(dt_netfile *f, dt_tensor *const *in) {
    for (int32_t i = 0; i < f->model->graph.n_in; i++) {
        const dt_tensor *t = in[i];
        DT_TRY(dt_handle_check(DT_HANDLE_TENSOR, t, "dt_netfile_run", f->model->graph.in[i].name));
        f->in[i] = (dt_host_tensor){.type = dt_file_type[t->dtype], .ndim = t->shape.ndim};
        memcpy(f->in[i].dim, t->shape.dim, sizeof f->in[i].dim);
        f->in[i].data = malloc((size_t)t->bytes + 1);
        if (!f->in[i].data)
            return dt_fail(DT_ERR_MEMORY, "no memory for input %s", f->model->graph.in[i].name);
        DT_TRY(dt_tensor_read(t, f->in[i].data, t->bytes));
    }
    return DT_OK;
}

/* With the program of the last call, or one for these shapes. */
static dt_status compute(dt_netfile *f) {
    pthread_mutex_lock(&f->run->lock);
    dt_status st = f->compiled ? dt_onnx_run_go(f->compiled, f->in, f->out) : DT_ERR_USAGE;
    if (st == DT_ERR_USAGE) {
        dt_onnx_run_destroy(f->compiled);
        f->compiled = NULL;
        st = dt_onnx_run_create(f->run->be, f->model, f->in, NULL, &f->compiled);
        if (st == DT_OK) st = dt_onnx_run_go(f->compiled, f->in, f->out);
    }
    pthread_mutex_unlock(&f->run->lock);
    return st;
}

static dt_status give_output(const dt_netfile *f, int32_t i, dt_tensor **out) {
    const dt_host_tensor *t = &f->out[i];
    dt_dtype dtype = DT_DTYPE_F32;
    while (dtype < DT_DTYPE_COUNT && dt_file_type[dtype] != t->type) dtype++;
    if (dtype == DT_DTYPE_COUNT)
        return dt_fail(DT_ERR_UNSUPPORTED, "dt_netfile_run: output %s is %s, of which there are no tensors",
                       f->model->graph.out[i].name, dt_tensor_type_name(t->type));
    dt_shape shape = {.ndim = t->ndim};
    memcpy(shape.dim, t->dim, sizeof shape.dim);
    DT_TRY(dt_tensor_zeros_host(f->run, dtype, shape, out));
    return dt_tensor_write(*out, t->data, dt_host_bytes(t));
}

dt_status dt_netfile_run(dt_netfile *file, dt_tensor *const *in, dt_tensor **out) {
    DT_TRY(dt_handle_check(DT_HANDLE_FILE, file, __func__, "file"));
    DT_CHECK_POINTER(in);
    DT_CHECK_POINTER(out);
    const int32_t n_out = file->model->graph.n_out;
    for (int32_t i = 0; i < n_out; i++) out[i] = NULL;
    dt_status st = take_inputs(file, in);
    if (st == DT_OK) st = compute(file);
    drop_inputs(file);
    for (int32_t i = 0; i < n_out && st == DT_OK; i++) st = give_output(file, i, &out[i]);
    for (int32_t i = 0; i < n_out && st != DT_OK; i++) {
        dt_tensor_free(out[i]);
        out[i] = NULL;
    }
    return st;
}
