/* TOML text to a plain C tree; toml++ stays behind this header and none of its exceptions leave it.
 *
 * Ownership: dt_toml_parse makes one document; every value, key and string in it belongs to the document and
 * lives until dt_toml_free. The text itself is not kept. Not thread-bound: documents share nothing.
 * Hostile text is refused, not survived: at most 1 MiB, 64 dots in a line (dotted keys nest), 16 nested
 * arrays and inline tables, so neither parsing nor freeing can exhaust the stack. */
#ifndef DT_CORE_TOML_H
#define DT_CORE_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { DT_TOML_TEXT_MAX = 1 << 20, DT_TOML_LINE_DOTS_MAX = 64 };

typedef enum dt_toml_kind {
    DT_TOML_TABLE = 0,
    DT_TOML_ARRAY,
    DT_TOML_STRING,
    DT_TOML_INT,
    DT_TOML_FLOAT,
    DT_TOML_BOOL,
    DT_TOML_DATE /* any date or time; nothing in a configuration uses one */
} dt_toml_kind;

typedef struct dt_toml_value dt_toml_value;
struct dt_toml_value {
    dt_toml_kind kind;
    const char *key;              /* name within the table; NULL for array elements and the root */
    int32_t line, column;         /* of the value, 1-based */
    int32_t key_line, key_column; /* of the key; of the value where there is none */
    int64_t integer;
    double real;
    bool boolean;
    const char *string;         /* UTF-8 without NUL bytes inside */
    const dt_toml_value *items; /* TABLE, ARRAY: in the order of the text */
    int32_t n_items;
};

typedef struct dt_toml dt_toml;

typedef struct dt_toml_error {
    int32_t line, column;
    char text[256];
} dt_toml_error;

/* Parses `size` bytes. NULL on failure, with *error filled in. */
dt_toml *dt_toml_parse(const char *text, size_t size, dt_toml_error *error);
/* The document's table. */
const dt_toml_value *dt_toml_root(const dt_toml *doc);
/* Accepts NULL. */
void dt_toml_free(dt_toml *doc);

/* "a string", "an integer", ... for messages. */
const char *dt_toml_kind_name(dt_toml_kind kind);

#ifdef __cplusplus
}
#endif
#endif
