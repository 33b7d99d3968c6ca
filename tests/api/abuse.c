/* abuse.c [SECONDS [SEED]]: calls of the API in any order, with handles that are live, freed, of another kind, NULL or no
 * handles, and numbers that nobody would ask for. Nothing may crash; a failure has a text, success its result. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dtrain.h"

static uint64_t state;

static uint64_t draw(void) { /* xorshift64* */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}
static int below(int n) {
    return (int)(draw() % (uint64_t)n);
}
static bool seldom(void) {
    return below(12) == 0;
}

/* ---- what calls are made with ---- */

enum { RUN = 0, TENSOR, NET, DATA, TEXTS, KINDS, SLOTS = 8, VARS = 24 };
static void *pool[KINDS][SLOTS]; /* live, freed, or NULL */
static dt_var vars[VARS];
static char junk[4096], dir[] = "/tmp/dtrain-abuse-XXXXXX", place[128];

static void *any(int kind) {
    if (!seldom()) return pool[kind][below(SLOTS)];
    switch (below(4)) {
    case 0:
        return NULL;
    case 1:
        return junk + 8 * below(64);
    case 2:
        return pool[below(KINDS)][below(SLOTS)];
    default:
        return (void *)(uintptr_t)(draw() & ~7u);
    }
}
#define ANY_RUN    ((dt_run *)any(RUN))
#define ANY_TENSOR ((dt_tensor *)any(TENSOR))
#define ANY_NET    ((dt_net *)any(NET))
#define ANY_DATA   ((dt_data *)any(DATA))
#define ANY_TEXTS  ((dt_sampler *)any(TEXTS))

static dt_var any_var(void) {
    if (seldom()) return (dt_var){any(NET), below(40) - 3};
    return vars[below(VARS)];
}
static void keep_var(dt_var v) {
    if (v.net || seldom()) vars[below(VARS)] = v;
}

static int64_t any_whole(void) {
    /* What could be had would take long. */
    static const int64_t odd[] = {-1, INT64_MIN, INT64_MAX, INT64_C(1) << 40, 0, 1 << 10, -7};
    return seldom() ? odd[below(7)] : below(5);
}
static double any_real(void) {
    static const double odd[] = {-1, 1e300, 1e-300, 0, 5};
    const int i = below(8);
    return !seldom() ? (double)below(8) / 8
           : i < 5   ? odd[i]
           : i == 5  ? (double)NAN
           : i == 6  ? (double)INFINITY
                     : -0.0;
}
static const char *any_name(void) {
    static const char *const name[] = {
        "x",
        "y",
        "label",
        "image",
        "a",
        "b",
        "out",
        "dense1.weight",
        "conv2d1.bias",
        "*",
        "loss",
        "grad_norm",
        "",
        "no such thing",
        "a name that is much longer than any name of anything may ever be, by far, and "
        "then some more of it, up to what does not fit at all"};
    return seldom() ? NULL : name[below(15)];
}
static dt_dtype any_dtype(void) {
    return seldom() ? (dt_dtype)(below(14) - 2) : below(3) ? DT_DTYPE_F32 : DT_DTYPE_I32;
}
static dt_shape any_shape(void) {
    dt_shape s = {.ndim = seldom() ? below(12) - 2 : below(4)};
    for (int i = 0; i < DT_MAX_DIM; i++) s.dim[i] = seldom() ? any_whole() : 1 + below(3);
    return s;
}
static dt_mode any_mode(void) {
    return seldom() ? (dt_mode)7 : (dt_mode)below(2);
}

/* ---- what comes back ---- */

static const char *calling;

static bool done(dt_status st) {
    if (st == DT_OK) return true;
    if (st < 0 || st >= DT_STATUS_COUNT || st == DT_ERR_INTERNAL || !dt_error_text()[0]) {
        fprintf(stderr, "abuse: %s: status %d (%s), \"%s\"\n", calling, (int)st, dt_status_name(st),
                dt_error_text());
        abort();
    }
    return false;
}
/* A new handle in the place of some other, which may have been freed before and may not be. */
static void keep(int kind, void *handle, dt_status st) {
    if (!done(st)) return;
    if (!handle) {
        fprintf(stderr, "abuse: %s: success without a result\n", calling);
        abort();
    }
    void **at = &pool[kind][below(SLOTS)];
    if (kind == RUN) dt_run_close(*at);
    if (kind == TENSOR) dt_tensor_free(*at);
    if (kind == NET) dt_net_free(*at);
    if (kind == DATA) dt_data_free(*at);
    if (kind == TEXTS) dt_sampler_free(*at);
    *at = handle;
}
/* The result goes where there is something already, or is new. */
static void keep_result(dt_tensor *before, dt_tensor *after, dt_status st) {
    if (before)
        (void)done(st);
    else
        keep(TENSOR, after, st);
}

static dt_status visit(void *arg, dt_net *net, int64_t step) {
    double v;
    (void)arg, (void)step;
    (void)dt_net_metric(net, "loss", &v);
    return seldom() ? dt_net_set_lr(net, -1) : DT_OK;
}

/* A network that can be trained, of x and y. */
static void sound_net(void) {
    dt_net *net = NULL;
    const dt_status st =
        dt_net_create(ANY_RUN, (dt_net_options){.batch = 1 + below(3), .optimizer = {.name = "adam"}}, &net);
    if (st == DT_OK) {
        dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(3)),
               y = dt_input(net, "y", DT_DTYPE_F32, DT_SHAPE(2));
        dt_var out = dt_dense(x, (dt_dense_options){.channels = 2});
        if (seldom()) dt_loss("mse", any_var(), any_var(), (dt_loss_options){0});
        dt_expose(out, "out");
        dt_loss("mse", out, y, (dt_loss_options){.weight = any_real()});
        keep_var(out), keep_var(x);
    }
    keep(NET, net, st);
}

static void grow(void) {
    const dt_var x = any_var();
    const char *name = below(3) ? NULL : any_name();
    switch (below(20)) {
    case 0:
        keep_var(dt_input(ANY_NET, any_name(), any_dtype(), any_shape()));
        break;
    case 1:
        keep_var(dt_image_input(ANY_NET, any_name(),
                                (dt_image_options){.height = any_whole(),
                                                   .width = any_whole(),
                                                   .channels = any_whole(),
                                                   .mean = {(float)any_real()},
                                                   .stddev = {(float)any_real()}}));
        break;
    case 2:
        keep_var(dt_conv2d(x, (dt_conv2d_options){.channels = any_whole(),
                                                  .kernel = any_whole(),
                                                  .stride = any_whole(),
                                                  .pad = any_whole(),
                                                  .dilation = any_whole(),
                                                  .groups = any_whole(),
                                                  .no_bias = below(2),
                                                  .name = name}));
        break;
    case 3:
        keep_var(dt_dense(x, (dt_dense_options){.channels = any_whole(), .name = name}));
        break;
    case 4:
        keep_var(
            dt_batchnorm(x, (dt_batchnorm_options){.eps = any_real(), .momentum = any_real(), .name = name}));
        break;
    case 5: {
        const dt_pool_options o = {.kernel = any_whole(), .stride = any_whole(), .pad = any_whole()};
        keep_var(below(2) ? dt_maxpool(x, o) : dt_avgpool(x, o));
        break;
    }
    case 6:
        keep_var(below(2) ? dt_global_avgpool(x) : dt_flatten(x));
        break;
    case 7:
        keep_var(dt_dropout(x, any_real()));
        break;
    case 8:
        keep_var(below(2)   ? dt_gelu(x)
                 : below(2) ? dt_elu(x, any_real())
                            : dt_clamp(x, any_real(), any_real()));
        break;
    case 9:
        keep_var(below(2) ? dt_add(x, any_var()) : dt_div(x, any_var()));
        break;
    case 10: {
        dt_var many[40];
        for (int i = 0; i < 40; i++) many[i] = below(2) ? x : any_var();
        keep_var(dt_concat(seldom() ? NULL : many, seldom() ? 40 : below(4) - 1, below(5) - 2));
        break;
    }
    case 11:
        keep_var(below(2) ? dt_softmax(x) : dt_square(x));
        break;
    case 12:
        dt_expose(x, any_name());
        (void)dt_var_shape(any_var());
        break;
    case 13: {
        const dt_conv2d_options o = {.channels = any_whole(),
                                     .kernel = any_whole(),
                                     .stride = any_whole(),
                                     .pad = any_whole(),
                                     .dilation = any_whole(),
                                     .groups = any_whole(),
                                     .name = name};
        keep_var(below(2) ? dt_conv1d(x, o) : dt_conv3d(x, o));
        break;
    }
    case 14: {
        dt_var part[40];
        const int64_t sizes[40] = {any_whole(), any_whole(), any_whole()};
        dt_split(x, below(5) - 2, seldom() ? 40 : below(4) - 1, below(2) ? NULL : sizes,
                 seldom() ? NULL : part);
        break;
    }
    case 15:
        keep_var(below(2) ? dt_slice(x, below(5) - 2, any_whole(), any_whole())
                          : dt_pad(x, below(5) - 2, any_whole(), any_whole()));
        break;
    case 16:
        keep_var(below(2) ? dt_gather(x, any_var(), below(5) - 2) : dt_one_hot(x, any_whole()));
        break;
    case 17:
        keep_var(below(2)   ? dt_adaptive_maxpool(x, any_whole(), any_whole())
                 : below(2) ? dt_adaptive_avgpool(x, any_whole(), any_whole())
                            : dt_global_maxpool(x));
        break;
    case 18:
        keep_var(below(2) ? dt_upsample(x, (dt_upsample_options){.scale = any_whole(),
                                                                 .height = seldom() ? any_whole() : 0,
                                                                 .mode = below(3)})
                          : dt_cosine_similarity(x, any_var(), any_real()));
        break;
    default: {
        static const char *const kind[] = {"mse",   "value", "cross_entropy", "bce",
                                           "huber", "l1",    "none",          NULL};
        dt_loss(kind[below(8)], x, any_var(),
                (dt_loss_options){.weight = any_real(),
                                  .delta = seldom() ? any_real() : 0,
                                  .smoothing = seldom() ? any_real() : 0,
                                  .name = name});
    }
    }
}

static void on_tensors(void) {
    static _Alignas(16) char memory[1 << 16];
    dt_run *run = ANY_RUN;
    dt_tensor *t = ANY_TENSOR, *u = ANY_TENSOR, *made = NULL, *before = below(2) ? NULL : ANY_TENSOR,
              *out = before;
    const dt_shape s = any_shape();
    const dt_dtype type = any_dtype();
    const int32_t order[] = {below(3), below(3), below(3) - 1, 3, 4, 5, 6, 7};
    const bool small = dt_tensor_n_elem(t) <= 4096;
    bool fits = s.ndim >= 0 && s.ndim <= DT_MAX_DIM; /* the shape in `memory` */
    int64_t n = 8;
    for (int i = 0; fits && i < s.ndim; i++) fits = s.dim[i] >= 0 && s.dim[i] < 64 && (n *= s.dim[i]) < 60000;
    dt_status st = DT_OK;
    switch (below(16)) {
    case 0:
        st = dt_tensor_zeros(run, type, s, &made);
        keep(TENSOR, made, st);
        break;
    case 1:
        st = dt_tensor_full(run, type, s, any_real(), &made);
        keep(TENSOR, made, st);
        break;
    case 2:
        st = dt_tensor_randn(run, type, s, draw(), &made);
        keep(TENSOR, made, st);
        break;
    case 3:
        st = dt_tensor_from(run, type, s, fits ? memory : NULL, &made);
        if (st == DT_OK || made) keep(TENSOR, made, st);
        break;
    case 4:
        st = dt_tensor_wrap(run, type, s, fits ? memory + below(2) * 2 : NULL, &made);
        if (st == DT_OK || made) keep(TENSOR, made, st);
        break;
    case 5:
        (void)done(dt_tensor_read(t, memory, small ? dt_tensor_n_elem(t) * below(9) : -1));
        break;
    case 6:
        (void)done(dt_tensor_write(t, memory, small ? dt_tensor_n_elem(t) * below(9) : any_whole() - 2));
        break;
    case 7:
        st = dt_tensor_copy(t, &out);
        keep_result(before, out, st);
        break;
    case 8:
        st = below(2) ? dt_tensor_to_host(t, &out) : dt_tensor_to_device(t, &out);
        keep_result(before, out, st);
        break;
    case 9:
        st = dt_tensor_reshape(t, s, &out);
        keep_result(before, out, st);
        break;
    case 10:
        st = below(2) ? dt_tensor_add(t, u, &out) : dt_tensor_multiply(t, t, &out);
        keep_result(before, out, st);
        break;
    case 11:
        st = dt_tensor_matmul(t, u, &out);
        keep_result(before, out, st);
        break;
    case 12:
        st = dt_tensor_transpose(t, below(2) ? order : NULL, &out);
        keep_result(before, out, st);
        break;
    case 13:
        (void)done(dt_run_all_reduce(run, t));
        (void)done(dt_run_broadcast(run, t, below(3) - 1));
        break;
    case 14:
        (void)dt_tensor_shape(t), (void)dt_tensor_dtype(t), (void)dt_tensor_is_host(t),
            (void)dt_tensor_data(t);
        (void)done(dt_tensor_add(t, u, NULL)), (void)done(dt_tensor_zeros(run, type, s, NULL));
        break;
    default:
        dt_tensor_free(t);
    }
}

static void on_nets(void) {
    dt_net *net = ANY_NET;
    dt_tensor *t = NULL;
    double number;
    const char *text;
    dt_status st;
    switch (below(20)) {
    case 0: {
        dt_net *made = NULL;
        st = dt_net_create(
            ANY_RUN,
            (dt_net_options){.batch = any_whole(),
                             .clip_norm = any_real(),
                             .seed = draw(),
                             .compute = seldom() ? any_dtype() : DT_DTYPE_F32,
                             .optimizer = {.name = seldom() ? any_name() : "sgd", .lr = any_real()}},
            &made);
        keep(NET, made, st);
        break;
    }
    case 1:
        (void)done(dt_net_group(net, (dt_group_options){.pattern = any_name(),
                                                        .lr_factor = any_real(),
                                                        .weight_decay = any_real(),
                                                        .frozen = below(2),
                                                        .trained = below(2)}));
        break;
    case 2:
    case 3:
    case 4:
        (void)done(dt_net_set(net, any_name(), ANY_TENSOR));
        break;
    case 5:
        (void)done(dt_net_forward(net, any_mode()));
        break;
    case 6:
        (void)done(dt_net_backward(net));
        break;
    case 7:
        (void)done(dt_net_update(net));
        break;
    case 8:
        (void)done(dt_net_step(net));
        break;
    case 9:
        st = dt_net_output(net, any_name(), &t);
        keep(TENSOR, t, st);
        break;
    case 10:
        st = below(2) ? dt_net_parameter(net, any_name(), &t) : dt_net_gradient(net, any_name(), &t);
        keep(TENSOR, t, st);
        break;
    case 11:
        (void)dt_net_n_parameter(net), (void)dt_net_parameter_name(net, below(5) - 2);
        (void)done(dt_net_metric(net, any_name(), &number));
        break;
    case 12:
        (void)done(below(2) ? dt_net_begin_evaluation(net) : dt_net_end_evaluation(net));
        break;
    case 13:
        (void)done(dt_net_set_lr(net, any_real()));
        break;
    case 14:
        (void)done(dt_net_inspect(net, &text));
        if (seldom()) (void)done(dt_net_profile(net, below(3), &text));
        break;
    case 15:
        if (seldom()) (void)done(dt_net_save(net, below(3) ? place : any_name() && below(2) ? junk : NULL));
        break;
    case 16:
        if (seldom()) (void)done(dt_net_load(net, below(3) ? place : NULL));
        break;
    case 17:
        (void)done(dt_net_compile(net));
        break;
    case 18:
        (void)done(dt_net_status(net));
        break;
    default:
        if (seldom()) dt_net_free(net);
    }
}

static void on_data(void) {
    dt_net *net = ANY_NET;
    dt_data *data = ANY_DATA, *made = NULL;
    dt_tensor *t = NULL;
    dt_image_options image;
    bool more;
    dt_status st;
    switch (below(7)) {
    case 0:
        st = dt_data_open(ANY_RUN, seldom() ? place : "synthetic",
                          (dt_data_open_options){.fields = seldom()   ? any_name()
                                                           : below(4) ? "x:f32[3] y:f32[2]"
                                                                      : NULL,
                                                 .rows = 1 + below(9),
                                                 .pad_crop = seldom() ? any_whole() : 0,
                                                 .image_size = seldom() ? any_whole() : 4,
                                                 .threads = 1 + below(2),
                                                 .random_resized = seldom(),
                                                 .flip = below(2)},
                          &made);
        keep(DATA, made, st);
        break;
    case 1:
        (void)done(dt_net_next(net, data, any_mode(), seldom() ? NULL : &more));
        break;
    case 2:
        (void)done(dt_net_fit(
            net, data, (dt_fit_options){.steps = 1 + below(4), .after_step = below(2) ? visit : NULL}));
        break;
    case 3:
        (void)done(dt_net_evaluate(net, data));
        break;
    case 4:
        st = dt_net_predict(net, data, any_name(), &t);
        keep(TENSOR, t, st);
        break;
    case 5:
        (void)dt_data_n_rows(data), (void)dt_data_n_classes(data);
        (void)done(dt_data_image(data, &image)), (void)done(dt_data_field(data, any_name(), NULL, NULL));
        break;
    default:
        if (seldom()) dt_data_free(data);
    }
}

/* Texts of networks that were not made for them are refused; of one that was they come. */
static void on_texts(void) {
    dt_sampler *made = NULL, *s = ANY_TEXTS;
    dt_net *net = NULL;
    const char *text;
    int32_t token;
    dt_status st;
    switch (below(6)) {
    case 0:
        if (!done(dt_net_create(ANY_RUN, (dt_net_options){.batch = 1 + below(3)}, &net))) break;
        const dt_var x = dt_input(net, "tokens", DT_DTYPE_I32, DT_SHAPE(8)),
                     y = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE(8));
        dt_var z = dt_embedding(x, (dt_embedding_options){.rows = 257, .channels = 4});
        if (below(2)) z = dt_attention(z, (dt_attention_options){.heads = 2, .causal = !seldom()});
        z = dt_dense(z, (dt_dense_options){.channels = 257});
        dt_expose(z, "logits");
        dt_loss("cross_entropy", z, y, (dt_loss_options){0});
        keep(NET, net, DT_OK);
        break;
    case 1:
        st = dt_sampler_open(ANY_NET,
                             (dt_sampler_options){.tokens = seldom() ? any_name() : NULL,
                                                  .text = seldom() ? place : NULL,
                                                  .temperature = seldom() ? any_real() : 1,
                                                  .top_k = seldom() ? any_whole() : 0,
                                                  .top_p = seldom() ? any_real() : 0,
                                                  .window = below(2)},
                             seldom() ? NULL : &made);
        if (st != DT_OK || made) keep(TEXTS, made, st);
        break;
    case 2:
        (void)done(dt_sampler_prompt(s, seldom() ? NULL : "ab\xff", (size_t)below(4)));
        break;
    case 3:
    case 4:
        (void)done(dt_sampler_next(s, seldom() ? NULL : &token, seldom() ? NULL : &text));
        break;
    default:
        if (seldom()) dt_sampler_free(s);
    }
}

static void on_runs(void) {
    dt_run *made = NULL;
    dt_run_info info;
    if (below(3) == 0) {
        const dt_status st =
            dt_run_open((dt_run_options){.device = seldom() ? (dt_device)(below(6) - 1) : DT_DEVICE_CPU,
                                         .threads = 1 + (int32_t)below(2),
                                         .timeout_s = seldom() ? any_real() : 0},
                        &made);
        keep(RUN, made, st);
    } else if (seldom()) {
        dt_run_close(ANY_RUN);
    }
    (void)done(dt_run_get_info(ANY_RUN, &info));
    (void)done(dt_run_agree(ANY_RUN, DT_OK));
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*call)(void);
        int weight;
    } calls[] = {{"runs", on_runs, 1},        {"a sound network", sound_net, 2}, {"layers", grow, 12},
                 {"tensors", on_tensors, 12}, {"networks", on_nets, 24},         {"data sets", on_data, 6},
                 {"texts", on_texts, 8}};
    const double seconds = argc > 1 ? atof(argv[1]) : 3;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    int64_t n = 0;
    const time_t end = time(NULL) + (time_t)seconds;
    state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    if (!mkdtemp(dir)) return 2;
    snprintf(place, sizeof place, "%s/model", dir);
    fprintf(stderr, "abuse: seed %llu, in %s\n", (unsigned long long)seed, dir);
    for (; time(NULL) < end; n++) {
        int at = below(65), i = 0;
        while (at >= calls[i].weight) at -= calls[i++].weight;
        calling = calls[i].name;
        calls[i].call();
    }
    for (int i = 0; i < SLOTS; i++) {
        dt_run_close(pool[RUN][i]), dt_net_free(pool[NET][i]);
        dt_data_free(pool[DATA][i]), dt_tensor_free(pool[TENSOR][i]);
        dt_sampler_free(pool[TEXTS][i]);
    }
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    fprintf(stderr, "abuse: %lld calls\n", (long long)n);
    return system(command) != 0;
}
