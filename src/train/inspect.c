/* `dtrain inspect`: what a configuration compiles to. Data is asked only for what the configuration does not
 * say. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "core/text.h"
#include "data/augment.h"
#include "model/model.h"
#include "model/model_table.h"
#include "model/task.h"
#include "train/bench.h"
#include "train/session.h"
#include "train/stages.h"

typedef struct inspection {
    dt_config config; /* with what is different here; its layers stay the caller's */
    dt_comm *mpi;
    dt_session data; /* the data sets alone */
    dt_dataset_info info;
    dt_backend *be;
    dt_engine *engine;
    FILE *tell;
    bool any_gpu, narrowed; /* narrowed: train.precision is not to be had here */
} inspection;

/* What cannot even be asked for counts as there: opening it says why. */
static bool is_there(const char *path) {
    struct stat st;
    return strcmp(path, "synthetic") == 0 || stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* Images of the configuration's sizes; what it does not say of the channels is as it was published. */
static dt_status assume_images(inspection *i, const dt_model_row *row) {
    const dt_config *c = &i->config;
    const char *missing = c->data.image_size == 0                                   ? "data.image_size"
                          : c->model.classes == 0 && dt_task_of(&c->model)->classes ? "model.classes"
                                                                                    : NULL;
    if (missing)
        return dt_fail(
            DT_ERR_DATA,
            "%s: no such data, and the configuration does not say its sizes either: %s is not set. "
            "Import the data, or set data.image_size and model.classes",
            c->data.train, missing);
    i->info.channels = c->data.channels > 0    ? c->data.channels
                       : c->augment.n_mean > 0 ? c->augment.n_mean
                       : row->depth > 0        ? row->depth
                                               : 3;
    i->info.height = i->info.width = c->data.image_size;
    i->info.n_classes = c->model.classes;
    return DT_OK;
}

/* The sizes of the configuration stand for a training set that is not there. */
static dt_status assume_data(inspection *i) {
    const dt_config *c = &i->config;
    const dt_task_row *task = dt_task_of(&c->model);
    const dt_model_row *row;
    DT_TRY(dt_model_get(c->model.name, &row));
    const bool tokens = row->reads == DT_READS_TOKENS || (row->reads == DT_READS_FIELDS && task->tokens);
    if (tokens) {
        i->info.n_field = DT_TOKEN_FIELDS;
        i->info.n_vocab = row->depth;
        i->info.n_classes = c->model.classes;
        dt_model_token_fields(task, c->data.context, i->info.field);
        return DT_OK;
    }
    if (task->classes || (row->input > 0 && c->data.image_size > 0)) return assume_images(i, row);
    return dt_fail(DT_ERR_DATA,
                   "%s: no such data, and the network reads its fields: import it, or set data.train = "
                   "\"synthetic\" and data.synthetic_fields",
                   c->data.train);
}

/* Opens what there is. */
static dt_status open_data(inspection *i, bool train, bool val) {
    dt_config *c = &i->config;
    if (!val) c->data.val[0] = 0;
    i->info = (dt_dataset_info){.mean = {0.5, 0.5, 0.5, 0.5}, .stddev = {0.25, 0.25, 0.25, 0.25}};
    if (!train) DT_TRY(assume_data(i));
    if (train || val) {
        /* Evaluation without training asks for data.val, which is there then. */
        DT_TRY(dt_session_open_data(c, train, &i->data));
    }
    if (train) dt_dataset_info_get(i->data.train_data, &i->info);
    return DT_OK;
}

/* What one host lacks counts as lacking. */
static dt_status find_data(inspection *i) {
    double lacking[2] = {!i->config.data.train[0] || !is_there(i->config.data.train),
                         !i->config.data.val[0] || !is_there(i->config.data.val)};
    DT_TRY(dt_comm_max_host(i->mpi, lacking, 2));
    return dt_comm_agree(i->mpi, open_data(i, !(lacking[0] > 0), !(lacking[1] > 0)));
}

static dt_engine_options engine_options(const inspection *i) {
    return (dt_engine_options){.config = &i->config,
                               .be = i->be,
                               .mpi = i->mpi,
                               .data = &i->info,
                               .any_gpu = i->any_gpu,
                               .train = true,
                               .plan_only = true};
}

static dt_status open_engine(inspection *i) {
    static const dt_dtype of[] = {[DT_PRECISION_FP32] = DT_DTYPE_F32,
                                  [DT_PRECISION_TF32] = DT_DTYPE_F32,
                                  [DT_PRECISION_BF16] = DT_DTYPE_BF16,
                                  [DT_PRECISION_FP16] = DT_DTYPE_F16};
    if (!i->be->supports(i->be, of[i->config.train.precision])) {
        i->config.train.precision = DT_PRECISION_FP32;
        i->narrowed = true;
    }
    dt_engine_options o = engine_options(i);
    o.tell = i->tell;
    return dt_engine_create(&o, &i->engine);
}

static dt_status open_all(const dt_config *c, inspection *i) {
    dt_division division;
    i->mpi->timeout_s = c->dist.timeout_s;
    DT_TRY(dt_comm_agree(i->mpi, dt_comm_check_equal(i->mpi, dt_config_hash_all(c), "the configuration")));
    DT_TRY(dt_comm_agree(i->mpi, dt_division_make(c, i->mpi->rank, i->mpi->world, &division)));
    DT_TRY(find_data(i));
    DT_TRY(dt_comm_agree(i->mpi, dt_session_backend(c, i->mpi, &i->be)));
    double gpu = i->be->info.is_gpu;
    DT_TRY(dt_comm_max_host(i->mpi, &gpu, 1));
    i->any_gpu = gpu > 0;
    return dt_comm_agree(i->mpi, open_engine(i));
}

static dt_text size_text(int64_t bytes) {
    return dt_bytes_text((double)bytes);
}

static void print_memory(const inspection *i, FILE *out) {
    const dt_division *d = dt_engine_division(i->engine);
    const dt_program *p = dt_engine_program(i->engine, false);
    const dt_value *peak = &p->graph->value[p->graph->node[p->plan.peak_node].out[0]];
    const int64_t total = dt_engine_device_bytes(i->engine), store = dt_engine_store_bytes(i->engine);
    fprintf(out, "\nmemory of a rank on %s, micro-batch %lld%s\n", i->be->info.name, (long long)d->rows,
            i->narrowed ? ", in fp32: this device has no other precision" : "");
    const int64_t free_bytes = i->be->info.free_bytes;
    fprintf(out, "  activations, naive sum   %12s\n", size_text(p->plan.naive_bytes).s);
    fprintf(out, "  activations, planned     %12s (%.1f %% of naive; the live values at %s need %s)\n",
            size_text(p->plan.act_bytes).s, 100.0 * (double)p->plan.act_bytes / (double)p->plan.naive_bytes,
            peak->name, size_text(p->plan.floor_bytes).s);
    fprintf(out, "  parameters and optimizer %12s\n", size_text(store).s);
    fprintf(out, "  inputs, evaluation       %12s (evaluation runs %s at once)\n",
            size_text(total - p->plan.act_bytes - store).s, dt_count_text(d->eval_rows, "sample").s);
    fprintf(out, "  total                    %12s", dt_bytes_needed_text((double)total).s);
    if (free_bytes > 0)
        fprintf(out, " of %s free%s", dt_bytes_free_text((double)free_bytes).s,
                total > free_bytes ? ": it does not fit" : "");
    fputc('\n', out);
    fprintf(out, "  largest micro-batch that fits: about %lld\n",
            (long long)dt_engine_largest_rows(i->engine));
}

/* What each level of recomputation needs. */
static dt_status print_recompute(inspection *i, FILE *out) {
    double more;
    const dt_recompute taken = dt_engine_recompute(i->engine, &more);
    const int64_t choice = i->config.train.recompute;
    fprintf(out, "\n%-12s %16s %12s %18s\n", "recompute", "activations", "total", "more arithmetic");
    for (dt_recompute k = DT_RECOMPUTE_NONE; k <= DT_RECOMPUTE_BLOCKS; k++) {
        dt_engine *e;
        const dt_engine_options o = engine_options(i);
        i->config.train.recompute = DT_RECOMPUTE_LEVELS + (int64_t)k;
        const dt_status st = dt_engine_create(&o, &e);
        i->config.train.recompute = choice;
        if (st != DT_OK) return st;
        dt_engine_recompute(e, &more);
        fprintf(out, "%-12s %16s %12s %16.1f %%%s\n", dt_recompute_names[k],
                size_text(dt_engine_program(e, false)->plan.act_bytes).s,
                size_text(dt_engine_device_bytes(e)).s, 100 * more, k == taken ? "  (this one)" : "");
        dt_engine_destroy(e);
    }
    return DT_OK;
}

static void print_length(const inspection *i, FILE *out) {
    const dt_division *d = dt_engine_division(i->engine);
    const bool tokens = i->info.n_vocab > 0;
    fprintf(out, "\nbatch %lld = %s%s%s; this rank runs %lld, %s each; ", (long long)d->global_batch,
            dt_count_text(d->n_micro_all, "micro-batch").s, tokens ? ", " : "",
            tokens ? dt_count_text(d->global_batch * i->config.data.context, "token").s : "",
            (long long)d->n_micro, dt_count_text(d->rows, "sample").s);
    if (!i->data.train_data && !i->config.data.train[0]) {
        fputs("of a network by its name no data is known\n", out);
        return;
    }
    if (!i->data.train_data) {
        fprintf(out, "%s is not there: its samples, and so the steps of an epoch, are not known\n",
                i->config.data.train);
        return;
    }
    const int64_t steps = dt_session_total_steps(&i->data);
    fprintf(out, "%lld step%s, %.6g an epoch\n", (long long)steps, dt_plural(steps),
            dt_session_steps_per_epoch(&i->data));
}

/* What training makes of images. */
static void print_augment(const inspection *i, FILE *out) {
    const dt_recipe_text t = dt_augment_text(&i->config.augment);
    if (i->info.channels > 0 && t.s[0]) fprintf(out, "augment %s\n", t.s);
}

/* Stages of training: what each makes of images, and what its activations need. */
static void print_stages(const inspection *i, FILE *out) {
    const dt_config *c = &i->config;
    if (c->train.n_stage == 0) return;
    fprintf(out, "\n%-8s %12s %12s %14s   %s\n", "stage", "from epoch", "from step", "activations",
            "what it trains on");
    for (int32_t k = 0; k < c->train.n_stage; k++) {
        char step[24] = "-";
        if (i->data.train_data)
            snprintf(step, sizeof step, "%lld",
                     (long long)dt_stage_first_step(c, k, dt_session_steps_per_epoch(&i->data)));
        fprintf(out, "%-8d %12g %12s %14s   %s\n", k + 1, c->train.stage_epoch[k], step,
                size_text(dt_engine_stage_program(i->engine, k)->plan.act_bytes).s,
                dt_stage_describe(c, k).s);
    }
}

static void print_buckets(const inspection *i, FILE *out) {
    const dt_axis *axis = dt_engine_axis(i->engine);
    fprintf(out, "\n%-8s %14s %12s %12s   first to last parameter\n", "bucket", "offset", "elements", "size");
    for (int32_t b = 0; b < axis->n_bucket; b++) {
        const dt_bucket *k = &axis->bucket[b];
        fprintf(out, "%-8d %14lld %12lld %12s   %s .. %s\n", b, (long long)k->offset, (long long)k->n_elem,
                size_text(k->n_elem * dt_engine_payload_bytes(i->engine)).s,
                axis->param[k->first_segment].name, axis->param[k->first_segment + k->n_segment - 1].name);
    }
    if (axis->n_frozen == 0) return;
    fprintf(out, "%-8s %14s %12lld %12s   %s .. %s\n", "frozen", "", (long long)axis->n_frozen_param_elem,
            size_text(axis->frozen_bytes).s, axis->param[axis->n_segment].name,
            axis->param[axis->n_segment + axis->n_frozen - 1].name);
}

/* What an optimizer of matrices steps as such. */
static void print_matrices(const inspection *i, FILE *out) {
    const dt_axis *axis = dt_engine_axis(i->engine);
    const dt_optim_kind kind = (dt_optim_kind)i->config.optim.kind;
    if (!(dt_optim_get(kind)->flags & DT_OPTIM_MATRIX)) return;
    fprintf(out, "\nby %s, the rest by adamw\n", dt_optim_names[kind]);
    for (int32_t k = axis->n_segment - 1; k >= 0; k--) {
        const dt_axis_segment *s = &axis->segment[k];
        if (s->matrix)
            fprintf(out, "  %-26s %lld x %lld\n", axis->param[k].name, (long long)s->rows,
                    (long long)(s->n_real / s->rows));
    }
}

dt_status dt_inspect(const dt_config *c, dt_comm *mpi, bool passes, FILE *out, const dt_sink *sink) {
    inspection i = {.config = *c, .mpi = mpi, .tell = passes && mpi->rank == 0 ? out : NULL};
    dt_graph *g = NULL;
    i.data = (dt_session){.config = &i.config, .mpi = mpi, .sink = sink};
    dt_status st = open_all(c, &i);
    if (st == DT_OK) st = dt_comm_agree(mpi, dt_engine_forward_graph(i.engine, NULL, &i.info, true, &g));
    if (st == DT_OK && mpi->rank == 0) {
        if (passes) fprintf(out, "\n");
        dt_model_print(g, out);
        print_memory(&i, out);
        st = print_recompute(&i, out);
        print_length(&i, out);
        print_augment(&i, out);
        print_stages(&i, out);
        print_buckets(&i, out);
        print_matrices(&i, out);
    }
    dt_graph_destroy(g);
    dt_engine_destroy(i.engine);
    dt_dataset_close(i.data.train_data);
    dt_dataset_close(i.data.val_data);
    if (i.be) i.be->destroy(i.be);
    return st;
}

dt_status dt_inspect_config(const char *name, int64_t input, int64_t outputs, int n_override,
                            const char *const *override, dt_config *out) {
    const dt_model_row *row;
    char text[512];
    dt_config_init(out);
    DT_TRY(dt_model_get(name, &row));
    if (row->input == 0)
        return dt_fail(DT_ERR_CONFIG, "\"%s\" is no network by itself: dtrain inspect CONFIG.toml",
                       row->name);
    const bool tokens = row->reads == DT_READS_TOKENS,
               classes = dt_task_table[dt_task_named(row->task)].classes;
    int n = snprintf(text, sizeof text, "[train]\nepochs = 1\n[data]\ntrain = \"none\"\n%s = %lld\n",
                     tokens ? "context" : "image_size", (long long)(input > 0 ? input : row->input));
    if (!tokens) n += snprintf(text + n, sizeof text - (size_t)n, "channels = %lld\n", (long long)row->depth);
    n += snprintf(text + n, sizeof text - (size_t)n, "[model]\nname = \"%s\"\ntask = \"%s\"\n", row->name,
                  row->task);
    if (classes)
        snprintf(text + n, sizeof text - (size_t)n, "classes = %lld\n",
                 (long long)(outputs > 0 ? outputs : row->outputs));
    else if (outputs > 0)
        return dt_fail(DT_ERR_USAGE, "--outputs: those of %s are its task's", row->name);
    DT_TRY(dt_config_parse(out, "--model", text, n_override, override));
    if (strcmp(out->data.train, "none") == 0) out->data.train[0] = 0;
    return DT_OK;
}
