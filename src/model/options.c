/* [model]: its keys; the layers of [[model.layers]] are read by layer_read.c. */
#include "model/options.h"

#include <stdlib.h>

#include "core/key_rows.h"
#include "model/model.h"

#define KEYS_OF dt_model_options
static const dt_key_row model_keys[] = {
    {STRING("name", name), MATHS, .choices = dt_model_choices, .fallback = "resnet18",
     .help = "Built-in model, or layers for the [[model.layers]] of this file"},
    {INT("classes", classes, 0, 1 << 20), MATHS, .fallback = "0",
     .help = "Outputs of the classifier; 0: as many as the data has classes"},
    {BOOL("small_stem", small_stem), MATHS, .fallback = "false",
     .help = "ResNet: 3x3 stem with stride 1 and no max-pool, for images of about 32 pixels"},
    {BOOL("zero_init_residual", zero_init_residual), MATHS, .fallback = "true",
     .help = "ResNet: the last batch-norm of each block starts with weight 0, so that blocks start as "
             "identities"},
    {FLOAT("bn_momentum", bn_momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "0.1",
     .help = "Weight of the new batch in the running statistics of batch-norm"},
    {FLOAT("bn_eps", bn_eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-5",
     .help = "Added to the variance in batch-norm"},
};
const dt_section dt_model_section = SECTION("model", model_keys);
#undef KEYS_OF

void dt_model_options_fini(dt_model_options *o) {
    free(o->layers);
    o->layers = NULL;
    o->n_layers = 0;
}
