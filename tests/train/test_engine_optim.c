/* Optimizers through the engine against their definitions in double: the reference takes the engine's own
 * gradients and keeps weights, moments and averages to itself. Clipping, weight decay by role, averaging,
 * skipped updates, the loss scale. */
#include "engine_fixture.h"
#include "trainer_internal.h"

typedef struct reference {
    int64_t n;
    int64_t n_state;
    double *w, *s[DT_OPTIM_STATES_MAX], *ema, *g, *ema_state;
    double norm;
} reference;

static reference reference_open(const rig *r) {
    reference f = {.n = dt_engine_axis(r->e)->n_elem};
    double **all[] = {&f.w, &f.s[0], &f.s[1], &f.s[2], &f.ema, &f.g};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
        *all[k] = check_alloc((size_t)f.n * sizeof(double));
    for (int64_t i = 0; i < f.n; i++) f.w[i] = f.ema[i] = (double)rig_arena(r, DT_ARENA_MASTER)[i];
    const dt_axis *a = dt_engine_axis(r->e);
    for (int32_t k = 0; r->c.optim.kind == DT_OPTIM_RMSPROP_TF && k < a->n_segment; k++)
        for (int64_t i = 0; i < a->segment[k].n_elem; i++) f.s[0][a->segment[k].offset + i] = 1;
    f.n_state = rig_arena_bytes(r, DT_ARENA_STATE) / (int64_t)sizeof(float);
    f.ema_state = check_alloc((size_t)f.n_state * sizeof(double));
    for (int64_t i = 0; i < f.n_state; i++) f.ema_state[i] = (double)rig_arena(r, DT_ARENA_STATE)[i];
    return f;
}

static void reference_close(reference *f) {
    free(f->w), free(f->s[0]), free(f->s[1]), free(f->s[2]), free(f->ema), free(f->g), free(f->ema_state);
}

static bool is_matrix(const dt_axis *a, int32_t segment) {
    return a->param[segment].ndim > 1;
}

/* The gradients of the step that just ran, unscaled and clipped. */
static void take_gradients(reference *f, const rig *r, double loss_scale) {
    const float *g = rig_arena(r, dt_engine_division(r->e)->n_micro > 1 ? DT_ARENA_ACC : DT_ARENA_GRAD);
    double sum = 0;
    for (int64_t i = 0; i < f->n; i++) {
        f->g[i] = (double)g[i] / loss_scale;
        sum += f->g[i] * f->g[i];
    }
    f->norm = sqrt(sum);
    double clip = r->c.train.clip_norm;
    if (clip > 0 && f->norm > clip)
        for (int64_t i = 0; i < f->n; i++) f->g[i] *= clip / (f->norm + 1e-6);
}

/* What an element's update needs besides itself. */
typedef struct step_of {
    const dt_optim_options *o;
    double lr, decay, ratio, correct1, correct2;
    int64_t t;
} step_of;

static double adam_step(const step_of *p, double g, double *s0, double *s1) {
    *s0 = p->o->beta1 * *s0 + (1 - p->o->beta1) * g;
    *s1 = p->o->beta2 * *s1 + (1 - p->o->beta2) * g * g;
    return *s0 / p->correct1 / (sqrt(*s1 / p->correct2) + p->o->eps);
}

static double updated(const step_of *p, double g, double w, double *s0, double *s1, double *s2) {
    const dt_optim_options *o = p->o;
    const double mu = o->momentum, a = o->alpha, l2 = g + p->decay * w;
    switch ((dt_optim_kind)o->kind) {
    case DT_OPTIM_SGD:
        return w - p->lr * l2;
    case DT_OPTIM_MOMENTUM:
        *s0 = mu * *s0 + l2;
        return w - p->lr * *s0;
    case DT_OPTIM_NESTEROV:
        *s0 = mu * *s0 + l2;
        return w - p->lr * (l2 + mu * *s0);
    case DT_OPTIM_ADAM:
        return w - p->lr * adam_step(p, l2, s0, s1);
    case DT_OPTIM_ADAMW:
        return w - p->lr * (adam_step(p, g, s0, s1) + p->decay * w);
    case DT_OPTIM_RMSPROP:
        *s0 = a * *s0 + (1 - a) * l2 * l2;
        *s2 = o->centered ? a * *s2 + (1 - a) * l2 : 0;
        *s1 = mu * *s1 + l2 / (sqrt(*s0 - *s2 * *s2) + o->eps);
        return w - p->lr * *s1;
    case DT_OPTIM_RMSPROP_TF:
        *s0 = a * *s0 + (1 - a) * l2 * l2;
        *s2 = o->centered ? a * *s2 + (1 - a) * l2 : 0;
        *s1 = mu * *s1 + p->lr * l2 / sqrt(*s0 - *s2 * *s2 + o->eps);
        return w - *s1;
    case DT_OPTIM_ADAGRAD:
        *s0 += l2 * l2;
        return w - p->lr / (1 + (double)(p->t - 1) * o->lr_decay) * l2 / (sqrt(*s0) + o->eps);
    case DT_OPTIM_LAMB:
        return w - p->lr * p->ratio * (adam_step(p, g, s0, s1) + p->decay * w);
    case DT_OPTIM_LARS:
        *s0 = mu * *s0 + p->ratio * l2;
        return w - p->lr * *s0;
    case DT_OPTIM_LION: {
        const double u = o->beta1 * *s0 + (1 - o->beta1) * g;
        *s0 = o->beta2 * *s0 + (1 - o->beta2) * g;
        return w - p->lr * ((u > 0) - (u < 0) + p->decay * w);
    }
    case DT_OPTIM_MUON: { /* of matrices muon_step */
        const double lr = p->lr * o->adamw_lr / o->lr;
        return w - lr * (adam_step(p, g, s0, s1) + p->decay * w);
    }
    case DT_OPTIM_ADAFACTOR: /* of a whole segment: adafactor_step */
    case DT_OPTIM_COUNT:
        break;
    }
    return NAN;
}

/* The trust ratio of a segment of n elements, before its update. */
static double ratio_of(const step_of *p, const double *g, const double *w, const double *s0, const double *s1,
                       int64_t n) {
    double w2 = 0, u2 = 0;
    for (int64_t i = 0; i < n; i++) {
        double m = s0[i], v = s1[i];
        const double u = p->o->kind == DT_OPTIM_LAMB ? adam_step(p, g[i], &m, &v) + p->decay * w[i] : g[i];
        w2 += w[i] * w[i], u2 += u * u;
    }
    if (p->decay == 0 || w2 == 0 || u2 == 0) return 1;
    const double r = p->o->kind == DT_OPTIM_LAMB
                         ? sqrt(w2 / u2)
                         : p->o->trust * sqrt(w2) / (sqrt(u2) + p->decay * sqrt(w2) + p->o->eps);
    return p->o->trust_clip ? fmin(1, p->o->kind == DT_OPTIM_LAMB ? r : r / p->lr) : r;
}

/* Of segment k, a matrix of rows and columns or a vector. */
static void adafactor_step(reference *f, const step_of *p, const dt_axis_segment *s) {
    const dt_optim_options *o = p->o;
    const int64_t n = s->n_elem, cols = s->cols;
    const double *g = f->g + s->offset, weight = pow((double)p->t, -o->beta2_decay);
    double *w = f->w + s->offset, *row = f->s[0] + s->state_at[DT_STATE_ROW],
           *column = f->s[1] + s->state_at[DT_STATE_COLUMN], *vector = f->s[2] + s->state_at[DT_STATE_VECTOR];
    double *u = check_alloc((size_t)n * sizeof *u), mean = 0, w2 = 0, u2 = 0;
    for (int64_t i = 0; i < s->rows; i++) row[i] *= 1 - weight;
    for (int64_t i = 0; i < cols; i++) column[i] *= 1 - weight;
    for (int64_t i = 0; i < n; i++) {
        if (cols == 0) {
            vector[i] += weight * (g[i] * g[i] - vector[i]);
            continue;
        }
        row[i / cols] += weight * g[i] * g[i] / (double)cols;
        column[i % cols] += weight * g[i] * g[i] / (double)s->rows;
    }
    for (int64_t i = 0; i < s->rows; i++) mean += row[i] / (double)s->rows;
    for (int64_t i = 0; i < n; i++) {
        const double v = cols == 0 ? vector[i] : row[i / cols] * column[i % cols] / fmax(mean, o->eps);
        u[i] = g[i] / sqrt(fmax(v, o->eps * o->eps));
        w2 += w[i] * w[i], u2 += u[i] * u[i];
    }
    const double rate = fmax(o->scale_floor, sqrt(w2 / (double)n)) * fmin(p->lr, 1 / sqrt((double)p->t));
    const double length = fmax(1, sqrt(u2 / (double)n) / o->update_clip);
    for (int64_t i = 0; i < n; i++) w[i] = w[i] * (1 - p->lr * p->decay) - rate / length * u[i];
    free(u);
}

/* out [n, m] = a b of a [n, k] and b [k, m], or of a^T where `turned`, a being [k, n]; b of b^T likewise. */
static double *product(const double *a, bool turn_a, const double *b, bool turn_b, int64_t n, int64_t k,
                       int64_t m) {
    double *out = check_alloc((size_t)(n * m) * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            for (int64_t l = 0; l < k; l++)
                out[i * m + j] +=
                    (turn_a ? a[l * n + i] : a[i * k + l]) * (turn_b ? b[j * k + l] : b[l * m + j]);
    return out;
}

/* Of segment k, a matrix; always by rows x rows, whichever side is shorter. */
static void muon_step(reference *f, const step_of *p, const dt_axis_segment *s) {
    const dt_optim_options *o = p->o;
    const int64_t n = s->n_elem, rows = s->rows, cols = s->cols;
    const double mu = o->momentum, *g = f->g + s->offset, r = (double)rows / (double)cols,
                 scale = o->muon_scale == DT_MUON_ORIGINAL ? sqrt(fmax(1, r))
                                                           : 0.2 * sqrt((double)(rows > cols ? rows : cols));
    double *w = f->w + s->offset, *v = f->s[0] + s->offset, *x = check_alloc((size_t)n * sizeof *x), norm = 0;
    for (int64_t i = 0; i < n; i++) {
        v[i] = mu * v[i] + (1 - mu) * g[i];
        x[i] = o->nesterov ? mu * v[i] + (1 - mu) * g[i] : v[i];
        norm += x[i] * x[i];
    }
    for (int64_t i = 0; i < n; i++) x[i] /= fmax(sqrt(norm), 1e-7);
    for (int step = 0; step < 5; step++) {
        double *a = product(x, false, x, true, rows, cols, rows),
               *a2 = product(a, false, a, false, rows, rows, rows);
        double *x1 = product(a, false, x, false, rows, rows, cols),
               *x2 = product(a2, false, x, false, rows, rows, cols);
        for (int64_t i = 0; i < n; i++) x[i] = 3.4445 * x[i] - 4.7750 * x1[i] + 2.0315 * x2[i];
        free(a), free(a2), free(x1), free(x2);
    }
    for (int64_t i = 0; i < n; i++) w[i] = w[i] * (1 - p->lr * p->decay) - p->lr * scale * x[i];
    free(x);
}

/* Update number t from 1. */
static void reference_step(reference *f, const rig *r, double lr, int64_t t) {
    const dt_config *c = &r->c;
    const dt_axis *a = dt_engine_axis(r->e);
    const double d = c->train.ema;
    for (int32_t k = 0; k < a->n_segment; k++) {
        const int64_t at = a->segment[k].offset, n = a->segment[k].n_elem;
        step_of p = {.o = &c->optim,
                     .lr = lr,
                     .decay = is_matrix(a, k) || c->optim.decay_bn_and_bias ? c->optim.weight_decay : 0,
                     .correct1 = 1 - pow(c->optim.beta1, (double)t),
                     .correct2 = 1 - pow(c->optim.beta2, (double)t),
                     .t = t};
        const bool muon = c->optim.kind == DT_OPTIM_MUON;
        const bool whole = c->optim.kind == DT_OPTIM_ADAFACTOR || (muon && a->segment[k].matrix);
        const int64_t at1 = muon ? a->segment[k].state_at[DT_STATE_REST] : at;
        if (whole) (muon ? muon_step : adafactor_step)(f, &p, &a->segment[k]);
        p.ratio = whole ? 1 : ratio_of(&p, f->g + at, f->w + at, f->s[0] + at, f->s[1] + at, n);
        for (int64_t i = at; i < at + n; i++) {
            if (!whole)
                f->w[i] = updated(&p, f->g[i], f->w[i], &f->s[0][i], &f->s[1][at1 + i - at], &f->s[2][i]);
            f->ema[i] = d * f->ema[i] + (1 - d) * f->w[i];
        }
    }
    const float *statistics = rig_arena(r, DT_ARENA_STATE);
    for (int64_t i = 0; i < f->n_state; i++)
        f->ema_state[i] = d * f->ema_state[i] + (1 - d) * (double)statistics[i];
}

static void need_close(const double *want, const float *got, int64_t n, double tolerance, const char *what,
                       const char *config) {
    double *wide = check_alloc((size_t)n * sizeof *wide);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)got[i];
    double d = check_distance(wide, want, n);
    if (!(d < tolerance)) fail_msg("%s are off by %.1e with %s", what, d, config + strlen(RIG_FULL_MODEL));
    free(wide);
}

/* Padding between parameters is zero and stays zero. */
static void need_zero_padding(const rig *r, const float *x) {
    const dt_axis *a = dt_engine_axis(r->e);
    for (int32_t s = 0; x && s < a->n_segment; s++) {
        int64_t end = s + 1 < a->n_segment ? a->segment[s + 1].offset : a->n_elem;
        for (int64_t i = a->segment[s].offset + a->segment[s].n_elem; i < end; i++) assert_true(x[i] == 0);
    }
}

static dt_state_shape shape_of(const rig *r, int32_t k) {
    return dt_engine_program(r->e, false)->store->vec[k].shape;
}

static void check_optimizer(const char *config) {
    rig r;
    rig_open(&r, config);
    reference f = reference_open(&r);
    const double scale = r.c.train.loss_scale > 0 ? r.c.train.loss_scale : 1;
    bool clipped = false, unclipped = false;
    for (int64_t s = 0; s < 8; s++) {
        const float lr = (float)(r.c.optim.lr / (double)(1 + s / 3));
        rig_step(&r, s, lr);
        take_gradients(&f, &r, scale);
        reference_step(&f, &r, (double)lr, s + 1);
        clipped |= f.norm > r.c.train.clip_norm, unclipped |= f.norm <= r.c.train.clip_norm;
        need_close(f.w, rig_arena(&r, DT_ARENA_MASTER), f.n, 1e-6, "weights", config);
        assert_true(fabs((double)r.result.metric[DT_METRIC_GRAD_NORM] / f.norm - 1) < 1e-5);
        assert_true(fabs((double)r.result.norm2 / (f.norm * f.norm) - 1) < 1e-5);
        assert_true(r.result.metric[DT_METRIC_SKIPPED] == 0);
    }
    if (r.c.train.clip_norm > 0) assert_true(clipped && unclipped); /* the case has both */
    for (int k = 0; k < DT_OPTIM_STATES_MAX; k++) {
        assert_true((rig_vec(&r, k) != NULL) == dt_optim_has_state(&r.c.optim, k));
        if (rig_vec(&r, k)) /* 1 - beta2 in fp32 has an error of its own */
            need_close(f.s[k], rig_vec(&r, k), dt_engine_axis(r.e)->n_state[shape_of(&r, k)],
                       k == 0 ? 1e-5 : 4e-5, "state vectors", config);
    }
    if (r.c.train.ema > 0) need_close(f.ema, rig_vec(&r, DT_STORE_EMA), f.n, 1e-6, "averages", config);
    if (r.c.train.ema > 0)
        need_close(f.ema_state, rig_arena(&r, DT_ARENA_EMA_STATE), f.n_state, 1e-6, "averaged statistics",
                   config);
    assert_true((rig_vec(&r, DT_STORE_EMA) != NULL) == (r.c.train.ema > 0));
    assert_true((rig_arena(&r, DT_ARENA_EMA_STATE) != NULL) == (r.c.train.ema > 0));
    need_zero_padding(&r, rig_arena(&r, DT_ARENA_MASTER));
    for (int32_t k = 0; k < DT_STORE_VECS; k++)
        if (shape_of(&r, k) == DT_STATE_ELEMENT) need_zero_padding(&r, rig_vec(&r, k));
    int64_t updates;
    check_ok(dt_engine_updates(r.e, &updates));
    assert_int_equal(updates, 8);
    reference_close(&f);
    rig_close(&r);
}

#define OPTIM(train, optim) RIG_FULL_MODEL "[train]\nglobal_batch = 16\n" train "[optim]\n" optim

static void test_sgd(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"sgd\"\nlr = 0.2\nweight_decay = 0\n"));
    check_optimizer(OPTIM("ema = 0.8\n", "kind = \"sgd\"\nlr = 0.2\nweight_decay = 0.05\n"));
    check_optimizer(OPTIM("micro_batch = 4\n", "kind = \"sgd\"\nlr = 0.2\nweight_decay = 0.05\n"
                                               "decay_bn_and_bias = true\n"));
    check_optimizer(OPTIM("", "kind = \"momentum\"\nmomentum = 0.0\nlr = 0.2\nweight_decay = 0.05\n"));
}

static void test_momentum(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"momentum\"\nlr = 0.1\nweight_decay = 0\n"));
    check_optimizer(OPTIM("ema = 0.9\nloss_scale = 64\n", "kind = \"momentum\"\nlr = 0.1\nmomentum = 0.8\n"
                                                          "weight_decay = 0.02\n"));
    check_optimizer(
        OPTIM("clip_norm = 0.9\nloss_scale = 8\n", "kind = \"momentum\"\nlr = 0.1\nweight_decay = 0.02\n"));
}

static void test_nesterov(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"nesterov\"\nlr = 0.1\nweight_decay = 0.02\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\nmicro_batch = 8\nema = 0.5\n",
                          "kind = \"nesterov\"\nlr = 0.1\nweight_decay = 0.02\n"));
}

static void test_adamw(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"adamw\"\nlr = 0.01\nweight_decay = 0\n"));
    check_optimizer(OPTIM("loss_scale = 32\nema = 0.9\n", "kind = \"adamw\"\nlr = 0.01\nweight_decay = 0.3\n"
                                                          "beta1 = 0.8\nbeta2 = 0.95\neps = 1e-5\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\nmicro_batch = 2\n",
                          "kind = \"adamw\"\nlr = 0.01\nweight_decay = 0.3\n"
                          "decay_bn_and_bias = true\n"));
}

static void test_adam(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"adam\"\nlr = 0.01\nweight_decay = 0\n"));
    check_optimizer(
        OPTIM("clip_norm = 0.9\nmicro_batch = 4\n", "kind = \"adam\"\nlr = 0.003\nweight_decay = 0.3\n"));
}

static void test_rmsprop(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"rmsprop\"\nweight_decay = 0\n"));
    check_optimizer(OPTIM("", "kind = \"rmsprop\"\nmomentum = 0.8\nweight_decay = 0.1\n"));
    check_optimizer(OPTIM(
        "clip_norm = 0.9\nloss_scale = 8\n",
        "kind = \"rmsprop\"\nlr = 0.002\nmomentum = 0.8\neps = 1e-5\ncentered = true\nweight_decay = 0.1\n"));
    check_optimizer(OPTIM("", "kind = \"rmsprop\"\nalpha = 0.8\ncentered = true\n"));
    check_optimizer(OPTIM("", "kind = \"rmsprop_tf\"\nweight_decay = 0\n"));
    check_optimizer(OPTIM("micro_batch = 8\nema = 0.9\n",
                          "kind = \"rmsprop_tf\"\nmomentum = 0.9\nweight_decay = 0.1\neps = 1e-3\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\n", "kind = \"rmsprop_tf\"\ncentered = true\neps = 1e-3\n"));
}

static void test_adagrad(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"adagrad\"\nweight_decay = 0\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\nmicro_batch = 4\n",
                          "kind = \"adagrad\"\nlr = 0.02\nlr_decay = 0.1\nweight_decay = 0.1\n"));
}

static void test_lion(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"lion\"\nlr = 1e-3\nweight_decay = 0.3\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\nema = 0.9\n", "kind = \"lion\"\nlr = 1e-3\nbeta1 = 0.8\n"));
}

/* A dense layer that is hidden, one that is not, and convolutions where a group says so. */
#define MUON(train, optim)                                                                                   \
    RIG_FULL_MODEL "[[model.layers]]\ntype = \"relu\"\n[[model.layers]]\ntype = \"dense\"\nchannels = 5\n"   \
                   "[train]\nglobal_batch = 16\n" train "[optim]\nkind = \"muon\"\n" optim

static void test_muon(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int32_t n_matrix;
    } cases[] = {
        {MUON("", "weight_decay = 0\n"), 1},
        {MUON("clip_norm = 0.9\nema = 0.9\nloss_scale = 8\n",
              "lr = 0.01\nadamw_lr = 0.003\nmuon_scale = \"match_rms_adamw\"\nweight_decay = 0.1\n"
              "[[optim.groups]]\npattern = \"*.weight\"\nmuon = true\n"),
         4},
        {MUON("micro_batch = 8\n",
              "nesterov = false\nmomentum = 0.8\n[[optim.groups]]\npattern = \"layer4.*\"\n"
              "muon = true\n[[optim.groups]]\npattern = \"layer10.*\"\nmuon = false\n"),
         1},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        rig r;
        int32_t n = 0;
        rig_open(&r, cases[k].config);
        for (int32_t i = 0; i < dt_engine_axis(r.e)->n_segment; i++)
            n += dt_engine_axis(r.e)->segment[i].matrix;
        assert_int_equal(n, cases[k].n_matrix);
        rig_close(&r);
        check_optimizer(cases[k].config);
    }
}

/* What would be no muon, and what no matrix. */
static void test_muon_without_matrices(void **state) {
    (void)state;
    rig r;
    rig_prepare(&r, OPTIM("", "kind = \"muon\"\n"));
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "no hidden matrix", "[[optim.groups]]");
    rig_close(&r);
    rig_prepare(&r, OPTIM("", "kind = \"muon\"\n[[optim.groups]]\npattern = \"*.bias\"\nmuon = true\n"));
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "optim.groups[0]",
                "none of \"*.bias\" is a matrix");
    rig_close(&r);
}

static void test_adafactor(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"adafactor\"\nweight_decay = 0\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\nmicro_batch = 4\nema = 0.9\nloss_scale = 8\n",
                          "kind = \"adafactor\"\nlr = 0.4\nweight_decay = 0.1\nbeta2_decay = 0.6\n"
                          "scale_floor = 0.3\nupdate_clip = 0.8\ndecay_bn_and_bias = true\n"));
}

/* Trust ratios, with and without decay, clipped and not. */
static void test_trust(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"lamb\"\nlr = 0.01\nweight_decay = 0.1\n"));
    check_optimizer(OPTIM("", "kind = \"lamb\"\nlr = 0.01\nweight_decay = 0\n"));
    check_optimizer(OPTIM(
        "clip_norm = 0.9\nmicro_batch = 4\nema = 0.9\n",
        "kind = \"lamb\"\nlr = 0.01\nweight_decay = 0.1\ndecay_bn_and_bias = true\ntrust_clip = true\n"));
    check_optimizer(OPTIM("", "kind = \"lars\"\nlr = 2\nweight_decay = 0.01\ntrust = 0.02\n"));
    check_optimizer(
        OPTIM("clip_norm = 0.9\nloss_scale = 8\n",
              "kind = \"lars\"\nlr = 0.1\nweight_decay = 0.01\ntrust = 0.05\ntrust_clip = true\n"));
    check_optimizer(OPTIM("", "kind = \"lars\"\nlr = 0.1\nmomentum = 0\nweight_decay = 0\n"));
}

/* A gradient that is not finite: nothing of the optimizer moves, and the run goes on as if the step had not
 * been. */
static void check_skip(const char *config, float weight) {
    enum { N_KEPT = DT_STORE_VECS + 2 };
    rig r;
    int64_t updates;
    void *before[N_KEPT], *kept[N_KEPT];
    size_t bytes[N_KEPT];
    rig_open(&r, config);
    rig_step(&r, 0, 0.05f);
    for (int k = 0; k < DT_STORE_VECS; k++) {
        kept[k] = rig_vec(&r, k);
        bytes[k] = (size_t)dt_engine_program(r.e, false)->store->vec[k].bytes;
    }
    kept[DT_STORE_VECS] = rig_arena(&r, DT_ARENA_MASTER), bytes[DT_STORE_VECS] = rig_vec_bytes(&r);
    kept[DT_STORE_VECS + 1] = rig_arena(&r, DT_ARENA_EMA_STATE);
    bytes[DT_STORE_VECS + 1] = (size_t)rig_arena_bytes(&r, DT_ARENA_EMA_STATE);
    for (size_t k = 0; k < N_KEPT; k++) {
        before[k] = check_alloc(bytes[k]);
        if (kept[k]) memcpy(before[k], kept[k], bytes[k]);
    }
    r.loss_weight = weight;
    rig_step(&r, 1, 0.05f);
    assert_true(r.result.metric[DT_METRIC_SKIPPED] == 1);
    assert_true(!isfinite(r.result.norm2));
    for (size_t k = 0; k < N_KEPT; k++) {
        if (kept[k]) assert_memory_equal(before[k], kept[k], bytes[k]);
        free(before[k]);
    }
    check_ok(dt_engine_updates(r.e, &updates));
    assert_int_equal(updates, 1);
    r.loss_weight = 0;
    rig_step(&r, 2, 0.05f);
    assert_true(r.result.metric[DT_METRIC_SKIPPED] == 0 && isfinite(r.result.norm2));
    for (int64_t i = 0; i < dt_engine_axis(r.e)->n_elem; i++)
        assert_true(isfinite(rig_arena(&r, DT_ARENA_MASTER)[i]));
    rig_close(&r);
}

static void test_skip_of_what_is_not_finite(void **state) {
    (void)state;
    static const char *const configs[] = {
        OPTIM("ema = 0.9\n", "kind = \"adamw\"\nlr = 0.01\n"),
        OPTIM("ema = 0.9\nclip_norm = 1.0\nmicro_batch = 8\n", "kind = \"nesterov\"\n"),
        OPTIM("", "kind = \"sgd\"\n"),
        OPTIM("", "kind = \"lamb\"\n"),
        OPTIM("", "kind = \"muon\"\n[[optim.groups]]\npattern = \"*.weight\"\nmuon = true\n"),
    };
    for (size_t k = 0; k < sizeof configs / sizeof configs[0]; k++) {
        check_skip(configs[k], INFINITY);
        check_skip(configs[k], NAN);
        check_skip(configs[k], 1e38f); /* finite gradients whose sum of squares is not */
    }
}

static void need_scale(rig *r, int64_t step, bool spoil, float scale, float good_steps) {
    r->loss_weight = spoil ? INFINITY : 0;
    rig_step(r, step, 0.05f);
    assert_true(r->result.metric[DT_METRIC_SKIPPED] == (spoil ? 1 : 0));
    if (r->result.metric[DT_METRIC_LOSS_SCALE] != scale ||
        r->result.metric[DT_METRIC_GOOD_STEPS] != good_steps)
        fail_msg("step %lld: scale %g after %g good steps, expected %g after %g", (long long)step,
                 (double)r->result.metric[DT_METRIC_LOSS_SCALE],
                 (double)r->result.metric[DT_METRIC_GOOD_STEPS], (double)scale, (double)good_steps);
}

static void test_dynamic_loss_scale(void **state) {
    (void)state;
    static const char config[] = OPTIM("loss_scale = 4\n", "kind = \"sgd\"\nweight_decay = 0\n");
    rig r, fixed;
    rig_prepare(&r, config);
    r.c.train.loss_scale_growth = 3;
    check_ok(rig_try_open(&r, NULL, true));
    rig_open(&fixed, config);
    need_scale(&r, 0, false, 4, 1);
    need_scale(&r, 1, false, 4, 2);
    need_scale(&r, 2, false, 8, 0); /* three in a row: doubled */
    for (int64_t s = 0; s < 3; s++) rig_step(&fixed, s, 0.05f);
    assert_true(rig_hash(&r) == rig_hash(&fixed)); /* powers of two change nothing */
    need_scale(&r, 3, false, 8, 1);
    need_scale(&r, 4, true, 4, 0);
    need_scale(&r, 5, true, 2, 0);
    need_scale(&r, 6, true, 1, 0);
    need_scale(&r, 7, true, 1, 0); /* not below 1 */
    need_scale(&r, 8, false, 1, 1);
    check_ok(dt_engine_set_loss_scale(r.e, 16777216.0f, 2)); /* as after a resume */
    need_scale(&r, 9, false, 16777216.0f, 0);                /* not above 2^24 */
    rig_close(&r), rig_close(&fixed);
}

/* Adam's t is that of the updates that were made: a run with a skipped step ends as one without it. */
static void test_skipped_steps_do_not_count(void **state) {
    (void)state;
    static const char config[] = OPTIM("", "kind = \"adamw\"\nlr = 0.01\n");
    rig skipping, straight;
    rig_open(&skipping, config), rig_open(&straight, config);
    for (int64_t s = 0; s < 6; s++) {
        rig_step(&skipping, s, 0.01f);
        rig_step(&straight, s, 0.01f);
        skipping.loss_weight = INFINITY;
        for (int k = 0; k < s % 3; k++) rig_step(&skipping, s, 0.01f);
        skipping.loss_weight = 0;
    }
    assert_true(rig_hash(&skipping) == rig_hash(&straight));
    rig_close(&skipping), rig_close(&straight);
}

static void need_same(const dt_ckpt *a, const dt_ckpt *b, const char *what, const char *kind) {
    assert_int_equal(a->n_tensor, b->n_tensor);
    assert_int_equal(a->meta.optimizer_steps, b->meta.optimizer_steps);
    for (int32_t i = 0; i < a->n_tensor; i++) {
        int64_t n = 1;
        if (strncmp(a->tensor[i].name, "local_", 6) == 0) continue; /* a row a rank */
        for (int32_t d = 0; d < a->tensor[i].ndim; d++) n *= a->tensor[i].dim[d];
        if (memcmp(a->tensor[i].data, b->tensor[i].data, (size_t)n * sizeof(float)) != 0)
            fail_msg("%s: %s differs %s", kind, a->tensor[i].name, what);
    }
}

static void steps_from(rig *r, int64_t first, int64_t end) {
    for (int64_t s = first; s < end; s++) rig_step(r, s, 0.01f);
}

/* Every optimizer gives the same bits on four ranks, on three threads, and when it is saved and resumed. */
static void test_every_optimizer_repeats(void **state) {
    (void)state;
    enum { RANKS = 4, STEPS = 6, SAVED = 3 };
    for (int kind = 0; kind < DT_OPTIM_COUNT; kind++) {
        const char *name = dt_optim_names[kind];
        char config[4096];
        snprintf(config, sizeof config,
                 RIG_PLAIN_MODEL "[train]\nglobal_batch = 16\nmicro_batch = 4\nclip_norm = 0.5\nema = 0.9\n"
                                 "[optim]\nkind = \"%s\"\n%sweight_decay = 0.1\n%s",
                 name, strncmp(name, "rmsprop", 7) == 0 ? "momentum = 0.9\ncentered = true\n" : "",
                 kind == DT_OPTIM_MUON ? "[[optim.groups]]\npattern = \"layer3.*\"\nmuon = true\n" : "");
        rig alone, resumed, threads, rank[RANKS];
        crew w;
        rig_open(&alone, config);
        steps_from(&alone, 0, SAVED);
        dt_ckpt saved = rig_checkpoint(&alone);
        assert_string_equal(saved.meta.optimizer, name);
        steps_from(&alone, SAVED, STEPS);
        dt_ckpt straight = rig_checkpoint(&alone);

        rig_open(&resumed, config);
        check_ok(dt_engine_load(resumed.e, &saved));
        steps_from(&resumed, SAVED, STEPS);
        dt_ckpt rejoined = rig_checkpoint(&resumed);
        need_same(&straight, &rejoined, "after a resume", name);

        rig_prepare(&threads, config);
        threads.be->destroy(threads.be);
        check_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 3}, &threads.be));
        check_ok(rig_try_open(&threads, NULL, true));
        steps_from(&threads, 0, STEPS);
        dt_ckpt threaded = rig_checkpoint(&threads);
        need_same(&straight, &threaded, "on three threads", name);

        dt_ckpt of_ranks =
            crew_train(&w, RANKS, &(crew_work){.config = config, .end = STEPS, .lr = 0.01f}, rank);
        need_same(&straight, &of_ranks, "on four ranks", name);

        rig_checkpoint_free(&saved), rig_checkpoint_free(&straight), rig_checkpoint_free(&rejoined);
        rig_checkpoint_free(&threaded), rig_checkpoint_free(&of_ranks);
        rig_close(&alone), rig_close(&resumed), rig_close(&threads);
        for (int k = 0; k < RANKS; k++) rig_close(&rank[k]);
    }
}

/* State is continued by its own kind and its kin alone; what has none needs none. Earlier versions did not say
 * whose it was. */
static void test_state_of_another_optimizer(void **state) {
    (void)state;
    static const char convolutions[] = "[[optim.groups]]\npattern = \"*.weight\"\nmuon = true\n";
    for (int from = 0; from < DT_OPTIM_COUNT; from++)
        for (int to = 0; to < DT_OPTIM_COUNT; to++) {
            char config[2048];
            rig left, right;
            snprintf(config, sizeof config, OPTIM("", "kind = \"%s\"\n%s"), dt_optim_names[from],
                     from == DT_OPTIM_MUON ? convolutions : "");
            rig_open(&left, config);
            snprintf(config, sizeof config, OPTIM("", "kind = \"%s\"\n%s"), dt_optim_names[to],
                     to == DT_OPTIM_MUON ? convolutions : "");
            rig_open(&right, config);
            dt_ckpt c = rig_checkpoint(&left);
            const bool fits = dt_optim_continues(&right.c.optim, (dt_optim_kind)from);
            const bool old = from == DT_OPTIM_SGD || from == DT_OPTIM_MOMENTUM || from == DT_OPTIM_ADAMW;
            for (int silent = 0; silent < (old ? 2 : 1); silent++) {
                if (silent) c.meta.optimizer[0] = '\0';
                if (from == DT_OPTIM_SGD && fits && to != DT_OPTIM_SGD)
                    CHECK_ERROR(dt_engine_load(right.e, &c), DT_ERR_CHECKPOINT, "no tensor mom1/");
                else if (fits)
                    check_ok(dt_engine_load(right.e, &c));
                else
                    CHECK_ERROR(dt_engine_load(right.e, &c), DT_ERR_CHECKPOINT, "holds the state of",
                                dt_optim_names[from]);
            }
            snprintf(c.meta.optimizer, sizeof c.meta.optimizer, "unheard_of");
            CHECK_ERROR(dt_engine_load(right.e, &c), DT_ERR_CHECKPOINT, "unheard_of");
            rig_checkpoint_free(&c);
            rig_close(&left), rig_close(&right);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_momentum),
        cmocka_unit_test(test_nesterov),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_rmsprop),
        cmocka_unit_test(test_adagrad),
        cmocka_unit_test(test_lion),
        cmocka_unit_test(test_adafactor),
        cmocka_unit_test(test_muon),
        cmocka_unit_test(test_muon_without_matrices),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_skip_of_what_is_not_finite),
        cmocka_unit_test(test_dynamic_loss_scale),
        cmocka_unit_test(test_skipped_steps_do_not_count),
        cmocka_unit_test(test_every_optimizer_repeats),
        cmocka_unit_test(test_state_of_another_optimizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
