/* A directory per class with .jpg and .png files in it or below it. What a file is follows from its first
 * bytes, not from its name. Decoding, resizing and (for JPEG shards) keeping of files that need no change
 * happen per sample.
 */
#include "source.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "files.h"
#include "filter.h"
#include "png_image.h"
#include "shard.h"

enum { DEPTH_MAX = 32 };

typedef struct folder_file {
    char *name; /* below the directory of its class */
    int32_t class;
} folder_file;

typedef struct folder_state {
    const char *root;
    dt_names classes;
    folder_file *file;
    int64_t n_files, capacity;
    int64_t n_other; /* files in class directories that are no images by their names */
    char *other;     /* the first of them */
    int64_t resize, channels;
    bool square, raw;
    char *class_names;
} folder_state;

static bool is_visible(const char *name) {
    return name[0] != '.';
}

static bool is_image(const char *name) {
    static const char *const extension[] = {".jpg", ".jpeg", ".png"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && dot != name && i < sizeof extension / sizeof extension[0]; i++)
        if (strcasecmp(dot, extension[i]) == 0) return true;
    return false;
}

static char *path_of(const void *state, int64_t i) {
    const folder_state *s = state;
    char *path;
    const folder_file *f = &s->file[i];
    return asprintf(&path, "%s/%s/%s", s->root, s->classes.name[f->class], f->name) < 0 ? NULL : path;
}

typedef struct plan {
    int32_t x0, y0, w, h; /* window of the stored image */
    int32_t out_w, out_h;
} plan;

static plan plan_image(const folder_state *s, int32_t h, int32_t w) {
    int32_t shorter = h < w ? h : w;
    plan p = {0, 0, w, h, w, h};
    if (s->resize == 0) return p;
    if (s->square) {
        p = (plan){(w - shorter) / 2, (h - shorter) / 2,  shorter,
                   shorter,           (int32_t)s->resize, (int32_t)s->resize};
        return p;
    }
    if (!s->raw && shorter <= s->resize)
        return p; /* JPEG shards hold images of any size: nothing is enlarged */
    p.out_w = (int32_t)dt_max_i64((2 * (int64_t)w * s->resize + shorter) / (2 * (int64_t)shorter), 1);
    p.out_h = (int32_t)dt_max_i64((2 * (int64_t)h * s->resize + shorter) / (2 * (int64_t)shorter), 1);
    return p;
}

static bool changes(const plan *p, int32_t h, int32_t w) {
    return p->w != w || p->h != h || p->out_w != w || p->out_h != h;
}

static dt_status resize_item(const folder_state *s, const plan *p, const dt_jpeg_part *d, dt_item *out) {
    size_t n = (size_t)p->out_h * (size_t)p->out_w * (size_t)s->channels;
    uint8_t *pixel = malloc(n);
    if (!pixel) return dt_fail(DT_ERR_MEMORY, "out of memory for an image");
    double scale = d->scale_num / 8.0;
    dt_resize_axis x = {p->x0 * scale - d->x0, p->w * scale / p->out_w, 0, d->w - 1};
    dt_resize_axis y = {p->y0 * scale - d->y0, p->h * scale / p->out_h, 0, d->h - 1};
    dt_status status = dt_filter_resize(d->pixel, d->stride, s->channels, x, y, p->out_h, p->out_w, pixel);
    if (status != DT_OK) {
        free(pixel);
        return status;
    }
    *out = (dt_item){.pixel = pixel, .owned = pixel, .height = p->out_h, .width = p->out_w};
    return DT_OK;
}

static dt_status load_png(const folder_state *s, const uint8_t *bytes, int64_t n, dt_item *out) {
    uint8_t *pixel;
    int32_t h, w;
    DT_TRY(dt_png_decode(bytes, n, s->channels, &pixel, &h, &w));
    plan p = plan_image(s, h, w);
    if (!changes(&p, h, w)) {
        *out = (dt_item){.pixel = pixel, .owned = pixel, .height = h, .width = w};
        return DT_OK;
    }
    dt_jpeg_part d = {pixel, w * s->channels, 0, 0, w, h, 8};
    if (p.w != w || p.h != h) { /* the filter must not reach outside the square */
        d.pixel += p.y0 * d.stride + p.x0 * s->channels;
        d.x0 = p.x0, d.y0 = p.y0, d.w = p.w, d.h = p.h;
    }
    dt_status status = resize_item(s, &p, &d, out);
    free(pixel);
    return status;
}

static dt_status load_jpeg(const folder_state *s, dt_jpeg *decoder, const uint8_t *bytes, int64_t n,
                           dt_item *out) {
    int32_t h, w;
    dt_jpeg_part part;
    DT_TRY(dt_jpeg_begin(decoder, bytes, n, &h, &w));
    plan p = plan_image(s, h, w);
    if (!s->raw && !changes(&p, h, w)) {
        *out = (dt_item){.jpeg = bytes, .n_jpeg_bytes = n, .height = h, .width = w};
        return DT_OK;
    }
    /* Twice the size that is wanted leaves the filter something to average. */
    bool same = p.out_w == p.w && p.out_h == p.h;
    DT_TRY(dt_jpeg_decode(decoder, p.x0, p.y0, p.w, p.h, same ? p.w : 2 * p.out_w, same ? p.h : 2 * p.out_h,
                          s->channels, &part));
    if (dt_jpeg_damaged(decoder)) return dt_fail(DT_ERR_DATA, "the JPEG data is damaged or cut short");
    return resize_item(s, &p, &part, out);
}

static dt_status load_folder(const void *state, dt_jpeg *decoder, int64_t i, dt_item *out) {
    const folder_state *s = state;
    uint8_t *bytes = NULL;
    int64_t n;
    dt_status status;
    char *path = path_of(s, i);
    if (!path) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
    DT_TRY_GOTO(status, dt_file_read(path, DT_SAMPLE_BYTES_MAX, &bytes, &n), done);
    if (dt_png_is(bytes, n))
        status = load_png(s, bytes, n, out);
    else if (n > 3 && bytes[0] == 0xFF && bytes[1] == 0xD8)
        status = load_jpeg(s, decoder, bytes, n, out);
    else
        status = dt_fail(DT_ERR_DATA, "neither a JPEG nor a PNG file");
    if (status != DT_OK)
        dt_error_context("%s", path);
    else if (out->jpeg) {
        out->owned = bytes;
        bytes = NULL;
    }
    out->label = s->file[i].class;
done:
    free(bytes);
    free(path);
    return status;
}

static void close_folder(void *state) {
    folder_state *s = state;
    for (int64_t i = 0; i < s->n_files; i++) free(s->file[i].name);
    dt_names_free(&s->classes);
    free(s->file);
    free(s->class_names);
    free(s->other);
    free(s);
}

static dt_status add_file(folder_state *s, const char *name, int32_t class) {
    if (s->n_files == s->capacity) {
        int64_t capacity = s->capacity ? 2 * s->capacity : 1024;
        folder_file *grown = realloc(s->file, (size_t)capacity * sizeof *grown);
        if (!grown) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
        s->file = grown;
        s->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
    s->file[s->n_files++] = (folder_file){copy, class};
    return DT_OK;
}

static bool is_dir(const char *path, int64_t *n_bytes) {
    struct stat st = {0}; /* a size of 0 where it cannot be told: loading will say why */
    const bool dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    *n_bytes = st.st_size;
    return dir;
}

/* The images below a class directory; `below` is relative to it, "" or ends with a slash. */
static dt_status add_dir(folder_state *s, int32_t class, const char *below, int32_t depth, dt_source *out) {
    char *dir = NULL, *name = NULL, *path = NULL;
    dt_names names = {0};
    dt_status status = DT_OK;
    if (asprintf(&dir, "%s/%s/%s", s->root, s->classes.name[class], below) < 0)
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
    if (depth > DEPTH_MAX)
        status = dt_fail(DT_ERR_DATA, "%s: %d directories deep: is one a link to a directory above it?", dir,
                         depth);
    if (status == DT_OK) status = dt_dir_list(dir, is_visible, &names);
    for (int64_t i = 0; i < names.n && status == DT_OK; i++) {
        int64_t n_bytes;
        free(path), path = NULL;
        free(name), name = NULL;
        if (asprintf(&path, "%s%s", dir, names.name[i]) < 0 ||
            asprintf(&name, "%s%s", below, names.name[i]) < 0) {
            status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
        } else if (is_dir(path, &n_bytes)) {
            char *deeper;
            if (asprintf(&deeper, "%s/", name) < 0)
                status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
            else
                status = add_dir(s, class, deeper, depth + 1, out), free(deeper);
        } else if (is_image(names.name[i])) {
            status = add_file(s, name, class);
            out->sample_bytes += n_bytes;
            /* Not the content, which would be read twice, nor the time, which copying changes: another image
             * of the same name and size is taken for the same. */
            out->identity = XXH3_64bits_withSeed(name, strlen(name),
                                                 out->identity + (uint64_t)n_bytes + (uint64_t) class);
        } else if (s->n_other++ == 0) {
            s->other = path;
            path = NULL;
        }
    }
    free(path);
    free(name);
    dt_names_free(&names);
    free(dir);
    return status;
}

/* Plain files beside the class directories (lists, read-me files) are not classes. */
static dt_status keep_directories(folder_state *s) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s->classes.n; i++) {
        struct stat st;
        char *path, *name = s->classes.name[i];
        if (asprintf(&path, "%s/%s", s->root, name) < 0)
            return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
        bool directory = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
        free(path);
        s->classes.name[i] = NULL;
        if (directory)
            s->classes.name[kept++] = name;
        else
            free(name);
    }
    s->classes.n = kept;
    return DT_OK;
}

static dt_status join_class_names(folder_state *s) {
    size_t n = 1;
    for (int64_t i = 0; i < s->classes.n; i++) {
        if (strchr(s->classes.name[i], '\n'))
            return dt_fail(DT_ERR_DATA,
                           "%s: the name of class directory \"%.*s...\" has a line break: rename it", s->root,
                           (int)strcspn(s->classes.name[i], "\n"), s->classes.name[i]);
        n += strlen(s->classes.name[i]) + 1;
    }
    char *p = s->class_names = calloc(1, n);
    if (!p) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->root);
    for (int64_t i = 0; i < s->classes.n; i++) {
        if (i) *p++ = '\n';
        p = stpcpy(p, s->classes.name[i]);
    }
    return DT_OK;
}

/* Raw shards hold one size: that of the resize option, or that of the first image; where broken ones are left
 * out, of the first that loads. */
static dt_status find_shape(const folder_state *s, bool skip_broken, dt_source *out) {
    dt_jpeg *decoder;
    dt_item item = {0};
    if (s->square) {
        out->height = out->width = s->resize;
        return DT_OK;
    }
    DT_TRY(dt_jpeg_new(&decoder));
    dt_status status = load_folder(s, decoder, 0, &item);
    for (int64_t i = 1; skip_broken && status == DT_ERR_DATA && i < s->n_files; i++)
        status = load_folder(s, decoder, i, &item);
    if (skip_broken && status == DT_ERR_DATA)
        dt_error_context("%s: none of the %lld images can be read, the last", s->root, (long long)s->n_files);
    out->height = item.height;
    out->width = item.width;
    free(item.owned);
    dt_jpeg_free(decoder);
    return status;
}

dt_status dt_source_folder(const dt_import_options *o, dt_source *out) {
    if (o->n_input != 1) return dt_fail(DT_ERR_USAGE, "import folder: give one directory");
    if (o->resize < 0 || o->resize > DT_IMPORT_SIDE_MAX)
        return dt_fail(DT_ERR_USAGE, "import folder: resize is 1 to %d pixels", DT_IMPORT_SIDE_MAX);
    if (o->square && !o->resize) return dt_fail(DT_ERR_USAGE, "import folder: square needs resize");
    folder_state *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "import folder: out of memory");
    *out = (dt_source){.state = s, .load = load_folder, .path = path_of, .close = close_folder};
    s->root = o->input[0];
    s->resize = o->resize;
    s->square = o->square;
    s->raw = o->store == DT_STORE_RAW;
    s->channels = o->channels ? o->channels : 3;
    if (s->channels != 1 && s->channels != 3)
        return dt_fail(DT_ERR_USAGE, "import folder: channels is 1 or 3");
    DT_TRY(dt_dir_list(s->root, is_visible, &s->classes));
    DT_TRY(keep_directories(s));
    DT_TRY(join_class_names(s));
    const char *empty = NULL;
    out->identity = XXH3_64bits(s->class_names, strlen(s->class_names));
    for (int64_t i = 0; i < s->classes.n; i++) {
        const int64_t before = s->n_files;
        DT_TRY(add_dir(s, (int32_t)i, "", 1, out));
        if (s->n_files == before) empty = s->classes.name[i];
    }
    if (s->n_files == 0)
        return dt_fail(DT_ERR_DATA,
                       "%s: no images: expected a directory per class with .jpg or .png files in it",
                       s->root);
    char text[512];
    if (empty && o->note) {
        snprintf(text, sizeof text, "%s/%s: a class without .jpg or .png files", s->root, empty);
        o->note(o->arg, text);
    }
    if (s->n_other > 0 && o->note) {
        snprintf(text, sizeof text, "%lld file%s without .jpg or .png in the name left out, the first: %s",
                 (long long)s->n_other, dt_plural(s->n_other), s->other);
        o->note(o->arg, text);
    }
    out->n_samples = s->n_files;
    out->n_classes = s->classes.n;
    out->class_names = s->class_names;
    out->channels = s->channels;
    out->sample_bytes /= out->n_samples;
    if (s->raw) {
        DT_TRY(find_shape(s, o->skip_broken, out));
        out->sample_bytes = out->height * out->width * out->channels;
    } else if (s->resize)
        out->sample_bytes = dt_min_i64(out->sample_bytes, s->resize * s->resize / 2);
    return DT_OK;
}
