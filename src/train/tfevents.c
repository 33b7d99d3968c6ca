/* TensorBoard event files. A frame is: u64 length, masked CRC of it, the message, masked CRC of it;
 * little-endian. */
#include "tfevents.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "events.pb-c.h"
#include "metrics_append.h"

enum { SCALARS_MAX = 16, PATH_BYTES = 4096, SESSION_START = 1 };

struct dt_tfevents {
    dt_append file;
    uint8_t *frame; /* grows to the largest message */
    size_t frame_room;
};

/* Remainders of the 16 half-bytes: small enough to read, fast enough for some hundred bytes a step. */
static const uint32_t crc32c_table[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t dt_crc32c(const void *data, size_t size) {
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ crc32c_table[crc & 15];
        crc = crc >> 4 ^ crc32c_table[crc & 15];
    }
    return ~crc;
}

uint32_t dt_crc32c_masked(const void *data, size_t size) {
    uint32_t crc = dt_crc32c(data, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static dt_status write_event(dt_tfevents *t, const Dt__Tf__Event *event) {
    size_t n = dt__tf__event__get_packed_size(event);
    if (n + 16 > t->frame_room) {
        uint8_t *frame = realloc(t->frame, 2 * (n + 16));
        if (!frame) return dt_fail(DT_ERR_MEMORY, "out of memory for an event of %zu bytes", n);
        t->frame = frame;
        t->frame_room = 2 * (n + 16);
    }
    uint64_t length = htole64(n);
    uint32_t length_crc = htole32(dt_crc32c_masked(&length, sizeof length));
    memcpy(t->frame, &length, 8);
    memcpy(t->frame + 8, &length_crc, 4);
    dt__tf__event__pack(event, t->frame + 12);
    uint32_t crc = htole32(dt_crc32c_masked(t->frame + 12, n));
    memcpy(t->frame + 12 + n, &crc, 4);
    return dt_append_record(&t->file, t->frame, n + 16);
}

static double wall_time_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* TensorBoard reads a directory's files in the order of their names, so a resumed run's file must sort last
 * even within one second or after the clock was set back. */
static long long file_time(const char *dir) {
    long long stamp = (long long)time(NULL);
    DIR *d = opendir(dir);
    if (!d) return stamp;
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        long long other = 0;
        if (sscanf(e->d_name, "events.out.tfevents.%10lld.", &other) == 1 && other >= stamp)
            stamp = other + 1;
    }
    closedir(d);
    return stamp;
}

dt_status dt_tfevents_open(const char *dir, int64_t first_step, dt_tfevents **out) {
    *out = NULL;
    dt_status status = DT_OK;
    char host[256] = "host", path[PATH_BYTES];
    char version[] = "brain.Event:2";
    dt_tfevents *t = calloc(1, sizeof *t);
    if (!t) return dt_fail(DT_ERR_MEMORY, "out of memory for the event file");
    t->file.fd = -1;
    if (gethostname(host, sizeof host) != 0) strcpy(host, "host");
    host[sizeof host - 1] = '\0';
    int n = snprintf(path, sizeof path, "%s/events.out.tfevents.%010lld.%s.%07ld", dir, file_time(dir), host,
                     (long)getpid());
    if (n < 0 || (size_t)n >= sizeof path) {
        status = dt_fail(DT_ERR_IO, "%.60s...: path too long", dir);
        goto done;
    }
    DT_TRY_GOTO(status, dt_append_open(&t->file, path, true), done);

    Dt__Tf__Event first = DT__TF__EVENT__INIT;
    first.has_wall_time = 1;
    first.wall_time = wall_time_s();
    first.file_version = version;
    DT_TRY_GOTO(status, write_event(t, &first), done);

    Dt__Tf__SessionLog log = DT__TF__SESSION_LOG__INIT;
    log.has_status = 1;
    log.status = SESSION_START;
    Dt__Tf__Event start = DT__TF__EVENT__INIT;
    start.has_wall_time = 1;
    start.wall_time = first.wall_time;
    start.has_step = 1;
    start.step = first_step;
    start.session_log = &log;
    DT_TRY_GOTO(status, write_event(t, &start), done);
done:
    if (status == DT_OK)
        *out = t;
    else
        dt_tfevents_close(t);
    return status;
}

/* An event of now with these values, which is not written through. */
static dt_status write_summary(dt_tfevents *t, int64_t step, size_t n, Dt__Tf__Summary__Value **values) {
    Dt__Tf__Summary summary = DT__TF__SUMMARY__INIT;
    summary.n_value = n;
    summary.value = values;
    Dt__Tf__Event event = DT__TF__EVENT__INIT;
    event.has_wall_time = 1;
    event.wall_time = wall_time_s();
    event.has_step = 1;
    event.step = step;
    event.summary = &summary;
    return write_event(t, &event);
}

dt_status dt_tfevents_write(dt_tfevents *t, int64_t step, int n, const dt_tfscalar *scalars) {
    DT_ASSERT(n > 0 && n <= SCALARS_MAX);
    Dt__Tf__Summary__Value values[SCALARS_MAX];
    Dt__Tf__Summary__Value *pointers[SCALARS_MAX];
    for (int i = 0; i < n; i++) {
        dt__tf__summary__value__init(&values[i]);
        /* protobuf-c never writes through a message that it packs. */
        values[i].tag = (char *)(uintptr_t)scalars[i].tag;
        values[i].has_simple_value = 1;
        values[i].simple_value = (float)scalars[i].value;
        pointers[i] = &values[i];
    }
    return write_summary(t, step, (size_t)n, pointers);
}

dt_status dt_tfevents_text(dt_tfevents *t, int64_t step, const char *tag, const char *text, size_t n) {
    enum { STRING = 7 };
    ProtobufCBinaryData bytes = {.len = n, .data = (uint8_t *)(uintptr_t)text};
    char plugin_name[] = "text";
    Dt__Tf__Tensor__Shape__Dim one = DT__TF__TENSOR__SHAPE__DIM__INIT, *dims[] = {&one};
    Dt__Tf__Tensor__Shape shape = DT__TF__TENSOR__SHAPE__INIT;
    Dt__Tf__Tensor tensor = DT__TF__TENSOR__INIT;
    Dt__Tf__Metadata__Plugin plugin = DT__TF__METADATA__PLUGIN__INIT;
    Dt__Tf__Metadata metadata = DT__TF__METADATA__INIT;
    Dt__Tf__Summary__Value value = DT__TF__SUMMARY__VALUE__INIT, *values[] = {&value};
    one.has_size = 1;
    one.size = 1;
    shape.n_dim = 1;
    shape.dim = dims;
    tensor.has_dtype = 1;
    tensor.dtype = STRING;
    tensor.tensor_shape = &shape;
    tensor.n_string_val = 1;
    tensor.string_val = &bytes;
    plugin.plugin_name = plugin_name;
    metadata.plugin_data = &plugin;
    value.tag = (char *)(uintptr_t)tag;
    value.tensor = &tensor;
    value.metadata = &metadata;
    return write_summary(t, step, 1, values);
}

dt_status dt_tfevents_flush(dt_tfevents *t, bool durable) {
    return dt_append_flush(&t->file, durable);
}

void dt_tfevents_close(dt_tfevents *t) {
    if (!t) return;
    dt_append_close(&t->file);
    free(t->frame);
    free(t);
}
