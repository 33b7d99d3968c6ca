#include "fourier.h"

#include <math.h>
#include <string.h>

#include "numbers.h"

/* out[k] = sum over i < n of in[i] e^(sign 2 pi j i k / n) for k < n_out; numbers are pairs. n log n where n is a power of
 * two, else n n_out; room: 2 n. */
static void transform(int64_t n, int64_t n_out, int sign, const double *in, double *out, double *room) {
    const double turn = sign * 2 * M_PI / (double)n;
    if ((n & (n - 1)) == 0 && n > 1) {
        int bits = 0;
        while ((int64_t)1 << bits < n) bits++;
        for (int64_t i = 0; i < n; i++) {
            int64_t to = 0;
            for (int b = 0; b < bits; b++) to |= (i >> b & 1) << (bits - 1 - b);
            room[2 * to] = in[2 * i], room[2 * to + 1] = in[2 * i + 1];
        }
        for (int64_t half = 1; half < n; half *= 2)
            for (int64_t k = 0; k < half; k++) {
                const double angle = turn * (double)(k * (n / (2 * half))), co = cos(angle), si = sin(angle);
                for (int64_t i = k; i < n; i += 2 * half) {
                    double *p = room + 2 * i, *q = p + 2 * half;
                    const double re = q[0] * co - q[1] * si, im = q[0] * si + q[1] * co;
                    q[0] = p[0] - re, q[1] = p[1] - im;
                    p[0] += re, p[1] += im;
                }
            }
        memcpy(out, room, sizeof *out * 2 * (size_t)n_out);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        room[2 * i] = cos(turn * (double)i), room[2 * i + 1] = sin(turn * (double)i);
    for (int64_t k = 0; k < n_out; k++) {
        double re = 0, im = 0;
        for (int64_t i = 0, at = 0; i < n; i++, at = (at + k) % n) {
            re += in[2 * i] * room[2 * at] - in[2 * i + 1] * room[2 * at + 1];
            im += in[2 * i] * room[2 * at + 1] + in[2 * i + 1] * room[2 * at];
        }
        out[2 * k] = re, out[2 * k + 1] = im;
    }
}

/* ---- DFT: [..., 1 or 2] along an axis ---- */

typedef struct dft {
    int32_t axis;
    int64_t n, n_out; /* its length, and what is kept of it */
    bool inverse, onesided;
} dft;

/* An input of one number; `otherwise` where it is absent. */
static dt_status one_i64(const dt_onnx_call *c, int32_t i, int64_t otherwise, int64_t *out) {
    *out = otherwise;
    if (!dt_onnx_in(c, i)) return DT_OK;
    DT_TRY(dt_onnx_expect(c, i, DT_HOST_INDEX));
    DT_TRY(dt_onnx_one(c, i));
    DT_TRY(dt_onnx_need(c, i));
    *out = dt_host_i64(c->in[i], 0);
    return DT_OK;
}

static dt_status read_dft(const dt_onnx_call *c, dft *f) {
    const dt_host_tensor *x = c->in[0];
    int64_t axis = dt_onnx_attr_int(c->node, "axis", 1);
    DT_TRY(dt_onnx_rank(c, 0, 2, DT_MAX_DIM));
    if (c->version >= 20) DT_TRY(one_i64(c, 2, -2, &axis));
    DT_TRY(dt_onnx_axis(c, axis, x->ndim, &f->axis));
    if (f->axis == x->ndim - 1) return dt_onnx_refuse(c, "its axis is that of re and im");
    if (x->dim[x->ndim - 1] != 1 && x->dim[x->ndim - 1] != 2)
        return dt_onnx_refuse(c, "its last dimension must be 1 or 2, not %lld",
                              (long long)x->dim[x->ndim - 1]);
    f->inverse = dt_onnx_attr_int(c->node, "inverse", 0) != 0;
    f->onesided = dt_onnx_attr_int(c->node, "onesided", 0) != 0;
    const int64_t given = x->dim[f->axis];
    DT_TRY(one_i64(c, 1, f->inverse && f->onesided ? 2 * (given - 1) : given, &f->n));
    if (f->n < 1 || f->n > 1 << 30) return dt_onnx_refuse(c, "a transform of length %lld", (long long)f->n);
    f->n_out = f->onesided && !f->inverse ? f->n / 2 + 1 : f->n;
    return DT_OK;
}

dt_status dt_infer_dft(const dt_onnx_call *c) {
    dft f;
    int64_t dim[DT_MAX_DIM];
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(read_dft(c, &f));
    memcpy(dim, c->in[0]->dim, sizeof dim);
    dim[f.axis] = f.n_out;
    dim[c->in[0]->ndim - 1] = f.inverse && f.onesided ? 1 : 2;
    return dt_onnx_out(c, 0, c->in[0]->type, c->in[0]->ndim, dim);
}

dt_status dt_run_dft(const dt_onnx_call *c) {
    dft f;
    DT_TRY(read_dft(c, &f));
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    const int64_t parts = x->dim[x->ndim - 1], after = dt_host_span(x, f.axis + 1, x->ndim - 1),
                  before = dt_host_span(x, 0, f.axis), len = x->dim[f.axis], out_parts = y->dim[y->ndim - 1];
    double *in, *line, *out, *room;
    DT_TRY(dt_onnx_load(c, 0, &in));
    DT_TRY(dt_onnx_doubles(c, 2 * f.n, &line));
    DT_TRY(dt_onnx_doubles(c, 2 * f.n, &out));
    DT_TRY(dt_onnx_doubles(c, 2 * f.n, &room));
    const double by = f.inverse ? 1 / (double)f.n : 1;
    for (int64_t b = 0; b < before; b++)
        for (int64_t a = 0; a < after; a++) {
            memset(line, 0, sizeof *line * 2 * (size_t)f.n);
            for (int64_t i = 0; i < dt_min_i64(len, f.n); i++)
                for (int64_t p = 0; p < parts; p++)
                    line[2 * i + p] = in[((b * len + i) * after + a) * parts + p];
            /* The other half of a one-sided spectrum is this one mirrored. */
            for (int64_t i = f.n / 2 + 1; f.inverse && f.onesided && i < f.n; i++)
                line[2 * i] = line[2 * (f.n - i)], line[2 * i + 1] = -line[2 * (f.n - i) + 1];
            transform(f.n, f.n_out, f.inverse ? 1 : -1, line, out, room);
            for (int64_t i = 0; i < f.n_out; i++)
                for (int64_t p = 0; p < out_parts; p++)
                    dt_host_put_f64(y, ((b * f.n_out + i) * after + a) * out_parts + p, out[2 * i + p] * by);
        }
    return DT_OK;
}

/* ---- STFT: signal [N, T, 1 or 2], step, window, length -> [N, frames, bins, 2] ---- */

typedef struct stft {
    int64_t step, n, frames, bins;
} stft;

static dt_status read_stft(const dt_onnx_call *c, stft *f) {
    const dt_host_tensor *x = c->in[0], *window = dt_onnx_in(c, 2);
    DT_TRY(dt_onnx_rank(c, 0, 2, 3));
    DT_TRY(dt_onnx_rank(c, 2, 1, 1));
    DT_TRY(one_i64(c, 1, 0, &f->step));
    DT_TRY(one_i64(c, 3, window ? window->dim[0] : x->dim[1], &f->n));
    const int64_t parts = x->ndim == 3 ? x->dim[2] : 1;
    if (f->step < 1 || f->n < 1 || f->n > x->dim[1] || (window && window->dim[0] != f->n) || parts < 1 ||
        parts > 2)
        return dt_onnx_refuse(c, "frames of %lld, each %lld further, of a signal of %lld", (long long)f->n,
                              (long long)f->step, (long long)x->dim[1]);
    f->frames = (x->dim[1] - f->n) / f->step + 1;
    f->bins = dt_onnx_attr_int(c->node, "onesided", 1) != 0 ? f->n / 2 + 1 : f->n;
    return DT_OK;
}

dt_status dt_infer_stft(const dt_onnx_call *c) {
    stft f;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_same_type(c, 0, 2));
    DT_TRY(read_stft(c, &f));
    return dt_onnx_out(c, 0, c->in[0]->type, 4, (const int64_t[]){c->in[0]->dim[0], f.frames, f.bins, 2});
}

dt_status dt_run_stft(const dt_onnx_call *c) {
    stft f;
    DT_TRY(read_stft(c, &f));
    const dt_host_tensor *x = c->in[0];
    const int64_t parts = x->ndim == 3 ? x->dim[2] : 1;
    double *in, *window, *line, *out, *room;
    DT_TRY(dt_onnx_load(c, 0, &in));
    DT_TRY(dt_onnx_load(c, 2, &window));
    DT_TRY(dt_onnx_doubles(c, 2 * f.n, &line));
    DT_TRY(dt_onnx_doubles(c, 2 * f.n, &out));
    DT_TRY(dt_onnx_doubles(c, 2 * f.n, &room));
    for (int64_t b = 0; b < x->dim[0]; b++)
        for (int64_t k = 0; k < f.frames; k++) {
            memset(line, 0, sizeof *line * 2 * (size_t)f.n);
            for (int64_t i = 0; i < f.n; i++)
                for (int64_t p = 0; p < parts; p++)
                    line[2 * i + p] =
                        in[(b * x->dim[1] + k * f.step + i) * parts + p] * (window ? window[i] : 1);
            transform(f.n, f.bins, -1, line, out, room);
            dt_host_store_f64(&c->out[0], (b * f.frames + k) * f.bins * 2, f.bins * 2, out);
        }
    return DT_OK;
}

/* ---- windows, mel filters ---- */

static dt_status out_type(const dt_onnx_call *c, dt_tensor_type *out) {
    DT_TRY(dt_onnx_type(c, dt_onnx_attr_int(c->node, "output_datatype", 1), out));
    if (DT_HOST_NUMBERS & DT_HOST_IS(*out)) return DT_OK;
    return dt_onnx_refuse(c, "it cannot result in %s", dt_tensor_type_name(*out));
}

dt_status dt_infer_window(const dt_onnx_call *c) {
    dt_tensor_type type = DT_TENSOR_F32;
    int64_t n;
    DT_TRY(out_type(c, &type));
    DT_TRY(one_i64(c, 0, 0, &n));
    if (n < 0) return dt_onnx_refuse(c, "a size of %lld", (long long)n);
    return dt_onnx_out(c, 0, type, 1, &n);
}

dt_status dt_run_window(const dt_onnx_call *c) {
    static const struct {
        const char *name;
        double a[3];
    } windows[] = {{"HannWindow", {0.5, 0.5, 0}},
                   {"HammingWindow", {25.0 / 46, 21.0 / 46, 0}},
                   {"BlackmanWindow", {0.42, 0.5, 0.08}}};
    int k = 0;
    while (strcmp(windows[k].name, c->node->op) != 0) k++;
    const double *a = windows[k].a;
    const int64_t n = c->out[0].dim[0];
    const double by =
        2 * M_PI / (double)(dt_onnx_attr_int(c->node, "periodic", 1) ? n : dt_max_i64(n - 1, 1));
    for (int64_t i = 0; i < n; i++) {
        const double x = (double)i * by;
        dt_host_put_f64(&c->out[0], i, a[0] - a[1] * cos(x) + a[2] * cos(2 * x));
    }
    return DT_OK;
}

typedef struct mel {
    int64_t n, length, rate;
} mel;

static dt_status read_mel(const dt_onnx_call *c, mel *m) {
    DT_TRY(one_i64(c, 0, 0, &m->n));
    DT_TRY(one_i64(c, 1, 0, &m->length));
    DT_TRY(one_i64(c, 2, 0, &m->rate));
    if (m->n < 1 || m->n > 1 << 30 || m->length < 0 || m->length > 1 << 30 || m->rate < 1)
        return dt_onnx_refuse(c, "%lld bins of %lld at a rate of %lld", (long long)m->n, (long long)m->length,
                              (long long)m->rate);
    return DT_OK;
}

dt_status dt_infer_mel(const dt_onnx_call *c) {
    mel m;
    dt_tensor_type type = DT_TENSOR_F32;
    DT_TRY(out_type(c, &type));
    DT_TRY(read_mel(c, &m));
    for (int32_t i = 3; i < 5; i++) {
        DT_TRY(dt_onnx_expect(c, i, DT_HOST_FLOATS));
        DT_TRY(dt_onnx_one(c, i));
    }
    return dt_onnx_out(c, 0, type, 2, (const int64_t[]){m.length / 2 + 1, m.n});
}

dt_status dt_run_mel(const dt_onnx_call *c) {
    mel m;
    DT_TRY(read_mel(c, &m));
    const double low = 2595 * log10(1 + dt_host_f64(c->in[3], 0) / 700),
                 high = 2595 * log10(1 + dt_host_f64(c->in[4], 0) / 700),
                 step = (high - low) / (double)(m.n + 2);
    const int64_t rows = m.length / 2 + 1;
    for (int64_t i = 0; i < m.n; i++) {
        int64_t edge[3];
        for (int k = 0; k < 3; k++) {
            const double hertz = 700 * (pow(10, (low + (double)(i + k) * step) / 2595) - 1),
                         bin = floor((double)(m.length + 1) * hertz / (double)m.rate);
            if (!(bin >= 0 && bin < (double)rows))
                return dt_onnx_refuse(c, "an edge is not within the spectrum's %lld bins", (long long)rows);
            edge[k] = (int64_t)bin;
        }
        if (edge[1] == edge[0]) dt_host_put_f64(&c->out[0], edge[1] * m.n + i, 1);
        for (int64_t j = edge[0]; edge[1] > edge[0] && j <= edge[1]; j++)
            dt_host_put_f64(&c->out[0], j * m.n + i, (double)(j - edge[0]) / (double)(edge[1] - edge[0]));
        for (int64_t j = edge[1]; edge[2] > edge[1] && j < edge[2]; j++)
            dt_host_put_f64(&c->out[0], j * m.n + i, (double)(edge[2] - j) / (double)(edge[2] - edge[1]));
    }
    return DT_OK;
}
