/* One key: setting its field from a TOML value or from its default, and printing it. Knows the kinds of keys,
 * not the keys; the same code serves the sections and the layers. */
#include "config_table.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_MAX = 60 /* bytes of a user's text repeated in a message */ };

dt_status dt_config_fail(dt_place at, const char *key, const char *fmt, ...) {
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
        [DT_KEY_BOOL] = "boolean",  [DT_KEY_INT] = "integer",   [DT_KEY_FLOAT] = "number",
        [DT_KEY_STRING] = "string", [DT_KEY_CHOICE] = "choice", [DT_KEY_FLOATS] = "array of numbers",
    };
    return names[kind];
}

static void *field_of(const dt_key_row *row, void *base) {
    return (char *)base + row->offset;
}

static const void *const_field_of(const dt_key_row *row, const void *base) {
    return (const char *)base + row->offset;
}

/* '"a", "b" or "c"' */
static void list_choices(const char *const *choices, char *out, size_t size) {
    size_t used = 0;
    for (int i = 0; choices[i] && used < size; i++) {
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
    list_choices(row->choices, list, sizeof list);
    const char *near = dt_nearest_name(word, n, row->choices);
    if (near)
        return dt_config_fail(at, key, "\"%.*s\" is not one of %s; did you mean \"%s\"?", SHOWN_MAX, word,
                              list, near);
    return dt_config_fail(at, key, "\"%.*s\" is not one of %s", SHOWN_MAX, word, list);
}

static bool in_range(const dt_key_row *row, double x) {
    bool above = row->flags & DT_KEY_OPEN_MIN ? x > row->min : x >= row->min;
    bool below = row->flags & DT_KEY_OPEN_MAX ? x < row->max : x <= row->max;
    return above && below;
}

static void describe_range(const dt_key_row *row, char *out, size_t size) {
    bool has_min = row->min > -HUGE_VAL, has_max = row->max < 0x1p62;
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
        return dt_config_fail(at, key, "expected a number, got %s", dt_toml_kind_name(v->kind));
    if (!isfinite(x)) return dt_config_fail(at, key, "must be a finite number");
    /* Most of these end in fp32: what is another number there would mean something else, silently. */
    const float rounded = (float)x;
    if (x != 0 && rounded == 0) return dt_config_fail(at, key, "%.12g is too small for fp32", x);
    if (isinf(rounded)) return dt_config_fail(at, key, "%.12g is too large for fp32", x);
    const bool open_end = ((row->flags & DT_KEY_OPEN_MAX) && (double)rounded >= row->max) ||
                          ((row->flags & DT_KEY_OPEN_MIN) && (double)rounded <= row->min);
    if (in_range(row, x) && open_end)
        return dt_config_fail(at, key, "%.12g is %.12g in fp32, which is out of range", x, (double)rounded);
    if (!in_range(row, x)) {
        char range[96];
        describe_range(row, range, sizeof range);
        return dt_config_fail(at, key, "%.12g is out of range: must be %s", x, range);
    }
    *out = x;
    return DT_OK;
}

static dt_status set_int(const dt_key_row *row, const char *key, const dt_toml_value *v, dt_place at,
                         int64_t *out) {
    double x = 0;
    if (v->kind == DT_TOML_FLOAT)
        return dt_config_fail(at, key, "expected an integer, got %.12g: write it without point or exponent",
                              v->real);
    if (v->kind != DT_TOML_INT)
        return dt_config_fail(at, key, "expected an integer, got %s", dt_toml_kind_name(v->kind));
    DT_TRY(number_in_range(row, key, v, at, &x));
    *out = v->integer;
    return DT_OK;
}

static dt_status set_string(const dt_key_row *row, const char *key, const char *s, dt_place at, char *out) {
    int64_t chosen = 0;
    if (row->choices) DT_TRY(choose(row, key, s, at, &chosen));
    size_t n = strlen(s);
    if (n >= row->size) return dt_config_fail(at, key, "longer than %zu bytes", row->size - 1);
    memset(out, 0, row->size);
    memcpy(out, s, n);
    return DT_OK;
}

static dt_status set_floats(const dt_key_row *row, const char *key, const dt_toml_value *v, dt_place at,
                            double *out, int32_t *count) {
    if (v->kind != DT_TOML_ARRAY)
        return dt_config_fail(at, key, "expected an array of numbers, got %s", dt_toml_kind_name(v->kind));
    if ((size_t)v->n_items > row->size)
        return dt_config_fail(at, key, "%d entries: at most %zu", v->n_items, row->size);
    for (size_t i = 0; i < row->size; i++) out[i] = 0;
    for (int32_t i = 0; i < v->n_items; i++) {
        dt_place item_at = at;
        if (at.line > 0) item_at = (dt_place){at.name, v->items[i].line, v->items[i].column};
        DT_TRY(number_in_range(row, key, &v->items[i], item_at, &out[i]));
    }
    *count = v->n_items;
    return DT_OK;
}

dt_status dt_key_set(const dt_key_row *row, const char *key, void *base, const dt_toml_value *v,
                     dt_place at) {
    void *field = field_of(row, base);
    switch (row->kind) {
    case DT_KEY_BOOL:
        if (v->kind != DT_TOML_BOOL)
            return dt_config_fail(at, key, "expected true or false, got %s", dt_toml_kind_name(v->kind));
        *(bool *)field = v->boolean;
        return DT_OK;
    case DT_KEY_INT:
        return set_int(row, key, v, at, field);
    case DT_KEY_FLOAT:
        return number_in_range(row, key, v, at, field);
    case DT_KEY_STRING:
    case DT_KEY_CHOICE:
        if (v->kind != DT_TOML_STRING)
            return dt_config_fail(at, key, "expected a string, got %s", dt_toml_kind_name(v->kind));
        if (row->kind == DT_KEY_CHOICE) return choose(row, key, v->string, at, field);
        return set_string(row, key, v->string, at, field);
    case DT_KEY_FLOATS:
        return set_floats(row, key, v, at, field, (int32_t *)(void *)((char *)base + row->count_offset));
    }
    return dt_fail(DT_ERR_INTERNAL, "%s: key of unknown kind", key);
}

void dt_key_set_default(const dt_key_row *row, void *base) {
    const char *text = row->fallback;
    if (!text) return;
    dt_place at = {"default", 0, 0};
    dt_toml_value v = {.kind = DT_TOML_ARRAY}; /* FLOATS: no row has a default other than [] */
    if (row->kind == DT_KEY_STRING || row->kind == DT_KEY_CHOICE)
        v = (dt_toml_value){.kind = DT_TOML_STRING, .string = text};
    else if (row->kind == DT_KEY_BOOL)
        v = (dt_toml_value){.kind = DT_TOML_BOOL, .boolean = strcmp(text, "true") == 0};
    else if (row->kind == DT_KEY_INT)
        v = (dt_toml_value){.kind = DT_TOML_INT, .integer = strtoll(text, NULL, 10)};
    else if (row->kind == DT_KEY_FLOAT)
        v = (dt_toml_value){.kind = DT_TOML_FLOAT, .real = strtod(text, NULL)};
    DT_ASSERT(dt_key_set(row, row->key, base, &v, at) == DT_OK);
}

/* The shortest decimal that reads back as the same double, marked as TOML float. */
static void print_double(double x, FILE *out) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    fprintf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static void print_string(const char *s, FILE *out) {
    fputc('"', out);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04X", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

void dt_key_print(const dt_key_row *row, const void *base, FILE *out) {
    const void *field = const_field_of(row, base);
    switch (row->kind) {
    case DT_KEY_BOOL:
        fputs(*(const bool *)field ? "true" : "false", out);
        break;
    case DT_KEY_INT:
        fprintf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case DT_KEY_FLOAT:
        print_double(*(const double *)field, out);
        break;
    case DT_KEY_STRING:
        print_string(field, out);
        break;
    case DT_KEY_CHOICE:
        print_string(row->choices[*(const int64_t *)field], out);
        break;
    case DT_KEY_FLOATS: {
        int32_t n = *(const int32_t *)(const void *)((const char *)base + row->count_offset);
        fputc('[', out);
        for (int32_t i = 0; i < n; i++) {
            if (i > 0) fputs(", ", out);
            print_double(((const double *)field)[i], out);
        }
        fputc(']', out);
        break;
    }
    }
}

void dt_key_print_range(const dt_key_row *row, const char *prefix, FILE *out) {
    char text[512] = "";
    if (row->choices)
        list_choices(row->choices, text, sizeof text);
    else if (row->kind == DT_KEY_INT || row->kind == DT_KEY_FLOAT || row->kind == DT_KEY_FLOATS)
        describe_range(row, text, sizeof text);
    if (*text) fprintf(out, "%s%s", prefix, text);
}
