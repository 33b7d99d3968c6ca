/* [model]: its keys; the layers of [[model.layers]] are read by layer_read.c. */
#include "model/options.h"

#include <stdlib.h>

#include "core/key_rows.h"
#include "model/model.h"
#include "model/task.h"

static const char *const loss_names[] = {"auto", "cross_entropy", "bce", "mse", "l1", "huber", "value", NULL};

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
     .help = "Where the task has a choice: regress has mse, l1 and huber; classify has cross_entropy and "
             "bce, the "
             "mean over the classes of each one's logistic loss. auto: its first"},
    {STRING("target", target), LATER_MATHS, .fallback = "",
     .only = "model.task = classify, multilabel, regress, language",
     .help = "Field of the data that holds what the network is to give; empty: label, y or target"},
    {FLOAT("huber_delta", huber_delta, 0, 1e30), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "1.0", .only = "model.loss = huber", .help = "Where huber's square becomes a line"},
    {FLOAT("pos_weight", pos_weight, 0, 1e30), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "1.0", .only = "model.task = multilabel", .help = "Weight of labels that are 1"},
    {FLOAT("bce_threshold", bce_threshold, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MAX,
     .fallback = "0.0", .only = "model.task = classify & model.loss = bce",
     .help = "In training a class counts as fully present where smoothing and mixing leave it more than "
             "this, else "
             "as absent; 0: the parts are the targets themselves"},
    {INT("classes", classes, 0, 1 << 20), MATHS, .fallback = "0", .only = "model.task = classify",
     .help = "Outputs of the classifier; 0: as many as the data has classes"},
    {BOOL("small_stem", small_stem), MATHS, .fallback = "false", .only = "model.name = resnet*",
     .help = "3x3 stem with stride 1 and no max-pool, for images of about 32 pixels"},
    {BOOL("zero_init_residual", zero_init_residual), MATHS, .fallback = "true",
     .only = "model.name = resnet*",
     .help = "The last batch-norm of each block starts with weight 0, so that blocks start as "
             "identities"},
    {FLOAT("bn_momentum", bn_momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "0.1",
     .only = "model.name = quickstart, resnet* | model.layers.type = batchnorm",
     .help = "Weight of the new batch in the running statistics of batch-norm"},
    {FLOAT("bn_eps", bn_eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-5",
     .only = "model.name = quickstart, resnet* | model.layers.type = batchnorm",
     .help = "Added to the variance in batch-norm"},
};
const dt_section dt_model_section = SECTION("model", model_keys);
#undef KEYS_OF

void dt_model_options_fini(dt_model_options *o) {
    free(o->layers);
    o->layers = NULL;
    o->n_layers = 0;
}
