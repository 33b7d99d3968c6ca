/* Every number of every options struct of dtrain.h: what cannot be one of it is refused, with the field's name. The
 * header itself says which fields there are, so that a new one needs a row here. And every optimizer, from C. */
#include "api_test.h"
#include "core/optim.h" /* for the list of names */

static dt_run *run;
static char place[] = "/tmp/dtrain-api-XXXXXX", text_set[256];

/* A network of an image x, a vector v and a label y, to be tried on. */
typedef struct ground {
    dt_net *net;
    dt_var x, v, y;
} ground;

static ground begin(void) {
    ground g;
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &g.net));
    g.x = dt_input(g.net, "x", DT_DTYPE_F32, DT_SHAPE(8, 8, 4));
    g.v = dt_input(g.net, "v", DT_DTYPE_F32, DT_SHAPE(6));
    g.y = dt_input(g.net, "y", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    return g;
}

/* The status of a layer, by that of its network. */
#define LAYER(call)                                                                                          \
    do {                                                                                                     \
        ground g = begin();                                                                                  \
        (void)(call);                                                                                        \
        const dt_status st_ = dt_net_status(g.net);                                                          \
        dt_net_free(g.net);                                                                                  \
        return st_;                                                                                          \
    } while (0)

static dt_status try_conv2d(const void *options) {
    dt_conv2d_options o = *(const dt_conv2d_options *)options;
    if (o.channels == 0) o.channels = 4;
    LAYER(dt_conv2d(g.x, o));
}
static dt_status try_conv_transpose(const void *options) {
    dt_conv_transpose_options o = *(const dt_conv_transpose_options *)options;
    if (o.channels == 0) o.channels = 4;
    LAYER(dt_conv2d_transpose(g.x, o));
}
static dt_status try_dense(const void *options) {
    dt_dense_options o = *(const dt_dense_options *)options;
    LAYER(dt_dense(g.v, o));
}
static dt_status try_batchnorm(const void *options) {
    dt_batchnorm_options o = *(const dt_batchnorm_options *)options;
    LAYER(dt_batchnorm(g.x, o));
}
static dt_status try_pool(const void *options) {
    dt_pool_options o = *(const dt_pool_options *)options;
    LAYER(dt_maxpool(g.x, o));
}
static dt_status try_squeeze_excite(const void *options) {
    dt_squeeze_excite_options o = *(const dt_squeeze_excite_options *)options;
    if (o.channels == 0) o.channels = 4;
    LAYER(dt_squeeze_excite(g.x, o));
}
static dt_status try_upsample(const void *options) {
    dt_upsample_options o = *(const dt_upsample_options *)options;
    if (o.width != 0) o.height = 5;
    LAYER(dt_upsample(g.x, o));
}
static dt_status try_recurrent(const void *options) {
    dt_recurrent_options o = *(const dt_recurrent_options *)options;
    if (o.hidden == 0) o.hidden = 4;
    if (o.dropout != 0) o.layers = 2;
    const bool rnn = o.function != 0;
    LAYER(rnn            ? dt_rnn(dt_input(g.net, "steps", DT_DTYPE_F32, DT_SHAPE(5, 3)), o)
          : o.layers > 0 ? dt_gru(dt_input(g.net, "steps", DT_DTYPE_F32, DT_SHAPE(5, 3)), o)
                         : dt_lstm(dt_input(g.net, "steps", DT_DTYPE_F32, DT_SHAPE(5, 3)), o));
}
static dt_status try_attention(const void *options) {
    dt_attention_options o = *(const dt_attention_options *)options;
    if (o.heads == 0) o.heads = 4;
    if (o.theta != 0) o.rotary = true;
    LAYER(dt_attention(dt_input(g.net, "steps", DT_DTYPE_F32, DT_SHAPE(5, 8)), o));
}
#define INPUT(dtype, ...) dt_input(g.net, "steps", dtype, DT_SHAPE(__VA_ARGS__))
static dt_status try_norm(const void *options) {
    dt_norm_options o = *(const dt_norm_options *)options;
    if (o.groups == 0) o.groups = 2;
    LAYER(dt_groupnorm(g.x, o));
}
static dt_status try_embedding(const void *options) {
    dt_embedding_options o = *(const dt_embedding_options *)options;
    if (o.rows == 0) o.rows = 10;
    if (o.channels == 0) o.channels = 4;
    if (o.padding != 0) o.padded = true;
    LAYER(dt_embedding(INPUT(DT_DTYPE_I32, 5), o));
}
static dt_status try_position(const void *options) {
    dt_position_options o = *(const dt_position_options *)options;
    if (o.theta != 0) o.kind = DT_POSITION_SINUSOIDAL;
    LAYER(dt_position(INPUT(DT_DTYPE_F32, 5, 4), o));
}
static dt_status try_rotary(const void *options) {
    dt_rotary_options o = *(const dt_rotary_options *)options;
    LAYER(dt_rotary(INPUT(DT_DTYPE_F32, 5, 4), o));
}
static dt_status try_image(const void *options) {
    dt_image_options o = *(const dt_image_options *)options;
    if (o.height == 0) o.height = 4;
    if (o.width == 0) o.width = 4;
    if (o.channels == 0) o.channels = 1;
    LAYER(dt_image_input(g.net, "image", o));
}
static dt_status try_run(const void *options) {
    dt_run_options o = *(const dt_run_options *)options;
    dt_run *other = NULL;
    o.device = DT_DEVICE_CPU;
    const dt_status st = dt_run_open(o, &other);
    dt_run_close(other);
    return st;
}
static dt_status try_net(const void *options) {
    dt_net_options o = *(const dt_net_options *)options;
    dt_net *net = NULL;
    if (o.batch == 0) o.batch = 2;
    const dt_status st = dt_net_create(run, o, &net);
    dt_net_free(net);
    return st;
}
static dt_status try_optimizer(const void *options) {
    dt_optimizer_options o = *(const dt_optimizer_options *)options;
    o.name = o.momentum != 0                                                  ? "momentum"
             : o.beta1 != 0 || o.beta2 != 0 || o.eps != 0                     ? "adam"
             : o.alpha != 0                                                   ? "rmsprop"
             : o.lr_decay != 0                                                ? "adagrad"
             : o.trust != 0                                                   ? "lars"
             : o.beta2_decay != 0 || o.scale_floor != 0 || o.update_clip != 0 ? "adafactor"
             : o.adamw_lr != 0                                                ? "muon"
                                                                              : "sgd";
    return try_net(&(dt_net_options){.optimizer = o});
}
static dt_status try_group(const void *options) {
    dt_group_options o = *(const dt_group_options *)options;
    ground g = begin();
    o.pattern = "*";
    const dt_status st = dt_net_group(g.net, o);
    dt_net_free(g.net);
    return st;
}
static dt_status try_loss(const void *options) {
    dt_loss_options o = *(const dt_loss_options *)options;
    const char *kind = o.delta != 0 ? "huber" : o.positives != 0 ? "bce" : "cross_entropy";
    LAYER((dt_loss(kind, g.v, strcmp(kind, "cross_entropy") == 0 ? g.y : dt_square(g.v), o), 0));
}
static dt_status try_data_open(const void *options) {
    dt_data_open_options o = *(const dt_data_open_options *)options;
    dt_data *d = NULL;
    if (o.scale_min != 0) o.random_resized = true;
    if (o.policy_ops != 0 || o.policy_magnitude != 0) o.policy = "randaugment";
    if (o.context == 0 && o.rows == 0) o.image_size = o.image_size != 0 ? o.image_size : 8;
    if (o.image_size == 0 && o.context == 0) o.fields = "x:f32[2] y:i32";
    const dt_status st = dt_data_open(run, o.context != 0 ? text_set : "synthetic", o, &d);
    dt_data_free(d);
    return st;
}
static dt_status try_fit(const void *options) {
    dt_fit_options o = *(const dt_fit_options *)options;
    ground g = begin();
    dt_data *d;
    dt_loss("mse", dt_dense(g.v, (dt_dense_options){.channels = 6}), g.v, (dt_loss_options){0});
    OK(dt_data_open(run, "synthetic",
                    (dt_data_open_options){.rows = 4, .fields = "x:f32[8,8,4] v:f32[6] y:i32"}, &d));
    const dt_status st = dt_net_fit(g.net, d, o);
    dt_data_free(d), dt_net_free(g.net);
    return st;
}

static dt_status try_model_add(const void *options) {
    dt_model_add_options o = *(const dt_model_add_options *)options;
    const bool patches = o.patch != 0 || o.drop_path != 0;
    if (o.outputs == 0) o.outputs = 3;
    if (o.patch == 0 && patches) o.patch = 4;
    if (o.vocab != 0)
        LAYER(dt_model("lstm_classifier", dt_input(g.net, "tokens", DT_DTYPE_I32, DT_SHAPE(6)), o));
    LAYER(dt_model(patches ? "vit_tiny_patch16" : "mlp", g.x, o));
}
static dt_status try_sampler(const void *options) {
    dt_sampler_options o = *(const dt_sampler_options *)options;
    ground g = begin();
    dt_sampler *s = NULL;
    const dt_var tokens = dt_input(g.net, "tokens", DT_DTYPE_I32, DT_SHAPE(3)),
                 next = dt_input(g.net, "next", DT_DTYPE_I32, DT_SHAPE(3));
    const dt_var y = dt_dense(dt_embedding(tokens, (dt_embedding_options){.rows = 257, .channels = 4}),
                              (dt_dense_options){.channels = 257});
    dt_expose(y, "logits");
    dt_loss("cross_entropy", y, next, (dt_loss_options){0});
    const dt_status st = dt_sampler_open(g.net, o, &s);
    dt_sampler_free(s), dt_net_free(g.net);
    return st;
}

typedef enum number_type { FLOAT, DOUBLE, INT32, INT64 } number_type;

/* A number of a struct: `good` is taken, and so is `also` where it is among those that are bad of others. */
typedef struct row {
    const char *of, *field;
    size_t offset;
    number_type type;
    dt_status (*attempt)(const void *options);
    double good, also;
} row;

#define TYPE_OF(s, field)                                                                                    \
    _Generic(((dt_##s##_options *)0)->field, float: FLOAT, float *: FLOAT, double: DOUBLE, int32_t: INT32, int64_t: INT64, int64_t *: INT64)
#define R(s, field, good, also)                                                                              \
    {                                                                                                        \
#s, #field, offsetof(dt_##s##_options, field), TYPE_OF(s, field), try_##s, (double)(good),           \
            (double)(also)                                                                                   \
    }
/* A network that is served. */
static dt_status try_service(const void *options) {
    dt_service *s;
    const dt_status st = dt_service_open(run, *(const dt_service_options *)options, &s);
    dt_service_close(s);
    return st;
}
static dt_status served(const dt_served_options *o, const dt_submit_options *submit) {
    static float x[3 * 17 * 19];
    dt_service *s;
    dt_served *m = NULL;
    dt_request *r = NULL;
    OK(dt_service_open(run, (dt_service_options){.workers = 1}, &s));
    dt_status st = dt_service_load(s, DT_SOURCE_DIR "/tests/golden/onnx/nets/images/model.onnx", *o, &m);
    const dt_array in = {.dtype = DT_DTYPE_F32, .shape = DT_SHAPE(1, 3, 17, 19), .data = x};
    if (st == DT_OK) st = dt_submit(m, &in, *submit, &r);
    dt_request_drop(r);
    dt_served_drop(m);
    dt_service_close(s);
    return st;
}
static dt_status try_served(const void *options) {
    dt_served_options o = *(const dt_served_options *)options;
    o.no_warm = true;
    return served(&o, &(dt_submit_options){0});
}
static dt_status try_submit(const void *options) {
    return served(&(dt_served_options){.no_warm = true}, options);
}

enum { NONE = 0 };

static const row rows[] = {
    R(conv2d, channels, 8, NONE),
    R(conv2d, kernel, 3, NONE),
    R(conv2d, stride, 2, NONE),
    R(conv2d, pad, 1, DT_PAD_SAME),
    R(conv2d, dilation, 2, NONE),
    R(conv2d, groups, 2, NONE),
    R(conv_transpose, channels, 8, NONE),
    R(conv_transpose, kernel, 3, NONE),
    R(conv_transpose, stride, 3, NONE),
    R(conv_transpose, pad, 1, NONE),
    R(conv_transpose, output_pad, 1, NONE),
    R(conv_transpose, dilation, 2, NONE),
    R(conv_transpose, groups, 2, NONE),
    R(dense, channels, 8, NONE),
    R(batchnorm, eps, 1e-3, NONE),
    R(batchnorm, momentum, 0.5, NONE),
    R(pool, kernel, 3, NONE),
    R(pool, stride, 2, NONE),
    R(pool, pad, 1, DT_PAD_SAME),
    R(squeeze_excite, channels, 2, NONE),
    R(squeeze_excite, activation, DT_SQUEEZE_SILU, NONE),
    R(squeeze_excite, gate, DT_GATE_HARDSIGMOID, NONE),
    R(upsample, scale, 3, NONE),
    R(upsample, height, 5, NONE),
    R(upsample, width, 7, NONE),
    R(upsample, mode, DT_UPSAMPLE_BILINEAR, NONE),
    R(upsample, mode, DT_UPSAMPLE_BICUBIC, NONE),
    R(recurrent, hidden, 8, NONE),
    R(recurrent, layers, 2, NONE),
    R(recurrent, dropout, 0.5, NONE),
    R(recurrent, function, DT_RNN_FUNCTION_RELU, NONE),
    R(attention, heads, 2, NONE),
    R(attention, kv_heads, 2, NONE),
    R(attention, head_size, 6, NONE),
    R(attention, window, 3, NONE),
    R(attention, theta, 1e5, NONE),
    R(attention, dropout, 0.5, NONE),
    R(norm, eps, 1e-3, NONE),
    R(norm, groups, 4, DT_EVERY_CHANNEL),
    R(embedding, rows, 20, NONE),
    R(embedding, channels, 8, NONE),
    R(embedding, padding, 1, NONE),
    R(embedding, std, 0.5, NONE),
    R(position, kind, DT_POSITION_SINUSOIDAL, NONE),
    R(position, rows, 8, NONE),
    R(position, std, 0.5, NONE),
    R(position, theta, 100, NONE),
    R(rotary, heads, 2, NONE),
    R(rotary, dims, 2, NONE),
    R(rotary, theta, 100, NONE),
    R(image, height, 8, NONE),
    R(image, width, 8, NONE),
    R(image, channels, 3, NONE),
    R(image, mean, 0.25, -1),
    R(image, stddev, 0.25, NONE),
    R(run, threads, 1, NONE),
    R(run, timeout_s, 10, NONE),
    R(net, batch, 4, NONE),
    R(net, clip_norm, 1, NONE),
    R(optimizer, lr, 0.1, NONE),
    R(optimizer, momentum, 0.5, NONE),
    R(optimizer, beta1, 0.5, NONE),
    R(optimizer, beta2, 0.5, NONE),
    R(optimizer, alpha, 0.5, NONE),
    R(optimizer, eps, 1e-3, NONE),
    R(optimizer, lr_decay, 0.5, NONE),
    R(optimizer, trust, 0.5, NONE),
    R(optimizer, beta2_decay, 0.5, NONE),
    R(optimizer, scale_floor, 0.5, NONE),
    R(optimizer, update_clip, 0.5, NONE),
    R(optimizer, adamw_lr, 0.5, NONE),
    R(optimizer, weight_decay, 0.5, NONE),
    R(group, lr_factor, 0.5, NONE),
    R(group, weight_decay, 0.5, NONE),
    R(loss, weight, 0.5, NONE),
    R(loss, delta, 0.5, NONE),
    R(loss, positives, 0.5, NONE),
    R(loss, smoothing, 0.5, NONE),
    R(data_open, pad_crop, 2, NONE),
    R(data_open, brightness, 0.5, NONE),
    R(data_open, contrast, 0.5, NONE),
    R(data_open, saturation, 0.5, NONE),
    R(data_open, hue, 0.25, NONE),
    R(data_open, grayscale, 0.5, NONE),
    R(data_open, scale_min, 0.5, NONE),
    R(data_open, policy_ops, 2, NONE),
    R(data_open, policy_magnitude, 9, NONE),
    R(data_open, repeats, 3, NONE),
    R(data_open, erase, 0.5, NONE),
    R(data_open, mixup, 0.5, NONE),
    R(data_open, cutmix, 0.5, NONE),
    R(data_open, threads, 1, NONE),
    R(data_open, context, 5, NONE),
    R(data_open, rows, 10, NONE),
    R(data_open, classes, 10, NONE),
    R(data_open, image_size, 8, NONE),
    R(data_open, channels, 1, NONE),
    R(fit, epochs, 1, NONE),
    R(fit, steps, 1, INT64_MAX),          /* it would only take long */
    R(model_add, outputs, 10, INT64_MAX), /* refused by what they would take */
    R(model_add, dropout, 0.5, -1),
    R(model_add, drop_path, 0.1, -1),
    R(model_add, patch, 4, NONE),
    R(model_add, widths, 8, INT64_MAX),
    R(model_add, vocab, 50, INT64_MAX),
    R(sampler, temperature, 0.5, NONE),
    R(sampler, top_k, 3, NONE),
    R(sampler, top_p, 0.5, NONE),
    R(sampler, seed, 3, INT64_MAX),
    R(service, workers, 1, NONE),
    R(service, memory_cap_bytes, 1, INT64_MAX),
    R(service, queue_limit, 1, NONE),
    R(served, version, 2, INT64_MAX),
    R(served, max_batch, 2, NONE),
    R(served, max_delay_us, 1, NONE),
    R(served, queue_limit, 1, NONE),
    R(submit, deadline_us, 1000000, INT64_MAX),
    R(submit, priority, 7, NONE),
};
enum { N_ROW = sizeof rows / sizeof rows[0] };

/* Sets the field; false where x is no other number there. */
static bool put(const row *r, void *options, double x) {
    void *at = (char *)options + r->offset;
    if (r->type == FLOAT) {
        if (x != 0 && (float)x == 0) return false;
        *(float *)at = (float)x;
        if (r->offset == offsetof(dt_image_options, mean))
            *(float *)((char *)options + offsetof(dt_image_options, stddev)) = 1;
    } else if (r->type == DOUBLE) {
        *(double *)at = x;
    } else if (r->type == INT32) {
        if (x < INT32_MIN || x > INT32_MAX) return false;
        *(int32_t *)at = (int32_t)x;
    } else {
        *(int64_t *)at = x >= 0x1p63 ? INT64_MAX : (int64_t)x;
    }
    return true;
}

static void numbers(void **state) {
    (void)state;
    static const double reals[] = {NAN, INFINITY, -INFINITY, -1, -0.25, 1e300, -1e300, 1e-50};
    static const double wholes[] = {-1, -2, INT32_MIN, (double)INT64_MIN, (double)INT64_MAX};
    for (int i = 0; i < N_ROW; i++) {
        const row *r = &rows[i];
        const bool real = r->type == FLOAT || r->type == DOUBLE;
        _Alignas(16) char options[512] = {0};
        assert_true(put(r, options, r->good));
        if (r->attempt(options) != DT_OK)
            fail_msg("dt_%s_options.%s = %g: %s", r->of, r->field, r->good, dt_error_text());
        const size_t n = real ? sizeof reals / sizeof *reals : sizeof wholes / sizeof *wholes;
        for (size_t k = 0; k < n; k++) {
            const double x = real ? reals[k] : wholes[k];
            memset(options, 0, sizeof options);
            if (x == r->also || (r->also < 0 && x == -0.25) || !put(r, options, x)) continue;
            const dt_status st = r->attempt(options);
            if ((st != DT_ERR_CONFIG && st != DT_ERR_USAGE) || !strstr(dt_error_text(), r->field))
                fail_msg("dt_%s_options.%s = %g: %s, \"%s\"", r->of, r->field, x, dt_status_name(st),
                         dt_error_text());
        }
    }
}

/* The text of a file of the source tree. */
static char *read_source(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", DT_SOURCE_DIR, name);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s", path);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

/* The next word of letters, digits and _ from *at on, up to `end`. */
static bool next_word(const char **at, const char *end, char word[64]) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    *at += strcspn(*at, letters);
    const size_t n = strspn(*at, letters);
    if (*at >= end || n == 0) return false;
    snprintf(word, 64, "%.*s", (int)n, *at);
    *at += n;
    return true;
}

/* Calls f(of, field) for each number in the struct between `at` and `end`. */
static void each_number(const char *of, const char *at, const char *end,
                        void (*f)(const char *of, const char *field)) {
    static const char *const types[] = {"int64_t", "int32_t", "double", "float"};
    char word[64];
    while (at < end) {
        const char *comment = strstr(at, "/*"), *semicolon = strchr(at, ';');
        if (comment && comment < semicolon) {
            at = strstr(comment, "*/") + 2;
            continue;
        }
        if (!semicolon || semicolon > end || !next_word(&at, semicolon, word)) return;
        bool number = false;
        for (int i = 0; i < 4; i++) number = number || strcmp(word, types[i]) == 0;
        while (number && next_word(&at, semicolon, word))
            if (word[0] > '9') f(of, word); /* else [4] */
        at = semicolon + 1;
    }
}

static void has_row(const char *of, const char *field) {
    if (strncmp(field, "n_", 2) == 0) return; /* a list's, tried with it */
    for (int i = 0; i < N_ROW; i++)
        if (strcmp(rows[i].of, of) == 0 && strcmp(rows[i].field, field) == 0) return;
    fail_msg("dt_%s_options.%s has no row in this test", of, field);
}

static void every_number_has_a_row(void **state) {
    (void)state;
    char *header = read_source("include/dtrain.h");
    int n = 0;
    for (const char *at = header; (at = strstr(at, "typedef struct dt_"));) {
        at += strlen("typedef struct dt_");
        const char *name_end = strstr(at, "_options {"), *line_end = strchr(at, '\n'),
                   *end = strstr(at, "\n}");
        if (!name_end || name_end > line_end) continue;
        char of[64];
        snprintf(of, sizeof of, "%.*s", (int)(name_end - at), at);
        each_number(of, line_end, end, has_row);
        n++;
    }
    assert_true(n >= 12); /* structs that were read */
    free(header);
}

/* ---- optimizers ---- */

static char *optimizer_struct;

static void is_in_dtrain_h(const char *of, const char *field) {
    (void)of;
    if (strcmp(field, "kind") == 0) return; /* name, there */
    /* Rates by layers: a program has dt_net_group. */
    if (strcmp(field, "layer_decay") == 0 || strcmp(field, "head_lr_factor") == 0) return;
    char word[64];
    for (const char *at = optimizer_struct, *end = at + strlen(at); next_word(&at, end, word);)
        if (strcmp(word, field) == 0) return;
    fail_msg("dt_optimizer_options lacks %s of dt_optim_options", field);
}

static void every_option_is_there(void **state) {
    (void)state;
    char *header = read_source("include/dtrain.h"), *optim = read_source("src/core/include/core/optim.h");
    optimizer_struct = strstr(header, "typedef struct dt_optimizer_options {");
    assert_non_null(optimizer_struct);
    *strstr(optimizer_struct, "\n}") = 0;
    const char *from = strstr(optim, "typedef struct dt_optim_options {");
    assert_non_null(from);
    each_number("optim", strchr(from, '\n'), strstr(from, "\n}"), is_in_dtrain_h);
    free(header), free(optim);
}

/* Linear regression, by each: the loss must fall. */
static void optimizers(void **state) {
    (void)state;
#define NAME(upper, lower, n) #lower,
    static const char *const names[] = {DT_OPTIM_LIST(NAME)};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        dt_net *net;
        double first, last;
        OK(dt_net_create(run, (dt_net_options){.batch = 32, .optimizer = {.name = names[i]}}, &net));
        dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(8));
        dt_var h = dt_relu(dt_dense(x, (dt_dense_options){.channels = 16}));
        dt_loss("mse", dt_dense(h, (dt_dense_options){.channels = 8}), x, (dt_loss_options){0});
        dt_tensor *t = normal(run, DT_SHAPE(32, 8), 5);
        OK(dt_net_set(net, "x", t));
        OK(dt_net_step(net));
        OK(dt_net_metric(net, "loss", &first));
        for (int k = 0; k < 100; k++) OK(dt_net_step(net));
        OK(dt_net_metric(net, "loss", &last));
        if (!(last < 0.97 * first)) fail_msg("%s: loss %g, after 100 steps %g", names[i], first, last);
        dt_tensor_free(t), dt_net_free(net);
    }
}

/* An option of an optimizer makes a difference. */
static void options_count(void **state) {
    (void)state;
    const struct {
        const char *name;
        dt_optimizer_options without, with;
    } cases[] = {
        {"momentum", {0}, {.momentum = 0.5}},
        {"nesterov", {0}, {.momentum = 0.5}},
        {"adam", {0}, {.beta1 = 0.5}},
        {"adamw", {0}, {.beta2 = 0.5}},
        {"rmsprop", {0}, {.alpha = 0.5}},
        {"rmsprop", {0}, {.centered = true}},
        {"rmsprop_tf", {0}, {.eps = 1e-3}},
        {"adagrad", {0}, {.lr_decay = 0.5}},
        {"lamb", {.weight_decay = 0.1}, {.weight_decay = 0.1, .decay_bn_and_bias = true}},
        {"lars", {.weight_decay = 0.1}, {.weight_decay = 0.1, .trust = 0.5}},
        {"lars",
         {.weight_decay = 0.1, .trust = 100},
         {.weight_decay = 0.1, .trust = 100, .trust_clip = true}},
        {"lion", {0}, {.weight_decay = 0.5}},
        {"adafactor", {0}, {.beta2_decay = 0.4}},
        {"adafactor", {0}, {.scale_floor = 2}},
        {"adafactor", {0}, {.update_clip = 0.1}},
        {"muon", {0}, {.adamw_lr = 0.5}},
        {"muon", {0}, {.muon_scale = DT_MUON_MATCH_RMS_ADAMW}},
        {"muon", {0}, {.no_nesterov = true}},
        {"sgd", {0}, {.weight_decay = 0.5}},
        {"sgd", {0}, {.lr = 0.5}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double loss[2];
        for (int with = 0; with < 2; with++) {
            dt_net *net;
            dt_net_options o = {.batch = 8, .optimizer = with ? cases[i].with : cases[i].without};
            o.optimizer.name = cases[i].name;
            OK(dt_net_create(run, o, &net));
            dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(8));
            dt_var h = dt_dense(x, (dt_dense_options){.channels = 8}); /* a matrix within, as muon wants it */
            dt_loss("mse", dt_dense(dt_tanh(h), (dt_dense_options){.channels = 8}), x, (dt_loss_options){0});
            dt_tensor *t = normal(run, DT_SHAPE(8, 8), 5);
            OK(dt_net_set(net, "x", t));
            for (int k = 0; k < 5; k++) OK(dt_net_step(net));
            OK(dt_net_metric(net, "loss", &loss[with]));
            dt_tensor_free(t), dt_net_free(net);
        }
        if (loss[0] == loss[1]) fail_msg("case %zu, %s: the option changes nothing", i, cases[i].name);
    }
}

/* What would be ignored is refused. */
static void options_of_others(void **state) {
    (void)state;
    const struct {
        dt_optimizer_options o;
        const char *what;
    } cases[] = {
        {{.name = "adam", .momentum = 0.5}, "momentum would be ignored"},
        {{.name = "sgd", .beta1 = 0.5}, "beta1 would be ignored"},
        {{.eps = 1e-3}, "eps would be ignored"},
        {{.name = "momentum", .centered = true}, "centered would be ignored"},
        {{.name = "lion", .trust_clip = true}, "trust_clip would be ignored"},
        {{.name = "adamw", .muon_scale = DT_MUON_MATCH_RMS_ADAMW}, "muon_scale would be ignored"},
        {{.name = "adamw", .no_nesterov = true}, "nesterov would be ignored"},
        {{.name = "adamw", .adamw_lr = 1e-3}, "adamw_lr would be ignored"},
    };
    dt_net *net;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        FAILS(DT_ERR_CONFIG, cases[i].what,
              dt_net_create(run, (dt_net_options){.batch = 2, .optimizer = cases[i].o}, &net));
    ground g = begin();
    for (int muon = -1; muon < 2; muon += 2)
        FAILS(DT_ERR_CONFIG, "muon says",
              dt_net_group(g.net, (dt_group_options){.pattern = "*", .muon = muon}));
    dt_net_free(g.net);
}

/* ---- limits, at and beyond ---- */

static void repeat(char *out, size_t n) {
    memset(out, 'n', n);
    out[n] = 0;
}

static void limits(void **state) {
    (void)state;
    char name[256];
    for (int beyond = 0; beyond < 2; beyond++) {
        const dt_status want = beyond ? DT_ERR_USAGE : DT_OK;
        ground g = begin();
        for (int i = 3; i < DT_MAX_INPUTS + beyond; i++) { /* three are there */
            snprintf(name, sizeof name, "i%d", i);
            (void)dt_input(g.net, name, DT_DTYPE_F32, DT_SHAPE(1));
        }
        assert_int_equal(dt_net_status(g.net), want);
        dt_net_free(g.net);

        g = begin();
        for (int i = 0; i < DT_MAX_OUTPUTS + beyond; i++) {
            snprintf(name, sizeof name, "o%d", i);
            dt_expose(g.v, name);
        }
        assert_int_equal(dt_net_status(g.net) != DT_OK, beyond);
        dt_net_free(g.net);

        g = begin();
        for (int i = 0; i < DT_MAX_LOSSES + beyond; i++) {
            snprintf(name, sizeof name, "l%d", i);
            dt_loss("value", dt_square(g.v), DT_NO_VAR, (dt_loss_options){.name = name});
        }
        assert_int_equal(dt_net_status(g.net), want);
        dt_net_free(g.net);

        g = begin();
        for (int i = 0; i < DT_MAX_GROUPS; i++)
            OK(dt_net_group(g.net, (dt_group_options){.pattern = "*", .lr_factor = 2}));
        assert_int_equal(
            beyond ? dt_net_group(g.net, (dt_group_options){.pattern = "*", .lr_factor = 2}) : DT_OK, want);
        dt_net_free(g.net);

        g = begin();
        dt_var many[DT_MAX_CONCAT + 1];
        for (int i = 0; i <= DT_MAX_CONCAT; i++) many[i] = g.v;
        (void)dt_concat(many, DT_MAX_CONCAT + beyond, 0);
        assert_int_equal(dt_net_status(g.net), want);
        dt_net_free(g.net);

        g = begin();
        repeat(name, (size_t)(DT_MAX_NAME + beyond));
        (void)dt_batchnorm(g.x, (dt_batchnorm_options){.name = name});
        assert_int_equal(dt_net_status(g.net) != DT_OK, beyond);
        dt_net_free(g.net);

        g = begin();
        repeat(name, (size_t)(DT_MAX_FIELD_NAME + beyond));
        (void)dt_input(g.net, name, DT_DTYPE_F32, DT_SHAPE(1));
        assert_int_equal(dt_net_status(g.net), want);
        dt_net_free(g.net);

        g = begin();
        repeat(name, (size_t)(DT_MAX_FIELD_NAME + beyond));
        dt_expose(g.v, name);
        assert_int_equal(dt_net_status(g.net), want);
        dt_net_free(g.net);

        g = begin();
        repeat(name, (size_t)(DT_MAX_PATTERN + beyond));
        assert_int_equal(dt_net_group(g.net, (dt_group_options){.pattern = name, .lr_factor = 2}), want);
        dt_net_free(g.net);

        g = begin();
        dt_shape s = {.ndim = DT_MAX_DIM - 1 + beyond, .dim = {1, 1, 1, 1, 1, 1, 1, 1}};
        (void)dt_input(g.net, "wide", DT_DTYPE_F32, s);
        assert_int_equal(dt_net_status(g.net), want);
        dt_net_free(g.net);
    }
    static const char *const bad[] = {"a b",    "a/",   "/a",       ".a",   "a//b",
                                      "a/../b", "a/.b", "\xc3\xa4", "a\nb", "*"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ground g = begin();
        (void)dt_dense(g.v, (dt_dense_options){.channels = 2, .name = bad[i]});
        FAILS(DT_ERR_CONFIG, "name", dt_net_status(g.net));
        dt_net_free(g.net);
    }
}

/* ---- mistakes that nobody noted ---- */

static void mistakes_stick(void **state) {
    (void)state;
    ground g = begin();
    dt_net *gone;
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &gone));
    const dt_var old = dt_input(gone, "x", DT_DTYPE_F32, DT_SHAPE(6)), none = DT_NO_VAR;
    dt_net_free(gone);
    dt_net_free(g.net);
#define STICKS(call) STICKS_AS("no value", call)
#define STICKS_AS(word, call)                                                                                \
    do {                                                                                                     \
        g = begin();                                                                                         \
        dt_loss("value", dt_square(g.v), DT_NO_VAR, (dt_loss_options){0});                                   \
        OK(dt_net_status(g.net));                                                                            \
        (void)(call);                                                                                        \
        FAILS(DT_ERR_USAGE, word, dt_net_status(g.net));                                                     \
        FAILS(DT_ERR_USAGE, word, dt_net_compile(g.net));                                                    \
        dt_net_free(g.net);                                                                                  \
    } while (0)
    STICKS((dt_loss("mse", none, g.v, (dt_loss_options){0}), 0));
    STICKS((dt_loss("mse", g.v, none, (dt_loss_options){0}), 0));
    STICKS((dt_loss("mse", none, none, (dt_loss_options){0}), 0));
    STICKS((dt_loss("value", none, none, (dt_loss_options){0}), 0));
    STICKS((dt_loss("mse", g.v, old, (dt_loss_options){0}), 0));
    STICKS((dt_expose(none, "name"), 0));
    STICKS(dt_relu(none));
    STICKS(dt_relu(old));
    STICKS(dt_dense(none, (dt_dense_options){.channels = 2}));
    STICKS(dt_add(none, g.v));
    STICKS(dt_add(g.v, none));
    STICKS(dt_add(g.v, old));
    STICKS(dt_concat((dt_var[]){g.v, none}, 2, 0));
    STICKS(dt_concat((dt_var[]){none, g.v}, 2, 0));
    STICKS_AS("x is NULL", dt_concat(NULL, 2, 0));
    STICKS_AS("n is 0", dt_concat(&g.v, 0, 0));
    /* Every call on the network tells it. */
    g = begin();
    (void)dt_dense(g.v, (dt_dense_options){.channels = -1});
    dt_tensor *t = normal(run, DT_SHAPE(2, 6), 1), *u = NULL;
    double number;
    FAILS(DT_ERR_CONFIG, "channels", dt_net_set(g.net, "v", t));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_forward(g.net, DT_TRAINING));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_forward(g.net, DT_EVALUATION));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_backward(g.net));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_update(g.net));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_step(g.net));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_output(g.net, "y", &u));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_parameter(g.net, "w", &u));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_gradient(g.net, "w", &u));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_metric(g.net, "loss", &number));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_begin_evaluation(g.net));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_end_evaluation(g.net));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_set_lr(g.net, 1));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_save(g.net, "/tmp/nowhere"));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_load(g.net, "/tmp/nowhere"));
    FAILS(DT_ERR_CONFIG, "channels", dt_net_group(g.net, (dt_group_options){.pattern = "*", .frozen = true}));
    dt_tensor_free(t), dt_net_free(g.net);
    /* What follows from a mistake is that network's, and no other's. */
    g = begin();
    dt_var wrong = dt_dense(g.v, (dt_dense_options){.channels = -1});
    ground sound = begin();
    (void)dt_relu(wrong);
    dt_loss("value", wrong, DT_NO_VAR, (dt_loss_options){0});
    FAILS(DT_ERR_CONFIG, "channels", dt_net_compile(g.net));
    OK(dt_net_status(sound.net));
    dt_net_free(g.net), dt_net_free(sound.net);
}

static int open_run(void **state) {
    (void)state;
    run = open_cpu();
    assert_non_null(mkdtemp(place));
    make_text(place, text_set);
    return 0;
}

static int close_run(void **state) {
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", place);
    dt_run_close(run);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),       cmocka_unit_test(every_number_has_a_row),
        cmocka_unit_test(optimizers),    cmocka_unit_test(every_option_is_there),
        cmocka_unit_test(options_count), cmocka_unit_test(options_of_others),
        cmocka_unit_test(limits),        cmocka_unit_test(mistakes_stick),
    };
    return cmocka_run_group_tests(tests, open_run, close_run);
}
