/* Einsum: sums of products over named dimensions. */
#include <ctype.h>
#include <string.h>

#include "walk.h"

enum {
    MAX_TERMS = 8,
    DOTS = 64, /* labels of the dimensions of "...", counted from the last; letters are below */
    N_LABELS = DOTS + DT_MAX_DIM,
    MAX_WORK_LOG2 = 36 /* products: a file may name any number of dimensions */
};

typedef struct term {
    int32_t n;
    int32_t label[DT_MAX_DIM];
} term;

typedef struct equation {
    int32_t n_in, n_sum;
    term in[MAX_TERMS], out;
    int32_t sum[N_LABELS];  /* labels that the result does not have */
    int64_t size[N_LABELS]; /* -1: no such label */
} equation;

static bool is_letter(char c) {
    return isalpha((unsigned char)c) != 0;
}

/* A term from s to end, whose "..." are `dots` dimensions. */
static dt_status read_term(const dt_onnx_call *c, const char *s, const char *end, int32_t dots, term *t) {
    bool dotted = false;
    t->n = 0;
    for (const char *p = s; p < end; p++) {
        if (*p == ' ') continue;
        const bool letter = is_letter(*p);
        const int32_t more = letter ? 1 : dots;
        if (!letter && (dotted || end - p < 3 || strncmp(p, "...", 3) != 0))
            return dt_onnx_refuse(c, "its equation is not understood at '%.8s'", p);
        if (more < 0 || t->n + more > DT_MAX_DIM)
            return dt_onnx_refuse(c, "a term of its equation does not have its input's dimensions");
        for (int32_t d = more - 1; d >= 0; d--) t->label[t->n++] = letter ? *p - 'A' : DOTS + d;
        if (!letter) dotted = true, p += 2;
    }
    return DT_OK;
}

static dt_status read_equation(const dt_onnx_call *c, equation *e) {
    const char *s = dt_onnx_attr_text(c->node, "equation", ""), *arrow = strstr(s, "->");
    const char *const end = arrow ? arrow : s + strlen(s);
    int32_t dots = 0, times[N_LABELS] = {0};
    for (int32_t l = 0; l < N_LABELS; l++) e->size[l] = -1;
    e->n_in = c->n_in;
    if (c->n_in > MAX_TERMS) return dt_onnx_refuse(c, "%d inputs, where %d can be", (int)c->n_in, MAX_TERMS);
    for (int32_t i = 0; i < c->n_in; i++) {
        const dt_host_tensor *x = c->in[i];
        if (!x) return dt_onnx_refuse(c, "input %d is missing", (int)i);
        const char *comma = memchr(s, ',', (size_t)(end - s)), *stop = comma ? comma : end;
        if ((comma != NULL) != (i + 1 < c->n_in))
            return dt_onnx_refuse(c, "its equation has another number of terms than it has inputs, %d",
                                  (int)c->n_in);
        int32_t letters = 0;
        for (const char *p = s; p < stop; p++) letters += is_letter(*p);
        term *t = &e->in[i];
        DT_TRY(read_term(c, s, stop, x->ndim - letters, t));
        if (t->n != x->ndim)
            return dt_onnx_refuse(c, "a term of %d dimensions reads an input of %d", (int)t->n, (int)x->ndim);
        if (memchr(s, '.', (size_t)(stop - s)) && x->ndim - letters > dots) dots = x->ndim - letters;
        for (int32_t d = 0; d < t->n; d++) {
            int64_t *size = &e->size[t->label[d]];
            times[t->label[d]]++;
            if (*size >= 0 && *size != x->dim[d] && *size != 1 && x->dim[d] != 1)
                return dt_onnx_refuse(c, "a dimension is %lld and %lld", (long long)*size,
                                      (long long)x->dim[d]);
            if (*size < 0 || *size == 1) *size = x->dim[d];
        }
        s = comma ? comma + 1 : end;
    }
    if (arrow) {
        DT_TRY(read_term(c, arrow + 2, arrow + 2 + strlen(arrow + 2), dots, &e->out));
    } else { /* "..." and every letter that is there once */
        e->out.n = 0;
        for (int32_t d = dots - 1; d >= 0; d--) e->out.label[e->out.n++] = DOTS + d;
        for (int32_t l = 0; l < DOTS; l++)
            if (times[l] == 1) {
                if (e->out.n >= DT_MAX_DIM) return dt_onnx_refuse(c, "its result has too many dimensions");
                e->out.label[e->out.n++] = l;
            }
    }
    bool kept[N_LABELS] = {false};
    for (int32_t d = 0; d < e->out.n; d++) {
        const int32_t l = e->out.label[d];
        if (kept[l] || e->size[l] < 0)
            return dt_onnx_refuse(c, "its result names a dimension twice, or one there is not");
        kept[l] = true;
    }
    e->n_sum = 0;
    for (int32_t l = 0; l < N_LABELS; l++)
        if (e->size[l] >= 0 && !kept[l]) e->sum[e->n_sum++] = l;
    return DT_OK;
}

static dt_status infer_einsum(const dt_onnx_call *c) {
    equation e;
    int64_t dim[DT_MAX_DIM], work = 1;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(read_equation(c, &e));
    for (int32_t i = 1; i < c->n_in; i++)
        if (c->in[i]->type != c->in[0]->type) return dt_onnx_refuse(c, "its inputs are of several types");
    for (int32_t d = 0; d < e.out.n; d++) dim[d] = e.size[e.out.label[d]];
    for (int32_t l = 0; l < N_LABELS; l++)
        if (e.size[l] > 0 &&
            (__builtin_mul_overflow(work, e.size[l], &work) || work > INT64_C(1) << MAX_WORK_LOG2))
            return dt_onnx_refuse(c, "more than 2^%d products", MAX_WORK_LOG2);
    return dt_onnx_out(c, 0, c->in[0]->type, e.out.n, dim);
}

/* All combinations of some labels, and where each input is at one. */
typedef struct odometer {
    int32_t n;
    int64_t size[N_LABELS], index[N_LABELS], step[MAX_TERMS][N_LABELS];
} odometer;

static void odometer_set(odometer *o, const dt_onnx_call *c, const equation *e, int32_t n,
                         const int32_t *label) {
    memset(o, 0, sizeof *o);
    o->n = n;
    for (int32_t k = 0; k < n; k++) o->size[k] = e->size[label[k]];
    for (int32_t i = 0; i < e->n_in; i++) {
        int64_t step[DT_MAX_DIM];
        dt_walk_steps(c->in[i]->ndim, c->in[i]->dim, step);
        for (int32_t d = 0; d < e->in[i].n; d++)
            for (int32_t k = 0; k < n; k++)
                if (e->in[i].label[d] == label[k] && c->in[i]->dim[d] != 1) o->step[i][k] += step[d];
    }
}

/* On to the next; false after the last, when it is at the first again. */
static bool odometer_next(odometer *o, int32_t n_in, int64_t *at) {
    for (int32_t k = o->n - 1; k >= 0; k--) {
        for (int32_t i = 0; i < n_in; i++) at[i] += o->step[i][k];
        if (++o->index[k] < o->size[k]) return true;
        for (int32_t i = 0; i < n_in; i++) at[i] -= o->step[i][k] * o->size[k];
        o->index[k] = 0;
    }
    return false;
}

static dt_status run_einsum(const dt_onnx_call *c) {
    equation e;
    odometer out, sum;
    int64_t at[MAX_TERMS] = {0};
    const void *value[MAX_TERMS];
    const bool floats = dt_host_is(c->in[0], DT_HOST_FLOATS);
    DT_TRY(read_equation(c, &e));
    for (int32_t l = 0; l < N_LABELS; l++)
        if (e.size[l] == 0) return DT_OK; /* sums of nothing are 0 */
    for (int32_t i = 0; i < e.n_in; i++) {
        const int64_t n = dt_host_n_elem(c->in[i]);
        void *room;
        DT_TRY(dt_onnx_scratch(c, dt_min_i64(n, INT64_MAX / 16) * (int64_t)sizeof(int64_t), &room));
        if (floats)
            dt_host_load_f64(c->in[i], 0, 1, n, room);
        else
            dt_host_load_i64(c->in[i], 0, 1, n, room);
        value[i] = room;
    }
    odometer_set(&out, c, &e, e.out.n, e.out.label);
    odometer_set(&sum, c, &e, e.n_sum, e.sum);
    int64_t to = 0;
    do {
        double f = 0;
        uint64_t whole = 0;
        do {
            double p = 1;
            uint64_t q = 1;
            for (int32_t i = 0; i < e.n_in; i++)
                if (floats)
                    p *= ((const double *)value[i])[at[i]];
                else
                    q *= ((const uint64_t *)value[i])[at[i]];
            f += p, whole += q;
        } while (odometer_next(&sum, e.n_in, at));
        if (floats)
            dt_host_put_f64(&c->out[0], to++, f);
        else
            dt_host_put_i64(&c->out[0], to++, (int64_t)whole);
    } while (odometer_next(&out, e.n_in, at));
    return DT_OK;
}

const dt_onnx_op dt_onnx_ops_einsum[] = {
    {"", "Einsum", 12, 1, -1, 1, infer_einsum, run_einsum, false},
    {.name = NULL},
};
