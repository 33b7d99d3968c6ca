/* Crop windows and flips. The draws: key 0 gives flip and position, keys 1..5 two tries each. */
#include "data/augment.h"

#include <math.h>

#include "core/rng.h"

enum { RRC_TRIES = 10 };

void dt_augment_init(dt_augment *a, const dt_augment_options *o, uint64_t seed, bool eval, int64_t out_h,
                     int64_t out_w) {
    *a = (dt_augment){
        .crop = eval ? DT_CROP_NONE : (dt_crop)o->crop,
        .eval = eval,
        .padded = o->crop == DT_CROP_PAD && !(o->eval_resize > 0),
        .flip = !eval && o->flip,
        .out_h = out_h,
        .out_w = out_w,
        .pad = o->pad,
        .scale_min = o->scale_min,
        .scale_max = o->scale_max,
        .log_ratio_min = log(o->ratio_min),
        .log_ratio_max = log(o->ratio_max),
        .eval_resize = o->eval_resize,
    };
    for (uint64_t i = 0; i < DT_AUGMENT_KEYS; i++) a->key[i] = dt_rng_key(seed, DT_RNG_AUGMENT, i);
}

/* Uniform in 0..n. */
static int32_t draw_up_to(uint32_t word, int64_t n) {
    return (int32_t)((uint64_t)word * (uint64_t)(n + 1) >> 32);
}

static int32_t round_to_i32(double x) {
    return (int32_t)rint(x);
}

static dt_window centred(int64_t src_h, int64_t src_w, double h, double w) {
    dt_window out = {.w = round_to_i32(w), .h = round_to_i32(h)};
    out.w = (int32_t)dt_min_i64(dt_max_i64(out.w, 1), src_w);
    out.h = (int32_t)dt_min_i64(dt_max_i64(out.h, 1), src_h);
    out.x0 = (int32_t)((src_w - out.w) / 2);
    out.y0 = (int32_t)((src_h - out.h) / 2);
    return out;
}

static dt_window centre_crop(const dt_augment *a, int64_t src_h, int64_t src_w) {
    /* Trained on padded images: evaluated on images padded evenly, not on enlarged ones. */
    if (a->padded && (a->out_h > src_h || a->out_w > src_w))
        return (dt_window){.x0 = (int32_t)((src_w - a->out_w) / 2),
                           .y0 = (int32_t)((src_h - a->out_h) / 2),
                           .w = (int32_t)a->out_w,
                           .h = (int32_t)a->out_h};
    double out_h = (double)a->out_h, out_w = (double)a->out_w;
    double shorter = (double)dt_min_i64(src_h, src_w);
    double zoom = a->eval_resize > 0 ? shorter / a->eval_resize : 1;
    double fits = fmin((double)src_h / out_h, (double)src_w / out_w);
    zoom = fmin(zoom, fits);
    return centred(src_h, src_w, out_h * zoom, out_w * zoom);
}

static dt_window random_resized(const dt_augment *a, uint64_t epoch, uint64_t sample, dt_u32x4 first,
                                int64_t src_h, int64_t src_w) {
    double area = (double)src_h * (double)src_w;
    dt_u32x4 word = {{0, 0, 0, 0}};
    for (int attempt = 0; attempt < RRC_TRIES; attempt++) {
        int pair = attempt % 2 * 2;
        if (pair == 0) word = dt_philox(a->key[1 + attempt / 2], epoch, sample);
        double target = area * (a->scale_min + (a->scale_max - a->scale_min) * (double)dt_u01(word.v[pair]));
        double ratio =
            exp(a->log_ratio_min + (a->log_ratio_max - a->log_ratio_min) * (double)dt_u01(word.v[pair + 1]));
        double w = rint(sqrt(target * ratio)), h = rint(sqrt(target / ratio));
        if (w < 1 || h < 1 || w > (double)src_w || h > (double)src_h) continue;
        return (dt_window){.x0 = draw_up_to(first.v[1], src_w - (int64_t)w),
                           .y0 = draw_up_to(first.v[2], src_h - (int64_t)h),
                           .w = (int32_t)w,
                           .h = (int32_t)h};
    }
    double in_ratio = (double)src_w / (double)src_h;
    double ratio = fmin(fmax(in_ratio, exp(a->log_ratio_min)), exp(a->log_ratio_max));
    if (in_ratio < ratio) return centred(src_h, src_w, (double)src_w / ratio, (double)src_w);
    return centred(src_h, src_w, (double)src_h, (double)src_h * ratio);
}

dt_window dt_augment_window(const dt_augment *a, uint64_t epoch, uint64_t sample, int64_t src_h,
                            int64_t src_w) {
    if (a->eval) return centre_crop(a, src_h, src_w);
    dt_window out;
    dt_u32x4 first = dt_philox(a->key[0], epoch, sample);
    switch (a->crop) {
    case DT_CROP_RANDOM_RESIZED:
        out = random_resized(a, epoch, sample, first, src_h, src_w);
        break;
    case DT_CROP_PAD:
        out = (dt_window){.x0 = draw_up_to(first.v[1], src_w + 2 * a->pad - a->out_w) - (int32_t)a->pad,
                          .y0 = draw_up_to(first.v[2], src_h + 2 * a->pad - a->out_h) - (int32_t)a->pad,
                          .w = (int32_t)a->out_w,
                          .h = (int32_t)a->out_h};
        break;
    default:
        out = centre_crop(a, src_h, src_w);
        break;
    }
    out.flip = a->flip && first.v[0] >> 31;
    return out;
}
