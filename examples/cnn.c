/* cnn.c: a convolutional network, layer by layer, on random images: one pass forward, its loss, backward, an
 * update by Adam, the forward pass timed, saved and loaded again.
 *
 *     cc cnn.c $(pkg-config --cflags --libs dtrain) -o cnn && ./cnn [DIRECTORY [SIDE]]
 *
 * The network and its optimizer take 1.2 GB in the directory (default: cnn-model); images of another side than 224 pixels
 * make it smaller. */
#include <dtrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 8, CLASSES = 10, REPEAT = 5 };

/* Ends the program with the cause when a call fails. */
static void check(dt_status status) {
    if (status == DT_OK) return;
    fprintf(stderr, "cnn: %s\n", dt_error_text());
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dt_net *build(dt_run *run, int side) {
    dt_net_options options = {0};
    options.batch = BATCH;
    options.optimizer.name = "adam";
    options.optimizer.lr = 1e-3;
    dt_net *net;
    check(dt_net_create(run, options, &net));
    dt_var label = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_var x = dt_input(net, "image", DT_DTYPE_F32, DT_SHAPE(side, side, 3));
    x = dt_relu(
        dt_conv2d(x, (dt_conv2d_options){.channels = 64, .kernel = 7, .stride = 2, .pad = DT_PAD_SAME}));
    x = dt_relu(
        dt_conv2d(x, (dt_conv2d_options){.channels = 128, .kernel = 3, .stride = 2, .pad = DT_PAD_SAME}));
    x = dt_relu(
        dt_conv2d(x, (dt_conv2d_options){.channels = 256, .kernel = 3, .stride = 2, .pad = DT_PAD_SAME}));
    x = dt_relu(dt_dense(x, (dt_dense_options){.channels = 512}));
    x = dt_dense(x, (dt_dense_options){.channels = CLASSES});
    dt_expose(dt_softmax(x), "probabilities");
    dt_loss("cross_entropy", x, label, (dt_loss_options){0});
    return net;
}

int main(int argc, char **argv) {
    const char *directory = argc > 1 ? argv[1] : "cnn-model";
    const int side = argc > 2 ? atoi(argv[2]) : 224;
    dt_run *run;
    check(dt_run_open((dt_run_options){.device = DT_DEVICE_AUTO}, &run));
    dt_net *net = build(run, side);

    dt_tensor *images, *labels, *answer, *gradient;
    int32_t label[BATCH];
    for (int i = 0; i < BATCH; i++) label[i] = i % CLASSES;
    check(dt_tensor_randn(run, DT_DTYPE_F32, DT_SHAPE(BATCH, side, side, 3), 1, &images));
    check(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(BATCH), label, &labels));
    check(dt_net_set(net, "image", images));
    check(dt_net_set(net, "label", labels));

    double loss, after;
    check(dt_net_forward(net, DT_TRAINING));
    check(dt_net_metric(net, "loss", &loss));
    check(dt_net_backward(net));
    check(dt_net_gradient(net, "conv2d1.weight", &gradient));
    check(dt_net_update(net));
    for (int i = 0; i < REPEAT; i++) check(dt_net_step(net)); /* the three of them in one */
    check(dt_net_metric(net, "loss", &after));
    printf("loss %.4f, after %d updates %.4f; gradient of conv2d1.weight: %lld elements\n", loss, REPEAT + 1,
           after, (long long)dt_tensor_n_elem(gradient));

    const double start_s = now_s();
    for (int i = 0; i < REPEAT; i++) check(dt_net_forward(net, DT_EVALUATION));
    check(dt_net_output(net, "probabilities", &answer));
    const double ms = 1e3 * (now_s() - start_s) / REPEAT;
    printf("forward: %.2f ms a batch of %d, %.1f images/s\n", ms, BATCH, 1e3 * BATCH / ms);

    float before[BATCH * CLASSES], again[BATCH * CLASSES];
    check(dt_tensor_read(answer, before, sizeof before));
    check(dt_net_save(net, directory));
    dt_tensor_free(answer), dt_tensor_free(gradient), dt_net_free(net);
    net = build(run, side);
    check(dt_net_load(net, directory));
    check(dt_net_set(net, "image", images));
    check(dt_net_forward(net, DT_EVALUATION));
    check(dt_net_output(net, "probabilities", &answer));
    check(dt_tensor_read(answer, again, sizeof again));
    for (int i = 0; i < BATCH * CLASSES; i++)
        if (before[i] != again[i]) return fprintf(stderr, "cnn: the loaded network answers otherwise\n"), 1;
    printf("saved in %s and loaded: the same answers\n", directory);

    dt_tensor_free(images), dt_tensor_free(labels), dt_tensor_free(answer), dt_net_free(net);
    dt_run_close(run);
    return 0;
}
