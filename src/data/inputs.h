/* Inputs as the data room sees them. */
#ifndef DT_DATA_INPUTS_INTERNAL_H
#define DT_DATA_INPUTS_INTERNAL_H

#include <stdatomic.h>

#include "array_source.h"
#include "data/inputs.h"
#include "dataset.h"
#include "source.h"

/* An image file, or what could not even be listed. */
typedef struct dt_input_file {
    char *path;
    char *error; /* NULL: to be read */
} dt_input_file;

/* What one name stands for: a file, or all samples of a set or of a table. */
typedef struct dt_inputs_part {
    dt_input_file file;
    dt_dataset *set;             /* NULL: none */
    dt_array_source table;       /* of arrays: rows of a file that is no set; `state` NULL: none */
    int32_t from[DT_FIELDS_MAX]; /* of arrays: where the part has each field of the data; -1: not read */
} dt_inputs_part;

typedef struct dt_inputs {
    const dt_data_facts *facts;
    int64_t n, capacity;
    dt_inputs_part *part;
    int64_t *first; /* [n + 1] first sample of each part */
    int64_t n_ignored;
    _Atomic int64_t n_resized;
} dt_inputs;

/* `set` (may be NULL) is taken over. */
dt_status dt_inputs_add(dt_inputs *in, const char *path, dt_dataset *set);
/* The current error text, under this name. */
dt_status dt_inputs_add_failed(dt_inputs *in, const char *path);
/* When all are added. */
dt_status dt_inputs_number(dt_inputs *in);
void dt_inputs_free(dt_inputs *in); /* accepts NULL */
void dt_inputs_locate(const dt_inputs *in, int64_t sample, dt_sample *out);
/* Reads the file and checks all of it, as an import does; an error names it. Callable from several
 * threads. */
dt_status dt_input_load(dt_inputs *in, const dt_input_file *file, dt_jpeg *decoder, dt_item *out);

#endif
