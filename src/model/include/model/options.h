/* What a model may be told: its keys, and the layers of [[model.layers]]. */
#ifndef DT_MODEL_OPTIONS_H
#define DT_MODEL_OPTIONS_H

#include "model/layer.h"
#include "model/lora.h"

enum { DT_WIDTHS_MAX = 16, DT_LAYERS_MAX = 512, DT_MODEL_LOSSES_MAX = DT_LOSSES_MAX - 1 };

/* One [[model.layers]] entry. */
typedef struct dt_layer_entry {
    const dt_layer_row *row;
    char name[DT_KEY_NAME_MAX]; /* "layer<i>" where none was given */
    char from[DT_KEY_NAME_MAX]; /* an earlier layer, a field of the data, "input"; "": the layer before */
    char with[DT_LAYER_IN_MAX - 1][DT_KEY_NAME_MAX]; /* the inputs after the first */
    int32_t n_with;
    int32_t line;                                                        /* of the file, for messages */
    _Alignas(max_align_t) unsigned char options[DT_LAYER_OPTIONS_BYTES]; /* the struct of the row */
} dt_layer_entry;

/* The keys of an entry beside "type" and those of its type: name, from, with. */
extern const dt_section dt_layer_entry_section;
/* Whether entries of this type may, or must, have `with`. */
bool dt_layer_takes(const dt_layer_row *type, const dt_key_row *entry_key);
bool dt_layer_needs(const dt_layer_row *type, const dt_key_row *entry_key);

/* One [[model.losses]] entry: a loss beside the task's. */
typedef struct dt_loss_entry {
    char of[DT_KEY_NAME_MAX];       /* the layer that it judges */
    char name[DT_KEY_NAME_MAX];     /* reported as loss_<name>; "": the layer's */
    char target[DT_FIELD_NAME_MAX]; /* field of the data; "": as the task's */
    int64_t kind;                   /* of dt_loss_kinds */
    double weight, param;
    int32_t line; /* of the file, for messages */
} dt_loss_entry;
extern const dt_section dt_loss_entry_section;

enum { DT_INIT_ENTRIES_MAX = 32 };
typedef enum dt_init_head { DT_INIT_HEAD_SAME = 0, DT_INIT_HEAD_NEW } dt_init_head;

typedef enum dt_freeze { DT_FREEZE_NONE = 0, DT_FREEZE_ALL_BUT_HEAD } dt_freeze;

/* Where weights come from instead of being drawn; each key is documented in its row. */
typedef struct dt_init_options {
    char from[DT_KEY_STRING_MAX];
    char rename[DT_INIT_ENTRIES_MAX][2][DT_NAME_MAX];
    int32_t n_rename;
    char transposed[DT_INIT_ENTRIES_MAX][DT_NAME_MAX];
    int32_t n_transposed;
    int64_t head; /* dt_init_head */
    bool strict;
} dt_init_options;
/* What the head of a vision transformer reads. */
typedef enum dt_pool_kind { DT_POOL_TOKEN = 0, DT_POOL_MEAN } dt_pool_kind;

/* [model]; each key is documented in its row. */
typedef struct dt_model_options {
    char name[64];                /* one of dt_model_choices */
    char path[DT_KEY_STRING_MAX]; /* file: where it is */
    char path_xxh3[20];           /* its hash, in hexadecimal; "": it is not known */
    int64_t task;                 /* of dt_task_choices */
    char loss[24];                /* of the task; "auto": its first */
    char target[DT_FIELD_NAME_MAX];
    double huber_delta, pos_weight, bce_threshold;
    int64_t classes; /* 0: from the data */
    bool small_stem; /* resnet: 3x3/1 stem without max-pool, for 32 px images */
    bool zero_init_residual;
    double bn_momentum, bn_eps;
    /* networks of text; 0: the network's own */
    int64_t vocab, positions; /* 0: as the data has */
    int64_t blocks, channels, heads, kv_heads, hidden;
    bool tied;                    /* of recurrent language models */
    double dropout, drop_path;    /* -1: as the network was published */
    int64_t pool;                 /* vit: dt_pool_kind */
    int64_t patch;                /* vit, deit: pixels; 0: as the name says */
    double widths[DT_WIDTHS_MAX]; /* mlp and autoencoders: widths; none: as the table of models says */
    int32_t n_width;
    int32_t n_layers;
    dt_layer_entry *layers;              /* owned */
    char layers_file[DT_KEY_STRING_MAX]; /* where they stand, for messages */
    int32_t n_losses;
    dt_loss_entry losses[DT_MODEL_LOSSES_MAX];
    char losses_file[DT_KEY_STRING_MAX];
    dt_init_options init;
    int64_t freeze;       /* dt_freeze */
    dt_lora_options lora; /* [lora] */
} dt_model_options;
extern const dt_section dt_model_section;

/* Names of the models, ending in NULL: the choices of model.name. */
extern const char *const dt_model_choices[];

/* Frees the layers. Harmless twice. */
void dt_model_options_fini(dt_model_options *o);

/* Replaces the layers by those of `v`, an array of tables; `name` is the file's, or "command line". Checks
 * keys and names; what they refer to and shapes are the graph's affair. Errors: DT_ERR_CONFIG with line, column and
 * entry. */
dt_status dt_model_read_layers(dt_model_options *o, const dt_toml_value *v, const char *name);
/* The same of [[model.losses]]. */
dt_status dt_model_read_losses(dt_model_options *o, const dt_toml_value *v, const char *name);
/* Prints both as TOML that reads back. */
void dt_model_print_entries(const dt_model_options *o, FILE *out);

#endif
