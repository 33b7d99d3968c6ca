/* Functions, losses and metrics by name, against the formulas in double. */
#include "api_test.h"

enum { ROWS = 5, N = 4 };

static const float x_data[ROWS * N] = {-2.5f, -1,    -0.25f, 0.5f, 1,    2.5f, 3.5f, -3.5f, 0.1f, -0.1f,
                                       4,     -0.7f, 0.9f,   -4,   6.5f, 1.5f, -6,   0.3f,  2,    -1.5f};
static const float y_data[ROWS * N] = {0.5f, 1, 0, 0.25f, 1, 0,    1, 1, 0.75f, 0,
                                       1,    0, 1, 0,     1, 0.5f, 0, 1, 0,     1};

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}
static double softplus(double x) {
    return log1p(exp(x));
}

/* A network that shows f of x; its loss is f itself, or of x and y. */
typedef struct graph {
    dt_run *run;
    dt_net *net;
    dt_var x, y, same; /* same: x, by way of the identity as weight, lest there be nothing to train */
} graph;

static graph begin(void) {
    graph g = {.run = open_cpu()};
    OK(dt_net_create(g.run, (dt_net_options){.batch = ROWS}, &g.net));
    g.x = dt_input(g.net, "x", DT_DTYPE_F32, DT_SHAPE(N));
    g.y = dt_input(g.net, "y", DT_DTYPE_F32, DT_SHAPE(N));
    g.same = dt_dense(g.x, (dt_dense_options){.channels = N, .no_bias = true, .name = "same"});
    return g;
}

static void run_it(graph *g) {
    dt_tensor *x = floats(g->run, DT_SHAPE(ROWS, N), x_data), *y = floats(g->run, DT_SHAPE(ROWS, N), y_data);
    dt_tensor *w;
    OK(dt_net_status(g->net));
    OK(dt_net_parameter(g->net, "same.weight", &w));
    for (int i = 0; i < N * N; i++) ((float *)dt_tensor_data(w))[i] = i % (N + 1) == 0;
    OK(dt_net_set(g->net, "x", x));
    OK(dt_net_set(g->net, "y", y));
    OK(dt_net_forward(g->net, DT_EVALUATION));
    dt_tensor_free(x), dt_tensor_free(y), dt_tensor_free(w);
}

static void end(graph *g) {
    dt_net_free(g->net), dt_run_close(g->run);
}

static double metric(dt_net *net, const char *name) {
    double v;
    OK(dt_net_metric(net, name, &v));
    return v;
}

#define NEAR(got, want)                                                                                      \
    do {                                                                                                     \
        const double got_ = (got), want_ = (want);                                                           \
        if (!(fabs(got_ - want_) <= 2e-6 * (1 + fabs(want_))))                                               \
            fail_msg("%s: %g, expected %g", #got, got_, want_);                                              \
    } while (0)

/* Every activation: name, call, formula in double of x. */
#define ACTIVATIONS(A)                                                                                       \
    A(dt_relu(v), x < 0 ? 0 : x)                                                                             \
    A(dt_relu6(v), fmin(fmax(x, 0), 6))                                                                      \
    A(dt_leaky_relu(v, 0), x < 0 ? 0.01 * x : x)                                                             \
    A(dt_leaky_relu(v, 0.3), x < 0 ? 0.3 * x : x)                                                            \
    A(dt_elu(v, 0), x < 0 ? expm1(x) : x)                                                                    \
    A(dt_selu(v), 1.0507009873554805 * (x < 0 ? 1.6732632423543772 * expm1(x) : x))                          \
    A(dt_sigmoid(v), sigmoid(x))                                                                             \
    A(dt_tanh(v), tanh(x))                                                                                   \
    A(dt_softplus(v), softplus(x))                                                                           \
    A(dt_silu(v), x *sigmoid(x))                                                                             \
    A(dt_mish(v), x *tanh(softplus(x)))                                                                      \
    A(dt_hardswish(v), x *fmin(fmax(x + 3, 0), 6) / 6)                                                       \
    A(dt_hardsigmoid(v), fmin(fmax(x + 3, 0), 6) / 6)                                                        \
    A(dt_gelu(v), 0.5 * x * erfc(-x / sqrt(2)))                                                              \
    A(dt_gelu_tanh(v), 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))))                \
    A(dt_exp(v), exp(x))                                                                                     \
    A(dt_log(dt_square(v)), log(x *x))                                                                       \
    A(dt_sqrt(dt_abs(v)), sqrt(fabs(x)))                                                                     \
    A(dt_neg(v), -x)                                                                                         \
    A(dt_clamp(v, -1, 0), fmin(fmax(x, -1), 0))                                                              \
    A(dt_reciprocal(v), 1 / x)                                                                               \
    A(dt_scale(v, -1.5), -1.5 * x)                                                                           \
    A(dt_add(v, w), x + y)                                                                                   \
    A(dt_sub(v, w), x - y)                                                                                   \
    A(dt_mul(v, w), x *y)                                                                                    \
    A(dt_div(w, v), y / x)                                                                                   \
    A(dt_min(v, w), fmin(x, y))                                                                              \
    A(dt_max(v, w), fmax(x, y))

static double expected(int which, double x, double y) {
    int i = 0;
#define FORMULA(call, formula)                                                                               \
    if (i++ == which) return formula;
    ACTIVATIONS(FORMULA)
    return NAN;
}

static void functions(void **state) {
    (void)state;
#define COUNT(call, formula) +1
    enum { FUNCTIONS = 0 ACTIVATIONS(COUNT) };
    for (int from = 0; from < FUNCTIONS; from += 14) { /* so many outputs a network may have */
        graph g = begin();
        const dt_var v = g.same, w = g.y;
        int i = 0;
        char name[16];
#define ADD(call, formula)                                                                                   \
    if (i >= from && i < from + 14) {                                                                        \
        snprintf(name, sizeof name, "f%d", i);                                                               \
        dt_expose(call, name);                                                                               \
    }                                                                                                        \
    i++;
        ACTIVATIONS(ADD)
        dt_loss("mse", v, w, (dt_loss_options){0});
        run_it(&g);
        for (i = from; i < from + 14 && i < FUNCTIONS; i++) {
            dt_tensor *t;
            float got[ROWS * N];
            snprintf(name, sizeof name, "f%d", i);
            OK(dt_net_output(g.net, name, &t));
            OK(dt_tensor_read(t, got, sizeof got));
            for (int k = 0; k < ROWS * N; k++) {
                const double want = expected(i, (double)x_data[k], (double)y_data[k]);
                if (!(fabs((double)got[k] - want) <= 2e-6 * (1 + fabs(want))))
                    fail_msg("function %d of %g: %g, expected %g", i, (double)x_data[k], (double)got[k],
                             want);
            }
            dt_tensor_free(t);
        }
        end(&g);
    }
}

static void rows(void **state) {
    (void)state;
    graph g = begin();
    dt_var both = dt_concat((dt_var[]){g.x, g.y, g.x}, 3, -1);
    assert_int_equal(dt_var_shape(both).dim[0], 3 * N);
    dt_expose(dt_softmax(g.x), "softmax");
    dt_expose(dt_log_softmax(g.x), "log_softmax");
    dt_expose(both, "both");
    dt_loss("mse", g.same, g.y, (dt_loss_options){0});
    run_it(&g);
    float p[ROWS][N], l[ROWS][N], c[ROWS][3 * N];
    const struct {
        const char *name;
        void *data;
        int64_t bytes;
    } out[] = {{"softmax", p, sizeof p}, {"log_softmax", l, sizeof l}, {"both", c, sizeof c}};
    for (int i = 0; i < 3; i++) {
        dt_tensor *t;
        OK(dt_net_output(g.net, out[i].name, &t));
        OK(dt_tensor_read(t, out[i].data, out[i].bytes));
        dt_tensor_free(t);
    }
    for (int r = 0; r < ROWS; r++) {
        double sum = 0;
        for (int i = 0; i < N; i++) sum += exp((double)x_data[r * N + i]);
        for (int i = 0; i < N; i++) {
            NEAR((double)p[r][i], exp((double)x_data[r * N + i]) / sum);
            NEAR((double)l[r][i], (double)x_data[r * N + i] - log(sum));
            assert_true(c[r][i] == x_data[r * N + i] && c[r][N + i] == y_data[r * N + i] &&
                        c[r][2 * N + i] == x_data[r * N + i]);
        }
    }
    end(&g);
}

static void losses(void **state) {
    (void)state;
    double mse = 0, l1 = 0, huber = 0, bce = 0, right = 0, mean = 0, spread = 0;
    for (int i = 0; i < ROWS * N; i++) {
        const double x = (double)x_data[i], t = (double)y_data[i], d = fabs(x - t), n = ROWS * N;
        mse += d * d / n, l1 += d / n;
        huber += (d <= 2 ? d * d / 2 : 2 * (d - 1)) / n;
        bce += (3 * t * softplus(-x) + (1 - t) * softplus(x)) / n;
        right += ((x > 0) == (t > 0.5)) / n;
        mean += t / n;
    }
    for (int i = 0; i < ROWS * N; i++) spread += pow((double)y_data[i] - mean, 2) / (ROWS * N);
    graph g = begin();
    dt_loss("mse", g.same, g.y, (dt_loss_options){0});
    run_it(&g);
    NEAR(metric(g.net, "loss"), mse);
    NEAR(metric(g.net, "rmse"), sqrt(mse));
    NEAR(metric(g.net, "mae"), l1);
    NEAR(metric(g.net, "r2"), 1 - mse / spread);
    double v;
    FAILS(DT_ERR_USAGE, "\"top1\"", dt_net_metric(g.net, "top1", &v));
    end(&g);
    /* Several, each by its weight. */
    g = begin();
    dt_loss("bce", g.same, g.y, (dt_loss_options){.positives = 3, .weight = 0.5});
    dt_loss("huber", g.same, g.y, (dt_loss_options){.delta = 2, .weight = 2, .name = "far"});
    dt_loss("l1", g.x, g.y, (dt_loss_options){0});
    run_it(&g);
    NEAR(metric(g.net, "loss_bce"), bce);
    NEAR(metric(g.net, "loss_far"), huber);
    NEAR(metric(g.net, "loss_l1"), l1);
    NEAR(metric(g.net, "loss"), 0.5 * bce + 2 * huber + l1);
    NEAR(metric(g.net, "accuracy"), right);
    FAILS(DT_ERR_USAGE, "\"loss_huber\"", dt_net_metric(g.net, "loss_huber", &v));
    end(&g);
}

/* A loss of one's own out of functions is the one by name, its gradients too; a target may be computed. */
static void own_loss(void **state) {
    (void)state;
    float gradient[2][N * N], value[2];
    for (int own = 0; own < 2; own++) {
        graph g = begin();
        dt_var v = dt_dense(g.same, (dt_dense_options){.channels = N, .name = "d"}),
               target = dt_exp(dt_neg(g.y));
        if (own)
            dt_loss("value", dt_square(dt_sub(v, target)), DT_NO_VAR, (dt_loss_options){0});
        else
            dt_loss("mse", v, target, (dt_loss_options){0});
        run_it(&g);
        OK(dt_net_forward(g.net, DT_TRAINING));
        OK(dt_net_backward(g.net));
        dt_tensor *t;
        OK(dt_net_gradient(g.net, "d.weight", &t));
        OK(dt_tensor_read(t, gradient[own], sizeof gradient[own]));
        value[own] = (float)metric(g.net, "loss");
        dt_tensor_free(t);
        end(&g);
    }
    NEAR((double)value[0], (double)value[1]);
    for (int i = 0; i < N * N; i++) NEAR((double)gradient[0][i], (double)gradient[1][i]);
}

static void refused(void **state) {
    (void)state;
#define MISTAKE(status, word, call)                                                                          \
    do {                                                                                                     \
        graph g = begin();                                                                                   \
        dt_var wide = dt_dense(g.x, (dt_dense_options){.channels = N + 1});                                  \
        (void)wide;                                                                                          \
        (void)(call);                                                                                        \
        FAILS(status, word, dt_net_status(g.net));                                                           \
        end(&g);                                                                                             \
    } while (0)
#define LOSS(...) (dt_loss(__VA_ARGS__), 0)
    MISTAKE(DT_ERR_USAGE, "target is no value", LOSS("mse", g.x, DT_NO_VAR, (dt_loss_options){0}));
    MISTAKE(DT_ERR_USAGE, "no target", LOSS("value", g.x, g.y, (dt_loss_options){0}));
    MISTAKE(DT_ERR_CONFIG, "target", LOSS("mse", wide, g.y, (dt_loss_options){0}));
    MISTAKE(DT_ERR_CONFIG, "delta", LOSS("huber", g.x, g.y, (dt_loss_options){.delta = -1}));
    MISTAKE(DT_ERR_CONFIG, "weight", LOSS("l1", g.x, g.y, (dt_loss_options){.weight = INFINITY}));
    MISTAKE(DT_ERR_USAGE, "name", LOSS("l1", g.x, g.y, (dt_loss_options){.name = ""}));
    MISTAKE(DT_ERR_CONFIG, "alpha", dt_elu(g.x, -1));
    MISTAKE(DT_ERR_CONFIG, "lo", dt_clamp(g.x, NAN, 1));
    MISTAKE(DT_ERR_CONFIG, "sub1", dt_sub(g.x, wide));
    MISTAKE(DT_ERR_USAGE, "dimension 1", dt_concat((dt_var[]){g.x, g.y}, 2, 1));
    MISTAKE(DT_ERR_USAGE, "33", dt_concat((dt_var[]){g.x, g.y}, 33, 0));
    MISTAKE(DT_ERR_CONFIG, "1 input", dt_concat(&g.x, 1, 0));
    assert_null(dt_concat(NULL, 2, 0).net);
    assert_null(dt_add(DT_NO_VAR, DT_NO_VAR).net);
    graph g = begin();
    for (int i = 0; i < 9; i++)
        dt_loss("l1", g.x, g.y,
                (dt_loss_options){.name = (const char *[]){"a", "b", "c", "d", "e", "f", "g", "h", "i"}[i]});
    FAILS(DT_ERR_USAGE, "at most 8", dt_net_status(g.net));
    end(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions), cmocka_unit_test(rows),    cmocka_unit_test(losses),
        cmocka_unit_test(own_loss),  cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
