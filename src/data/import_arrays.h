/* The course of an import of arrays, as import.c has that of images. */
#ifndef DT_DATA_IMPORT_ARRAYS_H
#define DT_DATA_IMPORT_ARRAYS_H

#include "array_source.h"

/* `kind`: its name. Options that are not for arrays have been refused. */
dt_status dt_import_arrays(const dt_import_options *o, const char *kind,
                           dt_status (*open)(const dt_import_options *o, dt_array_source *out),
                           dt_import_result *out);

#endif
