/* Listing what the user named, and reading image files the way the training set was imported. */
#include "inputs.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "core/text.h"
#include "files.h"
#include "folder.h"
#include "image_file.h"
#include "recipe.h"
#include "shard_set.h"

void dt_inputs_free(dt_inputs *in) {
    if (!in) return;
    for (int64_t i = 0; i < in->n; i++) {
        free(in->part[i].file.path);
        free(in->part[i].file.error);
        dt_dataset_close(in->part[i].set);
        dt_array_source_close(&in->part[i].table);
    }
    free(in->part);
    free(in->first);
    free(in);
}

static dt_status no_memory(const char *path) {
    return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
}

dt_status dt_inputs_add(dt_inputs *in, const char *path, dt_dataset *set) {
    if (in->n == in->capacity) {
        const int64_t capacity = in->capacity ? 2 * in->capacity : 64;
        dt_inputs_part *grown = realloc(in->part, (size_t)capacity * sizeof *grown);
        if (!grown) {
            dt_dataset_close(set);
            return no_memory(path);
        }
        in->part = grown;
        in->capacity = capacity;
    }
    dt_inputs_part *p = &in->part[in->n++];
    *p = (dt_inputs_part){.file.path = strdup(path), .set = set};
    return p->file.path ? DT_OK : no_memory(path);
}

dt_status dt_inputs_add_failed(dt_inputs *in, const char *path) {
    DT_TRY(dt_inputs_add(in, path, NULL));
    char **error = &in->part[in->n - 1].file.error;
    *error = strdup(dt_error_text());
    return *error ? DT_OK : no_memory(path);
}

static dt_status add_set(dt_inputs *in, const char *path) {
    dt_dataset *set = NULL;
    dt_status status = dt_dataset_open_path(path, &set);
    if (status == DT_OK) status = dt_dataset_need_images(set, path);
    if (status == DT_OK && set->info.channels != in->facts->info.channels)
        status = dt_fail(DT_ERR_DATA, "%s: %s, but the network was trained on images of %lld", path,
                         dt_count_text(set->info.channels, "channel").s, (long long)in->facts->info.channels);
    if (status == DT_OK) return dt_inputs_add(in, path, set);
    dt_dataset_close(set);
    return status == DT_ERR_MEMORY ? status : dt_inputs_add_failed(in, path);
}

/* The images in a folder and below it, sorted by name in each. */
static dt_status add_folder(dt_inputs *in, const char *path, const dt_dir_trail *above) {
    dt_names names = {0};
    dt_dir_trail here;
    dt_status status = dt_dir_enter(path, above, &here);
    if (status == DT_OK) status = dt_dir_list(path, dt_name_is_visible, &names);
    if (status == DT_ERR_DATA) return dt_inputs_add_failed(in, path);
    for (int64_t i = 0; i < names.n && status == DT_OK; i++) {
        struct stat st;
        char *below;
        const size_t n = strlen(path);
        if (asprintf(&below, "%s%s%s", path, n > 0 && path[n - 1] == '/' ? "" : "/", names.name[i]) < 0) {
            status = no_memory(path);
            break;
        }
        if (stat(below, &st) == 0 && S_ISDIR(st.st_mode))
            status = add_folder(in, below, &here);
        else if (dt_folder_image_is(names.name[i]))
            status = dt_inputs_add(in, below, NULL);
        else
            in->n_ignored++;
        free(below);
    }
    dt_names_free(&names);
    return status;
}

/* A directory that holds shards is a data set. */
static dt_status add_directory(dt_inputs *in, const char *path) {
    dt_names shards;
    const int64_t before = in->n;
    const dt_status status = dt_dir_list(path, dt_shard_name_is, &shards);
    if (status == DT_ERR_DATA) return dt_inputs_add_failed(in, path);
    DT_TRY(status);
    const bool set = shards.n > 0;
    dt_names_free(&shards);
    if (set) return add_set(in, path);
    DT_TRY(add_folder(in, path, NULL));
    if (in->n > before) return DT_OK;
    char hint[DT_SHARD_HINT_BYTES];
    dt_shard_set_hint(path, hint);
    const dt_status empty =
        dt_fail(DT_ERR_DATA, "%s: no images: neither .jpg nor .png files, nor shards%s", path, hint);
    return empty == DT_ERR_DATA ? dt_inputs_add_failed(in, path) : empty;
}

static dt_status add_path(dt_inputs *in, const char *path) {
    static const char extension[] = ".h5";
    const size_t n = strlen(path), n_extension = sizeof extension - 1;
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return add_directory(in, path);
    if (n > n_extension && strcmp(path + n - n_extension, extension) == 0) return add_set(in, path);
    return dt_inputs_add(in, path, NULL);
}

static bool stands_for_rows(const dt_inputs_part *p) {
    return p->set || p->table.state;
}

dt_status dt_inputs_number(dt_inputs *in) {
    in->first = calloc((size_t)in->n + 1, sizeof *in->first);
    if (!in->first) return no_memory(in->part[0].file.path);
    for (int64_t i = 0; i < in->n; i++)
        in->first[i + 1] = in->first[i] + (in->part[i].set           ? in->part[i].set->info.n_samples
                                           : in->part[i].table.state ? in->part[i].table.n_rows
                                                                     : 1);
    return DT_OK;
}

dt_status dt_inputs_open(const dt_data_facts *f, int n_path, const char *const *path, dt_dataset **out) {
    *out = NULL;
    dt_dataset *d = calloc(1, sizeof *d);
    if (!d || !(d->inputs = calloc(1, sizeof *d->inputs))) {
        free(d);
        return dt_fail(DT_ERR_MEMORY, "out of memory for the inputs");
    }
    dt_inputs *in = d->inputs;
    in->facts = f;
    d->row = &dt_images_row;
    d->info = f->info;
    dt_status status = n_path < 1 ? dt_fail(DT_ERR_USAGE, "there are no inputs") : DT_OK;
    if (f->info.kind && strcmp(f->info.kind, dt_images_row.kind) != 0)
        status =
            dt_fail(DT_ERR_USAGE, "the network was trained on %s: images are no inputs for it", f->info.kind);
    for (int i = 0; i < n_path && status == DT_OK; i++) status = add_path(in, path[i]);
    if (status == DT_OK) status = dt_inputs_number(in);
    if (status != DT_OK) {
        dt_dataset_close(d);
        return status;
    }
    d->info.n_samples = in->first[in->n];
    *out = d;
    return DT_OK;
}

uint64_t dt_inputs_hash(const dt_dataset *d) {
    const dt_inputs *in = d->inputs;
    uint64_t hash = (uint64_t)d->info.n_samples;
    for (int64_t i = 0; i < in->n; i++) {
        const char *path = in->part[i].file.path;
        hash = XXH3_64bits_withSeed(path, strlen(path), hash + (uint64_t)in->first[i + 1]);
    }
    return hash;
}

void dt_inputs_locate(const dt_inputs *in, int64_t sample, dt_sample *out) {
    const int64_t i = dt_shard_set_find(in->first, in->n, sample);
    if (in->part[i].set)
        dt_dataset_locate(in->part[i].set, sample - in->first[i], out);
    else
        *out = (dt_sample){.label = -1, .file = &in->part[i].file};
}

void dt_inputs_get(const dt_dataset *d, int64_t sample, dt_input *out) {
    const dt_inputs *in = d->inputs;
    const int64_t i = dt_shard_set_find(in->first, in->n, sample);
    const dt_inputs_part *p = &in->part[i];
    dt_sample s = {.label = -1};
    if (d->row == &dt_images_row) dt_inputs_locate(in, sample, &s);
    *out = (dt_input){.path = p->file.path,
                      .sample = stands_for_rows(p) ? sample - in->first[i] : -1,
                      .label = s.label,
                      .label_name = p->set ? dt_dataset_class_name(p->set, s.label) : ""};
}

int64_t dt_inputs_ignored(const dt_dataset *d) {
    return d->inputs->n_ignored;
}

int64_t dt_inputs_resized(const dt_dataset *d) {
    return atomic_load(&d->inputs->n_resized);
}

int64_t dt_inputs_unlike(const dt_dataset *d) {
    const dt_dataset_info *all = &d->inputs->facts->info;
    int64_t n = 0;
    for (int64_t i = 0; i < d->inputs->n && !all->jpeg; i++) {
        const dt_dataset *set = d->inputs->part[i].set;
        if (set && !set->info.jpeg && (set->info.height != all->height || set->info.width != all->width))
            n += set->info.n_samples;
    }
    return n;
}

/* Pixels where shards would hold a JPEG file made of them. */
static dt_status encode(const dt_data_facts *f, dt_item *item) {
    uint8_t *bytes;
    int64_t n;
    DT_TRY(dt_jpeg_encode(item->pixel, item->height, item->width, f->info.channels, (int)f->recipe.quality,
                          &bytes, &n));
    free(item->owned);
    item->pixel = NULL;
    item->jpeg = item->owned = bytes;
    item->n_jpeg_bytes = n;
    return DT_OK;
}

/* An import keeps no file of which a part is missing. */
static dt_status check_whole(dt_jpeg *decoder, const dt_item *item) {
    int32_t h, w;
    dt_jpeg_part least;
    DT_TRY(dt_jpeg_begin(decoder, item->jpeg, item->n_jpeg_bytes, &h, &w));
    DT_TRY(dt_jpeg_decode(decoder, 0, 0, w, h, 1, 1, 3, &least));
    if (dt_jpeg_damaged(decoder)) return dt_fail(DT_ERR_DATA, "the JPEG data is damaged or cut short");
    return DT_OK;
}

/* One file as a folder import makes it, named by an error. */
static dt_status load_file(const dt_image_options *o, const char *path, dt_jpeg *decoder, dt_item *out) {
    uint8_t *bytes = NULL;
    int64_t n;
    DT_TRY(dt_file_read(path, DT_SAMPLE_BYTES_MAX, &bytes, &n));
    const dt_status status = dt_image_load(o, decoder, bytes, n, out);
    if (status != DT_OK) dt_error_context("%s", path);
    if (status == DT_OK && out->jpeg)
        out->owned = bytes;
    else
        free(bytes);
    return status;
}

/* Raw sets hold images of one size: others are made so as `import folder --resize N --square` does. */
static dt_status load_fitting(dt_inputs *in, const dt_image_options *o, const char *path, dt_jpeg *decoder,
                              dt_item *out) {
    const dt_dataset_info *info = &in->facts->info;
    DT_TRY(load_file(o, path, decoder, out));
    if (out->height == info->height && out->width == info->width) return DT_OK;
    dt_image_options square = *o;
    if (info->height != info->width)
        return dt_fail(DT_ERR_DATA,
                       "%s: %d x %d pixels, but the network was trained on images of %lld x %lld", path,
                       out->height, out->width, (long long)info->height, (long long)info->width);
    free(out->owned);
    *out = (dt_item){0};
    square.resize = info->height;
    square.square = true;
    atomic_fetch_add(&in->n_resized, 1);
    return load_file(&square, path, decoder, out);
}

static dt_status load(dt_inputs *in, const char *path, dt_jpeg *decoder, dt_item *out) {
    const dt_data_facts *f = in->facts;
    const dt_image_options o = {.resize = f->recipe.resize,
                                .channels = f->info.channels,
                                .square = f->recipe.square != 0,
                                .exif_rotate = f->recipe.exif_rotate != 0,
                                .raw = !f->info.jpeg};
    if (f->info.channels != 1 && f->info.channels != 3)
        return dt_fail(DT_ERR_DATA,
                       "%s: the network was trained on images of %lld channels, which no file has", path,
                       (long long)f->info.channels);
    if (!f->info.jpeg) return load_fitting(in, &o, path, decoder, out);
    DT_TRY(load_file(&o, path, decoder, out));
    dt_status status = DT_OK;
    if (out->pixel && f->recipe.quality > 0) status = encode(f, out);
    if (status == DT_OK && out->jpeg) status = check_whole(decoder, out);
    if (status != DT_OK) dt_error_context("%s", path);
    return status;
}

dt_status dt_input_load(dt_inputs *in, const dt_input_file *file, dt_jpeg *decoder, dt_item *out) {
    if (file->error) return dt_fail(DT_ERR_DATA, "%s", file->error);
    const dt_status status = load(in, file->path, decoder, out);
    if (status != DT_OK) {
        free(out->owned);
        *out = (dt_item){0};
    }
    return status;
}
