/* Broadcasting: shapes and the spaces kernels walk. */
#include "core/broadcast.h"

/* Dimension i of a shape seen with n dimensions. */
static int64_t dim_of(const dt_value *v, int32_t i, int32_t n) {
    const int32_t at = i - (n - v->ndim);
    return at < 0 ? 1 : v->dim[at];
}

bool dt_broadcast_shape(const dt_value *a, const dt_value *b, dt_value *out) {
    out->ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int32_t i = 0; i < DT_MAX_DIM; i++) out->dim[i] = 0;
    for (int32_t i = 0; i < out->ndim; i++) {
        const int64_t p = dim_of(a, i, out->ndim), q = dim_of(b, i, out->ndim);
        if (p != q && p != 1 && q != 1) return false;
        out->dim[i] = p == 1 ? q : p;
    }
    return true;
}

/* Whether dimension i of the space continues dimension i - 1 in every operand. */
static bool is_one(const dt_space *s, int32_t i) {
    for (int32_t k = 0; k < DT_SPACE_OPERANDS; k++)
        if (s->stride[k][i - 1] != s->stride[k][i] * s->dim[i]) return false;
    return true;
}

/* Joins what can be one. */
static void join(dt_space *s) {
    int32_t n = 0;
    for (int32_t i = 0; i < s->n; i++) {
        if (s->dim[i] == 1 && (n > 0 || i + 1 < s->n)) continue;
        s->dim[n] = s->dim[i];
        for (int32_t k = 0; k < DT_SPACE_OPERANDS; k++) s->stride[k][n] = s->stride[k][i];
        n++;
        if (n < 2 || !is_one(s, n - 1)) continue;
        s->dim[n - 2] *= s->dim[n - 1];
        for (int32_t k = 0; k < DT_SPACE_OPERANDS; k++) s->stride[k][n - 2] = s->stride[k][n - 1];
        n--;
    }
    s->n = n;
}

dt_space dt_broadcast_space(const dt_value *full, const dt_value *a, const dt_value *b) {
    const dt_value *operand[DT_SPACE_OPERANDS] = {full, a, b};
    dt_space s = {.n = full->ndim};
    int64_t step[DT_SPACE_OPERANDS] = {1, 1, 1};
    for (int32_t i = s.n - 1; i >= 0; i--) {
        s.dim[i] = full->dim[i];
        for (int32_t k = 0; k < DT_SPACE_OPERANDS; k++) {
            const int64_t d = operand[k] ? dim_of(operand[k], i, s.n) : full->dim[i];
            s.stride[k][i] = d == 1 && full->dim[i] != 1 ? 0 : step[k];
            step[k] *= d;
        }
    }
    join(&s);
    return s;
}

dt_space dt_broadcast_permuted(const dt_value *x, const int32_t *perm) {
    dt_space s = {.n = x->ndim};
    int64_t step = 1, own[DT_MAX_DIM], place = 1;
    for (int32_t i = x->ndim - 1; i >= 0; i--) own[i] = step, step *= x->dim[i];
    for (int32_t i = s.n - 1; i >= 0; i--) {
        s.dim[i] = x->dim[perm[i]];
        s.stride[DT_SPACE_FULL][i] = s.stride[DT_SPACE_B][i] = place;
        s.stride[DT_SPACE_A][i] = own[perm[i]];
        place *= s.dim[i];
    }
    join(&s);
    return s;
}

void dt_broadcast_split(const dt_space *s, int32_t operand, dt_space *kept, dt_space *summed) {
    dt_space *const part[] = {summed, kept};
    *kept = *summed = (dt_space){0};
    for (int32_t i = 0; i < s->n; i++) {
        dt_space *to = part[s->stride[operand][i] > 0];
        to->dim[to->n] = s->dim[i];
        for (int32_t k = 0; k < DT_SPACE_OPERANDS; k++) to->stride[k][to->n] = s->stride[k][i];
        to->n++;
    }
    for (int32_t p = 0; p < 2; p++)
        if (part[p]->n == 0) part[p]->n = 1, part[p]->dim[0] = 1;
}

int64_t dt_space_n_elem(const dt_space *s) {
    int64_t n = 1;
    for (int32_t i = 0; i < s->n; i++) n *= s->dim[i];
    return n;
}
