/* custom_training_loop.c: one's own loop over a data set of images, Fashion-MNIST for one: a learning rate that warms
 * up and falls, forward, backward and update apart, an evaluation after each epoch, the best network saved. On one
 * rank or many: mpirun -np 4 ./custom_training_loop ...
 *
 *     cc custom_training_loop.c $(pkg-config --cflags --libs dtrain) -lm -o custom_training_loop
 *     ./custom_training_loop data/fashion-mnist/train data/fashion-mnist/val [EPOCHS [DIRECTORY]] */
#include <dtrain.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 64, WARMUP = 50 };
static const double PEAK_LR = 2e-3, PI = 3.14159265358979;

/* Ends the program with the cause when a call fails. */
static void check(dt_status status) {
    if (status == DT_OK) return;
    fprintf(stderr, "custom_training_loop: %s\n", dt_error_text());
    exit(1);
}

static dt_net *build(dt_run *run, const dt_data *data) {
    dt_net_options options = {0};
    options.batch = BATCH;
    options.optimizer.name = "adamw";
    options.optimizer.weight_decay = 0.01;
    dt_image_options image;
    dt_net *net;
    check(dt_data_image(data, &image));
    check(dt_net_create(run, options, &net));
    dt_var label = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_var x = dt_image_input(net, "image", image);
    x = dt_conv2d(x, (dt_conv2d_options){.channels = 16, .kernel = 3, .pad = DT_PAD_SAME});
    x = dt_maxpool(dt_relu(dt_batchnorm(x, (dt_batchnorm_options){0})), (dt_pool_options){.kernel = 2});
    x = dt_conv2d(x, (dt_conv2d_options){.channels = 32, .kernel = 3, .pad = DT_PAD_SAME});
    x = dt_maxpool(dt_relu(dt_batchnorm(x, (dt_batchnorm_options){0})), (dt_pool_options){.kernel = 2});
    x = dt_relu(dt_dense(x, (dt_dense_options){.channels = 128}));
    x = dt_dense(dt_dropout(x, 0.2), (dt_dense_options){.channels = dt_data_n_classes(data)});
    dt_loss("cross_entropy", x, label, (dt_loss_options){0});
    return net;
}

/* Warms up, then falls along a cosine. */
static double lr_at(int64_t step, int64_t steps) {
    if (step < WARMUP) return PEAK_LR * (double)(step + 1) / WARMUP;
    return PEAK_LR / 2 * (1 + cos(PI * (double)(step - WARMUP) / (double)(steps - WARMUP)));
}

int main(int argc, char **argv) {
    const int epochs = argc > 3 ? atoi(argv[3]) : 3;
    const char *directory = argc > 4 ? argv[4] : NULL;
    if (argc < 3 || epochs < 1)
        return fprintf(stderr, "usage: custom_training_loop TRAIN VAL [EPOCHS [DIRECTORY]]\n"), 2;
    dt_run *run;
    dt_run_info info;
    dt_data *train, *val;
    dt_data_open_options augment = {0};
    augment.flip = true;
    check(dt_run_open((dt_run_options){.device = DT_DEVICE_AUTO}, &run));
    check(dt_run_get_info(run, &info));
    check(dt_run_agree(run, dt_data_open(run, argv[1], augment, &train)));
    check(dt_run_agree(run, dt_data_open(run, argv[2], (dt_data_open_options){0}, &val)));
    dt_net *net = build(run, train);

    const int64_t rows = (int64_t)BATCH * info.world,
                  steps = (dt_data_n_rows(train) * epochs + rows - 1) / rows;
    double loss, accuracy, best = 0;
    int64_t step = 0;
    for (int epoch = 1; epoch <= epochs; epoch++) {
        for (; step < steps * epoch / epochs; step++) {
            check(dt_net_set_lr(net, lr_at(step, steps)));
            check(dt_net_next(net, train, DT_TRAINING, NULL));
            check(dt_net_forward(net, DT_TRAINING));
            check(dt_net_backward(net));
            check(dt_net_update(net));
            if (step % 100 != 0) continue;
            check(dt_net_metric(net, "loss", &loss));
            if (info.rank == 0) printf("step %lld: loss %.4f\n", (long long)step, loss);
        }
        check(dt_net_evaluate(net, val));
        check(dt_net_metric(net, "loss", &loss));
        check(dt_net_metric(net, "top1", &accuracy));
        if (info.rank == 0) printf("epoch %d: loss %.4f, accuracy %.2f %%\n", epoch, loss, 100 * accuracy);
        if (directory && accuracy > best) check(dt_net_save(net, directory));
        best = accuracy > best ? accuracy : best;
    }
    dt_net_free(net), dt_data_free(train), dt_data_free(val);
    dt_run_close(run);
    return best > 0.2 ? 0 : 1;
}
