/* Layout of the parameter axis, its buckets, and initial weights. */
#include "core/axis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/op.h"
#include "core/rng.h"

/* As far as DT_AXIS_ALIGN floats: in fp32 the arena and the array of the frozen are the same. */
enum { FROZEN_ALIGN_BYTES = DT_AXIS_ALIGN * (int)sizeof(float) };

static void cut_buckets(dt_axis *a, int32_t n_bucket) {
    if (n_bucket > a->n_segment) n_bucket = a->n_segment;
    if (n_bucket > DT_BUCKETS_MAX) n_bucket = DT_BUCKETS_MAX;
    /* The last bucket is a tenth of an equal share: its reduction cannot overlap with backward. */
    double share = n_bucket > 1 ? (double)a->n_elem / ((double)n_bucket - 1 + 0.1) : (double)a->n_elem;
    int32_t s = 0;
    a->n_bucket = 0;
    while (s < a->n_segment) {
        dt_bucket *b = &a->bucket[a->n_bucket];
        b->offset = a->segment[s].offset;
        b->first_segment = s;
        int32_t left = n_bucket - a->n_bucket; /* buckets still to make, this one included */
        double end = share * (a->n_bucket + 1);
        do s++;
        while (s < a->n_segment &&
               (left == 1 || ((double)a->segment[s].offset < end && a->n_segment - s >= left)));
        b->n_segment = s - b->first_segment;
        b->n_elem = (s < a->n_segment ? a->segment[s].offset : a->n_elem) - b->offset;
        a->n_bucket++;
    }
}

static void describe(const dt_value *p, dt_axis_param *q) {
    memcpy(q->name, p->name, sizeof q->name);
    q->init = p->init, q->fan_in = p->fan_in, q->fan_out = p->fan_out, q->ndim = p->ndim;
    q->init_std = p->init_std, q->zero_row = p->zero_row;
    memcpy(q->dim, p->dim, sizeof q->dim);
    q->padded_c = p->dim[p->ndim - 1];
    if (p->stored_c) q->dim[p->ndim - 1] = p->stored_c;
    q->dtype = p->dtype;
}

bool dt_axis_is_end(const dt_graph *g, dt_vid v) {
    if (dt_graph_is_kept(g, v)) return true;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (n->phase != DT_PHASE_FORWARD || n->n_in == 0 || n->in[0] != v) continue;
        const uint32_t flags = dt_op_get(n->op)->flags;
        if (flags & DT_OP_SEED) return true;
        if ((flags & DT_OP_VIEW || n->op == DT_OP_CAST) && dt_axis_is_end(g, n->out[0])) return true;
    }
    return false;
}

/* Whether v is the weight of dense layers alone, none of which ends the network. */
static bool is_hidden_matrix(const dt_graph *g, dt_vid v) {
    bool any = false;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (n->phase != DT_PHASE_FORWARD) continue;
        for (int32_t j = 0; j < n->n_in; j++) {
            if (n->in[j] != v) continue;
            if (n->op != DT_OP_DENSE || j != DT_DENSE_IN_W || dt_axis_is_end(g, n->out[0])) return false;
            any = true;
        }
    }
    return any;
}

static void lay_state(dt_axis *a, dt_axis_segment *s, const dt_graph *g, dt_vid v) {
    const dt_value *p = &g->value[v];
    if (p->ndim > 1) s->rows = p->dim[0], s->cols = s->n_elem / p->dim[0];
    s->matrix = s->rows > 0 && (p->matrix ? p->matrix > 0 : is_hidden_matrix(g, v));
    for (int shape = 0; shape < DT_STATE_SHAPES; shape++) {
        const int64_t n = dt_segment_state_elem(s, (dt_state_shape)shape);
        s->state_at[shape] = a->n_state[shape];
        a->n_state[shape] = dt_round_up(a->n_state[shape] + n, DT_AXIS_ALIGN);
    }
}

/* Behind the segments, in the order of the graph's values. left_out [n_value]; NULL: none. */
static void lay_frozen(dt_axis *a, dt_graph *g, const bool *left_out) {
    for (dt_vid v = 0; v < g->n_value; v++) {
        dt_value *p = &g->value[v];
        if (p->role != DT_ROLE_PARAM || !p->frozen || (left_out && left_out[v])) continue;
        const int32_t i = a->n_segment + a->n_frozen++;
        describe(p, &a->param[i]);
        a->segment[i] = (dt_axis_segment){.offset = a->n_frozen_elem,
                                          .n_elem = dt_value_n_elem(p),
                                          .state_at = {[DT_STATE_ELEMENT] = a->n_frozen_elem}};
        p->axis_offset = a->param[i].frozen_at = a->frozen_bytes;
        a->n_frozen_param_elem += dt_axis_stored_elem(a, i);
        a->n_frozen_elem = dt_round_up(a->n_frozen_elem + dt_value_n_elem(p), DT_AXIS_ALIGN);
        a->frozen_bytes = dt_round_up(a->frozen_bytes + dt_value_bytes(p), FROZEN_ALIGN_BYTES);
    }
}

/* With room for all parameters that g trains or has frozen. */
static dt_status create_axis(const dt_graph *g, dt_axis **out) {
    dt_axis *a = calloc(1, sizeof *a);
    if (!a) return dt_fail(DT_ERR_MEMORY, "no memory for the parameter axis");
    int32_t n = 0;
    for (dt_vid v = 0; v < g->n_value; v++)
        n += g->value[v].role == DT_ROLE_GRAD || (g->value[v].role == DT_ROLE_PARAM && g->value[v].frozen);
    a->segment = calloc((size_t)n + 1, sizeof *a->segment);
    a->param = calloc((size_t)n + 1, sizeof *a->param);
    *out = a;
    if (a->segment && a->param) return DT_OK;
    dt_axis_destroy(a);
    return dt_fail(DT_ERR_MEMORY, "no memory for the parameter axis");
}

dt_status dt_axis_build_frozen(dt_graph *g, dt_axis **out) {
    for (dt_vid v = 0; v < g->n_value; v++) g->value[v].frozen |= g->value[v].role == DT_ROLE_PARAM;
    bool *left_out = malloc((size_t)g->n_value + 1);
    if (!left_out) return dt_fail(DT_ERR_MEMORY, "no memory for the parameter axis");
    for (dt_vid v = 0; v < g->n_value; v++) left_out[v] = !dt_graph_is_kept(g, v);
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] >= 0) left_out[g->node[i].in[k]] = false;
    const dt_status st = create_axis(g, out);
    if (st == DT_OK) lay_frozen(*out, g, left_out);
    free(left_out);
    return st;
}

dt_status dt_axis_build(dt_graph *g, int32_t n_bucket, float weight_decay, bool decay_all, dt_axis **out) {
    dt_axis *a;
    DT_TRY(create_axis(g, &a));
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *node = &g->node[i];
        for (int32_t j = 0; j < node->n_out; j++) {
            if (node->out[j] < 0 || g->value[node->out[j]].role != DT_ROLE_GRAD) continue;
            dt_value *d = &g->value[node->out[j]];
            dt_value *p = &g->value[d->grad_of];
            dt_axis_segment *s = &a->segment[a->n_segment];
            describe(p, &a->param[a->n_segment++]);
            s->offset = a->n_elem;
            s->n_elem = dt_value_n_elem(p);
            s->decay = p->decay || decay_all ? weight_decay : 0;
            s->lr_scale = 1;
            p->axis_offset = d->axis_offset = s->offset;
            s->n_real = dt_axis_stored_elem(a, a->n_segment - 1);
            a->n_param_elem += s->n_real;
            lay_state(a, s, g, d->grad_of);
            a->n_elem = a->n_state[DT_STATE_ELEMENT];
        }
    }
    lay_frozen(a, g, NULL);
    if (a->n_segment == 0) {
        dt_axis_destroy(a);
        return dt_fail(DT_ERR_CONFIG, "the model has no parameters to train");
    }
    cut_buckets(a, n_bucket < 1 ? 1 : n_bucket);
    *out = a;
    return DT_OK;
}

void dt_axis_destroy(dt_axis *a) {
    if (!a) return;
    free(a->segment);
    free(a->param);
    free(a);
}

int32_t dt_axis_find(const dt_axis *a, const char *name) {
    for (int32_t i = 0; i < a->n_segment + a->n_frozen; i++)
        if (strcmp(a->param[i].name, name) == 0) return i;
    return -1;
}

static dt_status fail_size(const dt_axis *a, int32_t s, const dt_graph *g, const dt_value *p) {
    return dt_fail(
        DT_ERR_CONFIG,
        "%s has %lld numbers in %s and %lld in %s: this network's weights depend on the size of its "
        "input, which must be one for both",
        p->name, (long long)a->segment[s].n_elem, g->training ? "one stage" : "training",
        (long long)dt_value_n_elem(p), g->training ? "another" : "evaluation");
}

dt_status dt_axis_assign(const dt_axis *a, dt_graph *g) {
    for (dt_vid v = 0; v < g->n_value; v++) {
        dt_value *p = &g->value[v];
        if (p->role != DT_ROLE_PARAM) continue;
        int32_t s = dt_axis_find(a, p->name);
        if (s < 0) return dt_fail(DT_ERR_INTERNAL, "parameter %s is not on the axis", p->name);
        if (a->segment[s].n_elem != dt_value_n_elem(p)) return fail_size(a, s, g, p);
        p->frozen = s >= a->n_segment;
        p->axis_offset = p->frozen ? a->param[s].frozen_at : a->segment[s].offset;
    }
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_GRAD)
            g->value[v].axis_offset = g->value[g->value[v].grad_of].axis_offset;
    return DT_OK;
}

static uint64_t name_hash(const char *name) { /* FNV-1a */
    uint64_t h = 14695981039346656037ull;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 1099511628211ull;
    return h;
}

int64_t dt_axis_stored_elem(const dt_axis *a, int32_t i) {
    int64_t n = 1;
    for (int32_t d = 0; d < a->param[i].ndim; d++) n *= a->param[i].dim[d];
    return n;
}

int32_t dt_axis_state_dims(const dt_axis *a, int32_t i, dt_state_shape shape, int64_t dim[DT_MAX_DIM]) {
    const dt_axis_param *p = &a->param[i];
    if (dt_segment_state_elem(&a->segment[i], shape) == 0) return 0;
    const int32_t first = shape == DT_STATE_COLUMN ? 1 : 0, end = shape == DT_STATE_ROW ? 1 : p->ndim;
    for (int32_t d = first; d < end; d++) dim[d - first] = p->dim[d];
    return end - first;
}

/* Floats of a group that are stored, and all of it. */
typedef struct group {
    int64_t c, pad_c;
} group;

static group group_of(const dt_axis_param *p, dt_state_shape shape) {
    return shape == DT_STATE_ROW ? (group){1, 1} : (group){p->dim[p->ndim - 1], p->padded_c};
}

void dt_axis_state_to_stored(const dt_axis *a, int32_t i, dt_state_shape shape, const float *state,
                             float *stored) {
    const group g = group_of(&a->param[i], shape);
    const float *from = state + a->segment[i].state_at[shape];
    for (int64_t row = 0; row < dt_segment_state_elem(&a->segment[i], shape) / g.pad_c; row++)
        memcpy(stored + row * g.c, from + row * g.pad_c, (size_t)g.c * sizeof *from);
}

void dt_axis_state_from_stored(const dt_axis *a, int32_t i, dt_state_shape shape, const float *stored,
                               float *state) {
    const group g = group_of(&a->param[i], shape);
    float *to = state + a->segment[i].state_at[shape];
    for (int64_t row = 0; row < dt_segment_state_elem(&a->segment[i], shape) / g.pad_c; row++) {
        memcpy(to + row * g.pad_c, stored + row * g.c, (size_t)g.c * sizeof *to);
        memset(to + row * g.pad_c + g.c, 0, (size_t)(g.pad_c - g.c) * sizeof *to);
    }
}

void dt_axis_to_stored(const dt_axis *a, int32_t i, const float *axis, float *stored) {
    dt_axis_state_to_stored(a, i, DT_STATE_ELEMENT, axis, stored);
}

void dt_axis_from_stored(const dt_axis *a, int32_t i, const float *stored, float *axis) {
    dt_axis_state_from_stored(a, i, DT_STATE_ELEMENT, stored, axis);
}

/* Four draws of the parameter's distribution. */
static void draw4(const dt_axis_param *p, uint64_t key, uint64_t hash, uint64_t counter, float *v) {
    dt_u32x4 r = dt_philox(key, hash, counter);
    for (int k = 0; k < 4; k++) v[k] = dt_u01(r.v[k]);
    if (p->init == DT_INIT_KAIMING_NORMAL_FAN_OUT || p->init == DT_INIT_NORMAL) {
        float stddev = p->init == DT_INIT_NORMAL ? p->init_std : sqrtf(2.0f / (float)p->fan_out);
        for (int k = 0; k < 4; k += 2) { /* Box-Muller */
            float radius = sqrtf(-2.0f * logf(1.0f - v[k])), angle = 6.28318530718f * v[k + 1];
            v[k] = stddev * radius * cosf(angle);
            v[k + 1] = stddev * radius * sinf(angle);
        }
        return;
    }
    const bool xavier = p->init == DT_INIT_XAVIER_UNIFORM;
    float bound = xavier ? sqrtf(6.0f / (float)(p->fan_in + p->fan_out)) : 1.0f / sqrtf((float)p->fan_in);
    for (int k = 0; k < 4; k++) v[k] = bound * (2.0f * v[k] - 1.0f);
}

/* Parameters first to end - 1. */
static void init_range(const dt_axis *a, int32_t first, int32_t end, uint64_t seed, float *array) {
    const uint64_t key = dt_rng_key(seed, DT_RNG_INIT, 0);
    for (int32_t s = first; s < end; s++) {
        const dt_axis_param *p = &a->param[s];
        float *w = array + a->segment[s].offset;
        if (p->init == DT_INIT_ZERO) continue;
        if (p->init == DT_INIT_ONE || p->init == DT_INIT_CONSTANT) {
            const float all = p->init == DT_INIT_ONE ? 1.0f : p->init_std;
            for (int64_t i = 0; i < a->segment[s].n_elem; i++) w[i] = all;
            continue;
        }
        /* Draws are counted in stored elements, so channel padding does not change the weights. */
        int64_t n = dt_axis_stored_elem(a, s), c = p->dim[p->ndim - 1];
        uint64_t hash = name_hash(p->name);
        for (int64_t i = 0; i < n; i += 4) {
            float v[4];
            draw4(p, key, hash, (uint64_t)i / 4, v);
            for (int64_t k = i; k < i + 4 && k < n; k++) w[k / c * p->padded_c + k % c] = v[k - i];
        }
        const int64_t row = a->segment[s].n_elem / p->dim[0];
        if (p->zero_row > 0) memset(w + (p->zero_row - 1) * row, 0, (size_t)row * sizeof *w);
    }
}

void dt_axis_init(const dt_axis *a, uint64_t seed, float *master) {
    init_range(a, 0, a->n_segment, seed, master);
}

void dt_axis_init_frozen(const dt_axis *a, uint64_t seed, float *frozen) {
    init_range(a, a->n_segment, a->n_segment + a->n_frozen, seed, frozen);
}

void dt_axis_pack_frozen(const dt_axis *a, const float *frozen, void *arena) {
    for (int32_t i = a->n_segment; i < a->n_segment + a->n_frozen; i++) {
        const float *from = frozen + a->segment[i].offset;
        char *to = (char *)arena + a->param[i].frozen_at;
        const int64_t n = a->segment[i].n_elem;
        if (a->param[i].dtype == DT_DTYPE_F32) memcpy(to, from, (size_t)n * sizeof *from);
        for (int64_t k = 0; a->param[i].dtype == DT_DTYPE_I32 && k < n; k++)
            ((int32_t *)(void *)to)[k] = (int32_t)from[k];
        for (int64_t k = 0; a->param[i].dtype == DT_DTYPE_F16 && k < n; k++)
            ((uint16_t *)(void *)to)[k] = dt_f32_to_f16(from[k]);
        for (int64_t k = 0; a->param[i].dtype == DT_DTYPE_BF16 && k < n; k++)
            ((uint16_t *)(void *)to)[k] = dt_f32_to_bf16(from[k]);
    }
}
