/* ranks_differ.c: ranks that do not do the same. In every case each rank must get the same status, with a text that says
 * what is otherwise on which, within the time of a collective call; and they must be in step afterwards: one network,
 * which goes through all cases, has the same weights on all ranks at the end. Exit code 0: all is well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dtrain.h"

static int rank, world;
static const char *doing = "";

static void check(dt_status st) {
    if (st == DT_OK) return;
    fprintf(stderr, "ranks_differ: rank %d: %s: %s\n", rank, doing, dt_error_text());
    exit(3);
}
#define NEED(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "ranks_differ: rank %d: line %d, %s: not %s; text \"%s\"\n", rank, __LINE__,     \
                    doing, #condition, dt_error_text());                                                     \
            exit(4);                                                                                         \
        }                                                                                                    \
    } while (0)
/* That status and text on every rank, the last of which is the one that is otherwise. */
#define ALL_FAIL(status, word, call)                                                                         \
    do {                                                                                                     \
        NEED((call) == (status));                                                                            \
        NEED(strstr(dt_error_text(), (word)));                                                               \
    } while (0)

enum { ROWS = 4, IN = 6, CLASSES = 3 };

/* What of a network the last rank has otherwise. */
typedef enum variant {
    SAME,
    WIDTH,
    LAYER,
    STRIDE,
    RATE,
    NAME,
    INPUT_TYPE,
    INPUT_NAME,
    LOSS,
    LOSS_WEIGHT,
    SMOOTHING,
    OUTPUT,
    BATCH,
    SEED,
    CLIP,
    FUSION,
    OPTIMIZER,
    LR,
    BETA,
    GROUP,
    BROKEN,
    VARIANTS
} variant;

static const struct {
    const char *what, *word;
    dt_status status;
} variants[VARIANTS] = {
    [SAME] = {"the same network", "", DT_OK},
    [WIDTH] = {"another width", "head.weight", DT_ERR_CONFIG},
    [LAYER] = {"another layer", "gelu", DT_ERR_CONFIG},
    [STRIDE] = {"another stride", "maxpool stride 1 1\"", DT_ERR_CONFIG},
    [RATE] = {"another rate", "dropout p 0.5\"", DT_ERR_CONFIG},
    [NAME] = {"another name", "neck", DT_ERR_CONFIG},
    [INPUT_TYPE] = {"an input of another type", "f16", DT_ERR_CONFIG},
    [INPUT_NAME] = {"an input of another name", "input z", DT_ERR_CONFIG},
    [LOSS] = {"another loss", "loss_small: huber", DT_ERR_CONFIG},
    [LOSS_WEIGHT] = {"another weight of a loss", "weight 0.5", DT_ERR_CONFIG},
    [SMOOTHING] = {"another smoothing", "smoothing 0.1", DT_ERR_CONFIG},
    [OUTPUT] = {"another output", "output", DT_ERR_CONFIG},
    [BATCH] = {"another batch", "batch 8", DT_ERR_CONFIG},
    [SEED] = {"another seed", "seed 8", DT_ERR_CONFIG},
    [CLIP] = {"another clip_norm", "clip_norm 1", DT_ERR_CONFIG},
    [FUSION] = {"no fusion", "no_fusion 1", DT_ERR_CONFIG},
    [OPTIMIZER] = {"another optimizer", "\"lion\"", DT_ERR_CONFIG},
    [LR] = {"another rate", "optimizer.lr 0.2", DT_ERR_CONFIG},
    [BETA] = {"another option", "optimizer.beta1", DT_ERR_CONFIG},
    [GROUP] = {"another group", "group", DT_ERR_CONFIG},
    [BROKEN] = {"a mistake in building", "channels", DT_ERR_CONFIG},
};

static dt_net *build(dt_run *run, variant v) {
    dt_net *net;
    if (rank < world - 1) v = SAME;
    check(dt_net_create(run,
                        (dt_net_options){.batch = v == BATCH ? 2 * ROWS : ROWS,
                                         .seed = v == SEED ? 8 : 7,
                                         .clip_norm = v == CLIP ? 1 : 0,
                                         .no_fusion = v == FUSION,
                                         .optimizer = {.name = v == OPTIMIZER ? "lion" : "adam",
                                                       .lr = v == LR ? 0.2 : 0.1,
                                                       .beta1 = v == BETA ? 0.8 : 0}},
                        &net));
    dt_var x = dt_input(net, v == INPUT_NAME ? "z" : "x", v == INPUT_TYPE ? DT_DTYPE_F16 : DT_DTYPE_F32,
                        DT_SHAPE(4, 4, IN)),
           y = dt_input(net, "y", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    x = dt_maxpool(x, (dt_pool_options){.kernel = 2, .stride = v == STRIDE ? 1 : 0});
    x = dt_global_avgpool(x);
    x = v == LAYER ? dt_gelu(x) : dt_relu(x);
    x = dt_dropout(x, v == RATE ? 0.5 : 0.25);
    x = dt_dense(x, (dt_dense_options){.channels = 8, .name = v == NAME ? "neck" : "body"});
    dt_expose(x, v == OUTPUT ? "other" : "features");
    dt_var logits = dt_dense(x, (dt_dense_options){.channels = v == BROKEN  ? -1
                                                               : v == WIDTH ? CLASSES + 1
                                                                            : CLASSES,
                                                   .name = "head"});
    dt_loss("cross_entropy", logits, y, (dt_loss_options){.smoothing = v == SMOOTHING ? 0.1 : 0});
    dt_loss(v == LOSS ? "huber" : "mse", x, dt_square(x),
            (dt_loss_options){.weight = v == LOSS_WEIGHT ? 0.5 : 0.25, .name = "small"});
    if (v == GROUP) check(dt_net_group(net, (dt_group_options){.pattern = "body.*", .frozen = true}));
    return net;
}

static void networks(dt_run *run) {
    for (int v = SAME; v < VARIANTS; v++) {
        doing = variants[v].what;
        dt_net *net = build(run, (variant)v);
        ALL_FAIL(variants[v].status, variants[v].word, dt_net_compile(net));
        char who[32];
        snprintf(who, sizeof who, "rank %d", world - 1);
        if (v != SAME && v != BROKEN) NEED(strstr(dt_error_text(), who) && strstr(dt_error_text(), "rank 0"));
        dt_net_free(net);
    }
}

typedef struct batch {
    dt_tensor *x, *y, *wrong;
} batch;

static batch make_batch(dt_run *run, int64_t rows) {
    batch b;
    int32_t label[2 * ROWS];
    for (int i = 0; i < rows; i++) label[i] = i % CLASSES;
    check(dt_tensor_randn(run, DT_DTYPE_F32, DT_SHAPE(rows, 4, 4, IN), (uint64_t)rank + 1, &b.x));
    check(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(rows), label, &b.y));
    check(dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(rows, 4, 4), &b.wrong));
    return b;
}

static void free_batch(batch *b) {
    dt_tensor_free(b->x), dt_tensor_free(b->y), dt_tensor_free(b->wrong);
}

typedef struct visit {
    int64_t at;
    dt_tensor *t;
} visit;

/* Fails, with a text, on the last rank alone. */
static dt_status stop(void *arg, dt_net *net, int64_t step) {
    const visit *v = arg;
    (void)net;
    return step == v->at && rank == world - 1 ? dt_tensor_read(v->t, NULL, 1) : DT_OK;
}

/* The last rank does something else than the others, who all get to know it. */
static void calls(dt_run *run, dt_net *net) {
    const bool odd = rank == world - 1;
    batch b = make_batch(run, ROWS), few = make_batch(run, 2);
    double loss;

    doing = "an input that was not set on one rank";
    check(dt_net_set(net, "x", b.x));
    if (!odd) check(dt_net_set(net, "y", b.y));
    ALL_FAIL(DT_ERR_USAGE, "\"y\" was not set", dt_net_step(net));
    check(dt_net_set(net, "y", b.y));
    check(dt_net_step(net));

    doing = "too few rows on one rank";
    check(dt_net_set(net, "x", odd ? few.x : b.x));
    check(dt_net_set(net, "y", odd ? few.y : b.y));
    ALL_FAIL(DT_ERR_USAGE, "rows", dt_net_step(net));
    const dt_status forward = dt_net_forward(net, DT_TRAINING);
    NEED(forward == (odd ? DT_ERR_USAGE : DT_OK));
    ALL_FAIL(DT_ERR_USAGE, "forward pass", dt_net_backward(net));
    check(dt_net_set(net, "x", b.x));
    check(dt_net_set(net, "y", b.y));
    check(dt_net_step(net));

    doing = "a wrong tensor on one rank";
    ALL_FAIL(DT_ERR_USAGE, "4x4x6", dt_run_agree(run, dt_net_set(net, "x", odd ? b.wrong : b.x)));
    check(dt_net_step(net));
    dt_net *none = NULL;
    NEED(!odd || dt_net_step(none) == DT_ERR_USAGE); /* which nobody waits for */
    check(dt_net_step(net));

    doing = "a label on one rank that is no class";
    int32_t label[ROWS] = {0, 1, CLASSES, 0};
    dt_tensor *bad;
    check(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(ROWS), label, &bad));
    check(dt_net_set(net, "y", odd ? bad : b.y));
    ALL_FAIL(DT_ERR_DATA, "\"y\" has 3 in row 2", dt_net_step(net));
    check(dt_net_set(net, "y", b.y));
    check(dt_net_step(net));
    dt_tensor_free(bad);

    doing = "a status that a rank brings itself";
    ALL_FAIL(DT_STOPPED, "\"stopped\"", dt_run_agree(run, odd ? DT_STOPPED : DT_OK));

    doing = "different calls";
    ALL_FAIL(DT_ERR_USAGE, doing, odd ? dt_net_begin_evaluation(net) : dt_net_step(net));
    NEED(strstr(dt_error_text(), "dt_net_begin_evaluation") && strstr(dt_error_text(), "dt_net_step"));
    ALL_FAIL(DT_ERR_USAGE, doing, odd ? dt_run_agree(run, DT_OK) : dt_net_step(net));
    ALL_FAIL(DT_ERR_USAGE, doing, odd ? dt_run_all_reduce(run, b.x) : dt_run_broadcast(run, b.x, 0));
    check(dt_net_forward(net, DT_TRAINING));
    ALL_FAIL(DT_ERR_USAGE, "no backward pass", odd ? dt_net_update(net) : dt_net_backward(net));
    check(dt_net_backward(net));
    ALL_FAIL(DT_ERR_USAGE, doing, odd ? dt_net_step(net) : dt_net_update(net));
    check(dt_net_step(net));

    doing = "tensors that differ";
    ALL_FAIL(DT_ERR_CONFIG, "4x4x4", dt_run_all_reduce(run, odd ? b.wrong : b.x));
    ALL_FAIL(DT_ERR_CONFIG, "i32", dt_run_broadcast(run, odd ? b.y : b.x, 0));
    ALL_FAIL(DT_ERR_CONFIG, "root", dt_run_broadcast(run, b.x, odd));
    ALL_FAIL(DT_ERR_USAGE, "t is NULL", dt_run_all_reduce(run, odd ? NULL : b.x));
    ALL_FAIL(DT_ERR_USAGE, "no rank 99", dt_run_broadcast(run, b.x, odd ? 99 : 0));

    doing = "a rate of one rank's own";
    if (odd) check(dt_net_set_lr(net, 0.5));
    ALL_FAIL(DT_ERR_CONFIG, "lr 0.5", dt_net_step(net));
    check(dt_net_set_lr(net, 0.1));
    check(dt_net_step(net));

    doing = "evaluation";
    ALL_FAIL(DT_ERR_USAGE, "there is none", dt_net_end_evaluation(net));
    check(dt_net_begin_evaluation(net));
    if (odd) check(dt_net_forward(net, DT_EVALUATION)); /* ranks may have different numbers of batches */
    check(dt_net_end_evaluation(net));
    check(dt_net_metric(net, "rows", &loss));
    NEED(loss == ROWS);

    doing = "profile";
    const char *text;
    ALL_FAIL(DT_ERR_CONFIG, "steps", dt_net_profile(net, odd ? 0 : 1, &text));
    ALL_FAIL(DT_ERR_CONFIG, "steps 2", dt_net_profile(net, odd ? 2 : 1, &text));
    check(dt_net_profile(net, 1, &text));
    free_batch(&b), free_batch(&few);
}

/* Saving and loading are everybody's; what the ranks load must be the same. */
static void files(dt_run *run, dt_net *net, const char *dir) {
    const bool odd = rank == world - 1;
    char path[512], own[512];
    batch b = make_batch(run, ROWS);
    snprintf(path, sizeof path, "%s/model", dir);
    snprintf(own, sizeof own, "%s/model-%d", dir, rank);
    check(dt_net_set(net, "x", b.x));
    check(dt_net_set(net, "y", b.y));

    doing = "one rank alone saves, or loads";
    ALL_FAIL(DT_ERR_USAGE, "different calls", rank == 0 ? dt_net_save(net, path) : dt_net_step(net));
    NEED(access(path, F_OK) != 0);
    check(dt_net_save(net, path));
    ALL_FAIL(DT_ERR_USAGE, "different calls", odd ? dt_net_load(net, path) : dt_net_step(net));
    check(dt_net_step(net));

    doing = "every rank saves in a path of its own";
    ALL_FAIL(DT_ERR_CONFIG, "path", dt_net_save(net, own));
    ALL_FAIL(DT_ERR_USAGE, "NULL", dt_net_save(net, odd ? NULL : path));
    NEED(access(own, F_OK) != 0);

    doing = "ranks load different files";
    char first[600], second[600];
    check(dt_net_save(net, path)); /* the same path, another step */
    check(dt_net_step(net));
    snprintf(first, sizeof first, "%s", path);
    check(dt_net_save(net, path));
    for (int i = 0, n = 0; i < 100 && n < 2; i++) {
        snprintf(n ? second : first, sizeof first, "%s/step-%08d", path, i);
        n += access(n ? second : first, F_OK) == 0;
    }
    ALL_FAIL(DT_ERR_CONFIG, "contents", dt_net_load(net, odd ? first : second));
    ALL_FAIL(DT_ERR_CHECKPOINT, "nowhere", dt_net_load(net, odd ? "/nowhere" : second));
    ALL_FAIL(DT_ERR_USAGE, "NULL", dt_net_load(net, odd ? NULL : second));
    check(dt_net_step(net)); /* none of them has loaded anything */
    check(dt_net_load(net, second));
    check(dt_net_step(net));
    free_batch(&b);
}

static void data(dt_run *run, dt_net *net) {
    const bool odd = rank == world - 1;
    dt_data *d, *longer, *other;
    dt_data_open_options o = {.rows = 100, .classes = CLASSES, .fields = "x:f32[4,4,6] y:i32"};
    check(dt_data_open(run, "synthetic", o, &d));
    o.rows = 104;
    check(dt_data_open(run, "synthetic", o, &longer));
    o.fields = "x:f32[4,4,5] y:i32";
    check(dt_data_open(run, "synthetic", o, &other));
    visit v = {.at = 2};
    check(dt_tensor_zeros(run, DT_DTYPE_F32, DT_SHAPE(2), &v.t));

    doing = "data that differs";
    ALL_FAIL(DT_ERR_CONFIG, "104 rows", dt_net_fit(net, odd ? longer : d, (dt_fit_options){.steps = 3}));
    ALL_FAIL(DT_ERR_CONFIG, "steps 4", dt_net_fit(net, d, (dt_fit_options){.steps = odd ? 4 : 3}));
    ALL_FAIL(DT_ERR_CONFIG, "[4, 4, 5]", dt_net_evaluate(net, odd ? other : d));
    ALL_FAIL(DT_ERR_USAGE, "data is NULL", dt_net_evaluate(net, odd ? NULL : d));
    ALL_FAIL(DT_ERR_USAGE, "data is NULL", dt_net_fit(net, odd ? NULL : d, (dt_fit_options){0}));
    doing = "data that does not fit";
    ALL_FAIL(DT_ERR_DATA, "\"x\"", dt_net_fit(net, other, (dt_fit_options){.steps = 3}));
    ALL_FAIL(DT_ERR_DATA, "\"x\"", dt_net_evaluate(net, other));
    doing = "a callback that fails on one rank, between steps and after the last";
    for (v.at = 1; v.at < 4; v.at++)
        ALL_FAIL(DT_ERR_USAGE, "which has 8",
                 dt_net_fit(net, d, (dt_fit_options){.steps = 4, .after_step = stop, .arg = &v}));
    check(dt_net_fit(net, d, (dt_fit_options){.steps = 3}));
    doing = "predict";
    dt_tensor *t = NULL;
    ALL_FAIL(DT_ERR_USAGE, "no output", dt_net_predict(net, d, odd ? "nothing" : "features", &t));
    ALL_FAIL(DT_ERR_USAGE, "out is NULL", dt_net_predict(net, d, "features", odd ? NULL : &t));
    ALL_FAIL(DT_ERR_USAGE, "data is NULL", dt_net_predict(net, odd ? NULL : d, "features", &t));
    NEED(!t);
    check(dt_net_predict(net, d, "features", &t));
    check(dt_net_evaluate(net, d));
    dt_tensor_free(t), dt_tensor_free(v.t);
    dt_data_free(d), dt_data_free(longer), dt_data_free(other);
}

/* All that was refused has moved no rank alone. */
static void same_weights(dt_run *run, dt_net *net) {
    dt_tensor *w, *of_rank0 = NULL;
    float mine[8 * IN], theirs[8 * IN];
    doing = "weights at the end";
    check(dt_net_parameter(net, "body.weight", &w));
    check(dt_tensor_copy(w, &of_rank0));
    check(dt_tensor_read(w, mine, sizeof mine));
    check(dt_run_broadcast(run, of_rank0, 0));
    check(dt_tensor_read(of_rank0, theirs, sizeof theirs));
    NEED(memcmp(mine, theirs, sizeof mine) == 0);
    dt_tensor_free(w), dt_tensor_free(of_rank0);
}

/* ranks_differ DIRECTORY: all of the above. ranks_differ open, ranks_differ close: of the last rank the options of
 * dt_run_open are wrong, or it leaves while the others train: with all that is
 * the run's freed, with its network there (close_early), or with another run open (close_beside). */
int main(int argc, char **argv) {
    dt_run *run = NULL;
    dt_run_info info;
    if (argc != 2) return 2;
    const char *place = getenv("OMPI_COMM_WORLD_RANK"), *size = getenv("OMPI_COMM_WORLD_SIZE");
    const bool last = place && size && atoi(place) == atoi(size) - 1;
    if (strcmp(argv[1], "open") == 0) {
        ALL_FAIL(DT_ERR_USAGE, "threads",
                 dt_run_open((dt_run_options){.device = DT_DEVICE_CPU, .threads = last ? -1 : 1}, &run));
        return run != NULL;
    }
    check(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU, .threads = 1, .timeout_s = 20}, &run));
    check(dt_run_get_info(run, &info));
    rank = info.rank, world = info.world;
    dt_net *net = build(run, SAME);
    if (strncmp(argv[1], "close", strlen("close")) == 0) {
        const bool beside = strcmp(argv[1], "close_beside") == 0, early = strcmp(argv[1], "close_early") == 0;
        dt_run *other = NULL;
        if (beside) check(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU, .threads = 1}, &other));
        batch b = make_batch(run, ROWS);
        check(dt_net_set(net, "x", b.x));
        check(dt_net_set(net, "y", b.y));
        for (int i = 0; i < 3; i++) check(dt_net_step(net));
        if (rank < world - 1) {
            doing = "a rank that leaves";
            ALL_FAIL(DT_ERR_USAGE, "dt_run_close", dt_net_step(net));
            ALL_FAIL(DT_ERR_PEER, "no longer in step", dt_net_step(net));
        }
        if (early) dt_run_close(run); /* its network is there still */
        if (early && rank == world - 1) sleep(2);
        free_batch(&b), dt_net_free(net);
        if (!early) dt_run_close(run);
        if (rank == world - 1) sleep(2); /* its end ends the others */
        return 3;
    }
    networks(run);
    calls(run, net);
    files(run, net, argv[1]);
    data(run, net);
    same_weights(run, net);
    dt_net_free(net), dt_run_close(run);
    return 0;
}
