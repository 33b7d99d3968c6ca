/* Names first, then shapes, then numbers: nothing is read of a file that does not fit. */
#include "train/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "data/facts.h"
#include "tensorflow/network.h"

enum { SHOWN = 12 /* names of a kind in a message */ };

/* A tensor of what is read: of a file of others, or of a checkpoint. */
typedef struct entry {
    char *name;      /* as the network may call it; owned */
    const char *was; /* as the file does */
    const dt_file_tensor *file;
    const dt_ckpt_tensor *own;
    bool used;
} entry;

typedef struct source {
    dt_tensors *file; /* one of the two */
    dt_ckpt *ckpt;
    int64_t n;
    entry *entry; /* ascending by name, once they are settled */
} source;

/* What a weight of the network is read from, and how. */
typedef struct match {
    entry *from; /* NULL: it is drawn */
    dt_weight as;
    int64_t side; /* of the file's square grid, where it has another table of positions; 0: the network's */
} match;

/* Constants that PyTorch keeps beside weights. */
static const char *const constant_names[] = {
    "*num_batches_tracked",
    "*.attn.bias",
    "*.attn.masked_bias",
    "*position_ids",
    "*.inv_freq",
    "*relative_position_index",
    "constant_*" /* of exported models */,
};

/* What wraps a network in PyTorch's world, and puts its name before those of the weights. */
static const char *const wrapper_names[] = {
    "module.",     "_orig_mod.", "model.",   "transformer.", "bert.",
    "backbone.",   "encoder.",   "net.",     "network.",     "base_model.model.",
    "state_dict.", "vit.",       "roberta.",
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static entry *find_entry(const source *s, const char *name) {
    const entry key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, s->entry, (size_t)s->n, sizeof *s->entry, by_name);
}

/* ---- what is read ---- */

static void add_own(source *s, const dt_ckpt_tensor *t, const char *group, bool *averaged) {
    char average[DT_NAME_MAX + 16];
    const size_t n = strlen(group);
    if (strncmp(t->name, group, n) != 0) return;
    snprintf(average, sizeof average, "ema/%.*s", DT_NAME_MAX, t->name + n);
    const dt_ckpt_tensor *instead = dt_ckpt_find(s->ckpt, average);
    *averaged = *averaged || instead;
    s->entry[s->n++] = (entry){.was = t->name + n, .own = instead ? instead : t};
}

static uint64_t tokenizer_of(const dt_ckpt *c) {
    dt_data_facts facts;
    if (!c->data_text || dt_data_facts_parse(c->data_text, &facts) != DT_OK) return 0;
    const uint64_t hash = facts.info.tokenizer_xxh3;
    dt_data_facts_free(&facts);
    return hash;
}

static dt_status open_checkpoint(const char *path, source *s, dt_weights *out) {
    DT_TRY(dt_ckpt_load_at(path, &s->ckpt));
    snprintf(out->path, sizeof out->path, "%s", s->ckpt->path);
    out->kind = "checkpoint";
    out->tokenizer_xxh3 = tokenizer_of(s->ckpt);
    s->entry = calloc((size_t)s->ckpt->n_tensor + 1, sizeof *s->entry);
    if (!s->entry) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its names", path);
    for (int32_t i = 0; i < s->ckpt->n_tensor; i++) {
        add_own(s, &s->ckpt->tensor[i], "param/", &out->averaged);
        add_own(s, &s->ckpt->tensor[i], "state/", &out->averaged);
    }
    return DT_OK;
}

static dt_status open_source(const char *path, source *s, dt_weights *out) {
    if (dt_ckpt_is_at(path)) return open_checkpoint(path, s, out);
    DT_TRY(dt_network_tensors(path, &s->file));
    snprintf(out->path, sizeof out->path, "%s", s->file->path);
    out->kind = s->file->format;
    s->entry = calloc((size_t)s->file->n + 1, sizeof *s->entry);
    if (!s->entry) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its names", path);
    for (; s->n < s->file->n; s->n++)
        s->entry[s->n] = (entry){.was = s->file->tensor[s->n].name, .file = &s->file->tensor[s->n]};
    return DT_OK;
}

static void close_source(source *s) {
    for (int64_t i = 0; i < s->n; i++) free(s->entry[i].name);
    free(s->entry);
    dt_tensors_close(s->file);
    dt_ckpt_free(s->ckpt);
}

/* ---- names ---- */

/* `name` by a row of the rename table; NULL where the row is not of it, or there is no memory. */
static char *renamed(const char *name, const char *from, const char *to) {
    const char *star = strchr(from, '*'), *to_star = strchr(to, '*');
    char *out = NULL;
    const size_t head = star ? (size_t)(star - from) : strlen(from), n = strlen(name);
    const size_t tail = star ? strlen(star + 1) : 0;
    if (strncmp(name, from, head) != 0 || n < head + tail || (star && strcmp(name + n - tail, star + 1) != 0))
        return NULL;
    const int rest = (int)(n - head - tail);
    if (!star) {
        if (asprintf(&out, "%s%s", to, name + head) < 0) return NULL;
    } else if (asprintf(&out, "%.*s%.*s%s", to_star ? (int)(to_star - to) : (int)strlen(to), to,
                        to_star ? rest : 0, name + head, to_star ? to_star + 1 : "") < 0) {
        return NULL;
    }
    return out;
}

static dt_status rename_all(source *s, const dt_init_options *o) {
    bool used[DT_INIT_ENTRIES_MAX] = {false};
    for (int64_t i = 0; i < s->n; i++) {
        entry *e = &s->entry[i];
        for (int32_t k = 0; k < o->n_rename && !e->name; k++) {
            e->name = renamed(e->was, o->rename[k][0], o->rename[k][1]);
            used[k] = used[k] || e->name;
        }
        if (!e->name) e->name = strdup(e->was);
        if (!e->name) return dt_fail(DT_ERR_MEMORY, "no memory for the names of the weights");
    }
    for (int32_t k = 0; k < o->n_rename && o->strict; k++)
        if (!used[k])
            return dt_fail(
                DT_ERR_CONFIG,
                "model.init_rename: no name begins with, or fits, \"%s\" that an earlier row has not "
                "changed; the file's first is %s",
                o->rename[k][0], s->n > 0 ? s->entry[0].was : "none");
    return DT_OK;
}

/* `name` without the wrapper, or behind it. */
static const char *wrapped(const char *name, const char *wrapper, bool add, char *room, size_t size) {
    const size_t n = strlen(wrapper);
    if (!add) return strncmp(name, wrapper, n) == 0 ? name + n : name;
    snprintf(room, size, "%s%s", wrapper, name);
    return room;
}

static int by_weight_name(const void *key, const void *row) {
    return strcmp(key, (*(const dt_weight *const *)row)->name);
}
static int by_weight_names(const void *a, const void *b) {
    return strcmp((*(const dt_weight *const *)a)->name, (*(const dt_weight *const *)b)->name);
}

/* How many of the names are the network's, with this wrapper. */
static int64_t count_fits(const source *s, const dt_weight *const *sorted, int32_t n, const char *wrapper,
                          bool add) {
    char room[2 * DT_NAME_MAX];
    int64_t fits = 0;
    for (int64_t i = 0; i < s->n; i++)
        fits += bsearch(wrapped(s->entry[i].name, wrapper, add, room, sizeof room), sorted, (size_t)n,
                        sizeof *sorted, by_weight_name) != NULL;
    return fits;
}

/* Whether every name begins with it. */
static bool wraps_all(const source *s, const char *wrapper) {
    for (int64_t i = 0; i < s->n; i++)
        if (strncmp(s->entry[i].name, wrapper, strlen(wrapper)) != 0) return false;
    return s->n > 0;
}

static dt_status apply_wrapper(source *s, const char *wrapper, bool add) {
    for (int64_t i = 0; i < s->n; i++) {
        char room[2 * DT_NAME_MAX],
            *name = strdup(wrapped(s->entry[i].name, wrapper, add, room, sizeof room));
        if (!name) return dt_fail(DT_ERR_MEMORY, "no memory for the names of the weights");
        free(s->entry[i].name);
        s->entry[i].name = name;
    }
    return DT_OK;
}

/* Takes wrappers off or puts one before, as long as more names fit by it; the outer of two by itself makes none fit. */
static dt_status unwrap(source *s, const dt_weight *const *sorted, int32_t n, dt_weights *out) {
    enum { ROUNDS = 3 };
    int64_t most = count_fits(s, sorted, n, "", true);
    for (int round = 0; round < ROUNDS; round++) {
        const char *best = NULL;
        bool best_adds = false;
        for (size_t k = 0; k < 2 * sizeof wrapper_names / sizeof wrapper_names[0]; k++) {
            const bool add = k % 2;
            const int64_t fits = count_fits(s, sorted, n, wrapper_names[k / 2], add);
            const bool outer = !add && most == 0 && !best && wraps_all(s, wrapper_names[k / 2]);
            if (fits <= most && !outer) continue;
            most = fits, best = wrapper_names[k / 2], best_adds = add;
        }
        if (!best) break;
        DT_TRY(apply_wrapper(s, best, best_adds));
        char *told = best_adds ? out->put_before : out->taken_off;
        strncat(told, best, sizeof out->taken_off - strlen(told) - 1);
    }
    return DT_OK;
}

static dt_status settle_names(source *s, const dt_weight_list *net, const dt_init_options *o,
                              dt_weights *out) {
    const dt_weight **sorted = calloc((size_t)net->n + 1, sizeof *sorted);
    if (!sorted) return dt_fail(DT_ERR_MEMORY, "no memory for the names of the weights");
    for (int32_t i = 0; i < net->n; i++) sorted[i] = &net->weight[i];
    qsort(sorted, (size_t)net->n, sizeof *sorted, by_weight_names);
    dt_status st = rename_all(s, o);
    if (st == DT_OK) st = unwrap(s, sorted, net->n, out);
    free(sorted);
    DT_TRY(st);
    if (s->n > 0) qsort(s->entry, (size_t)s->n, sizeof *s->entry, by_name);
    for (int64_t i = 1; i < s->n; i++)
        if (strcmp(s->entry[i].name, s->entry[i - 1].name) == 0)
            return dt_fail(DT_ERR_CONFIG, "model.init_rename: %s and %s would both be %s",
                           s->entry[i - 1].was, s->entry[i].was, s->entry[i].name);
    return DT_OK;
}

/* ---- shapes ---- */

/* Whether they are the same, dimensions of 1 apart. */
static bool same_shape(int32_t n, const int64_t *a, int32_t m, const int64_t *b) {
    int32_t i = 0, k = 0;
    for (;; i++, k++) {
        while (i < n && a[i] == 1) i++;
        while (k < m && b[k] == 1) k++;
        if (i == n || k == m) return i == n && k == m;
        if (a[i] != b[k]) return false;
    }
}

static bool is_transposed(const dt_init_options *o, const char *name) {
    for (int32_t i = 0; i < o->n_transposed; i++)
        if (dt_name_matches(o->transposed[i], name)) return true;
    return false;
}

/* Whether it is the network's table of positions for another square of patches. */
static bool is_other_grid(const entry *e, match *m) {
    const dt_weight *w = &m->as;
    const int32_t n = e->own ? e->own->ndim : e->file->ndim;
    const int64_t *dim = e->own ? e->own->dim : e->file->dim;
    if (w->grid[0] == 0 || n < 2 || n > w->ndim || dim[n - 1] != w->dim[w->ndim - 1] ||
        (n > 2 && dim[0] != 1))
        return false;
    const int64_t before = w->dim[w->ndim - 2] - w->grid[0] * w->grid[1], places = dim[n - 2] - before,
                  side = places > 0 && places < 1 << 24 ? (int64_t)lround(sqrt((double)places)) : 0;
    m->side = side * side == places ? side : 0;
    return m->side > 0;
}

/* Whether the entry has the weight's shape; how it lies goes to m->as. */
static bool fits(const entry *e, const dt_init_options *o, match *m, int32_t *n_transposed) {
    dt_weight *w = &m->as;
    int64_t dim[DT_MAX_DIM];
    if (e->own) {
        w->layout = DT_WEIGHT_SAME;
        return (e->own->ndim == w->ndim &&
                memcmp(e->own->dim, w->dim, (size_t)w->ndim * sizeof *w->dim) == 0) ||
               is_other_grid(e, m);
    }
    if (w->ndim == 2 && is_transposed(o, w->name)) w->layout = DT_WEIGHT_TRANSPOSED;
    const int32_t ndim = dt_weight_file_dims(w, dim);
    if (same_shape(e->file->ndim, e->file->dim, ndim, dim)) return true;
    if (w->layout == DT_WEIGHT_TRANSPOSED && same_shape(e->file->ndim, e->file->dim, w->ndim, w->dim)) {
        w->layout = DT_WEIGHT_SAME; /* a file of another program than the one that turns them */
        return true;
    }
    if (is_other_grid(e, m)) return true;
    if (w->layout != DT_WEIGHT_SAME || w->ndim != 2 || e->file->ndim != 2 || e->file->dim[0] != w->dim[1] ||
        e->file->dim[1] != w->dim[0])
        return false;
    w->layout = DT_WEIGHT_TRANSPOSED;
    ++*n_transposed;
    return true;
}

/* Names of one kind for the message; shapes too where they are to be compared. */
static void list(FILE *text, const char *what, int32_t n, const char *const *name) {
    if (n == 0) return;
    fprintf(text, "%s (%d): ", what, n);
    for (int32_t i = 0; i < n && i < SHOWN; i++) fprintf(text, "%s%.160s", i ? ", " : "", name[i]);
    if (n > SHOWN) fprintf(text, " and %d more", n - SHOWN);
    fputs("; ", text);
}

static void print_dims(FILE *text, int32_t ndim, const int64_t *dim) {
    fputc('[', text);
    for (int32_t d = 0; d < ndim; d++) fprintf(text, "%s%lld", d ? "," : "", (long long)dim[d]);
    fputc(']', text);
}

static void list_shapes(FILE *text, int32_t n, const match *const *bad) {
    if (n == 0) return;
    fprintf(text, "of another shape (%d): ", n);
    for (int32_t i = 0; i < n && i < SHOWN; i++) {
        const entry *e = bad[i]->from;
        int64_t dim[DT_MAX_DIM];
        const int32_t ndim = dt_weight_file_dims(&bad[i]->as, dim);
        fprintf(text, "%s%s ", i ? ", " : "", bad[i]->as.name);
        print_dims(text, e->own ? e->own->ndim : e->file->ndim, e->own ? e->own->dim : e->file->dim);
        fputs(" instead of ", text);
        print_dims(text, e->own ? bad[i]->as.ndim : ndim, e->own ? bad[i]->as.dim : dim);
    }
    if (n > SHOWN) fprintf(text, " and %d more", n - SHOWN);
    fputs("; ", text);
}

/* What does not fit, by kind. */
typedef struct misfits {
    int32_t n_missing, n_shape, n_extra;
    const char **missing, **extra;
    const match **shape;
    bool head; /* one of another shape is of the last layer */
} misfits;

static dt_status fail_misfits(const misfits *f) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory for a message");
    list_shapes(out, f->n_shape, f->shape);
    list(out, "missing", f->n_missing, f->missing);
    list(out, "not of this network", f->n_extra, f->extra);
    if (fclose(out) != 0) {
        free(text);
        return dt_fail(DT_ERR_MEMORY, "no memory for a message");
    }
    const dt_status st =
        dt_fail(DT_ERR_CONFIG, "does not fit the network: %s%s%s", text,
                f->head ? "for other classes set model.init_head = \"new\"; " : "",
                f->n_missing || f->n_extra
                    ? "model.init_rename changes names, and model.init_strict = false draws what "
                      "is missing and leaves out the rest"
                    : "the network of the file is another one");
    free(text);
    return st;
}

/* A tensor that the network has under another name: two names of one weight. */
static bool is_tied(const entry *e, int32_t n, const match *m) {
    for (int32_t i = 0; i < n; i++) {
        const dt_file_tensor *a = e->file, *b = m[i].from ? m[i].from->file : NULL;
        if (a && b && a->type == b->type && a->n_bytes == b->n_bytes && a->ndim == b->ndim &&
            memcmp(a->dim, b->dim, sizeof a->dim) == 0 && memcmp(a->data, b->data, (size_t)a->n_bytes) == 0)
            return true;
    }
    return false;
}

static bool is_constant(const char *name) {
    for (size_t i = 0; i < sizeof constant_names / sizeof constant_names[0]; i++)
        if (dt_name_matches(constant_names[i], name)) return true;
    return false;
}

static dt_status fail_strangers(const source *s, const dt_weight_list *net) {
    return dt_fail(
        DT_ERR_CONFIG,
        "none of its %lld tensors has a name of this network: they are called such as %.160s, here such as "
        "%s; model.init_rename changes names",
        (long long)s->n, s->n > 0 ? s->entry[0].name : "-", net->n > 0 ? net->weight[0].name : "-");
}

static bool turns(const dt_weight *w) {
    return w->layout == DT_WEIGHT_TRANSPOSED;
}

/* A square matrix does not show how it lies. Where those beside it, which files of this network turn, all lie as here, the
 * file is of another program, and so do the square ones. */
static void settle_squares(const dt_weight_list *net, const dt_init_options *o, match *m) {
    int32_t n_here = 0, n_turned = 0;
    for (int32_t i = 0; i < net->n; i++) {
        if (!m[i].from || m[i].from->own || !turns(&net->weight[i]) || m[i].as.dim[0] == m[i].as.dim[1])
            continue;
        n_turned += turns(&m[i].as), n_here += !turns(&m[i].as);
    }
    for (int32_t i = 0; i < net->n && n_here > 0 && n_turned == 0; i++)
        if (turns(&net->weight[i]) && !is_transposed(o, m[i].as.name)) m[i].as.layout = DT_WEIGHT_SAME;
}

static dt_status match_all(source *s, const dt_weight_list *net, const dt_init_options *o, match *m,
                           misfits *f, dt_weights *out) {
    int32_t n_found = 0;
    for (int32_t i = 0; i < net->n; i++) {
        const bool anew = net->weight[i].head && o->head == DT_INIT_HEAD_NEW;
        m[i] = (match){.from = find_entry(s, net->weight[i].name), .as = net->weight[i]};
        if (m[i].from) m[i].from->used = true, n_found++;
        if (!m[i].from && !anew && !m[i].as.adapter) f->missing[f->n_missing++] = m[i].as.name;
        if (m[i].from && !anew && !fits(m[i].from, o, &m[i], &out->n_transposed)) {
            f->shape[f->n_shape++] = &m[i];
            f->head = f->head || m[i].as.head;
        }
        if (anew) m[i].from = NULL;
    }
    if (n_found == 0) return fail_strangers(s, net);
    settle_squares(net, o, m);
    for (int64_t i = 0; i < s->n; i++)
        if (!s->entry[i].used && !is_constant(s->entry[i].was) && !is_tied(&s->entry[i], net->n, m))
            f->extra[f->n_extra++] = s->entry[i].was;
    /* What is too much beside a new head was the old one's. */
    const bool strict_extra = o->strict && o->head == DT_INIT_HEAD_SAME;
    if (f->n_shape > 0 || (o->strict && f->n_missing > 0) || (strict_extra && f->n_extra > 0))
        return fail_misfits(f);
    return DT_OK;
}

/* ---- numbers ---- */

static dt_status read_one(const match *m, dt_ckpt_tensor *out, float *room) {
    const dt_weight *w = &m->as;
    const size_t bytes = (size_t)w->n_elem * sizeof(float);
    char *name = NULL;
    if (asprintf(&name, "%s/%s", w->state ? "state" : "param", w->name) < 0)
        return dt_fail(DT_ERR_MEMORY, "no memory for the weights");
    out->name = name;
    out->ndim = w->ndim;
    memcpy(out->dim, w->dim, sizeof out->dim);
    out->data = malloc(bytes);
    if (!out->data) return dt_fail(DT_ERR_MEMORY, "no memory for %s (%zu bytes)", w->name, bytes);
    const float *own = m->from->own ? m->from->own->data : room;
    if (!m->from->own) DT_TRY(dt_file_tensor_read(m->from->file, room));
    if (m->side > 0)
        dt_weight_regrid(w, (int64_t[]){m->side, m->side}, own, out->data);
    else if (m->from->own)
        memcpy(out->data, own, bytes);
    else
        dt_weight_from_file(w, own, out->data);
    return DT_OK;
}

static dt_status read_all(const dt_weight_list *net, const match *m, const misfits *f, dt_weights *out) {
    int64_t most = 1;
    dt_status st = DT_OK;
    for (int32_t i = 0; i < net->n; i++) {
        most = dt_max_i64(most, m[i].from && m[i].from->file ? m[i].from->file->n_elem : 0);
        if (!m[i].from || m[i].side == 0) continue;
        out->grid[0][0] = out->grid[0][1] = m[i].side;
        memcpy(out->grid[1], m[i].as.grid, sizeof out->grid[1]);
    }
    float *room = malloc((size_t)most * sizeof *room);
    out->tensor = calloc((size_t)net->n + 1, sizeof *out->tensor);
    out->fresh = calloc((size_t)net->n + 1, sizeof *out->fresh);
    out->ignored = calloc((size_t)f->n_extra + 1, sizeof *out->ignored);
    if (!room || !out->tensor || !out->fresh || !out->ignored)
        st = dt_fail(DT_ERR_MEMORY, "no memory for the weights");
    for (int32_t i = 0; i < net->n && st == DT_OK; i++) {
        if (m[i].from)
            st = read_one(&m[i], &out->tensor[out->n++], room);
        else
            memcpy(out->fresh[out->n_fresh++], m[i].as.name, DT_NAME_MAX);
    }
    for (int32_t i = 0; i < f->n_extra && st == DT_OK; i++) {
        out->ignored[out->n_ignored] = strdup(f->extra[i]);
        st = out->ignored[out->n_ignored++]
                 ? DT_OK
                 : dt_fail(DT_ERR_MEMORY, "no memory for the names of the weights");
    }
    free(room);
    return st;
}

static dt_status read_source(source *s, const dt_weight_list *net, const dt_init_options *o,
                             dt_weights *out) {
    DT_TRY(settle_names(s, net, o, out));
    match *m = calloc((size_t)net->n + 1, sizeof *m);
    misfits f = {.missing = calloc((size_t)net->n + 1, sizeof *f.missing),
                 .shape = calloc((size_t)net->n + 1, sizeof *f.shape),
                 .extra = calloc((size_t)s->n + 1, sizeof *f.extra)};
    dt_status st = m && f.missing && f.shape && f.extra
                       ? match_all(s, net, o, m, &f, out)
                       : dt_fail(DT_ERR_MEMORY, "no memory for the names of the weights");
    if (st == DT_OK) st = read_all(net, m, &f, out);
    free(m), free(f.missing), free(f.shape), free(f.extra);
    return st;
}

dt_status dt_weights_read(const dt_weight_list *net, const dt_init_options *o, dt_weights *out) {
    source s = {.n = 0};
    *out = (dt_weights){.kind = ""};
    dt_status st = open_source(o->from, &s, out);
    if (st == DT_OK) {
        st = read_source(&s, net, o, out);
        if (st != DT_OK) dt_error_context("%s", out->path);
        if (s.file && dt_tensors_check(s.file) != DT_OK) st = DT_ERR_DATA;
    }
    close_source(&s);
    return st;
}

void dt_weights_free(dt_weights *w) {
    for (int32_t i = 0; i < w->n; i++) {
        free((char *)(uintptr_t)w->tensor[i].name);
        free(w->tensor[i].data);
    }
    for (int32_t i = 0; i < w->n_ignored; i++) free(w->ignored[i]);
    free(w->tensor), free(w->fresh), free(w->ignored);
    *w = (dt_weights){.kind = ""};
}
