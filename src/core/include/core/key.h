/* Keys: the fields of an options struct by name, a row each: kind, range or choices, default, help. A room
 * states its options struct together with its rows (core/key_rows.h), as a section; what reads, checks, prints
 * and documents them knows no struct. */
#ifndef DT_CORE_KEY_H
#define DT_CORE_KEY_H

#include <stdio.h>

#include "core/status.h"
#include "core/toml.h"
#include "core/types.h"

enum { DT_KEY_STRING_MAX = 1024, DT_KEY_NAME_MAX = 48, DT_KEY_ONLY_MAX = 64 };

typedef enum dt_key_kind {
    DT_KEY_BOOL = 0,
    DT_KEY_INT,
    DT_KEY_FLOAT,
    DT_KEY_STRING,
    DT_KEY_CHOICE, /* int64_t field; the index in `choices` is the enum's value */
    DT_KEY_FLOATS, /* double[], with the count in an int32_t field */
    DT_KEY_NAMES,  /* char[][entry], with the count in an int32_t field; one may stand alone */
    DT_KEY_PAIRS   /* char[][2][entry / 2], with the count in an int32_t field: [["a", "b"], ...] */
} dt_key_kind;

enum {
    DT_KEY_REQUIRED = 1u << 0,
    DT_KEY_OPEN_MIN = 1u << 1, /* the minimum itself is out of range */
    DT_KEY_OPEN_MAX = 1u << 2,
    DT_KEY_MATHS = 1u << 3,  /* changes what is learnt: part of a configuration's hash */
    DT_KEY_LATER = 1u << 4,  /* came after the first hashes were kept: part of them only where it is set to
                               something else than its default */
    DT_KEY_NEGATED = 1u << 5 /* BOOL: the field is true where the key is false */
};

/* One key of a struct, its field at `offset` bytes. */
typedef struct dt_key_row {
    const char *key;
    dt_key_kind kind;
    uint32_t flags;
    size_t offset;
    size_t size;                /* STRING: bytes of the field; FLOATS, NAMES, PAIRS: entries of the field */
    size_t entry;               /* FLOATS, NAMES, PAIRS: bytes of one */
    size_t count_offset;        /* FLOATS, NAMES, PAIRS */
    double min, max;            /* INT, FLOAT, FLOATS */
    const char *const *choices; /* CHOICE, STRING: NULL-terminated; NULL for a free string */
    const char *listed;         /* where there are too many to be told: the command that lists them */
    const char *fallback;       /* the default as TOML; NULL where required or derived */
    /* With which choices the key counts, as dt_key_counts reads it; NULL: with all. Set where it does not count it is
     * refused, for it would be ignored. */
    const char *only;
    const char *help;
} dt_key_row;

/* An options struct: its name in a configuration and its keys, in the order in which they are shown. */
typedef struct dt_section {
    const char *name;
    const dt_key_row *row;
    int n_row;
    size_t size; /* of the struct */
} dt_section;

/* Fills the section's struct: the defaults, and 0 in all else. */
void dt_section_defaults(const dt_section *s, void *options);
/* Completes a struct that a program filled in: a number that may not be 0 and is 0 was not set and gets its
 * default; then all numbers and choices must be in range. `what` stands in front of messages. Errors:
 * DT_ERR_CONFIG, also where a required key is not set. */
dt_status dt_section_settle(const dt_section *s, const char *what, void *options);
/* The row of that name; NULL where there is none. */
const dt_key_row *dt_section_find(const dt_section *s, const char *key);

/* Where a message points: the file, or with line 0 the command line. */
typedef struct dt_place {
    const char *name;
    int32_t line, column;
} dt_place;

/* dt_fail(DT_ERR_CONFIG) with "name:line:column: key: text"; key may be NULL. */
dt_status dt_key_fail(dt_place at, const char *key, const char *fmt, ...) DT_MUST_CHECK DT_PRINTF(3, 4);

/* Sets the row's field within `options` after checking kind, range and choices. `key`: as shown in messages.
 * Errors: DT_ERR_CONFIG. */
dt_status dt_key_set(const dt_key_row *row, const char *key, void *options, const dt_toml_value *v,
                     dt_place at);
/* As the row's default has it; required and derived keys stay as they are. */
void dt_key_set_default(const dt_key_row *row, void *options);
/* Whether the field holds nothing: "" or no entries. Other kinds always hold something. */
bool dt_key_is_empty(const dt_key_row *row, const void *options);
/* Whether the field holds the same in both. */
bool dt_key_is_same(const dt_key_row *row, const void *options, const void *other);
/* Prints the field's value as TOML. */
void dt_key_print(const dt_key_row *row, const void *options, FILE *out);
/* `prefix` and 'from 0 to 1' or '"a" or "b"'; nothing where any value goes. */
void dt_key_print_range(const dt_key_row *row, const char *prefix, FILE *out);
/* "integer", "array of numbers", ... */
const char *dt_key_kind_name(dt_key_kind kind);

/* Whether a key is `what`: one of its values, which may end in '*'; "> 1"; "[]": empty; NULL: anything else. */
typedef bool dt_key_is(void *arg, const char *key, const char *what);
/* `only` of a row: alternatives "a | b" of parts "a & b", each "key = value, value", "key > 1" or "key". */
bool dt_key_counts(const char *only, dt_key_is *is, void *arg);
/* The same as words, "optim.kind = adam, lamb or data.val"; `mark` goes around each key. Returns `out`. */
const char *dt_key_only_text(const char *only, const char *mark, char *out, size_t size);
/* Key number i of those that `only` names, each once; false behind the last. */
bool dt_key_only_key(const char *only, int i, char key[DT_KEY_ONLY_MAX]);
/* dt_key_is of a row's field. */
bool dt_key_holds(const dt_key_row *row, const void *options, const char *what);
/* Within one section, whose keys stand without its name: DT_ERR_CONFIG where the row does not count. */
dt_status dt_section_counts(const dt_section *s, const dt_key_row *row, const char *key, const void *options,
                            dt_place at);
/* The first row that does not count and has another value than its default; NULL: there is none. `only` of its rows names
 * keys of the section. */
const dt_key_row *dt_section_ignored(const dt_section *s, const void *options);

#endif
