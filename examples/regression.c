/* regression.c: numbers from numbers: y = x0 x1 + sin(3 x2) learnt from arrays by a small network, which is judged by
 * mean squared error, on rows that it has not seen.
 *
 *     cc regression.c $(pkg-config --cflags --libs dtrain) -lm -o regression && ./regression */
#include <dtrain.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 2048, TEST_ROWS = 256, BATCH = 64, IN = 3, EPOCHS = 40 };

/* Ends the program with the cause when a call fails. */
static void check(dt_status status) {
    if (status == DT_OK) return;
    fprintf(stderr, "regression: %s\n", dt_error_text());
    exit(1);
}

static dt_net *build(dt_run *run) {
    dt_net_options options = {0};
    options.batch = BATCH;
    options.optimizer.name = "adam";
    options.optimizer.lr = 3e-3;
    dt_net *net;
    check(dt_net_create(run, options, &net));
    dt_var y = dt_input(net, "y", DT_DTYPE_F32, DT_SHAPE(1));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(IN));
    x = dt_tanh(dt_dense(x, (dt_dense_options){.channels = 32}));
    x = dt_tanh(dt_dense(x, (dt_dense_options){.channels = 32}));
    x = dt_dense(x, (dt_dense_options){.channels = 1});
    dt_expose(x, "answer");
    dt_loss("mse", x, y, (dt_loss_options){0});
    return net;
}

/* `rows` rows of x between -1 and 1, and their y. */
static void make(float *x, float *y, int rows) {
    for (int i = 0; i < rows * IN; i++) x[i] = 2 * (float)rand() / (float)RAND_MAX - 1;
    for (int i = 0; i < rows; i++, x += IN) y[i] = x[0] * x[1] + sinf(3 * x[2]);
}

/* Hands rows [from, from + BATCH) over: tensors around the arrays, without a copy. */
static void hand_over(dt_run *run, dt_net *net, float *x, float *y, int from) {
    dt_tensor *tx, *ty;
    check(dt_tensor_wrap(run, DT_DTYPE_F32, DT_SHAPE(BATCH, IN), x + from * IN, &tx));
    check(dt_tensor_wrap(run, DT_DTYPE_F32, DT_SHAPE(BATCH, 1), y + from, &ty));
    check(dt_net_set(net, "x", tx));
    check(dt_net_set(net, "y", ty));
    dt_tensor_free(tx), dt_tensor_free(ty);
}

int main(void) {
    static float x[ROWS * IN], y[ROWS], test_x[TEST_ROWS * IN], test_y[TEST_ROWS];
    dt_run *run;
    double loss, rmse, r2;
    make(x, y, ROWS), make(test_x, test_y, TEST_ROWS);
    check(dt_run_open((dt_run_options){.device = DT_DEVICE_AUTO}, &run));
    dt_net *net = build(run);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        for (int i = 0; i < ROWS; i += BATCH) {
            hand_over(run, net, x, y, i);
            check(dt_net_step(net));
        }
        check(dt_net_metric(net, "loss", &loss));
        if (epoch % 10 == 9) printf("epoch %d: loss %.5f\n", epoch + 1, loss);
    }
    check(dt_net_begin_evaluation(net));
    for (int i = 0; i < TEST_ROWS; i += BATCH) {
        hand_over(run, net, test_x, test_y, i);
        check(dt_net_forward(net, DT_EVALUATION));
    }
    check(dt_net_end_evaluation(net));
    check(dt_net_metric(net, "rmse", &rmse));
    check(dt_net_metric(net, "r2", &r2));
    printf("%d new rows: RMSE %.4f, R2 %.4f\n", TEST_ROWS, rmse, r2);
    dt_net_free(net);
    dt_run_close(run);
    return r2 > 0.95 ? 0 : 1;
}
