/* The weights of a network from elsewhere, by name: a run, a checkpoint of dtrain, or a file of tensors. */
#ifndef DT_TRAIN_WEIGHTS_H
#define DT_TRAIN_WEIGHTS_H

#include "model/options.h"
#include "model/weight.h"
#include "train/checkpoint.h"

/* What a file gave. Names are those of the network, ignored ones the file's. */
typedef struct dt_weights {
    char path[DT_KEY_STRING_MAX + 32]; /* what was read */
    const char *kind;                  /* "checkpoint", "safetensors" */
    int32_t n;                         /* taken */
    dt_ckpt_tensor *tensor;            /* "param/..." and "state/...", in dtrain's layout; owned */
    bool averaged;                     /* a checkpoint's averaged weights */
    uint64_t tokenizer_xxh3;           /* of the text that a checkpoint was trained on; 0: not known */
    int64_t grid[2][2];   /* of a table of positions: the file's grid, and the network's that it was
                                           resampled to; 0: none was */
    int32_t n_transposed; /* that were recognised as [in, out] */
    char taken_off[64], put_before[64]; /* of the names of the file, so that they fit; "": nothing */
    int32_t n_fresh, n_ignored;
    char (*fresh)[DT_NAME_MAX]; /* of the network, that the file did not give */
    char **ignored;             /* of the file, that the network does not have */
} dt_weights;

/* Reads those of `net` from o->from. One error lists all that is missing, unexpected or of another shape, as far as
 * o allows neither: DT_ERR_CONFIG; DT_ERR_CHECKPOINT or DT_ERR_DATA where the file is damaged. To be freed in any
 * case. */
dt_status dt_weights_read(const dt_weight_list *net, const dt_init_options *o, dt_weights *out);
void dt_weights_free(dt_weights *w);

#endif
