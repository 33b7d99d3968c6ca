/* One key: setting its field from a TOML value or from its default, and printing it. Knows the kinds of keys,
 * not the keys. */
#include "core/key.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

enum { SHOWN_MAX = 60 /* bytes of a user's text repeated in a message */ };

dt_status dt_key_fail(dt_place at, const char *key, const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *colon = key ? ": " : "";
    if (!key) key = "";
    if (at.line <= 0) return dt_fail(DT_ERR_CONFIG, "%s: %s%s%s", at.name, key, colon, text);
    return dt_fail(DT_ERR_CONFIG, "%s:%d:%d: %s%s%s", at.name, at.line, at.column, key, colon, text);
}

const char *dt_key_kind_name(dt_key_kind kind) {
    static const char *const names[] = {
        [DT_KEY_BOOL] = "boolean",
        [DT_KEY_INT] = "integer",
        [DT_KEY_FLOAT] = "number",
        [DT_KEY_STRING] = "string",
        [DT_KEY_CHOICE] = "choice",
        [DT_KEY_FLOATS] = "array of numbers",
        [DT_KEY_NAMES] = "string or array of strings",
        [DT_KEY_PAIRS] = "array of pairs of strings",
    };
    return names[kind];
}

static const void *field_of(const dt_key_row *row, const void *options) {
    return (const char *)options + row->offset;
}

static int32_t count_of(const dt_key_row *row, const void *options) {
    return *(const int32_t *)(const void *)((const char *)options + row->count_offset);
}

/* '"a", "b" or "c"' */
static void list_choices(const dt_key_row *row, char *out, size_t size) {
    const char *const *choices = row->choices;
    size_t used = 0;
    if (row->listed) snprintf(out, size, "those that %s lists", row->listed);
    for (int i = 0; choices[i] && used < size && !row->listed; i++) {
        const char *join = i == 0 ? "" : choices[i + 1] ? ", " : " or ";
        int n = snprintf(out + used, size - used, "%s\"%s\"", join, choices[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

static dt_status choose(const dt_key_row *row, const char *key, const char *word, dt_place at, int64_t *out) {
    int n = 0;
    for (; row->choices[n]; n++) {
        if (strcmp(row->choices[n], word) == 0) {
            *out = n;
            return DT_OK;
        }
    }
    char list[512];
    list_choices(row, list, sizeof list);
    const char *near = dt_nearest_name(word, n, row->choices);
    if (near)
        return dt_key_fail(at, key, "\"%.*s\" is not one of %s; did you mean \"%s\"?", SHOWN_MAX, word, list,
                           near);
    return dt_key_fail(at, key, "\"%.*s\" is not one of %s", SHOWN_MAX, word, list);
}

static bool in_range(const dt_key_row *row, double x) {
    bool above = row->flags & DT_KEY_OPEN_MIN ? x > row->min : x >= row->min;
    bool below = row->flags & DT_KEY_OPEN_MAX ? x < row->max : x <= row->max;
    return above && below;
}

/* Most numbers end in fp32: what is another one there would mean something else, silently. */
static bool leaves_in_fp32(const dt_key_row *row, double x) {
    const double rounded = (double)(float)x;
    return (x != 0 && rounded == 0) || isinf(rounded) ||
           ((row->flags & DT_KEY_OPEN_MAX) && rounded >= row->max) ||
           ((row->flags & DT_KEY_OPEN_MIN) && rounded <= row->min);
}

/* The range that x is out of; a large end that nobody would ask for is left out where x is not beyond it. */
static void describe_range(const dt_key_row *row, double x, char *out, size_t size) {
    bool has_min = row->min > -HUGE_VAL, has_max = row->max < 0x1p62 || x > row->max;
    const char *above = row->flags & DT_KEY_OPEN_MIN ? "above" : "at least";
    const char *below = row->flags & DT_KEY_OPEN_MAX ? "below" : "at most";
    out[0] = '\0';
    if (has_min && has_max && !(row->flags & (DT_KEY_OPEN_MIN | DT_KEY_OPEN_MAX)))
        snprintf(out, size, "from %.12g to %.12g", row->min, row->max);
    else if (has_min && has_max)
        snprintf(out, size, "%s %.12g and %s %.12g", above, row->min, below, row->max);
    else if (has_min)
        snprintf(out, size, "%s %.12g", above, row->min);
    else if (has_max)
        snprintf(out, size, "%s %.12g", below, row->max);
}

static dt_status number_in_range(const dt_key_row *row, const char *key, const dt_toml_value *v, dt_place at,
                                 double *out) {
    double x = v->kind == DT_TOML_INT ? (double)v->integer : v->real;
    if (v->kind != DT_TOML_INT && v->kind != DT_TOML_FLOAT)
        return dt_key_fail(at, key, "expected a number, got %s", dt_toml_kind_name(v->kind));
    if (!isfinite(x)) return dt_key_fail(at, key, "must be a finite number");
    const float rounded = (float)x;
    if (x != 0 && rounded == 0) return dt_key_fail(at, key, "%.12g is too small for fp32", x);
    if (isinf(rounded)) return dt_key_fail(at, key, "%.12g is too large for fp32", x);
    if (in_range(row, x) && leaves_in_fp32(row, x))
        return dt_key_fail(at, key, "%.12g is %.12g in fp32, which is out of range", x, (double)rounded);
    if (!in_range(row, x)) {
        char range[96];
        describe_range(row, x, range, sizeof range);
        return dt_key_fail(at, key, "%.12g is out of range: must be %s", x, range);
    }
    *out = x;
    return DT_OK;
}

static dt_status set_int(const dt_key_row *row, const char *key, const dt_toml_value *v, dt_place at,
                         int64_t *out) {
    double x = 0;
    if (v->kind == DT_TOML_FLOAT)
        return dt_key_fail(at, key, "expected an integer, got %.12g: write it without point or exponent",
                           v->real);
    if (v->kind != DT_TOML_INT)
        return dt_key_fail(at, key, "expected an integer, got %s", dt_toml_kind_name(v->kind));
    DT_TRY(number_in_range(row, key, v, at, &x));
    *out = v->integer;
    return DT_OK;
}

static dt_status set_text(const char *key, const char *s, dt_place at, size_t size, char *out) {
    size_t n = strlen(s);
    if (n >= size) return dt_key_fail(at, key, "longer than %zu bytes", size - 1);
    memset(out, 0, size);
    memcpy(out, s, n);
    return DT_OK;
}

static dt_status set_string(const dt_key_row *row, const char *key, const char *s, dt_place at, char *out) {
    int64_t chosen = 0;
    if (row->choices) DT_TRY(choose(row, key, s, at, &chosen));
    return set_text(key, s, at, row->size, out);
}

/* Of an entry of an array. */
static dt_place place_of_item(dt_place at, const dt_toml_value *item) {
    return at.line > 0 ? (dt_place){at.name, item->line, item->column} : at;
}

/* The strings of `v`, one alone or an array, each into `size` bytes. */
static dt_status set_texts(const char *key, const dt_toml_value *v, dt_place at, size_t size, char *out) {
    const bool alone = v->kind == DT_TOML_STRING;
    for (int32_t i = 0; i < (alone ? 1 : v->n_items); i++) {
        const dt_toml_value *item = alone ? v : &v->items[i];
        const dt_place item_at = alone ? at : place_of_item(at, item);
        if (item->kind != DT_TOML_STRING)
            return dt_key_fail(item_at, key, "expected a string, got %s", dt_toml_kind_name(item->kind));
        DT_TRY(set_text(key, item->string, item_at, size, out + (size_t)i * size));
    }
    return DT_OK;
}

static dt_status set_names(const dt_key_row *row, const char *key, const dt_toml_value *v, dt_place at,
                           char *out, int32_t *count) {
    const bool alone = v->kind == DT_TOML_STRING;
    const int32_t n = alone ? 1 : v->n_items;
    if (!alone && v->kind != DT_TOML_ARRAY)
        return dt_key_fail(at, key, "expected a string or an array of strings, got %s",
                           dt_toml_kind_name(v->kind));
    if ((size_t)n > row->size) return dt_key_fail(at, key, "%d entries: at most %zu", n, row->size);
    memset(out, 0, row->size * row->entry);
    DT_TRY(set_texts(key, v, at, row->entry, out));
    *count = n;
    return DT_OK;
}

static dt_status set_pairs(const dt_key_row *row, const char *key, const dt_toml_value *v, dt_place at,
                           char *out, int32_t *count) {
    if (v->kind != DT_TOML_ARRAY)
        return dt_key_fail(at, key, "expected an array of pairs, [[\"a\", \"b\"]], got %s",
                           dt_toml_kind_name(v->kind));
    if ((size_t)v->n_items > row->size)
        return dt_key_fail(at, key, "%d entries: at most %zu", v->n_items, row->size);
    memset(out, 0, row->size * row->entry);
    for (int32_t i = 0; i < v->n_items; i++) {
        const dt_toml_value *pair = &v->items[i];
        const dt_place pair_at = place_of_item(at, pair);
        if (pair->kind != DT_TOML_ARRAY || pair->n_items != 2)
            return dt_key_fail(pair_at, key, "expected a pair of strings, [\"a\", \"b\"]");
        DT_TRY(set_texts(key, pair, pair_at, row->entry / 2, out + (size_t)i * row->entry));
    }
    *count = v->n_items;
    return DT_OK;
}

static dt_status set_floats(const dt_key_row *row, const char *key, const dt_toml_value *v, dt_place at,
                            double *out, int32_t *count) {
    if (v->kind != DT_TOML_ARRAY)
        return dt_key_fail(at, key, "expected an array of numbers, got %s", dt_toml_kind_name(v->kind));
    if ((size_t)v->n_items > row->size)
        return dt_key_fail(at, key, "%d entries: at most %zu", v->n_items, row->size);
    for (size_t i = 0; i < row->size; i++) out[i] = 0;
    for (int32_t i = 0; i < v->n_items; i++) {
        DT_TRY(number_in_range(row, key, &v->items[i], place_of_item(at, &v->items[i]), &out[i]));
    }
    *count = v->n_items;
    return DT_OK;
}

dt_status dt_key_set(const dt_key_row *row, const char *key, void *options, const dt_toml_value *v,
                     dt_place at) {
    void *field = (char *)options + row->offset;
    int32_t *count = (int32_t *)(void *)((char *)options + row->count_offset);
    switch (row->kind) {
    case DT_KEY_BOOL:
        if (v->kind != DT_TOML_BOOL)
            return dt_key_fail(at, key, "expected true or false, got %s", dt_toml_kind_name(v->kind));
        *(bool *)field = v->boolean != ((row->flags & DT_KEY_NEGATED) != 0);
        return DT_OK;
    case DT_KEY_INT:
        return set_int(row, key, v, at, field);
    case DT_KEY_FLOAT:
        return number_in_range(row, key, v, at, field);
    case DT_KEY_STRING:
    case DT_KEY_CHOICE:
        if (v->kind != DT_TOML_STRING)
            return dt_key_fail(at, key, "expected a string, got %s", dt_toml_kind_name(v->kind));
        if (row->kind == DT_KEY_CHOICE) return choose(row, key, v->string, at, field);
        return set_string(row, key, v->string, at, field);
    case DT_KEY_FLOATS:
        return set_floats(row, key, v, at, field, count);
    case DT_KEY_NAMES:
        return set_names(row, key, v, at, field, count);
    case DT_KEY_PAIRS:
        return set_pairs(row, key, v, at, field, count);
    }
    return dt_fail(DT_ERR_INTERNAL, "%s: key of unknown kind", key);
}

void dt_key_set_default(const dt_key_row *row, void *options) {
    const char *text = row->fallback;
    if (!text) return;
    dt_place at = {"default", 0, 0};
    dt_toml_value v = {.kind = DT_TOML_ARRAY}; /* FLOATS, NAMES, PAIRS: no row has a default other than [] */
    if (row->kind == DT_KEY_STRING || row->kind == DT_KEY_CHOICE)
        v = (dt_toml_value){.kind = DT_TOML_STRING, .string = text};
    else if (row->kind == DT_KEY_BOOL)
        v = (dt_toml_value){.kind = DT_TOML_BOOL, .boolean = strcmp(text, "true") == 0};
    else if (row->kind == DT_KEY_INT)
        v = (dt_toml_value){.kind = DT_TOML_INT, .integer = strtoll(text, NULL, 10)};
    else if (row->kind == DT_KEY_FLOAT)
        v = (dt_toml_value){.kind = DT_TOML_FLOAT, .real = strtod_l(text, NULL, dt_plain_locale())};
    DT_ASSERT(dt_key_set(row, row->key, options, &v, at) == DT_OK);
}

void dt_section_defaults(const dt_section *s, void *options) {
    memset(options, 0, s->size);
    for (int i = 0; i < s->n_row; i++) dt_key_set_default(&s->row[i], options);
}

static double number_of(const dt_key_row *row, const void *options) {
    const void *field = field_of(row, options);
    return row->kind == DT_KEY_FLOAT ? *(const double *)field : (double)*(const int64_t *)field;
}

static dt_status settle(const dt_key_row *row, const char *what, void *options) {
    double x = number_of(row, options);
    char range[96];
    int n = 0;
    if (row->kind == DT_KEY_CHOICE) {
        while (row->choices[n]) n++;
        if (x >= 0 && x < n) return DT_OK;
        return dt_fail(DT_ERR_CONFIG, "%s: %s = %.12g is none of its %d values", what, row->key, x, n);
    }
    if (x == 0 && !in_range(row, 0)) {
        if (row->flags & DT_KEY_REQUIRED)
            return dt_fail(DT_ERR_CONFIG, "%s: %s is required: %s", what, row->key, row->help);
        if (!row->fallback) return DT_OK; /* it follows from others */
        dt_key_set_default(row, options);
        x = number_of(row, options);
    }
    const bool lost = row->kind == DT_KEY_FLOAT && leaves_in_fp32(row, x);
    if (in_range(row, x) && lost)
        return dt_fail(DT_ERR_CONFIG, "%s: %s = %.12g is %.12g in fp32, which is out of range", what,
                       row->key, x, (double)(float)x);
    if (in_range(row, x)) return DT_OK; /* NaN is not */
    describe_range(row, x, range, sizeof range);
    return dt_fail(DT_ERR_CONFIG, "%s: %s = %.12g is out of range: must be %s", what, row->key, x, range);
}

dt_status dt_section_settle(const dt_section *s, const char *what, void *options) {
    for (int i = 0; i < s->n_row; i++) {
        const dt_key_row *row = &s->row[i];
        if (row->kind == DT_KEY_INT || row->kind == DT_KEY_FLOAT || row->kind == DT_KEY_CHOICE)
            DT_TRY(settle(row, what, options));
    }
    return DT_OK;
}

const dt_key_row *dt_section_find(const dt_section *s, const char *key) {
    for (int i = 0; i < s->n_row; i++)
        if (strcmp(s->row[i].key, key) == 0) return &s->row[i];
    return NULL;
}

bool dt_key_is_empty(const dt_key_row *row, const void *options) {
    if (row->kind == DT_KEY_STRING) return !*(const char *)field_of(row, options);
    return row->entry > 0 && count_of(row, options) == 0;
}

/* The shortest decimal that reads back as the same double, marked as TOML float. */
static void print_double(double x, FILE *out) {
    char text[40];
    const locale_t before = uselocale(dt_plain_locale());
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    uselocale(before);
    fprintf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

bool dt_key_is_same(const dt_key_row *row, const void *options, const void *other) {
    const void *a = field_of(row, options), *b = field_of(row, other);
    switch (row->kind) {
    case DT_KEY_STRING:
        return strcmp(a, b) == 0;
    case DT_KEY_FLOATS:
        return count_of(row, options) == count_of(row, other) &&
               memcmp(a, b, (size_t)count_of(row, options) * sizeof(double)) == 0;
    case DT_KEY_NAMES: /* zeros behind each text */
    case DT_KEY_PAIRS:
        return count_of(row, options) == count_of(row, other) &&
               memcmp(a, b, (size_t)count_of(row, options) * row->entry) == 0;
    default:
        return memcmp(a, b, row->size) == 0;
    }
}

static void print_entries(const dt_key_row *row, const void *field, int32_t n, FILE *out) {
    const bool alone = row->kind == DT_KEY_NAMES && n == 1;
    fputs(alone ? "" : "[", out);
    for (int32_t i = 0; i < n; i++) {
        const char *entry = (const char *)field + (size_t)i * row->entry;
        fputs(i > 0 ? ", " : "", out);
        if (row->kind == DT_KEY_FLOATS) {
            print_double(((const double *)field)[i], out);
        } else if (row->kind == DT_KEY_NAMES) {
            dt_print_quoted(entry, out);
        } else {
            fputc('[', out);
            dt_print_quoted(entry, out);
            fputs(", ", out);
            dt_print_quoted(entry + row->entry / 2, out);
            fputc(']', out);
        }
    }
    fputs(alone ? "" : "]", out);
}

void dt_key_print(const dt_key_row *row, const void *options, FILE *out) {
    const void *field = field_of(row, options);
    switch (row->kind) {
    case DT_KEY_BOOL:
        fputs(*(const bool *)field != ((row->flags & DT_KEY_NEGATED) != 0) ? "true" : "false", out);
        break;
    case DT_KEY_INT:
        fprintf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case DT_KEY_FLOAT:
        print_double(*(const double *)field, out);
        break;
    case DT_KEY_STRING:
        dt_print_quoted(field, out);
        break;
    case DT_KEY_CHOICE:
        dt_print_quoted(row->choices[*(const int64_t *)field], out);
        break;
    case DT_KEY_FLOATS:
    case DT_KEY_NAMES:
    case DT_KEY_PAIRS:
        print_entries(row, field, count_of(row, options), out);
        break;
    }
}

void dt_key_print_range(const dt_key_row *row, const char *prefix, FILE *out) {
    char text[512] = "";
    if (row->choices)
        list_choices(row, text, sizeof text);
    else if (row->kind == DT_KEY_INT || row->kind == DT_KEY_FLOAT || row->kind == DT_KEY_FLOATS)
        describe_range(row, 0, text, sizeof text);
    if (*text) fprintf(out, "%s%s", prefix, text);
}

/* ---- where a key counts ---- */

enum { ONLY_MAX = 512 };

bool dt_key_holds(const dt_key_row *row, const void *options, const char *what) {
    const bool number = row->kind == DT_KEY_INT || row->kind == DT_KEY_FLOAT;
    const char *text = NULL;
    if (!what) return !dt_key_is_empty(row, options);
    if (strcmp(what, "[]") == 0) return dt_key_is_empty(row, options);
    if (strncmp(what, "> ", 2) == 0)
        return number && number_of(row, options) > strtod_l(what + 2, NULL, dt_plain_locale());
    if (number) return number_of(row, options) == strtod_l(what, NULL, dt_plain_locale());
    if (row->kind == DT_KEY_BOOL)
        text =
            *(const bool *)field_of(row, options) != ((row->flags & DT_KEY_NEGATED) != 0) ? "true" : "false";
    if (row->kind == DT_KEY_CHOICE) text = row->choices[*(const int64_t *)field_of(row, options)];
    if (row->kind == DT_KEY_STRING) text = field_of(row, options);
    const size_t n = strlen(what);
    return text && (n > 0 && what[n - 1] == '*' ? strncmp(text, what, n - 1) == 0 : strcmp(text, what) == 0);
}

/* Without blanks at both ends, which are cut off. */
static char *trimmed(char *text) {
    text += strspn(text, " ");
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == ' ') text[--n] = '\0';
    return text;
}

/* "key = a, b", "key > 1" or "key", which is cut into pieces. */
static bool part_holds(char *part, dt_key_is *is, void *arg) {
    char *above = strstr(part, " > "), *values = strstr(part, " = "), *rest = NULL;
    if (above) {
        *above = '\0';
        return is(arg, part, above + 1);
    }
    if (!values) return is(arg, part, NULL);
    *values = '\0';
    for (char *v = strtok_r(values + 3, ",", &rest); v; v = strtok_r(NULL, ",", &rest))
        if (is(arg, part, trimmed(v))) return true;
    return false;
}

bool dt_key_counts(const char *only, dt_key_is *is, void *arg) {
    char copy[ONLY_MAX], *rest = NULL;
    if (!only) return true;
    DT_ASSERT(strlen(only) < sizeof copy);
    strcpy(copy, only);
    for (char *any = strtok_r(copy, "|", &rest); any; any = strtok_r(NULL, "|", &rest)) {
        char *inner = NULL;
        bool all = true;
        for (char *part = strtok_r(any, "&", &inner); part; part = strtok_r(NULL, "&", &inner))
            all = all && part_holds(trimmed(part), is, arg);
        if (all) return true;
    }
    return false;
}

/* The part that begins at *at, without blanks, and what stands behind it; false at the end. */
static bool next_part(const char **at, const char **part, int *n, char *join) {
    if (!**at) return false;
    *part = *at + strspn(*at, " ");
    *n = (int)strcspn(*part, "|&");
    *join = (*part)[*n];
    *at = *part + *n + (*join != '\0');
    while (*n > 0 && (*part)[*n - 1] == ' ') --*n;
    return true;
}

const char *dt_key_only_text(const char *only, const char *mark, char *out, size_t size) {
    const char *part;
    char join;
    int n;
    size_t used = 0;
    out[0] = '\0';
    while (used < size && next_part(&only, &part, &n, &join)) {
        const int n_key = (int)strcspn(part, " |&") < n ? (int)strcspn(part, " |&") : n;
        const int done = snprintf(out + used, size - used, "%s%.*s%s%.*s%s", mark, n_key, part, mark,
                                  n - n_key, part + n_key,
                                  join == '|'   ? " or "
                                  : join == '&' ? " and "
                                                : "");
        used += done > 0 ? (size_t)done : 0;
    }
    return out;
}

bool dt_key_only_key(const char *only, int i, char key[DT_KEY_ONLY_MAX]) {
    const char *part, *at = only;
    char join;
    int n;
    while (next_part(&at, &part, &n, &join)) {
        const int n_key = (int)strcspn(part, " |&") < n ? (int)strcspn(part, " |&") : n;
        char name[DT_KEY_ONLY_MAX];
        snprintf(name, sizeof name, "%.*s", n_key, part);
        if (strstr(only, name) != part || i-- > 0) continue; /* named before, or passed over */
        memcpy(key, name, sizeof name);
        return true;
    }
    return false;
}

static bool is_of_section(void *arg, const char *key, const char *what) {
    const void *const *pair = arg;
    const dt_key_row *row = dt_section_find(pair[0], key);
    DT_ASSERT(row);
    return dt_key_holds(row, pair[1], what);
}

dt_status dt_section_counts(const dt_section *s, const dt_key_row *row, const char *key, const void *options,
                            dt_place at) {
    const void *pair[] = {s, options};
    char text[ONLY_MAX];
    if (dt_key_counts(row->only, is_of_section, pair)) return DT_OK;
    return dt_key_fail(at, key, "would be ignored here: it is for %s alone",
                       dt_key_only_text(row->only, "", text, sizeof text));
}

const dt_key_row *dt_section_ignored(const dt_section *s, const void *options) {
    enum { OPTIONS_MAX = 1024 };
    _Alignas(max_align_t) unsigned char plain[OPTIONS_MAX];
    const void *pair[] = {s, options};
    DT_ASSERT(s->size <= sizeof plain);
    dt_section_defaults(s, plain);
    for (int i = 0; i < s->n_row; i++)
        if (!dt_key_counts(s->row[i].only, is_of_section, pair) &&
            !dt_key_is_same(&s->row[i], options, plain))
            return &s->row[i];
    return NULL;
}
