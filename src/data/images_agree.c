/* What sets of images, the configuration and a trained network must have in common: channels, sizes, and that a
 * label means the same class. */
#include "images.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/text.h"
#include "data/augment.h"

static void tell(dt_data_note *note, const char *fmt, ...) DT_PRINTF(2, 3);
static void tell(dt_data_note *note, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(note->text, sizeof note->text, fmt, ap);
    va_end(ap);
}

static const char *name_in_set(const void *set, int64_t label) {
    return dt_dataset_class_name(set, label);
}

static const char *name_in_facts(const void *facts, int64_t label) {
    return dt_data_facts_class(facts, label);
}

/* A label must mean the same in training and in `val`, as far as it has a name in both. */
static dt_status check_same_classes(const dt_data_options *o,
                                    const char *(*name)(const void *of, int64_t label), const void *of,
                                    const char *where, const dt_dataset *val) {
    dt_dataset_info v;
    dt_dataset_info_get(val, &v);
    for (int64_t i = 0; i < v.n_classes; i++) {
        const char *a = name(of, i), *b = dt_dataset_class_name(val, i);
        if (!a[0] || !b[0] || strcmp(a, b) == 0) continue;
        return dt_fail(
            DT_ERR_DATA,
            "class %lld is \"%s\" in %s, but \"%s\" in %s: import both with the same classes (dtrain "
            "data import ... --class-names %s)",
            (long long)i, a, where, b, o->val, o->train);
    }
    return DT_OK;
}

dt_status dt_images_check_config(const dt_data_options *o, int64_t classes, const char *path,
                                 const dt_dataset *d) {
    dt_dataset_info info;
    dt_dataset_info_get(d, &info);
    if (o->channels > 0 && o->channels != info.channels)
        return dt_fail(
            DT_ERR_CONFIG,
            "data.channels = %lld, but the images of %s have %lld: change the one or import the other anew",
            (long long)o->channels, path, (long long)info.channels);
    if (classes > 0 && classes < info.n_classes)
        return dt_fail(DT_ERR_CONFIG, "model.classes = %lld, but %s has %s: set it to no fewer",
                       (long long)classes, path, dt_count_text(info.n_classes, "class").s);
    return DT_OK;
}

static uint64_t names_hash(const char *(*name)(const void *of, int64_t label), const void *of, int64_t n) {
    uint64_t hash = 0;
    for (int64_t i = 0; i < n; i++) {
        const char *text = name(of, i);
        if (text[0]) hash = XXH3_64bits_withSeed(text, strlen(text), hash + (uint64_t)i + 1);
    }
    return hash;
}

uint64_t dt_data_classes_hash(const dt_dataset *d) {
    dt_dataset_info info;
    dt_dataset_info_get(d, &info);
    return names_hash(name_in_set, d, info.n_classes);
}

uint64_t dt_data_statistics_hash(const dt_augment_options *o, const dt_dataset_info *d) {
    double v[2][4] = {{0}};
    for (int i = 0; i < 4 && i < d->channels; i++) {
        v[0][i] = i < o->n_mean ? o->mean[i] : d->mean[i];
        v[1][i] = i < o->n_stddev ? o->stddev[i] : d->stddev[i];
    }
    return XXH3_64bits(v, sizeof v);
}

dt_status dt_images_agree(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                          dt_data_note *note) {
    const dt_dataset_info *a = &train->info, *b = &val->info;
    const bool named = dt_dataset_class_name(train, 0)[0] != 0;
    if (named != (dt_dataset_class_name(val, 0)[0] != 0))
        tell(note,
             "%s has no class names to compare with those of %s: label k is taken for the same class in both",
             named ? o->val : o->train, named ? o->train : o->val);
    /* The highest classes need not occur in what is evaluated. */
    if (a->channels != b->channels)
        return dt_fail(DT_ERR_DATA,
                       "the images of %s have %s, those of %s have %lld: import both in the same way",
                       o->train, dt_count_text(a->channels, "channel").s, o->val, (long long)b->channels);
    DT_TRY(check_same_classes(o, name_in_set, train, o->train, val));
    if (b->n_classes > a->n_classes)
        return dt_fail(
            DT_ERR_DATA,
            "%s has %s, %s has only %lld: import both with the same classes (dtrain data import ... "
            "--class-names)",
            o->val, dt_count_text(b->n_classes, "class").s, o->train, (long long)a->n_classes);
    if (o->image_size == 0 && (a->height != b->height || a->width != b->width || a->jpeg || b->jpeg))
        return dt_fail(DT_ERR_CONFIG, "the images differ in size: set data.image_size");
    return DT_OK;
}

static void take_facts(bool given, const dt_dataset_info *train, dt_dataset_info *info) {
    info->n_classes = dt_max_i64(info->n_classes, train->n_classes);
    if (given) return;
    memcpy(info->mean, train->mean, sizeof info->mean);
    memcpy(info->stddev, train->stddev, sizeof info->stddev);
}

dt_status dt_data_trained_facts(const dt_data_options *o, const dt_augment_options *augment, int64_t classes,
                                const dt_dataset *val, const dt_data_facts *facts, dt_data_trained *out,
                                dt_data_note *note) {
    dt_dataset *train;
    dt_dataset_info *info = &out->info;
    const bool given = augment->n_mean > 0;
    *out = (dt_data_trained){.info = val->info, .known = given || facts};
    *note = (dt_data_note){""};
    if (facts && facts->info.kind && (facts->info.channels > 0) != (info->channels > 0))
        return dt_fail(DT_ERR_DATA, "the network was trained on %s, and %s holds %s", facts->info.kind,
                       o->val, info->kind);
    if (facts) DT_TRY(dt_data_same_fields(&facts->info, val, o->val));
    if (facts && facts->info.tokenizer_xxh3 != info->tokenizer_xxh3)
        return dt_fail(DT_ERR_DATA,
                       "the network was trained on text of another tokenizer than that of %s: import it with "
                       "--tokenizer and the directory of the training set",
                       o->val);
    /* Names of all that the model tells apart can be compared with a checkpoint's. */
    if (classes == 0 || classes == info->n_classes) out->classes_xxh3 = dt_data_classes_hash(val);
    if (facts) {
        /* Compared below, name by name: those that are evaluated may be fewer. */
        if (facts->class_name && dt_dataset_class_name(val, 0)[0])
            out->classes_xxh3 = names_hash(name_in_facts, facts, facts->info.n_classes);
        take_facts(given, &facts->info, info);
        return check_same_classes(o, name_in_facts, facts, "the checkpoint", val);
    }
    if (dt_dataset_open(o, o->train, &train) != DT_OK) {
        if (!given)
            tell(note,
                 "normalising with the evaluation set's own mean and deviation, because the training set "
                 "cannot be "
                 "opened (%s); set augment.mean and augment.std",
                 dt_error_text());
        return DT_OK;
    }
    const dt_dataset_info other = train->info;
    out->known = true;
    if (other.n_classes > info->n_classes) out->classes_xxh3 = 0;
    const uint64_t names = dt_data_classes_hash(train);
    if (names) out->classes_xxh3 = names;
    take_facts(given, &other, info);
    dt_status st = check_same_classes(o, name_in_set, train, o->train, val);
    dt_dataset_close(train);
    return st;
}

int64_t dt_data_image_side(const dt_data_options *o, bool training) {
    return !training && o->val_size > 0 ? o->val_size : o->image_size;
}

dt_status dt_data_image_input(const dt_data_options *o, const dt_augment_options *a, int64_t classes,
                              const dt_dataset_info *info, bool training, bool on_device,
                              dt_image_input *out) {
    const int64_t side = dt_data_image_side(o, training);
    *out = (dt_image_input){
        .height = side > 0 ? side : info->height,
        .width = side > 0 ? side : info->width,
        .channels = info->channels,
        .classes = classes > 0 ? classes : info->n_classes,
        /* Raw images of one size can be cropped on the device from what is stored: less work for
                             * the host's threads. */
        .source_crop = on_device && !info->jpeg && a->crop == DT_CROP_RANDOM_RESIZED && !dt_augment_edits(a),
        .edits = training && on_device && dt_augment_edits_colours(a),
        .src_height = info->height,
        .src_width = info->width};
    if (info->jpeg && o->image_size == 0)
        return dt_fail(DT_ERR_CONFIG, "JPEG images differ in size: set data.image_size");
    if (out->classes < info->n_classes)
        return dt_fail(DT_ERR_CONFIG, "model.classes = %lld, but the data has %s", (long long)out->classes,
                       dt_count_text(info->n_classes, "class").s);
    if (a->n_mean > 0 && a->n_mean != info->channels)
        return dt_fail(
            DT_ERR_CONFIG,
            "augment.mean and augment.std are for %s, but the images have %lld: give one entry per channel",
            dt_count_text(a->n_mean, "channel").s, (long long)info->channels);
    for (int i = 0; i < 4; i++) {
        out->mean[i] = (float)(i < a->n_mean ? a->mean[i] : info->mean[i]);
        out->stddev[i] = (float)(i < a->n_stddev ? a->stddev[i] : info->stddev[i]);
    }
    return DT_OK;
}
