/* ranks.c: the API on several ranks: `ranks sum`, `ranks train`, `ranks map`, `ranks kept`, in which handles
 * are left when the run is closed, and `ranks fail`, in which rank 1 leaves early and
 * every rank must end with a failure. Exit code 0: all is well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtrain.h"

static void check(dt_status st) {
    if (st == DT_OK) return;
    fprintf(stderr, "ranks: %s\n", dt_error_text());
    exit(3);
}
#define NEED(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) fprintf(stderr, "ranks: line %d: not %s\n", __LINE__, #condition), exit(4);        \
    } while (0)

enum { ROWS = 4, IN = 6, CLASSES = 3, ALL = 2 * ROWS, RANKED = 60, LABELS = 5 };

static int sums(dt_run *run, const dt_run_info *info) {
    dt_tensor *t, *other;
    float f[5];
    int32_t n = info->rank;
    for (int i = 0; i < 5; i++) f[i] = (float)(info->rank + i);
    check(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(5), f, &t));
    check(dt_run_all_reduce(run, t));
    check(dt_tensor_read(t, f, sizeof f));
    const int w = info->world;
    for (int i = 0; i < 5; i++) NEED(f[i] == (float)(w * (w - 1) / 2 + w * i));
    check(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE_SCALAR, &n, &other));
    check(dt_run_broadcast(run, other, w - 1));
    check(dt_tensor_read(other, &n, sizeof n));
    NEED(n == w - 1);
    /* Unequal shapes are told on all ranks, and nobody waits. */
    dt_tensor *uneven;
    check(dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(3 + info->rank), &uneven));
    NEED(dt_run_all_reduce(run, uneven) == DT_ERR_CONFIG && strstr(dt_error_text(), "differs between ranks"));
    const dt_status mine = info->rank == 1 ? dt_tensor_read(t, f, 1) : DT_OK;
    NEED(dt_run_agree(run, mine) == DT_ERR_USAGE && strstr(dt_error_text(), "20"));
    check(dt_run_agree(run, DT_OK));
    dt_tensor_free(t), dt_tensor_free(other), dt_tensor_free(uneven);
    return 0;
}

/* The first ROWS of `rows` rows from `from` on, after three steps: the weights of the head. */
static void train(dt_run *run, int from, int rows, float out[CLASSES * IN], double *loss) {
    dt_net *net;
    float x[ALL * IN];
    int32_t y[ALL];
    for (int i = 0; i < rows * IN; i++) x[i] = (float)((i + from * IN) * 37 % 19) / 19 - 0.5f;
    for (int i = 0; i < rows; i++) y[i] = (i + from) % CLASSES;
    check(dt_net_create(run, (dt_net_options){.batch = rows, .optimizer = {.name = "momentum", .lr = 0.1}},
                        &net));
    dt_var v = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(IN)),
           label = dt_input(net, "y", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    v = dt_dense(v, (dt_dense_options){.channels = CLASSES, .name = "head"});
    dt_loss("cross_entropy", v, label, (dt_loss_options){0});
    dt_tensor *image, *labels, *weight;
    check(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(rows, IN), x, &image));
    check(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(rows), y, &labels));
    check(dt_net_set(net, "x", image));
    check(dt_net_set(net, "y", labels));
    for (int i = 0; i < 2; i++) check(dt_net_step(net));
    check(dt_net_forward(net, DT_TRAINING));
    check(dt_net_backward(net));
    check(dt_net_update(net));
    check(dt_net_begin_evaluation(net));
    check(dt_net_forward(net, DT_EVALUATION));
    check(dt_net_end_evaluation(net));
    check(dt_net_metric(net, "loss", loss));
    check(dt_net_parameter(net, "head.weight", &weight));
    check(dt_tensor_read(weight, out, CLASSES * IN * sizeof(float)));
    dt_tensor_free(image), dt_tensor_free(labels), dt_tensor_free(weight), dt_net_free(net);
}

/* Two ranks with half of the rows each do what each would do with all of them, twice. */
static int trains(dt_run *run, const dt_run_info *info) {
    float mine[CLASSES * IN], all[CLASSES * IN];
    double loss, loss_all;
    NEED(info->world == 2);
    train(run, info->rank * ROWS, ROWS, mine, &loss);
    train(run, 0, ALL, all, &loss_all);
    double worst = 0;
    for (int i = 0; i < CLASSES * IN; i++) {
        const double d = (double)mine[i] - (double)all[i];
        if (d > worst) worst = d;
        if (-d > worst) worst = -d;
    }
    NEED(worst < 1e-6 && loss - loss_all < 1e-6 && loss_all - loss < 1e-6);
    return 0;
}

/* Mean average precision of rows [from, to) on this rank, as many at a time; the scores are x itself. */
static double map_of(dt_run *run, dt_net *net, int from, int to, int at_once) {
    double map;
    check(dt_net_begin_evaluation(net));
    for (int at = from; at < to; at += at_once) {
        const int n = to - at < at_once ? to - at : at_once;
        float x[RANKED * LABELS], y[RANKED * LABELS], zero[RANKED] = {0};
        for (int i = 0; i < n; i++)
            for (int k = 0; k < LABELS; k++) {
                const int row = at + i;
                x[i * LABELS + k] = (float)((row * (37 + 6 * k) + k * 11) % (7 + 8 * k)) / 4;
                y[i * LABELS + k] = (row * 13 + k * 5) % (3 + 2 * k) == 0 && k < 4;
            }
        dt_tensor *t[3];
        check(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(n, LABELS), x, &t[0]));
        check(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(n, LABELS), y, &t[1]));
        check(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(n, 1), zero, &t[2]));
        check(dt_net_set(net, "x", t[0]));
        check(dt_net_set(net, "y", t[1]));
        check(dt_net_set(net, "zero", t[2]));
        check(dt_net_forward(net, DT_EVALUATION));
        for (int i = 0; i < 3; i++) dt_tensor_free(t[i]);
    }
    check(dt_net_end_evaluation(net));
    check(dt_net_metric(net, "map", &map));
    return map;
}

/* The same bits however the rows are divided, and scikit-learn's (tests/train/test_ranking.c has its figure). */
static int ranks_labels(dt_run *run, const dt_run_info *info) {
    dt_net *net;
    const int r = info->rank, w = info->world;
    double none;
    check(dt_net_create(run, (dt_net_options){.batch = RANKED}, &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(LABELS)),
           y = dt_input(net, "y", DT_DTYPE_F32, DT_SHAPE(LABELS)),
           zero = dt_input(net, "zero", DT_DTYPE_F32, DT_SHAPE(1));
    dt_var part = dt_dense(zero, (dt_dense_options){.channels = LABELS, .no_bias = true});
    dt_loss("bce", dt_add(x, part), y, (dt_loss_options){0});
    check(dt_net_compile(net));
    const double shared = map_of(run, net, RANKED * r / w, RANKED * (r + 1) / w, 4 + r),
                 last = map_of(run, net, 0, r == w - 1 ? RANKED : 0, RANKED),
                 first = map_of(run, net, 0, r == 0 ? RANKED : 0, 7);
    NEED(shared == last && shared == first);
    NEED(shared > 0.1660466190783515 - 1e-15 && shared < 0.1660466190783515 + 1e-15);
    NEED(dt_net_metric(net, "accuracy", &none) == DT_OK);
    dt_net_free(net);
    return 0;
}

int main(int argc, char **argv) {
    dt_run *run, *second;
    dt_run_info info;
    if (argc != 2) return 2;
    check(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU, .threads = 1, .timeout_s = 5}, &run));
    check(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU, .threads = 1, .timeout_s = 5}, &second));
    check(dt_run_get_info(run, &info));
    dt_run_close(second); /* of two MPI has one */
    int code = 2;
    if (strcmp(argv[1], "sum") == 0) code = sums(run, &info);
    if (strcmp(argv[1], "train") == 0) code = trains(run, &info);
    if (strcmp(argv[1], "map") == 0) code = ranks_labels(run, &info);
    if (strcmp(argv[1], "fail") == 0) {
        if (info.rank == 1) return 3; /* without a word, and without closing */
        const dt_status st = dt_run_agree(run, DT_OK);
        code = st == DT_ERR_PEER ? 3 : 4;
    }
    dt_tensor *left = NULL;
    if (strcmp(argv[1], "kept") == 0) {
        check(dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(3), &left));
        code = 0;
    }
    dt_run_close(run);
    if (left) return code;
    NEED(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU}, &run) == DT_ERR_USAGE);
    return code;
}
