/* Where an import of arrays has its rows from: .npy files, a .npz file, a CSV file. */
#ifndef DT_DATA_ARRAY_SOURCE_H
#define DT_DATA_ARRAY_SOURCE_H

#include "core/field.h"
#include "data/import.h"
#include "data/tokenizer.h"

typedef struct dt_array_source {
    int64_t n_rows;
    int32_t n_fields;
    dt_field field[DT_FIELDS_MAX];
    uint64_t identity; /* hash of the inputs */
    void *state;
    /* The rows `row` (ascending) of field k, one after the other. DT_ERR_DATA: one of them holds what is no
     * finite number. */
    dt_status (*load)(const void *state, int32_t k, const int64_t *row, int64_t n, void *dst);
    void (*close)(void *state);
} dt_array_source;

/* To be closed in any case. */
dt_status dt_source_npy(const dt_import_options *o, dt_array_source *out);
dt_status dt_source_npz(const dt_import_options *o, dt_array_source *out);
dt_status dt_source_csv(const dt_import_options *o, dt_array_source *out);
/* x alone: the columns that o->x names, NULL: all. */
dt_status dt_source_csv_inputs(const dt_import_options *o, dt_array_source *out);

/* The lines of a file of text as "tokens", i32 [context], and "lengths". */
dt_status dt_source_lines(const char *path, const dt_tokenizer *tokenizer, int64_t context,
                          dt_array_source *out);

static inline void dt_array_source_close(dt_array_source *s) {
    if (s->close) s->close(s->state);
    *s = (dt_array_source){.state = NULL};
}

#endif
