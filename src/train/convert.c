/* A file of weights says what network they are of in its notes, a checkpoint in its manifest; the network's graph then
 * says how each weight lies. */
#include "train/convert.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/text.h"
#include "checkpoint_internal.h"
#include "cpu/cpu.h"
#include "tensorflow/network.h"
#include "show_model.h"
#include "train/export.h"
#include "trained.h"
#include "train/weights.h"

/* What weights belong to. */
typedef struct network {
    dt_config config;
    char *config_text, *data_text; /* data_text NULL: not known */
    dt_trained trained;            /* the facts of the data; of a checkpoint that too */
    dt_backend *be;
    dt_engine *engine; /* planned alone */
    int64_t step;
} network;

static bool ends_in(const char *text, const char *tail) {
    const size_t n = strlen(text), m = strlen(tail);
    return n > m && strcmp(text + n - m, tail) == 0;
}

/* What such files are called; a damaged one is told by its name alone. */
static bool is_named_as_weights(const char *path) {
    static const char *const tail[] = {".safetensors", ".onnx", ".keras", ".h5", ".pb", ".pt", ".pth"};
    for (size_t i = 0; i < sizeof tail / sizeof tail[0]; i++)
        if (ends_in(path, tail[i])) return true;
    return false;
}

bool dt_holds_weights(const char *path) {
    struct stat st;
    return (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) || is_named_as_weights(path) ||
           dt_tensors_knows(path) || dt_network_knows(path);
}

/* ---- the network ---- */

/* A pass of a few samples on the CPU: only names and layouts are asked for. */
static void shrink(dt_config *c) {
    c->train.global_batch = c->train.micro_batch = c->train.eval_batch = 2;
    c->train.precision = DT_PRECISION_FP32;
    c->train.recompute = DT_RECOMPUTE_LEVELS;
    c->groups.n = 0;
}

static dt_status plan(network *n) {
    dt_backend_options be = {.local_world = 1, .threads = 1};
    dt_config small = n->config; /* its layers stay the other's */
    shrink(&small);
    DT_TRY(dt_backend_cpu_create(&be, &n->be));
    const dt_engine_options o = {
        .config = &small, .be = n->be, .data = &n->trained.facts.info, .train = true, .plan_only = true};
    return dt_engine_create(&o, &n->engine);
}

static dt_status find_network(network *n, const dt_convert_options *o, const char *name) {
    if (o->config) {
        DT_TRY(dt_config_load(&n->config, o->config, o->n_override, o->override));
        free(n->config_text);
        n->config_text = NULL;
        DT_TRY(dt_config_to_text(&n->config, &n->config_text));
    } else if (n->config_text) {
        DT_TRY(dt_config_parse(&n->config, name, n->config_text, o->n_override, o->override));
    } else {
        return dt_fail(DT_ERR_CONFIG,
                       "%s does not say what network it is of: give its configuration, --config FILE.toml",
                       name);
    }
    if (n->data_text) {
        DT_TRY(dt_data_facts_parse(n->data_text, &n->trained.facts));
        n->trained.has_facts = true;
    }
    DT_TRY(dt_trained_find_facts(&n->config, name, &n->trained));
    return plan(n);
}

static void close_network(network *n) {
    dt_engine_destroy(n->engine);
    if (n->be) n->be->destroy(n->be);
    dt_config_fini(&n->config);
    dt_trained_free(&n->trained);
    free(n->config_text), free(n->data_text);
}

/* NULL stays NULL; false where there is no memory. */
static bool copy_text(const char *from, char **to) {
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

/* ---- to a file ---- */

static dt_status type_of(const char *word, dt_tensor_type *out) {
    static const struct {
        const char *word;
        dt_tensor_type type;
    } row[] = {{"f32", DT_TENSOR_F32}, {"f16", DT_TENSOR_F16}, {"bf16", DT_TENSOR_BF16}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (strcmp(row[i].word, word) == 0) {
            *out = row[i].type;
            return DT_OK;
        }
    return dt_fail(DT_ERR_USAGE, "\"%s\" is none of f32, f16, bf16", word);
}

/* The network of the file has none any more. */
static dt_status merge_adapters(const char *in, network *n, dt_export *x) {
    dt_lora_options *lora = &n->config.model.lora;
    if (lora->rank == 0)
        return dt_fail(DT_ERR_USAGE, "--merge: %s has no low-rank adapters (lora.rank = 0)", in);
    x->merge = true;
    x->factor = dt_lora_factor(lora);
    dt_section_defaults(&dt_lora_section, lora);
    free(n->config_text);
    n->config_text = NULL;
    return dt_config_to_text(&n->config, &n->config_text);
}

static dt_status checkpoint_to_file(const dt_convert_options *o, network *n) {
    dt_export x = {.n = 0};
    DT_TRY(type_of(o->type, &x.type));
    DT_TRY(dt_ckpt_load_at(o->in, &n->trained.ckpt));
    const dt_ckpt *k = n->trained.ckpt;
    if (!copy_text(k->config_text, &n->config_text) || !copy_text(k->data_text, &n->data_text))
        return dt_fail(DT_ERR_MEMORY, "no memory for a configuration");
    DT_TRY(find_network(n, o, k->path));
    DT_TRY(dt_ckpt_check_adapters(k, n->config.model.lora.rank));
    x.net = dt_engine_weights(n->engine);
    x.n = k->n_tensor, x.tensor = k->tensor;
    if (o->merge) DT_TRY(merge_adapters(o->in, n, &x));
    x.config_text = n->config_text, x.data_text = n->data_text;
    n->step = x.step = k->meta.step;
    dt_graph *graph = NULL;
    if (dt_names_onnx(o->out))
        DT_TRY(dt_engine_eval_graph(n->engine, &n->config.model, &n->trained.facts.info, DT_ONNX_EXPORT_ROWS,
                                    &graph));
    x.graph = graph;
    const dt_status st = dt_export_write(o->out, &x);
    dt_graph_destroy(graph);
    if (st == DT_ERR_CHECKPOINT) dt_error_context("%s", k->path);
    return st;
}

/* ---- to a run ---- */

static dt_status write_checkpoint(const char *dir, const network *n, const dt_weights *w) {
    const dt_ckpt_policy policy = {.dir = dir,
                                   .keep_last = 2,
                                   .task = n->config.model.task,
                                   .best_metric = dt_best_metric_first(dt_task_of(&n->config.model)),
                                   .data_text = n->data_text};
    dt_ckpt_meta meta = {.step = n->step,
                         .samples = n->step * n->config.train.global_batch,
                         .global_batch = n->config.train.global_batch,
                         .seed = n->config.run.seed,
                         .config_hash = dt_config_hash(&n->config)};
    dt_ckpt_writer *writer;
    snprintf(meta.optimizer, sizeof meta.optimizer, "%s", dt_optim_names[n->config.optim.kind]);
    DT_TRY(dt_ckpt_writer_create(&policy, &writer));
    dt_status st = dt_ckpt_writer_save(writer, &meta, w->n, w->tensor, n->config_text);
    if (st == DT_OK) st = dt_ckpt_writer_wait(writer);
    dt_ckpt_writer_destroy(writer);
    return st;
}

/* The configuration of the new run is that of its checkpoint, in its own directory. */
static dt_status take_directory(const char *out, network *n) {
    free(n->config_text);
    n->config_text = NULL;
    snprintf(n->config.run.out_dir, sizeof n->config.run.out_dir, "%s", out);
    return dt_config_to_text(&n->config, &n->config_text);
}

static dt_status write_config(const char *out, const network *n) {
    char path[DT_CKPT_PATH_MAX];
    DT_TRY(dt_ckpt_path(path, out, DT_CKPT_CONFIG_FILE));
    return dt_ckpt_file_write(path, n->config_text, strlen(n->config_text));
}

static dt_status file_to_run(const dt_convert_options *o, network *n) {
    dt_tensors *t;
    dt_weights w;
    char dir[2 * DT_KEY_STRING_MAX];
    struct stat there;
    snprintf(dir, sizeof dir, "%s/checkpoints", o->out);
    if (stat(dir, &there) == 0)
        return dt_fail(DT_ERR_USAGE, "%s is there already: a converted network becomes a run of its own",
                       dir);
    DT_TRY(dt_network_tensors(o->in, &t));
    const char *step = dt_tensors_note(t, DT_EXPORT_STEP);
    n->step = step ? dt_max_i64(0, strtoll(step, NULL, 10)) : 0;
    const bool copied = copy_text(dt_tensors_note(t, DT_EXPORT_CONFIG), &n->config_text) &&
                        copy_text(dt_tensors_note(t, DT_EXPORT_DATA), &n->data_text);
    dt_tensors_close(t);
    if (!copied) return dt_fail(DT_ERR_MEMORY, "no memory for a configuration");
    DT_TRY(find_network(n, o, o->in));
    dt_init_options init = n->config.model.init;
    snprintf(init.from, sizeof init.from, "%s", o->in);
    init.head = DT_INIT_HEAD_SAME;
    dt_status st = dt_weights_read(dt_engine_weights(n->engine), &init, &w);
    if (st == DT_OK && w.n_fresh > 0)
        st = dt_fail(DT_ERR_CONFIG, "%s: %s of the network is not in it", w.path, w.fresh[0]);
    if (st == DT_OK) st = take_directory(o->out, n);
    if (st == DT_OK) st = write_checkpoint(dir, n, &w);
    if (st == DT_OK) st = write_config(o->out, n);
    dt_weights_free(&w);
    return st;
}

/* ---- from file to file ---- */

/* The tensor's numbers in `type`, where they are such as weights are; else *data is NULL, and it stays as it is. */
static dt_status retyped(dt_tensor_type type, dt_file_tensor *t, float **data) {
    *data = NULL;
    if (!dt_tensor_type_is_weight(t->type) || t->type == type) return DT_OK;
    *data = malloc((size_t)t->n_elem * sizeof **data + 1);
    if (!*data) return dt_fail(DT_ERR_MEMORY, "no memory for %s", t->name);
    DT_TRY(dt_file_tensor_read(t, *data));
    DT_TRY(dt_export_narrow(type, t->name, t->n_elem, *data));
    t->type = type;
    t->data = *data;
    DT_ASSERT(dt_file_tensor_size(type, t->ndim, t->dim, &t->n_elem, &t->n_bytes));
    return DT_OK;
}

static dt_status file_to_file(const dt_convert_options *o, const dt_sink *sink) {
    dt_tensors *t;
    dt_tensor_type type = DT_TENSOR_F32;
    DT_TRY(type_of(o->type, &type));
    DT_TRY(dt_network_tensors(o->in, &t));
    float **data = calloc((size_t)t->n + 1, sizeof *data);
    dt_status st = data ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a list of tensors");
    for (int64_t i = 0; st == DT_OK && i < t->n; i++) st = retyped(type, &t->tensor[i], &data[i]);
    if (st == DT_OK)
        st = dt_tensors_write(o->out, t->n, t->tensor, t->n_note, t->note);
    else
        dt_error_context("%s", t->path);
    if (st == DT_OK) dt_tell(sink, DT_NEWS_LINE, "%s: %s", o->out, dt_count_text(t->n, "tensor").s);
    for (int64_t i = 0; data && i < t->n; i++) free(data[i]);
    free(data);
    dt_tensors_close(t);
    return st;
}

static dt_status network_to_onnx(const dt_convert_options *o, const dt_sink *sink) {
    dt_onnx_model *m;
    DT_TRY(dt_network_read(o->in, &m));
    const dt_status st = dt_onnx_write(m, o->out);
    if (st == DT_OK)
        dt_tell(sink, DT_NEWS_LINE, "%s: %s, %s, %s", o->out, m->format,
                dt_count_text(m->graph.n_node, "node").s, dt_count_text(m->graph.n_constant, "tensor").s);
    dt_onnx_model_free(m);
    return st;
}

/* Those that were written. */
static int32_t n_written(const dt_weight_list *net, bool merged) {
    int32_t n = 0;
    for (int32_t i = 0; i < net->n; i++) n += !merged || !net->weight[i].adapter;
    return n;
}

dt_status dt_convert(const dt_convert_options *o, const dt_sink *sink) {
    network n = {.step = 0};
    dt_config_init(&n.config);
    const bool to_file = dt_tensors_is_name(o->out) || dt_names_onnx(o->out), ours = dt_ckpt_is_at(o->in);
    dt_status st = DT_OK;
    if (strlen(o->in) >= DT_KEY_STRING_MAX || strlen(o->out) >= DT_KEY_STRING_MAX)
        st = dt_fail(DT_ERR_USAGE, "a path of more than %d bytes", DT_KEY_STRING_MAX - 1);
    else if (!ours && o->merge)
        st = dt_fail(DT_ERR_USAGE,
                     "--merge is of a run or a checkpoint, whose [lora] says how, and %s is a file", o->in);
    else if (ours && !to_file)
        st = dt_fail(
            DT_ERR_USAGE,
            "%s: the name of what a checkpoint is converted to ends in .safetensors, .pt, .pth or .onnx",
            o->out);
    else if (!ours && dt_names_onnx(o->out) && dt_network_knows(o->in))
        st = network_to_onnx(o, sink);
    else if (!ours && dt_names_onnx(o->out))
        st = dt_fail(DT_ERR_USAGE,
                     "%s: only a run or a checkpoint becomes an ONNX model: make a run of %s first", o->out,
                     o->in);
    else if (!ours && to_file)
        st = file_to_file(o, sink);
    else
        st = ours ? checkpoint_to_file(o, &n) : file_to_run(o, &n);
    if (st == DT_OK && n.engine)
        dt_tell(sink, DT_NEWS_LINE, "%s: %s, %s, step %lld", o->out, n.config.model.name,
                dt_count_text(n_written(dt_engine_weights(n.engine), o->merge), "weight").s,
                (long long)n.step);
    close_network(&n);
    return st;
}

/* ---- to be looked at ---- */

static void show_row(FILE *out, const char *name, const char *type, int32_t ndim, const int64_t *dim,
                     int64_t bytes) {
    char shape[24 * DT_MAX_DIM] = "";
    for (int32_t d = 0; d < ndim; d++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", d ? "x" : "",
                 (long long)dim[d]);
    fprintf(out, "%-48s %-8s %-20s %12lld\n", name, type, ndim ? shape : "-", (long long)bytes);
}

static void show_total(FILE *out, int64_t n, int64_t n_elem, int64_t bytes) {
    fprintf(out, "%s, %s, %s\n", dt_count_text(n, "tensor").s, dt_count_text(n_elem, "number").s,
            dt_bytes_text((double)bytes).s);
}

/* The beginning of a long text, on one line. */
static void show_note(FILE *out, const dt_tensor_note *note) {
    enum { SHOWN = 100 };
    char value[SHOWN + 1];
    size_t n = strlen(note->value) < SHOWN ? strlen(note->value) : SHOWN;
    while (n > 0 && n == SHOWN && (note->value[n] & 0xc0) == 0x80) n--; /* whole characters */
    snprintf(value, sizeof value, "%.*s", (int)n, note->value);
    dt_print_quoted(note->key, out);
    fputs(": ", out);
    dt_print_quoted(value, out);
    fputs(note->value[n] ? " ...\n" : "\n", out);
}

/* Of a file that has a graph. */
static dt_status show_graph(const char *path, FILE *out) {
    dt_onnx_model *m;
    if (!dt_network_knows(path)) return DT_OK;
    DT_TRY(dt_network_read(path, &m));
    const dt_status st = dt_show_model(m, out);
    dt_onnx_model_free(m);
    return st;
}

static dt_status show_file(const char *path, FILE *out) {
    dt_tensors *t;
    int64_t n_elem = 0, bytes = 0;
    DT_TRY(dt_network_tensors(path, &t));
    fprintf(out, "%s: %s, %s\n", t->path, t->format, dt_count_text(t->n_file, "file").s);
    dt_status st = show_graph(t->path, out);
    if (st != DT_OK) {
        dt_tensors_close(t);
        return st;
    }
    for (int64_t i = 0; i < t->n_note; i++) show_note(out, &t->note[i]);
    fprintf(out, "\n%-48s %-8s %-20s %12s\n", "tensor", "type", "shape", "bytes");
    for (int64_t i = 0; i < t->n; i++) {
        const dt_file_tensor *x = t->named[i];
        show_row(out, x->name, dt_tensor_type_name(x->type), x->ndim, x->dim, x->n_bytes);
        n_elem += x->n_elem, bytes += x->n_bytes;
    }
    show_total(out, t->n, n_elem, bytes);
    dt_tensors_close(t);
    return DT_OK;
}

static dt_status show_checkpoint(const char *path, FILE *out) {
    dt_ckpt *k;
    int64_t total = 0;
    DT_TRY(dt_ckpt_load_at(path, &k));
    fprintf(out, "%s: checkpoint, step %lld\n", k->path, (long long)k->meta.step);
    fprintf(out, "\n%-48s %-8s %-20s %12s\n", "tensor", "type", "shape", "bytes");
    for (int32_t i = 0; i < k->n_tensor; i++) {
        const dt_ckpt_tensor *x = &k->tensor[i];
        int64_t n_elem = 1;
        for (int32_t d = 0; d < x->ndim; d++) n_elem *= x->dim[d];
        show_row(out, x->name, "F32", x->ndim, x->dim, n_elem * (int64_t)sizeof(float));
        total += n_elem;
    }
    show_total(out, k->n_tensor, total, total * (int64_t)sizeof(float));
    dt_ckpt_free(k);
    return DT_OK;
}

dt_status dt_convert_show(const char *path, FILE *out) {
    return dt_ckpt_is_at(path) ? show_checkpoint(path, out) : show_file(path, out);
}
