/* Classes of text: by JSON fields or by directories. */
#include "text_classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/text.h"
#include "files.h"
#include "folder.h"

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "import: out of memory");
}

/* ---- directories ---- */

static bool is_directory(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

typedef struct finder {
    dt_text_inputs *out;
    int32_t capacity;
    const char *root;
} finder;

static dt_status add_file(finder *f, char *file, char *class) {
    dt_text_inputs *t = f->out;
    if (t->n == f->capacity) {
        const int32_t capacity = f->capacity ? 2 * f->capacity : 64;
        char **files = realloc(t->file, (size_t)capacity * sizeof *files);
        if (files) t->file = files;
        char **classes = realloc(t->class, (size_t)capacity * sizeof *classes);
        if (classes) t->class = classes;
        if (files && classes) f->capacity = capacity;
    }
    if (!file || !class || t->n == f->capacity || t->n == INT32_MAX / 2) {
        free(file);
        free(class);
        return no_memory();
    }
    t->file[t->n] = file;
    t->class[t->n++] = class;
    return DT_OK;
}

/* name: "cat/1.txt"; files that stand in no directory of a class are none of ours. */
static dt_status visit(void *arg, const char *name, int64_t n_bytes) {
    finder *f = arg;
    const char *slash = strchr(name, '/');
    char *file;
    if (!slash || n_bytes == 0) return DT_OK;
    if (asprintf(&file, "%s/%s", f->root, name) < 0) file = NULL;
    return add_file(f, file, strndup(name, (size_t)(slash - name)));
}

dt_status dt_text_inputs_find(const dt_import_options *o, dt_text_inputs *out) {
    finder f = {.out = out};
    int32_t n_directories = 0;
    *out = (dt_text_inputs){.file = NULL};
    for (int32_t i = 0; i < o->n_input; i++) n_directories += is_directory(o->input[i]);
    if (n_directories == 0) return DT_OK;
    if (n_directories < o->n_input || o->label || o->field || o->separator)
        return dt_fail(DT_ERR_USAGE,
                       "import text: a directory has a directory of text files for each class: no files "
                       "beside it, no --label, --field and --separator");
    for (int32_t i = 0; i < o->n_input; i++) {
        f.root = o->input[i];
        DT_TRY(dt_folder_walk(f.root, "", visit, &f));
    }
    if (out->n > 0) return DT_OK;
    return dt_fail(DT_ERR_DATA, "%s: has no directories with files of text, one for each class", o->input[0]);
}

void dt_text_inputs_free(dt_text_inputs *t) {
    for (int32_t i = 0; i < t->n; i++) {
        free(t->file[i]);
        free(t->class[i]);
    }
    free(t->file);
    free(t->class);
    *t = (dt_text_inputs){.file = NULL};
}

/* ---- names ---- */

enum { CLASSES_MAX = 1 << 20 };

/* Those met so far, in byte order. */
typedef struct collection {
    char **name;
    int64_t n, capacity;
} collection;

/* Where it stands, or would. */
static int64_t place_of(const collection *c, const char *name, bool *found) {
    int64_t low = 0, high = c->n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (strcmp(c->name[middle], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < c->n && strcmp(c->name[low], name) == 0;
    return low;
}

static dt_status collect_name(collection *c, const char *name) {
    bool found;
    const int64_t at = place_of(c, name, &found);
    if (found) return DT_OK;
    if (c->n == CLASSES_MAX)
        return dt_fail(DT_ERR_DATA, "more than %d classes: the field of --label is none of classes",
                       CLASSES_MAX);
    if (c->n == c->capacity) {
        const int64_t capacity = c->capacity ? 2 * c->capacity : 64;
        char **grown = realloc(c->name, (size_t)capacity * sizeof *grown);
        if (!grown) return no_memory();
        c->name = grown;
        c->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) return no_memory();
    memmove(c->name + at + 1, c->name + at, (size_t)(c->n - at) * sizeof *c->name);
    c->name[at] = copy;
    c->n++;
    return DT_OK;
}

static dt_status collect(void *arg, const dt_text_document *d) {
    return d->class ? collect_name(arg, d->class) : DT_OK;
}

static dt_status collect_all(const dt_import_options *o, const dt_text_read_options *read, collection *c) {
    dt_text_reader *r = NULL;
    dt_text_block block = {.file = NULL};
    int64_t n_skipped = 0;
    bool more = true;
    dt_status status = DT_OK;
    for (int32_t i = 0; read->class && i < read->n_input && status == DT_OK; i++)
        status = collect_name(c, read->class[i]);
    if (read->class || status != DT_OK) return status;
    status = dt_text_reader_open(read, &r);
    while (status == DT_OK) {
        status = dt_text_reader_next(r, &block, &more);
        if (status != DT_OK || !more) break;
        status = dt_text_block_each(&block, read, o->skip_broken, collect, c, &n_skipped);
        if (status == DT_OK && o->progress && !o->progress(o->arg, 0, 1))
            status = dt_fail(DT_STOPPED, "import interrupted; it begins anew when it is run again");
    }
    dt_text_block_free(&block);
    dt_text_reader_close(r);
    return status;
}

dt_status dt_text_classes_find(const dt_import_options *o, const dt_text_read_options *read,
                               dt_class_names *out) {
    collection c = {.n = 0};
    char *text = NULL;
    size_t size;
    if (o->class_names) return dt_class_names_read(o->class_names, out);
    dt_status status = collect_all(o, read, &c);
    FILE *f = status == DT_OK ? open_memstream(&text, &size) : NULL;
    for (int64_t i = 0; i < c.n && f; i++) fprintf(f, "%s%s", i ? "\n" : "", c.name[i]);
    if (f && fclose(f) != 0) f = NULL;
    if (status == DT_OK && c.n == 0)
        status = dt_fail(DT_ERR_DATA, "import text: there are no documents with a class");
    if (status == DT_OK) status = f && text ? dt_class_names_make("import text", text, out) : no_memory();
    for (int64_t i = 0; i < c.n; i++) free(c.name[i]);
    free(c.name);
    free(text);
    return status;
}

/* ---- labels ---- */

dt_status dt_text_labels_add(dt_text_labels *l, int64_t n, const int32_t *label) {
    if (l->n + n > l->capacity) {
        const int64_t capacity = dt_max_i64(2 * l->capacity, l->n + n);
        int32_t *grown = realloc(l->label, (size_t)capacity * sizeof *grown);
        if (!grown) return no_memory();
        l->label = grown;
        l->capacity = capacity;
    }
    if (n > 0) memcpy(l->label + l->n, label, (size_t)n * sizeof *label);
    l->n += n;
    return DT_OK;
}

dt_status dt_text_labels_add_class(dt_text_labels *l, const dt_class_names *names, const char *class) {
    char shown[160];
    const int32_t label = (int32_t)dt_class_names_find(names, class);
    if (label >= 0) return dt_text_labels_add(l, 1, &label);
    dt_name_escape(class, shown, sizeof shown);
    return dt_fail(DT_ERR_DATA, "class \"%s\" is not in the list of --class-names", shown);
}
