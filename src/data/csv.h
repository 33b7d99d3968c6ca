/* CSV as RFC 4180 has it, with a header: quoted values may hold commas, line breaks and doubled quotes. Lines
 * end with \n or \r\n; a byte order mark and empty lines are passed over. */
#ifndef DT_DATA_CSV_H
#define DT_DATA_CSV_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_csv {
    char **column; /* [n_columns] the header's names */
    char **value;  /* [n_columns] of the current record */
    int64_t begin; /* the line where it begins, from 1 */
    int32_t n_columns;
    /* private */
    int32_t n_values, capacity;
    const char *path;
    char *text, *at, *end;
    int64_t line; /* of `at` */
} dt_csv;

/* Reads the header. `path` is borrowed. DT_ERR_DATA with path and line: cannot be read, or is not sound. Closed
 * by dt_csv_close in any case. */
dt_status dt_csv_open(const char *path, dt_csv *out);
void dt_csv_close(dt_csv *c);
/* Where the column of this name stands. DT_ERR_DATA where there is none, or two of them. */
dt_status dt_csv_column(const dt_csv *c, const char *name, int32_t *place);
/* The next record that is not an empty line; *found false: there is none. DT_ERR_DATA: it is not sound. */
dt_status dt_csv_next(dt_csv *c, bool *found);

/* One record: the values of the wanted columns, in the order they were asked for; valid during the call.
 * `line` (from 1) is where it begins. What it returns other than DT_OK ends the reading. */
typedef dt_status dt_csv_record(void *arg, int64_t line, const char *const *value);

/* Hands over every record below the header, which must have each of `column` once; others may stand beside
 * them. Errors as above. */
dt_status dt_csv_read(const char *path, const char *const *column, int32_t n_columns, dt_csv_record *record,
                      void *arg);

#endif
