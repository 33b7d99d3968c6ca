/* Data sets of any kind: which one it is, and what each can be asked. */
#include "dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/text.h"
#include "images.h"
#include "shard_set.h"

static dt_status find_row(const dt_shard_set *set, const dt_data_row **out) {
    bool arrays = set->index.n_fields > 0, tokens = set->index.tokens.n_vocab > 0;
    if (set->index.n_shards == 0) DT_TRY(dt_token_shard_is(set->file[0], &tokens));
    if (set->index.n_shards == 0 && !tokens) DT_TRY(dt_array_shard_is(set->file[0], &arrays));
    *out = tokens ? &dt_tokens_row : arrays ? &dt_arrays_row : &dt_images_row;
    return DT_OK;
}

static dt_status open_path(const dt_data_options *o, dt_dataset *d, const char *path) {
    dt_shard_set set;
    dt_status status = dt_shard_set_open(path, &set);
    const dt_data_row *row = NULL;
    if (status == DT_OK) status = find_row(&set, &row);
    if (status == DT_OK && !(d->path = strdup(path)))
        status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    if (status == DT_OK) {
        d->row = row;
        status = row->open(d, &set);
    }
    if (status == DT_OK && row->shape) status = row->shape(d, o);
    dt_shard_set_close(&set);
    return status;
}

/* Under no path: the generated sets. */
static dt_status open_synthetic(const dt_data_options *o, dt_dataset *d) {
    d->row = o->synthetic_fields[0] ? &dt_synthetic_row : &dt_images_row;
    return d->row == &dt_images_row ? dt_images_open_synthetic(o, d) : dt_synthetic_open(o, d);
}

static dt_status open_set(const dt_data_options *o, bool synthetic, const char *path, dt_dataset **out) {
    *out = NULL;
    dt_dataset *d = calloc(1, sizeof *d);
    if (!d) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    const dt_status status = synthetic ? open_synthetic(o, d) : open_path(o, d, path);
    if (status != DT_OK) {
        dt_dataset_close(d);
        return status;
    }
    *out = d;
    return DT_OK;
}

dt_status dt_dataset_open_path(const char *path, dt_dataset **out) {
    return open_set(NULL, false, path, out);
}

dt_status dt_dataset_open(const dt_data_options *o, const char *path, dt_dataset **out) {
    return open_set(o, strcmp(path, "synthetic") == 0, path, out);
}

dt_status dt_dataset_need_images(const dt_dataset *d, const char *path) {
    if (d->row == &dt_images_row) return DT_OK;
    return dt_fail(DT_ERR_DATA, "%s: holds %s, and this needs images", path, d->info.kind);
}

void dt_dataset_close(dt_dataset *d) {
    if (!d) return;
    if (d->row) d->row->close(d);
    free(d->path);
    free(d);
}

void dt_dataset_info_get(const dt_dataset *d, dt_dataset_info *out) {
    *out = d->info;
}

dt_dataset_text dt_dataset_describe(const dt_dataset_info *info) {
    dt_dataset_text out = {""};
    if (info->channels > 0) {
        snprintf(out.s, sizeof out.s, "%lldx%lldx%lld, %s%s", (long long)info->height, (long long)info->width,
                 (long long)info->channels, dt_count_text(info->n_classes, "class").s,
                 info->jpeg ? ", JPEG" : "");
        return out;
    }
    for (int32_t i = 0; i < info->n_field; i++) {
        const size_t at = strlen(out.s);
        snprintf(out.s + at, sizeof out.s - at, "%s%s", i ? ", " : "", dt_field_text(&info->field[i]).s);
    }
    const size_t at = strlen(out.s);
    if (info->n_vocab > 0)
        snprintf(out.s + at, sizeof out.s - at, ", vocabulary of %lld", (long long)info->n_vocab);
    return out;
}

const char *dt_dataset_class_name(const dt_dataset *d, int64_t label) {
    return d->class_name && label >= 0 && label < d->info.n_classes ? d->class_name[label] : "";
}

void dt_dataset_place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row) {
    d->row->place(d, sample, file, row);
}

/* ---- data/agree.h ---- */

dt_status dt_data_check(const dt_data_options *o, int64_t classes, const char *path, const dt_dataset *d) {
    return d->row->check_config ? d->row->check_config(o, classes, path, d) : DT_OK;
}

dt_status dt_data_check_numbers(const dt_dataset *d, const char *name, double least, double most,
                                const char *why, dt_data_note *note) {
    *note = (dt_data_note){""};
    return d->row->check_numbers ? d->row->check_numbers(d, name, least, most, why, note) : DT_OK;
}

uint64_t dt_data_samples_hash(const dt_dataset *d) {
    XXH3_state_t *state = d->row->checksums && !d->inputs ? XXH3_createState() : NULL;
    int64_t n = 0, n_all = 0;
    uint64_t hash = 0;
    if (!state) return 0;
    XXH3_64bits_reset(state);
    for (int64_t i = 0; n >= 0; i++) {
        const int64_t *checksum = d->row->checksums(d, i, &n);
        if (n > 0 && !checksum) break;
        if (n > 0) XXH3_64bits_update(state, checksum, (size_t)n * sizeof *checksum);
        if (n > 0) n_all += n;
    }
    if (n < 0 && n_all > 0) hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}

dt_status dt_data_agree(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                        dt_data_note *note) {
    *note = (dt_data_note){""};
    if (train->row->agree != val->row->agree) /* generated fields may stand for arrays */
        return dt_fail(DT_ERR_DATA,
                       "%s holds %s, %s holds %s: a run trains and evaluates on one kind of data", o->train,
                       train->info.kind, o->val, val->info.kind);
    return train->row->agree(o, train, val, note);
}

dt_status dt_fields_agree(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                          dt_data_note *note) {
    (void)note;
    const dt_dataset_info *a = &train->info, *b = &val->info;
    for (int32_t i = 0; i < a->n_field; i++) {
        int32_t k = 0;
        while (k < b->n_field && strcmp(a->field[i].name, b->field[k].name) != 0) k++;
        if (k == b->n_field)
            return dt_fail(DT_ERR_DATA, "%s has %s, %s has no such field: import both in the same way",
                           o->train, dt_field_text(&a->field[i]).s, o->val);
        if (!dt_field_same(&a->field[i], &b->field[k]))
            return dt_fail(DT_ERR_DATA, "%s has %s, %s has %s: import both in the same way", o->train,
                           dt_field_text(&a->field[i]).s, o->val, dt_field_text(&b->field[k]).s);
    }
    return DT_OK;
}

dt_status dt_data_same_fields(const dt_dataset_info *trained, const dt_dataset *d, const char *path) {
    for (int32_t i = 0; i < trained->n_field; i++)
        for (int32_t k = 0; k < d->info.n_field; k++)
            if (strcmp(trained->field[i].name, d->info.field[k].name) == 0 &&
                !dt_field_same(&trained->field[i], &d->info.field[k]))
                return dt_fail(DT_ERR_DATA,
                               "the network was trained on %s, and %s holds %s: import both in the same way",
                               dt_field_text(&trained->field[i]).s, path, dt_field_text(&d->info.field[k]).s);
    return DT_OK;
}

uint64_t dt_data_hash(const dt_dataset_info *i) {
    const double part[] = {(double)i->n_samples, (double)i->height, (double)i->width, (double)i->channels,
                           (double)i->n_classes, i->jpeg,           i->mean[0],       i->mean[1],
                           i->mean[2],           i->mean[3],        i->stddev[0],     i->stddev[1],
                           i->stddev[2],         i->stddev[3]};
    uint64_t hash = XXH3_64bits(part, sizeof part);
    for (int32_t k = 0; k < i->n_field; k++) {
        const dt_field_shown field = dt_field_text(&i->field[k]);
        hash = XXH3_64bits_withSeed(field.s, strlen(field.s), hash);
    }
    if (i->n_vocab == 0) return hash;
    const int64_t tokens[] = {i->n_vocab, i->end_token, i->n_tokens, i->isolated};
    hash = XXH3_64bits_withSeed(tokens, sizeof tokens, hash ^ i->tokenizer_xxh3);
    return i->masked ? hash + 1 : hash;
}
