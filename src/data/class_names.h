/* A list of class names, in the order of their labels. Names are compared byte by byte: letters that look the
 * same but are written otherwise (capitals, other Unicode normalisation) make other names. */
#ifndef DT_DATA_CLASS_NAMES_H
#define DT_DATA_CLASS_NAMES_H

#include <stddef.h>

#include "core/status.h"
#include "core/types.h"

typedef struct dt_class_names {
    char *text;     /* the names, separated by line breaks, as shards hold them; NULL: no list */
    char **name;    /* [n] */
    int32_t *order; /* [n] labels in the byte order of their names */
    int64_t n;
} dt_class_names;

/* Of a text file with a name a line, or of a data set (a directory of shards). Line ends of other systems, a
 * byte order mark and empty lines at the end are taken off. DT_ERR_DATA with the line: an empty name, one
 * that is there already, one that is not UTF-8; or the data set has none. */
dt_status dt_class_names_read(const char *path, dt_class_names *out);

/* Of a text that separates them by line breaks, which is copied; `path` says in errors where it is from. */
dt_status dt_class_names_make(const char *path, const char *text, dt_class_names *out);

void dt_class_names_close(dt_class_names *c);

/* The label of a name; -1 where it is not in the list. */
int64_t dt_class_names_find(const dt_class_names *c, const char *name);

/* The listed name that a missing one may have been meant to be: equal but for capitals and the blanks around
 * it; NULL if there is none. */
const char *dt_class_names_near(const dt_class_names *c, const char *name);

/* Whether JSON, and so index.json, can hold it. */
bool dt_utf8_is(const char *text, size_t n);

/* For messages: what cannot be printed as \xHH, cut short to fit. */
void dt_name_escape(const char *name, char *out, size_t out_bytes);

#endif
