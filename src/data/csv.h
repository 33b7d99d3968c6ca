/* CSV as RFC 4180 has it, with a header: quoted values may hold commas, line breaks and doubled quotes. Lines
 * end with \n or \r\n; a byte order mark and empty lines are passed over. */
#ifndef DT_DATA_CSV_H
#define DT_DATA_CSV_H

#include "core/status.h"
#include "core/types.h"

/* One record: the values of the wanted columns, in the order they were asked for; valid during the call.
 * `line` (from 1) is where it begins. What it returns other than DT_OK ends the reading. */
typedef dt_status dt_csv_record(void *arg, int64_t line, const char *const *value);

/* Hands over every record below the header, which must have each of `column` once; others may stand beside
 * them. DT_ERR_DATA with path and line: cannot be read, no such column, or a record that is not sound. */
dt_status dt_csv_read(const char *path, const char *const *column, int32_t n_columns, dt_csv_record *record,
                      void *arg);

#endif
