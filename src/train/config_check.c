/* Cross checks: what no key alone can tell. Each is one row: the key that a message names, and the test. */
#include "config_table.h"

#include "train/checkpoint.h"

#include <math.h>
#include <string.h>

#include "core/text.h"
#include "data/agree.h"
#include "model/model_table.h"

/* Writes what is wrong into `text`, with the mend; returns false where nothing is. */
typedef bool check_fn(const dt_config *c, char *text, size_t size);

#define WRONG(...) (snprintf(text, size, __VA_ARGS__), true)

/* A group may speak of muon only where there is one. */
static bool check_muon(const dt_config *c, char *text, size_t size) {
    if (dt_optim_get((dt_optim_kind)c->optim.kind)->flags & DT_OPTIM_MATRIX) return false;
    for (int32_t i = 0; i < c->groups.n; i++)
        if (c->groups.group[i].says & DT_GROUP_MUON)
            return WRONG("muon: says who steps matrices with optim.kind = \"muon\", but that is \"%s\"",
                         dt_optim_names[c->optim.kind]);
    return false;
}

static bool check_length(const dt_config *c, char *text, size_t size) {
    if (c->train.steps > 0 || c->train.epochs > 0) return false;
    return WRONG("set train.epochs or train.steps above 0: the run has no end");
}

static bool check_micro_batch(const dt_config *c, char *text, size_t size) {
    int64_t micro = c->train.micro_batch, global = c->train.global_batch, tokens = c->train.global_tokens;
    if (micro == 0 || global % micro == 0) return false;
    const char *verb = micro > global ? "is larger than" : "does not divide";
    if (tokens > 0)
        return WRONG("%lld %s the %lld samples of data.context = %lld that train.global_tokens = %lld are",
                     (long long)micro, verb, (long long)global, (long long)c->data.context,
                     (long long)tokens);
    return WRONG("%lld %s train.global_batch = %lld", (long long)micro, verb, (long long)global);
}

static bool check_global_tokens(const dt_config *c, char *text, size_t size) {
    const int64_t tokens = c->train.global_tokens, context = c->data.context;
    if (tokens == 0) return false;
    if (tokens % context != 0)
        return WRONG("%lld is no multiple of data.context = %lld", (long long)tokens, (long long)context);
    if (tokens / context > 1 << 24)
        return WRONG("%lld are %lld samples of data.context = %lld: at most %d", (long long)tokens,
                     (long long)(tokens / context), (long long)context, 1 << 24);
    return false;
}

static bool check_mask(const dt_config *c, char *text, size_t size) {
    if (!c->data.masked || c->data.mask_random + c->data.mask_keep <= 1) return false;
    return WRONG("with data.mask_keep = %g more than all", c->data.mask_keep);
}

static bool check_precision(const dt_config *c, char *text, size_t size) {
    if (c->run.device != DT_DEVICE_CPU || c->train.precision == DT_PRECISION_FP32) return false;
    return WRONG(
        "run.device = \"cpu\" computes in fp32 only: set train.precision = \"fp32\" or another device");
}

static bool check_backend(const dt_config *c, char *text, size_t size) {
    if (c->dist.backend != DT_COMM_NCCL) return false;
    if (c->run.device == DT_DEVICE_CPU)
        return WRONG("nccl needs GPUs, but run.device = \"cpu\": set dist.backend = \"auto\"");
    return false;
}

static bool check_synthetic(const dt_config *c, char *text, size_t size) {
    bool synthetic = strcmp(c->data.train, "synthetic") == 0 || strcmp(c->data.val, "synthetic") == 0;
    if (!synthetic || c->data.image_size > 0 || c->data.synthetic_fields[0]) return false;
    return WRONG("synthetic data has no stored size: set data.image_size");
}

static bool check_crop_pad(const dt_config *c, char *text, size_t size) {
    if (c->augment.crop != DT_CROP_PAD || c->augment.pad > 0) return false;
    return WRONG("augment.crop = \"pad\" needs a pad above 0 (or set augment.crop = \"none\")");
}

static bool check_scale(const dt_config *c, char *text, size_t size) {
    if (c->augment.scale_min <= c->augment.scale_max) return false;
    return WRONG("%g is above augment.scale_max = %g", c->augment.scale_min, c->augment.scale_max);
}

static bool check_ratio(const dt_config *c, char *text, size_t size) {
    if (c->augment.ratio_min <= c->augment.ratio_max) return false;
    return WRONG("%g is above augment.ratio_max = %g", c->augment.ratio_min, c->augment.ratio_max);
}

static bool check_mean(const dt_config *c, char *text, size_t size) {
    if (c->augment.n_mean == c->augment.n_stddev) return false;
    return WRONG("augment.mean is for %s, augment.std for %d: give both, one entry per channel",
                 dt_count_text(c->augment.n_mean, "channel").s, c->augment.n_stddev);
}

static bool check_eval_resize(const dt_config *c, char *text, size_t size) {
    const double resize = c->augment.eval_resize;
    const int64_t side = dt_data_image_side(&c->data, false);
    if (resize == 0 || resize >= (double)side) return false;
    return WRONG("%g is below data.%s = %lld: the centre crop would not fit", resize,
                 c->data.val_size > 0 ? "val_size" : "image_size", (long long)side);
}

static bool check_val_size(const dt_config *c, char *text, size_t size) {
    const bool other = c->data.val_size > 0 && c->data.val_size != c->data.image_size;
    if (!other || c->data.decoder != DT_DECODER_NVJPEG) return false;
    return WRONG("data.decoder = \"nvjpeg\" makes images of one size, data.image_size = %lld: set "
                 "data.decoder = \"cpu\"",
                 (long long)c->data.image_size);
}

/* Where the list does not have one entry for each stage. */
static bool wrong_count(const dt_config *c, int32_t n, const char *what, char *text, size_t size) {
    if (n == 0 || n == c->train.n_stage) return false;
    return WRONG("train.%s has %d entries, train.stage_epochs %d: give one for each stage", what, n,
                 c->train.n_stage);
}

static bool check_stages(const dt_config *c, char *text, size_t size) {
    const dt_train_options *t = &c->train;
    if (wrong_count(c, t->n_stage_size, "stage_sizes", text, size) ||
        wrong_count(c, t->n_stage_strength, "stage_strengths", text, size))
        return true;
    if (t->n_stage == 0) return false;
    if (t->n_stage_size + t->n_stage_strength == 0)
        return WRONG("stages that differ in nothing: give train.stage_sizes, train.stage_strengths or both");
    if (t->stage_epoch[0] != 0)
        return WRONG("the first stage begins with epoch 0, not %g", t->stage_epoch[0]);
    for (int32_t i = 1; i < t->n_stage; i++)
        if (!(t->stage_epoch[i] > t->stage_epoch[i - 1]))
            return WRONG("%g comes before %g: stages begin one after the other", t->stage_epoch[i - 1],
                         t->stage_epoch[i]);
    for (int32_t i = 0; i < t->n_stage_size; i++)
        if (t->stage_size[i] != floor(t->stage_size[i]))
            return WRONG("train.stage_sizes: %g is no whole number of pixels", t->stage_size[i]);
    if (t->n_stage_size > 0 && c->data.decoder == DT_DECODER_NVJPEG)
        return WRONG("data.decoder = \"nvjpeg\" makes images of one size: set data.decoder = \"cpu\"");
    return false;
}

static bool check_magnitude(const dt_config *c, char *text, size_t size) {
    if (c->augment.policy != DT_POLICY_RANDAUGMENT || c->augment.policy_magnitude < c->augment.policy_bins)
        return false;
    return WRONG("%lld is not below augment.policy_bins = %lld", (long long)c->augment.policy_magnitude,
                 (long long)c->augment.policy_bins);
}

static bool check_erase_scale(const dt_config *c, char *text, size_t size) {
    if (c->augment.erase_scale_min <= c->augment.erase_scale_max) return false;
    return WRONG("%g is above augment.erase_scale_max = %g", c->augment.erase_scale_min,
                 c->augment.erase_scale_max);
}

static bool check_erase_ratio(const dt_config *c, char *text, size_t size) {
    if (c->augment.erase_ratio_min <= c->augment.erase_ratio_max) return false;
    return WRONG("%g is above augment.erase_ratio_max = %g", c->augment.erase_ratio_min,
                 c->augment.erase_ratio_max);
}

static bool check_nesterov(const dt_config *c, char *text, size_t size) {
    if (c->optim.kind != DT_OPTIM_NESTEROV || c->optim.momentum > 0) return false;
    return WRONG("nesterov needs a momentum above 0 (or set optim.kind = \"sgd\")");
}

static bool check_milestones(const dt_config *c, char *text, size_t size) {
    if (c->schedule.kind == DT_SCHEDULE_STEP &&
        (c->schedule.n_milestones == 0) == (c->schedule.every_epochs == 0))
        return WRONG("schedule.kind = \"step\" needs milestones, e.g. [30.0, 60.0], or "
                     "schedule.every_epochs, and takes one "
                     "of the two");
    for (int32_t i = 1; i < c->schedule.n_milestones; i++)
        if (c->schedule.milestones[i] <= c->schedule.milestones[i - 1])
            return WRONG("must ascend, but %g follows %g", c->schedule.milestones[i],
                         c->schedule.milestones[i - 1]);
    return false;
}

static bool check_warmup_steps(const dt_config *c, char *text, size_t size) {
    if (c->schedule.warmup_steps == 0 || c->train.steps == 0 || c->schedule.warmup_steps < c->train.steps)
        return false;
    return WRONG("the warm-up of %s fills the whole run of train.steps = %lld",
                 dt_count_text(c->schedule.warmup_steps, "step").s, (long long)c->train.steps);
}

static bool check_warmup_epochs(const dt_config *c, char *text, size_t size) {
    bool used = c->schedule.warmup_steps == 0 && c->schedule.warmup_epochs > 0;
    if (!used || c->train.epochs == 0 || c->schedule.warmup_epochs < c->train.epochs) return false;
    return WRONG("the warm-up of %g epochs fills the whole run of train.epochs = %g",
                 c->schedule.warmup_epochs, c->train.epochs);
}

static bool check_keep_every(const dt_config *c, char *text, size_t size) {
    int64_t every = c->checkpoint.every_steps, keep = c->checkpoint.keep_every;
    bool only_steps = every > 0 && c->checkpoint.every_epochs == 0 && c->checkpoint.every_minutes == 0;
    if (!only_steps || keep % every == 0) return false;
    return WRONG("%lld is no multiple of checkpoint.every_steps = %lld: such checkpoints would never be made",
                 (long long)keep, (long long)every);
}

static bool check_resume(const dt_config *c, char *text, size_t size) {
    if (c->run.resume[0]) return false;
    return WRONG("is empty: \"auto\", \"never\", \"best\" or the path of a checkpoint");
}

static bool check_early_stop(const dt_config *c, char *text, size_t size) {
    if (c->train.early_stop_patience == 0) return false;
    if (!c->data.val[0]) return WRONG("evaluations decide, but data.val is not set");
    if (c->train.eval_every_epochs == 0)
        return WRONG("evaluations decide, but train.eval_every_epochs = 0 allows only one, at the end");
    return false;
}

static bool check_best_metric(const dt_config *c, char *text, size_t size) {
    const dt_task_row *task = dt_task_of(&c->model);
    if (dt_best_metric_fits(task, (dt_best_metric)c->checkpoint.best_metric)) return false;
    char list[128] = "eval_loss";
    for (int32_t i = 0; i < task->n_metric; i++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, ", eval_%s", task->metric[i].name);
    }
    return WRONG("\"%s\" is of another task: model.task = \"%s\" has %s",
                 dt_metric_choices[c->checkpoint.best_metric], task->name, list);
}

static bool check_layers(const dt_config *c, char *text, size_t size) {
    bool wanted = strcmp(c->model.name, "layers") == 0;
    if (wanted && c->model.n_layers == 0) return WRONG("\"layers\" needs [[model.layers]] entries");
    if (!wanted && c->model.n_layers > 0)
        return WRONG("\"%s\" would ignore [[model.layers]]: set model.name = \"layers\" or remove them",
                     c->model.name);
    return false;
}

static bool check_loss(const dt_config *c, char *text, size_t size) {
    const dt_task_row *task = dt_task_of(&c->model);
    char list[128] = "";
    bool known = strcmp(c->model.loss, "auto") == 0;
    for (int i = 0; i < DT_TASK_LOSSES_MAX && task->loss[i]; i++) {
        const size_t used = strlen(list);
        known = known || strcmp(c->model.loss, task->loss[i]) == 0;
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i ? ", " : "", task->loss[i]);
    }
    return known ? false
                 : WRONG("\"%s\" is of another task: model.task = \"%s\" has %s", c->model.loss, task->name,
                         list);
}

/* What a network gives by its nature is no answer to another question. */
static bool check_task(const dt_config *c, char *text, size_t size) {
    static const char own[] = "minimize";
    const dt_model_row *row = dt_model_find(c->model.name);
    const dt_task_row *task = dt_task_of(&c->model);
    if (!row || strcmp(row->task, own) != 0 || strcmp(task->name, own) == 0) return false;
    return WRONG("\"%s\", but %s gives how far it misses what it reads: set model.task = \"%s\"", task->name,
                 row->name, own);
}

static const struct {
    const char *key;
    check_fn *fn;
} check_table[] = {
    {"model.name", check_layers},
    {"model.task", check_task},
    {"model.loss", check_loss},
    {"run.resume", check_resume},
    {"data.image_size", check_synthetic},
    {"augment.pad", check_crop_pad},
    {"augment.scale_min", check_scale},
    {"augment.ratio_min", check_ratio},
    {"augment.mean", check_mean},
    {"augment.eval_resize", check_eval_resize},
    {"data.val_size", check_val_size},
    {"augment.policy_magnitude", check_magnitude},
    {"train.stage_epochs", check_stages},
    {"augment.erase_scale_min", check_erase_scale},
    {"augment.erase_ratio_min", check_erase_ratio},
    {"train.epochs", check_length},
    {"train.global_tokens", check_global_tokens},
    {"train.micro_batch", check_micro_batch},
    {"data.mask_random", check_mask},
    {"train.precision", check_precision},
    {"optim.momentum", check_nesterov},
    {"optim.groups", check_muon},
    {"schedule.milestones", check_milestones},
    {"schedule.warmup_steps", check_warmup_steps},
    {"schedule.warmup_epochs", check_warmup_epochs},
    {"dist.backend", check_backend},
    {"checkpoint.keep_every", check_keep_every},
    {"checkpoint.best_metric", check_best_metric},
    {"train.early_stop_patience", check_early_stop},
};

/* Where `key` was set; else the first key of its section; else the start of the file. */
static dt_place place_of_key(const dt_config *c, const char *key) {
    size_t section = (size_t)(strchr(key, '.') - key) + 1;
    dt_place best = {c->path, 1, 1};
    dt_config_key k;
    bool found = false;
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        if (c->set_at[i].line == 0) continue;
        const dt_place at = dt_config_place_of(c, i);
        if (strcmp(k.name, key) == 0) return at;
        if (strncmp(k.name, key, section) != 0 || at.line <= 0) continue;
        if (!found || at.line < best.line) best = at;
        found = true;
    }
    if (strcmp(key, "model.name") != 0 || c->layers_at.line == 0) return best;
    return c->layers_at.line < 0 ? (dt_place){"command line", 0, 0}
                                 : (dt_place){c->path, c->layers_at.line, c->layers_at.column};
}

static dt_status check_required(const dt_config *c) {
    dt_config_key k;
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        if (!(k.row->flags & DT_KEY_REQUIRED)) continue;
        if (dt_key_is_empty(k.row, dt_config_options_of(c, k.part)))
            return dt_key_fail(place_of_key(c, k.name), k.name, "is required: %s", k.row->help);
    }
    return DT_OK;
}

dt_status dt_config_check(const dt_config *c) {
    DT_TRY(check_required(c));
    for (size_t i = 0; i < sizeof check_table / sizeof check_table[0]; i++) {
        char text[512];
        if (!check_table[i].fn(c, text, sizeof text)) continue;
        return dt_key_fail(place_of_key(c, check_table[i].key), check_table[i].key, "%s", text);
    }
    return DT_OK;
}
