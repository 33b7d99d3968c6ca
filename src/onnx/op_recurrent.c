/* Rows of RNN, GRU and LSTM. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "gemm.h"
#include "numbers.h"

/* ---- activations ---- */

typedef struct activation {
    const char *name;
    bool has_alpha, has_beta;
    double alpha, beta; /* unless given */
    double (*of)(double x, double alpha, double beta);
} activation;

static double relu(double x, double a, double b) {
    (void)a, (void)b;
    return x > 0 ? x : 0;
}
static double tanh_of(double x, double a, double b) {
    (void)a, (void)b;
    return tanh(x);
}
static double sigmoid(double x, double a, double b) {
    (void)a, (void)b;
    return 1 / (1 + exp(-x));
}
static double affine(double x, double a, double b) {
    return a * x + b;
}
static double leaky(double x, double a, double b) {
    (void)b;
    return x >= 0 ? x : a * x;
}
static double thresholded(double x, double a, double b) {
    (void)b;
    return x > a ? x : 0;
}
static double scaled_tanh(double x, double a, double b) {
    return a * tanh(b * x);
}
static double hard_sigmoid(double x, double a, double b) {
    return fmin(fmax(a * x + b, 0), 1);
}
static double elu(double x, double a, double b) {
    (void)b;
    return x >= 0 ? x : a * expm1(x);
}
static double softsign(double x, double a, double b) {
    (void)a, (void)b;
    return x / (1 + fabs(x));
}
static double softplus(double x, double a, double b) {
    (void)a, (void)b;
    return x > 30 ? x : log1p(exp(x));
}

static const activation activations[] = {
    {"Tanh", false, false, 0, 0, tanh_of},
    {"Sigmoid", false, false, 0, 0, sigmoid},
    {"Relu", false, false, 0, 0, relu},
    {"Affine", true, true, 1, 0, affine},
    {"LeakyRelu", true, false, 0.01, 0, leaky},
    {"ThresholdedRelu", true, false, 1, 0, thresholded},
    {"ScaledTanh", true, true, 1, 1, scaled_tanh},
    {"HardSigmoid", true, true, 0.2, 0.5, hard_sigmoid},
    {"Elu", true, false, 1, 0, elu},
    {"Softsign", false, false, 0, 0, softsign},
    {"Softplus", false, false, 0, 0, softplus},
};

/* ---- a node ---- */

typedef struct kind {
    const char *op;
    int gates, n_act;
    const char *act[3]; /* unless given */
} kind;

static const kind kinds[] = {
    {"RNN", 1, 1, {"Tanh"}}, {"GRU", 3, 2, {"Sigmoid", "Tanh"}}, {"LSTM", 4, 3, {"Sigmoid", "Tanh", "Tanh"}}};

enum { X, W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLE, W_SCALE, W_ZERO, R_SCALE, R_ZERO };

typedef struct recurrent {
    const kind *kind;
    int64_t steps, rows, in, hidden, directions;
    bool batch_first, reverse; /* reverse: the only direction */
    activation act[2][3];
    double clip; /* 0: none */
    bool linear_before_reset, input_forget;
    bool dynamic; /* weights [directions, in, gates] in 8 bits; inputs are quantised to u8 as they come */
} recurrent;

static dt_status read_activations(const dt_onnx_call *c, recurrent *r) {
    const dt_onnx_attr *names = dt_onnx_attr_find(c->node, "activations"),
                       *alpha = dt_onnx_attr_find(c->node, "activation_alpha"),
                       *beta = dt_onnx_attr_find(c->node, "activation_beta");
    const int64_t n_alpha = alpha && alpha->kind == DT_ONNX_FLOATS ? alpha->n : 0,
                  n_beta = beta && beta->kind == DT_ONNX_FLOATS ? beta->n : 0;
    const bool given = names && names->kind == DT_ONNX_STRINGS && names->n > 0;
    if (given && names->n != r->directions * r->kind->n_act)
        return dt_onnx_refuse(c, "%lld activations, not %lld", (long long)names->n,
                              (long long)r->directions * r->kind->n_act);
    int64_t at_alpha = 0, at_beta = 0;
    for (int64_t d = 0; d < r->directions; d++)
        for (int k = 0; k < r->kind->n_act; k++) {
            const char *name = given ? names->strings[d * r->kind->n_act + k] : r->kind->act[k];
            size_t i = 0;
            while (i < sizeof activations / sizeof *activations && strcasecmp(activations[i].name, name) != 0)
                i++;
            if (i == sizeof activations / sizeof *activations)
                return dt_onnx_refuse(c, "activation \"%s\" is unknown", name);
            activation *a = &r->act[d][k];
            *a = activations[i];
            if (a->has_alpha && at_alpha < n_alpha) a->alpha = (double)alpha->floats[at_alpha++];
            if (a->has_beta && at_beta < n_beta) a->beta = (double)beta->floats[at_beta++];
        }
    return DT_OK;
}

static dt_status read_recurrent(const dt_onnx_call *c, recurrent *r) {
    const dt_host_tensor *x = c->in[X];
    const char *direction = dt_onnx_attr_text(c->node, "direction", "forward");
    const bool both = strcmp(direction, "bidirectional") == 0;
    *r = (recurrent){.kind = kinds,
                     .directions = both ? 2 : 1,
                     .reverse = strcmp(direction, "reverse") == 0,
                     .batch_first = c->version >= 14 && dt_onnx_attr_int(c->node, "layout", 0) != 0,
                     .clip = (double)dt_onnx_attr_float(c->node, "clip", 0),
                     .linear_before_reset = dt_onnx_attr_int(c->node, "linear_before_reset", 0) != 0,
                     .input_forget = dt_onnx_attr_int(c->node, "input_forget", 0) != 0,
                     .dynamic = strcmp(c->node->op, "DynamicQuantizeLSTM") == 0};
    if (!both && !r->reverse && strcmp(direction, "forward") != 0)
        return dt_onnx_refuse(c, "direction \"%s\" is unknown", direction);
    while (strcmp(r->kind->op, r->dynamic ? "LSTM" : c->node->op) != 0) r->kind++;
    DT_TRY(dt_onnx_rank(c, X, 3, 3));
    DT_TRY(dt_onnx_rank(c, R, 3, 3));
    r->steps = x->dim[r->batch_first], r->rows = x->dim[!r->batch_first], r->in = x->dim[2];
    r->hidden = c->in[R]->dim[r->dynamic ? 1 : 2];
    if (r->hidden < 1 || r->hidden > 1 << 24 ||
        dt_onnx_attr_int(c->node, "hidden_size", r->hidden) != r->hidden)
        return dt_onnx_refuse(c, "a hidden size of %lld",
                              (long long)dt_onnx_attr_int(c->node, "hidden_size", r->hidden));
    const int64_t d = r->directions, h = r->hidden, gates = r->kind->gates * h;
    const int64_t state[] = {r->batch_first ? r->rows : d, r->batch_first ? d : r->rows, h};
    if (r->dynamic) {
        DT_TRY(dt_onnx_shape_of(c, W, 3, (const int64_t[]){d, r->in, gates}));
        DT_TRY(dt_onnx_shape_of(c, R, 3, (const int64_t[]){d, h, gates}));
        for (int32_t i = W_SCALE; i <= R_ZERO; i++) {
            if (!dt_onnx_in(c, i)) return dt_onnx_refuse(c, "without input %d", i);
            DT_TRY(dt_onnx_rank(c, i, 1, 2));
            DT_TRY(dt_onnx_shape_of(c, i, c->in[i]->ndim, (const int64_t[]){d, gates}));
        }
    } else {
        DT_TRY(dt_onnx_shape_of(c, W, 3, (const int64_t[]){d, gates, r->in}));
        DT_TRY(dt_onnx_shape_of(c, R, 3, (const int64_t[]){d, gates, h}));
    }
    DT_TRY(dt_onnx_shape_of(c, B, 2, (const int64_t[]){d, 2 * gates}));
    DT_TRY(dt_onnx_shape_of(c, LENGTHS, 1, &r->rows));
    DT_TRY(dt_onnx_shape_of(c, INITIAL_H, 3, state));
    DT_TRY(dt_onnx_shape_of(c, INITIAL_C, 3, state));
    DT_TRY(dt_onnx_shape_of(c, PEEPHOLE, 2, (const int64_t[]){d, 3 * h}));
    return read_activations(c, r);
}

static dt_status infer_recurrent(const dt_onnx_call *c) {
    recurrent r;
    DT_TRY(dt_onnx_expect(c, X, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, LENGTHS, DT_HOST_IS(DT_TENSOR_I32)));
    const bool dynamic = strcmp(c->node->op, "DynamicQuantizeLSTM") == 0;
    for (int32_t i = 1; i < c->n_in; i++) {
        if (i == LENGTHS) continue;
        if (dynamic && (i == W || i == R))
            DT_TRY(dt_onnx_expect(c, i, DT_HOST_BYTES));
        else if (i == W_ZERO || i == R_ZERO)
            DT_TRY(dt_onnx_same_type(c, i == W_ZERO ? W : R, i));
        else
            DT_TRY(dt_onnx_same_type(c, X, i));
    }
    DT_TRY(read_recurrent(c, &r));
    const dt_tensor_type type = c->in[X]->type;
    const int64_t t = r.steps, d = r.directions, b = r.rows, h = r.hidden;
    if (r.batch_first)
        DT_TRY(dt_onnx_out(c, 0, type, 4, (const int64_t[]){b, t, d, h}));
    else
        DT_TRY(dt_onnx_out(c, 0, type, 4, (const int64_t[]){t, d, b, h}));
    for (int32_t i = 1; i < 3; i++)
        DT_TRY(
            dt_onnx_out(c, i, type, 3, (const int64_t[]){r.batch_first ? b : d, r.batch_first ? d : b, h}));
    return DT_OK;
}

static double act(const recurrent *r, const activation *a, double x) {
    if (r->clip > 0) x = fmin(fmax(x, -r->clip), r->clip);
    return a->of(x, a->alpha, a->beta);
}

/* One direction's numbers. */
typedef struct direction {
    const activation *act;
    const double *w, *r, *wb, *rb, *peep; /* wb, rb, peep: NULL: none */
} direction;

/* A row's new state from its inputs' sums xw [gates hidden] and hr, those of its state. */
static void step_row(const recurrent *r, const direction *d, const double *xw, const double *hr, double *h,
                     double *cell) {
    const int64_t n = r->hidden;
    for (int64_t i = 0; i < n; i++) {
#define SUM(gate)                                                                                            \
    (xw[(gate)*n + i] + hr[(gate)*n + i] + (d->wb ? d->wb[(gate)*n + i] + d->rb[(gate)*n + i] : 0))
#define PEEP(gate) (d->peep ? d->peep[(gate)*n + i] : 0)
        if (r->kind->gates == 1) {
            h[i] = act(r, &d->act[0], SUM(0));
        } else { /* input, output, forget, cell */
            const double in = act(r, &d->act[0], SUM(0) + PEEP(0) * cell[i]),
                         forget = r->input_forget ? 1 - in : act(r, &d->act[0], SUM(2) + PEEP(2) * cell[i]);
            cell[i] = forget * cell[i] + in * act(r, &d->act[1], SUM(3));
            h[i] = act(r, &d->act[0], SUM(1) + PEEP(1) * cell[i]) *
                   d->act[2].of(cell[i], d->act[2].alpha, d->act[2].beta);
        }
#undef SUM
#undef PEEP
    }
}

/* The same of a GRU for all rows: update, reset, hidden. room: [rows, 2 hidden]. */
static dt_status step_gru(const recurrent *r, const direction *d, const double *xw, double *hr, double *h,
                          double *room, const bool *runs) {
    const int64_t n = r->hidden;
    double *reset = room, *sum = room + r->rows * n;
    for (int64_t i = 0; i < r->rows * n; i++) {
        const int64_t b = i / n, k = i % n, at = b * 3 * n + n + k;
        reset[i] = act(r, &d->act[0], xw[at] + hr[at] + (d->wb ? d->wb[n + k] + d->rb[n + k] : 0));
        if (!r->linear_before_reset) sum[i] = reset[i] * h[i];
    }
    if (!r->linear_before_reset) {
        /* Sums of the reset state take the place of those of the state. */
        double *product = hr + r->rows * 3 * n;
        DT_TRY(dt_gemm_transposed(r->rows, n, n, sum, d->r + 2 * n * n, product));
        for (int64_t i = 0; i < r->rows * n; i++) hr[i / n * 3 * n + 2 * n + i % n] = product[i];
    }
    for (int64_t i = 0; i < r->rows * n; i++) {
        const int64_t b = i / n, k = i % n, at = b * 3 * n + k;
        if (!runs[b]) continue;
        const double rb = d->rb ? d->rb[2 * n + k] : 0, wb = d->wb ? d->wb[2 * n + k] : 0,
                     update = act(r, &d->act[0], xw[at] + hr[at] + (d->wb ? d->wb[k] + d->rb[k] : 0)),
                     from = hr[at + 2 * n] + rb, x = xw[at + 2 * n] + wb,
                     now = act(r, &d->act[1], x + (r->linear_before_reset ? reset[i] * from : from));
        h[i] = (1 - update) * now + update * h[i];
    }
    return DT_OK;
}

/* The weights of slot `slot` (W or R), turned to [directions, gates, columns], as the numbers that they stand for. */
static dt_status load_small(const dt_onnx_call *c, const recurrent *r, int32_t slot, double **out) {
    const int32_t at_scale = slot == W ? W_SCALE : R_SCALE, at_zero = at_scale + 1;
    const int64_t gates = r->kind->gates * r->hidden, k = c->in[slot]->dim[1];
    const bool each = c->in[at_scale]->ndim == 2, each_zero = c->in[at_zero]->ndim == 2;
    double *q, *scale, *zero;
    DT_TRY(dt_onnx_load(c, slot, &q));
    DT_TRY(dt_onnx_load(c, at_scale, &scale));
    DT_TRY(dt_onnx_load(c, at_zero, &zero));
    DT_TRY(dt_onnx_doubles(c, r->directions * gates * k, out));
    for (int64_t d = 0; d < r->directions; d++)
        for (int64_t g = 0; g < gates; g++)
            for (int64_t i = 0; i < k; i++)
                (*out)[(d * gates + g) * k + i] =
                    (q[(d * k + i) * gates + g] - zero[each_zero ? d * gates + g : d]) *
                    scale[each ? d * gates + g : d];
    return DT_OK;
}

/* Numbers as they come back from u8, of one scale for all. */
static void through_bytes(double *x, int64_t n) {
    double low = 0, high = 0;
    for (int64_t i = 0; i < n; i++) low = fmin(low, x[i]), high = fmax(high, x[i]);
    double scale = (double)(float)((high - low) / 255);
    if (scale == 0) scale = 1;
    const double zero = nearbyint(fmin(fmax(-low / scale, 0), 255));
    for (int64_t i = 0; i < n; i++)
        x[i] = (fmin(fmax((double)nearbyintf((float)x[i] / (float)scale) + zero, 0), 255) - zero) * scale;
}

static dt_status run_recurrent(const dt_onnx_call *c) {
    recurrent r;
    DT_TRY(read_recurrent(c, &r));
    const int64_t n = r.hidden, gates = r.kind->gates * n, rows = r.rows;
    double *x, *w, *rec, *bias, *first_h, *first_c, *peep, *line, *xw, *hr, *h, *cell, *room;
    void *p;
    DT_TRY(dt_onnx_load(c, X, &x));
    DT_TRY(r.dynamic ? load_small(c, &r, W, &w) : dt_onnx_load(c, W, &w));
    DT_TRY(r.dynamic ? load_small(c, &r, R, &rec) : dt_onnx_load(c, R, &rec));
    if (r.dynamic) through_bytes(x, r.steps * rows * r.in);
    DT_TRY(dt_onnx_load(c, B, &bias));
    DT_TRY(dt_onnx_load(c, INITIAL_H, &first_h));
    DT_TRY(dt_onnx_load(c, INITIAL_C, &first_c));
    DT_TRY(dt_onnx_load(c, PEEPHOLE, &peep));
    DT_TRY(dt_onnx_doubles(c, rows * r.in, &line));
    DT_TRY(dt_onnx_doubles(c, rows * gates, &xw));
    DT_TRY(dt_onnx_doubles(c, rows * (gates + n), &hr));
    DT_TRY(dt_onnx_doubles(c, rows * n, &h));
    DT_TRY(dt_onnx_doubles(c, rows * n, &cell));
    DT_TRY(dt_onnx_doubles(c, 2 * rows * n, &room));
    DT_TRY(dt_onnx_scratch(c, rows, &p));
    bool *runs = p;
    for (int64_t d = 0; d < r.directions; d++) {
        const direction dir = {.act = r.act[d],
                               .w = w + d * gates * r.in,
                               .r = rec + d * gates * n,
                               .wb = bias ? bias + d * 2 * gates : NULL,
                               .rb = bias ? bias + d * 2 * gates + gates : NULL,
                               .peep = peep ? peep + d * 3 * n : NULL};
        const bool back = r.reverse || d == 1;
        for (int64_t b = 0; b < rows; b++) {
            const int64_t at = (r.batch_first ? b * r.directions + d : d * rows + b) * n;
            for (int64_t i = 0; i < n; i++) {
                h[b * n + i] = first_h ? first_h[at + i] : 0;
                cell[b * n + i] = first_c ? first_c[at + i] : 0;
            }
        }
        for (int64_t t = 0; t < r.steps; t++) {
            memset(line, 0, sizeof *line * (size_t)(rows * r.in));
            for (int64_t b = 0; b < rows; b++) {
                const int64_t len = dt_onnx_in(c, LENGTHS) ? dt_host_i64(c->in[LENGTHS], b) : r.steps;
                if (len < 0 || len > r.steps)
                    return dt_onnx_refuse(c, "row %lld has %lld steps of %lld", (long long)b, (long long)len,
                                          (long long)r.steps);
                const int64_t place = back ? len - 1 - t : t;
                runs[b] = t < len;
                if (runs[b])
                    memcpy(line + b * r.in,
                           x + (r.batch_first ? b * r.steps + place : place * rows + b) * r.in,
                           sizeof *line * (size_t)r.in);
            }
            DT_TRY(dt_gemm_transposed(rows, gates, r.in, line, dir.w, xw));
            if (r.dynamic) {
                memcpy(room, h, sizeof *h * (size_t)(rows * n));
                through_bytes(room, rows * n);
            }
            DT_TRY(dt_gemm_transposed(rows, gates, n, r.dynamic ? room : h, dir.r, hr));
            if (r.kind->gates == 3) DT_TRY(step_gru(&r, &dir, xw, hr, h, room, runs));
            for (int64_t b = 0; b < rows; b++) {
                if (!runs[b]) continue;
                if (r.kind->gates != 3)
                    step_row(&r, &dir, xw + b * gates, hr + b * gates, h + b * n, cell + b * n);
                const int64_t len = dt_onnx_in(c, LENGTHS) ? dt_host_i64(c->in[LENGTHS], b) : r.steps,
                              place = back ? len - 1 - t : t,
                              to = r.batch_first ? (b * r.steps + place) * r.directions + d
                                                 : (place * r.directions + d) * rows + b;
                if (dt_onnx_wants(c, 0)) dt_host_store_f64(&c->out[0], to * n, n, h + b * n);
            }
        }
        for (int64_t b = 0; b < rows; b++) {
            const int64_t to = (r.batch_first ? b * r.directions + d : d * rows + b) * n;
            if (dt_onnx_wants(c, 1)) dt_host_store_f64(&c->out[1], to, n, h + b * n);
            if (dt_onnx_wants(c, 2)) dt_host_store_f64(&c->out[2], to, n, cell + b * n);
        }
    }
    return DT_OK;
}

#define ROW(name, since, in_max, out_max)                                                                    \
    { "", name, since, 3, in_max, out_max, infer_recurrent, run_recurrent, false }

const dt_onnx_op dt_onnx_ops_recurrent[] = {
    ROW("RNN", 7, 6, 2),
    ROW("GRU", 7, 6, 2),
    ROW("LSTM", 7, 8, 3),
    {"com.microsoft", "DynamicQuantizeLSTM", 1, 3, 12, 3, infer_recurrent, run_recurrent, false},
    {.name = NULL},
};
