/* Rows of a source, cut into shards. Shards that an earlier run finished are kept; the index comes last. */
#include "import_arrays.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/text.h"
#include "arrays.h"
#include "files.h"
#include "import_dir.h"
#include "index.h"
#include "numbers.h"
#include "shard.h"

enum {
    SHARDS_MAX = 99999,
    BYTES_VERSION = 1, /* raised where equal inputs and options come to give other bytes */
};

/* One set that is made: of all rows, or of those for training or for validation. */
typedef struct part {
    dt_import_dir dir;
    const char *split;
    char *path;        /* owned: of the directory, where it is not the user's */
    int64_t *row;      /* [n] which of the source, ascending */
    int64_t n, before; /* before: rows of earlier parts */
    char origin[64];
    dt_index index;
} part;

typedef struct import {
    const dt_import_options *o;
    dt_array_source source;
    int64_t row_bytes;
    int32_t n_parts;
    part part[2];
    bool inexact[DT_FIELDS_MAX]; /* told */
    dt_import_result result;
} import;

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "import: out of memory (smaller shards need less: --shard-mib)");
}

static dt_status measure(import *m) {
    for (int32_t k = 0; k < m->source.n_fields; k++) {
        const dt_field *f = &m->source.field[k];
        const int64_t bytes = dt_field_bytes(f);
        if (bytes > DT_SAMPLE_BYTES_MAX)
            return dt_fail(DT_ERR_DATA, "import: a row of %s is larger than %d MiB", dt_field_text(f).s,
                           DT_SAMPLE_BYTES_MAX >> 20);
        m->row_bytes += bytes;
    }
    return DT_OK;
}

/* Whether a row is for validation: by a hash of its number alone, so that rows added later move no other. */
static bool is_val(const import *m, int64_t row) {
    const uint64_t number = (uint64_t)row;
    return (double)(XXH3_64bits(&number, sizeof number) >> 11) * 0x1p-53 < m->o->val_fraction;
}

static dt_status divide(import *m) {
    static const char *const split[] = {"train", "val"};
    const dt_import_options *o = m->o;
    const int64_t n = m->source.n_rows;
    m->n_parts = o->val_fraction > 0 ? 2 : 1;
    for (int32_t k = 0; k < m->n_parts; k++) m->part[k].dir.lock_fd = -1;
    for (int32_t k = 0; k < m->n_parts; k++) {
        part *p = &m->part[k];
        p->split = m->n_parts > 1 ? split[k] : o->split;
        p->before = k == 1 ? m->part[0].n : 0;
        p->row = malloc((size_t)n * sizeof *p->row);
        if (!p->row) return no_memory();
        if (m->n_parts > 1 && asprintf(&p->path, "%s/%s", o->out_dir, split[k]) < 0) {
            p->path = NULL;
            return no_memory();
        }
        p->dir.path = p->path ? p->path : o->out_dir;
        for (int64_t i = 0; i < n; i++)
            if (m->n_parts == 1 || is_val(m, i) == (k == 1)) p->row[p->n++] = i;
        if (p->n == 0)
            return dt_fail(DT_ERR_DATA, "%s: of %s none falls to %s with --val-fraction %g: choose a %s one",
                           o->n_input ? o->input[0] : o->x, dt_count_text(n, "row").s, split[k],
                           o->val_fraction, k == 1 ? "larger" : "smaller");
    }
    return DT_OK;
}

static dt_status check_sound(const char *path) {
    dt_array_shard s;
    dt_status status = dt_array_shard_open(path, &s);
    void *row[DT_FIELDS_MAX] = {NULL};
    for (int32_t k = 0; k < s.n_fields && status == DT_OK; k++)
        if (!(row[k] = malloc((size_t)dt_field_bytes(&s.field[k])))) status = no_memory();
    for (int64_t i = 0; i < s.n_samples && status == DT_OK; i++) {
        status = dt_array_shard_read(&s, i, row);
        if (status == DT_OK) status = dt_array_shard_check(&s, i, row);
    }
    for (int32_t k = 0; k < DT_FIELDS_MAX; k++) free(row[k]);
    dt_array_shard_close(&s);
    return status;
}

/* Number of shards, and all that decides their bytes. */
static dt_status plan(const import *m, const char *kind, part *p) {
    const int64_t target = m->o->shard_bytes ? m->o->shard_bytes : (int64_t)DT_IMPORT_SHARD_MIB << 20;
    const double wanted = (double)p->n * (double)m->row_bytes / (double)target;
    int64_t n = wanted >= SHARDS_MAX ? SHARDS_MAX : (int64_t)wanted + ((double)(int64_t)wanted < wanted);
    n = dt_max_i64(1, dt_min_i64(n, p->n));
    p->index.shard = calloc((size_t)n, sizeof *p->index.shard);
    if (!p->index.shard) return no_memory();
    p->dir.n_shards = p->index.n_shards = n;
    p->dir.origin = p->origin;
    p->dir.check = check_sound;
    uint64_t identity = m->source.identity;
    for (int32_t k = 0; k < m->source.n_fields; k++) {
        const dt_field_shown field = dt_field_text(&m->source.field[k]);
        identity = XXH3_64bits_withSeed(field.s, strlen(field.s), identity);
    }
    double fraction = m->o->val_fraction;
    uint64_t words[] = {identity, (uint64_t)n, (uint64_t)m->source.n_rows, 0, BYTES_VERSION};
    memcpy(&words[3], &fraction, sizeof fraction);
    identity = XXH3_64bits(words, sizeof words);
    identity = XXH3_64bits_withSeed(p->split, strlen(p->split), identity);
    snprintf(p->origin, sizeof p->origin, "%s %016" PRIx64, kind, identity);
    return DT_OK;
}

/* The first of a field's whole numbers that fp32 does not hold. */
static void tell_inexact(import *m, const part *p, int32_t k, int64_t begin, int64_t n, const void *data) {
    const dt_field *f = &m->source.field[k];
    const int64_t elem = dt_field_bytes(f) / (int64_t)dt_dtype_size(f->dtype);
    const int64_t at = m->inexact[k] || !m->o->note ? -1 : dt_numbers_find_inexact(f->dtype, data, n * elem);
    char note[320];
    if (at < 0) return;
    m->inexact[k] = true;
    snprintf(note, sizeof note,
             "row %lld has %s = %.20g: fp32, in which networks compute, holds whole numbers beyond 2^24 only "
             "rounded; scale "
             "or shift them where the last digits count",
             (long long)p->row[begin + at / elem], dt_number_place(f, at % elem).s,
             dt_number_at(f->dtype, data, at));
    m->o->note(m->o->arg, note);
}

static dt_status write_rows(import *m, const part *p, int64_t begin, int64_t end, const char *name) {
    const dt_array_source *source = &m->source;
    const int64_t n = end - begin;
    void *data[DT_FIELDS_MAX] = {NULL};
    dt_array_content content = {.n_samples = n,
                                .n_fields = source->n_fields,
                                .field = source->field,
                                .split = p->split,
                                .source = p->origin};
    dt_status status = DT_OK;
    for (int32_t k = 0; k < source->n_fields && status == DT_OK; k++) {
        content.data[k] = data[k] = malloc((size_t)(n * dt_field_bytes(&source->field[k])));
        status = data[k] ? source->load(source->state, k, p->row + begin, n, data[k]) : no_memory();
    }
    for (int32_t k = 0; k < source->n_fields && status == DT_OK; k++)
        tell_inexact(m, p, k, begin, n, data[k]);
    if (status == DT_OK) status = dt_array_shard_write(p->dir.path, name, &content);
    for (int32_t k = 0; k < DT_FIELDS_MAX; k++) free(data[k]);
    return status;
}

static int by_begin(const void *a, const void *b) {
    const dt_range *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static dt_status finish_row(import *m, const char *path, const char *name, dt_index_shard *row) {
    dt_array_shard s;
    dt_status status = dt_array_shard_open(path, &s);
    for (int32_t k = 0; k < s.n_fields && status == DT_OK; k++)
        row->data[row->n_data++] = dt_array_shard_range(&s, k);
    qsort(row->data, (size_t)row->n_data, sizeof *row->data, by_begin);
    row->n_samples = s.n_samples;
    dt_array_shard_close(&s);
    DT_TRY(status);
    DT_TRY(dt_index_shard_hash(row, path, name));
    m->result.n_samples += row->n_samples;
    m->result.n_bytes += row->n_bytes;
    return DT_OK;
}

static dt_status make_shard(import *m, part *p, int64_t i) {
    const dt_import_options *o = m->o;
    const int64_t n = p->dir.n_shards, begin = (int64_t)((__int128)p->n * i / n),
                  end = (int64_t)((__int128)p->n * (i + 1) / n);
    char name[64], note[128], *path;
    bool finished = false;
    dt_shard_name(name, sizeof name, i, n);
    if (asprintf(&path, "%s/%s", p->dir.path, name) < 0) return no_memory();
    dt_status status = dt_import_dir_finished(&p->dir, path, &finished);
    if (status == DT_OK && finished) {
        m->result.n_shards_kept++;
        snprintf(note, sizeof note, "%s%s%s is finished already: kept", p->path ? p->split : "",
                 p->path ? "/" : "", name);
        if (o->note) o->note(o->arg, note);
    } else if (status == DT_OK) {
        unlinkat(p->dir.lock_fd, DT_INDEX_NAME, 0); /* it speaks of whole sets only */
        status = write_rows(m, p, begin, end, name);
    }
    if (status == DT_OK) status = finish_row(m, path, name, &p->index.shard[i]);
    free(path);
    DT_TRY(status);
    const int64_t done = p->before + end, all = m->source.n_rows;
    if (o->progress && !o->progress(o->arg, done, all) && done < all)
        return dt_fail(DT_STOPPED, "import interrupted; run it again to go on");
    return DT_OK;
}

static dt_status write_index(import *m, part *p) {
    dt_arrays a;
    unlinkat(p->dir.lock_fd, DT_INDEX_NAME, 0); /* also one that is damaged */
    /* Opened as a training run would, which checks that all fits together. */
    dt_status status = dt_arrays_open(p->dir.path, &a);
    const dt_index_facts facts = {
        .split = p->split, .n_samples = a.n_samples, .n_fields = a.n_fields, .field = a.field};
    if (status == DT_OK) status = dt_index_write(p->dir.path, &p->index, &facts);
    dt_arrays_close(&a);
    m->result.n_shards += p->dir.n_shards;
    if (p->before > 0) m->result.n_val_samples = p->n;
    return status;
}

static dt_status make_all(import *m, const char *kind) {
    DT_TRY(measure(m));
    DT_TRY(divide(m));
    for (int32_t k = 0; k < m->n_parts; k++) {
        DT_TRY(plan(m, kind, &m->part[k]));
        DT_TRY(dt_import_dir_open(&m->part[k].dir));
    }
    for (int32_t k = 0; k < m->n_parts; k++) {
        part *p = &m->part[k];
        for (int64_t i = 0; i < p->dir.n_shards; i++) DT_TRY(make_shard(m, p, i));
        DT_TRY(write_index(m, p));
    }
    return DT_OK;
}

dt_status dt_import_arrays(const dt_import_options *o, const char *kind,
                           dt_status (*open)(const dt_import_options *o, dt_array_source *out),
                           dt_import_result *out) {
import m = {.o = o };
    dt_status status = open(o, &m.source);
    if (status == DT_OK) status = make_all(&m, kind);
    for (int32_t k = 0; k < m.n_parts; k++) {
        part *p = &m.part[k];
        dt_import_dir_close(&p->dir);
        dt_index_free(&p->index);
        free(p->row);
        free(p->path);
    }
    dt_array_source_close(&m.source);
    *out = m.result;
    return status;
}
