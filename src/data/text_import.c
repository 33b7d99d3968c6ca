/* Files of text become sets of tokens: the tokenizer first, then all blocks through threads into one set or two. */
#include "text_import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/text.h"
#include "text_file.h"
#include "token_writer.h"

enum { BYTES_VERSION = 1 /* raised where equal inputs and options come to give other bytes */ };

typedef struct import {
    const dt_import_options *o;
    dt_text_read_options read;
    dt_tokenizer *tokenizer;
    dt_text_inputs inputs;
    dt_class_names classes; /* n 0: none */
    int32_t n_parts;
    dt_token_writer part[2];
    char *path[2]; /* owned: of the directories, where they are not the user's */
} import;

static uint64_t add_text(uint64_t hash, const char *text) {
    return text ? XXH3_64bits_withSeed(text, strlen(text) + 1, hash) : hash + 1;
}

/* Files are known by their names and sizes: reading them for it would take as long as importing them. */
static dt_status identify(const import *m, uint64_t *out) {
    const dt_import_options *o = m->o;
    dt_tokenizer_info info;
    dt_tokenizer_info_get(m->tokenizer, &info);
    uint64_t hash = info.xxh3;
    for (int32_t i = 0; i < m->read.n_input; i++) {
        dt_text_file f;
        const char *path = m->read.input[i], *slash = strrchr(path, '/');
        DT_TRY(dt_text_file_look(path, o->field, &f));
        hash = XXH3_64bits_withSeed(&f.n_bytes, sizeof f.n_bytes, add_text(hash, slash ? slash + 1 : path));
        if (m->read.class) hash = add_text(hash, m->read.class[i]);
    }
    hash = add_text(add_text(hash, o->field), o->separator);
    if (m->classes.n > 0) hash = add_text(add_text(hash, o->label), m->classes.text);
    uint64_t words[] = {hash, 0, (uint64_t)m->part[0].shard_bytes, o->skip_broken, BYTES_VERSION};
    memcpy(&words[1], &o->val_fraction, sizeof o->val_fraction);
    *out = XXH3_64bits(words, sizeof words);
    return DT_OK;
}

static dt_status open_parts(import *m) {
    static const char *const split[] = {"train", "val"};
    const dt_import_options *o = m->o;
    uint64_t identity;
    for (int32_t k = 0; k < m->n_parts; k++) {
        if (m->n_parts > 1 && asprintf(&m->path[k], "%s/%s", o->out_dir, split[k]) < 0) {
            m->path[k] = NULL;
            return dt_fail(DT_ERR_MEMORY, "import: out of memory");
        }
        m->part[k].tokenizer = m->tokenizer;
        m->part[k].n_classes = m->classes.n;
        m->part[k].class_names = m->classes.text;
        m->part[k].split = m->n_parts > 1 ? split[k] : o->split;
        m->part[k].dir = m->n_parts > 1 ? m->path[k] : o->out_dir;
        m->part[k].shard_bytes = o->shard_bytes ? o->shard_bytes : (int64_t)DT_IMPORT_SHARD_MIB << 20;
    }
    DT_TRY(identify(m, &identity));
    for (int32_t k = 0; k < m->n_parts; k++) DT_TRY(dt_token_writer_open(&m->part[k], "text", identity));
    return DT_OK;
}

static dt_status take(void *arg, const dt_text_part_of part[2]) {
    import *m = arg;
    for (int32_t k = 0; k < m->n_parts; k++) {
        if (m->part[k].kept) continue;
        DT_TRY(dt_text_labels_add(&m->part[k].labels, part[k].labels.n, part[k].labels.label));
        DT_TRY(dt_token_writer_add(&m->part[k], part[k].tokens.id, part[k].tokens.n));
    }
    return DT_OK;
}

static dt_status finish_parts(import *m, int64_t n_skipped, dt_import_result *out) {
    const dt_import_options *o = m->o;
    char note[160];
    out->n_skipped = n_skipped;
    for (int32_t k = 0; k < m->n_parts; k++) {
        const int64_t before = out->n_samples;
        DT_TRY(dt_token_writer_finish(&m->part[k], n_skipped, out));
        if (k == 1) out->n_val_samples = out->n_samples - before;
        snprintf(note, sizeof note, "%s is finished already: kept", m->part[k].dir);
        if (m->part[k].kept && o->note) o->note(o->arg, note);
    }
    if (o->progress) o->progress(o->arg, 1, 1);
    return DT_OK;
}

static dt_status make_all(import *m, dt_import_result *out) {
    int64_t n_skipped = 0;
    bool kept = true;
    DT_TRY(dt_text_inputs_find(m->o, &m->inputs));
    if (m->inputs.n > 0) {
        m->read.input = (const char *const *)m->inputs.file;
        m->read.class = (const char *const *)m->inputs.class;
        m->read.n_input = m->inputs.n;
    }
    const bool labelled = m->o->label || m->inputs.n > 0;
    if (m->o->class_names && !labelled)
        return dt_fail(
            DT_ERR_USAGE,
            "import text: --class-names is for text with classes: a directory for each, or --label");
    if (labelled) DT_TRY(dt_text_classes_find(m->o, &m->read, &m->classes));
    DT_TRY(dt_text_tokenizer(m->o, &m->read, &m->tokenizer));
    DT_TRY(open_parts(m));
    for (int32_t k = 0; k < m->n_parts; k++) kept = kept && m->part[k].kept;
    if (!kept)
        DT_TRY(dt_text_encode_all(m->o, &m->read, m->tokenizer, labelled ? &m->classes : NULL, take, m,
                                  &n_skipped));
    out->n_classes = m->classes.n;
    return finish_parts(m, n_skipped, out);
}

dt_status dt_import_text(const dt_import_options *o, const char *kind, dt_import_result *out) {
    if (o->n_input == 0) return dt_fail(DT_ERR_USAGE, "import %s: give the files", kind);
    if (o->separator && (!o->separator[0] || strchr(o->separator, '\n')))
        return dt_fail(DT_ERR_USAGE, "import %s: --separator is a line between documents, which is not empty",
                       kind);
import m = {.o = o, .read = {.input = o->input, .n_input = o->n_input, .field = o->field, .label = o->label, .separator = o->separator, .val_fraction = o->val_fraction }, .n_parts = o->val_fraction> 0 ? 2 : 1 };
    for (int k = 0; k < 2; k++) m.part[k].place.lock_fd = -1;
    const dt_status status = make_all(&m, out);
    for (int k = 0; k < 2; k++) {
        dt_token_writer_close(&m.part[k]);
        free(m.path[k]);
    }
    dt_text_inputs_free(&m.inputs);
    dt_class_names_close(&m.classes);
    dt_tokenizer_close(m.tokenizer);
    return status;
}
