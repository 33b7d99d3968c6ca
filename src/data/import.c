/* The course of an import: open the source, cut it into shards, keep those an earlier run finished, make the
 * rest, and write the index last. */
#include "data/import.h"

#include <inttypes.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/cores.h"
#include "core/text.h"
#include "class_names.h"
#include "dataset.h"
#include "files.h"
#include "import_arrays.h"
#include "import_dir.h"
#include "import_shard.h"
#include "index.h"
#include "shard.h"
#include "text_import.h"

enum {
    SHARDS_MAX = 99999,
    PIXELS_VERSION = 2, /* raised where equal inputs and options come to give other bytes */
};

static const struct {
    const char *name;
    dt_status (*open)(const dt_import_options *o, dt_source *out); /* NULL: not of images */
    dt_status (*open_arrays)(const dt_import_options *o, dt_array_source *out);
    dt_status (*run)(const dt_import_options *o, const char *kind,
                     dt_import_result *out); /* a course of its own */
} kinds[] = {
    [DT_IMPORT_IDX] = {"idx", dt_source_idx},
    [DT_IMPORT_CIFAR10] = {"cifar10", dt_source_cifar},
    [DT_IMPORT_CIFAR100] = {"cifar100", dt_source_cifar},
    [DT_IMPORT_FOLDER] = {"folder", dt_source_folder},
    [DT_IMPORT_SYNTHETIC] = {"synthetic", dt_source_synthetic},
    [DT_IMPORT_NPY] = {"npy", .open_arrays = dt_source_npy},
    [DT_IMPORT_NPZ] = {"npz", .open_arrays = dt_source_npz},
    [DT_IMPORT_CSV] = {"csv", .open_arrays = dt_source_csv},
    [DT_IMPORT_TEXT] = {"text", .run = dt_import_text},
};
_Static_assert(sizeof kinds / sizeof kinds[0] == DT_IMPORT_KIND_COUNT, "a row per kind");

bool dt_import_kind_parse(const char *name, dt_import_kind *out) {
    for (int i = 0; i < DT_IMPORT_KIND_COUNT; i++)
        if (strcmp(name, kinds[i].name) == 0) {
            *out = (dt_import_kind)i;
            return true;
        }
    return false;
}

/* One set that is made: of all samples, or of those for training or for validation. */
typedef struct part {
    dt_import_dir dir;
    const char *split;
    char *path;                           /* owned: of the directory, where it is not the user's */
    int64_t *sample;                      /* [n_samples] which of the source; NULL: all */
    int64_t n_samples, n_skipped, before; /* before: samples of earlier parts */
    char origin[64];
    dt_index index;
} part;

typedef struct import {
    const dt_import_options *o;
    dt_source source;
    char *class_names;  /* owned; NULL if none */
    int32_t *label_map; /* [source.n_classes] labels of the source's classes; NULL: as they are */
    int64_t n_classes;
    int32_t threads, n_parts;
    part part[2];
    int64_t n_tilted;
    dt_import_result result;
} import;

/* An option that the source or the store does not use is refused rather than ignored. */
static dt_status check_fit(const dt_import_options *o) {
    enum {
        FOLDER = 1 << DT_IMPORT_FOLDER,
        SYNTHETIC = 1 << DT_IMPORT_SYNTHETIC,
        ARRAYS = 1 << DT_IMPORT_NPY | 1 << DT_IMPORT_NPZ | 1 << DT_IMPORT_CSV,
        TEXT = 1 << DT_IMPORT_TEXT,
        IMAGES = ((1 << DT_IMPORT_KIND_COUNT) - 1) & ~(ARRAYS | TEXT),
    };
    const char *source = kinds[o->kind].name;
    const struct {
        const char *option;
        bool given;
        int kinds; /* that have it */
        const char *whose;
    } own[] = {
        {"resize", o->resize != 0, FOLDER, "folder"},
        {"square", o->square, FOLDER, "folder"},
        {"channels", o->channels != 0, FOLDER, "folder"},
        {"labels", o->labels != NULL, FOLDER, "folder"},
        {"val-fraction", o->val_fraction != 0, FOLDER | ARRAYS | TEXT, "folder, npy, npz, csv and text"},
        {"exif-rotate", o->exif_rotate, FOLDER, "folder"},
        {"samples", o->synthetic.n_samples != 0, SYNTHETIC, "synthetic"},
        {"classes", o->synthetic.n_classes != 0, SYNTHETIC, "synthetic"},
        {"size", o->synthetic.height || o->synthetic.width, SYNTHETIC, "synthetic"},
        {"store", o->store != DT_STORE_RAW, IMAGES, "images"},
        {"skip-broken", o->skip_broken, IMAGES | TEXT, "images and text"},
        {"class-names", o->class_names != NULL, IMAGES | TEXT, "images and text"},
        {"x", o->x != NULL, ARRAYS, "npy, npz and csv"},
        {"y", o->y != NULL, ARRAYS, "npy, npz and csv"},
        {"tokenizer", o->tokenizer != NULL, TEXT, "text"},
        {"field", o->field != NULL, TEXT, "text"},
        {"label", o->label != NULL, TEXT, "text"},
        {"separator", o->separator != NULL, TEXT, "text"}};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (own[i].given && !(own[i].kinds >> o->kind & 1))
            return dt_fail(DT_ERR_USAGE, "import %s: option %s is for %s only", source, own[i].option,
                           own[i].whose);
    if (o->jpeg_quality && o->store != DT_STORE_JPEG)
        return dt_fail(DT_ERR_USAGE, "import %s: option quality is for JPEG shards only", source);
    if (o->val_fraction != 0 && !(o->val_fraction > 0 && o->val_fraction < 1))
        return dt_fail(DT_ERR_USAGE,
                       "import %s: val-fraction %g: expected a part between 0 and 1, such as 0.1", source,
                       o->val_fraction);
    if (o->val_fraction != 0 && o->split)
        return dt_fail(DT_ERR_USAGE,
                       "import %s: val-fraction makes the splits train and val: leave split away", source);
    if (o->kind == DT_IMPORT_SYNTHETIC && o->n_input)
        return dt_fail(DT_ERR_USAGE, "import %s: takes no input", source);
    return DT_OK;
}

static dt_status check_options(const dt_import_options *o) {
    if (!o->out_dir || (!o->split && o->val_fraction == 0) || (unsigned)o->kind >= DT_IMPORT_KIND_COUNT ||
        o->jpeg_quality < 0 || o->jpeg_quality > 100 || o->shard_bytes < 0 || o->threads < 0)
        return dt_fail(DT_ERR_USAGE, "import: options are missing or out of range");
    if (o->split && !dt_utf8_is(o->split, strlen(o->split)))
        return dt_fail(DT_ERR_USAGE, "import: the name of the split is not UTF-8");
    return check_fit(o);
}

static dt_status open_source(import *m) {
    const dt_import_options *o = m->o;
    DT_TRY(kinds[o->kind].open(o, &m->source));
    if (o->store == DT_STORE_JPEG && m->source.channels != 1 && m->source.channels != 3)
        return dt_fail(DT_ERR_USAGE, "import: JPEG shards hold 1 or 3 channels, these images have %lld",
                       (long long)m->source.channels);
    return DT_OK;
}

static void tell(const import *m, const char *fmt, ...) DT_PRINTF(2, 3);
static void tell(const import *m, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (m->o->note) m->o->note(m->o->arg, text);
}

static dt_status not_listed(const import *m, const dt_class_names *listed, const char *name, int64_t n) {
    const char *file = m->o->class_names, *near = dt_class_names_near(listed, name);
    char others[48] = "", meant[512] = "";
    bool ascii = true;
    for (const char *at = name; *at; at++) ascii = ascii && (uint8_t)*at < 0x80;
    if (n > 1) snprintf(others, sizeof others, " (nor %lld other%s)", (long long)n - 1, dt_plural(n - 1));
    if (near)
        snprintf(meant, sizeof meant, "; it has \"%s\"", near);
    else if (!ascii)
        snprintf(meant, sizeof meant,
                 "; names are compared byte by byte, and accented letters can be written in two "
                 "ways (Unicode NFC and NFD)");
    const bool directory = m->o->kind == DT_IMPORT_FOLDER && !m->o->labels;
    return dt_fail(
        DT_ERR_DATA,
        "%s%s%s: class \"%s\" is not in %s%s%s: add it there, take it out of what is imported, or leave "
        "--class-names away",
        m->o->labels ? m->o->labels : m->o->input[0], directory ? "/" : "", directory ? name : "", name, file,
        others, meant);
}

/* The source's classes are found in the list by their names, wherever they stand. */
static dt_status match_names(import *m, const dt_class_names *listed) {
    const int64_t n = m->source.n_classes;
    int64_t n_missing = 0, n_unused = listed->n, first_unused = 0;
    const char *missing = NULL;
    char **own = dt_class_names_split(m->source.class_names, n);
    bool *used = calloc((size_t)listed->n, sizeof *used);
    m->label_map = calloc((size_t)n, sizeof *m->label_map);
    dt_status status = DT_OK;
    if (!own || !used || !m->label_map) status = dt_fail(DT_ERR_MEMORY, "import: out of memory");
    for (int64_t i = 0; i < n && status == DT_OK; i++) {
        const int64_t label = dt_class_names_find(listed, own[i]);
        m->label_map[i] = (int32_t)label;
        if (label >= 0)
            used[label] = true, n_unused--;
        else if (n_missing++ == 0)
            missing = own[i];
    }
    if (missing) {
        status = not_listed(m, listed, missing, n_missing);
    } else if (status == DT_OK && n_unused > 0) {
        while (used[first_unused]) first_unused++;
        tell(m, "%lld of the %lld classes in %s %s here%s: %s", (long long)n_unused, (long long)listed->n,
             m->o->class_names, n_unused == 1 ? "is not" : "are not", n_unused == 1 ? "" : ", the first",
             listed->name[first_unused]);
    }
    dt_class_names_free(own, n);
    free(used);
    return status;
}

/* Labels without names of their own: the list says what each number means. */
static dt_status name_labels(import *m, const dt_class_names *listed) {
    const int64_t n = m->source.n_classes;
    if (listed->n < n || (listed->n > n && m->source.all_classes))
        return dt_fail(DT_ERR_DATA, "%s: %s for %s", m->o->class_names, dt_count_text(listed->n, "name").s,
                       dt_count_text(n, "class").s);
    if (listed->n > n)
        tell(m,
             "%s has %s, and the largest label is %lld: the classes from \"%s\" on have no samples "
             "here",
             m->o->class_names, dt_count_text(listed->n, "name").s, (long long)n - 1, listed->name[n]);
    return DT_OK;
}

/* Classes called by numbers that are not their labels, because they are ordered as text: 0, 1, 10, 2. */
static dt_status tell_numbers(const import *m) {
    const int64_t n = m->source.n_classes;
    bool numbers = true;
    int64_t other = -1;
    char **name = dt_class_names_split(m->source.class_names, n);
    if (!name) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    for (int64_t i = 0; i < n; i++) {
        char *end;
        const long long value = strtoll(name[i], &end, 10);
        numbers = numbers && end > name[i] && !*end;
        if (other < 0 && value != i) other = i;
    }
    if (numbers && other >= 0)
        tell(m,
             "the classes' names are numbers, but labels follow their order as text: class \"%s\" has label "
             "%lld (--class-names FILE gives another order)",
             name[other], (long long)other);
    dt_class_names_free(name, n);
    return DT_OK;
}

/* The classes' names and labels: the user's list, else what the source has. A list may name more classes than
 * occur. */
static dt_status take_names(import *m) {
    const dt_import_options *o = m->o;
    dt_class_names listed = {.text = NULL};
    m->n_classes = m->source.n_classes;
    if (!o->class_names) {
        if (m->source.doubt) return dt_fail(DT_ERR_DATA, "%s", m->source.doubt);
        if (!m->source.class_names) return DT_OK;
        m->class_names = strdup(m->source.class_names);
        if (!m->class_names) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
        return tell_numbers(m);
    }
    DT_TRY(dt_class_names_read(o->class_names, &listed));
    dt_status status = m->source.class_names ? match_names(m, &listed) : name_labels(m, &listed);
    if (status == DT_ERR_DATA && m->source.doubt) status = dt_fail(DT_ERR_DATA, "%s", m->source.doubt);
    if (status == DT_OK) {
        m->n_classes = listed.n;
        m->class_names = listed.text;
        listed.text = NULL;
    }
    dt_class_names_close(&listed);
    return status;
}

/* ---- the sets that are made ---- */

/* Where a sample stands in the draw of its class. */
typedef struct ticket {
    int32_t label;
    uint64_t hash; /* of its name, so that neither order nor place count */
    int64_t sample;
} ticket;

static int by_ticket(const void *a, const void *b) {
    const ticket *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->sample < y->sample ? -1 : 1;
}

/* Which samples are for validation: of each class the part of it, rounded, whose names have the lowest
 * hashes. */
static dt_status choose_val(const import *m, bool *val) {
    const dt_source *source = &m->source;
    const int64_t n = source->n_samples;
    ticket *t = calloc((size_t)n, sizeof *t);
    if (!t) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    for (int64_t i = 0; i < n; i++) {
        const char *name = source->name(source->state, i);
        t[i] = (ticket){source->label(source->state, i), XXH3_64bits(name, strlen(name)), i};
    }
    qsort(t, (size_t)n, sizeof *t, by_ticket);
    for (int64_t first = 0, end; first < n; first = end) {
        for (end = first; end < n && t[end].label == t[first].label; end++) continue;
        const int64_t n_val = llround((double)(end - first) * m->o->val_fraction);
        for (int64_t i = first; i < end; i++) val[t[i].sample] = i - first < n_val;
    }
    free(t);
    return DT_OK;
}

/* Classes that have samples, but none in this part. */
static dt_status tell_absent(const import *m, const part *p) {
    int64_t n_absent = 0, first = 0;
    const int64_t n = m->source.n_classes;
    int64_t *here = calloc((size_t)n, sizeof *here);
    char **name = dt_class_names_split(m->source.class_names, n);
    dt_status status = here && name ? DT_OK : dt_fail(DT_ERR_MEMORY, "import: out of memory");
    if (status == DT_OK) {
        for (int64_t i = 0; i < m->source.n_samples; i++) here[m->source.label(m->source.state, i)] = -1;
        for (int64_t i = 0; i < p->n_samples; i++) here[m->source.label(m->source.state, p->sample[i])] = 1;
        for (int64_t i = n - 1; i >= 0; i--)
            if (here[i] < 0) n_absent++, first = i;
        if (n_absent > 0)
            tell(m, "%s without images in %s, the first: %s", dt_count_text(n_absent, "class").s, p->split,
                 name[first]);
    }
    free(here);
    dt_class_names_free(name, n);
    return status;
}

/* One set of all samples, or with a fraction for validation two in directories of their own. */
static dt_status divide(import *m) {
    static const char *const split[] = {"train", "val"};
    const dt_import_options *o = m->o;
    const int64_t n = m->source.n_samples;
    m->n_parts = o->val_fraction > 0 ? 2 : 1;
    m->part[0].dir.lock_fd = m->part[1].dir.lock_fd = -1;
    if (m->n_parts == 1) {
        m->part[0] = (part){.dir = {.path = o->out_dir, .origin = m->part[0].origin, .lock_fd = -1},
                            .split = o->split,
                            .n_samples = n};
        return DT_OK;
    }
    bool *val = calloc((size_t)n, sizeof *val);
    dt_status status = val ? choose_val(m, val) : dt_fail(DT_ERR_MEMORY, "import: out of memory");
    for (int32_t k = 0; k < 2 && status == DT_OK; k++) {
        part *p = &m->part[k];
        *p = (part){.dir = {.origin = p->origin, .lock_fd = -1},
                    .split = split[k],
                    .sample = calloc((size_t)n, sizeof *p->sample)};
        if (!p->sample || asprintf(&p->path, "%s/%s", o->out_dir, split[k]) < 0) {
            status = dt_fail(DT_ERR_MEMORY, "import: out of memory");
            break;
        }
        p->dir.path = p->path;
        for (int64_t i = 0; i < n; i++)
            if (val[i] == (k == 1)) p->sample[p->n_samples++] = i;
        status =
            p->n_samples > 0
                ? tell_absent(m, p)
                : dt_fail(DT_ERR_DATA, "%s: of %s none falls to %s with --val-fraction %g: choose a %s one",
                          o->input[0], dt_count_text(n, "image").s, split[k], o->val_fraction,
                          k == 1 ? "larger" : "smaller");
    }
    m->part[1].before = m->part[0].n_samples;
    free(val);
    return status;
}

/* All that decides the bytes of the shards. */
static void identify(const import *m, part *p) {
    const dt_import_options *o = m->o;
    const int32_t quality = o->jpeg_quality == DT_IMPORT_QUALITY ? 0 : o->jpeg_quality; /* the default */
    const uint64_t words[] = {m->source.identity,
                              (uint64_t)o->kind,
                              (uint64_t)o->store,
                              (uint64_t)o->resize,
                              o->square,
                              (uint64_t)m->source.channels,
                              (uint64_t)quality,
                              o->skip_broken,
                              (uint64_t)p->dir.n_shards,
                              (uint64_t)m->source.n_samples,
                              (uint64_t)m->source.height,
                              (uint64_t)m->source.width,
                              (uint64_t)m->n_classes,
                              o->exif_rotate,
                              PIXELS_VERSION};
    uint64_t identity = XXH3_64bits(words, sizeof words);
    if (m->class_names) identity = XXH3_64bits_withSeed(m->class_names, strlen(m->class_names), identity);
    identity = XXH3_64bits_withSeed(p->split, strlen(p->split), identity);
    bool moved = false;
    for (int64_t i = 0; m->label_map && i < m->source.n_classes; i++) moved = moved || m->label_map[i] != i;
    if (moved)
        identity =
            XXH3_64bits_withSeed(m->label_map, (size_t)m->source.n_classes * sizeof *m->label_map, identity);
    if (p->sample) identity = XXH3_64bits_withSeed(&o->val_fraction, sizeof o->val_fraction, identity);
    snprintf(p->origin, sizeof p->origin, "%s %016" PRIx64, kinds[o->kind].name, identity);
}

static dt_status check_samples(const dt_shard *s) {
    dt_status status = DT_OK;
    int64_t capacity = 0;
    for (int64_t i = 0; i < s->n_samples; i++) capacity = dt_max_i64(capacity, dt_shard_sample_bytes(s, i));
    uint8_t *bytes = malloc((size_t)capacity);
    if (!bytes) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    for (int64_t i = 0; i < s->n_samples && status == DT_OK; i++) {
        status = dt_shard_read(s, i, 0, dt_shard_sample_bytes(s, i), bytes);
        if (status == DT_OK) status = dt_shard_check(s, i, bytes);
    }
    free(bytes);
    return status;
}

static dt_status check_sound(const char *path) {
    dt_shard s;
    dt_status status = dt_shard_open(path, &s);
    if (status == DT_OK) status = check_samples(&s);
    dt_shard_close(&s);
    return status;
}

static dt_status plan_shards(const import *m, part *p) {
    int64_t target = m->o->shard_bytes ? m->o->shard_bytes : (int64_t)DT_IMPORT_SHARD_MIB << 20;
    double bytes = (double)p->n_samples * (double)dt_max_i64(m->source.sample_bytes, 1);
    double n = bytes / (double)target;
    int64_t n_shards = n >= SHARDS_MAX ? SHARDS_MAX : (int64_t)n + ((double)(int64_t)n < n);
    n_shards = dt_max_i64(1, dt_min_i64(n_shards, p->n_samples));
    p->index.shard = calloc((size_t)n_shards, sizeof *p->index.shard);
    if (!p->index.shard) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    p->dir.n_shards = p->index.n_shards = n_shards;
    p->dir.check = check_sound;
    return DT_OK;
}

static dt_status finish_row(import *m, part *p, const char *path, const char *name, dt_index_shard *row) {
    dt_shard s;
    dt_status status = dt_shard_open(path, &s);
    if (status == DT_OK) {
        row->n_samples = s.n_samples;
        row->n_data = 1;
        row->data[0] = (dt_range){s.data_offset_bytes, s.jpeg ? s.offset[s.n_samples]
                                                              : s.n_samples * dt_shard_sample_bytes(&s, 0)};
        p->n_skipped += s.n_skipped;
    }
    dt_shard_close(&s);
    DT_TRY(status);
    DT_TRY(dt_index_shard_hash(row, path, name));
    m->result.n_samples += row->n_samples;
    m->result.n_bytes += row->n_bytes;
    return DT_OK;
}

static dt_status make_shard(import *m, part *p, int64_t i) {
    const dt_import_options *o = m->o;
    char name[64];
    char *path;
    bool finished = false;
    const int64_t n = p->n_samples, n_shards = p->dir.n_shards;
    dt_shard_job job = {.o = o,
                        .source = &m->source,
                        .sample = p->sample,
                        .begin = (int64_t)((__int128)n * i / n_shards),
                        .end = (int64_t)((__int128)n * (i + 1) / n_shards),
                        .before = p->before,
                        .threads = m->threads,
                        .dir = p->dir.path,
                        .name = name,
                        .split = p->split,
                        .origin = p->origin,
                        .class_names = m->class_names,
                        .label_map = m->label_map,
                        .n_classes = m->n_classes};
    dt_shard_name(name, sizeof name, i, n_shards);
    if (asprintf(&path, "%s/%s", p->dir.path, name) < 0)
        return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    dt_status status;
    DT_TRY_GOTO(status, dt_import_dir_finished(&p->dir, path, &finished), done);
    if (finished) {
        tell(m, "%s%s%s is finished already: kept", p->sample ? p->split : "", p->sample ? "/" : "", name);
        m->result.n_shards_kept++;
    } else {
        /* The index speaks of whole sets only. */
        unlinkat(p->dir.lock_fd, DT_INDEX_NAME, 0);
        int64_t n_tilted;
        DT_TRY_GOTO(status, dt_import_shard(&job, &n_tilted), done);
        m->n_tilted += n_tilted;
    }
    DT_TRY_GOTO(status, finish_row(m, p, path, name, &p->index.shard[i]), done);
    const int64_t done = p->before + job.end, all = m->source.n_samples;
    if (o->progress && !o->progress(o->arg, done, all) && done < all)
        status = dt_fail(DT_STOPPED, "import interrupted; run it again to go on");
done:
    free(path);
    return status;
}

static dt_status write_index(import *m, part *p) {
    dt_dataset *d;
    unlinkat(p->dir.lock_fd, DT_INDEX_NAME, 0); /* also one that is damaged */
    /* Opened as a training run would, which checks that all fits together. */
    DT_TRY(dt_dataset_open_path(p->dir.path, &d));
    const dt_dataset_info *info = &d->info;
    dt_index_facts facts = {.split = p->split,
                            .jpeg = info->jpeg,
                            .n_samples = info->n_samples,
                            .n_skipped = p->n_skipped,
                            .n_classes = info->n_classes,
                            .height = info->height,
                            .width = info->width,
                            .channels = info->channels,
                            .mean = info->mean,
                            .stddev = info->stddev,
                            .class_name = d->class_name};
    dt_status status = dt_index_write(p->dir.path, &p->index, &facts);
    m->result.n_shards += p->dir.n_shards;
    m->result.n_skipped += p->n_skipped;
    m->result.n_classes = info->n_classes;
    if (p->before > 0) m->result.n_val_samples = info->n_samples;
    dt_dataset_close(d);
    return status;
}

static void close_part(part *p) {
    dt_import_dir_close(&p->dir);
    dt_index_free(&p->index);
    free(p->sample);
    free(p->path);
}

/* Once for the whole import, of the shards that it made. */
static void tell_tilted(const import *m) {
    const dt_import_options *o = m->o;
    const bool one = m->n_tilted == 1;
    const dt_text images = dt_count_text(m->n_tilted, "image");
    if (m->n_tilted == 0) return;
    if (o->exif_rotate)
        tell(m, "%s turned upright as EXIF says%s", images.s,
             o->store == DT_STORE_JPEG ? ", and encoded anew" : "");
    else
        tell(m, "%s %s not upright by EXIF and stored as %s: --exif-rotate turns %s", images.s,
             one ? "is" : "are", one ? "it is" : "they are", one ? "it" : "them");
}

static dt_status import_images(const dt_import_options *o, dt_import_result *out) {
import m = {.o = o };
    dt_status status;
    m.threads = o->threads ? o->threads : dt_cores_share(1);
    DT_TRY_GOTO(status, open_source(&m), done);
    DT_TRY_GOTO(status, take_names(&m), done);
    DT_TRY_GOTO(status, divide(&m), done);
    for (int32_t k = 0; k < m.n_parts; k++) {
        part *p = &m.part[k];
        DT_TRY_GOTO(status, plan_shards(&m, p), done);
        identify(&m, p);
        DT_TRY_GOTO(status, dt_import_dir_open(&p->dir), done);
    }
    for (int32_t k = 0; k < m.n_parts; k++) {
        part *p = &m.part[k];
        for (int64_t i = 0; i < p->dir.n_shards; i++) DT_TRY_GOTO(status, make_shard(&m, p, i), done);
        DT_TRY_GOTO(status, write_index(&m, p), done);
    }
    tell_tilted(&m);
done:
    *out = m.result;
    for (int32_t k = 0; k < m.n_parts; k++) close_part(&m.part[k]);
    dt_source_close(&m.source);
    free(m.class_names);
    free(m.label_map);
    return status;
}

dt_status dt_import_run(const dt_import_options *o, dt_import_result *out) {
    *out = (dt_import_result){0};
    DT_TRY(check_options(o));
    if (kinds[o->kind].run) return kinds[o->kind].run(o, kinds[o->kind].name, out);
    if (kinds[o->kind].open) return import_images(o, out);
    return dt_import_arrays(o, kinds[o->kind].name, kinds[o->kind].open_arrays, out);
}
