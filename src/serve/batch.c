/* One run: rows of requests side by side, results cut apart again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

static void fail(dt_serve_request *r, dt_status st) {
    r->status = st;
    snprintf(r->error, sizeof r->error, "%s", dt_error_text());
}

static dt_status room(dt_serve_model *m, int32_t i, int64_t bytes) {
    if (bytes <= m->staged_bytes[i]) return DT_OK;
    void *data = realloc(m->staged[i].data, (size_t)bytes);
    if (!data) return dt_fail(DT_ERR_MEMORY, "no memory for a batch of %lld bytes", (long long)bytes);
    m->staged[i].data = data;
    m->staged_bytes[i] = bytes;
    return DT_OK;
}

/* The last row again where there are fewer than the bucket has. */
static dt_status stage(dt_serve_model *m, dt_serve_request *const *r, int32_t n, int64_t rows,
                       int64_t bucket) {
    for (int32_t i = 0; i < m->info.n_in; i++) {
        dt_host_tensor *t = &m->staged[i];
        void *data = t->data;
        *t = r[0]->in[i];
        t->data = data;
        t->dim[0] = bucket;
        const int64_t bytes = dt_host_bytes(t), row = bytes / bucket;
        DT_TRY(room(m, i, dt_max_i64(bytes, 1)));
        char *to = t->data;
        for (int32_t k = 0; k < n; k++) {
            if (row > 0) memcpy(to, r[k]->in[i].data, (size_t)(r[k]->rows * row));
            to += r[k]->rows * row;
        }
        for (int64_t k = rows; k < bucket && row > 0; k++, to += row) memcpy(to, to - row, (size_t)row);
    }
    return DT_OK;
}

/* Of the results the rows from `at` on; without batches all. */
static dt_status take(const dt_serve_model *m, dt_serve_request *r, int64_t at, int64_t bucket) {
    for (int32_t i = 0; i < m->info.n_out; i++) {
        const dt_host_tensor *y = &m->result[i];
        dt_host_tensor *out = &r->out[i];
        *out = *y;
        out->data = NULL;
        int64_t from = 0;
        if (m->info.batched) {
            if (y->ndim < 1 || y->dim[0] != bucket)
                return dt_fail(DT_ERR_USAGE, "output %s has not a row for each of the input",
                               m->info.out[i].name);
            out->dim[0] = r->rows;
            from = dt_host_bytes(y) / bucket * at;
        }
        const int64_t bytes = dt_host_bytes(out);
        out->data = malloc((size_t)dt_max_i64(bytes, 1));
        if (!out->data) return dt_fail(DT_ERR_MEMORY, "no memory for output %s", m->info.out[i].name);
        if (bytes > 0) memcpy(out->data, (const char *)y->data + from, (size_t)bytes);
    }
    return DT_OK;
}

static dt_status go(dt_serve_model *m, const dt_host_tensor *in) {
    dt_serve_program *p;
    DT_TRY(dt_serve_program_get(m, in, &p));
    dt_turns_take(&m->engine->device);
    const dt_status st = dt_onnx_run_go(p->run, in, m->result);
    dt_turns_give(&m->engine->device);
    return st;
}

static dt_status run(dt_serve_model *m, dt_serve_request *const *r, int32_t n, int64_t rows) {
    const int64_t begin = dt_serve_now_ns(), bucket = dt_serve_bucket(m, rows);
    const bool as_is = n == 1 && bucket == rows;
    if (!as_is) DT_TRY(stage(m, r, n, rows, bucket));
    const dt_host_tensor *in = as_is ? r[0]->in : m->staged;
    const int64_t staged = dt_serve_now_ns();
    dt_status st = go(m, in);
    if (st == DT_ERR_USAGE && !m->info.batched) {
        /* Shapes may follow from values, for which the program was made. */
        dt_serve_programs_free(m);
        st = go(m, in);
    }
    DT_TRY(st);
    const int64_t done = dt_serve_now_ns();
    int64_t at = 0;
    for (int32_t k = 0; k < n; k++) {
        r[k]->status = take(m, r[k], at, bucket);
        if (r[k]->status == DT_OK) r[k]->status = dt_serve_hooks_after(m, r[k]);
        if (r[k]->status != DT_OK) fail(r[k], r[k]->status);
        at += r[k]->rows;
    }
    const int64_t end = dt_serve_now_ns();
    for (int32_t k = 0; k < n; k++)
        r[k]->times = (dt_serve_times){.queue_ns = begin - r[k]->submitted_ns,
                                       .input_ns = staged - begin,
                                       .compute_ns = done - staged,
                                       .output_ns = end - done,
                                       .batch = rows};
    return DT_OK;
}

void dt_serve_batch_run(dt_serve_model *m, dt_serve_request *const *r, int32_t n) {
    int64_t rows = 0;
    for (int32_t k = 0; k < n; k++) rows += r[k]->rows;
    const dt_status st = run(m, r, n, rows);
    if (st == DT_OK) return;
    if (n == 1) {
        fail(r[0], st);
        return;
    }
    for (int32_t k = 0; k < n; k++) dt_serve_batch_run(m, &r[k], 1); /* nobody answers for a mate */
}
