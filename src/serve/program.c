/* Programs of a model: one for each bucket of rows and each shape that was asked for, over the weights of the first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

int64_t dt_serve_bucket(const dt_serve_model *m, int64_t rows) {
    int64_t n = 1;
    if (!m->info.batched || m->info.one_bucket) return m->info.batched ? m->info.max_batch : rows;
    while (n < rows) n *= 2;
    return dt_min_i64(n, m->info.max_batch);
}

bool dt_serve_same_inputs(const dt_serve_model *m, const dt_host_tensor *a, const dt_host_tensor *b,
                          int32_t from) {
    for (int32_t i = 0; i < m->info.n_in; i++)
        if (a[i].type != b[i].type || a[i].ndim != b[i].ndim ||
            (a[i].ndim > from &&
             memcmp(a[i].dim + from, b[i].dim + from, (size_t)(a[i].ndim - from) * sizeof *a[i].dim) != 0))
            return false;
    return true;
}

static void forget(dt_serve_model *m, int32_t i) {
    dt_serve_engine *e = m->engine;
    dt_onnx_run_destroy(m->program[i].run);
    free(m->program[i].in);
    pthread_mutex_lock(&e->lock);
    e->model_bytes -= m->program[i].bytes;
    pthread_mutex_unlock(&e->lock);
    m->program[i] = m->program[--m->n_program];
}

void dt_serve_programs_free(dt_serve_model *m) {
    while (m->n_program > 0) forget(m, m->n_program - 1);
}

static int32_t least_used(const dt_serve_model *m) {
    int32_t least = -1;
    for (int32_t i = 1; i < m->n_program; i++)
        if (least < 0 || m->program[i].used < m->program[least].used) least = i;
    return least;
}

bool dt_serve_account(dt_serve_engine *e, int64_t bytes) {
    pthread_mutex_lock(&e->lock);
    const int64_t cap = e->options.memory_cap_bytes;
    const bool fits = cap == 0 || e->model_bytes + bytes <= cap;
    if (fits) e->model_bytes += bytes;
    pthread_mutex_unlock(&e->lock);
    return fits;
}

static dt_status compile(dt_serve_model *m, const dt_host_tensor *in, dt_serve_program *p) {
    dt_serve_engine *e = m->engine;
    const size_t n_in = (size_t)m->info.n_in + 1;
    const dt_onnx_run_options o = {.plain = m->info.level == DT_LEVEL_NONE,
                                   .by_row = m->info.level <= DT_LEVEL_BASIC,
                                   .compute = m->compute,
                                   .share = m->n_program > 0 ? m->program[0].run : NULL};
    *p = (dt_serve_program){.in = calloc(n_in, sizeof *p->in)};
    if (!p->in) return dt_fail(DT_ERR_MEMORY, "no memory for a program");
    memcpy(p->in, in, (size_t)m->info.n_in * sizeof *in);
    dt_status st = dt_onnx_run_create(e->options.be, m->m, in, &o, &p->run);
    if (st == DT_OK) p->bytes = dt_onnx_run_get_info(p->run)->device_bytes;
    while (st == DT_OK && !dt_serve_account(e, p->bytes)) {
        const int32_t old = least_used(m);
        if (old < 0) {
            st = dt_fail(DT_ERR_MEMORY,
                         "%s: a program of %lld bytes more is beyond the memory cap of %lld bytes",
                         m->info.name, (long long)p->bytes, (long long)e->options.memory_cap_bytes);
            dt_onnx_run_destroy(p->run);
            break;
        }
        forget(m, old);
    }
    if (st != DT_OK) free(p->in);
    return st;
}

dt_status dt_serve_program_get(dt_serve_model *m, const dt_host_tensor *in, dt_serve_program **out) {
    for (int32_t i = 0; i < m->n_program; i++) {
        if (!dt_serve_same_inputs(m, m->program[i].in, in, 0)) continue;
        m->program[i].used = ++m->n_used;
        *out = &m->program[i];
        return DT_OK;
    }
    dt_serve_program p;
    dt_turns_take(&m->engine->device);
    dt_status st = compile(m, in, &p);
    if (st == DT_OK && m->n_program == DT_SERVE_PROGRAMS_MAX) forget(m, least_used(m));
    dt_turns_give(&m->engine->device);
    DT_TRY(st);
    p.used = ++m->n_used;
    m->program[m->n_program] = p;
    *out = &m->program[m->n_program++];
    return DT_OK;
}

/* ---- what is found out when a model is loaded ---- */

/* Inputs of `rows` rows, all dimensions being known; numbers of one element to the next are unlike, whole ones 0 or 1. */
static dt_status draw(const dt_serve_model *m, int64_t rows, dt_host_tensor *in) {
    for (int32_t i = 0; i < m->info.n_in; i++) {
        const dt_serve_io *io = &m->net_in[i];
        in[i] = (dt_host_tensor){.type = io->type, .ndim = io->ndim};
        memcpy(in[i].dim, io->dim, sizeof in[i].dim);
        if (m->info.batched) in[i].dim[0] = rows;
        in[i].data = calloc(1, (size_t)dt_max_i64(dt_host_bytes(&in[i]), 1));
        if (!in[i].data) return dt_fail(DT_ERR_MEMORY, "no memory for an input");
        const int64_t n = dt_host_n_elem(&in[i]);
        const bool whole = !dt_host_is(&in[i], DT_HOST_FLOATS);
        for (int64_t k = 0; k < n; k++) {
            const double u =
                (double)(((uint64_t)(k + 1) * 2654435761u + (uint64_t)i * 40503u) % 65521) / 65521.0;
            dt_host_put_f64(&in[i], k, whole ? (double)(u > 0.5) : 2 * u - 1);
        }
    }
    return DT_OK;
}

void dt_serve_drop_inputs(const dt_serve_model *m, dt_host_tensor *in) {
    for (int32_t i = 0; in && i < m->info.n_in; i++) free(in[i].data);
    free(in);
}

dt_status dt_serve_draw(const dt_serve_model *m, int64_t rows, dt_host_tensor **out) {
    *out = calloc((size_t)m->info.n_in + 1, sizeof **out);
    if (!*out) return dt_fail(DT_ERR_MEMORY, "no memory for inputs");
    const dt_status st = draw(m, rows, *out);
    if (st != DT_OK) dt_serve_drop_inputs(m, *out);
    return st;
}

bool dt_serve_all_known(const dt_serve_model *m) {
    for (int32_t i = 0; i < m->info.n_in; i++) {
        const dt_serve_io *io = &m->net_in[i];
        if (io->ndim < 0 || io->type == DT_TENSOR_TYPES) return false;
        for (int32_t d = m->info.batched ? 1 : 0; d < io->ndim; d++)
            if (io->dim[d] < 0) return false;
    }
    return true;
}

/* The first `rows` rows of the results, one output behind the other, as numbers. *n of them, owned by the caller. */
static dt_status results(dt_serve_model *m, int64_t rows, const dt_host_tensor *in, double **out,
                         int64_t *n) {
    dt_serve_program *p;
    *out = NULL, *n = 0;
    DT_TRY(dt_serve_program_get(m, in, &p));
    dt_turns_take(&m->engine->device);
    const dt_status st = dt_onnx_run_go(p->run, in, m->result);
    dt_turns_give(&m->engine->device);
    DT_TRY(st);
    for (int32_t i = 0; i < m->info.n_out; i++) {
        const dt_host_tensor *y = &m->result[i];
        const int64_t all = dt_host_n_elem(y);
        if (m->info.batched && (y->ndim < 1 || y->dim[0] != in[0].dim[0]))
            return dt_fail(DT_ERR_USAGE, "output %s has not a row for each of the input",
                           m->info.out[i].name);
        const int64_t part = m->info.batched ? all / in[0].dim[0] * rows : all;
        double *more = realloc(*out, (size_t)(*n + part + 1) * sizeof **out);
        if (!more) return dt_fail(DT_ERR_MEMORY, "no memory for results");
        *out = more;
        for (int64_t k = 0; k < part; k++) more[(*n)++] = dt_host_f64(y, k);
    }
    return DT_OK;
}

/* Largest difference in parts of the largest number of b. Such as are not finite count where only one is. */
double dt_serve_difference(const double *a, const double *b, int64_t n) {
    double most = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(b[i])) most = fmax(most, fabs(b[i]));
        if (isfinite(a[i]) && isfinite(b[i]))
            worst = fmax(worst, fabs(a[i] - b[i]));
        else if (isfinite(a[i]) != isfinite(b[i]))
            return INFINITY;
    }
    return most > 0 ? worst / most : worst;
}

static dt_status results_of(dt_serve_model *m, int64_t bucket, double **out, int64_t *n) {
    dt_host_tensor *in;
    DT_TRY(dt_serve_draw(m, bucket, &in));
    const dt_status st = results(m, 1, in, out, n);
    dt_serve_drop_inputs(m, in);
    return st;
}

/* Row 0 with max_batch - 1 mates, and alone, and in the buckets between. */
static dt_status probe_rows(dt_serve_model *m) {
    double *whole = NULL, *other = NULL;
    int64_t n, n_other;
    dt_status st = results_of(m, m->info.max_batch, &whole, &n);
    bool rows = st == DT_OK;
    for (int64_t b = 1; b < m->info.max_batch && rows && (b == 1 || !m->options.no_warm); b *= 2) {
        st = results_of(m, b, &other, &n_other);
        rows = st == DT_OK && n == n_other && dt_serve_difference(other, whole, n) <= 1e-3;
        const size_t bytes = (size_t)n * sizeof *whole;
        if (rows && m->info.level <= DT_LEVEL_BASIC && memcmp(whole, other, bytes) != 0)
            m->info.one_bucket = true;
        free(other);
        other = NULL;
    }
    free(whole), free(other);
    if (rows) return DT_OK;
    if (st != DT_OK && st != DT_ERR_USAGE && st != DT_ERR_DATA) return st;
    /* Rows are not apart, or it does not take so many: each request runs by itself. */
    dt_serve_programs_free(m);
    m->info.batched = m->info.one_bucket = false;
    m->info.max_batch = 1;
    return DT_OK;
}

static dt_status probe_level(dt_serve_model *m) {
    double *fast = NULL, *exact = NULL;
    int64_t n, n_exact;
    const dt_level level = m->info.level;
    const dt_dtype compute = m->compute;
    dt_status st = results_of(m, 1, &fast, &n);
    if (st == DT_OK) {
        dt_serve_programs_free(m);
        m->info.level = DT_LEVEL_NONE, m->compute = DT_DTYPE_F32;
        st = results_of(m, 1, &exact, &n_exact);
        dt_serve_programs_free(m);
        m->info.level = level, m->compute = compute;
    }
    if (st == DT_OK) m->info.level_error = n == n_exact ? dt_serve_difference(fast, exact, n) : INFINITY;
    free(fast), free(exact);
    const double most = level <= DT_LEVEL_BASIC ? 1e-5 : 1e-2;
    if (st == DT_OK && !(m->info.level_error <= most))
        return dt_fail(
            DT_ERR_UNSUPPORTED,
            "%s: at level %s results differ by %.2g from those of level none, of which %.0e may be: load it "
            "at a lower level",
            m->info.name, dt_level_names[level], m->info.level_error, most);
    return st;
}

dt_status dt_serve_model_probe(dt_serve_model *m) {
    if (!dt_serve_all_known(m)) return DT_OK;
    if (m->info.level >= DT_LEVEL_AGGRESSIVE) DT_TRY(probe_level(m));
    if (m->info.batched && m->info.max_batch > 1) return probe_rows(m);
    double *y = NULL;
    int64_t n;
    const dt_status st = m->options.no_warm ? DT_OK : results_of(m, 1, &y, &n);
    free(y);
    /* Values that were drawn may be none that it takes. */
    return st == DT_ERR_USAGE || st == DT_ERR_DATA ? DT_OK : st;
}
