/* [model]: its keys; the layers of [[model.layers]] are read by layer_read.c. */
#include "model/options.h"

#include <stdlib.h>

#include "core/key_rows.h"
#include "model/model.h"
#include "model/task.h"

static const char *const loss_names[] = {"auto", "cross_entropy", "bce", "mse", "l1", "huber", "value", NULL};

static const char *const head_names[] = {[DT_INIT_HEAD_SAME] = "same", [DT_INIT_HEAD_NEW] = "new", NULL};

static const char *const pool_names[] = {[DT_POOL_TOKEN] = "token", [DT_POOL_MEAN] = "mean", NULL};
static const char *const freeze_names[] = {
    [DT_FREEZE_NONE] = "none", [DT_FREEZE_ALL_BUT_HEAD] = "all_but_head", NULL};

#define LLAMAS       "llama*, smollm*, tinyllama*"
#define TRANSFORMERS "gpt2*, bert*, " LLAMAS
#define TEXT_NETS    TRANSFORMERS ", lstm_*, gru_lm"
#define RESNETS      "model.name = resnet*, resnext*, wide_resnet*"
/* Those whose batch norms have an eps of their own are left out. */
#define NORMED                                                                                               \
    "model.name = quickstart, resnet*, resnext*, wide_resnet*, mobilenet_v2, efficientnet_b0, "              \
    "efficientnet_b1, efficientnet_b2, efficientnet_b3, efficientnet_b4 | model.layers.type = batchnorm"
#define KEYS_OF dt_model_options
static const dt_key_row model_keys[] = {
    {STRING("name", name), MATHS, .choices = dt_model_choices, .listed = "dtrain models",
     .fallback = "resnet18",
     .help = "Built-in model, layers for the [[model.layers]] of this file, or file for a network in another "
             "one"},
    {STRING("path", path), LATER_MATHS, .fallback = "", .only = "model.name = file",
     .help = "The file with the network, an .onnx: its inputs are the data's images, tokens or fields of the "
             "same "
             "names, "
             "its weights begin as the file has them, and its first output is what is trained"},
    {STRING("path_xxh3", path_xxh3), LATER_MATHS, .fallback = "", .only = "model.name = file",
     .help =
         "The hash of that file, which a run writes into its configuration: another file is refused. Empty: "
         "any"},
    {CHOICE("task", task, dt_task_choices), LATER_MATHS, .fallback = "classify",
     .help =
         "What the network is for: classify: one class of several; multilabel: any number of labels, each 0 "
         "or 1 in the target; regress: the target's numbers; minimize: its own result, which is to be small; "
         "language: the next token of a text, logits [.., steps, vocabulary]; masked_language: the tokens "
         "hidden in it"},
    {STRING("loss", loss), LATER_MATHS, .choices = loss_names, .fallback = "auto",
     .help = "Where the task has a choice: regress has mse, l1 and huber; classify has cross_entropy and "
             "bce, the "
             "mean over the classes of each one's logistic loss. auto: its first"},
    {STRING("target", target), LATER_MATHS, .fallback = "",
     .only = "model.task = classify, multilabel, regress, language, masked_language",
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
    {BOOL("small_stem", small_stem), MATHS, .fallback = "false", .only = RESNETS,
     .help = "3x3 stem with stride 1 and no max-pool, for images of about 32 pixels"},
    {BOOL("zero_init_residual", zero_init_residual), MATHS, .fallback = "true", .only = RESNETS,
     .help = "The last batch-norm of each block starts with weight 0, so that blocks start as "
             "identities"},
    {FLOAT("bn_momentum", bn_momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "0.1",
     .only = NORMED, .help = "Weight of the new batch in the running statistics of batch-norm"},
    {FLOAT("bn_eps", bn_eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-5",
     .only = NORMED, .help = "Added to the variance in batch-norm"},
    {INT("vocab", vocab, 0, 1 << 24), LATER_MATHS, .fallback = "0", .only = "model.name = " TEXT_NETS,
     .help = "Rows of the table of words; more than the data's vocabulary has are for round sizes, or for "
             "weights of a larger one. 0: as many"},
    {INT("positions", positions, 0, 1 << 24), LATER_MATHS, .fallback = "0",
     .only = "model.name = gpt2*, bert*",
     .help = "Places that there are learnt vectors for; 0: data.context"},
    {INT("blocks", blocks, 0, 1 << 10), LATER_MATHS, .fallback = "0", .only = "model.name = " TEXT_NETS,
     .help = "Blocks, of recurrent networks layers; 0: as the name says"},
    {INT("channels", channels, 0, 1 << 16), LATER_MATHS, .fallback = "0", .only = "model.name = " TEXT_NETS,
     .help = "Width of the network, of recurrent networks of the embedding; 0: as the name says"},
    {INT("hidden", hidden, 0, 1 << 18), LATER_MATHS, .fallback = "0", .only = "model.name = " TEXT_NETS,
     .help = "Width within a block, of recurrent networks of the states; 0: as the name says, with "
             "model.channels set in the same proportion"},
    {INT("heads", heads, 0, 1 << 12), LATER_MATHS, .fallback = "0", .only = "model.name = " TRANSFORMERS,
     .help = "Heads of attention; 0: as the name says, with model.channels set as many of the same size"},
    {INT("kv_heads", kv_heads, 0, 1 << 12), LATER_MATHS, .fallback = "0", .only = "model.name = " LLAMAS,
     .help = "Heads of keys and values, which those of the queries share; 0: in the network's proportion"},
    {BOOL("tied", tied), LATER_MATHS, .fallback = "false", .only = "model.name = lstm_lm, gru_lm",
     .help = "The last layer has the weight of the embedding"},
    {CHOICE("freeze", freeze, freeze_names), LATER_MATHS, .fallback = "none",
     .help = "all_but_head: only the last layer is trained, on what the rest of the network gives in "
             "evaluation: its "
             "batch norms use their running statistics, which stay, and nothing is dropped (a linear probe). "
             "[[optim.groups]] go on from there"},
    {STRING("init_from", init.from), LATER_MATHS, .fallback = "",
     .help = "Weights that a new run begins with instead of drawing them: a run, a checkpoint, a file in "
             "safetensors, the "
             "index of several, or a state_dict of PyTorch. A run that is resumed does not look at it"},
    {CHOICE("init_head", init.head, head_names), LATER_MATHS, .fallback = "same",
     .only = "model.init_from | model.name = file",
     .help = "new: the last layer is drawn anew, for other classes than those of the file"},
    {PAIRS("init_rename", init.rename, init.n_rename), LATER_MATHS, .fallback = "[]",
     .only = "model.init_from",
     .help = "Names of the file and what they are here, `*` for any characters, else a beginning: "
             "[[\"backbone.*\", "
             "\"*\"], [\"classifier.\", \"fc.\"]]; of several that fit the first counts"},
    {NAMES("init_transpose", init.transposed, init.n_transposed), LATER_MATHS, .fallback = "[]",
     .only = "model.init_from",
     .help = "Names here, `*` for any characters, of matrices that the file has as [in, out], as GPT-2's in "
             "Hugging "
             "Face's files; one that fits no other way is recognised"},
    {BOOL("init_strict", init.strict), LATER_MATHS, .fallback = "true", .only = "model.init_from",
     .help = "Whether weights that the file lacks, or that the network lacks, are an error; false: the ones "
             "are drawn, "
             "the others left out, and both are listed"},
    {FLOAT("dropout", dropout, -1, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MAX,
     .fallback = "-1.0", .only = "model.name = efficientnet*, mobilenet*, vit*, deit*, mlp, " TEXT_NETS,
     .help = "Part of the values dropped in training where the network drops some: of text the embedding, "
             "attention's "
             "weights and what each block adds, or what goes between recurrent layers. -1: as it was "
             "published, of "
             "text 0"},
    {FLOAT("drop_path", drop_path, -1, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MAX,
     .fallback = "-1.0", .only = "model.name = efficientnet*, convnext*, vit*, deit*",
     .help = "Part of the samples whose last residual branch is dropped in training, growing from 0 at the "
             "first; -1: as it was published"},
    {CHOICE("pool", pool, pool_names), LATER_MATHS, .fallback = "token", .only = "model.name = vit*",
     .help = "What the head of a vision transformer reads: its token, or the mean of all patches, and then "
             "there is no token"},
    {INT("patch", patch, 0, 1 << 10), LATER_MATHS, .fallback = "0", .only = "model.name = vit*, deit*",
     .help =
         "Height and width of the patches of a vision transformer, for small images; 0: as the name says"},
    {FLOATS("widths", widths, n_width, 1, 1 << 20), LATER_MATHS, .fallback = "[]",
     .only = "model.name = mlp, autoencoder, conv_autoencoder",
     .help = "Widths of the hidden layers, whole numbers; of an autoencoder those of the encoder, whose "
             "mirror image "
             "the decoder is; []: as published"},
};
const dt_section dt_model_section = SECTION("model", model_keys);
#undef KEYS_OF

void dt_model_options_fini(dt_model_options *o) {
    free(o->layers);
    o->layers = NULL;
    o->n_layers = 0;
}
