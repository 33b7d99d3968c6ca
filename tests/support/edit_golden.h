/* The op EDIT against torchvision's bytes (tests/golden/make_augment.py), on any device. Header only. */
#ifndef DT_TEST_EDIT_GOLDEN_H
#define DT_TEST_EDIT_GOLDEN_H

#include <stdio.h>

#include "core/edit.h"
#include "data/h5.h"
#include "op_run.h"

static const char *const edit_names[DT_EDIT_COLOURS] = {"brightness", "contrast", "saturation", "hue",
                                                        "grayscale"};

static inline void *edit_load(dt_h5 *h, const char *name, dt_h5_info *info) {
    op_ok(dt_h5_info_get(h, name, info));
    void *data = op_zalloc(info->n_elem * 8);
    op_ok(dt_h5_read(h, name, info->dtype, info->n_elem, data));
    return data;
}

/* Two rows of the image, of which the second is edited. */
static inline void edit_check(dt_backend *be, const uint8_t *image, const dt_h5_info *info, dt_edit edit,
                              const uint8_t *want, const char *what) {
    const int64_t bytes = info->n_elem,
                  dim[] = {2, info->dim[0], info->dim[1], info->ndim > 2 ? info->dim[2] : 1};
    const dt_edit_row rows[2] = {{.n = 0}, {.n = 1, .edit = {edit}}};
    uint8_t *batch = op_zalloc(2 * bytes), *got = op_zalloc(2 * bytes);
    dt_graph *g;
    dt_vid in[2], y;
    memcpy(batch, image, (size_t)bytes), memcpy(batch + bytes, image, (size_t)bytes);
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    op_ok(dt_graph_add_value(g, "image", DT_ROLE_INPUT, DT_DTYPE_U8, 4, dim, &in[0]));
    op_ok(
        dt_graph_add_value(g, "edit", DT_ROLE_INPUT, DT_DTYPE_I32, 2, (int64_t[]){2, DT_EDIT_INTS}, &in[1]));
    op_ok(dt_graph_add_node(g, "y", DT_OP_EDIT, NULL, 2, in, &y));
    op_run r = op_run_open(be, g, &op_step, false);
    op_write_bytes(&r, in[0], batch);
    op_write_bytes(&r, in[1], rows);
    op_run_go(&r);
    op_read_bytes(&r, y, got);
    for (int64_t i = 0; i < bytes; i++) {
        if (got[i] != image[i])
            fail_msg("%s: a row that is not edited differs at byte %lld", what, (long long)i);
        if (got[bytes + i] != want[i])
            fail_msg("%s: byte %lld is %d, torchvision's %d", what, (long long)i, got[bytes + i], want[i]);
    }
    op_run_close(&r);
    dt_graph_destroy(g);
    free(batch), free(got);
}

/* Returns how many were compared. */
static inline int edit_check_golden(dt_backend *be) {
    static const char *const images[] = {"colour", "grey", "dull", "flat"};
    int n = 0;
    dt_h5 *h;
    op_ok(dt_h5_open(DT_TEST_DATA "/augment.h5", &h));
    for (size_t k = 0; k < sizeof images / sizeof images[0]; k++)
        for (int kind = 0; kind < DT_EDIT_COLOURS; kind++)
            for (int i = 0;; i++, n++) {
                char name[128];
                dt_h5_info info, ignored;
                snprintf(name, sizeof name, "edit/%s/%s/%d", images[k], edit_names[kind], i);
                if (!dt_h5_has(h, name)) break;
                uint8_t *want = edit_load(h, name, &ignored);
                snprintf(name, sizeof name, "value/%s/%s/%d", images[k], edit_names[kind], i);
                float *value = edit_load(h, name, &ignored);
                snprintf(name, sizeof name, "image/%s", images[k]);
                uint8_t *image = edit_load(h, name, &info);
                snprintf(name, sizeof name, "%s of %s by %g", edit_names[kind], images[k], (double)value[0]);
                edit_check(be, image, &info, (dt_edit){(dt_edit_kind)kind, value[0]}, want, name);
                free(want), free(value), free(image);
            }
    op_ok(dt_h5_close(h));
    return n;
}

#endif
