/* The op EDIT: colours of bytes, as the loader edits them. Means are sums of whole numbers. */
#include "core/edit.h"

#include <string.h>

#include "kernels.h"

static float mean_of(const uint8_t *image, int64_t n_pixel, int32_t channels) {
    int64_t sum = 0;
    for (int64_t i = 0; i < n_pixel; i++) sum += dt_edit_counted(image + i * channels, channels);
    return (float)((double)sum / (double)n_pixel);
}

static dt_status check_rows(const dt_cpu_node *d) {
    const dt_edit_row *row = d->b.in[1];
    for (int64_t n = 0; n < d->n; n++) {
        bool known = row[n].n >= 0 && row[n].n <= DT_EDIT_ROW_MAX;
        for (int32_t i = 0; known && i < row[n].n; i++)
            known = (uint32_t)row[n].edit[i].kind < DT_EDIT_COLOURS;
        if (!known)
            return dt_fail(DT_ERR_DATA, "row %lld of %lld is to be edited in a way that is not known",
                           (long long)n, (long long)d->n);
    }
    return DT_OK;
}

dt_status dt_cpu_edit(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const int64_t n_pixel = d->h * d->w;
    const int32_t channels = (int32_t)d->c;
    DT_TRY(check_rows(d));
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++) {
        const dt_edit_row *row = (const dt_edit_row *)d->b.in[1] + n;
        uint8_t *image = (uint8_t *)d->b.out[0] + n * n_pixel * channels;
        memcpy(image, (const uint8_t *)d->b.in[0] + n * n_pixel * channels, (size_t)(n_pixel * channels));
        for (int32_t i = 0; i < row->n; i++) {
            const dt_edit e = row->edit[i];
            const float mean = e.kind == DT_EDIT_CONTRAST ? mean_of(image, n_pixel, channels) : 0;
            for (int64_t p = 0; p < n_pixel; p++) dt_edit_pixel(e, mean, channels, image + p * channels);
        }
    }
    return DT_OK;
}
