/* CSV files of numbers: a field is some of the columns, in the order that they are named. */
#include "array_source.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/text.h"
#include "csv.h"

enum { SHOWN_BYTES = 40, FIELDS = 2 };

/* One field while it is read. Whole numbers stay such in `whole`, as long as there are no others. */
typedef struct part {
    const char *name;
    int32_t n_columns;
    int32_t *place; /* [n_columns] in the record; owned */
    int64_t capacity;
    float *value;         /* [n_rows, n_columns]; owned */
    int32_t *whole;       /* the same; owned. NULL: the field is of real numbers */
    int64_t rounded_line; /* where a whole number is first that fp32 does not hold; 0: nowhere */
    int32_t rounded_column;
    long long rounded;
} part;

typedef struct csv_state {
    dt_csv csv;
    int64_t n_rows;
    int32_t n_parts;
    part part[FIELDS];
} csv_state;

static dt_status bad_value(const dt_csv *c, int32_t column, const char *text, const char *what) {
    char shown[SHOWN_BYTES + 1];
    snprintf(shown, sizeof shown, "%s", text);
    for (char *at = shown; *at; at++)
        if ((uint8_t)*at < ' ') *at = '?';
    return dt_fail(DT_ERR_DATA, "%s:%lld: column \"%.40s\": %s%s%s%s", c->path, (long long)c->begin,
                   c->column[column], *shown ? "\"" : "", shown, *shown ? "\" " : "", what);
}

/* Decimal notation: blanks, sign, digits with a point among them, exponent, blanks. What strtof takes besides,
 * such as "nan", "inf" and "0x1p3", is text. *whole: neither point nor exponent. */
static bool is_number(const char *text, bool *whole) {
    const char *at = text + strspn(text, " \t");
    at += *at == '+' || *at == '-';
    const size_t before = strspn(at, "0123456789");
    at += before;
    *whole = *at != '.' && *at != 'e' && *at != 'E';
    size_t behind = 0;
    if (*at == '.') behind = strspn(++at, "0123456789");
    at += behind;
    if (before + behind == 0) return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        const size_t n = strspn(at, "0123456789");
        if (n == 0) return false;
        at += n;
    }
    return at[strspn(at, " \t")] == 0;
}

static dt_status take_value(const dt_csv *c, part *p, int64_t at, int32_t column) {
    const char *text = c->value[column];
    bool whole;
    if (text[strspn(text, " \t")] == 0)
        return bad_value(c, column, "", "is empty: every value must be a number");
    if (!is_number(text, &whole))
        return bad_value(c, column, text,
                         strchr(text, ',')
                             ? "is not a number: write it with a point, and without marks of thousands"
                             : "is not a number");
    p->value[at] = strtof_l(text, NULL, dt_plain_locale());
    if (!isfinite(p->value[at])) return bad_value(c, column, text, "is too large");
    errno = 0;
    const long long n = whole ? strtoll(text, NULL, 10) : 0;
    if (errno == 0 && p->rounded_line == 0 && (double)n != (double)p->value[at] && whole) {
        p->rounded_line = c->begin;
        p->rounded_column = column;
        p->rounded = n;
    }
    if (!p->whole) return DT_OK;
    if (whole && errno == 0 && n >= INT32_MIN && n <= INT32_MAX) {
        p->whole[at] = (int32_t)n;
        return DT_OK;
    }
    free(p->whole);
    p->whole = NULL;
    return DT_OK;
}

static dt_status grow(const csv_state *s, part *p) {
    if (s->n_rows < p->capacity) return DT_OK;
    const int64_t capacity = p->capacity ? 2 * p->capacity : 16;
    const size_t n = (size_t)(capacity * p->n_columns);
    float *value = realloc(p->value, n * sizeof *value);
    if (value) p->value = value;
    int32_t *whole = p->whole ? realloc(p->whole, n * sizeof *whole) : NULL;
    if (whole) p->whole = whole;
    if (!value || (p->whole && !whole)) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->csv.path);
    p->capacity = capacity;
    return DT_OK;
}

static dt_status read_rows(csv_state *s) {
    for (;;) {
        bool found;
        DT_TRY(dt_csv_next(&s->csv, &found));
        if (!found) break;
        for (int32_t k = 0; k < s->n_parts; k++) {
            part *p = &s->part[k];
            DT_TRY(grow(s, p));
            for (int32_t i = 0; i < p->n_columns; i++)
                DT_TRY(take_value(&s->csv, p, s->n_rows * p->n_columns + i, p->place[i]));
        }
        s->n_rows++;
    }
    return s->n_rows > 0
               ? DT_OK
               : dt_fail(DT_ERR_DATA, "%s: no line below the one with the columns' names", s->csv.path);
}

/* ---- which columns ---- */

static bool has_column(const part *p, int32_t place) {
    for (int32_t i = 0; i < p->n_columns; i++)
        if (p->place[i] == place) return true;
    return false;
}

static dt_status new_part(csv_state *s, const char *name, part **out) {
    part *p = *out = &s->part[s->n_parts++];
    *p = (part){.name = name, .place = calloc((size_t)s->csv.n_columns, sizeof *p->place)};
    return p->place ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->csv.path);
}

/* The columns of a list "a,b,c". */
static dt_status named(csv_state *s, const char *name, const char *list) {
    part *p = NULL;
    char *copy = strdup(list), *rest = copy;
    dt_status status =
        copy ? new_part(s, name, &p) : dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->csv.path);
    while (status == DT_OK && rest) {
        const char *column = strsep(&rest, ",");
        int32_t place = -1;
        status = dt_csv_column(&s->csv, column, &place);
        for (int32_t k = 0; status == DT_OK && k < s->n_parts; k++)
            if (has_column(&s->part[k], place))
                status = dt_fail(DT_ERR_USAGE, "import csv: column \"%s\" is named twice", column);
        if (status == DT_OK) p->place[p->n_columns++] = place;
    }
    free(copy);
    return status;
}

/* All columns that `other` has not. */
static dt_status remaining(csv_state *s, const char *name, int32_t other) {
    part *p;
    DT_TRY(new_part(s, name, &p));
    for (int32_t i = 0; i < s->csv.n_columns; i++)
        if (!has_column(&s->part[other], i)) p->place[p->n_columns++] = i;
    return p->n_columns > 0 ? DT_OK : dt_fail(DT_ERR_DATA, "%s: no column is left for %s", s->csv.path, name);
}

/* y is what --y names, else the last column; x what --x names, else all others. */
static dt_status choose_columns(const dt_import_options *o, csv_state *s) {
    if (o->x) DT_TRY(named(s, "x", o->x));
    if (o->y) {
        DT_TRY(named(s, "y", o->y));
        return o->x ? DT_OK : remaining(s, "x", 0);
    }
    part *p;
    const int32_t last = s->csv.n_columns - 1;
    if (o->x && has_column(&s->part[0], last)) return DT_OK; /* no y: all is input */
    DT_TRY(new_part(s, "y", &p));
    p->place[p->n_columns++] = last;
    return o->x ? DT_OK : remaining(s, "x", 0);
}

/* Each column has a name, and a name of its own. */
static dt_status check_names(const dt_csv *c) {
    for (int32_t i = 0; i < c->n_columns; i++) {
        const char *name = c->column[i];
        if (!name[strspn(name, " \t\r\n")])
            return dt_fail(
                DT_ERR_DATA, "%s:1: column %d of %d has no name%s: give it one, or take it out of the file",
                c->path, i + 1, c->n_columns, i + 1 == c->n_columns ? " (the line ends with a comma)" : "");
        for (int32_t k = 0; k < i; k++)
            if (strcmp(c->column[k], name) == 0)
                return dt_fail(DT_ERR_DATA, "%s:1: columns %d and %d are both named \"%.40s\"", c->path,
                               k + 1, i + 1, name);
    }
    if (c->n_columns == 1 && strpbrk(c->column[0], ";\t"))
        return dt_fail(DT_ERR_DATA, "%s:1: one column, \"%.60s\": columns are separated by commas, not by %s",
                       c->path, c->column[0], strchr(c->column[0], ';') ? "semicolons" : "tabs");
    return DT_OK;
}

/* A file without a header would lose its first row. */
static dt_status check_header(const dt_csv *c) {
    bool whole;
    DT_TRY(check_names(c));
    for (int32_t i = 0; i < c->n_columns; i++)
        if (!is_number(c->column[i], &whole)) return DT_OK;
    return dt_fail(DT_ERR_DATA,
                   "%s:1: the first line holds numbers, and must name the columns: put a line like "
                   "a,b,y before it",
                   c->path);
}

/* ---- the source ---- */

static dt_status load_csv(const void *state, int32_t k, const int64_t *row, int64_t n, void *dst) {
    const csv_state *s = state;
    const part *p = &s->part[k];
    const int64_t elem = p->n_columns;
    for (int64_t i = 0; i < n; i++) {
        const void *from = p->whole ? (const void *)(p->whole + row[i] * elem) : p->value + row[i] * elem;
        memcpy((uint8_t *)dst + i * elem * 4, from, (size_t)elem * 4);
    }
    return DT_OK;
}

static void close_csv(void *state) {
    csv_state *s = state;
    for (int32_t k = 0; k < s->n_parts; k++) {
        free(s->part[k].place);
        free(s->part[k].value);
        free(s->part[k].whole);
    }
    dt_csv_close(&s->csv);
    free(s);
}

/* x first; y keeps whole numbers, which are labels, and x is always of real ones. */
static dt_status begin_values(csv_state *s) {
    if (s->n_parts > 1 && strcmp(s->part[0].name, "y") == 0) {
        const part y = s->part[0];
        s->part[0] = s->part[1];
        s->part[1] = y;
    }
    for (int32_t k = 0; k < s->n_parts; k++) {
        part *p = &s->part[k];
        if (strcmp(p->name, "y") == 0 && !(p->whole = malloc((size_t)p->n_columns * sizeof *p->whole)))
            return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->csv.path);
    }
    return DT_OK;
}

static void add_fields(const csv_state *s, dt_array_source *out) {
    for (int32_t k = 0; k < s->n_parts; k++) {
        const part *p = &s->part[k];
        dt_field *f = &out->field[out->n_fields++];
        *f = (dt_field){.dtype = p->whole ? DT_DTYPE_I32 : DT_DTYPE_F32};
        strcpy(f->name, p->name);
        /* A single target is one number, several a vector. */
        if (p->n_columns > 1 || strcmp(p->name, "x") == 0) f->ndim = 1, f->dim[0] = p->n_columns;
        const size_t n = (size_t)(s->n_rows * p->n_columns) * 4;
        out->identity = XXH3_64bits_withSeed(p->whole ? (const void *)p->whole : p->value, n, out->identity);
    }
}

/* Whole numbers that a field of real ones, or of fp32, does not hold. */
static void tell_rounded(const dt_import_options *o, const csv_state *s) {
    for (int32_t k = 0; k < s->n_parts; k++) {
        const part *p = &s->part[k];
        char note[512];
        if (p->rounded_line == 0 || p->whole || !o->note) continue;
        snprintf(note, sizeof note,
                 "%.200s:%lld: column \"%.40s\": %lld is rounded: fp32, in which networks compute, holds "
                 "whole numbers "
                 "beyond 2^24 only so",
                 s->csv.path, (long long)p->rounded_line, s->csv.column[p->rounded_column], p->rounded);
        o->note(o->arg, note);
    }
}

/* Every column that there is, but where x is named. */
static dt_status choose_inputs(const dt_import_options *o, csv_state *s) {
    part *p;
    if (o->x) return named(s, "x", o->x);
    DT_TRY(new_part(s, "x", &p));
    while (p->n_columns < s->csv.n_columns) p->place[p->n_columns] = p->n_columns, p->n_columns++;
    return DT_OK;
}

static dt_status open_source(const dt_import_options *o,
                             dt_status (*choose)(const dt_import_options *o, csv_state *s),
                             dt_array_source *out) {
    *out = (dt_array_source){.state = NULL};
    if (o->n_input != 1) return dt_fail(DT_ERR_USAGE, "import csv: give one CSV file");
    csv_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    *out = (dt_array_source){.state = s, .load = load_csv, .close = close_csv};
    DT_TRY(dt_csv_open(o->input[0], &s->csv));
    DT_TRY(check_header(&s->csv));
    DT_TRY(choose(o, s));
    DT_TRY(begin_values(s));
    DT_TRY(read_rows(s));
    tell_rounded(o, s);
    out->n_rows = s->n_rows;
    add_fields(s, out);
    return DT_OK;
}

dt_status dt_source_csv(const dt_import_options *o, dt_array_source *out) {
    return open_source(o, choose_columns, out);
}

dt_status dt_source_csv_inputs(const dt_import_options *o, dt_array_source *out) {
    return open_source(o, choose_inputs, out);
}
