/* JPEG decoded by the device against libjpeg on the CPU: the same batches of the loader both ways, every kind
 * of file, and what it says of files that are damaged. */
#include "batch_fields.h"
#include "gpu_test.h"

#include <unistd.h>

#include "data/upload.h"
#include "gpu/cuda.h"
#include "jpeg_files.h"

enum { ROWS = JPEG_KINDS, BATCHES = 8 };

/* Decoders differ in rounding, in how they interpolate chroma and, for files made smaller, in the filter. */
static const double MEAN_DIFFERENCE_MAX = 2;
static const double LARGE_DIFFERENCE = 24, LARGE_FRACTION_MAX = 0.005;

typedef struct options_of_set {
    dt_data_options data;
    dt_augment_options augment;
} options_of_set;

static char scratch[64];

static void remove_scratch(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    assert_int_equal(system(command), 0);
}

typedef struct device {
    dt_backend *be;
    dt_jpeg_decoder *decoder;
    dt_stream *stream;
    void *image;   /* on the device */
    uint8_t *host; /* pinned */
    int64_t bytes;
} device;

static device device_open(dt_backend *be, const dt_jpeg_limits *l) {
    device d = {.be = be, .bytes = l->rows * l->out_h * l->out_w * l->channels};
    op_ok(dt_cuda_jpeg()->create(be, l, &d.decoder));
    op_ok(be->stream_create(be, &d.stream));
    op_ok(be->alloc(be, DT_MEM_DEVICE, d.bytes, &d.image));
    op_ok(be->alloc(be, DT_MEM_HOST, d.bytes, (void **)&d.host));
    return d;
}

static void device_close(device *d) {
    dt_cuda_jpeg()->destroy(d->be, d->decoder);
    d->be->free(d->be, DT_MEM_DEVICE, d->image);
    d->be->free(d->be, DT_MEM_HOST, d->host);
    d->be->stream_destroy(d->be, d->stream);
}

/* The batch as the device makes it, in d->host. */
static dt_status device_decode(device *d, const dt_batch *b) {
    const dt_jpeg_batch jpeg = {batch_files(b)->row, b->rows, batch_files(b)->bytes, batch_image(b)};
    DT_TRY(d->be->fill(d->be, d->image, 77, d->bytes, d->stream));
    DT_TRY(dt_cuda_jpeg()->decode(d->be, d->decoder, &jpeg, d->image, d->stream));
    DT_TRY(d->be->copy(d->be, d->host, d->image, d->bytes, d->stream));
    return d->be->stream_sync(d->be, d->stream);
}

static void compare_row(const uint8_t *got, const uint8_t *want, int64_t n, const dt_jpeg_row *row) {
    double sum = 0;
    int64_t large = 0;
    for (int64_t i = 0; i < n; i++) {
        int difference = abs(got[i] - want[i]);
        sum += difference;
        large += difference > LARGE_DIFFERENCE;
        if (row->n_bytes == 0) assert_int_equal(difference, 0);
    }
    if (sum / (double)n > MEAN_DIFFERENCE_MAX || (double)large > LARGE_FRACTION_MAX * (double)n)
        fail_msg("%d x %d, window %d x %d at %d, %d, shrink %d, flip %d: mean difference %.3f, %lld of %lld "
                 "elements by more than %.0f",
                 row->height, row->width, row->h, row->w, row->y0, row->x0, row->shrink, row->flip,
                 sum / (double)n, (long long)large, (long long)n, LARGE_DIFFERENCE);
}

static dt_dataset *open_set(options_of_set *c, const char *name, const jpeg_kind *kind, int n,
                            int64_t channels) {
    char path[256];
    dt_dataset *data;
    dt_section_defaults(&dt_data_section, &c->data);
    dt_section_defaults(&dt_augment_section, &c->augment);
    c->augment.crop = DT_CROP_RANDOM_RESIZED;
    c->augment.flip = true;
    op_ok(jpeg_files_set(scratch, name, kind, n, n, channels, path, sizeof path));
    op_ok(dt_dataset_open(&c->data, path, &data));
    return data;
}

static dt_loader_options options(const options_of_set *c, const dt_dataset *data, dt_backend *be, bool eval,
                                 int64_t side) {
    dt_loader_options o = {.data = &c->data,
                           .augment = &c->augment,
                           .dataset = data,
                           .eval = eval,
                           .seed = 3,
                           .out_h = side,
                           .out_w = side,
                           .batch = ROWS,
                           .global_batch = ROWS,
                           .n_micro_all = 1,
                           .world = 1,
                           .n_steps = -1,
                           .threads = 2,
                           .n_slots = 3};
    dt_loader_pin(&o, be);
    return o;
}

static void compare_set(dt_backend *be, const options_of_set *c, const dt_dataset *data, bool eval,
                        int64_t side) {
    dt_loader_options o = options(c, data, be, eval, side);
    dt_dataset_info info;
    dt_jpeg_limits limits;
    dt_loader *plain, *compressed;
    dt_batch a = {.last = false}, b;
    dt_dataset_info_get(data, &info);
    op_ok(dt_loader_open(&o, &plain));
    o.compressed = true;
    op_ok(dt_loader_open(&o, &compressed));
    dt_loader_jpeg_limits(data, ROWS, side, side, &limits);
    device d = device_open(be, &limits);
    for (int i = 0; i < BATCHES && !a.last; i++) {
        op_ok(dt_loader_next(compressed, &a, NULL));
        op_ok(dt_loader_next(plain, &b, NULL));
        op_ok(device_decode(&d, &a));
        int64_t n = side * side * info.channels;
        for (int64_t r = 0; r < a.rows; r++)
            compare_row(d.host + r * n, batch_image(&b) + r * n, n, &batch_files(&a)->row[r]);
        dt_loader_release(compressed, &a);
        dt_loader_release(plain, &b);
    }
    device_close(&d);
    dt_loader_close(plain);
    dt_loader_close(compressed);
}

/* Skips without a GPU, and where the build has no nvJPEG. */
#define DECODER_OR_SKIP(pair)                                                                                \
    do {                                                                                                     \
        GPU_OR_SKIP(pair);                                                                                   \
        if (!dt_cuda_jpeg()) skip();                                                                         \
    } while (0)

static void test_same_pixels(void **state) {
    gpu_pair *p = *state;
    DECODER_OR_SKIP(p);
    options_of_set c;
    dt_dataset *data = open_set(&c, "colour", jpeg_kinds, JPEG_KINDS, 3);
    static const int64_t sides[] = {224, 96, 33}; /* the smaller, the more files are made smaller first */
    for (int i = 0; i < 3; i++) {
        compare_set(p->gpu, &c, data, false, sides[i]);
        c.augment.eval_resize = (double)sides[i] * 256 / 224;
        compare_set(p->gpu, &c, data, true, sides[i]);
    }
    dt_dataset_close(data);
}

static void test_one_channel(void **state) {
    gpu_pair *p = *state;
    DECODER_OR_SKIP(p);
    options_of_set c;
    dt_dataset *data = open_set(&c, "grey", jpeg_kinds, JPEG_KINDS, 1);
    compare_set(p->gpu, &c, data, false, 64);
    dt_dataset_close(data);
}

/* Many files at once: decoders choose by the size of the batch. */
static void test_large_batch(void **state) {
    gpu_pair *p = *state;
    DECODER_OR_SKIP(p);
    enum { N = 160, SIDE = 64 };
    options_of_set c;
    dt_dataset *data = open_set(&c, "many", jpeg_kinds, JPEG_KINDS, 3);
    dt_loader_options o = options(&c, data, p->gpu, false, SIDE);
    o.global_batch = N;
    dt_loader *plain, *compressed;
    dt_batch a, b;
    dt_jpeg_limits limits;
    op_ok(dt_loader_open(&o, &plain));
    o.compressed = true;
    op_ok(dt_loader_open(&o, &compressed));
    dt_loader_jpeg_limits(data, N, SIDE, SIDE, &limits);
    device d = device_open(p->gpu, &limits);
    for (int i = 0; i < 5; i++) {
        op_ok(dt_loader_next(compressed, &a, NULL));
        op_ok(dt_loader_next(plain, &b, NULL));
        op_ok(device_decode(&d, &a));
        for (int64_t r = 0; r < N; r++)
            compare_row(d.host + r * SIDE * SIDE * 3, batch_image(&b) + r * SIDE * SIDE * 3, SIDE * SIDE * 3,
                        &batch_files(&a)->row[r]);
        dt_loader_release(compressed, &a);
        dt_loader_release(plain, &b);
    }
    printf("decoded by %s\n", dt_cuda_jpeg()->name(d.decoder));
    device_close(&d);
    dt_loader_close(plain);
    dt_loader_close(compressed);
    dt_dataset_close(data);
}

/* A file that ends in its header is named; one that ends later is named or decoded as far as it goes; and
 * the decoder works afterwards. */
static void test_damaged(void **state) {
    gpu_pair *p = *state;
    DECODER_OR_SKIP(p);
    options_of_set c;
    dt_dataset *data = open_set(&c, "damaged", jpeg_kinds, 3, 3);
    dt_loader_options o = options(&c, data, p->gpu, false, 64);
    o.compressed = true;
    dt_loader *l;
    dt_batch b;
    dt_jpeg_limits limits;
    op_ok(dt_loader_open(&o, &l));
    op_ok(dt_loader_next(l, &b, NULL));
    dt_loader_jpeg_limits(data, ROWS, 64, 64, &limits);
    device d = device_open(p->gpu, &limits);
    op_ok(device_decode(&d, &b));
    const dt_jpeg_row whole = batch_files(&b)->row[1];
    char named[512];
    snprintf(named, sizeof named, "%s: sample %lld", whole.path, (long long)whole.index);
    batch_files(&b)->row[1].n_bytes = 60;
    assert_int_equal(device_decode(&d, &b), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), named));
    batch_files(&b)->row[1].n_bytes = whole.n_bytes / 2;
    if (device_decode(&d, &b) != DT_OK) assert_non_null(strstr(dt_error_text(), named));
    batch_files(&b)->row[1] = whole;
    for (int i = 0; i < 3; i++) op_ok(device_decode(&d, &b));
    batch_files(&b)->row[1].x0 = whole.width;
    assert_int_equal(device_decode(&d, &b), DT_ERR_INTERNAL);
    device_close(&d);
    dt_loader_close(l);
    dt_dataset_close(data);
}

static int open_all(void **state) {
    strcpy(scratch, "/tmp/dt_jpeg_XXXXXX");
    *state = gpu_the_pair();
    return mkdtemp(scratch) ? gpu_pair_open(state) : -1;
}

static int close_all(void **state) {
    remove_scratch();
    return gpu_pair_close(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_pixels),
        cmocka_unit_test(test_one_channel),
        cmocka_unit_test(test_large_batch),
        cmocka_unit_test(test_damaged),
    };
    int failed = cmocka_run_group_tests(tests, open_all, close_all);
    if (dt_cuda_device_count() == 0) puts("ALL TESTS SKIPPED: no GPU");
    return failed;
}
