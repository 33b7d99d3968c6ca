/* Fields as JSON, for index.json and checkpoints: a list of {"name", "dtype", "shape" of a row}. */
#ifndef DT_DATA_FIELD_JSON_H
#define DT_DATA_FIELD_JSON_H

#include <jansson.h>

#include "core/field.h"

/* NULL when out of memory. */
json_t *dt_fields_to_json(int32_t n, const dt_field *field);
/* False where the list is none of sound fields, or of more than DT_FIELDS_MAX. */
bool dt_fields_from_json(const json_t *list, int32_t *n, dt_field *field);

#endif
