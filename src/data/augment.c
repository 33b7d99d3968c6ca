/* Draws. Key 0 gives flip and position of the crop, keys 1..5 two tries each; the others are named below. Mixing has
 * a stream of its own, of as many numbers as its distribution asks for. */
#include "data/augment.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    TRIES = 10,     /* of a crop, of a rectangle */
    KEY_COLOUR = 6, /* grey, erase, order of the jitter */
    KEY_JITTER,
    KEY_ERASE, /* and the four after it: two tries each */
    KEY_ERASE_AT = KEY_ERASE + TRIES / 2,
    KEY_POLICY,
    REPEAT_SHIFT = 48 /* in the counter, above any sample's number */
};
_Static_assert(KEY_POLICY + DT_POLICY_OPS_MAX == DT_AUGMENT_KEYS, "a key for each operation");

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
        .o = *o,
        .seed = seed,
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
    for (int attempt = 0; attempt < TRIES; attempt++) {
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

/* ---- operations ---- */

bool dt_augment_edits(const dt_augment_options *o) {
    return o->policy != DT_POLICY_NONE || o->brightness > 0 || o->contrast > 0 || o->saturation > 0 ||
           o->hue > 0 || o->grayscale > 0;
}

bool dt_augment_edits_colours(const dt_augment_options *o) {
    return dt_augment_edits(o) && o->policy == DT_POLICY_NONE;
}

bool dt_augment_mixes(const dt_augment_options *o) {
    return o->mixup > 0 || o->cutmix > 0;
}

bool dt_augment_has_mix_rows(const dt_augment_options *o) {
    return dt_augment_mixes(o) || o->erase > 0;
}

/* How a policy makes a value of a magnitude of the strongest one, `most`. */
typedef enum value_of {
    VALUE_NONE,
    VALUE_SIGNED,   /* the magnitude */
    VALUE_FACTOR,   /* 1 + it */
    VALUE_PIXELS,   /* whole; RandAugment's most is a part of the side */
    VALUE_BITS,     /* 8 - it, rounded */
    VALUE_THRESHOLD /* the less the stronger */
} value_of;

/* torchvision's list, in its order; DT_EDIT_COUNT: the image stays. */
static const struct {
    dt_edit_kind kind;
    value_of value;
    double most[2]; /* RandAugment, TrivialAugmentWide */
} policy_table[] = {
    {DT_EDIT_COUNT, VALUE_NONE, {0, 0}},
    {DT_EDIT_SHEAR_X, VALUE_SIGNED, {0.3, 0.99}},
    {DT_EDIT_SHEAR_Y, VALUE_SIGNED, {0.3, 0.99}},
    {DT_EDIT_SHIFT_X, VALUE_PIXELS, {150.0 / 331.0, 32}},
    {DT_EDIT_SHIFT_Y, VALUE_PIXELS, {150.0 / 331.0, 32}},
    {DT_EDIT_ROTATE, VALUE_SIGNED, {30, 135}},
    {DT_EDIT_BRIGHTNESS, VALUE_FACTOR, {0.9, 0.99}},
    {DT_EDIT_SATURATION, VALUE_FACTOR, {0.9, 0.99}},
    {DT_EDIT_CONTRAST, VALUE_FACTOR, {0.9, 0.99}},
    {DT_EDIT_SHARPNESS, VALUE_FACTOR, {0.9, 0.99}},
    {DT_EDIT_POSTERIZE, VALUE_BITS, {4, 6}},
    {DT_EDIT_SOLARIZE, VALUE_THRESHOLD, {1, 1}},
    {DT_EDIT_AUTOCONTRAST, VALUE_NONE, {0, 0}},
    {DT_EDIT_EQUALIZE, VALUE_NONE, {0, 0}},
};
enum { N_POLICY = sizeof policy_table / sizeof policy_table[0] };

/* Number i of n from `begin` to `end`, as torch.linspace rounds it. */
static float step_of(float begin, float end, int64_t n, int64_t i) {
    const double step = (double)((end - begin) / (float)(n - 1));
    return (float)(i < n / 2 ? (double)begin + step * (double)i : (double)end - step * (double)(n - 1 - i));
}

static float policy_value(const dt_augment *a, int i, int64_t bin, bool negative) {
    const bool trivial = a->o.policy == DT_POLICY_TRIVIALAUGMENT;
    const int64_t bins = a->o.policy_bins;
    const double side = policy_table[i].kind == DT_EDIT_SHIFT_X ? (double)a->out_w : (double)a->out_h;
    double most = policy_table[i].most[trivial];
    if (policy_table[i].value == VALUE_PIXELS && !trivial) most *= side;
    const double way = (double)step_of(0, (float)most, bins, bin), along = negative ? -way : way;
    switch (policy_table[i].value) {
    case VALUE_SIGNED:
        return (float)along;
    case VALUE_FACTOR:
        return (float)(1 + along);
    case VALUE_PIXELS:
        return (float)trunc(along);
    case VALUE_BITS:
        return rintf(8 - (float)bin / (float)((double)(bins - 1) / most));
    case VALUE_THRESHOLD:
        return (float)(255 * (double)step_of(1, 0, bins, bin));
    default:
        return 0;
    }
}

static void add(dt_draws *d, dt_edit_kind kind, float value) {
    d->edit[d->n_edit++] = (dt_edit){kind, value};
}

static void draw_policy(const dt_augment *a, uint64_t epoch, uint64_t id, dt_draws *out) {
    const bool trivial = a->o.policy == DT_POLICY_TRIVIALAUGMENT;
    const int64_t n = a->o.policy == DT_POLICY_NONE ? 0 : trivial ? 1 : a->o.policy_ops;
    for (int64_t i = 0; i < n; i++) {
        const dt_u32x4 w = dt_philox(a->key[KEY_POLICY + i], epoch, id);
        const int32_t op = draw_up_to(w.v[0], N_POLICY - 1);
        const int64_t bin = trivial ? draw_up_to(w.v[1], a->o.policy_bins - 1) : a->o.policy_magnitude;
        if (policy_table[op].kind != DT_EDIT_COUNT)
            add(out, policy_table[op].kind, policy_value(a, op, bin, w.v[2] >> 31));
    }
}

/* ColorJitter: each of those that are on once, in one of the 24 orders. */
static void draw_jitter(const dt_augment *a, uint64_t epoch, uint64_t id, uint32_t order, dt_draws *out) {
    const double reach[4] = {a->o.brightness, a->o.contrast, a->o.saturation, a->o.hue};
    dt_edit_kind left[4] = {DT_EDIT_BRIGHTNESS, DT_EDIT_CONTRAST, DT_EDIT_SATURATION, DT_EDIT_HUE};
    if (!(reach[0] > 0 || reach[1] > 0 || reach[2] > 0 || reach[3] > 0)) return;
    const dt_u32x4 w = dt_philox(a->key[KEY_JITTER], epoch, id);
    int32_t at = draw_up_to(order, 23);
    for (int n = 4; n > 0; at /= n, n--) {
        const int pick = at % n;
        const dt_edit_kind kind = left[pick];
        const double centre = kind == DT_EDIT_HUE ? 0 : 1, to = centre + reach[kind];
        const double from = kind == DT_EDIT_HUE ? -reach[kind] : fmax(centre - reach[kind], 0);
        if (reach[kind] > 0) add(out, kind, (float)(from + (to - from) * (double)dt_u01(w.v[kind])));
        left[pick] = left[n - 1];
    }
}

/* ---- erasing and mixing ---- */

static void draw_erase(const dt_augment *a, uint64_t epoch, uint64_t id, dt_mix *out) {
    const dt_augment_options *o = &a->o;
    const double area = (double)a->out_h * (double)a->out_w;
    const double low = log(o->erase_ratio_min), high = log(o->erase_ratio_max);
    dt_u32x4 word = {{0, 0, 0, 0}};
    for (int attempt = 0; attempt < TRIES; attempt++) {
        const int pair = attempt % 2 * 2;
        if (pair == 0) word = dt_philox(a->key[KEY_ERASE + attempt / 2], epoch, id);
        const double part =
            o->erase_scale_min + (o->erase_scale_max - o->erase_scale_min) * (double)dt_u01(word.v[pair]);
        const double ratio = exp(low + (high - low) * (double)dt_u01(word.v[pair + 1]));
        const double h = rint(sqrt(area * part * ratio)), w = rint(sqrt(area * part / ratio));
        if (!(h < (double)a->out_h && w < (double)a->out_w)) continue;
        const dt_u32x4 at = dt_philox(a->key[KEY_ERASE_AT], epoch, id);
        out->erase.y0 = draw_up_to(at.v[0], a->out_h - (int64_t)h);
        out->erase.x0 = draw_up_to(at.v[1], a->out_w - (int64_t)w);
        out->erase.y1 = out->erase.y0 + (int32_t)h, out->erase.x1 = out->erase.x0 + (int32_t)w;
        out->noise = o->erase_fill == DT_ERASE_NOISE;
        out->key[0] = at.v[2], out->key[1] = at.v[3];
        return;
    }
}

/* Numbers in (0, 1), as many as are asked for. */
typedef struct numbers {
    uint64_t seed, hi, lo, salt;
    dt_u32x4 word;
    int32_t n;
} numbers;

static double next(numbers *r) {
    if (r->n == 0) r->word = dt_philox(dt_rng_key(r->seed, DT_RNG_MIX, r->salt), r->hi, r->lo), r->salt += 2;
    const uint32_t word = r->word.v[r->n];
    r->n = (r->n + 1) % 4;
    return ((double)word + 0.5) * 0x1p-32;
}

/* The logarithm of a number of the Gamma distribution (Marsaglia and Tsang, "A simple method for generating gamma
 * variables", 2000); shapes below 1 by way of shape + 1. */
static double log_gamma_draw(numbers *r, double shape) {
    const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d);
    const double lift = shape < 1 ? log(next(r)) / shape : 0;
    for (;;) {
        const double radius = sqrt(-2 * log(next(r))), x = radius * cos(2 * M_PI * next(r));
        const double v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        if (v > 0 && log(next(r)) < 0.5 * x * x + d - d * v + d * log(v)) return log(d * v) + lift;
    }
}

static double beta_draw(numbers *r, double alpha) {
    const double a = log_gamma_draw(r, alpha), b = log_gamma_draw(r, alpha);
    return 1 / (1 + exp(b - a));
}

static int32_t clipped(int64_t v, int64_t most) {
    return (int32_t)dt_max_i64(0, dt_min_i64(v, most));
}

static void draw_mix(const dt_augment *a, const dt_draw_of *of, uint64_t id, dt_mix *out) {
    const dt_augment_options *o = &a->o;
    const bool each = o->mix_each == DT_MIX_SAMPLE;
    numbers r = {.seed = a->seed, .hi = each ? of->epoch : of->step, .lo = each ? id : 0, .salt = each};
    const bool mixed = next(&r) < o->mix_prob;
    const bool cut = next(&r) < (o->mixup > 0 ? o->mix_switch : 1) && o->cutmix > 0;
    if (!mixed) return;
    const double share = beta_draw(&r, cut ? o->cutmix : o->mixup);
    if (!cut) {
        out->share = (float)share;
        return;
    }
    const int64_t h = (int64_t)((double)a->out_h * sqrt(1 - share)),
                  w = (int64_t)((double)a->out_w * sqrt(1 - share));
    const int64_t y = (int64_t)(next(&r) * (double)a->out_h), x = (int64_t)(next(&r) * (double)a->out_w);
    out->box = (dt_box){.y0 = clipped(y - h / 2, a->out_h),
                        .x0 = clipped(x - w / 2, a->out_w),
                        .y1 = clipped(y + (h + 1) / 2, a->out_h),
                        .x1 = clipped(x + (w + 1) / 2, a->out_w)};
}

float dt_augment_share(const dt_augment *a, const dt_mix *m) {
    const double cut = (double)(m->box.y1 - m->box.y0) * (double)(m->box.x1 - m->box.x0);
    return (float)((double)m->share * (1 - cut / ((double)a->out_h * (double)a->out_w)));
}

void dt_augment_draw(const dt_augment *a, const dt_draw_of *of, int64_t src_h, int64_t src_w, dt_draws *out) {
    const uint64_t id = of->sample | of->repeat << REPEAT_SHIFT;
    *out = (dt_draws){.window = dt_augment_window(a, of->epoch, id, src_h, src_w), .mix.share = 1};
    if (a->eval) return;
    if (dt_augment_edits(&a->o) || a->o.erase > 0) {
        const dt_u32x4 w = dt_philox(a->key[KEY_COLOUR], of->epoch, id);
        draw_policy(a, of->epoch, id, out);
        draw_jitter(a, of->epoch, id, w.v[2], out);
        if ((double)dt_u01(w.v[0]) < a->o.grayscale) add(out, DT_EDIT_GRAYSCALE, 0);
        if ((double)dt_u01(w.v[1]) < a->o.erase) draw_erase(a, of->epoch, id, &out->mix);
    }
    if (dt_augment_mixes(&a->o)) draw_mix(a, of, id, &out->mix);
}

static void say(dt_recipe_text *t, bool on, const char *fmt, ...) DT_PRINTF(3, 4);
static void say(dt_recipe_text *t, bool on, const char *fmt, ...) {
    const size_t used = strlen(t->s);
    va_list ap;
    if (!on) return;
    const int n = snprintf(t->s + used, sizeof t->s - used, "%s", used > 0 ? ", " : "");
    va_start(ap, fmt);
    vsnprintf(t->s + used + n, sizeof t->s - used - (size_t)n, fmt, ap);
    va_end(ap);
}

dt_recipe_text dt_augment_text(const dt_augment_options *o) {
    dt_recipe_text t = {""};
    char mixed[96] = "";
    say(&t, o->crop == DT_CROP_PAD, "crop of images padded by %lld", (long long)o->pad);
    say(&t, o->crop == DT_CROP_RANDOM_RESIZED, "random resized crop of %g to %g", o->scale_min, o->scale_max);
    say(&t, o->flip, "flip");
    say(&t, o->policy == DT_POLICY_RANDAUGMENT, "randaugment (%lld of magnitude %lld)",
        (long long)o->policy_ops, (long long)o->policy_magnitude);
    say(&t, o->policy == DT_POLICY_TRIVIALAUGMENT, "trivialaugment");
    say(&t, o->brightness > 0, "brightness %g", o->brightness);
    say(&t, o->contrast > 0, "contrast %g", o->contrast);
    say(&t, o->saturation > 0, "saturation %g", o->saturation);
    say(&t, o->hue > 0, "hue %g", o->hue);
    say(&t, o->grayscale > 0, "grayscale %g", o->grayscale);
    say(&t, o->erase > 0, "erase %g", o->erase);
    if (o->mixup > 0) snprintf(mixed, sizeof mixed, "mixup %g%s", o->mixup, o->cutmix > 0 ? " or " : "");
    const size_t used = strlen(mixed);
    if (o->cutmix > 0) snprintf(mixed + used, sizeof mixed - used, "cutmix %g", o->cutmix);
    say(&t, mixed[0], "%s a %s", mixed, o->mix_each == DT_MIX_SAMPLE ? "sample" : "batch");
    say(&t, o->repeats > 1, "each %lld times", (long long)o->repeats);
    return t;
}
