/* Layers of Keras over sequences [B, T, C]: recurrences and attention. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "keras.h"

/* ---- recurrences ---- */

enum { GATES_MAX = 4, FUNCTIONS_MAX = 3 };

typedef struct recurrence {
    const char *type, *op;
    int32_t gates;
    int32_t gate[GATES_MAX]; /* Keras' number of ONNX's gate */
    int32_t functions;       /* of ONNX; the first is recurrent_activation's where there are several */
    int32_t states;
} recurrence;

static const recurrence recurrences[] = {
    {"LSTM", "LSTM", 4, {0, 3, 1, 2}, 3, 2}, /* i f c o; ONNX: i o f c */
    {"GRU", "GRU", 3, {0, 1, 2}, 2, 1},      /* z r h */
    {"SimpleRNN", "RNN", 1, {0}, 1, 1},
};

static const recurrence *find_recurrence(const char *type) {
    for (size_t i = 0; type && i < sizeof recurrences / sizeof recurrences[0]; i++)
        if (strcmp(type, recurrences[i].type) == 0) return &recurrences[i];
    return NULL;
}

static const char *function_of(dt_keras_call *c, const char *key, const char *otherwise) {
    static const char *const known[][2] = {{"tanh", "Tanh"}, {"sigmoid", "Sigmoid"}, {"relu", "Relu"}};
    const char *name = dt_keras_word(c, key, otherwise);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i][0]) == 0) return known[i][1];
    dt_keras_refuse(c, "%s \"%s\" is not translated", key, name);
    return "";
}

/* [C, gates * H] as [1, gates * H, C], gates in ONNX's order. */
static const char *gate_rows(dt_keras_call *c, const recurrence *r, const char *name, const dt_keras_var *v) {
    const int64_t rows = v->dim[0], width = v->dim[1] / r->gates;
    dt_keras_var to = {.ndim = 3, .dim = {1, v->dim[1], rows}, .n_elem = v->n_elem};
    to.data = dt_onnx_alloc(c->d->m, v->n_elem * (int64_t)sizeof(float));
    for (int32_t g = 0; to.data && g < r->gates; g++)
        for (int64_t k = 0; k < width; k++)
            for (int64_t i = 0; i < rows; i++)
                to.data[(g * width + k) * rows + i] = v->data[i * v->dim[1] + r->gate[g] * width + k];
    return to.data ? dt_keras_constant(c, name, &to) : "";
}

/* Input and recurrent biases [1, 2 * gates * H]; Keras has the second only in a GRU that resets after the product. */
static const char *gate_biases(dt_keras_call *c, const recurrence *r, const char *name, const dt_keras_var *v,
                               int64_t width) {
    const int64_t half = r->gates * width;
    dt_keras_var to = {.ndim = 2, .dim = {1, 2 * half}, .n_elem = 2 * half};
    if (v->n_elem != half && v->n_elem != 2 * half) {
        dt_keras_refuse(c, "its bias has %lld numbers", (long long)v->n_elem);
        return "";
    }
    to.data = dt_onnx_alloc(c->d->m, 2 * half * (int64_t)sizeof(float));
    for (int64_t part = 0; to.data && part < v->n_elem / half; part++)
        for (int32_t g = 0; g < r->gates; g++)
            memcpy(to.data + part * half + g * width, v->data + part * half + r->gate[g] * width,
                   (size_t)width * sizeof(float));
    return to.data ? dt_keras_constant(c, name, &to) : "";
}

/* One direction. what: "", or "forward" and "backward" in a wrapper. Results [B, T, H] or [B, H], and states [B, H]. */
static void run_direction(dt_keras_call *c, const recurrence *r, const char *what, bool reverse,
                          bool sequences, const char *state[2], const char *out[3]) {
    const bool wrapped = what[0] != 0, forward = strcmp(what, "forward") == 0;
    const char *part = !wrapped ? "cell" : forward ? "forward_layer/cell" : "backward_layer/cell";
    const char *within = !wrapped ? NULL : forward ? "forward_" : "backward_";
    const bool biased = dt_keras_flag(c, "use_bias", true), after = dt_keras_flag(c, "reset_after", true);
    const bool gru = r->gates == 3;
    dt_keras_var kernel, recurrent, bias = {.data = NULL};
    if (!dt_keras_read_var(c, &(dt_keras_var_name){"kernel", 0, part, within}, 2, &kernel) ||
        !dt_keras_read_var(c, &(dt_keras_var_name){"recurrent_kernel", 1, part, within}, 2, &recurrent) ||
        (biased &&
         !dt_keras_read_var(c, &(dt_keras_var_name){"bias", 2, part, within}, gru && after ? 2 : 1, &bias)))
        return;
    const int64_t width = recurrent.dim[0];
    if (recurrent.dim[1] != r->gates * width || kernel.dim[1] != r->gates * width) {
        dt_keras_refuse(c, "its kernels do not fit each other");
        return;
    }
    const char *const name[3] = {wrapped ? forward ? "forward/kernel" : "backward/kernel" : "kernel",
                                 wrapped ? forward ? "forward/recurrent_kernel" : "backward/recurrent_kernel"
                                         : "recurrent_kernel",
                                 wrapped ? forward ? "forward/bias" : "backward/bias" : "bias"};
    const char *in[7] = {NULL,
                         gate_rows(c, r, name[0], &kernel),
                         gate_rows(c, r, name[1], &recurrent),
                         biased ? gate_biases(c, r, name[2], &bias, width) : "",
                         "",
                         "",
                         ""};
    const char *first = dt_onnx_draft_i64s(c->d, 1, &(int64_t){0}),
               *second = dt_onnx_draft_i64s(c->d, 1, &(int64_t){1});
    in[0] = dt_keras_turn(c, c->in[0].name, 3, (const int64_t[]){1, 0, 2});
    for (int32_t i = 0; i < r->states && state[i]; i++)
        in[5 + i] = dt_keras_op(c, "Unsqueeze", DT_ONNX_IN(state[i], first), DT_ONNX_PLAIN);
    const char *function[FUNCTIONS_MAX] = {
        r->functions > 1 ? function_of(c, "recurrent_activation", "sigmoid")
                         : function_of(c, "activation", "tanh"),
        function_of(c, "activation", "tanh"), function_of(c, "activation", "tanh")};
    const dt_onnx_attr attr[] = {
        dt_onnx_int("hidden_size", width),
        dt_onnx_word("direction", reverse ? "reverse" : "forward"),
        dt_onnx_words("activations", r->functions, function),
        {.name = gru ? "linear_before_reset" : NULL, .kind = DT_ONNX_INT, .n = 1, .i = after}};
    const char *result[3] = {"", "", ""};
    for (int32_t i = 0; i <= r->states && c->d->status == DT_OK; i++)
        result[i] = dt_onnx_text(c->d->m, "%s/%s_%lld", c->scope, r->op, (long long)c->d->n_named++);
    if (c->d->status != DT_OK || !result[0] || !result[1] || !result[2]) return;
    dt_onnx_draft_node(c->d, r->op, "", in, 5 + r->states, result, 1 + r->states, attr, 4);
    for (int32_t i = 0; i < r->states; i++)
        out[1 + i] = dt_keras_op(c, "Squeeze", DT_ONNX_IN(result[1 + i], first), DT_ONNX_PLAIN);
    out[0] = out[1];
    if (!sequences) return;
    const char *y = dt_keras_op(c, "Squeeze", DT_ONNX_IN(result[0], second), DT_ONNX_PLAIN); /* [T, B, H] */
    out[0] = dt_keras_turn(c, y, 3, (const int64_t[]){1, 0, 2});
}

static void make_recurrent(dt_keras_call *c) {
    const recurrence *r = find_recurrence(c->type);
    const bool sequences = dt_keras_flag(c, "return_sequences", false),
               back = dt_keras_flag(c, "go_backwards", false);
    const char *state[2] = {c->n_in > 1 ? c->in[1].name : NULL, c->n_in > 2 ? c->in[2].name : NULL};
    const char *out[3] = {"", "", ""};
    if (dt_keras_flag(c, "stateful", false)) dt_keras_refuse(c, "stateful is not translated");
    if (back && sequences) dt_keras_refuse(c, "go_backwards with return_sequences is not translated");
    run_direction(c, r, "", back, sequences, state, out);
    dt_keras_result(c, out[0], sequences ? 3 : 2);
    for (int32_t i = 0; i < r->states && dt_keras_flag(c, "return_state", false); i++)
        c->out[c->n_out++] = (dt_keras_value){.name = out[1 + i], .ndim = 2};
}

static void make_bidirectional(dt_keras_call *c) {
    const json_t *inner = json_object_get(c->config, "layer"),
                 *other = json_object_get(c->config, "backward_layer");
    const char *merge = dt_keras_word(c, "merge_mode", "");
    const recurrence *r = find_recurrence(json_string_value(json_object_get(inner, "class_name")));
    const char *none[2] = {NULL, NULL}, *there[3] = {"", "", ""}, *back[3] = {"", "", ""};
    dt_keras_call one = *c;
    one.config = json_object_get(inner, "config");
    if (!r) {
        dt_keras_refuse(c, "of a layer other than LSTM, GRU and SimpleRNN");
        return;
    }
    const bool sequences = dt_keras_flag(&one, "return_sequences", false);
    if (dt_keras_flag(&one, "return_state", false) || c->n_in > 1)
        dt_keras_refuse(c, "states are not translated");
    run_direction(&one, r, "forward", false, sequences, none, there);
    if (json_is_object(other)) one.config = json_object_get(other, "config");
    run_direction(&one, r, "backward", true, sequences, none, back);
    const char *const in[] = {there[0], back[0]};
    const int32_t ndim = sequences ? 3 : 2;
    if (strcmp(merge, "concat") == 0) {
        dt_keras_result(c, dt_keras_op(c, "Concat", in, 2, DT_ONNX_ATTR(dt_onnx_int("axis", ndim - 1))),
                        ndim);
    } else if (strcmp(merge, "sum") == 0 || strcmp(merge, "mul") == 0 || strcmp(merge, "ave") == 0) {
        const char *y = dt_keras_op(c, merge[0] == 'm' ? "Mul" : "Add", in, 2, DT_ONNX_PLAIN);
        if (merge[0] == 'a') {
            const char *half = dt_onnx_draft_f32(c->d, 0.5f);
            y = dt_keras_op(c, "Mul", DT_ONNX_IN(y, half), DT_ONNX_PLAIN);
        }
        dt_keras_result(c, y, ndim);
    } else {
        dt_keras_refuse(c, "merge_mode \"%s\" is not translated", merge);
    }
}

/* A layer for each place: of those that take each row of the last dimension by itself anyway. */
static void make_time_distributed(dt_keras_call *c) {
    static const char *const rows[] = {"Dense", "Activation", "Dropout", "ReLU", "LayerNormalization"};
    const json_t *inner = json_object_get(c->config, "layer");
    const char *type = json_string_value(json_object_get(inner, "class_name"));
    dt_keras_call one = *c;
    char folder[512];
    snprintf(folder, sizeof folder, "%s/layer", c->folder);
    one.config = json_object_get(inner, "config"), one.folder = folder;
    for (size_t i = 0; type && i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(type, rows[i]) == 0) {
            one.type = type;
            dt_keras_layer_find(type)->make(&one);
            dt_keras_result(c, one.out[0].name, one.out[0].ndim);
            return;
        }
    dt_keras_refuse(c, "of a layer \"%s\" is not translated", type ? type : "");
}

/* ---- attention ---- */

typedef struct projection {
    const char *part, *within, *kernel, *bias; /* of the layer's variables; names of the constants */
} projection;

/* x of [B, T, D] times a kernel [D, heads, K] as [B, T, heads, K] in the order `perm`. */
static const char *heads_of(dt_keras_call *c, const projection *p, const char *x, const int64_t *perm) {
    dt_keras_var v;
    if (!dt_keras_read_var(c, &(dt_keras_var_name){"kernel", 0, p->part, p->within}, 3, &v)) return "";
    const int64_t shape[4] = {0, 0, v.dim[1], v.dim[2]};
    v.ndim = 2, v.dim[1] *= v.dim[2];
    const char *y =
        dt_keras_op(c, "MatMul", DT_ONNX_IN(x, dt_keras_constant(c, p->kernel, &v)), DT_ONNX_PLAIN);
    if (dt_keras_flag(c, "use_bias", true)) {
        if (!dt_keras_read_var(c, &(dt_keras_var_name){"bias", 1, p->part, p->within}, 2, &v)) return "";
        v.ndim = 1, v.dim[0] = v.n_elem;
        y = dt_keras_op(c, "Add", DT_ONNX_IN(y, dt_keras_constant(c, p->bias, &v)), DT_ONNX_PLAIN);
    }
    const char *to = dt_onnx_draft_i64s(c->d, 4, shape);
    return dt_keras_turn(c, dt_keras_op(c, "Reshape", DT_ONNX_IN(y, to), DT_ONNX_PLAIN), 4, perm);
}

static void make_attention(dt_keras_call *c) {
    static const projection q = {"query_dense", "query", "query/kernel", "query/bias"},
                            k = {"key_dense", "key", "key/kernel", "key/bias"},
                            v = {"value_dense", "value", "value/kernel", "value/bias"};
    static const char *const no[] = {"use_gate", "sliding_window", "flash_attention"};
    const json_t *axes = json_object_get(c->config, "attention_axes");
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        const json_t *set = json_object_get(c->config, no[i]);
        if (set && !json_is_null(set) && !json_is_false(set))
            dt_keras_refuse(c, "%s is not translated", no[i]);
    }
    if (json_is_true(json_object_get(c->arg, "use_causal_mask")) ||
        json_is_true(json_object_get(c->arg, "return_attention_scores")))
        dt_keras_refuse(c, "use_causal_mask and return_attention_scores are not translated");
    if (json_is_array(axes) &&
        (json_array_size(axes) != 1 || json_integer_value(json_array_get(axes, 0)) != 1))
        dt_keras_refuse(c, "attention_axes are not [1]");
    if (c->n_in < 2 || c->n_in > 3) {
        dt_keras_refuse(c, "of %d values, not query, value and key", c->n_in);
        return;
    }
    const char *query = heads_of(c, &q, c->in[0].name, (const int64_t[]){0, 2, 1, 3});
    const char *key = heads_of(c, &k, c->in[c->n_in - 1].name, (const int64_t[]){0, 2, 3, 1});
    const char *value = heads_of(c, &v, c->in[1].name, (const int64_t[]){0, 2, 1, 3});
    const int64_t head = dt_keras_int(c, "key_dim", 1);
    const char *scale = dt_onnx_draft_f32(c->d, 1 / sqrtf((float)(head > 0 ? head : 1)));
    query = dt_keras_op(c, "Mul", DT_ONNX_IN(query, scale), DT_ONNX_PLAIN);
    const char *score = dt_keras_op(c, "MatMul", DT_ONNX_IN(query, key), DT_ONNX_PLAIN);
    score = dt_keras_op(c, "Softmax", DT_ONNX_IN(score), DT_ONNX_ATTR(dt_onnx_int("axis", -1)));
    const char *y = dt_keras_op(c, "MatMul", DT_ONNX_IN(score, value), DT_ONNX_PLAIN);
    y = dt_keras_turn(c, y, 4, (const int64_t[]){0, 2, 1, 3});
    dt_keras_var out; /* [heads, K, D] */
    if (!dt_keras_read_var(c, &(dt_keras_var_name){"kernel", 0, "output_dense", "attention_output"}, 3, &out))
        return;
    out.ndim = 2, out.dim[0] *= out.dim[1], out.dim[1] = out.dim[2];
    const char *flat = dt_onnx_draft_i64s(c->d, 3, (const int64_t[]){0, 0, out.dim[0]});
    y = dt_keras_op(c, "Reshape", DT_ONNX_IN(y, flat), DT_ONNX_PLAIN);
    y = dt_keras_op(c, "MatMul", DT_ONNX_IN(y, dt_keras_constant(c, "output/kernel", &out)), DT_ONNX_PLAIN);
    if (dt_keras_flag(c, "use_bias", true)) {
        if (!dt_keras_read_var(c, &(dt_keras_var_name){"bias", 1, "output_dense", "attention_output"}, 1,
                               &out))
            return;
        y = dt_keras_op(c, "Add", DT_ONNX_IN(y, dt_keras_constant(c, "output/bias", &out)), DT_ONNX_PLAIN);
    }
    dt_keras_result(c, y, 3);
}

const dt_keras_layer dt_keras_sequence_layers[] = {
    {"LSTM", 3, make_recurrent},
    {"GRU", 3, make_recurrent},
    {"SimpleRNN", 3, make_recurrent},
    {"Bidirectional", 3, make_bidirectional},
    {"TimeDistributed", 0, make_time_distributed},
    {"MultiHeadAttention", 3, make_attention},
    {.type = NULL},
};
