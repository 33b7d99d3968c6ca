/* A record at a time; values are unquoted in place. */
#include "csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

enum { CSV_MAX_BYTES = 1 << 30, HEADER_SHOWN = 8 };

typedef struct csv {
    const char *path;
    char *at, *end;
    int64_t line, begin; /* of `at`, and of the record */
    char **value;
    int32_t n_values, capacity;
} csv;

static dt_status wrong(const csv *c, int64_t line, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s:%lld: %s", c->path, (long long)line, what);
}

static dt_status add_value(csv *c, char *value) {
    if (c->n_values == c->capacity) {
        int32_t capacity = c->capacity ? 2 * c->capacity : 16;
        char **grown = capacity > INT32_MAX / 2 ? NULL : realloc(c->value, (size_t)capacity * sizeof *grown);
        if (!grown) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", c->path);
        c->value = grown;
        c->capacity = capacity;
    }
    c->value[c->n_values++] = value;
    return DT_OK;
}

/* From behind the opening quote to behind the closing one; *end: where the value ends once it is unquoted. */
static dt_status unquote(csv *c, char **end) {
    const int64_t line = c->line;
    char *out = c->at;
    for (; c->at < c->end; *out++ = *c->at++) {
        if (*c->at == '\n') c->line++;
        if (*c->at != '"') continue;
        c->at++;
        if (c->at == c->end || *c->at != '"') {
            *end = out;
            return DT_OK;
        }
    }
    return wrong(c, line, "a quote is opened and never closed");
}

/* One value and what ends it; *last: the record ends with it. */
static dt_status read_value(csv *c, bool *last) {
    char *begin = c->at, *end = c->at;
    if (c->at < c->end && *c->at == '"') {
        begin = ++c->at;
        DT_TRY(unquote(c, &end));
    } else {
        while (c->at < c->end && !strchr(",\r\n\"", *c->at)) c->at++;
        end = c->at;
    }
    if (c->at + 1 < c->end && c->at[0] == '\r' && c->at[1] == '\n') c->at++;
    *last = c->at == c->end || *c->at == '\n';
    if (!*last && *c->at == '"')
        return wrong(c, c->line,
                     "a quote within a value: put the whole value in quotes, and double those in it");
    if (!*last && *c->at == '\r') return wrong(c, c->line, "a carriage return that ends no line");
    if (!*last && *c->at != ',') return wrong(c, c->line, "text behind a closing quote");
    if (c->at < c->end && *c->at == '\n') c->line++;
    if (c->at < c->end) c->at++;
    *end = 0;
    return add_value(c, begin);
}

/* The next record that is not an empty line; none are left: *found false. */
static dt_status read_record(csv *c, bool *found) {
    *found = false;
    while (c->at < c->end && !*found) {
        const bool quoted = *c->at == '"';
        bool last = false;
        c->n_values = 0;
        c->begin = c->line;
        while (!last) DT_TRY(read_value(c, &last));
        *found = quoted || c->n_values > 1 || c->value[0][0];
    }
    return DT_OK;
}

static dt_status no_column(const csv *c, const char *column) {
    char shown[512] = "";
    size_t at = 0;
    for (int32_t i = 0; i < c->n_values && i < HEADER_SHOWN && at < sizeof shown; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at, "%s\"%.40s\"", i ? ", " : "", c->value[i]);
    return dt_fail(
        DT_ERR_DATA,
        "%s:%lld: no column \"%s\": the first line names the columns, separated by commas, and has %s%s",
        c->path, (long long)c->begin, column, shown, c->n_values > HEADER_SHOWN ? ", ..." : "");
}

/* Where each wanted column stands. */
static dt_status read_header(csv *c, const char *const *column, int32_t n, int32_t *place) {
    bool found;
    DT_TRY(read_record(c, &found));
    if (!found)
        return dt_fail(DT_ERR_DATA, "%s: empty: expected a first line with the columns' names", c->path);
    for (int32_t k = 0; k < n; k++) {
        place[k] = -1;
        for (int32_t i = 0; i < c->n_values; i++) {
            if (strcmp(c->value[i], column[k]) != 0) continue;
            if (place[k] >= 0)
                return dt_fail(DT_ERR_DATA, "%s:%lld: two columns \"%s\"", c->path, (long long)c->begin,
                               column[k]);
            place[k] = i;
        }
        if (place[k] < 0) return no_column(c, column[k]);
    }
    return DT_OK;
}

static dt_status read_all(csv *c, const char *const *column, int32_t n, int32_t *place, const char **value,
                          dt_csv_record *record, void *arg) {
    bool found = true;
    DT_TRY(read_header(c, column, n, place));
    const int32_t n_columns = c->n_values;
    while (found) {
        DT_TRY(read_record(c, &found));
        if (!found) break;
        if (c->n_values != n_columns)
            return dt_fail(DT_ERR_DATA, "%s:%lld: %d value%s, but the first line names %d column%s", c->path,
                           (long long)c->begin, c->n_values, dt_plural(c->n_values), n_columns,
                           dt_plural(n_columns));
        for (int32_t k = 0; k < n; k++) value[k] = c->value[place[k]];
        DT_TRY(record(arg, c->begin, value));
    }
    return DT_OK;
}

dt_status dt_csv_read(const char *path, const char *const *column, int32_t n_columns, dt_csv_record *record,
                      void *arg) {
    uint8_t *text;
    int64_t n;
    DT_TRY(dt_file_read(path, CSV_MAX_BYTES, &text, &n));
    csv c = {.path = path, .at = (char *)text, .end = (char *)text + n, .line = 1};
    int32_t *place = calloc((size_t)n_columns, sizeof *place);
    const char **value = calloc((size_t)n_columns, sizeof *value);
    dt_status status = DT_OK;
    if (!place || !value)
        status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    else if (memchr(text, 0, (size_t)n))
        status = dt_fail(DT_ERR_DATA, "%s: not a text file (it has bytes of value 0)", path);
    if (strncmp(c.at, "\xEF\xBB\xBF", 3) == 0) c.at += 3;
    if (status == DT_OK) status = read_all(&c, column, n_columns, place, value, record, arg);
    free(c.value);
    free(value);
    free(place);
    free(text);
    return status;
}
