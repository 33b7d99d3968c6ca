/* Models of Keras: a configuration in JSON, which says what is called with what, and variables in HDF5. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keras.h"

#include "formats/zip_stored.h"
#include "tensorflow/tensorflow.h"

enum { DEPTH_MAX = 16, NAME_BYTES = 512 };

const dt_keras_layer *dt_keras_layer_find(const char *type) {
    const dt_keras_layer *const lists[] = {dt_keras_layers, dt_keras_sequence_layers};
    for (size_t k = 0; k < sizeof lists / sizeof lists[0]; k++)
        for (const dt_keras_layer *l = lists[k]; l->type; l++)
            if (strcmp(l->type, type) == 0) return l;
    return NULL;
}

static const char *word(const json_t *object, const char *key) {
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static bool is_model(const char *type) {
    return strcmp(type, "Functional") == 0 || strcmp(type, "Sequential") == 0 || strcmp(type, "Model") == 0;
}

/* Keras 2 has the name in the configuration alone. */
static const char *layer_name(const json_t *layer) {
    const char *name = word(layer, "name");
    return name[0] ? name : word(json_object_get(layer, "config"), "name");
}

/* ---- a model ---- */

typedef struct place {
    const char *layer;
    int64_t node, tensor;
    dt_keras_value value;
} place;

typedef struct reader {
    dt_onnx_draft d;
    dt_keras_weights w;
} reader;

/* A model among its layers: the outermost, or one that another has as a layer. */
typedef struct model {
    reader *r;
    const json_t *config, *layers;
    const char *scope, *folder, *top; /* as in dt_keras_call; "" for the outermost */
    int32_t depth;
    int64_t n_place, cap_place;
    place *place;
} model;

static bool dead(const model *m) {
    return m->r->d.status != DT_OK;
}

static void no_memory(model *m) {
    if (!dead(m)) m->r->d.status = dt_fail(DT_ERR_MEMORY, "no memory for a model");
}

static void put_place(model *m, const char *layer, int64_t node, int64_t tensor, dt_keras_value value) {
    if (m->n_place == m->cap_place) {
        const int64_t cap = m->cap_place ? 2 * m->cap_place : 64;
        place *grown = realloc(m->place, (size_t)cap * sizeof *grown);
        if (!grown) {
            no_memory(m);
            return;
        }
        m->place = grown, m->cap_place = cap;
    }
    m->place[m->n_place++] = (place){layer, node, tensor, value};
}

/* ["layer", node, tensor]. Keras 2 counts the calls of a model from 1 on. */
static const dt_keras_value *find_place(const model *m, const json_t *history) {
    const char *layer = json_string_value(json_array_get(history, 0));
    const int64_t node = json_integer_value(json_array_get(history, 1)),
                  tensor = json_integer_value(json_array_get(history, 2));
    const place *only = NULL;
    int64_t calls = 0;
    for (int64_t i = 0; layer && i < m->n_place; i++) {
        const place *p = &m->place[i];
        if (strcmp(p->layer, layer) != 0 || p->tensor != tensor) continue;
        if (p->node == node) return &p->value;
        only = p, calls++;
    }
    return calls == 1 && node == 1 ? &only->value : NULL;
}

static bool translate(model *m, int32_t n_in, const dt_keras_value *in, int32_t *n_out, dt_keras_value *out);

/* ---- layers ---- */

/* The name that an archive gives a class, as Keras' to_snake_case. */
static void snake_case(const char *class, char *out, size_t size) {
    char first[NAME_BYTES];
    size_t n = 0;
    for (const char *p = class; *p && n + 2 < sizeof first; p++) { /* (.)([A-Z][a-z]+) as \1_\2 */
        first[n++] = *p;
        if (p[1] >= 'A' && p[1] <= 'Z' && p[2] >= 'a' && p[2] <= 'z') {
            first[n++] = '_';
            for (first[n++] = *++p; p[1] >= 'a' && p[1] <= 'z' && n + 2 < sizeof first;) first[n++] = *++p;
        }
    }
    first[n] = 0;
    size_t k = 0;
    for (size_t i = 0; i < n && k + 2 < size; i++) { /* ([a-z])([A-Z]) the same way */
        const bool upper = first[i] >= 'A' && first[i] <= 'Z';
        if (i > 0 && upper && first[i - 1] >= 'a' && first[i - 1] <= 'z') out[k++] = '_';
        out[k++] = (char)(upper ? first[i] - 'A' + 'a' : first[i]);
    }
    out[k] = 0;
}

/* The folder of layer `index`: its class, and how many of them came before it. */
static void folder_of(const model *m, size_t index, char *out, size_t size) {
    char name[NAME_BYTES], other[NAME_BYTES];
    int count = 0;
    snake_case(word(json_array_get(m->layers, index), "class_name"), name, sizeof name);
    for (size_t i = 0; i < index; i++) {
        snake_case(word(json_array_get(m->layers, i), "class_name"), other, sizeof other);
        count += strcmp(name, other) == 0;
    }
    const char *slash = m->folder[0] ? "/" : "";
    if (count == 0)
        snprintf(out, size, "%s%slayers/%s", m->folder, slash, name);
    else
        snprintf(out, size, "%s%slayers/%s_%d", m->folder, slash, name, count);
}

/* One call of a layer. */
static void call_layer(model *m, size_t index, const json_t *arg, int64_t node, int32_t n_in,
                       const dt_keras_value *in) {
    const json_t *layer = json_array_get(m->layers, index);
    const char *name = layer_name(layer), *type = word(layer, "class_name");
    char scope[NAME_BYTES], folder[NAME_BYTES];
    snprintf(scope, sizeof scope, "%s%s%s", m->scope, m->scope[0] ? "/" : "", name);
    folder_of(m, index, folder, sizeof folder);
    dt_keras_call c = {.d = &m->r->d,
                       .w = &m->r->w,
                       .type = type,
                       .name = name,
                       .scope = scope,
                       .folder = folder,
                       .top = m->top[0] ? m->top : name,
                       .config = json_object_get(layer, "config"),
                       .arg = arg,
                       .n_in = n_in};
    if (n_in > 0) memcpy(c.in, in, (size_t)n_in * sizeof *in);
    if (is_model(type)) {
        model inner = {.r = m->r,
                       .config = c.config,
                       .scope = scope,
                       .folder = folder,
                       .top = c.top,
                       .depth = m->depth + 1};
        if (!translate(&inner, n_in, in, &c.n_out, c.out) && !dead(m)) dt_keras_refuse(&c, "it is no model");
    } else {
        const dt_keras_layer *row = dt_keras_layer_find(type);
        if (row->ndim && in[0].ndim != row->ndim)
            dt_keras_refuse(&c, "its input has %d dimensions, not %d", in[0].ndim, row->ndim);
        const json_t *quantized = json_object_get(c.config, "quantization_config");
        if (quantized && !json_is_null(quantized))
            dt_keras_refuse(&c, "it is quantized, which is not translated");
        if (!dead(m)) row->make(&c);
    }
    for (int32_t i = 0; i < c.n_out; i++) put_place(m, name, node, i, c.out[i]);
}

/* ---- what is called with what ---- */

/* Values found so far; one that is not there yet makes them incomplete. */
typedef struct operands {
    const model *m;
    int32_t n;
    bool missing, strange;
    dt_keras_value v[DT_KERAS_VALUES]; /* without a name: a number */
    double number[DT_KERAS_VALUES];
} operands;

static void add_value(operands *o, dt_keras_value v, double number) {
    if (o->n == DT_KERAS_VALUES) {
        o->strange = true;
        return;
    }
    o->number[o->n] = number;
    o->v[o->n++] = v;
}

static void add_operand(operands *o, const json_t *history) {
    const dt_keras_value *v = find_place(o->m, history);
    if (v)
        add_value(o, *v, 0);
    else
        o->missing = true;
}

/* Keras 3: tensors anywhere in lists of arguments. */
static void add_tensors(operands *o, const json_t *arg, int32_t depth) {
    size_t i;
    json_t *one;
    if (json_is_object(arg) && strcmp(word(arg, "class_name"), "__keras_tensor__") == 0)
        add_operand(o, json_object_get(json_object_get(arg, "config"), "keras_history"));
    else if (json_is_array(arg) && depth < DEPTH_MAX)
        json_array_foreach(arg, i, one) add_tensors(o, one, depth + 1);
    else if (json_is_number(arg)) /* an operator was applied to a tensor */
        add_value(o, (dt_keras_value){.name = NULL}, json_number_value(arg));
    else if (!json_is_null(arg))
        o->strange = true;
}

static void read_call(operands *o, const json_t *call, const json_t **by_name) {
    static const char *const named[] = {"inputs", "query", "value", "key", "initial_state"};
    *by_name = NULL;
    if (json_is_object(call)) {
        *by_name = json_object_get(call, "kwargs");
        add_tensors(o, json_object_get(call, "args"), 0);
        for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
            const json_t *arg = json_object_get(*by_name, named[i]);
            if (arg && !json_is_null(arg)) add_tensors(o, arg, 0);
        }
        const json_t *mask = json_object_get(*by_name, "mask");
        if (mask && !json_is_null(mask)) o->strange = true;
        return;
    }
    size_t i;
    json_t *one;
    json_array_foreach(call, i, one) { /* Keras 2: [["layer", node, tensor, {arguments}], ...] */
        const json_t *arg = json_array_get(one, 3);
        add_operand(o, one);
        if (json_object_size(arg) > 0) *by_name = arg;
        for (size_t k = 0; k < sizeof named / sizeof named[0]; k++) {
            const json_t *more = json_object_get(arg, named[k]);
            if (json_is_array(more) && json_is_string(json_array_get(more, 0))) add_operand(o, more);
        }
    }
    if (json_is_string(json_array_get(call, 0))) o->strange = true;
}

static const json_t *calls_of(const json_t *layer) {
    return json_object_get(layer, "inbound_nodes");
}

/* Calls in the order in which their operands are there; a layer may be called several times. */
static bool call_all(model *m) {
    const size_t n = json_array_size(m->layers);
    size_t *done = calloc(n + 1, sizeof *done), left = 0;
    bool moved = true;
    if (!done) {
        no_memory(m);
        return false;
    }
    for (size_t i = 0; i < n; i++) left += json_array_size(calls_of(json_array_get(m->layers, i)));
    while (moved && left > 0 && !dead(m)) {
        moved = false;
        for (size_t i = 0; i < n && !dead(m); i++) {
            const json_t *layer = json_array_get(m->layers, i), *calls = calls_of(layer);
            while (done[i] < json_array_size(calls) && !dead(m)) {
                operands o = {.m = m};
                const json_t *arg;
                read_call(&o, json_array_get(calls, done[i]), &arg);
                if (o.strange || (o.n == 0 && !o.missing))
                    dt_onnx_draft_fail(&m->r->d,
                                       "layer \"%s\" (%s) is called with something else than values",
                                       layer_name(layer), word(layer, "class_name"));
                if (o.missing || dead(m)) break;
                for (int32_t k = 0; k < o.n; k++)
                    if (!o.v[k].name) o.v[k].name = dt_onnx_draft_f32(&m->r->d, (float)o.number[k]);
                call_layer(m, i, arg, (int64_t)done[i]++, o.n, o.v);
                left--, moved = true;
            }
        }
    }
    free(done);
    if (left > 0 && !dead(m))
        dt_onnx_draft_fail(&m->r->d, "some layers are called with values that no layer makes");
    return !dead(m);
}

/* Places of a list [["layer", node, tensor], ...], or of one that stands alone. */
static size_t n_places(const json_t *list) {
    return json_is_string(json_array_get(list, 0)) ? 1 : json_array_size(list);
}

static const json_t *nth_place(const json_t *list, size_t i) {
    return json_is_string(json_array_get(list, 0)) ? list : json_array_get(list, i);
}

static bool functional(model *m, int32_t n_in, const dt_keras_value *in, int32_t *n_out,
                       dt_keras_value *out) {
    const json_t *inputs = json_object_get(m->config, "input_layers"),
                 *outputs = json_object_get(m->config, "output_layers");
    const size_t n_result = n_places(outputs);
    if (n_places(inputs) != (size_t)n_in || n_result == 0 || n_result > DT_KERAS_VALUES) return false;
    for (int32_t i = 0; i < n_in; i++) {
        const char *name = json_string_value(json_array_get(nth_place(inputs, (size_t)i), 0));
        if (!name) return false;
        put_place(m, name, 0, 0, in[i]);
    }
    if (!call_all(m)) return false;
    for (size_t i = 0; i < n_result; i++) {
        const dt_keras_value *v = find_place(m, nth_place(outputs, i));
        if (!v) return false;
        out[i] = *v;
    }
    *n_out = (int32_t)n_result;
    return true;
}

static bool sequential(model *m, int32_t n_in, const dt_keras_value *in, int32_t *n_out,
                       dt_keras_value *out) {
    dt_keras_value v = in[0];
    if (n_in != 1) return false;
    for (size_t i = 0; i < json_array_size(m->layers) && !dead(m); i++) {
        const json_t *layer = json_array_get(m->layers, i);
        if (strcmp(word(layer, "class_name"), "InputLayer") == 0) continue;
        const int64_t from = m->n_place;
        call_layer(m, i, NULL, 0, 1, &v);
        if (m->n_place == from) return false;
        v = m->place[from].value;
    }
    *n_out = 1;
    out[0] = v;
    return !dead(m);
}

static bool translate(model *m, int32_t n_in, const dt_keras_value *in, int32_t *n_out, dt_keras_value *out) {
    m->layers = json_object_get(m->config, "layers");
    const bool whole = json_object_get(m->config, "input_layers") != NULL;
    if (!json_is_array(m->layers) || n_in < 1 || m->depth > DEPTH_MAX) return false;
    const bool done = whole ? functional(m, n_in, in, n_out, out) : sequential(m, n_in, in, n_out, out);
    free(m->place);
    m->place = NULL;
    return done;
}

/* Names all layers that have no row, inner models' too. */
static void list_strange(const json_t *config, char *list, size_t size, int32_t depth) {
    const json_t *layers = json_object_get(config, "layers");
    size_t i;
    json_t *layer;
    if (depth > DEPTH_MAX) return;
    json_array_foreach(layers, i, layer) {
        const char *type = word(layer, "class_name");
        const size_t n = strlen(list);
        if (is_model(type))
            list_strange(json_object_get(layer, "config"), list, size, depth + 1);
        else if (strcmp(type, "InputLayer") != 0 && !dt_keras_layer_find(type))
            snprintf(list + n, size - n, "%s%s (\"%s\")", n ? ", " : "", type, layer_name(layer));
    }
}

/* ---- inputs and outputs of the whole ---- */

static dt_tensor_type type_of(const char *dtype) {
    static const struct {
        const char *name;
        dt_tensor_type type;
    } row[] = {{"int32", DT_TENSOR_I32},
               {"int64", DT_TENSOR_I64},
               {"uint8", DT_TENSOR_U8},
               {"bool", DT_TENSOR_BOOL}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (strcmp(row[i].name, dtype) == 0) return row[i].type;
    return DT_TENSOR_F32;
}

/* The input's shape where a configuration may have it. */
static const json_t *shape_of(const json_t *layer) {
    static const char *const key[] = {"batch_shape", "batch_input_shape"};
    const json_t *config = json_object_get(layer, "config");
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++) {
        const json_t *shape = json_object_get(config, key[i]);
        if (json_is_array(shape)) return shape;
    }
    return json_object_get(json_object_get(layer, "build_config"), "input_shape");
}

static dt_keras_value add_input(reader *r, const json_t *layer) {
    const json_t *shape = shape_of(layer);
    const char *name = layer_name(layer);
    dt_onnx_value_info v = {.name = name, .ndim = (int32_t)json_array_size(shape)};
    v.type = type_of(word(json_object_get(layer, "config"), "dtype"));
    if (!json_is_array(shape) || v.ndim < 1 || v.ndim > DT_MAX_DIM) {
        dt_onnx_draft_fail(&r->d, "input \"%s\": its shape is not told", name);
        return (dt_keras_value){.name = ""};
    }
    for (int32_t i = 0; i < v.ndim; i++) {
        const json_t *side = json_array_get(shape, (size_t)i);
        v.dim[i] = json_is_integer(side) && json_integer_value(side) > 0 ? json_integer_value(side) : -1;
    }
    v.dim_name[0] = v.dim[0] < 0 ? "N" : NULL;
    dt_onnx_draft_input(&r->d, &v);
    return (dt_keras_value){.name = r->d.status == DT_OK ? r->d.m->graph.in[r->d.m->graph.n_in - 1].name : "",
                            .ndim = v.ndim,
                            .index = v.type == DT_TENSOR_I32 || v.type == DT_TENSOR_I64};
}

static const json_t *find_layer(const json_t *layers, const char *name) {
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer) if (strcmp(layer_name(layer), name) == 0) return layer;
    return NULL;
}

static dt_status translate_whole(reader *r, const json_t *config) {
    model m = {.r = r, .config = config, .scope = "", .folder = "", .top = ""};
    const json_t *layers = json_object_get(config, "layers"),
                 *inputs = json_object_get(config, "input_layers");
    dt_keras_value in[DT_KERAS_VALUES], out[DT_KERAS_VALUES];
    const size_t n_in = inputs ? n_places(inputs) : 1;
    int32_t n_out = 0;
    char strange[1024] = "";
    list_strange(config, strange, sizeof strange, 0);
    if (strange[0]) return dt_fail(DT_ERR_DATA, "layers that are not translated: %s", strange);
    if (json_array_size(layers) == 0 || n_in == 0 || n_in > DT_KERAS_VALUES)
        return dt_fail(DT_ERR_DATA, "its configuration is of no model with layers and inputs");
    for (size_t i = 0; i < n_in; i++) {
        const char *name = json_string_value(json_array_get(nth_place(inputs, i), 0));
        const json_t *layer = inputs ? find_layer(layers, name ? name : "") : json_array_get(layers, 0);
        in[i] = add_input(r, layer);
    }
    if (r->d.status == DT_OK && !translate(&m, (int32_t)n_in, in, &n_out, out) && r->d.status == DT_OK)
        dt_onnx_draft_fail(&r->d, "its inputs and outputs are not among its layers");
    const json_t *outputs = json_object_get(config, "output_layers");
    for (int32_t i = 0; i < n_out && r->d.status == DT_OK; i++) {
        char name[NAME_BYTES];
        const char *layer =
            outputs ? json_string_value(json_array_get(nth_place(outputs, (size_t)i), 0)) : "output";
        if (n_out == 1)
            snprintf(name, sizeof name, "%s", layer);
        else
            snprintf(name, sizeof name, "%s:%d", layer, i);
        for (int32_t k = 0; k < r->d.m->graph.n_in; k++)
            if (strcmp(r->d.m->graph.in[k].name, name) == 0)
                snprintf(name, sizeof name, "%s:out%d", layer, i);
        dt_onnx_value_info v = {.type = DT_TENSOR_F32, .ndim = out[i].ndim};
        for (int32_t k = 0; k < v.ndim; k++) v.dim[k] = -1;
        v.name = dt_onnx_draft_op(&r->d, "Identity", name, DT_ONNX_IN(out[i].name), DT_ONNX_PLAIN);
        dt_onnx_draft_output(&r->d, &v);
    }
    return r->d.status;
}

/* ---- files ---- */

static dt_status read_model(const char *config_text, size_t n_bytes, dt_h5 *h, bool by_name,
                            dt_onnx_model **out) {
    enum { OPSET = 20 };
    json_error_t error;
    json_t *root = json_loadb(config_text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return dt_fail(DT_ERR_DATA, "its configuration is no JSON: line %d: %s", error.line, error.text);
    reader r = {.d = {.status = DT_OK}};
    const char *type = word(root, "class_name");
    dt_status st = dt_onnx_draft_create(OPSET, &r.d);
    if (st == DT_OK && !is_model(type))
        st = dt_fail(DT_ERR_DATA, "its class is \"%s\", not Functional or Sequential", type);
    if (st == DT_OK) st = dt_keras_weights_open(h, by_name, &r.w);
    if (st == DT_OK) st = translate_whole(&r, json_object_get(root, "config"));
    dt_keras_weights_close(&r.w);
    json_decref(root);
    if (st != DT_OK && r.d.status == DT_OK) r.d.status = st;
    DT_TRY(dt_onnx_draft_end(&r.d, out));
    return DT_OK;
}

static const uint8_t zip_magic[] = {'P', 'K', 3, 4},
                     h5_magic[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

static bool begins(const dt_mapped_file *f, const uint8_t *magic, size_t n) {
    return f->n_bytes >= (int64_t)n && memcmp(f->byte, magic, n) == 0;
}

static const dt_zip_stored *member(int64_t n, const dt_zip_stored *all, const char *name) {
    const dt_zip_stored *m = dt_zip_stored_find(n, all, name, strlen(name));
    return m && !m->packed ? m : NULL;
}

static dt_status read_archive(const dt_mapped_file *f, dt_onnx_model **out) {
    dt_zip_stored *all;
    int64_t n;
    dt_h5 *h = NULL;
    dt_status st = dt_zip_stored_list(f, &n, &all);
    const dt_zip_stored *config = st == DT_OK ? member(n, all, "config.json") : NULL,
                        *weights = st == DT_OK ? member(n, all, "model.weights.h5") : NULL;
    if (st == DT_OK && (!config || !weights))
        st = dt_fail(DT_ERR_DATA, "an archive without config.json and model.weights.h5, stored as they are");
    if (st == DT_OK) st = dt_h5_open_bytes("model.weights.h5", weights->data, weights->n_bytes, &h);
    if (st == DT_OK) st = read_model((const char *)config->data, (size_t)config->n_bytes, h, false, out);
    free(all);
    if (h && dt_h5_close(h) != DT_OK && st == DT_OK) {
        dt_onnx_model_free(*out);
        *out = NULL;
        return DT_ERR_DATA;
    }
    return st;
}

static dt_status read_h5(const char *path, dt_onnx_model **out) {
    char *config = NULL;
    dt_h5 *h;
    DT_TRY(dt_h5_open(path, &h));
    dt_status st = dt_h5_attr_get_str(h, "model_config", &config);
    if (st == DT_OK) st = read_model(config, strlen(config), h, true, out);
    free(config);
    if (dt_h5_close(h) != DT_OK && st == DT_OK) {
        dt_onnx_model_free(*out);
        *out = NULL;
        return DT_ERR_DATA;
    }
    return st;
}

/* An HDF5 file may be anything else. */
static bool is_keras_h5(const char *path) {
    dt_h5 *h;
    bool has = false;
    if (dt_h5_open(path, &h) != DT_OK) return false;
    if (dt_h5_attr_has(h, "model_config", &has) != DT_OK) has = false;
    return dt_h5_close(h) == DT_OK && has;
}

static bool is_archive(const dt_mapped_file *f) {
    dt_zip_stored *all = NULL;
    int64_t n = 0;
    if (!begins(f, zip_magic, sizeof zip_magic)) return false;
    const bool is = dt_zip_stored_list(f, &n, &all) == DT_OK && member(n, all, "config.json");
    free(all);
    return is;
}

bool dt_keras_knows(const char *path) {
    dt_mapped_file f = {.byte = NULL};
    if (dt_file_map(path, &f) != DT_OK) return false;
    const bool h5 = begins(&f, h5_magic, sizeof h5_magic), archive = is_archive(&f);
    dt_file_unmap(&f);
    return archive || (h5 && is_keras_h5(path));
}

dt_status dt_keras_read(const char *path, dt_onnx_model **out) {
    dt_mapped_file f = {.byte = NULL};
    *out = NULL;
    dt_status st = dt_file_map(path, &f);
    const bool h5 = st == DT_OK && begins(&f, h5_magic, sizeof h5_magic);
    if (st == DT_OK && !h5) st = read_archive(&f, out);
    if (dt_file_check(&f) != DT_OK) {
        dt_onnx_model_free(*out);
        *out = NULL;
        st = DT_ERR_DATA;
    }
    dt_file_unmap(&f);
    if (st == DT_OK && h5) st = read_h5(path, out);
    if (st != DT_OK && !strstr(dt_error_text(), path)) dt_error_context("%s", path);
    if (st != DT_OK) return st;
    (*out)->path = dt_onnx_text(*out, "%s", path);
    (*out)->format = "Keras";
    return (*out)->path ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a path");
}
