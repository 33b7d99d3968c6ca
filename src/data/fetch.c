/* The way of one sample. Raw images: only the window's rows are read, straight into the batch where nothing
 * is left to do. JPEG: the file is read whole and the window decoded. */
#include "fetch.h"

#include <stdlib.h>
#include <string.h>

#include "core/trace.h"
#include "inputs.h"
#include "jpeg.h"

struct dt_fetcher {
    dt_fetch_options o;
    dt_resizer *resizer;
    dt_editor *editor;
    dt_jpeg *jpeg;
    dt_draws draws; /* of the sample at hand */
    uint8_t *buffer;
    int64_t capacity;
    dt_fetch_times times;
};

dt_status dt_fetcher_new(const dt_fetch_options *o, dt_fetcher **out) {
    dt_fetcher *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) return dt_fail(DT_ERR_MEMORY, "out of memory for a loader thread");
    f->o = *o;
    dt_status status = dt_resizer_new(o->simd, &f->resizer);
    if (status == DT_OK) status = dt_editor_new(&f->editor);
    if (status == DT_OK && (o->dataset->info.jpeg || o->dataset->inputs)) status = dt_jpeg_new(&f->jpeg);
    if (status != DT_OK) {
        dt_fetcher_free(f);
        return status;
    }
    *out = f;
    return DT_OK;
}

void dt_fetcher_free(dt_fetcher *f) {
    if (!f) return;
    dt_resizer_free(f->resizer);
    dt_editor_free(f->editor);
    dt_jpeg_free(f->jpeg);
    free(f->buffer);
    free(f);
}

static dt_status reserve(dt_fetcher *f, int64_t n) {
    if (n <= f->capacity) return DT_OK;
    free(f->buffer);
    f->buffer = malloc((size_t)n);
    f->capacity = f->buffer ? n : 0;
    return f->buffer ? DT_OK
                     : dt_fail(DT_ERR_MEMORY, "out of memory for a sample of %lld bytes", (long long)n);
}

static dt_status check(const dt_fetcher *f, const dt_sample *s, const uint8_t *bytes) {
    if (!f->o.verify || !s->shard) return DT_OK;
    return dt_shard_check(s->shard, s->row, bytes);
}

/* Reads the whole sample when it is to be verified, else bytes [begin, end). `at` is where `begin` came to
 * lie. */
static dt_status read_part(dt_fetcher *f, const dt_sample *s, int64_t begin, int64_t end,
                           const uint8_t **at) {
    bool whole = f->o.verify && s->shard;
    int64_t from = whole ? 0 : begin, to = whole ? s->n_bytes : end;
    double t = dt_time_s();
    DT_TRY(reserve(f, to - from));
    DT_TRY(dt_sample_read(f->o.dataset, s, from, to - from, f->buffer));
    DT_TRY(check(f, s, f->buffer));
    f->times.read_s += dt_time_s() - t;
    dt_trace_end(t, "read", -1);
    f->times.n_bytes += to - from;
    *at = f->buffer + (begin - from);
    return DT_OK;
}

static dt_status read_whole(dt_fetcher *f, const dt_sample *s, uint8_t *dst) {
    double t = dt_time_s();
    DT_TRY(dt_sample_read(f->o.dataset, s, 0, s->n_bytes, dst));
    DT_TRY(check(f, s, dst));
    f->times.read_s += dt_time_s() - t;
    dt_trace_end(t, "read", -1);
    f->times.n_bytes += s->n_bytes;
    return DT_OK;
}

static dt_status fetch_raw(dt_fetcher *f, const dt_sample *s, uint8_t *image) {
    const dt_augment *a = &f->o.augment;
    const dt_window *win = &f->draws.window;
    int64_t channels = f->o.dataset->info.channels, row_bytes = s->width * channels;
    bool copy = win->w == a->out_w && win->h == a->out_h;
    if (copy && !win->flip && win->x0 == 0 && win->y0 == 0 && s->width == a->out_w && s->height == a->out_h)
        return read_whole(f, s, image);
    int64_t top = dt_min_i64(dt_max_i64(win->y0, 0), s->height);
    int64_t bottom = dt_max_i64(dt_min_i64((int64_t)win->y0 + win->h, s->height), top);
    const uint8_t *row;
    DT_TRY(read_part(f, s, top * row_bytes, bottom * row_bytes, &row));
    double t = dt_time_s();
    dt_status status = DT_OK;
    if (copy)
        dt_resize_copy(row, bottom - top, s->width, channels, win->x0, win->y0 - (int32_t)top, win->flip,
                       a->out_h, a->out_w, image);
    else
        status =
            dt_resize(f->resizer, row, row_bytes, channels, dt_resize_window_axis(win->x0, win->w, a->out_w),
                      dt_resize_window_axis(0, win->h, a->out_h), win->flip, a->out_h, a->out_w, image);
    f->times.resize_s += dt_time_s() - t;
    dt_trace_end(t, "resize", -1);
    return status;
}

/* The axis within a decoded part for `size` pixels of the full image from `x0` on. */
static dt_resize_axis part_axis(int32_t x0, int32_t size, int32_t scale_num, int32_t part_x0,
                                int32_t part_size, int64_t out) {
    int64_t end = ((int64_t)(x0 + size) * scale_num + 7) / 8 - part_x0;
    return (dt_resize_axis){.origin = (double)x0 * scale_num / 8 - part_x0,
                            .step = (double)size * scale_num / 8 / (double)out,
                            .lo = (int32_t)((int64_t)x0 * scale_num / 8) - part_x0,
                            .hi = (int32_t)dt_min_i64(end, part_size) - 1};
}

/* Puts the sample in front of an error of its decoding; those of reading name it themselves. */
static dt_status in_sample(const dt_sample *s, dt_status status) {
    if (status != DT_OK && s->shard) dt_error_context("%s: sample %lld", s->shard->path, (long long)s->row);
    return status;
}

/* Reads the header and draws. */
static dt_status begin_jpeg(dt_fetcher *f, const dt_draw_of *of, const dt_sample *s, const uint8_t *bytes) {
    int32_t height, width;
    const dt_window *win = &f->draws.window;
    double t = dt_time_s();
    DT_TRY(dt_jpeg_begin(f->jpeg, bytes, s->n_bytes, &height, &width));
    if (height != s->height || width != s->width)
        return dt_fail(DT_ERR_DATA, "the JPEG is %d x %d, but the shard says %lld x %lld", height, width,
                       (long long)s->height, (long long)s->width);
    dt_augment_draw(&f->o.augment, of, height, width, &f->draws);
    if (win->x0 < 0 || win->y0 < 0 || win->x0 + win->w > width || win->y0 + win->h > height)
        return dt_fail(DT_ERR_DATA, "the JPEG is %d x %d, and augment.crop = \"pad\" pads raw images only",
                       height, width);
    f->times.decode_s += dt_time_s() - t;
    return DT_OK;
}

/* Decodes the image begun to its place in the batch. */
static dt_status finish_jpeg(dt_fetcher *f, uint8_t *image) {
    const dt_augment *a = &f->o.augment;
    const dt_window win = f->draws.window;
    int64_t channels = f->o.dataset->info.channels;
    dt_jpeg_part part;
    double t = dt_time_s();
    DT_TRY(dt_jpeg_decode(f->jpeg, win.x0, win.y0, win.w, win.h, a->out_w, a->out_h, channels, &part));
    double decoded = dt_time_s();
    f->times.decode_s += decoded - t;
    dt_trace_end(t, "decode", -1);
    dt_status status = DT_OK;
    if (part.scale_num == 8 && win.w == a->out_w && win.h == a->out_h)
        dt_resize_copy(part.pixel, part.h, part.w, channels, win.x0 - part.x0, win.y0 - part.y0, win.flip,
                       a->out_h, a->out_w, image);
    else
        status = dt_resize(f->resizer, part.pixel, part.stride, channels,
                           part_axis(win.x0, win.w, part.scale_num, part.x0, part.w, a->out_w),
                           part_axis(win.y0, win.h, part.scale_num, part.y0, part.h, a->out_h), win.flip,
                           a->out_h, a->out_w, image);
    f->times.resize_s += dt_time_s() - decoded;
    dt_trace_end(decoded, "resize", -1);
    return status;
}

static dt_status fetch_jpeg(dt_fetcher *f, const dt_draw_of *of, const dt_sample *s, uint8_t *image) {
    const uint8_t *bytes;
    DT_TRY(read_part(f, s, 0, s->n_bytes, &bytes));
    DT_TRY(in_sample(s, begin_jpeg(f, of, s, bytes)));
    return in_sample(s, finish_jpeg(f, image));
}

static dt_status fetch_file(dt_fetcher *f, const dt_draw_of *of, const dt_sample *s, uint8_t *image,
                            uint8_t *bytes, dt_jpeg_row *row) {
    const dt_augment *a = &f->o.augment;
    if (row->n_bytes == 0) return fetch_jpeg(f, of, s, image);
    DT_TRY(read_whole(f, s, bytes));
    DT_TRY(in_sample(s, begin_jpeg(f, of, s, bytes)));
    if (!dt_jpeg_is_plain(f->jpeg, bytes, s->n_bytes, f->o.dataset->info.channels)) {
        row->n_bytes = 0;
        return in_sample(s, finish_jpeg(f, image));
    }
    const dt_window win = f->draws.window;
    *row = (dt_jpeg_row){.offset = row->offset,
                         .n_bytes = s->n_bytes,
                         .height = (int32_t)s->height,
                         .width = (int32_t)s->width,
                         .x0 = win.x0,
                         .y0 = win.y0,
                         .w = win.w,
                         .h = win.h,
                         .shrink = 8 / dt_jpeg_scale(win.w, win.h, a->out_w, a->out_h),
                         .flip = win.flip,
                         .path = s->shard->path,
                         .index = s->row};
    return DT_OK;
}

dt_status dt_fetch_file(dt_fetcher *f, const dt_draw_of *of, uint8_t *image, int32_t *label, uint8_t *bytes,
                        dt_jpeg_row *row) {
    dt_sample s;
    dt_dataset_locate(f->o.dataset, (int64_t)of->sample, &s);
    *label = s.label;
    f->times.n_samples++;
    return fetch_file(f, of, &s, image, bytes, row);
}

/* A sample that is a file of its own: made as an import would, then treated like any other. */
static dt_status fetch_input(dt_fetcher *f, const dt_draw_of *of, dt_sample *s, uint8_t *image) {
    dt_item item = {0};
    double t = dt_time_s();
    DT_TRY(dt_input_load(f->o.dataset->inputs, s->file, f->jpeg, &item));
    f->times.read_s += dt_time_s() - t;
    dt_trace_end(t, "read", -1);
    s->jpeg = item.jpeg != NULL;
    s->bytes = s->jpeg ? item.jpeg : item.pixel;
    s->height = item.height, s->width = item.width;
    s->n_bytes = s->jpeg ? item.n_jpeg_bytes : s->height * s->width * f->o.dataset->info.channels;
    dt_augment_draw(&f->o.augment, of, s->height, s->width, &f->draws);
    dt_status status = s->jpeg ? fetch_jpeg(f, of, s, image) : fetch_raw(f, s, image);
    if (status != DT_OK) dt_error_context("%s", s->file->path);
    free(item.owned);
    return status;
}

static dt_status edit(dt_fetcher *f, uint8_t *image) {
    const dt_augment *a = &f->o.augment;
    if (f->draws.n_edit == 0 || f->o.edits) return DT_OK;
    double t = dt_time_s();
    const dt_status status = dt_edit_image(f->editor, f->draws.edit, f->draws.n_edit, (uint8_t)a->o.fill,
                                           image, a->out_h, a->out_w, f->o.dataset->info.channels);
    f->times.edit_s += dt_time_s() - t;
    dt_trace_end(t, "edit", -1);
    return status;
}

dt_status dt_fetch(dt_fetcher *f, const dt_draw_of *of, uint8_t *image, int32_t *label, int32_t *aug) {
    dt_sample s;
    dt_dataset_locate(f->o.dataset, (int64_t)of->sample, &s);
    *label = s.label;
    f->times.n_samples++;
    if (s.file) {
        DT_TRY(fetch_input(f, of, &s, image));
    } else if (s.jpeg) {
        DT_TRY(fetch_jpeg(f, of, &s, image));
    } else {
        dt_augment_draw(&f->o.augment, of, s.height, s.width, &f->draws);
        const dt_window *win = &f->draws.window;
        if (f->o.source_crop) {
            const int32_t numbers[8] = {win->x0, win->y0, win->w, win->h, win->flip, 0, 0, 0};
            memcpy(aug, numbers, sizeof numbers);
            return read_whole(f, &s, image);
        }
        DT_TRY(fetch_raw(f, &s, image));
    }
    return edit(f, image);
}

const dt_draws *dt_fetcher_draws(const dt_fetcher *f) {
    return &f->draws;
}

void dt_fetcher_times(const dt_fetcher *f, dt_fetch_times *out) {
    *out = f->times;
    out->n_warnings = f->jpeg ? dt_jpeg_warnings(f->jpeg) : 0;
}
