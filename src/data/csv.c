/* A record at a time; values are unquoted in place. */
#include "csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

enum { CSV_MAX_BYTES = 1 << 30, HEADER_SHOWN = 8 };

static dt_status wrong(const dt_csv *c, int64_t line, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s:%lld: %s", c->path, (long long)line, what);
}

static dt_status add_value(dt_csv *c, char *value) {
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
static dt_status unquote(dt_csv *c, char **end) {
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
static dt_status read_value(dt_csv *c, bool *last) {
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

static dt_status read_record(dt_csv *c, bool *found) {
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

static dt_status no_column(const dt_csv *c, const char *name) {
    char shown[512] = "";
    size_t at = 0;
    for (int32_t i = 0; i < c->n_columns && i < HEADER_SHOWN && at < sizeof shown; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at, "%s\"%.40s\"", i ? ", " : "", c->column[i]);
    return dt_fail(
        DT_ERR_DATA,
        "%s:%lld: no column \"%s\": the first line names the columns, separated by commas, and has %s%s",
        c->path, (long long)c->begin, name, shown, c->n_columns > HEADER_SHOWN ? ", ..." : "");
}

dt_status dt_csv_column(const dt_csv *c, const char *name, int32_t *place) {
    *place = -1;
    for (int32_t i = 0; i < c->n_columns; i++) {
        if (strcmp(c->column[i], name) != 0) continue;
        if (*place >= 0)
            return dt_fail(DT_ERR_DATA, "%s:%lld: two columns \"%s\"", c->path, (long long)c->begin, name);
        *place = i;
    }
    return *place >= 0 ? DT_OK : no_column(c, name);
}

dt_status dt_csv_open(const char *path, dt_csv *out) {
    int64_t n;
    bool found;
    uint8_t *text;
    *out = (dt_csv){.path = path, .line = 1};
    DT_TRY(dt_file_read(path, CSV_MAX_BYTES, &text, &n));
    out->text = out->at = (char *)text;
    out->end = out->text + n;
    if (memchr(text, 0, (size_t)n))
        return dt_fail(DT_ERR_DATA, "%s: not a text file (it has bytes of value 0)", path);
    if (strncmp(out->at, "\xEF\xBB\xBF", 3) == 0) out->at += 3;
    DT_TRY(read_record(out, &found));
    if (!found) return dt_fail(DT_ERR_DATA, "%s: empty: expected a first line with the columns' names", path);
    out->column = out->value;
    out->n_columns = out->n_values;
    out->value = NULL;
    out->capacity = 0;
    return DT_OK;
}

void dt_csv_close(dt_csv *c) {
    free(c->column);
    free(c->value);
    free(c->text);
    *c = (dt_csv){0};
}

dt_status dt_csv_next(dt_csv *c, bool *found) {
    DT_TRY(read_record(c, found));
    if (!*found || c->n_values == c->n_columns) return DT_OK;
    return dt_fail(DT_ERR_DATA, "%s:%lld: %d value%s, but the first line names %d column%s", c->path,
                   (long long)c->begin, c->n_values, dt_plural(c->n_values), c->n_columns,
                   dt_plural(c->n_columns));
}

static dt_status read_all(dt_csv *c, const char *const *column, int32_t n, int32_t *place, const char **value,
                          dt_csv_record *record, void *arg) {
    bool found;
    for (int32_t k = 0; k < n; k++) DT_TRY(dt_csv_column(c, column[k], &place[k]));
    for (;;) {
        DT_TRY(dt_csv_next(c, &found));
        if (!found) return DT_OK;
        for (int32_t k = 0; k < n; k++) value[k] = c->value[place[k]];
        DT_TRY(record(arg, c->begin, value));
    }
}

dt_status dt_csv_read(const char *path, const char *const *column, int32_t n_columns, dt_csv_record *record,
                      void *arg) {
    dt_csv c;
    int32_t *place = calloc((size_t)n_columns, sizeof *place);
    const char **value = calloc((size_t)n_columns, sizeof *value);
    dt_status status = dt_csv_open(path, &c);
    if (status == DT_OK && (!place || !value)) status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    if (status == DT_OK) status = read_all(&c, column, n_columns, place, value, record, arg);
    dt_csv_close(&c);
    free(value);
    free(place);
    return status;
}
