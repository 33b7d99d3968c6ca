/* Folders with a directory per class, and what lists and they have in common. */
#include "folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "class_names.h"
#include "core/text.h"

enum { SHOWN_MAX = 3 };

static bool ends_with_one_of(const char *name, const char *const *extension, size_t n) {
    const char *base = strrchr(name, '/'), *dot = strrchr(name, '.');
    base = base ? base + 1 : name;
    for (size_t i = 0; dot && dot > base && i < n; i++)
        if (strcasecmp(dot, extension[i]) == 0) return true;
    return false;
}

bool dt_folder_image_is(const char *name) {
    static const char *const extension[] = {".jpg", ".jpeg", ".jpe", ".jfif", ".png"};
    return ends_with_one_of(name, extension, sizeof extension / sizeof extension[0]);
}

/* Images of kinds that are not read. */
static bool is_foreign(const char *name) {
    static const char *const extension[] = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2",
                                            ".jxl",  ".pgm", ".ppm", ".tif",  ".tiff", ".webp"};
    return ends_with_one_of(name, extension, sizeof extension / sizeof extension[0]);
}

static dt_status no_memory(const char *root) {
    return dt_fail(DT_ERR_MEMORY, "%s: out of memory", root);
}

dt_status dt_folder_add(dt_folder *f, const char *name, int32_t class, int64_t n_bytes) {
    if (f->n_files == f->capacity) {
        int64_t capacity = f->capacity ? 2 * f->capacity : 1024;
        dt_folder_file *grown = realloc(f->file, (size_t)capacity * sizeof *grown);
        if (!grown) return no_memory(f->root);
        f->file = grown;
        f->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) return no_memory(f->root);
    f->file[f->n_files++] = (dt_folder_file){copy, class};
    f->n_bytes += n_bytes;
    return DT_OK;
}

static bool is_dir(const char *path, int64_t *n_bytes) {
    struct stat st = {0}; /* a size of 0 where it cannot be told: loading will say why */
    const bool dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    *n_bytes = st.st_size;
    return dir;
}

static dt_status walk(const char *root, const char *below, const dt_dir_trail *above, dt_folder_visit *file,
                      void *arg) {
    char *dir = NULL, *name = NULL, *path = NULL;
    dt_names names = {0};
    dt_dir_trail here;
    if (asprintf(&dir, "%s/%s", root, below) < 0) return no_memory(root);
    dt_status status = dt_dir_enter(dir, above, &here);
    if (status == DT_OK) status = dt_dir_list(dir, dt_name_is_visible, &names);
    for (int64_t i = 0; i < names.n && status == DT_OK; i++) {
        int64_t n_bytes;
        char *deeper;
        free(path), path = NULL;
        free(name), name = NULL;
        if (asprintf(&path, "%s%s", dir, names.name[i]) < 0 ||
            asprintf(&name, "%s%s", below, names.name[i]) < 0) {
            status = no_memory(root);
        } else if (!is_dir(path, &n_bytes)) {
            status = file(arg, name, n_bytes);
        } else if (asprintf(&deeper, "%s/", name) < 0) {
            status = no_memory(root);
        } else {
            status = walk(root, deeper, &here, file, arg);
            free(deeper);
        }
    }
    free(path);
    free(name);
    dt_names_free(&names);
    free(dir);
    return status;
}

dt_status dt_folder_walk(const char *root, const char *below, dt_folder_visit *file, void *arg) {
    dt_dir_trail top;
    if (!*below) return walk(root, below, NULL, file, arg);
    DT_TRY(dt_dir_enter(root, NULL, &top));
    return walk(root, below, &top, file, arg);
}

dt_status dt_folder_name_classes(dt_folder *f, const char *what) {
    size_t n = 1;
    for (int64_t i = 0; i < f->classes.n; i++) {
        const char *name = f->classes.name[i];
        char shown[256];
        const bool broken = name[strcspn(name, "\r\n")] != 0;
        dt_name_escape(name, shown, sizeof shown);
        if (broken || !dt_utf8_is(name, strlen(name)))
            return dt_fail(DT_ERR_DATA, "%s: the name of %s \"%s\" %s: rename it", f->root, what, shown,
                           broken ? "has a line break" : "is not UTF-8");
        n += strlen(name) + 1;
    }
    char *p = f->class_names = calloc(1, n);
    if (!p) return no_memory(f->root);
    for (int64_t i = 0; i < f->classes.n; i++) {
        if (i) *p++ = '\n';
        p = stpcpy(p, f->classes.name[i]);
    }
    return DT_OK;
}

/* What is not a sample: how many, and the first. */
typedef struct left_out {
    int64_t n, n_foreign; /* of them, images of kinds that are not read */
    char *first;
} left_out;

static void leave_out(left_out *l, const char *name) {
    l->n_foreign += is_foreign(name);
    if (l->n++ == 0) l->first = strdup(name);
}

static void tell_left_out(const dt_import_options *o, const char *root, const char *what, const char *which,
                          left_out *l) {
    char text[512], foreign[128] = "";
    if (l->n_foreign > 0)
        snprintf(foreign, sizeof foreign,
                 " (%lld of them of other image formats: convert them to JPEG or PNG)",
                 (long long)l->n_foreign);
    if (l->n > 0 && o->note) {
        snprintf(text, sizeof text, "%s %s left out%s, the first: %s/%s", dt_count_text(l->n, what).s, which,
                 foreign, root, l->first ? l->first : "");
        o->note(o->arg, text);
    }
    free(l->first);
}

/* Plain files beside the class directories (lists, read-me files) are not classes. */
static dt_status keep_directories(dt_folder *f, left_out *beside) {
    int64_t kept = 0, n_bytes;
    for (int64_t i = 0; i < f->classes.n; i++) {
        char *path, *name = f->classes.name[i];
        if (asprintf(&path, "%s/%s", f->root, name) < 0) return no_memory(f->root);
        const bool directory = is_dir(path, &n_bytes);
        free(path);
        f->classes.name[i] = NULL;
        if (directory) {
            f->classes.name[kept++] = name;
            continue;
        }
        if (dt_folder_image_is(name)) leave_out(beside, name);
        free(name);
    }
    f->classes.n = kept;
    return DT_OK;
}

typedef struct visit {
    dt_folder *folder;
    int32_t class;
    size_t n_skip; /* of a name: the directory of its class and the slash */
    left_out other;
} visit;

static dt_status visit_file(void *arg, const char *name, int64_t n_bytes) {
    visit *v = arg;
    if (!dt_folder_image_is(name)) {
        leave_out(&v->other, name);
        return DT_OK;
    }
    /* Not the content, which would be read twice, nor the time, which copying changes: another image of the
     * same name and size is taken for the same. */
    const char *within = name + v->n_skip;
    v->folder->identity = XXH3_64bits_withSeed(within, strlen(within),
                                               v->folder->identity + (uint64_t)n_bytes + (uint64_t)v->class);
    return dt_folder_add(v->folder, name, v->class, n_bytes);
}

static dt_status add_class(dt_folder *f, int32_t class, visit *v) {
    char *below;
    if (asprintf(&below, "%s/", f->classes.name[class]) < 0) return no_memory(f->root);
    v->class = class;
    v->n_skip = strlen(below);
    dt_status status = dt_folder_walk(f->root, below, visit_file, v);
    free(below);
    return status;
}

/* ---- one level too high ---- */

/* What the parts of a data set are called, and the split that each is. */
static const struct {
    const char *directory, *split;
} part_table[] = {{"train", "train"},    {"training", "train"}, {"val", "val"},      {"valid", "val"},
                  {"validation", "val"}, {"dev", "val"},        {"test", "test"},    {"testing", "test"},
                  {"eval", "val"},       {"trainval", "train"}, {"holdout", "test"}, {"evaluation", "val"}};

static const char *split_of(const char *directory) {
    for (size_t i = 0; i < sizeof part_table / sizeof part_table[0]; i++)
        if (strcasecmp(part_table[i].directory, directory) == 0) return part_table[i].split;
    return NULL;
}

/* A class directory, by its files: images in it itself, and the directories in it that hold some. */
typedef struct inside {
    int64_t n_images, n_direct, n_dirs;
    const char *dir[SHOWN_MAX]; /* the first ones; not terminated: end at the slash */
} inside;

static void look_inside(const dt_folder *f, inside *of_class) {
    const char *before = "";
    size_t n_before = 0;
    for (int64_t i = 0; i < f->n_files; i++) {
        inside *in = &of_class[f->file[i].class];
        const char *name = f->file[i].name + strlen(f->classes.name[f->file[i].class]) + 1;
        const size_t n = strcspn(name, "/");
        if (in->n_images++ == 0) n_before = 0;
        if (!name[n]) {
            in->n_direct++;
            continue;
        }
        if (n == n_before && memcmp(name, before, n) == 0) continue;
        before = name, n_before = n;
        if (in->n_dirs < SHOWN_MAX) in->dir[in->n_dirs] = name;
        in->n_dirs++;
    }
}

static void show_dirs(FILE *out, const inside *in) {
    for (int64_t i = 0; i < in->n_dirs && i < SHOWN_MAX; i++)
        fprintf(out, "%s%.*s", i ? ", " : "", (int)strcspn(in->dir[i], "/"), in->dir[i]);
    if (in->n_dirs > SHOWN_MAX) fprintf(out, ", ...");
}

/* A path as a shell takes it. */
static void show_path(FILE *out, const char *dir, const char *name) {
    const char *quote =
        dir[strcspn(dir, " $&()*;<>?[\\]`|\"")] || name[strcspn(name, " $&()*;<>?[\\]`|\"")] ? "'" : "";
    fprintf(out, "%s%s/%s%s", quote, dir, name, quote);
}

/* The commands that import each part, the training set first, whose classes the others have. */
static void show_commands(FILE *out, const dt_import_options *o, const dt_folder *f, const inside *in) {
    const char *training = NULL;
    char *to = strdup(o->out_dir), *last = to ? strrchr(to, '/') : NULL;
    if (last && split_of(last + 1)) *last = 0; /* it was meant for one of them */
    for (int turn = 0; turn < 2; turn++)
        for (int64_t i = 0; i < f->classes.n; i++) {
            const char *name = f->classes.name[i], *split = split_of(name);
            const bool train = split && strcmp(split, "train") == 0;
            if (!split || in[i].n_dirs == 0 || train != (turn == 0)) continue;
            fprintf(out, "\n  dtrain data import folder ");
            show_path(out, f->root, name);
            fprintf(out, " --split %s", split);
            if (training) {
                fprintf(out, " --class-names ");
                show_path(out, to ? to : "DIR", training);
            }
            fprintf(out, " --out ");
            show_path(out, to ? to : "DIR", name);
            if (train) training = name;
        }
    free(to);
}

/* Directories of classes within what would be taken for classes. */
static dt_status doubt(const dt_import_options *o, dt_folder *f) {
    int64_t n_with = 0, n_parts = 0, n_nested = 0, only = 0;
    size_t n_text;
    inside *in = calloc((size_t)f->classes.n, sizeof *in);
    FILE *out = in ? open_memstream(&f->doubt, &n_text) : NULL;
    if (!out) {
        free(in);
        return no_memory(f->root);
    }
    look_inside(f, in);
    for (int64_t i = 0; i < f->classes.n; i++) {
        if (in[i].n_images == 0) continue;
        n_with++;
        n_parts += split_of(f->classes.name[i]) != NULL;
        if (in[i].n_direct > 0 || in[i].n_dirs == 0) continue;
        if (n_nested++ == 0 || in[i].n_dirs > in[only].n_dirs) only = i;
    }
    const bool parts = n_parts == n_with && n_nested > 0,
               one = n_with == 1 && n_nested == 1 && in[only].n_dirs > 1;
    if (parts) {
        fprintf(
            out,
            "%s: its directories are called like the parts of a data set, and %s holds directories itself (",
            f->root, f->classes.name[only]);
        show_dirs(out, &in[only]);
        fprintf(out, "): import the parts one by one, with the other options you need:");
        show_commands(out, o, f, in);
        fprintf(out, "\nIf they are classes, name them in a file: --class-names FILE");
    } else if (one) {
        fprintf(out, "%s: all images are in directories (", f->root);
        show_dirs(out, &in[only]);
        fprintf(out, ") of one directory, and that would be the only class: import ");
        show_path(out, f->root, f->classes.name[only]);
        fprintf(out, " instead. If it is a class, name it in a file: --class-names FILE");
    }
    const bool written = fclose(out) == 0;
    free(in);
    if (!written) return no_memory(f->root);
    if (!parts && !one) free(f->doubt), f->doubt = NULL;
    return DT_OK;
}

/* Shards among the class directories would be one of them the next time. */
static dt_status check_outside(const dt_import_options *o, const char *root) {
    char *inner = strdup(o->out_dir), *real_root = realpath(root, NULL), *real = NULL;
    if (inner && real_root)
        while (!(real = realpath(inner, NULL)) && strcmp(inner, ".") != 0) { /* its end is not there yet */
            char *slash = strrchr(inner, '/');
            strcpy(slash == inner ? inner + 1 : slash ? slash : inner, slash ? "" : ".");
        }
    const size_t n = real_root ? strlen(real_root) : 0;
    const bool within = real && n > 1 && strncmp(real, real_root, n) == 0 && (real[n] == '/' || real[n] == 0);
    free(inner), free(real_root), free(real);
    if (!within) return DT_OK;
    return dt_fail(
        DT_ERR_USAGE,
        "%s lies in %s, whose directories are the classes: choose an output directory outside of it",
        o->out_dir, root);
}

dt_status dt_folder_by_directory(const dt_import_options *o, dt_folder *out) {
    left_out beside = {0};
    visit v = {.folder = out};
    int64_t n_empty = 0, first_empty = 0;
    char text[512];
    *out = (dt_folder){.root = o->input[0]};
    DT_TRY(check_outside(o, out->root));
    DT_TRY(dt_dir_list(out->root, dt_name_is_visible, &out->classes));
    dt_status status;
    DT_TRY_GOTO(status, keep_directories(out, &beside), done);
    DT_TRY_GOTO(status, dt_folder_name_classes(out, "class directory"), done);
    out->identity = XXH3_64bits(out->class_names, strlen(out->class_names));
    for (int64_t i = 0; i < out->classes.n; i++) {
        const int64_t before = out->n_files;
        DT_TRY_GOTO(status, add_class(out, (int32_t)i, &v), done);
        if (out->n_files == before && n_empty++ == 0) first_empty = i;
    }
    if (out->n_files == 0) {
        status = dt_fail(
            DT_ERR_DATA, "%s: no images: expected a directory per class with .jpg or .png files in it%s",
            out->root,
            beside.n > 0 ? " (images in one directory need a list of their labels: --labels FILE.csv)"
            : v.other.n_foreign > 0 ? "; convert images of other formats to JPEG or PNG"
                                    : "");
        goto done;
    }
    if (n_empty > 0 && o->note) {
        snprintf(text, sizeof text, "%s without .jpg or .png files%s: %s/%s",
                 dt_count_text(n_empty, "class").s, n_empty == 1 ? "" : ", the first", out->root,
                 out->classes.name[first_empty]);
        o->note(o->arg, text);
    }
    status = doubt(o, out);
done:
    if (status == DT_OK) {
        tell_left_out(o, out->root, "file", "without .jpg or .png in the name", &v.other);
        tell_left_out(o, out->root, "image", "beside the class directories", &beside);
    } else {
        free(v.other.first);
        free(beside.first);
    }
    return status;
}

void dt_folder_free(dt_folder *f) {
    for (int64_t i = 0; i < f->n_files; i++) free(f->file[i].name);
    free(f->file);
    dt_names_free(&f->classes);
    free(f->class_names);
    free(f->doubt);
    *f = (dt_folder){.root = NULL};
}
