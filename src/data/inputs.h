/* Inputs as the data room sees them. */
#ifndef DT_DATA_INPUTS_INTERNAL_H
#define DT_DATA_INPUTS_INTERNAL_H

#include "data/inputs.h"
#include "dataset.h"
#include "source.h"

typedef struct dt_inputs dt_inputs;

/* An image file, or what could not even be listed. */
typedef struct dt_input_file {
    char *path;
    char *error; /* NULL: to be read */
} dt_input_file;

void dt_inputs_free(dt_inputs *in); /* accepts NULL */
void dt_inputs_locate(const dt_inputs *in, int64_t sample, dt_sample *out);
/* Reads the file and checks all of it, as an import does; an error names it. Callable from several
 * threads. */
dt_status dt_input_load(dt_inputs *in, const dt_input_file *file, dt_jpeg *decoder, dt_item *out);

#endif
