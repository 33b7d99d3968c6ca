/* Kernels over the parameter axis on the GPU against the CPU's: optimizers, clipping, the skipped step,
 * averaging, the 16-bit copy, accumulation. Gradients are values that the 16-bit type holds. */
#include "gpu_test.h"

enum { N_SEGMENT = 5, N_ELEM = 64 * 700 };

#define VECTOR_AT(at) .state_at = {[DT_STATE_VECTOR] = at, [DT_STATE_REST] = at}
/* The fourth is a matrix whose every fourth column is padding. */
static const dt_axis_segment SEGMENT[N_SEGMENT] = {
    {.offset = 0, .n_elem = 1, .decay = 0.0f, .lr_scale = 1, VECTOR_AT(0)},
    {.offset = 64, .n_elem = 100, .decay = 0.1f, .lr_scale = 1, VECTOR_AT(64)},
    {.offset = 192, .n_elem = 4096 + 3, .decay = 0.05f, .lr_scale = 0.5f, VECTOR_AT(192)},
    {.offset = 192 + 4160,
     .n_elem = 30000,
     .decay = 0.0f,
     .lr_scale = 1,
     .n_real = 22500,
     .rows = 75,
     .cols = 400,
     .matrix = true,
     .state_at = {[DT_STATE_ROW] = 192, [DT_STATE_COLUMN] = 192}},
    {.offset = 192 + 4160 + 30016, .n_elem = 64, .decay = 0.2f, .lr_scale = 1, VECTOR_AT(192 + 4160)}};

typedef enum vec { V_GRAD, V_ACC, V_MASTER, V_STATE, V_EMA = V_STATE + DT_OPTIM_STATES_MAX, V_COUNT } vec;

/* One backend's arrays. */
typedef struct side {
    dt_backend *be;
    float *v[V_COUNT];
    void *grad16, *param16;
    float *norm2, *metrics;
    dt_step_params *params;
} side;

static void *device(dt_backend *be, const void *from, int64_t bytes) {
    void *p = NULL;
    op_ok(be->alloc(be, DT_MEM_DEVICE, bytes, &p));
    if (from) op_ok(be->copy(be, p, from, bytes, NULL));
    op_ok(be->stream_sync(be, NULL));
    return p;
}

static bool in_segment(int64_t i) {
    for (int s = 0; s < N_SEGMENT; s++)
        if (i >= SEGMENT[s].offset && i < SEGMENT[s].offset + SEGMENT[s].n_elem) return true;
    return false;
}

/* Neither between segments nor in a padded column. */
static bool is_real(int64_t i) {
    const dt_axis_segment *matrix = &SEGMENT[3];
    const int64_t at = i - matrix->offset;
    return in_segment(i) && (at < 0 || at >= matrix->n_elem || at % 4 != 3);
}

/* Whether the state vector holds means of squares. */
static bool is_square(const dt_optim_options *o, int k) {
    const char *name = dt_optim_get((dt_optim_kind)o->kind)->state[k].name;
    return name && (strstr(name, "sq") || strstr(name, "var") || strcmp(name, "mom2") == 0);
}

static side side_open(dt_backend *be, dt_dtype t, const dt_step_params *step, const dt_optim_options *o) {
    side s = {.be = be};
    float *data = op_zalloc(N_ELEM * 4);
    uint16_t *half = op_zalloc(N_ELEM * 2);
    for (int k = 0; k < V_COUNT; k++) {
        const bool square = k >= V_STATE && k < V_EMA && is_square(o, k - V_STATE);
        for (int64_t i = 0; i < N_ELEM; i++) {
            float u = op_uniform((uint64_t)k + 50, i);
            data[i] = !is_real(i) ? 0 : square ? 1 + u : 2 * u - 1;
            if (k == V_GRAD && op_is_16(t)) data[i] = op_from16(t, half[i] = op_to16(t, data[i]));
        }
        s.v[k] = device(be, data, N_ELEM * 4);
        if (k == V_GRAD && op_is_16(t)) s.grad16 = device(be, half, N_ELEM * 2);
    }
    if (op_is_16(t)) s.param16 = device(be, NULL, N_ELEM * 2);
    s.norm2 = device(be, NULL, 4);
    s.metrics = device(be, NULL, DT_METRIC_COUNT * 4);
    s.params = device(be, step, (int64_t)sizeof *step);
    free(data);
    free(half);
    return s;
}

static void side_close(side *s) {
    void *const p[] = {s->grad16, s->param16, s->norm2, s->metrics, s->params};
    for (int k = 0; k < V_COUNT; k++) s->be->free(s->be, DT_MEM_DEVICE, s->v[k]);
    for (size_t k = 0; k < sizeof p / sizeof p[0]; k++)
        if (p[k]) s->be->free(s->be, DT_MEM_DEVICE, p[k]);
}

static dt_axis_args side_args(const side *s, dt_dtype t, const dt_axis_args *like) {
    dt_axis_args a = *like;
    a.n_elem = N_ELEM;
    a.segment = SEGMENT;
    a.n_segment = N_SEGMENT;
    a.grad = s->grad16 ? s->grad16 : s->v[V_GRAD];
    a.grad_dtype = s->grad16 ? t : DT_DTYPE_F32;
    a.acc = s->v[V_ACC];
    a.master = s->v[V_MASTER];
    a.param16 = s->param16;
    a.param16_dtype = t;
    for (int i = 0; i < DT_OPTIM_STATES_MAX; i++)
        a.state[i] = dt_optim_has_state(&a.optim, i) ? s->v[V_STATE + i] : NULL;
    a.ema = s->v[V_EMA];
    a.norm2 = s->norm2;
    a.metrics = s->metrics;
    a.params = s->params;
    return a;
}

static void run(const side *s, dt_axis_kind kind, const dt_axis_args *a) {
    dt_kernel k;
    op_ok(s->be->bind_axis(s->be, kind, a, &k));
    op_ok(k.run(k.ctx, NULL));
    op_ok(s->be->stream_sync(s->be, NULL));
}

static void read_back(const side *s, const float *from, float *to, int64_t n) {
    op_ok(s->be->copy(s->be, to, from, n * 4, NULL));
    op_ok(s->be->stream_sync(s->be, NULL));
}

static void compare(const side *a, const side *b, double tolerance, const char *what) {
    float *x = op_zalloc(N_ELEM * 4), *y = op_zalloc(N_ELEM * 4);
    for (int k = 0; k < V_COUNT; k++) {
        read_back(a, a->v[k], x, N_ELEM);
        read_back(b, b->v[k], y, N_ELEM);
        op_expect_close(x, y, N_ELEM, tolerance, what);
        for (int64_t i = 0; i < N_ELEM; i++)
            if (!(k >= V_STATE && k < V_EMA ? in_segment(i) : is_real(i)) &&
                x[i] != 0) /* state: by state_at */
                fail_msg("%s: the padding at %lld was written", what, (long long)i);
    }
    read_back(a, a->metrics, x, DT_METRIC_COUNT);
    read_back(b, b->metrics, y, DT_METRIC_COUNT);
    op_expect_close(x, y, DT_METRIC_COUNT, 1e-6, what);
    free(x);
    free(y);
}

static void check_update(gpu_pair *p, dt_dtype t, const dt_axis_args *like, const char *what) {
    side g = side_open(p->gpu, t, &op_step, &like->optim),
         c = side_open(p->cpu, DT_DTYPE_F32, &op_step, &like->optim);
    /* The oracle gets the rounded gradients. */
    float *grad = op_zalloc(N_ELEM * 4);
    read_back(&g, g.v[V_GRAD], grad, N_ELEM);
    op_ok(p->cpu->copy(p->cpu, c.v[V_GRAD], grad, N_ELEM * 4, NULL));
    dt_axis_args ga = side_args(&g, t, like), ca = side_args(&c, DT_DTYPE_F32, like);
    for (dt_axis_kind k = DT_AXIS_ACCUM; k <= DT_AXIS_UPDATE; k++) {
        run(&g, k, &ga);
        run(&c, k, &ca);
    }
    /* Making a matrix orthogonal magnifies a difference by up to 500, and beside 16-bit weights it is in tf32. */
    compare(&g, &c, like->optim.kind != DT_OPTIM_MUON ? 1e-6 : op_is_16(t) ? 2e-3 : 1e-5, what);
    if (op_is_16(t)) {
        uint16_t *half = op_zalloc(N_ELEM * 2);
        for (int cast = 0; cast < 2; cast++) {
            if (cast) {
                op_fill_device(p->gpu, g.param16, 0x55, N_ELEM * 2);
                run(&g, DT_AXIS_CAST, &ga);
            }
            read_back(&g, g.v[V_MASTER], grad, N_ELEM);
            op_ok(p->gpu->copy(p->gpu, half, g.param16, N_ELEM * 2, NULL));
            op_ok(p->gpu->stream_sync(p->gpu, NULL));
            for (int64_t i = 0; i < N_ELEM; i++)
                if (half[i] != op_to16(t, grad[i]))
                    fail_msg("%s: 16-bit copy of element %lld", what, (long long)i);
        }
        free(half);
    }
    free(grad);
    side_close(&g);
    side_close(&c);
}

/* An optimizer beside a type of gradients, with its defaults or with what they leave out: momentum or none, centering,
 * clipping. */
typedef struct rule_test {
    dt_optim_kind kind;
    dt_dtype t;
    bool turned;
    char name[60];
} rule_test;

static void test_rule(void **state) {
    const rule_test *test = *state;
    gpu_pair *p = gpu_the_pair();
    GPU_OR_SKIP(p);
    dt_axis_args a = {.optim = dt_optim_defaults(test->kind)};
    if (test->turned) {
        a.optim.momentum = a.optim.momentum > 0 ? 0 : 0.9;
        a.optim.centered = a.optim.trust_clip = true;
        a.optim.eps = 1e-3, a.optim.lr_decay = 0.1;
        a.clip_norm = 1;
    }
    check_update(p, test->t, &a, test->name);
}

/* Any array, aligned or not, and any length. */
static void test_average_alone(void **state) {
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    static const int64_t n[] = {1, 3, 257, N_ELEM - 1};
    const dt_optim_options sgd = dt_optim_defaults(DT_OPTIM_SGD);
    for (size_t k = 0; k < sizeof n / sizeof n[0]; k++)
        for (int skip = 0; skip < 2; skip++) {
            side g = side_open(p->gpu, DT_DTYPE_F32, &op_step, &sgd),
                 c = side_open(p->cpu, DT_DTYPE_F32, &op_step, &sgd);
            side *const both[] = {&g, &c};
            for (int i = 0; i < 2; i++) {
                side *s = both[i];
                op_fill_device(s->be, s->norm2, skip ? 0xff : 0,
                               sizeof(float)); /* 0xffffffff: not a number */
                dt_axis_args a = {.offset = N_ELEM - n[k],
                                  .n_elem = n[k],
                                  .master = s->v[V_MASTER],
                                  .ema = s->v[V_EMA],
                                  .norm2 = s->norm2,
                                  .metrics = s->metrics,
                                  .params = s->params};
                run(s, DT_AXIS_AVERAGE, &a);
            }
            compare(&g, &c, 1e-6, skip ? "average, skipped" : "average");
            side_close(&g);
            side_close(&c);
        }
}

static void test_not_finite_is_skipped(void **state) {
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    const dt_axis_args like = {.optim = dt_optim_defaults(DT_OPTIM_MOMENTUM)};
    side s = side_open(p->gpu, DT_DTYPE_F16, &op_step, &like.optim);
    dt_axis_args a = side_args(&s, DT_DTYPE_F16, &like);
    float *before = op_zalloc(N_ELEM * 4), *after = op_zalloc(N_ELEM * 4), metrics[DT_METRIC_COUNT];
    uint16_t infinite = 0x7C00;
    op_ok(p->gpu->copy(p->gpu, (uint16_t *)s.grad16 + 5000, &infinite, 2, NULL));
    read_back(&s, s.v[V_MASTER], before, N_ELEM);
    run(&s, DT_AXIS_SUMSQ, &a);
    run(&s, DT_AXIS_UPDATE, &a);
    read_back(&s, s.v[V_MASTER], after, N_ELEM);
    read_back(&s, s.metrics, metrics, DT_METRIC_COUNT);
    assert_memory_equal(before, after, N_ELEM * 4);
    assert_true(metrics[DT_METRIC_SKIPPED] == 1.0f);
    dt_step_params params;
    op_ok(p->gpu->copy(p->gpu, &params, s.params, (int64_t)sizeof params, NULL));
    op_ok(p->gpu->stream_sync(p->gpu, NULL));
    assert_int_equal(params.updates, 0);
    free(before);
    free(after);
    side_close(&s);
}

static const struct CMUnitTest others[] = {
    cmocka_unit_test(test_average_alone),
    cmocka_unit_test(test_not_finite_is_skipped),
};

int main(int argc, char **argv) {
    static const dt_dtype types[] = {DT_DTYPE_F32, DT_DTYPE_F16, DT_DTYPE_BF16};
    enum { N_TYPE = sizeof types / sizeof *types, N_OTHER = sizeof others / sizeof *others };
    static rule_test about[DT_OPTIM_COUNT * N_TYPE * 2];
    static struct CMUnitTest tests[DT_OPTIM_COUNT * N_TYPE * 2 + N_OTHER];
    size_t n = 0;
    for (int kind = 0; kind < DT_OPTIM_COUNT; kind++)
        for (int k = 0; k < 2 * N_TYPE; k++) {
            rule_test *a = &about[n];
            *a = (rule_test){.kind = (dt_optim_kind)kind, .t = types[k / 2], .turned = k % 2};
            snprintf(a->name, sizeof a->name, "%s %s%s", dt_optim_names[kind], dt_dtype_name(a->t),
                     a->turned ? ", turned" : "");
            tests[n++] = (struct CMUnitTest){.name = a->name, .test_func = test_rule, .initial_state = a};
        }
    memcpy(tests + n, others, sizeof others);
    return gpu_test_run("axis kernels on the GPU", tests, n + N_OTHER, argc, argv);
}
