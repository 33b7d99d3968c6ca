/* Images in batches: "image" u8 [out_h, out_w, C], "label" i32, and where the device crops "aug" i32 [8] {x0, y0,
 * w, h, flip, 0, 0, 0}, where it edits colours "edit" (core/edit.h), where rows are erased or mixed "mix" (core/mix.h) and of mixed labels "partner" i32 and "share"
 * f32. JPEG files for a device's decoder lie beside the fields. */
#include "images.h"

#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "data/upload.h"
#include "fetch.h"
#include "jpeg.h"

enum { IMAGE, LABEL };
enum { FILES_ALIGN_BYTES = 4096 };

/* Of one loader. */
typedef struct images_plan {
    dt_fetch_options fetch;
    bool compressed, mixed;                 /* the labels too */
    int32_t aug, edit, mix, partner, share; /* fields; -1: there is none */
    int64_t max_rows, image_bytes;
    dt_jpeg_limits limits; /* compressed */
} images_plan;

/* ---- what the data does not allow ---- */

static dt_status check_options(const dt_loader_options *o, const dt_dataset_info *info) {
    if (o->out_h < 1 || o->out_w < 1 || o->out_h > DT_SIDE_MAX || o->out_w > DT_SIDE_MAX)
        return dt_fail(DT_ERR_CONFIG, "loader: image size %lld x %lld out of range", (long long)o->out_h,
                       (long long)o->out_w);
    if ((o->forgiving || o->whole_batches) && o->compressed)
        return dt_fail(DT_ERR_INTERNAL, "loader: only evaluation from the host's decoder forgives");
    if (o->source_crop && info->jpeg)
        return dt_fail(DT_ERR_INTERNAL, "loader: JPEG data cannot be cropped on the device");
    if (o->compressed && !info->jpeg)
        return dt_fail(DT_ERR_INTERNAL, "loader: only JPEG data can be delivered compressed");
    if (o->source_crop && (o->out_h != info->height || o->out_w != info->width))
        return dt_fail(DT_ERR_INTERNAL, "loader: source_crop delivers the stored size");
    return DT_OK;
}

static dt_status check_augment(const dt_augment *a, const dt_dataset_info *info, bool source_crop) {
    if (a->crop != DT_CROP_PAD && !(a->padded && info->jpeg)) return DT_OK;
    if (source_crop)
        return dt_fail(DT_ERR_INTERNAL, "loader: pad crops leave the image, a device cannot make them");
    if (info->jpeg)
        return dt_fail(DT_ERR_CONFIG,
                       "augment.crop = \"pad\" needs images of one size (raw shards); these are JPEG");
    if (a->pad < 0 || info->height + 2 * a->pad < a->out_h || info->width + 2 * a->pad < a->out_w)
        return dt_fail(DT_ERR_CONFIG,
                       "augment.pad = %lld: %lld x %lld images are too small for crops of %lld x %lld",
                       (long long)a->pad, (long long)info->height, (long long)info->width,
                       (long long)a->out_h, (long long)a->out_w);
    return DT_OK;
}

/* What is to be done with each sample. */
static dt_fetch_options fetch_options(const dt_loader_options *o) {
    /* With source_crop the device makes image_size out of the stored image. */
    const int64_t side = o->source_crop ? o->data->image_size : 0;
    dt_fetch_options f = {.dataset = o->dataset,
                          .source_crop = o->source_crop,
                          .edits = o->edits,
                          .verify = o->data->verify,
                          .simd = dt_simd_best()};
    dt_augment_init(&f.augment, o->augment, o->seed, o->eval, side ? side : o->out_h, side ? side : o->out_w);
    return f;
}

/* The edits are torchvision's, and made by the loader's threads, those of colours by the device where it can. */
static dt_status check_edits(const dt_loader_options *o, const dt_dataset_info *info) {
    if (o->eval || !dt_augment_edits(o->augment)) return DT_OK;
    if (info->channels != 1 && info->channels != 3)
        return dt_fail(
            DT_ERR_CONFIG,
            "augment.policy, the colour jitter and augment.grayscale take images of 1 or 3 channels; "
            "these have %lld",
            (long long)info->channels);
    if (o->edits && !dt_augment_edits_colours(o->augment))
        return dt_fail(DT_ERR_INTERNAL, "loader: the device edits no more than colours");
    if (o->compressed && !o->edits)
        return dt_fail(DT_ERR_CONFIG,
                       "augment.policy is the loader threads' work, and with data.decoder = \"nvjpeg\" these "
                       "never see the pixels: set data.decoder = \"cpu\", or augment.policy = \"none\"");
    if (o->source_crop) return dt_fail(DT_ERR_INTERNAL, "loader: the device crops, but does not edit");
    return DT_OK;
}

static dt_status check(const dt_loader_options *o) {
    const dt_dataset_info *info = &o->dataset->info;
    DT_TRY(check_options(o, info));
    DT_TRY(check_edits(o, info));
    const dt_fetch_options f = fetch_options(o);
    return check_augment(&f.augment, info, o->source_crop);
}

/* ---- files for a decoder elsewhere ---- */

/* For `rows` files: a quarter more than average, and room for a few large ones where there are few rows. */
static int64_t capacity(int64_t rows, int64_t mean, int64_t largest) {
    int64_t n = rows * mean;
    return dt_min_i64(n + n / 4 + dt_min_i64(largest, 4 * mean), rows * largest);
}

void dt_loader_jpeg_limits(const dt_dataset *d, int64_t rows, int64_t out_h, int64_t out_w,
                           dt_jpeg_limits *out) {
    int64_t file = 0, pixel = 0, largest_file = 0, largest_pixel = 0, n = d->info.n_samples;
    for (int64_t i = 0; i < d->n_shards; i++) {
        const dt_shard *s = &d->shard[i];
        for (int64_t k = 0; s->jpeg && k < s->n_samples; k++) {
            int64_t bytes = dt_shard_sample_bytes(s, k);
            int64_t pixels = dt_jpeg_decoded_bytes(s->jpeg_height[k], s->jpeg_width[k], s->channels);
            pixels =
                dt_min_i64(pixels, DT_SAMPLE_BYTES_MAX); /* as the header claims: larger ones are refused */
            file += bytes;
            pixel += pixels;
            largest_file = dt_max_i64(largest_file, bytes);
            largest_pixel = dt_max_i64(largest_pixel, pixels);
        }
    }
    *out = (dt_jpeg_limits){.rows = rows,
                            .out_h = out_h,
                            .out_w = out_w,
                            .channels = d->info.channels,
                            .file_bytes = capacity(rows, file / n + 1, largest_file),
                            .pixel_bytes = capacity(rows, pixel / n + 1, largest_pixel)};
}

/* Places for the files of a batch, in the order of rows: who reads first must not decide what fits. */
static void begin(void *state, void *beside, int64_t rows, dt_sample_of *sample_of, void *arg) {
    const images_plan *p = state;
    dt_jpeg_files *files = beside;
    if (!p->compressed) return;
    const int64_t head = dt_round_up((int64_t)sizeof *files, _Alignof(dt_jpeg_row));
    files->row = (dt_jpeg_row *)(void *)((uint8_t *)beside + head);
    files->bytes =
        (uint8_t *)beside + dt_round_up(head + (int64_t)sizeof(dt_jpeg_row) * p->max_rows, FILES_ALIGN_BYTES);
    int64_t file_bytes = 0, pixel_bytes = 0;
    for (int64_t i = 0; i < rows; i++) {
        dt_sample sample;
        const int64_t index = sample_of(arg, i);
        files->row[i] = (dt_jpeg_row){.offset = file_bytes};
        if (index < 0) continue;
        dt_dataset_locate(p->fetch.dataset, index, &sample);
        int64_t pixels = dt_jpeg_decoded_bytes(sample.height, sample.width, p->limits.channels);
        if (sample.n_bytes > p->limits.file_bytes - file_bytes ||
            pixels > p->limits.pixel_bytes - pixel_bytes)
            continue;
        files->row[i].n_bytes = sample.n_bytes;
        file_bytes += sample.n_bytes;
        pixel_bytes += pixels;
    }
}

/* ---- rows ---- */

/* Its place; -1 where it is not wanted. */
static int32_t add_field(dt_loader_plan *out, bool wanted, dt_field field) {
    if (!wanted) return -1;
    out->field[out->n_field] = field;
    return out->n_field++;
}

static dt_status plan(const dt_loader_options *o, int64_t max_rows, dt_loader_plan *out) {
    const int64_t channels = o->dataset->info.channels;
    images_plan *p = calloc(1, sizeof *p);
    if (!p) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    *p = (images_plan){.fetch = fetch_options(o),
                       .compressed = o->compressed,
                       .mixed = !o->eval && dt_augment_mixes(o->augment),
                       .max_rows = max_rows};
    const bool mix = !o->eval && dt_augment_has_mix_rows(o->augment);
    out->state = p;
    out->pairs = p->mixed;
    if (!o->eval) out->repeats = o->augment->repeats;
    (void)add_field(out, true, (dt_field){"image", DT_DTYPE_U8, 3, {o->out_h, o->out_w, channels}});
    (void)add_field(out, true, (dt_field){.name = "label", .dtype = DT_DTYPE_I32});
    p->aug = add_field(out, o->source_crop, (dt_field){"aug", DT_DTYPE_I32, 1, {8}});
    p->edit = add_field(out, o->edits, (dt_field){"edit", DT_DTYPE_I32, 1, {DT_EDIT_INTS}});
    p->mix = add_field(out, mix, (dt_field){"mix", DT_DTYPE_I32, 1, {DT_MIX_INTS}});
    p->partner = add_field(out, p->mixed, (dt_field){.name = "partner", .dtype = DT_DTYPE_I32});
    p->share = add_field(out, p->mixed, (dt_field){.name = "share", .dtype = DT_DTYPE_F32});
    p->image_bytes = dt_field_bytes(&out->field[IMAGE]);
    if (!o->compressed) return DT_OK;
    const int64_t rows = o->eval ? o->batch : (o->global_batch + o->n_micro_all - 1) / o->n_micro_all;
    dt_loader_jpeg_limits(o->dataset, rows, o->out_h, o->out_w, &p->limits);
    const int64_t head = dt_round_up((int64_t)sizeof(dt_jpeg_files), _Alignof(dt_jpeg_row));
    out->beside_bytes =
        dt_round_up(head + (int64_t)sizeof(dt_jpeg_row) * max_rows, FILES_ALIGN_BYTES) + p->limits.file_bytes;
    return DT_OK;
}

/* A thread's. */
typedef struct reader {
    const images_plan *plan;
    dt_fetcher *fetcher;
} reader;

static void reader_free(void *arg) {
    reader *r = arg;
    if (r) dt_fetcher_free(r->fetcher);
    free(r);
}

static dt_status reader_new(void *state, void **out) {
    reader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return dt_fail(DT_ERR_MEMORY, "out of memory for a loader thread");
    r->plan = state;
    const dt_status status = dt_fetcher_new(&r->plan->fetch, &r->fetcher);
    if (status == DT_OK)
        *out = r;
    else
        reader_free(r);
    return status;
}

/* What the device does to the colours. */
static void fill_edits(const reader *r, const dt_row *row) {
    const dt_draws *d = dt_fetcher_draws(r->fetcher);
    dt_edit_row e = {.n = d->n_edit};
    memcpy(e.edit, d->edit, (size_t)d->n_edit * sizeof e.edit[0]);
    memcpy(row->data[r->plan->edit], &e, sizeof e);
}

/* What follows the pixels: the row's part in mixing. */
static void fill_mix(const reader *r, const dt_row *row) {
    const images_plan *p = r->plan;
    dt_mix m = dt_fetcher_draws(r->fetcher)->mix;
    m.partner = (int32_t)(p->mixed ? row->partner : row->index);
    memcpy(row->data[p->mix], &m, sizeof m);
    if (!p->mixed) return;
    dt_sample partner;
    dt_dataset_locate(p->fetch.dataset, row->partner_sample, &partner);
    *(int32_t *)row->data[p->partner] = partner.label;
    *(float *)row->data[p->share] = dt_augment_share(&p->fetch.augment, &m);
}

static dt_status fetch(void *arg, uint64_t epoch, int64_t sample, const dt_row *row) {
    const reader *r = arg;
    const images_plan *p = r->plan;
    const dt_draw_of of = {epoch, (uint64_t)sample, row->repeat, row->step};
    if (p->compressed) {
        const dt_jpeg_files *files = row->beside;
        dt_jpeg_row *jpeg = &files->row[row->index];
        DT_TRY(dt_fetch_file(r->fetcher, &of, row->data[IMAGE], row->data[LABEL], files->bytes + jpeg->offset,
                             jpeg));
    } else {
        DT_TRY(dt_fetch(r->fetcher, &of, row->data[IMAGE], row->data[LABEL],
                        p->aug >= 0 ? row->data[p->aug] : NULL));
    }
    if (p->edit >= 0) fill_edits(r, row);
    if (p->mix >= 0) fill_mix(r, row);
    return DT_OK;
}

/* Black, and of no class. It has a window too, so that a device need not look at labels. */
static void empty(void *state, const dt_row *row) {
    const images_plan *p = state;
    const dt_dataset_info *info = &p->fetch.dataset->info;
    const int32_t numbers[8] = {0, 0, (int32_t)info->width, (int32_t)info->height, 0, 0, 0, 0};
    memset(row->data[IMAGE], 0, (size_t)p->image_bytes);
    *(int32_t *)row->data[LABEL] = -1;
    if (p->aug >= 0) memcpy(row->data[p->aug], numbers, sizeof numbers);
    if (p->edit >= 0) memset(row->data[p->edit], 0, sizeof(dt_edit_row));
}

static const int64_t *checksums(const dt_dataset *d, int64_t shard, int64_t *n) {
    *n = shard < d->n_shards ? d->shard[shard].n_samples : -1;
    return *n < 0 ? NULL : d->shard[shard].checksum;
}

const dt_data_row dt_images_row = {.kind = "images",
                                   .open = dt_images_open,
                                   .close = dt_images_close,
                                   .place = dt_images_place,
                                   .check = check,
                                   .plan = plan,
                                   .begin = begin,
                                   .reader_new = reader_new,
                                   .reader_free = reader_free,
                                   .fetch = fetch,
                                   .empty = empty,
                                   .check_config = dt_images_check_config,
                                   .checksums = checksums,
                                   .agree = dt_images_agree};
