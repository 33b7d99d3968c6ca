/* JPEG by nvJPEG: whole files are decoded to a lane, then cropped from there into the batch (jpeg_crop.cu).
 * Batches go to the hardware decoder where the card has one, else to CUDA kernels that the host helps.
 *
 * Two lanes, so that files are decoded while those of the batch before are cropped. The hardware decoder does
 * not wait for its stream: it writes when it is called (seen on Hopper with nvJPEG 12 and 13), so the host
 * waits until a lane has been read before it hands the lane out again. */
#include <nvjpeg.h>
#include <stdlib.h>
#include <string.h>

#include "gpu.h"
#include "gpu/cuda.h"

typedef struct lane {
    nvjpegJpegState_t state;
    int32_t batch_size; /* that the state is set up for; 0: none */
    uint8_t *pixel;     /* device, limits.pixel_bytes */
    dt_gpu_crop *crop;  /* pinned, [limits.rows] */
    dt_gpu_crop *crop_device;
    cudaEvent_t read; /* the lane's images have been cropped */
} lane;

/* A file of the batch in hand. */
typedef struct file {
    const uint8_t *bytes;
    nvjpegImage_t image;
    const dt_jpeg_row *row;
} file;

struct dt_jpeg_decoder {
    dt_jpeg_limits limits;
    nvjpegOutputFormat_t format;
    int32_t host_threads;
    bool hardware;
    nvjpegHandle_t batched, single; /* single: what the batched decoder does not take */
    nvjpegJpegStream_t header;
    nvjpegJpegState_t single_state;
    lane lane[DT_JPEG_LANES];
    int64_t n_batch; /* so far */
    /* [limits.rows], of the batch in hand: the batched ones in front */
    file *file;
    const unsigned char **bytes;
    size_t *n_bytes;
    nvjpegImage_t *image;
};

static const char *status_text(nvjpegStatus_t st) {
    static const char *const text[] = {
        [NVJPEG_STATUS_SUCCESS] = "no error",
        [NVJPEG_STATUS_NOT_INITIALIZED] = "not initialised",
        [NVJPEG_STATUS_INVALID_PARAMETER] = "invalid parameter",
        [NVJPEG_STATUS_BAD_JPEG] = "damaged file",
        [NVJPEG_STATUS_JPEG_NOT_SUPPORTED] = "kind of file not supported",
        [NVJPEG_STATUS_ALLOCATOR_FAILURE] = "out of memory",
        [NVJPEG_STATUS_EXECUTION_FAILED] = "execution failed",
        [NVJPEG_STATUS_ARCH_MISMATCH] = "not on this card",
        [NVJPEG_STATUS_INTERNAL_ERROR] = "internal error",
        [NVJPEG_STATUS_IMPLEMENTATION_NOT_SUPPORTED] = "not implemented",
        [NVJPEG_STATUS_INCOMPLETE_BITSTREAM] = "file cut short",
    };
    const size_t i = (size_t)st;
    return i < sizeof text / sizeof text[0] && text[i] ? text[i] : "unknown error";
}

static dt_status nvjpeg_fail(nvjpegStatus_t st, const char *call, int line) {
    return dt_fail(st == NVJPEG_STATUS_ALLOCATOR_FAILURE ? DT_ERR_MEMORY : DT_ERR_DEVICE,
                   "nvJPEG: %s in %s, jpeg_nvjpeg.c:%d", status_text(st), call, line);
}

#define NVJPEG_TRY(call)                                                                                     \
    do {                                                                                                     \
        nvjpegStatus_t st_ = (call);                                                                         \
        if (st_ != NVJPEG_STATUS_SUCCESS) return nvjpeg_fail(st_, #call, __LINE__);                          \
    } while (0)

/* Chroma is interpolated, as by libjpeg, where nvJPEG can: from 12.1 on. */
static unsigned int decoder_flags(void) {
#ifdef NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION
    int major = 0, minor = 0;
    if (nvjpegGetProperty(MAJOR_VERSION, &major) == NVJPEG_STATUS_SUCCESS &&
        nvjpegGetProperty(MINOR_VERSION, &minor) == NVJPEG_STATUS_SUCCESS &&
        (major > 12 || (major == 12 && minor >= 1)))
        return NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION;
#endif
    return NVJPEG_FLAGS_DEFAULT;
}

static dt_status open_handles(dt_jpeg_decoder *d) {
    const unsigned int flags = decoder_flags();
    unsigned int engines = 0, cores = 0;
    if (nvjpegCreateEx(NVJPEG_BACKEND_HARDWARE, NULL, NULL, flags, &d->batched) == NVJPEG_STATUS_SUCCESS) {
        d->hardware = nvjpegGetHardwareDecoderInfo(d->batched, &engines, &cores) == NVJPEG_STATUS_SUCCESS &&
                      engines > 0 && cores > 0;
        if (!d->hardware) (void)nvjpegDestroy(d->batched);
    }
    if (!d->hardware) {
        d->batched = NULL;
        NVJPEG_TRY(nvjpegCreateEx(NVJPEG_BACKEND_GPU_HYBRID, NULL, NULL, flags, &d->batched));
    }
    NVJPEG_TRY(nvjpegJpegStreamCreate(d->batched, &d->header));
    NVJPEG_TRY(nvjpegCreateEx(NVJPEG_BACKEND_DEFAULT, NULL, NULL, flags, &d->single));
    NVJPEG_TRY(nvjpegJpegStateCreate(d->single, &d->single_state));
    return DT_OK;
}

static dt_status open_lane(dt_backend *be, const dt_jpeg_decoder *d, lane *l) {
    const int64_t crop_bytes = d->limits.rows * (int64_t)sizeof(dt_gpu_crop);
    NVJPEG_TRY(nvjpegJpegStateCreate(d->batched, &l->state));
    DT_TRY(be->alloc(be, DT_MEM_DEVICE, d->limits.pixel_bytes, (void **)&l->pixel));
    DT_TRY(be->alloc(be, DT_MEM_DEVICE, crop_bytes, (void **)&l->crop_device));
    DT_TRY(be->alloc(be, DT_MEM_HOST, crop_bytes, (void **)&l->crop));
    DT_CUDA_TRY(cudaEventCreateWithFlags(&l->read, cudaEventDisableTiming | cudaEventBlockingSync));
    return DT_OK;
}

static void destroy(dt_backend *be, dt_jpeg_decoder *d) {
    if (!d) return;
    (void)cudaDeviceSynchronize();
    for (int i = 0; i < DT_JPEG_LANES; i++) {
        lane *l = &d->lane[i];
        if (l->state) (void)nvjpegJpegStateDestroy(l->state);
        be->free(be, DT_MEM_DEVICE, l->pixel);
        be->free(be, DT_MEM_DEVICE, l->crop_device);
        be->free(be, DT_MEM_HOST, l->crop);
        if (l->read) (void)cudaEventDestroy(l->read);
    }
    if (d->single_state) (void)nvjpegJpegStateDestroy(d->single_state);
    if (d->header) (void)nvjpegJpegStreamDestroy(d->header);
    if (d->single) (void)nvjpegDestroy(d->single);
    if (d->batched) (void)nvjpegDestroy(d->batched);
    free(d->file);
    free(d->bytes);
    free(d->n_bytes);
    free(d->image);
    free(d);
}

static dt_status create(dt_backend *be, const dt_jpeg_limits *limits, dt_jpeg_decoder **out) {
    const size_t rows = (size_t)limits->rows;
    dt_status st = DT_OK;
    *out = NULL;
    dt_jpeg_decoder *d = calloc(1, sizeof *d);
    if (!d) return dt_fail(DT_ERR_MEMORY, "no host memory for the JPEG decoder");
    d->limits = *limits;
    d->format = limits->channels == 1 ? NVJPEG_OUTPUT_Y : NVJPEG_OUTPUT_RGBI;
    d->host_threads = be->host_threads;
    d->file = calloc(rows, sizeof *d->file);
    d->bytes = calloc(rows, sizeof *d->bytes);
    d->n_bytes = calloc(rows, sizeof *d->n_bytes);
    d->image = calloc(rows, sizeof *d->image);
    if (!d->file || !d->bytes || !d->n_bytes || !d->image) {
        st = dt_fail(DT_ERR_MEMORY, "no host memory for the JPEG decoder");
        goto fail;
    }
    DT_TRY_GOTO(st, open_handles(d), fail);
    for (int i = 0; i < DT_JPEG_LANES; i++) DT_TRY_GOTO(st, open_lane(be, d, &d->lane[i]), fail);
    *out = d;
    return DT_OK;
fail:
    destroy(be, d);
    return st;
}

/* Whether nvjpegDecodeBatched takes the file. The kernels take all that the loader sends. */
static bool batched_takes(const dt_jpeg_decoder *d, const uint8_t *bytes, const dt_jpeg_row *row) {
    int unsupported = 1;
    if (!d->hardware) return true;
    return nvjpegJpegStreamParseHeader(d->batched, bytes, (size_t)row->n_bytes, d->header) ==
               NVJPEG_STATUS_SUCCESS &&
           nvjpegDecodeBatchedSupported(d->batched, d->header, &unsupported) == NVJPEG_STATUS_SUCCESS &&
           unsupported == 0;
}

/* Whether nvJPEG reads the size from the file that its place in the lane was made for: the loader's reader
 * may see another one in a damaged header. */
static bool same_size(const dt_jpeg_decoder *d, const uint8_t *bytes, const dt_jpeg_row *row) {
    int n_component, width[NVJPEG_MAX_COMPONENT] = {0}, height[NVJPEG_MAX_COMPONENT] = {0};
    nvjpegChromaSubsampling_t subsampling;
    return nvjpegGetImageInfo(d->single, bytes, (size_t)row->n_bytes, &n_component, &subsampling, width,
                              height) == NVJPEG_STATUS_SUCCESS &&
           width[0] == row->width && height[0] == row->height;
}

static bool row_fits(const dt_jpeg_limits *l, const dt_jpeg_row *r, int64_t pixel_bytes) {
    return r->offset >= 0 && r->n_bytes <= l->file_bytes - r->offset && r->height > 0 && r->width > 0 &&
           dt_jpeg_decoded_bytes(r->height, r->width, l->channels) <= l->pixel_bytes - pixel_bytes &&
           r->x0 >= 0 && r->y0 >= 0 && r->w > 0 && r->h > 0 && r->w <= r->width - r->x0 &&
           r->h <= r->height - r->y0 && r->shrink >= 1;
}

/* Gives every file its place in the lane. Those that the batched decoder takes stand in front. */
static dt_status lay_out(dt_jpeg_decoder *d, lane *l, const dt_jpeg_batch *b, int32_t *n_batched,
                         int32_t *n) {
    const int64_t channels = d->limits.channels;
    int64_t pixel_bytes = 0;
    int32_t front = 0, all = 0, back = (int32_t)d->limits.rows;
    for (int64_t i = 0; i < b->n_rows; i++) {
        const dt_jpeg_row *r = &b->row[i];
        if (r->n_bytes == 0) continue;
        if (!row_fits(&d->limits, r, pixel_bytes))
            return dt_fail(DT_ERR_INTERNAL, "JPEG row %lld is outside of the decoder's limits", (long long)i);
        const uint8_t *bytes = b->bytes + r->offset;
        if (!same_size(d, bytes, r))
            return dt_fail(DT_ERR_DATA, "%s: sample %lld: not a readable JPEG: nvJPEG does not find %d x %d",
                           r->path, (long long)r->index, r->height, r->width);
        uint8_t *pixel = l->pixel + pixel_bytes;
        pixel_bytes += dt_jpeg_decoded_bytes(r->height, r->width, channels);
        l->crop[all++] = (dt_gpu_crop){.image = pixel,
                                       .row = (int32_t)i,
                                       .hs = r->height,
                                       .ws = r->width,
                                       .x0 = r->x0,
                                       .y0 = r->y0,
                                       .w = r->w,
                                       .h = r->h,
                                       .shrink = r->shrink,
                                       .flip = r->flip};
        const file f = {
            .bytes = bytes,
            .image = {.channel = {pixel}, .pitch = {(size_t)(r->width * channels)}},
            .row = r,
        };
        d->file[batched_takes(d, bytes, r) ? front++ : --back] = f;
    }
    *n_batched = front;
    *n = all;
    memmove(d->file + front, d->file + back, (size_t)(all - front) * sizeof *d->file);
    return DT_OK;
}

/* One by one, each to its end, so that a failure has a name. */
static dt_status decode_singly(dt_jpeg_decoder *d, int32_t begin, int32_t end, cudaStream_t s) {
    for (int32_t i = begin; i < end; i++) {
        file *f = &d->file[i];
        nvjpegStatus_t st = nvjpegDecode(d->single, d->single_state, f->bytes, (size_t)f->row->n_bytes,
                                         d->format, &f->image, s);
        if (st == NVJPEG_STATUS_ALLOCATOR_FAILURE) return nvjpeg_fail(st, "nvjpegDecode", __LINE__);
        if (st != NVJPEG_STATUS_SUCCESS)
            return dt_fail(DT_ERR_DATA, "%s: sample %lld: not a readable JPEG: nvJPEG: %s", f->row->path,
                           (long long)f->row->index, status_text(st));
        DT_CUDA_TRY(cudaStreamSynchronize(s));
    }
    return DT_OK;
}

static dt_status decode_batched(dt_jpeg_decoder *d, lane *l, int32_t n, cudaStream_t s) {
    if (n == 0) return DT_OK;
    for (int32_t i = 0; i < n; i++) {
        d->bytes[i] = d->file[i].bytes;
        d->n_bytes[i] = (size_t)d->file[i].row->n_bytes;
        d->image[i] = d->file[i].image;
    }
    if (l->batch_size != n) {
        NVJPEG_TRY(nvjpegDecodeBatchedInitialize(d->batched, l->state, n, d->host_threads, d->format));
        l->batch_size = n;
    }
    const nvjpegStatus_t st = nvjpegDecodeBatched(d->batched, l->state, d->bytes, d->n_bytes, d->image, s);
    if (st == NVJPEG_STATUS_SUCCESS) return DT_OK;
    if (st == NVJPEG_STATUS_ALLOCATOR_FAILURE) return nvjpeg_fail(st, "nvjpegDecodeBatched", __LINE__);
    /* Which file it was is not told, and one that this decoder refuses may still be readable. */
    l->batch_size = 0;
    return decode_singly(d, 0, n, s);
}

/* Rows that the loader decoded, in runs. */
static dt_status copy_pixels(const dt_jpeg_decoder *d, const dt_jpeg_batch *b, uint8_t *image,
                             cudaStream_t s) {
    const int64_t row_bytes = d->limits.out_h * d->limits.out_w * d->limits.channels;
    for (int64_t begin = 0, end; begin < b->n_rows; begin = end + 1) {
        for (end = begin; end < b->n_rows && b->row[end].n_bytes == 0;) end++;
        if (end > begin)
            DT_CUDA_TRY(cudaMemcpyAsync(image + begin * row_bytes, b->image + begin * row_bytes,
                                        (size_t)((end - begin) * row_bytes), cudaMemcpyHostToDevice, s));
    }
    return DT_OK;
}

static dt_status run_lane(dt_jpeg_decoder *d, lane *l, const dt_jpeg_batch *b, uint8_t *image,
                          cudaStream_t s) {
    int32_t n_batched = 0, n = 0;
    DT_TRY(lay_out(d, l, b, &n_batched, &n));
    DT_TRY(decode_batched(d, l, n_batched, s));
    DT_TRY(decode_singly(d, n_batched, n, s));
    DT_TRY(copy_pixels(d, b, image, s));
    if (n == 0) return DT_OK;
    DT_CUDA_TRY(
        cudaMemcpyAsync(l->crop_device, l->crop, (size_t)n * sizeof *l->crop, cudaMemcpyHostToDevice, s));
    DT_CUDA_TRY(dt_gpu_jpeg_crop(l->crop_device, n, (int32_t)d->limits.out_h, (int32_t)d->limits.out_w,
                                 (int32_t)d->limits.channels, image, s));
    return DT_OK;
}

static dt_status decode(dt_backend *be, dt_jpeg_decoder *d, const dt_jpeg_batch *b, uint8_t *image,
                        dt_stream *stream) {
    cudaStream_t s = dt_cuda_stream(dt_cuda_of(be), stream);
    lane *l = &d->lane[d->n_batch++ % DT_JPEG_LANES];
    if (b->n_rows > d->limits.rows)
        return dt_fail(DT_ERR_INTERNAL, "%lld JPEG rows are outside of the decoder's limits",
                       (long long)b->n_rows);
    DT_CUDA_TRY(cudaEventSynchronize(l->read));
    dt_status st = run_lane(d, l, b, image, s);
    if (st != DT_OK) {
        (void)cudaStreamSynchronize(s); /* what was queued reads the batch and writes the lane */
        return st;
    }
    DT_CUDA_TRY(cudaEventRecord(l->read, s));
    return DT_OK;
}

static const char *name(const dt_jpeg_decoder *d) {
    return d->hardware ? "nvJPEG, hardware decoder" : "nvJPEG, CUDA kernels";
}

const dt_jpeg_device *dt_cuda_jpeg(void) {
    static const dt_jpeg_device device = {
        .create = create, .destroy = destroy, .decode = decode, .name = name};
    return &device;
}
