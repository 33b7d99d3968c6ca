/* Layer types: what a network is written of, in [[model.layers]] and in C. A row says the type's keys, over an
 * options struct of its own (builder.h), and how it becomes nodes of the graph; dt_layer_table is the only
 * place that knows the types. */
#ifndef DT_MODEL_LAYER_H
#define DT_MODEL_LAYER_H

#include "core/key.h"
#include "model/builder.h"

enum { DT_LAYER_IN_MAX = 32, DT_LAYER_OPTIONS_BYTES = 96 };

/* Adds the layer with its parameters, "<name>.weight" and so on, and returns its output; -1 after an error,
 * which sticks in the builder. */
typedef dt_vid dt_layer_build_fn(dt_builder *b, const char *name, const dt_vid *in, int32_t n_in,
                                 const void *options);

typedef struct dt_layer_row {
    const char *type;
    const dt_section *keys;         /* of its options struct; NULL: it has none */
    void (*resolve)(void *options); /* fills what follows from other keys; NULL: nothing does */
    int32_t min_in, max_in;
    dt_layer_build_fn *build; /* NULL: one node of `op` with `attr`, which may be NULL */
    dt_op op;
    const dt_attr *attr;
    const char *help;
    bool parts; /* it makes several values, "<name>.0" and so on, and gives the first */
} dt_layer_row;

extern const dt_layer_row dt_layer_table[];
extern const int dt_layer_count;
/* NULL where there is no such type. */
const dt_layer_row *dt_layer_find(const char *type);

/* Fills the type's options struct with its defaults; required keys are 0. */
void dt_layer_defaults(const dt_layer_row *row, void *options);
/* DT_ERR_CONFIG where an option has another value than its default and would be ignored beside the others. */
dt_status dt_layer_check_options(const dt_layer_row *row, const char *what, const void *options);
/* The layer's output for inputs `in`. options NULL: the defaults; a number in them that may not be 0 and is 0 was
 * not set, and is the default too. Errors, which stick: DT_ERR_CONFIG with name and type. */
dt_vid dt_layer_build(dt_builder *b, const dt_layer_row *row, const char *name, const dt_vid *in,
                      int32_t n_in, const void *options);

#endif
