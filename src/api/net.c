/* Networks: made, compiled, freed, saved and loaded. */
#include "net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static double or_default(double x, double value) {
    return x != 0 ? x : value;
}

static bool is_of(void *optim, const char *key, const char *what) {
    (void)key; /* all hang on optim.kind alone */
    return strcmp(dt_optim_names[((const dt_optim_options *)optim)->kind], what) == 0;
}

/* An option of another optimizer would be ignored. */
static dt_status check_counts(const dt_optim_options *own, dt_optim_options *o) {
    char only[512];
    for (int i = 0; i < dt_optim_section.n_row; i++) {
        const dt_key_row *row = &dt_optim_section.row[i];
        if (!row->only || dt_key_counts(row->only, is_of, o) || dt_key_is_same(row, o, own)) continue;
        dt_key_only_text(row->only, "", only, sizeof only);
        return dt_fail(
            DT_ERR_CONFIG,
            "dt_net_create: optimizer: %s would be ignored: it counts only with %s, and this is \"%s\"",
            row->key, only, dt_optim_names[o->kind]);
    }
    return DT_OK;
}

static dt_status take_optimizer(const dt_optimizer_options *o, dt_optim_options *out) {
    const dt_optim_kind kind = o->name ? dt_optim_find(o->name) : DT_OPTIM_SGD;
    if (kind == DT_OPTIM_COUNT)
        return dt_fail(DT_ERR_CONFIG, "dt_net_create: no optimizer is named \"%.60s\"", o->name);
    const dt_optim_options own = dt_optim_defaults(kind);
    *out = own;
    out->lr = or_default(o->lr, kind == DT_OPTIM_ADAMW ? 1e-3 : own.lr);
    out->momentum = or_default(o->momentum, own.momentum);
    out->beta1 = or_default(o->beta1, own.beta1);
    out->beta2 = or_default(o->beta2, own.beta2);
    out->alpha = or_default(o->alpha, own.alpha);
    out->eps = or_default(o->eps, own.eps);
    out->lr_decay = or_default(o->lr_decay, own.lr_decay);
    out->trust = or_default(o->trust, own.trust);
    out->beta2_decay = or_default(o->beta2_decay, own.beta2_decay);
    out->scale_floor = or_default(o->scale_floor, own.scale_floor);
    out->update_clip = or_default(o->update_clip, own.update_clip);
    out->adamw_lr = or_default(o->adamw_lr, own.adamw_lr);
    out->muon_scale = (int64_t)o->muon_scale;
    out->nesterov = own.nesterov && !o->no_nesterov;
    out->weight_decay = o->weight_decay;
    out->centered = o->centered;
    out->trust_clip = o->trust_clip;
    out->decay_bn_and_bias = o->decay_bn_and_bias;
    DT_TRY(check_counts(&own, out));
    return dt_section_settle(&dt_optim_section, "dt_net_create: optimizer", out);
}

dt_status dt_net_group(dt_net *net, dt_group_options options) {
    DT_CHECK_BUILT(net);
    DT_CHECK_POINTER(options.pattern);
    dt_optim_groups *all = &net->config.groups;
    if (net->engine) return dt_fail(DT_ERR_USAGE, "dt_net_group: the network is compiled already");
    DT_TRY(dt_check_real(__func__, "lr_factor", options.lr_factor, 1e-30, 1e6));
    DT_TRY(dt_check_real(__func__, "weight_decay", options.weight_decay, 1e-30, 1e6));
    if (options.no_decay && options.weight_decay != 0)
        return dt_fail(DT_ERR_CONFIG, "dt_net_group: weight_decay is %g beside no_decay",
                       options.weight_decay);
    _Static_assert((int)DT_MAX_GROUPS == DT_OPTIM_GROUPS_MAX &&
                       (int)DT_MAX_PATTERN == (int)sizeof all->group->pattern - 1,
                   "as the header says");
    if (all->n == DT_MAX_GROUPS)
        return dt_fail(DT_ERR_USAGE, "dt_net_group: more than %d groups", DT_MAX_GROUPS);
    dt_optim_group g = {.lr_factor = options.lr_factor,
                        .weight_decay = options.no_decay ? 0 : options.weight_decay,
                        .frozen = options.frozen,
                        .muon = options.muon > 0};
    if (options.lr_factor != 0) g.says |= DT_GROUP_LR;
    if (options.no_decay || options.weight_decay != 0) g.says |= DT_GROUP_DECAY;
    if (options.frozen || options.trained) g.says |= DT_GROUP_FROZEN;
    if (options.muon != 0) g.says |= DT_GROUP_MUON;
    const dt_optim_kind kind = (dt_optim_kind)net->config.optim.kind;
    if (options.muon != 0 && !(dt_optim_get(kind)->flags & DT_OPTIM_MATRIX))
        return dt_fail(DT_ERR_CONFIG,
                       "dt_net_group: muon says who steps matrices, and the optimizer is \"%s\"",
                       dt_optim_names[kind]);
    if (!g.says || (options.frozen && options.trained) || strlen(options.pattern) >= sizeof g.pattern)
        return dt_fail(DT_ERR_USAGE,
                       "dt_net_group: \"%.60s\": a pattern of at most %zu bytes with a factor, a decay, "
                       "frozen or trained, or muon",
                       options.pattern, sizeof g.pattern - 1);
    strcpy(g.pattern, options.pattern);
    all->group[all->n++] = g;
    return DT_OK;
}

int32_t dt_net_world(const dt_net *net) {
    return net->run->mpi ? net->run->mpi->world : 1;
}

/* What the engine takes from a configuration. */
static dt_status fill_config(dt_net *net) {
    const dt_net_options *o = &net->options;
    dt_config *c = &net->config;
    dt_config_init(c);
    snprintf(c->model.name, sizeof c->model.name, "network");
    c->run.seed = (int64_t)(o->seed & INT64_MAX);
    c->run.capture = DT_CAPTURE_STEP;
    c->train.global_batch = o->batch * dt_net_world(net);
    c->train.clip_norm = o->clip_norm;
    c->train.sync_batch_norm = o->sync_batch_norm;
    c->train.fusion = o->no_fusion ? DT_FUSION_OFF : DT_FUSION_AUTO;
    c->train.precision = o->compute == DT_DTYPE_F16    ? DT_PRECISION_FP16
                         : o->compute == DT_DTYPE_BF16 ? DT_PRECISION_BF16
                                                       : DT_PRECISION_FP32;
    DT_TRY(take_optimizer(&o->optimizer, &c->optim));
    net->options.optimizer.name = NULL; /* the caller's text */
    net->lr = c->optim.lr;
    return DT_OK;
}

static dt_status check_options(const dt_net_options *o) {
    if (o->batch == 0)
        return dt_fail(DT_ERR_CONFIG, "dt_net_create: batch is 0: say how many rows a batch has");
    DT_TRY(dt_check_whole("dt_net_create", "batch", o->batch, 1, INT32_MAX));
    DT_TRY(dt_check_real("dt_net_create", "clip_norm", o->clip_norm, 1e-30, 1e30));
    if (o->compute != DT_DTYPE_F32 && o->compute != DT_DTYPE_F16 && o->compute != DT_DTYPE_BF16)
        return dt_fail(DT_ERR_CONFIG, "dt_net_create: compute is %d, expected F32, F16 or BF16",
                       (int)o->compute);
    return DT_OK;
}

static dt_status start(dt_net *net) {
    static _Atomic uint64_t made;
    dt_vid metrics;
    net->serial = ++made;
    DT_TRY(fill_config(net));
    DT_TRY(dt_graph_create(&net->b.g, net->options.compute, true));
    net->b.rows = net->options.batch;
    return dt_graph_add_value(net->b.g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1,
                              (int64_t[]){DT_METRIC_COUNT}, &metrics);
}

dt_status dt_net_create(dt_run *run, dt_net_options options, dt_net **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(out);
    *out = NULL;
    DT_TRY(check_options(&options));
    dt_net *net = dt_handle_new(DT_HANDLE_NET, sizeof *net);
    if (!net) return dt_fail(DT_ERR_MEMORY, "no memory for a network");
    dt_run_hold(net->run = run);
    net->refs = 1;
    net->options = options;
    const dt_status st = start(net);
    if (st == DT_OK)
        *out = net;
    else
        dt_net_free(net);
    return st;
}

static void tear_down(dt_net *net) {
    dt_engine_destroy(net->engine);
    dt_ranking_free(&net->ranking);
    for (int32_t i = 0; i < net->n_input; i++)
        if (net->input[i].data) net->be->free(net->be, DT_MEM_HOST, net->input[i].data);
    if (net->comm && net->comm != net->run->mpi) net->comm->destroy(net->comm);
    if (net->be) net->be->destroy(net->be);
    dt_graph_destroy(net->b.g);
    dt_config_fini(&net->config);
    free(net->report);
    dt_run_drop(net->run);
    dt_handle_free(net);
}

void dt_net_hold(dt_net *net) {
    net->refs++;
}

void dt_net_drop(dt_net *net) {
    if (--net->refs == 0) tear_down(net);
}

void dt_net_free(dt_net *net) {
    if (dt_handle_end(DT_HANDLE_NET, net)) dt_net_drop(net);
}

dt_status dt_net_status(const dt_net *net) {
    DT_CHECK_NET(net);
    if (net->b.status != DT_OK) dt_error_set(net->b.status, net->text);
    return net->b.status;
}

dt_status dt_net_check(const dt_net *net, const char *function) {
    DT_TRY(dt_handle_check(DT_HANDLE_NET, net, function, "net"));
    return net->engine ? DT_OK : dt_net_status(net);
}

/* ---- compiling ---- */

static dt_status make_forward(void *arg, int64_t rows, bool training, dt_graph **out) {
    const dt_net *net = arg;
    return dt_net_instance(net->b.g, rows, training, out);
}

static dt_status compile_alone(dt_net *net) {
    DT_TRY(dt_net_status(net));
    if (net->b.g->n_loss == 0)
        return dt_fail(DT_ERR_USAGE, "dt_net_compile: the network has no loss: add one with dt_loss");
    if (!net->be) DT_TRY(dt_run_make_backend(net->run, false, &net->be));
    if (!net->be->supports(net->be, net->options.compute))
        return dt_fail(DT_ERR_CONFIG,
                       "dt_net_compile: compute is %s, which is not available on %s: use DT_DTYPE_F32",
                       dt_dtype_name(net->options.compute), net->be->info.name);
    for (int32_t i = 0; i < net->n_input; i++)
        if (!net->input[i].data)
            DT_TRY(net->be->alloc(net->be, DT_MEM_HOST,
                                  net->options.batch * dt_field_bytes(&net->input[i].field),
                                  &net->input[i].data));
    return DT_OK;
}

static dt_status make_engine(dt_net *net) {
    const dt_engine_options o = {.config = &net->config,
                                 .be = net->be,
                                 .mpi = net->run->mpi,
                                 .comm = net->comm,
                                 .forward = make_forward,
                                 .forward_arg = net,
                                 .any_gpu = net->be->info.is_gpu,
                                 .train = true};
    dt_status st = dt_engine_create(&o, &net->engine);
    if (st == DT_OK) st = dt_engine_init(net->engine);
    if (st == DT_OK) st = dt_engine_set_loss_scale(net->engine, dt_net_loss_scale(net), 0);
    if (st == DT_OK) return DT_OK;
    dt_engine_destroy(net->engine);
    net->engine = NULL;
    return st;
}

float dt_net_loss_scale(const dt_net *net) {
    return net->options.compute == DT_DTYPE_F16 ? 1024 : 1;
}

dt_status dt_net_all(dt_net *net, dt_status mine) {
    dt_run *run = net->run;
    if (!run->mpi) return mine;
    const dt_status st = dt_comm_agree(run->mpi, mine);
    if (st == DT_ERR_PEER) run->failed = true;
    return st;
}

dt_status dt_net_compile(dt_net *net) {
    DT_CHECK_NET(net);
    if (net->engine) return DT_OK;
    DT_TRY(dt_net_meet_built(net, compile_alone(net)));
    if (!net->comm) DT_TRY(dt_run_choose_comm(net->run, net->be, &net->comm));
    int32_t n_given; /* weights of networks in files */
    dt_status st = dt_net_all(net, make_engine(net));
    if (st == DT_OK) st = dt_net_all(net, dt_engine_begin_given(net->engine, &n_given));
    if (st == DT_OK) {
        net->number = ++net->run->n_compiled;
        return DT_OK;
    }
    dt_engine_destroy(net->engine); /* another rank has none */
    net->engine = NULL;
    return st;
}

/* ---- saving and loading ---- */

/* What another network has saved as this step stays. One that is damaged is of nobody. */
static dt_status refuse_other(const dt_net *net, const char *path, int32_t n, const dt_ckpt_tensor *tensor) {
    char step[sizeof((dt_ckpt *)NULL)->path];
    dt_ckpt *c = NULL;
    snprintf(step, sizeof step, "%s/step-%08lld", path, (long long)net->step);
    if (access(step, F_OK) != 0 || dt_ckpt_load(step, &c) != DT_OK) return DT_OK;
    bool same = c->n_tensor == n;
    for (int32_t i = 0; same && i < n; i++) {
        const dt_ckpt_tensor *t = dt_ckpt_find(c, tensor[i].name);
        const bool of_ranks = strcmp(tensor[i].name, DT_CKPT_LOCAL_STATE) == 0; /* a row for each */
        same = t && (of_ranks || (t->ndim == tensor[i].ndim &&
                                  memcmp(t->dim, tensor[i].dim, (size_t)t->ndim * sizeof *t->dim) == 0));
    }
    dt_ckpt_free(c);
    return same ? DT_OK
                : dt_fail(DT_ERR_USAGE,
                          "dt_net_save: %s is of a network of other layers, another optimizer or number of "
                          "ranks: save "
                          "in another directory, or remove it",
                          step);
}

static dt_status save(dt_net *net, const char *path, int64_t updates, int32_t n,
                      const dt_ckpt_tensor *tensor) {
    char *config_text;
    if (net->run->mpi && net->run->mpi->rank != 0) return DT_OK;
    const dt_ckpt_policy policy = {.dir = path, .keep_last = INT64_MAX};
    const int64_t batch = net->config.train.global_batch;
    dt_ckpt_meta meta = {.step = net->step,
                         .samples = net->step * batch,
                         .global_batch = batch,
                         .n_micro_all = dt_net_world(net),
                         .seed = net->config.run.seed,
                         .loss_scale = (double)dt_net_loss_scale(net),
                         .optimizer_steps = updates,
                         .train_samples = batch};
    snprintf(meta.optimizer, sizeof meta.optimizer, "%s", dt_optim_names[net->config.optim.kind]);
    dt_ckpt_writer *w;
    DT_TRY(refuse_other(net, path, n, tensor));
    DT_TRY(dt_ckpt_writer_create(&policy, &w));
    dt_status st = dt_net_describe(net, &config_text);
    if (st == DT_OK) st = dt_ckpt_writer_save(w, &meta, n, tensor, config_text);
    if (st == DT_OK) st = dt_ckpt_writer_wait(w);
    dt_ckpt_writer_destroy(w);
    free(config_text);
    return st;
}

/* Before the checkpoint is written. */
static dt_status check_save(dt_net *net, const char *path, int64_t *updates) {
    static const char function[] = "dt_net_save";
    if (!path || strlen(path) > DT_MAX_PATH)
        return dt_fail(DT_ERR_USAGE, "%s: path is %s", function, path ? "too long" : "NULL");
    DT_TRY(dt_net_settle(net));
    return dt_engine_updates(net->engine, updates);
}

dt_status dt_net_save(dt_net *net, const char *path) {
    DT_CHECK_NET(net);
    DT_TRY(dt_net_compile(net));
    char more[DT_MEET_TEXT_MAX];
    int32_t n;
    const dt_ckpt_tensor *tensor;
    int64_t updates = 0;
    const dt_status mine = check_save(net, path, &updates);
    snprintf(more, sizeof more, "path %s\n", mine == DT_OK ? path : "");
    DT_TRY(dt_net_meet(net, mine, __func__, more));
    DT_TRY(dt_net_all(net, dt_engine_snapshot(net->engine, &n, &tensor)));
    return dt_net_all(net, save(net, path, updates, n, tensor));
}

static dt_status open_checkpoint(dt_net *net, const char *path, dt_ckpt **out) {
    char manifest[sizeof((dt_ckpt *)NULL)->path];
    if (!path) return dt_fail(DT_ERR_USAGE, "dt_net_load: path is NULL");
    if ((size_t)snprintf(manifest, sizeof manifest, "%s/manifest.json", path) >= sizeof manifest)
        return dt_fail(DT_ERR_IO, "\"%s\": path too long", path);
    if (access(manifest, F_OK) == 0)
        DT_TRY(dt_ckpt_load(path, out));
    else
        DT_TRY(dt_ckpt_load_latest(path, NULL, NULL, out));
    if (!*out) return dt_fail(DT_ERR_CHECKPOINT, "there is no checkpoint in %s", path);
    return dt_net_settle(net);
}

/* Of names and values of its tensors. */
static uint64_t contents_of(const dt_ckpt *c) {
    uint64_t hash = 0;
    for (int32_t i = 0; i < c->n_tensor; i++) {
        const dt_ckpt_tensor *t = &c->tensor[i];
        int64_t n = 1;
        for (int32_t d = 0; d < t->ndim; d++) n *= t->dim[d];
        hash = XXH3_64bits_withSeed(t->name, strlen(t->name), hash);
        hash = XXH3_64bits_withSeed(t->data, (size_t)n * sizeof *t->data, hash);
    }
    return hash;
}

dt_status dt_net_load(dt_net *net, const char *path) {
    DT_CHECK_NET(net);
    DT_TRY(dt_net_compile(net));
    char more[DT_MEET_TEXT_MAX] = "";
    dt_ckpt *c = NULL;
    /* Each rank reads its own file: what is in it must be the same, before any takes it. */
    dt_status st = open_checkpoint(net, path, &c);
    if (st == DT_OK) st = dt_net_check_same(net, c);
    if (st == DT_OK && net->run->mpi)
        snprintf(more, sizeof more, "checkpoint of step %lld, contents %016llx\n", (long long)c->meta.step,
                 (unsigned long long)contents_of(c));
    st = dt_net_meet(net, st, __func__, more);
    if (st == DT_OK) st = dt_net_all(net, dt_engine_load(net->engine, c));
    if (st == DT_OK) net->step = c->meta.step;
    dt_ckpt_free(c);
    return st;
}
