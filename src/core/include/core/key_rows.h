/* For the files that state key rows, after `#define KEYS_OF struct`, which may be defined anew for each table:
 * {INT("prefetch", prefetch, 1, 256), .fallback = "4", .help = "Batches kept ready"}. */
#ifndef DT_CORE_KEY_ROWS_H
#define DT_CORE_KEY_ROWS_H

#include <math.h>

#include "core/key.h"

#define KEY(name, kind_, field)                                                                              \
    .key = name, .kind = kind_, .offset = offsetof(KEYS_OF, field), .size = sizeof(((KEYS_OF *)0)->field)
#define BOOL(name, field)              KEY(name, DT_KEY_BOOL, field)
#define CHOICE(name, field, names)     KEY(name, DT_KEY_CHOICE, field), .choices = names
#define STRING(name, field)            KEY(name, DT_KEY_STRING, field)
#define INT(name, field, min_, max_)   KEY(name, DT_KEY_INT, field), .min = min_, .max = max_
#define FLOAT(name, field, min_, max_) KEY(name, DT_KEY_FLOAT, field), .min = min_, .max = max_
#define ENTRIES(name, kind_, field, count)                                                                   \
    .key = name, .kind = kind_, .offset = offsetof(KEYS_OF, field),                                          \
    .size = sizeof(((KEYS_OF *)0)->field) / sizeof(((KEYS_OF *)0)->field[0]),                                \
    .entry = sizeof(((KEYS_OF *)0)->field[0]), .count_offset = offsetof(KEYS_OF, count)
#define FLOATS(name, field, count, min_, max_)                                                               \
    ENTRIES(name, DT_KEY_FLOATS, field, count), .min = min_, .max = max_
#define NAMES(name, field, count) ENTRIES(name, DT_KEY_NAMES, field, count)
#define PAIRS(name, field, count) ENTRIES(name, DT_KEY_PAIRS, field, count)
#define MATHS                     .flags = DT_KEY_MATHS
#define LATER_MATHS               .flags = DT_KEY_MATHS | DT_KEY_LATER
#define STEPS_MAX                 1e12

/* A section whose rows are `rows`, an array. */
#define SECTION(name_, rows)                                                                                 \
    { .name = name_, .row = rows, .n_row = (int)(sizeof rows / sizeof rows[0]), .size = sizeof(KEYS_OF) }

#endif
