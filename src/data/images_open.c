/* Opening images: shards that are whole and alike; and the synthetic set, images cut at pseudo-random places out
 * of one block of noise, which costs no more than a copy. Where a sample of either lies. */
#include "images.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "core/text.h"
#include "inputs.h"
#include "shard_set.h"

enum {
    NOISE_PLACES = 1 << 20, /* different images of the synthetic set */
    SYNTHETIC_SIDE = 32,    /* where image_size is 0 */
};

/* What the index says of the set is what the shards, now open, hold. */
static dt_status check_totals(const dt_dataset *d, const dt_index *index) {
    const dt_dataset_info *info = &d->info;
    const struct {
        const char *what;
        int64_t said, found;
    } totals[] = {{"count", index->n_samples, info->n_samples},
                  {"classes", index->n_classes, info->n_classes},
                  {"height", index->shape[0], info->height},
                  {"width", index->shape[1], info->width},
                  {"channels", index->shape[2], info->channels}};
    for (int64_t i = 0; i < index->n_shards; i++)
        if (index->shard[i].n_samples != d->shard[i].n_samples)
            return dt_shard_set_differs(d->shard[i].path, "count", index->shard[i].n_samples,
                                        d->shard[i].n_samples);
    for (size_t i = 0; index->n_shards && i < sizeof totals / sizeof totals[0]; i++)
        if (totals[i].said != totals[i].found)
            return dt_shard_set_differs(d->path, totals[i].what, totals[i].said, totals[i].found);
    for (int64_t i = 0; index->class_name && i < info->n_classes; i++)
        if (strcmp(index->class_name[i], dt_dataset_class_name(d, i)) != 0)
            return dt_fail(DT_ERR_DATA,
                           "%s: " DT_INDEX_NAME
                           " says class %lld is \"%s\", the shards say \"%s\" (import it "
                           "again)",
                           d->path, (long long)i, index->class_name[i], dt_dataset_class_name(d, i));
    return DT_OK;
}

static dt_status check_alike(const dt_shard *a, const dt_shard *b) {
    if (a->jpeg != b->jpeg || a->channels != b->channels || a->n_classes != b->n_classes ||
        (!a->jpeg && (a->height != b->height || a->width != b->width)))
        return dt_fail(DT_ERR_DATA, "%s: kind, shape or classes differ from %s", b->path, a->path);
    /* A label has one meaning in a set. */
    if (!a->class_names != !b->class_names || (a->class_names && strcmp(a->class_names, b->class_names) != 0))
        return dt_fail(DT_ERR_DATA,
                       "%s: class names differ from those of %s: the shards of a set have the same, in the "
                       "same order",
                       b->path, a->path);
    return DT_OK;
}

static void sum_up(dt_dataset *d) {
    dt_dataset_info *info = &d->info;
    double pixels = 0, sum[DT_CHANNELS_MAX] = {0}, sum_sq[DT_CHANNELS_MAX] = {0};
    const dt_shard *head = &d->shard[0];
    *info = (dt_dataset_info){.channels = head->channels, .n_classes = head->n_classes, .jpeg = head->jpeg};
    d->has_stats = true;
    for (int64_t i = 0; i < d->n_shards; i++) {
        const dt_shard *s = &d->shard[i];
        d->first[i + 1] = d->first[i] + s->n_samples;
        info->height = dt_max_i64(info->height, s->height);
        info->width = dt_max_i64(info->width, s->width);
        if (head->n_classes == 0)
            for (int64_t k = 0; k < s->n_samples; k++)
                info->n_classes = dt_max_i64(info->n_classes, (int64_t)s->label[k] + 1);
        d->has_stats = d->has_stats && s->stats_pixels > 0;
        pixels += (double)s->stats_pixels;
        for (int64_t c = 0; c < s->channels; c++) {
            sum[c] += (double)s->sum[c];
            sum_sq[c] += (double)s->sum_sq[c];
        }
    }
    info->n_samples = d->first[d->n_shards];
    d->recipe = head->recipe;
    for (int64_t c = 0; c < DT_CHANNELS_MAX; c++) {
        info->mean[c] = 0.5;
        info->stddev[c] = 0.25;
        if (!d->has_stats || c >= info->channels) continue;
        double mean = sum[c] / pixels, variance = sum_sq[c] / pixels - mean * mean;
        info->mean[c] = mean / 255;
        /* An image set of one grey level still has to be divided by something. */
        info->stddev[c] = variance > 1e-4 ? sqrt(variance) / 255 : 1;
    }
}

char **dt_class_names_split(const char *text, int64_t n) {
    char **name = calloc((size_t)n, sizeof *name);
    if (!name) return NULL;
    for (int64_t i = 0; i < n; i++) {
        const char *end = strchrnul(text, '\n');
        bool last = *end == 0;
        name[i] = strndup(text, (size_t)(end - text));
        if (!name[i] || last != (i == n - 1)) {
            dt_class_names_free(name, n);
            return NULL;
        }
        text = end + 1;
    }
    return name;
}

void dt_class_names_free(char **name, int64_t n) {
    if (!name) return;
    for (int64_t i = 0; i < n; i++) free(name[i]);
    free(name);
}

static dt_status take_names(dt_dataset *d) {
    const dt_shard *head = &d->shard[0];
    if (!head->class_names) return DT_OK;
    d->class_name = dt_class_names_split(head->class_names, d->info.n_classes);
    if (!d->class_name)
        return dt_fail(DT_ERR_DATA, "%s: attribute class_names does not hold %s", head->path,
                       dt_count_text(d->info.n_classes, "name").s);
    return DT_OK;
}

static dt_status open_shards(dt_dataset *d, const dt_shard_set *set) {
    d->shard = calloc((size_t)set->n, sizeof *d->shard);
    d->first = calloc((size_t)set->n + 1, sizeof *d->first);
    if (!d->shard || !d->first) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", d->path);
    for (int64_t i = 0; i < set->n; i++) {
        d->n_shards = i + 1;
        DT_TRY(dt_shard_open(set->file[i], &d->shard[i]));
        DT_TRY(check_alike(&d->shard[0], &d->shard[i]));
    }
    sum_up(d);
    return take_names(d);
}

/* Of one row, as stored; of JPEG the largest. */
static void state_fields(dt_dataset *d) {
    dt_dataset_info *info = &d->info;
    info->kind = "images";
    info->n_field = 2;
    info->field[0] = (dt_field){"image", DT_DTYPE_U8, 3, {info->height, info->width, info->channels}};
    info->field[1] = (dt_field){.name = "label", .dtype = DT_DTYPE_I32};
}

dt_status dt_images_open(dt_dataset *d, const dt_shard_set *set) {
    DT_TRY(open_shards(d, set));
    DT_TRY(check_totals(d, &set->index));
    state_fields(d);
    return DT_OK;
}

void dt_images_close(dt_dataset *d) {
    for (int64_t i = 0; i < d->n_shards; i++) dt_shard_close(&d->shard[i]);
    dt_class_names_free(d->class_name, d->info.n_classes);
    dt_inputs_free(d->inputs);
    free(d->shard);
    free(d->first);
    free(d->noise);
}

dt_status dt_images_open_synthetic(const dt_data_options *o, dt_dataset *d) {
    int64_t side = o->image_size ? o->image_size : SYNTHETIC_SIDE;
    int64_t channels = o->channels ? o->channels : o->synthetic_channels;
    if (o->synthetic_samples < 1 || o->synthetic_classes < 1 || o->synthetic_classes > INT32_MAX ||
        channels < 1 || channels > DT_CHANNELS_MAX || side < 1 || side > 8192)
        return dt_fail(DT_ERR_CONFIG,
                       "synthetic data: samples, classes, channels or data.image_size out of range");
    d->info = (dt_dataset_info){.n_samples = o->synthetic_samples,
                                .height = side,
                                .width = side,
                                .channels = channels,
                                .n_classes = o->synthetic_classes,
                                .mean = {0.5, 0.5, 0.5, 0.5},
                                .stddev = {0.25, 0.25, 0.25, 0.25}};
    state_fields(d);
    int64_t n = NOISE_PLACES + side * side * channels;
    d->noise = malloc((size_t)dt_round_up(n, 16));
    if (!d->noise) return dt_fail(DT_ERR_MEMORY, "synthetic data: out of memory");
    for (int64_t i = 0; i < n; i += 16) {
        dt_u32x4 word = dt_philox(0, 0, (uint64_t)i);
        memcpy(d->noise + i, word.v, sizeof word.v);
    }
    return DT_OK;
}

void dt_dataset_locate(const dt_dataset *d, int64_t sample, dt_sample *out) {
    if (d->inputs) {
        dt_inputs_locate(d->inputs, sample, out);
        return;
    }
    if (d->noise) {
        dt_u32x4 word = dt_philox(1, 0, (uint64_t)sample);
        *out = (dt_sample){.row = word.v[0] % NOISE_PLACES,
                           .label = (int32_t)(word.v[1] % (uint64_t)d->info.n_classes),
                           .height = d->info.height,
                           .width = d->info.width,
                           .n_bytes = d->info.height * d->info.width * d->info.channels};
        return;
    }
    const int64_t low = dt_shard_set_find(d->first, d->n_shards, sample);
    const dt_shard *s = &d->shard[low];
    int64_t row = sample - d->first[low];
    *out = (dt_sample){.shard = s,
                       .row = row,
                       .label = s->label[row],
                       .height = s->jpeg ? s->jpeg_height[row] : s->height,
                       .width = s->jpeg ? s->jpeg_width[row] : s->width,
                       .n_bytes = dt_shard_sample_bytes(s, row),
                       .jpeg = s->jpeg};
}

void dt_images_place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row) {
    dt_sample s;
    dt_dataset_locate(d, sample, &s);
    *file = s.shard ? s.shard->path : "";
    *row = s.shard ? s.row : sample;
}

dt_status dt_sample_read(const dt_dataset *d, const dt_sample *s, int64_t begin, int64_t n, uint8_t *dst) {
    if (s->shard) return dt_shard_read(s->shard, s->row, begin, n, dst);
    memcpy(dst, (s->bytes ? s->bytes : d->noise + s->row) + begin, (size_t)n);
    return DT_OK;
}
