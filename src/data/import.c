/* The course of an import: open the source, cut it into shards, keep those an earlier run finished, make the
 * rest, and write the index last. */
#include "core/dir.h"
#include "data/import.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include "dataset.h"
#include "files.h"
#include "import_shard.h"
#include "index.h"
#include "shard.h"

enum { DEFAULT_SHARD_BYTES = 512 << 20, SHARDS_MAX = 99999, NAMES_MAX_BYTES = 16 << 20 };

static const struct {
    const char *name;
    dt_status (*open)(const dt_import_options *o, dt_source *out);
} kinds[] = {
    [DT_IMPORT_IDX] = {"idx", dt_source_idx},
    [DT_IMPORT_CIFAR10] = {"cifar10", dt_source_cifar},
    [DT_IMPORT_CIFAR100] = {"cifar100", dt_source_cifar},
    [DT_IMPORT_FOLDER] = {"folder", dt_source_folder},
    [DT_IMPORT_SYNTHETIC] = {"synthetic", dt_source_synthetic},
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

typedef struct import {
    const dt_import_options *o;
    dt_source source;
    char *class_names; /* owned; NULL if none */
    int64_t n_classes, n_shards;
    int32_t threads;
    uint64_t identity;
    char origin[64]; /* attribute `source` of the shards */
    int lock_fd;
    dt_index index;
    dt_import_result result;
} import;

/* An option that the source or the store does not use is refused rather than ignored. */
static dt_status check_fit(const dt_import_options *o) {
    const char *source = kinds[o->kind].name;
    const struct {
        const char *option;
        bool given;
        dt_import_kind kind; /* the one that has it */
    } own[] = {{"resize", o->resize != 0, DT_IMPORT_FOLDER},
               {"square", o->square, DT_IMPORT_FOLDER},
               {"channels", o->channels != 0, DT_IMPORT_FOLDER},
               {"samples", o->synthetic.n_samples != 0, DT_IMPORT_SYNTHETIC},
               {"classes", o->synthetic.n_classes != 0, DT_IMPORT_SYNTHETIC},
               {"size", o->synthetic.height || o->synthetic.width, DT_IMPORT_SYNTHETIC}};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (own[i].given && o->kind != own[i].kind)
            return dt_fail(DT_ERR_USAGE, "import %s: option %s is for %s only", source, own[i].option,
                           kinds[own[i].kind].name);
    if (o->jpeg_quality && o->store != DT_STORE_JPEG)
        return dt_fail(DT_ERR_USAGE, "import %s: option quality is for JPEG shards only", source);
    if (o->kind == DT_IMPORT_SYNTHETIC && o->n_input)
        return dt_fail(DT_ERR_USAGE, "import %s: takes no input", source);
    return DT_OK;
}

/* Whether index.json can hold it. */
static bool is_utf8(const char *text, size_t n) {
    json_t *string = json_stringn(text, n);
    json_decref(string);
    return string != NULL;
}

static dt_status open_source(import *m) {
    const dt_import_options *o = m->o;
    if (!o->out_dir || !o->split || (unsigned)o->kind >= DT_IMPORT_KIND_COUNT || o->jpeg_quality < 0 ||
        o->jpeg_quality > 100 || o->shard_bytes < 0 || o->threads < 0)
        return dt_fail(DT_ERR_USAGE, "import: options are missing or out of range");
    if (!is_utf8(o->split, strlen(o->split)))
        return dt_fail(DT_ERR_USAGE, "import: the name of the split is not UTF-8");
    DT_TRY(check_fit(o));
    DT_TRY(kinds[o->kind].open(o, &m->source));
    if (o->store == DT_STORE_JPEG && m->source.channels != 1 && m->source.channels != 3)
        return dt_fail(DT_ERR_USAGE, "import: JPEG shards hold 1 or 3 channels, these images have %lld",
                       (long long)m->source.channels);
    return DT_OK;
}

/* Names from the user's file, one a line, else from the source. They may name more classes than occur. */
static dt_status take_names(import *m) {
    m->n_classes = m->source.n_classes;
    if (!m->o->class_names) {
        if (m->source.class_names && !(m->class_names = strdup(m->source.class_names)))
            return dt_fail(DT_ERR_MEMORY, "import: out of memory");
        return DT_OK;
    }
    int64_t n, lines = 1, kept = 0;
    DT_TRY(dt_file_read(m->o->class_names, NAMES_MAX_BYTES, (uint8_t **)&m->class_names, &n));
    char *text = m->class_names;
    if (memchr(text, 0, (size_t)n))
        return dt_fail(DT_ERR_DATA, "%s: not a text file of one name a line", m->o->class_names);
    /* Of other systems: a byte order mark, line ends of two characters. */
    for (int64_t i = strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0; i < n; i++)
        if (text[i] != '\r' || (i + 1 < n && text[i + 1] != '\n')) text[kept++] = text[i];
    while (kept > 0 && text[kept - 1] == '\n') kept--;
    text[kept] = 0;
    for (int64_t i = 0; i < kept; i++) lines += text[i] == '\n';
    if (lines < m->n_classes)
        return dt_fail(DT_ERR_DATA, "%s: %lld names for %lld classes", m->o->class_names, (long long)lines,
                       (long long)m->n_classes);
    m->n_classes = lines;
    return DT_OK;
}

/* What cannot be printed as \xHH; cut short to fit. */
static void escape(const char *text, size_t n, char *out, size_t out_bytes) {
    size_t at = 0;
    for (size_t i = 0; i < n && at + sizeof "\\xHH" <= out_bytes; i++) {
        bool plain = text[i] >= ' ' && text[i] <= '~';
        at += (size_t)snprintf(out + at, out_bytes - at, plain ? "%c" : "\\x%02x", (uint8_t)text[i]);
    }
}

/* A name that index.json cannot hold would be missing there, and those after it would move up. */
static dt_status check_names(const import *m) {
    const dt_import_options *o = m->o;
    bool directories = o->kind == DT_IMPORT_FOLDER && !o->class_names;
    for (const char *name = m->class_names; name;) {
        const char *end = strchrnul(name, '\n');
        size_t n = (size_t)(end - name);
        if (!is_utf8(name, n)) {
            char shown[512] = "";
            escape(name, n, shown, sizeof shown);
            return dt_fail(DT_ERR_DATA, "%s: %s \"%s\" is not UTF-8: rename it",
                           o->class_names ? o->class_names : o->input[0],
                           directories ? "the name of class directory" : "class name", shown);
        }
        name = *end ? end + 1 : NULL;
    }
    return DT_OK;
}

/* All that decides the bytes of the shards. */
static void identify(import *m) {
    const dt_import_options *o = m->o;
    const uint64_t words[] = {m->source.identity,
                              (uint64_t)o->kind,
                              (uint64_t)o->store,
                              (uint64_t)o->resize,
                              o->square,
                              (uint64_t)m->source.channels,
                              (uint64_t)o->jpeg_quality,
                              o->skip_broken,
                              (uint64_t)m->n_shards,
                              (uint64_t)m->source.n_samples,
                              (uint64_t)m->source.height,
                              (uint64_t)m->source.width,
                              (uint64_t)m->n_classes};
    m->identity = XXH3_64bits(words, sizeof words);
    if (m->class_names)
        m->identity = XXH3_64bits_withSeed(m->class_names, strlen(m->class_names), m->identity);
    m->identity = XXH3_64bits_withSeed(o->split, strlen(o->split), m->identity);
    snprintf(m->origin, sizeof m->origin, "%s %016" PRIx64, kinds[o->kind].name, m->identity);
}

static dt_status plan_shards(import *m) {
    int64_t target = m->o->shard_bytes ? m->o->shard_bytes : DEFAULT_SHARD_BYTES;
    double bytes = (double)m->source.n_samples * (double)dt_max_i64(m->source.sample_bytes, 1);
    double n = bytes / (double)target;
    m->n_shards = n >= SHARDS_MAX ? SHARDS_MAX : (int64_t)n + ((double)(int64_t)n < n);
    m->n_shards = dt_max_i64(1, dt_min_i64(m->n_shards, m->source.n_samples));
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    m->threads = m->o->threads ? m->o->threads : cores > 0 ? (int32_t)cores : 1;
    m->index.shard = calloc((size_t)m->n_shards, sizeof *m->index.shard);
    if (!m->index.shard) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    m->index.n_shards = m->n_shards;
    return DT_OK;
}

static bool is_leftover(const char *name) {
    return strncmp(name, DT_TEMPORARY_PREFIX "shard-", sizeof DT_TEMPORARY_PREFIX "shard-" - 1) == 0;
}

static dt_status check_name(const import *m, const char *name) {
    const char *dir = m->o->out_dir;
    char own[64] = "";
    int64_t i, n;
    bool shard = dt_shard_name_parse(name, &i, &n);
    if (shard) dt_shard_name(own, sizeof own, i, n);
    if (strcmp(name, own) != 0)
        return dt_fail(DT_ERR_DATA,
                       "%s/%s is not of this import, but every shard-*.h5 of a directory belongs to its set "
                       "(move it away or choose another directory)",
                       dir, name);
    if (n != m->n_shards)
        return dt_fail(DT_ERR_DATA,
                       "%s/%s belongs to another import of %lld shards; this one makes %lld (remove the "
                       "directory or choose another)",
                       dir, name, (long long)n, (long long)m->n_shards);
    return DT_OK;
}

static bool is_listed(const dt_index *index, const char *name) {
    for (int64_t i = 0; i < index->n_shards; i++)
        if (strcmp(index->shard[i].file, name) == 0) return true;
    return false;
}

/* Whether this import may make the file again: it says so itself, or it is too damaged to say anything and
 * the index names it. */
static dt_status check_own(const import *m, const char *name, const dt_index *index) {
    char *path, *source;
    int64_t version;
    DT_TRY(check_name(m, name));
    if (asprintf(&path, "%s/%s", m->o->out_dir, name) < 0)
        return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    dt_status status = dt_shard_origin_read(path, &version, &source);
    if (status == DT_ERR_DATA && is_listed(index, name)) {
        dt_error_set_text("");
        status = DT_OK;
    } else if (status == DT_ERR_DATA) {
        dt_error_context("%s is not overwritten, for it may not be a shard of this import (move it away or "
                         "choose another directory)",
                         name);
    } else if (status == DT_OK && version != 0 && version != DT_SHARD_VERSION) {
        status = dt_fail(DT_ERR_DATA,
                         "%s: shard version %lld; this program writes version %d (remove the directory or "
                         "choose another)",
                         path, (long long)version, DT_SHARD_VERSION);
    } else if (status == DT_OK && !source) {
        status =
            dt_fail(DT_ERR_DATA,
                    "%s was not made by an import and is not overwritten (move it away or choose another "
                    "directory)",
                    path);
    } else if (status == DT_OK && strcmp(source, m->origin) != 0) {
        status = dt_fail(DT_ERR_USAGE,
                         "%s was imported from something else or with other options (remove the directory "
                         "or choose another)",
                         path);
    }
    free(source);
    free(path);
    return status;
}

/* One import at a time in a directory; what an interrupted one left half-written is removed, and whatever
 * else would be overwritten or mixed in is refused before any work. */
static dt_status prepare_dir(import *m) {
    const char *dir = m->o->out_dir;
    dt_names names;
    DT_TRY(dt_dir_create(dir));
    m->lock_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->lock_fd < 0) return dt_fail(DT_ERR_IO, "%s: cannot open: %s", dir, strerror(errno));
    if (flock(m->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return dt_fail(DT_ERR_IO, "%s: another import is writing here", dir);
    DT_TRY(dt_dir_list(dir, is_leftover, &names));
    for (int64_t i = 0; i < names.n; i++) unlinkat(m->lock_fd, names.name[i], 0);
    dt_names_free(&names);
    DT_TRY(dt_dir_list(dir, dt_shard_name_is, &names));
    dt_index index;
    bool found; /* a damaged one names nothing and is written anew */
    dt_status status = dt_index_read(dir, &index, &found);
    if (status == DT_ERR_DATA) status = DT_OK;
    for (int64_t i = 0; i < names.n && status == DT_OK; i++) status = check_own(m, names.name[i], &index);
    dt_index_free(&index);
    dt_names_free(&names);
    return status;
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

/* Whether an earlier run finished this shard, which prepare_dir found to be ours. One that is damaged is made
 * again. */
static dt_status find_finished(const char *path, bool *finished) {
    dt_shard s;
    *finished = false;
    if (access(path, F_OK) != 0) return DT_OK;
    dt_status status = dt_shard_open(path, &s);
    if (status == DT_OK) status = check_samples(&s);
    *finished = status == DT_OK;
    dt_shard_close(&s);
    if (status == DT_ERR_DATA) {
        dt_error_set_text("");
        return DT_OK;
    }
    return status;
}

static dt_status finish_row(import *m, const char *path, const char *name, dt_index_shard *row) {
    dt_shard s;
    dt_status status = dt_shard_open(path, &s);
    if (status == DT_OK) {
        row->n_samples = s.n_samples;
        row->data_offset = s.data_offset_bytes;
        row->data_bytes = s.jpeg ? s.offset[s.n_samples] : s.n_samples * dt_shard_sample_bytes(&s, 0);
        m->result.n_skipped += s.n_skipped;
    }
    dt_shard_close(&s);
    DT_TRY(status);
    snprintf(row->file, sizeof row->file, "%s", name);
    DT_TRY(dt_file_hash(path, 0, 0, &row->xxh3, &row->n_bytes));
    DT_TRY(dt_file_hash(path, row->data_offset, row->data_bytes, &row->structure_xxh3, &row->n_bytes));
    m->result.n_samples += row->n_samples;
    m->result.n_bytes += row->n_bytes;
    return DT_OK;
}

static dt_status make_shard(import *m, int64_t i) {
    const dt_import_options *o = m->o;
    char name[64];
    char *path;
    bool finished = false;
    int64_t n = m->source.n_samples;
    dt_shard_job job = {.o = o,
                        .source = &m->source,
                        .begin = (int64_t)((__int128)n * i / m->n_shards),
                        .end = (int64_t)((__int128)n * (i + 1) / m->n_shards),
                        .threads = m->threads,
                        .name = name,
                        .origin = m->origin,
                        .class_names = m->class_names,
                        .n_classes = m->n_classes};
    dt_shard_name(name, sizeof name, i, m->n_shards);
    if (asprintf(&path, "%s/%s", o->out_dir, name) < 0)
        return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    dt_status status;
    DT_TRY_GOTO(status, find_finished(path, &finished), done);
    if (finished) {
        char text[128];
        snprintf(text, sizeof text, "%s is finished already: kept", name);
        if (o->note) o->note(o->arg, text);
        m->result.n_shards_kept++;
    } else {
        /* The index speaks of whole sets only. */
        unlinkat(m->lock_fd, DT_INDEX_NAME, 0);
        DT_TRY_GOTO(status, dt_import_shard(&job), done);
    }
    DT_TRY_GOTO(status, finish_row(m, path, name, &m->index.shard[i]), done);
    if (o->progress && !o->progress(o->arg, job.end, n) && i + 1 < m->n_shards)
        status = dt_fail(DT_STOPPED, "import interrupted; run it again to go on");
done:
    free(path);
    return status;
}

static dt_status write_index(import *m) {
    dt_dataset *d;
    unlinkat(m->lock_fd, DT_INDEX_NAME, 0); /* also one that is damaged */
    /* Opened as a training run would, which checks that all fits together. */
    DT_TRY(dt_dataset_open_path(m->o->out_dir, &d));
    const dt_dataset_info *info = &d->info;
    dt_index_facts facts = {.split = m->o->split,
                            .jpeg = info->jpeg,
                            .n_samples = info->n_samples,
                            .n_skipped = m->result.n_skipped,
                            .n_classes = info->n_classes,
                            .height = info->height,
                            .width = info->width,
                            .channels = info->channels,
                            .mean = info->mean,
                            .stddev = info->stddev,
                            .class_name = d->class_name};
    dt_status status = dt_index_write(m->o->out_dir, &m->index, &facts);
    m->result.n_shards = m->n_shards;
    m->result.n_classes = info->n_classes;
    dt_dataset_close(d);
    return status;
}

dt_status dt_import_run(const dt_import_options *o, dt_import_result *out) {
import m = {.o = o, .lock_fd = - 1 };
    dt_status status;
    DT_TRY_GOTO(status, open_source(&m), done);
    DT_TRY_GOTO(status, take_names(&m), done);
    DT_TRY_GOTO(status, check_names(&m), done);
    DT_TRY_GOTO(status, plan_shards(&m), done);
    identify(&m);
    DT_TRY_GOTO(status, prepare_dir(&m), done);
    for (int64_t i = 0; i < m.n_shards; i++) DT_TRY_GOTO(status, make_shard(&m, i), done);
    DT_TRY_GOTO(status, write_index(&m), done);
done:
    *out = m.result;
    if (m.lock_fd >= 0) close(m.lock_fd);
    dt_source_close(&m.source);
    dt_index_free(&m.index);
    free(m.class_names);
    return status;
}
