/* [model]: its keys; the layers of [[model.layers]] are read by layer_read.c. */
#include "model/options.h"

#include <stdlib.h>

#include "core/key_rows.h"
#include "model/model.h"
#include "model/task.h"

static const char *const loss_names[] = {"auto", "cross_entropy", "bce", "mse", "l1", "huber", "value", NULL};

static const char *const pool_names[] = {[DT_POOL_TOKEN] = "token", [DT_POOL_MEAN] = "mean", NULL};

#define RESNETS "model.name = resnet*, resnext*, wide_resnet*"
/* Those whose batch norms have an eps of their own are left out. */
#define NORMED                                                                                               \
    "model.name = quickstart, resnet*, resnext*, wide_resnet*, mobilenet_v2, efficientnet_b0, "              \
    "efficientnet_b1, efficientnet_b2, efficientnet_b3, efficientnet_b4 | model.layers.type = batchnorm"
#define KEYS_OF dt_model_options
static const dt_key_row model_keys[] = {
    {STRING("name", name), MATHS, .choices = dt_model_choices, .listed = "dtrain models",
     .fallback = "resnet18", .help = "Built-in model, or layers for the [[model.layers]] of this file"},
    {CHOICE("task", task, dt_task_choices), LATER_MATHS, .fallback = "classify",
     .help =
         "What the network is for: classify: one class of several; multilabel: any number of labels, each 0 "
         "or 1 in the target; regress: the target's numbers; minimize: its own result, which is to be small; "
         "language: the next token of a text, logits [.., steps, vocabulary]"},
    {STRING("loss", loss), LATER_MATHS, .choices = loss_names, .fallback = "auto",
     .help = "Where the task has a choice: regress has mse, l1 and huber. auto: its first"},
    {STRING("target", target), LATER_MATHS, .fallback = "",
     .only = "model.task = classify, multilabel, regress, language",
     .help = "Field of the data that holds what the network is to give; empty: label, y or target"},
    {FLOAT("huber_delta", huber_delta, 0, 1e30), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "1.0", .only = "model.loss = huber", .help = "Where huber's square becomes a line"},
    {FLOAT("pos_weight", pos_weight, 0, 1e30), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "1.0", .only = "model.task = multilabel", .help = "Weight of labels that are 1"},
    {INT("classes", classes, 0, 1 << 20), MATHS, .fallback = "0", .only = "model.task = classify",
     .help = "Outputs of the classifier; 0: as many as the data has classes"},
    {BOOL("small_stem", small_stem), MATHS, .fallback = "false", .only = RESNETS,
     .help = "3x3 stem with stride 1 and no max-pool, for images of about 32 pixels"},
    {BOOL("zero_init_residual", zero_init_residual), MATHS, .fallback = "true", .only = RESNETS,
     .help = "The last batch-norm of each block starts with weight 0, so that blocks start as "
             "identities"},
    {FLOAT("bn_momentum", bn_momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "0.1",
     .only = NORMED, .help = "Weight of the new batch in the running statistics of batch-norm"},
    {FLOAT("bn_eps", bn_eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-5",
     .only = NORMED, .help = "Added to the variance in batch-norm"},
    {FLOAT("dropout", dropout, -1, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MAX,
     .fallback = "-1.0", .only = "model.name = efficientnet*, mobilenet*, vit*, deit*",
     .help = "Part of the values dropped in training where the network drops some; -1: as it was published"},
    {FLOAT("drop_path", drop_path, -1, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MAX,
     .fallback = "-1.0", .only = "model.name = efficientnet*, convnext*, vit*, deit*",
     .help = "Part of the samples whose last residual branch is dropped in training, growing from 0 at the "
             "first; -1: as it was published"},
    {CHOICE("pool", pool, pool_names), LATER_MATHS, .fallback = "token", .only = "model.name = vit*",
     .help = "What the head of a vision transformer reads: its token, or the mean of all patches, and then "
             "there is no token"},
};
const dt_section dt_model_section = SECTION("model", model_keys);
#undef KEYS_OF

void dt_model_options_fini(dt_model_options *o) {
    free(o->layers);
    o->layers = NULL;
    o->n_layers = 0;
}
