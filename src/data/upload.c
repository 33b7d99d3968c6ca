/* Copies, and batches of files for the decoder. */
#include "data/upload.h"

#include <stdlib.h>
#include <string.h>

struct dt_upload {
    const dt_jpeg_device *device;
    dt_jpeg_decoder *decoder;
};

bool dt_data_device_decodes(const dt_data_options *o, const dt_dataset *d) {
    dt_dataset_info info = {.jpeg = false};
    if (d) dt_dataset_info_get(d, &info);
    return info.jpeg && o->decoder == DT_DECODER_NVJPEG;
}

void dt_upload_plan_make(const dt_data_options *o, const dt_jpeg_device *device,
                         const dt_dataset *const set[2], const int64_t rows[2], dt_upload_plan *out) {
    *out = (dt_upload_plan){.device = NULL};
    for (int i = 0; i < 2; i++) {
        dt_jpeg_limits l;
        if (!dt_data_device_decodes(o, set[i])) continue;
        dt_loader_jpeg_limits(set[i], rows[i], o->image_size, o->image_size, &l);
        l.rows = dt_max_i64(l.rows, out->jpeg.rows);
        l.file_bytes = dt_max_i64(l.file_bytes, out->jpeg.file_bytes);
        l.pixel_bytes = dt_max_i64(l.pixel_bytes, out->jpeg.pixel_bytes);
        out->jpeg = l;
        out->device = device;
    }
}

int64_t dt_upload_bytes(const dt_upload_plan *p) {
    return DT_JPEG_LANES * p->jpeg.pixel_bytes;
}

dt_status dt_upload_create(const dt_upload_plan *p, dt_backend *be, dt_upload **out) {
    *out = NULL;
    if (!p->device) return DT_OK;
    dt_upload *u = calloc(1, sizeof *u);
    if (!u) return dt_fail(DT_ERR_MEMORY, "out of memory for the way to the device");
    u->device = p->device;
    const dt_status status = p->device->create(be, &p->jpeg, &u->decoder);
    if (status == DT_OK)
        *out = u;
    else
        free(u);
    return status;
}

void dt_upload_destroy(dt_upload *u, dt_backend *be) {
    if (u) u->device->destroy(be, u->decoder);
    free(u);
}

dt_status dt_upload_field(dt_upload *u, dt_backend *be, const dt_batch *b, int32_t i, void *dst,
                          dt_stream *stream) {
    const dt_jpeg_files *files = b->beside;
    if (!u || !files || strcmp(b->field[i].name, "image") != 0)
        return be->copy(be, dst, b->data[i], b->rows * dt_field_bytes(&b->field[i]), stream);
    const dt_jpeg_batch jpeg = {
        .row = files->row, .n_rows = b->rows, .bytes = files->bytes, .image = b->data[i]};
    return u->device->decode(be, u->decoder, &jpeg, dst, stream);
}
