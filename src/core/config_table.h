/* The configuration's tables, shared by the files that parse, check, write and document it.
 * Private to the room: everyone else includes core/config.h. */
#ifndef DT_CORE_CONFIG_TABLE_H
#define DT_CORE_CONFIG_TABLE_H

#include "core/config.h"
#include "core/text.h"
#include "toml_shim.h"

typedef enum dt_key_kind {
    DT_KEY_BOOL = 0,
    DT_KEY_INT,
    DT_KEY_FLOAT,
    DT_KEY_STRING,
    DT_KEY_CHOICE, /* int64_t field; the index in `choices` is the enum's value */
    DT_KEY_FLOATS  /* double[], with the count in an int32_t field */
} dt_key_kind;

enum {
    DT_KEY_REQUIRED = 1u << 0,
    DT_KEY_OPEN_MIN = 1u << 1, /* the minimum itself is out of range */
    DT_KEY_OPEN_MAX = 1u << 2,
    DT_KEY_MATHS = 1u << 3 /* changes what is learnt: part of dt_config_hash */
};

/* One key of a struct at `offset` bytes. */
typedef struct dt_key_row {
    const char *key; /* "optim.lr"; of a layer: "channels" */
    dt_key_kind kind;
    uint32_t flags;
    size_t offset;
    size_t size;                /* STRING: bytes of the field; FLOATS: entries of the field */
    size_t count_offset;        /* FLOATS */
    double min, max;            /* INT, FLOAT, FLOATS */
    const char *const *choices; /* CHOICE, STRING: NULL-terminated; NULL for a free string */
    const char *fallback;       /* the default as TOML; NULL where required or derived */
    const char *help;
} dt_key_row;

extern const dt_key_row dt_key_table[];
extern const int dt_key_count;

/* Layers: the keys of a [[model.layers]] entry beside "type", and what each type makes of them. */
typedef enum dt_layer_key {
    DT_LAYER_KEY_NAME = 0,
    DT_LAYER_KEY_FROM,
    DT_LAYER_KEY_WITH,
    DT_LAYER_KEY_CHANNELS,
    DT_LAYER_KEY_KERNEL,
    DT_LAYER_KEY_STRIDE,
    DT_LAYER_KEY_PAD,
    DT_LAYER_KEY_DILATION,
    DT_LAYER_KEY_GROUPS,
    DT_LAYER_KEY_BIAS,
    DT_LAYER_KEY_RATE,
    DT_LAYER_KEY_COUNT
} dt_layer_key;

typedef struct dt_layer_row {
    const char *type;
    uint32_t accepts, requires; /* bit per dt_layer_key */
    dt_layer_config fallback;   /* defaults of this type; stride 0: the kernel */
    const char *help;
} dt_layer_row;

extern const dt_key_row dt_layer_key_table[DT_LAYER_KEY_COUNT];
extern const dt_layer_row dt_layer_table[];
extern const int dt_layer_count;
/* NULL where there is no such type. */
const dt_layer_row *dt_layer_row_find(const char *type);

/* Where a message points: the file, or with line 0 the command line. */
typedef struct dt_place {
    const char *name;
    int32_t line, column;
} dt_place;

/* dt_fail(DT_ERR_CONFIG) with "name:line:column: key: text"; key may be NULL. */
dt_status dt_config_fail(dt_place at, const char *key, const char *fmt, ...) DT_MUST_CHECK DT_PRINTF(3, 4);

/* A configuration being read: where each key was set, for messages of later checks. */
typedef struct dt_config_reader {
    dt_config *config;
    const char *name;   /* of the file */
    dt_place *set_at;   /* [dt_key_count]; name NULL: not set */
    dt_place layers_at; /* of model.layers */
} dt_config_reader;

/* Sets the row's field within `base` after checking kind, range and choices. `key`: as shown in messages. */
dt_status dt_key_set(const dt_key_row *row, const char *key, void *base, const dt_toml_value *v, dt_place at);
/* Sets the field to the row's default. */
void dt_key_set_default(const dt_key_row *row, void *base);
/* Prints the field's value as TOML. */
void dt_key_print(const dt_key_row *row, const void *base, FILE *out);
/* `prefix` and 'from 0 to 1' or '"a" or "b"'; nothing where any value goes. */
void dt_key_print_range(const dt_key_row *row, const char *prefix, FILE *out);
const char *dt_key_kind_name(dt_key_kind kind);

/* Replaces the layers by those of `v`. */
dt_status dt_config_read_layers(dt_config_reader *r, const dt_toml_value *v, const char *name);
/* Everything that one key alone cannot tell. */
dt_status dt_config_check(const dt_config_reader *r);

#endif
