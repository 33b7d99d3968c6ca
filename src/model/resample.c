/* Images in another size, and lengths of rows. */
#include <stdio.h>

#include "model/builder.h"

static bool is_image(dt_builder *b, const char *name, const char *type, dt_vid x) {
    if (b->status != DT_OK) return false;
    if (b->g->value[x].ndim == 4) return true;
    b->status = dt_fail(DT_ERR_CONFIG, "%s (%s): its input is %s, not an image N H W C", name, type,
                        dt_value_shape_text(&b->g->value[x]));
    return false;
}

dt_vid dt_build_upsample(dt_builder *b, const char *name, dt_vid x, const dt_upsample_options *o) {
    if (!is_image(b, name, "upsample", x)) return -1;
    const int64_t *dim = b->g->value[x].dim, scale = dt_max_i64(o->scale, 1),
                  height = o->height > 0 ? o->height : dim[1] * scale,
                  width = o->width > 0    ? o->width
                          : o->height > 0 ? o->height
                                          : dim[2] * scale;
    static const dt_resample_mode modes[] = {[DT_UPSAMPLE_NEAREST] = DT_RESAMPLE_NEAREST,
                                             [DT_UPSAMPLE_BILINEAR] = DT_RESAMPLE_BILINEAR,
                                             [DT_UPSAMPLE_BICUBIC] = DT_RESAMPLE_BICUBIC};
    if (height > INT32_MAX || width > INT32_MAX) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (upsample) of %s: too large a result, %lld x %lld", name,
                            dt_value_shape_text(&b->g->value[x]), (long long)height, (long long)width);
        return -1;
    }
    const dt_attr t = {.resample = {.mode = o->align_corners ? DT_RESAMPLE_ALIGNED : modes[o->mode],
                                    .size = {(int32_t)height, (int32_t)width}}};
    return dt_build_op(b, name, DT_OP_RESAMPLE, &t, 1, &x);
}

dt_vid dt_build_adaptive_pool(dt_builder *b, const char *name, dt_vid x, bool max,
                              const dt_adaptive_pool_options *o) {
    if (!is_image(b, name, max ? "adaptive_maxpool" : "adaptive_avgpool", x)) return -1;
    const int32_t height = (int32_t)o->height, width = o->width > 0 ? (int32_t)o->width : height;
    const dt_attr t = {
        .resample = {.mode = max ? DT_RESAMPLE_NEAREST : DT_RESAMPLE_MEAN, .size = {height, width}}};
    return dt_build_op(b, name, max ? DT_OP_ADAPTIVE_MAXPOOL : DT_OP_RESAMPLE, &t, 1, &x);
}

dt_vid dt_build_global_maxpool(dt_builder *b, const char *name, dt_vid x) {
    if (b->status != DT_OK) return -1;
    const dt_value v = b->g->value[x];
    const int64_t *d = v.dim;
    char full[DT_NAME_MAX];
    snprintf(full, sizeof full, "%s.image", name);
    const dt_attr line = {.reshape = {.ndim = 4, .dim = {d[0], 1, d[1], d[2]}}},
                  volume = {.reshape = {.ndim = 4, .dim = {d[0], d[1] * d[2], d[3], d[4]}}};
    if (v.ndim == 3 || v.ndim == 5)
        x = dt_build_op(b, full, DT_OP_RESHAPE, v.ndim == 3 ? &line : &volume, 1, &x);
    if (!is_image(b, name, "global_maxpool", x)) return -1;
    snprintf(full, sizeof full, "%s.largest", name);
    x = dt_build_adaptive_pool(b, full, x, true, &(dt_adaptive_pool_options){.height = 1});
    return dt_build_op(b, name, DT_OP_RESHAPE, NULL, 1, &x);
}

dt_vid dt_build_normalize(dt_builder *b, const char *name, dt_vid x, double eps) {
    const dt_attr t = {.norm = {.eps = (float)(eps > 0 ? eps : 1e-12), .length = true}};
    return dt_build_op(b, name, DT_OP_RMSNORM, &t, 1, &x);
}

dt_vid dt_build_cosine_similarity(dt_builder *b, const char *name, dt_vid x, dt_vid y, double eps) {
    if (b->status != DT_OK) return -1;
    const dt_value v = b->g->value[x], w = b->g->value[y];
    bool same = v.ndim == w.ndim;
    for (int32_t i = 0; same && i < v.ndim; i++) same = v.dim[i] == w.dim[i];
    if (!same || v.ndim < 2) {
        char text[96];
        snprintf(text, sizeof text, "%s", dt_value_shape_text(&v));
        b->status = dt_fail(DT_ERR_CONFIG, "%s (cosine_similarity): %s is %s but %s is %s", name, v.name,
                            text, w.name, dt_value_shape_text(&w));
        return -1;
    }
    char full[DT_NAME_MAX];
    dt_vid in[] = {x, y};
    for (int i = 0; i < 2; i++) {
        snprintf(full, sizeof full, "%s.unit%d", name, i);
        in[i] = dt_build_normalize(b, full, in[i], eps > 0 ? eps : 1e-8);
    }
    snprintf(full, sizeof full, "%s.product", name);
    const dt_vid product = dt_build_op(b, full, DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_MUL}, 2, in);
    return dt_build_reduce(b, name, product, DT_REDUCE_SUM, 0);
}
