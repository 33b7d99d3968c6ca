/* Reading and searching lists of class names. */
#include "class_names.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "dataset.h"
#include "files.h"

enum { NAMES_MAX_BYTES = 16 << 20 };

bool dt_utf8_is(const char *text, size_t n) {
    json_t *string = json_stringn(text, n);
    json_decref(string);
    return string != NULL;
}

void dt_name_escape(const char *name, char *out, size_t out_bytes) {
    size_t at = 0;
    for (*out = 0; *name && at + sizeof "\\xHH" <= out_bytes; name++) {
        bool plain = *name >= ' ' && *name <= '~';
        at += (size_t)snprintf(out + at, out_bytes - at, plain ? "%c" : "\\x%02x", (uint8_t)*name);
    }
}

static int compare(const void *a, const void *b, void *names) {
    const dt_class_names *c = names;
    const int32_t i = *(const int32_t *)a, k = *(const int32_t *)b;
    const int order = strcmp(c->name[i], c->name[k]);
    return order ? order : i - k;
}

static dt_status check_name(const char *path, int64_t i, const char *name) {
    char shown[256];
    if (!dt_utf8_is(name, strlen(name))) {
        dt_name_escape(name, shown, sizeof shown);
        return dt_fail(DT_ERR_DATA, "%s:%lld: class name \"%s\" is not UTF-8: rename it", path,
                       (long long)i + 1, shown);
    }
    if (strchr(name, '\r'))
        return dt_fail(DT_ERR_DATA, "%s:%lld: a carriage return that ends no line", path, (long long)i + 1);
    if (name[strspn(name, " \t")] == 0)
        return dt_fail(DT_ERR_DATA, "%s:%lld: an empty line: expected a class name on each", path,
                       (long long)i + 1);
    return DT_OK;
}

dt_status dt_class_names_make(const char *path, const char *text, dt_class_names *out) {
    int64_t n = 1;
    for (const char *at = text; *at; at++) n += *at == '\n';
    *out = (dt_class_names){.text = strdup(text), .name = dt_class_names_split(text, n), .n = n};
    out->order = calloc((size_t)n, sizeof *out->order);
    dt_status status = DT_OK;
    if (!out->text || !out->name || !out->order || n > INT32_MAX)
        status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    for (int64_t i = 0; i < n && status == DT_OK; i++) {
        out->order[i] = (int32_t)i;
        status = check_name(path, i, out->name[i]);
    }
    if (status == DT_OK) qsort_r(out->order, (size_t)n, sizeof *out->order, compare, out);
    for (int64_t i = 1; i < n && status == DT_OK; i++)
        if (strcmp(out->name[out->order[i - 1]], out->name[out->order[i]]) == 0)
            status = dt_fail(DT_ERR_DATA, "%s:%d: class \"%s\" is on line %d already: a name has one label",
                             path, out->order[i] + 1, out->name[out->order[i]], out->order[i - 1] + 1);
    if (status != DT_OK) dt_class_names_close(out);
    return status;
}

static dt_status of_data_set(const char *path, dt_class_names *out) {
    dt_dataset *d;
    DT_TRY(dt_dataset_open_path(path, &d));
    const char *text = d->row == &dt_tokens_row   ? d->tokens.shard[0].class_names
                       : d->row == &dt_images_row ? d->shard[0].class_names
                                                  : NULL;
    dt_status status = text ? dt_class_names_make(path, text, out)
                            : dt_fail(DT_ERR_DATA, "%s: this data set has no class names", path);
    dt_dataset_close(d);
    return status;
}

dt_status dt_class_names_read(const char *path, dt_class_names *out) {
    struct stat st;
    char *text;
    int64_t n, kept = 0;
    *out = (dt_class_names){.text = NULL};
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return of_data_set(path, out);
    DT_TRY(dt_file_read(path, NAMES_MAX_BYTES, (uint8_t **)&text, &n));
    dt_status status = DT_OK;
    if (memchr(text, 0, (size_t)n)) {
        status = dt_fail(DT_ERR_DATA, "%s: not a text file of one name a line", path);
    } else {
        for (int64_t i = strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0; i < n; i++)
            if (text[i] != '\r' || (i + 1 < n && text[i + 1] != '\n')) text[kept++] = text[i];
        while (kept > 0 && text[kept - 1] == '\n') kept--;
        text[kept] = 0;
        status = kept ? dt_class_names_make(path, text, out)
                      : dt_fail(DT_ERR_DATA, "%s: empty: expected a class name a line", path);
    }
    free(text);
    return status;
}

void dt_class_names_close(dt_class_names *c) {
    dt_class_names_free(c->name, c->n);
    free(c->text);
    free(c->order);
    *c = (dt_class_names){.text = NULL};
}

int64_t dt_class_names_find(const dt_class_names *c, const char *name) {
    int64_t low = 0, high = c->n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const int order = strcmp(name, c->name[c->order[middle]]);
        if (order == 0) return c->order[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* A name without the blanks around it, which nobody sees. */
static const char *trim(const char *name, size_t *n) {
    name += strspn(name, " \t");
    *n = strlen(name);
    while (*n > 0 && (name[*n - 1] == ' ' || name[*n - 1] == '\t')) --*n;
    return name;
}

const char *dt_class_names_near(const dt_class_names *c, const char *name) {
    size_t n, n_listed;
    const char *meant = trim(name, &n);
    for (int64_t i = 0; i < c->n; i++) {
        const char *listed = trim(c->name[i], &n_listed);
        if (n == n_listed && strncasecmp(listed, meant, n) == 0) return c->name[i];
    }
    return NULL;
}
