/* Folders whose files get their classes from a CSV list. */
#include "folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "core/text.h"
#include "class_names.h"
#include "csv.h"

enum { IDENTITY_SEED = 2 }; /* the same files by their directories are another import */

/* "./a//b.jpg" to "a/b.jpg", in place; false where it leads out of the folder or nowhere. */
static bool tidy(char *name) {
    char *out = name;
    if (*name == '/') return false;
    for (const char *part = name; *part;) {
        const size_t n = strcspn(part, "/");
        const bool dot = n == 1 && part[0] == '.', up = n == 2 && part[0] == '.' && part[1] == '.';
        const char *next = part + n + strspn(part + n, "/");
        if (up) return false;
        if (!dot) {
            if (out > name) *out++ = '/';
            memmove(out, part, n);
            out += n;
        }
        part = next;
    }
    *out = 0;
    return out > name;
}

typedef struct reader {
    const char *path;
    dt_label_list *list;
} reader;

static dt_status check_label(const char *path, int64_t line, const char *label) {
    if (label[strspn(label, " \t")] == 0)
        return dt_fail(DT_ERR_DATA, "%s:%lld: no label", path, (long long)line);
    if (label[strcspn(label, "\r\n")])
        return dt_fail(DT_ERR_DATA, "%s:%lld: a label with a line break in it", path, (long long)line);
    if (dt_utf8_is(label, strlen(label))) return DT_OK;
    char shown[256];
    dt_name_escape(label, shown, sizeof shown);
    return dt_fail(DT_ERR_DATA, "%s:%lld: label \"%s\" is not UTF-8", path, (long long)line, shown);
}

static dt_status take_record(void *arg, int64_t line, const char *const *value) {
    reader *r = arg;
    dt_label_list *l = r->list;
    DT_TRY(check_label(r->path, line, value[1]));
    if (l->n == l->capacity) {
        int64_t capacity = l->capacity ? 2 * l->capacity : 1024;
        dt_label *grown = realloc(l->row, (size_t)capacity * sizeof *grown);
        if (!grown) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", r->path);
        l->row = grown;
        l->capacity = capacity;
    }
    dt_label row = {strdup(value[0]), strdup(value[1]), line};
    l->row[l->n++] = row;
    if (!row.name || !row.label) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", r->path);
    if (tidy(row.name)) return DT_OK;
    return dt_fail(DT_ERR_DATA, "%s:%lld: file \"%s\": expected a path below the folder", r->path,
                   (long long)line, value[0]);
}

static int compare_rows(const void *a, const void *b) {
    const dt_label *x = a, *y = b;
    const int order = strcmp(x->name, y->name);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

dt_status dt_label_list_read(const char *path, dt_label_list *out) {
    static const char *const column[] = {"file", "label"};
    reader r = {path, out};
    *out = (dt_label_list){.row = NULL};
    dt_status status = dt_csv_read(path, column, 2, take_record, &r);
    if (status == DT_OK && out->n == 0)
        status = dt_fail(DT_ERR_DATA, "%s: no line below the one with the columns' names", path);
    if (status == DT_OK) qsort(out->row, (size_t)out->n, sizeof *out->row, compare_rows);
    for (int64_t i = 1; i < out->n && status == DT_OK; i++)
        if (strcmp(out->row[i - 1].name, out->row[i].name) == 0)
            status = dt_fail(DT_ERR_DATA, "%s:%lld: %s is on line %lld already", path,
                             (long long)out->row[i].line, out->row[i].name, (long long)out->row[i - 1].line);
    if (status != DT_OK) dt_label_list_free(out);
    return status;
}

void dt_label_list_free(dt_label_list *l) {
    for (int64_t i = 0; i < l->n; i++) {
        free(l->row[i].name);
        free(l->row[i].label);
    }
    free(l->row);
    *l = (dt_label_list){.row = NULL};
}

static int compare_labels(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Each label once. */
static dt_status find_classes(const dt_label_list *l, dt_folder *out) {
    const char **label = calloc((size_t)l->n, sizeof *label);
    out->classes.name = calloc((size_t)l->n, sizeof *out->classes.name);
    dt_status status = DT_OK;
    if (!label || !out->classes.name) {
        free(label);
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", out->root);
    }
    for (int64_t i = 0; i < l->n; i++) label[i] = l->row[i].label;
    qsort(label, (size_t)l->n, sizeof *label, compare_labels);
    for (int64_t i = 0; i < l->n && status == DT_OK; i++) {
        if (i > 0 && strcmp(label[i - 1], label[i]) == 0) continue;
        char *name = out->classes.name[out->classes.n++] = strdup(label[i]);
        if (!name) status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", out->root);
    }
    free(label);
    return status;
}

static dt_status add_row(const char *path, const dt_label *row, dt_folder *out) {
    struct stat st;
    char *file;
    dt_status status = DT_OK;
    if (asprintf(&file, "%s/%s", out->root, row->name) < 0)
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", out->root);
    if (stat(file, &st) != 0 || !S_ISREG(st.st_mode))
        status = dt_fail(DT_ERR_DATA, "%s:%lld: %s: no such file (paths start at %s)", path,
                         (long long)row->line, file, out->root);
    free(file);
    DT_TRY(status);
    const char *const *class = bsearch(&row->label, out->classes.name, (size_t)out->classes.n,
                                       sizeof *out->classes.name, compare_labels);
    const int32_t label = (int32_t)(class - (const char *const *)out->classes.name);
    const uint64_t facts[] = {out->identity, (uint64_t)st.st_size, (uint64_t)label};
    out->identity = XXH3_64bits_withSeed(row->name, strlen(row->name), XXH3_64bits(facts, sizeof facts));
    return dt_folder_add(out, row->name, label, st.st_size);
}

/* Images of the folder that the list does not name. */
typedef struct unlisted {
    const dt_label_list *list;
    int64_t n;
    char *first;
} unlisted;

static dt_status visit_image(void *arg, const char *name, int64_t n_bytes) {
    (void)n_bytes;
    unlisted *u = arg;
    const dt_label key = {.name = (char *)(uintptr_t)name};
    int64_t low = 0, high = u->list->n;
    if (!dt_folder_image_is(name)) return DT_OK;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (strcmp(u->list->row[middle].name, key.name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const bool listed = low < u->list->n && strcmp(u->list->row[low].name, name) == 0;
    if (!listed && u->n++ == 0) u->first = strdup(name);
    return DT_OK;
}

static dt_status tell_unlisted(const dt_import_options *o, const dt_label_list *list) {
    unlisted u = {.list = list};
    char text[512];
    if (!o->note) return DT_OK;
    dt_status status = dt_folder_walk(o->input[0], "", visit_image, &u);
    if (status == DT_OK && u.n > 0) {
        snprintf(text, sizeof text, "%s without a label in %s left out, the first: %s/%s",
                 dt_count_text(u.n, "image").s, o->labels, o->input[0], u.first ? u.first : "");
        o->note(o->arg, text);
    }
    free(u.first);
    return status;
}

dt_status dt_folder_by_list(const dt_import_options *o, dt_folder *out) {
    dt_label_list list;
    *out = (dt_folder){.root = o->input[0]};
    DT_TRY(dt_label_list_read(o->labels, &list));
    dt_status status;
    DT_TRY_GOTO(status, find_classes(&list, out), done);
    DT_TRY_GOTO(status, dt_folder_name_classes(out, "label"), done);
    out->identity = XXH3_64bits_withSeed(out->class_names, strlen(out->class_names), IDENTITY_SEED);
    for (int64_t i = 0; i < list.n; i++) DT_TRY_GOTO(status, add_row(o->labels, &list.row[i], out), done);
    status = tell_unlisted(o, &list);
done:
    dt_label_list_free(&list);
    return status;
}
